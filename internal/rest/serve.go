package rest

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/task"
)

// A Request is what a handler gets: the decoded URL and, when it asks, the body.
type Request struct {
	HTTP   *http.Request
	Type   *Type  // nil at an endpoint
	Action string // "list", "create", "retrieve", "update", "partial_update", "destroy", or an action's name; an endpoint's method where it has none
	Key    string // the object's key as the URL has it
	Parent string // of a nested type
	Query  url.Values

	engine  *Engine
	op      *operation // nil where the URL has none for the method
	viewset string
	answer  http.Header
	public  bool
	doc     *Document
	order   []string // of the query's parameters
}

// Public says whether the operation needs no login.
func (r *Request) Public() bool { return r.public }

// ResponseHeader returns the headers of the answer, whatever that will be: for cookies and the like.
func (r *Request) ResponseHeader() http.Header { return r.answer }

// Body reads the request's body, once. What it holds of files is dropped when the request ends.
func (r *Request) Body() (*Document, error) {
	if r.doc != nil {
		return r.doc, nil
	}
	doc, err := readDocument(r.HTTP.Context(), r.HTTP, r.engine.stage)
	r.doc = doc
	return doc, err
}

// Decode reads the body into a struct with api tags and reports what is wrong with it.
func (r *Request) Decode(into any) error { return r.decode(into, false) }

// DecodeLax is Decode that ignores unknown fields.
func (r *Request) DecodeLax(into any) error { return r.decode(into, true) }

func (r *Request) decode(into any, lax bool) error {
	doc, err := r.Body()
	if err != nil {
		return err
	}
	return r.engine.decode(r.HTTP.Context(), doc, into, lax)
}

// ID returns the object's key as an ID. The URL's form has been checked.
func (r *Request) ID() pulp.ID {
	id, _ := pulp.ParseID(r.Key)
	return id
}

// A Response is a handler's answer.
type Response struct {
	Status int
	Header http.Header               // besides the usual ones; may be nil
	Body   []byte                    // JSON, unless Header says otherwise
	Stream func(w io.Writer) error   // instead of Body, for what is too long for memory
	After  func(http.ResponseWriter) // sets cookies; may be nil
}

// OK answers 200 with a JSON body.
func OK(body []byte) *Response { return &Response{Status: http.StatusOK, Body: body} }

// NoContent answers 204.
func NoContent() *Response { return &Response{Status: http.StatusNoContent} }

// JSON answers with a struct that has api tags.
func (e *Engine) JSON(ctx context.Context, status int, v any) (*Response, error) {
	body, err := e.Marshal(ctx, v)
	return &Response{Status: status, Body: body}, err
}

// Marshal renders a struct that has api tags (or a pointer to one) for the context's call.
func (e *Engine) Marshal(ctx context.Context, v any) ([]byte, error) {
	rv := reflect.Indirect(reflect.ValueOf(v))
	fields := e.structFields(rv.Type())
	if err := e.learn(ctx, e.db, fields, []reflect.Value{rv}); err != nil {
		return nil, err
	}
	return e.view(ctx).appendStruct(nil, fields, rv), nil
}

// Accepted answers 202 with a task.
func (e *Engine) Accepted(ctx context.Context, t *task.Task) (*Response, error) {
	href, err := e.Href(ctx, e.db, t.Ref())
	b := appendString([]byte(`{"task":`), href)
	return &Response{Status: http.StatusAccepted, Body: append(b, '}')}, err
}

// AcceptedGroup answers 202 with a task group.
func (e *Engine) AcceptedGroup(ctx context.Context, id pulp.ID) (*Response, error) {
	href, err := e.Href(ctx, e.db, pulp.RefTo("core.taskgroup", id))
	b := appendString([]byte(`{"task_group":`), href)
	return &Response{Status: http.StatusAccepted, Body: append(b, '}')}, err
}

// Dispatch dispatches a task and answers 202.
func (e *Engine) Dispatch(ctx context.Context, spec task.Spec) (*Response, error) {
	t, err := e.tasks.Dispatch(ctx, spec)
	if err != nil {
		return nil, err
	}
	return e.Accepted(ctx, t)
}

