package download_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"granary/internal/blob"
	"granary/internal/blob/file"
	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pulp"
)

var content = bytes.Repeat([]byte("0123456789abcdef"), 40_000) // larger than all buffers

func sums(b []byte) pulp.Digests {
	return pulp.Digests{
		pulp.SHA256: fmt.Sprintf("%x", sha256.Sum256(b)),
		pulp.SHA512: fmt.Sprintf("%x", sha512.Sum512(b)),
	}
}

// quick are options with which retries do not wait; waits are recorded.
func quick(waits *[]time.Duration) download.Options {
	var mu sync.Mutex
	return download.Options{
		UserAgent: "granary/1 (test)",
		Jitter:    func(limit time.Duration) time.Duration { return limit },
		Sleep: func(ctx context.Context, d time.Duration) error {
			mu.Lock()
			defer mu.Unlock()
			if waits != nil {
				*waits = append(*waits, d)
			}
			return ctx.Err()
		},
	}
}

func newClient(t *testing.T, remote pulp.Remote, o download.Options) *download.Client {
	t.Helper()
	c, err := download.New(remote, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// newStage returns a stage that computes two digests.
func newStage(t *testing.T) blob.Stage {
	t.Helper()
	store, err := file.New(t.TempDir(), t.TempDir(), []pulp.Algorithm{pulp.SHA256, pulp.SHA512})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	s, err := store.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func staged(t *testing.T, s blob.Stage) []byte {
	t.Helper()
	r, err := s.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// serve starts a server and counts its requests.
func serve(t *testing.T, h http.HandlerFunc) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		h(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, requests
}

// inTurn answers each request with the next handler, and repeats the last one.
func inTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		handlers[min(int(n.Add(1))-1, len(handlers)-1)](w, r)
	}
}

func answer(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		w.Write(b)
	}
}

// cut announces all bytes, sends n and closes the connection.
func cut(b []byte, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		w.Write(b[:n])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// reason returns the reason of a download's failure, 0 if it is none.
func reason(err error) download.Reason {
	if e, ok := errors.AsType[*download.Error](err); ok {
		return e.Reason
	}
	return 0
}

func TestGetStoresTheFile(t *testing.T) {
	url, n := serve(t, answer(content))
	s := newStage(t)
	s.Write([]byte("left by somebody else"))
	resp, err := newClient(t, pulp.Remote{}, download.Options{}).Get(t.Context(), download.Request{
		URL: url + "/a/b", Size: int64(len(content)), Digests: sums(content), MaxSize: int64(len(content)),
	}, s)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(staged(t, s), content) {
		t.Error("the stage does not hold the file")
	}
	if resp.Size != int64(len(content)) || resp.Status != 200 || resp.URL != url+"/a/b" || resp.Encoded ||
		resp.Digests[pulp.SHA512] != sums(content)[pulp.SHA512] || resp.Header.Get("Date") == "" {
		t.Errorf("response %+v", resp)
	}
	if n.Load() != 1 {
		t.Errorf("%d requests, want 1", n.Load())
	}
}

func TestRepeatsUntilTheFileIsRight(t *testing.T) {
	url, n := serve(t, inTurn(cut(content, len(content)/2), answer(flipped(content)), status(429), answer(content)))
	var waits []time.Duration
	s := newStage(t)
	_, err := newClient(t, pulp.Remote{}, quick(&waits)).Get(t.Context(), download.Request{URL: url, Digests: sums(content)}, s)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(staged(t, s), content) {
		t.Error("the stage does not hold the file")
	}
	if n.Load() != 4 {
		t.Errorf("%d requests, want 4", n.Load())
	}
	if got, want := fmt.Sprint(waits), "[1s 2s 4s]"; got != want {
		t.Errorf("waits at most %s, want %s", got, want)
	}
}

func TestFailures(t *testing.T) {
	short := []byte("abc")
	other := "0000000000000000000000000000000000000000000000000000000000000000"
	abc := sums(short)[pulp.SHA256]
	for _, tc := range []struct {
		name     string
		handler  http.HandlerFunc
		path     string
		size     int64
		digests  pulp.Digests
		reason   download.Reason
		text     string // with URL for the server's
		requests int64
	}{
		{"server error", status(500), "/x", 0, nil, download.Status, "500, message='Internal Server Error', url='URL/x'", 4},
		{"overload", status(503), "/x", 0, nil, download.Status, "503, message='Service Unavailable', url='URL/x'", 4},
		{"too many requests", status(429), "/x", 0, nil, download.Status, "429, message='Too Many Requests', url='URL/x'", 4},
		{"not found", status(404), "/x?a=b", 0, nil, download.Status, "404, message='Not Found', url='URL/x?a=b'", 1},
		{"forbidden", status(403), "/x", 0, nil, download.Status, "403, message='Forbidden', url='URL/x'", 1},
		{"unauthorized", status(401), "/x", 0, nil, download.Status, "401, message='Unauthorized', url='URL/x'", 1},
		{"gone", status(410), "/it's", 0, nil, download.Status, `410, message='Gone', url="URL/it's"`, 1},
		{"not modified", status(304), "/x", 0, nil, download.Status, "304, message='Not Modified', url='URL/x'", 1},
		{"part that nobody asked for", status(206), "/x", 0, nil, download.Status, "206, message='Partial Content', url='URL/x'", 1},
		{"redirect to nowhere", status(302), "/x", 0, nil, download.Status, "302, message='Found', url='URL/x'", 1},
		{"wrong digest", answer(short), "/a b", 0, pulp.Digests{pulp.SHA256: other}, download.Checksum, "A file located at the url URL/a b failed validation due to checksum. Expected '" + other + "', Actual '" + abc + "'", 4},
		{"digest in capitals", answer(short), "/x", 0, pulp.Digests{pulp.SHA256: strings.ToUpper(abc)}, download.Checksum, "A file located at the url URL/x failed validation due to checksum. Expected '" + strings.ToUpper(abc) + "', Actual '" + abc + "'", 4},
		{"wrong digest that the stage does not know", answer(short), "/x", 0, pulp.Digests{pulp.SHA256: abc, pulp.MD5: "00"}, download.Checksum, "A file located at the url URL/x failed validation due to checksum. Expected '00', Actual '900150983cd24fb0d6963f7d28e17f72'", 4},
		{"too short", answer(short), "/x", 4, pulp.Digests{pulp.SHA256: abc}, download.Size, "A file located at the url URL/x failed validation due to size. Expected '4', Actual '3'", 4},
		{"too long", answer(short), "/x", 2, nil, download.Size, "A file located at the url URL/x failed validation due to size. Expected '2', Actual '3'", 4},
		{"half", cut(short, 1), "/x", 0, nil, download.Broken, "Response payload is not completed", 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			url, n := serve(t, tc.handler)
			_, err := newClient(t, pulp.Remote{}, quick(nil)).Get(t.Context(), download.Request{URL: url + tc.path, Size: tc.size, Digests: tc.digests}, newStage(t))
			want := strings.ReplaceAll(tc.text, "URL", url)
			if reason(err) != tc.reason || errs.Describe(err) != want || errs.KindOf(err) != errs.Remote {
				t.Errorf("got  %v %v\nwant %v %s", reason(err), errs.Describe(err), tc.reason, want)
			}
			if n.Load() != tc.requests {
				t.Errorf("%d requests, want %d", n.Load(), tc.requests)
			}
		})
	}
}

// TestServersThatAreNone has servers that break off or speak something else.
func TestServersThatAreNone(t *testing.T) {
	for _, tc := range []struct{ name, says, want string }{
		{"hangs up", "", "Server disconnected"},
		{"speaks something else", "SSH-2.0-OpenSSH_9\r\n\r\n", "No valid answer from URL/x"},
		{"its own reason", "HTTP/1.1 404 It's \"gone\"\r\nContent-Length: 0\r\n\r\n", `404, message='It\'s "gone"', url='URL/x'`},
		{"no reason", "HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", `404, message='', url='URL/x'`},
		{"broken chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", "Response payload is not completed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			t.Cleanup(func() { ln.Close(); wg.Wait() })
			wg.Go(func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					io.ReadAtLeast(conn, make([]byte, 1000), 10)
					io.WriteString(conn, tc.says)
					conn.Close()
				}
			})
			url := "http://" + ln.Addr().String()
			_, _, err = newClient(t, pulp.Remote{}, quick(nil)).Bytes(t.Context(), download.Request{URL: url + "/x"})
			if got, want := errs.Describe(err), strings.ReplaceAll(tc.want, "URL", url); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestNoConnection(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().(*net.TCPAddr)
	ln.Close()
	var waits []time.Duration
	_, _, err = newClient(t, pulp.Remote{}, quick(&waits)).Bytes(t.Context(), download.Request{URL: "http://" + addr.String() + "/x"})
	want := fmt.Sprintf("Cannot connect to host 127.0.0.1:%d ssl:default [Connect call failed ('127.0.0.1', %d)]", addr.Port, addr.Port)
	if reason(err) != download.Connection || errs.Describe(err) != want || len(waits) != 3 {
		t.Errorf("%v after %d waits, want %s after 3", err, len(waits), want)
	}

	o := quick(nil)
	o.Dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "up.invalid", IsNotFound: true}}
	}
	_, _, err = newClient(t, pulp.Remote{}, o).Bytes(t.Context(), download.Request{URL: "https://up.invalid/x"})
	if got, want := errs.Describe(err), "Cannot connect to host up.invalid:443 ssl:default [Domain name not found]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRequestsThatAreNotSent(t *testing.T) {
	for _, tc := range []struct {
		request download.Request
		reason  download.Reason
		want    string
	}{
		{download.Request{URL: "ftp://u:p@h/x"}, download.Scheme, "URL: ftp://***@h/x not supported."},
		{download.Request{URL: "nonsense"}, download.Scheme, "URL: nonsense not supported."},
		{download.Request{URL: "http:///x"}, download.Scheme, "URL: http:///x is not valid."},
		{download.Request{URL: "http://h:abc/x"}, download.Scheme, "URL: http://h:abc/x is not valid."},
		{download.Request{URL: "http:x"}, download.Scheme, "URL: http:x is not valid."},
		{
			download.Request{URL: "http://h/x", Digests: pulp.Digests{pulp.MD5: "00", pulp.SHA1: "00"}},
			download.Untrusted,
			"Content at the URL 'http://h/x' does not contain at least one trusted hasher which is specified in the 'ALLOWED_CONTENT_CHECKSUMS' setting. It is known by: md5, sha1.",
		},
		{
			download.Request{URL: "http://h/x", Digests: pulp.Digests{"crc32": "00"}},
			download.Untrusted,
			"Content at the URL 'http://h/x' does not contain at least one trusted hasher which is specified in the 'ALLOWED_CONTENT_CHECKSUMS' setting. It is known by: crc32.",
		},
	} {
		o := quick(nil)
		o.Allowed = []pulp.Algorithm{pulp.SHA256}
		o.Dial = func(context.Context, string, string) (net.Conn, error) { panic("connected") }
		_, _, err := newClient(t, pulp.Remote{}, o).Bytes(t.Context(), tc.request)
		if reason(err) != tc.reason || errs.Describe(err) != tc.want {
			t.Errorf("%s: got  %s\nwant %s", tc.request.URL, errs.Describe(err), tc.want)
		}
	}
}

func TestDigestsThatAreNotAllowedAreIgnored(t *testing.T) {
	url, _ := serve(t, answer(content))
	o := quick(nil)
	o.Allowed = []pulp.Algorithm{pulp.SHA256}
	want := pulp.Digests{pulp.MD5: "wrong", pulp.SHA256: sums(content)[pulp.SHA256]}
	if _, err := newClient(t, pulp.Remote{}, o).Get(t.Context(), download.Request{URL: url, Digests: want}, newStage(t)); err != nil {
		t.Error(err)
	}
}

func TestNumberOfRetries(t *testing.T) {
	for _, tc := range []struct{ remote, typical, want int }{{0, 0, 4}, {0, 4, 5}, {1, 4, 2}, {2, 0, 3}} {
		url, n := serve(t, status(502))
		o := quick(nil)
		o.MaxRetries = tc.typical
		_, _, err := newClient(t, pulp.Remote{MaxRetries: tc.remote}, o).Bytes(t.Context(), download.Request{URL: url})
		if err == nil || n.Load() != int64(tc.want) {
			t.Errorf("max_retries %d, the type's %d: %d requests, want %d", tc.remote, tc.typical, n.Load(), tc.want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		code   int
		header string
		want   time.Duration
	}{
		{429, "7", 7 * time.Second},
		{503, now.Add(8 * time.Second).Format(http.TimeFormat), 8 * time.Second},
		{503, "3600", 20 * time.Second}, // the cap
		{503, now.Add(-time.Hour).Format(http.TimeFormat), time.Second},
		{503, "0", time.Second},
		{503, "-5", time.Second},
		{503, "soon", time.Second},
		{503, "99999999999999999999", time.Second},
		{500, "7", time.Second},
	} {
		url, _ := serve(t, inTurn(status(tc.code, "Retry-After", tc.header), answer(nil)))
		var waits []time.Duration
		o := quick(&waits)
		o.RetryAfterCap = 20 * time.Second
		o.Now = func() time.Time { return now }
		if _, _, err := newClient(t, pulp.Remote{}, o).Bytes(t.Context(), download.Request{URL: url}); err != nil {
			t.Fatal(err)
		}
		if len(waits) != 1 || waits[0] != tc.want {
			t.Errorf("%d with Retry-After %q: waits %v, want %v", tc.code, tc.header, waits, tc.want)
		}
	}
}

func TestJitterIsRandomAndBounded(t *testing.T) {
	url, _ := serve(t, status(500))
	seen := map[time.Duration]bool{}
	for range 3 {
		var waits []time.Duration
		o := quick(&waits)
		o.Jitter = nil
		newClient(t, pulp.Remote{}, o).Bytes(t.Context(), download.Request{URL: url})
		for k, d := range waits {
			seen[d] = true
			if d < 0 || d >= time.Second<<k {
				t.Errorf("wait %d is %v", k+1, d)
			}
		}
	}
	if len(seen) < 5 {
		t.Errorf("only %d different waits of 9", len(seen))
	}
}

func TestMaxSize(t *testing.T) {
	chunked := func(w http.ResponseWriter, r *http.Request) {
		for range 10 {
			w.Write(content[:10_000])
			w.(http.Flusher).Flush()
		}
	}
	for name, h := range map[string]http.HandlerFunc{"announced": answer(content[:100_000]), "not announced": chunked} {
		url, n := serve(t, h)
		c := newClient(t, pulp.Remote{}, quick(nil))
		_, _, err := c.Bytes(t.Context(), download.Request{URL: url, MaxSize: 99_999})
		if reason(err) != download.TooLarge || errs.Describe(err) != "The file at the url "+url+" is larger than 99999 bytes." || n.Load() != 1 {
			t.Errorf("%s: %v after %d requests", name, err, n.Load())
		}
		if b, _, err := c.Bytes(t.Context(), download.Request{URL: url, MaxSize: 100_000}); err != nil || len(b) != 100_000 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

// TestEndlessBody has a server that never stops: it is left soon after the expected size.
func TestEndlessBody(t *testing.T) {
	var sent atomic.Int64
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for {
			n, err := w.Write(content)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	_, err := newClient(t, pulp.Remote{MaxRetries: 1}, quick(nil)).Get(t.Context(), download.Request{URL: url, Size: 10, Digests: sums(nil)}, newStage(t))
	if reason(err) != download.Size {
		t.Error(err)
	}
	if sent.Load() > 40<<20 {
		t.Errorf("%d bytes were sent", sent.Load())
	}
}

type brokenStage struct {
	blob.Stage
	err error
}

func (s brokenStage) Write(p []byte) (int, error) { return 0, s.err }

func TestStageFailuresAreNotRepeated(t *testing.T) {
	url, n := serve(t, answer(content))
	full := errors.New("disk full")
	_, err := newClient(t, pulp.Remote{}, quick(nil)).Get(t.Context(), download.Request{URL: url}, brokenStage{newStage(t), full})
	if !errors.Is(err, full) || errs.KindOf(err) != errs.Internal || n.Load() != 1 {
		t.Errorf("%v after %d requests", err, n.Load())
	}
}

// A pipeServer is a server whose connections exist in memory only, so that synctest knows when all wait.
type pipeServer struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipeServer) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipeServer) Close() error   { close(p.done); return nil }
func (p *pipeServer) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipeServer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inBubble runs f with a client whose server is in memory and whose time is synctest's.
func inBubble(t *testing.T, remote pulp.Remote, o download.Options, h http.HandlerFunc, f func(t *testing.T, c *download.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &pipeServer{conns: make(chan net.Conn), done: make(chan struct{})}
		srv := &http.Server{Handler: h}
		var wg sync.WaitGroup
		wg.Go(func() { srv.Serve(p) })
		o.Dial = p.dial
		c, err := download.New(remote, o)
		if err != nil {
			t.Fatal(err)
		}
		f(t, c)
		c.Close()
		srv.Close()
		wg.Wait()
	})
}

func TestRateLimit(t *testing.T) {
	var mu sync.Mutex
	var starts []time.Time
	inBubble(t, pulp.Remote{RateLimit: 2}, download.Options{}, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		starts = append(starts, time.Now())
		n := len(starts)
		mu.Unlock()
		if n == 4 {
			w.WriteHeader(500) // one more attempt, which counts too
		}
	}, func(t *testing.T, c *download.Client) {
		begin := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, _, err := c.Bytes(t.Context(), download.Request{URL: "http://up/x"}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if d := time.Since(begin); d < 5*time.Second || d > 7*time.Second {
			t.Errorf("11 attempts took %v, want 5 s or a little more", d)
		}
		if len(starts) != 11 {
			t.Fatalf("%d requests", len(starts))
		}
		for i := range starts[2:] {
			if d := starts[i+2].Sub(starts[i]); d < time.Second {
				t.Errorf("attempts %d to %d within %v", i, i+2, d)
			}
		}
		time.Sleep(3 * time.Second) // unused time is not saved up
		starts = nil
		begin = time.Now()
		for range 5 {
			c.Bytes(t.Context(), download.Request{URL: "http://up/x"})
		}
		if d := time.Since(begin); d < 2*time.Second {
			t.Errorf("5 more attempts took %v, want 2 s", d)
		}
	})
}

func TestConcurrency(t *testing.T) {
	for _, tc := range []struct{ remote, typical, want int }{{3, 7, 3}, {0, 7, 7}, {0, 0, 10}, {1 << 40, 0, 100}} {
		var mu sync.Mutex
		var now, most int
		attempts := map[string]int{}
		inBubble(t, pulp.Remote{Concurrency: tc.remote}, download.Options{Concurrency: tc.typical}, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			attempts[r.URL.Path]++
			if attempts[r.URL.Path] == 1 {
				now++
				most = max(most, now)
				mu.Unlock()
				w.WriteHeader(500)
				return
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
		}, func(t *testing.T, c *download.Client) {
			var wg sync.WaitGroup
			for i := range 2*tc.want + 1 {
				wg.Go(func() {
					if _, _, err := c.Bytes(t.Context(), download.Request{URL: "http://up/" + strconv.Itoa(i)}); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
		// A download that waits for its next attempt still counts.
		if most != tc.want {
			t.Errorf("download_concurrency %d, the type's %d: %d at once, want %d", tc.remote, tc.typical, most, tc.want)
		}
	}
}

const timedOut = "Request timed out for http://up/x. Increasing the total_timeout value on the remote might help."

func TestTimeouts(t *testing.T) {
	for _, tc := range []struct {
		name   string
		remote pulp.Remote
		server func(w http.ResponseWriter, r *http.Request)
		want   time.Duration // until the error; 0 means that there is none
	}{
		{"total, by default", pulp.Remote{}, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 300 * time.Second},
		{"total, while headers are awaited", pulp.Remote{TotalTimeout: 2.5}, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 2500 * time.Millisecond},
		{"total, while the body drips", pulp.Remote{TotalTimeout: 2.5}, drip(time.Second, 10), 2500 * time.Millisecond},
		{"read, while headers are awaited", pulp.Remote{SockReadTimeout: 2}, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 2 * time.Second},
		{"read, while the body drips fast enough", pulp.Remote{SockReadTimeout: 2}, drip(1500*time.Millisecond, 10), 0},
		{"read, while the body stalls", pulp.Remote{SockReadTimeout: 2}, func(w http.ResponseWriter, r *http.Request) {
			drip(time.Second, 3)(w, r)
			<-r.Context().Done()
		}, 5 * time.Second},
		{"connect does not mean the answer", pulp.Remote{ConnectTimeout: 1, SockConnectTimeout: 1}, func(w http.ResponseWriter, r *http.Request) { time.Sleep(5 * time.Second) }, 0},
		{"slow but in time", pulp.Remote{TotalTimeout: 11}, drip(time.Second, 10), 0},
		{"no limit", pulp.Remote{TotalTimeout: 1e300}, func(w http.ResponseWriter, r *http.Request) { time.Sleep(1000 * time.Hour) }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.remote.MaxRetries = 1
			inBubble(t, tc.remote, download.Options{Jitter: func(time.Duration) time.Duration { return 0 }}, tc.server, func(t *testing.T, c *download.Client) {
				begin := time.Now()
				_, _, err := c.Bytes(t.Context(), download.Request{URL: "http://up/x"})
				if tc.want == 0 {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if reason(err) != download.Timeout || errs.Describe(err) != timedOut {
					t.Error(err)
				}
				if d := time.Since(begin); d != 2*tc.want { // two attempts
					t.Errorf("took %v, want %v", d, 2*tc.want)
				}
			})
		})
	}
}

// drip sends n bytes, each after the pause.
func drip(pause time.Duration, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for range n {
			w.(http.Flusher).Flush()
			select {
			case <-time.After(pause):
			case <-r.Context().Done():
				return
			}
			io.WriteString(w, "x")
		}
		w.(http.Flusher).Flush()
	}
}

func TestConnectTimeouts(t *testing.T) {
	for _, tc := range []struct {
		name   string
		remote pulp.Remote
		want   time.Duration
	}{
		{"default", pulp.Remote{}, 30 * time.Second},
		{"sock_connect_timeout", pulp.Remote{SockConnectTimeout: 0.5}, time.Second / 2},
		{"connect_timeout", pulp.Remote{ConnectTimeout: 2}, 2 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.remote.MaxRetries = 1
				c, err := download.New(tc.remote, download.Options{
					Jitter: func(time.Duration) time.Duration { return 0 },
					Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
						<-ctx.Done()
						return nil, ctx.Err()
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				_, _, err = c.Bytes(t.Context(), download.Request{URL: "http://up/x"})
				if errs.Describe(err) != timedOut {
					t.Error(err)
				}
				if d := time.Since(begin); d != 2*tc.want {
					t.Errorf("took %v, want %v", d, 2*tc.want)
				}
			})
		})
	}
}

// TestCancel stops a download wherever it may wait. In a bubble nothing takes time that does not wait for it.
func TestCancel(t *testing.T) {
	stall := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for _, tc := range []struct {
		name   string
		remote pulp.Remote
		server http.HandlerFunc
		before func(c *download.Client) // in the background
	}{
		{"headers", pulp.Remote{}, stall, nil},
		{"body", pulp.Remote{}, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			stall(w, r)
		}, nil},
		{"Retry-After", pulp.Remote{}, status(503, "Retry-After", "60"), nil},
		{"rate limit", pulp.Remote{RateLimit: 1}, stall, func(c *download.Client) {
			for range 100 {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				c.Bytes(ctx, download.Request{URL: "http://up/other"})
			}
		}},
		{"concurrency", pulp.Remote{Concurrency: 1}, stall, func(c *download.Client) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			c.Bytes(ctx, download.Request{URL: "http://up/other"})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, tc.remote, download.Options{}, tc.server, func(t *testing.T, c *download.Client) {
				var wg sync.WaitGroup
				defer wg.Wait()
				if tc.before != nil {
					wg.Go(func() { tc.before(c) })
					synctest.Wait()
				}
				ctx, cancel := context.WithCancel(t.Context())
				var end time.Time
				var err error
				wg.Go(func() {
					_, _, err = c.Bytes(ctx, download.Request{URL: "http://up/x"})
					end = time.Now()
				})
				time.Sleep(10 * time.Second)
				if !end.IsZero() {
					t.Fatalf("it did not wait: %v", err)
				}
				cancel()
				begin := time.Now()
				synctest.Wait()
				if end.IsZero() || end.Sub(begin) > 0 {
					t.Errorf("it went on for %v", end.Sub(begin))
				}
				if !errors.Is(err, context.Canceled) || reason(err) != 0 {
					t.Error(err)
				}
			})
		})
	}
}

func TestCallersDeadline(t *testing.T) {
	inBubble(t, pulp.Remote{}, download.Options{}, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, func(t *testing.T, c *download.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		_, _, err := c.Bytes(ctx, download.Request{URL: "http://up/x"})
		if !errors.Is(err, context.DeadlineExceeded) || reason(err) != 0 || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

func TestCancelWhileConnecting(t *testing.T) {
	dialing := make(chan struct{})
	ended := make(chan struct{})
	o := download.Options{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		close(dialing)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-dialing; cancel() }()
	begin := time.Now()
	_, _, err := newClient(t, pulp.Remote{}, o).Bytes(ctx, download.Request{URL: "http://up/x"})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-ended // the dial does not go on either
	if d := time.Since(begin); d > time.Second {
		t.Errorf("took %v", d)
	}
}

func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stall":
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case "/cut":
			cut(content, 5)(w, r)
		default:
			answer(content)(w, r)
		}
	})
	c, err := download.New(pulp.Remote{Concurrency: 20, SockReadTimeout: 0.5}, quick(nil))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			path := []string{"/ok", "/stall", "/cut"}[i%3]
			c.Bytes(t.Context(), download.Request{URL: url + path})
			resp, err := c.Open(t.Context(), download.Request{URL: url + path})
			if err != nil {
				t.Error(err)
				return
			}
			io.ReadFull(resp.Body, make([]byte, i))
			resp.Body.Close()
		})
	}
	wg.Wait()
	c.Close()
	for range 100 {
		// The server itself and its accepted connections are not the client's.
		if runtime.NumGoroutine() <= before+3 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}
