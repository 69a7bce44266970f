package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"granary/internal/pulp"
	"granary/internal/rest"
)

func (a *API) rootEndpoint() *rest.Endpoint {
	return &rest.Endpoint{App: "core", Hidden: true, Actions: []rest.Action{{Method: http.MethodGet, Public: true, Handle: a.root}}}
}

// root lists the collections and where they are, in full.
func (a *API) root(ctx context.Context, _ *rest.Request) (*rest.Response, error) {
	call := pulp.CallOf(ctx)
	base := call.Origin + call.APIPath(a.Settings.DomainEnabled)
	urls := map[string]string{}
	for _, name := range a.Engine.Listing() {
		urls[name] = base + name + "/"
	}
	body, err := json.Marshal(urls)
	return rest.OK(body), err
}

// languages are what lang= may be, as Pulp documents it. It is of no consequence: there is nothing to translate.
const languages = `
af ar ar-dz ast az be bg bn br bs ca ckb cs cy da de dsb el en en-au en-gb eo es es-ar es-co es-mx es-ni es-ve et eu fa
fi fr fy ga gd gl he hi hr hsb hu hy ia id ig io is it ja ka kab kk km kn ko ky lb lt lv mk ml mn mr ms my nb ne nl nn
os pa pl pt pt-br ro ru sk sl sq sr sr-latn sv sw ta te tg th tk tr tt udm uk ur uz vi zh-hans zh-hant`

// documentEndpoints declares where the document is served. As in Pulp, the endpoints are no component's.
func (a *API) documentEndpoints() []*rest.Endpoint {
	type maker = func(query url.Values, server string) ([]byte, error)
	serve := func(form string, media []string, text maker) rest.Action {
		lang := rest.NamedParam{Name: "lang", Param: rest.Param{Type: "string", Enum: strings.Fields(languages)}}
		handle := func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
			body, err := text(r.Query, pulp.CallOf(ctx).Origin+"/")
			if err != nil {
				return nil, err
			}
			kind := mediaType(r.HTTP.Header.Get("Accept"), media)
			if form == "yaml" {
				kind += "; charset=utf-8"
			}
			return &rest.Response{Status: http.StatusOK, Body: body, Header: http.Header{
				"Content-Type":        {kind},
				"Content-Disposition": {`inline; filename="Pulp 3 API.` + form + `"`},
			}}, nil
		}
		return rest.Action{Method: http.MethodGet, Public: true, Media: media, Params: []rest.NamedParam{lang}, Handle: handle}
	}
	return []*rest.Endpoint{
		{Path: "docs/api.json", Global: true, Actions: []rest.Action{serve("json", []string{"application/vnd.oai.openapi+json", "application/json"}, a.Document.JSON)}},
		{Path: "docs/api.yaml", Global: true, Actions: []rest.Action{serve("yaml", []string{"application/vnd.oai.openapi", "application/yaml"}, a.Document.YAML)}},
		{App: "core", Path: "docs/", Global: true, Hidden: true, Actions: []rest.Action{{Method: http.MethodGet, Public: true, Handle: docsPage}}},
	}
}

// mediaType picks the form of its name that a client asks for, the first where it doesn't care.
func mediaType(accept string, media []string) string {
	for part := range strings.SplitSeq(accept, ",") {
		kind, _, _ := strings.Cut(part, ";")
		for _, m := range media {
			if strings.EqualFold(strings.TrimSpace(kind), m) {
				return m
			}
		}
	}
	return media[0]
}

// docsPage points at the two forms of the document.
func docsPage(context.Context, *rest.Request) (*rest.Response, error) {
	const page = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Pulp 3 API</title></head>
<body><h1>Pulp 3 API</h1><p>The description of this API: <a href="api.json">api.json</a>, <a href="api.yaml">api.yaml</a> (OpenAPI 3).</p></body>
</html>
`
	return &rest.Response{Status: http.StatusOK, Body: []byte(page), Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}}, nil
}
