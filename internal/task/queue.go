package task

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"granary/internal/db"
	"granary/internal/errs"
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
	// though its function has not returned. Whatever that still does with its context fails. 0 means 15 s.
	Patience time.Duration
	// Burst makes Run return when no task is ready.
	Burst bool
	// Auxiliary makes Run leave schedules and lost tasks to others.
	Auxiliary bool
	// PurgeAge is how long the scheduled purge spares finished tasks; 0 means for ever.
	PurgeAge time.Duration

	// Cleanup removes those of a task's created objects that are incomplete: unfinished versions and publications. It is called
	// before a failed, canceled or lost task ends, while its locks are held, and may be called again. It calls [Forget] for what it deletes.
	Cleanup func(ctx context.Context, created []pulp.Ref) error
	// Dispatched is called in the transaction that makes a task: for the roles on it.
	Dispatched func(ctx context.Context, tx *db.Tx, t *Task) error
	// Diagnose begins to measure a task for which that was asked. Its function gets the returned context; end is called when it has
	// returned, before the task ends, or when it was given up.
	Diagnose func(ctx context.Context, t *Task) (_ context.Context, end func())
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
	cfg   Config
	made  pulp.Time
	db    *db.DB
	log   *slog.Logger
	kinds map[string]Kind

	wake  chan struct{} // a token for each worker that should look for work
	tell  chan struct{} // a token when other processes should
	busy  atomic.Int32  // workers that have a task or look for one
	tasks sync.WaitGroup

	stopOnce, abortOnce sync.Once
	stopping, aborting  chan struct{}
	ready               chan struct{} // closed once live

	mu       sync.Mutex
	live     bool                  // Run is running and not stopping
	apps     []App                 // the rows of core_appstatus that are this process
	running  map[pulp.ID]*Job      // what runs here
	canceled map[pulp.ID]time.Time // cancelations of tasks that did not run here when they came; they may be about to
	absent   map[pulp.ID]time.Time // when this process was first found to own a task that does not run here
	waiters  map[pulp.ID][]chan struct{}
	unfit    map[string]bool // least versions that this process does not have
	timers   []*time.Timer
}

// New returns a queue. It knows the purge and nothing else until kinds are registered.
func New(cfg Config) *Queue {
	if cfg.TTL == 0 {
		cfg.TTL = defaultTTL
	}
	if cfg.Patience == 0 {
		cfg.Patience = 15 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	q := &Queue{
		cfg: cfg, made: cfg.Clock.Now(), db: cfg.DB, log: cfg.Log,
		kinds:    map[string]Kind{},
		wake:     make(chan struct{}, max(1, cfg.Workers)),
		tell:     make(chan struct{}, 1),
		stopping: make(chan struct{}),
		aborting: make(chan struct{}),
		ready:    make(chan struct{}),
		running:  map[pulp.ID]*Job{},
		canceled: map[pulp.ID]time.Time{},
		absent:   map[pulp.ID]time.Time{},
		waiters:  map[pulp.ID][]chan struct{}{},
		unfit:    map[string]bool{},
	}
	q.Register(Kind{Name: purgeName, Run: q.purge})
	return q
}

// Register adds kinds of tasks, before Run. It panics when a name is registered twice.
func (q *Queue) Register(kinds ...Kind) {
	for _, k := range kinds {
		if _, ok := q.kinds[k.Name]; ok {
			panic("task kind registered twice: " + k.Name)
		}
		q.kinds[k.Name] = k
	}
}

// The channels of notifications.
const (
	wakeChannel   = "task_wake"   // tasks became ready
	cancelChannel = "task_cancel" // with the id of a task that is canceling
)

// Run registers this process, ends what dead processes left, and runs tasks and the queue's housekeeping until ctx ends
// or [Queue.Stop] is called. It returns when all of its goroutines are done, but for the functions of tasks that were
// given up (see [Config]). A queue runs once, and a process has one that does; immediate tasks run in place only meanwhile.
func (q *Queue) Run(ctx context.Context) (err error) {
	defer errs.Wrap(&err, "task queue")

	infra, cancel := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx: tasks may still go on
	defer cancel()
	if err := q.register(infra); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.unregister(context.WithoutCancel(ctx))) }()
	if err := q.recover(infra); err != nil {
		return err
	}

	var helpers, workers sync.WaitGroup
	helpers.Go(func() { q.db.Listen(infra, []string{wakeChannel, cancelChannel}, q.notified) })
	helpers.Go(func() { q.keepLease(infra) })
	helpers.Go(func() { q.poll(infra) })
	helpers.Go(func() { q.tellOthers(infra) })
	helpers.Go(func() { q.flushProgress(infra) })
	if !q.cfg.Auxiliary {
		helpers.Go(func() { q.housekeep(infra) })
	}
	q.mu.Lock()
	q.live = true
	q.mu.Unlock()
	close(q.ready)
	q.wakeAll()
	for slot := range q.cfg.Workers {
		workers.Go(func() { q.work(infra, slot) })
	}

	select {
	case <-ctx.Done():
		q.Stop(q.cfg.Grace)
	case <-q.stopping:
	}
	q.mu.Lock()
	q.live = false
	q.mu.Unlock()

	idle := make(chan struct{})
	helpers.Go(func() { workers.Wait(); q.tasks.Wait(); close(idle) })
	select {
	case <-idle:
	case <-q.aborting:
		q.stopTasks(errShutdown)
		<-idle
	}
	q.mu.Lock()
	for _, t := range q.timers {
		t.Stop()
	}
	q.mu.Unlock()
	cancel()
	helpers.Wait()
	return nil
}

