package transfer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/task"
)

const (
	taskPublicationFiles = "pulpcore.app.tasks.export.fs_publication_export"
	taskVersionFiles     = "pulpcore.app.tasks.export.fs_repo_version_export"
)

// How files get into a folder.
const (
	methodWrite    = "write"
	methodHardlink = "hardlink"
	methodSymlink  = "symlink"
)

// A FilesystemExporter lays files out in a folder, as clients would be served them.
type FilesystemExporter struct {
	Exporter
	Method string `api:"method,def=write,choices=write|hardlink|symlink" db:"m.method"`
}

// A FilesystemExport is what was laid out at one time.
type FilesystemExport struct {
	run
	Publication pulp.ID `api:"publication,wo,ref=publication" db:"-"`
	Version     pulp.ID `api:"repository_version,wo,ref=repository_version" db:"-"`
	Start       pulp.ID `api:"start_repository_version,wo,ref=repository_version" db:"-"`
}

func (s *Service) defineFilesystemExporters() {
	s.files = defineExporter(s, rest.Resource[FilesystemExporter]{
		Model: "FilesystemExporter", Path: "exporters/core/filesystem", PulpType: fileExporters, Ordering: []string{"method"},
	}, func(e *FilesystemExporter) *Exporter { return &e.Exporter })
	s.fileRuns = defineRuns(s, s.files.Type, rest.Resource[FilesystemExport]{
		Model: "FilesystemExport", HrefName: "filesystem_filesystem_export_href", OnCreate: s.startFiles,
	}, func(e *FilesystemExport) *run { return &e.run })
}

// filesArgs are what the task needs to know.
type filesArgs struct {
	Exporter    pulp.ID `json:"exporter"`
	Publication pulp.ID `json:"publication"`
	Version     pulp.ID `json:"version"`
	Start       pulp.ID `json:"start"`
}

func (s *Service) startFiles(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	id, _ := pulp.ParseID(r.Parent) // the URL has been checked
	exporter, err := s.files.Get(ctx, s.DB, id)
	if err != nil {
		return nil, err
	}
	if err := folderError(exporter.Path); err != nil {
		return nil, err
	}
	in, err := s.fileRuns.Parse(ctx, r)
	if err != nil {
		return nil, err
	}
	if in.Publication.IsZero() == in.Version.IsZero() {
		return nil, errs.NonFieldError("publication or repository_version must either be supplied but not both.")
	}
	name := taskVersionFiles
	if !in.Publication.IsZero() {
		name = taskPublicationFiles
	}
	return s.API.Dispatch(ctx, task.Spec{
		Name: name, Args: filesArgs{id, in.Publication, in.Version, in.Start}, Exclusive: []string{s.files.Ref(exporter).PRN()},
	})
}

// runFiles lays out a publication's or a version's files.
func (s *Service) runFiles(ctx context.Context, j *task.Job) (any, error) {
	var in filesArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	exporter, err := s.files.Get(ctx, s.DB, in.Exporter)
	if err != nil {
		return nil, err
	}
	l := &layout{Service: s, domain: pulp.CallOf(ctx).Domain, method: exporter.Method}
	asked := params{}
	what := []any{nil, nil}
	if in.Publication.IsZero() {
		asked["repository_version"], what[0] = in.Version.String(), in.Version
	} else {
		asked["publication"], what[1] = in.Publication.String(), in.Publication
		through, version, err := publicationOf(ctx, s.DB, in.Publication)
		if err != nil {
			return nil, err
		}
		if in.Version = version; !through {
			in.Version = pulp.ID{}
		}
		l.publication = in.Publication
	}
	if !in.Version.IsZero() {
		if l.version, err = s.Repos.Version(ctx, s.DB, in.Version); err != nil {
			return nil, err
		}
	}
	if !in.Start.IsZero() {
		asked["start_repository_version"] = in.Start.String()
		if l.start, err = s.Repos.Version(ctx, s.DB, in.Start); err != nil {
			return nil, err
		}
	}
	e := &FilesystemExport{run: run{Task: j.Task.ID, Params: asked, Exporter: exporter.ID}}
	err = s.DB.Update(ctx, func(tx *db.Tx) error {
		if err := s.fileRuns.Insert(ctx, tx, e); err != nil {
			return err
		}
		if _, err := tx.Insert(ctx, "core_exportedresource", []string{"export", "ordinal", "version", "publication"}, [][]any{append([]any{e.ID, 0}, what...)}, ""); err != nil {
			return err
		}
		return j.Created(ctx, tx, s.fileRuns.Ref(e))
	})
	if err != nil {
		return nil, err
	}
	return nil, l.write(ctx, exporter.Path)
}

