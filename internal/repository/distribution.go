package repository

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// DistributionOrdering are the names by which all types of distribution are ordered.
var DistributionOrdering = []string{"base_path", "checkpoint", "hidden", "name", "pk", "pulp_created", "pulp_id", "pulp_labels", "pulp_last_updated", "pulp_type"}

// DistributionFilters are those that all types of distribution have.
func (s *Service) DistributionFilters() []rest.Filter {
	return slices.Concat(rest.Text("name", "m.name", rest.NameLookups...), rest.Text("base_path", "m.base_path", "contains", "icontains", "in"), []rest.Filter{
		rest.LinkTo("repository", "m.repository", Repositories.Name, false), rest.LinkIn("repository", "m.repository", Repositories.Name),
		rest.Flag("checkpoint", "m.checkpoint"), rest.LabelSelect(), s.WithContent(),
	})
}

// WithContent is the filter of distributions that serve a unit.
func (s *Service) WithContent() rest.Filter {
	// the version that is served: the pinned one, the pinned publication's, the newest published one, or the latest
	const served = `EXISTS (SELECT 1 FROM core_repositoryversion v JOIN core_repositorycontent rc ON rc.repository = v.repository AND rc.added <= v.number AND rc.removed > v.number
		WHERE rc.content = ? AND v.id = COALESCE(m.repository_version, (SELECT p.repository_version FROM core_publication p WHERE p.id = m.publication),
			(SELECT pv.id FROM core_repositoryversion pv JOIN core_publication p ON p.repository_version = pv.id AND p.complete
				WHERE pv.repository = m.repository AND pv.complete ORDER BY pv.number DESC, p.created DESC LIMIT 1),
			(SELECT lv.id FROM core_repositoryversion lv WHERE lv.repository = m.repository AND lv.complete ORDER BY lv.number DESC LIMIT 1)))`
	return contentFilter("with_content", served)
}

// A Serving is what a distribution points at.
type Serving struct {
	Publication, Version, Remote pulp.ID
	Checkpoint                   bool
}

// DefineDistribution completes the declaration of a type of distribution. serving tells what one points at besides its repository.
func DefineDistribution[T any](s *Service, r rest.Resource[T], base func(*T) *Distribution, serving func(*T) Serving) rest.Typed[T] {
	r.Family = Distributions
	r.Create, r.Update, r.Delete = rest.Task, rest.Immediate, rest.Immediate
	if !r.OwnFilters {
		r.Filters = append(r.Filters, s.DistributionFilters()...)
	}
	r.Ordering = append(slices.Clone(r.Ordering), DistributionOrdering...)
	r.Exclusive = func(ctx context.Context, _ *T) []string {
		return []string{"pdrn:" + pulp.CallOf(ctx).Domain.ID.String() + ":distributions"}
	}
	r.Checks = withChecks(r.Checks, map[string]func(*T) []string{"base_path": func(v *T) []string { return checkBasePath(base(v).BasePath) }})
	check, saved, deleting, expand := r.Check, r.Saved, r.Deleting, r.Expand
	r.FieldCheck = func(ctx context.Context, q db.Querier, c *rest.Change[T]) (map[string]any, error) {
		if !c.Set["base_path"] {
			return nil, nil
		}
		name, err := overlapping(ctx, q, base(c.New))
		if err != nil || name == "" {
			return nil, err
		}
		return map[string]any{"base_path": map[string]any{"base_path": fmt.Sprintf("Overlaps with existing distribution '%s'", name)}}, nil
	}
	r.Check = func(ctx context.Context, q db.Querier, c *rest.Change[T]) error {
		if err := checkServing(base(c.New), serving(c.New)); err != nil || check == nil {
			return err
		}
		return check(ctx, q, c)
	}
	r.Saved = func(ctx context.Context, tx *db.Tx, c *rest.Change[T]) error {
		if err := s.useVersions(ctx, tx); err != nil {
			return err
		}
		if err := notice.Changed(ctx, tx, notice.Distribution, base(c.New).ID); err != nil || saved == nil {
			return err
		}
		return saved(ctx, tx, c)
	}
	r.Deleting = func(ctx context.Context, tx *db.Tx, v *T) error {
		if err := notice.Changed(ctx, tx, notice.Distribution, base(v).ID); err != nil || deleting == nil {
			return err
		}
		return deleting(ctx, tx, v)
	}
	r.Expand = func(ctx context.Context, q db.Querier, list []*T) error {
		for _, v := range list {
			s.expandDistribution(ctx, base(v), serving(v))
		}
		if expand == nil {
			return nil
		}
		return expand(ctx, q, list)
	}
	return rest.Define(r)
}

