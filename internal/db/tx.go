package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"granary/internal/db/postgres"
	"granary/internal/errs"
)

// A Tx is a running transaction. Nothing inside it may wait for a file, the network or another transaction.
type Tx struct {
	db    *DB
	conn  execer
	stmts map[string]*sql.Stmt // on SQLite: the writing connection's prepared statements
	after []func()
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Update runs f in a transaction: all of its writes happen or none. f may be run again when the database
// asks for it, so it must not change anything but through the Tx. Functions given to [Tx.AfterCommit] run
// before Update returns.
func (d *DB) Update(ctx context.Context, f func(tx *Tx) error) error {
	if d.engine == SQLite {
		return d.writer.do(ctx, d, f)
	}
	for try := 1; ; try++ {
		err := d.updatePostgres(ctx, f)
		if err == nil || try == 5 || !postgres.IsRetryable(err) {
			return err
		}
		time.Sleep(time.Duration(try*try) * 5 * time.Millisecond)
	}
}

func (d *DB) updatePostgres(ctx context.Context, f func(tx *Tx) error) (err error) {
	sqlTx, err := d.read.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = sqlTx.Rollback() }() // does nothing after a commit
	defer func() { err = ended(ctx, err) }()
	tx := &Tx{db: d, conn: sqlTx}
	if err := f(tx); err != nil {
		return err
	}
	if err := sqlTx.Commit(); err != nil {
		return err
	}
	for _, f := range tx.after {
		f()
	}
	return nil
}

// ended makes an error that comes of the context's end say so: the driver tells of a closed connection or transaction.
func ended(ctx context.Context, err error) error {
	cause := ctx.Err()
	if err == nil || cause == nil || errors.Is(err, cause) {
		return err
	}
	if _, ours := errors.AsType[*errs.Error](err); ours {
		return err
	}
	return fmt.Errorf("%w: %w", cause, err)
}

// AfterCommit runs f once the transaction is durable: wake-ups, cache generations, removal of files.
func (t *Tx) AfterCommit(f func()) { t.after = append(t.after, f) }

// Engine says what kind of database it is.
func (t *Tx) Engine() Engine { return t.db.engine }

// Exec runs a statement and returns the number of rows that it changed.
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	var res sql.Result
	var err error
	if t.db.engine == PostgreSQL {
		res, err = t.conn.ExecContext(ctx, Rebind(query), args...)
	} else {
		var s *sql.Stmt
		if s, err = t.stmt(ctx, query); err == nil {
			res, err = s.ExecContext(context.WithoutCancel(ctx), args...)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("%w in %s", err, compact(query))
	}
	return res.RowsAffected()
}

// Query runs a query that sees the transaction's own writes.
func (t *Tx) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if t.db.engine == PostgreSQL {
		rows, err := t.conn.QueryContext(ctx, Rebind(query), args...)
		if err != nil {
			err = fmt.Errorf("%w in %s", err, compact(query))
		}
		return rows, err
	}
	s, err := t.stmt(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("%w in %s", err, compact(query))
	}
	rows, err := s.QueryContext(context.WithoutCancel(ctx), args...)
	if err != nil {
		err = fmt.Errorf("%w in %s", err, compact(query))
	}
	return rows, err
}

// QueryRow runs a query that gives at most one row.
func (t *Tx) QueryRow(ctx context.Context, query string, args ...any) *Row {
	rows, err := t.Query(ctx, query, args...)
	return &Row{rows, err}
}

// Insert adds rows to a table in as few statements as the engine allows. suffix follows the values,
// as "ON CONFLICT DO NOTHING"; it may be empty. It returns how many rows were added.
func (t *Tx) Insert(ctx context.Context, table string, columns []string, rows [][]any, suffix string) (int64, error) {
	const maxArgs = 30000 // SQLite takes 32,766 arguments, PostgreSQL 65,535
	chunk := min(max(1, maxArgs/len(columns)), 500)
	row := "(" + strings.Repeat("?, ", len(columns)-1) + "?)"
	head := "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES "
	var total int64
	for len(rows) > 0 {
		n := min(chunk, len(rows))
		args := make([]any, 0, n*len(columns))
		for _, r := range rows[:n] {
			args = append(args, r...)
		}
		added, err := t.Exec(ctx, head+strings.Repeat(row+", ", n-1)+row+" "+suffix, args...)
		if err != nil {
			return total, err
		}
		total += added
		rows = rows[n:]
	}
	return total, nil
}

