package task_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/keyring"
	"granary/internal/pulp"
	"granary/internal/task"
)

// crashEnv makes the test binary a process that is about to be killed: see TestCrash.
const crashEnv = "TASK_TEST_CRASH"

type crashConfig struct {
	DB     db.Config
	Key    string
	Domain pulp.ID
	TTL    time.Duration
}

func TestMain(m *testing.M) {
	if text := os.Getenv(crashEnv); text != "" {
		if err := crash(text); err != nil {
			fmt.Println(err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// crash runs a queue with tasks in all unfinished states, says so, and waits to be killed.
func crash(text string) error {
	var c crashConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	ctx := pulp.WithCall(context.Background(), &pulp.Call{Domain: pulp.Domain{ID: c.Domain, Name: "default"}})
	d, err := db.Open(ctx, c.DB)
	if err != nil {
		return err
	}
	keys, err := keyring.Parse([]byte(c.Key))
	if err != nil {
		return err
	}
	q := task.New(task.Config{DB: d, Keys: keys, Clock: time.Now, Workers: 3, WorkerName: "doomed", App: task.App{Type: "api", Name: "doomed"}, TTL: c.TTL})
	started := make(chan error, 10)
	q.Register(task.Kind{Name: "run", Run: func(ctx context.Context, j *task.Job) (any, error) {
		err := d.Update(ctx, func(tx *db.Tx) error { return j.Created(ctx, tx, pulp.RefTo("core.repositoryversion", j.Task.ID)) })
		j.Progress("c", "m")
		time.Sleep(700 * time.Millisecond) // until the progress is stored
		started <- err
		select {}
	}})
	go func() { fmt.Println(q.Run(ctx)) }()
	<-q.Ready()
	var ids []string
	dispatch := func(ctx context.Context, spec task.Spec) {
		t, err := q.Dispatch(ctx, spec)
		if err != nil {
			fmt.Println(err)
			return
		}
		ids = append(ids, t.ID.String())
	}
	dispatch(ctx, x("A")) // running
	dispatch(ctx, x("B")) // canceling
	gone, cancel := context.WithCancel(ctx)
	immediate := x("C")
	immediate.Immediate = true
	time.AfterFunc(500*time.Millisecond, cancel)
	dispatch(gone, immediate) // running in place
	for range 3 {
		if err := <-started; err != nil {
			return err
		}
	}
	dispatch(ctx, x("A"))                                                           // behind the running one
	dispatch(ctx, s("A", "D"))                                                      // behind that
	dispatch(ctx, x("B", "C"))                                                      // behind the canceling one and the one in place
	dispatch(ctx, task.Spec{Name: "run", Versions: map[string]string{"core": "1"}}) // ready, but nobody takes it
	canceling, err := pulp.ParseID(ids[1])
	if err != nil {
		return err
	}
	if _, err := q.Cancel(ctx, canceling); err != nil {
		return err
	}
	fmt.Println("ready", strings.Join(ids, " "))
	select {}
}

// TestCrash kills a process while it runs tasks, and looks what the next one, or one that runs meanwhile, makes of it.
func TestCrash(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) { testCrash(t, dbtest.SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { testCrash(t, dbtest.Postgres(t)) })
}

func testCrash(t *testing.T, dbcfg db.Config) {
	first, err := db.Open(t.Context(), dbcfg)
	if err != nil {
		t.Fatal(err)
	}
	e := newEnv(t, first)
	c := crashConfig{DB: dbcfg, Key: testKeys()[0].Encode(), Domain: e.domain.ID, TTL: 600 * time.Millisecond}
	cfg := e.config()
	cfg.Workers, cfg.TTL = 4, c.TTL
	if dbcfg.DSN == "" {
		if err := first.Close(); err != nil { // one process owns the file
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+string(text))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready ") {
		_ = cmd.Process.Kill()
		t.Fatalf("the doomed process says %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	var tasks []*task.Task
	for _, text := range strings.Fields(line)[1:] {
		id, err := pulp.ParseID(text)
		if err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, &task.Task{ID: id})
	}

	if dbcfg.DSN == "" {
		e.db = dbtest.Open(t, dbcfg)
	} else {
		t.Cleanup(func() { _ = first.Close() })
	}
	e.checkInvariants()
	cfg.DB, cfg.Versions = e.db, map[string]string{"core": "3.95.0"}
	q := e.idle(cfg)
	q.funcs.Store("", nothing) // what waits was dispatched without arguments
	q.run()
	for i, want := range []task.State{task.Failed, task.Canceled, task.Failed, task.Completed, task.Completed, task.Completed, task.Completed} {
		got := q.wait(tasks[i], want)
		lost := i < 3
		wantError := ""
		if want == task.Failed {
			wantError = `{"reason":"Worker has gone missing."}`
		}
		if string(got.Error) != wantError || got.StartedAt.IsZero() || got.FinishedAt.IsZero() {
			t.Errorf("task %d: %+v", i, got)
		}
		if !lost {
			continue
		}
		if len(got.Progress) != 1 || got.Progress[0].State != want {
			t.Errorf("task %d: progress = %+v", i, got.Progress)
		}
		cleaned := 0
		e.mu.Lock()
		for _, r := range e.cleaned {
			if r == pulp.RefTo("core.repositoryversion", got.ID) {
				cleaned++
			}
		}
		e.mu.Unlock()
		if cleaned != 1 {
			t.Errorf("task %d was cleaned up after %d times, want once", i, cleaned)
		}
	}
	e.eventually("the dead process is forgotten", func() bool {
		n, err := db.Value[int](e.ctx, e.db, "SELECT count(*) FROM core_appstatus WHERE name LIKE 'doomed%'")
		return err == nil && n == 0
	})
	e.checkInvariants()
}

// TestLostLease: a process that others take for dead aborts its tasks, and goes on under another name.
func TestLostLease(t *testing.T) {
	t.Parallel()
	for _, others := range []bool{false, true} {
		t.Run(fmt.Sprint("others ", others), func(t *testing.T) {
			e := newEnv(t, dbtest.Open(t, dbtest.Postgres(t)))
			cfg := e.config()
			cfg.TTL = 900 * time.Millisecond
			q := e.start(cfg)
			g := q.gate(e.ctx, x("A"))
			q.waitStarted(g)
			spec := q.spec(nothing)
			spec.Exclusive = []string{"A"}
			behind := q.dispatch(e.ctx, spec)
			err := e.db.Update(e.ctx, func(tx *db.Tx) error {
				_, err := tx.Exec(e.ctx, "DELETE FROM core_appstatus")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if others {
				second := e.config()
				second.Workers, second.App = 0, task.App{Type: "api", Name: "second"}
				e.start(second)
			}
			got := q.wait(g.Task, task.Failed)
			if string(got.Error) != `{"reason":"Worker has gone missing."}` {
				t.Errorf("error = %s", got.Error)
			}
			q.wait(behind, task.Completed)
			e.eventually("it is registered again", func() bool {
				n, err := db.Value[int](e.ctx, e.db, "SELECT count(*) FROM core_appstatus WHERE app_type = 'worker'")
				return err == nil && n == cfg.Workers
			})
			e.checkInvariants()
		})
	}
}

func TestOwners(t *testing.T) {
	runEach(t, scenarios{
		"Unclaimed": testUnclaimed,
		"WakeUps":   testWakeUps,
		"Fence":     testFence,
		"Shutdown":  testShutdown,
		"Burst":     testBurst,
		"Versions":  testVersions,
		"Apps":      testApps,
	})
}

// testFence: what a task wants to write after it was taken away is refused.
func testFence(e *env) {
	q := e.start(e.config())
	ref := pulp.RefTo("core.repositoryversion", pulp.NewID())
	result := make(chan error, 3)
	got := q.dispatch(e.ctx, q.spec(func(ctx context.Context, j *task.Job) (any, error) {
		// As if another process had found the lease to be over, and had ended the task.
		err := e.db.Update(ctx, func(tx *db.Tx) error {
			if _, err := tx.Exec(ctx, "DELETE FROM core_tasklock WHERE seq = ?", j.Task.Seq); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "UPDATE core_task SET state = 'failed', owner = NULL, finished_at = 1 WHERE id = ?", j.Task.ID)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, f := range []func(tx *db.Tx) error{
			func(tx *db.Tx) error { return j.Created(ctx, tx, ref) },
			func(tx *db.Tx) error { return j.Fence(ctx, tx) },
			func(tx *db.Tx) error { return j.AddLock(ctx, tx, "A") },
		} {
			result <- e.db.Update(ctx, f)
		}
		return "done", nil
	}))
	for range 3 {
		if err := <-result; err == nil {
			e.t.Error("a write of a lost task went through")
		}
	}
	e.eventually("the worker is free again", func() bool {
		q.wait(q.dispatch(e.ctx, q.spec(nothing)), task.Completed)
		return true
	})
	if row := e.load(got); row.State != task.Failed || row.FinishedAt != 1 || len(row.Resources) != 0 {
		e.t.Errorf("the row is %+v, want it as the other process left it", row)
	}
}

// testShutdown: tasks get the time that they are given, and then end with a reason.
func testShutdown(e *env) {
	for _, tc := range []struct {
		name  string
		grace time.Duration
		stop  func(q *queue, g *gate)
		want  task.State
	}{
		{"no grace", 0, func(q *queue, _ *gate) { q.stop() }, task.Failed},
		{"some grace", 50 * time.Millisecond, func(q *queue, _ *gate) { q.stop() }, task.Failed},
		{"in time", time.Minute, func(q *queue, g *gate) { time.AfterFunc(50*time.Millisecond, g.open); q.stop() }, task.Completed},
		{"without limit", -1, func(q *queue, g *gate) { time.AfterFunc(50*time.Millisecond, g.open); q.stop() }, task.Completed},
		{"with a second thought", -1, func(q *queue, _ *gate) { q.Stop(-1); q.Stop(time.Hour); q.Stop(0); q.stop() }, task.Failed},
	} {
		cfg := e.config()
		cfg.Grace, cfg.Workers = tc.grace, 1
		q := e.start(cfg)
		g := q.gate(e.ctx, x("A"))
		q.waitStarted(g)
		next := q.spec(nothing)
		next.Exclusive, next.Immediate = []string{"A"}, true
		behind := q.dispatch(e.ctx, next)
		tc.stop(q, g)
		got := e.load(g.Task)
		wantError := map[task.State]string{task.Failed: `{"reason":"Aborted during worker shutdown."}`}[tc.want]
		if got.State != tc.want || string(got.Error) != wantError {
			e.t.Errorf("%s: %+v %s", tc.name, got, got.Error)
		}
		if got := e.load(behind); got.State != task.Waiting || got.UnblockedAt.IsZero() {
			e.t.Errorf("%s: a queue that stops took %+v", tc.name, got)
		}
		if n, err := db.Value[int](e.ctx, e.db, "SELECT count(*) FROM core_appstatus"); err != nil || n != 0 {
			e.t.Errorf("%s: %d apps are registered, %v", tc.name, n, err)
		}
		if got := q.dispatch(e.ctx, q.spec(nothing)); got.State != task.Waiting {
			e.t.Errorf("%s: after Run: %+v", tc.name, got)
		}
		e.checkInvariants()
		q.cancelAll()
	}
}

func (q *queue) cancelAll() {
	ids, err := db.Column[pulp.ID](q.e.ctx, q.e.db, "SELECT id FROM core_task WHERE state = 'waiting'")
	if err != nil {
		q.e.t.Fatal(err)
	}
	for _, id := range ids {
		q.cancel(&task.Task{ID: id})
	}
}

// testBurst: the queue runs what there is, and what that leads to, and ends.
func testBurst(e *env) {
	cfg := e.config()
	cfg.Burst = true
	q := e.idle(cfg)
	var tasks []*task.Task
	for range 5 {
		spec := q.spec(func(ctx context.Context, j *task.Job) (any, error) {
			t, err := j.Dispatch(ctx, q.spec(nothing))
			return t.ID, err
		})
		spec.Exclusive = []string{"A"}
		tasks = append(tasks, q.dispatch(e.ctx, spec))
	}
	ctx, cancel := context.WithTimeout(e.ctx, 20*time.Second)
	defer cancel()
	if err := q.Run(ctx); err != nil || ctx.Err() != nil {
		e.t.Fatal(err, ctx.Err())
	}
	if n, err := db.Value[int](e.ctx, e.db, "SELECT count(*) FROM core_task WHERE state <> 'completed'"); err != nil || n != 0 {
		e.t.Errorf("%d tasks are not completed, %v", n, err)
	}
	if got := e.load(tasks[4]); len(got.Children) != 1 {
		e.t.Errorf("got %+v", got)
	}
}

// testVersions: a task waits for a worker that is new enough, and others do not wait for it.
func testVersions(e *env) {
	q := e.start(e.config()) // core 3.95.0
	spec := func(immediate bool, versions map[string]string) task.Spec {
		s := q.spec(nothing)
		s.Versions, s.Immediate = versions, immediate
		return s
	}
	var unmet []*task.Task
	for _, v := range []map[string]string{{"core": "4.0.0"}, {"catdog": "0.0.0"}, {"core": "3.95.0", "rpm": "3"}, {"core": "3.95.1"}} {
		unmet = append(unmet, q.dispatch(e.ctx, spec(false, v)), q.dispatch(e.ctx, spec(true, v)))
	}
	for _, v := range []map[string]string{{"core": "3.95.0"}, {"core": "3.95"}, {"core": "3.9.100"}, {"core": "3.95.0.dev"}, {"core": "2"}} {
		q.wait(q.dispatch(e.ctx, spec(false, v)), task.Completed)
		q.wait(q.dispatch(e.ctx, spec(true, v)), task.Completed)
	}
	for _, t := range unmet {
		if got := e.load(t); got.State != task.Waiting || got.UnblockedAt.IsZero() {
			e.t.Errorf("versions %v: %+v, want it waiting", got.Versions, got)
		}
	}
	q.stop()
	cfg := e.config()
	cfg.Versions = map[string]string{"core": "4.0.0", "catdog": "1", "rpm": "3.0.1"}
	newer := e.start(cfg)
	q.funcs.Range(func(k, v any) bool { newer.funcs.Store(k, v); return true })
	for _, t := range unmet {
		newer.wait(t, task.Completed)
	}
}

// testApps: what is registered, by queues and by roles that have none.
func testApps(e *env) {
	cfg := e.config()
	cfg.TTL = 300 * time.Millisecond
	q := e.start(cfg)
	ctx, cancel := context.WithCancel(e.ctx)
	done := make(chan error, 1)
	go func() {
		done <- task.Heartbeat(ctx, e.db, time.Now, task.App{Type: "content", Name: "c", Versions: map[string]string{"core": "1"}, TTL: 300 * time.Millisecond})
	}()
	type row struct {
		Type, Name, Versions string
		TTL                  int64
	}
	read := func() map[row]pulp.Time {
		m := map[row]pulp.Time{}
		rows, err := e.db.Query(e.ctx, "SELECT app_type, name, versions, ttl, last_heartbeat FROM core_appstatus")
		if err != nil {
			e.t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var r row
			var beat pulp.Time
			if err := rows.Scan(&r.Type, &r.Name, &r.Versions, &r.TTL, &beat); err != nil {
				e.t.Fatal(err)
			}
			m[r] = beat
		}
		return m
	}
	e.eventually("all are registered", func() bool { return len(read()) == 4 })
	before := read()
	for _, want := range []row{
		{"api", "api", "{}", 300000},
		{"worker", "1@test", `{"core":"3.95.0"}`, 300000},
		{"worker", "1@test:2", `{"core":"3.95.0"}`, 300000},
		{"content", "c", `{"core":"1"}`, 300000},
	} {
		if before[want].IsZero() {
			e.t.Errorf("no %+v in %v", want, before)
		}
	}
	e.eventually("all are renewed", func() bool {
		for r, beat := range read() {
			if beat <= before[r] {
				return false
			}
		}
		return true
	})
	// Others take the content app for dead.
	if err := e.db.Update(e.ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(e.ctx, "DELETE FROM core_appstatus WHERE app_type = 'content'")
		return err
	}); err != nil {
		e.t.Fatal(err)
	}
	e.eventually("it is back", func() bool { return len(read()) == 4 })
	cancel()
	if err := <-done; err != nil {
		e.t.Error(err)
	}
	q.stop()
	if got := read(); len(got) != 0 {
		e.t.Errorf("left: %v", got)
	}
}

// TestRunNeedsSomebody: without a row of its own a process can't own tasks.
func TestRunNeedsSomebody(t *testing.T) {
	e := newEnv(t, dbtest.Open(t, dbtest.SQLite(t)))
	if err := task.New(task.Config{DB: e.db, Keys: testKeys(), Clock: time.Now}).Run(e.ctx); err == nil {
		t.Error("Run = nil, want an error")
	}
}

// testUnclaimed: a claim that was committed, though the process did not learn of it, does not leave a task running for ever.
func testUnclaimed(e *env) {
	cfg := e.config()
	cfg.TTL = 300 * time.Millisecond
	q := e.start(cfg)
	spec := q.spec(nothing)
	spec.Versions, spec.Exclusive = map[string]string{"core": "99"}, []string{"A"}
	got := q.dispatch(e.ctx, spec)
	behind := q.spec(nothing)
	behind.Exclusive = []string{"A"}
	next := q.dispatch(e.ctx, behind)
	err := e.db.Update(e.ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(e.ctx, "UPDATE core_task SET state = 'running', started_at = 1, owner = (SELECT id FROM core_appstatus WHERE name = '1@test') WHERE id = ?", got.ID)
		return err
	})
	if err != nil {
		e.t.Fatal(err)
	}
	if got := q.wait(got, task.Failed); string(got.Error) != `{"reason":"Worker has gone missing."}` {
		e.t.Errorf("error = %s", got.Error)
	}
	q.wait(next, task.Completed)
}

// testWakeUps: workers, on PostgreSQL also of other processes, learn of a task at once and not when they next look by themselves.
func testWakeUps(e *env) {
	q := e.start(e.config())
	from := q
	if e.db.Engine() == db.PostgreSQL {
		cfg := e.config()
		from = e.idle(cfg) // it does not run, and is another "process"
	}
	start := time.Now()
	for range 20 {
		t := from.dispatch(e.ctx, q.spec(nothing))
		e.eventually("the task is run", func() bool { return e.state(t) == task.Completed })
	}
	if took := time.Since(start); took > 10*time.Second {
		e.t.Errorf("20 tasks took %v", took)
	}
}
