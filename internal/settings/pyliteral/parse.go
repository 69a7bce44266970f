// Package pyliteral reads files of assignments in Python whose values are literals, and runs nothing.
package pyliteral

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Binding is what a file says of one name.
type Binding struct {
	Name  string
	Value any // nil, bool, int64, float64, string, []any (also of tuples and sets) or map[string]any
	Line  int // of the assignment, from 1
}

// An Error is something that such a file must not hold. Its text never has strings of the file.
type Error struct {
	Line int
	Text string
}

const (
	maxErrors = 20  // after which a file is given up
	maxDepth  = 100 // of nested values
	maxNodes  = 1e6 // of all values
)

const advice = "; settings files in Python hold values (NAME = value) and nothing that has to be run: write the value itself, or use a TOML file or PULP_ variables"

// Parse reads the assignments: literals, and names that were assigned before. It returns the names in the order
// of their last assignment, and everything that it did not understand, up to a limit.
func Parse(src string) ([]Binding, []Error) {
	src = strings.TrimPrefix(src, "\ufeff")
	src = strings.ReplaceAll(strings.ReplaceAll(src, "\r\n", "\n"), "\r", "\n")
	p := &parser{lexer: lexer{src: src, line: 1}, values: map[string]*Binding{}, shared: map[string]bool{}, unknown: map[string]bool{}}
	switch {
	case !utf8.ValidString(src):
		return nil, []Error{{1, "the file is not in UTF-8"}}
	case strings.ContainsRune(src, 0):
		return nil, []Error{{1, "the file is not a text"}}
	}
	for p.more() {
		p.statement()
		if len(p.errs) >= maxErrors {
			break
		}
	}
	out := make([]Binding, 0, len(p.order))
	for _, name := range p.order {
		out = append(out, *p.values[name])
	}
	return out, p.errs
}

// A parser parses one file. Values are copied when a name stands for them, which is the same as Python's
// sharing as long as nothing that is shared is changed; p.shared guards that.
type parser struct {
	lexer
	values  map[string]*Binding
	order   []string
	shared  map[string]bool // names whose value another name holds too
	unknown map[string]bool // names whose assignment was not understood
	errs    []Error
	nodes   int
}

// stop is what parse functions panic with, to leave the statement.
type stop Error

func (p *parser) fail(line int, format string, args ...any) {
	panic(stop{line, fmt.Sprintf(format, args...)})
}

// statement reads one statement. After an error it goes on at the next line that starts one.
func (p *parser) statement() {
	first := p.peek()
	var targets []target
	defer func() {
		e := recover()
		if e == nil {
			return
		}
		s, ok := e.(stop)
		if !ok {
			panic(e)
		}
		p.errs = append(p.errs, Error(s))
		if first.kind == nameToken {
			p.unknown[first.text] = true
		}
		for _, t := range targets {
			p.unknown[t.name] = true
		}
		p.skip()
	}()
	first = p.next()
	switch {
	case first.kind == newlineToken || first.is(";"):
		return
	case first.indent:
		p.fail(first.line, "an indented line"+advice)
	case first.kind == stringToken: // a text that stands alone is a comment
		for p.peek().kind == stringToken {
			p.next()
		}
		p.endOfStatement("a text")
		return
	case first.kind == nameToken && keywords[first.text] != "":
		p.fail(first.line, "%s%s", keywords[first.text], advice)
	case first.is("@"):
		p.skip()
		p.next() // the function or class goes with it
		p.fail(first.line, "a decorator"+advice)
	case first.kind != nameToken:
		p.fail(first.line, "expected NAME = value, found %s", first)
	}
	targets = append(targets, p.target(first))
	p.assign()
	for p.peek().kind == nameToken && p.isTarget() {
		targets = append(targets, p.target(p.next()))
		p.assign()
	}
	refs := false
	v := p.list(&refs)
	p.endOfStatement("the value")
	shared := container(v) && (len(targets) > 1 || refs)
	for _, t := range targets {
		p.store(t, v)
		p.shared[t.name] = shared || len(t.keys) > 0 && p.shared[t.name]
	}
}

