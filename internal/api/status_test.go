package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"granary/internal/pulp"
)

func TestStatus(t *testing.T) {
	both(t, func(w *world) {
		now := int64(pulp.TimeOf(time.Now()))
		for name, age := range map[string]int64{"content": 0, "gone": 31e6} {
			w.exec("INSERT INTO core_appstatus (id, created, updated, app_type, name, versions, ttl, last_heartbeat) VALUES (?, ?, ?, 'content', ?, ?, 30000000, ?)",
				pulp.NewID(), now, now, name, `{"core":"3.95.0"}`, now-age)
		}
		got := w.get("status/?fields=versions&foo=1") // parameters have no effect
		for _, name := range []string{"online_workers", "online_api_apps", "online_content_apps"} {
			for _, app := range got[name].([]any) {
				if beat, _ := app.(map[string]any)["last_heartbeat"].(string); len(beat) != len("2026-11-24T23:06:25.420712Z") {
					t.Errorf("%s: %v", name, app)
				}
				app.(map[string]any)["last_heartbeat"] = "<time>"
			}
		}
		storage := got["storage"].(map[string]any)
		total, used, free := storage["total"].(float64), storage["used"].(float64), storage["free"].(float64)
		if total <= 0 || used <= 0 || free < 0 || used+free > total {
			t.Errorf("storage: %v", storage)
		}
		app := func(name string) any {
			return map[string]any{"name": name, "last_heartbeat": "<time>", "versions": map[string]any{"core": "3.95.0"}}
		}
		want := object{
			"versions":       []any{map[string]any{"component": "core", "version": "3.95.0", "package": "pulpcore", "module": "pulpcore.app", "domain_compatible": true}},
			"online_workers": []any{app("1@test"), app("1@test:2")}, "online_api_apps": []any{app("api")}, "online_content_apps": []any{app("content")},
			"database_connection": map[string]any{"connected": true}, "redis_connection": map[string]any{"connected": false}, "storage": storage,
			"content_settings": map[string]any{"content_origin": nil, "content_path_prefix": "/pulp/content/"}, "domain_enabled": false,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		w.ordered(w.do("GET", "status/", "").body, "versions", "online_workers", "online_api_apps", "online_content_apps", "database_connection", "redis_connection", "storage", "content_settings", "domain_enabled")
	})
}

func TestStatusOfSettings(t *testing.T) {
	w := sqlite(t, "PULP_CACHE_ENABLED=true", "PULP_CONTENT_ORIGIN=http://content.example", "PULP_DOMAIN_ENABLED=true")
	got := w.get("/pulp/api/v3/status/")
	if !cmp.Equal(got["redis_connection"], any(map[string]any{"connected": true})) || got["domain_enabled"] != true ||
		!cmp.Equal(got["content_settings"], any(map[string]any{"content_origin": "http://content.example", "content_path_prefix": "/pulp/content/"})) {
		t.Errorf("%v", got)
	}
}

// TestWithoutDatabase: a server that has lost its database says so.
func TestWithoutDatabase(t *testing.T) {
	w := sqlite(t)
	w.do("GET", "livez/", "")
	w.exec("ALTER TABLE core_appstatus RENAME TO gone")
	if got := w.get("status/"); !cmp.Equal(got["database_connection"], any(map[string]any{"connected": false})) || len(got["online_workers"].([]any)) != 0 {
		t.Errorf("%v", got)
	}
	w.exec("ALTER TABLE gone RENAME TO core_appstatus")
	for _, domains := range []string{"false", "true"} {
		w = sqlite(t, "PULP_DOMAIN_ENABLED="+domains)
		w.exec("ALTER TABLE core_domain RENAME TO gone")
		for path, want := range map[string]int{"/pulp/api/v3/livez/": 200, "/pulp/api/v3/status/": 200, "/pulp/api/v3/docs/api.json": 200} {
			if a := w.send(request{method: "GET", path: path}); a.status != want {
				t.Errorf("%s with domains %s: %d %s", path, domains, a.status, a.body)
			}
		}
	}
	if a := w.send(request{method: "GET", path: "/pulp/default/api/v3/uploads/", user: "admin"}); a.status != 500 || a.body != `{"detail":"Internal server error."}` {
		t.Errorf("%d %s", a.status, a.body)
	}
	w = sqlite(t)
	w.exec("ALTER TABLE core_domain RENAME TO gone")
	if a := w.send(request{method: "GET", path: root + "uploads/", user: "admin"}); a.status != 500 || a.body != `{"detail":"Internal server error."}` {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestRootListing(t *testing.T) {
	w := sqlite(t)
	a := w.send(request{method: "GET", path: root})
	got := w.decode(a, 200)
	for _, name := range []string{"artifacts", "content", "domains", "repositories", "task-groups", "task-schedules", "tasks", "uploads", "users", "workers"} {
		if got[name] != w.url+root+name+"/" {
			t.Errorf("%s: %v", name, got[name])
		}
	}
	for name := range got {
		if strings.Contains(name, "{") || name == "" || name == "status" || name == "tasks/purge" {
			t.Errorf("%q is no collection", name)
		}
	}
	w.expect("POST", "", "{}", 405, `{"detail":"Method \"POST\" not allowed."}`)
}

func TestDocuments(t *testing.T) {
	w := sqlite(t)
	get := func(path, accept string) answer {
		t.Helper()
		h := http.Header{}
		if accept != "" {
			h.Set("Accept", accept)
		}
		return w.send(request{method: "GET", path: root + path, header: h})
	}
	for _, tc := range []struct{ path, accept, media, file string }{
		{"docs/api.json", "", "application/vnd.oai.openapi+json", "Pulp 3 API.json"},
		{"docs/api.json", "application/json", "application/json", "Pulp 3 API.json"},
		{"docs/api.json?bindings&component=core", "", "application/vnd.oai.openapi+json", "Pulp 3 API.json"},
		{"docs/api.yaml", "", "application/vnd.oai.openapi; charset=utf-8", "Pulp 3 API.yaml"},
		{"docs/api.yaml?pk_path=1", "application/yaml", "application/yaml; charset=utf-8", "Pulp 3 API.yaml"},
	} {
		a := get(tc.path, tc.accept)
		if a.status != 200 || a.header.Get("Content-Type") != tc.media || a.header.Get("Content-Disposition") != `inline; filename="`+tc.file+`"` {
			t.Errorf("%s: %d %v", tc.path, a.status, a.header)
		}
		var doc struct {
			Servers []struct{ URL string }
			Paths   map[string]any
		}
		err := json.Unmarshal([]byte(a.body), &doc)
		if strings.Contains(tc.path, "yaml") {
			err = yaml.Unmarshal([]byte(a.body), &doc)
		}
		if err != nil || len(doc.Servers) != 1 || doc.Servers[0].URL != w.url+"/" || len(doc.Paths) < 20 {
			t.Errorf("%s: %v, servers %v, %d paths", tc.path, err, doc.Servers, len(doc.Paths))
		}
	}
	w.expect("GET", "docs/api.json?component=nope", "", 400, `{"detail":"Invalid component specified."}`)
	w.expect("GET", "docs/api.yaml?plugin=x", "", 400, `{"detail":"'plugin' has been removed. Use 'component' instead."}`)
	if a := get("docs/", ""); a.status != 200 || a.header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(a.body, `href="api.json"`) {
		t.Errorf("docs/: %d %s", a.status, a.body)
	}
}
