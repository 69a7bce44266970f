package download_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// record answers with nothing and keeps the requests' headers, each with a "Host" and a "Path".
func record(t *testing.T) (url string, headers *[]http.Header) {
	t.Helper()
	var mu sync.Mutex
	headers = new([]http.Header)
	url, _ = serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		h := r.Header.Clone()
		h.Set("Host", r.Host)
		h.Set("Path", r.RequestURI)
		h.Set("Method", r.Method+" "+r.Proto)
		*headers = append(*headers, h)
	})
	return url, headers
}

func TestRequestHeaders(t *testing.T) {
	for _, tc := range []struct {
		name   string
		remote pulp.Remote
		extra  http.Header
		want   http.Header
	}{
		{"defaults", pulp.Remote{}, nil, http.Header{
			"User-Agent": {"granary/1 (test)"}, "Accept": {"*/*"}, "Accept-Encoding": {"gzip, deflate"}, "Authorization": nil, "Method": {"GET HTTP/1.1"}, "Referer": nil,
		}},
		{"of the remote", pulp.Remote{Headers: []map[string]string{{"X-A": "1"}, {"x-a": "2", "User-Agent": "mine/1"}, {"Accept": "text/x"}, {"User-Agent": "mine/2"}}}, nil, http.Header{
			"User-Agent": {"granary/1 (test), mine/1, mine/2"}, "Accept": {"text/x"}, "X-A": {"1", "2"},
		}},
		{"of the request", pulp.Remote{Headers: []map[string]string{{"X-A": "1"}, {"X-B": "1"}}}, http.Header{"x-a": {"3"}}, http.Header{"X-A": {"3"}, "X-B": {"1"}}},
		{"host", pulp.Remote{Headers: []map[string]string{{"Host": "mirror.example"}}}, nil, http.Header{"Host": {"mirror.example"}}},
		{"credentials", pulp.Remote{Username: "üser", Password: "pa:ss "}, nil, http.Header{"Authorization": {"Basic w7xzZXI6cGE6c3Mg"}}},
		{"user without password", pulp.Remote{Username: "user"}, nil, http.Header{"Authorization": nil}},
		{"password without user", pulp.Remote{Password: "pass"}, nil, http.Header{"Authorization": nil}},
		{"token of the remote", pulp.Remote{Username: "u", Password: "p", Headers: []map[string]string{{"Authorization": "Bearer r"}}}, nil, http.Header{"Authorization": {"Bearer r"}}},
		{"token of the request", pulp.Remote{Username: "u", Password: "p", Headers: []map[string]string{{"Authorization": "Bearer r"}}}, http.Header{"authorization": {"Bearer q"}}, http.Header{"Authorization": {"Bearer q"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			url, got := record(t)
			if _, _, err := newClient(t, tc.remote, quick(nil)).Bytes(t.Context(), download.Request{URL: url, Header: tc.extra}); err != nil {
				t.Fatal(err)
			}
			for name, want := range tc.want {
				if d := cmp.Diff(want, (*got)[0][name]); d != "" {
					t.Errorf("%s: %s", name, d)
				}
			}
		})
	}
}

func TestInvalidHeaders(t *testing.T) {
	for _, h := range []map[string]string{{"X A": "1"}, {"": "1"}, {"X-A": "1\r\nX-B: 2"}, {"X\n": "1"}, {"é": "1"}} {
		_, err := download.New(pulp.Remote{Headers: []map[string]string{h}}, download.Options{})
		if !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", h, err)
		}
	}
}

func TestRequestTargets(t *testing.T) {
	for _, tc := range []struct{ path, want string }{
		{"/a%20b/c d/é", "/a%20b/c%20d/%C3%A9"},
		{"/100%.txt", "/100%25.txt"},
		{"/%zz?x=%zz", "/%25zz?x=%25zz"},
		{"/a?x=a b&y=%2F&z=é", "/a?x=a%20b&y=%2F&z=%C3%A9"},
		{"/a%2Fb+c~d%7Ee", "/a%2Fb+c~d%7Ee"},
		{"/a#b", "/a"},
		{"?q", "/?q"},
		{"", "/"},
	} {
		url, got := record(t)
		if _, _, err := newClient(t, pulp.Remote{}, quick(nil)).Bytes(t.Context(), download.Request{URL: url + tc.path}); err != nil {
			t.Fatal(err)
		}
		if path := (*got)[0].Get("Path"); path != tc.want {
			t.Errorf("%s is asked for as %s, want %s", tc.path, path, tc.want)
		}
	}
}

