package transfer

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzTOC holds that a table of contents names only files beside it, each with a check sum.
func FuzzTOC(f *testing.F) {
	for _, s := range []string{
		`{"meta": {"checksum_type": "crc32", "chunk_size": 5}, "files": {"a.tar.0000": "1", "a.tar.0001": "ffffffff"}}`,
		`{"meta": {}, "files": {"../a": "1"}}`, `{"meta": {}}`, `{"files": {}}`, `[]`, `{"meta": null, "files": {"": ""}}`, "{", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		names, sums, err := parseTOC(text)
		if err != nil {
			return
		}
		if len(names) == 0 || len(names) != len(sums) {
			t.Errorf("%q: %d names and %d sums", text, len(names), len(sums))
		}
		for _, n := range names {
			if n == ".." || filepath.Base(n) != n || !filepath.IsLocal(n) {
				t.Errorf("%q names %q", text, n)
			}
		}
	})
}

// FuzzArchive holds that what is found in an archive lies in it and has a name of an export's.
func FuzzArchive(f *testing.F) {
	add := func(headers ...tar.Header) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			h.Size = 2
			if err := w.WriteHeader(&h); err != nil {
				f.Fatal(err)
			}
			if h.Typeflag == tar.TypeReg {
				_, _ = w.Write([]byte("[]"))
			}
		}
		_ = w.Close()
		f.Add(b.Bytes())
	}
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	whole := []tar.Header{file("versions.json"), file(module + "ArtifactResource.json"), file(module + "RepositoryResource.json"), file("repository-a_1/x.json")}
	add(whole...)
	add(append(whole, file("artifact/ab/"+strings.Repeat("c", 62)))...)
	add(file("/etc/passwd"))
	add(file("repository-x/../y/x.json"))
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "versions.json", Linkname: "/etc/passwd"})
	f.Add([]byte("garbage"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(dir, "a.tar")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := newSource(path, "")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close() //nolint:errcheck // it was only read
		if s.size() == 0 {
			return
		}
		c, err := s.catalogue(context.Background(), func(name string) bool { return name == "x.json" })
		if err != nil {
			return
		}
		for dir, files := range c.dirs {
			if !strings.HasPrefix(dir, "repository-") || strings.Contains("/"+dir+"/", "/../") {
				t.Errorf("a directory is called %q", dir)
			}
			for name, m := range files {
				if name != "x.json" || m.Offset < 0 || m.Size < 0 || m.Offset+m.Size > s.size() {
					t.Errorf("%q is at %+v of %d", name, m, s.size())
				}
			}
		}
	})
}

// FuzzRows holds that rows of any shape are read or refused.
func FuzzRows(f *testing.F) {
	for _, s := range []string{
		`[]`, `[{"relative_path": "a", "digest": "` + strings.Repeat("a", 64) + `", "size": 5, "autopublish": "1", "retain_repo_versions": ""}]`,
		`[null]`, `[{"relative_path": 1}]`, `[{}`, `{}`, `[{"size": "x", "digest": "AB"}]`, "[{\"relative_path\": \"\\u0000\"}]", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_ = eachRow(strings.NewReader(text), func(r *Row) error {
			path, digest, id := r.Text("relative_path"), r.Digest("digest"), r.ID("upstream_id")
			r.Int("size")
			r.Bool("autopublish")
			r.Null("retain_repo_versions")
			if r.Err() == nil && (strings.Contains(path, "\x00") || !isSHA256(digest) || id.IsZero() && r.fields["upstream_id"] == "") {
				t.Errorf("%q gave %q %q %s", text, path, digest, id)
			}
			return r.Err()
		})
	})
}
