// Package isolation tries to get from one domain into another, by every reference that the API takes: the operations and their
// fields come from the document of the running server, so that what is added later is tried too.
package isolation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"granary/test/binary"
)

// A world is a server with two domains that hold the same.
type world struct {
	*testing.T
	*binary.Server
	doc  document
	one  *domain // what must stay as it is
	two  *domain // whence one is tried to be reached
	made int     // names
}

// A domain is what is known of one.
type domain struct {
	name    string
	objects []object // in the order of their making
	refused []string // the operations that make nothing with what the test knows
}

// An object is one of a domain.
type object struct {
	href, prn string
	body      map[string]any
}

func TestIsolation(t *testing.T) {
	w := &world{T: t}
	w.Server = binary.Start(t, t.TempDir(), "PULP_DOMAIN_ENABLED=true", "PULP_ORPHAN_PROTECTION_TIME=0", "PULP_ALLOWED_EXPORT_PATHS=['/tmp']", "PULP_ALLOWED_IMPORT_PATHS=['/tmp']")
	w.doc = w.document()
	w.one, w.two = w.domain("one"), w.domain("two")
	for _, d := range []*domain{w.one, w.two} {
		w.fill(d)
		w.collect(d)
	}
	w.Logf("%d objects; nothing was made by %q", len(w.one.objects), w.one.refused)
	if len(w.one.objects) < 12 {
		t.Fatalf("there are only %d objects", len(w.one.objects))
	}
	before := w.snapshot(w.one)
	t.Run("urls", w.sub(w.urls))
	t.Run("lists", w.sub(w.lists))
	t.Run("references", w.sub(w.references))
	t.Run("upkeep", w.sub(w.upkeep))
	t.Run("content", w.sub(w.content))
	if after := w.snapshot(w.one); !maps.Equal(before, after) {
		for path := range before {
			if before[path] != after[path] {
				t.Errorf("%s was\n%s\nand is\n%s", path, before[path], after[path])
			}
		}
	}
}

func (w *world) sub(f func()) func(*testing.T) {
	return func(t *testing.T) {
		outer := w.T
		w.T = t
		defer func() { w.T = outer }()
		f()
	}
}

