package task

import (
	"context"
	"encoding/json"

	"granary/internal/db"
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
	// Profilers are the diagnostics that the client asked for; whoever registers the Kind acts on them.
	Profilers []string
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

	// These are set by [Tasks] and by what is made with it, but not in [Job.Task].
	Children  []pulp.ID
	Progress  []Report
	Resources []pulp.Ref // created resources, in order
}

// Ref names the task.
func (t *Task) Ref() pulp.Ref { return pulp.RefTo("core.task", t.ID) }

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

// Tasks loads the tasks with these ids, in this order, with all that belongs to them; those that are not there are left out.
func Tasks(ctx context.Context, q db.Querier, ids []pulp.ID) ([]*Task, error) { panic("body follows") }

// One loads one task; NotFound if it is not there.
func One(ctx context.Context, q db.Querier, id pulp.ID) (*Task, error) { panic("body follows") }

// Groups loads the groups with these ids, in this order; those that are not there are left out.
func Groups(ctx context.Context, q db.Querier, ids []pulp.ID) ([]*Group, error) {
	panic("body follows")
}

// Forget takes objects off the created resources of the tasks that made them: for who deletes a draft.
// (Other objects stay listed after they are deleted, and are shown as unavailable.)
func Forget(ctx context.Context, tx *db.Tx, refs ...pulp.Ref) error { panic("body follows") }
