package manifest_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"granary/format/manifest"

	"github.com/google/go-cmp/cmp"
)

// Digests: of nothing, and of "hello".
const (
	none  = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
)

func read(r io.Reader) ([]manifest.Entry, error) {
	var entries []manifest.Entry
	err := manifest.Read(r, func(e manifest.Entry) error {
		entries = append(entries, e)
		return nil
	})
	return entries, err
}

// paths reads a manifest in which only the paths matter.
func paths(t *testing.T, r io.Reader) []string {
	t.Helper()
	entries, err := read(r)
	if err != nil {
		t.Fatalf("%v: %v", err, errors.Unwrap(err))
	}
	var p []string
	for _, e := range entries {
		p = append(p, e.Path)
	}
	return p
}

func TestRead(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []manifest.Entry
	}{
		{"nothing", "", nil},
		{"only a comment", "# nightly", nil},
		{"blank lines", "\n  \n\t\r\n", nil},
		{"two files", "a," + hello + ",5\nb," + none + ",0\n", []manifest.Entry{{"a", hello, 5}, {"b", none, 0}}},
		{"no last line break", "a," + hello + ",5", []manifest.Entry{{"a", hello, 5}}},
		{
			"comments and folders", "# nightly\n  # indented\niso/a,b.iso," + hello + ",1024\n\nzero," + none + ",0\n",
			[]manifest.Entry{{"iso/a,b.iso", hello, 1024}, {"zero", none, 0}},
		},
		{"commas in the path", "a,b,,c," + hello + ",5", []manifest.Entry{{"a,b,,c", hello, 5}}},
		{"a path like an entry", "a," + none + ",0," + hello + ",5", []manifest.Entry{{"a," + none + ",0", hello, 5}}},
		{"white space around", " \u00a0a b , " + hello + "\t,\x1f5\u3000\n", []manifest.Entry{{"a b", hello, 5}}},
		{"upper case", "A," + strings.ToUpper(hello) + ",5", []manifest.Entry{{"A", hello, 5}}},
		{"leading zeros", "a," + hello + ",007", []manifest.Entry{{"a", hello, 7}}},
		{"the largest size", "a," + hello + ",9223372036854775807", []manifest.Entry{{"a", hello, math.MaxInt64}}},
		{"the same line twice", "a," + hello + ",5\na," + hello + ",5\n", []manifest.Entry{{"a", hello, 5}, {"a", hello, 5}}},
		{"odd names", "..a," + hello + ",5\n.a/b../...," + hello + ",5\n#", []manifest.Entry{{"..a", hello, 5}, {".a/b../...", hello, 5}}},
		{"# inside", "a#b," + hello + ",5", []manifest.Entry{{"a#b", hello, 5}}},
		{"not ASCII", "ä/\u0436\u2027.txt," + hello + ",5", []manifest.Entry{{"ä/\u0436\u2027.txt", hello, 5}}},
		{"a byte order mark", "\ufeffa," + hello + ",5", []manifest.Entry{{"\ufeffa", hello, 5}}}, // As Pulp does: it belongs to the path.
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := read(strings.NewReader(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			// It must not matter where the pieces of the stream end.
			got, err = read(iotest.OneByteReader(strings.NewReader(tc.text)))
			if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
				t.Errorf("byte by byte: %v, -want +got:\n%s", err, diff)
			}
		})
	}
}

func TestLineBreaks(t *testing.T) {
	for _, br := range []string{"\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\u0085", "\u2028", "\u2029"} {
		text := "a," + none + ",0" + br + br + "b," + none + ",0" + br + "bad" + br
		for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
			entries, err := read(r)
			line, ok := errors.AsType[*manifest.LineError](err)
			if !ok || line.Line != 4 || len(entries) != 2 {
				t.Errorf("with %q: %d entries, error in %+v, want 2 and line 4", br, len(entries), line)
			}
		}
	}
	// These look like some.
	for _, text := range []string{"\x1f", "\t", "\u0084", "\u0086", "\u2027", "\u202a", "\u200b", "\u00a0"} {
		want := "a" + text + "b"
		if got := paths(t, strings.NewReader(want+","+none+",0")); len(got) != 1 || got[0] != want {
			t.Errorf("paths = %q, want %q", got, want)
		}
	}
	if got := paths(t, strings.NewReader("\n\r\na,"+none+",0\r\r\nb,"+none+",0\r")); !cmp.Equal(got, []string{"a", "b"}) {
		t.Errorf("with mixed line breaks: %q", got)
	}
}

