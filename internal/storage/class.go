package storage

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"granary/internal/errs"
)

// A Class is a kind of store, by the name of the Python class that Pulp has for it.
type Class string

// The classes that a domain can name.
const (
	FileSystem Class = "pulpcore.app.models.storage.FileSystem"
	S3         Class = "storages.backends.s3boto3.S3Boto3Storage"
	Azure      Class = "storages.backends.azure_storage.AzureStorage"
)

// Settings are the options of a store by their short names, all of the class's.
type Settings map[string]any

// An option is one of a class.
type option struct {
	name     string
	settings []string // the names of the global setting for it, which are taken too, in any case of letters
	required bool
	secret   bool // never shown
	missing  any  // the value where none is given
	check    func(v any) (any, any)
}

var fileOptions = []option{
	{name: "location", settings: []string{"MEDIA_ROOT"}, required: true, check: text(true)},
	{name: "base_url", settings: []string{"MEDIA_URL"}, missing: "", check: text(true)},
	{name: "file_permissions_mode", settings: []string{"FILE_UPLOAD_PERMISSIONS"}, missing: 420.0, check: mode(0o777)}, // what clients send must not become programs that run as another user
	{name: "directory_permissions_mode", settings: []string{"FILE_UPLOAD_DIRECTORY_PERMISSIONS"}, check: orNull(mode(0o7777))},
}

var s3Options = []option{
	{name: "access_key", settings: []string{"AWS_S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"}, required: true, secret: true, check: text(false)},
	{name: "secret_key", settings: []string{"AWS_S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"}, secret: true, check: orNull(text(false))},
	{name: "security_token", settings: []string{"AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"}, secret: true, check: orNull(text(false))},
	{name: "bucket_name", settings: []string{"AWS_STORAGE_BUCKET_NAME"}, required: true, check: text(false)},
	{name: "default_acl", settings: []string{"AWS_DEFAULT_ACL"}, check: orNull(text(false))},
	{name: "querystring_auth", settings: []string{"AWS_QUERYSTRING_AUTH"}, missing: true, check: boolean},
	{name: "querystring_expire", settings: []string{"AWS_QUERYSTRING_EXPIRE"}, missing: 3600.0, check: integer},
	{name: "location", settings: []string{"AWS_LOCATION"}, missing: "", check: text(true)},
	{name: "region_name", settings: []string{"AWS_S3_REGION_NAME"}, check: orNull(text(false))},
	{name: "endpoint_url", settings: []string{"AWS_S3_ENDPOINT_URL"}, check: orNull(text(false))},
	{name: "addressing_style", settings: []string{"AWS_S3_ADDRESSING_STYLE"}, check: orNull(text(false))},
	{name: "signature_version", settings: []string{"AWS_S3_SIGNATURE_VERSION"}, check: orNull(text(false))},
	{name: "object_parameters", settings: []string{"AWS_S3_OBJECT_PARAMETERS"}, missing: map[string]any{}, check: dict},
	{name: "custom_domain", settings: []string{"AWS_S3_CUSTOM_DOMAIN"}, check: orNull(text(false))},
	{name: "cloudfront_key_id", settings: []string{"AWS_CLOUDFRONT_KEY_ID"}, check: orNull(text(false))},
	{name: "cloudfront_key", settings: []string{"AWS_CLOUDFRONT_KEY"}, secret: true, check: orNull(text(false))},
	{name: "url_protocol", settings: []string{"AWS_S3_URL_PROTOCOL"}, missing: "https:", check: text(false)},
	{name: "use_ssl", settings: []string{"AWS_S3_USE_SSL"}, missing: true, check: boolean},
	{name: "verify", settings: []string{"AWS_S3_VERIFY"}, check: orNull(orEmpty(boolean))},
	{name: "proxies", settings: []string{"AWS_S3_PROXIES"}, check: orNull(dict)},
	{name: "file_overwrite", settings: []string{"AWS_S3_FILE_OVERWRITE"}, missing: true, check: boolean},
	{name: "gzip", settings: []string{"AWS_IS_GZIPPED"}, missing: false, check: boolean},
	{name: "gzip_content_types", settings: []string{"GZIP_CONTENT_TYPES"}, missing: []any{}, check: list},
	{name: "file_name_charset", settings: []string{"AWS_S3_FILE_NAME_CHARSET"}, missing: "utf-8", check: text(false)},
	{name: "max_memory_size", settings: []string{"AWS_S3_MAX_MEMORY_SIZE"}, missing: 0.0, check: integer},
	{name: "use_threads", settings: []string{"AWS_S3_USE_THREADS"}, missing: true, check: boolean},
	{name: "transfer_config", settings: []string{"AWS_S3_TRANSFER_CONFIG"}, check: orNull(nested(transferOptions))},
	{name: "session_profile", settings: []string{"AWS_S3_SESSION_PROFILE"}, check: ignored},
	{name: "client_config", settings: []string{"AWS_S3_CLIENT_CONFIG"}, check: ignored},
}

