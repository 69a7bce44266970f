package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"granary/internal/blob"
	"granary/internal/download"
)

// fetchAll is the stage that downloads: several units at once, so that they leave it in another order.
func (s *Sync) fetchAll(ctx context.Context, from <-chan *item, to chan<- *item) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.o.MaxInFlight)
	err := func() error {
		for {
			select {
			case it, more := <-from:
				if !more {
					return nil
				}
				if len(it.due()) == 0 {
					if err := send(ctx, to, it); err != nil {
						return err
					}
					continue
				}
				g.Go(func() error {
					if err := s.fetch(ctx, it, s.staged); err != nil {
						return err
					}
					return send(ctx, to, it)
				})
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}()
	return cmp.Or(g.Wait(), err) // what failed in the group is the cause of the loop's end
}

// due lists what is to be downloaded now.
func (it *item) due() (list []*file) {
	for i := range it.files {
		if f := &it.files[i]; f.stored == nil && f.stage == nil && !f.Deferred {
			list = append(list, f)
		}
	}
	return list
}

// fetch downloads what is missing of a unit. Where that is much, some of it is stored already. room bounds what is
// staged.
func (s *Sync) fetch(ctx context.Context, it *item, room *semaphore.Weighted) error {
	for due := range slices.Chunk(it.due(), maxUnitFiles) {
		if it.staged() > 0 {
			if err := s.store(ctx, []*item{it}); err != nil {
				return err
			}
		}
		// All at once, since a unit that has some of its files and waits for the rest would keep others waiting.
		if err := room.Acquire(ctx, int64(len(due))); err != nil {
			return err
		}
		g, ctx := errgroup.WithContext(ctx)
		for _, f := range due {
			g.Go(func() error { return s.caught(ctx, func() error { return s.fetchFile(ctx, f, room) }) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// fetchFile downloads a file from the first place that has it. The error is the last place's.
func (s *Sync) fetchFile(ctx context.Context, f *file, room *semaphore.Weighted) error {
	if len(f.places) == 0 {
		return fmt.Errorf("%q has no URL to download it from", f.RelativePath)
	}
	stage, err := s.svc.Blobs.Stage(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.stages[stage] = room
	s.mu.Unlock()
	for _, p := range f.places {
		var client *download.Client
		if client, err = s.Client(p.remote); err != nil {
			return err
		}
		_, err = client.Get(ctx, download.Request{URL: p.url, Size: f.Size, Digests: f.Digests}, stage)
		if err == nil {
			f.stage = stage
			s.downloads.Add(1)
			return nil
		}
		if _, remote := errors.AsType[*download.Error](err); !remote || ctx.Err() != nil {
			break // no other place would help
		}
	}
	return err
}

// dropStage ends a stage that was stored.
func (s *Sync) dropStage(stage blob.Stage) error {
	s.mu.Lock()
	s.stages[stage].Release(1)
	delete(s.stages, stage)
	s.mu.Unlock()
	return stage.Close()
}
