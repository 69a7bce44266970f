package content_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"granary/internal/blob"
	"granary/internal/content"
	"granary/internal/db"
	"granary/internal/download"
	"granary/internal/pulp"
)

// large is longer than what is held back of a download.
var large = strings.Repeat("0123456789abcdef", 20_000)

// onDemand serves files of an upstream at foo/ that are not stored, with a remote of the policy. Their digests and
// sizes are known.
func (w *world) onDemand(up *upstream, policy string, files map[string]string) (remote pulp.ID, units map[string]unit) {
	w.t.Helper()
	remote = w.remote(up.url, policy)
	units = map[string]unit{}
	var list []unit
	for path, body := range files {
		u := w.unit(path, "-")
		w.source(u, remote, up.url+"/"+path, knownAs{int64(len(body)), sum(body)})
		up.set("/"+path, body)
		units[path] = u
		list = append(list, u)
	}
	w.published("foo", nil, list...)
	return remote, units
}

// stored returns the sha256 of a unit's artifact, or nothing.
func (w *world) stored(u unit) string {
	w.t.Helper()
	sha, err := db.Column[string](w.ctx, w.db, "SELECT a.sha256 FROM core_contentartifact ca JOIN core_artifact a ON a.id = ca.artifact WHERE ca.id = ?", u.contentArtifact)
	w.check(err)
	return strings.Join(sha, " ")
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came to be: " + what)
		}
	}
}

func TestOnDemand(t *testing.T) {
	each(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		files := map[string]string{"small.txt": "small", "large.iso": large, "empty": "", "head.txt": "head", "head.iso": large + "h"}
		_, units := w.onDemand(up, "on_demand", files)
		for path, body := range files {
			method := http.MethodGet
			if strings.HasPrefix(path, "head") {
				method = http.MethodHead
			}
			first := w.do(method, "/pulp/content/foo/"+path)
			// As tests of the reference demand, it is stored when the answer is there.
			if got := w.stored(units[path]); got != sum(body) {
				t.Errorf("%s: stored is %q", path, got)
			}
			second := w.do(method, "/pulp/content/foo/"+path)
			for i, a := range []answer{first, second} {
				if a.code != 200 || a.err != nil || method == http.MethodGet && a.body != body {
					t.Errorf("%s, %d: %.100s %v", path, i, a, a.err)
				}
				for name, want := range map[string]string{
					"Content-Length": fmt.Sprint(len(body)), "X-Pulp-Artifact-Size": fmt.Sprint(len(body)), "Etag": `"` + sum(body) + `"`,
					"X-Pulp-Cache": []string{"", "HIT"}[i], "Accept-Ranges": "bytes", "Set-Cookie": "",
					"Content-Type": second.header.Get("Content-Type"), // not the upstream's
				} {
					got := a.header.Get(name)
					// On PostgreSQL the notice of how the world was made may come back late, and make the server look once more.
					if late := name == "X-Pulp-Cache" && got == "MISS" && i == 1 && w.db.Engine() == db.PostgreSQL; got != want && !late {
						t.Errorf("%s, %d: %s %q, want %q", path, i, name, got, want)
					}
				}
				if strings.HasSuffix(a.header.Get("Last-Modified"), "2006 15:04:05 GMT") {
					t.Errorf("%s, %d: the upstream's time, which the next answer does not have", path, i)
				}
			}
			if n := up.count("/" + path); n != 1 {
				t.Errorf("%s: %d downloads", path, n)
			}
		}
		if a := w.get("foo/head.txt"); a.header.Get("X-Pulp-Cache") != "MISS" {
			t.Errorf("GET after HEAD: %v", a.header)
		}
	})
}

