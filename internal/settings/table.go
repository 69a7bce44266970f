package settings

import (
	_ "embed"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"reflect"
	"strings"
	"time"
)

// A Def is one line of the table of settings.
type Def struct {
	Name    string
	Type    string // boolean, whole number, number of seconds, text, list, table, ...
	Default string // as the text of a variable
	Doc     string
	Secret  bool
	Env     bool // not a setting but a variable of this name: files cannot give it
}

//go:embed settings.go
var source string

// Table returns all settings in the order of [Settings].
func Table() []Def {
	docs := docs()
	var out []Def
	for _, f := range fields() {
		d := f.Def
		d.Doc = docs[f.field]
		out = append(out, d)
	}
	return out
}

// docs returns the doc comments of the fields of Settings.
func docs() map[string]string {
	out := map[string]string{}
	file, err := parser.ParseFile(gotoken.NewFileSet(), "settings.go", source, parser.ParseComments)
	if err != nil {
		return out // impossible: it was compiled
	}
	ast.Inspect(file, func(n ast.Node) bool {
		f, ok := n.(*ast.Field)
		if ok && len(f.Names) == 1 {
			out[f.Names[0].Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
		}
		return true
	})
	return out
}

// A field is a field of Settings with what its tags say.
type field struct {
	Def
	field string // the Go name
	index int
	rules
}

// rules are the tags that bear on the value.
type rules struct {
	unit time.Duration // of a time.Duration
	min  string        // the smallest number; empty: any
}

func rulesOf(tag reflect.StructTag) rules {
	r := rules{min: tag.Get("min"), unit: time.Second}
	if tag.Get("unit") == "m" {
		r.unit = time.Minute
	}
	return r
}

// fields returns the fields that are settings or variables.
func fields() []field {
	var out []field
	for i, t := 0, reflect.TypeFor[Settings](); i < t.NumField(); i++ {
		sf := t.Field(i)
		f := field{field: sf.Name, index: i, rules: rulesOf(sf.Tag)}
		f.Name, f.Env = sf.Tag.Lookup("env")
		if !f.Env {
			f.Name = sf.Tag.Get("setting")
		}
		if f.Name == "" {
			continue
		}
		f.Default = sf.Tag.Get("default")
		f.Secret = sf.Tag.Get("secret") == "true"
		f.Type = typeName(sf.Type, f.rules)
		out = append(out, f)
	}
	return out
}

func typeName(t reflect.Type, r rules) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		if r.unit == time.Minute {
			return "number of minutes"
		}
		return "number of seconds"
	case reflect.TypeFor[SameSite]():
		return "text, or false"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "whole number"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "list"
	case reflect.Map, reflect.Struct:
		return "table"
	}
	return "text"
}
