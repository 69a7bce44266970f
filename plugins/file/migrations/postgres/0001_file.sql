-- +goose Up
CREATE TABLE file_content (
    id uuid PRIMARY KEY REFERENCES core_content ON DELETE CASCADE,
    domain uuid NOT NULL REFERENCES core_domain,
    relative_path text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    UNIQUE (domain, relative_path, digest)
);
CREATE INDEX file_content_path ON file_content (relative_path);
CREATE INDEX file_content_digest ON file_content (digest);

CREATE TABLE file_repository (
    id uuid PRIMARY KEY REFERENCES core_repository ON DELETE CASCADE,
    autopublish boolean NOT NULL,
    manifest text COLLATE "C"
);

CREATE TABLE file_publication (
    id uuid PRIMARY KEY REFERENCES core_publication ON DELETE CASCADE,
    manifest text COLLATE "C"
);
