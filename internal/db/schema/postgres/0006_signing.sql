-- +goose Up

CREATE TABLE core_signingservice (
    id uuid PRIMARY KEY,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    name text COLLATE "C" NOT NULL UNIQUE,
    class text COLLATE "C" NOT NULL, -- as "core:AsciiArmoredDetachedSigningService"
    public_key text COLLATE "C" NOT NULL,
    pubkey_fingerprint text COLLATE "C" NOT NULL,
    script text COLLATE "C" NOT NULL
);

-- OpenPGP keys, packet by packet. What belongs to a key refers to it, and signatures to what they sign: none of these can go
-- before what refers to it.
CREATE TABLE core_openpgppublickey (
    id uuid PRIMARY KEY REFERENCES core_content ON DELETE CASCADE,
    domain uuid NOT NULL REFERENCES core_domain,
    raw_data text COLLATE "C" NOT NULL, -- of all: the packet's body in base64
    fingerprint text COLLATE "C" NOT NULL,
    key_id text COLLATE "C" NOT NULL, -- by which it is served
    key_created bigint NOT NULL, -- of keys and signatures: seconds
    UNIQUE (domain, fingerprint)
);
CREATE INDEX core_openpgppublickey_keyid ON core_openpgppublickey (key_id);

CREATE TABLE core_openpgppublicsubkey (
    id uuid PRIMARY KEY REFERENCES core_content ON DELETE CASCADE,
    domain uuid NOT NULL REFERENCES core_domain,
    public_key uuid NOT NULL REFERENCES core_openpgppublickey,
    raw_data text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    key_created bigint NOT NULL,
    UNIQUE (public_key, fingerprint)
);

CREATE TABLE core_openpgpuserid (
    id uuid PRIMARY KEY REFERENCES core_content ON DELETE CASCADE,
    domain uuid NOT NULL REFERENCES core_domain,
    public_key uuid NOT NULL REFERENCES core_openpgppublickey,
    raw_data text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    sha256 text COLLATE "C" NOT NULL, -- of raw_data
    UNIQUE (public_key, sha256)
);

CREATE TABLE core_openpgpuserattribute (
    id uuid PRIMARY KEY REFERENCES core_content ON DELETE CASCADE,
    domain uuid NOT NULL REFERENCES core_domain,
    public_key uuid NOT NULL REFERENCES core_openpgppublickey,
    raw_data text COLLATE "C" NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    UNIQUE (public_key, sha256)
);

CREATE TABLE core_openpgpsignature (
    id uuid PRIMARY KEY REFERENCES core_content ON DELETE CASCADE,
    domain uuid NOT NULL REFERENCES core_domain,
    signed_content uuid NOT NULL REFERENCES core_content,
    raw_data text COLLATE "C" NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    signature_type bigint NOT NULL,
    signature_created bigint NOT NULL,
    expiration_time bigint, -- seconds after that
    key_expiration_time bigint, -- seconds after the key's creation
    issuer text COLLATE "C",
    signers_user_id text COLLATE "C",
    UNIQUE (signed_content, sha256)
);
CREATE INDEX core_openpgpsignature_issuer ON core_openpgpsignature (issuer);
