package telemetry

import (
	"net"
	"net/http"
	"net/http/pprof"
)

// Debug serves Go's profiles below /debug/pprof/. It answers clients on the same machine only, whatever address it
// listens on: profiles tell much, and cost much.
func Debug() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local(r.RemoteAddr) {
			http.Error(w, "profiles are for clients on this machine", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// local says whether an address is this machine's; clients of a Unix socket have none.
func local(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr == "" || addr == "@"
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
