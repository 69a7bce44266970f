package repository

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

const taskReclaim = "pulpcore.app.tasks.reclaim_space.reclaim_space"

type reclaimInput struct {
	Repositories []any    `api:"repo_hrefs,req"`
	Keep         []string `api:"repo_versions_keeplist,blank,format=uri"`
}

type reclaimArgs struct {
	Repositories []pulp.ID `json:"repositories"` // in order
	Keep         []pulp.ID `json:"keep,omitempty"`
}

// ReclaimEndpoint declares the giving back of space that files take which can be downloaded again.
func (s *Service) ReclaimEndpoint() *rest.Endpoint {
	return &rest.Endpoint{App: "core", Path: "repositories/reclaim_space/", Actions: []rest.Action{
		{Name: "reclaim", Request: reclaimInput{}, RequestSchema: "ReclaimSpace", Task: true, Lax: true, Handle: s.reclaimRequest},
	}}
}

func (s *Service) reclaimRequest(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var in reclaimInput
	if err := r.DecodeLax(&in); err != nil {
		return nil, err
	}
	wrong := map[string]any{}
	repos, msg, err := s.reclaimed(ctx, in.Repositories)
	if err != nil {
		return nil, err
	}
	if msg != "" {
		wrong["repo_hrefs"] = []string{msg}
	}
	var args reclaimArgs
	for _, ref := range in.Keep {
		v, err := s.API.Find(ctx, s.DB, Versions.Name, "", ref)
		if errs.Is(err, errs.Invalid) {
			wrong["repo_versions_keeplist"] = errs.Body(err)
			break
		}
		if err != nil {
			return nil, err
		}
		if v.Domain != pulp.CallOf(ctx).Domain.ID {
			return nil, errs.NonFieldError("Objects must all be a part of the %s domain.", pulp.CallOf(ctx).Domain.Name)
		}
		args.Keep = append(args.Keep, v.ID)
	}
	if len(wrong) > 0 {
		return nil, &errs.Error{Kind: errs.Invalid, Fields: wrong}
	}
	locks, err := s.reclaimLocks(ctx, repos, args.Keep)
	if err != nil {
		return nil, err
	}
	args.Repositories = repos
	spec := task.Spec{Name: taskReclaim, Args: args, Shared: locks}
	if len(locks) == 0 {
		spec.Exclusive = []string{"pdrn:" + pulp.CallOf(ctx).Domain.ID.String() + ":reclaim_space"}
	}
	return s.API.Dispatch(ctx, spec)
}

// reclaimed returns the repositories that a request names, in order, or what is wrong with it.
func (s *Service) reclaimed(ctx context.Context, list []any) (repos []pulp.ID, msg string, err error) {
	refs := make([]string, len(list))
	for i, v := range list {
		refs[i], _ = v.(string)
	}
	switch {
	case len(refs) == 0:
		return nil, "Must not be [].", nil
	case slices.Contains(refs, "*") && len(refs) > 1:
		return nil, "Can not specify other HREFs when using '*'", nil
	case refs[0] == "*":
		repos, err = db.Column[pulp.ID](ctx, s.DB, "SELECT id FROM core_repository WHERE domain = ? AND NOT user_hidden ORDER BY id", pulp.CallOf(ctx).Domain.ID)
		return repos, "", err
	}
	found, err := s.API.FindMany(ctx, s.DB, Repositories.Name, refs)
	if err != nil {
		return nil, "", err
	}
	if found.Bad != nil {
		return nil, found.Bad[0], nil
	}
	if missing := append(found.Missing, found.Strays...); missing != nil {
		return nil, "URI " + missing[0] + " not found for repository.", nil
	}
	return slices.SortedFunc(slices.Values(found.IDs), pulp.ID.Compare), "", nil
}

// reclaimLocks names the repositories, and those of the versions that are kept.
func (s *Service) reclaimLocks(ctx context.Context, repos, keep []pulp.ID) (locks []string, err error) {
	name := func(query string) func(marks string, args []any) error {
		return func(marks string, args []any) error {
			return db.Each(ctx, s.DB, func(rows *sql.Rows) error {
				var r Repository
				err := rows.Scan(&r.ID, &r.PulpType)
				locks = append(locks, s.repositoryRef(&r).PRN())
				return err
			}, query+marks, args...)
		}
	}
	if err := batches(repos, name("SELECT id, pulp_type FROM core_repository WHERE id IN ")); err != nil {
		return nil, err
	}
	if err := batches(keep, name("SELECT r.id, r.pulp_type FROM core_repositoryversion v JOIN core_repository r ON r.id = v.repository WHERE v.id IN ")); err != nil {
		return nil, err
	}
	slices.Sort(locks)
	return slices.Compact(locks), nil
}

// A reclaiming is a reclaim under way.
type reclaiming struct {
	cleanup
	repos map[pulp.ID]bool
	kept  []versionRef
	types []any // pulp_types of content whose files may go
}

