package settings

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A binding is what a settings file says of one name.
type binding struct {
	name  string // as written
	value any
	line  int
}

// A lineError is something that a settings file must not hold.
type lineError struct {
	line int
	text string
}

const pythonAdvice = "; settings files in Python hold values (NAME = value) and nothing that has to be run: write the value itself, or use a TOML file or PULP_ variables"

// parsePython reads the assignments of a settings file in Python: literals, and names that were assigned
// before. It returns the names in the order of their last assignment, and everything that it did not understand.
func parsePython(src string) ([]binding, []lineError) {
	src = strings.TrimPrefix(src, "\ufeff")
	src = strings.ReplaceAll(strings.ReplaceAll(src, "\r\n", "\n"), "\r", "\n")
	p := &python{lexer: lexer{src: src, line: 1}, values: map[string]*binding{}, shared: map[string]bool{}, unknown: map[string]bool{}}
	switch {
	case !utf8.ValidString(src):
		return nil, []lineError{{1, "the file is not in UTF-8"}}
	case strings.ContainsRune(src, 0):
		return nil, []lineError{{1, "the file is not a text"}}
	}
	for p.more() {
		p.statement()
		if len(p.errs) >= maxFileErrors {
			break
		}
	}
	out := make([]binding, 0, len(p.order))
	for _, name := range p.order {
		out = append(out, *p.values[name])
	}
	return out, p.errs
}

const maxFileErrors = 20

// python parses the file. Values are copied when a name stands for them, which is the same as Python's
// sharing as long as nothing that is shared is changed; p.shared guards that.
type python struct {
	lexer
	values  map[string]*binding
	order   []string
	shared  map[string]bool // names whose value another name holds too
	unknown map[string]bool // names whose assignment was not understood
	errs    []lineError
	nodes   int
}

// stop is what parse functions panic with, to leave the statement.
type stop lineError

func (p *python) fail(line int, format string, args ...any) {
	panic(stop{line, fmt.Sprintf(format, args...)})
}

