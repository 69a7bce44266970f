package server_test

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/plugin"
	"granary/internal/server"
	"granary/internal/settings"
	"granary/plugins/certguard"
	"granary/plugins/file"
)

// open makes a server with a data folder of the test's own.
func open(t *testing.T, cfg db.Config) *server.Server {
	t.Helper()
	environ := []string{"PULP_CONTENT_ORIGIN=http://localhost"}
	set, err := settings.Load(settings.Options{Environ: environ, DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.DSN != "" {
		set.Database = settings.Database{Engine: settings.Postgres, DSN: settings.Secret(cfg.DSN)}
	}
	s, err := server.Open(t.Context(), server.Config{
		Settings: set, Plugins: []plugin.Plugin{certguard.Plugin(), file.Plugin()}, Version: "test", Now: time.Now, Log: slog.New(slog.DiscardHandler), AccessLog: io.Discard, Migrate: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestTablesAreAsDeclared(t *testing.T) {
	for name, cfg := range map[string]func(t *testing.T) db.Config{
		"sqlite":   func(*testing.T) db.Config { return db.Config{} },
		"postgres": func(t *testing.T) db.Config { t.Helper(); return dbtest.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, cfg(t))
			tables := 0
			for _, typ := range s.API.Types() {
				for table, columns := range typ.Tables() {
					tables++
					rows, err := s.DB.Query(t.Context(), "SELECT "+strings.Join(columns, ", ")+" FROM "+table+" LIMIT 0")
					if err != nil {
						t.Errorf("%s: %v", typ.Label, err)
						continue
					}
					if err := rows.Close(); err != nil {
						t.Error(err)
					}
				}
			}
			if tables < 15 {
				t.Errorf("only %d tables are declared", tables)
			}
		})
	}
}
