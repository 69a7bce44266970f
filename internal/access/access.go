// Package access says who a client is and what it may do: users and their passwords, sessions, and the
// decision about each operation of the API. Start with [Access.Allow], which the engine asks.
package access

import (
	"context"
	"log/slog"
	"maps"
	"runtime"
	"strings"
	"sync"
	"time"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/jq"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/settings"
)

// A Config is what Access works with. DB, Log and Now must be set.
type Config struct {
	DB  *db.DB
	Log *slog.Logger
	Now pulp.Clock
	// Iterations is how often new passwords are hashed; 0 means Django's number, 1,000,000.
	Iterations int
	// Validators are the rules for new passwords.
	Validators []settings.PasswordValidator
	// Session and CSRF are the cookies of sessions; fields that are zero have Django's defaults.
	Session, CSRF Cookie
	// CSRFHeader carries the token of a request that changes something; empty means X-CSRFToken.
	CSRFHeader string
	// Methods find out who makes a request, in their order; nil means Basic, then Session.
	Methods []Method
	// Vouching is for the methods that believe a header.
	Vouching Vouching
	// Rules are those of the core and of the plugins.
	Rules []Rules
	// Policies take the place of the policies of some viewsets, as the settings say.
	Policies map[string]any
	// TrustedOrigins may send such requests besides the server's own, as "https://example.com" or "https://*.example.com".
	TrustedOrigins []string
}

// Access knows users and decides. It keeps nothing but what it can forget.
type Access struct {
	Config
	rules       rules
	credentials *credentials
	known       policies
	catalogue   struct {
		once  sync.Once
		known map[string]string // permissions, with the label of the objects that they are about
	}
	users      rest.Typed[User]
	groups     rest.Typed[Group]
	members    rest.Typed[GroupUser]
	roles      rest.Typed[Role]
	userRoles  rest.Typed[UserRole]
	groupRoles rest.Typed[GroupRole]
	records    rest.Typed[Record]
	conditions map[string]Condition
	scopes     map[string]Scope
	runner     *jq.Runner
}

// New returns an Access.
func New(c Config) *Access {
	if c.Iterations == 0 {
		c.Iterations = defaultIterations
	}
	c.Session.fill(Cookie{Name: "sessionid", Age: 14 * 24 * time.Hour, Path: "/", SameSite: "Lax", HTTPOnly: true})
	c.CSRF.fill(Cookie{Name: "csrftoken", Age: 364 * 24 * time.Hour, Path: "/", SameSite: "Lax"})
	if c.Methods == nil {
		c.Methods = []Method{Basic, Session}
	}
	if c.CSRFHeader == "" {
		c.CSRFHeader = "X-CSRFToken"
	}
	a := &Access{
		Config: c, runner: jq.NewRunner(), rules: rulesOf(c.Validators), credentials: newCredentials(c.Now, max(1, runtime.GOMAXPROCS(0)/2)),
		conditions: map[string]Condition{"has_required_repo_perms_on_upload": requiredRepository}, scopes: map[string]Scope{"scope_queryset": scopeQueryset},
	}
	for _, r := range c.Rules {
		maps.Copy(a.conditions, r.Conditions)
		maps.Copy(a.scopes, r.Scopes)
	}
	a.users = a.defineUsers()
	a.groups = a.defineGroups()
	a.members = a.defineMembers()
	a.roles = a.defineRoles()
	a.userRoles = a.defineUserRoles()
	a.groupRoles = a.defineGroupRoles()
	a.records = a.defineRecords()
	return a
}

// Types returns the resources of this package.
func (a *Access) Types() []*rest.Type {
	return []*rest.Type{a.users.Type, a.userRoles.Type, a.groups.Type, a.members.Type, a.groupRoles.Type, a.roles.Type, a.records.Type}
}

var _ rest.Authoriser = (*Access)(nil)

// Texts of refusals, as clients know them.
const (
	msgNobody = "Authentication credentials were not provided."
	msgWrong  = "Invalid username/password."
	msgDenied = "You do not have permission to perform this action."
)

// Allow finds out who makes the request, notes it in the context's [pulp.Call], and says whether that user may do what is asked for:
// superusers may do everything, others what the access policy of that part of the API allows, and nothing where it has none. What is
// public is not looked at, as Pulp does: not even wrong credentials are refused there.
func (a *Access) Allow(ctx context.Context, r *rest.Request) error {
	if r.Public() {
		return nil
	}
	call := pulp.CallOf(ctx)
	if call.User == nil {
		user, err := a.Authenticate(ctx, r.HTTP, r.ResponseHeader())
		if errs.Is(err, errs.Unavailable) {
			r.ResponseHeader().Set("Retry-After", "1")
		}
		if err != nil {
			return err
		}
		if user == nil {
			return errs.E(errs.Unauthenticated, msgNobody)
		}
		call.User = user
	}
	if call.User.Superuser || r.Type != nil && r.Type.Open {
		return nil
	}
	p, err := a.policy(ctx, r.Viewset())
	if err != nil || p != nil && r.Action == "" {
		return err
	}
	if p != nil {
		if ok, err := a.permits(ctx, r, call.User, p); ok || err != nil {
			return err
		}
	}
	return errs.E(errs.Denied, msgDenied)
}

// ConfigOf returns what settings say of the configuration.
func ConfigOf(s *settings.Settings) Config {
	header := strings.ReplaceAll(strings.TrimPrefix(s.CSRFHeaderName, "HTTP_"), "_", "-")
	return Config{
		Methods: methodsOf(s.RestFramework.AuthenticationClasses), Vouching: vouchingOf(s),
		Validators: s.AuthPasswordValidators, Policies: s.AccessPolicies, CSRFHeader: header, TrustedOrigins: s.CSRFTrustedOrigins,
		Session: Cookie{
			Name: s.SessionCookieName, Age: s.SessionCookieAge, Domain: s.SessionCookieDomain, Path: s.SessionCookiePath, SameSite: sameSite(s.SessionCookieSameSite),
			Secure: s.SessionCookieSecure, HTTPOnly: s.SessionCookieHTTPOnly, Brief: s.SessionExpireAtBrowserClose,
		},
		CSRF: Cookie{
			Name: s.CSRFCookieName, Age: s.CSRFCookieAge, Domain: s.CSRFCookieDomain, Path: s.CSRFCookiePath, SameSite: sameSite(s.CSRFCookieSameSite),
			Secure: s.CSRFCookieSecure, HTTPOnly: s.CSRFCookieHTTPOnly, Brief: s.CSRFCookieAge == 0,
		},
	}
}

func sameSite(s settings.SameSite) string {
	if s == "" {
		return "-"
	}
	return string(s)
}
