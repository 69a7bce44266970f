package api

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"granary/internal/db"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// A Worker is a process, or a part of one, that runs tasks.
type Worker struct {
	rest.Global
	Name          string             `api:"name,ro"`
	LastHeartbeat pulp.Time          `api:"last_heartbeat,ro"`
	Versions      map[string]*string `api:"versions,ro"`
	CurrentTask   pulp.ID            `api:"current_task,ro,computed,ref=core.task"`
}

func (a *API) defineWorkers() rest.Typed[Worker] {
	filters := []rest.Filter{a.whereAlive("online", ">="), a.whereAlive("missing", "<")}
	filters = append(filters, rest.Text("name", "m.name", rest.NameLookups...)...)
	filters = append(filters, rest.Times("last_heartbeat", "m.last_heartbeat")...)
	return rest.Define(rest.Resource[Worker]{
		App: "core", Model: "AppStatus", Schema: "Worker", Path: "workers", HrefName: "worker_href", Table: "core_appstatus",
		Where: "m.app_type = 'worker'", Global: true, Filters: filters,
		Ordering: []string{"app_type", "last_heartbeat", "name", "pk", "pulp_created", "pulp_id", "pulp_last_updated", "ttl", "versions"},
		OrderBy:  map[string]string{"app_type": "m.app_type", "ttl": "m.ttl"},
		Expand: func(ctx context.Context, q db.Querier, list []*Worker) error {
			byID := make(map[pulp.ID]*Worker, len(list))
			ids := make([]pulp.ID, len(list))
			for i, w := range list {
				byID[w.ID], ids[i] = w, w.ID
			}
			marks, args := db.In(ids)
			return db.Each(ctx, q, func(rows *sql.Rows) error {
				var owner, id pulp.ID
				err := rows.Scan(&owner, &id)
				byID[owner].CurrentTask = id
				return err
			}, "SELECT owner, id FROM core_task WHERE owner IN "+marks, args...)
		},
	})
}

// whereAlive compares the end of a process's lease with now.
func (a *API) whereAlive(name, op string) rest.Filter {
	flag := rest.Flag(name, "m.last_heartbeat + m.ttl "+op+" ?")
	where := flag.Where
	flag.Where = func(ctx context.Context, f *rest.Filtering, v string) (rest.Cond, error) {
		c, err := where(ctx, f, v)
		if c.SQL != "" {
			c.Args = []any{int64(a.Now.Now())}
		}
		return c, err
	}
	return flag
}

// A TaskSchedule dispatches a task again and again.
type TaskSchedule struct {
	rest.Global
	Name     string    `api:"name,req,out"`
	TaskName string    `api:"task_name,req,out"`
	Every    *string   `api:"dispatch_interval,req,out,null,computed"`
	Next     pulp.Time `api:"next_dispatch,ro,null"`
	LastTask pulp.ID   `api:"last_task,ro,ref=core.task"`
	Interval *int64    `api:"-" db:"dispatch_interval"` // microseconds
}

func (a *API) defineTaskSchedules() rest.Typed[TaskSchedule] {
	return rest.Define(rest.Resource[TaskSchedule]{
		App: "core", Model: "TaskSchedule", Path: "task-schedules", Table: "core_taskschedule", Global: true, Roles: true,
		Filters:  append(rest.Text("name", "m.name", "contains"), rest.Text("task_name", "m.task_name", "contains")...),
		Ordering: []string{"dispatch_interval", "name", "next_dispatch", "pk", "pulp_created", "pulp_id", "pulp_last_updated", "task_name"},
		OrderBy:  map[string]string{"dispatch_interval": "m.dispatch_interval"},
		Expand: func(_ context.Context, _ db.Querier, list []*TaskSchedule) error {
			for _, s := range list {
				if s.Interval != nil {
					text := interval(time.Duration(*s.Interval) * time.Microsecond)
					s.Every = &text
				}
			}
			return nil
		},
	})
}

// interval writes a duration as "[days ]HH:MM:SS[.ffffff]".
func interval(d time.Duration) string {
	text := ""
	if days := d / (24 * time.Hour); days > 0 {
		text = fmt.Sprintf("%d ", days)
	}
	d %= 24 * time.Hour
	text += fmt.Sprintf("%02d:%02d:%02d", d/time.Hour, d/time.Minute%60, d/time.Second%60)
	if us := d % time.Second / time.Microsecond; us > 0 {
		text += fmt.Sprintf(".%06d", us)
	}
	return text
}
