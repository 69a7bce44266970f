package isolation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A document is what the server says of its API.
type document struct {
	operations []operation
	schemas    map[string]*schema
	globals    map[string]bool // the templates whose objects belong to no domain
	cert       string          // of an authority
}

// An operation is one method of one path.
type operation struct {
	id, method, template string
	body                 *schema
	filters              []string
	list                 bool
}

// A schema is as much of one as the test looks at.
type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Format     string
	Enum       []any
	AllOf      []*schema
	OneOf      []*schema
	Items      *schema
	Required   []string
	ReadOnly   bool
	Minimum    *float64
	Properties map[string]*schema
}

func (w *world) document() document {
	w.Helper()
	status, body := w.ask(http.MethodGet, "/pulp/api/v3/docs/api.json?pk_path=1", nil)
	if status != http.StatusOK {
		w.Fatalf("the document: %d %s", status, body)
	}
	var raw struct {
		Paths map[string]map[string]struct {
			OperationID string
			Parameters  []struct{ Name, In string }
			RequestBody struct {
				Content map[string]struct{ Schema *schema }
			}
			Responses map[string]struct {
				Content map[string]struct{ Schema *schema }
			}
		}
		Components struct{ Schemas map[string]*schema }
	}
	w.must(json.Unmarshal([]byte(body), &raw))
	d := document{schemas: raw.Components.Schemas, globals: map[string]bool{}, cert: authority(w)}
	for _, path := range slices.Sorted(maps.Keys(raw.Paths)) {
		if !strings.HasPrefix(path, "/pulp/{pulp_domain}/api/v3/") {
			continue
		}
		for _, method := range slices.Sorted(maps.Keys(raw.Paths[path])) {
			op := raw.Paths[path][method]
			e := operation{id: op.OperationID, method: strings.ToUpper(method), template: path}
			for _, p := range op.Parameters {
				if p.In == "query" && (strings.HasSuffix(p.Name, "__in") || !strings.Contains(p.Name, "__")) && p.Name != "limit" && p.Name != "offset" && p.Name != "fields" && p.Name != "exclude_fields" && p.Name != "ordering" {
					e.filters = append(e.filters, p.Name)
				}
			}
			for _, kind := range []string{"application/json", "multipart/form-data", "application/x-www-form-urlencoded"} {
				if c, ok := op.RequestBody.Content[kind]; ok && e.body == nil {
					e.body = d.resolve(c.Schema)
				}
			}
			if c, ok := op.Responses["200"].Content["application/json"]; ok && method == "get" {
				s := d.resolve(c.Schema)
				e.list = s != nil && s.Properties["results"] != nil
			}
			d.operations = append(d.operations, e)
		}
	}
	for _, name := range []string{"domains", "users", "groups", "roles", "access_policies", "workers", "signing-services", "task-schedules", "upstream-pulps"} {
		d.globals["/pulp/{pulp_domain}/api/v3/"+name+"/"] = true
	}
	return d
}

func (d *document) resolve(s *schema) *schema {
	for s != nil {
		switch {
		case s.Ref != "":
			s = d.schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
		case len(s.AllOf) == 1 && s.Properties == nil:
			s = s.AllOf[0]
		default:
			return s
		}
	}
	return nil
}

// global says whether an operation is on what belongs to no domain: there a reference may lead anywhere.
func (d *document) global(e operation) bool {
	for prefix := range d.globals {
		if strings.HasPrefix(e.template, prefix) {
			return true
		}
	}
	return false
}

func (d *document) lists() []operation {
	var list []operation
	for _, e := range d.operations {
		if e.list && !d.global(e) {
			list = append(list, e)
		}
	}
	return list
}

// creates are the operations that make objects.
func (d *document) creates() []operation {
	var list []operation
	for _, e := range d.operations {
		if e.method == http.MethodPost && strings.HasSuffix(e.id, "_create") && !e.nested() && !d.global(e) && e.body != nil {
			list = append(list, e)
		}
	}
	return list
}

// isLink says whether a field names another object.
func (d *document) isLink(name string, p *schema) bool {
	p = d.resolve(p)
	return p != nil && p.Type == "string" && p.Format == "uri" && !strings.HasSuffix(name, "url")
}

// takesReference says whether a field could name another object: it does, or it is a list or an object of anything.
func (d *document) takesReference(name string, p *schema) bool {
	if strings.HasSuffix(name, "url") || name == "users" || name == "groups" || name == "pulp_labels" || name == "headers" || name == "paths" {
		return false
	}
	p = d.resolve(p)
	switch {
	case p == nil || p.ReadOnly:
		return false
	case p.Type == "array":
		items := d.resolve(p.Items)
		return items != nil && len(items.Enum) == 0 && items.Type != "integer"
	case p.Type == "":
		return len(p.Enum) == 0 && len(p.AllOf) == 0
	}
	return d.isLink(name, p)
}

// with returns a field's value with a reference in it.
func (d *document) with(p *schema, ref string) any {
	if p = d.resolve(p); p.Type == "array" {
		return []any{ref}
	}
	return ref
}

// value returns a field's value, the n-th.
func (d *document) value(name string, p *schema, n int) any {
	p = d.resolve(p)
	switch {
	case p == nil:
		return "x"
	case len(p.Enum) > 0:
		return p.Enum[0]
	case len(p.OneOf) > 0:
		return d.value(name, p.OneOf[0], n)
	case strings.Contains(name, "certificate"):
		return d.cert
	case strings.HasSuffix(name, "filter"): // jq's
		return "."
	case strings.HasSuffix(name, "url"):
		return "http://127.0.0.1:1/"
	case name == "path":
		return fmt.Sprint("/tmp/granary-isolation-", n)
	}
	switch p.Type {
	case "boolean":
		return false
	case "integer", "number":
		if p.Minimum != nil {
			return *p.Minimum
		}
		return 1
	case "array":
		return []any{}
	case "object":
		return map[string]any{}
	}
	return fmt.Sprint("made", n)
}

// path returns where the operation is in a domain.
func (e operation) path(domain string) string {
	return strings.Replace(e.template, "{pulp_domain}", domain, 1)
}

// nested says whether the operation is on an object, or on what is below one.
func (e operation) nested() bool { return strings.Contains(e.path(""), "{") }

func (e operation) required() []string {
	var list []string
	for _, name := range e.body.Required {
		if p := e.body.Properties[name]; p != nil && !p.ReadOnly {
			list = append(list, name)
		}
	}
	return list
}

// at returns the operation's path for an object, if it is one of this or one that this is below.
func (e operation) at(href string) (string, bool) {
	if !e.nested() {
		return "", false
	}
	template, have := strings.Split(e.template, "/"), strings.Split(strings.TrimSuffix(href, "/"), "/")
	last := 0 // the last segment that stands for a key
	for i, segment := range template {
		if strings.HasPrefix(segment, "{") {
			last = i
		}
	}
	if len(have) != last+1 {
		return "", false
	}
	for i, segment := range template {
		if i > last {
			break
		}
		if !strings.HasPrefix(segment, "{") && segment != have[i] {
			return "", false
		}
	}
	return strings.Join(slices.Concat(have, template[last+1:]), "/"), true
}

// authority makes the certificate of an authority.
func authority(w *world) string {
	w.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	w.must(err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
