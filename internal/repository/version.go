package repository

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

const (
	versionLabel = "core.repositoryversion"

	taskDeleteVersion = "pulpcore.app.tasks.repository.delete_version"

	// current is the "removed" of content that is in the latest version.
	current = "9223372036854775807"
)

// errInUse says that a version cannot go since clients are served from it.
var errInUse = errs.List("The repository version cannot be deleted because it (or its publications) are currently being used to distribute content." +
	" Please update the necessary distributions first.")

// A Summary counts a version's content by type.
type Summary struct {
	path string // of the version, below the API root
	rows []summaryRow
}

type summaryRow struct {
	kind, pulpType, path string
	count                int64
}

// A ContentSummary is how the document describes a Summary.
type ContentSummary struct {
	Added   map[string]map[string]any `api:"added,req"`
	Removed map[string]map[string]any `api:"removed,req"`
	Present map[string]map[string]any `api:"present,req"`
}

// Schema returns the struct that describes it.
func (*Summary) Schema() any { return ContentSummary{} }

var summaryFilters = map[string]string{"added": "repository_version_added", "removed": "repository_version_removed", "present": "repository_version"}

// AppendAPI writes {"added": {"file.file": {"count": 1, "href": "…"}}, …}.
func (s *Summary) AppendAPI(b []byte, v *rest.View) []byte {
	for i, kind := range []string{"added", "removed", "present"} {
		b = append(b, "{,,"[i])
		b = append(strconv.AppendQuote(b, kind), ":{"...)
		first := true
		for _, r := range s.rows {
			if r.kind != kind || r.count == 0 {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = strconv.AppendQuote(b, r.pulpType)
			b = append(b, `:{"count":`...)
			b = strconv.AppendInt(b, r.count, 10)
			b = append(b, `,"href":"`...)
			b = append(b, v.Root()+r.path+"/?"+summaryFilters[kind]+"="+v.Root()+s.path...)
			b = append(b, `"}`...)
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

func versionFilterList() []rest.Filter {
	const in = "EXISTS (SELECT 1 FROM core_repositorycontent rc WHERE rc.repository = m.repository AND rc.added <= m.number AND rc.removed > m.number AND rc.content "
	return slices.Concat(
		rest.Numbers("number", "m.number", "", "gt", "gte", "lt", "lte", "range"), rest.Times("pulp_created", "m.created"),
		[]rest.Filter{contentFilter("content", in+"= ?)"), contentInFilter("content__in", in+"IN %s)")},
	)
}

var versionOrdering = []string{"complete", "content_ids", "info", "number", "pk", "pulp_created", "pulp_id", "pulp_last_updated"}

// versionType declares the versions of one type of repository.
func (s *Service) versionType(parent *rest.Type) rest.Typed[Version] {
	var t rest.Typed[Version]
	object := func(f func(ctx context.Context, r *rest.Request, v *Version) (*rest.Response, error)) func(context.Context, *rest.Request) (*rest.Response, error) {
		return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
			v, err := t.Object(ctx, r)
			if err != nil {
				return nil, err
			}
			return f(ctx, r, v)
		}
	}
	t = rest.Define(rest.Resource[Version]{
		App: parent.App, Model: "RepositoryVersion", Label: versionLabel, Schema: "RepositoryVersion", Path: "versions",
		HrefName: strings.TrimSuffix(parent.HrefParam(), "_href") + "_version_href",
		Family:   Versions, Table: "core_repositoryversion", Parent: parent, ParentCol: "repository", KeyCol: "number",
		Where: "m.complete", Filters: versionFilterList(), Ordering: versionOrdering, NoIDFilter: true, Expand: s.expandVersions,
		Order: "m.number DESC",
		Actions: []rest.Action{
			{Name: "delete", Method: http.MethodDelete, Task: true, Handle: object(s.deleteVersionRequest)},
			{Name: "repair", Request: repairInput{}, RequestSchema: "Repair", Task: true, Handle: object(s.repairVersionRequest)},
		},
	})
	return t
}

func (s *Service) genericVersions() *rest.Type {
	return rest.Define(rest.Resource[Version]{
		App: "core", Model: "RepositoryVersion", Label: versionLabel, Path: "repository_versions", Family: Versions, Table: "core_repositoryversion",
		Scope: func(ctx context.Context) rest.Cond {
			return rest.Cond{SQL: "m.repository IN (SELECT id FROM core_repository WHERE domain = ? AND NOT user_hidden)", Args: []any{pulp.CallOf(ctx).Domain.ID}}
		},
		Where: "m.complete", Filters: versionFilterList(), Ordering: versionOrdering, NoIDFilter: true, Expand: s.expandVersions,
	}).Type
}

// expandVersions fills the summaries.
func (s *Service) expandVersions(ctx context.Context, q db.Querier, list []*Version) error {
	ids, repos := make([]pulp.ID, len(list)), make([]pulp.ID, len(list))
	byID := map[pulp.ID]*Version{}
	for i, v := range list {
		ids[i], repos[i], byID[v.ID] = v.ID, v.Repository, v
	}
	paths, err := s.repositoryPaths(ctx, q, repos)
	if err != nil {
		return err
	}
	for _, v := range list {
		v.Summary = &Summary{path: versionPath(paths[v.Repository], v.Number)}
		v.VulnReport = "vuln_report/?repo_versions=prn:" + versionLabel + ":" + v.ID.String()
	}
	marks, args := db.In(ids)
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var id pulp.ID
		var r summaryRow
		if err := rows.Scan(&id, &r.kind, &r.pulpType, &r.count); err != nil {
			return err
		}
		if ct := s.contents[r.pulpType]; ct != nil {
			r.path = ct.Type.Path
			byID[id].Summary.rows = append(byID[id].Summary.rows, r)
		}
		return nil
	}, "SELECT version, kind, pulp_type, count FROM core_versioncount WHERE version IN "+marks+" ORDER BY pulp_type", args...)
}

func versionPath(repo string, number int64) string {
	return repo + "versions/" + strconv.FormatInt(number, 10) + "/"
}

// repositoryPaths returns the repositories' paths below the API root.
func (s *Service) repositoryPaths(ctx context.Context, q db.Querier, ids []pulp.ID) (map[pulp.ID]string, error) {
	paths := make(map[pulp.ID]string, len(ids))
	marks, args := db.In(slices.Compact(slices.SortedFunc(slices.Values(ids), pulp.ID.Compare)))
	err := db.Each(ctx, q, func(rows *sql.Rows) error {
		var id pulp.ID
		var typ string
		err := rows.Scan(&id, &typ)
		if t := s.API.TypeOf(Repositories.Name, typ); t != nil {
			paths[id] = t.Path + "/" + id.String() + "/"
		}
		return err
	}, "SELECT id, pulp_type FROM core_repository WHERE id IN "+marks, args...)
	return paths, err
}

// Latest returns the newest complete version of a repository.
func (s *Service) Latest(ctx context.Context, q db.Querier, repo pulp.ID) (*Version, error) {
	return s.versionWhere(ctx, q, "repository = ? AND complete ORDER BY number DESC LIMIT 1", repo)
}

// Version returns a version by its id.
func (s *Service) Version(ctx context.Context, q db.Querier, id pulp.ID) (*Version, error) {
	return s.versionWhere(ctx, q, "id = ?", id)
}

func (s *Service) versionWhere(ctx context.Context, q db.Querier, where string, args ...any) (*Version, error) {
	var v Version
	err := q.QueryRow(ctx, "SELECT id, created, updated, number, repository, base_version, complete FROM core_repositoryversion WHERE "+where, args...).
		Scan(&v.ID, &v.Created, &v.Updated, &v.Number, &v.Repository, &v.BaseVersion, &v.Complete)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.NotFoundModel("RepositoryVersion")
	}
	return &v, err
}