func publicationOf(ctx context.Context, q db.Querier, id pulp.ID) (through bool, version pulp.ID, err error) {
	err = q.QueryRow(ctx, "SELECT pass_through, repository_version FROM core_publication WHERE id = ?", id).Scan(&through, &version)
	if errs.Is(err, errs.NotFound) {
		err = errs.NotFoundModel("Publication")
	}
	return through, version, err
}

// A layout is files on their way into a folder.
type layout struct {
	*Service
	domain      pulp.Domain
	method      string
	publication pulp.ID             // whose own files are laid out
	version     *repository.Version // whose content is; nil for none
	start       *repository.Version // whose content is left out; nil for none

	root   *os.Root
	folder string
}

// queries are those for the paths and artifacts of the files: what they select from, up to a condition on the path, and the path's column.
func (l *layout) queries() []query {
	var list []query
	if !l.publication.IsZero() {
		list = append(list, query{
			"pa.relative_path", "COALESCE(a.sha256, b.sha256)", " FROM core_publishedartifact pa LEFT JOIN core_artifact a ON a.id = pa.artifact" +
				" LEFT JOIN core_contentartifact ca ON ca.id = pa.content_artifact LEFT JOIN core_artifact b ON b.id = ca.artifact WHERE pa.publication = ?",
			[]any{l.publication},
		})
		if l.start != nil {
			q := &list[0]
			q.from += " AND (ca.id IS NULL OR NOT EXISTS " + inVersion + ")"
			q.args = append(q.args, l.start.Repository, l.start.Number, l.start.Number)
		}
	}
	if l.version != nil {
		q := query{
			"ca.relative_path", "a.sha256", " FROM core_repositorycontent rc JOIN core_contentartifact ca ON ca.content = rc.content LEFT JOIN core_artifact a ON a.id = ca.artifact" +
				" WHERE rc.repository = ? AND rc.added <= ? AND rc.removed > ?", []any{l.version.Repository, l.version.Number, l.version.Number},
		}
		if l.start != nil {
			q.from += " AND NOT EXISTS " + inVersion
			q.args = append(q.args, l.start.Repository, l.start.Number, l.start.Number)
		}
		list = append(list, q)
	}
	return list
}

// inVersion finds the content of ca in a version, given by its repository and twice its number.
const inVersion = "(SELECT 1 FROM core_repositorycontent s WHERE s.repository = ? AND s.content = ca.content AND s.added <= ? AND s.removed > ?)"

type query struct {
	path, sha, from string
	args            []any
}

// pageSize is how many files are read from the database at once.
const pageSize = 1000

type placed struct {
	path string
	sha  *string
}

// each calls f for each file, by path.
func (q *query) each(ctx context.Context, d *db.DB, f func(path, sha string) error) error {
	last, first := "", true
	for {
		cond, args := "", append([]any{}, q.args...)
		if !first {
			cond, args = " AND "+q.path+" > ?", append(args, last)
		}
		list, err := db.All(ctx, d, func(rows *sql.Rows) (p placed, err error) {
			err = rows.Scan(&p.path, &p.sha)
			return p, err
		}, fmt.Sprintf("SELECT %s, %s%s%s ORDER BY %s LIMIT %d", q.path, q.sha, q.from, cond, q.path, pageSize), args...)
		if err != nil {
			return err
		}
		for _, p := range list {
			if p.sha == nil {
				return errRemote
			}
			if err := f(p.path, *p.sha); err != nil {
				return err
			}
		}
		if len(list) < pageSize {
			return nil
		}
		first, last = false, list[len(list)-1].path
	}
}

