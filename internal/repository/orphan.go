package repository

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"granary/internal/blob"
	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

const taskOrphans = "pulpcore.app.tasks.orphan.orphan_cleanup"

type orphanInput struct {
	Content []any  `api:"content_hrefs"`
	Age     *int64 `api:"orphan_protection_time,null,min=0,max=4294967295"`
}

type orphanArgs struct {
	Content []pulp.ID `json:"content,omitempty"`
	Minutes *int64    `json:"minutes,omitempty"`
}

// OrphanEndpoints declares orphan cleanup, in its present and its former form.
func (s *Service) OrphanEndpoints() []*rest.Endpoint {
	return []*rest.Endpoint{
		{App: "core", Path: "orphans/cleanup/", Actions: []rest.Action{
			{Name: "cleanup", Request: orphanInput{}, RequestSchema: "OrphansCleanup", Task: true, Lax: true, Handle: s.cleanOrphans},
		}},
		{App: "core", Path: "orphans/", Actions: []rest.Action{
			{Method: http.MethodDelete, Task: true, Handle: func(ctx context.Context, _ *rest.Request) (*rest.Response, error) {
				return s.API.Dispatch(ctx, OrphanCleanup(ctx, nil, nil))
			}},
		}},
	}
}

// OrphanCleanup is the task that removes what nothing uses.
func OrphanCleanup(ctx context.Context, content []pulp.ID, minutes *int64) task.Spec {
	return task.Spec{Name: taskOrphans, Args: orphanArgs{content, minutes}, Exclusive: []string{"pdrn:" + pulp.CallOf(ctx).Domain.ID.String() + ":orphans"}}
}

func (s *Service) cleanOrphans(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var in orphanInput
	if err := r.DecodeLax(&in); err != nil {
		return nil, err
	}
	doc, err := r.Body()
	if err != nil {
		return nil, err
	}
	var ids []pulp.ID
	if _, given := doc.Values["content_hrefs"]; given {
		if len(in.Content) == 0 {
			return nil, errs.Field("content_hrefs", "Must not be [].")
		}
		refs := make([]string, len(in.Content))
		for i, v := range in.Content {
			refs[i], _ = v.(string)
		}
		if ids, err = s.orphanRefs(ctx, refs); err != nil {
			return nil, err
		}
	}
	return s.API.Dispatch(ctx, OrphanCleanup(ctx, ids, in.Age))
}

func (s *Service) orphanRefs(ctx context.Context, refs []string) ([]pulp.ID, error) {
	ids, bad, missing, err := s.API.FindMany(ctx, s.DB, Contents.Name, refs)
	switch {
	case err != nil:
		return nil, err
	case bad != nil:
		return nil, errs.Field("content_hrefs", bad[0])
	case missing != nil:
		return nil, errs.Field("content_hrefs", "Could not find the following content units: ['"+strings.Join(missing, "', '")+"']")
	}
	return ids, nil
}

const (
	orphanContent = "NOT EXISTS (SELECT 1 FROM core_repositorycontent rc WHERE rc.content = m.id)"
	orphanFile    = "NOT EXISTS (SELECT 1 FROM core_contentartifact ca WHERE ca.artifact = m.id) AND NOT EXISTS (SELECT 1 FROM core_publishedartifact pa WHERE pa.artifact = m.id)"
	orphanBatch   = 200
)

// runOrphans removes content in no version, then artifacts of no content, then files that nothing knows of.
func (s *Service) runOrphans(ctx context.Context, j *task.Job) (_ any, err error) {
	var in orphanArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	age := s.OrphanAge
	if in.Minutes != nil {
		age = time.Duration(*in.Minutes) * time.Minute
	}
	domain := pulp.CallOf(ctx).Domain
	cutoff := s.Now.Now() - pulp.Time(age.Microseconds())
	if err := s.removeContent(ctx, j, domain, in.Content, cutoff); err != nil {
		return nil, fmt.Errorf("remove orphan content: %w", err)
	}
	if err := s.removeArtifacts(ctx, j, domain, cutoff); err != nil {
		return nil, fmt.Errorf("remove orphan artifacts: %w", err)
	}
	if err := s.removeStrays(ctx, domain); err != nil {
		return nil, fmt.Errorf("remove stray files: %w", err)
	}
	return nil, nil
}

func (s *Service) removeContent(ctx context.Context, j *task.Job, domain pulp.Domain, only []pulp.ID, cutoff pulp.Time) (err error) {
	progress := j.Progress("clean-up.content", "Clean up orphan Content")
	defer progress.End(&err)
	where, args := "m.domain = ? AND m.timestamp_of_interest <= ? AND "+orphanContent, []any{domain.ID, cutoff}
	if only != nil {
		marks, ids := db.In(only)
		where, args = where+" AND m.id IN "+marks, append(args, ids...)
	}
	total, err := db.Value[int64](ctx, s.DB, "SELECT count(*) FROM core_content m WHERE "+where, args...)
	if err != nil {
		return err
	}
	progress.SetTotal(total)
	var last pulp.ID
	for {
		ids, err := db.Column[pulp.ID](ctx, s.DB, "SELECT m.id FROM core_content m WHERE "+where+" AND m.id > ? ORDER BY m.id LIMIT ?", append(args[:len(args):len(args)], last[:], orphanBatch)...)
		if err != nil || len(ids) == 0 {
			return err
		}
		last = ids[len(ids)-1]
		n, err := s.deleteContent(ctx, ids)
		if db.IsForeignKey(err) { // one of them is part of another unit: the others go one by one
			for _, id := range ids {
				one, err := s.deleteContent(ctx, []pulp.ID{id})
				if err != nil && !db.IsForeignKey(err) {
					return err
				}
				n += one
			}
			err = nil
		}
		if err != nil {
			return err
		}
		progress.Add(n)
	}
}

