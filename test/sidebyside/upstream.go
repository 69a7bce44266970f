package sidebyside

import (
	"net/http"
	"os"
	"path"
	"strings"
)

// upstream plays the remote: it serves the scenario's files below upstream/ and the fixtures, and below /never/ it
// lets its clients wait.
func (x *Session) upstream(w http.ResponseWriter, r *http.Request) {
	if name, ok := strings.CutPrefix(r.URL.Path, "/fixtures/"); ok && x.runner.Fixtures != "" {
		http.ServeFileFS(w, r, os.DirFS(x.runner.Fixtures), path.Clean(name))
		return
	}
	if strings.HasPrefix(r.URL.Path, "/never/") {
		select {
		case <-r.Context().Done():
		case <-x.over:
		}
		panic(http.ErrAbortHandler) // an empty answer would be an empty manifest
	}
	data, ok := x.files["upstream"+r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(data)
}
