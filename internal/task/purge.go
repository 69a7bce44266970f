package task

import (
	"context"
	"database/sql"
	"maps"
	"slices"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

const (
	purgeName = "pulpcore.app.tasks.purge.purge"
	taskModel = "core.Task" // as progress reports name it
)

// purgeArgs says what to purge. A scheduled purge has none.
type purgeArgs struct {
	FinishedBefore pulp.Time `json:"finished_before"`
	States         []State   `json:"states"`
}

// PurgeSpec is the task that deletes those tasks of the call's domain that ended in some final states before a time, and that
// its user may delete.
func PurgeSpec(before pulp.Time, states []State) Spec {
	return Spec{Name: purgeName, Args: purgeArgs{before, states}}
}

// purgeBatch is how many tasks are deleted at once: few enough not to keep other writers waiting.
const purgeBatch = 200

// purge is the function of the purge task. A scheduled one looks at all domains, at all final states, and at what is older than
// the configured age.
func (q *Queue) purge(ctx context.Context, j *Job) (any, error) {
	var args *purgeArgs
	if err := j.Args(&args); err != nil {
		return nil, err
	}
	domains := []pulp.ID{j.Task.Domain}
	if args == nil {
		if q.cfg.PurgeAge == 0 {
			return nil, nil
		}
		args = &purgeArgs{pulp.TimeOf(q.cfg.Clock().Add(-q.cfg.PurgeAge)), []State{Completed, Failed, Canceled, Skipped}}
		var err error
		if domains, err = db.Column[pulp.ID](ctx, q.db, "SELECT id FROM core_domain"); err != nil {
			return nil, err
		}
	}
	p := &purging{q: q, j: j, before: args.FinishedBefore, kinds: map[string]*Progress{}}
	p.total = j.Progress("purge.tasks.total", "Purged task-related-objects total")
	p.total.SetTotal(0)
	p.count(taskModel, 0)
	p.failed = j.Progress("purge.tasks.error", "Tasks failed to purge")
	p.failed.SetTotal(0)
	for _, domain := range domains {
		for _, state := range args.States {
			if !state.Final() {
				return nil, errs.Ef(errs.Invalid, "%q is not a final state.", state)
			}
			if err := p.run(ctx, domain, state); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

// A purging is a purge at work.
type purging struct {
	q             *Queue
	j             *Job
	before        pulp.Time
	total, failed *Progress
	kinds         map[string]*Progress
}

func (p *purging) count(kind string, n int64) {
	r := p.kinds[kind]
	if r == nil {
		r = p.j.Progress("purge.tasks.key."+kind, "Purged task-objects of type "+kind)
		p.kinds[kind] = r
	}
	for _, r := range []*Progress{r, p.total} {
		r.AddTotal(n)
		r.Add(n)
	}
}

// run purges one domain's tasks of one state, oldest first.
func (p *purging) run(ctx context.Context, domain pulp.ID, state State) error {
	type key struct {
		id       pulp.ID
		finished pulp.Time
		seq      int64
	}
	var last key
	for {
		batch, err := db.All(ctx, p.q.db, func(rows *sql.Rows) (k key, err error) { err = rows.Scan(&k.id, &k.finished, &k.seq); return k, err },
			`SELECT id, finished_at, seq FROM core_task WHERE domain = ? AND state = ? AND finished_at < ? AND (finished_at, seq) > (?, ?)
			ORDER BY finished_at, seq LIMIT ?`, domain, string(state), int64(p.before), int64(last.finished), last.seq, purgeBatch)
		if err != nil || len(batch) == 0 {
			return err
		}
		last = batch[len(batch)-1]
		ids := make([]pulp.ID, len(batch))
		for i, k := range batch {
			ids[i] = k.id
		}
		if ids, err = p.allowed(ctx, ids); err != nil {
			return err
		}
		if err := p.remove(ctx, ids); err != nil {
			return err
		}
	}
}

// allowed picks the tasks that the user may delete.
func (p *purging) allowed(ctx context.Context, ids []pulp.ID) ([]pulp.ID, error) {
	user := pulp.CallOf(ctx).User
	switch {
	case user != nil && user.Superuser:
		return ids, nil
	case user == nil && p.j.Task.User == 0 && p.j.Task.Parent.IsZero(): // scheduled
		return ids, nil
	case user == nil: // deleted meanwhile
		return nil, nil
	case p.q.cfg.MayDelete != nil:
		return p.q.cfg.MayDelete(ctx, p.q.db, ids)
	}
	in, args := db.In(ids)
	return db.Column[pulp.ID](ctx, p.q.db, "SELECT id FROM core_task WHERE user_id = ? AND id IN "+in, append([]any{user.ID}, args...)...)
}

// remove deletes tasks. Those that something else needs are counted as errors; it finds them by halving.
func (p *purging) remove(ctx context.Context, ids []pulp.ID) error {
	if len(ids) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	deleted, err := p.q.deleteTasks(ctx, ids)
	switch {
	case err == nil:
		for _, kind := range slices.Sorted(maps.Keys(deleted)) {
			p.count(kind, deleted[kind])
		}
		return nil
	case !db.IsForeignKey(err):
		return err
	case len(ids) == 1:
		p.failed.AddTotal(1)
		p.failed.Add(1)
		return nil
	}
	half := len(ids) / 2
	if err := p.remove(ctx, ids[:half]); err != nil {
		return err
	}
	return p.remove(ctx, ids[half:])
}

// deleteTasks deletes finished tasks with all that belongs to them, and groups that have no task left. It returns how many objects of which
// type these were.
func (q *Queue) deleteTasks(ctx context.Context, ids []pulp.ID) (deleted map[string]int64, err error) {
	in, args := db.In(ids)
	err = q.db.Update(ctx, func(tx *db.Tx) (err error) {
		deleted = map[string]int64{}
		if q.cfg.Deleted != nil {
			more, err := q.cfg.Deleted(ctx, tx, ids)
			if err != nil {
				return err
			}
			maps.Copy(deleted, more)
		}
		groups, err := db.Column[pulp.ID](ctx, tx, "SELECT DISTINCT task_group FROM core_task WHERE task_group IS NOT NULL AND id IN "+in, args...)
		if err != nil {
			return err
		}
		for _, part := range []struct{ kind, table string }{{"core.ProgressReport", "core_progressreport"}, {"core.CreatedResource", "core_createdresource"}} {
			n, err := tx.Exec(ctx, "DELETE FROM "+part.table+" WHERE task IN "+in, args...)
			if err != nil {
				return err
			}
			if n > 0 {
				deleted[part.kind] += n
			}
		}
		n, err := tx.Exec(ctx, "DELETE FROM core_task WHERE state IN ('completed', 'failed', 'canceled', 'skipped') AND id IN "+in, args...)
		if err != nil {
			return err
		}
		deleted[taskModel] += n
		if len(groups) == 0 {
			return nil
		}
		in, args := db.In(groups)
		n, err = tx.Exec(ctx, "DELETE FROM core_taskgroup WHERE id IN "+in+" AND NOT EXISTS (SELECT 1 FROM core_task WHERE task_group = core_taskgroup.id)", args...)
		if n > 0 {
			deleted["core.TaskGroup"] += n
		}
		return err
	})
	return deleted, err
}
