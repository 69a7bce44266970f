package download

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"granary/internal/errs"
)

// A Reason tells in what way a download failed.
type Reason int

// The reasons.
const (
	Status     Reason = iota + 1 // the server answered with an error, or the proxy did
	Timeout                      // one of the remote's timeouts ran out
	Connection                   // no connection: the name is unknown, nobody listens, the handshake failed
	Broken                       // the connection broke, or what came is not HTTP or not as it was labelled
	Checksum                     // a digest is not the expected one
	Size                         // the size is not the expected one
	Untrusted                    // only digests that are not allowed are known
	TooLarge                     // larger than the request allows
	Scheme                       // neither http, https nor file, or no URL at all
	Redirects                    // too many, or one that is not followed
	Encoding                     // a Content-Encoding that was not asked for
	Local                        // a file:// URL that cannot be read
	Forbidden                    // a file:// URL outside the import paths, or an address that policy refuses
	Changed                      // the file became another one while it was downloaded in parts
)

// An Error says why a download failed. Its text is the one that clients of Pulp know; it holds no credentials.
// It is also an [*errs.Error] of kind errs.Remote with that text.
type Error struct {
	Reason Reason
	URL    string      // what was asked for, without credentials
	Code   int         // the HTTP status, for Status
	Header http.Header // the answer's headers, for Status
	Err    error       // the cause, or nil

	text string
}

// Error returns the public text and the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.text
	}
	return e.text + ": " + e.Err.Error()
}

// Unwrap returns the error as the API sees it.
func (e *Error) Unwrap() error { return &errs.Error{Kind: errs.Remote, Detail: e.text, Err: e.Err} }

// Retryable says whether another attempt may help.
func (e *Error) Retryable() bool {
	switch e.Reason {
	case Timeout, Connection, Broken, Checksum, Size:
		return true
	case Status:
		return e.Code == http.StatusTooManyRequests || e.Code >= 500
	}
	return false
}

func asError(err error) (*Error, bool) { return errors.AsType[*Error](err) }

// errTimedOut is why an attempt's context ends when one of the remote's timeouts runs out.
var errTimedOut = errors.New("timed out")

// errDecode wraps what a decoder says of a body that is not as it was labelled.
type errDecode struct {
	encoding string
	err      error
}

func (e *errDecode) Error() string { return e.err.Error() }
func (e *errDecode) Unwrap() error { return e.err }

func (j *job) fail(r Reason, text string, cause error) *Error {
	return &Error{Reason: r, URL: j.shown, Err: cause, text: text}
}

// canceled is the end of a download that nobody waits for any more.
func (j *job) canceled(err error) error { return fmt.Errorf("download %s: %w", j.shown, err) }

func (j *job) unsupported(url string) *Error {
	return j.fail(Scheme, "URL: "+url+" not supported.", nil)
}

func (j *job) tooLarge() *Error {
	return j.fail(TooLarge, fmt.Sprintf("The file at the url %s is larger than %d bytes.", j.shown, j.MaxSize), nil)
}

func (j *job) mismatch(r Reason, what, want, got string) *Error {
	return j.fail(r, mismatchText(j.shown, what, want, got), nil)
}

func mismatchText(url, what, want, got string) string {
	return fmt.Sprintf("A file located at the url %s failed validation due to %s. Expected '%s', Actual '%s'", url, what, want, got)
}

// badStatus makes the error of an answer that says that there is no file.
func badStatus(shown, asked string, resp *http.Response) *Error {
	reason := strings.TrimPrefix(strings.TrimPrefix(resp.Status, fmt.Sprintf("%03d", resp.StatusCode)), " ")
	return &Error{
		Reason: Status,
		URL:    asked,
		Code:   resp.StatusCode,
		Header: resp.Header,
		text:   fmt.Sprintf("%d, message=%s, url=%s", resp.StatusCode, repr(strings.ToValidUTF8(reason, "\uFFFD")), repr(shown)),
	}
}

// failure turns what went wrong in an attempt into what the caller is told. ctx is the caller's, attempt the attempt's,
// at the URL that was asked last, and received says that there was an answer already.
func (c *Client) failure(ctx, attempt context.Context, j *job, at *url.URL, received bool, err error) error {
	if ctx.Err() != nil {
		return j.canceled(ctx.Err())
	}
	if e, ok := asError(err); ok {
		if e.URL == "" {
			e.URL = j.shown
		}
		return e
	}
	if errors.Is(context.Cause(attempt), errTimedOut) || isTimeout(err) {
		return j.fail(Timeout, "Request timed out for "+j.shown+". Increasing the total_timeout value on the remote might help.", nil)
	}
	if received {
		if e, ok := errors.AsType[*errDecode](err); ok {
			return j.fail(Broken, "Can not decode content-encoding: "+e.encoding, e)
		}
		return j.fail(Broken, "Response payload is not completed", err)
	}
	if ssl, reason := connectReason(err); reason != "" {
		if c.proxy != nil && ssl == "default" {
			at = c.proxy
		}
		return j.fail(Connection, fmt.Sprintf("Cannot connect to host %s:%s ssl:%s [%s]", at.Hostname(), port(at), ssl, reason), nil)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return j.fail(Broken, "Server disconnected", err)
	}
	return j.fail(Broken, "No valid answer from "+j.shown, err)
}

// isTimeout says whether err is a timeout of the connection. A name server that does not answer is none:
// no setting of the remote helps.
func isTimeout(err error) bool {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return false
	}
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// connectReason tells why there is no connection, and whether certificates were to blame: ssl is "True" then.
// The reason is empty if the error is of another sort.
func connectReason(err error) (ssl, reason string) {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "True", e.Error()
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return "True", e.Error()
	}
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "True", e.Error()
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsNotFound {
			return "default", "Domain name not found"
		}
		return "default", e.Err
	}
	e, ok := errors.AsType[*net.OpError](err)
	if ok && e.Op == "proxyconnect" {
		if inner, ok := errors.AsType[*net.OpError](e.Err); ok {
			e = inner
		}
	}
	switch {
	case !ok || e.Op == "read" || e.Op == "write":
		return "", ""
	case e.Op == "remote error" || e.Op == "local error": // alerts of the TLS handshake
		return "True", e.Err.Error()
	}
	if addr, ok := e.Addr.(*net.TCPAddr); ok {
		return "default", fmt.Sprintf("Connect call failed ('%s', %d)", addr.IP, addr.Port)
	}
	return "default", e.Err.Error()
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	case strings.HasPrefix(u.Scheme, "socks5"):
		return "1080"
	}
	return "80"
}

// repr writes a string as the error texts that clients know have it: in single quotes unless it has one and no double quote.
func repr(s string) string {
	q := "'"
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = `"`
	}
	return q + strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`, q, `\`+q).Replace(s) + q
}
