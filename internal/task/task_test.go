package task_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fernet/fernet-go"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/db/schema"
	"granary/internal/errs"
	"granary/internal/keyring"
	"granary/internal/pulp"
	"granary/internal/task"
)

// An env is a database with two domains and two users.
type env struct {
	t             testing.TB
	db            *db.DB
	domain, other pulp.Domain
	admin, alice  *pulp.User
	ctx           context.Context // of the admin in the default domain
	mu            sync.Mutex
	cleaned       []pulp.Ref // what Cleanup was called with
}

func newEnv(t testing.TB, d *db.DB) *env {
	t.Helper()
	ctx := t.Context()
	if _, err := d.Migrate(ctx, []db.Schema{schema.Core()}); err != nil {
		t.Fatal(err)
	}
	e := &env{
		t: t, db: d,
		domain: pulp.Domain{ID: pulp.NewID(), Name: "default"}, other: pulp.Domain{ID: pulp.NewID(), Name: "other"},
		admin: &pulp.User{ID: 1, Name: "admin", Superuser: true, Active: true}, alice: &pulp.User{ID: 2, Name: "alice", Active: true},
	}
	err := d.Update(ctx, func(tx *db.Tx) error {
		for _, dom := range []pulp.Domain{e.domain, e.other} {
			_, err := tx.Exec(ctx, `INSERT INTO core_domain (id, created, updated, name, storage_class, storage_settings, redirect_to_object_storage, hide_guarded_distributions)
				VALUES (?, 1, 1, ?, '', '', ?, ?)`, dom.ID, dom.Name, false, false)
			if err != nil {
				return err
			}
		}
		for _, u := range []*pulp.User{e.admin, e.alice} {
			_, err := tx.Exec(ctx, "INSERT INTO auth_user (id, username, password, is_superuser, is_active, date_joined) VALUES (?, ?, '', ?, ?, 1)", u.ID, u.Name, u.Superuser, true)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	e.ctx = e.as(e.admin, e.domain)
	return e
}

func (e *env) as(u *pulp.User, d pulp.Domain) context.Context {
	return pulp.WithCall(e.t.Context(), &pulp.Call{Domain: d, User: u, CID: "cid-of-the-request", Root: "/pulp/", Origin: "http://localhost"})
}

var testKeys = sync.OnceValue(func() keyring.Keys {
	var k fernet.Key
	if err := k.Generate(); err != nil {
		panic(err)
	}
	return keyring.Keys{&k}
})

// config is the Config of a queue with two workers and the test tasks, as in a server.
func (e *env) config() task.Config {
	return task.Config{
		DB: e.db, Keys: testKeys(), Clock: time.Now, TempDir: e.t.TempDir() + "/tmp", Root: "/pulp/",
		App: task.App{Type: "api", Name: "api"}, Workers: 2, WorkerName: "1@test", Versions: map[string]string{"core": "3.95.0"},
		Cleanup: func(_ context.Context, created []pulp.Ref) error {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.cleaned = append(e.cleaned, created...)
			return nil
		},
	}
}

// A queue is a running queue with its test's shorthands. Its kind "run" calls the function under
// the argument's key, "model" the one under "model".
type queue struct {
	*task.Queue
	e     *env
	stop  context.CancelFunc // ends Run and waits for it
	funcs sync.Map
}

type runArgs struct{ Key string }

// start runs a queue until the test ends.
func (e *env) start(cfg task.Config) *queue {
	e.t.Helper()
	q := e.idle(cfg)
	q.run()
	return q
}

func (q *queue) run() {
	t := q.e.t
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	q.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(q.stop)
	select {
	case <-q.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("the queue does not start")
	}
}

// idle is a queue that does not run.
func (e *env) idle(cfg task.Config) *queue {
	q := &queue{Queue: task.New(cfg), e: e}
	q.Register(task.TestKinds()...)
	call := func(ctx context.Context, j *task.Job, key string) (any, error) {
		f, ok := q.funcs.Load(key)
		if !ok {
			return nil, fmt.Errorf("no function %q", key)
		}
		return f.(func(context.Context, *task.Job) (any, error))(ctx, j)
	}
	q.Register(task.Kind{Name: "run", Run: func(ctx context.Context, j *task.Job) (any, error) {
		var a runArgs
		if err := j.Args(&a); err != nil {
			return nil, err
		}
		return call(ctx, j, a.Key)
	}}, task.Kind{Name: "model", Run: func(ctx context.Context, j *task.Job) (any, error) { return call(ctx, j, "model") }})
	return q
}

// spec is a Spec that runs f.
func (q *queue) spec(f func(ctx context.Context, j *task.Job) (any, error)) task.Spec {
	key := pulp.NewID().String()
	q.funcs.Store(key, f)
	return task.Spec{Name: "run", Args: runArgs{key}}
}

func (q *queue) dispatch(ctx context.Context, spec task.Spec) *task.Task {
	q.e.t.Helper()
	t, err := q.Dispatch(ctx, spec)
	if err != nil {
		q.e.t.Fatal(err)
	}
	return t
}

// wait returns the task when it is final, and fails the test if its state is not the wanted one.
func (q *queue) wait(t *task.Task, want task.State) *task.Task {
	q.e.t.Helper()
	ctx, cancel := context.WithTimeout(q.e.ctx, time.Minute)
	defer cancel()
	got, err := q.Wait(ctx, t.ID)
	if err != nil {
		q.e.t.Fatalf("wait for %s: %v", t.ID, err)
	}
	if got.State != want {
		q.e.t.Fatalf("state = %s (%s), want %s", got.State, got.Error, want)
	}
	return got
}

func (e *env) state(t *task.Task) task.State {
	e.t.Helper()
	return e.load(t).State
}

func (e *env) load(t *task.Task) *task.Task {
	e.t.Helper()
	got, err := task.One(e.ctx, e.db, t.ID)
	if err != nil {
		e.t.Fatal(err)
	}
	return got
}

func (e *env) eventually(what string, f func() bool) {
	e.t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.t.Fatalf("never: %s", what)
		}
	}
}

// A gate is a task that runs until it is opened.
type gate struct {
	*task.Task
	open    func()
	started chan struct{}
}

func (q *queue) gate(ctx context.Context, spec task.Spec) *gate {
	q.e.t.Helper()
	opened, started := make(chan struct{}), make(chan struct{})
	s := q.spec(func(ctx context.Context, _ *task.Job) (any, error) {
		close(started)
		select {
		case <-opened:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	spec.Name, spec.Args = s.Name, s.Args
	g := &gate{q.dispatch(ctx, spec), sync.OnceFunc(func() { close(opened) }), started}
	q.e.t.Cleanup(g.open)
	return g
}

func (q *queue) waitStarted(g *gate) {
	q.e.t.Helper()
	select {
	case <-g.started:
	case <-time.After(10 * time.Second):
		q.e.t.Fatal("the task does not start")
	}
}

func nothing(context.Context, *task.Job) (any, error) { return nil, nil }

// checkInvariants checks those of the package comment that a state of the database shows.
func (e *env) checkInvariants() {
	e.t.Helper()
	// The pairs of tasks of which the second has to wait for the first.
	const conflicts = `(SELECT a.seq AS first, b.seq AS second FROM core_tasklock a JOIN core_tasklock b ON b.resource = a.resource AND b.seq > a.seq WHERE a.exclusive = TRUE
		UNION SELECT a.seq, b.seq FROM core_tasklock b JOIN core_tasklock a ON a.resource = b.resource AND a.seq < b.seq WHERE b.exclusive = TRUE) c`
	for what, query := range map[string]string{
		"conflicting tasks run at once": `SELECT count(*) FROM ` + conflicts + ` JOIN core_task a ON a.seq = c.first JOIN core_task b ON b.seq = c.second
			WHERE a.owner IS NOT NULL AND b.owner IS NOT NULL`,
		"a task was unblocked behind a conflicting one": `SELECT count(*) FROM ` + conflicts + ` JOIN core_task b ON b.seq = c.second WHERE b.unblocked_at IS NOT NULL`,
		"a task waits for nothing": `SELECT count(*) FROM core_task t WHERE t.state = 'waiting' AND t.unblocked_at IS NULL
			AND t.seq NOT IN (SELECT c.second FROM ` + conflicts + `)`,
		"a finished task has locks": `SELECT count(*) FROM core_tasklock l JOIN core_task t ON t.seq = l.seq WHERE t.finished_at IS NOT NULL`,
		"a lock has no task":        `SELECT count(*) FROM core_tasklock l WHERE NOT EXISTS (SELECT 1 FROM core_task t WHERE t.seq = l.seq)`,
		"an unfinished task has not all its locks": `SELECT count(*) FROM core_task t JOIN core_taskresource r ON r.task = t.id WHERE t.finished_at IS NULL
			AND NOT EXISTS (SELECT 1 FROM core_tasklock l WHERE l.seq = t.seq AND l.resource = r.resource AND l.exclusive = r.exclusive)`,
	} {
		n, err := db.Value[int](context.WithoutCancel(e.ctx), e.db, query)
		if err != nil {
			e.t.Fatal(err)
		}
		if n > 0 {
			e.t.Errorf("%s (%d)", what, n)
		}
	}
}

// scenarios are named tests that take an env as it is after newEnv.
type scenarios map[string]func(e *env)

// runEach runs scenarios on both engines, beside other tests. It makes one database of each, since that takes longer than most scenarios.
func runEach(t *testing.T, list scenarios) {
	t.Parallel()
	for engine, config := range map[string]func(testing.TB) db.Config{"sqlite": dbtest.SQLite, "postgres": dbtest.Postgres} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, dbtest.Open(t, config(t)))
			for name, f := range list {
				t.Run(name, func(t *testing.T) {
					e.reset(t)
					f(e)
				})
			}
		})
	}
}

