package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"granary/internal/pulp"
	"granary/internal/task"
)

const missing = "00000000-0000-0000-0000-000000000000"

// TestTaskJSON: all of a task, as clients see it.
func TestTaskJSON(t *testing.T) {
	both(t, func(w *world) {
		user, err := w.access.User(w.Context(), "plain")
		if err != nil {
			t.Fatal(err)
		}
		upload := w.create("uploads/", `{"size": 1}`)
		gone := pulp.RefTo("core.upload", pulp.NewID())
		group, err := w.tasks.NewGroup(w.call(pulp.Call{}), "some tasks")
		if err != nil {
			t.Fatal(err)
		}
		href := w.dispatch(pulp.Call{User: user, CID: "cid-1"}, task.Spec{
			Name: "test.good", Args: pulp.RefTo("core.upload", pulp.Ref{Key: id(upload.href())}.ID()), Exclusive: []string{"prn:x:y", ""}, Shared: []string{"pdrn:z"}, Group: group,
		})
		w.wait(href)
		w.exec("INSERT INTO core_createdresource (task, ordinal, type, key) VALUES (?, 9, ?, ?)", pulp.Ref{Key: id(href)}.ID(), gone.Type, gone.Key)
		w.exec("UPDATE core_task SET parent_task = id WHERE id = ?", pulp.Ref{Key: id(href)}.ID())
		a := w.do("GET", href, "")
		got := w.decode(a, 200)
		for _, name := range []string{"pulp_created", "pulp_last_updated", "unblocked_at", "started_at", "finished_at"} {
			if _, err := time.Parse("2006-01-02T15:04:05.000000Z", got[name].(string)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			got[name] = "<time>"
		}
		want := object{
			"pulp_href": href, "prn": "prn:core.task:" + id(href), "pulp_created": "<time>", "pulp_last_updated": "<time>", "state": "completed", "name": "test.good",
			"logging_cid": "cid-1", "created_by": fmt.Sprint(root, "users/", user.ID, "/"), "unblocked_at": "<time>", "started_at": "<time>", "finished_at": "<time>",
			"error": nil, "worker": nil, "parent_task": href, "child_tasks": []any{href}, "task_group": root + "task-groups/" + group.String() + "/",
			"progress_reports":          []any{map[string]any{"message": "Stepping", "code": "test.step", "state": "completed", "total": 2.0, "done": 2.0, "suffix": nil}},
			"created_resources":         []any{upload.href(), "<unavailable>"},
			"reserved_resources_record": []any{"prn:x:y", "shared:pdrn:z", "shared:prn:core.domain:" + w.home.ID.String()}, "result": nil,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		w.ordered(a.body, "pulp_href", "prn", "pulp_created", "pulp_last_updated", "state", "name", "logging_cid", "created_by", "unblocked_at", "started_at", "finished_at", "error",
			"worker", "parent_task", "child_tasks", "task_group", "progress_reports", "created_resources", "reserved_resources_record", "result")
		w.ordered(w.do("GET", href+"?minimal=true", "").body, "pulp_href", "prn", "pulp_created", "pulp_last_updated", "name", "state", "unblocked_at", "started_at", "finished_at", "worker")
		for query, want := range map[string][]string{
			"minimal=true":                           {"finished_at", "name", "prn", "pulp_created", "pulp_href", "pulp_last_updated", "started_at", "state", "unblocked_at", "worker"},
			"minimal=false&fields=name,state,zz":     {"name", "state"},
			"minimal=true&fields=name,error":         {"name"},
			"minimal=true&exclude_fields=prn,worker": {"finished_at", "name", "pulp_created", "pulp_href", "pulp_last_updated", "started_at", "state", "unblocked_at"},
		} {
			var names []string
			for name := range w.get(href + "?" + query) {
				names = append(names, name)
			}
			if slices.Sort(names); !slices.Equal(names, want) {
				t.Errorf("%s: %v, want %v", query, names, want)
			}
		}

		bad := w.dispatch(pulp.Call{}, spec("test.bad"))
		w.wait(bad)
		failed := w.get(bad)
		if failed["state"] != "failed" || failed["created_by"] != nil || failed["error"].(map[string]any)["description"] != "unexpected EOF" {
			t.Errorf("a failed task: %v", failed)
		}
	})
}

func TestTaskFilters(t *testing.T) {
	both(t, func(w *world) {
		upload := w.create("uploads/", `{"size": 1}`)
		other := w.create("uploads/", `{"size": 2}`)
		ref := pulp.Ref{Type: "core.upload", Key: id(upload.href())}
		distributions := "pdrn:" + w.home.ID.String() + ":distributions"
		good := w.dispatch(pulp.Call{CID: "cid-good"}, task.Spec{Name: "test.good", Args: ref, Exclusive: []string{ref.PRN(), "raw"}})
		w.wait(good)
		bad := w.dispatch(pulp.Call{CID: "cid-bad"}, task.Spec{Name: "test.bad", Shared: []string{ref.PRN(), distributions}})
		w.wait(bad)
		running := w.dispatch(pulp.Call{CID: "cid-running"}, task.Spec{Name: "test.endless", Exclusive: []string{"busy"}})
		w.settle(running, "running")
		waiting := w.dispatch(pulp.Call{CID: "cid-waiting"}, task.Spec{Name: "test.good", Exclusive: []string{"busy"}})
		w.exec("UPDATE core_task SET parent_task = ? WHERE id = ?", pulp.Ref{Key: id(good)}.ID(), pulp.Ref{Key: id(bad)}.ID())
		group, err := w.tasks.NewGroup(w.call(pulp.Call{}), "")
		if err != nil {
			t.Fatal(err)
		}
		w.exec("UPDATE core_task SET task_group = ? WHERE id = ?", group, pulp.Ref{Key: id(good)}.ID())
		groupHref := root + "task-groups/" + group.String() + "/"
		deleted := root + "uploads/" + missing + "/"

		names := map[string]string{good: "good", bad: "bad", running: "running", waiting: "waiting"}
		for query, want := range map[string]string{
			"":                            "waiting running bad good",
			"ordering=pulp_created":       "good bad running waiting",
			"ordering=-finished_at":       "waiting running bad good",
			"state=completed":             "good",
			"state=":                      "waiting running bad good",
			"state__in=failed,zz,running": "running bad",
			"state__ne=completed":         "waiting running bad",
			"name=test.good":              "waiting good",
			"name__contains=oo":           "waiting good",
			"name__in=x,test.bad":         "bad",
			"name__ne=test.good":          "running bad",
			"logging_cid=cid-bad":         "bad",
			"logging_cid__contains=g":     "waiting running good",
			"started_at__isnull=true":     "waiting",
			"finished_at__isnull=false&pulp_created__gt=2001-01-01&unblocked_at__gt=2001-01-01&started_at__lt=2101-01-01": "bad good",
			"worker=x":                "",
			"worker=":                 "waiting running bad good",
			"parent_task=" + good:     "bad",
			"parent_task=" + bad:      "",
			"child_tasks=" + bad:      "good",
			"child_tasks=" + good:     "",
			"task_group=" + groupHref: "good",
			"task_group=prn:core.taskgroup:" + group.String():    "good",
			"created_resources=" + upload.href():                 "good",
			"created_resources=" + ref.PRN():                     "good",
			"created_resources=http://x.example" + upload.href(): "good",
			"created_resources=" + other.href():                  "",
			"reserved_resources=" + upload.href():                "bad good",
			"reserved_resources=" + ref.PRN():                    "bad good",
			"exclusive_resources=" + upload.href():               "good",
			"shared_resources=" + upload.href():                  "bad",
			"exclusive_resources=raw":                            "good",
			"reserved_resources__in=raw," + upload.href():        "good", // all of them
			"reserved_resources__in=busy,raw":                    "",
			"shared_resources__in=" + ref.PRN():                  "bad",
			"exclusive_resources__in=busy":                       "waiting running",
			"reserved_resources=/api/v3/distributions/":          "bad",
			"reserved_resources=/api/v3/repair/":                 "",
			"reserved_resources=nothing/like/it":                 "",
			"reserved_resources=" + deleted:                      "",
			"pulp_href__in=" + good + "," + waiting:              "waiting good",
			"prn__in=prn:core.task:" + id(good):                  "good",
			"pulp_id__in=" + id(bad):                             "bad",
			`q=state="completed" OR NOT name="test.good"`:        "running bad good",
		} {
			var list []string
			for _, href := range w.values("tasks/?"+strings.ReplaceAll(query, " ", "%20"), "pulp_href") {
				list = append(list, names[href.(string)])
			}
			if got := strings.Join(list, " "); got != want {
				t.Errorf("%s: %s, want %s", query, got, want)
			}
		}
		for query, want := range map[string]string{
			"state=zz":                     `{"state":["Select a valid choice. zz is not one of the available choices."]}`,
			"name__icontains=x":            `{"errors":["Invalid Filter: 'name__icontains'"]}`,
			"worker__in=x":                 `{"errors":["Invalid Filter: 'worker__in'"]}`,
			"finished_at=zz":               `{"finished_at":["Enter a valid date/time."]}`,
			"created_resources=zz":         `["URI not valid: zz"]`,
			"created_resources=prn:zz":     `["PRN must be of the form 'prn:app_label.model_label:pk': prn:zz"]`,
			"created_resources=" + deleted: `["URI ` + deleted + ` not found for upload."]`,
			"parent_task=zz":               `["URI couldn't be resolved: zz"]`,
			"parent_task=null":             `["URI couldn't be resolved: null"]`,
			"child_tasks=zz":               `["URI couldn't be resolved: zz"]`,
			"task_group=zz":                `["URI couldn't be resolved: zz"]`,
			"ordering=worker":              `{"ordering":["Select a valid choice. worker is not one of the available choices."]}`,
			"exclusive_resources__in=a&shared_resources__inn=b": `{"errors":["Invalid Filter: 'shared_resources__inn'"]}`,
		} {
			w.expect("GET", "tasks/?"+query, "", 400, want)
		}
	})
}

func TestCancelAndDeleteTasks(t *testing.T) {
	both(t, func(w *world) {
		running := w.dispatch(pulp.Call{}, task.Spec{Name: "test.endless", Exclusive: []string{"busy"}})
		w.settle(running, "running")
		admin, err := w.access.User(w.Context(), "admin")
		if err != nil {
			t.Fatal(err)
		}
		waiting := w.dispatch(pulp.Call{User: admin}, task.Spec{Name: "test.good", Exclusive: []string{"busy"}})
		for _, href := range []string{running, waiting} {
			w.expect("DELETE", href, "", http.StatusConflict, "")
		}
		for body, want := range map[string]string{
			`{}`:                     `{"state":["This field is required."]}`,
			`{"name": "x"}`:          `{"state":["This field is required."]}`,
			`{"state": null}`:        `{"state":["This field may not be null."]}`,
			`{"state": ""}`:          `{"state":["This field may not be blank."]}`,
			`{"state": "completed"}`: `{"state":["The only acceptable value for 'state' is 'canceled'."]}`,
			`[]`:                     `{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}`,
		} {
			w.expect("PATCH", waiting, body, 400, want)
			w.expect("PATCH", "tasks/"+missing+"/", body, 400, want)
		}
		const cancel = `{"state": "canceled", "unknown": 1}`
		w.expect("PATCH", "tasks/"+missing+"/", cancel, 404, `{"detail":"No Task matches the given query."}`)

		if got := w.decode(w.do("PATCH", waiting, cancel), 200); got["state"] != "canceled" || got["started_at"] != nil || got["error"] != nil || got["created_by"] != nil {
			t.Errorf("a canceled waiting task: %v", got)
		}
		if got := w.decode(w.do("PATCH", waiting, cancel), 200); got["state"] != "canceled" {
			t.Errorf("canceled twice: %v", got)
		}
		if got := w.decode(w.do("PATCH", running, cancel), 200); got["state"] != "canceling" && got["state"] != "canceled" {
			t.Errorf("a canceled running task: %v", got)
		}
		w.settle(running, "canceled")
		done := w.dispatch(pulp.Call{}, spec("test.good"))
		w.wait(done)
		if got := w.decode(w.do("PATCH", done, cancel), http.StatusConflict); got["state"] != "completed" || got["pulp_href"] != done {
			t.Errorf("a canceled completed task: %v", got)
		}
		for _, method := range []string{"PUT", "POST"} {
			w.expect(method, done, "{}", 405, `{"detail":"Method \"`+method+`\" not allowed."}`)
		}
		w.expect("POST", "tasks/", "{}", 405, `{"detail":"Method \"POST\" not allowed."}`)
		w.expect("GET", done+"profile_artifacts/", "", 200, `{"urls":{}}`)
		w.expect("GET", "tasks/"+missing+"/profile_artifacts/", "", 404, `{"detail":"No Task matches the given query."}`)
		for _, href := range []string{done, running, waiting} {
			a := w.expect("DELETE", href, "", 204, "")
			if a.header.Get("Content-Type") != "" {
				t.Errorf("204 with Content-Type %s", a.header.Get("Content-Type"))
			}
			w.expect("DELETE", href, "", 404, `{"detail":"No Task matches the given query."}`)
			w.expect("GET", href, "", 404, `{"detail":"No Task matches the given query."}`)
		}
	})
}

func TestPurge(t *testing.T) {
	both(t, func(w *world) {
		old, recent := w.dispatch(pulp.Call{}, spec("test.good")), w.dispatch(pulp.Call{}, spec("test.good"))
		failed := w.dispatch(pulp.Call{}, spec("test.bad"))
		for _, href := range []string{old, recent, failed} {
			w.wait(href)
		}
		age := func(href string, days int64) {
			w.exec("UPDATE core_task SET finished_at = ? WHERE id = ?", int64(pulp.TimeOf(time.Now()))-days*24*3600*1e6, pulp.Ref{Key: id(href)}.ID())
		}
		age(old, 31)
		age(failed, 31)
		purge := func(body string) {
			t.Helper()
			href := w.decode(w.do("POST", "tasks/purge/", body), 202)["task"].(string)
			if w.wait(href); w.get(href)["state"] != "completed" || w.get(href)["name"] != "pulpcore.app.tasks.purge.purge" {
				t.Errorf("purge: %v", w.get(href))
			}
		}
		there := func(what string, want ...string) {
			t.Helper()
			var got []string
			for _, href := range w.values("tasks/?name__contains=test.&ordering=pulp_created", "pulp_href") {
				got = append(got, href.(string))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got)\n%s", what, diff)
			}
		}
		purge(`{"finished_before": "2001-01-01"}`)
		there("before anything", old, recent, failed)
		purge(`{"unknown": 1}`)
		there("by default: completed, a month old", recent, failed)
		purge(`{"states": []}`)
		there("no state at all", recent, failed)
		purge(`{"states": ["failed", "completed"], "finished_before": "` + time.Now().UTC().Add(-24*time.Hour).Format(time.RFC3339) + `"}`)
		there("of two states, a day old", recent)
		for body, want := range map[string]string{
			`{"finished_before": "zz"}`:                `{"finished_before":["Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."]}`,
			`{"finished_before": null}`:                `{"finished_before":["This field may not be null."]}`,
			`{"states": ["running"]}`:                  `{"states":["\"running\" is not a valid choice."]}`,
			`{"states": ["completed","zz","waiting"]}`: `{"states":["\"zz\" is not a valid choice."]}`,
			`{"states": "completed"}`:                  `{"states":["Expected a list of items but got type \"str\"."]}`,
			`{"states": null}`:                         `{"states":["This field may not be null."]}`,
		} {
			w.expect("POST", "tasks/purge/", body, 400, want)
		}
		w.expect("GET", "tasks/purge/", "", 405, `{"detail":"Method \"GET\" not allowed."}`)
		a := w.send(request{method: "POST", path: root + "tasks/purge/", user: "admin", body: "finished_before=2001-01-01&states=completed&states=failed", header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}})
		w.wait(w.decode(a, 202)["task"].(string))
	})
}

