package notice_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/pulp"
)

func TestChanged(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLite(t))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	ids := make([]pulp.ID, 250)
	for i := range ids {
		ids[i] = pulp.NewID()
	}
	send := func(kind notice.Kind, ids ...pulp.ID) {
		t.Helper()
		err := d.Update(ctx, func(tx *db.Tx) error { return notice.Changed(ctx, tx, kind, ids...) })
		if err != nil {
			t.Fatal(err)
		}
	}
	var got []pulp.ID
	var kinds []notice.Kind
	listening := make(chan struct{}, 1000)
	wg.Go(func() {
		d.Listen(ctx, []string{notice.Channel}, func(_, payload string) {
			if len(payload) > 7000 {
				t.Errorf("a payload of %d bytes", len(payload))
			}
			kind, some := notice.Parse(payload)
			if kind == notice.Guard { // until the listener is there
				listening <- struct{}{}
				return
			}
			kinds = append(kinds, kind)
			got = append(got, some...)
		})
	})
	for len(listening) == 0 {
		send(notice.Guard)
	}
	send(notice.Files)
	if want := []notice.Kind{notice.Files}; !slices.Equal(kinds, want) || len(got) > 0 {
		t.Errorf("without ids: %q %v, want %q", kinds, got, want)
	}
	kinds = nil
	send(notice.Repository, ids...)
	if !slices.Equal(got, ids) || len(kinds) == 0 || slices.ContainsFunc(kinds, func(k notice.Kind) bool { return k != notice.Repository }) {
		t.Errorf("got %d ids in %q, want %d of repositories", len(got), kinds, len(ids))
	}
}

func TestParseOfWhatIsNotKnown(t *testing.T) {
	for _, payload := range []string{"", " ", "planet", "planet 0192", "repository 12", "repository " + pulp.NewID().String() + "x"} {
		if kind, ids := notice.Parse(payload); kind != "" || ids != nil {
			t.Errorf("Parse(%q) = %q, %v, want nothing", payload, kind, ids)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("repository 0192aaaa-0000-7000-8000-000000000000")
	f.Add("files")
	f.Add("x y")
	f.Fuzz(func(t *testing.T, payload string) {
		if kind, ids := notice.Parse(payload); kind == "" && ids != nil {
			t.Errorf("ids %v of no kind", ids)
		}
	})
}
