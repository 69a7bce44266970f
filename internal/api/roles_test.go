package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"granary/internal/db"
)

// plain is the status of a request of the user "plain".
func (w *world) plain(method, path, body string) int {
	w.Helper()
	if !strings.HasPrefix(path, "/") {
		path = root + path
	}
	return w.send(request{method: method, path: path, user: "plain", body: body}).status
}

// wants says how a request of "plain" must end.
func (w *world) wants(what, method, path, body string, status int) {
	w.Helper()
	if got := w.plain(method, path, body); got != status {
		w.Errorf("%s: %s %s: %d, want %d", what, method, path, got, status)
	}
}

// count counts rows.
func (w *world) count(query string, args ...any) int64 {
	w.Helper()
	n, err := db.Value[int64](w.Context(), w.db, query, args...)
	if err != nil {
		w.Fatal(err)
	}
	return n
}

// policy returns the href of a viewset's policy.
func (w *world) policy(viewset string) string {
	w.Helper()
	return w.get("access_policies/?viewset_name=" + viewset)["results"].([]any)[0].(map[string]any)["pulp_href"].(string)
}

func TestRolesAtEveryLevel(t *testing.T) {
	both(t, func(w *world) {
		me := w.get("users/?username=plain")["results"].([]any)[0].(map[string]any)["pulp_href"].(string)
		mine := me + "roles/"
		w.wants("without a role", "POST", "uploads/", `{"size": 1}`, 403)

		// everywhere
		creator := w.create(mine, `{"role": "core.upload_creator", "content_object": null}`).href()
		w.wants("a creator", "POST", "uploads/", `{"size": 1}`, 201)
		own := w.get("uploads/")["results"].([]any)[0].(map[string]any)["pulp_href"].(string)
		w.wants("the creation hook gave the owner's role", "GET", own, "", 200)
		w.wants("an owner may", "GET", own+"list_roles/", "", 200)

		// on an object
		other := w.create("uploads/", `{"size": 1}`).href()
		w.wants("another's object is seen, and not shown", "GET", other, "", 403)
		w.wants("nor for deletion", "DELETE", other, "", 403)
		viewer := `{"role": "core.upload_viewer", "users": ["plain"]}`
		w.decode(w.do("POST", other+"add_role/", viewer), 201)
		w.wants("a viewer", "GET", other, "", 200)
		w.wants("a viewer deletes nothing", "DELETE", other, "", 403)
		w.wants("nor gives roles", "POST", other+"add_role/", viewer, 403)
		w.expect("GET", other+"list_roles/", "", 200, `{"roles": [{"role": "core.upload_owner", "users": ["admin"], "groups": []}, {"role": "core.upload_viewer", "users": ["plain"], "groups": []}]}`)
		w.expect("POST", other+"add_role/", viewer, 400, `{"non_field_errors": ["The role is already assigned to user 'plain'."]}`)
		w.decode(w.do("POST", other+"remove_role/", viewer), 201)
		w.wants("no longer a viewer", "GET", other, "", 403)

		// by a group
		group := w.create("groups/", `{"name": "people"}`).href()
		w.create(group+"users/", `{"username": "plain"}`)
		w.decode(w.do("POST", other+"add_role/", `{"role": "core.upload_viewer", "groups": ["people"]}`), 201)
		w.wants("a member", "GET", other, "", 200)
		if got := w.do("DELETE", group+"users/"+strings.Split(strings.Trim(me, "/"), "/")[4]+"/", "").status; got != 204 {
			t.Errorf("leave the group: %d", got)
		}
		w.wants("a member no more", "GET", other, "", 403)
		w.create(group+"users/", `{"username": "plain"}`)
		if got := w.do("DELETE", group, "").status; got != 204 {
			t.Errorf("delete the group: %d", got)
		}
		w.wants("of a group that is gone", "GET", other, "", 403)
		if n := w.count("SELECT count(*) FROM core_grouprole"); n != 0 {
			t.Errorf("the group left %d roles", n)
		}

		// in a domain
		home := w.get("domains/?name=default")["results"].([]any)[0].(map[string]any)["pulp_href"].(string)
		inDomain := w.create(mine, `{"role": "core.upload_viewer", "content_object": null, "domain": "`+home+`"}`).href()
		w.wants("a viewer of the domain", "GET", other, "", 200)
		w.do("DELETE", inDomain, "")
		w.wants("no more", "GET", other, "", 403)

		// what goes takes its roles along
		w.do("DELETE", own, "")
		w.do("DELETE", other, "")
		if n := w.count("SELECT count(*) FROM core_userrole WHERE object_type = 'core.upload'"); n != 0 {
			t.Errorf("deleted objects left %d roles", n)
		}
		w.do("DELETE", creator, "")
		w.wants("without the role", "POST", "uploads/", `{"size": 1}`, 403)
		role := w.create("roles/", `{"name": "r", "permissions": ["core.add_upload"]}`).href()
		w.create(mine, `{"role": "r", "content_object": null}`)
		w.wants("a role that was made", "POST", "uploads/", `{"size": 1}`, 201)
		w.decode(w.do("PATCH", role, `{"permissions": []}`), 200)
		w.wants("that lost its permissions", "POST", "uploads/", `{"size": 1}`, 403)
		w.do("DELETE", role, "")
		if n := w.count("SELECT count(*) FROM core_userrole WHERE object_type IS NULL"); n != 0 {
			t.Errorf("the deleted role left %d assignments", n)
		}
		locked := w.get("roles/?name=core.upload_owner")["results"].([]any)[0].(map[string]any)["pulp_href"].(string)
		for _, method := range []string{"PATCH", "PUT", "DELETE"} {
			w.expect(method, locked, `{}`, 403, `{"detail": "The role is locked."}`)
		}
	})
}

