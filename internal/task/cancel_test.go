package task_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/task"
)

func (q *queue) cancel(t *task.Task) *task.Task {
	q.e.t.Helper()
	got, err := q.Cancel(q.e.ctx, t.ID)
	if err != nil {
		q.e.t.Fatal(err)
	}
	return got
}

func TestCancel(t *testing.T) {
	runEach(t, scenarios{
		"CancelBasics":          testCancelBasics,
		"CancelInPlace":         testCancelInPlace,
		"CancelRacesWithTheEnd": testCancelRacesWithTheEnd,
		"Cleanup":               testCleanup,
		"StubbornTask":          testStubbornTask,
		"Delete":                testDelete,
	})
}

func testCancelBasics(e *env) {
	q := e.start(e.config())
	g := q.gate(e.ctx, x("A"))
	q.waitStarted(g)

	spec := q.spec(nothing)
	spec.Exclusive = []string{"A"}
	waiting, next := q.dispatch(e.ctx, spec), q.dispatch(e.ctx, spec)
	for range 2 { // twice is the same
		got := q.cancel(waiting)
		if got.State != task.Canceled || !got.StartedAt.IsZero() || got.FinishedAt.IsZero() || got.Error != nil {
			e.t.Errorf("waiting: %+v, want it canceled at once", got)
		}
	}
	e.checkInvariants()

	got := q.cancel(g.Task)
	if got.State != task.Canceling && got.State != task.Canceled {
		e.t.Errorf("running: %+v", got)
	}
	got = q.wait(g.Task, task.Canceled)
	if got.StartedAt.IsZero() || got.FinishedAt.IsZero() || got.Error != nil || got.Result != nil {
		e.t.Errorf("running: %+v", got)
	}
	if got := q.cancel(g.Task); got.State != task.Canceled {
		e.t.Errorf("canceled: %+v", got)
	}
	q.wait(next, task.Completed) // the lock is free

	for _, tc := range []struct {
		f    func(context.Context, *task.Job) (any, error)
		want task.State
	}{
		{nothing, task.Completed},
		{func(context.Context, *task.Job) (any, error) { return nil, errors.New("no") }, task.Failed},
	} {
		done := q.wait(q.dispatch(e.ctx, q.spec(tc.f)), tc.want)
		got, err := q.Cancel(e.ctx, done.ID)
		if !errs.Is(err, errs.Conflict) || got == nil || got.State != tc.want {
			e.t.Errorf("%s: %+v, %v, want the task and a conflict", tc.want, got, err)
		}
	}
	if _, err := q.Cancel(e.ctx, pulp.NewID()); !errs.Is(err, errs.NotFound) {
		e.t.Errorf("missing: %v, want NotFound", err)
	}
	e.checkInvariants()
}

// testCancelInPlace cancels a task that runs in the request that dispatched it.
func testCancelInPlace(e *env) {
	q := e.start(e.config())
	ids := make(chan pulp.ID, 1)
	spec := q.spec(func(ctx context.Context, j *task.Job) (any, error) {
		ids <- j.Task.ID
		<-ctx.Done()
		return nil, ctx.Err()
	})
	spec.Immediate = true
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if _, err := q.Cancel(e.ctx, <-ids); err != nil {
			e.t.Error(err)
		}
	})
	if got := q.dispatch(e.ctx, spec); got.State != task.Canceled || got.Error != nil {
		e.t.Errorf("got %+v, want it canceled", got)
	}
}

// testCancelRacesWithTheEnd: a task that finishes after it was set to canceling ends canceled, and what it did stays.
func testCancelRacesWithTheEnd(e *env) {
	q := e.start(e.config())
	ref := pulp.RefTo("core.repositoryversion", pulp.NewID())
	spec := q.spec(func(ctx context.Context, j *task.Job) (any, error) {
		if err := e.db.Update(ctx, func(tx *db.Tx) error { return j.Created(ctx, tx, ref) }); err != nil {
			return nil, err
		}
		p := j.Progress("code", "message")
		p.Done()
		if _, err := q.Cancel(context.WithoutCancel(ctx), j.Task.ID); err != nil {
			return nil, err
		}
		return "done", nil // as if it had not noticed
	})
	got := q.wait(q.dispatch(e.ctx, spec), task.Canceled)
	if got.Error != nil || got.Result != nil || len(got.Resources) != 1 || got.Progress[0].State != task.Completed {
		e.t.Errorf("got %+v", got)
	}
}

