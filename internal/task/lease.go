package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

const defaultTTL = 30 * time.Second

// An App is a process, or a worker of one, that is alive as long as it renews its lease.
type App struct {
	ID       pulp.ID // the zero ID stands for a fresh one
	Type     string  // api, content or worker
	Name     string
	Versions map[string]string
	TTL      time.Duration // 0 means 30 s
}

// registerApps adds rows for apps.
func registerApps(ctx context.Context, d *db.DB, now pulp.Time, apps []App) error {
	rows := make([][]any, len(apps))
	for i, a := range apps {
		versions := []byte("{}")
		if len(a.Versions) > 0 {
			var err error
			if versions, err = json.Marshal(a.Versions); err != nil {
				return err
			}
		}
		rows[i] = []any{a.ID, now, now, a.Type, a.Name, string(versions), a.TTL.Microseconds(), now}
	}
	return d.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Insert(ctx, "core_appstatus", []string{"id", "created", "updated", "app_type", "name", "versions", "ttl", "last_heartbeat"}, rows, "")
		return err
	})
}

// renewApps renews the leases of apps, and says whether all of them were still there.
func renewApps(ctx context.Context, d *db.DB, now pulp.Time, apps []App) (all bool, err error) {
	in, args := db.In(appIDs(apps))
	err = d.Update(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE core_appstatus SET last_heartbeat = ? WHERE id IN "+in, append([]any{now}, args...)...)
		all = int(n) == len(apps)
		return err
	})
	return all, err
}

func removeApps(ctx context.Context, d *db.DB, apps []App) error {
	in, args := db.In(appIDs(apps))
	return d.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM core_appstatus WHERE id IN "+in, args...)
		return err
	})
}

func appIDs(apps []App) []pulp.ID {
	ids := make([]pulp.ID, len(apps))
	for i, a := range apps {
		ids[i] = a.ID
	}
	return ids
}

// Heartbeat registers an app, renews its lease each third of its TTL until ctx ends, and takes it away. Where others took the app for
// dead, it registers again. It is for roles that run no Queue. Where both are in one process on SQLite, it comes after [New]: the
// queue takes all apps that were there before it for dead.
func Heartbeat(ctx context.Context, d *db.DB, clock pulp.Clock, app App) (err error) {
	defer errs.Wrap(&err, "heartbeat of %s", app.Name)
	if app.ID.IsZero() {
		app.ID = pulp.NewID()
	}
	if app.TTL == 0 {
		app.TTL = defaultTTL
	}
	apps := []App{app}
	if err := registerApps(ctx, d, clock.Now(), apps); err != nil {
		return err
	}
	tick := time.NewTicker(app.TTL / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return removeApps(context.WithoutCancel(ctx), d, apps)
		case <-tick.C:
		}
		// What fails now is tried again at the next tick: the database may be away for a while.
		if all, err := renewApps(ctx, d, clock.Now(), apps); err == nil && !all {
			_ = registerApps(ctx, d, clock.Now(), apps)
		}
	}
}

// register makes this process's rows, with fresh ids.
func (q *Queue) register(ctx context.Context) error {
	var apps []App
	if q.cfg.App.Type != "" {
		apps = append(apps, q.cfg.App)
	}
	for i := range q.cfg.Workers {
		name := q.cfg.WorkerName
		if i > 0 {
			name = fmt.Sprintf("%s:%d", name, i+1)
		}
		apps = append(apps, App{Type: "worker", Name: name, Versions: q.cfg.Versions, TTL: q.cfg.TTL})
	}
	if len(apps) == 0 {
		return errors.New("neither an app nor workers are configured")
	}
	again := len(q.own()) > 0
	for i := range apps {
		a := &apps[i]
		if a.ID.IsZero() || again {
			a.ID = pulp.NewID()
		}
		if a.TTL == 0 {
			a.TTL = q.cfg.TTL
		}
	}
	if err := registerApps(ctx, q.db, q.cfg.Clock.Now(), apps); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.apps = apps
	return nil
}

func (q *Queue) unregister(ctx context.Context) error {
	return removeApps(ctx, q.db, q.own())
}