// ServeHTTP serves a request whose path is below the API root: "/repositories/file/file/". The context carries
// the [pulp.Call]; without one nobody is logged in.
func (e *Engine) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	h, _ := e.mux.Handler(hr)
	rt, _ := h.(*route)
	if rt == nil || path.Clean(hr.URL.Path) != strings.TrimSuffix(hr.URL.Path, "/") && hr.URL.Path != "/" {
		e.unrouted(w, hr)
		return
	}
	w.Header().Set("Allow", rt.allow)
	w.Header().Set("Vary", "Accept")
	w.Header().Set("X-Frame-Options", "DENY")
	resp, err := e.answer(rt, w.Header(), hr)
	if err != nil {
		e.Fail(w, hr, err)
		return
	}
	e.write(w, hr, resp)
}

// answer runs a route's operation.
func (e *Engine) answer(rt *route, header http.Header, hr *http.Request) (_ *Response, err error) {
	ctx := hr.Context()
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint // it is compared by identity everywhere
				panic(p)
			}
			e.log.ErrorContext(ctx, "panic in a request", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			err = errs.E(errs.Internal, "")
		}
	}()
	if !acceptable(hr.Header.Get("Accept")) {
		return nil, errs.E(errs.NotAcceptable, "Could not satisfy the request Accept header.")
	}
	query := parseQuery(hr.URL.RawQuery)
	if f := query.Get("format"); f != "" && f != "json" && f != "api" && !strings.HasPrefix(rt.path, "/docs/") {
		return nil, errs.E(errs.NotFound, "Not found.")
	}
	method := hr.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	op := rt.methods[method]
	r := &Request{HTTP: hr, engine: e, answer: header, Query: query, public: rt.public}
	if op != nil {
		r.Type, r.Action, r.public, r.op = op.typ, op.action, op.public, op
	}
	r.viewset = rt.viewset
	// the mux has matched the request in Handler only, so the segments are read here
	r.Key, r.Parent = segments(rt.path, hr.URL.Path)
	if err := e.auth.Allow(ctx, r); err != nil {
		return nil, err
	}
	if method == http.MethodOptions {
		return nil, errs.E(errs.Denied, "You do not have permission to perform this action.")
	}
	if op == nil {
		return nil, errs.Ef(errs.NotAllowed, "Method \"%s\" not allowed.", hr.Method)
	}
	if r.Type != nil {
		if err := r.Type.checkKeys(r); err != nil {
			return nil, err
		}
	}
	defer func() {
		if r.doc != nil {
			if cerr := r.doc.close(); cerr != nil && err == nil {
				err = cerr
			}
		}
	}()
	return op.handle(ctx, r)
}

// segments reads {key} and {parent} out of a path.
func segments(pattern, p string) (key, parent string) {
	have := strings.Split(p, "/")
	for i, s := range strings.Split(pattern, "/") {
		switch s {
		case "{key}":
			key = have[i]
		case "{parent}":
			parent = have[i]
		}
	}
	return key, parent
}

// Segment returns what stands in the URL's path for {name} of the endpoint's path.
func (r *Request) Segment(pattern, name string) string {
	have := strings.Split(r.HTTP.URL.Path, "/")
	for i, s := range strings.Split("/"+pattern, "/") {
		if s == "{"+name+"}" && i < len(have) {
			return have[i]
		}
	}
	return ""
}

// checkKeys answers 404 for keys that can be none.
func (t *Type) checkKeys(r *Request) error {
	bad := func(key string, number bool) bool {
		if key == "" {
			return false
		}
		if number {
			_, err := strconv.ParseInt(key, 10, 64)
			return err != nil
		}
		_, err := pulp.ParseID(key)
		return err != nil
	}
	if bad(r.Key, t.intKey() || t.keyCol != t.keyField.Column) || t.Parent != nil && bad(r.Parent, t.Parent.intKey()) {
		return errs.E(errs.NotFound, "Not found.")
	}
	return nil
}

// acceptable says whether a client that sends this Accept header takes JSON.
func acceptable(accept string) bool {
	if accept == "" {
		return true
	}
	for part := range strings.SplitSeq(accept, ",") {
		kind, _, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "*/*", "application/*", "application/json", "text/html", "text/*", "application/vnd.oai.openapi+json", "application/vnd.oai.openapi", "application/yaml":
			return true
		}
	}
	return false
}

