// Package content is the content server: it finds the distribution that a path belongs to, what that serves, and the
// file in it, and sends the file, from the store or, where it was not stored yet, from a remote.
//
// What was changed before a request began, that request sees. Whoever changes something that is served says so with
// [granary/internal/content/notice]; [Server.Run] listens. Start with [Server.ServeHTTP].
package content

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/semaphore"

	"granary/internal/blob"
	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/download"
	"granary/internal/pulp"
)

// A Config is what a [Server] needs.
type Config struct {
	DB    *db.DB
	Blobs blob.Stores
	Log   *slog.Logger
	Now   pulp.Clock

	Prefix      string        // what the paths of content begin with, as "/pulp/content/"
	Domains     bool          // the next segment names the domain
	HideGuarded bool          // listings leave guarded distributions out in every domain
	Cooldown    time.Duration // how long a source is left alone after it gave a wrong file
	CacheHeader bool          // send X-PULP-CACHE

	Types map[string]Serving // by the distribution's type, as "file.file"
	Index Index              // nil means the database

	// Remote returns a remote with its secrets.
	Remote func(ctx context.Context, q db.Querier, id pulp.ID) (*pulp.Remote, error)
	// Download makes a client for a remote. The server keeps it for as long as the remote stays as it is.
	Download func(r pulp.Remote) (*download.Client, error)
	// Save makes a staged file an artifact of the call's domain: first the file, then the row.
	Save func(ctx context.Context, stage blob.Stage) (*pulp.Artifact, error)

	// Authenticate tells who makes a request, nil for nobody, also after wrong credentials. It is asked when a guard
	// wants to know. It may be nil.
	Authenticate func(r *http.Request) *pulp.User
	// Guard says whether a request may pass a content guard. An error of kind errs.Denied has the reason that the
	// client reads. Without a Guard, guarded distributions serve nobody.
	Guard func(ctx context.Context, guard pulp.ID, r *Request) error
}

// Serving is how a type of distribution serves. All of the functions may be nil.
type Serving struct {
	FromPublication bool // what the repository has is served only once it was published
	Unlisted        bool // never part of a listing

	// Handle is asked before anything else. Without an answer, the path is looked up. Complete answers are kept until
	// what the distribution serves has changed.
	Handle func(ctx context.Context, r *Request) (*Answer, error)
	// Listing returns names that the listing of a directory has besides those of files. The directory is empty, or
	// ends in a slash.
	Listing func(ctx context.Context, d *Distribution, s Served, dir string) ([]string, error)
	// Headers returns headers of the answer, in place of the computed ones of the same name.
	Headers func(rel string) http.Header
	// PullThrough says where the remote of a distribution has a file that the distribution has not; nil if nowhere.
	PullThrough func(ctx context.Context, r *Request, remote *pulp.Remote) (*Upstream, error)
}

// A Distribution is a place where content is served. IDs of what it does not have are zero.
type Distribution struct {
	ID, Domain                                         pulp.ID
	Type                                               string // as "file.file"
	BasePath                                           string
	Guard                                              pulp.ID
	Hidden, Checkpoint                                 bool
	Repository, RepositoryVersion, Publication, Remote pulp.ID
}

// A Request is a client's request for something of a distribution.
type Request struct {
	*http.Request
	Domain       pulp.Domain
	Distribution *Distribution
	Rel          string // the path below the distribution's base path, decoded
	Served       Served // what the distribution serves; the zero one where that is nothing, and when its guard is asked

	authenticate func(*http.Request) *pulp.User
	once         sync.Once
	user         *pulp.User
}

// User returns who makes the request, nil for nobody.
func (r *Request) User() *pulp.User {
	r.once.Do(func() {
		if r.authenticate != nil {
			r.user = r.authenticate(r.Request)
		}
	})
	return r.user
}

// An Answer is what a type has for a path by itself: a file of content, an artifact, or a complete answer.
type Answer struct {
	ContentArtifact pulp.ID
	Artifact        pulp.ID

	Status int // 0 means 200
	Header http.Header
	Body   []byte
}

// An Upstream is a file on a remote.
type Upstream struct {
	URL string
	// Keep makes content of the file, which was stored as an artifact, and returns its content artifact. With a nil
	// Keep, and from a remote with the policy "streamed", the file is passed on and not stored.
	Keep func(ctx context.Context, a *pulp.Artifact) (pulp.ID, error)
	// Served is told when such content is served, so that it can be added to the distribution's repository.
	// It may be nil, and must return quickly.
	Served func(ctx context.Context, contentArtifact pulp.ID) error
}

// Limits of what is kept in memory, in bytes.
const (
	maxCached  = 48 << 20 // of all answers
	maxPage    = 4 << 20  // of one
	maxMissing = 4 << 20  // of paths without a file
	maxPath    = 8 << 10  // of a request's path; a longer one has no file
)

// maxListings is how many listings are made at once: each holds its directory in memory.
const maxListings = 4

// A Server serves content. Make one with [New].
type Server struct {
	Config
	types    map[string]*Serving
	sites    sites
	gens     atomic.Uint64 // the last generation given to a target
	pages    *otter.Cache[pageKey, *page]
	missing  *otter.Cache[pageKey, struct{}]
	listings *semaphore.Weighted
	buffers  sync.Pool // of *[bufferSize]byte
	flights  flights
	clients  clients
}

// New returns a server. It serves at once; [Server.Run] must run for it to be quick, and so that it ends well.
func New(c Config) *Server {
	s := &Server{Config: c, types: map[string]*Serving{}, listings: semaphore.NewWeighted(maxListings)}
	for name, t := range c.Types {
		s.types[name] = &t
	}
	if s.Index == nil {
		s.Index = dbIndex{c.DB}
	}
	s.pages = otter.Must(&otter.Options[pageKey, *page]{
		MaximumWeight: maxCached,
		Weigher:       func(k pageKey, p *page) uint32 { return uint32(len(k.rel) + p.weight()) }, //nolint:gosec // by maxPage
	})
	s.missing = otter.Must(&otter.Options[pageKey, struct{}]{
		MaximumWeight: maxMissing,
		Weigher:       func(k pageKey, _ struct{}) uint32 { return uint32(100 + len(k.rel)) }, //nolint:gosec // by maxPath
	})
	s.buffers.New = func() any { return new([bufferSize]byte) }
	s.flights.start()
	return s
}

// Run listens for changes until ctx ends. Then it stops the downloads and returns when they have ended. The HTTP
// server should have ended before.
func (s *Server) Run(ctx context.Context) {
	s.DB.Follow(ctx, []string{notice.Channel}, func(channel, payload string) {
		s.sites.tell(notice.Parse(payload))
		if channel == "" {
			s.sites.listening.Store(true)
		}
	})
	s.flights.stop()
	s.clients.close()
}
