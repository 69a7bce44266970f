package access

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// maxPermissions is how many permissions a role may have.
const maxPermissions = 2000

// A Role is a named set of permissions. Locked ones come with the program.
type Role struct {
	rest.Global
	Name        string   `api:"name,req,unique"`
	Description *string  `api:"description,null"`
	Permissions []string `api:"permissions,req,blank" db:"-"`
	Locked      bool     `api:"locked,ro"`
}

func (a *Access) defineRoles() rest.Typed[Role] {
	locked := func(_ context.Context, _ db.Querier, v *Role) error {
		if v.Locked {
			return errs.E(errs.Denied, "The role is locked.")
		}
		return nil
	}
	filters := append(rest.Text("name", "m.name", rest.NameLookups...), rest.Text("description", "m.description", "contains", "icontains", "iexact")...)
	return rest.Define(rest.Resource[Role]{
		App: "core", Model: "Role", Path: "roles", Table: "core_role",
		Create: rest.Now, Update: rest.Now, Delete: rest.Now, Global: true,
		Filters:     append(filters, rest.Flag("locked", "m.locked"), containsPermission(), a.forObjectType()),
		Ordering:    []string{"description", "locked", "name", "pk", "pulp_created", "pulp_id", "pulp_last_updated"},
		Checks:      map[string]func(*Role) []string{"permissions": a.checkPermissions},
		CheckUpdate: locked, CheckDelete: locked,
		Saved: func(ctx context.Context, tx *db.Tx, c *rest.Change[Role]) error {
			a.changed(tx)
			if c.Old != nil {
				if _, err := tx.Exec(ctx, "DELETE FROM core_rolepermission WHERE role = ?", c.New.ID); err != nil {
					return err
				}
			}
			rows := make([][]any, len(c.New.Permissions))
			for i, p := range c.New.Permissions {
				rows[i] = []any{c.New.ID, p}
			}
			_, err := tx.Insert(ctx, "core_rolepermission", []string{"role", "permission"}, rows, "")
			return err
		},
		Deleting: func(_ context.Context, tx *db.Tx, _ *Role) error { a.changed(tx); return nil },
		Expand: func(ctx context.Context, q db.Querier, list []*Role) error {
			byID := make(map[pulp.ID]*Role, len(list))
			ids := make([]pulp.ID, len(list))
			for i, r := range list {
				ids[i], byID[r.ID] = r.ID, r
				r.Permissions = []string{}
			}
			return eachPermission(ctx, q, ids, func(role pulp.ID, p string) { byID[role].Permissions = append(byID[role].Permissions, p) })
		},
	})
}

// eachPermission reads the permissions of roles, sorted.
func eachPermission(ctx context.Context, q db.Querier, roles []pulp.ID, f func(role pulp.ID, permission string)) error {
	marks, args := db.In(roles)
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var role pulp.ID
		var permission string
		err := rows.Scan(&role, &permission)
		f(role, permission)
		return err
	}, "SELECT role, permission FROM core_rolepermission WHERE role IN "+marks+" ORDER BY permission", args...)
}

// checkPermissions sorts a role's permissions and says which of them there is not.
func (a *Access) checkPermissions(v *Role) []string {
	known := a.permissions()
	for _, p := range v.Permissions {
		switch {
		case !strings.Contains(p, "."):
			return []string{"Permission '" + p + "' is not in the format '<app_label>.<codename>'."}
		case known[p] == "":
			return []string{"Permission '" + p + "' does not exist."}
		}
	}
	v.Permissions = slices.Compact(slices.Sorted(slices.Values(v.Permissions)))
	if len(v.Permissions) > maxPermissions {
		return []string{"Ensure this field has no more than 2000 elements."}
	}
	return nil
}

// permissions are all that there are, with the labels of the objects that they are about: those that every type has, those of the shipped
// roles, and those that are declared beside them.
func (a *Access) permissions() map[string]string {
	a.catalogue.once.Do(func() {
		known, labels := map[string]string{}, map[string]map[string]bool{}
		for _, t := range a.roles.Engine().Types() {
			app, model, _ := strings.Cut(t.Label, ".")
			if labels[app] == nil {
				labels[app] = map[string]bool{}
			}
			labels[app][model] = true
			for _, action := range []string{"add", "change", "delete", "view"} {
				known[permission(action, t.Label)] = t.Label
			}
		}
		for _, r := range a.Rules {
			for p, label := range r.Permissions {
				known[p] = label
			}
		}
		for _, r := range a.Rules {
			for _, role := range r.Roles {
				for _, p := range role.Permissions {
					known[p] = cmp.Or(known[p], aboutOf(p, labels))
				}
			}
		}
		a.catalogue.known = known
	})
	return a.catalogue.known
}

// aboutOf finds the model that is named in a permission: that of file.sync_filerepository is file.filerepository. Where it can't be told, as
// for types that are not here, it is what follows the permission's first word.
func aboutOf(p string, labels map[string]map[string]bool) string {
	app, code, _ := strings.Cut(p, ".")
	parts := strings.Split(code, "_")
	for _, word := range slices.Backward(parts) {
		if labels[app][word] {
			return app + "." + word
		}
	}
	return app + "." + parts[len(parts)-1]
}

// permissionsOn lists the permissions about objects of a label.
func (a *Access) permissionsOn(label string) []string {
	var list []string
	for p, about := range a.permissions() {
		if about == label {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list
}

// inDomain says whether a permission is about objects that belong to a domain.
func (a *Access) inDomain(permission string) bool {
	label := a.permissions()[permission]
	t := a.roles.Engine().TypeByLabel(label)
	return label != "" && (t == nil || !t.Global())
}

func containsPermission() rest.Filter {
	return rest.Filter{Name: "contains_permission", Any: true, Param: rest.Param{Type: "string", Array: true, Repeat: true}, Where: func(_ context.Context, _ *rest.Filtering, v string) (rest.Cond, error) {
		return rest.Cond{SQL: "EXISTS (SELECT 1 FROM core_rolepermission p WHERE p.role = m.id AND p.permission = ?)", Args: []any{v}}, nil
	}}
}

// forObjectType finds the roles that have permissions about objects of one type only: that of a list's URL, or of an object's.
func (a *Access) forObjectType() rest.Filter {
	return rest.Filter{Name: "for_object_type", Param: rest.Param{Type: "string"}, Where: func(ctx context.Context, f *rest.Filtering, v string) (rest.Cond, error) {
		t := f.Engine.TypeOfURL(ctx, v)
		if t == nil {
			return rest.Cond{}, errs.List("URI not valid: " + v)
		}
		marks, args := db.In(a.permissionsOn(t.Label))
		const some = "EXISTS (SELECT 1 FROM core_rolepermission p WHERE p.role = m.id"
		return rest.Cond{
			SQL:  some + " AND p.permission IN " + marks + ") AND NOT " + some + " AND p.permission NOT IN " + marks + ")",
			Args: append(args, args...),
		}, nil
	}}
}
