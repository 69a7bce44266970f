// Package blobtest checks that a blob store keeps the promises of [blob.Store].
package blobtest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"granary/internal/blob"
	"granary/internal/errs"
	"granary/internal/pulp"

	"github.com/google/go-cmp/cmp"
)

// Run runs the suite. Each call of open returns an empty store, whose stages compute sha256 at least.
func Run(t *testing.T, open func(t *testing.T) blob.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Commit", testCommit},
		{"Empty", testEmpty},
		{"Missing", testMissing},
		{"Delete", testDelete},
		{"CommitAgain", testCommitAgain},
		{"Digests", testDigests},
		{"FailingSource", testFailingSource},
		{"Reset", testReset},
		{"Reader", testReader},
		{"Close", testClose},
		{"Ended", testEnded},
		{"FailedCommit", testFailedCommit},
		{"List", testList},
		{"BadKeys", testBadKeys},
		{"Cancelled", testCancelled},
		{"ConcurrentCommits", testConcurrentCommits},
		{"Atomic", testAtomic},
		{"Big", testBig},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, &suite{t, open(t)}) })
	}
}

type suite struct {
	t *testing.T
	blob.Store
}

// stage returns a stage that holds the content, and is closed when the test ends.
func (s *suite) stage(content string) blob.Stage {
	s.t.Helper()
	stage, err := s.Stage(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { stage.Close() }) //nolint:errcheck // the tests look at what is left
	if n, err := io.WriteString(stage, content); err != nil || n != len(content) {
		s.t.Fatalf("Write = %d, %v, want %d", n, err, len(content))
	}
	return stage
}

func (s *suite) put(key, content string) {
	s.t.Helper()
	if err := s.stage(content).Commit(s.t.Context(), key); err != nil {
		s.t.Fatal(err)
	}
}

