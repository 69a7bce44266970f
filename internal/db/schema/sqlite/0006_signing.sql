-- +goose Up

CREATE TABLE core_signingservice (
    id BLOB PRIMARY KEY,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE,
    class TEXT NOT NULL, -- as "core:AsciiArmoredDetachedSigningService"
    public_key TEXT NOT NULL,
    pubkey_fingerprint TEXT NOT NULL,
    script TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- OpenPGP keys, packet by packet. What belongs to a key refers to it, and signatures to what they sign: none of these can go
-- before what refers to it.
CREATE TABLE core_openpgppublickey (
    id BLOB PRIMARY KEY REFERENCES core_content ON DELETE CASCADE,
    domain BLOB NOT NULL REFERENCES core_domain,
    raw_data TEXT NOT NULL, -- of all: the packet's body in base64
    fingerprint TEXT NOT NULL,
    key_id TEXT NOT NULL, -- by which it is served
    key_created INTEGER NOT NULL, -- of keys and signatures: seconds
    UNIQUE (domain, fingerprint)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_openpgppublickey_keyid ON core_openpgppublickey (key_id);

CREATE TABLE core_openpgppublicsubkey (
    id BLOB PRIMARY KEY REFERENCES core_content ON DELETE CASCADE,
    domain BLOB NOT NULL REFERENCES core_domain,
    public_key BLOB NOT NULL REFERENCES core_openpgppublickey,
    raw_data TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    key_created INTEGER NOT NULL,
    UNIQUE (public_key, fingerprint)
) STRICT, WITHOUT ROWID;

CREATE TABLE core_openpgpuserid (
    id BLOB PRIMARY KEY REFERENCES core_content ON DELETE CASCADE,
    domain BLOB NOT NULL REFERENCES core_domain,
    public_key BLOB NOT NULL REFERENCES core_openpgppublickey,
    raw_data TEXT NOT NULL,
    user_id TEXT NOT NULL,
    sha256 TEXT NOT NULL, -- of raw_data
    UNIQUE (public_key, sha256)
) STRICT, WITHOUT ROWID;

CREATE TABLE core_openpgpuserattribute (
    id BLOB PRIMARY KEY REFERENCES core_content ON DELETE CASCADE,
    domain BLOB NOT NULL REFERENCES core_domain,
    public_key BLOB NOT NULL REFERENCES core_openpgppublickey,
    raw_data TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    UNIQUE (public_key, sha256)
) STRICT, WITHOUT ROWID;

CREATE TABLE core_openpgpsignature (
    id BLOB PRIMARY KEY REFERENCES core_content ON DELETE CASCADE,
    domain BLOB NOT NULL REFERENCES core_domain,
    signed_content BLOB NOT NULL REFERENCES core_content,
    raw_data TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    signature_type INTEGER NOT NULL,
    signature_created INTEGER NOT NULL,
    expiration_time INTEGER, -- seconds after that
    key_expiration_time INTEGER, -- seconds after the key's creation
    issuer TEXT,
    signers_user_id TEXT,
    UNIQUE (signed_content, sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_openpgpsignature_issuer ON core_openpgpsignature (issuer);
