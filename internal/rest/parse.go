package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// A purpose is what a document is read for.
type purpose int

const (
	creating purpose = iota
	replacing
	patching
)

// Messages of validation, as clients know them.
const (
	msgRequired = "This field is required."
	msgNull     = "This field may not be null."
	msgBlank    = "This field may not be blank."
	msgUnique   = "This field must be unique."
	msgString   = "Not a valid string."
	msgInt      = "A valid integer is required."
	msgFloat    = "A valid number is required."
	msgBool     = "Must be a valid boolean."
	msgSlug     = `Enter a valid "slug" consisting of letters, numbers, underscores or hyphens.`
	msgTime     = "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
	msgNoFile   = "No file was submitted."
	msgNotFile  = "The submitted data was not a file. Check the encoding type on the form."
	msgNUL      = "Null characters are not allowed."
	msgJSON     = "Value must be valid JSON."
)

var slugForm = regexp.MustCompile(`^[-a-zA-Z0-9_]+$`)

// parse reads a document into a new object: a copy of old (which is the zero Value at creation) with the
// document's fields. set names the fields that were given.
func (t *Type) parse(ctx context.Context, q db.Querier, doc *Document, old reflect.Value, why purpose) (fresh reflect.Value, set map[string]bool, err error) {
	fresh = reflect.New(t.model)
	if old.IsValid() {
		fresh.Elem().Set(old.Elem())
	}
	p := parser{engine: t.engine, doc: doc, why: why, set: map[string]bool{}, fields: map[string]any{}}
	if err := p.parse(ctx, q, t.Fields, fresh.Elem(), old.IsValid()); err != nil {
		return fresh, nil, err
	}
	for name, check := range t.checks {
		if p.set[name] && p.fields[name] == nil {
			if msgs := check(fresh); len(msgs) > 0 {
				p.fields[name] = msgs
			}
		}
	}
	if err := t.unique(ctx, q, fresh.Elem(), old, p.set, p.fields); err != nil {
		return fresh, nil, err
	}
	if t.inDB != nil {
		bad, err := t.inDB(ctx, q, old, fresh, p.set)
		if err != nil {
			return fresh, nil, err
		}
		for name, report := range bad {
			if p.set[name] && p.fields[name] == nil {
				p.fields[name] = report
			}
		}
	}
	if err := p.finish(t.lax, t.Fields); err != nil {
		return fresh, nil, err
	}
	if err := p.domains(ctx); err != nil {
		return fresh, nil, err
	}
	return fresh, p.set, t.mayLabel(ctx, fresh, why)
}

// mayLabel refuses a new object's labels where the caller may not give any.
func (t *Type) mayLabel(ctx context.Context, fresh reflect.Value, why purpose) error {
	if t.labelling == "" || why != creating || t.labels.value(fresh.Elem()).Len() == 0 {
		return nil
	}
	ok, err := t.engine.auth.May(ctx, t.labelling)
	if err == nil && !ok {
		err = errs.List("pulp_labels cannot be specified by users who do not have the core.manage_labels permission.")
	}
	return err
}

// unique checks the fields of which there may be only one in the domain.
func (t *Type) unique(ctx context.Context, q db.Querier, v, old reflect.Value, set map[string]bool, fields map[string]any) error {
	for _, f := range t.Fields {
		if !f.Unique || !set[f.Name] || fields[f.Name] != nil {
			continue
		}
		table := t.mainTable()
		query, args := "SELECT 1 FROM "+table+" WHERE "+f.Column+" = ?", []any{f.value(v).Interface()}
		if !t.global {
			query += " AND domain = ?"
			args = append(args, pulp.CallOf(ctx).Domain.ID)
		}
		if old.IsValid() {
			query += " AND " + t.keyField.Column + " <> ?"
			args = append(args, t.keyOf(old.Elem()))
		}
		taken, err := db.Exists(ctx, q, query, args...)
		if err != nil {
			return err
		}
		if taken {
			fields[f.Name] = []string{msgUnique}
		}
	}
	return nil
}

