package task_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/task"
)

// TestModel dispatches random tasks over a few resources, from several goroutines and through several queues, cancels some, lets
// some fail, and checks the package's invariants: on what was recorded while they ran, and on the database meanwhile.
func TestModel(t *testing.T) {
	const tasks, dispatchers = 300, 4
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	runEach(t, scenarios{"random": func(e *env) {
		queues := []*queue{nil}
		if e.db.Engine() == db.PostgreSQL {
			queues = []*queue{nil, nil} // several processes
		}
		for i := range queues {
			cfg := e.config()
			cfg.Workers = 3
			queues[i] = e.start(cfg)
		}

		type record struct {
			locks      map[string]bool // resource -> exclusive
			start, end int64           // on the clock below; 0: never
			task       *task.Task
		}
		var clock atomic.Int64
		var mu sync.Mutex
		records := map[pulp.ID]*record{}
		var order []*record
		runs := map[pulp.ID]int{}
		work := func(ctx context.Context, j *task.Job) (any, error) {
			var a struct{ Pause, Fail, Child int }
			if err := j.Args(&a); err != nil {
				return nil, err
			}
			start := clock.Add(1)
			if a.Child > 0 { // what it dispatches itself waits for it
				spec := task.Spec{Name: "model", Args: map[string]int{}, Exclusive: []string{"R0"}}
				if _, err := j.Dispatch(ctx, spec); err != nil && !errs.Is(err, errs.Conflict) && ctx.Err() == nil {
					e.t.Error(err)
				}
			}
			var err error
			select {
			case <-ctx.Done():
				err = ctx.Err()
			case <-time.After(time.Duration(a.Pause) * time.Millisecond):
			}
			if a.Fail > 0 {
				err = errors.New("as asked")
			}
			mu.Lock()
			defer mu.Unlock()
			runs[j.Task.ID]++
			r := records[j.Task.ID]
			if r == nil {
				r = &record{locks: map[string]bool{}}
				for _, l := range j.Task.Reserved {
					resource, shared := l, false
					if after, ok := cutShared(l); ok {
						resource, shared = after, true
					}
					r.locks[resource] = !shared
				}
				records[j.Task.ID], order = r, append(order, r)
			}
			r.task, r.start, r.end = j.Task, start, clock.Add(1)
			return nil, err
		}
		for _, q := range queues {
			q.funcs.Store("model", work)
		}

		var wg, checks sync.WaitGroup
		done := make(chan struct{})
		stopChecks := sync.OnceFunc(func() { close(done); checks.Wait() })
		defer stopChecks()
		checks.Go(func() {
			for {
				start := time.Now()
				e.checkInvariants()
				select {
				case <-done:
					return
				case <-time.After(20*time.Millisecond + 2*time.Since(start)): // leaves the machine to the tasks
				}
			}
		})
		ids := make(chan pulp.ID, 2*tasks)
		for n := range dispatchers {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, uint64(n)))
				var own []pulp.ID
				for range tasks / dispatchers {
					spec := task.Spec{Name: "model", Args: map[string]int{
						"Pause": rnd.IntN(4), "Fail": max(0, rnd.IntN(10)-8), "Child": max(0, rnd.IntN(12)-10),
					}}
					for r := range 5 {
						switch rnd.IntN(8) {
						case 0:
							spec.Exclusive = append(spec.Exclusive, fmt.Sprint("R", r))
						case 1, 2:
							spec.Shared = append(spec.Shared, fmt.Sprint("R", r))
						}
					}
					if rnd.IntN(60) == 0 {
						spec.Exclusive = append(spec.Exclusive, pulp.RefTo("core.domain", e.domain.ID).PRN())
					}
					spec.Immediate, spec.NoDefer = rnd.IntN(4) == 0, rnd.IntN(2) == 0
					q := queues[rnd.IntN(len(queues))]
					t, err := q.Dispatch(e.ctx, spec)
					if err != nil {
						e.t.Errorf("dispatch: %v", err)
						return
					}
					own = append(own, t.ID)
					ids <- t.ID
					if rnd.IntN(6) == 0 {
						if _, err := queues[rnd.IntN(len(queues))].Cancel(e.ctx, own[rnd.IntN(len(own))]); err != nil && !errs.Is(err, errs.Conflict) {
							e.t.Errorf("cancel: %v", err)
						}
					}
				}
			})
		}
		wg.Wait()
		e.eventually("all tasks are finished", func() bool {
			n, err := db.Value[int](e.ctx, e.db, "SELECT count(*) FROM core_task WHERE finished_at IS NULL")
			return err == nil && n == 0
		})
		stopChecks()
		close(ids)

		mu.Lock()
		defer mu.Unlock()
		slices.SortFunc(order, func(a, b *record) int { return int(a.task.Seq - b.task.Seq) })
		for i, b := range order {
			for _, a := range order[:i] {
				for resource, exclusive := range b.locks {
					held, ok := a.locks[resource]
					if ok && (held || exclusive) && a.end > b.start {
						e.t.Errorf("task %d ran from %d to %d and task %d from %d to %d, though both need %s", a.task.Seq, a.start, a.end, b.task.Seq, b.start, b.end, resource)
					}
				}
			}
		}
		count := map[task.State]int{}
		for id := range ids {
			row, err := task.One(e.ctx, e.db, id)
			if err != nil {
				e.t.Fatal(err)
			}
			count[row.State]++
			if n := runs[id]; n > 1 || n == 0 && (row.State == task.Completed || row.State == task.Failed) {
				e.t.Errorf("a %s task ran %d times", row.State, n)
			}
		}
		if len(order) < tasks/3 || count[task.Completed] == 0 || count[task.Failed] == 0 || count[task.Canceled] == 0 {
			e.t.Errorf("too little happened: %d ran, states %v", len(order), count)
		}
		e.checkInvariants()
	}})
}

func cutShared(l string) (string, bool) {
	const prefix = "shared:"
	if len(l) > len(prefix) && l[:len(prefix)] == prefix {
		return l[len(prefix):], true
	}
	return l, false
}
