package pipeline

import (
	"context"
	"slices"

	"granary/internal/errs"
	"granary/internal/pulp"
)

// strongest are the digests in the order in which files are looked for by them.
var strongest = []pulp.Algorithm{pulp.SHA256, pulp.SHA512, pulp.SHA384, pulp.SHA224, pulp.SHA1, pulp.MD5}

// resolve finds out which files are stored already, and where the others may be had.
func (s *Sync) resolve(ctx context.Context, batch []*item) error {
	wanted := map[pulp.Algorithm]map[string][]*file{}
	for _, it := range batch {
		for i := range it.files {
			f := &it.files[i]
			f.places = nil
			if f.Remote != nil {
				for _, u := range f.URLs {
					f.places = append(f.places, place{f.Remote, u})
				}
			}
			if f.stored != nil {
				continue
			}
			alg, err := s.trusted(f)
			if err != nil {
				return err
			}
			if alg != "" {
				note(wanted, alg, f)
			}
		}
	}
	for _, alg := range strongest {
		if wanted[alg] == nil {
			continue
		}
		stored, err := s.svc.FindArtifacts(ctx, alg, keys(wanted[alg]))
		if err != nil {
			return err
		}
		for digest, a := range stored {
			for _, f := range wanted[alg][digest] {
				f.stored = &a
			}
		}
	}
	if !s.sources {
		return nil
	}
	var missing []*file
	for _, it := range batch {
		for i := range it.files {
			if it.files[i].stored == nil {
				missing = append(missing, &it.files[i])
			}
		}
	}
	return s.findPlaces(ctx, missing)
}

// trusted returns the digest that the file is looked for by, none where it has no digest. A file all of whose digests
// are of forbidden kinds is refused.
func (s *Sync) trusted(f *file) (pulp.Algorithm, error) {
	var forbidden pulp.Algorithm
	for _, alg := range strongest {
		switch {
		case f.Digests[alg] == "":
		case slices.Contains(s.svc.Allowed, alg):
			return alg, nil
		case forbidden == "":
			forbidden = alg
		}
	}
	switch {
	case forbidden == "":
		return "", nil
	case !f.Deferred:
		return "", errs.Ef(errs.Invalid, "Artifact contains forbidden checksum type %s. You can allow it with 'ALLOWED_CONTENT_CHECKSUMS' setting.", forbidden)
	case len(f.URLs) > 0:
		return "", errs.Ef(errs.Invalid, "On-demand content located at the url %s contains forbidden checksum type,"+
			"thus cannot be synced.You can allow checksum type with 'ALLOWED_CONTENT_CHECKSUMS' setting.", f.URLs[0])
	}
	return "", nil
}

// findPlaces puts what alternate content sources have before the declared places. A source is known by any digest.
func (s *Sync) findPlaces(ctx context.Context, missing []*file) error {
	for _, alg := range strongest {
		wanted := map[pulp.Algorithm]map[string][]*file{}
		for _, f := range missing {
			if f.Digests[alg] != "" {
				note(wanted, alg, f)
			}
		}
		if wanted[alg] == nil {
			continue
		}
		found, err := s.svc.FindPlaces(ctx, alg, keys(wanted[alg]))
		if err != nil {
			return err
		}
		for digest, places := range found {
			var sources []place
			for _, p := range places {
				r, err := s.sourceRemote(ctx, p.Remote)
				if errs.Is(err, errs.NotFound) { // it has just been deleted
					continue
				}
				if err != nil {
					return err
				}
				sources = append(sources, place{r, p.URL})
			}
			for _, f := range wanted[alg][digest] {
				own := f.Remote
				f.places = append(slices.DeleteFunc(slices.Clone(sources), func(p place) bool { return own != nil && p.remote.ID == own.ID }), f.places...)
			}
		}
		missing = slices.DeleteFunc(missing, func(f *file) bool { return found[f.Digests[alg]] != nil })
	}
	return nil
}

// sourceRemote loads the remote of an alternate content source, once.
func (s *Sync) sourceRemote(ctx context.Context, id pulp.ID) (*pulp.Remote, error) {
	s.mu.Lock()
	r := s.remotes[id]
	s.mu.Unlock()
	if r != nil {
		return r, nil
	}
	r, err := s.svc.Remote(ctx, s.svc.DB, id)
	if err == nil {
		s.mu.Lock()
		s.remotes[id] = r
		s.mu.Unlock()
	}
	return r, err
}

func note(m map[pulp.Algorithm]map[string][]*file, alg pulp.Algorithm, f *file) {
	if m[alg] == nil {
		m[alg] = map[string][]*file{}
	}
	m[alg][f.Digests[alg]] = append(m[alg][f.Digests[alg]], f)
}

func keys(m map[string][]*file) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	return list
}
