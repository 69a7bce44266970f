package pyliteral

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

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
			problem = "an f-string" + advice
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
