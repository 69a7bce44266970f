-- +goose Up

CREATE TABLE core_headercontentguard (
    id uuid PRIMARY KEY REFERENCES core_contentguard ON DELETE CASCADE,
    header_name text COLLATE "C" NOT NULL,
    header_value text COLLATE "C" NOT NULL,
    jq_filter text COLLATE "C"
);

CREATE TABLE core_contentredirectcontentguard (
    id uuid PRIMARY KEY REFERENCES core_contentguard ON DELETE CASCADE,
    shared_secret text COLLATE "C" NOT NULL -- 32 bytes in hexadecimal, encrypted
);

-- The guards of which one must let a request through, for a composite guard to do so.
CREATE TABLE core_compositecontentguard_guards (
    composite uuid NOT NULL REFERENCES core_contentguard ON DELETE CASCADE,
    member uuid NOT NULL REFERENCES core_contentguard ON DELETE CASCADE,
    position bigint NOT NULL,
    PRIMARY KEY (composite, member)
);
CREATE INDEX core_compositecontentguard_guards_member ON core_compositecontentguard_guards (member);
