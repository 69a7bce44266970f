package repository

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"granary/internal/blob"
	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

const (
	taskRepairVersion = "pulpcore.app.tasks.repository.repair_version"
	taskRepairAll     = "pulpcore.app.tasks.repository.repair_all_artifacts"
)

type repairInput struct {
	Verify bool `api:"verify_checksums,def=true"`
}

type repairArgs struct {
	Version pulp.ID `json:"version"` // zero for the whole domain
	Verify  bool    `json:"verify"`
}

// RepairEndpoint declares the repair of a whole domain.
func (s *Service) RepairEndpoint() *rest.Endpoint {
	return &rest.Endpoint{App: "core", Path: "repair/", Actions: []rest.Action{{
		Request: repairInput{}, RequestSchema: "Repair", Task: true, Lax: true,
		Handle: func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
			var in repairInput
			if err := r.DecodeLax(&in); err != nil {
				return nil, err
			}
			lock := "pdrn:" + pulp.CallOf(ctx).Domain.ID.String() + ":repair"
			return s.API.Dispatch(ctx, task.Spec{Name: taskRepairAll, Args: repairArgs{Verify: in.Verify}, Exclusive: []string{lock}})
		},
	}}}
}

func (s *Service) repairVersionRequest(ctx context.Context, r *rest.Request, v *Version) (*rest.Response, error) {
	var in repairInput
	if err := r.DecodeLax(&in); err != nil {
		return nil, err
	}
	ref, err := s.RepositoryRef(ctx, s.DB, v.Repository)
	if err != nil {
		return nil, err
	}
	return s.API.Dispatch(ctx, task.Spec{Name: taskRepairVersion, Args: repairArgs{v.ID, in.Verify}, Shared: []string{ref.PRN()}})
}

// runRepair looks at every stored file in scope, and fetches anew those that are missing or damaged.
func (s *Service) runRepair(ctx context.Context, j *task.Job) (_ any, err error) {
	var in repairArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	missing := j.Progress("repair.missing", "Identify missing units")
	defer missing.End(&err)
	corrupted := j.Progress("repair.corrupted", "Identify corrupted units")
	defer corrupted.End(&err)
	repaired := j.Progress("repair.repaired", "Repair corrupted units")
	defer repaired.End(&err)

	domain := pulp.CallOf(ctx).Domain
	scope, args := "", []any{domain.ID}
	if !in.Version.IsZero() {
		v, err := s.Version(ctx, s.DB, in.Version)
		if err != nil {
			return nil, err
		}
		c := contentIn("ca.content", versionRef{repo: v.Repository, number: v.Number})
		scope, args = " AND "+c.SQL, append(args, c.Args...)
	}
	type file struct {
		id  pulp.ID
		sha string
	}
	touched := false
	var last pulp.ID
	for {
		list, err := db.All(ctx, s.DB, func(rows *sql.Rows) (f file, err error) {
			err = rows.Scan(&f.id, &f.sha)
			return f, err
		}, "SELECT m.id, m.sha256 FROM core_artifact m WHERE m.domain = ? AND EXISTS (SELECT 1 FROM core_contentartifact ca WHERE ca.artifact = m.id"+scope+
			") AND m.id > ? ORDER BY m.id LIMIT 200", append(args[:len(args):len(args)], last[:])...)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			break
		}
		last = list[len(list)-1].id
		store := s.Blobs.Of(domain.ID)
		for _, f := range list {
			key := blob.ArtifactKey(domain, f.sha)
			state, err := inspect(ctx, store, key, f.sha, in.Verify)
			if err != nil {
				return nil, err
			}
			switch state {
			case whole:
				continue
			case gone:
				missing.Add(1)
			case damaged:
				corrupted.Add(1)
			}
			touched = true
			ok, err := s.replace(ctx, domain.ID, key, f.id, f.sha)
			if err != nil {
				return nil, err
			}
			if ok {
				repaired.Add(1)
			} else {
				s.Log.WarnContext(ctx, "file could not be repaired: no source has it", slog.String("sha256", f.sha))
			}
		}
	}
	if touched {
		return nil, s.filesChanged(ctx)
	}
	return nil, nil
}

