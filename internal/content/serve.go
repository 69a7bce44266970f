package content

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"granary/internal/errs"
	"granary/internal/pulp"
)

// A page is what a path of a target has: a file, a directory whose path ends in a slash, or a complete answer.
type page struct {
	file      *file
	directory bool
	status    int
	header    http.Header
	body      []byte

	seen atomic.Uint32 // by which methods, for X-PULP-CACHE
}

// weight is about what a page takes in memory, in bytes.
func (p *page) weight() int {
	n := 1<<10 + len(p.body)
	if p.file != nil {
		if data := p.file.data.Load(); data != nil {
			n += len(*data)
		}
	}
	return n
}

// A pageKey names a page. Targets that have become others have another generation.
type pageKey struct {
	gen uint64
	rel string
}

// ServeHTTP answers a request. To end an answer that went wrong on the way, it panics with [http.ErrAbortHandler], as
// net/http knows it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var err error = errMethod
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		err = s.serve(w, r)
	}
	if err != nil {
		s.refuse(w, r, s.refusalOf(r.Context(), r, err))
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	full := r.URL.Path
	path, ok := strings.CutPrefix(full, s.Prefix)
	if !ok && full+"/" == s.Prefix && !s.Domains {
		redirect(w, r, s.Prefix)
		return nil
	}
	if !ok || !clean(path) {
		return errNotFound
	}
	if err := s.refresh(ctx); err != nil {
		return err
	}
	name := pulp.DefaultDomain
	if s.Domains {
		name, path, ok = strings.Cut(path, "/")
	}
	t := &s.sites
	t.mu.RLock()
	d := t.domains[name]
	if d == nil || !ok {
		t.mu.RUnlock()
		if d == nil {
			return errNotFound
		}
		redirect(w, r, full+"/")
		return nil
	}
	st, rest, level := d.find(path)
	if st == nil && level && (path == "" || strings.HasSuffix(path, "/")) {
		names := d.names(path, !s.HideGuarded && !d.HideGuarded)
		t.mu.RUnlock()
		sendBody(w, r, http.StatusOK, htmlHeader, s.levelPage(d, path, names), nil)
		return nil
	}
	t.mu.RUnlock()
	switch {
	case st != nil:
		return s.serveSite(w, r, st, rest)
	case level:
		redirect(w, r, full+"/")
		return nil
	}
	return errNotFound
}

