package mediatype_test

import (
	"os"
	"strings"
	"testing"

	"granary/internal/content/mediatype"
)

func TestOf(t *testing.T) {
	const none = "application/octet-stream"
	for _, tc := range []struct{ path, want string }{
		{"x.gz", "application/gzip"},
		{"x.tar.gz", "application/gzip"}, // only the last one counts
		{"x.html.rpm", none},
		{"x.rpm.html", "text/html"},
		{"repodata/repomd.xml", "text/xml"},
		{"A.JPG", "image/jpeg"},
		{"a.WebManifest", "application/manifest+json"},
		{"é.txt", "text/plain"},
		{"a;b.jpg", "image/jpeg"},
		{"http:/a.jpg", "image/jpeg"},

		{"", none},
		{"x", none},
		{"x.", none},
		{"x.jpg.", none},
		{".", none},
		{"..", none},
		{"x.unknown", none},
		{"x.webmanifests", none}, // longer than the longest
		{"x.webmanifest2", none}, //
		{"x.jp\u00e9", none},
		{"x.jpg ", none},
		{"x. jpg", none},

		{".jpg", none}, // a hidden file, not an extension
		{"...jpg", none},
		{"a/.jpg", none},
		{".a.jpg", "image/jpeg"},
		{"..a.jpg", "image/jpeg"},

		{"a.jpg/b", none}, // a folder's name does not count
		{"a.jpg/", none},
		{"a.jpg/b.png", "image/png"},
		{"a.b/c.d/e.css", "text/css"},
		{"/a.css", "text/css"},

		// Not known, unlike elsewhere.
		{"x.rpm", none},
		{"x.deb", none},
		{"x.whl", none},
		{"x.gem", none},
		{"x.iso", none},
		{"x.asc", none},
		{"x.tgz", none},
		{"x.yaml", none},
		{"x.md", none},
		{"x.avi", none},
		{"x.svgz", none},
		{"x.br", none},
	} {
		if got := mediatype.Of(tc.path); got != tc.want {
			t.Errorf("Of(%q) = %s, want %s", tc.path, got, tc.want)
		}
	}
}

// testdata/types.txt has all that Pulp knows, as "type: extension extension".
func TestTable(t *testing.T) {
	b, err := os.ReadFile("testdata/types.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		want, extensions, _ := strings.Cut(strings.TrimSpace(line), ": ")
		for extension := range strings.FieldsSeq(extensions) {
			n++
			if got := mediatype.Of("x." + extension); got != want {
				t.Errorf("Of(x.%s) = %s, want %s", extension, got, want)
			}
		}
	}
	if n != 184 {
		t.Errorf("the table has %d extensions", n)
	}
}

func TestOfDoesNotAllocate(t *testing.T) {
	for _, path := range []string{"Packages/a/a-1.0.RPM", "repodata/PRIMARY.XML.GZ", "index.HTML"} {
		if n := testing.AllocsPerRun(100, func() { mediatype.Of(path) }); n != 0 {
			t.Errorf("Of(%q) allocates %v times", path, n)
		}
	}
}

func BenchmarkOf(b *testing.B) {
	for b.Loop() {
		mediatype.Of("repodata/0123456789abcdef-primary.xml.gz")
	}
}