// Lock waits for a lock with this name and holds it to the transaction's end. On SQLite, where there is one
// writer, it is held already. Take several in one order everywhere.
func (t *Tx) Lock(ctx context.Context, name string) error {
	return t.lock(ctx, "pg_advisory_xact_lock", name)
}

// LockShared is Lock for those who need only keep [Tx.Lock] out.
func (t *Tx) LockShared(ctx context.Context, name string) error {
	return t.lock(ctx, "pg_advisory_xact_lock_shared", name)
}

func (t *Tx) lock(ctx context.Context, function, name string) error {
	if t.db.engine == SQLite {
		return nil
	}
	_, err := t.Exec(ctx, "SELECT "+function+"(hashtextextended(?, 0))", name)
	return err
}

// stmt returns a prepared statement of the writing connection.
func (t *Tx) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if s, ok := t.stmts[query]; ok {
		return s, nil
	}
	if len(t.stmts) > maxStmts {
		for q, s := range t.stmts {
			_ = s.Close()
			delete(t.stmts, q)
		}
	}
	s, err := t.conn.(*sql.Conn).PrepareContext(context.WithoutCancel(ctx), query)
	if err != nil {
		return nil, err
	}
	t.stmts[query] = s
	return s, nil
}

func compact(query string) string {
	if s := strings.Join(strings.Fields(query), " "); len(s) < 300 {
		return s
	}
	return strings.Join(strings.Fields(query), " ")[:300] + "…"
}

// A writer runs SQLite's transactions, one at a time, and commits those that wait together.
type writer struct {
	jobs  chan *job
	done  chan struct{}
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

type job struct {
	ctx  context.Context
	db   *DB
	f    func(tx *Tx) error
	tx   *Tx
	err  error
	done chan struct{}
}

func newWriter(ctx context.Context, pool *sql.DB) (*writer, error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{jobs: make(chan *job, 256), done: make(chan struct{}), conn: conn, stmts: map[string]*sql.Stmt{}}
	go w.run()
	return w, nil
}

var errClosed = errors.New("the database is closed")

func (w *writer) do(ctx context.Context, d *DB, f func(tx *Tx) error) (err error) {
	j := &job{ctx: ctx, db: d, f: f, done: make(chan struct{})}
	defer func() {
		if recover() != nil { // sent on a closed channel
			err = errClosed
		}
	}()
	select {
	case w.jobs <- j:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-j.done
	if j.err == nil {
		for _, f := range j.tx.after {
			f()
		}
	}
	return j.err
}

func (w *writer) close() {
	close(w.jobs)
	<-w.done
}

// maxGroup bounds how long the first of a group waits for the rest.
const maxGroup = 64

func (w *writer) run() {
	defer close(w.done)
	defer func() { _ = w.conn.Close() }()
	group := make([]*job, 0, maxGroup)
	for j := range w.jobs {
		group = append(group[:0], j)
	more:
		for len(group) < maxGroup {
			select {
			case next, ok := <-w.jobs:
				if !ok {
					break more
				}
				group = append(group, next)
			default:
				break more
			}
		}
		w.commit(group)
		for _, j := range group {
			close(j.done)
		}
	}
}

// commit runs a group's jobs in one transaction, each under a savepoint of its own.
func (w *writer) commit(group []*job) {
	fail := func(err error) {
		for _, j := range group {
			if j.err == nil {
				j.err = err
			}
		}
	}
	if err := w.exec("BEGIN IMMEDIATE"); err != nil {
		fail(err)
		return
	}
	wrote := false
	for _, j := range group {
		if j.err = j.ctx.Err(); j.err != nil {
			continue
		}
		if j.err = w.exec("SAVEPOINT job"); j.err != nil {
			continue
		}
		if j.err = w.runJob(j); j.err != nil {
			if err := w.exec("ROLLBACK TO job"); err != nil {
				fail(errors.Join(j.err, err))
				_ = w.exec("ROLLBACK")
				return
			}
		} else {
			wrote = true
		}
		if err := w.exec("RELEASE job"); err != nil {
			fail(err)
			_ = w.exec("ROLLBACK")
			return
		}
	}
	end := "COMMIT"
	if !wrote {
		end = "ROLLBACK"
	}
	if err := w.exec(end); err != nil {
		_ = w.exec("ROLLBACK")
		fail(fmt.Errorf("commit: %w", err))
	}
}

func (w *writer) runJob(j *job) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a transaction: %v\n%s", p, debug.Stack())
		}
	}()
	j.tx = &Tx{db: j.db, conn: w.conn, stmts: w.stmts}
	return j.f(j.tx)
}

func (w *writer) exec(query string) error {
	_, err := w.conn.ExecContext(context.Background(), query)
	return err
}
