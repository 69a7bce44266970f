package file

import (
	"context"
	"encoding/json"

	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/task"
)

// uploadInput is the body of the upload that answers at once.
type uploadInput struct {
	Labels rest.Labels `api:"pulp_labels"`
	repository.FileSource
	RelativePath string `api:"relative_path,req"`
}

// create answers a request for a new unit with the task that makes it.
func (p *file) create(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	c, err := p.contents.Parse(ctx, r)
	if err != nil {
		return nil, err
	}
	return repository.CreateSingle(ctx, p.Repos, r, p.contents, &c.FileSource, c.Repository)
}

func (p *file) createInTask(ctx context.Context, j *task.Job, c *Content) (any, error) {
	if err := p.Repos.CreateUnit(ctx, j, p.contentType, &c.FileSource, c.Repository, p.unit(c)); err != nil {
		return nil, err
	}
	made, err := p.contents.Get(ctx, p.DB, c.ID)
	if err != nil {
		return nil, err
	}
	body, err := p.contents.JSON(ctx, p.DB, made)
	return json.RawMessage(body), err
}

// upload makes a unit within the request.
func (p *file) upload(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var in uploadInput
	if err := r.DecodeLax(&in); err != nil {
		return nil, err
	}
	c := &Content{Content: repository.Content{Labels: in.Labels}, FileSource: in.FileSource, RelativePath: in.RelativePath}
	if wrong := repository.CheckRelativePath(c.RelativePath); wrong != nil {
		return nil, errs.Field("relative_path", wrong...)
	}
	if wrong := c.CheckFile(); wrong != nil {
		return nil, errs.Field("file", wrong...)
	}
	if err := c.CheckSource(); err != nil {
		return nil, err
	}
	return repository.UploadNow(ctx, p.Repos, p.contents, p.contentType, &c.FileSource, p.unit(c))
}

// unit completes a unit with what its file tells.
func (p *file) unit(c *Content) func(a *pulp.Artifact) repository.SingleUnit {
	return func(a *pulp.Artifact) repository.SingleUnit {
		c.Digest = a.SHA256()
		return repository.SingleUnit{
			Value: c, Path: c.RelativePath,
			Ref:   func() pulp.Ref { return p.contents.Ref(c) },
			SetID: func(id pulp.ID) { c.ID = id },
		}
	}
}
