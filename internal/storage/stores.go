// Package storage gives each domain its store of blobs, as the domain's row says, and knows what such a store's settings may be.
// Start with [New]; what a domain's settings mean is in class.go.
package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"granary/internal/blob"
	blobfile "granary/internal/blob/file"
	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/keyring"
	"granary/internal/pulp"
)

// A Config is what [New] needs.
type Config struct {
	DB   *db.DB
	Keys keyring.Keys // the domains' settings are encrypted with them
	Log  *slog.Logger
	// Home is the domain "default", HomeStore its store, which the server's settings describe: it never changes.
	Home      pulp.ID
	HomeStore blob.Store
	// MediaRoot is the folder of stores on disk whose settings name none.
	MediaRoot string
	// TempDir is where blobs are staged, Algorithms which of their digests are computed.
	TempDir    string
	Algorithms []pulp.Algorithm
}

// Stores are the stores of all domains. Each is opened when it is used first, and anew when the domain's row has changed: writers
// look at the row for each blob, so that none goes to a place that the domain has left; readers when they miss something, and
// when [Stores.Run] was told.
type Stores struct {
	Config
	mu   sync.Mutex
	open map[pulp.ID]*opened
}

var _ blob.Stores = (*Stores)(nil)

// An opened store and the row that it was opened for. Nothing closes a store that a domain has left, since somebody may still
// read from it: what it holds open goes with it.
type opened struct {
	blob.Store
	class, sealed string
}

// New returns the stores.
func New(c Config) *Stores { return &Stores{Config: c, open: map[pulp.ID]*opened{}} }

// Of returns the store of a domain.
func (s *Stores) Of(domain pulp.ID) blob.Store {
	if domain == s.Home || domain.IsZero() {
		return s.HomeStore
	}
	return &store{s, domain}
}

// Stage starts a new blob of the call's domain.
func (s *Stores) Stage(ctx context.Context) (blob.Stage, error) {
	return s.Of(pulp.CallOf(ctx).Domain.ID).Stage(ctx)
}

// Run forgets stores of domains that were changed on any process, until ctx ends. All works without it; it only ends the use of
// places that were left.
func (s *Stores) Run(ctx context.Context) {
	s.DB.Follow(ctx, []string{notice.Channel}, func(_, payload string) {
		kind, ids := notice.Parse(payload)
		if kind != "" && kind != notice.Domain {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, id := range ids {
			delete(s.open, id)
		}
		if len(ids) == 0 {
			clear(s.open)
		}
	})
}

// known returns a domain's store as it was last seen, opening it if it was not.
func (s *Stores) known(ctx context.Context, domain pulp.ID) (*opened, error) {
	s.mu.Lock()
	o := s.open[domain]
	s.mu.Unlock()
	if o != nil {
		return o, nil
	}
	return s.current(ctx, domain)
}

// current returns a domain's store as the row has it now.
func (s *Stores) current(ctx context.Context, domain pulp.ID) (_ *opened, err error) {
	defer errs.Wrap(&err, "open the store of domain %s", domain)
	var class, sealed string
	row := s.DB.QueryRow(ctx, "SELECT storage_class, storage_settings FROM core_domain WHERE id = ?", domain)
	if err := row.Scan(&class, &sealed); errs.Is(err, errs.NotFound) {
		return nil, errors.New("the domain is gone") // and not its file: nobody must take it for missing
	} else if err != nil {
		return nil, err
	}
	s.mu.Lock()
	o := s.open[domain]
	s.mu.Unlock()
	if o != nil && o.class == class && o.sealed == sealed {
		return o, nil
	}
	clear, err := s.Keys.Decrypt(sealed)
	if err != nil {
		return nil, err
	}
	var settings Settings
	if err := json.Unmarshal([]byte(clear), &settings); err != nil {
		return nil, err
	}
	opening, err := s.Open(ctx, Class(class), settings)
	if err != nil {
		return nil, err
	}
	o = &opened{opening, class, sealed}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[domain] = o
	return o, nil
}

// Installed says whether there are stores of the class.
func (c Class) Installed() bool { return c == FileSystem }

var errRelative = errors.New("the path is not absolute")

// Open opens a store with settings that were checked. Its folder is made if it is not there.
func (s *Stores) Open(ctx context.Context, class Class, settings Settings) (blob.Store, error) {
	if !class.Installed() {
		return nil, fmt.Errorf("there are no stores of class %s", class)
	}
	location, _ := settings["location"].(string)
	if location == "" {
		location = s.MediaRoot
	}
	if !filepath.IsAbs(location) {
		return nil, errRelative
	}
	if err := os.MkdirAll(location, 0o750); err != nil {
		return nil, err
	}
	var options []blobfile.Option
	if bits, ok := settings["file_permissions_mode"].(float64); ok {
		options = append(options, blobfile.FileMode(uint32(bits)))
	}
	if bits, ok := settings["directory_permissions_mode"].(float64); ok {
		options = append(options, blobfile.DirMode(uint32(bits)))
	}
	fileStore, err := blobfile.New(location, s.TempDir, s.Algorithms, options...)
	if err != nil {
		return nil, err
	}
	if n, err := fileStore.Clean(ctx); err != nil {
		return nil, errors.Join(err, fileStore.Close())
	} else if n > 0 {
		s.Log.InfoContext(ctx, "removed files that a dead process had not finished", slog.Int("files", n), slog.String("location", location))
	}
	return fileStore, nil
}

// Try opens a store, writes to it, reads and deletes what it wrote. What is wrong with the settings is returned as it is
// reported of the field storage_settings, else nil.
func (s *Stores) Try(ctx context.Context, class Class, settings Settings) any {
	if err := s.try(ctx, class, settings); err != nil {
		s.Log.InfoContext(ctx, "a domain's store does not work", slog.Any("error", err))
		return map[string]any{"location": []string{"Files can not be stored there: " + reason(err) + "."}}
	}
	return nil
}

func (s *Stores) try(ctx context.Context, class Class, settings Settings) (err error) {
	st, err := s.Open(ctx, class, settings)
	if err != nil {
		return err
	}
	if c, ok := st.(io.Closer); ok {
		defer func() { err = errors.Join(err, c.Close()) }()
	}
	key := "granary-test-" + pulp.NewID().String()
	stage, err := st.Stage(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stage.Close()) }()
	if _, err := io.WriteString(stage, key); err != nil {
		return err
	}
	if err := stage.Commit(ctx, key); err != nil {
		return err
	}
	f, err := st.Open(ctx, key)
	if err == nil {
		var b []byte
		if b, err = io.ReadAll(f); err == nil && string(b) != key {
			err = errors.New("something else is read than was written")
		}
		err = errors.Join(err, f.Close())
	}
	return errors.Join(err, st.Delete(ctx, key))
}

