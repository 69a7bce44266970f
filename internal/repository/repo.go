package repository

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

// A RepositoryType is what the rules must know of a type of repository.
type RepositoryType struct {
	Type *rest.Type
	// Contents are the pulp_types that versions may hold.
	Contents []string
	// Remotes are the PRN labels of the remotes that may be set; any if nil.
	Remotes []string
	// Published says that clients are served publications of its versions, and not the versions themselves.
	Published bool
	// PathCheck refuses versions in which files' paths collide.
	PathCheck bool
	// Scan says that versions have the action that looks up what is known to be unsafe of their units; see [ContentType.Packages].
	Scan bool
	// Finalize changes a draft before it is completed, or refuses it.
	Finalize func(ctx context.Context, tx *db.Tx, d *Draft) error
	// Completed runs after a version is there, as a part of the same task. If it fails, the version is taken back.
	Completed func(ctx context.Context, j *task.Job, d *Draft) error

	versions rest.Typed[Version]
}

// Versions returns the type of the repository's versions.
func (t *RepositoryType) Versions() *rest.Type { return t.versions.Type }

const taskModify = "pulpcore.app.tasks.repository.add_and_remove"

var repositoryOrdering = []string{"description", "name", "next_version", "pk", "pulp_created", "pulp_id", "pulp_labels", "pulp_last_updated", "pulp_type", "retain_repo_versions", "user_hidden"}

func (s *Service) repositoryFilters() []rest.Filter {
	// a draft's changes carry the next version's number
	const in = "EXISTS (SELECT 1 FROM core_repositorycontent rc WHERE rc.repository = m.id AND rc.content = ? AND rc.added < m.next_version"
	return slices.Concat(
		rest.Text("name", "m.name", rest.NameLookups...), rest.Numbers("retain_repo_versions", "m.retain_repo_versions", "", "gt", "gte", "isnull", "lt", "lte", "ne", "range"),
		[]rest.Filter{
			rest.LinkTo("remote", "m.remote", Remotes.Name, true), rest.LabelSelect(),
			contentFilter("with_content", in+")"), contentFilter("latest_with_content", in+" AND rc.removed >= m.next_version)"),
		},
	)
}

// DefineRepository completes the declaration of a type of repository and declares its versions.
func DefineRepository[T any](s *Service, r rest.Resource[T], base func(*T) *Repository, rt RepositoryType) (rest.Typed[T], *RepositoryType) {
	r.Family, r.Where = Repositories, "NOT m.user_hidden"
	r.Create, r.Update, r.Delete = rest.Now, rest.Immediate, rest.Task
	r.Filters = append(r.Filters, s.repositoryFilters()...)
	r.Ordering = append(slices.Clone(r.Ordering), repositoryOrdering...)
	r.Checks = withChecks(r.Checks, map[string]func(*T) []string{
		"retain_repo_versions": func(v *T) []string { return checkNumber(base(v).Retain, 1) },
	})
	check, saved, deleting, expand := r.Check, r.Saved, r.Deleting, r.Expand
	r.Check = func(ctx context.Context, q db.Querier, c *rest.Change[T]) error {
		if err := s.checkRemoteType(ctx, q, base(c.New), &rt); err != nil || check == nil {
			return err
		}
		return check(ctx, q, c)
	}
	r.Saved = func(ctx context.Context, tx *db.Tx, c *rest.Change[T]) error {
		repo := base(c.New)
		if c.Old == nil {
			if err := s.firstVersion(ctx, tx, repo); err != nil {
				return err
			}
		} else if err := s.retain(ctx, tx, repo.ID); err != nil {
			return err
		}
		if saved == nil {
			return nil
		}
		return saved(ctx, tx, c)
	}
	r.Deleting = func(ctx context.Context, tx *db.Tx, v *T) error {
		if err := notice.Changed(ctx, tx, notice.Repository, base(v).ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM core_repositorycontent WHERE repository = ?", base(v).ID); err != nil || deleting == nil {
			return err
		}
		return deleting(ctx, tx, v)
	}
	r.Expand = func(ctx context.Context, q db.Querier, list []*T) error {
		bases := make([]*Repository, len(list))
		for i, v := range list {
			bases[i] = base(v)
		}
		if err := s.expandRepositories(ctx, q, bases); err != nil || expand == nil {
			return err
		}
		return expand(ctx, q, list)
	}
	r.Actions = append(r.Actions, rest.Action{
		Name: "modify", Request: modifyInput{}, RequestSchema: "RepositoryAddRemoveContent", Task: true,
		Handle: func(ctx context.Context, req *rest.Request) (*rest.Response, error) {
			return s.modify(ctx, req, rt.Type)
		},
	})
	t := rest.Define(r)
	rt.Type = t.Type
	rt.versions = s.versionType(t.Type, rt.Scan)
	s.repos[r.PulpType] = &rt
	return t, &rt
}

