// Package db is one thin layer over SQLite and PostgreSQL. Queries are written once, with ? for arguments;
// reads go to [DB], writes run in a [Tx] given by [DB.Update]. What truly differs between the engines is in
// db/sqlite and db/postgres.
//
// On SQLite all writes go through one connection. Transactions that wait for it are committed together, so
// that many small writers share one fsync.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"granary/internal/db/postgres"
	"granary/internal/db/sqlite"
	"granary/internal/errs"
)

// An Engine is a kind of database.
type Engine string

// The engines.
const (
	SQLite     Engine = "sqlite"
	PostgreSQL Engine = "postgres"
)

// A Config says which database to open: one of File and DSN.
type Config struct {
	File  string // path of an SQLite file, made if absent
	DSN   string // PostgreSQL, as a URL or as key=value words
	Conns int    // most connections at once, at least 2; 0 means 16
}

// A Querier runs queries: the database, or a transaction that sees its own writes.
type Querier interface {
	Query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) *Row
}

// A DB is an open database.
type DB struct {
	engine   Engine
	dsn      string
	read     *sql.DB
	lite     *sqlite.Pool
	writer   *writer
	stmts    sync.Map     // query text -> *sql.Stmt, on SQLite, where parsing costs more than most queries
	prepared atomic.Int64 // how many these are
	bus      bus

	stripes stripes       // of [DB.Hold] on SQLite
	holds   chan struct{} // a token for each connection that [DB.Hold] occupies
}

// Open opens the database. The caller closes it.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	conns := cfg.Conns
	if conns == 0 {
		conns = 16
	}
	if cfg.DSN != "" {
		conns = max(conns, 2)
		pool, err := postgres.Open(ctx, cfg.DSN, conns)
		if err != nil {
			return nil, err
		}
		return &DB{engine: PostgreSQL, dsn: cfg.DSN, read: pool, holds: make(chan struct{}, conns/2)}, nil
	}
	lite, err := sqlite.Open(cfg.File, conns)
	if err != nil {
		return nil, err
	}
	d := &DB{engine: SQLite, read: lite.Read, lite: lite, stripes: stripes{seed: maphash.MakeSeed()}}
	if d.writer, err = newWriter(ctx, lite.Write); err != nil {
		return nil, errors.Join(err, lite.Close())
	}
	return d, nil
}

// Close waits for the running transaction and closes the database.
func (d *DB) Close() error {
	if d.lite == nil {
		return d.read.Close()
	}
	d.writer.close()
	d.stmts.Range(func(_, s any) bool { _ = s.(*sql.Stmt).Close(); return true })
	return d.lite.Close()
}

// Stats returns the state of the connections that read.
func (d *DB) Stats() sql.DBStats { return d.read.Stats() }

// Engine says what kind of database it is.
func (d *DB) Engine() Engine { return d.engine }

// Query runs a query outside of any transaction. The caller closes the rows; [Each] and [All] do.
func (d *DB) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if d.engine == PostgreSQL {
		return d.read.QueryContext(ctx, Rebind(query), args...)
	}
	s, err := d.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		rows, err := d.read.QueryContext(ctx, query, args...)
		if err != nil {
			return nil, fmt.Errorf("%w in %s", err, query)
		}
		return rows, nil
	}
	return s.QueryContext(ctx, args...)
}

// QueryRow runs a query that gives at most one row.
func (d *DB) QueryRow(ctx context.Context, query string, args ...any) *Row {
	rows, err := d.Query(ctx, query, args...)
	return &Row{rows, err}
}

const maxStmts = 400 // filters make queries without end; the common ones come early and stay

// stmt returns a prepared statement; nil for a query that is one too many. None is closed while the database is open: others may be about
// to use it.
func (d *DB) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if s, ok := d.stmts.Load(query); ok {
		return s.(*sql.Stmt), nil
	}
	if d.prepared.Load() >= maxStmts {
		return nil, nil
	}
	s, err := d.read.PrepareContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("%w in %s", err, query)
	}
	if other, loaded := d.stmts.LoadOrStore(query, s); loaded {
		_ = s.Close()
		return other.(*sql.Stmt), nil
	}
	d.prepared.Add(1)
	return s, nil
}

// A Row is the result of a query that gives at most one row.
type Row struct {
	rows *sql.Rows
	err  error
}

