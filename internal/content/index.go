package content

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"sort"
	"strings"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// Served is a publication or a version of a repository, which is served. It never changes.
type Served struct {
	Publication pulp.ID // zero if the version is served as it is
	PassThrough bool    // the publication serves its version's content too

	Version, Repository pulp.ID
	Number              int64 // the version's
}

// nothing says whether there is nothing to serve.
func (s Served) nothing() bool { return s.Publication.IsZero() && s.Version.IsZero() }

// content says whether what is in the version is served by its own paths.
func (s Served) content() bool { return s.Publication.IsZero() || s.PassThrough }

// An Entry is a file that is served.
type Entry struct {
	ContentArtifact pulp.ID // zero for a file that was made for the publication
	Published       bool    // the publication itself has it, not only its version's content

	Artifact pulp.ID // zero if the file is not stored; then the rest is empty too
	SHA256   string
	Size     int64     // bytes
	Created  pulp.Time // of the artifact
}

// An Item is a line of a listing.
type Item struct {
	Name string    // a directory's ends in a slash
	Size int64     // bytes; -1 if it is not known, and for directories
	Date pulp.Time // when it was added to the repository, or published; zero for directories
}

// An Index finds the files of what is served. Directories are empty, or end in a slash.
type Index interface {
	// Lookup returns the file with exactly this path, nil if there is none.
	Lookup(ctx context.Context, s Served, path string) (*Entry, error)
	// HasDir says whether there is any file in a directory or below it.
	HasDir(ctx context.Context, s Served, dir string) (bool, error)
	// List returns what is in a directory, ordered by name.
	List(ctx context.Context, s Served, dir string) ([]Item, error)
}

// dbIndex is the index that asks the database.
type dbIndex struct{ q db.Querier }

// entryColumns are what scanEntry reads, of ca and a.
const entryColumns = "ca.id, a.id, a.sha256, a.size, a.created"

func scanEntry(row interface{ Scan(...any) error }, e *Entry) error {
	var sha sql.NullString
	var size sql.NullInt64
	err := row.Scan(&e.ContentArtifact, &e.Artifact, &sha, &size, &e.Created)
	e.SHA256, e.Size = sha.String, size.Int64
	return err
}

func (x dbIndex) Lookup(ctx context.Context, s Served, path string) (_ *Entry, err error) {
	defer errs.Wrap(&err, "look up a path")
	if !s.Publication.IsZero() {
		e := &Entry{Published: true}
		err := scanEntry(x.q.QueryRow(ctx, "SELECT "+entryColumns+` FROM core_publishedartifact pa
			LEFT JOIN core_contentartifact ca ON ca.id = pa.content_artifact
			LEFT JOIN core_artifact a ON a.id = COALESCE(pa.artifact, ca.artifact)
			WHERE pa.publication = ? AND pa.relative_path = ?`, s.Publication, path), e)
		if !errs.Is(err, errs.NotFound) {
			return e, err
		}
	}
	if !s.content() || s.Version.IsZero() {
		return nil, nil
	}
	e := &Entry{}
	// CROSS JOIN makes SQLite begin with the path, not with the repository. Where two units have the path, which the
	// rules of versions forbid, the newer one counts.
	err = scanEntry(x.q.QueryRow(ctx, "SELECT "+entryColumns+` FROM core_contentartifact ca
		CROSS JOIN core_repositorycontent rc LEFT JOIN core_artifact a ON a.id = ca.artifact
		WHERE ca.relative_path = ? AND rc.content = ca.content AND rc.repository = ? AND rc.added <= ? AND rc.removed > ?
		ORDER BY rc.added DESC LIMIT 1`, path, s.Repository, s.Number, s.Number), e)
	if errs.Is(err, errs.NotFound) {
		return nil, nil
	}
	return e, err
}

// byContentArtifact and byArtifact return one file, wherever it belongs to; nil if there is none in the domain.
func byContentArtifact(ctx context.Context, q db.Querier, domain, id pulp.ID) (*Entry, error) {
	e := &Entry{}
	err := scanEntry(q.QueryRow(ctx, "SELECT "+entryColumns+` FROM core_contentartifact ca JOIN core_content c ON c.id = ca.content
		LEFT JOIN core_artifact a ON a.id = ca.artifact WHERE ca.id = ? AND c.domain = ?`, id, domain), e)
	if errs.Is(err, errs.NotFound) {
		return nil, nil
	}
	return e, err
}

func byArtifact(ctx context.Context, q db.Querier, domain, id pulp.ID) (*Entry, error) {
	e := &Entry{}
	err := scanEntry(q.QueryRow(ctx, "SELECT NULL, a.id, a.sha256, a.size, a.created FROM core_artifact a WHERE a.id = ? AND a.domain = ?", id, domain), e)
	if errs.Is(err, errs.NotFound) {
		return nil, nil
	}
	return e, err
}

// few is how many files of all repositories there may be below a directory for the search to begin with them. Where
// there are more, it begins with the content of the one repository.
const few = 2000

