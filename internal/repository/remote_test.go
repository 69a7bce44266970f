package repository_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"granary/internal/repository/repositorytest"
)

// certificate is one that nobody trusts.
const certificate = `-----BEGIN CERTIFICATE-----
MIIBgTCCASegAwIBAgIUYo5m0zKjHO5cJqYR+qBZqgTqRlYwCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKc2lkZWJ5c2lkZTAgFw0yNjExMjQyMzM2MDZaGA8yMTI2MTAz
MTIzMzYwNlowFTETMBEGA1UEAwwKc2lkZWJ5c2lkZTBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABHR+aST2sMuz+Kd51JMatuLjvirke6HhVENrdsyLuGMfkU5XUIQm
MuTbHpb9A3uJqdq06TOMXktec+2JwDteb/ejUzBRMB0GA1UdDgQWBBTma57A/8t6
dZFJrjbIeTr/8Ot/6TAfBgNVHSMEGDAWgBTma57A/8t6dZFJrjbIeTr/8Ot/6TAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIEs5fXZe3j/iCDrmmj5o
OiJqJF++rGsAR0z6UbikBpRgAiEAiCLZgSgNVIAje7FmanfH19SR0mxw/bB1Cj7L
RtrAfyE=
-----END CERTIFICATE-----
`

