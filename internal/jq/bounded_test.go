package jq

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestCompileBounded(t *testing.T) {
	const document = `{"identity": {"org_id": "1", "user": {"username": "Ann"}, "groups": ["a", "b"]}, "n": [3, 4]}`
	for filter, want := range map[string]string{
		`.identity.org_id`:                                              "1",
		`.["identity"]["user"].username`:                                "Ann",
		`.identity.groups[-1]`:                                          "b",
		`.identity.groups[0:1][]`:                                       "a",
		`.missing // .identity.org_id`:                                  "1",
		`.identity | .org_id + "/" + (.user.username | ascii_downcase)`: "1/ann",
		`"\(.identity.org_id):x"`:                                       "1:x",
		`.identity.groups | join(",")`:                                  "a,b",
		`if .identity.groups | any(. == "b") then "yes" else "no" end`:  "yes",
		`.identity.groups[] | select(test("^b$"))`:                      "b",
		`select(.identity | has("org_id") and (.user.username | startswith("A"))) | .n | type`: "array",
		`try error catch "caught"`: "caught",
	} {
		f, err := CompileBounded(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		if got, err := NewRunner().First(t.Context(), f, []byte(document)); err != nil || got != want {
			t.Errorf("%s gives %v, %v; want %s", filter, got, err, want)
		}
	}
	for _, filter := range []string{
		"1" + strings.Repeat("|[.,.]", 40) + "| . == .", // takes years, in one step
		`"a"` + strings.Repeat("|. + .", 40), `"a" * 1e9`, `"a"` + strings.Repeat("|tojson", 40), `"a"` + strings.Repeat(`|"\(.)\(.)"`, 20),
		`null | setpath([range(1e7) | 0]; 1)`, `. as $x | $x`, `def f: [f]; f`, `reduce range(1e9) as $i (""; . + "a")`, `.a = 1`, `.a |= 1`,
		`map(.)`, `{a: .}`, `.a | test(.)`, `test("a{1000}")`, `contains(.)`, `split("") | join("` + strings.Repeat("x", 100) + `")`,
		`.["\(.a)\(.a)\(.a)"]`, `.[(. as $x | 1)]`, `.[:[1]]`, `.a[{}]`, `if [1] then 1 end`, `if 1 then 1 elif [1] then 2 else [1] end`,
		`try [1]`, `try 1 catch [1]`, `select([1])`, `-(.)`, `label $out | 1`, `@base64`, `-[1]`, `.a - .b`, `env`, `input`,
	} {
		if _, err := CompileBounded(filter); err == nil {
			t.Errorf("%s is taken", filter)
		}
	}
}

// Whatever is taken ends soon, also on input that was made for it.
func TestBoundedEndsSoon(t *testing.T) {
	document := []byte(`{"a": "` + strings.Repeat("x", MaxInput-20) + `"}`)
	for _, filter := range []string{`.a` + strings.Repeat("|. + .", maxGrowth), `.a | tojson | tojson`, `.a | test("(x+x+)+y")`, `.a | split("") | join("12345678")`} {
		f, err := CompileBounded(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		began := time.Now()
		_, _ = NewRunner().First(context.Background(), f, document)
		if took := time.Since(began); took > 20*time.Second { // seconds more than a slow machine needs, years less than the wrong ones
			t.Errorf("%s took %s", filter, took)
		}
	}
}
