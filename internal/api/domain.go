package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"

	"granary/internal/blob"
	"granary/internal/content/notice"
	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
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

// fileSystem is the class of a store on a local disk.
const fileSystem = "pulpcore.app.models.storage.FileSystem"

// StorageSettings are the options of a domain's store by their short names; before they are checked, what the client gave.
type StorageSettings struct{ given any }

// MarshalJSON writes the options.
func (s StorageSettings) MarshalJSON() ([]byte, error) { return json.Marshal(s.given) }

// UnmarshalJSON reads any JSON.
func (s *StorageSettings) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &s.given) }

// AppendAPI writes the options as clients see them, in the order of their declaration.
func (s StorageSettings) AppendAPI(b []byte, _ *rest.View) []byte {
	options, _ := s.given.(map[string]any)
	b = append(b, `{"hidden_fields":[]`...)
	for _, o := range fileOptions {
		value, err := json.Marshal(options[o.name])
		if err != nil {
			value = []byte("null")
		}
		b = fmt.Appendf(b, `,"%s":%s`, o.name, value)
	}
	return append(b, '}')
}

// An option is one of a store.
type option struct {
	name     string
	setting  string // the global setting's name, which is taken too
	required bool
	missing  any // the value where none is given
	check    func(v any) (any, string)
}

var fileOptions = []option{
	{"location", "MEDIA_ROOT", true, nil, textOption},
	{"base_url", "MEDIA_URL", false, "", textOption},
	{"file_permissions_mode", "FILE_UPLOAD_PERMISSIONS", false, 420.0, modeOption},
	{"directory_permissions_mode", "FILE_UPLOAD_DIRECTORY_PERMISSIONS", false, nil, modeOption},
}

func textOption(v any) (any, string) {
	s, ok := v.(string)
	switch {
	case v == nil:
		return nil, "This field may not be null."
	case !ok:
		return nil, "Not a valid string."
	case strings.ContainsRune(s, 0):
		return nil, "Null characters are not allowed."
	}
	return s, ""
}

func modeOption(v any) (any, string) {
	n, ok := v.(float64)
	if v == nil {
		return nil, ""
	}
	if !ok || n != math.Trunc(n) || n < 0 || n > 0o7777 {
		return nil, "A valid integer is required."
	}
	return n, ""
}

// normalise reads the options of a store on disk that a client gave, over those that there were.
func (s *StorageSettings) normalise(before StorageSettings) error {
	if text, ok := s.given.(string); ok { // a form has them as JSON in a string
		v, err := rest.DecodeJSON([]byte(text))
		if err != nil {
			return errs.Field("storage_settings", "Improper JSON string passed in")
		}
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, &s.given); err != nil {
			return err
		}
	}
	given, ok := s.given.(map[string]any)
	if !ok {
		return errs.Field("storage_settings", "Improper JSON string passed in")
	}
	options, wrong := map[string]any{}, map[string]any{}
	if old, ok := before.given.(map[string]any); ok {
		maps.Copy(options, old)
	}
	for key, value := range given {
		i := slices.IndexFunc(fileOptions, func(o option) bool { return key == o.name || strings.EqualFold(key, o.setting) })
		if i < 0 {
			wrong[key] = "Unexpected field"
			continue
		}
		checked, problem := fileOptions[i].check(value)
		if problem != "" {
			wrong[fileOptions[i].name] = []string{problem}
		}
		options[fileOptions[i].name] = checked
	}
	for _, o := range fileOptions {
		if _, ok := options[o.name]; !ok {
			if options[o.name] = o.missing; o.required {
				wrong[o.name] = []string{"This field is required."}
			}
		}
	}
	if len(wrong) > 0 {
		return &errs.Error{Kind: errs.Invalid, Fields: map[string]any{"storage_settings": wrong}}
	}
	s.given = options
	return nil
}

// A migration is the body of a request that moves a domain to another store.
type migration struct {
	Class   string          `api:"storage_class,req,choices=pulpcore.app.models.storage.FileSystem|storages.backends.s3boto3.S3Boto3Storage|storages.backends.azure_storage.AzureStorage,enum=StorageClassEnum"`
	Storage StorageSettings `api:"storage_settings,req"`
}

func (a *API) defineDomains() rest.Typed[Domain] {
	return rest.Define(rest.Resource[Domain]{
		App: "core", Model: "Domain", Path: "domains", Table: "core_domain", Global: true,
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
		Check: func(_ context.Context, _ db.Querier, c *rest.Change[Domain]) error {
			if c.Old != nil && c.Old.Name == pulp.DefaultDomain {
				return errs.List("Default domain can not be updated.")
			}
			if c.New.Class != fileSystem {
				return &errs.Error{Kind: errs.Invalid, Fields: map[string]any{"storage_class": "Backend is not installed on Pulp."}}
			}
			if !c.Set["storage_settings"] {
				return nil
			}
			var before StorageSettings
			if c.Old != nil && c.Old.Class == c.New.Class {
				before = c.Old.Storage
			}
			return c.New.Storage.normalise(before)
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
				if d.Name == pulp.DefaultDomain { // its store is the one of the settings
					d.Storage.given = map[string]any{"location": a.Settings.MediaRoot, "base_url": "/", "file_permissions_mode": 420}
				}
			}
			return nil
		},
		Actions: []rest.Action{{Name: "migrate", Collection: true, Request: migration{}, RequestSchema: "DomainBackendMigrator", Task: true, Handle: a.migrateDomain}},
	})
}

// migrateDomain refuses: there is one store for all domains.
func (a *API) migrateDomain(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var in migration
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	if pulp.CallOf(ctx).Domain.Name == pulp.DefaultDomain {
		return nil, errs.List("Default domain can not be migrated.")
	}
	return nil, errs.List("Moving a domain to another storage is not supported.")
}

// protectors are the tables whose objects keep a domain from going.
var protectors = []struct{ table, model string }{
	{"core_acs", "AlternateContentSource"},
	{"core_contentguard", "ContentGuard"},
	{"core_distribution", "Distribution"},
	{"core_publication", "Publication"},
	{"core_remote", "Remote"},
	{"core_repository", "Repository"},
	{"core_upload", "Upload"},
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
	var by []string
	for _, p := range protectors {
		used, err := db.Exists(ctx, tx, "SELECT 1 FROM "+p.table+" WHERE domain = ?", d.ID)
		if err != nil {
			return err
		}
		if used {
			by = append(by, "'"+p.model+".pulp_domain'")
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
	tx.AfterCommit(func() { a.removeFiles(context.WithoutCancel(ctx), pulp.Domain{ID: d.ID, Name: d.Name}) })
	return notice.Changed(ctx, tx, notice.Domain, d.ID)
}

// removeFiles deletes the artifacts' files of a domain that is gone.
func (a *API) removeFiles(ctx context.Context, d pulp.Domain) {
	zeros := strings.Repeat("0", 64)
	prefix := strings.TrimSuffix(blob.ArtifactKey(d, zeros), zeros[:2]+"/"+zeros[2:])
	err := a.Blobs.List(ctx, prefix, func(i blob.Info) error { return a.Blobs.Delete(ctx, i.Key) })
	if err != nil {
		a.Log.ErrorContext(ctx, "files of a deleted domain are left", slog.String("prefix", prefix), slog.Any("error", err))
	}
}
