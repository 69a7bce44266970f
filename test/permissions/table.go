package permissions

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Table holds the answers of a section.
type Table struct {
	Name    string
	Columns []string
	Rows    []Row
}

// A Row holds the answers to a request, one for each column: a status, with the number of results of lists ("200:2"); [NoRoute]; [Unsent].
type Row struct {
	Name  string
	Cells []string
}

const (
	// NoRoute is the answer of a server that does not know a URL at all.
	NoRoute = "none"
	// Unsent is in place of an answer where what goes before did not succeed.
	Unsent = "-"
)

// Format prints tables; [ParseTables] reads them.
func Format(note string, tables []*Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", note)
	for _, t := range tables {
		fmt.Fprintf(&b, "\n== %s\n\n", t.Name)
		for i, c := range t.Columns {
			fmt.Fprintf(&b, "%3d %s\n", i+1, c)
		}
		wide := 0
		widths := make([]int, len(t.Columns))
		for i := range widths {
			widths[i] = len(fmt.Sprint(i + 1))
		}
		for _, r := range t.Rows {
			wide = max(wide, utf8.RuneCountInString(r.Name))
			for i, c := range r.Cells {
				widths[i] = max(widths[i], len(c))
			}
		}
		line := func(name string, cell func(i int) string) {
			s := fmt.Sprintf("%-*s", wide, name)
			for i, w := range widths {
				s += fmt.Sprintf("  %-*s", w, cell(i))
			}
			fmt.Fprintln(&b, strings.TrimRight(s, " "))
		}
		fmt.Fprintln(&b)
		line("", func(i int) string { return fmt.Sprint(i + 1) })
		for _, r := range t.Rows {
			line(r.Name, func(i int) string { return r.Cells[i] })
		}
	}
	return b.String()
}

// ParseTables reads what [Format] printed.
func ParseTables(text string) ([]*Table, error) {
	var tables []*Table
	var t *Table
	for i, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || strings.HasPrefix(line, "#"):
		case fields[0] == "==" && len(fields) == 2:
			t = &Table{Name: fields[1]}
			tables = append(tables, t)
		case t == nil:
			return nil, fmt.Errorf("line %d: want a section, got %q", i+1, line)
		case len(t.Rows) == 0 && fields[0] == fmt.Sprint(len(t.Columns)+1) && len(fields) > 1:
			t.Columns = append(t.Columns, strings.Join(fields[1:], " "))
		case len(t.Rows) == 0 && fields[0] == "1": // the line of the columns' numbers
		case len(fields) <= len(t.Columns):
			return nil, fmt.Errorf("line %d: want an answer for each of %d columns, got %q", i+1, len(t.Columns), line)
		default:
			n := len(fields) - len(t.Columns)
			t.Rows = append(t.Rows, Row{strings.Join(fields[:n], " "), fields[n:]})
		}
	}
	return tables, nil
}

// Compare says in which cells a section's answers differ from the recorded ones, a line each. With deliberate set, what the section says of
// Granary is wanted in place of what was recorded.
func Compare(s *Section, recorded, got *Table, deliberate bool) []string {
	var out []string
	if recorded == nil || !slices.Equal(recorded.Columns, got.Columns) {
		return []string{s.Name + ": the columns are not those that were recorded; record the plan again"}
	}
	if len(recorded.Rows) != len(got.Rows) {
		return []string{s.Name + ": the rows are not those that were recorded; record the plan again"}
	}
	for i, r := range got.Rows {
		if recorded.Rows[i].Name != r.Name {
			return []string{fmt.Sprintf("%s: %s: recorded is %s; record the plan again", s.Name, r.Name, recorded.Rows[i].Name)}
		}
		for j, cell := range r.Cells {
			want := recorded.Rows[i].Cells[j]
			if deliberate {
				want = s.wanted(r.Name, got.Columns[j], want)
			}
			if cell != want {
				out = append(out, fmt.Sprintf("%s: %s: %s: want %s, got %s", s.Name, r.Name, got.Columns[j], want, cell))
			}
		}
	}
	return out
}

func (s *Section) wanted(row, column, recorded string) string {
	for _, d := range s.Differs {
		if (d.Rows == nil || slices.Contains(d.Rows, row)) && (d.Columns == nil || slices.Contains(d.Columns, column)) {
			return d.Want
		}
	}
	return recorded
}
