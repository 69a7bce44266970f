package dynaconf_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"granary/internal/settings/dynaconf"
)

type (
	list  = []any
	table = map[string]any
)

// settings returns what variables, in their order and without a prefix, make of the settings.
func settings(old table, variables ...string) (table, error) {
	for _, v := range variables {
		name, text, _ := strings.Cut(v, "=")
		value, err := (&dynaconf.Typer{}).Variable(text)
		if err != nil {
			return nil, err
		}
		dynaconf.Set(old, dynaconf.SplitKey(name), value)
	}
	r := dynaconf.Resolver{Values: old, Env: map[string]string{"NUM": "7", "HOME": "/root"}}
	v, err := r.Resolve(old)
	out, _ := v.(table)
	return out, err
}

// others are the settings that texts may name.
func others() table {
	return table{
		"BASE_DIR": "/b", "TRUTH": "yes", "DEBUG": false, "NOTHING": nil, "HOSTS": list{"*"}, "CACHE_SETTINGS": table{"EXPIRES_TTL": int64(600)},
		"STATIC_ROOT": typed("@format {this.BASE_DIR}/assets"), "COPY": typed("@get CACHE_SETTINGS"),
	}
}

func typed(text string) any {
	v, err := (&dynaconf.Typer{}).Variable(text)
	if err != nil {
		panic(err)
	}
	return v
}

// worth returns what the text is worth beside these.
func worth(text string) (any, error) {
	s, err := settings(others(), "V="+text)
	return s["V"], err
}

// The answers are those of dynaconf 3.2.13, except where a comment says otherwise.
func TestVariableTyping(t *testing.T) {
	for _, tc := range []struct {
		text string
		want any
	}{
		{"true", true},
		{"True", true},
		{" True ", true},
		{"false", false},
		{"TRUE", "TRUE"},
		{"yes", "yes"},
		{"on", "on"},
		{"42", int64(42)},
		{"-3", int64(-3)},
		{"+3", int64(3)},
		{"1_000", int64(1000)},
		{"0x10", int64(16)},
		{"0o17", int64(15)},
		{"0b1", int64(1)},
		{"-0", int64(0)},
		{"0123", "0123"},
		{"1__0", "1__0"},
		{"1.5", 1.5},
		{"1e3", 1000.0},
		{"inf", math.Inf(1)},
		{"-inf", math.Inf(-1)},
		{"nan", math.NaN()},
		{".5", ".5"},
		{"5.", "5."},
		{"'42'", "42"},
		{`"42"`, "42"},
		{`"a\tb"`, "a\tb"},
		{`'''x'''`, "x"},
		{"''", ""},
		{"'abc", "'abc"},
		{"1.0.0", "1.0.0"},
		{"/pulp/", "/pulp/"},
		{"http://x:80", "http://x:80"},
		{"hello world", "hello world"},
		{"  hi ", "  hi "},
		{"  42 ", int64(42)},
		{"5 # five", int64(5)},
		{"#fff", "#fff"},
		{"5 6", "5 6"},
		{"42\n", int64(42)},
		{"\n42", "\n42"},
		{"[1,2]", list{int64(1), int64(2)}},
		{"['a','b']", list{"a", "b"}},
		{`["a"]`, list{"a"}},
		{"[100.0,250.0]", list{100.0, 250.0}},
		{"[100,250.5]", list{int64(100), 250.5}}, // each item keeps its own type
		{"[1,'a',true,{a=1}]", list{int64(1), "a", true, table{"a": int64(1)}}},
		{"[\n1,\n2,\n]", list{int64(1), int64(2)}},
		{"[]", list{}},
		{"[{a=1},{b=2}]", list{table{"a": int64(1)}, table{"b": int64(2)}}},
		{"[1,2", "[1,2"},
		{"(1,2)", "(1,2)"},
		{"{a=1,b='x'}", table{"a": int64(1), "b": "x"}},
		{"{a.b=1}", table{"a": table{"b": int64(1)}}},
		{"{}", table{}},
		{`{"a": 1}`, `{"a": 1}`},
		{"{'a': 1}", "{'a': 1}"},
		{"", ""},
		{"None", "None"},
		{"null", "null"},
		{"none", "none"},
		{"07:32", "07:32"}, // a time only since TOML 1.1
		{"1979-05-27T07:32", "1979-05-27T07:32"},
		{"99999999999999999999", "99999999999999999999"}, // Python has no largest number
		{strings.Repeat("[", 500) + strings.Repeat("]", 500), strings.Repeat("[", 500) + strings.Repeat("]", 500)},

		{"@int 42", int64(42)},
		{"@int  5", int64(5)},
		{"@int 1_000", int64(1000)},
		{"@float 1", 1.0},
		{"@float nan", math.NaN()},
		{"@bool t", true},
		{"@bool TRUE", true},
		{"@bool enabled", true},
		{"@bool 1", true},
		{"@bool on", true},
		{"@bool yes", true},
		{"@bool no", false},
		{"@bool 2", false},
		{"@bool ", false},
		{"@str 42", "42"},
		{"@int @str 5", int64(5)}, // dynaconf reads markers in markers before @format and @jinja only
		{"@str @float 1", "1.0"},  // so that it forgets this @str
		{"@bool @none", false},
		{"@str True", "True"},
		{`@json {"a": [1, true, null, 1.5]}`, table{"a": list{int64(1), true, nil, 1.5}}},
		{"@json 5", int64(5)},
		{"@none", nil},
		{"@none anything", nil},
		{"@null x", nil},
		{"@note hi", nil},
		{"@comment hi", nil},
		{"@empty", nil},
		{"@reset [1]", list{int64(1)}},
		{"@Int 5", "@Int 5"},
		{"@unknown x", "@unknown x"},
		{"@", "@"},
		{"@@int 5", "@@int 5"},
		{"a@int 5", "a@int 5"},
		{"{a='@int 5',b=['@none']}", table{"a": int64(5), "b": list{nil}}},
		{"@merge [1]", list{int64(1)}}, // nothing to merge into
		{"@merge a=1, b=2", table{"a": int64(1), "b": int64(2)}},
		{"@insert 5", list{int64(5)}},

		{"@format x{env[HOME]}y", "x/rooty"},
		{"@format {this.BASE_DIR}/z", "/b/z"},
		{"@format {this.base_dir}/{this.CACHE_SETTINGS.expires_ttl}", "/b/600"},
		{"@format {{x}}", "{x}"},
		{"@format {this.DEBUG} {this.NOTHING}", "False None"},
		{"@int @format {env[NUM]}", int64(7)},
		{"@str @format {env[NUM]}", "7"},
		{"@bool @format {this.TRUTH}", true},
		{"{a='@format {this.BASE_DIR}'}", table{"a": "/b"}},
		{"@jinja {{ env.HOME }}/y", "/root/y"},
		{"@jinja {{env.NOPE}}y", "y"},
		{"@jinja {{ this.BASE_DIR }}", "/b"},
		{"@int @jinja {{ env.NUM }}", int64(7)},
		{"@get BASE_DIR", "/b"},
		{"@get CACHE_SETTINGS.EXPIRES_TTL", int64(600)},
		{"@get CACHE_SETTINGS.EXPIRES_TTL @str", "600"},
		{"@get NOPE 5", "5"},
		{"@get NOPE @int 5", int64(5)},
		{"@get HOSTS", list{"*"}},
		{"@get STATIC_ROOT", "/b/assets"}, // which is worked out itself
		{"@get COPY.EXPIRES_TTL", int64(600)},
	} {
		got, err := worth(tc.text)
		if err != nil || !cmp.Equal(got, tc.want, cmpopts.EquateNaNs()) {
			t.Errorf("%q is worth %#v, %v, want %#v", tc.text, got, err, tc.want)
		}
	}
}

