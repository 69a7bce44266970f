package transfer

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

// An exporting is an export that is being written. Whatever its size, little of it is in memory: rows go from the database to a file of
// the task's, since a member of the archive must know its length, and from there into the archive.
type exporting struct {
	*Service
	job      *task.Job
	versions []*exported
	domain   pulp.Domain
	chunk    int64 // 0 for one file
	meta     map[string]any

	tar *tar.Writer
}

// write writes the files of an export into a folder, notes them in e, and calls done. Where anything fails, done too, nothing is left.
func (w *exporting) write(ctx context.Context, folder string, e *PulpExport, done func() error) (err error) {
	if err := w.refuseRemote(ctx); err != nil {
		return err
	}
	if !allowed(folder, w.ExportPaths) { // the settings may have changed, or a link been put there
		return errs.List("Path '" + folder + "' is not an allowed export path")
	}
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // exports are for others to carry away
		return fmt.Errorf("make the export's folder: %w", err)
	}
	if !allowed(folder, w.ExportPaths) {
		return errs.List("Path '" + folder + "' is not an allowed export path")
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return fmt.Errorf("open the export's folder: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	base := "export-" + e.ID.String() + "-" + w.Now().UTC().Format("20060102_1504")
	out := &chunks{ctx: ctx, root: root, base: base + ".tar", limit: w.chunk}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.abandon())
		}
	}()
	buffered := bufio.NewWriterSize(out, 256<<10)
	w.tar = tar.NewWriter(buffered)
	if err := w.members(ctx); err != nil {
		return err
	}
	if err := w.tar.Close(); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if err := out.pad(); err != nil {
		return err
	}
	toc, err := tocOf(w.meta, w.chunk, out.sums())
	if err != nil {
		return err
	}
	if err := out.finish(base+"-toc.json", toc); err != nil {
		return err
	}
	digest := sha256.Sum256(toc)
	path := filepath.Join(folder, base+"-toc.json")
	meta := w.meta
	if meta == nil {
		meta = map[string]any{}
	}
	e.TOC = map[string]any{"file": path, "meta": meta, "sha256": hex.EncodeToString(digest[:])}
	e.Output = map[string]any{path: hex.EncodeToString(digest[:])}
	for name, crc := range out.sums() {
		e.Output[filepath.Join(folder, name)] = crc
	}
	return done()
}

// picked joins what is in the versions: rc are rows of core_repositorycontent, v their versions, ca the content's files.
func (w *exporting) picked() (from string, args []any) {
	var ids []pulp.ID
	for _, v := range w.versions {
		ids = append(ids, v.ID)
	}
	marks, args := db.In(ids)
	return " FROM core_repositoryversion v JOIN core_repositorycontent rc ON rc.repository = v.repository AND rc.added <= v.number AND rc.removed > v.number" +
		" JOIN core_contentartifact ca ON ca.content = rc.content WHERE v.id IN " + marks, args
}

// refuseRemote refuses versions with files that are yet to be downloaded.
func (w *exporting) refuseRemote(ctx context.Context) error {
	if len(w.versions) == 0 {
		return nil
	}
	from, args := w.picked()
	remote, err := db.Exists(ctx, w.DB, "SELECT 1"+from+" AND ca.artifact IS NULL", args...)
	if err == nil && remote {
		err = errs.E(errs.Invalid, "Remote artifacts cannot be exported.")
	}
	return err
}

