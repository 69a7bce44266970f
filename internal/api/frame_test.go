package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/pulp"
)

const notFoundPage = "\n<!doctype html>\n<html lang=\"en\">\n<head>\n  <title>Not Found</title>\n</head>\n<body>\n  <h1>Not Found</h1><p>The requested resource was not found on this server.</p>\n</body>\n</html>\n"

// TestAnswers: status, headers and body of each kind of answer, exactly.
func TestAnswers(t *testing.T) {
	w := sqlite(t)
	security := map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
		"Access-Control-Expose-Headers": "Correlation-ID", "Correlation-Id": "<new>", "Date": "<date>",
	}
	json := map[string]string{"Content-Type": "application/json", "Vary": "Accept", "X-Frame-Options": "DENY"}
	html := map[string]string{"Content-Type": "text/html; charset=utf-8"}
	frame := map[string]string{"X-Frame-Options": "DENY"}
	for _, tc := range []struct {
		name    string
		req     request
		status  int
		headers []map[string]string
		body    string
	}{
		{"an empty list", request{method: "GET", path: root + "uploads/", user: "admin"}, 200, []map[string]string{json, {"Allow": "GET, POST, HEAD, OPTIONS", "Content-Length": "52"}}, `{"count":0,"next":null,"previous":null,"results":[]}`},
		{"HEAD", request{method: "HEAD", path: root + "uploads/", user: "admin"}, 200, []map[string]string{json, {"Allow": "GET, POST, HEAD, OPTIONS", "Content-Length": "52"}}, ""},
		{"liveness", request{method: "GET", path: root + "livez/"}, 200, []map[string]string{frame, {"Vary": "Accept", "Allow": "GET, HEAD, OPTIONS", "Content-Length": "0"}}, ""},
		{"nobody", request{method: "GET", path: root + "uploads/"}, 401, []map[string]string{json, {"Allow": "GET, POST, HEAD, OPTIONS", "Content-Length": "58", "Vary": "Accept, Cookie", "Www-Authenticate": `Basic realm="api"`}}, `{"detail":"Authentication credentials were not provided."}`},
		{"nobody, in a browser's script", request{method: "GET", path: root + "uploads/", header: http.Header{"X-Requested-With": {"XMLHttpRequest"}}}, 401, []map[string]string{json, {"Allow": "GET, POST, HEAD, OPTIONS", "Content-Length": "58", "Vary": "Accept, Cookie", "Www-Authenticate": `xBasic realm="api"`}}, `{"detail":"Authentication credentials were not provided."}`},
		{"a wrong password", request{method: "GET", path: root + "uploads/", user: "admin:nope"}, 401, []map[string]string{json, {"Allow": "GET, POST, HEAD, OPTIONS", "Content-Length": "39", "Www-Authenticate": `Basic realm="api"`}}, `{"detail":"Invalid username/password."}`},
		{"an unknown path", request{method: "GET", path: "/nope/"}, 404, []map[string]string{html, frame, {"Content-Length": "179"}}, notFoundPage},
		{"an unknown path of the API", request{method: "POST", path: root + "nope/", user: "admin", body: "{}"}, 404, []map[string]string{html, frame, {"Content-Length": "179"}}, notFoundPage},
		{"without the final slash", request{method: "GET", path: root + "uploads?a=b"}, 301, []map[string]string{html, {"Location": root + "uploads/?a=b", "Content-Length": "0"}}, ""},
		{"the root without it", request{method: "POST", path: "/pulp/api/v3"}, 301, []map[string]string{html, {"Location": root, "Content-Length": "0"}}, ""},
		{"an unknown path without it", request{method: "GET", path: root + "nope"}, 404, []map[string]string{html, frame, {"Content-Length": "179"}}, notFoundPage},
		{"no path of the API", request{method: "GET", path: "/pulp/"}, 404, []map[string]string{html, frame, {"Content-Length": "179"}}, notFoundPage},
		{"a path that only begins like it", request{method: "GET", path: "/pulp/api/v33/"}, 404, []map[string]string{html, frame, {"Content-Length": "179"}}, notFoundPage},
		{"the login form", request{method: "GET", path: "/auth/login/"}, 404, []map[string]string{html, frame, {"Content-Length": "179"}}, notFoundPage},
		{"a method that is not there", request{method: "PUT", path: root + "status/"}, 405, []map[string]string{json, {"Allow": "GET, HEAD, OPTIONS", "Content-Length": "40"}}, `{"detail":"Method \"PUT\" not allowed."}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := w.send(tc.req)
			want := map[string]string{}
			for _, m := range append([]map[string]string{security}, tc.headers...) {
				for k, v := range m {
					want[k] = v
				}
			}
			got := map[string]string{}
			for k := range a.header {
				got[k] = strings.Join(a.header.Values(k), "; ")
			}
			got["Date"] = "<date>"
			if regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(got["Correlation-Id"]) {
				got["Correlation-Id"] = "<new>"
			}
			if a.status != tc.status || a.body != tc.body {
				t.Errorf("%d %q\nwant %d %q", a.status, a.body, tc.status, tc.body)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("headers (-want +got)\n%s", diff)
			}
		})
	}
}

func TestCorrelation(t *testing.T) {
	w := sqlite(t)
	for sent, taken := range map[string]bool{
		"0e37d1e8-b8f8-4cb5-a2d6-d1f9d1f4d2ca":          true,
		"0E37D1E8B8F84CB5A2D6D1F9D1F4D2CA":              true,
		"{0e37d1e8-b8f8-4cb5-a2d6-d1f9d1f4d2ca}":        true,
		"urn:uuid:0e37d1e8-b8f8-4cb5-a2d6-d1f9d1f4d2ca": true,
		"0e-37d1e8b8f84cb5a2d6d1f9d1f4d2ca":             true,
		"0e37d1e8-b8f8-4cb5-a2d6-d1f9d1f4d2c":           false,
		"0e37d1e8-b8f8-4cb5-a2d6-d1f9d1f4d2cg":          false,
		"garbage":                                       false,
		"":                                              false,
		strings.Repeat("-", 200) + "0e37d1e8b8f84cb5a2d6d1f9d1f4d2ca":  false,
		"0e37d1e8b8f84cb5a2d6d1f9d1f4d2ca 0e37d1e8b8f84cb5a2d6d1f9d1f": false,
	} {
		for _, path := range []string{root + "livez/", "/nope/", root + "uploads", root + "uploads/"} {
			got := w.send(request{method: "GET", path: path, header: http.Header{"Correlation-Id": {sent}}}).header.Get("Correlation-ID")
			if (got == sent) != taken && sent != "" || len(got) < 32 {
				t.Errorf("%s with %q is answered with %q", path, sent, got)
			}
		}
	}
	a := w.send(request{method: "POST", path: root + "tasks/purge/", user: "admin", body: "{}", header: http.Header{"Correlation-Id": {"0E37D1E8B8F84CB5A2D6D1F9D1F4D2CA"}}})
	if cid := w.get(w.decode(a, 202)["task"].(string))["logging_cid"]; cid != "0E37D1E8B8F84CB5A2D6D1F9D1F4D2CA" {
		t.Errorf("the task's logging_cid is %v", cid)
	}
}

func TestCorrelationSettings(t *testing.T) {
	w := sqlite(t, `PULP_DJANGO_GUID={GUID_HEADER_NAME="X-Request-Id", VALIDATE_GUID=false, EXPOSE_HEADER=false}`)
	a := w.send(request{method: "GET", path: root + "livez/", header: http.Header{"X-Request-Id": {"mine"}}})
	if a.header.Get("X-Request-Id") != "mine" || a.header.Get("Correlation-ID") != "" || a.header.Get("Access-Control-Expose-Headers") != "" {
		t.Errorf("headers: %v", a.header)
	}
}

// TestOrigin: absolute URLs are those by which the client knows the server.
func TestOrigin(t *testing.T) {
	type ask struct {
		header http.Header
		want   string
	}
	for _, tc := range []struct {
		environ string
		asks    []ask
	}{
		{"PULP_DEBUG=false", []ask{
			{nil, "http://pulp.example:81"},
			{http.Header{"X-Forwarded-Proto": {"https"}}, "https://pulp.example:81"},
			{http.Header{"X-Forwarded-Proto": {"HTTPS, http"}}, "https://pulp.example:81"},
			{http.Header{"X-Forwarded-Proto": {"javascript"}}, "http://pulp.example:81"},
			{http.Header{"X-Forwarded-Host": {"other.example"}, "X-Forwarded-Port": {"8443"}}, "http://pulp.example:81"},
		}},
		{"PULP_USE_X_FORWARDED_HOST=true", []ask{{http.Header{"X-Forwarded-Host": {"other.example"}}, "http://other.example"}}},
		{"PULP_USE_X_FORWARDED_PORT=true", []ask{
			{http.Header{"X-Forwarded-Port": {"8443"}}, "http://pulp.example:8443"},
			{http.Header{"X-Forwarded-Port": {"443"}, "X-Forwarded-Proto": {"https"}}, "https://pulp.example"},
		}},
		{`PULP_SECURE_PROXY_SSL_HEADER=["HTTP_X_TLS", "on"]`, []ask{
			{http.Header{"X-Tls": {"on"}}, "https://pulp.example:81"},
			{http.Header{"X-Tls": {"off"}, "X-Forwarded-Proto": {"https"}}, "http://pulp.example:81"},
		}},
	} {
		w := sqlite(t, tc.environ)
		for _, a := range tc.asks {
			got := w.decode(w.send(request{method: "GET", path: root, header: a.header, host: "pulp.example:81"}), 200)["uploads"]
			if got != a.want+root+"uploads/" {
				t.Errorf("with %s and %v uploads are at %v", tc.environ, a.header, got)
			}
		}
	}
}

func TestAllowedHosts(t *testing.T) {
	w := sqlite(t, `PULP_ALLOWED_HOSTS=["pulp.example", ".inner.example", "[::1]"]`)
	for host, want := range map[string]int{
		"pulp.example": 200, "PULP.example:8080": 200, "pulp.example.": 200, "[::1]:80": 200, "inner.example": 200, "a.b.inner.example": 200,
		"evil.example": 400, "xinner.example": 400, "a.pulp.example": 400, "pulp.example:x": 400, "pulp_example": 400,
	} {
		a := w.send(request{method: "GET", path: root + "livez/", host: host})
		if a.status != want || want == 400 && (!strings.Contains(a.body, "Bad Request (400)") || a.header.Get("Correlation-ID") == "") {
			t.Errorf("host %q: %d %s", host, a.status, a.body)
		}
	}
	w = sqlite(t)
	for host, want := range map[string]int{"anything": 200, `evil"host`: 400, "a/b": 400} {
		r := httptest.NewRequest("GET", root+"livez/", nil)
		r.Host = host
		rec := httptest.NewRecorder()
		w.api.Handler().ServeHTTP(rec, r)
		if rec.Code != want {
			t.Errorf("host %q where all are allowed: %d, want %d", host, rec.Code, want)
		}
	}
}

