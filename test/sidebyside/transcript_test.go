package sidebyside

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func decode(t *testing.T, text string) Value {
	t.Helper()
	v, err := DecodeJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTranscriptRoundTrip(t *testing.T) {
	want := &Transcript{Note: "Recorded", Answers: []*Answer{
		{
			Step: 1, Label: "GET /a", Title: "A list", Status: "200 OK", Header: []Field{{"Allow", "GET, HEAD"}, {"Empty", ""}},
			Body: decode(t, `{"b": [1, 2.50, null, {}], "a": {"<x>": "\n=== ", "c": [{"d": true}, []]}}`),
		},
		{Step: 2, Label: "GET /b", Status: "404 Not Found", Text: true, Body: "one\n=== 3 GET /\n--- task\n\n{"},
		{Step: 3, Label: "DELETE /c", Status: "204 No Content", Empty: true},
		{Step: 4, Label: "POST /d", Status: "202 Accepted", Body: decode(t, `{"task": "x"}`), Waited: true, Task: decode(t, `{"state": "completed"}`)},
		{Step: 5, Label: "POST /e", Status: "202 Accepted", Body: "<any>", Waited: true, Task: "<any>"},
	}}
	got, err := ParseTranscript(want.String())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ParseTranscript(String()) (-want +got):\n%s", diff)
	}
}

func TestCompare(t *testing.T) {
	const recorded = `# Recorded

=== 1 GET /a
200 OK
Allow: GET
Vary: Accept
{
  "count": 1,
  "results": [
    {"name": "a", "size": 5}
  ],
  "errors": {}
}
`
	for _, tc := range []struct {
		name       string
		directives string
		edit       []string // old, new
		deliberate bool
		want       []string // parts of the lines
	}{
		{"equal", "", nil, true, nil},
		{"status", "", []string{"200 OK", "201 Created"}, true, []string{`want 200 OK { "count": 1,`}},
		{"status that may differ", "differs: status (x)", []string{"200 OK", "201 Created"}, true, nil},
		{"header that comes and goes", "volatile: header.Vary (x)", []string{"Vary: Accept\n", ""}, false, nil},
		{"header gone", "", []string{"Vary: Accept\n", ""}, true, []string{`header.Vary: want "Accept", got nothing`}},
		{"header more", "", []string{"Vary", "Via: x\nVary"}, true, []string{`header.Via: want nothing, got "x"`}},
		{"value", "", []string{`"size": 5`, `"size": 6`}, true, []string{`body.results.0.size: want 5, got 6`}},
		{"type", "", []string{`"size": 5`, `"size": "5"`}, true, []string{`body.results.0.size: want 5, got "5"`}},
		{"key gone", "", []string{`, "size": 5`, ``}, true, []string{`body.results.0.size: want 5, got nothing`}},
		{"key more", "", []string{`"size": 5`, `"size": 5, "x": null`}, true, []string{`body.results.0.x: want nothing, got null`}},
		{"empty object gone", "", []string{",\n  \"errors\": {}", ""}, true, []string{`body.errors: want {}, got nothing`}},
		{"order of keys", "", []string{`"name": "a", "size": 5`, `"size": 5, "name": "a"`}, true, []string{`order of the keys of body.results.0`}},
		{"item more", "", []string{`"size": 5}`, `"size": 5}, 7`}, true, []string{`body.results.1: want nothing, got 7`}},
		{"declared", "differs: body.results.*.size (x)", []string{`"size": 5`, `"size": 6`}, true, nil},
		{"declared, and below", "differs: body.results (x)", []string{`"size": 5`, `"size": 6`}, true, nil},
		{"declared for ours only", "differs: body.results.*.size (x)", []string{`"size": 5`, `"size": 6`}, false, []string{"body.results.0.size"}},
		{"declared with a value", "differs: body.count = 2 (x)", []string{`"count": 1`, `"count": 2`}, true, nil},
		{"declared with another value", "differs: body.count = 3 (x)", nil, true, []string{`body.count: want 3, got 1`}},
		{"ours", "ours: 400 (x)", []string{"200 OK\nAllow: GET", "400 Bad Request"}, true, nil},
		{"ours, not done", "ours: 400 (x)", nil, true, []string{`status: want "400 Bad Request", got "200 OK"`}},
		{"ours with a body", `ours: 200 {"count": 1} (x)`, nil, true, []string{"body.results", "body.errors"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Parse("list", []byte("GET /a\n"+tc.directives+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			want, err := ParseTranscript(recorded)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ParseTranscript(strings.NewReplacer(tc.edit...).Replace(recorded))
			if err != nil {
				t.Fatal(err)
			}
			found := Compare(s, want, got, tc.deliberate)
			if len(found) != len(tc.want) {
				t.Fatalf("Compare found %q, want %d", found, len(tc.want))
			}
			for i, part := range tc.want {
				if !strings.Contains(found[i], part) || !strings.HasPrefix(found[i], "list.txt:1: GET /a: ") {
					t.Errorf("Compare found %q, want it to say %q", found[i], part)
				}
			}
		})
	}
}

func TestCompareErrorsInAnyOrder(t *testing.T) {
	s, err := Parse("x", []byte("GET /a\n"))
	if err != nil {
		t.Fatal(err)
	}
	of := func(body string) *Transcript {
		return &Transcript{Answers: []*Answer{{Step: 1, Label: "GET /a", Status: "400 Bad Request", Body: decode(t, body)}}}
	}
	if found := Compare(s, of(`{"a": ["x"], "b": ["y"]}`), of(`{"b": ["y"], "a": ["x"]}`), true); len(found) > 0 {
		t.Errorf("Compare found %q", found)
	}
}

func TestCompareStaleOrShort(t *testing.T) {
	s, err := Parse("x", []byte("GET /a\n\nGET /b\n"))
	if err != nil {
		t.Fatal(err)
	}
	a := &Answer{Step: 1, Label: "GET /a", Status: "200 OK", Empty: true}
	b := &Answer{Step: 2, Label: "GET /b", Status: "200 OK", Empty: true}
	whole := &Transcript{Answers: []*Answer{a, b}}
	for _, tc := range []struct {
		name          string
		recorded, got *Transcript
		want          string
	}{
		{"recorded before the scenario grew", &Transcript{Answers: []*Answer{a}}, whole, "record the scenario again"},
		{"recorded of another scenario", &Transcript{Answers: []*Answer{b, a}}, whole, "record the scenario again"},
		{"broken off", whole, &Transcript{Answers: []*Answer{a}}, "not sent"},
		{"a step that could not be sent", whole, &Transcript{Answers: []*Answer{a, nil}}, "not sent"},
	} {
		found := Compare(s, tc.recorded, tc.got, true)
		if len(found) != 1 || !strings.Contains(found[0], tc.want) {
			t.Errorf("%s: Compare found %q, want %q", tc.name, found, tc.want)
		}
	}
}

func FuzzParseTranscript(f *testing.F) {
	f.Add("# n\n\n=== 1 GET /\n# t\n200 OK\nA: b\n{\n  \"a\": [1, {}]\n}\n--- task\nnull\n")
	f.Add("\n=== 2 GET /\n404 Not Found\n| text\n| \n")
	f.Fuzz(func(t *testing.T, text string) {
		first, err := ParseTranscript(text)
		if err != nil {
			return
		}
		once := first.String()
		second, err := ParseTranscript(once)
		if err != nil {
			t.Fatalf("%q was read, what it prints is not: %v\n%s", text, err, once)
		}
		if twice := second.String(); twice != once {
			t.Fatalf("printed twice: %q and %q", once, twice)
		}
	})
}