// Parts are the same at the first request, while it is downloaded, and at the second, and from a streamed remote.
func TestRangeOfRemoteFiles(t *testing.T) {
	for _, policy := range []string{"on_demand", "streamed"} {
		t.Run(policy, func(t *testing.T) {
			lite(t, nil, func(t *testing.T, w *world) {
				up := newUpstream(t)
				files := map[string]string{}
				for i := range ranges {
					files[fmt.Sprint("f", i)] = ten
				}
				n := len(large)
				more := []struct{ header, body, contentRange string }{
					{"bytes=0-9", large[:10], fmt.Sprintf("bytes 0-9/%d", n)},
					{fmt.Sprintf("bytes=%d-", n-10), large[n-10:], fmt.Sprintf("bytes %d-%d/%d", n-10, n-1, n)},
					{"bytes=-100", large[n-100:], fmt.Sprintf("bytes %d-%d/%d", n-100, n-1, n)},
					{"bytes=100000-300000", large[100000:300001], fmt.Sprintf("bytes 100000-300000/%d", n)},
					{fmt.Sprintf("bytes=%d-", n), "", fmt.Sprintf("bytes */%d", n)},
				}
				for i := range more {
					files[fmt.Sprint("l", i)] = large + fmt.Sprint(i)[:0]
				}
				_, units := w.onDemand(up, policy, files)
				check := func(path, header, body, contentRange string) {
					for i := range 2 {
						a := w.get("foo/"+path, "Range", header)
						checkRange(t, fmt.Sprint(header, ", request ", i+1), a, body, contentRange)
						if a.code == 416 {
							if a.body != "416: Requested Range Not Satisfiable" || up.count("/"+path) != 0 {
								t.Errorf("%s: %s, %d downloads", header, a, up.count("/"+path))
							}
							continue
						}
						if policy == "on_demand" {
							eventually(t, "stored", func() bool { return w.stored(units[path]) != "" })
						} else if w.stored(units[path]) != "" {
							t.Errorf("%s: it was stored", header)
						}
					}
				}
				for i, tc := range ranges {
					check(fmt.Sprint("f", i), tc.header, tc.body, tc.contentRange)
				}
				for i, tc := range more {
					check(fmt.Sprint("l", i), tc.header, tc.body, tc.contentRange)
				}
			})
		})
	}
}

func TestStreamedIsNotStored(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		files := map[string]string{"small.txt": "small", "large.iso": large}
		_, units := w.onDemand(up, "streamed", files)
		for path, body := range files {
			for i := range 2 {
				a := w.get("foo/" + path)
				if a.code != 200 || a.body != body || a.err != nil || a.header.Get("Content-Length") != fmt.Sprint(len(body)) || a.header.Get("X-Pulp-Cache") != "" {
					t.Errorf("%s, %d: %.100s %v %v", path, i, a, a.err, a.header)
				}
				if a.header.Get("Last-Modified") != "Mon, 02 Jan 2006 15:04:05 GMT" || a.header.Get("Set-Cookie") != "" || a.header.Get("Content-Type") == "text/upstream" {
					t.Errorf("%s: %v", path, a.header)
				}
				if n := up.count("/" + path); n != i+1 {
					t.Errorf("%s: %d downloads, want %d", path, n, i+1)
				}
			}
			if a := w.do(http.MethodHead, "/pulp/content/foo/"+path); a.code != 200 || a.header.Get("Content-Length") != fmt.Sprint(len(body)) {
				t.Errorf("HEAD %s: %s %v", path, a, a.header)
			}
			if w.stored(units[path]) != "" {
				t.Errorf("%s was stored", path)
			}
		}
		if n, err := db.Value[int](w.ctx, w.db, "SELECT count(*) FROM core_artifact"); err != nil || n != 0 {
			t.Errorf("%d artifacts, %v", n, err)
		}
		eventually(t, "no staged file", func() bool { return len(w.staged()) == 0 })
	})
}

func TestConditionsOfRemoteFiles(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		w.onDemand(up, "on_demand", map[string]string{"f": ten})
		tag := `"` + sum(ten) + `"`
		if a := w.get("foo/f", "If-None-Match", tag); a.code != 304 || a.header.Get("Etag") != tag {
			t.Errorf("If-None-Match: %s %v", a, a.header)
		}
		if a := w.get("foo/f", "If-Match", `"x"`); a.code != 412 {
			t.Errorf("If-Match: %s", a)
		}
		if up.count("/f") != 0 {
			t.Error("it was downloaded for that")
		}
		if a := w.get("foo/f", "If-Modified-Since", "Tue, 24 Nov 2026 23:33:03 GMT"); a.code != 200 || a.body != ten {
			t.Errorf("If-Modified-Since: %s", a)
		}
	})
}

// A wrong file never has a clean end, is noted, and is not asked for again for a while; another source is used at once.
func TestWrongFile(t *testing.T) {
	for _, policy := range []string{"on_demand", "streamed"} {
		t.Run(policy, func(t *testing.T) {
			each(t, nil, func(t *testing.T, w *world) {
				up := newUpstream(t)
				files := map[string]string{"small": "small", "large": large}
				_, units := w.onDemand(up, policy, files)
				up.set("/small", "SMALL")
				up.set("/large", large[:len(large)-1]+"!")
				for path, body := range files {
					a, err := w.try(http.MethodGet, "/pulp/content/foo/"+path)
					if err == nil && a.err == nil {
						t.Fatalf("%s: a clean end: %.100s", path, a)
					}
					if err != nil || a.code != 200 || len(a.body) >= len(body) || !strings.HasPrefix(body, a.body) {
						t.Errorf("%s: %.100s, %v", path, a, err)
					}
					if path == "small" && (a.body != "" || a.header.Get("Content-Length") != "") {
						t.Errorf("small: %q %v", a.body, a.header)
					}
					w.wantCode("foo/"+path, 404)
					if n := up.count("/" + path); n != 1 {
						t.Errorf("%s: %d downloads", path, n)
					}
					if w.stored(units[path]) != "" {
						t.Errorf("%s was stored", path)
					}

					other := w.remote(up.url+"/other", policy)
					w.source(units[path], other, up.url+"/other/"+path, knownAs{int64(len(body)), sum(body)})
					up.set("/other/"+path, body)
					w.wantBody("foo/"+path, body)
				}
				if n, err := db.Value[int](w.ctx, w.db, "SELECT count(*) FROM core_remoteartifact WHERE failed_at = ?", w.now()); err != nil || n != 2 {
					t.Errorf("%d sources are marked, %v", n, err)
				}
			})
		})
	}
}

