package task

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"time"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// The reasons of tasks that ended without their function's doing, as clients know them.
const (
	reasonMissing  = "Worker has gone missing."
	reasonShutdown = "Aborted during worker shutdown."
	reasonBusy     = "Resources temporarily unavailable."
)

// The causes for which the context of a task ends.
var (
	errCanceled = errors.New("the task was canceled")
	errTimeout  = errors.New("the task is out of time")
	errShutdown = errors.New("the worker stops")
	errLease    = errors.New("the worker could not renew its lease")
	errMissing  = errors.New("the worker is missing")
)

func reason(text string) json.RawMessage {
	b, _ := json.Marshal(map[string]string{"reason": text}) // strings always marshal
	return b
}

const readyQuery = "SELECT 1 FROM core_task WHERE state = 'waiting' AND unblocked_at IS NOT NULL ORDER BY immediate DESC, seq LIMIT 1"

// A claimed task is one that this process owns and is about to run.
type claimed struct {
	task *Task
	args string     // encrypted
	call *pulp.Call // nil: to be loaded
}

// work is a worker: it runs one task after the other until the queue stops.
func (q *Queue) work(ctx context.Context, slot int) {
	for !q.isStopping() {
		q.busy.Add(1)
		c, err := q.claim(ctx, slot)
		if err != nil {
			q.warn(ctx, "claim a task", err)
		}
		idle := c == nil
		for c != nil {
			c = q.perform(ctx, c, true)
		}
		if last := q.busy.Add(-1) == 0; last && idle && err == nil && q.cfg.Burst {
			q.Stop(-1)
		}
		if !idle {
			continue
		}
		select {
		case <-q.stopping:
		case <-q.wake:
		}
	}
}

// claim takes the next ready task, if there is one.
func (q *Queue) claim(ctx context.Context, slot int) (c *claimed, err error) {
	if ready, err := db.Exists(ctx, q.db, readyQuery); err != nil || !ready {
		return nil, err
	}
	owner := q.worker(slot)
	err = q.db.Update(ctx, func(tx *db.Tx) (err error) {
		c, err = q.claimTx(ctx, tx, owner)
		return err
	})
	return c, err
}

// claimTx takes the next ready task for a living app: immediate ones first, then in the order of dispatch.
func (q *Queue) claimTx(ctx context.Context, tx *db.Tx, owner pulp.ID) (*claimed, error) {
	for {
		query, args := "SELECT id, versions FROM core_task WHERE state = 'waiting' AND unblocked_at IS NOT NULL", []any(nil)
		if unfit := q.unfitVersions(); len(unfit) > 0 {
			in, values := db.In(unfit)
			query, args = query+" AND (versions IS NULL OR versions NOT IN "+in+")", values
		}
		query += " ORDER BY immediate DESC, seq LIMIT 1"
		if tx.Engine() == db.PostgreSQL {
			query += " FOR NO KEY UPDATE SKIP LOCKED"
		}
		var id pulp.ID
		var versions sql.NullString
		if err := tx.QueryRow(ctx, query, args...).Scan(&id, &versions); errs.Is(err, errs.NotFound) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		if versions.Valid && !q.fits(versions.String) {
			continue
		}
		list, err := db.All(ctx, tx, func(rows *sql.Rows) (*claimed, error) {
			c := &claimed{}
			var err error
			c.task, err = scan(rows, &c.args)
			return c, err
		}, "UPDATE core_task SET state = 'running', started_at = ?, owner = ? WHERE id = ? AND state = 'waiting' AND EXISTS (SELECT 1 FROM core_appstatus WHERE id = ?) RETURNING "+columns+", args",
			q.cfg.Clock.Now(), owner, id, owner)
		if err != nil || len(list) == 0 { // this process counts as dead
			return nil, err
		}
		return list[0], nil
	}
}

// fits says whether this process has the least versions of components, and remembers those that it has not.
func (q *Queue) fits(text string) bool {
	var least map[string]string
	if json.Unmarshal([]byte(text), &least) == nil && satisfies(q.cfg.Versions, least) {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unfit[text] = true
	return false
}

func (q *Queue) unfitVersions() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.unfit) == 0 {
		return nil
	}
	list := make([]string, 0, len(q.unfit))
	for text := range q.unfit {
		list = append(list, text)
	}
	return list
}

