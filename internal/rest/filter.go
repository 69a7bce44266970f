package rest

import (
	"context"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// A Cond is a piece of SQL that is true for the wanted rows. In it m is the (master) table and d the type's own.
type Cond struct {
	SQL  string
	Args []any
}

// And joins conditions; none give the zero Cond.
func And(list ...Cond) Cond { return join(" AND ", list) }

// Or joins conditions.
func Or(list ...Cond) Cond { return join(" OR ", list) }

func join(op string, list []Cond) Cond {
	var c Cond
	var parts []string
	for _, l := range list {
		if l.SQL != "" {
			parts = append(parts, "("+l.SQL+")")
			c.Args = append(c.Args, l.Args...)
		}
	}
	c.SQL = strings.Join(parts, op)
	return c
}

// A Param describes a query parameter for the document.
type Param struct {
	Type   string // string, integer, number, boolean
	Format string
	Enum   []string
	EnumOf string // a family: its types are the choices
	Array  bool   // a comma-separated list
	Repeat bool   // the parameter is given once for each of the list's items
}

// A Set is a selection of objects that a table has as rows: lists join the table, in its order, instead of looking for each object
// in it.
type Set struct {
	From string // the table with its alias
	Key  string // its column with the objects' keys, of which no two rows may be the same
	Cond        // on its rows
	// Count counts the objects, where that is known without looking. It may be nil.
	Count func(ctx context.Context) (int64, error)
}

// where is the set as a condition on objects with such a key.
func (s *Set) where(key string) Cond {
	if s == nil {
		return Cond{}
	}
	return Cond{key + " IN (SELECT " + s.Key + " FROM " + s.From + " WHERE " + s.SQL + ")", s.Args}
}

// A Filter is a parameter of a list.
type Filter struct {
	Name  string
	Param Param
	Empty bool // an empty value is not "no filter"
	Any   bool // may be given several times: what fits any of the values is wanted
	// Where makes the condition. Its errors say what is wrong with the value: errs.Field with the filter's
	// name for a value of the wrong type, errs.List for references.
	Where func(ctx context.Context, f *Filtering, value string) (Cond, error)
	// Set is Where for a filter that selects a set.
	Set func(ctx context.Context, f *Filtering, value string) (*Set, error)
}

// condition makes the condition of a filter of either sort.
func (fl *Filter) condition(ctx context.Context, f *Filtering, value string) (Cond, error) {
	if fl.Set == nil {
		return fl.Where(ctx, f, value)
	}
	s, err := fl.Set(ctx, f, value)
	if err != nil {
		return Cond{}, err
	}
	return s.where("m." + f.Type.keyField.Column), nil
}

// A Filtering is what a filter may ask while it makes its condition.
type Filtering struct {
	Engine *Engine
	Q      db.Querier
	Type   *Type
}

// Lower returns the SQL of an expression in lower case.
func (f *Filtering) Lower(expr string) string {
	if f.Engine.db.Engine() == db.PostgreSQL {
		return `lower(` + expr + ` COLLATE "und-x-icu")`
	}
	return "lower(" + expr + ")"
}

func (f *Filtering) regex(expr, pattern string, fold bool) Cond {
	if f.Engine.db.Engine() == db.PostgreSQL {
		op := " ~ ?"
		if fold {
			op = " ~* ?"
		}
		return Cond{expr + op, []any{pattern}}
	}
	if fold {
		pattern = "(?i)" + pattern
	}
	return Cond{"regexp(?, " + expr + ")", []any{pattern}}
}

var stringParam, listParam = Param{Type: "string"}, Param{Type: "string", Array: true}

// NameLookups are what a name can be searched by, besides the exact form.
var NameLookups = []string{"contains", "icontains", "iexact", "in", "iregex", "istartswith", "regex", "startswith"}

// Text returns the filters of a text column: the exact one and the lookups, of which "" stands for exact alone.
func Text(name, column string, lookups ...string) []Filter {
	exact := func(_ context.Context, _ *Filtering, v string) (Cond, error) {
		return Cond{column + " = ?", []any{v}}, nil
	}
	list := []Filter{{Name: name, Param: stringParam, Where: exact}}
	for _, l := range lookups {
		f := Filter{Name: name + "__" + l, Param: stringParam}
		param := f.Name
		switch l {
		case "in":
			f.Param = listParam
			f.Where = func(_ context.Context, _ *Filtering, v string) (Cond, error) {
				parts := strings.Split(v, ",")
				for i := range parts {
					parts[i] = strings.TrimSpace(parts[i])
				}
				marks, args := db.In(parts)
				return Cond{column + " IN " + marks, args}, nil
			}
		case "ne":
			f.Where = func(_ context.Context, _ *Filtering, v string) (Cond, error) {
				return Cond{column + " <> ?", []any{v}}, nil
			}
		case "contains":
			f.Where = func(_ context.Context, _ *Filtering, v string) (Cond, error) {
				return Cond{"strpos(" + column + ", ?) > 0", []any{v}}, nil
			}
		case "startswith":
			f.Where = func(_ context.Context, _ *Filtering, v string) (Cond, error) {
				return Cond{"strpos(" + column + ", ?) = 1", []any{v}}, nil
			}
		case "icontains":
			f.Where = func(_ context.Context, c *Filtering, v string) (Cond, error) {
				return Cond{"strpos(" + c.Lower(column) + ", " + c.Lower("?") + ") > 0", []any{v}}, nil
			}
		case "istartswith":
			f.Where = func(_ context.Context, c *Filtering, v string) (Cond, error) {
				return Cond{"strpos(" + c.Lower(column) + ", " + c.Lower("?") + ") = 1", []any{v}}, nil
			}
		case "iexact":
			f.Where = func(_ context.Context, c *Filtering, v string) (Cond, error) {
				return Cond{c.Lower(column) + " = " + c.Lower("?"), []any{v}}, nil
			}
		case "regex", "iregex":
			f.Where = func(_ context.Context, c *Filtering, v string) (Cond, error) {
				if _, err := regexp.Compile(v); err != nil {
					return Cond{}, errs.Field(param, "Enter a valid regular expression.")
				}
				return c.regex(column, v, l == "iregex"), nil
			}
		default:
			panic("no lookup " + l)
		}
		list = append(list, f)
	}
	return list
}

var comparisons = map[string]string{"": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "ne": "<>"}

// ordered makes the filters of a column whose values have an order.
func ordered(name, column string, param Param, bad string, lookups []string, parse func(string) (any, bool)) []Filter {
	var list []Filter
	for _, l := range lookups {
		f := Filter{Name: name + "__" + l, Param: param}
		if l == "" {
			f.Name = name
		}
		full := f.Name
		switch l {
		case "range":
			f.Param.Array = true
			f.Where = func(_ context.Context, _ *Filtering, v string) (Cond, error) {
				parts := strings.Split(v, ",")
				if len(parts) != 2 {
					return Cond{}, errs.Field(full, "Range query expects two values.")
				}
				from, ok1 := parse(parts[0])
				to, ok2 := parse(parts[1])
				if !ok1 || !ok2 {
					return Cond{}, errs.Field(full, bad)
				}
				return Cond{column + " BETWEEN ? AND ?", []any{from, to}}, nil
			}
		case "isnull":
			f.Param = Param{Type: "boolean"}
			f.Where = func(_ context.Context, _ *Filtering, v string) (Cond, error) {
				b, ok := boolean(v)
				switch {
				case !ok:
					return Cond{}, nil
				case b:
					return Cond{SQL: column + " IS NULL"}, nil
				}
				return Cond{SQL: column + " IS NOT NULL"}, nil
			}
		default:
			op := comparisons[l]
			f.Where = func(_ context.Context, _ *Filtering, v string) (Cond, error) {
				n, ok := parse(v)
				if !ok {
					return Cond{}, errs.Field(full, bad)
				}
				return Cond{column + " " + op + " ?", []any{n}}, nil
			}
		}
		list = append(list, f)
	}
	return list
}

// Times returns the filters of a time column.
func Times(name, column string) []Filter {
	return ordered(name, column, Param{Type: "string", Format: "date-time"}, "Enter a valid date/time.",
		[]string{"", "gt", "gte", "isnull", "lt", "lte", "range"}, func(s string) (any, bool) {
			t, ok := pulp.ParseTime(strings.TrimSpace(s))
			return t, ok
		})
}

// Numbers returns the filters of a number column; "" among the lookups is the exact one.
func Numbers(name, column string, lookups ...string) []Filter {
	return ordered(name, column, Param{Type: "integer"}, "Enter a number.", lookups, func(s string) (any, bool) {
		n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
		return int64(n), err == nil && n == float64(int64(n))
	})
}

// Flag returns the filter of a condition that holds or not.
func Flag(name, sql string) Filter {
	return Filter{Name: name, Param: Param{Type: "boolean"}, Where: func(_ context.Context, _ *Filtering, v string) (Cond, error) {
		b, ok := boolean(v)
		switch {
		case !ok:
			return Cond{}, nil
		case b:
			return Cond{SQL: sql}, nil
		}
		return Cond{SQL: "NOT " + sql}, nil
	}}
}

// Choice returns the exact filter of a column with few values, and with them the lookups "in" and "ne".
func Choice(name, column string, choices []string, lookups ...string) []Filter {
	choices = slices.Sorted(slices.Values(choices))
	check := func(param, v string) error {
		if !slices.Contains(choices, v) {
			return errs.Field(param, "Select a valid choice. "+v+" is not one of the available choices.")
		}
		return nil
	}
	list := []Filter{{Name: name, Param: Param{Type: "string", Enum: choices}, Where: func(_ context.Context, _ *Filtering, v string) (Cond, error) {
		return Cond{column + " = ?", []any{v}}, check(name, v)
	}}}
	for _, l := range lookups {
		full := name + "__" + l
		f := Filter{Name: full}
		switch l {
		case "in":
			f.Param = listParam
			f.Where = func(_ context.Context, _ *Filtering, v string) (Cond, error) {
				parts := strings.Split(v, ",")
				for _, p := range parts {
					if err := check(full, p); err != nil {
						return Cond{}, err
					}
				}
				marks, args := db.In(parts)
				return Cond{column + " IN " + marks, args}, nil
			}
		case "ne":
			f.Param = stringParam
			f.Where = func(_ context.Context, _ *Filtering, v string) (Cond, error) {
				return Cond{column + " <> ?", []any{v}}, nil
			}
		}
		list = append(list, f)
	}
	return list
}

// LinkTo returns the filter of a column that points at an object of a family: an href, a PRN, or the URL of a type's list.
// nullable lets "null" and the empty value ask for rows that point at nothing.
func LinkTo(name, column, family string, nullable bool) Filter {
	return Filter{Name: name, Param: Param{Type: "string", Format: "uuid"}, Empty: nullable, Where: func(ctx context.Context, f *Filtering, v string) (Cond, error) {
		return linkCond(ctx, f, column, family, v, nullable)
	}}
}

// LinkIn is the filter of a column that points at one of several objects.
func LinkIn(name, column, family string) Filter {
	return Filter{Name: name + "__in", Param: Param{Type: "string", Format: "uuid", Array: true}, Where: func(ctx context.Context, f *Filtering, v string) (Cond, error) {
		var list []Cond
		for _, s := range strings.Split(v, ",") {
			c, err := linkCond(ctx, f, column, family, s, false)
			if err != nil {
				return Cond{}, err
			}
			list = append(list, c)
		}
		return Or(list...), nil
	}}
}

func linkCond(ctx context.Context, f *Filtering, column, family, v string, nullable bool) (Cond, error) {
	if nullable && (v == "null" || v == "") {
		return Cond{SQL: column + " IS NULL"}, nil
	}
	e := f.Engine
	c := pulp.CallOf(ctx)
	if path, ok := strings.CutPrefix(v, e.view(ctx).root); ok { // a list's URL: any object of that type
		if t := e.byPath[strings.TrimSuffix(path, "/")]; t != nil && t.family != nil && t.family.Name == family && t.PulpType != "" {
			return Cond{column + " IN (SELECT id FROM " + t.family.Table + " WHERE pulp_type = ?)", []any{t.PulpType}}, nil
		}
	}
	r, msg := e.parseRef(c, v)
	switch {
	case msg == noMatch:
		return Cond{}, errs.List("URI couldn't be resolved: " + v)
	case msg == noKey:
		return Cond{}, errs.List("URI/PRN is not a valid href for " + family + " model: " + v)
	case strings.HasPrefix(msg, "“"): // a key that is none
		key, _, _ := strings.Cut(strings.TrimPrefix(msg, "“"), "”")
		return Cond{}, errs.List("UUID invalid: " + key)
	case msg != "":
		return Cond{}, errs.List(msg)
	case refFamily(r) != family:
		return Cond{}, errs.List("URI/PRN is not a valid href for " + family + " model: " + v)
	}
	if r.parent == "" && r.typ != nil {
		id, _ := pulp.ParseID(r.key)
		return Cond{column + " = ?", []any{id}}, nil
	}
	found, msg, err := e.lookup(ctx, f.Q, r)
	if err != nil {
		return Cond{}, err
	}
	if msg != "" {
		return Cond{}, errs.List("URI " + v + " not found for " + strings.ReplaceAll(family, "_", "") + ".")
	}
	return Cond{column + " = ?", []any{found.ID}}, nil
}

// Find looks up the object of a family that a filter's value names. what is how messages call it.
func (f *Filtering) Find(ctx context.Context, family, what, v string) (Found, error) {
	if v == "" {
		return Found{}, errs.List("No value supplied for " + what + " filter")
	}
	found, msg, err := f.Engine.find(ctx, f.Q, family, "", v)
	switch {
	case err != nil:
		return Found{}, err
	case msg == noMatch:
		return Found{}, errs.List("URI not valid: " + v)
	case msg == incorrectMatch, msg == missingObject:
		return Found{}, errs.List("URI " + v + " not found for " + strings.ReplaceAll(family, "_", "") + ".")
	case msg != "":
		return Found{}, errs.List(msg)
	}
	return found, nil
}

func refFamily(r reference) string {
	switch {
	case r.family != nil:
		return r.family.Name
	case r.typ != nil:
		return r.typ.Label
	}
	return ""
}

// idFilters are what every list can be narrowed by.
func idFilters(t *Type, ids bool) []Filter {
	key := "m." + t.keyField.Column
	list := []Filter{
		{Name: "pulp_href__in", Param: listParam, Where: func(ctx context.Context, f *Filtering, v string) (Cond, error) {
			var conds []Cond
			c := pulp.CallOf(ctx)
			for _, s := range strings.Split(v, ",") {
				r, msg := f.Engine.parseRef(c, s)
				switch {
				case msg == noKey, r.parent != "" && r.typ.keyCol != r.typ.keyField.Column:
					return Cond{}, errs.List(noKey)
				case msg != "":
					return Cond{}, errs.List("URI not valid: " + s)
				}
				cond, err := f.keyCond(ctx, r, key)
				if err != nil {
					return Cond{}, err
				}
				conds = append(conds, cond)
			}
			return Or(conds...), nil
		}},
		{Name: "prn__in", Param: listParam, Where: func(ctx context.Context, f *Filtering, v string) (Cond, error) {
			var keys []any
			for _, s := range strings.Split(v, ",") {
				if !strings.HasPrefix(s, "prn:") {
					return Cond{}, errs.List("Not a valid PRN: " + s + ", must start with 'prn:'")
				}
				parts := strings.Split(s, ":")
				if len(parts) != 3 {
					return Cond{}, errs.List("PRN not valid: ['" + strings.Join(parts, "', '") + "']")
				}
				if t.intKey() {
					n, err := strconv.ParseInt(parts[2], 10, 64)
					if err != nil {
						return Cond{}, errs.List("PRN not valid: ['" + strings.Join(parts, "', '") + "']")
					}
					keys = append(keys, n)
					continue
				}
				id, err := pulp.ParseID(parts[2])
				if err != nil {
					return Cond{}, errs.List(err.Error())
				}
				keys = append(keys, id)
			}
			marks, args := db.In(keys)
			return Cond{key + " IN " + marks, args}, nil
		}},
		{Name: "q", Param: stringParam, Where: whereQ},
	}
	if ids {
		list = append(list, Filter{Name: "pulp_id__in", Param: Param{Type: "string", Format: "uuid", Array: true}, Where: func(_ context.Context, f *Filtering, v string) (Cond, error) {
			var keys []any
			for _, s := range strings.Split(v, ",") {
				id, err := pulp.ParseID(s)
				if err != nil {
					return Cond{}, errs.Field("pulp_id__in", "Enter a valid UUID.")
				}
				keys = append(keys, id)
			}
			if t.intKey() {
				return Cond{SQL: "1 = 0"}, nil
			}
			marks, args := db.In(keys)
			return Cond{key + " IN " + marks, args}, nil
		}})
	}
	return list
}

func (f *Filtering) keyCond(ctx context.Context, r reference, key string) (Cond, error) {
	if r.typ != nil && r.parent == "" {
		if r.typ.intKey() {
			n, _ := strconv.ParseInt(r.key, 10, 64)
			return Cond{key + " = ?", []any{n}}, nil
		}
		id, _ := pulp.ParseID(r.key)
		return Cond{key + " = ?", []any{id}}, nil
	}
	found, msg, err := f.Engine.lookup(ctx, f.Q, r)
	if err != nil {
		return Cond{}, err
	}
	if msg != "" {
		return Cond{SQL: "1 = 0"}, nil
	}
	return Cond{key + " = ?", []any{found.ID}}, nil
}

var labelTerm = regexp.MustCompile(`^(!?)([\p{L}\p{N}\p{M}_\s]+)(=|!=|~)?(.*)$`)

// LabelSelect returns the filter pulp_label_select.
func LabelSelect() Filter {
	return Filter{Name: "pulp_label_select", Param: stringParam, Empty: true, Where: func(_ context.Context, f *Filtering, v string) (Cond, error) {
		var list []Cond
		for _, term := range strings.Split(v, ",") {
			m := labelTerm.FindStringSubmatch(term)
			if m == nil {
				return Cond{}, errs.List("Invalid search term: '" + term + "'.")
			}
			not, key, op, value := m[1] != "", m[2], m[3], m[4]
			if not && op != "" {
				return Cond{}, errs.List("Cannot use an operator with '!" + key + "'.")
			}
			has := func(more string, args ...any) Cond {
				return Cond{"m.id IN (SELECT l.object FROM core_label l WHERE l.key = ?" + more + ")", append([]any{key}, args...)}
			}
			var c Cond
			switch op {
			case "=":
				c = has(" AND l.value = ?", value)
			case "!=":
				c = has(" AND l.value <> ?", value) // as in Pulp: not null either
			case "~":
				c = has(" AND strpos("+f.Lower("l.value")+", "+f.Lower("?")+") > 0", value)
			default:
				c = has("")
			}
			if not {
				c.SQL = "NOT EXISTS (SELECT 1 FROM core_label l WHERE l.object = m.id AND l.key = ?)"
			}
			list = append(list, c)
		}
		return And(list...), nil
	}}
}

// neverUnknown are the parameters that every list takes.
var neverUnknown = []string{"fields", "exclude_fields", "limit", "offset", "minimal", "page_size", "ordering", "format"}

// whereOf makes the condition of a list request, and the set that it selects from if there is one.
func (t *Type) whereOf(ctx context.Context, q db.Querier, query map[string][]string, order []string) (where Cond, set *Set, err error) {
	var unknown []string
	for _, name := range order {
		if t.filters[name] == nil && !slices.Contains(neverUnknown, name) {
			unknown = append(unknown, "Invalid Filter: '"+name+"'")
		}
	}
	f := &Filtering{t.engine, q, t}
	var list []Cond
	fields := map[string]any{}
	if unknown != nil && len(t.Filters) > 0 {
		fields["errors"] = unknown
	}
	if _, err := t.orderOf(query); err != nil {
		maps.Copy(fields, err.Fields)
	}
	for _, name := range order {
		filter := t.filters[name]
		if filter == nil {
			continue
		}
		values := query[name]
		if !filter.Any {
			values = values[len(values)-1:]
		}
		if !filter.Empty {
			values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" })
		}
		if len(values) == 0 {
			continue
		}
		if slices.ContainsFunc(values, func(v string) bool { return strings.ContainsRune(v, 0) }) {
			fields[name] = []string{msgNUL}
			continue
		}
		var c Cond
		if filter.Set != nil && set == nil {
			set, err = filter.Set(ctx, f, values[0])
		} else {
			alternatives := make([]Cond, len(values))
			for i, v := range values {
				if alternatives[i], err = filter.condition(ctx, f, v); err != nil {
					break
				}
			}
			if c = alternatives[0]; len(values) > 1 {
				c = Or(alternatives...)
			}
		}
		if e, ok := err.(*errs.Error); ok && e.Fields != nil { //nolint:errorlint // made right there
			maps.Copy(fields, e.Fields)
			continue
		}
		if err != nil {
			return Cond{}, nil, err
		}
		list = append(list, c)
	}
	if len(fields) > 0 {
		return Cond{}, nil, &errs.Error{Kind: errs.Invalid, Fields: fields}
	}
	return And(list...), set, nil
}

// orderOf makes ORDER BY of ordering=.
func (t *Type) orderOf(query map[string][]string) (string, *errs.Error) {
	values := query["ordering"]
	if len(values) == 0 || values[len(values)-1] == "" || t.filters["q"] == nil {
		return t.order, nil
	}
	var terms []string
	for _, name := range strings.Split(values[len(values)-1], ",") {
		plain, desc := strings.CutPrefix(name, "-")
		if !slices.Contains(t.orderings(), plain) {
			return "", errs.Field("ordering", "Select a valid choice. "+name+" is not one of the available choices.")
		}
		expr := t.orderBy[plain]
		if expr == "" {
			expr = "m." + t.keyField.Column
			switch f := t.orderField(plain); {
			case plain == "pulp_id" || plain == "pk":
			case f != nil && f.Column != "":
				expr = t.columnName(f)
			}
		}
		nulls := ""
		if f := t.orderField(plain); t.engine.db.Engine() == db.SQLite && f != nil && f.nullable() { // as PostgreSQL does by itself
			nulls = " NULLS LAST"
		}
		if desc {
			expr += " DESC"
			nulls = strings.Replace(nulls, "LAST", "FIRST", 1)
		}
		terms = append(terms, expr+nulls)
	}
	return strings.Join(terms, ", ") + ", " + t.order, nil
}

// nullable says whether the field's column may be NULL.
func (f *Field) nullable() bool {
	return f.Null || f.Type.Kind() == reflect.Pointer || f.Kind == Link || f.Kind == Time && f.Column != "created" && f.Column != "updated"
}

func (t *Type) orderField(name string) *Field {
	if f := t.byName[name]; f != nil && f.Kind != Key && f.Kind != PRN {
		return f
	}
	for _, f := range t.columns {
		if f.Column == name {
			return f
		}
	}
	return nil
}

// orderings lists the names for ordering=, sorted.
func (t *Type) orderings() []string { return t.Ordering }