// As in Pulp, the first request meets the wrong file and breaks off, and the second one gets the right one.
func TestWrongFileOfOneSource(t *testing.T) {
	each(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		up.files["/wrong"], up.files["/right"] = "wrong", ten
		u := w.unit("f", "-")
		w.source(u, w.remote(up.url, "on_demand"), up.url+"/wrong", knownAs{10, sum(ten)})
		w.source(u, w.remote(up.url, "on_demand"), up.url+"/right", knownAs{10, sum(ten)})
		w.published("foo", nil, u)
		if a, err := w.try(http.MethodGet, "/pulp/content/foo/f"); err == nil && a.err == nil {
			t.Errorf("a clean end: %s", a)
		}
		if n := up.count("/right"); n != 0 {
			t.Errorf("%d downloads of the right one, before it was asked for", n)
		}
		w.wantBody("foo/f", ten)
	})
}

func TestWrongFileIsTriedAgainAfterTheCooldown(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		w.onDemand(up, "on_demand", map[string]string{"f": ten})
		up.set("/f", "wrong")
		for range 3 { // HEAD has no body that could break off
			if a := w.do(http.MethodHead, "/pulp/content/foo/f"); a.code != 404 {
				t.Errorf("HEAD: %s", a)
			}
		}
		up.set("/f", ten)
		w.pass(5*time.Minute - time.Second)
		w.wantCode("foo/f", 404)
		if n := up.count("/f"); n != 1 {
			t.Errorf("%d downloads", n)
		}
		w.pass(2 * time.Second)
		w.wantBody("foo/f", ten)
	})
}

// A client of HTTP/1.0 knows a break only by the length.
func TestWrongFileOverHTTP10(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		w.onDemand(up, "on_demand", map[string]string{"f": ten})
		up.set("/f", "wrong")
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		w.check(err)
		defer conn.Close() //nolint:errcheck // it was only read
		_, err = io.WriteString(conn, "GET /pulp/content/foo/f HTTP/1.0\r\n\r\n")
		w.check(err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		w.check(err)
		defer resp.Body.Close() //nolint:errcheck // it was only read
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("a clean end: %s %q", resp.Status, b)
		}
	})
}

// What curl, by which a test of the reference goes, makes of a wrong file.
func TestWrongFileWithCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	lite(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		body := strings.Repeat("x", 1024)
		w.onDemand(up, "on_demand", map[string]string{"f": body})
		up.set("/f", strings.Repeat("y", 1024))
		out := filepath.Join(t.TempDir(), "out")
		var stderr strings.Builder
		cmd := exec.CommandContext(w.ctx, curl, "-v", w.url+"/pulp/content/foo/f", "-o", out)
		cmd.Stderr = &stderr
		_ = cmd.Run() // its exit status is looked at below
		if code := cmd.ProcessState.ExitCode(); code != 18 || !strings.Contains(stderr.String(), "curl: (18) transfer closed with outstanding read data remaining") {
			t.Errorf("curl ends with %d:\n%s", code, stderr.String())
		}
		if _, err := os.Stat(out); err == nil {
			t.Error("curl got some of it")
		}
	})
}