func TestReadRefuses(t *testing.T) {
	for _, tc := range []struct{ name, line string }{
		{"one field", "hello"},
		{"two fields", "a," + hello},
		{"a page", "<!DOCTYPE html>"},
		{"a page with commas", `<meta content="width=device-width, initial-scale=1, shrink=no">`},
		{"no path", "," + hello + ",5"},
		{"a blank path", " , " + hello + ",5"},
		{"an absolute path", "/a," + hello + ",5"},
		{"a folder", "a/," + hello + ",5"},
		{"a doubled slash", "a//b," + hello + ",5"},
		{"only a slash", "/," + hello + ",5"},
		{"a dot", ".," + hello + ",5"},
		{"a dot before", "./a," + hello + ",5"},
		{"a dot inside", "a/./b," + hello + ",5"},
		{"dots", "..," + hello + ",5"},
		{"dots before", "../a," + hello + ",5"},
		{"dots inside", "a/../b," + hello + ",5"},
		{"dots after", "a/..," + hello + ",5"},
		{"no digest", "a,,5"},
		{"a short digest", "a," + hello[1:] + ",5"},
		{"a long digest", "a,0" + hello + ",5"},
		{"a digest with a g", "a,g" + hello[1:] + ",5"},
		{"a digest with a blank", "a," + hello[:32] + " " + hello[33:] + ",5"},
		{"fields in the wrong order", hello + ",5,a"},
		{"no size", "a," + hello + ","},
		{"a negative size", "a," + hello + ",-5"},
		{"a signed size", "a," + hello + ",+5"},
		{"a size with a fraction", "a," + hello + ",5.0"},
		{"a size with an underscore", "a," + hello + ",1_0"},
		{"a size with a unit", "a," + hello + ",5k"},
		{"a size that is too large", "a," + hello + ",9223372036854775808"},
		{"a size that is far too large", "a," + hello + "," + strings.Repeat("9", 1000)},
		{"no UTF-8", "a\xff," + hello + ",5"},
		{"NUL", "a\x00," + hello + ",5"},
		{"a line without end", strings.Repeat("a", 10*manifest.MaxLine)},
		{"a line that is too long", strings.Repeat("a", manifest.MaxLine-67) + "," + hello + ",55"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := read(strings.NewReader("# first\nok," + none + ",0\n" + tc.line + "\nok," + none + ",0\n"))
			line, ok := errors.AsType[*manifest.LineError](err)
			if !ok {
				t.Fatalf("error = %v", err)
			}
			if line.Line != 3 || line.Reason == nil {
				t.Errorf("line %d, reason %v, want line 3 and a reason", line.Line, line.Reason)
			}
		})
	}
}

func TestLineErrorText(t *testing.T) {
	_, err := read(strings.NewReader("\n\n\nbad\n"))
	want := `Error: Parsing of the manifest file failed on line:4.
Please make sure the remote URL is pointing to a valid manifest file.
The manifest file should be composed of lines in the following format: <relative_path>,<digest>,<size>.`
	if err == nil || err.Error() != want {
		t.Errorf("error:\n%v\nwant:\n%s", err, want)
	}
}

func TestLongestLine(t *testing.T) {
	want := strings.Repeat("a", manifest.MaxLine-67)
	for _, br := range []string{"", "\n", "\r\n", "\u2028"} {
		line := want + "," + none + ",0" + br
		if got := paths(t, strings.NewReader("\r\n"+line)); len(got) != 1 || got[0] != want {
			t.Errorf("with %q: %d paths", br, len(got))
		}
	}
}

