package repository_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"granary/internal/db"
	"granary/internal/plugin"
	"granary/internal/repository"
	"granary/internal/repository/repositorytest"
	"granary/internal/rest"
)

// An otherRepository is of a type that can hold no files.
type otherRepository struct{ repository.Repository }

// An otherRemote is of a type that repositories of files do not take.
type otherRemote struct{ repository.Remote }

const (
	otherRepositories = "repositories/other/other/"
	otherRemotes      = "remotes/other/other/"
)

// otherPlugin has a type of repository whose versions are served as they are, and a type of remote.
func otherPlugin() plugin.Plugin {
	return plugin.Plugin{Name: "other", Version: "1.0.0", New: func(h plugin.Host) plugin.Parts {
		t, rt := repository.DefineRepository(h.Repos, rest.Resource[otherRepository]{
			App: "other", Model: "OtherRepository", Path: "repositories/other/other", PulpType: "other.other",
		}, func(r *otherRepository) *repository.Repository { return &r.Repository }, repository.RepositoryType{Contents: []string{"other.other"}})
		remotes := repository.DefineRemote(h.Repos, rest.Resource[otherRemote]{
			App: "other", Model: "OtherRemote", Path: "remotes/other/other", PulpType: "other.other",
		}, func(r *otherRemote) *repository.Remote { return &r.Remote })
		return plugin.Parts{Types: []*rest.Type{t.Type, rt.Versions(), remotes.Type}}
	}}
}

