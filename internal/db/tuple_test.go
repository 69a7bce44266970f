package db_test

import (
	"context"
	"testing"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/pulp"
)

func TestTupleIn(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		ctx := context.Background()
		id, other := pulp.NewID(), pulp.NewID()
		types := map[db.Engine]string{db.SQLite: "(id BLOB, n INTEGER, s TEXT, f REAL, b INTEGER)", db.PostgreSQL: "(id uuid, n bigint, s text, f double precision, b boolean)"}
		err := d.Update(ctx, func(tx *db.Tx) error {
			if _, err := tx.Exec(ctx, "CREATE TABLE tuple "+types[d.Engine()]); err != nil {
				return err
			}
			_, err := tx.Insert(ctx, "tuple", []string{"id", "n", "s", "f", "b"}, [][]any{{id, 1, "1", 1.5, true}, {other, 2, "2", 2.5, false}, {id, 2, "2", 2.5, false}}, "")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			columns []string
			rows    [][]any
			want    int
		}{
			{[]string{"n"}, nil, 0},
			{[]string{"n"}, [][]any{{int64(2)}, {int64(2)}, {int64(3)}}, 2},
			{[]string{"id", "n", "s", "f", "b"}, [][]any{{id[:], int64(1), "1", 1.5, true}, {other[:], int64(2), "2", 2.5, false}, {other[:], int64(1), "2", 2.5, false}}, 2},
			{[]string{"s", "n"}, [][]any{{"1", int64(2)}, {"2", int64(1)}}, 0},
		} {
			cond, args := d.Engine().TupleIn(tc.columns, tc.rows)
			got, err := db.Value[int](ctx, d, "SELECT count(*) FROM tuple WHERE "+cond, args...)
			if err != nil || got != tc.want {
				t.Errorf("%v in %v: %d rows, %v; want %d", tc.columns, tc.rows, got, err, tc.want)
			}
		}
	})
}
