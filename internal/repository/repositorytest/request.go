package repositorytest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"granary/internal/pulp"
	"granary/internal/task"
)

// Object is a JSON object.
type Object = map[string]any

// A File is a part of a form that is a file.
type File string

// Form is a multipart form. Its values are strings and [File]s.
type Form map[string]any

// Do sends a request and returns what came. The body is nil, a Form, JSON text, or what marshals to JSON; header holds
// names and values.
func (w *World) Do(method, path string, body any, header ...string) (status int, text string) {
	w.Helper()
	status, text, err := w.send(method, path, body, header)
	if err != nil {
		w.Fatal(err)
	}
	return status, text
}

func (w *World) send(method, path string, body any, header []string) (status int, text string, err error) {
	payload, kind, err := encode(body)
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(pulp.WithCall(context.Background(), w.Call), method, "http://here"+path, payload)
	if err != nil {
		return 0, "", err
	}
	req.RequestURI = path
	req.URL.Path = strings.TrimPrefix(req.URL.Path, "/pulp/api/v3")
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.API.ServeHTTP(rec, req)
	return rec.Code, rec.Body.String(), nil
}

func encode(body any) (io.Reader, string, error) {
	switch b := body.(type) {
	case nil:
		return http.NoBody, "", nil
	case string:
		return strings.NewReader(b), "application/json", nil
	case Form:
		var buf bytes.Buffer
		form := multipart.NewWriter(&buf)
		for name, v := range b {
			switch v := v.(type) {
			case File:
				part, err := form.CreateFormFile(name, name)
				if err != nil {
					return nil, "", err
				}
				if _, err := io.WriteString(part, string(v)); err != nil {
					return nil, "", err
				}
			case string:
				if err := form.WriteField(name, v); err != nil {
					return nil, "", err
				}
			default:
				return nil, "", fmt.Errorf("%T in a form", v)
			}
		}
		err := form.Close()
		return &buf, form.FormDataContentType(), err
	}
	b, err := json.Marshal(body)
	return bytes.NewReader(b), "application/json", err
}

// request sends a request that must be answered with the status, and returns the answer's object.
func (w *World) request(method, path string, body any, want int, header ...string) Object {
	w.Helper()
	status, text := w.Do(method, path, body, header...)
	if status != want {
		w.Fatalf("%s %s %v = %d %s, want %d", method, path, body, status, text, want)
	}
	var o Object
	if err := json.Unmarshal([]byte(text), &o); err != nil && text != "" {
		w.Fatalf("%s %s: %v in %s", method, path, err, text)
	}
	return o
}

// Get reads an object.
func (w *World) Get(href string) Object {
	w.Helper()
	return w.request("GET", href, nil, http.StatusOK)
}

// Create posts what is answered with a new object.
func (w *World) Create(path string, body any) Object {
	w.Helper()
	return w.request("POST", Root+path, body, http.StatusCreated)
}

// Put sends a PUT that is answered with an object.
func (w *World) Put(href string, body any, header ...string) Object {
	w.Helper()
	return w.request("PUT", href, body, http.StatusOK, header...)
}

// Refused sends a request that must be answered 400 with exactly this JSON.
func (w *World) Refused(method, path string, body any, want string, header ...string) {
	w.Helper()
	status, text := w.Do(method, path, body, header...)
	if status != http.StatusBadRequest || text != want {
		w.Errorf("%s %s %v\n got %d %s\nwant 400 %s", method, path, body, status, text, want)
	}
}

// Gone asserts that an object is not there.
func (w *World) Gone(hrefs ...string) {
	w.Helper()
	for _, h := range hrefs {
		if status, text := w.Do("GET", h, nil); status != http.StatusNotFound {
			w.Errorf("GET %s = %d %s, want 404", h, status, text)
		}
	}
}

// A Task is a task that has ended.
type Task struct {
	*task.Task
	Created []string // hrefs; "" for what is gone
	Failure string   // the description of its error
	Body    Object   // its result
}

