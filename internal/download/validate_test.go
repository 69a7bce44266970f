package download_test

import (
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pulp"
)

//go:embed testdata/one.pem
var one string

//go:embed testdata/two.pem
var two string

// fields returns the error's fields, nil if there is none.
func fields(err error) map[string]any {
	if err == nil {
		return nil
	}
	m, _ := errs.Body(err).(map[string]any)
	return m
}

func TestValidateURL(t *testing.T) {
	const credentials = "The remote url contains username or password. Please use remote username or password instead."
	for _, tc := range []struct{ url, want string }{
		{"http://example.com/PULP_MANIFEST", ""},
		{"http://user:pass@example.com/x", credentials},
		{"http://user@example.com/x", credentials},
		{"http://:p@h/x", credentials},
		{"HTTPS://u@h", credentials},
		{"ftp://u@h?a", credentials},
		{"http://u@v@h", credentials},
		{"http://@h/", ""},
		{"http://h/a@b", ""},
		{"http://h?u=a@b", ""},
		{"http://h#a@b", ""},
		{"a@b", ""},
		{"mailto:a@b", ""},
		{"ftp://x/y", ""},
		{"nonsense", ""},
		{"http://exa mple/", ""},
		{"http://h:abc/", ""},
		{"http://[::1]:80/", ""},
		{"http://[::1/", "Enter a valid URL."},
		{"file://relative", "The path 'relative' needs to be an absolute pathname."},
		{"file:///etc/pass wd%20?x#y", "The path '/etc/pass wd%20?x#y' does not start with any of the allowed import paths"},
		{"file:////etc", "The path '//etc' does not start with any of the allowed import paths"},
		{"file:///mnt/ab", "The path '/mnt/ab' does not start with any of the allowed import paths"},
		{"file:///mnt/a/b", ""},
		{"file:///mnt/a", ""},
	} {
		var want map[string]any
		if tc.want != "" {
			want = map[string]any{"url": []string{tc.want}}
		}
		if d := cmp.Diff(want, fields(download.ValidateURL(tc.url, []string{"/mnt/a"}))); d != "" {
			t.Errorf("%s: %s", tc.url, d)
		}
	}
}

func TestValidateProxy(t *testing.T) {
	for _, tc := range []struct{ url, user, password, field, want string }{
		{"", "", "", "", ""},
		{"http://h:3128", "", "", "", ""},
		{"http://h", "a", "b", "", ""},
		{"http://u:p@h:1", "", "", "proxy_url", "proxy_url must not contain credentials"},
		{"http://h/a@b", "a", "", "proxy_url", "proxy_url must not contain credentials"},
		{"", "a", "", errs.NonField, "proxy credentials cannot be specified without a proxy"},
		{"", "", "a", errs.NonField, "proxy credentials cannot be specified without a proxy"},
		{"", "a", "b", errs.NonField, "proxy credentials cannot be specified without a proxy"},
		{"http://h", "a", "", errs.NonField, "proxy username and password can only be specified together"},
		{"http://h", "", "b", errs.NonField, "proxy username and password can only be specified together"},
	} {
		var want map[string]any
		if tc.want != "" {
			want = map[string]any{tc.field: []string{tc.want}}
		}
		if d := cmp.Diff(want, fields(download.ValidateProxy(tc.url, tc.user, tc.password))); d != "" {
			t.Errorf("%q, %q, %q: %s", tc.url, tc.user, tc.password, d)
		}
	}
}

const (
	bogus   = "-----BEGIN CERTIFICATE-----\nBOGUS==\n-----END CERTIFICATE-----\n"
	keyText = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
)

func TestCleanPEM(t *testing.T) {
	crlf := strings.ReplaceAll(one, "\n", "\r\n")
	for _, tc := range []struct{ name, in, want string }{
		{"one", one, one},
		{"without the last newline", strings.TrimSpace(one), one},
		{"two", one + two, one + two},
		{"the same twice", one + one, one + one},
		{"text before", "saydas Intermédiaire CA\n" + one, one},
		{"text everywhere", "a\n" + one + "b\n\n" + two + "c", one + two},
		{"text on the same line", "abc " + strings.TrimSpace(one) + " xyz", one},
		{"without a newline between", strings.TrimSpace(one) + two, one + two},
		{"a key before", keyText + one, one},
		{"CRLF", crlf, strings.TrimSpace(crlf) + "\n"},
		{"all on one line", strings.ReplaceAll(one, "\n", ""), strings.ReplaceAll(one, "\n", "") + "\n"},
		{"PEM header", strings.Replace(one, "-----\n", "-----\nX: y\n\n", 1), strings.Replace(one, "-----\n", "-----\nX: y\n\n", 1)},
		{"a blank inside", strings.Replace(one, "MIICoDCC", "MIIC oDCC", 1), strings.Replace(one, "MIICoDCC", "MIIC oDCC", 1)},
	} {
		got, err := download.CleanPEM("ca_cert", tc.in)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		} else if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s: %s", tc.name, d)
		}
		// What is clean can be used.
		c, err := download.New(pulp.Remote{CACert: got}, download.Options{})
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		c.Close()
	}
}

