package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"

	"granary/internal/blob"
	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/repository"
	"granary/internal/rest"
	"granary/internal/storage"
)

// A Domain is a tenant.
type Domain struct {
	rest.Global
	Name        string          `api:"name,req,unique,slug,maxlen=50"`
	Description *string         `api:"description,null"`
	Labels      rest.Labels     `api:"pulp_labels" db:"labels"`
	Class       string          `api:"storage_class,req,choices=pulpcore.app.models.storage.FileSystem|storages.backends.s3boto3.S3Boto3Storage|storages.backends.azure_storage.AzureStorage,enum=StorageClassEnum"`
	Storage     StorageSettings `api:"storage_settings,req,sealed"`
	Redirect    bool            `api:"redirect_to_object_storage,def=true"`
	HideGuarded bool            `api:"hide_guarded_distributions,def=false"`
}

// StorageSettings are the options of a domain's store by their short names; before they are checked, what the client gave.
type StorageSettings struct {
	given any
	class storage.Class // known once they are checked, or read of a domain that was expanded
}

// MarshalJSON writes the options.
func (s StorageSettings) MarshalJSON() ([]byte, error) { return json.Marshal(s.given) }

// UnmarshalJSON reads any JSON.
func (s *StorageSettings) UnmarshalJSON(b []byte) error {
	s.class = ""
	return json.Unmarshal(b, &s.given)
}

// AppendAPI writes the options as clients see them.
func (s StorageSettings) AppendAPI(b []byte, _ *rest.View) []byte {
	return s.class.Append(b, s.checked())
}

func (s StorageSettings) checked() storage.Settings {
	options, _ := s.given.(map[string]any)
	return options
}

// check reads the options that a client gave for a store of the class, over those that there were. What it returns is reported
// of the field.
func (s *StorageSettings) check(class storage.Class, before storage.Settings) any {
	options, wrong := class.Parse(s.given, before)
	if wrong != nil {
		return wrong
	}
	s.given, s.class = map[string]any(options), class
	return nil
}

func (a *API) defineDomains() rest.Typed[Domain] {
	return rest.Define(rest.Resource[Domain]{
		App: "core", Model: "Domain", Path: "domains", Table: "core_domain", Global: true, Unscoped: true,
		Create: rest.Now, Update: rest.Immediate, Delete: rest.Immediate, LaxFields: true,
		Filters: append(rest.Text("name", "m.name", rest.NameLookups...), rest.LabelSelect()),
		Ordering: []string{
			"description", "hide_guarded_distributions", "name", "pk", "pulp_created", "pulp_id", "pulp_labels", "pulp_last_updated",
			"redirect_to_object_storage", "storage_class", "storage_settings",
		},
		Checks: map[string]func(*Domain) []string{"name": func(d *Domain) []string {
			if name := strings.ToLower(d.Name); name == "api" || name == "content" {
				return []string{"Name can not be 'api' or 'content'."}
			}
			return nil
		}},
		FieldCheck: checkStorage,
		Check:      a.checkDomain,
		Prepare: func(ctx context.Context, c *rest.Change[Domain]) (func(*Domain), error) {
			return nil, a.tryStorage(ctx, storage.Class(c.New.Class), c.New.Storage.checked())
		},
		Saved: func(ctx context.Context, tx *db.Tx, c *rest.Change[Domain]) error {
			return notice.Changed(ctx, tx, notice.Domain, c.New.ID)
		},
		CheckDelete: func(ctx context.Context, _ db.Querier, d *Domain) error {
			switch {
			case d.Name == pulp.DefaultDomain:
				return errs.List("Default domain can not be deleted.")
			case d.ID == pulp.CallOf(ctx).Domain.ID: // the task would go with it
				return errs.List("A domain can not be deleted by a request to itself.")
			}
			return nil
		},
		Deleting: a.deletingDomain,
		Expand: func(_ context.Context, _ db.Querier, list []*Domain) error {
			for _, d := range list {
				d.Storage.class = storage.Class(d.Class)
				if d.Name == pulp.DefaultDomain { // its store is the one of the settings
					d.Storage.given = map[string]any{"location": a.Settings.MediaRoot, "base_url": "/", "file_permissions_mode": 420}
				}
			}
			return nil
		},
		Actions: []rest.Action{{Name: "migrate", Collection: true, Request: migration{}, RequestSchema: "DomainBackendMigrator", Task: true, Handle: a.migrateDomain}},
	})
}

// checkStorage checks a domain's settings for its class, over those that it has where the class stays.
func checkStorage(_ context.Context, _ db.Querier, c *rest.Change[Domain]) (map[string]any, error) {
	class := storage.Class(c.New.Class)
	var before storage.Settings
	if c.Old != nil {
		c.Old.Storage.class = storage.Class(c.Old.Class)
		if c.Old.Class == c.New.Class {
			before = c.Old.Storage.checked()
		}
	}
	if !c.Set["storage_settings"] {
		c.New.Storage.class = class
		return nil, nil
	}
	if c.New.Storage.given == nil || !class.Known() { // which is reported already
		return nil, nil
	}
	if wrong := c.New.Storage.check(class, before); wrong != nil {
		return map[string]any{"storage_settings": wrong}, nil
	}
	return nil, nil
}