// A genericDistribution is a distribution in the list over all types.
type genericDistribution struct {
	Distribution
	Publication pulp.ID `api:"-" db:"m.publication"`
	Version     pulp.ID `api:"-" db:"m.repository_version"`
}

func (s *Service) genericDistributions() *rest.Type {
	return rest.Define(rest.Resource[genericDistribution]{
		App: "core", Model: "Distribution", Path: "distributions", Family: Distributions,
		Filters: append(s.DistributionFilters(), s.typeFilters(Distributions)...), Ordering: DistributionOrdering,
		Expand: func(ctx context.Context, _ db.Querier, list []*genericDistribution) error {
			for _, d := range list {
				s.expandDistribution(ctx, &d.Distribution, Serving{Publication: d.Publication, Version: d.Version})
			}
			return nil
		},
	}).Type
}

func (s *Service) genericGuards() *rest.Type {
	return rest.Define(rest.Resource[Guard]{
		App: "core", Model: "ContentGuard", Path: "contentguards", Family: Guards,
		Filters:  append(rest.Text("name", "m.name", rest.NameLookups...), s.typeFilters(Guards)...),
		Ordering: []string{"description", "name", "pk", "pulp_created", "pulp_id", "pulp_last_updated", "pulp_type"},
	}).Type
}

func (s *Service) expandDistribution(ctx context.Context, d *Distribution, to Serving) {
	if !to.Publication.IsZero() || !to.Version.IsZero() {
		since := d.Updated.String()
		d.NoChange = &since
	}
	domain := ""
	if s.API.Domains() {
		domain = pulp.CallOf(ctx).Domain.Name + "/"
	}
	d.BaseURL = s.ContentOrigin + s.ContentPrefix + domain + d.BasePath + "/"
}

// urlPath is what a base path may hold: what is not encoded in a URL's path, and letters of any script.
var urlPath = regexp.MustCompile(`^[-A-Za-z0-9._~%!$&'()*+,;=@/\x80-\x{10ffff}]+$`)

func checkBasePath(p string) []string {
	switch {
	case strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/"):
		return []string{"Relative path cannot begin or end with slashes."}
	case strings.ContainsAny(p, " \t\r\n"):
		return []string{"Relative path cannot contain spaces."}
	case !urlPath.MatchString(p) || slices.ContainsFunc(strings.Split(p, "/"), func(seg string) bool { return seg == "" || seg == "." || seg == ".." }):
		return []string{"Enter a valid URL."}
	}
	return nil
}

// overlapping returns the name of a distribution whose base path lies above or below that of d; empty if there is none.
func overlapping(ctx context.Context, q db.Querier, d *Distribution) (string, error) {
	marks, args := db.In(folders(d.BasePath))
	args = append(append([]any{pulp.CallOf(ctx).Domain.ID}, args...), d.BasePath+"/", d.BasePath+"0", d.ID[:]) // "0" follows "/"
	name, err := db.Value[string](ctx, q, "SELECT name FROM core_distribution WHERE domain = ? AND (base_path IN "+marks+" OR base_path >= ? AND base_path < ?) AND id <> ?"+
		" ORDER BY created, id LIMIT 1", args...)
	if errs.Is(err, errs.NotFound) {
		return "", nil
	}
	return name, err
}

// checkServing refuses a distribution that points at several things.
func checkServing(d *Distribution, to Serving) error {
	set := map[string]bool{"repository": !d.Repository.IsZero(), "publication": !to.Publication.IsZero(), "repository_version": !to.Version.IsZero()}
	for _, pair := range [][2]string{{"publication", "repository_version"}, {"repository", "repository_version"}, {"repository", "publication"}} {
		if set[pair[0]] && set[pair[1]] {
			return errs.NonFieldError("Only one of the attributes '%s' and '%s' may be used simultaneously.", pair[0], pair[1])
		}
	}
	if to.Checkpoint && !set["repository"] {
		return errs.NonFieldError("The 'checkpoint' attribute may only be used with the 'repository' attribute.")
	}
	return nil
}
