package replica

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

// A wanted is a distribution of the other server that is to be here.
type wanted struct {
	by     *Replicator
	there  Object
	source *Source // nil: nothing to copy
}

// A known is an object here, of one of the replicated types.
type known struct {
	id       pulp.ID
	name     string
	basePath string // of a distribution
	ours     bool   // has the server's label
}

// A run is one replication.
type run struct {
	*Service
	job    *task.Job
	server *Server
	up     *Upstream
	shared string // the server, as all tasks lock it
	dists  string // the lock of the domain's distributions
}

// replicate is the coordinator. It reads all that it must know of the other server before it changes anything.
func (s *Service) replicate(ctx context.Context, j *task.Job) (any, error) {
	var in replicateArgs
	if err := j.Args(&in); err != nil {
		return nil, err
	}
	server, err := s.servers.Get(ctx, s.DB, in.Server)
	if err != nil {
		return nil, err
	}
	started := s.Now.Now()
	r := &run{Service: s, job: j, server: server, shared: s.servers.Ref(server).PRN(), dists: "pdrn:" + j.Task.Domain.String() + ":distributions"}
	if r.up, err = s.connect(ctx, server); err != nil {
		return nil, err
	}
	defer r.up.client.Close()
	q := value(server.QSelect)
	if in.QSelect != nil {
		q = *in.QSelect
	}
	var list []wanted
	var types []*Replicator
	for i := range s.replicators {
		by := &s.replicators[i]
		if !r.up.apps[by.App] { // what it cannot have is not missed
			s.Log.InfoContext(ctx, "the upstream has no such component", slog.String("component", by.App))
			continue
		}
		types = append(types, by)
		there, err := r.sources(ctx, by, q)
		if err != nil {
			return nil, err
		}
		list = append(list, there...)
	}
	for _, by := range types {
		if err := r.align(ctx, by, slices.DeleteFunc(slices.Clone(list), func(w wanted) bool { return w.by != by })); err != nil {
			return nil, err
		}
	}
	_, err = j.Dispatch(ctx, task.Spec{
		Name: taskFinalize, Args: finalizeArgs{Server: server.ID, Started: started, Partial: in.QSelect != nil}, Exclusive: []string{r.shared},
	})
	if err != nil {
		return nil, err
	}
	return nil, s.Tasks.GroupDispatched(ctx, j.Task.Group)
}

// sources reads the other server's distributions of one type, and what they come from.
func (r *run) sources(ctx context.Context, by *Replicator, q string) ([]wanted, error) {
	const atOnce = 8
	there, err := r.up.list(ctx, by.Distribution.Path, q)
	if err != nil {
		return nil, err
	}
	list := make([]wanted, len(there))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, o := range there {
		g.Go(func() error {
			source, err := by.Source(gctx, r.up, o)
			list[i] = wanted{by, o, source}
			return err
		})
	}
	return list, g.Wait()
}

// align dispatches what makes the objects of one type here those that are wanted.
func (r *run) align(ctx context.Context, by *Replicator, list []wanted) error {
	dists, err := r.known(ctx, by.Distribution, "core_distribution", "base_path", "1 = 1")
	if err != nil {
		return err
	}
	// what belongs to alternate content sources is nobody's mirror
	remotes, err := r.known(ctx, by.Remote, "core_remote", "''", "NOT EXISTS (SELECT 1 FROM core_acs a WHERE a.remote = t.id)")
	if err != nil {
		return err
	}
	repos, err := r.known(ctx, by.Repository, "core_repository", "''", "NOT user_hidden")
	if err != nil {
		return err
	}
	byName := func(list []known) map[string]*known {
		m := make(map[string]*known, len(list))
		for i := range list {
			m[list[i].name] = &list[i]
		}
		return m
	}
	here, remoteOf, repoOf := byName(dists), byName(remotes), byName(repos)
	at := make(map[string]*known, len(dists))
	for i := range dists {
		at[dists[i].basePath] = &dists[i]
	}
	wants := make(map[string]bool, len(list))
	for _, w := range list {
		wants[w.there.Text("name")] = true
	}
	kept := map[pulp.ID]bool{}
	match := make([]*known, len(list))
	for i, w := range list {
		match[i] = here[w.there.Text("name")]
		// one that has been renamed there
		if old := at[w.there.Text("base_path")]; match[i] == nil && old != nil && !wants[old.name] && w.source != nil && (old.ours || r.server.Policy != policyLabeled) {
			match[i] = old
		}
		if match[i] != nil {
			kept[match[i].id] = true
		}
	}
	gone := r.gone(by.Distribution, dists, func(k known) bool { return kept[k.id] })
	if err := r.remove(ctx, gone, []string{r.dists}); err != nil {
		return err
	}
	for i, w := range list {
		if w.source == nil {
			continue
		}
		name := w.there.Text("name")
		if r.server.Policy == policyLabeled && slices.ContainsFunc([]*known{match[i], remoteOf[name], repoOf[name]}, func(k *known) bool { return k != nil && !k.ours }) {
			r.Log.WarnContext(ctx, "not replicated: there is another object of that name, without the label", slog.String("distribution", name))
			continue
		}
		if err := r.copy(ctx, w, match[i], remoteOf[name], repoOf[name]); err != nil {
			return fmt.Errorf("replicate %s: %w", name, err)
		}
	}
	named := func(k known) bool { return wants[k.name] }
	gone = append(r.gone(by.Repository, repos, named), r.gone(by.Remote, remotes, named)...)
	return r.remove(ctx, gone, nil)
}

