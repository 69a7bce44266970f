package access

import (
	"context"
	"fmt"
	"net/http"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// loadUser reads one user, and the hash of the password; a nil one where the condition, which follows the FROM clause, holds for none.
func (a *Access) loadUser(ctx context.Context, condition string, args ...any) (*pulp.User, string, error) {
	u := &pulp.User{}
	var hash string
	err := a.DB.QueryRow(ctx, "SELECT u.id, u.username, u.is_superuser, u.is_staff, u.is_active, u.password FROM auth_user u "+condition, args...).
		Scan(&u.ID, &u.Name, &u.Superuser, &u.Staff, &u.Active, &hash)
	switch {
	case errs.Is(err, errs.NotFound):
		return nil, "", nil
	case err != nil:
		return nil, "", fmt.Errorf("load user: %w", err)
	}
	return u, hash, nil
}

// load reads a user by name.
func (a *Access) load(ctx context.Context, name string) (*pulp.User, string, error) {
	return a.loadUser(ctx, "WHERE u.username = ?", name)
}

// SetPassword gives a user another password and ends the sessions that the old one began. The error is of kind NotFound where
// there is no such user.
func (a *Access) SetPassword(ctx context.Context, name, password string) (err error) {
	defer errs.Wrap(&err, "set password of %s", name)
	hash, err := a.Hash(password)
	if err != nil {
		return err
	}
	return a.DB.Update(ctx, func(tx *db.Tx) error {
		id, err := db.Value[int64](ctx, tx, "SELECT id FROM auth_user WHERE username = ?", name)
		if errs.Is(err, errs.NotFound) {
			return errs.NotFoundModel("User")
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE auth_user SET password = ? WHERE id = ?", hash, id); err != nil {
			return err
		}
		return EndSessions(ctx, tx, id)
	})
}

// SetSuperuser makes a superuser, or gives the one with this name another password and ends its sessions.
func (a *Access) SetSuperuser(ctx context.Context, name, password string) (err error) {
	defer errs.Wrap(&err, "set password of %s", name)
	hash, err := a.Hash(password)
	if err != nil {
		return err
	}
	return a.DB.Update(ctx, func(tx *db.Tx) error {
		id, err := db.Value[int64](ctx, tx, `INSERT INTO auth_user (username, password, is_superuser, is_staff, is_active, date_joined) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (username) DO UPDATE SET password = excluded.password, is_superuser = excluded.is_superuser, is_active = excluded.is_active
			RETURNING id`, name, hash, true, true, true, int64(a.Now.Now()))
		if err != nil {
			return err
		}
		return EndSessions(ctx, tx, id)
	})
}

// NewSuperuser makes a superuser, who can't log in where the password is empty. The error is of kind Conflict where the name is taken.
func (a *Access) NewSuperuser(ctx context.Context, name, email, password string) (err error) {
	defer errs.Wrap(&err, "make superuser %s", name)
	hash := Unusable()
	if password != "" {
		if hash, err = a.Hash(password); err != nil {
			return err
		}
	}
	return a.DB.Update(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, `INSERT INTO auth_user (username, email, password, is_superuser, is_staff, is_active, date_joined) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (username) DO NOTHING`, name, email, hash, true, true, true, int64(a.Now.Now()))
		if err == nil && n == 0 {
			err = errs.E(errs.Conflict, "That username is already taken.")
		}
		return err
	})
}

// User returns the user with this name; errs.NotFound where there is none.
func (a *Access) User(ctx context.Context, name string) (*pulp.User, error) {
	u, _, err := a.load(ctx, name)
	if err == nil && u == nil {
		err = errs.NotFoundModel("User")
	}
	return u, err
}

// Anyone returns who makes a request, nil where that is nobody, also after wrong credentials.
func (a *Access) Anyone(r *http.Request) *pulp.User {
	user, err := a.Authenticate(r.Context(), r, http.Header{})
	if err != nil {
		return nil
	}
	return user
}
