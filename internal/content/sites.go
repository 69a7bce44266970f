package content

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// A domain and the distributions in it.
type domain struct {
	pulp.Domain
	root node
}

// A node is a path that distributions have as their base path or above it.
type node struct {
	children      map[string]*node // by the next segment
	site          *site            // the distribution with this base path, or nil
	open, guarded int              // how many distributions here and below are to be listed, without and with a guard
}

// A site is a distribution and what is known of what it serves. A distribution that changes gets a new site.
type site struct {
	Distribution
	origin  pulp.ID // the repository that the version or publication is of
	domain  *domain
	serving *Serving

	changes atomic.Uint64 // grows when what it serves may be something else
	flushes atomic.Uint64 // grows when the files of what it serves may be others
	target  atomic.Pointer[target]
	resolve sync.Mutex // held while the target is found out
}

// A target is what a site serves.
type target struct {
	Served
	gen              uint64 // of the pages that were made from it
	changes, flushes uint64 // the site's, when it was found out

	checkpoints []*checkpoint // of a site that serves these, the oldest first
	folder      string        // of a checkpoint: the part of the path that names it, with its slash
}

// sites holds all distributions. It is brought up to date by the first request after a change.
type sites struct {
	mu      sync.RWMutex
	domains map[string]*domain  // by name
	owners  map[pulp.ID]*domain // by id
	byID    map[pulp.ID]*site
	refs    map[pulp.ID]map[*site]struct{} // by what they refer to

	listening atomic.Bool
	told      atomic.Uint64 // how many notices came
	fresh     atomic.Uint64 // how many of them were dealt with
	refresh   sync.Mutex    // held while they are

	pendingMu sync.Mutex
	pending   changes
}

// changes are notices that were not dealt with yet.
type changes struct {
	all           bool
	distributions map[pulp.ID]bool
	referred      map[pulp.ID]bool // what distributions refer to; true if it is a repository whose files are others
}

// maxChanges is how many changes are noted one by one.
const maxChanges = 10_000

func (c *changes) add(kind notice.Kind, ids []pulp.ID) {
	if kind == "" || kind == notice.Domain || len(ids) == 0 || len(c.distributions)+len(c.referred) > maxChanges {
		*c = changes{all: true}
	}
	if c.all {
		return
	}
	if c.referred == nil {
		c.distributions, c.referred = map[pulp.ID]bool{}, map[pulp.ID]bool{}
	}
	for _, id := range ids {
		if kind == notice.Distribution {
			c.distributions[id] = true
		} else {
			c.referred[id] = c.referred[id] || kind == notice.Files
		}
	}
}

// tell notes a change. It is part of the transaction's end, so it does no more than that.
func (s *sites) tell(kind notice.Kind, ids []pulp.ID) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	s.pending.add(kind, ids)
	s.told.Add(1)
}

// refreshTimeout is how long the database may take to tell what has changed.
const refreshTimeout = 30 * time.Second

// refresh deals with all changes that were told before it was called.
func (s *Server) refresh(ctx context.Context) error {
	t := &s.sites
	if t.fresh.Load() == t.told.Load() && t.listening.Load() {
		return nil
	}
	t.refresh.Lock()
	defer t.refresh.Unlock()
	told := t.told.Load()
	listening := t.listening.Load()
	if t.fresh.Load() == told && listening {
		return nil
	}
	t.pendingMu.Lock()
	c := t.pending
	t.pending = changes{}
	t.pendingMu.Unlock()

	// All wait for this one, so it goes on when its own client leaves.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshTimeout)
	defer cancel()
	var err error
	if c.all || !listening {
		err = s.loadAll(ctx)
	} else {
		err = s.load(ctx, c)
	}
	if err != nil {
		t.tell("", nil) // to be on the safe side
		return err
	}
	t.fresh.Store(told)
	return nil
}

const selectSites = `SELECT d.id, d.domain, d.pulp_type, d.base_path, d.content_guard, d.hidden, d.checkpoint,
	d.repository, d.repository_version, d.publication, d.remote, v.repository
	FROM core_distribution d
	LEFT JOIN core_publication p ON p.id = d.publication
	LEFT JOIN core_repositoryversion v ON v.id = COALESCE(d.repository_version, p.repository_version)`

