package pyliteral_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"granary/internal/settings/pyliteral"
)

type (
	list  = []any
	table = map[string]any
)

// read returns the value of V.
func read(src string) (any, []pyliteral.Error) {
	bindings, errs := pyliteral.Parse(src)
	for _, b := range bindings {
		if b.Name == "V" {
			return b.Value, errs
		}
	}
	return nil, errs
}

func TestLiterals(t *testing.T) {
	for _, tc := range []struct {
		src  string
		want any
	}{
		{`V = "a"`, "a"},
		{`V = 'a'`, "a"},
		{`V='it''s'`, "its"},
		{`V = "a" 'b' """c"""`, "abc"},
		{"V = \"\"\"a\nb\\\nc\"\"\"", "a\nbc"},
		{"V = '''a'b''c'''", "a'b''c"},
		{`V = ""`, ""},
		{`V = r"a\n\"b"`, `a\n\"b`},
		{`V = R'\d'`, `\d`},
		{`V = u"é"`, "é"},
		{`V = "\\ \' \" \a\b\f\n\r\t\v"`, "\\ ' \" \a\b\f\n\r\t\v"},
		{`V = "\x41\101\0\u00e9\U0001f600\d"`, "AA\x00é😀\\d"},
		{"V = 'a\\\nb'", "ab"},
		{"V = ('a'\n     'b'  # c\n)", "ab"},
		{"V = 'a' \\\n 'b'", "ab"},
		{`V = "#no comment" # comment`, "#no comment"},
		{"V = 42", int64(42)},
		{"V = -42", int64(-42)},
		{"V = +1_000", int64(1000)},
		{"V = 0o600", int64(0o600)},
		{"V = 0xFF", int64(255)},
		{"V = 0b_11", int64(3)},
		{"V = 00", int64(0)},
		{"V = 1.5", 1.5},
		{"V = -.5", -.5},
		{"V = 5.", 5.0},
		{"V = 1_0e-3", 10e-3},
		{"V = 1E+3", 1000.0},
		{"V = 1e999", math.Inf(1)},
		{"V = True", true},
		{"V = False", false},
		{"V = None", nil},
		{"V = []", list{}},
		{"V = [1, 'a', None,]", list{int64(1), "a", nil}},
		{"V = [\n  1,\n\n  # comment\n  2\n]", list{int64(1), int64(2)}},
		{"V = ()", list{}},
		{"V = (1)", int64(1)},
		{"V = (1,)", list{int64(1)}},
		{"V = (1, (2, 3))", list{int64(1), list{int64(2), int64(3)}}},
		{"V = 1, 2", list{int64(1), int64(2)}},
		{"V = 1,", list{int64(1)}},
		{"V = {3, 1, 3}", list{int64(3), int64(1)}},
		{"V = {}", table{}},
		{"V = {'a': 1, \"b\": {'c': [2]},}", table{"a": int64(1), "b": table{"c": list{int64(2)}}}},
		{"V = {1: 'a', True: 'b', None: 'c'}", table{"1": "a", "True": "b", "None": "c"}},
		{"V = {('a'): 1, 'b' 'c': 2}", table{"a": int64(1), "bc": int64(2)}},
		{"A = 'x'\nV = A", "x"},
		{"a = ['x']\nV = [a, {'k': a}]", list{list{"x"}, table{"k": list{"x"}}}},
		{"K = 'k'\nV = {K: 1}", table{"k": int64(1)}},
		{"V = A = B = 'x'", "x"},
		{"A = V = 'x', 'y'", list{"x", "y"}},
		{"V = 1\nV = 2", int64(2)},
		{"V = 1; W = 2; V = 3;", int64(3)},
		{"V = {}\nV['a'] = 1\nV['b'] = {}\nV['b']['c'] = 2", table{"a": int64(1), "b": table{"c": int64(2)}}},
		{"V = [1, {'a': 2}]\nV[0] = 3\nV[-1]['a'] = 4", list{int64(3), table{"a": int64(4)}}},
		{"\ufeffV = 1", int64(1)},
		{"# coding: utf-8\n\"\"\"The settings.\nV = 2\n\"\"\"\nV = 1\n'a' 'b'\n", int64(1)},
		{"V = 1\r\nW = 2\r\n", int64(1)},
		{"\n\n  # indented comment\nV = 1", int64(1)},
		{"V = '@int 5', '[1]'", list{"@int 5", "[1]"}},
	} {
		got, errs := read(tc.src)
		if errs != nil {
			t.Errorf("%s\nerrors %v", tc.src, errs)
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s\n(-want +got):\n%s", tc.src, diff)
		}
	}
}

