package content_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"granary/internal/blob"
	"granary/internal/content"
	"granary/internal/content/notice"
	"granary/internal/db/dbtest"
	"granary/internal/pulp"
)

// cached checks the status and X-PULP-CACHE of requests to paths.
func (w *world) cached(method, state string, paths ...string) {
	w.t.Helper()
	for _, path := range paths {
		code := 200
		if state == "404" {
			code, state = 404, ""
		}
		if a := w.do(method, "/pulp/content/"+path); a.code != code || a.header.Get("X-Pulp-Cache") != state {
			w.t.Errorf("%s %s: %.60s, X-PULP-CACHE %q; want %d %q", method, path, a, a.header.Get("X-Pulp-Cache"), code, state)
		}
		if code == 404 {
			state = "404"
		}
	}
}

// The workflow that the reference tests its cache with.
func TestCacheHeader(t *testing.T) {
	each(t, nil, func(t *testing.T, w *world) {
		up := newUpstream(t)
		manifest := map[string]string{"PULP_MANIFEST": "m"}
		one, two := w.unit("1.iso", "1"), w.unit("2.iso", "2")
		repo := w.repository()
		v1 := w.version(repo, one, two)
		w.publish(v1, true, manifest)
		old := w.publish(v1, true, manifest)
		first := w.distribute("d", dist{repository: repo})
		both := func(paths ...string) {
			t.Helper()
			w.cached("GET", "MISS", paths...)
			w.cached("GET", "HIT", paths...)
		}
		both("d/", "d/PULP_MANIFEST", "d/1.iso")
		w.cached("HEAD", "MISS", "d/", "d/1.iso")
		w.cached("HEAD", "HIT", "d/", "d/1.iso")

		set := func(column string, id pulp.ID) {
			t.Helper()
			w.write(notice.Distribution, []pulp.ID{first}, "UPDATE core_distribution SET "+column+" = ? WHERE id = ?", id, first)
		}
		set("repository", pulp.ID{})
		w.cached("GET", "404", "d/", "d/PULP_MANIFEST", "d/1.iso")
		set("repository", repo)
		both("d/", "d/PULP_MANIFEST", "d/1.iso")

		w.pass(time.Second)
		w.publish(v1, true, manifest)
		both("d/", "d/PULP_MANIFEST", "d/1.iso")

		second := w.distribute("e", dist{repository: repo})
		both("e/", "e/PULP_MANIFEST", "e/1.iso")

		pub3 := w.publish(w.version(repo, two), true, manifest)
		both("d/", "d/PULP_MANIFEST", "d/2.iso")
		both("e/", "e/PULP_MANIFEST", "e/2.iso")

		w.write(notice.Distribution, []pulp.ID{second}, "DELETE FROM core_distribution WHERE id = ?", second)
		w.cached("GET", "HIT", "d/", "d/PULP_MANIFEST", "d/2.iso")
		w.cached("GET", "404", "e/", "e/PULP_MANIFEST", "e/2.iso")

		// nobody serves this one
		w.write(notice.Repository, []pulp.ID{repo}, "DELETE FROM core_publication WHERE id = ?", old)
		w.cached("GET", "HIT", "d/", "d/PULP_MANIFEST", "d/2.iso")
		w.write(notice.Repository, []pulp.ID{repo}, "DELETE FROM core_publication WHERE id = ?", pub3)
		both("d/", "d/PULP_MANIFEST", "d/2.iso")

		// neither a new label nor a new name matters
		w.write(notice.Distribution, []pulp.ID{first}, "UPDATE core_distribution SET name = 'other', labels = '{\"a\":\"b\"}' WHERE id = ?", first)
		w.cached("GET", "HIT", "d/", "d/PULP_MANIFEST", "d/2.iso")

		remote := w.remote(up.url, "on_demand")
		var units []unit
		for _, path := range []string{"1.iso", "2.iso", "3.iso"} {
			u := w.unit(path, "-")
			up.set("/"+path, path)
			w.source(u, remote, up.url+"/"+path, knownAs{int64(len(path)), sum(path)})
			units = append(units, u)
		}
		w.publish(w.version(repo, units...), true, manifest)
		for _, u := range units {
			w.cached("GET", "", "d/"+u.path)
			w.cached("GET", "HIT", "d/"+u.path)
		}
		w.cached("GET", "", "") // prefix levels have none

		w.write(notice.Repository, []pulp.ID{repo}, "DELETE FROM core_repository WHERE id = ?", repo)
		w.cached("GET", "404", "d/", "d/PULP_MANIFEST", "d/2.iso")
	})
}

