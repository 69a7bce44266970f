package access

import (
	"context"
	"strings"

	"granary/internal/db"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// Levels say where a permission may be held for a question about it.
type Levels struct{ Model, Domain, Object bool }

// anyLevel is where permissions may be held at all.
var anyLevel = Levels{Model: true, Domain: true, Object: true}

// Holds says whether a user has a permission, as "file.view_filerepository": in general, in the context's domain, or on an object, as far
// as these levels are asked for. object is zero where there is none. Superusers have all permissions.
func (a *Access) Holds(ctx context.Context, q db.Querier, user *pulp.User, permission string, object pulp.Ref, at Levels) (bool, error) {
	switch {
	case user == nil || !user.Active:
		return false, nil
	case user.Superuser:
		return true, nil
	}
	var places []string
	args := []any{user.ID, permission}
	if at.Model {
		places = append(places, "object_type IS NULL AND domain IS NULL")
	}
	if at.Domain {
		places = append(places, "domain = ?")
		args = append(args, pulp.CallOf(ctx).Domain.ID)
	}
	if at.Object && !object.IsZero() {
		column, key := keyOf(object)
		places = append(places, "object_type = ? AND "+column+" = ?")
		args = append(args, object.Type, key)
	}
	if places == nil {
		return false, nil
	}
	return db.Exists(ctx, q, "SELECT 1 FROM core_grant WHERE user_id = ? AND permission = ? AND ("+strings.Join(places, " OR ")+")", args...)
}

// May implements [rest.Authoriser]. What nobody asked for, as scheduled tasks do, is allowed.
func (a *Access) May(ctx context.Context, permission string) (bool, error) {
	user := pulp.CallOf(ctx).User
	if user == nil {
		return true, nil
	}
	return a.Holds(ctx, a.DB, user, permission, pulp.Ref{}, Levels{Model: true, Domain: true})
}

// keyOf returns the column of a role's object and its key.
func keyOf(object pulp.Ref) (column string, key any) {
	if id := object.ID(); !id.IsZero() {
		return "object", id
	}
	return "number", object.Number()
}

// permission returns a permission on objects of a label, as "file.view_filerepository" for "view" and "file.filerepository".
func permission(action, label string) string {
	app, model, _ := strings.Cut(label, ".")
	return app + "." + action + "_" + model
}

// Visible implements [rest.Authoriser]: the part of the type's objects that its policy's scoping leaves.
func (a *Access) Visible(ctx context.Context, t *rest.Type) (rest.Cond, error) {
	user := pulp.CallOf(ctx).User
	if user == nil || user.Superuser || t.Unscoped {
		return rest.Cond{}, nil
	}
	if t.Open && t.Family() == "repository_version" {
		return a.versionsOf(ctx, t.Engine().TypesOf("repository"))
	}
	p, err := a.policy(ctx, t.Viewset())
	if err != nil || p == nil || p.scoping == nil || p.scoping.Function == "" {
		return rest.Cond{}, err
	}
	if scope := a.scopes[p.scoping.Function]; scope != nil {
		return scope(ctx, a, t, p.scoping.Parameters)
	}
	a.Log.WarnContext(ctx, "an access policy names a scoping that is not there", "viewset", t.Viewset(), "function", p.scoping.Function)
	return nothing, nil
}

// A Scope is what an access policy's queryset_scoping names: the condition on the objects that the context's caller, who is no
// superuser, sees of a type; m is the (master) table.
type Scope func(ctx context.Context, a *Access, t *rest.Type, parameters map[string]any) (rest.Cond, error)

var nothing = rest.Cond{SQL: "1 = 0"}

// scopeQueryset shows what the caller may view: objects by their own permission, content and task groups by what they are part of.
func scopeQueryset(ctx context.Context, a *Access, t *rest.Type, _ map[string]any) (rest.Cond, error) {
	switch {
	case t.Label == "core.taskgroup":
		c, err := a.viewable(ctx, "t", t.Engine().TypeByLabel("core.task"))
		if err != nil || c.SQL == "" {
			return c, err
		}
		return rest.Cond{SQL: "m.id IN (SELECT t.task_group FROM core_task t WHERE " + c.SQL + ")", Args: c.Args}, nil
	case t.Family() == "content":
		return a.ContentOf(ctx, t.Engine().TypesOf("repository"))
	case t.Generic():
		return a.viewable(ctx, "m", t.Engine().TypesOf(t.Family())...)
	}
	return a.viewable(ctx, "m", t)
}

// ContentOf is the condition on content that it is in a repository, of these types, that the caller may view.
func (a *Access) ContentOf(ctx context.Context, repositories []*rest.Type) (rest.Cond, error) {
	c, err := a.viewable(ctx, "r", repositories...)
	if err != nil {
		return c, err
	}
	if c.SQL != "" {
		c.SQL = " AND " + c.SQL
	}
	return rest.Cond{
		SQL: "EXISTS (SELECT 1 FROM core_repositorycontent rc JOIN core_repository r ON r.id = rc.repository" +
			" WHERE rc.content = m.id AND rc.added < r.next_version" + c.SQL + ")",
		Args: c.Args,
	}, nil
}

// versionsOf is the condition on repository versions that the caller may view their repository, which is of these types.
func (a *Access) versionsOf(ctx context.Context, repositories []*rest.Type) (rest.Cond, error) {
	c, err := a.viewable(ctx, "r", repositories...)
	if err != nil || c.SQL == "" {
		return c, err
	}
	return rest.Cond{SQL: "m.repository IN (SELECT r.id FROM core_repository r WHERE " + c.SQL + ")", Args: c.Args}, nil
}

// viewable is the condition on rows of a table, known by its alias, that the caller may view them. Several types are those of one family.
func (a *Access) viewable(ctx context.Context, alias string, types ...*rest.Type) (rest.Cond, error) {
	call := pulp.CallOf(ctx)
	byPermission := map[string]*rest.Type{}
	permissions := make([]string, 0, len(types))
	for _, t := range types {
		p := permission("view", t.Label)
		byPermission[p] = t
		permissions = append(permissions, p)
	}
	if len(permissions) == 0 {
		return nothing, nil
	}
	marks, args := db.In(permissions)
	held, err := db.Column[string](ctx, a.DB, "SELECT DISTINCT permission FROM core_grant WHERE user_id = ? AND permission IN "+marks+
		" AND (object_type IS NULL AND domain IS NULL OR domain = ?)", append(append([]any{call.User.ID}, args...), call.Domain.ID)...)
	if err != nil {
		return nothing, err
	}
	if len(held) == len(byPermission) && len(types) == 1 {
		return rest.Cond{}, nil
	}
	column := "object"
	if types[0].IntKey() {
		column = "number"
	}
	own := rest.Cond{
		SQL:  alias + ".id IN (SELECT g." + column + " FROM core_grant g WHERE g.user_id = ? AND g.permission IN " + marks + " AND g." + column + " IS NOT NULL)",
		Args: append([]any{call.User.ID}, args...),
	}
	if len(held) == 0 {
		return own, nil
	}
	whole := make([]string, len(held))
	for i, p := range held {
		whole[i] = byPermission[p].PulpType
	}
	marks, args = db.In(whole)
	return rest.Cond{SQL: "(" + alias + ".pulp_type IN " + marks + " OR " + own.SQL + ")", Args: append(args, own.Args...)}, nil
}
