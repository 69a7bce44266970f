package sidebyside

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// remember notes what an answer says was made, to delete it at the end.
func (x *Session) remember(got *reply) {
	// A login answers 201 too, and its Location is the user, who was there before.
	href := got.Header.Get("Location")
	if got.StatusCode == http.StatusCreated && strings.HasPrefix(href, got.Request.URL.Opaque) {
		x.note(href)
	}
	if href, ok := lookup(got.json, "task").(string); ok && got.StatusCode == http.StatusAccepted {
		x.note(href)
	}
}

func (x *Session) note(href string) {
	if !slices.Contains(x.made, href) {
		x.made = append(x.made, href)
	}
}

func (x *Session) rememberTask(task Value) {
	list, _ := lookup(task, "created_resources").([]Value)
	for _, v := range list {
		if href, ok := v.(string); ok {
			x.note(href)
		}
	}
}

// kept are kinds of things that no request deletes: content and artifacts go with the orphans, versions with their repository.
var kept = []string{"/content/", "/artifacts/", "/versions/", "/login/"}

// cleanUp deletes what the scenario made, the newest first, and ignores what is gone already.
func (x *Session) cleanUp(ctx context.Context) error {
	for _, href := range slices.Clone(x.made) {
		if !strings.Contains(href, "/tasks/") {
			continue
		}
		// A step may not have waited for it, and it may be one that hangs.
		if _, err := x.send(ctx, &Step{Method: http.MethodPatch, Target: href, Type: "application/json", Body: `{"state": "canceled"}`}); err != nil {
			return err
		}
		if _, err := x.wait(ctx, href); err != nil && !errors.Is(err, errGone) {
			return err
		}
	}
	for _, href := range slices.Backward(x.made) {
		if !strings.HasPrefix(href, "/") || slices.ContainsFunc(kept, func(part string) bool { return strings.Contains(href, part) }) {
			continue
		}
		got, err := x.send(ctx, &Step{Method: http.MethodDelete, Target: href})
		if err != nil {
			return err
		}
		if got.StatusCode != http.StatusAccepted {
			continue
		}
		task, _ := lookup(got.json, "task").(string)
		if _, err := x.wait(ctx, task); err != nil {
			return err
		}
		if _, err := x.send(ctx, &Step{Method: http.MethodDelete, Target: task}); err != nil {
			return err
		}
	}
	return nil
}
