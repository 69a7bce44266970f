package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"granary/internal/access"
	"granary/internal/db"
	"granary/internal/diagnose"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

// A Task is one of the queue's, as clients see it.
type Task struct {
	rest.Base
	State     string           `api:"state,ro"`
	Name      string           `api:"name,req,out"`
	CID       string           `api:"logging_cid,req,out"`
	CreatedBy pulp.Ref         `api:"created_by,ro,null" db:"-"`
	Unblocked pulp.Time        `api:"unblocked_at,ro"`
	Started   pulp.Time        `api:"started_at,ro"`
	Finished  pulp.Time        `api:"finished_at,ro"`
	Error     taskError        `api:"error,ro"`
	Worker    pulp.Ref         `api:"worker,ro,null" db:"-"` // none, ever: clients' models have it
	Parent    pulp.ID          `api:"parent_task,ro,ref=core.task"`
	Children  []pulp.Ref       `api:"child_tasks,ro" db:"-"`
	Group     pulp.ID          `api:"task_group,ro,ref=core.taskgroup"`
	Progress  []ProgressReport `api:"progress_reports,ro" db:"-"`
	Resources []pulp.Ref       `api:"created_resources,ro" db:"-"`
	Reserved  []string         `api:"reserved_resources_record,ro"`
	Result    json.RawMessage  `api:"result,ro"`
	User      *int64           `api:"-" db:"user_id"`
}

// A taskError is the JSON that tells why a task failed.
type taskError struct{ json.RawMessage }

// AppendAPI writes it as it is stored.
func (e taskError) AppendAPI(b []byte, _ *rest.View) []byte {
	if len(e.RawMessage) == 0 {
		return append(b, "null"...)
	}
	return append(b, e.RawMessage...)
}

// A ProgressReport tells how far one part of a task has come.
type ProgressReport struct {
	Message string  `api:"message,ro"`
	Code    string  `api:"code,ro"`
	State   string  `api:"state,ro"`
	Total   *int64  `api:"total,ro"`
	Done    int64   `api:"done,ro"`
	Suffix  *string `api:"suffix,ro,null"`
}

// A taskCancel is the body of a request that cancels.
type taskCancel struct {
	State string `api:"state,req"`
}

// A purge is the body of a request that deletes old tasks.
type purge struct {
	Before pulp.Time `api:"finished_before,ago=720h"`
	States []string  `api:"states,def=completed,choices=skipped|completed|failed|canceled,enum=StatesEnum"`
}

