package api_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fernet/fernet-go"
	"github.com/google/go-cmp/cmp"

	"granary/internal/access"
	"granary/internal/api"
	blobfile "granary/internal/blob/file"
	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/db/schema"
	"granary/internal/keyring"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/rest/openapi"
	"granary/internal/settings"
	"granary/internal/storage"
	"granary/internal/task"
	"granary/internal/telemetry"
)

const root = "/pulp/api/v3/"

// A world is a running server without plugins: "admin" may do everything, "plain" nothing. Both have the password "password".
type world struct {
	testing.TB
	url    string
	db     *db.DB
	api    *api.API
	tasks  *task.Queue
	access *access.Access
	engine *rest.Engine
	set    *settings.Settings
	home   pulp.Domain
	sink   *strings.Builder // the access log, once the world ended
	end    func()           // stops the server
}

// sqlite is a world for what is the same on every database. environ are settings, as PULP_NAME=value.
func sqlite(t testing.TB, environ ...string) *world {
	t.Helper()
	return newWorld(t, dbtest.Open(t, dbtest.SQLite(t)), environ...)
}

// both runs a test on each database.
func both(t *testing.T, f func(w *world)) {
	t.Helper()
	dbtest.Run(t, func(t *testing.T, d *db.DB) { f(newWorld(t, d)) })
}

