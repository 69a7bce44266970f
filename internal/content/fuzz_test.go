package content

import (
	"strings"
	"testing"
)

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-4", "bytes=-3", "bytes=5-", "bytes=-", "bytes=9-1", "bytes=0-1,2-3", "bytes=99999999999999999999-"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		if size < 0 {
			return
		}
		from, to, ok := parseRange(s, size)
		if ok && (from < 0 || from >= to || to > size || !strings.HasPrefix(s, "bytes=")) {
			t.Errorf("parseRange(%q, %d) = %d, %d", s, size, from, to)
		}
	})
}

func FuzzEntityTags(f *testing.F) {
	for _, s := range []string{`"a"`, `W/"a", "b"`, `*`, `"a`, `,,"a",`, `W/W/"a"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		const tag = `"a"`
		strong, weak := matches([]string{s}, tag, false), matches([]string{s}, tag, true)
		if strong && !weak || weak && !strings.Contains(s, tag) && !strings.Contains(s, "*") {
			t.Errorf("matches(%q): strong %v, weak %v", s, strong, weak)
		}
	})
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", ".", "..", "a/../b", "a/..b", "a/./b", "./a", "a/.", "a//b", "a.", "\x00", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !clean(s) {
			return
		}
		for segment := range strings.SplitSeq(s, "/") {
			if segment == "." || segment == ".." || strings.ContainsAny(segment, "\x00") {
				t.Errorf("%q is clean", s)
			}
		}
	})
}
