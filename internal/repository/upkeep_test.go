package repository_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/pulp"
	"granary/internal/repository/repositorytest"
	"granary/internal/task"
)

// progress gives a task's reports as "code done/total".
func progress(t *repositorytest.Task) []string {
	var list []string
	for _, r := range t.Progress {
		total := "-"
		if r.Total != nil {
			total = fmt.Sprint(*r.Total)
		}
		list = append(list, fmt.Sprintf("%s %d/%s", r.Code, r.Done, total))
	}
	return list
}

// orphans cleans up, and says how much was to go.
func (w *world) orphans(content, artifacts int, fields ...any) {
	w.Helper()
	t := w.Run("POST", root+"orphans/cleanup/", body(fields...))
	want := []string{fmt.Sprintf("clean-up.content %d/%d", content, content), fmt.Sprintf("clean-up.artifacts %d/%d", artifacts, artifacts)}
	if diff := cmp.Diff(want, progress(t)); diff != "" {
		w.Errorf("cleanup of orphans: %s", diff)
	}
	lock := "pdrn:" + w.Call.Domain.ID.String() + ":orphans"
	if !slices.Contains(t.Reserved, lock) {
		w.Errorf("locks %v, want %s among them", t.Reserved, lock)
	}
}

func TestOrphans(t *testing.T) {
	both(t, func(w *world) {
		repo := w.repository("r")
		u := w.units("used", "was used", "orphan", "labelled")
		w.modify(repo, u[:2], nil)
		w.modify(repo, nil, u[1:2])
		w.publication("repository", repo)
		w.Create(artifacts, form{"file": upload("bare")})
		w.Create(strings.TrimPrefix(u[3], root)+"set_label/", body("key", "k", "value", "v"))

		w.orphans(0, 0) // all is younger than a day
		w.orphans(0, 0, "orphan_protection_time", 1)
		if got := w.Names("pulp_href", contents, "orphaned_for", "0", "ordering", "relative_path"); !slices.Equal(got, []string{u[3], u[2]}) {
			w.Errorf("orphaned_for=0 gives %v", got)
		}
		if got := w.Names("pulp_href", contents, "orphaned_for", "-1"); len(got) != 0 {
			w.Errorf("orphaned_for=-1 gives %v", got)
		}
		if got := w.Names("sha256", artifacts, "orphaned_for", "0"); !slices.Equal(got, []string{sha("bare")}) {
			w.Errorf("artifacts with orphaned_for=0: %v", got)
		}
		w.Refused("GET", root+contents+"?orphaned_for=x", nil, `{"orphaned_for":["Enter a number."]}`)
		w.Advance(90 * time.Minute)
		w.unit("labelled", "text of labelled") // met again
		w.orphans(1, 2, "orphan_protection_time", 60)
		w.Gone(u[2])
		if got := w.Names("relative_path", contents, "ordering", "relative_path"); !slices.Equal(got, []string{"labelled", "used", "was used"}) {
			w.Errorf("units %q", got)
		}
		if _, there := w.stored(artifactKey("text of orphan")); there {
			w.Error("the orphan's file is still there")
		}
		w.Advance(24 * time.Hour)
		w.orphans(1, 1)
		w.Gone(u[3])
		var labels int
		if err := w.DB.QueryRow(w.Context(), "SELECT count(*) FROM core_label").Scan(&labels); err != nil || labels != 0 {
			w.Errorf("%d labels of what is gone, %v", labels, err)
		}
		// what a version of any repository has stays, and what is published
		w.Run("DELETE", version(repo, 1), nil)
		w.Run("DELETE", version(repo, 0), nil)
		w.orphans(1, 1)
		w.Gone(u[1])
		w.Get(u[0])
		w.Run("DELETE", repo, nil)
		w.orphans(1, 2) // with the manifest
		if got := w.List(artifacts); len(got) != 0 {
			w.Errorf("artifacts are left: %v", got)
		}
	})
}

