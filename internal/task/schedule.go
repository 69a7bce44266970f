package task

import (
	"context"
	"database/sql"
	"time"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// A Schedule dispatches a kind of task again and again.
type Schedule struct {
	Name     string // unique
	TaskName string
	Interval time.Duration // 0 removes the schedule
}

// SetSchedules makes, changes or removes the named schedules, and leaves others alone. A new one is due at once, one
// whose interval became shorter not later than that from now.
func (q *Queue) SetSchedules(ctx context.Context, list []Schedule) (err error) {
	defer errs.Wrap(&err, "set schedules")
	now := q.cfg.Clock.Now()
	return q.db.Update(ctx, func(tx *db.Tx) error {
		if err := tx.Lock(ctx, scheduleLock); err != nil {
			return err
		}
		for _, s := range list {
			if s.Interval <= 0 {
				if _, err := tx.Exec(ctx, "DELETE FROM core_taskschedule WHERE name = ?", s.Name); err != nil {
					return err
				}
				continue
			}
			every := s.Interval.Microseconds()
			_, err := tx.Exec(ctx, `INSERT INTO core_taskschedule (id, created, updated, name, task_name, dispatch_interval, next_dispatch)
				VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET task_name = excluded.task_name, dispatch_interval = excluded.dispatch_interval,
				next_dispatch = CASE WHEN core_taskschedule.next_dispatch < ? THEN core_taskschedule.next_dispatch ELSE ? END`,
				pulp.NewID(), now, now, s.Name, s.TaskName, every, now, int64(now)+every, int64(now)+every)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

const scheduleLock = "task schedules"

// runSchedules dispatches what is due, unless what it dispatched the last time is unfinished. Periods that were missed are skipped.
func (q *Queue) runSchedules(ctx context.Context) error {
	const due = "SELECT 1 FROM core_taskschedule WHERE next_dispatch <= ?"
	now := q.cfg.Clock.Now()
	if found, err := db.Exists(ctx, q.db, due, int64(now)); err != nil || !found {
		return err
	}
	type schedule struct {
		id    pulp.ID
		task  string
		every sql.NullInt64
		next  int64
	}
	list, err := db.All(ctx, q.db, func(rows *sql.Rows) (s schedule, err error) {
		err = rows.Scan(&s.id, &s.task, &s.every, &s.next)
		return s, err
	}, "SELECT id, task_name, dispatch_interval, next_dispatch FROM core_taskschedule WHERE next_dispatch <= ? ORDER BY next_dispatch", int64(now))
	if err != nil {
		return err
	}
	for _, s := range list {
		d, err := q.draft(ctx, &pulp.Call{}, Spec{Name: s.task})
		if err != nil {
			return err
		}
		var next any
		if s.every.Valid && s.every.Int64 > 0 {
			next = s.next + ((int64(now)-s.next)/s.every.Int64+1)*s.every.Int64
		}
		err = q.db.Update(ctx, func(tx *db.Tx) error {
			if err := tx.Lock(ctx, scheduleLock); err != nil {
				return err
			}
			// Another process may have been faster.
			still, err := db.Exists(ctx, tx, `SELECT 1 FROM core_taskschedule s WHERE s.id = ? AND s.next_dispatch = ?
				AND NOT EXISTS (SELECT 1 FROM core_task t WHERE t.id = s.last_task AND t.finished_at IS NULL)`, s.id, s.next)
			if err != nil || !still {
				return err
			}
			if err := q.insert(ctx, tx, d); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, "UPDATE core_taskschedule SET next_dispatch = ?, last_task = ?, updated = ? WHERE id = ?", next, d.task.ID, now, s.id)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
