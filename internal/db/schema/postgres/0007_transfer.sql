-- +goose Up

-- What writes repositories to files; last_export and the columns behind it are each of one type's.
CREATE TABLE core_exporter (
    id uuid PRIMARY KEY,
    domain uuid NOT NULL REFERENCES core_domain,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    pulp_type text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    path text COLLATE "C" NOT NULL,
    last_export uuid,
    method text COLLATE "C",
    UNIQUE (domain, name)
);

CREATE TABLE core_exporterrepository (
    exporter uuid NOT NULL REFERENCES core_exporter ON DELETE CASCADE,
    repository uuid NOT NULL REFERENCES core_repository ON DELETE CASCADE,
    PRIMARY KEY (exporter, repository)
);
CREATE INDEX core_exporterrepository_repository ON core_exporterrepository (repository);

CREATE TABLE core_export (
    id uuid PRIMARY KEY,
    exporter uuid NOT NULL REFERENCES core_exporter ON DELETE CASCADE,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    task uuid REFERENCES core_task (id) ON DELETE SET NULL,
    params text COLLATE "C", -- what was asked for, as JSON
    output_file_info text COLLATE "C", -- the files and their digests
    toc_info text COLLATE "C"
);
CREATE INDEX core_export_exporter ON core_export (exporter, created);
CREATE INDEX core_export_task ON core_export (task);
ALTER TABLE core_exporter ADD FOREIGN KEY (last_export) REFERENCES core_export ON DELETE SET NULL;
CREATE INDEX core_exporter_last ON core_exporter (last_export);

-- What an export holds: versions, or a publication.
CREATE TABLE core_exportedresource (
    export uuid NOT NULL REFERENCES core_export ON DELETE CASCADE,
    ordinal bigint NOT NULL,
    version uuid REFERENCES core_repositoryversion ON DELETE CASCADE,
    publication uuid REFERENCES core_publication ON DELETE CASCADE,
    PRIMARY KEY (export, ordinal)
);
CREATE INDEX core_exportedresource_version ON core_exportedresource (version) WHERE version IS NOT NULL;
CREATE INDEX core_exportedresource_publication ON core_exportedresource (publication) WHERE publication IS NOT NULL;

CREATE TABLE core_importer (
    id uuid PRIMARY KEY,
    domain uuid NOT NULL REFERENCES core_domain,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    UNIQUE (domain, name)
);

-- Which repository gets what the export calls otherwise.
CREATE TABLE core_importerrepository (
    importer uuid NOT NULL REFERENCES core_importer ON DELETE CASCADE,
    source text COLLATE "C" NOT NULL,
    repository uuid NOT NULL REFERENCES core_repository ON DELETE CASCADE,
    PRIMARY KEY (importer, source)
);
CREATE INDEX core_importerrepository_repository ON core_importerrepository (repository);

CREATE TABLE core_import (
    id uuid PRIMARY KEY,
    importer uuid NOT NULL REFERENCES core_importer ON DELETE CASCADE,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    task uuid NOT NULL REFERENCES core_task (id), -- stays as long as this does
    params text COLLATE "C"
);
CREATE INDEX core_import_importer ON core_import (importer, created);
CREATE INDEX core_import_task ON core_import (task);