// upstream serves a file to those who know the password.
func upstream(t testing.TB) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		switch {
		case r.URL.Path == "/file", r.URL.Path == "/secret" && user == "me" && password == "p@ss":
			fmt.Fprint(w, "from "+r.URL.Path)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestContentFromEachSource(t *testing.T) {
	both(t, func(w *world) {
		up := upstream(w)
		artifact := repositorytest.Href(w.Create(artifacts, form{"file": upload("artifact")}))
		chunked := w.upload(6)
		w.chunk(chunked, 0, "upload")
		for _, tc := range []struct {
			text  string
			body  any
			locks []string
		}{
			{"file", form{"relative_path": "a/file", "file": upload("file")}, nil},
			{"artifact", body("relative_path", "a/artifact", "artifact", artifact), nil},
			{"upload", body("relative_path", "a/upload", "upload", chunked), []string{"prn:core.upload:" + repositorytest.ID(chunked)}},
			{"from /file", body("relative_path", "a/url", "file_url", up.URL+"/file"), nil},
			{"from /secret", form{"relative_path": "a/secret", "file_url": "http://me:p%40ss@" + up.URL[len("http://"):] + "/secret"}, nil},
		} {
			task := w.Run("POST", root+contents, tc.body)
			if len(task.Created) != 1 || task.Body["pulp_href"] != task.Created[0] || task.Body["sha256"] != sha(tc.text) || task.Body["artifact"] == nil {
				w.Errorf("from %v: created %v, result %v", tc.body, task.Created, task.Body)
			}
			if diff := cmp.Diff(append(tc.locks, "shared:prn:core.domain:"+w.Call.Domain.ID.String()), task.Reserved); diff != "" {
				w.Errorf("from %v: locks: %s", tc.body, diff)
			}
			got := w.Get(task.Created[0])
			if diff := cmp.Diff(got, task.Body); diff != "" {
				w.Errorf("result: %s", diff)
			}
		}
		w.Gone(chunked)
		if n := w.chunkFiles(); n != 0 {
			w.Errorf("%d chunks in the store", n)
		}
		// failures of what the task does
		for url, want := range map[string]string{
			up.URL + "/none":     "404, message='Not Found', url='" + up.URL + "/none'",
			"ftp://host/x":       "URL: ftp://host/x not supported.",
			"file:///etc/passwd": `{'non_field_errors': [ErrorDetail(string="The path '/etc/passwd' does not start with any of the allowed import paths", code='invalid')]}`,
		} {
			t := w.Fails("POST", root+contents, body("relative_path", "x", "file_url", url), want)
			if len(t.Created) != 0 {
				w.Errorf("%s: created %v", url, t.Created)
			}
		}
		short := w.upload(5)
		w.Fails("POST", root+contents, body("relative_path", "x", "upload", short), "{'non_field_errors': [ErrorDetail(string='The upload has 0 of its 5 bytes.', code='invalid')]}")
		w.Get(short)
	})
}

func TestContentIsRefused(t *testing.T) {
	lite(t, func(w *world) {
		artifact := repositorytest.Href(w.Create(artifacts, form{"file": upload("artifact")}))
		other := repositorytest.Href(w.Create(otherRepositories, body("name", "other")))
		const oneOf = `{"non_field_errors":["Exactly one of file, upload, file_url, artifact must be specified."]}`
		for _, tc := range []struct {
			body any
			want string
		}{
			{body("relative_path", "a"), oneOf},
			{body("relative_path", "a", "artifact", artifact, "file_url", "http://x/"), oneOf},
			{form{"relative_path": "a", "artifact": artifact, "file": upload("x")}, oneOf},
			{form{"file": upload("x")}, `{"relative_path":["This field is required."]}`},
			{form{"file": upload("x"), "relative_path": ""}, `{"relative_path":["This field may not be blank."]}`},
			{form{"file": upload("x"), "relative_path": "/abs"}, `{"relative_path":["Relative path can't start with '/'. /abs"]}`},
			{form{"file": upload("x"), "relative_path": "a/../b"}, `{"relative_path":["Relative path can't have '.' or '..' in it. a/../b"]}`},
			{form{"file": upload(""), "relative_path": "a"}, `{"file":["The submitted file is empty."]}`},
			{form{"file": upload("x"), "relative_path": "a", "zzz": "1"}, `{"zzz":["Unexpected field"]}`},
			{form{"file": upload("x"), "relative_path": "a", "pulp_labels": `{"a-b!":"c"}`}, `{"pulp_labels":["Key 'a-b!' contains non-alphanumerics."]}`},
			{form{"file": upload("x"), "relative_path": "a", "pulp_labels": `{"k":"a,b"}`}, `{"pulp_labels":["Key 'k' contains value with comma or parenthesis."]}`},
			{form{"file": upload("x"), "relative_path": "a", "pulp_labels": `{"k`}, `{"pulp_labels":["Value must be valid JSON."]}`},
			{form{"file": upload("x"), "relative_path": "a", "pulp_labels": `["k"]`}, `{"pulp_labels":["Expected a dictionary of items but got type \"list\"."]}`},
			{form{"file": upload("x"), "relative_path": "a", "repository": other}, `{"non_field_errors":["Content is not supported by this repository."]}`},
			{body("relative_path", "a", "artifact", nil), `{"artifact":["This field may not be null."]}`},
			{body("relative_path", "a", "artifact", "/pulp/api/v3/artifacts/00000000-0000-0000-0000-000000000000/"), `{"artifact":["Invalid hyperlink - Object does not exist."]}`},
		} {
			w.Refused("POST", root+contents, tc.body, tc.want)
		}
		if _, there := w.stored(artifactKey("x")); there {
			w.Error("the file of a refused unit is in the store")
		}
		w.Refused("POST", root+contents+"upload/", form{"relative_path": "a"}, oneOf)
		w.Refused("POST", root+contents+"upload/", form{"file": upload("x")}, `{"relative_path":["This field is required."]}`)
		w.Refused("POST", root+contents+"upload/", form{"relative_path": "/a", "file": upload("x")}, `{"relative_path":["Relative path can't start with '/'. /a"]}`)
		w.Refused("POST", root+contents+"upload/", form{"relative_path": "a", "file": upload("")}, `{"file":["The submitted file is empty."]}`)
		if got := w.List(contents); len(got) != 0 {
			w.Errorf("refused units are there: %v", got)
		}
	})
}

func TestContentThatIsThere(t *testing.T) {
	both(t, func(w *world) {
		first := w.Run("POST", root+contents, form{"relative_path": "a", "file": upload("x"), "pulp_labels": `{"k": "v"}`}).Created[0]
		again := w.Run("POST", root+contents, form{"relative_path": "a", "file": upload("x"), "pulp_labels": `{"other": "w"}`})
		if diff := cmp.Diff([]string{first}, again.Created); diff != "" {
			w.Errorf("created: %s", diff)
		}
		if diff := cmp.Diff(object{"k": "v"}, again.Body["pulp_labels"]); diff != "" {
			w.Errorf("labels: %s", diff)
		}
		if other := w.unit("b", "x"); other == first {
			w.Error("the same file at another path is the same unit")
		}
		// an upload that makes what is there is used up too
		up := w.upload(1)
		w.chunk(up, 0, "x")
		if got := w.Run("POST", root+contents, body("relative_path", "a", "upload", up)).Created; got[0] != first {
			w.Errorf("created %v, want the old unit", got)
		}
		w.Gone(up)
		// within the request
		up = w.upload(1)
		w.chunk(up, 0, "x")
		status, text := w.Do("POST", root+contents+"upload/", body("relative_path", "a", "upload", up, "repository", "ignored", "zzz", 1))
		if want := `"pulp_href":"` + first + `"`; status != 201 || !strings.Contains(text, want) {
			w.Errorf("upload/ = %d %s, want 201 with %s", status, text, want)
		}
		w.Gone(up)
		// one that is not downloaded gets its file
		err := w.DB.Update(w.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(w.Context(), "UPDATE core_contentartifact SET artifact = NULL")
			return err
		})
		if err != nil {
			w.Fatal(err)
		}
		if got := w.Get(first); got["artifact"] != nil || got["sha256"] != nil {
			w.Errorf("not downloaded: %v", got)
		}
		if got := w.Names("pulp_href", contents, "sha256", sha("x"), "relative_path", "a"); !slices.Equal(got, []string{first}) {
			w.Errorf("by the digest of what is not downloaded: %v", got)
		}
		if got := w.Run("POST", root+contents, form{"relative_path": "a", "file": upload("x")}); got.Created[0] != first || got.Body["artifact"] == nil {
			w.Errorf("downloaded: %v", got.Body)
		}
	})
}