// known lists the objects of a type in the domain.
func (r *run) known(ctx context.Context, t *rest.Type, table, path, where string) ([]known, error) {
	return db.All(ctx, r.DB, func(rows *sql.Rows) (k known, err error) {
		var server sql.NullString
		err = rows.Scan(&k.id, &k.name, &k.basePath, &server)
		k.ours = server.String == r.server.ID.String()
		return k, err
	}, "SELECT t.id, t.name, "+path+", l.value FROM "+table+" t LEFT JOIN core_label l ON l.object = t.id AND l.key = ? WHERE t.domain = ? AND t.pulp_type = ? AND "+where+" ORDER BY t.created, t.id",
		label, r.job.Task.Domain, t.PulpType)
}

// gone lists the objects that the policy wants deleted.
func (r *run) gone(t *rest.Type, list []known, keep func(known) bool) []pulp.Ref {
	var refs []pulp.Ref
	for _, k := range list {
		if !keep(k) && (r.server.Policy == policyAll || r.server.Policy == policyLabeled && k.ours) {
			refs = append(refs, pulp.RefTo(t.Label, k.id))
		}
	}
	return refs
}

// remove dispatches the deletion of objects. locks stand for the objects' own where they are given.
func (r *run) remove(ctx context.Context, refs []pulp.Ref, locks []string) error {
	const most = 200 // in one task
	for part := range slices.Chunk(refs, most) {
		spec := r.API.DeleteSpec(part)
		spec.Exclusive, spec.Shared = locks, []string{r.shared}
		if locks == nil {
			for _, ref := range part {
				spec.Exclusive = append(spec.Exclusive, ref.PRN())
			}
		}
		if _, err := r.job.Dispatch(ctx, spec); err != nil {
			return err
		}
	}
	return nil
}

// copy makes the remote and the repository of a distribution, or dispatches what changes them, and then the sync and what makes or changes
// the distribution.
func (r *run) copy(ctx context.Context, w wanted, dist, remote, repo *known) error {
	by, name := w.by, w.there.Text("name")
	labels := map[string]any{label: r.server.ID.String()}
	remoteValues := map[string]any{
		"ca_cert": orNil(r.server.CACert), "client_cert": orNil(r.server.ClientCert), "client_key": orNil(r.server.ClientKey), "tls_validation": r.server.TLSValidation,
		"pulp_labels": labels,
	}
	maps.Copy(remoteValues, w.source.Remote)
	repoValues := map[string]any{"pulp_labels": labels}
	maps.Copy(repoValues, w.source.Repository)
	remoteRef, remoteNews, err := r.ready(ctx, by.Remote, name, remote, remoteValues, false)
	if err != nil {
		return err
	}
	repoRef, repoNews, err := r.ready(ctx, by.Repository, name, repo, repoValues, true)
	if err != nil {
		return err
	}
	// what has changed here since then may call for another sync
	if remoteNews || repoNews || dist == nil || r.server.Updated >= r.server.LastReplication || !r.up.unchanged(w.there, r.server.LastReplication) {
		spec := by.Sync(repoRef.ID(), remoteRef.ID())
		spec.Exclusive, spec.Shared = []string{repoRef.PRN()}, []string{remoteRef.PRN(), r.shared}
		if _, err := r.job.Dispatch(ctx, spec); err != nil {
			return err
		}
	}
	values := map[string]any{"name": name, "base_path": w.there.Text("base_path"), "pulp_labels": labels, "repository": repoRef.PRN()}
	for _, f := range by.Distribution.Fields {
		if other := f.Name == "publication" || f.Name == "repository_version"; other && f.Kind == rest.Link {
			values[f.Name] = nil
		}
	}
	maps.Copy(values, w.source.Distribution)
	spec := by.Distribution.CreateSpec(values)
	if dist != nil {
		if alters, err := r.alters(ctx, by.Distribution, dist.id, values); err != nil || !alters {
			return err
		}
		spec = by.Distribution.UpdateSpec(dist.id, values)
	}
	spec.Exclusive, spec.Shared = []string{r.dists}, []string{repoRef.PRN(), r.shared}
	_, err = r.job.Dispatch(ctx, spec)
	return err
}

// ready makes an object, or dispatches the task that changes it where it differs. news tells that there was something to do.
func (r *run) ready(ctx context.Context, t *rest.Type, name string, have *known, values map[string]any, lock bool) (ref pulp.Ref, news bool, err error) {
	if have == nil {
		values = maps.Clone(values)
		values["name"] = name
		return ref, true, r.DB.Update(ctx, func(tx *db.Tx) (err error) {
			if err := r.job.Fence(ctx, tx); err != nil {
				return err
			}
			if ref, err = t.Make(ctx, tx, values); err != nil || !lock {
				return err
			}
			return r.job.AddLock(ctx, tx, ref.PRN())
		})
	}
	ref = pulp.RefTo(t.Label, have.id)
	if alters, err := r.alters(ctx, t, have.id, values); err != nil || !alters {
		return ref, false, err
	}
	spec := t.UpdateSpec(have.id, values)
	spec.Exclusive, spec.Shared = []string{ref.PRN()}, []string{r.shared}
	_, err = r.job.Dispatch(ctx, spec)
	return ref, true, err
}

// alters says whether an object is to be changed. Where a rule speaks against it, the task that does so will say it, if that
// still holds when its turn comes.
func (r *run) alters(ctx context.Context, t *rest.Type, id pulp.ID, values map[string]any) (bool, error) {
	alters, err := t.Alters(ctx, r.DB, id, values)
	if errs.Is(err, errs.Invalid) {
		return true, nil
	}
	return alters, err
}

func orNil(s *string) any {
	if s == nil {
		return nil
	}
	return *s
}