func TestOrphansThatAreNamed(t *testing.T) {
	both(t, func(w *world) {
		repo := w.repository("r")
		u := w.units("a", "b", "used")
		w.modify(repo, u[2:], nil)
		w.Create(artifacts, form{"file": upload("bare")})
		w.orphans(1, 2, "content_hrefs", []string{u[0], u[2]}, "orphan_protection_time", 0) // all old artifacts, whoever they belonged to
		w.Gone(u[0])
		w.Get(u[1])
		w.Get(u[2])
		missing := root + contents + "00000000-0000-0000-0000-000000000000/"
		for want, b := range map[string]object{
			`{"content_hrefs":["Must not be []."]}`:                                                 body("content_hrefs", []string{}),
			`{"content_hrefs":["URI ` + missing + ` not found for content."]}`:                      body("content_hrefs", []string{missing}),
			`{"content_hrefs":["URI not valid: zz"]}`:                                               body("content_hrefs", []string{"zz"}),
			`{"orphan_protection_time":["A valid integer is required."]}`:                           body("orphan_protection_time", "x"),
			`{"orphan_protection_time":["Ensure this value is greater than or equal to 0."]}`:       body("orphan_protection_time", -1),
			`{"orphan_protection_time":["Ensure this value is less than or equal to 4294967295."]}`: body("orphan_protection_time", 4294967296),
		} {
			w.Refused("POST", root+"orphans/cleanup/", b, want)
		}
		w.orphans(0, 0, "orphan_protection_time", 4294967295, "zzz", 1)
		w.orphans(0, 0, "orphan_protection_time", nil)
		w.Advance(25 * time.Hour)
		if t := w.Run("DELETE", root+"orphans/", nil); !slices.Contains(progress(t), "clean-up.content 1/1") {
			w.Errorf("DELETE orphans/: %v", progress(t))
		}
		w.Gone(u[1])
	})
}

func TestStrayFiles(t *testing.T) {
	both(t, func(w *world) {
		put := func(key, text string) {
			w.Helper()
			path := filepath.Join(w.Media, key)
			if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
				w.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				w.Fatal(err)
			}
		}
		w.unit("a", "known")
		up := w.upload(5)
		w.chunk(up, 0, "xy")
		put(artifactKey("stray"), "stray")
		put("artifact/"+pulp.NewID().String()+"/"+sha("of another domain")[:2]+"/"+sha("of another domain")[2:], "x")
		put("artifact/readme", "x")
		chunk := "upload/" + pulp.NewID().String()
		put(chunk, "x")
		put("upload/readme", "x")
		w.orphans(0, 0)
		var left []string
		err := filepath.WalkDir(w.Media, func(path string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				rel, _ := filepath.Rel(w.Media, path)
				left = append(left, rel)
			}
			return err
		})
		if err != nil {
			w.Fatal(err)
		}
		if len(left) != 5 || slices.Contains(left, artifactKey("stray")) || slices.Contains(left, chunk) {
			w.Errorf("left are %q", left)
		}
		w.Put(up, form{"file": upload("z12")}, "Content-Range", "bytes 2-4/5")
		w.Run("POST", up+"commit/", body("sha256", sha("xyz12")))
	})
}

func TestScheduledCleanupIsForAllDomains(t *testing.T) {
	both(t, func(w *world) {
		other := pulp.Domain{ID: pulp.NewID(), Name: "other"}
		w.exec("INSERT INTO core_domain (id, created, updated, name, storage_class, storage_settings, redirect_to_object_storage, hide_guarded_distributions) VALUES (?, 1, 1, 'other', '', '', ?, ?)", other.ID, false, false)
		here := w.Call.Domain
		a := w.unit("a", "x")
		w.Call.Domain = other
		b := w.unit("b", "x")
		foreign := "artifact/" + other.ID.String() + "/" + sha("x")[:2] + "/" + sha("x")[2:]
		if _, there := w.stored(foreign); !there {
			w.Error("the other domain's file is not where it should be")
		}
		w.Call.Domain = here
		w.Advance(25 * time.Hour)
		tk, err := w.Tasks.Dispatch(w.Context(), task.Spec{Name: "pulpcore.app.tasks.orphan.orphan_cleanup"}) // as the schedule does
		if err != nil {
			w.Fatal(err)
		}
		if diff := cmp.Diff([]string{"clean-up.content 2/2", "clean-up.artifacts 2/2"}, progress(w.Wait(tk.ID.String()))); diff != "" {
			w.Error(diff)
		}
		w.Gone(a)
		w.Call.Domain = other
		w.Gone(b)
		w.Call.Domain = here
		if _, there := w.stored(foreign); there {
			w.Error("the other domain's file is still there")
		}
	})
}

