package transfer

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/task"
)

const (
	taskExport = "pulpcore.app.tasks.export.pulp_export"

	versionLabel = "core.repositoryversion"

	pulpExporters = "core.pulp"
	fileExporters = "core.filesystem"
)

// The families of exporters and of what they made.
var (
	exporters = &rest.Family{Name: "exporter", Table: "core_exporter", Master: true, Struct: Exporter{}}
	exports   = &rest.Family{
		Name: "export", Table: "core_export",
		Identify: "SELECT e.id, x.pulp_type, e.exporter, 0 FROM core_export e JOIN core_exporter x ON x.id = e.exporter WHERE e.id",
	}
)

// An Exporter is what all exporters have.
type Exporter struct {
	rest.Base
	Name     string `api:"name,req,unique"`
	Path     string `api:"path,req"`
	PulpType string `api:"-" db:"pulp_type"`
}

// A PulpExporter writes versions of repositories for another server.
type PulpExporter struct {
	Exporter
	Repositories []pulp.Ref `api:"repositories,req,computed,ref=repository"`
	LastExport   pulp.ID    `api:"last_export,null,ref=export" db:"m.last_export"`
}

// A run is what all exports have.
type run struct {
	rest.Global
	Task     pulp.ID    `api:"task,null,ref=core.task"`
	Exported []pulp.Ref `api:"exported_resources,ro,computed"`
	Params   params     `api:"params,ro"`
	Exporter pulp.ID    `api:"-" db:"exporter"`
}

// A PulpExport is what an exporter wrote at one time.
type PulpExport struct {
	run
	Output        map[string]any `api:"output_file_info,ro"`
	TOC           map[string]any `api:"toc_info,ro"`
	Full          bool           `api:"full,wo,def=true" db:"-"`
	DryRun        bool           `api:"dry_run,wo,def=false" db:"-"`
	Versions      []pulp.Ref     `api:"versions,wo,ref=repository_version" db:"-"`
	StartVersions []pulp.Ref     `api:"start_versions,wo,ref=repository_version" db:"-"`
	ChunkSize     string         `api:"chunk_size,wo" db:"-"`
	Meta          map[string]any `api:"meta,wo" db:"-"`
}

// params are what was asked for. References in them are PRNs in the database, hrefs in answers.
type params map[string]any

func (s *Service) definePulpExporters() {
	s.pulp = defineExporter(s, rest.Resource[PulpExporter]{
		Model: "PulpExporter", Path: "exporters/core/pulp", PulpType: pulpExporters,
		Saved: s.saveRepositories, Expand: s.expandRepositories,
	}, func(e *PulpExporter) *Exporter { return &e.Exporter })
	s.pulpRuns = defineRuns(s, s.pulp.Type, rest.Resource[PulpExport]{
		Model: "PulpExport", HrefName: "pulp_pulp_export_href", OnCreate: s.startExport, FieldCheck: s.checkExport,
		Checks: map[string]func(*PulpExport) []string{"chunk_size": func(v *PulpExport) []string {
			_, msg := chunkSize(v.ChunkSize)
			return msg
		}},
	}, func(e *PulpExport) *run { return &e.run })
}

// defineExporter completes the declaration of a type of exporter.
func defineExporter[T any](s *Service, r rest.Resource[T], base func(*T) *Exporter) rest.Typed[T] {
	r.App, r.Family = core, exporters
	r.Create, r.Update, r.Delete = rest.Now, rest.Immediate, rest.Task
	r.Filters = rest.Text("name", "m.name", rest.NameLookups...)
	r.Ordering = append(r.Ordering, "name", "path", "pk", "pulp_created", "pulp_id", "pulp_last_updated", "pulp_type")
	r.Checks = map[string]func(*T) []string{"path": func(v *T) []string {
		if p := base(v).Path; !allowed(p, s.ExportPaths) {
			return []string{"Path '" + p + "' is not an allowed export path"}
		}
		return nil
	}}
	return rest.Define(r)
}

// defineRuns completes the declaration of the exports of a type of exporter.
func defineRuns[T any](s *Service, parent *rest.Type, r rest.Resource[T], base func(*T) *run) rest.Typed[T] {
	r.App, r.Path, r.Family, r.Table = core, "exports", exports, exports.Table
	r.Parent, r.ParentCol, r.Delete = parent, "exporter", rest.Now
	r.NoTypeFilters, r.Order = true, "m.created, m.id"
	r.Expand = func(ctx context.Context, q db.Querier, list []*T) error {
		bases := make([]*run, len(list))
		for i, v := range list {
			bases[i] = base(v)
		}
		return s.expandRuns(ctx, q, bases)
	}
	return rest.Define(r)
}

