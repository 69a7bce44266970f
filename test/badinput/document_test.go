// Package badinput sends a server what it must refuse. Which endpoints there are and what they take, the server's own
// document says, so that an endpoint is tested as soon as it is there.
package badinput

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"granary/test/binary"
)

// A document is what is used here of the OpenAPI document.
type document struct {
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

type operation struct {
	ID         string `json:"operationId"`
	Parameters []struct {
		Name   string `json:"name"`
		In     string `json:"in"`
		Schema schema `json:"schema"`
	} `json:"parameters"`
	Body struct {
		Content map[string]struct {
			Schema schema `json:"schema"`
		} `json:"content"`
	} `json:"requestBody"`
}

type schema struct {
	Ref        string             `json:"$ref"`
	AllOf      []schema           `json:"allOf"`
	OneOf      []schema           `json:"oneOf"`
	Type       string             `json:"type"`
	Format     string             `json:"format"`
	Enum       []any              `json:"enum"`
	Nullable   bool               `json:"nullable"`
	ReadOnly   bool               `json:"readOnly"`
	MinLength  int                `json:"minLength"`
	MaxLength  int                `json:"maxLength"`
	Pattern    string             `json:"pattern"`
	Minimum    *float64           `json:"minimum"`
	Maximum    *float64           `json:"maximum"`
	Items      *schema            `json:"items"`
	Additional json.RawMessage    `json:"additionalProperties"`
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
}

// resolve follows references.
func (d *document) resolve(s schema) schema {
	for {
		switch {
		case s.Ref != "":
			nullable := s.Nullable
			s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
			s.Nullable = s.Nullable || nullable
		case len(s.AllOf) == 1:
			nullable := s.Nullable
			s = s.AllOf[0]
			s.Nullable = s.Nullable || nullable
		default:
			return s
		}
	}
}

// An endpoint is an operation with a path that can be asked.
type endpoint struct {
	id, method string
	path       string
	json       bool // takes JSON
	body       schema
	parameters []string // of the query
}

func (e endpoint) String() string { return e.method + " " + e.path }

// fields returns the writable fields of the body, sorted.
func (e endpoint) fields() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(e.body.Properties)), func(name string) bool { return e.body.Properties[name].ReadOnly })
}

// A contract is the server's document with objects for the paths that name one.
type contract struct {
	document
	writable []endpoint // those that take a body
	lists    []endpoint
	details  []string // hrefs of objects that exist
}

// missing is an id that no object has.
const missing = "00000000-0000-0000-0000-000000000000"

// read reads the document, and finds an object of every kind that has some. Hrefs has those which are chosen already, by
// the parameter's name.
func read(t *testing.T, s *binary.Server, hrefs map[string]string) *contract {
	t.Helper()
	c := &contract{}
	status, body, err := s.Do(t.Context(), http.MethodGet, "/pulp/api/v3/docs/api.json", nil)
	if err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	if err := json.Unmarshal(body, &c.document); err != nil {
		t.Fatal(err)
	}
	// {file_file_repository_href} stands for what repositories_file_file_read reads and repositories_file_file_list lists
	lists := map[string]string{} // the list's path by the id's prefix
	for path, methods := range c.Paths {
		if prefix, ok := strings.CutSuffix(methods["get"].ID, "_list"); ok {
			lists[prefix] = path
		}
	}
	paths := slices.Sorted(maps.Keys(c.Paths))
	for range 2 { // once more for what is listed below an object
		for _, path := range paths {
			prefix, ok := strings.CutSuffix(c.Paths[path]["get"].ID, "_read")
			if name, rest := parameter(path); ok && rest == "" && name != "" && hrefs[name] == "" && lists[prefix] != "" {
				hrefs[name] = first(t, s, fill(lists[prefix], hrefs))
			}
		}
	}
	for range 2 { // what has no object is asked for one that is not there
		for _, path := range paths {
			prefix, ok := strings.CutSuffix(c.Paths[path]["get"].ID, "_read")
			if name, rest := parameter(path); ok && rest == "" && name != "" && hrefs[name] == "" && lists[prefix] != "" {
				if parent, _ := parameter(lists[prefix]); parent == "" || hrefs[parent] != "" {
					hrefs[name] = fill(lists[prefix], hrefs) + missing + "/"
				}
			}
		}
	}
	for _, path := range paths {
		for method, op := range c.Paths[path] {
			if op.ID == "" {
				continue
			}
			e := endpoint{id: op.ID, method: strings.ToUpper(method), path: fill(path, hrefs)}
			for _, p := range op.Parameters {
				if p.In == "query" {
					e.parameters = append(e.parameters, p.Name)
				}
			}
			for kind, content := range op.Body.Content {
				e.json = e.json || kind == "application/json"
				e.body = c.resolve(content.Schema)
			}
			if len(op.Body.Content) > 0 {
				c.writable = append(c.writable, e)
			}
			// what is listed below an object that there is none of, as an exporter's exports, can't be counted
			if name, _ := parameter(path); slices.Contains(e.parameters, "limit") && (name == "" || !strings.Contains(hrefs[name], missing)) {
				c.lists = append(c.lists, e)
			}
		}
	}
	byID := func(a, b endpoint) int { return strings.Compare(a.id, b.id) }
	slices.SortFunc(c.writable, byID)
	slices.SortFunc(c.lists, byID)
	for _, href := range hrefs {
		if href != "" && !strings.Contains(href, missing) {
			c.details = append(c.details, href)
		}
	}
	slices.Sort(c.details)
	return c
}

