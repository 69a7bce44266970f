package rest

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// An ident is what must be known of an object to write its href. It never changes in an object's life.
type ident struct {
	typ    *Type
	parent string // the parent's key, of a nested type
	number int64  // of a nested type whose hrefs hold a number
}

// identCache remembers idents, so that most answers need no look-up for the hrefs in them.
type identCache struct {
	mu sync.RWMutex
	m  map[pulp.ID]ident
}

const maxIdents = 200_000 // about 10 MB

func (c *identCache) get(id pulp.ID) (ident, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	i, ok := c.m[id]
	return i, ok
}

func (c *identCache) put(id pulp.ID, i ident) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxIdents {
		c.m = map[pulp.ID]ident{}
	}
	c.m[id] = i
}

// identify learns the idents of ids of one family.
func (e *Engine) identify(ctx context.Context, q db.Querier, f *Family, ids []pulp.ID) error {
	var unknown []pulp.ID
	for _, id := range ids {
		if _, ok := e.idents.get(id); !ok {
			unknown = append(unknown, id)
		}
	}
	for len(unknown) > 0 {
		batch := unknown[:min(500, len(unknown))]
		unknown = unknown[len(batch):]
		marks, args := db.In(batch)
		err := db.Each(ctx, q, func(rows *sql.Rows) error {
			var id, parent pulp.ID
			var typ string
			var number int64
			if err := rows.Scan(&id, &typ, &parent, &number); err != nil {
				return err
			}
			if t := e.members[f.Name][typ]; t != nil {
				e.idents.put(id, ident{t, parent.String(), number})
			}
			return nil
		}, f.Identify+" IN "+marks, args...)
		if err != nil {
			return fmt.Errorf("identify %s: %w", f.Name, err)
		}
	}
	return nil
}

// path returns an object's path below the API root, as "repositories/file/file/<id>/".
func (t *Type) path(key string, i ident) string {
	if t.Parent == nil {
		return t.Path + "/" + key + "/"
	}
	if t.keyCol != t.keyField.Column {
		key = strconv.FormatInt(i.number, 10)
	}
	return t.Parent.Path + "/" + i.parent + "/" + t.Path + "/" + key + "/"
}

// root returns the API's path for hrefs of the type's objects: those that belong to no domain are under the default one.
func (e *Engine) root(c *pulp.Call, t *Type) string {
	if e.domains && t.global {
		return c.Root + pulp.DefaultDomain + "/api/v3/"
	}
	return c.APIPath(e.domains)
}

// Href returns the href of an object for the context's call; empty where it is gone.
func (e *Engine) Href(ctx context.Context, q db.Querier, r pulp.Ref) (string, error) {
	c := pulp.CallOf(ctx)
	t, i, err := e.resolve(ctx, q, r)
	if t == nil || err != nil {
		return "", err
	}
	return e.root(c, t) + t.path(r.Key, i), nil
}

// resolve finds the type and the ident of what r names; a nil type where it is gone or not known here.
func (e *Engine) resolve(ctx context.Context, q db.Querier, r pulp.Ref) (*Type, ident, error) {
	if t := e.byLabel[r.Type]; t != nil && t.Parent == nil {
		return t, ident{typ: t}, nil
	}
	f := e.nestedLabels[r.Type]
	if f == nil {
		return nil, ident{}, nil
	}
	id := r.ID()
	if err := e.identify(ctx, q, f, []pulp.ID{id}); err != nil {
		return nil, ident{}, err
	}
	i, ok := e.idents.get(id)
	if !ok {
		return nil, ident{}, nil
	}
	return i.typ, i, nil
}

// A reference is a parsed one: the type that its path or PRN names, and the key as it stands there.
type reference struct {
	typ    *Type   // nil for a PRN that names only the family
	family *Family // nil for a type on its own
	key    string
	parent string // of a nested type's href
}

// Reference errors, as clients know them.
const (
	noMatch        = "Invalid hyperlink - No URL match."
	incorrectMatch = "Invalid hyperlink - Incorrect URL match."
	missingObject  = "Invalid hyperlink - Object does not exist."
	noKey          = "URI does not contain an unqualified resource PK" // a URL of ours that is no object's
)

// parseRef reads an href, a PRN or an absolute URL. The second result says what is wrong with it.
func (e *Engine) parseRef(c *pulp.Call, s string) (reference, string) {
	if strings.HasPrefix(s, "prn:") {
		r, err := pulp.ParsePRN(s)
		if err != nil {
			return reference{}, err.Error()
		}
		if f := e.nestedLabels[r.Type]; f != nil {
			return reference{family: f, key: r.Key}, checkKey(r.Key)
		}
		t := e.byLabel[r.Type]
		if t == nil {
			return reference{}, "Model " + r.Type + " does not exist"
		}
		if t.intKey() {
			if _, err := strconv.ParseInt(r.Key, 10, 64); err != nil {
				return reference{}, "PK invalid: " + r.Key
			}
			return reference{typ: t, family: t.family, key: r.Key}, ""
		}
		return reference{typ: t, family: t.family, key: r.Key}, checkKey(r.Key)
	}
	if path, ok := e.below(c, s); ok {
		return e.parsePath(path)
	}
	return reference{}, noMatch
}

