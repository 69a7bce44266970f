package task

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

type inPlaceKey struct{}

// NeverInPlace returns a context with which [Queue.Dispatch] leaves immediate tasks to a worker, as the content app must.
func NeverInPlace(ctx context.Context) context.Context {
	return context.WithValue(ctx, inPlaceKey{}, true)
}

// A draft is a task that is about to be dispatched: all that can be made outside of the transaction.
type draft struct {
	task                *Task
	args                string // encrypted
	locks               []lock
	noDefer             bool
	versions, profilers any
	owner               pulp.ID // who may run it in place; none if nobody may
}

// Dispatch makes a task for the context's [pulp.Call]: its user, domain and correlation id, as a child of its task. When
// Dispatch returns, the task is durable. An immediate task that nothing blocks has run by then, unless the
// context is from [NeverInPlace], has ended meanwhile, or Run is not running. It must not be called inside a transaction.
func (q *Queue) Dispatch(ctx context.Context, spec Spec) (_ *Task, err error) {
	defer errs.Wrap(&err, "dispatch %s", spec.Name)
	d, err := q.draft(ctx, pulp.CallOf(ctx), spec)
	if err != nil {
		return nil, err
	}
	if spec.Immediate && ctx.Value(inPlaceKey{}) == nil && satisfies(q.cfg.Versions, spec.Versions) {
		var leave func()
		if d.owner, leave = q.enter(); leave != nil {
			defer leave()
		}
	}
	if err := q.db.Update(ctx, func(tx *db.Tx) error { return q.insert(ctx, tx, d) }); err != nil {
		return nil, err
	}
	switch {
	case d.task.State.Final():
		q.ended(ctx, d.task)
	case d.task.State == Running:
		return q.runInPlace(ctx, d), nil
	}
	return d.task, nil
}

// enter lets a task run in place: it returns the app as which it does so, and a function to call when it is
// done. Where there is no Run to wait for it, the function is nil.
func (q *Queue) enter() (owner pulp.ID, leave func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.live || len(q.apps) == 0 {
		return pulp.ID{}, nil
	}
	q.tasks.Add(1)
	return q.apps[0].ID, q.tasks.Done
}

// runInPlace runs a task that was dispatched as running, and returns it as it is afterwards.
func (q *Queue) runInPlace(ctx context.Context, d *draft) *Task {
	before := *d.task
	var call *pulp.Call // of the default domain it is yet to be made
	if c := *pulp.CallOf(ctx); !c.Domain.ID.IsZero() {
		c.Origin, c.CID, c.Task, c.Group = "", d.task.CID, d.task.ID, d.task.Group
		call = &c
	}
	done := make(chan struct{})
	q.tasks.Go(func() {
		defer close(done)
		q.perform(context.WithoutCancel(ctx), &claimed{task: d.task, args: d.args, call: call}, false)
	})
	select {
	case <-done:
		return d.task
	case <-ctx.Done(): // the client is gone; the task is not
		return &before
	}
}

// draft prepares a task.
func (q *Queue) draft(ctx context.Context, call *pulp.Call, spec Spec) (*draft, error) {
	domain := call.Domain.ID
	if domain.IsZero() {
		var err error
		if domain, err = q.defaultDomain(ctx); err != nil {
			return nil, err
		}
	}
	args, err := json.Marshal(spec.Args)
	if err != nil {
		return nil, err
	}
	d := &draft{locks: locks(spec, domain), noDefer: spec.NoDefer}
	if d.args, err = q.cfg.Keys.Encrypt(string(args)); err != nil {
		return nil, err
	}
	d.task = &Task{
		ID: pulp.NewID(), Domain: domain, Name: spec.Name, CID: call.CID, Parent: call.Task, Group: spec.Group, Reserved: record(d.locks),
		Immediate: spec.Immediate, Deferred: !spec.NoDefer, Versions: spec.Versions, Profilers: call.Diagnostics,
	}
	if call.User != nil {
		d.task.User = call.User.ID
	}
	if d.task.Group.IsZero() {
		d.task.Group = call.Group
	}
	if d.task.CID == "" {
		d.task.CID = newCID()
	}
	if len(spec.Versions) > 0 {
		text, err := json.Marshal(spec.Versions) // its keys are sorted
		if err != nil {
			return nil, err
		}
		d.versions = string(text)
	}
	if len(call.Diagnostics) > 0 {
		text, err := json.Marshal(call.Diagnostics)
		if err != nil {
			return nil, err
		}
		d.profilers = string(text)
	}
	return d, nil
}

