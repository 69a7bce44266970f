package content_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"granary/internal/content"
	"granary/internal/content/notice"
	"granary/internal/pulp"
)

const notPointing = "Distribution is not pointing to a publication, repository, repository version, or remote."

// The answers are those of the reference to the same requests, but for the 301 of the prefix, which its front server sends.
func TestRoutes(t *testing.T) {
	each(t, nil, func(t *testing.T, w *world) {
		units := []unit{w.unit("a.txt", "aaa"), w.unit("dir/b.txt", "b"), w.unit("we ird&<x>.txt", "w"), w.unit("ÄB/q", "q"), w.unit("..a/.b", "dots"), w.unit("a+b%2F", "p")}
		w.published("ctz/a/foo", map[string]string{"PULP_MANIFEST": "m"}, units...)
		w.distribute("ctz/c/none", dist{})
		w.distribute("ctz/c/hidden", dist{hidden: true})
		unpublished := w.repository()
		w.version(unpublished, units...)
		w.distribute("unpublished", dist{repository: unpublished})

		const notFound = "404: Not Found"
		for _, tc := range []struct {
			path     string // as it is sent
			status   string
			location string
			body     string // or its beginning
		}{
			{"/pulp/content", "301 Moved Permanently", "/pulp/content/", "301: Moved Permanently"},
			{"/pulp/content/ctz", "301 Moved Permanently", "/pulp/content/ctz/", "301: Moved Permanently"},
			{"/pulp/content/ctz/c?x=1", "301 Moved Permanently", "/pulp/content/ctz/c/", "301: Moved Permanently"},
			{"/pulp/content/ctz/", "200 OK", "", "\n<html>"},
			{"/pulp/content/ctz//", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/nope", "404 Not Found", "", notFound},
			{"/pulp/content/ct/", "404 Not Found", "", notFound},
			{"/pulp/content/nope/", "404 Not Found", "", notFound},
			{"/other", "404 Not Found", "", notFound},
			{"/pulp/contents/", "404 Not Found", "", notFound},

			{"/pulp/content/ctz/a/foo", "301 Moved Permanently", "/pulp/content/ctz/a/foo/", "301: Moved Permanently"},
			{"/pulp/content/ctz/a/foo/", "200 OK", "", "\n<html>"},
			{"/pulp/content/ctz/a/foo/a.txt", "200 OK", "", "aaa"},
			{"/pulp/content/ctz/a/foo/a.txt?x=1", "200 OK", "", "aaa"},
			{"/pulp/content/ctz/a/foo/a.txt/", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/a/foobar", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/a/foo/dir", "301 Moved Permanently", "/pulp/content/ctz/a/foo/dir/", "301: Moved Permanently"},
			{"/pulp/content/ctz/a/foo/dir/", "200 OK", "", "\n<html>"},
			{"/pulp/content/ctz/a/foo/di", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/a/foo/di/", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/a/foo/PULP_MANIFEST", "200 OK", "", "m"},
			{"/pulp/content/ctz/a/foo/PULP_MANIFEST/", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/a/foo/nope", "404 Not Found", "", notFound},

			{"/pulp/content/ctz%2Fa%2Ffoo/dir%2fb.txt", "200 OK", "", "b"},
			{"/pulp/content/ctz/a/foo//a.txt", "200 OK", "", "aaa"},
			{"/pulp/content/ctz/a/foo///dir/b.txt", "200 OK", "", "b"},
			{"/pulp/content/ctz/a/foo/dir//b.txt", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/a/foo/dir//", "404 Not Found", "", notFound},
			{"/pulp/content//ctz/a/foo/a.txt", "404 Not Found", "", notFound},
			{"/pulp/content/ctz//a/foo/a.txt", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/a/foo/we%20ird&%3Cx%3e.txt", "200 OK", "", "w"},
			{"/pulp/content/ctz/a/foo/%C3%84B", "301 Moved Permanently", "/pulp/content/ctz/a/foo/%C3%84B/", "301: Moved Permanently"},
			{"/pulp/content/ctz/a/foo/a+b%252F", "200 OK", "", "p"},
			{"/pulp/content/ctz/a/foo/a%20b%252F", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/a/foo/%FF", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/a/foo/a%00", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/a/foo/" + strings.Repeat("x", 9000), "404 Not Found", "", notFound},

			{"/pulp/content/ctz/a/foo/../foo/a.txt", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/a/foo/./a.txt", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/a/foo/%2E%2E/foo/a.txt", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/a/..", "404 Not Found", "", notFound},
			{"/pulp/content/../content/ctz/", "404 Not Found", "", notFound},
			{"/pulp/content/ctz/a/foo/..a/.b", "200 OK", "", "dots"},

			{"/pulp/content/ctz/c/none", "301 Moved Permanently", "/pulp/content/ctz/c/none/", "301: Moved Permanently"},
			{"/pulp/content/ctz/c/none/", "404 " + notPointing, "", "404: " + notPointing},
			{"/pulp/content/ctz/c/none/x", "404 " + notPointing, "", "404: " + notPointing},
			{"/pulp/content/unpublished/", "404 Not Found", "", notFound},
			{"/pulp/content/unpublished/a.txt", "404 Not Found", "", notFound},
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				a := w.do(method, tc.path)
				if a.status != tc.status || a.header.Get("Location") != tc.location {
					t.Errorf("%s %.100s: %s to %q, want %s to %q", method, tc.path, a.status, a.header.Get("Location"), tc.status, tc.location)
				}
				if method == http.MethodHead {
					if a.body != "" || a.header.Get("Content-Length") == "" {
						t.Errorf("HEAD %.100s: body %q, length %q", tc.path, a.body, a.header.Get("Content-Length"))
					}
					continue
				}
				if !strings.HasPrefix(a.body, tc.body) {
					t.Errorf("GET %.100s: %q, want %q", tc.path, a.body, tc.body)
				}
				if a.code != http.StatusOK {
					if a.body != tc.body || a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
						t.Errorf("GET %.100s: %s %q", tc.path, a.header.Get("Content-Type"), a.body)
					}
				}
			}
		}
	})
}

func TestMethods(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		w.published("foo", nil, w.unit("a", "aaa"))
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PURGE"} {
			a := w.do(method, "/pulp/content/foo/a")
			if a.code != http.StatusMethodNotAllowed || a.body != "405: Method Not Allowed" || a.header.Get("Allow") != "GET,HEAD" {
				t.Errorf("%s: %s, Allow %q", method, a, a.header.Get("Allow"))
			}
		}
	})
}

func TestNestedDistributionsLongestWins(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		w.published("a", nil, w.unit("b/x", "outer"), w.unit("y", "outer"))
		w.published("a/b", nil, w.unit("x", "inner"))
		w.wantBody("a/b/x", "inner")
		w.wantBody("a/y", "outer")
		w.wantCode("a/b/y", 404)
	})
}

