package access

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"strings"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// An Assignment is a role that a user or a group has: on one object, in a domain, or everywhere.
type Assignment struct {
	rest.Global
	Role        string   `api:"role,req" db:"-"`
	Object      *string  `api:"content_object,null" db:"-"`
	ObjectPRN   *string  `api:"content_object_prn,null" db:"-"`
	Description *string  `api:"description,ro" db:"-"`
	Permissions []string `api:"permissions,ro" db:"-"`
	Domain      pulp.ID  `api:"domain,null,ref=core.domain"`

	RoleID     pulp.ID `api:"-" db:"role"`
	ObjectType *string `api:"-" db:"object_type"`
	ObjectID   pulp.ID `api:"-" db:"object"`
	Number     *int64  `api:"-" db:"number"`
}

// A UserRole is a role that a user has.
type UserRole struct {
	Assignment
	User int64 `api:"-" db:"user_id"`
}

// A GroupRole is a role that a group has.
type GroupRole struct {
	Assignment
	Group int64 `api:"-" db:"group_id"`
}

func (a *Access) defineUserRoles() rest.Typed[UserRole] {
	return defineAssignments(a, rest.Resource[UserRole]{
		App: "core", Model: "UserRole", HrefName: "auth_users_user_role_href", Parent: a.users.Type,
	}, users, "user", func(v *UserRole) (*Assignment, *int64) { return &v.Assignment, &v.User })
}

func (a *Access) defineGroupRoles() rest.Typed[GroupRole] {
	return defineAssignments(a, rest.Resource[GroupRole]{
		App: "core", Model: "GroupRole", HrefName: "groups_group_role_href", Parent: a.groups.Type,
	}, groups, "group", func(v *GroupRole) (*Assignment, *int64) { return &v.Assignment, &v.Group })
}

// roleName is the SQL of the name of an assignment's role.
const roleName = "(SELECT ro.name FROM core_role ro WHERE ro.id = m.role)"

func defineAssignments[T any](a *Access, r rest.Resource[T], to holder, what string, base func(*T) (*Assignment, *int64)) rest.Typed[T] {
	var t rest.Typed[T]
	r.Path, r.Table, r.ParentCol, r.Global, r.Delete = "roles", to.table, to.column, true, rest.Now
	r.Filters = append(rest.Text("role", roleName, "contains", "icontains", "in", "startswith"), contentObject(), rest.LinkTo("domain", "m.domain", "core.domain", true))
	r.Ordering = []string{"description", "pk", "pulp_created", "role"}
	r.OrderBy = map[string]string{"role": roleName, "description": "(SELECT ro.description FROM core_role ro WHERE ro.id = m.role)"}
	r.FieldCheck = func(ctx context.Context, q db.Querier, c *rest.Change[T]) (map[string]any, error) {
		v, _ := base(c.New)
		return a.checkAssigned(ctx, q, v, c.Set)
	}
	r.Check = func(ctx context.Context, q db.Querier, c *rest.Change[T]) error {
		v, _ := base(c.New)
		return a.checkAssignment(ctx, q, v, c.Set)
	}
	r.Expand = func(ctx context.Context, q db.Querier, list []*T) error {
		all := make([]*Assignment, len(list))
		for i, v := range list {
			all[i], _ = base(v)
		}
		return a.expandAssignments(ctx, q, all)
	}
	r.CreateStatus = http.StatusCreated
	r.OnCreate = func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		v, err := t.Parse(ctx, r)
		if err != nil {
			return nil, err
		}
		assignment, owner := base(v)
		*owner = r.ParentKey()
		err = a.DB.Update(ctx, func(tx *db.Tx) error {
			if err := lockRoles(ctx, tx); err != nil {
				return err
			}
			if has, err := to.has(ctx, tx, *owner, assignment); has || err != nil {
				if has {
					err = errs.NonFieldError("The role is already assigned to this %s.", what)
				}
				return err
			}
			return t.Insert(ctx, tx, v)
		})
		if err != nil {
			return nil, err
		}
		return t.CreatedJSON(ctx, v)
	}
	t = rest.Define(r)
	return t
}

