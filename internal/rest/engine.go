package rest

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/keyring"
	"granary/internal/pulp"
	"granary/internal/task"
)

// A Config is what an engine works with.
type Config struct {
	DB      *db.DB
	Keys    keyring.Keys
	Tasks   *task.Queue
	Log     *slog.Logger
	Now     pulp.Clock
	APIRoot string // as "/pulp/"
	Domains bool   // hrefs have the domain's name in them
	Stage   func(ctx context.Context) (blob.Stage, error)
	Auth    Authoriser
	// Unchallenged says that who gives no credentials is not asked for a name and a password: as Pulp does, 401 becomes 403 then.
	Unchallenged bool
}

// An Authoriser decides what the context's caller may do and see.
type Authoriser interface {
	// Allow returns nil, or an error of kind errs.Unauthenticated or errs.Denied. It is asked about requests for
	// methods that the URL does not have too; the action of these is empty.
	Allow(ctx context.Context, r *Request) error
	// Visible is the condition on those objects of the type that the caller sees; m is the (master) table.
	Visible(ctx context.Context, t *Type) (Cond, error)
	// May says whether the context's caller has a permission, as "core.manage_content_labels", in general or in the domain.
	May(ctx context.Context, permission string) (bool, error)
	// Created is called in the transaction that makes an object: for the roles on it.
	Created(ctx context.Context, tx *db.Tx, t *Type, object pulp.Ref) error
	// Deleted is called in the transaction that deletes an object.
	Deleted(ctx context.Context, tx *db.Tx, object pulp.Ref) error
	// RoleActions are the actions of types with [Resource.Roles].
	RoleActions(t *Type) []Action
}

// An Engine serves the declared types.
type Engine struct {
	db      *db.DB
	keys    keyring.Keys
	tasks   *task.Queue
	log     *slog.Logger
	now     pulp.Clock
	apiRoot string
	domains bool
	stage   func(ctx context.Context) (blob.Stage, error)
	auth    Authoriser
	quiet   bool // 403 instead of 401

	types     []*Type
	endpoints []*Endpoint
	families  map[string]*Family
	members   map[string]map[string]*Type // family, pulp_type
	byLabel   map[string]*Type
	byPath    map[string]*Type
	nested    map[*Type]map[string]*Type
	// nestedLabels are the PRN labels that the types of a family share, of nested ones always, as core.repositoryversion and core.remote.
	nestedLabels map[string]*Family
	mux          *http.ServeMux
	routes       map[string]*route
	idents       identCache
	hrefs        *regexp.Regexp // in JSON that was rendered under the configured API root
	structs      sync.Map       // reflect.Type -> []*Field
}

// New returns an engine without types.
func New(c Config) *Engine {
	return &Engine{
		db: c.DB, keys: c.Keys, tasks: c.Tasks, log: c.Log, now: c.Now, apiRoot: c.APIRoot, domains: c.Domains, stage: c.Stage, auth: c.Auth, quiet: c.Unchallenged,
		families: map[string]*Family{}, members: map[string]map[string]*Type{}, byLabel: map[string]*Type{}, byPath: map[string]*Type{},
		nested: map[*Type]map[string]*Type{}, nestedLabels: map[string]*Family{}, mux: http.NewServeMux(), routes: map[string]*route{},
		hrefs: regexp.MustCompile(`("|\?repository_version(?:_added|_removed)?=)` + regexp.QuoteMeta(c.APIRoot) + `((?:[-A-Za-z0-9_]+/)?api/v3/)`),
	}
}

// May says whether the context's caller has a permission in general or in the domain.
func (e *Engine) May(ctx context.Context, permission string) (bool, error) {
	return e.auth.May(ctx, permission)
}

// DB returns the database.
func (e *Engine) DB() *db.DB { return e.db }

// Tasks returns the queue.
func (e *Engine) Tasks() *task.Queue { return e.tasks }

// Now returns the time.
func (e *Engine) Now() pulp.Time { return e.now.Now() }

// Keys returns the keys for secrets.
func (e *Engine) Keys() keyring.Keys { return e.keys }

// Domains says whether hrefs have the domain's name in them.
func (e *Engine) Domains() bool { return e.domains }

// APIRoot returns the configured API root, as "/pulp/".
func (e *Engine) APIRoot() string { return e.apiRoot }

// Types lists the declared types in the order of their declaration.
func (e *Engine) Types() []*Type { return e.types }

// Endpoints lists the declared endpoints, but for hidden ones.
func (e *Engine) Endpoints() []*Endpoint { return e.endpoints }

// Add declares types and their routes. It panics where two claim the same path or label.
func (e *Engine) Add(types ...*Type) {
	for _, t := range types {
		t.engine = e
		if t.roles {
			t.Actions = append(t.Actions, e.auth.RoleActions(t)...)
		}
		e.types = append(e.types, t)
		e.addFamily(t)
		if t.Parent != nil {
			if e.nested[t.Parent] == nil {
				e.nested[t.Parent] = map[string]*Type{}
			}
			e.nested[t.Parent][t.Path] = t
		} else {
			if e.byPath[t.Path] != nil {
				panic("two types at " + t.Path)
			}
			e.byPath[t.Path] = t
		}
		if generic := t.PulpType == "" && t.family != nil; !generic {
			if e.byLabel[t.Label] != nil && t.Parent == nil {
				panic("two types called " + t.Label)
			}
			e.byLabel[t.Label] = t
		} else if t.family.Identify != "" {
			e.nestedLabels[t.Label] = t.family
		}
		e.route(t)
	}
}

