package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/blob"
	blobfile "granary/internal/blob/file"
	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/db/schema"
	"granary/internal/errs"
	"granary/internal/keyring"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/rest/resttest"
	"granary/internal/task"
)

// A thing has a field of each kind.
type thing struct {
	rest.Base
	Labels rest.Labels       `api:"pulp_labels" db:"labels"`
	Name   string            `api:"name,req,unique"`
	Note   *string           `api:"note,null,maxlen=5"`
	Size   *int64            `api:"size,null,min=1"`
	Ratio  *float64          `api:"ratio,null,min=0"`
	On     bool              `api:"on,def=false" db:"is_on"`
	Mode   string            `api:"mode,def=a,choices=a|b"`
	Friend pulp.ID           `api:"friend,null,ref=test.thing"`
	Tags   []string          `api:"tags"`
	Secret *string           `api:"secret,null,secret"`
	Extra  map[string]string `api:"extra"`
	Slow   bool              `api:"slow,start=true"`
	Hidden rest.HiddenFields `api:"hidden_fields,ro" db:"-"`
}

var thingSchema = func() db.Schema {
	const table = `-- +goose Up
CREATE TABLE test_thing (id ID PRIMARY KEY, domain ID NOT NULL, created INT8 NOT NULL, updated INT8 NOT NULL, labels TXT NOT NULL, name TXT NOT NULL,
 note TXT, size INT8, ratio FLT, is_on BOOL NOT NULL, mode TXT NOT NULL, friend ID, tags TXT, secret TXT, extra TXT, slow BOOL NOT NULL, UNIQUE (domain, name));`
	lite := strings.NewReplacer("ID", "BLOB", "INT8", "INTEGER", "TXT", "TEXT", "FLT", "REAL", "BOOL", "INTEGER").Replace(table)
	pg := strings.NewReplacer("ID", "uuid", "INT8", "bigint", "TXT", `text COLLATE "C"`, "FLT", "double precision", "BOOL", "boolean").Replace(table)
	return db.Schema{Component: "test", Files: fstest.MapFS{"sqlite/0001_t.sql": {Data: []byte(lite)}, "postgres/0001_t.sql": {Data: []byte(pg)}}}
}()

type fixture struct {
	*testing.T
	engine *rest.Engine
	call   *pulp.Call
}

