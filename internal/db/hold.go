package db

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
)

// Hold runs f while it holds locks: against whoever else holds them, on any process. It is for work on files that goes with
// work in the database. f may take its time, and begin transactions, but it must not Hold more.
func (d *DB) Hold(ctx context.Context, locks []Lock, f func(ctx context.Context) error) error {
	if d.engine == SQLite {
		defer d.stripes.lock(locks)()
		return f(ctx)
	}
	// Each Hold occupies a connection. The other half is left for the transactions of those who hold.
	select {
	case d.holds <- struct{}{}:
		defer func() { <-d.holds }()
	case <-ctx.Done():
		return ctx.Err()
	}
	conn, err := d.read.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	sqlTx, err := conn.BeginTx(context.WithoutCancel(ctx), nil) // the locks are held until f has returned, whatever becomes of ctx
	if err != nil {
		return err
	}
	defer func() { _ = sqlTx.Rollback() }() // gives the locks back
	tx := &Tx{db: d, conn: sqlTx}
	if err := tx.LockAll(ctx, locks); err != nil {
		return err
	}
	return f(ctx)
}

// stripes are the locks of a process that has the database to itself. Several names may share one.
type stripes struct {
	seed maphash.Seed
	mu   [256]sync.RWMutex
}

// lock takes the locks in one order everywhere and returns what gives them back.
func (s *stripes) lock(list []Lock) (unlock func()) {
	exclusive := map[int]bool{}
	for _, l := range list {
		i := int(maphash.String(s.seed, l.Name) % uint64(len(s.mu)))
		exclusive[i] = exclusive[i] || !l.Shared
	}
	order := make([]int, 0, len(exclusive))
	for i := range exclusive {
		order = append(order, i)
	}
	slices.Sort(order)
	for _, i := range order {
		if exclusive[i] {
			s.mu[i].Lock()
		} else {
			s.mu[i].RLock()
		}
	}
	return func() {
		for _, i := range order {
			if exclusive[i] {
				s.mu[i].Unlock()
			} else {
				s.mu[i].RUnlock()
			}
		}
	}
}
