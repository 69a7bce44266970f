package access

import (
	"context"
	"slices"

	"granary/internal/db"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

// Created implements [rest.Authoriser]: it gives the roles on a new object that its policy's creation hooks name.
func (a *Access) Created(ctx context.Context, tx *db.Tx, t *rest.Type, object pulp.Ref) error {
	return a.runHooks(ctx, tx, t.Viewset(), object, nil)
}

// Dispatched gives the roles on a new task: for the queue.
func (a *Access) Dispatched(ctx context.Context, tx *db.Tx, t *task.Task) error {
	return a.runHooks(ctx, tx, "tasks", t.Ref(), []string{"core.task_user_dispatcher"})
}

// runHooks runs a policy's creation hooks for an object, which gets roles for its creator too.
func (a *Access) runHooks(ctx context.Context, tx *db.Tx, viewset string, object pulp.Ref, own []string) error {
	by, roles, err := a.rulesNow(ctx, tx)
	if err != nil {
		return err
	}
	creator := pulp.CallOf(ctx).User
	if creator != nil {
		if err := a.give(ctx, tx, roles, own, object, users, []any{creator.ID}); err != nil {
			return err
		}
	}
	p := by[viewset]
	if p == nil {
		return nil
	}
	for _, h := range p.hooks {
		given := names(h.Parameters["roles"])
		switch h.Function {
		case "add_roles_for_object_creator":
			if creator != nil {
				err = a.give(ctx, tx, roles, given, object, users, []any{creator.ID})
			}
		case "add_roles_for_users":
			err = a.giveNamed(ctx, tx, roles, given, object, users, names(h.Parameters["users"]))
		case "add_roles_for_groups":
			err = a.giveNamed(ctx, tx, roles, given, object, groups, names(h.Parameters["groups"]))
		default:
			a.Log.WarnContext(ctx, "an access policy names a creation hook that is not there", "viewset", viewset, "function", h.Function)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// names reads a hook's parameter: a string, or a list of strings.
func names(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var list []string
		for _, s := range v {
			if s, ok := s.(string); ok {
				list = append(list, s)
			}
		}
		return list
	}
	return nil
}

// A holder is what roles are given to.
type holder struct {
	table, column string // of the roles
	own, name     string // the holders' table, and the column by which they are called
}

var (
	users  = holder{"core_userrole", "user_id", "auth_user", "username"}
	groups = holder{"core_grouprole", "group_id", "core_group", "name"}
)

func (a *Access) giveNamed(ctx context.Context, tx *db.Tx, roles map[string]pulp.ID, given []string, object pulp.Ref, to holder, called []string) error {
	marks, args := db.In(called)
	ids, err := db.Column[int64](ctx, tx, "SELECT id FROM "+to.own+" WHERE "+to.name+" IN "+marks, args...)
	if err != nil {
		return err
	}
	if len(ids) < len(called) {
		a.Log.WarnContext(ctx, "a creation hook names users or groups that are not there", "names", called)
	}
	keys := make([]any, len(ids))
	for i, id := range ids {
		keys[i] = id
	}
	return a.give(ctx, tx, roles, given, object, to, keys)
}

// give gives roles on an object to holders. Roles that are not there are left out.
func (a *Access) give(ctx context.Context, tx *db.Tx, roles map[string]pulp.ID, given []string, object pulp.Ref, to holder, holders []any) error {
	now := a.Now.Now()
	column, key := keyOf(object)
	var rows [][]any
	for _, name := range given {
		role, ok := roles[name]
		if !ok {
			a.Log.WarnContext(ctx, "a creation hook names a role that is not there", "role", name)
			continue
		}
		for _, h := range holders {
			rows = append(rows, []any{pulp.NewID(), now, now, h, role, object.Type, key})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	_, err := tx.Insert(ctx, to.table, []string{"id", "created", "updated", to.column, "role", "object_type", column}, rows, "")
	return err
}

// Deleted implements [rest.Authoriser]: the roles on an object go with it.
func (a *Access) Deleted(ctx context.Context, tx *db.Tx, object pulp.Ref) error {
	column, key := keyOf(object)
	for _, h := range []holder{users, groups} {
		if _, err := tx.Exec(ctx, "DELETE FROM "+h.table+" WHERE object_type = ? AND "+column+" = ?", object.Type, key); err != nil {
			return err
		}
	}
	return nil
}

// TasksDeleted deletes the roles on tasks: for the queue. It returns how many there were of which kind.
func (a *Access) TasksDeleted(ctx context.Context, tx *db.Tx, ids []pulp.ID) (map[string]int64, error) {
	counts := map[string]int64{}
	for batch := range slices.Chunk(ids, 500) {
		marks, args := db.In(batch)
		for h, name := range map[holder]string{users: "core.UserRole", groups: "core.GroupRole"} {
			n, err := tx.Exec(ctx, "DELETE FROM "+h.table+" WHERE object IN "+marks, args...)
			if err != nil {
				return nil, err
			}
			counts[name] += n
		}
	}
	return counts, nil
}

// MayDelete picks the tasks that the context's user may delete: for the queue's purge.
func (a *Access) MayDelete(ctx context.Context, q db.Querier, ids []pulp.ID) ([]pulp.ID, error) {
	return a.mayTasks(ctx, q, "core.delete_task", ids)
}

// MayCancel picks the tasks that the context's user may cancel.
func (a *Access) MayCancel(ctx context.Context, q db.Querier, ids []pulp.ID) ([]pulp.ID, error) {
	return a.mayTasks(ctx, q, "core.change_task", ids)
}

// mayTasks picks the tasks on which the context's user has a permission.
func (a *Access) mayTasks(ctx context.Context, q db.Querier, permission string, ids []pulp.ID) ([]pulp.ID, error) {
	user := pulp.CallOf(ctx).User
	all, err := a.Holds(ctx, q, user, permission, pulp.Ref{}, Levels{Model: true, Domain: true})
	if err != nil || all {
		return ids, err
	}
	if user == nil {
		return nil, nil
	}
	var list []pulp.ID
	for batch := range slices.Chunk(ids, 500) {
		marks, args := db.In(batch)
		some, err := db.Column[pulp.ID](ctx, q, "SELECT DISTINCT object FROM core_grant WHERE user_id = ? AND permission = ? AND object IN "+marks,
			append([]any{user.ID, permission}, args...)...)
		if err != nil {
			return nil, err
		}
		list = append(list, some...)
	}
	return list, nil
}
