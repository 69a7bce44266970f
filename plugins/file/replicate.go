package file

import (
	"context"

	"granary/internal/pulp"
	"granary/internal/replica"
	"granary/internal/task"
)

// replicaSource tells where another server's distribution has its manifest: a publication's or the repository's own says how that is called.
func replicaSource(ctx context.Context, up *replica.Upstream, d replica.Object) (*replica.Source, error) {
	href := d.Text("publication")
	if href == "" {
		href = d.Text("repository")
	}
	if href == "" {
		return nil, nil
	}
	from, err := up.Get(ctx, href)
	if err != nil {
		return nil, err
	}
	name := from.Text("manifest")
	if name == "" || checkManifest(&name) != nil { // without one nobody can tell what it has
		return nil, nil
	}
	base, err := up.BaseURL(d)
	if err != nil {
		return nil, err
	}
	return &replica.Source{
		Remote:     map[string]any{"url": base + escapePath(name)},
		Repository: map[string]any{"manifest": name, "autopublish": false}, // a mirror publishes what it syncs
	}, nil
}

// replicaSync mirrors a remote.
func replicaSync(repository, remote pulp.ID) task.Spec {
	return task.Spec{Name: taskSync, Args: syncArgs{Repository: repository, Remote: remote, Mirror: true}}
}
