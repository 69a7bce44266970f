package access

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/jq"
	"granary/internal/pulp"
	"granary/internal/settings"
)

// A Method is a way to find out who makes a request.
type Method int

// The methods. Those that read a header believe what it says: nothing but a proxy that sets it, and that clients can't go around, may be
// able to send it. The server takes these headers off the requests of all others; see [Config.IdentityHeaders].
const (
	Basic      Method = iota // name and password, by HTTP
	Session                  // the cookie of a login
	RemoteUser               // a header with a user's name
	JSONHeader               // a header with JSON, in which a filter finds a user's name
)

// methodsOf returns the methods that classes stand for, in their order.
func methodsOf(classes []string) []Method {
	list := []Method{}
	for _, c := range classes {
		var m Method
		switch c {
		case "pulpcore.app.authentication.BasicAuthentication", "rest_framework.authentication.BasicAuthentication":
			m = Basic
		case "rest_framework.authentication.SessionAuthentication":
			m = Session
		case "pulpcore.app.authentication.PulpRemoteUserAuthentication", "rest_framework.authentication.RemoteUserAuthentication":
			m = RemoteUser
		case "pulpcore.app.authentication.JSONHeaderRemoteAuthentication":
			m = JSONHeader
		default:
			continue
		}
		if !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}

// A Vouching is how users are known who were authenticated elsewhere.
type Vouching struct {
	RemoteUser string // the header with the user's name; empty: none
	JSONHeader string // the header with JSON in base64; empty: none
	Filter     *jq.Filter
	Known      bool // users of these names may come in
	Create     bool // and unknown ones are made
}

// vouchingOf reads settings. A filter that can't be read was found where they were loaded.
func vouchingOf(s *settings.Settings) Vouching {
	v := Vouching{RemoteUser: headerOf(s.RemoteUserEnvironName), JSONHeader: headerOf(s.AuthenticationJSONHeader)}
	v.Filter, _ = jq.Compile(s.AuthenticationJSONHeaderJQFilter)
	v.Create = slices.Contains(s.AuthenticationBackends, "django.contrib.auth.backends.RemoteUserBackend")
	v.Known = v.Create || slices.Contains(s.AuthenticationBackends, "pulpcore.app.authentication.PulpNoCreateRemoteUserBackend")
	return v
}

// headerOf returns the header that a WSGI variable is of, or "" for other variables: HTTP_X_REMOTE_USER is X-Remote-User.
func headerOf(variable string) string {
	name, ok := strings.CutPrefix(variable, "HTTP_")
	if !ok {
		return ""
	}
	return http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
}

// IdentityHeaders are those headers that say who makes a request, and are believed.
func (c *Config) IdentityHeaders() []string {
	var list []string
	for _, m := range c.Methods {
		switch {
		case m == RemoteUser && c.Vouching.RemoteUser != "":
			list = append(list, c.Vouching.RemoteUser)
		case m == JSONHeader && c.Vouching.JSONHeader != "":
			list = append(list, c.Vouching.JSONHeader)
		}
	}
	return list
}

// Challenges says whether clients without credentials are asked for a name and a password: where that is the first method. As Pulp
// does, they are refused with 403 otherwise.
func (c *Config) Challenges() bool { return len(c.Methods) > 0 && c.Methods[0] == Basic }

// Authenticate returns the user that a request comes from, by the first method that finds one; nil where none does.
// answer gets what the answer's headers must tell of it.
func (a *Access) Authenticate(ctx context.Context, r *http.Request, answer http.Header) (*pulp.User, error) {
	for _, m := range a.Methods {
		var user *pulp.User
		var err error
		switch m {
		case Basic:
			name, password, given, problem := basic(r.Header.Get("Authorization"))
			if err = problem; err == nil && given {
				user, err = a.Verify(ctx, name, password, r.RemoteAddr)
			}
		case Session:
			answer.Set("Vary", "Accept, Cookie")
			user, err = a.fromSession(ctx, r, answer)
		case RemoteUser:
			user, err = a.fromRemoteUser(ctx, r)
		case JSONHeader:
			user, err = a.fromJSON(ctx, r)
		}
		if user != nil || err != nil {
			return user, err
		}
	}
	return nil, nil
}

// fromRemoteUser finds the user whom a header names. As Pulp does, users that may not come in count as nobody.
func (a *Access) fromRemoteUser(ctx context.Context, r *http.Request) (*pulp.User, error) {
	name := r.Header.Get(a.Vouching.RemoteUser)
	if a.Vouching.RemoteUser == "" || name == "" {
		return nil, nil
	}
	user, err := a.vouchedFor(ctx, name)
	if err != nil || user == nil || !user.Active {
		return nil, err
	}
	return user, nil
}

var errHeader = errs.E(errs.Unauthenticated, "Access denied.")

// fromJSON finds the user whom JSON in a header names.
func (a *Access) fromJSON(ctx context.Context, r *http.Request) (*pulp.User, error) {
	value := r.Header.Get(a.Vouching.JSONHeader)
	if a.Vouching.JSONHeader == "" || a.Vouching.Filter == nil || value == "" {
		return nil, nil
	}
	if len(value) > jq.MaxInput {
		return nil, errHeader
	}
	text, err := jq.DecodeBase64(value)
	if err != nil {
		return nil, errHeader
	}
	if !json.Valid(text) {
		return nil, errs.E(errs.Unauthenticated, "Access denied. Invalid JSON.")
	}
	found, err := a.runner.First(ctx, a.Vouching.Filter, text)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		a.Log.DebugContext(ctx, "no user in the header", slog.String("header", a.Vouching.JSONHeader), slog.Any("error", err))
		return nil, errHeader
	}
	name, ok := found.(string)
	if !ok || name == "" {
		return nil, errHeader
	}
	user, err := a.vouchedFor(ctx, name)
	if err == nil && (user == nil || !user.Active) {
		err = errHeader
	}
	if err != nil {
		return nil, err
	}
	return user, nil
}

// maxName is how long a user's name may be, in characters.
const maxName = 150

// vouchedFor returns the user of a name that a proxy has authenticated, and makes one where the settings say so; nil for none.
func (a *Access) vouchedFor(ctx context.Context, name string) (*pulp.User, error) {
	if !a.Vouching.Known || !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxName || strings.IndexFunc(name, unicode.IsControl) >= 0 {
		return nil, nil
	}
	user, _, err := a.load(ctx, name)
	if user != nil || err != nil || !a.Vouching.Create {
		return user, err
	}
	err = a.DB.Update(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO auth_user (username, password, is_superuser, is_staff, is_active, date_joined) VALUES (?, ?, ?, ?, ?, ?)"+
			" ON CONFLICT (username) DO NOTHING", name, Unusable(), false, false, true, int64(a.Now.Now()))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make the user whom a header names: %w", err)
	}
	a.Log.InfoContext(ctx, "made a user whom a header names", slog.String("user", name))
	user, _, err = a.load(ctx, name)
	return user, err
}
