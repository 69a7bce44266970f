package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/pipeline"
	"granary/internal/pipeline/pipelinetest"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/task"
)

// A pack is content of any number of files, known by a name and a number.
type pack struct {
	repository.Content
	Name   string  `api:"name,req"`
	Number int64   `api:"number"`
	Of     pulp.ID `api:"-" db:"domain"`
}

type (
	packRepository struct{ repository.Repository }
	packRemote     struct{ repository.Remote }
)

// A yard is a house with packs in it.
type yard struct {
	*pipelinetest.House
	packs   *repository.ContentType
	crates  *repository.ContentType // another type in the same repositories
	repos   rest.Typed[packRepository]
	remotes rest.Typed[packRemote]

	mu    sync.Mutex
	works map[string]func(ctx context.Context, j *task.Job) (any, error)
}

const (
	kind   = "test.sync"
	tables = `-- +goose Up
CREATE TABLE test_pack (id %[1]s PRIMARY KEY REFERENCES core_content ON DELETE CASCADE, domain %[1]s NOT NULL, name text NOT NULL, number %[2]s NOT NULL, UNIQUE (domain, name, number));
CREATE TABLE test_crate (id %[1]s PRIMARY KEY REFERENCES core_content ON DELETE CASCADE, domain %[1]s NOT NULL, name text NOT NULL, number %[2]s NOT NULL, UNIQUE (domain, name, number));
`
)

func newYard(t *testing.T, d *db.DB) *yard {
	t.Helper()
	migrations := fs.FS(fstest.MapFS{
		"sqlite/0001_test.sql":   {Data: []byte(fmt.Sprintf(tables, "BLOB", "INTEGER"))},
		"postgres/0001_test.sql": {Data: []byte(fmt.Sprintf(tables, "uuid", "bigint"))},
	})
	y := &yard{House: pipelinetest.New(t, d, nil, db.Schema{Component: "test", Files: migrations}), works: map[string]func(context.Context, *task.Job) (any, error){}}
	var packs, crates rest.Typed[pack]
	packs, y.packs = repository.DefineContent(y.House.Repos, rest.Resource[pack]{App: "test", Model: "Pack", Path: "content/test/packs", PulpType: "test.pack"},
		repository.ContentType{Table: "test_pack", Key: []string{"name", "number"}})
	crates, y.crates = repository.DefineContent(y.House.Repos, rest.Resource[pack]{App: "test", Model: "Crate", Path: "content/test/crates", PulpType: "test.crate"},
		repository.ContentType{Table: "test_crate", Key: []string{"name", "number"}})
	var rt *repository.RepositoryType
	y.repos, rt = repository.DefineRepository(y.House.Repos, rest.Resource[packRepository]{App: "test", Model: "PackRepository", Path: "repositories/test/pack", PulpType: "test.pack"},
		func(r *packRepository) *repository.Repository { return &r.Repository }, repository.RepositoryType{Contents: []string{"test.pack", "test.crate"}})
	y.remotes = repository.DefineRemote(y.House.Repos, rest.Resource[packRemote]{App: "test", Model: "PackRemote", Path: "remotes/test/pack", PulpType: "test.pack"},
		func(r *packRemote) *repository.Remote { return &r.Remote })
	y.API.Add(packs.Type, crates.Type, y.repos.Type, rt.Versions(), y.remotes.Type)
	y.Tasks.Register(task.Kind{Name: kind, Run: func(ctx context.Context, j *task.Job) (any, error) {
		var name string
		if err := j.Args(&name); err != nil {
			return nil, err
		}
		y.mu.Lock()
		work := y.works[name]
		y.mu.Unlock()
		return work(ctx, j)
	}})
	y.Start()
	return y
}

func (y *yard) repo() pulp.ID {
	return y.Insert(y.repos.Type, map[string]any{"name": pulp.NewID().String()})
}

