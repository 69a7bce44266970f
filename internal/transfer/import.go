package transfer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/task"
)

const (
	taskImport        = "pulpcore.app.tasks.importer.pulp_import"
	taskImportVersion = "pulpcore.app.tasks.importer.import_repository_version"

	importedVersions = "import.repo.versions"
)

// compatible refuses an export of other versions than are here.
func (s *Service) compatible(list []Component) error {
	have := map[string]string{}
	for _, c := range s.Config.Versions {
		have[c.Component] = c.Version
	}
	var bad []string
	for _, c := range list {
		switch own, ok := have[c.Component]; {
		case !ok:
			bad = append(bad, "Export uses "+c.Component+" which is not installed.")
		case minor(own) != minor(c.Version):
			bad = append(bad, "Export version "+c.Version+" of "+c.Component+" incompatible with installed version "+own+".")
		}
	}
	if bad != nil {
		return errs.List(strings.Join(bad, " "))
	}
	return nil
}

// minor returns the first two parts of a version.
func minor(v string) string {
	parts := strings.SplitN(v, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// knownFile says whether a version's directory may have a file of this name.
func (s *Service) knownFile(name string) bool {
	for _, f := range s.formats {
		if slices.Contains(f.files(), name) {
			return true
		}
	}
	return false
}

// runImport reads an export: it checks the whole, stores the artifacts, and leaves the repositories to a task each.
func (s *Service) runImport(ctx context.Context, j *task.Job) (any, error) {
	var in importArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	if !allowed(cmp.Or(in.Path, in.TOC), s.ImportPaths) { // a link may have been put there
		return nil, errs.List("'" + cmp.Or(in.Path, in.TOC) + "' is not an allowed import path")
	}
	var src *source
	var err error
	if in.TOC != "" {
		if src, err = s.checkedSource(ctx, j, in.TOC); err != nil {
			return nil, err
		}
	}
	if err := s.noteImport(ctx, j, &in); err != nil {
		return nil, err
	}
	if src == nil {
		if src, err = newSource(in.Path, ""); err != nil {
			return nil, err
		}
	}
	err = s.importFrom(ctx, j, &in, src)
	return nil, errors.Join(err, src.Close())
}

// checkedSource opens the files of a table of contents and compares their check sums.
func (s *Service) checkedSource(ctx context.Context, j *task.Job, toc string) (_ *source, err error) {
	src, err := newSource("", toc)
	if err != nil {
		return nil, err
	}
	for _, f := range src.files {
		if !allowed(f, s.ImportPaths) {
			return nil, errs.List("'" + f + "' is not an allowed import path")
		}
	}
	p := j.Progress("validate.chunks", "Validating Chunks")
	defer p.End(&err)
	p.SetTotal(int64(len(src.files)))
	return src, src.check(ctx, func() { p.Add(1) })
}

// noteImport makes the record of the import, which stays however it ends.
func (s *Service) noteImport(ctx context.Context, j *task.Job, in *importArgs) error {
	v := &Import{Task: j.Task.ID, Params: map[string]any{"path": cmp.Or(in.Path, in.TOC)}, Importer: in.Importer}
	return s.DB.Update(ctx, func(tx *db.Tx) error {
		if err := s.imports.Insert(ctx, tx, v); err != nil {
			return err
		}
		return j.Created(ctx, tx, s.imports.Ref(v))
	})
}

func (s *Service) importFrom(ctx context.Context, j *task.Job, in *importArgs, src *source) error {
	c, err := src.catalogue(ctx, s.knownFile)
	if err != nil {
		return err
	}
	if err := s.compatible(c.versions); err != nil {
		return err
	}
	list, err := repositoryRows(src.section(c.repositories))
	if err != nil {
		return err
	}
	for i := range list { // all that can be known beforehand is known before anything is stored
		if list[i].dir, err = c.dirOf(list[i].name); err != nil {
			return err
		}
		if list[i].format = s.formats[list[i].pulpType]; list[i].format == nil {
			return errNoArchive(fmt.Errorf("repositories of the type %q cannot be imported", list[i].pulpType))
		}
		for _, name := range list[i].format.files() {
			if _, ok := c.dirs[list[i].dir][name]; !ok {
				return errNoArchive(fmt.Errorf("it has no %s/%s", list[i].dir, name))
			}
		}
	}
	if err := s.importArtifacts(ctx, j, src, c); err != nil {
		return err
	}
	if err := j.GroupProgress(ctx, importedVersions, "Importing repository versions", int64(len(list))); err != nil {
		return err
	}
	lanes, err := s.lanes(ctx)
	if err != nil {
		return err
	}
	next := 0
	for i := range list {
		spec, err := s.destination(ctx, j, in, c, &list[i])
		if err != nil {
			return err
		}
		if spec == nil {
			continue
		}
		spec.Exclusive = append(spec.Exclusive, fmt.Sprintf("import-worker-%d", next%lanes))
		next++
		if _, err := j.Dispatch(ctx, *spec); err != nil {
			return err
		}
	}
	return s.Tasks.GroupDispatched(ctx, j.Task.Group)
}

// lanes returns how many versions may be imported at once.
func (s *Service) lanes(ctx context.Context) (int, error) {
	workers, err := db.Value[int](ctx, s.DB, "SELECT count(*) FROM core_appstatus WHERE app_type = 'worker' AND last_heartbeat + ttl > ?", s.Now.Now())
	return max(1, workers*s.Workers/100), err
}

// A found is a repository that an export holds a version of.
type found struct {
	name, pulpType string
	dir            string
	format         *Format
}

// maxRepositories is how many repositories one export may have.
const maxRepositories = 100_000

func repositoryRows(r io.Reader) ([]found, error) {
	var list []found
	err := eachRow(r, func(r *Row) error {
		list = append(list, found{name: r.Text("name"), pulpType: r.Text("pulp_type")})
		switch {
		case r.Err() != nil:
			return r.Err()
		case list[len(list)-1].name == "":
			return errors.New("a repository has no name")
		case len(list) > maxRepositories:
			return errors.New("too many repositories")
		}
		return nil
	})
	if err != nil {
		return nil, errNoArchive(fmt.Errorf("repositories: %w", err))
	}
	return list, nil
}

// importBatch is how many artifacts are made durable together.
const importBatch = 100

// importArtifacts stores the files of an archive, each of which must have the digest that is its name, and holds them against their rows.
func (s *Service) importArtifacts(ctx context.Context, j *task.Job, src *source, c *catalogue) (err error) {
	p := j.Progress("import.artifacts", "Importing Artifacts")
	defer p.End(&err)
	var stages []blob.Stage
	drop := func() error {
		var list []error
		for _, st := range stages {
			list = append(list, st.Close())
		}
		stages = nil
		return errors.Join(list...)
	}
	defer func() { err = errors.Join(err, drop()) }()
	save := func() error {
		if len(stages) == 0 {
			return nil
		}
		if _, err := s.Repos.SaveArtifacts(ctx, stages); err != nil {
			return err
		}
		p.Add(int64(len(stages)))
		return drop()
	}
	err = src.each(ctx, func(name string, _ member, r io.Reader) error {
		sha := artifactName(name)
		if sha == "" {
			return nil
		}
		st, err := s.Blobs.Stage(ctx)
		if err != nil {
			return err
		}
		stages = append(stages, st)
		if _, err := io.Copy(st, &ender{ctx: ctx, r: r}); err != nil {
			return fmt.Errorf("import artifact %s: %w", sha, err)
		}
		if got := st.Digests()[pulp.SHA256]; got != sha {
			return errs.Ef(errs.Invalid, "The artifact %s of the export is damaged: its sha256 is %s.", sha, got)
		}
		if len(stages) < importBatch {
			return nil
		}
		return save()
	})
	if err == nil {
		err = save()
	}
	if err != nil {
		return err
	}
	return s.checkArtifacts(ctx, src.section(c.artifacts))
}

// checkArtifacts compares the rows of artifacts with what is stored.
func (s *Service) checkArtifacts(ctx context.Context, r io.Reader) error {
	type told struct {
		size    int64
		digests pulp.Digests
	}
	batch := map[string]told{}
	flush := func() error {
		have, err := s.Repos.FindArtifacts(ctx, pulp.SHA256, slices.Collect(maps.Keys(batch)))
		if err != nil {
			return err
		}
		for sha, t := range batch {
			a, ok := have[sha]
			if !ok {
				return errNoArchive(fmt.Errorf("it has no artifact %s", sha))
			}
			if a.Size != t.size {
				return errNoArchive(fmt.Errorf("artifact %s has %d bytes, not %d", sha, a.Size, t.size))
			}
			for alg, d := range t.digests {
				if own := a.Digests[alg]; own != "" && own != d {
					return errNoArchive(fmt.Errorf("the %s of artifact %s is %s, not %s", alg, sha, own, d))
				}
			}
		}
		clear(batch)
		return nil
	}
	err := eachRow(r, func(r *Row) error {
		t := told{digests: pulp.Digests{}}
		sha, size := r.Digest("sha256"), r.Int("size")
		for _, alg := range pulp.Algorithms {
			if d := r.Text(string(alg)); d != "" {
				t.digests[alg] = d
			}
		}
		if err := r.Err(); err != nil {
			return err
		}
		if size == nil {
			return errors.New("an artifact has no size")
		}
		t.size = *size
		if batch[sha] = t; len(batch) < importBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil && errs.KindOf(err) == errs.Internal {
		err = errNoArchive(fmt.Errorf("artifacts: %w", err))
	}
	return err
}

// versionArgs are what the task needs to know that imports one version.
type versionArgs struct {
	Path       string            `json:"path,omitempty"`
	TOC        string            `json:"toc,omitempty"`
	Files      map[string]member `json:"files"`
	PulpType   string            `json:"pulp_type"`
	Name       string            `json:"name"`       // the repository's in the export
	Repository pulp.ID           `json:"repository"` // none where it is to be made
}

// destination finds the repository that a version goes to and returns the task that imports the version; nil where there is no such
// repository and none is to be made.
func (s *Service) destination(ctx context.Context, j *task.Job, in *importArgs, c *catalogue, f *found) (*task.Spec, error) {
	name := cmp.Or(in.Mapping[f.name], f.name)
	repo, err := s.repositoryByName(ctx, s.DB, name)
	if err != nil {
		return nil, err
	}
	if repo == nil && !in.Create {
		s.Log.WarnContext(ctx, "an export's repository is not here and is left out", slog.String("repository", name))
		return nil, nil
	}
	args := versionArgs{Path: in.Path, TOC: in.TOC, Files: c.dirs[f.dir], PulpType: f.pulpType, Name: f.name}
	var locks []string
	if repo != nil {
		if repo.PulpType != f.pulpType {
			return nil, errs.Ef(errs.Invalid, "The repository '%s' is of the type %s; the export's is of the type %s.", name, repo.PulpType, f.pulpType)
		}
		args.Repository, locks = repo.ID, []string{pulp.RefTo(f.format.Repository.Label, repo.ID).PRN()}
	}
	return &task.Spec{Name: taskImportVersion, Group: j.Task.Group, Exclusive: locks, Args: args}, nil
}

// makeRepository makes a repository as the export's is.
func (v *versionImport) makeRepository(ctx context.Context, name string) (id pulp.ID, err error) {
	defer errs.Wrap(&err, "make repository %s", name)
	class := v.format.repository()
	m := v.files[v.format.file(class)]
	var columns map[string]any
	err = eachRow(v.src.section(m), func(r *Row) error {
		if r.Text("name") != name || columns != nil {
			return errors.New("a row of another repository")
		}
		columns = repositoryColumns(v.format, class, r)
		return r.Err()
	})
	if err == nil && columns == nil {
		err = errors.New("no row")
	}
	if err != nil {
		return id, errNoArchive(fmt.Errorf("%s: %w", class.Name, err))
	}
	return id, v.DB.Update(ctx, func(tx *db.Tx) error {
		if err := v.job.Fence(ctx, tx); err != nil {
			return err
		}
		if id, err = v.format.Repository.InsertNew(ctx, tx, columns); err != nil {
			return err
		}
		return v.job.AddLock(ctx, tx, pulp.RefTo(v.format.Repository.Label, id).PRN())
	})
}

// repositoryColumns reads the columns of a new repository.
func repositoryColumns(f *Format, class *Class, r *Row) map[string]any {
	columns := map[string]any{"name": r.Text("name")}
	set := func(name string, v any, given bool) {
		if given {
			columns[name] = v
		}
	}
	if d := r.Null("description"); d != nil {
		columns["description"] = *d
	}
	if n := r.Int("retain_repo_versions"); n != nil {
		if *n < 1 {
			r.fail("retain_repo_versions", "a number of versions")
		}
		columns["retain_repo_versions"] = *n
	}
	for i := range class.Columns {
		col := &class.Columns[i]
		if col.Name == domainColumn {
			continue
		}
		field := f.field(class, col)
		switch field.Kind {
		case rest.Bool:
			columns[col.from()] = r.Bool(col.Name)
		case rest.Int:
			n := r.Int(col.Name)
			if n != nil {
				columns[col.from()] = *n
			}
		case rest.JSON, rest.Strings:
			text := r.Null(col.Name)
			if text != nil && !json.Valid([]byte(*text)) {
				r.fail(col.Name, "JSON")
				continue
			}
			set(col.from(), json.RawMessage(deref(text)), text != nil)
		default:
			text := r.Null(col.Name)
			if text == nil && field.Null {
				columns[col.from()] = nil
			}
			set(col.from(), deref(text), text != nil)
		}
	}
	return columns
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

const contentArtifacts = module + "ContentArtifactResource.json"

// A versionImport reads one version of an archive.
type versionImport struct {
	*Service
	job    *task.Job
	src    *source
	format *Format
	files  map[string]member
	draft  *repository.Draft
	report *task.Progress
}

// runImportVersion makes a version of a repository that has what the export's has.
func (s *Service) runImportVersion(ctx context.Context, j *task.Job) (_ any, err error) {
	var in versionArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	if !allowed(cmp.Or(in.Path, in.TOC), s.ImportPaths) {
		return nil, errs.List("'" + cmp.Or(in.Path, in.TOC) + "' is not an allowed import path")
	}
	v := &versionImport{Service: s, job: j, files: in.Files, format: s.formats[in.PulpType]}
	if v.format == nil {
		return nil, fmt.Errorf("no format of %s here", in.PulpType)
	}
	if v.src, err = newSource(in.Path, in.TOC); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.src.Close()) }()
	if in.Repository.IsZero() {
		if in.Repository, err = v.makeRepository(ctx, in.Name); err != nil {
			return nil, err
		}
	}
	repo, err := s.Repos.Repository(ctx, s.DB, in.Repository)
	if err != nil {
		return nil, err
	}
	v.report = j.Progress("import.repo.version.content", "Importing content for "+repo.Name)
	if err := v.run(ctx, in.Repository); err != nil {
		v.report.End(&err)
		return nil, err
	}
	v.report.Done()
	return nil, j.GroupAdd(ctx, importedVersions, 1)
}

func (v *versionImport) run(ctx context.Context, repo pulp.ID) (err error) {
	if v.draft, err = v.Repos.NewDraft(ctx, v.job, repo); err != nil {
		return err
	}
	if err := v.draft.RemoveAll(ctx); err != nil {
		return err
	}
	links := v.files[contentArtifacts]
	// Units come with their files, of which an export tells apart. In each pass, those are kept whose content's id falls to it.
	passes := uint32(1 + links.Size/passSize)
	total := int64(0)
	for pass := range passes {
		n, err := v.pass(ctx, links, func(id string) bool { return slot(id, passes) == pass })
		if err != nil {
			return err
		}
		total += n
	}
	v.report.SetTotal(total)
	_, err = v.draft.Complete(ctx)
	return err
}

// passSize is how much of a list of files a pass has to do with, in bytes of JSON.
const passSize = 8 << 20

func slot(id string, n uint32) uint32 {
	if n == 1 {
		return 0
	}
	h := fnv.New32a()
	_, _ = io.WriteString(h, id) // it never fails
	return h.Sum32() % n
}

// pass imports the units whose ids are mine, and says how many these were.
func (v *versionImport) pass(ctx context.Context, list member, mine func(id string) bool) (n int64, err error) {
	links := map[string][]File{}
	err = eachRow(v.src.section(list), func(r *Row) error {
		id := r.Text("content")
		if !mine(id) {
			return r.Err()
		}
		l := File{r.Text("relative_path"), r.Digest("artifact")}
		if err := r.Err(); err != nil {
			return err
		}
		if bad := repository.CheckRelativePath(l.Path); bad != nil {
			return fmt.Errorf("path %q: %s", l.Path, strings.Join(bad, " "))
		}
		links[id] = append(links[id], l)
		return nil
	})
	if err != nil {
		return 0, errNoArchive(fmt.Errorf("%s: %w", contentArtifacts, err))
	}
	for i := range v.format.Classes {
		class := &v.format.Classes[i]
		if class.Content == nil {
			continue
		}
		m := v.files[v.format.file(class)]
		b := batch{v: v, class: class, links: links}
		err := eachRow(v.src.section(m), func(r *Row) error {
			id := r.Text("upstream_id")
			if r.Err() != nil || !mine(id) {
				return r.Err()
			}
			n++
			return b.add(ctx, id, r)
		})
		if err == nil {
			err = b.flush(ctx)
		}
		if err != nil {
			if errs.KindOf(err) == errs.Internal && ctx.Err() == nil && !errors.Is(err, errStore) {
				err = errNoArchive(fmt.Errorf("%s: %w", class.Name, err))
			}
			return n, err
		}
	}
	return n, nil
}

// errStore marks errors that are ours and not the export's.
var errStore = errors.New("could not be stored")

// A batch is units of a class that are stored together.
type batch struct {
	v     *versionImport
	class *Class
	links map[string][]File
	units []repository.NewContent
	files [][]File
}

const batchSize = 500

func (b *batch) add(ctx context.Context, id string, r *Row) error {
	value, err := b.class.Unit(r, b.links[id])
	if err = cmp.Or(err, r.Err()); err != nil {
		return err
	}
	b.units = append(b.units, repository.NewContent{Value: value})
	b.files = append(b.files, b.links[id])
	if len(b.units) < batchSize {
		return nil
	}
	return b.flush(ctx)
}

func (b *batch) flush(ctx context.Context) error {
	if len(b.units) == 0 {
		return nil
	}
	var shas []string
	for _, list := range b.files {
		for _, l := range list {
			shas = append(shas, l.SHA256)
		}
	}
	slices.Sort(shas)
	have, err := b.v.Repos.FindArtifacts(ctx, pulp.SHA256, slices.Compact(shas))
	if err != nil {
		return errors.Join(errStore, err)
	}
	for i, list := range b.files {
		for _, l := range list {
			a, ok := have[l.SHA256]
			if !ok {
				return errs.Ef(errs.Invalid, "The artifact %s is neither in the export nor here: an export that it continues has not been imported.", l.SHA256)
			}
			b.units[i].Files = append(b.units[i].Files, repository.ContentFile{Path: l.Path, Artifact: a.ID})
		}
	}
	saved, err := b.v.Repos.SaveContent(ctx, b.class.Content, b.units)
	if err != nil {
		return errors.Join(errStore, err)
	}
	ids := make([]pulp.ID, len(saved))
	for i, u := range saved {
		ids[i] = u.ID
	}
	if _, err := b.v.draft.Add(ctx, ids); err != nil {
		return errors.Join(errStore, err)
	}
	b.v.report.Add(int64(len(saved)))
	b.units, b.files = nil, nil
	return nil
}
