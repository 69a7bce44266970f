package openapi

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"granary/internal/rest"
)

// A purpose is what a schema describes.
type purpose int

const (
	request purpose = iota
	patch           // a request in which nothing is required
	response
)

// described is a value with JSON of its own that says which struct describes it, or, with a string, that it is one to clients.
type described interface{ Schema() any }

var describedType = reflect.TypeFor[described]()

const refPrefix = "#/components/schemas/"

func ref(name string) mapping { return mapping{{"$ref", refPrefix + name}} }

// responseName makes the name of an answer's schema.
func responseName(name string) string {
	if strings.HasSuffix(name, "Response") {
		return name
	}
	return name + "Response"
}

// schemaName makes the name of a Go type's schema.
func schemaName(v any) string {
	name := reflect.TypeOf(v).Name()
	return strings.ToUpper(name[:1]) + name[1:]
}

// define makes a component of fields, once, and returns the reference to it.
func (b *builder) define(name string, why purpose, fields []*rest.Field) mapping {
	switch why {
	case patch:
		name = "Patched" + name
	case response:
		name = responseName(name)
	}
	fields = slices.DeleteFunc(slices.Clone(fields), func(f *rest.Field) bool { return f.Name == "-" })
	if _, ok := b.schemas[name]; !ok {
		b.schemas[name] = nil // now it may refer to itself
		b.fields[name] = fields
		b.schemas[name] = b.structure(name, why, fields)
	} else if !slices.EqualFunc(b.fields[name], fields, alike) {
		b.clashes = append(b.clashes, name)
	}
	return ref(name)
}

// alike says whether two fields look the same to clients.
func alike(x, y *rest.Field) bool {
	return x.Name == y.Name && look(x) == look(y) && x.ReadOnly == y.ReadOnly && x.WriteOnly == y.WriteOnly && x.Required == y.Required &&
		x.Null == y.Null && reflect.DeepEqual(x.Default, y.Default) && x.Schema == y.Schema && slices.Equal(x.Choices, y.Choices)
}

// look is the kind that a field is described as: an object's own href and PRN look as those of others.
func look(f *rest.Field) rest.Kind {
	switch {
	case f.Kind == rest.Key && f.Format == "uri":
		return rest.Links
	case f.Kind == rest.PRN:
		return rest.String
	}
	return f.Kind
}

// structure describes a struct of the component with the given name.
func (b *builder) structure(component string, why purpose, fields []*rest.Field) mapping {
	var properties mapping
	var required []string
	for _, f := range fields {
		if why == response && !f.InResponse() || why != response && !f.InRequest() {
			continue
		}
		properties.set(f.Name, b.property(component, why, f))
		if f.Required && why != patch && !(f.ReadOnly && !f.Unmarked) {
			required = append(required, f.Name)
		}
	}
	o := mapping{{"type", "object"}}
	if required != nil {
		slices.Sort(required)
		o.set("required", list(required...))
	}
	if properties != nil {
		o.set("properties", properties)
	}
	return o
}

// property describes a field.
func (b *builder) property(component string, why purpose, f *rest.Field) mapping {
	o := b.value(component, why, f)
	if f.Null {
		o.set("nullable", true)
	}
	switch {
	case f.ReadOnly && !f.Unmarked:
		o.set("readOnly", true)
	case f.WriteOnly:
		o.set("writeOnly", true)
	}
	if f.Ago != 0 {
		o.set("default", time.UnixMicro(int64(b.engine.Now())).Add(-f.Ago).UTC().Format(time.DateOnly))
	}
	if f.HasDefault {
		if values, ok := f.Default.([]string); ok {
			o.set("default", list(values...))
		} else {
			o.set("default", f.Default)
		}
	}
	if f.Deprecated {
		o.set("deprecated", true)
	}
	return o
}