func newFixture(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	ctx := t.Context()
	if _, err := d.Migrate(ctx, []db.Schema{schema.Core(), thingSchema}); err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.Create(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := blobfile.New(t.TempDir(), t.TempDir(), []pulp.Algorithm{pulp.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, call: &pulp.Call{Domain: pulp.Domain{ID: pulp.NewID(), Name: "default"}, Root: "/pulp/", Origin: "http://here", User: &pulp.User{ID: 1, Superuser: true}}}
	err = d.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO core_domain (id, created, updated, name, storage_class, storage_settings, redirect_to_object_storage, hide_guarded_distributions) VALUES (?, 1, 1, 'default', '', '', ?, ?)", f.call.Domain.ID, false, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	queue := task.New(task.Config{DB: d, Keys: keys, Clock: time.Now, TempDir: t.TempDir(), Root: "/pulp/"})
	f.engine = rest.New(rest.Config{
		DB: d, Keys: keys, Tasks: queue, Log: slog.New(slog.DiscardHandler), Now: time.Now, APIRoot: "/pulp/", Auth: resttest.Anybody{},
		Stage: func(ctx context.Context) (blob.Stage, error) { return store.Stage(ctx) },
	})
	f.engine.Add(rest.Define(rest.Resource[thing]{
		App: "test", Model: "Thing", Path: "things/test/thing", Table: "test_thing",
		Create: rest.Now, Update: rest.Now, Delete: rest.Now,
		Filters:  append(append(rest.Text("name", "m.name", rest.NameLookups...), rest.Numbers("size", "m.size", "", "gt", "isnull")...), rest.LabelSelect(), rest.LinkTo("friend", "m.friend", "test.thing", true)),
		Ordering: []string{"name", "pk", "size"},
		Check: func(_ context.Context, _ db.Querier, c *rest.Change[thing]) error {
			if c.New.Mode == "b" && c.New.Size == nil {
				return errs.NonFieldError("mode b needs a size")
			}
			return nil
		},
	}).Type)
	return f
}

// do sends a request and returns the status and the body.
func (f *fixture) do(method, path, body string, header ...string) (int, string) {
	f.Helper()
	req := httptest.NewRequestWithContext(pulp.WithCall(f.Context(), f.call), method, path, strings.NewReader(body))
	req.URL.Path = strings.TrimPrefix(req.URL.Path, "/pulp/api/v3")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.engine.ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

func (f *fixture) json(method, path, body string, want int) map[string]any {
	f.Helper()
	code, text := f.do(method, path, body)
	if code != want {
		f.Fatalf("%s %s %s = %d %s, want %d", method, path, body, code, text, want)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil && text != "" {
		f.Fatalf("%s %s: %v in %s", method, path, err, text)
	}
	return m
}

const things = "/pulp/api/v3/things/test/thing/"

func TestLifeOfAnObject(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		a := f.json("POST", things, `{"name": " a ", "note": "x", "size": "3", "ratio": 1, "tags": ["p", "q"], "secret": "s", "extra": {"k": "v"}, "pulp_labels": {"env": "<dev>"}}`, 201)
		href := a["pulp_href"].(string)
		b := f.json("POST", things, `{"name": "b", "friend": "`+href+`"}`, 201)
		if b["friend"] != href {
			t.Errorf("friend = %v, want %s", b["friend"], href)
		}
		for _, ref := range []string{a["prn"].(string), "http://elsewhere" + href} {
			if got := f.json("PATCH", b["pulp_href"].(string), `{"friend": "`+ref+`"}`, 200); got["friend"] != href {
				t.Errorf("friend by %s = %v", ref, got["friend"])
			}
		}
		_, text := f.do("GET", href, "")
		want := `{"pulp_href":"` + href + `","prn":"` + a["prn"].(string) + `","pulp_created":"` + a["pulp_created"].(string) + `","pulp_last_updated":"` + a["pulp_last_updated"].(string) +
			`","pulp_labels":{"env":"<dev>"},"name":"a","note":"x","size":3,"ratio":1.0,"on":false,"mode":"a","friend":null,"tags":["p","q"],"extra":{"k":"v"},"slow":true,"hidden_fields":[{"name":"secret","is_set":true}]}`
		if got := strings.ReplaceAll(text, `\u003cdev\u003e`, "<dev>"); got != want {
			t.Errorf("GET = %s\nwant  %s", got, want)
		}
		var row string
		if err := d.QueryRow(t.Context(), "SELECT secret FROM test_thing WHERE name = 'a'").Scan(&row); err != nil || !strings.HasPrefix(row, "gAAAA") {
			t.Errorf("the secret is stored as %q, %v", row, err)
		}
		f.json("PUT", href, `{"name": "a2", "on": true}`, 200)
		got := f.json("PUT", href, `{"name": "a2"}`, 200)
		if got["on"] != false || got["note"] != "x" || got["slow"] != true {
			t.Errorf("PUT: on %v, note %v, slow %v; want the default, and what was there", got["on"], got["note"], got["slow"])
		}
		if got := f.json("PATCH", href, `{"note": null}`, 200); got["note"] != nil {
			t.Errorf("note = %v after null", got["note"])
		}
		f.json("DELETE", href, "", 204)
		f.json("GET", href, "", 404)
		f.json("DELETE", href, "", 404)
	})
}

func TestErrors(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		a := f.json("POST", things, `{"name": "a"}`, 201)["pulp_href"].(string)
		missing := things + pulp.NewID().String() + "/"
		for _, tc := range []struct {
			method, path, body string
			status             int
			want               string
		}{
			{"POST", things, `{`, 400, `{"detail":"JSON parse error - unexpected end of input"}`},
			{"POST", things, `[1]`, 400, `{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}`},
			{"POST", things, `{}`, 400, `{"name":["This field is required."]}`},
			{"POST", things, `{"name":"  "}`, 400, `{"name":["This field may not be blank."]}`},
			{"POST", things, `{"name":null}`, 400, `{"name":["This field may not be null."]}`},
			{"POST", things, `{"name":true}`, 400, `{"name":["Not a valid string."]}`},
			{"POST", things, `{"name":"a"}`, 400, `{"name":["This field must be unique."]}`},
			{"POST", things, `{"name":"x","size":0,"note":"123456"}`, 400, `{"note":["Ensure this field has no more than 5 characters."],"size":["Ensure this value is greater than or equal to 1."]}`},
			{"POST", things, `{"name":"x","size":"many","ratio":-1}`, 400, `{"ratio":["Ensure this value is greater than or equal to 0.0."],"size":["A valid integer is required."]}`},
			{"POST", things, `{"name":"x","on":"perhaps","mode":"zz"}`, 400, `{"mode":["\"zz\" is not a valid choice."],"on":["Must be a valid boolean."]}`},
			{"POST", things, `{"name":"x","tags":"q"}`, 400, `{"tags":["Expected a list of items but got type \"str\"."]}`},
			{"POST", things, `{"name":"x","tags":["q",null]}`, 400, `{"tags":{"1":["This field may not be null."]}}`},
			{"POST", things, `{"name":"x","extra":[1]}`, 400, `{"extra":["Expected a dictionary of items but got type \"list\"."]}`},
			{"POST", things, `{"name":"x","pulp_labels":{"a-b":"1"}}`, 400, `{"pulp_labels":["Key 'a-b' contains non-alphanumerics."]}`},
			{"POST", things, `{"name":"x","pulp_labels":{"a":"1,2"}}`, 400, `{"pulp_labels":["Key 'a' contains value with comma or parenthesis."]}`},
			{"POST", things, `{"name":"x","zz":1}`, 400, `{"zz":["Unexpected field"]}`},
			{"POST", things, `{"name":"x\u0000"}`, 400, `{"name":["Null characters are not allowed."]}`},
			{"POST", things, `{"name":"x","mode":"b"}`, 400, `{"non_field_errors":["mode b needs a size"]}`},
			{"POST", things, `{"name":"x","friend":"nonsense"}`, 400, `{"friend":["Invalid hyperlink - No URL match."]}`},
			{"POST", things, `{"name":"x","friend":"` + missing + `"}`, 400, `{"friend":["Invalid hyperlink - Object does not exist."]}`},
			{"POST", things, `{"name":"x","friend":"prn:test.thing:zz"}`, 400, `{"friend":["“zz” is not a valid UUID."]}`},
			{"POST", things, `{"name":"x","friend":"prn:test.nope:1"}`, 400, `{"friend":["Model test.nope does not exist"]}`},
			{"GET", things + "zz/", "", 404, `{"detail":"Not found."}`},
			{"GET", missing, "", 404, `{"detail":"No Thing matches the given query."}`},
			{"POST", a, `{}`, 405, `{"detail":"Method \"POST\" not allowed."}`},
			{"GET", things + "?foo=1&bar=2", "", 400, `{"errors":["Invalid Filter: 'foo'","Invalid Filter: 'bar'"]}`},
			{"GET", things + "?size=x", "", 400, `{"size":["Enter a number."]}`},
			{"GET", things + "?name__regex=(", "", 400, `{"name__regex":["Enter a valid regular expression."]}`},
			{"GET", things + "?ordering=zz", "", 400, `{"ordering":["Select a valid choice. zz is not one of the available choices."]}`},
			{"GET", things + "?pulp_label_select=!k%3Dv", "", 400, `["Cannot use an operator with '!k'."]`},
			{"GET", things + "?friend=zz", "", 400, `["URI couldn't be resolved: zz"]`},
			{"GET", things + "?q=name", "", 400, `{"q":["Syntax error in expression."]}`},
			{"GET", things + "?q=zz%3D1", "", 400, `{"q":["Filter 'zz' does not exist."]}`},
		} {
			status, body := f.do(tc.method, tc.path, tc.body)
			if status != tc.status || body != tc.want {
				t.Errorf("%s %s %s\n got %d %s\nwant %d %s", tc.method, tc.path, tc.body, status, body, tc.status, tc.want)
			}
		}
		if status, _ := f.do("POST", things, "name=x", "Content-Type", "text/plain"); status != http.StatusUnsupportedMediaType {
			t.Errorf("text/plain: %d", status)
		}
		if status, _ := f.do("GET", things, "", "Accept", "image/png"); status != http.StatusNotAcceptable {
			t.Errorf("Accept image/png: %d", status)
		}
	})
}

