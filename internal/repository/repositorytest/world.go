// Package repositorytest gives tests of the domain's rules and of plugins all that a server has below HTTP: an engine with the
// core's and the plugins' types, a queue with workers, a database and a store.
package repositorytest

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"granary/internal/blob"
	blobfile "granary/internal/blob/file"
	"granary/internal/db"
	"granary/internal/db/schema"
	"granary/internal/download"
	"granary/internal/keyring"
	"granary/internal/plugin"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/rest/resttest"
	"granary/internal/settings"
	"granary/internal/task"
	"granary/internal/transfer"
)

// Root is the path of the API.
const Root = "/pulp/api/v3/"

// A World is one process of a server. Its methods fail the test where something is not as expected.
type World struct {
	testing.TB
	DB    *db.DB
	API   *rest.Engine
	Tasks *task.Queue
	Repos *repository.Service
	Blobs *blobfile.Store
	Media string     // the store's folder
	Call  *pulp.Call // of the requests; tests may change it
	// Exchange is the folder below which exports may be written and read.
	Exchange string

	Allowed []pulp.Algorithm // the digests that artifacts have

	dirs  dirs
	ahead *atomic.Int64 // how much later it is than the real clock says, in nanoseconds
}

type dirs struct{ media, temp, key, exchange string }

