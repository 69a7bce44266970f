package sidebyside

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	uuidA = "01a20fda-5270-7b7c-aeb4-ae6986f80c29"
	uuidB = "01a20fda-527a-70cf-8862-6b28d8fa8815"
)

func TestNormaliseText(t *testing.T) {
	n := newNormaliser()
	n.knowFile("a.txt", []byte("hello\n"))
	n.know("http://localhost:9080", "<server>")
	n.know("localhost:9080", "<server host>")
	n.know("gabc", "<u>")
	for _, tc := range []struct{ name, in, want string }{
		{"a repository", "/pulp/api/v3/repositories/file/file/" + uuidA + "/versions/1/", "/pulp/api/v3/repositories/file/file/<repositories-1>/versions/1/"},
		{"the same by PRN", "prn:file.filerepository:" + uuidA, "prn:file.filerepository:<repositories-1>"},
		{"another, first seen by PRN", "shared:prn:core.domain:" + uuidB, "shared:prn:core.domain:<domain-1>"},
		{"nothing", "/pulp/api/v3/tasks/" + nilUUID + "/", "/pulp/api/v3/tasks/" + nilUUID + "/"},
		{"a host with its scheme", "http://localhost:9080/x", "<server>/x"},
		{"a host", "connect to localhost:9080", "connect to <server host>"},
		{"a name", "name-gabc-x", "name-<u>-x"},
		{"a time", "2026-11-24T23:18:15.921971Z", "<time>"},
		{"a time as some results have it", "2026-11-24T23:18:15.921Z", "<time in milliseconds>"},
		{"a time without a fraction stays", "2026-11-24T23:18:15Z", "2026-11-24T23:18:15Z"},
		{"a scenario's time stays", "2001-01-01T00:00:00.000000Z", "2001-01-01T00:00:00.000000Z"},
		{"a listing's date", "x  24-Nov-2026 23:18  5", "x  <date-and-minute>  5"},
		{"a checkpoint", "/20261124T231815Z/", "/<checkpoint>/"},
		{"a user", "/pulp/api/v3/users/17/", "/pulp/api/v3/users/<user-1>/"},
		{"the same user", "prn:auth.user:17", "prn:auth.user:<user-1>"},
		{"a group of that number", "prn:core.group:17", "prn:core.group:<group-1>"},
		{"a digest", "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03", "<sha256 of a.txt>"},
		{"an artifact's file", "artifact/58/91b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03", "<artifact file of a.txt>"},
	} {
		if got := n.text(tc.in); got != tc.want {
			t.Errorf("%s: text(%q) = %q, want %q", tc.name, tc.in, got, tc.want)
		}
	}
}

func TestNormaliseJSON(t *testing.T) {
	s, err := Parse("x", []byte(`GET /
volatile: body.storage.*.free (disk)
unordered: body.set (a set)
differs: body.theirs (x)
`))
	if err != nil {
		t.Fatal(err)
	}
	in := decode(t, `{
		"b": 1, "a": 2, "id": 7, "logging_cid": "0123456789abcdef0123456789abcdef", "error": {"traceback": "File", "description": "d"},
		"theirs": "/api/v3/tasks/`+uuidB+`/",
		"ours": "/api/v3/tasks/`+uuidA+`/",
		"storage": [{"free": 5}],
		"set": [{"n": "z", "i": "`+uuidA+`"}, {"n": "a", "i": "`+uuidB+`"}],
		"result": {"b": 1, "a": {"d": 1, "c": 2}},
		"versions": [{"b": 1, "a": 2}],
		"progress_reports": [{"message": "B"}, {"message": "A"}]
	}`)
	want := decode(t, `{
		"b": 1, "a": 2, "id": "<number>", "logging_cid": "<correlation id>", "error": {"description": "d", "traceback": "<traceback>"},
		"theirs": "/api/v3/tasks/<tasks-1>/",
		"ours": "/api/v3/tasks/<tasks-1>/",
		"storage": [{"free": "<any>"}],
		"set": [{"n": "a", "i": "<id-1>"}, {"n": "z", "i": "<tasks-1>"}],
		"result": {"a": {"c": 2, "d": 1}, "b": 1},
		"versions": [{"b": 1, "a": 2}],
		"progress_reports": [{"message": "A"}, {"message": "B"}]
	}`)
	if diff := cmp.Diff(want, newNormaliser().json("body", in, s.Steps[0])); diff != "" {
		t.Errorf("json (-want +got):\n%s", diff)
	}
}

func TestNormaliseHeader(t *testing.T) {
	standardHeader := func(more ...string) http.Header {
		h := http.Header{}
		for _, f := range standard {
			h.Set(f.Name, f.Value)
		}
		h.Set("Correlation-Id", "0123456789abcdef0123456789abcdef")
		for i := 0; i < len(more); i += 2 {
			h.Set(more[i], more[i+1])
		}
		return h
	}
	for _, tc := range []struct {
		name    string
		path    string
		sent    string
		header  http.Header
		chunked bool
		want    []Field
	}{
		{
			"an answer of the API", "/pulp/api/v3/", "", standardHeader("Allow", "GET,DELETE, HEAD", "Vary", "Accept", "Date", "x", "Server", "y", "Content-Length", "5"), false,
			[]Field{{"Allow", "DELETE, GET, HEAD"}, {"Standard-Headers", "all"}, {"Vary", "Accept"}},
		},
		{
			"one that sends the id back", "/pulp/api/v3/", "MINE",
			http.Header{"Correlation-Id": {"MINE"}},
			false,
			[]Field{{"Correlation-Id", "<as sent>"}},
		},
		{
			"one that does not", "/pulp/api/v3/", "MINE",
			http.Header{"Correlation-Id": {"other"}},
			false,
			[]Field{{"Correlation-Id", "other"}},
		},
		{
			"cookies", "/pulp/api/v3/", "",
			http.Header{"Set-Cookie": {"b=; Path=/; Max-Age=0", "a=secret; expires=Tue; SameSite=Lax; HttpOnly"}},
			false,
			[]Field{{"Set-Cookie", "a=<value>; expires=<date>; httponly; samesite=Lax"}, {"Set-Cookie", "b=; max-age=0; path=/"}},
		},
		{
			"content", "/pulp/content/x", "",
			http.Header{"Etag": {`"1-2"`}, "Last-Modified": {"Tue, 24 Nov 2026 23:18:15 GMT"}, "Content-Length": {"5"}},
			false,
			[]Field{{"Content-Length", "5"}, {"Etag", "<present>"}, {"Last-Modified", "<present>"}},
		},
		{"content in chunks", "/pulp/content/x", "", http.Header{}, true, []Field{{"Transfer-Encoding", "chunked"}}},
		{"a date that is none", "/pulp/content/x", "", http.Header{"Last-Modified": {"today"}}, false, []Field{{"Last-Modified", "today"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp := &http.Response{Header: tc.header, Request: &http.Request{URL: &url.URL{Opaque: tc.path}, Header: http.Header{}}}
			if tc.sent != "" {
				resp.Request.Header.Set("Correlation-Id", tc.sent)
			}
			if tc.chunked {
				resp.TransferEncoding = []string{"chunked"}
			}
			if diff := cmp.Diff(tc.want, newNormaliser().header(resp, &Step{})); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
		})
	}
}
