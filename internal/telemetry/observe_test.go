package telemetry_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/task"
	"granary/internal/telemetry"
)

// A sink keeps what is written to it.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// running runs Lines until the test is done with them: the function that it returns ends that.
func running(t *testing.T, w io.Writer) (*telemetry.Lines, func()) {
	t.Helper()
	lines := telemetry.NewLines(w)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- lines.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return lines, stop
}

func now() time.Time { return time.Date(2026, 11, 22, 4, 40, 38, 0, time.UTC) }

func TestAccessLines(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Correlation-ID", "1234")
		r.URL.Path = "/changed"
		switch r.URL.Query().Get("do") {
		case "nothing":
		case "early":
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusTeapot)
		case "panic":
			panic(http.ErrAbortHandler)
		default:
			_, _ = io.WriteString(w, "hello")
		}
	})
	for _, tc := range []struct {
		name      string
		form      telemetry.Form
		uri       string
		header    http.Header
		want      string
		wantPanic bool
	}{
		{"API", telemetry.APIForm, "/pulp/api/v3/status/?a=b", http.Header{"Authorization": {"Basic YWRtaW46cGFzc3dvcmQ="}, "Referer": {"http://x/"}, "User-Agent": {"curl/8"}}, `pulp [1234]: 192.0.2.1 - admin [22/Nov/2026:04:40:38 +0000] "GET /pulp/api/v3/status/?a=b HTTP/1.1" 200 5 "http://x/" "curl/8"`, false},
		{"API, with nothing known", telemetry.APIForm, "/?do=nothing", nil, `pulp [1234]: 192.0.2.1 - - [22/Nov/2026:04:40:38 +0000] "GET /?do=nothing HTTP/1.1" 200 0 "-" "-"`, false},
		{"content", telemetry.ContentForm, "/pulp/content/x", http.Header{"User-Agent": {"dnf"}}, `192.0.2.1 [22/Nov/2026:04:40:38 +0000] "GET /pulp/content/x HTTP/1.1" 200 5 "-" "dnf"`, false},
		{"hints are no answer", telemetry.ContentForm, "/?do=early", nil, `192.0.2.1 [22/Nov/2026:04:40:38 +0000] "GET /?do=early HTTP/1.1" 418 0 "-" "-"`, false},
		{"a broken answer", telemetry.ContentForm, "/?do=panic", nil, `192.0.2.1 [22/Nov/2026:04:40:38 +0000] "GET /?do=panic HTTP/1.1" 500 0 "-" "-"`, true},
		{"nobody breaks out of the line", telemetry.APIForm, "/", http.Header{"User-Agent": {"a\"\n\\\x1b"}, "Authorization": {"Basic " + "YSJiCmM6eA=="}}, `pulp [1234]: 192.0.2.1 - a\"b\x0ac [22/Nov/2026:04:40:38 +0000] "GET / HTTP/1.1" 200 5 "-" "a\"\x0a\\\x1b"`, false},
		{"wrong credentials", telemetry.APIForm, "/", http.Header{"Authorization": {"Basic !"}}, `pulp [1234]: 192.0.2.1 - - [22/Nov/2026:04:40:38 +0000] "GET / HTTP/1.1" 200 5 "-" "-"`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := &sink{}
			lines, stop := running(t, out)
			o := &telemetry.Observer{Lines: lines, Form: tc.form, Now: now}
			r := httptest.NewRequest("GET", tc.uri, nil)
			r.Header = tc.header
			func() {
				defer func() {
					if p := recover(); (p != nil) != tc.wantPanic {
						t.Errorf("panic = %v", p)
					}
				}()
				o.Wrap(answer).ServeHTTP(httptest.NewRecorder(), r)
			}()
			stop()
			if diff := cmp.Diff(tc.want+"\n", out.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestObserverKeepsPowers: what content serving needs of a ResponseWriter is there behind the observer.
func TestObserverKeepsPowers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out := &sink{}
	lines, stop := running(t, out)
	o := &telemetry.Observer{Lines: lines, Form: telemetry.ContentForm, Now: now}
	server := httptest.NewServer(o.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := w.(io.ReaderFrom); !ok {
			t.Error("no io.ReaderFrom")
		}
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Error(err)
		}
		if r.URL.Path == "/flush" {
			_, _ = io.WriteString(w, "first\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		f, err := os.Open(filepath.Clean(file))
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = f.Close() }()
		if _, err := io.Copy(w, f); err != nil {
			t.Error(err)
		}
	})))
	resp, err := server.Client().Get(server.URL + "/file")
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n != 1<<20 {
		t.Errorf("read %d bytes, %v", n, err)
	}
	_ = resp.Body.Close()

	resp, err = server.Client().Get(server.URL + "/flush")
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); line != "first\n" || err != nil {
		t.Errorf("flushed %q, %v", line, err)
	}
	_ = resp.Body.Close()
	server.Close()
	stop()
	if !strings.Contains(out.String(), `"GET /file HTTP/1.1" 200 1048576 `) {
		t.Errorf("bytes of a file are not counted: %s", out.String())
	}
}