// TestUploadsWhileOrphansGo stores the same few files again and again while another process removes all that is not used: a file
// that a row tells of is there.
func TestUploadsWhileOrphansGo(t *testing.T) {
	twoProcesses(t, func(worlds [2]*world) {
		w, cleaner := worlds[0], worlds[1]
		done := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if t := cleaner.Try("POST", root+"orphans/cleanup/", body("orphan_protection_time", 0)); !t.Done() {
					w.Errorf("cleanup: %s", t.Failure)
					return
				}
			}
		})
		var uploads sync.WaitGroup
		for i := range 3 {
			uploads.Go(func() {
				for n := range 25 {
					text := fmt.Sprint("text ", (n+i)%3)
					if status, answer := w.Do("POST", root+artifacts, form{"file": upload(text)}); status != 201 && !strings.Contains(answer, "already exists") {
						w.Errorf("upload: %d %s", status, answer)
					}
				}
			})
		}
		uploads.Wait()
		close(done)
		wg.Wait()
		for _, a := range w.List(artifacts) {
			if _, there := w.stored(a["file"].(string)); !there {
				w.Errorf("artifact %v has no file", a["sha256"])
			}
		}
		// what is there can be used
		for n := range 3 {
			w.unit("p", fmt.Sprint("text ", n))
		}
		for _, a := range w.List(artifacts) {
			if _, there := w.stored(a["file"].(string)); !there {
				w.Errorf("artifact %v has no file", a["sha256"])
			}
		}
	})
}

func TestRepair(t *testing.T) {
	both(t, func(w *world) {
		m := newMirror(w)
		m.list("/LIST", "fine", "missing", "damaged", "longer")
		repo := w.repository("r")
		w.Run("POST", repo+"sync/", body("remote", w.remote("remote", m.URL+"/LIST")))
		w.modify(repo, []string{w.unit("hopeless", "hopeless"), w.unit("lost", "lost")}, nil)
		key := func(name string) string { return artifactKey("file " + name) }
		harm := func() {
			w.damage(key("missing"), "")
			w.damage(key("damaged"), "elif damaged")
			w.damage(key("longer"), "file longer than it was")
		}
		harm()
		w.damage(artifactKey("hopeless"), "helpless")
		w.damage(artifactKey("lost"), "")
		whole := func() {
			w.Helper()
			for _, n := range []string{"fine", "missing", "damaged", "longer"} {
				if text, _ := w.stored(key(n)); text != "file "+n {
					w.Errorf("%s holds %q", n, text)
				}
			}
		}
		repair := func(path string, b any, missing, corrupted, repaired int) *repositorytest.Task {
			w.Helper()
			t := w.Run("POST", path, b)
			want := []string{fmt.Sprintf("repair.missing %d/-", missing), fmt.Sprintf("repair.corrupted %d/-", corrupted), fmt.Sprintf("repair.repaired %d/-", repaired)}
			if diff := cmp.Diff(want, progress(t)); diff != "" {
				w.Errorf("repair %s %v: %s", path, b, diff)
			}
			return t
		}
		// an empty version is not the whole domain
		repair(version(repo, 0)+"repair/", nil, 0, 0, 0)
		t := repair(version(repo, 1)+"repair/", body("verify_checksums", false), 1, 0, 1)
		if !slices.Contains(t.Reserved, "shared:prn:file.filerepository:"+repositorytest.ID(repo)) {
			w.Errorf("locks %v", t.Reserved)
		}
		if text, _ := w.stored(key("damaged")); text != "elif damaged" {
			w.Error("a file was verified though it should not be")
		}
		repair(version(repo, 1)+"repair/", nil, 0, 2, 2)
		whole()
		repair(version(repo, 1)+"repair/", body(), 0, 0, 0) // nothing is left to do
		harm()
		t = repair(root+"repair/", body("zzz", 1), 2, 3, 3)
		if !slices.Contains(t.Reserved, "pdrn:"+w.Call.Domain.ID.String()+":repair") {
			w.Errorf("locks %v", t.Reserved)
		}
		whole()
		if _, there := w.stored(artifactKey("hopeless")); there {
			w.Error("a damaged file that nobody has is still there")
		}
		repair(root+"repair/", nil, 2, 0, 0)
		// without its source a damaged file is given up; the others of the version are not
		m.mu.Lock()
		delete(m.files, "/damaged")
		m.mu.Unlock()
		harm()
		repair(version(repo, 2)+"repair/", nil, 3, 2, 2)
		if _, there := w.stored(key("damaged")); there {
			w.Error("a damaged file that its source does not have any more is still there")
		}
		w.Refused("POST", version(repo, 1)+"repair/", body("verify_checksums", "x"), `{"verify_checksums":["Must be a valid boolean."]}`)
		if status, _ := w.Do("POST", version(repo, 9)+"repair/", body()); status != 404 {
			w.Errorf("repair of a missing version = %d", status)
		}
	})
}
