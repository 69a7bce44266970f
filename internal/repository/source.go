package repository

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

// A Refresh says what one path of an alternate content source needs synced.
type Refresh struct {
	Repository pulp.ID // a hidden one
	Remote     pulp.ID
	URL        string // the remote's with the path
}

// DefineSource completes the declaration of a type of alternate content source. repoType is the pulp_type of the
// hidden repositories that its paths are synced into, remote the PRN label of its remotes; sync makes the spec of the
// task that syncs one path.
func DefineSource[T any](s *Service, r rest.Resource[T], base func(*T) *Source, repoType, remote string, sync func(Refresh) task.Spec) rest.Typed[T] {
	r.Family, r.DeleteTask = Sources, rest.TaskMultiDelete
	r.Create, r.Update, r.Delete = rest.Now, rest.Immediate, rest.Task
	r.Filters = append(r.Filters, rest.Text("name", "m.name", rest.NameLookups...)...)
	r.Ordering = append(slices.Clone(r.Ordering), "last_refreshed", "name", "pk", "pulp_created", "pulp_id", "pulp_last_updated", "pulp_type")
	r.Checks = withChecks(r.Checks, map[string]func(*T) []string{"paths": func(v *T) []string { return checkSourcePaths(base(v).Paths) }})
	check, saved, deleting, expand := r.Check, r.Saved, r.Deleting, r.Expand
	r.Check = func(ctx context.Context, q db.Querier, c *rest.Change[T]) error {
		b := base(c.New)
		name, label, err := s.remoteLabel(ctx, q, b.Remote)
		if err != nil {
			return err
		}
		if label != remote {
			return errs.Field("remote", fmt.Sprintf("Type for Remote '%s' does not match ACS type.", name))
		}
		policy, err := db.Value[string](ctx, q, "SELECT policy FROM core_remote WHERE id = ?", b.Remote)
		if err == nil && pulp.Policy(policy) != pulp.OnDemand {
			err = errs.Field("remote", "Remote used with alternate content source must have the 'on_demand' policy.")
		}
		if err != nil || check == nil {
			return err
		}
		return check(ctx, q, c)
	}
	r.Saved = func(ctx context.Context, tx *db.Tx, c *rest.Change[T]) error {
		if c.Old == nil || c.Set["paths"] {
			if err := s.savePaths(ctx, tx, base(c.New)); err != nil {
				return err
			}
		}
		if saved == nil {
			return nil
		}
		return saved(ctx, tx, c)
	}
	r.Deleting = func(ctx context.Context, tx *db.Tx, v *T) error {
		if err := s.dropPaths(ctx, tx, base(v).ID, "1 = 1"); err != nil || deleting == nil {
			return err
		}
		return deleting(ctx, tx, v)
	}
	r.Expand = func(ctx context.Context, q db.Querier, list []*T) error {
		bases := make([]*Source, len(list))
		for i, v := range list {
			bases[i] = base(v)
		}
		if err := expandSources(ctx, q, bases); err != nil || expand == nil {
			return err
		}
		return expand(ctx, q, list)
	}
	var t rest.Typed[T]
	r.Actions = append(r.Actions, rest.Action{Name: "refresh", Group: true, Handle: func(ctx context.Context, req *rest.Request) (*rest.Response, error) {
		v, err := t.Object(ctx, req)
		if errs.Is(err, errs.NotFound) {
			return nil, errs.NotFoundModel("AlternateContentSource") // as in Pulp: here it is the family's name
		}
		if err != nil {
			return nil, err
		}
		group, err := s.refresh(ctx, t.Ref(v), base(v), repoType, sync)
		if err != nil {
			return nil, err
		}
		return s.API.AcceptedGroup(ctx, group)
	}})
	t = rest.Define(r)
	return t
}

func checkSourcePaths(paths []string) []string {
	for _, p := range paths {
		if strings.HasPrefix(p, "/") {
			return []string{"Path cannot start with a slash."}
		}
		if slices.Contains(strings.Split(p, "/"), "..") {
			return []string{"Path cannot lead upwards."}
		}
	}
	return nil
}

func expandSources(ctx context.Context, q db.Querier, list []*Source) error {
	byID := make(map[pulp.ID]*Source, len(list))
	ids := make([]pulp.ID, len(list))
	for i, b := range list {
		ids[i], byID[b.ID], b.Paths = b.ID, b, nil
	}
	marks, args := db.In(ids)
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var id pulp.ID
		var path string
		err := rows.Scan(&id, &path)
		byID[id].Paths = append(byID[id].Paths, path)
		return err
	}, "SELECT acs, path FROM core_acspath WHERE acs IN "+marks+" ORDER BY path", args...)
}

