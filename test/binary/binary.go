// Package binary builds the granary binary once and runs it, for tests from outside.
package binary

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	once     sync.Once
	path     string
	buildErr error
)

// Path builds the binary, once for a test process, and returns where it is. GRANARY_BINARY names one to use instead.
func Path(tb testing.TB) string {
	tb.Helper()
	once.Do(func() {
		if path = os.Getenv("GRANARY_BINARY"); path != "" {
			return
		}
		dir, err := os.MkdirTemp("", "granary-binary-")
		if err != nil {
			buildErr = err
			return
		}
		path = filepath.Join(dir, "granary")
		cmd := exec.Command("go", "build", "-o", path, "./cmd/granary") //nolint:gosec // our own
		cmd.Dir = Root()
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			buildErr = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if buildErr != nil {
		tb.Fatal(buildErr)
	}
	return path
}

// Root returns the project's top folder.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Password is the password of the user admin of every server that Start starts.
const Password = "password"

// A Server is a running granary server.
type Server struct {
	URL  string // "http://127.0.0.1:12345"
	Data string // the data folder

	tb   testing.TB
	cmd  *exec.Cmd
	log  lockedBuffer
	done chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var listens = regexp.MustCompile(`listens on (http://[^/]+)/`)

// Start starts a server on the data folder, on a free port, and waits until it answers. It is stopped when the test ends.
// environ adds variables, as "PULP_WORKERS=4".
func Start(tb testing.TB, data string, environ ...string) *Server {
	tb.Helper()
	s := &Server{Data: data, tb: tb, done: make(chan error, 1)}
	s.cmd = exec.Command(Path(tb), "server", "--data", data, "--listen", "127.0.0.1:0") //nolint:gosec // our own
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "PULP_DEFAULT_ADMIN_PASSWORD=" + Password}, environ...)
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	s.cmd.Stderr = &s.log
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	url := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			_, _ = io.WriteString(&s.log, lines.Text()+"\n")
			if m := listens.FindStringSubmatch(lines.Text()); m != nil {
				url <- m[1]
			}
		}
		s.done <- s.cmd.Wait()
	}()
	tb.Cleanup(func() {
		s.Stop()
		if tb.Failed() {
			tb.Logf("log of the server:\n%s", tail(s.log.String(), 60))
		}
	})
	select {
	case s.URL = <-url:
	case err := <-s.done:
		s.done <- err
		tb.Fatalf("the server did not start: %v\n%s", err, s.log.String())
	case <-time.After(30 * time.Second):
		tb.Fatalf("the server does not say where it listens\n%s", s.log.String())
	}
	return s
}

func tail(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Log returns what the server has printed.
func (s *Server) Log() string { return s.log.String() }

// PID returns the server's process id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Kill ends the server as kill -9 does.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	err := <-s.done
	s.done <- err
}

// Stop ends the server as its users do, and waits for it. It returns what the process ended with.
func (s *Server) Stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-s.done:
		s.done <- err
		return err
	case <-time.After(30 * time.Second):
		s.Kill()
		return errors.New("the server did not stop within 30 s")
	}
}

// Do sends a request as admin and returns the status and the body.
func (s *Server) Do(ctx context.Context, method, path string, body io.Reader, header ...string) (int, []byte, error) {
	url := path
	if strings.HasPrefix(path, "/") {
		url = s.URL + path
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, nil, err
	}
	req.SetBasicAuth("admin", Password)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// JSON sends a JSON body (nil for none) and decodes a JSON answer. Any status of 400 and above is an error.
func (s *Server) JSON(ctx context.Context, method, path string, body any) (map[string]any, error) {
	var in io.Reader
	var header []string
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in, header = bytes.NewReader(b), []string{"Content-Type", "application/json"}
	}
	status, b, err := s.Do(ctx, method, path, in, header...)
	if err != nil {
		return nil, err
	}
	if status >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s %s: %d %s", method, path, status, b)
	}
	var m map[string]any
	if len(b) > 0 {
		err = json.Unmarshal(b, &m)
	}
	return m, err
}

// Wait waits until a task is done and returns it.
func (s *Server) Wait(ctx context.Context, href string) (map[string]any, error) {
	for {
		t, err := s.JSON(ctx, http.MethodGet, href, nil)
		if err != nil {
			return nil, err
		}
		switch t["state"] {
		case "completed", "failed", "canceled", "skipped":
			return t, nil
		}
		select {
		case <-ctx.Done():
			return t, fmt.Errorf("task %s is still %v: %w", href, t["state"], ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
