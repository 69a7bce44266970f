package access

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// A policy says who may do what at one part of the API, and what happens to roles when something is made there.
type policy struct {
	statements []statement
	hooks      []rule
	scoping    *rule
}

// A statement of a policy. One that matches and denies wins over all that allow.
type statement struct {
	Action     words `json:"action"`
	Principal  words `json:"principal"`
	Effect     words `json:"effect"`
	Condition  words `json:"condition"`            // all must hold
	Expression words `json:"condition_expression"` // all must hold
}

// A rule names a function and what it is called with.
type rule struct {
	Function   string         `json:"function"`
	Parameters map[string]any `json:"parameters"`
}

// UnmarshalJSON reads a rule. What is no name and no object names nothing.
func (r *rule) UnmarshalJSON(b []byte) error {
	var given struct {
		Function   any `json:"function"`
		Parameters any `json:"parameters"`
	}
	err := json.Unmarshal(b, &given)
	r.Parameters, _ = given.Parameters.(map[string]any)
	if given.Function != nil {
		r.Function = fmt.Sprint(given.Function)
	}
	return err
}

// words is a list of strings; one may stand alone.
type words []string

// UnmarshalJSON reads a string or a list of strings. Anything else becomes a word that means nothing, so that a policy in which an
// administrator wrote something else refuses rather than fails.
func (w *words) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
		*w = nil
	case string:
		*w = words{v}
	case []any:
		*w = make(words, len(v))
		for i, s := range v {
			(*w)[i] = fmt.Sprint(s)
		}
	default:
		*w = words{fmt.Sprint(v)}
	}
	return nil
}

