package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/plugin"
	"granary/internal/server"
	"granary/internal/settings"
	"granary/plugins/file"
)

// A running server answers requests.
type running struct {
	*server.Server
	t   *testing.T
	url string
}

// run makes a server and runs it until the test ends.
func run(t *testing.T, cfg db.Config, environ ...string) *running {
	t.Helper()
	environ = append([]string{"PULP_DEFAULT_ADMIN_PASSWORD=password", "PULP_ORPHAN_PROTECTION_TIME=0", "PULP_ANALYTICS=false"}, environ...)
	set, err := settings.Load(settings.Options{Environ: environ, DataDir: t.TempDir(), Hostname: "here"})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.DSN != "" {
		set.Database = settings.Database{Engine: settings.Postgres, DSN: settings.Secret(cfg.DSN), Conns: cfg.Conns}
	}
	s, err := server.Open(t.Context(), server.Config{
		Settings: set, Plugins: []plugin.Plugin{file.Plugin()}, Version: "test", Now: time.Now, Log: slog.New(slog.DiscardHandler), AccessLog: io.Discard, Migrate: true,
		Roles: server.Roles{API: true, Content: true, Workers: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.EnsureAdmin(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done, ready := make(chan error, 1), make(chan string, 1)
	go func() { done <- s.Run(ctx, server.Addresses{Main: "127.0.0.1:0"}, func(addr string) { ready <- addr }) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &running{Server: s, t: t}
	select {
	case addr := <-ready:
		r.url = "http://" + addr
	case <-time.After(time.Minute):
		t.Fatal("the server is not ready")
	}
	return r
}

type object = map[string]any

// try sends a request as the administrator.
func (r *running) try(method, path string, body any) (int, object) {
	r.t.Helper()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			r.t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, bytes.NewReader(text))
	if err != nil {
		r.t.Fatal(err)
	}
	req.SetBasicAuth("admin", "password")
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var o object
	if err := json.NewDecoder(resp.Body).Decode(&o); err != nil && resp.StatusCode != http.StatusNoContent {
		r.t.Fatalf("%s %s: %s: %v", method, path, resp.Status, err)
	}
	return resp.StatusCode, o
}

// ask sends a request that must succeed, and waits for the task that it answers with; it returns the task's result then.
func (r *running) ask(method, path string, body any) object {
	r.t.Helper()
	status, o := r.try(method, path, body)
	if status >= http.StatusBadRequest {
		r.t.Fatalf("%s %s: %d %v", method, path, status, o)
	}
	if href, ok := o["task"].(string); ok && len(o) == 1 {
		task := r.wait(href)
		if task["state"] != "completed" {
			r.t.Fatalf("%s %s: %v", method, path, task)
		}
		result, _ := task["result"].(object)
		return result
	}
	return o
}

// wait waits for a task, or all of a group.
func (r *running) wait(href string) object {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		o := r.ask("GET", href, nil)
		if _, group := o["tasks"]; group {
			if o["waiting"].(float64)+o["running"].(float64)+o["canceling"].(float64) == 0 {
				return o
			}
			continue
		}
		switch o["state"] {
		case "completed", "failed", "canceled":
			return o
		}
	}
	r.t.Fatalf("%s does not end", href)
	return nil
}

// list returns the objects of a list by name.
func (r *running) list(path string) map[string]object {
	r.t.Helper()
	m := map[string]object{}
	for _, o := range r.ask("GET", path+"?limit=1000", nil)["results"].([]any) {
		m[o.(object)["name"].(string)] = o.(object)
	}
	return m
}

func (r *running) names(path string) string {
	r.t.Helper()
	return strings.Join(slices.Sorted(maps.Keys(r.list(path))), " ")
}

// put puts a file into a repository.
func (r *running) put(api, repository, name, text string) {
	r.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for k, v := range map[string]string{"relative_path": name, "repository": repository} {
		if err := form.WriteField(k, v); err != nil {
			r.t.Fatal(err)
		}
	}
	part, err := form.CreateFormFile("file", name)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.WriteString(part, text); err != nil {
		r.t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.url+api+"content/file/files/", &body)
	if err != nil {
		r.t.Fatal(err)
	}
	req.SetBasicAuth("admin", "password")
	req.Header.Set("Content-Type", form.FormDataContentType())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var o object
	if err := json.NewDecoder(resp.Body).Decode(&o); err != nil || resp.StatusCode != http.StatusAccepted {
		r.t.Fatal(resp.Status, o, err)
	}
	if task := r.wait(o["task"].(string)); task["state"] != "completed" {
		r.t.Fatal(task)
	}
}

// served returns what is served at a path, or the status.
func (r *running) served(path string) string {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return resp.Status
	}
	return string(b)
}

// distribute makes a repository with a file, and a distribution of it: of the repository itself or of a publication.
func (r *running) distribute(api, name, base string, published bool, labels object) (repository string) {
	r.t.Helper()
	repo := r.ask("POST", api+"repositories/file/file/", object{"name": name, "autopublish": true, "manifest": "list of " + name})["pulp_href"].(string)
	r.put(api, repo, name+".txt", "file of "+name)
	d := object{"name": name, "base_path": base, "repository": repo}
	if labels != nil {
		d["pulp_labels"] = labels
	}
	if published {
		delete(d, "repository")
		d["publication"] = r.list2(api + "publications/file/file/?repository=" + url.QueryEscape(repo))[0]["pulp_href"]
	}
	r.ask("POST", api+"distributions/file/file/", d)
	return repo
}

func (r *running) list2(path string) []object {
	r.t.Helper()
	var list []object
	for _, o := range r.ask("GET", path, nil)["results"].([]any) {
		list = append(list, o.(object))
	}
	return list
}

// replicate runs a replication and returns its tasks' last words and states, sorted.
func (r *running) replicate(serverHref string, body any) (tasks []string, group object) {
	r.t.Helper()
	status, o := r.try("POST", serverHref+"replicate/", body)
	if status != http.StatusAccepted {
		r.t.Fatal(status, o)
	}
	group = r.wait(o["task_group"].(string))
	for _, t := range group["tasks"].([]any) {
		name := t.(object)["name"].(string)
		tasks = append(tasks, name[strings.LastIndexByte(name, '.')+1:]+" "+t.(object)["state"].(string))
	}
	slices.Sort(tasks)
	return tasks, group
}

func (r *running) domain(name string) string {
	r.t.Helper()
	r.ask("POST", "/pulp/default/api/v3/domains/", object{
		"name": name, "storage_class": "pulpcore.app.models.storage.FileSystem", "storage_settings": object{"location": r.t.TempDir()},
	})
	return "/pulp/" + name + "/api/v3/"
}

const domains = "PULP_DOMAIN_ENABLED=true"

func eachEngine(t *testing.T, f func(t *testing.T, cfg db.Config)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, db.Config{}) })
	t.Run("postgres", func(t *testing.T) { f(t, dbtest.Postgres(t)) })
}

