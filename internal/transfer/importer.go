package transfer

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/task"
)

// An Importer reads exports into repositories.
type Importer struct {
	rest.Base
	Name    string            `api:"name,req,unique"`
	Mapping map[string]string `api:"repo_mapping,computed"` // what the export calls a repository, and what it is called here
}

// An Import is one export that was read, or should have been.
type Import struct {
	rest.Global
	Task     pulp.ID        `api:"task,req,out,ref=core.task"`
	Params   map[string]any `api:"params,req,out"`
	Importer pulp.ID        `api:"-" db:"importer"`
}

type importInput struct {
	Path   string `api:"path"`
	TOC    string `api:"toc"`
	Create bool   `api:"create_repositories,def=false"`
}

func (s *Service) defineImporters() {
	s.importers = rest.Define(rest.Resource[Importer]{
		App: core, Model: "PulpImporter", Path: "importers/core/pulp", Table: "core_importer", PulpType: pulpExporters,
		Create: rest.Now, Update: rest.Now, Delete: rest.Now,
		Filters:  rest.Text("name", "m.name", rest.NameLookups...),
		Ordering: []string{"name", "pk", "pulp_created", "pulp_id", "pulp_last_updated", "pulp_type"},
		Check:    s.checkMapping, Saved: s.saveMapping, Expand: s.expandMapping,
	})
	s.imports = rest.Define(rest.Resource[Import]{
		App: core, Model: "PulpImport", Schema: "Import", HrefName: "pulp_pulp_import_href", Path: "imports", Table: "core_import", Parent: s.importers.Type, ParentCol: "importer",
		Family: &rest.Family{
			Name: "import", Table: "core_import", Identify: "SELECT id, '" + pulpExporters + "', importer, 0 FROM core_import WHERE id",
		},
		Delete: rest.Now, NoTypeFilters: true, Order: "m.created, m.id",
		Actions: []rest.Action{{Name: "create", Collection: true, Request: importInput{}, RequestSchema: "PulpImport", Group: true, Handle: s.startImport}},
	})
}

// targets finds the repositories that a mapping names.
func targets(ctx context.Context, q db.Querier, mapping map[string]string) (map[string]pulp.ID, error) {
	names := slices.Compact(slices.Sorted(maps.Values(mapping)))
	ids := map[string]pulp.ID{}
	marks, args := db.In(names)
	err := db.Each(ctx, q, func(rows *sql.Rows) error {
		var name string
		var id pulp.ID
		err := rows.Scan(&name, &id)
		ids[name] = id
		return err
	}, "SELECT name, id FROM core_repository WHERE domain = ? AND NOT user_hidden AND name IN "+marks, append([]any{pulp.CallOf(ctx).Domain.ID}, args...)...)
	return ids, err
}

func (s *Service) checkMapping(ctx context.Context, q db.Querier, c *rest.Change[Importer]) error {
	if !c.Set["repo_mapping"] {
		return nil
	}
	ids, err := targets(ctx, q, c.New.Mapping)
	if err != nil {
		return err
	}
	var missing []string
	for _, source := range slices.Sorted(maps.Keys(c.New.Mapping)) {
		if name := c.New.Mapping[source]; ids[name].IsZero() {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return errs.List("Failed to find repositories from repo_mapping: names: ['" + strings.Join(missing, "', '") + "']")
	}
	return nil
}

func (s *Service) saveMapping(ctx context.Context, tx *db.Tx, c *rest.Change[Importer]) error {
	if !c.Set["repo_mapping"] {
		return nil
	}
	if _, err := tx.Exec(ctx, "DELETE FROM core_importerrepository WHERE importer = ?", c.New.ID); err != nil {
		return err
	}
	ids, err := targets(ctx, tx, c.New.Mapping)
	if err != nil {
		return err
	}
	var rows [][]any
	for source, name := range c.New.Mapping {
		rows = append(rows, []any{c.New.ID, source, ids[name]})
	}
	_, err = tx.Insert(ctx, "core_importerrepository", []string{"importer", "source", "repository"}, rows, "")
	return err
}

func (s *Service) expandMapping(ctx context.Context, q db.Querier, list []*Importer) error {
	ids := make([]pulp.ID, len(list))
	byID := make(map[pulp.ID]*Importer, len(list))
	for i, v := range list {
		ids[i], byID[v.ID], v.Mapping = v.ID, v, map[string]string{}
	}
	marks, args := db.In(ids)
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var id pulp.ID
		var source, name string
		err := rows.Scan(&id, &source, &name)
		byID[id].Mapping[source] = name
		return err
	}, "SELECT x.importer, x.source, r.name FROM core_importerrepository x JOIN core_repository r ON r.id = x.repository WHERE x.importer IN "+marks, args...)
}

// importArgs are what an import's task needs to know.
type importArgs struct {
	Importer pulp.ID           `json:"importer"`
	Path     string            `json:"path,omitempty"`
	TOC      string            `json:"toc,omitempty"`
	Create   bool              `json:"create,omitempty"`
	Mapping  map[string]string `json:"mapping,omitempty"`
}