// Decode reads a request's body into a struct with api tags, as an action's input.
func (e *Engine) decode(ctx context.Context, doc *Document, into any, lax bool) error {
	v := reflect.ValueOf(into).Elem()
	fields := e.structFields(v.Type())
	p := parser{engine: e, doc: doc, set: map[string]bool{}, fields: map[string]any{}}
	if err := p.parse(ctx, e.db, fields, v, false); err != nil {
		return err
	}
	if err := p.finish(lax, fields); err != nil {
		return err
	}
	return p.domains(ctx)
}

type parser struct {
	engine *Engine
	doc    *Document
	why    purpose
	set    map[string]bool
	fields map[string]any // errors by field
	strays bool           // a reference leads to another domain
}

func (p *parser) parse(ctx context.Context, q db.Querier, fields []*Field, v reflect.Value, exists bool) error {
	for _, f := range fields {
		if !f.input() || f.Inner && !p.doc.inner {
			continue
		}
		if f.Kind == Upload {
			p.upload(f, v)
			continue
		}
		raw, given := p.doc.Values[f.Name]
		if p.doc.Form && given {
			raw, given = formValue(f, raw)
		}
		if f.Fixed && exists {
			continue
		}
		if !given {
			switch {
			case p.why == patching:
			case f.HasDefault:
				p.set[f.Name] = true
				setValue(f.Default, f.value(v))
			case f.Ago != 0:
				p.set[f.Name] = true
				setValue(p.engine.Now()-pulp.Time(f.Ago.Microseconds()), f.value(v))
			case f.Start != nil && !exists:
				setValue(f.Start, f.value(v))
			case f.Reset && p.why == replacing:
				p.set[f.Name] = true
				f.value(v).SetZero()
			case f.Required:
				p.fields[f.Name] = []string{msgRequired}
			}
			continue
		}
		if raw == nil {
			if !f.Null {
				p.fields[f.Name] = []string{msgNull}
				continue
			}
			p.set[f.Name] = true
			f.value(v).SetZero()
			continue
		}
		bad, err := p.value(ctx, q, f, raw, f.value(v))
		if err != nil {
			return err
		}
		if bad != nil {
			p.fields[f.Name] = bad
			continue
		}
		p.set[f.Name] = true
	}
	return nil
}

// finish reports what was found: the fields' errors, or else the unknown fields.
func (p *parser) finish(lax bool, fields []*Field) error {
	if len(p.fields) > 0 {
		return &errs.Error{Kind: errs.Invalid, Fields: p.fields}
	}
	if lax {
		return nil
	}
	unknown := map[string]any{}
	check := func(name string) {
		if name != "csrfmiddlewaretoken" && !slices.ContainsFunc(fields, func(f *Field) bool { return f.Name == name && (!f.Inner || p.doc.inner) }) {
			unknown[name] = []string{"Unexpected field"}
		}
	}
	for name := range p.doc.Values {
		check(name)
	}
	for name := range p.doc.Files {
		check(name)
	}
	if len(unknown) > 0 {
		return &errs.Error{Kind: errs.Invalid, Fields: unknown}
	}
	return nil
}

func (p *parser) domains(ctx context.Context) error {
	if p.strays {
		return errs.NonFieldError("Objects must all be a part of the %s domain.", pulp.CallOf(ctx).Domain.Name)
	}
	return nil
}

func (p *parser) upload(f *Field, v reflect.Value) {
	file := p.doc.Files[f.Name]
	if file == nil {
		switch raw, given := p.doc.Values[f.Name]; {
		case given && raw == nil:
			p.fields[f.Name] = []string{msgNull}
		case given:
			p.fields[f.Name] = []string{msgNotFile}
		case f.Required:
			p.fields[f.Name] = []string{msgNoFile}
		}
		return
	}
	p.set[f.Name] = true
	f.value(v).Set(reflect.ValueOf(file))
}

