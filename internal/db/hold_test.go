package db_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"granary/internal/db"
	"granary/internal/db/dbtest"
)

func TestHold(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		d := dbtest.Open(t, dbtest.SQLite(t))
		testHold(t, d, d)
	})
	t.Run("postgres", func(t *testing.T) { // two processes
		cfg := dbtest.Postgres(t)
		testHold(t, dbtest.Open(t, cfg), dbtest.Open(t, cfg))
	})
}

func testHold(t *testing.T, one, other *db.DB) {
	ctx := migrated(t, one)
	shared, exclusive := []db.Lock{{Name: "a", Shared: true}, {Name: "b", Shared: true}}, []db.Lock{{Name: "b"}, {Name: "c"}}

	// together those who share, and each may use the database
	both := make(chan struct{})
	var wg sync.WaitGroup
	for i, d := range []*db.DB{one, other} {
		wg.Go(func() {
			err := d.Hold(ctx, shared, func(ctx context.Context) error {
				if i == 0 {
					close(both)
				} else {
					<-both
				}
				_, err := add(ctx, d, []string{"x", "y"}[i])
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()

	// one after the other those who don't: many more than there are connections
	var inside, most atomic.Int32
	for i := range 40 {
		d, locks := one, exclusive
		if i%2 == 1 {
			d = other
		}
		wg.Go(func() {
			err := d.Hold(ctx, locks, func(ctx context.Context) error {
				if n := inside.Add(1); n > 1 {
					most.Store(n)
				}
				defer inside.Add(-1)
				return d.Update(ctx, func(tx *db.Tx) error {
					_, err := tx.Exec(ctx, "UPDATE thing SET at = at + 1")
					return err
				})
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n > 0 {
		t.Errorf("%d held an exclusive lock at once", n)
	}

	// those who share wait for one who does not, and have the locks though their context ends
	entered, ended := make(chan struct{}), make(chan struct{})
	holding, cancel := context.WithCancel(ctx)
	wg.Go(func() {
		err := one.Hold(holding, exclusive, func(context.Context) error {
			close(entered)
			time.Sleep(50 * time.Millisecond)
			close(ended)
			return errNo
		})
		if !errors.Is(err, errNo) {
			t.Errorf("Hold = %v, want what the function returned", err)
		}
	})
	<-entered
	cancel()
	err := other.Hold(ctx, shared, func(context.Context) error {
		select {
		case <-ended:
			return nil
		default:
			return errors.New("held a lock that another holds exclusively")
		}
	})
	if err != nil {
		t.Error(err)
	}
	wg.Wait()
}

var errNo = errors.New("no")
