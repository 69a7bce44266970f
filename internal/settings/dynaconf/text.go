package dynaconf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Text returns a value that is neither a list nor a table as Python's str does.
func Text(v any) (string, error) {
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
	return "", fmt.Errorf("expected a single value, found %s", Kind(v))
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

// Kind names the kind of a value in an error's text.
func Kind(v any) string {
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
	case *Lazy:
		return "@" + v.kind
	case Op:
		return "@" + v.Kind
	}
	return fmt.Sprintf("%T", v)
}

// Format writes a value as the reference's tool does: texts as they are, True, False and None, lists and tables as JSON.
func Format(v any) string {
	if text, err := Text(v); err == nil {
		return text
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(jsonable(v)); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// jsonable returns the value with what JSON has no form for as text.
func jsonable(v any) any {
	switch v := v.(type) {
	case time.Time:
		return timeText(v)
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return floatText(v)
		}
	case *Lazy:
		return v.String()
	case Op:
		return jsonable(v.Value)
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = jsonable(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = jsonable(x)
		}
		return out
	}
	return v
}
