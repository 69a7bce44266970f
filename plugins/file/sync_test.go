package file

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/pipeline/pipelinetest"
	"granary/internal/plugin"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/settings"
	"granary/internal/task"
)

// A syncHouse is a house with this plugin in it.
type syncHouse struct {
	*pipelinetest.House
	*file
	tb testing.TB
}

func newSyncHouse(tb testing.TB, d *db.DB, imports ...string) *syncHouse {
	tb.Helper()
	p := Plugin()
	h := &syncHouse{House: pipelinetest.New(tb, d, imports, p.Schema), tb: tb}
	h.file = newFile(plugin.Host{
		DB: h.House.DB, API: h.House.API, Tasks: h.House.Tasks, Repos: h.House.Repos, Blobs: blob.Single{Store: h.House.Blobs}, Log: h.House.Log, Now: h.House.Now,
		Settings: &settings.Settings{MaxConcurrentContent: 25},
	})
	parts := h.parts()
	h.House.API.Add(parts.Types...)
	h.House.Tasks.Register(parts.Tasks...)
	h.Start()
	return h
}

// in is the house for a subtest.
func (h *syncHouse) in(tb testing.TB) *syncHouse {
	return &syncHouse{h.House.In(tb), h.file, tb}
}

func (h *syncHouse) repo(columns ...string) pulp.ID {
	h.tb.Helper()
	c := map[string]any{"name": pulp.NewID().String()}
	for _, name := range columns {
		c[name] = true
	}
	return h.Insert(h.repositories.Type, c)
}

func (h *syncHouse) remote(url string, policy pulp.Policy) pulp.ID {
	h.tb.Helper()
	return h.Insert(h.remotes.Type, map[string]any{"name": pulp.NewID().String(), "url": url, "policy": string(policy)})
}

func (h *syncHouse) spec(args syncArgs) task.Spec {
	return task.Spec{
		Name: taskSync, Args: args,
		Exclusive: []string{pulp.RefTo(h.repositories.Label, args.Repository).PRN()}, Shared: []string{pulp.RefTo(h.remotes.Label, args.Remote).PRN()},
	}
}

// sync syncs and returns the task, which must have ended as completed unless that is said.
func (h *syncHouse) syncNow(args syncArgs, want ...task.State) *task.Task {
	h.tb.Helper()
	t := h.Wait(h.Dispatch(h.spec(args)))
	if want = append(want, task.Completed); t.State != want[0] {
		h.tb.Fatalf("the sync ended %s: %s; want %s", t.State, t.Error, want[0])
	}
	return t
}

func (h *syncHouse) setURL(remote pulp.ID, url string, policy pulp.Policy) {
	h.tb.Helper()
	err := h.House.DB.Update(h.Ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(h.Ctx, "UPDATE core_remote SET url = ?, policy = ? WHERE id = ?", url, string(policy), remote)
		return err
	})
	if err != nil {
		h.tb.Fatal(err)
	}
}

// paths lists the files of the latest version: "path digest", with "-" before those that are not downloaded.
func (h *syncHouse) latest(repo pulp.ID) (number int64, files []string) {
	h.tb.Helper()
	v, err := h.House.Repos.Latest(h.Ctx, h.House.DB, repo)
	if err != nil {
		h.tb.Fatal(err)
	}
	return v.Number, h.Text(`SELECT CASE WHEN ca.artifact IS NULL THEN '-' ELSE '' END || ca.relative_path
		FROM core_repositorycontent rc JOIN core_contentartifact ca ON ca.content = rc.content
		WHERE rc.repository = ? AND rc.added <= ? AND rc.removed > ? ORDER BY ca.relative_path`, repo, v.Number, v.Number)
}

func (h *syncHouse) wantLatest(repo pulp.ID, number int64, files ...string) {
	h.tb.Helper()
	gotNumber, got := h.latest(repo)
	if diff := cmp.Diff(files, got); gotNumber != number || diff != "" {
		h.tb.Errorf("version %d, want %d; files -want +got:\n%s", gotNumber, number, diff)
	}
	if n := h.Count("SELECT count(*) FROM core_repositoryversion WHERE NOT complete"); n != 0 {
		h.tb.Errorf("%d unfinished versions are left", n)
	}
}

func (h *syncHouse) wantProgress(t *task.Task, want ...string) {
	h.tb.Helper()
	var got []string
	for _, r := range t.Progress {
		total := "-"
		if r.Total != nil {
			total = fmt.Sprint(*r.Total)
		}
		got = append(got, fmt.Sprintf("%s %s %d/%s %s", r.Code, r.State, r.Done, total, r.Message))
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		h.tb.Errorf("progress -want +got:\n%s", diff)
	}
}

