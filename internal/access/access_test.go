package access_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/access"
	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/db/schema"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/settings"
)

const (
	addr       = "192.0.2.1:1234"
	iterations = 1000 // of new hashes, in place of Django's million
)

// A world is a database with users, and a clock that the test moves.
type world struct {
	*access.Access
	t   *testing.T
	ctx context.Context
	now time.Time
}

func newWorld(t *testing.T, d *db.DB) *world {
	t.Helper()
	w := &world{t: t, ctx: context.Background(), now: time.Date(2026, 11, 22, 4, 40, 38, 0, time.UTC)}
	if _, err := d.Migrate(w.ctx, []db.Schema{schema.Core()}); err != nil {
		t.Fatal(err)
	}
	w.Access = access.New(access.Config{DB: d, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now }, Iterations: iterations})
	return w
}

// sqliteWorld is for what is the same on every database.
func sqliteWorld(t *testing.T) *world {
	t.Helper()
	return newWorld(t, dbtest.Open(t, dbtest.SQLite(t)))
}

// store writes a user as it is, with any hash.
func (w *world) store(name, hash string, active bool) int64 {
	w.t.Helper()
	var id int64
	err := w.DB.Update(w.ctx, func(tx *db.Tx) (err error) {
		id, err = db.Value[int64](w.ctx, tx, "INSERT INTO auth_user (username, password, is_active, date_joined) VALUES (?, ?, ?, 1) RETURNING id", name, hash, active)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// add makes a user with a password.
func (w *world) add(name, password string) int64 {
	w.t.Helper()
	hash, err := w.Hash(password)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.store(name, hash, true)
}

func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	err := w.DB.Update(w.ctx, func(tx *db.Tx) error { _, err := tx.Exec(w.ctx, query, args...); return err })
	if err != nil {
		w.t.Fatal(err)
	}
}

// logIn says how a login goes: "ok", or the text of the refusal.
func (w *world) logIn(name, password, from string) string {
	w.t.Helper()
	u, err := w.Verify(w.ctx, name, password, from)
	if err != nil {
		if e, ok := errors.AsType[*errs.Error](err); ok {
			return e.Detail
		}
		w.t.Fatal(err)
	}
	if u.Name != name {
		w.t.Fatalf("%q logged in as %q", name, u.Name)
	}
	return "ok"
}

func (w *world) expect(what, name, password, want string) {
	w.t.Helper()
	if got := w.logIn(name, password, addr); got != want {
		w.t.Errorf("%s: %s, want %s", what, got, want)
	}
}

const wrong = "Invalid username/password."

func TestHashForms(t *testing.T) {
	w := sqliteWorld(t)
	const password = "Grüße, Welt"
	for name, hash := range map[string]string{ // made by Django
		"pbkdf2_sha256": "pbkdf2_sha256$1000$fFEwRZP5cxnifIgcrcL6AX$CvDN4aYeSaak6lx69MPHrh9704AS5keFr0FMI3zKosI=",
		"pbkdf2_sha1":   "pbkdf2_sha1$1000$vf7zmaTLlALbFHukbE2lMU$mEPRSd6xBGq8yRirqHjD4pH0zcU=",
		"argon2":        "argon2$argon2id$v=19$m=1024,t=2,p=8$TGMwbmY1djRSOVdFa0RMZnhRU3FVMg$hHxXaBs8KxULQbN3/A8Wu4nzwhdUsnRAxWSGRcqLdLc",
		"bcrypt_sha256": "bcrypt_sha256$$2b$04$VL2w7ICspJtlbgu4XLDv6.3xOFqbD24OYDmXK7MLH3RfE4qtkfxEK",
		"bcrypt":        "bcrypt$$2b$04$kMG0bnik3hEIdq7Zgp5b3e5OK3V2ds0piHAdF7yv.MX0A5MSlNud6",
		"scrypt":        "scrypt$1024$5CG4rAKUw89Y6j5gl4maZH$8$1$+PcKOpTjX4BhRaG9phjoAFRvbGAgOhuJxR8EEODjD3wzyt+gYnnNaJMdEkYaJvAOXx02ctYNJ8v65/qvxJ12Iw==",
		"md5":           "md5$txddG0uPgWckKISyRqncUM$5d15d9b6d93f54b36b597ccbd462f193",
	} {
		t.Run(name, func(t *testing.T) {
			w.store(name, hash, true)
			for _, p := range []string{"", "x", password + " ", strings.ToLower(password)} {
				if got := w.logIn(name, p, addr); got != wrong {
					t.Errorf("%q: %s", p, got)
				}
			}
			if got := w.logIn(name, password, addr); got != "ok" {
				t.Errorf("the right password: %s", got)
			}
			after, err := db.Value[string](w.ctx, w.DB, "SELECT password FROM auth_user WHERE username = ?", name)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(after, "pbkdf2_sha256$1000$") {
				t.Errorf("the hash is not renewed: %s", after)
			}
			if name == "pbkdf2_sha256" && after != hash {
				t.Error("a hash is renewed that is as good as new ones")
			}
			if got := w.logIn(name, password, addr); got != "ok" {
				t.Errorf("with the renewed hash: %s", got)
			}
		})
	}
}

// TestHashesThatNobodyHas: no password opens them, and none makes the server work without end.
func TestHashesThatNobodyHas(t *testing.T) {
	w := sqliteWorld(t)
	start := time.Now()
	for i, hash := range []string{
		"", "!", access.Unusable(), "x", "$", "pbkdf2_sha256$1000$salt", "pbkdf2_sha256$0$salt$", "pbkdf2_sha256$999999999999$salt$aGVsbG8=", "pbkdf2_sha256$-1$s$x",
		"md5$", "bcrypt$$2b$31$kMG0bnik3hEIdq7Zgp5b3e5OK3V2ds0piHAdF7yv.MX0A5MSlNud6", "scrypt$1073741824$s$8$1$AAAAAAAAAAAAAAAAAAAAAAAA",
		"argon2$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", "argon2$argon2d$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
	} {
		name := fmt.Sprint("user", i)
		w.store(name, hash, true)
		for _, p := range []string{"", "!", hash} {
			if got := w.logIn(name, p, addr); got != wrong {
				t.Errorf("%q opens %q: %s", p, hash, got)
			}
		}
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("refusing took %s", took)
	}
}

// TestChangesCountAtOnce: what is remembered of a password ends with it, whichever process changed it.
func TestChangesCountAtOnce(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		id := w.add("u", "first")
		w.expect("at first", "u", "first", "ok")
		w.expect("another name", "v", "first", wrong)
		if err := w.SetPassword(w.ctx, "u", "second"); err != nil {
			t.Fatal(err)
		}
		w.expect("the old password", "u", "first", wrong)
		w.expect("the new one", "u", "second", "ok")
		w.exec("UPDATE auth_user SET is_active = ? WHERE id = ?", false, id)
		w.expect("not active", "u", "second", wrong)
		w.exec("UPDATE auth_user SET is_active = ?, is_superuser = ? WHERE id = ?", true, true, id)
		if u, err := w.Verify(w.ctx, "u", "second", addr); err != nil || !u.Superuser || u.ID != id {
			t.Errorf("user = %+v, %v", u, err)
		}
		w.exec("UPDATE auth_user SET password = ? WHERE id = ?", access.Unusable(), id)
		w.expect("without a password", "u", "second", wrong)
		w.exec("DELETE FROM auth_user WHERE id = ?", id)
		w.expect("deleted", "u", "second", wrong)
		if err := w.SetPassword(w.ctx, "u", "x"); !errs.Is(err, errs.NotFound) {
			t.Errorf("setting the password of nobody: %v", err)
		}
		if _, err := w.User(w.ctx, "u"); !errs.Is(err, errs.NotFound) {
			t.Errorf("User of nobody: %v", err)
		}
	})
}