var errRemote = errs.E(errs.Invalid, "Cannot export artifacts that haven't been downloaded.")

// write lays the files out in a folder that is not there yet, or empty. Where anything fails, it is so again.
func (l *layout) write(ctx context.Context, folder string) (err error) {
	for _, q := range l.queries() { // before anything is written
		remote, err := db.Exists(ctx, l.DB, "SELECT 1"+q.from+" AND "+q.sha+" IS NULL", q.args...)
		if err != nil {
			return err
		}
		if remote {
			return errRemote
		}
	}
	if !allowed(folder, l.ExportPaths) { // the settings may have changed, or a link been put there
		return errs.List("Path '" + folder + "' is not an allowed export path")
	}
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // what is exported is for others to serve
		return fmt.Errorf("make the export's folder: %w", err)
	}
	if !allowed(folder, l.ExportPaths) {
		return errs.List("Path '" + folder + "' is not an allowed export path")
	}
	if l.root, err = os.OpenRoot(folder); err != nil {
		return fmt.Errorf("open the export's folder: %w", err)
	}
	defer func() { err = errors.Join(err, l.root.Close()) }()
	if err := l.checkEmpty(); err != nil {
		return err
	}
	l.folder = folder
	defer func() {
		if err != nil {
			err = errors.Join(err, l.clear())
		}
	}()
	for _, q := range l.queries() {
		err := q.each(ctx, l.DB, func(path, sha string) error {
			if err := l.place(ctx, path, sha); err != nil {
				return fmt.Errorf("export %s: %w", path, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *layout) checkEmpty() error {
	dir, err := l.root.Open(".")
	if err != nil {
		return err
	}
	_, err = dir.Readdirnames(1)
	if cerr := dir.Close(); cerr != nil {
		return cerr
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		err = errs.E(errs.Invalid, "Cannot export to directories that contain existing data.")
	}
	return err
}

// clear removes what lies in the folder, which was empty.
func (l *layout) clear() error {
	dir, err := l.root.Open(".")
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	list := []error{err, dir.Close()}
	for _, n := range names {
		list = append(list, l.root.RemoveAll(n))
	}
	return errors.Join(list...)
}

// place puts a stored file at a path below the folder.
func (l *layout) place(ctx context.Context, name, sha string) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !filepath.IsLocal(name) || path.Clean(name) != name {
		return errs.Ef(errs.Invalid, "The path '%s' leads out of the folder.", name)
	}
	if dir := path.Dir(name); dir != "." {
		if err := l.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	f, err := l.Blobs.Of(l.domain.ID).Open(ctx, blob.ArtifactKey(l.domain, sha))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	stored := ""
	if o, ok := f.(blob.OSFile); ok {
		if stored, err = filepath.Abs(o.OSFile().Name()); err != nil {
			return err
		}
	}
	switch {
	case l.method == methodSymlink && stored != "":
		return l.root.Symlink(stored, name)
	case l.method == methodHardlink && stored != "":
		if os.Link(stored, filepath.Join(l.folder, name)) == nil {
			return nil
		}
		fallthrough // to a copy: another device, or one without hard links
	default:
		return l.copy(ctx, name, sha, f)
	}
}

// copy writes a file whole or not at all.
func (l *layout) copy(ctx context.Context, name, sha string, from io.Reader) (err error) {
	if _, err := l.root.Lstat(name); err == nil {
		return errs.Ef(errs.Invalid, "There are two files at the path '%s'.", name)
	}
	part := path.Join(path.Dir(name), "."+sha[:16]+partial)
	f, err := l.root.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, &ender{ctx: ctx, r: from})
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, l.root.Remove(part))
	}
	return l.root.Rename(part, name)
}