// callFor makes the Call that a task runs with.
func (q *Queue) callFor(ctx context.Context, t *Task) (*pulp.Call, error) {
	c := &pulp.Call{Domain: pulp.Domain{ID: t.Domain}, CID: t.CID, Root: q.cfg.Root, Task: t.ID, Group: t.Group, Diagnostics: t.Profilers}
	var name sql.NullString
	var super, active sql.NullBool
	err := q.db.QueryRow(ctx, `SELECT d.name, d.redirect_to_object_storage, d.hide_guarded_distributions, u.username, u.is_superuser, u.is_active
		FROM core_domain d LEFT JOIN auth_user u ON u.id = ? WHERE d.id = ?`, t.User, t.Domain).
		Scan(&c.Domain.Name, &c.Domain.Redirect, &c.Domain.HideGuarded, &name, &super, &active)
	if name.Valid {
		c.User = &pulp.User{ID: t.User, Name: name.String, Superuser: super.Bool, Active: active.Bool}
	}
	return c, err
}

// perform runs a task that this process owns, to its end. If next is set it returns what it claimed in the
// transaction that ended the task.
func (q *Queue) perform(ctx context.Context, c *claimed, next bool) *claimed {
	t := c.task
	call, err := c.call, error(nil)
	if call == nil {
		if call, err = q.callFor(ctx, t); err != nil {
			call = &pulp.Call{CID: t.CID, Task: t.ID}
		}
	}
	ctx, cancel := context.WithCancelCause(pulp.WithCall(ctx, call))
	defer cancel(nil)
	row := *t // the function may keep it
	j := &Job{Task: &row, q: q, owner: t.Owner, cancel: cancel, domain: call.Domain.Name}
	q.started(j)
	defer q.forget(j)
	q.log.InfoContext(ctx, fmt.Sprintf("Starting task id: %s in domain: %s, task_type: %s, immediate: %s, deferred: %s",
		t.ID, call.Domain.Name, t.Name, title(t.Immediate), title(t.Deferred)))

	var result any
	if err == nil {
		if j.args, err = q.cfg.Keys.Decrypt(c.args); err == nil {
			result, err = q.call(ctx, j)
		}
	}
	return q.finish(ctx, j, t, j.ending(ctx, result, err), next)
}

// call runs the task's function until it returns, or until it was told to stop and has not done so in time.
func (q *Queue) call(ctx context.Context, j *Job) (any, error) {
	kind, ok := q.kinds[j.Task.Name]
	if !ok {
		return nil, fmt.Errorf("no task is called %q", j.Task.Name)
	}
	ctx = context.WithValue(ctx, jobKey{}, j)
	if len(j.Task.Profilers) > 0 && q.cfg.Diagnose != nil {
		var end func()
		ctx, end = q.cfg.Diagnose(ctx, j.Task)
		defer end()
	}
	if j.Task.Immediate {
		timer := time.AfterFunc(ImmediateTimeout, func() { j.cancel(errTimeout) })
		defer timer.Stop()
	}
	type outcome struct {
		result any
		err    error
	}
	done := make(chan outcome, 1)
	go func() { // waited for below, but for a function that does not obey
		var o outcome
		pprof.SetGoroutineLabels(ctx)
		defer func() {
			if p := recover(); p != nil {
				o = outcome{nil, &panicError{p, debug.Stack()}}
			}
			done <- o
		}()
		o.result, o.err = kind.Run(ctx, j)
	}()
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done():
	}
	patience := time.NewTimer(q.cfg.Patience)
	defer patience.Stop()
	select {
	case o := <-done:
		return o.result, o.err
	case <-patience.C:
		q.log.ErrorContext(ctx, fmt.Sprintf("Task %s does not stop; it is given up", j.Task.ID))
		return nil, context.Cause(ctx)
	}
}

type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprint("panic: ", e.value) }

// An ending is what a task ends with.
type ending struct {
	state  State
	err    error // why it failed, if its function said so
	detail json.RawMessage
	result json.RawMessage
}

