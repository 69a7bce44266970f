package download

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
)

// A coding says what to do with a body that is labelled as compressed.
type coding int

const (
	auto    coding = iota // decode it, unless there are signs that the file itself is compressed
	decoded               // decode it
	raw                   // do not, and ask for the file as it is
)

// An exchange is one attempt: a request, its redirects, and the last answer, whose body is still to be read.
type exchange struct {
	resp     *http.Response
	url      *url.URL
	body     io.Reader
	labelled bool // the body has a Content-Encoding
	decoded  bool // and body undoes it

	close   func()            // ends it, whatever its state
	failure func(error) error // turns an error of body into what the caller is told
}

// start sends the request, follows redirects, and returns when there is an answer with a body.
// An answer that is an error, or a redirect to nowhere, is an [*Error]. More headers may be given for this attempt.
func (c *Client) start(ctx context.Context, j *job, how coding, more http.Header) (_ *exchange, err error) {
	attempt, cancel := context.WithCancelCause(ctx)
	var total *time.Timer
	if c.total > 0 {
		total = time.AfterFunc(c.total, func() { cancel(errTimedOut) })
	}
	end := func() {
		if total != nil {
			total.Stop()
		}
		cancel(nil)
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	if how == auto && c.identity.Load() && len(j.want) > 0 {
		how = raw
	}

	at, auth := j.url, c.auth(j)
	home := true // nobody but the origin that was asked first gets its credentials
	method, payload := j.Method, j.Body
	for hops := 0; ; hops++ {
		req := c.request(j, method, at, payload, how, more)
		if home {
			if auth != "" {
				req.Header.Set("Authorization", auth)
			}
		} else {
			for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
				req.Header.Del(name)
			}
			if auth != "" {
				req.Header.Set("Authorization", auth)
			}
			req.Host = ""
		}
		resp, read, err := c.roundTrip(attempt, cancel, req)
		if err != nil {
			return nil, c.failure(ctx, attempt, j, at, false, err)
		}
		next, err := c.redirect(j, at, resp, hops)
		if err != nil || next == nil && !c.good(req, resp) {
			drain(resp, read)
			if err == nil {
				err = badStatus(c.hide(at.String()), j.shown, resp)
			}
			return nil, err
		}
		if next == nil {
			x := &exchange{resp: resp, url: at, close: func() { end(); resp.Body.Close() }}
			x.failure = func(err error) error { return c.failure(ctx, attempt, j, at, true, err) }
			if err := x.decode(j, how, &watchedReader{r: resp.Body, w: read}); err != nil {
				x.close()
				return nil, err
			}
			return x, nil
		}
		drain(resp, read)
		if resp.StatusCode < http.StatusTemporaryRedirect && method != http.MethodHead {
			method, payload = http.MethodGet, nil
		}
		next, given := splitAuth(next)
		if !sameOrigin(at, next) {
			home, auth = false, ""
		}
		if given != "" {
			auth = given
		}
		at = next
	}
}

// auth is the Authorization of a request to the origin that it names; empty leaves what its headers say.
func (c *Client) auth(j *job) string {
	switch {
	case j.Header.Get("Authorization") != "":
		return j.Header.Get("Authorization")
	case j.auth != "":
		return j.auth
	case c.header.Get("Authorization") != "":
		return c.header.Get("Authorization")
	}
	return c.basic
}

func (c *Client) request(j *job, method string, at *url.URL, payload []byte, how coding, more http.Header) *http.Request {
	h := c.header.Clone()
	if how == raw {
		h.Set("Accept-Encoding", "identity")
	}
	for _, extra := range []http.Header{j.Header, more} {
		for name, values := range extra {
			h[name] = values
		}
	}
	req := &http.Request{Method: method, URL: at, Header: h, Host: h.Get("Host"), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	h.Del("Host")
	if len(payload) > 0 {
		req.ContentLength = int64(len(payload))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(payload)), nil }
		req.Body, _ = req.GetBody()
	}
	return req
}

// roundTrip sends one request under the remote's timeouts, with the cookies that the server gave before. The watch
// that it returns belongs to the reads of the body.
func (c *Client) roundTrip(attempt context.Context, cancel context.CancelCauseFunc, req *http.Request) (*http.Response, *watch, error) {
	connect, read := &watch{limit: c.connect, cancel: cancel}, &watch{limit: c.sockRead, cancel: cancel}
	ctx := httptrace.WithClientTrace(context.WithValue(attempt, dialKey{}, attempt), &httptrace.ClientTrace{
		GetConn: func(string) { connect.arm() },
		GotConn: func(httptrace.GotConnInfo) { connect.disarm(); read.arm() },
	})
	for _, cookie := range c.jar.Cookies(req.URL) {
		req.AddCookie(cookie)
	}
	resp, err := c.transport.RoundTrip(req.WithContext(ctx))
	connect.disarm()
	read.disarm()
	if err != nil {
		return nil, nil, err
	}
	if cookies := resp.Cookies(); len(cookies) > 0 {
		c.jar.SetCookies(req.URL, cookies)
	}
	return resp, read, nil
}