func (y *yard) remote(t *testing.T, url string, columns ...any) *pulp.Remote {
	t.Helper()
	c := map[string]any{"name": pulp.NewID().String(), "url": url, "policy": "immediate", "max_retries": int64(1)}
	for i := 0; i < len(columns); i += 2 {
		c[columns[i].(string)] = columns[i+1]
	}
	r, err := y.House.Repos.Remote(y.Ctx, y.House.DB, y.Insert(y.remotes.Type, c))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type first = func(ctx context.Context, emit func(pipeline.Unit) error) error

// sync runs a sync as a task and returns that, with the text of its error.
func (y *yard) sync(t *testing.T, repo pulp.ID, o pipeline.Options, f first) (*task.Task, string) {
	t.Helper()
	tk := y.Wait(y.begin(repo, o, f))
	var e struct{ Description string }
	if tk.Error != nil {
		if err := json.Unmarshal(tk.Error, &e); err != nil {
			t.Fatal(err)
		}
	}
	return tk, e.Description
}

func (y *yard) begin(repo pulp.ID, o pipeline.Options, f first) pulp.ID {
	name := pulp.NewID().String()
	y.mu.Lock()
	y.works[name] = func(ctx context.Context, j *task.Job) (_ any, err error) {
		d, err := y.House.Repos.NewDraft(ctx, j, repo)
		if err != nil {
			return nil, err
		}
		s := pipeline.New(y.House.Repos, j, o)
		defer func() { err = errors.Join(err, s.Close()) }()
		_, err = s.Run(ctx, d, f)
		return nil, err
	}
	y.mu.Unlock()
	return y.Dispatch(task.Spec{Name: kind, Args: name, Exclusive: []string{pulp.RefTo(y.repos.Label, repo).PRN()}})
}

func (y *yard) mustSync(t *testing.T, repo pulp.ID, o pipeline.Options, units ...pipeline.Unit) *task.Task {
	t.Helper()
	tk, text := y.sync(t, repo, o, emitAll(units...))
	if tk.State != task.Completed {
		t.Fatalf("%s: %s", tk.State, text)
	}
	return tk
}

func emitAll(units ...pipeline.Unit) first {
	return func(_ context.Context, emit func(pipeline.Unit) error) error {
		for _, u := range units {
			if err := emit(u); err != nil {
				return err
			}
		}
		return nil
	}
}

func (y *yard) pack(name string, files ...pipeline.Artifact) pipeline.Unit {
	return pipeline.Unit{Type: y.packs, Value: &pack{Name: name}, Artifacts: files}
}

// file declares a file that an upstream has at a path.
func file(r *pulp.Remote, path, data string, urls ...string) pipeline.Artifact {
	if urls == nil {
		urls = []string{r.URL + "/" + path}
	}
	return pipeline.Artifact{RelativePath: path, URLs: urls, Size: int64(len(data)), Digests: pulp.Digests{pulp.SHA256: pipelinetest.Digest(data)}, Remote: r}
}

// holds lists what the latest version has: "name path=sha256", with 8 digits of that.
func (y *yard) holds(repo pulp.ID) []string {
	return y.Text(`SELECT p.name || COALESCE(' ' || ca.relative_path || '=' || COALESCE(substr(a.sha256, 1, 8), 'none'), '')
		FROM core_repositorycontent rc JOIN (SELECT id, name FROM test_pack UNION ALL SELECT id, name FROM test_crate) p ON p.id = rc.content
		LEFT JOIN core_contentartifact ca ON ca.content = p.id LEFT JOIN core_artifact a ON a.id = ca.artifact
		JOIN core_repository r ON r.id = rc.repository WHERE r.id = ? AND rc.added < r.next_version AND rc.removed >= r.next_version ORDER BY 1`, repo)
}

func (y *yard) wantHolds(t *testing.T, repo pulp.ID, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, y.holds(repo)); diff != "" {
		t.Errorf("content -want +got:\n%s", diff)
	}
}

func short(data string) string { return pipelinetest.Digest(data)[:8] }

