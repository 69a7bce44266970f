package repository

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

// An Upload is a file that a client sends in pieces.
type Upload struct {
	rest.Base
	Size      int64         `api:"size,req"`
	Completed pulp.Time     `api:"completed,ro,docs"` // clients' models have it
	Chunks    []UploadChunk `api:"chunks,ro,computed,detail,schema=UploadChunk"`
}

// An UploadChunk is one piece, in bytes.
type UploadChunk struct {
	Offset int64 `api:"offset,ro"`
	Size   int64 `api:"size,ro"`
}

type chunkInput struct {
	File   *rest.File `api:"file,req,wo"`
	SHA256 *string    `api:"sha256,null,wo"`
}

type commitInput struct {
	SHA256 string `api:"sha256,req"`
}

const (
	taskCommit  = "pulpcore.app.tasks.upload.commit"
	taskUploads = "pulpcore.app.tasks.orphan.upload_cleanup"
)

func (s *Service) defineUploads() rest.Typed[Upload] {
	return rest.Define(rest.Resource[Upload]{
		App: "core", Model: "Upload", Path: "uploads", Table: "core_upload", Roles: true,
		Create: rest.Now, Delete: rest.Now, DetailSchema: "UploadDetail",
		Checks: map[string]func(*Upload) []string{"size": func(u *Upload) []string {
			if u.Size < 0 {
				return []string{"Ensure this value is greater than or equal to 0."}
			}
			return nil
		}},
		Deleting: s.dropChunks,
		Expand:   expandUploads,
		Filters:  rest.Numbers("size", "m.size", "", "gt", "lt", "range"),
		Ordering: []string{"pk", "pulp_created", "pulp_id", "pulp_last_updated", "size"},
		Unscoped: true,
		Actions: []rest.Action{
			{Name: "update", Method: http.MethodPut, Request: chunkInput{}, RequestSchema: "UploadChunk", ResponseName: "UploadResponse", Headers: []string{"Content-Range"}, Handle: s.putChunk},
			{Name: "commit", Request: commitInput{}, RequestSchema: "UploadCommit", Task: true, Handle: s.commitUpload},
		},
	})
}

func expandUploads(ctx context.Context, q db.Querier, list []*Upload) error {
	byID := make(map[pulp.ID]*Upload, len(list))
	ids := make([]pulp.ID, len(list))
	for i, u := range list {
		ids[i], byID[u.ID] = u.ID, u
	}
	marks, args := db.In(ids)
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var id pulp.ID
		var c UploadChunk
		err := rows.Scan(&id, &c.Offset, &c.Size)
		byID[id].Chunks = append(byID[id].Chunks, c)
		return err
	}, "SELECT upload, start, size FROM core_uploadchunk WHERE upload IN "+marks+" ORDER BY start", args...)
}

// A chunk is a stored piece of an upload, in bytes.
type chunk struct {
	id          pulp.ID // of its row, and in the store
	start, size int64
}

func scanChunk(rows *sql.Rows) (c chunk, err error) {
	err = rows.Scan(&c.id, &c.start, &c.size)
	return c, err
}

func chunks(ctx context.Context, q db.Querier, upload pulp.ID) ([]chunk, error) {
	return db.All(ctx, q, scanChunk, "SELECT id, start, size FROM core_uploadchunk WHERE upload = ? ORDER BY start", upload)
}

func (s *Service) chunkKey(id pulp.ID) string { return s.UploadDir + "/" + id.String() }

// chunkLock is shared by those who store chunks; who holds it alone sees no chunk's file without its row but a stray.
const chunkLock = "upload chunks"

var contentRange = regexp.MustCompile(`^bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)$`)

