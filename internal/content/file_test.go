package content_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/content/notice"
	"granary/internal/pulp"
)

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func TestFileHeaders(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		body := strings.Repeat("0123456789", 20_000)
		w.published("foo", map[string]string{"empty": ""}, w.unit("x/a.tar.gz", "small"), w.unit("large", body), w.unit(".asd", "d"))
		for path, want := range map[string]struct{ body, mediaType string }{
			"x/a.tar.gz": {"small", "application/gzip"},
			"large":      {body, "application/octet-stream"},
			"empty":      {"", "application/octet-stream"},
			".asd":       {"d", "application/octet-stream"},
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				a := w.do(method, "/pulp/content/foo/"+path)
				if a.code != 200 || (a.body != want.body) != (method == http.MethodHead && want.body != "") || a.err != nil {
					t.Errorf("%s %s: %.100s", method, path, a)
				}
				for name, want := range map[string]string{
					"Content-Type": want.mediaType, "Content-Length": fmt.Sprint(len(want.body)), "X-Pulp-Artifact-Size": fmt.Sprint(len(want.body)),
					"X-Pulp-Cache": "MISS", "Etag": `"` + sum(want.body) + `"`, "Last-Modified": "Tue, 24 Nov 2026 23:33:04 GMT", "Accept-Ranges": "bytes",
					"Content-Disposition": "", "Cache-Control": "", "Content-Encoding": "", "Content-Range": "",
				} {
					if got := a.header.Get(name); got != want {
						t.Errorf("%s %s: %s %q, want %q", method, path, name, got, want)
					}
				}
			}
		}
		if a := w.get("foo/large", "Accept-Encoding", "gzip"); a.body != body {
			t.Error("the body was compressed")
		}
	})
}

const ten = "0123456789"

// ranges are requests for a part of a file of ten bytes, and what the reference answers to them.
var ranges = []struct{ header, body, contentRange string }{
	{"bytes=0-4", "01234", "bytes 0-4/10"},
	{"bytes=3-3", "3", "bytes 3-3/10"},
	{"bytes=0-", ten, "bytes 0-9/10"},
	{"bytes=9-", "9", "bytes 9-9/10"},
	{"bytes=5-9", "56789", "bytes 5-9/10"},
	{"bytes=5-1000", "56789", "bytes 5-9/10"},
	{"bytes=0-99999999999999999999999", ten, "bytes 0-9/10"},
	{"bytes=-3", "789", "bytes 7-9/10"},
	{"bytes=-5000", ten, "bytes 0-9/10"},
	{"bytes=-99999999999999999999999", ten, "bytes 0-9/10"},
	{"bytes=-0", ten, "bytes 0-9/10"},
	{"bytes=10-", "", "bytes */10"},
	{"bytes=99999999999999999999999-", "", "bytes */10"},
	{"bytes=0-1,4-5", "", "bytes */10"},
	{"bytes=-1-11", "", "bytes */10"},
	{"bytes=5-2", "", "bytes */10"},
	{"bytes=abc", "", "bytes */10"},
	{"bytes=-", "", "bytes */10"},
	{"bytes=", "", "bytes */10"},
	{"bytes= 0-4", "", "bytes */10"},
	{"bytes=0x1-4", "", "bytes */10"},
	{"bytes=+1-4", "", "bytes */10"},
	{"BYTES=0-4", "", "bytes */10"},
	{"items=0-1", "", "bytes */10"},
	{"garbage", "", "bytes */10"},
}

// checkRange compares an answer with a line of ranges.
func checkRange(t *testing.T, what string, a answer, body, contentRange string) {
	t.Helper()
	code := 206
	if strings.HasPrefix(contentRange, "bytes */") {
		code = 416
	}
	if a.code != code || a.header.Get("Content-Range") != contentRange || a.err != nil {
		t.Errorf("%s: %s, Content-Range %q, %v; want %d, %q", what, a, a.header.Get("Content-Range"), a.err, code, contentRange)
	}
	if code == 206 && (a.body != body || a.header.Get("Content-Length") != fmt.Sprint(len(body))) {
		t.Errorf("%s: %q of length %q, want %q", what, a.body, a.header.Get("Content-Length"), body)
	}
}

func TestRange(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		w.published("foo", map[string]string{"empty": ""}, w.unit("a", ten))
		for _, tc := range ranges {
			a := w.get("foo/a", "Range", tc.header)
			checkRange(t, tc.header, a, tc.body, tc.contentRange)
			if a.code == 416 && (a.body != "" || a.header.Get("Etag") != "" || a.header.Get("Content-Length") != "0") {
				t.Errorf("%s: %s %v", tc.header, a, a.header)
			}
			if a.header.Get("X-Pulp-Artifact-Size") != "10" {
				t.Errorf("%s: X-PULP-ARTIFACT-SIZE %q", tc.header, a.header.Get("X-Pulp-Artifact-Size"))
			}
			head := w.do(http.MethodHead, "/pulp/content/foo/a", "Range", tc.header)
			if head.code != a.code || head.header.Get("Content-Length") != a.header.Get("Content-Length") || head.header.Get("Content-Range") != tc.contentRange {
				t.Errorf("HEAD %s: %s %v", tc.header, head, head.header)
			}
		}
		for _, header := range []string{"bytes=0-0", "bytes=-5", "bytes=0-"} {
			checkRange(t, header+" of nothing", w.get("foo/empty", "Range", header), "", "bytes */0")
		}
	})
}