func (h *syncHouse) wantError(t *task.Task, want string) {
	h.tb.Helper()
	var e struct{ Description string }
	if err := json.Unmarshal(t.Error, &e); err != nil {
		h.tb.Fatalf("error %s: %v", t.Error, err)
	}
	if e.Description != want {
		h.tb.Errorf("error %q, want %q", e.Description, want)
	}
}

// TestSync runs what can share a server.
func TestSync(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		h := newSyncHouse(t, d)
		for name, test := range map[string]func(*testing.T, *syncHouse){
			"policies":                    testSyncPolicies,
			"change of policy":            testSyncChangeOfPolicy,
			"another source":              testSyncAnotherSource,
			"mirror":                      testSyncMirror,
			"failures":                    testSyncFailures,
			"one missing file among many": testSyncOneMissingFileAmongMany,
			"duplicates":                  testSyncDuplicates,
			"refreshes remote artifacts":  testSyncRefreshesRemoteArtifacts,
			"from alternate source":       testSyncFromAlternateSource,
			"two at once":                 testSyncTwoAtOnce,
			"canceled":                    testSyncCanceled,
		} {
			t.Run(name, func(t *testing.T) { test(t, h.in(t)) })
		}
	})
}

func testSyncPolicies(t *testing.T, h *syncHouse) {
	for _, policy := range []pulp.Policy{pulp.Immediate, pulp.OnDemand, pulp.Streamed} {
		t.Run(string(policy), func(t *testing.T) {
			h := h.in(t)
			up := pipelinetest.NewUpstream(t)
			dir := string(policy)
			url := up.Manifest(dir, "1.iso", "one "+dir, "sub/2.iso", "two "+dir, "3.iso", "three "+dir)
			repo, remote := h.repo(), h.remote(url, policy)

			tk := h.syncNow(syncArgs{Repository: repo, Remote: remote})
			want, downloads := []string{"-1.iso", "-3.iso", "-sub/2.iso"}, 0
			if policy == pulp.Immediate {
				want, downloads = []string{"1.iso", "3.iso", "sub/2.iso"}, 3
			}
			h.wantLatest(repo, 1, want...)
			h.wantProgress(tk,
				"associating.content completed 3/- Associating Content",
				fmt.Sprintf("sync.downloading.artifacts completed %d/- Downloading Artifacts", downloads),
				"sync.downloading.metadata completed 1/- Downloading Metadata",
				"sync.parsing.metadata completed 3/3 Parsing Metadata Lines",
			)
			if got := up.Total(); got != downloads+1 {
				t.Errorf("%d requests, want %d", got, downloads+1)
			}
			if len(tk.Resources) != 1 || tk.Resources[0].Type != "core.repositoryversion" || !strings.Contains(string(tk.Result), `"number":1`) {
				t.Errorf("created %v, result %s", tk.Resources, tk.Result)
			}
			origins := h.Text(`SELECT ra.url || ' ' || ra.sha256 || ' ' || CAST(ra.size AS text) FROM core_remoteartifact ra WHERE ra.remote = ? ORDER BY ra.url`, remote)
			if diff := cmp.Diff([]string{
				fmt.Sprintf("%s/%s/1.iso %s %d", up.URL, dir, pipelinetest.Digest("one "+dir), len("one "+dir)),
				fmt.Sprintf("%s/%s/3.iso %s %d", up.URL, dir, pipelinetest.Digest("three "+dir), len("three "+dir)),
				fmt.Sprintf("%s/%s/sub/2.iso %s %d", up.URL, dir, pipelinetest.Digest("two "+dir), len("two "+dir)),
			}, origins); diff != "" {
				t.Errorf("remote artifacts -want +got:\n%s", diff)
			}

			up.Reset()
			tk = h.syncNow(syncArgs{Repository: repo, Remote: remote})
			h.wantLatest(repo, 1, want...)
			h.wantProgress(tk,
				"associating.content completed 0/- Associating Content",
				"sync.downloading.artifacts completed 0/- Downloading Artifacts",
				"sync.downloading.metadata completed 1/- Downloading Metadata",
				"sync.parsing.metadata completed 3/3 Parsing Metadata Lines",
			)
			if tk.Resources != nil || tk.Result != nil || up.Total() != 1 {
				t.Errorf("a sync of nothing new created %v, has result %s, made %d requests", tk.Resources, tk.Result, up.Total())
			}
		})
	}
}

