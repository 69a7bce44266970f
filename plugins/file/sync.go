package file

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"granary/format/manifest"
	"granary/internal/blob"
	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pipeline"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/task"
)

const taskSync = "pulp_file.app.tasks.synchronizing.synchronize"

// maxManifest is the largest manifest that is read, in bytes: some millions of lines.
const maxManifest = 1 << 30

type syncArgs struct {
	Repository pulp.ID `json:"repository"`
	Remote     pulp.ID `json:"remote"`
	Mirror     bool    `json:"mirror,omitempty"`
	URL        string  `json:"url,omitempty"` // of the manifest, where it isn't the remote's: a path of an alternate content source
}

// sync answers a request for a sync with the task that does it.
func (p *file) sync(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var in repository.SyncInput
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	s, err := p.Repos.ResolveSync(ctx, r, p.repoType, in.Remote)
	if err != nil {
		return nil, err
	}
	return p.API.Dispatch(ctx, task.Spec{
		Name: taskSync, Args: syncArgs{Repository: s.Repository, Remote: s.Remote, Mirror: in.Mirror}, Exclusive: s.Exclusive, Shared: s.Shared,
	})
}

// refreshSpec is the task that syncs a path of an alternate content source.
func refreshSpec(r repository.Refresh) task.Spec {
	return task.Spec{Name: taskSync, Args: syncArgs{Repository: r.Repository, Remote: r.Remote, URL: r.URL}}
}

// runSync makes a version of what a manifest lists, and for a mirror a publication with that very manifest.
func (p *file) runSync(ctx context.Context, j *task.Job) (_ any, err error) {
	var in syncArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	remote, err := p.Repos.Remote(ctx, p.DB, in.Remote)
	if err != nil {
		return nil, err
	}
	refresh := in.URL != ""
	if !refresh {
		in.URL = remote.URL
	}
	d, err := p.Repos.NewDraft(ctx, j, in.Repository)
	if err != nil {
		return nil, err
	}
	list, err := p.Blobs.Stage(ctx)
	if err != nil {
		return nil, err
	}
	s := pipeline.New(p.Repos, j, pipeline.Options{Mirror: in.Mirror, Sources: !refresh, MaxInFlight: cmp.Or(p.Settings.SyncMaxInFlightItems, p.Settings.MaxConcurrentContent)})
	defer func() { err = errors.Join(err, s.Close(), list.Close()) }()
	v, err := s.Run(ctx, d, func(ctx context.Context, emit func(pipeline.Unit) error) error {
		if err := fetchManifest(ctx, j, s, remote, in.URL, list); err != nil {
			return err
		}
		return p.declare(j, remote, in.URL, list, emit)
	})
	if err != nil {
		return nil, err
	}
	if refresh {
		if err := p.Repos.SourceRefreshed(ctx, in.Repository); err != nil {
			return nil, err
		}
	}
	if v == nil {
		return nil, nil
	}
	if in.Mirror {
		name := manifestName(in.URL)
		if _, err := p.publish(ctx, j, publishArgs{Version: v.ID, Manifest: &name}, list); err != nil {
			return nil, err
		}
	}
	body, err := p.Repos.VersionJSON(ctx, v)
	return json.RawMessage(body), err
}

// fetchManifest downloads the manifest.
func fetchManifest(ctx context.Context, j *task.Job, s *pipeline.Sync, remote *pulp.Remote, url string, into blob.Stage) (err error) {
	progress := j.Progress("sync.downloading.metadata", "Downloading Metadata")
	defer progress.End(&err)
	client, err := s.Client(remote)
	if err != nil {
		return err
	}
	if _, err := client.Get(ctx, download.Request{URL: url, MaxSize: maxManifest}, into); err != nil {
		return err
	}
	progress.Add(1)
	return nil
}

// declare emits a unit for each of the manifest's entries, once all of it turned out to be right.
func (p *file) declare(j *task.Job, remote *pulp.Remote, url string, list blob.Stage, emit func(pipeline.Unit) error) (err error) {
	progress := j.Progress("sync.parsing.metadata", "Parsing Metadata Lines")
	defer progress.End(&err)
	var entries int64
	err = eachEntry(list, func(manifest.Entry) error {
		entries++
		return nil
	})
	if err != nil {
		return err
	}
	progress.SetTotal(entries)
	base := newBaseURL(url)
	return eachEntry(list, func(e manifest.Entry) error {
		progress.Add(1)
		return emit(pipeline.Unit{
			Type: p.contentType, Value: &Content{RelativePath: e.Path, Digest: e.SHA256},
			Artifacts: []pipeline.Artifact{{
				RelativePath: e.Path, URLs: []string{base.of(e.Path)}, Size: e.Size, Digests: pulp.Digests{pulp.SHA256: e.SHA256},
				Remote: remote, Deferred: remote.Policy != pulp.Immediate,
			}},
		})
	})
}

// eachEntry reads a downloaded manifest.
func eachEntry(list blob.Stage, f func(manifest.Entry) error) (err error) {
	r, err := list.Reader()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	err = manifest.Read(io.Reader(r), f)
	if bad, ok := errors.AsType[*manifest.LineError](err); ok {
		return &errs.Error{Kind: errs.Invalid, Detail: bad.Error(), Err: bad.Reason}
	}
	return err
}

// A baseURL makes URLs of the files beside a manifest.
type baseURL struct {
	dir, query string
	local      bool
}

// newBaseURL takes a manifest's URL apart. Its folder and its query, which may be the key to the files, stay as they are.
func newBaseURL(url string) baseURL {
	scheme, _, _ := strings.Cut(url, ":")
	if strings.EqualFold(scheme, "file") {
		return baseURL{dir: folder(url), local: true}
	}
	url, _, _ = strings.Cut(url, "#")
	path, query, found := strings.Cut(url, "?")
	if found {
		query = "?" + query
	}
	return baseURL{dir: folder(path), query: query}
}

// folder is a URL up to the last slash of its path, or all of it where that has none.
func folder(url string) string {
	start := strings.Index(url, "://") + len("://")
	if i := strings.LastIndexByte(url, '/'); i >= start {
		return url[:i]
	}
	return url
}

// of returns the URL of the file at a path of the manifest.
func (b baseURL) of(path string) string {
	if b.local { // in which nothing stands for anything else
		return b.dir + "/" + path
	}
	return b.dir + "/" + escapePath(path) + b.query
}

// escapePath escapes all but letters, digits, and what no server and no proxy reads anything into.
func escapePath(path string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		switch c := path[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-_.~/:", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteString(string([]byte{'%', hex[c>>4], hex[c&15]}))
		}
	}
	return b.String()
}

// manifestName is the name under which a mirror publishes the manifest: as it is called at its source.
func manifestName(url string) string {
	b := newBaseURL(url)
	if !b.local {
		url, _, _ = strings.Cut(url, "#")
		url, _, _ = strings.Cut(url, "?")
	}
	name := strings.Trim(strings.TrimPrefix(url, b.dir), "/")
	if checkManifest(&name) != nil || name == "" {
		return "PULP_MANIFEST"
	}
	return name
}
