package pipeline

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sync/semaphore"

	"granary/internal/blob"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/repository"
)

// store makes artifacts of the files that were downloaded.
func (s *Sync) store(ctx context.Context, batch []*item) error {
	var files []*file
	var stages []blob.Stage
	for _, it := range batch {
		for i := range it.files {
			if f := &it.files[i]; f.stage != nil {
				files, stages = append(files, f), append(stages, f.stage)
			}
		}
	}
	if len(files) == 0 {
		return nil
	}
	saved, err := s.svc.SaveArtifacts(ctx, stages)
	if err != nil {
		return err
	}
	for i, f := range files {
		f.stored, f.stage = &saved[i].Artifact, nil
		if err := s.dropStage(stages[i]); err != nil {
			return err
		}
	}
	return nil
}

// errGone says that units or artifacts went between their being found and their being used: orphan cleanup may do that
// when it is told to spare nothing.
var errGone = errors.New("orphan cleanup removed what the sync needs")

const (
	// attempts is how often units are saved before orphan cleanup is taken to be too much.
	attempts = 10
	// fewUnits are saved at once then, so that it takes no longer than a cleanup.
	fewUnits = 20
)

// save writes units, where their files may be had, and that they are in the draft.
func (s *Sync) save(ctx context.Context, batch []*item) error {
	err := s.saveBatch(ctx, batch)
	if !isGone(err) {
		return err
	}
	for few := range slices.Chunk(batch, fewUnits) {
		for try := 1; ; try++ {
			if err := s.again(ctx, few); err != nil {
				return err
			}
			err := s.saveBatch(ctx, few)
			if err == nil {
				break
			}
			if try == attempts || !isGone(err) {
				return err
			}
		}
	}
	return nil
}

func isGone(err error) bool { return errors.Is(err, errGone) || db.IsForeignKey(err) }

// again takes units through the stages before save once more. What it finds stored no cleanup that is under way takes away.
func (s *Sync) again(ctx context.Context, batch []*item) error {
	for _, it := range batch {
		for i := range it.files {
			it.files[i].stored = it.files[i].Stored
		}
	}
	if err := s.resolve(ctx, batch); err != nil {
		return err
	}
	if err := s.keepStored(ctx, batch); err != nil {
		return err
	}
	for _, it := range batch {
		// In room of its own: who has the other stages' waits for save.
		if err := s.fetch(ctx, it, semaphore.NewWeighted(maxUnitFiles)); err != nil {
			return err
		}
	}
	return s.store(ctx, batch)
}

// keepStored protects the batch's stored files, and forgets those that are not there any more.
func (s *Sync) keepStored(ctx context.Context, batch []*item) error {
	var ids []pulp.ID
	for _, it := range batch {
		for i := range it.files {
			if a := it.files[i].stored; a != nil {
				ids = append(ids, a.ID)
			}
		}
	}
	there, err := s.svc.KeepArtifacts(ctx, ids)
	if err != nil {
		return err
	}
	for _, it := range batch {
		for i := range it.files {
			if f := &it.files[i]; f.stored != nil && !there[f.stored.ID] {
				f.stored = nil
			}
		}
	}
	return nil
}

func (s *Sync) saveBatch(ctx context.Context, batch []*item) error {
	byType := map[*repository.ContentType][]int{}
	var types []*repository.ContentType
	for i, it := range batch {
		if byType[it.Type] == nil {
			types = append(types, it.Type)
		}
		byType[it.Type] = append(byType[it.Type], i)
	}
	slices.SortFunc(types, func(a, b *repository.ContentType) int { return strings.Compare(a.Table, b.Table) })
	ids := make([]pulp.ID, len(batch))
	var remotes []repository.RemoteArtifact
	for _, t := range types {
		units := make([]repository.NewContent, len(byType[t]))
		for n, i := range byType[t] {
			units[n] = batch[i].content()
		}
		saved, err := s.svc.SaveContent(ctx, t, units)
		if err != nil {
			return err
		}
		for n, i := range byType[t] {
			ids[i] = saved[n].ID
			if remotes, err = s.addRemotes(ctx, remotes, batch[i], &saved[n]); err != nil {
				return err
			}
		}
	}
	if err := s.svc.SaveRemoteArtifacts(ctx, remotes); err != nil {
		return err
	}
	if err := s.associate(ctx, ids); err != nil {
		return err
	}
	for i, it := range batch {
		if it.Saved != nil {
			it.Saved(ids[i])
		}
	}
	return nil
}

// content is the unit in the form that is saved.
func (it *item) content() repository.NewContent {
	c := repository.NewContent{Value: it.Value, Files: make([]repository.ContentFile, len(it.files))}
	for i := range it.files {
		f := &it.files[i]
		c.Files[i].Path = f.RelativePath
		if f.stored != nil {
			c.Files[i].Artifact = f.stored.ID
		}
	}
	return c
}

// addRemotes adds to the list where a unit's files may be had: at the declared remote, and at those of alternate
// content sources. Each has its own row, so that the file stays to be had when one of them goes.
func (s *Sync) addRemotes(ctx context.Context, list []repository.RemoteArtifact, it *item, saved *repository.SavedContent) ([]repository.RemoteArtifact, error) {
	for i := range it.files {
		f := &it.files[i]
		if len(f.places) == 0 {
			continue
		}
		if saved.Files[i].IsZero() {
			there, err := db.Exists(ctx, s.svc.DB, "SELECT 1 FROM core_content WHERE id = ?", saved.ID)
			if err == nil && !there {
				err = errGone
			}
			if err != nil {
				return nil, err
			}
			return nil, errs.Ef(errs.Invalid, `No declared artifact with relative path "%s" for content "<%s (pulp_type=%s): pk=%s>"`,
				f.RelativePath, it.Type.Type.Model, it.Type.Type.PulpType, saved.ID)
		}
		known := repository.RemoteArtifact{ContentArtifact: saved.Files[i], Size: f.Size, Digests: f.Digests}
		if f.stored != nil {
			known.Size, known.Digests = f.stored.Size, f.stored.Digests
		}
		for n, p := range f.places {
			if n > 0 && p.remote.ID == f.places[n-1].remote.ID { // a mirror of the first
				continue
			}
			known.Remote, known.URL = p.remote.ID, p.url
			list = append(list, known)
		}
	}
	return list, nil
}

// associate puts units into the draft.
func (s *Sync) associate(ctx context.Context, ids []pulp.ID) error {
	added, err := s.draft.Add(ctx, ids)
	s.associated.Add(added)
	if err != nil {
		return err
	}
	// What is in the draft cannot go any more: what is there now stays.
	marks, args := db.In(ids)
	there, err := db.Value[int](ctx, s.svc.DB, "SELECT count(*) FROM core_content WHERE id IN "+marks, args...)
	if err != nil {
		return err
	}
	distinct := slices.Clone(ids)
	slices.SortFunc(distinct, pulp.ID.Compare)
	if there < len(slices.Compact(distinct)) {
		return errGone
	}
	if s.o.Mirror {
		s.seen = append(s.seen, ids...)
	}
	return nil
}