// members writes all that the archive holds.
func (w *exporting) members(ctx context.Context) error {
	versions, err := json.Marshal(w.components(w.versions))
	if err != nil {
		return err
	}
	if err := w.member("versions.json", int64(len(versions)), time.Time{}); err != nil {
		return err
	}
	if _, err := w.tar.Write(versions); err != nil {
		return err
	}
	artifacts, count, err := w.listArtifacts(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = artifacts.Close() }() // the task's folder goes with the task
	if err := w.artifacts(ctx, artifacts, count); err != nil {
		return err
	}
	if err := w.add(module+"ArtifactResource.json", artifacts); err != nil {
		return err
	}
	if err := w.rows(module+"RepositoryResource.json", func(emit func(row) error) error {
		for _, v := range w.versions {
			if err := emit(w.repositoryRow(v)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, v := range w.versions {
		if err := w.version(ctx, v); err != nil {
			return fmt.Errorf("export %s: %w", v.dir(), err)
		}
	}
	return nil
}

// member begins a member of the archive.
func (w *exporting) member(name string, size int64, at time.Time) error {
	return w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: at})
}

// add adds a file of the task's to the archive.
func (w *exporting) add(name string, f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := w.member(name, size, time.Time{}); err != nil {
		return err
	}
	_, err = io.Copy(w.tar, f)
	return err
}

// A row is a row of an export, as JSON.
type row []byte

// spool writes rows that fill tells of into a file of the task's, as a JSON list.
func (w *exporting) spool(fill func(emit func(row) error) error) (_ *os.File, err error) {
	dir, err := w.job.TempDir()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "rows-*.json")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := os.Remove(f.Name()); err != nil { // it is needed no longer than it is open
		return nil, err
	}
	b := bufio.NewWriterSize(f, 64<<10)
	separator := "["
	err = fill(func(r row) error {
		if _, err := b.WriteString(separator); err != nil {
			return err
		}
		separator = ", "
		_, err := b.Write(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	end := "]"
	if separator == "[" {
		end = "[]"
	}
	if _, err := b.WriteString(end); err != nil {
		return nil, err
	}
	return f, b.Flush()
}

// rows adds rows to the archive.
func (w *exporting) rows(name string, fill func(emit func(row) error) error) error {
	f, err := w.spool(fill)
	if err != nil {
		return err
	}
	return errors.Join(w.add(name, f), f.Close())
}

// field appends a field to a row; v is a string, an int64, or nil for null.
func field(r row, name string, v any) row {
	if len(r) == 0 {
		r = append(r, '{')
	} else {
		r = append(r[:len(r)-1], ", "...)
	}
	r = append(appendText(r, name), ": "...)
	switch v := v.(type) {
	case string:
		r = appendText(r, v)
	case int64:
		r = strconv.AppendInt(r, v, 10)
	case pulp.ID:
		r = appendText(r, v.String())
	default:
		r = append(r, "null"...)
	}
	return append(r, '}')
}

func appendText(b []byte, s string) []byte {
	var buf jsonBuffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always has a form
	return append(b, buf[:len(buf)-1]...)
}

type jsonBuffer []byte

func (b *jsonBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// listArtifacts spools the rows of the artifacts that are new in the versions, and counts them.
func (w *exporting) listArtifacts(ctx context.Context) (_ *os.File, count int64, err error) {
	f, err := w.spool(func(emit func(row) error) error {
		if len(w.versions) == 0 {
			return nil
		}
		from, args := w.picked()
		query := "SELECT DISTINCT a.id, a.size, a.md5, a.sha1, a.sha224, a.sha256, a.sha384, a.sha512 FROM core_artifact a JOIN (SELECT ca.artifact" + from
		var starts []pulp.ID
		for _, v := range w.versions {
			if v.start != nil {
				starts = append(starts, v.start.ID)
			}
		}
		if starts != nil {
			marks, more := db.In(starts)
			query += " AND NOT EXISTS (SELECT 1 FROM core_repositoryversion s JOIN core_contentartifact cs ON cs.artifact = ca.artifact" +
				" JOIN core_repositorycontent rs ON rs.repository = s.repository AND rs.content = cs.content AND rs.added <= s.number AND rs.removed > s.number" +
				" WHERE s.repository = v.repository AND s.id IN " + marks + ")"
			args = append(args, more...)
		}
		return db.Each(ctx, w.DB, func(rows *sql.Rows) error {
			var id pulp.ID
			var size int64
			var d [6]*string
			if err := rows.Scan(&id, &size, &d[0], &d[1], &d[2], &d[3], &d[4], &d[5]); err != nil {
				return err
			}
			count++
			r := field(nil, "file", blob.ArtifactKey(w.domain, orEmpty(d[3])))
			r = field(r, "size", size)
			for i, alg := range pulp.Algorithms {
				r = field(r, string(alg), orEmpty(d[i]))
			}
			return emit(field(r, "pulp_domain", w.domain.ID))
		}, query+") p ON p.artifact = a.id ORDER BY a.id", args...)
	})
	return f, count, err
}

// domainWord stands for the domain in the names of artifacts, since the other side has another.
const domainWord = "DOMAIN"

func (w *exporting) artifacts(ctx context.Context, list *os.File, count int64) (err error) {
	p := w.job.Progress("export.artifacts", "Exporting Artifacts")
	defer p.End(&err)
	p.SetTotal(count)
	if _, err := list.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return eachRow(list, func(r *Row) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		sha := r.Digest("sha256")
		size := r.Int("size")
		if r.Err() != nil || size == nil {
			return errors.Join(errors.New("an artifact without a sha256"), r.Err())
		}
		if err := w.artifact(ctx, sha, *size); err != nil {
			return fmt.Errorf("export artifact %s: %w", sha, err)
		}
		p.Add(1)
		return nil
	})
}

func (w *exporting) artifact(ctx context.Context, sha string, size int64) (err error) {
	f, err := w.Blobs.Of(w.domain.ID).Open(ctx, blob.ArtifactKey(w.domain, sha))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info := f.Info()
	if info.Size != size {
		return fmt.Errorf("the file has %d bytes and should have %d", info.Size, size)
	}
	name := "artifact/"
	if w.domain.Name != pulp.DefaultDomain {
		name += domainWord + "/"
	}
	if err := w.member(name+sha[:2]+"/"+sha[2:], size, info.ModTime.Truncate(time.Second)); err != nil {
		return err
	}
	_, err = io.Copy(w.tar, &ender{ctx: ctx, r: f})
	return err
}

// An ender is a reader that ends with its context.
type ender struct {
	ctx context.Context //nolint:containedctx // it lives as long as one copy
	r   io.Reader
}

func (e *ender) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.r.Read(p)
}

// repositoryRow is what all types of repository have of a row.
func (w *exporting) repositoryRow(v *exported) row {
	r := field(nil, "pulp_type", v.repo.PulpType)
	r = field(r, "name", v.repo.Name)
	r = field(r, "description", orEmpty(v.repo.Description))
	var retain any = ""
	if v.repo.Retain != nil {
		retain = *v.repo.Retain
	}
	r = field(r, "retain_repo_versions", retain)
	r = field(r, "user_hidden", flag(v.repo.Hidden))
	return field(r, "pulp_domain", w.domain.ID)
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// version writes the directory of a version.
func (w *exporting) version(ctx context.Context, v *exported) (err error) {
	p := w.job.Progress("export.repo.version.content", fmt.Sprintf("Exporting content for %s repository-version %s/%d", v.format.Component, v.repo.Name, v.Number))
	defer p.End(&err)
	total, err := db.Value[int64](ctx, w.DB, "SELECT count(*) FROM core_repositorycontent WHERE repository = ? AND added <= ? AND removed > ?", v.Repository, v.Number, v.Number)
	if err != nil {
		return err
	}
	p.SetTotal(total)
	for i := range v.format.Classes {
		c := &v.format.Classes[i]
		fill := func(emit func(row) error) error { return w.units(ctx, v, c, p, emit) }
		if c.Content == nil {
			fill = func(emit func(row) error) error { return w.ownRow(ctx, v, c, emit) }
		}
		if err := w.rows(v.dir()+"/"+v.format.file(c), fill); err != nil {
			return err
		}
	}
	return w.rows(v.dir()+"/"+module+"ContentArtifactResource.json", func(emit func(row) error) error {
		return db.Each(ctx, w.DB, func(rows *sql.Rows) error {
			var sha, path string
			var content pulp.ID
			if err := rows.Scan(&sha, &content, &path); err != nil {
				return err
			}
			return emit(field(field(field(nil, "artifact", sha), "content", content), "relative_path", path))
		}, "SELECT a.sha256, ca.content, ca.relative_path FROM core_repositorycontent rc JOIN core_contentartifact ca ON ca.content = rc.content"+
			" JOIN core_artifact a ON a.id = ca.artifact WHERE rc.repository = ? AND rc.added <= ? AND rc.removed > ? ORDER BY ca.content, ca.relative_path",
			v.Repository, v.Number, v.Number)
	})
}

// A structure is a column of JSON, which is written as the text that it is; null stays null.
type structure struct{ sql.NullString }

// columns returns the columns of a class's own table that are to be read, and what they are scanned into.
func (w *exporting) columns(f *Format, c *Class) (names string, dest []any) {
	for i := range c.Columns {
		if c.Columns[i].Name == domainColumn {
			continue
		}
		names += ", d." + c.Columns[i].from()
		switch f.field(c, &c.Columns[i]).Kind {
		case rest.Bool:
			dest = append(dest, new(sql.NullBool))
		case rest.Int:
			dest = append(dest, new(sql.NullInt64))
		case rest.Time:
			dest = append(dest, new(pulp.Time))
		case rest.JSON, rest.Strings:
			dest = append(dest, new(structure))
		default:
			dest = append(dest, new(sql.NullString))
		}
	}
	return names, dest
}

// finish appends what was scanned of a class's own columns.
func (w *exporting) finish(r row, c *Class, dest []any) row {
	for i := range c.Columns {
		if c.Columns[i].Name == domainColumn {
			r = field(r, domainColumn, w.domain.ID)
			continue
		}
		var value any = ""
		switch v := dest[0].(type) {
		case *sql.NullBool:
			if v.Valid {
				value = flag(v.Bool)
			}
		case *sql.NullInt64:
			if v.Valid {
				value = v.Int64
			}
		case *pulp.Time:
			if *v != 0 {
				value = time.UnixMicro(int64(*v)).UTC().Format(time.DateTime)
			}
		case *sql.NullString:
			value = v.String
		case *structure:
			if value = nil; v.Valid {
				value = v.String
			}
		}
		r, dest = field(r, c.Columns[i].Name, value), dest[1:]
	}
	return r
}

func (w *exporting) units(ctx context.Context, v *exported, c *Class, p *task.Progress, emit func(row) error) error {
	names, dest := w.columns(v.format, c)
	var id pulp.ID
	all := append([]any{&id}, dest...)
	return db.Each(ctx, w.DB, func(rows *sql.Rows) error {
		if err := rows.Scan(all...); err != nil {
			return err
		}
		p.Add(1)
		r := field(nil, "pulp_type", c.Content.Type.PulpType)
		r = field(r, "upstream_id", id)
		r = field(r, "pulp_domain", w.domain.ID)
		return emit(w.finish(r, c, dest))
	}, "SELECT d.id"+names+" FROM core_repositorycontent rc JOIN "+c.Content.Table+" d ON d.id = rc.content"+
		" WHERE rc.repository = ? AND rc.added <= ? AND rc.removed > ? ORDER BY d.id", v.Repository, v.Number, v.Number)
}

func (w *exporting) ownRow(ctx context.Context, v *exported, c *Class, emit func(row) error) error {
	names, dest := w.columns(v.format, c)
	if names == "" {
		return emit(w.finish(w.repositoryRow(v), c, dest))
	}
	return db.Each(ctx, w.DB, func(rows *sql.Rows) error {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		return emit(w.finish(w.repositoryRow(v), c, dest))
	}, "SELECT "+names[2:]+" FROM "+v.format.Repository.OwnTable()+" d WHERE d.id = ?", v.Repository)
}

// tocOf makes the table of contents of an export's files.
func tocOf(meta map[string]any, chunk int64, sums map[string]string) ([]byte, error) {
	all := map[string]any{}
	maps.Copy(all, meta)
	all["checksum_type"] = "crc32"
	if chunk > 0 {
		all["chunk_size"] = chunk
	}
	return json.Marshal(struct {
		Meta  map[string]any    `json:"meta"`
		Files map[string]string `json:"files"`
	}{all, sums})
}
