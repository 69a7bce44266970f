package signing_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/pulp"
	"granary/internal/repository/repositorytest"
	"granary/internal/signing"
)

// gpg makes a folder with the keys of some names, in which nothing asks for passwords.
func gpg(t *testing.T, names ...string) (home string) {
	t.Helper()
	if _, err := exec.LookPath("gpg"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("gpg is not here")
		}
		t.Skip("gpg is not here")
	}
	home, err := os.MkdirTemp("", "gpg") // the socket's path is short that way
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	for _, name := range names {
		cmd := exec.Command("gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-gen-key", name+" <"+name+"@openpgp.example>", "ed25519", "cert,sign", "0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make a key: %v %s", err, out)
		}
	}
	return home
}

func script(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "sign.sh")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// good signs as administrators' scripts do; with another key where one is given.
func good(home, key string) string {
	if key == "" {
		key = `"$PULP_SIGNING_KEY_FINGERPRINT"`
	}
	return `gpg --batch --quiet --homedir ` + home + ` --detach-sign --armor --local-user ` + key + ` --output "$1.asc" "$1" || exit $?
echo "{\"file\": \"$1\", \"signature\": \"$1.asc\"}"`
}

func newServices(t *testing.T, d *db.DB, limit time.Duration) (*repositorytest.World, *signing.Services) {
	t.Helper()
	w := repositorytest.New(t, d)
	s := signing.New(signing.Config{DB: d, Now: w.Now, Temp: t.TempDir(), Time: limit})
	w.API.Add(s.Type())
	return w, s
}

func register(ctx context.Context, s *signing.Services, home, name, script string) error {
	_, err := s.Register(ctx, signing.Registration{Name: name, Script: script, KeyID: "signer@openpgp.example", Class: signing.Detached, Home: home})
	return err
}

func TestService(t *testing.T) {
	home := gpg(t, "signer", "other")
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		w, s := newServices(t, d, 0)
		ctx := w.Context()
		t.Setenv("PULP_SECRET_KEY", "secret")
		seen := filepath.Join(t.TempDir(), "env")
		path := script(t, "env > "+seen+"\npwd >> "+seen+"\n"+good(home, ""))
		if err := register(ctx, s, home, "one", path); err != nil {
			t.Fatal(err)
		}
		env, err := os.ReadFile(seen)
		if err != nil || bytes.Contains(env, []byte("secret")) || !bytes.Contains(env, []byte("CORRELATION_ID=cid\n")) {
			t.Errorf("the script saw %s, %v", env, err)
		}
		list := w.Get(repositorytest.Root + "signing-services/?name=one")["results"].([]any)
		if len(list) != 1 {
			t.Fatalf("listed: %v", list)
		}
		shown := list[0].(repositorytest.Object)
		if shown["script"] != path || len(shown["pubkey_fingerprint"].(string)) != 40 || !strings.HasPrefix(shown["public_key"].(string), "-----BEGIN PGP PUBLIC KEY BLOCK-----") || len(shown) != 8 {
			t.Errorf("shown as %v", shown)
		}
		if status, _ := w.Do("POST", repositorytest.Root+"signing-services/", "{}"); status != 405 {
			t.Errorf("making one by the API is %d, want 405", status)
		}
		id, err := pulp.ParseID(strings.Split(shown["pulp_href"].(string), "/")[5])
		if err != nil {
			t.Fatal(err)
		}
		v, err := s.Get(ctx, d, id)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "repomd.xml")
		if err := os.WriteFile(file, []byte("<repomd/>"), 0o600); err != nil {
			t.Fatal(err)
		}
		signed, err := v.Sign(ctx, file, map[string]string{"MORE": "x"})
		if err != nil || signed.Outputs["signature"] != file+".asc" {
			t.Fatalf("signed: %+v, %v", signed, err)
		}
		if env, err := os.ReadFile(seen); err != nil || !bytes.Contains(env, []byte("MORE=x\n")) || !bytes.HasSuffix(env, []byte(filepath.Dir(file)+"\n")) {
			t.Errorf("the script saw %s, %v", env, err)
		}
		// the script is another one now: nothing that it says is believed
		if err := os.WriteFile(path, []byte("#!/bin/sh\nrm -f \"$1.asc\"\n"+good(home, "other@openpgp.example")), 0o700); err != nil { //nolint:gosec // a script
			t.Fatal(err)
		}
		if _, err := v.Sign(ctx, file, nil); err == nil || !strings.Contains(err.Error(), "The signature is not valid.") {
			t.Errorf("signed by another key: %v", err)
		}
		if err := register(ctx, s, home, "one", script(t, good(home, ""))); err == nil || err.Error() != "There is a signing service 'one' already." {
			t.Errorf("the same name: %v", err)
		}
		if err := s.Remove(ctx, "two", signing.Detached); err == nil || err.Error() != "Signing service 'two' of class '"+signing.Detached+"' does not exists." {
			t.Errorf("remove what is not there: %v", err)
		}
		if err := s.Remove(ctx, "one", signing.Detached); err != nil {
			t.Error(err)
		}
		if left, err := s.List(ctx); err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}