// ending says how a task ends whose function returned this.
func (j *Job) ending(ctx context.Context, result any, err error) ending {
	if err == nil && result != nil {
		b, err := json.Marshal(result)
		if err != nil {
			return j.failed(fmt.Errorf("result: %w", err))
		}
		return ending{state: Completed, result: b}
	}
	if err == nil {
		return ending{state: Completed}
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(err, errMissing):
		return ending{state: Failed, detail: reason(reasonMissing)}
	case cause == nil:
	case errors.Is(cause, errCanceled):
		return ending{state: Canceled}
	case errors.Is(cause, errTimeout):
		return j.failed(errs.Ef(errs.Unavailable, "Immediate task %s timed out after %d seconds.", j.Task.ID, ImmediateTimeout/time.Second))
	case errors.Is(cause, errShutdown):
		return ending{state: Failed, detail: reason(reasonShutdown)}
	case errors.Is(cause, errLease):
		return ending{state: Failed, detail: reason(reasonMissing)}
	}
	return j.failed(err)
}

func (j *Job) failed(err error) ending {
	trace := err.Error()
	if p, ok := errors.AsType[*panicError](err); ok {
		trace = string(p.stack)
	}
	detail, _ := json.Marshal(map[string]string{"traceback": trace, "description": errs.Describe(err)}) // strings always marshal
	return ending{state: Failed, err: err, detail: detail}
}

// finish ends a task: its state, its last progress, its locks, and what waits for these, in one transaction. It tries
// until it succeeds, the task turns out to be another's, or the queue is aborted: then it is found by who looks for lost tasks.
func (q *Queue) finish(ctx context.Context, j *Job, t *Task, e ending, next bool) (more *claimed) {
	ctx = context.WithoutCancel(ctx)
	cleaned := false
	for try := 0; ; try++ {
		if e.state != Completed && !cleaned {
			q.cleanup(ctx, t)
			cleaned = true
		}
		reports := j.close(e)
		t.Reserved = j.reserved(t.Reserved)
		var done, canceling bool
		err := q.db.Update(ctx, func(tx *db.Tx) (err error) {
			more = nil
			var freed int64
			if done, canceling, freed, err = q.end(ctx, tx, t, j.owner, e); !done {
				return err
			}
			if err := writeReports(ctx, tx, t.ID, reports); err != nil {
				return err
			}
			if next && !q.isStopping() {
				if more, err = q.claimTx(ctx, tx, j.owner); err != nil {
					return err
				}
			}
			if more != nil && more.task.UnblockedAt == t.FinishedAt {
				freed-- // this worker takes one of them itself
			}
			return q.tellReady(ctx, tx, freed)
		})
		switch {
		case err == nil && done:
			t.State, t.Error, t.Result, t.Owner = e.state, e.detail, e.result, pulp.ID{}
			q.logEnd(ctx, t, j.domain, e)
			q.ended(ctx, t)
			return more
		case err == nil && canceling: // it came before the end: what is done stays, but the state is canceled
			e = ending{state: Canceled}
			continue
		case err == nil:
			q.log.ErrorContext(ctx, fmt.Sprintf("Task %s was taken away from its worker", t.ID))
			return nil
		}
		q.warn(ctx, "end task "+t.ID.String(), err)
		select {
		case <-q.aborting:
			if try > 3 {
				return nil
			}
		case <-time.After(time.Second):
		}
	}
}

