package rest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"granary/internal/errs"
)

// maxQ is the most that a q expression may cost: 1 for each filter, each NOT and each group of ANDs or ORs.
const maxQ = 8

const msgComplex = "Filter expression exceeds allowed complexity."

// whereQ makes the condition of a q expression:
//
//	expr = and { "OR" and } ; and = not { "AND" not } ; not = "NOT" not | "(" expr ")" | name "=" value
func whereQ(ctx context.Context, f *Filtering, expr string) (Cond, error) {
	if expr == "null" {
		return Cond{}, nil
	}
	node, err := parseQ(expr)
	if err != nil {
		return Cond{}, errs.Field("q", err.Error())
	}
	if node.cost() > maxQ {
		return Cond{}, errs.Field("q", msgComplex)
	}
	return node.where(ctx, f)
}

// A qNode is a leaf (name set) or an operation on others.
type qNode struct {
	op          string // "AND", "OR", "NOT"; empty for a leaf
	args        []*qNode
	name, value string
}

func (n *qNode) cost() int {
	c := 1
	for _, a := range n.args {
		c += a.cost()
	}
	return c
}

func (n *qNode) where(ctx context.Context, f *Filtering) (Cond, error) {
	if n.op == "" {
		return n.leaf(ctx, f)
	}
	list := make([]Cond, len(n.args))
	for i, a := range n.args {
		c, err := a.where(ctx, f)
		if err != nil {
			return Cond{}, err
		}
		if c.SQL == "" { // a filter that ignores its value
			c.SQL = "1 = 1"
		}
		list[i] = c
	}
	switch n.op {
	case "NOT":
		return Cond{"(" + list[0].SQL + ") IS NOT TRUE", list[0].Args}, nil
	case "OR":
		return Or(list...), nil
	}
	return And(list...), nil
}

// wrongName says what is wrong with the names of an expression's filters; empty where nothing is.
func (n *qNode) wrongName(t *Type, without ...string) string {
	if n.op == "" {
		switch {
		case n.name == "q":
			return "You cannot use 'q' in complex filtering."
		case n.name == "ordering":
			return "An ordering filter cannot be used in complex filtering."
		case t.filters[n.name] == nil, slices.Contains(without, n.name):
			return "Filter '" + n.name + "' does not exist."
		}
	}
	for _, a := range n.args {
		if wrong := a.wrongName(t, without...); wrong != "" {
			return wrong
		}
	}
	return ""
}

func (n *qNode) leaf(ctx context.Context, f *Filtering) (Cond, error) {
	if wrong := n.wrongName(f.Type); wrong != "" {
		return Cond{}, errs.Field("q", wrong)
	}
	c, err := f.Type.filters[n.name].condition(ctx, f, n.value)
	e, ok := errors.AsType[*errs.Error](err)
	if !ok || e.Kind != errs.Invalid {
		return c, err
	}
	if e.List != nil {
		return Cond{}, e
	}
	var report []byte
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		for _, m := range e.Fields[name].([]string) {
			report = append(report, map[bool]string{true: "{", false: ", "}[report == nil]...)
			report = append(report, strconv.Quote(name)+`: [{"message": `...)
			report = appendString(report, m)
			report = append(report, `, "code": "`+codeOf(m)+`"}]`...)
		}
	}
	return Cond{}, errs.Field("q", string(append(report, '}')))
}

// codeOf is the code that clients get with a filter's message.
func codeOf(message string) string {
	switch {
	case strings.HasPrefix(message, "Select a valid choice."):
		return "invalid_choice"
	case strings.HasPrefix(message, "Range query"):
		return "invalid_values"
	}
	return "invalid"
}

var errSyntax = errors.New("Syntax error in expression.") //nolint:revive,staticcheck // the text that clients see

type qParser struct {
	s     string
	depth int
}

func parseQ(s string) (*qNode, error) {
	p := &qParser{s: s}
	n, err := p.expr()
	if err != nil {
		return nil, err
	}
	if p.space(); p.s != "" {
		return nil, errSyntax
	}
	return n, nil
}

func (p *qParser) space() { p.s = strings.TrimLeft(p.s, " \t\r\n") }

// word takes a keyword that is followed by no letter or digit.
func (p *qParser) word(w string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.s, w)
	if !ok || rest != "" && (isBare(rune(rest[0])) || rest[0] == '=') {
		return false
	}
	p.s = rest
	return true
}

func (p *qParser) expr() (*qNode, error) { return p.group("OR", p.and) }
func (p *qParser) and() (*qNode, error)  { return p.group("AND", p.not) }

func (p *qParser) group(op string, next func() (*qNode, error)) (*qNode, error) {
	if p.depth++; p.depth > 100 {
		return nil, errSyntax
	}
	defer func() { p.depth-- }()
	n, err := next()
	if err != nil {
		return nil, err
	}
	args := []*qNode{n}
	for p.word(op) {
		if n, err = next(); err != nil {
			return nil, err
		}
		args = append(args, n)
	}
	if len(args) == 1 {
		return args[0], nil
	}
	return &qNode{op: op, args: args}, nil
}

func (p *qParser) not() (*qNode, error) {
	if p.depth++; p.depth > 100 {
		return nil, errSyntax
	}
	defer func() { p.depth-- }()
	if p.word("NOT") {
		n, err := p.not()
		return &qNode{op: "NOT", args: []*qNode{n}}, err
	}
	if p.space(); strings.HasPrefix(p.s, "(") {
		p.s = p.s[1:]
		n, err := p.expr()
		if err != nil {
			return nil, err
		}
		if p.space(); !strings.HasPrefix(p.s, ")") {
			return nil, errSyntax
		}
		p.s = p.s[1:]
		return n, nil
	}
	return p.leaf()
}

func (p *qParser) leaf() (*qNode, error) {
	p.space()
	i := 0
	for i < len(p.s) && (p.s[i] == '_' && i > 0 || isLetter(p.s[i]) || i > 0 && p.s[i] >= '0' && p.s[i] <= '9') {
		i++
	}
	n := &qNode{name: p.s[:i]}
	p.s = p.s[i:]
	if p.space(); i == 0 || !strings.HasPrefix(p.s, "=") {
		return nil, errSyntax
	}
	p.s = p.s[1:]
	p.space()
	if p.s == "" {
		return nil, errSyntax
	}
	if q := p.s[0]; q == '"' || q == '\'' {
		var b strings.Builder
		for i := 1; i < len(p.s); i++ {
			switch c := p.s[i]; {
			case c == '\\' && i+1 < len(p.s):
				i++
				b.WriteByte(p.s[i])
			case c == q:
				n.value, p.s = b.String(), p.s[i+1:]
				return n, nil
			default:
				b.WriteByte(c)
			}
		}
		return nil, errSyntax
	}
	end := strings.IndexFunc(p.s, func(r rune) bool { return !isBare(r) })
	if end < 0 {
		end = len(p.s)
	}
	if end == 0 {
		return nil, errSyntax
	}
	n.value, p.s = p.s[:end], p.s[end:]
	return n, nil
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// isBare says whether a value without quotes may hold r.
func isBare(r rune) bool {
	return strings.ContainsRune(".,_*-", r) || r <= 0xff && (unicode.IsLetter(r) || unicode.IsDigit(r))
}
