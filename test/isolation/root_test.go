package isolation

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"granary/test/binary"
)

// TestRewrittenRoot: with API_ROOT_REWRITE_HEADER, every href in every answer is below the root that the header names.
func TestRewrittenRoot(t *testing.T) {
	w := &world{T: t}
	w.Server = binary.Start(t, t.TempDir(), "PULP_DOMAIN_ENABLED=true", "PULP_ORPHAN_PROTECTION_TIME=0", "PULP_API_ROOT_REWRITE_HEADER=X-API-Root", "PULP_ALLOWED_EXPORT_PATHS=['/tmp']")
	w.doc = w.document()
	d := w.domain("one")
	w.fill(d)
	w.collect(d)
	get := func(path string) (int, string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.URL+path, nil)
		w.must(err)
		req.SetBasicAuth("admin", binary.Password)
		req.Header.Set("X-API-Root", "/moved/to/")
		resp, err := http.DefaultClient.Do(req)
		w.must(err)
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		w.must(err)
		return resp.StatusCode, string(body)
	}
	old := regexp.MustCompile(`.{0,60}[^o]/pulp/(?:[-\w]+/)?api/v3/.{0,60}`)
	moved, queries := 0, 0
	check := func(path string) {
		t.Helper()
		status, body := get(path)
		if status != http.StatusOK {
			t.Errorf("GET %s: %d %.200s", path, status, body)
		}
		if found := old.FindString(strings.ReplaceAll(body, w.URL+"/pulp/", "")); found != "" {
			t.Errorf("GET %s shows the old root: %s", path, found)
		}
		moved += strings.Count(body, `"/moved/to/one/api/v3/`)
		queries += strings.Count(body, `=/moved/to/one/api/v3/`)
	}
	for _, e := range w.doc.lists() {
		if !e.nested() {
			check(e.path(d.name))
			check(strings.Replace(e.path(d.name), "/pulp/", "/moved/to/", 1))
		}
	}
	for _, o := range d.objects {
		check(strings.Replace(o.href, "/pulp/", "/moved/to/", 1))
	}
	if moved < 100 || queries < 4 {
		t.Errorf("there are only %d hrefs, and %d in queries of others", moved, queries)
	}
	// content is where it was: the header is about the API
	for _, o := range d.objects {
		if !strings.Contains(o.href, "/tasks/") {
			continue
		}
		if _, body := get(o.href); strings.Contains(body, "/moved/to/content/") {
			t.Errorf("the path of content was moved: %s", body)
		}
	}
	if status, _ := get("/other/one/api/v3/tasks/"); status != http.StatusNotFound {
		t.Errorf("a third root: %d", status)
	}
	// hrefs of both roots are understood
	href := d.of("/repositories/file/file/")
	for _, ref := range []string{href, strings.Replace(href, "/pulp/", "/moved/to/", 1)} {
		if _, body := get("/moved/to/one/api/v3/repositories/file/file/?pulp_href__in=" + ref); !strings.Contains(body, `"count":1,`) {
			t.Errorf("%s is not found: %s", ref, body)
		}
	}
}