func TestTransportSecurity(t *testing.T) {
	w := sqlite(t, "PULP_SECURE_SSL_REDIRECT=true", `PULP_SECURE_REDIRECT_EXEMPT=["livez/$"]`, "PULP_SECURE_HSTS_SECONDS=60", "PULP_SECURE_HSTS_PRELOAD=true",
		"PULP_SECURE_REFERRER_POLICY=no-referrer", "PULP_SECURE_CONTENT_TYPE_NOSNIFF=false")
	a := w.send(request{method: "GET", path: root + "status/?a=b", host: "pulp.example"})
	if a.status != 301 || a.header.Get("Location") != "https://pulp.example"+root+"status/?a=b" || a.header.Get("Strict-Transport-Security") != "" {
		t.Errorf("%d %v", a.status, a.header)
	}
	if a := w.send(request{method: "GET", path: root + "livez/"}); a.status != 200 {
		t.Errorf("what is exempt: %d", a.status)
	}
	a = w.send(request{method: "GET", path: root + "status/", header: http.Header{"X-Forwarded-Proto": {"https"}}})
	if a.status != 200 || a.header.Get("Strict-Transport-Security") != "max-age=60; preload" || a.header.Get("Referrer-Policy") != "no-referrer" || a.header.Get("X-Content-Type-Options") != "" {
		t.Errorf("%d %v", a.status, a.header)
	}
}