func TestUnits(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		y := newYard(t, d)
		up := pipelinetest.NewUpstream(t)
		up.Put("a", "file a")
		up.Put("b", "file b")
		r := y.remote(t, up.URL)
		repo := y.repo()
		crate := y.pack("crate", file(r, "b", "file b"))
		crate.Type = y.crates
		y.mustSync(t, repo, pipeline.Options{},
			y.pack("none"), y.pack("one", file(r, "a", "file a")), y.pack("two", file(r, "a", "file a"), file(r, "b", "file b")), crate)
		y.wantHolds(t, repo, "crate b="+short("file b"), "none", "one a="+short("file a"), "two a="+short("file a"), "two b="+short("file b"))

		// A mirror of less; one unit is known to another repository only.
		other := y.repo()
		y.mustSync(t, other, pipeline.Options{}, y.pack("elsewhere"))
		y.mustSync(t, repo, pipeline.Options{Mirror: true}, y.pack("none"), y.pack("elsewhere"), y.pack("none"))
		y.wantHolds(t, repo, "elsewhere", "none")
		y.wantHolds(t, other, "elsewhere")
		if n := y.Count("SELECT count(*) FROM test_pack"); n != 4 {
			t.Errorf("%d packs, want 4", n)
		}
	})
}

func TestMirrors(t *testing.T) {
	y := newYard(t, dbtest.Open(t, dbtest.SQLite(t)))
	bad, good := pipelinetest.NewUpstream(t), pipelinetest.NewUpstream(t)
	good.Put("a", "the file")
	bad.Put("a", "another one")
	r := y.remote(t, good.URL)
	repo := y.repo()
	urls := []string{bad.URL + "/missing", bad.URL + "/a", good.URL + "/a"}
	y.mustSync(t, repo, pipeline.Options{}, y.pack("p", file(r, "a", "the file", urls...)))
	y.wantHolds(t, repo, "p a="+short("the file"))
	if bad.Requests("missing") != 1 || bad.Requests("a") != 2 || good.Requests("a") != 1 { // what is wrong is tried once more
		t.Errorf("requests %d, %d, %d", bad.Requests("missing"), bad.Requests("a"), good.Requests("a"))
	}
	if got := y.Text("SELECT url FROM core_remoteartifact"); !slices.Equal(got, urls[:1]) {
		t.Errorf("remote artifacts %v, want the first URL", got)
	}

	tk, text := y.sync(t, repo, pipeline.Options{}, emitAll(y.pack("q", file(r, "b", "nowhere", bad.URL+"/a", good.URL+"/nowhere"))))
	if want := "404, message='Not Found', url='" + good.URL + "/nowhere'"; tk.State != task.Failed || text != want {
		t.Errorf("%s %q, want the last error %q", tk.State, text, want)
	}
}

func TestDigests(t *testing.T) {
	y := newYard(t, dbtest.Open(t, dbtest.SQLite(t)))
	up := pipelinetest.NewUpstream(t)
	up.Put("a", "file a")
	r := y.remote(t, up.URL)
	digests := func(d pulp.Digests, deferred bool) pipeline.Unit {
		f := file(r, "a", "file a")
		f.Digests, f.Deferred = d, deferred
		return y.pack(fmt.Sprint(d, deferred), f)
	}
	sha512 := pulp.SHA512.New()
	sha512.Write([]byte("file a"))
	strong := fmt.Sprintf("%x", sha512.Sum(nil))
	for _, tc := range []struct {
		name     string
		digests  pulp.Digests
		deferred bool
		err      string
		requests int
	}{
		{name: "none", requests: 1},
		{name: "none, though it is stored", requests: 1},
		{name: "another than the usual", digests: pulp.Digests{pulp.SHA512: strong}},
		{name: "one of two is forbidden", digests: pulp.Digests{pulp.MD5: "00", pulp.SHA512: strong}},
		{
			name: "forbidden", digests: pulp.Digests{pulp.MD5: "00"},
			err: "Artifact contains forbidden checksum type md5. You can allow it with 'ALLOWED_CONTENT_CHECKSUMS' setting.",
		},
		{
			name: "all forbidden", digests: pulp.Digests{pulp.MD5: "00", pulp.SHA1: "11"},
			err: "Artifact contains forbidden checksum type sha1. You can allow it with 'ALLOWED_CONTENT_CHECKSUMS' setting.",
		},
		{
			name: "forbidden on demand", digests: pulp.Digests{pulp.MD5: "00"}, deferred: true,
			err: "On-demand content located at the url " + up.URL + "/a contains forbidden checksum type,thus cannot be synced." +
				"You can allow checksum type with 'ALLOWED_CONTENT_CHECKSUMS' setting.",
		},
		{name: "none on demand", deferred: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			up.Reset()
			tk, text := y.sync(t, y.repo(), pipeline.Options{}, emitAll(digests(tc.digests, tc.deferred)))
			if text != tc.err || (tk.State == task.Failed) != (tc.err != "") || up.Total() != tc.requests {
				t.Errorf("%s %q after %d requests, want %q after %d", tk.State, text, up.Total(), tc.err, tc.requests)
			}
		})
	}
}

