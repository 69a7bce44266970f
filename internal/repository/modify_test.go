package repository_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"granary/internal/db"
	"granary/internal/pulp"
	"granary/internal/repository/repositorytest"
	"granary/internal/task"
)

// paths lists the paths in a version, sorted.
func (w *world) paths(version string) []string {
	w.Helper()
	return slices.Sorted(slices.Values(w.Names("relative_path", contents, "repository_version", version)))
}

func (w *world) wantPaths(version string, want ...string) {
	w.Helper()
	if got := w.paths(version); !slices.Equal(got, want) {
		w.Errorf("%s holds %q, want %q", version, got, want)
	}
}

func TestModify(t *testing.T) {
	both(t, func(w *world) {
		repo, other := w.repository("r"), w.repository("other")
		u := w.units("a", "b", "c")
		a, b, c := u[0], u[1], u[2]
		b2 := w.unit("b", "another")

		t := w.Run("POST", repo+"modify/", body("add_content_units", []string{a, b}))
		if diff := cmp.Diff([]string{version(repo, 1)}, t.Created); diff != "" || t.Result != nil {
			w.Errorf("created: %s, result %s", diff, t.Result)
		}
		if diff := cmp.Diff([]string{"prn:file.filerepository:" + repositorytest.ID(repo), "shared:prn:core.domain:" + w.Call.Domain.ID.String()}, t.Reserved); diff != "" {
			w.Errorf("locks: %s", diff)
		}
		for _, nothing := range []object{
			{},
			body("add_content_units", []string{a}), body("remove_content_units", []string{c}), body("add_content_units", []string{}, "remove_content_units", []string{}),
			body("base_version", version(repo, 1)), body("remove_content_units", []string{"*"}, "add_content_units", []string{b, a}), body("remove_content_units", []string{a}, "add_content_units", []string{a}),
		} {
			if got := w.Run("POST", repo+"modify/", nothing).Created; len(got) != 0 {
				w.Errorf("modify %v created %v, want nothing", nothing, got)
			}
		}
		w.modify(repo, []string{c}, []string{a, c}) // removed first, then added
		w.wantPaths(version(repo, 2), "b", "c")
		w.modify(repo, []string{b2}, nil) // in place of the other
		w.wantPaths(version(repo, 3), "b", "c")
		if got := w.Names("pulp_href", contents, "repository_version_removed", version(repo, 3)); !slices.Equal(got, []string{b}) {
			w.Errorf("version 3 removed %v, want what was at the path", got)
		}
		w.modify(repo, nil, []string{"*"})
		w.wantPaths(version(repo, 4))

		// from another version, of this repository and of another
		if v := w.Get(w.modify(repo, []string{c}, []string{a}, "base_version", version(repo, 1))); v["base_version"] != version(repo, 1) {
			w.Errorf("base_version = %v", v["base_version"])
		}
		w.wantPaths(version(repo, 5), "b", "c")
		if v := w.Get(version(repo, 2)); v["base_version"] != nil {
			w.Errorf("base_version of version 2 = %v, want null", v["base_version"])
		}
		w.modify(other, nil, nil, "base_version", "http://elsewhere"+version(repo, 3))
		w.wantPaths(version(other, 1), "b", "c")
		w.modify(other, []string{a}, []string{"*"}, "base_version", version(repo, 1)) // "*" is what the latest version holds: b is another unit
		w.wantPaths(version(other, 2), "a", "b")
		w.modify(other, []string{b2, c}, []string{"*"})
		w.modify(other, []string{b, c}, []string{"*"}) // c was there before, and stays; b is new
		w.wantPaths(version(other, 4), "b", "c")
		if got := w.Get(version(other, 4))["content_summary"].(object)["added"]; !cmp.Equal(got, object{"file.file": object{"count": 1.0, "href": root + contents + "?repository_version_added=" + version(other, 4)}}) {
			w.Errorf("version 4 added %v, want b alone", got)
		}

		failed := w.Fails("POST", repo+"modify/", body("add_content_units", []string{a, w.unit("a", "another")}),
			"Cannot create repository version. More than one file.file content with the duplicate values for relative_path.")
		if len(failed.Created) != 0 {
			w.Errorf("created %v", failed.Created)
		}
		strange := repositorytest.Href(w.Create(otherRepositories, body("name", "strange")))
		w.Fails("POST", strange+"modify/", body("add_content_units", []string{a}), "Saw unsupported content types {'file.file'}")
		if status, text := w.Do("GET", strange+"versions/1/", nil); status != 404 || text != `{"detail":"No RepositoryVersion matches the given query."}` {
			w.Errorf("version of a failed task: %d %s", status, text)
		}
		w.modify(repo, []string{a, b}, nil) // nothing is left of what failed
		w.wantPaths(version(repo, 6), "a", "b", "c")
	})
}