// own lists the rows that are this process.
func (q *Queue) own() []App {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.apps
}

// worker returns the id of the worker in a slot.
func (q *Queue) worker(slot int) pulp.ID {
	apps := q.own()
	return apps[len(apps)-q.cfg.Workers+slot].ID
}

// ttl is the shortest of this process's leases.
func (q *Queue) ttl() time.Duration {
	ttl := q.cfg.TTL
	for _, a := range q.own() {
		ttl = min(ttl, a.TTL)
	}
	return ttl
}

// keepLease renews the leases of this process. When it can't, it aborts what runs before others may take it for dead.
// On SQLite there are no others.
func (q *Queue) keepLease(ctx context.Context) {
	ttl := q.ttl()
	renewed, lost := time.Now(), false
	delay := ttl / 3
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		start := time.Now()
		try, cancel := context.WithTimeout(ctx, ttl/3)
		all, err := renewApps(try, q.db, q.cfg.Clock.Now(), q.own())
		cancel()
		switch {
		case err == nil && all && !lost:
			renewed, delay = start, ttl/3
			continue
		case err != nil:
			q.warn(ctx, "renew the lease", err)
		}
		delay = ttl / 30
		if q.db.Engine() == db.SQLite && err != nil {
			continue
		}
		if !lost && (err == nil || time.Since(renewed) > ttl/2) {
			lost = true
			q.log.ErrorContext(ctx, "The lease is lost: this process's tasks are aborted")
			q.stopTasks(errLease)
		}
		if lost && err == nil {
			// Under other ids, so that nobody can mistake the new ones for those whose tasks were taken away. The old ones run out, which
			// gives the aborted tasks time to stop.
			if err := q.register(ctx); err != nil {
				q.warn(ctx, "register again", err)
				continue
			}
			renewed, lost, delay = start, false, ttl/3
		}
	}
}

// recover ends what dead processes left, at the start of this one.
func (q *Queue) recover(ctx context.Context) error {
	if q.db.Engine() == db.SQLite { // there is no other process: what is older than this queue is dead
		in, args := db.In(appIDs(q.own()))
		err := q.db.Update(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, "DELETE FROM core_appstatus WHERE created < ? AND id NOT IN "+in, append([]any{q.made}, args...)...)
			return err
		})
		if err != nil {
			return err
		}
	}
	if !q.cfg.Auxiliary || q.db.Engine() == db.SQLite {
		if err := q.sweep(ctx); err != nil {
			return err
		}
		if err := q.recheck(ctx); err != nil {
			return err
		}
	}
	return q.removeOldTempDirs(ctx)
}

// sweep takes the rows of dead processes away, and ends the tasks that they ran. Until what a task left incomplete is removed, it
// belongs to this process and keeps its locks; should this one die too, it is found again.
func (q *Queue) sweep(ctx context.Context) error {
	apps := q.own()
	me := apps[0].ID
	var lost []*Task
	err := q.db.Update(ctx, func(tx *db.Tx) (err error) {
		in, args := db.In(appIDs(apps))
		_, err = tx.Exec(ctx, "DELETE FROM core_appstatus WHERE last_heartbeat + ttl < ? AND id NOT IN "+in, append([]any{q.cfg.Clock.Now()}, args...)...)
		if err != nil {
			return err
		}
		lost, err = db.All(ctx, tx, scanTask, `UPDATE core_task SET owner = ? WHERE owner IS NOT NULL AND owner NOT IN (SELECT id FROM core_appstatus)
			RETURNING `+columns, me)
		return err
	})
	if err != nil {
		return err
	}
	var list []error
	for _, t := range lost {
		list = append(list, q.endLost(ctx, t, me))
	}
	return errors.Join(list...)
}