// savePaths makes a source's paths those of b; none stand for the remote's URL itself.
func (s *Service) savePaths(ctx context.Context, tx *db.Tx, b *Source) error {
	want := slices.Compact(slices.Sorted(slices.Values(b.Paths)))
	if len(want) == 0 {
		want = []string{""}
	}
	marks, args := db.In(want)
	if err := s.dropPaths(ctx, tx, b.ID, "path NOT IN "+marks, args...); err != nil {
		return err
	}
	rows := make([][]any, len(want))
	for i, p := range want {
		rows[i] = []any{pulp.NewID(), b.ID, p}
	}
	_, err := tx.Insert(ctx, "core_acspath", []string{"id", "acs", "path"}, rows, "ON CONFLICT (acs, path) DO NOTHING")
	return err
}

// dropPaths removes paths of one source with the hidden repositories behind them.
func (s *Service) dropPaths(ctx context.Context, tx *db.Tx, acs pulp.ID, where string, args ...any) error {
	args = append([]any{acs}, args...)
	repos, err := db.Column[pulp.ID](ctx, tx, "SELECT repository FROM core_acspath WHERE acs = ? AND repository IS NOT NULL AND "+where, args...)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "DELETE FROM core_acspath WHERE acs = ? AND "+where, args...); err != nil {
		return err
	}
	for _, r := range repos {
		if _, err := tx.Exec(ctx, "DELETE FROM core_repositorycontent WHERE repository = ?", r); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM core_repository WHERE id = ?", r); err != nil {
			return err
		}
	}
	return nil
}

// refresh dispatches a sync for each of a source's paths.
func (s *Service) refresh(ctx context.Context, acs pulp.Ref, b *Source, repoType string, sync func(Refresh) task.Spec) (pulp.ID, error) {
	remote, err := s.Remote(ctx, s.DB, b.Remote)
	if err != nil {
		return pulp.ID{}, err
	}
	remoteRef, err := s.RemoteRef(ctx, s.DB, b.Remote)
	if err != nil {
		return pulp.ID{}, err
	}
	ids, err := db.Column[pulp.ID](ctx, s.DB, "SELECT id FROM core_acspath WHERE acs = ? ORDER BY path", b.ID)
	if err != nil {
		return pulp.ID{}, err
	}
	specs := make([]task.Spec, len(ids))
	for i, id := range ids {
		repo, path, err := s.hiddenRepository(ctx, b, id, repoType)
		if err != nil {
			return pulp.ID{}, err
		}
		url := remote.URL
		if path != "" {
			url = pulp.JoinURL(url, path)
		}
		specs[i] = sync(Refresh{Repository: repo, Remote: b.Remote, URL: url})
		specs[i].Exclusive = []string{s.repositoryRef(&Repository{Base: rest.Base{ID: repo}, PulpType: repoType}).PRN()}
		specs[i].Shared = []string{remoteRef.PRN(), acs.PRN()}
	}
	group, err := s.Tasks.NewGroup(ctx, fmt.Sprintf("Refreshing %d alternate content source paths.", len(ids)))
	if err != nil {
		return pulp.ID{}, err
	}
	for _, spec := range specs {
		spec.Group = group
		if _, err := s.Tasks.Dispatch(ctx, spec); err != nil {
			return pulp.ID{}, err
		}
	}
	return group, s.Tasks.GroupDispatched(ctx, group)
}

// hiddenRepository returns the repository that a path is synced into, and makes it the first time.
func (s *Service) hiddenRepository(ctx context.Context, b *Source, path pulp.ID, repoType string) (repo pulp.ID, rel string, err error) {
	rt := s.repos[repoType]
	err = s.DB.Update(ctx, func(tx *db.Tx) error {
		if err := tx.Lock(ctx, "source path "+path.String()); err != nil { // another refresh may be making it
			return err
		}
		if err := tx.QueryRow(ctx, "SELECT path, repository FROM core_acspath WHERE id = ?", path).Scan(&rel, &repo); err != nil || !repo.IsZero() {
			return err
		}
		repo, err = rt.Type.InsertNew(ctx, tx, map[string]any{
			"name": fmt.Sprintf("%s--%s--repository", b.Name, path), "retain_repo_versions": int64(1), "user_hidden": true,
		})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE core_acspath SET repository = ? WHERE id = ?", repo, path)
		return err
	})
	if err != nil {
		return pulp.ID{}, "", fmt.Errorf("hidden repository of %s: %w", b.Name, err)
	}
	return repo, rel, nil
}
