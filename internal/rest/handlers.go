package rest

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/task"
)

// scope is the condition that limits what a request sees: its domain, its parent, and what the type always hides.
func (t *Type) scope(ctx context.Context, r *Request) Cond {
	var list []Cond
	if t.where != "" {
		list = append(list, Cond{SQL: t.where})
	}
	c := pulp.CallOf(ctx)
	switch {
	case t.scoped != nil:
		list = append(list, t.scoped(ctx))
	case t.Parent != nil:
		if r.Parent != "" {
			if t.Parent.intKey() {
				n, _ := strconv.ParseInt(r.Parent, 10, 64)
				list = append(list, Cond{"m." + t.parentCol + " = ?", []any{n}})
			} else {
				id, _ := pulp.ParseID(r.Parent)
				list = append(list, Cond{"m." + t.parentCol + " = ?", []any{id}})
			}
		}
	case !t.global:
		list = append(list, Cond{"m.domain = ?", []any{c.Domain.ID}})
	}
	return And(list...)
}

// find loads the object that the URL names, as far as the request may see it.
func (t *Type) find(ctx context.Context, q db.Querier, r *Request) (reflect.Value, error) {
	return t.findWhere(ctx, q, r, Cond{})
}

func (t *Type) findWhere(ctx context.Context, q db.Querier, r *Request, filters Cond) (reflect.Value, error) {
	if err := t.checkParent(ctx, q, r); err != nil {
		return reflect.Value{}, err
	}
	visible, err := t.engine.auth.Visible(ctx, t)
	if err != nil {
		return reflect.Value{}, err
	}
	where, args := t.keyCondition(r.Key, "")
	c := And(Cond{where, args}, t.scope(ctx, r), visible, filters)
	return t.loadOne(ctx, q, "WHERE "+c.SQL, c.Args...)
}

// checkParent answers 404 where a nested URL's parent is not there, or is of another type.
func (t *Type) checkParent(ctx context.Context, q db.Querier, r *Request) error {
	if t.Parent == nil {
		return nil
	}
	where, args := t.Parent.keyCondition(r.Parent, "")
	c := And(Cond{where, args}, t.Parent.scope(ctx, &Request{}))
	ok, err := db.Exists(ctx, q, "SELECT 1"+t.Parent.queryFrom()+" WHERE "+c.SQL, c.Args...)
	if err == nil && !ok {
		err = t.Parent.notFound()
	}
	return err
}

func (t *Type) read(ctx context.Context, r *Request) (*Response, error) {
	// as Pulp does: filters hold for an object on its own as well
	filters, set, err := t.whereOf(ctx, t.engine.db, r.Query, r.params())
	if err != nil {
		return nil, err
	}
	v, err := t.findWhere(ctx, t.engine.db, r, And(filters, set.where("m."+t.keyField.Column)))
	if err != nil {
		return nil, err
	}
	sel := t.selected(r.Query)
	if sel == nil && t.brief != nil {
		sel = t.Fields
	}
	body, err := t.render(ctx, t.engine.db, v, sel)
	return OK(body), err
}

// params lists the query's parameters in their order.
func (r *Request) params() []string {
	if r.order == nil {
		for pair := range strings.SplitSeq(r.HTTP.URL.RawQuery, "&") {
			name, _, _ := strings.Cut(pair, "=")
			if n := unescape(name); n != "" && !slices.Contains(r.order, n) {
				r.order = append(r.order, n)
			}
		}
	}
	return r.order
}

const defaultLimit = 100

func pageNumber(query url.Values, name string, missing int64) int64 {
	values := query[name]
	if len(values) == 0 {
		return missing
	}
	n, err := strconv.ParseInt(strings.TrimSpace(values[len(values)-1]), 10, 64)
	if err != nil || n < 0 || n == 0 && name == "limit" {
		return missing
	}
	return min(n, math.MaxInt32)
}

