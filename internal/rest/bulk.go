package rest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"granary/internal/db"
	"granary/internal/pulp"
)

// InsertAll is [Typed.InsertMany] for code that has no T: list holds pointers to the type's struct.
func (t *Type) InsertAll(ctx context.Context, tx *db.Tx, list []any, onConflict string) error {
	values := make([]reflect.Value, len(list))
	for i, v := range list {
		values[i] = reflect.ValueOf(v)
	}
	return t.insertMany(ctx, tx, values, onConflict)
}

// ID returns the key of an object, given as a pointer to the type's struct.
func (t *Type) ID(v any) pulp.ID {
	id, _ := t.keyOf(reflect.ValueOf(v).Elem()).(pulp.ID)
	return id
}

// A NaturalKey reads the columns by which a type's objects are told apart, from structs and from rows.
type NaturalKey struct {
	t      *Type
	fields []*Field
}

// A KeyValue is the natural key of one object.
type KeyValue struct {
	Text string // the same for equal keys
	Args []any  // the columns' values, for queries
}

// NaturalKey returns the key of these columns. It panics where the type has no such column.
func (t *Type) NaturalKey(columns ...string) *NaturalKey {
	k := &NaturalKey{t: t}
	for _, c := range columns {
		f := t.ownColumn(c)
		if f == nil {
			panic(t.Model + " has no column " + c)
		}
		k.fields = append(k.fields, f)
	}
	return k
}

// ownColumn returns the field of a column of the type's own table.
func (t *Type) ownColumn(name string) *Field {
	for _, f := range t.columns {
		if f.Column == name && !(t.split() && f.Master) {
			return f
		}
	}
	return nil
}

// Of returns the key of an object, given as a pointer to the type's struct.
func (k *NaturalKey) Of(v any) (KeyValue, error) { return k.of(reflect.ValueOf(v).Elem()) }

func (k *NaturalKey) of(v reflect.Value) (KeyValue, error) {
	key := KeyValue{Args: make([]any, len(k.fields))}
	var b strings.Builder
	for i, f := range k.fields {
		// the driver's form, since what is written and what is read may differ in type
		arg, err := driver.DefaultParameterConverter.ConvertValue(k.t.stored(f, v))
		if err != nil {
			return KeyValue{}, fmt.Errorf("column %s of %s: %w", f.Column, k.t.Label, err)
		}
		key.Args[i] = arg
		if raw, ok := arg.([]byte); ok {
			arg = string(raw)
		}
		text := fmt.Sprint(arg)
		b.WriteString(strconv.Itoa(len(text)) + ":" + text)
	}
	key.Text = b.String()
	return key, nil
}

// Scan reads a row whose last columns are the key's, and those before into dest.
func (k *NaturalKey) Scan(rows *sql.Rows, dest ...any) (KeyValue, error) {
	v := reflect.New(k.t.model).Elem()
	for _, f := range k.fields {
		dest = append(dest, k.t.column(f, v))
	}
	if err := rows.Scan(dest...); err != nil {
		return KeyValue{}, err
	}
	return k.of(v)
}
