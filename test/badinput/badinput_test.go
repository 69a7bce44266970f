package badinput

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"granary/test/binary"
)

// garbage is 10 MB that mean nothing.
var garbage = func() []byte {
	b := make([]byte, 10<<20)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}()

// A target is the server under test.
type target struct {
	*binary.Server
	contract *contract
}

func TestBadInput(t *testing.T) {
	s := &target{Server: binary.Start(t, t.TempDir(), "PULP_ORPHAN_PROTECTION_TIME=0")} // no tasks but those of requests
	s.contract = read(t, s.Server, s.seed(t))
	if n := len(s.contract.details); n < 12 {
		t.Fatalf("there are only %d kinds of objects: %q", n, s.contract.details)
	}
	if n := len(s.contract.writable); n < 30 {
		t.Fatalf("there are only %d endpoints that take a body", n)
	}
	t.Run("bodies", func(t *testing.T) { s.each(t, s.bodies) })
	t.Run("fields", func(t *testing.T) { s.each(t, s.fields) })
	t.Run("forms", func(t *testing.T) { s.each(t, s.forms) })
	t.Run("garbage", func(t *testing.T) { s.each(t, s.garbage) })
	t.Run("pieces", func(t *testing.T) { s.unchanged(t, s.pieces) })
	t.Run("queries", func(t *testing.T) { s.unchanged(t, s.queries) })
	t.Run("paths", func(t *testing.T) { s.unchanged(t, s.paths) })
	t.Run("connections", func(t *testing.T) { s.unchanged(t, s.connections) })
	t.Run("manifests", func(t *testing.T) { s.manifests(t) })
	if _, err := s.JSON(t.Context(), http.MethodGet, "/pulp/api/v3/status/", nil); err != nil {
		t.Error(err)
	}
	if log := s.Log(); strings.Contains(log, "panic") {
		t.Error("the server panicked")
	}
}

