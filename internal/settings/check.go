package settings

import (
	"log/slog"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"granary/internal/jq"
	"granary/internal/pulp"
	"granary/internal/settings/dynaconf"
)

// containerVariables begin with PULP_ but are no settings, and have no effect on one process.
var containerVariables = map[string]bool{
	"PULP_SETTINGS": true, "PULP_GUNICORN_RELOAD": true,
	"PULP_API_WORKERS_MAX_REQUESTS": true, "PULP_API_WORKERS_MAX_REQUESTS_JITTER": true,
	"PULP_CONTENT_WORKERS_MAX_REQUESTS": true, "PULP_CONTENT_WORKERS_MAX_REQUESTS_JITTER": true,
}

// Settings of the reference and its libraries that are taken without a word, as they have no effect here or only one that [Settings.Get] serves.
var acceptedNames = []string{
	"ABSOLUTE_URL_OVERRIDES", "ADMINS", "ADMIN_SITE_URL", "APPEND_SLASH", "ASGI_APPLICATION", "AUTH_USER_MODEL", "BASE_DIR", "CACHES", "CONN_MAX_AGE",
	"CSRF_FAILURE_VIEW", "CSRF_USE_SESSIONS", "DATABASE_ROUTERS", "DATA_UPLOAD_MAX_NUMBER_FILES", "DEBUG_PROPAGATE_EXCEPTIONS", "DEFAULT_AUTO_FIELD",
	"DEFAULT_CHARSET", "DEFAULT_EXCEPTION_REPORTER", "DEFAULT_FILE_STORAGE", "DEFAULT_FROM_EMAIL",
	"FILE_UPLOAD_DIRECTORY_PERMISSIONS", "FILE_UPLOAD_HANDLERS", "FILE_UPLOAD_MAX_MEMORY_SIZE", "FILE_UPLOAD_PERMISSIONS", "FORCE_SCRIPT_NAME", "FORMAT_MODULE_PATH", "INSTALLED_APPS",
	"INTERNAL_IPS", "IGNORABLE_404_URLS", "LANGUAGES", "LOCALE_PATHS", "LOGGING_CONFIG", "LOGOUT_REDIRECT_URL", "MANAGERS", "MEDIA_URL", "MESSAGE_STORAGE", "MESSAGE_TAGS",
	"PASSWORD_HASHERS", "PASSWORD_RESET_TIMEOUT", "PREPEND_WWW", "ROOT_URLCONF", "SECRET_KEY_FALLBACKS", "SERVER_EMAIL",
	"SESSION_CACHE_ALIAS", "SESSION_ENGINE", "SESSION_FILE_PATH", "SESSION_SERIALIZER", "SILENCED_SYSTEM_CHECKS", "SITE_ID",
	"STATICFILES_DIRS", "STATICFILES_FINDERS", "STATICFILES_STORAGE", "TEMPLATES", "TEST_RUNNER", "USE_I18N", "USE_L10N", "USE_TZ", "WSGI_APPLICATION",
	"RH_ENTITLEMENT_REQUIRED",
}

var acceptedPrefixes = []string{
	"AUTH_LDAP_", "EMAIL_", "GALAXY_", "HIJACK_", "LANGUAGE_COOKIE_", "SOCIAL_AUTH_",
}

