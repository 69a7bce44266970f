package repository

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// A ContentType is what the rules must know of a type of content.
type ContentType struct {
	Type *rest.Type
	// Table is the type's own table.
	Table string
	// Key is the natural key: the columns of Table that tell units of a domain apart.
	Key []string
	// RepoKey are the columns of Table in which no two units of one repository version may agree; empty for no such rule.
	RepoKey []string
	// Names are what clients call the columns of RepoKey, for messages; the columns where nil.
	Names []string
	// Reclaim says that files which can be downloaded again may be dropped, for their space.
	Reclaim bool
	// Packages says how databases of vulnerabilities know units; those that they cannot know are left out. It is nil for types of which
	// there is no such database.
	Packages func(ctx context.Context, q db.Querier, ids []pulp.ID) ([]Package, error)
}

var contentOrdering = []string{"pk", "pulp_created", "pulp_id", "pulp_labels", "pulp_last_updated", "pulp_type", "timestamp_of_interest", "upstream_id"}

// DefineContent completes the declaration of a type of content: family, table, filters, ordering.
func DefineContent[T any](s *Service, r rest.Resource[T], ct ContentType) (rest.Typed[T], *ContentType) {
	r.Family, r.Table, r.LabelPermission = Contents, ct.Table, "core.manage_content_labels"
	r.Filters = append(r.Filters, s.contentFilters()...)
	r.Ordering = append(slices.Clone(r.Ordering), contentOrdering...)
	if expand := r.Expand; ct.Packages != nil {
		r.Expand = func(ctx context.Context, q db.Querier, list []*T) error {
			units := make([]*Content, len(list))
			for i, v := range list {
				units[i] = any(v).(interface{ common() *Content }).common()
			}
			if err := s.expandReports(ctx, q, units); err != nil || expand == nil {
				return err
			}
			return expand(ctx, q, list)
		}
	}
	t := rest.Define(r)
	ct.Type = t.Type
	if ct.Names == nil {
		ct.Names = ct.RepoKey
	}
	s.contents[r.PulpType] = &ct
	return t, &ct
}

func (s *Service) contentFilters() []rest.Filter {
	return append(s.versionFilters(), s.orphanedFilter("NOT EXISTS (SELECT 1 FROM core_repositorycontent rc WHERE rc.content = m.id)"), rest.LabelSelect())
}

// A GenericContent is a unit in the list over all types.
type GenericContent struct {
	Content
	Artifacts artifactMap `api:"artifacts,req,out" db:"-"`
}

// An artifactMap gives the artifact of each of a unit's paths; none where it is not downloaded.
type artifactMap []pathArtifact

type pathArtifact struct {
	path     string
	artifact pulp.ID
}

// AppendAPI writes {"path": href or null}.
func (m artifactMap) AppendAPI(b []byte, v *rest.View) []byte {
	b = append(b, '{')
	for i, a := range m {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(v.AppendString(b, a.path), ':')
		if a.artifact.IsZero() {
			b = append(b, "null"...)
		} else {
			b = v.AppendRef(b, pulp.RefTo("core.artifact", a.artifact))
		}
	}
	return append(b, '}')
}

func (s *Service) genericContents() *rest.Type {
	return rest.Define(rest.Resource[GenericContent]{
		App: "core", Model: "Content", Path: "content", Family: Contents, Schema: "MultipleArtifactContent",
		Filters:  append(s.contentFilters(), s.typeFilters(Contents)...),
		Ordering: []string{"pk"},
		Expand: func(ctx context.Context, q db.Querier, list []*GenericContent) error {
			byID := map[pulp.ID]*GenericContent{}
			ids, units := make([]pulp.ID, len(list)), make([]*Content, len(list))
			for i, c := range list {
				ids[i], units[i], byID[c.ID] = c.ID, &c.Content, c
			}
			if s.scannable() {
				if err := s.expandReports(ctx, q, units); err != nil {
					return err
				}
			}
			marks, args := db.In(ids)
			return db.Each(ctx, q, func(rows *sql.Rows) error {
				var content pulp.ID
				var a pathArtifact
				err := rows.Scan(&content, &a.path, &a.artifact)
				byID[content].Artifacts = append(byID[content].Artifacts, a)
				return err
			}, "SELECT content, relative_path, artifact FROM core_contentartifact WHERE content IN "+marks+" ORDER BY relative_path", args...)
		},
	}).Type
}