func testSyncChangeOfPolicy(t *testing.T, h *syncHouse) {
	up := pipelinetest.NewUpstream(t)
	url := up.Manifest("up", "a", "later a", "b", "later b")
	repo, remote := h.repo(), h.remote(url, pulp.OnDemand)
	h.syncNow(syncArgs{Repository: repo, Remote: remote})
	h.wantLatest(repo, 1, "-a", "-b")

	h.setURL(remote, url, pulp.Immediate)
	tk := h.syncNow(syncArgs{Repository: repo, Remote: remote})
	h.wantLatest(repo, 1, "a", "b") // though there is no new version
	h.wantProgress(tk,
		"associating.content completed 0/- Associating Content",
		"sync.downloading.artifacts completed 2/- Downloading Artifacts",
		"sync.downloading.metadata completed 1/- Downloading Metadata",
		"sync.parsing.metadata completed 2/2 Parsing Metadata Lines",
	)

	h.setURL(remote, url, pulp.OnDemand)
	h.syncNow(syncArgs{Repository: repo, Remote: remote})
	h.wantLatest(repo, 1, "a", "b")

	// A file that is stored is used under another path too, whatever the policy is.
	other := h.repo()
	h.syncNow(syncArgs{Repository: other, Remote: h.remote(up.Manifest("other", "c", "later a"), pulp.OnDemand)})
	h.wantLatest(other, 1, "c")
}

func testSyncAnotherSource(t *testing.T, h *syncHouse) {
	up := pipelinetest.NewUpstream(t)
	one := up.Manifest("one", "a", "a1", "b", "b1", "c", "c1")
	two := up.Manifest("two", "a", "a2", "b", "b2", "c", "c2")
	three := up.Manifest("three", "d", "d3")
	repo, remote := h.repo(), h.remote(one, pulp.Immediate)
	h.syncNow(syncArgs{Repository: repo, Remote: remote})
	h.setURL(remote, two, pulp.Immediate)
	h.syncNow(syncArgs{Repository: repo, Remote: remote})
	h.wantLatest(repo, 2, "a", "b", "c")
	counts := h.Text("SELECT kind || ' ' || CAST(count AS text) FROM core_versioncount vc JOIN core_repositoryversion v ON v.id = vc.version WHERE v.repository = ? AND v.number = 2 ORDER BY kind", repo)
	if diff := cmp.Diff([]string{"added 3", "present 3", "removed 3"}, counts); diff != "" {
		t.Errorf("counts -want +got:\n%s", diff)
	}

	h.setURL(remote, three, pulp.Immediate)
	h.syncNow(syncArgs{Repository: repo, Remote: remote})
	h.wantLatest(repo, 3, "a", "b", "c", "d")
	tk := h.syncNow(syncArgs{Repository: repo, Remote: remote, Mirror: true})
	h.wantLatest(repo, 4, "d")
	h.wantProgress(tk,
		"associating.content completed 0/- Associating Content",
		"sync.downloading.artifacts completed 0/- Downloading Artifacts",
		"sync.downloading.metadata completed 1/- Downloading Metadata",
		"sync.parsing.metadata completed 1/1 Parsing Metadata Lines",
		"unassociating.content completed 3/- Un-Associating Content",
	)
}

func testSyncMirror(t *testing.T, h *syncHouse) {
	up := pipelinetest.NewUpstream(t)
	up.Manifest("up", "a", "mirrored", "b", "bb")
	text := "# as it is\n\n  a , " + strings.ToUpper(pipelinetest.Digest("mirrored")) + ",8\r\n"
	up.Put("up/list.csv", text)
	repo, remote := h.repo("autopublish"), h.remote(up.URL+"/up/list.csv?key=1", pulp.Immediate)
	tk := h.syncNow(syncArgs{Repository: repo, Remote: remote, Mirror: true})
	h.wantLatest(repo, 1, "a")
	var types []string
	for _, r := range tk.Resources {
		types = append(types, r.Type)
	}
	// first the version, then what autopublish made, then the mirror's own
	if diff := cmp.Diff([]string{"core.repositoryversion", "file.filepublication", "file.filepublication"}, types); diff != "" {
		t.Fatalf("created resources -want +got:\n%s", diff)
	}
	v, err := h.publications.Get(h.Ctx, h.House.DB, tk.Resources[2].ID())
	if err != nil {
		t.Fatal(err)
	}
	if !v.Complete || !v.PassThrough || v.Manifest == nil || *v.Manifest != "list.csv" {
		t.Errorf("publication %+v", v)
	}
	sha := h.Text("SELECT a.sha256 FROM core_publishedartifact pa JOIN core_artifact a ON a.id = pa.artifact WHERE pa.publication = ? AND pa.relative_path = 'list.csv'", v.ID)
	if diff := cmp.Diff([]string{pipelinetest.Digest(text)}, sha); diff != "" {
		t.Errorf("the published manifest is another one: -want +got:\n%s", diff)
	}

	tk = h.syncNow(syncArgs{Repository: repo, Remote: remote, Mirror: true})
	if tk.Resources != nil || tk.Result != nil {
		t.Errorf("a mirror of nothing new created %v", tk.Resources)
	}

	up.Put("up/list.csv", "")
	h.syncNow(syncArgs{Repository: repo, Remote: remote}) // adds nothing
	h.wantLatest(repo, 1, "a")
	h.syncNow(syncArgs{Repository: repo, Remote: remote, Mirror: true})
	h.wantLatest(repo, 2)
}