func TestReplicate(t *testing.T) {
	eachEngine(t, func(t *testing.T, cfg db.Config) {
		there := run(t, db.Config{}, domains)
		here := run(t, cfg)
		const api = "/pulp/api/v3/"
		src := there.domain("source")
		there.distribute(src, "one", "p/one", true, object{"kind": "a"})
		two := there.distribute(src, "two", "p/two", false, nil)
		there.ask("POST", src+"distributions/file/file/", object{"name": "empty", "base_path": "p/empty"}) // has nothing to copy
		up := here.ask("POST", api+"upstream-pulps/", object{
			"name": "there", "base_url": there.url + "/", "api_root": "pulp", "domain": "source", "username": "admin", "password": "password",
		})
		href, id := up["pulp_href"].(string), strings.TrimPrefix(up["prn"].(string), "prn:core.upstreampulp:")
		replicate := func(want ...string) object {
			t.Helper()
			got, group := here.replicate(href, nil)
			if diff := cmp.Diff(append(want, "finalize_replication completed", "replicate_distributions completed"), got, sorted); diff != "" {
				t.Fatalf("tasks (-want +got):\n%s%v", diff, group)
			}
			return group
		}
		last := func() string { s, _ := here.ask("GET", href, nil)["last_replication"].(string); return s }

		// all of it, the first time
		group := replicate("synchronize completed", "synchronize completed", "general_create completed", "general_create completed")
		if group["description"] != "Replication of there" || group["all_tasks_dispatched"] != true || last() == "" {
			t.Errorf("group %v, last replication %q", group, last())
		}
		for _, path := range []string{"distributions/file/file/", "repositories/file/file/", "remotes/file/file/"} {
			for name, o := range here.list(api + path) {
				if diff := cmp.Diff(object{"UpstreamPulp": id}, o["pulp_labels"]); diff != "" {
					t.Errorf("labels of %s%s: %s", path, name, diff)
				}
			}
			if names := here.names(api + path); names != "one two" {
				t.Errorf("%s: %s", path, names)
			}
		}
		if r := here.list(api + "remotes/file/file/")["one"]; r["url"] != there.url+"/pulp/content/source/p/one/list%20of%20one" {
			t.Errorf("remote: %v", r)
		}
		for _, name := range []string{"one", "two"} {
			if got := here.served("/pulp/content/p/" + name + "/" + name + ".txt"); got != "file of "+name {
				t.Errorf("%s is served as %q", name, got)
			}
		}
		// the locks of all that was dispatched
		locks := map[string]int{}
		for _, t := range group["tasks"].([]any) {
			task := here.ask("GET", t.(object)["pulp_href"].(string), nil)
			for _, l := range task["reserved_resources_record"].([]any) {
				key, _, _ := strings.Cut(strings.TrimPrefix(l.(string), "shared:"), ":0")
				locks[fmt.Sprint(strings.HasPrefix(l.(string), "shared:"), " ", key)]++
			}
		}
		wantLocks := map[string]int{
			"true prn:core.domain": 6, "false pdrn": 3, "false prn:core.upstreampulp": 2, "true prn:core.upstreampulp": 4, "false prn:file.filerepository": 4,
			"true prn:file.filerepository": 2, "true prn:file.fileremote": 2,
		}
		if diff := cmp.Diff(wantLocks, locks); diff != "" {
			t.Errorf("locks (-want +got):\n%s", diff)
		}

		// nothing has changed; of a repository that is served as it is, one can't tell
		before := last()
		replicate("synchronize completed")
		if last() <= before {
			t.Errorf("the last replication was %s, is %s", before, last())
		}

		// another publication, a moved distribution, and one that is gone
		repo := there.list(src + "repositories/file/file/")["one"]["pulp_href"].(string)
		there.put(src, repo, "more.txt", "more")
		there.ask("PATCH", there.list(src + "distributions/file/file/")["one"]["pulp_href"].(string), object{
			"base_path": "elsewhere/one", "publication": there.list2(src + "publications/file/file/?repository=" + url.QueryEscape(repo))[0]["pulp_href"],
		})
		there.ask("DELETE", there.list(src + "distributions/file/file/")["two"]["pulp_href"].(string), nil)
		here.ask("POST", api+"repositories/file/file/", object{"name": "stranger"})
		replicate("general_multi_delete completed", "general_multi_delete completed", "ageneral_update completed", "synchronize completed", "ageneral_update completed")
		if got := here.served("/pulp/content/elsewhere/one/more.txt"); got != "more" {
			t.Errorf("more.txt is served as %q", got)
		}
		for _, path := range []string{"distributions/file/file/", "repositories/file/file/", "remotes/file/file/"} {
			if names := here.names(api + path); names != "one" {
				t.Errorf("%s: %s", path, names)
			}
		}

		// renamed there: the base path tells that it is the same
		before = here.list(api + "distributions/file/file/")["one"]["pulp_href"].(string)
		there.ask("PATCH", there.list(src + "distributions/file/file/")["one"]["pulp_href"].(string), object{"name": "uno"})
		replicate("general_multi_delete completed", "ageneral_update completed", "synchronize completed")
		if now := here.list(api + "distributions/file/file/")["uno"]["pulp_href"]; now != before {
			t.Errorf("the renamed distribution is %v, was %v", now, before)
		}

		// a change of the server here makes all be synced again
		here.ask("PATCH", href, object{"tls_validation": false})
		replicate("ageneral_update completed", "synchronize completed")

		// a member fails
		there.ask("DELETE", there.list2(src + "publications/file/file/?repository=" + url.QueryEscape(repo))[0]["pulp_href"].(string), nil)
		there.ask("DELETE", there.list2(src + "publications/file/file/?repository=" + url.QueryEscape(repo))[0]["pulp_href"].(string), nil)
		there.ask("PATCH", there.list(src + "distributions/file/file/")["uno"]["pulp_href"].(string), object{"repository": there.ask("POST", src+"repositories/file/file/", object{"name": "new"})["pulp_href"]})
		before = last()
		got, group := here.replicate(href, nil)
		if diff := cmp.Diff([]string{"ageneral_update completed", "ageneral_update completed", "finalize_replication failed", "replicate_distributions completed", "synchronize failed"}, got, sorted); diff != "" {
			t.Fatalf("tasks (-want +got):\n%s", diff)
		}
		for _, member := range group["tasks"].([]any) {
			task := here.ask("GET", member.(object)["pulp_href"].(string), nil)
			if strings.HasSuffix(task["name"].(string), "finalize_replication") && task["error"].(object)["description"] != "Replication failed." {
				t.Errorf("finalizer: %v", task["error"])
			}
		}
		if last() != before {
			t.Error("a failed replication counts as the last one")
		}
		_ = two
	})
}

