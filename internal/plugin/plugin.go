// Package plugin says what a plugin is to the server, and what the server gives it.
package plugin

import (
	"log/slog"

	"granary/internal/access"
	"granary/internal/blob"
	"granary/internal/content"
	"granary/internal/db"
	"granary/internal/guard"
	"granary/internal/pulp"
	"granary/internal/replica"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/settings"
	"granary/internal/signing"
	"granary/internal/task"
	"granary/internal/transfer"
)

// A Plugin adds a kind of package to the server. It is a value that holds nothing but its description.
type Plugin struct {
	Name    string    // its label in types, URLs and settings, as "file"
	Version string    // the version of Pulp's plugin whose API it serves
	Schema  db.Schema // its own tables; without files if it has none
	Rules   access.Rules

	// New makes the plugin's parts for one server.
	New func(h Host) Parts
}

// A Host is what the server gives a plugin to work with.
type Host struct {
	DB       *db.DB
	API      *rest.Engine
	Tasks    *task.Queue
	Repos    *repository.Service
	Blobs    blob.Stores
	Settings *settings.Settings
	Signing  *signing.Services
	Now      pulp.Clock
	Log      *slog.Logger
}

// Parts are what a plugin adds to a server.
type Parts struct {
	Types     []*rest.Type
	Endpoints []*rest.Endpoint
	Tasks     []task.Kind
	Signing   []signing.Class            // the classes of signing services that it has
	Serving   map[string]content.Serving // how distributions are served, by pulp_type
	Guards    map[string]guard.Check     // who passes content guards, by pulp_type
	Transfer  []transfer.Format          // how repositories are exported and imported

	Replicators []replica.Replicator // how distributions are copied from other servers
}
