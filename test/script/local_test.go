package script

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// upstream serves a folder of the script by HTTP until the script ends. Below /never/ it does not answer.
func upstream(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: upstream FOLDER VARIABLE")
	}
	over := make(chan struct{})
	files := http.FileServer(http.Dir(ts.MkAbs(args[0])))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/never/") {
			select {
			case <-r.Context().Done():
			case <-over:
			}
			return
		}
		files.ServeHTTP(w, r)
	}))
	ts.Defer(func() { close(over); s.Close() })
	ts.Setenv(args[1], s.URL)
}

// writeManifest writes a PULP_MANIFEST of a folder's files.
func writeManifest(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: manifest FOLDER")
	}
	dir := ts.MkAbs(args[0])
	var lines strings.Builder
	ts.Check(filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "PULP_MANIFEST" {
			return err
		}
		b, err := os.ReadFile(path) //nolint:gosec // the script's own
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		fmt.Fprintf(&lines, "%s,%x,%d\n", filepath.ToSlash(rel), sha256.Sum256(b), len(b))
		return err
	}))
	ts.Check(os.WriteFile(filepath.Join(dir, "PULP_MANIFEST"), []byte(lines.String()), 0o600))
}

// sha256Of sets a variable to a file's digest.
func sha256Of(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sha256 FILE|stdout VARIABLE")
	}
	ts.Setenv(args[1], fmt.Sprintf("%x", sha256.Sum256([]byte(ts.ReadFile(args[0])))))
}

// capture sets a variable to what the group of a regular expression matches in the output of the last command.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture VARIABLE REGEXP")
	}
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	m := re.FindStringSubmatch(ts.ReadFile("stdout"))
	if re.NumSubexp() != 1 || m == nil {
		ts.Fatalf("nothing in the output matches %s, which must have one group", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// mode checks a file's permissions.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode 0600 FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has the mode %s", args[1], got)
	}
}
