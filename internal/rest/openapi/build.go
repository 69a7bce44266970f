package openapi

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"granary/internal/rest"
)

// A form is one of the forms of the document that clients ask for.
type form struct {
	bindings   bool     // operation ids are only the action
	pkPath     bool     // objects are at paths with keys, not at hrefs
	components []string // sorted; nil for all
}

// A builder makes one form of the document.
type builder struct {
	form
	info   Info
	engine *rest.Engine

	answers map[string]*rest.Type // types by their answers' schema
	paths   map[string]*pathItem
	schemas map[string]mapping
	fields  map[string][]*rest.Field // of the schemas
	clashes []string                 // names that stand for different schemas
	enums   enums
}

// A pathItem holds the operations of a path.
type pathItem struct {
	sort       string
	operations map[string]mapping // by method
}

// A place is where operations are: an object, a collection, an endpoint.
type place struct {
	path string // below the API root
	keys []param
	// href is the path in the usual form, where the place belongs to an object, with its parameter.
	href   string
	object param

	base, tag string
	global    bool // without a domain, too
}

// below is a place one segment further down.
func (p place) below(segment string) place {
	if segment != "" {
		p.path += segment + "/"
		if p.href != "" {
			p.href += segment + "/"
		}
	}
	return p
}

// An operation is one that is being described.
type operation struct {
	place
	method     string
	verb       string // ends the operation id
	id         string // instead of what the rule gives; empty for the rule
	params     []param
	body       mapping // nil for none
	answers    []answer
	public     bool
	deprecated bool
}

// An answer is one way in which an operation answers.
type answer struct {
	status int
	schema mapping  // nil for none
	media  []string // JSON if nil
}

// build makes the paths and the schemas. It fails where two schemas have the same name.
func (b *builder) build() (paths, schemas mapping, err error) {
	for _, t := range b.engine.Types() {
		b.answers[responseName(t.Schema)] = t
	}
	for _, t := range b.engine.Types() {
		if b.wants(t.App) {
			b.resource(t)
		}
	}
	for _, e := range b.engine.Endpoints() {
		if b.wants(e.App) && !e.Hidden {
			b.endpoint(e)
		}
	}
	b.nameEnums(b.components == nil)
	order := slices.SortedFunc(maps.Keys(b.paths), func(x, y string) int { return strings.Compare(b.paths[x].sort, b.paths[y].sort) })
	ids := map[string]int{}
	for _, path := range order {
		var item mapping
		for _, method := range []string{"get", "post", "put", "patch", "delete"} {
			op := b.paths[path].operations[method]
			if op == nil {
				continue
			}
			id := op.get("operationId").(string)
			if ids[id]++; ids[id] > 1 && !b.bindings {
				op[0].value = id + "_" + strconv.Itoa(ids[id])
			}
			item.set(method, op)
		}
		paths.set(path, item)
	}
	for _, name := range slices.Sorted(maps.Keys(b.schemas)) {
		schemas.set(name, b.schemas[name])
	}
	if b.clashes != nil {
		err = fmt.Errorf("different schemas have the name %s", b.clashes[0])
	}
	return paths, schemas, err
}

func (b *builder) wants(app string) bool {
	return b.components == nil || slices.Contains(b.components, app)
}

// resource describes a type's operations.
func (b *builder) resource(t *rest.Type) {
	collection, object := placesOf(t)
	add := func(op operation) {
		op.id = cmp.Or(op.id, t.Ops[op.verb])
		b.add(&op)
	}
	requestName := cmp.Or(t.RequestSchema, t.Schema)
	if !t.NoList {
		add(operation{
			place: collection, method: "get", verb: "list", params: b.listParams(t),
			answers: []answer{{status: http.StatusOK, schema: b.page(t)}},
		})
	}
	if t.Creates() {
		made := b.taskAnswer()
		if status := t.CreateStatus; status != 0 || t.Create == rest.Now {
			made = answer{status: cmp.Or(status, http.StatusCreated), schema: b.answer(t, false)}
		}
		add(operation{
			place: collection, method: "post", verb: "create",
			body: b.define(requestName, request, t.Fields), answers: []answer{made},
		})
	}
	if !t.NoRead && !t.Generic() {
		add(operation{place: object, method: "get", verb: "read", answers: []answer{{status: http.StatusOK, schema: b.answer(t, true)}}})
	}
	if t.Update != rest.Off {
		answers := []answer{{status: http.StatusOK, schema: b.answer(t, false)}}
		if t.Update != rest.Now {
			answers = append(answers, b.taskAnswer())
		}
		add(operation{place: object, method: "put", verb: "update", body: b.define(requestName, request, t.Fields), answers: answers})
		add(operation{place: object, method: "patch", verb: "partial_update", body: b.define(requestName, patch, t.Fields), answers: answers})
	}
	if t.Delete != rest.Off {
		gone := answer{status: http.StatusNoContent}
		if t.Delete != rest.Now {
			gone = b.taskAnswer()
		}
		add(operation{place: object, method: "delete", verb: "delete", answers: []answer{gone}})
	}
	for i := range t.Actions {
		a := &t.Actions[i]
		at := object
		if a.Collection {
			at = collection
		}
		add(b.action(at.below(a.Segment()), a, t))
	}
	if t.HasLabels() {
		// As in Pulp: types of which nothing is made within a request are documented with another status here.
		status := http.StatusCreated
		if !t.Creates() || t.Create == rest.Task {
			status = http.StatusOK
		}
		set, unset, was := rest.FieldsOf(rest.SetLabel{}), rest.FieldsOf(rest.UnsetLabel{}), rest.FieldsOf(rest.UnsetLabelResponse{})
		add(operation{
			place: object.below("set_label"), method: "post", verb: "set_label", body: b.define("SetLabel", request, set),
			answers: []answer{{status: status, schema: b.define("SetLabel", response, set)}},
		})
		add(operation{
			place: object.below("unset_label"), method: "post", verb: "unset_label", body: b.define("UnsetLabel", request, unset),
			answers: []answer{{status: status, schema: b.define("UnsetLabel", response, was)}},
		})
	}
}

