package openpgp_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	lib "granary/format/openpgp"
	craft "granary/format/openpgp/openpgptest"
	"granary/internal/blob"
	"granary/internal/content"
	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/openpgp"
	"granary/internal/plugin"
	"granary/internal/repository/repositorytest"
)

type (
	object = repositorytest.Object
	form   = repositorytest.Form
	file   = repositorytest.File
)

const (
	keyPath     = "content/core/openpgp_publickey/"
	keyringPath = "repositories/core/openpgp_keyring/"
)

// A world has keyrings, and a content server that serves them.
type world struct {
	*repositorytest.World
	files *content.Server
}

func newWorld(t *testing.T, d *db.DB) *world {
	t.Helper()
	p := openpgp.Plugin()
	var parts plugin.Parts
	made := p.New
	p.New = func(h plugin.Host) plugin.Parts {
		parts = made(h)
		return parts
	}
	w := &world{World: repositorytest.New(t, d, p)}
	w.files = content.New(content.Config{DB: d, Blobs: blob.Single{Store: w.Blobs}, Log: slog.New(slog.DiscardHandler), Now: w.Now, Prefix: "/pulp/content/", Types: parts.Serving})
	return w
}

// upload makes a key and returns the task.
func (w *world) upload(data string, fields ...string) *repositorytest.Task {
	w.Helper()
	f := form{"file": file(data)}
	for i := 0; i+1 < len(fields); i += 2 {
		f[fields[i]] = fields[i+1]
	}
	return w.Run("POST", repositorytest.Root+keyPath, f)
}

func (w *world) keyring() string {
	w.Helper()
	return w.Create(keyringPath, object{"name": fmt.Sprint("ring", time.Now().UnixNano())})["pulp_href"].(string)
}

func (w *world) serve(path string) *http.Response {
	w.Helper()
	rec := httptest.NewRecorder()
	w.files.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://here/pulp/content/"+path, nil))
	return rec.Result()
}

func (w *world) body(path string) string {
	w.Helper()
	rec := httptest.NewRecorder()
	w.files.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://here/pulp/content/"+path, nil))
	if rec.Code != http.StatusOK {
		w.Fatalf("GET %s = %d", path, rec.Code)
	}
	return rec.Body.String()
}

