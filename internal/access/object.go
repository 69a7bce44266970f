package access

import (
	"context"
	"database/sql"
	"net/http"
	"slices"
	"strconv"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// A NestedRole is a role on an object, with those who have it.
type NestedRole struct {
	Users  []string `api:"users,def=,notrim"`
	Groups []string `api:"groups,def=,notrim"`
	Role   string   `api:"role,req"`
}

// ObjectRoles are the roles on an object.
type ObjectRoles struct {
	Roles []NestedRole `api:"roles,req"`
}

// A listedRole is what list_roles tells of a role, in another order.
type listedRole struct {
	Role   string   `api:"role"`
	Users  []string `api:"users"`
	Groups []string `api:"groups"`
}

// MyPermissions are the caller's permissions on an object.
type MyPermissions struct {
	Permissions []string `api:"permissions,req,blank"`
}

// RoleActions implements [rest.Authoriser].
func (a *Access) RoleActions(t *rest.Type) []rest.Action {
	described := ""
	if t.Label == "core.upload" { // as in Pulp, whose document is wrong there
		described = t.Schema
	}
	return []rest.Action{
		{Name: "list_roles", Method: http.MethodGet, Response: ObjectRoles{}, Handle: a.listRoles},
		{Name: "add_role", Request: NestedRole{}, RequestSchema: described, Response: NestedRole{}, Lax: true, Handle: a.changeRoles(a.addRoles)},
		{Name: "remove_role", Request: NestedRole{}, RequestSchema: described, Response: NestedRole{}, Lax: true, Handle: a.changeRoles(a.removeRoles)},
		{Name: "my_permissions", Method: http.MethodGet, Response: MyPermissions{}, Handle: a.myPermissions},
	}
}

// listRoles answers with the roles on an object, and who has them.
func (a *Access) listRoles(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	object, err := objectOf(ctx, r)
	if err != nil {
		return nil, err
	}
	column, key := keyOf(object)
	var out struct {
		Roles []listedRole `api:"roles"`
	}
	err = db.Each(ctx, a.DB, func(rows *sql.Rows) error {
		var role, name string
		var group bool
		if err := rows.Scan(&role, &name, &group); err != nil {
			return err
		}
		if n := len(out.Roles); n == 0 || out.Roles[n-1].Role != role {
			out.Roles = append(out.Roles, listedRole{Role: role})
		}
		last := &out.Roles[len(out.Roles)-1]
		if group {
			last.Groups = append(last.Groups, name)
		} else {
			last.Users = append(last.Users, name)
		}
		return nil
	}, "SELECT role, name, is_group FROM ("+
		"SELECT o.name AS role, u.username AS name, FALSE AS is_group FROM core_userrole r JOIN core_role o ON o.id = r.role JOIN auth_user u ON u.id = r.user_id WHERE r.object_type = ? AND r."+column+" = ?"+
		" UNION ALL SELECT o.name, g.name, TRUE FROM core_grouprole r JOIN core_role o ON o.id = r.role JOIN core_group g ON g.id = r.group_id WHERE r.object_type = ? AND r."+column+" = ?"+
		") AS holders ORDER BY role, is_group, name", object.Type, key, object.Type, key)
	if err != nil {
		return nil, err
	}
	return r.Type.Engine().JSON(ctx, http.StatusOK, out)
}

// myPermissions answers with what the caller may do with an object by roles on it.
func (a *Access) myPermissions(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	object, err := objectOf(ctx, r)
	if err != nil {
		return nil, err
	}
	out := MyPermissions{Permissions: []string{}}
	user := pulp.CallOf(ctx).User
	if object.Type == groupLabel && user.Superuser { // as Pulp does, for these alone
		for _, action := range []string{"change", "delete", "manage_roles", "view"} {
			out.Permissions = append(out.Permissions, permission(action, groupLabel))
		}
		return r.Type.Engine().JSON(ctx, http.StatusOK, out)
	}
	column, key := keyOf(object)
	list, err := db.Column[string](ctx, a.DB, "SELECT DISTINCT permission FROM core_grant WHERE user_id = ? AND object_type = ? AND "+column+" = ?", user.ID, object.Type, key)
	if err != nil {
		return nil, err
	}
	about := a.permissions()
	for _, p := range list {
		if about[p] == object.Type {
			out.Permissions = append(out.Permissions, p)
		}
	}
	slices.Sort(out.Permissions)
	return r.Type.Engine().JSON(ctx, http.StatusOK, out)
}

// objectOf finds the object that the URL names.
func objectOf(ctx context.Context, r *rest.Request) (pulp.Ref, error) {
	f, ok, err := r.Object(ctx)
	if err == nil && !ok {
		err = errs.E(errs.NotFound, "Not found.")
	}
	return f.Ref, err
}

// A holding is what a role on an object is given to or taken from.
type holding struct {
	holder
	kind string // "user", "group"
	ids  []int64
	name map[int64]string
}

// changeRoles returns the handler that gives or takes a role on an object.
func (a *Access) changeRoles(change func(ctx context.Context, tx *db.Tx, role pulp.ID, object pulp.Ref, h holding) error) func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		object, err := objectOf(ctx, r)
		if err != nil {
			return nil, err
		}
		var in NestedRole
		if err := r.DecodeLax(&in); err != nil {
			return nil, err
		}
		if len(in.Users)+len(in.Groups) > maxHolders {
			return nil, errs.NonFieldError("No more than %d users and groups can be named at once.", maxHolders)
		}
		bad := map[string]any{}
		role, err := roleID(ctx, a.DB, in.Role)
		if errs.Is(err, errs.NotFound) {
			bad["role"] = []string{noSuchName(in.Role)}
		} else if err != nil {
			return nil, err
		}
		holdings := []holding{{holder: users, kind: "user"}, {holder: groups, kind: "group"}}
		for i, given := range [][]string{in.Users, in.Groups} {
			wrong, err := holdings[i].find(ctx, a.DB, given)
			if err != nil {
				return nil, err
			}
			if wrong != nil {
				bad[holdings[i].kind+"s"] = wrong
			}
		}
		if len(bad) > 0 {
			return nil, &errs.Error{Kind: errs.Invalid, Fields: bad}
		}
		if ok, err := a.concerns(ctx, a.DB, role, object.Type); !ok || err != nil {
			if err == nil {
				err = errs.NonFieldError("The role does not contain any permission for that object.")
			}
			return nil, err
		}
		err = a.DB.Update(ctx, func(tx *db.Tx) error {
			if err := lockRoles(ctx, tx); err != nil {
				return err
			}
			for _, h := range holdings {
				if len(h.ids) == 0 {
					continue
				}
				if err := change(ctx, tx, role, object, h); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		return r.Type.Engine().JSON(ctx, http.StatusCreated, in)
	}
}

// maxHolders is how many users and groups a request may name.
const maxHolders = 10_000

// find looks the named up. wrong says which of them there are not, by their place.
func (h *holding) find(ctx context.Context, q db.Querier, given []string) (wrong map[string]any, err error) {
	byName := map[string]int64{}
	for part := range slices.Chunk(given, 500) {
		marks, args := db.In(part)
		err := db.Each(ctx, q, func(rows *sql.Rows) error {
			var id int64
			var name string
			err := rows.Scan(&id, &name)
			byName[name] = id
			return err
		}, "SELECT id, "+h.holder.name+" FROM "+h.own+" WHERE "+h.holder.name+" IN "+marks, args...)
		if err != nil {
			return nil, err
		}
	}
	h.name = map[int64]string{}
	for i, name := range given {
		id, ok := byName[name]
		switch {
		case !ok && wrong == nil:
			wrong = map[string]any{}
			fallthrough
		case !ok:
			wrong[strconv.Itoa(i)] = []string{"Object with " + h.holder.name + "=" + name + " does not exist."}
		case h.name[id] == "":
			h.ids, h.name[id] = append(h.ids, id), name
		}
	}
	return wrong, nil
}

func (a *Access) addRoles(ctx context.Context, tx *db.Tx, role pulp.ID, object pulp.Ref, h holding) error {
	now := a.Now.Now()
	column, key := keyOf(object)
	rows := make([][]any, len(h.ids))
	v := &Assignment{RoleID: role}
	v.on(object)
	for i, id := range h.ids {
		if has, err := h.has(ctx, tx, id, v); has || err != nil {
			if has {
				err = errs.NonFieldError("The role is already assigned to %s '%s'.", h.kind, h.name[id])
			}
			return err
		}
		rows[i] = []any{pulp.NewID(), now, now, id, role, object.Type, key}
	}
	_, err := tx.Insert(ctx, h.table, []string{"id", "created", "updated", h.column, "role", "object_type", column}, rows, "")
	return err
}

func (a *Access) removeRoles(ctx context.Context, tx *db.Tx, role pulp.ID, object pulp.Ref, h holding) error {
	column, key := keyOf(object)
	for _, id := range h.ids {
		n, err := tx.Exec(ctx, "DELETE FROM "+h.table+" WHERE "+h.column+" = ? AND role = ? AND object_type = ? AND "+column+" = ?", id, role, object.Type, key)
		if err != nil {
			return err
		}
		if n == 0 {
			return errs.NonFieldError("The role is not assigned to %s '%s'.", h.kind, h.name[id])
		}
	}
	return nil
}