// below returns what follows the API root in a path or a URL.
func (e *Engine) below(c *pulp.Call, s string) (path string, ok bool) {
	if _, rest, absolute := strings.Cut(s, "://"); absolute {
		i := strings.IndexByte(rest, '/')
		if i < 0 {
			return "", false
		}
		s = rest[i:]
	}
	for _, root := range []string{c.Root, e.apiRoot} {
		rest, ok := strings.CutPrefix(s, root)
		if ok && e.domains {
			_, rest, ok = strings.Cut(rest, "/")
		}
		if !ok {
			continue
		}
		if rest, ok = strings.CutPrefix(rest, "api/v3/"); ok {
			return rest, true
		}
	}
	return "", false
}

// TypeOfURL returns the type whose list, or whose object, is at a URL or path; nil where there is neither.
func (e *Engine) TypeOfURL(ctx context.Context, s string) *Type {
	c := pulp.CallOf(ctx)
	path, ok := e.below(c, s)
	if !ok {
		return nil
	}
	if t := e.byPath[strings.TrimSuffix(path, "/")]; t != nil {
		return t
	}
	r, _ := e.parsePath(path)
	return r.typ
}

// parsePath reads what follows the API root in an href.
func (e *Engine) parsePath(path string) (reference, string) {
	path, ok := strings.CutSuffix(path, "/")
	if !ok {
		return reference{}, noMatch
	}
	parts := strings.Split(path, "/")
	for n := len(parts) - 1; n > 0; n-- {
		t := e.byPath[strings.Join(parts[:n], "/")]
		if t == nil || t.Generic() {
			continue
		}
		key := parts[n]
		if n+1 == len(parts) {
			if t.intKey() {
				if _, err := strconv.ParseInt(key, 10, 64); err != nil {
					return reference{}, noMatch
				}
				return reference{typ: t, family: t.family, key: key}, ""
			}
			return reference{typ: t, family: t.family, key: key}, checkKey(key)
		}
		if child := e.nested[t][parts[n+1]]; child != nil && n+3 == len(parts) {
			if t.intKey() {
				if _, err := strconv.ParseInt(key, 10, 64); err != nil {
					return reference{}, noMatch
				}
			} else if msg := checkKey(key); msg != "" {
				return reference{}, msg
			}
			return reference{typ: child, family: child.family, key: parts[n+2], parent: key}, ""
		}
		break
	}
	if h, _ := e.mux.Handler(&http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/" + path + "/"}}); isRoute(h) {
		return reference{}, noKey
	}
	return reference{}, noMatch
}

func checkKey(key string) string {
	if _, err := pulp.ParseID(key); err != nil {
		return err.Error()
	}
	return ""
}

func (t *Type) intKey() bool { return t.keyField.Type.Kind().String() == "int64" }

// A Found is the object that a reference names.
type Found struct {
	Ref    pulp.Ref
	ID     pulp.ID // zero for users and groups
	Type   *Type
	Domain pulp.ID // zero for objects that belong to none
}

// Find looks up what s (an href, PRN or URL) names: an object of the family, or of the one type if label is
// not empty. The error is of kind Invalid with a list that holds the text that clients know; it says nothing about domains.
func (e *Engine) Find(ctx context.Context, q db.Querier, family, label, s string) (Found, error) {
	found, msg, err := e.find(ctx, q, family, label, s)
	if err != nil {
		return Found{}, err
	}
	if msg != "" {
		return Found{}, errs.List(msg)
	}
	return found, nil
}

func (e *Engine) find(ctx context.Context, q db.Querier, family, label, s string) (Found, string, error) {
	r, msg := e.parseRef(pulp.CallOf(ctx), s)
	if msg == noKey {
		msg = incorrectMatch
	}
	if msg != "" {
		return Found{}, msg, nil
	}
	name := ""
	switch {
	case r.family != nil:
		name = r.family.Name
	case r.typ != nil:
		name = r.typ.Label
	}
	if name != family && (r.typ == nil || r.typ.Label != family) || label != "" && r.typ != nil && r.typ.Label != label {
		return Found{}, incorrectMatch, nil
	}
	found, msg, err := e.lookup(ctx, q, r)
	if err == nil && msg == "" && label != "" && found.Type.Label != label {
		return Found{}, incorrectMatch, nil
	}
	return found, msg, err
}

