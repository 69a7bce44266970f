package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"granary/internal/blob"
	"granary/internal/errs"
	"granary/internal/pulp"

	"golang.org/x/sys/unix"
)

// stagePrefix starts the names of staged blobs. No key has a name like this.
const stagePrefix = ".granary-stage-"

func isStage(name string) bool { return strings.HasPrefix(name, stagePrefix) }

// A stage is a file in the temporary folder. A lock on it, which goes when the process does, tells Clean that
// somebody still writes it.
type stage struct {
	store *Store
	file  *os.File
	hash  *blob.Hasher
	ended bool
}

// Stage starts a new blob.
func (s *Store) Stage(ctx context.Context) (_ blob.Stage, err error) {
	defer errs.Wrap(&err, "stage blob")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := createLocked(s.temp)
	if err != nil {
		return nil, full(err)
	}
	return &stage{store: s, file: f, hash: blob.NewHasher(s.algorithms...)}, nil
}

// createLocked makes a staged file in the directory.
func createLocked(dir string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, stagePrefix+"*")
		if err != nil {
			return nil, err
		}
		// On a file system without locks, Clean can't get one either, and leaves all files alone.
		if err := lock(f, 0); err != nil {
			return f, nil //nolint:nilerr // as said
		}
		// Between the two steps Clean may have taken it for a leftover.
		if _, err := os.Lstat(f.Name()); !errors.Is(err, fs.ErrNotExist) {
			return f, nil
		}
		f.Close() //nolint:errcheck // nothing was written
	}
}

// lock locks a file until it is closed or its process ends.
func lock(f *os.File, flags int) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|flags)
		if err != syscall.EINTR {
			return err
		}
	}
}

func (s *stage) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	s.hash.Write(p[:n]) //nolint:errcheck // never fails
	if err != nil {
		return n, fmt.Errorf("write staged blob: %w", full(err))
	}
	return n, nil
}

// buffers hold pieces of the size that is hashed fastest.
var buffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// ReadFrom writes what r yields, in larger pieces than io.Copy would.
func (s *stage) ReadFrom(r io.Reader) (total int64, _ error) {
	buf := buffers.Get().(*[128 << 10]byte)
	defer buffers.Put(buf)
	for n := 0; ; {
		m, err := r.Read(buf[n:])
		n += m
		if n == len(buf) || err != nil {
			written, werr := s.Write(buf[:n])
			total += int64(written)
			if werr != nil {
				return total, werr
			}
			n = 0
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func (s *stage) Size() int64           { return s.hash.Size() }
func (s *stage) Digests() pulp.Digests { return s.hash.Digests() }

// A section reads a part of a file that stays open when the section is closed.
type section struct{ *io.SectionReader }

func (section) Close() error { return nil }

func (s *stage) Reader() (io.ReadSeekCloser, error) {
	if s.ended {
		return nil, fmt.Errorf("read staged blob: %w", os.ErrClosed)
	}
	return section{io.NewSectionReader(s.file, 0, s.Size())}, nil
}

func (s *stage) Reset() (err error) {
	defer errs.Wrap(&err, "reset staged blob")
	if err := s.file.Truncate(0); err != nil {
		return err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	s.hash.Reset()
	return nil
}

func (s *stage) Commit(ctx context.Context, key string) (err error) {
	defer errs.Wrap(&err, "store blob %.100q", key)
	if s.ended {
		return os.ErrClosed
	}
	if err := s.store.check(ctx, key); err != nil {
		return err
	}
	err = s.commit(ctx, key, false)
	if errors.Is(err, fs.ErrNotExist) { // somebody removed the directory since we made it
		err = s.commit(ctx, key, true)
	}
	return full(err)
}

func (s *stage) commit(ctx context.Context, key string, again bool) error {
	dir, err := s.store.mkdirs(path.Dir(key), again)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // nothing was written
	if s.store.reuse(key, s.Size()) {
		// Another process may have moved it there without having come to its sync.
		if err := syncDir(dir); err != nil {
			return err
		}
		return s.Close()
	}
	if err := s.settle(s.file); err != nil {
		return err
	}
	if err := s.move(ctx, dir, path.Base(key)); err != nil {
		return err
	}
	s.ended = true
	return errors.Join(syncDir(dir), s.file.Close())
}

// settle makes a file's content durable and gives it a blob's permissions.
func (s *stage) settle(f *os.File) error {
	if err := f.Chmod(s.store.fileMode); err != nil {
		return err
	}
	return f.Sync()
}

// move gives the staged file its place. Going by the open directory it can't be led elsewhere.
func (s *stage) move(ctx context.Context, dir *os.File, name string) error {
	err := renameTo(dir, name, s.file)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	f, err := createLocked(s.store.dir)
	if err != nil {
		return err
	}
	if err = copyTo(ctx, f, io.NewSectionReader(s.file, 0, s.Size())); err == nil {
		if err = s.settle(f); err == nil {
			err = renameTo(dir, name, f)
		}
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()), f.Close())
	}
	return errors.Join(os.Remove(s.file.Name()), f.Close())
}

func renameTo(dir *os.File, name string, f *os.File) error {
	if err := unix.Renameat(unix.AT_FDCWD, f.Name(), int(dir.Fd()), name); err != nil {
		return &os.LinkError{Op: "rename", Old: f.Name(), New: filepath.Join(dir.Name(), name), Err: err}
	}
	return nil
}

// copyTo copies until the context ends.
func copyTo(ctx context.Context, w io.Writer, r io.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.CopyN(w, r, 4<<20); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

func (s *stage) Close() (err error) {
	if s.ended {
		return nil
	}
	defer errs.Wrap(&err, "drop staged blob")
	s.ended = true
	err = os.Remove(s.file.Name()) // before the lock goes
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, s.file.Close())
}

// Clean removes the staged files of processes that ended without doing so themselves, and says how many there were.
// Those that a living process writes stay, on this machine or another one that shares the folder, and so does
// everything that is not the store's. On a file system without locks nothing is removed.
func (s *Store) Clean(ctx context.Context) (n int, err error) {
	defer errs.Wrap(&err, "clean up staged blobs")
	for _, dir := range []string{s.temp, s.dir} { // see stage.move for the second
		d, err := os.Open(dir)
		if err != nil {
			return n, err
		}
		err = eachEntry(ctx, d, func(e fs.DirEntry) error {
			if !isStage(e.Name()) || !e.Type().IsRegular() {
				return nil
			}
			removed, err := removeAbandoned(filepath.Join(dir, e.Name()))
			if removed {
				n++
			}
			return err
		})
		d.Close() //nolint:errcheck // nothing was written
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// removeAbandoned removes a staged file unless somebody holds its lock.
func removeAbandoned(name string) (bool, error) {
	f, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if lock(f, syscall.LOCK_NB) != nil {
		return false, nil
	}
	err = os.Remove(name)
	if errors.Is(err, fs.ErrNotExist) { // it was moved to its place meanwhile
		return false, nil
	}
	return err == nil, err
}