func TestContentForARepository(t *testing.T) {
	both(t, func(w *world) {
		repo := w.repository("r")
		add := func(path, text string) []string {
			w.Helper()
			return w.Run("POST", root+contents, form{"relative_path": path, "file": upload(text), "repository": repo}).Created
		}
		one := add("a/b", "x")
		if len(one) != 2 || one[0] != version(repo, 1) {
			w.Fatalf("created %v, want version 1 and the unit", one)
		}
		if again := add("a/b", "x"); !slices.Equal(again, one[1:]) {
			w.Errorf("again: created %v, want the unit alone", again)
		}
		two := add("a/b", "y")
		if len(two) != 2 || two[0] != version(repo, 2) {
			w.Fatalf("created %v, want version 2 and the unit", two)
		}
		if got := w.Names("pulp_href", contents, "repository_version", two[0]); !slices.Equal(got, two[1:]) {
			w.Errorf("version 2 holds %v, want the new unit alone", got)
		}
		if got := w.Names("pulp_href", contents, "repository_version_removed", two[0]); !slices.Equal(got, one[1:]) {
			w.Errorf("version 2 removed %v, want the old unit", got)
		}
		failed := w.Fails("POST", root+contents, form{"relative_path": "a/b/c", "file": upload("z"), "repository": repo},
			"Repository version errors : Path errors found. \nThe path for file 'a/b/c' overlaps: a/b")
		if len(failed.Created) != 0 {
			w.Errorf("a failed task created %v", failed.Created)
		}
		if got := w.Names("pulp_href", contents, "relative_path", "a/b/c"); len(got) != 1 {
			w.Errorf("the unit that did not fit: %v, want an orphan", got)
		}
		if got := w.Get(repo)["latest_version_href"]; got != version(repo, 2) {
			w.Errorf("latest version %v, want 2", got)
		}
		auto := w.repository("auto", "autopublish", true)
		made := w.Run("POST", root+contents, form{"relative_path": "a", "file": upload("x"), "repository": auto}).Created
		if len(made) != 3 || made[0] != version(auto, 1) || w.Get(made[1])["relative_path"] != "a" || w.Get(made[2])["manifest"] != "PULP_MANIFEST" {
			w.Errorf("created %v, want version, unit, publication", made)
		}
	})
}

func TestGenericContent(t *testing.T) {
	lite(t, func(w *world) {
		u := w.unit("a \"quoted\"\u0007 ü", "x")
		list := w.List("content/", "pulp_type", "file.file")
		want := object{"a \"quoted\"\u0007 ü": w.Get(u)["artifact"]}
		if len(list) != 1 || list[0]["pulp_href"] != u {
			w.Fatalf("list = %v", list)
		}
		if diff := cmp.Diff(want, list[0]["artifacts"]); diff != "" {
			w.Errorf("artifacts: %s", diff)
		}
		w.Refused("GET", root+"content/?pulp_type=zz", nil, `{"pulp_type":["Select a valid choice. zz is not one of the available choices."]}`)
	})
}
