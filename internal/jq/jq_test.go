package jq_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"granary/internal/jq"
)

func TestFirst(t *testing.T) {
	r := jq.NewRunner()
	for _, tc := range []struct {
		filter, document string
		want             any
	}{
		{".a", `{"a":"b"}`, "b"},
		{".a[]", `{"a":["1","2"]}`, "1"},
		{".a", `{}`, nil},
		{".a|tostring", `{"a":1}`, "1"},
		{".", `"x"`, "x"},
	} {
		f, err := jq.Compile(tc.filter)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.First(t.Context(), f, []byte(tc.document)); err != nil || got != tc.want {
			t.Errorf("First(%s, %s) = %v, %v, want %v", tc.filter, tc.document, got, err, tc.want)
		}
	}
}

// TestLimits says that no filter takes long, sees the environment, or gets a long document.
func TestLimits(t *testing.T) {
	r := jq.NewRunner()
	for _, text := range []string{
		"last(repeat(1))", "def f: f; f", `"x" * 1e12`, "[range(1e12)]|length", `reduce range(60) as $i ("x"; . + .)|length`, "def f: 1 + f; f", "empty", "error", "halt", `$ENV.PATH|length/0`,
	} {
		f, err := jq.Compile(text)
		if err != nil {
			continue
		}
		start := time.Now()
		if v, err := r.First(t.Context(), f, []byte("{}")); err == nil {
			t.Errorf("%s gives %v", text, v)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s took %v", text, d)
		}
	}
	f, err := jq.Compile(".")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.First(t.Context(), f, []byte(`"`+strings.Repeat("x", jq.MaxInput)+`"`)); err == nil {
		t.Error("a document that is too long is read")
	}
	if _, err := jq.Compile("." + strings.Repeat("|.", jq.MaxFilter)); err == nil {
		t.Error("a filter that is too long is read")
	}
}

func TestDecodeBase64(t *testing.T) {
	for in, want := range map[string]string{
		"eWVz": "yes", "e W\nV!z": "yes", "eWVz====": "yes", "eQ==": "y", "eWU=": "ye", "eQ==eWVz": "y", "": "", "_-8=": "error", "=": "", "eWV": "error", "e": "error", "e=": "error",
	} {
		got, err := jq.DecodeBase64(in)
		if err != nil {
			got = []byte("error")
		}
		if string(got) != want {
			t.Errorf("DecodeBase64(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

func FuzzFirst(f *testing.F) {
	f.Add(".a", `{"a":"b"}`)
	f.Add(".a[]|select(.b)", `{"a":[{"b":1}]}`)
	f.Add("..", "[[]]")
	r := jq.NewRunner()
	f.Fuzz(func(t *testing.T, filter, document string) {
		c, err := jq.Compile(filter)
		if err != nil {
			return
		}
		_, _ = r.First(t.Context(), c, []byte(document))
	})
}

func FuzzDecodeBase64(f *testing.F) {
	f.Add("eWVz")
	f.Add("e W=V")
	f.Fuzz(func(t *testing.T, s string) {
		b, err := jq.DecodeBase64(s)
		if strict, serr := base64.StdEncoding.DecodeString(s); serr == nil && (err != nil || string(b) != string(strict)) {
			t.Errorf("DecodeBase64(%q) = %q, %v, want %q", s, b, err, strict)
		}
	})
}
