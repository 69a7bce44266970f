package repository

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"granary/internal/blob"
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
	found, err := s.API.FindMany(ctx, s.DB, Contents.Name, refs)
	switch missing := append(found.Missing, found.Strays...); {
	case err != nil:
		return nil, err
	case found.Bad != nil:
		return nil, errs.Field("content_hrefs", found.Bad[0])
	case missing != nil:
		return nil, errs.Field("content_hrefs", "URI "+missing[0]+" not found for content.")
	}
	return found.IDs, nil
}

const (
	orphanContent = "NOT EXISTS (SELECT 1 FROM core_repositorycontent rc WHERE rc.content = m.id)"
	orphanFile    = "NOT EXISTS (SELECT 1 FROM core_contentartifact ca WHERE ca.artifact = m.id) AND NOT EXISTS (SELECT 1 FROM core_publishedartifact pa WHERE pa.artifact = m.id)" +
		" AND NOT EXISTS (SELECT 1 FROM core_profileartifact pr WHERE pr.artifact = m.id)"

	orphanBatch = 200 // objects that are looked for at once
	orphanFiles = 50  // files that are deleted while nobody can store them
)

// runOrphans removes content in no version, then artifacts of no content, then files that nothing knows of.
func (s *Service) runOrphans(ctx context.Context, j *task.Job) (_ any, err error) {
	var in *orphanArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	domains := []pulp.Domain{pulp.CallOf(ctx).Domain}
	if in == nil { // a schedule's task, which is for all
		in = &orphanArgs{}
		if domains, err = s.domains(ctx); err != nil {
			return nil, err
		}
	}
	age := s.OrphanAge
	if in.Minutes != nil {
		age = time.Duration(min(*in.Minutes, maxMinutes)) * time.Minute
	}
	c := cleanup{s, s.Now.Now() - pulp.Time(age.Microseconds()), domains}
	if err := c.removeContent(ctx, j, in.Content); err != nil {
		return nil, fmt.Errorf("remove orphan content: %w", err)
	}
	if err := c.removeArtifacts(ctx, j); err != nil {
		return nil, fmt.Errorf("remove orphan artifacts: %w", err)
	}
	if err := c.removeStrays(ctx); err != nil {
		return nil, fmt.Errorf("remove stray files: %w", err)
	}
	return nil, nil
}

// maxMinutes is about as long ago as 1970: nothing is older.
const maxMinutes = 30_000_000

func (s *Service) domains(ctx context.Context) ([]pulp.Domain, error) {
	return db.All(ctx, s.DB, func(rows *sql.Rows) (d pulp.Domain, err error) {
		err = rows.Scan(&d.ID, &d.Name)
		return d, err
	}, "SELECT id, name FROM core_domain ORDER BY name")
}

// A cleanup is an orphan cleanup under way.
type cleanup struct {
	*Service
	cutoff  pulp.Time // what nobody was interested in since goes
	domains []pulp.Domain
}

// each calls f for each domain, after telling how much count finds in all.
func (c *cleanup) each(ctx context.Context, progress *task.Progress, count string, args []any, f func(d pulp.Domain) error) error {
	var total int64
	for _, d := range c.domains {
		n, err := db.Value[int64](ctx, c.DB, count, append([]any{d.ID, c.cutoff}, args...)...)
		if err != nil {
			return err
		}
		total += n
	}
	progress.SetTotal(total)
	return c.eachDomain(ctx, f)
}

