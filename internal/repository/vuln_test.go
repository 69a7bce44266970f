package repository_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/plugin"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/repository/repositorytest"
	"granary/internal/rest"
)

// A pkg is a unit that databases of vulnerabilities know.
type pkg struct {
	repository.Content
	Name    string  `api:"name,req"`
	Version string  `api:"version,req"`
	Of      pulp.ID `api:"-" db:"domain"`
}

type pkgRepository struct{ repository.Repository }

// pkgPlugin has such units and repositories of them.
func pkgPlugin(ct **repository.ContentType) plugin.Plugin {
	const table = "-- +goose Up\nCREATE TABLE pkg_pkg (id %s PRIMARY KEY REFERENCES core_content ON DELETE CASCADE, domain %[1]s NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, UNIQUE (domain, name, version));\n"
	files := fstest.MapFS{
		"sqlite/0001_pkg.sql":   {Data: fmt.Appendf(nil, table, "BLOB")},
		"postgres/0001_pkg.sql": {Data: fmt.Appendf(nil, table, "uuid")},
	}
	return plugin.Plugin{Name: "pkg", Version: "1.0.0", Schema: db.Schema{Component: "pkg", Files: files}, New: func(h plugin.Host) plugin.Parts {
		units, kind := repository.DefineContent(h.Repos, rest.Resource[pkg]{
			App: "pkg", Model: "Package", Path: "content/pkg/packages", PulpType: "pkg.pkg",
		}, repository.ContentType{
			Table: "pkg_pkg", Key: []string{"name", "version"},
			Packages: func(ctx context.Context, q db.Querier, ids []pulp.ID) ([]repository.Package, error) {
				marks, args := db.In(ids)
				return db.All(ctx, q, func(rows *sql.Rows) (p repository.Package, err error) {
					p.Ecosystem = "Test"
					err = rows.Scan(&p.Content, &p.Name, &p.Version)
					return p, err
				}, "SELECT id, name, version FROM pkg_pkg WHERE id IN "+marks, args...)
			},
		})
		*ct = kind
		t, rt := repository.DefineRepository(h.Repos, rest.Resource[pkgRepository]{
			App: "pkg", Model: "PkgRepository", Path: "repositories/pkg/pkg", PulpType: "pkg.pkg",
		}, func(r *pkgRepository) *repository.Repository { return &r.Repository }, repository.RepositoryType{Contents: []string{"pkg.pkg"}, Scan: true})
		return plugin.Parts{Types: []*rest.Type{units.Type, t.Type, rt.Versions()}}
	}}
}

// A vulnServer answers as https://osv.dev does.
type vulnServer struct {
	*httptest.Server
	mu    sync.Mutex
	known map[string][]string // what is known of "name version"
	asked map[string]int
	busy  int // how many requests are sent away first

	at, most atomic.Int32 // how many ask at once
}

