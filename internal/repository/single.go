package repository

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"slices"
	"strings"

	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

// A FileSource is where a new unit of a type with one file gets it from: exactly one of these. Embed it in the type's struct.
type FileSource struct {
	Artifact pulp.ID    `api:"artifact,ref=core.artifact" db:"-"`
	File     *rest.File `api:"file,wo" db:"-"`
	Upload   pulp.ID    `api:"upload,wo,ref=core.upload" db:"-"`
	FileURL  string     `api:"file_url,wo" db:"-"`
}

// A Destination is the repository that a new unit is added to at once, if any. Embed it in the type's struct.
type Destination struct {
	Repository pulp.ID `api:"repository,wo,ref=repository" db:"-"`
}

// FileDigests are the digests of a unit's file, as answers show them; null while it is not downloaded.
type FileDigests struct {
	MD5    *string `api:"md5,ro" db:"-"`
	SHA1   *string `api:"sha1,ro" db:"-"`
	SHA224 *string `api:"sha224,ro" db:"-"`
	SHA256 *string `api:"sha256,ro" db:"-"`
	SHA384 *string `api:"sha384,ro" db:"-"`
	SHA512 *string `api:"sha512,ro" db:"-"`
}

// CheckSource says whether exactly one source is given.
func (f *FileSource) CheckSource() error {
	n := 0
	for _, given := range []bool{f.File != nil, !f.Upload.IsZero(), f.FileURL != "", !f.Artifact.IsZero()} {
		if given {
			n++
		}
	}
	if n != 1 {
		return errs.NonFieldError("Exactly one of file, upload, file_url, artifact must be specified.")
	}
	return nil
}

// CheckFile says what is wrong with an uploaded file. As Pulp does: an empty one cannot be uploaded as content, but an artifact that
// is empty can be content.
func (f *FileSource) CheckFile() []string {
	if f.File != nil && f.File.Stage.Size() == 0 {
		return []string{"The submitted file is empty."}
	}
	return nil
}

// CheckRelativePath says what is wrong with a path that a unit is to have.
func CheckRelativePath(p string) []string {
	switch {
	case strings.HasPrefix(p, "/"):
		return []string{"Relative path can't start with '/'. " + p}
	case slices.ContainsFunc(strings.Split(p, "/"), func(seg string) bool { return seg == "." || seg == ".." }):
		return []string{"Relative path can't have '.' or '..' in it. " + p}
	}
	return nil
}

// CreationLocks checks that a new unit of a type can go into its destination, if it has one, and names what its creation locks.
func (s *Service) CreationLocks(ctx context.Context, t *rest.Type, src *FileSource, dest pulp.ID) ([]string, error) {
	var locks []string
	if !src.Upload.IsZero() {
		locks = append(locks, pulp.RefTo(s.Uploads.Label, src.Upload).PRN())
	}
	if !dest.IsZero() {
		repo, err := s.Repository(ctx, s.DB, dest)
		if err != nil {
			return nil, err
		}
		if rt := s.repos[repo.PulpType]; rt == nil || !slices.Contains(rt.Contents, t.PulpType) {
			return nil, errs.NonFieldError("Content is not supported by this repository.")
		}
		locks = append(locks, s.repositoryRef(repo).PRN())
	}
	return locks, nil
}

// CreateSingle answers a request for a new unit of a type with one file: an uploaded file is stored, the rest is a task's.
func CreateSingle[T any](ctx context.Context, s *Service, r *rest.Request, t rest.Typed[T], src *FileSource, dest pulp.ID) (*rest.Response, error) {
	locks, err := s.CreationLocks(ctx, t.Type, src, dest)
	if err != nil {
		return nil, err
	}
	replace := map[string]any{}
	if src.File != nil {
		a, err := s.SaveArtifact(ctx, src.File.Stage)
		if err != nil {
			return nil, err
		}
		replace["artifact"] = pulp.RefTo(s.Artifacts.Label, a.ID).PRN()
	}
	return t.DispatchCreate(ctx, r, locks, replace)
}

