-- +goose Up

-- What was measured while tasks ran, where clients asked for it.
CREATE TABLE core_profileartifact (
    task uuid NOT NULL REFERENCES core_task (id) ON DELETE CASCADE,
    name text COLLATE "C" NOT NULL,
    artifact uuid NOT NULL REFERENCES core_artifact,
    PRIMARY KEY (task, name)
);
CREATE INDEX core_profileartifact_artifact ON core_profileartifact (artifact);

-- What is known to be unsafe about a unit.
CREATE TABLE core_vulnerabilityreport (
    id uuid PRIMARY KEY,
    domain uuid NOT NULL REFERENCES core_domain,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    content uuid NOT NULL UNIQUE REFERENCES core_content ON DELETE CASCADE,
    vulns text COLLATE "C" NOT NULL -- JSON
);
CREATE INDEX core_vulnerabilityreport_created ON core_vulnerabilityreport (domain, created);

-- The versions for which a report was made.
CREATE TABLE core_vulnerabilityreport_versions (
    report uuid NOT NULL REFERENCES core_vulnerabilityreport ON DELETE CASCADE,
    version uuid NOT NULL REFERENCES core_repositoryversion ON DELETE CASCADE,
    PRIMARY KEY (report, version)
);
CREATE INDEX core_vulnerabilityreport_versions_version ON core_vulnerabilityreport_versions (version);

-- Pull-through looks for what it knows of a remote by its URL, which may be longer than what a B-tree takes.
CREATE INDEX core_remoteartifact_url ON core_remoteartifact USING hash (url);