func (s *Service) saveRepositories(ctx context.Context, tx *db.Tx, c *rest.Change[PulpExporter]) error {
	if c.Old != nil && !c.Set["repositories"] {
		return nil
	}
	if _, err := tx.Exec(ctx, "DELETE FROM core_exporterrepository WHERE exporter = ?", c.New.ID); err != nil {
		return err
	}
	rows := make([][]any, len(c.New.Repositories))
	for i, r := range c.New.Repositories {
		rows[i] = []any{c.New.ID, r.ID()}
	}
	_, err := tx.Insert(ctx, "core_exporterrepository", []string{"exporter", "repository"}, rows, "")
	return err
}

func (s *Service) expandRepositories(ctx context.Context, q db.Querier, list []*PulpExporter) error {
	ids := make([]pulp.ID, len(list))
	byID := make(map[pulp.ID]*PulpExporter, len(list))
	for i, e := range list {
		ids[i], byID[e.ID], e.Repositories = e.ID, e, []pulp.Ref{}
	}
	marks, args := db.In(ids)
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var exporter, repo pulp.ID
		var typ string
		if err := rows.Scan(&exporter, &repo, &typ); err != nil {
			return err
		}
		e := byID[exporter]
		if t := s.API.TypeOf(repository.Repositories.Name, typ); t != nil {
			e.Repositories = append(e.Repositories, pulp.RefTo(t.Label, repo))
		}
		return nil
	}, "SELECT x.exporter, r.id, r.pulp_type FROM core_exporterrepository x JOIN core_repository r ON r.id = x.repository"+
		" WHERE x.exporter IN "+marks+" ORDER BY r.created DESC, r.id DESC", args...)
}

func (s *Service) expandRuns(ctx context.Context, q db.Querier, list []*run) error {
	ids := make([]pulp.ID, len(list))
	byID := make(map[pulp.ID]*run, len(list))
	for i, e := range list {
		ids[i], byID[e.ID], e.Exported = e.ID, e, []pulp.Ref{}
		if err := s.hrefs(ctx, q, e.Params); err != nil {
			return err
		}
	}
	marks, args := db.In(ids)
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var id, version, publication pulp.ID
		var typ *string
		if err := rows.Scan(&id, &version, &publication, &typ); err != nil {
			return err
		}
		e := byID[id]
		if typ == nil {
			e.Exported = append(e.Exported, pulp.RefTo(versionLabel, version))
		} else if t := s.API.TypeOf(repository.Publications.Name, *typ); t != nil {
			e.Exported = append(e.Exported, pulp.RefTo(t.Label, publication))
		}
		return nil
	}, "SELECT x.export, x.version, x.publication, p.pulp_type FROM core_exportedresource x LEFT JOIN core_publication p ON p.id = x.publication"+
		" WHERE x.export IN "+marks+" ORDER BY x.export, x.ordinal", args...)
}

// referenceParams are the parameters that hold references.
var referenceParams = []string{"versions", "start_versions"}

// hrefs turns the PRNs among parameters into hrefs, as far as the objects are still there.
func (s *Service) hrefs(ctx context.Context, q db.Querier, p params) error {
	for _, name := range referenceParams {
		list, _ := p[name].([]any)
		for i, v := range list {
			prn, _ := v.(string)
			ref, err := pulp.ParsePRN(prn)
			if err != nil {
				continue
			}
			href, err := s.API.Href(ctx, q, ref)
			if err != nil {
				return err
			}
			if href != "" {
				list[i] = href
			}
		}
	}
	return nil
}

// folderError says that something that is no folder is where an exporter is to write.
func folderError(path string) error {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return errs.List("Path '" + path + "' must be a directory path")
	}
	return nil
}

var chunkForm = regexp.MustCompile(`^\s*([-+]?[0-9]*\.?[0-9]+)\s*([KkMmGgTt]?[Bb])\s*$`)

const maxChunk = 1 << 40

// chunkSize reads the size of the pieces that an export is cut into, in bytes.
func chunkSize(s string) (int64, []string) {
	m := chunkForm.FindStringSubmatch(s)
	if m == nil {
		return 0, []string{"chunk_size '" + s + "' is not valid (valid units are B/KB/MB/GB/TB)"}
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, []string{"chunk_size '" + s + "' is not valid (valid units are B/KB/MB/GB/TB)"}
	}
	n = math.Trunc(math.Ldexp(n, 10*strings.Index("BKMGT", strings.ToUpper(m[2][:1]))))
	switch {
	case n <= 0:
		return 0, []string{fmt.Sprintf("Chunk size %.0f is not greater than zero!", n)}
	case n > maxChunk:
		return 0, []string{fmt.Sprintf("Chunk size in bytes %.0f is greater than max-chunk-size %d!", n, int64(maxChunk))}
	}
	return int64(n), nil
}