func TestCredentialsOfTheURL(t *testing.T) {
	url, got := record(t)
	c := newClient(t, pulp.Remote{Username: "u", Password: "p"}, quick(nil))
	resp, err := c.Get(t.Context(), download.Request{URL: strings.Replace(url, "://", "://me:secret@", 1)}, newStage(t))
	if err != nil {
		t.Fatal(err)
	}
	if auth := (*got)[0].Get("Authorization"); auth != "Basic bWU6c2VjcmV0" {
		t.Errorf("Authorization %q", auth)
	}
	if strings.Contains(resp.URL, "secret") {
		t.Errorf("response has URL %s", resp.URL)
	}
}

func TestMethodAndBody(t *testing.T) {
	for _, tc := range []struct{ method, path, want string }{
		{"POST", "/307", "[POST /307 x=1 POST /end x=1]"},
		{"POST", "/302", "[POST /302 x=1 GET /end ]"},
		{"POST", "/busy", "[POST /busy x=1 POST /busy x=1]"},
	} {
		var got []string
		url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			got = append(got, r.Method+" "+r.URL.Path+" "+string(b))
			switch {
			case r.URL.Path == "/307":
				http.Redirect(w, r, "/end", 307)
			case r.URL.Path == "/302":
				http.Redirect(w, r, "/end", 302)
			case r.URL.Path == "/busy" && len(got) == 1:
				w.WriteHeader(503)
			}
		})
		_, _, err := newClient(t, pulp.Remote{}, quick(nil)).Bytes(t.Context(), download.Request{URL: url + tc.path, Method: tc.method, Body: []byte("x=1")})
		if err != nil || fmt.Sprint(got) != tc.want {
			t.Errorf("%s %s: %v %v, want %s", tc.method, tc.path, got, err, tc.want)
		}
	}
}

func TestHead(t *testing.T) {
	url, _ := serve(t, answer(content))
	c := newClient(t, pulp.Remote{}, quick(nil))
	_, resp, err := c.Bytes(t.Context(), download.Request{URL: url, Method: "HEAD", Size: int64(len(content)), Digests: sums(content), MaxSize: 5})
	if err != nil || resp.Header.Get("Content-Length") != fmt.Sprint(len(content)) {
		t.Errorf("%+v, %v", resp, err)
	}
}

// TestRedirectToAnotherOrigin has two servers, which differ in their port.
func TestRedirectToAnotherOrigin(t *testing.T) {
	other, got := record(t)
	var first http.Header
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		first = r.Header
		http.Redirect(w, r, other+"/b?X-Amz-Signature=a%2Fb%20c&y=%7e", http.StatusFound)
	})
	for _, tc := range []struct {
		name   string
		remote pulp.Remote
		extra  http.Header
	}{
		{"password", pulp.Remote{Username: "u", Password: "p"}, nil},
		{"header", pulp.Remote{Headers: []map[string]string{{"Authorization": "Bearer x"}}}, nil},
		{"header of the request", pulp.Remote{}, http.Header{"authorization": {"Bearer x"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			*got, first = nil, nil
			tc.remote.Headers = append(tc.remote.Headers, map[string]string{"X-A": "1", "Cookie": "a=b", "Host": "first.example"})
			_, resp, err := newClient(t, tc.remote, quick(nil)).Bytes(t.Context(), download.Request{URL: url + "/a", Header: tc.extra})
			if err != nil {
				t.Fatal(err)
			}
			if first.Get("Authorization") == "" || first.Get("Cookie") == "" {
				t.Error("the first server was not told the credentials")
			}
			h := (*got)[0]
			if h.Get("Authorization") != "" || h.Get("Cookie") != "" || h.Get("X-A") != "1" || h.Get("Host") != strings.TrimPrefix(other, "http://") {
				t.Errorf("the second server was told %v", h)
			}
			if want := "/b?X-Amz-Signature=a%2Fb%20c&y=%7e"; h.Get("Path") != want {
				t.Errorf("asked for %s, want %s", h.Get("Path"), want)
			}
			if want := other + "/b?X-Amz-Signature=***&y=%7e"; resp.URL != want {
				t.Errorf("response has URL %s, want %s", resp.URL, want)
			}
		})
	}
}

