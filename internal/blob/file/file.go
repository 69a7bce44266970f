// Package file is the blob store on a local directory, in the layout of Pulp's media folder: a blob's key is its path.
//
// A blob is staged in a temporary folder and moved to its place, so that whatever happens at whatever moment, the
// place holds all of it or nothing. What a killed process leaves in the temporary folder is removed by [Store.Clean].
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
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"granary/internal/blob"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// A Store keeps blobs below one directory. Any number of processes may use the same one.
type Store struct {
	root       *os.Root // nothing is reached outside of it, also through symbolic links
	dir        string   // its absolute path
	temp       string
	algorithms []pulp.Algorithm
	fileMode   fs.FileMode
	dirMode    fs.FileMode // 0: what the umask leaves

	// The directories that this process made sure of: they will be there after a crash.
	durable sync.Map // of a key's directory to struct{}
}

var _ blob.Store = (*Store)(nil)

// An Option changes what [New] makes.
type Option func(*Store)

// FileMode sets the permissions of blobs, whatever the umask is: the bits as chmod takes them. Without it they
// are 0644.
func FileMode(bits uint32) Option { return func(s *Store) { s.fileMode = mode(bits) } }

// DirMode sets the permissions of directories that the store makes, whatever the umask is: the bits as chmod takes
// them, such as 02775. Without it the umask decides.
func DirMode(bits uint32) Option { return func(s *Store) { s.dirMode = mode(bits) } }

func mode(bits uint32) fs.FileMode {
	m := fs.FileMode(bits).Perm()
	for bit, special := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			m |= special
		}
	}
	return m
}

// New opens the store in the directory root, and makes it if it is not there. Blobs are staged in the directory temp,
// which should be on the same file system: if it is not, each blob is written twice. The algorithms are the digests
// that a Stage computes. [Store.Close] ends the store.
func New(root, temp string, algorithms []pulp.Algorithm, options ...Option) (_ *Store, err error) {
	defer errs.Wrap(&err, "open the blob store in %s", root)
	for _, a := range algorithms {
		if a.New() == nil {
			return nil, fmt.Errorf("unknown digest %q", a)
		}
	}
	s := &Store{algorithms: slices.Clone(algorithms), fileMode: 0o644}
	for _, option := range options {
		option(s)
	}
	if s.dir, err = filepath.Abs(root); err != nil {
		return nil, err
	}
	if s.temp, err = filepath.Abs(temp); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.temp, 0o700); err != nil {
		return nil, err
	}
	if s.root, err = os.OpenRoot(s.dir); err != nil {
		return nil, err
	}
	return s, nil
}

// Close lets go of the store's directory. Open blobs and stages stay usable, but can't be committed.
func (s *Store) Close() error { return s.root.Close() }

// Open opens the blob. The result is a [blob.OSFile].
func (s *Store) Open(ctx context.Context, key string) (_ blob.File, err error) {
	defer errs.Wrap(&err, "open blob")
	if err := s.check(ctx, key); err != nil {
		return nil, err
	}
	f, err := s.root.Open(key)
	if err != nil {
		return nil, missing(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(key)
	}
	if err != nil {
		f.Close() //nolint:errcheck // nothing was written
		return nil, err
	}
	return &file{f, infoOf(key, info)}, nil
}

// Stat describes the blob.
func (s *Store) Stat(ctx context.Context, key string) (_ blob.Info, err error) {
	defer errs.Wrap(&err, "stat blob")
	if err := s.check(ctx, key); err != nil {
		return blob.Info{}, err
	}
	info, err := s.root.Stat(key)
	if err != nil {
		return blob.Info{}, missing(err)
	}
	if !info.Mode().IsRegular() {
		return blob.Info{}, notRegular(key)
	}
	return infoOf(key, info), nil
}

// Delete removes the blob. Its directory stays: others are about to use it.
func (s *Store) Delete(ctx context.Context, key string) (err error) {
	defer errs.Wrap(&err, "delete blob")
	if err := s.check(ctx, key); err != nil {
		return err
	}
	info, err := s.root.Lstat(key)
	if err == nil && !info.IsDir() {
		err = s.root.Remove(key)
	}
	if isMissing(err) {
		return nil
	}
	return err
}

// List calls f for each blob whose key starts with prefix.
func (s *Store) List(ctx context.Context, prefix string, f func(blob.Info) error) (err error) {
	defer errs.Wrap(&err, "list blobs %.100q", prefix)
	dir := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		dir = prefix[:i]
		if blob.CheckKey(dir) != nil {
			return nil // no key starts like this
		}
	}
	dirPath := path.Join(".", dir)
	info, err := s.root.Stat(dirPath)
	if isMissing(err) || err == nil && !info.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	r, err := s.root.OpenRoot(dirPath)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // nothing was written
	return list(ctx, r, dir, prefix, f)
}

