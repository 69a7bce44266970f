package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/plugin"
	"granary/internal/pulp"
	"granary/internal/server"
	"granary/internal/settings"
	"granary/plugins/certguard"
	"granary/plugins/file"
)

// A house is a whole server that listens. Users are known by a header, as a proxy would set it.
type house struct {
	*testing.T
	*server.Server
	url   string
	ahead atomic.Int64 // seconds
}

const api = "/pulp/api/v3/"

// begin starts a server. It has a superuser, "admin".
func begin(t *testing.T, cfg db.Config, environ ...string) *house {
	t.Helper()
	h := &house{T: t}
	set, err := settings.Load(settings.Options{DataDir: t.TempDir(), Environ: append([]string{
		`PULP_REST_FRAMEWORK__DEFAULT_AUTHENTICATION_CLASSES=["pulpcore.app.authentication.BasicAuthentication","pulpcore.app.authentication.PulpRemoteUserAuthentication","pulpcore.app.authentication.JSONHeaderRemoteAuthentication"]`,
		`PULP_AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.RemoteUserBackend"]`, "PULP_REMOTE_USER_ENVIRON_NAME=HTTP_X_USER",
		"PULP_AUTHENTICATION_JSON_HEADER=HTTP_X_IDENTITY", "PULP_AUTHENTICATION_JSON_HEADER_JQ_FILTER=.identity.user", "GRANARY_TRUSTED_PROXIES=127.0.0.1",
	}, environ...)})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.DSN != "" {
		set.Database = settings.Database{Engine: settings.Postgres, DSN: settings.Secret(cfg.DSN)}
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.Server, err = server.Open(ctx, server.Config{
		Settings: set, Plugins: []plugin.Plugin{certguard.Plugin(), file.Plugin()}, Version: "test", Log: slog.New(slog.DiscardHandler), AccessLog: io.Discard,
		Migrate: true, Roles: server.Roles{API: true, Content: true, Workers: 2},
		Now: func() time.Time { return time.Now().Add(time.Duration(h.ahead.Load()) * time.Second) },
	})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- h.Server.Run(ctx, server.Addresses{Main: "127.0.0.1:0"}, func(addr string) { ready <- addr })
	}()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, h.Close()); err != nil {
			t.Error(err)
		}
	})
	h.url = "http://" + <-ready
	err = h.DB.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO auth_user (username, password, is_superuser, is_staff, is_active, date_joined) VALUES ('admin', '!', ?, ?, ?, 1)", true, true, true)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// send sends a request and returns the status, its reason, and the body.
func (h *house) send(method, path, body string, header ...string) (status int, reason, text string) {
	h.Helper()
	r, err := http.NewRequestWithContext(h.Context(), method, h.url+path, strings.NewReader(body))
	if err != nil {
		h.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		h.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.Fatal(err)
	}
	_, reason, _ = strings.Cut(resp.Status, " ")
	return resp.StatusCode, reason, string(b)
}

// as sends a request as a user, which must be answered with a status, and returns the answer.
func (h *house) as(user, method, path string, body any, want int) map[string]any {
	h.Helper()
	text := ""
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			h.Fatal(err)
		}
		text = string(b)
	}
	status, _, answer := h.send(method, path, text, "X-User", user)
	if status != want {
		h.Fatalf("%s %s %s as %s: %d %s, want %d", method, path, text, user, status, answer, want)
	}
	var o map[string]any
	if answer != "" {
		if err := json.Unmarshal([]byte(answer), &o); err != nil {
			h.Fatalf("%v in %s", err, answer)
		}
	}
	return o
}

