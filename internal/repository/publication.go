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

var publicationOrdering = []string{"checkpoint", "complete", "pass_through", "pk", "pulp_created", "pulp_id", "pulp_last_updated", "pulp_type"}

func (s *Service) publicationFilters() []rest.Filter {
	version := linkFilter("repository_version", Versions, "repository version", "m.repository_version = ?")
	version.Param.Format = "uuid" // as Pulp documents it, other than the like
	const in = "EXISTS (SELECT 1 FROM core_repositoryversion v JOIN core_repositorycontent rc ON rc.repository = v.repository AND rc.added <= v.number AND rc.removed > v.number" +
		" WHERE v.id = m.repository_version AND rc.content "
	return slices.Concat(rest.Times("pulp_created", "m.created"), []rest.Filter{
		linkFilter("repository", Repositories, "repository", "m.repository_version IN (SELECT v.id FROM core_repositoryversion v WHERE v.repository = ?)"),
		version, rest.Flag("checkpoint", "m.checkpoint"),
		contentFilter("content", in+"= ?)"), contentInFilter("content__in", in+"IN %s)"),
	})
}

// DefinePublication completes the declaration of a type of publication. checkpoint says whether one is to be a checkpoint; it is
// nil for types without. publish makes the spec of the task that publishes a version; the request was checked.
func DefinePublication[T any](s *Service, r rest.Resource[T], base func(*T) *Publication, checkpoint func(*T) bool, publish func(ctx context.Context, v *T) (task.Spec, error)) rest.Typed[T] {
	r.Family, r.Where, r.Delete = Publications, "m.complete", rest.Now
	r.Filters = append(r.Filters, s.publicationFilters()...)
	r.Ordering = append(slices.Clone(r.Ordering), publicationOrdering...)
	expand := r.Expand
	r.Expand = func(ctx context.Context, q db.Querier, list []*T) error {
		bases := make([]*Publication, len(list))
		for i, v := range list {
			bases[i] = base(v)
		}
		if err := s.expandPublications(ctx, q, bases); err != nil || expand == nil {
			return err
		}
		return expand(ctx, q, list)
	}
	var t rest.Typed[T]
	deleting := r.Deleting
	r.Deleting = func(ctx context.Context, tx *db.Tx, v *T) error {
		if err := s.publicationChanged(ctx, tx, base(v).ID, true); err != nil {
			return err
		}
		if err := task.Forget(ctx, tx, t.Ref(v)); err != nil || deleting == nil { // as Pulp does, for publications alone
			return err
		}
		return deleting(ctx, tx, v)
	}
	r.OnCreate = func(ctx context.Context, req *rest.Request) (*rest.Response, error) {
		v, err := t.Parse(ctx, req)
		if err != nil {
			return nil, err
		}
		b := base(v)
		switch {
		case b.Version.IsZero() && b.Repository.IsZero():
			return nil, errs.NonFieldError("Either the 'repository' or 'repository_version' need to be specified")
		case !b.Version.IsZero() && !b.Repository.IsZero():
			return nil, errs.NonFieldError("Either the 'repository' or 'repository_version' need to be specified but not both.")
		case !b.Version.IsZero() && checkpoint != nil && checkpoint(v):
			return nil, errs.NonFieldError("'checkpoint' may only be used with 'repository'")
		case !b.Version.IsZero():
			ver, err := s.Version(ctx, s.DB, b.Version)
			if err != nil {
				return nil, err
			}
			b.Repository = ver.Repository
		default:
			ver, err := s.Latest(ctx, s.DB, b.Repository)
			if errs.Is(err, errs.NotFound) {
				return nil, errs.NonFieldError("Repository has no version available to create Publication from")
			}
			if err != nil {
				return nil, err
			}
			b.Version = ver.ID
		}
		spec, err := publish(ctx, v)
		if err != nil {
			return nil, err
		}
		return s.API.Dispatch(ctx, spec)
	}
	t = rest.Define(r)
	return t
}

func (s *Service) genericPublications() *rest.Type {
	return rest.Define(rest.Resource[Publication]{
		App: "core", Model: "Publication", Path: "publications", Family: Publications, Where: "m.complete",
		Filters: append(s.publicationFilters(), s.typeFilters(Publications)...), Ordering: publicationOrdering, Expand: s.expandPublications,
	}).Type
}

func (s *Service) expandPublications(ctx context.Context, q db.Querier, list []*Publication) error {
	ids := make([]pulp.ID, len(list))
	for i, p := range list {
		ids[i] = p.Version
	}
	marks, args := db.In(ids)
	repos := map[pulp.ID]pulp.ID{}
	err := db.Each(ctx, q, func(rows *sql.Rows) error {
		var v, r pulp.ID
		err := rows.Scan(&v, &r)
		repos[v] = r
		return err
	}, "SELECT id, repository FROM core_repositoryversion WHERE id IN "+marks, args...)
	for _, p := range list {
		p.Repository = repos[p.Version]
	}
	return err
}