// VersionJSON renders a version as the API shows it.
func (s *Service) VersionJSON(ctx context.Context, v *Version) ([]byte, error) {
	typ, err := db.Value[string](ctx, s.DB, "SELECT pulp_type FROM core_repository WHERE id = ?", v.Repository)
	if err != nil {
		return nil, err
	}
	rt := s.repos[typ]
	if rt == nil {
		return nil, fmt.Errorf("no repository type %s here", typ)
	}
	return rt.versions.JSON(ctx, s.DB, v)
}

// A Draft is a version in the making. Its content is staged under the number that it will have, unseen by readers
// of complete versions, so that making it costs what changes. The task that makes it holds the repository's lock.
type Draft struct {
	Version
	Type *RepositoryType
	repo *Repository
	prev *Version
	svc  *Service
	job  *task.Job
}

// NewDraft starts a version of a repository from the latest one's content.
func (s *Service) NewDraft(ctx context.Context, j *task.Job, repo pulp.ID) (_ *Draft, err error) {
	defer errs.Wrap(&err, "start a version of repository %s", repo)
	d := &Draft{svc: s, job: j}
	leftover, err := db.Column[pulp.ID](ctx, s.DB, "SELECT id FROM core_repositoryversion WHERE repository = ? AND NOT complete", repo)
	if err != nil {
		return nil, err
	}
	for _, id := range leftover { // of a task that died
		if err := s.discardVersion(ctx, id); err != nil {
			return nil, err
		}
	}
	if d.repo, err = s.Repository(ctx, s.DB, repo); err != nil {
		return nil, err
	}
	if d.Type = s.repos[d.repo.PulpType]; d.Type == nil {
		return nil, fmt.Errorf("no repository type %s here", d.repo.PulpType)
	}
	if d.prev, err = s.Latest(ctx, s.DB, repo); err != nil {
		return nil, err
	}
	now := s.Now.Now()
	d.Version = Version{ID: pulp.NewID(), Created: now, Updated: now, Number: d.repo.NextVersion, Repository: repo}
	return d, s.DB.Update(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO core_repositoryversion (id, repository, number, complete, created, updated) VALUES (?, ?, ?, ?, ?, ?)",
			d.ID, repo, d.Number, false, now, now); err != nil || d.repo.Hidden {
			return err
		}
		return j.Created(ctx, tx, pulp.RefTo(versionLabel, d.ID))
	})
}

