package task

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// A Progress tells clients how far one part of a task has come. It is kept in memory and stored every two seconds, and once more in
// the transaction that ends the task. Its methods may be used by many goroutines. What is open when the task ends, ends with it.
type Progress struct {
	mu      sync.Mutex
	report  Report
	ordinal int
	dirty   bool      // it differs from what is stored
	urgent  bool      // its state does
	stored  time.Time // when it was stored last
}

// Progress starts a report in the state running.
func (j *Job) Progress(code, message string) *Progress {
	p := &Progress{report: Report{Code: code, Message: message, State: Running}, dirty: true, urgent: true}
	if j == nil {
		return p
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reports = append(j.reports, p)
	p.ordinal = len(j.reports)
	return p
}

// Add counts n items more as done.
func (p *Progress) Add(n int64) { p.change(func(r *Report) { r.Done += n }) }

// SetDone sets the number of items that are done.
func (p *Progress) SetDone(n int64) { p.change(func(r *Report) { r.Done = n }) }

// SetTotal sets the number of items that there are; negative means unknown.
func (p *Progress) SetTotal(n int64) {
	p.change(func(r *Report) {
		if r.Total = &n; n < 0 {
			r.Total = nil
		}
	})
}

// AddTotal raises the number of items that there are.
func (p *Progress) AddTotal(n int64) {
	p.change(func(r *Report) {
		if r.Total != nil {
			n += *r.Total
		}
		r.Total = &n
	})
}

// SetSuffix sets the text that says what the items are.
func (p *Progress) SetSuffix(s string) { p.change(func(r *Report) { r.Suffix = &s }) }

// Done ends the report as completed.
func (p *Progress) Done() { p.end(Completed) }

// End ends the report by what its part of the work returned: as completed, as canceled where that was cancelation, else as failed.
// It is for a defer: defer p.End(&err).
func (p *Progress) End(err *error) {
	switch {
	case err == nil || *err == nil:
		p.end(Completed)
	case errors.Is(*err, context.Canceled):
		p.end(Canceled)
	default:
		p.end(Failed)
	}
}

func (p *Progress) end(s State) {
	p.change(func(r *Report) {
		if !r.State.Final() {
			r.State = s
		}
	})
}

// change changes an open report; a closed one keeps its state and may still count.
func (p *Progress) change(f func(r *Report)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.report.State
	f(&p.report)
	p.dirty = true
	p.urgent = p.urgent || p.report.State != before
}

// A storable is the copy of a report that is about to be stored.
type storable struct {
	ordinal int
	report  Report
}

// due copies the report if it is time to store it.
func (p *Progress) due(now time.Time) (s storable, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dirty || !p.urgent && now.Sub(p.stored) < flushEvery {
		return s, false
	}
	p.dirty, p.urgent, p.stored = false, false, now
	return storable{p.ordinal, p.report}, true
}

// again marks the report as not stored after all.
func (p *Progress) again() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dirty = true
}

// close ends the reports of a task that ends, and returns what is to be stored of them. Those that are open when the task fails
// are what failed, unless another report is that.
func (j *Job) close(e ending) []storable {
	j.mu.Lock()
	defer j.mu.Unlock()
	open := e.state
	if e.state == Failed {
		for _, p := range j.reports {
			p.mu.Lock()
			if p.report.State == Failed {
				open = Canceled
			}
			p.mu.Unlock()
		}
	}
	list := make([]storable, len(j.reports))
	for i, p := range j.reports {
		p.mu.Lock()
		if s := &p.report.State; !s.Final() {
			*s = open
		}
		list[i] = storable{p.ordinal, p.report}
		p.mu.Unlock()
	}
	return list
}

func writeReports(ctx context.Context, tx *db.Tx, task pulp.ID, list []storable) error {
	rows := make([][]any, len(list))
	for i, s := range list {
		r := s.report
		if r.Suffix != nil {
			text := storableText(*r.Suffix)
			r.Suffix = &text
		}
		rows[i] = []any{task, s.ordinal, storableText(r.Message), r.Code, string(r.State), r.Total, r.Done, r.Suffix}
	}
	_, err := tx.Insert(ctx, "core_progressreport", []string{"task", "ordinal", "message", "code", "state", "total", "done", "suffix"}, rows,
		`ON CONFLICT (task, ordinal) DO UPDATE SET message = excluded.message, state = excluded.state, total = excluded.total,
		done = excluded.done, suffix = excluded.suffix`)
	return err
}

// storableText takes out what PostgreSQL does not store: messages may hold names from elsewhere, and must not keep a task from ending.
func storableText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

const flushEvery = 2 * time.Second

// flushProgress stores the progress of the tasks that run here: numbers every two seconds, states within half a second.
func (q *Queue) flushProgress(ctx context.Context) {
	tick := time.NewTicker(flushEvery / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if err := q.flushDue(ctx, now); err != nil {
				q.warn(ctx, "store progress", err)
			}
		}
	}
}

func (q *Queue) flushDue(ctx context.Context, now time.Time) error {
	q.mu.Lock()
	jobs := make([]*Job, 0, len(q.running))
	for _, j := range q.running {
		jobs = append(jobs, j)
	}
	q.mu.Unlock()
	var list []error
	for _, j := range jobs {
		j.mu.Lock()
		var due []storable
		var from []*Progress
		for _, p := range j.reports {
			if s, ok := p.due(now); ok {
				due, from = append(due, s), append(from, p)
			}
		}
		j.mu.Unlock()
		if len(due) == 0 {
			continue
		}
		err := q.db.Update(ctx, func(tx *db.Tx) error {
			if err := j.Fence(ctx, tx); err != nil {
				return err
			}
			return writeReports(ctx, tx, j.Task.ID, due)
		})
		if errors.Is(err, errNotOurs) {
			continue // it has just ended, with its own last report
		}
		if err != nil {
			for _, p := range from {
				p.again()
			}
			list = append(list, err)
		}
	}
	return errors.Join(list...)
}

// errNoGroup is the error of a task that has no group and wants to report to it.
var errNoGroup = errs.E(errs.Internal, "the task is in no group")

// GroupProgress makes the report with this code of the task's group, if it has none yet, or adds to its total.
func (j *Job) GroupProgress(ctx context.Context, code, message string, total int64) error {
	if j.Task.Group.IsZero() {
		return errNoGroup
	}
	return j.q.db.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO core_groupprogressreport (task_group, code, message, created, total, done) VALUES (?, ?, ?, ?, ?, 0)
			ON CONFLICT (task_group, code) DO UPDATE SET total = coalesce(core_groupprogressreport.total, 0) + excluded.total`,
			j.Task.Group, code, message, j.q.cfg.Clock.Now(), total)
		return err
	})
}

// GroupAdd adds to the done count of a report of the task's group.
func (j *Job) GroupAdd(ctx context.Context, code string, n int64) error {
	if j.Task.Group.IsZero() {
		return errNoGroup
	}
	return j.q.db.Update(ctx, func(tx *db.Tx) error {
		found, err := tx.Exec(ctx, "UPDATE core_groupprogressreport SET done = done + ? WHERE task_group = ? AND code = ?", n, j.Task.Group, code)
		if err == nil && found == 0 {
			err = fmt.Errorf("the task group has no progress report %q", code)
		}
		return err
	})
}
