package download_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pulp"
)

func TestOpen(t *testing.T) {
	url, n := serve(t, inTurn(status(503), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-A", "1")
		answer(content)(w, r)
	}))
	resp, err := newClient(t, pulp.Remote{}, quick(nil)).Open(t.Context(), download.Request{URL: url, Digests: sums(content), Size: int64(len(content))})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(b, content) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if m, err := resp.Body.Read(make([]byte, 1)); m != 0 || err != io.EOF {
		t.Errorf("after the end: %d, %v", m, err)
	}
	if resp.Size != int64(len(content)) || resp.Header.Get("X-A") != "1" || resp.Encoded || n.Load() != 2 {
		t.Errorf("%+v after %d requests", resp, n.Load())
	}
}

func TestOpenFailsBeforeTheBody(t *testing.T) {
	for _, tc := range []struct {
		code, requests int
	}{{404, 1}, {500, 4}} {
		url, n := serve(t, status(tc.code))
		_, err := newClient(t, pulp.Remote{}, quick(nil)).Open(t.Context(), download.Request{URL: url})
		if e, ok := errors.AsType[*download.Error](err); !ok || e.Code != tc.code || n.Load() != int64(tc.requests) {
			t.Errorf("%d: %v after %d requests", tc.code, err, n.Load())
		}
	}
}

// TestOpenDecodes has a server that compresses: the size is not known, the digests are of the decoded bytes.
func TestOpenDecodes(t *testing.T) {
	gz := gzipped(content)
	for _, tc := range []struct {
		name    string
		body    []byte
		want    []byte
		request download.Request
		encoded bool
		size    int64
	}{
		{"compressed on the way", gz, content, download.Request{Digests: sums(content), Size: int64(len(content))}, true, -1},
		{"a .gz with a label", gz, gz, download.Request{Digests: sums(gz), Size: int64(len(gz))}, false, int64(len(gz))},
		{"a file that is not compressed with a label", content, content, download.Request{Digests: sums(content)}, true, -1},
	} {
		url, _ := serve(t, encoded("gzip", tc.body))
		tc.request.URL = url
		resp, err := newClient(t, pulp.Remote{}, quick(nil)).Open(t.Context(), tc.request)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(b, tc.want) || resp.Encoded != tc.encoded || resp.Size != tc.size {
			t.Errorf("%s: %d bytes of %d, %v", tc.name, len(b), resp.Size, err)
		}
	}
}

func TestOpenChecksAtTheEnd(t *testing.T) {
	for _, tc := range []struct {
		name    string
		request download.Request
		reason  download.Reason
		most    int // bytes that may be handed out
	}{
		{"digest", download.Request{Digests: sums(nil)}, download.Checksum, len(content)},
		{"too short", download.Request{Size: int64(len(content)) + 1}, download.Size, len(content)},
		{"too long", download.Request{Size: 100_000}, download.Size, 100_000},
		{"larger than allowed", download.Request{MaxSize: 100_000}, download.TooLarge, 100_000},
	} {
		url, n := serve(t, answer(content))
		tc.request.URL = url
		resp, err := newClient(t, pulp.Remote{}, quick(nil)).Open(t.Context(), tc.request)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_, again := resp.Body.Read(make([]byte, 1))
		resp.Body.Close()
		if reason(err) != tc.reason || again != err || len(b) > tc.most || n.Load() != 1 {
			t.Errorf("%s: %d bytes, %v, then %v, after %d requests", tc.name, len(b), err, again, n.Load())
		}
	}
}

// A fragile server breaks off after each of the given numbers of bytes, and then sends all that is asked for.
type fragile struct {
	body    []byte
	breaks  []int
	etag    string
	ranges  bool // it knows them
	refuses bool // it knows them, and answers 416
	lies    int  // added to the start of the ranges it sends

	mu   sync.Mutex
	saw  []string // Range and If-Range
	sent int
}

