// Package dbtest gives tests fresh databases of both engines.
package dbtest

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"granary/internal/db"
	"granary/internal/db/postgres"
	"granary/internal/pulp"
)

// PostgresEnv names the variable with the URL of a PostgreSQL server on which tests may make databases,
// as "postgres://user:password@localhost/postgres". Without it the PostgreSQL half of tests is skipped,
// but where CI is "true" it fails.
const PostgresEnv = "GRANARY_TEST_POSTGRES"

// Run runs f as a subtest on a fresh database of each engine.
func Run(t *testing.T, f func(t *testing.T, d *db.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, Open(t, SQLite(t))) })
	t.Run("postgres", func(t *testing.T) { f(t, Open(t, Postgres(t))) })
}

// Open opens a database and closes it when the test ends.
func Open(tb testing.TB, cfg db.Config) *db.DB {
	tb.Helper()
	d, err := db.Open(context.Background(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	return d
}

// SQLite names a file of the test's own.
func SQLite(tb testing.TB) db.Config {
	return db.Config{File: filepath.Join(tb.TempDir(), "test.sqlite3")}
}

// Postgres makes a database of the test's own, dropped when it ends.
func Postgres(tb testing.TB) db.Config {
	tb.Helper()
	server := os.Getenv(PostgresEnv)
	if server == "" {
		if os.Getenv("CI") == "true" {
			tb.Fatal(PostgresEnv + " is not set")
		}
		tb.Skip(PostgresEnv + " is not set: no PostgreSQL to test with")
	}
	ctx := context.Background()
	admin, err := postgres.Open(ctx, server, 1)
	if err != nil {
		tb.Fatal(err)
	}
	name := "granary_test_" + strings.ReplaceAll(pulp.NewID().String(), "-", "")
	if _, err := admin.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_, err := admin.ExecContext(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		if err != nil {
			tb.Error(err)
		}
		_ = admin.Close()
	})
	u, err := url.Parse(server)
	if err != nil {
		tb.Fatal(err)
	}
	u.Path = "/" + name
	return db.Config{DSN: u.String(), Conns: 8}
}