// Scan copies the row's columns. Where there is no row the error is of kind NotFound.
func (r *Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer func() { _ = r.rows.Close() }()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return errs.E(errs.NotFound, "Not found.")
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	return r.rows.Close()
}

// Each calls f for every row of a query.
func Each(ctx context.Context, q Querier, f func(rows *sql.Rows) error, query string, args ...any) (err error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// All returns what scan makes of every row of a query.
func All[T any](ctx context.Context, q Querier, scan func(rows *sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	var list []T
	err := Each(ctx, q, func(rows *sql.Rows) error {
		v, err := scan(rows)
		list = append(list, v)
		return err
	}, query, args...)
	return list, err
}

// Column returns the values of a query's only column.
func Column[T any](ctx context.Context, q Querier, query string, args ...any) ([]T, error) {
	return All(ctx, q, func(rows *sql.Rows) (v T, err error) { err = rows.Scan(&v); return v, err }, query, args...)
}

// Value returns the only value of a query that gives one row with one column; NotFound where there is none.
func Value[T any](ctx context.Context, q Querier, query string, args ...any) (v T, err error) {
	err = q.QueryRow(ctx, query, args...).Scan(&v)
	return v, err
}

// Exists says whether a query gives any row.
func Exists(ctx context.Context, q Querier, query string, args ...any) (bool, error) {
	var one int
	err := q.QueryRow(ctx, "SELECT 1 FROM ("+query+") x LIMIT 1", args...).Scan(&one)
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// In returns "(?, ?, …)" with one mark for each value, and the values as arguments.
// An empty list gives "(NULL)", in which nothing is.
func In[T any](values []T) (marks string, args []any) {
	if len(values) == 0 {
		return "(NULL)", nil
	}
	args = make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	return "(" + strings.Repeat("?, ", len(values)-1) + "?)", args
}

// TupleIn returns the condition that the columns together are one of rows, and its arguments, which are in the driver's form.
func (e Engine) TupleIn(columns []string, rows [][]any) (condition string, args []any) {
	if len(rows) == 0 {
		return "1 = 0", nil
	}
	tuple := "(" + strings.Repeat("?, ", len(columns)-1) + "?)"
	for _, r := range rows {
		args = append(args, r...)
	}
	// SQLite takes rows only from VALUES; PostgreSQL would try every row of a list on every row of the table.
	first := tuple
	if e == PostgreSQL { // which would take the arguments for text
		casts := make([]string, len(columns))
		for i, v := range rows[0] {
			casts[i] = "?::" + typeOf(v)
		}
		first = "(" + strings.Join(casts, ", ") + ")"
	}
	return "(" + strings.Join(columns, ", ") + ") IN (VALUES " + first + strings.Repeat(", "+tuple, len(rows)-1) + ")", args
}

// typeOf returns PostgreSQL's type of an argument.
func typeOf(v any) string {
	switch v := v.(type) {
	case int64:
		return "bigint"
	case float64:
		return "double precision"
	case bool:
		return "boolean"
	case []byte:
		if len(v) == 16 {
			return "uuid"
		}
		return "bytea"
	}
	return "text"
}

// Rebind turns each ? outside of quotes into $1, $2, ….
func Rebind(query string) string {
	if !strings.Contains(query, "?") {
		return query
	}
	b := make([]byte, 0, len(query)+16)
	n, quoted := 0, false
	for i := range len(query) {
		switch c := query[i]; {
		case c == '\'':
			quoted = !quoted
			b = append(b, c)
		case c == '?' && !quoted:
			n++
			b = strconv.AppendInt(append(b, '$'), int64(n), 10)
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

// IsUnique says whether err is a broken unique index: somebody else was faster.
func IsUnique(err error) bool { return sqlite.IsUnique(err) || postgres.IsUnique(err) }

// IsForeignKey says whether err is a broken reference: the row is still used, or what it refers to is gone.
func IsForeignKey(err error) bool { return sqlite.IsForeignKey(err) || postgres.IsForeignKey(err) }

// IsFull says whether err is a full disk.
func IsFull(err error) bool { return sqlite.IsFull(err) || postgres.IsFull(err) }

// ErrLocked says that another process owns the SQLite file.
var ErrLocked = sqlite.ErrLocked
