package repository_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"granary/internal/pulp"
	"granary/internal/repository/repositorytest"
)

const (
	inUse   = `["The repository version cannot be deleted because it (or its publications) are currently being used to distribute content. Please update the necessary distributions first."]`
	lastOne = "[ErrorDetail(string='Cannot delete repository version. Repositories must have at least one repository version.', code='invalid')]"
)

// numbers lists the numbers of a repository's versions, newest first.
func (w *world) numbers(repo string) string {
	w.Helper()
	return fmt.Sprint(w.Names("number", repo+"versions/"))
}

func (w *world) wantNumbers(repo, want string) {
	w.Helper()
	if got := w.numbers(repo); got != want {
		w.Errorf("versions %s, want %s", got, want)
	}
}

func TestVersionNumbers(t *testing.T) {
	both(t, func(w *world) {
		repo := w.repository("r")
		u := w.units("a", "b", "c")
		w.wantNumbers(repo, "[0]")
		w.Fails("DELETE", version(repo, 0), nil, lastOne)
		for i := range 3 {
			w.modify(repo, u[i:i+1], nil)
		}
		before := w.Get(repo)["pulp_last_updated"]
		w.Run("DELETE", version(repo, 3), nil) // the latest
		w.wantNumbers(repo, "[2 1 0]")
		if got := w.Get(repo)["latest_version_href"]; got != version(repo, 2) {
			w.Errorf("latest version %v, want 2", got)
		}
		w.wantPaths(version(repo, 2), "a", "b")
		w.modify(repo, nil, u[:1]) // its number is not used again
		w.wantNumbers(repo, "[4 2 1 0]")
		if after := w.Get(repo)["pulp_last_updated"]; after == before {
			w.Error("a new version does not move the repository's pulp_last_updated")
		}
		w.Run("DELETE", version(repo, 0), nil) // the oldest
		w.Run("DELETE", version(repo, 2), nil) // one in the middle
		w.wantNumbers(repo, "[4 1]")
		w.wantPaths(version(repo, 4), "b")
		want := object{
			"added":   object{"file.file": object{"count": 1.0, "href": root + contents + "?repository_version_added=" + version(repo, 4)}},
			"removed": object{"file.file": object{"count": 1.0, "href": root + contents + "?repository_version_removed=" + version(repo, 4)}},
			"present": object{"file.file": object{"count": 1.0, "href": root + contents + "?repository_version=" + version(repo, 4)}},
		}
		v := w.Get(version(repo, 4))
		if diff := cmp.Diff(want, v["content_summary"]); diff != "" {
			w.Errorf("summary: %s", diff)
		}
		if v["repository"] != repo || v["vuln_report"] != root+"vuln_report/?repo_versions="+v["prn"].(string) {
			w.Errorf("version = %v", v)
		}
		w.Run("DELETE", version(repo, 1), nil)
		w.Fails("DELETE", version(repo, 4), nil, lastOne)
		w.wantNumbers(repo, "[4]")
		for path, want := range map[string]string{
			version(repo, 99):    `{"detail":"No RepositoryVersion matches the given query."}`,
			repo + "versions/x/": `{"detail":"Not found."}`,
			root + repositories + "00000000-0000-0000-0000-000000000000/versions/": `{"detail":"No FileRepository matches the given query."}`,
		} {
			if status, text := w.Do("GET", path, nil); status != 404 || text != want {
				w.Errorf("GET %s = %d %s", path, status, text)
			}
		}
		t := w.Run("DELETE", repo, nil)
		if len(t.Created) != 0 {
			w.Errorf("created %v", t.Created)
		}
		w.Gone(repo, version(repo, 4))
	})
}

