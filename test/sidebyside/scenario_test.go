package sidebyside

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	got, err := Parse("repos", []byte(`# Repositories,
# in short.
needs: fixtures
later: roles

# Creation
POST $API/repositories/file/file/
user: $u-one secret
X-Key: a: b
{"name": "$u",
  "description": "x"}
capture: repo = body.pulp_href
wait
volatile: body.results.*.name (random)
unordered: body.results (a set)
differs: header.Etag (ours is the digest)
differs: body.detail = {"a": ["b (c)"]} (clearer)
ours: 400 ["no"] (a 500)

PUT ${up}
form: a=b=c
file: file=a.txt[0:5]
quiet
wait: $task

POST /x
data: a=b
-- a.txt --
Text of $u
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Scenario{
		Name: "repos", About: "Repositories,\nin short.", Needs: []string{"fixtures"}, Later: "roles",
		Files: []File{{"a.txt", "Text of $u\n"}},
		Steps: []*Step{
			{
				Number: 1, Line: 7, Title: "Creation", Method: "POST", Target: "$API/repositories/file/file/",
				User: "$u-one secret", Header: []Field{{"X-Key", "a: b"}},
				Body: "{\"name\": \"$u\",\n  \"description\": \"x\"}", Type: "application/json",
				After:     []Action{{Name: "repo", Path: "body.pulp_href"}, {Wait: true}},
				Volatile:  []Mark{{"body.results.*.name", "random"}},
				Unordered: []Mark{{"body.results", "a set"}},
				Differs: []Difference{
					{Mark: Mark{"header.Etag", "ours is the digest"}},
					{Mark: Mark{"body.detail", "clearer"}, HasWant: true, Want: &Object{[]Member{{"a", []Value{"b (c)"}}}}},
				},
				Ours: &Ours{Status: 400, HasBody: true, Body: []Value{"no"}, Reason: "a 500"},
			},
			{
				Number: 2, Line: 20, Method: "PUT", Target: "${up}", Quiet: true,
				Parts: []Part{{Name: "a", Text: "b=c"}, {Name: "file", Text: "a.txt[0:5]", File: true}},
				After: []Action{{Wait: true, Path: "$task"}},
			},
			{Number: 3, Line: 26, Method: "POST", Target: "/x", Body: "a=b", Type: "application/x-www-form-urlencoded"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"nothing", "# only a comment\n", "no steps"},
		{"no request first", "\nX-A: b\n", "x:2: want a request"},
		{"unknown method", "FETCH /\n", "x:1: want a request"},
		{"unknown directive", "GET /\nfoo: bar\n", `unknown directive "foo"`},
		{"neither header nor directive", "GET /\nfoo bar\n", "x:2: not understood"},
		{"two bodies", "POST /\n{}\n[]\n", "a second body"},
		{"form and body", "POST /\n{}\nform: a=b\n", "no other body"},
		{"capture of no path", "GET /\ncapture: a = b\n", "want NAME = PATH"},
		{"mark without a reason", "GET /\nvolatile: body\n", "want a reason"},
		{"mark with an empty reason", "GET /\nvolatile: body ()\n", "want a reason"},
		{"mark of no part", "GET /\nvolatile: bodies (x)\n", "not a part of an answer"},
		{"volatile with a value", "GET /\nvolatile: body = 5 (x)\n", "takes no value"},
		{"difference that is no JSON", "GET /\ndiffers: body = x (y)\n", "decode JSON"},
		{"status that is no number", "GET /\nours: x (y)\n", "want a status"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse("x", []byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Parse(%q) = %v, want an error with %q", tc.text, err, tc.want)
			}
		})
	}
}

func TestCovers(t *testing.T) {
	for _, tc := range []struct {
		pattern, path string
		covers, equal bool
	}{
		{"body", "body", true, true},
		{"body", "body.a.b", true, false},
		{"body.a", "body", false, false},
		{"body.*.name", "body.0.name", true, true},
		{"body.*.name", "body.0.names", false, false},
	} {
		if got := covers(tc.pattern, tc.path); got != tc.covers {
			t.Errorf("covers(%q, %q) = %v", tc.pattern, tc.path, got)
		}
		if got := equals(tc.pattern, tc.path); got != tc.equal {
			t.Errorf("equals(%q, %q) = %v", tc.pattern, tc.path, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("# About\n\nGET /x\nwait\ncapture: a = body.b\n-- f --\ntext\n")
	f.Add("POST /\n{\n  \"a\": 1}\nours: 400 {} (x)\ndiffers: body = [] (y)\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse("fuzz", []byte(text))
		if err == nil && len(s.Steps) == 0 {
			t.Error("no error, and no steps")
		}
	})
}
