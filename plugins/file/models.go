package file

import (
	"context"

	"granary/internal/db"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
)

// pulpType is the name of each of the plugin's types within its family.
const pulpType = "file.file"

// Content is a file: one artifact at one path.
type Content struct {
	repository.Content
	repository.FileSource
	RelativePath string `api:"relative_path,req"`
	repository.FileDigests
	repository.Destination
	Digest string  `api:"-" db:"digest"` // sha256; known before the file is downloaded
	Of     pulp.ID `api:"-" db:"domain"` // the domain again, for the natural key
}

// A Remote is a PULP_MANIFEST on another server.
type Remote struct{ repository.Remote }

// A Repository holds files, one at a path.
type Repository struct {
	repository.Repository
	Autopublish bool    `api:"autopublish,def=false"`
	Manifest    *string `api:"manifest,null,def=PULP_MANIFEST"`
}

// A Publication serves a version's files and, unless Manifest is null, a manifest of them.
type Publication struct {
	repository.Publication
	Distributions []pulp.Ref `api:"distributions,ro,computed"`
	Manifest      *string    `api:"manifest,null,def=PULP_MANIFEST"`
	Checkpoint    bool       `api:"checkpoint" db:"m.checkpoint"`
}

// A Distribution serves a publication, or the newest one of a repository.
type Distribution struct {
	repository.Distribution
	Publication pulp.ID `api:"publication,null,ref=publication:file.filepublication" db:"m.publication"`
	Checkpoint  bool    `api:"checkpoint" db:"m.checkpoint"`
}

// A Source is another place for files that are known by their digests.
type Source struct{ repository.Source }

func (p *file) defineContent() (rest.Typed[Content], *repository.ContentType) {
	return repository.DefineContent(p.Repos, rest.Resource[Content]{
		App: "file", Model: "FileContent", Path: "content/file/files", PulpType: pulpType,
		Filters:  append(rest.Text("relative_path", "d.relative_path"), rest.Text("sha256", "d.digest")...),
		Ordering: []string{"digest", "relative_path"},
		Checks: map[string]func(*Content) []string{
			"relative_path": func(c *Content) []string { return repository.CheckRelativePath(c.RelativePath) },
			"file":          func(c *Content) []string { return c.CheckFile() },
		},
		Check:    func(_ context.Context, _ db.Querier, c *rest.Change[Content]) error { return c.New.CheckSource() },
		Expand:   p.expandContent,
		OnCreate: p.create, CreateInTask: p.createInTask,
		Actions: []rest.Action{{Name: "upload", Collection: true, Request: uploadInput{}, RequestSchema: "FileContentUpload", ResponseName: "FileContentUploadResponse", Handle: p.upload}},
	}, repository.ContentType{Table: "file_content", Key: []string{"relative_path", "digest"}, RepoKey: []string{"relative_path"}, Reclaim: true})
}

func (p *file) defineRemotes() rest.Typed[Remote] {
	return repository.DefineRemote(p.Repos, rest.Resource[Remote]{
		App: "file", Model: "FileRemote", Path: "remotes/file/file", PulpType: pulpType, Roles: true,
	}, func(r *Remote) *repository.Remote { return &r.Remote })
}

func (p *file) defineRepositories() (rest.Typed[Repository], *repository.RepositoryType) {
	return repository.DefineRepository(p.Repos, rest.Resource[Repository]{
		App: "file", Model: "FileRepository", Path: "repositories/file/file", PulpType: pulpType, Table: "file_repository", Roles: true,
		Checks:  map[string]func(*Repository) []string{"manifest": func(r *Repository) []string { return checkManifest(r.Manifest) }},
		Actions: []rest.Action{{Name: "sync", Request: repository.SyncInput{}, RequestSchema: "RepositorySyncURL", Task: true, Handle: p.sync}},
	}, func(r *Repository) *repository.Repository { return &r.Repository }, repository.RepositoryType{
		Contents: []string{pulpType}, Remotes: []string{"file.fileremote"}, Published: true, PathCheck: true, Completed: p.autopublish,
	})
}

func (p *file) definePublications() rest.Typed[Publication] {
	return repository.DefinePublication(p.Repos, rest.Resource[Publication]{
		App: "file", Model: "FilePublication", Path: "publications/file/file", PulpType: pulpType, Table: "file_publication", Roles: true,
		Checks: map[string]func(*Publication) []string{"manifest": func(v *Publication) []string { return checkManifest(v.Manifest) }},
		Expand: func(ctx context.Context, q db.Querier, list []*Publication) error {
			ids := make([]pulp.ID, len(list))
			for i, v := range list {
				ids[i] = v.ID
			}
			refs, err := p.Repos.DistributionsOf(ctx, q, ids)
			for _, v := range list {
				v.Distributions = refs[v.ID]
			}
			return err
		},
	}, func(v *Publication) *repository.Publication { return &v.Publication }, func(v *Publication) bool { return v.Checkpoint }, p.publishSpec)
}

func (p *file) defineDistributions() rest.Typed[Distribution] {
	return repository.DefineDistribution(p.Repos, rest.Resource[Distribution]{
		App: "file", Model: "FileDistribution", Path: "distributions/file/file", PulpType: pulpType, Roles: true,
	}, func(d *Distribution) *repository.Distribution { return &d.Distribution }, func(d *Distribution) repository.Serving {
		return repository.Serving{Publication: d.Publication, Checkpoint: d.Checkpoint}
	})
}

func (p *file) defineSources() rest.Typed[Source] {
	return repository.DefineSource(p.Repos, rest.Resource[Source]{
		App: "file", Model: "FileAlternateContentSource", Path: "acs/file/file", PulpType: pulpType, Roles: true,
	}, func(s *Source) *repository.Source { return &s.Source }, pulpType, "file.fileremote", refreshSpec)
}

func (p *file) expandContent(ctx context.Context, q db.Querier, list []*Content) error {
	byID := make(map[pulp.ID]*Content, len(list))
	ids := make([]pulp.ID, len(list))
	for i, c := range list {
		ids[i], byID[c.ID] = c.ID, c
	}
	return p.Repos.FillFiles(ctx, q, ids, func(id, artifact pulp.ID, d repository.FileDigests) {
		byID[id].Artifact, byID[id].FileDigests = artifact, d
	})
}
