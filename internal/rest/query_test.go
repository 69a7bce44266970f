package rest

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseQuery(t *testing.T) {
	for _, tc := range []struct {
		raw  string
		want url.Values
	}{
		{"", url.Values{}},
		{"a=1&b=2&a=3", url.Values{"a": {"1", "3"}, "b": {"2"}}},
		{"a&b=&&=c", url.Values{"a": {""}, "b": {""}, "": {"c"}}},
		{"a=b=c", url.Values{"a": {"b=c"}}},
		{"a=x+y%20z%2b", url.Values{"a": {"x y z+"}}},
		{"name=a;b", url.Values{"name": {"a;b"}}},
		{"name=a;name=b", url.Values{"name": {"a;name=b"}}},
		{"a=%zz&b=100%&c=%4", url.Values{"a": {"%zz"}, "b": {"100%"}, "c": {"%4"}}},
		{"a=%zz%41+", url.Values{"a": {"%zzA "}}},
		{"%zz=1", url.Values{"%zz": {"1"}}},
	} {
		if diff := cmp.Diff(tc.want, parseQuery(tc.raw)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tc.raw, diff)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add("a=1&b=%zz;c")
	f.Fuzz(func(t *testing.T, raw string) {
		got := parseQuery(raw)
		if want, err := url.ParseQuery(raw); err == nil && !cmp.Equal(got, want) {
			t.Errorf("%q: %v, want %v", raw, got, want)
		}
	})
}