func TestPoliciesHoldAtOnce(t *testing.T) {
	both(t, func(w *world) {
		me := w.get("users/?username=plain")["results"].([]any)[0].(map[string]any)
		w.create("groups/", `{"name": "people"}`)
		w.create(me["pulp_href"].(string)+"roles/", `{"role": "core.upload_creator", "content_object": null}`)
		policy := w.policy("uploads")
		list := func(statements string) int {
			w.decode(w.do("PATCH", policy, `{"statements": [`+statements+`]}`), http.StatusOK)
			return w.plain("GET", "uploads/", "")
		}
		const everybody = `{"action": ["list"], "principal": "authenticated", "effect": "allow"}`
		for _, tc := range []struct {
			statements string
			want       int
		}{
			{everybody, 200},
			{``, 403},
			{everybody + `, {"action": "*", "principal": "id:` + fmt.Sprint(me["id"]) + `", "effect": "deny"}`, 403},
			{everybody + `, {"action": "*", "principal": "group:people", "effect": "deny"}`, 200},
			{everybody + `, {"action": "<safe_methods>", "principal": "*", "effect": "deny"}`, 403},
			{everybody + `, {"action": "<method:post>", "principal": "*", "effect": "deny"}`, 200},
			{`{"action": "list", "principal": "staff", "effect": "allow"}`, 403},
			{`{"action": "list", "principal": "*", "effect": "allow", "condition": "has_model_perms:core.add_upload"}`, 200},
			{`{"action": "list", "principal": "*", "effect": "allow", "condition": ["has_model_perms:core.add_upload", "has_model_perms:core.view_upload"]}`, 403},
			{`{"action": "list", "principal": "*", "effect": "allow", "condition": 5}`, 403},
			{`{"action": "list", "principal": "*", "effect": "allow", "condition": "no_such_function"}`, 403},
			{`{"action": "list", "principal": "*", "effect": "maybe"}`, 403},
			{`{"action": "list", "principal": "*", "effect": "allow", "condition_expression": "has_model_perms:core.view_upload or not (has_model_perms:core.change_upload)"}`, 200},
			{`{"action": "list", "principal": "*", "effect": "allow", "condition_expression": "not has_model_perms:core.add_upload"}`, 403},
			{`{"action": "list", "principal": "*", "effect": "allow", "condition_expression": "not ("}`, 403},
		} {
			if got := list(tc.statements); got != tc.want {
				t.Errorf("with [%s]: %d, want %d", tc.statements, got, tc.want)
			}
		}
		if c := w.get(policy)["customized"]; c != true {
			t.Errorf("customized: %v", c)
		}

		// hooks for users and groups
		w.decode(w.do("POST", policy+"reset/", ""), 200)
		w.create(w.get("groups/?name=people")["results"].([]any)[0].(map[string]any)["pulp_href"].(string)+"users/", `{"username": "plain"}`)
		for _, hook := range []string{
			`{"function": "add_roles_for_users", "parameters": {"roles": "core.upload_viewer", "users": "plain"}}`,
			`{"function": "add_roles_for_groups", "parameters": {"roles": ["core.upload_viewer", "nope"], "groups": ["people", "nope"]}}`,
		} {
			w.decode(w.do("PATCH", policy, `{"creation_hooks": [`+hook+`]}`), 200)
			made := w.create("uploads/", `{"size": 1}`).href()
			w.wants(hook, "GET", made, "", 200)
			w.wants(hook, "DELETE", made, "", 403)
		}

		// scoping
		seen := func(path string) any {
			w.Helper()
			return w.decode(w.send(request{method: "GET", path: root + path, user: "plain"}), 200)["count"]
		}
		people := w.get("groups/?name=people")["results"].([]any)[0].(map[string]any)["pulp_href"].(string)
		w.decode(w.do("POST", people+"add_role/", `{"role": "core.group_viewer", "users": ["plain"]}`), 201)
		groups := w.policy("groups")
		w.decode(w.do("PATCH", groups, `{"queryset_scoping": {"function": "nope"}}`), 200)
		if n := seen("groups/"); n != 0.0 {
			t.Errorf("with a scoping that is not there %v groups are seen", n)
		}
		w.decode(w.do("POST", groups+"reset/", ""), 200)
		if n := seen("groups/"); n != 1.0 {
			t.Errorf("%v groups are seen, want the one on which there is a role", n)
		}
		if n, all := seen("uploads/"), w.get("uploads/")["count"]; n != all { // as Pulp does: these have no scoping
			t.Errorf("%v uploads are seen, want all %v", n, all)
		}
		w.decode(w.do("POST", policy+"reset/", ""), 200)
		if c := w.get(policy)["customized"]; c != false {
			t.Errorf("customized after a reset: %v", c)
		}
	})
}