// A target is a name that gets a value, or with keys a part of its value.
type target struct {
	name string
	keys []any
	line int
}

func (p *parser) target(name token) target {
	t := target{name: name.text, line: name.line}
	for p.peek().is("[") {
		p.next()
		t.keys = append(t.keys, p.key())
		p.expect("]")
	}
	return t
}

// isTarget says whether what follows is a target with its "=", rather than a value.
func (p *parser) isTarget() bool {
	saved := p.lexer
	defer func() { p.lexer = saved }()
	p.next()
	depth := 0
	for {
		switch t := p.next(); {
		case t.is("["):
			depth++
		case t.is("]"):
			depth--
		case t.kind == newlineToken, t.kind == endToken, t.kind == errorToken, t.is(";"):
			return false
		case depth == 0:
			return t.is("=")
		}
	}
}

// assign reads the "=" after a target, or names what stands there instead.
func (p *parser) assign() {
	t := p.next()
	switch {
	case t.is("="):
		return
	case t.is(":"):
		p.fail(t.line, "a type annotation"+advice)
	case t.is("("):
		p.fail(t.line, "a call"+advice)
	case t.is("."):
		p.fail(t.line, "an attribute"+advice)
	case t.is(","):
		p.fail(t.line, "an assignment to several names at once"+advice)
	case t.kind == opToken && strings.HasSuffix(t.text, "=") && len(t.text) > 1:
		p.fail(t.line, "the assignment %s%s", t.text, advice)
	}
	p.fail(t.line, "expected = after the name, found %s", t)
}

// endOfStatement expects the end of the line; after is what was just read.
func (p *parser) endOfStatement(after string) {
	t := p.next()
	switch {
	case t.kind == newlineToken, t.kind == endToken, t.is(";"):
		return
	case t.kind == errorToken:
		p.fail(t.line, "%s", t.text)
	}
	p.fail(t.line, "%s", p.construct(t, after))
}

// construct says what the token after a value makes of it.
func (p *parser) construct(t token, after string) string {
	what := ""
	switch {
	case t.is("("):
		what = "a call"
	case t.is("."):
		what = "an attribute"
	case t.is("["):
		what = "a part of a value"
	case t.is("if"):
		what = "a conditional expression"
	case t.is("for"), t.is("async"):
		what = "a comprehension"
	case t.is("="):
		return "expected a value, found ="
	case t.kind == opToken && !slices.Contains([]string{")", "]", "}", ",", ":"}, t.text):
		what = "the operator " + t.text
	case t.is("and"), t.is("or"), t.is("in"), t.is("is"), t.is("not"):
		what = "the operator " + t.text
	default:
		return fmt.Sprintf("expected the end of the line after %s, found %s", after, t)
	}
	return what + advice
}

// store gives the value to the target.
func (p *parser) store(t target, v any) {
	b := p.values[t.name]
	if len(t.keys) == 0 {
		v = p.copy(v, t.line)
		if b != nil {
			p.order = slices.DeleteFunc(p.order, func(n string) bool { return n == t.name })
		}
		p.order = append(p.order, t.name)
		p.values[t.name] = &Binding{t.name, v, t.line}
		delete(p.unknown, t.name)
		return
	}
	switch {
	case p.unknown[t.name]:
		return
	case b == nil:
		p.fail(t.line, "the name %s has no value in this file yet; to change a part of a setting from elsewhere write %s__key = value", t.name, t.name)
	case p.shared[t.name]:
		p.fail(t.line, "%s is changed after its value was given to another name, which would change too; write both out", t.name)
	}
	at := b.Value
	for i, k := range t.keys {
		last := i == len(t.keys)-1
		switch c := at.(type) {
		case map[string]any:
			key := p.keyText(k, t.line)
			if last {
				c[key] = p.copy(v, t.line)
				continue
			}
			inner, ok := c[key]
			if !ok {
				p.fail(t.line, "%s has no key %q", t.name, key)
			}
			at = inner
		case []any:
			n, ok := k.(int64)
			if ok && n < 0 {
				n += int64(len(c))
			}
			if !ok || n < 0 || n >= int64(len(c)) {
				p.fail(t.line, "the list in %s has no such item", t.name)
			}
			if last {
				c[n] = p.copy(v, t.line)
				continue
			}
			at = c[n]
		default:
			p.fail(t.line, "the value in %s has no parts", t.name)
		}
	}
}

