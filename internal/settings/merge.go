package settings

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// The keys, or items of a list, that say inside of a value that it is merged into the earlier one.
const (
	mergeKey       = "dynaconf_merge"
	mergeUniqueKey = "dynaconf_merge_unique"
)

// set gives the value at path to the table, as the value says: replaced, merged or deleted. Parts of the path
// match keys in any case; those that match none are made.
func set(table map[string]any, path []string, v any) {
	key := findKey(table, path[0])
	if len(path) > 1 {
		inner, ok := table[key].(map[string]any)
		if !ok {
			inner = map[string]any{}
			table[key] = inner
		}
		set(inner, path[1:], v)
		return
	}
	if n, keep := change(table[key], v); keep {
		table[key] = n
	} else {
		delete(table, key)
	}
}

// findKey returns the key of the table that is the same but for case, or the key itself.
func findKey(table map[string]any, key string) string {
	if _, ok := table[key]; ok {
		return key
	}
	found := ""
	for k := range table {
		if strings.EqualFold(k, key) && (found == "" || k < found) {
			found = k
		}
	}
	if found == "" {
		return key
	}
	return found
}

// change returns what becomes of an old value when a source gives a new one; keep is false where it is deleted.
func change(old, v any) (_ any, keep bool) {
	switch v := v.(type) {
	case op:
		switch v.kind {
		case "delete":
			return nil, false
		case "insert":
			list, _ := old.([]any)
			i := v.index
			if i < 0 {
				i += len(list)
			}
			return slices.Insert(slices.Clone(list), min(max(i, 0), len(list)), plain(v.value)), true
		}
		return merge(old, v.value, v.kind == "merge_unique"), true
	case map[string]any:
		if m, unique, ok := merging(v); ok {
			return merge(old, m, unique), true
		}
	case []any:
		if i := slices.IndexFunc(v, isMergeItem); i >= 0 {
			unique := v[i] == mergeUniqueKey
			return merge(old, slices.DeleteFunc(slices.Clone(v), isMergeItem), unique), true
		}
	}
	return plain(v), true
}

func isMergeItem(v any) bool { return v == mergeKey || v == mergeUniqueKey }

// merging returns the table without its merge key, and whether that key asks for merging.
func merging(v map[string]any) (m map[string]any, unique, ok bool) {
	for _, key := range []string{mergeKey, mergeUniqueKey} {
		flag, found := v[key]
		if !found {
			continue
		}
		unique = key == mergeUniqueKey
		if table, isTable := flag.(map[string]any); isTable { // it is the table to merge
			return table, unique, true
		}
		ok, _ = boolOf(flag)
		m = map[string]any{}
		for k, x := range v {
			if k != key {
				m[k] = x
			}
		}
		return m, unique, ok
	}
	return v, false, false
}

// merge appends a list to the old one, or puts a table into the old one, deeply. Values of another kind replace it.
func merge(old, v any, unique bool) any {
	switch v := v.(type) {
	case []any:
		list, _ := old.([]any)
		list = slices.Clone(list)
		for _, x := range v {
			x = plain(x)
			if unique && slices.ContainsFunc(list, func(y any) bool { return reflect.DeepEqual(x, y) }) {
				continue
			}
			list = append(list, x)
		}
		return list
	case map[string]any:
		table, ok := old.(map[string]any)
		if !ok {
			return plain(v)
		}
		for k, x := range v {
			k = findKey(table, k)
			if m, isTable := x.(map[string]any); isTable {
				if _, hadTable := table[k].(map[string]any); hadTable {
					m, _, _ = merging(m)
					table[k] = merge(table[k], m, unique)
					continue
				}
			}
			if n, keep := change(table[k], x); keep {
				table[k] = n
			} else {
				delete(table, k)
			}
		}
		return table
	}
	return plain(v)
}

