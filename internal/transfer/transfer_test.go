package transfer_test

import (
	"archive/tar"
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/pulp"
	"granary/internal/repository/repositorytest"
	"granary/internal/task"
	"granary/plugins/file"
)

type (
	object = repositorytest.Object
	form   = repositorytest.Form
	upload = repositorytest.File
)

const (
	root         = repositorytest.Root
	repositories = "repositories/file/file/"
	contents     = "content/file/files/"
	exporters    = "exporters/core/pulp/"
	folders      = "exporters/core/filesystem/"
	importers    = "importers/core/pulp/"
)

type world struct {
	*repositorytest.World
	dir string // where exports are
}

func both(t *testing.T, f func(w *world)) {
	t.Helper()
	dbtest.Run(t, func(t *testing.T, d *db.DB) { f(newWorld(t, d)) })
}

func lite(t *testing.T, f func(w *world)) {
	t.Helper()
	f(newWorld(t, dbtest.Open(t, dbtest.SQLite(t))))
}

func newWorld(t *testing.T, d *db.DB) *world {
	t.Helper()
	w := repositorytest.New(t, d, file.Plugin())
	return &world{w, w.Exchange}
}

// repository makes a repository with files, each in a version of its own.
func (w *world) repository(name string, paths ...string) object {
	w.Helper()
	repo := w.Create(repositories, object{"name": name})
	for _, p := range paths {
		w.add(repo, p, "content of "+p)
	}
	return w.Get(repositorytest.Href(repo))
}

func (w *world) add(repo object, path, text string) {
	w.Helper()
	w.Run("POST", root+contents, form{"relative_path": path, "repository": repositorytest.Href(repo), "file": upload(text)})
}

// files lists paths and digests of what a repository's latest version has.
func (w *world) files(repo object) []string {
	w.Helper()
	latest := w.Get(repositorytest.Href(repo))["latest_version_href"].(string)
	list := []string{}
	for _, o := range w.List(contents, "repository_version", latest) {
		list = append(list, fmt.Sprint(o["relative_path"], " ", o["sha256"]))
	}
	slices.Sort(list)
	return list
}

func (w *world) versions(repo object) int {
	w.Helper()
	return len(w.List(w.Get(repositorytest.Href(repo))["versions_href"].(string)))
}

func (w *world) exporter(repos ...object) object {
	w.Helper()
	hrefs := []string{}
	for _, r := range repos {
		hrefs = append(hrefs, repositorytest.Href(r))
	}
	return w.Create(exporters, object{"name": pulp.NewID().String(), "path": filepath.Join(w.dir, pulp.NewID().String()) + "/", "repositories": hrefs})
}

// export writes an export and returns its record, and the paths of its table of contents and of its first file.
func (w *world) export(exporter object, body any) (record object, toc, first string) {
	w.Helper()
	t := w.Run("POST", repositorytest.Href(exporter)+"exports/", body)
	record = w.Get(t.Created[0])
	toc = record["toc_info"].(object)["file"].(string)
	var names []string
	for name := range record["output_file_info"].(object) {
		if name != toc {
			names = append(names, name)
		}
	}
	return record, toc, slices.Min(names)
}

// imported reads an export and returns what became of the tasks: "" for each that was completed, else the failure; the main one's first.
func (w *world) imported(importer object, body any) []string {
	w.Helper()
	status, text := w.Do("POST", repositorytest.Href(importer)+"imports/", body)
	if status != http.StatusAccepted {
		w.Fatalf("import %v: %d %s", body, status, text)
	}
	var accepted struct {
		Group string `json:"task_group"`
	}
	if err := json.Unmarshal([]byte(text), &accepted); err != nil {
		w.Fatal(err)
	}
	id, err := pulp.ParseID(repositorytest.ID(accepted.Group))
	if err != nil {
		w.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatal("the import does not end")
		}
		open, results := false, []string{}
		err := db.Each(w.Context(), w.DB, func(rows *sql.Rows) error {
			var state task.State
			var failure *string
			if err := rows.Scan(&state, &failure); err != nil {
				return err
			}
			open = open || !state.Final()
			var e struct{ Description string }
			if failure != nil {
				if err := json.Unmarshal([]byte(*failure), &e); err != nil {
					return err
				}
			}
			results = append(results, e.Description)
			return nil
		}, "SELECT state, error FROM core_task WHERE task_group = ? ORDER BY seq", id)
		if err != nil {
			w.Fatal(err)
		}
		if !open {
			return results
		}
	}
}