// TestRewrittenRoot: a proxy that serves the API elsewhere says so in a header.
func TestRewrittenRoot(t *testing.T) {
	w := sqlite(t, "PULP_API_ROOT_REWRITE_HEADER=X-API-Root")
	upload := w.create("uploads/", `{"size": 1}`).href()
	moved := http.Header{"X-Api-Root": {"/moved/here"}}
	inMoved := strings.Replace(upload, "/pulp/", "/moved/here/", 1)
	for _, tc := range []struct {
		path   string
		header http.Header
		status int
		href   string
	}{
		{upload, nil, 200, upload},
		{upload, moved, 200, inMoved},
		{inMoved, moved, 200, inMoved},
		{inMoved, http.Header{"X-Api-Root": {"moved/here/"}}, 200, inMoved},
		{inMoved, nil, 404, ""},
		{inMoved, http.Header{"X-Api-Root": {"/other/"}}, 404, ""},
		{upload, http.Header{"X-Api-Root": {`/"><x>/`}}, 404, ""},
	} {
		a := w.send(request{method: "GET", path: tc.path, user: "admin", header: tc.header})
		if a.status != tc.status {
			t.Errorf("%s with %v: %d, want %d", tc.path, tc.header, a.status, tc.status)
			continue
		}
		if tc.status == 200 {
			if got := w.decode(a, 200)["pulp_href"]; got != tc.href {
				t.Errorf("%s with %v: href %v, want %s", tc.path, tc.header, got, tc.href)
			}
		}
	}
	// hrefs of both roots are understood
	for _, href := range []string{upload, inMoved} {
		a := w.send(request{method: "GET", path: "/moved/here/api/v3/uploads/?pulp_href__in=" + href, user: "admin", header: moved})
		if w.decode(a, 200)["count"] != 1.0 {
			t.Errorf("%s is not found: %s", href, a.body)
		}
	}
	// what a task has made under one root is seen under the other
	task := w.dispatch(pulp.Call{}, spec("test.good"))
	w.wait(task)
	a := w.send(request{method: "GET", path: task, user: "admin", header: moved})
	if result := w.decode(a, 200)["result"]; !cmp.Equal(result, map[string]any{"pulp_href": "/moved/here/api/v3/tasks/x/"}) {
		t.Errorf("result: %v", result)
	}
}

