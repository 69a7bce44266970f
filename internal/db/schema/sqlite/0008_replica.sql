-- +goose Up

-- Other servers, from which distributions are copied.
CREATE TABLE core_upstreampulp (
    id BLOB PRIMARY KEY,
    domain BLOB NOT NULL REFERENCES core_domain ON DELETE CASCADE,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE, -- in all domains
    base_url TEXT NOT NULL,
    api_root TEXT NOT NULL,
    other_domain TEXT,
    ca_cert TEXT,
    client_cert TEXT,
    client_key TEXT, -- encrypted
    tls_validation INTEGER NOT NULL,
    username TEXT, -- encrypted
    password TEXT, -- encrypted
    q_select TEXT,
    last_replication INTEGER,
    policy TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX core_upstreampulp_created ON core_upstreampulp (domain, created);
