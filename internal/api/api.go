// Package api is the HTTP side of the REST API: the frame of every request, from the correlation id to the domain, and those
// resources and endpoints that belong to no other part: tasks, workers, domains, status, login, documents.
// Start with [API.Handler].
package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"granary/internal/access"
	"granary/internal/db"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/rest/openapi"
	"granary/internal/settings"
	"granary/internal/storage"
	"granary/internal/task"
	"granary/internal/telemetry"
)

// A Component is a part of the server whose version clients ask for: the core or a plugin.
type Component struct {
	Name    string // "core", "file"
	Version string // of Pulp's, whose API it serves
	Package string // "pulpcore", "pulp-rpm"
	Module  string // "pulpcore.app", "pulp_rpm.app"
}

// A Config is what the API works with. All but the last three fields must be set.
type Config struct {
	Engine     *rest.Engine
	DB         *db.DB
	Tasks      *task.Queue
	Access     *access.Access
	Stores     *storage.Stores
	Log        *slog.Logger
	Now        pulp.Clock
	Settings   *settings.Settings
	Components []Component // the core first
	Document   *openapi.Document
	// ArtifactURL makes a link to a stored artifact for whoever has it.
	ArtifactURL func(ctx context.Context, artifact pulp.ID) (string, error)

	Metrics   *telemetry.Metrics // nil: none
	AccessLog *telemetry.Lines   // nil: none
	// BodyTimeout is how long a request's body may pause; 0 means a minute.
	BodyTimeout time.Duration
}

// An API is the frame, and the resources of this package.
type API struct {
	Config
	frame frame

	tasks     rest.Typed[Task]
	groups    rest.Typed[TaskGroup]
	workers   rest.Typed[Worker]
	schedules rest.Typed[TaskSchedule]
	domains   rest.Typed[Domain]
}

// New returns an API. What it declares the caller gives to the engine and the queue.
func New(c Config) *API {
	if c.BodyTimeout == 0 {
		c.BodyTimeout = time.Minute
	}
	a := &API{Config: c, frame: newFrame(c.Settings)}
	a.tasks = a.defineTasks()
	a.groups = a.defineTaskGroups()
	a.workers = a.defineWorkers()
	a.schedules = a.defineTaskSchedules()
	a.domains = a.defineDomains()
	return a
}

// Types returns the resources of this package.
func (a *API) Types() []*rest.Type {
	return []*rest.Type{a.tasks.Type, a.groups.Type, a.schedules.Type, a.workers.Type, a.domains.Type}
}

// Kinds returns the tasks of this package; those of its resources are the engine's general ones.
func (a *API) Kinds() []task.Kind { return []task.Kind{{Name: taskMigrate, Run: a.runMigrate}} }

// Endpoints returns the endpoints of this package.
func (a *API) Endpoints() []*rest.Endpoint {
	return append([]*rest.Endpoint{a.rootEndpoint(), a.statusEndpoint(), a.liveEndpoint(), a.loginEndpoint()}, a.documentEndpoints()...)
}

// Debug serves metrics at /metrics and profiles below /debug/pprof/, the latter to clients on the same machine alone.
func (a *API) Debug() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/debug/", telemetry.Debug())
	if a.Metrics != nil {
		mux.Handle("GET /metrics", a.Metrics.Handler())
	}
	return mux
}

// ObserveContent counts and logs the requests for content, as those of the API are.
func (a *API) ObserveContent(next http.Handler) http.Handler {
	o := &telemetry.Observer{Metrics: a.Metrics, Role: "content", Lines: a.AccessLog, Form: telemetry.ContentForm, Now: a.Now}
	return o.Wrap(next)
}
