package content

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"

	"granary/internal/blob"
	"granary/internal/content/mediatype"
	"granary/internal/db"
	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// headWait is how long a HEAD of a file that is being stored waits for that, so that the next request finds it stored.
const headWait = 10 * time.Second

// The headers of an upstream's answer that clients get: of files that we don't keep, and of those that we know nothing
// else of.
var (
	passed     = []string{"Last-Modified", "Cache-Control", "Expires"}
	passedMore = []string{"Content-Type", "Etag"}
)

// maxSources is how many sources of one file are tried.
const maxSources = 20

// sendRemote sends a file of content that is not stored, while it is downloaded.
func (s *Server) sendRemote(w http.ResponseWriter, r *http.Request, st *site, key pageKey, e *Entry) error {
	sources, err := s.sources(r.Context(), e)
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		return errNotFound
	}
	err = s.sendFlight(w, r, st, delivery{
		key: key, name: key.rel, cache: true, expected: expectedOf(sources),
		flight: flightKey{contentArtifact: e.ContentArtifact}, order: s.contentOrder(st.domain.Domain, e, sources),
	})
	if isSources(err) {
		return errNotFound // as in Pulp, whatever the sources' troubles are
	}
	return err
}

// sendLost sends a file whose place in the store is empty, from where it came.
func (s *Server) sendLost(w http.ResponseWriter, r *http.Request, st *site, key pageKey, f *file) error {
	if f.ContentArtifact.IsZero() {
		return errLost
	}
	sources, err := s.sources(r.Context(), &f.Entry)
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		return errLost
	}
	err = s.sendFlight(w, r, st, delivery{
		key: key, name: f.name, expected: expectedOf(sources),
		flight: flightKey{contentArtifact: f.ContentArtifact}, order: s.contentOrder(st.domain.Domain, &f.Entry, sources),
	})
	if isSources(err) {
		return errLost
	}
	return err
}

// sources returns where a file of content may be had, alternate sources first. Those that gave a wrong one a short
// while ago are left out.
func (s *Server) sources(ctx context.Context, e *Entry) (_ []source, err error) {
	defer errs.Wrap(&err, "find sources of %s", e.ContentArtifact)
	recently := pulp.TimeOf(s.Now().Add(-s.Cooldown))
	return db.All(ctx, s.DB, func(rows *sql.Rows) (source, error) {
		src := source{digests: pulp.Digests{}}
		var size sql.NullInt64
		var digests [len(pulp.Algorithms)]sql.NullString
		err := rows.Scan(&src.id, &src.remote, &src.url, &size,
			&digests[0], &digests[1], &digests[2], &digests[3], &digests[4], &digests[5])
		for i, d := range digests {
			if d.String != "" {
				src.digests[pulp.Algorithms[i]] = d.String
			}
		}
		if e.SHA256 != "" { // an artifact that lost its file
			src.digests[pulp.SHA256] = e.SHA256
			size = sql.NullInt64{Int64: e.Size, Valid: true}
		}
		if src.size = -1; size.Valid {
			src.size = size.Int64
		}
		return src, err
	}, `SELECT ra.id, ra.remote, ra.url, ra.size, ra.md5, ra.sha1, ra.sha224, ra.sha256, ra.sha384, ra.sha512
		FROM core_remoteartifact ra WHERE ra.content_artifact = ? AND (ra.failed_at IS NULL OR ra.failed_at <= ?)
		ORDER BY CASE WHEN EXISTS (SELECT 1 FROM core_acs s WHERE s.remote = ra.remote) THEN 0 ELSE 1 END, ra.id LIMIT ?`,
		e.ContentArtifact, recently, maxSources)
}