// endLost ends a task whose process is gone.
func (q *Queue) endLost(ctx context.Context, t *Task, me pulp.ID) error {
	call, err := q.callFor(ctx, t)
	if err != nil {
		return err
	}
	ctx = pulp.WithCall(ctx, call)
	q.cleanup(ctx, t)
	e, open := ending{state: Failed, detail: reason(reasonMissing)}, Failed
	for range 2 {
		if t.State == Canceling {
			e, open = ending{state: Canceled}, Canceled
		}
		var done, canceling bool
		err := q.db.Update(ctx, func(tx *db.Tx) (err error) {
			var freed int64
			if done, canceling, freed, err = q.end(ctx, tx, t, me, e); !done {
				return err
			}
			if err := q.tellReady(ctx, tx, freed); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, "UPDATE core_progressreport SET state = ? WHERE task = ? AND state IN ('waiting', 'running')", string(open), t.ID)
			return err
		})
		if err != nil {
			return err
		}
		if !canceling {
			if done {
				t.State, t.Error, t.Owner = e.state, e.detail, pulp.ID{}
				q.logEnd(ctx, t, call.Domain.Name, e)
				q.ended(ctx, t)
			}
			return nil
		}
		t.State = Canceling // meanwhile
	}
	return nil
}

// recheck unblocks waiting tasks that wait for nothing. By the invariants there is none.
func (q *Queue) recheck(ctx context.Context) error {
	seqs, err := db.Column[int64](ctx, q.db, "SELECT seq FROM core_task WHERE state = 'waiting' AND unblocked_at IS NULL AND "+isFree)
	if err != nil || len(seqs) == 0 {
		return err
	}
	q.log.ErrorContext(ctx, fmt.Sprintf("%d tasks waited for nothing; they go on", len(seqs)))
	return q.db.Update(ctx, func(tx *db.Tx) error {
		n, err := unblock(ctx, tx, seqs, q.cfg.Clock.Now())
		if err != nil {
			return err
		}
		return q.tellReady(ctx, tx, n)
	})
}

const recheckEvery = 5 * time.Minute

// housekeep looks for lost tasks and for schedules that are due.
func (q *Queue) housekeep(ctx context.Context) {
	checked := time.Now()
	for {
		if err := q.runSchedules(ctx); err != nil {
			q.warn(ctx, "dispatch schedules", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(q.ttl() / 3):
		}
		if err := q.sweep(ctx); err != nil {
			q.warn(ctx, "look for lost tasks", err)
		}
		if time.Since(checked) > recheckEvery {
			checked = time.Now()
			if err := q.recheck(ctx); err != nil {
				q.warn(ctx, "look for blocked tasks", err)
			}
		}
	}
}

// removeOldTempDirs removes the scratch directories of tasks that are over.
func (q *Queue) removeOldTempDirs(ctx context.Context) error {
	if q.cfg.TempDir == "" {
		return nil
	}
	entries, err := os.ReadDir(q.cfg.TempDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), tempPrefix)
		id, err := pulp.ParseID(text)
		if !ok || err != nil {
			continue
		}
		state, err := db.Value[State](ctx, q.db, "SELECT state FROM core_task WHERE id = ?", id)
		if err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
		if err != nil || state.Final() {
			if err := os.RemoveAll(filepath.Join(q.cfg.TempDir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookAtOwn stops the tasks of this process that are canceling, in case the notification was lost, and ends those that it owns but does not
// run: when the connection breaks during a commit, the claim may have been made though it seemed to fail.
func (q *Queue) lookAtOwn(ctx context.Context) error {
	in, args := db.In(appIDs(q.own()))
	tasks, err := db.All(ctx, q.db, scanTask, "SELECT "+columns+" FROM core_task WHERE owner IN "+in, args...)
	if err != nil {
		return err
	}
	var lost []*Task
	absent := map[pulp.ID]time.Time{}
	q.mu.Lock()
	for _, t := range tasks {
		if j := q.running[t.ID]; j != nil {
			if t.State == Canceling {
				j.cancel(errCanceled)
			}
			continue
		}
		since, ok := q.absent[t.ID]
		if !ok {
			since = time.Now()
		}
		absent[t.ID] = since
		if time.Since(since) > q.cfg.TTL {
			lost = append(lost, t)
		}
	}
	q.absent = absent
	q.mu.Unlock()
	for _, t := range lost {
		if err := q.endLost(ctx, t, t.Owner); err != nil {
			return err
		}
	}
	return nil
}
