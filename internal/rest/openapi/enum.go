package openapi

import (
	"slices"
	"strings"

	"granary/internal/rest"
)

// An enumRef is a reference to a list of choices whose name is settled when all schemas are there.
type enumRef struct {
	choices  []string
	declared string // the name that the declaration gives
	name     string
}

// A usedIn is a place where a list of choices is used.
type usedIn struct{ component, field string }

// enums are the lists of choices of a document, by what they hold.
type enums map[string]*enum

type enum struct {
	refs []*enumRef
	used []usedIn
}

func (b *builder) enum(component string, f *rest.Field) *enumRef {
	r := &enumRef{choices: f.Choices, declared: f.Enum}
	key := strings.Join(f.Choices, "\x00")
	e := b.enums[key]
	if e == nil {
		e = &enum{}
		b.enums[key] = e
	}
	e.refs = append(e.refs, r)
	e.used = append(e.used, usedIn{component, f.Name})
	return r
}

// nameEnums gives every list of choices a name and adds it to the schemas. In the whole document the declared names
// count. In a part of it, as in Pulp, a list is called after its field, unless other lists go by the same name there:
// then after its component and field if it has only one, and else as declared.
func (b *builder) nameEnums(whole bool) {
	lists := map[string]map[*enum]bool{} // by field
	for _, e := range b.enums {
		for _, u := range e.used {
			if lists[u.field] == nil {
				lists[u.field] = map[*enum]bool{}
			}
			lists[u.field][e] = true
		}
	}
	for _, e := range b.enums {
		last := slices.MaxFunc(e.used, func(x, y usedIn) int { return strings.Compare(x.field, y.field) })
		name, declared := camel(last.field)+"Enum", e.refs[0].declared
		switch {
		case whole && declared != "":
			name = declared
		case len(lists[last.field]) == 1:
		case len(e.used) == 1 || declared == "":
			name = camel(last.component) + name
		default:
			name = declared
		}
		for _, r := range e.refs {
			r.name = name
		}
		if _, taken := b.schemas[name]; taken {
			b.clashes = append(b.clashes, name)
		}
		b.schemas[name] = mapping{{"type", "string"}, {"enum", list(e.refs[0].choices...)}}
	}
}

// camel writes snake_case in CamelCase.
func camel(s string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(s, "_") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}
