// Package pipelinetest gives tests of syncs the parts of a server that a sync needs, and upstreams that count and fail.
package pipelinetest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"granary/internal/blob"
	blobfile "granary/internal/blob/file"
	"granary/internal/db"
	"granary/internal/db/schema"
	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/keyring"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/rest/resttest"
	"granary/internal/task"
)

// A House is the core of a server on a fresh database, with an empty store.
type House struct {
	DB    *db.DB
	API   *rest.Engine
	Tasks *task.Queue
	Repos *repository.Service
	Blobs blob.Store
	Log   *slog.Logger
	Now   pulp.Clock
	Media string // the store's folder

	// Ctx is a call in the default domain.
	Ctx context.Context

	tb testing.TB
}

// allowed are the digests that artifacts have unless a test says otherwise.
var allowed = []pulp.Algorithm{pulp.SHA224, pulp.SHA256, pulp.SHA384, pulp.SHA512}

// New makes a house on a database. schemas come after the core's; imports are the folders that file:// may lead to.
func New(tb testing.TB, d *db.DB, imports []string, schemas ...db.Schema) *House {
	tb.Helper()
	dir := tb.TempDir()
	h := &House{DB: d, Media: filepath.Join(dir, "media"), Log: slog.New(slog.DiscardHandler), Now: time.Now, tb: tb}
	ctx := context.Background()
	if _, err := d.Migrate(ctx, append([]db.Schema{schema.Core()}, schemas...)); err != nil {
		tb.Fatal(err)
	}
	temp := filepath.Join(dir, "tmp")
	store, err := blobfile.New(h.Media, temp, allowed)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		left, err := os.ReadDir(temp)
		if len(left) > 0 || err != nil {
			tb.Errorf("%d staged files are left: %v", len(left), err)
		}
		if err := store.Close(); err != nil {
			tb.Error(err)
		}
	})
	h.Blobs = store
	keys, err := keyring.Create(filepath.Join(dir, "key"))
	if err != nil {
		tb.Fatal(err)
	}
	h.Tasks = task.New(task.Config{
		DB: d, Keys: keys, Log: h.Log, Clock: h.Now, TempDir: filepath.Join(dir, "tasks"), Root: "/pulp/", Workers: 4, WorkerName: "worker@test",
		App:     task.App{Type: "api", Name: "api@test"},
		Cleanup: func(ctx context.Context, created []pulp.Ref) error { return h.Repos.Cleanup(ctx, created) },
	})
	h.API = rest.New(rest.Config{DB: d, Keys: keys, Tasks: h.Tasks, Log: h.Log, Now: h.Now, APIRoot: "/pulp/", Stage: h.Blobs.Stage, Auth: resttest.Anybody{}})
	h.Repos = repository.New(repository.Config{
		DB: d, API: h.API, Tasks: h.Tasks, Blobs: blob.Single{Store: h.Blobs}, Log: h.Log, Now: h.Now, Allowed: allowed, ImportPaths: imports, UploadDir: "upload",
		OrphanAge: 24 * time.Hour,
		Download: func(r pulp.Remote) (*download.Client, error) {
			return download.New(r, download.Options{Allowed: allowed, ImportPaths: imports, Jitter: func(time.Duration) time.Duration { return 0 }})
		},
	})
	h.API.Add(h.Repos.Types()...)
	h.Tasks.Register(h.Repos.Kinds()...)
	h.Tasks.Register(h.API.Kinds()...)
	domain := pulp.Domain{ID: pulp.NewID(), Name: pulp.DefaultDomain}
	err = d.Update(ctx, func(tx *db.Tx) error {
		settings, err := keys.Encrypt("{}")
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO core_domain (id, created, updated, name, storage_class, storage_settings, redirect_to_object_storage, hide_guarded_distributions)"+
			" VALUES (?, 1, 1, ?, 'pulpcore.app.models.storage.FileSystem', ?, ?, ?)", domain.ID, domain.Name, settings, false, false)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	h.Ctx = pulp.WithCall(ctx, &pulp.Call{Domain: domain, Root: "/pulp/"})
	return h
}

// Start runs the queue until the test ends. All types and kinds are declared before.
func (h *House) Start() {
	h.tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.Tasks.Run(ctx); err != nil {
			h.tb.Error(err)
		}
	})
	h.tb.Cleanup(func() {
		h.Tasks.Stop(0)
		cancel()
		wg.Wait()
	})
	<-h.Tasks.Ready()
}

// In is the house for a subtest: failures are that one's.
func (h *House) In(tb testing.TB) *House {
	other := *h
	other.tb = tb
	return &other
}

// Insert adds an object of a type and returns its id. Columns that are not given have their defaults.
func (h *House) Insert(t *rest.Type, columns map[string]any) pulp.ID {
	h.tb.Helper()
	var id pulp.ID
	err := h.DB.Update(h.Ctx, func(tx *db.Tx) (err error) {
		id, err = t.InsertNew(h.Ctx, tx, columns)
		return err
	})
	if err != nil {
		h.tb.Fatal(err)
	}
	return id
}

// Dispatch dispatches a task.
func (h *House) Dispatch(spec task.Spec) pulp.ID {
	h.tb.Helper()
	t, err := h.Tasks.Dispatch(h.Ctx, spec)
	if err != nil {
		h.tb.Fatal(err)
	}
	return t.ID
}

// Wait returns a task once it has ended.
func (h *House) Wait(id pulp.ID) *task.Task {
	h.tb.Helper()
	ctx, cancel := context.WithTimeout(h.Ctx, time.Minute)
	defer cancel()
	t, err := h.Tasks.Wait(ctx, id)
	if err != nil {
		h.tb.Fatal(err)
	}
	return t
}

// Count returns the number that a query gives.
func (h *House) Count(query string, args ...any) int64 {
	h.tb.Helper()
	n, err := db.Value[int64](h.Ctx, h.DB, query, args...)
	if errs.Is(err, errs.NotFound) {
		return 0
	}
	if err != nil {
		h.tb.Fatal(err)
	}
	return n
}

// Text returns the text that a query gives in one column, a line for each row.
func (h *House) Text(query string, args ...any) []string {
	h.tb.Helper()
	list, err := db.Column[string](h.Ctx, h.DB, query, args...)
	if err != nil {
		h.tb.Fatal(err)
	}
	return list
}
