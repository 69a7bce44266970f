package task_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/task"
)

// x and s make Specs that need one resource, or several, exclusively or shared.
func x(resources ...string) task.Spec { return task.Spec{Name: "run", Exclusive: resources} }
func s(resources ...string) task.Spec { return task.Spec{Name: "run", Shared: resources} }

func both(exclusive, shared []string) task.Spec {
	return task.Spec{Name: "run", Exclusive: exclusive, Shared: shared}
}

func TestLocks(t *testing.T) {
	runEach(t, scenarios{
		"LockMatrix":              testLockMatrix,
		"OtherDomainsDoNotMatter": testOtherDomainsDoNotMatter,
		"ManyResources":           testManyResources,
		"ConcurrentDispatch":      testConcurrentDispatch,
		"AddLock":                 testAddLock,
	})
}

// testLockMatrix dispatches tasks to a queue without workers, and removes some again, and looks which are free to start.
func testLockMatrix(e *env) {
	domain := pulp.RefTo("core.domain", e.domain.ID).PRN()
	for _, tc := range []struct {
		name   string
		tasks  []task.Spec
		free   string   // which are free after the dispatch of all: "1" or "0" for each
		remove []int    // tasks to remove, one by one
		then   []string // which are free after each; "-" is gone
	}{
		{"exclusive ones queue", []task.Spec{x("A"), x("A"), x("A")}, "100", []int{0, 1}, []string{"-10", "--1"}},
		{"shared ones do not", []task.Spec{s("A"), s("A"), s("A")}, "111", nil, nil},
		{"shared behind exclusive", []task.Spec{x("A"), s("A"), s("A")}, "100", []int{0}, []string{"-11"}},
		{"exclusive behind shared", []task.Spec{s("A"), s("A"), x("A")}, "110", []int{1, 0}, []string{"1-0", "--1"}},
		{"a waiting writer holds readers back", []task.Spec{s("A"), x("A"), s("A"), s("A")}, "1000", []int{0}, []string{"-100"}},
		{"readers pass when the writer is gone", []task.Spec{s("A"), x("A"), s("A"), x("A"), s("A")}, "10000", []int{1}, []string{"1-100"}},
		{"other resources overtake", []task.Spec{x("A"), x("A"), x("B"), s("C")}, "1011", nil, nil},
		{"a blocked task blocks on its other resources", []task.Spec{x("A"), x("A", "B"), x("B"), s("B")}, "1000", []int{0, 1}, []string{"-100", "--10"}},
		{"two obstacles, first one first", []task.Spec{x("A"), x("B"), x("A", "B")}, "110", []int{0, 1}, []string{"-10", "--1"}},
		{"two obstacles, second one first", []task.Spec{x("A"), x("B"), x("A", "B")}, "110", []int{1, 0}, []string{"1-0", "--1"}},
		{"chain", []task.Spec{x("A", "B"), x("B", "C"), x("C", "D"), x("D")}, "1000", []int{1, 0, 2}, []string{"1-10", "--10", "---1"}},
		{"both kinds count as exclusive", []task.Spec{both([]string{"A"}, []string{"A"}), s("A")}, "10", []int{0}, []string{"-1"}},
		{"domain shared by all", []task.Spec{s(), x("A"), s("B")}, "111", nil, nil},
		{"domain exclusive waits for all and blocks all", []task.Spec{x("A"), s("B"), x(domain), x("C"), s("D")}, "11000", []int{0, 1, 2}, []string{"-1000", "--100", "---11"}},
		{"removal from the middle of waiting writers", []task.Spec{x("A"), x("A"), x("A"), s("A")}, "1000", []int{1, 0, 2}, []string{"1-00", "--10", "---1"}},
		{"shared removed behind a writer", []task.Spec{x("A"), s("A"), x("A")}, "100", []int{1, 0}, []string{"1-0", "--1"}},
		{"mixed", []task.Spec{both([]string{"A"}, []string{"R"}), both([]string{"B"}, []string{"R"}), x("R"), s("R"), x("A")}, "11000", []int{0, 1, 2}, []string{"-1001", "--101", "---11"}},
	} {
		q := e.idle(e.config())
		var tasks []*task.Task
		for _, spec := range tc.tasks {
			tasks = append(tasks, q.dispatch(e.ctx, spec))
		}
		free := func() (got string) {
			for _, task := range tasks {
				switch t := e.load(task); {
				case t.State != "waiting":
					got += "-"
				case t.UnblockedAt.IsZero():
					got += "0"
				default:
					got += "1"
				}
			}
			return got
		}
		if got := free(); got != tc.free {
			e.t.Errorf("%s: free = %s, want %s", tc.name, got, tc.free)
		}
		for i, n := range tc.remove {
			if _, err := q.Cancel(e.ctx, tasks[n].ID); err != nil {
				e.t.Fatal(err)
			}
			if got := free(); got != tc.then[i] {
				e.t.Errorf("%s: after removal of %v free = %s, want %s", tc.name, tc.remove[:i+1], got, tc.then[i])
			}
		}
		e.checkInvariants()
		for _, t := range tasks {
			if _, err := q.Cancel(e.ctx, t.ID); err != nil {
				e.t.Fatal(err)
			}
		}
		if n, err := db.Value[int](e.ctx, e.db, "SELECT count(*) FROM core_tasklock"); err != nil || n != 0 {
			e.t.Fatalf("%s: %d locks are left, %v", tc.name, n, err)
		}
	}
}

