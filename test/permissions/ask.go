package permissions

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"granary/test/sidebyside"
)

// An Asker puts plans to a server.
type Asker struct {
	URL     string                    // scheme and host, without a final slash
	User    string                    // "name password" of an administrator
	Domains bool                      // the server has domains on
	Apps    []string                  // whose built-in roles there are
	Asked   func(method, path string) // is told of every row that is sent; may be nil

	runner *sidebyside.Runner
	users  chan user
	roles  map[string][]string // the permissions of the built-in roles
}

// A user is lent to one column after the other, since a password takes a server long to make and to check.
type user struct{ login, href string }

// parallel is how many columns are asked at the same time.
const parallel = 4

// apiRoot is the API's path on a server without domains, and domainRoot with them: of what is in no domain or in the default one.
const (
	apiRoot    = "/pulp/api/v3"
	domainRoot = "/pulp/default/api/v3"
)

// Begin makes the users, and learns the roles. End must follow.
func (a *Asker) Begin(ctx context.Context) error {
	a.runner = &sidebyside.Runner{URL: a.URL, User: a.User, Client: sidebyside.NewClient(), Timeout: time.Minute}
	a.users = make(chan user, parallel)
	a.roles = map[string][]string{}
	for range parallel {
		name := "perm-" + strings.ToLower(rand.Text()[:9])
		var made struct {
			Href string `json:"pulp_href"`
		}
		password := "Qx81-" + rand.Text()[:12]
		if err := a.call(ctx, http.MethodPost, a.root()+"/users/", map[string]any{"username": name, "password": password}, &made); err != nil {
			return err
		}
		a.users <- user{name + " " + password, made.Href}
	}
	for _, app := range a.Apps {
		var list struct {
			Results []struct {
				Name        string   `json:"name"`
				Permissions []string `json:"permissions"`
			} `json:"results"`
		}
		if err := a.call(ctx, http.MethodGet, a.root()+"/roles/?locked=true&limit=1000&name__startswith="+app+".", nil, &list); err != nil {
			return err
		}
		for _, r := range list.Results {
			a.roles[r.Name] = r.Permissions
		}
	}
	return nil
}

// End removes the users.
func (a *Asker) End(ctx context.Context) error {
	var failed error
	for range parallel {
		failed = errors.Join(failed, a.call(ctx, http.MethodDelete, (<-a.users).href, nil, nil))
	}
	return failed
}

// Roles are the names of the built-in roles.
func (a *Asker) Roles() []string { return slices.Sorted(maps.Keys(a.roles)) }

func (a *Asker) root() string {
	if a.Domains {
		return domainRoot
	}
	return apiRoot
}

