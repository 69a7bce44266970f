package task

import (
	"context"
	"database/sql"
	"math"
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

const sharedPrefix = "shared:"

// record is the form of locks that clients see.
func record(list []lock) []string {
	out := make([]string, len(list))
	for i, l := range list {
		if out[i] = l.resource; !l.exclusive {
			out[i] = sharedPrefix + l.resource
		}
	}
	return out
}

// recorded is the inverse of record.
func recorded(list []string) []lock {
	out := make([]lock, len(list))
	for i, text := range list {
		resource, shared := strings.CutPrefix(text, sharedPrefix)
		out[i] = lock{resource, !shared}
	}
	return out
}

// maxGuards is how many advisory locks a transaction takes at most: a PostgreSQL server has room for a few thousand in all.
const maxGuards = 64

// guard keeps others from adding or removing conflicting locks until the transaction ends.
func guard(ctx context.Context, tx *db.Tx, list []lock) error {
	const all = "task locks"
	if len(list) > maxGuards {
		return tx.Lock(ctx, all)
	}
	names := make([]db.Lock, 1, len(list)+1)
	names[0] = db.Lock{Name: all, Shared: true}
	for _, l := range list {
		names = append(names, db.Lock{Name: all + " " + l.resource, Shared: !l.exclusive})
	}
	return tx.LockAll(ctx, names)
}

// What follows asks core_tasklock for the first row at or behind a place in its primary key, and compares row values with rows.
// So neither engine can choose another plan than one step in that index, whatever it believes to know about
// the table, which is empty at one moment and has many rows of one resource at the next.

// first is a query for the sequence number of the first lock on the resource of lock row a, exclusive or shared, that comes after one.
func first(exclusive bool, after string) string {
	flag := "FALSE"
	if exclusive {
		flag = "TRUE"
	}
	return `(SELECT CASE WHEN b.resource = a.resource AND b.exclusive = ` + flag + ` THEN b.seq END FROM core_tasklock b
		WHERE (b.resource, b.exclusive, b.seq) > (a.resource, ` + flag + `, ` + after + `) ORDER BY b.resource, b.exclusive, b.seq LIMIT 1)`
}

// behindMe is where lock row a stands. SQLite would not take a bare column as a place in an index, for its affinity.
const behindMe = "a.seq + 0"

// blocked says whether any unfinished task conflicts with these locks. The caller holds the guard.
func blocked(ctx context.Context, tx *db.Tx, list []lock) (bool, error) {
	for part := range slices.Chunk(list, 50) {
		finds, args := make([]string, len(part)), make([]any, 0, 3*len(part))
		for i, l := range part {
			// Of a resource's locks the shared ones come first: from the start of all, or of the exclusive ones.
			finds[i] = `(SELECT 1 FROM (SELECT resource FROM core_tasklock WHERE (resource, exclusive, seq) > (?, ?, 0)
				ORDER BY resource, exclusive, seq LIMIT 1) l WHERE l.resource = ?)`
			args = append(args, l.resource, !l.exclusive, l.resource)
		}
		found, err := db.Value[sql.NullInt64](ctx, tx, "SELECT coalesce(NULL, "+strings.Join(finds, ", ")+")", args...)
		if err != nil || found.Valid {
			return found.Valid, err
		}
	}
	return false, nil
}

// isFree is the condition that no earlier unfinished task conflicts with the row of core_task.
var isFree = "(SELECT count(*) FROM core_tasklock a WHERE a.seq = core_task.seq AND (" + first(true, "0") + " < a.seq OR a.exclusive = TRUE AND " + first(false, "0") + " < a.seq)) = 0"

// release removes a task's locks and unblocks the tasks for which they were the last obstacle. It returns how many
// these are. The caller holds the guard.
func release(ctx context.Context, tx *db.Tx, seq int64, now pulp.Time) (int64, error) {
	// On each of its resources, what it may have held up is the first exclusive task behind it, and if it is exclusive itself, the
	// shared ones before that; unless an earlier exclusive task goes on holding them up.
	var behind []int64
	type held struct {
		resource     string
		exclusive    bool
		first        sql.NullInt64 // exclusive lock on the resource
		next, shared sql.NullInt64 // exclusive and shared lock behind this one
	}
	list, err := db.All(ctx, tx, func(rows *sql.Rows) (h held, err error) {
		err = rows.Scan(&h.resource, &h.exclusive, &h.first, &h.next, &h.shared)
		return h, err
	}, "SELECT a.resource, a.exclusive, "+first(true, "0")+", "+first(true, behindMe)+", "+first(false, behindMe)+" FROM core_tasklock a WHERE a.seq = ?", seq)
	if err != nil {
		return 0, err
	}
	for _, h := range list {
		if h.first.Valid && h.first.Int64 < seq {
			continue
		}
		end := int64(math.MaxInt64)
		if h.next.Valid {
			end = h.next.Int64
			behind = append(behind, end)
		}
		if !h.exclusive || !h.shared.Valid {
			continue
		}
		for from := seq; h.shared.Int64 < end; {
			part, err := db.Column[int64](ctx, tx, `SELECT seq FROM core_tasklock WHERE (resource, exclusive, seq) > (?, FALSE, ?) AND (resource, exclusive, seq) < (?, FALSE, ?)
				ORDER BY resource, exclusive, seq LIMIT ?`, h.resource, from, h.resource, end, chunk)
			if err != nil {
				return 0, err
			}
			behind = append(behind, part...)
			if len(part) < chunk {
				break
			}
			from = part[chunk-1]
		}
	}
	if _, err := tx.Exec(ctx, "DELETE FROM core_tasklock WHERE seq = ?", seq); err != nil {
		return 0, err
	}
	return unblock(ctx, tx, behind, now)
}

// unblock unblocks those of some waiting tasks that no earlier one conflicts with any more. It returns how many these are.
func unblock(ctx context.Context, tx *db.Tx, seqs []int64, now pulp.Time) (total int64, err error) {
	slices.Sort(seqs)
	for part := range slices.Chunk(slices.Compact(seqs), chunk) {
		in, args := db.In(part)
		if tx.Engine() == db.PostgreSQL {
			// Who comes second sees in the next statement what the first has committed.
			if _, err := tx.Exec(ctx, "SELECT 1 FROM core_task WHERE seq IN "+in+" ORDER BY seq FOR NO KEY UPDATE", args...); err != nil {
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
