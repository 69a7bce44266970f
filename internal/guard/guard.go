// Package guard holds the core's content guards, and decides for the content server whether a request may pass one.
// Start with [Service.Permit]. Plugins add guards of their own: see [Check] and [Define].
package guard

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"

	"granary/internal/access"
	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/jq"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
)

// A Request is what a guard decides about.
type Request struct {
	*http.Request
	Domain pulp.Domain
	Path   string            // what is asked for, below where the domain's content begins, without the slash before it
	User   func() *pulp.User // who asks; nil for nobody
}

// ClientCertHeader is the header in which a trusted proxy tells the client's certificate. From others it never gets here.
const ClientCertHeader = "X-Client-Cert"

// A Check decides whether a request may pass a guard of one type. An error of kind [errs.Denied] or [errs.Unauthenticated] has
// the reason that the client reads.
type Check func(ctx context.Context, guard pulp.ID, r *Request) error

// A Config is what guards work with. All must be set but ContentOrigin.
type Config struct {
	DB            *db.DB
	API           *rest.Engine
	Repos         *repository.Service
	Access        *access.Access
	Log           *slog.Logger
	Now           pulp.Clock
	ContentOrigin string // scheme and host of content's URLs; may be empty
	ContentPrefix string // path of content's URLs, as "/pulp/content/"
}

// A Service knows the guards.
type Service struct {
	Config
	checks map[string]Check // by pulp_type
	runner *jq.Runner
	random func([]byte)

	rbacs      rest.Typed[RBAC]
	headers    rest.Typed[Header]
	redirects  rest.Typed[Redirect]
	composites rest.Typed[Composite]
	artifacts  rest.Typed[ArtifactDistribution]
	filters    filters
}

// New returns a service with the core's guards.
func New(c Config) *Service {
	s := &Service{Config: c, runner: jq.NewRunner(), filters: newFilters(), random: func(b []byte) { _, _ = rand.Read(b) }}
	s.rbacs = s.defineRBAC()
	s.headers = s.defineHeader()
	s.redirects = s.defineRedirect()
	s.composites = s.defineComposite()
	s.artifacts = s.defineArtifacts()
	s.checks = map[string]Check{
		s.rbacs.PulpType: s.checkRBAC, s.headers.PulpType: s.checkHeader, s.redirects.PulpType: s.checkRedirect, s.composites.PulpType: s.checkComposite,
	}
	return s
}

// Types returns the types of this package.
func (s *Service) Types() []*rest.Type {
	return []*rest.Type{s.rbacs.Type, s.headers.Type, s.redirects.Type, s.composites.Type, s.artifacts.Type}
}

// Add adds a plugin's guards, by their pulp_type. It is called before the first request.
func (s *Service) Add(checks map[string]Check) {
	for name, check := range checks {
		if s.checks[name] != nil {
			panic("two guards called " + name)
		}
		s.checks[name] = check
	}
}

// Permit says whether a request may pass a guard: for the content server.
func (s *Service) Permit(ctx context.Context, guard pulp.ID, r *Request) error {
	ctx = pulp.WithCall(ctx, &pulp.Call{Domain: r.Domain, Root: s.API.APIRoot()})
	return s.permit(ctx, guard, r)
}

func (s *Service) permit(ctx context.Context, guard pulp.ID, r *Request) error {
	typ, err := db.Value[string](ctx, s.DB, "SELECT pulp_type FROM core_contentguard WHERE id = ? AND domain = ?", guard, r.Domain.ID)
	if errs.Is(err, errs.NotFound) { // it was deleted just now
		return denied
	}
	if err != nil {
		return err
	}
	check := s.checks[typ]
	if check == nil { // of a plugin that is not here
		s.Log.ErrorContext(ctx, "a content guard of an unknown type lets nobody through", slog.String("type", typ), slog.String("guard", guard.String()))
		return denied
	}
	return check(ctx, guard, r)
}

var denied = errs.E(errs.Denied, "Access denied.")

var ordering = []string{"description", "name", "pk", "pulp_created", "pulp_id", "pulp_last_updated", "pulp_type"}

// Define completes the declaration of a type of guard.
func Define[T any](s *repository.Service, r rest.Resource[T], base func(*T) *repository.Guard) rest.Typed[T] {
	r.Family = repository.Guards
	r.Create, r.Update, r.Delete = rest.Now, rest.Now, rest.Now
	r.Filters = append(r.Filters, rest.Text("name", "m.name", rest.NameLookups...)...)
	r.Ordering = ordering
	deleting := r.Deleting
	r.Deleting = func(ctx context.Context, tx *db.Tx, v *T) error {
		g := base(v)
		names, err := db.Column[string](ctx, tx, "SELECT name FROM core_distribution WHERE content_guard = ? ORDER BY name LIMIT 10", g.ID)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			tx.AfterCommit(func() {
				s.Log.WarnContext(ctx, "a deleted content guard leaves distributions open to everybody", slog.String("guard", g.Name), slog.Any("distributions", names))
			})
		}
		if err := notice.Changed(ctx, tx, notice.Guard, g.ID); err != nil || deleting == nil {
			return err
		}
		return deleting(ctx, tx, v)
	}
	return rest.Define(r)
}