func (f *fragile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	n := len(f.saw)
	f.saw = append(f.saw, strings.TrimSpace(r.Header.Get("Range")+" "+r.Header.Get("If-Range")))
	f.mu.Unlock()
	if f.etag != "" {
		w.Header().Set("ETag", f.etag)
	}
	body, code := f.body, 200
	if from, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && f.ranges {
		start, err := strconv.Atoi(strings.TrimSuffix(from, "-"))
		if err != nil {
			panic(err)
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start+f.lies, len(body)-1, len(body)))
		body, code = body[start:], 206
	}
	if f.refuses && r.Header.Get("Range") != "" {
		w.WriteHeader(416)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	if n < len(f.breaks) {
		part := body[:min(f.breaks[n], len(body))]
		f.count(len(part))
		w.Write(part)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	f.count(len(body))
	w.Write(body)
}

func (f *fragile) count(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent += n
}

func TestOpenGoesOnAfterABreak(t *testing.T) {
	size := len(content)
	for _, tc := range []struct {
		name    string
		server  *fragile
		digests pulp.Digests
		saw     []string
		sent    int // by the server, 0 if that depends on when it is left
	}{
		{
			"by ranges, with a validator", &fragile{breaks: []int{100_000, 50_000}, ranges: true, etag: `"1"`}, nil,
			[]string{"", `bytes=100000- "1"`, `bytes=150000- "1"`},
			size,
		},
		{"by ranges, without a validator", &fragile{breaks: []int{100_000}, ranges: true}, sums(content), []string{"", "bytes=100000-"}, size},
		{
			"by ranges that the server does not know", &fragile{breaks: []int{100_000, 200_000}, etag: `"1"`}, nil,
			[]string{"", `bytes=100000- "1"`, `bytes=200000- "1"`},
			size + 300_000,
		},
		{"again, as nothing tells that it is the same file", &fragile{breaks: []int{100_000}, ranges: true}, nil, []string{"", ""}, size + 100_000},
		{"again, with a weak validator", &fragile{breaks: []int{100_000}, ranges: true, etag: `W/"1"`}, nil, []string{"", ""}, size + 100_000},
		{"again, after a break before the first one", &fragile{breaks: []int{100_000, 50_000}}, nil, []string{"", "", ""}, size + 150_000},
		{"again, as the server sends other ranges", &fragile{breaks: []int{100_000}, ranges: true, lies: 1}, sums(content), []string{"", "bytes=100000-", ""}, 0},
		{"again, as the server refuses ranges", &fragile{breaks: []int{100_000}, refuses: true}, sums(content), []string{"", "bytes=100000-", ""}, size + 100_000},
		{"from the start", &fragile{breaks: []int{0}, ranges: true}, sums(content), []string{"", ""}, size},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.server.body = content
			url, _ := serve(t, tc.server.ServeHTTP)
			resp, err := newClient(t, pulp.Remote{}, quick(nil)).Open(t.Context(), download.Request{URL: url, Digests: tc.digests})
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(b, content) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			tc.server.mu.Lock()
			defer tc.server.mu.Unlock()
			if d := cmp.Diff(tc.saw, tc.server.saw); d != "" {
				t.Error(d)
			}
			if tc.sent != 0 && tc.server.sent != tc.sent {
				t.Errorf("the server sent %d bytes, want %d", tc.server.sent, tc.sent)
			}
		})
	}
}

func TestOpenGoesOnWithACompressedBody(t *testing.T) {
	gz := gzipped(bytes.Repeat(content[:1000], 100))
	want := bytes.Repeat(content[:1000], 100)
	url, n := serve(t, inTurn(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		cut(gz, len(gz)-9)(w, r)
	}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			t.Error("a range of the compressed bytes was asked for")
		}
		encoded("gzip", gz)(w, r)
	}))
	resp, err := newClient(t, pulp.Remote{}, quick(nil)).Open(t.Context(), download.Request{URL: url, Digests: sums(want)})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(b, want) || n.Load() != 2 {
		t.Errorf("%d bytes, %v, after %d requests", len(b), err, n.Load())
	}
}

