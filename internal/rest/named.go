package rest

import (
	"context"
	"encoding/json"
	"fmt"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/task"
)

// What follows is for parts of the server that work on objects of types that they know by their declaration only. Values
// are given as a request would give them: texts, json.Number, bool, nil, lists and maps; objects by href or PRN.

// Make makes an object of such values, with all of the type's rules.
func (t *Type) Make(ctx context.Context, tx *db.Tx, values map[string]any) (pulp.Ref, error) {
	fresh, err := t.build(ctx, tx, &Document{Values: values}, nil)
	if err != nil {
		return pulp.Ref{}, t.refused(err)
	}
	return t.ref(fresh.Elem()), nil
}

// Alters says whether a PATCH with such values would change an object of the call's domain.
func (t *Type) Alters(ctx context.Context, q db.Querier, id pulp.ID, values map[string]any) (bool, error) {
	old, err := t.loadOne(ctx, q, "WHERE m."+t.keyField.Column+" = ?", id)
	if err == nil {
		err = t.complete(ctx, q, old)
	}
	if err != nil {
		return false, err
	}
	fresh, _, err := t.parse(ctx, q, &Document{Values: values}, old, patching)
	if err != nil {
		return false, err
	}
	return !t.same(old, fresh, nil), nil
}

// CreateSpec is the general task that makes an object of such values. The caller adds what it locks.
func (t *Type) CreateSpec(values map[string]any) task.Spec {
	return task.Spec{Name: taskCreate, Args: changeArgs{Type: t.Label, Doc: values}}
}

// UpdateSpec is the general task that changes an object as a PATCH with such values would. The caller adds what it locks.
func (t *Type) UpdateSpec(id pulp.ID, values map[string]any) task.Spec {
	return task.Spec{Name: taskUpdate, Args: changeArgs{Type: t.Label, Key: id.String(), Doc: values, Partial: true}}
}

// CheckQ says what is wrong with a q expression for the list at a path; empty where nothing is. Values are not looked at:
// they may be another server's. Some filters of the list may be left out.
func (e *Engine) CheckQ(path, expr string, without ...string) string {
	if expr == "null" {
		return ""
	}
	node, err := parseQ(expr)
	switch {
	case err != nil:
		return err.Error()
	case node.cost() > maxQ:
		return msgComplex
	}
	return node.wrongName(e.byPath[path], without...)
}

// deleteArgs are the arguments of the task that deletes many objects.
type deleteArgs struct {
	Objects []pulp.Ref `json:"objects"`
}

// DeleteSpec is the general task that deletes objects one after the other; those that are gone already are passed over.
// The caller adds what it locks.
func (e *Engine) DeleteSpec(objects []pulp.Ref) task.Spec {
	return task.Spec{Name: TaskMultiDelete, Args: deleteArgs{objects}}
}

func (e *Engine) deleteMany(ctx context.Context, j *task.Job) (any, error) {
	var a deleteArgs
	if err := j.Args(&a); err != nil {
		return nil, err
	}
	for _, r := range a.Objects {
		t := e.byLabel[r.Type]
		if t == nil {
			return nil, errs.Ef(errs.Invalid, "There is no type %s here.", r.Type)
		}
		err := e.db.Update(ctx, func(tx *db.Tx) error {
			if err := j.Fence(ctx, tx); err != nil {
				return err
			}
			v, err := t.loadOne(ctx, tx, "WHERE m."+t.keyField.Column+" = ?", r.ID())
			if errs.Is(err, errs.NotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			return t.erase(ctx, tx, v)
		})
		if err != nil {
			return nil, fmt.Errorf("delete %s: %w", r.PRN(), err)
		}
	}
	return nil, nil
}

// multiDelete is the task for one object, with one's arguments, and for many.
func (e *Engine) multiDelete(one func(context.Context, *task.Job) (any, error)) func(context.Context, *task.Job) (any, error) {
	return func(ctx context.Context, j *task.Job) (any, error) {
		var which map[string]json.RawMessage
		if err := j.Args(&which); err != nil {
			return nil, err
		}
		if _, many := which["objects"]; many {
			return e.deleteMany(ctx, j)
		}
		return one(ctx, j)
	}
}

// A SealedColumn is a column whose values are encrypted.
type SealedColumn struct {
	Model  string // the class of a type that has it, as clients know it
	Field  string // as clients know it
	Table  string // with the key in the column id
	Column string
}

// SealedColumns lists the columns of the declared types that are encrypted, each once.
func (e *Engine) SealedColumns() []SealedColumn {
	var list []SealedColumn
	seen := map[[2]string]bool{}
	for _, t := range e.types {
		for _, f := range t.columns {
			table := t.mainTable()
			if t.split() && !f.Master {
				table = t.table
			}
			if !f.Sealed || seen[[2]string{table, f.Column}] {
				continue
			}
			seen[[2]string{table, f.Column}] = true
			list = append(list, SealedColumn{Model: t.Model, Field: f.Name, Table: table, Column: f.Column})
		}
	}
	return list
}
