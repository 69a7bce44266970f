package task

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"strings"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// A State is where a task is in its life.
type State string

// The states. A task moves from waiting to running to completed or failed; or from waiting to canceled, or
// from running by canceling to canceled.
const (
	Waiting   State = "waiting"
	Running   State = "running"
	Canceling State = "canceling"
	Completed State = "completed"
	Failed    State = "failed"
	Canceled  State = "canceled"
	Skipped   State = "skipped" // legal, but never given to a task
)

// Final says whether a task in this state is done for good.
func (s State) Final() bool {
	return s == Completed || s == Failed || s == Canceled || s == Skipped
}

// A Spec is what to dispatch.
type Spec struct {
	// Name is the dotted name of a registered [Kind]. Clients see it and filter by it.
	Name string
	// Args is what [Job.Args] will give, as JSON. It is stored encrypted.
	Args any
	// Exclusive and Shared are the resources that the task needs: PRNs, or strings of the form "pdrn:…". Empty strings are
	// skipped; what is in both is exclusive. The domain of the call is added to the shared ones, unless the task has it exclusively.
	Exclusive, Shared []string
	// Immediate marks a task that takes less than [ImmediateTimeout]. If nothing blocks it, it runs within Dispatch.
	Immediate bool
	// NoDefer makes an immediate task that something blocks end canceled, instead of waiting.
	NoDefer bool
	// Group is the task's group; by default that of the running task which dispatches it.
	Group pulp.ID
	// Versions are the least versions of components that a worker must have.
	Versions map[string]string
}

// A Kind is a function that tasks can run.
type Kind struct {
	Name string
	// Run does the work. Its context ends when the task is canceled or out of time, and it must then return within seconds.
	// The context carries a [pulp.Call] with the task's user, domain, correlation id, task and group. The result is stored as JSON.
	Run func(ctx context.Context, j *Job) (result any, err error)
}

// A Task is a task's row, and what belongs to it.
type Task struct {
	ID          pulp.ID
	Seq         int64 // the order of dispatch
	Domain      pulp.ID
	Created     pulp.Time
	Updated     pulp.Time
	State       State
	Name        string
	CID         string
	User        int64 // 0 if nobody's
	UnblockedAt pulp.Time
	StartedAt   pulp.Time
	FinishedAt  pulp.Time
	Error       json.RawMessage // nil for none
	Result      json.RawMessage // nil for none
	Parent      pulp.ID
	Group       pulp.ID
	Reserved    []string // exclusive resources, then shared ones with "shared:" before them
	Immediate   bool
	Deferred    bool
	Versions    map[string]string
	Profilers   []string
	Owner       pulp.ID // the [App] that runs it; none unless running or canceling

	// These are set by [Tasks] and [One] only.
	Children  []pulp.ID
	Progress  []Report
	Resources []pulp.Ref // created resources, in order
}

// refType is the label of tasks in PRNs.
const refType = "core.task"

// Ref names the task.
func (t *Task) Ref() pulp.Ref { return pulp.RefTo(refType, t.ID) }

// A Report is the stored form of a [Progress].
type Report struct {
	Message string
	Code    string
	State   State
	Total   *int64 // nil: unknown
	Done    int64
	Suffix  *string
}

// A Group holds tasks that belong together.
type Group struct {
	ID            pulp.ID
	Domain        pulp.ID
	Created       pulp.Time
	Updated       pulp.Time
	Description   string
	AllDispatched bool
	Counts        map[State]int
	Progress      []Report // State is empty
	Tasks         []pulp.ID
}

const columns = `id, seq, domain, created, updated, state, name, logging_cid, user_id, unblocked_at, started_at, finished_at,
	error, result, parent_task, task_group, reserved_resources_record, immediate, deferred, versions, profilers, owner`