// exporterKey is the key of the exporter among a context's values, for the checks of what it is asked to export.
type exporterKey struct{}

// checkExport looks at the versions that are asked for: there must be one of each of the exporter's repositories.
func (s *Service) checkExport(ctx context.Context, q db.Querier, c *rest.Change[PulpExport]) (map[string]any, error) {
	exporter := ctx.Value(exporterKey{}).(*PulpExporter)
	bad := map[string]any{}
	for name, refs := range map[string][]pulp.Ref{"versions": c.New.Versions, "start_versions": c.New.StartVersions} {
		if !c.Set[name] {
			continue
		}
		repos := map[pulp.ID]bool{}
		for _, r := range refs {
			v, err := s.Repos.Version(ctx, q, r.ID())
			if err != nil {
				return nil, err
			}
			repos[v.Repository] = true
		}
		own := 0
		for _, r := range exporter.Repositories {
			if repos[r.ID()] {
				own++
			}
		}
		switch {
		case len(refs) != len(exporter.Repositories):
			bad[name] = []string{fmt.Sprintf("Number of versions (%d) does not match the number of Repositories (%d) for the owning  Exporter!", len(exporter.Repositories), len(refs))}
		case own != len(repos) || own != len(refs):
			bad[name] = []string{"Requested RepositoryVersions must belong to the Repositories named by the Exporter!"}
		}
	}
	return bad, nil
}

// exportArgs are what an export's task needs to know.
type exportArgs struct {
	Exporter pulp.ID        `json:"exporter"`
	Params   params         `json:"params"`
	Full     bool           `json:"full"`
	Versions []pulp.ID      `json:"versions,omitempty"`
	Starts   []pulp.ID      `json:"starts,omitempty"`
	Chunk    int64          `json:"chunk,omitempty"`
	Meta     map[string]any `json:"meta,omitempty"`
}

func (s *Service) startExport(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	id, _ := pulp.ParseID(r.Parent) // the URL has been checked
	exporter, err := s.pulp.Get(ctx, s.DB, id)
	if err != nil {
		return nil, err
	}
	if err := s.expandRepositories(ctx, s.DB, []*PulpExporter{exporter}); err != nil {
		return nil, err
	}
	if err := folderError(exporter.Path); err != nil {
		return nil, err
	}
	in, err := s.pulpRuns.Parse(context.WithValue(ctx, exporterKey{}, exporter), r)
	if err != nil {
		return nil, err
	}
	switch {
	case in.Full && in.StartVersions != nil:
		return nil, errs.NonFieldError("start_versions is only valid for incremental exports (full=False)")
	case !in.Full && in.StartVersions == nil && exporter.LastExport.IsZero():
		return nil, errs.NonFieldError("Incremental export can only be requested when there is a previous export or start_versions= has been specified.")
	}
	doc, err := r.Body()
	if err != nil {
		return nil, err
	}
	args := exportArgs{Exporter: id, Params: maps.Clone(doc.Values), Full: in.Full, Meta: in.Meta, Versions: idsOf(in.Versions), Starts: idsOf(in.StartVersions)}
	if args.Params == nil {
		args.Params = params{}
	}
	for name, refs := range map[string][]pulp.Ref{"versions": in.Versions, "start_versions": in.StartVersions} {
		if refs != nil {
			args.Params[name] = prns(refs)
		}
	}
	if in.ChunkSize != "" {
		args.Chunk, _ = chunkSize(in.ChunkSize)
	}
	return s.API.Dispatch(ctx, task.Spec{Name: taskExport, Args: args, Exclusive: []string{s.pulp.Ref(exporter).PRN()}, Shared: prns(exporter.Repositories)})
}

func idsOf(refs []pulp.Ref) []pulp.ID {
	var ids []pulp.ID
	for _, r := range refs {
		ids = append(ids, r.ID())
	}
	return ids
}

func prns(refs []pulp.Ref) []string {
	list := make([]string, len(refs))
	for i, r := range refs {
		list[i] = r.PRN()
	}
	return list
}

