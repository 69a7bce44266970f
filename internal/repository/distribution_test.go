package repository_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDistributions(t *testing.T) {
	both(t, func(w *world) {
		repo := w.repository("r")
		u := w.units("a", "b")
		w.modify(repo, u[:1], nil)
		p := w.publication("repository", repo)

		t := w.Run("POST", root+distributions, body("name", "plain", "base_path", " some/plain "))
		d := t.Created[0]
		lock := "pdrn:" + w.Call.Domain.ID.String() + ":distributions"
		if diff := cmp.Diff([]string{lock, "shared:prn:core.domain:" + w.Call.Domain.ID.String()}, t.Reserved); diff != "" {
			w.Errorf("locks: %s", diff)
		}
		got := w.Get(d)
		if diff := cmp.Diff(got, t.Body); diff != "" {
			w.Errorf("result: %s", diff)
		}
		for field, want := range map[string]any{
			"base_path": "some/plain", "base_url": "http://content/pulp/content/some/plain/", "repository": nil, "publication": nil, "hidden": false, "checkpoint": false,
			"content_guard": nil, "no_content_change_since": nil, "pulp_labels": object{},
		} {
			if !cmp.Equal(got[field], want) {
				w.Errorf("%s = %v, want %v", field, got[field], want)
			}
		}
		// a change of nothing is answered at once, anything else by a task
		status, text := w.Do("PATCH", d, body("name", "plain", "base_path", "some/plain", "repository", nil, "publication", "", "hidden", false, "pulp_labels", object{}))
		if status != 200 || !strings.Contains(text, `"name":"plain"`) {
			w.Errorf("a change of nothing = %d %s, want 200", status, text)
		}
		changed := w.Run("PATCH", d, body("pulp_labels", object{"k": "v"}, "hidden", true))
		if !changed.Immediate || !slices.Contains(changed.Reserved, lock) || changed.Body["hidden"] != true {
			w.Errorf("change: immediate %t, locks %v, result %v", changed.Immediate, changed.Reserved, changed.Body)
		}

		// one thing is served at a time, whatever the method
		both := `{"non_field_errors":["Only one of the attributes 'repository' and 'publication' may be used simultaneously."]}`
		w.Run("PATCH", d, body("repository", repo))
		w.Refused("PATCH", d, body("publication", p), both)
		w.Refused("PUT", d, body("name", "plain", "base_path", "some/plain", "publication", p), both)
		w.Refused("POST", root+distributions, body("name", "x", "base_path", "x", "repository", repo, "publication", p), both)
		w.Run("PATCH", d, body("publication", p, "repository", nil))
		if got := w.Get(d); got["no_content_change_since"] == nil || !strings.HasPrefix(got["pulp_last_updated"].(string), strings.TrimSuffix(got["no_content_change_since"].(string), "Z")) {
			w.Errorf("no_content_change_since = %v, pulp_last_updated = %v", got["no_content_change_since"], got["pulp_last_updated"])
		}
		w.Refused("PATCH", d, body("repository", repo), both)
		const checkpoint = `{"non_field_errors":["The 'checkpoint' attribute may only be used with the 'repository' attribute."]}`
		w.Refused("PATCH", d, body("checkpoint", true), checkpoint)
		w.Run("PATCH", d, body("publication", "", "repository", repo, "checkpoint", true))
		w.Refused("PATCH", d, body("repository", nil), checkpoint)
		w.Run("PATCH", d, body("repository", nil, "checkpoint", false))
		w.Refused("PATCH", d, body("repository_version", version(repo, 1)), `{"repository_version":["Unexpected field"]}`)
		// PUT resets what has a default, and keeps the rest
		w.Run("PATCH", d, body("repository", repo))
		w.Run("PUT", d, body("name", "plain", "base_path", "some/plain"))
		if got := w.Get(d); got["hidden"] != false || got["repository"] != repo || !cmp.Equal(got["pulp_labels"], object{"k": "v"}) {
			w.Errorf("after PUT: %v", got)
		}

		follower := w.distribution("follower", "repository", repo)
		fixed := w.distribution("fixed", "publication", p)
		w.modify(repo, u[1:], u[:1]) // not published
		for unit, want := range map[string][]string{u[0]: {"fixed", "follower", "plain"}, u[1]: {}} {
			if got := w.Names("name", distributions, "with_content", unit, "ordering", "name"); !slices.Equal(got, want) {
				w.Errorf("distributions with %s: %q, want %q", unit, got, want)
			}
		}
		w.publication("repository", repo)
		for unit, want := range map[string][]string{u[0]: {"fixed"}, u[1]: {"follower", "plain"}} {
			if got := w.Names("name", distributions, "with_content", unit, "ordering", "name"); !slices.Equal(got, want) {
				w.Errorf("distributions with %s: %q, want %q", unit, got, want)
			}
		}
		if got := w.Names("name", distributions, "repository", repo, "ordering", "name"); !slices.Equal(got, []string{"follower", "plain"}) {
			w.Errorf("distributions of the repository: %q", got)
		}
		w.Run("DELETE", repo, nil)
		for _, h := range []string{d, follower, fixed} {
			if got := w.Get(h); got["repository"] != nil || got["publication"] != nil {
				w.Errorf("of a deleted repository: %v", got)
			}
		}
		w.Run("DELETE", d, nil)
		w.Gone(d)
	})
}