// withChecks adds the checks of a family to those of a type, which come first where both have one for a field.
func withChecks[T any](own, family map[string]func(*T) []string) map[string]func(*T) []string {
	all := maps.Clone(family)
	maps.Copy(all, own)
	return all
}

// checkNumber says what is wrong with a number that Pulp's clients read into 32 bits.
func checkNumber(n *int64, least int64) []string {
	switch {
	case n != nil && *n < least:
		return []string{fmt.Sprintf("Ensure this value is greater than or equal to %d.", least)}
	case n != nil && *n > math.MaxInt32:
		return []string{fmt.Sprintf("Ensure this value is less than or equal to %d.", math.MaxInt32)}
	}
	return nil
}

func (s *Service) genericRepositories() *rest.Type {
	return rest.Define(rest.Resource[Repository]{
		App: "core", Model: "Repository", Path: "repositories", Family: Repositories, Where: "NOT m.user_hidden",
		Filters: append(s.repositoryFilters(), s.typeFilters(Repositories)...), Ordering: repositoryOrdering, Expand: s.expandRepositories,
	}).Type
}

func (s *Service) expandRepositories(ctx context.Context, q db.Querier, list []*Repository) error {
	byID := make(map[pulp.ID]*Repository, len(list))
	ids := make([]pulp.ID, len(list))
	for i, r := range list {
		ids[i], byID[r.ID] = r.ID, r
		if t := s.API.TypeOf(Repositories.Name, r.PulpType); t != nil {
			r.VersionsHref = t.Path + "/" + r.ID.String() + "/versions/"
		}
	}
	marks, args := db.In(ids)
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var id pulp.ID
		var n int64
		err := rows.Scan(&id, &n)
		byID[id].LatestHref = fmt.Sprint(byID[id].VersionsHref, n, "/")
		return err
	}, "SELECT r.id, (SELECT v.number FROM core_repositoryversion v WHERE v.repository = r.id AND v.complete ORDER BY v.number DESC LIMIT 1)"+
		" FROM core_repository r WHERE r.id IN "+marks, args...)
}

// Repository loads what all repositories have; its PulpType tells which kind it is.
func (s *Service) Repository(ctx context.Context, q db.Querier, id pulp.ID) (*Repository, error) {
	r := Repository{Base: rest.Base{ID: id}}
	err := q.QueryRow(ctx, "SELECT domain, created, updated, pulp_type, name, description, retain_repo_versions, remote, next_version, user_hidden FROM core_repository WHERE id = ?", id).
		Scan(&r.Domain, &r.Created, &r.Updated, &r.PulpType, &r.Name, &r.Description, &r.Retain, &r.Remote, &r.NextVersion, &r.Hidden)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.NotFoundModel("Repository")
	}
	return &r, err
}

// repositoryRef names a repository by its own type.
func (s *Service) repositoryRef(r *Repository) pulp.Ref {
	if t := s.API.TypeOf(Repositories.Name, r.PulpType); t != nil {
		return pulp.RefTo(t.Label, r.ID)
	}
	return pulp.RefTo("core.repository", r.ID)
}

// RepositoryRef loads a repository and names it, for locks.
func (s *Service) RepositoryRef(ctx context.Context, q db.Querier, id pulp.ID) (pulp.Ref, error) {
	if id.IsZero() {
		return pulp.Ref{}, nil
	}
	r, err := s.Repository(ctx, q, id)
	if err != nil {
		return pulp.Ref{}, err
	}
	return s.repositoryRef(r), nil
}

