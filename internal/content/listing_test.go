package content_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/content"
	"granary/internal/content/notice"
	"granary/internal/pulp"
)

// The pages are those of the reference, but for the sizes and dates of directories, which there are those of some file
// below, and the hrefs of unusual names, which there are not encoded.
func TestListingPages(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		units := []unit{
			w.unit("1.iso", strings.Repeat("x", 1024)), w.unit("a.txt", strings.Repeat("x", 700)), w.unit("col:on.txt", "0123456789"),
			w.unit("dir/b.txt", "b"), w.unit("dir/sub/c.tar.gz", "c"), w.unit("dir/é", "e"), w.unit("dir-x", "d"), w.unit("dir0/x", "d"), w.unit("we ird&<x>.txt", "0123456789"),
			w.unit("ÄB/q", "q"), w.unit("é.txt", "0123456789"),
		}
		w.published("ctz/a/foo", map[string]string{"PULP_MANIFEST": "", "dir/meta": "m"}, units...)
		w.distribute("ctz/od", dist{})
		w.distribute("ctz/c/none", dist{})

		line := func(name, href, text string) string {
			return fmt.Sprintf(`<a href="%s">%s</a>%s24-Nov-2026 23:33  %s`, href, name, strings.Repeat(" ", 100-len([]rune(name))), text)
		}
		dir := func(name, href string) string {
			return fmt.Sprintf(`<a href="%s">%s</a>%s  `, href, name, strings.Repeat(" ", 100-len([]rune(name))))
		}
		page := func(title, parent string, lines ...string) string {
			return "\n<html>\n<head><title>Index of " + title + "</title></head>\n<body bgcolor=\"white\">\n<h1>Index of " + title + "</h1>\n<hr><pre>" + parent + "\n" +
				strings.Join(append(lines, ""), "\n") + "</pre><hr></body>\n</html>"
		}
		const up = `<a href="../">../</a>`
		for path, want := range map[string]string{
			"":       page("/pulp/content/", "", dir("ctz/", "ctz/")),
			"ctz/":   page("ctz/", up, dir("a/", "a/"), dir("c/", "c/"), dir("od/", "od/")),
			"ctz/a/": page("ctz/a/", up, dir("foo/", "foo/")),
			"ctz/a/foo/": page("/pulp/content/ctz/a/foo/", up,
				line("1.iso", "1.iso", "1.0 kB"),
				line("PULP_MANIFEST", "PULP_MANIFEST", "0 Bytes"),
				line("a.txt", "a.txt", "700 Bytes"),
				line("col:on.txt", "./col:on.txt", "10 Bytes"),
				line("dir-x", "dir-x", "1 Byte"),
				dir("dir/", "dir/"),
				dir("dir0/", "dir0/"),
				line("we ird&amp;&lt;x&gt;.txt", "we%20ird&amp;%3Cx%3E.txt", "10 Bytes"),
				dir("ÄB/", "%C3%84B/"),
				line("é.txt", "%C3%A9.txt", "10 Bytes"),
			),
			"ctz/a/foo/dir/": page("/pulp/content/ctz/a/foo/dir/", up,
				line("b.txt", "b.txt", "1 Byte"), line("meta", "meta", "1 Byte"), dir("sub/", "sub/"), line("é", "%C3%A9", "1 Byte")),
		} {
			a := w.get(path)
			if diff := cmp.Diff(want, a.body); a.code != 200 || diff != "" {
				t.Errorf("%s: %s (-want +got):\n%s", path, a.status, diff)
			}
			if got := a.header.Get("Content-Type"); got != "text/html; charset=utf-8" {
				t.Errorf("%s: Content-Type %q", path, got)
			}
			if cached := a.header.Get("X-Pulp-Cache"); (cached == "MISS") != strings.Contains(path, "foo") {
				t.Errorf("%s: X-PULP-CACHE %q", path, cached)
			}
			head := w.do(http.MethodHead, "/pulp/content/"+path)
			if head.code != 200 || head.header.Get("Content-Length") != fmt.Sprint(len(want)) {
				t.Errorf("HEAD %s: %s, length %q", path, head, head.header.Get("Content-Length"))
			}
			// a listing has no validators
			if a := w.get(path, "If-None-Match", "*", "Range", "bytes=0-1"); a.code != 200 || a.body != want {
				t.Errorf("%s with conditions: %s", path, a.status)
			}
		}
	})
}

