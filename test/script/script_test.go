// Package script runs the scripts of testdata/script, each a story of what a user of the binary sees.
package script

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"granary/test/binary"
)

// A world is what one script has besides its folder and its variables.
type world struct {
	t       *testing.T
	server  *process // the last that was started, or nil
	user    *account // who asks; nil: nobody
	cookies cookies  // what is sent of those that the server set
	client  *client
	answer  *answer // the last one, or nil
}

type worldKey struct{}

// of returns the script's world.
func of(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func TestScripts(t *testing.T) {
	dir := filepath.Dir(binary.Path(t))
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join(binary.Root(), "testdata", "script"),
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", dir+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("BINARY", binary.Path(t))
			env.Setenv("PULP_DEFAULT_ADMIN_PASSWORD", binary.Password)
			c, err := newClient()
			if err != nil {
				return err
			}
			w := &world{t: t, user: &account{"admin", binary.Password}, client: c}
			env.Values[worldKey{}] = w
			env.Defer(func() { w.end(filepath.Base(env.WorkDir)) })
			return nil
		},
		// testdata/script/README.md tells what each does
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"granary":    granary,
			"waitready":  waitReady,
			"stopserver": stopServer,

			"get":      method("GET"),
			"post":     method("POST"),
			"put":      method("PUT"),
			"patch":    method("PATCH"),
			"delete":   method("DELETE"),
			"upload":   upload,
			"content":  content,
			"json":     jsonValue,
			"waittask": waitTask,
			"user":     user,

			"upstream": upstream,
			"manifest": writeManifest,
			"sha256":   sha256Of,
			"capture":  capture,
			"mode":     mode,
		},
	})
}