// What a distribution serves, by section 4 of the rules.
func TestWhatIsServed(t *testing.T) {
	each(t, nil, func(t *testing.T, w *world) {
		one, two := w.unit("f", "one"), w.unit("f", "two")
		repo := w.repository()
		v0 := w.version(repo, one)
		p0 := w.publish(v0, true, nil)
		w.pass(1e6)
		p0b := w.publish(v0, true, map[string]string{"again": "x"})
		v1 := w.version(repo, two)

		w.distribute("follows", dist{repository: repo})
		w.distribute("pinned", dist{publication: p0})
		w.distribute("version", dist{version: v0})
		w.distribute("plain", dist{typ: "python.python", repository: repo})
		w.distribute("plain-version", dist{typ: "python.python", version: v1})
		w.distribute("checkpoint", dist{repository: repo, checkpoint: true})

		w.wantBody("follows/f", "one")
		w.wantBody("follows/again", "x") // the newer one of two of the same version
		w.wantBody("pinned/f", "one")
		w.wantCode("pinned/again", 404)
		w.wantBody("version/again", "x") // a version's newest publication
		w.wantBody("plain/f", "one")     // as in Pulp, a publication counts for every type
		w.wantBody("plain-version/f", "two")
		w.wantCode("checkpoint/f", 301) // it might be a time

		p1 := w.publish(v1, false, map[string]string{"g": "published"})
		w.wantBody("follows/g", "published")
		w.wantCode("follows/f", 404) // it does not pass through
		w.wantBody("pinned/f", "one")

		w.write(notice.Repository, []pulp.ID{repo}, "DELETE FROM core_publication WHERE id = ?", p1)
		w.wantBody("follows/f", "one")
		w.write(notice.Repository, []pulp.ID{repo}, "DELETE FROM core_publication WHERE id = ?", p0b)
		w.wantCode("follows/again", 404)
		w.write(notice.Repository, []pulp.ID{repo}, "DELETE FROM core_publication WHERE id = ?", p0)
		w.wantCode("follows/f", 404)
		w.wantCode("pinned/f", 404)
		if a := w.get("pinned/f"); a.status != "404 "+notPointing {
			t.Errorf("the distribution of a deleted publication: %s", a)
		}
		w.write(notice.Repository, []pulp.ID{repo}, "UPDATE core_repository SET updated = 1 WHERE id = ?", repo)
		w.wantBody("plain/f", "two") // without any publication it is the latest version
	})
}