// Repo returns the draft's repository.
func (d *Draft) Repo() *Repository { return d.repo }

// Previous returns the version that the draft started from.
func (d *Draft) Previous() *Version { return d.prev }

// batches calls f with the ids in pieces that one statement can take.
func batches(ids []pulp.ID, f func(marks string, args []any) error) error {
	for len(ids) > 0 {
		batch := ids[:min(500, len(ids))]
		ids = ids[len(batch):]
		marks, args := db.In(batch)
		if err := f(marks, args); err != nil {
			return err
		}
	}
	return nil
}

// Add puts units into the draft and says how many of them were not in it.
func (d *Draft) Add(ctx context.Context, ids []pulp.ID) (added int64, err error) {
	err = batches(ids, func(marks string, args []any) error {
		return d.svc.DB.Update(ctx, func(tx *db.Tx) error {
			n, err := tx.Exec(ctx, "UPDATE core_repositorycontent SET removed = "+current+" WHERE repository = ? AND removed = ? AND content IN "+marks,
				append([]any{d.Repository, d.Number}, args...)...)
			if err != nil {
				return err
			}
			m, err := tx.Exec(ctx, "INSERT INTO core_repositorycontent (repository, content, added) SELECT r.id, c.id, r.next_version"+
				" FROM core_content c JOIN core_repository r ON r.id = ? WHERE c.id IN "+marks+
				" AND NOT EXISTS (SELECT 1 FROM core_repositorycontent rc WHERE rc.repository = r.id AND rc.content = c.id AND rc.removed = "+current+")",
				append([]any{d.Repository}, args...)...)
			added += n + m
			return err
		})
	})
	if err != nil {
		return added, fmt.Errorf("add content: %w", err)
	}
	return added, nil
}

// Remove takes units out of the draft and says how many of them were in it.
func (d *Draft) Remove(ctx context.Context, ids []pulp.ID) (removed int64, err error) {
	err = batches(ids, func(marks string, args []any) error {
		return d.svc.DB.Update(ctx, func(tx *db.Tx) error {
			n, err := d.removeWhere(ctx, tx, "content IN "+marks, args...)
			removed += n
			return err
		})
	})
	if err != nil {
		return removed, fmt.Errorf("remove content: %w", err)
	}
	return removed, nil
}

// removeWhere takes the units for which the condition on core_repositorycontent holds out of the draft.
func (d *Draft) removeWhere(ctx context.Context, tx *db.Tx, where string, args ...any) (int64, error) {
	all := append([]any{d.Repository, d.Number}, args...)
	n, err := tx.Exec(ctx, "DELETE FROM core_repositorycontent WHERE repository = ? AND added = ? AND removed = "+current+" AND ("+where+")", all...)
	if err != nil {
		return 0, err
	}
	m, err := tx.Exec(ctx, "UPDATE core_repositorycontent SET removed = ? WHERE repository = ? AND removed = "+current+" AND ("+where+")",
		append([]any{d.Number, d.Repository}, args...)...)
	return n + m, err
}

