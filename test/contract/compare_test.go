package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// An api holds what the two sides are compared by.
type api struct {
	Paths      map[string]map[string]map[string]any `json:"paths"` // by path and method
	Components struct {
		Schemas map[string]map[string]any `json:"schemas"`
	} `json:"components"`
}

// A difference is a place where the two sides disagree.
type difference struct {
	pointer   string // within the operation or schema
	want, got any    // nil where that side has nothing
}

func (d difference) String() string {
	return d.pointer + ": want " + brief(d.want) + ", got " + brief(d.got)
}

func brief(v any) string {
	if v == nil {
		return "nothing"
	}
	b, _ := json.Marshal(v)
	if len(b) > 300 {
		return string(b[:300]) + "…"
	}
	return string(b)
}

// compare appends where two values disagree. Texts for people are no part of the contract.
func compare(list []difference, pointer string, want, got any) []difference {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return append(list, difference{pointer, want, got})
		}
		for _, k := range slices.Sorted(maps.Keys(union(w, g))) {
			if k == "description" || k == "summary" {
				if _, isText := w[k].(string); isText || w[k] == nil {
					continue
				}
			}
			list = compare(list, pointer+"/"+strings.ReplaceAll(k, "/", "~1"), w[k], g[k])
		}
		return list
	case []any:
		g, ok := got.([]any)
		if !ok {
			return append(list, difference{pointer, want, got})
		}
		if strings.HasSuffix(pointer, "/parameters") {
			return compareParameters(list, pointer, w, g)
		}
		if len(w) != len(g) || pointer == "" || isTexts(w) {
			if !reflect.DeepEqual(w, g) {
				list = append(list, difference{pointer, want, got})
			}
			return list
		}
		for i := range w {
			list = compare(list, pointer+"/"+strconv.Itoa(i), w[i], g[i])
		}
		return list
	}
	if !reflect.DeepEqual(want, got) && !bothDays(want, got) {
		list = append(list, difference{pointer, want, got})
	}
	return list
}

func union(a, b map[string]any) map[string]any {
	u := maps.Clone(a)
	if u == nil {
		u = map[string]any{}
	}
	maps.Copy(u, b)
	return u
}

func isTexts(list []any) bool {
	return !slices.ContainsFunc(list, func(v any) bool { _, ok := v.(string); return !ok })
}

var day = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}$`)

// bothDays says whether both are dates: defaults that are so many days before today.
func bothDays(want, got any) bool {
	w, _ := want.(string)
	g, _ := got.(string)
	return day.MatchString(w) && day.MatchString(g)
}

// compareParameters compares by name, and the order only where all names are there.
func compareParameters(list []difference, pointer string, want, got []any) []difference {
	name := func(p any) string {
		m := p.(map[string]any)
		return fmt.Sprint(m["in"], " ", m["name"])
	}
	index := func(params []any) (names []string, by map[string]any) {
		by = map[string]any{}
		for _, p := range params {
			names = append(names, name(p))
			by[name(p)] = p
		}
		return names, by
	}
	wantNames, wanted := index(want)
	gotNames, has := index(got)
	before := len(list)
	for _, n := range slices.Sorted(maps.Keys(union(wanted, has))) {
		list = compare(list, pointer+"/"+n, wanted[n], has[n])
	}
	if len(list) == before && !slices.Equal(wantNames, gotNames) {
		list = append(list, difference{pointer + " (order)", wantNames, gotNames})
	}
	return list
}

// prune takes the choices out of the contract's lists that plugins make which aren't here: of the types of content,
// repositories and so on.
func prune(v any, types map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		if list, ok := v["enum"].([]any); ok && isTypes(list) {
			if list = slices.DeleteFunc(slices.Clone(list), func(e any) bool { return !types[e.(string)] }); len(list) > 0 {
				v["enum"] = list
			} else {
				delete(v, "enum")
			}
		}
		for _, e := range v {
			prune(e, types)
		}
	case []any:
		for _, e := range v {
			prune(e, types)
		}
	}
}

var typeName = regexp.MustCompile(`^[a-z_]+\.[a-z0-9_-]+$`)

func isTypes(list []any) bool {
	return !slices.ContainsFunc(list, func(e any) bool { s, ok := e.(string); return !ok || !typeName.MatchString(s) })
}

// references lists the schemas that a part of a document refers to, and what those refer to.
func (a *api) references(v any) []string {
	seen := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if r, ok := v["$ref"].(string); ok {
				name := strings.TrimPrefix(r, "#/components/schemas/")
				if !seen[name] {
					seen[name] = true
					walk(a.Components.Schemas[name])
				}
			}
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(v)
	return slices.Sorted(maps.Keys(seen))
}

// appOf tells which app an operation belongs to.
func appOf(operation string) string {
	apps := []string{"core", "file", "certguard", "ansible", "container", "deb", "gem", "hugging_face", "maven", "npm", "ostree", "python", "rpm"}
	family, rest, _ := strings.Cut(operation, "_")
	switch family {
	case "acs", "content", "contentguards", "distributions", "exporters", "importers", "publications", "remotes", "repositories":
		for _, app := range apps {
			if strings.HasPrefix(rest, app+"_") {
				return app
			}
		}
	}
	for _, p := range []struct{ prefix, app string }{
		{"copy_content_2", "deb"},
		{"copy_content_3", "rpm"},
		{"copy_content", "ansible"},
		{"ansible_", "ansible"},
		{"collection_import", "ansible"},
		{"upload_collection", "ansible"},
		{"api_v", "ansible"},
		{"pulp_ansible", "ansible"},
		{"pypi_", "python"},
		{"pulp_maven", "maven"},
		{"pulp_container", "container"},
		{"token_", "container"},
		{"rpm_", "rpm"},
		{"deb_", "deb"},
	} {
		if strings.HasPrefix(operation, p.prefix) {
			return p.app
		}
	}
	return "core"
}
