// Package diagnose measures tasks for which clients asked for that, and keeps what it measured as artifacts. Start with [Service.Start],
// which a queue calls.
package diagnose

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/pprof"
	"slices"
	"sync"
	"time"

	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/pulp"
	"granary/internal/task"
)

// The kinds of diagnosis, by the names that clients ask for them.
const (
	Memory    = "memory"       // a series of the process's resident memory
	CPU       = "pyinstrument" // a CPU profile of the process, in pprof's form; the task's own samples carry its id as the label "task"
	Heap      = "memray"       // what the process holds in memory at the task's end, in pprof's form
	Logs      = "logs"         // what the task logged
	DebugLogs = "debug-logs"   // the same, with what is usually left out
)

// names are those under which clients find what was measured.
var names = map[string]string{
	Memory: "memory_profile", CPU: "pyinstrument_profile", Heap: "memray_profile", Logs: "task_logs", DebugLogs: "task_debug_logs",
}

// A Config is what a [Service] needs.
type Config struct {
	DB      *db.DB
	Log     *slog.Logger
	Allowed []string // the kinds that clients may ask for
	Stage   func(ctx context.Context) (blob.Stage, error)
	// Save makes a staged file an artifact of the call's domain.
	Save func(ctx context.Context, stage blob.Stage) (*pulp.Artifact, error)
	// Every is how often memory is looked at; 0 means two seconds.
	Every time.Duration
}

// A Service measures tasks.
type Service struct {
	Config
	cpu sync.Mutex // held while the process is profiled, which is possible once at a time
}

// New returns a service.
func New(c Config) *Service {
	if c.Every == 0 {
		c.Every = 2 * time.Second
	}
	return &Service{Config: c}
}

// A measurement is a diagnosis under way.
type measurement struct {
	name  string
	stage blob.Stage
	end   func() error // ends it; all is in the stage then
}

// saveTime is how long the keeping of what was measured may take.
const saveTime = time.Minute

// Start begins to measure a task, which runs with the returned context. The caller calls end when its function has returned, and before
// anybody is told of that. What cannot be measured is logged; it is no reason for a task to fail.
func (s *Service) Start(ctx context.Context, t *task.Task) (_ context.Context, end func()) {
	var list []*measurement
	for _, kind := range t.Profilers {
		name := names[kind]
		switch {
		case name == "" || slices.ContainsFunc(list, func(m *measurement) bool { return m.name == name }):
			continue
		case !slices.Contains(s.Allowed, kind):
			s.Log.WarnContext(ctx, "a diagnosis was asked for that TASK_DIAGNOSTICS does not allow", slog.String("kind", kind))
			continue
		}
		stage, err := s.Stage(ctx)
		if err != nil {
			s.Log.ErrorContext(ctx, "no place for a diagnosis", slog.Any("error", err))
			break
		}
		m := &measurement{name: name, stage: stage}
		switch kind {
		case Memory:
			m.end = s.memory(stage)
		case CPU:
			ctx = pprof.WithLabels(ctx, pprof.Labels("task", t.ID.String()))
			m.end, err = s.profile(stage)
		case Heap:
			m.end = func() error { return pprof.Lookup("heap").WriteTo(stage, 0) }
		default:
			ctx, m.end = collect(ctx, stage, kind == DebugLogs)
		}
		if err != nil {
			s.Log.WarnContext(ctx, "a diagnosis is not possible", slog.String("kind", kind), slog.Any("error", errors.Join(err, stage.Close())))
			continue
		}
		list = append(list, m)
	}
	return ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
		defer cancel()
		for _, m := range list {
			if err := s.keep(ctx, t, m); err != nil {
				s.Log.ErrorContext(ctx, "a diagnosis was not kept", slog.String("name", m.name), slog.Any("error", err))
			}
		}
	}
}

// keep ends a measurement and stores it.
func (s *Service) keep(ctx context.Context, t *task.Task, m *measurement) (err error) {
	defer func() { err = errors.Join(err, m.stage.Close()) }()
	if err := m.end(); err != nil {
		return err
	}
	a, err := s.Save(ctx, m.stage)
	if err != nil {
		return err
	}
	return s.DB.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO core_profileartifact (task, name, artifact) VALUES (?, ?, ?) ON CONFLICT (task, name) DO UPDATE SET artifact = excluded.artifact",
			t.ID, m.name, a.ID)
		return err
	})
}

// memory writes the process's resident memory from time to time, and at the end.
func (s *Service) memory(w io.Writer) (end func() error) {
	stop, done := make(chan struct{}), make(chan error, 1)
	begun := time.Now()
	sample := func() error {
		n, err := resident()
		if err == nil {
			_, err = fmt.Fprintf(w, "%.2f\t%.2f\n", time.Since(begun).Seconds(), float64(n)/(1<<20))
		}
		return err
	}
	go func() { // end waits for it
		_, err := io.WriteString(w, "# Seconds\tMemory in MB\n")
		if err == nil {
			err = sample()
		}
		tick := time.NewTicker(s.Every)
		defer tick.Stop()
		for running := true; running; {
			select {
			case <-tick.C:
			case <-stop:
				running = false
			}
			if err == nil {
				err = sample()
			}
		}
		done <- err
	}()
	return func() error {
		close(stop)
		return <-done
	}
}

// resident returns how much of the process's memory is in the machine's, in bytes.
func resident() (int64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("read the process's memory: %w", err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		return 0, fmt.Errorf("read the process's memory: %w", err)
	}
	return pages * int64(os.Getpagesize()), nil
}

var errProfiled = errors.New("the process is being profiled for another task")

func (s *Service) profile(w io.Writer) (end func() error, err error) {
	if !s.cpu.TryLock() {
		return nil, errProfiled
	}
	if err := pprof.StartCPUProfile(w); err != nil {
		s.cpu.Unlock()
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		s.cpu.Unlock()
		return nil
	}, nil
}

// Artifacts returns what was measured of a task, by name.
func Artifacts(ctx context.Context, q db.Querier, t pulp.ID) (map[string]pulp.ID, error) {
	list := map[string]pulp.ID{}
	return list, db.Each(ctx, q, func(rows *sql.Rows) error {
		var name string
		var a pulp.ID
		err := rows.Scan(&name, &a)
		list[name] = a
		return err
	}, "SELECT name, artifact FROM core_profileartifact WHERE task = ?", t)
}