// RemoveAll empties the draft.
func (d *Draft) RemoveAll(ctx context.Context) error {
	return d.svc.DB.Update(ctx, func(tx *db.Tx) error {
		_, err := d.removeWhere(ctx, tx, "1 = 1")
		return err
	})
}

// Rebase makes the draft's content that of any version.
func (d *Draft) Rebase(ctx context.Context, base pulp.ID) error {
	b, err := d.svc.Version(ctx, d.svc.DB, base)
	if err != nil {
		return err
	}
	d.BaseVersion = base
	const of = "SELECT b.content FROM core_repositorycontent b WHERE b.repository = ? AND b.added <= ? AND b.removed > ?"
	return d.svc.DB.Update(ctx, func(tx *db.Tx) error {
		args := []any{b.Repository, b.Number, b.Number}
		if _, err := d.removeWhere(ctx, tx, "content NOT IN ("+of+")", args...); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE core_repositorycontent SET removed = "+current+" WHERE repository = ? AND removed = ? AND content IN ("+of+")",
			append([]any{d.Repository, d.Number}, args...)...); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO core_repositorycontent (repository, content, added) SELECT r.id, b.content, r.next_version"+
			" FROM core_repositorycontent b JOIN core_repository r ON r.id = ? WHERE b.repository = ? AND b.added <= ? AND b.removed > ?"+
			" AND NOT EXISTS (SELECT 1 FROM core_repositorycontent rc WHERE rc.repository = r.id AND rc.content = b.content AND rc.removed = "+current+")",
			append([]any{d.Repository}, args...)...)
		return err
	})
}

// Content calls f with the ids of the draft's units, a batch at a time, in no order.
func (d *Draft) Content(ctx context.Context, f func(ids []pulp.ID) error) error {
	var last pulp.ID
	for {
		ids, err := db.Column[pulp.ID](ctx, d.svc.DB, "SELECT content FROM core_repositorycontent WHERE repository = ? AND removed = "+current+
			" AND content > ? ORDER BY content LIMIT 1000", d.Repository, last[:])
		if err != nil || len(ids) == 0 {
			return err
		}
		if err := f(ids); err != nil {
			return err
		}
		last = ids[len(ids)-1]
	}
}

// Complete checks the draft against its repository type's rules and makes it the latest version. Where it has
// the content of the version before, it is dropped and the result is nil.
func (d *Draft) Complete(ctx context.Context) (_ *Version, err error) {
	s := d.svc
	if err := d.settle(ctx); err != nil {
		return nil, err
	}
	changed, err := db.Exists(ctx, s.DB, "SELECT 1 FROM core_repositorycontent WHERE repository = ? AND (added = ? OR removed = ?)", d.Repository, d.Number, d.Number)
	if err != nil {
		return nil, err
	}
	if !changed {
		return nil, s.discardVersion(ctx, d.ID)
	}
	if err := d.checkPaths(ctx); err != nil {
		return nil, err
	}
	err = s.DB.Update(ctx, func(tx *db.Tx) error {
		if err := d.job.Fence(ctx, tx); err != nil {
			return err
		}
		if err := d.count(ctx, tx); err != nil {
			return err
		}
		now := s.Now.Now()
		if _, err := tx.Exec(ctx, "UPDATE core_repositoryversion SET complete = ?, updated = ?, base_version = ? WHERE id = ?", true, now, d.BaseVersion, d.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE core_repository SET next_version = ?, updated = ? WHERE id = ?", d.Number+1, now, d.Repository); err != nil {
			return err
		}
		d.Version.Complete, d.Version.Updated = true, now
		return notice.Changed(ctx, tx, notice.Repository, d.Repository)
	})
	if err != nil {
		return nil, fmt.Errorf("complete version %d: %w", d.Number, err)
	}
	if err := s.DB.Update(ctx, func(tx *db.Tx) error { return s.retain(ctx, tx, d.Repository) }); err != nil {
		return nil, fmt.Errorf("remove old versions: %w", err)
	}
	if d.Type.Completed != nil {
		if err := d.Type.Completed(ctx, d.job, d); err != nil {
			return nil, errors.Join(err, s.withdraw(ctx, d))
		}
	}
	v := d.Version
	return &v, nil
}