// contentOrder orders the file of a content artifact.
func (s *Server) contentOrder(d pulp.Domain, e *Entry, sources []source) order {
	id := e.ContentArtifact
	return order{
		domain:  d,
		sources: sources,
		stored: func(ctx context.Context) (*Entry, error) {
			e, err := byContentArtifact(ctx, s.DB, d.ID, id)
			if err != nil || e == nil || e.Artifact.IsZero() {
				return nil, err
			}
			info, err := s.Blobs.Of(d.ID).Stat(ctx, blob.ArtifactKey(d, e.SHA256))
			if errs.Is(err, errs.NotFound) || err == nil && info.Size != e.Size {
				return nil, nil
			}
			return e, err
		},
		keep: func(ctx context.Context, a *pulp.Artifact) (*Entry, error) {
			err := s.DB.Update(ctx, func(tx *db.Tx) error {
				_, err := tx.Exec(ctx, "UPDATE core_contentartifact SET artifact = ? WHERE id = ? AND artifact IS NULL", a.ID, id)
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("give the content its artifact: %w", err)
			}
			e, err := byContentArtifact(ctx, s.DB, d.ID, id)
			if err == nil && (e == nil || e.Artifact.IsZero()) { // the content was removed meanwhile
				return byArtifact(ctx, s.DB, d.ID, a.ID)
			}
			return e, err
		},
		failed: func(ctx context.Context, src source) error {
			return s.DB.Update(ctx, func(tx *db.Tx) error {
				_, err := tx.Exec(ctx, "UPDATE core_remoteartifact SET failed_at = ? WHERE id = ?", s.Now.Now(), src.id)
				return err
			})
		},
	}
}

// upstream returns where the distribution's remote has what it has not, nil if nowhere.
func (s *Server) upstream(ctx context.Context, st *site, req *Request) (*Upstream, error) {
	if st.Remote.IsZero() || st.serving.PullThrough == nil {
		return nil, nil
	}
	remote, err := s.Remote(ctx, s.DB, st.Remote)
	if err != nil {
		return nil, ignoreNone(err)
	}
	return st.serving.PullThrough(ctx, req, remote)
}

// sendUpstream sends a file that only the distribution's remote has.
func (s *Server) sendUpstream(w http.ResponseWriter, r *http.Request, st *site, key pageKey, up *Upstream) error {
	ctx := r.Context()
	served := func(ctx context.Context, contentArtifact pulp.ID) (*Entry, error) {
		if up.Served != nil {
			if err := up.Served(ctx, contentArtifact); err != nil {
				s.Log.ErrorContext(ctx, "content was not added to its repository", slog.Any("error", err))
			}
		}
		return byContentArtifact(ctx, s.DB, st.Domain, contentArtifact)
	}
	known, err := db.Column[pulp.ID](ctx, s.DB, "SELECT content_artifact FROM core_remoteartifact WHERE remote = ? AND url = ? LIMIT 1", st.Remote, up.URL)
	if err != nil {
		return err
	}
	if len(known) > 0 {
		e, err := served(ctx, known[0])
		switch {
		case err != nil:
			return err
		case e != nil && e.Artifact.IsZero():
			return s.sendRemote(w, r, st, key, e)
		case e != nil:
			return s.sendFile(w, r, st, key, s.newFile(st, key.rel, e), nil, true)
		}
	}
	o := order{domain: st.domain.Domain, sources: []source{{remote: st.Remote, url: up.URL, size: -1}}}
	if up.Keep != nil {
		o.keep = func(ctx context.Context, a *pulp.Artifact) (*Entry, error) {
			id, err := up.Keep(ctx, a)
			if err != nil {
				return nil, err
			}
			return served(ctx, id)
		}
	}
	err = s.sendFlight(w, r, st, delivery{
		key: key, name: key.rel, upstream: true, expected: expected{size: -1},
		flight: flightKey{remote: st.Remote, url: up.URL}, order: o,
	})
	if e, ok := errors.AsType[*download.Error](err); ok && e.Reason == download.Status {
		return &refusal{e.Code, fmt.Sprintf("Error while fetching from upstream remote(%s): %s", e.URL, http.StatusText(e.Code))}
	}
	return err
}

// expected is what is known of a file before it is downloaded.
type expected struct {
	size int64  // -1 if it is not known
	etag string // empty if it is not known
}

func expectedOf(sources []source) expected {
	x := expected{size: -1}
	for _, src := range sources {
		if x.size < 0 {
			x.size = src.size
		}
		if x.etag == "" && src.digests[pulp.SHA256] != "" {
			x.etag = `"` + src.digests[pulp.SHA256] + `"`
		}
	}
	return x
}

// A delivery is a flight as one client wants to have it.
type delivery struct {
	key      pageKey
	name     string // of the file, which its type goes by
	cache    bool   // keep the page of the stored file
	upstream bool   // the upstream knows more of the file than we
	expected expected
	flight   flightKey
	order    order
}

// sendFlight sends a file while it is downloaded.
func (s *Server) sendFlight(w http.ResponseWriter, r *http.Request, st *site, d delivery) error {
	ctx := r.Context()
	h := w.Header()
	describe := func(size int64) {
		h["Content-Type"] = []string{mediatype.Of(d.name)}
		if size >= 0 {
			h["X-PULP-ARTIFACT-SIZE"] = []string{strconv.FormatInt(size, 10)}
		}
		if d.expected.etag != "" {
			h["Etag"] = []string{d.expected.etag}
		}
		if st.serving.Headers != nil {
			maps.Copy(h, st.serving.Headers(d.name))
		}
	}
	if d.expected.etag != "" {
		if status := precondition(r.Header, d.expected.etag, time.Time{}); status != http.StatusOK {
			describe(d.expected.size)
			if status == http.StatusPreconditionFailed {
				h["Content-Length"] = []string{"0"}
			}
			w.WriteHeader(status)
			return nil
		}
	}
	part, ranged := wantsRange(r.Header, d.expected.etag, time.Time{})
	if ranged && d.expected.size >= 0 {
		if _, _, ok := parseRange(part, d.expected.size); !ok {
			return s.noSuchRange(h, d.expected.size)
		}
	}
	d.order.cid = pulp.CallOf(ctx).CID
	f, err := s.join(d.flight, d.order)
	if err != nil {
		return err
	}
	defer f.leave()
	now, err := f.awaitHeader(ctx, r.Method == http.MethodHead)
	switch {
	case err != nil:
		return err // the client is gone
	case now.err != nil:
		return s.failFlight(w, r, d, now)
	case now.entry != nil:
		return s.sendFile(w, r, st, d.key, s.storedFile(r, st, d, now.entry), nil, false)
	}
	describe(now.size)
	from, to, status := int64(0), now.size, http.StatusOK
	if now.size >= 0 {
		h["Accept-Ranges"] = acceptRanges
		if ranged {
			var ok bool
			if from, to, ok = parseRange(part, now.size); !ok {
				return s.noSuchRange(h, now.size)
			}
			status = http.StatusPartialContent
			h["Content-Range"] = []string{contentRange(from, to, now.size)}
		}
		h["Content-Length"] = []string{strconv.FormatInt(to-from, 10)}
	}
	if !now.keep {
		pass(h, now.header, passed)
		if d.upstream {
			pass(h, now.header, passedMore)
		}
	}
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	return s.stream(w, r, st, d, f, from, to)
}

// storedFile returns a downloaded file that was stored, and keeps its page.
func (s *Server) storedFile(r *http.Request, st *site, d delivery, e *Entry) *file {
	f := s.newFile(st, d.name, e)
	if d.cache && !e.Artifact.IsZero() {
		p := &page{file: f}
		p.seen.Store(methodBit(r.Method)) // as in Pulp, the next answer is a hit
		s.keep(d.key, p)
	}
	return f
}

func pass(to, from http.Header, names []string) {
	for _, name := range names {
		if v := from[name]; len(v) > 0 {
			to[name] = v
		}
	}
}

// noSuchRange refuses a Range of a file that is not stored.
func (s *Server) noSuchRange(h http.Header, size int64) error {
	clear(h)
	h["Content-Range"] = []string{"bytes */" + strconv.FormatInt(size, 10)}
	return &refusal{status: http.StatusRequestedRangeNotSatisfiable}
}

// awaitHeader waits until it is clear what the header of the answer is.
func (f *flight) awaitHeader(ctx context.Context, head bool) (state, error) {
	if !head {
		return f.await(ctx, func(st *state) bool { return st.ended || st.readable > 0 })
	}
	wait, cancel := context.WithTimeout(ctx, headWait)
	defer cancel()
	st, err := f.await(wait, func(st *state) bool { return st.ended || st.begun && !st.keep })
	if err == nil || ctx.Err() != nil {
		return st, err
	}
	return f.await(ctx, func(st *state) bool { return st.ended || st.begun })
}

// failFlight tells a client that has nothing yet that the download failed.
func (s *Server) failFlight(w http.ResponseWriter, r *http.Request, d delivery, now state) error {
	if !isWrong(now.err) || r.Method == http.MethodHead {
		return now.err
	}
	// As Pulp does: what was downloaded is not the file, and the client sees an answer that breaks off.
	h := w.Header()
	h["Content-Type"] = []string{mediatype.Of(d.name)}
	if !r.ProtoAtLeast(1, 1) {
		h["Content-Length"] = []string{strconv.FormatInt(max(1, now.size), 10)} // else the break looks like an end
	}
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// stream sends a part of a file while it is downloaded. to is -1 where the size is not known.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, st *site, d delivery, f *flight, from, to int64) error {
	ctx := r.Context()
	rc := http.NewResponseController(w)
	_ = rc.Flush()
	buf := s.buffers.Get().(*[bufferSize]byte)
	defer s.buffers.Put(buf)
	for off := from; to < 0 || off < to; {
		now, err := f.await(ctx, func(st *state) bool { return st.ended || st.data != nil && st.readable > off })
		switch {
		case err != nil:
			return nil // the client is gone
		case now.err != nil:
			panic(http.ErrAbortHandler)
		case now.entry != nil:
			fl := s.storedFile(r, st, d, now.entry)
			b, err := s.open(ctx, fl)
			if err != nil {
				s.Log.ErrorContext(ctx, "a file that was just stored cannot be opened", slog.Any("error", err))
				panic(http.ErrAbortHandler)
			}
			defer b.Close() //nolint:errcheck // it was only read
			if to < 0 {
				to = fl.Size
			}
			return s.copyBlob(w, r, b, off, to)
		case now.data == nil: // the server stops
			panic(http.ErrAbortHandler)
		case now.readable <= off:
			return nil // it is complete
		}
		n := min(bufferSize, now.readable-off)
		if to >= 0 {
			n = min(n, to-off)
		}
		read, ok, err := f.readAt(buf[:n], off)
		if err != nil {
			s.Log.ErrorContext(ctx, "a staged file cannot be read", slog.Any("error", err))
			panic(http.ErrAbortHandler)
		}
		if !ok {
			continue
		}
		if _, err := w.Write(buf[:read]); err != nil {
			return nil // the client is gone
		}
		if off += int64(read); off == now.readable {
			_ = rc.Flush()
		}
	}
	return nil
}

// clients are the download clients of remotes. Each remote has one, so that its limits hold over all downloads.
type clients struct {
	mu  sync.Mutex
	all map[pulp.ID]*client
}

type client struct {
	*download.Client
	remote pulp.Remote
}

const maxClients = 256

// get returns the client of a remote as it is now.
func (c *clients) get(remote *pulp.Remote, make func(pulp.Remote) (*download.Client, error)) (*download.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.all[remote.ID]; old != nil {
		if reflect.DeepEqual(old.remote, *remote) {
			return old.Client, nil
		}
		c.drop(remote.ID)
	}
	made, err := make(*remote)
	if err != nil {
		return nil, err
	}
	for id := range c.all {
		if len(c.all) < maxClients {
			break
		}
		c.drop(id)
	}
	if c.all == nil {
		c.all = map[pulp.ID]*client{}
	}
	c.all[remote.ID] = &client{made, *remote}
	return made, nil
}

// drop forgets a client. Downloads that use it go on.
func (c *clients) drop(id pulp.ID) {
	c.all[id].Close()
	delete(c.all, id)
}

func (c *clients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.all {
		c.drop(id)
	}
}