func testSyncFailures(t *testing.T, h *syncHouse) {
	parse := func(line int) string {
		return fmt.Sprintf("Error: Parsing of the manifest file failed on line:%d.\nPlease make sure the remote URL is pointing to a valid manifest file.\n"+
			"The manifest file should be composed of lines in the following format: <relative_path>,<digest>,<size>.", line)
	}
	entry := func(path, data string, size int) string {
		return fmt.Sprintf("%s,%s,%d\n", path, pipelinetest.Digest(data), size)
	}
	const (
		metadata    = "sync.downloading.metadata completed 1/- Downloading Metadata"
		noArtifacts = "sync.downloading.artifacts canceled 0/- Downloading Artifacts"
		noContent   = "associating.content canceled 0/- Associating Content"
	)
	for _, tc := range []struct {
		name     string
		manifest string // none if empty
		policy   pulp.Policy
		err      string // with the upstream's URL as {}
		progress []string
	}{
		{
			name: "no manifest", err: "404, message='Not Found', url='{}/PULP_MANIFEST'",
			progress: []string{noContent, noArtifacts, "sync.downloading.metadata failed 0/- Downloading Metadata"},
		},
		{
			name: "bad line", manifest: entry("fine", "fine", 4) + "what,is this\n", err: parse(2),
			progress: []string{noContent, noArtifacts, metadata, "sync.parsing.metadata failed 0/- Parsing Metadata Lines"},
		},
		{
			name: "html", manifest: "<html>\n", err: parse(1),
			progress: []string{noContent, noArtifacts, metadata, "sync.parsing.metadata failed 0/- Parsing Metadata Lines"},
		},
		{
			name: "path that leads upwards", manifest: entry("../up", "fine", 4), err: parse(1),
			progress: []string{noContent, noArtifacts, metadata, "sync.parsing.metadata failed 0/- Parsing Metadata Lines"},
		},
		{
			name: "no file", manifest: entry("gone", "gone", 4), err: "404, message='Not Found', url='{}/gone'",
			progress: []string{noContent, "sync.downloading.artifacts failed 0/- Downloading Artifacts", metadata, "sync.parsing.metadata completed 1/1 Parsing Metadata Lines"},
		},
		{
			name: "wrong size", manifest: entry("sized", "sized", 77), err: "A file located at the url {}/sized failed validation due to size. Expected '77', Actual '5'",
			progress: []string{noContent, "sync.downloading.artifacts failed 0/- Downloading Artifacts", metadata, "sync.parsing.metadata completed 1/1 Parsing Metadata Lines"},
		},
		{
			name: "wrong digest", manifest: entry("fine", "other", 4),
			err:      "A file located at the url {}/fine failed validation due to checksum. Expected '" + pipelinetest.Digest("other") + "', Actual '" + pipelinetest.Digest("fine") + "'",
			progress: []string{noContent, "sync.downloading.artifacts failed 0/- Downloading Artifacts", metadata, "sync.parsing.metadata completed 1/1 Parsing Metadata Lines"},
		},
		{
			name: "path twice", manifest: entry("a", "one", 3) + entry("a", "two", 3), policy: pulp.OnDemand,
			err: "Cannot create repository version. More than one file.file content with the duplicate values for relative_path.",
			progress: []string{
				"associating.content completed 2/- Associating Content", "sync.downloading.artifacts completed 0/- Downloading Artifacts",
				metadata, "sync.parsing.metadata completed 2/2 Parsing Metadata Lines",
			},
		},
		{
			name: "overlap", manifest: entry("a", "one", 3) + entry("a/b", "two", 3), policy: pulp.OnDemand,
			err: "Repository version errors : Path errors found. \nThe path for file 'a/b' overlaps: a",
			progress: []string{
				"associating.content completed 2/- Associating Content", "sync.downloading.artifacts completed 0/- Downloading Artifacts",
				metadata, "sync.parsing.metadata completed 2/2 Parsing Metadata Lines",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := h.in(t)
			up := pipelinetest.NewUpstream(t)
			up.Put("fine", "fine")
			up.Put("sized", "sized")
			if tc.manifest != "" {
				up.Put("PULP_MANIFEST", tc.manifest)
			}
			if tc.policy == "" {
				tc.policy = pulp.Immediate
			}
			repo := h.repo()
			tk := h.syncNow(syncArgs{Repository: repo, Remote: h.remote(up.URL+"/PULP_MANIFEST", tc.policy), Mirror: tc.policy == pulp.Immediate}, task.Failed)
			h.wantError(tk, strings.ReplaceAll(tc.err, "{}", up.URL))
			h.wantProgress(tk, tc.progress...)
			h.wantLatest(repo, 0)
			if tk.Resources != nil {
				t.Errorf("created %v", tk.Resources)
			}
		})
	}
}

