package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/pulp"
	"granary/internal/telemetry"
)

func TestLog(t *testing.T) {
	ctx := pulp.WithCall(context.Background(), &pulp.Call{CID: "0123456789abcdef0123456789abcdef"})
	for _, tc := range []struct {
		name string
		log  func(l *slog.Logger)
		want string
	}{
		{"a message outside of any call", func(l *slog.Logger) { l.Info("started") }, "pulp [None]: granary:INFO: started\n"},
		{
			"a task's line, as operators grep it", func(l *slog.Logger) {
				telemetry.Named(l, "pulpcore.tasking.tasks").InfoContext(ctx, "Starting task id: U in domain: default, task_type: T, immediate: False, deferred: True")
			},
			"pulp [0123456789abcdef0123456789abcdef]: pulpcore.tasking.tasks:INFO: Starting task id: U in domain: default, task_type: T, immediate: False, deferred: True\n",
		},
		{"levels are called as Python calls them", func(l *slog.Logger) { l.Warn("w"); l.Error("e"); l.Log(ctx, slog.LevelError+2, "c") }, "pulp [None]: granary:WARNING: w\npulp [None]: granary:ERROR: e\npulp [0123456789abcdef0123456789abcdef]: granary:CRITICAL: c\n"},
		{"attributes", func(l *slog.Logger) {
			l.Info("m", "n", 1, "text", "two words", "none", "", "at", time.Unix(0, 0), "error", errors.New("bad"), slog.Group("g", "a", true))
		}, `pulp [None]: granary:INFO: m n=1 text="two words" none="" at=1970-01-01T00:00:00Z error=bad g.a=true` + "\n"},
		{"attributes given before", func(l *slog.Logger) { l.With("a", 1).WithGroup("g").With("b", 2).Info("m", "c", 3) }, "pulp [None]: granary:INFO: m a=1 g.b=2 g.c=3\n"},
		{"a message cannot pass for two lines", func(l *slog.Logger) { l.Info("one\npulp [None]: x:INFO: fake\r\n\x1b[2J") }, "pulp [None]: granary:INFO: one\n    pulp [None]: x:INFO: fake\\x0d\n    \\x1b[2J\n"},
		{"a stack is readable", func(l *slog.Logger) { l.Error("panic", "stack", "a\n\tb") }, "pulp [None]: granary:ERROR: panic\n  stack:\n    a\n    \tb\n"},
		{"a logger below its level is quiet", func(l *slog.Logger) {
			telemetry.Named(l, "noisy.part").Info("no")
			telemetry.Named(l, "noisy.part").Error("yes")
			telemetry.Named(l, "chatty").Debug("yes")
			telemetry.Named(l, "noisyother").Info("yes")
			l.Debug("no")
		}, "pulp [None]: noisy.part:ERROR: yes\npulp [None]: chatty:DEBUG: yes\npulp [None]: noisyother:INFO: yes\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b bytes.Buffer
			tc.log(telemetry.NewLogger(telemetry.LogConfig{Output: &b, Levels: map[string]slog.Level{"noisy": slog.LevelError, "chatty": slog.LevelDebug}}))
			if diff := cmp.Diff(tc.want, b.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestLogJSON(t *testing.T) {
	var b bytes.Buffer
	l := telemetry.NewLogger(telemetry.LogConfig{Output: &b, JSON: true, Levels: map[string]slog.Level{"": slog.LevelWarn, "x": slog.LevelDebug}})
	l.Info("quiet")
	ctx := pulp.WithCall(context.Background(), &pulp.Call{CID: "c"})
	telemetry.Named(l, "x.y").With("a", 1).DebugContext(ctx, "one\ntwo", "b", "c")
	if n := strings.Count(b.String(), "\n"); n != 1 {
		t.Fatalf("%d lines, want 1: %s", n, b.String())
	}
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	delete(got, "time")
	want := map[string]any{"level": "DEBUG", "msg": "one\ntwo", "logger": "x.y", "correlation_id": "c", "a": 1.0, "b": "c"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