func TestLists(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		hrefs := map[string]string{}
		for i, name := range []string{"alpha", "Beta", "gamma", "Ärger", "ärger"} {
			body := fmt.Sprintf(`{"name": %q, "size": %d, "pulp_labels": {"n": "v%d", "odd": %q}}`, name, i+1, i, map[bool]string{true: "yes", false: "no"}[i%2 == 1])
			hrefs[name] = f.json("POST", things, body, 201)["pulp_href"].(string)
		}
		f.json("POST", things, `{"name": "bare"}`, 201)
		f.json("PATCH", hrefs["alpha"], `{"friend": "`+hrefs["Beta"]+`"}`, 200)
		names := func(query string) []string {
			t.Helper()
			var list []string
			for _, r := range f.json("GET", things+"?"+query, "", 200)["results"].([]any) {
				list = append(list, r.(map[string]any)["name"].(string))
			}
			return list
		}
		for _, tc := range []struct {
			query string
			want  []string
		}{
			{"", []string{"bare", "ärger", "Ärger", "gamma", "Beta", "alpha"}}, // newest first
			{"ordering=name", []string{"Beta", "alpha", "bare", "gamma", "Ärger", "ärger"}},
			{"ordering=-size&size__gt=3", []string{"ärger", "Ärger"}},
			{"name=alpha", []string{"alpha"}},
			{"name=", []string{"bare", "ärger", "Ärger", "gamma", "Beta", "alpha"}},
			{"name=zz&name=alpha", []string{"alpha"}},
			{"name__in=alpha,gamma", []string{"gamma", "alpha"}},
			{"name__contains=a", []string{"bare", "gamma", "Beta", "alpha"}},
			{"name__icontains=R", []string{"bare", "ärger", "Ärger"}},
			{"name__iexact=ÄRGER", []string{"ärger", "Ärger"}},
			{"name__startswith=be", nil},
			{"name__istartswith=be", []string{"Beta"}},
			{"name__regex=^[a-g]", []string{"bare", "gamma", "alpha"}},
			{"name__iregex=^b", []string{"bare", "Beta"}},
			{"size__isnull=true", []string{"bare"}},
			{"pulp_label_select=n", []string{"ärger", "Ärger", "gamma", "Beta", "alpha"}},
			{"pulp_label_select=!n", []string{"bare"}},
			{"pulp_label_select=odd%3Dyes", []string{"Ärger", "Beta"}},
			{"pulp_label_select=odd!%3Dyes", []string{"ärger", "gamma", "alpha"}},
			{"pulp_label_select=n~V1", []string{"Beta"}},
			{"pulp_label_select=odd%3Dyes,n%3Dv1", []string{"Beta"}},
			{"friend=" + hrefs["Beta"], []string{"alpha"}},
			{"friend=null", []string{"bare", "ärger", "Ärger", "gamma", "Beta"}},
			{"pulp_href__in=" + hrefs["Beta"] + "," + hrefs["alpha"], []string{"Beta", "alpha"}},
			{`q=name%3Dalpha OR (size__gt%3D3 AND NOT name%3D"Ärger")`, []string{"ärger", "alpha"}},
			{"q=NOT size__gt%3D2", []string{"bare", "Beta", "alpha"}}, // what has no size is not greater
			{"limit=2&offset=1", []string{"ärger", "Ärger"}},
		} {
			if got := names(strings.ReplaceAll(tc.query, " ", "%20")); !cmp.Equal(got, tc.want) {
				t.Errorf("?%s = %q, want %q", tc.query, got, tc.want)
			}
		}
		page := f.json("GET", things+"?offset=2&limit=2&fields=name", "", 200)
		want := map[string]any{
			"count": 6.0, "next": "http://here" + things + "?fields=name&limit=2&offset=4", "previous": "http://here" + things + "?fields=name&limit=2",
			"results": []any{map[string]any{"name": "Ärger"}, map[string]any{"name": "gamma"}},
		}
		if diff := cmp.Diff(want, page); diff != "" {
			t.Error(diff)
		}
		if got := f.json("GET", things+"?offset=100", "", 200); got["count"] != 6.0 || len(got["results"].([]any)) != 0 {
			t.Errorf("beyond the end: %v", got)
		}
		seven := strings.Repeat("name%3Da%20OR%20", 6) + "name%3Da"
		f.json("GET", things+"?q="+seven, "", 200)
		f.json("GET", things+"?q="+seven+"%20OR%20name%3Da", "", 400)
	})
}

