package api_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"granary/internal/db"
	"granary/internal/pulp"
)

const (
	fileSystem = "pulpcore.app.models.storage.FileSystem"
	s3         = "storages.backends.s3boto3.S3Boto3Storage"
)

func TestDomains(t *testing.T) {
	both(t, func(w *world) {
		home := w.get("domains/?name=default")["results"].([]any)[0].(map[string]any)
		want := map[string]any{
			"pulp_href": root + "domains/" + w.home.ID.String() + "/", "prn": "prn:core.domain:" + w.home.ID.String(), "pulp_created": "1970-01-01T00:00:00.000001Z",
			"pulp_last_updated": "1970-01-01T00:00:00.000001Z", "name": "default", "description": nil, "pulp_labels": map[string]any{}, "storage_class": fileSystem,
			"storage_settings":           map[string]any{"hidden_fields": []any{}, "location": w.set.MediaRoot, "base_url": "/", "file_permissions_mode": 420.0, "directory_permissions_mode": nil},
			"redirect_to_object_storage": true, "hide_guarded_distributions": false,
		}
		if diff := cmp.Diff(want, home); diff != "" {
			t.Errorf("the default domain (-want +got)\n%s", diff)
		}
		place := filepath.Join(w.TempDir(), "place")
		one := w.create("domains/", `{"name": "one", "storage_class": "`+fileSystem+`", "storage_settings": {"MEDIA_ROOT": "`+place+`"}}`)
		storage := map[string]any{"hidden_fields": []any{}, "location": place, "base_url": "", "file_permissions_mode": 420.0, "directory_permissions_mode": nil}
		if !cmp.Equal(one["storage_settings"], any(storage)) || one["redirect_to_object_storage"] != true || one["description"] != nil {
			t.Errorf("made with little: %v", one)
		}
		sealed, err := db.Value[string](w.Context(), w.db, "SELECT storage_settings FROM core_domain WHERE name = 'one'")
		if err != nil || strings.Contains(sealed, "place") {
			t.Errorf("the settings are stored readable: %s, %v", sealed, err)
		}
		full := w.create("domains/", `{"name": "full-1_2", "unknown": 1, "description": "x", "pulp_labels": {"a": "b"}, "storage_class": "`+fileSystem+`",
			"storage_settings": "{\"location\": \"\", \"base_url\": \"/x/\", \"file_permissions_mode\": 384, \"directory_permissions_mode\": 448}",
			"redirect_to_object_storage": false, "hide_guarded_distributions": true}`)
		storage = map[string]any{"hidden_fields": []any{}, "location": "", "base_url": "/x/", "file_permissions_mode": 384.0, "directory_permissions_mode": 448.0}
		if !cmp.Equal(full["storage_settings"], any(storage)) || full["redirect_to_object_storage"] != false || full["hide_guarded_distributions"] != true || !cmp.Equal(full["pulp_labels"], any(map[string]any{"a": "b"})) {
			t.Errorf("made with all: %v", full)
		}

		// changes are tasks, but for those that change nothing
		for _, body := range []string{`{}`, `{"name": "one"}`, `{"storage_settings": {"location": "` + place + `"}}`} {
			if got := w.decode(w.do("PATCH", one.href(), body), 200); got["name"] != "one" {
				t.Errorf("%s: %v", body, got)
			}
		}
		run := func(method, href, body string) object {
			t.Helper()
			task := w.decode(w.do(method, href, body), 202)["task"].(string)
			w.wait(task)
			return w.get(task)
		}
		task := run("PATCH", one.href(), `{"description": "other", "storage_settings": {"base_url": "/y/"}}`)
		locks := []any{"prn:core.domain:" + id(one.href()), "shared:prn:core.domain:" + w.home.ID.String()}
		if task["state"] != "completed" || task["name"] != "pulpcore.app.tasks.base.ageneral_update" || !cmp.Equal(task["reserved_resources_record"], any(locks)) {
			t.Errorf("task: %v", task)
		}
		after := w.get(one.href())
		if diff := cmp.Diff(map[string]any(after), task["result"]); diff != "" {
			t.Errorf("the task's result (-read +result)\n%s", diff)
		}
		storage = map[string]any{"hidden_fields": []any{}, "location": place, "base_url": "/y/", "file_permissions_mode": 420.0, "directory_permissions_mode": nil}
		if !cmp.Equal(after["storage_settings"], any(storage)) || after["description"] != "other" {
			t.Errorf("changed: %v", after)
		}
		w.expect("POST", one.href()+"set_label/", `{"key": "k", "value": "v"}`, 201, `{"key":"k","value":"v"}`)
		if got := w.values("domains/?pulp_label_select=k=v", "name"); !cmp.Equal(got, []any{"one"}) {
			t.Errorf("by label: %v", got)
		}
		if got := w.values("domains/?ordering=name&name__in=one,default,full-1_2", "name"); !cmp.Equal(got, []any{"default", "full-1_2", "one"}) {
			t.Errorf("by name: %v", got)
		}

		// deletion
		if task := run("DELETE", full.href(), ""); task["state"] != "completed" || task["name"] != "pulpcore.app.tasks.base.ageneral_delete" {
			t.Errorf("task: %v", task)
		}
		w.expect("GET", full.href(), "", 404, `{"detail":"No Domain matches the given query."}`)
		w.expect("DELETE", full.href(), "", 404, `{"detail":"No Domain matches the given query."}`)
	})
}

