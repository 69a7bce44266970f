package rest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"granary/internal/blob"
	"granary/internal/pulp"
)

// A Kind is what a field holds, which decides how it is read, stored, written and described.
type Kind int

// The kinds of field, with the Go types that have them.
const (
	String   Kind = iota // string, *string
	Int                  // int64, *int64
	Float                // *float64
	Bool                 // bool
	Time                 // pulp.Time
	Link                 // pulp.ID: another object, an href on the wire
	Href                 // string: a path below the API, computed, an href on the wire
	Key                  // pulp.ID, int64: the object's own key, shown as pulp_href and prn
	PRN                  // the same, as prn
	Links                // []pulp.Ref: hrefs of objects of any kind; in requests of those that ref= names
	Strings              // []string
	LabelMap             // Labels
	Hidden               // HiddenFields: which secrets are set
	JSON                 // any other type, as the JSON that it marshals to
	Upload               // *File: an uploaded file
	Object               // a struct with api tags, or a pointer to one
	Objects              // []struct with api tags
)

// Labels are an object's labels. A null value is a label without one.
type Labels map[string]*string

// HiddenFields marks where the list of write-only fields stands in an object.
type HiddenFields struct{}

// A File is an uploaded file, staged in the store with its digests known. The handler commits it or leaves it:
// what is left is dropped when the request ends.
type File struct {
	Name  string // as the client called it
	Stage blob.Stage
}

// A Field is one field of a resource or of a request's or response's struct.
//
// Flags of the api tag, after the name:
//
//	ro           only in answers
//	out          the same, without being marked so in the document
//	wo           only in requests
//	req          must be given
//	null         may be null: *string, *int64, *float64, pulp.ID, pulp.Time
//	blank        a string may be empty
//	notrim       white space around a string is kept
//	sealed       encrypted in the database
//	secret       sealed, and never in answers; listed in hidden_fields
//	key          the object's key
//	computed     not in the database; an Expand hook fills it
//	unique       no other object of the domain may have the same
//	fixed        given at creation, never changed afterwards
//	def=X        the value where none is given
//	start=X      the value of a new object where none is given; not in the document, and kept by PUT
//	ago=D        a time so long before now where none is given
//	reset        a PUT that doesn't give it makes it null; not in the document
//	min=N max=N  bounds of a number
//	maxlen=N     the most characters of a string
//	choices=a|b  what a string may be; enum=Name names the list in the document
//	ref=FAMILY   what a Link or Links point at; ref=FAMILY:LABEL for one type of it
//	nullitems    the items of Links are nullable, in the document alone
//	slug         letters, digits, - and _
//	format=F     the document's format, where it isn't the kind's
//	schema=NAME  the document's name of an Object; inline for none
//	detail       only in the answer to GET of one object
//	docs         only in the document
//	inner        given to tasks by the code that dispatches them, never by clients
//	deprecated   marked so in the document
//
// The tag `db:"column"` names the column where it isn't the field's name; `db:"-"` means none, and `db:"m.column"`
// a column of the family's table that this type shows and others don't.
// A field with the name "-" is stored but not part of the API.
type Field struct {
	Name   string
	Column string // empty: not stored
	Master bool   // the column is in the family's table
	Kind   Kind

	ReadOnly, Unmarked, WriteOnly, Required, Null, Blank, NoTrim, Sealed, Secret, Unique, Fixed, Slug, Deprecated, Inline, Detail, Docs, Reset, NullItems, Inner bool

	HasDefault bool
	Default    any // as JSON has it
	Start      any // nil for none
	Ago        time.Duration
	Min, Max   *float64
	MaxLen     int
	Choices    []string
	Enum       string
	Family     string // of a Link
	Label      string // of a Link: the one type that it may point at
	Format     string
	Schema     string
	Fields     []*Field // of Object and Objects
	Type       reflect.Type

	index []int
	key   []byte // the name as JSON, with a colon
}

// fieldsOf lists the fields of a struct, embedded structs' first where they stand. master is the embedded
// struct whose columns are in the family's table, or nil.
func fieldsOf(t reflect.Type, master reflect.Type) []*Field {
	return appendFields(nil, t, nil, false, master)
}

func appendFields(list []*Field, t reflect.Type, index []int, inMaster bool, master reflect.Type) []*Field {
	for i := range t.NumField() {
		sf := t.Field(i)
		idx := append(slices.Clone(index), i)
		tag, ok := sf.Tag.Lookup("api")
		if sf.Anonymous && !ok {
			list = appendFields(list, sf.Type, idx, inMaster || sf.Type == master, master)
			continue
		}
		if !ok {
			continue
		}
		f := newField(sf, tag)
		f.index = idx
		f.Column, f.Master = strings.CutPrefix(f.Column, "m.")
		f.Master = f.Master || inMaster
		if f.Kind == Key && f.Name == "pulp_href" {
			prn := *f
			prn.Name, prn.Kind, prn.Column, prn.Format, prn.key = "prn", PRN, "", "", jsonKey("prn")
			list = append(list, f, &prn)
			continue
		}
		list = append(list, f)
	}
	return list
}

func jsonKey(name string) []byte {
	b, _ := json.Marshal(name)
	return append(b, ':')
}

