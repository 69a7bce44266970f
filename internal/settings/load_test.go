package settings

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"granary/internal/pulp"
)

// load loads settings that must be right.
func load(t *testing.T, o Options) *Settings {
	t.Helper()
	s, err := Load(o)
	if err != nil {
		t.Fatalf("Load(%q, %q): %v", o.Files, o.Environ, err)
	}
	return s
}

// write writes a file into a new folder and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaults(t *testing.T) {
	s := load(t, Options{Hostname: "pulp.example.com"})
	if w := s.Warnings(); len(w) != 0 {
		t.Errorf("warnings %q, want none", w)
	}
	for _, tc := range []struct{ name, got, want any }{
		{"Data", s.Data, "/var/lib/pulp"},
		{"DeployRoot", s.DeployRoot, "/var/lib/pulp"},
		{"MediaRoot", s.MediaRoot, "/var/lib/pulp/media"},
		{"WorkingDirectory", s.WorkingDirectory, "/var/lib/pulp/tmp"},
		{"FileUploadTempDir", s.FileUploadTempDir, "/var/lib/pulp/tmp"},
		{"StaticRoot", s.StaticRoot, "/var/lib/pulp/assets"},
		{"DBEncryptionKey", s.DBEncryptionKey, "/etc/pulp/certs/database_fields.symmetric.key"},
		{"SecretKeyFile", s.SecretKeyFile, "/var/lib/pulp/db/secret.key"},
		{"Database", s.Database, Database{Engine: SQLite, File: "/var/lib/pulp/db/pulp.sqlite3"}},
		{"APIRoot", s.APIRoot, "/pulp/"},
		{"ContentOrigin", s.ContentOrigin, ""},
		{"AllowedContentChecksums", s.AllowedContentChecksums, []pulp.Algorithm{"sha224", "sha256", "sha384", "sha512"}},
		{"EnabledPlugins", s.EnabledPlugins, []string(nil)},
		{"PluginEnabled", s.PluginEnabled("pulp_rpm"), true},
		{"CacheSettings", s.CacheSettings, CacheSettings{ExpiresTTL: 10 * time.Minute}},
		{"Storages", s.Storages["default"], Storage{Backend: "pulpcore.app.models.storage.FileSystem"}},
		{"APIAppTTL", s.APIAppTTL, 2 * time.Minute},
		{"OrphanProtectionTime", s.OrphanProtectionTime, 24 * time.Hour},
		{"KafkaProducerPollTimeout", s.KafkaProducerPollTimeout, 100 * time.Millisecond},
		{"PageSize", s.RestFramework.PageSize, 100},
		{"PyPIAPIHostname", s.PyPIAPIHostname, "https://pulp.example.com"},
		{"AnsiblePermissionClasses", s.AnsiblePermissionClasses, s.RestFramework.PermissionClasses},
		{"Analytics", s.Analytics, false},
		{"Workers", s.Workers, 2},
		{"RedisConfigured", s.RedisConfigured(), false},
		{"LogLevels", s.LogLevels(), map[string]slog.Level{"": slog.LevelInfo}},
	} {
		if diff := cmp.Diff(tc.want, tc.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestDataFolder(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    Options
		want [6]string // data folder, deploy root, media, tmp, database, key
	}{
		{"flag", Options{DataDir: "/d", Environ: []string{"GRANARY_DATA=/e"}}, [6]string{"/d", "/d", "/d/media", "/d/tmp", "/d/db/pulp.sqlite3", "/d/certs/database_fields.symmetric.key"}},
		{"variable", Options{Environ: []string{"GRANARY_DATA=/e/../d"}}, [6]string{"/d", "/d", "/d/media", "/d/tmp", "/d/db/pulp.sqlite3", "/d/certs/database_fields.symmetric.key"}},
		{"explicit settings win", Options{DataDir: "/d", Environ: []string{"PULP_MEDIA_ROOT=/m", "PULP_DB_ENCRYPTION_KEY=/k"}}, [6]string{"/d", "/d", "/m", "/d/tmp", "/d/db/pulp.sqlite3", "/k"}},
		{"deploy root moves files", Options{DataDir: "/d", Environ: []string{"PULP_DEPLOY_ROOT=/r"}}, [6]string{"/d", "/r", "/r/media", "/r/tmp", "/d/db/pulp.sqlite3", "/d/certs/database_fields.symmetric.key"}},
		{"deploy root alone", Options{Environ: []string{"PULP_DEPLOY_ROOT=/r"}}, [6]string{"/r", "/r", "/r/media", "/r/tmp", "/r/db/pulp.sqlite3", "/etc/pulp/certs/database_fields.symmetric.key"}},
	} {
		s := load(t, tc.o)
		got := [6]string{s.Data, s.DeployRoot, s.MediaRoot, s.WorkingDirectory, s.Database.File, s.DBEncryptionKey}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	if s := load(t, Options{DataDir: "d"}); !filepath.IsAbs(s.MediaRoot) {
		t.Errorf("MediaRoot of a relative folder is %q, want an absolute path", s.MediaRoot)
	}
}

// The file of the quickstart, as its echo line writes it.
const quickstart = `CONTENT_ORIGIN='http://pulp.example.com:8080'
ANSIBLE_API_HOSTNAME='http://pulp.example.com:8080'
ANSIBLE_CONTENT_HOSTNAME='http://pulp.example.com:8080/pulp/content'
CACHE_ENABLED=True
`

// A file like those of installations with everything on one host.
const singleHost = `# Pulp
CONTENT_ORIGIN = "http://localhost:9080"
SECRET_KEY = "reference"
DATABASES = {"default": {"HOST": "127.0.0.1", "ENGINE": "django.db.backends.postgresql", "NAME": "pulp9080", "USER": "o", "PASSWORD": "p"}}
DB_ENCRYPTION_KEY = "/srv/pulp/fields.key"
DEPLOY_ROOT = "/srv/pulp/lib"
MEDIA_ROOT = "/srv/pulp/lib/media"
WORKING_DIRECTORY = FILE_UPLOAD_TEMP_DIR = "/srv/pulp/tmp"
REDIS_HOST = "localhost"
REDIS_PORT = 6379
CACHE_ENABLED = True
DOMAIN_ENABLED = False
ANSIBLE_API_HOSTNAME = PYPI_API_HOSTNAME = "http://localhost:9080"
TOKEN_SERVER = "http://localhost:9080/token/"
TOKEN_SIGNATURE_ALGORITHM = "ES256"
PUBLIC_KEY_PATH = "/srv/pulp/token.pub"
PRIVATE_KEY_PATH = "/srv/pulp/token.pem"
ALLOWED_IMPORT_PATHS = ALLOWED_EXPORT_PATHS = ["/tmp"]
ALLOWED_CONTENT_CHECKSUMS = ["md5", "sha512", "sha1", "sha224", "sha256", "sha384"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
`

// A file like those of Compose, with an object store.
const compose = `"""Settings of all services."""
SECRET_KEY = (
    "first half,"
    " second half"
)
DATABASES = {
    'default': {
        'HOST': 'postgres',
        'ENGINE': 'django.db.backends.postgresql',
        'NAME': 'pulp',
        'USER': 'pulp',
        'PASSWORD': 'password',
        'PORT': '5432',
        'CONN_MAX_AGE': 0,
        'OPTIONS': {'sslmode': 'prefer'},
    }
}
S3 = {
    "access_key": "AKIAIT2Z5TDYPX3ARJBA",
    "secret_key": "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",
    "bucket_name": "pulp3",
    "default_acl": "@none",
}
STORAGES = {"default": {"BACKEND": "storages.backends.s3boto3.S3Boto3Storage", "OPTIONS": S3}}
STORAGES__default__OPTIONS__file_permissions_mode = 0o600
MEDIA_ROOT = ""
REST_FRAMEWORK__DEFAULT_AUTHENTICATION_CLASSES = (
    "rest_framework.authentication.SessionAuthentication",
    "pulpcore.app.authentication.PulpRemoteUserAuthentication",
)
LOGGING = {"dynaconf_merge": True, "loggers": {"pulpcore.tasking": {"level": "DEBUG"}, "": {"level": "WARNING"}}}
REDIS_URL = "redis://:letmein@redis:6379/1"
CSRF_TRUSTED_ORIGINS = ["https://pulp.example.com"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
AUTH_LDAP_SERVER_URI = "ldap://ldap"
`

func TestSettingsFilesOfRealInstallations(t *testing.T) {
	t.Run("quickstart", func(t *testing.T) {
		s := load(t, Options{Environ: []string{"PULP_SETTINGS=" + write(t, "settings.py", quickstart)}})
		want := []string{"http://pulp.example.com:8080", "http://pulp.example.com:8080", "http://pulp.example.com:8080/pulp/content"}
		if diff := cmp.Diff(want, []string{s.ContentOrigin, s.AnsibleAPIHostname, s.AnsibleContentHostname}); diff != "" {
			t.Errorf("URLs (-want +got):\n%s", diff)
		}
		if !s.CacheEnabled || s.RedisConfigured() || len(s.Warnings()) != 0 {
			t.Errorf("CacheEnabled %v, RedisConfigured %v, warnings %q", s.CacheEnabled, s.RedisConfigured(), s.Warnings())
		}
	})
	t.Run("single host", func(t *testing.T) {
		s := load(t, Options{Files: []string{write(t, "settings.py", singleHost)}})
		for _, tc := range []struct{ name, got, want any }{
			{"Database", s.Database, Database{Engine: Postgres, DSN: "postgres://o:p@/pulp9080?host=127.0.0.1"}},
			{"WorkingDirectory", s.WorkingDirectory, "/srv/pulp/tmp"},
			{"FileUploadTempDir", s.FileUploadTempDir, "/srv/pulp/tmp"},
			{"StaticRoot", s.StaticRoot, "/srv/pulp/lib/assets"},
			{"PyPIAPIHostname", s.PyPIAPIHostname, "http://localhost:9080"},
			{"AllowedExportPaths", s.AllowedExportPaths, []string{"/tmp"}},
			{"AllowedContentChecksums", s.AllowedContentChecksums, pulp.Algorithms[:]},
			{"AnsibleContentHostname", s.AnsibleContentHostname, "http://localhost:9080/pulp/content"},
			{"RedisConfigured", s.RedisConfigured(), true},
			{"SecretKey", string(s.SecretKey), "reference"},
			{"Warnings", s.Warnings(), []string(nil)},
		} {
			if diff := cmp.Diff(tc.want, tc.got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.name, diff)
			}
		}
	})
	t.Run("compose", func(t *testing.T) {
		s := load(t, Options{Files: []string{write(t, "settings.py", compose)}})
		storage := Storage{Backend: "storages.backends.s3boto3.S3Boto3Storage", Options: Dict{
			"access_key": "AKIAIT2Z5TDYPX3ARJBA", "secret_key": "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", "bucket_name": "pulp3",
			"default_acl": nil, "file_permissions_mode": int64(0o600),
		}}
		for _, tc := range []struct{ name, got, want any }{
			{"SecretKey", string(s.SecretKey), "first half, second half"},
			{"Database", s.Database, Database{Engine: Postgres, DSN: "postgres://pulp:password@/pulp?host=postgres&port=5432&sslmode=prefer"}},
			{"Storages", s.Storages, Storages{"default": storage}},
			{"MediaRoot", s.MediaRoot, ""},
			{"RestFramework", s.RestFramework, RestFramework{
				AuthenticationClasses: []string{"rest_framework.authentication.SessionAuthentication", "pulpcore.app.authentication.PulpRemoteUserAuthentication"},
				PermissionClasses:     []string{"pulpcore.plugin.access_policy.AccessPolicyFromDB"},
				PageSize:              100,
			}},
			{"LogLevels", s.LogLevels(), map[string]slog.Level{"": slog.LevelWarn, "pulpcore.tasking": slog.LevelDebug}},
			{"handlers", s.Logging["handlers"] != nil, true},
			{"RedisURL", string(s.RedisURL), "redis://:letmein@redis:6379/1"},
			{"SecureProxySSLHeader", s.SecureProxySSLHeader, []string{"HTTP_X_FORWARDED_PROTO", "https"}},
		} {
			if diff := cmp.Diff(tc.want, tc.got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.name, diff)
			}
		}
		if v, _ := s.Get("AUTH_LDAP_SERVER_URI"); v != "ldap://ldap" {
			t.Errorf("AUTH_LDAP_SERVER_URI is %v", v)
		}
		w := s.Warnings()
		for i, want := range []string{"no setting S3", "REMOTE_USER_ENVIRON_NAME", "GRANARY_TRUSTED_PROXIES"} {
			if len(w) != 3 || !strings.Contains(w[i], want) {
				t.Errorf("warnings %q, want three, the one at %d of %s", w, i, want)
			}
		}
	})
	t.Run("TOML", func(t *testing.T) {
		s := load(t, Options{Files: []string{write(t, "settings.toml", `# Pulp
content_origin = "https://pulp.example.com"
WORKER_TTL = 60
TASK_DIAGNOSTICS = ["memory"]
MEDIA_ROOT = "@format {this.DEPLOY_ROOT}/artifacts"
CACHE_SETTINGS__EXPIRES_TTL = 5
DATABASES.default.HOST = "db"

[STORAGES.default]
BACKEND = "storages.backends.s3.S3Storage"
[STORAGES.default.OPTIONS]
bucket_name = "b"
default_acl = "@none"
`)}})
		for _, tc := range []struct{ name, got, want any }{
			{"ContentOrigin", s.ContentOrigin, "https://pulp.example.com"},
			{"WorkerTTL", s.WorkerTTL, time.Minute},
			{"TaskDiagnostics", s.TaskDiagnostics, []string{"memory"}},
			{"MediaRoot", s.MediaRoot, "/var/lib/pulp/artifacts"},
			{"CacheSettings", s.CacheSettings.ExpiresTTL, 5 * time.Second},
			{"Storages", s.Storages["default"].Options, Dict{"bucket_name": "b", "default_acl": nil}},
			{"Database", s.Database, Database{Engine: Postgres, DSN: "postgres:///pulp?host=db"}},
		} {
			if diff := cmp.Diff(tc.want, tc.got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.name, diff)
			}
		}
		var sources []string
		for _, name := range []string{"CONTENT_ORIGIN", "CACHE_SETTINGS", "DATABASES", "STORAGES"} {
			for _, e := range s.Inspect(name, false) {
				_, line, _ := strings.Cut(e.Source, ".toml:")
				sources = append(sources, name+":"+line)
			}
		}
		want := []string{"CONTENT_ORIGIN:", "CONTENT_ORIGIN:2", "CACHE_SETTINGS:", "CACHE_SETTINGS:6", "DATABASES:", "DATABASES:7", "STORAGES:", "STORAGES:9"}
		if diff := cmp.Diff(want, sources); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
	})
}