// parameter returns the parameter that a path begins with, and the rest.
func parameter(path string) (name, rest string) {
	after, ok := strings.CutPrefix(path, "{")
	if !ok {
		return "", path
	}
	name, rest, _ = strings.Cut(after, "}")
	return name, rest
}

// fill puts the href of an object in place of a path's parameter, or one that no object has.
func fill(path string, hrefs map[string]string) string {
	name, rest := parameter(path)
	switch {
	case name == "":
		return path
	case hrefs[name] == "":
		return "/pulp/api/v3/" + name + "/" + missing + "/" + rest
	}
	return hrefs[name] + rest
}

// first returns the href of a list's first object, "" for none.
func first(t *testing.T, s *binary.Server, list string) string {
	t.Helper()
	status, body, err := s.Do(t.Context(), http.MethodGet, list+"?limit=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	var page struct {
		Results []struct {
			Href string `json:"pulp_href"`
		} `json:"results"`
	}
	if status != http.StatusOK || json.Unmarshal(body, &page) != nil || len(page.Results) == 0 {
		return ""
	}
	return page.Results[0].Href
}

// minimal returns a body with all that is required, right where that can be known.
func (c *contract) minimal(e endpoint) map[string]any {
	body := map[string]any{}
	for _, name := range e.body.Required {
		if p := e.body.Properties[name]; p != nil {
			body[name] = c.right(c.resolve(*p))
		}
	}
	return body
}

// right returns a value of the right type.
func (c *contract) right(s schema) any {
	switch {
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Format == "date-time":
		return "2020-01-01T00:00:00Z"
	case s.Format == "email":
		return "a@example.com"
	case s.Format == "uri":
		return c.details[0]
	}
	switch s.Type {
	case "string":
		return "badinput"
	case "integer", "number":
		return 1
	case "boolean":
		return true
	case "array":
		return []any{}
	}
	return map[string]any{}
}

// wrong returns values that the schema forbids, with what is wrong with them.
func (c *contract) wrong(s schema) map[string]any {
	w := map[string]any{}
	if !s.Nullable {
		w["null"] = nil
	}
	switch s.Type {
	case "string":
		w["a list"], w["an object"], w["a bool"], w["NUL"] = []any{}, map[string]any{"a": 1}, true, "a\x00b"
		if s.MinLength > 0 {
			w["empty"] = ""
		}
		if s.MaxLength > 0 {
			w["too long"] = strings.Repeat("x", s.MaxLength+1)
		}
		if s.Pattern != "" {
			w["of other characters"] = "!!"
		}
		if len(s.Enum) > 0 || s.Format == "date-time" || s.Format == "uri" || s.Format == "email" {
			w["no "+s.Format] = "zz"
		}
		if s.Format == "uri" {
			w["an object that is missing"] = c.details[0][:strings.LastIndex(strings.TrimSuffix(c.details[0], "/"), "/")+1] + missing + "/"
			w["another site"] = "http://example.com/"
		}
	case "integer":
		w["a text"], w["a fraction"], w["a list"], w["an object"], w["huge"] = "x", 1.5, []any{}, map[string]any{}, json.Number("1"+strings.Repeat("0", 30))
	case "number":
		w["a text"], w["a list"], w["an object"], w["huge"] = "x", []any{}, map[string]any{}, json.Number("1e999")
	case "boolean":
		w["a text"], w["a number"], w["a list"], w["an object"] = "maybe", 2, []any{}, map[string]any{}
	case "array":
		w["a text"], w["a number"], w["an object"] = "x", 5, map[string]any{"a": 1}
		if item := c.resolve(*s.Items); item.Type != "" {
			for what, v := range c.wrong(item) {
				w["an element: "+what] = []any{v}
			}
		}
	case "object":
		w["a text"], w["a number"], w["a list"] = "x", 5, []any{"a"}
		var values schema
		if json.Unmarshal(s.Additional, &values) == nil && values.Type != "" {
			for what, v := range c.wrong(c.resolve(values)) {
				w["a value: "+what] = map[string]any{"a": v}
			}
			w["a NUL in a key"] = map[string]any{"a\x00": "b"}
		}
	}
	if s.Minimum != nil {
		w["too small"] = *s.Minimum - 1
	}
	if s.Maximum != nil {
		w["too big"] = *s.Maximum + 1
	}
	return w
}

// wrongText returns texts that a form's field can't have, by what is wrong with them.
func (c *contract) wrongText(s schema) map[string]string {
	w := map[string]string{}
	for what, v := range c.wrong(s) {
		if s.Nullable && v == "" || s.Type == "array" { // in a form, nothing is null, and a text a list of one
			continue
		}
		switch v := v.(type) {
		case string:
			w[what] = v
		case float64, json.Number:
			w[what] = fmt.Sprint(v)
		}
	}
	return w
}
