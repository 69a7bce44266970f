package task

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// TestKinds are the tasks that Pulp's own tests dispatch, for test setups only. Their arguments are {"args": […], "kwargs": {…}}.
func TestKinds() []Kind {
	const prefix = "pulpcore.app.tasks.test."
	return []Kind{
		{prefix + "sleep", func(ctx context.Context, j *Job) (any, error) {
			if j.Task.Immediate {
				return nil, errors.New("Immediate tasks must be async functions.") //nolint:staticcheck // the text that clients know
			}
			return sleepKind(ctx, j)
		}},
		{prefix + "asleep", sleepKind},
		{prefix + "gooey_task", func(_ context.Context, j *Job) (any, error) {
			d, err := interval(j)
			time.Sleep(d) // whatever its context says
			return nil, err
		}},
		{prefix + "dummy_task", func(context.Context, *Job) (any, error) { return nil, nil }},
		{prefix + "dummy_group_task", dummyGroup},
		{prefix + "missing_worker", func(context.Context, *Job) (any, error) { return nil, errMissing }},
	}
}

func sleepKind(ctx context.Context, j *Job) (any, error) {
	d, err := interval(j)
	if err != nil {
		return nil, err
	}
	return nil, sleep(ctx, d)
}

// interval returns the only argument, in seconds, of the tasks that sleep.
func interval(j *Job) (time.Duration, error) {
	var a struct {
		Args   []float64
		Kwargs struct{ Interval float64 }
	}
	if err := j.Args(&a); err != nil {
		return 0, err
	}
	s := a.Kwargs.Interval
	if len(a.Args) > 0 {
		s = a.Args[0]
	}
	if s < 0 {
		return 0, errors.New("sleep length must be non-negative")
	}
	return time.Duration(s * float64(time.Second)), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// dummyGroup dispatches a task that sleeps for each of its intervals, with a pause between them.
func dummyGroup(ctx context.Context, j *Job) (any, error) {
	var a struct {
		Args   []json.RawMessage
		Kwargs struct {
			Inbetween *float64
			Intervals []float64
		}
	}
	if err := j.Args(&a); err != nil {
		return nil, err
	}
	pause := 3.0
	if len(a.Args) > 0 {
		if err := json.Unmarshal(a.Args[0], &pause); err != nil {
			return nil, err
		}
	}
	if a.Kwargs.Inbetween != nil {
		pause = *a.Kwargs.Inbetween
	}
	intervals := a.Kwargs.Intervals
	if len(a.Args) > 1 {
		if err := json.Unmarshal(a.Args[1], &intervals); err != nil {
			return nil, err
		}
	}
	if intervals == nil {
		intervals = []float64{0, 1, 2, 3, 4}
	}
	for _, seconds := range intervals {
		_, err := j.Dispatch(ctx, Spec{Name: "pulpcore.app.tasks.test.sleep", Args: map[string]any{"args": []float64{seconds}}})
		if err != nil {
			return nil, err
		}
		if err := sleep(ctx, time.Duration(pause*float64(time.Second))); err != nil {
			return nil, err
		}
	}
	return nil, j.q.GroupDispatched(ctx, j.Task.Group)
}