func TestPrecedence(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.py":       "API_ROOT = '/a/'\nWORKER_TTL = 1\nALLOWED_HOSTS = ['a']",
		"a.local.py": "API_ROOT = '/a-local/'\nALLOWED_HOSTS = ['dynaconf_merge', 'b']",
		"b.toml":     "API_ROOT = '/b/'\nAPI_APP_TTL = 2",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	environ := []string{
		"PULP_SETTINGS=" + in("a.py") + ";" + in("b.toml"),
		"PULP_API_ROOT=/env/", "DYNACONF_API_ROOT=/dynaconf/", "DYNACONF_CONTENT_APP_TTL=9",
		"PULP_ALLOWED_HOSTS=@merge c,d", "PULP_CACHE_SETTINGS__EXPIRES_TTL=@none",
	}
	s := load(t, Options{Environ: environ, DataDir: "/d"})
	type row struct{ Name, Value, Source, How string }
	rows := func(entries []Entry) []row {
		var out []row
		for _, e := range entries {
			out = append(out, row{e.Name, Format(e.Value), strings.ReplaceAll(e.Source, dir+"/", ""), e.How})
		}
		return out
	}
	if diff := cmp.Diff([]row{
		{"API_ROOT", "/pulp/", "default", "set"},
		{"API_ROOT", "/a/", "a.py:1", "set"},
		{"API_ROOT", "/a-local/", "a.local.py:1", "set"},
		{"API_ROOT", "/b/", "b.toml:1", "set"},
		{"API_ROOT", "/dynaconf/", "DYNACONF_API_ROOT", "set"},
		{"API_ROOT", "/env/", "PULP_API_ROOT", "set"},
	}, rows(s.Inspect("api_root", false))); diff != "" {
		t.Errorf("API_ROOT (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]row{
		{"ALLOWED_HOSTS", `["*"]`, "default", "set"},
		{"ALLOWED_HOSTS", `["a"]`, "a.py:3", "set"},
		{"ALLOWED_HOSTS", `["dynaconf_merge","b"]`, "a.local.py:2", "set"},
		{"ALLOWED_HOSTS", `["c","d"]`, "PULP_ALLOWED_HOSTS", "merge"},
	}, rows(s.Inspect("ALLOWED_HOSTS", false))); diff != "" {
		t.Errorf("ALLOWED_HOSTS (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]row{
		{"CACHE_SETTINGS.EXPIRES_TTL", "600", "default", "set"},
		{"CACHE_SETTINGS.EXPIRES_TTL", "None", "PULP_CACHE_SETTINGS__EXPIRES_TTL", "set"},
	}, rows(s.Inspect("CACHE_SETTINGS__expires_ttl", false))); diff != "" {
		t.Errorf("CACHE_SETTINGS (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]row{
		{"DEPLOY_ROOT", "/var/lib/pulp", "default", "set"},
		{"DEPLOY_ROOT", "/d", "data folder", "set"},
	}, rows(s.Inspect("DEPLOY_ROOT", false))); diff != "" {
		t.Errorf("DEPLOY_ROOT (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, s.AllowedHosts); diff != "" {
		t.Errorf("AllowedHosts (-want +got):\n%s", diff)
	}
	if s.APIRoot != "/env/" || s.WorkerTTL != time.Second || s.APIAppTTL != 2*time.Second || s.ContentAppTTL != 9*time.Second || s.CacheSettings.ExpiresTTL != 0 {
		t.Errorf("APIRoot %q, WorkerTTL %v, APIAppTTL %v, ContentAppTTL %v, ExpiresTTL %v", s.APIRoot, s.WorkerTTL, s.APIAppTTL, s.ContentAppTTL, s.CacheSettings.ExpiresTTL)
	}
	if s.Inspect("NOPE", false) != nil || s.Inspect("API_ROOT.x", false) != nil {
		t.Error("Inspect finds what is not there")
	}
	list := map[string]string{}
	for _, r := range rows(s.List(false)) {
		list[r.Name] = r.Value + " " + r.Source
	}
	for name, want := range map[string]string{
		"API_ROOT": "/env/ PULP_API_ROOT", "WORKER_TTL": "1 a.py:2", "MEDIA_ROOT": "/d/media default", "GRANARY_DATA": "/d data folder", "PULP_WORKERS": "2 default",
		"DATABASES": `{"default":{"ENGINE":"django.db.backends.sqlite3","NAME":"/d/db/pulp.sqlite3"}} derived`,
	} {
		if list[name] != want {
			t.Errorf("List has %s = %s, want %s", name, list[name], want)
		}
	}

	one := load(t, Options{Environ: environ, Files: []string{in("b.toml")}}) // the flag replaces the variable
	if one.WorkerTTL != 30*time.Second || one.APIAppTTL != 2*time.Second {
		t.Errorf("with the flag, WorkerTTL is %v and APIAppTTL %v", one.WorkerTTL, one.APIAppTTL)
	}
}

func TestFileMergesAsAWhole(t *testing.T) {
	s := load(t, Options{Files: []string{
		write(t, "a.py", "ALLOWED_HOSTS = ['a']\nCACHE_SETTINGS = {'x': 1}"),
		write(t, "b.py", "dynaconf_merge = True\nALLOWED_HOSTS = ['b']\nCACHE_SETTINGS = {'y': 2}\nAPI_ROOT = '/b/'"),
	}})
	v, _ := s.Get("CACHE_SETTINGS")
	if diff := cmp.Diff([]any{[]string{"a", "b"}, map[string]any{"x": int64(1), "y": int64(2)}, "/b/"}, []any{s.AllowedHosts, v, s.APIRoot}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What a name says in a file in Python, beside its value.
func TestNamesInPythonFiles(t *testing.T) {
	for _, tc := range []struct {
		src  string
		want any // of V
	}{
		{"V = '@int 5'", int64(5)}, // markers count, TOML does not
		{"V = ['@none', '42', 'true', '[1]']", []any{nil, "42", "true", "[1]"}},
		{"V__a__B = 1", map[string]any{"a": map[string]any{"B": int64(1)}}},
		{"V__a = 1\nV = {'b': 2}", map[string]any{"a": int64(1), "b": int64(2)}}, // whole settings come before their parts
		{"v = 1\nVv = 2\n_V = 3\n__V = 4", nil},                                  // private
		{"V = 1\nV = 2", int64(2)},
	} {
		s := load(t, Options{Files: []string{write(t, "settings.py", tc.src)}})
		got, _ := s.Get("V")
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s\n(-want +got):\n%s", tc.src, diff)
		}
	}
	_, err := Load(Options{Files: []string{write(t, "settings.py", "A = 1\nV = '@int x'")}})
	if err == nil || !strings.HasPrefix(err.Error(), "V (") || !strings.HasSuffix(err.Error(), "settings.py:2): @int: expected a whole number") {
		t.Errorf("the error is %v", err)
	}
}

func TestDeletedSettingIsTheDefault(t *testing.T) {
	s := load(t, Options{Files: []string{write(t, "settings.py", "ALLOWED_HOSTS = ['a']")}, Environ: []string{"PULP_ALLOWED_HOSTS=@del", "PULP_V=1", "PULP_v=@del"}})
	if diff := cmp.Diff([]string{"*"}, s.AllowedHosts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if v, ok := s.Get("V"); ok {
		t.Errorf("V is %v, want nothing", v)
	}
}

func TestItemsByNumberAreRefused(t *testing.T) {
	for _, name := range []string{"PULP_ALLOWED_HOSTS___0", "PULP_ALLOWED_HOSTS__0", "PULP_ALLOWED_HOSTS____0", "PULP_ALLOWED_HOSTS__", "PULP___x", "PULP_"} {
		s := load(t, Options{Environ: []string{name + "=x"}})
		if diff := cmp.Diff([]string{"*"}, s.AllowedHosts); diff != "" {
			t.Errorf("%s changed the list:\n%s", name, diff)
		}
		if w := s.Warnings(); len(w) != 1 || !strings.HasPrefix(w[0], name+": ") || !strings.Contains(w[0], "it is ignored") {
			t.Errorf("%s: warnings %q, want one that it is ignored", name, w)
		}
	}
}

func TestGet(t *testing.T) {
	s := load(t, Options{Environ: []string{"PULP_DATABASES__default__HOST=h", "PULP_DATABASES__default__PORT=5432", "PULP_WORKERS=3"}})
	for key, want := range map[string]any{
		"DATABASES.default.HOST":   "h",
		"databases.DEFAULT.host":   "h",
		"DATABASES__default__PORT": int64(5432),
		"DATABASES.default.ENGINE": "django.db.backends.postgresql",
		"CONTENT_ORIGIN":           nil,
		"content_path_prefix":      "/pulp/content/",
		"PULP_WORKERS":             "3",
		"REST_FRAMEWORK.PAGE_SIZE": int64(100),
	} {
		if got, ok := s.Get(key); !ok || !cmp.Equal(got, want) {
			t.Errorf("Get(%q) is %#v, %v, want %#v", key, got, ok, want)
		}
	}
	if got, ok := s.Show("content_origin", false); !ok || got != "None" {
		t.Errorf("Show(content_origin) is %q, %v", got, ok)
	}
	for _, key := range []string{"NOPE", "", "API_ROOT.x", "DATABASES.other"} {
		if got, ok := s.Get(key); ok {
			t.Errorf("Get(%q) is %#v, want nothing", key, got)
		}
		if got, ok := s.Show(key, true); ok {
			t.Errorf("Show(%q) is %q, want nothing", key, got)
		}
	}
}

func TestDatabase(t *testing.T) {
	const sqlite = "ENGINE='django.db.backends.sqlite3'"
	for _, tc := range []struct {
		name    string
		environ []string
		want    Database
	}{
		{"one part is enough for PostgreSQL", []string{"PULP_DATABASES__default__HOST=db"}, Database{Engine: Postgres, DSN: "postgres://pulp@/pulp?host=db"}},
		{"lower case", []string{"PULP_databases__DEFAULT__host=db"}, Database{Engine: Postgres, DSN: "postgres://pulp@/pulp?host=db"}},
		{"engine alone", []string{"PULP_DATABASES={default={ENGINE='django.db.backends.postgresql_psycopg2'}}"}, Database{Engine: Postgres, DSN: "postgres:///pulp"}},
		{
			"socket, several ports, options",
			[]string{`PULP_DATABASES={default={HOST='/run/pg,[::1]',PORT='5432, 5433',NAME='n',USER='u',OPTIONS={sslmode='verify-full',sslrootcert='/c a.pem',connect_timeout=3,pool={max_size=7}}}}`},
			Database{Engine: Postgres, Conns: 7, DSN: "postgres://u@/n?connect_timeout=3&host=%2Frun%2Fpg%2C%5B%3A%3A1%5D&port=5432%2C5433&sslmode=verify-full&sslrootcert=%2Fc%20a.pem"},
		},
		{"SQLite", []string{"PULP_DATABASES={default={" + sqlite + ",NAME='/x.db'}}"}, Database{Engine: SQLite, File: "/x.db"}},
		{"SQLite by its engine alone", []string{"PULP_DATABASES__default__ENGINE=django.db.backends.sqlite3"}, Database{Engine: SQLite, File: "/var/lib/pulp/db/pulp.sqlite3"}},
		{"empty", []string{"PULP_DATABASES={}"}, Database{Engine: SQLite, File: "/var/lib/pulp/db/pulp.sqlite3"}},
	} {
		if diff := cmp.Diff(tc.want, load(t, Options{Environ: tc.environ}).Database); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	for _, tc := range []struct{ variable, want string }{
		{"PULP_DATABASES=5", "DATABASES (PULP_DATABASES): expected a table, found a whole number 5"},
		{"PULP_DATABASES={other={}}", `DATABASES (PULP_DATABASES): expected a table with the key "default"`},
		{"PULP_DATABASES__default__ENGINE=mysql", `DATABASES.default.ENGINE (PULP_DATABASES__default__ENGINE): expected "django.db.backends.postgresql" or`},
		{"PULP_DATABASES__default__PORT=abc", `DATABASES.default.PORT (PULP_DATABASES__default__PORT): expected a port, found "abc"`},
		{"PULP_DATABASES__default__PORT=70000", "expected a port, found 70000"},
		{"PULP_DATABASES__default__PORT='5432,0'", "expected a port"},
		{"PULP_DATABASES__default__PORT=[]", "expected a port, found a list"},
		{"PULP_DATABASES__default__HOST=5", `expected a text (in quotes, as "'42'" in a variable), found a whole number 5`},
		{"PULP_DATABASES__default__PASSWORD=1234", "DATABASES.default.PASSWORD (PULP_DATABASES__default__PASSWORD): expected a text (in quotes, as \"'42'\" in a variable), found a whole number\n"},
		{"PULP_DATABASES={default={PASSWORD='x'}}", "DATABASES.default.USER (PULP_DATABASES): expected a name"},
		{"PULP_DATABASES__default__OPTIONS=x", "DATABASES.default.OPTIONS (PULP_DATABASES__default__OPTIONS): expected a table"},
		{"PULP_DATABASES__default__OPTIONS__sslmode=[]", "DATABASES.default.OPTIONS.sslmode (PULP_DATABASES__default__OPTIONS__sslmode): expected a single value, found a list"},
		{"PULP_DATABASES__default__OPTIONS__pool__max_size=many", "from 1 to 10000"},
		{"PULP_DATABASES={default={" + sqlite + ",NAME=':memory:'}}", `found ":memory:"`},
	} {
		_, err := Load(Options{Environ: []string{tc.variable}})
		if err == nil || !strings.Contains(err.Error()+"\n", tc.want) {
			t.Errorf("%s gives the error %v, want %q", tc.variable, err, tc.want)
		}
	}
	s := load(t, Options{Environ: []string{"PULP_DATABASES={default={TEST={},ATOMIC_REQUESTS=true,HSOT='x',OPTIONS={keepalives=1}}}"}})
	if diff := cmp.Diff([]string{"DATABASES.default.HSOT has no effect", "DATABASES.default.OPTIONS.keepalives has no effect"}, s.Warnings()); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// What the settings say must reach the driver, whatever characters it has.
func TestDriverReadsConnectionURL(t *testing.T) {
	const odd = `a@b:c/d?e#f%20 ü'"\&=+;`
	file := fmt.Sprintf("DATABASES = {'default': {'HOST': '::1,/run/x', 'PORT': 6543, 'NAME': %[1]q, 'USER': %[1]q, 'PASSWORD': %[1]q, 'OPTIONS': {'application_name': %[1]q, 'sslmode': 'disable'}}}", odd)
	s := load(t, Options{Files: []string{write(t, "settings.py", file)}})
	cfg, err := pgconn.ParseConfig(string(s.Database.DSN))
	if err != nil {
		t.Fatal(err)
	}
	got := []any{cfg.Host, cfg.Port, cfg.Database, cfg.User, cfg.Password, cfg.RuntimeParams["application_name"], cfg.Fallbacks[0].Host, cfg.Fallbacks[0].Port}
	if diff := cmp.Diff([]any{"::1", uint16(6543), odd, odd, odd, odd, "/run/x", uint16(6543)}, got); diff != "" {
		t.Errorf("the driver reads (-want +got):\n%s", diff)
	}
}

func TestWrongValues(t *testing.T) {
	for _, tc := range []struct{ variable, want string }{
		{"PULP_API_ROOT=hub", "API_ROOT (PULP_API_ROOT): The API_ROOT must start and end with a '/', currently it is 'hub'"},
		{"PULP_API_ROOT=/hub", "must start and end with a '/', currently it is '/hub'"},
		{"PULP_API_ROOT=@none", "currently it is ''"},
		{"PULP_CONTENT_PATH_PREFIX=content", "CONTENT_PATH_PREFIX must start and end with a '/'"},
		{"PULP_ALLOWED_CONTENT_CHECKSUMS=['md5']", "ALLOWED_CONTENT_CHECKSUMS (PULP_ALLOWED_CONTENT_CHECKSUMS): sha256 is missing"},
		{"PULP_ALLOWED_CONTENT_CHECKSUMS=['sha256','crc32']", `unknown algorithm "crc32"`},
		{"PULP_ALLOWED_CONTENT_CHECKSUMS=", "sha256 is missing"},
		{"PULP_ALLOWED_CONTENT_CHECKSUMS=sha256", `ALLOWED_CONTENT_CHECKSUMS (PULP_ALLOWED_CONTENT_CHECKSUMS): expected a list (as ["a", "b"]), found a text "sha256"`},
		{"PULP_ALLOWED_IMPORT_PATHS=['tmp']", `expected paths that begin with /, found "tmp"`},
		{"PULP_ALLOWED_EXPORT_PATHS=['']", "ALLOWED_EXPORT_PATHS (PULP_ALLOWED_EXPORT_PATHS): expected paths that begin with /"},
		{"PULP_STORAGES={default={BACKEND='pulpcore.app.models.storage.PulpSFTPStorage'}}", "STORAGES.default.BACKEND (PULP_STORAGES): REDIRECT_TO_OBJECT_STORAGE is true"},
		{"PULP_STORAGES__default__BACKEND=my.Storage", `STORAGES.default.BACKEND (PULP_STORAGES__default__BACKEND): expected the class of a storage backend`},
		{"PULP_STORAGES={}", "expected the class of a storage backend"},
		{"PULP_STORAGES=[]", "STORAGES (PULP_STORAGES): expected a table"},
		{"PULP_MEDIA_ROOT=", "MEDIA_ROOT (PULP_MEDIA_ROOT): expected a folder"},
		{"PULP_AUTHENTICATION_JSON_HEADER_OPENAPI_SECURITY_SCHEME=oauth", "AUTHENTICATION_JSON_HEADER_OPENAPI_SECURITY_SCHEME (PULP_AUTHENTICATION_JSON_HEADER_OPENAPI_SECURITY_SCHEME): expected a table"},
		{"PULP_OTEL_PULP_API_HISTOGRAM_BUCKETS=[100.0, 250]", "OTEL_PULP_API_HISTOGRAM_BUCKETS.1 (PULP_OTEL_PULP_API_HISTOGRAM_BUCKETS): expected a number with a fraction (as 100.0), found a whole number 250"},
		{"PULP_OTEL_PULP_API_HISTOGRAM_BUCKETS=100.0", "expected a list of numbers"},
		{"PULP_REST_FRAMEWORK__DEFAULT_PERMISSION_CLASSES=['my.Open']", `REST_FRAMEWORK.DEFAULT_PERMISSION_CLASSES (PULP_REST_FRAMEWORK__DEFAULT_PERMISSION_CLASSES): unknown class "my.Open"`},
		{"PULP_REST_FRAMEWORK__DEFAULT_PERMISSION_CLASSES=[]", "without any, everybody may do everything"},
		{"PULP_REST_FRAMEWORK__DEFAULT_PERMISSION_CLASSES=@none", "without any, everybody may do everything"},
		{"PULP_ANSIBLE_PERMISSION_CLASSES=['x.y']", "ANSIBLE_PERMISSION_CLASSES (PULP_ANSIBLE_PERMISSION_CLASSES): unknown class"},
		{"PULP_ANSIBLE_PERMISSION_CLASSES=[]", "without any, everybody may do everything"},
		{"PULP_REST_FRAMEWORK__PAGE_SIZE=many", `REST_FRAMEWORK.PAGE_SIZE (PULP_REST_FRAMEWORK__PAGE_SIZE): expected a whole number, found a text "many"`},
		{"PULP_CACHE_ENABLED=no", `CACHE_ENABLED (PULP_CACHE_ENABLED): expected true or false, found a text "no"`},
		{"PULP_CACHE_ENABLED=[1]", "expected true or false, found a list"},
		{"PULP_CACHE_SETTINGS=600", "expected a table"},
		{"PULP_CACHE_SETTINGS__EXPIRES_TTL=-1", "CACHE_SETTINGS.EXPIRES_TTL (PULP_CACHE_SETTINGS__EXPIRES_TTL): expected 0 or more, found -1"},
		{"PULP_WORKER_TTL=0", "WORKER_TTL (PULP_WORKER_TTL): expected 1 or more, found 0"},
		{"PULP_WORKER_TTL=", "expected 1 or more, found 0"},
		{"PULP_WORKER_TTL=soon", `expected a number of seconds, found a text "soon"`},
		{"PULP_ORPHAN_PROTECTION_TIME=1e300", "expected a number of minutes"},
		{"PULP_ORPHAN_PROTECTION_TIME=nan", "expected a number of minutes, found a number with a fraction nan"},
		{"PULP_MAX_CONCURRENT_CONTENT=1.5", "expected a whole number, found a number with a fraction 1.5"},
		{"PULP_MAX_CONCURRENT_CONTENT=true", "expected a whole number, found a boolean True"},
		{"PULP_REDIS_PORT=70000", "REDIS_PORT (PULP_REDIS_PORT): expected a port"},
		{"PULP_REDIS_URL=['x']", "REDIS_URL (PULP_REDIS_URL): expected a text, found a list"},
		{"PULP_CONTENT_ORIGIN=42", `expected a text (in quotes, as "'42'" in a variable), found a whole number 42`},
		{"PULP_ALLOWED_HOSTS=[1]", "ALLOWED_HOSTS.0 (PULP_ALLOWED_HOSTS): expected a text"},
		{"PULP_SECURE_PROXY_SSL_HEADER=['a']", "expected the name of a header and its value, found 1 items"},
		{"PULP_SESSION_COOKIE_SAMESITE=maybe", `expected one of Lax, Strict, None, found "maybe"`},
		{"PULP_SESSION_COOKIE_SAMESITE=true", "SESSION_COOKIE_SAMESITE (PULP_SESSION_COOKIE_SAMESITE): expected a text"},
		{"PULP_WORKER_TYPE=celery", `expected one of pulpcore, redis, found "celery"`},
		{"PULP_TOKEN_SIGNATURE_ALGORITHM=HS256", "TOKEN_SIGNATURE_ALGORITHM (PULP_TOKEN_SIGNATURE_ALGORITHM): expected one of ES256"},
		{"PULP_KAFKA_SECURITY_PROTOCOL=tls", "expected one of plaintext, ssl"},
		{"PULP_LOGGING__root__level=LOUD", `LOGGING.root.level (PULP_LOGGING__root__level): expected DEBUG, INFO, WARNING, ERROR or CRITICAL, found "LOUD"`},
		{"PULP_LOGGING__loggers__x__level=[]", "expected a level, found a list"},
		{`PULP_AUTH_PASSWORD_VALIDATORS=['x']`, "AUTH_PASSWORD_VALIDATORS.0 (PULP_AUTH_PASSWORD_VALIDATORS): expected a table"},
		{"PULP_WORKERS=many", `PULP_WORKERS: expected a whole number, found a text "many"`},
		{"PULP_WORKERS=-1", "PULP_WORKERS: expected 0 or more"},
		{"PULP_API_WORKERS=0", "PULP_API_WORKERS: expected 1 or more"},
		{"PULP_HTTPS=maybe", "PULP_HTTPS: expected true or false"},
		{"GRANARY_MAX_BODY=1M", "GRANARY_MAX_BODY: expected a whole number"},
		{"GRANARY_TRUSTED_PROXIES=10.0.0.0/8,proxy", `GRANARY_TRUSTED_PROXIES: expected addresses or networks (as 10.0.0.0/8) with commas between, found "proxy"`},
	} {
		_, err := Load(Options{Environ: []string{tc.variable}})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s gives the error\n%v\nwant\n%s", tc.variable, err, tc.want)
		}
	}
}

func TestJSONHeaderNeedsHeaderAndFilter(t *testing.T) {
	class := "PULP_REST_FRAMEWORK__DEFAULT_AUTHENTICATION_CLASSES=['" + jsonHeaderClass + "']"
	_, err := Load(Options{Environ: []string{class, "PULP_AUTHENTICATION_JSON_HEADER=X_RH_IDENTITY", "PULP_AUTHENTICATION_JSON_HEADER_JQ_FILTER=identity"}})
	want := "AUTHENTICATION_JSON_HEADER (PULP_AUTHENTICATION_JSON_HEADER): must start with 'HTTP_', currently it is 'X_RH_IDENTITY'\n" +
		"AUTHENTICATION_JSON_HEADER_JQ_FILTER (PULP_AUTHENTICATION_JSON_HEADER_JQ_FILTER): must start with '.', currently it is 'identity'"
	if err == nil || err.Error() != want {
		t.Errorf("error\n%v\nwant\n%s", err, want)
	}
	load(t, Options{Environ: []string{class, "PULP_AUTHENTICATION_JSON_HEADER=HTTP_X_RH_IDENTITY", "PULP_AUTHENTICATION_JSON_HEADER_JQ_FILTER=.identity"}})
	load(t, Options{Environ: []string{"PULP_AUTHENTICATION_JSON_HEADER=X_RH_IDENTITY"}}) // without the class nobody looks
}

func TestAllProblemsAreReportedWithTheirSources(t *testing.T) {
	py := write(t, "settings.py", "import os\nAPI_ROOT = 'x'\nDOMAIN_ENABLED = 'off'\nWORKER_TTL = 5\n")
	toml := write(t, "settings.toml", "REDIS_DB = 'one'\n\n[CACHE_SETTINGS]\nEXPIRES_TTL = 'never'\n")
	_, err := Load(Options{
		Files:   []string{py, toml, write(t, "broken.toml", "A = 1\nB = \n"), write(t, "settings.yaml", "a: 1"), t.TempDir()},
		Environ: []string{"PULP_WORKER_TTL=@int x", "PULP_API_APP_TTL=-1", "PULP_WORKERS=x"},
	})
	problems, ok := err.(Problems)
	if !ok {
		t.Fatalf("the error is %v, want Problems", err)
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.Setting+"|"+filepath.Base(p.Source))
	}
	want := []string{
		"|settings.py:1", "|broken.toml:2", "|settings.yaml", "|001", "WORKER_TTL|PULP_WORKER_TTL",
		"REDIS_DB|settings.toml:1", "CACHE_SETTINGS.EXPIRES_TTL|settings.toml:3", "DOMAIN_ENABLED|settings.py:3",
		"API_APP_TTL|PULP_API_APP_TTL", "PULP_WORKERS|PULP_WORKERS", "API_ROOT|settings.py:2",
	}
	for i := range got {
		if strings.HasPrefix(got[i], "|0") {
			got[i] = "|001" // the folder
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s\n%v", diff, err)
	}
}

func TestLargeFileIsRefused(t *testing.T) {
	_, err := Load(Options{Files: []string{write(t, "settings.py", "#"+strings.Repeat("x", 1<<20))}})
	if err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("the error is %v", err)
	}
}

func TestValuesThatPythonTakesToo(t *testing.T) {
	s := load(t, Options{Environ: []string{
		"PULP_CACHE_ENABLED=TRUE", "PULP_DOMAIN_ENABLED=1", "PULP_DEBUG=yes", "PULP_REDIS_SSL=", "PULP_HIDE_GUARDED_DISTRIBUTIONS=0", "PULP_FLATPAK_INDEX=@none",
		"PULP_REDIS_PORT='6379'", "PULP_WORKER_TTL=45.0", "PULP_ALLOWED_IMPORT_PATHS=", "PULP_SESSION_COOKIE_SAMESITE=false", "PULP_KEEP_CHANGELOG_LIMIT=0",
		"PULP_ALLOWED_CONTENT_CHECKSUMS=['sha512','sha256','sha256']", "PULP_LOGGING__root__level=10",
	}})
	got := []any{
		s.CacheEnabled, s.DomainEnabled, s.Debug, s.RedisSSL, s.HideGuardedDistributions, s.FlatpakIndex,
		s.RedisPort, s.WorkerTTL, len(s.AllowedImportPaths), s.SessionCookieSameSite, s.KeepChangelogLimit,
		s.AllowedContentChecksums, s.LogLevels()[""],
	}
	want := []any{
		true, true, true, false, false, false,
		6379, 45 * time.Second, 0, SameSite(""), 0,
		[]pulp.Algorithm{pulp.SHA256, pulp.SHA512},
		slog.LevelDebug,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReplacedTablesKeepSafeDefaults(t *testing.T) {
	s := load(t, Options{Environ: []string{"PULP_REST_FRAMEWORK={PAGE_SIZE=10}", "PULP_CACHE_SETTINGS={}"}})
	if s.RestFramework.PageSize != 10 || len(s.RestFramework.PermissionClasses) != 1 || s.CacheSettings.ExpiresTTL != 10*time.Minute {
		t.Errorf("RestFramework %+v, CacheSettings %+v", s.RestFramework, s.CacheSettings)
	}
}

func TestDebugLogsKeepOtherLoggers(t *testing.T) {
	s := load(t, Options{Environ: []string{
		`PULP_LOGGING=@json {"dynaconf_merge": true, "loggers": {"": {"handlers": ["console"], "level": "DEBUG"}, "x": {"level": "CRITICAL"}, "y.z": {"level": "NOTSET"}, "z": {"level": 30}}}`,
	}})
	if diff := cmp.Diff(map[string]slog.Level{"": slog.LevelDebug, "x": levelCritical, "z": slog.LevelWarn}, s.LogLevels()); diff != "" {
		t.Errorf("levels (-want +got):\n%s", diff)
	}
	if _, ok := s.Get("LOGGING.formatters.simple"); !ok {
		t.Error("the formatters are lost")
	}
}

func TestAWrongTypeIsOneProblem(t *testing.T) {
	for _, variable := range []string{"PULP_ALLOWED_CONTENT_CHECKSUMS=sha256", "PULP_API_ROOT=5", "PULP_STORAGES=x", "PULP_REST_FRAMEWORK__DEFAULT_PERMISSION_CLASSES=x.Y"} {
		_, err := Load(Options{Environ: []string{variable}})
		if problems, _ := err.(Problems); len(problems) != 1 {
			t.Errorf("%s gives the error\n%v\nwant a single problem", variable, err)
		}
	}
}

func TestContainerVariables(t *testing.T) {
	s := load(t, Options{Environ: []string{
		"PULP_WORKERS=4", "PULP_API_WORKERS=3", "PULP_CONTENT_WORKERS=1", "PULP_GUNICORN_TIMEOUT=30", "PULP_GUNICORN_RELOAD=true",
		"PULP_API_WORKERS_MAX_REQUESTS=1000", "PULP_API_WORKERS_MAX_REQUESTS_JITTER=50", "PULP_HTTPS=TRUE", "PULP_DEFAULT_ADMIN_PASSWORD=1234",
		"PULP_ADMIN_PASSWORD='true'", "PULP_UI=false", "PULP_SIGNING_KEY_FINGERPRINT=AB", "COLLECTION_SIGNING_SERVICE=c", "CONTAINER_SIGNING_SERVICE=i",
		"GRANARY_TEST_TASKS=true", "GRANARY_TRUSTED_PROXIES=10.0.0.1/8, ::1", "GRANARY_MAX_BODY=1048576", "GRANARY_IGNORE_OLD_DATABASE=1", "GRANARY_ALLOW_NETWORK_FS=no",
		"PULP_PORT=tcp://10.0.0.1:80", "PULP_SERVICE_HOST=10.0.0.1", "PULP_API_SVC_SERVICE_PORT_API_24817=24817", "PULP_PORT_80_TCP_ADDR=10.0.0.1",
		"PULP_STATIC_ROOT=/var/lib/operator/static/", "PULP_GALAXY_REQUIRE_CONTENT_APPROVAL=false",
	}})
	got := []any{
		s.Workers, s.APIWorkers, s.ContentWorkers, s.GunicornTimeout, s.HTTPS, string(s.DefaultAdminPassword), string(s.AdminPassword), s.UI,
		s.SigningKeyFingerprint, s.CollectionSigningService, s.ContainerSigningService, s.TestTasks, fmt.Sprint(s.TrustedProxies), s.MaxBody, s.IgnoreOldDatabase,
		s.AllowNetworkFS, s.StaticRoot, s.GalaxyRequireContentApproval, s.Warnings(),
	}
	want := []any{
		4, 3, 1, 30 * time.Second, true, "1234", "'true'", false,
		"AB", "c", "i", true, fmt.Sprint([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}), int64(1 << 20), true,
		false, "/var/lib/operator/static/", false, []string(nil),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for text, want := range map[string]int{"": 1, "0": 1, "1": 1, "7": 7} {
		if s := load(t, Options{Environ: []string{"PULP_WORKERS=" + text}}); s.Workers != want {
			t.Errorf("PULP_WORKERS=%q gives %d workers, want %d", text, s.Workers, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	py := write(t, "settings.py", "CONTENT_ORIGN = 'x'\nGRANARY_TEST_TASKS = True\n")
	missing := filepath.Join(t.TempDir(), "missing.py")
	for _, tc := range []struct {
		o    Options
		want []string
	}{
		{Options{Environ: []string{"PULP_FOO=1", "PATH=/bin", "XPULP_X=1"}}, []string{"PULP_FOO: there is no setting FOO"}},
		{Options{Environ: []string{"PULP_CONTNT_ORIGIN=http://x"}}, []string{"PULP_CONTNT_ORIGIN: there is no setting CONTNT_ORIGIN; did you mean CONTENT_ORIGIN?"}},
		{Options{Files: []string{py}}, []string{py + ":1: there is no setting CONTENT_ORIGN; did you mean CONTENT_ORIGIN?", py + ":2: there is no setting GRANARY_TEST_TASKS"}},
		{Options{Files: []string{missing}}, []string{missing + ": there is no such settings file"}},
		{Options{Environ: []string{"PULP_CONTENT_ORIGIN=None"}}, []string{
			`PULP_CONTENT_ORIGIN: the value is the text "None"; write "@none" for no value`,
			`CONTENT_ORIGIN: "None" is not of the form https://pulp.example.com, so URLs of content will be wrong`,
		}},
		{Options{Environ: []string{"PULP_CONTENT_ORIGIN=pulp.example.com:80"}}, []string{`CONTENT_ORIGIN: "pulp.example.com:80" is not of the form https://pulp.example.com, so URLs of content will be wrong`}},
		{Options{Environ: []string{"PULP_SECRET_KEY=@merg hunter2"}}, []string{`PULP_SECRET_KEY: the value begins with "@" but has no known marker, so it is taken as text`}},
		{Options{Environ: []string{"PULP_SESSION_ENGINE=x", "PULP_AUTH_LDAP_X=1", "PULP_API_ROOT_REWRITE_HEADER=X"}, Files: []string{write(t, "a.py", "__all__ = []\nlower = 1\n")}}, nil},
		{Options{Environ: []string{"PULP_SECRET_KEY=SECRET"}}, []string{"SECRET_KEY is the text SECRET, which everybody knows"}},
		{Options{Environ: []string{"PULP_ALLOWED_HOSTS=@reset ['a']"}}, []string{"PULP_ALLOWED_HOSTS: the value needs no @reset: a value replaces the earlier one anyway"}},
		{Options{Environ: []string{"PULP_ENABLED_PLUGINS=['pulp_file','pulp_foo']"}, Plugins: []string{"pulp_file", "pulp_rpm"}}, []string{"ENABLED_PLUGINS: there is no plugin pulp_foo; there are pulp_file, pulp_rpm"}},
		{Options{Environ: []string{"PULP_AUTHENTICATION_BACKENDS=['a.B']"}}, []string{`AUTHENTICATION_BACKENDS: unknown class "a.B" is skipped`}},
		{Options{Environ: []string{"PULP_REST_FRAMEWORK__DEFAULT_AUTHENTICATION_CLASSES=@merge ['a.B', 'pulp_service.app.authentication.RHSamlAuthentication']"}}, []string{
			`REST_FRAMEWORK.DEFAULT_AUTHENTICATION_CLASSES: unknown class "a.B" is skipped`,
		}},
		{Options{Environ: []string{"PULP_AUTH_PASSWORD_VALIDATORS=[{NAME='a.B'}]"}}, []string{`AUTH_PASSWORD_VALIDATORS: unknown class "a.B" is skipped`}},
	} {
		if diff := cmp.Diff(tc.want, load(t, tc.o).Warnings()); diff != "" {
			t.Errorf("%q %q (-want +got):\n%s", tc.o.Environ, tc.o.Files, diff)
		}
	}
	s := load(t, Options{Environ: []string{"PULP_ENABLED_PLUGINS=['pulp_file']"}})
	if !s.PluginEnabled("pulp_file") || s.PluginEnabled("pulp_rpm") {
		t.Error("ENABLED_PLUGINS does not choose plugins")
	}
}

func TestSecretsAreMasked(t *testing.T) {
	const secret = "hunter2"
	s := load(t, Options{Environ: []string{
		"PULP_SECRET_KEY=" + secret, "PULP_REDIS_PASSWORD=" + secret, "PULP_REDIS_URL=redis://u:" + secret + "@h/0", "PULP_DEFAULT_ADMIN_PASSWORD=" + secret,
		"PULP_DATABASES__default__PASSWORD=" + secret, "PULP_DATABASES__default__OPTIONS__sslpassword=" + secret,
		"PULP_STORAGES=@merge {default={BACKEND='storages.backends.s3.S3Storage',OPTIONS={secret_key='" + secret + "',list=[{access_key='" + secret + "'}]}}}",
		"PULP_STORAGES__default__OPTIONS__cloudfront_key=" + secret, "PULP_AUTH_LDAP_BIND_PASSWORD=" + secret, "PULP_KAFKA_SASL_PASSWORD=" + secret,
		"PULP_LOGGING__handlers__x__address=http://u:" + secret + "@h/", "PULP_AUTH_LDAP_URI=@format ldap://u:" + secret + "@{this.DEPLOY_ROOT}",
		"PULP_SAML_CONFIG={privateKey='" + secret + "'}",
	}})
	var shown bytes.Buffer
	for _, e := range s.List(false) {
		fmt.Fprintln(&shown, e.Name, Format(e.Value), e.Value)
		for _, i := range s.Inspect(e.Name, false) {
			fmt.Fprintln(&shown, i.Name, Format(i.Value), i.Value)
		}
	}
	for _, key := range []string{"DATABASES.default.PASSWORD", "DATABASES.default", "STORAGES.default.OPTIONS.secret_key", "STORAGES.default.OPTIONS"} {
		for _, i := range s.Inspect(key, false) {
			fmt.Fprintln(&shown, i.Name, Format(i.Value))
		}
	}
	for _, key := range []string{"secret_key", "databases.default.password", "DATABASES", "STORAGES__default__OPTIONS__list"} {
		text, ok := s.Show(key, false)
		if full, _ := s.Show(key, true); !ok || !strings.Contains(full, secret) || strings.Contains(text, secret) {
			t.Errorf("%s is shown as %s, and with secrets as %s", key, text, full)
		}
	}
	fmt.Fprintf(&shown, "%v %+v %#v %#v %s\n", s, *s, s.Database, s, s.Storages)
	slog.New(slog.NewJSONHandler(&shown, nil)).Info("settings", "s", s, "db", s.Database, "key", s.SecretKey, "storage", s.Storages["default"], "options", s.Storages["default"].Options)
	if b, err := json.Marshal(s.SecretKey); err != nil {
		t.Error(err)
	} else {
		shown.Write(b)
	}
	for line := range strings.Lines(shown.String()) {
		if strings.Contains(line, secret) {
			t.Errorf("shown: %.300s", line)
		}
	}
	if !strings.Contains(shown.String(), "redis://u:"+Mask+"@h/0") && !strings.Contains(shown.String(), "REDIS_URL "+Mask) {
		t.Error("REDIS_URL is not shown at all")
	}
	found := 0
	for _, e := range s.List(true) {
		found += strings.Count(Format(e.Value), secret)
	}
	if found < 12 {
		t.Errorf("with secrets, List shows %d of them, want all", found)
	}
	if v, _ := s.Get("SECRET_KEY"); v != secret {
		t.Errorf("Get(SECRET_KEY) is %v", v)
	}
	for _, name := range []string{"PULP_SECRET_KEY=12345678", "PULP_DATABASES__default__PASSWORD=12345678", "PULP_REDIS_URL=12345678"} {
		if _, err := Load(Options{Environ: []string{name}}); err == nil || strings.Contains(err.Error(), "12345678") {
			t.Errorf("%s gives the error %v, want one without the value", name, err)
		}
	}
}

func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range Table() {
		if d.Doc == "" || d.Type == "" || seen[d.Name] {
			t.Errorf("%+v has no doc or type, or comes twice", d)
		}
		seen[d.Name] = true
		if d.Secret && !strings.Contains(d.Name, "PASSWORD") && d.Name != "SECRET_KEY" && d.Name != "REDIS_URL" {
			t.Errorf("%s is secret", d.Name)
		}
	}
	for _, name := range []string{"API_ROOT", "DATABASES", "PULP_WORKERS", "GRANARY_DATA", "STRUCTURED_EMPTY_REPO_ARCHITECTURES"} {
		if !seen[name] {
			t.Errorf("%s is not in the table", name)
		}
	}
	for i, typ := 0, reflect.TypeFor[Settings](); i < typ.NumField(); i++ {
		f := typ.Field(i)
		if f.IsExported() && f.Name != "SecretKeyFile" && f.Tag.Get("setting") == "" && f.Tag.Get("env") == "" {
			t.Errorf("the field %s has no name", f.Name)
		}
	}
}
