// Package errs says what went wrong in the words that a client may read, and keeps the cause for the log.
// An error without a [Kind] is internal: clients see a plain 500.
package errs

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// A Kind tells what sort of failure an error is; it decides the HTTP status.
type Kind int

// The kinds of failure.
const (
	Internal        Kind = iota
	Invalid              // the client's input is wrong
	Unauthenticated      // nobody logged in, or with wrong credentials
	Denied               // logged in, but not allowed
	NotFound
	NotAllowed    // the resource has no such method
	NotAcceptable // the client asks for a format that there is none of
	Conflict
	TooLarge
	Unsupported // the body's media type
	BadRange    // a byte range that the content does not have
	Remote      // another server failed
	Unavailable // try again later
)

var status = map[Kind]int{
	Internal:        http.StatusInternalServerError,
	Invalid:         http.StatusBadRequest,
	Unauthenticated: http.StatusUnauthorized,
	Denied:          http.StatusForbidden,
	NotFound:        http.StatusNotFound,
	NotAllowed:      http.StatusMethodNotAllowed,
	NotAcceptable:   http.StatusNotAcceptable,
	Conflict:        http.StatusConflict,
	TooLarge:        http.StatusRequestEntityTooLarge,
	Unsupported:     http.StatusUnsupportedMediaType,
	BadRange:        http.StatusRequestedRangeNotSatisfiable,
	Remote:          http.StatusBadGateway,
	Unavailable:     http.StatusServiceUnavailable,
}

// NonField is the key under which an error that concerns no single field is reported.
const NonField = "non_field_errors"

// An Error carries a Kind and the text that may be shown to a client.
// At most one of Detail, List and Fields is set; which one decides the shape of the answer's body.
type Error struct {
	Kind   Kind
	Detail string         // {"detail": "…"}
	List   []string       // ["…"]
	Fields map[string]any // {"name": ["…"]}; values are []string, []Detail, or deeper maps of these
	Err    error          // the private cause, or nil
}

func (e *Error) Error() string {
	text := e.public()
	switch {
	case e.Err == nil:
		return text
	case text == "":
		return e.Err.Error()
	}
	return text + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

func (e *Error) public() string {
	switch {
	case e.Fields != nil, e.List != nil:
		return Describe(e)
	case e.Detail == "" && e.Err == nil:
		return strings.ToLower(http.StatusText(status[e.Kind]))
	}
	return e.Detail
}

// E returns an error with a public text.
func E(kind Kind, detail string) *Error { return &Error{Kind: kind, Detail: detail} }

// Ef is E with a format. Wrapping with %w keeps the cause private only if its text is not part of the format's result; use [Error.Err] for that.
func Ef(kind Kind, format string, args ...any) *Error { return E(kind, fmt.Sprintf(format, args...)) }

// Field returns the error of one field: {"name": ["message", …]}.
func Field(name string, messages ...string) *Error {
	return &Error{Kind: Invalid, Fields: map[string]any{name: messages}}
}

// A Detail is a message with a code for [Describe], among those of Fields; that of a plain string is "invalid".
type Detail struct{ Text, Code string }

// MarshalText returns the text.
func (d Detail) MarshalText() ([]byte, error) { return []byte(d.Text), nil }

// NonFieldError returns {"non_field_errors": ["message"]}.
func NonFieldError(format string, args ...any) *Error {
	return Field(NonField, fmt.Sprintf(format, args...))
}

// List returns the bare list that some of the API's errors are.
func List(messages ...string) *Error { return &Error{Kind: Invalid, List: messages} }

// NotFoundModel is the 404 of a well-formed key that no object has.
func NotFoundModel(model string) *Error {
	return Ef(NotFound, "No %s matches the given query.", model)
}

// Wrap adds what was being done to *err, once, at a package's border: defer errs.Wrap(&err, "load %s", name).
func Wrap(err *error, format string, args ...any) {
	if *err != nil {
		*err = fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), *err)
	}
}

// KindOf returns the kind of the first Error in err's chain, Internal if there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Is says whether err is of the kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// Status returns the HTTP status of err.
func Status(err error) int { return status[KindOf(err)] }

// Body returns what the client reads, to be encoded as JSON; nil for an internal error.
func Body(err error) any {
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok || e.Kind == Internal:
		return nil
	case e.Fields != nil:
		return e.Fields
	case e.List != nil:
		return e.List
	case e.Detail == "":
		return map[string]string{"detail": http.StatusText(status[e.Kind])}
	}
	return map[string]string{"detail": e.Detail}
}

// Describe returns the text of err for the "error" of a failed task. Validation errors are printed
// as clients of Pulp know them, for example {'name': [ErrorDetail(string='This field is required.', code='invalid')]}.
func Describe(err error) string {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err.Error()
	}
	var b strings.Builder
	switch {
	case e.Fields != nil:
		describe(&b, e.Fields)
	case e.List != nil:
		describe(&b, e.List)
	case e.Detail != "":
		return e.Detail
	default:
		return err.Error()
	}
	return b.String()
}

func describe(b *strings.Builder, v any) {
	switch v := v.(type) {
	case map[string]any:
		b.WriteByte('{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(quote(k) + ": ")
			describe(b, v[k])
		}
		b.WriteByte('}')
	case []string:
		describeList(b, v)
	case []Detail:
		describeList(b, v)
	case Detail:
		b.WriteString("ErrorDetail(string=" + quote(v.Text) + ", code=" + quote(v.Code) + ")")
	default:
		describe(b, Detail{fmt.Sprint(v), "invalid"})
	}
}

func describeList[T any](b *strings.Builder, list []T) {
	b.WriteByte('[')
	for i, v := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		describe(b, v)
	}
	b.WriteByte(']')
}

// quote writes a string the way Python's repr does: in single quotes unless it has one and no double quote.
func quote(s string) string {
	q := "'"
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = `"`
	}
	r := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`, q, `\`+q)
	return q + r.Replace(s) + q
}
