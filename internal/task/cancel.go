package task

import (
	"context"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// Cancel asks a task to stop. A waiting one is canceled at once, a running one is canceling until it stops. Canceling a task that
// is canceling or canceled changes nothing. For other final states the task comes with an error of kind Conflict.
func (q *Queue) Cancel(ctx context.Context, id pulp.ID) (_ *Task, err error) {
	defer errs.Wrap(&err, "cancel task %s", id)
	for {
		t, err := One(ctx, q.db, id)
		if err != nil {
			return nil, err
		}
		switch t.State {
		case Waiting, Running:
		case Canceling, Canceled:
			return t, nil
		default:
			return t, errs.E(errs.Conflict, "The task is finished.")
		}
		if err := q.cancel(ctx, t); err != nil {
			return nil, err
		}
		// Look again: it may have moved on, and then there is something else to do.
	}
}

// cancel does what the task's state, as it was read, asks for. It does nothing if the state is another by now.
func (q *Queue) cancel(ctx context.Context, t *Task) error {
	if t.State == Running {
		return q.db.Update(ctx, func(tx *db.Tx) error {
			n, err := tx.Exec(ctx, "UPDATE core_task SET state = 'canceling' WHERE id = ? AND state = 'running'", t.ID)
			if err != nil || n == 0 {
				return err
			}
			return tx.Notify(ctx, cancelChannel, t.ID.String())
		})
	}
	done := false
	now := q.cfg.Clock.Now()
	err := q.db.Update(ctx, func(tx *db.Tx) error {
		done = false
		if err := guard(ctx, tx, recorded(t.Reserved)); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, "UPDATE core_task SET state = 'canceled', finished_at = ? WHERE id = ? AND state = 'waiting'", now, t.ID)
		if err != nil || n == 0 {
			return err
		}
		done = true
		freed, err := release(ctx, tx, t.Seq, now)
		if err != nil {
			return err
		}
		return q.tellReady(ctx, tx, freed)
	})
	if err == nil && done {
		canceled := *t
		canceled.State, canceled.FinishedAt = Canceled, now
		q.ended(ctx, &canceled)
	}
	return err
}

// CancelGroup marks a group as all dispatched and cancels its unfinished members.
func (q *Queue) CancelGroup(ctx context.Context, id pulp.ID) (_ *Group, err error) {
	defer errs.Wrap(&err, "cancel task group %s", id)
	if err := q.GroupDispatched(ctx, id); err != nil {
		return nil, err
	}
	for {
		// Parents come first. A canceled one makes no more children; those that it made before are found in the next round.
		ids, err := db.Column[pulp.ID](ctx, q.db, "SELECT id FROM core_task WHERE task_group = ? AND state IN ('waiting', 'running') ORDER BY seq", id)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if _, err := q.Cancel(ctx, id); err != nil && !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.NotFound) {
				return nil, err
			}
		}
		if len(ids) == 0 {
			break
		}
	}
	list, err := Groups(ctx, q.db, []pulp.ID{id})
	if err == nil && len(list) == 0 {
		err = errs.NotFoundModel("TaskGroup")
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// Delete deletes a finished task. The error is of kind Conflict when it is unfinished, or when something else needs it.
func (q *Queue) Delete(ctx context.Context, id pulp.ID) (err error) {
	defer errs.Wrap(&err, "delete task %s", id)
	state, err := db.Value[State](ctx, q.db, "SELECT state FROM core_task WHERE id = ?", id)
	switch {
	case errs.Is(err, errs.NotFound):
		return errs.NotFoundModel("Task")
	case err != nil:
		return err
	case !state.Final():
		return errs.E(errs.Conflict, "The task is not finished.")
	}
	_, err = q.deleteTasks(ctx, []pulp.ID{id})
	if db.IsForeignKey(err) {
		return &errs.Error{Kind: errs.Conflict, Detail: "The task is needed by something else.", Err: err}
	}
	return err
}

// NewGroup makes a task group in the call's domain.
func (q *Queue) NewGroup(ctx context.Context, description string) (_ pulp.ID, err error) {
	defer errs.Wrap(&err, "make a task group")
	domain := pulp.CallOf(ctx).Domain.ID
	if domain.IsZero() {
		if domain, err = q.defaultDomain(ctx); err != nil {
			return pulp.ID{}, err
		}
	}
	id, now := pulp.NewID(), q.cfg.Clock.Now()
	return id, q.db.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO core_taskgroup (id, domain, created, updated, description) VALUES (?, ?, ?, ?, ?)", id, domain, now, now, description)
		return err
	})
}

// GroupDispatched notes that no further task will join the group.
func (q *Queue) GroupDispatched(ctx context.Context, id pulp.ID) error {
	return q.db.Update(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE core_taskgroup SET all_tasks_dispatched = ? WHERE id = ?", true, id)
		if err == nil && n == 0 {
			err = errs.NotFoundModel("TaskGroup")
		}
		return err
	})
}
