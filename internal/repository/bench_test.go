package repository_test

import (
	"fmt"
	"testing"
	"time"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/pulp"
	"granary/internal/repository/repositorytest"
)

// fill makes n units, and a repository whose version 1 holds them. It writes the rows where they are, since no client could wait.
func (w *world) fill(name string, n int) (repo string, units func(i int) string) {
	w.Helper()
	repo = w.repository(name)
	id, domain := idOf(w, repo), w.Call.Domain.ID
	first := pulp.NewID()
	serial, blob := "SELECT x FROM (WITH RECURSIVE n(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM n WHERE x < ?) SELECT x FROM n)", "unhex('%s' || printf('%%08x', x))"
	if w.DB.Engine() == db.PostgreSQL {
		serial, blob = "SELECT x FROM generate_series(0, CAST(? AS bigint)) x", "('%s' || lpad(to_hex(x), 8, '0'))::uuid"
	}
	key := func(kind byte) string { // ids that differ in their last four bytes
		prefix := first
		prefix[11] = kind
		return fmt.Sprintf(blob, fmt.Sprintf("%x", prefix[:12]))
	}
	path := "'" + name + "/' || (x % 100) || '/' || x"
	from := " FROM (" + serial + ") s"
	w.exec("INSERT INTO core_content (id, domain, created, updated, pulp_type, timestamp_of_interest) SELECT "+key(1)+", d.id, 1, 1, 'file.file', 1"+
		" FROM core_domain d, ("+serial+") s WHERE d.id = ?", n-1, domain)
	w.exec("INSERT INTO file_content (id, domain, relative_path, digest) SELECT "+key(1)+", d.id, "+path+", '' || x FROM core_domain d, ("+serial+") s WHERE d.id = ?", n-1, domain)
	w.exec("INSERT INTO core_contentartifact (id, content, relative_path) SELECT "+key(2)+", "+key(1)+", "+path+from, n-1)
	w.exec("INSERT INTO core_repositorycontent (repository, content, added) SELECT r.id, "+key(1)+", 1 FROM core_repository r, ("+serial+") s WHERE r.id = ?", n-1, id)
	version := pulp.NewID()
	w.exec("INSERT INTO core_repositoryversion (id, repository, number, complete, created, updated) VALUES (?, ?, 1, ?, 1, 1)", version, id, true)
	w.exec("INSERT INTO core_versioncount (version, kind, pulp_type, count) VALUES (?, 'present', 'file.file', ?)", version, n)
	w.exec("UPDATE core_repository SET next_version = 2 WHERE id = ?", id)
	if w.DB.Engine() == db.PostgreSQL { // as it does by itself, in time
		w.exec("ANALYZE")
	}
	return repo, func(i int) string {
		unit := first
		unit[11] = 1
		unit[12], unit[13], unit[14], unit[15] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
		return root + contents + unit.String() + "/"
	}
}

// BenchmarkVersion makes versions of ten changed units each in a repository of a thousand and of a million, and reports how many times
// as long the latter takes: about as long.
func BenchmarkVersion(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			cfg := dbtest.SQLite
			if engine == "postgres" {
				cfg = dbtest.Postgres
			}
			w := newWorld(b, dbtest.Open(b, cfg(b)))
			small, smallUnit := w.fill("small", 1_000)
			large, largeUnit := w.fill("large", 1_000_000)
			fresh := w.undownloaded(10, func(i int) string { return fmt.Sprint("fresh/", i) })
			run := func(repo string, unit func(int) string, n int) time.Duration {
				begun := time.Now()
				// five come and five go, and the other way round
				add, remove := fresh[:5], []string{}
				for i := range 5 {
					remove = append(remove, unit(i*7))
				}
				if n%2 == 1 {
					add, remove = remove, add
				}
				w.modify(repo, add, remove)
				return time.Since(begun)
			}
			run(small, smallUnit, 0) // so that all statements are prepared
			run(large, largeUnit, 0)
			var inSmall, inLarge time.Duration
			n := 1
			for b.Loop() {
				inSmall += run(small, smallUnit, n)
				inLarge += run(large, largeUnit, n)
				n++
			}
			per := float64(n-1) * float64(time.Millisecond)
			b.ReportMetric(float64(inSmall)/per, "ms/version-of-1000")
			b.ReportMetric(float64(inLarge)/per, "ms/version-of-1000000")
			b.ReportMetric(float64(inLarge)/float64(inSmall), "ratio")
			b.ReportMetric(0, "ns/op")
			if got := w.Get(large)["latest_version_href"]; repositorytest.ID(got.(string)) != fmt.Sprint(n+1) {
				b.Errorf("latest version %v, want %d", got, n+1)
			}
		})
	}
}