// copy returns a value that shares nothing with v, and counts its parts: names in names could multiply them without end.
func (p *parser) copy(v any, line int) any {
	if p.nodes++; p.nodes > maxNodes {
		p.fail(line, "the file's values are too large")
	}
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, x := range v {
			m[k] = p.copy(x, line)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, x := range v {
			l[i] = p.copy(x, line)
		}
		return l
	}
	return v
}

func container(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// list reads a value, or values with commas between, which are a tuple. refs becomes true where a name
// stands for a list or table.
func (p *parser) list(refs *bool) any {
	v := p.value(refs, 0)
	if !p.peek().is(",") {
		return v
	}
	out := []any{v}
	for p.peek().is(",") {
		p.next()
		if t := p.peek(); t.kind == newlineToken || t.kind == endToken || t.is(";") {
			break
		}
		out = append(out, p.value(refs, 0))
	}
	return out
}

func (p *parser) value(refs *bool, depth int) any {
	t := p.next()
	if depth > maxDepth {
		p.fail(t.line, "the value is too deeply nested")
	}
	switch {
	case t.kind == stringToken:
		var b strings.Builder
		b.WriteString(t.text)
		for p.peek().kind == stringToken {
			b.WriteString(p.next().text)
		}
		return b.String()
	case t.kind == numberToken:
		return t.number
	case t.is("-"), t.is("+"):
		n := p.next()
		if n.kind != numberToken {
			p.fail(n.line, "the operator %s%s", t.text, advice)
		}
		if t.is("+") {
			return n.number
		}
		if i, ok := n.number.(int64); ok {
			return -i
		}
		return -n.number.(float64)
	case t.is("["):
		return p.items("]", refs, depth)
	case t.is("("):
		return p.tuple(refs, depth)
	case t.is("{"):
		return p.braces(t.line, refs, depth)
	case t.kind == nameToken:
		return p.name(t, refs)
	case t.kind == errorToken:
		p.fail(t.line, "%s", t.text)
	case t.kind == endToken && p.nesting > 0:
		p.fail(p.opened, "the bracket that is opened here is not closed")
	case t.is("*"), t.is("**"):
		p.fail(t.line, "unpacking with %s%s", t.text, advice)
	case t.is("~"):
		p.fail(t.line, "the operator ~"+advice)
	}
	p.fail(t.line, "expected a value, found %s", t)
	return nil
}

func (p *parser) name(t token, refs *bool) any {
	switch t.text {
	case "True":
		return true
	case "False":
		return false
	case "None":
		return nil
	}
	if next := p.peek(); next.is("(") || next.is(".") || next.is("[") || next.is("for") || next.is("if") {
		p.fail(t.line, "%s", p.construct(next, t.text))
	}
	if what := keywords[t.text]; what != "" {
		p.fail(t.line, "%s%s", what, advice)
	}
	if p.nesting > 0 && t.line > p.opened && p.peek().is("=") { // the next assignment
		p.fail(p.opened, "the bracket that is opened here is not closed")
	}
	b := p.values[t.text]
	if b == nil {
		if p.unknown[t.text] {
			return nil // its own error says it all
		}
		p.fail(t.line, "the name %s has no value in this file yet", t.text)
	}
	if container(b.Value) {
		*refs = true
		p.shared[t.text] = true
	}
	return p.copy(b.Value, t.line)
}

// items reads values up to the closing bracket.
func (p *parser) items(closing string, refs *bool, depth int) []any {
	out := []any{}
	for {
		if p.peek().is(closing) {
			p.next()
			return out
		}
		out = append(out, p.value(refs, depth+1))
		p.comma(closing)
	}
}

// comma reads the comma before a further item; the closing bracket stays.
func (p *parser) comma(closing string) {
	t := p.peek()
	switch {
	case t.is(closing):
	case t.is(","):
		p.next()
	case t.kind == endToken:
		p.fail(p.opened, "the bracket that is opened here is not closed")
	case t.kind == errorToken:
		p.fail(t.line, "%s", t.text)
	default:
		if text := p.construct(t, "it"); strings.HasSuffix(text, advice) {
			p.fail(t.line, "%s", text)
		}
		p.fail(t.line, "expected a comma or %s, found %s", closing, t)
	}
}

// tuple reads what follows "(": one value in brackets is that value, with a comma it is a tuple.
func (p *parser) tuple(refs *bool, depth int) any {
	if p.peek().is(")") {
		p.next()
		return []any{}
	}
	v := p.value(refs, depth+1)
	if p.peek().is(")") {
		p.next()
		return v
	}
	p.comma(")")
	return append([]any{v}, p.items(")", refs, depth)...)
}

// braces reads what follows "{": a dictionary or a set.
func (p *parser) braces(line int, refs *bool, depth int) any {
	m := map[string]any{}
	if p.peek().is("}") {
		p.next()
		return m
	}
	first := p.value(refs, depth+1)
	if !p.peek().is(":") {
		p.comma("}")
		set := []any{}
		for _, v := range append([]any{first}, p.items("}", refs, depth)...) {
			if container(v) {
				p.fail(line, "a set of lists or dictionaries: use a list")
			}
			if !slices.Contains(set, v) {
				set = append(set, v)
			}
		}
		return set
	}
	key := p.keyText(first, line)
	for {
		p.expect(":")
		m[key] = p.value(refs, depth+1)
		p.comma("}")
		if p.peek().is("}") {
			p.next()
			return m
		}
		key = p.keyText(p.key(), p.line)
	}
}

// key reads a dictionary's key or a list's index.
func (p *parser) key() any {
	refs := false
	return p.value(&refs, maxDepth-1)
}

// keyText returns a key as the text that tables use.
func (p *parser) keyText(k any, line int) string {
	switch k := k.(type) {
	case nil:
		return "None"
	case bool:
		if k {
			return "True"
		}
		return "False"
	case int64:
		return strconv.FormatInt(k, 10)
	case string:
		return k
	}
	p.fail(line, "a key that is neither a text nor a whole number")
	return ""
}

func (p *parser) expect(text string) {
	if t := p.next(); !t.is(text) {
		if t.kind == errorToken {
			p.fail(t.line, "%s", t.text)
		}
		if s := p.construct(t, "it"); strings.HasSuffix(s, advice) {
			p.fail(t.line, "%s", s)
		}
		p.fail(t.line, "expected %s, found %s", text, t)
	}
}

// keywords are what cannot be a name, with what they begin.
var keywords = map[string]string{
	"import": "an import", "from": "an import",
	"if": "a condition (if)", "elif": "a condition (elif)", "else": "a condition (else)",
	"for": "a loop (for)", "while": "a loop (while)", "break": "a loop (break)", "continue": "a loop (continue)",
	"try": "a try statement", "except": "a try statement", "finally": "a try statement", "raise": "a raise statement",
	"with": "a with statement", "def": "a function", "return": "a function (return)", "yield": "a function (yield)", "lambda": "a function (lambda)",
	"class": "a class", "async": "async", "await": "await", "assert": "an assert statement", "del": "a del statement",
	"global": "a global statement", "nonlocal": "a nonlocal statement", "pass": "a pass statement",
	"and": "the operator and", "or": "the operator or", "not": "the operator not", "in": "the operator in", "is": "the operator is", "as": "as",
	"True": "an assignment to True", "False": "an assignment to False", "None": "an assignment to None",
}
