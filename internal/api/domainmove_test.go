package api_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"granary/internal/db"
	"granary/internal/db/dbtest"
)

// A moving is a domain that is moved between folders.
type moving struct {
	*world
	api, href, id string
}

func newMoving(t *testing.T, d *db.DB) *moving {
	t.Helper()
	w := newWorld(t, d, "PULP_DOMAIN_ENABLED=true")
	m := &moving{world: w, api: "/pulp/one/api/v3/"}
	m.href = w.decode(w.do("POST", "/pulp/default/api/v3/domains/", `{"name": "one", "storage_class": "`+fileSystem+`", "storage_settings": {"location": "`+m.folder("old")+`"}}`), 201).href()
	m.id = id(m.href)
	return m
}

func (m *moving) folder(name string) string { return filepath.Join(m.set.MediaRoot, "..", name) }

// form sends a file, and returns the answer.
func (m *moving) form(method, path, text string, header http.Header) answer {
	m.Helper()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "multipart/form-data; boundary=x")
	return m.send(request{method: method, path: path, user: "admin", header: header, body: "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n" + text + "\r\n--x--\r\n"})
}

// artifact stores a file and returns its place in the domain's folder.
func (m *moving) artifact(text string) string {
	m.Helper()
	if a := m.form("POST", m.api+"artifacts/", text, nil); a.status != 201 {
		m.Fatal(a)
	}
	sum := sha256.Sum256([]byte(text))
	sha := hex.EncodeToString(sum[:])
	return filepath.Join("artifact", m.id, sha[:2], sha[2:])
}

func (m *moving) wantFile(path, want string) {
	m.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != want {
		m.Errorf("%s holds %q, %v, want %q", path, b, err, want)
	}
}

// migrate moves the domain and returns the task.
func (m *moving) migrate(folder string) object {
	m.Helper()
	task := m.decode(m.do("POST", m.api+"domains/migrate/", `{"storage_class": "`+fileSystem+`", "storage_settings": {"location": "`+m.folder(folder)+`", "file_permissions_mode": 384}}`), 202)["task"].(string)
	m.wait(task)
	return m.get(task)
}

func (m *moving) location() any {
	m.Helper()
	return m.get(m.href)["storage_settings"].(map[string]any)["location"]
}

func TestMigrate(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		m := newMoving(t, d)
		one, two := m.artifact("one"), m.artifact("two")
		upload := m.decode(m.do("POST", m.api+"uploads/", `{"size": 6}`), 201).href()
		if a := m.form("PUT", upload, "abc", http.Header{"Content-Range": {"bytes 0-2/6"}}); a.status != 200 {
			t.Fatal(a)
		}
		task := m.migrate("new")
		if task["state"] != "completed" || task["name"] != "pulpcore.app.tasks.migrate.migrate_backend" || !cmp.Equal(task["reserved_resources_record"], any([]any{"prn:core.domain:" + m.id})) {
			t.Fatalf("task: %v", task)
		}
		reports := map[string]string{}
		for _, r := range task["progress_reports"].([]any) {
			r := r.(map[string]any)
			reports[r["code"].(string)] = fmt.Sprint(r["message"], " ", r["done"], "/", r["total"], " ", r["state"])
		}
		if want := map[string]string{"migrate": "Migrating Artifacts 2/2 completed", "update": "Update Domain(one)'s Backend Settings 1/1 completed"}; !cmp.Equal(reports, want) {
			t.Errorf("reports: %v", reports)
		}
		if got := m.location(); got != m.folder("new") {
			t.Errorf("location: %v", got)
		}
		for _, folder := range []string{"old", "new"} { // the old files stay
			m.wantFile(filepath.Join(m.folder(folder), one), "one")
			m.wantFile(filepath.Join(m.folder(folder), two), "two")
		}
		if info, err := os.Stat(filepath.Join(m.folder("new"), one)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("permissions: %v, %v", info.Mode(), err)
		}
		// what comes now goes to the new place, and what had begun goes on there
		three := m.artifact("three")
		m.wantFile(filepath.Join(m.folder("new"), three), "three")
		if a := m.form("PUT", upload, "def", http.Header{"Content-Range": {"bytes 3-5/6"}}); a.status != 200 {
			t.Fatal(a)
		}
		sum := sha256.Sum256([]byte("abcdef"))
		commit := m.decode(m.do("POST", upload+"commit/", `{"sha256": "`+hex.EncodeToString(sum[:])+`"}`), 202)["task"].(string)
		m.wait(commit)
		if got := m.get(commit); got["state"] != "completed" {
			t.Errorf("an upload that the move has met: %v", got["error"])
		}
		// to where it is: nothing is lost
		if task := m.migrate("new"); task["state"] != "completed" {
			t.Errorf("to the same place: %v", task["error"])
		}
		m.wantFile(filepath.Join(m.folder("new"), three), "three")
	})
}