var transferOptions = []option{
	{name: "multipart_threshold", missing: 8388608.0, check: integer},
	{name: "max_concurrency", missing: 10.0, check: integer},
	{name: "multipart_chunksize", missing: 8388608.0, check: integer},
	{name: "num_download_attempts", missing: 5.0, check: integer},
	{name: "max_io_queue", missing: 100.0, check: integer},
	{name: "io_chunksize", missing: 262144.0, check: integer},
	{name: "use_threads", missing: true, check: boolean},
	{name: "max_bandwidth", check: orNull(integer)},
	{name: "preferred_transfer_client", missing: "auto", check: choice("auto", "classic", "crt")},
}

var azureOptions = []option{
	{name: "account_name", settings: []string{"AZURE_ACCOUNT_NAME"}, required: true, secret: true, check: text(false)},
	{name: "account_key", settings: []string{"AZURE_ACCOUNT_KEY"}, required: true, secret: true, check: text(false)},
	{name: "azure_container", settings: []string{"AZURE_CONTAINER"}, required: true, check: text(false)},
	{name: "object_parameters", settings: []string{"AZURE_OBJECT_PARAMETERS"}, missing: map[string]any{}, check: dict},
	{name: "azure_ssl", settings: []string{"AZURE_SSL"}, missing: true, check: boolean},
	{name: "upload_max_conn", settings: []string{"AZURE_UPLOAD_MAX_CONN"}, missing: 2.0, check: integer},
	{name: "timeout", settings: []string{"AZURE_CONNECTION_TIMEOUT_SECS"}, missing: 20.0, check: integer},
	{name: "max_memory_size", settings: []string{"AZURE_BLOB_MAX_MEMORY_SIZE"}, missing: 2097152.0, check: integer},
	{name: "expiration_secs", settings: []string{"AZURE_URL_EXPIRATION_SECS"}, check: orNull(integer)},
	{name: "overwrite_files", settings: []string{"AZURE_OVERWRITE_FILES"}, missing: true, check: boolean},
	{name: "location", settings: []string{"AZURE_LOCATION"}, missing: "", check: text(true)},
	{name: "cache_control", settings: []string{"AZURE_CACHE_CONTROL"}, check: orNull(text(false))},
	{name: "sas_token", settings: []string{"AZURE_SAS_TOKEN"}, secret: true, check: orNull(text(false))},
	{name: "endpoint_suffix", settings: []string{"AZURE_ENDPOINT_SUFFIX"}, missing: "core.windows.net", check: text(false)},
	{name: "custom_domain", settings: []string{"AZURE_CUSTOM_DOMAIN"}, check: orNull(text(false))},
	{name: "connection_string", settings: []string{"AZURE_CONNECTION_STRING"}, secret: true, check: orNull(text(false))},
	{name: "token_credential", settings: []string{"AZURE_TOKEN_CREDENTIAL"}, secret: true, check: orNull(text(false))},
	{name: "api_version", settings: []string{"AZURE_API_VERSION"}, check: orNull(text(false))},
}