func (s *Service) startImport(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	id, _ := pulp.ParseID(r.Parent) // the URL has been checked
	list, err := s.importers.Select(ctx, s.DB, "m.id = ? AND m.domain = ?", id, pulp.CallOf(ctx).Domain.ID)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errs.NotFoundModel(s.importers.Model)
	}
	importer := list[0]
	if err := s.expandMapping(ctx, s.DB, list); err != nil {
		return nil, err
	}
	var in importInput
	if err := r.DecodeLax(&in); err != nil {
		return nil, err
	}
	bad := map[string]any{}
	for name, path := range map[string]string{"path": in.Path, "toc": in.TOC} {
		if path != "" && !allowed(path, s.ImportPaths) {
			bad[name] = []string{name + " '" + path + "' is not an allowed import path"}
		}
	}
	switch {
	case len(bad) > 0:
		return nil, &errs.Error{Kind: errs.Invalid, Fields: bad}
	case in.Path == "" && in.TOC == "":
		return nil, errs.NonFieldError("One of 'path' or 'toc' must be specified.")
	case in.Path != "" && in.TOC != "":
		return nil, errs.NonFieldError("Only one of 'path' and 'toc' may be specified.")
	case in.Create && len(importer.Mapping) > 0:
		return nil, errs.NonFieldError("The option 'create_repositories' is not compatible with 'repo_mapping'.")
	}
	group, err := s.Tasks.NewGroup(ctx, "Import of "+cmp.Or(in.Path, in.TOC))
	if err != nil {
		return nil, err
	}
	_, err = s.Tasks.Dispatch(ctx, task.Spec{
		Name: taskImport, Args: importArgs{Importer: id, Path: in.Path, TOC: in.TOC, Create: in.Create, Mapping: importer.Mapping},
		Exclusive: []string{s.importers.Ref(importer).PRN()}, Group: group,
	})
	if err != nil {
		return nil, err
	}
	return s.API.AcceptedGroup(ctx, group)
}

// An evaluation says what is wrong with one parameter of an import.
type evaluation struct {
	Context  string   `api:"context,req"`
	IsValid  bool     `api:"is_valid,req"`
	Messages []string `api:"messages,req"`
}

type checkInput struct {
	Path    string `api:"path"`
	TOC     string `api:"toc"`
	Mapping string `api:"repo_mapping"`
}

type checkOutput struct {
	Path    *evaluation `api:"path,schema=Evaluation"`
	TOC     *evaluation `api:"toc,schema=Evaluation"`
	Mapping *evaluation `api:"repo_mapping,schema=Evaluation"`
}

// Endpoint returns the part of the API that looks at the parameters of an import before it is asked for.
func (s *Service) Endpoint() *rest.Endpoint {
	return &rest.Endpoint{App: core, Path: "importers/core/pulp/import-check/", Tag: "Importers: Pulp Import-Check", Actions: []rest.Action{{
		Request: checkInput{}, RequestSchema: "PulpImportCheck", Response: checkOutput{}, ResponseName: "PulpImportCheckResponse",
		OperationID: "pulp_import_check_post", Status: http.StatusOK, Handle: s.checkImport,
	}}}
}

func (s *Service) checkImport(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var in checkInput
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	if in.Path == "" && in.TOC == "" && in.Mapping == "" {
		return nil, errs.NonFieldError("One of 'path', 'toc', or 'repo_mapping' must be specified.")
	}
	type result struct {
		Context  string   `json:"context"`
		IsValid  bool     `json:"is_valid"`
		Messages []string `json:"messages"`
	}
	out := map[string]result{}
	tell := func(name, value string, messages []string) {
		if value != "" {
			out[name] = result{value, len(messages) == 0, append([]string{}, messages...)}
		}
	}
	tell("path", in.Path, s.judgeFile(in.Path))
	tell("toc", in.TOC, s.judgeFile(in.TOC))
	var invalid []string
	if !json.Valid([]byte(in.Mapping)) {
		invalid = []string{"invalid JSON"}
	}
	tell("repo_mapping", in.Mapping, invalid)
	body, err := json.Marshal(out)
	return rest.OK(body), err
}

// judgeFile says what speaks against reading an export from a file.
func (s *Service) judgeFile(path string) []string {
	dir := filepath.Dir(resolve(path))
	if !allowed(path, s.ImportPaths) {
		if !filepath.IsAbs(path) {
			dir = filepath.Dir(path)
		}
		return []string{dir + " is not an allowed import path"}
	}
	var messages []string
	info, err := os.Stat(path)
	switch {
	case err != nil:
		messages = append(messages, "file "+path+" does not exist")
	case !info.Mode().IsRegular():
		messages = append(messages, path+" is not a file")
	case unix.Access(path, unix.R_OK) != nil:
		messages = append(messages, path+" exists but cannot be read")
	}
	if err == nil && unix.Access(dir, unix.W_OK) != nil {
		messages = append(messages, "directory "+dir+" must allow pulp write-access")
	}
	return messages
}

// repositoryByName finds a repository of the call's domain; nil where there is none.
func (s *Service) repositoryByName(ctx context.Context, q db.Querier, name string) (*repository.Repository, error) {
	id, err := db.Value[pulp.ID](ctx, q, "SELECT id FROM core_repository WHERE domain = ? AND name = ? AND NOT user_hidden", pulp.CallOf(ctx).Domain.ID, name)
	if errs.Is(err, errs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return s.Repos.Repository(ctx, q, id)
}