func TestConditions(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		w.pass(300 * time.Millisecond) // what is below a second is not seen by clients
		w.published("foo", nil, w.unit("a", ten))
		tag := `"` + sum(ten) + `"`
		const before, at, after = "Tue, 24 Nov 2026 23:33:03 GMT", "Tue, 24 Nov 2026 23:33:04 GMT", "Tue, 24 Nov 2026 23:33:05 GMT"
		for _, tc := range []struct {
			name   string
			header []string
			want   int
		}{
			{"its tag", []string{"If-None-Match", tag}, 304},
			{"its tag, weak", []string{"If-None-Match", "W/" + tag}, 304},
			{"in a list", []string{"If-None-Match", `"x", W/"y" ,` + tag}, 304},
			{"in a second line", []string{"If-None-Match", `"x"`, "If-None-Match", tag}, 304},
			{"any", []string{"If-None-Match", "*"}, 304},
			{"another tag", []string{"If-None-Match", `"x"`}, 200},
			{"no tag", []string{"If-None-Match", sum(ten)}, 200},
			{"an open tag", []string{"If-None-Match", `"` + sum(ten)}, 200},
			{"newer than that", []string{"If-Modified-Since", before}, 200},
			{"as old as that", []string{"If-Modified-Since", at}, 304},
			{"older than that", []string{"If-Modified-Since", after}, 304},
			{"no date", []string{"If-Modified-Since", "yesterday"}, 200},
			{"the tag beats the date", []string{"If-None-Match", `"x"`, "If-Modified-Since", at}, 200},
			{"a range changes nothing", []string{"If-None-Match", tag, "Range", "bytes=0-1"}, 304},
			{"match its tag", []string{"If-Match", tag}, 200},
			{"match any", []string{"If-Match", "*"}, 200},
			{"match weakly", []string{"If-Match", "W/" + tag}, 412},
			{"match another", []string{"If-Match", `"x"`}, 412},
			{"unmodified", []string{"If-Unmodified-Since", at}, 200},
			{"modified", []string{"If-Unmodified-Since", before}, 412},
			{"the match beats the date", []string{"If-Match", tag, "If-Unmodified-Since", before}, 200},
			{"the match comes first", []string{"If-Match", `"x"`, "If-None-Match", tag}, 412},
			{"range of its tag", []string{"Range", "bytes=0-1", "If-Range", tag}, 206},
			{"range of a weak tag", []string{"Range", "bytes=0-1", "If-Range", "W/" + tag}, 200},
			{"range of another tag", []string{"Range", "bytes=0-1", "If-Range", `"x"`}, 200},
			{"range of its date", []string{"Range", "bytes=0-1", "If-Range", at}, 206},
			{"range of a later date", []string{"Range", "bytes=0-1", "If-Range", after}, 206},
			{"range of an earlier date", []string{"Range", "bytes=0-1", "If-Range", before}, 200},
			{"bad range of another tag", []string{"Range", "bytes=90-", "If-Range", `"x"`}, 200},
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				a := w.do(method, "/pulp/content/foo/a", tc.header...)
				if a.code != tc.want {
					t.Errorf("%s, %s: %s, want %d", tc.name, method, a, tc.want)
				}
				h := a.header
				switch a.code {
				case 304:
					if a.body != "" || h.Get("Content-Length") != "" || h.Get("Etag") != tag || h.Get("Last-Modified") != at || h.Get("X-Pulp-Artifact-Size") != "10" {
						t.Errorf("%s: %q %v", tc.name, a.body, h)
					}
				case 412:
					if a.body != "" || h.Get("Content-Length") != "0" || h.Get("Etag") != "" {
						t.Errorf("%s: %q %v", tc.name, a.body, h)
					}
				}
			}
		}
	})
}

func TestMissingFile(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		_, _ = w.published("foo", map[string]string{"made": "made"}, w.unit("gone", "gone"), w.unit("cut", "cut"), w.unit("fine", "fine"))
		w.wantBody("foo/gone", "gone")
		w.damage(w.artifact("gone"), false)
		w.damage(w.artifact("cut"), true)
		w.damage(w.artifact("made"), false)
		for _, path := range []string{"foo/gone", "foo/cut", "foo/made"} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				a := w.do(method, "/pulp/content/"+path)
				if a.code != 500 || !a.close || method == http.MethodGet && a.body != "500 Internal Server Error\n\nServer got itself in trouble" ||
					a.header.Get("Content-Type") != "text/plain; charset=utf-8" || a.header.Get("Etag") != "" {
					t.Errorf("%s %s: %s %v", method, path, a, a.header)
				}
			}
			if s := w.log.take(); !strings.Contains(s, "missing or damaged") {
				t.Errorf("logged: %s", s)
			}
		}
		w.wantBody("foo/fine", "fine")
	})
}