// Known says whether it is a class that a domain can name.
func (c Class) Known() bool { return c == FileSystem || c == S3 || c == Azure }

func (c Class) options() []option {
	switch c {
	case S3:
		return s3Options
	case Azure:
		return azureOptions
	}
	return fileOptions
}

// Parse reads the settings that a client gave, JSON or JSON in a text, over those that there were before. What is wrong with
// them is returned as it is reported of the field storage_settings, else nil.
func (c Class) Parse(given any, before Settings) (Settings, any) {
	if s, ok := given.(string); ok { // as a form has them
		if err := json.Unmarshal([]byte(s), &given); err != nil {
			return nil, []string{"Improper JSON string passed in"}
		}
	}
	values, ok := given.(map[string]any)
	if !ok {
		return nil, []string{"Storage settings should be a JSON object."}
	}
	options := c.options()
	byName := make(map[string]any, len(values))
	unknown := map[string]any{}
	for key, value := range values {
		i := slices.IndexFunc(options, func(o option) bool { return o.name == key })
		if i >= 0 {
			if _, ok := byName[key]; !ok { // as Pulp does: the setting's name wins over the short one
				byName[key] = value
			}
			continue
		}
		i = slices.IndexFunc(options, func(o option) bool {
			return slices.ContainsFunc(o.settings, func(s string) bool { return strings.EqualFold(s, key) })
		})
		if i < 0 {
			unknown[key] = "Unexpected field"
			continue
		}
		byName[options[i].name] = value
	}
	if len(unknown) > 0 {
		return nil, unknown
	}
	settings, wrong := fill(options, byName, before)
	if len(wrong) > 0 {
		return nil, wrong
	}
	if c == S3 && settings["secret_key"] == nil && settings["security_token"] == nil {
		return nil, map[string]any{errs.NonField: []string{"One of 'secret_key' or 'security_token' must be set."}}
	}
	return settings, nil
}

// fill checks the given values and adds those that were there before or are missing.
func fill(options []option, given, before map[string]any) (Settings, map[string]any) {
	settings, wrong := Settings{}, map[string]any{}
	for _, o := range options {
		value, ok := given[o.name]
		old, had := before[o.name]
		switch {
		case ok:
			checked, problem := o.check(value)
			if problem != nil {
				wrong[o.name] = problem
			}
			settings[o.name] = checked
		case had:
			settings[o.name] = old
		case o.required:
			wrong[o.name] = []string{"This field is required."}
		default:
			settings[o.name] = o.missing
		}
	}
	return settings, wrong
}

// Append writes the settings as clients see them, in the order of their declaration, without secrets.
func (c Class) Append(b []byte, s Settings) []byte {
	b = append(b, `{"hidden_fields":[`...)
	comma := ""
	for _, o := range c.options() {
		if o.secret {
			b = fmt.Appendf(b, `%s{"name":%q,"is_set":%t}`, comma, o.name, s[o.name] != nil)
			comma = ","
		}
	}
	b = append(b, ']')
	for _, o := range c.options() {
		if o.secret {
			continue
		}
		value, err := json.Marshal(s[o.name])
		if err != nil {
			value = []byte("null")
		}
		b = fmt.Appendf(b, `,%q:%s`, o.name, value)
	}
	return append(b, '}')
}

// The checks return the value as it is kept, or what is wrong with it.

func problem(text string) any { return []string{text} }

func orNull(check func(any) (any, any)) func(any) (any, any) {
	return func(v any) (any, any) {
		if v == nil {
			return nil, nil
		}
		return check(v)
	}
}

// orEmpty takes an empty text for null.
func orEmpty(check func(any) (any, any)) func(any) (any, any) {
	return func(v any) (any, any) {
		if v == "" {
			return nil, nil
		}
		return check(v)
	}
}

func notNull(v any) any {
	if v == nil {
		return problem("This field may not be null.")
	}
	return nil
}

