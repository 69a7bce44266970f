package task_test

import (
	"sync/atomic"
	"testing"
	"time"

	"granary/internal/db"
	"granary/internal/pulp"
	"granary/internal/task"
)

// A clock is one that tests move.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

type scheduleRow struct {
	Task  string
	Every int64
	Next  pulp.Time
	Last  pulp.ID
}

func (e *env) schedule(name string) (r scheduleRow) {
	e.t.Helper()
	err := e.db.QueryRow(e.ctx, "SELECT task_name, coalesce(dispatch_interval, 0), next_dispatch, last_task FROM core_taskschedule WHERE name = ?", name).
		Scan(&r.Task, &r.Every, &r.Next, &r.Last)
	if err != nil {
		e.t.Fatal(err)
	}
	return r
}

func TestSchedules(t *testing.T) {
	runEach(t, scenarios{
		"SchedulesBasics": testSchedulesBasics,
		"Auxiliary":       testAuxiliary,
		"Statistics":      testStatistics,
	})
}

func testSchedulesBasics(e *env) {
	const dummy = "pulpcore.app.tasks.test.dummy_task"
	var c clock
	cfg := e.config()
	cfg.Clock, cfg.TTL = c.now, 150*time.Millisecond
	q := e.start(cfg)
	start := pulp.TimeOf(time.Now())
	err := q.SetSchedules(e.ctx, []task.Schedule{
		{"daily", dummy, 24 * time.Hour}, {"stuck", "run", time.Hour}, {"off", dummy, 0},
	})
	if err != nil {
		e.t.Fatal(err)
	}
	if n, err := db.Value[int](e.ctx, e.db, "SELECT count(*) FROM core_taskschedule"); err != nil || n != 2 {
		e.t.Errorf("%d schedules, %v, want 2", n, err)
	}

	// A new one is due at once.
	e.eventually("it is dispatched", func() bool { return !e.schedule("daily").Last.IsZero() })
	first := e.schedule("daily")
	if first.Task != dummy || first.Every != (24*time.Hour).Microseconds() || first.Next < start+pulp.Time(first.Every) {
		e.t.Errorf("schedule = %+v", first)
	}
	got := q.wait(&task.Task{ID: first.Last}, task.Completed)
	if got.Domain != e.domain.ID || got.User != 0 || len(got.CID) != 32 || got.Name != dummy {
		e.t.Errorf("task = %+v, want nobody's in the default domain with an id of its own", got)
	}

	// What was missed is skipped, and the times stay in step.
	c.advance(5*24*time.Hour + time.Hour)
	e.eventually("it is dispatched again", func() bool { return e.schedule("daily").Last != first.Last })
	second := e.schedule("daily")
	if want := first.Next + 5*pulp.Time(first.Every); second.Next != want {
		e.t.Errorf("next = %v, want %v", second.Next, want)
	}
	q.wait(&task.Task{ID: second.Last}, task.Completed)
	if second.Last == first.Last || e.load(&task.Task{ID: second.Last}).CID == got.CID {
		e.t.Error("the second task has the first one's correlation id")
	}

	// Once only, and not while the last task is unfinished.
	g := q.gate(e.ctx, x("A"))
	now := pulp.TimeOf(c.now())
	err = e.db.Update(e.ctx, func(tx *db.Tx) error {
		for _, row := range [][]any{{"once", nil, dummy, pulp.ID{}}, {"busy", 1000, dummy, g.ID}} {
			_, err := tx.Exec(e.ctx, "INSERT INTO core_taskschedule (id, created, updated, name, dispatch_interval, task_name, next_dispatch, last_task) VALUES (?, 1, 1, ?, ?, ?, ?, ?)",
				pulp.NewID(), row[0], row[1], row[2], now, row[3])
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
	e.eventually("the one without an interval is dispatched", func() bool { return !e.schedule("once").Last.IsZero() })
	if got := e.schedule("once"); !got.Next.IsZero() {
		e.t.Errorf("once: next = %v, want none", got.Next)
	}
	if got := e.schedule("busy"); got.Last != g.ID || got.Next != now {
		e.t.Errorf("busy: %+v, want it to wait for its last task", got)
	}
	g.open()
	e.eventually("the one whose task is done is dispatched", func() bool { return e.schedule("busy").Last != g.ID })

	// Changes.
	before := e.schedule("daily")
	if err := q.SetSchedules(e.ctx, []task.Schedule{{"daily", "run", time.Hour}, {"stuck", "run", 0}}); err != nil {
		e.t.Fatal(err)
	}
	if got := e.schedule("daily"); got.Task != "run" || got.Every != time.Hour.Microseconds() || got.Next >= before.Next || got.Last != before.Last {
		e.t.Errorf("shorter interval: %+v, before it was %+v", got, before)
	}
	short := e.schedule("daily")
	if err := q.SetSchedules(e.ctx, []task.Schedule{{"daily", "run", 48 * time.Hour}}); err != nil {
		e.t.Fatal(err)
	}
	if got := e.schedule("daily"); got.Next != short.Next {
		e.t.Errorf("longer interval: next = %v, want still %v", got.Next, short.Next)
	}
	if n, err := db.Value[int](e.ctx, e.db, "SELECT count(*) FROM core_taskschedule WHERE name = 'stuck'"); err != nil || n != 0 {
		e.t.Errorf("the schedule with interval 0 is still there, %v", err)
	}
}

// testAuxiliary: such a process dispatches no schedule.
func testAuxiliary(e *env) {
	cfg := e.config()
	cfg.Auxiliary, cfg.TTL = true, 30*time.Millisecond
	q := e.start(cfg)
	if err := q.SetSchedules(e.ctx, []task.Schedule{{"s", "run", time.Hour}}); err != nil {
		e.t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // ten times as long as others would take
	if got := e.schedule("s"); !got.Last.IsZero() {
		e.t.Errorf("got %+v, want nothing dispatched", got)
	}
}

func testStatistics(e *env) {
	q := e.idle(e.config())
	stats := func(after time.Duration) task.Stats {
		s, err := task.Statistics(e.ctx, e.db, pulp.TimeOf(time.Now().Add(after)))
		if err != nil {
			e.t.Fatal(err)
		}
		return s
	}
	if got := stats(time.Hour); got != (task.Stats{}) {
		e.t.Errorf("empty: %+v", got)
	}
	q.dispatch(e.ctx, x("A"))
	q.dispatch(e.ctx, x("A")) // blocked: does not count
	q.dispatch(e.ctx, x("B"))
	if got := stats(time.Second); got != (task.Stats{}) {
		e.t.Errorf("young: %+v", got)
	}
	if got := stats(time.Hour); got.Unblocked != 2 || got.Longest < time.Hour-time.Minute || got.Longest > time.Hour+time.Minute {
		e.t.Errorf("late: %+v", got)
	}
}
