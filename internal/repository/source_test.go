package repository_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"granary/internal/pulp"
	"granary/internal/repository/repositorytest"
	"granary/internal/task"
)

// A mirrorServer has files, each beside others in manifests, and counts what it is asked for.
type mirrorServer struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string]string
	asked map[string]int
}

func newMirror(w *world) *mirrorServer {
	m := &mirrorServer{files: map[string]string{}, asked: map[string]int{}}
	m.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.asked[r.URL.Path]++
		text, ok := m.files[r.URL.Path]
		if !ok {
			http.NotFound(rw, r)
			return
		}
		fmt.Fprint(rw, text)
	}))
	w.TB.Cleanup(m.Close)
	return m
}

// list writes a manifest of files in its folder, and the files.
func (m *mirrorServer) list(path string, names ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	dir := path[:strings.LastIndexByte(path, '/')+1]
	for _, n := range names {
		text := "file " + n
		m.files[dir+n] = text
		fmt.Fprintf(&b, "%s,%s,%d\n", n, sha(text), len(text))
	}
	m.files[path] = b.String()
}

func (m *mirrorServer) count(path string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked[path]
}

// remote makes a remote and returns its href; fields are names and values.
func (w *world) remote(name, url string, fields ...any) string {
	w.Helper()
	return repositorytest.Href(w.Create(remotes, body(append(fields, "name", name, "url", url)...)))
}

// refresh refreshes a source and returns how its tasks ended, in the order of its paths.
func (w *world) refresh(source string) []*repositorytest.Task {
	w.Helper()
	status, text := w.Do("POST", source+"refresh/", nil)
	if status != 202 {
		w.Fatalf("refresh = %d %s", status, text)
	}
	id := idOf(w, strings.TrimSuffix(text, `"}`))
	groups, err := task.Groups(w.Context(), w.DB, []pulp.ID{id})
	if err != nil || len(groups) != 1 || !groups[0].AllDispatched {
		w.Fatalf("group = %v, %v", groups, err)
	}
	if want := fmt.Sprintf("Refreshing %d alternate content source paths.", len(groups[0].Tasks)); groups[0].Description != want {
		w.Errorf("group %q, want %q", groups[0].Description, want)
	}
	var list []*repositorytest.Task
	for _, t := range groups[0].Tasks {
		list = append(list, w.Wait(t.String()))
	}
	return list
}

func TestSources(t *testing.T) {
	both(t, func(w *world) {
		remote := w.remote("on-demand", "http://localhost/x/", "policy", "on_demand")
		eager := w.remote("eager", "http://localhost/x/")
		bare := w.Create(sources, body("name", "bare", "remote", remote))
		if !cmp.Equal(bare["paths"], []any{""}) || bare["last_refreshed"] != nil || bare["remote"] != remote {
			w.Errorf("without paths: %v", bare)
		}
		one := w.Create(sources, body("name", "one", "remote", remote, "paths", []string{"b/LIST", "a/LIST"}))
		two := repositorytest.Href(w.Create(sources, body("name", "two", "remote", remote, "paths", []string{"a/LIST", "c/LIST"})))
		href := repositorytest.Href(one)
		paths := func(href string) []string {
			w.Helper()
			var list []string
			for _, p := range w.Get(href)["paths"].([]any) {
				list = append(list, p.(string))
			}
			return list
		}
		t := w.Run("PATCH", href, body("name", "renamed"))
		if diff := cmp.Diff([]string{"prn:file.filealternatecontentsource:" + repositorytest.ID(href), "shared:prn:core.domain:" + w.Call.Domain.ID.String()}, t.Reserved); diff != "" {
			w.Errorf("locks: %s", diff)
		}
		if got := paths(href); !slices.Equal(got, []string{"a/LIST", "b/LIST"}) {
			w.Errorf("a change of the name leaves paths %q", got)
		}
		t = w.Run("PATCH", href, body("paths", []string{"d/LIST", "b/LIST"}))
		if got := paths(href); !slices.Equal(got, []string{"b/LIST", "d/LIST"}) || !cmp.Equal(t.Body["paths"], []any{"b/LIST", "d/LIST"}) {
			w.Errorf("replaced paths: %q, result %v", got, t.Body["paths"])
		}
		if got := paths(two); !slices.Equal(got, []string{"a/LIST", "c/LIST"}) {
			w.Errorf("another source lost paths: %q", got)
		}
		w.Run("PATCH", href, body("paths", []string{}))
		if got := paths(href); !slices.Equal(got, []string{""}) {
			w.Errorf("no paths: %q", got)
		}
		for _, tc := range []struct {
			body object
			want string
		}{
			{body("name", "x", "remote", eager), `{"remote":["Remote used with alternate content source must have the 'on_demand' policy."]}`},
			{body("name", "two", "remote", remote), `{"name":["This field must be unique."]}`},
			{body("name", "x"), `{"remote":["This field is required."]}`},
			{body("name", "x", "remote", nil), `{"remote":["This field may not be null."]}`},
			{body("name", "x", "remote", remote, "paths", []string{"/a"}), `{"paths":["Path cannot start with a slash."]}`},
			{body("name", "x", "remote", remote, "paths", []any{"a", nil, ""}), `{"paths":{"1":["This field may not be null."],"2":["This field may not be blank."]}}`},
		} {
			w.Refused("POST", root+sources, tc.body, tc.want)
		}
		w.Refused("PATCH", href, body("remote", eager), `{"remote":["Remote used with alternate content source must have the 'on_demand' policy."]}`)
		if got := w.Ended("DELETE", remote, nil); got.State != task.Failed || !strings.HasPrefix(got.Failure, `("Cannot delete some instances of model 'FileRemote' because they are referenced through protected foreign keys: 'AlternateContentSource.remote'.", {<AlternateContentSource (pulp_type=file.file): pk=`) {
			w.Errorf("a remote in use: %s %s", got.State, got.Failure)
		}
		w.Get(remote)
		if status, text := w.Do("POST", root+sources+"00000000-0000-0000-0000-000000000000/refresh/", nil); status != 404 || text != `{"detail":"No AlternateContentSource matches the given query."}` {
			w.Errorf("refresh of none: %d %s", status, text)
		}
		for _, h := range []string{href, two, repositorytest.Href(bare)} {
			if t := w.Run("DELETE", h, nil); t.Name != "pulpcore.app.tasks.base.general_multi_delete" {
				w.Errorf("deleted by %s", t.Name)
			}
			w.Gone(h)
		}
		w.Run("DELETE", remote, nil)
	})
}

