package openapi

import (
	"encoding/json"
	"strconv"

	"go.yaml.in/yaml/v3"
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

// node makes a YAML node of a tree.
func node(v any) *yaml.Node {
	switch v := v.(type) {
	case mapping:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, m := range v {
			n.Content = append(n.Content, text(m.key), node(m.value))
		}
		if len(v) == 0 {
			n.Style = yaml.FlowStyle
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, e := range v {
			n.Content = append(n.Content, node(e))
		}
		if len(v) == 0 {
			n.Style = yaml.FlowStyle
		}
		return n
	case *enumRef:
		return node(ref(v.name))
	case string:
		return text(v)
	default:
		b, _ := json.Marshal(v)
		return &yaml.Node{Kind: yaml.ScalarNode, Value: string(b)}
	}
}

func text(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }
