package download_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// tree makes files and links below a new folder: "name" is a file, "name -> target" a link, "name/" a folder.
// It returns the folder, with all links resolved.
func tree(t *testing.T, entries ...string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name, target, link := strings.Cut(e, " -> ")
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		switch {
		case link:
			err = os.Symlink(strings.ReplaceAll(target, "ROOT", root), path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		default:
			err = os.WriteFile(path, content, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

var imports = []string{
	"in/a", "in/a b%20?#c", "in/dir/", "in/inside -> a", "in/up/ok -> ../a", "in/across -> ROOT/other/x", "in/out -> ../secret", "in/far -> /etc/passwd",
	"in/loop -> loop", "in/dirlink -> ../out", "in-other/x", "other/x", "out/y", "secret", "alias -> in", "single",
}

func TestImportPaths(t *testing.T) {
	root := tree(t, imports...)
	allowed := []string{root + "/alias", root + "/other/", "relative", root + "/single", root + "/missing"}
	const no = "does not start with any of the allowed import paths"
	for _, tc := range []struct {
		url, want string // ROOT is the folder; want is the error of validation, or of the download if it starts with "get:"
	}{
		{"file://ROOT/in/a", ""},
		{"FILE://ROOT/in/a", ""},
		{"file:ROOT/in/a", ""},
		{"file://ROOT/alias/a", ""},
		{"file://ROOT/in/a b%20?#c", ""},
		{"file://ROOT/in//./dir/../a", ""},
		{"file://ROOT/in/inside", ""},
		{"file://ROOT/in/up/ok", ""},
		{"file://ROOT/in/across", ""},
		{"file://ROOT/other/x", ""},
		{"file://ROOT/single", ""},
		{"file://ROOT/in/none", "get:[Errno 2] No such file or directory: 'ROOT/in/none'"},
		{"file://ROOT/in/dir", "get:[Errno 21] Is a directory: 'ROOT/in/dir'"},
		{"file://ROOT/in", "get:[Errno 21] Is a directory: 'ROOT/in'"},
		{"file://ROOT/in/a/b", "get:[Errno 20] Not a directory: 'ROOT/in/a/b'"},
		{"file://ROOT/missing/b", "get:[Errno 2] No such file or directory: 'ROOT/missing/b'"},
		{"file://ROOT/in-other/x", "The path 'ROOT/in-other/x' " + no},
		{"file://ROOT/in/out", "The path 'ROOT/in/out' " + no},
		{"file://ROOT/in/far", "The path 'ROOT/in/far' " + no},
		{"file://ROOT/in/loop", "The path 'ROOT/in/loop' " + no},
		{"file://ROOT/in/dirlink/y", "The path 'ROOT/in/dirlink/y' " + no},
		{"file://ROOT/in/dirlink/../in/a", ""},
		{"file://ROOT/in/../secret", "The path 'ROOT/in/../secret' " + no},
		{"file://ROOT/in/none/../../secret", "The path 'ROOT/in/none/../../secret' " + no},
		{"file:///", "The path '/' " + no},
		{"file://localhostROOT/in/a", "The path 'localhostROOT/in/a' needs to be an absolute pathname."},
		{"file://relative/x", "The path 'relative/x' needs to be an absolute pathname."},
		{"file:relative", "The path 'relative' needs to be an absolute pathname."},
		{"file://", "The path '' needs to be an absolute pathname."},
	} {
		url, want := strings.ReplaceAll(tc.url, "ROOT", root), strings.ReplaceAll(tc.want, "ROOT", root)
		want, late := strings.CutPrefix(want, "get:")

		valid := ""
		if err := download.ValidateURL(url, allowed); err != nil {
			valid = strings.TrimSuffix(strings.TrimPrefix(errs.Describe(err), "{'url': [ErrorDetail(string="), ", code='invalid')]}")
		}
		if w := "\"" + want + "\""; late && valid != "" || !late && want != "" && valid != w || want == "" && valid != "" {
			t.Errorf("%s is validated as %s, want %s", tc.url, valid, w)
		}

		o := quick(nil)
		o.ImportPaths = allowed
		s := newStage(t)
		resp, err := newClient(t, pulp.Remote{}, o).Get(t.Context(), download.Request{URL: url, Digests: sums(content), Size: int64(len(content))}, s)
		if want == "" {
			if err != nil || !bytes.Equal(staged(t, s), content) || resp.Status != 200 || resp.Size != int64(len(content)) || resp.Digests[pulp.SHA256] == "" {
				t.Errorf("%s: %v", tc.url, err)
			}
			continue
		}
		wantReason := download.Forbidden
		if late {
			wantReason = download.Local
		}
		if reason(err) != wantReason || errs.Describe(err) != want {
			t.Errorf("%s:\ngot  %v\nwant %s", tc.url, errs.Describe(err), want)
		}
	}
	if download.ValidateURL("file://"+root+"/in/a", nil) == nil {
		t.Error("without import paths everything is allowed")
	}
	if err := download.ValidateURL("file://"+root+"/in/a", []string{"/"}); err != nil {
		t.Error(err)
	}
	// The sources are as they were.
	if got, want := names(t, root), names(t, tree(t, imports...)); got != want {
		t.Errorf("the folder holds %s, want %s", got, want)
	}
}

func names(t *testing.T, root string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		all = append(all, strings.TrimPrefix(path, root))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestLocalFilesAreChecked(t *testing.T) {
	root := tree(t, "x")
	o := quick(nil)
	o.ImportPaths = []string{root}
	c := newClient(t, pulp.Remote{}, o)
	url := "file://" + root + "/x"
	bad := sums(nil)[pulp.SHA256]
	for _, tc := range []struct {
		request download.Request
		reason  download.Reason
		text    string
	}{
		{download.Request{Digests: sums(nil)}, download.Checksum, "A file located at the url " + url + " failed validation due to checksum. Expected '" + bad + "', Actual '" + sums(content)[pulp.SHA256] + "'"},
		{download.Request{Size: 639_999}, download.Size, "A file located at the url " + url + " failed validation due to size. Expected '639999', Actual '640000'"},
		{download.Request{MaxSize: 639_999}, download.TooLarge, "The file at the url " + url + " is larger than 639999 bytes."},
	} {
		tc.request.URL = url
		if _, err := c.Get(t.Context(), tc.request, newStage(t)); reason(err) != tc.reason || errs.Describe(err) != tc.text {
			t.Errorf("Get:\ngot  %v\nwant %s", err, tc.text)
		}
		resp, err := c.Open(t.Context(), tc.request)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if reason(err) != tc.reason {
			t.Errorf("Open:\ngot  %v\nwant %s", err, tc.text)
		}
	}
	resp, err := c.Open(t.Context(), download.Request{URL: url, Digests: sums(content), Size: 640_000})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(b, content) || resp.Size != 640_000 || len(resp.Header) > 0 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestLocalFilesThatAreNone(t *testing.T) {
	root := tree(t, "x")
	if err := syscall.Mkfifo(root+"/pipe", 0o644); err != nil {
		t.Fatal(err)
	}
	o := quick(nil)
	o.ImportPaths = []string{root}
	c := newClient(t, pulp.Remote{}, o)
	_, _, err := c.Bytes(t.Context(), download.Request{URL: "file://" + root + "/pipe"}) // does not wait for a writer
	if reason(err) != download.Local {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := c.Open(ctx, download.Request{URL: "file://" + root + "/x"})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cancel()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
