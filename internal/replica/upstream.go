package replica

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"granary/internal/download"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// Limits of what the other server may answer.
const (
	maxAnswer        = 32 << 20 // bytes of one answer
	maxDistributions = 100_000  // of one type
	pageSize         = 500
)

// An Upstream is the other server, as a replication sees it.
type Upstream struct {
	client *download.Client
	origin string          // without a slash at its end
	api    string          // the path of the API, as "/pulp/api/v3/"
	apps   map[string]bool // the components that it has
	skew   time.Duration   // how far its clock is before ours
}

// connect asks the other server what it is.
func (s *Service) connect(ctx context.Context, server *Server) (*Upstream, error) {
	base, err := url.Parse(strings.TrimSpace(server.BaseURL))
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Hostname() == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errs.E(errs.Invalid, "The base_url of the upstream Pulp must be the address of an http or https server.")
	}
	remote := pulp.Remote{
		URL: base.String(), InsecureTLS: !server.TLSValidation, CACert: value(server.CACert), ClientCert: value(server.ClientCert), ClientKey: value(server.ClientKey),
		Username: value(server.Username), Password: value(server.Password), TotalTimeout: 120, ConnectTimeout: 30, SockReadTimeout: 60,
	}
	client, err := s.Connect(remote)
	if err != nil {
		return nil, err
	}
	u := &Upstream{client: client, origin: strings.TrimSuffix(base.String(), "/"), apps: map[string]bool{}}
	root := "/" + strings.Trim(server.APIRoot, "/") + "/"
	if root == "//" {
		root = "/"
	}
	var status struct {
		Versions []struct {
			Component string `json:"component"`
		} `json:"versions"`
		Domains bool `json:"domain_enabled"`
	}
	asked := s.Now()
	resp, err := u.read(ctx, root+"api/v3/status/", &status)
	if err != nil {
		client.Close()
		return nil, err
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		u.skew = date.Sub(asked)
	}
	for _, v := range status.Versions {
		u.apps[v.Component] = true
	}
	if status.Domains { // as Pulp does: of a server without them, the domain means nothing
		root += url.PathEscape(cmp.Or(value(server.OtherDomain), pulp.DefaultDomain)) + "/"
	}
	u.api = root + "api/v3/"
	return u, nil
}

// read decodes what is at a path.
func (u *Upstream) read(ctx context.Context, path string, into any) (*download.Response, error) {
	body, resp, err := u.client.Bytes(ctx, download.Request{URL: u.origin + path, MaxSize: maxAnswer, Header: http.Header{"Accept": {"application/json"}}})
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	err = dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	if err != nil {
		return nil, &errs.Error{Kind: errs.Remote, Detail: "The upstream Pulp's answer at " + path + " is not what one is.", Err: err}
	}
	return resp, nil
}

// Get reads the object at an href that the other server gave.
func (u *Upstream) Get(ctx context.Context, href string) (Object, error) {
	p, err := url.Parse(href)
	if err != nil || !strings.HasPrefix(href, "/") || strings.HasPrefix(href, "//") || p.Host != "" || p.RawQuery != "" || p.Fragment != "" || slices.Contains(strings.Split(p.Path, "/"), "..") {
		return nil, errs.Ef(errs.Remote, "The upstream Pulp gave a reference that is none: %q.", href)
	}
	var o Object
	_, err = u.read(ctx, href, &o)
	return o, err
}

// list reads all distributions of a type that a q expression selects, once each. The other server may change meanwhile: a list
// whose length is not what it says is read again.
func (u *Upstream) list(ctx context.Context, path, q string) (list []Object, err error) {
	for range 3 {
		var whole bool
		if list, whole, err = u.listOnce(ctx, path, q); err != nil || whole {
			return list, err
		}
	}
	return nil, errs.Ef(errs.Remote, "The upstream Pulp's list of %s changes all the time.", path)
}

func (u *Upstream) listOnce(ctx context.Context, path, q string) (list []Object, whole bool, err error) {
	names, paths := map[string]bool{}, map[string]bool{}
	for offset := 0; ; {
		query := url.Values{"limit": {strconv.Itoa(pageSize)}, "offset": {strconv.Itoa(offset)}}
		if q != "" {
			query.Set("q", q)
		}
		var page struct {
			Count   int      `json:"count"`
			Next    *string  `json:"next"`
			Results []Object `json:"results"`
		}
		if _, err := u.read(ctx, u.api+path+"/?"+query.Encode(), &page); err != nil {
			return nil, false, err
		}
		for _, o := range page.Results {
			name, base := o.Text("name"), o.Text("base_path")
			if name == "" || base == "" {
				return nil, false, errs.Ef(errs.Remote, "The upstream Pulp has a distribution without name or base path at %s.", path)
			}
			if names[name] || paths[base] { // it has moved to a later page
				return nil, false, nil
			}
			names[name], paths[base] = true, true
			list = append(list, o)
		}
		offset += len(page.Results)
		switch {
		case len(list) > maxDistributions:
			return nil, false, errs.Ef(errs.Remote, "The upstream Pulp has more than %d distributions at %s.", maxDistributions, path)
		case page.Next == nil || len(page.Results) == 0:
			return list, len(list) == page.Count, nil
		}
	}
}

// BaseURL is the URL, with a slash at its end, below which the other server serves a distribution.
func (u *Upstream) BaseURL(d Object) (string, error) {
	at, err := url.Parse(d.Text("base_url"))
	if err == nil {
		var base *url.URL
		if base, err = url.Parse(u.origin + "/"); err == nil {
			at = base.ResolveReference(at) // a server without a CONTENT_ORIGIN gives the path only
		}
	}
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Hostname() == "" || at.User != nil || at.RawQuery != "" || at.Fragment != "" {
		return "", errs.Ef(errs.Remote, "The base_url of the upstream Pulp's distribution %q is no http or https URL.", d.Text("name"))
	}
	return strings.TrimSuffix(at.String(), "/") + "/", nil
}

// unchanged says whether a distribution of the other server serves the same as at a time of our clock.
func (u *Upstream) unchanged(d Object, since pulp.Time) bool {
	text := d.Text("no_content_change_since")
	at, ok := pulp.ParseTime(text)
	if text == "" || !ok || since == 0 {
		return false
	}
	if u.skew.Abs() > 2*time.Second { // the other clock tells whole seconds
		since += pulp.Time((u.skew - time.Second).Microseconds())
	}
	return at < since
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
