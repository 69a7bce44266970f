package task_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"granary/internal/task"
)

func TestProgress(t *testing.T) {
	runEach(t, scenarios{
		"ProgressStates":         testProgressStates,
		"ProgressOfARunningTask": testProgressOfARunningTask,
		"TempDir":                testTempDir,
	})
}

func testProgressStates(e *env) {
	q := e.start(e.config())
	boom := errors.New("boom")
	for _, tc := range []struct {
		name string
		f    func(ctx context.Context, j *task.Job) error
		end  task.State
		want string
	}{
		{"open ones complete with the task", func(_ context.Context, j *task.Job) error {
			j.Progress("a", "A").Add(3)
			return nil
		}, task.Completed, "a:A:completed:3/nil:nil"},
		{"numbers", func(_ context.Context, j *task.Job) error {
			a := j.Progress("a", "A")
			a.SetTotal(5)
			a.SetSuffix("files\x00\xff")
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() { a.Add(1) })
			}
			wg.Wait()
			a.Done()
			b := j.Progress("b", "B")
			b.SetTotal(7)
			b.SetTotal(-1)
			b.SetDone(9)
			c := j.Progress("c", "C")
			c.AddTotal(2)
			c.AddTotal(2)
			return nil
		}, task.Completed, "a:A:completed:5/5:files\uFFFD b:B:completed:9/nil:nil c:C:completed:0/4:nil"},
		{"open ones fail with the task", func(_ context.Context, j *task.Job) error {
			j.Progress("a", "A").Done()
			j.Progress("b", "B")
			return boom
		}, task.Failed, "a:A:completed:0/nil:nil b:B:failed:0/nil:nil"},
		{"open ones are canceled when another one failed", func(_ context.Context, j *task.Job) error {
			j.Progress("a", "A")
			b := j.Progress("b", "B")
			j.Progress("c", "C")
			err := boom
			b.End(&err)
			return err
		}, task.Failed, "a:A:canceled:0/nil:nil b:B:failed:0/nil:nil c:C:canceled:0/nil:nil"},
		{"a scope ends by its error", func(_ context.Context, j *task.Job) error {
			for i, err := range []error{nil, boom, fmt.Errorf("stopped: %w", context.Canceled)} {
				p := j.Progress(fmt.Sprint(i), "P")
				p.End(&err)
				p.Done() // an end is final
			}
			return nil
		}, task.Completed, "0:P:completed:0/nil:nil 1:P:failed:0/nil:nil 2:P:canceled:0/nil:nil"},
		{"open ones are canceled with the task", func(ctx context.Context, j *task.Job) error {
			task.JobOf(ctx).Progress("a", "A").Add(1)
			if _, err := q.Cancel(context.WithoutCancel(ctx), j.Task.ID); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		}, task.Canceled, "a:A:canceled:1/nil:nil"},
	} {
		got := q.wait(q.dispatch(e.ctx, q.spec(func(ctx context.Context, j *task.Job) (any, error) { return nil, tc.f(ctx, j) })), tc.end)
		var text string
		for _, r := range got.Progress {
			total, suffix := "nil", "nil"
			if r.Total != nil {
				total = fmt.Sprint(*r.Total)
			}
			if r.Suffix != nil {
				suffix = *r.Suffix
			}
			text += fmt.Sprintf(" %s:%s:%s:%d/%s:%s", r.Code, r.Message, r.State, r.Done, total, suffix)
		}
		if text = text[min(1, len(text)):]; text != tc.want {
			e.t.Errorf("%s:\n got %s\nwant %s", tc.name, text, tc.want)
		}
	}
	task.JobOf(e.ctx).Progress("nobody", "reads this").Add(1)
}

// testProgressOfARunningTask: readers see it while the task runs, at most two seconds late.
func testProgressOfARunningTask(e *env) {
	q := e.start(e.config())
	next, release := make(chan struct{}), make(chan struct{})
	got := q.dispatch(e.ctx, q.spec(func(_ context.Context, j *task.Job) (any, error) {
		a, b := j.Progress("a", "A"), j.Progress("b", "B")
		<-next
		a.Add(5)
		b.Done()
		<-release
		return nil, nil
	}))
	is := func(states ...task.State) func() bool {
		return func() bool {
			r := e.load(got).Progress
			return len(r) == 2 && r[0].State == states[0] && r[1].State == states[1]
		}
	}
	e.eventually("both run", is(task.Running, task.Running))
	close(next)
	e.eventually("b is completed", is(task.Running, task.Completed))
	e.eventually("a has 5", func() bool { return e.load(got).Progress[0].Done == 5 })
	close(release)
	q.wait(got, task.Completed)
}

func testTempDir(e *env) {
	cfg := e.config()
	old := filepath.Join(cfg.TempDir, "task-0190163d-8694-739b-aea5-966c26f8ad91")
	for _, dir := range []string{old, filepath.Join(cfg.TempDir, "something-else")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			e.t.Fatal(err)
		}
	}
	q := e.start(cfg)
	var dir string
	for _, end := range []error{nil, errors.New("no")} {
		want := map[bool]task.State{true: task.Completed, false: task.Failed}[end == nil]
		q.wait(q.dispatch(e.ctx, q.spec(func(_ context.Context, j *task.Job) (_ any, err error) {
			if dir, err = j.TempDir(); err != nil {
				return nil, err
			}
			again, err := j.TempDir()
			if err != nil || again != dir {
				return nil, fmt.Errorf("the second time it is %s, %w", again, err)
			}
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
				return nil, fmt.Errorf("%v, %w", info, err)
			}
			return nil, errors.Join(os.WriteFile(filepath.Join(dir, "f"), nil, 0o600), end)
		})), want)
		e.eventually("the directory is gone", func() bool { _, err := os.Stat(dir); return errors.Is(err, os.ErrNotExist) })
	}
	if filepath.Dir(dir) != cfg.TempDir {
		e.t.Errorf("the scratch directory was %s, want it in %s", dir, cfg.TempDir)
	}
	left, err := os.ReadDir(cfg.TempDir)
	if err != nil || len(left) != 1 || left[0].Name() != "something-else" {
		e.t.Errorf("left: %v, %v", left, err)
	}
}
