package repository

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

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
	filters := []rest.Filter{s.artifactVersionFilter(), s.orphanedFilter(orphanFile)}
	for _, alg := range pulp.Algorithms {
		filters = append(filters, rest.Text(string(alg), "m."+string(alg))...)
	}
	return rest.Define(rest.Resource[Artifact]{
		App: "core", Model: "Artifact", Path: "artifacts", Table: "core_artifact",
		OnCreate: s.uploadArtifact, CreateStatus: http.StatusCreated,
		Actions: []rest.Action{{Name: "delete", Method: http.MethodDelete, Status: http.StatusNoContent, Handle: func(context.Context, *rest.Request) (*rest.Response, error) {
			return nil, errs.E(errs.Denied, "You do not have permission to perform this action.") // as in Pulp: orphan cleanup deletes artifacts
		}}},
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
	doc, err := r.Body()
	if err != nil {
		return nil, err
	}
	if doc.Values["size"] != nil && want.Size != stage.Size() {
		return nil, errs.NonFieldError("The size did not match actual size of file.")
	}
	got := stage.Digests()
	for _, alg := range pulp.Algorithms {
		d := *want.digest(alg)
		if d == nil && doc.Values[string(alg)] == "" { // as in Pulp: an empty part of a form is a digest too
			d = new(string)
		}
		if d == nil {
			continue
		}
		if !slices.Contains(s.Allowed, alg) {
			return nil, errs.NonFieldError("Checksum algorithms ['%s'] forbidden for this Pulp instance.", alg)
		}
		if *d != got[alg] { // as in Pulp: upper case is another digest
			return nil, errs.NonFieldError("The %s checksum did not match.", alg)
		}
	}
	list, err := s.SaveArtifacts(ctx, []blob.Stage{stage})
	if err != nil {
		return nil, err
	}
	a := &list[0]
	if !a.Fresh {
		return nil, errArtifactThere(&a.Artifact)
	}
	made := &Artifact{Base: rest.Base{ID: a.ID, Domain: a.Domain, Created: a.Created, Updated: a.Created}, Size: a.Size}
	for alg, d := range a.Digests {
		*made.digest(alg) = &d
	}
	return s.Artifacts.CreatedJSON(ctx, made)
}

func errArtifactThere(a *pulp.Artifact) error {
	return &errs.Error{Kind: errs.Invalid, Fields: map[string]any{errs.NonField: []errs.Detail{
		{Text: "Artifact with sha256 checksum of '" + a.SHA256() + "' already exists.", Code: "unique"},
	}}}
}

// SaveArtifact stores a staged file as an artifact of the call's domain. An equal one that is there already is used,
// and its file made good where it is missing or damaged; either way it is young again for orphan cleanup.
func (s *Service) SaveArtifact(ctx context.Context, stage blob.Stage) (*pulp.Artifact, error) {
	list, err := s.SaveArtifacts(ctx, []blob.Stage{stage})
	if err != nil {
		return nil, err
	}
	return &list[0].Artifact, nil
}

// A Saved is an artifact and whether it was not there before.
type Saved struct {
	pulp.Artifact
	Fresh   bool
	Created pulp.Time // where it is fresh
}

// atOnce is how many files are made durable at once.
const atOnce = 32

// SaveArtifacts is SaveArtifact for many: the files first, then all rows in one transaction.
func (s *Service) SaveArtifacts(ctx context.Context, stages []blob.Stage) (_ []Saved, err error) {
	defer errs.Wrap(&err, "save artifacts")
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
	var ids map[string]pulp.ID
	now := s.Now.Now()
	err = s.DB.Hold(ctx, append(storing(shas), staying(domain.ID)), func(ctx context.Context) error {
		g, files := errgroup.WithContext(ctx)
		g.SetLimit(atOnce)
		for i := range list {
			g.Go(func() error { return stages[i].Commit(files, blob.ArtifactKey(domain, list[i].SHA256())) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		return s.DB.Update(ctx, func(tx *db.Tx) (err error) {
			rows := make([][]any, 0, len(order))
			for n, i := range order {
				if n == 0 || shas[n] != shas[n-1] {
					rows = append(rows, artifactRow(&list[i].Artifact, now))
				}
			}
			if _, err := tx.Insert(ctx, "core_artifact", artifactColumns, rows, artifactThere); err != nil {
				return err
			}
			ids, err = artifactIDs(ctx, tx, domain.ID, shas)
			return err
		})
	})
	for i := range list {
		id := ids[list[i].SHA256()]
		list[i].Fresh, list[i].ID, list[i].Created = id == list[i].ID, id, now
	}
	return list, err
}

// storing are the locks of those who store files with these digests, removing of those who remove them. A file and its row
// go together, so nobody removes what somebody else is about to use.
func storing(shas []string) []db.Lock  { return fileLocks(shas, true) }
func removing(shas []string) []db.Lock { return fileLocks(shas, false) }

// staying keeps a domain from moving to another store, for those who store files and then the rows that name them.
func staying(domain pulp.ID) db.Lock { return db.Lock{Name: blob.MoveLock(domain), Shared: true} }

func fileLocks(shas []string, shared bool) []db.Lock {
	var list []db.Lock
	for _, sha := range shas {
		l := db.Lock{Name: "artifact " + sha[:2], Shared: shared} // there may be many files, but not so many locks
		if !slices.Contains(list, l) {
			list = append(list, l)
		}
	}
	return list
}

// artifactThere is what becomes of an artifact that is stored again: it is young, and has all digests that are now allowed.
const artifactThere = "ON CONFLICT (domain, sha256) DO UPDATE SET timestamp_of_interest = excluded.timestamp_of_interest," +
	" md5 = COALESCE(core_artifact.md5, excluded.md5), sha1 = COALESCE(core_artifact.sha1, excluded.sha1)," +
	" sha224 = COALESCE(core_artifact.sha224, excluded.sha224), sha384 = COALESCE(core_artifact.sha384, excluded.sha384)," +
	" sha512 = COALESCE(core_artifact.sha512, excluded.sha512)"

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

func artifactIDs(ctx context.Context, q db.Querier, domain pulp.ID, shas []string) (map[string]pulp.ID, error) {
	ids := make(map[string]pulp.ID, len(shas))
	for batch := range slices.Chunk(shas, batchSize) {
		marks, args := db.In(batch)
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
	for batch := range slices.Chunk(digests, batchSize) {
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

// young is the age, in microseconds, up to which nothing is made young again: it saves most writes, and the age of orphans
// is told in minutes.
const young = pulp.Time(time.Minute / time.Microsecond)

// touch makes rows young again for orphan cleanup.
func (s *Service) touch(ctx context.Context, table string, ids []pulp.ID) error {
	now := s.Now.Now()
	return batches(ids, func(marks string, args []any) error {
		args = append([]any{now - young}, args...)
		old, err := db.Exists(ctx, s.DB, "SELECT 1 FROM "+table+" WHERE timestamp_of_interest < ? AND id IN "+marks, args...)
		if err != nil || !old {
			return err
		}
		return s.DB.Update(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE "+table+" SET timestamp_of_interest = ? WHERE timestamp_of_interest < ? AND id IN "+marks, append([]any{now}, args...)...)
			return err
		})
	})
}
