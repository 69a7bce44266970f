package script

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// A client asks the script's server. It follows no redirects.
type client struct {
	base string // "http://127.0.0.1:12345"
	http http.Client
	jar  http.CookieJar
}

func newClient() (*client, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &client{jar: jar, http: http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

type account struct{ name, password string }

// cookies says which of the server's cookies a request has.
type cookies int

const (
	without cookies = iota
	alone           // as a browser sends them that another site has made ask
	proven          // with the header that only the server's own pages can send
)

type request struct {
	method, target string
	body           []byte
	header         http.Header
	as             *account // nil: nobody
	cookies        cookies
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request. Its target is a URL, a path, or a path below that of the API.
func (c *client) do(ctx context.Context, r request) (*answer, error) {
	target := r.target
	switch {
	case strings.HasPrefix(target, "/"):
		target = c.base + target
	case !strings.Contains(target, "://"):
		target = c.base + "/pulp/api/v3/" + target
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, r.header)
	if r.as != nil {
		req.SetBasicAuth(r.as.name, r.as.password)
	}
	if r.cookies != without {
		for _, cookie := range c.jar.Cookies(req.URL) {
			req.AddCookie(cookie)
			if cookie.Name == "csrftoken" && r.cookies == proven {
				req.Header.Set("X-CSRFToken", cookie.Value)
			}
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	c.jar.SetCookies(req.URL, resp.Cookies())
	body, err := io.ReadAll(resp.Body)
	return &answer{resp.StatusCode, resp.Header, body}, err
}

// method makes the command of an HTTP method.
func method(name string) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		args, sets := captures(ts, args)
		if len(args) < 1 || len(args) > 2 {
			ts.Fatalf("usage: [!] %s PATH [JSON] [-> VARIABLE .key]...", strings.ToLower(name))
		}
		r := request{method: name, target: args[0], header: http.Header{}}
		if len(args) == 2 {
			r.body = []byte(os.Expand(args[1], ts.Getenv))
			r.header.Set("Content-Type", "application/json")
		}
		ask(ts, neg, r, sets)
	}
}

// ask sends a request as the script's user, shows the answer, and checks its status.
func ask(ts *testscript.TestScript, neg bool, r request, sets []set) {
	w := of(ts)
	if w.server == nil {
		ts.Fatalf("no server runs")
	}
	r.as, r.cookies = w.user, w.cookies
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := w.client.do(ctx, r)
	if err != nil && neg && w.server.alive() { // an answer that breaks off is how content says that it is wrong
		fmt.Fprintf(ts.Stderr(), "broken: %v\n", err)
		return
	}
	ts.Check(err)
	w.answer = a
	_, _ = ts.Stdout().Write(a.body)
	fmt.Fprintf(ts.Stderr(), "%d %s\n", a.status, http.StatusText(a.status))
	for _, name := range slices.Sorted(maps.Keys(a.header)) {
		for _, value := range a.header[name] {
			fmt.Fprintf(ts.Stderr(), "%s: %s\n", name, value)
		}
	}
	switch {
	case a.status >= 500:
		ts.Fatalf("%s %s: %d %s", r.method, r.target, a.status, a.body)
	case a.status >= 300 && !neg:
		ts.Fatalf("%s %s: %d %s", r.method, r.target, a.status, a.body)
	case a.status < 300 && neg:
		ts.Fatalf("%s %s succeeded: %d %s", r.method, r.target, a.status, a.body)
	}
	for _, s := range sets {
		s.apply(ts, a.body)
	}
}

// content downloads a file as clients do, who have no account.
func content(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 {
		ts.Fatalf("usage: [!] content PATH ['Header: value']...")
	}
	w := of(ts)
	before, had := w.user, w.cookies
	w.user, w.cookies = nil, without
	defer func() { w.user, w.cookies = before, had }()
	r := request{method: "GET", target: "/pulp/content/" + args[0], header: http.Header{}}
	for _, h := range args[1:] {
		name, value, _ := strings.Cut(h, ":")
		r.header.Set(name, strings.TrimSpace(value))
	}
	ask(ts, neg, r, nil)
}

var piece = regexp.MustCompile(`^(.+)\[(\d+):(\d+)\]$`)

// upload sends a file as a form, or a piece of it to an upload.
func upload(ts *testscript.TestScript, neg bool, args []string) {
	args, sets := captures(ts, args)
	if len(args) < 2 {
		ts.Fatalf("usage: [!] upload PATH FILE|FILE[FROM:TO] [name=value]... [-> VARIABLE .key]...")
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	r := request{method: http.MethodPost, target: args[0], header: http.Header{"Content-Type": {form.FormDataContentType()}}}
	name, data := args[1], ""
	if m := piece.FindStringSubmatch(name); m != nil {
		from, err := strconv.Atoi(m[2])
		ts.Check(err)
		to, err := strconv.Atoi(m[3])
		ts.Check(err)
		name = m[1]
		data = ts.ReadFile(name)
		r.method = http.MethodPut
		r.header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(data)))
		if from >= to || to > len(data) {
			ts.Fatalf("%s has %d bytes", name, len(data))
		}
		data = data[from:to]
	} else {
		data = ts.ReadFile(name)
	}
	for _, field := range args[2:] {
		k, v, ok := strings.Cut(field, "=")
		if !ok {
			ts.Fatalf("%s is not of the form name=value", field)
		}
		ts.Check(form.WriteField(k, os.Expand(v, ts.Getenv)))
	}
	part, err := form.CreateFormFile("file", filepath.Base(name))
	ts.Check(err)
	_, err = io.WriteString(part, data)
	ts.Check(err)
	ts.Check(form.Close())
	r.body = body.Bytes()
	ask(ts, neg, r, sets)
}

// user says who asks from now on.
func user(ts *testscript.TestScript, neg bool, args []string) {
	w := of(ts)
	w.user, w.cookies = nil, without
	switch {
	case neg:
		ts.Fatalf("unsupported: ! user")
	case len(args) == 2:
		w.user = &account{args[0], args[1]}
	case slices.Equal(args, []string{"nobody"}):
	case slices.Equal(args, []string{"session"}):
		w.cookies = proven
	case slices.Equal(args, []string{"forged"}):
		w.cookies = alone
	default:
		ts.Fatalf("usage: user NAME PASSWORD, user nobody, user session or user forged")
	}
}

// waitTask waits until a task, or all of a group, has the state.
func waitTask(ts *testscript.TestScript, neg bool, args []string) {
	args, sets := captures(ts, args)
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waittask HREF STATE [-> VARIABLE .key]...")
	}
	w := of(ts)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		a, err := w.client.do(ctx, request{method: "GET", target: args[0], as: w.user, cookies: w.cookies})
		ts.Check(err)
		if a.status != http.StatusOK {
			ts.Fatalf("%s: %d %s", args[0], a.status, a.body)
		}
		state, err := stateOf(a.body)
		ts.Check(err)
		over := !slices.Contains([]string{"waiting", "running", "canceling"}, state)
		if state == args[1] || over {
			w.answer = a
			_, _ = ts.Stdout().Write(a.body)
			if state != args[1] {
				ts.Fatalf("%s is %s", args[0], state)
			}
			for _, s := range sets {
				s.apply(ts, a.body)
			}
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%s is still %s", args[0], state)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stateOf returns the state of a task, or that of a group as a whole.
func stateOf(body []byte) (string, error) {
	var t struct {
		State                                                             string
		Waiting, Running, Canceling, Completed, Failed, Canceled, Skipped int
		Tasks                                                             []json.RawMessage
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return "", err
	}
	switch {
	case t.State != "":
		return t.State, nil
	case t.Waiting+t.Running+t.Canceling > 0 || len(t.Tasks) == 0:
		return "running", nil
	case t.Failed > 0:
		return "failed", nil
	case t.Canceled > 0:
		return "canceled", nil
	}
	return "completed", nil
}

// jsonValue checks a value in the last answer.
func jsonValue(ts *testscript.TestScript, neg bool, args []string) {
	w := of(ts)
	if len(args) < 1 || len(args) > 2 || w.answer == nil {
		ts.Fatalf("usage, after a request: [!] json .key [VALUE]")
	}
	got, ok, err := find(w.answer.body, args[0])
	ts.Check(err)
	switch {
	case len(args) == 1 && (ok && got != "null") == neg:
		ts.Fatalf("%s is %q", args[0], got)
	case len(args) == 2 && !neg && !ok:
		ts.Fatalf("there is no %s", args[0])
	case len(args) == 2 && (got == os.Expand(args[1], ts.Getenv)) == neg:
		ts.Fatalf("%s is %q", args[0], got)
	}
}

// A set is one "-> VARIABLE .key".
type set struct{ variable, path string }

// captures takes these off a command's arguments.
func captures(ts *testscript.TestScript, args []string) (rest []string, sets []set) {
	for i := 0; i < len(args); i++ {
		if args[i] != "->" {
			rest = append(rest, args[i])
			continue
		}
		if i+2 >= len(args) {
			ts.Fatalf("usage: -> VARIABLE .key")
		}
		sets = append(sets, set{args[i+1], args[i+2]})
		i += 2
	}
	return rest, sets
}

func (s set) apply(ts *testscript.TestScript, body []byte) {
	value, ok, err := find(body, s.path)
	ts.Check(err)
	if !ok || value == "null" {
		ts.Fatalf("there is no %s in %s", s.path, body)
	}
	ts.Setenv(s.variable, value)
}

var step = regexp.MustCompile(`^(?:\.([A-Za-z0-9_]+)|\[(\d+)\]|\["([^"]*)"\]|\[([a-z_]+)=([^]]*)\])`)

// find returns the value at a path, as .results[0].pulp_labels["a b"] or .tasks[state=failed].name, where the first
// that fits counts: texts as they are, all else as JSON.
func find(body []byte, path string) (value string, ok bool, err error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return "", false, fmt.Errorf("not JSON: %w", err)
	}
	for rest := path; rest != ""; {
		m := step.FindStringSubmatch(rest)
		if m == nil {
			return "", false, fmt.Errorf("%s is not of the form .key[0][\"key\"]", path)
		}
		rest = rest[len(m[0]):]
		list, _ := v.([]any)
		if m[4] != "" {
			i := slices.IndexFunc(list, func(e any) bool {
				object, _ := e.(map[string]any)
				return object[m[4]] == m[5]
			})
			if i < 0 {
				return "", false, nil
			}
			v = list[i]
			continue
		}
		if m[2] != "" {
			i, err := strconv.Atoi(m[2])
			if err != nil || i >= len(list) {
				return "", false, err
			}
			v = list[i]
			continue
		}
		object, _ := v.(map[string]any)
		if v, ok = object[m[1]+m[3]]; !ok {
			return "", false, nil
		}
	}
	if text, isText := v.(string); isText {
		return text, true, nil
	}
	b, err := json.Marshal(v)
	return string(b), true, err
}
