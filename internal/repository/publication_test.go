package repository_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"granary/internal/pulp"
	"granary/internal/repository/repositorytest"
)

// published returns what a publication serves at a path of its own, and whether it has one.
func (w *world) published(publication, path string) (string, bool) {
	w.Helper()
	var sum *string
	err := w.DB.QueryRow(w.Context(), "SELECT (SELECT a.sha256 FROM core_publishedartifact pa JOIN core_artifact a ON a.id = pa.artifact WHERE pa.publication = ? AND pa.relative_path = ?)",
		idOf(w, publication), path).Scan(&sum)
	if err != nil {
		w.Fatal(err)
	}
	if sum == nil {
		return "", false
	}
	text, there := w.stored("artifact/" + (*sum)[:2] + "/" + (*sum)[2:])
	if !there {
		w.Fatalf("%s of %s is not in the store", path, publication)
	}
	return text, true
}

func TestPublications(t *testing.T) {
	both(t, func(w *world) {
		repo := w.repository("r", "manifest", "OTHER")
		w.modify(repo, []string{w.unit("b/c", "x"), w.unit("a,b", "yy")}, nil)
		w.modify(repo, []string{w.unit("new", "zzz")}, nil)

		t := w.Run("POST", root+publications, body("repository", repo))
		if diff := cmp.Diff([]string{"shared:prn:file.filerepository:" + repositorytest.ID(repo), "shared:prn:core.domain:" + w.Call.Domain.ID.String()}, t.Reserved); diff != "" {
			w.Errorf("locks: %s", diff)
		}
		p := t.Created[0]
		got := w.Get(p)
		if diff := cmp.Diff(got, t.Body); diff != "" {
			w.Errorf("result: %s", diff)
		}
		for field, want := range map[string]any{"repository": repo, "repository_version": version(repo, 2), "manifest": "PULP_MANIFEST", "checkpoint": false, "distributions": []any{}} {
			if !cmp.Equal(got[field], want) {
				w.Errorf("%s = %v, want %v", field, got[field], want)
			}
		}
		lines := func(texts ...string) string {
			var b strings.Builder
			for i := 0; i+1 < len(texts); i += 2 {
				fmt.Fprintf(&b, "%s,%s,%d\n", texts[i], sha(texts[i+1]), len(texts[i+1]))
			}
			return b.String()
		}
		// the newest units first
		if got, _ := w.published(p, "PULP_MANIFEST"); got != lines("new", "zzz", "a,b", "yy", "b/c", "x") {
			w.Errorf("manifest =\n%s", got)
		}
		if got, _ := w.published(w.publication("repository_version", version(repo, 1), "manifest", "list.csv"), "list.csv"); got != lines("a,b", "yy", "b/c", "x") {
			w.Errorf("manifest of version 1 =\n%s", got)
		}
		if _, there := w.published(w.publication("repository_version", version(repo, 1), "manifest", nil), "PULP_MANIFEST"); there {
			w.Error("a publication without a manifest has one")
		}
		if got, there := w.published(w.publication("repository_version", version(repo, 0)), "PULP_MANIFEST"); got != "" || !there {
			w.Errorf("manifest of version 0 = %q, %t", got, there)
		}

		w.Refused("POST", root+publications, body(), `{"non_field_errors":["Either the 'repository' or 'repository_version' need to be specified"]}`)
		w.Refused("POST", root+publications, body("repository", repo, "repository_version", version(repo, 1)),
			`{"non_field_errors":["Either the 'repository' or 'repository_version' need to be specified but not both."]}`)
		w.Refused("POST", root+publications, body("repository_version", version(repo, 1), "checkpoint", true), `{"non_field_errors":["'checkpoint' may only be used with 'repository'"]}`)
		w.Refused("POST", root+publications, body("repository", repo, "manifest", ""), `{"manifest":["This field may not be blank."]}`)
		w.Refused("POST", root+publications, body("repository", repo, "manifest", "x/y"), `{"manifest":["A manifest lies at the top: its name can't have a slash in it."]}`)
		w.Refused("POST", root+publications, body("repository", nil), `{"repository":["This field may not be null."]}`)
		w.Refused("POST", root+publications, body("repository", repo, "zzz", 1), `{"zzz":["Unexpected field"]}`)
		other := repositorytest.Href(w.Create(otherRepositories, body("name", "other")))
		w.Refused("POST", root+publications, body("repository", other), `{"repository":["Invalid hyperlink - Incorrect URL match."]}`)
		if c := w.publication("repository", repo, "checkpoint", true); w.Get(c)["checkpoint"] != true {
			w.Error("a checkpoint is none")
		}

		for _, tc := range []struct {
			filter, value string
			want          int
		}{
			{"repository", repo, 5},
			{"repository_version", version(repo, 1), 2},
			{"checkpoint", "true", 1},
			{"checkpoint", "false", 4},
			{"content", w.unit("new", "zzz"), 2},
			{"content__in", w.unit("new", "zzz") + "," + w.unit("b/c", "x"), 4},
			{"pulp_created__gt", "2001-01-01", 5},
		} {
			if got := w.List(publications, tc.filter, tc.value); len(got) != tc.want {
				w.Errorf("?%s=%s gives %d, want %d", tc.filter, tc.value, len(got), tc.want)
			}
			if got := w.List("publications/", tc.filter, tc.value); len(got) != tc.want {
				w.Errorf("of all types ?%s=%s gives %d, want %d", tc.filter, tc.value, len(got), tc.want)
			}
		}
		for query, want := range map[string]string{
			"repository=zz":                          `["URI not valid: zz"]`,
			"repository=":                            `["No value supplied for repository filter"]`,
			"repository_version=zz":                  `["URI not valid: zz"]`,
			"repository_version=":                    `["No value supplied for repository version filter"]`,
			"repository_version=" + version(repo, 9): `["URI ` + version(repo, 9) + ` not found for repositoryversion."]`,
			"content=zz":                             `["URI not valid: zz"]`,
			"content__in=":                           `["No value supplied for content filter"]`,
			"manifest=x":                             `{"errors":["Invalid Filter: 'manifest'"]}`,
		} {
			w.Refused("GET", root+publications+"?"+query, nil, want)
		}

		d := w.distribution("d", "publication", p)
		if diff := cmp.Diff([]any{d}, w.Get(p)["distributions"]); diff != "" {
			w.Errorf("distributions: %s", diff)
		}
		if status, text := w.Do("DELETE", p, nil); status != 204 {
			w.Errorf("DELETE = %d %s", status, text)
		}
		w.Gone(p)
		if got := w.Get(d)["publication"]; got != nil {
			w.Errorf("the distribution's publication = %v, want null", got)
		}
		if status, _ := w.Do("PATCH", w.publication("repository", repo), body("manifest", "x")); status != 405 {
			w.Errorf("PATCH = %d, want 405", status)
		}
	})
}

