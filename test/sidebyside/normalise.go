package sidebyside

import (
	"cmp"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// A normaliser replaces what changes from run to run by placeholders, in the order in which things appear.
// One normaliser serves all answers of a run, so that a placeholder means the same thing everywhere.
type normaliser struct {
	known   []string // old, new, old, new ..., in the order in which they are tried
	ids     map[string]string
	counter map[string]int
}

func newNormaliser() *normaliser {
	return &normaliser{ids: map[string]string{}, counter: map[string]int{}}
}

// aside returns a copy for a part in which servers differ: the numbers given there don't count.
func (n *normaliser) aside() *normaliser {
	return &normaliser{n.known, maps.Clone(n.ids), maps.Clone(n.counter)}
}

// know makes a placeholder of a text. What is told first wins where two could begin.
func (n *normaliser) know(text, placeholder string) {
	n.known = append(n.known, text, placeholder)
}

// digests are the kinds that an artifact has, in the order in which bodies show them.
var digests = []struct {
	name string
	sum  func([]byte) []byte
}{
	{"md5", func(b []byte) []byte { s := md5.Sum(b); return s[:] }},
	{"sha1", func(b []byte) []byte { s := sha1.Sum(b); return s[:] }},
	{"sha224", func(b []byte) []byte { s := sha256.Sum224(b); return s[:] }},
	{"sha256", func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }},
	{"sha384", func(b []byte) []byte { s := sha512.Sum384(b); return s[:] }},
	{"sha512", func(b []byte) []byte { s := sha512.Sum512(b); return s[:] }},
}

// knowFile makes placeholders of a file's digests and of the place at which its artifact is stored.
func (n *normaliser) knowFile(name string, data []byte) {
	for _, d := range digests {
		sum := hex.EncodeToString(d.sum(data))
		n.know(sum, "<"+d.name+" of "+name+">")
		if d.name == "sha256" {
			n.know("artifact/"+sum[:2]+"/"+sum[2:], "<artifact file of "+name+">")
		}
	}
}

