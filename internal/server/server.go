// Package server puts the parts together: it opens the data folder and the database, makes the engine, the queue, the
// plugins and the content server, and runs the roles that a process is to have. Start with [Open] and [Server.Run].
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"granary/internal/access"
	"granary/internal/api"
	"granary/internal/blob"
	blobfile "granary/internal/blob/file"
	"granary/internal/content"
	"granary/internal/db"
	"granary/internal/db/schema"
	"granary/internal/diagnose"
	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/guard"
	"granary/internal/keyring"
	"granary/internal/openpgp"
	"granary/internal/plugin"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/rest/openapi"
	"granary/internal/settings"
	"granary/internal/signing"
	"granary/internal/storage"
	"granary/internal/task"
	"granary/internal/telemetry"
	"granary/internal/transfer"
)

// CoreVersion is the version of Pulp's core whose API is served.
const CoreVersion = "3.95.0"

// Roles are what a process does.
type Roles struct {
	API, Content bool
	Workers      int // tasks at once; 0 for a process that runs none
}

// A Config says what to open.
type Config struct {
	Settings *settings.Settings
	Plugins  []plugin.Plugin
	Version  string // Granary's own
	Roles    Roles
	Log      *slog.Logger
	// AccessLog gets a line for each request.
	AccessLog io.Writer
	Now       pulp.Clock
	// Migrate brings the database's tables up to date; on SQLite that is always done.
	Migrate bool
}

// A Server is an open data folder and database with all parts made for it.
type Server struct {
	Config
	DB      *db.DB
	Keys    keyring.Keys
	Blobs   *storage.Stores
	API     *rest.Engine
	Tasks   *task.Queue
	Repos   *repository.Service
	Access  *access.Access
	Guards  *guard.Service
	HTTP    *api.API
	Content *content.Server
	Signing *signing.Services

	home      blob.Store // the default domain's
	diagnoses *diagnose.Service
	lines     *telemetry.Lines
	closers   []func() error
}

// ErrPending says that the database's tables are not up to date.
var ErrPending = errors.New("the database's tables are not up to date: run \"granary migrate\"")

// Schemas lists the migrations of the core and the plugins, in their order.
func Schemas(plugins []plugin.Plugin) []db.Schema {
	list := []db.Schema{schema.Core()}
	for _, p := range plugins {
		if p.Schema.Files != nil {
			list = append(list, p.Schema)
		}
	}
	return list
}

// Open opens the database, bringing its tables up to date where it may, and makes all parts. The caller closes the server.
func Open(ctx context.Context, c Config) (_ *Server, err error) {
	c.Log = slog.New(diagnose.Handler(c.Log.Handler()))
	s := &Server{Config: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.openDatabase(ctx); err != nil {
		return nil, err
	}
	set := c.Settings
	for _, dir := range []string{set.MediaRoot, set.WorkingDirectory} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, fmt.Errorf("make a folder of the store: %w", err)
		}
	}
	store, err := blobfile.New(set.MediaRoot, set.WorkingDirectory, set.AllowedContentChecksums)
	if err != nil {
		return nil, err
	}
	s.home = store
	s.closers = append(s.closers, store.Close)
	if n, err := store.Clean(ctx); err != nil {
		return nil, err
	} else if n > 0 {
		c.Log.InfoContext(ctx, "removed files that a dead process had not finished", slog.Int("files", n))
	}
	return s, s.assemble(ctx)
}