// Each text is preceded by a line, so that the second line is the one to be named.
func TestThatIsNotRead(t *testing.T) {
	for _, tc := range []struct{ src, want string }{
		{"import os", "an import;"},
		{"from os import path", "an import;"},
		{"if True:\n    V = 1\nelse:\n    V = 2", "a condition (if);"},
		{"for x in y:\n  z = 1\n\n  w = 2", "a loop (for);"},
		{"while 1:\n\tpass", "a loop (while);"},
		{"try:\n    import a\nexcept ImportError:\n    a = 1", "a try statement;"},
		{"with open('x') as f:\n    V = f.read()", "a with statement;"},
		{"def f():\n    return 1", "a function;"},
		{"class A:\n    x = 1", "a class;"},
		{"@decorated\ndef f():\n    pass", "a decorator;"},
		{"del V", "a del statement;"},
		{"pass", "a pass statement;"},
		{"print('x')", "a call;"},
		{"V = dict(a=1)", "a call;"},
		{"V = os.environ['X']", "an attribute;"},
		{"V = 'a'.join(['b'])", "an attribute;"},
		{"V = ['a'.upper()]", "an attribute;"},
		{"V = 'a'(1)", "a call;"},
		{"V = f'x{y}'", "an f-string;"},
		{"V = 'a' F'x'", "an f-string;"},
		{"V = rf'''x\n{y}\n'''", "an f-string;"},
		{"V = b'x'", "a bytes literal: write the text without the b"},
		{"V = q'x'", "the name q has no value"},
		{"V = 'a' + 'b'", "the operator +;"},
		{"V = ['a'] + ['b']", "the operator +;"},
		{"V = 60 * 60", "the operator *;"},
		{"V = '%s' % 'a'", "the operator %;"},
		{"V = [1 if True else 2]", "a conditional expression;"},
		{"V = 1 if True else 2", "a conditional expression;"},
		{"V = [x for x in (1, 2)]", "a comprehension;"},
		{"V = {1: 1 for k in 'ab'}", "a comprehension;"},
		{"V = not True", "the operator not;"},
		{"V = True and False", "the operator and;"},
		{"V = 1 == 1", "the operator ==;"},
		{"V = 1 < 2", "the operator <;"},
		{"V = -True", "the operator -;"},
		{"V = ~1", "the operator ~;"},
		{"V = --1", "the operator -;"},
		{"V = lambda: 1", "a function (lambda);"},
		{"V = [*[1]]", "unpacking with *;"},
		{"V = {**{}}", "unpacking with **;"},
		{"V = [1][0]", "a part of a value;"},
		{"A = [1]; V = A[0]", "a part of a value;"},
		{"V += [1]", "the assignment +=;"},
		{"V |= {}", "the assignment |=;"},
		{"V: int = 1", "a type annotation;"},
		{"V, W = 1, 2", "an assignment to several names at once;"},
		{"V.a = 1", "an attribute;"},
		{"V = A = ", "expected a value, found the end of the line"},
		{"V", "expected = after the name, found the end of the line"},
		{"V W", "expected = after the name, found W"},
		{"V = 1 2", "expected the end of the line after the value, found a number"},
		{"V = 'a' 1", "found a number"},
		{"V = W", "the name W has no value in this file yet"},
		{"  V = 1", "an indented line;"},
		{"1 = V", "expected NAME = value, found a number"},
		{"None = 1", "an assignment to None;"},
		{"'a' = 1", "expected a value, found ="},
		{"V = 'a", "the text has no closing quote"},
		{"V = '''a\n\n", "the text has no closing quote"},
		{"V = [1,\n\n", "the bracket that is opened here is not closed"},
		{"V = {1, []}", "a set of lists or dictionaries"},
		{"V = {[]: 1}", "a key that is neither"},
		{"V = {'a': 1, 'b'}", "expected :, found }"},
		{"V = [1 2]", "expected a comma or ], found a number"},
		{"V = [1)", "expected a comma or ], found )"},
		{"V = 1)", "expected the end of the line after the value, found )"},
		{"V = 0777", "octal numbers begin with 0o"},
		{"V = 1__0", "underscore in the wrong place"},
		{"V = 1j", "complex number"},
		{"V = 99999999999999999999", "too large"},
		{"V = 12abc", "not well formed"},
		{"V = 1.2.3", "not well formed"},
		{`V = "\N{BULLET}"`, "the escape \\N{...}"},
		{`V = "\ud800"`, "names no character"},
		{`V = "\x4"`, "names no character"},
		{"V = \"\\u12", "names no character"},
		{"V = ?", "expected a value, found ?"},
		{"W['a'] = 1", "the name W has no value in this file yet; to change a part of a setting from elsewhere write W__key = value"},
		{"V = {}; V['a']['b'] = 1", `V has no key "a"`},
		{"V = []; V[0] = 1", "the list in V has no such item"},
		{"V = 'a'; V['a'] = 1", "the value in V has no parts"},
		{"V = W = {}; V['a'] = 1", "V is changed after its value was given to another name"},
		{"A = {}; V = [A]; A['a'] = 1", "A is changed after its value was given to another name"},
		{"V = " + strings.Repeat("[", 200), "too deeply nested"},
	} {
		_, errs := read("FIRST = 1\n" + tc.src + "\nLAST = 1\n")
		if len(errs) != 1 {
			t.Errorf("%s\ngives the errors %v, want a single one", tc.src, errs)
			continue
		}
		if e := errs[0]; e.Line != 2 || !strings.Contains(e.Text, tc.want) {
			t.Errorf("%s\ngives %v, want %q in line 2", tc.src, e, tc.want)
		}
		if strings.HasSuffix(tc.want, ";") && !strings.Contains(errs[0].Text, "use a TOML file or PULP_ variables") {
			t.Errorf("%s\ngives %v, without advice", tc.src, errs[0])
		}
	}
}