func TestWrongDomains(t *testing.T) {
	w := sqlite(t)
	make := func(name, settings string) string {
		return `{"name": "` + name + `", "storage_class": "` + fileSystem + `", "storage_settings": ` + settings + `}`
	}
	one := w.create("domains/", make("one", `{"location": ""}`)).href()
	home := root + "domains/" + w.home.ID.String() + "/"
	const reserved, required = `{"name":["Name can not be 'api' or 'content'."]}`, `["This field is required."]`
	for _, tc := range []struct{ method, path, body, want string }{
		{"POST", "domains/", `{}`, `{"name":` + required + `,"storage_class":` + required + `,"storage_settings":` + required + `}`},
		{"POST", "domains/", make("api", `{"location": ""}`), reserved},
		{"POST", "domains/", make("Content", `{"location": ""}`), reserved},
		{"POST", "domains/", make("a b", `{"location": ""}`), `{"name":["Enter a valid \"slug\" consisting of letters, numbers, underscores or hyphens."]}`},
		{"POST", "domains/", make(strings.Repeat("x", 51), `{"location": ""}`), `{"name":["Ensure this field has no more than 50 characters."]}`},
		{"POST", "domains/", make("one", `{"location": ""}`), `{"name":["This field must be unique."]}`},
		{"POST", "domains/", `{"name": "x", "storage_class": "nope", "storage_settings": {}}`, `{"storage_class":["\"nope\" is not a valid choice."]}`},
		{"POST", "domains/", `{"name": "default", "storage_class": "` + s3 + `", "storage_settings": {}}`, `{"name":["This field must be unique."],"storage_settings":{"access_key":` + required + `,"bucket_name":` + required + `}}`},
		{"POST", "domains/", `{"name": "x", "storage_class": "` + s3 + `", "storage_settings": {"access_key": "a", "bucket_name": "b", "secret_key": "c"}}`, `{"storage_class":["Backend is not installed on Pulp."]}`},
		{"PATCH", one, `{"storage_class": "` + s3 + `"}`, `{"storage_class":["Backend is not installed on Pulp."]}`},
		{"POST", "domains/", make("x", `{"location": "x/y"}`), `{"storage_settings":{"location":["Files can not be stored there: the path is not absolute."]}}`},
		{"POST", "domains/", make("x", `{"location": "/proc/x"}`), `{"storage_settings":{"location":["Files can not be stored there: no such file or directory."]}}`},
		{"PATCH", one, `{"storage_settings": {"location": "/proc/x"}}`, `{"storage_settings":{"location":["Files can not be stored there: no such file or directory."]}}`},
		{"POST", "domains/", make("x", `{}`), `{"storage_settings":{"location":` + required + `}}`},
		{"POST", "domains/", make("x", `{"location": "", "zz": 1}`), `{"storage_settings":{"zz":"Unexpected field"}}`},
		{"POST", "domains/", make("x", `"x"`), `{"storage_settings":["Improper JSON string passed in"]}`},
		{"POST", "domains/", make("x", `[]`), `{"storage_settings":["Storage settings should be a JSON object."]}`},
		{"POST", "domains/", make("x", `null`), `{"storage_settings":["This field may not be null."]}`},
		{"POST", "domains/", make("x", `{"location": true}`), `{"storage_settings":{"location":["Not a valid string."]}}`},
		{"POST", "domains/", make("x", `{"location": null}`), `{"storage_settings":{"location":["This field may not be null."]}}`},
		{"POST", "domains/", make("x", `{"location": "", "file_permissions_mode": "rw", "directory_permissions_mode": 1.5}`), `{"storage_settings":{"file_permissions_mode":["A valid integer is required."],"directory_permissions_mode":["A valid integer is required."]}}`},

		{"PATCH", one, `{"name": "api"}`, reserved},
		{"PATCH", one, `{"storage_settings": {"zz": 1}}`, `{"storage_settings":{"zz":"Unexpected field"}}`},
		{"PUT", one, `{"name": "one"}`, `{"storage_class":` + required + `,"storage_settings":` + required + `}`},
		{"PATCH", home, `{"description": "x"}`, `["Default domain can not be updated."]`},
		{"DELETE", home, ``, `["Default domain can not be deleted."]`},
		{"POST", "domains/migrate/", `{"storage_class": "` + fileSystem + `", "storage_settings": {"location": ""}}`, `["Default domain can not be migrated."]`},
		{"POST", "domains/migrate/", `{}`, `{"storage_class":` + required + `,"storage_settings":` + required + `}`},
	} {
		w.expect(tc.method, tc.path, tc.body, 400, tc.want)
	}
}