// reason is what a client may know of why a store does not work.
func reason(err error) string {
	switch {
	case errors.Is(err, errRelative):
		return errRelative.Error()
	case errors.Is(err, fs.ErrPermission):
		return "permission denied"
	case errs.Is(err, errs.Unavailable):
		return "no space is left"
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return "see the server's log"
}

// A store is the store that a domain has at the moment.
type store struct {
	of     *Stores
	domain pulp.ID
}

// read runs f on the store that is known. If that has not what is wanted, the row may name another one by now.
func (s *store) read(ctx context.Context, f func(blob.Store) error) error {
	o, err := s.of.known(ctx, s.domain)
	if err != nil {
		return err
	}
	err = f(o.Store)
	if !errs.Is(err, errs.NotFound) {
		return err
	}
	now, cerr := s.of.current(ctx, s.domain)
	if cerr != nil || now == o {
		return errors.Join(cerr, err)
	}
	return f(now.Store)
}

func (s *store) Open(ctx context.Context, key string) (file blob.File, err error) {
	err = s.read(ctx, func(st blob.Store) (err error) {
		file, err = st.Open(ctx, key)
		return err
	})
	return file, err
}

func (s *store) Stat(ctx context.Context, key string) (info blob.Info, err error) {
	err = s.read(ctx, func(st blob.Store) (err error) {
		info, err = st.Stat(ctx, key)
		return err
	})
	return info, err
}

func (s *store) Delete(ctx context.Context, key string) error {
	o, err := s.of.current(ctx, s.domain)
	if err != nil {
		return err
	}
	return o.Delete(ctx, key)
}

func (s *store) List(ctx context.Context, prefix string, f func(blob.Info) error) error {
	o, err := s.of.current(ctx, s.domain)
	if err != nil {
		return err
	}
	return o.List(ctx, prefix, f)
}

func (s *store) Stage(ctx context.Context) (blob.Stage, error) {
	o, err := s.of.known(ctx, s.domain)
	if err != nil {
		return nil, err
	}
	st, err := o.Stage(ctx)
	if err != nil {
		return nil, err
	}
	return &stage{Stage: st, store: s, in: o}, nil
}

// A stage is committed to the store that the domain has then.
type stage struct {
	blob.Stage
	store *store
	in    *opened
}

// ReadFrom lets the store's own stage read, in the pieces that it likes.
func (s *stage) ReadFrom(r io.Reader) (int64, error) { return io.Copy(s.Stage, r) }

func (s *stage) Commit(ctx context.Context, key string) error {
	now, err := s.store.of.current(ctx, s.store.domain)
	if err != nil {
		return err
	}
	if now != s.in {
		if err := s.move(ctx, now); err != nil {
			return err
		}
	}
	return s.Stage.Commit(ctx, key)
}

// move stages the blob in another store.
func (s *stage) move(ctx context.Context, to *opened) (err error) {
	defer errs.Wrap(&err, "stage a blob in the store to which its domain has moved")
	r, err := s.Reader()
	if err != nil {
		return err
	}
	next, err := to.Stage(ctx)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	_, err = io.Copy(next, r)
	if err = errors.Join(err, r.Close()); err != nil {
		return errors.Join(err, next.Close())
	}
	old := s.Stage
	s.Stage, s.in = next, to
	return old.Close()
}
