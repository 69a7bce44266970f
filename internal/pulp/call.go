package pulp

import (
	"context"
	"strings"
)

// A Domain is a tenant: objects in it see only each other. The one called "default" always exists.
type Domain struct {
	ID   ID
	Name string
	// Redirect sends content clients to the object store; HideGuarded leaves guarded distributions out of listings.
	Redirect, HideGuarded bool
}

// DefaultDomain is the name of the domain that always exists.
const DefaultDomain = "default"

// A User is who makes a request or dispatched a task.
type User struct {
	ID        int64
	Name      string
	Superuser bool
	Staff     bool
	Active    bool
}

// A Call is what a request or a task carries with it: on whose behalf, in which domain, under which correlation id.
type Call struct {
	Domain Domain
	User   *User  // nil when nobody logged in, and in scheduled tasks
	CID    string // correlation id
	Root   string // API root of the request's hrefs, as "/pulp/"
	Origin string // scheme and host as the client sees them, as "http://localhost:8080"; empty in tasks
	Task   ID     // the running task, if this is one
	Group  ID     // the running task's group

	Diagnostics []string // what is to be measured of the tasks that this dispatches; not checked
}

type callKey struct{}

// WithCall returns a context that carries c.
func WithCall(ctx context.Context, c *Call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// CallOf returns the context's Call; an empty one where there is none.
func CallOf(ctx context.Context) *Call {
	if c, ok := ctx.Value(callKey{}).(*Call); ok {
		return c
	}
	return &Call{}
}

// APIPath returns the path of the REST API for this call: the root, the domain if domains are on, "api/v3/".
func (c *Call) APIPath(domains bool) string {
	if domains {
		return c.Root + c.Domain.Name + "/api/v3/"
	}
	return c.Root + "api/v3/"
}

// A Policy says when a remote's files are downloaded.
type Policy string

// The policies: at sync, at the first client's request and then kept, or at every request and never kept.
const (
	Immediate Policy = "immediate"
	OnDemand  Policy = "on_demand"
	Streamed  Policy = "streamed"
)

// A Remote says where and how files are fetched from another server.
type Remote struct {
	ID     ID
	Domain ID
	Type   string // PRN label, as "file.fileremote"
	Name   string
	URL    string
	Policy Policy

	CACert, ClientCert, ClientKey string // PEM
	InsecureTLS                   bool   // no certificate checks

	ProxyURL, ProxyUsername, ProxyPassword string
	Username, Password                     string
	Headers                                []map[string]string

	Concurrency int // downloads at once; 0 means the type's default
	MaxRetries  int // 0 means the type's default
	RateLimit   int // requests per second, 0 means no limit
	TotalTimeout, ConnectTimeout,
	SockConnectTimeout, SockReadTimeout float64 // seconds, 0 means the default
}

// JoinURL appends a relative path to a base with exactly one slash between them.
func JoinURL(base, rel string) string {
	return strings.TrimRight(base, "/") + "/" + strings.TrimLeft(rel, "/")
}
