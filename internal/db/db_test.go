package db_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/errs"
	"granary/internal/pulp"
)

var schema = db.Schema{Component: "test", Files: fstest.MapFS{
	"sqlite/0001_one.sql":   {Data: []byte("-- +goose Up\nCREATE TABLE thing (id BLOB PRIMARY KEY, name TEXT NOT NULL UNIQUE, at INTEGER, flag INTEGER NOT NULL DEFAULT 0) STRICT;")},
	"postgres/0001_one.sql": {Data: []byte(`-- +goose Up` + "\n" + `CREATE TABLE thing (id uuid PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE, at bigint, flag boolean NOT NULL DEFAULT false);`)},
}}

func migrated(t *testing.T, d *db.DB) context.Context {
	t.Helper()
	ctx := t.Context()
	if ran, err := d.Migrate(ctx, []db.Schema{schema}); err != nil || len(ran) != 1 {
		t.Fatalf("Migrate = %v, %v, want one migration", ran, err)
	}
	return ctx
}

func add(ctx context.Context, d *db.DB, name string) (pulp.ID, error) {
	id := pulp.NewID()
	return id, d.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO thing (id, name, at, flag) VALUES (?, ?, ?, ?)", id, name, pulp.Time(5), true)
		return err
	})
}

func TestReadAndWrite(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		ctx := migrated(t, d)
		if ran, err := d.Migrate(ctx, []db.Schema{schema}); err != nil || len(ran) != 0 {
			t.Errorf("second Migrate = %v, %v, want nothing to do", ran, err)
		}
		id, err := add(ctx, d, "it's")
		if err != nil {
			t.Fatal(err)
		}
		var gotID, none pulp.ID
		var at pulp.Time
		var flag bool
		if err := d.QueryRow(ctx, "SELECT id, NULL, at, flag FROM thing WHERE name = 'it''s' AND id = ? AND flag", id).Scan(&gotID, &none, &at, &flag); err != nil {
			t.Fatal(err)
		}
		if gotID != id || !none.IsZero() || at != 5 || !flag {
			t.Errorf("got %v %v %v %v", gotID, none, at, flag)
		}
		if err := d.QueryRow(ctx, "SELECT id FROM thing WHERE name = ?", "x").Scan(&gotID); !errs.Is(err, errs.NotFound) {
			t.Errorf("no row: %v, want NotFound", err)
		}
		if _, err := add(ctx, d, "it's"); !db.IsUnique(err) {
			t.Errorf("second insert: %v, want a unique violation", err)
		}
	})
}

func TestUpdateIsAtomic(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		ctx := migrated(t, d)
		boom, after := errors.New("boom"), false
		err := d.Update(ctx, func(tx *db.Tx) error {
			tx.AfterCommit(func() { after = true })
			if _, err := tx.Exec(ctx, "INSERT INTO thing (id, name) VALUES (?, ?)", pulp.NewID(), "a"); err != nil {
				return err
			}
			return boom
		})
		if !errors.Is(err, boom) || after {
			t.Errorf("err = %v, after commit ran: %v", err, after)
		}
		if n, err := db.Value[int](ctx, d, "SELECT count(*) FROM thing"); err != nil || n != 0 {
			t.Errorf("%d rows, %v, want none", n, err)
		}
	})
}

func TestConcurrentWriters(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		ctx := migrated(t, d)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				for j := range 5 {
					_, err := add(ctx, d, fmt.Sprint(i%20, "-", j)) // half of them are duplicates
					if err != nil && !db.IsUnique(err) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n, err := db.Value[int](ctx, d, "SELECT count(*) FROM thing"); err != nil || n != 100 {
			t.Errorf("%d rows, %v, want 100", n, err)
		}
	})
}