func TestSetSuperuser(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		for _, password := range []string{"first", "second"} {
			if err := w.SetSuperuser(w.ctx, "admin", password); err != nil {
				t.Fatal(err)
			}
			w.expect("after "+password, "admin", password, "ok")
		}
		w.expect("the first password", "admin", "first", wrong)
		w.exec("UPDATE auth_user SET is_active = ?, is_superuser = ?", false, false)
		if err := w.SetSuperuser(w.ctx, "admin", "third"); err != nil {
			t.Fatal(err)
		}
		if u, err := w.User(w.ctx, "admin"); err != nil || !u.Superuser || !u.Active {
			t.Errorf("user = %+v, %v", u, err)
		}
	})
}

// TestSlowOnce: the slow check runs once for many who ask at the same time, and not again for those who come soon after.
func TestSlowOnce(t *testing.T) {
	w := sqliteWorld(t)
	w.Access = access.New(access.Config{DB: w.DB, Log: w.Log, Now: w.Now, Iterations: 50_000})
	w.add("u", "password")
	measure := func(f func()) time.Duration {
		start := time.Now()
		f()
		return time.Since(start)
	}
	one := measure(func() { w.expect("alone", "u", "other", wrong) })
	many := measure(func() {
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() { w.expect("together", "u", "password", "ok") })
		}
		wg.Wait()
	})
	later := measure(func() {
		for range 40 {
			w.expect("later", "u", "password", "ok")
		}
	})
	if many > 10*one || later > 10*one {
		t.Errorf("one slow check takes %s, 40 at once %s, 40 more %s", one, many, later)
	}
	w.now = w.now.Add(10 * time.Minute)
	if again := measure(func() { w.expect("much later", "u", "password", "ok") }); again < one/10 {
		t.Errorf("a password is remembered for ever: %s, where a check takes %s", again, one)
	}
	missing := measure(func() { w.expect("nobody", "nobody", "password", wrong) })
	if missing < one/10 {
		t.Errorf("refusing a user that there is not takes %s, one that there is %s: this tells who exists", missing, one)
	}
}