func (a *API) checkDomain(ctx context.Context, q db.Querier, c *rest.Change[Domain]) error {
	if c.Old != nil && c.Old.Name == pulp.DefaultDomain {
		return errs.List("Default domain can not be updated.")
	}
	class := storage.Class(c.New.Class)
	if !class.Installed() {
		return errNotInstalled()
	}
	if c.Old == nil {
		return nil
	}
	if c.Old.Class != c.New.Class && !c.Set["storage_settings"] { // the old ones are for another class
		c.New.Storage.given = map[string]any{}
		if wrong := c.New.Storage.check(class, nil); wrong != nil {
			return storageError(wrong)
		}
	}
	if _, writing := q.(*db.Tx); writing || reflect.DeepEqual(c.Old.Storage, c.New.Storage) {
		return nil // the request has tried the store already, outside of the transaction
	}
	return a.tryStorage(ctx, class, c.New.Storage.checked())
}

func errNotInstalled() error { return errs.Field("storage_class", "Backend is not installed on Pulp.") }

func storageError(wrong any) error {
	return &errs.Error{Kind: errs.Invalid, Fields: map[string]any{"storage_settings": wrong}}
}

// tryStorage finds out whether files can be stored with the settings.
func (a *API) tryStorage(ctx context.Context, class storage.Class, settings storage.Settings) error {
	if wrong := a.Stores.Try(ctx, class, settings); wrong != nil {
		return storageError(wrong)
	}
	return nil
}

// protectors are the tables whose rows keep a domain from going, with the class that they are of: those of all types that
// belong to a domain, but for content and artifacts, which go with it, and tasks.
func (a *API) protectors() map[string]string {
	list := map[string]string{}
	for _, t := range a.Engine.Types() {
		if t.Global() || t.Family() == repository.Contents.Name || t.Label == "core.artifact" || t.Label == "core.task" || t.Label == "core.taskgroup" {
			continue
		}
		for table, columns := range t.Tables() {
			if slices.Contains(columns, "domain") {
				list[table] = familyClass(t)
			}
		}
	}
	return list
}

// familyClass is the class that all types of the type's family have as their base, in Pulp; the type's own where there is none.
func familyClass(t *rest.Type) string {
	switch name := t.Family(); name {
	case "":
		return t.Model
	case repository.Sources.Name:
		return "AlternateContentSource"
	default:
		var b strings.Builder
		for word := range strings.SplitSeq(name, "_") {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
		return b.String()
	}
}

// deletingDomain removes what goes with a domain: content outside of repositories, artifacts and their files. Anything else keeps it.
func (a *API) deletingDomain(ctx context.Context, tx *db.Tx, d *Domain) error {
	used, err := db.Exists(ctx, tx, "SELECT 1 FROM core_repositorycontent rc JOIN core_repository r ON r.id = rc.repository WHERE r.domain = ?", d.ID)
	if err != nil {
		return err
	}
	if used {
		return errs.E(errs.Invalid, "You cannot delete a domain that still contains repositories with content.")
	}
	// what the server has made in it is in nobody's way
	const own = "SELECT content_guard FROM core_distribution WHERE domain = ? AND pulp_type = 'core.artifact'"
	for _, query := range []string{
		"DELETE FROM core_contentguard WHERE id IN (" + own + ")", "DELETE FROM core_distribution WHERE domain = ? AND pulp_type = 'core.artifact'",
	} {
		if _, err := tx.Exec(ctx, query, d.ID); err != nil {
			return err
		}
	}
	var by []string
	protectors := a.protectors()
	for _, table := range slices.Sorted(maps.Keys(protectors)) {
		used, err := db.Exists(ctx, tx, "SELECT 1 FROM "+table+" WHERE domain = ?", d.ID)
		if err != nil {
			return err
		}
		if used {
			by = append(by, "'"+protectors[table]+".pulp_domain'")
		}
	}
	if by != nil {
		return errs.Ef(errs.Invalid, "Cannot delete some instances of model 'Domain' because they are referenced through protected foreign keys: %s.", strings.Join(by, ", "))
	}
	for _, query := range []string{
		"DELETE FROM core_label WHERE object IN (SELECT id FROM core_content WHERE domain = ?)",
		"DELETE FROM core_content WHERE domain = ?",
		"DELETE FROM core_artifact WHERE domain = ?",
	} {
		if _, err := tx.Exec(ctx, query, d.ID); err != nil {
			return err
		}
	}
	tx.AfterCommit(func() { a.removeFiles(context.WithoutCancel(ctx), d) })
	return notice.Changed(ctx, tx, notice.Domain, d.ID)
}

// removeFiles deletes the artifacts' files of a domain that is gone.
func (a *API) removeFiles(ctx context.Context, d *Domain) {
	zeros := strings.Repeat("0", 64)
	prefix := strings.TrimSuffix(blob.ArtifactKey(pulp.Domain{ID: d.ID, Name: d.Name}, zeros), zeros[:2]+"/"+zeros[2:])
	store, err := a.Stores.Open(ctx, storage.Class(d.Class), d.Storage.checked())
	if err == nil {
		err = store.List(ctx, prefix, func(i blob.Info) error { return store.Delete(ctx, i.Key) })
	}
	if err != nil {
		a.Log.ErrorContext(ctx, "files of a deleted domain are left", slog.String("prefix", prefix), slog.Any("error", err))
	}
}