// TestDomainDeletion: what belongs to nobody goes with a domain, files too; what somebody made keeps it.
func TestDomainDeletion(t *testing.T) {
	both(t, func(w *world) {
		one := w.create("domains/", `{"name": "one", "storage_class": "`+fileSystem+`", "storage_settings": {"location": ""}}`)
		domain := pulp.Ref{Key: id(one.href())}.ID()
		sha := strings.Repeat("ab", 32)
		file := filepath.Join(w.set.MediaRoot, "artifact", domain.String(), sha[:2], sha[2:])
		foreign := filepath.Join(w.set.MediaRoot, "artifact", sha[:2], sha[2:])
		for _, f := range []string{file, foreign} {
			if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(f, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		content, repository := pulp.NewID(), pulp.NewID()
		w.exec("INSERT INTO core_artifact (id, domain, created, updated, size, sha256, timestamp_of_interest) VALUES (?, ?, 1, 1, 1, ?, 1)", pulp.NewID(), domain, sha)
		w.exec("INSERT INTO core_content (id, domain, created, updated, pulp_type, timestamp_of_interest) VALUES (?, ?, 1, 1, 'x.x', 1)", content, domain)
		w.exec("INSERT INTO core_label (object, key, value) VALUES (?, 'k', 'v')", content)
		w.exec("INSERT INTO core_repository (id, domain, created, updated, pulp_type, name) VALUES (?, ?, 1, 1, 'x.x', 'r')", repository, domain)
		w.exec("INSERT INTO core_repositorycontent (repository, content, added) VALUES (?, ?, 1)", repository, content)
		remove := func() (state string, problem any) {
			t.Helper()
			task := w.decode(w.do("DELETE", one.href(), ""), 202)["task"].(string)
			w.wait(task)
			got := w.get(task)
			if e, ok := got["error"].(map[string]any); ok {
				problem = e["description"]
			}
			return got["state"].(string), problem
		}
		if state, problem := remove(); state != "failed" || problem != "You cannot delete a domain that still contains repositories with content." {
			t.Errorf("with content in a repository: %s, %v", state, problem)
		}
		w.exec("DELETE FROM core_repositorycontent")
		if state, problem := remove(); state != "failed" || problem != "Cannot delete some instances of model 'Domain' because they are referenced through protected foreign keys: 'Repository.pulp_domain'." {
			t.Errorf("with a repository: %s, %v", state, problem)
		}
		if _, err := os.Stat(file); err != nil {
			t.Errorf("a refused deletion removes files: %v", err)
		}
		w.exec("DELETE FROM core_repository")
		if state, problem := remove(); state != "completed" {
			t.Errorf("without: %s, %v", state, problem)
		}
		for _, table := range []string{"core_artifact", "core_content", "core_label"} {
			if n, err := db.Value[int](w.Context(), w.db, "SELECT count(*) FROM "+table); n != 0 || err != nil {
				t.Errorf("%d rows are left in %s, %v", n, table, err)
			}
		}
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("the artifact's file is left: %v", err)
		}
		if _, err := os.Stat(foreign); err != nil {
			t.Errorf("another domain's file is gone: %v", err)
		}
	})
}

// TestDomainsFromWithin: what needs a domain of one's own.
func TestDomainsFromWithin(t *testing.T) {
	w := sqlite(t, "PULP_DOMAIN_ENABLED=true")
	const in = "/pulp/one/api/v3/"
	one := w.decode(w.do("POST", "/pulp/default/api/v3/domains/", `{"name": "one", "storage_class": "`+fileSystem+`", "storage_settings": {"location": ""}}`), 201)
	w.expect("DELETE", strings.Replace(one.href(), "default", "one", 1), "", 400, `["A domain can not be deleted by a request to itself."]`)
	w.decode(w.do("POST", in+"uploads/", `{"size": 1}`), 201)
	upload := w.decode(w.do("GET", in+"uploads/", ""), 200)["results"].([]any)[0].(map[string]any)["pulp_href"].(string)
	task := w.decode(w.do("DELETE", one.href(), ""), 202)["task"].(string)
	w.wait(task)
	if got := w.get(task); got["state"] != "failed" || !strings.Contains(got["error"].(map[string]any)["description"].(string), "'Upload.pulp_domain'") {
		t.Errorf("with an upload: %v", got)
	}
	w.expect("DELETE", upload, "", 204, "")
	// a rename moves its URLs at once
	task = w.decode(w.do("PATCH", one.href(), `{"name": "two"}`), 202)["task"].(string)
	w.wait(task)
	if a := w.do("GET", in+"uploads/", ""); a.status != 404 {
		t.Errorf("by the old name: %d", a.status)
	}
	if a := w.do("GET", "/pulp/two/api/v3/uploads/", ""); a.status != 200 {
		t.Errorf("by the new name: %d", a.status)
	}
}
