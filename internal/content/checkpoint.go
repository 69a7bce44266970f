package content

import (
	"context"
	"database/sql"
	"net/http"
	"slices"
	"strings"
	"time"

	"granary/internal/db"
	"granary/internal/pulp"
)

// A checkpoint is a publication that stays to be had under the time at which it was made.
type checkpoint struct {
	target
	second int64 // when that was, since 1970
	made   pulp.Time
}

// dated says whether the target is a checkpoint: its paths begin below the time.
func (t *target) dated() bool { return t.folder != "" }

// checkpointTime is how checkpoints are named.
const checkpointTime = "20060102T150405Z"

// findCheckpoints finds out which checkpoints a site serves, and keeps that with the site. Of two that were made in the same
// second it is the later one.
func (s *Server) findCheckpoints(ctx context.Context, st *site, t, old *target) error {
	list, err := db.All(ctx, s.DB, func(rows *sql.Rows) (*checkpoint, error) {
		c := &checkpoint{}
		err := rows.Scan(&c.Publication, &c.PassThrough, &c.made, &c.Version, &c.Repository, &c.Number)
		c.second = c.made.Std().Unix()
		c.folder = c.made.Std().UTC().Format(checkpointTime) + "/"
		return c, err
	}, `SELECT p.id, p.pass_through, p.created, v.id, v.repository, v.number FROM core_publication p JOIN core_repositoryversion v ON v.id = p.repository_version
		WHERE v.repository = ? AND p.checkpoint AND p.complete ORDER BY p.created, p.id`, st.Repository)
	if err != nil {
		return err
	}
	for i, c := range list {
		if i+1 == len(list) || list[i+1].second != c.second {
			t.checkpoints = append(t.checkpoints, c)
		}
	}
	gens := map[Served]uint64{}
	if old != nil && old.flushes == t.flushes {
		for _, c := range old.checkpoints {
			gens[c.Served] = c.gen
		}
	}
	known := 0
	for _, c := range t.checkpoints {
		if c.gen = gens[c.Served]; c.gen == 0 {
			c.gen = s.gens.Add(1)
		} else {
			known++
		}
	}
	if known > 0 && known == len(t.checkpoints) && known == len(old.checkpoints) {
		t.gen = old.gen
	} else {
		t.gen = s.gens.Add(1)
	}
	st.target.Store(t)
	return nil
}

// serveCheckpoint answers for a distribution that serves checkpoints: the list of them, or a path below the time of one.
func (s *Server) serveCheckpoint(w http.ResponseWriter, r *http.Request, st *site, t *target, key pageKey) error {
	if st.Repository.IsZero() {
		return errNotPointing
	}
	if key.rel == "" {
		p := &page{status: http.StatusOK, header: htmlHeader, body: t.checkpointList()}
		s.keep(key, p)
		return s.sendPage(w, r, st, key, p)
	}
	name, rest, below := strings.Cut(key.rel, "/")
	if !below {
		redirect(w, r, r.URL.Path+"/")
		return nil
	}
	second, ok := checkpointSecond(name)
	if !ok || second > s.Now().Unix() {
		return errNotFound
	}
	i, found := slices.BinarySearchFunc(t.checkpoints, second, func(c *checkpoint, at int64) int { return int(c.second - at) })
	if !found {
		if i--; i < 0 { // all are newer
			return errNotFound
		}
		redirect(w, r, strings.TrimSuffix(r.URL.Path, key.rel)+t.checkpoints[i].folder+rest)
		return nil
	}
	c := t.checkpoints[i]
	there, err := s.serveTarget(w, r, st, &c.target, pageKey{c.gen, rest}, nil)
	if !there && err == nil {
		err = errNotFound
	}
	return err
}

// checkpointSecond reads the name of a checkpoint as seconds since 1970.
func checkpointSecond(name string) (int64, bool) {
	if len(name) != len(checkpointTime) { // else there may be fractions of a second
		return 0, false
	}
	at, err := time.Parse(checkpointTime, name)
	return at.Unix(), err == nil
}

func (t *target) checkpointList() []byte {
	items := make([]Item, len(t.checkpoints))
	for i, c := range t.checkpoints {
		items[i] = Item{Name: c.folder, Size: -1, Date: c.made}
	}
	return listing("", true, items) // as Pulp does, without a title
}
