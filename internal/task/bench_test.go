package task_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/pulp"
	"granary/internal/task"
)

// engines runs a benchmark on both.
func engines(b *testing.B, f func(b *testing.B, e *env)) {
	b.Run("sqlite", func(b *testing.B) { f(b, newEnv(b, dbtest.Open(b, dbtest.SQLite(b)))) })
	b.Run("postgres", func(b *testing.B) { f(b, newEnv(b, dbtest.Open(b, dbtest.Postgres(b)))) })
}

// BenchmarkContended: short tasks, each with one of 40 repositories exclusively and one of 10 remotes shared, from 8 clients to 6
// workers. One operation is one task, from its dispatch to its end.
func BenchmarkContended(b *testing.B) {
	engines(b, func(b *testing.B, e *env) {
		cfg := e.config()
		cfg.Workers = 6
		q := e.start(cfg)
		spec := q.spec(nothing)
		b.ResetTimer()
		var wg sync.WaitGroup
		const clients = 8
		for c := range clients {
			wg.Go(func() {
				for i := c; i < b.N; i += clients {
					spec := spec
					spec.Exclusive = []string{fmt.Sprint("prn:file.filerepository:", i%40)}
					spec.Shared = []string{fmt.Sprint("prn:file.fileremote:", i%10)}
					if _, err := q.Dispatch(e.ctx, spec); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		for left := true; left; {
			var err error
			if left, err = db.Exists(e.ctx, e.db, "SELECT 1 FROM core_task WHERE finished_at IS NULL"); err != nil {
				b.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
	})
}

// BenchmarkImmediate: an immediate task that nothing blocks, one after the other: what an update of a distribution costs.
func BenchmarkImmediate(b *testing.B) {
	engines(b, func(b *testing.B, e *env) {
		q := e.start(e.config())
		spec := q.spec(nothing)
		spec.Immediate, spec.Exclusive = true, []string{"pdrn:x:distributions"}
		for b.Loop() {
			if t := q.dispatch(e.ctx, spec); t.State != task.Completed {
				b.Fatalf("state = %s, error = %s, reserved = %v", t.State, t.Error, t.Reserved)
			}
		}
	})
}

// BenchmarkLongQueue compares dispatching and finishing a task while nothing waits with the same behind 100,000 tasks that
// wait for one resource.
func BenchmarkLongQueue(b *testing.B) {
	const waiting = 100_000
	engines(b, func(b *testing.B, e *env) {
		q := e.idle(e.config())
		// One operation queues a task on a busy resource, and one that is free, and removes the first one before it and itself.
		measure := func() time.Duration {
			const rounds = 200
			start := time.Now()
			for range rounds {
				busy := q.dispatch(e.ctx, x("busy"))
				free := q.dispatch(e.ctx, s("other"))
				for _, t := range []*task.Task{busy, free} {
					if _, err := q.Cancel(e.ctx, t.ID); err != nil {
						b.Fatal(err)
					}
				}
			}
			return time.Since(start) / rounds
		}
		q.dispatch(e.ctx, x("busy"))
		empty := measure()
		e.fill(waiting)
		full := measure()
		b.ReportMetric(float64(empty.Microseconds()), "µs-empty")
		b.ReportMetric(float64(full.Microseconds()), "µs-behind-100000")
		b.ReportMetric(float64(full)/float64(empty), "ratio")
	})
}

// fill adds waiting tasks on the resource "busy", as Dispatch would, but in few transactions.
func (e *env) fill(n int) {
	e.t.Helper()
	domain := pulp.RefTo("core.domain", e.domain.ID).PRN()
	for done := 0; done < n; {
		err := e.db.Update(e.ctx, func(tx *db.Tx) error {
			rows, hot, all := [][]any{}, [][]any{}, [][]any{}
			first, err := db.Value[int64](e.ctx, tx, "SELECT max(seq) + 1 FROM core_task")
			if err != nil {
				return err
			}
			for i := range min(5000, n-done) {
				id, seq := pulp.NewID(), first+int64(i)
				rows = append(rows, []any{seq, id, e.domain.ID, 1, 1, "waiting", "run", "cid", "[]", ""})
				for _, l := range []struct {
					resource  string
					exclusive bool
				}{{"busy", true}, {domain, false}} {
					hot = append(hot, []any{l.resource, l.exclusive, seq})
					all = append(all, []any{id, l.resource, l.exclusive})
				}
			}
			if _, err := tx.Insert(e.ctx, "core_task", []string{"seq", "id", "domain", "created", "updated", "state", "name", "logging_cid", "reserved_resources_record", "args"}, rows, ""); err != nil {
				return err
			}
			if _, err := tx.Insert(e.ctx, "core_tasklock", []string{"resource", "exclusive", "seq"}, hot, ""); err != nil {
				return err
			}
			if tx.Engine() == db.PostgreSQL {
				if _, err := tx.Exec(e.ctx, "SELECT setval(pg_get_serial_sequence('core_task', 'seq'), ?)", first+int64(len(rows))); err != nil {
					return err
				}
			}
			_, err = tx.Insert(e.ctx, "core_taskresource", []string{"task", "resource", "exclusive"}, all, "")
			return err
		})
		if err != nil {
			e.t.Fatal(err)
		}
		done += min(5000, n-done)
	}
}