// withdraw takes back a version whose follow-up failed. Its number stays used.
func (s *Service) withdraw(ctx context.Context, d *Draft) error {
	ctx = context.WithoutCancel(ctx)
	return s.DB.Update(ctx, func(tx *db.Tx) error {
		return s.deleteVersion(ctx, tx, &d.Version)
	})
}

// settle applies the rules on what may be together in a version.
func (d *Draft) settle(ctx context.Context) error {
	return d.svc.DB.Update(ctx, func(tx *db.Tx) error {
		types, err := db.Column[string](ctx, tx, "SELECT DISTINCT c.pulp_type FROM core_repositorycontent rc JOIN core_content c ON c.id = rc.content"+
			" WHERE rc.repository = ? AND rc.added = ?", d.Repository, d.Number)
		if err != nil {
			return err
		}
		var strange []string
		for _, t := range types {
			if !slices.Contains(d.Type.Contents, t) {
				strange = append(strange, "'"+t+"'")
				continue
			}
			if ct := d.svc.contents[t]; len(ct.RepoKey) > 0 {
				if err := d.replaceByKey(ctx, tx, ct); err != nil {
					return err
				}
			}
		}
		if strange != nil {
			return errs.Ef(errs.Invalid, "Saw unsupported content types {%s}", strings.Join(strange, ", "))
		}
		if d.Type.Finalize != nil {
			return d.Type.Finalize(ctx, tx, d)
		}
		return nil
	})
}

// replaceByKey removes units whose repository key a new unit has, and refuses two new units with one key.
func (d *Draft) replaceByKey(ctx context.Context, tx *db.Tx, ct *ContentType) error {
	columns := func(alias string) string {
		list := make([]string, len(ct.RepoKey))
		for i, c := range ct.RepoKey {
			list[i] = alias + "." + c
		}
		return strings.Join(list, ", ")
	}
	fresh := " FROM core_repositorycontent rc JOIN " + ct.Table + " n ON n.id = rc.content WHERE rc.repository = ? AND rc.added = ?"
	twice, err := db.Exists(ctx, tx, "SELECT 1"+fresh+" GROUP BY "+columns("n")+" HAVING count(*) > 1", d.Repository, d.Number)
	if err != nil {
		return err
	}
	if twice {
		return errs.Ef(errs.Invalid, "Cannot create repository version. More than one %s content with the duplicate values for %s.", ct.Type.PulpType, strings.Join(ct.Names, ", "))
	}
	_, err = tx.Exec(ctx, "UPDATE core_repositorycontent SET removed = ? WHERE repository = ? AND removed = "+current+" AND added < ? AND content IN"+
		" (SELECT o.id FROM "+ct.Table+" o WHERE ("+columns("o")+") IN (SELECT "+columns("n")+fresh+"))",
		d.Number, d.Repository, d.Number, d.Repository, d.Number)
	return err
}

// count writes how many units of which type the version adds, removes and holds: from its changes and the counts
// of the version before.
func (d *Draft) count(ctx context.Context, tx *db.Tx) error {
	diff := func(where string) (map[string]int64, error) {
		counts := map[string]int64{}
		err := db.Each(ctx, tx, func(rows *sql.Rows) error {
			var t string
			var n int64
			err := rows.Scan(&t, &n)
			counts[t] = n
			return err
		}, "SELECT c.pulp_type, count(*) FROM core_repositorycontent rc JOIN core_content c ON c.id = rc.content WHERE rc.repository = ? AND "+where+" GROUP BY c.pulp_type",
			d.Repository, d.Number)
		return counts, err
	}
	added, err := diff("rc.added = ?")
	if err != nil {
		return err
	}
	removed, err := diff("rc.removed = ?")
	if err != nil {
		return err
	}
	present := map[string]int64{}
	err = db.Each(ctx, tx, func(rows *sql.Rows) error {
		var t string
		var n int64
		err := rows.Scan(&t, &n)
		present[t] = n
		return err
	}, "SELECT pulp_type, count FROM core_versioncount WHERE version = ? AND kind = 'present'", d.prev.ID)
	if err != nil {
		return err
	}
	var rows [][]any
	for t, n := range added {
		present[t] += n
		rows = append(rows, []any{d.ID, "added", t, n})
	}
	for t, n := range removed {
		present[t] -= n
		rows = append(rows, []any{d.ID, "removed", t, n})
	}
	for t, n := range present {
		if n > 0 {
			rows = append(rows, []any{d.ID, "present", t, n})
		}
	}
	if _, err := tx.Exec(ctx, "DELETE FROM core_versioncount WHERE version = ?", d.ID); err != nil {
		return err
	}
	_, err = tx.Insert(ctx, "core_versioncount", []string{"version", "kind", "pulp_type", "count"}, rows, "")
	return err
}

