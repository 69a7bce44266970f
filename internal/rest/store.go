package rest

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/keyring"
	"granary/internal/pulp"
)

// sealed scans and stores a secret: clear in the struct, encrypted in the row. The struct's field is
// *string, or anything that JSON can hold.
type sealed struct {
	keys keyring.Keys
	dest reflect.Value
}

func (s sealed) Scan(src any) error {
	s.dest.SetZero()
	var token string
	switch v := src.(type) {
	case nil:
		return nil
	case string:
		token = v
	case []byte:
		token = string(v)
	default:
		return fmt.Errorf("scan %T as a secret", src)
	}
	text, err := s.keys.Decrypt(token)
	if err != nil {
		return err
	}
	if s.dest.Type() == reflect.TypeFor[*string]() {
		s.dest.Set(reflect.ValueOf(&text))
		return nil
	}
	return json.Unmarshal([]byte(text), s.dest.Addr().Interface())
}

func (s sealed) Value() (driver.Value, error) {
	if k := s.dest.Kind(); (k == reflect.Pointer || k == reflect.Slice || k == reflect.Map) && s.dest.IsNil() {
		return nil, nil
	}
	if p, ok := s.dest.Interface().(*string); ok {
		return s.keys.Encrypt(*p)
	}
	b, err := json.Marshal(s.dest.Interface())
	if err != nil {
		return nil, err
	}
	return s.keys.Encrypt(string(b))
}

// asJSON scans and stores a structure as JSON text; a nil one is NULL.
type asJSON struct{ dest reflect.Value }

func (j asJSON) Scan(src any) error {
	j.dest.SetZero()
	switch v := src.(type) {
	case nil:
		return nil
	case string:
		return json.Unmarshal([]byte(v), j.dest.Addr().Interface())
	case []byte:
		return json.Unmarshal(v, j.dest.Addr().Interface())
	}
	return fmt.Errorf("scan %T as JSON", src)
}

func (j asJSON) Value() (driver.Value, error) {
	switch j.dest.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		if j.dest.IsNil() {
			if j.dest.Type() == reflect.TypeFor[Labels]() {
				return "{}", nil
			}
			return nil, nil
		}
	}
	b, err := json.Marshal(j.dest.Interface())
	return string(b), err
}

// column returns what the field is scanned into and stored from.
func (t *Type) column(f *Field, v reflect.Value) any {
	fv := f.value(v)
	switch {
	case f.Sealed:
		return sealed{t.engine.keys, fv}
	case f.Kind == JSON, f.Kind == Strings, f.Kind == LabelMap:
		return asJSON{fv}
	}
	return fv.Addr().Interface()
}

// stored returns the field's value for an INSERT or UPDATE.
func (t *Type) stored(f *Field, v reflect.Value) any {
	switch c := t.column(f, v).(type) {
	case sealed, asJSON:
		return c
	}
	return f.value(v).Interface()
}

// split says whether the type has a table of its own beside its family's.
func (t *Type) split() bool { return t.family != nil && t.family.Master && t.table != "" }

// queryFrom returns FROM and JOIN of a query over the type's rows: m is the master table (or the only one), d the detail table.
func (t *Type) queryFrom() string {
	if t.split() {
		return " FROM " + t.family.Table + " m" + t.detail()
	}
	if t.table == "" {
		return " FROM " + t.family.Table + " m"
	}
	return " FROM " + t.table + " m"
}

// detail joins the type's own table.
func (t *Type) detail() string { return " JOIN " + t.table + " d ON d.id = m.id" }

// joined is queryFrom with a set's table before it.
func (t *Type) joined(s *Set) string {
	from := " FROM " + s.From + " JOIN " + t.mainTable() + " m ON m." + t.keyField.Column + " = " + s.Key
	if t.split() {
		from += t.detail()
	}
	return from
}

// undetailed leaves the type's own table out where a condition does not look into it: the family's says what is of the type.
func (t *Type) undetailed(from, where string) string {
	if t.split() && !strings.Contains(where, "d.") {
		return strings.TrimSuffix(from, t.detail())
	}
	return from
}

