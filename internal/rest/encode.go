package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"granary/internal/db"
	"granary/internal/pulp"
)

// A View is who sees an answer: it makes the hrefs in it.
type View struct {
	engine *Engine
	call   *pulp.Call
	root   string // the API's path for this call
}

// A Renderer is a field's value that writes its own JSON, since it holds hrefs.
type Renderer interface {
	AppendAPI(b []byte, v *View) []byte
}

// Root returns the path of the API for this view, as "/pulp/api/v3/".
func (v *View) Root() string { return v.root }

// AppendString writes a JSON string as all of the API's are written.
func (v *View) AppendString(b []byte, s string) []byte { return appendString(b, s) }

func (e *Engine) view(ctx context.Context) *View {
	c := pulp.CallOf(ctx)
	return &View{e, c, c.APIPath(e.domains)}
}

// expandAll fills the computed fields of a page's objects and learns what their hrefs need.
func (t *Type) expandAll(ctx context.Context, q db.Querier, list []reflect.Value) error {
	if len(list) == 0 {
		return nil
	}
	if t.expand != nil {
		if err := t.expand(ctx, q, list); err != nil {
			return fmt.Errorf("expand %s: %w", t.Label, err)
		}
	}
	if t.nestedList() {
		ids := make([]pulp.ID, len(list))
		for i, v := range list {
			ids[i] = t.keyOf(v.Elem()).(pulp.ID)
		}
		if err := t.engine.identify(ctx, q, t.family, ids); err != nil {
			return err
		}
	}
	return t.engine.learn(ctx, q, t.Fields, list)
}

// nestedList says whether the type lists nested objects of all parents.
func (t *Type) nestedList() bool { return t.Generic() && !t.family.Master }

// learn identifies all that the objects' links point at, with at most one query a family.
func (e *Engine) learn(ctx context.Context, q db.Querier, fields []*Field, list []reflect.Value) error {
	wanted := map[*Family][]pulp.ID{}
	var collect func(fields []*Field, v reflect.Value)
	collect = func(fields []*Field, v reflect.Value) {
		for _, f := range fields {
			switch f.Kind {
			case Link:
				id := f.value(v).Interface().(pulp.ID)
				if fam := e.families[f.Family]; fam != nil && fam.Identify != "" && !id.IsZero() && f.Label == "" {
					wanted[fam] = append(wanted[fam], id)
				}
			case Links:
				for _, r := range refsOf(f.value(v)) {
					if fam := e.nestedLabels[r.Type]; fam != nil {
						wanted[fam] = append(wanted[fam], r.ID())
					}
				}
			case Object:
				if o := reflect.Indirect(f.value(v)); o.IsValid() {
					collect(f.Fields, o)
				}
			case Objects:
				s := f.value(v)
				for i := range s.Len() {
					collect(f.Fields, s.Index(i))
				}
			}
		}
	}
	for _, p := range list {
		collect(fields, reflect.Indirect(p))
	}
	for fam, ids := range wanted {
		if err := e.identify(ctx, q, fam, ids); err != nil {
			return err
		}
	}
	return nil
}

func refsOf(v reflect.Value) []pulp.Ref {
	if r, ok := v.Interface().(pulp.Ref); ok {
		if r.IsZero() {
			return nil
		}
		return []pulp.Ref{r}
	}
	return v.Interface().([]pulp.Ref)
}

// A selection is what a query leaves of an object's fields, in the order in which they are shown; nil means all.
type selection []*Field

// selected reads fields=, exclude_fields= and minimal=.
func (t *Type) selected(query map[string][]string) selection {
	if t.whole {
		return nil
	}
	names := func(param string) []string {
		var list []string
		for _, v := range query[param] {
			for _, n := range strings.Split(v, ",") {
				if n != "" {
					list = append(list, n)
				}
			}
		}
		return list
	}
	only, without := names("fields"), names("exclude_fields")
	all := t.Fields
	if minimal := query["minimal"]; t.minimal != nil && len(minimal) > 0 {
		if b, ok := boolean(minimal[len(minimal)-1]); ok && b {
			all = t.minimal
		}
	} else if only == nil && without == nil {
		return nil
	}
	s := selection{}
	for _, f := range all {
		if (only == nil || slices.Contains(only, f.Name)) && !slices.Contains(without, f.Name) {
			s = append(s, f)
		}
	}
	return s
}