// putChunk takes one piece. A piece at the place of an earlier one replaces it; pieces that overlap otherwise are refused.
func (s *Service) putChunk(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	u, err := s.Uploads.Object(ctx, r)
	if err != nil {
		return nil, err
	}
	var in chunkInput
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	m := contentRange.FindStringSubmatch(strings.TrimSpace(r.HTTP.Header.Get("Content-Range")))
	if m == nil {
		return nil, errs.NonFieldError("Invalid or missing content range header.")
	}
	start, _ := strconv.ParseInt(m[1], 10, 64)
	end, _ := strconv.ParseInt(m[2], 10, 64)
	c := chunk{pulp.NewID(), start, in.File.Stage.Size()}
	switch {
	case c.size == 0 || end-start+1 != c.size:
		return nil, errs.NonFieldError("Chunk size does not match content range.")
	case end > u.Size-1:
		return nil, errs.NonFieldError("End byte is greater than upload size.")
	case in.SHA256 != nil && *in.SHA256 != in.File.Stage.Digests()[pulp.SHA256]:
		return nil, errs.List("Checksum does not match chunk upload.")
	}
	err = s.DB.Hold(ctx, []db.Lock{{Name: chunkLock, Shared: true}, staying(u.Domain)}, func(ctx context.Context) error {
		if err := in.File.Stage.Commit(ctx, s.chunkKey(c.id)); err != nil {
			return err
		}
		err := s.DB.Update(ctx, func(tx *db.Tx) error { return s.saveChunk(ctx, tx, u, c) })
		if db.IsForeignKey(err) { // it was deleted meanwhile
			err = errs.NotFoundModel(s.Uploads.Model)
		}
		if err != nil {
			err = errors.Join(err, s.Blobs.Of(u.Domain).Delete(ctx, s.chunkKey(c.id)))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if u, err = s.Uploads.Get(ctx, s.DB, u.ID); err != nil {
		return nil, err
	}
	body, err := s.Uploads.JSON(ctx, s.DB, u)
	return rest.OK(body), err
}

func (s *Service) saveChunk(ctx context.Context, tx *db.Tx, u *Upload, c chunk) error {
	upload := u.ID
	if err := tx.Lock(ctx, "upload "+upload.String()); err != nil { // its chunks stay as they are read
		return err
	}
	near, err := db.All(ctx, tx, scanChunk, "SELECT * FROM (SELECT id, start, size FROM core_uploadchunk WHERE upload = ? AND start <= ? ORDER BY start DESC LIMIT 1) a"+
		" UNION ALL SELECT * FROM (SELECT id, start, size FROM core_uploadchunk WHERE upload = ? AND start > ? ORDER BY start LIMIT 1) b", upload, c.start, upload, c.start)
	if err != nil {
		return err
	}
	for _, o := range near {
		switch {
		case o.start == c.start:
			if _, err := tx.Exec(ctx, "DELETE FROM core_uploadchunk WHERE id = ?", o.id); err != nil {
				return err
			}
			s.deleteLater(ctx, tx, u.Domain, s.chunkKey(o.id))
		case o.start < c.start+c.size && c.start < o.start+o.size:
			return errs.NonFieldError("The chunk overlaps with the one at offset %d.", o.start)
		}
	}
	if _, err := tx.Exec(ctx, "INSERT INTO core_uploadchunk (id, upload, start, size) VALUES (?, ?, ?, ?)", c.id, upload, c.start, c.size); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE core_upload SET updated = ? WHERE id = ?", s.Now.Now(), upload) // it is not abandoned
	return err
}

// deleteLater removes a blob once the transaction is durable. A crash in between leaves a stray file, which orphan cleanup finds.
func (s *Service) deleteLater(ctx context.Context, tx *db.Tx, domain pulp.ID, key string) {
	tx.AfterCommit(func() {
		if err := s.Blobs.Of(domain).Delete(context.WithoutCancel(ctx), key); err != nil {
			s.Log.WarnContext(ctx, "stray file left", "key", key, "error", err)
		}
	})
}

func (s *Service) dropChunks(ctx context.Context, tx *db.Tx, u *Upload) error {
	list, err := chunks(ctx, tx, u.ID)
	for _, c := range list {
		s.deleteLater(ctx, tx, u.Domain, s.chunkKey(c.id))
	}
	return err
}

// Assemble joins an upload's pieces. The caller closes the stage.
func (s *Service) Assemble(ctx context.Context, upload pulp.ID) (_ blob.Stage, err error) {
	u, err := s.Uploads.Get(ctx, s.DB, upload)
	if err != nil {
		return nil, err
	}
	list, err := chunks(ctx, s.DB, upload)
	if err != nil {
		return nil, err
	}
	var at int64
	for _, c := range list {
		if c.start != at {
			return nil, errs.NonFieldError("The upload has a gap at byte %d.", at)
		}
		at += c.size
	}
	if at != u.Size {
		return nil, errs.NonFieldError("The upload has %d of its %d bytes.", at, u.Size)
	}
	store := s.Blobs.Of(u.Domain)
	stage, err := store.Stage(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stage.Close())
		}
	}()
	for _, c := range list {
		f, err := store.Open(ctx, s.chunkKey(c.id))
		if err != nil {
			return nil, fmt.Errorf("chunk at %d of upload %s: %w", c.start, upload, err)
		}
		_, err = io.Copy(stage, readerOf(ctx, f))
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("chunk at %d of upload %s: %w", c.start, upload, err)
		}
	}
	return stage, nil
}

