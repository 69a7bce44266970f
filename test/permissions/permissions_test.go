package permissions

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"granary/internal/db/dbtest"
	"granary/test/binary"
)

var (
	only       = flag.String("section", "", "ask the sections whose names begin so")
	onPostgres = flag.Bool("postgres", false, "ask a server on PostgreSQL too")
)

const (
	administrator = "admin " + binary.Password
	recorded      = "../../testdata/pulp/permissions"
)

// environ are the settings that the reference had when it was recorded.
var environ = []string{
	`PULP_ALLOWED_CONTENT_CHECKSUMS=["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]`,
	`PULP_ALLOWED_IMPORT_PATHS=["/tmp"]`,
	`PULP_ALLOWED_EXPORT_PATHS=["/tmp"]`,
}

// TestGranary puts every plan to a server and compares its answers with the recorded ones of the reference.
func TestGranary(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { granary(t, func(*testing.T, string) []string { return nil }) })
	t.Run("postgres", func(t *testing.T) {
		if !*onPostgres {
			t.Skip("asked for by -postgres")
		}
		granary(t, postgres)
	})
}

// postgres makes a database for the server with that data folder, and returns the settings that name it.
func postgres(t *testing.T, data string) []string {
	u, err := url.Parse(dbtest.Postgres(t).DSN)
	if err != nil {
		t.Fatal(err)
	}
	const prefix = "PULP_DATABASES__default__"
	password, _ := u.User.Password()
	env := []string{prefix + "ENGINE=django.db.backends.postgresql", prefix + "HOST=" + u.Hostname(), prefix + "NAME=" + strings.TrimPrefix(u.Path, "/"), prefix + "USER=" + u.User.Username()}
	if u.Port() != "" {
		env = append(env, prefix+"PORT="+u.Port())
	}
	if password != "" {
		env = append(env, prefix+"PASSWORD='"+password+"'")
	}
	migrate := exec.Command(binary.Path(t), "migrate") //nolint:gosec // our own
	migrate.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GRANARY_DATA=" + data, "PULP_DEFAULT_ADMIN_PASSWORD=" + binary.Password}, env...)
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v\n%s", err, out)
	}
	return env
}

// granary asks a server without domains and one with them. database gives the settings of each one's database.
func granary(t *testing.T, database func(t *testing.T, data string) []string) {
	plans := load(t)
	t.Run("one domain", func(t *testing.T) {
		t.Parallel()
		data := t.TempDir()
		server := binary.Start(t, data, slices.Concat(environ, database(t, data))...)
		var asked operations
		a := &Asker{URL: server.URL, User: administrator, Apps: Apps(plans), Asked: asked.add}
		compareAll(t, a, plans, true)
		if *only == "" {
			complete(t, server, a, plans, &asked)
		}
	})
	t.Run("domains", func(t *testing.T) {
		t.Parallel()
		data := t.TempDir()
		server := binary.Start(t, data, slices.Concat(environ, database(t, data), []string{"PULP_DOMAIN_ENABLED=true"})...)
		compareAll(t, &Asker{URL: server.URL, User: administrator, Domains: true, Apps: Apps(plans)}, plans, true)
	})
}

// TestReference tells where the recorded answers are no longer those of the reference, where REFERENCE_URL names one, and
// REFERENCE_DOMAINS_URL one with domains.
func TestReference(t *testing.T) {
	plans := load(t)
	for name, domains := range map[string]bool{"REFERENCE_URL": false, "REFERENCE_DOMAINS_URL": true} {
		t.Run(name, func(t *testing.T) {
			address := os.Getenv(name)
			if address == "" {
				t.Skip(name + " is not set: the reference is not up")
			}
			compareAll(t, &Asker{URL: strings.TrimSuffix(address, "/"), User: administrator, Domains: domains, Apps: Apps(plans)}, plans, false)
		})
	}
}

func load(t *testing.T) []*Plan {
	t.Helper()
	plans, err := Load("plans")
	if err != nil {
		t.Fatal(err)
	}
	return plans
}