func TestNoCacheHeader(t *testing.T) {
	lite(t, func(_ *world, c *content.Config) { c.CacheHeader = false }, func(t *testing.T, w *world) {
		w.published("d", nil, w.unit("a", "a"))
		for range 2 {
			for _, path := range []string{"d/a", "d/"} {
				if _, ok := w.get(path).header["X-Pulp-Cache"]; ok {
					t.Errorf("%s has the header", path)
				}
			}
		}
	})
}

// Everything that changes what is served is seen by the next request.
func TestInvalidation(t *testing.T) {
	each(t, nil, func(t *testing.T, w *world) {
		a, b := w.unit("f", "a"), w.unit("f", "b")
		repo, other := w.repository(), w.repository()
		v, u := w.version(repo, a), w.version(other, b)
		p, q := w.publish(v, true, nil), w.publish(u, true, nil)
		d := w.distribute("d", dist{repository: repo})
		plain := w.distribute("plain", dist{typ: "python.python", version: v})
		w.wantBody("d/f", "a")
		w.wantBody("plain/f", "a")
		tell := func(id pulp.ID, set string, args ...any) {
			t.Helper()
			w.write(notice.Distribution, []pulp.ID{id}, "UPDATE core_distribution SET "+set+" WHERE id = ?", append(args, id)...)
		}

		tell(d, "repository = ?", other)
		w.wantBody("d/f", "b")
		tell(d, "repository = NULL, publication = ?", p)
		w.wantBody("d/f", "a")
		tell(d, "publication = ?", q)
		w.wantBody("d/f", "b")
		tell(plain, "repository_version = ?", u)
		w.wantBody("plain/f", "b")

		tell(d, "base_path = 'moved'")
		w.wantCode("d/f", 404) // at once
		w.wantBody("moved/f", "b")
		tell(d, "checkpoint = ?", true)
		w.wantCode("moved/f", 404)
		tell(d, "checkpoint = ?", false)
		w.wantBody("moved/f", "b")
		g := w.guard()
		tell(d, "content_guard = ?", g)
		w.wantCode("moved/f", 403)
		w.write(notice.Guard, []pulp.ID{g}, "DELETE FROM core_contentguard WHERE id = ?", g)
		w.wantBody("moved/f", "b")

		w.wantCode("moved/g", 404) // which is remembered
		w.wantCode("moved/g", 404)
		w.publish(w.version(other, b, w.unit("g", "g")), true, nil)
		w.wantCode("moved/g", 404) // it serves one publication
		tell(d, "publication = NULL, repository = ?", other)
		w.wantBody("moved/g", "g")
		w.publish(w.version(other), true, nil)
		w.wantCode("moved/g", 404)

		// an artifact that is taken away, as by reclaiming space
		w.wantBody("plain/f", "b")
		w.write(notice.Files, []pulp.ID{other}, "UPDATE core_contentartifact SET artifact = NULL WHERE id = ?", b.contentArtifact)
		w.wantCode("plain/f", 404)
		w.write(notice.Repository, []pulp.ID{other}, "DELETE FROM core_repository WHERE id = ?", other)
		w.wantCode("moved/g", 404)
		w.write("", nil, "UPDATE core_distribution SET base_path = 'elsewhere' WHERE id = ?", plain)
		w.write(notice.Distribution, nil, "UPDATE core_distribution SET hidden = hidden") // all of them
		w.wantCode("elsewhere/", 404)
		w.wantCode("plain", 404)
	})
}

// While versions are published under load, no request sees an older one than was there when it began.
func TestNeverStale(t *testing.T) {
	each(t, nil, func(t *testing.T, w *world) {
		const versions = 25
		repo := w.repository()
		var units []unit
		for i := range versions {
			units = append(units, w.unit("f", fmt.Sprint(i)))
		}
		var latest atomic.Int64
		w.version(repo, units[0])
		w.distribute("d", dist{typ: "python.python", repository: repo})
		ctx, cancel := context.WithCancel(w.ctx)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					least := latest.Load()
					a, err := w.try(http.MethodGet, "/pulp/content/d/f")
					if err != nil {
						t.Error(err)
						return
					}
					if n, err := strconv.ParseInt(a.body, 10, 64); err != nil || n < least {
						t.Errorf("got %s when version %d was there", a, least)
						return
					}
				}
			})
		}
		for i := 1; i < versions; i++ {
			w.version(repo, units[i])
			latest.Store(int64(i))
			time.Sleep(2 * time.Millisecond)
		}
		time.Sleep(5 * time.Millisecond)
		cancel()
		wg.Wait()
	})
}