// formValue reads a form's text as the field wants it. given is false where an empty text means that nothing was given.
func formValue(f *Field, raw any) (_ any, given bool) {
	s, ok := raw.(string)
	if !ok {
		if f.Kind != Strings && f.Kind != Links {
			raw = raw.([]any)[len(raw.([]any))-1]
			s, _ = raw.(string)
		} else {
			return raw, true
		}
	}
	if s == "" && f.Kind != String && f.Kind != Strings && f.Kind != Links {
		return nil, f.Null
	}
	if s == "" && f.Kind == String {
		if f.Null {
			return nil, true
		}
		return s, f.Required || f.Blank
	}
	switch f.Kind {
	case LabelMap, JSON, Objects, Object:
		v, err := DecodeJSON([]byte(s))
		if err != nil {
			return invalidJSON{}, true
		}
		return v, true
	case Strings, Links: // as in Pulp: each part is an item
		return []any{s}, true
	}
	return s, true
}

type invalidJSON struct{}

func setValue(value any, v reflect.Value) {
	d := reflect.ValueOf(value)
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	v.Set(d.Convert(v.Type()))
}

// value reads raw into v. bad is what to report for the field: a list of messages, or a map of them.
func (p *parser) value(ctx context.Context, q db.Querier, f *Field, raw any, v reflect.Value) (bad any, err error) {
	one := func(msg string, args ...any) (any, error) { return []string{fmt.Sprintf(msg, args...)}, nil }
	if _, broken := raw.(invalidJSON); broken {
		return one(msgJSON)
	}
	switch f.Kind {
	case String:
		s, msg := text(f, raw)
		if msg != "" {
			return one("%s", msg)
		}
		if v.Kind() == reflect.Pointer {
			v.Set(reflect.New(v.Type().Elem()))
			v = v.Elem()
		}
		v.SetString(s)
	case Int:
		n, msg := integer(f, raw)
		if msg != "" {
			return one("%s", msg)
		}
		setNumber(v, reflect.ValueOf(n))
	case Float:
		n, msg := float(f, raw)
		if msg != "" {
			return one("%s", msg)
		}
		setNumber(v, reflect.ValueOf(n))
	case Bool:
		b, ok := boolean(raw)
		if !ok {
			return one(msgBool)
		}
		v.SetBool(b)
	case Time:
		s, ok := raw.(string)
		t, valid := pulp.ParseTime(s)
		if !ok || !valid {
			return one(msgTime)
		}
		v.SetInt(int64(t))
	case Link:
		return p.link(ctx, q, f, raw, v)
	case Links:
		return p.links(ctx, q, f, raw, v)
	case Strings:
		return p.list(f, raw, v)
	case LabelMap:
		return labelMap(raw, v)
	case Object, Objects:
		return one("Not a valid value.")
	default:
		b, err := json.Marshal(raw)
		if err != nil {
			return nil, err
		}
		if k := v.Kind(); k == reflect.Slice {
			items, ok := raw.([]any)
			if !ok {
				return one(`Expected a list of items but got type "%s".`, typeName(raw))
			}
			if bad := notObjects(items); v.Type().Elem().Kind() == reflect.Map && bad != nil {
				return bad, nil
			}
		} else if k == reflect.Map {
			if _, ok := raw.(map[string]any); !ok {
				return one(`Expected a dictionary of items but got type "%s".`, typeName(raw))
			}
		}
		v.SetZero()
		if v.Type() == reflect.TypeFor[map[string]string]() {
			return textMap(f, raw.(map[string]any), v)
		}
		if err := json.Unmarshal(b, v.Addr().Interface()); err != nil {
			return one("Not a valid value.")
		}
	}
	return nil, nil
}

// textMap reads an object of texts. What is wrong is reported by key.
func textMap(f *Field, raw map[string]any, v reflect.Value) (any, error) {
	out := make(map[string]string, len(raw))
	bad := map[string]any{}
	item := &Field{Name: f.Name}
	for k, it := range raw {
		if it == nil {
			bad[k] = []string{msgNull}
			continue
		}
		s, msg := text(item, it)
		switch {
		case msg != "":
			bad[k] = []string{msg}
		case strings.ContainsRune(k, 0) || !utf8.ValidString(k):
			bad[k] = []string{msgNUL}
		}
		out[k] = s
	}
	if len(bad) > 0 {
		return bad, nil
	}
	v.Set(reflect.ValueOf(out))
	return nil, nil
}