func TestRedirectWithinTheOrigin(t *testing.T) {
	var auth []string
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		auth = append(auth, r.URL.Path+" "+r.Header.Get("Authorization"))
		if r.URL.Path == "/a/b" {
			http.Redirect(w, r, "../c", http.StatusTemporaryRedirect)
		}
	})
	if _, _, err := newClient(t, pulp.Remote{Username: "u", Password: "p"}, quick(nil)).Bytes(t.Context(), download.Request{URL: url + "/a/b"}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"/a/b Basic dTpw", "/c Basic dTpw"}, auth); d != "" {
		t.Error(d)
	}
}

// TestRedirectBack has a server that sends the client away, to one that sends it back: the credentials stay away.
func TestRedirectBack(t *testing.T) {
	var home string
	away, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, home+"/b", 302) })
	var auth []string
	home, _ = serve(t, func(w http.ResponseWriter, r *http.Request) {
		auth = append(auth, r.Header.Get("Authorization"))
		if r.URL.Path == "/a" {
			http.Redirect(w, r, away, 302)
		}
	})
	if _, _, err := newClient(t, pulp.Remote{Username: "u", Password: "p"}, quick(nil)).Bytes(t.Context(), download.Request{URL: home + "/a"}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"Basic dTpw", ""}, auth); d != "" {
		t.Error(d)
	}
}

func TestNumberOfRedirects(t *testing.T) {
	url, n := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var left int
		if fmt.Sscanf(r.URL.Path, "/%d", &left); left > 0 {
			http.Redirect(w, r, fmt.Sprintf("/%d", left-1), 301)
		}
	})
	c := newClient(t, pulp.Remote{}, quick(nil))
	if _, resp, err := c.Bytes(t.Context(), download.Request{URL: url + "/10"}); err != nil || resp.URL != url+"/0" {
		t.Errorf("10 redirects: %v", err)
	}
	n.Store(0)
	_, _, err := c.Bytes(t.Context(), download.Request{URL: url + "/11"})
	if reason(err) != download.Redirects || errs.Describe(err) != "0, message='Too many redirects', url='"+url+"/11'" || n.Load() != 11 {
		t.Errorf("11 redirects: %v after %d requests", err, n.Load())
	}
}

func TestRedirectsThatAreRefused(t *testing.T) {
	for _, location := range []string{"ftp://h/x", "file:///etc/passwd", "gopher:x", "http:///x", "http://[::1/"} {
		url, n := serve(t, status(302, "Location", location))
		_, _, err := newClient(t, pulp.Remote{}, quick(nil)).Bytes(t.Context(), download.Request{URL: url})
		if reason(err) != download.Scheme || errs.Describe(err) != "URL: "+location+" not supported." || n.Load() != 1 {
			t.Errorf("%s: %v after %d requests", location, err, n.Load())
		}
	}
}

func TestLocations(t *testing.T) {
	for _, tc := range []struct{ location, want string }{
		{"/b", "/b"},
		{"b c", "/a/b%20c"},
		{"../b?x=%2F#f", "/b?x=%2F"},
		{"?q=http://h/", "/a/x?q=http://h/"},
		{"//HOST/b", "/b"},
		{"http://HOST/b%2Fc//d/../e", "/b%2Fc//d/../e"},
		{"HTTP://HOST", "/"},
	} {
		var last string
		url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if last = r.RequestURI; last == "/a/x" {
				w.Header().Set("Location", strings.ReplaceAll(tc.location, "HOST", r.Host))
				w.WriteHeader(302)
			}
		})
		if _, _, err := newClient(t, pulp.Remote{}, quick(nil)).Bytes(t.Context(), download.Request{URL: url + "/a/x"}); err != nil || last != tc.want {
			t.Errorf("%s leads to %s, want %s: %v", tc.location, last, tc.want, err)
		}
	}
}