func TestIncompleteIsNotServed(t *testing.T) {
	each(t, nil, func(t *testing.T, w *world) {
		repo := w.repository()
		v := w.version(repo, w.unit("f", "one"))
		w.publish(v, true, nil)
		w.distribute("foo", dist{repository: repo})
		w.distribute("bar", dist{typ: "python.python", repository: repo})
		next := w.version(repo, w.unit("f", "two"))
		p := w.publish(next, true, nil)
		w.write(notice.Repository, []pulp.ID{repo}, "UPDATE core_publication SET complete = ? WHERE id = ?", false, p)
		w.wantBody("foo/f", "one")
		w.write(notice.Repository, []pulp.ID{repo}, "DELETE FROM core_publication WHERE repository_version IN (?, ?)", v, next)
		w.wantBody("bar/f", "two")
		w.write(notice.Repository, []pulp.ID{repo}, "UPDATE core_repositoryversion SET complete = ? WHERE id = ?", false, next)
		w.wantBody("bar/f", "one")
	})
}

func TestIndexHTML(t *testing.T) {
	each(t, nil, func(t *testing.T, w *world) {
		units := []unit{w.unit("site/index.html", "content"), w.unit("site/x", "x"), w.unit("d/y", "y")}
		repo := w.repository()
		v := w.version(repo, units...)
		w.publish(v, true, map[string]string{"d/index.html": "published", "index.html": "root"})
		w.distribute("pub", dist{repository: repo})
		w.distribute("ver", dist{typ: "python.python", version: v})

		if a := w.get("pub/d"); a.code != 301 || a.header.Get("Location") != "/pulp/content/pub/d/" {
			t.Errorf("pub/d: %s", a)
		}
		w.wantBody("pub/d/", "published")
		w.wantBody("pub/", "root")
		w.wantBody("pub/index.html", "root")
		if a := w.get("pub/d/"); a.header.Get("Content-Type") != "text/html" {
			t.Errorf("Content-Type of an index: %q", a.header.Get("Content-Type"))
		}
		// an index.html that is only content is listed, not used
		if a := w.get("pub/site/"); a.code != 200 || !strings.Contains(a.body, `<a href="index.html">`) {
			t.Errorf("pub/site/: %s", a)
		}
		// without a publication it is used, and needs no slash
		w.wantBody("ver/site/", "content")
		w.wantBody("ver/site", "content")
		if a := w.get("ver/d"); a.code != 301 {
			t.Errorf("ver/d: %s", a)
		}
	})
}

func TestDomains(t *testing.T) {
	each(t, func(_ *world, c *content.Config) { c.Domains = true }, func(t *testing.T, w *world) {
		other := w.addDomain("other", false)
		w.published("foo", nil, w.unit("a", "aaa"))
		w.distribute("foo", dist{domain: other.ID})
		for _, tc := range []struct {
			path, status, location string
		}{
			{"/pulp/content/", "404 Not Found", ""},
			{"/pulp/content", "404 Not Found", ""},
			{"/pulp/content/default", "301 Moved Permanently", "/pulp/content/default/"},
			{"/pulp/content/default/", "200 OK", ""},
			{"/pulp/content/default/foo", "301 Moved Permanently", "/pulp/content/default/foo/"},
			{"/pulp/content/default/foo/a", "200 OK", ""},
			{"/pulp/content/other/foo/a", "404 " + notPointing, ""},
			{"/pulp/content/foo/a", "404 Not Found", ""},
			{"/pulp/content/third/foo/a", "404 Not Found", ""},
			{"/pulp/content//foo/a", "404 Not Found", ""},
		} {
			if a := w.do("GET", tc.path); a.status != tc.status || a.header.Get("Location") != tc.location {
				t.Errorf("GET %s: %s to %q, want %s to %q", tc.path, a.status, a.header.Get("Location"), tc.status, tc.location)
			}
		}
		if a := w.get("default/"); !strings.Contains(a.body, "<title>Index of /pulp/content/default/</title>") || strings.Contains(a.body, "../") {
			t.Errorf("the domain's root: %s", a)
		}
		if a := w.get("default/foo/"); !strings.Contains(a.body, "<h1>Index of /pulp/content/default/foo/</h1>") {
			t.Errorf("a distribution: %s", a)
		}
		w.addDomain("third", false)
		w.wantCode("third/", 200)
		w.write(notice.Domain, []pulp.ID{other.ID}, "DELETE FROM core_distribution WHERE domain = ?", other.ID)
		w.write(notice.Domain, []pulp.ID{other.ID}, "DELETE FROM core_domain WHERE id = ?", other.ID)
		w.wantCode("other/", 404)
	})
}