// TestFailuresAreBounded: who guesses is slowed down, and nobody else is.
func TestFailuresAreBounded(t *testing.T) {
	w := sqliteWorld(t)
	w.add("u", "password")
	w.add("v", "password")
	w.add("late", "password")
	w.expect("a user who works", "u", "password", "ok")
	const refused = "Too many failed logins. Try again later."
	for i := range 20 {
		w.expect("guess", "u", fmt.Sprint("guess", i), wrong)
	}
	w.expect("one guess too many", "u", "guess", refused)
	w.expect("a guess made before, which costs nothing", "u", "guess3", wrong)
	w.expect("the user who works", "u", "password", "ok")
	w.expect("another user from there", "v", "password", "ok")
	if got := w.logIn("u", "other guess", "192.0.2.2:1"); got != wrong {
		t.Errorf("the same user from elsewhere: %s", got)
	}
	if got := w.logIn("u", "guess", "192.0.2.1:999"); got != refused {
		t.Errorf("another connection of the same client: %s", got)
	}
	w.now = w.now.Add(time.Second)
	w.expect("a second later", "u", "guess", wrong)
	w.expect("and again", "u", "guess x", refused)
	w.now = w.now.Add(time.Hour)
	for i := range 20 {
		w.expect("an hour later", "u", fmt.Sprint("new guess", i), wrong)
	}
	w.expect("but not more than at first", "u", "guess y", refused)
	for range 100 { // a client with an old password is wrong, but does not guess
		w.expect("the same again", "late", "old", wrong)
	}
	w.expect("with the right one at last", "late", "password", "ok")
	w.expect("more than a password can be", "v", strings.Repeat("x", 5000), wrong)
}