func TestErrorOfARedirectNamesItsTarget(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/a" {
			http.Redirect(w, r, "/b?sig=secret&x=1", 302)
			return
		}
		w.WriteHeader(404)
	})
	_, _, err := newClient(t, pulp.Remote{}, quick(nil)).Bytes(t.Context(), download.Request{URL: url + "/a"})
	if got, want := errs.Describe(err), "404, message='Not Found', url='"+url+"/b?sig=***&x=1'"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCookiesLiveAsLongAsTheClient(t *testing.T) {
	var got []string
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Cookie"))
		if r.URL.Path == "/login" {
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "1", Path: "/"})
			http.Redirect(w, r, "/in", 302)
		}
	})
	for range 2 {
		c := newClient(t, pulp.Remote{}, quick(nil))
		c.Bytes(t.Context(), download.Request{URL: url + "/login"})
		c.Bytes(t.Context(), download.Request{URL: url + "/more"})
	}
	if d := cmp.Diff([]string{"", "session=1", "session=1", "", "session=1", "session=1"}, got); d != "" {
		t.Error(d)
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	var mu sync.Mutex
	opened := 0
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/404" {
			http.Error(w, "there is no such file", 404)
			return
		}
		answer(content)(w, r)
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if s == http.StateNew {
			opened++
		}
	}
	srv.Start()
	defer srv.Close()
	c := newClient(t, pulp.Remote{}, quick(nil))
	for _, path := range []string{"/a", "/404", "/b", "/404", "/c"} {
		c.Bytes(t.Context(), download.Request{URL: srv.URL + path})
	}
	if opened != 1 {
		t.Errorf("%d connections, want 1", opened)
	}
}

func gzipped(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(b)
	w.Close()
	return buf.Bytes()
}

func zlibbed(b []byte) []byte {
	var buf bytes.Buffer
	w := zlib.NewWriter(&buf)
	w.Write(b)
	w.Close()
	return buf.Bytes()
}

func deflated(b []byte) []byte {
	var buf bytes.Buffer
	w, _ := flate.NewWriter(&buf, 5)
	w.Write(b)
	w.Close()
	return buf.Bytes()
}

func encoded(encoding string, b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", encoding)
		answer(b)(w, r)
	}
}

func TestContentEncoding(t *testing.T) {
	gz := gzipped(content)
	for _, tc := range []struct {
		name     string
		encoding string
		body     []byte
		want     []byte
		size     int64
		digests  pulp.Digests
		requests int64
	}{
		{"gzip", "gzip", gz, content, int64(len(content)), sums(content), 1},
		{"x-gzip, in capitals", "X-GZIP", gz, content, 0, sums(content), 1},
		{"gzip of two parts", "gzip", append(bytes.Clone(gz), gz...), append(bytes.Clone(content), content...), 0, nil, 1},
		{"gzip, nothing known", "gzip", gz, content, 0, nil, 1},
		{"zlib", "deflate", zlibbed(content), content, 0, sums(content), 1},
		{"bare deflate", "deflate", deflated(content), content, 0, sums(content), 1},
		{"identity", "identity", content, content, 0, sums(content), 1},
		{"empty", "gzip", nil, nil, 0, sums(nil), 1},
		{"a .gz with a label, size known", "gzip", gz, gz, int64(len(gz)), sums(gz), 1},
		{"a .gz with a label", "gzip", gz, gz, 0, sums(gz), 2},
		{"a file that is not compressed with a label", "gzip", content, content, 0, sums(content), 2},
		{"a .gz with a label, only the size known", "gzip", gz, gz, int64(len(gz)), nil, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			url, n := serve(t, encoded(tc.encoding, tc.body))
			s := newStage(t)
			resp, err := newClient(t, pulp.Remote{}, quick(nil)).Get(t.Context(), download.Request{URL: url, Size: tc.size, Digests: tc.digests}, s)
			if err != nil {
				t.Fatal(err)
			}
			if got := staged(t, s); !bytes.Equal(got, tc.want) || resp.Size != int64(len(got)) {
				t.Errorf("%d bytes, want %d", len(got), len(tc.want))
			}
			if n.Load() != tc.requests {
				t.Errorf("%d requests, want %d", n.Load(), tc.requests)
			}
		})
	}
}

