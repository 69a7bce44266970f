package guard

import (
	"context"
	"crypto/subtle"
	"unicode/utf8"

	"github.com/maypok86/otter/v2"

	"granary/internal/errs"
	"granary/internal/jq"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
)

// A Header guard lets requests through that have a header with a value, in base64: the value itself, or JSON that a jq filter
// finds it in.
type Header struct {
	repository.Guard
	Header string  `api:"header_name,req"`
	Value  string  `api:"header_value,req"`
	Filter *string `api:"jq_filter,null"`
}

func (s *Service) defineHeader() rest.Typed[Header] {
	return Define(s.Repos, rest.Resource[Header]{
		App: "core", Model: "HeaderContentGuard", Path: "contentguards/core/header", PulpType: "core.header", Table: "core_headercontentguard", Roles: true,
		Checks: map[string]func(*Header) []string{"jq_filter": func(g *Header) []string {
			if g.Filter == nil {
				return nil
			}
			if _, err := jq.CompileBounded(*g.Filter); err != nil {
				return []string{"This is no jq filter: " + err.Error() + "."}
			}
			return nil
		}},
	}, func(g *Header) *repository.Guard { return &g.Guard })
}

// filters remembers compiled filters by their text.
type filters struct {
	cache *otter.Cache[string, *jq.Filter]
}

func newFilters() filters {
	return filters{otter.Must(&otter.Options[string, *jq.Filter]{MaximumSize: 100})}
}

func (f filters) get(text string) (*jq.Filter, error) {
	if filter, ok := f.cache.GetIfPresent(text); ok {
		return filter, nil
	}
	filter, err := jq.CompileBounded(text)
	if err == nil {
		f.cache.Set(text, filter)
	}
	return filter, err
}

func (s *Service) checkHeader(ctx context.Context, guard pulp.ID, r *Request) error {
	var name, want string
	var filter *string
	err := s.DB.QueryRow(ctx, "SELECT header_name, header_value, jq_filter FROM core_headercontentguard WHERE id = ?", guard).Scan(&name, &want, &filter)
	if errs.Is(err, errs.NotFound) {
		return denied
	}
	if err != nil {
		return err
	}
	got := r.Header.Get(name)
	if got == "" || len(got) > jq.MaxInput {
		return denied
	}
	text, err := jq.DecodeBase64(got)
	if err != nil || !utf8.Valid(text) {
		return denied
	}
	if filter == nil {
		return same(string(text), want)
	}
	f, err := s.filters.get(*filter)
	if err != nil { // stored by another program
		s.Log.WarnContext(ctx, "the filter of a content guard is none", "guard", guard.String(), "error", err)
		return denied
	}
	found, err := s.runner.First(ctx, f, text)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.Log.DebugContext(ctx, "the filter of a content guard fails", "guard", guard.String(), "error", err)
		return denied
	}
	value, ok := found.(string)
	if !ok {
		return denied
	}
	return same(value, want)
}

// same lets through what is equal, in a time that does not tell how much of it is.
func same(got, want string) error {
	if subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
		return denied
	}
	return nil
}
