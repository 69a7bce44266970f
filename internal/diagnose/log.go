package diagnose

import (
	"context"
	"io"
	"log/slog"
	"sync"
)

// A collector writes what a task logs.
type collector struct {
	slog.Handler
	out *gate
}

// A gate lets bytes through until it is closed, and only so many.
type gate struct {
	mu   sync.Mutex
	w    io.Writer // nil once closed
	left int
	err  error
}

// maxLog is how much of what a task logs is kept, in bytes.
const maxLog = 64 << 20

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.w == nil || g.err != nil || g.left < len(p) {
		return len(p), nil
	}
	g.left -= len(p)
	_, g.err = g.w.Write(p)
	return len(p), nil
}

func (g *gate) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.w = nil
	return g.err
}

type collectorsKey struct{}

// collect makes what is logged with the context go to w too, until end is called.
func collect(ctx context.Context, w io.Writer, debug bool) (_ context.Context, end func() error) {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	g := &gate{w: w, left: maxLog}
	c := collector{slog.NewTextHandler(g, &slog.HandlerOptions{Level: level}), g}
	before, _ := ctx.Value(collectorsKey{}).([]collector)
	return context.WithValue(ctx, collectorsKey{}, append(before[:len(before):len(before)], c)), g.close
}

// A handler passes records on, and to the collectors of the context that they are logged with.
type handler struct {
	slog.Handler
	steps []func(slog.Handler) slog.Handler // WithAttrs and WithGroup, for the collectors
}

// Handler returns a handler that lets tasks' logs be collected, and otherwise does what next does.
func Handler(next slog.Handler) slog.Handler { return handler{Handler: next} }

func collectors(ctx context.Context) []collector {
	list, _ := ctx.Value(collectorsKey{}).([]collector)
	return list
}

func (h handler) Enabled(ctx context.Context, l slog.Level) bool {
	if h.Handler.Enabled(ctx, l) {
		return true
	}
	for _, c := range collectors(ctx) {
		if c.Enabled(ctx, l) {
			return true
		}
	}
	return false
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	for _, c := range collectors(ctx) {
		if !c.Enabled(ctx, r.Level) {
			continue
		}
		to := c.Handler
		for _, step := range h.steps {
			to = step(to)
		}
		_ = to.Handle(ctx, r.Clone()) // the gate remembers what goes wrong
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(to slog.Handler) slog.Handler { return to.WithAttrs(attrs) })
}

func (h handler) WithGroup(name string) slog.Handler {
	return h.with(func(to slog.Handler) slog.Handler { return to.WithGroup(name) })
}

func (h handler) with(step func(slog.Handler) slog.Handler) slog.Handler {
	return handler{step(h.Handler), append(h.steps[:len(h.steps):len(h.steps)], step)}
}