func (t *Type) list(ctx context.Context, r *Request) (*Response, error) {
	q := t.engine.db
	filters, set, err := t.whereOf(ctx, q, r.Query, r.params())
	if err != nil {
		return nil, err
	}
	order, bad := t.orderOf(r.Query)
	if bad != nil {
		return nil, bad
	}
	if err := t.checkParent(ctx, q, r); err != nil {
		return nil, err
	}
	visible, err := t.engine.auth.Visible(ctx, t)
	if err != nil {
		return nil, err
	}
	filters = And(filters, visible)
	limit, offset := pageNumber(r.Query, "limit", defaultLimit), pageNumber(r.Query, "offset", 0)
	rows := t.rows(set, And(filters, t.scope(ctx, r)), order, limit, offset)
	first, err := rows.next(ctx)
	if err != nil {
		return nil, err
	}
	var count int64
	switch {
	case rows.ended && (rows.seen > 0 || offset == 0):
		count = offset + rows.seen
	case set != nil && set.Count != nil && filters.SQL == "":
		count, err = set.Count(ctx)
	default:
		count, err = rows.count(ctx)
	}
	if err != nil {
		return nil, err
	}
	sel := t.selected(r.Query)
	if t.brief != nil {
		sel = slices.DeleteFunc(sel, func(f *Field) bool { return f.Detail })
	}
	view := t.engine.view(ctx)
	b := t.pageHead(ctx, r, count, limit, offset)
	b, err = t.appendPage(ctx, b, view, first, sel, true)
	if err != nil {
		return nil, err
	}
	if rows.done() {
		return OK(append(b, "]}"...)), nil
	}
	return &Response{Status: http.StatusOK, Stream: func(w io.Writer) error {
		for empty := len(first) == 0; !rows.done(); {
			if _, err := w.Write(b); err != nil {
				return err
			}
			list, err := rows.next(ctx)
			if err != nil {
				return err
			}
			if b, err = t.appendPage(ctx, b[:0], view, list, sel, empty); err != nil {
				return err
			}
			empty = empty && len(list) == 0
		}
		_, err := w.Write(append(b, "]}"...))
		return err
	}}, nil
}

func (t *Type) appendPage(ctx context.Context, b []byte, view *View, rows []reflect.Value, sel selection, first bool) ([]byte, error) {
	if err := t.expandAll(ctx, t.engine.db, rows); err != nil {
		return nil, err
	}
	for i, v := range rows {
		if i > 0 || !first {
			b = append(b, ',')
		}
		b = t.append(b, view, v.Elem(), sel)
	}
	return b, nil
}