func TestVersionLists(t *testing.T) {
	both(t, func(w *world) {
		repo := w.repository("r")
		u := w.units("a", "b", "c")
		w.modify(repo, u[:1], nil)
		w.modify(repo, u[1:2], nil)
		w.modify(repo, u[2:], u[:1])
		other := w.repository("other")
		w.modify(other, u[:1], nil)
		for _, tc := range []struct{ query, value, want string }{
			{"content", u[0], "[2 1]"},
			{"content__in", u[0] + "," + u[2], "[3 2 1]"},
			{"content", u[1], "[3 2]"},
			{"number", "2", "[2]"},
			{"number__gt", "1", "[3 2]"},
			{"number__range", "1,2", "[2 1]"},
			{"pulp_created__gt", "2001-01-01", "[3 2 1 0]"},
			{"pulp_created__lt", "2001-01-01", "[]"},
			{"ordering", "number", "[0 1 2 3]"},
		} {
			if got := fmt.Sprint(w.Names("number", repo+"versions/", tc.query, tc.value)); got != tc.want {
				w.Errorf("?%s=%s gives %s, want %s", tc.query, tc.value, got, tc.want)
			}
		}
		for query, want := range map[string]string{
			"content=zz":                        `["URI not valid: zz"]`,
			"content=":                          `["No value supplied for content filter"]`,
			"content=" + repo:                   `["URI ` + repo + ` not found for content."]`,
			"content__in=" + u[0] + ",":         `["No value supplied for content filter"]`,
			"number=x":                          `{"number":["Enter a number."]}`,
			"number__in=1":                      `{"errors":["Invalid Filter: 'number__in'"]}`,
			"pulp_id__in=x":                     `{"errors":["Invalid Filter: 'pulp_id__in'"]}`,
			"pulp_href__in=" + version(repo, 1): `["URI does not contain an unqualified resource PK"]`,
			"pulp_href__in=zz":                  `["URI not valid: zz"]`,
		} {
			w.Refused("GET", repo+"versions/?"+query, nil, want)
		}
		if got := len(w.List("repository_versions/", "content", u[0])); got != 3 {
			w.Errorf("repository_versions: %d versions have the unit, want 3", got)
		}
		for filter, want := range map[string][]string{
			"repository_version":         {"b", "c"},
			"repository_version_added":   {"c"},
			"repository_version_removed": {"a"},
		} {
			if got := w.Names("relative_path", contents, filter, version(repo, 3), "ordering", "relative_path"); !slices.Equal(got, want) {
				w.Errorf("%s: %q, want %q", filter, got, want)
			}
			w.Refused("GET", root+contents+"?"+filter+"=", nil, `["No value supplied for repository version filter"]`)
			w.Refused("GET", root+contents+"?"+filter+"=zz", nil, `["URI not valid: zz"]`)
			w.Refused("GET", root+contents+"?"+filter+"="+version(repo, 9), nil, `["URI `+version(repo, 9)+` not found for repositoryversion."]`)
		}
		if got := w.Names("size", artifacts, "repository_version", version(repo, 3)); len(got) != 2 {
			w.Errorf("artifacts of the version: %v, want 2", got)
		}
		for filter, want := range map[string]int{"with_content": 2, "latest_with_content": 1} {
			if got := w.Names("name", repositories, filter, u[0]); len(got) != want {
				w.Errorf("%s: %q, want %d", filter, got, want)
			}
		}
	})
}

// distribution makes a distribution and returns its href; fields are names and values.
func (w *world) distribution(name string, fields ...any) string {
	w.Helper()
	return w.Run("POST", root+distributions, body(append(fields, "name", name, "base_path", name)...)).Created[0]
}

// publication publishes a repository or a version and returns the publication's href; fields are names and values.
func (w *world) publication(fields ...any) string {
	w.Helper()
	return w.Run("POST", root+publications, body(fields...)).Created[0]
}

func TestProtectedVersions(t *testing.T) {
	both(t, func(w *world) {
		u := w.units("a", "b", "c")
		n := 0
		// made makes a repository with three versions beside the empty one.
		made := func(path string, fields ...any) string {
			n++
			repo := repositorytest.Href(w.Create(path, body(append(fields, "name", fmt.Sprint("r", n))...)))
			if path == repositories {
				for i := range u {
					w.modify(repo, u[i:i+1], nil)
				}
			}
			return repo
		}
		protected := func(repo string, numbers ...int) {
			w.Helper()
			for _, v := range w.List(repo + "versions/") {
				number := int(v["number"].(float64))
				status, text := w.Do("DELETE", version(repo, number), nil)
				if want := slices.Contains(numbers, number); want != (status == 400 && text == inUse) {
					w.Errorf("DELETE of version %d = %d %s; protected are %v", number, status, text, numbers)
				}
			}
			for _, v := range w.List("tasks/") { // the deletions are still to come
				w.Wait(repositorytest.Href(v))
			}
		}

		// a distribution of a version
		repo := made(repositories)
		d := w.distribution("d1")
		w.exec("UPDATE core_distribution SET repository_version = (SELECT v.id FROM core_repositoryversion v JOIN core_repository r ON r.id = v.repository WHERE r.name = 'r1' AND v.number = 1) WHERE name = 'd1'")
		protected(repo, 1)
		w.wantNumbers(repo, "[1]")
		w.Run("DELETE", d, nil)

		// a distribution of a publication
		repo = made(repositories)
		p := w.publication("repository_version", version(repo, 2))
		d = w.distribution("d2", "publication", p)
		protected(repo, 2)
		w.wantNumbers(repo, "[2]")
		w.Get(p)
		w.Run("DELETE", d, nil)

		// a distribution of a repository: the newest version that is published, however old
		repo = made(repositories)
		w.distribution("d3", "repository", repo)
		p = w.publication("repository_version", version(repo, 1))
		p0 := w.publication("repository_version", version(repo, 0))
		protected(repo, 1)
		w.wantNumbers(repo, "[1]")
		w.Get(p)
		w.Gone(p0) // publications go with their version

		// a distribution of a repository of which nothing is published serves nothing
		repo = made(repositories)
		w.distribution("d4", "repository", repo)
		protected(repo)

		// a distribution of a repository whose versions are served as they are: the latest
		repo = made(otherRepositories)
		id := idOf(w, repo)
		w.exec("UPDATE core_distribution SET repository = ? WHERE name = 'd4'", id)
		w.exec("INSERT INTO core_repositoryversion (id, repository, number, complete, created, updated) VALUES (?, ?, 1, ?, 1, 1)", pulp.NewID(), id, true)
		protected(repo, 1)

		// checkpoints, and of them nothing else
		repo = made(repositories)
		w.modify(repo, nil, u[:1])
		w.distribution("d5", "repository", repo, "checkpoint", true)
		c := w.publication("repository", repo, "checkpoint", true)
		w.modify(repo, u[:1], nil)
		w.publication("repository", repo)
		protected(repo, 4)
		w.wantNumbers(repo, "[4]")
		w.Get(c)
	})
}

