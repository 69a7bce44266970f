package sidebyside

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A fakeServer makes things by tasks and keeps the requests that it got.
type fakeServer struct {
	mu    sync.Mutex
	polls int
	seen  []string
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	user, password, _ := r.BasicAuth()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, strings.TrimSpace(fmt.Sprintf("%s %s %s:%s %s", r.Method, r.RequestURI, user, password, body)))
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	case strings.HasPrefix(r.URL.Path, "/pulp/api/v3/tasks/"):
		state := "completed"
		if s.polls++; s.polls < 3 {
			state = "running"
		}
		fmt.Fprintf(w, `{"state": %q, "created_resources": ["/pulp/api/v3/repositories/`+uuidB+`/"]}`, state)
	case r.URL.Path == "/pulp/content/x":
		w.Write([]byte("File\n"))
	case r.Method == http.MethodPost && r.URL.Path == "/pulp/api/v3/things/":
		w.Header().Set("Location", "/pulp/api/v3/things/"+uuidA+"/")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"pulp_href": "/pulp/api/v3/things/`+uuidA+`/"}`)
	case r.Method == http.MethodPost:
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"task": "/pulp/api/v3/tasks/`+nilUUID+`/"}`)
	default:
		fmt.Fprint(w, `{}`)
	}
}

func run(t *testing.T, server http.Handler, text string) (*Transcript, error) {
	t.Helper()
	s, err := Parse("x", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(server)
	defer ts.Close()
	r := &Runner{URL: ts.URL, User: "admin password", Client: NewClient(), Timeout: 5 * time.Second}
	got, err := r.Run(context.Background(), s)
	return got, err
}

func TestRun(t *testing.T) {
	server := &fakeServer{}
	got, err := run(t, server, `
POST $API/things/
{"name": "x"}
capture: thing = body.pulp_href

POST ${thing}go/?a b="c"&d=%2F
user: none
text: ${thing:id}
wait
capture: repo = task.created_resources.0

GET $repo//../x
user: me pass word
quiet

GET $CONTENT/x
-- f --
File
`)
	if err != nil {
		t.Fatal(err)
	}
	const want = `# 

=== 1 POST $API/things/
201 Created
Content-Type: application/json
Location: /pulp/api/v3/things/<things-1>/
{
  "pulp_href": "/pulp/api/v3/things/<things-1>/"
}

=== 2 POST ${thing}go/?a b="c"&d=%2F
202 Accepted
Content-Type: application/json
{
  "task": "/pulp/api/v3/tasks/00000000-0000-0000-0000-000000000000/"
}
--- task
{
  "state": "completed",
  "created_resources": ["/pulp/api/v3/repositories/<repositories-1>/"]
}

=== 3 GET $repo//../x
200 OK

=== 4 GET $CONTENT/x
200 OK
Content-Length: 5
Content-Type: application/json
| <contents of f>
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("transcript (-want +got):\n%s", diff)
	}
	task := " /pulp/api/v3/tasks/" + nilUUID + "/ admin:password"
	wantSeen := []string{
		`POST /pulp/api/v3/things/ admin:password {"name": "x"}`,
		"POST /pulp/api/v3/things/" + uuidA + "/go/?a%20b=%22c%22&d=%2F : " + uuidA,
		"GET" + task, "GET" + task, "GET" + task,
		"GET /pulp/api/v3/repositories/" + uuidB + "///../x me:pass word",
		"GET /pulp/content/x admin:password",
		// The cleaning up: a task that may still run, then the newest first.
		"PATCH" + task + ` {"state": "canceled"}`, "GET" + task,
		"DELETE /pulp/api/v3/repositories/" + uuidB + "/ admin:password",
		"DELETE" + task,
		"DELETE /pulp/api/v3/things/" + uuidA + "/ admin:password",
	}
	if diff := cmp.Diff(wantSeen, server.seen); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestRunSendsForms(t *testing.T) {
	var parts []string
	_, err := run(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1 << 20); err != nil {
			t.Error(err)
			return
		}
		for name, values := range r.MultipartForm.Value {
			parts = append(parts, name+"="+strings.Join(values, ","))
		}
		for name, files := range r.MultipartForm.File {
			f, err := files[0].Open()
			if err != nil {
				t.Error(err)
				continue
			}
			data, _ := io.ReadAll(f)
			parts = append(parts, fmt.Sprintf("%s=%s:%s", name, files[0].Filename, data))
		}
	}), `
POST /x
form: size=${dir/a.txt.size}
file: file=dir/a.txt
file: part=dir/a.txt[1:3]
-- dir/a.txt --
hello
`)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(parts)
	if diff := cmp.Diff([]string{"file=a.txt:hello\n", "part=a.txt:el", "size=6"}, parts); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
}

func TestRunFails(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"no such variable", "GET $nope\n", `x.txt:1: no variable ["nope"]`},
		{"nothing to capture", "GET /a\n\nGET /b\ncapture: c = body.d.0\n", "x.txt:3: capture c: no body.d.0 in the answer 200 OK {}"},
		{"no cookie", "GET /a\ncapture: c = cookie.d\n", "no cookie.d"},
		{"nothing to wait for", "GET /a\nwait\n", "the answer names no task"},
		{"no such file", "POST /a\nfile: f=nope\n", `no file "nope"`},
		{"a range beyond the file", "POST /a\nfile: f=a[2:9]\n-- a --\nx\n", `no file "a[2:9]"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := run(t, &fakeServer{}, tc.text)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Run = %v, want an error with %q", err, tc.want)
			}
		})
	}
}

// One step that fails does not hide what the others would tell.
func TestRunGoesOn(t *testing.T) {
	got, err := run(t, &fakeServer{}, "GET /a\ncapture: c = body.d\n\nGET $c\n\nGET /b\n")
	if err == nil || !strings.Contains(err.Error(), "x.txt:1:") || !strings.Contains(err.Error(), "x.txt:4:") {
		t.Errorf("Run = %v, want errors of the lines 1 and 4", err)
	}
	if len(got.Answers) != 3 || got.Answers[0] == nil || got.Answers[1] != nil || got.Answers[2] == nil {
		t.Errorf("Run gave %v, want the first and the third answer", got.Answers)
	}
}

// The upstream serves the scenario's files, and what hangs ends with the run.
func TestUpstream(t *testing.T) {
	var wg sync.WaitGroup
	got := make(chan string, 2)
	fetch := func(url string) {
		defer wg.Done()
		resp, err := http.Get(url)
		if err != nil {
			got <- "broken"
			return
		}
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		got <- resp.Status + " " + string(data)
	}
	_, err := run(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		url, _ := io.ReadAll(r.Body)
		wg.Add(1)
		go fetch(string(url))
		if strings.HasSuffix(string(url), "/a.txt") {
			wg.Wait()
		}
	}), `
POST /x
text: $UPSTREAM/d/a.txt

POST /x
text: $UPSTREAM/never/a
-- upstream/d/a.txt --
hello
`)
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if first, second := <-got, <-got; first != "200 OK hello\n" || second != "broken" {
		t.Errorf("the upstream gave %q and %q", first, second)
	}
}