// lockRoles lets one at a time give roles by hand, so that none is given twice.
func lockRoles(ctx context.Context, tx *db.Tx) error { return tx.Lock(ctx, "roles") }

// has says whether a holder has a role just so.
func (h holder) has(ctx context.Context, q db.Querier, owner int64, v *Assignment) (bool, error) {
	where, args := h.column+" = ? AND role = ?", []any{owner, v.RoleID}
	switch {
	case v.ObjectType == nil:
		where += " AND object_type IS NULL"
	case v.Number != nil:
		where, args = where+" AND object_type = ? AND number = ?", append(args, *v.ObjectType, *v.Number)
	default:
		where, args = where+" AND object_type = ? AND object = ?", append(args, *v.ObjectType, v.ObjectID)
	}
	if v.Domain.IsZero() {
		where += " AND domain IS NULL"
	} else {
		where, args = where+" AND domain = ?", append(args, v.Domain)
	}
	return db.Exists(ctx, q, "SELECT 1 FROM "+h.table+" WHERE "+where, args...)
}

// on makes the assignment one on an object.
func (v *Assignment) on(object pulp.Ref) {
	v.ObjectType = &object.Type
	if v.ObjectID = object.ID(); v.ObjectID.IsZero() {
		n := object.Number()
		v.Number = &n
	}
}

// ref names the assignment's object.
func (v *Assignment) ref() pulp.Ref {
	switch {
	case v.ObjectType == nil:
		return pulp.Ref{}
	case v.Number != nil:
		return pulp.Ref{Type: *v.ObjectType, Key: fmt.Sprint(*v.Number)}
	}
	return pulp.RefTo(*v.ObjectType, v.ObjectID)
}

// checkAssigned finds the role and the object that a new assignment names.
func (a *Access) checkAssigned(ctx context.Context, q db.Querier, v *Assignment, set map[string]bool) (map[string]any, error) {
	bad := map[string]any{}
	if set["role"] {
		var err error
		if v.RoleID, err = roleID(ctx, q, v.Role); errs.Is(err, errs.NotFound) {
			bad["role"] = []string{noSuchName(v.Role)}
		} else if err != nil {
			return nil, err
		}
	}
	for _, named := range []struct {
		field string
		value *string
	}{{"content_object", v.Object}, {"content_object_prn", v.ObjectPRN}} { // the second wins
		if named.value == nil {
			continue
		}
		if isPRN := strings.HasPrefix(*named.value, "prn:"); named.field == "content_object_prn" && !isPRN {
			bad[named.field] = []string{"PRN must start with 'prn:': " + *named.value}
			continue
		}
		f, exists, problem, err := a.roles.Engine().Resolve(ctx, q, *named.value)
		switch {
		case err != nil:
			return nil, err
		case problem != "" && named.field == "content_object_prn":
			bad[named.field] = []string{problem}
		case !exists:
			bad[named.field] = []string{"Invalid value: " + *named.value + "."}
		default:
			v.ObjectType, v.ObjectID, v.Number = nil, pulp.ID{}, nil
			v.on(f.Ref)
		}
	}
	return bad, nil
}

func noSuchName(name string) string { return "Object with name=" + name + " does not exist." }

func roleID(ctx context.Context, q db.Querier, name string) (pulp.ID, error) {
	return db.Value[pulp.ID](ctx, q, "SELECT id FROM core_role WHERE name = ?", name)
}

