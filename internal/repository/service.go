package repository

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/download"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

// A Config is what the domain's rules need of their surroundings.
type Config struct {
	DB            *db.DB
	API           *rest.Engine
	Tasks         *task.Queue
	Blobs         blob.Stores
	Log           *slog.Logger
	Now           pulp.Clock
	Allowed       []pulp.Algorithm // the digests that artifacts have
	ImportPaths   []string         // below which file:// may lead
	UploadDir     string           // prefix of upload chunks in the store
	ContentOrigin string           // scheme and host of content URLs; may be empty
	ContentPrefix string           // path of content URLs, as "/pulp/content/"
	OrphanAge     time.Duration    // how old an orphan must be to go
	UploadAge     time.Duration    // how long an upload may lie untouched; 0 means for ever
	Download      func(r pulp.Remote) (*download.Client, error)
	OSV           string        // where the database of vulnerabilities is, as "https://api.osv.dev"
	HTTP          *http.Client  // asks it
	ScanLimit     int           // how many units it is asked about at once
	ScanPause     time.Duration // before it is asked again, where it is busy
}

// A Service knows the types of all plugins and keeps the domain's rules.
type Service struct {
	Config
	Artifacts rest.Typed[Artifact]
	Uploads   rest.Typed[Upload]
	reports   rest.Typed[VulnerabilityReport]

	contents map[string]*ContentType    // by pulp_type
	repos    map[string]*RepositoryType // by pulp_type
}

// New returns a service and declares the core's types to the engine.
func New(c Config) *Service {
	s := &Service{Config: c, contents: map[string]*ContentType{}, repos: map[string]*RepositoryType{}}
	s.Artifacts = s.defineArtifacts()
	s.Uploads = s.defineUploads()
	s.reports = s.defineReports()
	return s
}

// Types returns the core's types: artifacts, uploads and the lists over all types of a family.
func (s *Service) Types() []*rest.Type {
	return []*rest.Type{
		s.Artifacts.Type, s.Uploads.Type, s.reports.Type, s.genericContents(), s.genericRepositories(), s.genericVersions(), s.genericPublications(),
		s.genericRemotes(), s.genericDistributions(), s.genericGuards(),
	}
}

// Kinds returns the core's tasks.
func (s *Service) Kinds() []task.Kind {
	return []task.Kind{
		{Name: taskModify, Run: s.runModify},
		{Name: taskDeleteVersion, Run: s.runDeleteVersion},
		{Name: taskRepairVersion, Run: s.runRepair},
		{Name: taskRepairAll, Run: s.runRepair},
		{Name: taskOrphans, Run: s.runOrphans},
		{Name: taskReclaim, Run: s.runReclaim},
		{Name: taskScan, Run: s.runScan},
		{Name: taskCommit, Run: s.runCommit},
		{Name: taskUploads, Run: s.runUploads},
	}
}

// Cleanup removes what a failed task left unfinished of the objects that it made: drafts of versions and publications.
func (s *Service) Cleanup(ctx context.Context, created []pulp.Ref) error {
	for _, r := range created {
		var err error
		if t := s.API.TypeByLabel(r.Type); r.Type == versionLabel {
			err = s.discardVersion(ctx, r.ID())
		} else if t != nil && t.Family() == Publications.Name {
			err = s.discardPublication(ctx, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
