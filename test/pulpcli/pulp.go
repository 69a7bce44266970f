// Package pulpcli drives a server with the pulp command, which Pulp's users have, as it is.
package pulpcli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"granary/test/binary"
)

// A pulp is the pulp command, configured for one server.
type pulp struct {
	path    string
	environ []string
	server  *binary.Server
}

// find returns where the pulp command is: in the virtual environment that PULP_CLI_VENV names, or on PATH. Without one
// the test is skipped, except in the gate.
func find(t *testing.T) string {
	t.Helper()
	name := "pulp"
	if venv := os.Getenv("PULP_CLI_VENV"); venv != "" {
		name = filepath.Join(venv, "bin", "pulp")
	}
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") == "true":
		t.Fatalf("no pulp command: %v", err)
	default:
		t.Skipf("no pulp command: install pulp-cli into a virtual environment and name it in PULP_CLI_VENV (%v)", err)
	}
	return ""
}

// newPulp configures the command as the README says.
func newPulp(t *testing.T, server *binary.Server) *pulp {
	t.Helper()
	home := t.TempDir()
	p := &pulp{path: find(t), server: server, environ: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CONFIG_HOME=" + home + "/config", "XDG_CACHE_HOME=" + home + "/cache",
		"LC_ALL=C.UTF-8", "TZ=UTC", "PYTHONDONTWRITEBYTECODE=1",
	}}
	p.run(t, "config", "create", "--base-url", server.URL, "--username", "admin", "--password", binary.Password, "--no-verify-ssl", "--overwrite")
	return p
}

// try runs the command.
func (p *pulp) try(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path, args...) //nolint:gosec // the tests say what
	cmd.Env = p.environ
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// run runs the command, which has to succeed, and returns what it prints.
func (p *pulp) run(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, err := p.try(t, args...)
	if err != nil {
		t.Fatalf("pulp %q: %v\n%s%s", args, err, stdout, stderr)
	}
	return stdout
}

// fail runs the command, which has to fail, and returns what it says.
func (p *pulp) fail(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, err := p.try(t, args...)
	if err == nil {
		t.Fatalf("pulp %q succeeds:\n%s%s", args, stdout, stderr)
	}
	return stderr
}

// one runs a command that prints one object.
func (p *pulp) one(t *testing.T, args ...string) object {
	t.Helper()
	var o object
	decode(t, p.run(t, args...), &o)
	return o
}

// many runs a command that prints a list of objects.
func (p *pulp) many(t *testing.T, args ...string) []object {
	t.Helper()
	var list []object
	decode(t, p.run(t, args...), &list)
	return list
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in the output:\n%s", err, text)
	}
}

// An object is what the command prints of one.
type object map[string]any

// text returns the value at a path of keys as text; "<nil>" for none.
func (o object) text(keys ...string) string {
	var v any = map[string]any(o)
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return fmt.Sprint(v)
}

// expect checks a value of an object.
func (o object) expect(t *testing.T, want string, keys ...string) {
	t.Helper()
	if got := o.text(keys...); got != want {
		t.Errorf("%v is %q, want %q", keys, got, want)
	}
}
