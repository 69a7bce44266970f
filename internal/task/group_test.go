package task_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/task"
)

func TestGroups(t *testing.T) {
	runEach(t, scenarios{
		"Children":                      testChildren,
		"CancelGroup":                   testCancelGroup,
		"CanceledParentMakesNoChildren": testCanceledParentMakesNoChildren,
	})
}

// testChildren: what a task dispatches carries on its user, domain, correlation id and group.
func testChildren(e *env) {
	q := e.start(e.config())
	ctx := e.as(e.alice, e.other)
	group, err := q.NewGroup(ctx, "a group")
	if err != nil {
		e.t.Fatal(err)
	}
	var grandchild, immediate *task.Task
	spec := q.spec(func(ctx context.Context, j *task.Job) (any, error) {
		if err := j.GroupProgress(ctx, "import.repo.versions", "Versions", 2); err != nil {
			return nil, err
		}
		child := q.spec(func(ctx context.Context, j *task.Job) (_ any, err error) {
			if grandchild, err = j.Dispatch(ctx, q.spec(nothing)); err != nil {
				return nil, err
			}
			return nil, j.GroupAdd(ctx, "import.repo.versions", 1)
		})
		inPlace := q.spec(nothing)
		inPlace.Immediate = true
		var err error
		if immediate, err = j.Dispatch(ctx, inPlace); err != nil {
			return nil, err
		}
		if immediate.State != task.Completed {
			return nil, fmt.Errorf("the immediate child is %s", immediate.State)
		}
		c, err := j.Dispatch(ctx, child)
		return c.ID, err
	})
	spec.Group = group
	parent := q.wait(q.dispatch(ctx, spec), task.Completed)
	if len(parent.Children) != 2 || parent.Children[0] != immediate.ID {
		e.t.Fatalf("children = %v, want the immediate one and another", parent.Children)
	}
	child := q.wait(&task.Task{ID: parent.Children[1]}, task.Completed)
	last := q.wait(grandchild, task.Completed)
	for _, tc := range []struct {
		t      *task.Task
		parent pulp.ID
	}{{immediate, parent.ID}, {child, parent.ID}, {last, child.ID}} {
		if got := e.load(tc.t); got.Parent != tc.parent || got.Group != group || got.CID != parent.CID || got.User != e.alice.ID || got.Domain != e.other.ID {
			e.t.Errorf("got %+v, want it to carry on what %v has", got, tc.parent)
		}
	}
	list, err := task.Groups(ctx, e.db, []pulp.ID{pulp.NewID(), group})
	if err != nil || len(list) != 1 {
		e.t.Fatalf("Groups = %v, %v", list, err)
	}
	g := list[0]
	if g.Description != "a group" || g.Domain != e.other.ID || g.AllDispatched || g.Counts[task.Completed] != 4 || len(g.Counts) != 1 ||
		!slices.Equal(g.Tasks, []pulp.ID{parent.ID, immediate.ID, child.ID, last.ID}) {
		e.t.Errorf("group = %+v", g)
	}
	if p := g.Progress; len(p) != 1 || p[0].Code != "import.repo.versions" || p[0].Message != "Versions" || *p[0].Total != 2 || p[0].Done != 1 {
		e.t.Errorf("group progress = %+v", p)
	}
}

func testCancelGroup(e *env) {
	q := e.start(e.config())
	group, err := q.NewGroup(e.ctx, "")
	if err != nil {
		e.t.Fatal(err)
	}
	outside := q.gate(e.ctx, x("A"))
	q.waitStarted(outside)
	done := q.spec(nothing)
	done.Group = group
	q.wait(q.dispatch(e.ctx, done), task.Completed)
	running := q.gate(e.ctx, task.Spec{Group: group})
	q.waitStarted(running)
	var waiting []*task.Task
	for range 3 {
		waiting = append(waiting, q.dispatch(e.ctx, task.Spec{Name: "run", Group: group, Exclusive: []string{"A"}}))
	}
	g, err := q.CancelGroup(e.ctx, group)
	if err != nil {
		e.t.Fatal(err)
	}
	if !g.AllDispatched || g.Counts[task.Waiting] != 0 || g.Counts[task.Running] != 0 || g.Counts[task.Completed] != 1 || g.Counts[task.Canceled]+g.Counts[task.Canceling] != 4 {
		e.t.Errorf("group = %+v", g)
	}
	q.wait(running.Task, task.Canceled)
	for _, t := range waiting {
		q.wait(t, task.Canceled)
	}
	if e.state(outside.Task) != task.Running {
		e.t.Error("a task outside of the group was canceled")
	}
	if g, err := q.CancelGroup(e.ctx, group); err != nil || g.Counts[task.Canceled] != 4 {
		e.t.Errorf("again: %+v, %v", g, err)
	}
	if _, err := q.CancelGroup(e.ctx, pulp.NewID()); !errs.Is(err, errs.NotFound) {
		e.t.Errorf("missing: %v, want NotFound", err)
	}
}

// testCanceledParentMakesNoChildren: nobody would find them.
func testCanceledParentMakesNoChildren(e *env) {
	q := e.start(e.config())
	refused := make(chan error, 1)
	spec := q.spec(func(ctx context.Context, j *task.Job) (any, error) {
		ctx = context.WithoutCancel(ctx)
		if _, err := q.Cancel(ctx, j.Task.ID); err != nil {
			return nil, err
		}
		_, err := j.Dispatch(ctx, q.spec(nothing))
		refused <- err
		return nil, err
	})
	got := q.wait(q.dispatch(e.ctx, spec), task.Canceled)
	if err := <-refused; !errs.Is(err, errs.Conflict) || len(got.Children) != 0 {
		e.t.Errorf("dispatch = %v, children %v, want a conflict and none", err, got.Children)
	}
}
