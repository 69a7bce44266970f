package storage_test

import (
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fernet/fernet-go"

	"granary/internal/blob"
	"granary/internal/blob/blobtest"
	blobfile "granary/internal/blob/file"
	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/db/schema"
	"granary/internal/errs"
	"granary/internal/keyring"
	"granary/internal/pulp"
	"granary/internal/storage"
)

// A world is a database with domains, and the stores of one process.
type world struct {
	testing.TB
	db     *db.DB
	keys   keyring.Keys
	dir    string
	home   pulp.ID
	stores *storage.Stores
}

func newWorld(t testing.TB, d *db.DB) *world {
	t.Helper()
	if _, err := d.Migrate(t.Context(), []db.Schema{schema.Core()}); err != nil {
		t.Fatal(err)
	}
	var key fernet.Key
	if err := key.Generate(); err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, db: d, keys: keyring.Keys{&key}, dir: t.TempDir(), home: pulp.NewID()}
	w.stores = w.process()
	return w
}

// process returns the stores as another process has them.
func (w *world) process() *storage.Stores {
	w.Helper()
	home, err := blobfile.New(filepath.Join(w.dir, "media"), filepath.Join(w.dir, "tmp"), pulp.Algorithms[:])
	if err != nil {
		w.Fatal(err)
	}
	return storage.New(storage.Config{
		DB: w.db, Keys: w.keys, Log: slog.New(slog.DiscardHandler), Home: w.home, HomeStore: home, MediaRoot: filepath.Join(w.dir, "media"),
		TempDir: filepath.Join(w.dir, "tmp"), Algorithms: pulp.Algorithms[:],
	})
}

func (w *world) sealed(settings string) string {
	w.Helper()
	parsed, wrong := storage.FileSystem.Parse(settings, nil)
	if wrong != nil {
		w.Fatal(wrong)
	}
	b, err := json.Marshal(parsed)
	if err != nil {
		w.Fatal(err)
	}
	token, err := w.keys.Encrypt(string(b))
	if err != nil {
		w.Fatal(err)
	}
	return token
}

func (w *world) exec(query string, args ...any) {
	w.Helper()
	if err := w.db.Update(w.Context(), func(tx *db.Tx) error { _, err := tx.Exec(w.Context(), query, args...); return err }); err != nil {
		w.Fatal(err)
	}
}

// domain makes one whose files are in a folder of the world's; move gives it another.
func (w *world) domain(settings string) pulp.ID {
	w.Helper()
	id := pulp.NewID()
	w.exec(`INSERT INTO core_domain (id, created, updated, name, storage_class, storage_settings, redirect_to_object_storage, hide_guarded_distributions)
		VALUES (?, 1, 1, ?, ?, ?, ?, ?)`, id, id.String(), string(storage.FileSystem), w.sealed(settings), false, false)
	return id
}

func (w *world) in(dir string) string { return `{"location": "` + filepath.Join(w.dir, dir) + `"}` }

func (w *world) move(id pulp.ID, dir string) {
	w.Helper()
	w.exec("UPDATE core_domain SET storage_settings = ? WHERE id = ?", w.sealed(w.in(dir)), id)
}

func (w *world) stage(s blob.Store, text string) blob.Stage {
	w.Helper()
	st, err := s.Stage(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	if _, err := io.Copy(st, strings.NewReader(text)); err != nil {
		w.Fatal(err)
	}
	return st
}

func (w *world) commit(st blob.Stage, key string) {
	w.Helper()
	if err := st.Commit(w.Context(), key); err != nil {
		w.Fatal(err)
	}
}

func (w *world) wantFile(path string, want bool) {
	w.Helper()
	if _, err := os.Stat(filepath.Join(w.dir, path)); (err == nil) != want {
		w.Errorf("%s is there: %t, want %t", path, err == nil, want)
	}
}

// TestStore: a domain's store keeps all promises of a store.
func TestStore(t *testing.T) {
	w := newWorld(t, dbtest.Open(t, dbtest.SQLite(t)))
	blobtest.Run(t, func(t *testing.T) blob.Store {
		return w.stores.Of(w.domain(`{"location": "` + t.TempDir() + `"}`))
	})
}

func TestEachDomainHasItsFolder(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		one, two, none := w.domain(w.in("one")), w.domain(w.in("two")), w.domain(`{"location": ""}`)
		for domain, dir := range map[pulp.ID]string{one: "one", two: "two", none: "media", w.home: "media"} {
			w.commit(w.stage(w.stores.Of(domain), "x"), "upload/"+domain.String())
			w.wantFile(dir+"/upload/"+domain.String(), true)
		}
		if _, err := w.stores.Of(two).Open(t.Context(), "upload/"+one.String()); !errs.Is(err, errs.NotFound) {
			t.Errorf("of another domain: %v", err)
		}
		in := pulp.WithCall(t.Context(), &pulp.Call{Domain: pulp.Domain{ID: two}})
		st, err := w.stores.Stage(in)
		if err != nil {
			t.Fatal(err)
		}
		w.commit(st, "upload/called")
		w.wantFile("two/upload/called", true)
		info, err := os.Stat(filepath.Join(w.dir, "one"))
		if err != nil || info.Mode().Perm() != 0o750 {
			t.Errorf("the folder: %v, %v", info.Mode(), err)
		}
		// what has no row is no missing file: an error, so that nobody cleans up after it
		if _, err := w.stores.Of(pulp.NewID()).Stat(t.Context(), "upload/x"); err == nil || errs.Is(err, errs.NotFound) {
			t.Errorf("of no domain: %v", err)
		}
	})
}

