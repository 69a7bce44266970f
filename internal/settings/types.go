package settings

import (
	"log/slog"
	"time"
)

// Dict is a setting that is passed on as it was given. Its values are nil, bool, int64, float64, string,
// time.Time, []any and map[string]any. It prints with secrets masked.
type Dict map[string]any

// A Secret prints as asterisks; convert it to a string to use it.
type Secret string

// Mask is what is shown in place of secrets.
const Mask = "********"

// String returns the mask, or nothing for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return Mask
}

// GoString masks the secret in %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue masks the secret in logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText masks the secret in JSON and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// An Engine is a kind of database.
type Engine string

// The engines.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// A Database is where everything but files is kept.
type Database struct {
	Engine Engine
	File   string // of SQLite
	DSN    Secret // of PostgreSQL: a connection URL, made of HOST, PORT, NAME, USER, PASSWORD and OPTIONS
	Conns  int    // most connections at once; 0: the database package's choice
}

// CacheSettings is how the content cache behaves.
type CacheSettings struct {
	ExpiresTTL time.Duration `key:"EXPIRES_TTL" unit:"s"` // 0: entries do not expire
}

// Storages are storage backends by alias.
type Storages map[string]Storage

// A Storage is one backend of STORAGES.
type Storage struct {
	Backend string `key:"BACKEND"` // a Python class, as storages.backends.s3.S3Storage
	Options Dict   `key:"OPTIONS"`
}

// LogValue masks the secrets among the options.
func (s Storage) LogValue() slog.Value {
	return slog.GroupValue(slog.String("backend", s.Backend), slog.Any("options", s.Options))
}

// RestFramework is what counts of REST_FRAMEWORK.
type RestFramework struct {
	AuthenticationClasses []string `key:"DEFAULT_AUTHENTICATION_CLASSES"` // in order; the first gives the challenge of a 401
	PermissionClasses     []string `key:"DEFAULT_PERMISSION_CLASSES"`
	PageSize              int      `key:"PAGE_SIZE"` // items of a list's page when the client does not say
}

// A PasswordValidator is one rule for new passwords.
type PasswordValidator struct {
	Name    string `key:"NAME"` // a Python class
	Options Dict   `key:"OPTIONS"`
}

// SameSite is the attribute of a cookie: Strict, Lax, None, or nothing.
type SameSite string
