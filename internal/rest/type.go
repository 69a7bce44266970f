package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/task"
)

// A Mode says how a change is carried out.
type Mode int

// The modes of a change.
const (
	Off       Mode = iota // the type has no such operation
	Now                   // in the request
	Task                  // by a worker: 202 with the task
	Immediate             // by a task that runs in the request where nothing holds its locks
)

// A Base is what nearly every resource begins with; embed it.
type Base struct {
	ID      pulp.ID   `api:"pulp_href,key" db:"id"`
	Domain  pulp.ID   `api:"-" db:"domain"`
	Created pulp.Time `api:"pulp_created,ro" db:"created"`
	Updated pulp.Time `api:"pulp_last_updated,ro" db:"updated"`
}

// A Global is Base for the objects that belong to no domain.
type Global struct {
	ID      pulp.ID   `api:"pulp_href,key" db:"id"`
	Created pulp.Time `api:"pulp_created,ro" db:"created"`
	Updated pulp.Time `api:"pulp_last_updated,ro" db:"updated"`
}

// A Family is a group of types that references name together, as "remote". The types of a master family share
// a table with the columns that all of them have; it has a column pulp_type.
type Family struct {
	Name   string
	Table  string // of a master family
	Master bool
	Struct any // a zero value of the embedded struct that holds the shared fields, one of them with db:"pulp_type"

	// Identify is the query that finds (id, pulp_type, parent, number) of ids, up to the word IN.
	// It is made for master families, and not needed for types on their own.
	Identify string
}

// A Change is what a request does to an object.
type Change[T any] struct {
	Old *T              // nil at creation
	New *T              // the state after the change
	Set map[string]bool // the fields that the client gave
}

// A Resource declares a type.
type Resource[T any] struct {
	App   string // "core", "file": the plugin's label
	Model string // the class as clients know it from schemas, 404 texts and PRNs, as "FileRepository"
	Path  string // below the API root, as "repositories/file/file"; a nested type's own last part, as "versions"

	Label    string  // in PRNs; made from App and Model where empty
	Schema   string  // of the document; made from App and Model where empty
	Family   *Family // nil for a type on its own
	PulpType string  // within the family, as "file.file"
	Table    string  // of the type's own columns; empty where the family's table has all

	Parent    *Type  // of a nested type
	ParentCol string // the column with the parent's key
	KeyCol    string // the column that stands in a nested href; the key where empty

	Create, Update, Delete Mode
	NoList, NoRead         bool
	NoTypeFilters          bool // the list has no pulp_id__in and its like, no ordering and no q
	NoIDFilter             bool // the list has no pulp_id__in

	Global bool                           // belongs to no domain
	Scope  func(ctx context.Context) Cond // what the call may see, where it isn't its domain
	Where  string                         // a condition on every row that the API shows; m is the (master) table, d the type's own
	Order  string                         // of lists, instead of newest first

	Filters []Filter
	// OwnFilters says that the list has none of its family's filters.
	OwnFilters bool
	Ordering   []string          // names for ordering=; the family's where nil
	OrderBy    map[string]string // the SQL of names that are no column

	// Checks look at single fields, after they are parsed; they may rewrite them. What they return is reported for the field.
	Checks map[string]func(v *T) []string
	// FieldCheck is Checks for what needs the database. It returns what to report, by field; fields that are wrong already are left alone.
	FieldCheck func(ctx context.Context, q db.Querier, c *Change[T]) (map[string]any, error)
	// Check holds the rules that concern several fields or need the database. It runs in the request, and
	// again in the task that carries the change out.
	Check func(ctx context.Context, q db.Querier, c *Change[T]) error
	// Saved runs in the transaction, after the row is written.
	Saved func(ctx context.Context, tx *db.Tx, c *Change[T]) error
	// Prepare does what takes too long for a transaction, as hashing a password. It runs in the request, after the checks, for
	// changes that are made right there (mode Now). What it returns is applied to the object before it is written.
	Prepare func(ctx context.Context, c *Change[T]) (func(v *T), error)
	// CheckUpdate says what speaks against changing v at all. It runs in the request, before the body is read.
	CheckUpdate func(ctx context.Context, q db.Querier, v *T) error
	// CheckDelete says what speaks against deleting v. It runs in the request.
	CheckDelete func(ctx context.Context, q db.Querier, v *T) error
	// Deleting runs in the transaction, before the row goes.
	Deleting func(ctx context.Context, tx *db.Tx, v *T) error
	// Expand fills the computed fields of a page's objects.
	Expand func(ctx context.Context, q db.Querier, list []*T) error
	// Exclusive names what a change of v locks; its PRN where nil. It is called with nil for a creation.
	Exclusive func(ctx context.Context, v *T) []string

	// OnCreate replaces creation: it decodes the request itself, with [Typed.Parse].
	OnCreate func(ctx context.Context, r *Request) (*Response, error)
	// CreateInTask replaces what the task of a creation does, after the document was read and checked again.
	CreateInTask func(ctx context.Context, j *task.Job, v *T) (result any, err error)
	// CreateStatus is what OnCreate answers with, for the document; 202 with a task where 0.
	CreateStatus int

	// LabelPermission is what a caller must have to give labels to a new object; empty for nothing.
	LabelPermission string

	Actions []Action
	// Unscoped says that everybody sees all objects, whatever the queryset_scoping of the access policy says: as Pulp does with some types.
	Unscoped bool
	// Open says that there is no access policy, and that everybody who is logged in may ask.
	Open bool
	// Roles says that roles can be given on single objects: there are list_roles, add_role, remove_role and my_permissions.
	Roles bool

	Minimal       []string          // the fields of ?minimal=true, in their order
	LaxFields     bool              // unknown fields of requests are ignored
	Whole         bool              // fields= and exclude_fields= leave nothing out
	DeleteTask    string            // the name of the task that deletes; general where empty
	DetailSchema  string            // the schema's name for GET of one object, where it has fields that lists lack
	RequestSchema string            // where it isn't Schema
	Name          string            // of operation ids; from the path where empty
	HrefName      string            // of the path parameter; from App and Model where empty
	Tag           string            // of the document; from the path where empty
	Ops           map[string]string // operation ids that follow no rule, by action ("list", "create", …)
}