func scanSite(rows *sql.Rows) (*site, error) {
	st := &site{}
	err := rows.Scan(&st.ID, &st.Domain, &st.Type, &st.BasePath, &st.Guard, &st.Hidden, &st.Checkpoint,
		&st.Repository, &st.RepositoryVersion, &st.Publication, &st.Remote, &st.origin)
	return st, err
}

// loadAll forgets everything and reads all distributions.
func (s *Server) loadAll(ctx context.Context) (err error) {
	defer errs.Wrap(&err, "load all distributions")
	domains, err := db.All(ctx, s.DB, func(rows *sql.Rows) (*domain, error) {
		d := &domain{}
		err := rows.Scan(&d.ID, &d.Name, &d.Redirect, &d.HideGuarded)
		return d, err
	}, "SELECT id, name, redirect_to_object_storage, hide_guarded_distributions FROM core_domain")
	if err != nil {
		return err
	}
	list, err := db.All(ctx, s.DB, scanSite, selectSites)
	if err != nil {
		return err
	}
	t := &s.sites
	t.mu.Lock()
	defer t.mu.Unlock()
	t.domains, t.owners = map[string]*domain{}, map[pulp.ID]*domain{}
	t.byID, t.refs = map[pulp.ID]*site{}, map[pulp.ID]map[*site]struct{}{}
	for _, d := range domains {
		t.domains[d.Name], t.owners[d.ID] = d, d
	}
	for _, st := range list {
		s.addSite(st)
	}
	return nil
}

