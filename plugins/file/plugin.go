// Package file is the plugin for plain files: units known by their path and digest, synced from and published with a
// manifest. It is the smallest complete plugin; a new one begins as a copy of it.
package file

import (
	"embed"

	"granary/internal/access"
	"granary/internal/content"
	"granary/internal/db"
	"granary/internal/plugin"
	"granary/internal/replica"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/task"
	"granary/internal/transfer"
)

//go:embed migrations
var migrations embed.FS

//go:embed access.json
var rules []byte

// Plugin describes the plugin.
func Plugin() plugin.Plugin {
	return plugin.Plugin{
		Name: "file", Version: "3.95.0",
		Schema: db.Schema{Component: "file", Files: db.Dir(migrations, "migrations")},
		Rules:  access.MustRules(rules),
		New:    func(h plugin.Host) plugin.Parts { return newFile(h).parts() },
	}
}

// file is the plugin within one server.
type file struct {
	plugin.Host
	contentType   *repository.ContentType
	repoType      *repository.RepositoryType
	contents      rest.Typed[Content]
	remotes       rest.Typed[Remote]
	repositories  rest.Typed[Repository]
	publications  rest.Typed[Publication]
	distributions rest.Typed[Distribution]
	sources       rest.Typed[Source]
}

func newFile(h plugin.Host) *file {
	p := &file{Host: h}
	p.contents, p.contentType = p.defineContent()
	p.remotes = p.defineRemotes()
	p.repositories, p.repoType = p.defineRepositories()
	p.publications = p.definePublications()
	p.distributions = p.defineDistributions()
	p.sources = p.defineSources()
	return p
}

func (p *file) parts() plugin.Parts {
	return plugin.Parts{
		Types: []*rest.Type{
			p.contents.Type, p.remotes.Type, p.repositories.Type, p.repoType.Versions(), p.publications.Type, p.distributions.Type, p.sources.Type,
		},
		Tasks: []task.Kind{
			{Name: taskSync, Run: p.runSync},
			{Name: taskPublish, Run: p.runPublish},
		},
		Serving:  map[string]content.Serving{pulpType: {FromPublication: true}},
		Transfer: []transfer.Format{p.format()},

		Replicators: []replica.Replicator{{
			App: "file", Distribution: p.distributions.Type, Repository: p.repositories.Type, Remote: p.remotes.Type, Source: replicaSource, Sync: replicaSync,
		}},
	}
}