// Fetch returns the artifact that a source names, storing it where it isn't yet.
func (s *Service) Fetch(ctx context.Context, src *FileSource) (_ *pulp.Artifact, err error) {
	if !src.Artifact.IsZero() {
		if err := s.touch(ctx, "core_artifact", []pulp.ID{src.Artifact}); err != nil {
			return nil, err
		}
		return s.Artifact(ctx, s.DB, src.Artifact)
	}
	stage, err := s.Stage(ctx, src, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stage.Close()) }()
	return s.SaveArtifact(ctx, stage)
}

// Stage returns the file that a source gives, which is not stored yet. The caller closes it. Of a URL, not more than limit bytes
// are taken; 0 means all.
func (s *Service) Stage(ctx context.Context, src *FileSource, limit int64) (blob.Stage, error) {
	switch {
	case src.File != nil:
		return src.File.Stage, nil
	case !src.Upload.IsZero():
		return s.Assemble(ctx, src.Upload)
	}
	return s.fetchURL(ctx, src.FileURL, limit)
}

// fetchURL downloads with the settings of a remote that says nothing but the credentials in the URL.
func (s *Service) fetchURL(ctx context.Context, fileURL string, limit int64) (_ blob.Stage, err error) {
	remote := pulp.Remote{URL: fileURL, Policy: pulp.Immediate}
	if u, perr := url.Parse(fileURL); perr == nil && u.User != nil {
		remote.Username = u.User.Username()
		remote.Password, _ = u.User.Password()
		u.User = nil
		remote.URL = u.String()
	}
	if err := download.ValidateURL(remote.URL, s.ImportPaths); err != nil {
		return nil, errs.NonFieldError("%s", strings.Join(report(err), " "))
	}
	client, err := s.Download(remote)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return s.fetch(ctx, client, download.Request{URL: remote.URL, MaxSize: limit})
}

// Artifact loads an artifact.
func (s *Service) Artifact(ctx context.Context, q db.Querier, id pulp.ID) (*pulp.Artifact, error) {
	a, err := s.Artifacts.Get(ctx, q, id)
	if err != nil {
		return nil, err
	}
	out := &pulp.Artifact{ID: a.ID, Domain: a.Domain, Size: a.Size, Digests: pulp.Digests{}}
	for _, alg := range pulp.Algorithms {
		if d := *a.digest(alg); d != nil {
			out.Digests[alg] = *d
		}
	}
	return out, nil
}

// A SingleUnit is a unit that CreateUnit makes: its value, and the path of its file.
type SingleUnit struct {
	Value any // a pointer to the type's struct
	Path  string
	Ref   func() pulp.Ref // names the value, after it has its id
	SetID func(id pulp.ID)
}

// CreateUnit makes a unit of a type with one file, or finds the one that there is, and adds it to the destination
// if there is one. The task's created resources are the new version if one results, then the unit.
func (s *Service) CreateUnit(ctx context.Context, j *task.Job, ct *ContentType, src *FileSource, dest pulp.ID, build func(a *pulp.Artifact) SingleUnit) error {
	var d *Draft
	var err error
	if !dest.IsZero() {
		if d, err = s.NewDraft(ctx, j, dest); err != nil {
			return err
		}
	}
	a, err := s.Fetch(ctx, src)
	if err != nil {
		return err
	}
	u := build(a)
	saved, err := s.SaveContent(ctx, ct, []NewContent{{Value: u.Value, Files: []ContentFile{{Path: u.Path, Artifact: a.ID}}}})
	if err != nil {
		return err
	}
	u.SetID(saved[0].ID)
	if !src.Upload.IsZero() {
		if err := s.DB.Update(ctx, func(tx *db.Tx) error { return s.DropUpload(ctx, tx, src.Upload) }); err != nil {
			return err
		}
	}
	if d == nil {
		return s.DB.Update(ctx, func(tx *db.Tx) error { return j.Created(ctx, tx, u.Ref()) })
	}
	if err := d.AddMade(ctx, []pulp.ID{saved[0].ID}, u.Ref()); err != nil {
		return err
	}
	_, err = d.Complete(ctx)
	return err
}