func tables(t *testing.T, plan string) map[string]*Table {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(recorded, plan+".golden"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := ParseTables(string(text))
	if err != nil {
		t.Fatalf("%s: %v", plan, err)
	}
	byName := map[string]*Table{}
	for _, table := range list {
		byName[table.Name] = table
	}
	return byName
}

func compareAll(t *testing.T, a *Asker, plans []*Plan, deliberate bool) {
	if err := a.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.End(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	for _, p := range plans {
		if p.Domains != a.Domains {
			continue
		}
		want := tables(t, p.Name)
		for _, s := range p.Sections {
			if !strings.HasPrefix(s.Name, *only) {
				continue
			}
			if deliberate && s.Later != "" {
				if known, err := a.Knows(t.Context(), s); err != nil || !known {
					t.Logf("%s: not there: %s (%v)", s.Name, s.Later, err)
					continue
				}
			}
			got, err := a.Ask(t.Context(), s)
			if err != nil {
				t.Error(err)
			}
			for _, line := range Compare(s, want[s.Name], got, deliberate) {
				t.Error(line)
			}
		}
	}
}

// operations are those that were asked.
type operations struct {
	mu   sync.Mutex
	list map[string]bool // "GET /pulp/api/v3/status/"
}

func (o *operations) add(method, path string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.list == nil {
		o.list = map[string]bool{}
	}
	o.list[method+" "+path] = true
}

// unassigned are roles that the server alone gives.
var unassigned = []string{"core.task_user_dispatcher"}

// complete says which built-in role has no column, and which operation of the server's document no row.
func complete(t *testing.T, server *binary.Server, a *Asker, plans []*Plan, asked *operations) {
	named := map[string]bool{}
	for _, p := range plans {
		for _, s := range p.Sections {
			for _, c := range s.Columns {
				for _, g := range c.Grants {
					named[g.Role] = true
				}
			}
		}
	}
	for _, role := range a.Roles() {
		if !named[role] && !slices.Contains(unassigned, role) {
			t.Errorf("no plan has a column for the role %s", role)
		}
	}
	if len(a.Roles()) == 0 {
		t.Error("there are no built-in roles")
	}

	status, body, err := server.Do(t.Context(), http.MethodGet, apiRoot+"/docs/api.json?pk_path=1", nil)
	if err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	var document struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(body, &document); err != nil {
		t.Fatal(err)
	}
	requests := slices.Sorted(maps.Keys(asked.list))
	for _, path := range slices.Sorted(maps.Keys(document.Paths)) {
		for method := range document.Paths[path] {
			pattern := regexp.MustCompile("^" + strings.ToUpper(method) + " " + variable.ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + "$")
			if !slices.ContainsFunc(requests, pattern.MatchString) {
				t.Errorf("no row of a plan asks %s %s", strings.ToUpper(method), path)
			}
		}
	}
	if len(document.Paths) == 0 {
		t.Error("the document has no paths")
	}
}

var variable = regexp.MustCompile(`\\\{[^/]*\\\}`)

// TestRecordings holds the plans and the recorded answers together without any server.
func TestRecordings(t *testing.T) {
	plans := load(t)
	goldens, err := filepath.Glob(recorded + "/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	if len(goldens) != len(plans) {
		t.Errorf("%d plans, %d recordings", len(plans), len(goldens))
	}
	for _, p := range plans {
		want := tables(t, p.Name)
		if len(want) != len(p.Sections) {
			t.Errorf("%s: %d sections, %d recorded", p.Name, len(p.Sections), len(want))
		}
		for _, s := range p.Sections {
			got := &Table{Name: s.Name}
			for _, c := range s.Columns {
				got.Columns = append(got.Columns, c.Name)
			}
			for _, r := range s.Rows() {
				got.Rows = append(got.Rows, Row{Name: r})
			}
			for _, line := range Compare(s, want[s.Name], got, false) {
				t.Error(line)
			}
		}
		text := Format("x", slices.Collect(func(yield func(*Table) bool) {
			for _, s := range p.Sections {
				if !yield(want[s.Name]) {
					return
				}
			}
		}))
		if again, err := ParseTables(text); err != nil || fmt.Sprint(len(again)) != fmt.Sprint(len(p.Sections)) {
			t.Errorf("%s: what was printed is not read back: %v", p.Name, err)
		}
	}
}
