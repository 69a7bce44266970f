// Package pipeline is how a plugin syncs: declared content goes in, a new repository version comes out, in bounded
// memory. Start with [Sync.Run].
//
// Declared units pass through stages, each a goroutine: the plugin's own, which declares them; looking for files that are
// stored already, and for alternate content sources; downloading; storing files; saving and associating content. A
// stage works on as many units at once as wait for it, so that the database sees few large transactions when
// there is much to do and nobody waits when there is little. The first error ends all stages.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"granary/internal/blob"
	"granary/internal/download"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/task"
)

const (
	batchSize = 500 // units that a stage takes at once
	inFlight  = 25  // units whose files are downloaded at once, where the options don't say

	// maxStaged bounds the files that are downloaded and not stored yet: each is an open file. Half of them are stored at
	// once, while the other half is downloaded. The larger these lots, the less the database writes for each file.
	maxStaged = 800
	lot       = maxStaged / 2

	// maxUnitFiles is how many files of one unit are downloaded before those are stored.
	maxUnitFiles = 100
)

// A Unit is content that the new version is to have.
type Unit struct {
	Type      *repository.ContentType
	Value     any // a pointer to a new value of the type's struct
	Artifacts []Artifact

	// Saved is called when the unit is in the database and in the draft, with its id; it may be nil. It must return
	// quickly. Since no stage holds units back, whoever declares them may wait for it.
	Saved func(id pulp.ID)
}

// An Artifact is one file of a unit.
type Artifact struct {
	RelativePath string
	URLs         []string     // absolute; those after the first are mirrors of it
	Size         int64        // bytes; negative if unknown
	Digests      pulp.Digests // those that are known
	Remote       *pulp.Remote // how the URLs are reached; nil where there is nothing to download
	Deferred     bool         // it is downloaded when a client wants it

	// Stored is the artifact itself, where the plugin has stored it already; else nil.
	Stored *pulp.Artifact
}

// Options say how to sync.
type Options struct {
	Mirror      bool // the version has what is declared and nothing else
	Sources     bool // files may come from the domain's alternate content sources
	MaxInFlight int  // units whose files are downloaded at once; 0 means 25
}

// A Sync is one sync of one repository. Make one with [New]; the caller closes it.
type Sync struct {
	svc     *repository.Service
	job     *task.Job
	o       Options
	draft   *repository.Draft
	sources bool                // there are alternate content sources, and they are wanted
	staged  *semaphore.Weighted // the room for staged files

	downloads, associated *task.Progress

	mu      sync.Mutex
	clients map[pulp.ID]*download.Client
	remotes map[pulp.ID]*pulp.Remote           // of alternate content sources
	stages  map[blob.Stage]*semaphore.Weighted // what is downloaded and not stored yet, and the room that it takes

	seen []pulp.ID // for Mirror: what was declared; only the last stage appends
}

// New returns a sync for the job.
func New(svc *repository.Service, j *task.Job, o Options) *Sync {
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = inFlight
	}
	return &Sync{
		svc: svc, job: j, o: o, staged: semaphore.NewWeighted(maxStaged),
		clients: map[pulp.ID]*download.Client{}, remotes: map[pulp.ID]*pulp.Remote{}, stages: map[blob.Stage]*semaphore.Weighted{},
	}
}

// Close ends the connections to remotes and drops what is left of unfinished downloads.
func (s *Sync) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		c.Close()
	}
	var list []error
	for st := range s.stages {
		list = append(list, st.Close())
	}
	return errors.Join(list...)
}

// Client returns the sync's client for a remote, whose limits hold for metadata and files together.
func (s *Sync) Client(r *pulp.Remote) (*download.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[r.ID]
	if c == nil {
		var err error
		if c, err = s.svc.Download(*r); err != nil {
			return nil, fmt.Errorf("remote %s: %w", r.Name, err)
		}
		s.clients[r.ID] = c
	}
	return c, nil
}

// An item is a declared unit on its way.
type item struct {
	Unit
	files []file
}

// A file is a declared artifact on its way.
type file struct {
	Artifact
	places []place        // where it may be had, the best first
	stored *pulp.Artifact // what it is, once that is stored
	stage  blob.Stage     // what was downloaded of it
}

type place struct {
	remote *pulp.Remote
	url    string
}