// below returns the condition that the column is a path in or below a directory.
func below(column, dir string) (string, []any) {
	if dir == "" {
		return "", nil
	}
	after := dir[:len(dir)-1] + "0" // the character after the slash
	return " AND " + column + " >= ? AND " + column + " < ?", []any{dir, after}
}

// content returns the tables and the condition that give a version's content in and below a directory.
func (x dbIndex) content(ctx context.Context, s Served, dir string) (from, where string, args []any, err error) {
	const repository, paths = "core_repositorycontent rc", "core_contentartifact ca"
	cond, condArgs := below("ca.relative_path", dir)
	from = repository + " CROSS JOIN " + paths
	if dir != "" {
		n, err := db.Value[int](ctx, x.q, "SELECT count(*) FROM (SELECT 1 FROM core_contentartifact ca WHERE 1 = 1"+cond+" LIMIT ?) x", append(slices.Clone(condArgs), few)...)
		if err != nil {
			return "", "", nil, err
		}
		if n < few {
			from = paths + " CROSS JOIN " + repository
		}
	}
	where = "rc.repository = ? AND rc.added <= ? AND rc.removed > ? AND ca.content = rc.content" + cond
	return from, where, append([]any{s.Repository, s.Number, s.Number}, condArgs...), nil
}

func (x dbIndex) HasDir(ctx context.Context, s Served, dir string) (_ bool, err error) {
	defer errs.Wrap(&err, "look for a directory")
	if !s.Publication.IsZero() {
		cond, args := below("relative_path", dir)
		found, err := db.Exists(ctx, x.q, "SELECT 1 FROM core_publishedartifact WHERE publication = ?"+cond, append([]any{s.Publication}, args...)...)
		if found || err != nil {
			return found, err
		}
	}
	if !s.content() || s.Version.IsZero() {
		return false, nil
	}
	from, where, args, err := x.content(ctx, s, dir)
	if err != nil {
		return false, err
	}
	return db.Exists(ctx, x.q, "SELECT 1 FROM "+from+" WHERE "+where, args...)
}

func (x dbIndex) List(ctx context.Context, s Served, dir string) (_ []Item, err error) {
	defer errs.Wrap(&err, "list a directory")
	added, err := x.dates(ctx, s)
	if err != nil {
		return nil, err
	}
	items := map[string]Item{}
	// The size of a file that is not stored is what its sources say.
	const size = "COALESCE(a.size, (SELECT max(ra.size) FROM core_remoteartifact ra WHERE ra.content_artifact = ca.id AND ca.artifact IS NULL), -1)"
	add := func(rows *sql.Rows) error {
		var path string
		var version sql.NullInt64
		var date pulp.Time
		it := Item{}
		if err := rows.Scan(&path, &version, &date, &it.Size); err != nil {
			return err
		}
		name := path[len(dir):]
		if i := strings.IndexByte(name, '/'); i >= 0 {
			name = name[:i+1]
			it.Size = -1
		} else if it.Date = date; version.Valid {
			it.Date = added(version.Int64)
		}
		if _, ok := items[name]; !ok {
			it.Name = strings.Clone(name)
			items[it.Name] = it
		}
		return nil
	}
	if !s.Publication.IsZero() {
		cond, args := below("pa.relative_path", dir)
		err := db.Each(ctx, x.q, add, "SELECT pa.relative_path, rc.added, pa.created, "+size+` FROM core_publishedartifact pa
			LEFT JOIN core_contentartifact ca ON ca.id = pa.content_artifact
			LEFT JOIN core_artifact a ON a.id = COALESCE(pa.artifact, ca.artifact)
			LEFT JOIN core_repositorycontent rc ON rc.content = ca.content AND rc.repository = ? AND rc.added <= ? AND rc.removed > ?
			WHERE pa.publication = ?`+cond, append([]any{s.Repository, s.Number, s.Number, s.Publication}, args...)...)
		if err != nil {
			return nil, err
		}
	}
	if s.content() && !s.Version.IsZero() {
		from, where, args, err := x.content(ctx, s, dir)
		if err != nil {
			return nil, err
		}
		err = db.Each(ctx, x.q, add, "SELECT ca.relative_path, rc.added, 0, "+size+" FROM "+from+
			" LEFT JOIN core_artifact a ON a.id = ca.artifact WHERE "+where, args...)
		if err != nil {
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Values(items), func(a, b Item) int { return strings.Compare(a.Name, b.Name) }), nil
}

// dates returns when content of a version was added, by the number of the version that added it. Where that version
// was deleted, its content is that of the next one.
func (x dbIndex) dates(ctx context.Context, s Served) (func(number int64) pulp.Time, error) {
	var numbers []int64
	var created []pulp.Time
	err := db.Each(ctx, x.q, func(rows *sql.Rows) error {
		var n int64
		var t pulp.Time
		err := rows.Scan(&n, &t)
		numbers, created = append(numbers, n), append(created, t)
		return err
	}, "SELECT number, created FROM core_repositoryversion WHERE repository = ? AND number <= ? ORDER BY number", s.Repository, s.Number)
	return func(number int64) pulp.Time {
		if i := sort.Search(len(numbers), func(i int) bool { return numbers[i] >= number }); i < len(numbers) {
			return created[i]
		}
		return 0
	}, err
}