func TestDates(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"2024-01-01", "2024-01-01"},
		{"2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"},
		{"2024-01-01 10:00:00", "2024-01-01T10:00:00"},
		{"07:32:00", "07:32:00"},
	} {
		v, _ := worth(tc.text)
		if _, isText := v.(string); isText || dynaconf.Format(v) != tc.want {
			t.Errorf("%q is worth %#v, want the time %s", tc.text, v, tc.want)
		}
	}
}

func TestVariablesThatCannotBeRead(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"@int abc", "@int: expected a whole number"},
		{"@int 4.5", "expected a whole number"},
		{"@int 0x10", "expected a whole number"},
		{"@int", "expected a whole number"},
		{"@float x", "@float: expected a number"},
		{"@float 0x1p2", "@float: expected a number"},
		{"@json {bad", "@json: "},
		{"@json {} x", "@json: there is text after the value"},
		{"@json " + strings.Repeat("[", 1000), "too deeply nested"},
		{"@get", "@get needs the name of a setting"},
		{"@get NOPE", "@get: there is no setting NOPE"},
		{"@get V", "refers to itself"},
		{"@get DEBUG @list", "@list is not known"},
		{"@format {this.V}", "refers to itself"},
		{"@format {this.NOPE}", "there is no setting NOPE"},
		{"@format {env[NOPE]}", "there is no variable NOPE"},
		{"@format {this.HOSTS}", "HOSTS: expected a single value, found a list"},
		{"@format {x}", "expected {this.NAME} or {env[NAME]}, found {x}"},
		{"@format {this.DEBUG!r}", "found {this.DEBUG!r}"},
		{"@format {", "a { has no }"},
		{"@format }", "a } has no {"},
		{"@jinja {{ x }}", "only {{ env.NAME }} and {{ this.NAME }} are understood"},
		{"@jinja {% if x %}", "only {{ env.NAME }}"},
		{"@jinja {{ this.NOPE }}", "there is no setting NOPE"},
		{"@int @none", "expected a whole number"},
		{"@int @format {this.V}", "refers to itself"},
		{"@merge a='@int x',b=@int y", "expected a whole number"},
		{"@merge [{a='@int x'}]", "item 1: a: @int: expected a whole number"},
		{"@merge a,@int x", "expected a whole number"},
		{strings.Repeat("@int ", 2000), "too many markers"},
		{strings.Repeat("@merge ", 2000), "too many markers"},
	} {
		_, err := worth(tc.text)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.60q gives the error %v, want %q", tc.text, err, tc.want)
		}
	}
}

