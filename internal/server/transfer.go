package server

import (
	"granary/internal/api"
	"granary/internal/transfer"
)

// addTransfer adds exporters and importers for the plugins' repositories.
func (s *Server) addTransfer(components []api.Component, formats []transfer.Format) {
	set := s.Settings
	versions := make([]transfer.Component, len(components))
	for i, c := range components {
		versions[i] = transfer.Component{Component: c.Name, Version: c.Version}
	}
	t := transfer.New(transfer.Config{
		DB: s.DB, API: s.API, Tasks: s.Tasks, Repos: s.Repos, Blobs: s.Blobs, Log: s.Log, Now: s.Now,
		ExportPaths: set.AllowedExportPaths, ImportPaths: set.AllowedImportPaths, Workers: set.ImportWorkersPercent, Versions: versions,
	}, formats)
	s.API.Add(t.Types()...)
	s.API.AddEndpoint(t.Endpoint())
	s.Tasks.Register(t.Kinds()...)
}
