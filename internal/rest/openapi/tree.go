package openapi

import (
	"encoding/json"
	"strconv"
	"strings"
)

// A mapping is a map that remembers the order of its keys. The other values of a tree are lists of values ([]any),
// strings, numbers, booleans and *enumRef.
type mapping []member

type member struct {
	key   string
	value any
}

func (o *mapping) set(key string, value any) { *o = append(*o, member{key, value}) }

// get returns the value of a key, or nil.
func (o mapping) get(key string) any {
	for _, m := range o {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// list makes a list of a tree.
func list(values ...string) []any {
	out := make([]any, len(values))
	for i, s := range values {
		out[i] = s
	}
	return out
}

// appendJSON writes a tree without white space.
func appendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case mapping:
		b = append(b, '{')
		for i, m := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendText(b, m.key), ':')
			b = appendJSON(b, m.value)
		}
		return append(b, '}')
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, e)
		}
		return append(b, ']')
	case *enumRef:
		return appendJSON(b, ref(v.name))
	case string:
		return appendText(b, v)
	case bool:
		return strconv.AppendBool(b, v)
	default:
		text, err := json.Marshal(v)
		if err != nil {
			panic(err) // defaults are numbers, which the declarations were read with
		}
		return append(b, text...)
	}
}

// appendText writes a string; nearly none needs an escape.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			text, _ := json.Marshal(s)
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendYAML writes a tree in block style. What it doesn't know to be plain text it writes as JSON, which YAML includes.
func appendYAML(b []byte, m mapping, indent int, started bool) []byte {
	for i, e := range m {
		if i > 0 || !started {
			b = pad(b, indent)
		}
		b = append(appendPlain(b, e.key), ':')
		switch v := e.value.(type) {
		case mapping:
			if len(v) == 0 {
				b = append(b, " {}\n"...)
				continue
			}
			b = appendYAML(append(b, '\n'), v, indent+2, false)
		case *enumRef:
			b = appendYAML(append(b, '\n'), ref(v.name), indent+2, false)
		case []any:
			if len(v) == 0 {
				b = append(b, " []\n"...)
				continue
			}
			b = append(b, '\n')
			for _, item := range v {
				b = append(pad(b, indent), "- "...)
				if r, ok := item.(*enumRef); ok {
					item = ref(r.name)
				}
				if m, ok := item.(mapping); ok && len(m) > 0 {
					b = appendYAML(b, m, indent+2, true)
				} else {
					b = append(appendScalar(b, item), '\n')
				}
			}
		default:
			b = append(appendScalar(append(b, ' '), v), '\n')
		}
	}
	return b
}

func pad(b []byte, indent int) []byte {
	for range indent {
		b = append(b, ' ')
	}
	return b
}

func appendScalar(b []byte, v any) []byte {
	if s, ok := v.(string); ok {
		return appendPlain(b, s)
	}
	return appendJSON(b, v)
}

// appendPlain writes a string without quotes if no reader can take it for anything else: letters with digits,
// underscores, hyphens, dots and slashes within, and no word that YAML knows.
func appendPlain(b []byte, s string) []byte {
	plain := s != ""
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '/'
		if !letter && (i == 0 || c != '_' && c != '-' && c != '.' && (c < '0' || c > '9')) {
			plain = false
		}
	}
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		plain = false
	}
	if plain {
		return append(b, s...)
	}
	return appendText(b, s)
}
