// Package transfer moves repositories between servers: exporters write versions to files in Pulp's format, importers read them, and
// filesystem exporters lay the files of a version or a publication out in a folder. Start with [Service]; a plugin takes part with a [Format].
package transfer

import (
	"log/slog"
	"path/filepath"
	"strings"

	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/task"
)

// A Config is what exporters and importers work with.
type Config struct {
	DB          *db.DB
	API         *rest.Engine
	Tasks       *task.Queue
	Repos       *repository.Service
	Blobs       blob.Stores
	Log         *slog.Logger
	Now         pulp.Clock
	ExportPaths []string // below which exports may be written
	ImportPaths []string // below which they may be read
	Workers     int      // how much of the workers imports may use at once, in percent
	Versions    []Component
}

// A Component is a part of the server with its version, as exports tell it: an export can be read where each of its components is, with
// the same major and minor version.
type Component struct {
	Component string `json:"component"`
	Version   string `json:"version"`
}

// core is the component that every export has.
const core = "core"

// A Service has the types and the tasks of exporters and importers.
type Service struct {
	Config
	formats   map[string]*Format // by the pulp_type of the repository
	pulp      rest.Typed[PulpExporter]
	pulpRuns  rest.Typed[PulpExport]
	files     rest.Typed[FilesystemExporter]
	fileRuns  rest.Typed[FilesystemExport]
	importers rest.Typed[Importer]
	imports   rest.Typed[Import]
}

// New returns a service for repositories of these formats.
func New(c Config, formats []Format) *Service {
	s := &Service{Config: c, formats: map[string]*Format{}}
	for i := range formats {
		f := &formats[i]
		f.check()
		s.formats[f.Repository.PulpType] = f
	}
	s.definePulpExporters()
	s.defineFilesystemExporters()
	s.defineImporters()
	return s
}

// Types returns the types.
func (s *Service) Types() []*rest.Type {
	return []*rest.Type{s.pulp.Type, s.pulpRuns.Type, s.files.Type, s.fileRuns.Type, s.importers.Type, s.imports.Type}
}

// Kinds returns the tasks.
func (s *Service) Kinds() []task.Kind {
	return []task.Kind{
		{Name: taskExport, Run: s.runExport},
		{Name: taskPublicationFiles, Run: s.runFiles},
		{Name: taskVersionFiles, Run: s.runFiles},
		{Name: taskImport, Run: s.runImport},
		{Name: taskImportVersion, Run: s.runImportVersion},
	}
}

// allowed says whether a path is one of the folders or lies below one, wherever symbolic links lead. As in Pulp, ".." is followed
// before links are; what does not exist yet is taken as it is written.
func allowed(path string, folders []string) bool {
	if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
		return false
	}
	path = resolve(path)
	for _, f := range folders {
		if !filepath.IsAbs(f) {
			continue
		}
		if f = resolve(f); path == f || strings.HasPrefix(path, strings.TrimSuffix(f, "/")+"/") {
			return true
		}
	}
	return false
}

// resolve follows the symbolic links of that part of a path which exists.
func resolve(path string) string {
	path = filepath.Clean(path)
	rest := ""
	for at := path; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if at == "/" {
			return path
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}
