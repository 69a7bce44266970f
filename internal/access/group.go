package access

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
)

const groupLabel = "core.group"

func groupRef(id int64) pulp.Ref { return pulp.Ref{Type: groupLabel, Key: strconv.FormatInt(id, 10)} }

// A Group is a number of users that get roles together.
type Group struct {
	Name   string `api:"name,req,unique,maxlen=150"`
	ID     int64  `api:"pulp_href,key" db:"id"`
	Number int64  `api:"id,ro,computed"`
}

func (a *Access) defineGroups() rest.Typed[Group] {
	return rest.Define(rest.Resource[Group]{
		App: "core", Model: "Group", Path: "groups", Table: "core_group",
		Create: rest.Now, Update: rest.Now, Delete: rest.Now, Global: true, Whole: true, Order: "m.id DESC", Roles: true,
		Filters:  append(append(rest.Text("name", "m.name", "iexact", "in", "contains", "icontains"), rest.Numbers("id", "m.id", "")...), numberIn("id", "m.id")),
		Ordering: []string{"id", "name", "pk"},
		OrderBy:  map[string]string{"id": "m.id"},
		Expand: func(_ context.Context, _ db.Querier, list []*Group) error {
			for _, g := range list {
				g.Number = g.ID
			}
			return nil
		},
	})
}

// numberIn is the filter for one of several numbers.
func numberIn(name, column string) rest.Filter {
	full := name + "__in"
	return rest.Filter{Name: full, Param: rest.Param{Type: "integer", Array: true}, Where: func(_ context.Context, _ *rest.Filtering, v string) (rest.Cond, error) {
		var list []int64
		for _, s := range strings.Split(v, ",") {
			n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
			if err != nil {
				return rest.Cond{}, errs.Field(full, "Enter a number.")
			}
			list = append(list, n)
		}
		marks, args := db.In(list)
		return rest.Cond{SQL: column + " IN " + marks, Args: args}, nil
	}}
}

// A GroupUser is a member of a group.
type GroupUser struct {
	ID       int64    `api:"-,key" db:"id"`
	Group    int64    `api:"-" db:"group_id"`
	Username string   `api:"username,req,maxlen=150"`
	Href     pulp.Ref `api:"pulp_href,ro" db:"-"`
	PRN      string   `api:"prn,ro" db:"-"`
}

func (a *Access) defineMembers() rest.Typed[GroupUser] {
	return rest.Define(rest.Resource[GroupUser]{
		App: "core", Model: "User", Label: "core.groupuser", Schema: "GroupUser", Path: "users", HrefName: "groups_user_href", Table: "core_groupuser",
		Parent: a.groups.Type, ParentCol: "group_id", Global: true, NoRead: true, NoTypeFilters: true, Whole: true, Order: "m.id",
		CreateStatus: http.StatusCreated, OnCreate: a.addMember,
		Actions: []rest.Action{{Name: "delete", Method: http.MethodDelete, Status: http.StatusNoContent, Handle: a.removeMember}},
		Expand: func(_ context.Context, _ db.Querier, list []*GroupUser) error {
			for _, u := range list {
				u.Href = UserRef(u.ID)
				u.PRN = u.Href.PRN()
			}
			return nil
		},
	})
}

// addMember makes a user a member of a group, who may be one already.
func (a *Access) addMember(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	doc, err := r.Body()
	if err != nil {
		return nil, err
	}
	var conditions []string
	var args []any
	shown := "None"
	for _, name := range []string{"username", "pk", "id"} {
		raw, given := doc.Values[name]
		if list, ok := raw.([]any); ok && doc.Form && len(list) > 0 {
			raw = list[len(list)-1]
		}
		if !given {
			continue
		}
		text := "None"
		switch v := raw.(type) {
		case nil:
		case string:
			text = v
		case json.Number:
			text = v.String()
		default:
			return nil, errs.List("Not a valid value for '" + name + "'.")
		}
		if name == "username" {
			shown = text
			conditions, args = append(conditions, "username = ?"), append(args, text)
			continue
		}
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			id = -1
		}
		conditions, args = append(conditions, "id = ?"), append(args, id)
	}
	if conditions == nil {
		return nil, errs.List("Please provide one of the following values for User: 'pk', 'id', 'username'")
	}
	u := &GroupUser{Group: r.ParentKey()}
	err = a.DB.Update(ctx, func(tx *db.Tx) error {
		err := tx.QueryRow(ctx, "SELECT id, username FROM auth_user WHERE "+strings.Join(conditions, " AND "), args...).Scan(&u.ID, &u.Username)
		if errs.Is(err, errs.NotFound) {
			return errs.List("Could not find user " + shown)
		}
		if err != nil {
			return fmt.Errorf("find user: %w", err)
		}
		_, err = tx.Exec(ctx, "INSERT INTO auth_user_groups (user_id, group_id) VALUES (?, ?) ON CONFLICT DO NOTHING", u.ID, u.Group)
		return err
	})
	if err != nil {
		return nil, err
	}
	body, err := a.members.JSON(ctx, a.DB, u)
	return &rest.Response{Status: http.StatusCreated, Body: body}, err
}

// removeMember ends a user's membership, which may have ended already.
func (a *Access) removeMember(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	if _, _, err := r.ParentObject(ctx); err != nil {
		return nil, err
	}
	user, err := strconv.ParseInt(r.Key, 10, 64)
	if err != nil {
		return nil, errs.NotFoundModel("User")
	}
	return rest.NoContent(), a.DB.Update(ctx, func(tx *db.Tx) error {
		there, err := db.Exists(ctx, tx, "SELECT 1 FROM auth_user WHERE id = ?", user)
		if err == nil && !there {
			err = errs.NotFoundModel("User")
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "DELETE FROM auth_user_groups WHERE user_id = ? AND group_id = ?", user, r.ParentKey())
		return err
	})
}