func newVulnServer(t testing.TB) *vulnServer {
	s := &vulnServer{known: map[string][]string{}, asked: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := s.at.Add(1)
		defer s.at.Add(-1)
		for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
		}
		var q struct {
			Package struct{ Name, Ecosystem string }
			Version string
			Page    string `json:"page_token"`
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.busy > 0 {
			s.busy--
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.URL.Path != "/v1/query" || r.Method != http.MethodPost || q.Package.Ecosystem != "Test" {
			http.Error(w, "what?", http.StatusBadRequest)
			return
		}
		key := q.Package.Name + " " + q.Version
		s.asked[key]++
		list := s.known[key]
		answer := map[string]any{}
		if q.Page != "" {
			list = list[1:]
		} else if len(list) > 1 { // one on a page
			answer["next_page_token"] = "more"
			list = list[:1]
		}
		var vulns []any
		for _, id := range list {
			vulns = append(vulns, map[string]any{"id": id})
		}
		if vulns != nil {
			answer["vulns"] = vulns
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestVulnerabilityReports(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		var ct *repository.ContentType
		w := &world{World: repositorytest.New(t, d, pkgPlugin(&ct))}
		osv := newVulnServer(t)
		w.Repos.OSV = osv.URL
		var units []repository.NewContent
		for i := range 30 {
			units = append(units, repository.NewContent{Value: &pkg{Name: fmt.Sprint("p", i), Version: "1.0"}})
		}
		saved, err := w.Repos.SaveContent(w.Context(), ct, units)
		if err != nil {
			t.Fatal(err)
		}
		hrefs := make([]string, len(saved))
		for i, s := range saved {
			hrefs[i] = root + "content/pkg/packages/" + s.ID.String() + "/"
		}
		repo := repositorytest.Href(w.Create("repositories/pkg/pkg/", body("name", "r")))
		w.modify(repo, hrefs[:29], nil)
		osv.known["p3 1.0"], osv.known["p4 1.0"], osv.known["p29 1.0"] = []string{"A", "B"}, []string{"C"}, []string{"D"}
		osv.busy = 2
		scan := func(version string, created, updated, scanned int) {
			t.Helper()
			tk := w.Run("POST", version+"scan/", nil)
			want := []string{fmt.Sprintf("created %d/-", created), fmt.Sprintf("updated %d/-", updated), fmt.Sprintf("total_scanned %d/-", scanned)}
			if diff := cmp.Diff(want, progress(tk)); diff != "" {
				t.Errorf("scan of %s: %s", version, diff)
			}
			if !slices.Contains(tk.Reserved, "shared:prn:pkg.pkgrepository:"+repositorytest.ID(repo)) {
				t.Errorf("locks %v", tk.Reserved)
			}
		}
		scan(version(repo, 1), 2, 0, 29)
		if most := osv.most.Load(); most > 3 {
			t.Errorf("%d questions at once", most)
		}
		ids := func(r object) string {
			var list []string
			for _, v := range r["vulns"].([]any) {
				list = append(list, v.(map[string]any)["id"].(string))
			}
			return strings.Join(list, " ")
		}
		report := func(i int) object {
			t.Helper()
			href, _ := w.Get(hrefs[i])["vuln_report"].(string)
			if href == "" {
				t.Fatalf("p%d has no report", i)
			}
			return w.Get(href)
		}
		if r := report(3); ids(r) != "A B" || r["content"] != hrefs[3] || !cmp.Equal(r["repo_versions"], []any{version(repo, 1)}) {
			t.Errorf("report: %v", r)
		}
		if got := w.Get(hrefs[5])["vuln_report"]; got != nil {
			t.Errorf("what is safe has the report %v", got)
		}
		if got := w.List("content/", "pulp_href__in", hrefs[4]); len(got) != 1 || got[0]["vuln_report"] == nil {
			t.Errorf("the list over all types: %v", got)
		}
		// the report is one, and knows its versions
		w.modify(repo, hrefs[29:], hrefs[3:4])
		osv.known["p4 1.0"] = []string{"C", "E"}
		scan(version(repo, 2), 1, 1, 29)
		if r := report(4); ids(r) != "C E" || !cmp.Equal(r["repo_versions"], []any{version(repo, 1), version(repo, 2)}) {
			t.Errorf("report: %v", r)
		}
		link := w.Get(version(repo, 2))["vuln_report"].(string)
		status, text := w.Do("GET", link, nil)
		if status != 200 || strings.Count(text, `"vulns"`) != 2 {
			t.Errorf("GET %s = %d %s", link, status, text)
		}
		for v, want := range map[string]int{version(repo, 1): 2, version(repo, 2): 2, version(repo, 0): 0} {
			if got := w.List("vuln_report/", "repo_versions", v); len(got) != want {
				t.Errorf("%s has %d reports, want %d", v, len(got), want)
			}
		}
		w.Refused("GET", root+"vuln_report/?repo_versions=zz", nil, `["URI couldn't be resolved: zz"]`)
		href := report(3)["pulp_href"].(string)
		if status, text := w.Do("DELETE", href, nil); status != 204 {
			t.Errorf("DELETE = %d %s", status, text)
		}
		w.Gone(href)
		if got := w.Get(hrefs[3])["vuln_report"]; got != nil {
			t.Errorf("the unit still has the report %v", got)
		}
		osv.Close()
		if tk := w.Try("POST", version(repo, 2)+"scan/", nil); tk.Done() || !strings.Contains(tk.Failure, "connection refused") {
			t.Errorf("without the database: %v %s", tk.Done(), tk.Failure)
		}
	})
}