// TestDomainsInURLs: with domains on, the segment before "api" names one.
func TestDomainsInURLs(t *testing.T) {
	w := sqlite(t, "PULP_DOMAIN_ENABLED=true")
	const in = "/pulp/default/api/v3/"
	created := w.decode(w.do("POST", in+"domains/", `{"name": "other", "storage_class": "pulpcore.app.models.storage.FileSystem", "storage_settings": {"location": "/x"}}`), 201)
	if !strings.HasPrefix(created.href(), in+"domains/") {
		t.Errorf("a domain's href: %s", created.href())
	}
	upload := w.decode(w.do("POST", "/pulp/other/api/v3/uploads/", `{"size": 1}`), 201).href()
	if !strings.HasPrefix(upload, "/pulp/other/api/v3/uploads/") {
		t.Errorf("an object's href: %s", upload)
	}
	for _, tc := range []struct {
		path   string
		status int
	}{
		{upload, 200},
		{strings.Replace(upload, "other", "default", 1), 404},
		{"/pulp/other/api/v3/", 200},
		{"/pulp/other/api/v3/uploads/", 200},
		{"/pulp/nope/api/v3/uploads/", 404},
		{"/pulp/nope/api/v3/status/", 404},
		{"/pulp/api/v3/uploads/", 404},
		{"/pulp/api/v3/", 404},
		{"/pulp/api/v3/status/", 200},
		{"/pulp/api/v3/status", 301},
		{"/pulp/api/v3/livez/", 200},
		{"/pulp/api/v3/docs/api.json", 200},
		{"/pulp/other/api/v3/status/", 200},
		{"/pulp/other/api/v3/docs/api.yaml", 200},
		{"/pulp/other/api/v3", 301},
		{"/pulp/other/", 404},
		{created.href(), 200},
		{strings.Replace(created.href(), "default", "other", 1), 200}, // what belongs to no domain is seen from each
	} {
		if a := w.do("GET", tc.path, ""); a.status != tc.status {
			t.Errorf("GET %s: %d, want %d", tc.path, a.status, tc.status)
		}
	}
	users := w.decode(w.do("GET", "/pulp/other/api/v3/users/?username=admin", ""), 200)["results"].([]any)
	if href := users[0].(map[string]any)["pulp_href"].(string); !strings.HasPrefix(href, in+"users/") {
		t.Errorf("a user's href: %s", href)
	}
	listing := w.decode(w.do("GET", "/pulp/other/api/v3/", ""), 200)
	if listing["uploads"] != w.url+"/pulp/other/api/v3/uploads/" {
		t.Errorf("uploads are at %v", listing["uploads"])
	}
	purge := w.decode(w.do("POST", "/pulp/other/api/v3/tasks/purge/", "{}"), 202)["task"].(string)
	if !strings.HasPrefix(purge, "/pulp/other/api/v3/tasks/") {
		t.Errorf("a task's href: %s", purge)
	}
	if a := w.do("GET", strings.Replace(purge, "other", "default", 1), ""); a.status != 404 {
		t.Errorf("a task in another domain: %d", a.status)
	}
}

