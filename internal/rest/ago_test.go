package rest_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/rest/resttest"
)

// TestAgo sends a body to an action one of whose fields is a time so long before now where it isn't given.
func TestAgo(t *testing.T) {
	type input struct {
		Before pulp.Time `api:"before,ago=48h"`
	}
	engine := rest.New(rest.Config{
		APIRoot: "/pulp/", Auth: resttest.Anybody{}, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Date(2026, 3, 1, 5, 0, 0, 0, time.UTC) },
	})
	engine.AddEndpoint(&rest.Endpoint{App: "core", Path: "clean/", Actions: []rest.Action{{
		Request: input{},
		Handle: func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
			var in input
			if err := r.Decode(&in); err != nil {
				return nil, err
			}
			return engine.JSON(ctx, http.StatusOK, in)
		},
	}}})
	for body, want := range map[string]string{
		`{}`:                                `{"before":"2026-02-27T05:00:00.000000Z"}`,
		`{"before":"2020-01-01T00:00:00Z"}`: `{"before":"2020-01-01T00:00:00.000000Z"}`,
		`{"before":null}`:                   `{"before":["This field may not be null."]}`,
	} {
		r := httptest.NewRequestWithContext(pulp.WithCall(t.Context(), &pulp.Call{Root: "/pulp/"}), http.MethodPost, "/clean/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		engine.ServeHTTP(w, r)
		if got := w.Body.String(); got != want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
}
