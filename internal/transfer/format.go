package transfer

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
)

// A Format is how versions of one type of repository are written to exports and read from them.
type Format struct {
	Repository *rest.Type
	// Component is the plugin's name, as "file"; its resource classes are in the module pulp_<component>.app.modelresource.
	Component string
	// Classes are what a version consists of, in the order in which exports have them: one is of the repository, the others of content.
	Classes []Class
}

// A Class is one kind of row of an export.
type Class struct {
	Name string // of Pulp's class, as "FileContentResource"

	// Columns are those that the class has besides the common ones, in their order. A column of the type's own table is written as its
	// field's Go type wants it: texts as they are, bools as "0" and "1", structures as JSON in a text, null as an empty text.
	Columns []Column

	// Content is the type of the units that the rows are; nil for the class of the repository.
	Content *repository.ContentType
	// Unit makes a unit of a row and its files: a pointer to the content type's struct. What the row holds comes from outside, so it is
	// checked here, also that the files are those of the unit.
	Unit func(r *Row, files []File) (any, error)
}

// A File is a file of a unit: its path, and the artifact that it is, which is there.
type File struct{ Path, SHA256 string }

// A Column is a column of a class.
type Column struct {
	Name string
	From string // the column of the type's own table; the name where empty
}

// Columns lists columns that are called as in the type's table.
func Columns(names ...string) []Column {
	list := make([]Column, len(names))
	for i, n := range names {
		list[i].Name = n
	}
	return list
}

func (c *Column) from() string {
	if c.From != "" {
		return c.From
	}
	return c.Name
}

// domainColumn is a column that many classes have once more: the id of the domain.
const domainColumn = "_pulp_domain"

// module is where Pulp's core keeps its classes.
const module = "pulpcore.app.modelresource."

// file is the name of a class's file in the directory of a version.
func (f *Format) file(c *Class) string {
	return "pulp_" + f.Component + ".app.modelresource." + c.Name + ".json"
}

// files are the names of all files in the directory of a version.
func (f *Format) files() []string {
	list := []string{contentArtifacts}
	for i := range f.Classes {
		list = append(list, f.file(&f.Classes[i]))
	}
	return list
}

// repository returns the class of the repository itself.
func (f *Format) repository() *Class {
	for i := range f.Classes {
		if f.Classes[i].Content == nil {
			return &f.Classes[i]
		}
	}
	return nil
}

// check panics where the format contradicts itself.
func (f *Format) check() {
	if f.repository() == nil {
		panic("the format of " + f.Repository.PulpType + " has no class of the repository")
	}
	for i := range f.Classes {
		c := &f.Classes[i]
		if c.Content != nil && c.Unit == nil {
			panic(c.Name + " makes no units")
		}
		for j := range c.Columns {
			if c.Columns[j].Name != domainColumn {
				f.field(c, &c.Columns[j])
			}
		}
	}
}

// field returns the field that a column is written from.
func (f *Format) field(c *Class, col *Column) *rest.Field {
	t := f.Repository
	if c.Content != nil {
		t = c.Content.Type
	}
	for _, field := range t.Fields {
		if field.Column == col.from() && !field.Master {
			return field
		}
	}
	panic(fmt.Sprintf("%s has no column %s", t.Label, col.from()))
}

// A Row is a row of an export that is read. Its methods remember the first thing that is wrong with it.
type Row struct {
	fields map[string]any
	err    error
}

func readRow(fields map[string]any) *Row { return &Row{fields: fields} }

// Err returns what is wrong with the row.
func (r *Row) Err() error { return r.err }

func (r *Row) fail(name, want string) {
	if r.err == nil {
		r.err = fmt.Errorf("the value of %q is not %s", name, want)
	}
}

// maxText is the longest text that a row may have, in bytes.
const maxText = 16 << 20

// Text returns a text; an empty one stands for null.
func (r *Row) Text(name string) string {
	switch v := r.fields[name].(type) {
	case nil:
	case string:
		if strings.ContainsRune(v, 0) || len(v) > maxText {
			r.fail(name, "a text that can be stored")
			return ""
		}
		return v
	default:
		r.fail(name, "a text")
	}
	return ""
}

// Null is Text that gives nil for an empty one.
func (r *Row) Null(name string) *string {
	if s := r.Text(name); s != "" {
		return &s
	}
	return nil
}

// Bool returns a bool, which is "1" or "0".
func (r *Row) Bool(name string) bool {
	switch v := r.fields[name]; v {
	case "1", true:
		return true
	case "0", "", false, nil:
	default:
		r.fail(name, "a boolean")
	}
	return false
}

// Int returns a number; nil where there is none.
func (r *Row) Int(name string) *int64 {
	s := ""
	switch v := r.fields[name].(type) {
	case nil:
		return nil
	case string:
		if s = v; s == "" {
			return nil
		}
	case json.Number:
		s = v.String()
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		r.fail(name, "a whole number")
		return nil
	}
	return &n
}

// ID returns an id.
func (r *Row) ID(name string) pulp.ID {
	id, err := pulp.ParseID(r.Text(name))
	if err != nil {
		r.fail(name, "an id")
	}
	return id
}

// Digest returns a sha256.
func (r *Row) Digest(name string) string {
	s := r.Text(name)
	if !isSHA256(s) {
		r.fail(name, "a sha256")
	}
	return s
}

func isSHA256(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }
