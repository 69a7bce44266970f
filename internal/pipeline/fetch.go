package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

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
					if err := s.fetch(ctx, it); err != nil {
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

// fetch downloads what is missing of a unit.
func (s *Sync) fetch(ctx context.Context, it *item) error {
	g, ctx := errgroup.WithContext(ctx)
	var err error
	for _, f := range it.due() {
		if err = s.files.Acquire(ctx, 1); err != nil {
			break
		}
		g.Go(func() error {
			defer s.files.Release(1)
			return s.fetchFile(ctx, f)
		})
	}
	return cmp.Or(g.Wait(), err)
}

// fetchFile downloads a file from the first place that has it. The error is the last place's.
func (s *Sync) fetchFile(ctx context.Context, f *file) (err error) {
	if len(f.places) == 0 {
		return fmt.Errorf("%q has no URL to download it from", f.RelativePath)
	}
	stage, err := s.newStage(ctx)
	if err != nil {
		return err
	}
	for _, p := range f.places {
		client, err2 := s.Client(p.remote)
		if err2 != nil {
			return err2
		}
		_, err = client.Get(ctx, download.Request{URL: p.url, Size: f.Size, Digests: f.Digests}, stage)
		if err == nil {
			f.stage = stage
			s.downloads.Add(1)
			return nil
		}
		if e := (*download.Error)(nil); !errors.As(err, &e) || ctx.Err() != nil {
			break // no other place would help
		}
	}
	return errors.Join(err, s.dropStage(stage))
}

// newStage starts a file that is dropped with the sync unless it is stored before.
func (s *Sync) newStage(ctx context.Context) (blob.Stage, error) {
	stage, err := s.svc.Blobs.Stage(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stages[stage] = struct{}{}
	return stage, nil
}

// dropStage ends a stage; one that was stored stays so.
func (s *Sync) dropStage(stage blob.Stage) error {
	s.mu.Lock()
	delete(s.stages, stage)
	s.mu.Unlock()
	return stage.Close()
}
