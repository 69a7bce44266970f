package settings

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"granary/internal/settings/dynaconf"
)

// A decoder turns raw values into those of Go. It goes on after an error.
type decoder struct {
	fail   func(path, format string, args ...any)
	secret bool // values must not be quoted
}

// expected reports a value of the wrong kind.
func (d decoder) expected(path, want string, v any) {
	d.fail(path, "expected %s, found %s", want, d.found(path, v))
}

// found describes a value, and quotes it where it is short and no secret.
func (d decoder) found(path string, v any) string {
	text, err := dynaconf.Text(v)
	_, inner, _ := strings.Cut(path, ".")
	if err != nil || v == nil || d.secret || isSecretKey(inner) {
		return dynaconf.Kind(v)
	}
	if len(text) > 100 {
		text = text[:100] + "..."
	}
	if s, ok := v.(string); ok {
		text = strconv.Quote(maskURL(s))
	}
	return dynaconf.Kind(v) + " " + text
}

// decode sets out to the raw value. Nothing (nil) is the zero value.
func (d decoder) decode(out reflect.Value, v any, path string, r rules) {
	if v == nil || v == "" && out.Kind() != reflect.String { // an empty variable is one that says nothing
		out.SetZero()
		d.min(out, path, r)
		return
	}
	switch o := out.Addr().Interface().(type) {
	case *time.Duration:
		d.duration(o, v, path, r)
		return
	case *SameSite:
		if v == false {
			*o = ""
			return
		}
	case *[]float64:
		d.floats(o, v, path)
		return
	case *Dict:
		table, ok := v.(map[string]any)
		if !ok {
			d.expected(path, `a table (as @json {"key": "value"} in a variable)`, v)
			return
		}
		*o = table
		return
	}
	switch out.Kind() {
	case reflect.Bool:
		b, ok := boolOf(v)
		if !ok {
			d.expected(path, "true or false", v)
		}
		out.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, ok := intOf(v)
		if !ok {
			d.expected(path, "a whole number", v)
			return
		}
		out.SetInt(n)
		d.min(out, path, r)
	case reflect.String:
		s, ok := v.(string)
		if !ok {
			d.expected(path, "a text"+quoteAdvice(v), v)
			return
		}
		out.SetString(s)
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			d.expected(path, `a list (as ["a", "b"])`, v)
			return
		}
		out.Set(reflect.MakeSlice(out.Type(), len(list), len(list)))
		for i, x := range list {
			d.decode(out.Index(i), x, fmt.Sprintf("%s.%d", path, i), rules{})
		}
	case reflect.Map:
		d.table(out, v, path)
	case reflect.Struct:
		d.structure(out, v, path)
	}
}

func (d decoder) table(out reflect.Value, v any, path string) {
	table, ok := v.(map[string]any)
	if !ok {
		d.expected(path, `a table (as @json {"key": "value"} in a variable)`, v)
		return
	}
	out.Set(reflect.MakeMap(out.Type()))
	for _, k := range slices.Sorted(maps.Keys(table)) {
		e := reflect.New(out.Type().Elem()).Elem()
		d.decode(e, table[k], path+"."+k, rules{})
		out.SetMapIndex(reflect.ValueOf(k), e)
	}
}

// structure fills the fields of a struct by their keys; keys that are absent leave them as they are.
func (d decoder) structure(out reflect.Value, v any, path string) {
	table, ok := v.(map[string]any)
	if !ok {
		d.expected(path, `a table (as @json {"key": "value"} in a variable)`, v)
		return
	}
	for i, t := 0, out.Type(); i < t.NumField(); i++ {
		key := t.Field(i).Tag.Get("key")
		if x, ok := table[dynaconf.FindKey(table, key)]; ok {
			d.decode(out.Field(i), x, path+"."+key, rulesOf(t.Field(i).Tag))
		}
	}
}

func (d decoder) min(out reflect.Value, path string, r rules) {
	if r.min == "" || !out.CanInt() {
		return
	}
	n := out.Int()
	if out.Type() == reflect.TypeFor[time.Duration]() {
		n /= int64(r.unit)
	}
	if least, err := strconv.ParseInt(r.min, 10, 64); err == nil && n < least {
		d.fail(path, "expected %s or more, found %d", r.min, n)
	}
}

func (d decoder) duration(o *time.Duration, v any, path string, r rules) {
	f, ok := v.(float64)
	if !ok {
		var n int64
		if n, ok = intOf(v); ok {
			f = float64(n)
		}
	}
	ns := f * float64(r.unit)
	if !ok || math.IsNaN(ns) || ns > math.MaxInt64/2 {
		d.expected(path, "a "+typeName(reflect.TypeFor[time.Duration](), r), v)
		return
	}
	if ns < 0 {
		d.fail(path, "expected 0 or more, found %v", f)
		return
	}
	*o = time.Duration(ns)
	d.min(reflect.ValueOf(o).Elem(), path, r)
}

// floats takes numbers with a fraction only, as the reference does: its library refuses whole ones.
func (d decoder) floats(o *[]float64, v any, path string) {
	list, ok := v.([]any)
	if !ok {
		d.expected(path, "a list of numbers with a fraction (as [100.0, 250.0])", v)
		return
	}
	for i, x := range list {
		f, ok := x.(float64)
		if !ok {
			d.expected(fmt.Sprintf("%s.%d", path, i), "a number with a fraction (as 100.0)", x)
			return
		}
		*o = append(*o, f)
	}
}

// boolOf takes what Python takes for true or false, except for texts that say the opposite.
func boolOf(v any) (b, ok bool) {
	switch v := v.(type) {
	case bool:
		return v, true
	case int64:
		return v != 0, true
	case string:
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "true", "t", "yes", "y", "on", "1", "enabled":
			return true, true
		case "":
			return false, true
		}
	}
	return false, false
}

func intOf(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v), true
		}
	case string:
		if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
			return n, true
		}
	}
	return 0, false
}

func quoteAdvice(v any) string {
	switch v.(type) {
	case int64, float64, bool, time.Time:
		return ` (in quotes, as "'42'" in a variable)`
	}
	return ""
}

// variable sets a field from the text of a variable that is no setting.
func (d decoder) variable(out reflect.Value, text, name string, r rules) {
	trimmed := strings.TrimSpace(text)
	switch o := out.Addr().Interface().(type) {
	case *[]netip.Prefix:
		for part := range strings.SplitSeq(trimmed, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			p, err := parsePrefix(part)
			if err != nil {
				d.fail(name, "expected addresses or networks (as 10.0.0.0/8) with commas between, found %q", part)
				return
			}
			*o = append(*o, p)
		}
		return
	case *string, *Secret:
		out.SetString(text)
		return
	case *bool:
		switch strings.ToLower(trimmed) {
		case "false", "f", "no", "n", "off", "0", "disabled":
			*o = false
			return
		}
	}
	d.decode(out, any(trimmed), name, r)
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return a.WithZone("").Prefix(a.BitLen())
}
