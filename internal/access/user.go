package access

import (
	"context"
	"database/sql"
	"strconv"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// UserLabel is that of users in PRNs.
const UserLabel = "auth.user"

// UserRef names a user.
func UserRef(id int64) pulp.Ref { return pulp.Ref{Type: UserLabel, Key: strconv.FormatInt(id, 10)} }

// A User is who can log in.
type User struct {
	ID           int64             `api:"pulp_href,key" db:"id"`
	Number       int64             `api:"id,ro,computed"`
	Username     string            `api:"username,req,unique,maxlen=150"`
	Password     *string           `api:"password,null,wo,reset"` // the hash, once it is stored
	FirstName    string            `api:"first_name,blank,maxlen=150"`
	LastName     string            `api:"last_name,blank,maxlen=150"`
	Email        string            `api:"email,blank,format=email"`
	Staff        bool              `api:"is_staff,def=false"`
	Active       bool              `api:"is_active,def=true"`
	Joined       pulp.Time         `api:"date_joined,ro"`
	Groups       []UserGroup       `api:"groups,ro,computed"`
	HiddenFields rest.HiddenFields `api:"hidden_fields,ro" db:"-"`
	Superuser    bool              `api:"-" db:"is_superuser"`
	LastLogin    pulp.Time         `api:"-" db:"last_login"`
}

// A UserGroup is what a user shows of a group.
type UserGroup struct {
	Name string   `api:"name,req,maxlen=150"`
	Href pulp.Ref `api:"pulp_href,ro"`
	PRN  string   `api:"prn,ro"`
}

func (a *Access) defineUsers() rest.Typed[User] {
	filters := []rest.Filter{rest.Flag("is_active", "m.is_active"), rest.Flag("is_staff", "m.is_staff")}
	for _, name := range []string{"username", "first_name", "last_name", "email"} {
		filters = append(filters, rest.Text(name, "m."+name, "iexact", "in", "contains", "icontains")...)
	}
	return rest.Define(rest.Resource[User]{
		App: "core", Model: "User", Label: UserLabel, Path: "users", HrefName: "auth_user_href", Table: "auth_user",
		Create: rest.Now, Update: rest.Now, Delete: rest.Now, Global: true, LaxFields: true, Whole: true, Order: "m.id DESC",
		Filters:  filters,
		Ordering: []string{"date_joined", "email", "first_name", "id", "is_active", "is_staff", "is_superuser", "last_login", "last_name", "password", "pk", "username"},
		OrderBy:  map[string]string{"id": "m.id"},
		Check: func(_ context.Context, _ db.Querier, c *rest.Change[User]) error {
			if !c.Set["password"] || c.New.Password == nil {
				return nil
			}
			if problems := a.CheckPassword(*c.New.Password); problems != nil {
				return errs.Field(errs.NonField, problems...)
			}
			return nil
		},
		Prepare: a.preparePassword,
		Saved: func(ctx context.Context, tx *db.Tx, c *rest.Change[User]) error {
			if c.Old == nil || !c.Set["password"] {
				return nil
			}
			return EndSessions(ctx, tx, c.New.ID)
		},
		Expand: expandUsers,
	})
}

// expandUsers fills in the users' groups.
func expandUsers(ctx context.Context, q db.Querier, list []*User) error {
	byID := make(map[int64]*User, len(list))
	ids := make([]int64, len(list))
	for i, u := range list {
		u.Number = u.ID
		ids[i], byID[u.ID] = u.ID, u
	}
	marks, args := db.In(ids)
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var user, group int64
		var name string
		if err := rows.Scan(&user, &group, &name); err != nil {
			return err
		}
		href := groupRef(group)
		byID[user].Groups = append(byID[user].Groups, UserGroup{name, href, "prn:auth.group:" + href.Key}) // as Pulp does: another label
		return nil
	}, "SELECT u.user_id, g.id, g.name FROM auth_user_groups u JOIN core_group g ON g.id = u.group_id WHERE u.user_id IN "+marks+" ORDER BY g.id", args...)
}

// preparePassword hashes a new password. A user without one gets a hash that no password has.
func (a *Access) preparePassword(_ context.Context, c *rest.Change[User]) (func(*User), error) {
	hash, changed := Unusable(), c.Old == nil || c.Set["password"]
	if c.Set["password"] && c.New.Password != nil {
		var err error
		if hash, err = a.Hash(*c.New.Password); err != nil {
			return nil, errs.Field("password", err.Error())
		}
	}
	joined := a.Now.Now()
	return func(u *User) {
		if changed {
			u.Password = &hash
		}
		if u.ID == 0 {
			u.Joined = joined
		}
	}, nil
}