func sample(tb testing.TB, name string) string {
	tb.Helper()
	b, err := os.ReadFile("../../format/openpgp/testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func eachDB(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	dbtest.Run(t, func(t *testing.T, d *db.DB) { t.Helper(); f(t, newWorld(t, d)) })
}

// counts returns how many units of each kind a version has.
func (w *world) counts(version string) map[string]float64 {
	w.Helper()
	got := map[string]float64{}
	for typ, c := range w.Get(version)["content_summary"].(object)["present"].(object) {
		got[strings.TrimPrefix(typ, "core.openpgp_")] = c.(object)["count"].(float64)
	}
	return got
}

func TestKeyWithAllItsParts(t *testing.T) {
	eachDB(t, func(t *testing.T, w *world) {
		ring := w.keyring()
		made := w.upload(sample(t, "alice-pub.asc"), "repository", ring)
		if len(made.Created) != 2 || made.Created[0] != ring+"versions/1/" {
			t.Fatalf("created %q", made.Created)
		}
		key := w.Get(made.Created[1])
		sig := func(created string, keyExpired any) object {
			return object{
				"issuer": "f231550c4f47e38e", "created": created, "expiration_time": nil, "signers_user_id": nil, "key_expiration_time": nil,
				"expired": nil, "key_expired": keyExpired,
			}
		}
		want := object{
			"pulp_href": key["pulp_href"], "prn": key["prn"], "pulp_created": key["pulp_created"], "pulp_last_updated": key["pulp_last_updated"],
			"pulp_labels": object{}, "vuln_report": nil, "fingerprint": "eb85bb5fa33a75e15e944e63f231550c4f47e38e", "created": "2019-01-22T11:56:25Z",
			"user_ids":        []any{object{"user_id": "Alice Lovelace <alice@openpgp.example>", "signatures": []any{sig("2019-10-15T10:28:10Z", nil)}}},
			"user_attributes": []any{},
			"public_subkeys": []any{object{
				"fingerprint": "ea02b24ffd4c1b96616d3df24766f6b9d5f21eb6", "created": "2019-01-22T11:56:25Z", "signatures": []any{sig("2019-01-22T11:56:25Z", false)},
			}},
		}
		if diff := cmp.Diff(want, key); diff != "" {
			t.Errorf("the key (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, made.Body); diff != "" {
			t.Errorf("the task's result (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]float64{"publickey": 1, "publicsubkey": 1, "userid": 1, "signature": 2}, w.counts(made.Created[0])); diff != "" {
			t.Errorf("in the version (-want +got):\n%s", diff)
		}
		// the same once more is no change
		if again := w.upload(sample(t, "alice-pub.asc"), "repository", ring); len(again.Created) != 1 || again.Created[0] != made.Created[1] {
			t.Errorf("once more created %q", again.Created)
		}
		// a revocation is one signature more
		revoked := w.upload(sample(t, "alice-revoked.asc"), "repository", ring)
		if diff := cmp.Diff(map[string]float64{"publickey": 1, "publicsubkey": 1, "userid": 1, "signature": 3}, w.counts(revoked.Created[0])); diff != "" || revoked.Created[1] != made.Created[1] {
			t.Errorf("with the revocation %q (-want +got):\n%s", revoked.Created, diff)
		}
		list := w.Get(repositorytest.Root + "content/core/openpgp_signature/?ordering=-created&repository_version=" + revoked.Created[0])["results"].([]any)
		if got := list[0].(object)["signed_content"]; len(list) != 3 || got != made.Created[1] {
			t.Errorf("the newest of %d signatures is on %v", len(list), got)
		}
	})
}

// crafted is a key with one of everything, and its key id.
func crafted(seed string) (packets []byte, id string) {
	key, subkey := craft.Key(4, seed), craft.Key(4, seed+"sub")
	const name = "Somebody <somebody@openpgp.example>"
	photo := []byte("\x04\x01abc")
	issuer := craft.Sub(16, string(craft.ID(key)))
	day := func(n uint32) string { return craft.Seconds(n * 24 * 60 * 60) }
	sig := func(typ byte, on []byte, more string) []byte {
		return craft.Sig{Type: typ, On: on, Hashed: craft.Created + more, Unknown: issuer}.Packet()
	}
	return slices.Concat(
		craft.Packet(lib.TagPublicKey, key), sig(0x1f, craft.OnKey(key), craft.Sub(3, craft.Seconds(3600))+craft.Sub(9, day(100))),
		craft.Packet(lib.TagUserID, []byte(name)), sig(0x13, craft.OnUserID(key, name), craft.Sub(3, day(9000))+craft.Sub(28, "me@x")),
		craft.Packet(lib.TagUserAttribute, photo), sig(0x13, craft.OnAttribute(key, photo), ""),
		craft.Packet(lib.TagPublicSubkey, subkey), sig(0x18, craft.OnSubkey(key, subkey), craft.Sub(9, day(30))),
	), fmt.Sprintf("%x", craft.ID(key))
}

func TestWhatSignaturesSay(t *testing.T) {
	eachDB(t, func(t *testing.T, w *world) {
		packets, id := crafted("says")
		made := w.upload(string(packets))
		key := w.Get(made.Created[0])
		pick := func(part string) object {
			t.Helper()
			s := key[part].([]any)[0].(object)["signatures"].([]any)[0].(object)
			return object{"e": s["expiration_time"], "ke": s["key_expiration_time"], "x": s["expired"], "kx": s["key_expired"], "u": s["signers_user_id"]}
		}
		for part, want := range map[string]object{
			"user_ids":        {"e": "9000 00:00:00", "ke": nil, "x": false, "kx": nil, "u": "me@x"},
			"user_attributes": {"e": nil, "ke": nil, "x": nil, "kx": nil, "u": nil},
			"public_subkeys":  {"e": nil, "ke": "30 00:00:00", "x": nil, "kx": true, "u": nil},
		} {
			if diff := cmp.Diff(want, pick(part)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", part, diff)
			}
		}
		results := w.Get(repositorytest.Root + "content/core/openpgp_signature/?issuer=" + id + "&ordering=signature_type")["results"].([]any)
		if len(results) != 4 {
			t.Fatalf("%d signatures of %s, want 4", len(results), id)
		}
		last := results[3].(object)
		if last["signed_content"] != made.Created[0] || last["expiration_time"] != "01:00:00" || last["key_expiration_time"] != "100 00:00:00" || last["expired"] != true || last["key_expired"] != nil {
			t.Errorf("the key's own signature: %v", last)
		}
		if sub := results[2].(object); sub["key_expired"] != true {
			t.Errorf("the subkey's signature: %v", sub)
		}
	})
}

func TestServing(t *testing.T) {
	eachDB(t, func(t *testing.T, w *world) {
		ring := w.keyring()
		packets, id := crafted("served")
		made := w.upload(string(packets), "repository", ring)
		w.upload(sample(t, "alice-revoked.asc"), "repository", ring)
		w.Run("POST", repositorytest.Root+"distributions/core/openpgp/", object{"name": "d", "base_path": "keys", "repository": ring})
		w.Run("POST", repositorytest.Root+"distributions/core/openpgp/", object{"name": "old", "base_path": "old", "repository_version": made.Created[0]})
		w.Run("POST", repositorytest.Root+"distributions/core/openpgp/", object{"name": "none", "base_path": "none"})

		// what came in goes out, wherever it is in the file
		if got, want := w.body("keys/"+strings.ToUpper(id)+".pub"), string(lib.Armor(packets)); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if got := w.serve("keys/" + id + ".pub").Header.Get("Content-Type"); got != "application/pgp-keys; charset=us-ascii" {
			t.Errorf("it is sent as %q", got)
		}
		alice, err := lib.ParseKey([]byte(w.body("keys/f231550c4f47e38e.pub")))
		if err != nil || len(alice.Signatures) != 1 || len(alice.UserIDs) != 1 || len(alice.Subkeys) != 1 {
			t.Errorf("Alice's key: %+v, %v", alice, err)
		}
		listing := w.body("keys/")
		if !strings.Contains(listing, `<a href="`+id+`.pub">`) || !strings.Contains(listing, `<a href="f231550c4f47e38e.pub">`) {
			t.Errorf("listing:\n%s", listing)
		}
		if strings.Contains(w.body("old/"), "f231550c4f47e38e") || w.serve("old/f231550c4f47e38e.pub").StatusCode != http.StatusNotFound {
			t.Error("a version has what came after it")
		}
		for _, path := range []string{"keys/" + id, "keys/" + id + ".pub/", "keys/0000000000000000.pub", "none/", "none/" + id + ".pub"} {
			if got := w.serve(path).StatusCode; got != http.StatusNotFound {
				t.Errorf("%s = %d, want 404", path, got)
			}
		}
		// a part that is taken out is not served, and a key neither
		uid := w.Get(repositorytest.Root + "content/core/openpgp_userid/?user_id__contains=Somebody")["results"].([]any)[0].(object)["pulp_href"]
		w.Run("POST", ring+"modify/", object{"remove_content_units": []any{uid}})
		rest, err := lib.ParseKey([]byte(w.body("keys/" + id + ".pub")))
		if err != nil || len(rest.UserIDs) != 0 || len(rest.Attributes) != 1 {
			t.Errorf("without the name it is %+v, %v", rest, err)
		}
		w.Run("POST", ring+"modify/", object{"remove_content_units": []any{made.Created[1]}})
		if got := w.serve("keys/" + id + ".pub").StatusCode; got != http.StatusNotFound {
			t.Errorf("a key that was taken out = %d, want 404", got)
		}
	})
}

func TestSources(t *testing.T) {
	eachDB(t, func(t *testing.T, w *world) {
		path := repositorytest.Root + keyPath
		const which = `{"non_field_errors":["Exactly one of upload, file_url, file must be specified."]}`
		w.Refused("POST", path, form{}, which)
		w.Refused("POST", path, form{"file": file("x"), "file_url": "http://127.0.0.1/"}, which)
		w.Refused("POST", path, form{"file": file("")}, `{"file":["The submitted file is empty."]}`)
		w.Refused("POST", path, form{"file": file("x"), "repository": "zz"}, `{"repository":["Invalid hyperlink - No URL match."]}`)
		w.Refused("POST", path, form{"file": file("x"), "data": "eA=="}, `{"data":["Unexpected field"]}`)
		w.Refused("POST", path, form{"file": file(strings.Repeat("x", lib.MaxSize+1))}, `{"non_field_errors":["The key is larger than 4194304 bytes."]}`)
		w.Fails("POST", path, form{"file": file(sample(t, "alice-revocation.asc"))}, "{'non_field_errors': [ErrorDetail(string='Not a public key.', code='invalid')]}")
		w.Fails("POST", path, form{"file": file("garbage")}, "{'non_field_errors': [ErrorDetail(string='Invalid Packet Tag', code='invalid')]}")

		upstream := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/endless" {
				_, _ = rw.Write(make([]byte, lib.MaxSize+1))
				return
			}
			_, _ = rw.Write([]byte(sample(t, "bob-pub.asc")))
		}))
		defer upstream.Close()
		made := w.Run("POST", path, object{"file_url": upstream.URL + "/key", "pulp_labels": object{"a": "b"}})
		if key := w.Get(made.Created[0]); key["fingerprint"] != "d1a66e1a23b182c9980f788cfbfcc82a015e7330" || key["pulp_labels"].(object)["a"] != "b" {
			t.Errorf("from a URL: %v", key)
		}
		if got := w.Ended("POST", path, object{"file_url": upstream.URL + "/endless"}); got.Failure == "" {
			t.Error("a key without an end was taken")
		}
		body := sample(t, "alice-pub.asc")
		up := w.Create("uploads/", object{"size": len(body)})["pulp_href"].(string)
		w.Put(up, form{"file": file(body)}, "Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(body)-1, len(body)))
		made = w.Run("POST", path, object{"upload": up})
		if key := w.Get(made.Created[0]); key["fingerprint"] != "eb85bb5fa33a75e15e944e63f231550c4f47e38e" {
			t.Errorf("from an upload: %v", key)
		}
		w.Gone(up)
	})
}