// lookup reads the row that a reference names.
func (e *Engine) lookup(ctx context.Context, q db.Querier, r reference) (Found, string, error) {
	t := r.typ
	if t == nil { // a PRN that does not tell the type
		id, _ := pulp.ParseID(r.key)
		if err := e.identify(ctx, q, r.family, []pulp.ID{id}); err != nil {
			return Found{}, "", err
		}
		i, ok := e.idents.get(id)
		if !ok {
			return Found{}, missingObject, nil
		}
		t = i.typ
		r = reference{typ: t, family: r.family, key: id.String()}
		if t.Parent != nil {
			r.parent = i.parent
		}
		if t.keyCol != t.keyField.Column {
			r.key = strconv.FormatInt(i.number, 10)
		}
	}
	where, args := t.keyCondition(r.key, r.parent)
	if t.where != "" {
		where += " AND " + t.where
	}
	domain := "m.domain"
	from := t.queryFrom()
	switch {
	case t.Parent != nil:
		from += " JOIN " + t.Parent.mainTable() + " p ON p.id = m." + t.parentCol
		if domain = "p.domain"; t.Parent.global {
			domain = "NULL"
		}
		if t.Parent.PulpType != "" {
			where += " AND p.pulp_type = ?"
			args = append(args, t.Parent.PulpType)
		}
	case t.global:
		domain = "NULL"
	}
	found := Found{Type: t}
	var key any = &found.ID
	var n int64
	if t.intKey() {
		key = &n
	}
	err := q.QueryRow(ctx, "SELECT m."+t.keyField.Column+", "+domain+from+" WHERE "+where, args...).Scan(key, &found.Domain)
	if errs.Is(err, errs.NotFound) {
		return Found{}, missingObject, nil
	}
	if err != nil {
		return Found{}, "", fmt.Errorf("look up %s %s: %w", t.Label, r.key, err)
	}
	if t.intKey() {
		found.Ref = pulp.Ref{Type: t.Label, Key: strconv.FormatInt(n, 10)}
	} else {
		found.Ref = pulp.RefTo(t.Label, found.ID)
	}
	return found, "", nil
}

func (t *Type) mainTable() string {
	if t.family != nil && t.family.Master {
		return t.family.Table
	}
	return t.table
}

// keyCondition is the condition that a key in a URL stands for. The keys are well-formed.
func (t *Type) keyCondition(key, parent string) (string, []any) {
	var arg any
	if t.intKey() || t.keyCol != t.keyField.Column {
		n, err := strconv.ParseInt(key, 10, 64)
		if err != nil {
			n = -1
		}
		arg = n
	} else {
		id, _ := pulp.ParseID(key)
		arg = id[:]
	}
	if parent == "" {
		return "m." + t.keyCol + " = ?", []any{arg}
	}
	var owner any
	if t.Parent.intKey() {
		n, _ := strconv.ParseInt(parent, 10, 64)
		owner = n
	} else {
		id, _ := pulp.ParseID(parent)
		owner = id[:]
	}
	return "m." + t.keyCol + " = ? AND m." + t.parentCol + " = ?", []any{arg, owner}
}

// A FoundMany is what references to objects of one family came to.
type FoundMany struct {
	IDs     []pulp.ID // of those that are there, in the references' order
	Bad     []string  // what is wrong with those that are none, in the words that clients know
	Missing []string  // those that name nothing
	Strays  []string  // those that name objects of other domains
}

// FindMany looks up references to objects of one family, as the units of a repository.
func (e *Engine) FindMany(ctx context.Context, q db.Querier, family string, refs []string) (f FoundMany, err error) {
	c := pulp.CallOf(ctx)
	byID := make(map[pulp.ID]string, len(refs))
	var order []pulp.ID
	for _, s := range refs {
		r, msg := e.parseRef(c, s)
		switch {
		case msg == noMatch:
			f.Bad = append(f.Bad, "URI not valid: "+s)
			continue
		case msg == "" && r.parent != "":
			f.Bad = append(f.Bad, noKey)
			continue
		case msg != "":
			f.Bad = append(f.Bad, msg)
			continue
		case r.family == nil || r.family.Name != family:
			f.Missing = append(f.Missing, s)
			continue
		}
		id, _ := pulp.ParseID(r.key)
		if _, twice := byID[id]; !twice {
			byID[id] = s
			order = append(order, id)
		}
	}
	domains := make(map[pulp.ID]pulp.ID, len(order))
	for batch := range slices.Chunk(order, 500) {
		marks, args := db.In(batch)
		err := db.Each(ctx, q, func(rows *sql.Rows) error {
			var id, domain pulp.ID
			err := rows.Scan(&id, &domain)
			domains[id] = domain
			return err
		}, "SELECT id, domain FROM "+e.families[family].Table+" WHERE id IN "+marks, args...)
		if err != nil {
			return f, err
		}
	}
	for _, id := range order {
		switch domain, there := domains[id]; {
		case !there:
			f.Missing = append(f.Missing, byID[id])
		case domain != c.Domain.ID:
			f.Strays = append(f.Strays, byID[id])
		default:
			f.IDs = append(f.IDs, id)
		}
	}
	return f, nil
}
