package task

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"granary/internal/db"
	"granary/internal/pulp"
)

// A lock is a resource that a task needs.
type lock struct {
	resource  string
	exclusive bool
}

// locks lists what a task needs: each resource once, in the order of the Spec, exclusive ones first, the domain last.
func locks(spec Spec, domain pulp.ID) []lock {
	list := make([]lock, 0, len(spec.Exclusive)+len(spec.Shared)+1)
	seen := make(map[string]bool, cap(list))
	add := func(resource string, exclusive bool) {
		if resource != "" && !seen[resource] {
			seen[resource] = true
			list = append(list, lock{resource, exclusive})
		}
	}
	for _, r := range spec.Exclusive {
		add(r, true)
	}
	for _, r := range spec.Shared {
		add(r, false)
	}
	add(pulp.RefTo("core.domain", domain).PRN(), false)
	return list
}

// record is the form of locks that clients see.
func record(list []lock) []string {
	out := make([]string, len(list))
	for i, l := range list {
		if out[i] = l.resource; !l.exclusive {
			out[i] = "shared:" + l.resource
		}
	}
	return out
}

// maxGuards is how many advisory locks a transaction takes at most: a PostgreSQL server has room for a few thousand in all.
const maxGuards = 64

// guard keeps others from adding or removing conflicting locks until the transaction ends.
func guard(ctx context.Context, tx *db.Tx, list []lock) error {
	if tx.Engine() == db.SQLite {
		return nil // there is one transaction at a time
	}
	const all = "task locks"
	if len(list) > maxGuards {
		return tx.Lock(ctx, all)
	}
	if err := tx.LockShared(ctx, all); err != nil {
		return err
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b lock) int { return strings.Compare(a.resource, b.resource) })
	for _, l := range list {
		take := tx.LockShared
		if l.exclusive {
			take = tx.Lock
		}
		if err := take(ctx, "task lock "+l.resource); err != nil {
			return err
		}
	}
	return nil
}

// guardTask is guard for the locks of a task that is there.
func guardTask(ctx context.Context, tx *db.Tx, seq int64) error {
	if tx.Engine() == db.SQLite {
		return nil
	}
	list, err := db.All(ctx, tx, func(rows *sql.Rows) (l lock, err error) { err = rows.Scan(&l.resource, &l.exclusive); return l, err },
		"SELECT resource, exclusive FROM core_tasklock WHERE seq = ?", seq)
	if err != nil {
		return err
	}
	return guard(ctx, tx, list)
}

// blocked says whether any unfinished task conflicts with these locks. The caller holds the guard.
func blocked(ctx context.Context, tx *db.Tx, list []lock) (bool, error) {
	var exclusive, shared []string
	for _, l := range list {
		if l.exclusive {
			exclusive = append(exclusive, l.resource)
		} else {
			shared = append(shared, l.resource)
		}
	}
	for _, set := range []struct {
		resources []string
		cond      string
	}{{exclusive, ""}, {shared, " AND exclusive = TRUE"}} {
		for part := range slices.Chunk(set.resources, chunk) {
			in, args := db.In(part)
			if found, err := db.Exists(ctx, tx, "SELECT 1 FROM core_tasklock WHERE resource IN "+in+set.cond, args...); found || err != nil {
				return found, err
			}
		}
	}
	return false, nil
}

// isFree is the condition that no earlier unfinished task conflicts with the row of core_task.
const isFree = `NOT EXISTS (SELECT 1 FROM core_tasklock a WHERE a.seq = core_task.seq AND (
	EXISTS (SELECT 1 FROM core_tasklock b WHERE b.resource = a.resource AND b.exclusive = TRUE AND b.seq < a.seq)
	OR (a.exclusive = TRUE AND EXISTS (SELECT 1 FROM core_tasklock b WHERE b.resource = a.resource AND b.exclusive = FALSE AND b.seq < a.seq))))`

// release removes a task's locks and unblocks the tasks for which they were the last obstacle. It returns how many
// these are. The caller holds the guard.
func release(ctx context.Context, tx *db.Tx, seq int64, now pulp.Time) (int64, error) {
	type held struct {
		lock
		next sql.NullInt64 // the first exclusive task behind this one
	}
	// Where an earlier exclusive task is waiting or running, that one goes on blocking what is behind.
	mine, err := db.All(ctx, tx, func(rows *sql.Rows) (h held, err error) {
		err = rows.Scan(&h.resource, &h.exclusive, &h.next)
		return h, err
	}, `SELECT a.resource, a.exclusive,
		(SELECT b.seq FROM core_tasklock b WHERE b.resource = a.resource AND b.exclusive = TRUE AND b.seq > a.seq ORDER BY b.seq LIMIT 1)
		FROM core_tasklock a WHERE a.seq = ?
		AND NOT EXISTS (SELECT 1 FROM core_tasklock b WHERE b.resource = a.resource AND b.exclusive = TRUE AND b.seq < a.seq)`, seq)
	if err != nil {
		return 0, err
	}
	var behind []int64
	for _, h := range mine {
		if h.next.Valid {
			behind = append(behind, h.next.Int64)
		}
		if !h.exclusive {
			continue
		}
		query := "SELECT seq FROM core_tasklock WHERE resource = ? AND exclusive = FALSE AND seq > ?"
		args := []any{h.resource, seq}
		if h.next.Valid {
			query += " AND seq < ?"
			args = append(args, h.next.Int64)
		}
		shared, err := db.Column[int64](ctx, tx, query, args...)
		if err != nil {
			return 0, err
		}
		behind = append(behind, shared...)
	}
	if _, err := tx.Exec(ctx, "DELETE FROM core_tasklock WHERE seq = ?", seq); err != nil {
		return 0, err
	}
	return unblock(ctx, tx, behind, now)
}

// unblock unblocks those of some tasks that no earlier one conflicts with any more.
func unblock(ctx context.Context, tx *db.Tx, seqs []int64, now pulp.Time) (total int64, err error) {
	slices.Sort(seqs)
	for part := range slices.Chunk(slices.Compact(seqs), chunk) {
		in, args := db.In(part)
		if tx.Engine() == db.PostgreSQL {
			// Who comes second sees in the next statement what the first has committed.
			_, err := tx.Exec(ctx, "SELECT 1 FROM core_task WHERE seq IN "+in+" ORDER BY seq FOR NO KEY UPDATE", args...)
			if err != nil {
				return total, err
			}
		}
		n, err := tx.Exec(ctx, "UPDATE core_task SET unblocked_at = ? WHERE seq IN "+in+" AND state = 'waiting' AND unblocked_at IS NULL AND "+isFree,
			append([]any{now}, args...)...)
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}