func (s *Service) deleteContent(ctx context.Context, ids []pulp.ID) (n int64, err error) {
	marks, args := db.In(ids)
	err = s.DB.Update(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM core_label WHERE object IN "+marks, args...); err != nil {
			return err
		}
		n, err = tx.Exec(ctx, "DELETE FROM core_content AS m WHERE m.id IN "+marks+" AND "+orphanContent, args...)
		return err
	})
	return n, err
}

func (s *Service) removeArtifacts(ctx context.Context, j *task.Job, domain pulp.Domain, cutoff pulp.Time) (err error) {
	progress := j.Progress("clean-up.artifacts", "Clean up orphan Artifacts")
	defer progress.End(&err)
	const where = "m.domain = ? AND m.timestamp_of_interest <= ? AND " + orphanFile
	total, err := db.Value[int64](ctx, s.DB, "SELECT count(*) FROM core_artifact m WHERE "+where, domain.ID, cutoff)
	if err != nil {
		return err
	}
	progress.SetTotal(total)
	type file struct {
		id  pulp.ID
		sha string
	}
	var last pulp.ID
	for {
		list, err := db.All(ctx, s.DB, func(rows *sql.Rows) (f file, err error) {
			err = rows.Scan(&f.id, &f.sha)
			return f, err
		}, "SELECT m.id, m.sha256 FROM core_artifact m WHERE "+where+" AND m.id > ? ORDER BY m.id LIMIT ?", domain.ID, cutoff, last[:], orphanBatch)
		if err != nil || len(list) == 0 {
			return err
		}
		last = list[len(list)-1].id
		for _, f := range list {
			n, err := s.deleteArtifact(ctx, domain, f.id, f.sha, cutoff)
			if err != nil {
				return err
			}
			progress.Add(n)
		}
	}
}

// deleteArtifact removes the row, then the file, while nobody can store the same file.
func (s *Service) deleteArtifact(ctx context.Context, domain pulp.Domain, id pulp.ID, sha string, cutoff pulp.Time) (n int64, err error) {
	defer s.files.lock(sha)()
	err = s.DB.Update(ctx, func(tx *db.Tx) error {
		n, err = tx.Exec(ctx, "DELETE FROM core_artifact AS m WHERE m.id = ? AND m.timestamp_of_interest <= ? AND "+orphanFile, id, cutoff)
		return err
	})
	if err != nil || n == 0 {
		return n, err
	}
	return n, s.Blobs.Delete(ctx, blob.ArtifactKey(domain, sha))
}

// sharedAge is how old a file must be to be taken for a stray where other processes store files too: theirs have no
// row for a moment.
const sharedAge = 10 * time.Minute

// removeStrays deletes files that crashes left: those without a row.
func (s *Service) removeStrays(ctx context.Context, domain pulp.Domain) error {
	now := s.Now()
	young := func(i blob.Info) bool { return s.DB.Engine() == db.PostgreSQL && now.Sub(i.ModTime) < sharedAge }
	prefix := strings.TrimSuffix(blob.ArtifactKey(domain, strings.Repeat("0", 64)), "00/"+strings.Repeat("0", 62))
	err := s.Blobs.List(ctx, prefix, func(i blob.Info) error {
		sha := strings.ReplaceAll(strings.TrimPrefix(i.Key, prefix), "/", "")
		if len(sha) != 64 || young(i) { // not an artifact of this domain
			return ctx.Err()
		}
		defer s.files.lock(sha)()
		known, err := db.Exists(ctx, s.DB, "SELECT 1 FROM core_artifact WHERE domain = ? AND sha256 = ?", domain.ID, sha)
		if err != nil || known {
			return err
		}
		s.Log.InfoContext(ctx, "stray file removed", slog.String("key", i.Key))
		return s.Blobs.Delete(ctx, i.Key)
	})
	if err != nil {
		return err
	}
	return s.Blobs.List(ctx, s.UploadDir+"/", func(i blob.Info) error {
		id, err := pulp.ParseID(strings.TrimPrefix(i.Key, s.UploadDir+"/"))
		if err != nil || young(i) {
			return ctx.Err()
		}
		s.pieces.Lock()
		defer s.pieces.Unlock()
		known, err := db.Exists(ctx, s.DB, "SELECT 1 FROM core_uploadchunk WHERE id = ?", id)
		if err != nil || known {
			return err
		}
		return s.Blobs.Delete(ctx, i.Key)
	})
}

// filesChanged tells content servers that stored files went or were replaced.
func (s *Service) filesChanged(ctx context.Context) error {
	return s.DB.Update(ctx, func(tx *db.Tx) error { return notice.Changed(ctx, tx, notice.Files) })
}