// completed fails the test where an import did not do so many versions.
func (w *world) completed(versions int, results []string) {
	w.Helper()
	if want := make([]string, versions+1); !slices.Equal(results, want) {
		w.Fatalf("import: %q, want %d completed versions", results, versions)
	}
}

func (w *world) importer(mapping object) object {
	w.Helper()
	body := object{"name": pulp.NewID().String()}
	if mapping != nil {
		body["repo_mapping"] = mapping
	}
	return w.Create(importers, body)
}

func (w *world) find(name string) object {
	w.Helper()
	list := w.List(repositories, "name", name)
	if len(list) != 1 {
		w.Fatalf("%d repositories are called %q", len(list), name)
	}
	return list[0]
}

// TestFromPulp reads what Pulp has written.
func TestFromPulp(t *testing.T) {
	both(t, func(w *world) {
		if err := os.CopyFS(w.dir, os.DirFS("testdata/pulp")); err != nil {
			t.Fatal(err)
		}
		full := filepath.Join(w.dir, "export-01a21098-b3d3-70a9-822b-50971c745981-20261125_0246.tar")
		more := filepath.Join(w.dir, "export-01a21098-c57d-76a5-bfc5-2803075f72eb-20261125_0246-toc.json")
		i := w.importer(nil)
		if got := w.imported(i, object{"path": full}); !slices.Equal(got, []string{""}) {
			t.Errorf("without repositories here: %q, want the main task alone", got)
		}
		w.completed(2, w.imported(i, object{"path": full, "create_repositories": true}))
		one, two := w.find("tx one ü/0a8d05"), w.find("tx-two-0a8d05")
		want := []string{
			"dir/f0.txt 31bf7b4b56e72fce52b29a43933aa6aa93e79b477727c36ffe6bbb83963706fe",
			"dir/f1.txt fce0a82f29ae178cc727a340abfd6bf24e92bc5ed7321ad86a12bed3e5493ea0",
			"dir/f2.txt 80c7893155f607115582296d48ba3eeb9e91924c8aa94a9df51e1ed6755c93b7",
		}
		if diff := cmp.Diff(want, w.files(one)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
		if one["description"] != "d" || one["autopublish"] != true || one["manifest"] != "PULP_MANIFEST" || one["retain_repo_versions"] != nil {
			t.Errorf("repository: %v", one)
		}
		if two["retain_repo_versions"] != 7.0 || two["manifest"] != nil || two["description"] != nil || two["autopublish"] != false {
			t.Errorf("repository: %v", two)
		}
		w.completed(2, w.imported(i, object{"toc": more}))
		want = append(want, "dir/new.txt e0fa3e0f3506b44cc5cfa00a71f7ce1f7f5379ba023ad34353709929377705fc")
		if diff := cmp.Diff(want, w.files(one)); diff != "" {
			t.Errorf("files of the incremental export (-want +got):\n%s", diff)
		}
		n := w.versions(one)
		w.completed(2, w.imported(i, object{"toc": more}))
		if got := w.versions(one); got != n {
			t.Errorf("the same again made version %d of %d", got, n)
		}
		if got := len(w.List(repositorytest.Href(i) + "imports/")); got != 4 {
			t.Errorf("%d imports are noted, want 4", got)
		}
	})
}

// TestRoundTrip writes exports of all kinds and reads them into other repositories.
func TestRoundTrip(t *testing.T) {
	both(t, func(w *world) {
		a, b := w.repository("a", "x", "dir/y", "dir/z"), w.repository("b", "x")
		e := w.exporter(a, b)
		record, toc, tarball := w.export(e, object{"meta": object{"k": 1, "checksum_type": "md5"}})
		if got := record["exported_resources"].([]any); len(got) != 2 {
			t.Errorf("exported %v", got)
		}
		var told struct {
			Meta  object
			Files map[string]string
		}
		text, err := os.ReadFile(toc)
		if err != nil || json.Unmarshal(text, &told) != nil {
			t.Fatal(err, string(text))
		}
		if diff := cmp.Diff(object{"k": 1.0, "checksum_type": "crc32"}, told.Meta); diff != "" {
			t.Errorf("meta (-want +got):\n%s", diff)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(toc), "*.part")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
		a2, b2 := w.repository("a2", "old"), w.repository("b2")
		i := w.importer(object{"a": "a2", "b": "b2"})
		w.completed(2, w.imported(i, object{"path": tarball}))
		for _, pair := range [][2]object{{a, a2}, {b, b2}} {
			if diff := cmp.Diff(w.files(pair[0]), w.files(pair[1])); diff != "" {
				t.Errorf("imported (-want +got):\n%s", diff)
			}
		}

		w.add(a, "new", "new")
		_, toc, first := w.export(e, object{"full": false, "chunk_size": "1KB"})
		if names := members(t, filepath.Dir(first), filepath.Base(first)); count(names, "artifact/") != 1 {
			t.Errorf("an incremental export of one new file has %q", names)
		}
		w.completed(2, w.imported(i, object{"toc": toc}))
		if diff := cmp.Diff(w.files(a), w.files(a2)); diff != "" {
			t.Errorf("imported the increment (-want +got):\n%s", diff)
		}
		if got, want := w.versions(b2), 2; got != want {
			t.Errorf("an unchanged repository has %d versions, want %d", got, want)
		}

		av := w.Get(repositorytest.Href(a))["versions_href"].(string)
		bv := w.Get(repositorytest.Href(b))["versions_href"].(string)
		record, _, first = w.export(e, object{"full": false, "start_versions": []string{av + "1/", bv + "0/"}, "versions": []string{bv + "1/", av + "2/"}})
		if diff := cmp.Diff([]any{bv + "1/", av + "2/"}, record["params"].(object)["versions"]); diff != "" {
			t.Errorf("params (-want +got):\n%s", diff)
		}
		if names := members(t, filepath.Dir(first), filepath.Base(first)); count(names, "artifact/") != 2 || !slices.Contains(names, "repository-a_2/pulp_file.app.modelresource.FileContentResource.json") {
			t.Errorf("an export between versions has %q", names)
		}
	})
}

func count(names []string, prefix string) (n int) {
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n
}

// members lists the members of an archive in one or several files.
func members(t *testing.T, dir, first string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, strings.TrimSuffix(first, "0000")+"*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var all []byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	if len(all)%10240 != 0 {
		t.Errorf("the archive has %d bytes", len(all))
	}
	for r := tar.NewReader(bytes.NewReader(all)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

// TestUndownloaded refuses exports of what is not here, and leaves no files.
func TestUndownloaded(t *testing.T) {
	both(t, func(w *world) {
		upstream := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, "f,"+strings.Repeat("a", 64)+",5\n")
		}))
		defer upstream.Close()
		remote := w.Create("remotes/file/file/", object{"name": "r", "url": upstream.URL + "/PULP_MANIFEST", "policy": "on_demand"})
		repo := w.Create(repositories, object{"name": "r", "remote": repositorytest.Href(remote)})
		w.Run("POST", repositorytest.Href(repo)+"sync/", object{})
		e := w.exporter(repo)
		failed := w.Fails("POST", repositorytest.Href(e)+"exports/", object{}, "Remote artifacts cannot be exported.")
		if record := w.Get(failed.Created[0]); record["toc_info"] != nil || len(record["exported_resources"].([]any)) != 0 {
			t.Errorf("a failed export is noted as %v", record)
		}
		f := w.Create(folders, object{"name": "f", "path": filepath.Join(w.dir, "f")})
		w.Fails("POST", repositorytest.Href(f)+"exports/", object{"repository_version": w.Get(repositorytest.Href(repo))["latest_version_href"]}, "Cannot export artifacts that haven't been downloaded.")
		if got, err := os.ReadDir(w.dir); err != nil || len(got) > 0 {
			t.Errorf("left behind: %v %v", got, err)
		}
	})
}