func (e *Engine) addFamily(t *Type) {
	f := t.family
	if f == nil {
		f = &Family{Name: t.Label, Table: t.table}
		e.families[f.Name] = f
		return
	}
	if old := e.families[f.Name]; old != nil && old != f {
		panic("two families called " + f.Name)
	}
	e.families[f.Name] = f
	if f.Master && f.Identify == "" {
		f.Identify = "SELECT id, pulp_type, NULL, 0 FROM " + f.Table + " WHERE id"
	}
	if e.members[f.Name] == nil {
		e.members[f.Name] = map[string]*Type{}
	}
	name := t.PulpType
	if t.Parent != nil {
		name = t.Parent.PulpType
		e.nestedLabels[t.Label] = f
	}
	if name != "" {
		e.members[f.Name][name] = t
	}
}

// PulpTypes lists the types of a family that there are here, sorted.
func (e *Engine) PulpTypes(family string) []string {
	var list []string
	for name := range e.members[family] {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// TypeOf returns the type of a family's pulp_type, or nil.
func (e *Engine) TypeOf(family, pulpType string) *Type { return e.members[family][pulpType] }

// TypesOf returns the types of a family that there are here, sorted by pulp_type.
func (e *Engine) TypesOf(family string) []*Type {
	var list []*Type
	for _, name := range e.PulpTypes(family) {
		list = append(list, e.members[family][name])
	}
	return list
}

// TypeByLabel returns the type of a PRN's label, or nil.
func (e *Engine) TypeByLabel(label string) *Type { return e.byLabel[label] }

// structFields lists the fields of a request's or response's struct.
func (e *Engine) structFields(t reflect.Type) []*Field {
	if f, ok := e.structs.Load(t); ok {
		return f.([]*Field)
	}
	f := fieldsOf(t, nil)
	e.structs.Store(t, f)
	return f
}

// FieldsOf lists the fields of a struct with api tags, for the document.
func FieldsOf(v any) []*Field { return fieldsOf(reflect.TypeOf(v), nil) }

// Family returns the family's name, or "".
func (t *Type) Family() string {
	if t.family == nil {
		return ""
	}
	return t.family.Name
}

// FullPath returns the path with the parent's and the own key left as "{parent}" and "{key}", as "repositories/file/file/{parent}/versions/".
func (t *Type) FullPath() string {
	if t.Parent == nil {
		return t.Path + "/"
	}
	return t.Parent.FullPath() + "{parent}/" + t.Path + "/"
}

// Viewset is the name under which access policies know the type: its path without keys, as "repositories/file/file/versions".
func (t *Type) Viewset() string {
	if t.Parent == nil {
		return t.Path
	}
	return t.Parent.Viewset() + "/" + t.Path
}

// HasRoles says whether roles can be given on single objects of the type.
func (t *Type) HasRoles() bool { return t.roles }

// IntKey says whether the keys are integers.
func (t *Type) IntKey() bool { return t.intKey() }

// Global says whether the objects belong to no domain.
func (t *Type) Global() bool { return t.global }

// Generic says whether the type lists a whole family's objects.
func (t *Type) Generic() bool { return t.family != nil && t.PulpType == "" && t.Parent == nil }

// ParentKey returns the request's key of a nested URL's parent whose keys are integers.
func (r *Request) ParentKey() int64 {
	n, _ := strconv.ParseInt(r.Parent, 10, 64)
	return n
}

// Engine returns the engine that the type was added to.
func (t *Type) Engine() *Engine { return t.engine }

// OwnTable returns the table of the type's own columns; empty where its family's has all.
func (t *Type) OwnTable() string { return t.table }

// GoType returns the struct's type.
func (t *Type) GoType() reflect.Type { return t.model }

// Tables returns the names of the tables that the type reads, and the columns that it expects in each.
func (t *Type) Tables() map[string][]string {
	tables := map[string][]string{}
	for _, f := range t.columns {
		name := t.mainTable()
		if t.split() && !f.Master {
			name = t.table
		}
		tables[name] = append(tables[name], f.Column)
	}
	return tables
}

// An Endpoint is a part of the API that is no resource.
type Endpoint struct {
	App     string
	Path    string // below the API root, with its final slash if it has one; {name} stands for a segment
	Tag     string // made from the path where empty
	Name    string // of operation ids; from the path where empty
	Actions []Action
	Global  bool // also there without a domain in the URL
	Hidden  bool // not in the document
}

// An Action is an operation beside those that every resource has.
type Action struct {
	Name       string // in the URL below the object (or the collection) and in the operation id; an endpoint's is in the id alone, and its method where empty
	Method     string // POST where empty
	Collection bool   // below the collection
	Public     bool   // needs no login
	Lax        bool   // unknown fields of the request are ignored
	Deprecated bool

	Request       any    // a struct with api tags; nil for none
	RequestSchema string // its name in the document; the struct's where empty. The type's own name stands for the type's fields there
	Response      any    // a struct with api tags; nil for none
	ResponseName  string // the answer's schema: a type's, or the name under which the own type's objects or Response are described
	Task, Group   bool   // answers 202 with a task, with a task group
	Status        int    // of the answer: 202 with Task or Group, else 201 for POST, 200 otherwise
	Conflict      bool   // may answer 409 with the same body
	Headers       []string
	Params        []NamedParam // query parameters, for the document
	Media         []string     // of the answer, where it isn't JSON
	OperationID   string       // where it follows no rule; the bindings' form of the document has it too

	Handle func(ctx context.Context, r *Request) (*Response, error)
}

// A NamedParam is a query parameter of an endpoint.
type NamedParam struct {
	Name string
	Param
}

// AddEndpoint declares an endpoint.
func (e *Engine) AddEndpoint(list ...*Endpoint) {
	for _, p := range list {
		if !p.Hidden {
			e.endpoints = append(e.endpoints, p)
		}
		for i := range p.Actions {
			a := &p.Actions[i]
			e.handle("/"+p.Path, a.method(), &operation{viewset: strings.TrimSuffix(p.Path, "/"), declared: a, action: cmp.Or(a.Name, strings.ToLower(a.method())), public: a.Public, handle: a.Handle})
		}
	}
}

func (a *Action) method() string {
	if a.Method == "" {
		return http.MethodPost
	}
	return a.Method
}

// route registers a type's URLs.
func (e *Engine) route(t *Type) {
	collection := "/" + t.Path + "/"
	if t.Parent != nil {
		collection = "/" + t.Parent.Path + "/{parent}/" + t.Path + "/"
	}
	object := collection + "{key}/"
	add := func(path, method, action string, h func(ctx context.Context, r *Request) (*Response, error)) {
		e.handle(path, method, &operation{typ: t, viewset: t.Viewset(), action: action, handle: h})
	}
	if !t.NoList {
		add(collection, "GET", "list", t.list)
	}
	if t.Create != Off || t.onCreate != nil {
		add(collection, "POST", "create", t.create)
	}
	if !t.NoRead && !t.Generic() {
		add(object, "GET", "retrieve", t.read)
	}
	if t.Update != Off {
		add(object, "PUT", "update", t.update(replacing))
		add(object, "PATCH", "partial_update", t.update(patching))
	}
	if t.Delete != Off {
		add(object, "DELETE", "destroy", t.destroy)
	}
	for i := range t.Actions {
		a := &t.Actions[i]
		path := object
		if a.Collection {
			path = collection
		}
		if s := a.Segment(); s != "" {
			path += s + "/"
		}
		e.handle(path, a.method(), &operation{typ: t, declared: a, viewset: t.Viewset(), action: a.Name, public: a.Public, handle: a.Handle})
	}
	if t.labels != nil && t.PulpType != "" || t.labels != nil && t.family == nil {
		add(object+"set_label/", "POST", "set_label", t.setLabel)
		add(object+"unset_label/", "POST", "unset_label", t.unsetLabel)
	}
}

// Segment is the action's part of the URL; empty for a method on the object's own URL, as PATCH that cancels a task, and for a
// creation that answers otherwise than creations do.
func (a *Action) Segment() string {
	if a.Name == "cancel" || a.Name == "create" || a.Method == "PUT" || a.Method == "DELETE" {
		return ""
	}
	return a.Name
}

// HasLabels says whether the type has the label actions.
func (t *Type) HasLabels() bool {
	return t.labels != nil && (t.PulpType != "" || t.family == nil)
}

type operation struct {
	typ      *Type
	declared *Action // nil for what every resource has
	viewset  string
	action   string
	public   bool
	handle   func(ctx context.Context, r *Request) (*Response, error)
}

type route struct {
	path    string
	methods map[string]*operation
	allow   string
	viewset string
	public  bool // all of its operations are
}

func (e *Engine) handle(path, method string, op *operation) {
	r := e.routes[path]
	if r == nil {
		r = &route{path: path, methods: map[string]*operation{}, viewset: op.viewset, public: true}
		e.routes[path] = r
		pattern := path
		if strings.HasSuffix(path, "/") {
			pattern += "{$}"
		}
		e.mux.Handle(pattern, r)
	}
	if r.methods[method] != nil {
		panic(fmt.Sprintf("two operations for %s %s", method, path))
	}
	r.methods[method] = op
	r.public = r.public && op.public
	r.allow = ""
	for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		if r.methods[m] != nil {
			r.allow += m + ", "
		}
	}
	if r.methods["GET"] != nil {
		r.allow += "HEAD, "
	}
	r.allow += "OPTIONS"
}

// ServeHTTP makes a route a handler for the mux, which only looks routes up: see [Engine.ServeHTTP].
func (r *route) ServeHTTP(http.ResponseWriter, *http.Request) {}
