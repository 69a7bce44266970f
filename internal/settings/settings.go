package settings

import (
	"net/netip"
	"time"

	"granary/internal/pulp"
)

// Settings holds every setting once. A field's tags are the table that the loader works from:
//
//	setting  the name that files and PULP_ variables use
//	env      the whole name of an environment variable that is no setting (files cannot give it)
//	default  as the text of a variable, so that "5" is a number, "'5'" text and "@none" nothing;
//	         {fqdn} stands for the machine's name
//	unit     of a time.Duration that is written as a plain number: s or m
//	min      the smallest number allowed
//	secret   masked where settings are shown
//
// An absent value (null) is the zero value of the field. Values must not be changed after [Load].
type Settings struct {
	// The data folder: what --data or this variable says, else DEPLOY_ROOT. It holds db/ with the SQLite file, and the control socket.
	Data string `env:"GRANARY_DATA"`
	// The base of the folders below.
	DeployRoot string `setting:"DEPLOY_ROOT" default:"/var/lib/pulp"`
	// Where artifacts lie, with Pulp's layout; empty when an object store holds them.
	MediaRoot string `setting:"MEDIA_ROOT" default:"@format {this.DEPLOY_ROOT}/media"`
	// Where collectstatic writes to.
	StaticRoot string `setting:"STATIC_ROOT" default:"@format {this.DEPLOY_ROOT}/assets"`
	// The URL path of the API documentation's and the admin's files; starts and ends with a slash.
	StaticURL string `setting:"STATIC_URL" default:"/assets/"`
	// Scratch folder of tasks; best on the same filesystem as the media.
	WorkingDirectory string `setting:"WORKING_DIRECTORY" default:"@format {this.DEPLOY_ROOT}/tmp"`
	// Where request bodies are kept while they arrive.
	FileUploadTempDir string `setting:"FILE_UPLOAD_TEMP_DIR" default:"@format {this.WORKING_DIRECTORY}"`
	// Prefix of upload chunks in the storage.
	ChunkedUploadDir string `setting:"CHUNKED_UPLOAD_DIR" default:"upload"`

	// The databases; only "default" is used. Without this setting it is an SQLite file in the data folder.
	Database Database `setting:"DATABASES" default:"{default={ENGINE='django.db.backends.postgresql',NAME='pulp',USER='pulp',CONN_MAX_AGE=0}}"`
	// File of Fernet keys, one a line: the first encrypts secrets in the database, all decrypt.
	DBEncryptionKey string `setting:"DB_ENCRYPTION_KEY" default:"/etc/pulp/certs/database_fields.symmetric.key"`
	// Signs sessions, CSRF tokens and redirects; all processes must share it. Empty: use the one in SecretKeyFile.
	SecretKey Secret `setting:"SECRET_KEY" default:"" secret:"true"`
	// Where the server keeps a secret key that it made itself.
	SecretKeyFile string

	// Redis, as redis://, rediss:// or unix://; wins over the parts below.
	RedisURL Secret `setting:"REDIS_URL" default:"@none" secret:"true"`
	// Host of Redis.
	RedisHost string `setting:"REDIS_HOST" default:"@none"`
	// Port of Redis.
	RedisPort int `setting:"REDIS_PORT" default:"@none"`
	// Number of the Redis database.
	RedisDB int `setting:"REDIS_DB" default:"0" min:"0"`
	// Password of Redis.
	RedisPassword Secret `setting:"REDIS_PASSWORD" default:"@none" secret:"true"`
	// Whether to speak TLS to Redis.
	RedisSSL bool `setting:"REDIS_SSL" default:"false"`
	// File of CA certificates for Redis.
	RedisSSLCACerts string `setting:"REDIS_SSL_CA_CERTS" default:"@none"`
	// Whether content answers are cached and say so in X-PULP-CACHE.
	CacheEnabled bool `setting:"CACHE_ENABLED" default:"false"`
	// How the content cache behaves.
	CacheSettings CacheSettings `setting:"CACHE_SETTINGS" default:"{EXPIRES_TTL=600}"`

	// Storage backends by alias; "default" holds the artifacts of the default domain.
	Storages Storages `setting:"STORAGES" default:"{default={BACKEND='pulpcore.app.models.storage.FileSystem'},staticfiles={BACKEND='django.contrib.staticfiles.storage.StaticFilesStorage'}}"`
	// Whether clients are sent to the object store for content, where there is one.
	RedirectToObjectStorage bool `setting:"REDIRECT_TO_OBJECT_STORAGE" default:"true"`

	// URL prefix of api/v3/; starts and ends with a slash.
	APIRoot string `setting:"API_ROOT" default:"/pulp/"`
	// Request header whose value replaces API_ROOT, as a header's name.
	APIRootRewriteHeader string `setting:"API_ROOT_REWRITE_HEADER" default:"@none"`
	// Scheme, host and port of content URLs; empty: they are relative.
	ContentOrigin string `setting:"CONTENT_ORIGIN" default:"@none"`
	// URL path of content; starts and ends with a slash.
	ContentPathPrefix string `setting:"CONTENT_PATH_PREFIX" default:"/pulp/content/"`
	// Whether there are domains.
	DomainEnabled bool `setting:"DOMAIN_ENABLED" default:"false"`
	// Leave distributions with a content guard out of listings.
	HideGuardedDistributions bool `setting:"HIDE_GUARDED_DISTRIBUTIONS" default:"false"`
	// Names of the plugins to use, as pulp_rpm; nil means all. See [Settings.PluginEnabled].
	EnabledPlugins []string `setting:"ENABLED_PLUGINS" default:"@none"`
	// Offers the experimental API version 4.
	EnableV4API bool `setting:"ENABLE_V4_API" default:"false"`

	// The digests that artifacts have, weakest first; always with sha256.
	AllowedContentChecksums []pulp.Algorithm `setting:"ALLOWED_CONTENT_CHECKSUMS" default:"['sha224','sha256','sha384','sha512']"`
	// Path prefixes that imports and file:// remotes may read.
	AllowedImportPaths []string `setting:"ALLOWED_IMPORT_PATHS" default:"[]"`
	// Path prefixes that exports may write.
	AllowedExportPaths []string `setting:"ALLOWED_EXPORT_PATHS" default:"[]"`

	// Host names that requests may carry; "*" is any, ".example.com" a domain with its subdomains.
	AllowedHosts []string `setting:"ALLOWED_HOSTS" default:"['*']"`
	// Raises the log level; never shows details to clients.
	Debug bool `setting:"DEBUG" default:"false"`
	// Log levels and handlers, in the form of Python's logging.config. See [Settings.LogLevels].
	Logging Dict `setting:"LOGGING" default:"{version=1,disable_existing_loggers=false,formatters={simple={format='pulp [%(correlation_id)s]: %(name)s:%(levelname)s: %(message)s'}},handlers={console={class='logging.StreamHandler',formatter='simple'}},loggers={''={handlers=['console'],level='INFO'}}}"`
	// Which header carries the correlation id (RETURN_HEADER, GUID_HEADER_NAME, EXPOSE_HEADER, VALIDATE_GUID).
	DjangoGUID Dict `setting:"DJANGO_GUID" default:"{GUID_HEADER_NAME='Correlation-ID',EXPOSE_HEADER=true,RETURN_HEADER=true}"`
	// Title, version and the like of the OpenAPI document.
	SpectacularSettings Dict `setting:"SPECTACULAR_SETTINGS" default:"{}"`
	// Time zone of dates in logs.
	TimeZone string `setting:"TIME_ZONE" default:"UTC"`
	// Language of messages; only en-us has any.
	LanguageCode string `setting:"LANGUAGE_CODE" default:"en-us"`

	// Authentication and permission classes, page size.
	RestFramework RestFramework `setting:"REST_FRAMEWORK" default:"{DEFAULT_AUTHENTICATION_CLASSES=['pulpcore.app.authentication.BasicAuthentication','rest_framework.authentication.SessionAuthentication'],DEFAULT_PERMISSION_CLASSES=['pulpcore.plugin.access_policy.AccessPolicyFromDB'],PAGE_SIZE=100}"`
	// Where users and passwords come from, in order.
	AuthenticationBackends []string `setting:"AUTHENTICATION_BACKENDS" default:"['django.contrib.auth.backends.ModelBackend','pulpcore.backends.ObjectRolePermissionBackend']"`
	// Rules for new passwords.
	AuthPasswordValidators []PasswordValidator `setting:"AUTH_PASSWORD_VALIDATORS" default:"[{NAME='django.contrib.auth.password_validation.UserAttributeSimilarityValidator'},{NAME='django.contrib.auth.password_validation.MinimumLengthValidator'},{NAME='django.contrib.auth.password_validation.CommonPasswordValidator'},{NAME='django.contrib.auth.password_validation.NumericPasswordValidator'}]"`
	// Names of Python middlewares; some switch features on.
	Middleware []string `setting:"MIDDLEWARE" default:"[]"`
	// Access policies by view name, for AccessPolicyFromSettings.
	AccessPolicies Dict `setting:"ACCESS_POLICIES" default:"{}"`
	// Reusable conditions of access policies.
	DRFAccessPolicy Dict `setting:"DRF_ACCESS_POLICY" default:"{reusable_conditions=['pulpcore.app.global_access_conditions']}"`
	// The WSGI name of what carries a user's name when a proxy has authenticated it, as HTTP_X_REMOTE_USER for a header.
	RemoteUserEnvironName string `setting:"REMOTE_USER_ENVIRON_NAME" default:"REMOTE_USER"`
	// How the OpenAPI document describes that.
	RemoteUserOpenAPISecurityScheme Dict `setting:"REMOTE_USER_OPENAPI_SECURITY_SCHEME" default:"{type='mutualTLS'}"`
	// WSGI name (HTTP_...) of the header with base64-encoded JSON that says who the user is.
	AuthenticationJSONHeader string `setting:"AUTHENTICATION_JSON_HEADER" default:""`
	// jq expression that takes the user's name out of it.
	AuthenticationJSONHeaderJQFilter string `setting:"AUTHENTICATION_JSON_HEADER_JQ_FILTER" default:""`
	// How the OpenAPI document describes it.
	AuthenticationJSONHeaderOpenAPISecurityScheme Dict `setting:"AUTHENTICATION_JSON_HEADER_OPENAPI_SECURITY_SCHEME" default:"{}"`
	// Logs and shows the identity header (hosted service).
	AuthenticationHeaderDebug bool `setting:"AUTHENTICATION_HEADER_DEBUG" default:"false"`

	// Whether X-Forwarded-Host counts in absolute URLs.
	UseXForwardedHost bool `setting:"USE_X_FORWARDED_HOST" default:"false"`
	// Whether X-Forwarded-Port counts in absolute URLs.
	UseXForwardedPort bool `setting:"USE_X_FORWARDED_PORT" default:"false"`
	// WSGI name and value of the header that says that the client spoke TLS; empty or two items.
	SecureProxySSLHeader []string `setting:"SECURE_PROXY_SSL_HEADER" default:"@none"`
	// Redirect plain HTTP to HTTPS.
	SecureSSLRedirect bool `setting:"SECURE_SSL_REDIRECT" default:"false"`
	// Host to redirect to.
	SecureSSLHost string `setting:"SECURE_SSL_HOST" default:"@none"`
	// Regular expressions of paths that are not redirected.
	SecureRedirectExempt []string `setting:"SECURE_REDIRECT_EXEMPT" default:"[]"`
	// Age in Strict-Transport-Security; 0: no such header.
	SecureHSTS time.Duration `setting:"SECURE_HSTS_SECONDS" default:"0" unit:"s"`
	// Adds includeSubDomains to it.
	SecureHSTSIncludeSubdomains bool `setting:"SECURE_HSTS_INCLUDE_SUBDOMAINS" default:"false"`
	// Adds preload to it.
	SecureHSTSPreload bool `setting:"SECURE_HSTS_PRELOAD" default:"false"`
	// Sends X-Content-Type-Options: nosniff.
	SecureContentTypeNosniff bool `setting:"SECURE_CONTENT_TYPE_NOSNIFF" default:"true"`
	// Value of Referrer-Policy; empty: no such header.
	SecureReferrerPolicy string `setting:"SECURE_REFERRER_POLICY" default:"same-origin"`
	// Value of Cross-Origin-Opener-Policy; empty: no such header.
	SecureCrossOriginOpenerPolicy string `setting:"SECURE_CROSS_ORIGIN_OPENER_POLICY" default:"same-origin"`
	// Value of X-Frame-Options.
	XFrameOptions string `setting:"X_FRAME_OPTIONS" default:"DENY"`

	// Name of the session cookie.
	SessionCookieName string `setting:"SESSION_COOKIE_NAME" default:"sessionid"`
	// How long a session lasts.
	SessionCookieAge time.Duration `setting:"SESSION_COOKIE_AGE" default:"1209600" unit:"s"`
	// Domain of the session cookie.
	SessionCookieDomain string `setting:"SESSION_COOKIE_DOMAIN" default:"@none"`
	// Path of the session cookie.
	SessionCookiePath string `setting:"SESSION_COOKIE_PATH" default:"/"`
	// Whether the session cookie is for TLS only.
	SessionCookieSecure bool `setting:"SESSION_COOKIE_SECURE" default:"false"`
	// Whether scripts are kept from the session cookie.
	SessionCookieHTTPOnly bool `setting:"SESSION_COOKIE_HTTPONLY" default:"true"`
	// SameSite of the session cookie; false: not sent.
	SessionCookieSameSite SameSite `setting:"SESSION_COOKIE_SAMESITE" default:"Lax"`
	// Ends sessions with the browser.
	SessionExpireAtBrowserClose bool `setting:"SESSION_EXPIRE_AT_BROWSER_CLOSE" default:"false"`
	// Renews the session cookie at every request.
	SessionSaveEveryRequest bool `setting:"SESSION_SAVE_EVERY_REQUEST" default:"false"`
	// Name of the CSRF cookie.
	CSRFCookieName string `setting:"CSRF_COOKIE_NAME" default:"csrftoken"`
	// How long the CSRF cookie lasts; 0: as long as the browser is open.
	CSRFCookieAge time.Duration `setting:"CSRF_COOKIE_AGE" default:"31449600" unit:"s"`
	// Domain of the CSRF cookie.
	CSRFCookieDomain string `setting:"CSRF_COOKIE_DOMAIN" default:"@none"`
	// Path of the CSRF cookie.
	CSRFCookiePath string `setting:"CSRF_COOKIE_PATH" default:"/"`
	// Whether the CSRF cookie is for TLS only.
	CSRFCookieSecure bool `setting:"CSRF_COOKIE_SECURE" default:"false"`
	// Whether scripts are kept from the CSRF cookie.
	CSRFCookieHTTPOnly bool `setting:"CSRF_COOKIE_HTTPONLY" default:"false"`
	// SameSite of the CSRF cookie; false: not sent.
	CSRFCookieSameSite SameSite `setting:"CSRF_COOKIE_SAMESITE" default:"Lax"`
	// WSGI name of the header with the CSRF token.
	CSRFHeaderName string `setting:"CSRF_HEADER_NAME" default:"HTTP_X_CSRFTOKEN"`
	// Origins (with scheme) that may send unsafe requests with a session.
	CSRFTrustedOrigins []string `setting:"CSRF_TRUSTED_ORIGINS" default:"[]"`
	// Page that asks for name and password.
	LoginURL string `setting:"LOGIN_URL" default:"/auth/login/"`
	// Page to go to after login.
	LoginRedirectURL string `setting:"LOGIN_REDIRECT_URL" default:"/accounts/profile/"`
	// Largest body of a form without files, in bytes; 0: no limit.
	DataUploadMaxMemorySize int64 `setting:"DATA_UPLOAD_MAX_MEMORY_SIZE" default:"2621440" min:"0"`
	// Most fields of a form; 0: no limit.
	DataUploadMaxNumberFields int `setting:"DATA_UPLOAD_MAX_NUMBER_FIELDS" default:"1000" min:"0"`

	// How long an API process without heartbeat counts as alive.
	APIAppTTL time.Duration `setting:"API_APP_TTL" default:"120" unit:"s" min:"1"`
	// How long a content process without heartbeat counts as alive.
	ContentAppTTL time.Duration `setting:"CONTENT_APP_TTL" default:"30" unit:"s" min:"1"`
	// How long a worker without heartbeat counts as alive.
	WorkerTTL time.Duration `setting:"WORKER_TTL" default:"30" unit:"s" min:"1"`
	// Name of a process: {pid}, {hostname} and {fqdn} are replaced.
	WorkerNameTemplate string `setting:"WORKER_NAME_TEMPLATE" default:"{pid}@{hostname}"`
	// Kind of task queue of Pulp: pulpcore or redis. Ours is one.
	WorkerType string `setting:"WORKER_TYPE" default:"pulpcore"`
	// Never runs tasks inside requests.
	TaskPreferDefer bool `setting:"TASK_PREFER_DEFER" default:"false"`
	// How long running tasks may go on after SIGINT.
	TaskGraceInterval time.Duration `setting:"TASK_GRACE_INTERVAL" default:"600" unit:"s"`
	// Profiles that requests may ask for: memory, pyinstrument, memray.
	TaskDiagnostics []string `setting:"TASK_DIAGNOSTICS" default:"[]"`
	// Age from which orphans are removed, and period of the cleanup; given in minutes. 0: off, as below.
	OrphanProtectionTime time.Duration `setting:"ORPHAN_PROTECTION_TIME" default:"1440" unit:"m"`
	// The same for uploads.
	UploadProtectionTime time.Duration `setting:"UPLOAD_PROTECTION_TIME" default:"0" unit:"m"`
	// The same for finished tasks.
	TaskProtectionTime time.Duration `setting:"TASK_PROTECTION_TIME" default:"0" unit:"m"`
	// The same for temporary files.
	TmpfileProtectionTime time.Duration `setting:"TMPFILE_PROTECTION_TIME" default:"0" unit:"m"`
	// How long files of a replaced publication are still served.
	DistributedPublicationRetentionPeriod time.Duration `setting:"DISTRIBUTED_PUBLICATION_RETENTION_PERIOD" default:"259200" unit:"s"`
	// Hides the texts of unexpected errors of tasks from clients.
	RedactUnsafeExceptions bool `setting:"REDACT_UNSAFE_EXCEPTIONS" default:"false"`

	// How long a source that failed on demand is skipped.
	RemoteContentFetchFailureCooldown time.Duration `setting:"REMOTE_CONTENT_FETCH_FAILURE_COOLDOWN" default:"300" unit:"s"`
	// Content units in flight in a sync.
	MaxConcurrentContent int `setting:"MAX_CONCURRENT_CONTENT" default:"25" min:"1"`
	// Bytes in flight in a sync, in MiB.
	SyncMaxInFlightMB int `setting:"SYNC_MAX_IN_FLIGHT_MB" default:"5120" min:"1"`
	// Units in flight in a sync; 0: as MAX_CONCURRENT_CONTENT says.
	SyncMaxInFlightItems int `setting:"SYNC_MAX_IN_FLIGHT_ITEMS" default:"@none" min:"0"`
	// Share of the workers that one import may use.
	ImportWorkersPercent int `setting:"IMPORT_WORKERS_PERCENT" default:"100" min:"1"`
	// Concurrent queries of a vulnerability report.
	VulnReportTaskLimiter int `setting:"VULN_REPORT_TASK_LIMITER" default:"10" min:"1"`

	// Posts anonymous figures once a day. As Pulp's, but off unless asked for.
	Analytics bool `setting:"ANALYTICS" default:"false"`
	// Sends traces and metrics by OTLP.
	OTelEnabled bool `setting:"OTEL_ENABLED" default:"false"`
	// Bounds of the API's duration histogram in milliseconds; empty: those of the SDK.
	OTelAPIHistogramBuckets []float64 `setting:"OTEL_PULP_API_HISTOGRAM_BUCKETS" default:"[]"`
	// How often the metrics about stored data are taken.
	OTelMetricsDispatchInterval time.Duration `setting:"OTEL_METRICS_DISPATCH_INTERVAL_MINUTES" default:"5" unit:"m"`
	// Kafka servers for events of task states, as host:port; empty: no events.
	KafkaBootstrapServers string `setting:"KAFKA_BOOTSTRAP_SERVERS" default:"@none"`
	// Topic of these events.
	KafkaTasksStatusTopic string `setting:"KAFKA_TASKS_STATUS_TOPIC" default:"pulpcore.tasking.status"`
	// Whether a task waits until its event is delivered.
	KafkaTasksStatusProducerSync bool `setting:"KAFKA_TASKS_STATUS_PRODUCER_SYNC_ENABLED" default:"false"`
	// How long one poll of the producer takes.
	KafkaProducerPollTimeout time.Duration `setting:"KAFKA_PRODUCER_POLL_TIMEOUT" default:"0.1" unit:"s"`
	// plaintext, ssl, sasl_plaintext or sasl_ssl.
	KafkaSecurityProtocol string `setting:"KAFKA_SECURITY_PROTOCOL" default:"plaintext"`
	// File of CA certificates, or the certificates themselves.
	KafkaSSLCAPEM string `setting:"KAFKA_SSL_CA_PEM" default:"@none"`
	// PLAIN, SCRAM-SHA-256 and the like.
	KafkaSASLMechanism string `setting:"KAFKA_SASL_MECHANISM" default:"@none"`
	// User of Kafka.
	KafkaSASLUsername string `setting:"KAFKA_SASL_USERNAME" default:"@none"`
	// Password of Kafka.
	KafkaSASLPassword Secret `setting:"KAFKA_SASL_PASSWORD" default:"@none" secret:"true"`
	// Has no effect: there is no Python event loop.
	UvloopEnabled bool `setting:"UVLOOP_ENABLED" default:"false"`
	// Service provider and identity provider of SAML login.
	SAMLConfig Dict `setting:"SAML_CONFIG" default:"{}"`

	// rpm: resolve conflicting advisories by rules that may lose data.
	AllowUnsafeAdvisoryConflictResolution bool `setting:"ALLOW_AUTOMATIC_UNSAFE_ADVISORY_CONFLICT_RESOLUTION" default:"false"`
	// rpm: base of uln:// remotes that name none.
	DefaultULNServerBaseURL string `setting:"DEFAULT_ULN_SERVER_BASE_URL" default:"https://linux-update.oracle.com/"`
	// rpm: changelog entries kept per package.
	KeepChangelogLimit int `setting:"KEEP_CHANGELOG_LIMIT" default:"10" min:"0"`
	// rpm: keep the solver's debug output of a copy.
	SolverDebugLogs bool `setting:"SOLVER_DEBUG_LOGS" default:"true"`
	// rpm: the file time in metadata is the time of the package's build, not of its upload.
	RPMMetadataUseRepoPackageTime bool `setting:"RPM_METADATA_USE_REPO_PACKAGE_TIME" default:"false"`
	// rpm: names of files that proxies must not cache.
	NocacheList []string `setting:"NOCACHE_LIST" default:"['repomd.xml','repomd.xml.asc','repomd.xml.key']"`
	// rpm: most concurrent tasks of a prune.
	PruneWorkersMax int `setting:"PRUNE_WORKERS_MAX" default:"5" min:"1"`
	// rpm: concurrent signing processes of one task.
	MaxPackageSigningWorkers int `setting:"MAX_PACKAGE_SIGNING_WORKERS" default:"5" min:"1"`

	// python: origin of the index's URLs.
	PyPIAPIHostname string `setting:"PYPI_API_HOSTNAME" default:"https://{fqdn}"`
	// python: URL path of the indexes; starts and ends with a slash.
	PyPIPathPrefix string `setting:"PYPI_PATH_PREFIX" default:"/pypi/"`
	// python: put the uploads of one session into one repository version.
	PythonGroupUploads bool `setting:"PYTHON_GROUP_UPLOADS" default:"false"`
	// python: file of the public key that attestations are checked with.
	AttestationVerificationKey string `setting:"ATTESTATION_VERIFICATION_KEY" default:"@none"`

	// container: serve the registry without tokens.
	TokenAuthDisabled bool `setting:"TOKEN_AUTH_DISABLED" default:"false"`
	// container: public URL of /token/; empty: from the request.
	TokenServer string `setting:"TOKEN_SERVER" default:"@none"`
	// container: asymmetric algorithm of tokens, as ES256; empty: ES256 with a key of our own.
	TokenSignatureAlgorithm string `setting:"TOKEN_SIGNATURE_ALGORITHM" default:"@none"`
	// container: PEM file of the public key; empty: as above.
	PublicKeyPath string `setting:"PUBLIC_KEY_PATH" default:"@none"`
	// container: PEM file of the private key; empty: as above.
	PrivateKeyPath string `setting:"PRIVATE_KEY_PATH" default:"@none"`
	// container: how long a token lasts.
	TokenExpirationTime time.Duration `setting:"TOKEN_EXPIRATION_TIME" default:"300" unit:"s" min:"1"`
	// container: serve /index/static and /index/dynamic for Flatpak.
	FlatpakIndex bool `setting:"FLATPAK_INDEX" default:"false"`
	// container: concurrent signing processes of one task.
	MaxParallelSigningTasks int `setting:"MAX_PARALLEL_SIGNING_TASKS" default:"10" min:"1"`

	// deb: publish files by-hash too.
	AptByHash bool `setting:"APT_BY_HASH" default:"false"`
	// deb: warn of digests that are not allowed.
	ForbiddenChecksumWarnings bool `setting:"FORBIDDEN_CHECKSUM_WARNINGS" default:"true"`
	// deb: no remote fails for a missing package index.
	ForceIgnoreMissingPackageIndices bool `setting:"FORCE_IGNORE_MISSING_PACKAGE_INDICES" default:"false"`
	// deb: accept Component and Architecture, singular, in Release.
	PermissiveSync bool `setting:"PERMISSIVE_SYNC" default:"false"`
	// deb: distribution of an empty repository.
	StructuredEmptyRepoDistribution string `setting:"STRUCTURED_EMPTY_REPO_DISTRIBUTION" default:"default"`
	// deb: component of an empty repository.
	StructuredEmptyRepoComponent string `setting:"STRUCTURED_EMPTY_REPO_COMPONENT" default:"empty"`
	// deb: architectures of an empty repository.
	StructuredEmptyRepoArchitectures []string `setting:"STRUCTURED_EMPTY_REPO_ARCHITECTURES" default:"['all']"`

	// ansible: origin of Galaxy URLs.
	AnsibleAPIHostname string `setting:"ANSIBLE_API_HOSTNAME" default:"https://{fqdn}"`
	// ansible: origin and path of content. By default CONTENT_ORIGIN with /pulp/content.
	AnsibleContentHostname string `setting:"ANSIBLE_CONTENT_HOSTNAME" default:"@none"`
	// ansible: refuse uploaded signatures when the repository has no key.
	AnsibleSignatureRequireVerification bool `setting:"ANSIBLE_SIGNATURE_REQUIRE_VERIFICATION" default:"true"`
	// ansible: concurrent runs of the signing script.
	AnsibleSigningTaskLimiter int `setting:"ANSIBLE_SIGNING_TASK_LIMITER" default:"10" min:"1"`
	// ansible: base path of the distribution that Galaxy URLs without one mean.
	AnsibleDefaultDistributionPath string `setting:"ANSIBLE_DEFAULT_DISTRIBUTION_PATH" default:"@none"`
	// ansible: prefix of Django's URL names; not empty means that the galaxy profile is on.
	AnsibleURLNamespace string `setting:"ANSIBLE_URL_NAMESPACE" default:""`
	// ansible: log who downloads what.
	AnsibleCollectDownloadLog bool `setting:"ANSIBLE_COLLECT_DOWNLOAD_LOG" default:"false"`
	// ansible: count downloads.
	AnsibleCollectDownloadCount bool `setting:"ANSIBLE_COLLECT_DOWNLOAD_COUNT" default:"false"`
	// ansible: authentication classes of the Galaxy views. By default those of REST_FRAMEWORK.
	AnsibleAuthenticationClasses []string `setting:"ANSIBLE_AUTHENTICATION_CLASSES" default:"@none"`
	// ansible: permission classes of the Galaxy views. By default those of REST_FRAMEWORK.
	AnsiblePermissionClasses []string `setting:"ANSIBLE_PERMISSION_CLASSES" default:"@none"`
	// ansible: template of the Galaxy API's path.
	GalaxyAPIRoot string `setting:"GALAXY_API_ROOT" default:"pulp_ansible/galaxy/<path:path>/api/"`

	// galaxy: URL path of the Galaxy API.
	GalaxyAPIPathPrefix string `setting:"GALAXY_API_PATH_PREFIX" default:"/api/galaxy/"`
	// galaxy: standalone; insights is the hosted service's.
	GalaxyDeploymentMode string `setting:"GALAXY_DEPLOYMENT_MODE" default:"standalone"`
	// galaxy: uploads wait in staging until someone approves them.
	GalaxyRequireContentApproval bool `setting:"GALAXY_REQUIRE_CONTENT_APPROVAL" default:"true"`
	// galaxy: name of the repository of approved collections.
	GalaxyDefaultDistribution string `setting:"GALAXY_API_DEFAULT_DISTRIBUTION_BASE_PATH" default:"published"`
	// galaxy: name of the repository of collections that wait.
	GalaxyStagingDistribution string `setting:"GALAXY_API_STAGING_DISTRIBUTION_BASE_PATH" default:"staging"`
	// galaxy: name of the repository of rejected collections.
	GalaxyRejectedDistribution string `setting:"GALAXY_API_REJECTED_DISTRIBUTION_BASE_PATH" default:"rejected"`
	// galaxy: sign at approval.
	GalaxyAutoSignCollections bool `setting:"GALAXY_AUTO_SIGN_COLLECTIONS" default:"false"`
	// galaxy: name of the signing service for collections.
	GalaxyCollectionSigningService string `setting:"GALAXY_COLLECTION_SIGNING_SERVICE" default:"@none"`
	// galaxy: name of the signing service for images.
	GalaxyContainerSigningService string `setting:"GALAXY_CONTAINER_SIGNING_SERVICE" default:"@none"`
	// galaxy: approve only what is signed.
	GalaxyRequireSignatureForApproval bool `setting:"GALAXY_REQUIRE_SIGNATURE_FOR_APPROVAL" default:"false"`
	// galaxy: let people upload signatures.
	GalaxySignatureUploadEnabled bool `setting:"GALAXY_SIGNATURE_UPLOAD_ENABLED" default:"false"`
	// galaxy: let anyone look at collections.
	GalaxyEnableUnauthenticatedAccess bool `setting:"GALAXY_ENABLE_UNAUTHENTICATED_COLLECTION_ACCESS" default:"false"`
	// galaxy: let anyone download collections.
	GalaxyEnableUnauthenticatedDownload bool `setting:"GALAXY_ENABLE_UNAUTHENTICATED_COLLECTION_DOWNLOAD" default:"false"`
	// galaxy: parts of the web interface and the API.
	GalaxyFeatureFlags Dict `setting:"GALAXY_FEATURE_FLAGS" default:"{display_repositories=true,execution_environments=true,legacy_roles=false,ai_deny_index=false}"`
	// galaxy: serve roles by version 1 of the API.
	GalaxyEnableLegacyRoles bool `setting:"GALAXY_ENABLE_LEGACY_ROLES" default:"false"`
	// galaxy: log uploads and what administrators do, with the user's name.
	GalaxyEnableAPIAccessLog bool `setting:"GALAXY_ENABLE_API_ACCESS_LOG" default:"false"`
	// galaxy: shortest password.
	GalaxyMinimumPasswordLength int `setting:"GALAXY_MINIMUM_PASSWORD_LENGTH" default:"9" min:"1"`
	// galaxy: how long tokens last, in minutes; 0: for ever.
	GalaxyTokenExpiration time.Duration `setting:"GALAXY_TOKEN_EXPIRATION" default:"@none" unit:"m"`
	// galaxy: URLs of automation controllers.
	ConnectedAnsibleControllers []string `setting:"CONNECTED_ANSIBLE_CONTROLLERS" default:"[]"`

	// hosted service: clamd's host; empty: nothing is scanned.
	ClamAVHost string `setting:"CLAMAV_HOST" default:"@none"`
	// hosted service: clamd's port.
	ClamAVPort int `setting:"CLAMAV_PORT" default:"3310" min:"1"`
	// hosted service: URL that tells which features an account has.
	FeatureServiceAPIURL string `setting:"FEATURE_SERVICE_API_URL" default:"@none"`
	// hosted service: PEM file of the client certificate for it.
	FeatureServiceAPICertPath string `setting:"FEATURE_SERVICE_API_CERT_PATH" default:""`
	// hosted service: how long to wait for a connection to it.
	FeatureServiceAPIConnectTimeout time.Duration `setting:"FEATURE_SERVICE_API_CONNECT_TIMEOUT" default:"2" unit:"s"`
	// hosted service: how long to wait for its answer.
	FeatureServiceAPIReadTimeout time.Duration `setting:"FEATURE_SERVICE_API_READ_TIMEOUT" default:"5" unit:"s"`
	// hosted service: offers the load test of the queue.
	TestTaskIngestion bool `setting:"TEST_TASK_INGESTION" default:"false"`
	// hosted service: offers the tests of database connections.
	RDSConnectionTestsEnabled bool `setting:"RDS_CONNECTION_TESTS_ENABLED" default:"false"`
	// hosted service: group that may read everything.
	AdminReadonlyGroup string `setting:"ADMIN_READONLY_GROUP" default:"admin-readonly"`
	// hosted service: policies by domain.
	DomainAccessPolicies Dict `setting:"DOMAIN_ACCESS_POLICIES" default:"{}"`

	// Offers the tasks that tests use.
	TestTasks bool `env:"GRANARY_TEST_TASKS" default:"false"`
	// Where vulnerability reports come from: a server that has the API of https://osv.dev.
	OSVURL string `env:"GRANARY_OSV_URL" default:"https://api.osv.dev"`
	// Addresses of proxies whose X-Forwarded-* and identity headers count: networks or single addresses, with commas between.
	TrustedProxies []netip.Prefix `env:"GRANARY_TRUSTED_PROXIES" default:""`
	// Largest request body in bytes; 0: no limit.
	MaxBody int64 `env:"GRANARY_MAX_BODY" default:"0" min:"0"`
	// Start although a PostgreSQL folder of an old container is mounted.
	IgnoreOldDatabase bool `env:"GRANARY_IGNORE_OLD_DATABASE" default:"false"`
	// Let SQLite work on a network filesystem.
	AllowNetworkFS bool `env:"GRANARY_ALLOW_NETWORK_FS" default:"false"`

	// Task slots; at least 1.
	Workers int `env:"PULP_WORKERS" default:"2" min:"0"`
	// Has no effect: one process uses all cores.
	APIWorkers int `env:"PULP_API_WORKERS" default:"2" min:"1"`
	// Has no effect, as above.
	ContentWorkers int `env:"PULP_CONTENT_WORKERS" default:"2" min:"1"`
	// How long one request may be worked on.
	GunicornTimeout time.Duration `env:"PULP_GUNICORN_TIMEOUT" default:"90" unit:"s" min:"0"`
	// Whether the front speaks TLS.
	HTTPS bool `env:"PULP_HTTPS" default:"false"`
	// Password of admin, given once, when there is no such user.
	DefaultAdminPassword Secret `env:"PULP_DEFAULT_ADMIN_PASSWORD" default:"" secret:"true"`
	// Password of admin, set at every start of the helper that reads it.
	AdminPassword Secret `env:"PULP_ADMIN_PASSWORD" default:"" secret:"true"`
	// Whether the web interface is served.
	UI bool `env:"PULP_UI" default:"false"`
	// Fingerprint of the key of the signing services below; empty: none.
	SigningKeyFingerprint string `env:"PULP_SIGNING_KEY_FINGERPRINT" default:""`
	// Name of the signing service for collections to add at start.
	CollectionSigningService string `env:"COLLECTION_SIGNING_SERVICE" default:""`
	// Name of the signing service for images to add at start.
	ContainerSigningService string `env:"CONTAINER_SIGNING_SERVICE" default:""`

	raw *store
}
