package settings

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

// A lazy value is text that names other settings; it is worked out when all sources are read.
type lazy struct {
	kind  string   // format, jinja or get
	text  string   // what follows the marker
	casts []string // int, float, ...: what is made of the result, in order
	busy  bool     // being worked out: to meet it again is a circle
	done  bool
	value any
}

// String returns the text that the value was given as.
func (z *lazy) String() string {
	var b strings.Builder
	for _, c := range slices.Backward(z.casts) {
		b.WriteString("@" + c + " ")
	}
	return b.String() + "@" + z.kind + " " + z.text
}

// An op is a value that changes what earlier sources gave, instead of replacing it.
type op struct {
	kind  string // merge, merge_unique, insert or delete
	index int    // of insert
	value any
}

const (
	maxDepth = 100 // of nested values
	maxNodes = 1e6 // of one value, and of all that lazy values make
	maxText  = 1 << 20
)

// A typer gives text a type, as the reference's settings library (dynaconf) does. The zero value is ready.
type typer struct {
	notes []string // what is odd about the text, without quoting it: it may be a password
}

var (
	errDepth = errors.New("too deeply nested")
	marker   = regexp.MustCompile(`^@[a-z_]+$`)
	pair     = regexp.MustCompile(`^\s*([A-Za-z_][\w.-]*)\s*=(.*)$`)
	noSecond = regexp.MustCompile(`(^|[T ])\d\d:\d\d$`)
)

// variable returns the value of a variable's text: a boolean, what the marker at its start says, the right
// side of a TOML assignment, or else the text.
func (t *typer) variable(text string) (any, error) { return t.text(text, true, 0) }

// literal does the same for a text from a settings file, where only markers count.
func (t *typer) literal(text string) (any, error) { return t.text(text, false, 0) }

func (t *typer) text(text string, typed bool, depth int) (any, error) {
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
			return t.nested(v, 0)
		}
	}
	return text, nil
}

// marked applies the marker at the text's start; ok is false where there is none.
func (t *typer) marked(text string, typed bool, depth int) (v any, ok bool, err error) {
	if depth > 8 {
		return nil, false, errors.New("too many markers in one another")
	}
	name, rest, _ := strings.Cut(text, " ")
	switch name {
	case "@int", "@float", "@bool", "@str", "@json":
		v, err = t.castText(name[1:], rest, depth)
	case "@none", "@null", "@note", "@comment", "@empty":
	case "@del":
		v = op{kind: "delete"}
	case "@merge", "@merge_unique":
		v, err = t.mergeOperand(rest, depth)
		v = op{kind: name[1:], value: v}
	case "@insert":
		o := op{kind: "insert"}
		if first, after, ok := strings.Cut(rest, " "); ok {
			if i, err := strconv.Atoi(first); err == nil {
				o.index, rest = i, after
			}
		}
		o.value, err = t.text(rest, true, depth+1)
		v = o
	case "@format", "@jinja":
		v = &lazy{kind: name[1:], text: rest}
	case "@get":
		if strings.TrimSpace(rest) == "" {
			err = errors.New("@get needs the name of a setting")
		}
		v = &lazy{kind: "get", text: rest}
	case "@reset":
		t.notes = append(t.notes, "needs no @reset: a value replaces the earlier one anyway")
		v, err = t.text(rest, true, depth+1)
	default:
		if marker.MatchString(name) {
			t.notes = append(t.notes, `begins with "@" but has no known marker, so it is taken as text`)
		}
		return nil, false, nil
	}
	return v, true, err
}

// castText makes a number or the like of what follows the marker, which may have a marker of its own.
func (t *typer) castText(kind, rest string, depth int) (any, error) {
	if strings.HasPrefix(rest, "@") {
		v, ok, err := t.marked(rest, false, depth+1)
		if err != nil {
			return nil, err
		}
		if z, isLazy := v.(*lazy); isLazy {
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
	text, err := scalarText(v)
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
		return (&typer{}).nested(v, 0)
	}
	return text, nil
}

// mergeOperand reads what follows @merge: TOML or JSON, else k=v pairs, else items with commas between.
func (t *typer) mergeOperand(text string, depth int) (any, error) {
	if strings.TrimSpace(text) == "" {
		return []any{}, nil
	}
	if strings.HasPrefix(text, "@") {
		v, err := t.text(text, true, depth+1)
		return items(v), err
	}
	if v, ok := parseTOML(text); ok {
		v, err := t.nested(v, 0)
		return items(v), err
	}
	if v, err := parseJSON(text); err == nil {
		v, err := t.nested(v, 0)
		return items(v), err
	}
	if pair.MatchString(text) {
		if v, ok := parseTOML("{" + text + "}"); ok {
			return t.nested(v, 0)
		}
		if m, ok, err := t.pairs(text, depth); ok || err != nil {
			return m, err
		}
	}
	if v, ok := parseTOML("[" + text + "]"); ok {
		return t.nested(v, 0)
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

func (t *typer) pairs(text string, depth int) (map[string]any, bool, error) {
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

// nested brings decoded values to the few types of a [Dict], and applies the markers of texts within.
func (t *typer) nested(v any, depth int) (_ any, err error) {
	if depth > maxDepth {
		return nil, errDepth
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
	if tooDeep(text) {
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

// tooDeep says whether text may nest deeper than what parsers should be given.
func tooDeep(text string) bool {
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
	if tooDeep(text) {
		return nil, errDepth
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

// scalarText returns a value that is neither a list nor a table as Python's str does.
func scalarText(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "None", nil
	case bool:
		if v {
			return "True", nil
		}
		return "False", nil
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return floatText(v), nil
	case time.Time:
		return timeText(v), nil
	}
	return "", fmt.Errorf("expected a single value, found %s", kindOf(v))
}

func floatText(f float64) string {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	switch s {
	case "+Inf":
		return "inf"
	case "-Inf":
		return "-inf"
	case "NaN":
		return "nan"
	}
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

// timeText writes a date, a time of day or both, whichever the TOML had.
func timeText(t time.Time) string {
	switch t.Location().String() {
	case "date-local":
		return t.Format(time.DateOnly)
	case "time-local":
		return t.Format("15:04:05.999999999")
	case "datetime-local":
		return t.Format("2006-01-02T15:04:05.999999999")
	}
	return t.Format(time.RFC3339Nano)
}

// kindOf names the kind of a value in an error's text.
func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing (null)"
	case bool:
		return "a boolean"
	case string:
		return "a text"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case time.Time:
		return "a date or time"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	case *lazy:
		return "@" + v.kind
	case op:
		return "@" + v.kind
	}
	return fmt.Sprintf("%T", v)
}