func (a *API) defineTasks() rest.Typed[Task] {
	states := []string{"canceled", "canceling", "completed", "failed", "running", "skipped", "waiting"}
	filters := []rest.Filter{
		{Name: "worker", Param: rest.Param{Type: "string"}, Where: func(context.Context, *rest.Filtering, string) (rest.Cond, error) { return rest.Cond{SQL: "1 = 0"}, nil }},
		rest.LinkTo("parent_task", "m.parent_task", "core.task", false),
		rest.LinkWhere("child_tasks", "core.task", "m.id IN (SELECT c.parent_task FROM core_task c WHERE c.id = ?)"),
		rest.LinkTo("task_group", "m.task_group", "core.taskgroup", false),
		{Name: "created_resources", Param: rest.Param{Type: "string", Format: "uuid"}, Where: whereCreated},
	}
	filters = append(filters, rest.Choice("state", "m.state", states, "ne")...)
	filters = append(filters, rest.Text("state", "m.state", "in")[1]) // as Pulp does: any text will do
	filters = append(filters, rest.Text("name", "m.name", "contains", "in", "ne")...)
	filters = append(filters, rest.Text("logging_cid", "m.logging_cid", "contains")...)
	for _, f := range [][2]string{{"pulp_created", "created"}, {"unblocked_at", "unblocked_at"}, {"started_at", "started_at"}, {"finished_at", "finished_at"}} {
		filters = append(filters, rest.Times(f[0], "m."+f[1])...)
	}
	for _, f := range [][2]string{{"reserved_resources", ""}, {"exclusive_resources", " AND r.exclusive = TRUE"}, {"shared_resources", " AND r.exclusive = FALSE"}} {
		filters = append(filters, whereReserved(f[0], f[1], false), whereReserved(f[0]+"__in", f[1], true))
	}
	return rest.Define(rest.Resource[Task]{
		App: "core", Model: "Task", Path: "tasks", Table: "core_task", Roles: true,
		Filters: filters,
		Ordering: []string{
			"deferred", "enc_args", "enc_kwargs", "error", "finished_at", "immediate", "logging_cid", "name", "pk", "profile_options", "pulp_created", "pulp_id", "pulp_last_updated",
			"reserved_resources_record", "result", "started_at", "state", "unblocked_at", "versions",
		},
		OrderBy: map[string]string{"deferred": "m.deferred", "enc_args": "m.args", "immediate": "m.immediate", "versions": "m.versions"},
		Minimal: []string{"pulp_href", "prn", "pulp_created", "pulp_last_updated", "name", "state", "unblocked_at", "started_at", "finished_at", "worker"},
		Expand:  a.expandTasks,
		Actions: []rest.Action{
			{
				Name: "cancel", Method: http.MethodPatch, Request: taskCancel{}, RequestSchema: "TaskCancel", ResponseName: "TaskResponse",
				Status: http.StatusOK, Conflict: true, Handle: a.cancelTask,
			},
			{Name: "delete", Method: http.MethodDelete, Status: http.StatusNoContent, Handle: a.deleteTask},
			{Name: "purge", Collection: true, Request: purge{}, RequestSchema: "Purge", Task: true, Lax: true, Handle: a.purgeTasks},
			{Name: "profile_artifacts", Method: http.MethodGet, Response: profileArtifacts{}, ResponseName: "ProfileArtifactResponse", Handle: a.profileArtifacts},
		},
	})
}

// expandTasks reads what belongs to tasks, with a few queries for all of them.
func (a *API) expandTasks(ctx context.Context, q db.Querier, list []*Task) error {
	ids := make([]pulp.ID, len(list))
	for i, t := range list {
		ids[i] = t.ID
	}
	full, err := task.Tasks(ctx, q, ids)
	if err != nil {
		return err
	}
	byID := make(map[pulp.ID]*task.Task, len(full))
	for _, t := range full {
		byID[t.ID] = t
	}
	var made []pulp.Ref
	for _, t := range list {
		if t.User != nil {
			t.CreatedBy = access.UserRef(*t.User)
		}
		f := byID[t.ID]
		if f == nil { // deleted meanwhile
			continue
		}
		for _, c := range f.Children {
			t.Children = append(t.Children, pulp.RefTo("core.task", c))
		}
		for _, r := range f.Progress {
			t.Progress = append(t.Progress, ProgressReport{r.Message, r.Code, string(r.State), r.Total, r.Done, r.Suffix})
		}
		t.Resources = f.Resources
		made = append(made, f.Resources...)
	}
	there, err := a.Engine.Existing(ctx, q, made)
	for _, t := range list {
		for i, r := range t.Resources {
			if !there[r] { // it is shown as unavailable
				t.Resources[i] = pulp.Ref{}
			}
		}
	}
	return err
}

// whereCreated finds the tasks that made an object.
func whereCreated(ctx context.Context, f *rest.Filtering, v string) (rest.Cond, error) {
	found, exists, problem, err := f.Engine.Resolve(ctx, f.Q, v)
	switch {
	case err != nil:
		return rest.Cond{}, err
	case problem != "":
		return rest.Cond{}, errs.List(problem)
	case !exists:
		kind := "object"
		if found.Type != nil {
			kind = strings.ToLower(found.Type.Model)
		}
		return rest.Cond{}, errs.List("URI " + v + " not found for " + kind + ".")
	}
	return rest.Cond{
		SQL:  "EXISTS (SELECT 1 FROM core_createdresource c WHERE c.task = m.id AND c.key = ? AND c.type = ?)",
		Args: []any{found.Ref.Key, found.Ref.Type},
	}, nil
}