func TestSources(t *testing.T) {
	for _, tc := range []struct {
		name   string
		first  func(up *upstream) string // URL of the first source
		marked bool
	}{
		{"that has it", func(up *upstream) string { return up.url + "/f" }, false},
		{"that has no such file", func(up *upstream) string { return up.url + "/none" }, false},
		{"that fails", func(up *upstream) string { return up.url + "/500" }, false},
		{"that nobody listens at", func(*upstream) string { return "http://127.0.0.1:1/f" }, false},
		{"that breaks off", func(up *upstream) string { return up.url + "/break" }, false},
		{"with a scheme that is not known", func(*upstream) string { return "gopher://127.0.0.1/f" }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lite(t, nil, func(t *testing.T, w *world) {
				up := newUpstream(t)
				up.serve = func(w http.ResponseWriter, r *http.Request, _ int) {
					switch r.URL.Path {
					case "/f":
						_, _ = io.WriteString(w, ten)
					case "/500":
						w.WriteHeader(500)
					case "/break":
						w.Header().Set("Content-Length", "10")
						_, _ = io.WriteString(w, "012")
						panic(http.ErrAbortHandler)
					default:
						w.WriteHeader(404)
					}
				}
				u := w.unit("f", "-")
				known := knownAs{10, sum(ten)}
				first := w.source(u, w.remote(up.url, "on_demand"), tc.first(up), known)
				w.published("foo", nil, u)
				if !strings.HasSuffix(tc.first(up), up.url+"/f") {
					if a := w.get("foo/f"); a.status != "404 Not Found" || a.body != "404: Not Found" {
						t.Errorf("without another one: %s", a)
					}
					if n, err := db.Value[int](w.ctx, w.db, "SELECT count(*) FROM core_remoteartifact WHERE id = ? AND failed_at IS NOT NULL", first); err != nil || (n == 1) != tc.marked {
						t.Errorf("marked: %d %v", n, err)
					}
				}
				w.source(u, w.remote(up.url, "on_demand"), up.url+"/f", known)
				w.wantBody("foo/f", ten)
			})
		})
	}
}

func TestAlternateSourcesComeFirst(t *testing.T) {
	each(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		up.files["/main"], up.files["/acs"] = ten, ten
		u := w.unit("f", "-")
		w.source(u, w.remote(up.url, "on_demand"), up.url+"/main", knownAs{10, sum(ten)})
		acs := w.remote(up.url, "on_demand")
		w.source(u, acs, up.url+"/acs", knownAs{10, sum(ten)})
		w.write("", nil, "INSERT INTO core_acs (id, domain, created, updated, pulp_type, name, remote) VALUES (?, ?, 1, 1, 'file.file', 'acs', ?)", pulp.NewID(), w.domain.ID, acs)
		w.published("foo", nil, u)
		w.wantBody("foo/f", ten)
		if up.count("/acs") != 1 || up.count("/main") != 0 {
			t.Errorf("asked: acs %d, main %d", up.count("/acs"), up.count("/main"))
		}
	})
}

func TestRemoteDeleted(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		remote, units := w.onDemand(up, "on_demand", map[string]string{"f": ten})
		w.write("", nil, "DELETE FROM core_remote WHERE id = ?", remote)
		w.wantCode("foo/f", 404)
		w.source(units["f"], w.remote(up.url, "on_demand"), up.url+"/f", knownAs{10, sum(ten)})
		w.wantBody("foo/f", ten)
	})
}

// A remote's settings are those of the moment, though its connections are kept.
func TestRemoteChanged(t *testing.T) {
	made := 0
	change := func(_ *world, c *content.Config) {
		download := c.Download
		c.Download = func(r pulp.Remote) (*download_, error) { made++; return download(r) }
	}
	lite(t, change, func(t *testing.T, w *world) {
		up := newUpstream(t)
		remote, units := w.onDemand(up, "streamed", map[string]string{"f": ten})
		w.wantBody("foo/f", ten)
		w.wantBody("foo/f", ten)
		if made != 1 {
			t.Errorf("%d clients for one remote", made)
		}
		w.write("", nil, "UPDATE core_remote SET policy = 'on_demand' WHERE id = ?", remote)
		w.wantBody("foo/f", ten)
		if made != 2 || w.stored(units["f"]) == "" {
			t.Errorf("%d clients; stored: %q", made, w.stored(units["f"]))
		}
	})
}

type download_ = download.Client

