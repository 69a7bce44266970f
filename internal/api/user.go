package api

import (
	"context"

	"granary/internal/access"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// userLabel is that of users in PRNs.
const userLabel = "auth.user"

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

func (a *API) defineUsers() rest.Typed[User] {
	filters := []rest.Filter{rest.Flag("is_active", "m.is_active"), rest.Flag("is_staff", "m.is_staff")}
	for _, name := range []string{"username", "first_name", "last_name", "email"} {
		filters = append(filters, rest.Text(name, "m."+name, "iexact", "in", "contains", "icontains")...)
	}
	return rest.Define(rest.Resource[User]{
		App: "core", Model: "User", Label: userLabel, Path: "users", HrefName: "auth_user_href", Table: "auth_user",
		Create: rest.Now, Update: rest.Now, Delete: rest.Now, Global: true, LaxFields: true, Whole: true, Order: "m.id DESC",
		Filters:  filters,
		Ordering: []string{"date_joined", "email", "first_name", "id", "is_active", "is_staff", "is_superuser", "last_login", "last_name", "password", "pk", "username"},
		OrderBy:  map[string]string{"id": "m.id"},
		Check: func(_ context.Context, _ db.Querier, c *rest.Change[User]) error {
			if !c.Set["password"] || c.New.Password == nil {
				return nil
			}
			if problems := a.Access.CheckPassword(*c.New.Password); problems != nil {
				return errs.Field(errs.NonField, problems...)
			}
			return nil
		},
		Prepare: a.preparePassword,
		Saved: func(ctx context.Context, tx *db.Tx, c *rest.Change[User]) error {
			if c.Old == nil || !c.Set["password"] {
				return nil
			}
			return access.EndSessions(ctx, tx, c.New.ID)
		},
		Expand: func(_ context.Context, _ db.Querier, list []*User) error {
			for _, u := range list {
				u.Number = u.ID
			}
			return nil
		},
	})
}

// preparePassword hashes a new password. A user without one gets a hash that no password has.
func (a *API) preparePassword(_ context.Context, c *rest.Change[User]) (func(*User), error) {
	hash, changed := access.Unusable(), c.Old == nil || c.Set["password"]
	if c.Set["password"] && c.New.Password != nil {
		var err error
		if hash, err = a.Access.Hash(*c.New.Password); err != nil {
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
