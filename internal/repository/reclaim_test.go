package repository_test

import (
	"fmt"
	"slices"
	"testing"

	"granary/internal/repository/repositorytest"
)

// reclaim gives space back, and says from how many files.
func (w *world) reclaim(files int, fields ...any) *repositorytest.Task {
	w.Helper()
	t := w.Run("POST", root+"repositories/reclaim_space/", body(fields...))
	if want := []string{fmt.Sprintf("reclaim-space.artifact %d/%d", files, files)}; !slices.Equal(progress(t), want) {
		w.Errorf("reclaim %v: %v, want %v", fields, progress(t), want)
	}
	return t
}

func TestReclaim(t *testing.T) {
	both(t, func(w *world) {
		m := newMirror(w)
		m.list("/LIST", "a", "b", "shared", "old")
		m.list("/other/LIST", "shared")
		remote := w.remote("remote", m.URL+"/LIST")
		repo, other, empty := w.repository("r", "autopublish", true), w.repository("other"), w.repository("empty")
		w.Run("POST", repo+"sync/", body("remote", remote))
		w.Run("POST", other+"sync/", body("remote", w.remote("other", m.URL+"/other/LIST")))
		w.modify(repo, []string{w.unit("uploaded", "only here")}, []string{w.Names("pulp_href", contents, "relative_path", "old")[0]})
		stored := func(want ...string) {
			w.Helper()
			var got []string
			for _, n := range []string{"a", "b", "shared", "old"} {
				_, file := w.stored(artifactKey("file " + n))
				if row := len(w.List(artifacts, "sha256", sha("file "+n))) == 1; row != file {
					w.Errorf("%s: row %t, file %t", n, row, file)
				}
				if file {
					got = append(got, n)
				}
			}
			if !slices.Equal(got, want) {
				w.Errorf("stored are %q, want %q", got, want)
			}
			if _, there := w.stored(artifactKey("only here")); !there {
				w.Error("a file that nobody else has is gone")
			}
		}
		stored("a", "b", "shared", "old")
		id := repositorytest.ID
		lock := func(repo string) string { return "shared:prn:file.filerepository:" + id(repo) }
		domain := "shared:prn:core.domain:" + w.Call.Domain.ID.String()

		// what the kept version has stays; it is another repository's
		tk := w.reclaim(0, "repo_hrefs", []string{repo}, "repo_versions_keeplist", []string{version(repo, 1), version(empty, 0)}, "zzz", 1)
		want := []string{lock(repo), lock(empty), domain}
		slices.Sort(want)
		if got := slices.Sorted(slices.Values(tk.Reserved)); !slices.Equal(got, want) {
			w.Errorf("locks %v, want %v", got, want)
		}
		w.reclaim(1, "repo_hrefs", []string{repo}, "repo_versions_keeplist", []string{version(repo, 2)})
		stored("a", "b", "shared")
		// an artifact stays that other content has too
		twin := w.unit("twin", "file b")
		w.reclaim(2, "repo_hrefs", []string{repo, repo})
		stored("b", "shared")
		if a := w.Get(w.Names("pulp_href", contents, "relative_path", "b")[0])["artifact"]; a != nil {
			w.Errorf("b has the artifact %v", a)
		}
		if a := w.Get(twin)["artifact"]; a == nil {
			w.Error("the unit that was uploaded lost its artifact")
		}
		tk = w.reclaim(1, "repo_hrefs", []string{"*"})
		stored("b")
		for _, r := range []string{repo, other, empty} {
			if !slices.Contains(tk.Reserved, lock(r)) {
				w.Errorf("locks %v, want %s among them", tk.Reserved, lock(r))
			}
		}
		for _, p := range w.List(publications) {
			if text, ok := w.published(p["pulp_href"].(string), "PULP_MANIFEST"); !ok || text == "" {
				w.Errorf("a manifest is gone")
			}
		}
		// the next sync brings all back
		w.Run("POST", repo+"sync/", body("remote", remote))
		stored("a", "b", "shared", "old")
		for _, r := range []string{repo, other, empty} {
			w.Run("DELETE", r, nil)
		}
		tk = w.reclaim(0, "repo_hrefs", []string{"*"})
		if lock := "pdrn:" + w.Call.Domain.ID.String() + ":reclaim_space"; !slices.Contains(tk.Reserved, lock) {
			w.Errorf("locks %v, want %s among them", tk.Reserved, lock)
		}
	})
}

func TestReclaimRefusals(t *testing.T) {
	lite(t, func(w *world) {
		repo := w.repository("r")
		missing := root + repositories + "00000000-0000-0000-0000-000000000000/"
		for _, x := range []struct {
			body object
			want string
		}{
			{body(), `{"repo_hrefs":["This field is required."]}`},
			{body("repo_hrefs", []string{}), `{"repo_hrefs":["Must not be []."]}`},
			{body("repo_hrefs", []string{"zz", "*"}), `{"repo_hrefs":["Can not specify other HREFs when using '*'"]}`},
			{body("repo_hrefs", []string{"zz"}), `{"repo_hrefs":["URI not valid: zz"]}`},
			{body("repo_hrefs", []any{nil}), `{"repo_hrefs":["URI not valid: "]}`},
			{body("repo_hrefs", []string{missing}), `{"repo_hrefs":["URI ` + missing + ` not found for repository."]}`},
			{body("repo_hrefs", []string{"zz"}, "repo_versions_keeplist", []string{"zz"}), `{"repo_hrefs":["URI not valid: zz"],"repo_versions_keeplist":["Invalid hyperlink - No URL match."]}`},
			{body("repo_hrefs", []string{repo}, "repo_versions_keeplist", []string{version(repo, 9)}), `{"repo_versions_keeplist":["Invalid hyperlink - Object does not exist."]}`},
			{body("repo_hrefs", []string{repo}, "repo_versions_keeplist", nil), `{"repo_versions_keeplist":["This field may not be null."]}`},
			{body("repo_hrefs", "x"), `{"repo_hrefs":["Expected a list of items but got type \"str\"."]}`},
		} {
			w.Refused("POST", root+"repositories/reclaim_space/", x.body, x.want)
		}
	})
}
