package telemetry

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"granary/internal/pulp"
)

// A Form is how the lines of an access log look.
type Form int

// The forms, as Pulp's processes write them:
//
//	pulp [<correlation id>]: <address> - <user|-> [<time>] "<request>" <status> <bytes> "<referer|->" "<agent|->"
//	<address> [<time>] "<request>" <status> <bytes> "<referer|->" "<agent|->"
const (
	APIForm Form = iota
	ContentForm
)

// An Observer watches the requests of one role.
type Observer struct {
	Metrics *Metrics // nil: none
	Role    string   // in metrics: "api" or "content"
	Lines   *Lines   // of the access log; nil: none
	Form    Form
	Now     pulp.Clock
}

// Wrap returns a handler that has next serve, and then counts and logs. The ResponseWriter that next gets keeps
// what the server's own can do: sendfile, flushing, deadlines.
func (o *Observer) Wrap(next http.Handler) http.Handler {
	var m *roleMetrics
	if o.Metrics != nil {
		m = o.Metrics.role(o.Role)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := o.Now()
		rec := &recorder{ResponseWriter: w}
		line := r.RequestURI // handlers may change the URL
		m.begin()
		defer func() {
			if rec.status == 0 {
				rec.status = http.StatusOK
				if p := recover(); p != nil {
					rec.status = http.StatusInternalServerError
					defer panic(p)
				}
			}
			m.end(rec, o.Now().Sub(start))
			if o.Lines != nil {
				o.Lines.add(func(b []byte) []byte { return o.Form.append(b, r, line, rec, start) })
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// append appends an access line.
func (f Form) append(b []byte, r *http.Request, uri string, rec *recorder, at time.Time) []byte {
	if f == APIForm {
		b = append(b, "pulp ["...)
		b = appendField(b, rec.Header().Get("Correlation-Id"))
		b = append(b, "]: "...)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	b = appendField(b, host)
	if f == APIForm {
		b = append(b, " - "...)
		b = appendField(b, basicUser(r.Header.Get("Authorization")))
	}
	b = append(b, " ["...)
	b = at.UTC().AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	b = appendField(b, r.Method)
	b = append(b, ' ')
	b = appendField(b, uri)
	b = append(b, ' ')
	b = append(b, r.Proto...)
	b = append(b, `" `...)
	b = strconv.AppendInt(b, int64(rec.status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, rec.bytes, 10)
	b = append(b, ` "`...)
	b = appendField(b, r.Header.Get("Referer"))
	b = append(b, `" "`...)
	b = appendField(b, r.Header.Get("User-Agent"))
	return append(b, '"')
}

const maxLogged = 4096 // bytes of one field

// appendField appends what a client sent, so that it cannot break out of its place in the line; "-" for nothing.
func appendField(b []byte, s string) []byte {
	if s == "" {
		return append(b, '-')
	}
	for i := range min(len(s), maxLogged) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = fmt.Appendf(b, `\x%02x`, c)
		default:
			b = append(b, c)
		}
	}
	return b
}

// basicUser returns the name in an Authorization header, which may be wrong.
func basicUser(header string) string {
	const scheme = "basic "
	if len(header) < len(scheme) || len(header) > maxLogged || !strings.EqualFold(header[:len(scheme)], scheme) {
		return ""
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(header[len(scheme):]))
	if err != nil {
		return ""
	}
	user, _, _ := strings.Cut(string(b), ":")
	return user
}

// A recorder remembers the status and counts the bytes of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	r.begin()
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

// ReadFrom lets the server copy a file to the connection without going through memory.
func (r *recorder) ReadFrom(src io.Reader) (n int64, err error) {
	r.begin()
	if rf, ok := r.ResponseWriter.(io.ReaderFrom); ok {
		n, err = rf.ReadFrom(src)
	} else {
		n, err = io.Copy(struct{ io.Writer }{r.ResponseWriter}, src)
	}
	r.bytes += n
	return n, err
}

// Flush sends what has been written so far.
func (r *recorder) Flush() {
	r.begin()
	_ = http.NewResponseController(r.ResponseWriter).Flush() // where it can't be done, it comes later
}

// Unwrap gives [http.ResponseController] the server's own ResponseWriter.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) begin() {
	if r.status == 0 {
		r.status = http.StatusOK
	}
}
