package guard

import (
	"context"
	"database/sql"

	"granary/internal/access"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
)

// An RBAC guard lets those through who have the permission to download behind it.
type RBAC struct {
	repository.Guard
	Users  []User  `api:"users,ro,computed,schema=GroupUser"`
	Groups []Group `api:"groups,ro,computed,schema=Group"`
}

// A User is what a guard shows of a user who may download.
type User struct {
	Username string   `api:"username,req,maxlen=150"`
	Href     pulp.Ref `api:"pulp_href,ro"`
	PRN      string   `api:"prn,ro"`
}

// A Group is what a guard shows of a group whose members may download.
type Group struct {
	Name string   `api:"name,req,maxlen=150"`
	Href pulp.Ref `api:"pulp_href,ro"`
	PRN  string   `api:"prn,ro"`
	ID   int64    `api:"id,ro"`
}

const (
	downloader = "core.rbaccontentguard_downloader"
	download   = "core.download_rbaccontentguard"
)

func (s *Service) defineRBAC() rest.Typed[RBAC] {
	return Define(s.Repos, rest.Resource[RBAC]{
		App: "core", Model: "RBACContentGuard", Path: "contentguards/core/rbac", PulpType: "core.rbac", Roles: true, Expand: s.expandRBAC,
	}, func(g *RBAC) *repository.Guard { return &g.Guard })
}

// expandRBAC fills in who holds the role of a downloader on the guards.
func (s *Service) expandRBAC(ctx context.Context, q db.Querier, list []*RBAC) error {
	by := make(map[pulp.ID]*RBAC, len(list))
	ids := make([]pulp.ID, len(list))
	for i, g := range list {
		g.Users, g.Groups = nil, nil
		by[g.ID], ids[i] = g, g.ID
	}
	marks, args := db.In(ids)
	args = append(args, downloader)
	err := db.Each(ctx, q, func(rows *sql.Rows) error {
		var guard pulp.ID
		var id int64
		var name string
		if err := rows.Scan(&guard, &id, &name); err != nil {
			return err
		}
		ref := pulp.Ref{Type: "auth.user", Key: itoa(id)}
		by[guard].Users = append(by[guard].Users, User{name, ref, ref.PRN()})
		return nil
	}, "SELECT DISTINCT r.object, u.id, u.username FROM core_userrole r JOIN core_role o ON o.id = r.role JOIN auth_user u ON u.id = r.user_id"+
		" WHERE r.object IN "+marks+" AND o.name = ? ORDER BY u.id", args...)
	if err != nil {
		return err
	}
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var guard pulp.ID
		var id int64
		var name string
		if err := rows.Scan(&guard, &id, &name); err != nil {
			return err
		}
		ref := pulp.Ref{Type: "core.group", Key: itoa(id)}
		by[guard].Groups = append(by[guard].Groups, Group{name, ref, ref.PRN(), id})
		return nil
	}, "SELECT DISTINCT r.object, g.id, g.name FROM core_grouprole r JOIN core_role o ON o.id = r.role JOIN core_group g ON g.id = r.group_id"+
		" WHERE r.object IN "+marks+" AND o.name = ? ORDER BY g.id", args...)
}

func (s *Service) checkRBAC(ctx context.Context, guard pulp.ID, r *Request) error {
	user := r.User()
	if user == nil {
		return errs.E(errs.Unauthenticated, "Authentication credentials were not provided.")
	}
	may, err := s.Access.Holds(ctx, s.DB, user, download, pulp.RefTo(s.rbacs.Label, guard), access.Levels{Model: true, Domain: true, Object: true})
	if err == nil && !may {
		err = errs.E(errs.Denied, "You do not have permission to perform this action.")
	}
	return err
}