func TestBasePaths(t *testing.T) {
	both(t, func(w *world) {
		w.distribution("a")
		w.Run("POST", root+distributions, body("name", "deep", "base_path", "b/c/d"))
		overlap := func(name string) string {
			return `{"base_path":{"base_path":"Overlaps with existing distribution '` + name + `'"}}`
		}
		const badURL = `{"base_path":["Enter a valid URL."]}`
		for path, want := range map[string]string{
			"a":      `{"base_path":["This field must be unique."]}`,
			"a/x":    overlap("a"),
			"a/x/y":  overlap("a"),
			"b":      overlap("deep"),
			"b/c":    overlap("deep"),
			"b/c/d/": `{"base_path":["Relative path cannot begin or end with slashes."]}`,
			"/x":     `{"base_path":["Relative path cannot begin or end with slashes."]}`,
			"x y":    `{"base_path":["Relative path cannot contain spaces."]}`,
			"x:y":    badURL, "x//y": badURL, "x/../y": badURL, "./x": badURL, "x?y": badURL, "x#y": badURL, "x\\y": badURL, "x<y": badURL,
			"": `{"base_path":["This field may not be blank."]}`,
		} {
			w.Refused("POST", root+distributions, body("name", "new", "base_path", path), want)
		}
		w.Refused("POST", root+distributions, body("name", "a", "base_path", "a/x"), `{"base_path":{"base_path":"Overlaps with existing distribution 'a'"},"name":["This field must be unique."]}`)
		w.Refused("POST", root+distributions, body(), `{"base_path":["This field is required."],"name":["This field is required."]}`)
		for i, path := range []string{"ab", "a.b", "a-b/c", "b/c/dd", "x%20y", "ü/ö", "~x", "b/cc"} {
			w.Run("POST", root+distributions, body("name", fmt.Sprint("fine", i), "base_path", path))
		}
		d := w.distribution("mover")
		w.Refused("PATCH", d, body("base_path", "ab/below"), overlap("fine0"))
		w.Refused("PATCH", d, body("base_path", "ab"), `{"base_path":["This field must be unique."]}`)
		w.Run("PATCH", d, body("base_path", "mover/deeper")) // its own path is no other's
		w.Run("PATCH", d, body("base_path", "mover"))
		for query, want := range map[string][]string{
			"base_path=a": {"a"}, "base_path__contains=.b": {"a.b"}, "base_path__icontains=Ü": {"ü/ö"}, "base_path__in=a,ab": {"a", "ab"},
		} {
			name, value, _ := strings.Cut(query, "=")
			if got := w.Names("base_path", distributions, name, value, "ordering", "base_path"); !slices.Equal(got, want) {
				w.Errorf("?%s gives %q, want %q", query, got, want)
			}
		}
	})
}

// TestDistributionsAtOnce makes distributions of which only some can be, from two processes.
func TestDistributionsAtOnce(t *testing.T) {
	twoProcesses(t, func(worlds [2]*world) {
		w := worlds[0]
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				w := worlds[i%2]
				// of x, x/y and x/y/z one can be; the others are all different
				w.Try("POST", root+distributions, body("name", fmt.Sprint("n", i), "base_path", "x"+strings.Repeat("/y", i%3)))
				if t := w.Try("POST", root+distributions, body("name", fmt.Sprint("o", i), "base_path", fmt.Sprint("o", i))); !t.Done() {
					w.Errorf("o%d: %s", i, t.Failure)
				}
			})
		}
		wg.Wait()
		if got := w.Names("base_path", distributions, "name__startswith", "n"); len(got) != 1 {
			w.Errorf("%q are there, want one", got)
		}
		if got := w.Names("base_path", distributions, "name__startswith", "o"); len(got) != 12 {
			w.Errorf("%q are there, want 12", got)
		}
	})
}
