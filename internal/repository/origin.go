package repository

import (
	"context"
	"database/sql"
	"slices"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// A RemoteArtifact says where a remote has a file of content.
type RemoteArtifact struct {
	ContentArtifact, Remote pulp.ID
	URL                     string // absolute
	Size                    int64  // bytes; negative if unknown
	Digests                 pulp.Digests
}

type originKey struct{ contentArtifact, remote pulp.ID }

func (r *RemoteArtifact) key() originKey { return originKey{r.ContentArtifact, r.Remote} }

// agree says whether what r tells was known to old. That old knows more is no contradiction.
func (r *RemoteArtifact) agree(old *RemoteArtifact) bool {
	if r.URL != old.URL || r.Size >= 0 && r.Size != old.Size {
		return false
	}
	for alg, d := range r.Digests {
		if old.Digests[alg] != d {
			return false
		}
	}
	return true
}

// keep takes over what old knows besides, unless the two are of different files.
func (r *RemoteArtifact) keep(old *RemoteArtifact) {
	if r.Size >= 0 && old.Size >= 0 && r.Size != old.Size {
		return
	}
	all := pulp.Digests{}
	for alg, d := range old.Digests {
		if now, ok := r.Digests[alg]; ok && now != d {
			return
		}
		all[alg] = d
	}
	for alg, d := range r.Digests {
		all[alg] = d
	}
	r.Digests = all
	if r.Size < 0 {
		r.Size = old.Size
	}
}

var remoteArtifactColumns = []string{"id", "content_artifact", "remote", "url", "size", "md5", "sha1", "sha224", "sha256", "sha384", "sha512"}

// SaveRemoteArtifacts notes where files of content may be had, one place for a file and a remote. What is known
// already is brought up to date, and an earlier failure there is forgotten.
func (s *Service) SaveRemoteArtifacts(ctx context.Context, list []RemoteArtifact) (err error) {
	defer errs.Wrap(&err, "save remote artifacts")
	given := make(map[originKey]*RemoteArtifact, len(list))
	ids := make([]pulp.ID, 0, len(list))
	for i := range list {
		if _, twice := given[list[i].key()]; !twice {
			ids = append(ids, list[i].ContentArtifact)
		}
		given[list[i].key()] = &list[i]
	}
	slices.SortFunc(ids, pulp.ID.Compare)
	err = batches(slices.Compact(ids), func(marks string, args []any) error {
		return db.Each(ctx, s.DB, func(rows *sql.Rows) error {
			old := RemoteArtifact{Size: -1, Digests: pulp.Digests{}}
			var size sql.NullInt64
			var failed pulp.Time
			var d [len(pulp.Algorithms)]sql.NullString
			if err := rows.Scan(&old.ContentArtifact, &old.Remote, &old.URL, &size, &failed, &d[0], &d[1], &d[2], &d[3], &d[4], &d[5]); err != nil {
				return err
			}
			if size.Valid {
				old.Size = size.Int64
			}
			for i, alg := range pulp.Algorithms {
				if d[i].Valid {
					old.Digests[alg] = d[i].String
				}
			}
			switch r := given[old.key()]; {
			case r == nil:
			case failed.IsZero() && r.agree(&old):
				delete(given, old.key())
			default:
				r.keep(&old)
			}
			return nil
		}, "SELECT content_artifact, remote, url, size, failed_at, md5, sha1, sha224, sha256, sha384, sha512 FROM core_remoteartifact WHERE content_artifact IN "+marks, args...)
	})
	if err != nil || len(given) == 0 {
		return err
	}
	changed := make([]*RemoteArtifact, 0, len(given))
	for _, r := range given {
		changed = append(changed, r)
	}
	slices.SortFunc(changed, func(a, b *RemoteArtifact) int { // one order everywhere: see SaveArtifacts
		if c := a.ContentArtifact.Compare(b.ContentArtifact); c != 0 {
			return c
		}
		return a.Remote.Compare(b.Remote)
	})
	rows := make([][]any, len(changed))
	for i, r := range changed {
		var size any
		if r.Size >= 0 {
			size = r.Size
		}
		rows[i] = []any{pulp.NewID(), r.ContentArtifact, r.Remote, r.URL, size}
		for _, alg := range pulp.Algorithms {
			rows[i] = append(rows[i], nullText(r.Digests[alg]))
		}
	}
	return s.DB.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Insert(ctx, "core_remoteartifact", remoteArtifactColumns, rows, "ON CONFLICT (content_artifact, remote) DO UPDATE SET url = excluded.url,"+
			" size = excluded.size, md5 = excluded.md5, sha1 = excluded.sha1, sha224 = excluded.sha224, sha256 = excluded.sha256,"+
			" sha384 = excluded.sha384, sha512 = excluded.sha512, failed_at = NULL")
		return err
	})
}

