-- +goose Up

CREATE TABLE certguard_x509certguard (
    id uuid PRIMARY KEY REFERENCES core_contentguard ON DELETE CASCADE,
    ca_certificate text COLLATE "C" NOT NULL
);

CREATE TABLE certguard_rhsmcertguard (
    id uuid PRIMARY KEY REFERENCES core_contentguard ON DELETE CASCADE,
    ca_certificate text COLLATE "C" NOT NULL
);
