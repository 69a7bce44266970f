package signing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"granary/internal/errs"
)

// maxAnswer is the most that a script may print, in bytes, and the most that a signature has.
const maxAnswer = 64 << 10

// waitTime is how long a killed script may hold its output open.
const waitTime = 2 * time.Second

// run runs a script and returns the JSON that it printed. When ctx ends or the time is over, it dies with all that it started.
func run(ctx context.Context, limit time.Duration, script, dir, file string, env map[string]string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var out, complaints bounded
	out.full = cancel
	cmd := exec.CommandContext(ctx, script, file) //nolint:gosec // the administrator's own
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = dir, &out, &complaints, environment(env)
	killable(cmd)
	err := cmd.Run()
	switch exit, failed := errors.AsType[*exec.ExitError](err); {
	case out.over:
		return nil, errs.Ef(errs.Invalid, "The signing service script printed more than %d bytes.", maxAnswer)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, &errs.Error{Kind: errs.Invalid, Detail: fmt.Sprintf("The signing service script took longer than %s.", limit), Err: ctx.Err()}
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case failed:
		text := strings.ToValidUTF8(strings.TrimSpace(string(complaints.data)), "\ufffd")
		if text == "" {
			text = "The signing service script failed: " + exit.Error()
		}
		return nil, &errs.Error{Kind: errs.Invalid, Detail: text, Err: err}
	case err != nil:
		return nil, &errs.Error{Kind: errs.Invalid, Detail: "The signing service script could not be run: " + err.Error(), Err: err}
	}
	answer := bytes.TrimSpace(out.data)
	if !json.Valid(answer) {
		return nil, errJSON
	}
	return answer, nil
}

// killable makes a command die with all that it started, when its context ends.
func killable(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = waitTime
}

// ours are what the names of variables begin with that hold settings of the server, secrets among them.
var ours = []string{"PULP_", "GRANARY_", "DJANGO_", "DATABASE_", "POSTGRES", "PG", "REDIS"}

// environment is the server's without what is ours, and with what is given.
func environment(given map[string]string) []string {
	list := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return slices.ContainsFunc(ours, func(prefix string) bool { return strings.HasPrefix(kv, prefix) })
	})
	for name, value := range given {
		list = append(list, name+"="+value)
	}
	return list
}

// A bounded buffer keeps the first bytes of what is written to it. full, if it is not nil, is called when there are more. The
// buffer is not embedded: its ReadFrom would know no bound.
type bounded struct {
	data []byte
	over bool
	full func()
}

func (b *bounded) Write(p []byte) (int, error) {
	kept := p[:min(len(p), maxAnswer-len(b.data))]
	b.data = append(b.data, kept...)
	if len(kept) < len(p) {
		b.over = true
		if b.full != nil {
			b.full()
		}
	}
	return len(p), nil
}
