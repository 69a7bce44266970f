-- +goose Up

-- What writes repositories to files; last_export and the columns behind it are each of one type's.
CREATE TABLE core_exporter (
    id BLOB PRIMARY KEY,
    domain BLOB NOT NULL REFERENCES core_domain,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    pulp_type TEXT NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    last_export BLOB REFERENCES core_export ON DELETE SET NULL,
    method TEXT,
    UNIQUE (domain, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE core_exporterrepository (
    exporter BLOB NOT NULL REFERENCES core_exporter ON DELETE CASCADE,
    repository BLOB NOT NULL REFERENCES core_repository ON DELETE CASCADE,
    PRIMARY KEY (exporter, repository)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_exporterrepository_repository ON core_exporterrepository (repository);

CREATE TABLE core_export (
    id BLOB PRIMARY KEY,
    exporter BLOB NOT NULL REFERENCES core_exporter ON DELETE CASCADE,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    task BLOB REFERENCES core_task (id) ON DELETE SET NULL,
    params TEXT, -- what was asked for, as JSON
    output_file_info TEXT, -- the files and their digests
    toc_info TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX core_export_exporter ON core_export (exporter, created);
CREATE INDEX core_export_task ON core_export (task);
CREATE INDEX core_exporter_last ON core_exporter (last_export);

-- What an export holds: versions, or a publication.
CREATE TABLE core_exportedresource (
    export BLOB NOT NULL REFERENCES core_export ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    version BLOB REFERENCES core_repositoryversion ON DELETE CASCADE,
    publication BLOB REFERENCES core_publication ON DELETE CASCADE,
    PRIMARY KEY (export, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_exportedresource_version ON core_exportedresource (version) WHERE version IS NOT NULL;
CREATE INDEX core_exportedresource_publication ON core_exportedresource (publication) WHERE publication IS NOT NULL;

CREATE TABLE core_importer (
    id BLOB PRIMARY KEY,
    domain BLOB NOT NULL REFERENCES core_domain,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (domain, name)
) STRICT, WITHOUT ROWID;

-- Which repository gets what the export calls otherwise.
CREATE TABLE core_importerrepository (
    importer BLOB NOT NULL REFERENCES core_importer ON DELETE CASCADE,
    source TEXT NOT NULL,
    repository BLOB NOT NULL REFERENCES core_repository ON DELETE CASCADE,
    PRIMARY KEY (importer, source)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_importerrepository_repository ON core_importerrepository (repository);

CREATE TABLE core_import (
    id BLOB PRIMARY KEY,
    importer BLOB NOT NULL REFERENCES core_importer ON DELETE CASCADE,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    task BLOB NOT NULL REFERENCES core_task (id), -- stays as long as this does
    params TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX core_import_importer ON core_import (importer, created);
CREATE INDEX core_import_task ON core_import (task);
