package openapi_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/rest/openapi"
)

type box struct {
	rest.Base
	Labels   rest.Labels         `api:"pulp_labels" db:"labels"`
	Name     string              `api:"name,req,maxlen=20"`
	Slug     string              `api:"slug,slug,blank"`
	Size     *int64              `api:"size,null,min=1,max=9"`
	Weight   *float64            `api:"weight,null,min=0"`
	Open     bool                `api:"open,def=true"`
	Policy   string              `api:"policy,def=now,choices=now|later,enum=PolicyA1bEnum"`
	Tags     []string            `api:"tags,def=x|y"`
	Secret   *string             `api:"secret,null,secret"`
	Hidden   rest.HiddenFields   `api:"hidden_fields,ro" db:"-"`
	Owner    pulp.ID             `api:"owner,null,ref=core.owner"`
	Others   []pulp.Ref          `api:"others,ro,computed"`
	Mail     string              `api:"mail,format=email,deprecated"`
	Any      any                 `api:"any" db:"-"`
	Versions map[string]*string  `api:"versions,ro" db:"-"`
	Maps     []map[string]string `api:"maps" db:"-"`
	Part     *part               `api:"part,ro,computed"`
	Parts    []part              `api:"parts,computed,detail"`
	Within   []part              `api:"within,inline,computed"`
	Internal string              `api:"-" db:"internal"`
}

type part struct {
	N int64 `api:"n,req"`
}

type lid struct {
	rest.Base
	Number int64  `api:"number,ro"`
	Kind   string `api:"kind,choices=a|b"`
}

// a leaf has a list of choices under the same name as a box.
type leaf struct {
	rest.Base
	Policy string `api:"policy,choices=red|green,enum=PolicyB2cEnum"`
}

type fill struct {
	File *rest.File `api:"file,req,wo"`
	Note string     `api:"note"`
}

type cancel struct {
	State  string            `api:"state,req"`
	Before pulp.Time         `api:"before,ago=48h"`
	Links  map[string]string `api:"links,format=uri"`
}

// sample returns an engine with types of two apps.
func sample() *rest.Engine {
	e := rest.New(rest.Config{APIRoot: "/root/", Now: func() time.Time { return time.Date(2026, 3, 1, 5, 0, 0, 0, time.UTC) }})
	boxes := rest.Define(rest.Resource[box]{
		App: "toy", Model: "ToyBox", Path: "boxes/toy/box", Table: "toy_box", DetailSchema: "toy.BoxDetail",
		Create: rest.Now, Update: rest.Immediate, Delete: rest.Task,
		Filters: rest.Text("name", "m.name", "in"), Ordering: []string{"name", "pk"},
		Actions: []rest.Action{
			{Name: "fill", Request: fill{}, Task: true},
			{Name: "shake", Collection: true, Group: true},
			{Name: "peek", Method: http.MethodGet, Response: part{}, Headers: []string{"Range"}},
		},
	})
	e.Add(
		boxes.Type,
		rest.Define(rest.Resource[lid]{App: "toy", Model: "BoxLid", Path: "lids", Table: "toy_lid", Parent: boxes.Type, ParentCol: "box", KeyCol: "number", NoTypeFilters: true}).Type,
		rest.Define(rest.Resource[leaf]{App: "core", Model: "ABLeaf", Path: "leaf-s", Table: "core_leaf", Create: rest.Task, Actions: []rest.Action{
			{Name: "cancel", Method: http.MethodPatch, Request: cancel{}, ResponseName: "ABLeafResponse", Conflict: true, OperationID: "cancel_a_leaf"},
			{Name: "twin", Request: cancel{}, RequestSchema: "Twin", ResponseName: "TwinResponse"},
		}}).Type,
	)
	e.AddEndpoint(
		&rest.Endpoint{App: "core", Path: "livez/", Global: true, Actions: []rest.Action{{Method: http.MethodGet, Public: true, OperationID: "livez_read"}}},
		&rest.Endpoint{App: "core", Path: "hidden/", Hidden: true, Actions: []rest.Action{{Method: http.MethodGet}}},
		&rest.Endpoint{App: "toy", Path: "toy/{name}/copy/", Actions: []rest.Action{{OperationID: "copy"}}},
		&rest.Endpoint{App: "core", Path: "core/copy.x/", Actions: []rest.Action{{OperationID: "copy", Media: []string{"text/plain"}, Deprecated: true}}},
	)
	return e
}