func TestReportsEveryMistake(t *testing.T) {
	_, errs := read(`import os
A = os.getenv("A")
B = [
    1,
    f"{A}",
    2,
]
C = A
if B:
    D = 1
E = "right"
F = G
`)
	var lines []int
	for _, e := range errs {
		lines = append(lines, e.Line)
	}
	if diff := cmp.Diff([]int{1, 2, 5, 9, 12}, lines); diff != "" {
		t.Errorf("lines with a mistake (-want +got):\n%s\nin %v", diff, errs)
	}
}

func TestGivesUpAfterManyMistakes(t *testing.T) {
	if _, errs := read(strings.Repeat("import os\n", 1000)); len(errs) != 20 {
		t.Errorf("%d errors, want 20", len(errs))
	}
}

func TestChangesOfWhatWasNotUnderstoodAreNoFurtherMistakes(t *testing.T) {
	if _, errs := read("A = B = dict()\nA['x'] = 1\nV = [B]\n"); len(errs) != 1 {
		t.Errorf("errors %v, want one", errs)
	}
}

func TestIsNotAText(t *testing.T) {
	for src, want := range map[string]string{"V = '\xff'": "not in UTF-8", "V = 1\x00": "not a text"} {
		if _, errs := read(src); len(errs) != 1 || !strings.Contains(errs[0].Text, want) {
			t.Errorf("%q gives the errors %v, want %q", src, errs, want)
		}
	}
}

func TestNamesCannotMultiplyValues(t *testing.T) {
	var b strings.Builder
	b.WriteString("A0 = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n")
	for i := range 10 {
		fmt.Fprintf(&b, "A%d = [%s]\n", i+1, strings.Repeat(fmt.Sprintf("A%d,", i), 10))
	}
	if _, errs := read(b.String()); len(errs) == 0 || !strings.Contains(errs[0].Text, "too large") {
		t.Errorf("the errors are %.200v, want that the values are too large", errs)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"A = B = 'x'\n", "A = {'a': [1, (2,), {3}], \"b\": None}\nA['a'][0] = -0x1f\n", "\"\"\"doc\"\"\"\nA = r'\\d' \"\\x41\" # c\nB = A\n",
		"import os\nif x:\n    A = f'{x}'\nB = (\n1,\n)\n", "A = 1_0.5e-3, 0o17; B = [A, A]\\\n\n", "A__b = '''x\n'''", "A = [x for x in y]\n) = 1", "A = {1: {}}\nA[1]['k'] = A\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		lines := strings.Count(strings.ReplaceAll(src, "\r\n", "\n"), "\n") + strings.Count(src, "\r") + 2
		bindings, errs := pyliteral.Parse(src)
		for _, e := range errs {
			if e.Line < 1 || e.Line > lines || e.Text == "" {
				t.Errorf("error %+v of a text with %d lines", e, lines)
			}
		}
		seen := map[string]bool{}
		for _, b := range bindings {
			if b.Line < 1 || b.Line > lines || b.Name == "" || seen[b.Name] {
				t.Errorf("binding %q in line %d of a text with %d lines", b.Name, b.Line, lines)
			}
			seen[b.Name] = true
			_ = fmt.Sprint(b.Value)
		}
	})
}