func TestModifyIsRefused(t *testing.T) {
	lite(t, func(w *world) {
		repo := w.repository("r")
		a := w.unit("a", "x")
		missing := root + contents + "00000000-0000-0000-0000-000000000000/"
		for _, tc := range []struct {
			body any
			want string
		}{
			{body("add_content_units", []string{"zz"}), `{"add_content_units":["URI not valid: zz"]}`},
			{body("add_content_units", []string{"/content/"}), `{"add_content_units":["URI not valid: /content/"]}`},
			{body("add_content_units", []string{root + contents + "zz/"}), `{"add_content_units":["“zz” is not a valid UUID."]}`},
			{body("add_content_units", []string{missing, a}), `{"add_content_units":["Could not find the following content units: ['` + missing + `']"]}`},
			{body("remove_content_units", []string{missing}), `{"remove_content_units":["Could not find the following content units: ['` + missing + `']"]}`},
			{body("add_content_units", []string{repo}), `{"add_content_units":["Could not find the following content units: ['` + repo + `']"]}`},
			{body("add_content_units", []string{root + contents}), `{"add_content_units":["URI does not contain an unqualified resource PK"]}`},
			{body("add_content_units", []string{"*"}), `{"add_content_units":["URI not valid: *"]}`},
			{body("add_content_units", []any{""}), `{"add_content_units":{"0":["This field may not be blank."]}}`},
			{body("add_content_units", []any{a, nil}), `{"add_content_units":{"1":["This field may not be null."]}}`},
			{body("add_content_units", []any{5}), `{"add_content_units":["URI not valid: 5"]}`},
			{body("add_content_units", a), `{"add_content_units":["Expected a list of items but got type \"str\"."]}`},
			{body("add_content_units", nil), `{"add_content_units":["This field may not be null."]}`},
			{body("remove_content_units", []string{"*", a}), `{"remove_content_units":["Cannot supply content units and '*'."]}`},
			{body("remove_content_units", []string{a, "*"}), `{"remove_content_units":["Cannot supply content units and '*'."]}`},
			{body("base_version", "zz"), `{"base_version":["Invalid hyperlink - No URL match."]}`},
			{body("base_version", version(repo, 99)), `{"base_version":["Invalid hyperlink - Object does not exist."]}`},
			{body("base_version", repo), `{"base_version":["Invalid hyperlink - Incorrect URL match."]}`},
			{body("base_version", nil), `{"base_version":["This field may not be null."]}`},
			{body("zzz", 1), `{"zzz":["Unexpected field"]}`},
			{"[]", `{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}`},
			{form{"add_content_units": `["` + a + `"]`}, `{"add_content_units":["URI not valid: [\"` + a + `\"]"]}`},
		} {
			w.Refused("POST", repo+"modify/", tc.body, tc.want)
		}
		if status, text := w.Do("POST", root+repositories+"00000000-0000-0000-0000-000000000000/modify/", `{}`); status != 404 || text != `{"detail":"No FileRepository matches the given query."}` {
			w.Errorf("a missing repository: %d %s", status, text)
		}
		w.Run("POST", repo+"modify/", form{"add_content_units": a})
		w.wantPaths(version(repo, 1), "a")

		stranger := *w.Call
		stranger.Domain = pulp.Domain{ID: pulp.NewID(), Name: "other"}
		w.exec("INSERT INTO core_domain (id, created, updated, name, storage_class, storage_settings, redirect_to_object_storage, hide_guarded_distributions) VALUES (?, 1, 1, 'other', '', '', ?, ?)", stranger.Domain.ID, false, false)
		home := w.Call
		w.World.Call = &stranger
		foreign := w.unit("foreign", "x")
		w.World.Call = home
		w.Refused("POST", repo+"modify/", body("add_content_units", []string{foreign}), `{"add_content_units":["Content units are not a part of the current domain default: ['`+foreign+`']"]}`)
	})
}

