package content_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"granary/internal/blob"
)

// served returns a world that serves files of some sizes at foo/.
func servedFiles(b *testing.B) *world {
	w := newWorld(b, liteDB(b), nil)
	w.published("foo", nil, w.unit("1k", strings.Repeat("x", 1<<10)), w.unit("10k", strings.Repeat("x", 10<<10)), w.unit("1m", strings.Repeat("x", 1<<20)))
	return w
}

// discard is a ResponseWriter that forgets.
type discard struct{ h http.Header }

func (d discard) Header() http.Header                 { return d.h }
func (d discard) Write(p []byte) (int, error)         { return len(p), nil }
func (d discard) ReadFrom(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }
func (d discard) WriteHeader(int)                     {}

// BenchmarkHandler is the server's own part of a request.
func BenchmarkHandler(b *testing.B) {
	w := servedFiles(b)
	for name, r := range map[string]*http.Request{
		"file":         httptest.NewRequest(http.MethodGet, "/pulp/content/foo/1k", http.NoBody),
		"not-modified": httptest.NewRequest(http.MethodGet, "/pulp/content/foo/1k", http.NoBody),
		"not-found":    httptest.NewRequest(http.MethodGet, "/pulp/content/foo/none", http.NoBody),
	} {
		if name == "not-modified" {
			r.Header.Set("If-None-Match", "*")
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			rw := discard{http.Header{}}
			for b.Loop() {
				clear(rw.h)
				w.server.ServeHTTP(rw, r)
			}
		})
	}
}

// BenchmarkServe is requests over loopback on 16 connections, beside net/http's own file server and beside a handler
// that sends as many bytes from memory.
func BenchmarkServe(b *testing.B) {
	w := servedFiles(b)
	for _, name := range []string{"1k", "10k", "1m"} {
		a := w.get("foo/" + name)
		path := filepath.Join(w.root, blob.ArtifactKey(w.domain, sum(a.body)))
		b.Run(name+"/granary", func(b *testing.B) { load(b, strings.TrimPrefix(w.url, "http://"), "/pulp/content/foo/"+name) })
		b.Run(name+"/net-http-file", func(b *testing.B) {
			srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				f, err := os.Open(path)
				if err != nil {
					b.Error(err)
					return
				}
				defer f.Close() //nolint:errcheck // it was only read
				info, _ := f.Stat()
				http.ServeContent(rw, r, "", info.ModTime(), f)
			}))
			defer srv.Close()
			load(b, strings.TrimPrefix(srv.URL, "http://"), "/")
		})
		b.Run(name+"/net-http-memory", func(b *testing.B) {
			body, length := []byte(a.body), a.header.Get("Content-Length")
			srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header()["Content-Length"] = []string{length}
				_, _ = rw.Write(body)
			}))
			defer srv.Close()
			load(b, strings.TrimPrefix(srv.URL, "http://"), "/")
		})
	}
	if addr := os.Getenv("GRANARY_BENCH_NGINX"); addr != "" { // which serves the same files below /
		for _, name := range []string{"1k", "10k", "1m"} {
			b.Run(name+"/nginx", func(b *testing.B) { load(b, addr, "/"+name) })
		}
	}
}

// load makes b.N requests on 16 connections.
func load(b *testing.B, addr, path string) {
	b.SetParallelism(8) // on two cores
	b.ReportAllocs()
	before := cpu()
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close() //nolint:errcheck // it was only read
		br := bufio.NewReaderSize(conn, 64<<10)
		for pb.Next() {
			if _, err := conn.Write(request); err != nil {
				b.Error(err)
				return
			}
			if err := skipAnswer(br); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/req")
}

// cpu is the time that this process has computed, the clients and the server in it.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// skipAnswer reads an answer with a Content-Length.
func skipAnswer(br *bufio.Reader) error {
	length := 0
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		const name = "content-length: "
		if len(line) > len(name) && (line[0] == 'C' || line[0] == 'c') && strings.EqualFold(string(line[:len(name)]), name) {
			for _, c := range line[len(name):] {
				if c >= '0' && c <= '9' {
					length = length*10 + int(c-'0')
				}
			}
		}
	}
	_, err := br.Discard(length)
	return err
}