func testSyncOneMissingFileAmongMany(t *testing.T, h *syncHouse) {
	up := pipelinetest.NewUpstream(t)
	url := up.Many("missing", 300, 100)
	up.Remove("missing/002/00250.bin")
	repo, remote := h.repo(), h.remote(url, pulp.Immediate)
	tk := h.syncNow(syncArgs{Repository: repo, Remote: remote}, task.Failed)
	h.wantError(tk, "404, message='Not Found', url='"+up.URL+"/missing/002/00250.bin'")
	h.wantLatest(repo, 0)
	for _, r := range tk.Progress {
		if want := map[string]task.State{"sync.downloading.artifacts": task.Failed, "associating.content": task.Canceled}[r.Code]; want != "" && r.State != want {
			t.Errorf("%s is %s, want %s", r.Code, r.State, want)
		}
	}

	up.Many("missing", 300, 100)
	h.syncNow(syncArgs{Repository: repo, Remote: remote})
	if number, files := h.latest(repo); number != 1 || len(files) != 300 {
		t.Errorf("version %d has %d files", number, len(files))
	}
}

func TestSyncRetries(t *testing.T) {
	h := newSyncHouse(t, dbtest.Open(t, dbtest.SQLite(t)))
	up := pipelinetest.NewUpstream(t)
	url := up.Manifest("bad", "1", strings.Repeat("one", 1000), "2", strings.Repeat("two", 1000), "3", strings.Repeat("three", 1000))
	for _, path := range []string{"bad/1", "bad/2", "bad/3"} {
		up.Fail(path, pipelinetest.Half, pipelinetest.Flip, pipelinetest.Busy)
	}
	up.Fail("bad/PULP_MANIFEST", pipelinetest.Broken)
	repo := h.repo()
	h.syncNow(syncArgs{Repository: repo, Remote: h.remote(url, pulp.Immediate)})
	h.wantLatest(repo, 1, "1", "2", "3")
	for path, want := range map[string]int{"bad/1": 4, "bad/2": 4, "bad/3": 4, "bad/PULP_MANIFEST": 2} {
		if got := up.Requests(path); got != want {
			t.Errorf("%d requests for %s, want %d", got, path, want)
		}
	}
}

func testSyncDuplicates(t *testing.T, h *syncHouse) {
	up := pipelinetest.NewUpstream(t)
	url := up.Manifest("up", "a", "twice", "a", "twice", "b", "twice")
	repo := h.repo()
	tk := h.syncNow(syncArgs{Repository: repo, Remote: h.remote(url, pulp.Immediate)})
	h.wantLatest(repo, 1, "a", "b")
	if got := h.Count("SELECT count(*) FROM core_artifact WHERE sha256 = ?", pipelinetest.Digest("twice")); got != 1 {
		t.Errorf("%d artifacts, want 1", got)
	}
	for _, r := range tk.Progress {
		if r.Code == "associating.content" && r.Done != 2 {
			t.Errorf("%d units associated, want 2", r.Done)
		}
	}
}

func TestSyncWrongSizeOfStoredFile(t *testing.T) {
	h := newSyncHouse(t, dbtest.Open(t, dbtest.SQLite(t)))
	up := pipelinetest.NewUpstream(t)
	h.syncNow(syncArgs{Repository: h.repo(), Remote: h.remote(up.Manifest("up", "a", "aa"), pulp.Immediate)})
	up.Put("up/PULP_MANIFEST", "b,"+pipelinetest.Digest("aa")+",999\n")
	repo := h.repo()
	h.syncNow(syncArgs{Repository: repo, Remote: h.remote(up.URL+"/up/PULP_MANIFEST", pulp.Immediate)})
	h.wantLatest(repo, 1, "b")
	if n := h.Count("SELECT size FROM core_remoteartifact WHERE url = ?", up.URL+"/up/b"); n != 2 {
		t.Errorf("the remote artifact's size is %d, though the file is known to have 2 bytes", n)
	}
}

