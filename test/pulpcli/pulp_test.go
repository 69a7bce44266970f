package pulpcli

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"granary/test/binary"
)

func TestPulp(t *testing.T) {
	find(t)
	p := newPulp(t, binary.Start(t, t.TempDir()))
	t.Run("together", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *pulp){
			"status": status, "openapi": openapi, "file life": fileLife, "content": content, "versions": versions, "distributions": distributions,
			"sources": sources, "tasks": tasks, "uploads": uploads, "users": users, "domains": domains, "fixtures": fixtures,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, p)
			})
		}
	})
	t.Run("orphans", func(t *testing.T) { orphans(t, p) }) // alone: it removes what the others have just made
}

// serve serves files by HTTP, with a PULP_MANIFEST of them.
func serve(t *testing.T, files map[string]string) (url string) {
	t.Helper()
	var manifest strings.Builder
	for name, text := range files {
		fmt.Fprintf(&manifest, "%s,%s,%d\n", name, digest(text), len(text))
	}
	over := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		switch text, ok := files[name]; {
		case name == "PULP_MANIFEST":
			_, _ = io.WriteString(w, manifest.String())
		case name == "never/PULP_MANIFEST":
			select {
			case <-r.Context().Done():
			case <-over:
			}
		case ok:
			_, _ = io.WriteString(w, text)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(func() { close(over); s.Close() })
	return s.URL
}

func digest(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

// file writes a file and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// download gets what a distribution serves.
func (p *pulp) download(t *testing.T, distribution object, path string) string {
	t.Helper()
	status, body, err := p.server.Do(t.Context(), http.MethodGet, distribution.text("base_url")+path, nil)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s: %d %v", path, status, err)
	}
	return string(body)
}

// column returns the values of a key, sorted.
func column(list []object, keys ...string) []string {
	out := make([]string, len(list))
	for i, o := range list {
		out[i] = o.text(keys...)
	}
	slices.Sort(out)
	return out
}

func status(t *testing.T, p *pulp) {
	s := p.one(t, "status")
	s.expect(t, "true", "database_connection", "connected")
	if workers, _ := s["online_workers"].([]any); len(workers) == 0 {
		t.Error("no workers are online")
	}
	p.run(t, "debug", "has-plugin", "--name", "core", "--specifier", ">=3.95")
	p.run(t, "debug", "has-plugin", "--name", "file")
	if list := p.many(t, "worker", "list"); len(list) == 0 {
		t.Error("no workers are listed")
	}
}

func openapi(t *testing.T, p *pulp) {
	p.one(t, "debug", "openapi", "spec").expect(t, "3.0.1", "openapi")
	p.one(t, "debug", "openapi", "info").expect(t, "Pulp 3 API", "title")
	var ids, schemas []string
	decode(t, p.run(t, "debug", "openapi", "operation-ids"), &ids)
	if !slices.Contains(ids, "repositories_file_file_sync") {
		t.Error("repositories_file_file_sync is no operation")
	}
	decode(t, p.run(t, "debug", "openapi", "schema-names"), &schemas)
	if !slices.Contains(schemas, "file.FileRepositoryResponse") {
		t.Error("file.FileRepositoryResponse is no schema")
	}
	p.one(t, "debug", "openapi", "schema", "--name", "file.FileRepositoryResponse").expect(t, "object", "type")
	p.one(t, "debug", "openapi", "operation", "--id", "repositories_file_file_sync").expect(t, "repositories_file_file_sync", "operation", "operationId")
}

// fileLife follows a repository from a remote to what clients download.
func fileLife(t *testing.T, p *pulp) {
	files := map[string]string{"a.txt": "File a", "dir/b.txt": "File b", "c c.txt": ""}
	url := serve(t, files)
	p.one(t, "file", "remote", "create", "--name", "life", "--url", url+"/nothing/PULP_MANIFEST", "--labels", `{"made": "here"}`).expect(t, "immediate", "policy")
	p.run(t, "file", "remote", "update", "--remote", "life", "--url", url+"/PULP_MANIFEST", "--username", "someone", "--password", "secret")
	remote := p.one(t, "file", "remote", "show", "--remote", "life")
	remote.expect(t, url+"/PULP_MANIFEST", "url")
	remote.expect(t, "here", "pulp_labels", "made")
	if strings.Contains(fmt.Sprint(remote), "secret") {
		t.Errorf("the password is shown: %v", remote)
	}
	p.one(t, "file", "repository", "create", "--name", "life", "--remote", "life", "--description", "before").expect(t, remote.text("pulp_href"), "remote")
	p.run(t, "file", "repository", "update", "--repository", "life", "--description", "after", "--retain-repo-versions", "5")
	p.run(t, "file", "repository", "label", "set", "--repository", "life", "--key", "stage", "--value", "test")
	p.run(t, "file", "repository", "label", "set", "--repository", "life", "--key", "gone", "--value", "soon")
	p.run(t, "file", "repository", "label", "unset", "--repository", "life", "--key", "gone")
	repo := p.one(t, "file", "repository", "show", "--repository", "life")
	repo.expect(t, "after", "description")
	repo.expect(t, "5", "retain_repo_versions")
	repo.expect(t, "map[stage:test]", "pulp_labels")
	if list := p.many(t, "file", "repository", "list", "--name-startswith", "lif", "--label-select", "stage=test"); len(list) != 1 {
		t.Errorf("%d repositories have the label", len(list))
	}
	p.run(t, "repository", "list", "--limit", "1")

	p.run(t, "file", "repository", "sync", "--repository", "life")
	version := p.one(t, "file", "repository", "version", "show", "--repository", "life")
	version.expect(t, "1", "number")
	version.expect(t, "3", "content_summary", "present", "file.file", "count")
	p.run(t, "file", "repository", "sync", "--repository", "life", "--remote", "life", "--mirror")
	if list := p.many(t, "file", "repository", "version", "list", "--repository", "life"); len(list) != 2 {
		t.Errorf("%d versions after a sync that changes nothing", len(list))
	}
	units := p.many(t, "file", "repository", "content", "list", "--repository", "life")
	if got, want := column(units, "sha256"), []string{digest("File a"), digest("File b"), digest("")}; !slices.Equal(got, sorted(want)) {
		t.Errorf("the repository has %q, want %q", got, want)
	}

	publication := p.one(t, "file", "publication", "create", "--repository", "life", "--manifest", "LIST")
	publication.expect(t, "LIST", "manifest")
	if list := p.many(t, "file", "publication", "list", "--repository", "life"); len(list) == 0 {
		t.Error("no publication is listed")
	}
	p.one(t, "file", "publication", "show", "--href", publication.text("pulp_href"))
	d := p.one(t, "file", "distribution", "create", "--name", "life", "--base-path", "life", "--publication", publication.text("pulp_href"))
	for name, text := range files {
		if got := p.download(t, d, strings.ReplaceAll(name, " ", "%20")); digest(got) != digest(text) {
			t.Errorf("%s is served as %q", name, got)
		}
	}
	if got := p.download(t, d, "LIST"); !strings.Contains(got, "a.txt,"+digest("File a")+",6\n") {
		t.Errorf("the list is %q", got)
	}

	p.run(t, "file", "distribution", "destroy", "--distribution", "life")
	p.run(t, "file", "publication", "destroy", "--href", publication.text("pulp_href"))
	p.run(t, "file", "repository", "destroy", "--repository", "life")
	p.run(t, "file", "remote", "destroy", "--remote", "life")
	if said := p.fail(t, "file", "repository", "show", "--repository", "life"); !strings.Contains(said, "Could not find") {
		t.Errorf("of a repository that is gone it says %q", said)
	}
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// content makes content of files and moves it in and out of repositories.
func content(t *testing.T, p *pulp) {
	p.run(t, "file", "repository", "create", "--name", "content")
	small, big := "small file", strings.Repeat("A big file, sent in pieces. ", 5000)
	p.one(t, "file", "content", "upload", "--file", file(t, small), "--relative-path", "small.txt").expect(t, digest(small), "sha256")
	p.one(t, "file", "content", "upload", "--file", file(t, big), "--relative-path", "big.txt", "--chunk-size", "32kB", "--repository", "content").expect(t, digest(big), "sha256")
	p.one(t, "artifact", "upload", "--file", file(t, "of an artifact")).expect(t, digest("of an artifact"), "sha256")
	p.one(t, "file", "content", "create", "--relative-path", "made.txt", "--sha256", digest("of an artifact"), "--repository", "content")
	p.one(t, "file", "content", "create", "--relative-path", "fetched.txt", "--file-url", serve(t, map[string]string{"x": "Fetched"})+"/x", "--repository", "content").expect(t, digest("Fetched"), "sha256")
	p.one(t, "file", "content", "show", "--sha256", digest(small), "--relative-path", "small.txt").expect(t, "small.txt", "relative_path")
	if list := p.many(t, "file", "content", "list", "--relative-path", "big.txt"); len(list) != 1 {
		t.Errorf("%d files are called big.txt", len(list))
	}

	names := func() []string {
		return column(p.many(t, "file", "repository", "content", "list", "--repository", "content"), "relative_path")
	}
	if got, want := names(), []string{"big.txt", "fetched.txt", "made.txt"}; !slices.Equal(got, want) {
		t.Errorf("the repository has %q, want %q", got, want)
	}
	p.run(t, "file", "repository", "content", "add", "--repository", "content", "--sha256", digest(small), "--relative-path", "small.txt")
	p.run(t, "file", "repository", "content", "remove", "--repository", "content", "--sha256", digest(big), "--relative-path", "big.txt")
	if got, want := names(), []string{"fetched.txt", "made.txt", "small.txt"}; !slices.Equal(got, want) {
		t.Errorf("the repository has %q, want %q", got, want)
	}
	p.run(t, "file", "repository", "content", "modify", "--repository", "content",
		"--add-content", fmt.Sprintf(`[{"sha256": %q, "relative_path": "big.txt"}]`, digest(big)),
		"--remove-content", fmt.Sprintf(`[{"sha256": %q, "relative_path": "small.txt"}, {"sha256": %q, "relative_path": "made.txt"}]`, digest(small), digest("of an artifact")))
	if got, want := names(), []string{"big.txt", "fetched.txt"}; !slices.Equal(got, want) {
		t.Errorf("the repository has %q, want %q", got, want)
	}
	p.run(t, "content", "list", "--limit", "1")
}

// versions shows and removes versions of a repository.
func versions(t *testing.T, p *pulp) {
	p.run(t, "file", "repository", "create", "--name", "versions")
	for _, name := range []string{"one", "two", "three"} {
		p.run(t, "file", "content", "upload", "--file", file(t, name), "--relative-path", name, "--repository", "versions")
	}
	if got, want := column(p.many(t, "file", "repository", "version", "list", "--repository", "versions"), "number"), []string{"0", "1", "2", "3"}; !slices.Equal(got, want) {
		t.Errorf("versions %q, want %q", got, want)
	}
	p.run(t, "file", "repository", "version", "destroy", "--repository", "versions", "--version", "1")
	if said := p.fail(t, "file", "repository", "version", "show", "--repository", "versions", "--version", "1"); !strings.Contains(said, "No RepositoryVersion matches the given query") && !strings.Contains(said, "not find") {
		t.Errorf("of a version that is gone it says %q", said)
	}
	v := p.one(t, "file", "repository", "version", "show", "--repository", "versions", "--version", "2")
	v.expect(t, "2", "content_summary", "added", "file.file", "count")
	p.run(t, "file", "repository", "version", "repair", "--repository", "versions", "--version", "2")
	if got, want := column(p.many(t, "file", "repository", "content", "list", "--repository", "versions", "--version", "2"), "relative_path"), []string{"one", "two"}; !slices.Equal(got, want) {
		t.Errorf("version 2 has %q, want %q", got, want)
	}
}

// distributions follow a repository, or serve a publication of it.
func distributions(t *testing.T, p *pulp) {
	p.run(t, "file", "repository", "create", "--name", "served", "--autopublish")
	d := p.one(t, "file", "distribution", "create", "--name", "served", "--base-path", "served/at", "--repository", "served", "--labels", `{"a": "b"}`)
	d.expect(t, "b", "pulp_labels", "a")
	p.run(t, "file", "content", "upload", "--file", file(t, "First"), "--relative-path", "x", "--repository", "served")
	if got := p.download(t, d, "x"); got != "First" {
		t.Errorf("served is %q", got)
	}
	p.run(t, "file", "content", "upload", "--file", file(t, "Second"), "--relative-path", "x", "--repository", "served")
	if got := p.download(t, d, "x"); got != "Second" {
		t.Errorf("served is %q after a change", got)
	}
	publication := p.one(t, "file", "publication", "create", "--repository", "served", "--version", "1")
	p.run(t, "file", "distribution", "update", "--distribution", "served", "--publication", publication.text("pulp_href"), "--base-path", "served/there")
	d = p.one(t, "file", "distribution", "show", "--distribution", "served")
	d.expect(t, "<nil>", "repository")
	if got := p.download(t, d, "x"); got != "First" {
		t.Errorf("served is %q of the first version", got)
	}
	p.run(t, "file", "distribution", "label", "set", "--distribution", "served", "--key", "c", "--value", "d")
	if list := p.many(t, "file", "distribution", "list", "--label-select", "a=b,c"); len(list) != 1 {
		t.Errorf("%d distributions have the labels", len(list))
	}
	if said := p.fail(t, "file", "distribution", "create", "--name", "other", "--base-path", "served/there/below", "--repository", "served"); !strings.Contains(said, "Overlaps with existing distribution") {
		t.Errorf("of paths one in the other it says %q", said)
	}
}

// sources are other places for files.
func sources(t *testing.T, p *pulp) {
	url := serve(t, map[string]string{"a.txt": "Of a source"})
	p.run(t, "file", "remote", "create", "--name", "source", "--url", url, "--policy", "on_demand")
	acs := p.one(t, "file", "acs", "create", "--name", "source", "--remote", "source", "--path", "PULP_MANIFEST")
	p.run(t, "file", "acs", "refresh", "--acs", "source")
	p.run(t, "file", "acs", "path", "add", "--acs", "source", "--path", "missing/PULP_MANIFEST")
	p.one(t, "file", "acs", "show", "--acs", "source").expect(t, "[PULP_MANIFEST missing/PULP_MANIFEST]", "paths")
	p.fail(t, "file", "acs", "refresh", "--acs", "source")
	p.run(t, "file", "acs", "path", "remove", "--acs", "source", "--path", "missing/PULP_MANIFEST")
	if list := column(p.many(t, "file", "acs", "list"), "pulp_href"); !slices.Equal(list, []string{acs.text("pulp_href")}) {
		t.Errorf("listed is %q", list)
	}
	groups := p.many(t, "task-group", "list")
	if len(groups) < 2 {
		t.Fatalf("%d groups of tasks", len(groups))
	}
	p.one(t, "task-group", "show", "--href", groups[0].text("pulp_href")).expect(t, "0", "running")

	// what the upstream has lost comes from the source
	manifest := "copy.txt," + digest("Of a source") + ",11\n"
	up := serve(t, map[string]string{"list": manifest})
	p.run(t, "file", "remote", "create", "--name", "loses", "--url", up+"/list")
	p.run(t, "file", "repository", "create", "--name", "loses", "--remote", "loses")
	p.run(t, "file", "repository", "sync", "--repository", "loses")
	p.run(t, "file", "acs", "destroy", "--acs", "source")
}

// tasks are listed, canceled and purged.
func tasks(t *testing.T, p *pulp) {
	url := serve(t, nil)
	p.run(t, "file", "remote", "create", "--name", "hangs", "--url", url+"/never/PULP_MANIFEST")
	repo := p.one(t, "file", "repository", "create", "--name", "hangs", "--remote", "hangs")
	p.run(t, "--background", "file", "repository", "sync", "--repository", "hangs")
	hanging := func(state string) []object {
		return p.many(t, "task", "list", "--exclusive-resource", repo.text("pulp_href"), "--state", state)
	}
	list := hanging("running")
	for deadline := time.Now().Add(time.Minute); len(list) == 0 && time.Now().Before(deadline); { // it may wait for a worker
		list = hanging("running")
	}
	if len(list) != 1 {
		t.Fatalf("%d tasks run", len(list))
	}
	p.run(t, "task", "cancel", "--href", list[0].text("pulp_href"))
	p.one(t, "task", "show", "--wait", "--href", list[0].text("pulp_href")).expect(t, "canceled", "state")
	if len(hanging("canceled")) != 1 {
		t.Error("the canceled task is not listed")
	}
	if said := p.fail(t, "task", "cancel", "--href", list[0].text("pulp_href")); !strings.Contains(said, "canceled") {
		t.Errorf("of a task that is canceled already it says %q", said)
	}
	p.run(t, "task", "summary")
	p.run(t, "task", "destroy", "--href", list[0].text("pulp_href"))
	p.run(t, "task", "purge", "--finished-before", "2020-01-01", "--state", "completed")
	if list := p.many(t, "task", "list", "--name-contains", "purge", "--state-in", "completed", "--field", "name"); len(list) != 1 {
		t.Errorf("%d purges", len(list))
	}
	// of a task that fails, its message is told
	p.run(t, "file", "remote", "create", "--name", "missing", "--url", url+"/missing")
	if said := p.fail(t, "file", "repository", "sync", "--repository", "hangs", "--remote", "missing"); !strings.Contains(said, "404, message='Not Found'") {
		t.Errorf("of a sync that fails it says %q", said)
	}
}

// uploads are sent in pieces that something else may see.
func uploads(t *testing.T, p *pulp) {
	text := strings.Repeat("0123456789abcdef", 4000)
	a := p.one(t, "artifact", "upload", "--file", file(t, text), "--chunk-size", "10kB")
	a.expect(t, fmt.Sprint(len(text)), "size")
	if list := p.many(t, "artifact", "list", "--sha256", digest(text)); len(list) != 1 || list[0].text("pulp_href") != a.text("pulp_href") {
		t.Errorf("listed is %v", list)
	}
	p.one(t, "artifact", "show", "--href", a.text("pulp_href"))
	upload, err := p.server.JSON(t.Context(), http.MethodPost, "/pulp/api/v3/uploads/", map[string]any{"size": 7})
	if err != nil {
		t.Fatal(err)
	}
	href := fmt.Sprint(upload["pulp_href"])
	p.one(t, "upload", "show", "--href", href).expect(t, "7", "size")
	if list := column(p.many(t, "upload", "list"), "pulp_href"); !slices.Contains(list, href) {
		t.Errorf("%s is not in %q", href, list)
	}
	p.run(t, "upload", "destroy", "--href", href)
	p.fail(t, "upload", "show", "--href", href)
}

func users(t *testing.T, p *pulp) {
	p.one(t, "user", "create", "--username", "carol", "--password", "Gr4nary-Gate", "--email", "carol@example.com", "--first-name", "Carol").expect(t, "carol", "username")
	p.run(t, "user", "update", "--username", "carol", "--last-name", "Carolson", "--staff")
	u := p.one(t, "user", "show", "--username", "carol")
	u.expect(t, "Carolson", "last_name")
	u.expect(t, "true", "is_staff")
	if list := column(p.many(t, "user", "list"), "username"); !slices.Equal(list, []string{"admin", "carol"}) {
		t.Errorf("users %q", list)
	}
	if said := p.fail(t, "--username", "carol", "--password", "wrong", "user", "list"); !strings.Contains(said, "Authentication failed") && !strings.Contains(said, "401") {
		t.Errorf("of a wrong password it says %q", said)
	}
	p.run(t, "user", "destroy", "--username", "carol")
	p.fail(t, "user", "show", "--username", "carol")
}

func domains(t *testing.T, p *pulp) {
	if list := column(p.many(t, "domain", "list"), "name"); !slices.Equal(list, []string{"default"}) {
		t.Errorf("domains %q", list)
	}
}

// fixtures syncs the repositories that the reference's own tests use.
func fixtures(t *testing.T, p *pulp) {
	dir := os.Getenv("GRANARY_FIXTURES")
	if dir == "" {
		t.Skip("GRANARY_FIXTURES, a folder of repositories to sync from, is not set")
	}
	s := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(s.Close)
	for _, tc := range []struct {
		name string
		fail string // what is said, if the sync can't succeed
	}{
		{name: "file"},
		{name: "file2"},
		{name: "file-many"},
		{name: "file-invalid", fail: "/file-invalid/4.iso failed validation due to checksum. Expected '4a36e4ee"},
		{name: "file-mixed", fail: "404, message='Not Found'"},
	} {
		p.run(t, "file", "remote", "create", "--name", tc.name, "--url", s.URL+"/"+tc.name+"/PULP_MANIFEST")
		p.run(t, "file", "repository", "create", "--name", tc.name, "--remote", tc.name, "--autopublish")
		if tc.fail != "" {
			if said := p.fail(t, "file", "repository", "sync", "--repository", tc.name); !strings.Contains(said, tc.fail) {
				t.Errorf("%s: it says %q, want %q", tc.name, said, tc.fail)
			}
			p.one(t, "file", "repository", "version", "show", "--repository", tc.name).expect(t, "0", "number")
			continue
		}
		p.run(t, "file", "repository", "sync", "--repository", tc.name)
		d := p.one(t, "file", "distribution", "create", "--name", tc.name, "--base-path", "fixtures/"+tc.name, "--repository", tc.name)
		upstream, err := os.ReadFile(filepath.Join(dir, tc.name, "PULP_MANIFEST")) //nolint:gosec // the tests' own
		if err != nil {
			t.Fatal(err)
		}
		want, got := sorted(strings.Fields(string(upstream))), sorted(strings.Fields(p.download(t, d, "PULP_MANIFEST")))
		if !slices.Equal(got, want) {
			t.Errorf("%s: the list is %q, want %q", tc.name, got, want)
		}
		for _, line := range want {
			name, rest, _ := strings.Cut(line, ",")
			sum, _, _ := strings.Cut(rest, ",")
			if got := digest(p.download(t, d, name)); got != sum {
				t.Errorf("%s/%s: the digest is %s, want %s", tc.name, name, got, sum)
			}
		}
	}
}

// orphans go when they are told to.
func orphans(t *testing.T, p *pulp) {
	p.one(t, "file", "content", "upload", "--file", file(t, "Nobody's"), "--relative-path", "nobody")
	p.run(t, "orphan", "cleanup", "--protection-time", "0")
	if list := p.many(t, "file", "content", "list", "--relative-path", "nobody"); len(list) != 0 {
		t.Errorf("%d orphans are left", len(list))
	}
	status, body, err := p.server.Do(t.Context(), http.MethodGet, "/pulp/api/v3/artifacts/?sha256="+digest("Nobody's"), nil)
	if err != nil || status != http.StatusOK || !bytes.Contains(body, []byte(`"count":0`)) {
		t.Errorf("the orphan's file: %d %s %v", status, body, err)
	}
}