// Run sends a request that is answered with a task, and waits for its end, which must be good.
func (w *World) Run(method, path string, body any) *Task {
	w.Helper()
	t := w.Ended(method, path, body)
	if t.State != task.Completed {
		w.Fatalf("%s %s %v: task %s %s", method, path, body, t.State, t.Error)
	}
	return t
}

// Fails is Run for a task that must fail, with this description.
func (w *World) Fails(method, path string, body any, want string) *Task {
	w.Helper()
	t := w.Ended(method, path, body)
	if t.State != task.Failed || t.Failure != want {
		w.Errorf("%s %s %v: task %s %q\nwant failed %q", method, path, body, t.State, t.Failure, want)
	}
	return t
}

// Ended is Run for a task that may end anyhow.
func (w *World) Ended(method, path string, body any) *Task {
	w.Helper()
	return w.Wait(w.Start(method, path, body))
}

// Start sends a request that is answered with a task, and returns its href.
func (w *World) Start(method, path string, body any) string {
	w.Helper()
	href, _ := w.request(method, path, body, http.StatusAccepted)["task"].(string)
	if href == "" {
		w.Fatalf("%s %s %v: no task", method, path, body)
	}
	return href
}

// Wait waits for a task's end.
func (w *World) Wait(href string) *Task {
	w.Helper()
	t, err := w.wait(href)
	if err != nil {
		w.Fatalf("wait for %s: %v", href, err)
	}
	return t
}

func (w *World) wait(href string) (*Task, error) {
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	id, err := pulp.ParseID(ID(href))
	if err != nil {
		return nil, err
	}
	row, err := w.Tasks.Wait(ctx, id)
	if err != nil {
		return nil, err
	}
	t := &Task{Task: row}
	for _, r := range row.Resources {
		h, err := w.API.Href(ctx, w.DB, r)
		if err != nil {
			return nil, err
		}
		t.Created = append(t.Created, h)
	}
	if row.Error != nil {
		var e struct{ Description string }
		if err := json.Unmarshal(row.Error, &e); err != nil {
			return nil, err
		}
		t.Failure = e.Description
	}
	if row.Result != nil {
		if err := json.Unmarshal(row.Result, &t.Body); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Try is Run for a request that may be refused or fail, from any goroutine.
func (w *World) Try(method, path string, body any) *Task {
	status, text, err := w.send(method, path, body, nil)
	if err != nil || status != http.StatusAccepted {
		return &Task{Failure: fmt.Sprint(status, " ", text, " ", err)}
	}
	var accepted struct{ Task string }
	if err := json.Unmarshal([]byte(text), &accepted); err != nil {
		return &Task{Failure: err.Error()}
	}
	t, err := w.wait(accepted.Task)
	if err != nil {
		return &Task{Failure: err.Error()}
	}
	return t
}

// Done says whether the task was completed.
func (t *Task) Done() bool { return t.Task != nil && t.State == task.Completed }

// Names lists one field of all that a list holds.
func (w *World) Names(field, path string, query ...string) []string {
	w.Helper()
	list := []string{}
	for _, o := range w.List(path, query...) {
		list = append(list, fmt.Sprint(o[field]))
	}
	return list
}

// List returns the objects of a list, narrowed by names and values of filters.
func (w *World) List(path string, query ...string) []Object {
	w.Helper()
	values := url.Values{"limit": {"10000"}}
	for i := 0; i+1 < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	if !strings.HasPrefix(path, "/") {
		path = Root + path
	}
	results := w.Get(path + "?" + values.Encode())["results"].([]any)
	list := make([]Object, len(results))
	for i, r := range results {
		list[i] = r.(Object)
	}
	return list
}

// ID is the last part of an href.
func ID(href string) string {
	parts := strings.Split(strings.Trim(href, "/"), "/")
	return parts[len(parts)-1]
}

// Href is an object's own.
func Href(o Object) string { return o["pulp_href"].(string) }
