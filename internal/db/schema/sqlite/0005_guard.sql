-- +goose Up

CREATE TABLE core_headercontentguard (
    id BLOB PRIMARY KEY REFERENCES core_contentguard ON DELETE CASCADE,
    header_name TEXT NOT NULL,
    header_value TEXT NOT NULL,
    jq_filter TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE core_contentredirectcontentguard (
    id BLOB PRIMARY KEY REFERENCES core_contentguard ON DELETE CASCADE,
    shared_secret TEXT NOT NULL -- 32 bytes in hexadecimal, encrypted
) STRICT, WITHOUT ROWID;

-- The guards of which one must let a request through, for a composite guard to do so.
CREATE TABLE core_compositecontentguard_guards (
    composite BLOB NOT NULL REFERENCES core_contentguard ON DELETE CASCADE,
    member BLOB NOT NULL REFERENCES core_contentguard ON DELETE CASCADE,
    position INTEGER NOT NULL,
    PRIMARY KEY (composite, member)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_compositecontentguard_guards_member ON core_compositecontentguard_guards (member);