// typeFilters narrow a generic list by type.
func (s *Service) typeFilters(f *rest.Family) []rest.Filter {
	return []rest.Filter{
		s.typeFilter(f, "pulp_type", false),
		s.typeFilter(f, "pulp_type__in", true),
	}
}

// typeFilter knows the choices only when the plugins are there, so it asks for them late.
func (s *Service) typeFilter(f *rest.Family, name string, list bool) rest.Filter {
	return rest.Filter{
		Name: name, Param: rest.Param{Type: "string", Array: list, EnumOf: f.Name},
		Where: func(_ context.Context, c *rest.Filtering, v string) (rest.Cond, error) {
			values := []string{v}
			if list {
				values = strings.Split(v, ",")
			}
			for _, t := range values {
				if !slices.Contains(c.Engine.PulpTypes(f.Name), t) {
					return rest.Cond{}, errs.Field(name, "Select a valid choice. "+t+" is not one of the available choices.")
				}
			}
			marks, args := db.In(values)
			return rest.Cond{SQL: "m.pulp_type IN " + marks, Args: args}, nil
		},
	}
}

// orphanedFilter selects what nothing uses and nothing touched for so many minutes.
func (s *Service) orphanedFilter(unused string) rest.Filter {
	return rest.Filter{Name: "orphaned_for", Param: rest.Param{Type: "number"}, Where: func(_ context.Context, _ *rest.Filtering, v string) (rest.Cond, error) {
		minutes, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return rest.Cond{}, errs.Field("orphaned_for", "Enter a number.")
		}
		age := time.Duration(minutes * float64(time.Minute))
		if minutes < 0 {
			age = s.OrphanAge
		}
		return rest.Cond{SQL: unused + " AND m.timestamp_of_interest < ?", Args: []any{s.Now.Now() - pulp.Time(age.Microseconds())}}, nil
	}}
}

// A versionRef is what is needed to ask for a version's content.
type versionRef struct {
	id, repo, domain pulp.ID
	number           int64
}

func (s *Service) versionOf(ctx context.Context, f *rest.Filtering, v string) (versionRef, error) {
	found, err := f.Find(ctx, Versions.Name, "repository version", v)
	if err != nil {
		return versionRef{}, err
	}
	r := versionRef{id: found.ID}
	err = f.Q.QueryRow(ctx, "SELECT v.repository, r.domain, v.number FROM core_repositoryversion v JOIN core_repository r ON r.id = v.repository WHERE v.id = ?", found.ID).
		Scan(&r.repo, &r.domain, &r.number)
	return r, err
}

// contentIn is the condition that a column of content ids is in a version.
func contentIn(column string, v versionRef) rest.Cond {
	return rest.Cond{
		SQL:  column + " IN (SELECT content FROM core_repositorycontent WHERE repository = ? AND added <= ? AND removed > ?)",
		Args: []any{v.repo, v.number, v.number},
	}
}

func (s *Service) versionFilters() []rest.Filter {
	const table = "core_repositorycontent rc"
	filter := func(name, kind string, cond func(ctx context.Context, q db.Querier, v versionRef) (rest.Cond, error)) rest.Filter {
		return rest.Filter{Name: name, Param: rest.Param{Type: "string"}, Empty: true, Set: func(ctx context.Context, f *rest.Filtering, value string) (*rest.Set, error) {
			v, err := s.versionOf(ctx, f, value)
			if err != nil {
				return nil, err
			}
			c, err := cond(ctx, f.Q, v)
			if err != nil {
				return nil, err
			}
			set := &rest.Set{From: table, Key: "rc.content", Cond: c}
			if v.domain == pulp.CallOf(ctx).Domain.ID { // in another domain there is nothing to be seen
				set.Count = func(ctx context.Context) (int64, error) { return versionCount(ctx, f.Q, v, kind, f.Type.PulpType) }
			}
			return set, nil
		}}
	}
	return []rest.Filter{
		filter("repository_version", "present", func(_ context.Context, _ db.Querier, v versionRef) (rest.Cond, error) {
			return rest.Cond{SQL: "rc.repository = ? AND rc.added <= ? AND rc.removed > ?", Args: []any{v.repo, v.number, v.number}}, nil
		}),
		filter("repository_version_added", "added", func(ctx context.Context, q db.Querier, v versionRef) (rest.Cond, error) {
			before, err := previousNumber(ctx, q, v)
			return rest.Cond{SQL: "rc.repository = ? AND " + addedSince, Args: []any{v.repo, before, v.number, v.number, before, before}}, err
		}),
		filter("repository_version_removed", "removed", func(ctx context.Context, q db.Querier, v versionRef) (rest.Cond, error) {
			before, err := previousNumber(ctx, q, v)
			return rest.Cond{SQL: "rc.repository = ? AND " + removedSince, Args: []any{v.repo, before, v.number, before, v.number, v.number}}, err
		}),
	}
}

