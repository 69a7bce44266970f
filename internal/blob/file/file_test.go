package file_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"granary/internal/blob"
	"granary/internal/blob/blobtest"
	"granary/internal/blob/file"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// allowed is what a server allows that nobody configured.
var allowed = []pulp.Algorithm{pulp.SHA224, pulp.SHA256, pulp.SHA384, pulp.SHA512}

func TestMain(m *testing.M) {
	switch os.Getenv("GRANARY_TEST_CHILD") {
	case "crash":
		crash()
	case "full":
		fillDisk()
	}
	os.Exit(m.Run())
}

func open(t *testing.T, root, temp string, options ...file.Option) *file.Store {
	t.Helper()
	s, err := file.New(root, temp, allowed, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func put(t *testing.T, s blob.Store, key, content string) {
	t.Helper()
	stage, err := s.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Close() //nolint:errcheck // committed, or the test has failed
	if _, err := io.WriteString(stage, content); err != nil {
		t.Fatal(err)
	}
	if err := stage.Commit(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

// files lists the files below a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// otherFS returns a directory on another file system than the tests' temporary one.
func otherFS(t *testing.T) string {
	t.Helper()
	const shm = "/dev/shm"
	var here, there syscall.Stat_t
	if syscall.Stat(t.TempDir(), &here) != nil || syscall.Stat(shm, &there) != nil || here.Dev == there.Dev {
		t.Skip("there is no second file system")
	}
	dir, err := os.MkdirTemp(shm, "granary")
	if err != nil {
		t.Skip("there is no second file system:", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // best effort
	return dir
}

func TestStore(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store {
		root, temp := t.TempDir(), t.TempDir()
		checkLeftovers(t, root, temp)
		return open(t, root, temp)
	})
}

func TestStoreWithTempElsewhere(t *testing.T) {
	other := otherFS(t)
	blobtest.Run(t, func(t *testing.T) blob.Store {
		root := t.TempDir()
		temp, err := os.MkdirTemp(other, "")
		if err != nil {
			t.Fatal(err)
		}
		checkLeftovers(t, root, temp)
		return open(t, root, temp)
	})
}

// checkLeftovers checks at the test's end that no staged file is left.
func checkLeftovers(t *testing.T, root, temp string) {
	t.Cleanup(func() {
		if left := files(t, temp); len(left) > 0 {
			t.Errorf("left in the temporary folder: %q", left)
		}
		for _, name := range files(t, root) {
			if strings.Contains(name, ".granary") {
				t.Errorf("left in the store: %s", name)
			}
		}
	})
}

func TestLayout(t *testing.T) {
	old := syscall.Umask(0o027)
	defer syscall.Umask(old)
	dir := t.TempDir()
	root := filepath.Join(dir, "media")
	s := open(t, root, filepath.Join(dir, "tmp"))
	var sum string
	for _, content := range []string{"hello", ""} {
		stage, err := s.Stage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(stage, content); err != nil {
			t.Fatal(err)
		}
		sum = stage.Digests()[pulp.SHA256]
		if err := stage.Commit(t.Context(), blob.ArtifactKey(pulp.Domain{Name: "default"}, sum)); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"artifact/2c/f24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
		"artifact/e3/b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	}
	if got := files(t, root); !slices.Equal(got, want) {
		t.Errorf("files: %q, want %q", got, want)
	}
	if b, err := os.ReadFile(filepath.Join(root, want[0])); err != nil || string(b) != "hello" {
		t.Errorf("the artifact's file: %q, %v", b, err)
	}
	checkMode(t, filepath.Join(root, want[0]), 0o644)       // whatever the umask is
	checkMode(t, filepath.Join(root, "artifact/2c"), 0o750) // by the umask
	checkMode(t, filepath.Join(root, "artifact"), 0o750)    //
	checkMode(t, filepath.Join(dir, "tmp"), 0o700)          // not for others
	s = open(t, root, filepath.Join(dir, "tmp"), file.FileMode(0o660), file.DirMode(0o2775))
	put(t, s, "upload/1", "x")
	checkMode(t, filepath.Join(root, "upload/1"), 0o660)
	checkMode(t, filepath.Join(root, "upload"), fs.ModeSetgid|0o775)
}

func checkMode(t *testing.T, name string, want fs.FileMode) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode() &^ fs.ModeDir; got != want {
		t.Errorf("%s has mode %v, want %v", name, got, want)
	}
}

func TestNew(t *testing.T) {
	dir := t.TempDir()
	if _, err := file.New(dir, dir, []pulp.Algorithm{"sha256", "crc32"}); err == nil || !strings.Contains(err.Error(), "crc32") {
		t.Errorf("with an unknown digest: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := file.New(filepath.Join(dir, "f"), dir, allowed); err == nil {
		t.Error("a file as the root succeeds")
	}
	// Pulp's folder as it may be found: media a link to a larger disk, and relative to the working directory.
	if err := os.Mkdir(filepath.Join(dir, "disk"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("disk", filepath.Join(dir, "media")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	s := open(t, "media", "tmp")
	t.Chdir(t.TempDir())
	put(t, s, "artifact/ab/cdef", "hello")
	if got := files(t, filepath.Join(dir, "disk")); !slices.Equal(got, []string{"artifact/ab/cdef"}) {
		t.Errorf("files on the disk: %q", got)
	}
}

func TestOpenGivesOSFile(t *testing.T) {
	s := open(t, t.TempDir(), t.TempDir())
	put(t, s, "artifact/ab/cdef", "hello")
	f, err := s.Open(t.Context(), "artifact/ab/cdef")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	if _, err := f.Seek(2, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	o, ok := f.(blob.OSFile)
	if !ok {
		t.Fatalf("%T is no blob.OSFile", f)
	}
	if b, err := io.ReadAll(o.OSFile()); err != nil || string(b) != "llo" {
		t.Errorf("the file has %q, %v, want llo", b, err)
	}
}

func TestOpenBlobOutlivesDelete(t *testing.T) {
	s := open(t, t.TempDir(), t.TempDir())
	put(t, s, "artifact/ab/cdef", "hello")
	f, err := s.Open(t.Context(), "artifact/ab/cdef")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	if err := s.Delete(t.Context(), "artifact/ab/cdef"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "artifact/ab/cdef", "goodbye")
	if b, err := io.ReadAll(f); err != nil || string(b) != "hello" {
		t.Errorf("read %q, %v, want hello", b, err)
	}
}

// Whoever removes old files that no row names must not take one that was just found to be there.
func TestCommitFreshens(t *testing.T) {
	root := t.TempDir()
	s := open(t, root, t.TempDir())
	put(t, s, "artifact/ab/cdef", "hello")
	past := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(filepath.Join(root, "artifact/ab/cdef"), past, past); err != nil {
		t.Fatal(err)
	}
	put(t, s, "artifact/ab/cdef", "hello")
	info, err := s.Stat(t.Context(), "artifact/ab/cdef")
	if err != nil {
		t.Fatal(err)
	}
	if time.Since(info.ModTime) > time.Hour {
		t.Errorf("ModTime = %v, want now", info.ModTime)
	}
}

func TestRemovedDirectories(t *testing.T) {
	root := t.TempDir()
	s := open(t, root, t.TempDir())
	put(t, s, "artifact/ab/1", "hello")
	if err := os.RemoveAll(filepath.Join(root, "artifact")); err != nil {
		t.Fatal(err)
	}
	put(t, s, "artifact/ab/2", "hello")
	if got := files(t, root); !slices.Equal(got, []string{"artifact/ab/2"}) {
		t.Errorf("files: %q", got)
	}
}

func TestNothingOutsideIsReached(t *testing.T) {
	outside, root := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"dir": outside, "file": filepath.Join(outside, "secret"), "self": "self"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, root, t.TempDir())
	for _, key := range []string{"dir/secret", "dir/new", "file", "self", "self/x"} {
		if f, err := s.Open(t.Context(), key); err == nil {
			t.Errorf("Open of %s succeeds", key)
			f.Close() //nolint:errcheck // it was only opened
		}
		if _, err := s.Stat(t.Context(), key); err == nil {
			t.Errorf("Stat of %s succeeds", key)
		}
	}
	for _, key := range []string{"dir/secret", "dir/new", "dir/sub/new"} {
		stage, err := s.Stage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stage.Commit(t.Context(), key); err == nil {
			t.Errorf("Commit to %s succeeds", key)
		}
		if err := stage.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Delete(t.Context(), "dir/secret"); err == nil {
		t.Error("Delete of dir/secret succeeds")
	}
	if err := s.List(t.Context(), "dir/", func(i blob.Info) error { t.Errorf("%s is listed", i.Key); return nil }); err == nil {
		t.Error("List of dir/ succeeds")
	}
	if err := s.List(t.Context(), "", func(i blob.Info) error { t.Errorf("%s is listed", i.Key); return nil }); err != nil {
		t.Error(err)
	}

	// A link at the place of a blob is replaced, and what it leads to stays.
	put(t, s, "file", "hello!")
	if b, err := os.ReadFile(filepath.Join(outside, "secret")); err != nil || string(b) != "secret" {
		t.Errorf("outside: %q, %v", b, err)
	}
	if got := files(t, outside); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("outside: %q", got)
	}
	if b, err := os.ReadFile(filepath.Join(root, "file")); err != nil || string(b) != "hello!" {
		t.Errorf("the blob: %q, %v", b, err)
	}
}

// The staged files' names are no keys, also where the temporary folder is inside the store.
func TestStagedFilesAreNoBlobs(t *testing.T) {
	root := t.TempDir()
	s := open(t, root, filepath.Join(root, "tmp"))
	stage, err := s.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Close() //nolint:errcheck // only for the test's end
	names := files(t, root)
	if len(names) != 1 {
		t.Fatalf("files: %q, want the staged one", names)
	}
	if _, err := s.Open(t.Context(), names[0]); !errs.Is(err, errs.Invalid) {
		t.Errorf("Open of the staged file: %v", err)
	}
	if err := s.Delete(t.Context(), names[0]); !errs.Is(err, errs.Invalid) {
		t.Errorf("Delete of the staged file: %v", err)
	}
	if err := s.List(t.Context(), "", func(i blob.Info) error { t.Errorf("%s is listed", i.Key); return nil }); err != nil {
		t.Error(err)
	}
}

func TestCopyBetweenFileSystemsCanBeCancelled(t *testing.T) {
	temp, root := otherFS(t), t.TempDir()
	s := open(t, root, temp)
	stage, err := s.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stage.Write(make([]byte, 16<<20)); err != nil {
		t.Fatal(err)
	}
	// The context ends with the third question for its state: one comes before the copy, one before its first part.
	ctx := &countdown{Context: t.Context(), left: 2}
	if err := stage.Commit(ctx, "artifact/ab/cdef"); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit: %v", err)
	}
	if got := files(t, root); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
	if err := stage.Commit(t.Context(), "artifact/ab/cdef"); err != nil {
		t.Errorf("a second Commit: %v", err)
	}
	info, err := os.Stat(filepath.Join(root, "artifact/ab/cdef"))
	if err != nil || info.Size() != 16<<20 || info.Mode().Perm() != 0o644 {
		t.Errorf("stored: %v, %v", info, err)
	}
}

// A countdown is a context that is cancelled after some questions for its error.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestClean(t *testing.T) {
	root, temp := t.TempDir(), t.TempDir()
	s := open(t, root, temp)
	alive, err := s.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(alive, "hello"); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Clean(t.Context()); n != 0 || err != nil {
		t.Fatalf("Clean = %d, %v before anything was left", n, err)
	}

	// A process that is killed leaves two staged files, and one at which a copy from another file system ended.
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GRANARY_TEST_CHILD=crash", "ROOT="+root, "TEMP="+temp)
	out, err := cmd.CombinedOutput()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Fatalf("the process was not killed: %v\n%s", err, out)
	}
	left := files(t, temp)
	if len(left) != 3 {
		t.Fatalf("files after the crash: %q, want ours and two", left)
	}
	var abandoned string
	for _, name := range left {
		if b, err := os.ReadFile(filepath.Join(temp, name)); err == nil && string(b) == "abandoned" {
			abandoned = name
		}
	}
	if err := os.WriteFile(filepath.Join(root, abandoned), []byte("abandoned"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What others keep in the folder.
	for _, name := range []string{"other", "granary-stage-x"} {
		if err := os.WriteFile(filepath.Join(temp, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(temp, "1234@host"), 0o700); err != nil {
		t.Fatal(err)
	}

	if n, err := s.Clean(t.Context()); n != 3 || err != nil {
		t.Errorf("Clean = %d, %v, want 3", n, err)
	}
	if got := files(t, temp); len(got) != 3 || !slices.Contains(got, "other") || !slices.Contains(got, "granary-stage-x") {
		t.Errorf("files after Clean: %q", got)
	}
	if _, err := os.Stat(filepath.Join(temp, "1234@host")); err != nil {
		t.Error(err)
	}
	if got := files(t, root); !slices.Equal(got, []string{"upload/committed"}) {
		t.Errorf("files in the store after Clean: %q", got)
	}
	if err := alive.Commit(t.Context(), "upload/alive"); err != nil {
		t.Errorf("Commit after Clean: %v", err)
	}
}

// crash stages blobs and is killed.
func crash() {
	s, err := file.New(os.Getenv("ROOT"), os.Getenv("TEMP"), allowed)
	if err != nil {
		panic(err)
	}
	for _, content := range []string{"abandoned", "", "committed"} {
		stage, err := s.Stage(context.Background())
		if err != nil {
			panic(err)
		}
		if _, err := io.WriteString(stage, content); err != nil {
			panic(err)
		}
		if content == "committed" {
			if err := stage.Commit(context.Background(), "upload/committed"); err != nil {
				panic(err)
			}
		}
	}
	syscall.Kill(os.Getpid(), syscall.SIGKILL) //nolint:errcheck // the parent finds out
	select {}
}

func TestFullDisk(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GRANARY_TEST_CHILD=full", "ROOT="+t.TempDir())
	// Namespaces of its own let anybody mount a small disk.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSPC), cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == exitNoMount:
		t.Skip("a small disk can't be mounted here:", err, out.String())
	case err != nil:
		t.Fatalf("%v\n%s", err, out.String())
	}
}

const exitNoMount = 77

// fillDisk runs a store into the end of a disk of 1 MiB.
func fillDisk() {
	dir := os.Getenv("ROOT")
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		os.Stderr.WriteString(err.Error()) //nolint:errcheck // nothing is left to be done
		os.Exit(exitNoMount)
	}
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	ctx := context.Background()
	s, err := file.New(filepath.Join(dir, "media"), filepath.Join(dir, "tmp"), allowed)
	must(err)
	stage, err := s.Stage(ctx)
	must(err)
	n, err := io.Copy(stage, bytes.NewReader(make([]byte, 2<<20)))
	if !errs.Is(err, errs.Unavailable) || !errors.Is(err, syscall.ENOSPC) || errs.Describe(err) != "No space is left on the server's disk." {
		panic(err)
	}
	if n > 1<<20 || n != stage.Size() {
		panic(n)
	}
	// Afterwards the store goes on.
	must(stage.Close())
	stage, err = s.Stage(ctx)
	must(err)
	_, err = io.WriteString(stage, "hello")
	must(err)
	must(stage.Commit(ctx, "artifact/ab/cdef"))
	os.Exit(0)
}

func BenchmarkCommit(b *testing.B) {
	s, err := file.New(b.TempDir(), b.TempDir(), allowed)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // nothing was written
	for _, size := range []int{1 << 10, 64 << 20} {
		data := make([]byte, size)
		b.Run(sizeName(size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				stage, err := s.Stage(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				// Hidden, because a bytes.Reader writes everything at once.
				if _, err := io.Copy(stage, struct{ io.Reader }{bytes.NewReader(data)}); err != nil {
					b.Fatal(err)
				}
				if err := stage.Commit(b.Context(), "artifact/ab/cdef"); err != nil {
					b.Fatal(err)
				}
				if err := s.Delete(b.Context(), "artifact/ab/cdef"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func sizeName(size int) string {
	if size < 1<<20 {
		return "small"
	}
	return "64MiB"
}

func BenchmarkOpen(b *testing.B) {
	s, err := file.New(b.TempDir(), b.TempDir(), allowed)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // nothing was written
	stage, err := s.Stage(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if err := stage.Commit(b.Context(), "artifact/ab/cdef"); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		f, err := s.Open(b.Context(), "artifact/ab/cdef")
		if err != nil {
			b.Fatal(err)
		}
		f.Close() //nolint:errcheck // it was only opened
	}
}
