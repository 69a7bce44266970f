package repository

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
)

var remoteOrdering = []string{
	"ca_cert", "client_cert", "client_key", "connect_timeout", "download_concurrency", "headers", "max_retries", "name", "password", "pk", "policy",
	"proxy_password", "proxy_url", "proxy_username", "pulp_created", "pulp_id", "pulp_labels", "pulp_last_updated", "pulp_type", "rate_limit", "sock_connect_timeout",
	"sock_read_timeout", "tls_validation", "total_timeout", "url", "username",
}

func (s *Service) remoteFilters() []rest.Filter {
	return slices.Concat(rest.Text("name", "m.name", rest.NameLookups...), rest.Times("pulp_last_updated", "m.updated"), []rest.Filter{rest.LabelSelect()})
}

// DefineRemote completes the declaration of a type of remote.
func DefineRemote[T any](s *Service, r rest.Resource[T], base func(*T) *Remote) rest.Typed[T] {
	r.Family = Remotes
	r.Create, r.Update, r.Delete = rest.Now, rest.Immediate, rest.Task
	r.Filters = append(r.Filters, s.remoteFilters()...)
	r.Ordering = append(slices.Clone(r.Ordering), remoteOrdering...)
	checks := map[string]func(*T) []string{}
	for name, f := range s.remoteChecks() {
		checks[name] = func(v *T) []string { return f(base(v)) }
	}
	r.Checks = withChecks(r.Checks, checks)
	check := r.Check
	r.Check = func(ctx context.Context, q db.Querier, c *rest.Change[T]) error {
		b := base(c.New)
		if err := download.ValidateProxy(value(b.ProxyURL), value(b.ProxyUsername), value(b.ProxyPassword)); err != nil {
			return err
		}
		if wrong := checkNumber(b.MaxRetries, 0); wrong != nil {
			return errs.Field("max_retries", wrong...)
		}
		if wrong := checkNumber(b.RateLimit, 0); wrong != nil {
			return errs.Field("rate_limit", wrong...)
		}
		if check == nil {
			return nil
		}
		return check(ctx, q, c)
	}
	deleting := r.Deleting
	r.Deleting = func(ctx context.Context, tx *db.Tx, v *T) error {
		if err := s.checkUnused(ctx, tx, r.Model, base(v).ID); err != nil {
			return err
		}
		if err := notice.Changed(ctx, tx, notice.Remote, base(v).ID); err != nil || deleting == nil {
			return err
		}
		return deleting(ctx, tx, v)
	}
	return rest.Define(r)
}

// checkUnused refuses to let a remote go that alternate content sources use.
func (s *Service) checkUnused(ctx context.Context, q db.Querier, model string, remote pulp.ID) error {
	users, err := db.All(ctx, q, func(rows *sql.Rows) (string, error) {
		var id pulp.ID
		var typ string
		err := rows.Scan(&id, &typ)
		return fmt.Sprintf("<AlternateContentSource (pulp_type=%s): pk=%s>", typ, id), err
	}, "SELECT id, pulp_type FROM core_acs WHERE remote = ? ORDER BY created, id", remote)
	if err != nil || users == nil {
		return err
	}
	return errs.Ef(errs.Invalid, `("Cannot delete some instances of model '%s' because they are referenced through protected foreign keys: 'AlternateContentSource.remote'.", {%s})`,
		model, strings.Join(users, ", "))
}

func (s *Service) genericRemotes() *rest.Type {
	return rest.Define(rest.Resource[Remote]{
		App: "core", Model: "Remote", Schema: "GenericRemote", Path: "remotes", Family: Remotes,
		Filters: append(s.remoteFilters(), s.typeFilters(Remotes)...), Ordering: remoteOrdering,
	}).Type
}

func (s *Service) remoteChecks() map[string]func(*Remote) []string {
	pem := func(field string, value func(*Remote) **string) func(*Remote) []string {
		return func(r *Remote) []string {
			p := value(r)
			if *p == nil {
				return nil
			}
			clean, err := download.CleanPEM(field, **p)
			if err != nil {
				return report(err)
			}
			*p = &clean
			return nil
		}
	}
	return map[string]func(*Remote) []string{
		"url":                  func(r *Remote) []string { return report(download.ValidateURL(r.URL, s.ImportPaths)) },
		"proxy_url":            func(r *Remote) []string { return report(download.ValidateProxy(value(r.ProxyURL), "", "")) },
		"download_concurrency": func(r *Remote) []string { return checkNumber(r.Concurrency, 1) },
		"ca_cert":              pem("ca_cert", func(r *Remote) **string { return &r.CACert }),
		"client_cert":          pem("client_cert", func(r *Remote) **string { return &r.ClientCert }),
	}
}

