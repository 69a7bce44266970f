// Package sqlite is what differs on SQLite: opening a file for one process, with one writing connection and
// a pool of readers; functions that SQLite lacks; and what its errors mean.
package sqlite

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// A Pool is one database file: connections that write, and readers that cannot.
type Pool struct {
	Write, Read *sql.DB
	lock        *os.File
}

// ErrLocked says that another process owns the file.
var ErrLocked = errors.New("the database is in use")

const pragmas = "_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)" +
	"&_pragma=cache_size(-16000)&_pragma=temp_store(MEMORY)&_pragma=mmap_size(268435456)"

// Open opens or makes the file and takes its lock, which is held until Close. Where another process
// holds it, the error is ErrLocked with the other's process id.
func Open(path string, readers int) (_ *Pool, err error) {
	functions()
	lock, err := takeLock(path + ".lock")
	if err != nil {
		return nil, err
	}
	p := &Pool{lock: lock}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	name := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + pragmas
	if p.Write, err = sql.Open("sqlite", name+"&_txlock=immediate"); err != nil {
		return nil, err
	}
	p.Write.SetMaxOpenConns(2)             // one for transactions, one for migrations before there are any
	if err := p.Write.Ping(); err != nil { // makes the file, in WAL mode, before a reader looks
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if p.Read, err = sql.Open("sqlite", name+"&_pragma=query_only(1)"); err != nil {
		return nil, err
	}
	p.Read.SetMaxOpenConns(readers)
	p.Read.SetMaxIdleConns(readers)
	return p, nil
}

// Close closes the connections and gives the file's lock back.
func (p *Pool) Close() error {
	var list []error
	if p.Read != nil {
		list = append(list, p.Read.Close())
	}
	if p.Write != nil {
		list = append(list, p.Write.Close())
	}
	list = append(list, p.lock.Close())
	return errors.Join(list...)
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner := make([]byte, 20)
		n, _ := f.Read(owner)
		_ = f.Close()
		return nil, fmt.Errorf("%w by process %s (%s)", ErrLocked, strings.TrimSpace(string(owner[:n])), path)
	}
	_ = f.Truncate(0)
	_, err = fmt.Fprintln(f, os.Getpid())
	return f, err
}

// functions gives SQLite Unicode lower-casing, strpos as PostgreSQL has it, and regular expressions. The driver keeps them per process.
var functions = sync.OnceFunc(func() {
	sqlite.MustRegisterDeterministicScalarFunction("lower", 1, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		s, ok := args[0].(string)
		if !ok {
			return args[0], nil
		}
		return strings.ToLower(s), nil
	})
	sqlite.MustRegisterDeterministicScalarFunction("strpos", 2, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		s, ok1 := args[0].(string)
		sub, ok2 := args[1].(string)
		if !ok1 || !ok2 {
			return nil, nil
		}
		return int64(strings.Index(s, sub) + 1), nil
	})
	var cache sync.Map
	sqlite.MustRegisterDeterministicScalarFunction("regexp", 2, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		pattern, _ := args[0].(string)
		s, ok := args[1].(string)
		if !ok {
			return nil, nil
		}
		re, ok := cache.Load(pattern)
		if !ok {
			c, err := regexp.Compile(pattern)
			if err != nil {
				return nil, err
			}
			cache.Clear() // one pattern at a time is the usual case; this bounds the cache
			cache.Store(pattern, c)
			re = c
		}
		return re.(*regexp.Regexp).MatchString(s), nil
	})
})

// IsUnique says whether err is a broken unique index.
func IsUnique(err error) bool {
	return isCode(err, lib.SQLITE_CONSTRAINT_UNIQUE, lib.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// IsForeignKey says whether err is a broken foreign key.
func IsForeignKey(err error) bool { return isCode(err, lib.SQLITE_CONSTRAINT_FOREIGNKEY) }

// IsFull says whether err is a full disk.
func IsFull(err error) bool { return isCode(err, lib.SQLITE_FULL) }

func isCode(err error, codes ...int) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	for _, c := range codes {
		if e.Code() == c {
			return true
		}
	}
	return false
}
