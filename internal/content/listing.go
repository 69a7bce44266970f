package content

import (
	"bytes"
	"fmt"
	"html"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"granary/internal/pulp"
)

// columns is how far to the right of a name's beginning its date stands.
const columns = 100

// listing makes the page of a directory. The root of all has no parent.
func listing(title string, parent bool, items []Item) []byte {
	var b bytes.Buffer
	title = html.EscapeString(title)
	fmt.Fprintf(&b, "\n<html>\n<head><title>Index of %[1]s</title></head>\n<body bgcolor=\"white\">\n<h1>Index of %[1]s</h1>\n<hr><pre>", title)
	if parent {
		b.WriteString(`<a href="../">../</a>`)
	}
	b.WriteByte('\n')
	for _, it := range items {
		// As Pulp does: the space is that of the name as it stands in the page's source.
		name := html.EscapeString(it.Name)
		fmt.Fprintf(&b, `<a href="%s">%s</a>%*s`, html.EscapeString(reference(it.Name)), name, max(0, columns-utf8.RuneCountInString(name)), "")
		b.WriteString(date(it.Date))
		b.WriteString("  ")
		b.WriteString(size(it.Size))
		b.WriteByte('\n')
	}
	b.WriteString("</pre><hr></body>\n</html>")
	return b.Bytes()
}

// reference returns the relative URL of a name.
func reference(name string) string {
	ref := (&url.URL{Path: name}).EscapedPath()
	if strings.Contains(name, ":") {
		return "./" + ref // else what is before the colon would be a scheme
	}
	return ref
}

func date(t pulp.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Std().Format("02-Jan-2006 15:04")
}

// size writes a number of bytes as people read it, by powers of ten; a negative one is not known.
func size(n int64) string {
	switch {
	case n < 0:
		return ""
	case n == 1:
		return "1 Byte"
	case n < 1000:
		return strconv.FormatInt(n, 10) + " Bytes"
	}
	unit, suffixes := 1e3, "kMGTPE"
	for float64(n) >= unit*1e3 && len(suffixes) > 1 {
		unit, suffixes = unit*1e3, suffixes[1:]
	}
	return strconv.FormatFloat(float64(n)/unit, 'f', 1, 64) + " " + suffixes[:1] + "B"
}