// oldResources are URLs that once named locks.
var oldResources = map[string]string{
	"/api/v3/distributions/": "distributions", "/api/v3/orphans/cleanup/": "orphans", "/api/v3/repair/": "repair",
	"/api/v3/repositories/reclaim_space/": "reclaim_space", "/api/v3/servers/": "servers",
}

// whereReserved finds the tasks that hold a resource, or each of several.
func whereReserved(name, mode string, several bool) rest.Filter {
	return rest.Filter{Name: name, Param: rest.Param{Type: "string", Array: several}, Where: func(ctx context.Context, f *rest.Filtering, v string) (rest.Cond, error) {
		values := []string{v}
		if several {
			values = strings.Split(v, ",")
		}
		var list []rest.Cond
		for _, v := range values {
			switch old, known := oldResources[v]; {
			case known:
				v = "pdrn:" + pulp.CallOf(ctx).Domain.ID.String() + ":" + old
			case strings.Contains(v, "/"):
				found, _, _, err := f.Engine.Resolve(ctx, f.Q, v)
				if err != nil {
					return rest.Cond{}, err
				}
				if !found.Ref.IsZero() {
					v = found.Ref.PRN()
				}
			}
			list = append(list, rest.Cond{SQL: "EXISTS (SELECT 1 FROM core_taskresource r WHERE r.task = m.id AND r.resource = ?" + mode + ")", Args: []any{v}})
		}
		return rest.And(list...), nil
	}}
}

// cancels reads the body of a request that cancels.
func cancels(r *rest.Request) error {
	var in taskCancel
	if err := r.DecodeLax(&in); err != nil {
		return err
	}
	if in.State != string(task.Canceled) {
		return errs.Field("state", "The only acceptable value for 'state' is 'canceled'.")
	}
	return nil
}

func (a *API) cancelTask(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	if err := cancels(r); err != nil {
		return nil, err
	}
	t, err := a.tasks.Object(ctx, r)
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if _, err := a.Tasks.Cancel(ctx, t.ID); errs.Is(err, errs.Conflict) {
		status = http.StatusConflict
	} else if err != nil {
		return nil, err
	}
	if t, err = a.tasks.Get(ctx, a.DB, t.ID); err != nil {
		return nil, err
	}
	t.User = nil // as Pulp does: created_by is told by GET alone
	body, err := a.tasks.JSON(ctx, a.DB, t)
	return &rest.Response{Status: status, Body: body}, err
}

func (a *API) deleteTask(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := a.tasks.Object(ctx, r)
	if err != nil {
		return nil, err
	}
	err = a.Tasks.Delete(ctx, t.ID)
	if errs.Is(err, errs.Conflict) {
		return &rest.Response{Status: http.StatusConflict}, nil // as Pulp does: without a body
	}
	return rest.NoContent(), err
}

func (a *API) purgeTasks(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var in purge
	if err := r.DecodeLax(&in); err != nil {
		return nil, err
	}
	states := make([]task.State, len(in.States))
	for i, s := range in.States {
		states[i] = task.State(s)
	}
	return a.Engine.Dispatch(ctx, task.PurgeSpec(in.Before, states))
}

// profileArtifacts are the profiles of a task.
type profileArtifacts struct {
	URLs map[string]string `api:"urls,req,format=uri"`
}

// profileArtifacts answers with links to what was measured of a task.
func (a *API) profileArtifacts(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := a.tasks.Object(ctx, r)
	if err != nil {
		return nil, err
	}
	list, err := diagnose.Artifacts(ctx, a.DB, t.ID)
	if err != nil {
		return nil, err
	}
	urls := make(map[string]string, len(list))
	for name, artifact := range list {
		if urls[name], err = a.ArtifactURL(ctx, artifact); err != nil {
			return nil, err
		}
	}
	return a.Engine.JSON(ctx, http.StatusOK, profileArtifacts{urls})
}