// runReclaim drops the files of content that is in no other repositories than the named ones, in no kept version, and that can be
// downloaded again. The next request for it does that.
func (s *Service) runReclaim(ctx context.Context, j *task.Job) (_ any, err error) {
	var in reclaimArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	progress := j.Progress("reclaim-space.artifact", "Reclaim disk space")
	defer progress.End(&err)
	progress.SetTotal(0)
	r := reclaiming{cleanup: cleanup{Service: s, cutoff: s.Now.Now()}, repos: map[pulp.ID]bool{}}
	for _, id := range in.Repositories {
		r.repos[id] = true
	}
	for _, ct := range s.contents {
		if ct.Reclaim {
			r.types = append(r.types, ct.Type.PulpType)
		}
	}
	err = batches(in.Keep, func(marks string, args []any) error {
		list, err := db.All(ctx, s.DB, func(rows *sql.Rows) (v versionRef, err error) {
			err = rows.Scan(&v.id, &v.repo, &v.number)
			return v, err
		}, "SELECT id, repository, number FROM core_repositoryversion WHERE id IN "+marks, args...)
		r.kept = append(r.kept, list...)
		return err
	})
	if err != nil || len(r.types) == 0 {
		return nil, err
	}
	for _, repo := range in.Repositories {
		var last pulp.ID
		for {
			ids, err := db.Column[pulp.ID](ctx, s.DB, "SELECT DISTINCT content FROM core_repositorycontent WHERE repository = ? AND content > ? ORDER BY content LIMIT ?",
				repo, last[:], orphanBatch)
			if err != nil {
				return nil, err
			}
			if len(ids) == 0 {
				break
			}
			last = ids[len(ids)-1]
			n, err := r.drop(ctx, ids)
			if err != nil {
				return nil, fmt.Errorf("drop files: %w", err)
			}
			progress.AddTotal(n)
			progress.Add(n)
		}
	}
	return nil, nil
}

// A droppable is a file of content that is to go.
type droppable struct {
	id       pulp.ID // of the content artifact
	artifact orphanArtifact
}

// drop takes files from those of the units that may lose them, and says from how many. Content first is as if it was never
// downloaded; then the artifacts that nothing uses any more go, but for those that somebody has met meanwhile.
func (r *reclaiming) drop(ctx context.Context, units []pulp.ID) (int64, error) {
	var list []droppable
	err := r.DB.Update(ctx, func(tx *db.Tx) (err error) {
		repos, err := r.free(ctx, tx, &units)
		if err != nil || len(units) == 0 {
			return err
		}
		if list, err = r.droppable(ctx, tx, units); err != nil || len(list) == 0 {
			return err
		}
		ids := make([]pulp.ID, len(list))
		for i, f := range list {
			ids[i] = f.id
		}
		err = batches(ids, func(marks string, args []any) error {
			_, err := tx.Exec(ctx, "UPDATE core_contentartifact SET artifact = NULL WHERE id IN "+marks, args...)
			return err
		})
		if err != nil {
			return err
		}
		return notice.Changed(ctx, tx, notice.Files, repos...)
	})
	if err != nil {
		return 0, err
	}
	artifacts := make([]orphanArtifact, 0, len(list))
	for _, f := range list {
		if !slices.Contains(artifacts, f.artifact) {
			artifacts = append(artifacts, f.artifact)
		}
	}
	for part := range slices.Chunk(artifacts, orphanFiles) {
		_, err := unused(part, func(part []orphanArtifact) (int64, error) {
			return r.deleteArtifacts(ctx, pulp.CallOf(ctx).Domain, part)
		})
		if err != nil {
			return 0, err
		}
	}
	return int64(len(list)), nil
}

// free leaves of the units those that are in no other repository and no kept version, and returns the repositories that they are in.
// What is only in the hidden repository of an alternate content source is in no other one: nobody is served from there.
func (r *reclaiming) free(ctx context.Context, tx *db.Tx, units *[]pulp.ID) ([]pulp.ID, error) {
	held := map[pulp.ID]bool{}
	in := map[pulp.ID]map[pulp.ID]bool{}
	marks, args := db.In(*units)
	err := db.Each(ctx, tx, func(rows *sql.Rows) error {
		var content, repo pulp.ID
		var hidden bool
		if err := rows.Scan(&content, &repo, &hidden); err != nil {
			return err
		}
		switch {
		case r.repos[repo]:
			if in[content] == nil {
				in[content] = map[pulp.ID]bool{}
			}
			in[content][repo] = true
		case !hidden:
			held[content] = true
		}
		return nil
	}, "SELECT DISTINCT rc.content, rc.repository, r.user_hidden FROM core_repositorycontent rc JOIN core_repository r ON r.id = rc.repository WHERE rc.content IN "+marks, args...)
	if err != nil {
		return nil, err
	}
	for _, v := range r.kept {
		ids, err := db.Column[pulp.ID](ctx, tx, "SELECT content FROM core_repositorycontent WHERE repository = ? AND added <= ? AND removed > ? AND content IN "+marks,
			append([]any{v.repo, v.number, v.number}, args...)...)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			held[id] = true
		}
	}
	var repos, left []pulp.ID
	for _, id := range *units {
		if held[id] || in[id] == nil {
			continue
		}
		left = append(left, id)
		for repo := range in[id] {
			if !slices.Contains(repos, repo) {
				repos = append(repos, repo)
			}
		}
	}
	*units = left
	return repos, nil
}

// droppable finds the files that are stored of the units and may be had elsewhere.
func (r *reclaiming) droppable(ctx context.Context, tx *db.Tx, units []pulp.ID) ([]droppable, error) {
	marks, args := db.In(units)
	types, more := db.In(r.types)
	return db.All(ctx, tx, func(rows *sql.Rows) (f droppable, err error) {
		err = rows.Scan(&f.id, &f.artifact.id, &f.artifact.sha)
		return f, err
	}, "SELECT ca.id, a.id, a.sha256 FROM core_contentartifact ca JOIN core_artifact a ON a.id = ca.artifact JOIN core_content m ON m.id = ca.content"+
		" WHERE ca.content IN "+marks+" AND m.pulp_type IN "+types+" AND EXISTS (SELECT 1 FROM core_remoteartifact ra WHERE ra.content_artifact = ca.id) ORDER BY ca.id",
		append(args, more...)...)
}
