package server

import (
	"granary/internal/download"
	"granary/internal/pulp"
	"granary/internal/replica"
)

// replicas makes what copies from other servers, each of which is asked itself and nobody else.
func (s *Server) replicas(o download.Options) *replica.Service {
	o.SameOrigin = true
	r := replica.New(replica.Config{
		DB: s.DB, API: s.API, Tasks: s.Tasks, Log: s.Log, Now: s.Now, Connect: func(r pulp.Remote) (*download.Client, error) { return download.New(r, o) },
	})
	s.API.Add(r.Types()...)
	s.Tasks.Register(r.Kinds()...)
	return r
}