// DistributionsOf returns, for each publication, the distributions that serve it and no other.
func (s *Service) DistributionsOf(ctx context.Context, q db.Querier, publications []pulp.ID) (map[pulp.ID][]pulp.Ref, error) {
	marks, args := db.In(publications)
	refs := map[pulp.ID][]pulp.Ref{}
	err := db.Each(ctx, q, func(rows *sql.Rows) error {
		var p, d pulp.ID
		var typ string
		if err := rows.Scan(&p, &d, &typ); err != nil {
			return err
		}
		if t := s.API.TypeOf(Distributions.Name, typ); t != nil {
			refs[p] = append(refs[p], pulp.RefTo(t.Label, d))
		}
		return nil
	}, "SELECT publication, id, pulp_type FROM core_distribution WHERE publication IN "+marks+" ORDER BY created", args...)
	return refs, err
}

// A PublishedFile is what a publication serves besides its version's content.
type PublishedFile struct {
	Path            string
	Artifact        pulp.ID // a file made for it
	ContentArtifact pulp.ID // or content under another path
}

// Publish adds files to an unfinished publication.
func (s *Service) Publish(ctx context.Context, publication pulp.ID, files []PublishedFile) error {
	now := s.Now.Now()
	rows := make([][]any, len(files))
	for i, f := range files {
		rows[i] = []any{publication, f.Path, f.Artifact, f.ContentArtifact, now}
	}
	err := s.DB.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Insert(ctx, "core_publishedartifact", []string{"publication", "relative_path", "artifact", "content_artifact", "created"}, rows, "")
		return err
	})
	if err != nil {
		return fmt.Errorf("publish files: %w", err)
	}
	return nil
}

// CompletePublication makes a publication visible, at once and whole.
func (s *Service) CompletePublication(ctx context.Context, j *task.Job, publication pulp.ID) error {
	return s.DB.Update(ctx, func(tx *db.Tx) error {
		if err := j.Fence(ctx, tx); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, "UPDATE core_publication SET complete = ?, updated = ? WHERE id = ?", true, s.Now.Now(), publication)
		if err == nil && n == 0 {
			err = errs.E(errs.Conflict, "The publication was deleted before it was complete.")
		}
		if err != nil {
			return err
		}
		return s.publicationChanged(ctx, tx, publication, false)
	})
}

// discardPublication removes a publication that is not complete. It may be gone with its version; either way it is no more than
// something that its task tried.
func (s *Service) discardPublication(ctx context.Context, r pulp.Ref) error {
	return s.DB.Update(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM core_publication WHERE id = ? AND NOT complete", r.ID()); err != nil {
			return err
		}
		complete, err := db.Exists(ctx, tx, "SELECT 1 FROM core_publication WHERE id = ?", r.ID())
		if err != nil || complete {
			return err
		}
		return task.Forget(ctx, tx, r)
	})
}

// publicationChanged tells content servers of a publication that is complete, or about to be deleted.
func (s *Service) publicationChanged(ctx context.Context, tx *db.Tx, publication pulp.ID, deleted bool) error {
	repo, err := db.Value[pulp.ID](ctx, tx, "SELECT v.repository FROM core_publication p JOIN core_repositoryversion v ON v.id = p.repository_version WHERE p.id = ?", publication)
	if err != nil {
		return err
	}
	if deleted {
		if err := notice.Changed(ctx, tx, notice.Publication, publication); err != nil {
			return err
		}
	}
	return notice.Changed(ctx, tx, notice.Repository, repo)
}

// CheckPublishedPaths refuses a publication in which files collide: its own and, since it passes these through, its version's.
func (s *Service) CheckPublishedPaths(ctx context.Context, own []string, version pulp.ID) error {
	v, err := s.Version(ctx, s.DB, version)
	if err != nil {
		return err
	}
	repo, err := s.Repository(ctx, s.DB, v.Repository)
	if err != nil {
		return err
	}
	var p PathChecker
	if rt := s.repos[repo.PulpType]; rt != nil && rt.PathCheck && len(own) <= fewPaths { // the version's do not collide
		list, err := s.around(ctx, versionRef{repo: v.Repository, number: v.Number}, own)
		if err != nil {
			return err
		}
		for _, path := range own {
			list = append(list, placed{path: path})
		}
		p.addAll(list)
	} else if err := s.checkAllPaths(ctx, &p, own, v); err != nil {
		return err
	}
	if problems := p.Problems(); problems != "" {
		return errs.E(errs.Invalid, "Cannot create publication. "+problems+".")
	}
	return nil
}

func (s *Service) checkAllPaths(ctx context.Context, p *PathChecker, own []string, v *Version) error {
	own = slices.Sorted(slices.Values(own))
	err := db.Each(ctx, s.DB, func(rows *sql.Rows) error {
		f, err := scanPlaced(rows)
		if err != nil {
			return err
		}
		for len(own) > 0 && own[0] <= f.path {
			p.Add(own[0], "")
			own = own[1:]
		}
		p.Add(f.path, f.identity)
		return nil
	}, "SELECT ca.relative_path, ca.artifact FROM core_repositorycontent rc JOIN core_contentartifact ca ON ca.content = rc.content"+
		" WHERE rc.repository = ? AND rc.added <= ? AND rc.removed > ? ORDER BY ca.relative_path", v.Repository, v.Number, v.Number)
	for _, path := range own {
		p.Add(path, "")
	}
	return err
}