// statement reads one statement. After an error it goes on at the next line that starts one.
func (p *python) statement() {
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
		p.errs = append(p.errs, lineError(s))
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
		p.fail(first.line, "an indented line"+pythonAdvice)
	case first.kind == stringToken: // a text that stands alone is a comment
		for p.peek().kind == stringToken {
			p.next()
		}
		p.endOfStatement("a text")
		return
	case first.kind == nameToken && keywords[first.text] != "":
		p.fail(first.line, "%s%s", keywords[first.text], pythonAdvice)
	case first.is("@"):
		p.skip()
		p.next() // the function or class goes with it
		p.fail(first.line, "a decorator"+pythonAdvice)
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

func (p *python) target(name token) target {
	t := target{name: name.text, line: name.line}
	for p.peek().is("[") {
		p.next()
		t.keys = append(t.keys, p.key())
		p.expect("]")
	}
	return t
}

// isTarget says whether what follows is a target with its "=", rather than a value.
func (p *python) isTarget() bool {
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
func (p *python) assign() {
	t := p.next()
	switch {
	case t.is("="):
		return
	case t.is(":"):
		p.fail(t.line, "a type annotation"+pythonAdvice)
	case t.is("("):
		p.fail(t.line, "a call"+pythonAdvice)
	case t.is("."):
		p.fail(t.line, "an attribute"+pythonAdvice)
	case t.is(","):
		p.fail(t.line, "an assignment to several names at once"+pythonAdvice)
	case t.kind == opToken && strings.HasSuffix(t.text, "=") && len(t.text) > 1:
		p.fail(t.line, "the assignment %s%s", t.text, pythonAdvice)
	}
	p.fail(t.line, "expected = after the name, found %s", t)
}

// endOfStatement expects the end of the line; after is what was just read.
func (p *python) endOfStatement(after string) {
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
func (p *python) construct(t token, after string) string {
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
	return what + pythonAdvice
}

// store gives the value to the target.
func (p *python) store(t target, v any) {
	b := p.values[t.name]
	if len(t.keys) == 0 {
		v = p.copy(v, t.line)
		if b != nil {
			p.order = slices.DeleteFunc(p.order, func(n string) bool { return n == t.name })
		}
		p.order = append(p.order, t.name)
		p.values[t.name] = &binding{t.name, v, t.line}
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
	at := b.value
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
			p.fail(t.line, "%s in %s has no parts", kindOf(at), t.name)
		}
	}
}

// copy returns a value that shares nothing with v, and counts its parts: names in names could multiply them without end.
func (p *python) copy(v any, line int) any {
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
func (p *python) list(refs *bool) any {
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

func (p *python) value(refs *bool, depth int) any {
	t := p.next()
	if depth > maxDepth {
		p.fail(t.line, "the value is %s", errDepth)
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
			p.fail(n.line, "the operator %s%s", t.text, pythonAdvice)
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
		p.fail(t.line, "unpacking with %s%s", t.text, pythonAdvice)
	case t.is("~"):
		p.fail(t.line, "the operator ~"+pythonAdvice)
	}
	p.fail(t.line, "expected a value, found %s", t)
	return nil
}

func (p *python) name(t token, refs *bool) any {
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
		p.fail(t.line, "%s%s", what, pythonAdvice)
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
	if container(b.value) {
		*refs = true
		p.shared[t.text] = true
	}
	return p.copy(b.value, t.line)
}

// items reads values up to the closing bracket.
func (p *python) items(closing string, refs *bool, depth int) []any {
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
func (p *python) comma(closing string) {
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
		if text := p.construct(t, "it"); strings.HasSuffix(text, pythonAdvice) {
			p.fail(t.line, "%s", text)
		}
		p.fail(t.line, "expected a comma or %s, found %s", closing, t)
	}
}

// tuple reads what follows "(": one value in brackets is that value, with a comma it is a tuple.
func (p *python) tuple(refs *bool, depth int) any {
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
func (p *python) braces(line int, refs *bool, depth int) any {
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
func (p *python) key() any {
	refs := false
	return p.value(&refs, maxDepth-1)
}

// keyText returns a key as the text that tables use.
func (p *python) keyText(k any, line int) string {
	if container(k) {
		p.fail(line, "%s as a key: keys are texts", kindOf(k))
	}
	s, _ := scalarText(k)
	return s
}

func (p *python) expect(text string) {
	if t := p.next(); !t.is(text) {
		if t.kind == errorToken {
			p.fail(t.line, "%s", t.text)
		}
		if s := p.construct(t, "it"); strings.HasSuffix(s, pythonAdvice) {
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

type tokenKind int

const (
	endToken tokenKind = iota
	newlineToken
	nameToken
	numberToken
	stringToken
	opToken
	errorToken
)

type token struct {
	kind   tokenKind
	text   string // of a string: its value; of an error: what is wrong
	number any
	line   int
	indent bool // it begins a line, after white space
}

// is says whether the token is this operator or word.
func (t token) is(text string) bool {
	return (t.kind == opToken || t.kind == nameToken) && t.text == text
}

func (t token) String() string {
	switch t.kind {
	case endToken:
		return "the end of the file"
	case newlineToken:
		return "the end of the line"
	case stringToken:
		return "a text" // not quoted, as it may be a secret
	case numberToken:
		return "a number"
	}
	return t.text
}

// A lexer cuts Python into tokens. Line ends within brackets are no tokens.
type lexer struct {
	src     string
	pos     int
	line    int
	nesting int
	opened  int  // the line of the outermost bracket
	started bool // the current line has a token
}

func (l *lexer) more() bool { return l.peek().kind != endToken }

func (l *lexer) peek() token {
	saved := *l
	t := l.next()
	*l = saved
	return t
}

// skip goes to the start of the next line that is not indented and does not look like the rest of a statement.
func (l *lexer) skip() {
	atStart := !l.started && l.pos > 0 && l.src[l.pos-1] == '\n' // the line's end was the last token
	for {
		if !atStart {
			i := strings.IndexByte(l.src[l.pos:], '\n')
			if i < 0 {
				l.pos = len(l.src)
				return
			}
			l.pos += i + 1
			l.line++
		}
		atStart = false
		l.nesting, l.started = 0, false
		if !continues.MatchString(l.src[l.pos:]) {
			return
		}
	}
}

var continues = regexp.MustCompile(`^(?:[ \t\f\n)\]}'"]|(?:else|elif|except|finally)\b)`)

func (l *lexer) next() token {
	start := l.pos
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == ' ' || c == '\t' || c == '\f':
			l.pos++
		case c == '#':
			for l.pos < len(l.src) && l.src[l.pos] != '\n' {
				l.pos++
			}
		case c == '\\' && strings.HasPrefix(l.src[l.pos:], "\\\n"):
			l.pos += 2
			l.line++
		case c == '\n':
			l.pos++
			l.line++
			if l.nesting > 0 {
				continue
			}
			if l.started {
				l.started = false
				return token{kind: newlineToken, line: l.line - 1}
			}
			start = l.pos
		default:
			t := l.token()
			t.indent = !l.started && l.nesting == 0 && start != l.pos && isBlank(l.src[start])
			l.started = true
			return t
		}
	}
	if l.started && l.nesting == 0 {
		l.started = false
		return token{kind: newlineToken, line: l.line}
	}
	return token{kind: endToken, line: l.line}
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\f' }

// token reads the token that starts here.
func (l *lexer) token() token {
	line := l.line
	c, size := utf8.DecodeRuneInString(l.src[l.pos:])
	switch {
	case c == '_' || unicode.IsLetter(c):
		end := l.pos + size
		for end < len(l.src) {
			c, size := utf8.DecodeRuneInString(l.src[end:])
			if c != '_' && !unicode.IsLetter(c) && !unicode.IsDigit(c) {
				break
			}
			end += size
		}
		word := l.src[l.pos:end]
		if end < len(l.src) && (l.src[end] == '\'' || l.src[end] == '"') {
			return l.prefixed(word, end)
		}
		l.pos = end
		return token{kind: nameToken, text: word, line: line}
	case c == '\'' || c == '"':
		return l.str(false)
	case c >= '0' && c <= '9', c == '.' && l.pos+1 < len(l.src) && l.src[l.pos+1] >= '0' && l.src[l.pos+1] <= '9':
		return l.num()
	}
	text := l.src[l.pos : l.pos+size]
	for _, op := range operators {
		if strings.HasPrefix(l.src[l.pos:], op) {
			text = op
			break
		}
	}
	l.pos += len(text)
	switch text {
	case "(", "[", "{":
		if l.nesting == 0 {
			l.opened = line
		}
		l.nesting++
	case ")", "]", "}":
		l.nesting = max(l.nesting-1, 0)
	}
	return token{kind: opToken, text: text, line: line}
}

// operators are those of more than one character, the longest first.
var operators = []string{"**=", "//=", ">>=", "<<=", "...", "**", "//", ">>", "<<", "+=", "-=", "*=", "/=", "%=", "@=", "&=", "|=", "^=", "==", "!=", "<=", ">=", "->", ":="}

// prefixed reads a string with letters before its quote.
func (l *lexer) prefixed(prefix string, end int) token {
	line, raw, problem := l.line, false, ""
	for _, c := range strings.ToLower(prefix) {
		switch c {
		case 'r':
			raw = true
		case 'u':
		case 'f':
			problem = "an f-string" + pythonAdvice
		case 'b':
			problem = "a bytes literal: write the text without the b"
		default:
			l.pos = end
			return token{kind: nameToken, text: prefix, line: line}
		}
	}
	l.pos = end
	t := l.str(raw || problem != "")
	if problem != "" {
		return token{kind: errorToken, line: line, text: problem}
	}
	return t
}

// str reads a string from its opening quote on.
func (l *lexer) str(raw bool) token {
	line := l.line
	quote := l.src[l.pos : l.pos+1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(l.src[l.pos:], triple) {
		quote = triple
	}
	l.pos += len(quote)
	var b strings.Builder
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		switch {
		case strings.HasPrefix(rest, quote):
			l.pos += len(quote)
			return token{kind: stringToken, text: b.String(), line: line}
		case rest[0] == '\n' && len(quote) == 1:
			return token{kind: errorToken, line: line, text: "the text has no closing quote"}
		case rest[0] == '\\' && len(rest) > 1:
			if raw {
				if rest[1] == '\n' {
					l.line++
				}
				b.WriteString(rest[:2])
				l.pos += 2
				continue
			}
			if problem := l.escape(&b, rest); problem != "" {
				line := l.line
				l.pos += 2
				return token{kind: errorToken, line: line, text: problem}
			}
		default:
			if rest[0] == '\n' {
				l.line++
			}
			b.WriteByte(rest[0])
			l.pos++
		}
	}
	return token{kind: errorToken, line: line, text: "the text has no closing quote"}
}

var escapes = map[byte]string{'\\': "\\", '\'': "'", '"': "\"", 'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v"}

// escape reads the escape sequence at the start of rest. It returns what is wrong with it.
func (l *lexer) escape(b *strings.Builder, rest string) string {
	c := rest[1]
	if s, ok := escapes[c]; ok {
		b.WriteString(s)
		l.pos += 2
		return ""
	}
	digits := 0
	switch c {
	case '\n':
		l.line++
		l.pos += 2
		return ""
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	case 'N':
		return `the escape \N{...}: write the character itself`
	case '0', '1', '2', '3', '4', '5', '6', '7':
		n, i := 0, 1
		for i < len(rest) && i <= 3 && rest[i] >= '0' && rest[i] <= '7' {
			n = n*8 + int(rest[i]-'0')
			i++
		}
		b.WriteRune(rune(n))
		l.pos += i
		return ""
	default: // Python keeps the backslash of what is no escape
		b.WriteByte('\\')
		l.pos++
		return ""
	}
	n, err := strconv.ParseUint(rest[2:min(2+digits, len(rest))], 16, 32)
	if err != nil || len(rest) < 2+digits || n > unicode.MaxRune || !utf8.ValidRune(rune(n)) {
		return "the escape \\" + string(c) + " names no character"
	}
	b.WriteRune(rune(n))
	l.pos += 2 + digits
	return ""
}

// num reads a number.
func (l *lexer) num() token {
	line := l.line
	end := l.pos
	for end < len(l.src) {
		c := l.src[end]
		sign := (c == '+' || c == '-') && (l.src[end-1] == 'e' || l.src[end-1] == 'E') && !isHex(l.src[l.pos:end])
		if !sign && c != '.' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			break
		}
		end++
	}
	text := l.src[l.pos:end]
	l.pos = end
	if n, problem := number(text); problem == "" {
		return token{kind: numberToken, number: n, line: line}
	} else {
		return token{kind: errorToken, line: line, text: problem}
	}
}

func isHex(s string) bool { return len(s) > 1 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') }

func number(text string) (any, string) {
	lower := strings.ToLower(text)
	plain := strings.ReplaceAll(lower, "_", "")
	if strings.Contains(lower, "__") || strings.HasSuffix(lower, "_") || strings.Contains(lower, "_.") || strings.Contains(lower, "._") {
		return nil, "the number " + text + " has an underscore in the wrong place"
	}
	if !isHex(lower) && strings.ContainsAny(lower, ".ej") {
		if strings.HasSuffix(lower, "j") {
			return nil, "the complex number " + text + ": no setting is one"
		}
		f, err := strconv.ParseFloat(plain, 64)
		if err != nil && f == 0 {
			return nil, "the number " + text + " is not well formed"
		}
		return f, ""
	}
	if len(plain) > 1 && plain[0] == '0' && strings.Trim(plain, "0123456789") == "" {
		if strings.Trim(plain, "0") != "" {
			return nil, "the number " + text + " begins with 0; octal numbers begin with 0o"
		}
		return int64(0), ""
	}
	n, err := strconv.ParseInt(plain, 0, 64)
	if err != nil {
		return nil, "the number " + text + " is not well formed or too large"
	}
	return n, ""
}