func (s *Server) openDatabase(ctx context.Context) error {
	set := s.Settings
	cfg := db.Config{DSN: string(set.Database.DSN), Conns: set.Database.Conns}
	fresh := false
	if set.Database.Engine == settings.SQLite {
		cfg = db.Config{File: set.Database.File, Conns: set.Database.Conns}
		_, err := os.Stat(cfg.File)
		fresh = errors.Is(err, os.ErrNotExist)
		for _, dir := range []string{set.Data, filepath.Dir(cfg.File)} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return fmt.Errorf("make the data folder: %w", err)
			}
		}
	}
	var err error
	s.DB, err = db.Open(ctx, cfg)
	if errors.Is(err, db.ErrLocked) {
		return fmt.Errorf("another Granary server works on the data folder %s: %w", set.Data, err)
	}
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.DB.Close)
	schemas := Schemas(s.Plugins)
	pending, err := s.DB.Pending(ctx, schemas)
	if err != nil {
		return err
	}
	if s.DB.Engine() == db.PostgreSQL {
		fresh = len(pending) > 0 && pending[0] == "core 0001_core.sql"
	}
	if s.Keys, err = s.loadKeys(fresh); err != nil {
		return err
	}
	if len(pending) == 0 {
		return nil
	}
	if s.DB.Engine() == db.PostgreSQL && !s.Migrate {
		return ErrPending
	}
	ran, err := s.DB.Migrate(ctx, schemas)
	for _, m := range ran {
		s.Log.InfoContext(ctx, "migrated", slog.String("migration", m))
	}
	return err
}

// loadKeys reads the keys for secrets. A file is made only for a new database: without the old one, what an existing
// database holds could not be read.
func (s *Server) loadKeys(fresh bool) (keyring.Keys, error) {
	path := s.Settings.DBEncryptionKey
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) && fresh {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("make the folder of DB_ENCRYPTION_KEY: %w", err)
		}
		return keyring.Create(path)
	}
	return keyring.Load(path)
}

// Versions returns the versions of the components as Pulp's clients know them, the core first.
func Versions(plugins []plugin.Plugin) []api.Component {
	list := []api.Component{{Name: "core", Version: CoreVersion, Package: "pulpcore", Module: "pulpcore.app"}}
	for _, p := range plugins {
		name := strings.ReplaceAll(p.Name, "_", "-")
		list = append(list, api.Component{Name: p.Name, Version: p.Version, Package: "pulp-" + name, Module: "pulp_" + p.Name + ".app"})
	}
	return list
}