// condition is the state of a stored file.
type condition int

const (
	whole condition = iota
	gone
	damaged
)

func inspect(ctx context.Context, store blob.Store, key, sha string, verify bool) (_ condition, err error) {
	if !verify {
		_, err := store.Stat(ctx, key)
		if errs.Is(err, errs.NotFound) {
			return gone, nil
		}
		return whole, err
	}
	f, err := store.Open(ctx, key)
	if errs.Is(err, errs.NotFound) {
		return gone, nil
	}
	if err != nil {
		return whole, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, readerOf(ctx, f)); err != nil {
		return whole, fmt.Errorf("read %s: %w", key, err)
	}
	if hex.EncodeToString(h.Sum(nil)) != sha {
		return damaged, nil
	}
	return whole, nil
}

// replace makes a missing or damaged file good from any source that has it. Without one the damaged file goes: a missing file
// is noticed, a wrong one is not.
func (s *Service) replace(ctx context.Context, domain pulp.ID, key string, artifact pulp.ID, sha string) (ok bool, err error) {
	store := s.Blobs.Of(domain)
	stage, err := s.refetch(ctx, artifact, sha)
	if err != nil {
		return false, err
	}
	if stage != nil {
		defer func() { err = errors.Join(err, stage.Close()) }()
	}
	return stage != nil, s.DB.Hold(ctx, append(removing([]string{sha}), staying(domain)), func(ctx context.Context) error {
		if stage == nil { // somebody may have stored the file meanwhile
			if state, err := inspect(ctx, store, key, sha, true); err != nil || state != damaged {
				return err
			}
		}
		if err := store.Delete(ctx, key); err != nil || stage == nil {
			return err
		}
		return stage.Commit(ctx, key)
	})
}

// refetch downloads an artifact's file from the first source that has it; the result is nil where there is none.
func (s *Service) refetch(ctx context.Context, artifact pulp.ID, sha string) (blob.Stage, error) {
	type source struct {
		remote pulp.ID
		url    string
	}
	sources, err := db.All(ctx, s.DB, func(rows *sql.Rows) (x source, err error) {
		err = rows.Scan(&x.remote, &x.url)
		return x, err
	}, "SELECT DISTINCT ra.remote, ra.url FROM core_remoteartifact ra JOIN core_contentartifact ca ON ca.id = ra.content_artifact WHERE ca.artifact = ?", artifact)
	if err != nil {
		return nil, err
	}
	for _, x := range sources {
		stage, err := s.fetchFrom(ctx, x.remote, x.url, sha)
		if err == nil {
			return stage, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		s.Log.InfoContext(ctx, "source does not repair a file", slog.String("remote", x.remote.String()), slog.Any("error", err))
	}
	return nil, nil
}

func (s *Service) fetchFrom(ctx context.Context, remote pulp.ID, url, sha string) (blob.Stage, error) {
	r, err := s.Remote(ctx, s.DB, remote)
	if err != nil {
		return nil, err
	}
	client, err := s.Download(*r)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return s.fetch(ctx, client, download.Request{URL: url, Digests: pulp.Digests{pulp.SHA256: sha}})
}

// fetch downloads into a new stage.
func (s *Service) fetch(ctx context.Context, client *download.Client, what download.Request) (blob.Stage, error) {
	stage, err := s.Blobs.Stage(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := client.Get(ctx, what, stage); err != nil {
		return nil, errors.Join(err, stage.Close())
	}
	return stage, nil
}

// filesChanged tells content servers that stored files went or were replaced.
func (s *Service) filesChanged(ctx context.Context) error {
	return s.DB.Update(ctx, func(tx *db.Tx) error { return notice.Changed(ctx, tx, notice.Files) })
}
