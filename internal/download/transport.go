package download

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"granary/internal/errs"
	"granary/internal/pulp"
)

// newTransport makes the remote's connections. What the environment says of proxies is not asked.
func (c *Client) newTransport(remote pulp.Remote) (*http.Transport, error) {
	conf, err := tlsConfig(remote)
	if err != nil {
		return nil, err
	}
	connect := seconds(remote.SockConnectTimeout, defaultConnect)
	dialer := &net.Dialer{}
	if allow := c.o.AllowAddr; allow != nil {
		dialer.ControlContext = func(_ context.Context, _, addr string, _ syscall.RawConn) error {
			return allowed(allow, addr)
		}
	}
	dial := dialer.DialContext
	if c.o.Dial != nil {
		dial = c.o.Dial
	}
	t := &http.Transport{
		DialContext:            untilCanceled(connect, dial),
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    connect,
		DisableCompression:     true, // the client decodes, since digests are of decoded bytes
		MaxIdleConns:           maxConnections,
		MaxIdleConnsPerHost:    maxConnections,
		IdleConnTimeout:        15 * time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if c.proxy != nil {
		t.Proxy = http.ProxyURL(c.proxy)
		t.ProxyConnectHeader = http.Header{"User-Agent": c.header["User-Agent"]}
		bare, _ := splitAuth(c.proxy)
		at := bare.String()
		t.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
			if resp.StatusCode != http.StatusOK {
				return badStatus(at, at, resp)
			}
			return nil
		}
	}
	return t, nil
}

func allowed(allow func(netip.AddrPort) error, addr string) error {
	ap, err := netip.ParseAddrPort(addr)
	if err == nil {
		err = allow(netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
	}
	if err != nil {
		return &Error{Reason: Forbidden, text: "Connections to " + addr + " are not allowed.", Err: err}
	}
	return nil
}

// dialKey is the context key of the attempt that a connection is made for. The transport dials in a context of its own,
// which does not end with the attempt.
type dialKey struct{}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// untilCanceled makes a dial end with the attempt that asked for it, or when it has lasted too long.
func untilCanceled(limit time.Duration, dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if limit > 0 {
			var end context.CancelFunc
			ctx, end = context.WithTimeout(ctx, limit)
			defer end()
		}
		if attempt, ok := ctx.Value(dialKey{}).(context.Context); ok {
			defer context.AfterFunc(attempt, cancel)()
		}
		return dial(ctx, network, addr)
	}
}

// tlsConfig says whom the remote trusts and what it shows of itself. It holds for a proxy too.
func tlsConfig(remote pulp.Remote) (*tls.Config, error) {
	conf := &tls.Config{InsecureSkipVerify: remote.InsecureTLS} //nolint:gosec // the remote's tls_validation is false then
	if remote.CACert != "" {
		certs, _, err := certificates(remote.CACert)
		if len(certs) == 0 {
			return nil, errs.Field("ca_cert", pemText("ca_cert", remote.CACert, err))
		}
		if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			conf.RootCAs = x509.NewCertPool()
		}
		for _, cert := range certs {
			conf.RootCAs.AddCert(cert)
		}
	}
	if remote.ClientCert == "" || remote.ClientKey == "" {
		return conf, nil
	}
	certs, _, err := certificates(remote.ClientCert)
	if err != nil || len(certs) == 0 {
		return nil, errs.Field("client_cert", pemText("client_cert", remote.ClientCert, err))
	}
	var chain []byte
	for _, cert := range certs {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	pair, err := tls.X509KeyPair(chain, []byte(remote.ClientKey))
	if err != nil {
		return nil, errs.Field("client_key", "Invalid client_key specified, error '"+err.Error()+"'")
	}
	// The certificate is shown whatever authorities the server names, as OpenSSL does; servers often name too few.
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	// Servers that want a certificate for some paths only ask for it when the request is there already.
	conf.Renegotiation = tls.RenegotiateOnceAsClient
	return conf, nil
}

// parseProxy returns the remote's proxy with its credentials, nil if it has none.
func parseProxy(remote pulp.Remote) (*url.URL, error) {
	raw := strings.TrimSpace(remote.ProxyURL)
	if raw == "" {
		return nil, nil
	}
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		return nil, errs.Field("proxy_url", "The proxy '"+redact(raw)+"' is not supported.")
	}
	if remote.ProxyUsername != "" && remote.ProxyPassword != "" {
		u.User = url.UserPassword(remote.ProxyUsername, remote.ProxyPassword)
	}
	return u, nil
}

// remoteHeader returns the headers of every request: the defaults, then what the remote says.
func remoteHeader(list []map[string]string, userAgent string) (http.Header, error) {
	h := http.Header{}
	for _, m := range list {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if !validName(name) || !validValue(m[name]) {
				return nil, errs.Field("headers", "The header "+repr(name)+" is not valid.")
			}
			h.Add(name, m[name])
		}
	}
	h.Set("User-Agent", strings.Join(append([]string{userAgent}, h["User-Agent"]...), ", "))
	if h.Get("Accept") == "" {
		h.Set("Accept", "*/*")
	}
	if h.Get("Accept-Encoding") == "" {
		h.Set("Accept-Encoding", "gzip, deflate")
	}
	return h, nil
}

func validName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	})
}

func validValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

func basicAuth(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}