// What breaks on the way is continued, and what cannot be continued has no clean end.
func TestUpstreamBreaks(t *testing.T) {
	cut := len(large) / 2
	for _, tc := range []struct {
		name  string
		serve func(w http.ResponseWriter, r *http.Request, n int)
		ok    bool
	}{
		{"once", func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header().Set("ETag", `"x"`)
			if n == 1 {
				w.Header().Set("Content-Length", fmt.Sprint(len(large)))
				_, _ = io.WriteString(w, large[:cut])
				panic(http.ErrAbortHandler)
			}
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(large))
		}, true},
		{"always", func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			_, _ = io.WriteString(w, large[:cut])
			panic(http.ErrAbortHandler)
		}, false},
		{"and has another file then", func(w http.ResponseWriter, _ *http.Request, n int) {
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			if n == 1 {
				_, _ = io.WriteString(w, large[:cut])
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, strings.ToUpper(large))
		}, false},
		{"and is longer than it says", func(w http.ResponseWriter, _ *http.Request, _ int) {
			_, _ = io.WriteString(w, large+"more")
		}, false},
		{"and is shorter than it should be", func(w http.ResponseWriter, _ *http.Request, _ int) {
			_, _ = io.WriteString(w, large[:len(large)-1])
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lite(t, nil, func(t *testing.T, w *world) {
				up := newUpstream(t)
				_, units := w.onDemand(up, "on_demand", map[string]string{"f": large})
				up.serve = tc.serve
				a, err := w.try(http.MethodGet, "/pulp/content/foo/f")
				if tc.ok {
					if err != nil || a.err != nil || a.body != large {
						t.Errorf("%.100s %v %v", a, a.err, err)
					}
					return
				}
				if err == nil && a.err == nil {
					t.Errorf("a clean end: %s, %d bytes", a.status, len(a.body))
				}
				if !strings.HasPrefix(large, a.body) || len(a.body) == len(large) {
					t.Errorf("%d bytes that are not all of the file's beginning", len(a.body))
				}
				if w.stored(units["f"]) != "" {
					t.Error("it was stored")
				}
				eventually(t, "no staged file", func() bool { return len(w.staged()) == 0 })
			})
		})
	}
}

// A file of which neither size nor digest is known.
func TestNothingKnown(t *testing.T) {
	for _, policy := range []string{"on_demand", "streamed"} {
		t.Run(policy, func(t *testing.T) {
			lite(t, nil, func(t *testing.T, w *world) {
				up := newUpstream(t)
				remote := w.remote(up.url, policy)
				bodies := map[string]string{"/small": ten, "/large": large, "/zipped": large}
				up.serve = func(w http.ResponseWriter, r *http.Request, _ int) {
					_ = http.NewResponseController(w).Flush() // chunked
					if r.URL.Path == "/zipped" {
						return
					}
					_, _ = io.WriteString(w, bodies[r.URL.Path])
				}
				var units []unit
				for path := range bodies {
					u := w.unit(path[1:], "-")
					w.source(u, remote, up.url+path, knownAs{size: -1})
					units = append(units, u)
				}
				w.published("foo", nil, units...)
				w.wantBody("foo/small", ten)
				w.wantBody("foo/large", large)
				checkSecond := func() {
					a := w.get("foo/large", "Range", "bytes=5-6")
					if policy == "on_demand" && (a.code != 206 || a.body != "56") {
						t.Errorf("a part of a stored file: %s", a)
					}
					if policy == "streamed" && (a.code != 200 || a.body != large) {
						t.Errorf("a part of a file of unknown size: %.100s", a)
					}
				}
				checkSecond()
			})
		})
	}
}

func TestUpstreamCompresses(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		w.onDemand(up, "on_demand", map[string]string{"f": large})
		up.serve = func(w http.ResponseWriter, r *http.Request, _ int) {
			if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				_, _ = io.WriteString(w, large)
				return
			}
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, large)
			_ = z.Close()
		}
		if a := w.get("foo/f"); a.code != 200 || a.body != large || a.header.Get("Content-Encoding") != "" || a.header.Get("Content-Length") != fmt.Sprint(len(large)) {
			t.Errorf("%.100s %v", a, a.header)
		}
	})
}

// However many clients there are, and whatever parts they want, there is one download.
func TestClientsShareADownload(t *testing.T) {
	for _, policy := range []string{"on_demand", "streamed"} {
		t.Run(policy, func(t *testing.T) {
			lite(t, nil, func(t *testing.T, w *world) {
				up := newUpstream(t)
				_, units := w.onDemand(up, policy, map[string]string{"f": large})
				gate := make(chan struct{})
				up.serve = func(w http.ResponseWriter, _ *http.Request, _ int) {
					half := len(large) / 2
					w.Header().Set("Content-Length", fmt.Sprint(len(large)))
					_, _ = io.WriteString(w, large[:half])
					_ = http.NewResponseController(w).Flush()
					<-gate
					_, _ = io.WriteString(w, large[half:])
				}
				const clients = 20
				var wg, begun sync.WaitGroup
				for i := range clients {
					if i == 1 {
						begun.Wait() // there is one that wants it all
					}
					begun.Add(1)
					wg.Go(func() {
						ctx, cancel := context.WithCancel(w.ctx)
						defer cancel()
						req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/pulp/content/foo/f", http.NoBody)
						if err != nil {
							t.Error(err)
						}
						want := large
						switch i % 5 {
						case 1:
							req.Header.Set("Range", "bytes=0-99")
							want = large[:100]
						case 2:
							req.Header.Set("Range", "bytes=200000-")
							want = large[200000:]
						}
						resp, err := plain.RoundTrip(req)
						begun.Done()
						if err != nil {
							t.Error(err)
							return
						}
						defer resp.Body.Close() //nolint:errcheck // it was only read
						if i%5 == 3 {           // this one leaves
							_, _ = io.CopyN(io.Discard, resp.Body, 1000)
							return
						}
						if b, err := io.ReadAll(resp.Body); err != nil || string(b) != want {
							t.Errorf("client %d: %d bytes, %v", i, len(b), err)
						}
					})
				}
				begun.Wait() // all have their headers while the download stands still
				close(gate)
				wg.Wait()
				if n := up.count("/f"); n != 1 {
					t.Errorf("%d downloads", n)
				}
				if (w.stored(units["f"]) != "") != (policy == "on_demand") {
					t.Errorf("stored: %q", w.stored(units["f"]))
				}
				eventually(t, "no staged file", func() bool { return len(w.staged()) == 0 })
			})
		})
	}
}