func TestLazyValuesCannotGrowWithoutEnd(t *testing.T) {
	lists := []string{"X0=[1,2,3,4,5,6,7,8,9]"}
	texts := []string{"X0=0123456789"}
	for i := range 15 {
		prev := fmt.Sprintf("X%d", i)
		lists = append(lists, fmt.Sprintf("X%d=['@get %s','@get %s','@get %s']", i+1, prev, prev, prev))
		texts = append(texts, fmt.Sprintf("X%d=@format %s", i+1, strings.Repeat("{this["+prev+"]}", 10)))
	}
	for name, variables := range map[string][]string{"lists": lists, "texts": texts} {
		if _, err := settings(table{}, variables...); err == nil || !strings.Contains(err.Error(), "grows too large") {
			t.Errorf("%s: error %.200v, want that the value grows too large", name, err)
		}
	}
}

func TestMerging(t *testing.T) {
	one, two, three := int64(1), int64(2), int64(3)
	foo := table{"x": one}
	for _, tc := range []struct {
		variable string
		key      string
		want     any
	}{
		{"L=[3]", "L", list{three}},
		{"L=@merge [3]", "L", list{one, two, three}},
		{"L=@merge 3", "L", list{one, two, three}},
		{"L=@merge 3,4", "L", list{one, two, three, int64(4)}},
		{"L=@merge [2,3]", "L", list{one, two, two, three}},
		{"L=@merge_unique [2,3]", "L", list{one, two, three}},
		{"L=@merge_unique 2,3", "L", list{one, two, three}},
		{"L=@merge ['a.B']", "L", list{one, two, "a.B"}},
		{"L=@merge a, b", "L", list{one, two, "a", "b"}},                       // dynaconf keeps the blank before b
		{"L=@merge http://x:80/?a=b", "L", list{one, two, "http://x:80/?a=b"}}, // dynaconf makes {a: b} of it
		{"L=@merge 'a,b','c'", "L", list{one, two, "a,b", "c"}},                // and cuts at the quoted comma
		{"L=@merge", "L", list{one, two}},                                      // and appends an empty text
		{"L=@merge @json [3]", "L", list{one, two, three}},
		{`L=@merge {"a": 1}`, "L", table{"a": one}},
		{"L=['dynaconf_merge', 3]", "L", list{one, two, three}},
		{"L=[3, 'dynaconf_merge']", "L", list{one, two, three}},
		{"L=['dynaconf_merge_unique', 2, 3]", "L", list{one, two, three}},
		{"L=@insert 9", "L", list{int64(9), one, two}},
		{"L=@insert 1 9", "L", list{one, int64(9), two}},
		{"L=@insert -1 9", "L", list{one, int64(9), two}},
		{"L=@insert 99 9", "L", list{one, two, int64(9)}},
		{"L=@insert [1]", "L", list{list{one}, one, two}},
		{"S=@merge x", "S", list{"x"}},

		{"D={b=2}", "D", table{"b": two}},
		{"D=@merge {b=2}", "D", table{"a": one, "b": two, "Foo": foo, "l": list{one}}},
		{"D=@merge b=2", "D.b", two},
		{"D=@merge b=2, c='x'", "D.c", "x"}, // dynaconf loses the quoted text
		{"D=@merge b = hello, c=true", "D", table{"a": one, "b": "hello", "c": true, "Foo": foo, "l": list{one}}},
		{"D=@merge {Foo={y=2}}", "D.Foo", table{"x": one, "y": two}},
		{"D=@merge {foo={y=2}}", "D.Foo", table{"x": one, "y": two}},
		{"D=@merge {l=[2]}", "D.l", list{two}}, // lists in a merged table are replaced
		{"D=@merge {l=['dynaconf_merge',2]}", "D.l", list{one, two}},
		{"D={b=2, dynaconf_merge=true}", "D", table{"a": one, "b": two, "Foo": foo, "l": list{one}}},
		{"D={b=2, dynaconf_merge=false}", "D", table{"b": two}},
		{"D={dynaconf_merge={b=2}}", "D", table{"a": one, "b": two, "Foo": foo, "l": list{one}}},
		{`D=@json {"dynaconf_merge": true, "Foo": {"y": 2}}`, "D.Foo", table{"x": one, "y": two}},
		{"D={Foo={y=2, dynaconf_merge=true}}", "D", table{"Foo": table{"y": two}}},

		{"D__a=5", "D", table{"a": int64(5), "Foo": foo, "l": list{one}}},
		{"D__foo=2", "D", table{"a": one, "Foo": two, "l": list{one}}},
		{"D__FOO__X=2", "D.Foo", table{"x": two}},
		{"D__FOO__Y=2", "D.Foo", table{"x": one, "Y": two}},
		{"d__foo__y=2", "D.Foo", table{"x": one, "y": two}},
		{"D__new__y=2", "D.new", table{"y": two}},
		{"D__a__b=1", "D.a", table{"b": one}},
		{"D__a=@del", "D", table{"Foo": foo, "l": list{one}}},
		{"D__a=@none x", "D", table{"a": nil, "Foo": foo, "l": list{one}}},
		{"D__a=@format {this.S}/{this.D.Foo.x}", "D.a", "s/1"},
		{"D__l=@merge [2]", "D.l", list{one, two}},
		{"D__l=@insert 0 2", "D.l", list{two, one}},
		{"D__Foo={z=1}", "D.Foo", table{"z": one}},
		{"D__Foo=@merge z=1", "D.Foo", table{"x": one, "z": one}},
		{"D__Foo={y=1, dynaconf_merge=true}", "D.Foo", table{"x": one, "y": one}},
		{"NEW__a__B=9", "NEW", table{"a": table{"B": int64(9)}}},
		{"D=@del", "D", nil},
	} {
		s, err := settings(table{"L": list{one, two}, "D": table{"a": one, "Foo": table{"x": one}, "l": list{one}}, "S": "s"}, tc.variable)
		if err != nil {
			t.Errorf("%s: %v", tc.variable, err)
		}
		var got any = s
		for _, part := range dynaconf.SplitKey(tc.key) {
			got = got.(table)[part]
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s (-want +got):\n%s", tc.variable, tc.key, diff)
		}
	}
}

