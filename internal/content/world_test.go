package content_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"granary/internal/blob"
	"granary/internal/blob/file"
	"granary/internal/content"
	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/db/schema"
	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// start is when the tests' clock begins.
var start = time.Date(2026, 11, 24, 23, 33, 4, 0, time.UTC)

// A world is a content server with a database, a store and clients.
type world struct {
	t      testing.TB
	ctx    context.Context //nolint:containedctx // the test's
	db     *db.DB
	blobs  *file.Store
	root   string // of the store
	server *content.Server
	url    string
	domain pulp.Domain
	clock  atomic.Int64 // microseconds after start
	stop   func()       // ends Run
	log    *logs
}

// logs collects what is logged at level Error.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.text.String()
	l.text.Reset()
	return s
}

// each runs f with a world on a fresh database of each engine. change, which may be nil, adjusts the server's settings.
func each(t *testing.T, change func(w *world, c *content.Config), f func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, newWorld(t, liteDB(t), change)) })
	t.Run("postgres", func(t *testing.T) { f(t, newWorld(t, dbtest.Open(t, dbtest.Postgres(t)), change)) })
}

func newWorld(tb testing.TB, d *db.DB, change func(w *world, c *content.Config)) *world {
	tb.Helper()
	w := &world{t: tb, ctx: tb.Context(), db: d, root: tb.TempDir(), log: &logs{}}
	var err error
	if d.Engine() == db.PostgreSQL {
		_, err = d.Migrate(w.ctx, []db.Schema{schema.Core()})
		w.check(err)
	}
	if w.blobs, err = file.New(w.root, filepath.Join(w.root, "tmp"), []pulp.Algorithm{pulp.SHA224, pulp.SHA256, pulp.SHA384, pulp.SHA512}); err != nil {
		tb.Fatal(err)
	}
	w.domain = w.addDomain(pulp.DefaultDomain, false)
	cfg := content.Config{
		DB: d, Blobs: blob.Single{Store: w.blobs}, Now: func() time.Time { return w.now().Std() },
		Log:    slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelError})),
		Prefix: "/pulp/content/", Cooldown: 5 * time.Minute, CacheHeader: true,
		Types: map[string]content.Serving{
			"file.file":     {FromPublication: true},
			"python.python": {},
			"core.artifact": {Unlisted: true},
		},
		Remote: w.loadRemote,
		Download: func(r pulp.Remote) (*download.Client, error) {
			return download.New(r, download.Options{Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }, ImportPaths: []string{w.root}})
		},
		Save: w.save,
	}
	if change != nil {
		change(w, &cfg)
	}
	w.server = content.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.server.Run(ctx) })
	srv := httptest.NewServer(w.server)
	w.url = srv.URL
	w.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	tb.Cleanup(func() {
		srv.Close()
		w.stop()
		if s := w.log.take(); s != "" {
			tb.Errorf("logged:\n%s", s)
		}
		if left := w.staged(); len(left) > 0 {
			tb.Errorf("left in the temporary folder: %q", left)
		}
		w.blobs.Close() //nolint:errcheck // the test has ended
	})
	return w
}

func (w *world) now() pulp.Time { return pulp.TimeOf(start) + pulp.Time(w.clock.Load()) }

func (w *world) pass(d time.Duration) { w.clock.Add(d.Microseconds()) }