// A Type is a declared resource, without its Go type.
type Type struct {
	App, Model, Path, Label, Schema, PulpType string

	Create, Update, Delete Mode
	NoList, NoRead         bool
	Parent                 *Type
	Actions                []Action
	Filters                []Filter
	Ordering               []string
	Fields                 []*Field
	Unscoped, Open         bool
	CreateStatus           int
	Name, HrefName, Tag    string
	Ops                    map[string]string
	RequestSchema          string
	DetailSchema           string

	engine     *Engine
	model      reflect.Type
	family     *Family
	table      string
	parentCol  string
	keyCol     string
	global     bool
	roles      bool
	labelling  string
	where      string
	order      string
	orderBy    map[string]string
	minimal    selection
	lax        bool
	whole      bool
	deleteTask string

	columns   []*Field
	byName    map[string]*Field
	keyField  *Field
	labels    *Field
	typeField *Field // the column pulp_type
	secrets   []*Field
	selectSQL string
	brief     selection // what lists show, where objects on their own show more
	filters   map[string]*Filter

	checks    map[string]func(v reflect.Value) []string
	inDB      func(ctx context.Context, q db.Querier, old, fresh reflect.Value, set map[string]bool) (map[string]any, error)
	check     func(ctx context.Context, q db.Querier, old, fresh reflect.Value, set map[string]bool) error
	saved     func(ctx context.Context, tx *db.Tx, old, fresh reflect.Value, set map[string]bool) error
	ahead     func(ctx context.Context, old, fresh reflect.Value, set map[string]bool) (func(reflect.Value), error)
	mayChange func(ctx context.Context, q db.Querier, v reflect.Value) error
	mayGo     func(ctx context.Context, q db.Querier, v reflect.Value) error
	deleting  func(ctx context.Context, tx *db.Tx, v reflect.Value) error
	expand    func(ctx context.Context, q db.Querier, list []reflect.Value) error
	exclusive func(ctx context.Context, v reflect.Value) []string
	scoped    func(ctx context.Context) Cond
	onCreate  func(ctx context.Context, r *Request) (*Response, error)
	inTask    func(ctx context.Context, j *task.Job, v reflect.Value) (any, error)
}

// A Typed is a declared resource of Go type T.
type Typed[T any] struct{ *Type }

