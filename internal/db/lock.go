package db

import (
	"context"
	"slices"
	"strings"
)

// A Lock is one that [Tx.LockAll] takes.
type Lock struct {
	Name   string
	Shared bool
}

// LockAll is [Tx.Lock] and [Tx.LockShared] for several names, in their sorted order and in one round trip.
func (t *Tx) LockAll(ctx context.Context, list []Lock) error {
	if t.db.engine == SQLite || len(list) == 0 {
		return nil
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Lock) int { return strings.Compare(a.Name, b.Name) })
	calls, args := make([]string, len(list)), make([]any, len(list))
	for i, l := range list {
		args[i] = l.Name
		if calls[i] = "pg_advisory_xact_lock(hashtextextended(?, 0))"; l.Shared {
			calls[i] = "pg_advisory_xact_lock_shared(hashtextextended(?, 0))"
		}
	}
	_, err := t.Exec(ctx, "SELECT "+strings.Join(calls, ", "), args...) // PostgreSQL calls them in this order
	return err
}