// seed makes an object of every kind, and returns those that must be taken.
func (s *target) seed(t *testing.T) map[string]string {
	t.Helper()
	make := func(path string, body map[string]any) string {
		t.Helper()
		o, err := s.JSON(t.Context(), http.MethodPost, "/pulp/api/v3/"+path, body)
		if err != nil {
			t.Fatal(err)
		}
		if task, ok := o["task"].(string); ok {
			done, err := s.Wait(t.Context(), task)
			created, _ := done["created_resources"].([]any)
			if err != nil || len(created) == 0 {
				t.Fatal(done, err)
			}
			return fmt.Sprint(created[0])
		}
		return fmt.Sprint(o["pulp_href"])
	}
	repository := make("repositories/file/file/", map[string]any{"name": "seed"})
	remote := make("remotes/file/file/", map[string]any{"name": "seed", "url": "http://127.0.0.1:1/", "policy": "on_demand"})
	source := make("acs/file/file/", map[string]any{"name": "seed", "remote": remote})
	upload := &bytes.Buffer{}
	form := multipart.NewWriter(upload)
	must(t, form.WriteField("relative_path", "seed.txt"), form.WriteField("repository", repository))
	part, err := form.CreateFormFile("file", "seed.txt")
	must(t, err)
	_, err = io.WriteString(part, "A seed\n")
	must(t, err, form.Close())
	status, body, err := s.Do(t.Context(), http.MethodPost, "/pulp/api/v3/content/file/files/", upload, "Content-Type", form.FormDataContentType())
	var answer struct{ Task string }
	if err != nil || status != http.StatusAccepted || json.Unmarshal(body, &answer) != nil {
		t.Fatal(status, string(body), err)
	}
	if _, err := s.Wait(t.Context(), answer.Task); err != nil {
		t.Fatal(err)
	}
	publication := make("publications/file/file/", map[string]any{"repository": repository})
	make("distributions/file/file/", map[string]any{"name": "seed", "base_path": "seed", "publication": publication})
	make("uploads/", map[string]any{"size": 10})
	user := make("users/", map[string]any{"username": "seed", "password": "Gr4nary-Gate"})
	// a refresh makes a group, of a task that fails: nobody listens there
	_, err = s.JSON(t.Context(), http.MethodPost, source+"refresh/", nil)
	must(t, err)
	for { // the group's task is the last
		tasks, err := s.JSON(t.Context(), http.MethodGet, "/pulp/api/v3/tasks/?state__in=waiting,running", nil)
		must(t, err)
		if fmt.Sprint(tasks["count"]) == "0" {
			return map[string]string{"auth_user_href": user} // not the administrator, who asks
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func must(t *testing.T, list ...error) {
	t.Helper()
	for _, err := range list {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A state is how many objects a server has of each kind, and which files.
type state struct {
	counts map[string]string
	files  []string
}

func (s *target) state(t *testing.T) state {
	t.Helper()
	st := state{counts: map[string]string{}}
	for _, list := range s.contract.lists {
		page, err := s.JSON(t.Context(), http.MethodGet, list.path+"?limit=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		st.counts[list.path] = fmt.Sprint(page["count"])
	}
	for _, dir := range []string{"media", "tmp"} {
		must(t, filepath.WalkDir(filepath.Join(s.Data, dir), func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				st.files = append(st.files, path)
			}
			return err
		}))
	}
	return st
}

// unchanged runs a test that must not change what the server has.
func (s *target) unchanged(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	before := s.state(t)
	test(t)
	after := s.state(t)
	for path, count := range after.counts {
		if before.counts[path] != count {
			t.Errorf("%s had %s objects, and has %s", path, before.counts[path], count)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); !slices.Equal(after.files, before.files); after = s.state(t) { // of a request that broke off, they go a bit later
		if time.Now().After(deadline) {
			t.Errorf("the files were\n%q\nand are\n%q", before.files, after.files)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// each runs a test for each endpoint that takes a body.
func (s *target) each(t *testing.T, test func(t *testing.T, e endpoint)) {
	for _, e := range s.contract.writable {
		t.Run(e.id, func(t *testing.T) {
			s.unchanged(t, func(t *testing.T) { test(t, e) })
		})
	}
}

// send sends a request and returns the answer, which has to be one of a server that is well.
func (s *target) send(t *testing.T, method, path, contentType string, body []byte, header ...string) (int, http.Header, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.URL, bytes.NewReader(body))
	must(t, err)
	if strings.HasPrefix(path, "//") {
		req.URL.Path = path
	} else {
		req.URL.Opaque = path // as it is
	}
	req.SetBasicAuth("admin", binary.Password)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		t.Errorf("%s %.200q: %v", method, path, err)
		return 0, nil, nil
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 500 {
		t.Errorf("%s %.200q: %d %.300q %v", method, path, resp.StatusCode, answer, err)
	}
	return resp.StatusCode, resp.Header, answer
}

// refused checks that a request was refused, clearly, and returns what was said.
func refused(t *testing.T, what string, status int, header http.Header, body []byte) any {
	t.Helper()
	if status == 0 || status >= 500 {
		return nil // said already
	}
	if status < 400 {
		t.Errorf("%s: %d %.300q", what, status, body)
		return nil
	}
	var said any
	if err := json.Unmarshal(body, &said); header.Get("Content-Type") != "application/json" || err != nil {
		t.Errorf("%s: %d with %q: %.300q", what, status, header.Get("Content-Type"), body)
		return nil
	}
	if !speaks(said) {
		t.Errorf("%s: %d says nothing: %.300q", what, status, body)
	}
	return said
}

// speaks says whether an answer is of the shape that clients know: texts in lists and objects.
func speaks(v any) bool {
	switch v := v.(type) {
	case string:
		return v != ""
	case []any:
		return len(v) > 0 && !slices.ContainsFunc(v, func(e any) bool { return !speaks(e) })
	case map[string]any:
		for _, e := range v {
			if !speaks(e) {
				return false
			}
		}
		return len(v) > 0
	}
	return false
}

// bodies sends what is no object.
func (s *target) bodies(t *testing.T, e endpoint) {
	for _, body := range []string{
		`{`, `{"name":`, `{"name": "x"`, `{"name": "x",}`, `nul`, `{"a": 1}}`, `{'a': 1}`, `{a: 1}`, "\xff\xfe{\x00}\x00", "{\"a\x00\": 1}", "{\"a\": \"\x00\"}", `{"a": "\ud8"}`,
		`{"a": NaN}`, `{"a": Infinity}`, `{"a": 01}`, strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000),
		`[]`, `[{}]`, `"text"`, `5`, `true`, `null`,
	} {
		status, header, answer := s.send(t, e.method, e.path, "application/json", []byte(body))
		refused(t, fmt.Sprintf("%s with %.40q", e, body), status, header, answer)
	}
}

// unknown is a field that no body has.
const unknown = "no_such_field"

// tolerated lists what is accepted although it looks wrong.
var tolerated = []struct {
	operation *regexp.Regexp
	field     string // "" for any
	what      string // "" for anything
	reason    string
}{
	{regexp.MustCompile(`^task_groups_list$`), unknown, "", "as Pulp does: this list has no filters, and ignores what asks for some"},
	{regexp.MustCompile(`_(un)?set_label$|^repair_post$|_repair$|^orphans_cleanup_cleanup$|^tasks_purge$|_cancel$|^users_|^domains_`), unknown, "", "as Pulp does: these ignore what they don't know"},
}

func isTolerated(operation, field, what string) bool {
	for _, x := range tolerated {
		if x.operation.MatchString(operation) && (x.field == "" || x.field == field) && (x.what == "" || x.what == what) {
			return true
		}
	}
	return false
}

// fields sends a wrong value in each field, the others being right.
func (s *target) fields(t *testing.T, e endpoint) {
	try := func(field, what string, value any) {
		t.Helper()
		if isTolerated(e.id, field, what) {
			return
		}
		// the document that Pulp has, and ours after it, describes these two by the fields of an upload
		if field == "size" && (e.id == "uploads_add_role" || e.id == "uploads_remove_role") {
			return
		}
		body := s.contract.minimal(e)
		body[field] = value
		text, err := json.Marshal(body)
		must(t, err)
		status, header, answer := s.send(t, e.method, e.path, "application/json", text)
		said := refused(t, fmt.Sprintf("%s: %s is %s", e, field, what), status, header, answer)
		if fields, ok := said.(map[string]any); ok && status == http.StatusBadRequest && fields[field] == nil && field != unknown {
			t.Errorf("%s: %s is %s: %s does not say so", e, field, what, answer)
		}
	}
	for _, field := range e.fields() {
		wrong := s.contract.wrong(s.contract.resolve(*e.body.Properties[field]))
		for _, what := range slices.Sorted(maps.Keys(wrong)) {
			try(field, what, wrong[what])
		}
	}
	try(unknown, "unknown", "x")
}

// forms sends the same in forms.
func (s *target) forms(t *testing.T, e endpoint) {
	for _, field := range e.fields() {
		wrong := s.contract.wrongText(s.contract.resolve(*e.body.Properties[field]))
		for _, what := range slices.Sorted(maps.Keys(wrong)) {
			if isTolerated(e.id, field, what) {
				continue
			}
			var body bytes.Buffer
			form := multipart.NewWriter(&body)
			for name, value := range s.contract.minimal(e) {
				if name != field {
					must(t, form.WriteField(name, fmt.Sprint(value)))
				}
			}
			must(t, form.WriteField(field, wrong[what]), form.Close())
			status, header, answer := s.send(t, e.method, e.path, form.FormDataContentType(), body.Bytes())
			refused(t, fmt.Sprintf("%s: %s is %s in a form", e, field, what), status, header, answer)
			values := url.Values{field: {wrong[what]}}
			for name, value := range s.contract.minimal(e) {
				if name != field {
					values.Set(name, fmt.Sprint(value))
				}
			}
			status, header, answer = s.send(t, e.method, e.path, "application/x-www-form-urlencoded", []byte(values.Encode()))
			refused(t, fmt.Sprintf("%s: %s is %s in a form", e, field, what), status, header, answer)
		}
	}
}

// garbage sends 10 MB of nothing in each way that a body can be sent.
func (s *target) garbage(t *testing.T, e endpoint) {
	const boundary = "granary"
	bodies := map[string][]byte{
		"application/json":                             garbage,
		"application/octet-stream":                     garbage,
		"text/plain":                                   garbage,
		"multipart/form-data":                          garbage, // without a boundary
		"multipart/form-data; boundary=" + boundary:    garbage,
		"multipart/form-data; boundary=x" + boundary:   []byte("--x" + boundary + "\r\n\r\n\r\n--x" + boundary + "--"), // a part without a name
		"multipart/form-data; boundary=\"\"":           garbage,
		"multipart/mixed; boundary=" + boundary:        garbage,
		"application/json; charset=utf-16":             garbage,
		"application/x-www-form-urlencoded; charset=x": garbage,
		"nonsense": garbage,
	}
	if isTolerated(e.id, unknown, "unknown") {
		delete(bodies, "application/x-www-form-urlencoded; charset=x")
		delete(bodies, "multipart/form-data; boundary=x"+boundary)
	}
	for _, kind := range slices.Sorted(maps.Keys(bodies)) {
		status, header, answer := s.send(t, e.method, e.path, kind, bodies[kind])
		refused(t, fmt.Sprintf("%s with garbage as %s", e, kind), status, header, answer)
	}
	for _, field := range e.fields() {
		if s.contract.resolve(*e.body.Properties[field]).Format != "binary" {
			continue
		}
		// the file goes on without end, or ends in the middle of its boundary
		for _, end := range []string{"", "\r\n--" + boundary[:3], "\r\n--" + boundary + "x--\r\n", "\r\n--other--\r\n"} {
			var body bytes.Buffer
			form := multipart.NewWriter(&body)
			must(t, form.SetBoundary(boundary))
			for name, value := range s.contract.minimal(e) {
				if name != field {
					must(t, form.WriteField(name, fmt.Sprint(value)))
				}
			}
			part, err := form.CreateFormFile(field, "garbage")
			must(t, err)
			_, err = part.Write(garbage)
			must(t, err)
			body.WriteString(end)
			status, header, answer := s.send(t, e.method, e.path, form.FormDataContentType(), body.Bytes(), "Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(garbage)-1, len(garbage)))
			refused(t, fmt.Sprintf("%s: %s ends with %q", e, field, end), status, header, answer)
		}
	}
}

// pieces sends 10 MB as a right form, with one thing that is wrong.
func (s *target) pieces(t *testing.T) {
	send := func(method, path string, fields map[string]string, header ...string) {
		t.Helper()
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		for name, value := range fields {
			must(t, form.WriteField(name, value))
		}
		part, err := form.CreateFormFile("file", "garbage")
		must(t, err)
		_, err = part.Write(garbage)
		must(t, err, form.Close())
		status, h, answer := s.send(t, method, path, form.FormDataContentType(), body.Bytes(), header...)
		refused(t, fmt.Sprintf("%s %s with %q %q", method, path, fields, header), status, h, answer)
	}
	const artifacts, files = "/pulp/api/v3/artifacts/", "/pulp/api/v3/content/file/files/"
	send(http.MethodPost, artifacts, map[string]string{"sha256": strings.Repeat("0", 64)})
	send(http.MethodPost, artifacts, map[string]string{"size": "5"})
	send(http.MethodPost, artifacts, map[string]string{unknown: "x"})
	send(http.MethodPost, files, nil)
	send(http.MethodPost, files+"upload/", nil)
	for _, path := range []string{"/etc/passwd", "../../etc/passwd", "a/../../b", "./a", "", "a\x00b"} {
		send(http.MethodPost, files, map[string]string{"relative_path": path})
		send(http.MethodPost, files+"upload/", map[string]string{"relative_path": path})
	}
	i := slices.IndexFunc(s.contract.details, func(href string) bool { return strings.Contains(href, "/uploads/") })
	upload := s.contract.details[i]
	for _, r := range []string{"", "bytes", "bytes 0-9", "bytes 9-0/10", "bytes -1-5/10", "bytes 0-99999999999999999999/5", "lines 0-9/10", "bytes 0-10485759/10485760", "bytes 0-9/10\x01"} {
		if strings.ContainsRune(r, '\x01') {
			continue // not a header that a client can send
		}
		send(http.MethodPut, upload, nil, "Content-Range", r)
	}
	send(http.MethodPut, upload, map[string]string{"sha256": strings.Repeat("0", 64)}, "Content-Range", "bytes 0-9/10")
}

// queries asks each list for what makes no sense. Where Pulp takes its own idea instead, a page is fine too.
func (s *target) queries(t *testing.T) {
	long := strings.Repeat("x", 20_000)
	for _, list := range s.contract.lists {
		try := func(query string, must4xx bool) {
			t.Helper()
			status, header, body := s.send(t, http.MethodGet, list.path+"?"+query, "", nil)
			if status == http.StatusOK && !must4xx {
				var page struct {
					Count   *int
					Results []json.RawMessage
				}
				if err := json.Unmarshal(body, &page); err != nil || page.Count == nil || page.Results == nil || len(page.Results) > 100 {
					t.Errorf("%s?%.80s: %.200s %v", list.path, query, body, err)
				}
				return
			}
			refused(t, fmt.Sprintf("%s?%.80s", list.path, query), status, header, body)
		}
		for _, n := range []string{"-1", "0", "x", "", "1.5", "99999999999999999999999999", "9223372036854775807", "%00", "1%27%20OR%201", "٣", long} {
			try("limit="+n, false)
			try("offset="+n, false)
		}
		try("offset=9223372036854775807&limit=9223372036854775807", false)
		try("limit=1&limit=2&limit=3", false)
		for _, name := range []string{"no_such_field", "-no_such_field", "--name", "%00", "1;DROP%20TABLE%20x", "name,no_such_field", long} {
			if slices.Contains(list.parameters, "ordering") {
				try("ordering="+name, true)
			}
		}
		for _, q := range []string{"(", "((((((((((", "name", "name=", "=x", "no_such_filter=1", "NOT", "name=%22", "%00", "name=a%00", "a AND", long, strings.Repeat("(", 10_000), strings.Repeat("NOT%20", 5000) + "name=a"} {
			if slices.Contains(list.parameters, "q") {
				try("q="+strings.ReplaceAll(q, " ", "%20"), true)
			}
		}
		filtered := !isTolerated(list.id, unknown, "unknown")
		try("no_such_filter=1", filtered)
		try("name=%ff%fe", false)
		try("%00=%00", filtered)
		try("a=%zz", filtered)
		try("name=a;b&no;such=1", filtered)
		try(strings.Repeat("a=b&", 5000), filtered)
		for _, name := range list.parameters {
			if slices.Contains([]string{"limit", "offset", "ordering", "q", "fields", "exclude_fields"}, name) {
				continue
			}
			try(name+"=a%00b", false)
			try(name+"="+long, false)
			try(name+"=%27%22%5C%25_(%5B", false)
		}
		try("fields=%00", false)
		try("fields="+long, false)
		try("exclude_fields=a%00", false)
	}
}

// paths asks for what is not there, or not for everybody.
func (s *target) paths(t *testing.T) {
	var hrefs []string
	for _, href := range s.contract.details {
		hrefs = append(hrefs, strings.TrimPrefix(href, "/pulp/api/v3/"))
	}
	var paths []string
	for _, evil := range []string{
		"../", "../../", "../../../../../../etc/passwd", "%2e%2e/", "%2e%2e%2f%2e%2e%2fetc/passwd", "..%2f..%2f", "..%5c..%5c", "./", "/", "//", "%00", "a%00b/", "%ff/", "%", "%zz/",
		"..;/", "%c0%ae%c0%ae/", "~/", "...", "%0d%0aSet-Cookie:%20a=b", strings.Repeat("a/", 5000), strings.Repeat("a", 20_000),
	} {
		paths = append(paths, "/"+evil+"no", "/pulp/"+evil+"no", "/pulp/api/v3/"+evil+"no", "/pulp/api/v3/repositories/file/file/"+evil+"no",
			"/pulp/content/"+evil+"no", "/pulp/content/seed/"+evil+"no", "/pulp/content/seed/"+evil+"../db/pulp.sqlite3", "/pulp/content/seed/"+evil+"../../../../db/pulp.sqlite3")
	}
	for _, href := range hrefs {
		paths = append(paths, "/pulp/api/v3/"+href+"no/", "/pulp/api/v3/"+href+"../no", "/pulp/api/v3//"+href+"no", "/pulp/api/v3/"+strings.Replace(href, "/", "%2f", 1)+"no/")
	}
	paths = append(paths, "//evil.example/pulp/api/v3/status", "http://evil.example/pulp/api/v3/status", "http://evil.example//evil.example/", "http://evil.example/pulp/content/seed",
		"/pulp/api/v3//evil.example", "/pulp/content//evil.example")
	for _, path := range paths {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodPost, "PURGE"} {
			status, header, body := s.send(t, method, path, "", nil)
			switch {
			case status == http.StatusMovedPermanently: // to the path with a slash at its end, on this server
				if to := header.Get("Location"); !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.HasPrefix(to, `/\`) {
					t.Errorf("%s %.100q leads to %q", method, path, to)
				}
			case status < 400:
				t.Errorf("%s %.100q: %d %.200q", method, path, status, body)
			case header.Get("Set-Cookie") != "":
				t.Errorf("%s %.100q sets a cookie", method, path)
			}
		}
	}
}

// connections sends what is no HTTP, or breaks off.
func (s *target) connections(t *testing.T) {
	auth := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+binary.Password)) + "\r\n"
	const post = "POST /pulp/api/v3/artifacts/ HTTP/1.1\r\nHost: x\r\n"
	file := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n" + string(garbage[:5<<20])
	for name, tc := range map[string]struct {
		send   string
		silent bool // no answer is fine
	}{
		"garbage":                    {send: string(garbage[:1<<10]) + "\r\n\r\n"},
		"NUL in the path":            {send: "GET /pulp/\x00 HTTP/1.1\r\nHost: x\r\n\r\n"},
		"NUL in a header":            {send: "GET /pulp/ HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n"},
		"another protocol":           {send: "GET /pulp/ HTTP/9.9\r\nHost: x\r\n\r\n"},
		"no host":                    {send: "GET /pulp/ HTTP/1.1\r\n\r\n"},
		"two lengths":                {send: post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"},
		"a negative length":          {send: post + "Content-Length: -5\r\n\r\n"},
		"a chunk of no length":       {send: post + auth + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"},
		"an unknown encoding":        {send: post + auth + "Transfer-Encoding: gzip\r\n\r\n"},
		"a header of 1 MB":           {send: "GET /pulp/ HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 1<<20) + "\r\n\r\n"},
		"an upload that breaks off":  {send: post + auth + "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 10485760\r\n\r\n" + file, silent: true},
		"chunks that break off":      {send: post + auth + "Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n800000\r\n" + file, silent: true},
		"nothing behind the headers": {send: post + auth + "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n", silent: true},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		must(t, err, conn.SetDeadline(time.Now().Add(time.Minute)))
		_, err = io.WriteString(conn, tc.send)
		if err == nil && tc.silent {
			err = conn.(*net.TCPConn).CloseWrite()
		}
		answer, readErr := io.ReadAll(conn) // the server closes; it may have had enough before it has read all
		if code := regexp.MustCompile(`^HTTP/1\.[01] [45]\d\d `).Find(answer); !tc.silent && code == nil || bytes.Contains(code, []byte(" 500 ")) {
			t.Errorf("%s: the answer is %.200q (%v, %v)", name, answer, err, readErr)
		}
		must(t, conn.Close())
	}
}

// manifests syncs from what is no list of files.
func (s *target) manifests(t *testing.T) {
	sum := strings.Repeat("0", 64)
	bad := func(line string) func(w io.Writer) {
		return func(w io.Writer) { _, _ = io.WriteString(w, line) }
	}
	for name, tc := range map[string]struct {
		write   func(w io.Writer)
		say     string
		orphans bool // the units that were read before stay, as Pulp's do, until a cleanup
	}{
		"a million bad lines": {write: func(w io.Writer) {
			block := []byte(strings.Repeat("this is no line of a manifest\n", 1000))
			for range 1000 {
				_, _ = w.Write(block)
			}
		}, say: "1"},
		"a million bad lines at the end": {write: func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "a.txt,%s,1\n", sum)
			block := []byte(strings.Repeat("b.txt,short,1\n", 1000))
			for range 1000 {
				_, _ = w.Write(block)
			}
		}, say: "2"},
		"10 MB of garbage": {write: func(w io.Writer) { _, _ = w.Write(garbage) }},
		"an endless line":  {write: func(w io.Writer) { _, _ = w.Write(bytes.Repeat([]byte("a"), 10<<20)) }},
		"a path above":     {write: bad("../../etc/passwd," + sum + ",1\n")},
		"an absolute path": {write: bad("/etc/passwd," + sum + ",1\n")},
		"a NUL":            {write: bad("a\x00b," + sum + ",1\n")},
		"a negative size":  {write: bad("a," + sum + ",-1\n")},
		"no size":          {write: bad("a," + sum + ",\n")},
		"a huge size":      {write: bad("a," + sum + ",99999999999999999999\n")},
		"a short digest":   {write: bad("a,abc,1\n")},
		"no path":          {write: bad("," + sum + ",1\n")},
		"one path twice":   {write: bad("a," + sum + ",1\na," + strings.Repeat("1", 64) + ",1\n"), orphans: true},
	} {
		t.Run(name, func(t *testing.T) {
			upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tc.write(w) }))
			defer upstream.Close()
			post := func(path string, body map[string]any) string {
				o, err := s.JSON(t.Context(), http.MethodPost, path, body)
				must(t, err)
				if task, ok := o["task"]; ok {
					return fmt.Sprint(task)
				}
				return fmt.Sprint(o["pulp_href"])
			}
			remote := post("/pulp/api/v3/remotes/file/file/", map[string]any{"name": name, "url": upstream.URL + "/PULP_MANIFEST", "policy": "on_demand", "max_retries": 0})
			repository := post("/pulp/api/v3/repositories/file/file/", map[string]any{"name": name, "remote": remote})
			var before, after state
			before = s.state(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			task, err := s.Wait(ctx, post(repository+"sync/", map[string]any{}))
			must(t, err)
			e, _ := task["error"].(map[string]any)
			said, _ := e["description"].(string)
			if task["state"] != "failed" || said == "" || len(said) > 1000 || !strings.Contains(said, tc.say) {
				t.Errorf("the task is %v and says %.500q", task["state"], said)
			}
			after = s.state(t)
			for path, count := range after.counts {
				if before.counts[path] != count && !strings.Contains(path, "/tasks/") && !(tc.orphans && strings.Contains(path, "/content/")) {
					t.Errorf("%s had %s objects, and has %s", path, before.counts[path], count)
				}
			}
			if !slices.Equal(after.files, before.files) {
				t.Errorf("the files were\n%q\nand are\n%q", before.files, after.files)
			}
		})
	}
}
