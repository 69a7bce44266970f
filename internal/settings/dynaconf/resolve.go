package dynaconf

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A Resolver works out lazy values.
type Resolver struct {
	Values map[string]any    // the settings, as [Set] makes them
	Env    map[string]string // the variables
	nodes  int
}

var errTooMuch = errors.New("the value grows too large")

// Resolve returns v with all lazy values within replaced. What it returns shares nothing with v.
func (r *Resolver) Resolve(v any) (_ any, err error) {
	if r.nodes++; r.nodes > maxNodes {
		return nil, errTooMuch
	}
	switch v := v.(type) {
	case *Lazy:
		return r.lazy(v)
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			if out[k], err = r.Resolve(x); err != nil {
				return nil, err
			}
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			if out[i], err = r.Resolve(x); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

func (r *Resolver) lazy(z *Lazy) (_ any, err error) {
	if z.busy {
		return nil, fmt.Errorf("@%s: the setting refers to itself", z.kind)
	}
	if z.done {
		return r.Resolve(z.value) // a copy, so that no two settings share a list
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
func (r *Resolver) format(text string) (string, error) {
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

func (r *Resolver) field(f string) (string, error) {
	if g := envField.FindStringSubmatch(f); g != nil {
		if v, ok := r.Env[g[1]]; ok {
			return v, nil
		}
		return "", fmt.Errorf("there is no variable %s", g[1])
	}
	if g := thisField.FindStringSubmatch(f); g != nil {
		return r.settingText(g[1] + g[2])
	}
	return "", fmt.Errorf("expected {this.NAME} or {env[NAME]}, found {%s}", f)
}

func (r *Resolver) settingText(key string) (string, error) {
	v, ok, err := r.lookup(key)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", fmt.Errorf("there is no setting %s", key)
	}
	s, err := Text(v)
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return s, nil
}

// jinja fills {{ env.NAME }}, which is empty where there is no such variable, and {{ this.NAME }}.
func (r *Resolver) jinja(text string) (string, error) {
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
			b.WriteString(r.Env[name])
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
func (r *Resolver) get(text string) (any, error) {
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
func (r *Resolver) lookup(key string) (v any, ok bool, err error) {
	v = r.Values
	for _, part := range SplitKey(key) {
		if z, isLazy := v.(*Lazy); isLazy {
			if v, err = r.lazy(z); err != nil {
				return nil, false, err
			}
		}
		table, isTable := v.(map[string]any)
		if !isTable {
			return nil, false, nil
		}
		if v, ok = table[FindKey(table, part)]; !ok {
			return nil, false, nil
		}
	}
	v, err = r.Resolve(v)
	return v, err == nil, err
}

// SplitKey splits DATABASES.default.HOST or DATABASES__default__HOST.
func SplitKey(key string) []string {
	return strings.Split(strings.ReplaceAll(key, "__", "."), ".")
}