// readerOf makes reading end with the context.
func readerOf(ctx context.Context, r io.Reader) io.Reader {
	return readFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// DropUpload deletes an upload with its pieces, in the transaction that made something of it.
func (s *Service) DropUpload(ctx context.Context, tx *db.Tx, upload pulp.ID) error {
	u, err := s.Uploads.Get(ctx, tx, upload)
	if err != nil {
		return err
	}
	return s.Uploads.Remove(ctx, tx, u)
}

type commitArgs struct {
	Upload pulp.ID `json:"upload"`
	SHA256 string  `json:"sha256"`
}

func (s *Service) commitUpload(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	u, err := s.Uploads.Object(ctx, r)
	if err != nil {
		return nil, err
	}
	var in commitInput
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	return s.API.Dispatch(ctx, task.Spec{Name: taskCommit, Args: commitArgs{u.ID, in.SHA256}, Exclusive: []string{s.Uploads.Ref(u).PRN()}})
}

func (s *Service) runCommit(ctx context.Context, j *task.Job) (any, error) {
	var in commitArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	stage, err := s.Assemble(ctx, in.Upload)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stage.Close() }()
	if got := stage.Digests()[pulp.SHA256]; in.SHA256 != got {
		return nil, errs.NonFieldError("The sha256 checksum did not match.")
	}
	list, err := s.SaveArtifacts(ctx, []blob.Stage{stage})
	if err != nil {
		return nil, err
	}
	a := &list[0]
	if !a.Fresh {
		return nil, errArtifactThere(&a.Artifact)
	}
	return nil, s.DB.Update(ctx, func(tx *db.Tx) error {
		if err := j.Created(ctx, tx, pulp.RefTo(s.Artifacts.Label, a.ID)); err != nil {
			return err
		}
		return s.DropUpload(ctx, tx, in.Upload)
	})
}

// runUploads removes uploads, of all domains, that nobody has sent anything to for long.
func (s *Service) runUploads(ctx context.Context, j *task.Job) (_ any, err error) {
	progress := j.Progress("clean-up.uploads", "Clean up uploads")
	defer progress.End(&err)
	if s.UploadAge <= 0 {
		return nil, nil
	}
	ids, err := db.Column[pulp.ID](ctx, s.DB, "SELECT id FROM core_upload WHERE updated < ?", s.Now.Now()-pulp.Time(s.UploadAge.Microseconds()))
	if err != nil {
		return nil, err
	}
	progress.SetTotal(int64(len(ids)))
	for _, id := range ids {
		if err := s.DB.Update(ctx, func(tx *db.Tx) error { return s.DropUpload(ctx, tx, id) }); err != nil && !errs.Is(err, errs.NotFound) {
			return nil, err
		}
		progress.Add(1)
	}
	return nil, nil
}