func TestScriptsThatAreWrong(t *testing.T) {
	home := gpg(t, "signer", "other")
	w, s := newServices(t, dbtest.Open(t, dbtest.SQLite(t)), 2*time.Second)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct{ script, want string }{
		"fails":             {"echo out; echo bad things >&2; exit 3", "bad things"},
		"fails quietly":     {"exit 3", "The signing service script failed: exit status 3"},
		"prints no JSON":    {"echo hello", "The signing service script did not return valid JSON!"},
		"prints a list":     {"echo '[]'", "The signing service script did not return valid JSON!"},
		"prints too much":   {"yes", "The signing service script printed more than 65536 bytes."},
		"names nothing":     {`echo "{\"file\": \"$1\"}"`, "The signing service script did not name a 'signature'."},
		"names no file":     {`echo "{\"file\": \"$1\", \"signature\": \"$1.asc\"}"`, "which is no file that it may have made."},
		"names a stranger":  {`echo "{\"file\": \"$1\", \"signature\": \"` + outside + `\"}"`, "which is no file that it may have made."},
		"links a stranger":  {`ln -s ` + outside + ` "$1.asc"; echo "{\"file\": \"$1\", \"signature\": \"$1.asc\"}"`, "which is no file that it may have made."},
		"signs another":     {`cp "$1" "$1.x"; ` + strings.ReplaceAll(good(home, ""), `\"$1\"`, `\"$1.x\"`), "The signing service script has signed another file."},
		"signs other bytes": {`cp "$1" "$1.x"; echo more >> "$1.x"; gpg --batch --quiet --homedir ` + home + ` --detach-sign --armor --output "$1.asc" "$1.x"; echo "{\"file\": \"$1\", \"signature\": \"$1.asc\"}"`, "The signature is not valid."},
		"has another key":   {good(home, "other@openpgp.example"), "The signature is not valid."},
		"hangs":             {"sleep 60 & sleep 60", "The signing service script took longer than 2s."},
	} {
		t.Run(what, func(t *testing.T) {
			start := time.Now()
			err := register(w.Context(), s, home, "x", script(t, tc.script))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
	if left, err := s.List(w.Context()); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestRegistrationsThatAreWrong(t *testing.T) {
	home := gpg(t, "signer", "other")
	w, s := newServices(t, dbtest.Open(t, dbtest.SQLite(t)), 0)
	right := signing.Registration{Name: "x", Script: script(t, good(home, "")), KeyID: "signer@openpgp.example", Class: signing.Detached, Home: home}
	for want, change := range map[string]func(r *signing.Registration){
		"[Errno 2] No such file or directory: '/nowhere/sign.sh'":         func(r *signing.Registration) { r.Script = "/nowhere/sign.sh" },
		"There are 0 keys matching the key id.":                           func(r *signing.Registration) { r.KeyID = "nobody" },
		"There are 2 keys matching the key id.":                           func(r *signing.Registration) { r.KeyID = "openpgp.example" },
		"The signing service class was not provided in a proper format.":  func(r *signing.Registration) { r.Class = "foo" },
		"App 'core' doesn't have a 'Nope' model.":                         func(r *signing.Registration) { r.Class = "core:Nope" },
		"No installed app with label 'nope'.":                             func(r *signing.Registration) { r.Class = "nope:Nope" },
		"There is no gpg here: it is needed to take over the public key.": func(*signing.Registration) { t.Setenv("PATH", t.TempDir()) },
	} {
		r := right
		path := os.Getenv("PATH")
		change(&r)
		_, err := s.Register(w.Context(), r)
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		t.Setenv("PATH", path)
	}
}

// TestCancel says that a script dies with all that it started when its task ends.
func TestCancel(t *testing.T) {
	home := gpg(t, "signer")
	w, s := newServices(t, dbtest.Open(t, dbtest.SQLite(t)), 0)
	started := filepath.Join(t.TempDir(), "started")
	ctx, cancel := context.WithCancel(w.Context())
	go func() {
		for range 500 {
			if _, err := os.Stat(started); err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		cancel()
	}()
	err := register(ctx, s, home, "x", script(t, "sleep 61 & echo $! > "+started+".pid; mv "+started+".pid "+started+"; wait"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	pid, err := os.ReadFile(started)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 { // the child of a dead script is waited for by somebody else
		state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("what the script started lives on")
}
