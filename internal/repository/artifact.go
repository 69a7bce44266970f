package repository

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// An Artifact is one stored file.
type Artifact struct {
	rest.Base
	Upload  *rest.File `api:"file,req" db:"-"`
	File    string     `api:"file,req,out" db:"-"` // the key in the store
	Size    int64      `api:"size"`
	MD5     *string    `api:"md5,null"`
	SHA1    *string    `api:"sha1,null"`
	SHA224  *string    `api:"sha224,null"`
	SHA256  *string    `api:"sha256,null"`
	SHA384  *string    `api:"sha384,null"`
	SHA512  *string    `api:"sha512,null"`
	Touched pulp.Time  `api:"-" db:"timestamp_of_interest"`
}

func (a *Artifact) digest(alg pulp.Algorithm) **string {
	switch alg {
	case pulp.MD5:
		return &a.MD5
	case pulp.SHA1:
		return &a.SHA1
	case pulp.SHA224:
		return &a.SHA224
	case pulp.SHA256:
		return &a.SHA256
	case pulp.SHA384:
		return &a.SHA384
	}
	return &a.SHA512
}

func (s *Service) defineArtifacts() rest.Typed[Artifact] {
	filters := []rest.Filter{s.artifactVersionFilter(), s.orphanedFilter("NOT EXISTS (SELECT 1 FROM core_contentartifact ca WHERE ca.artifact = m.id)" +
		" AND NOT EXISTS (SELECT 1 FROM core_publishedartifact pa WHERE pa.artifact = m.id)")}
	for _, alg := range pulp.Algorithms {
		filters = append(filters, rest.Text(string(alg), "m."+string(alg))...)
	}
	return rest.Define(rest.Resource[Artifact]{
		App: "core", Model: "Artifact", Path: "artifacts", Table: "core_artifact",
		OnCreate: s.uploadArtifact, CreateStatus: http.StatusCreated, Delete: rest.Now,
		Deleting: func(context.Context, *db.Tx, *Artifact) error {
			return errs.E(errs.Denied, "You do not have permission to perform this action.") // as in Pulp: orphan cleanup deletes artifacts
		},
		Filters:  filters,
		Ordering: []string{"file", "md5", "pk", "pulp_created", "pulp_id", "pulp_last_updated", "sha1", "sha224", "sha256", "sha384", "sha512", "size", "timestamp_of_interest"},
		OrderBy:  map[string]string{"file": "m.sha256"},
		Expand: func(ctx context.Context, _ db.Querier, list []*Artifact) error {
			for _, a := range list {
				a.File = blob.ArtifactKey(pulp.CallOf(ctx).Domain, *a.SHA256)
			}
			return nil
		},
	})
}

func (s *Service) uploadArtifact(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	want, err := s.Artifacts.Parse(ctx, r)
	if err != nil {
		return nil, err
	}
	stage := want.Upload.Stage
	if doc, _ := r.Body(); doc.Values["size"] != nil && want.Size != stage.Size() {
		return nil, errs.NonFieldError("The size did not match actual size of file.")
	}
	got := stage.Digests()
	for _, alg := range pulp.Algorithms {
		d := *want.digest(alg)
		if d == nil {
			continue
		}
		if !slices.Contains(s.Allowed, alg) {
			return nil, errs.NonFieldError("Checksum algorithms ['%s'] forbidden for this Pulp instance.", alg)
		}
		if !strings.EqualFold(*d, got[alg]) {
			return nil, errs.NonFieldError("The %s checksum did not match.", alg)
		}
	}
	a, fresh, err := s.save(ctx, stage)
	if err != nil {
		return nil, err
	}
	if !fresh {
		return nil, errs.NonFieldError("Artifact with sha256 checksum of '%s' already exists.", a.SHA256())
	}
	made, err := s.Artifacts.Get(ctx, s.DB, a.ID)
	if err != nil {
		return nil, err
	}
	return s.Artifacts.CreatedJSON(ctx, made)
}

// SaveArtifact stores a staged file as an artifact of the call's domain. An equal one that is there already is used,
// and its file made good where it is missing or damaged; either way it is young again for orphan cleanup.
func (s *Service) SaveArtifact(ctx context.Context, stage blob.Stage) (*pulp.Artifact, error) {
	a, _, err := s.save(ctx, stage)
	return a, err
}

func (s *Service) save(ctx context.Context, stage blob.Stage) (a *pulp.Artifact, fresh bool, err error) {
	list, err := s.SaveArtifacts(ctx, []blob.Stage{stage})
	if err != nil {
		return nil, false, err
	}
	return &list[0].Artifact, list[0].Fresh, nil
}

// A Saved is an artifact and whether it was not there before.
type Saved struct {
	pulp.Artifact
	Fresh bool
}

