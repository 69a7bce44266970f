package repository_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"granary/internal/pulp"
	"granary/internal/repository/repositorytest"
	"granary/plugins/file"
)

const artifacts = "artifacts/"

func sha(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

// stored returns what the store holds under a key, and whether it holds anything.
func (w *world) stored(key string) (string, bool) {
	w.Helper()
	b, err := os.ReadFile(filepath.Join(w.Media, key))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	if err != nil {
		w.Fatal(err)
	}
	return string(b), true
}

// artifactKey is where the store has the artifact of a text.
func artifactKey(text string) string { return "artifact/" + sha(text)[:2] + "/" + sha(text)[2:] }

// damage overwrites or, with no text, removes a stored file.
func (w *world) damage(key, text string) {
	w.Helper()
	path := filepath.Join(w.Media, key)
	if err := os.Remove(path); err != nil {
		w.Fatal(err)
	}
	if text == "" {
		return
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

func TestArtifacts(t *testing.T) {
	both(t, func(w *world) {
		sum512 := sha512.Sum512([]byte("one"))
		a := w.Create(artifacts, form{"file": upload("one"), "sha256": sha("one"), "size": "3", "sha512": hex.EncodeToString(sum512[:])})
		if a["file"] != artifactKey("one") || a["size"] != 3.0 || a["sha256"] != sha("one") || a["md5"] == nil {
			w.Errorf("artifact = %v", a)
		}
		if text, _ := w.stored(artifactKey("one")); text != "one" {
			w.Errorf("the store has %q", text)
		}
		w.Create(artifacts, form{"file": upload("")}) // an empty file is one too

		const mismatch = `{"non_field_errors":["The %s did not match%s."]}`
		for _, tc := range []struct {
			body any
			want string
		}{
			{form{"file": upload("one")}, fmt.Sprintf(`{"non_field_errors":["Artifact with sha256 checksum of '%s' already exists."]}`, sha("one"))},
			{form{"file": upload("two"), "sha256": sha("one")}, fmt.Sprintf(mismatch, "sha256 checksum", "")},
			{form{"file": upload("two"), "sha256": strings.ToUpper(sha("two"))}, fmt.Sprintf(mismatch, "sha256 checksum", "")},
			{form{"file": upload("two"), "sha256": ""}, fmt.Sprintf(mismatch, "sha256 checksum", "")},
			{form{"file": upload("two"), "size": "4"}, fmt.Sprintf(mismatch, "size", " actual size of file")},
			{form{"file": upload("two"), "sha512": "x", "sha224": "y", "size": "1"}, fmt.Sprintf(mismatch, "size", " actual size of file")},
			{form{"file": upload("two"), "sha512": "x", "sha224": "y"}, fmt.Sprintf(mismatch, "sha224 checksum", "")},
			{form{"file": upload("two"), "zzz": "y"}, `{"zzz":["Unexpected field"]}`},
			{form{"file": upload("two"), "size": "x"}, `{"size":["A valid integer is required."]}`},
			{form{"sha256": "x"}, `{"file":["No file was submitted."]}`},
			{form{"file": "x"}, `{"file":["The submitted data was not a file. Check the encoding type on the form."]}`},
			{`{"file": null}`, `{"file":["This field may not be null."]}`},
			{`{}`, `{"file":["No file was submitted."]}`},
		} {
			w.Refused("POST", root+artifacts, tc.body, tc.want)
		}
		if _, there := w.stored(artifactKey("two")); there {
			w.Error("a refused file is in the store")
		}
		if got := w.Names("pulp_href", artifacts, "sha256", sha("one")); len(got) != 1 || got[0] != repositorytest.Href(a) {
			w.Errorf("by digest: %v", got)
		}
		if got := w.Names("size", artifacts, "sha256", "zz"); len(got) != 0 {
			w.Errorf("by no digest: %v", got)
		}
		w.Refused("GET", root+artifacts+"?size=3", nil, `{"errors":["Invalid Filter: 'size'"]}`)
		if status, text := w.Do("DELETE", repositorytest.Href(a), nil); status != 403 {
			w.Errorf("DELETE = %d %s", status, text)
		}

		// a missing file is made good by whoever stores it again
		w.damage(artifactKey("one"), "")
		w.unit("one", "one")
		if text, _ := w.stored(artifactKey("one")); text != "one" {
			w.Errorf("after an upload of the same the store has %q", text)
		}
	})
}

func TestForbiddenDigests(t *testing.T) {
	both(t, func(w *world) {
		old := w.Create(artifacts, form{"file": upload("old")})
		strict := &world{World: w.Another(w.DB, []pulp.Algorithm{pulp.SHA256, pulp.SHA512}, file.Plugin())}
		strict.Refused("POST", root+artifacts, form{"file": upload("x"), "md5": "x"}, `{"non_field_errors":["Checksum algorithms ['md5'] forbidden for this Pulp instance."]}`)
		a := strict.Create(artifacts, form{"file": upload("x")})
		if a["md5"] != nil || a["sha384"] != nil || a["sha512"] == nil {
			w.Errorf("artifact = %v, want sha256 and sha512", a)
		}
		// what was stored under stricter rules gets the digests that are allowed now when it is stored again
		w.unit("x", "x")
		if a := w.Get(repositorytest.Href(a)); a["md5"] == nil || a["sha384"] == nil {
			w.Errorf("stored again: %v, want all digests", a)
		}
		if got := strict.Get(repositorytest.Href(old)); got["md5"] != old["md5"] {
			w.Errorf("an old artifact = %v", got)
		}
	})
}

func TestEqualUploadsAtOnce(t *testing.T) {
	twoProcesses(t, func(worlds [2]*world) {
		w := worlds[0]
		for round := range 5 {
			var wg sync.WaitGroup
			var mu sync.Mutex
			codes := map[int]int{}
			hrefs := map[string]bool{}
			for i := range 8 {
				wg.Go(func() {
					w := worlds[i%2]
					text := fmt.Sprint("text ", round)
					status, _ := w.Do("POST", root+artifacts, form{"file": upload(text)})
					made, body := w.Do("POST", root+contents+"upload/", form{"file": upload(text), "relative_path": "p"})
					mu.Lock()
					defer mu.Unlock()
					codes[status]++
					if made != 201 {
						w.Errorf("content: %d %s", made, body)
					}
					hrefs[body] = true
				})
			}
			wg.Wait()
			if codes[201]+codes[400] != 8 || codes[201] > 1 {
				w.Errorf("answers %v, want at most one 201 and the rest 400", codes)
			}
			if len(hrefs) != 1 {
				w.Errorf("%d different units, want one", len(hrefs))
			}
		}
		if got := w.List(artifacts); len(got) != 5 {
			w.Errorf("%d artifacts, want 5", len(got))
		}
	})
}