func TestPublicationsThatCollide(t *testing.T) {
	both(t, func(w *world) {
		repo := w.repository("r")
		w.modify(repo, w.units("PULP_MANIFEST"), nil)
		t := w.Fails("POST", root+publications, body("repository", repo), "Cannot create publication. Path errors found. Paths are duplicated: PULP_MANIFEST\n.")
		if len(t.Created) != 0 {
			w.Errorf("a failed publication is left: %v", t.Created)
		}
		w.publication("repository", repo, "manifest", "LIST")
		w.publication("repository", repo, "manifest", nil)
		w.modify(repo, w.units("LIST/x"), nil)
		w.Fails("POST", root+publications, body("repository", repo, "manifest", "LIST"), "Cannot create publication. Path errors found. \nThe path for file 'LIST/x' overlaps: LIST.")
		if got := w.List(publications, "repository", repo); len(got) != 2 {
			w.Errorf("%d publications, want 2", len(got))
		}
		var left int
		if err := w.DB.QueryRow(w.Context(), "SELECT count(*) FROM core_publication WHERE NOT complete").Scan(&left); err != nil || left != 0 {
			w.Errorf("%d unfinished publications are left, %v", left, err)
		}
	})
}

func TestAutopublish(t *testing.T) {
	both(t, func(w *world) {
		repo := w.repository("r", "autopublish", true, "manifest", "LIST")
		d := w.distribution("d", "repository", repo)
		u := w.units("a", "b", "LIST")
		made := w.Run("POST", repo+"modify/", body("add_content_units", u[:1])).Created
		if len(made) != 2 || made[0] != version(repo, 1) || w.Get(made[1])["manifest"] != "LIST" || w.Get(made[1])["repository_version"] != version(repo, 1) {
			w.Errorf("created %v, want version 1 and its publication", made)
		}
		if got := w.Run("POST", repo+"modify/", body("add_content_units", u[:1])).Created; len(got) != 0 {
			w.Errorf("nothing new: created %v", got)
		}
		// one that cannot be published is no version
		t := w.Fails("POST", repo+"modify/", body("add_content_units", u[2:]), "Cannot create publication. Path errors found. Paths are duplicated: LIST\n.")
		if len(t.Resources) != 1 || t.Resources[0].Type != "core.repositoryversion" {
			w.Errorf("the failed task lists %v, want the version that is gone", t.Resources)
		}
		w.wantNumbers(repo, "[1 0]")
		w.wantPaths(version(repo, 1), "a")
		made = w.Run("POST", repo+"modify/", body("add_content_units", u[1:2])).Created // the number is not used again
		if len(made) != 2 || made[0] != version(repo, 3) {
			w.Errorf("created %v, want version 3 and its publication", made)
		}
		w.wantPaths(version(repo, 3), "a", "b")
		if got := w.Names("repository_version", publications, "repository", repo); !slices.Equal(got, []string{version(repo, 3), version(repo, 1)}) {
			w.Errorf("published %v", got)
		}
		if got := w.Get(d); got["publication"] != nil || got["repository"] != repo {
			w.Errorf("the distribution = %v", got)
		}
		if got := w.Names("name", distributions, "with_content", u[1]); !slices.Equal(got, []string{"d"}) {
			w.Errorf("distributions with the new unit: %q", got)
		}
		// a version without a manifest
		w.Run("PATCH", repo, body("manifest", nil))
		made = w.Run("POST", repo+"modify/", body("add_content_units", u[2:])).Created
		if len(made) != 2 || w.Get(made[1])["manifest"] != nil {
			w.Errorf("created %v, want a publication without a manifest", made)
		}
	})
}

