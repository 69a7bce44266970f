package api_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// session logs a user in and returns its cookies, for a Cookie header.
func (w *world) session(user string) string {
	w.Helper()
	a := w.send(request{method: "POST", path: root + "login/", user: user})
	if a.status != 201 {
		w.Fatalf("login: %d %s", a.status, a.body)
	}
	var list []string
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		list = append(list, c.Name+"="+c.Value)
	}
	return strings.Join(list, "; ")
}

func TestLogin(t *testing.T) {
	both(t, func(w *world) {
		user, err := w.access.User(w.Context(), "plain")
		if err != nil {
			t.Fatal(err)
		}
		ref := w.get("users/?username=plain")["results"].([]any)[0].(map[string]any)
		me := `{"pulp_href":"` + ref["pulp_href"].(string) + `","prn":"` + ref["prn"].(string) + `","username":"` + user.Name + `"}`
		a := w.send(request{method: "POST", path: root + "login/", user: "plain", body: "{}"})
		if a.status != 201 || a.body != me || a.header.Get("Location") != ref["pulp_href"] || a.header.Get("Vary") != "Accept, Cookie" {
			t.Errorf("%d %s %v", a.status, a.body, a.header)
		}
		form := regexp.MustCompile(`^csrftoken=\w{32}; expires=\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT; Max-Age=31449600; Path=/; SameSite=Lax` + "\n" +
			`sessionid=\w{32}; expires=\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT; HttpOnly; Max-Age=1209600; Path=/; SameSite=Lax$`)
		if got := strings.Join(a.header.Values("Set-Cookie"), "\n"); !form.MatchString(got) {
			t.Errorf("Set-Cookie: %s", got)
		}
		cookies := w.session("plain")
		token := regexp.MustCompile(`csrftoken=(\w+)`).FindStringSubmatch(cookies)[1]
		session := regexp.MustCompile(`sessionid=\w+`).FindString(cookies)
		const denied, nobody = `{"detail":"You do not have permission to perform this action."}`, `{"detail":"Authentication credentials were not provided."}`
		for _, tc := range []struct {
			name   string
			method string
			path   string
			user   string
			header http.Header
			status int
			body   string
			vary   string
		}{
			{"who am I", "GET", "login/", "plain", nil, 200, me, "Accept"},
			{"who am I, by session", "GET", "login/", "", http.Header{"Cookie": {session}}, 200, me, "Accept, Cookie"},
			{"nobody", "GET", "login/", "", nil, 401, nobody, "Accept, Cookie"},
			{"nobody logs in", "POST", "login/", "", nil, 401, nobody, "Accept, Cookie"},
			{"a wrong password", "POST", "login/", "plain:nope", nil, 401, `{"detail":"Invalid username/password."}`, "Accept"},
			{"nobody logs out", "DELETE", "login/", "", nil, 401, nobody, "Accept, Cookie"},
			{"a method that is not there", "PUT", "login/", "plain", nil, 405, `{"detail":"Method \"PUT\" not allowed."}`, "Accept"},
			{"logging out without a token", "DELETE", "login/", "", http.Header{"Cookie": {session}}, 403, `{"detail":"CSRF Failed: CSRF cookie not set."}`, "Accept, Cookie"},
			{"a change without a token", "POST", "uploads/", "", http.Header{"Cookie": {cookies}}, 403, `{"detail":"CSRF Failed: CSRF token missing."}`, "Accept, Cookie"},
			{"a change with one", "POST", "uploads/", "", http.Header{"Cookie": {cookies}, "X-Csrftoken": {token}}, 403, denied, "Accept, Cookie"},
			{"from another site", "POST", "uploads/", "", http.Header{"Cookie": {cookies}, "X-Csrftoken": {token}, "Origin": {"http://evil.example"}}, 403, `{"detail":"CSRF Failed: Origin checking failed - http://evil.example does not match any trusted origins."}`, "Accept, Cookie"},
			{"from this one", "POST", "uploads/", "", http.Header{"Cookie": {cookies}, "X-Csrftoken": {token}, "Origin": {w.url}}, 403, denied, "Accept, Cookie"},
			{"credentials beside a session", "POST", "uploads/", "plain", http.Header{"Cookie": {cookies}}, 403, denied, "Accept"},
			{"logging out by password", "DELETE", "login/", "plain", nil, 204, "", "Accept, Cookie"},
			{"which does not end the session", "GET", "login/", "", http.Header{"Cookie": {session}}, 200, me, "Accept, Cookie"},
			{"logging out", "DELETE", "login/", "", http.Header{"Cookie": {cookies}, "X-Csrftoken": {token}}, 204, "", "Accept, Cookie"},
			{"afterwards", "GET", "login/", "", http.Header{"Cookie": {session}}, 401, nobody, "Accept, Cookie"},
		} {
			a := w.send(request{method: tc.method, path: root + tc.path, user: tc.user, header: tc.header})
			if a.status != tc.status || a.body != tc.body || a.header.Get("Vary") != tc.vary {
				t.Errorf("%s: %d %s, Vary: %s\nwant %d %s, Vary: %s", tc.name, a.status, a.body, a.header.Get("Vary"), tc.status, tc.body, tc.vary)
			}
			forgotten := strings.HasPrefix(a.header.Get("Set-Cookie"), `sessionid=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax`)
			if want := tc.name == "logging out" || tc.name == "afterwards"; forgotten != want {
				t.Errorf("%s: Set-Cookie: %s", tc.name, a.header.Values("Set-Cookie"))
			}
		}
		// an administrator's session may change things
		cookies = w.session("admin")
		token = regexp.MustCompile(`csrftoken=(\w+)`).FindStringSubmatch(cookies)[1]
		a = w.send(request{method: "POST", path: root + "uploads/", body: `{"size": 1}`, header: http.Header{"Cookie": {cookies}, "X-Csrftoken": {token}}})
		if a.status != 201 {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}

// TestWhoMayWhat: everybody, a user without roles and superusers, for each sort of operation.
func TestWhoMayWhat(t *testing.T) {
	w := sqlite(t)
	w.exec("INSERT INTO auth_user (username, password, is_superuser, is_active, date_joined) SELECT 'off', password, ?, ?, 1 FROM auth_user WHERE username = 'admin'", true, false)
	upload := w.create("uploads/", `{"size": 1}`).href()
	users := []string{"", "plain", "admin", "admin:wrong", "off"}
	for _, tc := range []struct {
		method, path string
		want         [5]int // for each of the users
	}{
		{"GET", root, [5]int{200, 200, 200, 200, 200}},
		{"GET", root + "status/", [5]int{200, 200, 200, 200, 200}},
		{"GET", root + "livez/", [5]int{200, 200, 200, 200, 200}},
		{"GET", root + "docs/", [5]int{200, 200, 200, 200, 200}},
		{"GET", root + "docs/api.json", [5]int{200, 200, 200, 200, 200}},
		{"POST", root + "status/", [5]int{405, 405, 405, 405, 405}},
		{"GET", root + "login/", [5]int{401, 200, 200, 401, 401}},
		{"PATCH", root + "login/", [5]int{401, 405, 405, 401, 401}},
		{"GET", root + "users/", [5]int{401, 403, 200, 401, 401}},
		{"GET", root + "roles/", [5]int{401, 403, 200, 401, 401}},
		{"GET", root + "access_policies/", [5]int{401, 403, 200, 401, 401}},
		{"GET", root + "groups/", [5]int{401, 200, 200, 401, 401}},
		{"POST", root + "groups/", [5]int{401, 403, 400, 401, 401}},
		{"GET", root + "artifacts/", [5]int{401, 403, 200, 401, 401}},
		{"GET", root + "workers/", [5]int{401, 403, 200, 401, 401}},
		{"GET", root + "tasks/", [5]int{401, 200, 200, 401, 401}},
		{"GET", root + "task-groups/", [5]int{401, 200, 200, 401, 401}},
		{"GET", root + "task-schedules/", [5]int{401, 200, 200, 401, 401}},
		{"GET", root + "domains/", [5]int{401, 200, 200, 401, 401}},
		{"GET", root + "repositories/", [5]int{401, 200, 200, 401, 401}},
		{"GET", upload, [5]int{401, 403, 200, 401, 401}},
		{"GET", root + "uploads/nope/", [5]int{401, 404, 404, 401, 401}},
		{"GET", root + "uploads/?foo=1", [5]int{401, 400, 400, 401, 401}},
		{"POST", root + "uploads/", [5]int{401, 403, 400, 401, 401}},
		{"POST", root + "tasks/purge/", [5]int{401, 202, 202, 401, 401}},
		{"PATCH", upload, [5]int{401, 405, 405, 401, 401}},
		{"PURGE", root + "uploads/", [5]int{401, 405, 405, 401, 401}},
		{"OPTIONS", root + "uploads/", [5]int{401, 403, 403, 401, 401}},
		{"GET", "/nope/", [5]int{404, 404, 404, 404, 404}},
		{"GET", root + "uploads", [5]int{301, 301, 301, 301, 301}},
		{"DELETE", upload, [5]int{401, 403, 204, 401, 401}},
	} {
		for i, user := range users {
			if a := w.send(request{method: tc.method, path: tc.path, user: user}); a.status != tc.want[i] {
				t.Errorf("%s %s by %q: %d, want %d: %s", tc.method, tc.path, user, a.status, tc.want[i], a.body)
			}
		}
	}
}

// TestGuessing: who tries many passwords is asked to wait.
func TestGuessing(t *testing.T) {
	w := sqlite(t)
	for i := range 200 { // one more is allowed each second
		a := w.send(request{method: "GET", path: root + "login/", user: "admin:" + strings.Repeat("x", i+1)})
		if a.status == 503 && i >= 20 && a.header.Get("Retry-After") != "" {
			break
		}
		if a.status != 401 || i == 199 {
			t.Fatalf("guess %d: %d %s", i, a.status, a.body)
		}
	}
	if a := w.send(request{method: "GET", path: root + "status/", user: "admin:nope"}); a.status != 200 {
		t.Errorf("what is public: %d", a.status)
	}
}