func (s *Service) firstVersion(ctx context.Context, tx *db.Tx, r *Repository) error {
	_, err := tx.Exec(ctx, "INSERT INTO core_repositoryversion (id, repository, number, complete, created, updated) VALUES (?, ?, 0, ?, ?, ?)",
		pulp.NewID(), r.ID, true, r.Created, r.Created)
	if err != nil {
		return err
	}
	r.NextVersion = 1
	_, err = tx.Exec(ctx, "UPDATE core_repository SET next_version = 1 WHERE id = ?", r.ID)
	return err
}

func (s *Service) checkRemoteType(ctx context.Context, q db.Querier, r *Repository, rt *RepositoryType) error {
	if r.Remote.IsZero() || rt.Remotes == nil {
		return nil
	}
	name, label, err := s.remoteLabel(ctx, q, r.Remote)
	if err == nil && !slices.Contains(rt.Remotes, label) {
		err = errs.Field("remote", fmt.Sprintf("Type for Remote '%s' does not match Repository.", name))
	}
	return err
}

type modifyInput struct {
	Add    []string `api:"add_content_units"`
	Remove []string `api:"remove_content_units"`
	Base   pulp.ID  `api:"base_version,ref=repository_version"`
}

type modifyArgs struct {
	Repository pulp.ID   `json:"repository"`
	Add        []pulp.ID `json:"add,omitempty"`
	Remove     []pulp.ID `json:"remove,omitempty"`
	Clear      bool      `json:"clear,omitempty"`
	Base       pulp.ID   `json:"base"`
}

func (s *Service) modify(ctx context.Context, r *rest.Request, t *rest.Type) (*rest.Response, error) {
	repo, err := s.Repository(ctx, s.DB, r.ID())
	if err != nil || repo.PulpType != t.PulpType || repo.Hidden || repo.Domain != pulp.CallOf(ctx).Domain.ID {
		return nil, errs.NotFoundModel(t.Model)
	}
	var in modifyInput
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	args := modifyArgs{Repository: repo.ID, Base: in.Base}
	if args.Add, err = s.units(ctx, "add_content_units", in.Add); err != nil {
		return nil, err
	}
	if slices.Contains(in.Remove, "*") {
		if len(in.Remove) > 1 {
			return nil, errs.Field("remove_content_units", "Cannot supply content units and '*'.")
		}
		args.Clear, in.Remove = true, nil
	}
	if args.Remove, err = s.units(ctx, "remove_content_units", in.Remove); err != nil {
		return nil, err
	}
	return s.API.Dispatch(ctx, task.Spec{Name: taskModify, Args: args, Exclusive: []string{s.repositoryRef(repo).PRN()}})
}

// units looks up a request's references to content and makes the units young again for orphan cleanup.
func (s *Service) units(ctx context.Context, field string, refs []string) ([]pulp.ID, error) {
	if len(refs) == 0 {
		return nil, nil
	}
	found, err := s.API.FindMany(ctx, s.DB, Contents.Name, refs)
	switch {
	case err != nil:
		return nil, err
	case found.Bad != nil:
		return nil, errs.Field(field, found.Bad[0])
	case found.Missing != nil:
		return nil, errs.Field(field, "Could not find the following content units: "+quoted(found.Missing))
	case found.Strays != nil:
		return nil, errs.Field(field, "Content units are not a part of the current domain "+pulp.CallOf(ctx).Domain.Name+": "+quoted(found.Strays))
	}
	return found.IDs, s.touch(ctx, "core_content", found.IDs)
}

// quoted writes a list as messages have it: ['a', 'b'].
func quoted(list []string) string {
	return "['" + strings.Join(list, "', '") + "']"
}

func (s *Service) runModify(ctx context.Context, j *task.Job) (any, error) {
	var in modifyArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	d, err := s.NewDraft(ctx, j, in.Repository)
	if err != nil {
		return nil, err
	}
	if !in.Base.IsZero() {
		if err := d.Rebase(ctx, in.Base); err != nil {
			return nil, err
		}
	}
	if in.Clear { // what the latest version holds, which a base may not
		if err := d.removePrevious(ctx); err != nil {
			return nil, err
		}
	}
	if _, err := d.Remove(ctx, in.Remove); err != nil {
		return nil, err
	}
	if err := d.addAll(ctx, in.Add); err != nil {
		return nil, err
	}
	_, err = d.Complete(ctx)
	return nil, err
}
