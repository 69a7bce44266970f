package repository_test

import (
	"context"
	"fmt"
	"testing"

	"granary/internal/db"
	"granary/internal/db/dbtest"
	"granary/internal/plugin"
	"granary/internal/pulp"
	"granary/internal/repository/repositorytest"
	"granary/internal/task"
	"granary/plugins/file"
)

type (
	object = repositorytest.Object
	form   = repositorytest.Form
	upload = repositorytest.File
)

const (
	root          = repositorytest.Root
	contents      = "content/file/files/"
	repositories  = "repositories/file/file/"
	remotes       = "remotes/file/file/"
	publications  = "publications/file/file/"
	distributions = "distributions/file/file/"
	sources       = "acs/file/file/"
)

// A world is a server with the file plugin and another, and the shorthands of these tests.
type world struct {
	*repositorytest.World
	stuck func(j *task.Job) error // what the task stuckTask does
}

const stuckTask = "test.stuck"

// both runs a test on both engines.
func both(t *testing.T, f func(w *world)) {
	t.Helper()
	t.Parallel() // they wait for the disk
	dbtest.Run(t, func(t *testing.T, d *db.DB) { f(newWorld(t, d)) })
}

// lite is both for what does not depend on the engine: it runs on SQLite alone.
func lite(t *testing.T, f func(w *world)) {
	t.Helper()
	t.Parallel()
	f(newWorld(t, dbtest.Open(t, dbtest.SQLite(t))))
}

// twoProcesses runs a test on both engines, on PostgreSQL with two processes of one server.
func twoProcesses(t *testing.T, f func(w [2]*world)) {
	t.Helper()
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		w := newWorld(t, dbtest.Open(t, dbtest.SQLite(t)))
		f([2]*world{w, w})
	})
	t.Run("postgres", func(t *testing.T) {
		cfg := dbtest.Postgres(t)
		w := newWorld(t, dbtest.Open(t, cfg))
		f([2]*world{w, {World: w.Another(dbtest.Open(t, cfg), w.Allowed, file.Plugin(), otherPlugin())}})
	})
}

func newWorld(t testing.TB, d *db.DB) *world {
	t.Helper()
	w := &world{}
	w.World = repositorytest.New(t, d, file.Plugin(), otherPlugin(), w.stuckPlugin())
	return w
}

// stuckPlugin has a task that does what a test wants.
func (w *world) stuckPlugin() plugin.Plugin {
	run := func(_ context.Context, j *task.Job) (any, error) { return nil, w.stuck(j) }
	return plugin.Plugin{Name: "stuck", Version: "1.0.0", New: func(plugin.Host) plugin.Parts {
		return plugin.Parts{Tasks: []task.Kind{{Name: stuckTask, Run: run}}}
	}}
}

// unit makes a unit of some text at a path and returns its href.
func (w *world) unit(path, text string) string {
	w.Helper()
	return repositorytest.Href(w.Create(contents+"upload/", form{"relative_path": path, "file": upload(text)}))
}

// units makes units at the paths, each with a text of its own.
func (w *world) units(paths ...string) []string {
	w.Helper()
	list := make([]string, len(paths))
	for i, p := range paths {
		list[i] = w.unit(p, "text of "+p)
	}
	return list
}

// repository makes a repository and returns its href; fields are names and values.
func (w *world) repository(name string, fields ...any) string {
	w.Helper()
	return repositorytest.Href(w.Create(repositories, body(append(fields, "name", name)...)))
}

// body makes an object of names and values.
func body(fields ...any) object {
	o := object{}
	for i := 0; i+1 < len(fields); i += 2 {
		o[fields[i].(string)] = fields[i+1]
	}
	return o
}

// modify changes a repository and returns the new version's href, empty if there is none.
func (w *world) modify(repo string, add, remove []string, fields ...any) string {
	w.Helper()
	b := body(fields...)
	if add != nil {
		b["add_content_units"] = add
	}
	if remove != nil {
		b["remove_content_units"] = remove
	}
	t := w.Run("POST", repo+"modify/", b)
	if len(t.Created) == 0 {
		return ""
	}
	return t.Created[0]
}

// version is the href of a repository's version.
func version(repo string, number int) string { return fmt.Sprintf("%sversions/%d/", repo, number) }

// idOf is the id in an href.
func idOf(w *world, href string) pulp.ID {
	w.Helper()
	id, err := pulp.ParseID(repositorytest.ID(href))
	if err != nil {
		w.Fatal(err)
	}
	return id
}

// undownloaded makes many units at once, whose files are not here, and returns their hrefs.
func (w *world) undownloaded(n int, path func(i int) string) []string {
	w.Helper()
	hrefs := make([]string, n)
	for from := 0; from < n; from += 10_000 {
		var units, details, files [][]any
		for i := from; i < min(n, from+10_000); i++ {
			id := pulp.NewID()
			hrefs[i] = root + contents + id.String() + "/"
			units = append(units, []any{id, w.Call.Domain.ID, w.Repos.Now.Now(), 1, "file.file", w.Repos.Now.Now()})
			details = append(details, []any{id, w.Call.Domain.ID, path(i), sha(path(i))})
			files = append(files, []any{pulp.NewID(), id, path(i)})
		}
		err := w.DB.Update(w.Context(), func(tx *db.Tx) error {
			for _, t := range []struct {
				name    string
				columns []string
				rows    [][]any
			}{
				{"core_content", []string{"id", "domain", "created", "updated", "pulp_type", "timestamp_of_interest"}, units},
				{"file_content", []string{"id", "domain", "relative_path", "digest"}, details},
				{"core_contentartifact", []string{"id", "content", "relative_path"}, files},
			} {
				if _, err := tx.Insert(w.Context(), t.name, t.columns, t.rows, ""); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			w.Fatal(err)
		}
	}
	return hrefs
}
