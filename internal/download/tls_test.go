package download_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, pemOf("CERTIFICATE", der)}
}

// sign returns a certificate and its key. The hosts are names or addresses.
func (a *authority) sign(t *testing.T, name string, hosts ...string) (cert, key string) {
	t.Helper()
	k := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("CERTIFICATE", der), pemOf("PRIVATE KEY", pkcs8)
}

// serveTLS starts a server with a certificate of the authority for the hosts. With clients set, it wants
// certificates of that authority.
func serveTLS(t *testing.T, a *authority, clients *authority, h http.Handler, hosts ...string) *httptest.Server {
	t.Helper()
	cert, key := a.sign(t, "server", hosts...)
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients != nil {
		srv.TLS.ClientAuth = tls.RequireAndVerifyClientCert
		srv.TLS.ClientCAs = x509.NewCertPool()
		srv.TLS.ClientCAs.AddCert(clients.cert)
	}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what is tested
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func TestTLS(t *testing.T) {
	ca, other := newAuthority(t, "ours"), newAuthority(t, "other")
	cert, key := ca.sign(t, "client")
	foreign, foreignKey := other.sign(t, "client")
	plain := serveTLS(t, ca, nil, answer(content), "127.0.0.1")
	mutual := serveTLS(t, ca, ca, answer(content), "127.0.0.1")
	elsewhere := serveTLS(t, ca, nil, answer(content), "up.example")
	bare := httptest.NewServer(answer(content))
	t.Cleanup(bare.Close)

	for _, tc := range []struct {
		name   string
		url    string
		remote pulp.Remote
		want   string // the text's part in brackets; empty means success
	}{
		{"unknown authority", plain.URL, pulp.Remote{}, "ssl:True [tls: failed to verify certificate: x509: certificate signed by unknown authority"},
		{"other authority", plain.URL, pulp.Remote{CACert: other.pem}, "ssl:True [tls: failed to verify certificate: x509: certificate signed by unknown authority"},
		{"ca_cert", plain.URL, pulp.Remote{CACert: ca.pem}, ""},
		{"several in ca_cert, and text", plain.URL, pulp.Remote{CACert: "other\n" + other.pem + "ours\r\n" + strings.ReplaceAll(ca.pem, "\n", "\r\n")}, ""},
		{"one of ca_cert is broken", plain.URL, pulp.Remote{CACert: "-----BEGIN CERTIFICATE-----\nBOGUS==\n-----END CERTIFICATE-----\n" + ca.pem}, ""},
		{"no validation", plain.URL, pulp.Remote{InsecureTLS: true}, ""},
		{"other host", elsewhere.URL, pulp.Remote{CACert: ca.pem}, "ssl:True [tls: failed to verify certificate: x509: cannot validate certificate for 127.0.0.1"},
		{"other host, no validation", elsewhere.URL, pulp.Remote{InsecureTLS: true}, ""},
		{"client certificate", mutual.URL, pulp.Remote{CACert: ca.pem, ClientCert: "text\n" + cert, ClientKey: key}, ""},
		{"client certificate, not wanted", plain.URL, pulp.Remote{CACert: ca.pem, ClientCert: cert, ClientKey: key}, ""},
		{"no client certificate", mutual.URL, pulp.Remote{CACert: ca.pem}, "ssl:True [tls: certificate required]"},
		{"client certificate without key", mutual.URL, pulp.Remote{CACert: ca.pem, ClientCert: cert}, "ssl:True [tls: certificate required]"},
		{"client certificate of another authority", mutual.URL, pulp.Remote{CACert: ca.pem, ClientCert: foreign, ClientKey: foreignKey}, "ssl:True [tls: unknown certificate authority]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var waits []time.Duration
			_, err := newClient(t, tc.remote, quick(&waits)).Get(t.Context(), download.Request{URL: tc.url + "/x", Digests: sums(content)}, newStage(t))
			if tc.want == "" {
				if err != nil || len(waits) > 0 {
					t.Errorf("%v after %d retries", err, len(waits))
				}
				return
			}
			want := "Cannot connect to host " + strings.Replace(strings.TrimPrefix(tc.url, "https://"), "/", "", 1) + " " + tc.want
			if reason(err) != download.Connection || !strings.HasPrefix(errs.Describe(err), want) || len(waits) != 3 {
				t.Errorf("got  %v after %d retries\nwant %s", errs.Describe(err), len(waits), want)
			}
		})
	}
	_, _, err := newClient(t, pulp.Remote{}, quick(nil)).Bytes(t.Context(), download.Request{URL: strings.Replace(bare.URL, "http:", "https:", 1)})
	if err == nil {
		t.Error("a server without TLS was taken for one with it")
	}
}

