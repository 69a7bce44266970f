// Package replica copies what another server distributes: a coordinator reads the other server's public API, and
// dispatches what makes the remotes, repositories and distributions here the same as there. Plugins say with a
// [Replicator] how their types are copied. Start with [New].
package replica

import (
	"context"
	"log/slog"

	"granary/internal/db"
	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

// The tasks, by the names that clients know.
const (
	taskReplicate = "pulpcore.app.tasks.replica.replicate_distributions"
	taskFinalize  = "pulpcore.app.tasks.replica.finalize_replication"
)

// A Replicator says how the distributions of one type are copied.
type Replicator struct {
	App string // the component that the other server must have, as "file"

	Distribution, Repository, Remote *rest.Type

	// Source tells what a distribution of the other server comes from; nil where there is nothing to copy, and what is
	// here of that name is left as it is.
	Source func(ctx context.Context, up *Upstream, d Object) (*Source, error)

	// Sync is the task that makes the repository what the remote has, without its locks.
	Sync func(repository, remote pulp.ID) task.Spec
}

// A Source holds the fields that the objects here get, as a request would give them. Names, labels, certificates, base paths and
// what a distribution points at are seen to. The remote's url is needed.
type Source struct {
	Remote, Repository, Distribution map[string]any
}

// A Config is what a [Service] works with.
type Config struct {
	DB    *db.DB
	API   *rest.Engine
	Tasks *task.Queue
	Log   *slog.Logger
	Now   pulp.Clock

	// Connect makes the client for the other server. It must not follow redirects to others.
	Connect func(pulp.Remote) (*download.Client, error)
}

// A Service replicates.
type Service struct {
	Config
	servers     rest.Typed[Server]
	replicators []Replicator
}

// New returns a service that copies nothing yet.
func New(c Config) *Service {
	s := &Service{Config: c}
	s.servers = s.define()
	return s
}

// Add adds what plugins bring.
func (s *Service) Add(list ...Replicator) { s.replicators = append(s.replicators, list...) }

// Types returns the type of the servers that are copied from.
func (s *Service) Types() []*rest.Type { return []*rest.Type{s.servers.Type} }

// Kinds returns the tasks.
func (s *Service) Kinds() []task.Kind {
	return []task.Kind{{Name: taskReplicate, Run: s.replicate}, {Name: taskFinalize, Run: s.finalize}}
}

// The policies say what a replication may touch.
const (
	policyAll      = "all"      // all of the replicated types; what the other server has not is deleted
	policyLabeled  = "labeled"  // only what has the server's label
	policyNoDelete = "nodelete" // all, but nothing is deleted
)

// label is the key of the label that replicated objects have. Its value is the server's id.
const label = "UpstreamPulp"

// A Server is another server, from which distributions are copied.
type Server struct {
	rest.Base
	Name            string            `api:"name,req"`
	BaseURL         string            `api:"base_url,req"`
	APIRoot         string            `api:"api_root,req"`
	OtherDomain     *string           `api:"domain,null" db:"other_domain"`
	CACert          *string           `api:"ca_cert,null"`
	ClientCert      *string           `api:"client_cert,null"`
	ClientKey       *string           `api:"client_key,null,secret"`
	TLSValidation   bool              `api:"tls_validation,start=true"`
	HiddenFields    rest.HiddenFields `api:"hidden_fields,ro" db:"-"`
	Username        *string           `api:"username,null,secret"`
	Password        *string           `api:"password,null,secret,notrim"`
	QSelect         *string           `api:"q_select,null,blank"`
	LastReplication pulp.Time         `api:"last_replication,ro"`
	Policy          string            `api:"policy,start=all,choices=all|labeled|nodelete,enum=Policy357Enum"`
}

var ordering = []string{
	"api_root", "base_url", "ca_cert", "client_cert", "client_key", "domain", "last_replication", "name", "password", "pk", "policy", "pulp_created", "pulp_id",
	"pulp_last_updated", "q_select", "tls_validation", "username",
}

func (s *Service) define() rest.Typed[Server] {
	return rest.Define(rest.Resource[Server]{
		App: "core", Model: "UpstreamPulp", Path: "upstream-pulps", Table: "core_upstreampulp",
		Create: rest.Now, Update: rest.Now, Delete: rest.Now, Roles: true,
		Filters: append(append(rest.Text("name", "m.name", rest.NameLookups...), rest.Text("base_url", "m.base_url", rest.NameLookups...)...),
			rest.Times("last_replication", "m.last_replication")...),
		Ordering: ordering, OrderBy: map[string]string{"domain": "m.other_domain"},
		FieldCheck: s.check,
		Actions:    []rest.Action{{Name: "replicate", Group: true, Handle: s.start}},
	})
}

// check sees that names are unique in all domains, and that q_select can be asked for.
func (s *Service) check(ctx context.Context, q db.Querier, c *rest.Change[Server]) (map[string]any, error) {
	bad := map[string]any{}
	if c.Set["name"] {
		taken, err := db.Exists(ctx, q, "SELECT 1 FROM core_upstreampulp WHERE name = ? AND id <> ?", c.New.Name, c.New.ID[:])
		if err != nil {
			return nil, err
		}
		if taken {
			bad["name"] = []string{"This field must be unique."}
		}
	}
	if c.New.QSelect != nil {
		if wrong := s.checkSelect(*c.New.QSelect); wrong != "" {
			bad["q_select"] = []string{wrong}
		}
	}
	return bad, nil
}

// checkSelect says what is wrong with a selection of distributions; empty where nothing is.
func (s *Service) checkSelect(expr string) string {
	if expr == "" {
		return ""
	}
	return s.API.CheckQ("distributions", expr, "pulp_type", "pulp_type__in") // the lists of single types are asked
}

type startInput struct {
	QSelect *string `api:"q_select,null,blank"`
}

type replicateArgs struct {
	Server  pulp.ID `json:"server"`
	QSelect *string `json:"q_select,omitempty"` // instead of the server's
}

// start answers a request for a replication with the group of its tasks.
func (s *Service) start(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	server, err := s.servers.Object(ctx, r)
	if err != nil {
		return nil, err
	}
	var in startInput
	if err := r.DecodeLax(&in); err != nil {
		return nil, err
	}
	if in.QSelect != nil {
		if wrong := s.checkSelect(*in.QSelect); wrong != "" {
			return nil, errs.Field("q_select", wrong)
		}
	}
	group, err := s.Tasks.NewGroup(ctx, "Replication of "+server.Name)
	if err != nil {
		return nil, err
	}
	// The server is locked, so that a second replication begins once the tasks of the first have ended.
	_, err = s.Tasks.Dispatch(ctx, task.Spec{
		Name: taskReplicate, Args: replicateArgs{Server: server.ID, QSelect: in.QSelect}, Group: group,
		Exclusive: []string{"pdrn:" + pulp.CallOf(ctx).Domain.ID.String() + ":servers", s.servers.Ref(server).PRN()},
	})
	if err != nil {
		return nil, err
	}
	return s.API.AcceptedGroup(ctx, group)
}

type finalizeArgs struct {
	Server  pulp.ID   `json:"server"`
	Started pulp.Time `json:"started"`
	Partial bool      `json:"partial,omitempty"`
}

// finalize runs when all other tasks of the group have ended, and notes that all went well.
func (s *Service) finalize(ctx context.Context, j *task.Job) (any, error) {
	var in finalizeArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	return nil, s.DB.Update(ctx, func(tx *db.Tx) error {
		if err := j.Fence(ctx, tx); err != nil {
			return err
		}
		// the parent, whose last act was to dispatch this, may not have been seen to its end
		failed, err := db.Exists(ctx, tx, "SELECT 1 FROM core_task WHERE task_group = ? AND id <> ? AND id <> ? AND state <> ?",
			j.Task.Group, j.Task.ID, j.Task.Parent[:], string(task.Completed))
		if err != nil {
			return err
		}
		if failed {
			return errs.E(errs.Invalid, "Replication failed.")
		}
		if in.Partial { // what else has changed since the last replication is yet to come
			return nil
		}
		_, err = tx.Exec(ctx, "UPDATE core_upstreampulp SET last_replication = ? WHERE id = ?", in.Started, in.Server)
		return err
	})
}

// An Object is one that the other server's API gives.
type Object map[string]any

// Text returns a field's text; empty where it has none.
func (o Object) Text(name string) string {
	s, _ := o[name].(string)
	return s
}
