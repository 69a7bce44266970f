package guard

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
)

// A Composite guard lets requests through that any of its members does, and all if it has no members.
type Composite struct {
	repository.Guard
	Members []pulp.Ref `api:"guards,computed,ref=content_guard,nullitems"`
}

// Limits of composite guards.
const (
	maxMembers = 100     // of one
	maxAsked   = 1000    // guards that one request may ask
	maxReason  = 4 << 10 // bytes of the reason that a client reads
)

func (s *Service) defineComposite() rest.Typed[Composite] {
	return Define(s.Repos, rest.Resource[Composite]{
		App: "core", Model: "CompositeContentGuard", Path: "contentguards/core/composite", PulpType: "core.composite", Roles: true,
		Checks: map[string]func(*Composite) []string{"guards": func(g *Composite) []string {
			if len(g.Members) > maxMembers {
				return []string{fmt.Sprintf("Ensure this field has no more than %d elements.", maxMembers)}
			}
			return nil
		}},
		FieldCheck: func(ctx context.Context, q db.Querier, c *rest.Change[Composite]) (map[string]any, error) {
			if c.Old == nil || len(c.New.Members) == 0 { // a new one is in none
				return nil, nil
			}
			around, err := leadsTo(ctx, q, c.New)
			if err != nil || !around {
				return nil, err
			}
			return map[string]any{"guards": []string{"A guard can not be a member of itself, nor of its members."}}, nil
		},
		Saved:  saveMembers,
		Expand: s.expandMembers,
	}, func(g *Composite) *repository.Guard { return &g.Guard })
}

// leadsTo says whether a guard's members lead to the guard itself.
func leadsTo(ctx context.Context, q db.Querier, g *Composite) (bool, error) {
	ids := make([]pulp.ID, len(g.Members))
	for i, m := range g.Members {
		ids[i] = m.ID()
	}
	marks, args := db.In(ids)
	return db.Exists(ctx, q, "WITH RECURSIVE below (id) AS (SELECT id FROM core_contentguard WHERE id IN "+marks+
		" UNION SELECT g.member FROM core_compositecontentguard_guards g JOIN below b ON b.id = g.composite) SELECT 1 FROM below WHERE id = ?", append(args, g.ID)...)
}

func saveMembers(ctx context.Context, tx *db.Tx, c *rest.Change[Composite]) error {
	if c.Set != nil && !c.Set["guards"] {
		return nil
	}
	// two that would become members of each other at once wait for one another, and the second finds the first
	if err := tx.Lock(ctx, "composite content guards"); err != nil {
		return err
	}
	if around, err := leadsTo(ctx, tx, c.New); err != nil || around && len(c.New.Members) > 0 {
		if err == nil {
			err = errs.Field("guards", "A guard can not be a member of itself, nor of its members.")
		}
		return err
	}
	if _, err := tx.Exec(ctx, "DELETE FROM core_compositecontentguard_guards WHERE composite = ?", c.New.ID); err != nil {
		return err
	}
	rows := make([][]any, len(c.New.Members))
	for i, m := range c.New.Members {
		rows[i] = []any{c.New.ID, m.ID(), i}
	}
	if len(rows) == 0 {
		return nil
	}
	_, err := tx.Insert(ctx, "core_compositecontentguard_guards", []string{"composite", "member", "position"}, rows, "")
	return err
}

func (s *Service) expandMembers(ctx context.Context, q db.Querier, list []*Composite) error {
	by := make(map[pulp.ID]*Composite, len(list))
	ids := make([]pulp.ID, len(list))
	for i, g := range list {
		g.Members = []pulp.Ref{}
		by[g.ID], ids[i] = g, g.ID
	}
	marks, args := db.In(ids)
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var composite, member pulp.ID
		var typ string
		if err := rows.Scan(&composite, &member, &typ); err != nil {
			return err
		}
		if t := s.API.TypeOf(repository.Guards.Name, typ); t != nil {
			by[composite].Members = append(by[composite].Members, pulp.RefTo(t.Label, member))
		}
		return nil
	}, "SELECT g.composite, g.member, m.pulp_type FROM core_compositecontentguard_guards g JOIN core_contentguard m ON m.id = g.member"+
		" WHERE g.composite IN "+marks+" ORDER BY g.position", args...)
}

// asked counts the guards that a request has asked, in its context.
type asked struct{}

// checkComposite asks the members. Those that can not decide count as refusing, unless no other lets the request through.
func (s *Service) checkComposite(ctx context.Context, guard pulp.ID, r *Request) error {
	count, _ := ctx.Value(asked{}).(*int)
	if count == nil {
		count = new(int)
		ctx = context.WithValue(ctx, asked{}, count)
	}
	type member struct {
		id        pulp.ID
		name, typ string
	}
	members, err := db.All(ctx, s.DB, func(rows *sql.Rows) (m member, err error) {
		err = rows.Scan(&m.id, &m.name, &m.typ)
		return m, err
	}, "SELECT m.id, m.name, m.pulp_type FROM core_compositecontentguard_guards g JOIN core_contentguard m ON m.id = g.member WHERE g.composite = ? ORDER BY g.position", guard)
	if err != nil {
		return err
	}
	var failure error
	refusals := make([]string, 0, len(members))
	for _, m := range members {
		if *count++; *count > maxAsked {
			s.Log.WarnContext(ctx, "composite content guards hold too many others, or themselves", "guard", guard.String())
			return errs.E(errs.Denied, "Access forbidden.")
		}
		err := s.permit(ctx, m.id, r)
		if err == nil {
			return nil
		}
		refusal, ok := errors.AsType[*errs.Error](err)
		if !ok || refusal.Kind != errs.Denied && refusal.Kind != errs.Unauthenticated {
			failure = err
			continue
		}
		href, class := "", ""
		if t := s.API.TypeOf(repository.Guards.Name, m.typ); t != nil {
			class = className(t)
			if href, err = s.API.Href(ctx, s.DB, pulp.RefTo(t.Label, m.id)); err != nil {
				return err
			}
		}
		refusals = append(refusals, quoted(fmt.Sprintf("Guard: '%s', HREF: '%s', class: '<class '%s'>', denial: [%s].", m.name, href, class, refusal.Detail)))
	}
	if failure != nil {
		return failure
	}
	if len(members) == 0 {
		return nil
	}
	return errs.E(errs.Denied, cut("Access forbidden. Refusals: ["+strings.Join(refusals, ", ")+"]"))
}

// className is how the reference calls a type of guard.
func className(t *rest.Type) string {
	if t.App == "core" {
		return "pulpcore.app.models.publication." + t.Model
	}
	return "pulp_" + t.App + ".app.models." + t.Model
}

// quoted writes a text as the reference does within a list.
func quoted(s string) string {
	quote := "'"
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = `"`
	}
	s = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(s)
	if quote == "'" {
		s = strings.ReplaceAll(s, "'", `\'`)
	}
	return quote + s + quote
}

func cut(s string) string {
	if len(s) <= maxReason {
		return s
	}
	s = s[:maxReason]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
