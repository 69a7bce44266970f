package repository_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/repository/repositorytest"
	"granary/internal/task"
)

const uploads = "uploads/"

// upload starts an upload of some size and returns its href.
func (w *world) upload(size int) string {
	w.Helper()
	return repositorytest.Href(w.Create(uploads, body("size", size)))
}

// chunk sends a piece of an upload.
func (w *world) chunk(href string, start int, text string) {
	w.Helper()
	w.Put(href, form{"file": upload(text)}, "Content-Range", fmt.Sprintf("bytes %d-%d/*", start, start+len(text)-1))
}

// chunkFiles counts the pieces in the store.
func (w *world) chunkFiles() int {
	w.Helper()
	list, err := os.ReadDir(filepath.Join(w.Media, "upload"))
	if err != nil && !os.IsNotExist(err) {
		w.Fatal(err)
	}
	return len(list)
}

func TestUploads(t *testing.T) {
	both(t, func(w *world) {
		up := w.upload(10)
		w.chunk(up, 6, "6789")
		w.chunk(up, 0, "xxxx")
		w.chunk(up, 0, "012345") // in place of the earlier one
		want := []any{object{"offset": 0.0, "size": 6.0}, object{"offset": 6.0, "size": 4.0}}
		if diff := cmp.Diff(want, w.Get(up)["chunks"]); diff != "" {
			w.Errorf("chunks: %s", diff)
		}
		if n := w.chunkFiles(); n != 2 {
			w.Errorf("%d chunks in the store, want 2", n)
		}
		if list := w.List(uploads, "fields", "size,chunks", "size", "10"); len(list) != 1 || list[0]["chunks"] != nil {
			w.Errorf("list = %v, want sizes only", list)
		}
		const (
			noRange  = `{"non_field_errors":["Invalid or missing content range header."]}`
			badRange = `{"non_field_errors":["Chunk size does not match content range."]}`
		)
		for _, tc := range []struct {
			text, header string
			want         string
		}{
			{"ab", "", noRange},
			{"ab", "bytes 0-1", noRange},
			{"ab", "bytes a-b/*", noRange},
			{"ab", "items 0-1/2", noRange},
			{"ab", "bytes 99999999999999999999-1/2", noRange},
			{"ab", "bytes 0-2/10", badRange},
			{"ab", "bytes 2-0/10", badRange},
			{"", "bytes 5-4/10", badRange},
			{"ab", "bytes 9-10/12", `{"non_field_errors":["End byte is greater than upload size."]}`},
			{"ab", "bytes 5-6/10", `{"non_field_errors":["The chunk overlaps with the one at offset 0."]}`},
			{"abcd", "bytes 1-4/10", `{"non_field_errors":["The chunk overlaps with the one at offset 0."]}`},
			{"abcdefg", "bytes 0-6/10", `{"non_field_errors":["The chunk overlaps with the one at offset 6."]}`},
		} {
			w.Refused("PUT", up, form{"file": upload(tc.text)}, tc.want, "Content-Range", tc.header)
		}
		w.Refused("PUT", up, form{"file": upload("6789"), "sha256": sha("6788")}, `["Checksum does not match chunk upload."]`, "Content-Range", "bytes 6-9/10")
		w.Refused("PUT", up, form{"file": upload("6789"), "zzz": "1"}, `{"zzz":["Unexpected field"]}`, "Content-Range", "bytes 6-9/10")
		w.Refused("PUT", up, form{"sha256": "x"}, `{"file":["No file was submitted."]}`, "Content-Range", "bytes 6-9/10")
		if n := w.chunkFiles(); n != 2 {
			w.Errorf("%d chunks in the store after refused ones, want 2", n)
		}

		w.Refused("POST", up+"commit/", `{}`, `{"sha256":["This field is required."]}`)
		w.Fails("POST", up+"commit/", body("sha256", sha("x")), "{'non_field_errors': [ErrorDetail(string='The sha256 checksum did not match.', code='invalid')]}")
		w.Get(up) // it stays
		c := w.Run("POST", up+"commit/", body("sha256", sha("0123456789")))
		if diff := cmp.Diff([]string{"prn:core.upload:" + repositorytest.ID(up), "shared:prn:core.domain:" + w.Call.Domain.ID.String()}, c.Reserved); diff != "" {
			w.Errorf("locks: %s", diff)
		}
		w.Gone(up)
		if a := w.Get(c.Created[0]); a["sha256"] != sha("0123456789") || a["size"] != 10.0 {
			w.Errorf("artifact = %v", a)
		}
		if text, _ := w.stored(artifactKey("0123456789")); text != "0123456789" {
			w.Errorf("the store has %q", text)
		}
		if n := w.chunkFiles(); n != 0 {
			w.Errorf("%d chunks in the store after the commit", n)
		}

		again := w.upload(10)
		w.chunk(again, 0, "0123456789")
		w.Fails("POST", again+"commit/", body("sha256", sha("0123456789")),
			`{'non_field_errors': [ErrorDetail(string="Artifact with sha256 checksum of '`+sha("0123456789")+`' already exists.", code='unique')]}`)
		w.Get(again)

		gap := w.upload(10)
		w.chunk(gap, 0, "01")
		w.chunk(gap, 4, "45")
		w.Fails("POST", gap+"commit/", body("sha256", sha("x")), "{'non_field_errors': [ErrorDetail(string='The upload has a gap at byte 2.', code='invalid')]}")
		w.chunk(gap, 2, "23")
		w.Fails("POST", gap+"commit/", body("sha256", sha("012345")), "{'non_field_errors': [ErrorDetail(string='The upload has 6 of its 10 bytes.', code='invalid')]}")

		w.Do("DELETE", gap, nil)
		w.Do("DELETE", again, nil)
		w.Gone(gap, again)
		if n := w.chunkFiles(); n != 0 {
			w.Errorf("%d chunks in the store after all uploads are gone", n)
		}
		w.Refused("POST", root+uploads, body("size", -1), `{"size":["Ensure this value is greater than or equal to 0."]}`)
	})
}

func TestAbandonedUploads(t *testing.T) {
	both(t, func(w *world) {
		w.Repos.UploadAge = time.Hour
		old, touched, young := w.upload(5), w.upload(5), ""
		w.chunk(old, 0, "x")
		w.Advance(50 * time.Minute)
		w.chunk(touched, 0, "x")
		w.Advance(20 * time.Minute)
		young = w.upload(5)
		tk, err := w.Tasks.Dispatch(w.Context(), task.Spec{Name: "pulpcore.app.tasks.orphan.upload_cleanup"})
		if err != nil {
			w.Fatal(err)
		}
		done := w.Wait(tk.ID.String())
		if done.State != task.Completed || len(done.Progress) != 1 || done.Progress[0].Done != 1 || done.Progress[0].Code != "clean-up.uploads" {
			w.Errorf("task %s %s, progress %v", done.State, done.Error, done.Progress)
		}
		w.Gone(old)
		w.Get(touched)
		w.Get(young)
		if n := w.chunkFiles(); n != 1 {
			w.Errorf("%d chunks in the store, want 1", n)
		}
	})
}
