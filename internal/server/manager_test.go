package server_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"granary/internal/db"
	"granary/internal/keyring"
)

// manage runs a command of the manager in the server, and returns what it prints.
func (r *running) manage(args ...string) string {
	r.t.Helper()
	var out bytes.Buffer
	if err := r.Manager(r.t.Context(), args, &out); err != nil {
		r.t.Fatalf("%s: %v\n%s", args, err, out.String())
	}
	return out.String()
}

// tokens returns what is encrypted in the whole database, whatever is declared of it, by table and column.
func tokens(t *testing.T, d *db.DB) map[string][]string {
	t.Helper()
	query := "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND c.type = 'TEXT'"
	if d.Engine() == db.PostgreSQL {
		query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' AND data_type = 'text'"
	}
	columns, err := db.All(t.Context(), d, func(rows *sql.Rows) (c [2]string, err error) { err = rows.Scan(&c[0], &c[1]); return c, err }, query)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string][]string{}
	for _, c := range columns {
		list, err := db.Column[string](t.Context(), d, "SELECT "+c[1]+" FROM "+c[0]+" WHERE "+c[1]+" LIKE 'gAAAAA%'")
		if err != nil {
			t.Fatal(err)
		}
		if len(list) > 0 {
			m[c[0]+"."+c[1]] = list
		}
	}
	return m
}

func TestRotateKey(t *testing.T) {
	eachEngine(t, func(t *testing.T, cfg db.Config) {
		s := run(t, cfg)
		const api = "/pulp/api/v3/"
		secrets := object{
			"name": "secrets", "url": "http://localhost/", "client_key": "a key", "username": "user", "password": "secret", "proxy_url": "http://proxy",
			"proxy_username": "p", "proxy_password": "q", "headers": []object{{"Authorization": "x"}},
		}
		remote := s.ask("POST", api+"remotes/file/file/", secrets)["pulp_href"].(string)
		s.ask("POST", api+"upstream-pulps/", object{"name": "u", "base_url": "http://localhost", "api_root": "/pulp/", "client_key": "k", "username": "u", "password": "p"})
		s.ask("PATCH", remote, object{"password": "another"}) // a task, whose arguments have it
		file := s.Settings.DBEncryptionKey
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		old, err := keyring.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := keyring.Create(file + ".new")
		if err != nil {
			t.Fatal(err)
		}
		next, err := os.ReadFile(file + ".new")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, slices.Concat(next, text), 0o600); err != nil {
			t.Fatal(err)
		}
		// the server has not read it yet, so it could read nothing afterwards
		if err := s.Manager(t.Context(), []string{"rotate-db-key"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "restart") {
			t.Fatalf("rotated for a server that does not know the key: %v", err)
		}
		s.Keys = append(keyring.Keys{}, append(fresh, old...)...)
		before := tokens(t, s.DB)
		s.manage("rotate-db-key", "--dry-run")
		if now := tokens(t, s.DB); len(now) != len(before) || now["core_remote.password"][0] != before["core_remote.password"][0] {
			t.Error("a dry run changes something")
		}
		for range 2 { // it may be repeated
			out := s.manage("rotate-db-key")
			for _, line := range []string{"password", " on Domain.\n", " on UpstreamPulp.\n", "Updating args on Task.\n"} {
				if !strings.Contains(out, line) {
					t.Errorf("no %q in\n%s", line, out)
				}
			}
		}
		after := tokens(t, s.DB)
		if len(after) != len(before) || len(after) < 11 {
			t.Errorf("encrypted columns: %v, %v", len(before), len(after))
		}
		for column, list := range after {
			for _, token := range list {
				if _, err := fresh.Decrypt(token); err != nil {
					t.Errorf("%s is not encrypted with the new key", column)
				}
			}
		}
	})
}

func TestManagerCommands(t *testing.T) {
	s := run(t, db.Config{})
	if out := s.manage("showmigrations", "-v", "0"); !strings.Contains(out, "core\n [X] 0001_core\n") || strings.Contains(out, "[ ]") {
		t.Errorf("migrations:\n%s", out)
	}
	if out := s.manage("showmigrations", "file"); strings.Contains(out, "core") {
		t.Errorf("migrations of file:\n%s", out)
	}
	if err := s.Manager(t.Context(), []string{"showmigrations", "nope"}, &bytes.Buffer{}); err == nil {
		t.Error("there are migrations of nothing")
	}
	if out := s.manage("collectstatic", "--noinput", "--clear", "--link"); out != "" {
		t.Errorf("collectstatic prints %q", out)
	}
	var doc object
	if err := json.Unmarshal([]byte(s.manage("openapi", "--component", "file", "--bindings", "--format", "openapi-json")), &doc); err != nil || doc["paths"] == nil {
		t.Errorf("document: %v", err)
	}
	file := t.TempDir() + "/api.yaml"
	s.manage("openapi", "--pk-path", "--file", file)
	if b, err := os.ReadFile(file); err != nil || !bytes.Contains(b, []byte("openapi: ")) {
		t.Errorf("document in a file: %v, %.80q", err, b)
	}
	for _, name := range []string{"shell", "makemigrations", "dbshell"} {
		if err := s.Manager(t.Context(), []string{name, "-c", "print()"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "has no meaning here") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// a report that a failed task has left
	remote := s.ask("POST", "/pulp/api/v3/remotes/file/file/", object{"name": "r", "url": "http://127.0.0.1:1/"})["pulp_href"]
	repo := s.ask("POST", "/pulp/api/v3/repositories/file/file/", object{"name": "r"})["pulp_href"].(string)
	_, o := s.try("POST", repo+"sync/", object{"remote": remote})
	if task := s.wait(o["task"].(string)); task["state"] != "failed" {
		t.Fatal(task)
	}
	err := s.DB.Update(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), "UPDATE core_progressreport SET state = 'running'")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	dry := s.manage("clean-up-progress-reports", "--dry-run")
	if !strings.Contains(dry, "for canceled tasks: 0\n") || strings.Contains(dry, "for failed tasks: 0\n") {
		t.Errorf("a dry run says\n%s", dry)
	}
	if out := s.manage("clean-up-progress-reports"); out != dry {
		t.Errorf("got\n%swant\n%s", out, dry)
	}
	for _, r := range s.ask("GET", o["task"].(string), nil)["progress_reports"].([]any) {
		if r.(object)["state"] != "failed" {
			t.Errorf("report %v", r)
		}
	}
}
