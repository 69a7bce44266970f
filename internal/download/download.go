// Package download fetches files for one remote, over HTTP or from a local folder: with its credentials, certificates,
// proxy and limits, with retries, and with every known digest checked. Start with [New], [Client.Get] and [Client.Open].
package download

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"granary/internal/blob"
	"granary/internal/pulp"
)

// Options are what a [Client] needs to know besides the remote. The zero value works.
type Options struct {
	UserAgent string // how the client names itself; a User-Agent header of the remote is appended

	Allowed     []pulp.Algorithm // digests that may be trusted; nil means all known ones
	ImportPaths []string         // folders that file:// URLs may point into

	Concurrency int // downloads at once where the remote says none; 0 means 10
	MaxRetries  int // retries where the remote says none; 0 means 3

	RetryAfterCap time.Duration // how long a server's Retry-After is honoured at most; 0 means 1 minute
	Secrets       []string      // texts that no error or log line may show, such as tokens that are part of URLs

	// AllowAddr is asked before each connection is made, after the name was resolved. An error refuses the address,
	// and the download fails with it at once. With a proxy, the address is the proxy's.
	AllowAddr func(netip.AddrPort) error

	Log    *slog.Logger                                     // told of retries; nil means no log
	Now    pulp.Clock                                       // nil means time.Now
	Sleep  func(ctx context.Context, d time.Duration) error // waits, or returns the context's error; nil means a timer
	Jitter func(limit time.Duration) time.Duration          // a random duration in [0, limit); nil means math/rand
}

// A Client fetches the files of one remote. It may be used by several goroutines; the remote's concurrency and rate
// limits hold over all of them. Connections and cookies live as long as the client.
type Client struct{}

// A Request says what to fetch and what is known of it.
type Request struct {
	URL     string
	Size    int64        // expected size in bytes; 0 or less if unknown
	Digests pulp.Digests // expected digests; those that are not allowed are ignored unless there are no others
	MaxSize int64        // the download fails when it is larger; 0 means no limit

	Method string      // GET if empty
	Header http.Header // more headers; they replace the remote's headers of the same name
	Body   []byte      // sent with each attempt
}

// A Response describes what came.
type Response struct {
	URL     string      // where it came from in the end, after redirects
	Status  int         // 200 for local files
	Header  http.Header // the headers as received; empty for local files
	Encoded bool        // the server compressed the body on the way; it is decoded here

	// Size is the number of decoded bytes: what was written for [Client.Get]; for [Client.Open] what the server
	// announced, -1 if it did not say.
	Size    int64
	Digests pulp.Digests  // for Get: all that the stage computed
	Body    io.ReadCloser // for Open only
}

// New returns a client for the remote.
func New(remote pulp.Remote, o Options) (*Client, error) {
	return nil, errors.ErrUnsupported
}

// Close frees idle connections. Bodies that are open can be read to their end.
func (c *Client) Close() {}

// Get downloads a file into the stage, with retries, and validates its digests and its size. The stage is reset before
// each attempt. After an error its contents mean nothing. Files of file:// URLs are copied.
func (c *Client) Get(ctx context.Context, r Request, into blob.Stage) (*Response, error) {
	return nil, errors.ErrUnsupported
}

// Bytes downloads a small file into memory, as Get does. Without a MaxSize the limit is 16 MiB.
func (c *Client) Bytes(ctx context.Context, r Request) ([]byte, *Response, error) {
	return nil, nil, errors.ErrUnsupported
}

// Open starts a download whose body is read by the caller, who closes it. Failures before the headers are retried.
// A body that breaks is continued where it broke: by a range request, or by reading what is known already once more
// and comparing. Its last Read returns an [*Error] instead of io.EOF when a digest or the size is not as expected.
func (c *Client) Open(ctx context.Context, r Request) (*Response, error) {
	return nil, errors.ErrUnsupported
}
