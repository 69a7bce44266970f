-- +goose Up

-- Other servers, from which distributions are copied.
CREATE TABLE core_upstreampulp (
    id uuid PRIMARY KEY,
    domain uuid NOT NULL REFERENCES core_domain ON DELETE CASCADE,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    name text COLLATE "C" NOT NULL UNIQUE, -- in all domains
    base_url text COLLATE "C" NOT NULL,
    api_root text COLLATE "C" NOT NULL,
    other_domain text COLLATE "C",
    ca_cert text COLLATE "C",
    client_cert text COLLATE "C",
    client_key text COLLATE "C", -- encrypted
    tls_validation boolean NOT NULL,
    username text COLLATE "C", -- encrypted
    password text COLLATE "C", -- encrypted
    q_select text COLLATE "C",
    last_replication bigint,
    policy text COLLATE "C" NOT NULL
);
CREATE INDEX core_upstreampulp_created ON core_upstreampulp (domain, created);