var sorted = cmp.Transformer("sorted", func(l []string) []string { return slices.Sorted(slices.Values(l)) })

func TestReplicaPolicies(t *testing.T) {
	eachEngine(t, func(t *testing.T, cfg db.Config) {
		there, here := run(t, db.Config{}), run(t, cfg, domains)
		const src = "/pulp/api/v3/"
		for i, label := range []string{"even", "odd", "even"} {
			there.distribute(src, fmt.Sprint("a", i), fmt.Sprint("a/", i), false, object{label: ""})
		}
		for _, tc := range []struct{ policy, first, second, third string }{
			{"nodelete", "a0 a1 a2 b", "a0 a1 a2 b", "a0 a1 a2 b"},
			{"labeled", "a0 a1 a2 b", "a0 a2 b", "a1 a2 b"},
			{"all", "a0 a1 a2", "a0 a2", "a1"},
		} {
			api := here.domain(tc.policy)
			here.distribute(api, "b", "b", false, nil)
			here.ask("POST", api+"repositories/file/file/", object{"name": "a1"}) // a stranger of that name
			up := here.ask("POST", api+"upstream-pulps/", object{
				"name": "up-" + tc.policy, "base_url": there.url, "api_root": "/pulp/", "username": "admin", "password": "password", "policy": tc.policy, "domain": "default",
			})["pulp_href"].(string)
			check := func(want string, tasks []string) {
				t.Helper()
				if slices.ContainsFunc(tasks, func(s string) bool { return !strings.HasSuffix(s, " completed") }) {
					t.Fatal(tasks)
				}
				if got := here.names(api + "distributions/file/file/"); got != want {
					t.Errorf("%s: %s, want %s", tc.policy, got, want)
				}
			}
			first := tc.first
			if tc.policy == "labeled" { // what has no label is left alone, and so is the distribution that would need it
				first = "a0 a2 b"
			}
			tasks, _ := here.replicate(up, nil)
			check(first, tasks)
			here.ask("PATCH", up, object{"q_select": "pulp_label_select='even'"})
			tasks, _ = here.replicate(up, nil)
			check(tc.second, tasks)
			// a label taken off, and another selection for once
			here.ask("POST", here.list(api + "distributions/file/file/")["a2"]["pulp_href"].(string)+"unset_label/", object{"key": "UpstreamPulp"})
			if tc.policy == "labeled" {
				here.ask("DELETE", here.list(api + "repositories/file/file/")["a1"]["pulp_href"].(string), nil)
			}
			before := here.ask("GET", up, nil)["last_replication"]
			tasks, _ = here.replicate(up, object{"q_select": "name='a1'"})
			check(tc.third, tasks)
			if now := here.ask("GET", up, nil)["last_replication"]; now != before {
				t.Errorf("a part counts as the last replication: %v, %v", now, before)
			}
		}
	})
}