// reset takes away what another test has left.
func (e *env) reset(t *testing.T) {
	e.t, e.cleaned = t, nil
	e.ctx = e.as(e.admin, e.domain)
	err := e.db.Update(e.ctx, func(tx *db.Tx) error {
		for _, table := range []string{"core_taskschedule", "core_tasklock", "core_task", "core_taskgroup", "core_appstatus"} {
			if _, err := tx.Exec(e.ctx, "DELETE FROM "+table); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTasks(t *testing.T) {
	runEach(t, scenarios{
		"LifeOfATask": testLifeOfATask,
		"Failures":    testFailures,
	})
}

func testLifeOfATask(e *env) {
	q := e.start(e.config())
	repo, ver := pulp.RefTo("file.filerepository", pulp.NewID()), pulp.RefTo("core.repositoryversion", pulp.NewID())
	var call pulp.Call
	spec := q.spec(func(ctx context.Context, j *task.Job) (any, error) {
		call = *pulp.CallOf(ctx)
		for _, r := range []pulp.Ref{ver, repo} {
			if err := e.db.Update(ctx, func(tx *db.Tx) error { return j.Created(ctx, tx, r) }); err != nil {
				return nil, err
			}
		}
		var wg sync.WaitGroup
		for range 8 { // at once, in any order
			wg.Go(func() {
				if err := e.db.Update(ctx, func(tx *db.Tx) error { return j.Created(ctx, tx, pulp.RefTo("core.artifact", pulp.NewID())) }); err != nil {
					e.t.Error(err)
				}
			})
		}
		wg.Wait()
		return map[string]int{"n": 1}, nil
	})
	spec.Exclusive = []string{repo.PRN(), "", "pdrn:x:distributions", repo.PRN()}
	spec.Shared = []string{"prn:file.fileremote:1", repo.PRN(), ""}
	before := pulp.TimeOf(time.Now())
	got := q.wait(q.dispatch(e.ctx, spec), task.Completed)

	domain := "shared:prn:core.domain:" + e.domain.ID.String()
	if want := []string{repo.PRN(), "pdrn:x:distributions", "shared:prn:file.fileremote:1", domain}; fmt.Sprint(got.Reserved) != fmt.Sprint(want) {
		e.t.Errorf("reserved = %v, want %v", got.Reserved, want)
	}
	if len(got.Resources) != 10 || fmt.Sprint(got.Resources[:2]) != fmt.Sprint([]pulp.Ref{ver, repo}) {
		e.t.Errorf("created resources = %v, want %v and %v in this order", got.Resources, ver, repo)
	}
	if string(got.Result) != `{"n":1}` || got.Error != nil || got.User != 1 || got.CID != "cid-of-the-request" || !got.Owner.IsZero() {
		e.t.Errorf("got %+v", got)
	}
	if !(before <= got.Created && got.Created <= got.UnblockedAt && got.UnblockedAt <= got.StartedAt && got.StartedAt <= got.FinishedAt) || got.Updated != got.Created {
		e.t.Errorf("times are not in order: %v %v %v %v %v", got.Created, got.Updated, got.UnblockedAt, got.StartedAt, got.FinishedAt)
	}
	want := pulp.Call{Domain: e.domain, User: e.admin, CID: "cid-of-the-request", Root: "/pulp/", Task: got.ID}
	if *call.User != *want.User {
		e.t.Errorf("user = %+v, want %+v", call.User, want.User)
	}
	if call.User, want.User = nil, nil; !reflect.DeepEqual(call, want) {
		e.t.Errorf("call = %+v, want %+v", call, want)
	}
	e.checkInvariants()
}

func testFailures(e *env) {
	var log lines
	cfg := e.config()
	cfg.Log = log.logger()
	q := e.start(cfg)
	for _, tc := range []struct {
		name, description, traceback, log string
		f                                 func(context.Context, *task.Job) (any, error)
	}{
		{"an error", "read: disk on fire", "read: disk on fire", "failed (errors.errorString: read: disk on fire) in domain: default", func(context.Context, *task.Job) (any, error) {
			return nil, fmt.Errorf("read: %w", errors.New("disk on fire"))
		}},
		{"a public error", "No such thing.", "look: No such thing.: secret cause", "failed (Error: No such thing.) in domain: default", func(context.Context, *task.Job) (any, error) {
			return nil, fmt.Errorf("look: %w", &errs.Error{Kind: errs.NotFound, Detail: "No such thing.", Err: errors.New("secret cause")})
		}},
		{"validation", "{'name': [ErrorDetail(string='Wrong.', code='invalid')]}", "Wrong.", "failed (ValidationError: {'name'", func(context.Context, *task.Job) (any, error) {
			return nil, errs.Field("name", "Wrong.")
		}},
		{"a panic", "panic: ouch", "task_test.go", "failed (Panic: panic: ouch)", func(context.Context, *task.Job) (any, error) { panic("ouch") }},
		{"a result that is no JSON", "result: json: unsupported type: chan int", "unsupported type", "failed (", func(context.Context, *task.Job) (any, error) {
			return make(chan int), nil
		}},
		{"a canceled context that nobody canceled", "context canceled", "context canceled", "failed (", func(context.Context, *task.Job) (any, error) {
			return nil, context.Canceled
		}},
	} {
		var failure struct{ Traceback, Description string }
		got := q.wait(q.dispatch(e.ctx, q.spec(tc.f)), task.Failed)
		if err := json.Unmarshal(got.Error, &failure); err != nil {
			e.t.Fatal(err)
		}
		if failure.Description != tc.description || !strings.Contains(failure.Traceback, tc.traceback) {
			e.t.Errorf("%s: error = %s", tc.name, got.Error)
		}
		e.eventually("log of "+tc.name, func() bool { return log.has("Task[run] "+got.ID.String()+" ", tc.log) })
	}
	got := q.wait(q.dispatch(e.ctx, task.Spec{Name: "no.such.task"}), task.Failed)
	if !strings.Contains(string(got.Error), `no task is called \"no.such.task\"`) {
		e.t.Errorf("unknown kind: error = %s", got.Error)
	}
	got = q.wait(q.dispatch(e.ctx, task.Spec{Name: "pulpcore.app.tasks.test.missing_worker"}), task.Failed)
	if string(got.Error) != `{"reason":"Worker has gone missing."}` {
		e.t.Errorf("missing worker: error = %s", got.Error)
	}
	ok := q.wait(q.dispatch(e.ctx, q.spec(nothing)), task.Completed)
	e.eventually("log lines", func() bool {
		return log.has(fmt.Sprintf("Starting task id: %s in domain: default, task_type: run, immediate: False, deferred: True", ok.ID)) &&
			log.has(fmt.Sprintf("Task completed %s in domain: default, task_type: run, immediate: False, deferred: True, execution_time: %d μs", ok.ID, ok.FinishedAt-ok.StartedAt))
	})
	e.checkInvariants()
}