// placesOf returns the places of a type's collection and of its objects.
func placesOf(t *rest.Type) (collection, object place) {
	collection = place{path: t.Path + "/", base: cmp.Or(t.Name, opName(t.Path))}
	if p := t.Parent; p != nil {
		up, owner := placesOf(p)
		name, schema := p.ParentParam()
		collection.path = up.path + "{" + name + "}/" + t.Path + "/"
		collection.keys = append(slices.Clone(up.keys), pathParam(name, schema))
		collection.href, collection.object = owner.href+t.Path+"/", owner.object
		if t.Name == "" {
			collection.base = up.base + "_" + opName(t.Path)
		}
	}
	collection.tag = cmp.Or(t.Tag, tagOf(collection.path))
	object = collection
	name, schema := t.KeyParam()
	object.path += "{" + name + "}/"
	object.keys = append(slices.Clone(collection.keys), pathParam(name, schema))
	object.href, object.object = "{"+t.HrefParam()+"}", pathParam(t.HrefParam(), rest.Param{})
	return collection, object
}

// endpoint describes the operations of an endpoint.
func (b *builder) endpoint(e *rest.Endpoint) {
	at := place{path: e.Path, base: cmp.Or(e.Name, opName(e.Path)), tag: cmp.Or(e.Tag, tagOf(e.Path)), global: e.Global}
	for seg := range strings.SplitSeq(e.Path, "/") {
		if name, ok := strings.CutPrefix(seg, "{"); ok {
			at.keys = append(at.keys, pathParam(strings.TrimSuffix(name, "}"), rest.Param{}))
		}
	}
	for i := range e.Actions {
		op := b.action(at, &e.Actions[i], nil)
		b.add(&op)
	}
}

// action describes an action of a type, or of an endpoint if t is nil.
func (b *builder) action(at place, a *rest.Action, t *rest.Type) operation {
	method := strings.ToLower(cmp.Or(a.Method, http.MethodPost))
	op := operation{
		place: at, method: method, verb: cmp.Or(a.Name, method), id: a.OperationID,
		public: a.Public, deprecated: a.Deprecated,
	}
	if a.Request != nil {
		why := request
		if method == "patch" {
			why = patch
		}
		fields := rest.FieldsOf(a.Request)
		if t != nil && a.RequestSchema == t.Schema {
			fields = t.Fields
		}
		op.body = b.define(cmp.Or(a.RequestSchema, schemaName(a.Request)), why, fields)
	}
	for _, h := range a.Headers {
		op.params = append(op.params, param{name: h, in: "header", schema: str(), required: true})
	}
	for _, p := range a.Params {
		op.params = append(op.params, b.queryParam(p.Name, p.Param))
	}
	done := answer{status: http.StatusOK, media: a.Media}
	switch {
	case a.Task:
		done = b.taskAnswer()
	case a.Group:
		done = b.groupAnswer()
	case a.Response != nil:
		done.schema = b.define(cmp.Or(a.ResponseName, schemaName(a.Response)), response, rest.FieldsOf(a.Response))
	case a.ResponseName != "":
		done.schema = b.named(a.ResponseName, t)
	case a.Media != nil:
		done.schema = mapping{{"type", "object"}}
	}
	if method == "post" && done.status == http.StatusOK {
		done.status = http.StatusCreated
	}
	done.status = cmp.Or(a.Status, done.status)
	op.answers = []answer{done}
	if a.Conflict {
		done.status = http.StatusConflict
		op.answers = append(op.answers, done)
	}
	return op
}

// named finds the schema of an answer: that of the type which has it, or that of t under another name.
func (b *builder) named(name string, t *rest.Type) mapping {
	if other := b.answers[name]; other != nil {
		return b.answer(other, false)
	}
	return b.define(name, response, t.Fields)
}