// render returns one object's JSON.
func (t *Type) render(ctx context.Context, q db.Querier, p reflect.Value, sel selection) ([]byte, error) {
	if err := t.expandAll(ctx, q, []reflect.Value{p}); err != nil {
		return nil, err
	}
	return t.append(make([]byte, 0, 1024), t.engine.view(ctx), p.Elem(), sel), nil
}

// append writes an object whose computed fields are filled.
func (t *Type) append(b []byte, view *View, v reflect.Value, sel selection) []byte {
	if sel == nil {
		sel = t.brief
	}
	if sel == nil {
		sel = t.Fields
	}
	b = append(b, '{')
	first := true
	for _, f := range sel {
		if !f.output() {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, f.key...)
		switch f.Kind {
		case Key:
			b = t.appendHref(b, view, v)
		case PRN:
			row := t.rowType(v)
			b = appendString(b, "prn:"+row.Label+":"+fmt.Sprint(t.keyOf(v)))
		case Hidden:
			b = append(b, '[')
			for i, s := range t.secrets {
				if i > 0 {
					b = append(b, ',')
				}
				b = append(b, `{"name":`...)
				b = appendString(b, s.Name)
				b = append(b, `,"is_set":`...)
				b = strconv.AppendBool(b, isSet(s.value(v)))
				b = append(b, '}')
			}
			b = append(b, ']')
		default:
			b = view.appendValue(b, f, f.value(v))
		}
	}
	return append(b, '}')
}

func isSet(v reflect.Value) bool {
	if v.Kind() == reflect.Pointer {
		return !v.IsNil() && v.Elem().String() != ""
	}
	return !v.IsZero()
}

// rowType returns the most specific type of an object in a generic list.
func (t *Type) rowType(v reflect.Value) *Type {
	if t.typeField != nil && t.PulpType == "" {
		if row := t.engine.members[t.family.Name][t.typeField.value(v).String()]; row != nil {
			return row
		}
	}
	return t
}

func (t *Type) appendHref(b []byte, view *View, v reflect.Value) []byte {
	row := t.rowType(v)
	i := ident{typ: row}
	switch {
	case t.Parent != nil:
		for _, f := range t.columns {
			switch f.Column {
			case t.parentCol:
				i.parent = fmt.Sprint(f.value(v).Interface())
			case t.keyCol:
				i.number, _ = f.value(v).Interface().(int64)
			}
		}
	case t.nestedList():
		if known, ok := view.engine.idents.get(t.keyOf(v).(pulp.ID)); ok {
			row, i = known.typ, known
		}
	}
	return appendString(b, view.engine.root(view.call, row)+row.path(fmt.Sprint(t.keyOf(v)), i))
}