func TestPasswordRules(t *testing.T) {
	name := func(s string) settings.PasswordValidator {
		return settings.PasswordValidator{Name: "django.contrib.auth.password_validation." + s}
	}
	all := []settings.PasswordValidator{name("UserAttributeSimilarityValidator"), name("MinimumLengthValidator"), name("CommonPasswordValidator"), name("NumericPasswordValidator")}
	long := name("MinimumLengthValidator")
	long.Options = settings.Dict{"min_length": int64(12)}
	const (
		short   = "This password is too short. It must contain at least 8 characters."
		common  = "This password is too common."
		numeric = "This password is entirely numeric."
	)
	for _, tc := range []struct {
		password string
		rules    []settings.PasswordValidator
		want     []string
	}{
		{"Qx81-Qx81", all, nil},
		{"Qx81", all, []string{short}},
		{"äöüßäöü", all, []string{short}},
		{"äöüßäöüß", all, nil},
		{"password", all, []string{common}},
		{" PassWord ", all, []string{common}},
		{"73495729384", all, []string{numeric}},
		{"12345", all, []string{short, common, numeric}},
		{"", all, []string{short}},
		{"", nil, nil},
		{"12345", nil, nil},
		{"Qx81-Qx81", []settings.PasswordValidator{long}, []string{"This password is too short. It must contain at least 12 characters."}},
	} {
		a := access.New(access.Config{Now: time.Now, Validators: tc.rules})
		if diff := cmp.Diff(tc.want, a.CheckPassword(tc.password)); diff != "" {
			t.Errorf("CheckPassword(%q) with %d rules (-want +got)\n%s", tc.password, len(tc.rules), diff)
		}
	}
}

// request makes one with cookies, "name=value", and headers, "Name: value".
func (w *world) request(method string, parts ...string) *http.Request {
	r := httptest.NewRequest(method, "/", nil)
	for _, p := range parts {
		if name, value, ok := strings.Cut(p, ": "); ok {
			r.Header.Set(name, value)
			continue
		}
		name, value, _ := strings.Cut(p, "=")
		r.AddCookie(&http.Cookie{Name: name, Value: value, Quoted: false})
	}
	return r.WithContext(pulp.WithCall(w.ctx, &pulp.Call{Origin: "http://example.com"}))
}

// begin logs a user in and returns its cookies.
func (w *world) begin(user int64, r *http.Request) (session, csrf string) {
	w.t.Helper()
	pulp.CallOf(r.Context()).User = &pulp.User{ID: user, Active: true}
	h := http.Header{}
	if err := w.Login(r.Context(), r, h); err != nil {
		w.t.Fatal(err)
	}
	for _, c := range (&http.Response{Header: h}).Cookies() {
		switch c.Name {
		case "sessionid":
			session = "sessionid=" + c.Value
		case "csrftoken":
			csrf = "csrftoken=" + c.Value
		}
	}
	return session, csrf
}