func (q *Queue) defaultDomain(ctx context.Context) (pulp.ID, error) {
	return db.Value[pulp.ID](ctx, q.db, "SELECT id FROM core_domain WHERE name = ?", pulp.DefaultDomain)
}

func newCID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// insert writes the task, its locks and what they make of it into the database, and the same into d.
func (q *Queue) insert(ctx context.Context, tx *db.Tx, d *draft) error {
	if err := guard(ctx, tx, d.locks); err != nil {
		return err
	}
	t := d.task
	if !t.Parent.IsZero() {
		// Who cancels a task, and then looks for its children, finds all of them.
		running, err := db.Exists(ctx, tx, "SELECT 1 FROM core_task WHERE id = ? AND state = 'running'"+forShare(tx), t.Parent)
		if err != nil {
			return err
		}
		if !running {
			return errs.E(errs.Conflict, "The task that dispatches another one is not running.")
		}
	}
	busy, err := blocked(ctx, tx, d.locks)
	if err != nil {
		return err
	}
	now := q.cfg.Clock.Now()
	t.Created, t.Updated, t.State = now, now, Waiting
	t.UnblockedAt, t.StartedAt, t.FinishedAt, t.Owner, t.Error = 0, 0, 0, pulp.ID{}, nil
	switch {
	case busy && t.Immediate && d.noDefer:
		t.State, t.FinishedAt, t.Error = Canceled, now, reason(reasonBusy)
	case busy:
	case !d.owner.IsZero():
		t.State, t.UnblockedAt, t.StartedAt, t.Owner = Running, now, now, d.owner
	default:
		t.UnblockedAt = now
	}
	reserved, err := json.Marshal(t.Reserved)
	if err != nil {
		return err
	}
	seqs, err := db.Column[int64](ctx, tx, `INSERT INTO core_task (id, domain, created, updated, state, name, logging_cid, user_id, unblocked_at, started_at,
		finished_at, error, parent_task, task_group, reserved_resources_record, args, immediate, deferred, versions, profilers, owner)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq`,
		t.ID, t.Domain, t.Created, t.Updated, string(t.State), t.Name, t.CID, orNull(t.User), t.UnblockedAt, t.StartedAt,
		t.FinishedAt, jsonOrNull(t.Error), t.Parent, t.Group, string(reserved), d.args, t.Immediate, t.Deferred, d.versions, d.profilers, t.Owner)
	if err != nil {
		return err
	}
	t.Seq = seqs[0]
	hot, all := make([][]any, len(d.locks)), make([][]any, len(d.locks))
	for i, l := range d.locks {
		hot[i] = []any{l.resource, l.exclusive, t.Seq}
		all[i] = []any{t.ID, l.resource, l.exclusive}
	}
	if !t.State.Final() {
		if _, err := tx.Insert(ctx, "core_tasklock", []string{"resource", "exclusive", "seq"}, hot, ""); err != nil {
			return err
		}
	}
	if _, err := tx.Insert(ctx, "core_taskresource", []string{"task", "resource", "exclusive"}, all, ""); err != nil {
		return err
	}
	if q.cfg.Dispatched != nil {
		if err := q.cfg.Dispatched(ctx, tx, t); err != nil {
			return err
		}
	}
	if t.State == Waiting && !t.UnblockedAt.IsZero() {
		return q.tellReady(ctx, tx, 1)
	}
	return nil
}

// forShare makes a query keep its rows as they are until the transaction ends.
func forShare(tx *db.Tx) string {
	if tx.Engine() == db.PostgreSQL {
		return " FOR SHARE"
	}
	return ""
}

// forUpdate keeps others away from a query's rows until the transaction ends, but for references to them.
func forUpdate(tx *db.Tx) string {
	if tx.Engine() == db.PostgreSQL {
		return " FOR NO KEY UPDATE"
	}
	return ""
}

func orNull(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}

func jsonOrNull(b json.RawMessage) any {
	if b == nil {
		return nil
	}
	return string(b)
}