// TestMigrateBroken: what is missing or damaged stops the move, which can be begun again.
func TestMigrateBroken(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		m := newMoving(t, d)
		one, two := m.artifact("one"), m.artifact("two")
		sha := strings.ReplaceAll(strings.TrimPrefix(two, "artifact/"+m.id), "/", "")
		old, place := filepath.Join(m.folder("old"), two), filepath.Join(m.folder("new"), one)
		wrong := func(folder, want string) {
			t.Helper()
			task := m.migrate(folder)
			if e, _ := task["error"].(map[string]any); task["state"] != "failed" || e["description"] != want {
				t.Errorf("state %v, error %v\nwant %s", task["state"], task["error"], want)
			}
			if got := m.location(); got != m.folder("old") {
				t.Errorf("location: %v", got)
			}
		}
		if err := os.Remove(old); err != nil {
			t.Fatal(err)
		}
		wrong("new", "Found missing file for artifact(sha256="+sha+"). Please run the repair task or delete the offending artifact.")
		if err := os.WriteFile(old, []byte("owt"), 0o600); err != nil {
			t.Fatal(err)
		}
		wrong("new", "Found damaged file for artifact(sha256="+sha+"). Please run the repair task or delete the offending artifact.")
		if _, err := os.Stat(filepath.Join(m.folder("new"), two)); !os.IsNotExist(err) {
			t.Errorf("a damaged file was copied: %v", err)
		}
		// a wrong file of the right size lies in the new place
		if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil { // the move may have come to the other file first
			t.Fatal(err)
		}
		if err := os.WriteFile(place, []byte("eno"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(old, []byte("two"), 0o600); err != nil {
			t.Fatal(err)
		}
		if task := m.migrate("new"); task["state"] != "completed" {
			t.Errorf("once all is well: %v", task["error"])
		}
		m.wantFile(place, "one")
		m.wantFile(filepath.Join(m.folder("new"), two), "two")
	})
}

// TestMigrateMeanwhile: files that come while a domain moves are not left behind.
func TestMigrateMeanwhile(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		m := newMoving(t, d)
		const clients, each = 4, 15
		paths := make([][]string, clients)
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() {
				for n := range each {
					text := fmt.Sprint(c, "-", n)
					if a := m.form("POST", m.api+"artifacts/", text, nil); a.status != 201 {
						t.Errorf("%s: %v", text, a)
						return
					}
					paths[c] = append(paths[c], text)
				}
			})
		}
		for _, folder := range []string{"a", "b", "c"} {
			if task := m.migrate(folder); task["state"] != "completed" {
				t.Errorf("%s: %v", folder, task["error"])
			}
		}
		wg.Wait()
		for _, list := range paths {
			for _, text := range list {
				sum := sha256.Sum256([]byte(text))
				sha := hex.EncodeToString(sum[:])
				m.wantFile(filepath.Join(m.folder("c"), "artifact", m.id, sha[:2], sha[2:]), text)
			}
		}
	})
}

func TestWrongMigrations(t *testing.T) {
	m := newMoving(t, dbtest.Open(t, dbtest.SQLite(t)))
	const required = `["This field is required."]`
	for _, tc := range []struct{ body, want string }{
		{`{}`, `{"storage_class":` + required + `,"storage_settings":` + required + `}`},
		{`{"storage_class": "nope", "storage_settings": {}}`, `{"storage_class":["\"nope\" is not a valid choice."]}`},
		{`{"storage_class": "` + fileSystem + `", "storage_settings": {}}`, `{"storage_settings":{"location":` + required + `}}`},
		{`{"storage_class": "` + fileSystem + `", "storage_settings": {"location": "", "zz": 1}}`, `{"storage_settings":{"zz":"Unexpected field"}}`},
		{`{"storage_class": "` + fileSystem + `", "storage_settings": {"location": "/proc/x"}}`, `{"storage_settings":{"location":["Files can not be stored there: no such file or directory."]}}`},
		{`{"storage_class": "` + s3 + `", "storage_settings": {}}`, `{"storage_settings":{"access_key":` + required + `,"bucket_name":` + required + `}}`},
		{`{"storage_class": "` + s3 + `", "storage_settings": {"access_key": "a", "secret_key": "s", "bucket_name": "b"}}`, `{"storage_class":["Backend is not installed on Pulp."]}`},
	} {
		m.expect("POST", m.api+"domains/migrate/", tc.body, 400, tc.want)
	}
	for _, settings := range []string{`{}`, `{"location": "/proc/x"}`} {
		m.expect("POST", "/pulp/default/api/v3/domains/migrate/", `{"storage_class": "`+fileSystem+`", "storage_settings": `+settings+`}`, 400, `["Default domain can not be migrated."]`)
	}
	// what a task is to do stays secret
	var stored []string
	stored, err := db.Column[string](t.Context(), m.db, "SELECT COALESCE(args, '') FROM core_task")
	if b, _ := json.Marshal(stored); err != nil || strings.Contains(string(b), "location") {
		t.Errorf("%s, %v", b, err)
	}
}
