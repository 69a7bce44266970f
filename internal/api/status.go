package api

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"net/http"
	"syscall"

	"granary/internal/db"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// A Status is what the server says about itself.
type Status struct {
	Versions    []componentVersion `api:"versions,req,schema=Version"`
	Workers     []appStatus        `api:"online_workers,req,schema=AppStatus"`
	APIApps     []appStatus        `api:"online_api_apps,req,schema=AppStatus"`
	ContentApps []appStatus        `api:"online_content_apps,req,schema=AppStatus"`
	Database    connection         `api:"database_connection,req,schema=DatabaseConnection"`
	Redis       connection         `api:"redis_connection,schema=RedisConnection"`
	Storage     storageStatus      `api:"storage,schema=Storage"`
	Content     contentStatus      `api:"content_settings,req,schema=ContentSettings"`
	Domains     bool               `api:"domain_enabled,req"`
}

type componentVersion struct {
	Component        string `api:"component,req"`
	Version          string `api:"version,req"`
	Package          string `api:"package,req"`
	Module           string `api:"module,req"`
	DomainCompatible bool   `api:"domain_compatible,req"`
}

type appStatus struct {
	Name          string             `api:"name,ro"`
	LastHeartbeat pulp.Time          `api:"last_heartbeat,ro"`
	Versions      map[string]*string `api:"versions,ro"`
}

type connection struct {
	Connected bool `api:"connected,req"`
}

// A storageStatus counts bytes.
type storageStatus struct {
	Total *int64 `api:"total,req,null,min=0"`
	Used  *int64 `api:"used,req,null,min=0"`
	Free  *int64 `api:"free,req,null,min=0"`
}

type contentStatus struct {
	Origin *string `api:"content_origin,null"`
	Prefix string  `api:"content_path_prefix,req"`
}

func (a *API) statusEndpoint() *rest.Endpoint {
	return &rest.Endpoint{App: "core", Path: "status/", Global: true, Actions: []rest.Action{{
		Name: "read", Method: http.MethodGet, Public: true, Response: Status{}, Handle: a.status,
	}}}
}

func (a *API) liveEndpoint() *rest.Endpoint {
	return &rest.Endpoint{App: "core", Path: "livez/", Global: true, Actions: []rest.Action{{
		Name: "read", Method: http.MethodGet, Public: true,
		Handle: func(context.Context, *rest.Request) (*rest.Response, error) {
			return &rest.Response{Status: http.StatusOK}, nil
		},
	}}}
}

// status answers whatever fails: it is there to tell.
func (a *API) status(ctx context.Context, _ *rest.Request) (*rest.Response, error) {
	set := a.Settings
	s := Status{
		Redis:   connection{set.CacheEnabled}, // the cache is in the process: there is nothing else to be connected to
		Content: contentStatus{Prefix: set.ContentPathPrefix}, Domains: set.DomainEnabled, Storage: a.storage(ctx),
	}
	if set.ContentOrigin != "" {
		s.Content.Origin = &set.ContentOrigin
	}
	for _, c := range a.Components {
		s.Versions = append(s.Versions, componentVersion{c.Name, c.Version, c.Package, c.Module, true})
	}
	if err := a.readApps(ctx, &s); err != nil {
		a.Log.ErrorContext(ctx, "cannot read the database for the status", slog.Any("error", err))
	} else {
		s.Database.Connected = true
	}
	return a.Engine.JSON(ctx, http.StatusOK, s)
}

// readApps lists the processes that are alive.
func (a *API) readApps(ctx context.Context, s *Status) error {
	return db.Each(ctx, a.DB, func(rows *sql.Rows) error {
		var kind, versions string
		var app appStatus
		if err := rows.Scan(&kind, &app.Name, &app.LastHeartbeat, &versions); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(versions), &app.Versions); err != nil {
			return err
		}
		switch kind {
		case "worker":
			s.Workers = append(s.Workers, app)
		case "api":
			s.APIApps = append(s.APIApps, app)
		case "content":
			s.ContentApps = append(s.ContentApps, app)
		}
		return nil
	}, "SELECT app_type, name, last_heartbeat, versions FROM core_appstatus WHERE last_heartbeat + ttl >= ? ORDER BY created, id", int64(a.Now.Now()))
}

// storage tells how full the disk of the domain's folder is.
func (a *API) storage(ctx context.Context) (s storageStatus) {
	folder := a.Settings.MediaRoot
	if c := pulp.CallOf(ctx); c.Domain.Name != pulp.DefaultDomain && !c.Domain.ID.IsZero() {
		d, err := a.domains.Get(ctx, a.DB, c.Domain.ID)
		if err != nil {
			a.Log.ErrorContext(ctx, "cannot tell where the domain's files are", slog.Any("error", err))
			return s
		}
		if location, _ := d.Storage.checked()["location"].(string); location != "" {
			folder = location
		}
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(folder, &fs); err != nil {
		a.Log.ErrorContext(ctx, "cannot tell how full the disk is", slog.Any("error", err))
		return s
	}
	block := int64(fs.Bsize)
	total, used, free := int64(fs.Blocks)*block, int64(fs.Blocks-fs.Bfree)*block, int64(fs.Bavail)*block //nolint:gosec // no disk is that large
	return storageStatus{&total, &used, &free}
}
