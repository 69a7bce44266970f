package download

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// attempts calls f until it succeeds, fails for good, or has failed once more than there are retries.
func (c *Client) attempts(ctx context.Context, j *job, f func() error) error {
	for k := 1; ; k++ {
		err := c.wait(ctx, j)
		if err == nil {
			err = f()
		}
		e, ok := asError(err)
		if err == nil || !ok || !e.Retryable() || k > c.retries || ctx.Err() != nil {
			return err
		}
		if err := c.pause(ctx, j, k, e); err != nil {
			return err
		}
	}
}

// wait holds an attempt back until the remote's rate limit lets it go.
func (c *Client) wait(ctx context.Context, j *job) error {
	if d := c.rate.reserve(c.o.Now()); d > 0 {
		if err := c.o.Sleep(ctx, d); err != nil {
			return j.canceled(err)
		}
	}
	return nil
}

// pause waits before the k-th retry: a random part of 2^(k-1) seconds, or as long as the server asks for.
func (c *Client) pause(ctx context.Context, j *job, k int, failed *Error) error {
	d := c.o.Jitter(time.Second << min(k-1, 30))
	if after := retryAfter(failed, c.o.Now()); after > d {
		d = max(d, min(after, c.o.RetryAfterCap))
	}
	c.o.Log.Info("download failed, trying again", slog.String("url", j.shown), slog.Int("attempt", k),
		slog.Duration("wait", d), slog.String("error", failed.Error()))
	if err := c.o.Sleep(ctx, d); err != nil {
		return j.canceled(err)
	}
	return nil
}

// retryAfter is how long a busy server wants to be left alone, 0 if it does not say.
func retryAfter(e *Error, now time.Time) time.Duration {
	if e.Code != http.StatusTooManyRequests && e.Code != http.StatusServiceUnavailable {
		return 0
	}
	v := strings.TrimSpace(e.Header.Get("Retry-After"))
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return t.Sub(now)
	}
	return 0
}

// A window lets at most limit events happen in any second; 0 means any number.
type window struct {
	limit int

	mu     sync.Mutex
	starts []time.Time // when the last events happen, oldest first; the newest may be to come
}

// reserve gives the next event its place and says how far from now it is.
func (w *window) reserve(now time.Time) time.Duration {
	if w.limit <= 0 {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.starts) > 0 && now.Sub(w.starts[0]) >= time.Second {
		w.starts = w.starts[1:]
	}
	at := now
	if n := len(w.starts); n >= w.limit {
		if t := w.starts[n-w.limit].Add(time.Second); t.After(at) {
			at = t
		}
	}
	w.starts = append(w.starts, at)
	return at.Sub(now)
}