// staged lists the temporary files.
func (w *world) staged() []string {
	names, err := filepath.Glob(filepath.Join(w.root, "tmp", "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	hidden, _ := filepath.Glob(filepath.Join(w.root, "tmp", ".*"))
	return append(names, hidden...)
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// write runs a statement and tells of it, if kind is not empty.
func (w *world) write(kind notice.Kind, ids []pulp.ID, query string, args ...any) {
	w.t.Helper()
	w.check(w.db.Update(w.ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(w.ctx, query, args...); err != nil {
			return err
		}
		if kind == "" {
			return nil
		}
		return notice.Changed(w.ctx, tx, kind, ids...)
	}))
}

func (w *world) addDomain(name string, hideGuarded bool) pulp.Domain {
	w.t.Helper()
	d := pulp.Domain{ID: pulp.NewID(), Name: name, HideGuarded: hideGuarded}
	w.write(notice.Domain, []pulp.ID{d.ID}, `INSERT INTO core_domain (id, created, updated, name, storage_class, storage_settings, redirect_to_object_storage,
		hide_guarded_distributions) VALUES (?, ?, ?, ?, '', '{}', ?, ?)`, d.ID, w.now(), w.now(), name, true, hideGuarded)
	return d
}

// save stores a file the way the rest of the server does.
func (w *world) save(ctx context.Context, stage blob.Stage) (*pulp.Artifact, error) {
	d := pulp.CallOf(ctx).Domain
	a := &pulp.Artifact{ID: pulp.NewID(), Domain: d.ID, Size: stage.Size(), Digests: stage.Digests()}
	if err := stage.Commit(ctx, blob.ArtifactKey(d, a.SHA256())); err != nil {
		return nil, err
	}
	return a, w.db.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO core_artifact (id, domain, created, updated, size, sha256, timestamp_of_interest) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (domain, sha256) DO NOTHING`, a.ID, d.ID, w.now(), w.now(), a.Size, a.SHA256(), w.now())
		if err != nil {
			return err
		}
		a.ID, err = db.Value[pulp.ID](ctx, tx, "SELECT id FROM core_artifact WHERE domain = ? AND sha256 = ?", d.ID, a.SHA256())
		return err
	})
}

func (w *world) loadRemote(ctx context.Context, q db.Querier, id pulp.ID) (*pulp.Remote, error) {
	r := &pulp.Remote{ID: id, Domain: w.domain.ID}
	err := q.QueryRow(ctx, "SELECT name, url, policy, pulp_type, max_retries FROM core_remote WHERE id = ?", id).Scan(&r.Name, &r.URL, &r.Policy, &r.Type, &r.MaxRetries)
	return r, err
}

// artifact stores a file.
func (w *world) artifact(body string) *pulp.Artifact {
	w.t.Helper()
	stage, err := w.blobs.Stage(w.ctx)
	w.check(err)
	_, err = io.WriteString(stage, body)
	w.check(err)
	a, err := w.save(pulp.WithCall(w.ctx, &pulp.Call{Domain: w.domain}), stage)
	w.check(err)
	return a
}

// A unit is content with one file.
type unit struct {
	id, contentArtifact pulp.ID
	path                string
}

// unit makes content. A body of "-" means that its file is not stored.
func (w *world) unit(path, body string) unit {
	w.t.Helper()
	u := unit{pulp.NewID(), pulp.NewID(), path}
	var artifact pulp.ID
	if body != "-" {
		artifact = w.artifact(body).ID
	}
	w.write("", nil, "INSERT INTO core_content (id, domain, created, updated, pulp_type, timestamp_of_interest) VALUES (?, ?, ?, ?, 'file.file', 0)", u.id, w.domain.ID, w.now(), w.now())
	w.write("", nil, "INSERT INTO core_contentartifact (id, content, artifact, relative_path) VALUES (?, ?, ?, ?)", u.contentArtifact, u.id, artifact, path)
	return u
}

func (w *world) repository() pulp.ID {
	w.t.Helper()
	id := pulp.NewID()
	w.write("", nil, "INSERT INTO core_repository (id, domain, created, updated, pulp_type, name) VALUES (?, ?, ?, ?, 'file.file', ?)", id, w.domain.ID, w.now(), w.now(), id.String())
	return id
}

// version makes a new version of a repository that has these units and no others.
func (w *world) version(repo pulp.ID, units ...unit) pulp.ID {
	w.t.Helper()
	id := pulp.NewID()
	w.check(w.db.Update(w.ctx, func(tx *db.Tx) error {
		number, err := db.Value[int64](w.ctx, tx, "SELECT COALESCE(max(number), -1) + 1 FROM core_repositoryversion WHERE repository = ?", repo)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(w.ctx, "INSERT INTO core_repositoryversion (id, repository, number, complete, created, updated) VALUES (?, ?, ?, ?, ?, ?)", id, repo, number, true, w.now(), w.now()); err != nil {
			return err
		}
		ids := make([]pulp.ID, len(units))
		for i, u := range units {
			ids[i] = u.id
		}
		marks, args := db.In(ids)
		if len(ids) == 0 {
			marks = "(?)"
			args = []any{pulp.NewID()}
		}
		if _, err := tx.Exec(w.ctx, "UPDATE core_repositorycontent SET removed = ? WHERE repository = ? AND removed > ? AND content NOT IN "+marks, append([]any{number, repo, number}, args...)...); err != nil {
			return err
		}
		for _, u := range units {
			if _, err := tx.Exec(w.ctx, "INSERT INTO core_repositorycontent (repository, content, added) VALUES (?, ?, ?) ON CONFLICT (repository, content) WHERE removed = 9223372036854775807 DO NOTHING", repo, u.id, number); err != nil {
				return err
			}
		}
		return notice.Changed(w.ctx, tx, notice.Repository, repo)
	}))
	return id
}

// publish makes a publication of a version with these files and, if passThrough is set, the version's content.
func (w *world) publish(version pulp.ID, passThrough bool, files map[string]string) pulp.ID {
	w.t.Helper()
	artifacts := map[string]pulp.ID{}
	for path, body := range files {
		artifacts[path] = w.artifact(body).ID
	}
	id := pulp.NewID()
	w.check(w.db.Update(w.ctx, func(tx *db.Tx) error {
		repo, err := db.Value[pulp.ID](w.ctx, tx, "SELECT repository FROM core_repositoryversion WHERE id = ?", version)
		if err != nil {
			return err
		}
		_, err = tx.Exec(w.ctx, `INSERT INTO core_publication (id, domain, created, updated, pulp_type, repository_version, complete, pass_through) VALUES (?, ?, ?, ?, 'file.file', ?, ?, ?)`,
			id, w.domain.ID, w.now(), w.now(), version, true, passThrough)
		if err != nil {
			return err
		}
		for path, artifact := range artifacts {
			if _, err := tx.Exec(w.ctx, "INSERT INTO core_publishedartifact (publication, relative_path, artifact, created) VALUES (?, ?, ?, ?)", id, path, artifact, w.now()); err != nil {
				return err
			}
		}
		return notice.Changed(w.ctx, tx, notice.Repository, repo)
	}))
	return id
}

// A dist is what a distribution is made of.
type dist struct {
	typ                                             string // file.file if empty
	domain                                          pulp.ID
	guard, repository, version, publication, remote pulp.ID
	hidden, checkpoint                              bool
}

func (w *world) distribute(base string, d dist) pulp.ID {
	w.t.Helper()
	id := pulp.NewID()
	if d.typ == "" {
		d.typ = "file.file"
	}
	if d.domain.IsZero() {
		d.domain = w.domain.ID
	}
	w.write(notice.Distribution, []pulp.ID{id}, `INSERT INTO core_distribution (id, domain, created, updated, pulp_type, name, base_path, content_guard, hidden, checkpoint,
		repository, repository_version, publication, remote) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		id, d.domain, w.now(), w.now(), d.typ, id.String(), base, d.guard, d.hidden, d.checkpoint, d.repository, d.version, d.publication, d.remote)
	return id
}

func (w *world) guard() pulp.ID {
	w.t.Helper()
	id := pulp.NewID()
	w.write("", nil, "INSERT INTO core_contentguard (id, domain, created, updated, pulp_type, name) VALUES (?, ?, ?, ?, 'core.rbac', ?)", id, w.domain.ID, w.now(), w.now(), id.String())
	return id
}

// An answer is what a client gets.
type answer struct {
	code   int
	status string // with the reason
	header http.Header
	body   string
	err    error // of reading the body
	close  bool  // the connection is closed after it
}

func (a answer) String() string { return fmt.Sprintf("%s %q", a.status, a.body) }

// do makes a request. The header is a list of names and values.
func (w *world) do(method, path string, header ...string) answer {
	w.t.Helper()
	a, err := w.try(method, path, header...)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// try is do for answers that may break off before their header.
func (w *world) try(method, path string, header ...string) (answer, error) {
	req, err := http.NewRequestWithContext(w.ctx, method, w.url+path, http.NoBody)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := plain.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Status, resp.Header, string(body), err, resp.Close}, nil
}

// plain neither follows redirects nor decompresses.
var plain = &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32}