func TestGuards(t *testing.T) {
	change := func(_ *world, c *content.Config) {
		c.Authenticate = func(r *http.Request) *pulp.User {
			if name, _, ok := r.BasicAuth(); ok && name != "wrong" {
				return &pulp.User{Name: name}
			}
			return nil
		}
		c.Guard = func(_ context.Context, _ pulp.ID, r *content.Request) error {
			switch u := r.User(); {
			case r.Header.Get("X-Broken") != "":
				return errors.New("the guard's own trouble")
			case u == nil:
				return errDenied("Authentication credentials were not provided.")
			case u.Name != "alice" || r.Distribution.BasePath != "g/d":
				return errDenied("no\r\nX-Evil: 1 " + r.Rel)
			}
			return nil
		}
	}
	lite(t, change, func(t *testing.T, w *world) {
		repo, open := w.published("open", nil, w.unit("a", "aaa"))
		guard := w.guard()
		w.distribute("g/d", dist{repository: repo, guard: guard})
		const basic = "Authorization"
		const alice, bob, wrong = "Basic YWxpY2U6eA==", "Basic Ym9iOng=", "Basic d3Jvbmc6eA=="

		const anonymous = "403 Authentication credentials were not provided."
		for _, path := range []string{"g/d", "g/d/", "g/d/a", "g/d/nope"} { // before redirects, listings and 404
			a := w.get(path)
			if a.status != anonymous || a.body != "403: Authentication credentials were not provided." || a.header.Get("WWW-Authenticate") != "" {
				t.Errorf("%s: %s", path, a)
			}
			if a := w.do("HEAD", "/pulp/content/"+path); a.status != anonymous || a.body != "" {
				t.Errorf("HEAD %s: %s", path, a)
			}
		}
		if a := w.get("g/d/a", basic, wrong); a.status != anonymous {
			t.Errorf("with a wrong password: %s", a)
		}
		if a := w.get("g/d/a", basic, alice); a.code != 200 || a.body != "aaa" {
			t.Errorf("as alice: %s", a)
		}
		if a := w.get("g/d/a", basic, bob); a.status != "403 no  X-Evil: 1 a" || a.header.Get("X-Evil") != "" {
			t.Errorf("as bob: %s %v", a, a.header)
		}
		w.wantCode("g/d/a", 403) // though it is cached
		if a := w.get("g/d/a", "X-Broken", "1"); a.code != 500 || a.body != "500 Internal Server Error\n\nServer got itself in trouble" {
			t.Errorf("when the guard fails: %s", a)
		}
		if s := w.log.take(); !strings.Contains(s, "the guard's own trouble") {
			t.Errorf("logged: %s", s)
		}

		w.wantBody("open/a", "aaa")
		w.write(notice.Distribution, []pulp.ID{open}, "UPDATE core_distribution SET content_guard = ? WHERE id = ?", guard, open)
		w.wantCode("open/a", 403)
		w.write(notice.Guard, []pulp.ID{guard}, "DELETE FROM core_contentguard WHERE id = ?", guard)
		w.wantBody("open/a", "aaa")
	})
}

func TestGuardedWithoutGuardsIsDenied(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		repo, _ := w.published("open", nil, w.unit("a", "aaa"))
		w.distribute("g", dist{repository: repo, guard: w.guard()})
		if a := w.get("g/a"); a.status != "403 Forbidden" || a.body != "403: Forbidden" {
			t.Errorf("got %s", a)
		}
	})
}

