package sidebyside

import (
	"context"
	"flag"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var only = flag.String("scenario", "", "run the scenarios whose names begin so")

const (
	adminUser = "admin password"
	module    = "../.."
	recorded  = module + "/testdata/pulp"
)

// TestGranary sends every scenario to Granary and compares its answers with the recorded ones of the reference.
// GRANARY_URL names a running server; without it the binary is built and started.
func TestGranary(t *testing.T) {
	url := os.Getenv("GRANARY_URL")
	if url == "" {
		url = startGranary(t)
	}
	compareAll(t, url, true, false)
}

// TestGranaryWithDomains does the same with domains on, for the scenarios that need them. GRANARY_DOMAINS_URL names a running server.
func TestGranaryWithDomains(t *testing.T) {
	url := os.Getenv("GRANARY_DOMAINS_URL")
	if url == "" {
		url = startGranary(t, "PULP_DOMAIN_ENABLED=true")
	}
	compareAll(t, url, true, true)
}

// TestReference tells where the recorded answers are no longer those of the reference, if REFERENCE_URL names one.
func TestReference(t *testing.T) {
	url := os.Getenv("REFERENCE_URL")
	if url == "" {
		t.Skip("REFERENCE_URL is not set: the reference is not up")
	}
	compareAll(t, url, false, false)
}

func compareAll(t *testing.T, url string, deliberate, domains bool) {
	runner := &Runner{
		URL: strings.TrimSuffix(url, "/"), User: adminUser, Fixtures: os.Getenv("GRANARY_FIXTURES"),
		Client: NewClient(), Timeout: time.Minute,
	}
	files, err := filepath.Glob("scenarios/" + *only + "*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			s, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			if s.Requires("domains") != domains {
				t.Skip("it needs domains on, or off")
			}
			if s.Requires("fixtures") && runner.Fixtures == "" {
				t.Skip("GRANARY_FIXTURES is not set")
			}
			if deliberate && s.Later != "" {
				t.Skipf("%s: to come", s.Later)
			}
			want := loadTranscript(t, s.Name)
			got, err := runner.Run(t.Context(), s)
			if err != nil {
				t.Error(err)
			}
			if got == nil {
				return
			}
			for _, line := range Compare(s, want, got, deliberate) {
				t.Error(line)
			}
		})
	}
}

func loadTranscript(t *testing.T, name string) *Transcript {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(recorded, name+".golden"))
	if err != nil {
		t.Fatal(err)
	}
	transcript, err := ParseTranscript(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return transcript
}

// TestRecordings holds the scenarios and the recorded answers together without any server.
func TestRecordings(t *testing.T) {
	goldens, err := filepath.Glob(recorded + "/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, golden := range goldens {
		name := strings.TrimSuffix(filepath.Base(golden), ".golden")
		s, err := Load("scenarios/" + name + ".txt")
		if err != nil {
			t.Error(err)
			continue
		}
		transcript := loadTranscript(t, name)
		for _, line := range Compare(s, transcript, transcript, false) {
			t.Error(line)
		}
	}
	scenarios, err := filepath.Glob("scenarios/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(scenarios) != len(goldens) || len(scenarios) == 0 {
		t.Errorf("%d scenarios, %d recordings", len(scenarios), len(goldens))
	}
}

// startGranary builds the server, starts it on an empty data folder with the settings that the reference had when the
// answers were recorded, and waits until it answers. The test's end stops it.
func startGranary(t *testing.T, environ ...string) (url string) {
	t.Helper()
	if _, err := os.Stat(module + "/cmd/granary"); err != nil {
		t.Skip("cmd/granary is not there yet")
	}
	binary := filepath.Join(t.TempDir(), "granary")
	if out, err := exec.Command("go", "build", "-o", binary, module+"/cmd/granary").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}

	address := freeAddress(t)
	url = "http://" + address
	data := t.TempDir()
	var log strings.Builder
	ctx, cancel := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, binary, "server", "--data", data, "--listen", address)
	server.Cancel = func() error { return server.Process.Signal(os.Interrupt) }
	server.WaitDelay = 10 * time.Second
	server.Stdout, server.Stderr = &log, &log
	server.Env = append(os.Environ(),
		"PULP_CONTENT_ORIGIN="+url,
		`PULP_ALLOWED_CONTENT_CHECKSUMS=["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]`,
		`PULP_ALLOWED_IMPORT_PATHS=["/tmp"]`,
		`PULP_ALLOWED_EXPORT_PATHS=["/tmp"]`,
		"PULP_CACHE_ENABLED=true",
		"PULP_DEFAULT_ADMIN_PASSWORD=password",
	)
	server.Env = append(server.Env, environ...)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Wait() }()
	t.Cleanup(func() {
		cancel()
		<-stopped
		if t.Failed() {
			t.Logf("the server's log:\n%s", log.String())
		}
	})

	for range 300 {
		if resp, err := http.Get(url + "/pulp/api/v3/status/"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return url
			}
		}
		select {
		case err := <-stopped:
			stopped <- err
			t.Fatalf("the server ended: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatal("the server does not answer")
	return ""
}

// freeAddress is an address of the loopback that nobody listens on. The server has to know its port beforehand, since
// CONTENT_ORIGIN names it.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