// maxText is how long, in bytes, a text among the settings can be.
const maxText = 16 << 10

func text(empty bool) func(any) (any, any) {
	return func(v any) (any, any) {
		if p := notNull(v); p != nil {
			return nil, p
		}
		var s string
		switch v := v.(type) {
		case string:
			s = strings.TrimSpace(v)
		case float64:
			s = strconv.FormatFloat(v, 'f', -1, 64)
		default:
			return nil, problem("Not a valid string.")
		}
		switch {
		case s == "" && !empty:
			return nil, problem("This field may not be blank.")
		case strings.ContainsRune(s, 0):
			return nil, problem("Null characters are not allowed.")
		case len(s) > maxText:
			return nil, problem(fmt.Sprintf("Ensure this field has no more than %d characters.", maxText))
		}
		return s, nil
	}
}

func integer(v any) (any, any) {
	if p := notNull(v); p != nil {
		return nil, p
	}
	n, ok := v.(float64)
	if s, text := v.(string); text {
		i, err := strconv.ParseInt(strings.TrimSpace(s), 10, 53)
		n, ok = float64(i), err == nil
	}
	if !ok || n != math.Trunc(n) || math.Abs(n) > 1<<53 {
		return nil, problem("A valid integer is required.")
	}
	return n, nil
}

// mode takes permissions.
func mode(most float64) func(any) (any, any) {
	return func(v any) (any, any) {
		n, p := integer(v)
		switch {
		case p != nil:
			return nil, p
		case n.(float64) < 0:
			return nil, problem("Ensure this value is greater than or equal to 0.")
		case n.(float64) > most:
			return nil, problem(fmt.Sprintf("Ensure this value is less than or equal to %.0f.", most))
		}
		return n, nil
	}
}

func boolean(v any) (any, any) {
	if p := notNull(v); p != nil {
		return nil, p
	}
	switch v := v.(type) {
	case bool:
		return v, nil
	case float64:
		if v == 0 || v == 1 {
			return v == 1, nil
		}
	case string:
		switch strings.ToLower(v) {
		case "true", "t", "yes", "y", "on", "1":
			return true, nil
		case "false", "f", "no", "n", "off", "0":
			return false, nil
		}
	}
	return nil, problem("Must be a valid boolean.")
}

func choice(names ...string) func(any) (any, any) {
	return func(v any) (any, any) {
		if p := notNull(v); p != nil {
			return nil, p
		}
		if s, ok := v.(string); ok && slices.Contains(names, s) {
			return s, nil
		}
		return nil, problem(fmt.Sprintf("%q is not a valid choice.", fmt.Sprint(v)))
	}
}

// pythonType names a JSON value's type as error texts do.
func pythonType(v any) string {
	switch v := v.(type) {
	case bool:
		return "bool"
	case float64:
		if v == math.Trunc(v) {
			return "int"
		}
		return "float"
	case string:
		return "str"
	case []any:
		return "list"
	}
	return "dict"
}

func dict(v any) (any, any) {
	if p := notNull(v); p != nil {
		return nil, p
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, problem(fmt.Sprintf("Expected a dictionary of items but got type %q.", pythonType(v)))
	}
	return m, nil
}

func list(v any) (any, any) {
	if p := notNull(v); p != nil {
		return nil, p
	}
	l, ok := v.([]any)
	if !ok {
		return nil, problem(fmt.Sprintf("Expected a list of items but got type %q.", pythonType(v)))
	}
	return l, nil
}

// nested takes options within an option. As in Pulp, those that it doesn't know are left out.
func nested(options []option) func(any) (any, any) {
	return func(v any) (any, any) {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, map[string]any{errs.NonField: []string{"Invalid data. Expected a dictionary, but got " + pythonType(v) + "."}}
		}
		settings, wrong := fill(options, m, nil)
		if len(wrong) > 0 {
			return nil, wrong
		}
		return map[string]any(settings), nil
	}
}

// ignored is the check of what Pulp takes and has no use for.
func ignored(any) (any, any) { return nil, nil }
