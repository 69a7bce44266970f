// Package sidebyside sends lists of requests to a server and compares the answers with those that the reference gave.
// Scenarios lie in scenarios/*.txt, recorded answers in testdata/pulp; README.md describes both.
package sidebyside

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// A Runner sends scenarios to one server.
type Runner struct {
	URL      string // scheme and host, without a final slash
	User     string // "name password" of an administrator
	Fixtures string // a folder to serve as $FIXTURES, or ""
	Client   *http.Client
	Timeout  time.Duration // for a task to end
}

const (
	apiRoot     = "/pulp/api/v3"
	contentRoot = "/pulp/content"
	bodyLimit   = 16 << 20
	pollEvery   = 50 * time.Millisecond
)

// Run executes a scenario, removes what it made, and returns the normalised answers.
// A step that can't be done (a capture found nothing, a task does not end) is an error, and the others are done all the same.
func (r *Runner) Run(ctx context.Context, s *Scenario) (*Transcript, error) {
	x, err := r.Begin(s)
	if err != nil {
		return nil, err
	}
	t := &Transcript{}
	var failed error
	for _, step := range s.Steps {
		answer, err := x.Do(ctx, step)
		t.Answers = append(t.Answers, answer)
		failed = errors.Join(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return t, errors.Join(failed, x.End(ctx))
}

// A Session is one run of a scenario. [Runner.Begin] is for those who decide between its steps what to do next.
type Session struct {
	name   string
	runner *Runner
	norm   *normaliser
	vars   map[string]string
	files  map[string][]byte
	made   []string      // hrefs to delete, oldest first
	over   chan struct{} // closed at the end, for requests to the upstream that still hang
	remote *httptest.Server
}

// Begin starts a session with a scenario's files. [Session.End] must follow.
func (r *Runner) Begin(s *Scenario) (*Session, error) {
	x := &Session{name: s.Name, runner: r, norm: newNormaliser(), vars: map[string]string{}, files: map[string][]byte{}, over: make(chan struct{})}
	x.remote = httptest.NewServer(http.HandlerFunc(x.upstream))
	if err := x.prepare(s, x.remote.URL); err != nil {
		x.close()
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return x, nil
}

// Do sends a step and returns its normalised answer. Where there is an answer and an error, what should follow could not be done.
func (x *Session) Do(ctx context.Context, step *Step) (*Answer, error) {
	answer, err := x.step(ctx, step)
	if err != nil {
		err = fmt.Errorf("%s.txt:%d: %w", x.name, step.Line, err)
	}
	return answer, err
}

// Set sets a variable.
func (x *Session) Set(name, value string) { x.vars[name] = value }

// End removes what the session made.
func (x *Session) End(ctx context.Context) error {
	defer x.close()
	if err := x.cleanUp(ctx); err != nil {
		return fmt.Errorf("%s: clean up: %w", x.name, err)
	}
	return nil
}

func (x *Session) close() {
	close(x.over)
	x.remote.Close()
}

func (x *Session) prepare(s *Scenario, upstream string) error {
	unique := "g" + strings.ToLower(rand.Text()[:9])
	x.vars["u"], x.vars["uuid"] = unique, uuid.NewString()
	x.vars["URL"], x.vars["API"], x.vars["CONTENT"] = x.runner.URL, apiRoot, contentRoot
	if s.Requires("domains") {
		x.vars["API"] = "/pulp/default/api/v3"
	}
	x.vars["UPSTREAM"], x.vars["FIXTURES"] = upstream, upstream+"/fixtures"

	for _, f := range s.Files {
		data, err := x.Expand(f.Data)
		if err != nil {
			return fmt.Errorf("file %s: %w", f.Name, err)
		}
		x.files[f.Name] = []byte(data)
		x.vars[f.Name+".size"] = strconv.Itoa(len(data))
		for _, d := range digests {
			x.vars[f.Name+"."+d.name] = fmt.Sprintf("%x", d.sum([]byte(data)))
		}
		x.norm.knowFile(f.Name, []byte(data))
	}
	x.norm.know(upstream+"/fixtures", "<fixtures>")
	x.norm.know(upstream, "<upstream>")
	x.norm.know(x.runner.URL, "<server>")
	for _, known := range []struct{ url, name string }{{upstream, "<upstream host>"}, {x.runner.URL, "<server host>"}} {
		u, err := url.Parse(known.url)
		if err != nil {
			return fmt.Errorf("address %q: %w", known.url, err)
		}
		x.norm.know(u.Host, known.name)
	}
	x.norm.know(unique, "<u>")
	x.norm.know(x.vars["uuid"], "<uuid>")
	return nil
}

// Expand puts variables into a text: $name, ${name}, ${name:id} for the last segment of an href, ${name:checkpoint} for
// a time as the paths of checkpoints have it, $$ for a dollar.
func (x *Session) Expand(text string) (string, error) {
	var missing []string
	out := os.Expand(text, func(name string) string {
		if name == "$" {
			return "$"
		}
		base, form, _ := strings.Cut(name, ":")
		value, ok := x.vars[base]
		if !ok {
			missing = append(missing, name)
		}
		switch form {
		case "id":
			return path.Base(value)
		case "checkpoint":
			whole, _, _ := strings.Cut(value, ".")
			return strings.NewReplacer("-", "", ":", "").Replace(whole) + "Z"
		}
		return value
	})
	if missing != nil {
		return "", fmt.Errorf("no variable %q", missing)
	}
	return out, nil
}

// A reply is an answer as it came.
type reply struct {
	*http.Response
	body []byte
	json Value
	task Value
}

func (x *Session) step(ctx context.Context, step *Step) (*Answer, error) {
	got, err := x.send(ctx, step)
	if err != nil {
		return nil, err
	}
	a := &Answer{Step: step.Number, Label: step.label(), Title: step.Title, Status: got.Status}
	x.remember(got)
	var failed error
	for _, action := range step.After {
		if action.Wait {
			if got.task, failed = x.waitFor(ctx, action.Path, got.json); failed == nil {
				a.Waited = true
			}
		} else {
			failed = x.capture(action, got)
		}
		if failed != nil {
			break
		}
	}
	if step.Quiet {
		a.Waited, a.Empty = false, true
		return a, failed
	}
	norm := x.norm
	if step.Ours != nil {
		norm = norm.aside()
	}
	a.Header = norm.header(got.Response, step)
	x.body(a, got, step, norm)
	if a.Waited {
		a.Task = norm.json("task", got.task, step)
	}
	return a, failed
}

// body records an answer's body: JSON as it is, text by lines, files of the scenario by name.
func (x *Session) body(a *Answer, got *reply, step *Step, norm *normaliser) {
	switch {
	case len(got.body) == 0:
		a.Empty = true
		return
	case got.json != nil:
		a.Body = norm.json("body", got.json, step)
		return
	}
	a.Text = true
	for name, data := range x.files {
		if len(data) > 0 && bytes.Equal(data, got.body) {
			a.Body = "<contents of " + strings.TrimPrefix(name, "upstream/") + ">"
			return
		}
	}
	if !utf8.Valid(got.body) {
		a.Body = fmt.Sprintf("<%d bytes>", len(got.body))
		return
	}
	a.Body = norm.json("body", string(got.body), step)
}

func (x *Session) send(ctx context.Context, step *Step) (*reply, error) {
	req, err := x.request(ctx, step)
	if err != nil {
		return nil, err
	}
	resp, err := x.runner.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	defer resp.Body.Close()
	got := &reply{Response: resp}
	if got.body, err = io.ReadAll(io.LimitReader(resp.Body, bodyLimit)); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	isJSON := strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") && !strings.HasPrefix(req.URL.Opaque, contentRoot)
	if isJSON && len(got.body) > 0 {
		if got.json, err = DecodeJSON(got.body); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// capture sets a variable from an answer.
func (x *Session) capture(action Action, got *reply) error {
	first, rest, _ := strings.Cut(action.Path, ".")
	switch first {
	case "status":
		x.vars[action.Name] = strconv.Itoa(got.StatusCode)
		return nil
	case "header":
		x.vars[action.Name] = got.Header.Get(rest)
		return nil
	case "cookie":
		for _, c := range got.Cookies() {
			if c.Name == rest {
				x.vars[action.Name] = c.Value
				return nil
			}
		}
	case "body", "task":
		v := got.json
		if first == "task" {
			v = got.task
		}
		if text, ok := lookup(v, rest).(string); ok {
			x.vars[action.Name] = text
			return nil
		}
	}
	return fmt.Errorf("capture %s: no %s in the answer %s %.500s", action.Name, action.Path, got.Status, got.body)
}

// lookup follows a path of keys and indexes and gives numbers as text.
func lookup(v Value, at string) Value {
	for at != "" {
		var segment string
		segment, at, _ = strings.Cut(at, ".")
		switch w := v.(type) {
		case *Object:
			v, _ = w.Get(segment)
		case []Value:
			i, err := strconv.Atoi(segment)
			if err != nil || i < 0 || i >= len(w) {
				return nil
			}
			v = w[i]
		default:
			return nil
		}
	}
	if n, ok := v.(fmt.Stringer); ok {
		return n.String()
	}
	return v
}

// waitFor waits for a given task, or else for the task or task group that an answer names.
func (x *Session) waitFor(ctx context.Context, href string, answer Value) (Value, error) {
	href, err := x.Expand(href)
	if err != nil {
		return nil, err
	}
	if href == "" {
		href, _ = lookup(answer, "task").(string)
	}
	if href == "" {
		href, _ = lookup(answer, "task_group").(string)
	}
	if href == "" {
		return nil, errors.New("wait: the answer names no task")
	}
	return x.wait(ctx, href)
}

var errGone = errors.New("it is gone")

// wait polls a task or task group until it is over.
func (x *Session) wait(ctx context.Context, href string) (Value, error) {
	isTask := strings.Contains(href, "/tasks/")
	ctx, cancel := context.WithTimeout(ctx, x.runner.Timeout)
	defer cancel()
	for {
		got, err := x.send(ctx, &Step{Method: http.MethodGet, Target: href})
		if err != nil {
			return nil, fmt.Errorf("wait for %s: %w", href, err)
		}
		if got.StatusCode == http.StatusNotFound {
			return nil, fmt.Errorf("wait for %s: %w", href, errGone)
		}
		if over(got.json, isTask) {
			x.rememberTask(got.json)
			return got.json, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w; it says %.500s", href, ctx.Err(), got.body)
		case <-time.After(pollEvery):
		}
	}
}

func over(v Value, isTask bool) bool {
	if isTask {
		state, _ := lookup(v, "state").(string)
		return slices.Contains([]string{"completed", "failed", "canceled", "skipped"}, state)
	}
	for _, state := range []string{"waiting", "running", "canceling"} {
		if lookup(v, state) != "0" {
			return false
		}
	}
	return true
}

// NewClient returns a client that follows no redirect and asks for no compression, so that answers are seen as they are.
func NewClient() *http.Client {
	return &http.Client{
		Timeout:       time.Minute,
		Transport:     &http.Transport{DisableCompression: true, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