func (v *View) appendValue(b []byte, f *Field, val reflect.Value) []byte {
	if val.Kind() == reflect.Pointer && f.Kind != Object && f.Kind != JSON {
		if val.IsNil() {
			return append(b, "null"...)
		}
		val = val.Elem()
	}
	switch f.Kind {
	case String:
		return appendString(b, val.String())
	case Int:
		return strconv.AppendInt(b, val.Int(), 10)
	case Float:
		return appendFloat(b, val.Float())
	case Bool:
		return strconv.AppendBool(b, val.Bool())
	case Time:
		t := pulp.Time(val.Int())
		if t == 0 {
			return append(b, "null"...)
		}
		b = append(b, '"')
		b, _ = t.AppendText(b)
		return append(b, '"')
	case Link:
		return v.appendLink(b, f, val.Interface().(pulp.ID))
	case Href:
		if val.String() == "" {
			return append(b, "null"...)
		}
		return appendString(b, v.root+val.String())
	case Links:
		if r, ok := val.Interface().(pulp.Ref); ok {
			return v.AppendRef(b, r)
		}
		b = append(b, '[')
		for i, r := range val.Interface().([]pulp.Ref) {
			if i > 0 {
				b = append(b, ',')
			}
			n := len(b)
			if b = v.AppendRef(b, r); string(b[n:]) == "null" { // gone: clients expect a string
				b = append(b[:n], `"<unavailable>"`...)
			}
		}
		return append(b, ']')
	case Object:
		if val.Kind() == reflect.Pointer {
			if val.IsNil() {
				return append(b, "null"...)
			}
			val = val.Elem()
		}
		return v.appendStruct(b, f.Fields, val)
	case Objects:
		b = append(b, '[')
		for i := range val.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			b = v.appendStruct(b, f.Fields, val.Index(i))
		}
		return append(b, ']')
	case LabelMap:
		if val.IsNil() {
			return append(b, "{}"...)
		}
	case Strings:
		if val.IsNil() && !f.Null {
			return append(b, "[]"...)
		}
	}
	return v.appendJSON(b, val.Interface())
}

func (v *View) appendStruct(b []byte, fields []*Field, val reflect.Value) []byte {
	b = append(b, '{')
	first := true
	for _, f := range fields {
		if !f.output() {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, f.key...)
		b = v.appendValue(b, f, f.value(val))
	}
	return append(b, '}')
}

func (v *View) appendJSON(b []byte, val any) []byte {
	switch val := val.(type) {
	case Renderer:
		return val.AppendAPI(b, v)
	case json.RawMessage:
		if len(val) == 0 {
			return append(b, "null"...)
		}
		return v.rebase(b, val)
	}
	j, err := json.Marshal(val)
	if err != nil {
		return append(b, "null"...)
	}
	return append(b, j...)
}

// rebase appends JSON that was rendered under the configured API root, with the hrefs in it moved to this view's root: also those
// in the queries of a version's hrefs, but not the paths of content.
func (v *View) rebase(b []byte, j []byte) []byte {
	if v.call.Root == v.engine.apiRoot {
		return append(b, j...)
	}
	return append(b, v.engine.hrefs.ReplaceAll(j, []byte("${1}"+v.call.Root+"${2}"))...)
}

func (v *View) appendLink(b []byte, f *Field, id pulp.ID) []byte {
	if id.IsZero() {
		return append(b, "null"...)
	}
	if f.Label != "" {
		return v.AppendRef(b, pulp.RefTo(f.Label, id))
	}
	i, ok := v.engine.idents.get(id)
	if !ok {
		t := v.engine.byLabel[f.Family]
		if t == nil {
			return append(b, "null"...)
		}
		i = ident{typ: t}
	}
	return appendString(b, v.engine.root(v.call, i.typ)+i.typ.path(id.String(), i))
}

// AppendRef writes the href of what r names; null where it is not known. Nested objects must have been identified.
func (v *View) AppendRef(b []byte, r pulp.Ref) []byte {
	if r.IsZero() {
		return append(b, "null"...)
	}
	t, i := v.engine.byLabel[r.Type], ident{}
	if t == nil || t.Parent != nil {
		var ok bool
		if i, ok = v.engine.idents.get(r.ID()); !ok || v.engine.nestedLabels[r.Type] == nil {
			return append(b, "null"...)
		}
		t = i.typ
	}
	return appendString(b, v.engine.root(v.call, t)+t.path(r.Key, i))
}

func appendFloat(b []byte, f float64) []byte {
	if f == math.Trunc(f) && math.Abs(f) < 1e15 {
		return strconv.AppendFloat(b, f, 'f', 1, 64)
	}
	return strconv.AppendFloat(b, f, 'g', -1, 64)
}

const hexDigits = "0123456789abcdef"

// appendString appends a JSON string. Unlike encoding/json it leaves <, > and & as they are.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			b = append(b, s[start:i]...)
			b = append(b, "\ufffd"...)
			i++
			start = i
			continue
		}
		i += size
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