// assemble makes the parts, from the lowest layer up.
func (s *Server) assemble(ctx context.Context) error {
	set := s.Settings
	home, err := s.defaultDomain(ctx)
	if err != nil {
		return err
	}
	s.Blobs = storage.New(storage.Config{
		DB: s.DB, Keys: s.Keys, Log: s.Log, Home: home, HomeStore: s.home, MediaRoot: set.MediaRoot, TempDir: set.WorkingDirectory,
		Algorithms: set.AllowedContentChecksums,
	})
	components := Versions(s.Plugins)
	versions := map[string]string{}
	for _, c := range components {
		versions[c.Name] = c.Version
	}
	name := ProcessName(set.WorkerNameTemplate)
	s.Tasks = task.New(task.Config{
		DB: s.DB, Keys: s.Keys, Log: s.Log, Clock: s.Now, TempDir: set.WorkingDirectory, Root: set.APIRoot,
		App:     task.App{Type: "api", Name: name, Versions: versions, TTL: set.APIAppTTL},
		Workers: s.Roles.Workers, WorkerName: name, Versions: versions, TTL: set.WorkerTTL, Grace: set.TaskGraceInterval, PurgeAge: set.TaskProtectionTime,
		Cleanup:    func(ctx context.Context, created []pulp.Ref) error { return s.Repos.Cleanup(ctx, created) },
		Dispatched: func(ctx context.Context, tx *db.Tx, t *task.Task) error { return s.Access.Dispatched(ctx, tx, t) },
		MayDelete: func(ctx context.Context, q db.Querier, ids []pulp.ID) ([]pulp.ID, error) {
			return s.Access.MayDelete(ctx, q, ids)
		},
		Diagnose: func(ctx context.Context, t *task.Task) (context.Context, func()) { return s.diagnoses.Start(ctx, t) },
		Deleted: func(ctx context.Context, tx *db.Tx, ids []pulp.ID) (map[string]int64, error) {
			return s.Access.TasksDeleted(ctx, tx, ids)
		},
	})
	users := access.ConfigOf(set)
	users.DB, users.Log, users.Now, users.Rules = s.DB, s.Log, s.Now, []access.Rules{access.CoreRules()}
	for _, p := range s.Plugins {
		users.Rules = append(users.Rules, p.Rules)
	}
	s.Access = access.New(users)
	if err := s.Access.Prepare(ctx); err != nil {
		return err
	}
	s.API = rest.New(rest.Config{
		DB: s.DB, Keys: s.Keys, Tasks: s.Tasks, Log: s.Log, Now: s.Now, APIRoot: set.APIRoot, Domains: set.DomainEnabled, Stage: s.Blobs.Stage, Auth: s.Access,
		Unchallenged: !s.Access.Challenges(),
	})
	downloads := download.Options{
		UserAgent: "pulpcore/" + CoreVersion + " (Granary " + s.Version + ")", Allowed: set.AllowedContentChecksums, ImportPaths: set.AllowedImportPaths,
		Log: s.Log, Now: s.Now,
	}
	fetch := func(r pulp.Remote) (*download.Client, error) { return download.New(r, downloads) }
	s.Repos = repository.New(repository.Config{
		DB: s.DB, API: s.API, Tasks: s.Tasks, Blobs: s.Blobs, Log: s.Log, Now: s.Now, Allowed: set.AllowedContentChecksums, ImportPaths: set.AllowedImportPaths,
		UploadDir: set.ChunkedUploadDir, ContentOrigin: set.ContentOrigin, ContentPrefix: set.ContentPathPrefix, OrphanAge: set.OrphanProtectionTime,
		UploadAge: set.UploadProtectionTime, Download: fetch,
		OSV: set.OSVURL, HTTP: &http.Client{Timeout: osvTimeout}, ScanLimit: set.VulnReportTaskLimiter, ScanPause: time.Second,
	})
	s.diagnoses = diagnose.New(diagnose.Config{DB: s.DB, Log: s.Log, Allowed: set.TaskDiagnostics, Stage: s.Blobs.Stage, Save: s.Repos.SaveArtifact})
	s.Guards = guard.New(guard.Config{
		DB: s.DB, API: s.API, Repos: s.Repos, Access: s.Access, Log: s.Log, Now: s.Now, ContentOrigin: set.ContentOrigin, ContentPrefix: set.ContentPathPrefix,
	})
	serving := map[string]content.Serving{guard.ArtifactType: artifacts}
	s.API.Add(s.Access.Types()...)
	var formats []transfer.Format
	replicas := s.replicas(downloads)
	s.API.Add(s.Repos.Types()...)
	s.API.Add(s.Guards.Types()...)
	s.API.AddEndpoint(append(s.Repos.OrphanEndpoints(), s.Repos.RepairEndpoint(), s.Repos.ReclaimEndpoint())...)
	s.Tasks.Register(s.Repos.Kinds()...)
	s.Tasks.Register(s.API.Kinds()...)
	if set.TestTasks {
		s.Tasks.Register(task.TestKinds()...)
	}
	s.Signing = signing.New(signing.Config{DB: s.DB, Now: s.Now, Temp: set.WorkingDirectory})
	s.API.Add(s.Signing.Type())
	host := plugin.Host{Signing: s.Signing, DB: s.DB, API: s.API, Tasks: s.Tasks, Repos: s.Repos, Blobs: s.Blobs, Settings: set, Now: s.Now, Log: s.Log}
	for _, p := range append([]plugin.Plugin{openpgp.Plugin()}, s.Plugins...) {
		parts := p.New(host)
		s.API.Add(parts.Types...)
		s.API.AddEndpoint(parts.Endpoints...)
		s.Tasks.Register(parts.Tasks...)
		s.Signing.Add(parts.Signing...)
		replicas.Add(parts.Replicators...)
		for typ, how := range parts.Serving {
			serving[typ] = how
		}
		s.Guards.Add(parts.Guards)
		formats = append(formats, parts.Transfer...)
	}
	s.addTransfer(components, formats)
	s.lines = telemetry.NewLines(s.AccessLog)
	metrics := telemetry.NewMetrics(telemetry.MetricsConfig{
		Version: s.Version, DB: s.DB.Stats,
		Tasks: func(ctx context.Context) (task.Stats, error) { return task.Statistics(ctx, s.DB, s.Now.Now()) },
	})
	document := openapi.New(s.API, openapi.Info{Versions: versions, Domains: set.DomainEnabled, Root: set.APIRoot, Security: securitySchemes(s.Access.Methods, set)})
	s.HTTP = api.New(api.Config{
		Engine: s.API, DB: s.DB, Tasks: s.Tasks, Access: s.Access, Stores: s.Blobs, Log: s.Log, Now: s.Now, Settings: set, Components: components, Document: document,
		ArtifactURL: s.Guards.ArtifactURL, Metrics: metrics, AccessLog: s.lines,
	})
	s.API.Add(s.HTTP.Types()...)
	s.API.AddEndpoint(s.HTTP.Endpoints()...)
	s.Tasks.Register(s.HTTP.Kinds()...)
	s.Content = content.New(content.Config{
		DB: s.DB, Blobs: s.Blobs, Log: s.Log, Now: s.Now, Prefix: set.ContentPathPrefix, Domains: set.DomainEnabled, HideGuarded: set.HideGuardedDistributions,
		Cooldown: set.RemoteContentFetchFailureCooldown, CacheHeader: set.CacheEnabled, Types: serving,
		Remote: s.Repos.Remote, Download: fetch, Save: s.Repos.SaveArtifact, Authenticate: s.Access.Anyone,
		Guard: s.permit,
	})
	return s.Guards.Prepare(ctx)
}

