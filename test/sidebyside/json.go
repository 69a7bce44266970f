package sidebyside

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A Value is what JSON can say: nil, bool, string, [json.Number], []Value or *Object.
type Value any

// An Object is a JSON object that remembers the order of its keys, since clients print bodies as they come.
type Object struct {
	Members []Member
}

// A Member is one key of an object with its value.
type Member struct {
	Key   string
	Value Value
}

// Get returns the value of a key.
func (o *Object) Get(key string) (Value, bool) {
	for _, m := range o.Members {
		if m.Key == key {
			return m.Value, true
		}
	}
	return nil, false
}

// Keys returns the keys in order.
func (o *Object) Keys() []string {
	keys := make([]string, len(o.Members))
	for i, m := range o.Members {
		keys[i] = m.Key
	}
	return keys
}

// DecodeJSON reads one JSON value and refuses anything after it.
func DecodeJSON(data []byte) (Value, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := decodeValue(d)
	if err != nil {
		return nil, fmt.Errorf("decode JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("decode JSON: text after the value")
	}
	return v, nil
}

func decodeValue(d *json.Decoder) (Value, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('['):
		list := []Value{}
		for d.More() {
			v, err := decodeValue(d)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = d.Token()
		return list, err
	case json.Delim('{'):
		o := &Object{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := decodeValue(d)
			if err != nil {
				return nil, err
			}
			o.Members = append(o.Members, Member{key.(string), v})
		}
		_, err = d.Token()
		return o, err
	}
	return t, nil
}

// EncodeJSON writes a value with two spaces a level; what is empty or holds no object stays on one line.
func EncodeJSON(v Value) string {
	var b strings.Builder
	encodeValue(&b, v, "\n")
	return b.String()
}

func encodeValue(b *strings.Builder, v Value, newline string) {
	switch v := v.(type) {
	case []Value:
		flat := !slices.ContainsFunc(v, func(e Value) bool { return !scalar(e) })
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			if !flat {
				b.WriteString(newline + "  ")
			} else if i > 0 {
				b.WriteByte(' ')
			}
			encodeValue(b, e, newline+"  ")
		}
		if !flat {
			b.WriteString(newline)
		}
		b.WriteByte(']')
	case *Object:
		b.WriteByte('{')
		for i, m := range v.Members {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(newline + "  ")
			encodeString(b, m.Key)
			b.WriteString(": ")
			encodeValue(b, m.Value, newline+"  ")
		}
		if len(v.Members) > 0 {
			b.WriteString(newline)
		}
		b.WriteByte('}')
	case string:
		encodeString(b, v)
	case nil:
		b.WriteString("null")
	default: // bool and json.Number
		fmt.Fprint(b, v)
	}
}

func scalar(v Value) bool {
	switch v := v.(type) {
	case []Value:
		return len(v) == 0
	case *Object:
		return len(v.Members) == 0
	}
	return true
}

// encodeString leaves <, > and & readable, since every placeholder has them.
func encodeString(b *strings.Builder, s string) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // a string always encodes into a buffer
	}
	b.WriteString(strings.TrimSuffix(buf.String(), "\n"))
}

// compact is a value on one line, for messages.
func compact(v Value) string {
	s := strings.Join(strings.Fields(EncodeJSON(v)), " ")
	if len(s) > 300 {
		s = s[:300] + "…"
	}
	return s
}
