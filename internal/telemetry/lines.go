package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Lines takes lines from many goroutines and writes them to one place, without making anybody wait for it.
// [Lines.Run] does the writing.
type Lines struct {
	w    io.Writer
	wake chan struct{}
	full chan struct{}

	mu   sync.Mutex
	buf  []byte
	lost int64 // lines for which there was no room

	pool sync.Pool // of *[]byte, in which lines are made
}

const (
	linesDelay = 100 * time.Millisecond // that a line may stay
	linesBatch = 64 << 10               // bytes that are written without further delay
	linesLimit = 4 << 20                // bytes that may wait; what comes then is dropped and counted
)

// NewLines returns Lines that go to w.
func NewLines(w io.Writer) *Lines {
	l := &Lines{w: w, wake: make(chan struct{}, 1), full: make(chan struct{}, 1)}
	l.pool.New = func() any { b := make([]byte, 0, 512); return &b }
	return l
}

// Run writes lines until ctx ends, and then those that are left. It returns what went wrong with the writing.
func (l *Lines) Run(ctx context.Context) error {
	var spare []byte
	var failed error
	for {
		select {
		case <-ctx.Done():
			_, err := l.flush(spare)
			return errors.Join(failed, err)
		case <-l.wake:
		}
		delay := time.NewTimer(linesDelay)
		select {
		case <-delay.C:
		case <-l.full:
		case <-ctx.Done():
		}
		delay.Stop()
		var err error
		if spare, err = l.flush(spare); err != nil && failed == nil {
			failed = fmt.Errorf("write log lines: %w", err)
		}
	}
}

// flush writes what has gathered, and returns the buffer for the next time.
func (l *Lines) flush(spare []byte) ([]byte, error) {
	l.mu.Lock()
	b, lost := l.buf, l.lost
	l.buf, l.lost = spare[:0], 0
	l.mu.Unlock()
	if lost > 0 {
		b = fmt.Appendf(b, "%d lines were dropped: they came faster than they could be written\n", lost)
	}
	if len(b) == 0 {
		return b, nil
	}
	_, err := l.w.Write(b)
	return b, err
}

// add appends a line that f makes.
func (l *Lines) add(f func(b []byte) []byte) {
	p := l.pool.Get().(*[]byte)
	*p = append(f((*p)[:0]), '\n')
	l.mu.Lock()
	first, ripe := len(l.buf) == 0, false
	if len(l.buf)+len(*p) > linesLimit {
		l.lost++
	} else {
		l.buf = append(l.buf, *p...)
		ripe = len(l.buf) > linesBatch
	}
	l.mu.Unlock()
	l.pool.Put(p)
	if first {
		notify(l.wake)
	}
	if ripe {
		notify(l.full)
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