// permit asks a content guard about a request for content.
func (s *Server) permit(ctx context.Context, id pulp.ID, r *content.Request) error {
	return s.Guards.Permit(ctx, id, &guard.Request{Request: r.Request, Domain: r.Domain, Path: r.Distribution.BasePath + "/" + r.Rel, User: r.User})
}

// artifacts serves artifacts by their ids.
var artifacts = content.Serving{
	Unlisted: true,
	Handle: func(_ context.Context, r *content.Request) (*content.Answer, error) {
		id := guard.Artifact(r.Rel, r.Distribution.Guard)
		if id.IsZero() {
			return nil, errs.E(errs.NotFound, "")
		}
		return &content.Answer{Artifact: id}, nil
	},
}

// defaultDomain returns the domain that always exists, and makes it where it does not.
func (s *Server) defaultDomain(ctx context.Context) (pulp.ID, error) {
	set := s.Settings
	find := func() (pulp.ID, error) {
		return db.Value[pulp.ID](ctx, s.DB, "SELECT id FROM core_domain WHERE name = ?", pulp.DefaultDomain)
	}
	id, err := find()
	if !errs.Is(err, errs.NotFound) {
		return id, err
	}
	sealed, err := s.Keys.Encrypt("{}") // what it stores where, the settings say
	if err != nil {
		return id, err
	}
	err = s.DB.Update(ctx, func(tx *db.Tx) error {
		now := s.Now.Now()
		_, err := tx.Exec(ctx, "INSERT INTO core_domain (id, created, updated, name, storage_class, storage_settings, redirect_to_object_storage, hide_guarded_distributions)"+
			" VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
			pulp.NewID(), now, now, pulp.DefaultDomain, string(storage.FileSystem), sealed, set.RedirectToObjectStorage, set.HideGuardedDistributions)
		return err
	})
	if err != nil {
		return id, err
	}
	return find() // another process may have been faster
}

// Close ends what Open opened.
func (s *Server) Close() error {
	var list []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		list = append(list, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(list...)
}

// ProcessName fills WORKER_NAME_TEMPLATE.
func ProcessName(template string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return strings.NewReplacer("{pid}", fmt.Sprint(os.Getpid()), "{hostname}", host, "{fqdn}", host).Replace(template)
}

// Schedules are the tasks that run by themselves, as the settings want them.
func Schedules(set *settings.Settings) []task.Schedule {
	return []task.Schedule{
		{Name: "Clean up stale content periodically", TaskName: "pulpcore.app.tasks.orphan.orphan_cleanup", Interval: set.OrphanProtectionTime},
		{Name: "Clean up stale uploads periodically", TaskName: "pulpcore.app.tasks.orphan.upload_cleanup", Interval: set.UploadProtectionTime},
		{Name: "Clean up stale tasks periodically", TaskName: "pulpcore.app.tasks.purge.purge", Interval: set.TaskProtectionTime},
	}
}

// osvTimeout is how long the database of vulnerabilities may take for an answer.
const osvTimeout = time.Minute

// stopTime is how long a server that is told to stop lets requests finish.
const stopTime = 10 * time.Second