func accepted(name string) bool {
	return slices.Contains(acceptedNames, name) ||
		slices.ContainsFunc(acceptedPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// The Python classes that stand for a feature.
var (
	authenticationClasses = []string{
		"pulpcore.app.authentication.BasicAuthentication",
		"pulpcore.app.authentication.PulpRemoteUserAuthentication",
		"pulpcore.app.authentication.JSONHeaderRemoteAuthentication",
		"rest_framework.authentication.BasicAuthentication",
		"rest_framework.authentication.SessionAuthentication",
		"rest_framework.authentication.RemoteUserAuthentication",
		"rest_framework.authentication.TokenAuthentication",
		"pulp_service.app.authentication.*",
		"galaxy_ng.app.auth.*",
	}
	permissionClasses = []string{
		"pulpcore.app.access_policy.AccessPolicyFromDB", "pulpcore.plugin.access_policy.AccessPolicyFromDB",
		"pulpcore.app.access_policy.AccessPolicyFromSettings", "pulpcore.plugin.access_policy.AccessPolicyFromSettings",
		"pulpcore.app.access_policy.DefaultAccessPolicy", "pulpcore.plugin.access_policy.DefaultAccessPolicy",
		"rest_framework.permissions.IsAuthenticated", "rest_framework.permissions.IsAdminUser", "rest_framework.permissions.AllowAny",
		"pulp_service.app.authorization.DomainBasedPermission", "pulp_service.app.access_policy.PulpServiceAccessPolicy",
	}
	authenticationBackends = []string{
		"django.contrib.auth.backends.ModelBackend", "django.contrib.auth.backends.RemoteUserBackend",
		"pulpcore.app.authentication.PulpNoCreateRemoteUserBackend", "pulpcore.backends.ObjectRolePermissionBackend",
		"django_auth_ldap.backend.LDAPBackend", "social_core.backends.keycloak.KeycloakOAuth2",
		"pulp_service.app.authentication.*", "galaxy_ng.app.auth.*",
	}
	passwordValidators = []string{
		"django.contrib.auth.password_validation.UserAttributeSimilarityValidator", "django.contrib.auth.password_validation.MinimumLengthValidator",
		"django.contrib.auth.password_validation.CommonPasswordValidator", "django.contrib.auth.password_validation.NumericPasswordValidator",
	}
	redirectingStorages = []string{
		"pulpcore.app.models.storage.FileSystem",
		"storages.backends.s3.S3Storage", "storages.backends.s3boto3.S3Boto3Storage",
		"storages.backends.azure_storage.AzureStorage", "storages.backends.gcloud.GoogleCloudStorage",
		"pulp_service.app.storage.AIPCCStorageBackend", "pulp_service.app.storage.OCIStorage", "pulp_service.app.storage.OCIStorageBackend",
	}
	plainStorages   = []string{"pulpcore.app.models.storage.PulpSFTPStorage"}
	tokenAlgorithms = []string{"ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"}
)

const jsonHeaderClass = "pulpcore.app.authentication.JSONHeaderRemoteAuthentication"

// isKnown says whether a class is in the list, which may have whole modules (as a.b.*).
func isKnown(class string, list []string) bool {
	return slices.ContainsFunc(list, func(k string) bool {
		module, ok := strings.CutSuffix(k, "*")
		return class == k || ok && strings.HasPrefix(class, module)
	})
}

// check reports values that have the right type but cannot be used.
func (l *loader) check(s *Settings) {
	for _, p := range []struct{ name, value string }{
		{"API_ROOT", s.APIRoot}, {"CONTENT_PATH_PREFIX", s.ContentPathPrefix}, {"STATIC_URL", s.StaticURL}, {"PYPI_PATH_PREFIX", s.PyPIPathPrefix},
	} {
		if !strings.HasPrefix(p.value, "/") || !strings.HasSuffix(p.value, "/") {
			l.fail(p.name, "The %s must start and end with a '/', currently it is '%s'", p.name, p.value)
		}
	}
	if o := s.ContentOrigin; o != "" {
		if u, err := url.Parse(o); err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" {
			l.warn("CONTENT_ORIGIN: %q is not of the form https://pulp.example.com, so URLs of content will be wrong", maskURL(o))
		}
	}
	l.checkChecksums(s)
	for _, p := range []struct {
		name  string
		paths []string
	}{{"ALLOWED_IMPORT_PATHS", s.AllowedImportPaths}, {"ALLOWED_EXPORT_PATHS", s.AllowedExportPaths}} {
		for _, path := range p.paths {
			if !filepath.IsAbs(path) {
				l.fail(p.name, "expected paths that begin with /, found %q", path)
			}
		}
	}
	l.checkStorage(s)
	if s.SecretKey == "SECRET" {
		l.warn("SECRET_KEY is the text SECRET, which everybody knows")
	}
	l.checkAuthentication(s)
	l.checkPlugins(s)
	l.checkLevels(s)
	l.oneOf("WORKER_TYPE", s.WorkerType, "pulpcore", "redis")
	l.oneOf("KAFKA_SECURITY_PROTOCOL", strings.ToLower(s.KafkaSecurityProtocol), "plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
	l.oneOf("SESSION_COOKIE_SAMESITE", string(s.SessionCookieSameSite), "Lax", "Strict", "None", "")
	l.oneOf("CSRF_COOKIE_SAMESITE", string(s.CSRFCookieSameSite), "Lax", "Strict", "None", "")
	if !s.TokenAuthDisabled && s.TokenSignatureAlgorithm != "" {
		l.oneOf("TOKEN_SIGNATURE_ALGORITHM", s.TokenSignatureAlgorithm, tokenAlgorithms...)
	}
	for _, p := range []struct {
		name string
		port int
	}{{"REDIS_PORT", s.RedisPort}, {"CLAMAV_PORT", s.ClamAVPort}} {
		if p.port < 0 || p.port > 65535 {
			l.fail(p.name, "expected a port, found %d", p.port)
		}
	}
	if n := len(s.SecureProxySSLHeader); n != 0 && n != 2 {
		l.fail("SECURE_PROXY_SSL_HEADER", "expected the name of a header and its value, found %d items", n)
	}
	s.Workers = max(s.Workers, 1)
}

func (l *loader) oneOf(name, value string, values ...string) {
	if slices.Contains(values, value) {
		return
	}
	values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" })
	l.fail(name, "expected one of %s, found %q", strings.Join(values, ", "), value)
}

func (l *loader) checkChecksums(s *Settings) {
	const name = "ALLOWED_CONTENT_CHECKSUMS"
	for _, a := range s.AllowedContentChecksums {
		if !slices.Contains(pulp.Algorithms[:], a) {
			l.fail(name, "unknown algorithm %q; there are md5, sha1, sha224, sha256, sha384 and sha512", string(a))
		}
	}
	if !slices.Contains(s.AllowedContentChecksums, pulp.SHA256) {
		l.fail(name, "sha256 is missing; artifacts are named by it")
	}
	order := func(a pulp.Algorithm) int { return slices.Index(pulp.Algorithms[:], a) }
	slices.SortFunc(s.AllowedContentChecksums, func(a, b pulp.Algorithm) int { return order(a) - order(b) })
	s.AllowedContentChecksums = slices.Compact(s.AllowedContentChecksums)
}

func (l *loader) checkStorage(s *Settings) {
	const path = "STORAGES.default.BACKEND"
	backend := s.Storages["default"].Backend
	switch {
	case slices.Contains(redirectingStorages, backend):
	case !slices.Contains(plainStorages, backend):
		l.fail(path, "expected the class of a storage backend (as storages.backends.s3.S3Storage), found %q", backend)
	case s.RedirectToObjectStorage:
		l.fail(path, "REDIRECT_TO_OBJECT_STORAGE is true, but %s has no URLs to redirect to", backend)
	}
	if backend == redirectingStorages[0] && s.MediaRoot == "" {
		l.fail("MEDIA_ROOT", "expected a folder, as artifacts are kept in files")
	}
}

func (l *loader) checkAuthentication(s *Settings) {
	l.checkPermissions("REST_FRAMEWORK.DEFAULT_PERMISSION_CLASSES", s.RestFramework.PermissionClasses)
	if s.AnsiblePermissionClasses == nil {
		s.AnsiblePermissionClasses = s.RestFramework.PermissionClasses
	} else {
		l.checkPermissions("ANSIBLE_PERMISSION_CLASSES", s.AnsiblePermissionClasses)
	}
	skipped := func(name string, classes, known []string) {
		for _, c := range classes {
			if !isKnown(c, known) {
				l.warn("%s: unknown class %q is skipped", name, c)
			}
		}
	}
	skipped("REST_FRAMEWORK.DEFAULT_AUTHENTICATION_CLASSES", s.RestFramework.AuthenticationClasses, authenticationClasses)
	if s.AnsibleAuthenticationClasses == nil {
		s.AnsibleAuthenticationClasses = s.RestFramework.AuthenticationClasses
	} else {
		skipped("ANSIBLE_AUTHENTICATION_CLASSES", s.AnsibleAuthenticationClasses, authenticationClasses)
	}
	skipped("AUTHENTICATION_BACKENDS", s.AuthenticationBackends, authenticationBackends)
	for _, v := range s.AuthPasswordValidators {
		skipped("AUTH_PASSWORD_VALIDATORS", []string{v.Name}, passwordValidators)
	}
	if slices.Contains(s.RestFramework.AuthenticationClasses, jsonHeaderClass) {
		if !strings.HasPrefix(s.AuthenticationJSONHeader, "HTTP_") {
			l.fail("AUTHENTICATION_JSON_HEADER", "must start with 'HTTP_', currently it is '%s'", s.AuthenticationJSONHeader)
		}
		if !strings.HasPrefix(s.AuthenticationJSONHeaderJQFilter, ".") {
			l.fail("AUTHENTICATION_JSON_HEADER_JQ_FILTER", "must start with '.', currently it is '%s'", s.AuthenticationJSONHeaderJQFilter)
		} else if _, err := jq.Compile(s.AuthenticationJSONHeaderJQFilter); err != nil {
			l.fail("AUTHENTICATION_JSON_HEADER_JQ_FILTER", "is no jq filter: %v", err)
		}
	}
	remote := slices.ContainsFunc(s.RestFramework.AuthenticationClasses, func(c string) bool { return strings.HasSuffix(c, "RemoteUserAuthentication") })
	if remote && !strings.HasPrefix(s.RemoteUserEnvironName, "HTTP_") {
		l.warn("REMOTE_USER_ENVIRON_NAME: %q is no header (as HTTP_X_REMOTE_USER): nobody can log in by it", s.RemoteUserEnvironName)
	}
	if len(s.TrustedProxies) == 0 && (remote || slices.Contains(s.RestFramework.AuthenticationClasses, jsonHeaderClass)) {
		l.warn("GRANARY_TRUSTED_PROXIES is empty: nobody can log in by a header")
	}
}

// checkPermissions reports unknown permission classes, which must not be skipped: fewer classes allow more.
func (l *loader) checkPermissions(name string, classes []string) {
	if len(classes) == 0 {
		l.fail(name, "expected at least one class: without any, everybody may do everything")
	}
	for _, c := range classes {
		if !isKnown(c, permissionClasses) {
			l.fail(name, "unknown class %q", c)
		}
	}
}

func (l *loader) checkPlugins(s *Settings) {
	if l.Plugins == nil {
		return
	}
	for _, p := range s.EnabledPlugins {
		if !slices.Contains(l.Plugins, p) {
			l.warn("ENABLED_PLUGINS: there is no plugin %s; there are %s", p, strings.Join(l.Plugins, ", "))
		}
	}
}

const levelCritical = slog.LevelError + 4

var pythonLevels = map[string]slog.Level{
	"CRITICAL": levelCritical, "FATAL": levelCritical, "ERROR": slog.LevelError, "WARNING": slog.LevelWarn, "WARN": slog.LevelWarn,
	"INFO": slog.LevelInfo, "DEBUG": slog.LevelDebug,
}

// checkLevels reads the levels out of LOGGING.
func (l *loader) checkLevels(s *Settings) {
	l.levels = map[string]slog.Level{"": slog.LevelInfo}
	level := func(logger string, v any, path string) {
		table, _ := v.(map[string]any)
		switch x := table["level"].(type) {
		case nil:
		case string:
			n, ok := pythonLevels[strings.ToUpper(x)]
			switch {
			case ok:
				l.levels[logger] = n
			case strings.EqualFold(x, "NOTSET"): // that of the root logger
			default:
				l.fail(path+".level", "expected DEBUG, INFO, WARNING, ERROR or CRITICAL, found %q", x)
			}
		case int64: // 10 is Python's DEBUG, 20 its INFO, and so on
			if x > 0 {
				l.levels[logger] = slog.Level((min(x, 50) - 20) * 4 / 10)
			}
		default:
			l.fail(path+".level", "expected a level, found %s", dynaconf.Kind(x))
		}
	}
	level("", s.Logging["root"], "LOGGING.root")
	loggers, _ := s.Logging["loggers"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(loggers)) {
		level(name, loggers[name], "LOGGING.loggers."+name)
	}
	if s.Debug {
		l.levels[""] = min(l.levels[""], slog.LevelDebug)
	}
}