// scan reads the columns, and into extra what follows them.
func scan(rows *sql.Rows, extra ...any) (*Task, error) {
	t := &Task{}
	var user sql.NullInt64
	var failure, result, versions, profilers sql.NullString
	var reserved string
	dest := append([]any{
		&t.ID, &t.Seq, &t.Domain, &t.Created, &t.Updated, &t.State, &t.Name, &t.CID, &user, &t.UnblockedAt, &t.StartedAt, &t.FinishedAt,
		&failure, &result, &t.Parent, &t.Group, &reserved, &t.Immediate, &t.Deferred, &versions, &profilers, &t.Owner,
	}, extra...)
	if err := rows.Scan(dest...); err != nil {
		return nil, err
	}
	t.User = user.Int64
	if failure.Valid {
		t.Error = json.RawMessage(failure.String)
	}
	if result.Valid {
		t.Result = json.RawMessage(result.String)
	}
	for _, f := range []struct {
		text string
		to   any
	}{{reserved, &t.Reserved}, {versions.String, &t.Versions}, {profilers.String, &t.Profilers}} {
		if f.text != "" {
			if err := json.Unmarshal([]byte(f.text), f.to); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

func scanTask(rows *sql.Rows) (*Task, error) { return scan(rows) }

// SealedTable and SealedColumn name the column of tasks that is encrypted: their arguments.
const (
	SealedTable  = "core_task"
	SealedColumn = "args"
)

// chunk is the most values that one query takes at once.
const chunk = 500

// One loads one task; NotFound if it is not there.
func One(ctx context.Context, q db.Querier, id pulp.ID) (*Task, error) {
	list, err := Tasks(ctx, q, []pulp.ID{id})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errs.NotFoundModel("Task")
	}
	return list[0], nil
}

// Tasks loads the tasks with these ids, in this order, with all that belongs to them; those that are not there are left out.
func Tasks(ctx context.Context, q db.Querier, ids []pulp.ID) (_ []*Task, err error) {
	defer errs.Wrap(&err, "load tasks")
	found := make(map[pulp.ID]*Task, len(ids))
	for part := range slices.Chunk(ids, chunk) {
		in, args := db.In(part)
		list, err := db.All(ctx, q, scanTask, "SELECT "+columns+" FROM core_task WHERE id IN "+in, args...)
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			found[t.ID] = t
		}
		if len(list) == 0 {
			continue
		}
		err = db.Each(ctx, q, func(rows *sql.Rows) error {
			var id, child pulp.ID
			err := rows.Scan(&id, &child)
			found[id].Children = append(found[id].Children, child)
			return err
		}, "SELECT parent_task, id FROM core_task WHERE parent_task IN "+in+" ORDER BY seq", args...)
		if err != nil {
			return nil, err
		}
		err = db.Each(ctx, q, func(rows *sql.Rows) error {
			var id pulp.ID
			var r Report
			err := rows.Scan(&id, &r.Message, &r.Code, &r.State, &r.Total, &r.Done, &r.Suffix)
			found[id].Progress = append(found[id].Progress, r)
			return err
		}, "SELECT task, message, code, state, total, done, suffix FROM core_progressreport WHERE task IN "+in+" ORDER BY task, ordinal", args...)
		if err != nil {
			return nil, err
		}
		err = db.Each(ctx, q, func(rows *sql.Rows) error {
			var id pulp.ID
			var r pulp.Ref
			err := rows.Scan(&id, &r.Type, &r.Key)
			found[id].Resources = append(found[id].Resources, r)
			return err
		}, "SELECT task, type, key FROM core_createdresource WHERE task IN "+in+" ORDER BY task, ordinal", args...)
		if err != nil {
			return nil, err
		}
	}
	return inOrder(ids, found), nil
}

func inOrder[T any](ids []pulp.ID, found map[pulp.ID]*T) []*T {
	list := make([]*T, 0, len(ids))
	for _, id := range ids {
		if v := found[id]; v != nil {
			list = append(list, v)
		}
	}
	return list
}

// Groups loads the groups with these ids, in this order; those that are not there are left out.
func Groups(ctx context.Context, q db.Querier, ids []pulp.ID) (_ []*Group, err error) {
	defer errs.Wrap(&err, "load task groups")
	found := make(map[pulp.ID]*Group, len(ids))
	for part := range slices.Chunk(ids, chunk) {
		in, args := db.In(part)
		err := db.Each(ctx, q, func(rows *sql.Rows) error {
			g := &Group{Counts: map[State]int{}}
			err := rows.Scan(&g.ID, &g.Domain, &g.Created, &g.Updated, &g.Description, &g.AllDispatched)
			found[g.ID] = g
			return err
		}, "SELECT id, domain, created, updated, description, all_tasks_dispatched FROM core_taskgroup WHERE id IN "+in, args...)
		if err != nil {
			return nil, err
		}
		err = db.Each(ctx, q, func(rows *sql.Rows) error {
			var id, member pulp.ID
			var state State
			err := rows.Scan(&id, &member, &state)
			if g := found[id]; g != nil {
				g.Tasks = append(g.Tasks, member)
				g.Counts[state]++
			}
			return err
		}, "SELECT task_group, id, state FROM core_task WHERE task_group IN "+in+" ORDER BY seq", args...)
		if err != nil {
			return nil, err
		}
		err = db.Each(ctx, q, func(rows *sql.Rows) error {
			var id pulp.ID
			var r Report
			err := rows.Scan(&id, &r.Message, &r.Code, &r.Total, &r.Done, &r.Suffix)
			if g := found[id]; g != nil {
				g.Progress = append(g.Progress, r)
			}
			return err
		}, "SELECT task_group, message, code, total, done, suffix FROM core_groupprogressreport WHERE task_group IN "+in+" ORDER BY created, code", args...)
		if err != nil {
			return nil, err
		}
	}
	return inOrder(ids, found), nil
}

// createdBy returns the objects that a task made, in order.
func createdBy(ctx context.Context, q db.Querier, id pulp.ID) ([]pulp.Ref, error) {
	return db.All(ctx, q, func(rows *sql.Rows) (r pulp.Ref, err error) { err = rows.Scan(&r.Type, &r.Key); return r, err },
		"SELECT type, key FROM core_createdresource WHERE task = ? ORDER BY ordinal", id)
}

// Forget takes objects off the created resources of the tasks that made them: for who deletes a draft.
// (Other objects stay listed after they are deleted, and are shown as unavailable.)
func Forget(ctx context.Context, tx *db.Tx, refs ...pulp.Ref) error {
	for _, r := range refs {
		if _, err := tx.Exec(ctx, "DELETE FROM core_createdresource WHERE key = ? AND type = ?", r.Key, r.Type); err != nil {
			return err
		}
	}
	return nil
}

// satisfies says whether a process with these versions of components may run what needs at least those.
func satisfies(have, least map[string]string) bool {
	for component, v := range least {
		own, ok := have[component]
		if !ok || compareVersions(own, v) < 0 {
			return false
		}
	}
	return true
}

// compareVersions compares dotted versions part by part: by number, and what is no number as the text that it is. A part that
// is missing is zero, and text ("dev", "rc1") comes before any number.
func compareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		x, y := "0", "0"
		if i < len(as) {
			x = as[i]
		}
		if i < len(bs) {
			y = bs[i]
		}
		if c := comparePart(x, y); c != 0 {
			return c
		}
	}
	return 0
}

func comparePart(x, y string) int {
	xn, yn := isNumber(x), isNumber(y)
	switch {
	case xn && yn:
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if len(x) != len(y) {
			return len(x) - len(y)
		}
	case xn:
		return 1
	case yn:
		return -1
	}
	return strings.Compare(x, y)
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
