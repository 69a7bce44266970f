// Package dynaconf gives the texts of settings their types, and merges what several sources say, as the library of that
// name does for Pulp: see [Typer], [Set] and [Resolver].
package dynaconf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// A Lazy value is text that names other settings; it is worked out when all sources are read.
type Lazy struct {
	kind  string   // format, jinja or get
	text  string   // what follows the marker
	casts []string // int, float, ...: what is made of the result, in order
	busy  bool     // being worked out: to meet it again is a circle
	done  bool
	value any
}

// String returns the text that the value was given as.
func (z *Lazy) String() string {
	var b strings.Builder
	for _, c := range slices.Backward(z.casts) {
		b.WriteString("@" + c + " ")
	}
	return b.String() + "@" + z.kind + " " + z.text
}

// An Op is a value that changes what earlier sources gave, instead of replacing it.
type Op struct {
	Kind  string // merge, merge_unique, insert or delete
	Index int    // of insert
	Value any
}

const (
	maxDepth = 100 // of nested values
	maxNodes = 1e6 // of one value, and of all that lazy values make
	maxText  = 1 << 20
)

// A Typer gives text a type, as the reference's settings library (dynaconf) does. The zero value is ready.
type Typer struct {
	Notes []string // what is odd about the text, without quoting it: it may be a password
}

// ErrDepth says that a text nests too deeply to be read.
var ErrDepth = errors.New("too deeply nested")

var (
	marker   = regexp.MustCompile(`^@[a-z_]+$`)
	pair     = regexp.MustCompile(`^\s*([A-Za-z_][\w.-]*)\s*=(.*)$`)
	noSecond = regexp.MustCompile(`(^|[T ])\d\d:\d\d$`)
)

// Variable returns the value of a variable's text: a boolean, what the marker at its start says, the right
// side of a TOML assignment, or else the text.
func (t *Typer) Variable(text string) (any, error) { return t.text(text, true, 0) }

// literal does the same for a text from a settings file, where only markers count.
func (t *Typer) literal(text string) (any, error) { return t.text(text, false, 0) }

func (t *Typer) text(text string, typed bool, depth int) (any, error) {
	if typed {
		switch strings.TrimSpace(text) {
		case "true", "True":
			return true, nil
		case "false", "False":
			return false, nil
		}
	}
	if strings.HasPrefix(text, "@") {
		v, ok, err := t.marked(text, typed, depth)
		if ok || err != nil {
			return v, err
		}
	}
	if typed {
		if v, ok := parseTOML(text); ok {
			return t.Nested(v)
		}
	}
	return text, nil
}

// marked applies the marker at the text's start; ok is false where there is none.
func (t *Typer) marked(text string, typed bool, depth int) (v any, ok bool, err error) {
	if depth > 8 {
		return nil, false, errors.New("too many markers in one another")
	}
	name, rest, _ := strings.Cut(text, " ")
	switch name {
	case "@int", "@float", "@bool", "@str", "@json":
		v, err = t.castText(name[1:], rest, depth)
	case "@none", "@null", "@note", "@comment", "@empty":
	case "@del":
		v = Op{Kind: "delete"}
	case "@merge", "@merge_unique":
		v, err = t.mergeOperand(rest, depth)
		v = Op{Kind: name[1:], Value: v}
	case "@insert":
		o := Op{Kind: "insert"}
		if first, after, ok := strings.Cut(rest, " "); ok {
			if i, err := strconv.Atoi(first); err == nil {
				o.Index, rest = i, after
			}
		}
		o.Value, err = t.text(rest, true, depth+1)
		v = o
	case "@format", "@jinja":
		v = &Lazy{kind: name[1:], text: rest}
	case "@get":
		if strings.TrimSpace(rest) == "" {
			err = errors.New("@get needs the name of a setting")
		}
		v = &Lazy{kind: "get", text: rest}
	case "@reset":
		t.Notes = append(t.Notes, "needs no @reset: a value replaces the earlier one anyway")
		v, err = t.text(rest, true, depth+1)
	default:
		if marker.MatchString(name) {
			t.Notes = append(t.Notes, `begins with "@" but has no known marker, so it is taken as text`)
		}
		return nil, false, nil
	}
	return v, true, err
}

// castText makes a number or the like of what follows the marker, which may have a marker of its own.
func (t *Typer) castText(kind, rest string, depth int) (any, error) {
	if strings.HasPrefix(rest, "@") {
		v, ok, err := t.marked(rest, false, depth+1)
		if err != nil {
			return nil, err
		}
		if z, isLazy := v.(*Lazy); isLazy {
			z.casts = append(z.casts, kind)
			return z, nil
		}
		if ok {
			return cast(kind, v)
		}
	}
	return cast(kind, rest)
}