// ask sends a request and returns the answer.
func (w *world) ask(method, path string, body any) (int, string) {
	w.Helper()
	var in io.Reader
	var header []string
	if body != nil {
		b, err := json.Marshal(body)
		w.must(err)
		in, header = bytes.NewReader(b), []string{"Content-Type", "application/json"}
	}
	status, b, err := w.Do(w.Context(), method, path, in, header...)
	w.must(err)
	return status, string(b)
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// done waits for the task that an answer names, if it does, and says whether what was asked for happened.
func (w *world) done(status int, body string) (ok bool, task map[string]any) {
	w.Helper()
	if status >= http.StatusBadRequest {
		return false, nil
	}
	var answer struct{ Task, TaskGroup string }
	_ = json.Unmarshal([]byte(body), &answer)
	if status != http.StatusAccepted || answer.Task == "" {
		return true, nil
	}
	task, err := w.Wait(w.Context(), answer.Task)
	w.must(err)
	return task["state"] == "completed", task
}

func (w *world) domain(name string) *domain {
	w.Helper()
	_, err := w.JSON(w.Context(), http.MethodPost, "/pulp/default/api/v3/domains/", map[string]any{
		"name": name, "storage_class": "pulpcore.app.models.storage.FileSystem", "storage_settings": map[string]any{"location": filepath.Join(w.Data, "of-"+name)},
	})
	w.must(err)
	return &domain{name: name}
}

func (d *domain) api() string { return "/pulp/" + d.name + "/api/v3/" }

// of returns the first object of a domain whose href has the words in it.
func (d *domain) of(words string) string {
	for _, o := range d.objects {
		if strings.Contains(o.href, words) {
			return o.href
		}
	}
	return ""
}

// fill makes an object of every kind that the test knows, then of every other with what is needed for one as the document says.
func (w *world) fill(d *domain) {
	w.Helper()
	// make returns the href of what was made.
	make := func(path string, body map[string]any) string {
		w.Helper()
		status, answer := w.ask(http.MethodPost, d.api()+path, body)
		ok, task := w.done(status, answer)
		if !ok {
			w.Fatalf("POST %s %v: %d %s %v", path, body, status, answer, task["error"])
		}
		if task != nil {
			created, _ := task["created_resources"].([]any)
			return fmt.Sprint(created[0])
		}
		var o struct {
			Href string `json:"pulp_href"`
		}
		w.must(json.Unmarshal([]byte(answer), &o))
		return o.Href
	}
	repository := make("repositories/file/file/", map[string]any{"name": "known"})
	remote := make("remotes/file/file/", map[string]any{"name": "known", "url": "http://127.0.0.1:1/", "policy": "on_demand"})
	make("acs/file/file/", map[string]any{"name": "known", "remote": remote})
	artifact := w.artifact(d, "the same in both domains\n")
	make("content/file/files/", map[string]any{"relative_path": "known", "artifact": artifact, "repository": repository})
	make("content/file/files/", map[string]any{"relative_path": "orphan", "artifact": w.artifact(d, "nobody's\n")})
	publication := make("publications/file/file/", map[string]any{"repository": repository})
	make("distributions/file/file/", map[string]any{"name": "known", "base_path": "known-" + d.name, "publication": publication})
	make("uploads/", map[string]any{"size": 10})
	w.artifact(d, "an orphan\n")
	w.collect(d)

	known := map[string]bool{}
	for _, o := range d.objects {
		known[collection(o.href)] = true
	}
	// what one made another may need
	for _, e := range slices.Concat(w.doc.creates(), w.doc.creates()) {
		if path := e.path(d.name); !known[path] && !strings.Contains(path, "/domains/") {
			if w.try(d, e) {
				known[path] = true
				w.collect(d)
			}
		}
	}
	for _, e := range w.doc.creates() {
		if !known[e.path(d.name)] {
			d.refused = append(d.refused, e.id)
		}
	}
}

// artifact stores a file.
func (w *world) artifact(d *domain, text string) string {
	w.Helper()
	body := &bytes.Buffer{}
	form := multipart.NewWriter(body)
	part, err := form.CreateFormFile("file", "file")
	w.must(err)
	_, err = io.WriteString(part, text)
	w.must(err)
	w.must(form.Close())
	status, b, err := w.Do(w.Context(), http.MethodPost, d.api()+"artifacts/", body, "Content-Type", form.FormDataContentType())
	w.must(err)
	var o struct {
		Href string `json:"pulp_href"`
	}
	if json.Unmarshal(b, &o) != nil || status != http.StatusCreated {
		w.Fatalf("artifact: %d %s", status, b)
	}
	return o.Href
}

// try makes an object with no more than must be given, and every object of the domain in the place of references.
func (w *world) try(d *domain, e operation) bool {
	w.Helper()
	body := w.minimal(d, e)
	var links []string
	for _, name := range e.required() {
		if w.doc.isLink(name, e.body.Properties[name]) {
			links = append(links, name)
		}
	}
	if len(links) == 0 {
		return w.made1(e.method, e.path(d.name), body)
	}
	for _, o := range d.objects {
		for _, name := range links {
			body[name] = o.href
		}
		if w.made1(e.method, e.path(d.name), body) {
			return true
		}
	}
	return false
}

func (w *world) made1(method, path string, body map[string]any) bool {
	w.Helper()
	ok, _ := w.done(w.ask(method, path, body))
	return ok
}

// minimal returns a body with what must be given, but for references.
func (w *world) minimal(d *domain, e operation) map[string]any {
	body := map[string]any{}
	for _, name := range e.required() {
		if p := e.body.Properties[name]; !w.doc.isLink(name, p) {
			w.made++
			body[name] = w.doc.value(name, p, w.made)
		}
	}
	if e.body.Properties["artifact"] != nil && e.body.Properties["relative_path"] != nil { // a unit with a file
		w.made++
		body["relative_path"], body["artifact"] = fmt.Sprint("unit", w.made), d.of("/artifacts/")
	}
	return body
}

// collect finds all objects of a domain.
func (w *world) collect(d *domain) {
	w.Helper()
	d.objects = nil
	seen := map[string]bool{}
	for pass := range 2 { // nested lists need the objects of the others
		for _, e := range w.doc.lists() {
			paths := []string{e.path(d.name)}
			if e.nested() != (pass == 1) {
				continue
			}
			if e.nested() {
				paths = w.places(d, e)
			}
			for _, path := range paths {
				page, err := w.JSON(w.Context(), http.MethodGet, path+"?limit=1000&ordering=pulp_created", nil)
				if err != nil { // not all lists can be ordered
					page, err = w.JSON(w.Context(), http.MethodGet, path+"?limit=1000", nil)
				}
				w.must(err)
				results, _ := page["results"].([]any)
				for _, r := range results {
					o, _ := r.(map[string]any)
					href, _ := o["pulp_href"].(string)
					prn, _ := o["prn"].(string)
					if strings.HasPrefix(href, d.api()) && !seen[href] {
						seen[href] = true
						d.objects = append(d.objects, object{href, prn, o})
					}
				}
			}
		}
	}
}

// places returns the paths that an operation on an object, or below one, has in a domain.
func (w *world) places(d *domain, e operation) []string {
	var list []string
	for _, o := range d.objects {
		if path, ok := e.at(o.href); ok {
			list = append(list, path)
		}
	}
	return list
}

// snapshot returns what a domain shows of itself, by path.
func (w *world) snapshot(d *domain) map[string]string {
	w.Helper()
	m := map[string]string{}
	for _, e := range w.doc.lists() {
		paths := []string{e.path(d.name)}
		if e.nested() {
			paths = w.places(d, e)
		}
		for _, path := range paths {
			status, body := w.ask(http.MethodGet, path+"?limit=1000", nil)
			if status != http.StatusOK {
				w.Fatalf("GET %s: %d %s", path, status, body)
			}
			var page struct{ Results []map[string]any }
			w.must(json.Unmarshal([]byte(body), &page))
			var own []map[string]any
			for _, o := range page.Results {
				if href, ok := o["pulp_href"].(string); ok && strings.HasPrefix(href, d.api()) { // and not workers, users and the like
					own = append(own, o)
				}
			}
			b, err := json.Marshal(own)
			w.must(err)
			m[path] = string(b)
		}
	}
	return m
}

// elsewhere returns an href as if the object were in the other domain.
func elsewhere(href string, from, to *domain) string {
	return strings.Replace(href, from.api(), to.api(), 1)
}

// urls asks for objects under the other domain's URL: whatever the operation, there is nothing.
func (w *world) urls() {
	for _, o := range w.one.objects {
		for _, e := range w.doc.operations {
			path, ok := e.at(o.href)
			if !ok {
				continue
			}
			path = elsewhere(path, w.one, w.two)
			var body any
			if e.body != nil {
				body = w.minimal(w.two, e)
			}
			status, answer := w.ask(e.method, path, body)
			// what has a method that nobody may use is refused before it is looked for
			if status != http.StatusNotFound && (e.method == http.MethodGet || status != http.StatusForbidden && status != http.StatusBadRequest) {
				w.Errorf("%s %s: %d %s", e.method, path, status, answer)
			}
			w.silent(e.method+" "+path, answer, o)
		}
	}
}

// silent checks that an answer tells nothing of an object but its name, which was asked for.
func (w *world) silent(what, answer string, o object) {
	w.Helper()
	for _, field := range []string{"name", "base_path", "relative_path", "sha256", "file", "url"} {
		if text, ok := o.body[field].(string); ok && len(text) > 8 && strings.Contains(answer, text) && !strings.Contains(what, text) {
			w.Errorf("%s tells the %s of %s: %s", what, field, o.href, answer)
		}
	}
}

// lists asks for the lists of one domain with references to the other's objects in every filter.
func (w *world) lists() {
	for _, e := range w.doc.lists() {
		paths := []string{e.path(w.two.name)}
		if e.nested() {
			paths = w.places(w.two, e)
			paths = paths[:min(len(paths), 1)]
		}
		for _, path := range paths {
			status, body := w.ask(http.MethodGet, path+"?limit=1000", nil)
			for _, o := range w.one.objects {
				if status != http.StatusOK || strings.Contains(body, id(o.href)) {
					w.Errorf("GET %s: %d, and %s is in it", path, status, o.href)
				}
			}
			for _, filter := range e.filters {
				for _, o := range w.one.objects {
					for _, ref := range w.forms(o) {
						query := "?" + filter + "=" + strings.NewReplacer(":", "%3A", "/", "%2F").Replace(ref)
						status, body := w.ask(http.MethodGet, path+query, nil)
						var page struct{ Results []map[string]any }
						_ = json.Unmarshal([]byte(body), &page)
						for _, r := range page.Results {
							if href, _ := r["pulp_href"].(string); strings.HasPrefix(href, w.one.api()) || strings.Contains(href, id(o.href)) {
								w.Errorf("GET %s%s shows %s", path, query, href)
							}
						}
						if status >= http.StatusInternalServerError {
							w.Errorf("GET %s%s: %d", path, query, status)
						}
						w.silent(path+query, body, o)
					}
				}
			}
		}
	}
}

// forms returns the ways to name an object, and the place where it would be in the other domain.
func (w *world) forms(o object) []string {
	list := []string{o.href, w.URL + o.href, elsewhere(o.href, w.one, w.two)}
	if o.prn != "" {
		list = append(list, o.prn)
	}
	return list
}

// references names the other domain's objects in every field of every request.
func (w *world) references() {
	tried, told := 0, 0
	for _, e := range w.doc.operations {
		if e.body == nil || e.method == http.MethodPut || w.doc.global(e) {
			continue // PATCH takes what PUT does, and checks it in the same way
		}
		path := e.path(w.two.name)
		if e.nested() {
			places := w.places(w.two, e)
			if len(places) == 0 {
				continue
			}
			path = places[0]
		}
		for _, name := range slices.Sorted(maps.Keys(e.body.Properties)) {
			p := e.body.Properties[name]
			if !w.doc.takesReference(name, p) {
				continue
			}
			tried++
			crosses := false // it was said that the object is another domain's
			for _, o := range w.one.objects {
				if strings.Contains(o.href, "/tasks/") && !strings.Contains(name, "task") { // there are many
					continue
				}
				for _, ref := range w.forms(o) {
					body := map[string]any{}
					if e.method == http.MethodPost {
						body = w.minimal(w.two, e)
						for _, link := range e.required() { // the others are right
							if w.doc.isLink(link, e.body.Properties[link]) {
								body[link] = w.twin(link)
							}
						}
					}
					body[name] = w.doc.with(p, ref)
					status, answer := w.ask(e.method, path, body)
					ok, task := w.done(status, answer)
					crosses = crosses || strings.Contains(answer, "Objects must all be a part of the two domain") || strings.Contains(answer, "not a part of the current domain two")
					if ok {
						w.Errorf("%s %s with %s = %s was done: %d %s %v", e.method, path, name, ref, status, answer, task["result"])
					}
					if status >= http.StatusInternalServerError {
						w.Errorf("%s %s with %s = %s: %d %s", e.method, path, name, ref, status, answer)
					}
					w.silent(fmt.Sprint(e.method, path, body), answer, o)
				}
			}
			if crosses {
				told++
			} else {
				w.Logf("%s %s: nothing of the other domain fits %s", e.method, path, name)
			}
		}
	}
	w.Logf("%d fields take references, %d said that they lead to another domain", tried, told)
	if told < 12 {
		w.Errorf("only %d of %d fields know that a reference leads to another domain", told, tried)
	}
}

// twin returns an object of the second domain whose kind a field is named after.
func (w *world) twin(field string) string {
	if href := w.two.of("/" + strings.TrimSuffix(field, "s") + "s/"); href != "" {
		return href
	}
	return w.two.objects[0].href
}

// upkeep runs what looks at all files and objects of a domain.
func (w *world) upkeep() {
	files := func() []string {
		var list []string
		w.must(filepath.WalkDir(filepath.Join(w.Data, "of-one"), func(path string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				list = append(list, path)
			}
			return err
		}))
		return list
	}
	before := files()
	if len(before) < 3 {
		w.Fatalf("the first domain has only the files %q", before)
	}
	damaged, err := os.ReadFile(before[0])
	w.must(err)
	w.must(os.WriteFile(before[0], []byte("damaged"), 0o600)) // which only its own domain may notice
	time.Sleep(10 * time.Millisecond)
	for _, step := range []struct {
		path string
		body map[string]any
	}{
		{"orphans/cleanup/", map[string]any{"orphan_protection_time": 0}},
		{"repair/", map[string]any{"verify_checksums": true}},
		{"repositories/reclaim_space/", map[string]any{"repo_hrefs": []string{"*"}}},
		{"tasks/purge/", map[string]any{"finished_before": "2100-01-01T00:00:00Z", "states": []string{"completed", "failed", "canceled", "skipped"}}},
	} {
		status, answer := w.ask(http.MethodPost, w.two.api()+step.path, step.body)
		ok, task := w.done(status, answer)
		if !ok && status != http.StatusNotFound {
			w.Errorf("%s: %d %s %v", step.path, status, answer, task)
		}
		for _, r := range list(task["progress_reports"]) {
			if report := r.(map[string]any); strings.HasPrefix(fmt.Sprint(report["code"]), "repair.") && fmt.Sprint(report["done"]) != "0" {
				w.Errorf("the repair of another domain found something: %v", report)
			}
		}
	}
	if got, err := os.ReadFile(before[0]); err != nil || string(got) != "damaged" {
		w.Errorf("another domain's upkeep touched a file: %q, %v", got, err)
	}
	w.must(os.WriteFile(before[0], damaged, 0o600))
	if after := files(); !slices.Equal(before, after) {
		w.Errorf("the files were %q and are %q", before, after)
	}
}