func TestTypedValuesAndSettingsShareNothing(t *testing.T) {
	value := table{"a": list{int64(1)}}
	s := table{}
	dynaconf.Set(s, []string{"X"}, value)
	dynaconf.Set(s, []string{"X", "a"}, dynaconf.Op{Kind: "merge", Value: list{int64(2)}})
	dynaconf.Set(s, []string{"X", "b"}, true)
	if diff := cmp.Diff(table{"a": list{int64(1)}}, value); diff != "" {
		t.Errorf("the value has changed (-want +got):\n%s", diff)
	}
}

func TestFormat(t *testing.T) {
	for _, tc := range []struct {
		v    any
		want string
	}{
		{"http://x", "http://x"},
		{true, "True"},
		{nil, "None"},
		{1.5, "1.5"},
		{2.0, "2.0"},
		{int64(7), "7"},
		{list{int64(1), "<&>", nil, true}, `[1,"<&>",null,true]`},
		{table{"b": table{"c": 1.0}, "a": list{}}, `{"a":[],"b":{"c":1}}`},
		{list{math.Inf(1), math.NaN(), typed("2024-01-01")}, `["inf","nan","2024-01-01"]`},
		{list{typed("@int @format {this.X}"), typed("@merge 1")}, `["@int @format {this.X}",[1]]`},
	} {
		if got := dynaconf.Format(tc.v); got != tc.want {
			t.Errorf("Format(%#v) is %s, want %s", tc.v, got, tc.want)
		}
	}
}

func FuzzVariable(f *testing.F) {
	for _, s := range []string{
		"42", "[1,'a']", "{a=1}", "@merge a=1, b", "@insert 1 x", "@int @format {env[X]}", `@json {"a": ["@merge 1"]}`, "@get V @int 5",
		"@jinja {{ this.V }}", "@merge @merge_unique {a='@del'}", "{dynaconf_merge={b=2}}", "['dynaconf_merge', '@get V']", "'''a\nb'''", "2024-01-01",
	} {
		f.Add(s, "V__a", s)
	}
	f.Fuzz(func(t *testing.T, a, name, b string) {
		old := others()
		old["D"] = table{"x": int64(1), "l": list{int64(1)}}
		s, err := settings(old, "V="+a, strings.ReplaceAll(name, "=", "")+"="+b, "D__l="+b, "D__x="+a)
		if err != nil {
			_ = err.Error()
			return
		}
		_ = dynaconf.Format(s)
	})
}