// A Place is where an alternate content source has a file.
type Place struct {
	Remote pulp.ID
	URL    string
}

// HasSources says whether the call's domain has any alternate content source.
func (s *Service) HasSources(ctx context.Context) (bool, error) {
	return db.Exists(ctx, s.DB, "SELECT 1 FROM core_acs WHERE domain = ?", pulp.CallOf(ctx).Domain.ID)
}

// FindPlaces returns, by digest, where the domain's alternate content sources have files: one place for each remote, those
// that failed last at the end.
func (s *Service) FindPlaces(ctx context.Context, alg pulp.Algorithm, digests []string) (_ map[string][]Place, err error) {
	defer errs.Wrap(&err, "look for files in alternate content sources")
	found := map[string][]Place{}
	for batch := range slices.Chunk(digests, batchSize) {
		marks, args := db.In(batch)
		err := db.Each(ctx, s.DB, func(rows *sql.Rows) error {
			var digest string
			var p Place
			if err := rows.Scan(&digest, &p.Remote, &p.URL); err != nil {
				return err
			}
			if !slices.ContainsFunc(found[digest], func(o Place) bool { return o.Remote == p.Remote }) {
				found[digest] = append(found[digest], p)
			}
			return nil
		}, "SELECT ra."+string(alg)+", ra.remote, ra.url FROM core_remoteartifact ra JOIN core_acs s ON s.remote = ra.remote WHERE s.domain = ? AND ra."+string(alg)+
			" IN "+marks+" ORDER BY CASE WHEN ra.failed_at IS NULL THEN 0 ELSE 1 END, s.name, ra.id", append([]any{pulp.CallOf(ctx).Domain.ID}, args...)...)
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// SourceRefreshed notes, after a path of an alternate content source was synced into its hidden repository, that
// the source is as fresh as that. Other repositories are no source's.
func (s *Service) SourceRefreshed(ctx context.Context, repo pulp.ID) error {
	return s.DB.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE core_acs SET last_refreshed = ? WHERE id IN (SELECT acs FROM core_acspath WHERE repository = ?)", s.Now.Now(), repo)
		return err
	})
}

// KeepArtifacts protects artifacts from orphan cleanups that run already, however young they are, and returns those
// that are there.
func (s *Service) KeepArtifacts(ctx context.Context, ids []pulp.ID) (there map[pulp.ID]bool, err error) {
	there = map[pulp.ID]bool{}
	ids = slices.SortedFunc(slices.Values(ids), pulp.ID.Compare)
	err = batches(slices.Compact(ids), func(marks string, args []any) error {
		if err := s.DB.Update(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE core_artifact SET timestamp_of_interest = ? WHERE id IN "+marks, append([]any{s.Now.Now()}, args...)...)
			return err
		}); err != nil {
			return err
		}
		list, err := db.Column[pulp.ID](ctx, s.DB, "SELECT id FROM core_artifact WHERE id IN "+marks, args...)
		for _, id := range list {
			there[id] = true
		}
		return err
	})
	return there, err
}