// end moves a task of this owner to a final state and frees what it held. done says whether it did; if not, canceling says
// whether that was because the task has to end canceled instead. freed is how many tasks became ready.
func (q *Queue) end(ctx context.Context, tx *db.Tx, t *Task, owner pulp.ID, e ending) (done, canceling bool, freed int64, err error) {
	if err := guard(ctx, tx, recorded(t.Reserved)); err != nil {
		return false, false, 0, err
	}
	from := "state = 'running'"
	if e.state == Canceled {
		from = "state IN ('running', 'canceling')"
	}
	now := q.cfg.Clock.Now()
	n, err := tx.Exec(ctx, "UPDATE core_task SET state = ?, finished_at = ?, error = ?, result = ?, owner = NULL WHERE id = ? AND owner = ? AND "+from,
		string(e.state), now, jsonOrNull(e.detail), jsonOrNull(e.result), t.ID, owner)
	if err != nil {
		return false, false, 0, err
	}
	if n == 0 {
		canceling, err = db.Exists(ctx, tx, "SELECT 1 FROM core_task WHERE id = ? AND owner = ? AND state = 'canceling'", t.ID, owner)
		return false, canceling, 0, err
	}
	t.FinishedAt = now
	freed, err = release(ctx, tx, t.Seq, now)
	return err == nil, false, freed, err
}

// cleanup removes what a task left incomplete.
func (q *Queue) cleanup(ctx context.Context, t *Task) {
	if q.cfg.Cleanup == nil {
		return
	}
	created, err := createdBy(ctx, q.db, t.ID)
	if err == nil && len(created) > 0 {
		err = func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = &panicError{p, debug.Stack()}
				}
			}()
			return q.cfg.Cleanup(ctx, created)
		}()
	}
	if err != nil {
		q.log.ErrorContext(ctx, fmt.Sprintf("Cleaning up after task %s: %s", t.ID, err))
	}
}

func (q *Queue) logEnd(ctx context.Context, t *Task, domain string, e ending) {
	switch {
	case e.state == Completed:
		q.log.InfoContext(ctx, fmt.Sprintf("Task completed %s in domain: %s, task_type: %s, immediate: %s, deferred: %s, execution_time: %d μs",
			t.ID, domain, t.Name, title(t.Immediate), title(t.Deferred), t.FinishedAt-t.StartedAt))
	case e.err != nil:
		q.log.InfoContext(ctx, fmt.Sprintf("Task[%s] %s failed (%s: %s) in domain: %s", t.Name, t.ID, typeName(e.err), errs.Describe(e.err), domain))
		q.log.InfoContext(ctx, e.err.Error())
	case e.state == Failed:
		var why struct{ Reason string }
		_ = json.Unmarshal(e.detail, &why)
		q.log.InfoContext(ctx, fmt.Sprintf("Task[%s] %s failed (%s) in domain: %s", t.Name, t.ID, why.Reason, domain))
	default:
		q.log.InfoContext(ctx, fmt.Sprintf("Task[%s] %s canceled in domain: %s", t.Name, t.ID, domain))
	}
}

// title writes a truth value as Pulp's log lines have it.
func title(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// typeName names the sort of an error, for the log.
func typeName(err error) string {
	if _, ok := errors.AsType[*panicError](err); ok {
		return "Panic"
	}
	if e, ok := errors.AsType[*errs.Error](err); ok {
		if e.Kind == errs.Invalid {
			return "ValidationError"
		}
		return "Error"
	}
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(next) {
		err = next
	}
	return strings.TrimLeft(fmt.Sprintf("%T", err), "*")
}

// started lists a task as running here.
func (q *Queue) started(j *Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running[j.Task.ID] = j
	if _, ok := q.canceled[j.Task.ID]; ok {
		delete(q.canceled, j.Task.ID)
		j.cancel(errCanceled)
	}
	select {
	case <-q.aborting:
		j.cancel(errShutdown)
	default:
	}
}

// forget takes a task off the list.
func (q *Queue) forget(j *Job) {
	q.mu.Lock()
	delete(q.running, j.Task.ID)
	q.mu.Unlock()
	j.removeTempDir()
}

// stopTask tells a task to stop, if it runs here.
func (q *Queue) stopTask(id pulp.ID, cause error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if j := q.running[id]; j != nil {
		j.cancel(cause)
	} else {
		q.canceled[id] = time.Now()
	}
}

// stopTasks tells all tasks that run here to stop.
func (q *Queue) stopTasks(cause error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.running {
		j.cancel(cause)
	}
}

// forgetCancelations drops those that are too old to be about a task that has yet to start here.
func (q *Queue) forgetCancelations() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id, at := range q.canceled {
		if time.Since(at) > time.Minute {
			delete(q.canceled, id)
		}
	}
}