func TestRetention(t *testing.T) {
	both(t, func(w *world) {
		u := w.units("a", "b", "c", "d", "e")
		repo := w.repository("r", "retain_repo_versions", 2)
		w.modify(repo, u[:1], nil)
		w.modify(repo, u[1:2], nil)
		w.wantNumbers(repo, "[2 1]")
		if got := w.Get(version(repo, 1))["content_summary"].(object)["added"].(object)["file.file"].(object)["count"]; got != 1.0 {
			w.Errorf("the oldest version added %v, want all that it has", got)
		}
		w.modify(repo, u[2:3], u[:1])
		w.wantNumbers(repo, "[3 2]")
		if got := w.Names("relative_path", contents, "repository_version_added", version(repo, 2), "ordering", "relative_path"); !slices.Equal(got, []string{"a", "b"}) {
			w.Errorf("version 2 added %q, want what version 1 had too", got)
		}
		// what a distribution serves is kept besides
		p := w.publication("repository_version", version(repo, 2))
		d := w.distribution("d", "publication", p)
		w.modify(repo, u[3:4], nil)
		w.modify(repo, u[4:], nil)
		w.wantNumbers(repo, "[5 4 2]")
		w.Run("PATCH", repo, body("retain_repo_versions", 1))
		w.wantNumbers(repo, "[5 2]")
		w.Run("DELETE", d, nil)
		w.Run("PATCH", repo, body("description", "any change"))
		w.wantNumbers(repo, "[5]")
		w.Gone(p)
		w.wantPaths(version(repo, 5), "b", "c", "d", "e")
		w.Refused("PATCH", repo, body("retain_repo_versions", 0), `{"retain_repo_versions":["Ensure this value is greater than or equal to 1."]}`)
		w.Run("PATCH", repo, body("retain_repo_versions", nil))
		w.modify(repo, nil, u[4:])
		w.wantNumbers(repo, "[6 5]")
	})
}

// TestServingWhileVersionsGo deletes versions while distributions begin to serve them: one of both is refused, or waits.
func TestServingWhileVersionsGo(t *testing.T) {
	twoProcesses(t, func(worlds [2]*world) {
		w, other := worlds[0], worlds[1]
		u := w.units("a", "b")
		for round := range 8 {
			repo := w.repository(fmt.Sprint("r", round))
			w.modify(repo, u[:1], nil)
			w.modify(repo, u[1:], nil)
			p := w.publication("repository_version", version(repo, 1))
			d := w.distribution(fmt.Sprint("d", round))
			pinned := make(chan *repositorytest.Task, 1)
			go func() { pinned <- other.Try("PATCH", d, body("publication", p)) }()
			deleted := w.Try("DELETE", version(repo, 1), nil)
			pin := <-pinned
			got := w.Get(d)["publication"]
			switch {
			case pin.Done() && deleted.Done():
				w.Errorf("round %d: a version is gone that was to be served; the distribution has %v", round, got)
			case pin.Done() && got != p:
				w.Errorf("round %d: the distribution has %v, want the publication", round, got)
			case !pin.Done() && !deleted.Done():
				w.Errorf("round %d: neither was done: %s, %s", round, pin.Failure, deleted.Failure)
			}
		}
	})
}