const notFoundPage = "\n<!doctype html>\n<html lang=\"en\">\n<head>\n  <title>Not Found</title>\n</head>\n<body>\n  <h1>Not Found</h1><p>The requested resource was not found on this server.</p>\n</body>\n</html>\n"

// unrouted answers what no route is for: a redirect to the path with a slash if that is one, else a page.
func (e *Engine) unrouted(w http.ResponseWriter, hr *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if !strings.HasSuffix(hr.URL.Path, "/") {
		with := hr.Clone(hr.Context())
		with.URL.Path += "/"
		if h, _ := e.mux.Handler(with); isRoute(h) {
			full, query, _ := strings.Cut(hr.RequestURI, "?")
			if u, err := url.Parse(full); err == nil && u.IsAbs() { // as clients of proxies ask; what is there is here
				full = u.EscapedPath()
			}
			if query != "" {
				query = "?" + query
			}
			w.Header().Set("Location", full+"/"+query)
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(http.StatusMovedPermanently)
			return
		}
	}
	NotFoundPage(w)
}

// NotFoundPage answers 404 with the page that unknown paths have.
func NotFoundPage(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("X-Frame-Options", "DENY")
	w.Header().Set("Content-Length", strconv.Itoa(len(notFoundPage)))
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, notFoundPage)
}

func isRoute(h http.Handler) bool {
	_, ok := h.(*route)
	return ok
}

func (e *Engine) write(w http.ResponseWriter, hr *http.Request, resp *Response) {
	maps.Copy(w.Header(), resp.Header)
	if resp.After != nil {
		resp.After(w)
	}
	h := w.Header()
	if resp.Stream != nil {
		setDefaultType(h)
		w.WriteHeader(resp.Status)
		if hr.Method == http.MethodHead {
			return
		}
		if err := resp.Stream(w); err != nil {
			e.log.ErrorContext(hr.Context(), "answer cut short", slog.Any("error", err))
			panic(http.ErrAbortHandler) // the client must not take it for whole
		}
		return
	}
	if resp.Body != nil {
		setDefaultType(h)
	}
	h.Set("Content-Length", strconv.Itoa(len(resp.Body)))
	w.WriteHeader(resp.Status)
	if hr.Method != http.MethodHead {
		_, _ = w.Write(resp.Body)
	}
}

func setDefaultType(h http.Header) {
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
}

// Fail answers with an error, as a handler of the engine would.
func (e *Engine) Fail(w http.ResponseWriter, hr *http.Request, err error) {
	status := errs.Status(err)
	body := errs.Body(err)
	if db.IsFull(err) {
		status, body = http.StatusInsufficientStorage, map[string]string{"detail": "The disk is full."}
	}
	if status >= http.StatusInternalServerError && hr.Context().Err() == nil {
		e.log.ErrorContext(hr.Context(), "request failed", slog.String("method", hr.Method), slog.String("path", hr.URL.Path), slog.Any("error", err))
	}
	if body == nil {
		body = map[string]string{"detail": "Internal server error."}
	}
	if status == http.StatusUnauthorized && e.quiet {
		status = http.StatusForbidden
	}
	if status == http.StatusUnauthorized {
		challenge := `Basic realm="api"`
		if hr.Header.Get("X-Requested-With") == "XMLHttpRequest" {
			challenge = "xBasic realm=\"api\""
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	b, jerr := encodePlain(body)
	if jerr != nil {
		b = []byte(`{"detail":"Internal server error."}`)
	}
	e.write(w, hr, &Response{Status: status, Body: b})
}

// encodePlain encodes without escaping <, > and &.
func encodePlain(v any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return []byte(strings.TrimSuffix(b.String(), "\n")), err
}

// Listing returns the names and paths of all collections, for the API's root.
func (e *Engine) Listing() []string {
	var list []string
	for p, r := range e.routes {
		if !strings.Contains(p, "{") && r.methods["GET"] != nil && r.methods["GET"].typ != nil {
			list = append(list, strings.Trim(p, "/"))
		}
	}
	slices.Sort(list)
	return list
}