// TestLabelledFilesAreNotDownloadedTwiceForEver has a server that labels all .gz files, and compresses nothing.
func TestLabelledFilesAreNotDownloadedTwiceForEver(t *testing.T) {
	gz := gzipped(content)
	url, n := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/text" {
			if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				encoded("gzip", gz)(w, r)
			} else {
				answer(content)(w, r)
			}
			return
		}
		encoded("gzip", gz)(w, r)
	})
	c := newClient(t, pulp.Remote{}, quick(nil))
	for i, want := range []int64{2, 3, 4} {
		if _, err := c.Get(t.Context(), download.Request{URL: url + "/a.gz", Digests: sums(gz)}, newStage(t)); err != nil {
			t.Fatal(err)
		}
		if n.Load() != want {
			t.Errorf("%d requests after file %d, want %d", n.Load(), i+1, want)
		}
	}
	// The server's other files are still right.
	if _, err := c.Get(t.Context(), download.Request{URL: url + "/text", Digests: sums(content)}, newStage(t)); err != nil {
		t.Error(err)
	}
	b, resp, err := c.Bytes(t.Context(), download.Request{URL: url + "/text"})
	if err != nil || !bytes.Equal(b, content) || !resp.Encoded {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestContentEncodingFailures(t *testing.T) {
	gz := gzipped(content)
	wrong := sums([]byte("something else"))
	for _, tc := range []struct {
		name     string
		handler  http.HandlerFunc
		digests  pulp.Digests
		reason   download.Reason
		text     string
		requests int64
	}{
		{"no gzip", encoded("gzip", []byte("not gzip")), nil, download.Broken, "Can not decode content-encoding: gzip", 4},
		{"half a gzip", encoded("gzip", gz[:len(gz)/2]), nil, download.Broken, "Can not decode content-encoding: gzip", 4},
		{"half a body", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			cut(gz, len(gz)/2)(w, r)
		}, sums(content), download.Broken, "Response payload is not completed", 4},
		{"wrong either way", encoded("gzip", gz), wrong, download.Checksum, "A file located at the url URL failed validation due to checksum. " +
			"Expected '" + wrong[pulp.SHA256] + "', Actual '" + sums(content)[pulp.SHA256] + "'", 8},
		{"what was not asked for", encoded("br", []byte("x")), nil, download.Encoding, "Can not decode content-encoding: br", 1},
		{"twice", encoded("gzip, gzip", gz), nil, download.Encoding, "Can not decode content-encoding: gzip, gzip", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			url, n := serve(t, tc.handler)
			_, err := newClient(t, pulp.Remote{}, quick(nil)).Get(t.Context(), download.Request{URL: url, Digests: tc.digests}, newStage(t))
			if want := strings.ReplaceAll(tc.text, "URL", url); reason(err) != tc.reason || errs.Describe(err) != want {
				t.Errorf("got  %v %v\nwant %v %s", reason(err), errs.Describe(err), tc.reason, want)
			}
			if n.Load() != tc.requests {
				t.Errorf("%d requests, want %d", n.Load(), tc.requests)
			}
		})
	}
}

// TestDecompressionBomb has a few bytes that become very many.
func TestDecompressionBomb(t *testing.T) {
	bomb := bytes.Repeat(gzipped(make([]byte, 1<<20)), 17) // more than memory may hold
	url, _ := serve(t, encoded("gzip", bomb))
	c := newClient(t, pulp.Remote{}, quick(nil))
	if _, _, err := c.Bytes(t.Context(), download.Request{URL: url}); reason(err) != download.TooLarge {
		t.Errorf("in memory: %v", err)
	}
	s := newStage(t)
	if _, err := c.Get(t.Context(), download.Request{URL: url, Size: 1000}, s); reason(err) != download.Size || s.Size() > 2<<20 {
		t.Errorf("of a known size: %v, %d bytes stored", err, s.Size())
	}
}

