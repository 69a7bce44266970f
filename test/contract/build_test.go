package contract

import (
	"io"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"granary/internal/plugin"
	"granary/internal/rest"
	"granary/internal/rest/openapi"
	"granary/internal/server"
	"granary/internal/settings"
	"granary/plugins/certguard"
	"granary/plugins/file"
)

// document returns the document of a server with all plugins, and the engine that it is made of.
func document(t *testing.T, domains bool) (*openapi.Document, *rest.Engine) {
	t.Helper()
	set, err := settings.Load(settings.Options{
		DataDir: t.TempDir(),
		Environ: []string{"PULP_CONTENT_ORIGIN=http://localhost", "PULP_DOMAIN_ENABLED=" + strconv.FormatBool(domains)},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.Open(t.Context(), server.Config{
		Settings: set, Plugins: []plugin.Plugin{certguard.Plugin(), file.Plugin()}, Version: "test", Now: time.Now, Log: slog.New(slog.DiscardHandler), AccessLog: io.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.HTTP.Document, s.API
}