// testOtherDomainsDoNotMatter: a domain's lock is about that domain.
func testOtherDomainsDoNotMatter(e *env) {
	q := e.idle(e.config())
	q.dispatch(e.ctx, x(pulp.RefTo("core.domain", e.domain.ID).PRN()))
	if got := q.dispatch(e.as(e.admin, e.other), s("A")); got.UnblockedAt.IsZero() {
		e.t.Error("a task of another domain is blocked")
	}
	if got := q.dispatch(e.ctx, s("A")); !got.UnblockedAt.IsZero() {
		e.t.Error("a task of the same domain is not blocked")
	}
}

// testManyResources: more locks than a PostgreSQL server has room for in one transaction.
func testManyResources(e *env) {
	q := e.start(e.config())
	many := make([]string, 1000)
	if e.db.Engine() == db.PostgreSQL {
		many = make([]string, 20000)
	}
	for i := range many {
		many[i] = fmt.Sprint("prn:file.filerepository:", i)
	}
	g := q.gate(e.ctx, x(many[17]))
	all := q.spec(nothing)
	all.Shared = many
	wide := q.dispatch(e.ctx, all)
	behind := q.spec(nothing)
	behind.Exclusive = many[len(many)-1:]
	last := q.dispatch(e.ctx, behind)
	q.waitStarted(g)
	if !e.load(wide).UnblockedAt.IsZero() || !e.load(last).UnblockedAt.IsZero() {
		e.t.Error("a task did not wait for another one")
	}
	g.open()
	first, second := q.wait(wide, task.Completed), q.wait(last, task.Completed)
	if first.FinishedAt > second.StartedAt {
		e.t.Error("the tasks ran out of order")
	}
}

// testConcurrentDispatch dispatches from 100 goroutines at once, with locks named in different orders.
func testConcurrentDispatch(e *env) {
	cfg := e.config()
	cfg.Workers = 4
	q := e.start(cfg)
	spec := q.spec(nothing)
	var wg sync.WaitGroup
	tasks := make([]*task.Task, 100)
	for i := range tasks {
		wg.Go(func() {
			spec := spec
			a, b, c := fmt.Sprint("R", i%4), fmt.Sprint("R", (i+1)%4), fmt.Sprint("R", (i+2)%4)
			if spec.Exclusive, spec.Shared = []string{a, b}, []string{c}; i%2 == 0 {
				spec.Exclusive, spec.Shared = []string{c}, []string{b, a}
			}
			spec.Immediate = i%5 == 0
			var err error
			if tasks[i], err = q.Dispatch(e.ctx, spec); err != nil {
				e.t.Error(err)
			}
		})
	}
	wg.Wait()
	if e.t.Failed() {
		return
	}
	for _, t := range tasks {
		q.wait(t, task.Completed)
	}
	e.checkInvariants()
}

// testAddLock: who wants what a running task has made waits for it.
func testAddLock(e *env) {
	q := e.start(e.config())
	repo := pulp.RefTo("file.filerepository", pulp.NewID()).PRN()
	locked, release := make(chan error, 1), make(chan struct{})
	g := q.gate(e.ctx, x("taken"))
	q.waitStarted(g)
	maker := q.dispatch(e.ctx, q.spec(func(ctx context.Context, j *task.Job) (any, error) {
		if err := e.db.Update(ctx, func(tx *db.Tx) error { return j.AddLock(ctx, tx, "taken") }); !errs.Is(err, errs.Conflict) {
			e.t.Errorf("a lock that another task has: %v, want a conflict", err)
		}
		locked <- e.db.Update(ctx, func(tx *db.Tx) error { return j.AddLock(ctx, tx, repo) })
		<-release
		return nil, nil
	}))
	if err := <-locked; err != nil {
		e.t.Fatal(err)
	}
	user := q.spec(nothing)
	user.Shared = []string{repo}
	behind := q.dispatch(e.ctx, user)
	if !behind.UnblockedAt.IsZero() {
		e.t.Error("a task that needs the new object is not blocked")
	}
	e.checkInvariants()
	close(release)
	first, second := q.wait(maker, task.Completed), q.wait(behind, task.Completed)
	if first.FinishedAt > second.StartedAt {
		e.t.Error("the tasks ran at once")
	}
	if want := []string{"shared:" + pulp.RefTo("core.domain", e.domain.ID).PRN(), repo}; !slices.Equal(first.Reserved, want) {
		e.t.Errorf("reserved = %v, want %v", first.Reserved, want)
	}
	e.checkInvariants()
}
