// Package download fetches files for one remote, over HTTP or from a local folder: with its credentials, certificates,
// proxy and limits, with retries, and with every known digest checked. Start with [New], [Client.Get] and [Client.Open].
package download

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"granary/internal/blob"
	"granary/internal/pulp"
)

// What holds where neither the remote nor the options say anything.
const (
	defaultConcurrency   = 10
	defaultRetries       = 3
	defaultRetryAfterCap = time.Minute
	defaultTotal         = 300 * time.Second
	defaultConnect       = 30 * time.Second
	defaultMemory        = 16 << 20

	maxConnections = 100
	maxRedirects   = 10
	bufferSize     = 128 << 10 // the pieces that stages hash fastest

	// surplus is how much more than the expected size is read, so that the error can name the true size and digest of
	// a file that is a little longer, while a server that never stops is left.
	surplus = 1 << 20
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

	SameOrigin bool // redirects to another host, port or scheme are errors

	// AllowAddr is asked before each connection is made, after the name was resolved. An error refuses the address,
	// and the download fails with it at once. With a proxy, the address is the proxy's.
	AllowAddr func(netip.AddrPort) error

	// Dial makes the connections if it is set. AllowAddr is not asked then.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	Log    *slog.Logger                                     // told of retries; nil means no log
	Now    pulp.Clock                                       // nil means time.Now
	Sleep  func(ctx context.Context, d time.Duration) error // waits, or returns the context's error; nil means a timer
	Jitter func(limit time.Duration) time.Duration          // a random duration in [0, limit); nil means math/rand
}

// A Client fetches the files of one remote. It may be used by several goroutines; the remote's concurrency and rate
// limits hold over all of them. Connections and cookies live as long as the client.
type Client struct {
	o         Options
	header    http.Header // of every request
	basic     string      // the remote's Authorization, or empty
	transport *http.Transport
	proxy     *url.URL // or nil
	jar       *cookiejar.Jar

	slots   *semaphore.Weighted
	rate    window
	retries int

	total, connect, sockRead time.Duration // 0 means no limit

	// identity is set once the server was caught labelling compressed files as compressed on the way, so that the
	// other files are not downloaded twice.
	identity atomic.Bool

	buffers sync.Pool // of *[bufferSize]byte
}

// A Request says what to fetch and what is known of it.
type Request struct {
	URL     string
	Size    int64        // expected size in bytes; 0 or less if unknown
	Digests pulp.Digests // expected digests; those that are not allowed are ignored unless there are no others
	MaxSize int64        // the download fails when it is larger; 0 means no limit

	Method string      // GET if empty; the answer to HEAD is not compared with Size and Digests
	Header http.Header // more headers; they replace the remote's headers of the same name
	Body   []byte      // sent with each attempt
}

// A Response describes what came.
type Response struct {
	URL     string      // where it came from in the end, after redirects; without credentials
	Status  int         // 200 for local files
	Header  http.Header // the headers as received; empty for local files
	Encoded bool        // the server compressed the body on the way; here it is decoded

	// Size is the number of decoded bytes: what was written for [Client.Get]; for [Client.Open] what the server
	// announced, -1 if it did not say.
	Size    int64
	Digests pulp.Digests  // for Get: all that the stage computed
	Body    io.ReadCloser // for Open only
}