// TestLinesAreLate: a line waits for others, but not long; none is lost at the end.
func TestLinesAreLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{}
		lines, stop := running(t, out)
		h := (&telemetry.Observer{Lines: lines, Form: telemetry.ContentForm, Now: now}).Wrap(http.NotFoundHandler())
		ask := func() { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)) }
		count := func() int { return strings.Count(out.String(), "\n") }
		ask()
		ask()
		synctest.Wait()
		if n := count(); n != 0 {
			t.Errorf("%d lines at once, want 0", n)
		}
		time.Sleep(time.Second)
		if n := count(); n != 2 {
			t.Errorf("%d lines a second later, want 2", n)
		}
		ask()
		stop()
		if n := count(); n != 3 {
			t.Errorf("%d lines at the end, want 3", n)
		}
	})
}

// A stuck writer takes nothing until it is let go.
type stuck struct {
	sink
	free chan struct{}
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.free
	return s.sink.Write(p)
}

// TestLinesNeverBlock: requests go on when nobody takes the log; what had no room is counted.
func TestLinesNeverBlock(t *testing.T) {
	out := &stuck{free: make(chan struct{})}
	lines, stop := running(t, out)
	h := (&telemetry.Observer{Lines: lines, Form: telemetry.ContentForm, Now: now}).Wrap(http.NotFoundHandler())
	r := httptest.NewRequest("GET", "/"+strings.Repeat("x", 4000), nil)
	for range 4000 {
		h.ServeHTTP(discard{}, r)
	}
	close(out.free)
	stop()
	written, lost := 0, 0
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "192.0.2.1 [") {
			written++
			continue
		}
		if _, err := fmt.Sscanf(line, "%d lines were dropped", &lost); err != nil {
			t.Errorf("unexpected line %.80q", line)
		}
	}
	if lost == 0 || written+lost != 4000 {
		t.Errorf("%d lines written, %d dropped; want 4000 in all, and some dropped", written, lost)
	}
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

func TestMetrics(t *testing.T) {
	var failing error
	m := telemetry.NewMetrics(telemetry.MetricsConfig{
		Version: "1.2.3",
		Tasks: func(context.Context) (task.Stats, error) {
			return task.Stats{Unblocked: 3, Longest: 1500 * time.Millisecond}, failing
		},
		DB: func() sql.DBStats {
			return sql.DBStats{OpenConnections: 4, InUse: 1, MaxOpenConnections: 16, WaitCount: 7, WaitDuration: time.Second}
		},
	})
	at := now()
	clock := func() time.Time { at = at.Add(20 * time.Millisecond); return at }
	h := (&telemetry.Observer{Metrics: m, Role: "api", Now: clock}).Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.Error(w, "no", http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, "hello")
	}))
	for _, path := range []string{"/", "/", "/x"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	scrape := func() string {
		rec := httptest.NewRecorder()
		m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
		return rec.Body.String()
	}
	got := scrape()
	for _, want := range []string{
		`granary_http_request_duration_seconds_count{role="api",status="2xx"} 2`,
		`granary_http_request_duration_seconds_bucket{role="api",status="2xx",le="0.01"} 0`,
		`granary_http_request_duration_seconds_bucket{role="api",status="2xx",le="0.025"} 2`,
		`granary_http_request_duration_seconds_count{role="api",status="4xx"} 1`,
		`granary_http_requests_running{role="api"} 0`,
		`granary_http_response_bytes_total{role="api"} 13`,
		`granary_info{version="1.2.3"} 1`,
		`granary_tasks_unblocked_queue 3`,
		`granary_tasks_longest_unblocked_seconds 1.5`,
		`granary_db_connections_in_use 1`,
		`granary_db_waits_total 7`,
		`go_goroutines `,
	} {
		if !strings.Contains(got, "\n"+want) {
			t.Errorf("no line %q", want)
		}
	}
	failing = io.ErrUnexpectedEOF // the others must still be there
	if got := scrape(); strings.Contains(got, "granary_tasks_unblocked_queue 3") || !strings.Contains(got, "granary_db_waits_total 7") {
		t.Error("a figure that cannot be had takes others with it, or is told all the same")
	}
}

func TestDebugIsLocal(t *testing.T) {
	for addr, want := range map[string]int{
		"127.0.0.1:5": 200, "[::1]:5": 200, "@": 200, "": 200, "192.0.2.1:5": 403, "[2001:db8::1]:5": 403, "localhost:5": 403,
	} {
		r := httptest.NewRequest("GET", "/debug/pprof/", nil)
		r.RemoteAddr = addr
		rec := httptest.NewRecorder()
		telemetry.Debug().ServeHTTP(rec, r)
		if rec.Code != want {
			t.Errorf("a client at %q gets %d, want %d", addr, rec.Code, want)
		}
	}
}

// BenchmarkObserver: what watching costs a request.
func BenchmarkObserver(b *testing.B) {
	lines := telemetry.NewLines(io.Discard)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- lines.Run(ctx) }()
	m := telemetry.NewMetrics(telemetry.MetricsConfig{})
	h := (&telemetry.Observer{Metrics: m, Role: "content", Lines: lines, Form: telemetry.ContentForm, Now: time.Now}).Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r := httptest.NewRequest("GET", "/pulp/content/some/path/to/a/file.rpm", nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(discard{}, r)
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