func TestCleanPEMFailures(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"text", "foo", "No client_cert specified in string foo"},
		{"nothing", "", "No client_cert specified in string "},
		{"no frame", strings.Split(one, "\n")[1], "No client_cert specified in string " + strings.Split(one, "\n")[1]},
		{"no end", "-----BEGIN CERTIFICATE-----\nAAAA\n", "No client_cert specified in string -----BEGIN CERTIFICATE-----\nAAAA\n"},
		{"another kind", strings.ReplaceAll(bogus, "CERTIFICATE", "X509 CRL"), "No client_cert specified in string " + strings.ReplaceAll(bogus, "CERTIFICATE", "X509 CRL")},
		{"a key", keyText, "No client_cert specified in string with a private key"},
		{"bogus", bogus, "Invalid client_cert specified, error 'malformed PEM data'"},
		{"good and bogus", one + bogus, "Invalid client_cert specified, error 'malformed PEM data'"},
		{"bogus and good", bogus + one, "Invalid client_cert specified, error 'malformed PEM data'"},
		{"good and half", one + two[:300], "Invalid client_cert specified, error 'the last certificate has no end'"},
		{"two beginnings", "-----BEGIN CERTIFICATE-----\nAAAA\n" + one, "Invalid client_cert specified, error 'malformed PEM data'"},
		{"no padding", strings.Replace(one, "IwtfRg==", "IwtfRg", 1), "Invalid client_cert specified, error 'malformed PEM data'"},
		{"blank lines", strings.ReplaceAll(one, "\n", "\n\n"), "Invalid client_cert specified, error 'malformed PEM header'"},
		{"empty", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "Invalid client_cert specified, error 'malformed certificate'"},
		{"no certificate", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "Invalid client_cert specified, error 'malformed tbs certificate'"},
		{"cut off", strings.Replace(one, "IwtfRg==\n", "", 1), "Invalid client_cert specified, error 'malformed certificate'"},
		{"too long", strings.Repeat("x", 2<<20), "Invalid client_cert specified, error 'longer than 1048576 bytes'"},
	} {
		got, err := download.CleanPEM("client_cert", tc.in)
		if d := cmp.Diff(map[string]any{"client_cert": []string{tc.want}}, fields(err)); d != "" || got != "" {
			t.Errorf("%s: %s", tc.name, d)
		}
	}
}

// FuzzCleanPEM checks that what is called clean holds nothing but certificates, and stays as it is.
func FuzzCleanPEM(f *testing.F) {
	for _, s := range []string{one, one + two, "a" + one + "b" + two + "c", bogus, keyText + one, strings.ReplaceAll(one, "\n", "\r\n"), strings.ReplaceAll(one, "\n", ""), one + two[:300]} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		clean, err := download.CleanPEM("ca_cert", text)
		if err != nil {
			if fields(err)["ca_cert"] == nil {
				t.Errorf("not an error of the field: %v", err)
			}
			return
		}
		again, err := download.CleanPEM("ca_cert", clean)
		if err != nil || again != clean {
			t.Errorf("cleaned twice: %v\n%q\n%q", err, clean, again)
		}
		rest := clean
		for rest != "" {
			body, ok := strings.CutPrefix(rest, "-----BEGIN CERTIFICATE-----")
			if !ok {
				t.Fatalf("something stands before a certificate: %q", rest)
			}
			if _, rest, ok = strings.Cut(body, "-----END CERTIFICATE-----\n"); !ok {
				t.Fatalf("a certificate does not end: %q", body)
			}
		}
		if b, _ := pem.Decode([]byte(text)); b != nil && b.Type == "CERTIFICATE" && len(b.Headers) == 0 {
			if _, err := x509.ParseCertificate(b.Bytes); err != nil {
				t.Errorf("taken for a certificate: %v", err)
			}
		}
		c, err := download.New(pulp.Remote{CACert: clean}, download.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}