func TestRemotes(t *testing.T) {
	both(t, func(w *world) {
		made := w.Create(remotes, body(
			"name", "r", "url", " http://localhost/x ", "policy", "on_demand", "ca_cert", "before\n"+certificate+"after", "client_key", "private",
			"proxy_url", "http://proxy", "proxy_username", "pu", "proxy_password", " pp ", "username", "u", "password", " p ", "total_timeout", 2, "headers", []any{object{"A": "b"}, object{"C": 5}},
			"rate_limit", 7, "max_retries", 0, "download_concurrency", 3, "tls_validation", false))
		href := repositorytest.Href(made)
		for field, want := range map[string]any{
			"url": "http://localhost/x", "ca_cert": certificate, "client_cert": nil, "total_timeout": 2.0, "tls_validation": false, "headers": []any{object{"A": "b"}, object{"C": 5.0}},
			"hidden_fields": []any{
				object{"name": "client_key", "is_set": true},
				object{"name": "proxy_username", "is_set": true},
				object{"name": "proxy_password", "is_set": true},
				object{"name": "username", "is_set": true},
				object{"name": "password", "is_set": true},
			},
		} {
			if diff := cmp.Diff(want, made[field]); diff != "" {
				w.Errorf("%s: %s", field, diff)
			}
		}
		for _, secret := range []string{"client_key", "proxy_username", "proxy_password", "username", "password"} {
			if _, shown := made[secret]; shown {
				w.Errorf("%s is shown", secret)
			}
		}
		got, err := w.Repos.Remote(w.Context(), w.DB, idOf(w, href))
		if err != nil {
			w.Fatal(err)
		}
		if got.Type != "file.fileremote" || got.ClientKey != "private" || got.Username != "u" || got.Password != " p " || got.ProxyPassword != " pp " || !got.InsecureTLS ||
			got.Concurrency != 3 || got.RateLimit != 7 || got.TotalTimeout != 2 || !cmp.Equal(got.Headers, []map[string]string{{"A": "b"}, {"C": "5"}}) {
			w.Errorf("for the downloader: %+v", got)
		}

		w.Run("PATCH", href, body("username", nil, "password", nil))
		if got := w.Get(href)["hidden_fields"].([]any)[3]; !cmp.Equal(got, object{"name": "username", "is_set": false}) {
			w.Errorf("a cleared name: %v", got)
		}
		if status, _ := w.Do("PATCH", href, body("proxy_password", " pp ")); status != 200 {
			w.Errorf("the same password = %d, want 200", status)
		}
		const together = `{"non_field_errors":["proxy username and password can only be specified together"]}`
		w.Refused("PATCH", href, body("proxy_url", nil), `{"non_field_errors":["proxy credentials cannot be specified without a proxy"]}`)
		w.Refused("PATCH", href, body("proxy_username", nil), together)
		w.Run("PUT", href, body("name", "r", "url", "http://localhost/x"))
		if got := w.Get(href); got["policy"] != "immediate" || got["ca_cert"] != certificate || got["total_timeout"] != 2.0 || got["tls_validation"] != false {
			w.Errorf("after PUT: %v", got)
		}

		folder := filepath.Dir(filepath.Dir(w.Media)) // not below the import paths
		for _, tc := range []struct {
			field string
			value any
			want  string
		}{
			{"url", "http://user:secret@host/x", `{"url":["The remote url contains username or password. Please use remote username or password instead."]}`},
			{"url", "file:///etc/passwd", `{"url":["The path '/etc/passwd' does not start with any of the allowed import paths"]}`},
			{"url", "file://etc/passwd", `{"url":["The path 'etc/passwd' needs to be an absolute pathname."]}`},
			{"url", "file://" + folder + "/..", `{"url":["The path '` + folder + `/..' does not start with any of the allowed import paths"]}`},
			{"url", "", `{"url":["This field may not be blank."]}`},
			{"policy", "", `{"policy":["\"\" is not a valid choice."]}`},
			{"policy", nil, `{"policy":["This field may not be null."]}`},
			{"ca_cert", "foo", `{"ca_cert":["No ca_cert specified in string foo"]}`},
			{"client_cert", "foo", `{"client_cert":["No client_cert specified in string foo"]}`},
			{"ca_cert", "", `{"ca_cert":["This field may not be blank."]}`},
			{"proxy_url", "http://u:p@proxy", `{"proxy_url":["proxy_url must not contain credentials"]}`},
			{"proxy_username", "u", `{"non_field_errors":["proxy credentials cannot be specified without a proxy"]}`},
			{"download_concurrency", 0, `{"download_concurrency":["Ensure this value is greater than or equal to 1."]}`},
			{"rate_limit", -5, `{"rate_limit":["Ensure this value is greater than or equal to 0."]}`},
			{"max_retries", 2147483648, `{"max_retries":["Ensure this value is less than or equal to 2147483647."]}`},
			{"total_timeout", -1, `{"total_timeout":["Ensure this value is greater than or equal to 0.0."]}`},
			{"connect_timeout", "x", `{"connect_timeout":["A valid number is required."]}`},
			{"headers", object{"a": "b"}, `{"headers":["Expected a list of items but got type \"dict\"."]}`},
			{"headers", []any{"x", object{}}, `{"headers":{"0":["Expected a dictionary of items but got type \"str\"."]}}`},
			{"name", "r", `{"name":["This field must be unique."]}`},
			{"zzz", 1, `{"zzz":["Unexpected field"]}`},
		} {
			b := body("name", "x", "url", "http://localhost/x")
			b[tc.field] = tc.value
			w.Refused("POST", root+remotes, b, tc.want)
		}
		// types are kept apart
		strange := w.Create(otherRemotes, body("name", "strange", "url", "http://localhost/x", "policy", "on_demand"))
		for list, want := range map[string][]string{remotes: {"r"}, otherRemotes: {"strange"}, "remotes/": {"strange", "r"}} {
			if got := w.Names("name", list); !cmp.Equal(got, want) {
				w.Errorf("%s shows %q, want %q", list, got, want)
			}
		}
		if got := w.Names("name", "remotes/", "pulp_type", "file.file"); !cmp.Equal(got, []string{"r"}) {
			w.Errorf("of one type: %q", got)
		}
		w.Gone(root + remotes + repositorytest.ID(repositorytest.Href(strange)) + "/")
		repo := w.repository("repo")
		w.Refused("PATCH", repo, body("remote", repositorytest.Href(strange)), `{"remote":["Type for Remote 'strange' does not match Repository."]}`)
		w.Refused("POST", repo+"sync/", body("remote", repositorytest.Href(strange)),
			`{"remote":["Type for Remote '`+strange["prn"].(string)+`' does not match Repository 'prn:file.filerepository:`+repositorytest.ID(repo)+`'."]}`)
		w.Refused("POST", root+sources, body("name", "x", "remote", repositorytest.Href(strange)), `{"remote":["Type for Remote 'strange' does not match ACS type."]}`)
	})
}