// call sends a request as administrator.
func (a *Asker) call(ctx context.Context, method, target string, body, into any) error {
	var in string
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = string(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.URL+target, strings.NewReader(in))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	name, password, _ := strings.Cut(a.User, " ")
	req.SetBasicAuth(name, password)
	resp, err := a.runner.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s", method, target, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// Knows says whether the server knows the URL of a section's first request.
func (a *Asker) Knows(ctx context.Context, s *Section) (bool, error) {
	x, err := a.runner.Begin(s.Scenario)
	if err != nil {
		return false, err
	}
	x.Set("API", a.root())
	answer, err := x.Do(ctx, &sidebyside.Step{Method: http.MethodGet, Target: s.Scenario.Steps[0].Target})
	if err != nil {
		return false, errors.Join(err, x.End(ctx))
	}
	return cell(answer) != NoRoute, x.End(ctx)
}

// Ask puts a section to the server. Where a column can't be prepared, its cells are [Unsent], and the error says why.
func (a *Asker) Ask(ctx context.Context, s *Section) (*Table, error) {
	t := &Table{Name: s.Name}
	for _, row := range s.Rows() {
		t.Rows = append(t.Rows, Row{row, slices.Repeat([]string{Unsent}, len(s.Columns))})
	}
	failed := make([]error, len(s.Columns))
	var all errgroup.Group
	for i, c := range s.Columns {
		t.Columns = append(t.Columns, c.Name)
		all.Go(func() error {
			u := <-a.users
			defer func() { a.users <- u }()
			if err := a.ask(ctx, s, i, u, t); err != nil {
				failed[i] = fmt.Errorf("%s: %s: %w", s.Name, c.Name, err)
			}
			return nil
		})
	}
	_ = all.Wait()
	return t, errors.Join(failed...)
}

// ask fills a column. The grants are made before the first row.
func (a *Asker) ask(ctx context.Context, s *Section, column int, u user, t *Table) (failed error) {
	x, err := a.runner.Begin(s.Scenario)
	if err != nil {
		return err
	}
	defer func() { failed = errors.Join(failed, x.End(context.WithoutCancel(ctx))) }()
	x.Set("API", a.root())
	x.Set("user", u.href)
	name, _, _ := strings.Cut(u.login, " ")
	x.Set("username", name)
	row := 0
	granted := false
	for _, step := range s.Scenario.Steps {
		if step.Title == "" {
			answer, err := x.Do(ctx, step)
			if err == nil && answer.Status >= "400" {
				err = fmt.Errorf("%s %s: %s %s", step.Method, step.Target, answer.Status, sidebyside.EncodeJSON(answer.Body))
			}
			if err != nil {
				return err
			}
			continue
		}
		if !granted {
			if err := a.grant(ctx, x, s, column); err != nil {
				return err
			}
			granted = true
		}
		own := *step
		switch s.Columns[column].User {
		case "admin":
		case "anonymous":
			own.User = "none"
		default:
			own.User = u.login
		}
		if a.Asked != nil {
			target, err := x.Expand(step.Target)
			if err != nil {
				return err
			}
			path, _, _ := strings.Cut(target, "?")
			a.Asked(step.Method, path)
		}
		answer, err := x.Do(ctx, &own)
		if answer != nil {
			t.Rows[row].Cells[column] = cell(answer)
		}
		if err != nil {
			return err
		}
		row++
	}
	return nil
}

// cell is what is kept of an answer.
func cell(a *sidebyside.Answer) string {
	status, _, _ := strings.Cut(a.Status, " ")
	if text, ok := a.Body.(string); ok && a.Text && status == "404" && strings.Contains(text, "<h1>Not Found</h1>") {
		return NoRoute
	}
	body, ok := a.Body.(*sidebyside.Object)
	if !ok || status != "200" {
		return status
	}
	if n, ok := body.Get("count"); ok {
		return fmt.Sprintf("%s:%v", status, n)
	}
	if list, ok := body.Get("permissions"); ok && len(body.Members) == 1 {
		if list, ok := list.([]sidebyside.Value); ok {
			return fmt.Sprintf("%s:%d", status, len(list))
		}
	}
	return status
}

// grant gives a column's user its roles.
func (a *Asker) grant(ctx context.Context, x *sidebyside.Session, s *Section, column int) error {
	for i, g := range s.Columns[column].Grants {
		role := g.Role
		if role == "" {
			role = fmt.Sprintf("$u.%d", i)
			permissions := []string{g.Permission}
			if g.Others {
				permissions = a.others(s)
			}
			if err := do(ctx, x, http.MethodPost, "$API/roles/", map[string]any{"name": role, "permissions": permissions}); err != nil {
				return err
			}
		}
		holder := "${user}"
		if g.Group {
			if err := do(ctx, x, http.MethodPost, "$API/groups/", map[string]any{"name": fmt.Sprintf("$u-%d", i)}, sidebyside.Action{Name: "through", Path: "body.pulp_href"}); err != nil {
				return err
			}
			if err := do(ctx, x, http.MethodPost, "${through}users/", map[string]any{"username": "$username"}); err != nil {
				return err
			}
			holder = "${through}"
		}
		body := map[string]any{"role": role, "content_object": nil}
		if g.Object != "" {
			body["content_object"] = "$" + g.Object
		}
		if g.Domain != "" {
			body["domain"] = "$" + g.Domain
		}
		if err := do(ctx, x, http.MethodPost, holder+"roles/", body); err != nil {
			return err
		}
	}
	return nil
}

// others are the permissions of built-in roles that no column's role or permission is about.
func (a *Asker) others(s *Section) []string {
	all, named := map[string]bool{}, map[string]bool{}
	for _, c := range s.Columns {
		for _, g := range c.Grants {
			named[g.Permission] = true
			for _, p := range a.roles[g.Role] {
				named[p] = true
			}
		}
	}
	for _, permissions := range a.roles {
		for _, p := range permissions {
			if !named[p] {
				all[p] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// do sends a request as administrator that must succeed.
func do(ctx context.Context, x *sidebyside.Session, method, target string, body any, after ...sidebyside.Action) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	answer, err := x.Do(ctx, &sidebyside.Step{Method: method, Target: target, Type: "application/json", Body: string(text), After: after})
	if err == nil && answer.Status >= "400" {
		err = fmt.Errorf("%s %s %s: %s %s", method, target, text, answer.Status, sidebyside.EncodeJSON(answer.Body))
	}
	return err
}
