package task

import (
	"context"
	"log/slog"
	"time"

	"granary/internal/db"
	"granary/internal/keyring"
	"granary/internal/pulp"
)

// ImmediateTimeout is how long an immediate task may run.
const ImmediateTimeout = 5 * time.Second

// A Config is what a [Queue] needs. DB, Keys and Clock must be set.
type Config struct {
	DB    *db.DB
	Keys  keyring.Keys // encrypts arguments
	Log   *slog.Logger // nil: no log
	Clock pulp.Clock
	// TempDir is where tasks get their scratch directories.
	TempDir string
	// Root is the API root that the calls of tasks carry, as "/pulp/".
	Root string

	// App is the process as which immediate tasks run in place, "api" in a server; Run registers it and renews its lease.
	// Without one the first worker stands for it.
	App App
	// Workers is how many tasks Run runs at once, besides those in place. 0 is for a process that only dispatches.
	Workers int
	// WorkerName is the name of the first worker, as "4107@host"; further ones get ":2", ":3", … behind it.
	WorkerName string
	// Versions are the versions of the components in this process.
	Versions map[string]string
	// TTL is how long a worker that does not renew its lease counts as alive; 0 means 30 s.
	TTL time.Duration
	// Grace is how long Run lets tasks go on when its context ends, before it aborts them. Negative: without limit. See [Queue.Stop].
	Grace time.Duration
	// Patience is how long a task that was told to stop may take before it is given up: it ends, and its locks are free,
	// though its function has not returned. 0 means 15 s.
	Patience time.Duration
	// Burst makes Run return when no task is ready.
	Burst bool
	// Auxiliary makes Run leave schedules and lost tasks to others.
	Auxiliary bool
	// PurgeAge is how long the scheduled purge spares finished tasks.
	PurgeAge time.Duration

	// Cleanup removes those of a task's created objects that are incomplete: unfinished versions and publications. It is called
	// before a failed, canceled or lost task ends, while its locks are held, and may be called again. It calls [Forget] for what it deletes.
	Cleanup func(ctx context.Context, created []pulp.Ref) error
	// Dispatched is called in the transaction that makes a task: for the roles on it.
	Dispatched func(ctx context.Context, tx *db.Tx, t *Task) error
	// Finished is called after a task has ended, with its row alone.
	Finished func(ctx context.Context, t *Task)
	// MayDelete picks those of tasks that the context's user may delete, for a purge; it is not asked about superusers.
	// Without it users may delete what they dispatched.
	MayDelete func(ctx context.Context, q db.Querier, ids []pulp.ID) ([]pulp.ID, error)
	// Deleted is called in the transaction that deletes tasks, before that; it returns how many objects of which type, as
	// "core.UserRole", it deleted with them.
	Deleted func(ctx context.Context, tx *db.Tx, ids []pulp.ID) (map[string]int64, error)
}

// A Queue dispatches tasks and runs them. Its methods may be used by many goroutines.
type Queue struct {
	cfg Config
}

// New returns a queue. It knows the purge and nothing else until kinds are registered.
func New(cfg Config) *Queue { panic("body follows") }

// Register adds kinds of tasks, before Run. It panics when a name is registered twice.
func (q *Queue) Register(kinds ...Kind) { panic("body follows") }

// Run registers this process, ends what dead processes left, and runs tasks and the queue's housekeeping until ctx ends
// or [Queue.Stop] is called. It returns when all of its goroutines are done. There is one Run in a process; immediate
// tasks run in place only meanwhile.
func (q *Queue) Run(ctx context.Context) error { panic("body follows") }

// Stop makes Run take no further task, abort what still runs after grace, and return. A negative grace has no end. Stop may
// be called again with less. The end of Run's context is a Stop with the configured grace.
func (q *Queue) Stop(grace time.Duration) { panic("body follows") }

// Dispatch makes a task for the context's [pulp.Call]: its user, domain and correlation id, as a child of its task. When
// Dispatch returns, the task is durable. An immediate task that nothing blocks has run by then, unless the
// context is from [NeverInPlace] or Run is not running. It must not be called inside a transaction.
func (q *Queue) Dispatch(ctx context.Context, spec Spec) (*Task, error) { panic("body follows") }

// NeverInPlace returns a context with which [Queue.Dispatch] leaves immediate tasks to a worker, as the content app must.
func NeverInPlace(ctx context.Context) context.Context { panic("body follows") }

// Wait returns the task when it is in a final state.
func (q *Queue) Wait(ctx context.Context, id pulp.ID) (*Task, error) { panic("body follows") }

// Cancel asks a task to stop. A waiting one is canceled at once, a running one is canceling until it stops. Canceling a task that
// is canceling or canceled changes nothing. For other final states the task comes with an error of kind Conflict.
func (q *Queue) Cancel(ctx context.Context, id pulp.ID) (*Task, error) { panic("body follows") }

// CancelGroup marks a group as all dispatched and cancels its unfinished members.
func (q *Queue) CancelGroup(ctx context.Context, id pulp.ID) (*Group, error) { panic("body follows") }

// Delete deletes a finished task. The error is of kind Conflict when it is unfinished, or when something else needs it.
func (q *Queue) Delete(ctx context.Context, id pulp.ID) error { panic("body follows") }

// NewGroup makes a task group in the call's domain.
func (q *Queue) NewGroup(ctx context.Context, description string) (pulp.ID, error) {
	panic("body follows")
}

// GroupDispatched notes that no further task will join the group.
func (q *Queue) GroupDispatched(ctx context.Context, id pulp.ID) error { panic("body follows") }

// PurgeSpec is the task that deletes tasks in some final states that finished before a time.
// The states must be final and not empty.
func PurgeSpec(before pulp.Time, states []State) Spec { panic("body follows") }

// A Schedule dispatches a kind of task again and again.
type Schedule struct {
	Name     string // unique
	TaskName string
	Interval time.Duration // 0 removes the schedule
}

// SetSchedules makes, changes or removes the named schedules, and leaves others alone. A new one is due at once.
func (q *Queue) SetSchedules(ctx context.Context, list []Schedule) error { panic("body follows") }

// An App is a process, or a worker of one, that is alive as long as it renews its lease.
type App struct {
	ID       pulp.ID // the zero ID stands for a fresh one
	Type     string  // api, content or worker
	Name     string
	Versions map[string]string
	TTL      time.Duration // 0 means 30 s
}

// Heartbeat registers an app, renews its lease each third of its TTL until ctx ends, and takes it away. It is for roles that run no Queue.
// Start it after [Queue.Run] where both are in one process.
func Heartbeat(ctx context.Context, d *db.DB, clock pulp.Clock, app App) error { panic("body follows") }

// Stats says how far workers are behind.
type Stats struct {
	Unblocked int           // tasks that have been ready for more than 5 s and do not run
	Longest   time.Duration // for how long the first of these has been ready
}

// Statistics reads the queue's Stats.
func Statistics(ctx context.Context, q db.Querier, now pulp.Time) (Stats, error) { panic("body follows") }

// TestKinds are the tasks that Pulp's own tests dispatch; for test setups only.
func (q *Queue) TestKinds() []Kind { panic("body follows") }
