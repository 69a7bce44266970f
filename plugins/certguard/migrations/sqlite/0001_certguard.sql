-- +goose Up

CREATE TABLE certguard_x509certguard (
    id BLOB PRIMARY KEY REFERENCES core_contentguard ON DELETE CASCADE,
    ca_certificate TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE certguard_rhsmcertguard (
    id BLOB PRIMARY KEY REFERENCES core_contentguard ON DELETE CASCADE,
    ca_certificate TEXT NOT NULL
) STRICT, WITHOUT ROWID;