// exec changes the database behind the server's back.
func (w *world) exec(query string, args ...any) {
	w.Helper()
	err := w.DB.Update(w.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(w.Context(), query, args...)
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
}

func TestPathOverlaps(t *testing.T) {
	both(t, func(w *world) {
		text := func(problems string) string { return "Repository version errors : Path errors found. " + problems }
		for i, tc := range []struct {
			have, add []string
			want      string // empty: it is fine
		}{
			{[]string{"a/b"}, []string{"a/b/c"}, text("\nThe path for file 'a/b/c' overlaps: a/b")},
			{[]string{"a/b/c"}, []string{"a/b"}, text("\nThe path for file 'a/b/c' overlaps: a/b")},
			{[]string{"a/b/c"}, []string{"a"}, text("\nThe path for file 'a/b/c' overlaps: a")},
			{nil, []string{"a", "a/b/c", "a/b/d/e", "b"}, text("\nThe path for file 'a/b/c' overlaps: a\nThe path for file 'a/b/d/e' overlaps: a")},
			{nil, []string{"x", "x/y", "x/y/z"}, text("\nThe path for file 'x/y' overlaps: x\nThe path for file 'x/y/z' overlaps: x, x/y")},
			{[]string{"a"}, []string{"ab", "a.b/c", "a0"}, ""},
			{[]string{"a!", "a"}, []string{"a!/b"}, text("\nThe path for file 'a!/b' overlaps: a!")},
		} {
			repo := w.repository(fmt.Sprint("r", i))
			if tc.have != nil {
				w.modify(repo, w.units(tc.have...), nil)
			}
			units := w.units(tc.add...)
			if tc.want == "" {
				w.modify(repo, units, nil)
			} else {
				w.Fails("POST", repo+"modify/", body("add_content_units", units), tc.want)
			}
		}
		// more new units than are looked at one by one
		path := func(i int) string { return fmt.Sprintf("many/%03d", i) }
		units := w.undownloaded(205, path)
		repo := w.repository("many")
		w.modify(repo, w.units("many/100/x"), nil)
		w.Fails("POST", repo+"modify/", body("add_content_units", units), text("\nThe path for file 'many/100/x' overlaps: many/100"))
		w.modify(repo, units[101:], nil)
		w.modify(repo, units[:100], nil)
		var want []string
		for i := range 205 {
			want = append(want, path(i))
		}
		want[100] = "many/100/x"
		w.wantPaths(version(repo, 3), want...)
	})
}

// TestDraftOfADeadTask leaves a draft behind, as a process does that is killed, and makes the next version.
func TestDraftOfADeadTask(t *testing.T) {
	both(t, func(w *world) {
		repo := w.repository("r")
		u := w.units("a", "b", "c", "d")
		w.modify(repo, u[:2], nil)
		id := idOf(w, repo)
		draft := pulp.NewID()
		leave := func() {
			w.exec("INSERT INTO core_repositoryversion (id, repository, number, complete, created, updated) VALUES (?, ?, 2, ?, 1, 1)", draft, id, false)
			w.exec("INSERT INTO core_repositorycontent (repository, content, added) VALUES (?, ?, 2)", id, idOf(w, u[2]))
			w.exec("UPDATE core_repositorycontent SET removed = 2 WHERE repository = ? AND content = ?", id, idOf(w, u[0]))
		}
		leave()
		// readers do not see it
		if status, _ := w.Do("GET", version(repo, 2), nil); status != 404 {
			w.Errorf("a draft is shown: %d", status)
		}
		w.wantPaths(version(repo, 1), "a", "b")
		if got := w.Names("number", repo+"versions/"); !slices.Equal(got, []string{"1", "0"}) {
			w.Errorf("versions %v, want 1 and 0", got)
		}
		for filter, want := range map[string]map[int]int{"with_content": {0: 1, 1: 1, 2: 0}, "latest_with_content": {0: 1, 1: 1, 2: 0}} {
			for i, n := range want {
				if got := w.Names("pulp_href", repositories, filter, u[i]); len(got) != n {
					w.Errorf("%s of unit %d gives %v, want %d", filter, i, got, n)
				}
			}
		}
		w.Refused("POST", root+publications, body("repository_version", version(repo, 2)), `{"repository_version":["Invalid hyperlink - Object does not exist."]}`)
		w.Run("DELETE", version(repo, 0), nil)

		w.modify(repo, u[3:], nil)
		w.wantPaths(version(repo, 2), "a", "b", "d")
		// and so that the task is found dead by the queue
		repo2 := w.repository("r2")
		w.modify(repo2, u[:2], nil)
		id, draft = idOf(w, repo2), pulp.NewID()
		leave()
		if err := w.Repos.Cleanup(w.Context(), []pulp.Ref{pulp.RefTo("core.repositoryversion", draft)}); err != nil {
			w.Fatal(err)
		}
		var left int
		if err := w.DB.QueryRow(w.Context(), "SELECT count(*) FROM core_repositorycontent WHERE repository = ? AND (added = 2 OR removed = 2)", id).Scan(&left); err != nil || left != 0 {
			w.Errorf("%d rows are left of the draft, %v", left, err)
		}
		w.wantPaths(version(repo2, 1), "a", "b")
	})
}

// TestLostTaskStagesNothing lets a task lose its lease, and begin a version of which another task makes the same.
func TestLostTaskStagesNothing(t *testing.T) {
	both(t, func(w *world) {
		repo := w.repository("r")
		u := w.units("a", "b")
		id, unit := idOf(w, repo), idOf(w, u[0])
		begun, lost := make(chan struct{}), make(chan struct{})
		errc := make(chan error, 1)
		w.stuck = func(j *task.Job) error {
			d, err := w.Repos.NewDraft(w.Context(), j, id)
			if err != nil {
				return err
			}
			close(begun)
			<-lost
			_, err = d.Add(w.Context(), []pulp.ID{unit})
			errc <- err
			return err
		}
		tk, err := w.Tasks.Dispatch(w.Context(), task.Spec{Name: stuckTask})
		if err != nil {
			w.Fatal(err)
		}
		<-begun
		w.exec("UPDATE core_task SET state = 'failed', owner = NULL, finished_at = 1 WHERE id = ?", tk.ID) // as who finds it dead does
		w.modify(repo, u[1:], nil)
		close(lost)
		if err := <-errc; err == nil || !strings.Contains(err.Error(), "no longer this worker's") {
			w.Errorf("the lost task's Add: %v, want an error", err)
		}
		w.wantPaths(version(repo, 1), "b")
		w.modify(repo, u[:1], nil)
		w.wantPaths(version(repo, 2), "a", "b")
	})
}