// plain returns the value without what tells how to merge it, as there is nothing to merge it into.
func plain(v any) any {
	switch v := v.(type) {
	case op:
		n, _ := change(nil, v)
		return n
	case map[string]any:
		m, _, _ := merging(v)
		out := make(map[string]any, len(m))
		for k, x := range m {
			if n, keep := change(nil, x); keep {
				out[k] = n
			}
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, x := range v {
			if isMergeItem(x) {
				continue
			}
			if n, keep := change(nil, x); keep {
				out = append(out, n)
			}
		}
		return out
	}
	return v
}

// A resolver works out lazy values.
type resolver struct {
	values map[string]any
	env    map[string]string
	nodes  int
}

var errTooMuch = errors.New("the value grows too large")

// resolve replaces all lazy values within v.
func (r *resolver) resolve(v any) (_ any, err error) {
	if r.nodes++; r.nodes > maxNodes {
		return nil, errTooMuch
	}
	switch v := v.(type) {
	case *lazy:
		return r.lazy(v)
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			if out[k], err = r.resolve(x); err != nil {
				return nil, err
			}
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			if out[i], err = r.resolve(x); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

func (r *resolver) lazy(z *lazy) (_ any, err error) {
	if z.busy {
		return nil, fmt.Errorf("@%s: the setting refers to itself", z.kind)
	}
	if z.done {
		return r.resolve(z.value) // a copy, so that no two settings share a list
	}
	z.busy = true
	defer func() { z.busy = false }()
	var v any
	switch z.kind {
	case "format":
		v, err = r.format(z.text)
	case "jinja":
		v, err = r.jinja(z.text)
	default:
		v, err = r.get(z.text)
	}
	if err != nil {
		return nil, fmt.Errorf("@%s: %w", z.kind, err)
	}
	for _, c := range z.casts {
		if v, err = cast(c, v); err != nil {
			return nil, err
		}
	}
	z.value, z.done = v, true
	return v, nil
}

// format fills the fields of a Python format string: {this.NAME}, {this[NAME]} and {env[NAME]}.
func (r *resolver) format(text string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case (c == '{' || c == '}') && i+1 < len(text) && text[i+1] == c:
			b.WriteByte(c)
			i++
		case c == '{':
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return "", errors.New("a { has no }")
			}
			s, err := r.field(text[i+1 : i+end])
			if err != nil {
				return "", err
			}
			b.WriteString(s)
			i += end
		case c == '}':
			return "", errors.New("a } has no {")
		default:
			b.WriteByte(c)
		}
		if b.Len() > maxText {
			return "", errTooMuch
		}
	}
	return b.String(), nil
}

var (
	envField  = regexp.MustCompile(`^env\[['"]?([A-Za-z_]\w*)['"]?\]$`)
	thisField = regexp.MustCompile(`^this(?:\.([A-Za-z_][\w.]*)|\[['"]?([A-Za-z_][\w.]*)['"]?\])$`)
	jinjaExpr = regexp.MustCompile(`\{\{\s*(env|this)\.([A-Za-z_][\w.]*)\s*\}\}`)
)

func (r *resolver) field(f string) (string, error) {
	if g := envField.FindStringSubmatch(f); g != nil {
		if v, ok := r.env[g[1]]; ok {
			return v, nil
		}
		return "", fmt.Errorf("there is no variable %s", g[1])
	}
	if g := thisField.FindStringSubmatch(f); g != nil {
		return r.settingText(g[1] + g[2])
	}
	return "", fmt.Errorf("expected {this.NAME} or {env[NAME]}, found {%s}", f)
}

func (r *resolver) settingText(key string) (string, error) {
	v, ok, err := r.lookup(key)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", fmt.Errorf("there is no setting %s", key)
	}
	s, err := scalarText(v)
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return s, nil
}

// jinja fills {{ env.NAME }}, which is empty where there is no such variable, and {{ this.NAME }}.
func (r *resolver) jinja(text string) (string, error) {
	var b strings.Builder
	for {
		at := jinjaExpr.FindStringSubmatchIndex(text)
		rest := text
		if at != nil {
			rest = text[:at[0]]
		}
		if strings.Contains(rest, "{{") || strings.Contains(rest, "{%") || strings.Contains(rest, "{#") {
			return "", errors.New("only {{ env.NAME }} and {{ this.NAME }} are understood")
		}
		b.WriteString(rest)
		if b.Len() > maxText {
			return "", errTooMuch
		}
		if at == nil {
			return b.String(), nil
		}
		name := text[at[4]:at[5]]
		if text[at[2]:at[3]] == "env" {
			b.WriteString(r.env[name])
		} else {
			s, err := r.settingText(name)
			if err != nil {
				return "", err
			}
			b.WriteString(s)
		}
		text = text[at[1]:]
	}
}

// get reads KEY [@cast] [default].
func (r *resolver) get(text string) (any, error) {
	key, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	rest = strings.TrimSpace(rest)
	kind := ""
	if strings.HasPrefix(rest, "@") {
		name, after, _ := strings.Cut(rest, " ")
		kind, rest = name[1:], strings.TrimSpace(after)
		if !slices.Contains([]string{"int", "float", "bool", "str", "json"}, kind) {
			return nil, fmt.Errorf("%s is not known", name)
		}
	}
	v, ok, err := r.lookup(key)
	switch {
	case err != nil:
		return nil, err
	case !ok && rest == "":
		return nil, fmt.Errorf("there is no setting %s", key)
	case !ok:
		v = rest
	}
	if kind == "" {
		return v, nil
	}
	return cast(kind, v)
}

// lookup returns the value of a setting or, with dots, of a part of one.
func (r *resolver) lookup(key string) (v any, ok bool, err error) {
	v = r.values
	for _, part := range splitKey(key) {
		if z, isLazy := v.(*lazy); isLazy {
			if v, err = r.lazy(z); err != nil {
				return nil, false, err
			}
		}
		table, isTable := v.(map[string]any)
		if !isTable {
			return nil, false, nil
		}
		if v, ok = table[findKey(table, part)]; !ok {
			return nil, false, nil
		}
	}
	v, err = r.resolve(v)
	return v, err == nil, err
}

// splitKey splits DATABASES.default.HOST or DATABASES__default__HOST.
func splitKey(key string) []string {
	return strings.Split(strings.ReplaceAll(key, "__", "."), ".")
}