// list lists one directory, and what is below it, a few names at a time: there may be millions.
func list(ctx context.Context, dir *os.Root, key, prefix string, f func(blob.Info) error) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // nothing was written
	return eachEntry(ctx, d, func(e fs.DirEntry) error {
		key := path.Join(key, e.Name())
		switch {
		case !strings.HasPrefix(key, prefix), isStage(e.Name()), blob.CheckKey(key) != nil:
			return nil
		case e.IsDir():
			sub, err := dir.OpenRoot(e.Name())
			if isMissing(err) {
				return nil
			}
			if err != nil {
				return err
			}
			defer sub.Close() //nolint:errcheck // nothing was written
			return list(ctx, sub, key, prefix, f)
		case !e.Type().IsRegular():
			return nil
		}
		info, err := dir.Lstat(e.Name())
		if isMissing(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return f(infoOf(key, info))
	})
}

// eachEntry calls f for each entry of an open directory, in no order.
func eachEntry(ctx context.Context, dir *os.File, f func(fs.DirEntry) error) error {
	for {
		entries, err := dir.ReadDir(256)
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f(e); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF, isMissing(err): // the directory may be removed while it is read
			return nil
		case err != nil:
			return err
		}
	}
}

// check says whether an operation on the key may start.
func (s *Store) check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	if isStage(path.Base(key)) {
		return errs.Ef(errs.Invalid, "%.100q is not a valid key.", key)
	}
	return nil
}

// mkdirs makes a key's directory and those above it, makes sure that they survive a crash, and opens it. Directories
// that it did so for before are trusted to be there, unless again is set.
func (s *Store) mkdirs(dir string, again bool) (*os.File, error) {
	if _, ok := s.durable.Load(dir); dir == "." || ok && !again {
		return s.root.Open(dir)
	}
	parent, err := s.mkdirs(path.Dir(dir), again)
	if err != nil {
		return nil, err
	}
	defer parent.Close() //nolint:errcheck // nothing was written
	err = s.root.Mkdir(dir, 0o777)
	switch {
	case err == nil && s.dirMode != 0:
		err = s.root.Chmod(dir, s.dirMode)
	case errors.Is(err, fs.ErrExist):
		err = nil
	}
	if err != nil {
		return nil, err
	}
	// Also where it was there: whoever made it may not have come to this yet.
	if err := syncDir(parent); err != nil {
		return nil, err
	}
	s.durable.Store(dir, struct{}{})
	return s.root.Open(dir)
}

// syncDir makes what happened in a directory durable.
func syncDir(dir *os.File) error {
	err := dir.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		return nil // a file system without such a thing
	}
	return err
}

// reuse says whether the key has a blob of this size, and if so makes it as fresh as a new one.
func (s *Store) reuse(key string, size int64) bool {
	info, err := s.root.Lstat(key)
	if err != nil || !info.Mode().IsRegular() || info.Size() != size {
		return false
	}
	// Wall-clock time is what the kernel gives new files too. Where the time can't be set, as on another
	// user's file, the blob is stored anew.
	return s.root.Chtimes(key, time.Time{}, time.Now()) == nil
}

// A file is an open blob.
type file struct {
	*os.File
	info blob.Info
}

var _ blob.OSFile = (*file)(nil)

func (f *file) Info() blob.Info  { return f.info }
func (f *file) OSFile() *os.File { return f.File }

func infoOf(key string, info fs.FileInfo) blob.Info {
	return blob.Info{Key: key, Size: info.Size(), ModTime: info.ModTime()}
}

// isMissing says whether the error means that there is nothing of that name. ENOTDIR is what comes where a part of
// the path is a blob.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func missing(err error) error {
	if isMissing(err) {
		return &errs.Error{Kind: errs.NotFound, Err: err}
	}
	return err
}

func notRegular(key string) error {
	return &errs.Error{Kind: errs.NotFound, Err: fmt.Errorf("%s is not a file", key)}
}

// full gives the error of a full disk its public text, and leaves every other as it is.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &errs.Error{Kind: errs.Unavailable, Detail: "No space is left on the server's disk.", Err: err}
	}
	return err
}