func TestStoredUnits(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		y := newYard(t, d)
		up := pipelinetest.NewUpstream(t)
		up.Put("a", "file a")
		up.Put("b", "file b")
		r := y.remote(t, up.URL)
		repo := y.repo()
		y.mustSync(t, repo, pipeline.Options{}, y.pack("p", file(r, "a", "file a")))

		// Another file at the unit's path takes the first one's place; the unit stays the same.
		another := file(r, "b", "file b")
		another.RelativePath = "a"
		tk := y.mustSync(t, repo, pipeline.Options{}, y.pack("p", another))
		y.wantHolds(t, repo, "p a="+short("file b"))
		if tk.Resources != nil {
			t.Errorf("created %v", tk.Resources)
		}

		// A path that the unit doesn't have.
		tk, text := y.sync(t, repo, pipeline.Options{}, emitAll(y.pack("p", file(r, "b", "file b"))))
		if tk.State != task.Failed || !strings.HasPrefix(text, `No declared artifact with relative path "b" for content "<Pack (pulp_type=test.pack): pk=`) {
			t.Errorf("%s %q", tk.State, text)
		}

		// What the plugin stored itself.
		stage, err := y.Blobs.Stage(y.Ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stage.Write([]byte("made here")); err != nil {
			t.Fatal(err)
		}
		a, err := y.House.Repos.SaveArtifact(y.Ctx, stage)
		if err != nil {
			t.Fatal(err)
		}
		up.Reset()
		y.mustSync(t, repo, pipeline.Options{}, y.pack("made", pipeline.Artifact{RelativePath: "x", Size: -1, Stored: a}))
		y.wantHolds(t, repo, "made x="+short("made here"), "p a="+short("file b"))
		if up.Total() != 0 {
			t.Errorf("asked for %v", up.URIs())
		}

		tk, text = y.sync(t, repo, pipeline.Options{}, emitAll(y.pack("q", pipeline.Artifact{RelativePath: "x", Size: -1})))
		if tk.State != task.Failed || text != `"x" has no URL to download it from` {
			t.Errorf("%s %q", tk.State, text)
		}
	})
}