func (t *Type) pageHead(ctx context.Context, r *Request, count, limit, offset int64) []byte {
	link := func(b []byte, to int64) []byte {
		query := maps.Clone(r.Query)
		query.Set("limit", strconv.FormatInt(limit, 10))
		query.Set("offset", strconv.FormatInt(to, 10))
		if to <= 0 {
			query.Del("offset")
		}
		path, _, _ := strings.Cut(r.HTTP.RequestURI, "?")
		return appendString(b, pulp.CallOf(ctx).Origin+path+"?"+query.Encode())
	}
	b := append(make([]byte, 0, 4096), `{"count":`...)
	b = append(strconv.AppendInt(b, count, 10), `,"next":`...)
	if offset+limit < count {
		b = link(b, offset+limit)
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"previous":`...)
	if offset > 0 {
		b = link(b, offset-limit)
	} else {
		b = append(b, "null"...)
	}
	return append(b, `,"results":[`...)
}

// created answers 201 with an object.
func (t *Type) created(ctx context.Context, v reflect.Value) (*Response, error) {
	body, err := t.render(ctx, t.engine.db, v, nil)
	if err != nil {
		return nil, err
	}
	href := string(t.appendHref(nil, t.engine.view(ctx), v.Elem()))
	return &Response{Status: http.StatusCreated, Body: body, Header: http.Header{"Location": {strings.Trim(href, `"`)}}}, nil
}

// CreatedJSON answers 201 with an object, and its place.
func (t Typed[T]) CreatedJSON(ctx context.Context, v *T) (*Response, error) {
	return t.created(ctx, reflect.ValueOf(v))
}

func (t *Type) create(ctx context.Context, r *Request) (*Response, error) {
	if err := t.checkParent(ctx, t.engine.db, r); err != nil {
		return nil, err
	}
	if t.onCreate != nil {
		return t.onCreate(ctx, r)
	}
	doc, err := r.Body()
	if err != nil {
		return nil, err
	}
	if t.Create != Now {
		fresh, set, err := t.parse(ctx, t.engine.db, doc, reflect.Value{}, creating)
		if err != nil {
			return nil, err
		}
		if t.check != nil {
			if err := t.check(ctx, t.engine.db, reflect.Value{}, fresh, set); err != nil {
				return nil, err
			}
		}
		return t.engine.Dispatch(ctx, task.Spec{
			Name: taskCreate, Args: changeArgs{Type: t.Label, Doc: doc.Values, Form: doc.Form},
			Exclusive: t.exclusive(ctx, reflect.Value{}), Immediate: t.Create == Immediate,
		})
	}
	var fresh reflect.Value
	apply, err := t.prepareNew(ctx, doc)
	if err != nil {
		return nil, err
	}
	err = t.engine.db.Update(ctx, func(tx *db.Tx) error {
		fresh, err = t.build(ctx, tx, doc, apply)
		return err
	})
	if err != nil {
		return nil, t.refused(err)
	}
	return t.created(ctx, fresh)
}

// prepareNew runs the Prepare hook for a new object.
func (t *Type) prepareNew(ctx context.Context, doc *Document) (func(reflect.Value), error) {
	if t.ahead == nil {
		return nil, nil
	}
	fresh, set, err := t.parse(ctx, t.engine.db, doc, reflect.Value{}, creating)
	if err == nil && t.check != nil {
		err = t.check(ctx, t.engine.db, reflect.Value{}, fresh, set)
	}
	if err != nil {
		return nil, err
	}
	return t.ahead(ctx, reflect.Value{}, fresh, set)
}

// build makes a new object of a document, with all its rules. apply is what its Prepare hook returned, or nil.
func (t *Type) build(ctx context.Context, tx *db.Tx, doc *Document, apply func(reflect.Value)) (reflect.Value, error) {
	fresh, set, err := t.parse(ctx, tx, doc, reflect.Value{}, creating)
	if err != nil {
		return fresh, err
	}
	if t.check != nil {
		if err := t.check(ctx, tx, reflect.Value{}, fresh, set); err != nil {
			return fresh, err
		}
	}
	if apply != nil {
		apply(fresh)
	}
	return fresh, t.insertWhole(ctx, tx, fresh, set)
}

// insertWhole adds an object with all that comes with one.
func (t *Type) insertWhole(ctx context.Context, tx *db.Tx, fresh reflect.Value, set map[string]bool) error {
	if err := t.insert(ctx, tx, fresh); err != nil {
		return err
	}
	if t.saved != nil {
		if err := t.saved(ctx, tx, reflect.Value{}, fresh, set); err != nil {
			return err
		}
	}
	return t.engine.auth.Created(ctx, tx, t, t.ref(fresh.Elem()))
}

// refused turns a broken unique index, which only a race gets to, into the error that a check would have given.
func (t *Type) refused(err error) error {
	if db.IsUnique(err) {
		text, _, _ := strings.Cut(err.Error(), " in INSERT ") // the statement names all columns
		text, _, _ = strings.Cut(text, " in UPDATE ")
		for _, f := range t.Fields {
			if f.Unique && strings.Contains(text, f.Column) {
				return errs.Field(f.Name, msgUnique)
			}
		}
	}
	return err
}

// update returns the handler of PUT or PATCH.
func (t *Type) update(why purpose) func(ctx context.Context, r *Request) (*Response, error) {
	return func(ctx context.Context, r *Request) (*Response, error) {
		old, err := t.find(ctx, t.engine.db, r)
		if err == nil {
			err = t.complete(ctx, t.engine.db, old)
		}
		if err == nil && t.mayChange != nil {
			err = t.mayChange(ctx, t.engine.db, old)
		}
		if err != nil {
			return nil, err
		}
		doc, err := r.Body()
		if err != nil {
			return nil, err
		}
		fresh, set, err := t.parse(ctx, t.engine.db, doc, old, why)
		if err != nil {
			return nil, err
		}
		if t.check != nil {
			if err := t.check(ctx, t.engine.db, old, fresh, set); err != nil {
				return nil, err
			}
		}
		if t.same(old, fresh, set) {
			body, err := t.render(ctx, t.engine.db, old, nil)
			return OK(body), err
		}
		if t.Update != Now {
			return t.engine.Dispatch(ctx, task.Spec{
				Name: taskUpdate, Args: changeArgs{Type: t.Label, Key: r.Key, Doc: doc.Values, Form: doc.Form, Partial: why == patching},
				Exclusive: t.exclusive(ctx, old), Immediate: t.Update == Immediate,
			})
		}
		var apply func(reflect.Value)
		if t.ahead != nil {
			if apply, err = t.ahead(ctx, old, fresh, set); err != nil {
				return nil, err
			}
		}
		err = t.engine.db.Update(ctx, func(tx *db.Tx) error {
			fresh, err = t.change(ctx, tx, r.Key, doc, why, apply)
			return err
		})
		if err != nil {
			return nil, t.refused(err)
		}
		body, err := t.render(ctx, t.engine.db, fresh, nil)
		return OK(body), err
	}
}

// complete fills those of an object's computed fields that clients can set.
func (t *Type) complete(ctx context.Context, q db.Querier, v reflect.Value) error {
	if t.expand == nil || !slices.ContainsFunc(t.Fields, func(f *Field) bool { return f.input() && f.Column == "" && f.Kind != Upload }) {
		return nil
	}
	return t.expand(ctx, q, []reflect.Value{v})
}

// change applies a document to an object, with all its rules, against the object's state within the transaction. apply is what its
// Prepare hook returned, or nil.
func (t *Type) change(ctx context.Context, tx *db.Tx, key string, doc *Document, why purpose, apply func(reflect.Value)) (reflect.Value, error) {
	where, args := t.keyCondition(key, "")
	old, err := t.lockOne(ctx, tx, where, args...)
	if err == nil {
		err = t.complete(ctx, tx, old)
	}
	if err != nil {
		return old, err
	}
	fresh, set, err := t.parse(ctx, tx, doc, old, why)
	if err != nil {
		return fresh, err
	}
	if t.check != nil {
		if err := t.check(ctx, tx, old, fresh, set); err != nil {
			return fresh, err
		}
	}
	if apply != nil {
		apply(fresh)
	}
	if err := t.save(ctx, tx, fresh); err != nil {
		return fresh, err
	}
	if t.saved != nil {
		err = t.saved(ctx, tx, old, fresh, set)
	}
	return fresh, err
}

// same says whether nothing that clients can set differs. As in Pulp: a given relation to an object of a family, and a given list of
// what has rows of its own, always counts as different.
func (t *Type) same(a, b reflect.Value, set map[string]bool) bool {
	for _, f := range t.Fields {
		if !f.input() || f.Kind == Upload {
			continue
		}
		x, y := f.value(a.Elem()), f.value(b.Elem())
		if set[f.Name] && (f.Kind == Link && !y.IsZero() && t.engine.masterFamily(f.Family) || (f.Kind == Strings || f.Kind == Links) && f.Column == "") {
			return false
		}
		if k := x.Kind(); (k == reflect.Map || k == reflect.Slice) && x.Len() == 0 && y.Len() == 0 {
			continue
		}
		if !reflect.DeepEqual(x.Interface(), y.Interface()) {
			return false
		}
	}
	return true
}

func (e *Engine) masterFamily(name string) bool {
	f := e.families[name]
	return f != nil && f.Master
}

func (t *Type) destroy(ctx context.Context, r *Request) (*Response, error) {
	v, err := t.find(ctx, t.engine.db, r)
	if err != nil {
		return nil, err
	}
	if t.mayGo != nil {
		if err := t.mayGo(ctx, t.engine.db, v); err != nil {
			return nil, err
		}
	}
	if t.Delete != Now {
		return t.engine.Dispatch(ctx, task.Spec{
			Name: t.deleteTask, Args: changeArgs{Type: t.Label, Key: r.Key},
			Exclusive: t.exclusive(ctx, v), Immediate: t.Delete == Immediate,
		})
	}
	if err := t.engine.db.Update(ctx, func(tx *db.Tx) error { return t.erase(ctx, tx, v) }); err != nil {
		return nil, err
	}
	return NoContent(), nil
}

func (t *Type) erase(ctx context.Context, tx *db.Tx, v reflect.Value) error {
	if t.deleting != nil {
		if err := t.deleting(ctx, tx, v); err != nil {
			return err
		}
	}
	return t.remove(ctx, tx, v.Elem())
}

// The general tasks, by the names that clients know.
const (
	taskCreate      = "pulpcore.app.tasks.base.general_create"
	taskUpdate      = "pulpcore.app.tasks.base.ageneral_update"
	taskDelete      = "pulpcore.app.tasks.base.ageneral_delete"
	TaskMultiDelete = "pulpcore.app.tasks.base.general_multi_delete"
)

// changeArgs are the arguments of the general tasks. The document is kept as the client sent it; it was
// checked before the task was dispatched, and is again when it runs.
type changeArgs struct {
	Type    string         `json:"type"`
	Key     string         `json:"key,omitempty"`
	Doc     map[string]any `json:"doc,omitempty"`
	Form    bool           `json:"form,omitempty"`
	Partial bool           `json:"partial,omitempty"`
}

// Kinds returns the general tasks: create, update and delete of any type.
func (e *Engine) Kinds() []task.Kind {
	run := func(f func(ctx context.Context, j *task.Job, t *Type, a changeArgs) (any, error)) func(context.Context, *task.Job) (any, error) {
		return func(ctx context.Context, j *task.Job) (any, error) {
			var raw json.RawMessage
			if err := j.Args(&raw); err != nil {
				return nil, err
			}
			var a changeArgs
			dec := json.NewDecoder(strings.NewReader(string(raw)))
			dec.UseNumber()
			if err := dec.Decode(&a); err != nil {
				return nil, err
			}
			t := e.byLabel[a.Type]
			if t == nil {
				return nil, errs.Ef(errs.Invalid, "There is no type %s here.", a.Type)
			}
			return f(ctx, j, t, a)
		}
	}
	create := func(ctx context.Context, j *task.Job, t *Type, a changeArgs) (any, error) {
		var fresh reflect.Value
		if t.inTask != nil {
			fresh, set, err := t.parse(ctx, e.db, &Document{Values: a.Doc, Form: a.Form, inner: true}, fresh, creating)
			if err == nil && t.check != nil {
				err = t.check(ctx, e.db, reflect.Value{}, fresh, set)
			}
			if err != nil {
				return nil, err
			}
			return t.inTask(ctx, j, fresh)
		}
		err := e.db.Update(ctx, func(tx *db.Tx) (err error) {
			if fresh, err = t.build(ctx, tx, &Document{Values: a.Doc, Form: a.Form}, nil); err != nil {
				return err
			}
			return j.Created(ctx, tx, t.ref(fresh.Elem()))
		})
		if err != nil {
			return nil, t.refused(err)
		}
		body, err := t.render(ctx, e.db, fresh, nil)
		return json.RawMessage(body), err
	}
	update := func(ctx context.Context, j *task.Job, t *Type, a changeArgs) (any, error) {
		why := replacing
		if a.Partial {
			why = patching
		}
		var fresh reflect.Value
		err := e.db.Update(ctx, func(tx *db.Tx) (err error) {
			if err := j.Fence(ctx, tx); err != nil {
				return err
			}
			fresh, err = t.change(ctx, tx, a.Key, &Document{Values: a.Doc, Form: a.Form}, why, nil)
			return err
		})
		if err != nil {
			return nil, t.refused(err)
		}
		body, err := t.render(ctx, e.db, fresh, nil)
		return json.RawMessage(body), err
	}
	remove := func(ctx context.Context, j *task.Job, t *Type, a changeArgs) (any, error) {
		return nil, e.db.Update(ctx, func(tx *db.Tx) error {
			if err := j.Fence(ctx, tx); err != nil {
				return err
			}
			where, args := t.keyCondition(a.Key, "")
			v, err := t.loadOne(ctx, tx, "WHERE "+where, args...)
			if err != nil {
				return err
			}
			return t.erase(ctx, tx, v)
		})
	}
	return []task.Kind{{Name: taskCreate, Run: run(create)}, {Name: taskUpdate, Run: run(update)}, {Name: taskDelete, Run: run(remove)}, {Name: TaskMultiDelete, Run: e.multiDelete(run(remove))}}
}

// A SetLabel is the body of set_label and its answer.
type SetLabel struct {
	Key   string  `api:"key,req,slug"`
	Value *string `api:"value,req,null,blank"`
}

// An UnsetLabel is the body of unset_label.
type UnsetLabel struct {
	Key string `api:"key,req,slug"`
}

// An UnsetLabelResponse tells what a label was.
type UnsetLabelResponse struct {
	Key   string  `api:"key,req,slug"`
	Value *string `api:"value,ro"`
}

func (t *Type) setLabel(ctx context.Context, r *Request) (*Response, error) {
	var in SetLabel
	v, err := t.find(ctx, t.engine.db, r)
	if err != nil {
		return nil, err
	}
	if err := r.DecodeLax(&in); err != nil {
		return nil, err
	}
	err = t.engine.db.Update(ctx, func(tx *db.Tx) error {
		return t.relabel(ctx, tx, v, func(l Labels) error { l[in.Key] = in.Value; return nil })
	})
	if err != nil {
		return nil, err
	}
	return t.engine.JSON(ctx, http.StatusCreated, in)
}

func (t *Type) unsetLabel(ctx context.Context, r *Request) (*Response, error) {
	var in UnsetLabel
	v, err := t.find(ctx, t.engine.db, r)
	if err != nil {
		return nil, err
	}
	if err := r.DecodeLax(&in); err != nil {
		return nil, err
	}
	out := UnsetLabelResponse{Key: in.Key}
	err = t.engine.db.Update(ctx, func(tx *db.Tx) error {
		return t.relabel(ctx, tx, v, func(l Labels) error {
			old, ok := l[in.Key]
			if !ok {
				return errs.Field("key", "Label '"+in.Key+"' is not set on the object.")
			}
			out.Value = old
			delete(l, in.Key)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return t.engine.JSON(ctx, http.StatusCreated, out)
}

// relabel changes an object's labels and nothing else, not even the time of its last change.
func (t *Type) relabel(ctx context.Context, tx *db.Tx, v reflect.Value, change func(Labels) error) error {
	key := t.keyOf(v.Elem())
	current, err := t.lockOne(ctx, tx, "m."+t.keyField.Column+" = ?", key)
	if err != nil {
		return err
	}
	labels := t.labels.value(current.Elem()).Interface().(Labels)
	if labels == nil {
		labels = Labels{}
	}
	if err := change(labels); err != nil {
		return err
	}
	text, err := json.Marshal(labels)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "UPDATE "+t.mainTable()+" SET labels = ? WHERE id = ?", string(text), key); err != nil {
		return err
	}
	return setLabels(ctx, tx, key.(pulp.ID), labels)
}
