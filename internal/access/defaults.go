package access

import (
	"bytes"
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
)

// Rules are the access policies and the locked roles of a component, in the language in which the API shows them.
type Rules struct {
	Policies map[string]PolicyRule `json:"policies"` // by viewset
	Roles    map[string]RoleRule   `json:"roles"`    // by name
	// Permissions are those that no type implies and no role has, or whose names do not tell which model they are about: by name,
	// the model's label.
	Permissions map[string]string `json:"permissions"`

	Conditions map[string]Condition `json:"-"` // functions that only these policies name
	Scopes     map[string]Scope     `json:"-"`
}

// A PolicyRule is a policy as it is shipped.
type PolicyRule struct {
	Statements json.RawMessage `json:"statements"`
	Hooks      json.RawMessage `json:"creation_hooks"`
	Scoping    json.RawMessage `json:"queryset_scoping"`
}

// A RoleRule is a locked role.
type RoleRule struct {
	Description *string  `json:"description"`
	Permissions []string `json:"permissions"`
}

//go:embed access.json
var coreRules []byte

// CoreRules are the rules of the core.
func CoreRules() Rules { return MustRules(coreRules) }

// MustRules reads rules that are part of the program. It panics where they are malformed.
func MustRules(text []byte) Rules {
	var r Rules
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		panic(fmt.Sprintf("access rules: %v", err))
	}
	for name, p := range r.Policies {
		if _, err := parsePolicy(p.Statements, p.Hooks, p.Scoping); err != nil {
			panic(fmt.Sprintf("access rules of %s: %v", name, err))
		}
	}
	return r
}

// compact is how a policy's parts are stored.
func (p PolicyRule) compact() [3]string {
	var parts [3]string
	for i, text := range []json.RawMessage{p.Statements, p.Hooks, p.Scoping} {
		var b bytes.Buffer
		if len(text) == 0 || json.Compact(&b, text) != nil {
			b.Reset()
			b.WriteString("null")
		}
		parts[i] = b.String()
	}
	return parts
}

// defaultPolicy returns a viewset's policy as it is shipped or as the settings want it; false where there is none.
func (a *Access) defaultPolicy(viewset string) (PolicyRule, bool, error) {
	var p PolicyRule
	ok := false
	for _, r := range a.Rules {
		if own, has := r.Policies[viewset]; has {
			p, ok = own, true
		}
	}
	over, has := a.Policies[viewset]
	if !ok || !has {
		return p, ok, nil
	}
	text, err := json.Marshal(over)
	if err == nil {
		err = json.Unmarshal(text, &p) // over what is shipped
	}
	if err == nil {
		_, err = parsePolicy(p.Statements, p.Hooks, p.Scoping)
	}
	if err != nil {
		return p, true, fmt.Errorf("ACCESS_POLICIES: %s: %w", viewset, err)
	}
	return p, true, nil
}

// Prepare brings the stored policies and locked roles up to date with the program and the settings: at every start, since both may have
// changed. Policies that an administrator has changed stay as they are.
func (a *Access) Prepare(ctx context.Context) (err error) {
	defer errs.Wrap(&err, "prepare access policies and roles")
	return a.DB.Update(ctx, func(tx *db.Tx) error {
		if err := tx.Lock(ctx, "access rules"); err != nil {
			return err
		}
		if err := a.preparePolicies(ctx, tx); err != nil {
			return err
		}
		if err := a.prepareRoles(ctx, tx); err != nil {
			return err
		}
		a.changed(tx)
		return nil
	})
}

func (a *Access) preparePolicies(ctx context.Context, tx *db.Tx) error {
	type stored struct {
		parts      [3]string
		customized bool
	}
	have := map[string]stored{}
	err := db.Each(ctx, tx, func(rows *sql.Rows) error {
		var name string
		var s stored
		err := rows.Scan(&name, &s.parts[0], &s.parts[1], &s.parts[2], &s.customized)
		have[name] = s
		return err
	}, "SELECT viewset_name, statements, coalesce(creation_hooks, 'null'), coalesce(queryset_scoping, 'null'), customized FROM core_accesspolicy")
	if err != nil {
		return err
	}
	now := a.Now.Now()
	for _, r := range a.Rules {
		for _, name := range slices.Sorted(maps.Keys(r.Policies)) {
			p, _, err := a.defaultPolicy(name)
			if err != nil {
				return err
			}
			want, there := p.compact(), have[name]
			if there.customized || there.parts == want {
				continue
			}
			_, err = tx.Exec(ctx, "INSERT INTO core_accesspolicy (id, created, updated, viewset_name, statements, creation_hooks, queryset_scoping)"+
				" VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (viewset_name) DO UPDATE SET updated = excluded.updated, statements = excluded.statements,"+
				" creation_hooks = excluded.creation_hooks, queryset_scoping = excluded.queryset_scoping WHERE NOT core_accesspolicy.customized",
				pulp.NewID(), now, now, name, want[0], want[1], want[2])
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Access) prepareRoles(ctx context.Context, tx *db.Tx) error {
	type stored struct {
		id          pulp.ID
		description *string
		locked      bool
		permissions []string
	}
	have := map[string]*stored{}
	byID := map[pulp.ID]*stored{}
	err := db.Each(ctx, tx, func(rows *sql.Rows) error {
		var name string
		s := &stored{}
		err := rows.Scan(&s.id, &name, &s.description, &s.locked)
		have[name], byID[s.id] = s, s
		return err
	}, "SELECT id, name, description, locked FROM core_role")
	if err != nil {
		return err
	}
	err = db.Each(ctx, tx, func(rows *sql.Rows) error {
		var id pulp.ID
		var permission string
		err := rows.Scan(&id, &permission)
		if s := byID[id]; s != nil {
			s.permissions = append(s.permissions, permission)
		}
		return err
	}, "SELECT role, permission FROM core_rolepermission ORDER BY permission")
	if err != nil {
		return err
	}
	now := a.Now.Now()
	var fresh, permissions [][]any
	for _, r := range a.Rules {
		for _, name := range slices.Sorted(maps.Keys(r.Roles)) {
			want, s := r.Roles[name], have[name]
			sorted := slices.Sorted(slices.Values(want.Permissions))
			switch {
			case s == nil:
				s = &stored{id: pulp.NewID()}
				fresh = append(fresh, []any{s.id, now, now, name, want.Description, true})
			case s.locked && slices.Equal(s.permissions, sorted) && sameText(s.description, want.Description):
				continue
			default:
				if _, err := tx.Exec(ctx, "UPDATE core_role SET updated = ?, description = ?, locked = ? WHERE id = ?", now, want.Description, true, s.id); err != nil {
					return err
				}
				if _, err := tx.Exec(ctx, "DELETE FROM core_rolepermission WHERE role = ?", s.id); err != nil {
					return err
				}
			}
			for _, p := range sorted {
				permissions = append(permissions, []any{s.id, p})
			}
		}
	}
	if _, err := tx.Insert(ctx, "core_role", []string{"id", "created", "updated", "name", "description", "locked"}, fresh, "ON CONFLICT (name) DO NOTHING"); err != nil {
		return err
	}
	_, err = tx.Insert(ctx, "core_rolepermission", []string{"role", "permission"}, permissions, "ON CONFLICT DO NOTHING")
	return err
}

func sameText(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