// discardVersion removes a draft and undoes what was staged for it. A complete version stays.
func (s *Service) discardVersion(ctx context.Context, id pulp.ID) error {
	ctx = context.WithoutCancel(ctx)
	return s.DB.Update(ctx, func(tx *db.Tx) error {
		v, err := s.Version(ctx, tx, id)
		if errs.Is(err, errs.NotFound) || err == nil && v.Complete {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM core_repositorycontent WHERE repository = ? AND added = ?", v.Repository, v.Number); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE core_repositorycontent SET removed = "+current+" WHERE repository = ? AND removed = ?", v.Repository, v.Number); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM core_repositoryversion WHERE id = ?", id); err != nil {
			return err
		}
		return task.Forget(ctx, tx, pulp.RefTo(versionLabel, id))
	})
}

// protected returns the ids of a repository's versions that clients are served from.
func (s *Service) protected(ctx context.Context, q db.Querier, repo pulp.ID) (map[pulp.ID]bool, error) {
	ids, err := db.Column[pulp.ID](ctx, q, `
		SELECT d.repository_version FROM core_distribution d JOIN core_repositoryversion v ON v.id = d.repository_version WHERE v.repository = ?
		UNION
		SELECT p.repository_version FROM core_distribution d JOIN core_publication p ON p.id = d.publication
			JOIN core_repositoryversion v ON v.id = p.repository_version WHERE v.repository = ?
		UNION
		SELECT p.repository_version FROM core_publication p JOIN core_repositoryversion v ON v.id = p.repository_version
			WHERE v.repository = ? AND p.checkpoint AND EXISTS (SELECT 1 FROM core_distribution d WHERE d.repository = v.repository AND d.checkpoint)`,
		repo, repo, repo)
	if err != nil {
		return nil, err
	}
	safe := map[pulp.ID]bool{}
	for _, id := range ids {
		safe[id] = true
	}
	followers, err := db.Exists(ctx, q, "SELECT 1 FROM core_distribution WHERE repository = ?", repo)
	if err != nil || !followers {
		return safe, err
	}
	served, err := db.Column[pulp.ID](ctx, q, "SELECT v.id FROM core_repositoryversion v JOIN core_publication p ON p.repository_version = v.id AND p.complete"+
		" WHERE v.repository = ? AND v.complete ORDER BY v.number DESC LIMIT 1", repo)
	if err != nil {
		return nil, err
	}
	if len(served) == 0 {
		latest, err := s.Latest(ctx, q, repo)
		if err != nil {
			return nil, err
		}
		served = []pulp.ID{latest.ID}
	}
	safe[served[0]] = true
	return safe, nil
}

// retain deletes the oldest of a repository's versions, as far as it is set to keep only some.
func (s *Service) retain(ctx context.Context, tx *db.Tx, repo pulp.ID) error {
	var keep *int64
	if err := tx.QueryRow(ctx, "SELECT retain_repo_versions FROM core_repository WHERE id = ?", repo).Scan(&keep); err != nil || keep == nil {
		return err
	}
	safe, err := s.protected(ctx, tx, repo)
	if err != nil {
		return err
	}
	ids, err := db.Column[pulp.ID](ctx, tx, "SELECT id FROM core_repositoryversion WHERE repository = ? AND complete ORDER BY number DESC", repo)
	if err != nil {
		return err
	}
	var kept int64
	for _, id := range ids {
		if safe[id] {
			continue
		}
		if kept++; kept <= *keep {
			continue
		}
		v, err := s.Version(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := s.deleteVersion(ctx, tx, v); err != nil {
			return err
		}
	}
	return nil
}

// deleteVersion removes a complete version that is not the only one. What it changed counts as changed by the next one.
func (s *Service) deleteVersion(ctx context.Context, tx *db.Tx, v *Version) error {
	neighbour := func(query string) (*Version, error) {
		n, err := s.versionWhere(ctx, tx, query, v.Repository, v.Number)
		if errs.Is(err, errs.NotFound) {
			return nil, nil
		}
		return n, err
	}
	before, err := neighbour("repository = ? AND number < ? AND complete ORDER BY number DESC LIMIT 1")
	if err != nil {
		return err
	}
	after, err := neighbour("repository = ? AND number > ? AND complete ORDER BY number LIMIT 1")
	if err != nil {
		return err
	}
	low := int64(-1)
	if before != nil {
		low = before.Number
	}
	switch {
	case before == nil && after == nil:
		return errs.E(errs.Invalid, "Cannot delete repository version. Repositories must have at least one repository version.")
	case after == nil: // the one before is the latest again
		if _, err := tx.Exec(ctx, "DELETE FROM core_repositorycontent WHERE repository = ? AND added > ?", v.Repository, low); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE core_repositorycontent SET removed = "+current+" WHERE repository = ? AND removed > ? AND removed < "+current, v.Repository, low); err != nil {
			return err
		}
	default: // what was in this version alone is in none
		if _, err := tx.Exec(ctx, "DELETE FROM core_repositorycontent WHERE repository = ? AND added > ? AND removed <= ?", v.Repository, low, after.Number); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, "DELETE FROM core_repositoryversion WHERE id = ?", v.ID); err != nil {
		return err
	}
	if err := notice.Changed(ctx, tx, notice.Version, v.ID); err != nil {
		return err
	}
	if after != nil {
		if err := recount(ctx, tx, after, low); err != nil {
			return err
		}
	}
	return notice.Changed(ctx, tx, notice.Repository, v.Repository)
}

