package access

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strconv"
	"strings"
	"time"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// A Cookie says how one is set.
type Cookie struct {
	Name     string
	Age      time.Duration
	Domain   string // empty: the host's own
	Path     string
	SameSite string // "Lax", "Strict", "None"; "-": not sent
	Secure   bool   // over TLS only
	HTTPOnly bool   // not for scripts
	Brief    bool   // it ends with the browser
}

// fill takes the defaults for what is zero. A cookie without a name has all of them.
func (c *Cookie) fill(d Cookie) {
	if c.Name == "" {
		d.Domain, d.Secure, d.Brief = c.Domain, c.Secure, c.Brief
		*c = d
		return
	}
	if c.Age == 0 {
		c.Age = d.Age
	}
	if c.Path == "" {
		c.Path = d.Path
	}
	if c.SameSite == "" {
		c.SameSite = d.SameSite
	}
}

const cookieTime = "Mon, 02 Jan 2006 15:04:05 GMT"

// set adds a Set-Cookie header, its attributes in the order that Pulp's have.
func (c *Cookie) set(h http.Header, value string, now time.Time) {
	b := c.Name + "=" + value
	if c.Domain != "" {
		b += "; Domain=" + c.Domain
	}
	if !c.Brief {
		b += "; expires=" + now.Add(c.Age).UTC().Format(cookieTime)
	}
	if c.HTTPOnly {
		b += "; HttpOnly"
	}
	if !c.Brief {
		b += "; Max-Age=" + strconv.Itoa(int(c.Age.Seconds()))
	}
	h.Add("Set-Cookie", c.end(b))
}

// remove adds the Set-Cookie header that makes the client forget the cookie.
func (c *Cookie) remove(h http.Header) {
	b := c.Name + `=""`
	if c.Domain != "" {
		b += "; Domain=" + c.Domain
	}
	b += "; expires=" + time.Unix(0, 0).UTC().Format(cookieTime) + "; Max-Age=0"
	h.Add("Set-Cookie", c.end(b))
}

func (c *Cookie) end(b string) string {
	b += "; Path=" + c.Path
	if c.SameSite != "-" {
		b += "; SameSite=" + c.SameSite
	}
	if c.Secure {
		b += "; Secure"
	}
	return b
}

// sessionLength is that of a session's key, in letters and digits.
const sessionLength = 32

// sessionKey returns the key that a request brings, or "".
func (a *Access) sessionKey(r *http.Request) string {
	c, err := r.Cookie(a.Session.Name)
	if err != nil || len(c.Value) > 128 {
		return ""
	}
	return c.Value
}

func digest(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// fromSession returns the user of the request's session, or nil. A request that changes something must carry the token.
func (a *Access) fromSession(ctx context.Context, r *http.Request, answer http.Header) (*pulp.User, error) {
	a.renewToken(r, answer)
	if _, err := r.Cookie(a.Session.Name); err != nil {
		return nil, nil
	}
	var user *pulp.User
	if key := a.sessionKey(r); key != "" {
		var err error
		user, _, err = a.loadUser(ctx, "JOIN auth_session s ON s.user_id = u.id WHERE s.digest = ? AND s.expires > ?", digest(key), int64(a.Now.Now()))
		if err != nil {
			return nil, err
		}
	}
	if user == nil {
		a.Session.remove(answer)
		return nil, nil
	}
	if !user.Active {
		return nil, nil
	}
	if err := a.checkToken(r); err != nil {
		return nil, err
	}
	return user, nil
}

// Login starts a session for the call's user, in place of the request's own if it has one, and sets the cookies.
func (a *Access) Login(ctx context.Context, r *http.Request, answer http.Header) error {
	user := pulp.CallOf(ctx).User
	if user == nil {
		return errs.E(errs.Unauthenticated, msgNobody)
	}
	key, now := randomText(sessionLength), a.Now()
	old := a.sessionKey(r)
	err := a.DB.Update(ctx, func(tx *db.Tx) error {
		at := int64(pulp.TimeOf(now))
		if _, err := tx.Exec(ctx, "DELETE FROM auth_session WHERE digest = ? OR expires <= ?", digest(old), at); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO auth_session (digest, user_id, expires) VALUES (?, ?, ?)", digest(key), user.ID, int64(pulp.TimeOf(now.Add(a.Session.Age))))
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE auth_user SET last_login = ? WHERE id = ?", at, user.ID)
		return err
	})
	if err != nil {
		return err
	}
	answer.Set("Vary", "Accept, Cookie")
	a.CSRF.set(answer, randomText(secretLength), now)
	a.Session.set(answer, key, now)
	return nil
}

// Logout ends the request's session, if it has one, and makes the client forget it.
func (a *Access) Logout(ctx context.Context, r *http.Request, answer http.Header) error {
	answer.Set("Vary", "Accept, Cookie")
	if _, err := r.Cookie(a.Session.Name); err != nil {
		return nil
	}
	err := a.DB.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM auth_session WHERE digest = ?", digest(a.sessionKey(r)))
		return err
	})
	if err == nil {
		a.Session.remove(answer)
	}
	return err
}

// EndSessions ends all sessions of a user, as a new password does.
func EndSessions(ctx context.Context, tx *db.Tx, user int64) error {
	_, err := tx.Exec(ctx, "DELETE FROM auth_session WHERE user_id = ?", user)
	return err
}

// secure says whether the client spoke TLS, and origin what it calls this server.
func origin(ctx context.Context) (origin string, secure bool) {
	origin = pulp.CallOf(ctx).Origin
	return origin, strings.HasPrefix(origin, "https://")
}
