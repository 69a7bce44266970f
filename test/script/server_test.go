package script

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// patience is how long a script waits for what is to happen; only a script that fails takes so long.
const patience = time.Minute

// granary runs the binary, in the background if the last argument is &.
func granary(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) > 0 && args[len(args)-1] == "&" {
		if neg {
			ts.Fatalf("unsupported: ! granary ... &")
		}
		start(ts, args[:len(args)-1])
		return
	}
	err := ts.Exec("granary", args...)
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		ts.Fatalf("granary: %v", err)
	}
	switch {
	case err != nil && !neg:
		ts.Fatalf("granary: %v", err)
	case err == nil && neg:
		ts.Fatalf("granary succeeded")
	}
}

// A process is a server in the background.
type process struct {
	cmd      *exec.Cmd
	out, err lockedBuffer
	url      chan string   // gets what the server says
	done     chan struct{} // closed when the process has ended
	failure  error         // of the process; set before done is closed
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var listens = regexp.MustCompile(`listens on (http://[^/]+)/`)

func start(ts *testscript.TestScript, args []string) {
	w := of(ts)
	if w.server != nil && w.server.alive() {
		ts.Fatalf("a server runs already: stopserver first")
	}
	// a command of ours sees the script's variables only one by one
	environ := filepath.Join(ts.Getenv("TMPDIR"), "environ")
	ts.Check(ts.Exec("sh", "-c", "env -0 >"+environ))
	p := &process{url: make(chan string, 1), done: make(chan struct{})}
	p.cmd = exec.Command(ts.Getenv("BINARY"), args...) //nolint:gosec // our own
	p.cmd.Env = strings.Split(strings.TrimSuffix(ts.ReadFile(environ), "\x00"), "\x00")
	p.cmd.Dir = ts.MkAbs(".")
	p.cmd.Stderr = &p.err
	out, err := p.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(p.cmd.Start())
	go func() {
		defer close(p.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			_, _ = io.WriteString(&p.out, lines.Text()+"\n")
			if m := listens.FindStringSubmatch(lines.Text()); m != nil {
				p.url <- m[1]
			}
		}
		p.failure = p.cmd.Wait()
	}()
	w.server = p
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop ends the server as its users do, and returns how it ended.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.failure
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
		return errors.New("the server did not stop")
	}
}

// waitReady waits until the server answers, and sets URL.
func waitReady(ts *testscript.TestScript, neg bool, args []string) {
	w := of(ts)
	if neg || len(args) > 1 || w.server == nil {
		ts.Fatalf("usage: granary server ... &, then waitready [PATH]")
	}
	target := "status/"
	if len(args) == 1 {
		target = args[0]
	}
	select {
	case u := <-w.server.url:
		ts.Setenv("URL", u)
	case <-w.server.done:
		ts.Fatalf("the server ended: %v\n%s", w.server.failure, w.server.err.String())
	case <-time.After(patience):
		ts.Fatalf("the server does not say where it listens\n%s", w.server.err.String())
	}
	w.client.base = ts.Getenv("URL")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if a, err := w.client.do(ctx, request{method: "GET", target: target}); err != nil || a.status != 200 {
		ts.Fatalf("the server does not answer: %v %+v", err, a)
	}
}

// stopServer ends the server, which has to end well; what it printed is the command's output.
func stopServer(ts *testscript.TestScript, neg bool, args []string) {
	w := of(ts)
	if neg || len(args) > 0 || w.server == nil {
		ts.Fatalf("usage: granary server ... &, then stopserver")
	}
	err := w.server.stop()
	_, _ = io.WriteString(ts.Stdout(), w.server.out.String())
	_, _ = io.WriteString(ts.Stderr(), w.server.err.String())
	ts.Check(err)
}

// end ends what the script has left running, which must end well too.
func (w *world) end(script string) {
	p := w.server
	if p == nil {
		return
	}
	if err := p.stop(); err != nil {
		w.t.Errorf("%s: the server ended badly: %v", script, err)
	}
	if strings.Contains(p.err.String(), "panic") {
		w.t.Errorf("%s: the server panicked:\n%s", script, p.err.String())
	}
	w.client.close()
}