func TestTaskGroups(t *testing.T) {
	both(t, func(w *world) {
		ctx := w.call(pulp.Call{})
		group := func(name string) (pulp.ID, string) {
			id, err := w.tasks.NewGroup(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			return id, root + "task-groups/" + id.String() + "/"
		}
		firstID, first := group("the first")
		secondID, second := group("the second")
		done := w.dispatch(pulp.Call{}, task.Spec{Name: "test.good", Group: firstID})
		w.wait(done)
		failed := w.dispatch(pulp.Call{}, task.Spec{Name: "test.bad", Group: firstID})
		w.wait(failed)
		w.exec("INSERT INTO core_groupprogressreport (task_group, code, message, created, total, done, suffix) VALUES (?, 'c', 'm', 1, 3, 2, 's')", firstID)
		got := w.get(first)
		tasks := got["tasks"].([]any)
		minimal := w.get(done + "?minimal=true")
		if len(tasks) != 2 || !cmp.Equal(map[string]any(minimal), tasks[0]) {
			t.Errorf("tasks: %v\nwant first %v", tasks, minimal)
		}
		delete(got, "tasks")
		want := object{
			"pulp_href": first, "prn": "prn:core.taskgroup:" + firstID.String(), "description": "the first", "all_tasks_dispatched": false,
			"waiting": 0.0, "skipped": 0.0, "running": 0.0, "completed": 1.0, "canceled": 0.0, "failed": 1.0, "canceling": 0.0,
			"group_progress_reports": []any{map[string]any{"message": "m", "code": "c", "total": 3.0, "done": 2.0, "suffix": "s"}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if got := w.values("task-groups/?unknown=ignored", "description"); !cmp.Equal(got, []any{"the first", "the second"}) {
			t.Errorf("oldest first: %v", got)
		}
		if got := w.get(first + "?fields=description,completed"); len(got) != 2 {
			t.Errorf("two fields: %v", got)
		}

		const cancel = `{"state": "canceled"}`
		if got := w.decode(w.do("PATCH", first, cancel), 200); got["all_tasks_dispatched"] != true || got["completed"] != 1.0 {
			t.Errorf("a canceled group of finished tasks: %v", got)
		}
		running := w.dispatch(pulp.Call{}, task.Spec{Name: "test.endless", Group: secondID, Exclusive: []string{"busy"}})
		w.settle(running, "running")
		waiting := w.dispatch(pulp.Call{}, task.Spec{Name: "test.endless", Group: secondID, Exclusive: []string{"busy"}})
		if got := w.get(second); got["running"] != 1.0 || got["waiting"] != 1.0 {
			t.Errorf("a living group: %v", got)
		}
		if got := w.decode(w.do("PATCH", second, cancel), 200); got["running"] != 0.0 || got["waiting"] != 0.0 {
			t.Errorf("a canceled group: %v", got)
		}
		w.settle(running, "canceled")
		w.settle(waiting, "canceled")
		if got := w.decode(w.do("PATCH", second, cancel), 200); got["canceled"] != 2.0 {
			t.Errorf("canceled twice: %v", got)
		}
		w.expect("PATCH", second, `{"state": "zz"}`, 400, `{"state":["The only acceptable value for 'state' is 'canceled'."]}`)
		w.expect("PATCH", "task-groups/"+missing+"/", cancel, 404, `{"detail":"No TaskGroup matches the given query."}`)
		w.expect("GET", "task-groups/"+missing+"/", "", 404, `{"detail":"No TaskGroup matches the given query."}`)
		for _, method := range []string{"DELETE", "PUT"} {
			w.expect(method, second, "", 405, `{"detail":"Method \"`+method+`\" not allowed."}`)
		}
		w.expect("POST", "task-groups/", "{}", 405, `{"detail":"Method \"POST\" not allowed."}`)
	})
}

func TestWorkersAndSchedules(t *testing.T) {
	both(t, func(w *world) {
		now := int64(pulp.TimeOf(time.Now()))
		for name, age := range map[string]int64{"alive": 10e6, "dead": 40e6} {
			w.exec("INSERT INTO core_appstatus (id, created, updated, app_type, name, versions, ttl, last_heartbeat) VALUES (?, ?, ?, 'worker', ?, ?, 30000000, ?)",
				pulp.NewID(), now-age, now-age, name, `{"core":"3.95.0"}`, now-age)
		}
		running := w.dispatch(pulp.Call{}, spec("test.endless"))
		w.settle(running, "running")
		for query, want := range map[string][]any{
			"online=true":                            {"1@test:2", "1@test", "alive"},
			"missing=true":                           {"dead"},
			"online=false":                           {"dead"},
			"online=zz&name=alive":                   {"alive"},
			"name__startswith=1@":                    {"1@test:2", "1@test"},
			"last_heartbeat__lt=2001-01-01":          {},
			"ordering=name&name__in=dead,alive":      {"alive", "dead"},
			"ordering=-last_heartbeat&name__regex=a": {"alive", "dead"},
		} {
			got := w.values("workers/?"+query, "name")
			if strings.Contains(query, "ordering") && !cmp.Equal(got, want) || !sameElements(got, want) {
				t.Errorf("%s: %v, want %v", query, got, want)
			}
		}
		busy := 0
		for _, task := range w.values("workers/", "current_task") {
			if task == running {
				busy++
			} else if task != nil {
				t.Errorf("a worker runs %v", task)
			}
		}
		if busy != 1 {
			t.Errorf("%d workers run the task, want 1", busy)
		}
		worker := w.get("workers/?name=alive")["results"].([]any)[0].(map[string]any)
		href := worker["pulp_href"].(string)
		if worker["prn"] != "prn:core.appstatus:"+id(href) || !cmp.Equal(worker["versions"], map[string]any{"core": "3.95.0"}) || worker["current_task"] != nil || !cmp.Equal(w.get(href), object(worker)) {
			t.Errorf("a worker: %v", worker)
		}
		w.expect("GET", "workers/"+missing+"/", "", 404, `{"detail":"No AppStatus matches the given query."}`)
		w.expect("GET", "workers/?last_heartbeat__gt=zz", "", 400, `{"last_heartbeat__gt":["Enter a valid date/time."]}`)
		for method, path := range map[string]string{"POST": "workers/", "DELETE": href} {
			w.expect(method, path, "", 405, `{"detail":"Method \"`+method+`\" not allowed."}`)
		}

		if err := w.tasks.SetSchedules(w.Context(), []task.Schedule{
			{Name: "daily", TaskName: "test.good", Interval: 24 * time.Hour}, {Name: "often", TaskName: "test.bad", Interval: 90*time.Second + 5*time.Millisecond},
		}); err != nil {
			t.Fatal(err)
		}
		last := w.dispatch(pulp.Call{}, spec("test.good"))
		w.wait(last)
		w.exec("UPDATE core_taskschedule SET last_task = ?, next_dispatch = ? WHERE name = 'daily'", pulp.Ref{Key: id(last)}.ID(), now+3600e6)
		got := w.get("task-schedules/?name=daily")["results"].([]any)[0].(map[string]any)
		if got["dispatch_interval"] != "1 00:00:00" || got["task_name"] != "test.good" || got["last_task"] != last || got["next_dispatch"] != pulp.Time(now+3600e6).String() || got["prn"] != "prn:core.taskschedule:"+id(got["pulp_href"].(string)) {
			t.Errorf("a schedule: %v", got)
		}
		if got := w.values("task-schedules/?task_name__contains=bad", "dispatch_interval"); !cmp.Equal(got, []any{"00:01:30.005000"}) {
			t.Errorf("an interval: %v", got)
		}
		w.expect("POST", "task-schedules/", "{}", 405, `{"detail":"Method \"POST\" not allowed."}`)
		w.expect("GET", "task-schedules/"+missing+"/", "", 404, `{"detail":"No TaskSchedule matches the given query."}`)
	})
}

func sameElements(a, b []any) bool {
	x, y := fmt.Sprint(a), fmt.Sprint(b)
	less := func(p, q any) int { return strings.Compare(fmt.Sprint(p), fmt.Sprint(q)) }
	a, b = slices.SortedFunc(slices.Values(a), less), slices.SortedFunc(slices.Values(b), less)
	return x == y || fmt.Sprint(a) == fmt.Sprint(b)
}
