package rest

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"granary/internal/db"
	"granary/internal/pulp"
)

// Resolve reads what a client calls an object of any type: an href, a PRN or a URL. problem says what is wrong with its form, in the
// words that clients know. exists says whether there is such an object; without one, only Found.Type is set, and Found.Ref
// for what is not nested.
func (e *Engine) Resolve(ctx context.Context, q db.Querier, s string) (f Found, exists bool, problem string, err error) {
	r, problem := e.parseRef(pulp.CallOf(ctx), s)
	switch {
	case problem == noMatch:
		return f, false, "URI not valid: " + s, nil
	case problem != "":
		return f, false, problem, nil
	}
	found, missing, err := e.lookup(ctx, q, r)
	if err != nil || missing == "" {
		return found, err == nil, "", err
	}
	f.Type = r.typ
	if r.typ != nil && r.typ.Parent == nil {
		f.Ref = pulp.Ref{Type: r.typ.Label, Key: r.key}
	}
	return f, false, "", nil
}

// LinkWhere returns the filter of a condition about an object of a family, for whose key the ? in it stands.
func LinkWhere(name, family, sql string) Filter {
	return Filter{Name: name, Param: Param{Type: "string", Format: "uuid"}, Where: func(ctx context.Context, f *Filtering, v string) (Cond, error) {
		c, err := linkCond(ctx, f, "", family, v, false)
		return Cond{sql, c.Args}, err
	}}
}

// Existing says which of some objects there are, with one query for each table.
func (e *Engine) Existing(ctx context.Context, q db.Querier, refs []pulp.Ref) (map[pulp.Ref]bool, error) {
	type table struct{ name, key string }
	byTable := map[table]map[string][]pulp.Ref{}
	for _, r := range refs {
		var t table
		if typ := e.byLabel[r.Type]; typ != nil && typ.Parent == nil {
			t = table{typ.mainTable(), typ.keyField.Column}
		} else if f := e.nestedLabels[r.Type]; f != nil {
			t = table{f.Table, "id"}
		} else {
			continue
		}
		if byTable[t] == nil {
			byTable[t] = map[string][]pulp.Ref{}
		}
		byTable[t][r.Key] = append(byTable[t][r.Key], r)
	}
	found := map[pulp.Ref]bool{}
	for t, keys := range byTable {
		for part := range slices.Chunk(slices.Sorted(maps.Keys(keys)), 500) {
			list := make([]any, len(part))
			for i, key := range part {
				if n, err := strconv.ParseInt(key, 10, 64); err == nil {
					list[i] = n
				} else {
					id, _ := pulp.ParseID(key)
					list[i] = id
				}
			}
			marks, args := db.In(list)
			err := db.Each(ctx, q, func(rows *sql.Rows) error {
				var key any
				if err := rows.Scan(&key); err != nil {
					return err
				}
				text := fmt.Sprint(key)
				if _, number := key.(int64); !number {
					var id pulp.ID
					if err := id.Scan(key); err != nil {
						return err
					}
					text = id.String()
				}
				for _, r := range keys[text] {
					found[r] = true
				}
				return nil
			}, "SELECT "+t.key+" FROM "+t.name+" WHERE "+t.key+" IN "+marks, args...)
			if err != nil {
				return nil, fmt.Errorf("look for objects in %s: %w", t.name, err)
			}
		}
	}
	return found, nil
}