// Define makes a type of its declaration. It panics where the declaration contradicts itself.
func Define[T any](r Resource[T]) Typed[T] {
	model := reflect.TypeFor[T]()
	var master reflect.Type
	if r.Family != nil && r.Family.Struct != nil {
		master = reflect.TypeOf(r.Family.Struct)
	}
	t := &Type{
		App: r.App, Model: r.Model, Path: r.Path, Label: r.Label, Schema: r.Schema, PulpType: r.PulpType,
		Create: r.Create, Update: r.Update, Delete: r.Delete, NoList: r.NoList, NoRead: r.NoRead, Parent: r.Parent, Actions: r.Actions,
		Unscoped: r.Unscoped, Open: r.Open,
		CreateStatus: r.CreateStatus, Name: r.Name, HrefName: r.HrefName, Tag: r.Tag, Ops: r.Ops, RequestSchema: r.RequestSchema, DetailSchema: r.DetailSchema,
		Ordering: r.Ordering, Fields: fieldsOf(model, master),
		model: model, family: r.Family, table: r.Table, parentCol: r.ParentCol, keyCol: r.KeyCol, global: r.Global, roles: r.Roles, labelling: r.LabelPermission, where: r.Where, order: r.Order,
		orderBy: r.OrderBy, lax: r.LaxFields, whole: r.Whole, deleteTask: r.DeleteTask, byName: map[string]*Field{}, filters: map[string]*Filter{},
		checks: map[string]func(reflect.Value) []string{}, onCreate: r.OnCreate, scoped: r.Scope,
	}
	if t.Label == "" {
		t.Label = r.App + "." + strings.ToLower(r.Model)
	}
	if t.Schema == "" {
		t.Schema = r.Model
		if r.App != "core" {
			t.Schema = r.App + "." + r.Model
		}
	}
	if t.deleteTask == "" {
		t.deleteTask = taskDelete
	}
	for _, f := range t.Fields {
		t.byName[f.Name] = f
		switch {
		case f.Kind == Key:
			t.keyField = f
		case f.Kind == LabelMap && f.Name == "pulp_labels":
			t.labels = f
		case f.Secret || f.WriteOnly && f.Name == "password":
			t.secrets = append(t.secrets, f)
		}
		if f.Column == "pulp_type" {
			t.typeField = f
		}
		if f.Column != "" && f.Kind != PRN {
			t.columns = append(t.columns, f)
		}
	}
	if t.DetailSchema != "" {
		t.brief = slices.DeleteFunc(slices.Clone(t.Fields), func(f *Field) bool { return f.Detail })
	}
	if t.keyField == nil {
		panic(r.Model + " has no key")
	}
	for _, name := range r.Minimal {
		if t.byName[name] == nil {
			panic(r.Model + " has no field " + name)
		}
		t.minimal = append(t.minimal, t.byName[name])
	}
	columns := make([]string, len(t.columns))
	for i, f := range t.columns {
		columns[i] = t.columnName(f)
	}
	t.selectSQL = "SELECT " + strings.Join(columns, ", ")
	if t.keyCol == "" {
		t.keyCol = t.keyField.Column
	}
	if t.order == "" {
		t.order = "m.created DESC, m.id DESC"
	}
	if r.Family != nil && r.Family.Master && r.PulpType != "" {
		own := "m.pulp_type = '" + r.PulpType + "'"
		if t.where != "" {
			own += " AND (" + t.where + ")"
		}
		t.where = own
	}
	t.Filters = slices.Clone(r.Filters)
	if !r.NoTypeFilters {
		t.Filters = append(t.Filters, idFilters(t, !r.NoIDFilter)...)
	}
	for i := range t.Filters {
		t.filters[t.Filters[i].Name] = &t.Filters[i]
	}
	bind(t, r)
	return Typed[T]{t}
}

