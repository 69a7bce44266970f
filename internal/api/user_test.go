package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"granary/internal/db"
)

func TestUsers(t *testing.T) {
	both(t, func(w *world) {
		a := w.do("POST", "users/", `{"username": "one", "password": "Qx81-Qx81", "first_name": "First", "last_name": "Last", "email": "one@example.org", "unknown": 1}`)
		one := w.decode(a, 201)
		href, key := one.href(), id(one.href())
		if a.header.Get("Location") != href || href != root+"users/"+key+"/" {
			t.Errorf("href %s, Location %s", href, a.header.Get("Location"))
		}
		joined, _ := one["date_joined"].(string)
		want := object{
			"pulp_href": href, "prn": "prn:auth.user:" + key, "id": one["id"], "username": "one", "first_name": "First", "last_name": "Last", "email": "one@example.org",
			"is_staff": false, "is_active": true, "date_joined": joined, "groups": []any{}, "hidden_fields": []any{map[string]any{"name": "password", "is_set": true}},
		}
		if diff := cmp.Diff(want, one); diff != "" || len(joined) != len("2026-11-24T23:06:25.420712Z") || fmt.Sprint(one["id"]) != key {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if diff := cmp.Diff(one, w.get(href)); diff != "" {
			t.Errorf("the same read again (-created +read)\n%s", diff)
		}
		stored := func() string {
			t.Helper()
			hash, err := db.Value[string](w.Context(), w.db, "SELECT password FROM auth_user WHERE username = 'one'")
			if err != nil {
				t.Fatal(err)
			}
			return hash
		}
		if !strings.HasPrefix(stored(), "pbkdf2_sha256$1000$") {
			t.Errorf("the password is stored as %s", stored())
		}
		mayLogIn := func(what, password string, want bool) {
			t.Helper()
			a := w.send(request{method: "GET", path: root + "login/", user: "one:" + password})
			if (a.status == 200) != want {
				t.Errorf("%s: %d %s", what, a.status, a.body)
			}
		}
		mayLogIn("at first", "Qx81-Qx81", true)

		// changes
		change := func(method, body string, changed object) {
			t.Helper()
			for k, v := range changed {
				want[k] = v
			}
			if diff := cmp.Diff(want, w.decode(w.do(method, href, body), 200)); diff != "" {
				t.Errorf("%s %s (-want +got)\n%s", method, body, diff)
			}
		}
		change("PATCH", `{}`, nil)
		change("PATCH", `{"first_name": "Other", "is_superuser": true, "email": ""}`, object{"first_name": "Other", "email": ""})
		mayLogIn("after a change of something else", "Qx81-Qx81", true)
		if u, err := w.access.User(w.Context(), "one"); err != nil || u.Superuser {
			t.Errorf("a client makes superusers: %v, %v", u, err)
		}
		change("PATCH", `{"password": "other-Qx81"}`, nil)
		mayLogIn("with the old password", "Qx81-Qx81", false)
		mayLogIn("with the new password", "other-Qx81", true)
		change("PATCH", `{"is_active": false}`, object{"is_active": false})
		mayLogIn("while not active", "other-Qx81", false)
		change("PUT", `{"username": "one", "password": "third-Qx81"}`, object{"is_active": true}) // a PUT resets what has a default
		mayLogIn("with the third password", "third-Qx81", true)
		change("PUT", `{"username": "one"}`, nil)
		mayLogIn("a PUT without a password takes it away", "third-Qx81", false)
		if !strings.HasPrefix(stored(), "!") {
			t.Errorf("no password is stored as %s", stored())
		}
		change("PATCH", `{"password": "fourth-Qx81"}`, nil)
		change("PATCH", `{"password": null}`, nil)
		mayLogIn("null takes it away too", "fourth-Qx81", false)
		mayLogIn("nobody gets in without", "", false)

		two := w.create("users/", `{"username": "two"}`)
		three := w.create("users/", `{"username": "three ü/?#", "password": null, "is_active": false, "is_staff": true}`)
		if two["is_active"] != true || three["is_active"] != false || three["is_staff"] != true {
			t.Errorf("%v\n%v", two, three)
		}

		// deletion
		w.expect("DELETE", two.href(), "", 204, "")
		w.expect("DELETE", two.href(), "", 404, `{"detail":"No User matches the given query."}`)
		w.expect("GET", "users/999999/", "", 404, `{"detail":"No User matches the given query."}`)
		w.expect("GET", "users/nope/", "", 404, `{"detail":"Not found."}`)

		// lists, from the newest to the oldest
		for query, want := range map[string][]any{
			"":                                  {"three ü/?#", "one", "plain", "admin"},
			"username=one":                      {"one"},
			"username__in=one,admin":            {"one", "admin"},
			"username__contains=n":              {"one", "plain", "admin"},
			"username__icontains=ONE":           {"one"},
			"username__iexact=ONE":              {"one"},
			"first_name=Other":                  {"one"},
			"last_name__icontains=last":         {"one"},
			"email__contains=@":                 {},
			"is_active=false":                   {"three ü/?#"},
			"is_active=zz":                      {"three ü/?#", "one", "plain", "admin"},
			"is_staff=true":                     {"three ü/?#", "admin"},
			"ordering=username":                 {"admin", "one", "plain", "three ü/?#"},
			"ordering=-id&limit=1":              {"three ü/?#"},
			"fields=id":                         {"three ü/?#", "one", "plain", "admin"}, // without effect
			"pulp_href__in=" + href:             {"one"},
			"prn__in=prn:auth.user:" + key:      {"one"},
			`q=username="one" OR is_staff=true`: {"three ü/?#", "one", "admin"},
		} {
			if got := w.values("users/?"+strings.ReplaceAll(query, " ", "%20"), "username"); !cmp.Equal(got, want) {
				t.Errorf("%s: %v, want %v", query, got, want)
			}
		}
	})
}

func TestWrongUsers(t *testing.T) {
	w := sqlite(t)
	href := w.create("users/", `{"username": "one", "password": "Qx81-Qx81"}`).href()
	const (
		short   = `"This password is too short. It must contain at least 8 characters."`
		common  = `"This password is too common."`
		numeric = `"This password is entirely numeric."`
	)
	for _, tc := range []struct{ method, path, body, want string }{
		{"POST", "users/", `{}`, `{"username":["This field is required."]}`},
		{"POST", "users/", `{"username": " "}`, `{"username":["This field may not be blank."]}`},
		{"POST", "users/", `{"username": null}`, `{"username":["This field may not be null."]}`},
		{"POST", "users/", `{"username": "one"}`, `{"username":["This field must be unique."]}`},
		{"POST", "users/", `{"username": "` + strings.Repeat("x", 151) + `"}`, `{"username":["Ensure this field has no more than 150 characters."]}`},
		{"POST", "users/", `{"username": "x", "password": "Qx81"}`, `{"non_field_errors":[` + short + `]}`},
		{"POST", "users/", `{"username": "x", "password": ""}`, `{"password":["This field may not be blank."]}`},
		{"POST", "users/", `{"username": "x", "password": "password"}`, `{"non_field_errors":[` + common + `]}`},
		{"POST", "users/", `{"username": "x", "password": "7349572938471"}`, `{"non_field_errors":[` + numeric + `]}`},
		{"POST", "users/", `{"username": "x", "password": 12345}`, `{"non_field_errors":[` + short + `,` + common + `,` + numeric + `]}`},
		{"POST", "users/", `{"username": "x", "password": "` + strings.Repeat("Qx81-", 1000) + `"}`, `{"password":["a password may have at most 4096 bytes"]}`},
		{"POST", "users/", `{"username": "x", "email": "x"}`, `{"email":["Enter a valid email address."]}`},
		{"POST", "users/", `{"username": "x", "is_active": "zz"}`, `{"is_active":["Must be a valid boolean."]}`},
		{"PATCH", href, `{"username": "admin"}`, `{"username":["This field must be unique."]}`},
		{"PATCH", href, `{"username": null, "email": "x", "password": "x"}`, `{"username":["This field may not be null."],"email":["Enter a valid email address."]}`},
		{"PATCH", href, `{"password": "short"}`, `{"non_field_errors":[` + short + `]}`},
		{"PATCH", href, `{"first_name": null}`, `{"first_name":["This field may not be null."]}`},
		{"PUT", href, `{"password": "Qx81-Qx81"}`, `{"username":["This field is required."]}`},
		{"GET", "users/?username__startswith=x", "", `{"errors":["Invalid Filter: 'username__startswith'"]}`},
		{"GET", "users/?ordering=groups", "", `{"ordering":["Select a valid choice. groups is not one of the available choices."]}`},
		{"GET", "users/?pulp_id__in=1", "", `{"pulp_id__in":["Enter a valid UUID."]}`},
	} {
		w.expect(tc.method, tc.path, tc.body, 400, tc.want)
	}
	if a := w.send(request{method: "GET", path: root + "login/", user: "one:Qx81-Qx81"}); a.status != 200 {
		t.Errorf("what was refused has had an effect: %d", a.status)
	}
	w = sqlite(t, "PULP_AUTH_PASSWORD_VALIDATORS=[]")
	w.create("users/", `{"username": "x", "password": "1"}`)
	if a := w.send(request{method: "GET", path: root + "login/", user: "x:1"}); a.status != 200 {
		t.Errorf("without rules: %d", a.status)
	}
}

// TestPasswordsEndSessions: whoever has stolen a session loses it with the old password.
func TestPasswordsEndSessions(t *testing.T) {
	both(t, func(w *world) {
		href := w.create("users/", `{"username": "one", "password": "Qx81-Qx81"}`).href()
		session := w.session("one:Qx81-Qx81")
		expect := func(what string, want int) {
			t.Helper()
			if a := w.send(request{method: "GET", path: root + "login/", header: http.Header{"Cookie": {session}}}); a.status != want {
				t.Errorf("%s: %d, want %d", what, a.status, want)
			}
		}
		expect("at first", 200)
		w.decode(w.do("PATCH", href, `{"last_name": "x"}`), 200)
		expect("after a change of something else", 200)
		w.decode(w.do("PATCH", href, `{"password": "other-Qx81"}`), 200)
		expect("after a new password", 401)
	})
}