// New makes a world on an empty database, in which all digests are allowed. It runs until the test ends.
func New(tb testing.TB, d *db.DB, plugins ...plugin.Plugin) *World {
	tb.Helper()
	w := &World{
		TB: tb, DB: d, Allowed: pulp.Algorithms[:], dirs: dirs{tb.TempDir(), tb.TempDir(), filepath.Join(tb.TempDir(), "key"), tb.TempDir()}, ahead: &atomic.Int64{},
	}
	ctx := tb.Context()
	schemas := []db.Schema{schema.Core()}
	for _, p := range plugins {
		if p.Schema.Files != nil {
			schemas = append(schemas, p.Schema)
		}
	}
	if _, err := d.Migrate(ctx, schemas); err != nil {
		tb.Fatal(err)
	}
	if _, err := keyring.Create(w.dirs.key); err != nil {
		tb.Fatal(err)
	}
	w.Call = &pulp.Call{
		Domain: pulp.Domain{ID: pulp.NewID(), Name: pulp.DefaultDomain}, Root: "/pulp/", Origin: "http://here", CID: "cid",
		User: &pulp.User{ID: 1, Name: "admin", Superuser: true, Active: true},
	}
	err := d.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO auth_user (id, username, password, is_superuser, is_active, date_joined) VALUES (1, 'admin', '', ?, ?, 1)", true, true)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO core_domain (id, created, updated, name, storage_class, storage_settings, redirect_to_object_storage, hide_guarded_distributions)
			VALUES (?, 1, 1, ?, '', '', ?, ?)`, w.Call.Domain.ID, w.Call.Domain.Name, false, false)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	w.assemble(plugins)
	return w
}

// Another makes a second process of the same server, in which only some digests are allowed: with the same store, and the same
// database, perhaps opened once more.
func (w *World) Another(d *db.DB, allowed []pulp.Algorithm, plugins ...plugin.Plugin) *World {
	w.Helper()
	other := &World{TB: w.TB, DB: d, Allowed: allowed, dirs: w.dirs, ahead: w.ahead, Call: w.Call}
	other.assemble(plugins)
	return other
}

// Now is the time in this world.
func (w *World) Now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// Advance lets time pass.
func (w *World) Advance(d time.Duration) { w.ahead.Add(int64(d)) }

func (w *World) assemble(plugins []plugin.Plugin) {
	w.Helper()
	keys, err := keyring.Load(w.dirs.key)
	if err != nil {
		w.Fatal(err)
	}
	w.Media, w.Exchange = w.dirs.media, w.dirs.exchange
	if w.Blobs, err = blobfile.New(w.dirs.media, w.dirs.temp, w.Allowed); err != nil {
		w.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	w.Tasks = task.New(task.Config{
		DB: w.DB, Keys: keys, Clock: time.Now, TempDir: w.dirs.temp, Root: "/pulp/", // leases don't outlive Advance
		App: task.App{Type: "api", Name: "api"}, Workers: 2, WorkerName: "1@test",
		Cleanup: func(ctx context.Context, created []pulp.Ref) error { return w.Repos.Cleanup(ctx, created) },
	})
	w.API = rest.New(rest.Config{
		DB: w.DB, Keys: keys, Tasks: w.Tasks, Log: log, Now: w.Now, APIRoot: "/pulp/", Auth: resttest.Anybody{},
		Stage: func(ctx context.Context) (blob.Stage, error) { return w.Blobs.Stage(ctx) },
	})
	w.Repos = repository.New(repository.Config{
		DB: w.DB, API: w.API, Tasks: w.Tasks, Blobs: blob.Single{Store: w.Blobs}, Log: log, Now: w.Now, Allowed: w.Allowed, ImportPaths: []string{w.dirs.temp},
		UploadDir: "upload", ContentOrigin: "http://content", ContentPrefix: "/pulp/content/", OrphanAge: 24 * time.Hour,
		HTTP: http.DefaultClient, ScanLimit: 3, ScanPause: time.Millisecond,
		Download: func(r pulp.Remote) (*download.Client, error) {
			return download.New(r, download.Options{Allowed: w.Allowed, ImportPaths: []string{w.dirs.temp}, MaxRetries: 1, Log: log, Sleep: func(context.Context, time.Duration) error { return nil }})
		},
	})
	w.API.Add(w.Repos.Types()...)
	w.API.Add(taskType(), groupType())
	w.API.AddEndpoint(append(w.Repos.OrphanEndpoints(), w.Repos.RepairEndpoint(), w.Repos.ReclaimEndpoint())...)
	w.Tasks.Register(w.Repos.Kinds()...)
	w.Tasks.Register(w.API.Kinds()...)
	host := plugin.Host{
		DB: w.DB, API: w.API, Tasks: w.Tasks, Repos: w.Repos, Blobs: blob.Single{Store: w.Blobs}, Settings: &settings.Settings{MaxConcurrentContent: 25}, Now: w.Now, Log: log,
	}
	var formats []transfer.Format
	versions := []transfer.Component{{Component: "core", Version: "3.95.0"}}
	for _, p := range plugins {
		parts := p.New(host)
		formats = append(formats, parts.Transfer...)
		versions = append(versions, transfer.Component{Component: p.Name, Version: p.Version})
		w.API.Add(parts.Types...)
		w.API.AddEndpoint(parts.Endpoints...)
		w.Tasks.Register(parts.Tasks...)
	}
	exchange := transfer.New(transfer.Config{
		DB: w.DB, API: w.API, Tasks: w.Tasks, Repos: w.Repos, Blobs: host.Blobs, Log: log, Now: w.Now,
		ExportPaths: []string{w.Exchange}, ImportPaths: []string{w.Exchange}, Workers: 100, Versions: versions,
	}, formats)
	w.API.Add(exchange.Types()...)
	w.API.AddEndpoint(exchange.Endpoint())
	w.Tasks.Register(exchange.Kinds()...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Tasks.Run(ctx) }()
	w.Cleanup(func() {
		w.Tasks.Stop(0)
		if err := <-done; err != nil {
			w.Error(err)
		}
		cancel()
		if err := w.Blobs.Close(); err != nil {
			w.Error(err)
		}
	})
	<-w.Tasks.Ready()
}

// Context returns a context that carries the world's call.
func (w *World) Context() context.Context { return pulp.WithCall(w.TB.Context(), w.Call) }

// A taskRow makes hrefs of tasks; what a task came to, tests read from the queue.
type taskRow struct{ rest.Base }

func taskType() *rest.Type {
	return rest.Define(rest.Resource[taskRow]{App: "core", Model: "Task", Path: "tasks", Table: "core_task"}).Type
}

func groupType() *rest.Type {
	return rest.Define(rest.Resource[taskRow]{App: "core", Model: "TaskGroup", Path: "task-groups", Table: "core_taskgroup"}).Type
}
