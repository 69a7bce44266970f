// Package imports checks that dependencies point one way, as docs/architecture.md says.
package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers are the packages from the lowest to the highest; those of one line may not import each other, unless
// siblings says so.
var layers = [][]string{
	{"internal/pulp", "internal/errs", "internal/jq"},
	{"internal/settings", "internal/keyring"},
	{"internal/db"},
	{"internal/blob", "internal/content/notice", "internal/content/mediatype", "format"},
	{"internal/download", "internal/task", "internal/storage"},
	{"internal/rest"},
	{"internal/access", "internal/repository"},
	{"internal/pipeline", "internal/content", "internal/telemetry", "internal/guard", "internal/signing", "internal/transfer", "internal/replica", "internal/diagnose"},
	{"internal/api"},
	{"internal/plugin"},
	{"plugins", "internal/openpgp"}, // which is built like a plugin
	{"internal/server"},
	{"cmd"},
	{"test", "internal/repository/repositorytest", "internal/pipeline/pipelinetest"}, // the last two make worlds for tests
}

// formatMay lists what the format libraries import besides the standard library.
var formatMay = []string{"golang.org/x/crypto/ripemd160"}

// layer returns the layer of a package and the name by which it is in it; -1 if it is in none.
func layer(pkg string) (int, string) {
	best, name := -1, ""
	for i, list := range layers {
		for _, l := range list {
			if (pkg == l || strings.HasPrefix(pkg, l+"/")) && len(l) > len(name) {
				best, name = i, l
			}
		}
	}
	return best, name
}

func TestDirections(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "granary/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	n := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		n++
		pkg := strings.TrimPrefix(p.ImportPath, "granary/")
		at, name := layer(pkg)
		if at < 0 {
			t.Errorf("%s stands in no layer", pkg)
			continue
		}
		for _, imp := range p.Imports {
			own, isOwn := strings.CutPrefix(imp, "granary/")
			switch {
			case isOwn:
				to, toName := layer(own)
				if to > at || to == at && toName != name {
					t.Errorf("%s imports %s, which stands beside or above it", pkg, own)
				}
				if name == "plugins" && toName == "plugins" && plugin(pkg) != plugin(own) {
					t.Errorf("%s imports another plugin, %s", pkg, own)
				}
			case name == "format" && strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") && !slices.Contains(formatMay, imp):
				t.Errorf("%s imports %s: formats are plain libraries", pkg, imp)
			}
		}
	}
	if n < 10 {
		t.Fatalf("go list gave %d packages", n)
	}
}

func plugin(pkg string) string { return strings.Split(pkg, "/")[1] }
