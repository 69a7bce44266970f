package file

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"granary/format/manifest"
	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/pipeline/pipelinetest"
	"granary/internal/pulp"
)

// BenchmarkSync compares a sync of many small files from a server on this machine with a bare loop that
// downloads them, ten at a time as the sync does, hashes and fsyncs them. It prints the ratio; the budget is 2.
func BenchmarkSync(b *testing.B) {
	const files, size = 20_000, 1000
	for _, engine := range []struct {
		name   string
		config func(testing.TB) db.Config
	}{{"sqlite", dbtest.SQLite}, {"postgres", dbtest.Postgres}} {
		b.Run(engine.name, func(b *testing.B) {
			h := newSyncHouse(b, dbtest.Open(b, engine.config(b)))
			var bare, sync time.Duration
			for i := 0; b.Loop(); i++ {
				up := pipelinetest.NewUpstream(b)
				url := up.Many(fmt.Sprint("many", i), files, size)
				start := time.Now()
				bareLoop(b, url)
				bare += time.Since(start)
				start = time.Now()
				h.syncNow(syncArgs{Repository: h.repo(), Remote: h.remote(url, pulp.Immediate)})
				sync += time.Since(start)
			}
			b.ReportMetric(bare.Seconds()/float64(b.N), "bare-s/op")
			b.ReportMetric(sync.Seconds()/float64(b.N), "sync-s/op")
			b.ReportMetric(sync.Seconds()/bare.Seconds(), "ratio")
		})
	}
}

// BenchmarkResync syncs once more what is there already, on demand and immediately.
func BenchmarkResync(b *testing.B) {
	for _, policy := range []pulp.Policy{pulp.OnDemand, pulp.Immediate} {
		b.Run(string(policy), func(b *testing.B) {
			h := newSyncHouse(b, dbtest.Open(b, dbtest.SQLite(b)))
			up := pipelinetest.NewUpstream(b)
			args := syncArgs{Repository: h.repo(), Remote: h.remote(up.Many("many", 5000, 100), policy)}
			h.syncNow(args)
			for b.Loop() {
				h.syncNow(args)
			}
		})
	}
}

func bareLoop(b *testing.B, url string) {
	b.Helper()
	dir := b.TempDir()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10}}
	defer client.CloseIdleConnections()
	get := func(url string) []byte {
		resp, err := client.Get(url)
		if err != nil {
			b.Error(err)
			return nil
		}
		defer func() { _ = resp.Body.Close() }()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			b.Error(err)
		}
		return data
	}
	var g errgroup.Group
	g.SetLimit(10)
	base, n := newBaseURL(url), 0
	err := manifest.Read(bytes.NewReader(get(url)), func(e manifest.Entry) error {
		n++
		name := filepath.Join(dir, fmt.Sprint(n))
		g.Go(func() error {
			data := get(base.of(e.Path))
			if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != e.SHA256 {
				return fmt.Errorf("wrong digest of %s", e.Path)
			}
			f, err := os.Create(name)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			if _, err := f.Write(data); err != nil {
				return err
			}
			return f.Sync()
		})
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}