// TestSlowBody: a body that does not come on is given up; one that comes slowly is not.
func TestSlowBody(t *testing.T) {
	w := sqlite(t)
	send := func(pauses ...time.Duration) (string, time.Duration) {
		t.Helper()
		c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		start := time.Now()
		body := `{"size":1}` + strings.Repeat(" ", len(pauses))
		_, _ = fmt.Fprintf(c, "POST %suploads/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWRtaW46cGFzc3dvcmQ=\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", root, len(body))
		for _, p := range pauses {
			_, _ = io.WriteString(c, " ")
			time.Sleep(p)
		}
		_, _ = io.WriteString(c, strings.TrimSpace(body))
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			line = "closed"
		}
		return strings.TrimSpace(line), time.Since(start)
	}
	pause := 300 * time.Millisecond
	if line, _ := send(pause, pause, pause, pause, pause); line != "HTTP/1.1 201 Created" {
		t.Errorf("a slow body: %s", line)
	}
	if line, took := send(2 * time.Second); strings.Contains(line, "201") {
		t.Errorf("a body that paused: %s after %s", line, took)
	}
}

// TestLongRequest: what a request does after its body came may take longer than the body may pause.
func TestLongRequest(t *testing.T) {
	w := sqlite(t)
	if a := w.do("POST", "test/slow/", `{"size": 1}`); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestAccessLogAndMetrics(t *testing.T) {
	w := sqlite(t)
	a := w.send(request{method: "GET", path: root + "uploads/?limit=1", user: "admin", header: http.Header{"User-Agent": {"test"}}})
	w.send(request{method: "GET", path: "/nope/", header: http.Header{"User-Agent": {"test"}}})
	content := httptest.NewRecorder()
	w.api.ObserveContent(http.NotFoundHandler()).ServeHTTP(content, httptest.NewRequest("GET", "/pulp/content/x", nil))
	scrape := httptest.NewRecorder()
	w.api.Debug().ServeHTTP(scrape, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{`granary_http_request_duration_seconds_count{role="api",status="2xx"} 1`, `granary_http_request_duration_seconds_count{role="content",status="4xx"} 1`} {
		if !strings.Contains(scrape.Body.String(), want) {
			t.Errorf("no %s", want)
		}
	}
	w.end()
	cut := regexp.MustCompile(`\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\]`)
	got := cut.ReplaceAllString(w.sink.String(), "[time]")
	want := []string{
		`pulp [` + a.header.Get("Correlation-ID") + `]: 127.0.0.1 - admin [time] "GET /pulp/api/v3/uploads/?limit=1 HTTP/1.1" 200 52 "-" "test"`,
		`"GET /nope/ HTTP/1.1" 404 179 "-" "test"`,
		`192.0.2.1 [time] "GET /pulp/content/x HTTP/1.1" 404 19 "-" "-"`,
	}
	for i, line := range strings.Split(strings.TrimSpace(got), "\n") {
		if i >= len(want) || !strings.HasSuffix(line, want[i]) {
			t.Errorf("line %d of the access log: %s", i, line)
		}
	}
}

func TestProfilesAreLocal(t *testing.T) {
	w := sqlite(t)
	r := httptest.NewRequest("GET", "/debug/pprof/", nil)
	rec := httptest.NewRecorder()
	w.api.Debug().ServeHTTP(rec, r)
	if rec.Code != http.StatusForbidden {
		t.Errorf("a client elsewhere gets %d", rec.Code)
	}
}