func TestInsertMany(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		ctx := migrated(t, d)
		rows := make([][]any, 1234)
		for i := range rows {
			rows[i] = []any{pulp.NewID(), fmt.Sprint(i % 1000)}
		}
		var added int64
		err := d.Update(ctx, func(tx *db.Tx) (err error) {
			added, err = tx.Insert(ctx, "thing", []string{"id", "name"}, rows, "ON CONFLICT (name) DO NOTHING")
			return err
		})
		if err != nil || added != 1000 {
			t.Errorf("added %d, %v, want 1000", added, err)
		}
		names, err := db.Column[string](ctx, d, "SELECT name FROM thing")
		if slices.Sort(names); err != nil || len(slices.Compact(names)) != 1000 {
			t.Errorf("%d names, %v", len(names), err)
		}
	})
}

func TestNotify(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		ctx, cancel := context.WithCancel(migrated(t, d))
		got := make(chan string, 100)
		var wg sync.WaitGroup
		wg.Go(func() { d.Listen(ctx, []string{"one"}, func(c, p string) { got <- c + ":" + p }) })
		defer wg.Wait()
		defer cancel()
		deadline := time.After(10 * time.Second)
		for { // until the listener is there
			err := d.Update(ctx, func(tx *db.Tx) error {
				return errors.Join(tx.Notify(ctx, "two", "no"), tx.Notify(ctx, "one", "yes"))
			})
			if err != nil {
				t.Fatal(err)
			}
			select {
			case s := <-got:
				if s != "one:yes" {
					t.Errorf("got %q", s)
				}
				return
			case <-deadline:
				t.Fatal("no notification")
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
}

func TestFollow(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		ctx, cancel := context.WithCancel(migrated(t, d))
		var mu sync.Mutex
		seen := map[string]bool{}
		listening := make(chan struct{}, 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			d.Follow(ctx, []string{"one"}, func(channel, payload string) {
				if channel == "" {
					listening <- struct{}{}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				seen[payload] = true
			})
		})
		defer wg.Wait()
		defer cancel()
		select {
		case <-listening:
		case <-time.After(10 * time.Second):
			t.Fatal("it does not say that it listens")
		}
		for i := range 20 {
			if err := d.Update(ctx, func(tx *db.Tx) error { return tx.Notify(ctx, "one", fmt.Sprint(i)) }); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			if !seen[fmt.Sprint(i)] {
				t.Errorf("notification %d was not there when Update returned", i)
			}
			mu.Unlock()
		}
		err := d.Update(ctx, func(tx *db.Tx) error { return errors.Join(tx.Notify(ctx, "one", "no"), errors.New("boom")) })
		mu.Lock()
		defer mu.Unlock()
		if err == nil || seen["no"] {
			t.Errorf("told of a transaction that failed: %v, %v", seen["no"], err)
		}
	})
}

func TestSecondOwnerIsRefused(t *testing.T) {
	cfg := dbtest.SQLite(t)
	dbtest.Open(t, cfg)
	if _, err := db.Open(t.Context(), cfg); !errors.Is(err, db.ErrLocked) {
		t.Errorf("second Open: %v, want ErrLocked", err)
	}
}

func TestRebind(t *testing.T) {
	if got, want := db.Rebind("a = ? AND b = '?' AND c IN (?, ?)"), "a = $1 AND b = '?' AND c IN ($2, $3)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func BenchmarkUpdate(b *testing.B) {
	d := dbtest.Open(b, dbtest.SQLite(b))
	ctx := b.Context()
	if _, err := d.Migrate(ctx, []db.Schema{schema}); err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := add(ctx, d, pulp.NewID().String()); err != nil {
				b.Error(err)
			}
		}
	})
}

// TestContextEndsWithinATransaction has the driver notice the end before the transaction does.
func TestContextEndsWithinATransaction(t *testing.T) {
	d := dbtest.Open(t, dbtest.Postgres(t)) // on SQLite a transaction that has begun goes on
	migrated(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	err := d.Update(ctx, func(*db.Tx) error {
		cancel()
		time.Sleep(50 * time.Millisecond) // for the driver to roll back
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update = %v, want the context's error", err)
	}
}