func TestReadEnds(t *testing.T) {
	stop, calls := errors.New("stop"), 0
	err := manifest.Read(strings.NewReader("a,"+none+",0\nb,"+none+",0\nbad"), func(manifest.Entry) error { calls++; return stop })
	if err != stop || calls != 1 { //nolint:errorlint // as it is
		t.Errorf("error = %v after %d calls, want stop after one", err, calls)
	}

	broken := errors.New("connection reset")
	for _, half := range []string{"", "b," + none, "b," + none + ",1"} {
		entries, err := read(io.MultiReader(strings.NewReader("a,"+none+",0\n"+half), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) || len(entries) > 1 {
			t.Errorf("after %q: %d entries, error = %v, want the reader's", half, len(entries), err)
		}
	}

	// Nothing is read on after the first bad line.
	rest := &countingReader{r: strings.NewReader(strings.Repeat("bad\n", 1_000_000))}
	if _, err := read(rest); err == nil || rest.n > 200<<10 {
		t.Errorf("error = %v after %d bytes", err, rest.n)
	}
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func TestAppend(t *testing.T) {
	got := manifest.Append([]byte("before\n"), manifest.Entry{Path: "iso/a,b.iso", SHA256: hello, Size: 1024})
	if want := "before\niso/a,b.iso," + hello + ",1024\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCheck(t *testing.T) {
	for _, e := range []manifest.Entry{
		{"a", hello, 5},
		{"a b/c,d", none, 0},
		{"..a/#", none, math.MaxInt64},
		{strings.Repeat("a", manifest.MaxLine-67), none, 0},
	} {
		if err := e.Check(); err != nil {
			t.Errorf("%.40q, %s, %d: %v", e.Path, e.SHA256, e.Size, err)
		}
	}
	for _, e := range []manifest.Entry{
		{},
		{"", hello, 5},
		{"/a", hello, 5},
		{"a/../b", hello, 5},
		{"#a", hello, 5},
		{"a\nb", hello, 5},
		{"a\u2028b", hello, 5},
		{" a", hello, 5},
		{"a\u00a0", hello, 5},
		{"a\xff", hello, 5},
		{"a", strings.ToUpper(hello), 5},
		{"a", "", 5},
		{"a", hello + "0", 5},
		{"a", " " + hello, 5},
		{"a", none + ",0", 5},
		{"a", hello, -1},
		{strings.Repeat("a", manifest.MaxLine-66), none, 0},
	} {
		if err := e.Check(); err == nil {
			t.Errorf("%.40q, %s, %d is good", e.Path, e.SHA256, e.Size)
		}
	}
}

// Many lines take a time that grows with their number only.
func TestManyLines(t *testing.T) {
	const n = 100_000
	start := time.Now()
	count := 0
	err := manifest.Read(bytes.NewReader(lines(n)), func(manifest.Entry) error { count++; return nil })
	if err != nil || count != n {
		t.Errorf("%d entries, %v", count, err)
	}
	if took := time.Since(start); took > 5*time.Second { // it takes some 30 ms
		t.Errorf("it took %v", took)
	}
}

func lines(n int) []byte {
	var b []byte
	for i := range n {
		b = manifest.Append(b, manifest.Entry{Path: fmt.Sprintf("pool/%d/package-%d.iso", i%100, i), SHA256: hello, Size: int64(i)})
	}
	return b
}

func ExampleAppend() {
	w := bufio.NewWriter(os.Stdout)
	for _, e := range []manifest.Entry{{"a", hello, 5}, {"b/empty", none, 0}} {
		w.Write(manifest.Append(w.AvailableBuffer(), e))
	}
	w.Flush()
	// Output:
	// a,2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824,5
	// b/empty,e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855,0
}

// FuzzRead checks that whatever is read can be written and read again, and that lines are counted as Python does.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"", "a," + hello + ",5\n", "# c\r\n\r\n a , " + strings.ToUpper(hello) + " , 007 \u2028b,c," + none + ",0\u0085bad", "<html>", "a\xc2," + hello + ",5\n\xe2\x80", "../a," + none + ",0",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := read(bytes.NewReader(data))
		var again []byte
		for _, e := range entries {
			if err := e.Check(); err != nil {
				t.Fatalf("%+v was read, but: %v", e, err)
			}
			again = manifest.Append(again, e)
		}
		second, err2 := read(bytes.NewReader(again))
		if err2 != nil || !cmp.Equal(entries, second) {
			t.Fatalf("read %+v, then %+v, %v", entries, second, err2)
		}

		slow, slowErr := read(iotest.OneByteReader(bytes.NewReader(data)))
		if !cmp.Equal(entries, slow) || fmt.Sprint(err) != fmt.Sprint(slowErr) {
			t.Fatalf("at once: %+v, %v; byte by byte: %+v, %v", entries, err, slow, slowErr)
		}
		if line, ok := errors.AsType[*manifest.LineError](err); ok {
			if n := len(splitLines(string(data))); line.Line < 1 || line.Line > n {
				t.Fatalf("line %d of %d is bad", line.Line, n)
			}
		} else if err != nil {
			t.Fatal(err)
		}
	})
}

// splitLines is the plain way to split lines.
func splitLines(text string) []string {
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\v", "\n", "\f", "\n", "\x1c", "\n", "\x1d", "\n", "\x1e", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(text)
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// FuzzAppend checks that Check tells the entries that can be read again from the others.
func FuzzAppend(f *testing.F) {
	f.Add("a", hello, int64(5))
	f.Add("a,b/c", none, int64(0))
	f.Add("#a", none, int64(0))
	f.Add(" a\r\n", none, int64(-1))
	f.Add("a\u2028b,"+none+",0", none, int64(0))
	f.Add("a,"+none+",0\nb", none, int64(0))
	f.Add("a", none+",0\nb,"+none, int64(0))
	f.Fuzz(func(t *testing.T, path, digest string, size int64) {
		want := manifest.Entry{Path: path, SHA256: digest, Size: size}
		got, err := read(bytes.NewReader(manifest.Append(nil, want)))
		good := err == nil && len(got) == 1 && got[0] == want
		if check := want.Check(); good != (check == nil) {
			t.Fatalf("Check of %+v: %v; read again: %+v, %v", want, check, got, err)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	data := lines(1_000_000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := manifest.Read(bytes.NewReader(data), func(manifest.Entry) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	e := manifest.Entry{Path: "pool/17/package-123456.iso", SHA256: hello, Size: 123456}
	const n = 1_000_000
	b.SetBytes(n * int64(len(manifest.Append(nil, e))))
	b.ReportAllocs()
	for b.Loop() {
		w := bufio.NewWriter(io.Discard)
		for range n {
			if _, err := w.Write(manifest.Append(w.AvailableBuffer(), e)); err != nil {
				b.Fatal(err)
			}
		}
	}
}