// answer is the schema in which a type's objects are shown, on their own with detail.
func (b *builder) answer(t *rest.Type, detail bool) mapping {
	if t.DetailSchema == "" {
		return b.define(t.Schema, response, t.Fields)
	}
	if detail {
		return b.define(t.DetailSchema, response, t.Fields)
	}
	return b.define(t.Schema, response, slices.DeleteFunc(slices.Clone(t.Fields), func(f *rest.Field) bool { return f.Detail }))
}

// page is the schema of a list.
func (b *builder) page(t *rest.Type) mapping {
	item := b.answer(t, false)
	name := "Paginated" + responseName(t.Schema) + "List"
	link := mapping{{"type", "string"}, {"format", "uri"}, {"nullable", true}}
	b.schemas[name] = mapping{
		{"type", "object"},
		{"required", list("count", "results")},
		{"properties", mapping{{"count", mapping{{"type", "integer"}}}, {"next", link}, {"previous", link}, {"results", array(item)}}},
	}
	return ref(name)
}

func (b *builder) taskAnswer() answer  { return b.accepted("AsyncOperationResponse", "task") }
func (b *builder) groupAnswer() answer { return b.accepted("TaskGroupOperationResponse", "task_group") }

func (b *builder) accepted(schema, field string) answer {
	b.schemas[schema] = mapping{
		{"type", "object"},
		{"required", list(field)},
		{"properties", mapping{{field, mapping{{"type", "string"}, {"format", "uri"}}}}},
	}
	return answer{status: http.StatusAccepted, schema: ref(schema)}
}

var jsonMedia, formMedia = []string{"application/json"}, []string{"application/x-www-form-urlencoded", "multipart/form-data"}

func content(media []string, schema mapping) mapping {
	var c mapping
	for _, m := range media {
		c.set(m, mapping{{"schema", schema}})
	}
	return c
}

// add writes an operation down.
func (b *builder) add(op *operation) {
	id := op.id
	switch {
	case id != "":
	case b.bindings:
		id = op.verb
	default:
		id = op.base + "_" + op.verb
	}
	root, params := b.info.Root+"api/v3/", op.params
	if b.info.Domains && !op.global {
		root = b.info.Root + "{pulp_domain}/api/v3/"
	}
	path, sort := root+op.path, root+op.path
	if op.href != "" && !b.pkPath {
		path = op.href
		params = append(params, op.object)
	} else {
		params = append(params, op.keys...)
		if b.info.Domains && !op.global {
			p := pathParam("pulp_domain", rest.Param{})
			p.domain = true
			params = append(params, p)
		}
	}

	o := mapping{{"operationId", id}, {"parameters", describeParams(params, op.method == "get")}, {"tags", list(op.tag)}}
	if op.body != nil {
		media := formMedia
		if !b.hasFile(op.body) {
			media = append(slices.Clone(jsonMedia), formMedia...)
		}
		o.set("requestBody", mapping{{"content", content(media, op.body)}, {"required", true}})
	}
	if !op.public {
		_, security := b.info.schemes()
		o.set("security", security)
	}
	if op.deprecated {
		o.set("deprecated", true)
	}
	var answers mapping
	for _, a := range op.answers {
		r := mapping{}
		if a.schema != nil {
			media := a.media
			if media == nil {
				media = jsonMedia
			}
			r.set("content", content(media, a.schema))
		}
		r.set("description", "")
		answers.set(strconv.Itoa(a.status), r)
	}
	o.set("responses", answers)

	item := b.paths[path]
	if item == nil {
		item = &pathItem{sort: sort, operations: map[string]mapping{}}
		b.paths[path] = item
	}
	item.operations[op.method] = o
}

// hasFile says whether a file is among the fields of a schema, which JSON can't hold.
func (b *builder) hasFile(schema mapping) bool {
	name := strings.TrimPrefix(schema.get("$ref").(string), refPrefix)
	return slices.ContainsFunc(b.fields[name], func(f *rest.Field) bool { return f.Kind == rest.Upload })
}

// opName makes the first part of operation ids of a path.
func opName(path string) string {
	return strings.ReplaceAll(strings.Join(segments(path), "_"), "-", "_")
}

// tagOf makes the tag of a path: its first segment, and the others without the plugin's.
func tagOf(path string) string {
	segs := segments(path)
	for i, s := range segs {
		segs[i] = title(s)
	}
	switch len(segs) {
	case 1:
		return segs[0]
	case 2:
		return segs[0] + ": " + segs[1]
	}
	return segs[0] + ": " + strings.Join(segs[2:], " ")
}

// segments are the parts of a path that are no parameters.
func segments(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" || s[0] == '{' })
}

// title writes the first letter of every word large.
func title(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' && (i == 0 || !(s[i-1]|0x20 >= 'a' && s[i-1]|0x20 <= 'z')) {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}