// cast converts a value as the marker of that name says.
func cast(kind string, v any) (any, error) {
	text, err := Text(v)
	if err != nil {
		return nil, fmt.Errorf("@%s: %w", kind, err)
	}
	digits := strings.ReplaceAll(strings.TrimSpace(text), "_", "")
	switch kind {
	case "int":
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return nil, errors.New("@int: expected a whole number")
		}
		return n, nil
	case "float":
		f, err := strconv.ParseFloat(digits, 64)
		if err != nil || strings.ContainsAny(digits, "xX") {
			return nil, errors.New("@float: expected a number")
		}
		return f, nil
	case "bool":
		return slices.Contains([]string{"t", "true", "enabled", "1", "on", "yes"}, strings.ToLower(strings.TrimSpace(text))), nil
	case "json":
		v, err := parseJSON(text)
		if err != nil {
			return nil, fmt.Errorf("@json: %w", err)
		}
		return (&Typer{}).Nested(v)
	}
	return text, nil
}

// mergeOperand reads what follows @merge: TOML or JSON, else k=v pairs, else items with commas between.
func (t *Typer) mergeOperand(text string, depth int) (any, error) {
	if strings.TrimSpace(text) == "" {
		return []any{}, nil
	}
	if strings.HasPrefix(text, "@") {
		v, err := t.text(text, true, depth+1)
		return items(v), err
	}
	if v, ok := parseTOML(text); ok {
		v, err := t.Nested(v)
		return items(v), err
	}
	if v, err := parseJSON(text); err == nil {
		v, err := t.Nested(v)
		return items(v), err
	}
	if pair.MatchString(text) {
		if v, ok := parseTOML("{" + text + "}"); ok {
			return t.Nested(v)
		}
		if m, ok, err := t.pairs(text, depth); ok || err != nil {
			return m, err
		}
	}
	if v, ok := parseTOML("[" + text + "]"); ok {
		return t.Nested(v)
	}
	list := []any{}
	for item := range strings.SplitSeq(text, ",") {
		v, err := t.text(strings.TrimSpace(item), true, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (t *Typer) pairs(text string, depth int) (map[string]any, bool, error) {
	m := map[string]any{}
	for item := range strings.SplitSeq(text, ",") {
		g := pair.FindStringSubmatch(item)
		if g == nil {
			return nil, false, nil
		}
		v, err := t.text(strings.TrimSpace(g[2]), true, depth+1)
		if err != nil {
			return nil, false, err
		}
		m[g[1]] = v
	}
	return m, true, nil
}

// items returns a list or table as it is and anything else as a list of one.
func items(v any) any {
	switch v.(type) {
	case []any, map[string]any:
		return v
	}
	return []any{v}
}

// Nested brings what TOML, JSON or a literal gave to the few types of settings (nil, bool, int64, float64, string, time.Time,
// []any, map[string]any), and applies the markers of texts within. It changes v.
func (t *Typer) Nested(v any) (any, error) { return t.nested(v, 0) }

func (t *Typer) nested(v any, depth int) (_ any, err error) {
	if depth > maxDepth {
		return nil, ErrDepth
	}
	switch v := v.(type) {
	case string:
		return t.literal(v)
	case map[string]any:
		for k := range v {
			if v[k], err = t.nested(v[k], depth+1); err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
		}
	case []any:
		for i := range v {
			if v[i], err = t.nested(v[i], depth+1); err != nil {
				return nil, fmt.Errorf("item %d: %w", i+1, err)
			}
		}
	case []map[string]any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = v[i]
		}
		return t.nested(list, depth)
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n, nil
		}
		return v.Float64()
	}
	return v, nil
}

// parseTOML reads text as the right side of an assignment.
func parseTOML(text string) (any, bool) {
	if TooDeep(text) {
		return nil, false
	}
	var doc map[string]any
	if _, err := toml.Decode("V = "+text, &doc); err != nil {
		return nil, false
	}
	if _, ok := doc["V"].(time.Time); ok && noSecond.MatchString(strings.TrimSpace(text)) {
		return nil, false // a time without seconds is newer than the TOML that the reference reads
	}
	return doc["V"], true
}

// TooDeep says whether text may nest deeper than what parsers should be given.
func TooDeep(text string) bool {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '[', '{':
			if depth++; depth > maxDepth {
				return true
			}
		case ']', '}':
			depth--
		}
	}
	return false
}

func parseJSON(text string) (any, error) {
	if TooDeep(text) {
		return nil, ErrDepth
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the text ends too early")
		}
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is text after the value")
	}
	return v, nil
}