func (w *world) get(path string, header ...string) answer {
	w.t.Helper()
	return w.do(http.MethodGet, "/pulp/content/"+path, header...)
}

// wantBody checks for a 200 with this body.
func (w *world) wantBody(path, want string) {
	w.t.Helper()
	if a := w.get(path); a.code != http.StatusOK || a.body != want || a.err != nil {
		w.t.Errorf("GET %s: %.200s %v, want %.100q", path, a, a.err, want)
	}
}

// wantCode checks for a status.
func (w *world) wantCode(path string, want int) {
	w.t.Helper()
	if a := w.get(path); a.code != want {
		w.t.Errorf("GET %s: %.200s, want %d", path, a, want)
	}
}

// published makes a repository with units, publishes it and serves that.
func (w *world) published(base string, files map[string]string, units ...unit) (repo, distribution pulp.ID) {
	w.t.Helper()
	repo = w.repository()
	w.publish(w.version(repo, units...), true, files)
	return repo, w.distribute(base, dist{repository: repo})
}

// damage removes an artifact's file, or cuts it.
func (w *world) damage(a *pulp.Artifact, cut bool) {
	w.t.Helper()
	name := filepath.Join(w.root, blob.ArtifactKey(w.domain, a.SHA256()))
	if cut {
		w.check(os.Truncate(name, a.Size-1))
	} else {
		w.check(os.Remove(name))
	}
}

func errDenied(text string) error { return errs.E(errs.Denied, text) }

