// Package postgres is what differs on PostgreSQL: opening a pool, listening to notifications, advisory locks,
// and what its errors mean.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Open returns a pool of at most conns connections to the database that dsn names (a URL or key=value words).
func Open(ctx context.Context, dsn string, conns int) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("database settings: %w", err)
	}
	pool := stdlib.OpenDB(*cfg)
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	if err := pool.PingContext(ctx); err != nil {
		_ = pool.Close()
		return nil, fmt.Errorf("connect to database %q on %q: %w", cfg.Database, cfg.Host, err)
	}
	return pool, nil
}

// Listen calls got for each notification on the channels until ctx ends or the connection breaks;
// ready is called once when it listens. It uses a connection of its own.
func Listen(ctx context.Context, dsn string, channels []string, ready func(), got func(channel, payload string)) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, c := range channels {
		if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{c}.Sanitize()); err != nil {
			return err
		}
	}
	ready()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		got(n.Channel, n.Payload)
	}
}

const (
	uniqueViolation      = "23505"
	foreignKeyViolation  = "23503"
	restrictViolation    = "23001"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	diskFull             = "53100"
)

// IsUnique says whether err is a broken unique index.
func IsUnique(err error) bool { return isCode(err, uniqueViolation) }

// IsForeignKey says whether err is a broken foreign key.
func IsForeignKey(err error) bool { return isCode(err, foreignKeyViolation, restrictViolation) }

// IsFull says whether err is a full disk.
func IsFull(err error) bool { return isCode(err, diskFull) }

// IsRetryable says whether the same transaction may succeed when it is run again.
func IsRetryable(err error) bool { return isCode(err, serializationFailure, deadlockDetected) }

func isCode(err error, codes ...string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}