// TestRules says what keyrings, their versions and distributions take and list.
func TestRules(t *testing.T) {
	eachDB(t, func(t *testing.T, w *world) {
		ring := w.keyring()
		packets, _ := crafted("rules")
		made := w.upload(string(packets), "repository", ring)
		if n := w.Get(ring + "versions/")["count"]; n != 2.0 {
			t.Errorf("%v versions, want 2", n)
		}
		distributions := repositorytest.Root + "distributions/core/openpgp/"
		w.Refused("GET", distributions+"?name=x", nil, `{"errors":["Invalid Filter: 'name'"]}`)
		w.Run("POST", distributions, object{"name": "d", "base_path": "keys", "repository_version": made.Created[0]})
		for query, want := range map[string]float64{
			"repository_version=" + made.Created[0]: 1, "repository_version=" + ring + "versions/0/": 0, "with_content=" + made.Created[1]: 1, "pulp_label_select=a": 0,
		} {
			if got := w.Get(distributions + "?" + query)["count"]; got != want {
				t.Errorf("?%s lists %v, want %v", query, got, want)
			}
		}
		var failure object
		status, text := w.Do("POST", repositorytest.Root+"content/core/openpgp_userid/", object{})
		if err := json.Unmarshal([]byte(text), &failure); err != nil || status != http.StatusMethodNotAllowed {
			t.Errorf("a name cannot be made alone: %d %s", status, text)
		}
	})
}

func TestOrphansGoWithTheirParts(t *testing.T) {
	eachDB(t, func(t *testing.T, w *world) {
		packets, _ := crafted("orphan")
		made := w.upload(string(packets))
		ring := w.keyring()
		kept := w.upload(sample(t, "bob-pub.asc"), "repository", ring)
		w.Run("POST", ring+"modify/", object{"remove_content_units": []any{kept.Created[1]}})
		latest := w.Get(ring)["latest_version_href"].(string)
		w.Run("DELETE", ring+"versions/1/", nil)
		w.Advance(48 * time.Hour)
		w.Run("POST", repositorytest.Root+"orphans/cleanup/", object{})
		w.Gone(made.Created[0])
		if n := w.Get(repositorytest.Root + "content/core/openpgp_userattribute/")["count"]; n != 0.0 {
			t.Errorf("%v attributes are left", n)
		}
		// Bob's key is in no version, but his name is
		if diff := cmp.Diff(map[string]float64{"publicsubkey": 1, "userid": 1, "signature": 2}, w.counts(latest)); diff != "" {
			t.Errorf("the latest version (-want +got):\n%s", diff)
		}
		w.Get(kept.Created[1])
	})
}
