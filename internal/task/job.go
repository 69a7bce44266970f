package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// A Job is a running task, as its function sees it.
type Job struct {
	// Task is the row as it was when the task started.
	Task *Task

	q      *Queue
	owner  pulp.ID
	args   string // JSON
	domain string // its name
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	added   []string // what AddLock locked; some of it perhaps in a transaction that failed
	reports []*Progress
	tempDir string
}

type jobKey struct{}

// JobOf returns the job that the context runs in, or nil. Progress of a nil Job goes nowhere.
func JobOf(ctx context.Context) *Job {
	j, _ := ctx.Value(jobKey{}).(*Job)
	return j
}

// Args decodes the task's arguments.
func (j *Job) Args(v any) error {
	if err := json.Unmarshal([]byte(j.args), v); err != nil {
		return fmt.Errorf("arguments of %s: %w", j.Task.Name, err)
	}
	return nil
}

// Dispatch is [Queue.Dispatch], for the task's function.
func (j *Job) Dispatch(ctx context.Context, spec Spec) (*Task, error) {
	return j.q.Dispatch(ctx, spec)
}

// errNotOurs is the error of whoever wants to write for a task that another has taken over, or that has ended.
var errNotOurs = errs.E(errs.Conflict, "The task is no longer this worker's.")

// Fence fails, and so the transaction with it, when the task is no longer this process's. Whoever makes the work of a
// task visible, as the step that completes a version does, calls it first.
func (j *Job) Fence(ctx context.Context, tx *db.Tx) error { return j.fence(ctx, tx, forShare(tx)) }

func (j *Job) fence(ctx context.Context, tx *db.Tx, lock string) error {
	ok, err := db.Exists(ctx, tx, "SELECT 1 FROM core_task WHERE id = ? AND owner = ?"+lock, j.Task.ID, j.owner)
	if err == nil && !ok {
		err = errNotOurs
	}
	return err
}

// Created notes, in the transaction that makes it, an object as made by this task, behind those that it made before. It fails
// when the task is no longer this process's.
func (j *Job) Created(ctx context.Context, tx *db.Tx, ref pulp.Ref) error {
	if err := j.fence(ctx, tx, forUpdate(tx)); err != nil { // one at a time, for the ordinal
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO core_createdresource (task, ordinal, type, key)
		SELECT ?, coalesce(max(ordinal), 0) + 1, ?, ? FROM core_createdresource WHERE task = ?`, j.Task.ID, ref.Type, ref.Key, j.Task.ID)
	return err
}

// AddLock gives the task an object that it has just made in tx: later tasks queue behind it. It fails where others have locked the resource.
func (j *Job) AddLock(ctx context.Context, tx *db.Tx, resource string) error {
	mine := []lock{{resource, true}}
	if err := guard(ctx, tx, mine); err != nil {
		return err
	}
	if err := j.fence(ctx, tx, forUpdate(tx)); err != nil {
		return err
	}
	if busy, err := blocked(ctx, tx, mine); err != nil {
		return err
	} else if busy {
		return errs.Ef(errs.Conflict, "The resource %s is locked.", resource)
	}
	text, err := db.Value[string](ctx, tx, "SELECT reserved_resources_record FROM core_task WHERE id = ?", j.Task.ID)
	if err != nil {
		return err
	}
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return err
	}
	b, err := json.Marshal(append(list, resource))
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "UPDATE core_task SET reserved_resources_record = ? WHERE id = ?", string(b), j.Task.ID); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO core_tasklock (resource, exclusive, seq) VALUES (?, ?, ?)", resource, true, j.Task.Seq); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO core_taskresource (task, resource, exclusive) VALUES (?, ?, ?)", j.Task.ID, resource, true)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Contains(j.added, resource) {
		j.added = append(j.added, resource)
	}
	return nil
}

// reserved adds what AddLock locked to a task's record.
func (j *Job) reserved(record []string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.added {
		if !slices.Contains(record, r) {
			record = append(slices.Clip(record), r)
		}
	}
	return record
}

// tempPrefix begins the names of scratch directories; the task's id follows.
const tempPrefix = "task-"

// TempDir returns the task's scratch directory, which is made at the first call and removed when the task ends.
func (j *Job) TempDir() (string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.tempDir != "" {
		return j.tempDir, nil
	}
	dir := filepath.Join(j.q.cfg.TempDir, tempPrefix+j.Task.ID.String())
	if err := os.MkdirAll(j.q.cfg.TempDir, 0o700); err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	j.tempDir = dir
	return dir, nil
}

func (j *Job) removeTempDir() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.tempDir == "" {
		return
	}
	if err := os.RemoveAll(j.tempDir); err != nil {
		j.q.log.Warn("remove scratch directory: " + err.Error())
	}
}
