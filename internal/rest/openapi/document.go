// Package openapi makes the OpenAPI document of the API from what the engine's types and endpoints declare.
package openapi

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"

	"granary/internal/errs"
	"granary/internal/rest"
)

// Info is what the document says of the server.
type Info struct {
	Title    string            // "Pulp 3 API" where empty
	Versions map[string]string // of the apps, the core and the plugins, as clients test them
	Domains  bool              // URLs have the domain's name in them
	Root     string            // of the API, as "/pulp/"
	Security []Scheme          // how clients say who they are; Basic and the session's cookie where nil
}

// A Scheme is a security scheme of the document.
type Scheme struct {
	Name string
	JSON any // what it is, as the document has it
}

// The schemes that need no settings.
var (
	BasicScheme  = Scheme{"basicAuth", mapping{{"type", "http"}, {"scheme", "basic"}}}
	CookieScheme = Scheme{"cookieAuth", mapping{{"type", "apiKey"}, {"in", "cookie"}, {"name", "sessionid"}}}
)

// SchemeOf returns a scheme that settings describe.
func SchemeOf(name string, described map[string]any) Scheme { return Scheme{name, ordered(described)} }

// ordered turns maps into mappings, sorted by their keys.
func ordered(v any) any {
	switch v := v.(type) {
	case map[string]any:
		o := mapping{}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			o.set(key, ordered(v[key]))
		}
		return o
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = ordered(item)
		}
		return list
	}
	return v
}

// schemes describes the security schemes, and what an operation needs of them: any one.
func (i *Info) schemes() (described mapping, needed []any) {
	list := i.Security
	if list == nil {
		list = []Scheme{BasicScheme, CookieScheme}
	}
	for _, s := range list {
		described = append(described, member{s.Name, s.JSON})
		needed = append(needed, mapping{{s.Name, []any{}}})
	}
	return described, needed
}

// A Document serves the description of an engine's API in its forms. It is safe for concurrent use; what the
// engine gets after the first use is not in it.
type Document struct {
	engine *rest.Engine
	info   Info

	mu   sync.Mutex
	kept []made // the last used at the end
}

// made is a form in an encoding, without the servers.
type made struct {
	key  string
	text []byte
}

// keep is how many forms are remembered: clients ask for one or two, over and over.
const keep = 3

// New returns the document of all that the engine has when it is first asked for.
func New(engine *rest.Engine, info Info) *Document {
	info.Title = cmp.Or(info.Title, "Pulp 3 API")
	return &Document{engine: engine, info: info}
}

// JSON returns the form that the query asks for, with server as the place of the API, as "http://localhost:8080/".
// Its errors are for the client.
//
// The query's parameters are those of Pulp: component=A,B for the named apps' part, bindings for operation ids
// that are only the action, and pk_path for paths with keys instead of hrefs.
func (d *Document) JSON(query url.Values, server string) ([]byte, error) {
	text, err := d.text(query, false)
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, len(text)+len(server)+32), text[:len(text)-1]...)
	b = append(b, `,"servers":`...)
	return append(appendJSON(b, servers(server)), '}'), nil
}

// YAML is JSON in another notation.
func (d *Document) YAML(query url.Values, server string) ([]byte, error) {
	text, err := d.text(query, true)
	if err != nil {
		return nil, err
	}
	return appendYAML(slices.Clip(text), mapping{{"servers", servers(server)}}, 0, false), nil
}

func servers(server string) []any { return []any{mapping{{"url", server}}} }

// text returns a form without its servers.
func (d *Document) text(query url.Values, asYAML bool) ([]byte, error) {
	f, err := d.form(query)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprint(f, asYAML)
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.IndexFunc(d.kept, func(m made) bool { return m.key == key }); i >= 0 {
		m := d.kept[i]
		d.kept = append(slices.Delete(d.kept, i, i+1), m)
		return m.text, nil
	}
	tree, err := d.tree(f)
	if err != nil {
		return nil, err
	}
	var text []byte
	if asYAML {
		text = appendYAML(nil, tree, 0, false)
	} else {
		text = appendJSON(nil, tree)
	}
	if len(d.kept) == keep {
		d.kept = slices.Delete(d.kept, 0, 1)
	}
	d.kept = append(d.kept, made{key, slices.Clip(text)})
	return text, nil
}

// form reads a query.
func (d *Document) form(query url.Values) (form, error) {
	f := form{bindings: query.Has("bindings"), pkPath: query.Has("pk_path")}
	if query.Has("plugin") {
		return f, errs.E(errs.Invalid, "'plugin' has been removed. Use 'component' instead.")
	}
	if !query.Has("component") {
		return f, nil
	}
	for name := range strings.SplitSeq(query["component"][len(query["component"])-1], ",") {
		if _, ok := d.info.Versions[name]; !ok {
			return f, errs.E(errs.Invalid, "Invalid component specified.")
		}
		f.components = append(f.components, name)
	}
	slices.Sort(f.components)
	f.components = slices.Compact(f.components)
	return f, nil
}

// tree makes a form of the document.
func (d *Document) tree(f form) (mapping, error) {
	b := &builder{
		form: f, info: d.info, engine: d.engine, answers: map[string]*rest.Type{}, paths: map[string]*pathItem{},
		schemas: map[string]mapping{}, fields: map[string][]*rest.Field{}, enums: enums{},
	}
	paths, schemas, err := b.build()
	security, _ := d.info.schemes()
	versions := mapping{}
	for _, app := range slices.Sorted(maps.Keys(d.info.Versions)) {
		if app == "core" || b.wants(app) {
			versions.set(app, d.info.Versions[app])
		}
	}
	return mapping{
		{"openapi", "3.0.1"},
		{"info", mapping{
			{"title", d.info.Title}, {"version", "v3"}, {"x-pulp-app-versions", versions}, {"x-pulp-domain-enabled", d.info.Domains},
		}},
		{"paths", paths},
		{"components", mapping{{"schemas", schemas}, {"securitySchemes", security}}},
	}, err
}
