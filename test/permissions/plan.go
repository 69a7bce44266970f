// Package permissions asks a server, for each of its routes and as users with each of the built-in roles, who may do what, and compares its
// answers with those of the reference. Plans lie in plans/*.txt, what the reference said in testdata/pulp/permissions; README.md describes both.
package permissions

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"granary/test/sidebyside"
)

// A Plan is what is asked about a plugin.
type Plan struct {
	Name     string // the file's name without .txt
	Domains  bool   // it is for servers with domains
	Sections []*Section
}

// A Section is a table: its rows are the steps with titles, its columns are users. The other steps prepare, as administrator.
type Section struct {
	Name     string
	Line     int
	Later    string // what Granary must learn first; the section is left out as long as it does not know its first row's URL
	Columns  []Column
	Differs  []Difference
	Scenario *sidebyside.Scenario
}

// A Column is a user.
type Column struct {
	Name   string
	User   string // "anonymous", "admin", or "" for one with the grants
	Grants []Grant
}

// A Grant is a role that a user has.
type Grant struct {
	Role       string // or Permission or Others
	Permission string // in a role of its own
	Others     bool   // all permissions of built-in roles that the section's columns do not have
	Group      bool   // through a group
	Object     string // the variable with the object's href; "" for none
	Domain     string // the variable with the domain's href
}

// A Difference says what Granary answers on purpose in place of what was recorded.
type Difference struct {
	Rows, Columns []string // nil for all
	Want, Reason  string
}

var (
	section  = regexp.MustCompile(`^== (\S+)$`)
	grant    = regexp.MustCompile(`^(group:)?(=?)([a-z_]+\.[a-z0-9_]+|others)(?:@([a-z]+)|/([a-z]+))?$`)
	headLine = regexp.MustCompile(`^(columns|model|differs|later): (.+)$`)
)

// usual are the columns of a type with roles of its own.
var usual = []string{"anonymous", "none", "_creator", "_viewer", "_viewer@self", "_owner", "_owner@self", "_owner@other", "others", "admin"}

// Load reads the plans of a folder.
func Load(dir string) ([]*Plan, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var plans []*Plan
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		p, err := Parse(strings.TrimSuffix(filepath.Base(file), ".txt"), string(text))
		if err != nil {
			return nil, err
		}
		plans = append(plans, p)
	}
	return plans, nil
}

// Parse reads a plan. Errors name the line.
func Parse(name, text string) (*Plan, error) {
	p := &Plan{Name: name}
	steps, files, _ := strings.Cut(text, "\n-- ")
	if files != "" {
		files = "\n-- " + files
	}
	lines := strings.Split(steps, "\n")
	var own []string // lines of the section being read; those before it are blank, so that errors name the right one
	finish := func() error {
		if len(p.Sections) == 0 {
			return nil
		}
		s := p.Sections[len(p.Sections)-1]
		var err error
		s.Scenario, err = sidebyside.Parse(name, []byte(strings.Join(own, "\n")+files))
		if err != nil {
			return err
		}
		return s.check()
	}
	for i, line := range lines {
		if m := section.FindStringSubmatch(line); m != nil {
			if err := finish(); err != nil {
				return nil, err
			}
			p.Sections = append(p.Sections, &Section{Name: m[1], Line: i + 1})
			own = make([]string, i+1)
			continue
		}
		switch m := headLine.FindStringSubmatch(line); {
		case len(p.Sections) > 0 && m != nil:
			if err := p.Sections[len(p.Sections)-1].head(m[1], m[2]); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
			}
			line = ""
		case len(p.Sections) == 0 && line == "domains":
			p.Domains = true
		case len(p.Sections) == 0 && line != "" && !strings.HasPrefix(line, "#"):
			return nil, fmt.Errorf("%s:%d: want a section, got %q", name, i+1, line)
		}
		own = append(own, line)
	}
	return p, finish()
}

// head reads a line that is no step.
func (s *Section) head(word, text string) error {
	switch word {
	case "model":
		for _, c := range usual {
			if strings.HasPrefix(c, "_") {
				c = text + c
			}
			if err := s.column(c); err != nil {
				return err
			}
		}
	case "columns":
		for c := range strings.SplitSeq(text, ", ") {
			if err := s.column(c); err != nil {
				return err
			}
		}
	case "later":
		s.Later = text
	case "differs":
		return s.differs(text)
	}
	return nil
}

func (s *Section) column(text string) error {
	c := Column{Name: text}
	switch text {
	case "anonymous", "admin":
		c.User = text
	case "none":
	default:
		for g := range strings.SplitSeq(text, " + ") {
			m := grant.FindStringSubmatch(g)
			if m == nil || m[2] == "=" && m[3] == "others" {
				return fmt.Errorf("no user: %q", text)
			}
			one := Grant{Group: m[1] != "", Object: m[4], Domain: m[5]}
			switch {
			case m[3] == "others":
				one.Others = true
			case m[2] == "=":
				one.Permission = m[3]
			default:
				one.Role = m[3]
			}
			c.Grants = append(c.Grants, one)
		}
	}
	if slices.ContainsFunc(s.Columns, func(o Column) bool { return o.Name == c.Name }) {
		return fmt.Errorf("column %q occurs twice", c.Name)
	}
	s.Columns = append(s.Columns, c)
	return nil
}

// differs reads "ROW; ROW | COLUMN, COLUMN | ANSWER (REASON)"; * stands for all rows or columns.
func (s *Section) differs(text string) error {
	text, reason, ok := strings.Cut(strings.TrimSuffix(text, ")"), " (")
	parts := strings.Split(text, " | ")
	if !ok || len(parts) != 3 {
		return fmt.Errorf("want ROWS | COLUMNS | ANSWER (REASON), got %q", text)
	}
	d := Difference{Want: parts[2], Reason: reason}
	if parts[0] != "*" {
		d.Rows = strings.Split(parts[0], "; ")
	}
	if parts[1] != "*" {
		d.Columns = strings.Split(parts[1], ", ")
	}
	s.Differs = append(s.Differs, d)
	return nil
}

// check says what is wrong with a section as a whole.
func (s *Section) check() error {
	rows := s.Rows()
	for i, r := range rows {
		if slices.Contains(rows[:i], r) {
			return fmt.Errorf("%s: row %q occurs twice", s.Name, r)
		}
	}
	if len(s.Columns) == 0 || len(rows) == 0 {
		return fmt.Errorf("%s: no columns or no rows", s.Name)
	}
	for _, d := range s.Differs {
		for _, r := range d.Rows {
			if !slices.Contains(rows, r) {
				return fmt.Errorf("%s: no row %q to differ in", s.Name, r)
			}
		}
		for _, c := range d.Columns {
			if !slices.ContainsFunc(s.Columns, func(o Column) bool { return o.Name == c }) {
				return fmt.Errorf("%s: no column %q to differ in", s.Name, c)
			}
		}
	}
	return nil
}

// Rows are the titles of the requests that are asked.
func (s *Section) Rows() []string {
	var rows []string
	for _, step := range s.Scenario.Steps {
		if step.Title != "" {
			rows = append(rows, step.Title)
		}
	}
	return rows
}

// Apps are the plugins that plans are about: those on a server without domains have their names.
func Apps(plans []*Plan) []string {
	var apps []string
	for _, p := range plans {
		if !p.Domains {
			apps = append(apps, p.Name)
		}
	}
	return apps
}