// New returns a client for the remote. The error, of kind errs.Invalid, is one of the remote's fields.
func New(remote pulp.Remote, o Options) (*Client, error) {
	if o.UserAgent == "" {
		o.UserAgent = "granary"
	}
	if o.Allowed == nil {
		o.Allowed = pulp.Algorithms[:]
	}
	if o.RetryAfterCap <= 0 {
		o.RetryAfterCap = defaultRetryAfterCap
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.Jitter == nil {
		o.Jitter = rand.N[time.Duration]
	}
	concurrency := cmp.Or(max(remote.Concurrency, 0), max(o.Concurrency, 0), defaultConcurrency)
	c := &Client{
		o:        o,
		retries:  cmp.Or(max(remote.MaxRetries, 0), max(o.MaxRetries, 0), defaultRetries),
		slots:    semaphore.NewWeighted(int64(min(concurrency, maxConnections))),
		rate:     window{limit: remote.RateLimit},
		total:    seconds(remote.TotalTimeout, defaultTotal),
		connect:  seconds(remote.ConnectTimeout, 0),
		sockRead: seconds(remote.SockReadTimeout, 0),
	}
	c.buffers.New = func() any { return new([bufferSize]byte) }
	var err error
	if c.jar, err = cookiejar.New(nil); err != nil {
		return nil, fmt.Errorf("make a cookie jar: %w", err)
	}
	if c.header, err = remoteHeader(remote.Headers, o.UserAgent); err != nil {
		return nil, err
	}
	if remote.Username != "" && remote.Password != "" {
		c.basic = basicAuth(remote.Username, remote.Password)
	}
	if c.proxy, err = parseProxy(remote); err != nil {
		return nil, err
	}
	if c.transport, err = c.newTransport(remote); err != nil {
		return nil, err
	}
	return c, nil
}

// Close frees idle connections. Bodies that are open can be read to their end.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Get downloads a file into the stage, with retries, and validates its digests and its size. The stage is reset before
// each attempt. After an error its contents mean nothing. Files of file:// URLs are copied.
//
// At most as many Gets run at once as the remote allows; a Get that waits for its next attempt counts as running.
// An error that is the remote's fault is an [*Error]; others are the stage's, or the context's.
func (c *Client) Get(ctx context.Context, r Request, into blob.Stage) (*Response, error) {
	return c.get(ctx, r, into)
}

// Bytes downloads a small file into memory, as Get does. Without a MaxSize the limit is 16 MiB.
func (c *Client) Bytes(ctx context.Context, r Request) ([]byte, *Response, error) {
	if r.MaxSize <= 0 {
		r.MaxSize = defaultMemory
	}
	var m memory
	resp, err := c.get(ctx, r, &m)
	if err != nil {
		return nil, nil, err
	}
	return m.Bytes(), resp, nil
}

// Open starts a download whose body is read by the caller, who closes it. Failures before the headers are retried.
// A body that breaks is continued where it broke, as often as an attempt is retried: by a range request, or by reading
// once more what was read already and comparing. The body's last Read returns an [*Error] instead of io.EOF when a
// digest or the size is not as expected, and no byte beyond the expected size is handed out.
//
// The remote's concurrency limits Get, not Open, since a slow reader would keep all others waiting; its rate limits both.
func (c *Client) Open(ctx context.Context, r Request) (*Response, error) {
	j, err := c.prepare(r)
	if err != nil {
		return nil, err
	}
	if j.path != "" {
		return c.openLocalStream(ctx, j)
	}
	ctx, cancel := context.WithCancel(ctx)
	var x *exchange
	err = c.attempts(ctx, j, func() (err error) {
		x, err = c.start(ctx, j, auto, nil)
		return err
	})
	if err != nil {
		cancel()
		return nil, err
	}
	resp := x.response(c)
	resp.Size = x.size()
	resp.Body = newStream(ctx, cancel, c, j, x)
	return resp, nil
}

// A sink takes a download; a [blob.Stage] is one.
type sink interface {
	io.Writer
	Size() int64
	Digests() pulp.Digests
	Reset() error
}

func (c *Client) get(ctx context.Context, r Request, into sink) (*Response, error) {
	j, err := c.prepare(r)
	if err != nil {
		return nil, err
	}
	if err := c.slots.Acquire(ctx, 1); err != nil {
		return nil, j.canceled(err)
	}
	defer c.slots.Release(1)

	if j.path != "" {
		return c.copyLocal(ctx, j, into)
	}
	var resp *Response
	err = c.attempts(ctx, j, func() error {
		var doubt coding
		var err error
		if resp, doubt, err = c.fetch(ctx, j, into, auto); err == nil || doubt == auto {
			return err
		}
		// The body was labelled as compressed on the way, and was not what was expected: there are servers that put
		// this label on files which are compressed themselves. Read it in the other way before giving up on it.
		if err := c.wait(ctx, j); err != nil {
			return err
		}
		again, _, err2 := c.fetch(ctx, j, into, doubt)
		if err2 == nil {
			c.identity.Store(doubt == raw)
			resp = again
			return nil
		}
		if e, ok := asError(err2); !ok || !e.Retryable() {
			return err2
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// fetch makes one attempt of Get. When the bytes are wrong and the body was labelled as compressed,
// doubt is the other way to read it; otherwise it is auto.
func (c *Client) fetch(ctx context.Context, j *job, into sink, how coding) (_ *Response, doubt coding, _ error) {
	x, err := c.start(ctx, j, how, nil)
	if err != nil {
		return nil, auto, err
	}
	defer x.close()
	if x.labelled && len(j.want) > 0 {
		doubt = raw
		if !x.decoded {
			doubt = decoded
		}
	}
	if j.MaxSize > 0 && x.size() > j.MaxSize {
		return nil, auto, j.tooLarge()
	}
	sizer, err := c.copyBody(j, x.body, into)
	switch {
	case err == nil:
		resp := x.response(c)
		resp.Size, resp.Digests = sizer.size, into.Digests()
		return resp, auto, nil
	case sizer == nil: // the stage failed
		return nil, auto, err
	}
	err = x.failure(err)
	if e, ok := asError(err); !ok || !x.doubtful(e) {
		doubt = auto
	}
	return nil, doubt, err
}

// copyBody resets the sink, writes the body to it and checks the result. The verifier is nil when the sink failed;
// else the error is an *Error or comes from the body.
func (c *Client) copyBody(j *job, body io.Reader, into sink) (*verifier, error) {
	if into.Size() > 0 {
		if err := into.Reset(); err != nil {
			return nil, fmt.Errorf("start over with %s: %w", j.shown, err)
		}
	}
	v := newVerifier(j, into.Digests())
	buf := c.buffers.Get().(*[bufferSize]byte)
	defer c.buffers.Put(buf)
	for {
		n, rerr := fill(body, buf[:])
		if n > 0 {
			if err := v.take(buf[:n], surplus); err != nil {
				return v, err
			}
			if _, err := into.Write(buf[:n]); err != nil {
				return nil, fmt.Errorf("store %s: %w", j.shown, err)
			}
		}
		if rerr == io.EOF {
			return v, v.check(into.Digests())
		}
		if rerr != nil {
			return v, rerr
		}
	}
}

// fill reads until buf is full or r fails or ends.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// A job is a prepared request.
type job struct {
	Request
	url   *url.URL // what to ask for, without credentials; nil for local files
	auth  string   // the Authorization that the URL itself has, or empty
	path  string   // of a local file, else empty
	shown string   // the URL for errors: as given, without credentials
	want  pulp.Digests
	hide  func(string) string // takes secrets out of a text
}

// prepare checks all of a request that can be checked before it is sent.
func (c *Client) prepare(r Request) (*job, error) {
	j := &job{Request: r, hide: c.hide, shown: c.hide(r.URL)}
	j.Method = cmp.Or(r.Method, http.MethodGet)
	j.Header = http.Header{}
	for name, values := range r.Header {
		name = http.CanonicalHeaderKey(name)
		j.Header[name] = append(j.Header[name], values...)
	}
	if j.Method == http.MethodHead {
		j.Size, j.MaxSize = 0, 0
	} else {
		want, err := j.trusted(c.o.Allowed)
		if err != nil {
			return nil, err
		}
		j.want = want
	}
	scheme, _, _ := strings.Cut(r.URL, ":")
	switch strings.ToLower(scheme) {
	case "file":
		j.path = localPath(r.URL)
		if _, err := importRoot(j.path, c.o.ImportPaths); err != nil {
			return nil, j.fail(Forbidden, err.Error(), nil)
		}
		return j, nil
	case "http", "https":
	default:
		return nil, j.unsupported(j.shown)
	}
	u, err := parseURL(r.URL)
	if err != nil {
		return nil, j.fail(Scheme, "URL: "+j.shown+" is not valid.", nil)
	}
	j.url, j.auth = splitAuth(u)
	return j, nil
}

// trusted returns the expected digests that may be trusted. If none of those that there are may, the file is refused.
func (j *job) trusted(allowed []pulp.Algorithm) (pulp.Digests, error) {
	want := pulp.Digests{}
	for _, a := range pulp.Algorithms {
		if d := j.Digests[a]; d != "" && slices.Contains(allowed, a) {
			want[a] = d
		}
	}
	var known []string
	for a, d := range j.Digests {
		if d != "" {
			known = append(known, string(a))
		}
	}
	if len(want) > 0 || len(known) == 0 {
		return want, nil
	}
	slices.Sort(known)
	return nil, j.fail(Untrusted, fmt.Sprintf("Content at the URL '%s' does not contain at least one trusted hasher which is specified in the "+
		"'ALLOWED_CONTENT_CHECKSUMS' setting. It is known by: %s.", j.shown, strings.Join(known, ", ")), nil)
}

// A memory is a sink that keeps all it gets.
type memory struct{ bytes.Buffer }

func (m *memory) Size() int64           { return int64(m.Len()) }
func (m *memory) Digests() pulp.Digests { return nil }
func (m *memory) Reset() error          { m.Buffer.Reset(); return nil }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// seconds turns a remote's setting into a duration; 0 or less means the default.
func seconds(s float64, def time.Duration) time.Duration {
	switch {
	case !(s > 0): // also not a number
		return def
	case s > math.MaxInt64/float64(time.Second)/2:
		return 0
	}
	return max(time.Duration(s*float64(time.Second)), 1)
}