// UploadNow makes a unit within the request and answers 201 with it.
func UploadNow[T any](ctx context.Context, s *Service, t rest.Typed[T], ct *ContentType, src *FileSource, build func(a *pulp.Artifact) SingleUnit) (*rest.Response, error) {
	a, err := s.Fetch(ctx, src)
	if err != nil {
		return nil, err
	}
	u := build(a)
	saved, err := s.SaveContent(ctx, ct, []NewContent{{Value: u.Value, Files: []ContentFile{{Path: u.Path, Artifact: a.ID}}}})
	if err != nil {
		return nil, err
	}
	if !src.Upload.IsZero() {
		if err := s.DB.Update(ctx, func(tx *db.Tx) error { return s.DropUpload(ctx, tx, src.Upload) }); err != nil {
			return nil, err
		}
	}
	v, err := t.Get(ctx, s.DB, saved[0].ID)
	if err != nil {
		return nil, err
	}
	return t.CreatedJSON(ctx, v)
}

// FillFiles fills the artifact and the digests of units with one file.
func (s *Service) FillFiles(ctx context.Context, q db.Querier, ids []pulp.ID, fill func(id, artifact pulp.ID, d FileDigests)) error {
	marks, args := db.In(ids)
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var id, artifact pulp.ID
		var d FileDigests
		if err := rows.Scan(&id, &artifact, &d.MD5, &d.SHA1, &d.SHA224, &d.SHA256, &d.SHA384, &d.SHA512); err != nil {
			return err
		}
		fill(id, artifact, d)
		return nil
	}, "SELECT ca.content, ca.artifact, a.md5, a.sha1, a.sha224, a.sha256, a.sha384, a.sha512 FROM core_contentartifact ca"+
		" LEFT JOIN core_artifact a ON a.id = ca.artifact WHERE ca.content IN "+marks, args...)
}

// A SyncInput is the body of a sync.
type SyncInput struct {
	Remote pulp.ID `api:"remote,ref=remote"`
	Mirror bool    `api:"mirror,def=false"`
}

// A Syncing is what a sync's request came to: the parties, and what they lock.
type Syncing struct {
	Repository, Remote pulp.ID
	Exclusive, Shared  []string
}

// ResolveSync finds the repository and the remote of a sync's request.
func (s *Service) ResolveSync(ctx context.Context, r *rest.Request, rt *RepositoryType, remote pulp.ID) (Syncing, error) {
	repo, err := s.Repository(ctx, s.DB, r.ID())
	if err != nil || repo.PulpType != rt.Type.PulpType || repo.Hidden || repo.Domain != pulp.CallOf(ctx).Domain.ID {
		return Syncing{}, errs.NotFoundModel(rt.Type.Model)
	}
	if remote.IsZero() {
		remote = repo.Remote
	}
	if remote.IsZero() {
		return Syncing{}, errs.Field("remote", "This field is required since a remote is not set on the repository.")
	}
	ref, err := s.RemoteRef(ctx, s.DB, remote)
	if err != nil {
		return Syncing{}, err
	}
	repoRef := s.repositoryRef(repo)
	if rt.Remotes != nil && !slices.Contains(rt.Remotes, ref.Type) {
		return Syncing{}, errs.Field("remote", "Type for Remote '"+ref.PRN()+"' does not match Repository '"+repoRef.PRN()+"'.")
	}
	return Syncing{repo.ID, remote, []string{repoRef.PRN()}, []string{ref.PRN()}}, nil
}
