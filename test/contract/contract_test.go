// Package contract holds the served OpenAPI document against the contract.
package contract

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"granary/internal/repository"
	"granary/internal/rest"
)

var update = flag.Bool("update", false, "raise the counts in counts.json to what is there")

// countsFile says how many operations of each app are equal to the contract's, with all schemas that they use.
const countsFile = "counts.json"

// TestContract compares operation by operation and schema by schema. It fails where fewer operations of an app are
// equal than counts.json says; with -v it prints what differs and what is missing of the apps that are here.
func TestContract(t *testing.T) {
	text, err := os.ReadFile(countsFile)
	if err != nil {
		t.Fatal(err)
	}
	var recorded map[string]map[string]int
	if err := json.Unmarshal(text, &recorded); err != nil {
		t.Fatal(err)
	}
	for _, side := range []struct {
		name    string
		domains bool
	}{{"openapi.json", false}, {"openapi-domains.json", true}} {
		t.Run(side.name, func(t *testing.T) {
			equal := check(t, side.name, side.domains)
			counts := recorded[side.name]
			apps := maps.Clone(counts)
			maps.Copy(apps, equal)
			for _, app := range slices.Sorted(maps.Keys(apps)) {
				switch n := equal[app]; {
				case n > counts[app]:
					t.Logf("%s: %d operations are equal, %d were recorded: run this test with -update", app, n, counts[app])
					if *update {
						counts[app] = n
					}
				case n < counts[app]:
					t.Errorf("%s: only %d operations are equal, %d were; run with -v to see what differs", app, n, counts[app])
				}
			}
		})
	}
	if !*update {
		return
	}
	if text, err = json.MarshalIndent(recorded, "", "\t"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(countsFile, append(text, '\n'), 0o644); err != nil { //nolint:gosec // part of the sources
		t.Fatal(err)
	}
}

// check compares one of the contract's documents and returns how many operations of each app are equal.
func check(t *testing.T, file string, domains bool) map[string]int {
	doc, engine := document(t, domains)
	text, err := doc.JSON(nil, "http://localhost:8080/")
	if err != nil {
		t.Fatal(err)
	}
	var got, want api
	parse(t, text, &got)
	if text, err = os.ReadFile("../../testdata/contract/" + file); err != nil {
		t.Fatal(err)
	}
	parse(t, text, &want)
	types := builtIn(engine)

	schemas := map[string][]difference{}
	for name, s := range want.Components.Schemas {
		prune(s, types)
		var other any
		if o := got.Components.Schemas[name]; o != nil {
			other = o
		}
		schemas[name] = compare(nil, "", any(s), other)
	}
	equal := map[string]int{}
	here := map[string]bool{}
	for _, ty := range engine.Types() {
		here[ty.App] = true
	}
	shown := map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(want.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(want.Paths[path])) {
			op := want.Paths[path][method]
			prune(op, types)
			app := appOf(op["operationId"].(string))
			mine := got.Paths[path][method]
			if mine == nil {
				if here[app] && testing.Verbose() {
					t.Logf("missing: %s %s (%s)", method, path, op["operationId"])
				}
				continue
			}
			diffs := compare(nil, "", any(op), any(mine))
			bad := len(diffs) > 0
			for _, d := range diffs {
				t.Logf("differs: %s %s%s", method, path, d)
			}
			for _, name := range want.references(op) {
				bad = bad || len(schemas[name]) > 0
				if !shown[name] {
					shown[name] = true
					for _, d := range schemas[name] {
						t.Logf("differs: schema %s%s (used by %s %s)", name, d, method, path)
					}
				}
			}
			if !bad {
				equal[app]++
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(got.Paths[path])) {
			if want.Paths[path][method] == nil {
				t.Logf("ours only: %s %s (%s)", method, path, got.Paths[path][method]["operationId"])
			}
		}
	}
	return equal
}

func parse(t *testing.T, text []byte, into *api) {
	t.Helper()
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// builtIn lists the choices for the type of an object that there are here.
func builtIn(engine *rest.Engine) map[string]bool {
	types := map[string]bool{}
	for _, f := range []*rest.Family{
		repository.Repositories, repository.Remotes, repository.Contents, repository.Publications, repository.Distributions, repository.Sources, repository.Guards,
	} {
		for _, name := range engine.PulpTypes(f.Name) {
			types[name] = true
		}
	}
	return types
}

// TestOperationIDs says that every operation has an id of its own, which generated clients need.
func TestOperationIDs(t *testing.T) {
	doc, _ := document(t, false)
	text, err := doc.JSON(nil, "http://localhost:8080/")
	if err != nil {
		t.Fatal(err)
	}
	var got api
	parse(t, text, &got)
	seen := map[string]string{}
	for path, item := range got.Paths {
		for method, op := range item {
			id, place := op["operationId"].(string), fmt.Sprint(strings.ToUpper(method), " ", path)
			if other := seen[id]; other != "" {
				t.Errorf("%s and %s are both called %s", other, place, id)
			}
			seen[id] = place
		}
	}
	if len(seen) == 0 {
		t.Error("the document has no operations")
	}
}