func TestInvalidCertificates(t *testing.T) {
	ca := newAuthority(t, "ours")
	cert, key := ca.sign(t, "a")
	_, otherKey := ca.sign(t, "b")
	for _, tc := range []struct {
		name   string
		remote pulp.Remote
		want   string
	}{
		{"ca_cert", pulp.Remote{CACert: "foo"}, "{'ca_cert': [ErrorDetail(string='No ca_cert specified in string foo', code='invalid')]}"},
		{"client_cert", pulp.Remote{ClientCert: "foo", ClientKey: key}, "{'client_cert': [ErrorDetail(string='No client_cert specified in string foo', code='invalid')]}"},
		{"no key", pulp.Remote{ClientCert: cert, ClientKey: "foo"}, "client_key"},
		{"another's key", pulp.Remote{ClientCert: cert, ClientKey: otherKey}, "client_key"},
	} {
		_, err := download.New(tc.remote, download.Options{})
		if !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Describe(err), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if err != nil && tc.remote.ClientKey != "" && strings.Contains(err.Error(), tc.remote.ClientKey[:3]+"-") {
			t.Errorf("%s: the error shows the key", tc.name)
		}
	}
}

// A proxy forwards plain requests and connects tunnels, all of them to one server whatever they ask for.
type proxy struct {
	to   string // host:port
	auth string // the Proxy-Authorization it wants, if any

	mu  sync.Mutex
	saw []string // method, target, Proxy-Authorization
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.saw = append(p.saw, fmt.Sprintf("%s %s [%s]", r.Method, r.RequestURI, r.Header.Get("Proxy-Authorization")))
	p.mu.Unlock()
	if p.auth != "" && r.Header.Get("Proxy-Authorization") != p.auth {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	up, err := net.Dial("tcp", p.to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer up.Close()
	if r.Method != http.MethodConnect {
		r.Header.Del("Proxy-Authorization")
		r.Write(up)
		resp, err := http.ReadResponse(bufio.NewReader(up), r)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
		return
	}
	down, buf, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer down.Close()
	io.WriteString(down, "HTTP/1.1 200 Connection established\r\n\r\n")
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(up, buf)
		up.Close()
	})
	io.Copy(down, up)
	down.Close()
	wg.Wait()
}