func TestListingDatesAndSizes(t *testing.T) {
	each(t, nil, func(t *testing.T, w *world) {
		old := w.unit("old", "x")
		w.pass(24 * time.Hour) // the unit is older than its place in the repository
		repo := w.repository()
		first := w.version(repo, old)
		w.pass(24 * time.Hour)
		remote := w.unit("remote", "-")
		w.source(remote, w.remote("http://127.0.0.1:1/", "on_demand"), "http://127.0.0.1:1/x", knownAs{size: 3_000_000})
		unknown := w.unit("unknown", "-")
		second := w.version(repo, old, remote, unknown)
		w.pass(24 * time.Hour)
		published := w.publish(second, false, map[string]string{"meta": "12"})
		w.write("", nil, "INSERT INTO core_publishedartifact (publication, relative_path, content_artifact, created) VALUES (?, 'moved/old', ?, ?)", published, old.contentArtifact, w.now())
		w.distribute("v", dist{typ: "python.python", version: second})
		w.distribute("p", dist{publication: published})

		want := []string{"25-Nov-2026 23:33  1 Byte", "26-Nov-2026 23:33  3.0 MB", "26-Nov-2026 23:33  "}
		if diff := cmp.Diff(want, details(w.get("v/").body)); diff != "" {
			t.Errorf("a version (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"27-Nov-2026 23:33  2 Bytes", "  "}, details(w.get("p/").body)); diff != "" {
			t.Errorf("a publication (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"25-Nov-2026 23:33  1 Byte"}, details(w.get("p/moved/").body)); diff != "" {
			t.Errorf("content in a publication (-want +got):\n%s", diff)
		}

		// The content of a version that is deleted is the next one's.
		w.write(notice.Repository, []pulp.ID{repo}, "DELETE FROM core_repositoryversion WHERE id = ?", first)
		w.write(notice.Files, []pulp.ID{repo}, "UPDATE core_repository SET updated = 1 WHERE id = ?", repo)
		want[0] = "26-Nov-2026 23:33  1 Byte"
		if diff := cmp.Diff(want, details(w.get("v/").body)); diff != "" {
			t.Errorf("after the deletion (-want +got):\n%s", diff)
		}
	})
}

// details returns what stands behind the names in a listing.
func details(page string) []string {
	var list []string
	for line := range strings.SplitSeq(page, "\n") {
		if _, rest, ok := strings.Cut(line, "</a>"); ok && !strings.HasPrefix(line, `<hr>`) {
			list = append(list, rest[strings.Count(rest, " ")-strings.Count(strings.TrimLeft(rest, " "), " ")-2*b2i(strings.TrimSpace(rest) == ""):])
		}
	}
	return list
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestWhatLevelsList(t *testing.T) {
	for _, tc := range []struct {
		name          string
		hide, perhide bool
		want          []string
	}{
		{"guarded ones are shown", false, false, []string{"boo1/", "boo2/", "foo1/", "foo2/"}},
		{"but not where the setting says so", true, false, []string{"boo1/", "foo1/"}},
		{"or the domain", false, true, []string{"boo1/", "foo1/"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lite(t, func(_ *world, c *content.Config) { c.HideGuarded = tc.hide }, func(t *testing.T, w *world) {
				w.write(notice.Domain, nil, "UPDATE core_domain SET hide_guarded_distributions = ?", tc.perhide)
				g := w.guard()
				w.distribute("base/foo1", dist{})
				w.distribute("base/foo2", dist{guard: g})
				w.distribute("base/boo1/foo1", dist{})
				w.distribute("base/boo1/foo2", dist{hidden: true})
				w.distribute("base/boo2/foo1", dist{guard: g})
				w.distribute("base/hid/foo1", dist{hidden: true})
				w.distribute("base/artifacts", dist{typ: "core.artifact"})
				if diff := cmp.Diff(tc.want, names(w.get("base/").body)); diff != "" {
					t.Errorf("base/ (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff([]string{"foo1/"}, names(w.get("base/boo1/").body)); diff != "" {
					t.Errorf("base/boo1/ (-want +got):\n%s", diff)
				}
				// what is hidden is not said to be there, but its level exists
				if a := w.get("base/hid/"); a.code != 200 || names(a.body) != nil {
					t.Errorf("base/hid/: %s", a)
				}
				w.wantCode("base/hid", 301)
			})
		})
	}
}

// The lists are right while distributions come, go and change places.
func TestLevelsFollowChanges(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		check := func(path string, want ...string) {
			t.Helper()
			if got := names(w.get(path).body); !slices.Equal(got, want) {
				t.Errorf("%q lists %q, want %q", path, got, want)
			}
		}
		check("")
		a := w.distribute("x/a", dist{})
		b := w.distribute("x/b", dist{})
		check("x/", "a/", "b/")
		w.check(w.swap(a, b))
		check("x/", "a/", "b/")
		w.write(notice.Distribution, []pulp.ID{a}, "UPDATE core_distribution SET hidden = ? WHERE id = ?", true, a)
		check("x/", "a/") // a has b's path now
		w.write(notice.Distribution, []pulp.ID{b}, "UPDATE core_distribution SET base_path = 'y' WHERE id = ?", b)
		check("x/")
		check("", "y/")
		w.write(notice.Distribution, []pulp.ID{a}, "DELETE FROM core_distribution WHERE id = ?", a)
		w.wantCode("x/", 404)
		w.wantCode("x", 404)
		w.write(notice.Distribution, []pulp.ID{b}, "DELETE FROM core_distribution WHERE id = ?", b)
		check("")
		w.wantCode("y", 404)
	})
}

// More files than are looked at one by one, so that the search begins with the repository.
func TestLargeDirectories(t *testing.T) {
	if testing.Short() {
		t.Skip("makes thousands of rows")
	}
	each(t, nil, func(t *testing.T, w *world) {
		var others []unit
		for i := range 2100 {
			others = append(others, unit{pulp.NewID(), pulp.NewID(), fmt.Sprintf("Packages/p%04d", i)})
		}
		w.addRows(others)
		big := w.repository()
		w.version(big, others...)
		w.distribute("big", dist{typ: "python.python", repository: big})
		w.distribute("small", dist{typ: "python.python", repository: w.repository()})
		repo := w.repository()
		w.version(repo, w.unit("Packages/mine/x", "x"), w.unit("y", "y"))
		w.distribute("mine", dist{typ: "python.python", repository: repo})

		if got := names(w.get("big/Packages/").body); len(got) != 2100 || got[0] != "p0000" || got[2099] != "p2099" {
			t.Errorf("%d names", len(got))
		}
		if got := names(w.get("mine/Packages/").body); !slices.Equal(got, []string{"mine/"}) {
			t.Errorf("mine/Packages/ lists %q", got)
		}
		w.wantCode("mine/Packages", 301)
		w.wantCode("small/Packages", 404)
		w.wantCode("small/Packages/", 404)
	})
}
