package repository

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// A NewContent is a unit to save.
type NewContent struct {
	Value any // a pointer to the content type's struct; its id is for SaveContent to use, and may not be the unit's in the end
	Files []ContentFile
}

// A ContentFile is a file of a unit. Without an artifact it is yet to be downloaded.
type ContentFile struct {
	Path     string
	Artifact pulp.ID
}

// A SavedContent says what became of a unit.
type SavedContent struct {
	ID    pulp.ID
	Fresh bool // it was not there before
	// Files are the ids of the unit's content artifacts, in the order of its files; the zero one where the unit was
	// there before and has no file at the path.
	Files []pulp.ID
}

// SaveContent saves units of one type in the call's domain. A unit with the natural key of one that is there is that one:
// it becomes young again for orphan cleanup, and its files get the given artifacts where they have none, or others. All
// that is to be written is written in one transaction, and none is needed where all is there. Units may come twice.
func (s *Service) SaveContent(ctx context.Context, ct *ContentType, units []NewContent) (_ []SavedContent, err error) {
	defer errs.Wrap(&err, "save %s content", ct.Type.PulpType)
	b, err := s.newSaving(ctx, ct, units)
	if err != nil {
		return nil, err
	}
	// Most units of most syncs are there: that is found out without the writer.
	if err := b.find(ctx, s.DB, b.groups); err != nil {
		return nil, err
	}
	found := make([]storedUnit, len(b.groups))
	for i, g := range b.groups {
		found[i] = g.stored
	}
	if b.incomplete() {
		err := s.DB.Update(ctx, func(tx *db.Tx) error {
			for i, g := range b.groups { // a transaction may be run again
				g.stored = found[i]
			}
			return b.write(ctx, tx)
		})
		if err != nil {
			return nil, err
		}
	}
	list := make([]SavedContent, len(units))
	for i, u := range units {
		g := b.of[i]
		list[i] = SavedContent{ID: g.stored.id, Fresh: g.stored.fresh, Files: make([]pulp.ID, len(u.Files))}
		g.stored.fresh = false // it is so once
		for n, f := range u.Files {
			list[i].Files[n] = g.stored.files[f.Path].id
		}
	}
	return list, nil
}

// A saving is a SaveContent under way.
type saving struct {
	ct     *ContentType
	key    *rest.NaturalKey
	engine db.Engine
	domain pulp.ID
	now    pulp.Time
	groups []*unitGroup // in the order of their keys, which is the same everywhere: transactions cannot wait for each other
	of     []*unitGroup // of each unit
}

// A unitGroup is all that was given of one unit.
type unitGroup struct {
	key    rest.KeyValue
	value  any
	files  []ContentFile // one for each path
	stored storedUnit
}

// A storedUnit is what the database has of a unit; its id is zero where that is nothing.
type storedUnit struct {
	id    pulp.ID
	fresh bool // this saving made it
	old   bool // it is to be made young
	files map[string]storedFile
}

type storedFile struct{ id, artifact pulp.ID }

func (s *Service) newSaving(ctx context.Context, ct *ContentType, units []NewContent) (*saving, error) {
	b := &saving{
		ct: ct, key: ct.Type.NaturalKey(ct.Key...), engine: s.DB.Engine(), domain: pulp.CallOf(ctx).Domain.ID, now: s.Now.Now(),
		of: make([]*unitGroup, len(units)),
	}
	byKey := make(map[string]*unitGroup, len(units))
	for i, u := range units {
		key, err := b.key.Of(u.Value)
		if err != nil {
			return nil, err
		}
		g := byKey[key.Text]
		if g == nil {
			g = &unitGroup{key: key, value: u.Value}
			byKey[key.Text] = g
			b.groups = append(b.groups, g)
		}
		g.add(u.Files)
		b.of[i] = g
	}
	slices.SortFunc(b.groups, func(x, y *unitGroup) int { return strings.Compare(x.key.Text, y.key.Text) })
	return b, nil
}

// add takes the files of one declaration of the unit.
func (g *unitGroup) add(files []ContentFile) {
	for _, f := range files {
		i := slices.IndexFunc(g.files, func(o ContentFile) bool { return o.Path == f.Path })
		switch {
		case i < 0:
			g.files = append(g.files, f)
		case !f.Artifact.IsZero():
			g.files[i].Artifact = f.Artifact
		}
	}
}

// outdated says whether the unit has a file at the path that gets another artifact.
func (g *unitGroup) outdated(f ContentFile) bool {
	has, ok := g.stored.files[f.Path]
	return ok && !f.Artifact.IsZero() && has.artifact != f.Artifact
}

