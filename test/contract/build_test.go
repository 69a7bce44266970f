package contract

import (
	"testing"

	"granary/internal/plugin"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/rest/openapi"
	"granary/plugins/file"
)

// document returns the API's document as the server makes it, and the engine that it is made of.
func document(t *testing.T, domains bool) (*openapi.Document, *rest.Engine) {
	t.Helper()
	engine := rest.New(rest.Config{APIRoot: "/pulp/", Domains: domains})
	repos := repository.New(repository.Config{API: engine})
	engine.Add(repos.Types()...)
	engine.AddEndpoint(append(repos.OrphanEndpoints(), repos.RepairEndpoint())...)
	versions := map[string]string{"core": "3.95.0"}
	for _, p := range []plugin.Plugin{file.Plugin()} {
		parts := p.New(plugin.Host{API: engine, Repos: repos})
		engine.Add(parts.Types...)
		engine.AddEndpoint(parts.Endpoints...)
		versions[p.Name] = p.Version
	}
	return openapi.New(engine, openapi.Info{Versions: versions, Domains: domains, Root: "/pulp/"}), engine
}
