package access

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/rest"
)

// maxPolicy is how long each of a policy's parts may be as JSON.
const maxPolicy = 256 << 10

// A Record is an access policy as clients see it.
type Record struct {
	rest.Global
	Assignment objects `api:"permissions_assignment" db:"-"` // what the hooks were called once
	Hooks      objects `api:"creation_hooks"`
	Statements objects `api:"statements,req"`
	Viewset    string  `api:"viewset_name,ro"`
	Customized bool    `api:"customized,ro"`
	Scoping    object  `api:"queryset_scoping"`
}

func (a *Access) defineRecords() rest.Typed[Record] {
	return rest.Define(rest.Resource[Record]{
		App: "core", Model: "AccessPolicy", Path: "access_policies", Table: "core_accesspolicy", Update: rest.Now, Global: true,
		Filters:  append(rest.Text("viewset_name", "m.viewset_name", rest.NameLookups...), rest.Flag("customized", "m.customized")),
		Ordering: []string{"creation_hooks", "customized", "pk", "pulp_created", "pulp_id", "pulp_last_updated", "queryset_scoping", "statements", "viewset_name"},
		Checks: map[string]func(*Record) []string{
			"permissions_assignment": func(r *Record) []string { return tooLong(r.Assignment) },
			"creation_hooks":         func(r *Record) []string { return tooLong(r.Hooks) },
			"statements":             func(r *Record) []string { return tooLong(r.Statements) },
			"queryset_scoping":       func(r *Record) []string { return tooLong(r.Scoping) },
		},
		Check: func(_ context.Context, _ db.Querier, c *rest.Change[Record]) error {
			if c.Set["permissions_assignment"] && !c.Set["creation_hooks"] {
				c.New.Hooks = c.New.Assignment
			}
			c.New.Customized = true
			return nil
		},
		Saved: func(_ context.Context, tx *db.Tx, _ *rest.Change[Record]) error { a.changed(tx); return nil },
		Expand: func(_ context.Context, _ db.Querier, list []*Record) error {
			for _, r := range list {
				r.Assignment = r.Hooks
			}
			return nil
		},
		Actions: []rest.Action{{Name: "reset", ResponseName: "AccessPolicyResponse", Status: http.StatusOK, Handle: a.reset}},
	})
}

func tooLong(v any) []string {
	if b, err := json.Marshal(v); err != nil || len(b) > maxPolicy {
		return []string{fmt.Sprintf("Ensure this field has no more than %d characters.", maxPolicy)}
	}
	return nil
}

// reset makes a policy what is shipped, or what the settings want.
func (a *Access) reset(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := a.records.Object(ctx, r)
	if err != nil {
		return nil, err
	}
	p, ok, err := a.defaultPolicy(v.Viewset)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errs.E(errs.NotFound, "There is no default for "+v.Viewset+".")
	}
	parts := p.compact()
	err = a.DB.Update(ctx, func(tx *db.Tx) error {
		a.changed(tx)
		_, err := tx.Exec(ctx, "UPDATE core_accesspolicy SET updated = ?, statements = ?, creation_hooks = ?, queryset_scoping = ?, customized = ? WHERE id = ?",
			a.Now.Now(), parts[0], parts[1], parts[2], false, v.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	if v, err = a.records.Get(ctx, a.DB, v.ID); err != nil {
		return nil, err
	}
	body, err := a.records.JSON(ctx, a.DB, v)
	return rest.OK(body), err
}

// objects is a list of JSON objects.
type objects []object

// AppendAPI writes them.
func (l objects) AppendAPI(b []byte, _ *rest.View) []byte { return appendPlain(b, l) }

// An object is one of JSON, whatever is in it. Its keys are written as Pulp's database orders them: the short ones first.
type object map[string]any

// AppendAPI writes it.
func (o object) AppendAPI(b []byte, _ *rest.View) []byte { return appendPlain(b, o) }

// MarshalJSON writes the keys in their order.
func (o object) MarshalJSON() ([]byte, error) {
	if o == nil {
		return []byte("null"), nil
	}
	return appendOrdered(nil, map[string]any(o)), nil
}

// UnmarshalJSON keeps numbers as they are written.
func (o *object) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode((*map[string]any)(o))
}

// appendPlain writes JSON without escaping <, > and &.
func appendPlain(b []byte, v any) []byte {
	switch v := v.(type) {
	case object:
		if v == nil {
			return append(b, "null"...)
		}
		return appendOrdered(b, map[string]any(v))
	case objects:
		if v == nil {
			return append(b, "null"...)
		}
		list := make([]any, len(v))
		for i, o := range v {
			list[i] = map[string]any(o)
		}
		return appendOrdered(b, list)
	}
	return append(b, "null"...)
}

func appendOrdered(b []byte, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		b = append(b, '{')
		for i, k := range slices.SortedFunc(maps.Keys(v), func(x, y string) int { return cmp.Or(len(x)-len(y), cmp.Compare(x, y)) }) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendOrdered(b, k), ':')
			b = appendOrdered(b, v[k])
		}
		return append(b, '}')
	case []any:
		b = append(b, '[')
		for i, it := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendOrdered(b, it)
		}
		return append(b, ']')
	}
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return append(b, "null"...)
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}