// redirect returns where the answer sends the client, nil if it does not.
func (c *Client) redirect(j *job, at *url.URL, resp *http.Response, hops int) (*url.URL, error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	location := resp.Header.Get("Location")
	if location == "" {
		return nil, nil
	}
	if hops == maxRedirects {
		return nil, j.fail(Redirects, fmt.Sprintf("0, message='Too many redirects', url=%s", repr(c.hide(j.url.String()))), nil)
	}
	next, err := resolve(at, location)
	if err != nil || next.Scheme != "http" && next.Scheme != "https" || next.Hostname() == "" {
		return nil, j.unsupported(c.hide(location))
	}
	if c.o.SameOrigin && !sameOrigin(at, next) {
		return nil, j.fail(Redirects, fmt.Sprintf("0, message='Redirect to another server', url=%s", repr(c.hide(next.String()))), nil)
	}
	return next, nil
}

// good says whether the answer has the file: a part of it only if a part was asked for.
func (c *Client) good(req *http.Request, resp *http.Response) bool {
	if resp.StatusCode == http.StatusPartialContent {
		return req.Header.Get("Range") != ""
	}
	return resp.StatusCode >= 200 && resp.StatusCode < 300
}

// drain reads what is left of a small body, so that its connection can be used again, and closes it.
func drain(resp *http.Response, read *watch) {
	const small = 64 << 10
	if n := resp.ContentLength; n >= 0 && n <= small {
		read.limit = time.Second
		io.Copy(io.Discard, &watchedReader{r: resp.Body, w: read}) //nolint:errcheck // then the connection is just closed
	}
	resp.Body.Close() //nolint:errcheck // nothing was written
}

// decode sets the exchange's body to the file's bytes.
func (x *exchange) decode(j *job, how coding, body *watchedReader) error {
	x.body = body
	encoding := strings.ToLower(strings.TrimSpace(strings.Join(x.resp.Header.Values("Content-Encoding"), ", ")))
	if encoding == "" || encoding == "identity" || j.Method == http.MethodHead {
		return nil
	}
	x.labelled = true
	if how == raw || how == auto && j.Size > 0 && x.resp.ContentLength == j.Size {
		return nil // as many bytes as the file has: it is not compressed on the way, but labelled so because it is a .gz
	}
	x.decoded = true
	switch encoding {
	case "gzip", "x-gzip":
		x.body = newDecoder(body, "gzip", openGzip)
	case "deflate":
		x.body = newDecoder(body, "deflate", openDeflate)
	default:
		return j.fail(Encoding, "Can not decode content-encoding: "+encoding, nil)
	}
	return nil
}

// doubtful says whether e may come from reading a labelled body in the wrong way.
func (x *exchange) doubtful(e *Error) bool {
	if e.Reason == Broken {
		_, ok := e.Err.(*errDecode)
		return ok
	}
	return e.Reason == Checksum || e.Reason == Size
}

// size is the number of bytes that the body will have, -1 if the server did not say.
func (x *exchange) size() int64 {
	if x.decoded {
		return -1
	}
	return x.resp.ContentLength
}

func (x *exchange) response(c *Client) *Response {
	return &Response{URL: c.hide(x.url.String()), Status: x.resp.StatusCode, Header: x.resp.Header, Encoded: x.decoded}
}

// A decoder undoes a Content-Encoding. It looks at the body when it is read first; an empty body is an empty file.
type decoder struct {
	body     *watchedReader
	buf      *bufio.Reader // of body
	encoding string
	open     func(*bufio.Reader) (io.Reader, error)
	dec      io.Reader
}

func newDecoder(body *watchedReader, encoding string, open func(*bufio.Reader) (io.Reader, error)) *decoder {
	return &decoder{body: body, buf: bufio.NewReader(body), encoding: encoding, open: open}
}

func (d *decoder) Read(p []byte) (int, error) {
	if d.dec == nil {
		if _, err := d.buf.Peek(1); err != nil {
			return 0, err
		}
		dec, err := d.open(d.buf)
		if err != nil {
			return 0, d.blame(err)
		}
		d.dec = dec
	}
	n, err := d.dec.Read(p)
	if err != nil && err != io.EOF {
		err = d.blame(err)
	}
	return n, err
}

// blame says whether it was the connection or the data that failed.
func (d *decoder) blame(err error) error {
	if d.body.err != nil {
		return d.body.err
	}
	return &errDecode{d.encoding, err}
}

func openGzip(r *bufio.Reader) (io.Reader, error) { return gzip.NewReader(r) }

// openDeflate reads what servers mean by "deflate": the zlib format as the standard says, or bare deflate.
func openDeflate(r *bufio.Reader) (io.Reader, error) {
	if h, err := r.Peek(2); err == nil && h[0]&0x0f == 8 && (int(h[0])<<8|int(h[1]))%31 == 0 {
		return zlib.NewReader(r)
	}
	return flate.NewReader(r), nil
}

// A watch cancels an attempt that is armed for longer than the limit; with a limit of 0 it never does.
type watch struct {
	limit  time.Duration
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func (w *watch) arm() {
	switch {
	case w.limit <= 0:
	case w.timer == nil:
		w.timer = time.AfterFunc(w.limit, func() { w.cancel(errTimedOut) })
	default:
		w.timer.Reset(w.limit)
	}
}

func (w *watch) disarm() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// A watchedReader watches each read, but not what happens between them.
type watchedReader struct {
	r   io.Reader
	w   *watch
	err error // the last error that was not the end
}

func (r *watchedReader) Read(p []byte) (int, error) {
	r.w.arm()
	n, err := r.r.Read(p)
	r.w.disarm()
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
