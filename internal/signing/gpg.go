package signing

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"time"

	"granary/internal/errs"
)

// gpgTime is how long gpg may take to look a key up.
const gpgTime = time.Minute

// exportKey asks gpg for the one key that matches, and returns its fingerprint and the armored key.
func exportKey(ctx context.Context, r Registration) (fingerprint, armored string, err error) {
	out, err := gpg(ctx, r, "--with-colons", "--fixed-list-mode", "--list-keys", "--", r.KeyID)
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed { // it fails where no key matches
		return "", "", err
	}
	keys, primary := 0, false
	for line := range strings.Lines(out) {
		fields := strings.Split(line, ":")
		switch {
		case fields[0] == "pub":
			keys, primary = keys+1, true
		case fields[0] == "fpr" && primary && len(fields) > 9:
			fingerprint, primary = fields[9], false
		}
	}
	if keys != 1 || fingerprint == "" {
		return "", "", errs.Ef(errs.Invalid, "There are %d keys matching the key id.", keys)
	}
	armored, err = gpg(ctx, r, "--armor", "--export", "--", fingerprint)
	return fingerprint, armored, err
}

func gpg(ctx context.Context, r Registration, args ...string) (string, error) {
	program, err := exec.LookPath("gpg")
	if err != nil {
		return "", errs.E(errs.Invalid, "There is no gpg here: it is needed to take over the public key.")
	}
	all := []string{"--batch", "--no-tty"}
	if r.Home != "" {
		all = append(all, "--homedir", r.Home)
	}
	if r.Keyring != "" {
		all = append(all, "--no-default-keyring", "--keyring", r.Keyring)
	}
	ctx, cancel := context.WithTimeout(ctx, gpgTime)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, program, append(all, args...)...) //nolint:gosec // its arguments are the administrator's
	cmd.Stdout, cmd.Env = &out, environment(nil)
	killable(cmd)
	err = cmd.Run()
	return out.String(), err
}