var (
	uuidText = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	// The years before 2020 belong to scenarios.
	timeText  = regexp.MustCompile(`20[2-9]\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z`)
	shortTime = regexp.MustCompile(`20[2-9]\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)
	pathTime  = regexp.MustCompile(`20[2-9]\d{5}T\d{6}Z`)
	// Its placeholder is as long, so that columns stay.
	listingDate  = regexp.MustCompile(`\d\d-(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-20\d\d \d\d:\d\d`)
	numberedText = regexp.MustCompile(`(/users/|/groups/|prn:auth\.user:|prn:auth\.group:|prn:core\.group:)(\d+)\b`)
	idKind       = regexp.MustCompile(`(?:/api/v3/([a-z_-]+)/[A-Za-z0-9_/-]*|prn:[a-z_]+\.([a-z0-9_]+):)$`)
	correlation  = regexp.MustCompile(`^[0-9a-f]{32}$`)
	httpTime     = regexp.MustCompile(`^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$`)
)

// text replaces what is known and what looks volatile.
func (n *normaliser) text(s string) string {
	s = strings.NewReplacer(n.known...).Replace(s)
	s = n.uuids(s)
	s = timeText.ReplaceAllString(s, "<time>")
	s = shortTime.ReplaceAllString(s, "<time in milliseconds>")
	s = pathTime.ReplaceAllString(s, "<checkpoint>")
	s = listingDate.ReplaceAllString(s, "<date-and-minute>")
	return numberedText.ReplaceAllStringFunc(s, func(m string) string {
		i := strings.LastIndexAny(m, "/:") + 1
		kind := "user"
		if strings.Contains(m, "group") {
			kind = "group"
		}
		return m[:i] + n.placeholder(kind+" "+m[i:], kind)
	})
}

// nilUUID is what scenarios write for an object that does not exist.
const nilUUID = "00000000-0000-0000-0000-000000000000"

// uuids numbers the UUIDs of a text, kind by kind: a placeholder says what the id was when it was first seen.
func (n *normaliser) uuids(s string) string {
	var b strings.Builder
	last := 0
	for _, at := range uuidText.FindAllStringIndex(s, -1) {
		b.WriteString(s[last:at[0]])
		kind := "id"
		if m := idKind.FindStringSubmatch(b.String()); m != nil {
			kind = cmp.Or(m[1], m[2])
		}
		b.WriteString(n.placeholder(s[at[0]:at[1]], kind))
		last = at[1]
	}
	return b.String() + s[last:]
}

func (n *normaliser) placeholder(id, kind string) string {
	if id == nilUUID {
		return id
	}
	if n.ids[id] == "" {
		n.counter[kind]++
		n.ids[id] = fmt.Sprintf("<%s-%d>", kind, n.counter[kind])
	}
	return n.ids[id]
}

// Objects under mapKeys and lists under setKeys come in an order of the database's.
var (
	mapKeys = []string{"error", "result", "versions", "pulp_labels"}
	setKeys = []string{"progress_reports"}
)

// json normalises a body. The path says where the value lies in the answer.
func (n *normaliser) json(path string, v Value, step *Step) Value {
	for _, m := range step.Volatile {
		if equals(m.Path, path) {
			return "<any>"
		}
	}
	for _, d := range step.Differs {
		if equals(d.Path, path) {
			return n.aside().value(path, v, step)
		}
	}
	return n.value(path, v, step)
}

func (n *normaliser) value(path string, v Value, step *Step) Value {
	key := path[strings.LastIndexByte(path, '.')+1:]
	unordered := slices.Contains(setKeys, key) || slices.ContainsFunc(step.Unordered, func(m Mark) bool { return equals(m.Path, path) })
	switch v := v.(type) {
	case *Object:
		if unordered {
			v = sortKeys(v).(*Object)
		}
		out := &Object{}
		for _, m := range v.Members {
			if _, ok := m.Value.(*Object); ok && slices.Contains(mapKeys, m.Key) {
				m.Value = sortKeys(m.Value)
			}
			value := n.member(path, m, step)
			out.Members = append(out.Members, Member{n.text(m.Key), value})
		}
		return out
	case []Value:
		if unordered {
			v = slices.Clone(v)
			slices.SortStableFunc(v, func(a, b Value) int { return cmp.Compare(n.blank(a), n.blank(b)) })
		}
		out := make([]Value, len(v))
		for i, e := range v {
			out[i] = n.json(fmt.Sprintf("%s.%d", path, i), e, step)
		}
		return out
	case string:
		return n.text(v)
	}
	return v
}

func (n *normaliser) member(path string, m Member, step *Step) Value {
	text, isText := m.Value.(string)
	_, number := m.Value.(json.Number)
	switch {
	case m.Key == "traceback" && isText:
		return "<traceback>"
	case m.Key == "logging_cid" && correlation.MatchString(text):
		return "<correlation id>"
	case m.Key == "id" && number:
		return "<number>"
	}
	return n.json(path+"."+m.Key, m.Value, step)
}

// blank is a value by which unordered lists are sorted: without what gets its number by its place.
func (n *normaliser) blank(v Value) string {
	s := strings.NewReplacer(n.known...).Replace(EncodeJSON(v))
	return numberedText.ReplaceAllString(timeText.ReplaceAllString(uuidText.ReplaceAllString(s, ""), ""), "$1")
}

func sortKeys(v Value) Value {
	switch v := v.(type) {
	case *Object:
		out := &Object{Members: slices.Clone(v.Members)}
		slices.SortFunc(out.Members, func(a, b Member) int { return cmp.Compare(a.Key, b.Key) })
		for i := range out.Members {
			out.Members[i].Value = sortKeys(out.Members[i].Value)
		}
		return out
	case []Value:
		out := make([]Value, len(v))
		for i := range v {
			out[i] = sortKeys(v[i])
		}
		return out
	}
	return v
}

// unrecorded headers depend on the moment and on the server in front.
var unrecorded = []string{"Date", "Server", "Connection", "Keep-Alive"}

// standard is what each answer of the API carries; answers that have all of it show one line in its place.
var standard = []Field{
	{"X-Frame-Options", "DENY"},
	{"X-Content-Type-Options", "nosniff"},
	{"Referrer-Policy", "same-origin"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Correlation-Id", "<new>"},
	{"Access-Control-Expose-Headers", "Correlation-ID"},
}

// header normalises an answer's header. Of the API's answers the length is left out, since it depends on names of
// hosts; that of content is recorded.
func (n *normaliser) header(resp *http.Response, step *Step) []Field {
	content := strings.HasPrefix(resp.Request.URL.Opaque, contentRoot)
	sent := resp.Request.Header.Get("Correlation-Id")
	var out []Field
	for name, values := range resp.Header {
		if slices.Contains(unrecorded, name) || !content && name == "Content-Length" {
			continue
		}
		for _, value := range values {
			switch {
			case name == "Correlation-Id" && sent != "" && value == sent:
				value = "<as sent>"
			case name == "Correlation-Id" && correlation.MatchString(value):
				value = "<new>"
			case name == "Etag", name == "Last-Modified" && httpTime.MatchString(value):
				value = "<present>"
			case name == "Allow":
				methods := strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
				slices.Sort(methods)
				value = strings.Join(methods, ", ")
			case name == "Set-Cookie":
				value = cookie(value)
			}
			value = n.text(value)
			if slices.ContainsFunc(step.Volatile, func(m Mark) bool { return strings.EqualFold(m.Path, "header."+name) }) {
				value = "<any>"
			}
			out = append(out, Field{name, value})
		}
	}
	if content && slices.Contains(resp.TransferEncoding, "chunked") {
		out = append(out, Field{"Transfer-Encoding", "chunked"})
	}
	if hasAll(out, standard) {
		out = slices.DeleteFunc(out, func(f Field) bool { return slices.Contains(standard, f) })
		out = append(out, Field{"Standard-Headers", "all"})
	}
	slices.SortFunc(out, func(a, b Field) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value)) })
	return out
}

// cookie replaces the value and the time of a Set-Cookie header and sorts the attributes.
func cookie(header string) string {
	parts := strings.Split(header, ";")
	if name, value, _ := strings.Cut(parts[0], "="); value != "" && value != `""` {
		parts[0] = name + "=<value>"
	}
	for i, p := range parts[1:] {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		name = strings.ToLower(name)
		switch {
		case name == "expires":
			parts[i+1] = "expires=<date>"
		case value != "":
			parts[i+1] = name + "=" + value
		default:
			parts[i+1] = name
		}
	}
	slices.Sort(parts[1:])
	return strings.Join(parts, "; ")
}

func hasAll(fields, wanted []Field) bool {
	return !slices.ContainsFunc(wanted, func(f Field) bool { return !slices.Contains(fields, f) })
}
