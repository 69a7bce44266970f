package permissions

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const small = `# About.

== things

model: app.thing
columns: group:app.a@x + =app.do_b/one, app.c/two
differs: second | * | 404 (because)
differs: * | none, admin | 200:1 (so)

POST $API/things/
{}

# first
GET $API/things/

# second
GET $API/things/?x=1

-- a.txt --
A.
`

func TestParse(t *testing.T) {
	p, err := Parse("small", small)
	if err != nil {
		t.Fatal(err)
	}
	s := p.Sections[0]
	if diff := cmp.Diff([]string{"first", "second"}, s.Rows()); diff != "" {
		t.Error(diff)
	}
	last := s.Columns[len(s.Columns)-2]
	want := Column{Name: "group:app.a@x + =app.do_b/one", Grants: []Grant{{Role: "app.a", Group: true, Object: "x"}, {Permission: "app.do_b", Domain: "one"}}}
	if diff := cmp.Diff(want, last); diff != "" {
		t.Error(diff)
	}
	if got := s.Columns[3]; got.Name != "app.thing_viewer" || len(s.Columns) != 12 {
		t.Errorf("columns %v", s.Columns)
	}
	if step := s.Scenario.Steps[0]; step.Line != 10 || len(s.Scenario.Files) != 1 {
		t.Errorf("the first step is at line %d, files %v", step.Line, s.Scenario.Files)
	}
	for _, tc := range []struct{ row, column, want string }{
		{"first", "none", "200:1"}, {"second", "none", "404"}, {"second", "x", "404"}, {"first", "x", "200"},
	} {
		if got := s.wanted(tc.row, tc.column, "200"); got != tc.want {
			t.Errorf("wanted(%s, %s) = %s, want %s", tc.row, tc.column, got, tc.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for name, tc := range map[string]struct{ old, new, want string }{
		"no such user":   {"app.c/two", "Nobody", "small:6: no user"},
		"column twice":   {"app.c/two", "none", "occurs twice"},
		"row twice":      {"# second", "# first", "occurs twice"},
		"no such row":    {"differs: second", "differs: third", "no row"},
		"no such column": {"| none, admin", "| nobody", "no column"},
		"no reason":      {" (because)", "", "small:7: want ROWS"},
		"no section":     {"== things", "things", "small:3: want a section"},
		"not a step":     {"POST $API/things/", "POTS", "small:10"},
	} {
		_, err := Parse("small", strings.Replace(small, tc.old, tc.new, 1))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %s", name, err, tc.want)
		}
	}
}

func TestTables(t *testing.T) {
	tables := []*Table{{
		Name: "a/b", Columns: []string{"none", "x.y + x.z@self"},
		Rows: []Row{{"list, of two", []string{"200:2", "404"}}, {"destroy", []string{"401", NoRoute}}},
	}}
	got, err := ParseTables(Format("Made by a test.", tables))
	if diff := cmp.Diff(tables, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if _, err := ParseTables("== a\n\n1 x\n2 y\n\n  1  2\nrow  200\n"); err == nil {
		t.Error("a row with too few answers is read")
	}
}

func TestCompare(t *testing.T) {
	p, err := Parse("small", small)
	if err != nil {
		t.Fatal(err)
	}
	s := p.Sections[0]
	recorded := &Table{Columns: []string{"none", "app.c/two"}, Rows: []Row{{"first", []string{"403", "200:1"}}, {"second", []string{"401", "200:0"}}}}
	got := &Table{Columns: []string{"none", "app.c/two"}, Rows: []Row{{"first", []string{"200:1", "200:2"}}, {"second", []string{"404", "404"}}}}
	if diff := cmp.Diff([]string{"things: first: app.c/two: want 200:1, got 200:2"}, Compare(s, recorded, got, true)); diff != "" {
		t.Error(diff)
	}
	if n := len(Compare(s, recorded, got, false)); n != 4 {
		t.Errorf("%d differences without the deliberate ones, want 4", n)
	}
	recorded.Rows = recorded.Rows[:1]
	if lines := Compare(s, recorded, got, true); len(lines) != 1 || !strings.Contains(lines[0], "record the plan again") {
		t.Errorf("an old recording: %v", lines)
	}
}