// notObjects reports the items that are no objects.
func notObjects(items []any) any {
	bad := map[string]any{}
	for i, it := range items {
		switch it.(type) {
		case map[string]any:
		case nil:
			bad[strconv.Itoa(i)] = []string{msgNull}
		default:
			bad[strconv.Itoa(i)] = []string{fmt.Sprintf(`Expected a dictionary of items but got type "%s".`, typeName(it))}
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return bad
}

func setNumber(v, n reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	v.Set(n.Convert(v.Type()))
}

func text(f *Field, raw any) (string, string) {
	var s string
	switch r := raw.(type) {
	case string:
		s = r
	case json.Number:
		s = pythonNumber(r)
	default:
		if f.Choices != nil {
			b, _ := json.Marshal(raw)
			return "", fmt.Sprintf("\"%s\" is not a valid choice.", strings.Trim(string(b), `"`))
		}
		return "", msgString
	}
	if !f.NoTrim {
		s = strings.TrimSpace(s)
	}
	switch {
	case f.Choices != nil:
		if !slices.Contains(f.Choices, s) {
			return "", fmt.Sprintf("\"%s\" is not a valid choice.", s)
		}
	case strings.ContainsRune(s, 0):
		return "", msgNUL
	case !utf8.ValidString(s):
		return "", msgString
	case s == "" && !f.Blank:
		return "", msgBlank
	case f.MaxLen > 0 && utf8.RuneCountInString(s) > f.MaxLen:
		return "", fmt.Sprintf("Ensure this field has no more than %d characters.", f.MaxLen)
	case f.Slug && !slugForm.MatchString(s):
		return "", msgSlug
	case f.Format == "email" && s != "" && !emailForm.MatchString(s):
		return "", "Enter a valid email address."
	}
	return s, ""
}

// pythonNumber writes a number as Pulp does where it becomes text: 1.50 is 1.5.
func pythonNumber(n json.Number) string {
	s := n.String()
	f, err := n.Float64()
	if err != nil || !strings.ContainsAny(s, ".eE") {
		return s
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

var emailForm = regexp.MustCompile(`^[^@\s"(),:;<>\[\]\\]+@([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}$`)

func bounds(f *Field, n float64) string {
	show := func(p *float64) string {
		if f.Kind == Float && *p == math.Trunc(*p) {
			return strconv.FormatFloat(*p, 'f', 1, 64)
		}
		return strconv.FormatFloat(*p, 'f', -1, 64)
	}
	switch {
	case f.Min != nil && n < *f.Min:
		return "Ensure this value is greater than or equal to " + show(f.Min) + "."
	case f.Max != nil && n > *f.Max:
		return "Ensure this value is less than or equal to " + show(f.Max) + "."
	}
	return ""
}

func integer(f *Field, raw any) (int64, string) {
	s, ok := numeral(raw)
	if !ok {
		return 0, msgInt
	}
	if len(s) > 1000 {
		return 0, "String value too large."
	}
	if whole, zeros, found := strings.Cut(s, "."); found && strings.Trim(zeros, "0") == "" {
		s = whole
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		if fl, ferr := strconv.ParseFloat(s, 64); ferr == nil && fl == math.Trunc(fl) && strings.Trim(s, "+-0123456789") == "" {
			if fl > 0 {
				return 0, "Ensure this value is less than or equal to 9223372036854775807."
			}
			return 0, "Ensure this value is greater than or equal to -9223372036854775808."
		}
		return 0, msgInt
	}
	return n, bounds(f, float64(n))
}

func float(f *Field, raw any) (float64, string) {
	s, ok := numeral(raw)
	if !ok {
		return 0, msgFloat
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, msgFloat
	}
	return n, bounds(f, n)
}

func numeral(raw any) (string, bool) {
	switch r := raw.(type) {
	case string:
		return strings.TrimSpace(r), true
	case json.Number:
		return r.String(), true
	}
	return "", false
}

// boolean reads JSON booleans, 0 and 1, and the usual words.
func boolean(raw any) (value, ok bool) {
	s := ""
	switch r := raw.(type) {
	case bool:
		return r, true
	case string:
		s = strings.TrimSpace(r)
	case json.Number:
		s = r.String()
	}
	switch strings.ToLower(s) {
	case "t", "y", "yes", "true", "on", "1", "1.0":
		return true, true
	case "f", "n", "no", "false", "off", "0", "0.0":
		return false, true
	}
	return false, false
}

func (p *parser) link(ctx context.Context, q db.Querier, f *Field, raw any, v reflect.Value) (any, error) {
	if raw == "" && f.Null {
		v.SetZero()
		return nil, nil
	}
	found, msg, err := p.reference(ctx, q, f, raw)
	if err != nil {
		return nil, err
	}
	if msg != "" {
		return []string{msg}, nil
	}
	v.Set(reflect.ValueOf(found.ID))
	return nil, nil
}

// reference looks up what a field's value, or an item of it, names. msg says what is wrong with it.
func (p *parser) reference(ctx context.Context, q db.Querier, f *Field, raw any) (_ Found, msg string, err error) {
	s, ok := raw.(string)
	switch {
	case raw == nil, ok && s == "":
		return Found{}, msgNull, nil
	case !ok:
		return Found{}, noMatch, nil
	}
	found, msg, err := p.engine.find(ctx, q, f.Family, f.Label, s)
	if err != nil || msg != "" {
		return Found{}, msg, err
	}
	if !found.Domain.IsZero() && found.Domain != pulp.CallOf(ctx).Domain.ID {
		p.strays = true
	}
	return found, "", nil
}

// links reads a list of references, each object once. The first wrong one is told, and not its place.
func (p *parser) links(ctx context.Context, q db.Querier, f *Field, raw any, v reflect.Value) (any, error) {
	items, ok := raw.([]any)
	if !ok {
		return []string{fmt.Sprintf(`Expected a list of items but got type "%s".`, typeName(raw))}, nil
	}
	out := make([]pulp.Ref, 0, len(items))
	for _, it := range items {
		found, msg, err := p.reference(ctx, q, f, it)
		if err != nil {
			return nil, err
		}
		if msg != "" {
			return []string{msg}, nil
		}
		if !slices.Contains(out, found.Ref) {
			out = append(out, found.Ref)
		}
	}
	v.Set(reflect.ValueOf(out))
	return nil, nil
}

func (p *parser) list(f *Field, raw any, v reflect.Value) (any, error) {
	items, ok := raw.([]any)
	if !ok {
		return []string{fmt.Sprintf(`Expected a list of items but got type "%s".`, typeName(raw))}, nil
	}
	out := make([]string, len(items))
	bad := map[string]any{}
	item := &Field{Name: f.Name, Choices: f.Choices}
	for i, it := range items {
		if it == nil {
			bad[strconv.Itoa(i)] = []string{msgNull}
			continue
		}
		s, msg := text(item, it)
		if msg != "" && f.Choices != nil { // several of a few: the first wrong one is told, and not its place
			return []string{msg}, nil
		}
		if msg != "" {
			bad[strconv.Itoa(i)] = []string{msg}
		}
		out[i] = s
	}
	if len(bad) > 0 {
		return bad, nil
	}
	v.Set(reflect.ValueOf(out))
	return nil, nil
}

// labelKey is what a label may be called in an object's map.
var labelKey = regexp.MustCompile(`^[\p{L}\p{N}\p{M}_ ]+$`)

func labelMap(raw any, v reflect.Value) (any, error) {
	m, ok := raw.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf(`Expected a dictionary of items but got type "%s".`, typeName(raw))}, nil
	}
	labels := make(Labels, len(m))
	bad := map[string]any{}
	for k, it := range m {
		if it == nil {
			labels[k] = nil
			continue
		}
		s, msg := text(&Field{Blank: true}, it)
		if msg != "" {
			bad[k] = []string{msg}
		}
		labels[k] = &s
	}
	if len(bad) > 0 {
		return bad, nil
	}
	for k, value := range labels {
		if !labelKey.MatchString(k) {
			return []string{fmt.Sprintf("Key '%s' contains non-alphanumerics.", k)}, nil
		}
		if value != nil && strings.ContainsAny(*value, ",()") {
			return []string{fmt.Sprintf("Key '%s' contains value with comma or parenthesis.", k)}, nil
		}
	}
	v.Set(reflect.ValueOf(labels))
	return nil, nil
}