// who says what a request is taken for: a user's name, "nobody", or a refusal.
func (w *world) who(r *http.Request) (who string, answer http.Header) {
	w.t.Helper()
	h := http.Header{}
	u, err := w.Authenticate(r.Context(), r, h)
	if e, ok := errors.AsType[*errs.Error](err); ok {
		return e.Detail, h
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if u == nil {
		return "nobody", h
	}
	return u.Name, h
}

func TestSessions(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		id := w.add("u", "password")
		session, _ := w.begin(id, w.request("POST"))
		expect := func(what, cookie, want string, forgets bool) {
			t.Helper()
			got, h := w.who(w.request("GET", cookie))
			if got != want || h.Get("Vary") != "Accept, Cookie" {
				t.Errorf("%s: %s, Vary: %s; want %s", what, got, h.Get("Vary"), want)
			}
			if forgotten := strings.HasPrefix(h.Get("Set-Cookie"), `sessionid=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax`); forgotten != forgets {
				t.Errorf("%s: Set-Cookie: %s", what, h.Values("Set-Cookie"))
			}
		}
		expect("a fresh session", session, "u", false)
		expect("no session", "other=x", "nobody", false)
		expect("garbage", "sessionid=garbage", "nobody", true)
		expect("a long one", "sessionid="+strings.Repeat("x", 10_000), "nobody", true)
		stored, err := db.Value[[]byte](w.ctx, d, "SELECT digest FROM auth_session")
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(session, "="+string(stored)) {
			t.Error("the database has the cookie itself")
		}

		w.exec("UPDATE auth_user SET is_active = ?", false)
		expect("of a user who is not active", session, "nobody", false)
		w.exec("UPDATE auth_user SET is_active = ?", true)

		w.now = w.now.Add(14*24*time.Hour - time.Second)
		expect("shortly before its end", session, "u", false)
		other, _ := w.begin(id, w.request("POST", session))
		expect("a session that another took the place of", session, "nobody", true)
		w.now = w.now.Add(14 * 24 * time.Hour)
		expect("after its end", other, "nobody", true)
		third, _ := w.begin(id, w.request("POST"))
		if n, err := db.Value[int](w.ctx, d, "SELECT count(*) FROM auth_session"); n != 1 || err != nil {
			t.Errorf("%d sessions are stored, %v; want only the living one", n, err)
		}

		h := http.Header{}
		if err := w.Logout(w.ctx, w.request("DELETE", third), h); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(h.Get("Set-Cookie"), `sessionid=""`) {
			t.Errorf("Set-Cookie: %s", h.Get("Set-Cookie"))
		}
		expect("after logging out", third, "nobody", true)

		fourth, _ := w.begin(id, w.request("POST"))
		if err := w.SetPassword(w.ctx, "u", "other"); err != nil {
			t.Fatal(err)
		}
		expect("after a new password", fourth, "nobody", true)
		fifth, _ := w.begin(id, w.request("POST"))
		w.exec("DELETE FROM auth_user WHERE id = ?", id)
		expect("of a deleted user", fifth, "nobody", true)
	})
}

func TestLoginCookies(t *testing.T) {
	w := sqliteWorld(t)
	id := w.add("u", "password")
	mask := func(h http.Header) []string {
		var list []string
		for _, c := range h.Values("Set-Cookie") {
			name, rest, _ := strings.Cut(c, "=")
			value, attributes, _ := strings.Cut(rest, ";")
			list = append(list, fmt.Sprintf("%s=<%d>;%s", name, len(value), attributes))
		}
		return list
	}
	log := func(c access.Config) http.Header {
		c.DB, c.Log, c.Now = w.DB, w.Log, w.Now
		r := w.request("POST")
		pulp.CallOf(r.Context()).User = &pulp.User{ID: id, Active: true}
		h := http.Header{}
		if err := access.New(c).Login(r.Context(), r, h); err != nil {
			t.Fatal(err)
		}
		return h
	}
	want := []string{
		"csrftoken=<32>; expires=Sun, 21 Nov 2027 04:40:38 GMT; Max-Age=31449600; Path=/; SameSite=Lax",
		"sessionid=<32>; expires=Sun, 06 Dec 2026 04:40:38 GMT; HttpOnly; Max-Age=1209600; Path=/; SameSite=Lax",
	}
	if diff := cmp.Diff(want, mask(log(access.Config{}))); diff != "" {
		t.Errorf("as Django sets them (-want +got)\n%s", diff)
	}
	want = []string{
		"csrftoken=<32>; Path=/; Secure",
		"sid=<32>; Domain=example.com; expires=Sun, 22 Nov 2026 05:40:38 GMT; Max-Age=3600; Path=/pulp/; SameSite=Strict; Secure",
	}
	got := mask(log(access.ConfigOf(&settings.Settings{
		SessionCookieName: "sid", SessionCookieAge: time.Hour, SessionCookieDomain: "example.com", SessionCookiePath: "/pulp/", SessionCookieSameSite: "Strict", SessionCookieSecure: true,
		CSRFCookieName: "csrftoken", CSRFCookiePath: "/", CSRFCookieSecure: true, CSRFHeaderName: "HTTP_X_CSRFTOKEN",
	})))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("as settings want them (-want +got)\n%s", diff)
	}
}