func (t *Type) columnName(f *Field) string {
	if t.split() && !f.Master {
		return "d." + f.Column
	}
	return "m." + f.Column
}

// load runs a query over the type's rows and returns pointers to new structs. tail is all after FROM … JOIN.
func (t *Type) load(ctx context.Context, q db.Querier, tail string, args ...any) (list []reflect.Value, err error) {
	return t.loadFrom(ctx, q, t.queryFrom(), tail, args...)
}

func (t *Type) loadFrom(ctx context.Context, q db.Querier, from, tail string, args ...any) (list []reflect.Value, err error) {
	rows, err := q.Query(ctx, t.selectSQL+from+" "+tail, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	dest := make([]any, len(t.columns))
	for rows.Next() {
		p := reflect.New(t.model)
		for i, f := range t.columns {
			dest[i] = t.column(f, p.Elem())
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, fmt.Errorf("read %s: %w", t.Label, err)
		}
		list = append(list, p)
	}
	return list, rows.Err()
}

// loadOne is load for a query that gives one row; where it gives none the error is the type's 404.
func (t *Type) loadOne(ctx context.Context, q db.Querier, tail string, args ...any) (reflect.Value, error) {
	list, err := t.load(ctx, q, tail, args...)
	if err == nil && len(list) == 0 {
		err = errs.NotFoundModel(t.Model)
	}
	if err != nil {
		return reflect.Value{}, err
	}
	return list[0], nil
}

// lockOne is loadOne for an object that the transaction is going to change: nobody else changes it meanwhile.
func (t *Type) lockOne(ctx context.Context, tx *db.Tx, where string, args ...any) (reflect.Value, error) {
	tail := "WHERE " + where
	if tx.Engine() == db.PostgreSQL {
		tail += " FOR NO KEY UPDATE"
	}
	return t.loadOne(ctx, tx, tail, args...)
}

// insert adds the object's rows. It fills the key and the times where they are zero.
func (t *Type) insert(ctx context.Context, tx *db.Tx, p reflect.Value) error {
	if key := t.keyField.value(p.Elem()); key.Kind() == reflect.Int64 && key.IsZero() {
		t.prepare(ctx, p.Elem())
		columns, args := t.row(p.Elem(), true)
		marks, _ := db.In(args)
		id, err := db.Value[int64](ctx, tx, "INSERT INTO "+t.table+" ("+strings.Join(columns, ", ")+") VALUES "+marks+" RETURNING "+t.keyField.Column, args...)
		key.SetInt(id)
		return err
	}
	return t.insertMany(ctx, tx, []reflect.Value{p}, "")
}

// insertMany adds many objects' rows. onConflict ends the statement for the type's own table.
func (t *Type) insertMany(ctx context.Context, tx *db.Tx, list []reflect.Value, onConflict string) error {
	if len(list) == 0 {
		return nil
	}
	main, detail := make([][]any, len(list)), make([][]any, len(list))
	var mainColumns, detailColumns []string
	for i, p := range list {
		t.prepare(ctx, p.Elem())
		mainColumns, main[i] = t.row(p.Elem(), true)
		if t.split() {
			detailColumns, detail[i] = t.row(p.Elem(), false)
		}
	}
	mainConflict := ""
	if !t.split() {
		mainConflict = onConflict
	}
	if _, err := tx.Insert(ctx, t.mainTable(), mainColumns, main, mainConflict); err != nil {
		return err
	}
	if t.split() {
		if _, err := tx.Insert(ctx, t.table, detailColumns, detail, onConflict); err != nil {
			return err
		}
	}
	for _, p := range list {
		if err := t.saveLabels(ctx, tx, p.Elem(), true); err != nil {
			return err
		}
	}
	return nil
}

// prepare fills what a new object gets by itself.
func (t *Type) prepare(ctx context.Context, v reflect.Value) {
	now := t.engine.now.Now()
	for _, f := range t.columns {
		switch fv := f.value(v); {
		case f.Kind == Key && fv.Type() == reflect.TypeFor[pulp.ID]() && fv.IsZero():
			fv.Set(reflect.ValueOf(pulp.NewID()))
		case (f.Column == "created" || f.Column == "updated" || f.Column == "timestamp_of_interest") && fv.IsZero():
			fv.Set(reflect.ValueOf(now))
		case f.Column == "pulp_type":
			fv.SetString(t.PulpType)
		case f.Column == "domain" && f.Name == "-" && fv.IsZero():
			fv.Set(reflect.ValueOf(pulp.CallOf(ctx).Domain.ID))
		}
	}
}

// row returns the columns and values of the main table's row, or of the type's own.
func (t *Type) row(v reflect.Value, main bool) (columns []string, args []any) {
	if !main {
		columns, args = append(columns, "id"), append(args, t.keyOf(v))
	}
	for _, f := range t.columns {
		switch {
		case t.split() && f.Master != main && f.Kind != Key, f.Kind == Key && !main:
		case f.Kind == Key && f.value(v).IsZero(): // the database numbers it
		default:
			columns, args = append(columns, f.Column), append(args, t.stored(f, v))
		}
	}
	return columns, args
}

// save writes the object's changed columns and moves its time of change.
func (t *Type) save(ctx context.Context, tx *db.Tx, p reflect.Value) error {
	v := p.Elem()
	split := t.split()
	var main, detail string
	var mainArgs, detailArgs []any
	for _, f := range t.columns {
		if f.Kind == Key || f.Column == "created" || f.Column == "pulp_type" || f.Column == "domain" && f.Name == "-" {
			continue
		}
		if f.Column == "updated" {
			f.value(v).Set(reflect.ValueOf(t.engine.now.Now()))
		}
		if split && !f.Master {
			detail += ", " + f.Column + " = ?"
			detailArgs = append(detailArgs, t.stored(f, v))
		} else {
			main += ", " + f.Column + " = ?"
			mainArgs = append(mainArgs, t.stored(f, v))
		}
	}
	table := t.mainTable()
	key := t.keyOf(v)
	n, err := tx.Exec(ctx, "UPDATE "+table+" SET "+main[2:]+" WHERE "+t.keyField.Column+" = ?", append(mainArgs, key)...)
	if err != nil {
		return err
	}
	if n == 0 {
		return errs.NotFoundModel(t.Model)
	}
	if detail != "" {
		if _, err := tx.Exec(ctx, "UPDATE "+t.table+" SET "+detail[2:]+" WHERE id = ?", append(detailArgs, key)...); err != nil {
			return err
		}
	}
	return t.saveLabels(ctx, tx, v, false)
}

// remove deletes the object's row; the detail's and all that hangs on it go with it.
func (t *Type) remove(ctx context.Context, tx *db.Tx, v reflect.Value) error {
	table := t.mainTable()
	if t.labels != nil {
		if _, err := tx.Exec(ctx, "DELETE FROM core_label WHERE object = ?", t.keyOf(v)); err != nil {
			return err
		}
	}
	if err := t.engine.auth.Deleted(ctx, tx, t.ref(v)); err != nil {
		return err
	}
	n, err := tx.Exec(ctx, "DELETE FROM "+table+" WHERE "+t.keyField.Column+" = ?", t.keyOf(v))
	if err == nil && n == 0 {
		err = errs.NotFoundModel(t.Model)
	}
	return err
}

func (t *Type) saveLabels(ctx context.Context, tx *db.Tx, v reflect.Value, fresh bool) error {
	if t.labels == nil {
		return nil
	}
	labels := t.labels.value(v).Interface().(Labels)
	if fresh && len(labels) == 0 {
		return nil
	}
	return setLabels(ctx, tx, t.keyOf(v).(pulp.ID), labels)
}

// setLabels makes the labels findable by filters.
func setLabels(ctx context.Context, tx *db.Tx, object pulp.ID, labels Labels) error {
	if _, err := tx.Exec(ctx, "DELETE FROM core_label WHERE object = ?", object); err != nil {
		return err
	}
	rows := make([][]any, 0, len(labels))
	for k, value := range labels {
		rows = append(rows, []any{object, k, value})
	}
	if len(rows) == 0 {
		return nil
	}
	_, err := tx.Insert(ctx, "core_label", []string{"object", "key", "value"}, rows, "")
	return err
}
