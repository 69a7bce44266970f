// Package certguard is the plugin for content guards that ask for a client's certificate: x509 guards trust those who have one of an
// authority, rhsm guards let each of these at the paths alone that the certificate entitles to.
//
// The certificate comes in a header, which the proxy in front of the server sets that has seen the certificate used. The server drops
// that header from everybody but trusted proxies.
package certguard

import (
	"context"
	"embed"
	"fmt"
	"log/slog"

	"github.com/maypok86/otter/v2"

	"granary/format/entitlement"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/guard"
	"granary/internal/plugin"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
)

//go:embed migrations
var migrations embed.FS

// Plugin describes the plugin.
func Plugin() plugin.Plugin {
	return plugin.Plugin{
		Name: "certguard", Version: "3.95.0",
		Schema: db.Schema{Component: "certguard", Files: db.Dir(migrations, "migrations")},
		New:    func(h plugin.Host) plugin.Parts { return newCertguard(h).parts() },
	}
}

// An X509 guard lets through who has a certificate of one of its authorities.
type X509 struct {
	repository.Guard
	CA string `api:"ca_certificate,req"`
}

// An RHSM guard does so for the paths that the certificate has.
type RHSM struct {
	repository.Guard
	CA string `api:"ca_certificate,req"`
}

// certguard is the plugin within one server.
type certguard struct {
	plugin.Host
	x509s   rest.Typed[X509]
	rhsms   rest.Typed[RHSM]
	bundles *otter.Cache[string, bundle] // by their text
}

const (
	x509Type = "certguard.x509"
	rhsmType = "certguard.rhsm"
)

func newCertguard(h plugin.Host) *certguard {
	p := &certguard{Host: h, bundles: otter.Must(&otter.Options[string, bundle]{MaximumSize: 100})}
	p.x509s = guard.Define(h.Repos, rest.Resource[X509]{
		App: "certguard", Model: "X509CertGuard", Path: "contentguards/certguard/x509", PulpType: x509Type, Table: "certguard_x509certguard",
		Checks: map[string]func(*X509) []string{"ca_certificate": func(g *X509) []string { return checkCA(g.CA) }},
	}, func(g *X509) *repository.Guard { return &g.Guard })
	p.rhsms = guard.Define(h.Repos, rest.Resource[RHSM]{
		App: "certguard", Model: "RHSMCertGuard", Path: "contentguards/certguard/rhsm", PulpType: rhsmType, Table: "certguard_rhsmcertguard",
		Checks: map[string]func(*RHSM) []string{"ca_certificate": func(g *RHSM) []string { return checkCA(g.CA) }},
	}, func(g *RHSM) *repository.Guard { return &g.Guard })
	return p
}

func (p *certguard) parts() plugin.Parts {
	return plugin.Parts{
		Types: []*rest.Type{p.rhsms.Type, p.x509s.Type},
		Guards: map[string]guard.Check{
			x509Type: func(ctx context.Context, id pulp.ID, r *guard.Request) error {
				_, err := p.trusted(ctx, "certguard_x509certguard", id, r)
				return err
			},
			rhsmType: p.entitled,
		},
	}
}

func checkCA(text string) []string {
	if len(text) > maxCA {
		return []string{fmt.Sprintf("Ensure this field has no more than %d characters.", maxCA)}
	}
	if err := checkBundle(text); err != nil {
		return []string{"Must be PEM encoded X.509 certificate."}
	}
	return nil
}

// trusted returns the request's certificate, if an authority of the guard has signed it.
func (p *certguard) trusted(ctx context.Context, table string, id pulp.ID, r *guard.Request) (*certificate, error) {
	text, err := db.Value[string](ctx, p.DB, "SELECT ca_certificate FROM "+table+" WHERE id = ?", id)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	c, err := parseHeader(r.Header.Get(guard.ClientCertHeader))
	switch {
	case err == errMissing: //nolint:errorlint // it is returned as it is
		return nil, errs.E(errs.Denied, err.Error())
	case err != nil:
		p.Log.DebugContext(ctx, "a client's certificate can't be read", slog.Any("error", err))
		return nil, errs.E(errs.Denied, "The client certificate can not be read.")
	}
	trust, ok := p.bundles.GetIfPresent(text)
	if !ok {
		trust = parseBundle(text)
		p.bundles.Set(text, trust)
	}
	if err := trust.verify(c, p.Now()); err != nil {
		return nil, errs.E(errs.Denied, err.Error())
	}
	return c, nil
}

var errNoPath = errs.E(errs.Denied, "Requested path is not a subpath of a path in the client certificate.")

// entitled lets those through whose certificate is trusted and covers what is asked for.
func (p *certguard) entitled(ctx context.Context, id pulp.ID, r *guard.Request) error {
	c, err := p.trusted(ctx, "certguard_rhsmcertguard", id, r)
	if err != nil {
		return err
	}
	paths, err := entitlement.Read(c.extensions)
	if err != nil {
		p.Log.DebugContext(ctx, "a trusted client's certificate has no entitlement that can be read", slog.Any("error", err))
		return errNoPath
	}
	if !paths.Cover(r.Path) {
		return errNoPath
	}
	return nil
}