// incomplete says whether anything is to be written.
func (b *saving) incomplete() bool {
	return slices.ContainsFunc(b.groups, func(g *unitGroup) bool {
		return g.stored.id.IsZero() || g.stored.old || slices.ContainsFunc(g.files, g.outdated)
	})
}

// find looks up what is stored of the units.
func (b *saving) find(ctx context.Context, q db.Querier, groups []*unitGroup) error {
	byKey := make(map[string]*unitGroup, len(groups))
	byID := make(map[pulp.ID]*unitGroup, len(groups))
	var columns strings.Builder
	names := make([]string, len(b.ct.Key))
	for i, c := range b.ct.Key {
		names[i] = "d." + c
		columns.WriteString(", d." + c)
	}
	for batch := range slices.Chunk(groups, batchSize) {
		keys := make([][]any, len(batch))
		for i, g := range batch {
			keys[i], byKey[g.key.Text] = g.key.Args, g
		}
		cond, args := b.engine.TupleIn(names, keys)
		err := db.Each(ctx, q, func(rows *sql.Rows) error {
			var u storedUnit
			var touched pulp.Time
			key, err := b.key.Scan(rows, &u.id, &touched)
			if err != nil {
				return err
			}
			u.old, u.files = touched < b.now-young, map[string]storedFile{}
			if g := byKey[key.Text]; g != nil {
				g.stored, byID[u.id] = u, g
			}
			return nil
		}, "SELECT d.id, m.timestamp_of_interest"+columns.String()+" FROM "+b.ct.Table+" d JOIN core_content m ON m.id = d.id WHERE d.domain = ? AND "+cond,
			append([]any{b.domain}, args...)...)
		if err != nil {
			return err
		}
	}
	ids := make([]pulp.ID, 0, len(byID))
	for id := range byID {
		ids = append(ids, id)
	}
	return batches(ids, func(marks string, args []any) error {
		return db.Each(ctx, q, func(rows *sql.Rows) error {
			var f storedFile
			var unit pulp.ID
			var path string
			err := rows.Scan(&f.id, &unit, &path, &f.artifact)
			if g := byID[unit]; g != nil {
				g.stored.files[path] = f
			}
			return err
		}, "SELECT id, content, relative_path, artifact FROM core_contentartifact WHERE content IN "+marks, args...)
	})
}

// write stores what is new of the units.
func (b *saving) write(ctx context.Context, tx *db.Tx) error {
	if err := b.insert(ctx, tx); err != nil {
		return err
	}
	var old []pulp.ID
	var rows [][]any
	for _, g := range b.groups {
		if g.stored.old {
			old = append(old, g.stored.id)
		}
		for _, f := range g.files {
			if !g.stored.fresh && !g.outdated(f) {
				continue
			}
			id := pulp.NewID()
			if g.stored.fresh {
				g.stored.files[f.Path] = storedFile{id, f.Artifact}
			}
			rows = append(rows, []any{id, g.stored.id, f.Path, f.Artifact})
		}
	}
	err := batches(old, func(marks string, args []any) error {
		_, err := tx.Exec(ctx, "UPDATE core_content SET timestamp_of_interest = ? WHERE id IN "+marks, append([]any{b.now}, args...)...)
		return err
	})
	if err != nil {
		return err
	}
	_, err = tx.Insert(ctx, "core_contentartifact", []string{"id", "content", "relative_path", "artifact"}, rows,
		"ON CONFLICT (content, relative_path) DO UPDATE SET artifact = excluded.artifact")
	return err
}

// insert adds the units that are not there. Those that somebody else added meanwhile are found instead.
func (b *saving) insert(ctx context.Context, tx *db.Tx) error {
	var missing []*unitGroup
	var values []any
	for _, g := range b.groups {
		if g.stored.id.IsZero() {
			missing, values = append(missing, g), append(values, g.value)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := b.ct.Type.InsertAll(ctx, tx, values, "ON CONFLICT DO NOTHING"); err != nil {
		return err
	}
	if err := b.find(ctx, tx, missing); err != nil {
		return err
	}
	var lost []pulp.ID // rows of the common table that have no row of the type's own
	for _, g := range missing {
		own := b.ct.Type.ID(g.value)
		switch {
		case g.stored.id.IsZero():
			return fmt.Errorf("unit %s is neither new nor there", g.key.Text)
		case g.stored.id == own:
			g.stored.fresh = true
		default:
			lost = append(lost, own)
		}
	}
	return batches(lost, func(marks string, args []any) error {
		if _, err := tx.Exec(ctx, "DELETE FROM core_label WHERE object IN "+marks, args...); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM core_content WHERE id IN "+marks, args...)
		return err
	})
}