// rewrite copies an archive, with each member as change makes it: nil leaves it out.
func rewrite(t *testing.T, from, to string, change func(h *tar.Header, text []byte) []byte, more ...*tar.Header) {
	t.Helper()
	in, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	put := func(h *tar.Header, text []byte) {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(text))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	for r := tar.NewReader(bytes.NewReader(in)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if text = change(h, text); text != nil {
			put(h, text)
		}
	}
	for _, h := range more {
		put(h, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamaged refuses exports that are not whole or not right, with a word on why, and stores nothing of the repositories.
func TestDamaged(t *testing.T) {
	lite(t, func(w *world) {
		src := w.repository("src", "f", "g")
		_, _, good := w.export(w.exporter(src), object{})
		dest := w.repository("dest")
		i := w.importer(object{"src": "dest"})
		same := func(_ *tar.Header, text []byte) []byte { return text }
		in := func(suffix string, f func(text string) string) func(h *tar.Header, text []byte) []byte {
			return func(h *tar.Header, text []byte) []byte {
				if strings.HasSuffix(h.Name, suffix) {
					return []byte(f(string(text)))
				}
				return text
			}
		}
		bad := filepath.Join(w.dir, "bad.tar")
		for _, tc := range []struct {
			name   string
			change func(h *tar.Header, text []byte) []byte
			more   []*tar.Header
			want   string
		}{
			{"version", in("versions.json", func(s string) string { return strings.Replace(s, "3.95", "3.94", 1) }), nil, "Export version 3.94.0 of core incompatible with installed version 3.95.0."},
			{"component", in("versions.json", func(s string) string { return strings.Replace(s, "file", "deb", 1) }), nil, "Export uses deb which is not installed."},
			{"no versions", func(h *tar.Header, text []byte) []byte {
				if h.Name == "versions.json" {
					return nil
				}
				return text
			}, nil, "has no versions.json"},
			{"wrong digest", func(h *tar.Header, text []byte) []byte {
				if strings.HasPrefix(h.Name, "artifact/") {
					text[0]++
				}
				return text
			}, nil, "is damaged: its sha256 is"},
			{"wrong md5", in("ArtifactResource.json", func(s string) string {
				if i := strings.Index(s, `"md5": "`); i >= 0 {
					return s[:i+8] + "00" + s[i+10:]
				}
				return s
			}), nil, "the md5 of artifact"},
			{"wrong size", in("modelresource.ArtifactResource.json", func(s string) string { return strings.Replace(s, `"size": 12`, `"size": 11`, 1) }), nil, "bytes, not 11"},
			{"half a row", in("FileContentResource.json", func(s string) string { return s[:len(s)/2] }), nil, "unexpected EOF"},
			{"no list", in("FileContentResource.json", func(string) string { return "{}" }), nil, "not a list"},
			{"climbing path", in("Resource.json", func(s string) string { return strings.ReplaceAll(s, `"relative_path": "f"`, `"relative_path": "../f"`) }), nil, "can't have '.' or '..' in it"},
			{"another file", in("ContentArtifactResource.json", func(s string) string { return strings.ReplaceAll(s, `"relative_path": "f"`, `"relative_path": "h"`) }), nil, "has other files"},
			{"a link", same, []*tar.Header{{Typeflag: tar.TypeSymlink, Name: "artifact/ab/x", Linkname: "/etc/passwd"}}, "is no plain file"},
			{"absolute", same, []*tar.Header{{Typeflag: tar.TypeReg, Name: "/etc/passwd"}}, "is no name of a member"},
			{"upwards", same, []*tar.Header{{Typeflag: tar.TypeReg, Name: "repository-x/../../versions.json"}}, "is no name of a member"},
			{"strange", same, []*tar.Header{{Typeflag: tar.TypeReg, Name: "strange.json"}}, "is no member of an export"},
			{"twice", same, []*tar.Header{{Typeflag: tar.TypeReg, Name: "versions.json"}}, "is in it twice"},
		} {
			rewrite(t, good, bad, tc.change, tc.more...)
			if got := strings.Join(w.imported(i, object{"path": bad}), ""); !strings.Contains(got, tc.want) {
				t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
			}
			if n := w.versions(dest); n != 1 {
				t.Fatalf("%s: it made a version", tc.name)
			}
		}
		text, err := os.ReadFile(good)
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{"garbage": bytes.Repeat([]byte("no tar "), 999), "nothing": {}, "cut": text[:5000], "cut between members": text[:4096], "cut in a header": text[:700]} {
			if err := os.WriteFile(bad, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(w.imported(i, object{"path": bad}), ""); !strings.HasPrefix(got, "The export could not be read: ") {
				t.Errorf("%s: %q", name, got)
			}
		}

		_, toc, _ := w.export(w.exporter(src), object{"chunk_size": "2KB"})
		chunk := strings.TrimSuffix(toc, "-toc.json") + ".tar.0001"
		was, err := os.ReadFile(chunk)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(chunk, append(was[:len(was)-1:len(was)-1], 'x'), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(w.imported(i, object{"toc": toc}), ""); !strings.Contains(got, "Import chunk hash mismatch: ['File "+filepath.Base(chunk)+" expected checksum : ") {
			t.Errorf("a damaged chunk: %q", got)
		}
		if err := os.Remove(chunk); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(w.imported(i, object{"toc": toc}), ""); !strings.Contains(got, "Missing import-chunks named in table-of-contents: ['"+chunk+"'].") {
			t.Errorf("a missing chunk: %q", got)
		}
		if err := os.WriteFile(toc, []byte(`{"meta": {}, "files": {"../`+filepath.Base(chunk)+`": "0"}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(w.imported(i, object{"toc": toc}), ""); !strings.Contains(got, "which is no file beside it") {
			t.Errorf("a chunk elsewhere: %q", got)
		}
		if n := w.versions(dest); n != 1 {
			t.Fatal("it made a version")
		}
		w.completed(1, w.imported(i, object{"path": good}))
	})
}

// TestMapping keeps an importer's mapping where a new one is refused.
func TestMapping(t *testing.T) {
	both(t, func(w *world) {
		w.repository("a")
		i := w.importer(object{"x": "a"})
		w.Refused("PATCH", repositorytest.Href(i), object{"repo_mapping": object{"x": "nope"}, "name": "other"}, `["Failed to find repositories from repo_mapping: names: ['nope']"]`)
		if got := w.Get(repositorytest.Href(i)); got["name"] != i["name"] || !cmp.Equal(got["repo_mapping"], i["repo_mapping"]) {
			t.Errorf("it is %v now, and was %v", got, i)
		}
	})
}

// TestFolders lays files out in folders.
func TestFolders(t *testing.T) {
	both(t, func(w *world) {
		repo := w.repository("r", "a", "dir/b", "dir/c")
		versions := w.Get(repositorytest.Href(repo))["versions_href"].(string)
		publication := w.Run("POST", root+"publications/file/file/", object{"repository": repositorytest.Href(repo)}).Created[0]
		for _, tc := range []struct {
			method string
			body   object
			want   []string
		}{
			{"write", object{"publication": publication}, []string{"PULP_MANIFEST", "a", "dir/b", "dir/c"}},
			{"hardlink", object{"publication": publication}, []string{"PULP_MANIFEST", "a", "dir/b", "dir/c"}},
			{"symlink", object{"repository_version": versions + "3/"}, []string{"a", "dir/b", "dir/c"}},
			{"write", object{"repository_version": versions + "3/", "start_repository_version": versions + "1/"}, []string{"dir/b", "dir/c"}},
			{"write", object{"publication": publication, "start_repository_version": versions + "2/"}, []string{"PULP_MANIFEST", "dir/c"}},
			{"write", object{"repository_version": versions + "0/"}, nil},
		} {
			dir := filepath.Join(w.dir, pulp.NewID().String())
			if err := os.Mkdir(dir, 0o700); err != nil { // it may be there, if it is empty
				t.Fatal(err)
			}
			e := w.Create(folders, object{"name": pulp.NewID().String(), "path": dir, "method": tc.method})
			done := w.Run("POST", repositorytest.Href(e)+"exports/", tc.body)
			if got := w.Get(done.Created[0])["exported_resources"].([]any); len(got) != 1 {
				t.Errorf("%v: exported %v", tc.body, got)
			}
			var got []string
			err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				name, err := filepath.Rel(dir, path)
				if err != nil {
					return err
				}
				got = append(got, name)
				if isLink := d.Type()&os.ModeSymlink != 0; isLink != (tc.method == "symlink") {
					t.Errorf("%s of %s is a symbolic link: %v", name, tc.method, isLink)
				}
				text, err := os.ReadFile(path)
				if name != "PULP_MANIFEST" && string(text) != "content of "+name {
					t.Errorf("%s has %q", name, text)
				}
				return err
			})
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("%s %v: %q, %v, want %q", tc.method, tc.body, got, err, tc.want)
			}
			if tc.want != nil {
				w.Fails("POST", repositorytest.Href(e)+"exports/", tc.body, "Cannot export to directories that contain existing data.")
			}
		}
	})
}

// TestFolderClimbs refuses paths that lead out of the folder, and leaves nothing.
func TestFolderClimbs(t *testing.T) {
	lite(t, func(w *world) {
		repo := w.repository("r", "a", "b")
		err := w.DB.Update(w.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(w.Context(), "UPDATE core_contentartifact SET relative_path = '../b' WHERE relative_path = 'b'")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(w.dir, "below", "folder")
		e := w.Create(folders, object{"name": "e", "path": dir})
		w.Fails("POST", repositorytest.Href(e)+"exports/", object{"repository_version": w.Get(repositorytest.Href(repo))["latest_version_href"]}, "The path '../b' leads out of the folder.")
		for _, d := range []string{dir, filepath.Dir(dir)} {
			list, err := os.ReadDir(d)
			if err != nil || slices.ContainsFunc(list, func(e os.DirEntry) bool { return e.Name() != "folder" }) {
				t.Errorf("%s has %v %v", d, list, err)
			}
		}
	})
}

// TestLinkedFolder refuses folders that symbolic links lead out of what is allowed.
func TestLinkedFolder(t *testing.T) {
	lite(t, func(w *world) {
		if err := os.Symlink("/", filepath.Join(w.dir, "out")); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/etc", w.dir + "x", filepath.Join(w.dir, "out", "etc"), "relative"} {
			w.Refused("POST", root+exporters, object{"name": "e", "path": path, "repositories": []string{}}, fmt.Sprintf(`{"path":["Path '%s' is not an allowed export path"]}`, path))
			w.Refused("POST", repositorytest.Href(w.importer(nil))+"imports/", object{"path": path}, fmt.Sprintf(`{"path":["path '%s' is not an allowed import path"]}`, path))
		}
	})
}

// A reference is a running Pulp on this machine.
type reference struct {
	*testing.T
	url string
}

func (r *reference) do(method, path string, body any, want int) object {
	r.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		r.Fatal(err)
	}
	req, err := http.NewRequestWithContext(r.Context(), method, r.url+path, bytes.NewReader(text))
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth("admin", "password")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	o := object{}
	if text, err = io.ReadAll(resp.Body); err != nil || resp.StatusCode != want || len(text) > 0 && json.Unmarshal(text, &o) != nil {
		r.Fatalf("%s %s = %d %s %v, want %d", method, path, resp.StatusCode, text, err, want)
	}
	return o
}

// TestToPulp lets a running Pulp read what is written here.
func TestToPulp(t *testing.T) {
	p := &reference{t, os.Getenv("REFERENCE_URL")}
	if p.url == "" {
		t.Skip("REFERENCE_URL names no Pulp")
	}
	lite(t, func(w *world) {
		name := "transfer-" + pulp.NewID().String() + "/ü"
		repo := w.repository(name, "x", "dir/y", "dir/z")
		_, toc, _ := w.export(w.exporter(repo), object{"chunk_size": "2KB"})
		importer := repositorytest.Href(p.do("POST", root+importers, object{"name": name}, http.StatusCreated))
		defer p.do("DELETE", importer, nil, http.StatusNoContent)
		group := p.do("POST", importer+"imports/", object{"toc": toc, "create_repositories": true}, http.StatusAccepted)["task_group"].(string)
		for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
			g := p.do("GET", group, nil, http.StatusOK)
			if g["failed"] != 0.0 || time.Now().After(end) {
				t.Fatalf("import: %v", g)
			}
			if g["completed"] == 2.0 {
				break
			}
		}
		found := p.do("GET", root+repositories+"?"+url.Values{"name": {name}}.Encode(), nil, http.StatusOK)["results"].([]any)
		if len(found) != 1 {
			t.Fatalf("repositories: %v", found)
		}
		there := found[0].(object)
		defer p.do("DELETE", repositorytest.Href(there), nil, http.StatusAccepted)
		got := []string{}
		for _, o := range p.do("GET", root+contents+"?repository_version="+there["latest_version_href"].(string), nil, http.StatusOK)["results"].([]any) {
			got = append(got, fmt.Sprint(o.(object)["relative_path"], " ", o.(object)["sha256"]))
		}
		slices.Sort(got)
		if diff := cmp.Diff(w.files(repo), got); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	})
}