func TestRepositories(t *testing.T) {
	both(t, func(w *world) {
		remote := w.remote("remote", "http://localhost/x")
		repo := w.Create(repositories, body("name", "r", "remote", remote, "description", "d"))
		href := repositorytest.Href(repo)
		for field, want := range map[string]any{
			"versions_href": href + "versions/", "latest_version_href": version(href, 0), "remote": remote, "retain_repo_versions": nil, "autopublish": false, "manifest": "PULP_MANIFEST",
		} {
			if !cmp.Equal(repo[field], want) {
				w.Errorf("%s = %v, want %v", field, repo[field], want)
			}
		}
		w.Refused("POST", root+otherRepositories, body("name", "r"), `{"name":["This field must be unique."]}`) // names are for all types
		w.Refused("POST", root+repositories, body("name", "x", "remote", href), `{"remote":["Invalid hyperlink - Incorrect URL match."]}`)
		w.Refused("POST", root+repositories, body("name", "x", "manifest", ""), `{"manifest":["This field may not be blank."]}`)
		w.Refused("POST", root+repositories, body("name", "x", "manifest", "a/b"), `{"manifest":["A manifest lies at the top: its name can't have a slash in it."]}`)
		w.Refused("POST", root+repositories, body("name", "x", "retain_repo_versions", 2147483648), `{"retain_repo_versions":["Ensure this value is less than or equal to 2147483647."]}`)
		w.Refused("POST", href+"sync/", body("remote", nil), `{"remote":["This field may not be null."]}`)
		bare := w.repository("bare")
		w.Refused("POST", bare+"sync/", nil, `{"remote":["This field is required since a remote is not set on the repository."]}`)

		if got := w.Names("name", repositories, "remote", remote); !cmp.Equal(got, []string{"r"}) {
			w.Errorf("with the remote: %q", got)
		}
		if got := w.Names("name", repositories, "remote", "null"); !cmp.Equal(got, []string{"bare"}) {
			w.Errorf("without a remote: %q", got)
		}
		repositorytest.Href(w.Create(otherRepositories, body("name", "other")))
		if got := w.Names("name", "repositories/", "ordering", "name"); !cmp.Equal(got, []string{"bare", "other", "r"}) {
			w.Errorf("of all types: %q", got)
		}
		for _, o := range w.List("repositories/", "name", "other") {
			if h := repositorytest.Href(o); !strings.HasPrefix(h, root+otherRepositories) || o["latest_version_href"] != version(h, 0) {
				w.Errorf("of another type: %v", o)
			}
		}
		w.Run("DELETE", remote, nil)
		if got := w.Get(href)["remote"]; got != nil {
			w.Errorf("of a deleted remote: %v, want null", got)
		}
		w.Run("PUT", href, body("name", "r2", "autopublish", true, "manifest", nil))
		w.Run("PUT", href, body("name", "r2"))
		if got := w.Get(href); got["autopublish"] != false || got["manifest"] != "PULP_MANIFEST" || got["description"] != "d" {
			w.Errorf("after PUT: %v", got)
		}
	})
}

// TestEqualNamesAtOnce makes repositories of one name from two processes.
func TestEqualNamesAtOnce(t *testing.T) {
	twoProcesses(t, func(worlds [2]*world) {
		w := worlds[0]
		for round := range 6 {
			var wg sync.WaitGroup
			var mu sync.Mutex
			answers := map[string]int{}
			for i := range 6 {
				wg.Go(func() {
					path := []string{repositories, otherRepositories}[i/2%2] // names are for all types
					status, text := worlds[i%2].Do("POST", root+path, body("name", fmt.Sprint("r", round)))
					if status == 201 {
						text = ""
					}
					mu.Lock()
					defer mu.Unlock()
					answers[fmt.Sprint(status, text)]++
				})
			}
			wg.Wait()
			if want := map[string]int{"201": 1, `400{"name":["This field must be unique."]}`: 5}; !cmp.Equal(answers, want) {
				w.Errorf("answers %v, want %v", answers, want)
			}
		}
	})
}
