package server

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"granary/internal/access"
	"granary/internal/guard"
	"granary/internal/rest/openapi"
	"granary/internal/settings"
)

// unforged takes the headers by which a proxy vouches for its client off all requests that do not come from a trusted proxy, and off
// those that have one of them twice: perhaps the client has sent the first.
func (s *Server) unforged(next http.Handler) http.Handler {
	names := append(s.Access.IdentityHeaders(), guard.ClientCertHeader)
	var mu sync.Mutex
	var told time.Time
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range names {
			values := r.Header[name]
			if values == nil || len(values) == 1 && trusted(s.Settings.TrustedProxies, r.RemoteAddr) {
				continue
			}
			r.Header.Del(name)
			mu.Lock()
			now := s.Now()
			tell := now.Sub(told) > time.Minute
			if tell {
				told = now
			}
			mu.Unlock()
			if tell {
				s.Log.WarnContext(r.Context(), "ignored a header that says who a client is: it came twice, or not from an address in GRANARY_TRUSTED_PROXIES",
					slog.String("header", name), slog.String("from", r.RemoteAddr))
			}
		}
		next.ServeHTTP(w, r)
	})
}

// trusted says whether an address is that of a trusted proxy.
func trusted(proxies []netip.Prefix, addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	ip = ip.Unmap().WithZone("")
	for _, p := range proxies {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// securitySchemes describes the methods by which clients say who they are.
func securitySchemes(methods []access.Method, set *settings.Settings) []openapi.Scheme {
	var list []openapi.Scheme
	for _, m := range methods {
		switch m {
		case access.Basic:
			list = append(list, openapi.BasicScheme)
		case access.Session:
			list = append(list, openapi.CookieScheme)
		case access.RemoteUser:
			if len(set.RemoteUserOpenAPISecurityScheme) > 0 {
				list = append(list, openapi.SchemeOf("remoteUserAuthentication", set.RemoteUserOpenAPISecurityScheme))
			}
		case access.JSONHeader:
			if len(set.AuthenticationJSONHeaderOpenAPISecurityScheme) > 0 {
				list = append(list, openapi.SchemeOf("json_header_remote_authentication", set.AuthenticationJSONHeaderOpenAPISecurityScheme))
			}
		}
	}
	return list
}