// recount counts anew what a version adds and removes, whose version before has the number low (-1 for none).
func recount(ctx context.Context, tx *db.Tx, v *Version, low int64) error {
	if _, err := tx.Exec(ctx, "DELETE FROM core_versioncount WHERE version = ? AND kind <> 'present'", v.ID); err != nil {
		return err
	}
	count := func(kind, where string, args ...any) error {
		var rows [][]any
		err := db.Each(ctx, tx, func(r *sql.Rows) error {
			var t string
			var n int64
			err := r.Scan(&t, &n)
			rows = append(rows, []any{v.ID, kind, t, n})
			return err
		}, "SELECT c.pulp_type, count(*) FROM core_repositorycontent rc JOIN core_content c ON c.id = rc.content WHERE rc.repository = ? AND "+where+" GROUP BY c.pulp_type",
			append([]any{v.Repository}, args...)...)
		if err != nil || rows == nil {
			return err
		}
		_, err = tx.Insert(ctx, "core_versioncount", []string{"version", "kind", "pulp_type", "count"}, rows, "")
		return err
	}
	const also = " AND NOT EXISTS (SELECT 1 FROM core_repositorycontent o WHERE o.repository = rc.repository AND o.content = rc.content AND o.added <= ? AND o.removed > ?)"
	err := count("added", "rc.added <= ? AND rc.removed > ? AND rc.added > ?"+also, v.Number, v.Number, low, low, low)
	if err != nil {
		return err
	}
	return count("removed", "rc.added <= ? AND rc.removed > ? AND rc.removed <= ?"+also, low, low, v.Number, v.Number, v.Number)
}

type versionArgs struct {
	Version pulp.ID `json:"version"`
}

func (s *Service) deleteVersionRequest(ctx context.Context, _ *rest.Request, v *Version) (*rest.Response, error) {
	safe, err := s.protected(ctx, s.DB, v.Repository)
	if err != nil {
		return nil, err
	}
	if safe[v.ID] {
		return nil, errInUse
	}
	repo, err := s.Repository(ctx, s.DB, v.Repository)
	if err != nil {
		return nil, err
	}
	return s.API.Dispatch(ctx, task.Spec{Name: taskDeleteVersion, Args: versionArgs{v.ID}, Exclusive: []string{s.repositoryRef(repo).PRN()}})
}

func (s *Service) runDeleteVersion(ctx context.Context, j *task.Job) (any, error) {
	var in versionArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	return nil, s.DB.Update(ctx, func(tx *db.Tx) error {
		if err := j.Fence(ctx, tx); err != nil {
			return err
		}
		v, err := s.Version(ctx, tx, in.Version)
		if errs.Is(err, errs.NotFound) {
			return nil // another request was faster
		}
		if err != nil {
			return err
		}
		safe, err := s.protected(ctx, tx, v.Repository)
		if err != nil {
			return err
		}
		if safe[v.ID] {
			return errInUse
		}
		return s.deleteVersion(ctx, tx, v)
	})
}