func testSyncRefreshesRemoteArtifacts(t *testing.T, h *syncHouse) {
	up := pipelinetest.NewUpstream(t)
	repo, remote := h.repo(), h.remote(up.Manifest("old", "a", "moved"), pulp.OnDemand)
	h.syncNow(syncArgs{Repository: repo, Remote: remote})
	err := h.House.DB.Update(h.Ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(h.Ctx, "UPDATE core_remoteartifact SET failed_at = 1, size = 77, md5 = 'forgotten' WHERE remote = ?", remote)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	h.setURL(remote, up.Manifest("new", "a", "moved"), pulp.OnDemand)
	h.syncNow(syncArgs{Repository: repo, Remote: remote})
	h.wantLatest(repo, 1, "-a")
	got := h.Text("SELECT url || ' ' || CAST(size AS text) || ' ' || COALESCE(CAST(failed_at AS text), 'fine') || ' ' || sha256 || COALESCE(md5, '') FROM core_remoteartifact WHERE remote = ?", remote)
	if diff := cmp.Diff([]string{up.URL + "/new/a 5 fine " + pipelinetest.Digest("moved")}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func testSyncFromAlternateSource(t *testing.T, h *syncHouse) {
	main, alt := pipelinetest.NewUpstream(t), pipelinetest.NewUpstream(t)
	url := main.Manifest("main", "a", "aaaa", "b", "bbbb", "c", "cccc")
	alt.Manifest("alt/x", "elsewhere/a", "aaaa")
	alt.Manifest("alt/y", "b", "bbbb")
	altRemote := h.remote(alt.URL+"/alt/", pulp.OnDemand)
	source := &Source{repository.Source{Name: "alt", Remote: altRemote, Paths: []string{"x/PULP_MANIFEST", "y/PULP_MANIFEST"}}}
	err := h.House.DB.Update(h.Ctx, func(tx *db.Tx) error { return h.sources.Insert(h.Ctx, tx, source) })
	if err != nil {
		t.Fatal(err)
	}
	var hidden []pulp.ID
	for _, path := range source.Paths { // what a refresh does
		repo := h.repo("user_hidden")
		hidden = append(hidden, repo)
		err := h.House.DB.Update(h.Ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(h.Ctx, "UPDATE core_acspath SET repository = ? WHERE acs = ? AND path = ?", repo, source.ID, path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		spec := refreshSpec(repository.Refresh{Repository: repo, Remote: altRemote, URL: alt.URL + "/alt/" + path})
		tk := h.Wait(h.Dispatch(spec))
		if tk.State != task.Completed || tk.Resources != nil {
			t.Fatalf("refresh of %s: %s %s, created %v", path, tk.State, tk.Error, tk.Resources)
		}
	}
	h.wantLatest(hidden[0], 1, "-elsewhere/a")
	if alt.Total() != 2 || alt.Requests("alt/x/PULP_MANIFEST") != 1 {
		t.Errorf("refreshing asked for %v", alt.URIs())
	}
	if h.Count("SELECT count(*) FROM core_acs WHERE last_refreshed IS NOT NULL") != 1 {
		t.Error("the source doesn't know that it was refreshed")
	}

	// On demand: both sources are known, the alternate one under its own remote.
	lazy, lazyRemote := h.repo(), h.remote(url, pulp.OnDemand)
	h.syncNow(syncArgs{Repository: lazy, Remote: lazyRemote})
	got := h.Text(`SELECT ra.url || CASE WHEN ra.remote = ? THEN ' alternate' ELSE ' own' END FROM core_remoteartifact ra JOIN core_contentartifact ca ON ca.id = ra.content_artifact
		WHERE ra.remote IN (?, ?) AND ca.relative_path IN ('a', 'b', 'c') ORDER BY ra.url`, altRemote, altRemote, lazyRemote)
	want := []string{
		alt.URL + "/alt/x/elsewhere/a alternate", alt.URL + "/alt/y/b alternate", main.URL + "/main/a own", main.URL + "/main/b own", main.URL + "/main/c own",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("remote artifacts -want +got:\n%s", diff)
	}

	// Immediate: what the alternate source has comes from there; a copy that is damaged for good, from the main server.
	alt.Reset()
	main.Reset()
	alt.Fail("alt/y/b", pipelinetest.Flip, pipelinetest.Flip, pipelinetest.Flip, pipelinetest.Flip)
	repo := h.repo()
	tk := h.syncNow(syncArgs{Repository: repo, Remote: h.remote(url, pulp.Immediate)})
	h.wantLatest(repo, 1, "a", "b", "c")
	gotRequests := map[string]int{
		"alt/x/elsewhere/a": alt.Requests("alt/x/elsewhere/a"), "alt/y/b": alt.Requests("alt/y/b"),
		"main/a": main.Requests("main/a"), "main/b": main.Requests("main/b"), "main/c": main.Requests("main/c"), "all": main.Total() + alt.Total(),
	}
	wantRequests := map[string]int{"alt/x/elsewhere/a": 1, "alt/y/b": 4, "main/a": 0, "main/b": 1, "main/c": 1, "all": 8}
	if diff := cmp.Diff(wantRequests, gotRequests); diff != "" {
		t.Errorf("requests -want +got:\n%s", diff)
	}
	for _, r := range tk.Progress {
		if r.Code == "sync.downloading.artifacts" && r.Done != 3 {
			t.Errorf("%d artifacts downloaded, want 3", r.Done)
		}
	}
}

func testSyncTwoAtOnce(t *testing.T, h *syncHouse) {
	up := pipelinetest.NewUpstream(t)
	const files, syncs = 400, 4
	url := up.Many("two", files, 64)
	tables := map[string]int64{"file_content": files, "core_content": files, "core_artifact": files, "core_contentartifact": files, "core_remoteartifact": 2 * files}
	before := map[string]int64{}
	for table := range tables {
		before[table] = h.Count("SELECT count(*) FROM " + table)
	}
	var ids, repos []pulp.ID
	remote := h.remote(url, pulp.Immediate)
	for i := range syncs {
		repos = append(repos, h.repo())
		r := remote
		if i == syncs-1 {
			r = h.remote(url, pulp.OnDemand)
		}
		ids = append(ids, h.Dispatch(h.spec(syncArgs{Repository: repos[i], Remote: r})))
	}
	for i, id := range ids {
		if tk := h.Wait(id); tk.State != task.Completed {
			t.Fatalf("sync %d: %s %s", i, tk.State, tk.Error)
		}
		if number, list := h.latest(repos[i]); number != 1 || len(list) != files || strings.HasPrefix(list[0], "-") {
			t.Errorf("repository %d: version %d with %d files, the first is %s", i, number, len(list), list[0])
		}
	}
	for table, want := range tables {
		if got := h.Count("SELECT count(*) FROM "+table) - before[table]; got != want {
			t.Errorf("%s has %d rows more, want %d", table, got, want)
		}
	}
}

func testSyncCanceled(t *testing.T, h *syncHouse) {
	up := pipelinetest.NewUpstream(t)
	url := up.Many("canceled", 200, 64)
	repo, remote := h.repo(), h.remote(url, pulp.Immediate)
	up.Hold()
	id := h.Dispatch(h.spec(syncArgs{Repository: repo, Remote: remote}))
	for up.Total() < 5 { // it is in the middle of its downloads
		time.Sleep(5 * time.Millisecond)
	}
	start := time.Now()
	if _, err := h.House.Tasks.Cancel(h.Ctx, id); err != nil {
		t.Fatal(err)
	}
	tk := h.Wait(id)
	if took := time.Since(start); tk.State != task.Canceled || took > 5*time.Second {
		t.Errorf("%s after %s", tk.State, took)
	}
	up.Release()
	h.wantLatest(repo, 0)
	h.wantProgress(tk,
		"associating.content canceled 0/- Associating Content",
		"sync.downloading.artifacts canceled 0/- Downloading Artifacts",
		"sync.downloading.metadata completed 1/- Downloading Metadata",
		"sync.parsing.metadata completed 200/200 Parsing Metadata Lines",
	)
	if tk.Resources != nil {
		t.Errorf("created %v", tk.Resources)
	}

	h.syncNow(syncArgs{Repository: repo, Remote: remote})
	if number, files := h.latest(repo); number != 1 || len(files) != 200 {
		t.Errorf("the next sync made version %d with %d files", number, len(files))
	}
}

// TestSyncWhileOrphansAreRemoved has orphan cleanup, told to spare nothing, again and again take away what the sync is about to use.
func TestSyncWhileOrphansAreRemoved(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, d *db.DB) {
		h := newSyncHouse(t, d)
		up := pipelinetest.NewUpstream(t)
		const files = 600
		url := up.Many("many", files, 64)
		remote := h.remote(url, pulp.Immediate)
		never := int64(0)
		for range 3 {
			repo := h.repo()
			id := h.Dispatch(h.spec(syncArgs{Repository: repo, Remote: remote}))
			for done, pause := false, 20*time.Millisecond; !done; pause *= 2 {
				h.Wait(h.Dispatch(repository.OrphanCleanup(h.Ctx, nil, &never)))
				tk, err := task.One(h.Ctx, h.House.DB, id)
				if err != nil {
					t.Fatal(err)
				}
				done = tk.State.Final()
				time.Sleep(pause)
			}
			if tk := h.Wait(id); tk.State != task.Completed {
				t.Fatalf("%s %s", tk.State, tk.Error)
			}
			if number, list := h.latest(repo); number != 1 || len(list) != files || strings.HasPrefix(list[0], "-") {
				t.Errorf("version %d with %d files", number, len(list))
			}
			for _, sha := range h.Text("SELECT a.sha256 FROM core_artifact a JOIN core_contentartifact ca ON ca.artifact = a.id") {
				if _, err := h.House.Blobs.Stat(h.Ctx, "artifact/"+sha[:2]+"/"+sha[2:]); err != nil {
					t.Error(err)
				}
			}
			err := h.House.DB.Update(h.Ctx, func(tx *db.Tx) error { // all is an orphan again
				if _, err := tx.Exec(h.Ctx, "DELETE FROM core_repositorycontent"); err != nil {
					return err
				}
				_, err := tx.Exec(h.Ctx, "DELETE FROM core_repository")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestSyncLocalFiles(t *testing.T) {
	dir := t.TempDir()
	names := []string{"plain", "with space", "100%", "a#b", "a?b", "ü", "sub/x;y&z"}
	var list strings.Builder
	for _, name := range names {
		path := filepath.Join(dir, "d%20r", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&list, "%s,%s,%d\n", name, pipelinetest.Digest(name), len(name))
	}
	if err := os.WriteFile(filepath.Join(dir, "d%20r", "LIST"), []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	h := newSyncHouse(t, dbtest.Open(t, dbtest.SQLite(t)), dir)
	repo := h.repo()
	h.syncNow(syncArgs{Repository: repo, Remote: h.remote("file://"+dir+"/d%20r/LIST", pulp.Immediate)})
	slices.Sort(names)
	h.wantLatest(repo, 1, names...)
	for _, name := range names { // the source is as it was
		if b, err := os.ReadFile(filepath.Join(dir, "d%20r", name)); err != nil || string(b) != name {
			t.Errorf("%s holds %q: %v", name, b, err)
		}
	}
}

func TestSyncStoresWhatWasSent(t *testing.T) {
	h := newSyncHouse(t, dbtest.Open(t, dbtest.SQLite(t)))
	up := pipelinetest.NewUpstream(t)
	h.syncNow(syncArgs{Repository: h.repo(), Remote: h.remote(up.Manifest("up", "a", "text of a", "empty", ""), pulp.Immediate)})
	for _, want := range []string{"text of a", ""} {
		sha := pipelinetest.Digest(want)
		f, err := h.House.Blobs.Open(h.Ctx, "artifact/"+sha[:2]+"/"+sha[2:])
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err != nil || string(got) != want {
			t.Errorf("stored %q, %v", got, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestFileURLs(t *testing.T) {
	for _, tc := range []struct{ manifest, path, want string }{
		{"https://h/pub/PULP_MANIFEST?sig=1", "iso/a,b.iso", "https://h/pub/iso/a%2Cb.iso?sig=1"},
		{"https://h/pub/PULP_MANIFEST?sig=1", "zero", "https://h/pub/zero?sig=1"},
		{"http://h/my%20dir/PULP_MANIFEST", "a b", "http://h/my%20dir/a%20b"},
		{"http://h/a b/PULP_MANIFEST", "c", "http://h/a b/c"}, // what the downloader makes of it is its own matter
		{"http://h/PM", "a#b?c%d", "http://h/a%23b%3Fc%25d"},
		{"http://h/PM", "@$!'()[];&\\^*", "http://h/%40%24%21%27%28%29%5B%5D%3B%26%5C%5E%2A"},
		{"http://h/PM", "a%3ab:c/d", "http://h/a%253ab:c/d"},
		{"http://h/PM", "ü+=~-_.", "http://h/%C3%BC%2B%3D~-_."},
		{"http://h/PM?x=/y/z", "a", "http://h/a?x=/y/z"},
		{"http://h/PM#part", "a", "http://h/a"},
		{"http://h/d/", "a", "http://h/d/a"},
		{"http://h", "a", "http://h/a"},
		{"http://h?x", "a", "http://h/a?x"},
		{"file:///d%20/x?y/PM#1", "a b%#?", "file:///d%20/x?y/a b%#?"},
		{"FILE:///PM", "a", "FILE:///a"},
	} {
		if got := newBaseURL(tc.manifest).of(tc.path); got != tc.want {
			t.Errorf("%s beside %s is %s, want %s", tc.path, tc.manifest, got, tc.want)
		}
	}
}

func TestManifestName(t *testing.T) {
	for url, want := range map[string]string{
		"https://h/pub/PULP_MANIFEST": "PULP_MANIFEST", "https://h/pub/list.csv?sig=a/b#c": "list.csv", "https://h/my%20list": "my%20list",
		"https://h/dir/": "PULP_MANIFEST", "https://h": "PULP_MANIFEST", "https://h/..": "PULP_MANIFEST", "file:///d/a#b?c": "a#b?c",
	} {
		if got := manifestName(url); got != want {
			t.Errorf("the manifest at %s is called %s, want %s", url, got, want)
		}
	}
}
