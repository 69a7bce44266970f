package file

import (
	"fmt"

	"granary/internal/transfer"
)

// format is how versions are exported and imported.
func (p *file) format() transfer.Format {
	return transfer.Format{Repository: p.repositories.Type, Component: "file", Classes: []transfer.Class{
		{Name: "FileContentResource", Content: p.contentType, Columns: transfer.Columns("relative_path", "digest", "_pulp_domain"), Unit: imported},
		{Name: "FileRepositoryResource", Columns: transfer.Columns("manifest", "autopublish")},
	}}
}

// imported makes a unit of a row of an export.
func imported(r *transfer.Row, files []transfer.File) (any, error) {
	c := &Content{RelativePath: r.Text("relative_path"), Digest: r.Digest("digest")}
	if want := (transfer.File{Path: c.RelativePath, SHA256: c.Digest}); len(files) != 1 || files[0] != want {
		return nil, fmt.Errorf("the unit %q has other files than it should", c.RelativePath)
	}
	return c, nil
}
