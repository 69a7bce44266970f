package file

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"granary/format/manifest"
	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/task"
)

const taskPublish = "pulp_file.app.tasks.publishing.publish"

type publishArgs struct {
	Version    pulp.ID `json:"version"`
	Manifest   *string `json:"manifest"`
	Checkpoint bool    `json:"checkpoint,omitempty"`
}

// checkManifest says what is wrong with a manifest's name.
func checkManifest(name *string) []string {
	if name != nil && (strings.Contains(*name, "/") || *name == "." || *name == "..") {
		return []string{"A manifest lies at the top: its name can't have a slash in it."}
	}
	return nil
}

// publishSpec is the task that publishes what a request asks for.
func (p *file) publishSpec(ctx context.Context, v *Publication) (task.Spec, error) {
	ref, err := p.Repos.RepositoryRef(ctx, p.DB, v.Repository)
	switch {
	case err != nil:
		return task.Spec{}, err
	case ref.Type != p.repositories.Label:
		return task.Spec{}, errs.Field("repository", "Invalid hyperlink - Incorrect URL match.")
	}
	return task.Spec{Name: taskPublish, Args: publishArgs{v.Version, v.Manifest, v.Checkpoint}, Shared: []string{ref.PRN()}}, nil
}

func (p *file) runPublish(ctx context.Context, j *task.Job) (any, error) {
	var in publishArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	v, err := p.publish(ctx, j, in, nil)
	if err != nil {
		return nil, err
	}
	body, err := p.publications.JSON(ctx, p.DB, v)
	return json.RawMessage(body), err
}

// autopublish publishes a new version within the task that made it, where the repository is set to.
func (p *file) autopublish(ctx context.Context, j *task.Job, d *repository.Draft) error {
	repo, err := p.repositories.Get(ctx, p.DB, d.Repository)
	if err != nil || !repo.Autopublish {
		return err
	}
	_, err = p.publish(ctx, j, publishArgs{Version: d.ID, Manifest: repo.Manifest}, nil)
	return err
}

// publish makes a publication of a version. given is the manifest to publish instead of one made of the version.
func (p *file) publish(ctx context.Context, j *task.Job, in publishArgs, given blob.Stage) (_ *Publication, err error) {
	defer errs.Wrap(&err, "publish")
	v := &Publication{Publication: repository.Publication{Version: in.Version, PassThrough: true}, Manifest: in.Manifest, Checkpoint: in.Checkpoint}
	err = p.DB.Update(ctx, func(tx *db.Tx) error {
		if err := p.publications.Insert(ctx, tx, v); err != nil {
			return err
		}
		return j.Created(ctx, tx, p.publications.Ref(v))
	})
	if err != nil {
		return nil, err
	}
	var own []string
	if in.Manifest != nil {
		own = []string{*in.Manifest}
	}
	if err := p.Repos.CheckPublishedPaths(ctx, own, in.Version); err != nil {
		return nil, err
	}
	if in.Manifest != nil {
		if given == nil {
			if given, err = p.writeManifest(ctx, in.Version); err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, given.Close()) }()
		}
		a, err := p.Repos.SaveArtifact(ctx, given)
		if err != nil {
			return nil, err
		}
		if err := p.Repos.Publish(ctx, v.ID, []repository.PublishedFile{{Path: *in.Manifest, Artifact: a.ID}}); err != nil {
			return nil, err
		}
	}
	if err := p.Repos.CompletePublication(ctx, j, v.ID); err != nil {
		return nil, err
	}
	return p.publications.Get(ctx, p.DB, v.ID)
}

// writeManifest lists a version's files, those of the newest units first.
func (p *file) writeManifest(ctx context.Context, version pulp.ID) (_ blob.Stage, err error) {
	v, err := p.Repos.Version(ctx, p.DB, version)
	if err != nil {
		return nil, err
	}
	stage, err := p.Blobs.Stage(ctx)
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(stage, 64<<10)
	err = db.Each(ctx, p.DB, func(rows *sql.Rows) error {
		var e manifest.Entry
		if err := rows.Scan(&e.Path, &e.SHA256, &e.Size); err != nil {
			return err
		}
		_, err := w.Write(manifest.Append(w.AvailableBuffer(), e))
		return err
	}, `SELECT ca.relative_path, f.digest, COALESCE(a.size, (SELECT MAX(ra.size) FROM core_remoteartifact ra WHERE ra.content_artifact = ca.id), 0)
		FROM core_repositorycontent rc JOIN core_content c ON c.id = rc.content JOIN file_content f ON f.id = rc.content
		JOIN core_contentartifact ca ON ca.content = rc.content LEFT JOIN core_artifact a ON a.id = ca.artifact
		WHERE rc.repository = ? AND rc.added <= ? AND rc.removed > ? ORDER BY c.created DESC, ca.relative_path`, v.Repository, v.Number, v.Number)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write manifest: %w", err), stage.Close())
	}
	return stage, nil
}
