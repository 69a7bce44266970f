package rest

import (
	"context"

	"granary/internal/db"
	"granary/internal/pulp"
)

// Resolve reads what a client calls an object of any type: an href, a PRN or a URL. problem says what is wrong with its form, in the
// words that clients know. exists says whether there is such an object; without one, only Found.Type is set, and Found.Ref
// for what is not nested.
func (e *Engine) Resolve(ctx context.Context, q db.Querier, s string) (f Found, exists bool, problem string, err error) {
	r, problem := e.parseRef(pulp.CallOf(ctx), s)
	switch {
	case problem == noMatch:
		return f, false, "URI not valid: " + s, nil
	case problem != "":
		return f, false, problem, nil
	}
	found, missing, err := e.lookup(ctx, q, r)
	if err != nil || missing == "" {
		return found, err == nil, "", err
	}
	f.Type = r.typ
	if r.typ != nil && r.typ.Parent == nil {
		f.Ref = pulp.Ref{Type: r.typ.Label, Key: r.key}
	}
	return f, false, "", nil
}

// LinkWhere returns the filter of a condition about an object of a family, for whose key the ? in it stands.
func LinkWhere(name, family, sql string) Filter {
	return Filter{Name: name, Param: Param{Type: "string", Format: "uuid"}, Where: func(ctx context.Context, f *Filtering, v string) (Cond, error) {
		c, err := linkCond(ctx, f, "", family, v, false)
		return Cond{sql, c.Args}, err
	}}
}