// A type's own answers, names and headers.
func TestTypes(t *testing.T) {
	var stored, remote unit
	var artifact *pulp.Artifact
	calls := 0
	change := func(_ *world, c *content.Config) {
		c.Types["rpm.rpm"] = content.Serving{
			Handle: func(_ context.Context, r *content.Request) (*content.Answer, error) {
				switch r.Rel {
				case "config.repo":
					calls++
					return &content.Answer{Header: http.Header{"Content-Type": {"text/plain"}}, Body: []byte("[" + r.Distribution.BasePath + "]")}, nil
				case "gone":
					return &content.Answer{Status: 410, Body: []byte("gone")}, nil
				case "alias":
					return &content.Answer{ContentArtifact: stored.contentArtifact}, nil
				case "nowhere":
					return &content.Answer{ContentArtifact: remote.contentArtifact}, nil
				case "artifact.xml":
					return &content.Answer{Artifact: artifact.ID}, nil
				case "missing":
					return &content.Answer{Artifact: pulp.NewID()}, nil
				case "fails":
					return nil, errDenied("not for you")
				}
				return nil, nil
			},
			Listing: func(_ context.Context, _ *content.Distribution, _ content.Served, dir string) ([]string, error) {
				switch dir {
				case "":
					return []string{"config.repo", "f"}, nil
				case "only/names/":
					return []string{"x"}, nil
				}
				return nil, nil
			},
			Headers: func(rel string) http.Header {
				if rel == "repodata/repomd.xml" {
					return http.Header{"Cache-Control": {"no-cache"}, "Content-Type": {"text/special"}}
				}
				return nil
			},
		}
	}
	lite(t, change, func(t *testing.T, w *world) {
		stored, remote, artifact, calls = w.unit("other/path", "stored"), w.unit("z", "-"), w.artifact("lone"), 0
		repo, _ := w.published("unused", map[string]string{"repodata/repomd.xml": "<x/>"}, w.unit("f", "fff"))
		w.distribute("rpm", dist{typ: "rpm.rpm", repository: repo})
		w.distribute("none", dist{typ: "rpm.rpm"})

		for i, want := range []string{"MISS", "HIT"} {
			a := w.get("rpm/config.repo")
			if a.body != "[rpm]" || a.header.Get("Content-Type") != "text/plain" || a.header.Get("X-PULP-CACHE") != want || calls != 1 {
				t.Errorf("answer %d: %s %v, asked %d times", i, a, a.header, calls)
			}
		}
		if a := w.get("rpm/gone"); a.code != 410 || a.body != "gone" {
			t.Errorf("gone: %s", a)
		}
		w.wantBody("rpm/alias", "stored")
		if a := w.get("rpm/artifact.xml"); a.body != "lone" || a.header.Get("Content-Type") != "text/xml" {
			t.Errorf("artifact: %s %q", a, a.header.Get("Content-Type"))
		}
		w.wantCode("rpm/nowhere", 404)
		w.wantCode("rpm/missing", 404)
		w.wantCode("rpm/fails", 403)
		if a := w.get("rpm/repodata/repomd.xml"); a.header.Get("Cache-Control") != "no-cache" || a.header.Get("Content-Type") != "text/special" {
			t.Errorf("repomd.xml: %v", a.header)
		}
		if a := w.get("rpm/f"); a.header.Get("Cache-Control") != "" {
			t.Errorf("f: %v", a.header)
		}
		if diff := cmp.Diff([]string{"config.repo", "f", "repodata/"}, names(w.get("rpm/").body)); diff != "" {
			t.Errorf("listing (-want +got):\n%s", diff)
		}
		w.wantCode("rpm/only/names", 301)
		if diff := cmp.Diff([]string{"x"}, names(w.get("none/only/names/").body)); diff != "" {
			t.Errorf("listing of what serves nothing (-want +got):\n%s", diff)
		}
	})
}

// names returns the names in a listing, but for the parent.
func names(page string) []string {
	var list []string
	for line := range strings.SplitSeq(page, "\n") {
		if _, rest, ok := strings.Cut(line, `">`); ok && strings.HasPrefix(line, "<a ") {
			name, _, _ := strings.Cut(rest, "</a>")
			list = append(list, name)
		}
	}
	return list
}
