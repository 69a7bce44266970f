package api

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"granary/internal/blob"
	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/storage"
	"granary/internal/task"
)

// A migration is the body of a request that moves a domain to another store.
type migration struct {
	Class   string          `api:"storage_class,req,choices=pulpcore.app.models.storage.FileSystem|storages.backends.s3boto3.S3Boto3Storage|storages.backends.azure_storage.AzureStorage,enum=StorageClassEnum"`
	Storage StorageSettings `api:"storage_settings,req"`
}

const taskMigrate = "pulpcore.app.tasks.migrate.migrate_backend"

// moveArgs say where a domain moves. Tasks' arguments are stored encrypted.
type moveArgs struct {
	Class    storage.Class    `json:"storage_class"`
	Settings storage.Settings `json:"storage_settings"`
}

func (a *API) migrateDomain(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var in migration
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	d := pulp.CallOf(ctx).Domain
	if d.Name == pulp.DefaultDomain {
		return nil, errs.List("Default domain can not be migrated.")
	}
	class := storage.Class(in.Class)
	if wrong := in.Storage.check(class, nil); wrong != nil {
		return nil, storageError(wrong)
	}
	if !class.Installed() {
		return nil, errNotInstalled()
	}
	if err := a.tryStorage(ctx, class, in.Storage.checked()); err != nil {
		return nil, err
	}
	return a.Engine.Dispatch(ctx, task.Spec{
		Name: taskMigrate, Args: moveArgs{class, in.Storage.checked()}, Exclusive: []string{pulp.RefTo(a.domains.Label, d.ID).PRN()},
	})
}

// A move takes a domain's files to another store. It can be broken off at any time, and begun again: what is there is not copied
// twice, and the domain's row changes last. The files in the old store are left.
type move struct {
	*API
	domain pulp.Domain
	from   blob.Store
	to     blob.Store
	args   moveArgs
}

// copies is how many files are copied at once.
const copies = 4