func info(domains bool) openapi.Info {
	return openapi.Info{Title: "Toys", Versions: map[string]string{"core": "1.2", "toy": "3.4"}, Domains: domains, Root: "/root/"}
}

type tree = map[string]any

// get returns the value at a path of keys.
func get(t *testing.T, v any, keys ...string) any {
	t.Helper()
	for _, k := range keys {
		m, _ := v.(tree)
		if _, ok := m[k]; !ok {
			t.Fatalf("no %q of %q in %v", k, keys, slices.Sorted(maps.Keys(m)))
		}
		v = m[k]
	}
	return v
}

func load(t *testing.T, d *openapi.Document, query string) tree {
	t.Helper()
	q, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.JSON(q, "http://here/")
	if err != nil {
		t.Fatal(err)
	}
	var v tree
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// operations lists "METHOD path id [tags] path-parameters" of a document.
func operations(t *testing.T, doc tree) []string {
	t.Helper()
	var list []string
	for path, item := range get(t, doc, "paths").(tree) {
		for method, op := range item.(tree) {
			line := strings.ToUpper(method) + " " + path + " " + get(t, op, "operationId").(string) + " " + get(t, op, "tags").([]any)[0].(string)
			for _, p := range get(t, op, "parameters").([]any) {
				if get(t, p, "in") == "path" {
					s := get(t, p, "schema").(tree)
					line += " " + get(t, p, "name").(string) + ":" + s["type"].(string)
					if p.(tree)["x-isDomain"] == true {
						line += ":domain"
					}
				}
			}
			list = append(list, line)
		}
	}
	slices.Sort(list)
	return list
}

func TestForms(t *testing.T) {
	for _, tt := range []struct {
		name, query string
		domains     bool
		want        []string
	}{
		{name: "hrefs", want: []string{
			"DELETE {toy_toy_box_href} boxes_toy_box_delete Boxes: Box toy_toy_box_href:string",
			"GET /root/api/v3/boxes/toy/box/ boxes_toy_box_list Boxes: Box",
			"GET /root/api/v3/leaf-s/ leaf_s_list Leaf-S",
			"GET /root/api/v3/livez/ livez_read Livez",
			"GET {a_b_leaf_href} leaf_s_read Leaf-S a_b_leaf_href:string",
			"GET {toy_box_lid_href} boxes_toy_box_lids_read Boxes: Box Lids toy_box_lid_href:string",
			"GET {toy_toy_box_href} boxes_toy_box_read Boxes: Box toy_toy_box_href:string",
			"GET {toy_toy_box_href}lids/ boxes_toy_box_lids_list Boxes: Box Lids toy_toy_box_href:string",
			"GET {toy_toy_box_href}peek/ boxes_toy_box_peek Boxes: Box toy_toy_box_href:string",
			"PATCH {a_b_leaf_href} cancel_a_leaf Leaf-S a_b_leaf_href:string",
			"PATCH {toy_toy_box_href} boxes_toy_box_partial_update Boxes: Box toy_toy_box_href:string",
			"POST /root/api/v3/boxes/toy/box/ boxes_toy_box_create Boxes: Box",
			"POST /root/api/v3/boxes/toy/box/shake/ boxes_toy_box_shake Boxes: Box",
			"POST /root/api/v3/core/copy.x/ copy Core: Copy.X",
			"POST /root/api/v3/leaf-s/ leaf_s_create Leaf-S",
			"POST /root/api/v3/toy/{name}/copy/ copy_2 Toy: Copy name:string",
			"POST {a_b_leaf_href}twin/ leaf_s_twin Leaf-S a_b_leaf_href:string",
			"POST {toy_toy_box_href}fill/ boxes_toy_box_fill Boxes: Box toy_toy_box_href:string",
			"POST {toy_toy_box_href}set_label/ boxes_toy_box_set_label Boxes: Box toy_toy_box_href:string",
			"POST {toy_toy_box_href}unset_label/ boxes_toy_box_unset_label Boxes: Box toy_toy_box_href:string",
			"PUT {toy_toy_box_href} boxes_toy_box_update Boxes: Box toy_toy_box_href:string",
		}},
		{name: "keys", query: "pk_path=0&component=toy", want: []string{
			"DELETE /root/api/v3/boxes/toy/box/{pulp_id}/ boxes_toy_box_delete Boxes: Box pulp_id:string",
			"GET /root/api/v3/boxes/toy/box/ boxes_toy_box_list Boxes: Box",
			"GET /root/api/v3/boxes/toy/box/{pulp_id}/ boxes_toy_box_read Boxes: Box pulp_id:string",
			"GET /root/api/v3/boxes/toy/box/{pulp_id}/peek/ boxes_toy_box_peek Boxes: Box pulp_id:string",
			"GET /root/api/v3/boxes/toy/box/{toy_box_pk}/lids/ boxes_toy_box_lids_list Boxes: Box Lids toy_box_pk:string",
			"GET /root/api/v3/boxes/toy/box/{toy_box_pk}/lids/{number}/ boxes_toy_box_lids_read Boxes: Box Lids number:integer toy_box_pk:string",
			"PATCH /root/api/v3/boxes/toy/box/{pulp_id}/ boxes_toy_box_partial_update Boxes: Box pulp_id:string",
			"POST /root/api/v3/boxes/toy/box/ boxes_toy_box_create Boxes: Box",
			"POST /root/api/v3/boxes/toy/box/shake/ boxes_toy_box_shake Boxes: Box",
			"POST /root/api/v3/boxes/toy/box/{pulp_id}/fill/ boxes_toy_box_fill Boxes: Box pulp_id:string",
			"POST /root/api/v3/boxes/toy/box/{pulp_id}/set_label/ boxes_toy_box_set_label Boxes: Box pulp_id:string",
			"POST /root/api/v3/boxes/toy/box/{pulp_id}/unset_label/ boxes_toy_box_unset_label Boxes: Box pulp_id:string",
			"POST /root/api/v3/toy/{name}/copy/ copy Toy: Copy name:string",
			"PUT /root/api/v3/boxes/toy/box/{pulp_id}/ boxes_toy_box_update Boxes: Box pulp_id:string",
		}},
		{name: "bindings of one component with domains", query: "component=core&bindings", domains: true, want: []string{
			"GET /root/api/v3/livez/ livez_read Livez",
			"GET /root/{pulp_domain}/api/v3/leaf-s/ list Leaf-S pulp_domain:string:domain",
			"GET {a_b_leaf_href} read Leaf-S a_b_leaf_href:string",
			"PATCH {a_b_leaf_href} cancel_a_leaf Leaf-S a_b_leaf_href:string",
			"POST /root/{pulp_domain}/api/v3/core/copy.x/ copy Core: Copy.X pulp_domain:string:domain",
			"POST /root/{pulp_domain}/api/v3/leaf-s/ create Leaf-S pulp_domain:string:domain",
			"POST {a_b_leaf_href}twin/ twin Leaf-S a_b_leaf_href:string",
		}},
		{name: "keys with domains", query: "component=core&pk_path", domains: true, want: []string{
			"GET /root/api/v3/livez/ livez_read Livez",
			"GET /root/{pulp_domain}/api/v3/leaf-s/ leaf_s_list Leaf-S pulp_domain:string:domain",
			"GET /root/{pulp_domain}/api/v3/leaf-s/{pulp_id}/ leaf_s_read Leaf-S pulp_domain:string:domain pulp_id:string",
			"PATCH /root/{pulp_domain}/api/v3/leaf-s/{pulp_id}/ cancel_a_leaf Leaf-S pulp_domain:string:domain pulp_id:string",
			"POST /root/{pulp_domain}/api/v3/core/copy.x/ copy Core: Copy.X pulp_domain:string:domain",
			"POST /root/{pulp_domain}/api/v3/leaf-s/ leaf_s_create Leaf-S pulp_domain:string:domain",
			"POST /root/{pulp_domain}/api/v3/leaf-s/{pulp_id}/twin/ leaf_s_twin Leaf-S pulp_domain:string:domain pulp_id:string",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := operations(t, load(t, openapi.New(sample(), info(tt.domains)), tt.query))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSchemas(t *testing.T) {
	doc := load(t, openapi.New(sample(), info(false)), "")
	for _, tt := range []struct{ schema, want string }{
		{"toy.ToyBox", `{"type":"object","required":["name"],"properties":{
			"pulp_labels":{"type":"object","additionalProperties":{"type":"string","nullable":true}},
			"name":{"type":"string","minLength":1,"maxLength":20},
			"slug":{"type":"string","pattern":"^[-a-zA-Z0-9_]+$"},
			"size":{"type":"integer","format":"int64","nullable":true,"minimum":1,"maximum":9},
			"weight":{"type":"number","format":"double","nullable":true,"minimum":0},
			"open":{"type":"boolean","default":true},
			"policy":{"allOf":[{"$ref":"#/components/schemas/PolicyA1bEnum"}],"default":"now"},
			"tags":{"type":"array","items":{"type":"string","minLength":1},"default":["x","y"]},
			"secret":{"type":"string","minLength":1,"nullable":true,"writeOnly":true},
			"owner":{"type":"string","format":"uri","nullable":true},
			"mail":{"type":"string","format":"email","minLength":1,"deprecated":true},
			"any":{},
			"maps":{"type":"array","items":{"type":"object"}},
			"parts":{"type":"array","items":{"$ref":"#/components/schemas/part"}},
			"within":{"type":"array","items":{"type":"object","required":["n"],"properties":{"n":{"type":"integer","format":"int64"}}}}}}`},
		{"toy.ToyBoxResponse", `{"type":"object","required":["name"],"properties":{
			"pulp_href":{"type":"string","format":"uri","readOnly":true},
			"prn":{"type":"string","readOnly":true},
			"pulp_created":{"type":"string","format":"date-time","readOnly":true},
			"pulp_last_updated":{"type":"string","format":"date-time","readOnly":true},
			"pulp_labels":{"type":"object","additionalProperties":{"type":"string","nullable":true}},
			"name":{"type":"string","maxLength":20},
			"slug":{"type":"string","pattern":"^[-a-zA-Z0-9_]+$"},
			"size":{"type":"integer","format":"int64","nullable":true,"minimum":1,"maximum":9},
			"weight":{"type":"number","format":"double","nullable":true,"minimum":0},
			"open":{"type":"boolean","default":true},
			"policy":{"allOf":[{"$ref":"#/components/schemas/PolicyA1bEnum"}],"default":"now"},
			"tags":{"type":"array","items":{"type":"string"},"default":["x","y"]},
			"hidden_fields":{"type":"array","readOnly":true,"items":{"type":"object","required":["is_set","name"],"properties":{"name":{"type":"string"},"is_set":{"type":"boolean"}}}},
			"owner":{"type":"string","format":"uri","nullable":true},
			"others":{"type":"array","readOnly":true,"items":{"type":"string","format":"uri"}},
			"mail":{"type":"string","format":"email","deprecated":true},
			"any":{},
			"versions":{"type":"object","readOnly":true,"additionalProperties":{"type":"string","nullable":true}},
			"maps":{"type":"array","items":{"type":"object"}},
			"part":{"allOf":[{"$ref":"#/components/schemas/partResponse"}],"readOnly":true},
			"within":{"type":"array","items":{"type":"object","required":["n"],"properties":{"n":{"type":"integer","format":"int64"}}}}}}`},
		{"PatchedCancel", `{"type":"object","properties":{"state":{"type":"string","minLength":1},"before":{"type":"string","format":"date-time","default":"2026-02-27"},
			"links":{"type":"object","additionalProperties":{"type":"string","format":"uri"}}}}`},
		{"Fill", `{"type":"object","required":["file"],"properties":{"file":{"type":"string","format":"binary","writeOnly":true},"note":{"type":"string","minLength":1}}}`},
		{"PartResponse", `{"type":"object","required":["n"],"properties":{"n":{"type":"integer","format":"int64"}}}`},
		{"PolicyA1bEnum", `{"type":"string","enum":["now","later"]}`},
		{"PolicyB2cEnum", `{"type":"string","enum":["red","green"]}`},
		{"KindEnum", `{"type":"string","enum":["a","b"]}`},
		{"Paginatedtoy.BoxLidResponseList", `{"type":"object","required":["count","results"],"properties":{"count":{"type":"integer"},
			"next":{"type":"string","format":"uri","nullable":true},"previous":{"type":"string","format":"uri","nullable":true},
			"results":{"type":"array","items":{"$ref":"#/components/schemas/toy.BoxLidResponse"}}}}`},
	} {
		var want any
		if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
			t.Fatalf("%s: %v", tt.schema, err)
		}
		if diff := cmp.Diff(want, get(t, doc, "components", "schemas", tt.schema)); diff != "" {
			t.Errorf("%s: %s", tt.schema, diff)
		}
	}
	if _, ok := get(t, doc, "components", "schemas", "toy.BoxDetailResponse", "properties").(tree)["parts"]; !ok {
		t.Error("the detail schema has no parts")
	}
	if _, ok := get(t, doc, "components", "schemas", "Patchedtoy.ToyBox").(tree)["required"]; ok {
		t.Error("a patch requires fields")
	}
	if diff := cmp.Diff(get(t, doc, "components", "schemas", "ABLeafResponse"), get(t, doc, "components", "schemas", "TwinResponse")); diff != "" {
		t.Errorf("the type under another name: %s", diff)
	}
}

// TestEnumNames says how lists of choices are called in a part of the document, where declared names count only
// against each other.
func TestEnumNames(t *testing.T) {
	names := func(query string) []string {
		var list []string
		for name, s := range get(t, load(t, openapi.New(sample(), info(false)), query), "components", "schemas").(tree) {
			if s.(tree)["enum"] != nil {
				list = append(list, name)
			}
		}
		slices.Sort(list)
		return list
	}
	for query, want := range map[string][]string{
		"":                   {"KindEnum", "PolicyA1bEnum", "PolicyB2cEnum"},
		"component=toy":      {"KindEnum", "PolicyEnum"},
		"component=core":     {"PolicyEnum"},
		"component=core,toy": {"KindEnum", "PolicyA1bEnum", "PolicyB2cEnum"},
	} {
		if diff := cmp.Diff(want, names(query)); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
}

func TestOperations(t *testing.T) {
	doc := load(t, openapi.New(sample(), info(false)), "")
	for _, tt := range []struct{ path, method, want string }{
		{"/root/api/v3/boxes/toy/box/", "get", `{"operationId":"boxes_toy_box_list","tags":["Boxes: Box"],"security":[{"basicAuth":[]},{"cookieAuth":[]}],"parameters":[
			{"in":"header","name":"X-Task-Diagnostics","schema":{"type":"array","items":{"type":"string"}}},
			{"in":"query","name":"limit","schema":{"type":"integer"},"required":false},
			{"in":"query","name":"name","schema":{"type":"string"}},
			{"in":"query","name":"name__in","schema":{"type":"array","items":{"type":"string"}},"explode":false,"style":"form"},
			{"in":"query","name":"offset","schema":{"type":"integer"},"required":false},
			{"in":"query","name":"ordering","schema":{"type":"array","items":{"type":"string","enum":["-name","-pk","name","pk"]}},"explode":false,"style":"form"},
			{"in":"query","name":"prn__in","schema":{"type":"array","items":{"type":"string"}},"explode":false,"style":"form"},
			{"in":"query","name":"pulp_href__in","schema":{"type":"array","items":{"type":"string"}},"explode":false,"style":"form"},
			{"in":"query","name":"pulp_id__in","schema":{"type":"array","items":{"type":"string","format":"uuid"}},"explode":false,"style":"form"},
			{"in":"query","name":"q","schema":{"type":"string"}},
			{"in":"query","name":"fields","schema":{"type":"array","items":{"type":"string"}}},
			{"in":"query","name":"exclude_fields","schema":{"type":"array","items":{"type":"string"}}}],
			"responses":{"200":{"description":"","content":{"application/json":{"schema":{"$ref":"#/components/schemas/Paginatedtoy.ToyBoxResponseList"}}}}}}`},
		{"{toy_toy_box_href}fill/", "post", `{"operationId":"boxes_toy_box_fill","tags":["Boxes: Box"],"security":[{"basicAuth":[]},{"cookieAuth":[]}],"parameters":[
			{"in":"header","name":"X-Task-Diagnostics","schema":{"type":"array","items":{"type":"string"}}},
			{"in":"path","name":"toy_toy_box_href","schema":{"type":"string"},"required":true}],
			"requestBody":{"required":true,"content":{"application/x-www-form-urlencoded":{"schema":{"$ref":"#/components/schemas/Fill"}},"multipart/form-data":{"schema":{"$ref":"#/components/schemas/Fill"}}}},
			"responses":{"202":{"description":"","content":{"application/json":{"schema":{"$ref":"#/components/schemas/AsyncOperationResponse"}}}}}}`},
		{"{toy_toy_box_href}peek/", "get", `{"operationId":"boxes_toy_box_peek","tags":["Boxes: Box"],"security":[{"basicAuth":[]},{"cookieAuth":[]}],"parameters":[
			{"in":"header","name":"Range","schema":{"type":"string"},"required":true},
			{"in":"header","name":"X-Task-Diagnostics","schema":{"type":"array","items":{"type":"string"}}},
			{"in":"path","name":"toy_toy_box_href","schema":{"type":"string"},"required":true},
			{"in":"query","name":"fields","schema":{"type":"array","items":{"type":"string"}}},
			{"in":"query","name":"exclude_fields","schema":{"type":"array","items":{"type":"string"}}}],
			"responses":{"200":{"description":"","content":{"application/json":{"schema":{"$ref":"#/components/schemas/PartResponse"}}}}}}`},
		{"{a_b_leaf_href}", "patch", `{"operationId":"cancel_a_leaf","tags":["Leaf-S"],"security":[{"basicAuth":[]},{"cookieAuth":[]}],"parameters":[
			{"in":"header","name":"X-Task-Diagnostics","schema":{"type":"array","items":{"type":"string"}}},
			{"in":"path","name":"a_b_leaf_href","schema":{"type":"string"},"required":true}],
			"requestBody":{"required":true,"content":{"application/json":{"schema":{"$ref":"#/components/schemas/PatchedCancel"}},"application/x-www-form-urlencoded":{"schema":{"$ref":"#/components/schemas/PatchedCancel"}},"multipart/form-data":{"schema":{"$ref":"#/components/schemas/PatchedCancel"}}}},
			"responses":{"200":{"description":"","content":{"application/json":{"schema":{"$ref":"#/components/schemas/ABLeafResponse"}}}},"409":{"description":"","content":{"application/json":{"schema":{"$ref":"#/components/schemas/ABLeafResponse"}}}}}}`},
		{"/root/api/v3/livez/", "get", `{"operationId":"livez_read","tags":["Livez"],"parameters":[
			{"in":"header","name":"X-Task-Diagnostics","schema":{"type":"array","items":{"type":"string"}}},
			{"in":"query","name":"fields","schema":{"type":"array","items":{"type":"string"}}},
			{"in":"query","name":"exclude_fields","schema":{"type":"array","items":{"type":"string"}}}],
			"responses":{"200":{"description":""}}}`},
		{"/root/api/v3/core/copy.x/", "post", `{"operationId":"copy","tags":["Core: Copy.X"],"deprecated":true,"security":[{"basicAuth":[]},{"cookieAuth":[]}],"parameters":[
			{"in":"header","name":"X-Task-Diagnostics","schema":{"type":"array","items":{"type":"string"}}}],
			"responses":{"201":{"description":"","content":{"text/plain":{"schema":{"type":"object"}}}}}}`},
	} {
		var want any
		if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
			t.Fatalf("%s: %v", tt.path, err)
		}
		if diff := cmp.Diff(want, get(t, doc, "paths", tt.path, tt.method)); diff != "" {
			t.Errorf("%s: %s", tt.path, diff)
		}
	}
	// how an operation answers, by its mode
	for _, tt := range []struct {
		path, method string
		want         []string
	}{
		{"/root/api/v3/boxes/toy/box/", "post", []string{"201"}},
		{"/root/api/v3/boxes/toy/box/shake/", "post", []string{"202"}},
		{"{toy_toy_box_href}", "put", []string{"200", "202"}},
		{"{toy_toy_box_href}", "patch", []string{"200", "202"}},
		{"{toy_toy_box_href}", "delete", []string{"202"}},
		{"{toy_toy_box_href}set_label/", "post", []string{"201"}},
		{"/root/api/v3/leaf-s/", "post", []string{"202"}},
	} {
		got := slices.Sorted(maps.Keys(get(t, doc, "paths", tt.path, tt.method, "responses").(tree)))
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s %s: %s", tt.method, tt.path, diff)
		}
	}
}

func TestFrame(t *testing.T) {
	doc := load(t, openapi.New(sample(), info(true)), "component=toy")
	delete(doc, "paths")
	delete(doc["components"].(tree), "schemas")
	want := tree{
		"openapi": "3.0.1",
		"info":    tree{"title": "Toys", "version": "v3", "x-pulp-app-versions": tree{"core": "1.2", "toy": "3.4"}, "x-pulp-domain-enabled": true},
		"components": tree{"securitySchemes": tree{
			"basicAuth":  tree{"type": "http", "scheme": "basic"},
			"cookieAuth": tree{"type": "apiKey", "in": "cookie", "name": "sessionid"},
		}},
		"servers": []any{tree{"url": "http://here/"}},
	}
	if diff := cmp.Diff(want, doc); diff != "" {
		t.Error(diff)
	}
	core := load(t, openapi.New(sample(), info(true)), "component=core")
	if diff := cmp.Diff(tree{"core": "1.2"}, get(t, core, "info", "x-pulp-app-versions")); diff != "" {
		t.Error(diff)
	}
}

func TestYAML(t *testing.T) {
	d := openapi.New(sample(), info(true))
	for _, query := range []string{"", "bindings=1", "pk_path=1", "component=toy"} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		text, err := d.YAML(q, "https://there: #1/\u00fc\n")
		if err != nil {
			t.Fatal(err)
		}
		var got tree
		if err := yaml.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if url := get(t, got["servers"].([]any)[0], "url"); url != "https://there: #1/\u00fc\n" {
			t.Errorf("the server is %q", url)
		}
		want := load(t, d, query)
		delete(want, "servers")
		delete(got, "servers")
		a, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(a), string(b)); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
}

func TestRefused(t *testing.T) {
	d := openapi.New(sample(), info(false))
	for query, want := range map[string]string{
		"component=":         "Invalid component specified.",
		"component=nope":     "Invalid component specified.",
		"component=toy,nope": "Invalid component specified.",
		"component=toy,":     "Invalid component specified.",
		"plugin=toy":         "'plugin' has been removed. Use 'component' instead.",
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.JSON(q, "")
		if !errs.Is(err, errs.Invalid) || err.Error() != want {
			t.Errorf("%s: %v", query, err)
		}
	}
}

type otherSetLabel struct {
	Key int64 `api:"key"`
}

// TestClash says that one name can't stand for two schemas: the second would be described wrongly.
func TestClash(t *testing.T) {
	e := sample()
	e.AddEndpoint(&rest.Endpoint{App: "core", Path: "x/", Actions: []rest.Action{{Request: otherSetLabel{}, RequestSchema: "SetLabel"}}})
	_, err := openapi.New(e, info(false)).JSON(nil, "")
	if err == nil || !strings.Contains(err.Error(), "SetLabel") {
		t.Errorf("error is %v", err)
	}
}

// TestConcurrent asks for more forms than are remembered, from several sides, and wants each as it was at first.
func TestConcurrent(t *testing.T) {
	d := openapi.New(sample(), info(false))
	queries := []string{"", "bindings", "pk_path", "component=toy", "component=core", "component=core,toy"}
	first := map[string]string{}
	for _, query := range queries {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		text, err := d.JSON(q, "a")
		if err != nil {
			t.Fatal(err)
		}
		first[query] = string(text)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 30 {
				query := queries[(i*j+j)%len(queries)]
				q, _ := url.ParseQuery(query)
				text, err := d.JSON(q, "a")
				if err != nil || string(text) != first[query] {
					t.Errorf("%q changed: %v", query, err)
				}
				if yaml, err := d.YAML(q, "b"); err != nil || len(yaml) == 0 {
					t.Errorf("%q: %v", query, err)
				}
			}
		})
	}
	wg.Wait()
}