// wait waits for the task of an answer, and returns it.
func (h *house) wait(answer map[string]any) map[string]any {
	h.Helper()
	for {
		t := h.as("admin", "GET", answer["task"].(string), nil, 200)
		switch t["state"] {
		case "completed":
			return t
		case "failed", "canceled":
			h.Fatalf("task: %v", t)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// guarded makes a distribution behind a guard and returns its URL's path.
func (h *house) guarded(name, guard string) string {
	h.Helper()
	h.wait(h.as("admin", "POST", api+"distributions/file/file/", map[string]any{"name": name, "base_path": name, "content_guard": guard}, 202))
	return "/pulp/content/" + name + "/"
}

// passes asserts that a guard lets a request through: nothing is served behind it, so that is a 404.
func (h *house) passes(path string, header ...string) {
	h.Helper()
	if status, reason, _ := h.send("GET", path, "", header...); status != 404 {
		h.Errorf("%s with %.60q: %d %s, want 404", path, header, status, reason)
	}
}

func (h *house) refused(path, want string, header ...string) {
	h.Helper()
	status, reason, text := h.send("GET", path, "", header...)
	if status != 403 || reason != want || text != "403: "+want {
		h.Errorf("%s with %.60q: %d %s, %s, want 403 %s", path, header, status, reason, text, want)
	}
}

func (h *house) guard(path string, body map[string]any) string {
	h.Helper()
	return h.as("admin", "POST", api+"contentguards/"+path+"/", body, 201)["pulp_href"].(string)
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func onBoth(t *testing.T, f func(t *testing.T, cfg db.Config)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, db.Config{}) })
	t.Run("postgres", func(t *testing.T) { f(t, dbtest.Postgres(t)) })
}

func TestGuards(t *testing.T) {
	onBoth(t, func(t *testing.T, cfg db.Config) {
		h := begin(t, cfg)
		header := h.guard("core/header", map[string]any{"name": "header", "header_name": "X-Key", "header_value": "yes"})
		at := h.guarded("a", header)
		h.passes(at, "X-Key", b64("yes"))
		for _, bad := range []string{"", "yes", b64("no"), b64("yes\n"), "eWV", "/+8="} {
			h.refused(at, "Access denied.", "X-Key", bad)
		}
		h.refused(at, "Access denied.")
		h.as("admin", "PATCH", header, map[string]any{"jq_filter": ".org.id", "header_value": "7"}, 200)
		h.passes(at, "X-Key", b64(`{"org":{"id":"7"}}`))
		for _, bad := range []string{`{"org":{"id":7}}`, `{"org":"7"}`, `{}`, `[]`, `{"org":`, `"7"`} {
			h.refused(at, "Access denied.", "X-Key", b64(bad))
		}
		h.as("admin", "PATCH", header, map[string]any{"jq_filter": "empty"}, 200)
		h.refused(at, "Access denied.", "X-Key", b64("{}"))
		for _, bad := range []string{".[", "nope", "last(repeat(1))", "def f: f; f", `"x" * 1e9`, "env.HOME", "input", "import \"a\" as a; .", strings.Repeat(".a|", 3000) + "."} {
			h.as("admin", "PATCH", header, map[string]any{"jq_filter": bad}, 400)
		}
		h.as("admin", "PATCH", header, map[string]any{"jq_filter": nil, "header_value": "yes"}, 200)

		rbac := h.as("admin", "POST", api+"contentguards/core/rbac/", map[string]any{"name": "rbac"}, 201)
		if users := rbac["users"].([]any); len(users) != 1 || users[0].(map[string]any)["username"] != "admin" {
			t.Errorf("users of a new guard: %v", users)
		}
		behind := h.guarded("b", rbac["pulp_href"].(string))
		h.passes(behind, "X-User", "admin")
		h.refused(behind, "Authentication credentials were not provided.")
		h.refused(behind, "Authentication credentials were not provided.", "Authorization", "Basic "+b64("admin:wrong"))
		h.refused(behind, "You do not have permission to perform this action.", "X-User", "somebody")
		h.as("admin", "POST", rbac["pulp_href"].(string)+"add_role/", map[string]any{"users": []string{"somebody"}, "role": "core.rbaccontentguard_downloader"}, 201)
		h.passes(behind, "X-User", "somebody")
		h.passes(behind, "X-Identity", b64(`{"identity":{"user":"somebody"}}`))

		composite := h.guard("core/composite", map[string]any{"name": "any of them", "guards": []any{rbac["pulp_href"], header}})
		either := h.guarded("c", composite)
		h.passes(either, "X-User", "somebody")
		h.passes(either, "X-Key", b64("yes"))
		if status, reason, _ := h.send("GET", either, ""); status != 403 || !strings.HasPrefix(reason, "Access forbidden. Refusals: [") || !strings.Contains(reason, header) {
			t.Errorf("a composite guard answers %d %s", status, reason)
		}
		outer := h.guard("core/composite", map[string]any{"name": "outer", "guards": []any{composite}})
		h.passes(h.guarded("d", outer), "X-Key", b64("yes"))
		h.as("admin", "PATCH", composite, map[string]any{"guards": []any{composite}}, 400)
		h.as("admin", "PATCH", composite, map[string]any{"guards": []any{outer}}, 400)
		h.passes(h.guarded("e", h.guard("core/composite", map[string]any{"name": "empty"})))
		h.as("admin", "POST", api+"contentguards/core/header/", map[string]any{"name": "rbac", "header_name": "a", "header_value": "b"}, 400)

		h.as("admin", "DELETE", header, nil, 204)
		h.passes(at)
		h.refused(either, `Access forbidden. Refusals: ["Guard: 'rbac', HREF: '`+rbac["pulp_href"].(string)+
			`', class: '<class 'pulpcore.app.models.publication.RBACContentGuard'>', denial: [Authentication credentials were not provided.]."]`)
	})
}

func TestArtifactLinks(t *testing.T) {
	onBoth(t, func(t *testing.T, cfg db.Config) {
		h := begin(t, cfg)
		href := h.upload("some bytes")
		id, err := pulp.ParseID(strings.Split(href, "/")[5])
		if err != nil {
			t.Fatal(href, err)
		}
		link, err := h.Guards.ArtifactURL(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if status, _, text := h.send("GET", link, ""); status != 200 || text != "some bytes" {
			t.Errorf("GET %s: %d %s", link, status, text)
		}
		path, query, _ := strings.Cut(link, "?")
		const unsigned, expired = "Access not authenticated", "Authentication expired"
		h.refused(path, unsigned)
		h.refused(path+"?expires=1", expired)
		h.refused(path[:len(path)-1]+"0?"+query+"0", unsigned)
		h.refused(path+"?"+strings.Replace(query, "expires=", "expires=9", 1), unsigned)
		h.refused(path+"?a=b&"+query, unsigned)
		h.refused(path+"?expires=99999999999&"+query, unsigned)
		h.refused(path+"?"+strings.Replace(query, ":", "", 1), unsigned)
		h.refused(path+"?"+query[:len(query)-1], unsigned)
		h.refused(path[:strings.LastIndexByte(path, '/')+1]+"?"+query, unsigned)
		list := h.as("admin", "GET", api+"distributions/core/artifacts/", nil, 200)["results"].([]any)
		if len(list) != 1 {
			t.Fatalf("artifact distributions: %v", list)
		}
		if _, _, text := h.send("GET", "/pulp/content/", ""); strings.Contains(text, list[0].(map[string]any)["base_path"].(string)) {
			t.Error("the artifact distribution is listed")
		}
		h.ahead.Store(3700)
		h.refused(link, expired)
		h.ahead.Store(0)
		h.as("admin", "DELETE", list[0].(map[string]any)["content_guard"].(string), nil, 204)
		if status, _, text := h.send("GET", path, ""); status != 404 {
			t.Errorf("an artifact without a guard: %d %s, want 404", status, text)
		}
		if again, err := h.Guards.ArtifactURL(t.Context(), id); err != nil || strings.HasPrefix(again, path) {
			t.Errorf("ArtifactURL after its guard was deleted: %s, %v", again, err)
		}
		if _, err := h.Guards.ArtifactURL(t.Context(), pulp.NewID()); err == nil {
			t.Error("a link to an artifact that is not there")
		}
	})
}

// upload stores an artifact and returns its href.
func (h *house) upload(content string) string {
	h.Helper()
	const body = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n%\r\n--b--\r\n"
	r, err := http.NewRequestWithContext(h.Context(), "POST", h.url+api+"artifacts/", strings.NewReader(strings.Replace(body, "%", content, 1)))
	if err != nil {
		h.Fatal(err)
	}
	r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	r.Header.Set("X-User", "admin")
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		h.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	var o struct {
		Href string `json:"pulp_href"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&o); err != nil || o.Href == "" {
		h.Fatal("upload: ", resp.Status, err)
	}
	return o.Href
}

// authority is who signs certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func certificateOf(t *testing.T, c *x509.Certificate, by *authority) (pemText string, made *authority) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	signer := &authority{key, c}
	if by != nil {
		signer = by
	}
	der, err := x509.CreateCertificate(rand.Reader, c, signer.cert, &key.PublicKey, signer.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), &authority{key, c}
}

func ca(name string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
}

func TestCertificateGuards(t *testing.T) {
	onBoth(t, func(t *testing.T, cfg db.Config) {
		h := begin(t, cfg)
		rootText, root := certificateOf(t, ca("root"), nil)
		middleText, middle := certificateOf(t, ca("middle"), root)
		_, other := certificateOf(t, ca("root"), nil) // of the same name
		client := func(by *authority, change func(c *x509.Certificate)) string {
			c := &x509.Certificate{Subject: pkix.Name{CommonName: "client"}}
			if change != nil {
				change(c)
			}
			text, _ := certificateOf(t, c, by)
			return url.QueryEscape(text)
		}
		escape := func(s string) string { return strings.ReplaceAll(s, "+", "%20") }
		for _, bad := range []any{"", nil, "zz", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
			h.as("admin", "POST", api+"contentguards/certguard/x509/", map[string]any{"name": "bad", "ca_certificate": bad}, 400)
		}
		at := h.guarded("x", h.guard("certguard/x509", map[string]any{"name": "x509", "ca_certificate": "a comment\n" + rootText + middleText}))
		const name = "X-Client-Cert"
		good := escape(client(root, nil))
		h.passes(at, name, good)
		h.passes(at, name, escape(client(middle, nil)))
		plain, _ := url.PathUnescape(good)
		h.passes(at, name, strings.ReplaceAll(strings.TrimSpace(plain), "\n", " "))
		h.refused(at, "A client certificate was not received via the `X-CLIENT-CERT` header.")
		h.refused(at, "A client certificate was not received via the `X-CLIENT-CERT` header.", name, good, name, good)
		for _, bad := range []string{"this is not cert data", "%zz", strings.ReplaceAll(plain, "\n", ""), good[:200], escape(url.QueryEscape("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))} {
			h.refused(at, "The client certificate can not be read.", name, bad)
		}
		const untrusted = "Client certificate is not signed by the stored 'ca_certificate'."
		h.refused(at, untrusted, name, escape(client(other, nil)))
		h.refused(at, untrusted, name, escape(client(nil, nil)))
		_, fake := certificateOf(t, &x509.Certificate{Subject: pkix.Name{CommonName: "no authority"}}, root)
		h.refused(at, untrusted, name, escape(client(fake, nil)))
		h.refused(at, untrusted, name, escape(client(root, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		})))
		h.refused(at, "Client certificate is expired.", name, escape(client(root, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		})))

		entitled := func(path string) string {
			return escape(client(root, func(c *x509.Certificate) {
				value, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(path)})
				if err != nil {
					t.Fatal(err)
				}
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 2312, 9, 2, 1583437887307, 1, 6}, Value: value}}
			}))
		}
		rhsm := h.guarded("org/y", h.guard("certguard/rhsm", map[string]any{"name": "rhsm", "ca_certificate": rootText}))
		h.passes(rhsm, name, entitled("/org/y"))
		h.passes(rhsm+"deeper", name, entitled("/$any"))
		const elsewhere = "Requested path is not a subpath of a path in the client certificate."
		h.refused(rhsm, elsewhere, name, entitled("/org/z"))
		h.refused(rhsm, elsewhere, name, entitled("/org/y/deeper"))
		h.refused(rhsm, elsewhere, name, good)
		h.refused(rhsm, untrusted, name, escape(client(other, nil)))
	})
}

// TestForgedIdentity says that who is no trusted proxy can't say who it is.
func TestForgedIdentity(t *testing.T) {
	h := begin(t, db.Config{}, "GRANARY_TRUSTED_PROXIES=10.0.0.0/8")
	for _, header := range [][]string{{"X-User", "admin"}, {"X-Identity", b64(`{"identity":{"user":"admin"}}`)}} {
		if status, _, text := h.send("GET", api+"users/", "", header...); status != 401 {
			t.Errorf("%v: %d %s, want 401", header, status, text)
		}
	}
}

func TestHeaderLogin(t *testing.T) {
	h := begin(t, db.Config{})
	identity := func(s string) []string { return []string{"X-Identity", b64(s)} }
	for _, tc := range []struct {
		name   string
		header []string
		status int
		text   string
	}{
		{"a name", []string{"X-User", "admin"}, 200, ""},
		{"JSON", identity(`{"identity":{"user":"admin"}}`), 200, ""},
		{"a name twice", []string{"X-User", "nobody", "X-User", "admin"}, 401, "Authentication credentials were not provided."},
		{"a name that can be none", []string{"X-User", strings.Repeat("x", 151)}, 401, "Authentication credentials were not provided."},
		{"JSON without a user", identity(`{"identity":{}}`), 401, "Access denied."},
		{"a user that is no text", identity(`{"identity":{"user":1}}`), 401, "Access denied."},
		{"no JSON", identity(`{`), 401, "Access denied. Invalid JSON."},
		{"no base64", []string{"X-Identity", "a"}, 401, "Access denied."},
		{"wrong credentials first", []string{"Authorization", "Basic " + b64("admin:wrong"), "X-User", "admin"}, 401, "Invalid username/password."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, _, text := h.send("GET", api+"users/", "", tc.header...)
			if status != tc.status || tc.text != "" && text != `{"detail":"`+tc.text+`"}` {
				t.Errorf("%d %s, want %d %s", status, text, tc.status, tc.text)
			}
		})
	}
	h.as("newcomer", "GET", api+"tasks/", nil, 200)
	if u := h.as("admin", "GET", api+"users/?username=newcomer", nil, 200); u["count"] != 1.0 {
		t.Errorf("users called newcomer: %v", u)
	}

	known := begin(t, db.Config{}, `PULP_AUTHENTICATION_BACKENDS=["pulpcore.app.authentication.PulpNoCreateRemoteUserBackend"]`)
	known.as("admin", "GET", api+"users/", nil, 200)
	known.as("newcomer", "GET", api+"tasks/", nil, 401)
	none := begin(t, db.Config{}, `PULP_AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.ModelBackend"]`)
	none.as("admin", "GET", api+"users/", nil, 401)
	first := begin(t, db.Config{}, `PULP_REST_FRAMEWORK__DEFAULT_AUTHENTICATION_CLASSES=["rest_framework.authentication.SessionAuthentication","rest_framework.authentication.BasicAuthentication"]`)
	first.as("admin", "GET", api+"users/", nil, 403)
}