// versionCount returns how many units of a type, or of all where it is empty, a version adds, removes or holds.
func versionCount(ctx context.Context, q db.Querier, v versionRef, kind, pulpType string) (int64, error) {
	if pulpType == "" {
		return db.Value[int64](ctx, q, "SELECT COALESCE(CAST(SUM(count) AS bigint), 0) FROM core_versioncount WHERE version = ? AND kind = ?", v.id, kind)
	}
	n, err := db.Value[int64](ctx, q, "SELECT count FROM core_versioncount WHERE version = ? AND kind = ? AND pulp_type = ?", v.id, kind, pulpType)
	if errs.Is(err, errs.NotFound) {
		return 0, nil
	}
	return n, err
}

// What a version has added and removed since an earlier one, as conditions on the rows rc of core_repositorycontent. Each is
// bounded by an index, so that it costs what changed. Their arguments are the numbers: from, to, to, from, from and
// from, to, from, to, to.
const (
	addedSince   = "rc.added > ? AND rc.added <= ? AND rc.removed > ? AND NOT EXISTS " + sameContentAt
	removedSince = "rc.removed > ? AND rc.removed <= ? AND " + past + " AND rc.added <= ? AND NOT EXISTS " + sameContentAt

	sameContentAt = "(SELECT 1 FROM core_repositorycontent o WHERE o.repository = rc.repository AND o.content = rc.content AND o.added <= ? AND o.removed > ?)"

	// past is what rows have that are not current. Queries say so, since an index has only these.
	past = "rc.removed < " + current
)

// previousNumber returns the number of the newest complete version before v; -1 if there is none.
func previousNumber(ctx context.Context, q db.Querier, v versionRef) (int64, error) {
	return db.Value[int64](ctx, q, "SELECT COALESCE(MAX(number), -1) FROM core_repositoryversion WHERE repository = ? AND number < ? AND complete", v.repo, v.number)
}

func (s *Service) artifactVersionFilter() rest.Filter {
	return rest.Filter{Name: "repository_version", Param: rest.Param{Type: "string"}, Empty: true, Where: func(ctx context.Context, f *rest.Filtering, value string) (rest.Cond, error) {
		v, err := s.versionOf(ctx, f, value)
		c := contentIn("ca.content", v)
		return rest.Cond{SQL: "m.id IN (SELECT ca.artifact FROM core_contentartifact ca WHERE " + c.SQL + ")", Args: c.Args}, err
	}}
}

// linkFilter is a filter whose value names an object of a family; cond has a mark for each place of its id. what is how
// messages call the family.
func linkFilter(name string, family *rest.Family, what, cond string) rest.Filter {
	return rest.Filter{Name: name, Param: rest.Param{Type: "string"}, Empty: true, Where: func(ctx context.Context, f *rest.Filtering, v string) (rest.Cond, error) {
		found, err := f.Find(ctx, family.Name, what, v)
		return rest.Cond{SQL: cond, Args: slices.Repeat([]any{found.ID}, strings.Count(cond, "?"))}, err
	}}
}

// contentFilter is linkFilter for units.
func contentFilter(name, cond string) rest.Filter {
	return linkFilter(name, Contents, "content", cond)
}

// contentInFilter is contentFilter for any of several units; cond has "IN %s" for them.
func contentInFilter(name, cond string) rest.Filter {
	return rest.Filter{Name: name, Param: rest.Param{Type: "string", Array: true}, Empty: true, Where: func(ctx context.Context, f *rest.Filtering, v string) (rest.Cond, error) {
		var ids []pulp.ID
		for s := range strings.SplitSeq(v, ",") {
			found, err := f.Find(ctx, Contents.Name, "content", s)
			if err != nil {
				return rest.Cond{}, err
			}
			ids = append(ids, found.ID)
		}
		marks, args := db.In(ids)
		return rest.Cond{SQL: fmt.Sprintf(cond, marks), Args: args}, nil
	}}
}