// SaveArtifacts is SaveArtifact for many: the files first, then all rows in one transaction.
func (s *Service) SaveArtifacts(ctx context.Context, stages []blob.Stage) ([]Saved, error) {
	domain := pulp.CallOf(ctx).Domain
	list := make([]Saved, len(stages))
	order := make([]int, len(stages))
	for i, st := range stages {
		list[i].Artifact = pulp.Artifact{ID: pulp.NewID(), Domain: domain.ID, Size: st.Size(), Digests: st.Digests()}
		order[i] = i
	}
	// rows in one order everywhere, so that two transactions cannot wait for each other
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(list[a].SHA256(), list[b].SHA256()) })
	shas := make([]string, len(order))
	for n, i := range order {
		shas[n] = list[i].SHA256()
	}
	defer s.files.lock(shas...)()
	for _, i := range order {
		sha := list[i].SHA256()
		if err := stages[i].Commit(ctx, blob.ArtifactKey(domain, sha)); err != nil {
			return nil, fmt.Errorf("store artifact %s: %w", sha, err)
		}
	}
	err := s.DB.Update(ctx, func(tx *db.Tx) error {
		now := s.Now.Now()
		rows := make([][]any, 0, len(order))
		for n, i := range order {
			if n == 0 || shas[n] != shas[n-1] {
				rows = append(rows, artifactRow(&list[i].Artifact, now))
			}
		}
		if _, err := tx.Insert(ctx, "core_artifact", artifactColumns, rows,
			"ON CONFLICT (domain, sha256) DO UPDATE SET timestamp_of_interest = excluded.timestamp_of_interest"); err != nil {
			return err
		}
		ids, err := artifactIDs(ctx, tx, domain.ID, list)
		for i := range list {
			id := ids[list[i].SHA256()]
			list[i].Fresh, list[i].ID = id == list[i].ID, id
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("save artifacts: %w", err)
	}
	return list, nil
}

var artifactColumns = []string{"id", "domain", "created", "updated", "size", "timestamp_of_interest", "md5", "sha1", "sha224", "sha256", "sha384", "sha512"}

func artifactRow(a *pulp.Artifact, now pulp.Time) []any {
	row := []any{a.ID, a.Domain, now, now, a.Size, now}
	for _, alg := range pulp.Algorithms {
		row = append(row, nullText(a.Digests[alg]))
	}
	return row
}

func nullText(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func artifactIDs(ctx context.Context, q db.Querier, domain pulp.ID, list []Saved) (map[string]pulp.ID, error) {
	ids := make(map[string]pulp.ID, len(list))
	for rest := list; len(rest) > 0; {
		batch := rest[:min(500, len(rest))]
		rest = rest[len(batch):]
		shas := make([]string, len(batch))
		for i := range batch {
			shas[i] = batch[i].SHA256()
		}
		marks, args := db.In(shas)
		err := db.Each(ctx, q, func(rows *sql.Rows) error {
			var id pulp.ID
			var sha string
			err := rows.Scan(&id, &sha)
			ids[sha] = id
			return err
		}, "SELECT id, sha256 FROM core_artifact WHERE domain = ? AND sha256 IN "+marks, append([]any{domain}, args...)...)
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// FindArtifacts returns the stored artifacts of the call's domain that have one of the digests, by digest. It makes
// them young again for orphan cleanup.
func (s *Service) FindArtifacts(ctx context.Context, alg pulp.Algorithm, digests []string) (map[string]pulp.Artifact, error) {
	found := map[string]pulp.Artifact{}
	domain := pulp.CallOf(ctx).Domain.ID
	for rest := digests; len(rest) > 0; {
		batch := rest[:min(500, len(rest))]
		rest = rest[len(batch):]
		marks, args := db.In(batch)
		err := db.Each(ctx, s.DB, func(rows *sql.Rows) error {
			a := pulp.Artifact{Domain: domain, Digests: pulp.Digests{}}
			var d [6]*string
			if err := rows.Scan(&a.ID, &a.Size, &d[0], &d[1], &d[2], &d[3], &d[4], &d[5]); err != nil {
				return err
			}
			for i, name := range pulp.Algorithms {
				if d[i] != nil {
					a.Digests[name] = *d[i]
				}
			}
			found[a.Digests[alg]] = a
			return nil
		}, "SELECT id, size, md5, sha1, sha224, sha256, sha384, sha512 FROM core_artifact WHERE domain = ? AND "+string(alg)+" IN "+marks, append([]any{domain}, args...)...)
		if err != nil {
			return nil, fmt.Errorf("find artifacts: %w", err)
		}
	}
	ids := make([]pulp.ID, 0, len(found))
	for _, a := range found {
		ids = append(ids, a.ID)
	}
	return found, s.touch(ctx, "core_artifact", ids)
}

// touch makes rows young again for orphan cleanup, unless they are young already.
func (s *Service) touch(ctx context.Context, table string, ids []pulp.ID) error {
	const young = 3600 * 1e6 // an hour in microseconds
	now := s.Now.Now()
	for rest := ids; len(rest) > 0; {
		batch := rest[:min(500, len(rest))]
		rest = rest[len(batch):]
		marks, args := db.In(batch)
		old, err := db.Exists(ctx, s.DB, "SELECT 1 FROM "+table+" WHERE timestamp_of_interest < ? AND id IN "+marks, append([]any{now - young}, args...)...)
		if err != nil {
			return err
		}
		if !old {
			continue
		}
		err = s.DB.Update(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE "+table+" SET timestamp_of_interest = ? WHERE timestamp_of_interest < ? AND id IN "+marks, append([]any{now, now - young}, args...)...)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