// An exported is a version that an export holds.
type exported struct {
	*repository.Version
	repo   *repository.Repository
	format *Format
	start  *repository.Version // what the other side has already; nil for nothing
}

// dir is the name of the version's directory.
func (e *exported) dir() string {
	return "repository-" + e.repo.Name + "_" + strconv.FormatInt(e.Number, 10)
}

// versionsOf finds out which versions an export is to hold.
func (s *Service) versionsOf(ctx context.Context, exporter *PulpExporter, in *exportArgs) ([]*exported, error) {
	given, starts := map[pulp.ID]*repository.Version{}, map[pulp.ID]*repository.Version{}
	load := func(ids []pulp.ID, into map[pulp.ID]*repository.Version) error {
		for _, id := range ids {
			v, err := s.Repos.Version(ctx, s.DB, id)
			if err != nil {
				return err
			}
			into[v.Repository] = v
		}
		return nil
	}
	if err := load(in.Versions, given); err != nil {
		return nil, err
	}
	before := in.Starts
	if !in.Full && before == nil {
		var err error
		if before, err = db.Column[pulp.ID](ctx, s.DB, "SELECT version FROM core_exportedresource WHERE export = ? AND version IS NOT NULL", exporter.LastExport); err != nil {
			return nil, err
		}
	}
	if err := load(before, starts); err != nil {
		return nil, err
	}
	list := make([]*exported, len(exporter.Repositories))
	for i, r := range exporter.Repositories {
		repo, err := s.Repos.Repository(ctx, s.DB, r.ID())
		if err != nil {
			return nil, err
		}
		e := &exported{Version: given[repo.ID], repo: repo, format: s.formats[repo.PulpType], start: starts[repo.ID]}
		if e.format == nil {
			return nil, errs.Ef(errs.Invalid, "Repositories of the type %s cannot be exported.", repo.PulpType)
		}
		if e.Version == nil {
			if e.Version, err = s.Repos.Latest(ctx, s.DB, repo.ID); err != nil {
				return nil, err
			}
		}
		list[i] = e
	}
	return list, nil
}

// components lists the parts that must be where the versions are imported.
func (s *Service) components(list []*exported) []Component {
	var out []Component
	for _, c := range s.Config.Versions {
		if c.Component == core || slices.ContainsFunc(list, func(e *exported) bool { return e.format.Component == c.Component }) {
			out = append(out, c)
		}
	}
	return out
}

// runExport writes an export.
func (s *Service) runExport(ctx context.Context, j *task.Job) (any, error) {
	var raw json.RawMessage
	if err := j.Args(&raw); err != nil {
		return nil, err
	}
	var in exportArgs
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber() // what the client gave is given back
	if err := dec.Decode(&in); err != nil {
		return nil, err
	}
	exporter, err := s.pulp.Get(ctx, s.DB, in.Exporter)
	if err != nil {
		return nil, err
	}
	if err := s.expandRepositories(ctx, s.DB, []*PulpExporter{exporter}); err != nil {
		return nil, err
	}
	e := &PulpExport{run: run{Task: j.Task.ID, Params: in.Params, Exporter: exporter.ID}}
	err = s.DB.Update(ctx, func(tx *db.Tx) error {
		if err := s.pulpRuns.Insert(ctx, tx, e); err != nil {
			return err
		}
		return j.Created(ctx, tx, s.pulpRuns.Ref(e))
	})
	if err != nil {
		return nil, err
	}
	list, err := s.versionsOf(ctx, exporter, &in)
	if err != nil {
		return nil, err
	}
	w := &exporting{Service: s, job: j, versions: list, domain: pulp.CallOf(ctx).Domain, chunk: in.Chunk, meta: in.Meta}
	return nil, w.write(ctx, exporter.Path, e, func() error { return s.exportDone(ctx, j, e, list) })
}

// exportDone notes what an export has written.
func (s *Service) exportDone(ctx context.Context, j *task.Job, e *PulpExport, list []*exported) error {
	return s.DB.Update(ctx, func(tx *db.Tx) error {
		if err := j.Fence(ctx, tx); err != nil {
			return err
		}
		rows := make([][]any, len(list))
		for i, v := range list {
			rows[i] = []any{e.ID, i, v.ID}
		}
		if _, err := tx.Insert(ctx, "core_exportedresource", []string{"export", "ordinal", "version"}, rows, ""); err != nil {
			return err
		}
		if err := s.pulpRuns.Save(ctx, tx, e); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "UPDATE core_exporter SET last_export = ?, updated = ? WHERE id = ?", e.ID, s.Now.Now(), e.Exporter)
		return err
	})
}