// A file that was lost is fetched again from where it came.
func TestMissingFileIsRepaired(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		right := strings.Repeat("right", 10_000) // too large to be kept in memory
		up.files["/f"] = right
		u, v := w.unit("f", right), w.unit("g", "other")
		remote := w.remote(up.url, "on_demand")
		w.source(u, remote, up.url+"/f", knownAs{size: -1})
		w.source(v, remote, up.url+"/f", knownAs{size: -1})
		w.published("foo", nil, u, v)
		w.wantBody("foo/f", right)
		for _, cut := range []bool{false, true} {
			w.damage(w.artifact(right), cut)
			w.wantBody("foo/f", right)
			w.wantBody("foo/f", right)
			if s := w.log.take(); strings.Count(s, "missing or damaged") != 1 {
				t.Errorf("logged: %s", s)
			}
		}
		if n := up.count("/f"); n != 2 {
			t.Errorf("%d downloads, want 2", n)
		}
		// a source that has another file is of no use
		w.damage(w.artifact("other"), false)
		if a, err := w.try(http.MethodGet, "/pulp/content/foo/g"); err == nil && a.err == nil {
			t.Errorf("a wrong file was served: %s", a)
		}
		w.wantCode("foo/g", 500)
		w.log.take()
	})
}

// A small file that is asked for often is kept in memory, all the same in its answers.
func TestSmallFilesInMemory(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		repo, _ := w.published("foo", nil, w.unit("a", ten))
		var first http.Header
		for i := range 4 {
			a := w.get("foo/a")
			a.header.Del("X-Pulp-Cache")
			a.header.Del("Date")
			if first == nil {
				first = a.header
			}
			if diff := cmp.Diff(first, a.header); a.body != ten || diff != "" {
				t.Errorf("answer %d: %s, header (-first +this):\n%s", i, a, diff)
			}
		}
		for _, tc := range ranges {
			checkRange(t, tc.header, w.get("foo/a", "Range", tc.header), tc.body, tc.contentRange)
		}
		w.damage(w.artifact(ten), false)
		w.wantBody("foo/a", ten) // the memory is as good as the disk
		w.write(notice.Files, []pulp.ID{repo}, "UPDATE core_repository SET updated = 1 WHERE id = ?", repo)
		w.wantCode("foo/a", 500)
		w.log.take()
	})
}

// The connection lives on after all answers but those that must end it.
func TestKeepAlive(t *testing.T) {
	w := newWorld(t, liteDB(t), nil)
	w.published("foo", nil, w.unit("a", ten), w.unit("b", strings.Repeat(ten, 10_000)))
	for _, path := range []string{"foo/a", "foo/b", "foo/", "foo", "", "foo/nope"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			if a := w.do(method, "/pulp/content/"+path); a.close {
				t.Errorf("%s %s closes the connection", method, path)
			}
		}
	}
}

// A wrapper around the ResponseWriter that keeps ReadFrom and Unwrap, as the server's are, hinders nothing.
func TestWrappedWriter(t *testing.T) {
	w := newWorld(t, liteDB(t), nil)
	body := strings.Repeat(ten, 10_000)
	w.published("foo", nil, w.unit("a", body))
	w.distribute("none", dist{})
	var sent int64
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.server.ServeHTTP(wrapper{rw, &sent}, r) }))
	defer srv.Close()
	w.url = srv.URL
	w.wantBody("foo/a", body)
	if a := w.get("none/"); a.status != "404 "+notPointing {
		t.Errorf("got %s", a)
	}
	srv.Close() // waits for the handlers
	if sent != int64(len(body)) {
		t.Errorf("ReadFrom took %d bytes, want %d", sent, len(body))
	}
}

type wrapper struct {
	http.ResponseWriter
	n *int64
}

func (w wrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w wrapper) ReadFrom(r io.Reader) (int64, error) {
	n, err := w.ResponseWriter.(io.ReaderFrom).ReadFrom(r)
	*w.n += n
	return n, err
}

func TestLastModifiedIsStable(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		repo, _ := w.published("foo", nil, w.unit("a", ten))
		before := w.get("foo/a").header
		w.pass(time.Hour)
		w.damage(w.artifact(ten), false)
		w.artifact(ten) // stored again
		w.write(notice.Files, []pulp.ID{repo}, "UPDATE core_repository SET updated = 1 WHERE id = ?", repo)
		after := w.get("foo/a").header
		for _, name := range []string{"Etag", "Last-Modified"} {
			if before.Get(name) != after.Get(name) {
				t.Errorf("%s: %q, then %q", name, before.Get(name), after.Get(name))
			}
		}
	})
}
