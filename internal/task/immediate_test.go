package task_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"granary/internal/pulp"
	"granary/internal/task"
)

func TestImmediate(t *testing.T) {
	runEach(t, scenarios{
		"ImmediateBasics":     testImmediateBasics,
		"ImmediateWithoutRun": testImmediateWithoutRun,
		"ImmediateGoFirst":    testImmediateGoFirst,
	})
}

func testImmediateBasics(e *env) {
	q := e.start(e.config())
	immediate := func(noDefer bool) task.Spec {
		spec := q.spec(func(ctx context.Context, j *task.Job) (any, error) { return pulp.CallOf(ctx).Domain.Name, nil })
		spec.Immediate, spec.NoDefer, spec.Exclusive = true, noDefer, []string{"A"}
		return spec
	}

	got := q.dispatch(e.ctx, immediate(false))
	if got.State != task.Completed || string(got.Result) != `"default"` || got.FinishedAt.IsZero() || !got.Owner.IsZero() {
		e.t.Errorf("nothing in the way: %+v, want it completed when Dispatch returns", got)
	}
	if row := e.load(got); row.State != got.State || row.FinishedAt != got.FinishedAt || string(row.Result) != string(got.Result) || row.Seq != got.Seq || row.StartedAt != got.StartedAt {
		e.t.Errorf("Dispatch returned %+v, the row is %+v", got, row)
	}
	if got := q.dispatch(e.t.Context(), immediate(false)); string(got.Result) != `"default"` {
		e.t.Errorf("without a call: result = %s, want the default domain's name", got.Result)
	}

	g := q.gate(e.ctx, x("A"))
	q.waitStarted(g)
	ordinary := q.spec(nothing)
	ordinary.Exclusive = []string{"A"}
	first := q.dispatch(e.ctx, ordinary)
	deferred := q.dispatch(e.ctx, immediate(false))
	if deferred.State != task.Waiting || !deferred.UnblockedAt.IsZero() {
		e.t.Errorf("blocked and deferred: %+v, want it waiting", deferred)
	}
	refused := q.dispatch(e.ctx, immediate(true))
	for _, t := range []*task.Task{refused, e.load(refused)} {
		if t.State != task.Canceled || string(t.Error) != `{"reason":"Resources temporarily unavailable."}` || t.FinishedAt.IsZero() || !t.StartedAt.IsZero() || t.Deferred {
			e.t.Errorf("blocked and not deferred: %+v %s", t, t.Error)
		}
	}
	if len(e.load(refused).Reserved) != 2 {
		e.t.Errorf("reserved = %v, want what it asked for", e.load(refused).Reserved)
	}
	g.open()
	if a, b := q.wait(first, task.Completed), q.wait(deferred, task.Completed); a.FinishedAt > b.StartedAt {
		e.t.Error("the deferred task overtook an earlier one")
	}

	// The content app never waits.
	got = q.dispatch(task.NeverInPlace(e.ctx), immediate(true))
	if got.State != task.Waiting || got.UnblockedAt.IsZero() {
		e.t.Errorf("from the content app: %+v, want it left to a worker", got)
	}
	q.wait(got, task.Completed)

	// A failure is the task's, not Dispatch's.
	spec := q.spec(func(context.Context, *task.Job) (any, error) { panic("ouch") })
	spec.Immediate = true
	if got := q.dispatch(e.ctx, spec); got.State != task.Failed || !strings.Contains(string(got.Error), "panic: ouch") {
		e.t.Errorf("panic: %+v %s", got, got.Error)
	}

	// A client that goes away does not stop the task.
	ctx, cancel := context.WithCancel(e.ctx)
	started, release := make(chan struct{}), make(chan struct{})
	spec = q.spec(func(ctx context.Context, _ *task.Job) (any, error) { close(started); <-release; return nil, ctx.Err() })
	spec.Immediate = true
	go func() { <-started; cancel() }()
	got = q.dispatch(ctx, spec)
	if got.State != task.Running {
		e.t.Errorf("client gone: %+v, want the task as running", got)
	}
	close(release)
	q.wait(got, task.Completed)
	e.checkInvariants()
}

// TestImmediateTimeout: both in place and in a worker.
func TestImmediateTimeout(t *testing.T) {
	runEach(t, scenarios{"5 s": func(e *env) {
		q := e.start(e.config())
		spec := task.Spec{Name: "pulpcore.app.tasks.test.asleep", Args: map[string]any{"args": []float64{10}}, Immediate: true}
		deferred := q.dispatch(task.NeverInPlace(e.ctx), spec)
		start := time.Now()
		inPlace := q.dispatch(e.ctx, spec)
		if took := time.Since(start); took < task.ImmediateTimeout || took > 2*task.ImmediateTimeout {
			e.t.Errorf("Dispatch took %v", took)
		}
		for _, t := range []*task.Task{inPlace, deferred} {
			got := q.wait(t, task.Failed)
			if want := `"description":"Immediate task ` + got.ID.String() + ` timed out after 5 seconds."`; !strings.Contains(string(got.Error), want) {
				e.t.Errorf("error = %s, want %s", got.Error, want)
			}
		}
		got := q.wait(q.dispatch(e.ctx, task.Spec{Name: "pulpcore.app.tasks.test.sleep", Args: map[string]any{"args": []float64{0}}, Immediate: true}), task.Failed)
		if !strings.Contains(string(got.Error), "Immediate tasks must be async functions") {
			e.t.Errorf("error = %s", got.Error)
		}
	}})
}

// testImmediateWithoutRun: nobody would wait for a task in place, so it is left to a worker.
func testImmediateWithoutRun(e *env) {
	spec := x("A")
	spec.Immediate = true
	if got := e.idle(e.config()).dispatch(e.ctx, spec); got.State != task.Waiting || got.UnblockedAt.IsZero() {
		e.t.Errorf("got %+v, want it waiting and unblocked", got)
	}
}

// testImmediateGoFirst: workers take immediate tasks before older ordinary ones.
func testImmediateGoFirst(e *env) {
	cfg := e.config()
	cfg.Workers = 1
	q := e.start(cfg)
	g := q.gate(e.ctx, task.Spec{})
	q.waitStarted(g)
	ordinary := q.dispatch(e.ctx, q.spec(nothing))
	spec := q.spec(nothing)
	spec.Immediate = true
	immediate := q.dispatch(task.NeverInPlace(e.ctx), spec)
	g.open()
	if a, b := q.wait(immediate, task.Completed), q.wait(ordinary, task.Completed); a.FinishedAt > b.StartedAt {
		e.t.Error("the ordinary task went first")
	}
}
