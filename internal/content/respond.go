package content

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"granary/internal/errs"
)

// A refusal is an answer without content: a status, and a reason where it has one besides the status's own.
type refusal struct {
	status int
	reason string
}

func (e *refusal) Error() string {
	if e.reason == "" {
		return strconv.Itoa(e.status) + " " + http.StatusText(e.status)
	}
	return strconv.Itoa(e.status) + " " + e.reason
}

var (
	errNotFound    = &refusal{status: http.StatusNotFound}
	errNotPointing = &refusal{http.StatusNotFound, "Distribution is not pointing to a publication, repository, repository version, or remote."}
	errMethod      = &refusal{status: http.StatusMethodNotAllowed}
	errLost        = &refusal{status: http.StatusInternalServerError} // a stored file is not there, or not whole, and was logged
)

// refusalOf returns the answer that an error is. One that is nobody's fault but ours is logged.
func (s *Server) refusalOf(ctx context.Context, r *http.Request, err error) *refusal {
	if e, ok := errors.AsType[*refusal](err); ok {
		return e
	}
	if e, ok := errors.AsType[*errs.Error](err); ok {
		switch e.Kind {
		case errs.Denied, errs.Unauthenticated: // there is no challenge here
			return &refusal{http.StatusForbidden, e.Detail}
		case errs.NotFound, errs.Invalid:
			return &refusal{errs.Status(e), e.Detail}
		case errs.Unavailable:
			s.Log.WarnContext(ctx, "content request failed", slog.String("path", r.URL.Path), slog.Any("error", err))
			return &refusal{errs.Status(e), e.Detail}
		}
	}
	if ctx.Err() == nil {
		s.Log.ErrorContext(ctx, "content request failed", slog.String("path", r.URL.Path), slog.Any("error", err))
	}
	return &refusal{status: http.StatusInternalServerError}
}

// refuse sends an answer without content.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, e *refusal) {
	h := w.Header()
	standard := http.StatusText(e.status)
	reason := printable(e.reason)
	if reason == "" {
		reason = standard
	}
	body := strconv.Itoa(e.status) + ": " + reason
	switch e.status {
	case http.StatusMethodNotAllowed:
		h["Allow"] = allow
	case http.StatusInternalServerError:
		body = "500 Internal Server Error\n\nServer got itself in trouble"
		h["Connection"] = closing
	}
	h["Content-Type"] = plainText
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	if r.Method == http.MethodHead {
		body = ""
	}
	if reason != standard && s.hijack(w, r, e.status, reason, body) {
		return
	}
	w.WriteHeader(e.status)
	_, _ = w.Write([]byte(body))
}

var (
	allow     = []string{"GET,HEAD"}
	closing   = []string{"close"}
	plainText = []string{"text/plain; charset=utf-8"}
	htmlText  = []string{"text/html; charset=utf-8"}
)

// hijackTimeout is how long a client may take to read the answer of hijack.
const hijackTimeout = 10 * time.Second

// hijack writes an answer whose status line has a reason of its own, which net/http cannot, and ends the connection.
// Clients show that reason to people. It says whether it could; over HTTP/2 there are no reasons.
func (s *Server) hijack(w http.ResponseWriter, r *http.Request, status int, reason, body string) bool {
	if r.ProtoMajor != 1 {
		return false
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	defer conn.Close() //nolint:errcheck // the answer is complete or the client is gone
	h := w.Header()
	h.Set("Date", s.Now().UTC().Format(http.TimeFormat))
	h.Set("Connection", "close")
	_ = conn.SetDeadline(time.Now().Add(hijackTimeout))    // connections go by the system's clock
	fmt.Fprintf(buf, "HTTP/1.1 %d %s\r\n", status, reason) //nolint:errcheck // Flush reports it, and nobody is left to be told
	_ = h.Write(buf)
	_, _ = buf.WriteString("\r\n" + body)
	_ = buf.Flush()
	return true
}

// printable makes a text fit for a status line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// redirect sends the client to the path with a slash at its end.
func redirect(w http.ResponseWriter, r *http.Request, path string) {
	h := w.Header()
	h["Location"] = []string{(&url.URL{Path: path}).EscapedPath()}
	h["Content-Type"] = plainText
	const body = "301: Moved Permanently"
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(http.StatusMovedPermanently)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(body))
	}
}

// sendBody sends a complete answer.
func sendBody(w http.ResponseWriter, r *http.Request, status int, header http.Header, body []byte, cached []string) {
	h := w.Header()
	for name, values := range header {
		h[name] = values
	}
	if cached != nil {
		h["X-PULP-CACHE"] = cached
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}