// Another process is told by the database, and after its connection was lost it forgets all that it knew.
func TestOtherProcesses(t *testing.T) {
	cfg := dbtest.Postgres(t)
	here := newWorld(t, dbtest.Open(t, cfg), nil)
	there := dbtest.Open(t, cfg) // as of another process: it shares nothing with the first
	server := content.New(content.Config{DB: there, Blobs: blob.Single{Store: here.blobs}, Now: time.Now, Prefix: "/pulp/content/", Types: map[string]content.Serving{"python.python": {}}})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { server.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	srv := httptest.NewServer(server)
	defer srv.Close()
	body := func() string {
		a := httptest.NewRecorder()
		server.ServeHTTP(a, httptest.NewRequest(http.MethodGet, "/pulp/content/d/f", http.NoBody))
		return a.Body.String()
	}

	repo := here.repository()
	here.version(repo, here.unit("f", "0"))
	here.distribute("d", dist{typ: "python.python", repository: repo})
	eventually(t, "the first version", func() bool { return body() == "0" })
	here.version(repo, here.unit("f", "1"))
	eventually(t, "the second version", func() bool { return body() == "1" })

	// The connection is cut, and the change comes before there is a new one.
	cut := func() {
		here.write("", nil, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' AND pid <> pg_backend_pid()")
	}
	for i := 2; i < 4; i++ {
		cut()
		here.version(repo, here.unit("f", fmt.Sprint(i)))
		eventually(t, "the next version", func() bool { return body() == fmt.Sprint(i) })
	}
}

// Without Run, a server reads everything anew each time, and is right too.
func TestWithoutRun(t *testing.T) {
	lite(t, nil, func(t *testing.T, w *world) {
		server := content.New(content.Config{DB: w.db, Blobs: blob.Single{Store: w.blobs}, Now: time.Now, Prefix: "/pulp/content/", Types: map[string]content.Serving{"python.python": {}}})
		get := func() string {
			a := httptest.NewRecorder()
			server.ServeHTTP(a, httptest.NewRequest(http.MethodGet, "/pulp/content/d/f", http.NoBody))
			return a.Body.String()
		}
		if got := get(); !strings.HasPrefix(got, "404") {
			t.Errorf("got %q", got)
		}
		repo := w.repository()
		w.distribute("d", dist{typ: "python.python", repository: repo})
		for _, body := range []string{"0", "1"} {
			w.version(repo, w.unit("f", body))
			if got := get(); got != body {
				t.Errorf("got %q, want %q", got, body)
			}
		}
	})
}

// A change that could not be read when it was told is not forgotten.
func TestRefreshFails(t *testing.T) {
	each(t, nil, func(t *testing.T, w *world) {
		_, d := w.published("d", nil, w.unit("f", "a"))
		w.wantBody("d/f", "a")
		w.write(notice.Distribution, []pulp.ID{d}, "UPDATE core_distribution SET base_path = 'moved' WHERE id = ?", d)
		w.write("", nil, "ALTER TABLE core_distribution RENAME TO away")
		w.wantCode("moved/f", 500)
		w.wantCode("d/f", 500) // it may not be there any more
		w.write("", nil, "ALTER TABLE away RENAME TO core_distribution")
		w.wantBody("moved/f", "a")
		w.wantCode("d/f", 404)
		w.log.take()
	})
}

// countingIndex has one file and one directory, and counts how often it is asked.
type countingIndex struct {
	file  content.Entry
	calls atomic.Int64
}

func (x *countingIndex) Lookup(_ context.Context, _ content.Served, path string) (*content.Entry, error) {
	x.calls.Add(1)
	if path == "dir/f" {
		return &x.file, nil
	}
	return nil, nil
}

func (x *countingIndex) HasDir(_ context.Context, _ content.Served, dir string) (bool, error) {
	x.calls.Add(1)
	return dir == "dir/", nil
}

func (x *countingIndex) List(_ context.Context, _ content.Served, dir string) ([]content.Item, error) {
	x.calls.Add(1)
	if dir == "dir/" {
		return []content.Item{{Name: "f", Size: 10}}, nil
	}
	return nil, nil
}

// What was found once, or was not found, is not looked up again.
func TestIndexIsAskedOnce(t *testing.T) {
	index := &countingIndex{}
	lite(t, func(_ *world, c *content.Config) { c.Index = index }, func(t *testing.T, w *world) {
		a := w.artifact(ten)
		index.file = content.Entry{Artifact: a.ID, SHA256: a.SHA256(), Size: a.Size, Created: w.now()}
		w.published("d", nil)
		for path, code := range map[string]int{"d/dir/f": 200, "d/dir/": 200, "d/dir": 301, "d/": 404, "d/none": 404, "d/none/": 404} {
			w.wantCode(path, code)
			before := index.calls.Load()
			for range 3 {
				w.wantCode(path, code)
			}
			if n := index.calls.Load() - before; n != 0 {
				t.Errorf("%s: the index was asked %d times more", path, n)
			}
		}
	})
}
