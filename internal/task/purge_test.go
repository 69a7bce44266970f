package task_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"granary/internal/db"
	"granary/internal/pulp"
	"granary/internal/task"
)

// finished adds finished tasks, each with a progress report, in a group of their own.
func (e *env) finished(n int, d pulp.Domain, user int64, state task.State, at pulp.Time) []pulp.ID {
	e.t.Helper()
	ids := make([]pulp.ID, n)
	err := e.db.Update(e.ctx, func(tx *db.Tx) error {
		group := pulp.NewID()
		if _, err := tx.Exec(e.ctx, "INSERT INTO core_taskgroup (id, domain, created, updated) VALUES (?, ?, 1, 1)", group, d.ID); err != nil {
			return err
		}
		for i := range ids {
			ids[i] = pulp.NewID()
			_, err := tx.Exec(e.ctx, `INSERT INTO core_task (id, domain, created, updated, state, name, logging_cid, user_id, finished_at, reserved_resources_record, args, task_group)
				VALUES (?, ?, 1, 1, ?, 'x', 'c', ?, ?, '[]', '', ?)`, ids[i], d.ID, string(state), user, at, group)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(e.ctx, "INSERT INTO core_progressreport (task, ordinal, message, code, state, done) VALUES (?, 1, '', '', '', 0)", ids[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return ids
}

// left counts those that are still there.
func (e *env) left(ids []pulp.ID) int {
	e.t.Helper()
	list, err := task.Tasks(e.ctx, e.db, ids)
	if err != nil {
		e.t.Fatal(err)
	}
	return len(list)
}

func reports(t *task.Task) string {
	var list []string
	for _, r := range t.Progress {
		if r.State != t.State || r.Total == nil || *r.Total != r.Done {
			list = append(list, fmt.Sprintf("%+v", r))
		}
		list = append(list, fmt.Sprintf("%s=%d", r.Code, r.Done))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestPurge(t *testing.T) {
	runEach(t, scenarios{
		"PurgeBasics":            testPurgeBasics,
		"PurgeAsksForPermission": testPurgeAsksForPermission,
	})
}

func testPurgeBasics(e *env) {
	cfg := e.config()
	cfg.PurgeAge = time.Hour
	cfg.Deleted = func(_ context.Context, _ *db.Tx, ids []pulp.ID) (map[string]int64, error) {
		return map[string]int64{"core.UserRole": int64(len(ids))}, nil
	}
	q := e.start(cfg)
	old, young := pulp.TimeOf(time.Now().Add(-48*time.Hour)), pulp.TimeOf(time.Now())
	between := pulp.TimeOf(time.Now().Add(-24 * time.Hour))
	oldDone := e.finished(450, e.domain, 1, task.Completed, old)
	oldFailed := e.finished(3, e.domain, 2, task.Failed, old)
	newDone := e.finished(3, e.domain, 1, task.Completed, young)
	otherDone := e.finished(3, e.other, 1, task.Completed, old)

	// Nothing to do.
	got := q.wait(q.dispatch(e.ctx, task.PurgeSpec(1, []task.State{task.Completed})), task.Completed)
	if got.Name != "pulpcore.app.tasks.purge.purge" || reports(got) != "purge.tasks.error=0 purge.tasks.key.core.Task=0 purge.tasks.total=0" {
		e.t.Errorf("%s: %s", got.Name, reports(got))
	}
	if got.Progress[0].Message != "Purged task-related-objects total" || got.Progress[1].Message != "Purged task-objects of type core.Task" || got.Progress[2].Message != "Tasks failed to purge" {
		e.t.Errorf("messages: %+v", got.Progress)
	}

	// One domain, one state, before a time; what is needed elsewhere stays.
	err := e.db.Update(e.ctx, func(tx *db.Tx) error {
		types := map[db.Engine]string{db.SQLite: "BLOB", db.PostgreSQL: "uuid"}
		if _, err := tx.Exec(e.ctx, "CREATE TABLE needs_task (task "+types[tx.Engine()]+" NOT NULL REFERENCES core_task (id))"); err != nil {
			return err
		}
		for _, id := range []pulp.ID{oldDone[7], oldDone[300]} {
			if _, err := tx.Exec(e.ctx, "INSERT INTO needs_task (task) VALUES (?)", id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
	got = q.wait(q.dispatch(e.ctx, task.PurgeSpec(between, []task.State{task.Completed})), task.Completed)
	want := "purge.tasks.error=2 purge.tasks.key.core.ProgressReport=448 purge.tasks.key.core.Task=448 purge.tasks.key.core.UserRole=448 purge.tasks.total=1344"
	if reports(got) != want {
		e.t.Errorf("got  %s\nwant %s", reports(got), want)
	}
	if a, b, c, d := e.left(oldDone), e.left(oldFailed), e.left(newDone), e.left(otherDone); a != 2 || b != 3 || c != 3 || d != 3 {
		e.t.Errorf("left: %d %d %d %d, want 2 3 3 3", a, b, c, d)
	}
	if err := q.Delete(e.ctx, oldDone[7]); err == nil {
		e.t.Error("a task that something needs was deleted")
	}
	if err := e.db.Update(e.ctx, func(tx *db.Tx) error { _, err := tx.Exec(e.ctx, "DELETE FROM needs_task"); return err }); err != nil {
		e.t.Fatal(err)
	}

	// Others purge their own.
	ofAlice := e.finished(2, e.domain, 2, task.Canceled, old)
	ofAdmin := e.finished(2, e.domain, 1, task.Canceled, old)
	got = q.wait(q.dispatch(e.as(e.alice, e.domain), task.PurgeSpec(between, []task.State{task.Canceled, task.Failed})), task.Completed)
	if a, b, c := e.left(ofAlice), e.left(ofAdmin), e.left(oldFailed); a != 0 || b != 2 || c != 0 {
		e.t.Errorf("left: %d %d %d, want 0 2 0; %s", a, b, c, reports(got))
	}

	// The scheduled one: all domains, all final states, by age.
	got = q.wait(q.dispatch(e.t.Context(), task.Spec{Name: "pulpcore.app.tasks.purge.purge"}), task.Completed)
	if a, b, c, d := e.left(oldDone), e.left(ofAdmin), e.left(newDone), e.left(otherDone); a != 0 || b != 0 || c != 3 || d != 0 {
		e.t.Errorf("left: %d %d %d %d, want 0 0 3 0; %s", a, b, c, d, reports(got))
	}
	if n, err := db.Value[int](e.ctx, e.db, "SELECT count(*) FROM core_taskgroup"); err != nil || n != 1 {
		e.t.Errorf("%d groups are left, %v, want the one that has tasks", n, err)
	}
}

// testPurgeAsksForPermission, and fails with the reason when that fails.
func testPurgeAsksForPermission(e *env) {
	cfg := e.config()
	var may []pulp.ID
	cfg.MayDelete = func(ctx context.Context, _ db.Querier, ids []pulp.ID) ([]pulp.ID, error) {
		if pulp.CallOf(ctx).User.Name != "alice" {
			return nil, errors.New("not asked for alice")
		}
		return slices.DeleteFunc(slices.Clone(ids), func(id pulp.ID) bool { return !slices.Contains(may, id) }), nil
	}
	q := e.start(cfg)
	ids := e.finished(3, e.domain, 1, task.Completed, 5)
	may = ids[:2]
	q.wait(q.dispatch(e.as(e.alice, e.domain), task.PurgeSpec(10, []task.State{task.Completed})), task.Completed)
	if n := e.left(ids); n != 1 {
		e.t.Errorf("%d are left, want 1", n)
	}
	got := q.wait(q.dispatch(e.ctx, task.PurgeSpec(10, []task.State{task.Running})), task.Failed)
	if !strings.Contains(string(got.Error), "is not a final state") {
		e.t.Errorf("error = %s", got.Error)
	}
}
