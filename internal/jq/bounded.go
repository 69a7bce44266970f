package jq

import (
	"errors"
	"fmt"
	"strings"

	"github.com/itchyny/gojq"
)

// Limits of bounded filters.
const (
	maxGrowth  = 6   // what a bounded filter does may make values 2 to the power of this as large
	maxPattern = 256 // bytes of a regular expression
)

// CompileBounded is Compile for filters of people who are not trusted with the whole server: the time limit holds between the steps of
// a run, so it takes only those whose single steps are short and take little memory, whatever the input. They find, compare and join
// what is in the input; they don't build arrays or objects, keep variables, loop, or assign.
func CompileBounded(text string) (*Filter, error) {
	f, err := Compile(text)
	if err != nil {
		return nil, err
	}
	query, err := gojq.Parse(text)
	if err != nil {
		return nil, err
	}
	var c cost
	c.query(query)
	if c.err == nil && c.growth > maxGrowth {
		c.err = errors.New("it joins or writes out too much")
	}
	if c.err != nil {
		return nil, c.err
	}
	return f, nil
}

// A cost looks for what a bounded filter must not do.
type cost struct {
	growth int // values are at most 2 to the power of this as large as the input
	err    error
}

func (c *cost) refuse(what string) {
	if c.err == nil {
		c.err = fmt.Errorf("%s can not be used here", what)
	}
}

func (c *cost) query(q *gojq.Query) {
	if q == nil {
		return
	}
	if q.Meta != nil || len(q.Imports) > 0 || len(q.FuncDefs) > 0 {
		c.refuse("a definition")
	}
	if len(q.Patterns) > 0 {
		c.refuse("a variable")
	}
	if q.Term != nil {
		c.term(q.Term)
		return
	}
	switch q.Op {
	case gojq.OpPipe, gojq.OpComma, gojq.OpAlt, gojq.OpAnd, gojq.OpOr, gojq.OpEq, gojq.OpNe, gojq.OpGt, gojq.OpLt, gojq.OpGe, gojq.OpLe:
	case gojq.OpAdd:
		c.growth++
	default:
		c.refuse(q.Op.String())
	}
	c.query(q.Left)
	c.query(q.Right)
}

func (c *cost) term(t *gojq.Term) {
	switch t.Type {
	case gojq.TermTypeIdentity, gojq.TermTypeRecurse, gojq.TermTypeNull, gojq.TermTypeTrue, gojq.TermTypeFalse, gojq.TermTypeNumber:
	case gojq.TermTypeIndex:
		c.index(t.Index)
	case gojq.TermTypeFunc:
		c.function(t.Func)
	case gojq.TermTypeString:
		c.text(t.Str)
	case gojq.TermTypeUnary:
		if t.Unary.Term.Type != gojq.TermTypeNumber {
			c.refuse(t.Unary.Op.String())
		}
	case gojq.TermTypeIf:
		c.query(t.If.Cond)
		c.query(t.If.Then)
		for _, e := range t.If.Elif {
			c.query(e.Cond)
			c.query(e.Then)
		}
		c.query(t.If.Else)
	case gojq.TermTypeTry:
		c.query(t.Try.Body)
		c.query(t.Try.Catch)
	case gojq.TermTypeQuery:
		c.query(t.Query)
	case gojq.TermTypeArray, gojq.TermTypeObject:
		c.refuse("an array or object")
	default:
		c.refuse(strings.TrimPrefix(t.Type.GoString(), "gojq.TermType"))
	}
	for _, s := range t.SuffixList {
		if s.Index != nil {
			c.index(s.Index)
		}
	}
}

func (c *cost) index(i *gojq.Index) {
	c.text(i.Str)
	c.query(i.Start)
	c.query(i.End)
}

// text looks at a string, in which queries may stand.
func (c *cost) text(s *gojq.String) {
	if s == nil || len(s.Queries) == 0 {
		return
	}
	c.growth += len(s.Queries)
	for _, q := range s.Queries {
		if plain(q) == nil {
			c.growth += writing
			c.query(q)
		}
	}
}

// writing is the growth by writing a value as JSON: six characters for one.
const writing = 3

// functions are those that a bounded filter may call, by name and number of arguments, with their growth.
var functions = map[string]int{
	"empty/0": 0, "error/0": 0, "not/0": 0, "length/0": 0, "type/0": 0, "keys/0": 0, "select/1": 0, "any/0": 0, "any/1": 0, "any/2": 0,
	"all/0": 0, "all/1": 0, "all/2": 0, "first/0": 0, "first/1": 0, "last/0": 0, "IN/1": 0, "ltrimstr/1": 0, "rtrimstr/1": 0,
	"startswith/1": 0, "endswith/1": 0, "trim/0": 0, "ltrim/0": 0, "rtrim/0": 0, "ascii_downcase/0": 0, "ascii_upcase/0": 0, "split/1": 0,
	"tonumber/0": 0, "strings/0": 0, "values/0": 0, "nulls/0": 0, "booleans/0": 0, "numbers/0": 0, "arrays/0": 0, "objects/0": 0,
	"iterables/0": 0, "scalars/0": 0, "recurse/0": 0, "fromjson/0": 0, "tojson/0": writing, "tostring/0": writing, "to_entries/0": 2,
	"has/1": 0, "test/1": 0, "test/2": 0, "contains/1": 0, "join/1": 4,
}

func (c *cost) function(f *gojq.Func) {
	name := fmt.Sprintf("%s/%d", f.Name, len(f.Args))
	growth, ok := functions[name]
	if !ok {
		c.refuse(name)
		return
	}
	c.growth += growth
	for _, a := range f.Args {
		c.query(a)
	}
	switch f.Name {
	case "test": // its time is that of the pattern for each character
		if p := plain(f.Args[0]); p == nil || len(*p) > maxPattern || strings.Contains(*p, "{") {
			c.refuse("a pattern that is not short, has a brace, or comes from the input")
		}
	case "contains": // of arrays it compares all with all
		if plain(f.Args[0]) == nil {
			c.refuse("contains of anything but a text")
		}
	case "join":
		if s := plain(f.Args[0]); s == nil || len(*s) > 8 {
			c.refuse("join with anything but a short text")
		}
	}
}

// plain returns the text that a query is; nil for others.
func plain(q *gojq.Query) *string {
	if q == nil || q.Term == nil || q.Term.Type != gojq.TermTypeString || len(q.Term.SuffixList) > 0 || len(q.Term.Str.Queries) > 0 {
		return nil
	}
	return &q.Term.Str.Str
}
