package content_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"granary/internal/content"
	"granary/internal/content/notice"
	"granary/internal/pulp"
)

// checkpoint publishes a repository's newest version as a checkpoint and returns the name of the time.
func (w *world) checkpoint(repo, version pulp.ID, files map[string]string) (id pulp.ID, name string) {
	w.t.Helper()
	id = w.publish(version, true, files)
	w.write(notice.Repository, []pulp.ID{repo}, "UPDATE core_publication SET checkpoint = ? WHERE id = ?", true, id)
	return id, w.now().Std().UTC().Format("20060102T150405Z")
}

func TestCheckpoints(t *testing.T) {
	each(t, nil, func(t *testing.T, w *world) {
		repo := w.repository()
		w.distribute("c/p", dist{repository: repo, checkpoint: true})
		a := w.get("c/p/")
		if a.code != http.StatusOK || !strings.Contains(a.body, "<h1>Index of </h1>\n<hr><pre><a href=\"../\">../</a>\n</pre>") {
			t.Errorf("without any: %s", a)
		}
		w.pass(250 * time.Millisecond)
		one, two := w.unit("dir/one", "1"), w.unit("two", "2")
		_, first := w.checkpoint(repo, w.version(repo, one), map[string]string{"PULP_MANIFEST": "m1"})
		w.pass(10 * time.Second)
		between := w.now().Std().UTC().Format("20060102T150405Z")
		w.publish(w.version(repo, one, two), true, map[string]string{"PULP_MANIFEST": "none"})
		w.pass(10 * time.Second)
		w.checkpoint(repo, w.version(repo, two), map[string]string{"PULP_MANIFEST": "overtaken"})
		w.pass(500 * time.Millisecond)
		last, second := w.checkpoint(repo, w.version(repo, two, one), map[string]string{"PULP_MANIFEST": "m2"})
		w.pass(10 * time.Second)

		const base = "/pulp/content/c/p/"
		for _, tc := range []struct {
			path, location string
			code           int
			body           string // or a part of it
		}{
			{first + "/PULP_MANIFEST", "", 200, "m1"},
			{first + "/dir/one", "", 200, "1"},
			{first + "/two", "", 404, ""},
			{first + "/dir", base + first + "/dir/", 301, ""},
			{first + "/dir/", "", 200, "<h1>Index of " + base + first + "/dir/</h1>"},
			{first + "/", "", 200, "<h1>Index of " + base + first + "/</h1>"},
			{first + "//PULP_MANIFEST", "", 404, ""},
			{first + "/" + first + "/PULP_MANIFEST", "", 404, ""},
			{second + "/PULP_MANIFEST", "", 200, "m2"},
			{second + "/two", "", 200, "2"},
			{between + "/two", base + first + "/two", 301, ""},
			{between + "/", base + first + "/", 301, ""},
			{between + "/nope?x=1", base + first + "/nope", 301, ""},
			{"/" + between + "/nope", "/pulp/content/c/p//" + first + "/nope", 301, ""},
			{"20261124T233334Z/", base + second + "/", 301, ""}, // now
			{"20261124T233335Z/", "", 404, ""},                  // in a second
			{"20261124T233303Z/", "", 404, ""},                  // before the first
			{"20261324T233304Z/", "", 404, ""},
			{first + "fooX/PULP_MANIFEST", "", 404, ""},
			{"20261124T233304.5Z/PULP_MANIFEST", "", 404, ""},
			{first, base + first + "/", 301, ""},
			{"PULP_MANIFEST", base + "PULP_MANIFEST/", 301, ""},
			{"PULP_MANIFEST/", "", 404, ""},
		} {
			for range 2 { // also when it was asked for before
				a := w.get("c/p/" + tc.path)
				if a.code != tc.code || a.header.Get("Location") != tc.location || !strings.Contains(a.body, tc.body) {
					t.Errorf("%s: %s to %q, want %d %q to %q", tc.path, a, a.header.Get("Location"), tc.code, tc.body, tc.location)
				}
			}
		}
		list := func() []string {
			var names []string
			for line := range strings.Lines(w.get("c/p/").body) {
				if name, ok := strings.CutPrefix(line, `<a href="2`); ok {
					names = append(names, "2"+name[:15])
				}
			}
			return names
		}
		if got := list(); len(got) != 2 || got[0] != first || got[1] != second {
			t.Errorf("listed are %q, want %q and %q", got, first, second)
		}
		if a := w.get("c/p/"); !strings.Contains(a.body, "24-Nov-2026 23:33  \n") || a.header.Get("X-Pulp-Cache") != "HIT" {
			t.Errorf("the list: %v %s", a.header, a)
		}
		// what stays keeps its pages
		w.write(notice.Repository, []pulp.ID{repo}, "DELETE FROM core_publication WHERE id = ?", last)
		w.wantBody("c/p/"+second+"/PULP_MANIFEST", "overtaken")
		if a := w.get("c/p/" + first + "/PULP_MANIFEST"); a.body != "m1" || a.header.Get("X-Pulp-Cache") != "HIT" {
			t.Errorf("after another one went: %v %s", a.header, a)
		}
		w.write(notice.Files, []pulp.ID{repo}, "UPDATE core_repository SET updated = 1 WHERE id = ?", repo)
		if a := w.get("c/p/" + first + "/PULP_MANIFEST"); a.body != "m1" || a.header.Get("X-Pulp-Cache") != "MISS" {
			t.Errorf("after files were dropped: %v %s", a.header, a)
		}
		w.write(notice.Repository, []pulp.ID{repo}, "DELETE FROM core_publication WHERE checkpoint")
		if got := list(); len(got) != 0 {
			t.Errorf("listed are %q", got)
		}
		w.wantCode("c/p/"+first+"/", 404)
	})
}

// A type's own answers have the path that was asked for, and no pull-through goes on where there is no checkpoint.
func TestCheckpointsOfTypesWithAnswers(t *testing.T) {
	change := func(_ *world, c *content.Config) {
		c.Types["file.file"] = content.Serving{
			FromPublication: true,
			Handle: func(_ context.Context, r *content.Request) (*content.Answer, error) {
				if r.Rel == "config" {
					return &content.Answer{Body: []byte("own")}, nil
				}
				return nil, nil
			},
			Listing: func(_ context.Context, _ *content.Distribution, _ content.Served, dir string) ([]string, error) {
				return []string{"config"}, nil
			},
		}
	}
	lite(t, change, func(t *testing.T, w *world) {
		repo := w.repository()
		w.distribute("p", dist{repository: repo, checkpoint: true})
		w.distribute("gone", dist{checkpoint: true})
		_, at := w.checkpoint(repo, w.version(repo, w.unit("f", "text")), nil)
		w.wantBody("p/config", "own")
		w.wantBody("p/"+at+"/f", "text")
		w.wantCode("p/"+at+"/config", 404)
		if a := w.get("p/" + at + "/"); strings.Contains(a.body, "config") {
			t.Errorf("listed is what is not there: %s", a)
		}
		if a := w.get("gone/"); a.status != "404 "+notPointing {
			t.Errorf("of no repository: %s", a)
		}
	})
}