func TestLongLists(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		const all = 1203
		err := d.Update(t.Context(), func(tx *db.Tx) error {
			rows := make([][]any, all)
			for i := range rows {
				rows[i] = []any{pulp.NewID(), f.call.Domain.ID, i + 1, 1, "{}", fmt.Sprintf("n%04d", i), false, "a", true}
			}
			_, err := tx.Insert(t.Context(), "test_thing", []string{"id", "domain", "created", "updated", "labels", "name", "is_on", "mode", "slow"}, rows, "")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct{ limit, offset int }{
			{10, 0}, {500, 0}, {501, 0}, {5000, 0}, {1203, 0}, {1202, 0}, {700, 200}, {100, 1000}, {100, 1001}, {100, 1150}, {600, 1100}, {10, 1203}, {10, 5000}, {1, 1202},
		} {
			for _, order := range []string{"name", "-name"} {
				page := f.json("GET", fmt.Sprintf("%s?ordering=%s&fields=name&limit=%d&offset=%d", things, order, tc.limit, tc.offset), "", 200)
				var got, want []string
				for _, o := range page["results"].([]any) {
					got = append(got, o.(map[string]any)["name"].(string))
				}
				for i := tc.offset; i < min(tc.offset+tc.limit, all); i++ {
					n := i
					if order == "-name" {
						n = all - 1 - i
					}
					want = append(want, fmt.Sprintf("n%04d", n))
				}
				if !cmp.Equal(got, want) || page["count"] != float64(all) || (page["next"] == nil) != (tc.offset+tc.limit >= all) {
					t.Errorf("limit %d, offset %d by %s: %d rows, want %d; count %v, next %v", tc.limit, tc.offset, order, len(got), len(want), page["count"], page["next"])
				}
			}
		}
	})
}