// clean says whether a path may be one of a file: it is text, and has no segment that leads elsewhere.
func clean(path string) bool {
	if len(path) > maxPath || strings.IndexByte(path, 0) >= 0 || !utf8.ValidString(path) {
		return false
	}
	if !strings.HasPrefix(path, ".") && !strings.Contains(path, "/.") {
		return true
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

var htmlHeader = http.Header{"Content-Type": htmlText}

// levelPage lists what is below a path that no distribution has for its own.
func (s *Server) levelPage(d *domain, path string, names []string) []byte {
	title := path
	if path == "" {
		title = s.base(d)
	}
	items := make([]Item, len(names))
	for i, name := range names {
		items[i] = Item{Name: name, Size: -1}
	}
	return listing(title, path != "", items)
}

// base returns what the paths of a domain's content begin with.
func (s *Server) base(d *domain) string {
	if s.Domains {
		return s.Prefix + d.Name + "/"
	}
	return s.Prefix
}

// serveSite answers for a distribution. rest is what follows its base path.
func (s *Server) serveSite(w http.ResponseWriter, r *http.Request, st *site, rest string) error {
	ctx := r.Context()
	rel := strings.TrimLeft(rest, "/")
	var req *Request // only where somebody asks for it
	if !st.Guard.IsZero() || st.serving.Handle != nil || st.serving.PullThrough != nil {
		req = &Request{Request: r, Domain: st.domain.Domain, Distribution: &st.Distribution, Rel: rel, authenticate: s.Authenticate}
	}
	if !st.Guard.IsZero() {
		if s.Guard == nil {
			return errs.E(errs.Denied, "")
		}
		if err := s.Guard(ctx, st.Guard, req); err != nil {
			return err
		}
	}
	if rest == "" {
		redirect(w, r, r.URL.Path+"/")
		return nil
	}
	t, err := s.targetOf(ctx, st)
	if err != nil {
		return err
	}
	if req != nil {
		req.Served = t.Served
	}
	key := pageKey{t.gen, rel}
	if there, err := s.serveTarget(w, r, st, t, key, req); there || err != nil {
		return err
	}
	if st.Checkpoint {
		return s.serveCheckpoint(w, r, st, t, key)
	}
	up, err := s.upstream(ctx, st, req)
	switch {
	case err != nil:
		return err
	case up != nil:
		return s.sendUpstream(w, r, st, key, up)
	}
	if st.Publication.IsZero() && st.Repository.IsZero() && st.RepositoryVersion.IsZero() && st.Remote.IsZero() {
		return errNotPointing
	}
	return errNotFound
}

// serveTarget answers with what a target has at a path. there is false where that is nothing.
func (s *Server) serveTarget(w http.ResponseWriter, r *http.Request, st *site, t *target, key pageKey, req *Request) (there bool, err error) {
	if p, ok := s.pages.GetIfPresent(key); ok {
		return true, s.sendPage(w, r, st, key, p)
	}
	p, e, err := s.page(r.Context(), st, t, key, req)
	switch {
	case err != nil:
		return false, err
	case p != nil:
		return true, s.sendPage(w, r, st, key, p)
	case e != nil:
		return true, s.sendRemote(w, r, st, key, e)
	}
	return false, nil
}

// page finds what a path has. It is one of: a page, an entry of a file that is not stored, or nothing.
func (s *Server) page(ctx context.Context, st *site, t *target, key pageKey, req *Request) (*page, *Entry, error) {
	if st.serving.Handle != nil && !t.dated() {
		a, err := st.serving.Handle(ctx, req)
		if err != nil {
			return nil, nil, err
		}
		if a != nil {
			return s.answer(ctx, st, key, a)
		}
	}
	if st.Checkpoint && !t.dated() || t.nothing() && st.serving.Listing == nil {
		return nil, nil, nil
	}
	if _, ok := s.missing.GetIfPresent(key); ok {
		return nil, nil, nil
	}
	if key.rel != "" && !strings.HasSuffix(key.rel, "/") {
		return s.filePage(ctx, st, t, key)
	}
	return s.directoryPage(ctx, st, t, key)
}

// answer turns what a type has to say into a page, and keeps that.
func (s *Server) answer(ctx context.Context, st *site, key pageKey, a *Answer) (*page, *Entry, error) {
	var e *Entry
	var err error
	switch {
	case !a.ContentArtifact.IsZero():
		e, err = byContentArtifact(ctx, s.DB, st.Domain, a.ContentArtifact)
	case !a.Artifact.IsZero():
		e, err = byArtifact(ctx, s.DB, st.Domain, a.Artifact)
	default:
		p := &page{status: a.Status, header: a.Header, body: a.Body}
		if p.status == 0 {
			p.status = http.StatusOK
		}
		s.keep(key, p)
		return p, nil, nil
	}
	if err != nil || e == nil {
		return nil, nil, err
	}
	p, e := s.entryPage(st, key, key.rel, e)
	return p, e, nil
}

// filePage finds a path that does not end in a slash.
func (s *Server) filePage(ctx context.Context, st *site, t *target, key pageKey) (*page, *Entry, error) {
	e, err := s.Index.Lookup(ctx, t.Served, key.rel)
	if err != nil {
		return nil, nil, err
	}
	if e != nil {
		p, e := s.entryPage(st, key, key.rel, e)
		return p, e, nil
	}
	dir := key.rel + "/"
	if t.Publication.IsZero() {
		// As Pulp does: without a publication the index of a directory needs no redirect.
		e, err := s.Index.Lookup(ctx, t.Served, dir+indexName)
		if err != nil {
			return nil, nil, err
		}
		if e != nil {
			p, e := s.entryPage(st, key, dir+indexName, e)
			return p, e, nil
		}
	}
	is, err := s.Index.HasDir(ctx, t.Served, dir)
	if err != nil {
		return nil, nil, err
	}
	if !is && st.serving.Listing != nil && !t.dated() {
		names, err := st.serving.Listing(ctx, &st.Distribution, t.Served, dir)
		if err != nil {
			return nil, nil, err
		}
		is = len(names) > 0
	}
	if is {
		p := &page{directory: true}
		s.keep(key, p)
		return p, nil, nil
	}
	s.missing.Set(key, struct{}{})
	return nil, nil, nil
}

const indexName = "index.html"

// directoryPage finds a path that ends in a slash, or the distribution's own.
func (s *Server) directoryPage(ctx context.Context, st *site, t *target, key pageKey) (*page, *Entry, error) {
	if !t.nothing() {
		e, err := s.Index.Lookup(ctx, t.Served, key.rel+indexName)
		if err != nil {
			return nil, nil, err
		}
		if e != nil && (e.Published || t.Publication.IsZero()) {
			p, e := s.entryPage(st, key, key.rel+indexName, e)
			return p, e, nil
		}
	}
	if err := s.listings.Acquire(ctx, 1); err != nil {
		return nil, nil, err
	}
	defer s.listings.Release(1)
	if p, ok := s.pages.GetIfPresent(key); ok { // made while this one waited
		return p, nil, nil
	}
	var items []Item
	var err error
	if !t.nothing() {
		if items, err = s.Index.List(ctx, t.Served, key.rel); err != nil {
			return nil, nil, err
		}
	}
	if st.serving.Listing != nil && !t.dated() {
		names, err := st.serving.Listing(ctx, &st.Distribution, t.Served, key.rel)
		if err != nil {
			return nil, nil, err
		}
		items = withNames(items, names)
	}
	if len(items) == 0 {
		s.missing.Set(key, struct{}{})
		return nil, nil, nil
	}
	title := s.base(st.domain) + st.BasePath + "/" + t.folder + key.rel
	p := &page{status: http.StatusOK, header: htmlHeader, body: listing(title, true, items)}
	s.keep(key, p)
	return p, nil, nil
}

// withNames adds names to a listing.
func withNames(items []Item, names []string) []Item {
	all := map[string]Item{}
	for _, name := range names {
		all[name] = Item{Name: name, Size: -1}
	}
	for _, it := range items {
		all[it.Name] = it
	}
	return slices.SortedFunc(maps.Values(all), func(a, b Item) int { return strings.Compare(a.Name, b.Name) })
}

// entryPage makes a page of a stored file and keeps it; the entry of another one it gives back. name is the file's
// path, which its type goes by.
func (s *Server) entryPage(st *site, key pageKey, name string, e *Entry) (*page, *Entry) {
	if e.Artifact.IsZero() {
		return nil, e
	}
	p := &page{file: s.newFile(st, name, e)}
	s.keep(key, p)
	return p, nil
}

func (s *Server) keep(key pageKey, p *page) {
	if len(p.body) <= maxPage {
		s.pages.Set(key, p)
	}
}

// sendPage sends a page.
func (s *Server) sendPage(w http.ResponseWriter, r *http.Request, st *site, key pageKey, p *page) error {
	switch {
	case p.file != nil:
		s.warm(r.Context(), key, p)
		return s.sendFile(w, r, st, key, p.file, s.cacheState(r, p), true)
	case p.directory:
		redirect(w, r, r.URL.Path+"/")
		return nil
	}
	sendBody(w, r, p.status, p.header, p.body, s.cacheState(r, p))
	return nil
}

var (
	hit  = []string{"HIT"}
	miss = []string{"MISS"}
)

// cacheState returns the value of X-PULP-CACHE: whether a page was sent before by this method. GET and HEAD count
// apart, as in Pulp.
func (s *Server) cacheState(r *http.Request, p *page) []string {
	if !s.CacheHeader {
		return nil
	}
	bit := methodBit(r.Method)
	if p.seen.Load()&bit != 0 || p.seen.Or(bit)&bit != 0 {
		return hit
	}
	return miss
}

func methodBit(method string) uint32 {
	if method == http.MethodHead {
		return 2
	}
	return 1
}