// checkAssignment says whether a role can be given so.
func (a *Access) checkAssignment(ctx context.Context, q db.Querier, v *Assignment, set map[string]bool) error {
	if !set["content_object"] && !set["content_object_prn"] {
		return errs.NonFieldError("Either 'content_object' or 'content_object_prn' needs to be specified. Use 'null' for global or domain level access.")
	}
	if v.ObjectType != nil {
		if !v.Domain.IsZero() {
			return errs.NonFieldError("Domain and content_object are mutually exclusive.")
		}
		if ok, err := a.concerns(ctx, q, v.RoleID, *v.ObjectType); !ok || err != nil {
			if err == nil {
				err = errs.NonFieldError("The role '%s' does not carry any permission for that object.", v.Role)
			}
			return err
		}
	}
	if v.Domain.IsZero() {
		return nil
	}
	permissions, err := db.Column[string](ctx, q, "SELECT permission FROM core_rolepermission WHERE role = ?", v.RoleID)
	if err != nil {
		return err
	}
	for _, p := range permissions {
		if a.inDomain(p) {
			return nil
		}
	}
	return errs.NonFieldError("The role '%s' does not carry any permission on an object with a domain", v.Role)
}

// concerns says whether a role has permissions about objects of a label.
func (a *Access) concerns(ctx context.Context, q db.Querier, role pulp.ID, label string) (bool, error) {
	marks, args := db.In(a.permissionsOn(label))
	return db.Exists(ctx, q, "SELECT 1 FROM core_rolepermission WHERE role = ? AND permission IN "+marks, append([]any{role}, args...)...)
}

// expandAssignments fills in the names of roles and objects.
func (a *Access) expandAssignments(ctx context.Context, q db.Querier, list []*Assignment) error {
	byRole := map[pulp.ID][]*Assignment{}
	var roles []pulp.ID
	var objects []pulp.Ref
	for _, v := range list {
		if byRole[v.RoleID] == nil {
			roles = append(roles, v.RoleID)
		}
		byRole[v.RoleID] = append(byRole[v.RoleID], v)
		if r := v.ref(); !r.IsZero() {
			objects = append(objects, r)
		}
		v.Permissions = []string{}
	}
	marks, args := db.In(roles)
	err := db.Each(ctx, q, func(rows *sql.Rows) error {
		var id pulp.ID
		var name string
		var description *string
		err := rows.Scan(&id, &name, &description)
		for _, v := range byRole[id] {
			v.Role, v.Description = name, description
		}
		return err
	}, "SELECT id, name, description FROM core_role WHERE id IN "+marks, args...)
	if err != nil {
		return err
	}
	if err := eachPermission(ctx, q, roles, func(role pulp.ID, p string) {
		for _, v := range byRole[role] {
			v.Permissions = append(v.Permissions, p)
		}
	}); err != nil {
		return err
	}
	engine := a.roles.Engine()
	there, err := engine.Existing(ctx, q, objects)
	if err != nil {
		return err
	}
	for _, v := range list {
		v.Object, v.ObjectPRN = nil, nil
		r := v.ref()
		if !there[r] {
			continue
		}
		href, err := engine.Href(ctx, q, r)
		if err != nil {
			return err
		}
		prn := r.PRN()
		v.Object, v.ObjectPRN = &href, &prn
	}
	return nil
}

// contentObject finds the roles on an object.
func contentObject() rest.Filter {
	return rest.Filter{Name: "content_object", Param: rest.Param{Type: "string"}, Where: func(ctx context.Context, f *rest.Filtering, v string) (rest.Cond, error) {
		if v == "null" {
			return rest.Cond{SQL: "m.object_type IS NULL"}, nil
		}
		found, exists, _, err := f.Engine.Resolve(ctx, f.Q, v)
		if err != nil {
			return rest.Cond{}, err
		}
		if !exists {
			return rest.Cond{}, errs.List("Invalid value for 'content_object': " + v + ".")
		}
		column, key := keyOf(found.Ref)
		return rest.Cond{SQL: "m.object_type = ? AND m." + column + " = ?", Args: []any{found.Ref.Type, key}}, nil
	}}
}
