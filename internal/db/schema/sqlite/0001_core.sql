-- +goose Up
-- Ids are 16-byte UUIDs; times are microseconds since 1970; labels and other structures are JSON text.

CREATE TABLE core_domain (
    id BLOB PRIMARY KEY,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    labels TEXT NOT NULL DEFAULT '{}',
    storage_class TEXT NOT NULL,
    storage_settings TEXT NOT NULL, -- encrypted JSON
    redirect_to_object_storage INTEGER NOT NULL,
    hide_guarded_distributions INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE auth_user (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    username TEXT NOT NULL UNIQUE,
    password TEXT NOT NULL,
    first_name TEXT NOT NULL DEFAULT '',
    last_name TEXT NOT NULL DEFAULT '',
    email TEXT NOT NULL DEFAULT '',
    is_superuser INTEGER NOT NULL DEFAULT 0,
    is_staff INTEGER NOT NULL DEFAULT 0,
    is_active INTEGER NOT NULL DEFAULT 1,
    date_joined INTEGER NOT NULL,
    last_login INTEGER
) STRICT;

CREATE TABLE auth_session (
    digest BLOB PRIMARY KEY, -- sha256 of the cookie, so that a copy of the database opens no session
    user_id INTEGER NOT NULL REFERENCES auth_user ON DELETE CASCADE,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX auth_session_user ON auth_session (user_id);

-- Labels of every kind of object, for filters; the objects' own rows hold them for output.
CREATE TABLE core_label (
    object BLOB NOT NULL,
    key TEXT NOT NULL,
    value TEXT,
    PRIMARY KEY (object, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_label_key ON core_label (key, value);

CREATE TABLE core_artifact (
    id BLOB PRIMARY KEY,
    domain BLOB NOT NULL REFERENCES core_domain,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    size INTEGER NOT NULL,
    md5 TEXT,
    sha1 TEXT,
    sha224 TEXT,
    sha256 TEXT NOT NULL,
    sha384 TEXT,
    sha512 TEXT,
    timestamp_of_interest INTEGER NOT NULL,
    UNIQUE (domain, sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_artifact_created ON core_artifact (domain, created);
CREATE INDEX core_artifact_md5 ON core_artifact (md5);
CREATE INDEX core_artifact_sha1 ON core_artifact (sha1);
CREATE INDEX core_artifact_sha224 ON core_artifact (sha224);
CREATE INDEX core_artifact_sha384 ON core_artifact (domain, sha384);
CREATE INDEX core_artifact_sha512 ON core_artifact (domain, sha512);

CREATE TABLE core_upload (
    id BLOB PRIMARY KEY,
    domain BLOB NOT NULL REFERENCES core_domain,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    size INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX core_upload_created ON core_upload (domain, created);

CREATE TABLE core_uploadchunk (
    id BLOB PRIMARY KEY, -- also the chunk's name in the store
    upload BLOB NOT NULL REFERENCES core_upload ON DELETE CASCADE,
    start INTEGER NOT NULL,
    size INTEGER NOT NULL,
    UNIQUE (upload, start)
) STRICT, WITHOUT ROWID;

CREATE TABLE core_content (
    id BLOB PRIMARY KEY,
    domain BLOB NOT NULL REFERENCES core_domain,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    pulp_type TEXT NOT NULL,
    labels TEXT NOT NULL DEFAULT '{}',
    timestamp_of_interest INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX core_content_type ON core_content (domain, pulp_type, created);
CREATE INDEX core_content_created ON core_content (domain, created);

CREATE TABLE core_contentartifact (
    id BLOB PRIMARY KEY,
    content BLOB NOT NULL REFERENCES core_content ON DELETE CASCADE,
    artifact BLOB REFERENCES core_artifact,
    relative_path TEXT NOT NULL,
    UNIQUE (content, relative_path)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_contentartifact_artifact ON core_contentartifact (artifact);
CREATE INDEX core_contentartifact_path ON core_contentartifact (relative_path);

CREATE TABLE core_remote (
    id BLOB PRIMARY KEY,
    domain BLOB NOT NULL REFERENCES core_domain,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    pulp_type TEXT NOT NULL,
    labels TEXT NOT NULL DEFAULT '{}',
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    ca_cert TEXT,
    client_cert TEXT,
    client_key TEXT, -- encrypted, as are the names and passwords below
    tls_validation INTEGER NOT NULL,
    proxy_url TEXT,
    proxy_username TEXT,
    proxy_password TEXT,
    username TEXT,
    password TEXT,
    download_concurrency INTEGER,
    max_retries INTEGER,
    policy TEXT NOT NULL,
    total_timeout REAL,
    connect_timeout REAL,
    sock_connect_timeout REAL,
    sock_read_timeout REAL,
    headers TEXT, -- encrypted JSON
    rate_limit INTEGER,
    UNIQUE (domain, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_remote_created ON core_remote (domain, created);

CREATE TABLE core_remoteartifact (
    id BLOB PRIMARY KEY,
    content_artifact BLOB NOT NULL REFERENCES core_contentartifact ON DELETE CASCADE,
    remote BLOB NOT NULL REFERENCES core_remote ON DELETE CASCADE,
    url TEXT NOT NULL,
    size INTEGER,
    md5 TEXT,
    sha1 TEXT,
    sha224 TEXT,
    sha256 TEXT,
    sha384 TEXT,
    sha512 TEXT,
    failed_at INTEGER,
    UNIQUE (content_artifact, remote)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_remoteartifact_remote ON core_remoteartifact (remote);
CREATE INDEX core_remoteartifact_sha256 ON core_remoteartifact (sha256);

CREATE TABLE core_repository (
    id BLOB PRIMARY KEY,
    domain BLOB NOT NULL REFERENCES core_domain,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    pulp_type TEXT NOT NULL,
    labels TEXT NOT NULL DEFAULT '{}',
    name TEXT NOT NULL,
    description TEXT,
    retain_repo_versions INTEGER,
    remote BLOB REFERENCES core_remote ON DELETE SET NULL,
    next_version INTEGER NOT NULL DEFAULT 1,
    user_hidden INTEGER NOT NULL DEFAULT 0,
    UNIQUE (domain, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_repository_created ON core_repository (domain, created);
CREATE INDEX core_repository_remote ON core_repository (remote);

CREATE TABLE core_repositoryversion (
    id BLOB PRIMARY KEY,
    repository BLOB NOT NULL REFERENCES core_repository ON DELETE CASCADE,
    number INTEGER NOT NULL,
    base_version BLOB REFERENCES core_repositoryversion ON DELETE SET NULL,
    complete INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    UNIQUE (repository, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_repositoryversion_base ON core_repositoryversion (base_version);
CREATE INDEX core_repositoryversion_created ON core_repositoryversion (created);

-- A content unit is in the versions from number "added" to before "removed"; that is the largest
-- 64-bit number while it is in the latest one.
CREATE TABLE core_repositorycontent (
    repository BLOB NOT NULL REFERENCES core_repository ON DELETE CASCADE,
    content BLOB NOT NULL REFERENCES core_content,
    added INTEGER NOT NULL,
    removed INTEGER NOT NULL DEFAULT 9223372036854775807,
    PRIMARY KEY (repository, content, added)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX core_repositorycontent_current ON core_repositorycontent (repository, content) WHERE removed = 9223372036854775807;
CREATE INDEX core_repositorycontent_added ON core_repositorycontent (repository, added);
CREATE INDEX core_repositorycontent_removed ON core_repositorycontent (repository, removed) WHERE removed < 9223372036854775807;
CREATE INDEX core_repositorycontent_content ON core_repositorycontent (content);

-- How many units of a type a version adds, removes and holds.
CREATE TABLE core_versioncount (
    version BLOB NOT NULL REFERENCES core_repositoryversion ON DELETE CASCADE,
    kind TEXT NOT NULL, -- added, removed or present
    pulp_type TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (version, kind, pulp_type)
) STRICT, WITHOUT ROWID;

CREATE TABLE core_publication (
    id BLOB PRIMARY KEY,
    domain BLOB NOT NULL REFERENCES core_domain,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    pulp_type TEXT NOT NULL,
    repository_version BLOB NOT NULL REFERENCES core_repositoryversion ON DELETE CASCADE,
    complete INTEGER NOT NULL DEFAULT 0,
    pass_through INTEGER NOT NULL DEFAULT 0,
    checkpoint INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX core_publication_created ON core_publication (domain, created);
CREATE INDEX core_publication_version ON core_publication (repository_version);

-- What a publication serves besides its version's content: files made for it (artifact), or content under
-- another path (content_artifact).
CREATE TABLE core_publishedartifact (
    publication BLOB NOT NULL REFERENCES core_publication ON DELETE CASCADE,
    relative_path TEXT NOT NULL,
    artifact BLOB REFERENCES core_artifact,
    content_artifact BLOB REFERENCES core_contentartifact ON DELETE CASCADE,
    created INTEGER NOT NULL,
    PRIMARY KEY (publication, relative_path)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_publishedartifact_artifact ON core_publishedartifact (artifact);
CREATE INDEX core_publishedartifact_content ON core_publishedartifact (content_artifact);

CREATE TABLE core_contentguard (
    id BLOB PRIMARY KEY,
    domain BLOB NOT NULL REFERENCES core_domain,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    pulp_type TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    UNIQUE (domain, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_contentguard_created ON core_contentguard (domain, created);

CREATE TABLE core_distribution (
    id BLOB PRIMARY KEY,
    domain BLOB NOT NULL REFERENCES core_domain,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    pulp_type TEXT NOT NULL,
    labels TEXT NOT NULL DEFAULT '{}',
    name TEXT NOT NULL,
    base_path TEXT NOT NULL,
    content_guard BLOB REFERENCES core_contentguard ON DELETE SET NULL,
    hidden INTEGER NOT NULL DEFAULT 0,
    checkpoint INTEGER NOT NULL DEFAULT 0,
    repository BLOB REFERENCES core_repository ON DELETE SET NULL,
    repository_version BLOB REFERENCES core_repositoryversion ON DELETE SET NULL,
    publication BLOB REFERENCES core_publication ON DELETE SET NULL,
    remote BLOB REFERENCES core_remote ON DELETE SET NULL,
    UNIQUE (domain, name),
    UNIQUE (domain, base_path)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_distribution_created ON core_distribution (domain, created);
CREATE INDEX core_distribution_guard ON core_distribution (content_guard);
CREATE INDEX core_distribution_repository ON core_distribution (repository);
CREATE INDEX core_distribution_version ON core_distribution (repository_version);
CREATE INDEX core_distribution_publication ON core_distribution (publication);
CREATE INDEX core_distribution_remote ON core_distribution (remote);

CREATE TABLE core_acs (
    id BLOB PRIMARY KEY,
    domain BLOB NOT NULL REFERENCES core_domain,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    pulp_type TEXT NOT NULL,
    name TEXT NOT NULL,
    remote BLOB NOT NULL REFERENCES core_remote,
    last_refreshed INTEGER,
    UNIQUE (domain, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_acs_created ON core_acs (domain, created);
CREATE INDEX core_acs_remote ON core_acs (remote);

CREATE TABLE core_acspath (
    id BLOB PRIMARY KEY,
    acs BLOB NOT NULL REFERENCES core_acs ON DELETE CASCADE,
    path TEXT NOT NULL,
    repository BLOB REFERENCES core_repository ON DELETE SET NULL, -- the hidden one that a refresh fills
    UNIQUE (acs, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_acspath_repository ON core_acspath (repository);

-- SQLite plans without knowing how large tables are: it takes any index for selective. So it is told, once and for all, what they are
-- like in a large installation, for in a small one any plan will do. The numbers are rows, then rows for each value of the
-- index's first column, of its first two, and so on.
ANALYZE;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('core_label', 'core_label', '1000000 2 1'),
    ('core_label', 'core_label_key', '1000000 10000 100'),
    ('core_artifact', 'core_artifact', '1000000 1'),
    ('core_artifact', 'core_artifact_created', '1000000 1000000 1'),
    ('core_artifact', 'core_artifact_md5', '1000000 1'),
    ('core_artifact', 'core_artifact_sha1', '1000000 1'),
    ('core_artifact', 'core_artifact_sha224', '1000000 1'),
    ('core_artifact', 'core_artifact_sha384', '1000000 1000000 1'),
    ('core_artifact', 'core_artifact_sha512', '1000000 1000000 1'),
    ('core_artifact', 'sqlite_autoindex_core_artifact_2', '1000000 1000000 1'),
    ('core_content', 'core_content', '1000000 1'),
    ('core_content', 'core_content_created', '1000000 1000000 1'),
    ('core_content', 'core_content_type', '1000000 1000000 500000 1'),
    ('core_contentartifact', 'core_contentartifact', '1000000 1'),
    ('core_contentartifact', 'core_contentartifact_artifact', '1000000 1'),
    ('core_contentartifact', 'core_contentartifact_path', '1000000 2'),
    ('core_contentartifact', 'sqlite_autoindex_core_contentartifact_2', '1000000 1 1'),
    ('core_remote', 'core_remote', '1000 1'),
    ('core_remote', 'core_remote_created', '1000 1000 1'),
    ('core_remote', 'sqlite_autoindex_core_remote_2', '1000 1000 1'),
    ('core_remoteartifact', 'core_remoteartifact', '1000000 1'),
    ('core_remoteartifact', 'core_remoteartifact_remote', '1000000 1000'),
    ('core_remoteartifact', 'core_remoteartifact_sha256', '1000000 2'),
    ('core_remoteartifact', 'sqlite_autoindex_core_remoteartifact_2', '1000000 1 1'),
    ('core_repository', 'core_repository', '1000 1'),
    ('core_repository', 'core_repository_created', '1000 1000 1'),
    ('core_repository', 'core_repository_remote', '1000 2'),
    ('core_repository', 'sqlite_autoindex_core_repository_2', '1000 1000 1'),
    ('core_repositoryversion', 'core_repositoryversion', '20000 1'),
    ('core_repositoryversion', 'core_repositoryversion_base', '20000 10000'),
    ('core_repositoryversion', 'core_repositoryversion_created', '20000 1'),
    ('core_repositoryversion', 'sqlite_autoindex_core_repositoryversion_2', '20000 20 1'),
    ('core_repositorycontent', 'core_repositorycontent', '5000000 5000 1 1'),
    ('core_repositorycontent', 'core_repositorycontent_current', '4000000 4000 1'),
    ('core_repositorycontent', 'core_repositorycontent_added', '5000000 5000 250'),
    ('core_repositorycontent', 'core_repositorycontent_removed', '1000000 1000 50'),
    ('core_repositorycontent', 'core_repositorycontent_content', '5000000 5'),
    ('core_versioncount', 'core_versioncount', '60000 3 1 1'),
    ('core_publication', 'core_publication', '5000 1'),
    ('core_publication', 'core_publication_created', '5000 5000 1'),
    ('core_publication', 'core_publication_version', '5000 1'),
    ('core_publishedartifact', 'core_publishedartifact', '50000 10 1'),
    ('core_publishedartifact', 'core_publishedartifact_artifact', '50000 1'),
    ('core_publishedartifact', 'core_publishedartifact_content', '50000 1'),
    ('core_distribution', 'core_distribution', '1000 1'),
    ('core_distribution', 'core_distribution_created', '1000 1000 1'),
    ('core_distribution', 'core_distribution_guard', '1000 500'),
    ('core_distribution', 'core_distribution_repository', '1000 1'),
    ('core_distribution', 'core_distribution_version', '1000 500'),
    ('core_distribution', 'core_distribution_publication', '1000 2'),
    ('core_distribution', 'core_distribution_remote', '1000 500'),
    ('core_distribution', 'sqlite_autoindex_core_distribution_2', '1000 1000 1'),
    ('core_distribution', 'sqlite_autoindex_core_distribution_3', '1000 1000 1');
