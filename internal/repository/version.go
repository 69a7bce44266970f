package repository

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
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
func (s *Service) versionType(parent *rest.Type, scan bool) rest.Typed[Version] {
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
	actions := []rest.Action{
		{Name: "delete", Method: http.MethodDelete, Task: true, Handle: object(s.deleteVersionRequest)},
		{Name: "repair", Request: repairInput{}, RequestSchema: "Repair", Task: true, Handle: object(s.repairVersionRequest)},
	}
	if scan {
		actions = append(actions, rest.Action{Name: "scan", Task: true, Handle: object(s.scanRequest)})
	}
	t = rest.Define(rest.Resource[Version]{
		App: parent.App, Model: "RepositoryVersion", Label: versionLabel, Schema: "RepositoryVersion", Path: "versions",
		HrefName: strings.TrimSuffix(parent.HrefParam(), "_href") + "_version_href",
		Family:   Versions, Table: "core_repositoryversion", Parent: parent, ParentCol: "repository", KeyCol: "number",
		Where: "m.complete", Filters: versionFilterList(), Ordering: versionOrdering, NoIDFilter: true, Expand: s.expandVersions,
		Order:   "m.number DESC",
		Actions: actions,
	})
	return t
}

func (s *Service) genericVersions() *rest.Type {
	return rest.Define(rest.Resource[Version]{
		App: "core", Model: "RepositoryVersion", Label: versionLabel, Path: "repository_versions", Family: Versions, Table: "core_repositoryversion",
		Open: true,
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
	made []pulp.Ref // what the task has made besides, to be told once the version is there

	staged int64 // how many rows were added
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
	return d, d.stage(ctx, func(tx *db.Tx) error {
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

// stage runs f in a transaction, if the task is still this process's: the number that content is staged under may be
// another task's by now.
func (d *Draft) stage(ctx context.Context, f func(tx *db.Tx) error) error {
	return d.svc.DB.Update(ctx, func(tx *db.Tx) error {
		if err := d.job.Fence(ctx, tx); err != nil {
			return err
		}
		return f(tx)
	})
}

// batchSize is how many values one statement takes.
const batchSize = 500

// batches calls f with the ids in pieces that one statement can take.
func batches(ids []pulp.ID, f func(marks string, args []any) error) error {
	for batch := range slices.Chunk(ids, batchSize) {
		marks, args := db.In(batch)
		if err := f(marks, args); err != nil {
			return err
		}
	}
	return nil
}

// Add puts units into the draft and says how many of them were not in it. Units that are not there (any more) are left out.
func (d *Draft) Add(ctx context.Context, ids []pulp.ID) (added int64, err error) {
	err = batches(ids, func(marks string, args []any) error {
		var n, m int64
		err := d.stage(ctx, func(tx *db.Tx) (err error) {
			n, err = tx.Exec(ctx, "UPDATE core_repositorycontent SET removed = "+current+" WHERE repository = ? AND removed = ? AND content IN "+marks,
				append([]any{d.Repository, d.Number}, args...)...)
			if err != nil {
				return err
			}
			m, err = tx.Exec(ctx, "INSERT INTO core_repositorycontent (repository, content, added) SELECT r.id, c.id, r.next_version"+
				" FROM core_content c JOIN core_repository r ON r.id = ? WHERE c.id IN "+marks+
				" ON CONFLICT (repository, content) WHERE removed = "+current+" DO NOTHING", // PostgreSQL may plan a condition badly while the table is young
				append([]any{d.Repository}, args...)...)
			return err
		})
		added += n + m
		d.staged += m
		return err
	})
	if err != nil {
		return added, fmt.Errorf("add content: %w", err)
	}
	return added, nil
}

// AddMade is Add for units that the task has made: all must still be there. Once the version is, the task's created
// resources list it, then what made names.
func (d *Draft) AddMade(ctx context.Context, ids []pulp.ID, made ...pulp.Ref) error {
	d.made = append(d.made, made...)
	return d.addAll(ctx, ids)
}

// addAll is Add that fails where a unit is gone.
func (d *Draft) addAll(ctx context.Context, ids []pulp.ID) error {
	if _, err := d.Add(ctx, ids); err != nil {
		return err
	}
	return batches(ids, func(marks string, args []any) error { // what is in the draft cannot go any more
		there, err := db.Value[int](ctx, d.svc.DB, "SELECT count(*) FROM core_content WHERE id IN "+marks, args...)
		if err == nil && there < len(args) {
			err = errs.E(errs.Conflict, "Orphan cleanup removed content before it could be added.")
		}
		return err
	})
}

// Remove takes units out of the draft and says how many of them were in it.
func (d *Draft) Remove(ctx context.Context, ids []pulp.ID) (removed int64, err error) {
	err = batches(ids, func(marks string, args []any) error {
		var n int64
		err := d.stage(ctx, func(tx *db.Tx) (err error) {
			n, err = d.removeWhere(ctx, tx, "rc.content IN "+marks, args...)
			return err
		})
		removed += n
		return err
	})
	if err != nil {
		return removed, fmt.Errorf("remove content: %w", err)
	}
	return removed, nil
}

// removeWhere takes the units for which a condition on the rows rc of core_repositorycontent holds out of the draft.
func (d *Draft) removeWhere(ctx context.Context, tx *db.Tx, where string, args ...any) (int64, error) {
	n, err := tx.Exec(ctx, "DELETE FROM core_repositorycontent AS rc WHERE rc.repository = ? AND rc.added = ? AND rc.removed = "+current+" AND ("+where+")",
		append([]any{d.Repository, d.Number}, args...)...)
	if err != nil {
		return 0, err
	}
	m, err := tx.Exec(ctx, "UPDATE core_repositorycontent AS rc SET removed = ? WHERE rc.repository = ? AND rc.removed = "+current+" AND ("+where+")",
		append([]any{d.Number, d.Repository}, args...)...)
	return n + m, err
}

// RemoveAll empties the draft.
func (d *Draft) RemoveAll(ctx context.Context) error {
	return d.stage(ctx, func(tx *db.Tx) error {
		_, err := d.removeWhere(ctx, tx, "1 = 1")
		return err
	})
}

// removePrevious takes out what the version holds that the draft started from.
func (d *Draft) removePrevious(ctx context.Context) error {
	return d.stage(ctx, func(tx *db.Tx) error {
		_, err := d.removeWhere(ctx, tx, "EXISTS "+sameContentIn, d.Repository, d.prev.Number, d.prev.Number)
		return err
	})
}

// sameContentIn finds the row of a version, given by its repository and twice its number, that holds the unit of rc.
const sameContentIn = "(SELECT 1 FROM core_repositorycontent b WHERE b.repository = ? AND b.content = rc.content AND b.added <= ? AND b.removed > ?)"

// Rebase makes the draft's content that of any version. For one of the same repository it costs what changed since.
func (d *Draft) Rebase(ctx context.Context, base pulp.ID) error {
	b, err := d.svc.Version(ctx, d.svc.DB, base)
	if err != nil {
		return err
	}
	d.BaseVersion = base
	other, missing := "", "" // what of the draft may not be in the base, and what of the base may not be in the draft
	if b.Repository == d.Repository {
		other, missing = fmt.Sprintf("rc.added > %d AND ", b.Number), " AND b.removed < "+current
	}
	return d.stage(ctx, func(tx *db.Tx) error {
		args := []any{b.Repository, b.Number, b.Number}
		if _, err := d.removeWhere(ctx, tx, other+"NOT EXISTS "+sameContentIn, args...); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE core_repositorycontent AS rc SET removed = "+current+" WHERE rc.repository = ? AND rc.removed = ? AND "+past+" AND EXISTS "+sameContentIn,
			append([]any{d.Repository, d.Number}, args...)...); err != nil {
			return err
		}
		d.staged, err = tx.Exec(ctx, "INSERT INTO core_repositorycontent (repository, content, added) SELECT r.id, b.content, r.next_version"+
			" FROM core_repositorycontent b JOIN core_repository r ON r.id = ? WHERE b.repository = ? AND b.added <= ? AND b.removed > ?"+missing+
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
	if err := d.analyze(ctx); err != nil {
		return nil, err
	}
	if err := d.settle(ctx); err != nil {
		return nil, err
	}
	changed, err := db.Exists(ctx, s.DB, "SELECT 1 FROM core_repositorycontent rc WHERE rc.repository = ? AND rc.added = ?"+
		" UNION ALL SELECT 1 FROM core_repositorycontent rc WHERE rc.repository = ? AND rc.removed = ? AND "+past, d.Repository, d.Number, d.Repository, d.Number)
	if err != nil {
		return nil, err
	}
	if !changed {
		if err := s.discardVersion(ctx, d.ID); err != nil {
			return nil, err
		}
		return nil, s.DB.Update(ctx, func(tx *db.Tx) error { return d.tell(ctx, tx) })
	}
	if err := d.checkPaths(ctx); err != nil {
		return nil, err
	}
	now := s.Now.Now()
	err = d.stage(ctx, func(tx *db.Tx) error {
		if err := d.count(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE core_repositoryversion SET complete = ?, updated = ?, base_version = ? WHERE id = ?", true, now, d.BaseVersion, d.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE core_repository SET next_version = ?, updated = ? WHERE id = ?", d.Number+1, now, d.Repository); err != nil {
			return err
		}
		if err := d.tell(ctx, tx); err != nil {
			return err
		}
		return notice.Changed(ctx, tx, notice.Repository, d.Repository)
	})
	if err != nil {
		return nil, fmt.Errorf("complete version %d: %w", d.Number, err)
	}
	d.Version.Complete, d.Version.Updated = true, now
	if err := s.DB.Update(ctx, func(tx *db.Tx) error { return s.retain(ctx, tx, d.Repository) }); err != nil {
		return nil, fmt.Errorf("remove old versions: %w", err)
	}
	if d.Type.Completed != nil {
		if err := d.Type.Completed(ctx, d.job, d); err != nil {
			return nil, errors.Join(err, d.withdraw(ctx))
		}
	}
	v := d.Version
	return &v, nil
}

// manyUnits is from how many units on PostgreSQL is told at once what its tables are like now. It finds out by itself, but some
// time later, and until then takes them for as small as they were.
const manyUnits = 5000

func (d *Draft) analyze(ctx context.Context) error {
	if d.staged < manyUnits || d.svc.DB.Engine() != db.PostgreSQL {
		return nil
	}
	tables := []string{"core_content", "core_contentartifact", "core_remoteartifact", "core_repositorycontent"}
	for _, t := range d.Type.Contents {
		if ct := d.svc.contents[t]; ct != nil {
			tables = append(tables, ct.Table)
		}
	}
	err := d.svc.DB.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "ANALYZE "+strings.Join(tables, ", "))
		return err
	})
	if err != nil {
		return fmt.Errorf("analyze tables: %w", err)
	}
	return nil
}

// tell notes what the task has made, behind the version.
func (d *Draft) tell(ctx context.Context, tx *db.Tx) error {
	for _, r := range d.made {
		if err := d.job.Created(ctx, tx, r); err != nil {
			return err
		}
	}
	return nil
}

// withdraw takes back a version whose follow-up failed. Its number stays used.
func (d *Draft) withdraw(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	return d.stage(ctx, func(tx *db.Tx) error { return d.svc.deleteVersions(ctx, tx, d.Repository, []pulp.ID{d.ID}) })
}

// settle applies the rules on what may be together in a version.
func (d *Draft) settle(ctx context.Context) error {
	return d.stage(ctx, func(tx *db.Tx) error {
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
	// All are counted: asked for the first one only, PostgreSQL may look for it among all units that there are.
	twice, err := db.Value[int64](ctx, tx, "SELECT count(*) FROM (SELECT 1"+fresh+" GROUP BY "+columns("n")+" HAVING count(*) > 1) x", d.Repository, d.Number)
	if err != nil {
		return err
	}
	if twice > 0 {
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
	removed, err := diff("rc.removed = ? AND " + past)
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
		if _, err := tx.Exec(ctx, "UPDATE core_repositorycontent AS rc SET removed = "+current+" WHERE rc.repository = ? AND rc.removed = ? AND "+past, v.Repository, v.Number); err != nil {
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
	followers, err := db.Exists(ctx, q, "SELECT 1 FROM core_distribution WHERE repository = ? AND NOT checkpoint", repo)
	if err != nil || !followers {
		return safe, err
	}
	r, err := s.Repository(ctx, q, repo)
	if err != nil {
		return nil, err
	}
	if rt := s.repos[r.PulpType]; rt == nil || !rt.Published {
		latest, err := s.Latest(ctx, q, repo)
		if err != nil {
			return nil, err
		}
		safe[latest.ID] = true
		return safe, nil
	}
	published, err := db.Column[pulp.ID](ctx, q, "SELECT v.id FROM core_repositoryversion v WHERE v.repository = ? AND v.complete"+
		" AND EXISTS (SELECT 1 FROM core_publication p WHERE p.repository_version = v.id AND p.complete) ORDER BY v.number DESC LIMIT 1", repo)
	for _, id := range published {
		safe[id] = true
	}
	return safe, err
}

// holdVersions keeps distributions from beginning to serve a version, or a publication of one, until the transaction ends:
// for who is about to delete versions that nobody is served from. [Service.useVersions] is the other side.
func (s *Service) holdVersions(ctx context.Context, tx *db.Tx) error {
	return tx.Lock(ctx, "served versions")
}

// useVersions makes sure that what the transaction makes a distribution serve stays.
func (s *Service) useVersions(ctx context.Context, tx *db.Tx) error {
	return tx.LockShared(ctx, "served versions")
}

// retain deletes the oldest of a repository's versions, as far as it is set to keep only some.
func (s *Service) retain(ctx context.Context, tx *db.Tx, repo pulp.ID) error {
	keep, err := db.Value[*int64](ctx, tx, "SELECT retain_repo_versions FROM core_repository WHERE id = ?", repo)
	if err != nil || keep == nil {
		return err
	}
	ids, err := db.Column[pulp.ID](ctx, tx, "SELECT id FROM core_repositoryversion WHERE repository = ? AND complete ORDER BY number DESC", repo)
	if err != nil || int64(len(ids)) <= *keep {
		return err
	}
	if err := s.holdVersions(ctx, tx); err != nil {
		return err
	}
	safe, err := s.protected(ctx, tx, repo)
	if err != nil {
		return err
	}
	ids = slices.DeleteFunc(ids, func(id pulp.ID) bool { return safe[id] })
	if int64(len(ids)) <= *keep {
		return nil
	}
	return s.deleteVersions(ctx, tx, repo, ids[*keep:])
}

// deleteVersions removes complete versions of a repository, which are not all that it has. What they changed counts as changed
// by the next one.
func (s *Service) deleteVersions(ctx context.Context, tx *db.Tx, repo pulp.ID, gone []pulp.ID) error {
	numbers, err := db.All(ctx, tx, func(rows *sql.Rows) (v versionRef, err error) {
		v.repo = repo
		err = rows.Scan(&v.id, &v.number)
		return v, err
	}, "SELECT id, number FROM core_repositoryversion WHERE repository = ? AND complete ORDER BY number", repo)
	if err != nil {
		return err
	}
	stays := func(v versionRef) bool { return !slices.Contains(gone, v.id) }
	if !slices.ContainsFunc(numbers, stays) {
		return errs.List("Cannot delete repository version. Repositories must have at least one repository version.")
	}
	before := versionRef{number: none}
	for len(numbers) > 0 {
		next := slices.IndexFunc(numbers, stays) // all up to there go
		after := versionRef{number: math.MaxInt64}
		switch {
		case next >= 0:
			after = numbers[next]
		case next < 0:
			next = len(numbers)
		}
		if next > 0 {
			if err := s.squash(ctx, tx, before, numbers[:next], after); err != nil {
				return err
			}
		}
		before = after
		numbers = numbers[min(next+1, len(numbers)):]
	}
	return notice.Changed(ctx, tx, notice.Repository, repo)
}

// none stands for the number of the version before the first.
const none = -1

// squash removes versions that follow each other, between the one before and the one after them. The number of the first is none, that
// of the second the largest, where there is no such version.
func (s *Service) squash(ctx context.Context, tx *db.Tx, before versionRef, gone []versionRef, after versionRef) error {
	repo := gone[0].repo
	if after.id.IsZero() { // the one before is the latest again
		if _, err := tx.Exec(ctx, "DELETE FROM core_repositorycontent WHERE repository = ? AND added > ?", repo, before.number); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE core_repositorycontent AS rc SET removed = "+current+" WHERE rc.repository = ? AND rc.removed > ? AND "+past, repo, before.number); err != nil {
			return err
		}
	} else if _, err := tx.Exec(ctx, "DELETE FROM core_repositorycontent AS rc WHERE rc.repository = ? AND rc.removed > ? AND rc.removed <= ? AND "+past+" AND rc.added > ?",
		repo, before.number, after.number, before.number); err != nil { // what was in these versions alone is in none
		return err
	}
	ids := make([]pulp.ID, len(gone))
	for i, v := range gone {
		ids[i] = v.id
	}
	err := batches(ids, func(marks string, args []any) error {
		_, err := tx.Exec(ctx, "DELETE FROM core_repositoryversion WHERE id IN "+marks, args...)
		return err
	})
	if err != nil {
		return err
	}
	if err := notice.Changed(ctx, tx, notice.Version, ids...); err != nil || after.id.IsZero() {
		return err
	}
	return recount(ctx, tx, before, after)
}

// recount counts anew what a version adds and removes after the one before it, or after none.
func recount(ctx context.Context, tx *db.Tx, before, v versionRef) error {
	if _, err := tx.Exec(ctx, "DELETE FROM core_versioncount WHERE version = ? AND kind <> 'present'", v.id); err != nil {
		return err
	}
	if before.number == none {
		_, err := tx.Exec(ctx, "INSERT INTO core_versioncount (version, kind, pulp_type, count) SELECT version, 'added', pulp_type, count FROM core_versioncount WHERE version = ? AND kind = 'present'", v.id)
		return err
	}
	count := func(kind, where string, args ...any) error {
		rows, err := db.All(ctx, tx, func(r *sql.Rows) ([]any, error) {
			var t string
			var n int64
			err := r.Scan(&t, &n)
			return []any{v.id, kind, t, n}, err
		}, "SELECT c.pulp_type, count(*) FROM core_repositorycontent rc JOIN core_content c ON c.id = rc.content WHERE rc.repository = ? AND "+where+" GROUP BY c.pulp_type",
			append([]any{v.repo}, args...)...)
		if err != nil {
			return err
		}
		_, err = tx.Insert(ctx, "core_versioncount", []string{"version", "kind", "pulp_type", "count"}, rows, "")
		return err
	}
	from, to := before.number, v.number
	if err := count("added", addedSince, from, to, to, from, from); err != nil {
		return err
	}
	return count("removed", removedSince, from, to, from, to, to)
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
		if err := s.holdVersions(ctx, tx); err != nil {
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
		return s.deleteVersions(ctx, tx, v.Repository, []pulp.ID{v.ID})
	})
}