// bind wraps the declaration's typed functions for code that has no T.
func bind[T any](t *Type, r Resource[T]) {
	typed := func(v reflect.Value) *T {
		if !v.IsValid() {
			return nil
		}
		return v.Interface().(*T)
	}
	for name, f := range r.Checks {
		if t.byName[name] == nil {
			panic(fmt.Sprintf("%s has a check for %q, which it has not", r.Model, name))
		}
		t.checks[name] = func(v reflect.Value) []string { return f(typed(v)) }
	}
	if r.FieldCheck != nil {
		t.inDB = func(ctx context.Context, q db.Querier, old, fresh reflect.Value, set map[string]bool) (map[string]any, error) {
			return r.FieldCheck(ctx, q, &Change[T]{typed(old), typed(fresh), set})
		}
	}
	if r.Check != nil {
		t.check = func(ctx context.Context, q db.Querier, old, fresh reflect.Value, set map[string]bool) error {
			return r.Check(ctx, q, &Change[T]{typed(old), typed(fresh), set})
		}
	}
	if r.Saved != nil {
		t.saved = func(ctx context.Context, tx *db.Tx, old, fresh reflect.Value, set map[string]bool) error {
			return r.Saved(ctx, tx, &Change[T]{typed(old), typed(fresh), set})
		}
	}
	if r.CreateInTask != nil {
		t.inTask = func(ctx context.Context, j *task.Job, v reflect.Value) (any, error) {
			return r.CreateInTask(ctx, j, typed(v))
		}
	}
	if r.Prepare != nil {
		t.ahead = func(ctx context.Context, old, fresh reflect.Value, set map[string]bool) (func(reflect.Value), error) {
			apply, err := r.Prepare(ctx, &Change[T]{typed(old), typed(fresh), set})
			if apply == nil {
				return nil, err
			}
			return func(v reflect.Value) { apply(typed(v)) }, err
		}
	}
	if r.CheckUpdate != nil {
		t.mayChange = func(ctx context.Context, q db.Querier, v reflect.Value) error { return r.CheckUpdate(ctx, q, typed(v)) }
	}
	if r.CheckDelete != nil {
		t.mayGo = func(ctx context.Context, q db.Querier, v reflect.Value) error { return r.CheckDelete(ctx, q, typed(v)) }
	}
	if r.Deleting != nil {
		t.deleting = func(ctx context.Context, tx *db.Tx, v reflect.Value) error { return r.Deleting(ctx, tx, typed(v)) }
	}
	if r.Expand != nil {
		t.expand = func(ctx context.Context, q db.Querier, list []reflect.Value) error {
			ptrs := make([]*T, len(list))
			for i, v := range list {
				ptrs[i] = typed(v)
			}
			return r.Expand(ctx, q, ptrs)
		}
	}
	t.exclusive = func(ctx context.Context, v reflect.Value) []string {
		switch {
		case r.Exclusive != nil:
			return r.Exclusive(ctx, typed(v))
		case v.IsValid():
			return []string{t.ref(v.Elem()).PRN()}
		}
		return nil
	}
}

// keyOf returns the object's key: a pulp.ID or an int64.
func (t *Type) keyOf(v reflect.Value) any { return t.keyField.value(v).Interface() }

// ref names the object.
func (t *Type) ref(v reflect.Value) pulp.Ref {
	return pulp.Ref{Type: t.Label, Key: fmt.Sprint(t.keyOf(v))}
}

// Get loads one object by its key, whatever its domain; errs.NotFound with the type's 404 where there is none.
func (t Typed[T]) Get(ctx context.Context, q db.Querier, key any) (*T, error) {
	v, err := t.loadOne(ctx, q, "WHERE m."+t.keyField.Column+" = ?", key)
	if err != nil {
		return nil, err
	}
	return v.Interface().(*T), nil
}

// Select loads the objects for which a condition holds; m is the (master) table, d the type's own.
func (t Typed[T]) Select(ctx context.Context, q db.Querier, where string, args ...any) ([]*T, error) {
	list, err := t.load(ctx, q, "WHERE "+where, args...)
	out := make([]*T, len(list))
	for i, v := range list {
		out[i] = v.Interface().(*T)
	}
	return out, err
}

// Insert adds an object. Its key and times are made where they are zero, its domain is the call's.
func (t Typed[T]) Insert(ctx context.Context, tx *db.Tx, v *T) error {
	return t.insertWhole(ctx, tx, reflect.ValueOf(v), nil)
}

// InsertNew adds an object of which only some columns are given, by name, and returns its key. A nil is null; structures may be given as
// JSON, as a json.RawMessage.
func (t *Type) InsertNew(ctx context.Context, tx *db.Tx, columns map[string]any) (pulp.ID, error) {
	p := reflect.New(t.model)
	for _, f := range t.columns {
		v, given := columns[f.Column]
		text, isJSON := v.(json.RawMessage)
		switch {
		case isJSON:
			if err := (asJSON{f.value(p.Elem())}).Scan([]byte(text)); err != nil {
				return pulp.ID{}, fmt.Errorf("column %s: %w", f.Column, err)
			}
		case given && v == nil:
		case given:
			setValue(v, f.value(p.Elem()))
		case f.HasDefault:
			setValue(f.Default, f.value(p.Elem()))
		case f.Start != nil:
			setValue(f.Start, f.value(p.Elem()))
		}
	}
	err := t.insertWhole(ctx, tx, p, nil)
	return t.keyOf(p.Elem()).(pulp.ID), err
}