// parsePolicy reads a policy's three parts, as they are stored.
func parsePolicy(statements, hooks, scoping []byte) (*policy, error) {
	p := &policy{}
	for _, part := range []struct {
		name string
		text []byte
		into any
	}{{"statements", statements, &p.statements}, {"creation_hooks", hooks, &p.hooks}, {"queryset_scoping", scoping, &p.scoping}} {
		if len(bytes.TrimSpace(part.text)) == 0 || string(part.text) == `""` {
			continue
		}
		if err := json.Unmarshal(part.text, part.into); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return p, nil
}

// policies are what this process knows of policies and roles. Other processes' changes are seen after at most [policyAge].
type policies struct {
	mu    sync.Mutex
	until time.Time
	made  int                // how often this process changed them
	by    map[string]*policy // by viewset
	roles map[string]pulp.ID // by name
}

// policyAge is how long a process may go on with what it knows of policies and roles after another process has changed them.
const policyAge = time.Second

// rulesNow returns the policies and the roles' ids.
func (a *Access) rulesNow(ctx context.Context, q db.Querier) (map[string]*policy, map[string]pulp.ID, error) {
	k := &a.known
	k.mu.Lock()
	made := k.made
	if a.Now().Before(k.until) {
		defer k.mu.Unlock()
		return k.by, k.roles, nil
	}
	k.mu.Unlock() // who waits for it may hold the connection that the queries need
	by, roles := map[string]*policy{}, map[string]pulp.ID{}
	err := db.Each(ctx, q, func(rows *sql.Rows) error {
		var viewset string
		var statements, hooks, scoping []byte
		if err := rows.Scan(&viewset, &statements, &hooks, &scoping); err != nil {
			return err
		}
		p, err := parsePolicy(statements, hooks, scoping)
		if err != nil { // nobody but superusers may do anything there
			a.Log.ErrorContext(ctx, "an access policy can't be read", "viewset", viewset, "error", err)
			p = &policy{scoping: &rule{Function: "unreadable"}}
		}
		by[viewset] = p
		return nil
	}, "SELECT viewset_name, statements, creation_hooks, queryset_scoping FROM core_accesspolicy")
	if err != nil {
		return nil, nil, fmt.Errorf("read access policies: %w", err)
	}
	err = db.Each(ctx, q, func(rows *sql.Rows) error {
		var name string
		var id pulp.ID
		err := rows.Scan(&name, &id)
		roles[name] = id
		return err
	}, "SELECT name, id FROM core_role")
	if err != nil {
		return nil, nil, fmt.Errorf("read roles: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if made == k.made {
		k.by, k.roles, k.until = by, roles, a.Now().Add(policyAge)
	}
	return by, roles, nil
}

// changed makes this process read policies and roles anew once a transaction is durable.
func (a *Access) changed(tx *db.Tx) {
	tx.AfterCommit(func() {
		a.known.mu.Lock()
		defer a.known.mu.Unlock()
		a.known.until = time.Time{}
		a.known.made++
	})
}

// policy returns a viewset's policy; nil where it has none.
func (a *Access) policy(ctx context.Context, viewset string) (*policy, error) {
	by, _, err := a.rulesNow(ctx, a.DB)
	return by[viewset], err
}

// permits says whether a policy lets the user do what a request asks for.
func (a *Access) permits(ctx context.Context, r *rest.Request, user *pulp.User, p *policy) (bool, error) {
	e := &evaluation{Access: a, request: r, user: user}
	allowed := false
	for _, s := range p.statements {
		deny := !slices.Equal(s.Effect, words{"allow"})
		if allowed && !deny || !s.about(r) {
			continue
		}
		holds, err := e.matches(ctx, s)
		if err != nil {
			return false, err
		}
		if holds && deny {
			return false, nil
		}
		allowed = allowed || holds
	}
	return allowed, nil
}

// about says whether the statement is about what a request asks for.
func (s *statement) about(r *rest.Request) bool {
	method := r.HTTP.Method
	safe := method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
	return slices.ContainsFunc(s.Action, func(action string) bool {
		return action == "*" || action == r.PolicyAction() || action == "<safe_methods>" && safe || strings.EqualFold(action, "<method:"+method+">")
	})
}

// An evaluation is that of one request's policy.
type evaluation struct {
	*Access
	request *rest.Request
	user    *pulp.User
	groups  map[string]bool // the user's, once they were asked for
}

func (e *evaluation) matches(ctx context.Context, s statement) (bool, error) {
	who, err := e.isOne(ctx, s.Principal)
	if err != nil || !who {
		return false, err
	}
	for _, c := range s.Condition {
		holds, err := e.condition(ctx, c)
		if err != nil || !holds {
			return false, err
		}
	}
	for _, text := range s.Expression {
		holds, err := e.expression(ctx, text)
		if err != nil || !holds {
			return false, err
		}
	}
	return true, nil
}

// isOne says whether the user is one of the principals.
func (e *evaluation) isOne(ctx context.Context, principals words) (bool, error) {
	for _, p := range principals {
		name, isGroup := strings.CutPrefix(p, "group:")
		switch {
		case p == "*", p == "authenticated", p == "admin" && e.user.Superuser, p == "staff" && e.user.Staff, p == fmt.Sprintf("id:%d", e.user.ID):
			return true, nil
		case isGroup:
			if e.groups == nil {
				list, err := db.Column[string](ctx, e.DB, "SELECT g.name FROM core_group g JOIN auth_user_groups u ON u.group_id = g.id WHERE u.user_id = ?", e.user.ID)
				if err != nil {
					return false, err
				}
				e.groups = make(map[string]bool, len(list))
				for _, g := range list {
					e.groups[g] = true
				}
			}
			if e.groups[name] {
				return true, nil
			}
		}
	}
	return false, nil
}

// A Condition is a function that policies name, besides those of [evaluation.condition]: it says whether a request of a user, who is no
// superuser, may go on. argument is what follows the colon.
type Condition func(ctx context.Context, a *Access, r *rest.Request, user *pulp.User, argument string) (bool, error)

// levelNames are the endings of conditions, the longer first.
var levelNames = []struct {
	suffix string
	at     Levels
}{
	{"model_or_domain_or_obj_perms", anyLevel},
	{"model_or_domain_perms", Levels{Model: true, Domain: true}},
	{"model_or_obj_perms", Levels{Model: true, Object: true}},
	{"domain_or_obj_perms", Levels{Domain: true, Object: true}},
	{"model_perms", Levels{Model: true}},
	{"domain_perms", Levels{Domain: true}},
	{"obj_perms", Levels{Object: true}},
	{"perms", anyLevel},
}

// condition evaluates a condition: "has_<what>_<levels>:<permission>", where what is nothing (the object of the URL), "remote_param" (a field
// of the body; nothing given is as good as allowed), "repo_attr" (of the object), "repository" or "group" (the parent in the URL); or one that
// a plugin brought. What nobody knows does not hold.
func (e *evaluation) condition(ctx context.Context, text string) (bool, error) {
	name, argument, _ := strings.Cut(text, ":")
	if f := e.conditions[name]; f != nil {
		return f(ctx, e.Access, e.request, e.user, argument)
	}
	rest, ok := strings.CutPrefix(name, "has_")
	if !ok {
		return e.unknown(ctx, name)
	}
	for _, l := range levelNames {
		what, ok := strings.CutSuffix(rest, l.suffix)
		if !ok || what != "" && !strings.HasSuffix(what, "_") {
			continue
		}
		what = strings.TrimSuffix(what, "_")
		object, given, err := e.subject(ctx, what, l.at)
		if err != nil {
			return false, err
		}
		if param := strings.HasSuffix(what, "_param"); param && !given {
			return true, nil
		}
		return e.Holds(ctx, e.DB, e.user, argument, object, l.at)
	}
	return e.unknown(ctx, name)
}

func (e *evaluation) unknown(ctx context.Context, name string) (bool, error) {
	e.Log.WarnContext(ctx, "an access policy names a condition that is not there", "viewset", e.request.Viewset(), "condition", name)
	return false, nil
}

// subject finds the object that a condition is about.
func (e *evaluation) subject(ctx context.Context, what string, at Levels) (object pulp.Ref, given bool, err error) {
	r := e.request
	var f rest.Found
	switch what {
	case "":
		if !at.Object {
			return pulp.Ref{}, false, nil
		}
		f, given, err = r.Object(ctx)
	case "repository", "group":
		f, given, err = r.ParentObject(ctx)
	case "repo_attr":
		if f, given, err = r.Object(ctx); err == nil && given {
			return e.repositoryOf(ctx, f)
		}
	case "repo_or_repo_ver_param":
		if f, given, err = r.Param(ctx, "repository"); err != nil || given {
			break
		}
		if f, given, err = r.Param(ctx, "repository_version"); err == nil && given {
			return e.repositoryOf(ctx, f)
		}
	default:
		field, ok := strings.CutSuffix(what, "_param")
		if !ok {
			return pulp.Ref{}, false, nil
		}
		if field == "repo" {
			field = "repository"
		}
		f, given, err = r.Param(ctx, field)
	}
	return f.Ref, given, err
}

// repositoryOf names the repository of a version, or the one that a distribution serves.
func (e *evaluation) repositoryOf(ctx context.Context, f rest.Found) (pulp.Ref, bool, error) {
	query := ""
	switch f.Type.Family() {
	case "repository_version":
		query = "SELECT repository FROM core_repositoryversion WHERE id = ?"
	case "distribution":
		query = "SELECT repository FROM core_distribution WHERE id = ? AND repository IS NOT NULL"
	default:
		return pulp.Ref{}, false, nil
	}
	id, err := db.Value[pulp.ID](ctx, e.DB, query, f.ID)
	if errs.Is(err, errs.NotFound) {
		return pulp.Ref{}, false, nil
	}
	if err != nil {
		return pulp.Ref{}, false, err
	}
	repo, err := f.Type.Engine().Identified(ctx, e.DB, "repository", id)
	return repo.Ref, err == nil, err
}

// requiredRepository holds where the user has a permission on the repository that new content is to go to. Those who see no content
// outside of repositories must name one.
func requiredRepository(ctx context.Context, a *Access, r *rest.Request, user *pulp.User, permission string) (bool, error) {
	repo, given, err := r.Param(ctx, "repository")
	if err != nil {
		return false, err
	}
	if !given {
		return false, errs.List("Destination upload repository was not provided.")
	}
	return a.Holds(ctx, a.DB, user, permission, repo.Ref, anyLevel)
}
