package api

import (
	"context"
	"database/sql"
	"net/http"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
	"granary/internal/task"
)

// A TaskGroup is a number of tasks that belong together.
type TaskGroup struct {
	ID            pulp.ID               `api:"pulp_href,key" db:"id"`
	Domain        pulp.ID               `api:"-" db:"domain"`
	Description   string                `api:"description,req,out"`
	AllDispatched bool                  `api:"all_tasks_dispatched,req,out,deprecated"`
	Waiting       int64                 `api:"waiting,ro" db:"-"`
	Skipped       int64                 `api:"skipped,ro" db:"-"`
	Running       int64                 `api:"running,ro" db:"-"`
	Completed     int64                 `api:"completed,ro" db:"-"`
	Canceled      int64                 `api:"canceled,ro" db:"-"`
	Failed        int64                 `api:"failed,ro" db:"-"`
	Canceling     int64                 `api:"canceling,ro" db:"-"`
	Progress      []GroupProgressReport `api:"group_progress_reports,ro" db:"-"`
	Tasks         []MinimalTask         `api:"tasks,ro" db:"-"`
}

// A GroupProgressReport tells how far the tasks of a group have come together.
type GroupProgressReport struct {
	Message string  `api:"message,ro"`
	Code    string  `api:"code,ro"`
	Total   *int64  `api:"total,ro"`
	Done    int64   `api:"done,ro"`
	Suffix  *string `api:"suffix,ro,null"`
}

// A MinimalTask is what a group shows of each of its tasks.
type MinimalTask struct {
	Href      pulp.Ref  `api:"pulp_href,ro"`
	PRN       string    `api:"prn,ro"`
	Created   pulp.Time `api:"pulp_created,ro"`
	Updated   pulp.Time `api:"pulp_last_updated,ro"`
	Name      string    `api:"name,req,out"`
	State     string    `api:"state,ro"`
	Unblocked pulp.Time `api:"unblocked_at,ro"`
	Started   pulp.Time `api:"started_at,ro"`
	Finished  pulp.Time `api:"finished_at,ro"`
	Worker    pulp.Ref  `api:"worker,ro,null"`
}

func (a *API) defineTaskGroups() rest.Typed[TaskGroup] {
	return rest.Define(rest.Resource[TaskGroup]{
		App: "core", Model: "TaskGroup", Path: "task-groups", Table: "core_taskgroup", NoTypeFilters: true, Order: "m.created, m.id",
		Expand: expandGroups,
		Actions: []rest.Action{{
			Name: "cancel", Method: http.MethodPatch, Request: taskCancel{}, RequestSchema: "TaskCancel", ResponseName: "TaskGroupResponse",
			Status: http.StatusOK, Conflict: true, Handle: a.cancelGroup,
		}},
	})
}

// expandGroups reads the tasks and reports of groups, with a few queries for all of them.
func expandGroups(ctx context.Context, q db.Querier, list []*TaskGroup) error {
	byID := make(map[pulp.ID]*TaskGroup, len(list))
	ids := make([]pulp.ID, len(list))
	for i, g := range list {
		byID[g.ID], ids[i] = g, g.ID
	}
	groups, err := task.Groups(ctx, q, ids)
	if err != nil {
		return err
	}
	for _, full := range groups {
		g := byID[full.ID]
		for _, r := range full.Progress {
			g.Progress = append(g.Progress, GroupProgressReport{r.Message, r.Code, r.Total, r.Done, r.Suffix})
		}
		for state, to := range map[task.State]*int64{
			task.Waiting: &g.Waiting, task.Skipped: &g.Skipped, task.Running: &g.Running, task.Completed: &g.Completed,
			task.Canceled: &g.Canceled, task.Failed: &g.Failed, task.Canceling: &g.Canceling,
		} {
			*to = int64(full.Counts[state])
		}
	}
	marks, args := db.In(ids)
	return db.Each(ctx, q, func(rows *sql.Rows) error {
		var group, id pulp.ID
		var t MinimalTask
		if err := rows.Scan(&group, &id, &t.Created, &t.Updated, &t.Name, &t.State, &t.Unblocked, &t.Started, &t.Finished); err != nil {
			return err
		}
		t.Href = pulp.RefTo("core.task", id)
		t.PRN = t.Href.PRN()
		byID[group].Tasks = append(byID[group].Tasks, t)
		return nil
	}, "SELECT task_group, id, created, updated, name, state, unblocked_at, started_at, finished_at FROM core_task WHERE task_group IN "+marks+" ORDER BY seq", args...)
}

// mayCancelAll refuses those who may not cancel every task of a group. The group's access policy doesn't: it is open to all who see one of
// its tasks.
func (a *API) mayCancelAll(ctx context.Context, group pulp.ID) error {
	members, err := db.Column[pulp.ID](ctx, a.DB, "SELECT id FROM core_task WHERE task_group = ?", group)
	if err != nil {
		return err
	}
	may, err := a.Access.MayCancel(ctx, a.DB, members)
	if err == nil && len(may) < len(members) {
		err = errs.E(errs.Denied, "You do not have permission to perform this action.")
	}
	return err
}

func (a *API) cancelGroup(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	if err := cancels(r); err != nil {
		return nil, err
	}
	g, err := a.groups.Object(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := a.mayCancelAll(ctx, g.ID); err != nil {
		return nil, err
	}
	after, err := a.Tasks.CancelGroup(ctx, g.ID)
	if err != nil {
		return nil, err
	}
	if g, err = a.groups.Get(ctx, a.DB, g.ID); err != nil {
		return nil, err
	}
	status := http.StatusOK
	if after.Counts[task.Waiting]+after.Counts[task.Running] > 0 {
		status = http.StatusConflict
	}
	body, err := a.groups.JSON(ctx, a.DB, g)
	return &rest.Response{Status: status, Body: body}, err
}