// Run fills the draft with what first declares and completes it. first calls emit for each unit, also from several
// goroutines; emit waits while the stages behind it are busy, and fails when one of them did: first then returns its
// error. The result is nil where the content is that of the version before.
//
// Run reports its progress as sync.downloading.artifacts, associating.content, and for a mirror
// unassociating.content. first reports its own.
func (s *Sync) Run(ctx context.Context, d *repository.Draft, first func(ctx context.Context, emit func(Unit) error) error) (*repository.Version, error) {
	s.draft = d
	s.downloads = s.job.Progress("sync.downloading.artifacts", "Downloading Artifacts")
	s.associated = s.job.Progress("associating.content", "Associating Content")
	if s.o.Sources {
		var err error
		if s.sources, err = s.svc.HasSources(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.flow(ctx, first); err != nil {
		return nil, err
	}
	if s.o.Mirror {
		if err := s.removeUnseen(ctx); err != nil {
			return nil, err
		}
	}
	return d.Complete(ctx)
}

// flow runs the stages.
func (s *Sync) flow(ctx context.Context, first func(ctx context.Context, emit func(Unit) error) error) error {
	g, ctx := errgroup.WithContext(ctx)
	declared, resolved := make(chan *item, batchSize), make(chan *item)
	fetched, kept := make(chan *item, lot), make(chan *item, batchSize)
	run := func(stage func() error) { g.Go(func() error { return s.caught(ctx, stage) }) }
	run(func() error {
		return end(declared, first(ctx, func(u Unit) error { return send(ctx, declared, newItem(u)) }))
	})
	run(func() error {
		return end(resolved, inBatches(ctx, declared, resolved, unlimited, s.resolve))
	})
	run(func() (err error) {
		defer s.downloads.End(&err)
		return end(fetched, s.fetchAll(ctx, resolved, fetched))
	})
	run(func() error {
		return end(kept, inBatches(ctx, fetched, kept, (*item).staged, s.store))
	})
	run(func() (err error) {
		defer s.associated.End(&err)
		return inBatches(ctx, kept, nil, unlimited, s.save)
	})
	return g.Wait()
}

// caught makes a panic an error, since it is not in the goroutine whose panics the task queue sees.
func (s *Sync) caught(ctx context.Context, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.svc.Log.ErrorContext(ctx, "a sync panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}

// end closes what a stage sends to, unless it failed.
func end(to chan<- *item, err error) error {
	if err == nil {
		close(to)
	}
	return err
}

func newItem(u Unit) *item {
	it := &item{Unit: u, files: make([]file, len(u.Artifacts))}
	for i, a := range u.Artifacts {
		it.files[i] = file{Artifact: a, stored: a.Stored}
	}
	return it
}

// staged counts the item's files that wait to be stored.
func (it *item) staged() (n int) {
	for i := range it.files {
		if it.files[i].stage != nil {
			n++
		}
	}
	return n
}

func unlimited(*item) int { return 0 }

// send sends unless the context ends before that.
func send(ctx context.Context, to chan<- *item, it *item) error {
	select {
	case to <- it:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// inBatches is a stage that works on as many items at once as wait for it, up to batchSize and to a lot by size. It
// ends when from is closed.
func inBatches(ctx context.Context, from <-chan *item, to chan<- *item, size func(*item) int, work func(context.Context, []*item) error) error {
	batch := make([]*item, 0, batchSize)
	for {
		batch = batch[:0]
		select {
		case it, more := <-from:
			if !more {
				return nil
			}
			batch = append(batch, it)
		case <-ctx.Done():
			return ctx.Err()
		}
		files := size(batch[0])
	waiting:
		for len(batch) < batchSize && files < lot {
			select {
			case it, more := <-from:
				if !more {
					break waiting
				}
				batch = append(batch, it)
				files += size(it)
			default:
				break waiting
			}
		}
		if err := work(ctx, batch); err != nil {
			return err
		}
		if to != nil {
			for _, it := range batch {
				if err := send(ctx, to, it); err != nil {
					return err
				}
			}
		}
	}
}

// removeUnseen takes out of the draft what was not declared.
func (s *Sync) removeUnseen(ctx context.Context) (err error) {
	progress := s.job.Progress("unassociating.content", "Un-Associating Content")
	defer progress.End(&err)
	slices.SortFunc(s.seen, pulp.ID.Compare)
	s.seen = slices.Compact(s.seen)
	return s.draft.Content(ctx, func(ids []pulp.ID) error {
		unseen := slices.DeleteFunc(slices.Clone(ids), func(id pulp.ID) bool {
			_, found := slices.BinarySearchFunc(s.seen, id, pulp.ID.Compare)
			return found
		})
		n, err := s.draft.Remove(ctx, unseen)
		progress.Add(n)
		return err
	})
}
