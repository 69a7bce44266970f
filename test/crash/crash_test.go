// Package crash kills the server at random moments of its work, and looks at what is left.
package crash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"granary/test/binary"
)

// roundsEnv says how often the server is killed; 5 times where it is unset.
const roundsEnv = "GRANARY_CRASH_ROUNDS"

func rounds(t *testing.T) int {
	t.Helper()
	if s := os.Getenv(roundsEnv); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 5
}

const api = "/pulp/api/v3/"

// TestKill uploads and syncs while the server is killed again and again. After each restart no task may run any more,
// what is served must have the digest that it is listed with, and orphan cleanup must leave no file that no row knows.
func TestKill(t *testing.T) {
	data := t.TempDir()
	upstream := httptest.NewServer(http.HandlerFunc(serveFiles))
	defer upstream.Close()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's dice
	for round := range rounds(t) {
		s := binary.Start(t, data)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		check(ctx, t, s, round)
		if t.Failed() {
			cancel()
			return
		}
		var wg sync.WaitGroup
		work, stop := context.WithCancel(ctx)
		for w := range 3 {
			wg.Go(func() { upload(work, s, round*10+w) })
		}
		wg.Go(func() { syncAll(work, s, upstream.URL, round) })
		time.Sleep(time.Duration(dice.IntN(700)) * time.Millisecond)
		s.Kill()
		stop()
		wg.Wait()
		cancel()
	}
	s := binary.Start(t, data)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	check(ctx, t, s, -1)
	noStrays(ctx, t, s)
	if err := s.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// content returns the bytes of the n-th file: some small, some of a few MB.
func content(n int) []byte {
	size := 1000 + n*37%5000
	if n%7 == 0 {
		size = 3 << 20
	}
	b := make([]byte, size)
	src := rand.New(rand.NewPCG(uint64(n), 1)) //nolint:gosec // as above
	for i := range b {
		b[i] = byte(src.Uint32())
	}
	return b
}

// serveFiles serves /<round>/PULP_MANIFEST with 40 files, of which half are new in each round.
func serveFiles(w http.ResponseWriter, r *http.Request) {
	var round, n int
	if strings.HasSuffix(r.URL.Path, "PULP_MANIFEST") {
		if _, err := fmt.Sscanf(r.URL.Path, "/%d/", &round); err != nil {
			http.NotFound(w, r)
			return
		}
		for i := range 40 {
			b := content(1000 + round*20 + i)
			sum := sha256.Sum256(b)
			fmt.Fprintf(w, "f%d,%s,%d\n", i, hex.EncodeToString(sum[:]), len(b))
		}
		return
	}
	if _, err := fmt.Sscanf(r.URL.Path, "/%d/f%d", &round, &n); err != nil {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(content(1000 + round*20 + n))
}

// upload uploads files, whole and in pieces, until the server is gone.
func upload(ctx context.Context, s *binary.Server, seed int) {
	for i := 0; ctx.Err() == nil; i++ {
		data := content(seed*100 + i)
		var err error
		if i%2 == 0 {
			err = post(ctx, s, http.MethodPost, api+"content/file/files/", data, map[string]string{"relative_path": fmt.Sprintf("u%d/%d", seed, i)}, "")
		} else {
			err = chunked(ctx, s, data, fmt.Sprintf("c%d/%d", seed, i))
		}
		if err != nil {
			return
		}
	}
}

func chunked(ctx context.Context, s *binary.Server, data []byte, path string) error {
	up, err := s.JSON(ctx, http.MethodPost, api+"uploads/", map[string]any{"size": len(data)})
	if err != nil {
		return err
	}
	href := up["pulp_href"].(string)
	for at := 0; at < len(data); at += 1 << 20 {
		piece := data[at:min(len(data), at+1<<20)]
		if err := post(ctx, s, http.MethodPut, href, piece, nil, fmt.Sprintf("bytes %d-%d/%d", at, at+len(piece)-1, len(data))); err != nil {
			return err
		}
	}
	_, err = s.JSON(ctx, http.MethodPost, api+"content/file/files/", map[string]any{"upload": href, "relative_path": path})
	return err
}

func post(ctx context.Context, s *binary.Server, method, path string, data []byte, fields map[string]string, contentRange string) error {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for k, v := range fields {
		if err := form.WriteField(k, v); err != nil {
			return err
		}
	}
	part, err := form.CreateFormFile("file", "f")
	if err != nil {
		return err
	}
	if _, err := part.Write(data); err != nil {
		return err
	}
	if err := form.Close(); err != nil {
		return err
	}
	status, b, err := s.Do(ctx, method, path, &body, "Content-Type", form.FormDataContentType(), "Content-Range", contentRange)
	if err == nil && status >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %d %s", method, path, status, b)
	}
	return err
}

// syncAll syncs into one repository, which is published at every new version and served.
func syncAll(ctx context.Context, s *binary.Server, upstream string, round int) {
	name := func(kind string) string { return fmt.Sprintf("%s-%d", kind, round) }
	remote, err := s.JSON(ctx, http.MethodPost, api+"remotes/file/file/", map[string]any{"name": name("r"), "url": fmt.Sprintf("%s/%d/PULP_MANIFEST", upstream, round)})
	if err != nil {
		return
	}
	found, err := s.JSON(ctx, http.MethodGet, api+"repositories/file/file/?name=crash", nil)
	if err != nil {
		return
	}
	var repo string
	if list := found["results"].([]any); len(list) > 0 {
		repo = list[0].(map[string]any)["pulp_href"].(string)
	} else {
		made, err := s.JSON(ctx, http.MethodPost, api+"repositories/file/file/", map[string]any{"name": "crash", "autopublish": true})
		if err != nil {
			return
		}
		repo = made["pulp_href"].(string)
		_, _ = s.JSON(ctx, http.MethodPost, api+"distributions/file/file/", map[string]any{"name": "crash", "base_path": "crash", "repository": repo})
	}
	for ctx.Err() == nil {
		if _, err := s.JSON(ctx, http.MethodPost, repo+"sync/", map[string]any{"remote": remote["pulp_href"], "mirror": round%3 == 0}); err != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// check looks at a server that was started after a crash.
func check(ctx context.Context, t *testing.T, s *binary.Server, round int) {
	t.Helper()
	tasks, err := s.JSON(ctx, http.MethodGet, api+"tasks/?state__in=running,canceling&limit=1000", nil)
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	for _, x := range tasks["results"].([]any) { // those that waited when the server died run now, and end
		task := x.(map[string]any)
		if _, err := s.Wait(ctx, task["pulp_href"].(string)); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
	for {
		waiting, err := s.JSON(ctx, http.MethodGet, api+"tasks/?state__in=waiting,running,canceling&limit=1", nil)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if waiting["count"] == 0.0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	status, listing, err := s.Do(ctx, http.MethodGet, "/pulp/content/crash/PULP_MANIFEST", nil)
	if err != nil || status == http.StatusNotFound { // nothing was published yet
		return
	}
	for line := range strings.Lines(string(listing)) {
		parts := strings.Split(strings.TrimSpace(line), ",")
		if len(parts) != 3 {
			t.Fatalf("round %d: manifest line %q", round, line)
		}
		_, body, err := s.Do(ctx, http.MethodGet, "/pulp/content/crash/"+parts[0], nil)
		sum := sha256.Sum256(body)
		if err != nil || hex.EncodeToString(sum[:]) != parts[1] {
			t.Errorf("round %d: %s is served with %d wrong bytes, %v", round, parts[0], len(body), err)
		}
	}
}

// noStrays runs orphan cleanup and compares the store's files with the artifacts that are left.
func noStrays(ctx context.Context, t *testing.T, s *binary.Server) {
	t.Helper()
	out, err := s.JSON(ctx, http.MethodPost, api+"orphans/cleanup/", map[string]any{"orphan_protection_time": 0})
	if err != nil {
		t.Fatal(err)
	}
	if task, err := s.Wait(ctx, out["task"].(string)); err != nil || task["state"] != "completed" {
		t.Fatalf("orphan cleanup: %v, %v", task, err)
	}
	known := map[string]bool{}
	arts, err := s.JSON(ctx, http.MethodGet, api+"artifacts/?limit=100000&fields=file", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range arts["results"].([]any) {
		known[a.(map[string]any)["file"].(string)] = true
	}
	media := filepath.Join(s.Data, "media")
	pieces := 0
	err = filepath.WalkDir(media, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(media, path)
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(rel, "upload/"):
			pieces++
		case !known[rel]:
			t.Errorf("stray file %s", rel)
		}
		delete(known, rel)
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for file := range known {
		t.Errorf("artifact %s has no file", file)
	}
	uploads, err := s.JSON(ctx, http.MethodGet, api+"uploads/?limit=100000", nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, u := range uploads["results"].([]any) {
		detail, err := s.JSON(ctx, http.MethodGet, u.(map[string]any)["pulp_href"].(string), nil)
		if err != nil {
			t.Fatal(err)
		}
		rows += len(detail["chunks"].([]any))
	}
	if pieces != rows {
		t.Errorf("%d files of upload pieces, %d rows", pieces, rows)
	}
	left, err := filepath.Glob(filepath.Join(s.Data, "tmp", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if info, err := os.Stat(f); err == nil && !info.IsDir() {
			t.Errorf("temporary file %s", f)
		}
	}
}