func TestProxy(t *testing.T) {
	// Nothing of this counts.
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	t.Setenv("NO_PROXY", "*")

	ca := newAuthority(t, "ours")
	secure := serveTLS(t, ca, nil, answer(content), "up.example")
	plain := httptest.NewServer(answer(content))
	t.Cleanup(plain.Close)
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("pu:p@ss"))

	for _, tc := range []struct {
		name   string
		url    string
		tls    bool // on the way to the proxy
		auth   string
		remote pulp.Remote
		saw    string
		want   string // the error, with PROXY for the proxy's URL
	}{
		{name: "plain", url: "http://up.example/x", saw: "GET http://up.example/x []"},
		{name: "tunnel", url: "https://up.example/x", saw: "CONNECT up.example:443 []"},
		{name: "plain, with a password", url: "http://up.example/x", auth: basic, remote: pulp.Remote{ProxyUsername: "pu", ProxyPassword: "p@ss"}, saw: "GET http://up.example/x [" + basic + "]"},
		{name: "tunnel, with a password", url: "https://up.example/x", auth: basic, remote: pulp.Remote{ProxyUsername: "pu", ProxyPassword: "p@ss"}, saw: "CONNECT up.example:443 [" + basic + "]"},
		{name: "plain, refused", url: "http://up.example/x", auth: basic, saw: "GET http://up.example/x []", want: "407, message='Proxy Authentication Required', url='http://up.example/x'"},
		{
			name: "tunnel, refused", url: "https://up.example/x", auth: basic, remote: pulp.Remote{ProxyUsername: "pu", ProxyPassword: "wrong"}, saw: "CONNECT up.example:443 [Basic cHU6d3Jvbmc=]",
			want: "407, message='Proxy Authentication Required', url='PROXY'",
		},
		{name: "plain, through TLS", url: "http://up.example/x", tls: true, saw: "GET http://up.example/x []"},
		{name: "tunnel, through TLS", url: "https://up.example/x", tls: true, saw: "CONNECT up.example:443 []"},
		{name: "tunnel, through TLS, no validation", url: "https://other.example/x", tls: true, remote: pulp.Remote{InsecureTLS: true}, saw: "CONNECT other.example:443 []"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &proxy{to: plain.Listener.Addr().String(), auth: tc.auth}
			if strings.HasPrefix(tc.url, "https") {
				p.to = secure.Listener.Addr().String()
			}
			var srv *httptest.Server
			if tc.tls {
				srv = serveTLS(t, ca, nil, p, "127.0.0.1")
			} else {
				srv = httptest.NewServer(p)
				t.Cleanup(srv.Close)
			}
			tc.remote.ProxyURL = srv.URL
			if !tc.remote.InsecureTLS {
				tc.remote.CACert = ca.pem
			}
			c := newClient(t, tc.remote, quick(nil))
			_, err := c.Get(t.Context(), download.Request{URL: tc.url, Digests: sums(content)}, newStage(t))
			switch want := strings.ReplaceAll(tc.want, "PROXY", srv.URL); {
			case want == "" && err != nil:
				t.Error(err)
			case want != "" && (reason(err) != download.Status || errs.Describe(err) != want):
				t.Errorf("got  %v\nwant %s", errs.Describe(err), want)
			}
			if got := strings.Join(p.saw, ", "); got != tc.saw {
				t.Errorf("the proxy saw %s, want %s", got, tc.saw)
			}
			c.Close() // ends the tunnel
		})
	}
}

func TestProxyFailures(t *testing.T) {
	_, _, err := newClient(t, pulp.Remote{ProxyURL: "http://127.0.0.1:1"}, quick(nil)).Bytes(t.Context(), download.Request{URL: "https://up.example/x"})
	if got, want := errs.Describe(err), "Cannot connect to host 127.0.0.1:1 ssl:default [Connect call failed ('127.0.0.1', 1)]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p := &proxy{to: "127.0.0.1:1"} // answers 502
	srv := httptest.NewServer(p)
	defer srv.Close()
	_, _, err = newClient(t, pulp.Remote{ProxyURL: strings.TrimPrefix(srv.URL, "http://")}, quick(nil)).Bytes(t.Context(), download.Request{URL: "https://up.example/x"})
	if got, want := errs.Describe(err), "502, message='Bad Gateway', url='"+srv.URL+"'"; got != want || len(p.saw) != 4 {
		t.Errorf("got %s after %d requests, want %s after 4", got, len(p.saw), want)
	}
	for _, u := range []string{"ftp://h", "http://", "http://[::1", ":"} {
		if _, err := download.New(pulp.Remote{ProxyURL: u}, download.Options{}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func TestWithoutProxyTheEnvironmentIsIgnored(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	url, _ := serve(t, answer(nil))
	o := quick(nil)
	var dialed string
	o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialed = addr
		return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(url, "http://"))
	}
	// Not a loopback name, for which the environment would not count anyway.
	if _, _, err := newClient(t, pulp.Remote{}, o).Bytes(t.Context(), download.Request{URL: "http://up.example/x"}); err != nil || dialed != "up.example:80" {
		t.Errorf("connected to %s: %v", dialed, err)
	}
}
