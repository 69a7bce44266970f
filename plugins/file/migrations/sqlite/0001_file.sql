-- +goose Up
CREATE TABLE file_content (
    id BLOB PRIMARY KEY REFERENCES core_content ON DELETE CASCADE,
    domain BLOB NOT NULL REFERENCES core_domain,
    relative_path TEXT NOT NULL,
    digest TEXT NOT NULL,
    UNIQUE (domain, relative_path, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX file_content_path ON file_content (relative_path);
CREATE INDEX file_content_digest ON file_content (digest);

CREATE TABLE file_repository (
    id BLOB PRIMARY KEY REFERENCES core_repository ON DELETE CASCADE,
    autopublish INTEGER NOT NULL,
    manifest TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE file_publication (
    id BLOB PRIMARY KEY REFERENCES core_publication ON DELETE CASCADE,
    manifest TEXT
) STRICT, WITHOUT ROWID;

-- what these tables are like when they are large, for SQLite's planner: see the core's
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('file_content', 'file_content', '1000000 1'),
    ('file_content', 'file_content_path', '1000000 2'),
    ('file_content', 'file_content_digest', '1000000 2'),
    ('file_content', 'sqlite_autoindex_file_content_2', '1000000 1000000 2 1'),
    ('file_repository', 'file_repository', '1000 1'),
    ('file_publication', 'file_publication', '5000 1');
