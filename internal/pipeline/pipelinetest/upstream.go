package pipelinetest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// An Upstream is a server that holds files, counts what it is asked for, and fails as it is told.
type Upstream struct {
	URL string // without a slash at its end

	mu       sync.Mutex
	files    map[string][]byte
	faults   map[string][]Fault
	requests map[string]int
	uris     []string
	hold     chan struct{}
}

// A Fault is what one request gets instead of the file.
type Fault func(w http.ResponseWriter, data []byte)

// Half sends half of the file and breaks off.
func Half(w http.ResponseWriter, data []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data[:len(data)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// Flip sends the file with one bit changed.
func Flip(w http.ResponseWriter, data []byte) {
	bad := slices.Clone(data)
	bad[len(bad)/2] ^= 1
	_, _ = w.Write(bad)
}

// Busy answers 429.
func Busy(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusTooManyRequests) }

// Broken answers 500.
func Broken(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusInternalServerError) }

// NewUpstream starts a server that stops when the test ends.
func NewUpstream(tb testing.TB) *Upstream {
	tb.Helper()
	u := &Upstream{files: map[string][]byte{}, faults: map[string][]Fault{}, requests: map[string]int{}}
	s := httptest.NewServer(u)
	tb.Cleanup(func() {
		u.Release()
		s.Close()
	})
	u.URL = s.URL
	return u
}

// ServeHTTP serves the files by their path. A path is that of the URL, decoded.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	path := strings.TrimPrefix(r.URL.Path, "/")
	u.requests[path]++
	u.uris = append(u.uris, r.RequestURI)
	data, ok := u.files[path]
	var fault Fault
	if list := u.faults[path]; len(list) > 0 {
		fault, u.faults[path] = list[0], list[1:]
	}
	hold := u.hold
	u.mu.Unlock()
	if hold != nil && !strings.Contains(path, "MANIFEST") {
		select {
		case <-hold:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case fault != nil:
		fault(w, data)
	case !ok:
		http.Error(w, "no such file", http.StatusNotFound)
	default:
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data)
	}
}

// Put stores a file and returns its sha256.
func (u *Upstream) Put(path, data string) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.files[path] = []byte(data)
	return Digest(data)
}

// Remove makes a file missing.
func (u *Upstream) Remove(path string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.files, path)
}

// Fail makes the next requests for a file fail, one for each fault.
func (u *Upstream) Fail(path string, faults ...Fault) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.faults[path] = faults
}

// Manifest stores files in a folder with a PULP_MANIFEST that lists them, and returns that one's URL. Names and contents take turns.
func (u *Upstream) Manifest(dir string, namesAndContents ...string) string {
	var b strings.Builder
	for i := 0; i < len(namesAndContents); i += 2 {
		name, data := namesAndContents[i], namesAndContents[i+1]
		fmt.Fprintf(&b, "%s,%s,%d\n", name, u.Put(dir+"/"+name, data), len(data))
	}
	u.Put(dir+"/PULP_MANIFEST", b.String())
	return u.URL + "/" + dir + "/PULP_MANIFEST"
}

// Many stores n different files of size bytes in a folder, with their manifest, and returns that one's URL.
func (u *Upstream) Many(dir string, n, size int) string {
	list := make([]string, 0, 2*n)
	for i := range n {
		data := strings.Repeat(fmt.Sprintf("%s %08d\n", dir, i), size/10+1)[:size]
		list = append(list, fmt.Sprintf("%03d/%05d.bin", i/100, i), data)
	}
	return u.Manifest(dir, list...)
}

// Hold makes all requests but those for manifests wait until Release.
func (u *Upstream) Hold() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hold = make(chan struct{})
}

// Release lets them go.
func (u *Upstream) Release() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.hold != nil {
		close(u.hold)
		u.hold = nil
	}
}

// Requests says how often a file was asked for since the last Reset.
func (u *Upstream) Requests(path string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.requests[path]
}

// Total says how often anything was.
func (u *Upstream) Total() (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, r := range u.requests {
		n += r
	}
	return n
}

// URIs returns what was asked for, as it stood in the requests, sorted.
func (u *Upstream) URIs() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Sorted(slices.Values(u.uris))
}

// Reset forgets what was asked for.
func (u *Upstream) Reset() {
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.requests)
	u.uris = nil
}

// Digest returns a text's sha256.
func Digest(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:])
}
