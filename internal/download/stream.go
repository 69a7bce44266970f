package download

import (
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// progress is how many bytes a stream must have given between two breaks for the first not to be held against it: a
// large file that is read slowly outlives many timeouts.
const progress = 1 << 20

// A stream is the body of [Client.Open]: it checks what passes, and goes on after a break.
type stream struct {
	c      *Client
	j      *job
	cancel context.CancelFunc
	reopen func(how coding, more http.Header) (*exchange, error) // one attempt

	v       *verifier
	seen    maphash.Hash // of all that was handed out, to compare when it has to be read again
	pause   func(failed *Error) error
	resumes int    // since there was progress
	resumed int64  // where the last one was
	again   bool   // whether it can be asked for again at all
	ranges  bool   // whether a range request may be tried
	ifRange string // the validator for it, empty if there is none

	pending error // of the exchange, to be dealt with by the next Read
	end     error // what every further Read returns

	mu     sync.Mutex // Close may come while Read waits
	x      *exchange
	closed bool
}

func newStream(ctx context.Context, cancel context.CancelFunc, c *Client, j *job, x *exchange) *stream {
	s := &stream{c: c, j: j, cancel: cancel, x: x, v: newVerifier(j, nil)}
	s.reopen = func(how coding, more http.Header) (*exchange, error) {
		if err := c.wait(ctx, j); err != nil {
			return nil, err
		}
		return c.start(ctx, j, how, more)
	}
	s.pause = func(failed *Error) error { return c.pause(ctx, j, s.resumes, failed) }

	// Part of a file is of use only if it is known to be the same file: by its validator, or by the digests in the end.
	// Bytes of a compressed body are not bytes of the file.
	h := x.resp.Header
	if etag := h.Get("ETag"); strings.HasPrefix(etag, `"`) {
		s.ifRange = etag
	}
	s.again = j.Method == http.MethodGet && j.Header.Get("Range") == ""
	s.ranges = !x.decoded && !strings.EqualFold(h.Get("Accept-Ranges"), "none") && (s.ifRange != "" || len(j.want) > 0)
	return s
}

// Read returns the file's next bytes.
func (s *stream) Read(p []byte) (int, error) {
	for s.end == nil && len(p) > 0 {
		err := s.pending
		if err == nil {
			var n int
			if n, err = s.exchange().body.Read(p); n > 0 {
				s.pending = err
				if s.end = s.v.take(p[:n], 0); s.end != nil {
					break
				}
				s.seen.Write(p[:n]) //nolint:errcheck // a hash never fails
				return n, nil
			}
		}
		s.pending = nil
		switch err {
		case nil:
		case io.EOF:
			if s.end = s.v.check(nil); s.end == nil {
				s.end = io.EOF
			}
		default:
			s.end = s.resume(s.exchange().failure(err))
		}
	}
	if len(p) == 0 {
		return 0, nil
	}
	return 0, s.end
}

// Close ends the download. It may be called while a Read waits, which then fails.
func (s *stream) Close() error {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.x.close()
	}
	return nil
}

func (s *stream) exchange() *exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.x
}

// use makes x the exchange that is read, in place of the one that broke.
func (s *stream) use(x *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.x.close()
	s.x = x
	if s.closed {
		x.close()
	}
}

// resume goes on after a failure with a new exchange that stands where the old one broke.
// It returns why the download has failed if it cannot.
func (s *stream) resume(err error) error {
	for {
		e, ok := asError(err)
		if s.v.size-s.resumed >= progress {
			s.resumes = 0
		}
		if !ok || !e.Retryable() || s.resumes >= s.c.retries || !s.again {
			return err
		}
		s.resumes++
		s.resumed = s.v.size
		if err := s.pause(e); err != nil {
			return err
		}
		how := s.reading(e)
		more := http.Header{}
		ranged := s.ranges && s.v.size > 0
		if ranged {
			more.Set("Accept-Encoding", "identity")
			more.Set("Range", "bytes="+strconv.FormatInt(s.v.size, 10)+"-")
			if s.ifRange != "" {
				more.Set("If-Range", s.ifRange)
			}
		}
		x, xerr := s.reopen(how, more)
		switch {
		case xerr == nil:
			if err = s.advance(x); err == nil {
				s.use(x)
				return nil
			}
			x.close()
		case ranged && isStatus(xerr, http.StatusRequestedRangeNotSatisfiable):
			s.ranges = false
		default:
			err = xerr
		}
	}
}

// reading says how the new exchange must read its body for the bytes to be of the same file.
func (s *stream) reading(failed *Error) coding {
	x := s.exchange()
	switch {
	case x.labelled && s.v.size == 0 && len(s.j.want) > 0 && x.doubtful(failed):
		// It was wrong from the first byte on, so that there is still a choice.
		if x.decoded {
			return raw
		}
		return decoded
	case x.decoded:
		return decoded
	case x.labelled:
		return raw
	}
	return auto
}

// advance moves a fresh exchange to the byte that comes next.
func (s *stream) advance(x *exchange) error {
	if x.resp.StatusCode == http.StatusPartialContent {
		first, ok := strings.CutPrefix(x.resp.Header.Get("Content-Range"), "bytes ")
		first, _, _ = strings.Cut(first, "-")
		if n, err := strconv.ParseInt(first, 10, 64); !ok || err != nil || n != s.v.size || x.decoded {
			s.ranges = false
			return s.j.fail(Broken, "Response payload is not completed", fmt.Errorf("unexpected range %q", x.resp.Header.Get("Content-Range")))
		}
		return nil
	}
	var again maphash.Hash
	again.SetSeed(s.seen.Seed())
	buf := s.c.buffers.Get().(*[bufferSize]byte)
	defer s.c.buffers.Put(buf)
	n, err := io.CopyBuffer(&again, io.LimitReader(x.body, s.v.size), buf[:])
	if err != nil {
		return x.failure(err)
	}
	if n < s.v.size || again.Sum64() != s.seen.Sum64() {
		return s.j.fail(Changed, "The file at the url "+s.j.shown+" changed while it was downloaded.", nil)
	}
	return nil
}

func isStatus(err error, code int) bool {
	e, ok := asError(err)
	return ok && e.Reason == Status && e.Code == code
}