// TestReplicaOfWhatIsNone: answers that are no server's leave everything as it is.
func TestReplicaOfWhatIsNone(t *testing.T) {
	here := run(t, db.Config{})
	other := run(t, db.Config{})
	other.distribute("/pulp/api/v3/", "d", "d", false, nil)
	const api = "/pulp/api/v3/"
	here.distribute(api, "mine", "mine", false, nil)
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	target, err := url.Parse(other.url)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request) bool // false: as the other server does
		want   string
	}{
		"redirect": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
			return true
		}, "Redirect to another server"},
		"no JSON":  {func(w http.ResponseWriter, _ *http.Request) bool { _, _ = io.WriteString(w, "<html>"); return true }, "is not what one is"},
		"two JSON": {func(w http.ResponseWriter, _ *http.Request) bool { _, _ = io.WriteString(w, "{}{}"); return true }, "is not what one is"},
		"broken lists": {func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "distributions") {
				_, _ = io.WriteString(w, `{"count": 5, "next": null, "results": [{"name": "x", "base_path": "x"}]}`)
				return true
			}
			return false
		}, "changes all the time"},
		"no names": {func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "distributions") {
				_, _ = io.WriteString(w, `{"count": 1, "next": null, "results": [{"name": 5}]}`)
				return true
			}
			return false
		}, "without name or base path"},
		"references to others": {func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "distributions") {
				_, _ = io.WriteString(w, `{"count": 1, "next": null, "results": [{"name": "x", "base_path": "x", "repository": "`+elsewhere.URL+`/x/"}]}`)
				return true
			}
			return false
		}, "a reference that is none"},
		"local files": {func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case strings.Contains(r.URL.Path, "distributions"):
				_, _ = io.WriteString(w, `{"count": 1, "next": null, "results": [{"name": "x", "base_path": "x", "base_url": "file:///etc/", "repository": "/x/"}]}`)
			case r.URL.Path == "/x/":
				_, _ = io.WriteString(w, `{"manifest": "passwd"}`)
			default:
				return false
			}
			return true
		}, "no http or https URL"},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := httputil.NewSingleHostReverseProxy(target)
			fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !tc.answer(w, r) {
					proxy.ServeHTTP(w, r)
				}
			}))
			defer fake.Close()
			up := here.ask("POST", api+"upstream-pulps/", object{"name": name, "base_url": fake.URL, "api_root": "/pulp/", "username": "admin", "password": "password"})
			_, group := here.replicate(up["pulp_href"].(string), nil)
			tasks := group["tasks"].([]any)
			if len(tasks) != 1 {
				t.Fatalf("tasks: %v", tasks)
			}
			task := here.ask("GET", tasks[0].(object)["pulp_href"].(string), nil)
			failure, _ := task["error"].(object)
			if text, _ := failure["description"].(string); task["state"] != "failed" || !strings.Contains(text, tc.want) {
				t.Errorf("the coordinator %v: %v, want %q", task["state"], failure, tc.want)
			}
			if names := here.names(api + "distributions/file/file/"); names != "mine" {
				t.Errorf("distributions: %s", names)
			}
		})
	}
	if asked.Load() > 0 {
		t.Error("another server was asked")
	}
}