func TestTokens(t *testing.T) {
	w := sqliteWorld(t)
	w.Access = access.New(access.Config{DB: w.DB, Log: w.Log, Now: w.Now, Iterations: iterations, TrustedOrigins: []string{"https://trusted.example", "https://*.wild.example"}})
	id := w.add("u", "password")
	session, csrf := w.begin(id, w.request("POST"))
	token := strings.TrimPrefix(csrf, "csrftoken=")
	header := "X-CSRFToken: " + token
	mask := strings.Repeat("q", 32)
	masked := "X-CSRFToken: " + mask + add(token, mask)
	const missing, cookie = "CSRF Failed: CSRF token missing.", "CSRF Failed: CSRF cookie not set."
	for _, tc := range []struct {
		name   string
		method string
		parts  []string
		origin string
		want   string
	}{
		{"reading needs none", "GET", []string{session}, "", "u"},
		{"nor does HEAD", "HEAD", []string{session}, "", "u"},
		{"changing needs the cookie", "POST", []string{session, header}, "", cookie},
		{"and the header", "POST", []string{session, csrf}, "", missing},
		{"with both it is the user", "POST", []string{session, csrf, header}, "", "u"},
		{"every method that changes", "DELETE", []string{session, csrf}, "", missing},
		{"also an unknown one", "PURGE", []string{session, csrf}, "", missing},
		{"a masked token", "PATCH", []string{session, csrf, masked}, "", "u"},
		{"the wrong token", "POST", []string{session, csrf, "X-CSRFToken: " + strings.Repeat("a", 32)}, "", "CSRF Failed: CSRF token from the 'X-Csrftoken' HTTP header incorrect."},
		{"a short token", "POST", []string{session, csrf, "X-CSRFToken: wrong"}, "", "CSRF Failed: CSRF token from the 'X-Csrftoken' HTTP header has incorrect length."},
		{"a token of other characters", "POST", []string{session, csrf, "X-CSRFToken: " + strings.Repeat("-", 32)}, "", "CSRF Failed: CSRF token from the 'X-Csrftoken' HTTP header has invalid characters."},
		{"a short cookie", "POST", []string{session, "csrftoken=x", header}, "", "CSRF Failed: CSRF cookie has incorrect length."},
		{"the server's own origin", "POST", []string{session, csrf, header, "Origin: http://example.com"}, "", "u"},
		{"another origin", "POST", []string{session, csrf, header, "Origin: http://evil.example"}, "", "CSRF Failed: Origin checking failed - http://evil.example does not match any trusted origins."},
		{"the same host without TLS", "POST", []string{session, csrf, header, "Origin: http://example.com"}, "https://example.com", "CSRF Failed: Origin checking failed - http://example.com does not match any trusted origins."},
		{"no origin that could be told", "POST", []string{session, csrf, header, "Origin: null"}, "", "CSRF Failed: Origin checking failed - null does not match any trusted origins."},
		{"a trusted origin", "POST", []string{session, csrf, header, "Origin: https://trusted.example"}, "", "u"},
		{"one below a trusted domain", "POST", []string{session, csrf, header, "Origin: https://a.wild.example"}, "", "u"},
		{"one that only looks like it", "POST", []string{session, csrf, header, "Origin: https://evilwild.example"}, "", "CSRF Failed: Origin checking failed - https://evilwild.example does not match any trusted origins."},
		{"over TLS something must tell the origin", "POST", []string{session, csrf, header}, "https://example.com", "CSRF Failed: Referer checking failed - no Referer."},
		{"as the referer", "POST", []string{session, csrf, header, "Referer: https://example.com/page"}, "https://example.com", "u"},
		{"an insecure referer", "POST", []string{session, csrf, header, "Referer: http://example.com/"}, "https://example.com", "CSRF Failed: Referer checking failed - Referer is insecure while host is secure."},
		{"a foreign referer", "POST", []string{session, csrf, header, "Referer: https://evil.example/"}, "https://example.com", "CSRF Failed: Referer checking failed - https://evil.example/ does not match any trusted origins."},
		{"a broken referer", "POST", []string{session, csrf, header, "Referer: example"}, "https://example.com", "CSRF Failed: Referer checking failed - Referer is malformed."},
		{"HTTP Basic needs no token", "POST", []string{session, "Authorization: Basic dTpwYXNzd29yZA=="}, "", "u"},
		{"a session that is none needs none either", "POST", []string{"sessionid=garbage"}, "", "nobody"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := w.request(tc.method, tc.parts...)
			if tc.origin != "" {
				pulp.CallOf(r.Context()).Origin = tc.origin
			}
			if got, _ := w.who(r); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
	// As Pulp does: a token cookie that can be none of ours is replaced.
	_, h := w.who(w.request("GET", "sessionid=garbage", "csrftoken=x"))
	if c := h.Values("Set-Cookie"); len(c) != 2 || !strings.HasPrefix(c[0], "csrftoken=") {
		t.Errorf("Set-Cookie: %s", c)
	}
}

// add masks a token, letter by letter.
func add(token, mask string) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	b := make([]byte, len(token))
	for i := range b {
		b[i] = letters[(strings.IndexByte(letters, token[i])+strings.IndexByte(letters, mask[i]))%len(letters)]
	}
	return string(b)
}

func TestBasic(t *testing.T) {
	w := sqliteWorld(t)
	w.add("u", "password")
	w.add("ü", "pass:wörd")
	const bad = "Invalid basic header. Credentials not correctly base64 encoded."
	for header, want := range map[string]string{
		"Basic dTpwYXNzd29yZA==":           "u",
		"bAsIc   dTpwYXNzd29yZA==":         "u",
		"Basic w7w6cGFzczp3w7ZyZA==":       "ü",
		"Basic /DpwYXNzOnf2cmQ=":           "ü", // Latin-1
		"Basic dTp3cm9uZw==":               wrong,
		"Basic dTpwYXNzd29yZA":             bad,
		"Basic dQ==":                       bad,
		"Basic !!!":                        bad,
		"Basic":                            "Invalid basic header. No credentials provided.",
		"Basic a b":                        "Invalid basic header. Credentials string should not contain spaces.",
		"Bearer dTpwYXNzd29yZA==":          "nobody",
		"":                                 "nobody",
		"Basicdu dTpwYXNzd29yZA==":         "nobody",
		"Digest username=\"u\"":            "nobody",
		"Basic " + strings.Repeat("A", 64): bad,
	} {
		got, h := w.who(w.request("GET", "Authorization: "+header))
		if got != want {
			t.Errorf("%s: %s, want %s", header, got, want)
		}
		if vary := h.Get("Vary"); (vary == "Accept, Cookie") != (want == "nobody") {
			t.Errorf("%s: Vary: %s", header, vary)
		}
	}
	if u := w.Anyone(w.request("GET", "Authorization: Basic dTp3cm9uZw==")); u != nil {
		t.Errorf("Anyone with a wrong password = %+v", u)
	}
	if u := w.Anyone(w.request("GET", "Authorization: Basic dTpwYXNzd29yZA==")); u == nil || u.Name != "u" {
		t.Errorf("Anyone = %+v", u)
	}
}

// TestNoSecretsInLogs: a hash that cannot be read is told of, but neither it nor the password is.
func TestNoSecretsInLogs(t *testing.T) {
	w := sqliteWorld(t)
	var b strings.Builder
	w.Access = access.New(access.Config{DB: w.DB, Log: slog.New(slog.NewTextHandler(&b, nil)), Now: w.Now, Iterations: iterations})
	w.store("u", "strange$hash", true)
	w.expect("login", "u", "a secret", wrong)
	if log := b.String(); !strings.Contains(log, "user=u") || strings.Contains(log, "secret") || strings.Contains(log, "strange") {
		t.Errorf("log: %s", log)
	}
}
