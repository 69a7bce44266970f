package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"granary/internal/pulp"
)

// A LogConfig says where log lines go and which are written.
type LogConfig struct {
	Output io.Writer
	JSON   bool // one object a line, instead of Pulp's form
	// Levels are the least levels of loggers by name: "pulpcore.tasking" rules "pulpcore.tasking.worker" too, "" those
	// that no other name rules. Without it that is slog.LevelInfo.
	Levels map[string]slog.Level
}

// NewLogger returns a logger that writes, at once and whole,
//
//	pulp [<correlation id>]: <logger>:<LEVEL>: <message> <attributes>
//
// The correlation id is that of the context's [pulp.Call], "None" where there is none; the logger's name is the
// one that [Named] gave.
func NewLogger(c LogConfig) *slog.Logger {
	h := &handler{out: &output{w: c.Output}, levels: c.Levels, name: rootName}
	h.level = h.levelOf("")
	if c.JSON {
		h.json = slog.NewJSONHandler(h.out, &slog.HandlerOptions{Level: minLevel, ReplaceAttr: levelNames})
	}
	return slog.New(h)
}

const (
	nameKey  = "logger"
	rootName = "granary"
	minLevel = slog.Level(-100) // the handler has looked at the level before
)

// Named returns the logger of a part of the server, as "pulpcore.tasking".
func Named(l *slog.Logger, name string) *slog.Logger { return l.With(slog.String(nameKey, name)) }

// An output writes lines whole.
type output struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(b)
}

// A handler writes Pulp's line, or hands on to one that writes JSON.
type handler struct {
	out    *output
	json   slog.Handler // nil for Pulp's form
	levels map[string]slog.Level
	name   string
	level  slog.Level
	attrs  []byte // rendered
	group  string // of the attributes to come, with a dot at the end
}

// levelOf returns the least level of a logger.
func (h *handler) levelOf(name string) slog.Level {
	for {
		if l, ok := h.levels[name]; ok {
			return l
		}
		if name == "" {
			return slog.LevelInfo
		}
		name = name[:max(strings.LastIndexByte(name, '.'), 0)]
	}
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	if i := slices.IndexFunc(attrs, func(a slog.Attr) bool { return a.Key == nameKey }); i >= 0 && h.group == "" {
		next.name = attrs[i].Value.String()
		next.level = next.levelOf(next.name)
		attrs = slices.Delete(slices.Clone(attrs), i, i+1)
	}
	if h.json != nil {
		if len(attrs) > 0 {
			next.json = h.json.WithAttrs(attrs)
		}
		return &next
	}
	next.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		next.attrs = appendAttr(next.attrs, h.group, a)
	}
	return &next
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	if h.json != nil {
		next.json = h.json.WithGroup(name)
	}
	next.group += name + "."
	return &next
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	cid := pulp.CallOf(ctx).CID
	if h.json != nil {
		full := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
		full.AddAttrs(slog.String(nameKey, h.name))
		if cid != "" {
			full.AddAttrs(slog.String("correlation_id", cid))
		}
		r.Attrs(func(a slog.Attr) bool { full.AddAttrs(a); return true })
		return h.json.Handle(ctx, full)
	}
	if cid == "" {
		cid = "None"
	}
	b := make([]byte, 0, 256)
	b = append(b, "pulp ["...)
	b = append(b, cid...)
	b = append(b, "]: "...)
	b = append(b, h.name...)
	b = append(b, ':')
	b = append(b, levelName(r.Level)...)
	b = append(b, ": "...)
	b = appendText(b, r.Message)
	b = append(b, h.attrs...)
	r.Attrs(func(a slog.Attr) bool { b = appendAttr(b, h.group, a); return true })
	b = append(b, '\n')
	_, err := h.out.Write(b)
	return err
}

// levelName writes a level as Python does.
func levelName(l slog.Level) string {
	switch {
	case l > slog.LevelError:
		return "CRITICAL"
	case l >= slog.LevelError:
		return "ERROR"
	case l >= slog.LevelWarn:
		return "WARNING"
	case l >= slog.LevelInfo:
		return "INFO"
	}
	return "DEBUG"
}

func levelNames(groups []string, a slog.Attr) slog.Attr {
	if l, ok := a.Value.Any().(slog.Level); ok && len(groups) == 0 && a.Key == slog.LevelKey {
		a.Value = slog.StringValue(levelName(l))
	}
	return a
}

// appendText appends a message. The lines after its first are indented, so that none can pass for a log line of its own.
func appendText(b []byte, s string) []byte {
	for i, line := range strings.Split(strings.TrimRight(s, "\r\n"), "\n") {
		if i > 0 {
			b = append(b, "\n    "...)
		}
		b = appendPrintable(b, line)
	}
	return b
}

// appendPrintable appends a line with its control characters made visible.
func appendPrintable(b []byte, s string) []byte {
	for _, r := range s {
		if r < ' ' && r != '\t' || r == 0x7f {
			b = fmt.Appendf(b, `\x%02x`, r)
			continue
		}
		b = append(b, string(r)...)
	}
	return b
}

// appendAttr appends " key=value"; a value of several lines follows indented on lines of its own.
func appendAttr(b []byte, group string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, member := range v.Group() {
			b = appendAttr(b, group, member)
		}
		return b
	}
	if a.Key == "" {
		return b
	}
	var text string
	switch v.Kind() {
	case slog.KindTime:
		text = v.Time().UTC().Format(time.RFC3339Nano)
	default:
		text = v.String()
	}
	if strings.Contains(text, "\n") {
		b = append(append(append(b, "\n  "...), group+a.Key...), ":\n    "...)
		return appendText(b, text)
	}
	b = append(append(append(b, ' '), group+a.Key...), '=')
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || r == 0x7f }) {
		return strconv.AppendQuote(b, text)
	}
	return append(b, text...)
}
