package download

import (
	"net/http"

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
	Redirects                    // too many
	Local                        // a file:// URL that cannot be read
	Forbidden                    // a file:// URL outside the import paths, or an address that policy refuses
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

// Error returns the public text.
func (e *Error) Error() string { return e.text }

// Unwrap returns the error as the API sees it.
func (e *Error) Unwrap() error { return &errs.Error{Kind: errs.Remote, Detail: e.text, Err: e.Err} }

// Retryable says whether another attempt may help.
func (e *Error) Retryable() bool { return false }