// Many clients ask at once for many files of which nothing was downloaded; each file comes once.
func TestStampede(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		files := map[string]string{}
		for i := range 8 {
			files[fmt.Sprint("f", i)] = strings.Repeat(fmt.Sprint(i), 1+i*20_000)
		}
		w.onDemand(up, "on_demand", files)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for path, body := range files {
					a, err := w.try(http.MethodGet, "/pulp/content/foo/"+path)
					if err != nil || a.err != nil || a.body != body {
						t.Errorf("%s: %.100s %v %v", path, a, a.err, err)
					}
				}
			})
		}
		wg.Wait()
		for path := range files {
			if n := up.count("/" + path); n != 1 {
				t.Errorf("%s: %d downloads", path, n)
			}
		}
	})
}

// leaving asks for a file and goes away when the upstream was reached, or after the first bytes.
func (w *world) leaving(path string, afterBytes bool, reached <-chan struct{}) {
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/pulp/content/"+path, http.NoBody)
	w.check(err)
	if !afterBytes {
		go func() { <-reached; cancel() }()
	}
	resp, err := plain.RoundTrip(req)
	if err != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 100)
	resp.Body.Close() //nolint:errcheck // that is the point
}

func TestDownloadGoesOnWithoutClients(t *testing.T) {
	for _, afterBytes := range []bool{false, true} {
		lite(t, nil, func(t *testing.T, w *world) {
			up := newUpstream(t)
			_, units := w.onDemand(up, "on_demand", map[string]string{"f": large})
			reached, gate := make(chan struct{}), make(chan struct{})
			up.serve = func(w http.ResponseWriter, _ *http.Request, n int) {
				w.Header().Set("Content-Length", fmt.Sprint(len(large)))
				if afterBytes {
					_, _ = io.WriteString(w, large[:len(large)/2])
					_ = http.NewResponseController(w).Flush()
				}
				if n == 1 {
					close(reached)
				}
				<-gate
				if !afterBytes {
					_, _ = io.WriteString(w, large[:len(large)/2])
				}
				_, _ = io.WriteString(w, large[len(large)/2:])
			}
			w.leaving("foo/f", afterBytes, reached)
			close(gate)
			eventually(t, "stored", func() bool { return w.stored(units["f"]) == sum(large) })
			w.wantBody("foo/f", large)
			if n := up.count("/f"); n != 1 {
				t.Errorf("%d downloads", n)
			}
		})
	}
}

// What is not kept is not downloaded for nobody.
func TestStreamedEndsWithItsClients(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		w.onDemand(up, "streamed", map[string]string{"f": large})
		ended := make(chan struct{})
		up.serve = func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			_, _ = io.WriteString(w, large[:len(large)/2])
			_ = http.NewResponseController(w).Flush()
			if n == 1 {
				<-r.Context().Done()
				close(ended)
				return
			}
			_, _ = io.WriteString(w, large[len(large)/2:])
		}
		w.leaving("foo/f", true, nil)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Fatal("the upstream still sends")
		}
		w.wantBody("foo/f", large)
		eventually(t, "no staged file", func() bool { return len(w.staged()) == 0 })
	})
}

// There is a limit to the downloads that nobody waits for.
func TestOrphansAreBounded(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		files := map[string]string{}
		for i := range 40 {
			files[fmt.Sprint("f", i)] = large
		}
		w.onDemand(up, "on_demand", files)
		var mu sync.Mutex
		open := 0
		up.serve = func(w http.ResponseWriter, r *http.Request, _ int) {
			mu.Lock()
			open++
			mu.Unlock()
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			_, _ = io.WriteString(w, large[:len(large)/2])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			mu.Lock()
			open--
			mu.Unlock()
		}
		for path := range files {
			w.leaving("foo/"+path, true, nil)
		}
		eventually(t, "at most 32 downloads", func() bool { mu.Lock(); defer mu.Unlock(); return open <= 32 })
		time.Sleep(20 * time.Millisecond)
		mu.Lock()
		if open != 32 {
			t.Errorf("%d downloads go on, want 32", open)
		}
		mu.Unlock()
		w.stop() // ends them
		eventually(t, "no download", func() bool { mu.Lock(); defer mu.Unlock(); return open == 0 })
	})
}