func newField(sf reflect.StructField, tag string) *Field {
	bad := func(format string, args ...any) {
		panic(fmt.Sprintf("field %s with api tag %q: %s", sf.Name, tag, fmt.Sprintf(format, args...)))
	}
	parts := strings.Split(tag, ",")
	f := &Field{Name: parts[0], Type: sf.Type, Kind: kindOf(sf.Type), key: jsonKey(parts[0])}
	f.Column = f.Name
	if c, ok := sf.Tag.Lookup("db"); ok {
		f.Column = strings.TrimPrefix(c, "-")
	} else if f.Name == "-" {
		bad("a field without a name needs a db tag")
	}
	number := func(s string) *float64 {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			bad("%v", err)
		}
		return &n
	}
	for _, flag := range parts[1:] {
		name, value, _ := strings.Cut(flag, "=")
		switch name {
		case "ro":
			f.ReadOnly = true
		case "out":
			f.ReadOnly, f.Unmarked = true, true
		case "wo":
			f.WriteOnly = true
		case "req":
			f.Required = true
		case "null":
			f.Null = true
		case "blank":
			f.Blank = true
		case "notrim":
			f.NoTrim = true
		case "secret":
			f.Sealed, f.Secret, f.WriteOnly = true, true, true
		case "sealed":
			f.Sealed = true
		case "key":
			f.Kind, f.ReadOnly, f.Format = Key, true, "uri"
		case "computed":
			f.Column = ""
		case "unique":
			f.Unique = true
		case "fixed":
			f.Fixed = true
		case "slug":
			f.Slug = true
		case "reset":
			f.Reset = true
		case "nullitems":
			f.NullItems = true
		case "detail":
			f.Detail = true
		case "docs":
			f.Docs, f.Column = true, ""
		case "inner":
			f.Inner, f.WriteOnly, f.Column = true, true, ""
		case "deprecated":
			f.Deprecated = true
		case "href":
			f.Kind = Href
		case "def":
			f.HasDefault, f.Default = true, defaultOf(f, value)
		case "start":
			f.Start = defaultOf(f, value)
		case "ago":
			d, err := time.ParseDuration(value)
			if err != nil {
				bad("%v", err)
			}
			f.Ago = d
		case "min":
			f.Min = number(value)
		case "max":
			f.Max = number(value)
		case "maxlen":
			f.MaxLen = int(*number(value))
		case "choices":
			f.Choices = strings.Split(value, "|")
		case "enum":
			f.Enum = value
		case "ref":
			f.Family, f.Label, _ = strings.Cut(value, ":")
		case "format":
			f.Format = value
		case "schema":
			f.Schema = value
		case "inline":
			f.Inline = true
		default:
			bad("unknown flag %q", flag)
		}
	}
	if f.Kind == Object || f.Kind == Objects {
		t := sf.Type
		for t.Kind() != reflect.Struct {
			t = t.Elem()
		}
		f.Fields = fieldsOf(t, nil)
		if f.Schema == "" && !f.Inline {
			f.Schema = t.Name()
		}
	}
	if f.Kind == Link && f.Family == "" && f.Name != "-" {
		bad("a link needs ref=")
	}
	return f
}

func defaultOf(f *Field, s string) any {
	switch f.Kind {
	case Bool:
		return s == "true"
	case Int:
		n, _ := strconv.ParseInt(s, 10, 64)
		return n
	case Strings:
		if s == "" {
			return []string{}
		}
		return strings.Split(s, "|")
	default:
		return s
	}
}

func kindOf(t reflect.Type) Kind {
	switch t {
	case reflect.TypeFor[pulp.ID]():
		return Link
	case reflect.TypeFor[pulp.Time]():
		return Time
	case reflect.TypeFor[Labels]():
		return LabelMap
	case reflect.TypeFor[[]string]():
		return Strings
	case reflect.TypeFor[[]pulp.Ref](), reflect.TypeFor[pulp.Ref]():
		return Links
	case reflect.TypeFor[HiddenFields]():
		return Hidden
	case reflect.TypeFor[*File]():
		return Upload
	}
	e := t
	if e.Kind() == reflect.Pointer {
		e = e.Elem()
	}
	switch e.Kind() {
	case reflect.String:
		return String
	case reflect.Int64:
		return Int
	case reflect.Float64:
		return Float
	case reflect.Bool:
		return Bool
	case reflect.Struct:
		if tagged(e) {
			return Object
		}
	case reflect.Slice:
		if e.Elem().Kind() == reflect.Struct && tagged(e.Elem()) {
			return Objects
		}
	}
	return JSON
}

func tagged(t reflect.Type) bool {
	for i := range t.NumField() {
		if _, ok := t.Field(i).Tag.Lookup("api"); ok {
			return true
		}
	}
	return false
}

// value returns the field of v, which is a struct of the type that the field was read from.
func (f *Field) value(v reflect.Value) reflect.Value { return v.FieldByIndex(f.index) }

// input says whether clients may give the field.
func (f *Field) input() bool { return !f.ReadOnly && f.Name != "-" }

// output says whether answers have the field.
func (f *Field) output() bool { return f.InResponse() && !f.Docs }

// InRequest says whether the field is part of a request's schema.
func (f *Field) InRequest() bool { return f.input() && !f.Inner }

// InResponse says whether the field is part of an answer's schema.
func (f *Field) InResponse() bool { return !f.WriteOnly && f.Name != "-" && f.Kind != Upload }
