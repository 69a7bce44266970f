// Package bench measures the running binary against the budgets of docs/architecture.md, beside nginx where it is installed
// and beside a Pulp where REFERENCE_URL names one (admin:password). The figures are ratios and counts; nothing fails for
// being slow.
package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"granary/test/binary"
)

const (
	api         = "/pulp/api/v3/"
	connections = 16
	window      = 3 * time.Second // of one measurement
)

// BenchmarkStart measures the time from starting the binary on an empty folder to the first 200 of status/, and the
// memory that it then has resident.
func BenchmarkStart(b *testing.B) {
	binary.Path(b)
	var took time.Duration
	var resident float64
	for b.Loop() {
		start := time.Now()
		s := binary.Start(b, b.TempDir())
		for {
			if status, _, err := s.Do(b.Context(), http.MethodGet, api+"status/", nil); err == nil && status == http.StatusOK {
				break
			}
		}
		took += time.Since(start)
		time.Sleep(time.Second)
		resident += residentMiB(b, s.PID())
		_ = s.Stop()
	}
	b.ReportMetric(took.Seconds()*1000/float64(b.N), "ms-to-status")
	b.ReportMetric(resident/float64(b.N), "MiB-idle")
	b.ReportMetric(0, "ns/op")
}

func residentMiB(tb testing.TB, pid int) float64 {
	tb.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Skip("no /proc to read memory from")
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

// BenchmarkFiles serves files of three sizes, beside nginx serving the same bytes.
func BenchmarkFiles(b *testing.B) {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"1KiB", 1 << 10}, {"100KiB", 100 << 10}, {"1GiB", 1 << 30}} {
		b.Run(size.name, func(b *testing.B) {
			s := binary.Start(b, b.TempDir(), "PULP_CONTENT_ORIGIN=http://localhost")
			publish(b, s, size.bytes)
			target := s.URL + "/pulp/content/bench/file"
			other := nginx(b, size.bytes)
			conns := connections
			if size.bytes > 1<<20 {
				conns = 1
			}
			var ours, theirs float64
			for b.Loop() { // side by side, in turns
				ours += load(b, target, "", conns)
				if other != "" {
					theirs += load(b, other, "", conns)
				}
			}
			b.ReportMetric(ours/float64(b.N), "req/s")
			if other != "" {
				b.ReportMetric(ours/theirs, "x-nginx")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
	b.Run("1KiB-beside-the-reference", func(b *testing.B) {
		reference := os.Getenv("REFERENCE_URL")
		if reference == "" {
			b.Skip("REFERENCE_URL is not set")
		}
		s := binary.Start(b, b.TempDir(), "PULP_CONTENT_ORIGIN=http://localhost")
		publish(b, s, 1<<10)
		theirs := &remote{url: reference}
		base := publishOn(b, theirs, 1<<10)
		var x, y float64
		for b.Loop() {
			x += load(b, s.URL+"/pulp/content/bench/file", "", connections)
			y += load(b, reference+"/pulp/content/"+base+"/file", "", connections)
		}
		b.ReportMetric(x/float64(b.N), "req/s")
		b.ReportMetric(x/y, "x-reference")
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkAPI reads one repository, and a list of 100, with Basic authentication, beside the reference.
func BenchmarkAPI(b *testing.B) {
	s := binary.Start(b, b.TempDir())
	us := &remote{url: s.URL}
	one, list := repositories(b, us)
	var them *remote
	var theirOne, theirList string
	if url := os.Getenv("REFERENCE_URL"); url != "" {
		them = &remote{url: url}
		theirOne, theirList = repositories(b, them)
	}
	for _, c := range []struct{ name, ours, theirs string }{{"one", one, theirOne}, {"list-of-100", list, theirList}} {
		b.Run(c.name, func(b *testing.B) {
			auth := "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+binary.Password))
			var x, y float64
			for b.Loop() {
				x += load(b, us.url+c.ours, auth, 4)
				if them != nil {
					y += load(b, them.url+c.theirs, auth, 4)
				}
			}
			b.ReportMetric(x/float64(b.N), "req/s")
			if them != nil {
				b.ReportMetric(x/y, "x-reference")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// load asks for one URL over some connections for a while and returns the requests per second. Every answer must be a 200.
func load(tb testing.TB, target, auth string, conns int) float64 {
	tb.Helper()
	u, err := url.Parse(target)
	if err != nil {
		tb.Fatal(err)
	}
	request := "GET " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\nAccept: */*\r\n"
	if auth != "" {
		request += "Authorization: " + auth + "\r\n"
	}
	request += "\r\n"
	var done atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range conns {
		wg.Go(func() {
			conn, err := net.Dial("tcp", u.Host)
			if err != nil {
				tb.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			in := bufio.NewReaderSize(conn, 64<<10)
			for time.Since(start) < window {
				if _, err := io.WriteString(conn, request); err != nil {
					tb.Error(err)
					return
				}
				if err := answer(in); err != nil {
					tb.Error(target, err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(start).Seconds()
}

// answer reads one answer with as little work as there can be, so that the server is measured and not the client.
func answer(in *bufio.Reader) error {
	status, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.Contains(status, []byte(" 200 ")) {
		return fmt.Errorf("answers %q", status)
	}
	length, chunked := -1, false
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		}
		if err != nil {
			return err
		}
	}
	if chunked {
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return err
			}
			n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 64)
			if err != nil {
				return err
			}
			if _, err := io.CopyN(io.Discard, in, n+2); err != nil || n == 0 {
				return err
			}
		}
	}
	_, err = in.Discard(length)
	return err
}

// remote is any server with the API.
type remote struct{ url string }

func (r *remote) do(tb testing.TB, method, path, kind string, body io.Reader) []byte {
	tb.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, r.url+path, body)
	if err != nil {
		tb.Fatal(err)
	}
	req.SetBasicAuth("admin", binary.Password)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= http.StatusBadRequest {
		tb.Fatalf("%s %s: %s %s %v", method, path, resp.Status, b, err)
	}
	return b
}

// field takes a string out of a JSON answer.
func field(b []byte, name string) string {
	_, rest, _ := strings.Cut(string(b), `"`+name+`":"`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

func (r *remote) wait(tb testing.TB, b []byte) {
	tb.Helper()
	for {
		switch state := field(r.do(tb, http.MethodGet, field(b, "task"), "", nil), "state"); state {
		case "completed":
			return
		case "failed", "canceled":
			tb.Fatalf("the task is %s", state)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func repositories(tb testing.TB, r *remote) (one, list string) {
	tb.Helper()
	prefix := fmt.Sprintf("bench%d", time.Now().UnixNano())
	for i := range 100 {
		one = field(r.do(tb, http.MethodPost, api+"repositories/file/file/", "application/json", strings.NewReader(fmt.Sprintf(`{"name": "%s-%d"}`, prefix, i))), "pulp_href")
	}
	tb.Cleanup(func() {
		for range 100 {
			href := field(r.do(tb, http.MethodGet, api+"repositories/file/file/?limit=1&name__startswith="+prefix, "", nil), "pulp_href")
			if href == "" {
				return
			}
			r.wait(tb, r.do(tb, http.MethodDelete, href, "", nil))
		}
	})
	return one, api + "repositories/file/file/?limit=100&name__startswith=" + prefix
}

func publish(tb testing.TB, s *binary.Server, size int) {
	publishAs(tb, &remote{url: s.URL}, "bench", size)
}

func publishOn(tb testing.TB, r *remote, size int) string {
	base := fmt.Sprintf("bench%d", time.Now().UnixNano())
	publishAs(tb, r, base, size)
	return base
}

// publishAs uploads a file and serves it at base/file.
func publishAs(tb testing.TB, r *remote, base string, size int) {
	tb.Helper()
	repo := field(r.do(tb, http.MethodPost, api+"repositories/file/file/", "application/json", strings.NewReader(`{"name": "`+base+`", "autopublish": true}`)), "pulp_href")
	pr, pw := io.Pipe()
	form := multipart.NewWriter(pw)
	go func() {
		part, err := form.CreateFormFile("file", "file")
		block := bytes.Repeat([]byte("0123456789abcdef"), 64)
		for n := 0; err == nil && n < size; n += len(block) {
			_, err = part.Write(block[:min(len(block), size-n)])
		}
		for name, value := range map[string]string{"relative_path": "file", "repository": repo} {
			if err == nil {
				err = form.WriteField(name, value)
			}
		}
		if err == nil {
			err = form.Close()
		}
		_ = pw.CloseWithError(err)
	}()
	r.wait(tb, r.do(tb, http.MethodPost, api+"content/file/files/", form.FormDataContentType(), pr))
	r.wait(tb, r.do(tb, http.MethodPost, api+"distributions/file/file/", "application/json",
		strings.NewReader(fmt.Sprintf(`{"name": %q, "base_path": %q, "repository": %q}`, base, base, repo))))
}

// nginx serves a file of the size and returns its URL; empty where nginx is not installed.
func nginx(tb testing.TB, size int) string {
	tb.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		return ""
	}
	dir, err := os.MkdirTemp("", "granary-nginx-")
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // nginx drops to another user
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		tb.Fatal(err)
	}
	block := bytes.Repeat([]byte("0123456789abcdef"), 64)
	w := bufio.NewWriter(f)
	for n := 0; n < size; n += len(block) {
		_, _ = w.Write(block[:min(len(block), size-n)])
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	conf := fmt.Sprintf("daemon off; worker_processes auto; pid %[1]s/pid; error_log %[1]s/error.log;\nevents { worker_connections 512; }\n"+
		"http { sendfile on; tcp_nopush on; access_log %[1]s/access.log; open_file_cache max=100; keepalive_requests 1000000000;\n"+
		"client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;\n"+
		"server { listen %[2]s; root %[1]s; } }\n", dir, addr)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(program, "-c", filepath.Join(dir, "nginx.conf")) //nolint:gosec // as found
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	for range 100 {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			return "http://" + addr + "/file"
		}
		time.Sleep(50 * time.Millisecond)
	}
	tb.Fatal("nginx does not listen")
	return ""
}
