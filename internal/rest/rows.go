package rest

import (
	"context"
	"database/sql"
	"reflect"
	"slices"

	"granary/internal/db"
)

const (
	pageBatch = 500    // rows that are in memory at once
	keyBatch  = 10_000 // keys that are
	nearby    = 1000   // rows that cost little to skip
)

// listing reads the rows of a list, some at a time.
type listing struct {
	t     *Type
	from  string // FROM and JOIN
	where string // WHERE, or empty
	args  []any  // of where
	order string

	offset int64 // of the next row that is looked for
	left   int64 // how many rows may still be looked for
	seen   int64 // how many were found
	ended  bool  // there are no others
	keys   []any // of rows that were found and are still to be read
}

// rows returns the rows of the type, of a set where it is not nil, for which a condition holds, in an order.
func (t *Type) rows(set *Set, where Cond, order string, limit, offset int64) *listing {
	l := &listing{t: t, from: t.queryFrom(), order: order, offset: offset, left: limit}
	if set != nil {
		l.from, where = t.joined(set), And(set.Cond, where)
		if order == t.order { // keys made later sort later
			l.order = set.Key + " DESC"
		}
	}
	if where.SQL != "" {
		l.where, l.args = " WHERE "+where.SQL, where.Args
	}
	return l
}

// count counts all rows.
func (l *listing) count(ctx context.Context) (int64, error) {
	return db.Value[int64](ctx, l.t.engine.db, "SELECT count(*)"+l.t.undetailed(l.from, l.where)+l.where, l.args...)
}

// done says whether no row is left to be read.
func (l *listing) done() bool { return len(l.keys) == 0 && (l.ended || l.left == 0) }

// next returns the next rows.
func (l *listing) next(ctx context.Context) ([]reflect.Value, error) {
	t := l.t
	tail := l.where + " ORDER BY " + l.order + " LIMIT ? OFFSET ?"
	if len(l.keys) == 0 && l.left <= pageBatch && l.offset <= nearby {
		list, err := t.loadFrom(ctx, t.engine.db, l.from, tail, append(slices.Clone(l.args), l.left, l.offset)...)
		l.found(l.left, len(list))
		return list, err
	}
	// Among many rows the keys are found first, of which an index tells.
	if len(l.keys) == 0 && !l.done() {
		n := min(l.left, keyBatch)
		keys, err := db.All(ctx, t.engine.db, func(rows *sql.Rows) (any, error) {
			p := reflect.New(t.keyField.Type)
			err := rows.Scan(p.Interface())
			return p.Elem().Interface(), err
		}, "SELECT m."+t.keyField.Column+t.undetailed(l.from, tail)+tail, append(slices.Clone(l.args), n, l.offset)...)
		if err != nil {
			return nil, err
		}
		l.keys = keys
		l.found(n, len(keys))
	}
	batch := l.keys[:min(len(l.keys), pageBatch)]
	l.keys = l.keys[len(batch):]
	place := make(map[any]int, len(batch))
	for i, k := range batch {
		place[k] = i
	}
	marks, args := db.In(batch)
	list, err := t.load(ctx, t.engine.db, "WHERE m."+t.keyField.Column+" IN "+marks, args...)
	slices.SortFunc(list, func(a, b reflect.Value) int { return place[t.keyOf(a.Elem())] - place[t.keyOf(b.Elem())] })
	return list, err
}

// found notes that of so many rows that were looked for so many were found.
func (l *listing) found(asked int64, found int) {
	n := int64(found)
	l.offset, l.seen, l.left = l.offset+n, l.seen+n, l.left-asked
	l.ended = n < asked
}