func TestStopEndsDownloads(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		w.onDemand(up, "on_demand", map[string]string{"f": large, "g": large})
		reached := make(chan struct{}, 1)
		up.serve = func(w http.ResponseWriter, r *http.Request, _ int) {
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			_, _ = io.WriteString(w, large[:len(large)/2])
			_ = http.NewResponseController(w).Flush()
			reached <- struct{}{}
			<-r.Context().Done()
		}
		done := make(chan answer)
		go func() {
			a, err := w.try(http.MethodGet, "/pulp/content/foo/f")
			a.err = errors.Join(a.err, err)
			done <- a
		}()
		<-reached
		w.stop()
		if a := <-done; a.err == nil && a.code != 503 {
			t.Errorf("a clean end: %.100s", a)
		}
		if a := w.get("foo/g"); a.code != 503 || !strings.Contains(a.body, "stopping") {
			t.Errorf("after the end: %s", a)
		}
	})
}

// Clients get a right file also when it cannot be stored.
func TestStoringFails(t *testing.T) {
	for name, save := range map[string]func(w *world, ctx context.Context, stage blob.Stage) (*pulp.Artifact, error){
		"before the file": func(*world, context.Context, blob.Stage) (*pulp.Artifact, error) { return nil, errors.New("no luck") },
		"after the file": func(w *world, ctx context.Context, stage blob.Stage) (*pulp.Artifact, error) {
			if err := stage.Commit(ctx, blob.ArtifactKey(w.domain, stage.Digests()[pulp.SHA256])); err != nil {
				return nil, err
			}
			return nil, errors.New("no luck")
		},
	} {
		t.Run(name, func(t *testing.T) {
			change := func(w *world, c *content.Config) {
				c.Save = func(ctx context.Context, stage blob.Stage) (*pulp.Artifact, error) { return save(w, ctx, stage) }
			}
			lite(t, change, func(t *testing.T, w *world) {
				up := newUpstream(t)
				_, units := w.onDemand(up, "on_demand", map[string]string{"small": ten, "large": large})
				for range 2 {
					w.wantBody("foo/small", ten)
					w.wantBody("foo/large", large)
				}
				if w.stored(units["large"]) != "" || up.count("/large") != 2 {
					t.Errorf("stored: %q, %d downloads", w.stored(units["large"]), up.count("/large"))
				}
				if s := w.log.take(); strings.Count(s, "no luck") != 4 {
					t.Errorf("logged: %s", s)
				}
				eventually(t, "no staged file", func() bool { return len(w.staged()) == 0 })
			})
		})
	}
}

// A file that is stored twice at once, and dropped in one place before the other has made use of it, is downloaded again.
func TestDroppedMeanwhile(t *testing.T) {
	dropped := false
	change := func(w *world, c *content.Config) {
		c.Save = func(ctx context.Context, stage blob.Stage) (*pulp.Artifact, error) {
			a, err := w.save(ctx, stage)
			if err == nil && !dropped {
				dropped = true
				w.write("", nil, "DELETE FROM core_artifact WHERE id = ?", a.ID)
				err = w.blobs.Delete(ctx, blob.ArtifactKey(w.domain, a.SHA256()))
			}
			return a, err
		}
	}
	each(t, func(w *world, c *content.Config) { dropped = false; change(w, c) }, func(t *testing.T, w *world) {
		up := newUpstream(t)
		_, units := w.onDemand(up, "on_demand", map[string]string{"f": large})
		w.wantBody("foo/f", large)
		if w.stored(units["f"]) == "" || up.count("/f") != 2 {
			t.Errorf("stored: %q, %d downloads", w.stored(units["f"]), up.count("/f"))
		}
		w.wantBody("foo/f", large)
	})
}

// Content that is removed while its file is downloaded does no harm.
func TestContentRemovedMeanwhile(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		_, units := w.onDemand(up, "on_demand", map[string]string{"f": large})
		up.serve = func(rw http.ResponseWriter, _ *http.Request, _ int) {
			w.write("", nil, "DELETE FROM core_contentartifact WHERE id = ?", units["f"].contentArtifact)
			_, _ = io.WriteString(rw, large)
		}
		w.wantBody("foo/f", large)
	})
}

