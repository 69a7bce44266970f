package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"granary/internal/blob"
	"granary/internal/errs"
)

// A Document is a request's body, whatever form it came in.
type Document struct {
	Values map[string]any   // as encoding/json decodes them, with json.Number; strings in a form
	Form   bool             // the body was a form: lists and objects are JSON in a string, booleans are words
	Files  map[string]*File // uploaded files, already staged

	inner bool // from within the server: it may have fields that clients can't give
}

// Limits of what a body may hold. Files are limited by the disk alone.
const (
	maxJSON   = 64 << 20 // bytes
	maxField  = 4 << 20  // bytes of one form field
	maxFields = 1000
	maxDepth  = 64 // of nested JSON
)

// readDocument reads the body. Uploaded files go to stages, which the caller closes.
func readDocument(ctx context.Context, r *http.Request, stage func(context.Context) (blob.Stage, error)) (*Document, error) {
	doc := &Document{Values: map[string]any{}, Files: map[string]*File{}}
	header := r.Header.Get("Content-Type")
	kind, params, err := mime.ParseMediaType(header)
	switch {
	case header == "" && r.ContentLength == 0:
		return doc, nil
	case err != nil:
		return nil, errs.Ef(errs.Unsupported, "Unsupported media type %q in request.", header)
	}
	switch kind {
	case "application/json":
		return doc, readJSON(doc, r.Body)
	case "application/x-www-form-urlencoded":
		doc.Form = true
		body, err := io.ReadAll(io.LimitReader(r.Body, maxJSON+1))
		if err != nil {
			return nil, bodyError(err)
		}
		if len(body) > maxJSON {
			return nil, tooLarge()
		}
		values, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, errs.Ef(errs.Invalid, "Form parse error - %v", err)
		}
		for k, v := range values {
			doc.addForm(k, v...)
		}
		return doc, nil
	case "multipart/form-data":
		doc.Form = true
		if r.ContentLength == 0 {
			return doc, nil
		}
		return doc, doc.readMultipart(ctx, multipart.NewReader(r.Body, params["boundary"]), stage)
	}
	return nil, errs.Ef(errs.Unsupported, "Unsupported media type %q in request.", header)
}

func tooLarge() error { return errs.E(errs.TooLarge, "The request's body is too large.") }

func bodyError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge()
	}
	return &errs.Error{Kind: errs.Invalid, Detail: "The request's body ended early.", Err: err}
}

func readJSON(doc *Document, body io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(body, maxJSON+1))
	if err != nil {
		return bodyError(err)
	}
	if len(b) > maxJSON {
		return tooLarge()
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	v, err := DecodeJSON(b)
	if err != nil {
		return errs.E(errs.Invalid, "JSON parse error - "+err.Error())
	}
	m, ok := v.(map[string]any)
	if v == nil {
		return errs.NonFieldError("No data provided")
	}
	if !ok {
		return errs.NonFieldError("Invalid data. Expected a dictionary, but got %s.", typeName(v))
	}
	doc.Values = m
	return nil
}

// DecodeJSON decodes one JSON value of bounded depth, numbers as json.Number.
func DecodeJSON(b []byte) (any, error) {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return nil, errors.New("nested too deep")
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("unexpected end of input")
		}
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("extra data after the value, at character %d", dec.InputOffset())
	}
	return v, nil
}

func (d *Document) readMultipart(ctx context.Context, mr *multipart.Reader, stage func(context.Context) (blob.Stage, error)) error {
	for n := 0; ; n++ {
		part, err := mr.NextRawPart()
		if err == io.EOF { //nolint:errorlint // wrapped it means that the last boundary is missing
			return nil
		}
		if err != nil {
			return errs.Ef(errs.Invalid, "Multipart form parse error - %v", err)
		}
		if n >= maxFields {
			return errs.Ef(errs.TooLarge, "A form may have at most %d fields.", maxFields)
		}
		name := part.FormName()
		if part.FileName() == "" {
			b, err := io.ReadAll(io.LimitReader(part, maxField+1))
			if err != nil {
				return bodyError(err)
			}
			if len(b) > maxField {
				return errs.Field(name, fmt.Sprintf("A form's field may have at most %d bytes.", maxField))
			}
			d.addForm(name, string(b))
			continue
		}
		if d.Files[name] != nil {
			return errs.Field(name, "Only one file may be given.")
		}
		s, err := stage(ctx)
		if err != nil {
			return err
		}
		d.Files[name] = &File{Name: part.FileName(), Stage: s}
		if _, err := io.Copy(s, part); err != nil {
			return &errs.Error{Kind: errs.Invalid, Detail: "The upload ended early.", Err: err}
		}
	}
}

// addForm adds a form's field; of a repeated one a list stays.
func (d *Document) addForm(name string, values ...string) {
	for _, v := range values {
		switch old := d.Values[name].(type) {
		case nil:
			d.Values[name] = v
		case string:
			d.Values[name] = []any{old, v}
		case []any:
			d.Values[name] = append(old, v)
		}
	}
}

// close drops the files that no handler committed.
func (d *Document) close() error {
	var list []error
	for f := range maps.Values(d.Files) {
		list = append(list, f.Stage.Close())
	}
	return errors.Join(list...)
}

// typeName names a JSON value's type as messages do.
func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "NoneType"
	case string:
		return "str"
	case bool:
		return "bool"
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return "float"
		}
		return "int"
	case []any:
		return "list"
	}
	return "dict"
}