func list(v any) []any { l, _ := v.([]any); return l }

// content asks for what one domain serves under the other's path.
func (w *world) content() {
	for path, want := range map[string]int{
		"one/known-one/known": http.StatusOK, "two/known-two/known": http.StatusOK,
		"two/known-one/known": http.StatusNotFound, "two/known-one/": http.StatusNotFound, "default/known-one/known": http.StatusNotFound,
		"known-one/known": http.StatusNotFound, "two/../one/known-one/known": http.StatusNotFound, "two/%2e%2e/one/known-one/known": http.StatusNotFound, "ONE/known-one/known": http.StatusNotFound,
	} {
		status, body, err := w.Do(w.Context(), http.MethodGet, "/pulp/content/"+path, nil)
		w.must(err)
		if status != want && !(strings.Contains(path, "two/../") && status == http.StatusOK) { // the client itself resolves this one
			w.Errorf("GET %s: %d %.100s, want %d", path, status, body, want)
		}
	}
	status, body, err := w.Do(w.Context(), http.MethodGet, "/pulp/content/two/", nil)
	w.must(err)
	if status != http.StatusOK || strings.Contains(string(body), "known-one") {
		w.Errorf("the listing of two: %d %s", status, body)
	}
}

// id is the last part of an href that is an id.
func id(href string) string {
	parts := strings.Split(strings.Trim(href, "/"), "/")
	for i := len(parts) - 1; i >= 0; i-- {
		if len(parts[i]) == 36 {
			return parts[i]
		}
	}
	return href
}

// collection is the path of the list that an object is in.
func collection(href string) string {
	href = strings.TrimSuffix(href, "/")
	return href[:strings.LastIndexByte(href, '/')+1]
}