// value describes what a field holds.
func (b *builder) value(component string, why purpose, f *rest.Field) mapping {
	switch f.Kind {
	case rest.String:
		if f.Choices != nil {
			return mapping{{"allOf", []any{b.enum(component, f)}}}
		}
		return stringOf(why, f)
	case rest.Int:
		return bounds(mapping{{"type", "integer"}, {"format", "int64"}}, f)
	case rest.Float:
		return bounds(mapping{{"type", "number"}, {"format", "double"}}, f)
	case rest.Bool:
		return mapping{{"type", "boolean"}}
	case rest.Time:
		return mapping{{"type", "string"}, {"format", "date-time"}}
	case rest.Link:
		return mapping{{"type", "string"}, {"format", "uri"}}
	case rest.Href, rest.Key, rest.PRN:
		o := mapping{{"type", "string"}}
		if f.Format != "" {
			o.set("format", f.Format)
		}
		return o
	case rest.Links:
		item := mapping{{"type", "string"}, {"format", "uri"}}
		if f.Type.Kind() != reflect.Slice {
			return item
		}
		if f.WriteOnly {
			item.set("writeOnly", true)
		}
		if f.NullItems {
			item.set("nullable", true)
		}
		return array(item)
	case rest.Strings:
		if f.Choices != nil {
			return array(b.enum(component, f))
		}
		return array(stringOf(why, f))
	case rest.LabelMap:
		return mapping{{"type", "object"}, {"additionalProperties", mapping{{"type", "string"}, {"nullable", true}}}}
	case rest.Hidden:
		return array(mapping{
			{"type", "object"},
			{"required", list("is_set", "name")},
			{"properties", mapping{{"name", mapping{{"type", "string"}}}, {"is_set", mapping{{"type", "boolean"}}}}},
		})
	case rest.Upload:
		return mapping{{"type", "string"}, {"format", "binary"}}
	case rest.Object:
		if f.Inline {
			return b.structure(component, why, f.Fields)
		}
		return mapping{{"allOf", []any{b.define(f.Schema, why, f.Fields)}}}
	case rest.Objects:
		if f.Inline {
			return array(b.structure(component, why, f.Fields))
		}
		return array(b.define(f.Schema, why, f.Fields))
	case rest.JSON:
		if f.Type.Implements(describedType) {
			v := reflect.New(f.Type).Elem()
			if f.Type.Kind() == reflect.Pointer {
				v = reflect.New(f.Type.Elem())
			}
			shown := v.Interface().(described).Schema()
			if _, text := shown.(string); text {
				return mapping{{"type", "string"}}
			}
			name := f.Schema
			if name == "" {
				name = schemaName(shown)
			}
			return mapping{{"allOf", []any{b.define(name, why, rest.FieldsOf(shown))}}}
		}
		if f.Format != "" {
			return mapping{{"type", "object"}, {"additionalProperties", mapping{{"type", "string"}, {"format", f.Format}}}}
		}
		if f.Type == reflect.TypeFor[map[string]string]() {
			return mapping{{"type", "object"}, {"additionalProperties", stringOf(why, f)}}
		}
		return free(f.Type)
	}
	panic(fmt.Sprintf("field %s is of unknown kind %d", f.Name, f.Kind))
}

// stringOf describes a string.
func stringOf(why purpose, f *rest.Field) mapping {
	o := mapping{{"type", "string"}}
	if f.Format != "" {
		o.set("format", f.Format)
	}
	if f.MaxLen > 0 {
		o.set("maxLength", f.MaxLen)
	}
	if why != response && !f.Blank {
		o.set("minLength", 1)
	}
	if f.Slug {
		o.set("pattern", slugPattern)
	}
	return o
}

const slugPattern = "^[-a-zA-Z0-9_]+$"

func bounds(o mapping, f *rest.Field) mapping {
	if f.Min != nil {
		o.set("minimum", *f.Min)
	}
	if f.Max != nil {
		o.set("maximum", *f.Max)
	}
	return o
}

func array(items any) mapping { return mapping{{"type", "array"}, {"items", items}} }

// free describes a value that is any JSON within the limits of its Go type.
func free(t reflect.Type) mapping {
	switch {
	case t.Kind() == reflect.Pointer:
		return free(t.Elem())
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Map:
		return array(free(t.Elem()))
	case t == reflect.TypeFor[map[string]*string]():
		return mapping{{"type", "object"}, {"additionalProperties", mapping{{"type", "string"}, {"nullable", true}}}}
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Map:
		return mapping{{"type", "object"}, {"additionalProperties", free(t.Elem())}}
	case t.Kind() == reflect.Map, t.Kind() == reflect.Struct, t.NumMethod() > 0 && t.Kind() != reflect.Interface && t.PkgPath() != "encoding/json":
		return mapping{{"type", "object"}}
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		return array(free(t.Elem()))
	}
	return mapping{}
}