// TestUnfinishedPublication leaves a publication behind, as a process does that is killed.
func TestUnfinishedPublication(t *testing.T) {
	both(t, func(w *world) {
		repo := w.repository("r")
		p := w.publication("repository", repo)
		w.exec("UPDATE core_publication SET complete = ?", false)
		w.Gone(p)
		if got := w.List(publications); len(got) != 0 {
			w.Errorf("an unfinished publication is listed: %v", got)
		}
		w.Refused("POST", root+distributions, body("name", "d", "base_path", "d", "publication", p), `{"publication":["Invalid hyperlink - Object does not exist."]}`)
		for range 2 {
			if err := w.Repos.Cleanup(w.Context(), []pulp.Ref{pulp.RefTo("file.filepublication", idOf(w, p)), pulp.RefTo("file.filecontent", pulp.NewID())}); err != nil {
				w.Fatal(err)
			}
		}
		var left, told int
		if err := w.DB.QueryRow(w.Context(), "SELECT (SELECT count(*) FROM core_publication), (SELECT count(*) FROM core_createdresource)").Scan(&left, &told); err != nil || left+told != 0 {
			w.Errorf("%d publications are left and %d tasks tell of it, %v", left, told, err)
		}
		done := w.publication("repository", repo)
		if err := w.Repos.Cleanup(w.Context(), []pulp.Ref{pulp.RefTo("file.filepublication", idOf(w, done))}); err != nil {
			w.Fatal(err)
		}
		w.Get(done) // what is complete stays
	})
}
