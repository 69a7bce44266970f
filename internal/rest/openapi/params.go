package openapi

import (
	"slices"
	"strings"

	"granary/internal/rest"
)

// A param is a parameter of an operation.
type param struct {
	name, in string
	schema   mapping
	required bool
	optional bool // says that it isn't required
	list     bool // it has several values, separated by commas
	repeat   bool // or given one by one
	domain   bool // stands for the domain
}

func pathParam(name string, p rest.Param) param {
	return param{name: name, in: "path", schema: scalar(p), required: true}
}

func scalar(p rest.Param) mapping {
	o := str()
	if p.Type != "" {
		o[0].value = p.Type
	}
	if p.Format != "" {
		o.set("format", p.Format)
	}
	return o
}

func str() mapping { return mapping{{"type", "string"}} }

func (b *builder) queryParam(name string, p rest.Param) param {
	o := scalar(p)
	choices := p.Enum
	if p.EnumOf != "" {
		choices = b.engine.PulpTypes(p.EnumOf)
	}
	if len(choices) > 0 {
		o.set("enum", list(choices...))
	}
	if p.Array {
		return param{name: name, in: "query", schema: array(o), list: true, repeat: p.Repeat}
	}
	return param{name: name, in: "query", schema: o}
}

// listParams are the parameters of a type's list.
func (b *builder) listParams(t *rest.Type) []param {
	page := mapping{{"type", "integer"}}
	params := []param{{name: "limit", in: "query", schema: page, optional: true}, {name: "offset", in: "query", schema: page, optional: true}}
	if len(t.Ordering) > 0 {
		var names []string
		for _, n := range t.Ordering {
			names = append(names, n, "-"+n)
		}
		slices.Sort(names)
		params = append(params, b.queryParam("ordering", rest.Param{Enum: names, Array: true}))
	}
	for _, f := range t.Filters {
		params = append(params, b.queryParam(f.Name, f.Param))
	}
	return params
}

// describeParams writes an operation's parameters down, by name, and after them those that select fields.
func describeParams(params []param, selects bool) []any {
	texts := array(str())
	params = append(slices.Clone(params), param{name: "X-Task-Diagnostics", in: "header", schema: texts})
	slices.SortStableFunc(params, func(x, y param) int { return strings.Compare(x.name, y.name) })
	if selects {
		params = append(params, param{name: "fields", in: "query", schema: texts}, param{name: "exclude_fields", in: "query", schema: texts})
	}
	out := make([]any, len(params))
	for i, p := range params {
		o := mapping{{"in", p.in}, {"name", p.name}, {"schema", p.schema}}
		switch {
		case p.required:
			o.set("required", true)
		case p.optional:
			o.set("required", false)
		}
		if p.list {
			o.set("explode", p.repeat)
			o.set("style", "form")
		}
		if p.domain {
			o.set("x-isDomain", true)
		}
		out[i] = o
	}
	return out
}
