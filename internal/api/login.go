package api

import (
	"context"
	"net/http"

	"granary/internal/access"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// A login tells who is logged in.
type login struct {
	Href pulp.Ref `api:"pulp_href,ro"`
	PRN  string   `api:"prn,ro"`
	Name string   `api:"username,ro"`
}

func (a *API) loginEndpoint() *rest.Endpoint {
	return &rest.Endpoint{App: "core", Path: "login/", Actions: []rest.Action{
		{Name: "read", Method: http.MethodGet, Response: login{}, ResponseName: "Login", Handle: func(ctx context.Context, _ *rest.Request) (*rest.Response, error) {
			return a.Engine.JSON(ctx, http.StatusOK, whoIs(ctx))
		}},
		{Method: http.MethodPost, Response: login{}, ResponseName: "Login", OperationID: "login", Handle: a.login},
		{Method: http.MethodDelete, Status: http.StatusNoContent, OperationID: "logout", Handle: func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
			return rest.NoContent(), a.Access.Logout(ctx, r.HTTP, r.ResponseHeader())
		}},
	}}
}

func whoIs(ctx context.Context) login {
	u := pulp.CallOf(ctx).User
	ref := access.UserRef(u.ID)
	return login{ref, ref.PRN(), u.Name}
}

// login starts a session.
func (a *API) login(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	if err := a.Access.Login(ctx, r.HTTP, r.ResponseHeader()); err != nil {
		return nil, err
	}
	who := whoIs(ctx)
	href, err := a.Engine.Href(ctx, a.DB, who.Href)
	if err != nil {
		return nil, err
	}
	r.ResponseHeader().Set("Location", href)
	return a.Engine.JSON(ctx, http.StatusCreated, who)
}
