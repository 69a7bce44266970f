package schema_test

import (
	"database/sql"
	"strings"
	"testing"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/db/schema"
)

func TestMigrate(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		pending, err := d.Pending(t.Context(), []db.Schema{schema.Core()})
		if err != nil || len(pending) == 0 {
			t.Fatalf("before: pending %v, %v, want some", pending, err)
		}
		if _, err := d.Migrate(t.Context(), []db.Schema{schema.Core()}); err != nil {
			t.Fatal(err)
		}
		if pending, err := d.Pending(t.Context(), []db.Schema{schema.Core()}); err != nil || len(pending) != 0 {
			t.Errorf("after: pending %v, %v, want none", pending, err)
		}
	})
}

// TestStatistics holds what SQLite is told of the tables' sizes against the tables.
func TestStatistics(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLite(t))
	if _, err := d.Migrate(t.Context(), []db.Schema{schema.Core()}); err != nil {
		t.Fatal(err)
	}
	// of a table without rowids the primary key is called like the table
	wrong, err := db.Column[string](t.Context(), d, "SELECT tbl || ' ' || idx FROM sqlite_stat1 s WHERE idx <> tbl AND NOT EXISTS"+
		" (SELECT 1 FROM sqlite_schema i WHERE i.type = 'index' AND i.name = s.idx AND i.tbl_name = s.tbl)")
	if err != nil || len(wrong) > 0 {
		t.Errorf("there are no such indexes: %q, %v", wrong, err)
	}
	untold, err := db.Column[string](t.Context(), d, "SELECT i.name FROM sqlite_schema i WHERE i.type = 'index' AND i.name NOT LIKE 'sqlite_autoindex_%_1'"+
		" AND i.tbl_name IN (SELECT tbl FROM sqlite_stat1) AND NOT EXISTS (SELECT 1 FROM sqlite_stat1 s WHERE s.idx = i.name)")
	if err != nil || len(untold) > 0 {
		t.Errorf("nothing is told of indexes %q, %v", untold, err)
	}
	type stat struct{ index, numbers string }
	stats, err := db.All(t.Context(), d, func(rows *sql.Rows) (s stat, err error) {
		err = rows.Scan(&s.index, &s.numbers)
		return s, err
	}, "SELECT idx, stat FROM sqlite_stat1 WHERE idx <> tbl")
	if err != nil || len(stats) == 0 {
		t.Fatalf("statistics: %v, %v", stats, err)
	}
	for _, s := range stats {
		columns, err := db.Value[int](t.Context(), d, "SELECT count(*) FROM pragma_index_info(?)", s.index)
		if got := len(strings.Fields(s.numbers)) - 1; err != nil || got != columns {
			t.Errorf("%s has %d columns, and numbers for %d, %v", s.index, columns, got, err)
		}
	}
}
