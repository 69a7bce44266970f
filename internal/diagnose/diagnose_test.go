package diagnose_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"maps"
	"regexp"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/diagnose"
	"granary/internal/pulp"
	"granary/internal/repository/repositorytest"
	"granary/internal/task"
)

func service(w *repositorytest.World, log *slog.Logger, allowed ...string) *diagnose.Service {
	return diagnose.New(diagnose.Config{
		DB: w.DB, Log: log, Allowed: allowed, Save: w.Repos.SaveArtifact, Every: time.Millisecond,
		Stage: func(ctx context.Context) (blob.Stage, error) { return w.Blobs.Stage(ctx) },
	})
}

// measure runs f as a task for which diagnoses were asked for, and returns what was kept, by name.
func measure(w *repositorytest.World, s *diagnose.Service, kinds []string, f func(ctx context.Context)) map[string]string {
	w.Helper()
	t, err := w.Tasks.Dispatch(w.Context(), task.Spec{Name: "pulpcore.app.tasks.orphan.orphan_cleanup"}) // whose row there is to be
	if err != nil {
		w.Fatal(err)
	}
	w.Wait(t.ID.String())
	t.Profilers = kinds
	ctx, end := s.Start(w.Context(), t)
	f(ctx)
	end()
	found, err := diagnose.Artifacts(w.Context(), w.DB, t.ID)
	if err != nil {
		w.Fatal(err)
	}
	texts := map[string]string{}
	for name, id := range found {
		sha, err := db.Value[string](w.Context(), w.DB, "SELECT sha256 FROM core_artifact WHERE id = ?", id)
		if err != nil {
			w.Fatal(err)
		}
		b, err := w.Blobs.Open(w.Context(), blob.ArtifactKey(w.Call.Domain, sha))
		if err != nil {
			w.Fatal(err)
		}
		defer b.Close() //nolint:errcheck // it was only read
		text, err := io.ReadAll(b)
		if err != nil {
			w.Fatal(err)
		}
		texts[name] = string(text)
	}
	return texts
}

func TestDiagnoses(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		w := repositorytest.New(t, d)
		var printed bytes.Buffer
		log := slog.New(diagnose.Handler(slog.NewTextHandler(&printed, nil)))
		s := service(w, log, "memory", "pyinstrument", "memray", "logs", "debug-logs")
		got := measure(w, s, []string{"memory", "memory", "pyinstrument", "memray", "logs", "debug-logs", "unheard-of"}, func(ctx context.Context) {
			var label string
			pprof.ForLabels(ctx, func(_, value string) bool { label = value; return true })
			if _, err := pulp.ParseID(label); err != nil {
				t.Errorf("the task's samples are labelled %q", label)
			}
			log.With("by", "us").WithGroup("g").InfoContext(ctx, "told", slog.Int("n", 1))
			log.DebugContext(ctx, "whispered")
			log.InfoContext(w.Context(), "of another")
			time.Sleep(5 * time.Millisecond)
		})
		want := []string{"memory_profile", "memray_profile", "pyinstrument_profile", "task_debug_logs", "task_logs"}
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
			t.Fatal(diff)
		}
		if !regexp.MustCompile(`^# Seconds\tMemory in MB\n(\d+\.\d\d\t\d+\.\d\d\n){2,}$`).MatchString(got["memory_profile"]) {
			t.Errorf("memory: %q", got["memory_profile"])
		}
		for _, name := range []string{"memray_profile", "pyinstrument_profile"} {
			if _, err := gzip.NewReader(strings.NewReader(got[name])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if s := got["task_logs"]; !strings.Contains(s, "msg=told by=us g.n=1\n") || strings.Contains(s, "whispered") || strings.Contains(s, "another") {
			t.Errorf("logs: %s", s)
		}
		if s := got["task_debug_logs"]; !strings.Contains(s, "told") || !strings.Contains(s, "whispered") {
			t.Errorf("debug logs: %s", s)
		}
		if s := printed.String(); strings.Contains(s, "whispered") || !strings.Contains(s, "told") {
			t.Errorf("printed: %s", s)
		}
		// what was measured is no orphan as long as there is the task
		w.Advance(25 * time.Hour)
		w.Run("POST", repositorytest.Root+"orphans/cleanup/", repositorytest.Object{"orphan_protection_time": 0})
		count := func(want int) {
			t.Helper()
			if n, err := db.Value[int](w.Context(), d, "SELECT count(*) FROM core_artifact"); err != nil || n != want {
				t.Errorf("%d artifacts, %v, want %d", n, err, want)
			}
		}
		count(len(want))
		err := d.Update(w.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(w.Context(), "DELETE FROM core_task WHERE id IN (SELECT task FROM core_profileartifact)")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		w.Run("POST", repositorytest.Root+"orphans/cleanup/", repositorytest.Object{"orphan_protection_time": 0})
		count(0)
	})
}

func TestWhatMayNotOrCannotBeMeasured(t *testing.T) {
	w := repositorytest.New(t, dbtest.Open(t, dbtest.SQLite(t)))
	var printed bytes.Buffer
	log := slog.New(diagnose.Handler(slog.NewTextHandler(&printed, nil)))
	s := service(w, log, "pyinstrument")
	inner := map[string]string{"": ""}
	outer := measure(w, s, []string{"memory", "pyinstrument"}, func(context.Context) {
		inner = measure(w, s, []string{"pyinstrument"}, func(context.Context) {})
	})
	if len(inner) != 0 || len(outer) != 1 || outer["pyinstrument_profile"] == "" {
		t.Errorf("kept are %d and %d", len(outer), len(inner))
	}
	if s := printed.String(); !strings.Contains(s, "TASK_DIAGNOSTICS does not allow\" kind=memory") || !strings.Contains(s, "being profiled for another task") {
		t.Errorf("logged: %s", s)
	}
}