// swap exchanges the paths of two distributions in one transaction.
func (w *world) swap(a, b pulp.ID) error {
	return w.db.Update(w.ctx, func(tx *db.Tx) error {
		var paths [2]string
		for i, id := range []pulp.ID{a, b} {
			var err error
			if paths[i], err = db.Value[string](w.ctx, tx, "SELECT base_path FROM core_distribution WHERE id = ?", id); err != nil {
				return err
			}
		}
		for _, set := range []struct {
			id   pulp.ID
			path string
		}{{a, "away"}, {b, paths[0]}, {a, paths[1]}} {
			if _, err := tx.Exec(w.ctx, "UPDATE core_distribution SET base_path = ? WHERE id = ?", set.path, set.id); err != nil {
				return err
			}
		}
		return notice.Changed(w.ctx, tx, notice.Distribution, a, b)
	})
}

// addRows makes content without files.
func (w *world) addRows(units []unit) {
	w.t.Helper()
	var contents, artifacts [][]any
	for _, u := range units {
		contents = append(contents, []any{u.id, w.domain.ID, w.now(), w.now(), "file.file", 0})
		artifacts = append(artifacts, []any{u.contentArtifact, u.id, u.path})
	}
	w.check(w.db.Update(w.ctx, func(tx *db.Tx) error {
		if _, err := tx.Insert(w.ctx, "core_content", []string{"id", "domain", "created", "updated", "pulp_type", "timestamp_of_interest"}, contents, ""); err != nil {
			return err
		}
		_, err := tx.Insert(w.ctx, "core_contentartifact", []string{"id", "content", "relative_path"}, artifacts, "")
		return err
	}))
}

// remote makes a remote.
func (w *world) remote(url, policy string) pulp.ID {
	w.t.Helper()
	id := pulp.NewID()
	w.write("", nil, `INSERT INTO core_remote (id, domain, created, updated, pulp_type, name, url, tls_validation, policy, max_retries) VALUES (?, ?, ?, ?, 'file.file', ?, ?, ?, ?, 1)`,
		id, w.domain.ID, w.now(), w.now(), id.String(), url, true, policy)
	return id
}

// knownAs is what is known of a file that is not stored; a size below 0 is not known, nor is an empty digest.
type knownAs struct {
	size   int64
	sha256 string
}

// source says where a unit's file may be had.
func (w *world) source(u unit, remote pulp.ID, url string, k knownAs) pulp.ID {
	w.t.Helper()
	id := pulp.NewID()
	var size, sha any
	if k.size >= 0 {
		size = k.size
	}
	if k.sha256 != "" {
		sha = k.sha256
	}
	w.write("", nil, "INSERT INTO core_remoteartifact (id, content_artifact, remote, url, size, sha256) VALUES (?, ?, ?, ?, ?, ?)", id, u.contentArtifact, remote, url, size, sha)
	return id
}

// An upstream is a server that remotes fetch from.
type upstream struct {
	url string
	mu  sync.Mutex
	// What is served: by path. Set before clients come.
	files map[string]string
	// serve, if set, answers in place of files.
	serve func(w http.ResponseWriter, r *http.Request, n int)

	requests map[string]int
}

func newUpstream(t *testing.T) *upstream {
	u := &upstream{files: map[string]string{}, requests: map[string]int{}}
	srv := httptest.NewServer(u)
	t.Cleanup(srv.Close)
	u.url = srv.URL
	return u
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.requests[r.URL.Path]++
	n := u.requests[r.URL.Path]
	body, ok := u.files[r.URL.Path]
	serve := u.serve
	u.mu.Unlock()
	switch {
	case serve != nil:
		serve(w, r, n)
	case !ok:
		http.Error(w, "none", http.StatusNotFound)
	default:
		w.Header().Set("Set-Cookie", "secret=1")
		w.Header().Set("Content-Type", "text/upstream")
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = io.WriteString(w, body)
	}
}

// count returns how often a path was asked for.
func (u *upstream) count(path string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.requests[path]
}

func (u *upstream) set(path, body string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.files[path] = body
}

// lite is each on SQLite only, for what does not depend on the engine.
func lite(t *testing.T, change func(w *world, c *content.Config), f func(t *testing.T, w *world)) {
	t.Helper()
	f(t, newWorld(t, liteDB(t), change))
}

// migrated is an SQLite file with the core's tables, made once.
var migrated = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "content")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // best effort
	name := filepath.Join(dir, "db")
	d, err := db.Open(context.Background(), db.Config{File: name})
	if err != nil {
		return nil, err
	}
	_, err = d.Migrate(context.Background(), []db.Schema{schema.Core()})
	if err := errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(name)
})

// liteDB opens an SQLite database of the test's own that has the core's tables.
func liteDB(tb testing.TB) *db.DB {
	tb.Helper()
	b, err := migrated()
	if err != nil {
		tb.Fatal(err)
	}
	cfg := dbtest.SQLite(tb)
	if err := os.WriteFile(cfg.File, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return dbtest.Open(tb, cfg)
}