// testCleanup: what a failed or canceled task left is cleaned up while its locks are held, that of a completed one is not.
func testCleanup(e *env) {
	cfg := e.config()
	var q *queue
	cleanups := map[pulp.Ref]int{} // -> locks held meanwhile
	draft := pulp.RefTo("core.repositoryversion", pulp.NewID())
	cfg.Cleanup = func(ctx context.Context, created []pulp.Ref) error {
		for _, r := range created {
			n, err := db.Value[int](ctx, e.db, "SELECT count(*) FROM core_tasklock WHERE resource = 'A'")
			if err != nil {
				return err
			}
			cleanups[r] = n
		}
		if pulp.CallOf(ctx).Domain.ID != e.domain.ID {
			e.t.Errorf("the cleanup's call is %+v", pulp.CallOf(ctx))
		}
		return e.db.Update(ctx, func(tx *db.Tx) error { return task.Forget(ctx, tx, draft) })
	}
	q = e.start(cfg)
	for i, tc := range []struct {
		end  func(ctx context.Context, j *task.Job) error
		want task.State
	}{
		{func(context.Context, *task.Job) error { return nil }, task.Completed},
		{func(context.Context, *task.Job) error { return errors.New("no") }, task.Failed},
		{func(context.Context, *task.Job) error { panic("no") }, task.Failed},
		{func(ctx context.Context, j *task.Job) error {
			if _, err := q.Cancel(context.WithoutCancel(ctx), j.Task.ID); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		}, task.Canceled},
	} {
		clear(cleanups)
		repo := pulp.RefTo("file.filerepository", pulp.NewID())
		spec := q.spec(func(ctx context.Context, j *task.Job) (any, error) {
			for _, r := range []pulp.Ref{draft, repo} {
				if err := e.db.Update(ctx, func(tx *db.Tx) error { return j.Created(ctx, tx, r) }); err != nil {
					return nil, err
				}
			}
			return nil, tc.end(ctx, j)
		})
		spec.Exclusive = []string{"A"}
		got := q.wait(q.dispatch(e.ctx, spec), tc.want)
		want := map[pulp.Ref]int{draft: 1, repo: 1}
		left := []pulp.Ref{repo}
		if tc.want == task.Completed {
			want, left = map[pulp.Ref]int{}, []pulp.Ref{draft, repo}
		}
		if fmt.Sprint(cleanups) != fmt.Sprint(want) || fmt.Sprint(got.Resources) != fmt.Sprint(left) {
			e.t.Errorf("case %d: cleaned up %v, want %v; created resources %v, want %v", i, cleanups, want, got.Resources, left)
		}
	}
}

// testStubbornTask: a task that does not obey is given up, its locks are free, and what it still does fails.
func testStubbornTask(e *env) {
	cfg := e.config()
	cfg.Patience = 50 * time.Millisecond
	q := e.start(cfg)
	release, after := make(chan struct{}), make(chan error, 2)
	started := make(chan struct{})
	spec := q.spec(func(ctx context.Context, j *task.Job) (any, error) {
		close(started)
		<-release
		after <- e.db.Update(ctx, func(tx *db.Tx) error { return nil })
		ctx = context.WithoutCancel(ctx)
		after <- e.db.Update(ctx, func(tx *db.Tx) error { return j.Created(ctx, tx, pulp.RefTo("core.artifact", pulp.NewID())) })
		return nil, nil
	})
	spec.Exclusive = []string{"A"}
	stubborn := q.dispatch(e.ctx, spec)
	<-started
	next := q.spec(nothing)
	next.Exclusive = []string{"A"}
	second := q.dispatch(e.ctx, next)
	q.cancel(stubborn)
	q.wait(stubborn, task.Canceled)
	q.wait(second, task.Completed)
	close(release)
	if err := <-after; err == nil {
		e.t.Error("a task that was given up could write with its context")
	}
	if err := <-after; !errs.Is(err, errs.Conflict) {
		e.t.Errorf("a task that was given up noted an object: %v", err)
	}
	e.checkInvariants()
}

func testDelete(e *env) {
	q := e.start(e.config())
	g := q.gate(e.ctx, x("A"))
	q.waitStarted(g)
	blocked := q.spec(nothing)
	blocked.Exclusive = []string{"A"}
	waiting := q.dispatch(e.ctx, blocked)
	for _, t := range []*task.Task{g.Task, waiting} {
		if err := q.Delete(e.ctx, t.ID); !errs.Is(err, errs.Conflict) {
			e.t.Errorf("delete of a %s task: %v, want a conflict", e.state(t), err)
		}
	}
	g.open()
	q.wait(g.Task, task.Completed)
	spec := q.spec(func(ctx context.Context, j *task.Job) (any, error) {
		j.Progress("c", "m")
		child, err := j.Dispatch(ctx, q.spec(nothing))
		if err != nil {
			return nil, err
		}
		if err := e.db.Update(ctx, func(tx *db.Tx) error { return j.Created(ctx, tx, pulp.RefTo("core.x", pulp.NewID())) }); err != nil {
			return nil, err
		}
		return child.ID, errors.New("no")
	})
	failed := q.wait(q.dispatch(e.ctx, spec), task.Failed)
	child := q.wait(&task.Task{ID: failed.Children[0]}, task.Completed)
	canceled := q.dispatch(e.ctx, x("B", "C"))
	q.wait(canceled, task.Failed)
	for _, t := range []*task.Task{failed, waiting, g.Task} {
		q.wait(t, map[bool]task.State{true: task.Failed, false: task.Completed}[t == failed])
		if err := q.Delete(e.ctx, t.ID); err != nil {
			e.t.Error(err)
		}
		if err := q.Delete(e.ctx, t.ID); !errs.Is(err, errs.NotFound) {
			e.t.Errorf("second delete: %v, want NotFound", err)
		}
	}
	if got := e.load(child); !got.Parent.IsZero() {
		e.t.Errorf("the child's parent is %v, want none", got.Parent)
	}
	for _, table := range []string{"core_progressreport", "core_createdresource"} {
		if n, err := db.Value[int](e.ctx, e.db, "SELECT count(*) FROM "+table); err != nil || n != 0 {
			e.t.Errorf("%s has %d rows, %v", table, n, err)
		}
	}
}
