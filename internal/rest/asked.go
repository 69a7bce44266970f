package rest

import (
	"context"
	"reflect"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// Viewset is the name under which access policies know what was asked for, as "repositories/file/file"; see [Type.Viewset].
func (r *Request) Viewset() string { return r.viewset }

// PolicyAction is the action's name in access policies: what has no name in the URL goes by its method.
func (r *Request) PolicyAction() string {
	if r.op == nil || r.op.typ == nil || r.op.declared == nil || r.op.declared.Segment() != "" {
		return r.Action
	}
	return map[string]string{"PUT": "update", "PATCH": "partial_update", "DELETE": "destroy"}[r.op.declared.method()]
}

// Object finds the object that the URL names, as far as the caller sees it: the type's 404 otherwise. ok is false where the URL names none.
func (r *Request) Object(ctx context.Context) (f Found, ok bool, err error) {
	if r.Type == nil || r.Key == "" {
		return Found{}, false, nil
	}
	if err := r.Type.checkKeys(r); err != nil {
		return Found{}, false, err
	}
	v, err := r.Type.find(ctx, r.engine.db, r)
	if err != nil {
		return Found{}, false, err
	}
	return r.Type.found(v), true, nil
}

// ParentObject is Object for the parent of a nested URL, whether the caller sees it or not.
func (r *Request) ParentObject(ctx context.Context) (f Found, ok bool, err error) {
	if r.Type == nil || r.Parent == "" {
		return Found{}, false, nil
	}
	if err := r.Type.checkKeys(r); err != nil {
		return Found{}, false, err
	}
	parent := r.Type.Parent
	where, args := parent.keyCondition(r.Parent, "")
	c := And(Cond{where, args}, parent.scope(ctx, &Request{}))
	v, err := parent.loadOne(ctx, r.engine.db, "WHERE "+c.SQL, c.Args...)
	if err != nil {
		return Found{}, false, err
	}
	return parent.found(v), true, nil
}

func (t *Type) found(v reflect.Value) Found {
	f := Found{Ref: t.ref(v.Elem()), Type: t.rowType(v.Elem())}
	f.ID, _ = t.keyOf(v.Elem()).(pulp.ID)
	return f
}

// Param finds the object that a field of the request's body names. given is false where the body names none. A body that the operation
// would refuse is refused here.
func (r *Request) Param(ctx context.Context, name string) (f Found, given bool, err error) {
	if r.op == nil {
		return Found{}, false, nil
	}
	v, fields, set, err := r.body(ctx)
	if err != nil {
		return Found{}, false, err
	}
	for _, field := range fields {
		if field.Name != name || field.Kind != Link {
			continue
		}
		value := field.value(v)
		if set != nil && !set[name] || value.IsZero() {
			break
		}
		f, err = r.engine.Identified(ctx, r.engine.db, field.Family, value.Interface().(pulp.ID))
		return f, err == nil, err
	}
	return Found{}, false, nil
}

// body reads the request's body as its operation will. set is nil where what was not given is zero.
func (r *Request) body(ctx context.Context) (v reflect.Value, fields []*Field, set map[string]bool, err error) {
	doc, err := r.Body()
	if err != nil {
		return v, nil, nil, err
	}
	e, t := r.engine, r.Type
	if a := r.op.declared; a != nil {
		if a.Request == nil {
			return v, nil, nil, nil
		}
		in := reflect.New(reflect.TypeOf(a.Request))
		err = e.decode(ctx, doc, in.Interface(), a.Lax)
		return in.Elem(), e.structFields(in.Elem().Type()), nil, err
	}
	var old reflect.Value
	why := creating
	switch r.Action {
	case "create":
	case "update", "partial_update":
		if why = replacing; r.Action == "partial_update" {
			why = patching
		}
		if old, err = t.find(ctx, e.db, r); err == nil {
			err = t.complete(ctx, e.db, old)
		}
	default:
		return v, nil, nil, nil
	}
	if err != nil {
		return v, nil, nil, err
	}
	fresh, set, err := t.parse(ctx, e.db, doc, old, why)
	return fresh.Elem(), t.Fields, set, err
}

// Identified names the object of a family (or of a type on its own) that has an id; errs.NotFound where it is gone.
func (e *Engine) Identified(ctx context.Context, q db.Querier, family string, id pulp.ID) (Found, error) {
	if t := e.byLabel[family]; t != nil {
		return Found{Ref: pulp.RefTo(t.Label, id), ID: id, Type: t}, nil
	}
	f := e.families[family]
	if f == nil || f.Identify == "" {
		return Found{}, errs.Ef(errs.NotFound, "There is no %s here.", family)
	}
	if err := e.identify(ctx, q, f, []pulp.ID{id}); err != nil {
		return Found{}, err
	}
	i, ok := e.idents.get(id)
	if !ok {
		return Found{}, errs.Ef(errs.NotFound, "There is no %s %s.", family, id)
	}
	return Found{Ref: pulp.RefTo(i.typ.Label, id), ID: id, Type: i.typ}, nil
}