// load reads the distributions that changes are about.
func (s *Server) load(ctx context.Context, c changes) (err error) {
	defer errs.Wrap(&err, "load distributions")
	t := &s.sites
	affected := map[pulp.ID]bool{}
	var flushed []*site
	t.mu.RLock()
	for id := range c.distributions {
		affected[id] = true
	}
	for id, files := range c.referred {
		for st := range t.refs[id] {
			affected[st.ID] = true
			if files {
				flushed = append(flushed, st)
			}
		}
	}
	t.mu.RUnlock()

	found := map[pulp.ID]*site{}
	for ids := range slices.Chunk(slices.Collect(maps.Keys(affected)), 500) {
		marks, args := db.In(ids)
		list, err := db.All(ctx, s.DB, scanSite, selectSites+" WHERE d.id IN "+marks, args...)
		if err != nil {
			return err
		}
		for _, st := range list {
			found[st.ID] = st
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, st := range flushed {
		st.flushes.Add(1)
	}
	var moved []*site
	for id := range affected {
		old, now := t.byID[id], found[id]
		if old != nil && now != nil && old.Distribution == now.Distribution && old.origin == now.origin {
			old.changes.Add(1)
			continue
		}
		if old != nil {
			s.removeSite(old)
		}
		if now != nil {
			moved = append(moved, now) // when all old ones are gone: two may have changed places
		}
	}
	for _, st := range moved {
		s.addSite(st)
	}
	return nil
}

func (st *site) refersTo() []pulp.ID {
	return []pulp.ID{st.Guard, st.Repository, st.RepositoryVersion, st.Publication, st.Remote, st.origin}
}

// addSite and removeSite are called with the lock held.
func (s *Server) addSite(st *site) {
	t := &s.sites
	if st.domain = t.owners[st.Domain]; st.domain == nil {
		return // it was made a moment ago, and that will be told too
	}
	if st.serving = s.types[st.Type]; st.serving == nil {
		st.serving = &Serving{}
	}
	t.byID[st.ID] = st
	for _, id := range st.refersTo() {
		if id.IsZero() {
			continue
		}
		if t.refs[id] == nil {
			t.refs[id] = map[*site]struct{}{}
		}
		t.refs[id][st] = struct{}{}
	}
	n := &st.domain.root
	n.count(st, 1)
	for segment := range strings.SplitSeq(st.BasePath, "/") {
		child := n.children[segment]
		if child == nil {
			child = &node{}
			if n.children == nil {
				n.children = map[string]*node{}
			}
			n.children[segment] = child
		}
		n = child
		n.count(st, 1)
	}
	n.site = st
}

func (s *Server) removeSite(st *site) {
	t := &s.sites
	delete(t.byID, st.ID)
	for _, id := range st.refersTo() {
		if delete(t.refs[id], st); len(t.refs[id]) == 0 {
			delete(t.refs, id)
		}
	}
	path := []*node{&st.domain.root}
	segments := strings.Split(st.BasePath, "/")
	for _, segment := range segments {
		path = append(path, path[len(path)-1].children[segment])
	}
	if last := path[len(path)-1]; last.site == st {
		last.site = nil
	}
	for i := len(path) - 1; i >= 0; i-- {
		n := path[i]
		n.count(st, -1)
		if i > 0 && n.site == nil && len(n.children) == 0 {
			delete(path[i-1].children, segments[i-1])
		}
	}
}

func (n *node) count(st *site, by int) {
	switch {
	case st.Hidden || st.serving.Unlisted:
	case st.Guard.IsZero():
		n.open += by
	default:
		n.guarded += by
	}
}

// find returns the distribution that a path below the domain belongs to and what follows its base path, which is
// empty or begins with a slash. Where there is none, level says that some distribution is below the path.
func (d *domain) find(path string) (st *site, rest string, level bool) {
	n := &d.root
	for start := 0; n != nil && start < len(path); {
		end := start + strings.IndexByte(path[start:], '/')
		if end < start {
			end = len(path)
		}
		if n = n.children[path[start:end]]; n != nil && n.site != nil {
			st, rest = n.site, path[end:]
		}
		start = end + 1
	}
	return st, rest, n != nil
}

// names lists what is below a path that ends in a slash, or is empty.
func (d *domain) names(path string, guarded bool) []string {
	n := &d.root
	if path != "" {
		for segment := range strings.SplitSeq(strings.TrimSuffix(path, "/"), "/") {
			if n = n.children[segment]; n == nil {
				return nil
			}
		}
	}
	var list []string
	for name, child := range n.children {
		if child.open > 0 || guarded && child.guarded > 0 {
			list = append(list, name+"/")
		}
	}
	slices.Sort(list)
	return list
}

// targetOf returns what a site serves, as it is since the last change that was told.
func (s *Server) targetOf(ctx context.Context, st *site) (_ *target, err error) {
	if t := st.target.Load(); t != nil && t.changes == st.changes.Load() {
		return t, nil
	}
	defer errs.Wrap(&err, "find what distribution %s serves", st.ID)
	st.resolve.Lock()
	defer st.resolve.Unlock()
	t := &target{changes: st.changes.Load(), flushes: st.flushes.Load()}
	old := st.target.Load()
	if old != nil && old.changes == t.changes {
		return old, nil
	}
	if st.Checkpoint {
		return t, s.findCheckpoints(ctx, st, t, old)
	}
	if t.Served, err = served(ctx, s.DB, &st.Distribution, st.serving.FromPublication); err != nil {
		return nil, err
	}
	if old != nil && old.Served == t.Served && old.flushes == t.flushes {
		t.gen = old.gen
	} else {
		t.gen = s.gens.Add(1)
	}
	st.target.Store(t)
	return t, nil
}

// served finds out what a distribution serves; nothing is the zero Served.
func served(ctx context.Context, q db.Querier, d *Distribution, fromPublication bool) (Served, error) {
	const publications = `SELECT p.id, p.pass_through, v.id, v.repository, v.number FROM core_publication p
		JOIN core_repositoryversion v ON v.id = p.repository_version WHERE p.complete AND `
	const newest = " ORDER BY v.number DESC, p.created DESC, p.id DESC LIMIT 1"
	const versions = "SELECT v.id, v.repository, v.number FROM core_repositoryversion v WHERE v.complete AND "

	var s Served
	publication := func(where string, arg pulp.ID) error {
		return ignoreNone(q.QueryRow(ctx, publications+where+newest, arg).Scan(&s.Publication, &s.PassThrough, &s.Version, &s.Repository, &s.Number))
	}
	version := func(where string, arg pulp.ID) error {
		return ignoreNone(q.QueryRow(ctx, versions+where+" ORDER BY v.number DESC LIMIT 1", arg).Scan(&s.Version, &s.Repository, &s.Number))
	}
	var err error
	switch {
	case !d.Publication.IsZero():
		err = publication("p.id = ?", d.Publication)
	case !d.Repository.IsZero():
		// As Pulp does: for every type, also those that need no publication.
		if err = publication("v.repository = ?", d.Repository); err == nil && s.Publication.IsZero() && !fromPublication {
			err = version("v.repository = ?", d.Repository)
		}
	case !d.RepositoryVersion.IsZero() && fromPublication:
		err = publication("v.id = ?", d.RepositoryVersion)
	case !d.RepositoryVersion.IsZero():
		err = version("v.id = ?", d.RepositoryVersion)
	}
	return s, err
}

func ignoreNone(err error) error {
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}