func TestPullThrough(t *testing.T) {
	var served []pulp.ID
	var kept unit
	change := func(w *world, c *content.Config) {
		c.Types["npm.npm"] = content.Serving{PullThrough: func(_ context.Context, r *content.Request, remote *pulp.Remote) (*content.Upstream, error) {
			if r.Rel == "nowhere" {
				return nil, nil
			}
			up := &content.Upstream{URL: pulp.JoinURL(remote.URL, r.Rel)}
			if strings.HasSuffix(r.Rel, ".tgz") {
				up.Keep = func(_ context.Context, a *pulp.Artifact) (pulp.ID, error) {
					kept = w.unit(r.Rel, "-")
					w.write("", nil, "UPDATE core_contentartifact SET artifact = ? WHERE id = ?", a.ID, kept.contentArtifact)
					w.source(kept, remote.ID, up.URL, knownAs{a.Size, a.SHA256()})
					return kept.contentArtifact, nil
				}
				up.Served = func(_ context.Context, id pulp.ID) error { served = append(served, id); return nil }
			}
			return up, nil
		}}
	}
	each(t, change, func(t *testing.T, w *world) {
		served = nil
		up := newUpstream(t)
		up.files["/pkg"], up.files["/pkg.tgz"], up.files["/dir/"] = "metadata", large, "index"
		remote := w.remote(up.url, "on_demand")
		repo := w.repository()
		w.version(repo, w.unit("own", "own"))
		w.distribute("npm", dist{typ: "npm.npm", repository: repo, remote: remote})
		w.distribute("file", dist{typ: "file.file", remote: remote})

		w.wantBody("npm/own", "own")
		for i := range 2 { // what is no content is asked for each time
			if a := w.get("npm/pkg"); a.code != 200 || a.body != "metadata" || a.header.Get("Content-Type") != "text/upstream" || a.header.Get("Set-Cookie") != "" || up.count("/pkg") != i+1 {
				t.Errorf("pkg: %s %v, %d downloads", a, a.header, up.count("/pkg"))
			}
		}
		w.wantBody("npm/dir/", "index")
		for range 2 {
			w.wantBody("npm/pkg.tgz", large)
		}
		if up.count("/pkg.tgz") != 1 || w.stored(kept) != sum(large) {
			t.Errorf("pkg.tgz: %d downloads, stored %q", up.count("/pkg.tgz"), w.stored(kept))
		}
		if len(served) != 2 || served[0] != kept.contentArtifact || served[1] != kept.contentArtifact {
			t.Errorf("told of %v, want %v twice", served, kept.contentArtifact)
		}
		want := "404 Error while fetching from upstream remote(" + up.url + "/none): Not Found"
		if a := w.get("npm/none"); a.status != want || a.body != "404: Error while fetching from upstream remote("+up.url+"/none): Not Found" {
			t.Errorf("none: %s, want %s", a, want)
		}
		w.wantCode("npm/nowhere", 404)
		for _, path := range []string{"npm/x/../pkg", "npm/./pkg", "npm/%2e%2e/pkg", "npm/.."} {
			if a := w.get(path); a.status != "404 Not Found" { // and not the upstream's
				t.Errorf("%s: %s", path, a)
			}
		}
		w.wantCode("file/pkg", 404) // a type without pull-through

		w.write("", nil, "UPDATE core_remote SET url = 'http://127.0.0.1:1/' WHERE id = ?", remote)
		w.wantCode("npm/pkg", 500)
		w.log.take()
	})
}

// lateIndex says of every path that it is one file, which is not stored.
type lateIndex struct{ contentArtifact pulp.ID }

func (x *lateIndex) Lookup(context.Context, content.Served, string) (*content.Entry, error) {
	return &content.Entry{ContentArtifact: x.contentArtifact}, nil
}

func (*lateIndex) HasDir(context.Context, content.Served, string) (bool, error) { return false, nil }

func (*lateIndex) List(context.Context, content.Served, string) ([]content.Item, error) {
	return nil, nil
}

// What was stored after a request looked it up, but before it got to download it, is not downloaded again.
func TestStoredMeanwhile(t *testing.T) {
	index := &lateIndex{}
	lite(t, func(_ *world, c *content.Config) { c.Index = index }, func(t *testing.T, w *world) {
		up := newUpstream(t)
		_, units := w.onDemand(up, "on_demand", map[string]string{"f": ten})
		index.contentArtifact = units["f"].contentArtifact
		w.wantBody("foo/f", ten)
		w.wantBody("foo/g", ten) // another path, so that no cache helps
		if n := up.count("/f"); n != 1 {
			t.Errorf("%d downloads", n)
		}
	})
}