func TestAddressPolicy(t *testing.T) {
	url, n := serve(t, answer(nil))
	o := quick(nil)
	var asked []netip.AddrPort
	deny := false
	o.AllowAddr = func(a netip.AddrPort) error {
		asked = append(asked, a)
		if deny {
			return fmt.Errorf("loopback")
		}
		return nil
	}
	if _, _, err := newClient(t, pulp.Remote{}, o).Bytes(t.Context(), download.Request{URL: url}); err != nil {
		t.Error(err)
	}
	deny = true
	_, _, err := newClient(t, pulp.Remote{}, o).Bytes(t.Context(), download.Request{URL: url + "/x"})
	e, _ := err.(*download.Error)
	if reason(err) != download.Forbidden || e.URL != url+"/x" || errs.Describe(err) != "Connections to "+strings.TrimPrefix(url, "http://")+" are not allowed." {
		t.Error(err)
	}
	if n.Load() != 1 || len(asked) != 2 || !asked[0].Addr().IsLoopback() {
		t.Errorf("%d requests, asked about %v", n.Load(), asked)
	}
}

// TestSecretsAreNotShown lets downloads fail in many ways and looks at all that is said of it.
func TestSecretsAreNotShown(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, "http://me:hunter2@127.0.0.1:1/?X-Amz-Signature=hunter2&hunter2", 302)
		case "/ftp":
			w.Header().Set("Location", "ftp://me:hunter2@h/?token=hunter2")
			w.WriteHeader(302)
		case "/slow":
			<-r.Context().Done()
		case "/half":
			cut(content, 3)(w, r)
		case "/wrong":
			answer(content)(w, r)
		default:
			w.WriteHeader(500)
		}
	})
	var log bytes.Buffer
	o := quick(nil)
	o.Secrets = []string{"hunter2"}
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	remote := pulp.Remote{
		Username: "me", Password: "hunter2", ProxyUsername: "hunter2", ProxyPassword: "hunter2", MaxRetries: 1, SockReadTimeout: 0.05,
		Headers: []map[string]string{{"X-Token": "hunter2"}},
	}
	for _, path := range []string{"/away", "/ftp", "/slow", "/half", "/wrong", "/other"} {
		with := strings.Replace(url, "://", "://me:hunter2@", 1) + path + "?hunter2&password=hunter2"
		_, err := newClient(t, remote, o).Get(t.Context(), download.Request{URL: with, Digests: sums(nil)}, newStage(t))
		e, ok := err.(*download.Error)
		if !ok {
			t.Fatalf("%s: %v", path, err)
		}
		if s := err.Error() + errs.Describe(err) + e.URL + fmt.Sprint(e.Err); strings.Contains(s, "hunter2") {
			t.Errorf("%s: %s", path, s)
		}
	}
	remote.ProxyURL = "http://127.0.0.1:1"
	_, err := newClient(t, remote, o).Get(t.Context(), download.Request{URL: "http://me:hunter2@h/?sig=hunter2"}, newStage(t))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
	if strings.Contains(log.String(), "hunter2") || !strings.Contains(log.String(), "trying again") {
		t.Error(log.String())
	}
	_, err = download.New(pulp.Remote{ProxyURL: "ftp://me:hunter2@h"}, o)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
	e := download.Check("http://me:hunter2@h/?sig=hunter2", nil, 5, nil, 4)
	if e == nil || strings.Contains(e.Error(), "hunter2") {
		t.Error(e)
	}
}

func TestErrorsTextIsNotAwaitedForLong(t *testing.T) {
	inBubble(t, pulp.Remote{}, download.Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100") // of a text that never comes
		w.WriteHeader(404)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}, func(t *testing.T, c *download.Client) {
		begin := time.Now()
		_, _, err := c.Bytes(t.Context(), download.Request{URL: "http://up/x"})
		if reason(err) != download.Status || time.Since(begin) > time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}
