-- +goose Up

-- What was measured while tasks ran, where clients asked for it.
CREATE TABLE core_profileartifact (
    task BLOB NOT NULL REFERENCES core_task (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    artifact BLOB NOT NULL REFERENCES core_artifact,
    PRIMARY KEY (task, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_profileartifact_artifact ON core_profileartifact (artifact);

-- What is known to be unsafe about a unit.
CREATE TABLE core_vulnerabilityreport (
    id BLOB PRIMARY KEY,
    domain BLOB NOT NULL REFERENCES core_domain,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    content BLOB NOT NULL UNIQUE REFERENCES core_content ON DELETE CASCADE,
    vulns TEXT NOT NULL -- JSON
) STRICT, WITHOUT ROWID;
CREATE INDEX core_vulnerabilityreport_created ON core_vulnerabilityreport (domain, created);

-- The versions for which a report was made.
CREATE TABLE core_vulnerabilityreport_versions (
    report BLOB NOT NULL REFERENCES core_vulnerabilityreport ON DELETE CASCADE,
    version BLOB NOT NULL REFERENCES core_repositoryversion ON DELETE CASCADE,
    PRIMARY KEY (report, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_vulnerabilityreport_versions_version ON core_vulnerabilityreport_versions (version);

-- Pull-through looks for what it knows of a remote by its URL.
CREATE INDEX core_remoteartifact_url ON core_remoteartifact (remote, url);
DROP INDEX core_remoteartifact_remote;
ANALYZE core_profileartifact; -- makes the table below where it is not there
DELETE FROM sqlite_stat1 WHERE idx IN ('core_remoteartifact_remote', 'core_remoteartifact_url');
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('core_remoteartifact', 'core_remoteartifact_url', '1000000 1000 1'),
    ('core_profileartifact', 'core_profileartifact', '1000 2 1'),
    ('core_profileartifact', 'core_profileartifact_artifact', '1000 1'),
    ('core_vulnerabilityreport', 'core_vulnerabilityreport', '100000 1'),
    ('core_vulnerabilityreport', 'core_vulnerabilityreport_created', '100000 100000 1'),
    ('core_vulnerabilityreport', 'sqlite_autoindex_core_vulnerabilityreport_2', '100000 1'),
    ('core_vulnerabilityreport_versions', 'core_vulnerabilityreport_versions', '200000 2 1'),
    ('core_vulnerabilityreport_versions', 'core_vulnerabilityreport_versions_version', '200000 1000');