func TestLabels(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		a := f.json("POST", things, `{"name": "a"}`, 201)
		href := a["pulp_href"].(string)
		f.json("POST", href+"set_label/", `{"key": "a-b", "value": "x,y"}`, 201)
		f.json("POST", href+"set_label/", `{"key": "none", "value": null}`, 201)
		got := f.json("GET", href, "", 200)
		if diff := cmp.Diff(map[string]any{"a-b": "x,y", "none": nil}, got["pulp_labels"]); diff != "" || got["pulp_last_updated"] != a["pulp_last_updated"] {
			t.Errorf("labels: %s, updated %v", diff, got["pulp_last_updated"])
		}
		if got := f.json("POST", href+"unset_label/", `{"key": "a-b"}`, 201); got["value"] != "x,y" {
			t.Errorf("unset_label = %v", got)
		}
		if _, body := f.do("POST", href+"unset_label/", `{"key": "a-b"}`); body != `{"key":["Label 'a-b' is not set on the object."]}` {
			t.Errorf("unset_label again = %s", body)
		}
	})
}

func TestSlashlessPathsAreRedirected(t *testing.T) {
	f := newFixture(t, dbtest.Open(t, dbtest.SQLite(t)))
	req := httptest.NewRequestWithContext(pulp.WithCall(t.Context(), f.call), "POST", "/pulp/api/v3/things/test/thing?x=1", nil)
	req.URL.Path = "/things/test/thing"
	w := httptest.NewRecorder()
	f.engine.ServeHTTP(w, req)
	if w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != "/pulp/api/v3/things/test/thing/?x=1" {
		t.Errorf("%d %s", w.Code, w.Header().Get("Location"))
	}
	for _, path := range []string{"/nope", "/things/test/thing//", "/things/../things/test/thing/"} {
		if code, _ := f.do("GET", "/pulp/api/v3"+path, ""); code != http.StatusNotFound {
			t.Errorf("GET %s = %d, want 404", path, code)
		}
	}
}

func FuzzQ(f *testing.F) {
	for _, s := range []string{`a=b`, `NOT (a="x y" OR b='q')`, `a=1 AND b=2 OR c=3`, `((((`, `NOT NOT a=b`, `a = "\""`} {
		f.Add(s)
	}
	d := dbtest.Open(f, dbtest.SQLite(f))
	if _, err := d.Migrate(f.Context(), []db.Schema{thingSchema}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		cond, err := rest.ParseQ(s)
		if (err == nil) == (cond == "") {
			t.Errorf("ParseQ(%q) = %q, %v", s, cond, err)
		}
		if err != nil && !errors.Is(err, rest.ErrQ) {
			t.Errorf("ParseQ(%q): %v", s, err)
		}
	})
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(`{"a": [1, "x", null, true, {"b": 1e3}]}`))
	f.Add([]byte(`[[[[[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := rest.DecodeJSON(b)
		var want any
		if werr := json.Unmarshal(b, &want); werr != nil && err == nil {
			t.Errorf("DecodeJSON(%q) = %v, encoding/json says %v", b, v, werr)
		}
	})
}