// eachDomain calls f for each domain. A domain whose store fails does not keep the others from being cleaned.
func (c *cleanup) eachDomain(ctx context.Context, f func(d pulp.Domain) error) error {
	var failed []error
	for _, d := range c.domains {
		if err := f(d); err != nil {
			failed = append(failed, fmt.Errorf("domain %s: %w", d.Name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

func (c *cleanup) removeContent(ctx context.Context, j *task.Job, only []pulp.ID) (err error) {
	progress := j.Progress("clean-up.content", "Clean up orphan Content")
	defer progress.End(&err)
	old, args := "m.domain = ? AND m.timestamp_of_interest <= ? AND "+orphanContent, []any(nil)
	if only != nil {
		marks, ids := db.In(only)
		old, args = old+" AND m.id IN "+marks, ids
	}
	return c.each(ctx, progress, "SELECT count(*) FROM core_content m WHERE "+old, args, func(d pulp.Domain) error {
		var last pulp.ID
		for {
			ids, err := db.Column[pulp.ID](ctx, c.DB, "SELECT m.id FROM core_content m WHERE "+old+" AND m.id > ? ORDER BY m.id LIMIT ?",
				slices.Concat([]any{d.ID, c.cutoff}, args, []any{last[:], orphanBatch})...)
			if err != nil || len(ids) == 0 {
				return err
			}
			last = ids[len(ids)-1]
			n, err := unused(ids, func(ids []pulp.ID) (int64, error) { return c.deleteContent(ctx, ids) })
			if err != nil {
				return err
			}
			progress.Add(n)
		}
	})
}

// unused calls remove for all objects, or where one of them is part of another, or was taken into use at this moment, for one
// after the other: then all but these go.
func unused[T any](list []T, remove func([]T) (int64, error)) (n int64, err error) {
	n, err = remove(list)
	if len(list) == 1 && db.IsForeignKey(err) {
		return 0, nil
	}
	if !db.IsForeignKey(err) {
		return n, err
	}
	for i := len(list) - 1; i >= 0; i-- { // what is part of another was made after it
		m, err := unused(list[i:i+1], remove)
		if err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

func (c *cleanup) deleteContent(ctx context.Context, ids []pulp.ID) (n int64, err error) {
	marks, args := db.In(ids)
	err = c.DB.Update(ctx, func(tx *db.Tx) error {
		n, err = tx.Exec(ctx, "DELETE FROM core_content AS m WHERE m.id IN "+marks+" AND m.timestamp_of_interest <= ? AND "+orphanContent,
			append(slices.Clip(args), c.cutoff)...)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "DELETE FROM core_label AS l WHERE l.object IN "+marks+" AND NOT EXISTS (SELECT 1 FROM core_content m WHERE m.id = l.object)", args...)
		return err
	})
	return n, err
}

// An orphanArtifact is an artifact that is to go.
type orphanArtifact struct {
	id  pulp.ID
	sha string
}

func (c *cleanup) removeArtifacts(ctx context.Context, j *task.Job) (err error) {
	progress := j.Progress("clean-up.artifacts", "Clean up orphan Artifacts")
	defer progress.End(&err)
	const old = "m.domain = ? AND m.timestamp_of_interest <= ? AND " + orphanFile
	return c.each(ctx, progress, "SELECT count(*) FROM core_artifact m WHERE "+old, nil, func(d pulp.Domain) error {
		var last pulp.ID
		for {
			list, err := db.All(ctx, c.DB, func(rows *sql.Rows) (a orphanArtifact, err error) {
				err = rows.Scan(&a.id, &a.sha)
				return a, err
			}, "SELECT m.id, m.sha256 FROM core_artifact m WHERE "+old+" AND m.id > ? ORDER BY m.id LIMIT ?", d.ID, c.cutoff, last[:], orphanBatch)
			if err != nil || len(list) == 0 {
				return err
			}
			last = list[len(list)-1].id
			for part := range slices.Chunk(list, orphanFiles) {
				n, err := unused(part, func(part []orphanArtifact) (int64, error) { return c.deleteArtifacts(ctx, d, part) })
				if err != nil {
					return err
				}
				progress.Add(n)
			}
		}
	})
}

// deleteArtifacts removes rows, then files, while nobody can store the same files.
func (c *cleanup) deleteArtifacts(ctx context.Context, d pulp.Domain, list []orphanArtifact) (n int64, err error) {
	ids, shas := make([]pulp.ID, len(list)), make([]string, len(list))
	for i, a := range list {
		ids[i], shas[i] = a.id, a.sha
	}
	marks, args := db.In(ids)
	err = c.DB.Hold(ctx, removing(shas), func(ctx context.Context) error {
		var gone []string
		err := c.DB.Update(ctx, func(tx *db.Tx) (err error) {
			gone, err = db.Column[string](ctx, tx, "DELETE FROM core_artifact AS m WHERE m.id IN "+marks+" AND m.timestamp_of_interest <= ? AND "+orphanFile+" RETURNING sha256",
				append(args, c.cutoff)...)
			return err
		})
		if err != nil {
			return err
		}
		n = int64(len(gone))
		for _, sha := range gone {
			if err := c.Blobs.Of(d.ID).Delete(ctx, blob.ArtifactKey(d, sha)); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

// removeStrays deletes files that crashes left: those without a row.
func (c *cleanup) removeStrays(ctx context.Context) error {
	return c.eachDomain(ctx, func(d pulp.Domain) error {
		if err := c.removeStrayArtifacts(ctx, d); err != nil {
			return err
		}
		return c.removeStrayChunks(ctx, d)
	})
}

func (c *cleanup) removeStrayArtifacts(ctx context.Context, d pulp.Domain) error {
	prefix := strings.TrimSuffix(blob.ArtifactKey(d, strings.Repeat("0", 64)), "00/"+strings.Repeat("0", 62))
	return c.files(ctx, d, prefix, func(list []blob.Info) error {
		var shas []string
		for _, i := range list {
			sha := strings.ReplaceAll(strings.TrimPrefix(i.Key, prefix), "/", "")
			if len(sha) == 64 && blob.ArtifactKey(d, sha) == i.Key { // and not another domain's
				shas = append(shas, sha)
			}
		}
		known, err := artifactIDs(ctx, c.DB, d.ID, shas)
		if err != nil {
			return err
		}
		for _, sha := range shas {
			if known[sha].IsZero() {
				if err := c.removeStrayArtifact(ctx, d, sha); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// removeStrayArtifact deletes a file that had no row, if it has none while nobody can store the same file.
func (c *cleanup) removeStrayArtifact(ctx context.Context, d pulp.Domain, sha string) error {
	return c.DB.Hold(ctx, removing([]string{sha}), func(ctx context.Context) error {
		known, err := artifactIDs(ctx, c.DB, d.ID, []string{sha})
		if err != nil || !known[sha].IsZero() {
			return err
		}
		return c.removeStray(ctx, d, blob.ArtifactKey(d, sha))
	})
}

// removeStrayChunks deletes chunks without a row, of whatever domain: several may have one folder.
func (c *cleanup) removeStrayChunks(ctx context.Context, d pulp.Domain) error {
	prefix := c.UploadDir + "/"
	return c.files(ctx, d, prefix, func(list []blob.Info) error {
		var ids []pulp.ID
		for _, i := range list {
			if id, err := pulp.ParseID(strings.TrimPrefix(i.Key, prefix)); err == nil {
				ids = append(ids, id)
			}
		}
		marks, args := db.In(ids)
		return c.DB.Hold(ctx, []db.Lock{{Name: chunkLock}}, func(ctx context.Context) error {
			known, err := db.Column[pulp.ID](ctx, c.DB, "SELECT id FROM core_uploadchunk WHERE id IN "+marks, args...)
			if err != nil {
				return err
			}
			for _, id := range ids {
				if !slices.Contains(known, id) {
					if err := c.removeStray(ctx, d, c.chunkKey(id)); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
}

func (c *cleanup) removeStray(ctx context.Context, d pulp.Domain, key string) error {
	c.Log.InfoContext(ctx, "stray file removed", slog.String("key", key))
	return c.Blobs.Of(d.ID).Delete(ctx, key)
}

// files calls f with the files of a domain's store below a prefix, some at a time.
func (c *cleanup) files(ctx context.Context, d pulp.Domain, prefix string, f func(list []blob.Info) error) error {
	var list []blob.Info
	err := c.Blobs.Of(d.ID).List(ctx, prefix, func(i blob.Info) (err error) {
		if list = append(list, i); len(list) == batchSize {
			err = f(list)
			list = list[:0]
		}
		return err
	})
	if err != nil || len(list) == 0 {
		return err
	}
	return f(list)
}