func (a *API) runMigrate(ctx context.Context, j *task.Job) (_ any, err error) {
	m := move{API: a, domain: pulp.CallOf(ctx).Domain}
	if err := j.Args(&m.args); err != nil {
		return nil, err
	}
	copied := j.Progress("migrate", "Migrating Artifacts")
	defer copied.End(&err)
	updated := j.Progress("update", "Update Domain("+m.domain.Name+")'s Backend Settings")
	defer updated.End(&err)
	updated.SetTotal(1)

	m.from = a.Stores.Of(m.domain.ID)
	if m.to, err = a.Stores.Open(ctx, m.args.Class, m.args.Settings); err != nil {
		return nil, fmt.Errorf("open the new store: %w", err)
	}
	if c, ok := m.to.(io.Closer); ok {
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	// Artifacts that are stored from now on, by requests and by content servers, go to the old place until the row has changed.
	// Those are copied in the end, while nobody can store more; the margin is for clocks of other machines that are late.
	began := a.Now.Now() - pulp.Time(time.Hour/time.Microsecond)
	total, err := db.Value[int64](ctx, a.DB, "SELECT count(*) FROM core_artifact WHERE domain = ?", m.domain.ID)
	if err != nil {
		return nil, err
	}
	copied.SetTotal(total)
	if err := m.copyAll(ctx, 0, func() { copied.Add(1) }); err != nil {
		return nil, err
	}
	err = a.DB.Hold(ctx, []db.Lock{{Name: blob.MoveLock(m.domain.ID)}}, func(ctx context.Context) error {
		if err := m.copyAll(ctx, began, func() {}); err != nil {
			return err
		}
		if err := m.copyChunks(ctx); err != nil {
			return err
		}
		return m.flip(ctx, j)
	})
	if err != nil {
		return nil, err
	}
	updated.Add(1)
	return nil, nil
}

// An artifactFile is what is copied.
type artifactFile struct {
	id   pulp.ID
	sha  string
	size int64
}

// copyAll copies the files of all artifacts that were made since a time, and says so for each. With the time 0 a file that is
// there is read, since an earlier run or somebody else put it there; later it is enough that it has its size.
func (m *move) copyAll(ctx context.Context, since pulp.Time, done func()) error {
	var last pulp.ID
	for {
		list, err := db.All(ctx, m.DB, func(rows *sql.Rows) (f artifactFile, err error) {
			err = rows.Scan(&f.id, &f.sha, &f.size)
			return f, err
		}, "SELECT id, sha256, size FROM core_artifact WHERE domain = ? AND created >= ? AND id > ? ORDER BY id LIMIT 200", m.domain.ID, int64(since), last[:])
		if err != nil || len(list) == 0 {
			return err
		}
		last = list[len(list)-1].id
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(copies)
		for _, f := range list {
			g.Go(func() error {
				err := m.copyArtifact(ctx, f, since == 0)
				if err == nil {
					done()
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
}

func (m *move) copyArtifact(ctx context.Context, f artifactFile, verify bool) error {
	key := blob.ArtifactKey(m.domain, f.sha)
	there, err := m.has(ctx, key, f, verify)
	if err != nil || there {
		return err
	}
	sha, err := m.copy(ctx, key, f.sha)
	switch {
	case errs.Is(err, errs.NotFound):
		// an orphan cleanup may have removed it a moment ago
		used, derr := db.Exists(ctx, m.DB, "SELECT 1 FROM core_artifact WHERE id = ?", f.id)
		if derr != nil || !used {
			return derr
		}
		return errs.Ef(errs.Invalid, "Found missing file for artifact(sha256=%s). Please run the repair task or delete the offending artifact.", f.sha)
	case err != nil:
		return fmt.Errorf("copy artifact %s: %w", f.sha, err)
	case sha != f.sha:
		return errs.Ef(errs.Invalid, "Found damaged file for artifact(sha256=%s). Please run the repair task or delete the offending artifact.", f.sha)
	}
	return nil
}

// has says whether the new store has an artifact's file. A wrong one is removed.
func (m *move) has(ctx context.Context, key string, f artifactFile, verify bool) (ok bool, err error) {
	info, err := m.to.Stat(ctx, key)
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	if err != nil || !verify {
		return err == nil && info.Size == f.size, err
	}
	there, err := m.to.Open(ctx, key)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, there.Close()) }()
	if same(ctx, m.from, there) {
		return true, nil
	}
	sum := sha256.New()
	if err := copyPieces(ctx, sum, there); err != nil {
		return false, err
	}
	if hex.EncodeToString(sum.Sum(nil)) == f.sha {
		return true, nil
	}
	m.Log.WarnContext(ctx, "a wrong file lay in a domain's new store", slog.String("key", key))
	return false, m.to.Delete(ctx, key)
}

// same says whether a store has the very file, since it is the same folder.
func same(ctx context.Context, store blob.Store, f blob.File) bool {
	g, err := store.Open(ctx, f.Info().Key)
	if err != nil {
		return false
	}
	defer g.Close() //nolint:errcheck // it was only opened
	infos := make([]fs.FileInfo, 2)
	for i, f := range []blob.File{f, g} {
		o, ok := f.(blob.OSFile)
		if !ok {
			return false
		}
		if infos[i], err = o.OSFile().Stat(); err != nil {
			return false
		}
	}
	return os.SameFile(infos[0], infos[1])
}

// copy copies a file and returns its digest; one that has not the digest that is wanted is not kept. An empty one is not checked.
func (m *move) copy(ctx context.Context, key, want string) (sha string, err error) {
	f, err := m.from.Open(ctx, key)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	stage, err := m.to.Stage(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, stage.Close()) }()
	if err := copyPieces(ctx, stage, f); err != nil {
		return "", err
	}
	sha = stage.Digests()[pulp.SHA256]
	if want != "" && sha != want {
		return sha, nil
	}
	return sha, stage.Commit(ctx, key)
}

// copyPieces copies until the context ends.
func copyPieces(ctx context.Context, w io.Writer, r io.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.CopyN(w, r, 4<<20); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// copyChunks copies the pieces of uploads that are not complete.
func (m *move) copyChunks(ctx context.Context) error {
	ids, err := db.Column[pulp.ID](ctx, m.DB, "SELECT c.id FROM core_uploadchunk c JOIN core_upload u ON u.id = c.upload WHERE u.domain = ?", m.domain.ID)
	for _, id := range ids {
		if err == nil {
			_, err = m.copy(ctx, m.Settings.ChunkedUploadDir+"/"+id.String(), "")
		}
		if errs.Is(err, errs.NotFound) { // its upload ended a moment ago
			err = nil
		}
	}
	return err
}

// flip makes the new store the domain's.
func (m *move) flip(ctx context.Context, j *task.Job) error {
	options, err := json.Marshal(m.args.Settings)
	if err != nil {
		return err
	}
	sealed, err := m.Engine.Keys().Encrypt(string(options))
	if err != nil {
		return err
	}
	return m.DB.Update(ctx, func(tx *db.Tx) error {
		if err := j.Fence(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "UPDATE core_domain SET storage_class = ?, storage_settings = ?, updated = ? WHERE id = ?", string(m.args.Class), sealed, m.Now.Now(), m.domain.ID)
		if err != nil {
			return err
		}
		return notice.Changed(ctx, tx, notice.Domain, m.domain.ID)
	})
}