// TestSaved has the first stage wait for units, as plugins do whose units refer to others.
func TestSaved(t *testing.T) {
	y := newYard(t, dbtest.Open(t, dbtest.SQLite(t)))
	up := pipelinetest.NewUpstream(t)
	up.Put("a", "file a")
	r := y.remote(t, up.URL)
	repo := y.repo()
	var ids []pulp.ID
	tk, text := y.sync(t, repo, pipeline.Options{}, func(ctx context.Context, emit func(pipeline.Unit) error) error {
		for i := range 5 {
			saved := make(chan pulp.ID, 1)
			u := y.pack(fmt.Sprint("pack ", i%4), file(r, "a", "file a"))
			u.Saved = func(id pulp.ID) { saved <- id }
			if err := emit(u); err != nil {
				return err
			}
			select {
			case id := <-saved:
				ids = append(ids, id)
				if n := y.Count("SELECT count(*) FROM core_repositorycontent WHERE content = ? AND repository = ?", id, repo); n != 1 {
					t.Errorf("pack %d is in the draft %d times", i, n)
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	if tk.State != task.Completed {
		t.Fatal(text)
	}
	if len(ids) != 5 || ids[0] != ids[4] || ids[0] == ids[1] || ids[0].IsZero() {
		t.Errorf("ids %v", ids)
	}
}

// TestBounds has an upstream that answers nothing, and looks how much is taken in meanwhile.
func TestBounds(t *testing.T) {
	y := newYard(t, dbtest.Open(t, dbtest.SQLite(t)))
	up := pipelinetest.NewUpstream(t)
	const units, inFlight = 10_000, 4
	r := y.remote(t, up.URL, "download_concurrency", int64(100))
	up.Hold()
	var emitted atomic.Int64
	id := y.begin(y.repo(), pipeline.Options{MaxInFlight: inFlight}, func(_ context.Context, emit func(pipeline.Unit) error) error {
		for i := range units {
			path := fmt.Sprint("f", i)
			if err := emit(y.pack(path, file(r, path, path))); err != nil {
				return err
			}
			emitted.Add(1)
		}
		return nil
	})
	for before := int64(-1); emitted.Load() != before || up.Total() == 0; time.Sleep(200 * time.Millisecond) {
		before = emitted.Load()
	}
	if n := emitted.Load(); n > 2500 {
		t.Errorf("%d units were taken while nothing could be downloaded", n)
	}
	if n := up.Total(); n != inFlight {
		t.Errorf("%d downloads at once, want %d", n, inFlight)
	}
	if _, err := y.Tasks.Cancel(y.Ctx, id); err != nil {
		t.Fatal(err)
	}
	if tk := y.Wait(id); tk.State != task.Canceled {
		t.Errorf("%s %s", tk.State, tk.Error)
	}
}

// TestLargeUnits have more files together than may be staged.
func TestLargeUnits(t *testing.T) {
	y := newYard(t, dbtest.Open(t, dbtest.SQLite(t)))
	up := pipelinetest.NewUpstream(t)
	const units, files = 6, 250
	r := y.remote(t, up.URL)
	list := make([]pipeline.Unit, units)
	for i := range list {
		list[i] = y.pack(fmt.Sprint("pack ", i))
		for n := range files {
			path := fmt.Sprintf("%d/%d", i, n)
			up.Put(path, path)
			list[i].Artifacts = append(list[i].Artifacts, file(r, path, path))
		}
	}
	repo := y.repo()
	y.mustSync(t, repo, pipeline.Options{}, list...)
	got := y.holds(repo)
	if len(got) != units*files || slices.ContainsFunc(got, func(s string) bool { return strings.HasSuffix(s, "none") }) {
		t.Errorf("%d files, want %d", len(got), units*files)
	}
	if up.Total() != units*files {
		t.Errorf("%d requests, want %d", up.Total(), units*files)
	}
}

// TestErrorsOfTheFirstStage end all others, and are what the task tells.
func TestErrorsOfTheFirstStage(t *testing.T) {
	y := newYard(t, dbtest.Open(t, dbtest.SQLite(t)))
	up := pipelinetest.NewUpstream(t)
	up.Put("a", "file a")
	up.Hold()
	r := y.remote(t, up.URL)
	repo := y.repo()
	tk, text := y.sync(t, repo, pipeline.Options{}, func(ctx context.Context, emit func(pipeline.Unit) error) error {
		if err := emit(y.pack("p", file(r, "a", "file a"))); err != nil {
			return err
		}
		for up.Total() == 0 {
			time.Sleep(time.Millisecond)
		}
		return errors.New("the metadata is nonsense")
	})
	if tk.State != task.Failed || text != "the metadata is nonsense" {
		t.Errorf("%s %q", tk.State, text)
	}
	for _, p := range tk.Progress {
		if p.State != task.Canceled {
			t.Errorf("%s is %s", p.Code, p.State)
		}
	}
	tk, text = y.sync(t, repo, pipeline.Options{}, func(context.Context, func(pipeline.Unit) error) error { panic("oh") })
	if tk.State != task.Failed || text != "panic: oh" {
		t.Errorf("%s %q", tk.State, text)
	}
	if n := y.Count("SELECT count(*) FROM core_repositoryversion WHERE repository = ?", repo); n != 1 {
		t.Errorf("%d versions, want the first alone", n)
	}
}

// TestSaveContentAtOnce saves the same units from several sides, each in an order of its own.
func TestSaveContentAtOnce(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		y := newYard(t, d)
		const savers, units = 6, 300
		var wg sync.WaitGroup
		lists := make([][]repository.SavedContent, savers)
		for n := range savers {
			wg.Go(func() {
				list := make([]repository.NewContent, units)
				for i := range list {
					k := (i*7 + n*31) % units
					list[i] = repository.NewContent{
						Value: &pack{Name: fmt.Sprint("pack ", k/2), Number: int64(k % 2), Content: repository.Content{Labels: rest.Labels{"by": new(fmt.Sprint(n))}}},
						Files: []repository.ContentFile{{Path: fmt.Sprint("file ", k)}},
					}
				}
				var err error
				if lists[n], err = y.House.Repos.SaveContent(y.Ctx, y.packs, list); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		fresh, ids := 0, map[pulp.ID]int{}
		for _, list := range lists {
			for _, s := range list {
				ids[s.ID]++
				if s.Fresh {
					fresh++
				}
				if s.Files[0].IsZero() {
					t.Fatalf("unit %s has no file", s.ID)
				}
			}
		}
		if fresh != units || len(ids) != units {
			t.Errorf("%d units are said to be new, and there are %d ids, want %d", fresh, len(ids), units)
		}
		for _, table := range []string{"core_content", "test_pack", "core_contentartifact", "core_label"} {
			if n := y.Count("SELECT count(*) FROM " + table); n != units {
				t.Errorf("%s has %d rows, want %d", table, n, units)
			}
		}
	})
}

func TestSaveContentTwiceInOneCall(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		y := newYard(t, d)
		unit := func(number int64, paths ...string) repository.NewContent {
			c := repository.NewContent{Value: &pack{Name: "p", Number: number}}
			for _, p := range paths {
				c.Files = append(c.Files, repository.ContentFile{Path: p})
			}
			return c
		}
		got, err := y.House.Repos.SaveContent(y.Ctx, y.packs, []repository.NewContent{unit(1, "a"), unit(2), unit(1, "b", "a")})
		if err != nil {
			t.Fatal(err)
		}
		if got[0].ID != got[2].ID || got[0].ID == got[1].ID || !got[0].Fresh || !got[1].Fresh || got[2].Fresh || got[0].Files[0] != got[2].Files[1] || got[2].Files[0].IsZero() {
			t.Errorf("saved %v", got)
		}
		again, err := y.House.Repos.SaveContent(y.Ctx, y.packs, []repository.NewContent{unit(2), unit(1, "a", "c")})
		if err != nil {
			t.Fatal(err)
		}
		if again[0].ID != got[1].ID || again[1].ID != got[0].ID || again[0].Fresh || again[1].Fresh || again[1].Files[0] != got[0].Files[0] || !again[1].Files[1].IsZero() {
			t.Errorf("saved again %v", again)
		}
		if none, err := y.House.Repos.SaveContent(y.Ctx, y.packs, nil); err != nil || len(none) != 0 {
			t.Errorf("saving nothing gives %v, %v", none, err)
		}
	})
}

// TestSaveContentTouches makes units that are met again young, so that orphan cleanup spares them.
func TestSaveContentTouches(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		y := newYard(t, d)
		unit := []repository.NewContent{{Value: &pack{Name: "p"}}}
		saved, err := y.House.Repos.SaveContent(y.Ctx, y.packs, unit)
		if err != nil {
			t.Fatal(err)
		}
		err = d.Update(y.Ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(y.Ctx, "UPDATE core_content SET timestamp_of_interest = 1")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		again, err := y.House.Repos.SaveContent(y.Ctx, y.packs, []repository.NewContent{{Value: &pack{Name: "p"}}})
		if err != nil || again[0].ID != saved[0].ID {
			t.Fatalf("%v, %v", again, err)
		}
		if n := y.Count("SELECT timestamp_of_interest FROM core_content"); time.Since(time.UnixMicro(n)) > time.Minute {
			t.Errorf("the unit was last touched at %s", time.UnixMicro(n))
		}
	})
}