// HrefParam is the name of the path parameter that stands for an object's href.
func (t *Type) HrefParam() string {
	if t.HrefName != "" {
		return t.HrefName
	}
	name := snake(t.Model)
	if t.App != "core" && !strings.HasPrefix(name, t.App+"_"+t.App+"_") {
		name = t.App + "_" + name
	}
	return name + "_href"
}

// KeyParam describes the path parameter that stands for an object's key, as "pulp_id".
func (t *Type) KeyParam() (string, Param) {
	switch {
	case t.keyCol != t.keyField.Column:
		return t.keyCol, Param{Type: "integer", Format: "int64"}
	case t.intKey():
		return "id", Param{Type: "integer", Format: "int64"}
	}
	return "pulp_id", Param{Type: "string", Format: "uuid"}
}

// ParentParam describes the path parameter that stands for an object's key in the URLs of what is nested in it, as "repository_pk".
func (t *Type) ParentParam() (string, Param) {
	_, p := t.KeyParam()
	if t.family != nil {
		return t.family.Name + "_pk", p
	}
	return snake(t.Model) + "_pk", p
}

// Creates says whether clients can make objects of the type.
func (t *Type) Creates() bool { return t.Create != Off || t.onCreate != nil }

// snake writes a class's name in lower case, with an underscore before each letter that was large.
func snake(s string) string {
	var b strings.Builder
	for i, r := range s {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// InsertMany adds objects, as Insert does but without the Saved hook. onConflict ends the statement for the
// type's own table, as "ON CONFLICT DO NOTHING"; rows of the family's table whose own row was not added are then
// the caller's to remove.
func (t Typed[T]) InsertMany(ctx context.Context, tx *db.Tx, list []*T, onConflict string) error {
	values := make([]reflect.Value, len(list))
	for i, v := range list {
		values[i] = reflect.ValueOf(v)
	}
	return t.insertMany(ctx, tx, values, onConflict)
}

// Save writes a changed object.
func (t Typed[T]) Save(ctx context.Context, tx *db.Tx, v *T) error {
	return t.save(ctx, tx, reflect.ValueOf(v))
}

// Remove deletes an object with all that belongs to it.
func (t Typed[T]) Remove(ctx context.Context, tx *db.Tx, v *T) error {
	if t.deleting != nil {
		if err := t.deleting(ctx, tx, reflect.ValueOf(v)); err != nil {
			return err
		}
	}
	return t.remove(ctx, tx, reflect.ValueOf(v).Elem())
}

// Ref names an object.
func (t Typed[T]) Ref(v *T) pulp.Ref { return t.ref(reflect.ValueOf(v).Elem()) }

// JSON renders an object as the API shows it to the context's call.
func (t Typed[T]) JSON(ctx context.Context, q db.Querier, v *T) ([]byte, error) {
	return t.render(ctx, q, reflect.ValueOf(v), nil)
}

// Parse reads a new object from a request's body and checks it. The files that came along are in it.
func (t Typed[T]) Parse(ctx context.Context, r *Request) (*T, error) {
	doc, err := r.Body()
	if err != nil {
		return nil, err
	}
	fresh, set, err := t.parse(ctx, t.engine.db, doc, reflect.Value{}, creating)
	if err != nil {
		return nil, err
	}
	if t.check != nil {
		if err := t.check(ctx, t.engine.db, reflect.Value{}, fresh, set); err != nil {
			return nil, err
		}
	}
	return fresh.Interface().(*T), nil
}

// DispatchCreate dispatches the task that makes an object of the request's body. replace takes the place of fields
// that only the request had, as an uploaded file; a nil value takes a field out.
func (t Typed[T]) DispatchCreate(ctx context.Context, r *Request, exclusive []string, replace map[string]any) (*Response, error) {
	doc, err := r.Body()
	if err != nil {
		return nil, err
	}
	values := maps.Clone(doc.Values)
	for k, v := range replace {
		if values[k] = v; v == nil {
			delete(values, k)
		}
	}
	return t.engine.Dispatch(ctx, task.Spec{Name: taskCreate, Args: changeArgs{Type: t.Label, Doc: values, Form: doc.Form}, Exclusive: exclusive})
}

// Object loads the object that the request's URL names.
func (t Typed[T]) Object(ctx context.Context, r *Request) (*T, error) {
	v, err := t.find(ctx, t.engine.db, r)
	if err != nil {
		return nil, err
	}
	return v.Interface().(*T), nil
}

// notFound is the 404 of a key that no object has.
func (t *Type) notFound() error { return errs.NotFoundModel(t.Model) }