// Ready is closed when Run has ended what was left by dead processes and immediate tasks run in place.
func (q *Queue) Ready() <-chan struct{} { return q.ready }

// Stop makes Run take no further task, abort what still runs after grace, and return. A negative grace has no end. Stop may
// be called again with less. The end of Run's context is a Stop with the configured grace.
func (q *Queue) Stop(grace time.Duration) {
	q.stopOnce.Do(func() { close(q.stopping) })
	abort := func() { q.abortOnce.Do(func() { close(q.aborting) }) }
	switch {
	case grace == 0:
		abort()
	case grace > 0:
		q.mu.Lock()
		defer q.mu.Unlock()
		q.timers = append(q.timers, time.AfterFunc(grace, abort))
	}
}

func (q *Queue) isStopping() bool {
	select {
	case <-q.stopping:
		return true
	default:
		return false
	}
}

// notified is called for each notification.
func (q *Queue) notified(channel, payload string) {
	switch channel {
	case wakeChannel:
		if n, err := strconv.Atoi(payload); err == nil {
			q.wakeSome(n)
		} else {
			q.wakeAll() // another process does not know how many there are
		}
	case cancelChannel:
		if id, err := pulp.ParseID(payload); err == nil {
			q.stopTask(id, errCanceled)
		}
	default: // some may have been missed; those of cancelation are found by the poll
		q.wakeAll()
	}
}

func (q *Queue) wakeAll() { q.wakeSome(cap(q.wake)) }

func (q *Queue) wakeSome(n int) {
	for range min(n, cap(q.wake)) {
		select {
		case q.wake <- struct{}{}:
		default:
			return // as many will look as there are workers
		}
	}
}

// tellReady announces that n tasks are ready, once the transaction is durable.
func (q *Queue) tellReady(ctx context.Context, tx *db.Tx, n int64) error {
	if n <= 0 {
		return nil
	}
	if tx.Engine() == db.SQLite {
		return tx.Notify(ctx, wakeChannel, strconv.FormatInt(n, 10))
	}
	// A notification within the transaction would make the commits of all such transactions wait for each other.
	tx.AfterCommit(func() {
		q.wakeSome(int(n))
		select {
		case q.tell <- struct{}{}:
		default: // one is due already
		}
		q.mu.Lock()
		live := q.live
		q.mu.Unlock()
		if !live {
			q.tellNow(ctx) // nobody else does
		}
	})
	return nil
}

// tellOthers sends the notifications of tellReady to the other processes.
func (q *Queue) tellOthers(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.tell:
		}
		q.tellNow(ctx)
	}
}

func (q *Queue) tellNow(ctx context.Context) {
	if err := q.db.Update(ctx, func(tx *db.Tx) error { return tx.Notify(ctx, wakeChannel, "") }); err != nil {
		q.warn(ctx, "tell others of ready tasks", err)
	}
}

// poll finds what notifications did not tell.
func (q *Queue) poll(ctx context.Context) {
	every := time.Second
	if q.db.Engine() == db.SQLite {
		every = 10 * time.Second // within a process no notification is lost
	}
	delay := every / 64 // at first often: notifications may not be coming yet
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		delay = min(2*delay, every)
		q.forgetCancelations()
		if err := q.lookAtOwn(ctx); err != nil {
			q.warn(ctx, "look at running tasks", err)
		}
		if q.cfg.Workers > 0 {
			ready, err := db.Exists(ctx, q.db, readyQuery)
			if err != nil {
				q.warn(ctx, "look for ready tasks", err)
			} else if ready {
				q.wakeAll()
			}
		}
	}
}

func (q *Queue) warn(ctx context.Context, doing string, err error) {
	if ctx.Err() == nil {
		q.log.WarnContext(ctx, doing+": "+err.Error())
	}
}

// Wait returns the task when it is in a final state.
func (q *Queue) Wait(ctx context.Context, id pulp.ID) (*Task, error) {
	ended := make(chan struct{}, 1)
	q.mu.Lock()
	q.waiters[id] = append(q.waiters[id], ended)
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		list := q.waiters[id]
		for i, c := range list {
			if c == ended {
				list[i] = list[len(list)-1]
				q.waiters[id] = list[:len(list)-1]
			}
		}
		if len(q.waiters[id]) == 0 {
			delete(q.waiters, id)
		}
	}()
	poll := time.NewTicker(500 * time.Millisecond) // for tasks that end in another process
	defer poll.Stop()
	for {
		state, err := db.Value[State](ctx, q.db, "SELECT state FROM core_task WHERE id = ?", id)
		switch {
		case errs.Is(err, errs.NotFound):
			return nil, errs.NotFoundModel("Task")
		case err != nil:
			return nil, err
		case state.Final():
			return One(ctx, q.db, id)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ended:
		case <-poll.C:
		}
	}
}

// ended is called when a task has reached a final state by this process's doing.
func (q *Queue) ended(ctx context.Context, t *Task) {
	q.mu.Lock()
	for _, c := range q.waiters[t.ID] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	q.mu.Unlock()
	if q.cfg.Finished != nil {
		q.cfg.Finished(ctx, t)
	}
}
