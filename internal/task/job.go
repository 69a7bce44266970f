package task

import (
	"context"

	"granary/internal/db"
	"granary/internal/pulp"
)

// A Job is a running task, as its function sees it.
type Job struct {
	// Task is the row as it was when the task started.
	Task *Task
}

// JobOf returns the job that the context runs in, or nil. Progress of a nil Job goes nowhere.
func JobOf(ctx context.Context) *Job { panic("body follows") }

// Args decodes the task's arguments.
func (j *Job) Args(v any) error { panic("body follows") }

// Created notes, in the transaction that makes it, an object as made by this task. It fails when the task is no longer this process's.
func (j *Job) Created(ctx context.Context, tx *db.Tx, ref pulp.Ref) error { panic("body follows") }

// Fence fails, and so the transaction with it, when the task is no longer this process's. Whoever makes the work of a
// task visible, as the step that completes a version does, calls it first.
func (j *Job) Fence(ctx context.Context, tx *db.Tx) error { panic("body follows") }

// AddLock gives the task an object that it has just made in tx: later tasks queue behind it. It fails where others have locked the resource.
func (j *Job) AddLock(ctx context.Context, tx *db.Tx, resource string) error { panic("body follows") }

// TempDir returns the task's scratch directory, which is made at the first call and removed when the task ends.
func (j *Job) TempDir() (string, error) { panic("body follows") }

// Progress starts a report in the state running.
func (j *Job) Progress(code, message string) *Progress { panic("body follows") }

// GroupProgress makes the report with this code of the task's group, if it has none yet, or adds to its total.
func (j *Job) GroupProgress(ctx context.Context, code, message string, total int64) error {
	panic("body follows")
}

// GroupAdd adds to the done count of a report of the task's group.
func (j *Job) GroupAdd(ctx context.Context, code string, n int64) error { panic("body follows") }

// A Progress tells clients how far one part of a task has come. It is kept in memory and stored every two seconds, and once more in
// the transaction that ends the task. Its methods may be used by many goroutines. What is open when the task ends, ends with it.
type Progress struct{}

// Add counts n items more as done.
func (p *Progress) Add(n int64) { panic("body follows") }

// SetDone sets the number of items that are done.
func (p *Progress) SetDone(n int64) { panic("body follows") }

// SetTotal sets the number of items that there are; negative means unknown.
func (p *Progress) SetTotal(n int64) { panic("body follows") }

// SetSuffix sets the text that says what the items are.
func (p *Progress) SetSuffix(s string) { panic("body follows") }

// Done ends the report as completed.
func (p *Progress) Done() { panic("body follows") }

// End ends the report by what its part of the work returned: as completed, as canceled where that was cancelation, else as failed.
// It is for a defer: defer p.End(&err).
func (p *Progress) End(err *error) { panic("body follows") }