func TestOpenDoesNotJoinDifferentFiles(t *testing.T) {
	for name, second := range map[string][]byte{"another start": append([]byte("x"), content...), "shorter": content[:50_000]} {
		url, n := serve(t, inTurn(cut(content, 100_000), answer(second)))
		resp, err := newClient(t, pulp.Remote{}, quick(nil)).Open(t.Context(), download.Request{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if reason(err) != download.Changed || errs.Describe(err) != "The file at the url "+url+" changed while it was downloaded." || len(b) != 100_000 || n.Load() != 2 {
			t.Errorf("%s: %d bytes, %v, after %d requests", name, len(b), err, n.Load())
		}
	}
}

func TestOpenGivesUp(t *testing.T) {
	for _, tc := range []struct {
		name     string
		handler  http.HandlerFunc
		header   http.Header
		reason   download.Reason
		requests int64
	}{
		{"breaks without progress", cut(content, 10_000), nil, download.Broken, 4},
		{"file gone", inTurn(cut(content, 10_000), status(404)), nil, download.Status, 2},
		{"server down", inTurn(cut(content, 10_000), status(500)), nil, download.Status, 4},
		{"part of a file", cut(content, 10_000), http.Header{"range": {"bytes=5-"}}, download.Broken, 1},
	} {
		url, n := serve(t, tc.handler)
		resp, err := newClient(t, pulp.Remote{}, quick(nil)).Open(t.Context(), download.Request{URL: url, Header: tc.header})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if reason(err) != tc.reason || n.Load() != tc.requests || len(b) != 10_000 {
			t.Errorf("%s: %d bytes, %v, after %d requests", tc.name, len(b), err, n.Load())
		}
	}
}

// TestOpenOutlivesManyBreaks has a large file whose server breaks off every 2 MiB.
func TestOpenOutlivesManyBreaks(t *testing.T) {
	big := bytes.Repeat(content, 20)
	f := &fragile{body: big, ranges: true, etag: `"1"`, breaks: []int{2 << 20, 2 << 20, 2 << 20, 2 << 20, 2 << 20}}
	url, _ := serve(t, f.ServeHTTP)
	resp, err := newClient(t, pulp.Remote{MaxRetries: 1}, quick(nil)).Open(t.Context(), download.Request{URL: url, Digests: sums(big)})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(b, big) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestCloseEndsARead(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"of the body":  func(w http.ResponseWriter, r *http.Request) { drip(0, 1)(w, r); <-r.Context().Done() },
		"that goes on": inTurn(cut([]byte("xy"), 1), status(503, "Retry-After", "60")),
	} {
		inBubble(t, pulp.Remote{}, download.Options{}, h, func(t *testing.T, c *download.Client) {
			resp, err := c.Open(t.Context(), download.Request{URL: "http://up/x"})
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			var end time.Time
			wg.Go(func() {
				_, err = io.ReadAll(resp.Body)
				end = time.Now()
			})
			time.Sleep(20 * time.Second)
			begin := time.Now()
			resp.Body.Close()
			wg.Wait()
			if !errors.Is(err, context.Canceled) || !end.Equal(begin) {
				t.Errorf("%s: %v after %v", name, err, end.Sub(begin))
			}
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
			if _, err := resp.Body.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: read after close", name)
			}
		})
	}
}

// TestSlowReadersDoNotCount has more open bodies than downloads at once are allowed.
func TestSlowReadersDoNotCount(t *testing.T) {
	inBubble(t, pulp.Remote{Concurrency: 1, SockReadTimeout: 5}, download.Options{}, answer(content), func(t *testing.T, c *download.Client) {
		var open []*download.Response
		for range 5 {
			resp, err := c.Open(t.Context(), download.Request{URL: "http://up/x"})
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, resp)
		}
		time.Sleep(time.Minute) // longer than the server may take, but it is not the server's time
		for _, resp := range open {
			b, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(b, content) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			resp.Body.Close()
		}
	})
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		want     pulp.Digests
		wantSize int64
		got      pulp.Digests
		gotSize  int64
		text     string
	}{
		{nil, 0, nil, 5, ""},
		{sums(content), -1, sums(content), 5, ""},
		{sums(content), 5, sums(content), 5, ""},
		{pulp.Digests{pulp.MD5: "00"}, 0, sums(content), 5, ""}, // not known, as it is not allowed
		{pulp.Digests{pulp.SHA256: "00"}, 6, pulp.Digests{pulp.SHA256: "01"}, 5, "A file located at the url http://h/x failed validation due to checksum. Expected '00', Actual '01'"},
		{sums(content), 6, sums(content), 5, "A file located at the url http://h/x failed validation due to size. Expected '6', Actual '5'"},
	} {
		err := download.Check("http://h/x", tc.want, tc.wantSize, tc.got, tc.gotSize)
		switch {
		case (err == nil) != (tc.text == ""):
			t.Errorf("%+v: %v", tc, err)
		case err != nil && (errs.Describe(err) != tc.text || errs.KindOf(err) != errs.Remote):
			t.Errorf("%+v: %v", tc, err)
		}
	}
}
