package schema_test

import (
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