func TestRefresh(t *testing.T) {
	both(t, func(w *world) {
		m := newMirror(w)
		m.list("/one/LIST", "a", "b")
		m.list("/two/LIST", "c")
		remote := w.remote("alternate", m.URL+"/", "policy", "on_demand")
		source := repositorytest.Href(w.Create(sources, body("name", "source", "remote", remote, "paths", []string{"one/LIST", "none/LIST", "two/LIST"})))
		tasks := w.refresh(source)
		if len(tasks) != 3 || tasks[0].State != task.Failed || !strings.Contains(tasks[0].Failure, "404") || !tasks[1].Done() || !tasks[2].Done() {
			w.Fatalf("tasks = %v", tasks)
		}
		for _, t := range tasks {
			if len(t.Created) != 0 || !slices.Contains(t.Reserved, "shared:prn:file.fileremote:"+repositorytest.ID(remote)) ||
				!slices.Contains(t.Reserved, "shared:prn:file.filealternatecontentsource:"+repositorytest.ID(source)) {
				w.Errorf("created %v, locks %v", t.Created, t.Reserved)
			}
		}
		if m.count("/one/LIST") != 1 || m.count("/one/a") != 0 {
			w.Errorf("%d manifests and %d files were downloaded, want 1 and 0", m.count("/one/LIST"), m.count("/one/a"))
		}
		// the repositories behind it are nobody's business
		for _, list := range []string{repositories, "repositories/", "repository_versions/"} {
			if got := w.List(list); len(got) != 0 {
				w.Errorf("%s shows %v", list, got)
			}
		}
		// what was found counts as used
		w.Run("POST", root+"orphans/cleanup/", body("orphan_protection_time", 0))
		if got := w.Names("relative_path", contents, "ordering", "relative_path"); !slices.Equal(got, []string{"a", "b", "c"}) {
			w.Errorf("units %q, want a, b, c", got)
		}
		// again: the same repositories
		w.refresh(source)
		repos := func() (n int) {
			w.Helper()
			if err := w.DB.QueryRow(w.Context(), "SELECT count(*) FROM core_repository").Scan(&n); err != nil {
				w.Fatal(err)
			}
			return n
		}
		if n := repos(); n != 3 {
			w.Errorf("%d hidden repositories, want one for each path", n)
		}
		w.Run("PATCH", source, body("paths", []string{"two/LIST"}))
		if n := repos(); n != 1 {
			w.Errorf("%d hidden repositories after two paths went, want 1", n)
		}
		w.Run("DELETE", source, nil)
		if n := repos(); n != 0 {
			w.Errorf("%d hidden repositories after the source went", n)
		}
		w.Run("POST", root+"orphans/cleanup/", body("orphan_protection_time", 0))
		if got := w.List(contents); len(got) != 0 {
			w.Errorf("units are left: %v", got)
		}
	})
}

// TestRefreshesAtOnce refreshes a source for the first time from two processes.
func TestRefreshesAtOnce(t *testing.T) {
	twoProcesses(t, func(worlds [2]*world) {
		w := worlds[0]
		m := newMirror(w)
		m.list("/LIST", "a")
		remote := w.remote("alternate", m.URL+"/LIST", "policy", "on_demand")
		for round := range 4 {
			source := repositorytest.Href(w.Create(sources, body("name", fmt.Sprint("source", round), "remote", remote)))
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					if status, text := worlds[i%2].Do("POST", source+"refresh/", nil); status != 202 {
						w.Errorf("refresh = %d %s", status, text)
					}
				})
			}
			wg.Wait()
		}
		var repos int
		if err := w.DB.QueryRow(w.Context(), "SELECT count(*) FROM core_repository").Scan(&repos); err != nil || repos != 4 {
			w.Errorf("%d hidden repositories, %v, want 4", repos, err)
		}
	})
}