func newWorld(t testing.TB, d *db.DB, environ ...string) *world {
	t.Helper()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	set, err := settings.Load(settings.Options{Environ: environ, DataDir: dir})
	check(err)
	_, err = d.Migrate(ctx, []db.Schema{schema.Core()})
	check(err)
	var key fernet.Key
	check(key.Generate())
	keys := keyring.Keys{&key}
	log := slog.New(slog.DiscardHandler)
	store, err := blobfile.New(set.MediaRoot, set.WorkingDirectory, pulp.Algorithms[:])
	check(err)
	w := &world{TB: t, db: d, set: set, sink: &strings.Builder{}, home: pulp.Domain{ID: pulp.NewID(), Name: pulp.DefaultDomain}}
	sealed, err := keys.Encrypt("{}")
	check(err)
	w.exec(`INSERT INTO core_domain (id, created, updated, name, storage_class, storage_settings, redirect_to_object_storage, hide_guarded_distributions)
		VALUES (?, 1, 1, 'default', 'pulpcore.app.models.storage.FileSystem', ?, ?, ?)`, w.home.ID, sealed, true, false)

	config := access.ConfigOf(set)
	config.DB, config.Log, config.Now, config.Iterations = d, log, time.Now, 1000
	config.Rules = []access.Rules{access.CoreRules()}
	w.access = access.New(config)
	check(w.access.Prepare(ctx))
	check(w.access.SetSuperuser(ctx, "admin", "password"))
	hash, err := w.access.Hash("password")
	check(err)
	w.exec("INSERT INTO auth_user (username, password, date_joined) VALUES ('plain', ?, 1)", hash)

	versions := map[string]string{"core": "3.95.0"}
	w.tasks = task.New(task.Config{
		DB: d, Keys: keys, Clock: time.Now, TempDir: set.WorkingDirectory, Root: set.APIRoot, Versions: versions,
		App: task.App{Type: "api", Name: "api", Versions: versions}, Workers: 2, WorkerName: "1@test",
	})
	stores := storage.New(storage.Config{
		DB: d, Keys: keys, Log: log, Home: w.home.ID, HomeStore: store, MediaRoot: set.MediaRoot, TempDir: set.WorkingDirectory, Algorithms: pulp.Algorithms[:],
	})
	w.engine = rest.New(rest.Config{
		DB: d, Keys: keys, Tasks: w.tasks, Log: log, Now: time.Now, APIRoot: set.APIRoot, Domains: set.DomainEnabled, Stage: stores.Stage, Auth: w.access,
	})
	repos := repository.New(repository.Config{
		DB: d, API: w.engine, Tasks: w.tasks, Blobs: stores, Log: log, Now: time.Now, Allowed: pulp.Algorithms[:], UploadDir: "upload", ContentPrefix: set.ContentPathPrefix,
	})
	w.engine.Add(w.access.Types()...)
	w.engine.Add(repos.Types()...)
	lines := telemetry.NewLines(w.sink)
	w.api = api.New(api.Config{
		Engine: w.engine, DB: d, Tasks: w.tasks, Access: w.access, Stores: stores, Log: log, Now: time.Now, Settings: set,
		Components: []api.Component{{Name: "core", Version: "3.95.0", Package: "pulpcore", Module: "pulpcore.app"}},
		Document:   openapi.New(w.engine, openapi.Info{Versions: versions, Root: set.APIRoot, Domains: set.DomainEnabled}),
		Metrics:    telemetry.NewMetrics(telemetry.MetricsConfig{}), AccessLog: lines, BodyTimeout: time.Second,
	})
	w.engine.Add(w.api.Types()...)
	w.engine.AddEndpoint(w.api.Endpoints()...)
	w.engine.AddEndpoint(&rest.Endpoint{App: "core", Path: "test/slow/", Hidden: true, Actions: []rest.Action{{Handle: slow}}})
	w.tasks.Register(repos.Kinds()...)
	w.tasks.Register(w.engine.Kinds()...)
	w.tasks.Register(w.api.Kinds()...)
	w.tasks.Register(w.kinds()...)

	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	queue, log2 := make(chan error, 1), make(chan error, 1)
	go func() { queue <- w.tasks.Run(running) }()
	go func() { log2 <- lines.Run(running) }()
	server := httptest.NewServer(w.api.Handler())
	w.url = server.URL
	ended := false
	w.end = func() {
		if ended {
			return
		}
		ended = true
		server.Close()
		w.tasks.Stop(0)
		stop()
		for _, c := range []chan error{queue, log2} {
			if err := <-c; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(func() {
		w.end()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	<-w.tasks.Ready()
	return w
}

// kinds are tasks that end well, badly, or when they are canceled; the first makes the object that it is told of.
func (w *world) kinds() []task.Kind {
	return []task.Kind{
		{Name: "test.good", Run: func(ctx context.Context, j *task.Job) (any, error) {
			var made pulp.Ref
			if err := j.Args(&made); err != nil {
				return nil, err
			}
			p := j.Progress("test.step", "Stepping")
			p.SetTotal(2)
			p.Add(2)
			p.Done()
			if made.IsZero() {
				return map[string]string{"pulp_href": root + "tasks/x/"}, nil
			}
			return nil, w.db.Update(ctx, func(tx *db.Tx) error { return j.Created(ctx, tx, made) })
		}},
		{Name: "test.bad", Run: func(context.Context, *task.Job) (any, error) { return nil, io.ErrUnexpectedEOF }},
		{Name: "test.endless", Run: func(ctx context.Context, _ *task.Job) (any, error) { <-ctx.Done(); return nil, ctx.Err() }},
	}
}

// slow works on after the body has come, for longer than a body may pause, unless the client is gone.
func slow(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	if _, err := r.Body(); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(1500 * time.Millisecond):
		return &rest.Response{Status: http.StatusOK}, nil
	}
}

func spec(name string) task.Spec { return task.Spec{Name: name} }

func (w *world) exec(query string, args ...any) {
	w.Helper()
	err := w.db.Update(context.Background(), func(tx *db.Tx) error { _, err := tx.Exec(context.Background(), query, args...); return err })
	if err != nil {
		w.Fatal(err)
	}
}

// An answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
}

// A request is what a client asks. Without a user nobody asks.
type request struct {
	method, path, user, body string
	header                   http.Header
	host                     string
}

func (w *world) send(r request) answer {
	w.Helper()
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	hr, err := http.NewRequestWithContext(w.Context(), r.method, w.url+r.path, body)
	if err != nil {
		w.Fatal(err)
	}
	if r.header != nil {
		hr.Header = r.header.Clone()
	}
	if r.body != "" && hr.Header.Get("Content-Type") == "" {
		hr.Header.Set("Content-Type", "application/json")
	}
	if r.user != "" {
		name, password, ok := strings.Cut(r.user, ":")
		if !ok {
			password = "password"
		}
		hr.SetBasicAuth(name, password)
	}
	hr.Host = r.host
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 30 * time.Second}
	resp, err := client.Do(hr)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// do has the administrator ask. Paths are below the API's root unless they begin with a slash.
func (w *world) do(method, path, body string) answer {
	w.Helper()
	if !strings.HasPrefix(path, "/") {
		path = root + path
	}
	return w.send(request{method: method, path: path, user: "admin", body: body})
}

// expect has the administrator ask and checks the status and the body, as JSON where it is that.
func (w *world) expect(method, path, body string, status int, want string) answer {
	w.Helper()
	a := w.do(method, path, body)
	if a.status != status || !sameJSON(a.body, want) {
		w.Errorf("%s %s %s: %d %s\nwant %d %s", method, path, body, a.status, a.body, status, want)
	}
	return a
}

func sameJSON(got, want string) bool {
	if got == want {
		return true
	}
	var x, y any
	return json.Unmarshal([]byte(got), &x) == nil && json.Unmarshal([]byte(want), &y) == nil && cmp.Equal(x, y)
}

// ordered checks the order of an object's fields.
func (w *world) ordered(body string, names ...string) {
	w.Helper()
	at := 0
	for _, name := range names {
		i := strings.Index(body[at:], `"`+name+`":`)
		if i < 0 {
			w.Fatalf("%s is not where it should be in %s", name, body)
		}
		at += i
	}
}

// An object is a decoded one.
type object map[string]any

func (w *world) decode(a answer, status int) object {
	w.Helper()
	var o object
	if err := json.Unmarshal([]byte(a.body), &o); err != nil || a.status != status {
		w.Fatalf("got %d %s, want %d and an object (%v)", a.status, a.body, status, err)
	}
	return o
}

// get returns an object, and create makes one.
func (w *world) get(path string) object {
	w.Helper()
	return w.decode(w.do("GET", path, ""), http.StatusOK)
}

func (w *world) create(path, body string) object {
	w.Helper()
	return w.decode(w.do("POST", path, body), http.StatusCreated)
}

// values returns one field of all objects of a list.
func (w *world) values(path, field string) []any {
	w.Helper()
	list := []any{}
	for _, o := range w.get(path)["results"].([]any) {
		list = append(list, o.(map[string]any)[field])
	}
	return list
}

func (o object) href() string { return o["pulp_href"].(string) }

// call is the context of whoever dispatches tasks.
func (w *world) call(c pulp.Call) context.Context {
	if c.Domain.ID.IsZero() {
		c.Domain = w.home
	}
	c.Root = w.set.APIRoot
	return pulp.WithCall(w.Context(), &c)
}

// dispatch starts a task and returns its href.
func (w *world) dispatch(c pulp.Call, spec task.Spec) string {
	w.Helper()
	t, err := w.tasks.Dispatch(w.call(c), spec)
	if err != nil {
		w.Fatal(err)
	}
	return root + "tasks/" + t.ID.String() + "/"
}

// wait waits for a task's end.
func (w *world) wait(href string) *task.Task {
	w.Helper()
	parts := strings.Split(strings.Trim(href, "/"), "/")
	id, err := pulp.ParseID(parts[len(parts)-1])
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	t, err := w.tasks.Wait(ctx, id)
	if err != nil {
		w.Fatal(err)
	}
	return t
}

// settle waits until a task is in a state.
func (w *world) settle(href, state string) {
	w.Helper()
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		switch got := w.get(href)["state"]; {
		case got == state:
			return
		case time.Since(start) > 20*time.Second:
			w.Fatalf("%s is %s, want %s", href, got, state)
		}
	}
}

func id(href string) string {
	parts := strings.Split(strings.Trim(href, "/"), "/")
	return parts[len(parts)-1]
}
