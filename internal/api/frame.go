package api

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/settings"
	"granary/internal/telemetry"
)

// A frame is what settings say of every request.
type frame struct {
	cidHeader     string
	validateCID   bool
	returnCID     bool
	headers       http.Header // of every answer
	hsts          string      // of answers over TLS; empty: not sent
	rewriteHeader string      // API_ROOT_REWRITE_HEADER
	exempt        []*regexp.Regexp
}

func newFrame(s *settings.Settings) frame {
	f := frame{cidHeader: "Correlation-ID", validateCID: true, returnCID: true, headers: http.Header{}, rewriteHeader: s.APIRootRewriteHeader}
	if name, ok := s.DjangoGUID["GUID_HEADER_NAME"].(string); ok && name != "" {
		f.cidHeader = name
	}
	option := func(name string, into *bool) {
		if v, ok := s.DjangoGUID[name].(bool); ok {
			*into = v
		}
	}
	expose := true
	option("VALIDATE_GUID", &f.validateCID)
	option("RETURN_HEADER", &f.returnCID)
	option("EXPOSE_HEADER", &expose)
	if f.returnCID && expose {
		f.headers.Set("Access-Control-Expose-Headers", f.cidHeader)
	}
	if s.SecureContentTypeNosniff {
		f.headers.Set("X-Content-Type-Options", "nosniff")
	}
	if s.SecureReferrerPolicy != "" {
		f.headers.Set("Referrer-Policy", s.SecureReferrerPolicy)
	}
	if s.SecureCrossOriginOpenerPolicy != "" {
		f.headers.Set("Cross-Origin-Opener-Policy", s.SecureCrossOriginOpenerPolicy)
	}
	if s.SecureHSTS > 0 {
		f.hsts = fmt.Sprintf("max-age=%d", int(s.SecureHSTS.Seconds()))
		if s.SecureHSTSIncludeSubdomains {
			f.hsts += "; includeSubDomains"
		}
		if s.SecureHSTSPreload {
			f.hsts += "; preload"
		}
	}
	for _, expr := range s.SecureRedirectExempt {
		if re, err := regexp.Compile(expr); err == nil { // what is no expression here exempts nothing
			f.exempt = append(f.exempt, re)
		}
	}
	return f
}

// Handler serves the API. Everything must have been declared to the engine before.
func (a *API) Handler() http.Handler {
	global := map[string]bool{}
	for _, e := range a.Engine.Endpoints() {
		if e.Global {
			global["/"+e.Path] = true
		}
	}
	r := &router{API: a, global: global}
	o := &telemetry.Observer{Metrics: a.Metrics, Role: "api", Lines: a.AccessLog, Form: telemetry.APIForm, Now: a.Now}
	return a.begin(o.Wrap(a.secure(r)))
}

// begin makes the request's [pulp.Call], with its correlation id.
func (a *API) begin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cid := r.Header.Get(a.frame.cidHeader)
		if cid == "" || a.frame.validateCID && !isUUID(cid) || len(cid) > 128 {
			fresh := uuid.New()
			cid = hex.EncodeToString(fresh[:])
		}
		if a.frame.returnCID {
			w.Header().Set(a.frame.cidHeader, cid)
		}
		next.ServeHTTP(w, r.WithContext(pulp.WithCall(r.Context(), &pulp.Call{CID: cid, Root: a.Settings.APIRoot, Origin: a.origin(r), Diagnostics: diagnostics(r)})))
	})
}

// maxDiagnostics is how many diagnoses of a task are noted.
const maxDiagnostics = 10

// diagnostics reads what a request wants to be measured of the tasks that it dispatches.
func diagnostics(r *http.Request) []string {
	var list []string
	for _, line := range r.Header["X-Task-Diagnostics"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" && len(name) <= 20 && len(list) < maxDiagnostics {
				list = append(list, name)
			}
		}
	}
	return list
}

// isUUID says whether s is one of the forms in which Python reads a UUID: with dashes anywhere or nowhere, in braces, as a URN.
func isUUID(s string) bool {
	if len(s) > 128 {
		return false
	}
	s = strings.ReplaceAll(strings.ReplaceAll(s, "urn:", ""), "uuid:", "")
	s = strings.ReplaceAll(strings.Trim(s, "{}"), "-", "")
	return len(s) == 32 && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// origin returns the scheme and the host that the client asked for, as far as proxies tell.
func (a *API) origin(r *http.Request) string {
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ","); first != "" {
		switch first = strings.ToLower(strings.TrimSpace(first)); first {
		case "http", "https":
			scheme = first
		}
	}
	if h := a.Settings.SecureProxySSLHeader; len(h) == 2 {
		scheme = "http"
		if first, _, _ := strings.Cut(r.Header.Get(wsgiName(h[0])), ","); strings.TrimSpace(first) == h[1] {
			scheme = "https"
		}
	}
	if forwarded := r.Header.Get("X-Forwarded-Host"); a.Settings.UseXForwardedHost && forwarded != "" {
		host = forwarded
	}
	if port := r.Header.Get("X-Forwarded-Port"); a.Settings.UseXForwardedPort && port != "" {
		if name := hostName(host); scheme == "https" && port == "443" || scheme == "http" && port == "80" {
			host = name
		} else {
			host = name + ":" + port
		}
	}
	return scheme + "://" + host
}

// wsgiName returns the header that a WSGI variable is of: HTTP_X_FORWARDED_PROTO is X-Forwarded-Proto.
func wsgiName(s string) string { return strings.ReplaceAll(strings.TrimPrefix(s, "HTTP_"), "_", "-") }

// hostName takes the port off a host.
func hostName(host string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		return host[:i]
	}
	return host
}