func (s *suite) read(key string) string {
	s.t.Helper()
	f, err := s.Open(s.t.Context(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	b, err := io.ReadAll(f)
	if err != nil {
		s.t.Fatal(err)
	}
	if info := f.Info(); info.Key != key || info.Size != int64(len(b)) {
		s.t.Fatalf("Info = %+v for %d bytes of %s", info, len(b), key)
	}
	return string(b)
}

func (s *suite) wantMissing(key string) {
	s.t.Helper()
	if _, err := s.Stat(s.t.Context(), key); !errs.Is(err, errs.NotFound) {
		s.t.Errorf("Stat of %s: %v, want not found", key, err)
	}
	if f, err := s.Open(s.t.Context(), key); !errs.Is(err, errs.NotFound) {
		s.t.Errorf("Open of %s: %v, want not found", key, err)
		if err == nil {
			f.Close() //nolint:errcheck // it was only opened
		}
	}
}

// wantKeys checks what List finds.
func (s *suite) wantKeys(prefix string, want ...string) {
	s.t.Helper()
	got := map[string]bool{}
	err := s.List(s.t.Context(), prefix, func(i blob.Info) error {
		if got[i.Key] {
			s.t.Errorf("%s is listed twice", i.Key)
		}
		got[i.Key] = true
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(want)
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, want) {
		s.t.Errorf("List(%.40q) found %.100q, want %.100q", prefix, keys, want)
	}
}

func testCommit(t *testing.T, s *suite) {
	const key = "artifact/ab/cdef"
	before := time.Now()
	stage := s.stage("hello")
	s.wantMissing(key)
	if err := stage.Commit(t.Context(), key); err != nil {
		t.Fatal(err)
	}

	f, err := s.Open(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	if b, err := io.ReadAll(f); err != nil || string(b) != "hello" {
		t.Errorf("read %q, %v, want hello", b, err)
	}
	for _, tc := range []struct {
		offset int64
		whence int
		want   string
	}{{1, io.SeekStart, "ello"}, {-2, io.SeekEnd, "lo"}, {-2, io.SeekCurrent, "lo"}, {5, io.SeekStart, ""}} {
		if _, err := f.Seek(tc.offset, tc.whence); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(f); err != nil || string(b) != tc.want {
			t.Errorf("after Seek(%d, %d): %q, %v, want %q", tc.offset, tc.whence, b, err, tc.want)
		}
	}

	info, err := s.Stat(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if !info.ModTime.Equal(f.Info().ModTime) || info.Key != f.Info().Key || info.Size != f.Info().Size {
		t.Errorf("Stat = %+v, Info of the open blob = %+v", info, f.Info())
	}
	if info.Key != key || info.Size != 5 {
		t.Errorf("Stat = %+v, want %s of 5 bytes", info, key)
	}
	// A store elsewhere has a clock of its own.
	if info.ModTime.Before(before.Add(-time.Hour)) || info.ModTime.After(time.Now().Add(time.Hour)) {
		t.Errorf("ModTime = %v, stored at %v", info.ModTime, before)
	}
}

func testEmpty(t *testing.T, s *suite) {
	stage := s.stage("")
	if got := stage.Digests()[pulp.SHA256]; got != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("sha256 of nothing = %s", got)
	}
	if err := stage.Commit(t.Context(), "upload/empty"); err != nil {
		t.Fatal(err)
	}
	if got := s.read("upload/empty"); got != "" {
		t.Errorf("read %q", got)
	}
	s.wantKeys("", "upload/empty")
}

func testMissing(t *testing.T, s *suite) {
	s.put("artifact/ab/cdef", "x")
	for _, key := range []string{"none", "artifact/ab/cde", "artifact/ab/cdefg", "artifact/zz/cdef", "artifact/ab", "artifact", "artifact/ab/cdef/g"} {
		s.wantMissing(key)
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete of %s: %v", key, err)
		}
	}
	s.wantKeys("", "artifact/ab/cdef")
}

func testDelete(t *testing.T, s *suite) {
	s.put("tmp/files/ab/1", "one")
	s.put("tmp/files/ab/2", "two")
	if err := s.Delete(t.Context(), "tmp/files/ab/1"); err != nil {
		t.Fatal(err)
	}
	s.wantMissing("tmp/files/ab/1")
	s.wantKeys("", "tmp/files/ab/2")
	s.put("tmp/files/ab/1", "three")
	if got := s.read("tmp/files/ab/1"); got != "three" {
		t.Errorf("read %q after a new Commit, want three", got)
	}
}

func testCommitAgain(t *testing.T, s *suite) {
	for _, tc := range []struct{ what, content, want string }{
		{"first", "right", "right"},
		{"of the same size", "wrong", "right"},
		{"longer than the damaged one", "longer", "longer"},
		{"shorter than the damaged one", "short", "short"},
	} {
		s.put("artifact/ab/cdef", tc.content)
		if got := s.read("artifact/ab/cdef"); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.what, got, tc.want)
		}
	}
	s.wantKeys("", "artifact/ab/cdef")
}

func testDigests(t *testing.T, s *suite) {
	data := pattern(1<<20 + 11)
	want := map[pulp.Algorithm]hash.Hash{}
	stage := s.stage("")
	for a := range stage.Digests() {
		want[a] = a.New()
	}
	if want[pulp.SHA256] == nil {
		t.Fatal("there is no sha256")
	}
	check := func(size int) {
		t.Helper()
		if stage.Size() != int64(size) {
			t.Errorf("size = %d, want %d", stage.Size(), size)
		}
		d := pulp.Digests{}
		for a, h := range want {
			d[a] = hex.EncodeToString(h.Sum(nil))
		}
		if diff := cmp.Diff(d, stage.Digests()); diff != "" {
			t.Errorf("digests of %d bytes: -want +got:\n%s", size, diff)
		}
	}
	size := 0
	for _, n := range []int{1, 100, 64 << 10, 300 << 10} { // in pieces
		piece := data[size : size+n]
		for _, h := range want {
			h.Write(piece)
		}
		if m, err := stage.Write(piece); m != n || err != nil {
			t.Fatalf("Write = %d, %v", m, err)
		}
		size += n
		check(size)
	}
	rest := data[size:]
	for _, h := range want {
		h.Write(rest)
	}
	if n, err := io.Copy(stage, iotest.OneByteReader(bytes.NewReader(rest[:1000]))); n != 1000 || err != nil {
		t.Fatalf("Copy = %d, %v", n, err)
	}
	if n, err := io.Copy(stage, iotest.HalfReader(bytes.NewReader(rest[1000:]))); n != int64(len(rest)-1000) || err != nil {
		t.Fatalf("Copy = %d, %v", n, err)
	}
	check(len(data))
	if err := stage.Commit(t.Context(), "upload/1"); err != nil {
		t.Fatal(err)
	}
	check(len(data))
	if got := s.read("upload/1"); got != string(data) {
		t.Error("the content is not what was written")
	}
}

// A download that breaks off must not look like one that ended.
func testFailingSource(t *testing.T, s *suite) {
	for _, size := range []int{0, 5, 1 << 20} {
		for _, want := range []error{io.ErrUnexpectedEOF, errors.New("connection reset")} {
			data := pattern(size)
			stage := s.stage("")
			n, err := io.Copy(stage, io.MultiReader(bytes.NewReader(data), iotest.ErrReader(want)))
			if !errors.Is(err, want) || n != int64(size) || stage.Size() != n {
				t.Errorf("Copy of %d bytes and “%v”: %d, %v", size, want, n, err)
			}
			h := pulp.SHA256.New()
			h.Write(data)
			if got := stage.Digests()[pulp.SHA256]; got != hex.EncodeToString(h.Sum(nil)) {
				t.Errorf("sha256 of %d bytes and “%v”: %s", size, want, got)
			}
		}
	}
	s.wantKeys("")
}

func testReset(t *testing.T, s *suite) {
	stage := s.stage("the first half of")
	if err := stage.Reset(); err != nil {
		t.Fatal(err)
	}
	if stage.Size() != 0 {
		t.Errorf("size = %d after Reset", stage.Size())
	}
	if _, err := io.WriteString(stage, "hello"); err != nil {
		t.Fatal(err)
	}
	if got := stage.Digests()[pulp.SHA256]; got != "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" {
		t.Errorf("sha256 = %s", got)
	}
	if err := stage.Commit(t.Context(), "upload/1"); err != nil {
		t.Fatal(err)
	}
	if got := s.read("upload/1"); got != "hello" {
		t.Errorf("read %q, want hello", got)
	}
}

func testReader(t *testing.T, s *suite) {
	stage := s.stage("hello")
	r, err := stage.Reader()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "hello" {
		t.Errorf("read %q, %v, want hello", b, err)
	}
	if _, err := r.Seek(-2, io.SeekEnd); err != nil {
		t.Error(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "lo" {
		t.Errorf("read %q, %v, want lo", b, err)
	}
	at, ok := r.(io.ReaderAt)
	if !ok {
		t.Fatalf("%T is no io.ReaderAt", r)
	}
	var b [3]byte
	if n, err := at.ReadAt(b[:], 1); n != 3 || err != nil || string(b[:]) != "ell" {
		t.Errorf("ReadAt = %q, %v, want ell", b[:n], err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}

	// Reading does not disturb writing.
	if _, err := io.WriteString(stage, " world"); err != nil {
		t.Fatal(err)
	}
	if r, err = stage.Reader(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "hello world" {
		t.Errorf("read %q, %v, want all", b, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := stage.Commit(t.Context(), "upload/1"); err != nil {
		t.Fatal(err)
	}
	if got := s.read("upload/1"); got != "hello world" {
		t.Errorf("stored %q", got)
	}
}

func testClose(t *testing.T, s *suite) {
	stage := s.stage("hello")
	for range 2 {
		if err := stage.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if err := stage.Commit(t.Context(), "upload/1"); err == nil {
		t.Error("Commit after Close succeeds")
	}
	if _, err := io.WriteString(stage, "more"); err == nil {
		t.Error("Write after Close succeeds")
	}
	if _, err := stage.Reader(); err == nil {
		t.Error("Reader after Close succeeds")
	}
	s.wantMissing("upload/1")
	s.wantKeys("")
}

func testEnded(t *testing.T, s *suite) {
	stage := s.stage("hello")
	if err := stage.Commit(t.Context(), "upload/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stage, "more"); err == nil {
		t.Error("Write after Commit succeeds")
	}
	if err := stage.Reset(); err == nil {
		t.Error("Reset after Commit succeeds")
	}
	if err := stage.Commit(t.Context(), "upload/2"); err == nil {
		t.Error("a second Commit succeeds")
	}
	if err := stage.Close(); err != nil {
		t.Errorf("Close after Commit: %v", err)
	}
	if got := s.read("upload/1"); got != "hello" {
		t.Errorf("read %q, want hello", got)
	}
	s.wantKeys("", "upload/1")
}

func testFailedCommit(t *testing.T, s *suite) {
	stage := s.stage("hello")
	if err := stage.Commit(t.Context(), "../1"); err == nil {
		t.Fatal("Commit to ../1 succeeds")
	}
	if _, err := io.WriteString(stage, " world"); err != nil {
		t.Fatal(err)
	}
	if err := stage.Commit(t.Context(), "upload/1"); err != nil {
		t.Fatal(err)
	}
	if got := s.read("upload/1"); got != "hello world" {
		t.Errorf("read %q", got)
	}
}

func testList(t *testing.T, s *suite) {
	s.wantKeys("")
	s.wantKeys("artifact/")
	s.stage("not committed")
	var all, ab []string
	for i := range 20 {
		for _, dir := range []string{"ab", "ac"} {
			key := fmt.Sprintf("artifact/%s/%02d", dir, i)
			s.put(key, strings.Repeat("x", i))
			all = append(all, key)
			if dir == "ab" {
				ab = append(ab, key)
			}
		}
	}
	s.put("art", "x")
	s.put("upload/1", "x")
	s.wantKeys("", append([]string{"art", "upload/1"}, all...)...)
	s.wantKeys("a", append([]string{"art"}, all...)...)
	s.wantKeys("art", append([]string{"art"}, all...)...)
	s.wantKeys("arti", all...)
	s.wantKeys("artifact/", all...)
	s.wantKeys("artifact/a", all...)
	s.wantKeys("artifact/ab", ab...)
	s.wantKeys("artifact/ab/", ab...)
	s.wantKeys("artifact/ab/1", ab[10:]...)
	s.wantKeys("artifact/ab/10", "artifact/ab/10")
	for _, prefix := range []string{"artifact/ab/10/", "artifact/ad", "artifact//", "/", "/artifact", "..", "../", "artifact/../", "./", "\x00", "art/x"} {
		s.wantKeys(prefix)
	}

	err := s.List(t.Context(), "artifact/ab/07", func(i blob.Info) error {
		if i.Size != 7 || i.ModTime.IsZero() {
			t.Errorf("listed as %+v, want 7 bytes", i)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}

	stop, calls := errors.New("stop"), 0
	err = s.List(t.Context(), "", func(blob.Info) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("List = %v after %d calls, want to stop at the first", err, calls)
	}

	err = s.List(t.Context(), "artifact/ab", func(i blob.Info) error { return s.Delete(t.Context(), i.Key) })
	if err != nil {
		t.Error(err)
	}
	s.wantKeys("artifact/ab")
	s.wantKeys("artifact/ac", slices.DeleteFunc(all, func(k string) bool { return slices.Contains(ab, k) })...)
}

func testBadKeys(t *testing.T, s *suite) {
	for _, key := range []string{
		"", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/../b", "a/..", ".", "./a", "a/./b", "a/.", "a//b", "a/", "//", "a\x00b", "\x00",
		"\xff", "a/" + strings.Repeat("b", 256), strings.Repeat("a/", 600) + "a",
	} {
		stage := s.stage("x")
		if err := stage.Commit(t.Context(), key); !errs.Is(err, errs.Invalid) {
			t.Errorf("Commit to %.20q: %v, want invalid", key, err)
		}
		if err := stage.Close(); err != nil {
			t.Error(err)
		}
		if f, err := s.Open(t.Context(), key); !errs.Is(err, errs.Invalid) {
			t.Errorf("Open of %.20q: %v, want invalid", key, err)
			if err == nil {
				f.Close() //nolint:errcheck // it was only opened
			}
		}
		if _, err := s.Stat(t.Context(), key); !errs.Is(err, errs.Invalid) {
			t.Errorf("Stat of %.20q: %v, want invalid", key, err)
		}
		if err := s.Delete(t.Context(), key); !errs.Is(err, errs.Invalid) {
			t.Errorf("Delete of %.20q: %v, want invalid", key, err)
		}
	}
	s.wantKeys("")

	// These only look odd.
	odd := []string{"a/..b", "a/b..", "a/...", ".a/b", "a b/c", `a\b`, "a/%2e%2e/b", "ä/ö", "a/" + strings.Repeat("b", 255), "a:b/c", "~/x", "-rf"}
	for _, key := range odd {
		s.put(key, key)
		if got := s.read(key); got != key {
			t.Errorf("%q holds %q", key, got)
		}
	}
	s.wantKeys("", odd...)
}

func testCancelled(t *testing.T, s *suite) {
	s.put("upload/1", "x")
	stage := s.stage("x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := stage.Commit(ctx, "upload/2"); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit: %v", err)
	}
	if _, err := s.Stage(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Stage: %v", err)
	}
	if _, err := s.Open(ctx, "upload/1"); !errors.Is(err, context.Canceled) {
		t.Errorf("Open: %v", err)
	}
	if err := s.Delete(ctx, "upload/1"); !errors.Is(err, context.Canceled) {
		t.Errorf("Delete: %v", err)
	}
	if err := s.List(ctx, "", func(blob.Info) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("List: %v", err)
	}
	s.wantKeys("", "upload/1")
}

// testConcurrentCommits stores equal and different blobs from several goroutines, as downloads do.
func testConcurrentCommits(t *testing.T, s *suite) {
	var wg sync.WaitGroup
	var want []string
	for i := range 4 {
		want = append(want, fmt.Sprintf("artifact/%02d/x", i))
	}
	for range 8 {
		wg.Go(func() {
			for _, key := range want {
				stage, err := s.Stage(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				_, err = io.WriteString(stage, strings.Repeat(key, 1000))
				if err = errors.Join(err, stage.Commit(t.Context(), key), stage.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, key := range want {
		if s.read(key) != strings.Repeat(key, 1000) {
			t.Errorf("%s has wrong content", key)
		}
	}
	s.wantKeys("", want...)
}

// testAtomic reads a key while it is committed with changing sizes, and deleted: each read sees one whole blob or none.
func testAtomic(t *testing.T, s *suite) {
	const key = "artifact/ab/cdef"
	blobs := map[string]bool{}
	for i := range 10 {
		blobs[strings.Repeat(string(rune('a'+i)), 50_000+i)] = true
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				f, err := s.Open(t.Context(), key)
				if errs.Is(err, errs.NotFound) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(f)
				f.Close() //nolint:errcheck // it was only read
				// A store elsewhere may find out late that the blob is gone, but must not serve another's bytes.
				if err == nil && !blobs[string(b)] {
					t.Errorf("read %d bytes that were never committed as one blob", len(b))
					return
				}
			}
		})
	}
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			for content := range blobs {
				stage, err := s.Stage(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				_, err = io.WriteString(stage, content)
				if err = errors.Join(err, stage.Commit(t.Context(), key), stage.Close()); err != nil {
					t.Error(err)
				}
				if len(content)%3 == 0 {
					if err := s.Delete(t.Context(), key); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

// testBig checks that a blob passes through in pieces.
func testBig(t *testing.T, s *suite) {
	const size, limit = 64 << 20, 24 << 20
	piece := pattern(1 << 20)
	sum := pulp.SHA256.New()

	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	watch := func(what string) {
		t.Helper()
		runtime.ReadMemStats(&now)
		if grown := int64(now.HeapAlloc) - int64(before.HeapAlloc); grown > limit {
			t.Fatalf("%s: the heap has grown by %d MiB", what, grown>>20)
		}
	}

	stage := s.stage("")
	for range size / len(piece) {
		sum.Write(piece)
		if _, err := stage.Write(piece); err != nil {
			t.Fatal(err)
		}
		watch("writing")
	}
	want := hex.EncodeToString(sum.Sum(nil))
	if got := stage.Digests()[pulp.SHA256]; got != want {
		t.Errorf("sha256 = %s, want %s", got, want)
	}
	if err := stage.Commit(t.Context(), "artifact/ab/big"); err != nil {
		t.Fatal(err)
	}
	watch("after Commit")

	f, err := s.Open(t.Context(), "artifact/ab/big")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	sum.Reset()
	for {
		n, err := io.CopyN(sum, f, 1<<20)
		watch("reading")
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want || f.Info().Size != size {
		t.Errorf("read sha256 = %s, want %s; size %d", got, want, f.Info().Size)
	}
}

// pattern returns bytes whose every part differs from the others.
func pattern(size int) []byte {
	b := make([]byte, 0, size+8)
	for i := 0; len(b) < size; i++ {
		b = fmt.Appendf(b, "%d,", i)
	}
	return b[:size]
}