// report returns the messages of an error that concerns one field.
func report(err error) []string {
	if e, ok := errors.AsType[*errs.Error](err); ok {
		for _, list := range e.Fields {
			return list.([]string)
		}
	}
	return nil
}

func (s *Service) remoteLabel(ctx context.Context, q db.Querier, id pulp.ID) (name, label string, err error) {
	var typ string
	if err := q.QueryRow(ctx, "SELECT name, pulp_type FROM core_remote WHERE id = ?", id).Scan(&name, &typ); err != nil {
		return "", "", err
	}
	if t := s.API.TypeOf(Remotes.Name, typ); t != nil {
		label = t.Label
	}
	return name, label, nil
}

// RemoteRef names a remote by its own type, for locks.
func (s *Service) RemoteRef(ctx context.Context, q db.Querier, id pulp.ID) (pulp.Ref, error) {
	_, label, err := s.remoteLabel(ctx, q, id)
	return pulp.RefTo(label, id), err
}

// Remote loads a remote in the form that the downloader takes, with its secrets.
func (s *Service) Remote(ctx context.Context, q db.Querier, id pulp.ID) (_ *pulp.Remote, err error) {
	defer errs.Wrap(&err, "load remote %s", id)
	r := pulp.Remote{ID: id}
	var typ string
	var tls bool
	var ca, cert, key, proxy, proxyUser, proxyPass, user, pass, headers *string
	var concurrency, retries, rate *int64
	var timeouts [4]*float64
	err = q.QueryRow(ctx, `SELECT domain, pulp_type, name, url, policy, ca_cert, client_cert, client_key, tls_validation, proxy_url, proxy_username, proxy_password,
		username, password, headers, download_concurrency, max_retries, rate_limit, total_timeout, connect_timeout, sock_connect_timeout, sock_read_timeout
		FROM core_remote WHERE id = ?`, id).
		Scan(&r.Domain, &typ, &r.Name, &r.URL, &r.Policy, &ca, &cert, &key, &tls, &proxy, &proxyUser, &proxyPass, &user, &pass, &headers,
			&concurrency, &retries, &rate, &timeouts[0], &timeouts[1], &timeouts[2], &timeouts[3])
	if errs.Is(err, errs.NotFound) {
		return nil, errs.NotFoundModel("Remote")
	}
	if err != nil {
		return nil, err
	}
	if t := s.API.TypeOf(Remotes.Name, typ); t != nil {
		r.Type = t.Label
	}
	keys := s.API.Keys()
	for _, secret := range []**string{&key, &proxyUser, &proxyPass, &user, &pass, &headers} {
		if *secret != nil {
			clear, err := keys.Decrypt(**secret)
			if err != nil {
				return nil, err
			}
			*secret = &clear
		}
	}
	r.CACert, r.ClientCert, r.ClientKey, r.InsecureTLS = value(ca), value(cert), value(key), !tls
	r.ProxyURL, r.ProxyUsername, r.ProxyPassword, r.Username, r.Password = value(proxy), value(proxyUser), value(proxyPass), value(user), value(pass)
	if headers != nil {
		if r.Headers, err = headerTexts(*headers); err != nil {
			return nil, err
		}
	}
	r.Concurrency, r.MaxRetries, r.RateLimit = int(value(concurrency)), int(value(retries)), int(value(rate))
	r.TotalTimeout, r.ConnectTimeout, r.SockConnectTimeout, r.SockReadTimeout = value(timeouts[0]), value(timeouts[1]), value(timeouts[2]), value(timeouts[3])
	return &r, nil
}

// headerTexts reads a remote's headers. As Pulp does, clients may give values that are no text.
func headerTexts(stored string) ([]map[string]string, error) {
	var list []map[string]any
	if err := json.Unmarshal([]byte(stored), &list); err != nil {
		return nil, err
	}
	texts := make([]map[string]string, len(list))
	for i, h := range list {
		texts[i] = make(map[string]string, len(h))
		for name, v := range h {
			s, ok := v.(string)
			if !ok {
				b, err := json.Marshal(v)
				if err != nil {
					return nil, err
				}
				s = string(b)
			}
			texts[i][name] = s
		}
	}
	return texts, nil
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