var hostForm = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[A-Fa-f0-9]*:[A-Fa-f0-9.:]+\])(:[0-9]+)?$`)

// allowed says whether a host is one of ALLOWED_HOSTS.
func (a *API) allowed(host string) bool {
	if !hostForm.MatchString(host) {
		return false
	}
	name := strings.ToLower(strings.TrimSuffix(hostName(host), "."))
	return slices.ContainsFunc(a.Settings.AllowedHosts, func(pattern string) bool {
		pattern = strings.ToLower(pattern)
		domain, sub := strings.CutPrefix(pattern, ".")
		return pattern == "*" || pattern == name || sub && (domain == name || strings.HasSuffix(name, pattern))
	})
}

const badRequestPage = "\n<!doctype html>\n<html lang=\"en\">\n<head>\n  <title>Bad Request (400)</title>\n</head>\n<body>\n  <h1>Bad Request (400)</h1><p></p>\n</body>\n</html>\n"

// secure sets the headers that every answer has, and refuses hosts that this server is not.
func (a *API) secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		maps.Copy(h, a.frame.headers)
		scheme, host, _ := strings.Cut(pulp.CallOf(r.Context()).Origin, "://")
		if scheme == "https" && a.frame.hsts != "" {
			h.Set("Strict-Transport-Security", a.frame.hsts)
		}
		switch {
		case !a.allowed(host):
			h.Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, badRequestPage)
		case a.Settings.SecureSSLRedirect && scheme != "https" && !a.isExempt(r.URL.Path):
			if a.Settings.SecureSSLHost != "" {
				host = a.Settings.SecureSSLHost
			}
			h.Set("Content-Type", "text/html; charset=utf-8")
			h.Set("Location", "https://"+host+r.URL.RequestURI())
			w.WriteHeader(http.StatusMovedPermanently)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (a *API) isExempt(path string) bool {
	path = strings.TrimPrefix(path, "/")
	return slices.ContainsFunc(a.frame.exempt, func(re *regexp.Regexp) bool { return re.MatchString(path) })
}

// A router takes root and domain off the path, and hands the rest to the engine.
type router struct {
	*API
	global map[string]bool // paths that need no domain

	mu   sync.Mutex
	home *pulp.Domain // the default domain, where there are no others
}

func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	call := pulp.CallOf(ctx)
	root, domain, below, ok := rt.locate(r)
	if !ok {
		rest.NotFoundPage(w)
		return
	}
	call.Root = root
	found, err := rt.domain(ctx, domain)
	switch {
	case errs.Is(err, errs.NotFound):
		rest.NotFoundPage(w)
		return
	case err != nil && !rt.global[below]: // a health check must do without the database
		rt.Engine.Fail(w, r, fmt.Errorf("look up domain %s: %w", domain, err))
		return
	}
	call.Domain = found
	inner := *r
	inner.URL = &url.URL{Path: below, RawQuery: r.URL.RawQuery}
	if r.Body != nil && r.Body != http.NoBody {
		inner.Body = &slowBody{ReadCloser: r.Body, control: http.NewResponseController(w), pause: rt.BodyTimeout}
	}
	rt.Engine.ServeHTTP(w, &inner)
}

var rootForm = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*/$|^/$`)

// locate takes a path apart: the API root for the hrefs of the answer, the domain, and the path below the API.
func (rt *router) locate(r *http.Request) (root, domain, below string, ok bool) {
	root = rt.Settings.APIRoot
	path, ok := strings.CutPrefix(r.URL.Path, root)
	if rt.frame.rewriteHeader != "" {
		if given := strings.Trim(r.Header.Get(rt.frame.rewriteHeader), "/"); given != "" {
			moved := "/" + given + "/"
			if !rootForm.MatchString(moved) {
				return "", "", "", false
			}
			root = moved
			if rest, found := strings.CutPrefix(r.URL.Path, moved); found {
				path, ok = rest, true
			}
		}
	}
	if !ok {
		return "", "", "", false
	}
	domain = pulp.DefaultDomain
	if rt.Settings.DomainEnabled {
		first, rest, _ := strings.Cut(path, "/")
		if first == "api" { // no domain can have that name
			below, ok = strings.CutPrefix(rest, "v3")
			return root, domain, below, ok && (rt.global[below] || rt.global[below+"/"])
		}
		domain, path = first, rest
	}
	below, ok = strings.CutPrefix(path, "api/v3")
	return root, domain, below, ok && (below == "" || below[0] == '/')
}

// domain loads a domain by name. Where there is only the default one, it is loaded once: it never changes.
func (rt *router) domain(ctx context.Context, name string) (pulp.Domain, error) {
	if !rt.Settings.DomainEnabled {
		rt.mu.Lock()
		defer rt.mu.Unlock()
		if rt.home != nil {
			return *rt.home, nil
		}
	}
	d := pulp.Domain{Name: name}
	err := rt.DB.QueryRow(ctx, "SELECT id, redirect_to_object_storage, hide_guarded_distributions FROM core_domain WHERE name = ?", name).
		Scan(&d.ID, &d.Redirect, &d.HideGuarded)
	if err == nil && !rt.Settings.DomainEnabled {
		rt.home = &d
	}
	return d, err
}

// A slowBody ends a request whose body pauses for too long, however long the whole of it takes. The server itself takes the
// deadline away when the body has ended.
type slowBody struct {
	io.ReadCloser
	control *http.ResponseController
	pause   time.Duration
	next    time.Time // when the deadline is to be moved
}

func (b *slowBody) Read(p []byte) (int, error) {
	if now := time.Now(); now.After(b.next) {
		b.next = now.Add(b.pause / 4)
		_ = b.control.SetReadDeadline(now.Add(b.pause)) // where there is no connection, there is nothing to set
	}
	return b.ReadCloser.Read(p)
}