func TestPermissions(t *testing.T) {
	w := newWorld(t, dbtest.Open(t, dbtest.SQLite(t)))
	id := w.domain(`{"location": "` + filepath.Join(w.dir, "x") + `", "file_permissions_mode": 384, "directory_permissions_mode": 1512}`)
	w.commit(w.stage(w.stores.Of(id), "x"), "artifact/ab/cd")
	for path, want := range map[string]fs.FileMode{"x/artifact": 0o750 | fs.ModeDir | fs.ModeSetgid, "x/artifact/ab": 0o750 | fs.ModeDir | fs.ModeSetgid, "x/artifact/ab/cd": 0o600} {
		if info, err := os.Stat(filepath.Join(w.dir, path)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}

// TestMove: once the row has changed, nothing goes to the old place, on any process and without being told.
func TestMove(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		id := w.domain(w.in("old"))
		here, there := w.stores.Of(id), w.process().Of(id)
		w.commit(w.stage(here, "old"), "artifact/ab/old")
		begun := w.stage(there, "begun before")
		w.move(id, "new")

		w.commit(begun, "artifact/ab/begun")
		w.wantFile("new/artifact/ab/begun", true)
		w.wantFile("old/artifact/ab/begun", false)
		if begun.Size() != 12 || begun.Digests()[pulp.SHA256] == "" || begun.Close() != nil {
			t.Errorf("after the move: %d bytes, %v", begun.Size(), begun.Digests())
		}
		w.commit(w.stage(here, "x"), "artifact/ab/late")
		w.wantFile("new/artifact/ab/late", true)
		if f, err := here.Open(t.Context(), "artifact/ab/begun"); err != nil {
			t.Errorf("what another process stored: %v", err)
		} else if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := here.Delete(t.Context(), "artifact/ab/old"); err != nil { // there is none in the new place
			t.Error(err)
		}
		w.wantFile("old/artifact/ab/old", true)
		if left, err := filepath.Glob(filepath.Join(w.dir, "tmp", "*")); err != nil || len(left) > 0 {
			t.Errorf("left in the temporary folder: %q, %v", left, err)
		}
	})
}

// TestNotice: who listens leaves the old place without missing something first.
func TestNotice(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		id := w.domain(w.in("old"))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { w.stores.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		for dir, text := range map[string]string{"old": "old", "new": "new"} {
			other := w.process().Of(w.domain(w.in(dir)))
			w.commit(w.stage(other, text), "artifact/ab/cd")
		}
		read := func() string {
			f, err := w.stores.Of(id).Open(t.Context(), "artifact/ab/cd")
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(f)
			if err != nil || f.Close() != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		if got := read(); got != "old" {
			t.Fatal(got)
		}
		w.move(id, "new")
		deadline := time.Now().Add(10 * time.Second)
		for read() != "new" {
			if time.Now().After(deadline) {
				t.Fatal("still in the old place")
			}
			if err := d.Update(t.Context(), func(tx *db.Tx) error { return notice.Changed(t.Context(), tx, notice.Domain, id) }); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestTry(t *testing.T) {
	w := newWorld(t, dbtest.Open(t, dbtest.SQLite(t)))
	file := filepath.Join(w.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for location, want := range map[string]string{
		filepath.Join(w.dir, "a/b/c"): "", "": "",
		"a/b":        `{"location":["Files can not be stored there: the path is not absolute."]}`,
		file:         `{"location":["Files can not be stored there: not a directory."]}`,
		file + "/x":  `{"location":["Files can not be stored there: not a directory."]}`,
		"/proc/self": `{"location":["Files can not be stored there: permission denied."]}`,
	} {
		settings, wrong := storage.FileSystem.Parse(map[string]any{"location": location}, nil)
		if wrong != nil {
			t.Fatal(wrong)
		}
		got := ""
		if wrong := w.stores.Try(t.Context(), storage.FileSystem, settings); wrong != nil {
			b, err := json.Marshal(wrong)
			if err != nil {
				t.Fatal(err)
			}
			got = string(b)
		}
		if location == "/proc/self" && strings.Contains(got, "Files can not be stored there: ") { // the kernel has its own words
			continue
		}
		if got != want {
			t.Errorf("%q: %s, want %s", location, got, want)
		}
	}
	if left, err := filepath.Glob(filepath.Join(w.dir, "a/b/c/*")); err != nil || len(left) > 0 {
		t.Errorf("the trial left %q, %v", left, err)
	}
	if w.stores.Try(t.Context(), storage.S3, storage.Settings{}) == nil {
		t.Error("a store that is not there can be used")
	}
}
