-- +goose Up

CREATE TABLE core_group (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE auth_user_groups (
    user_id INTEGER NOT NULL REFERENCES auth_user ON DELETE CASCADE,
    group_id INTEGER NOT NULL REFERENCES core_group ON DELETE CASCADE,
    PRIMARY KEY (user_id, group_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX auth_user_groups_group ON auth_user_groups (group_id);

CREATE TABLE core_role (
    id BLOB PRIMARY KEY,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    locked INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE core_rolepermission (
    role BLOB NOT NULL REFERENCES core_role ON DELETE CASCADE,
    permission TEXT NOT NULL, -- as "file.view_filerepository"
    PRIMARY KEY (role, permission)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_rolepermission_permission ON core_rolepermission (permission);

-- A role on one object, in one domain, or everywhere.
CREATE TABLE core_userrole (
    id BLOB PRIMARY KEY,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    user_id INTEGER NOT NULL REFERENCES auth_user ON DELETE CASCADE,
    role BLOB NOT NULL REFERENCES core_role ON DELETE CASCADE,
    object_type TEXT, -- PRN label
    object BLOB,
    number INTEGER, -- the key of an object whose keys are integers
    domain BLOB REFERENCES core_domain ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX core_userrole_user ON core_userrole (user_id, role, object);
CREATE INDEX core_userrole_role ON core_userrole (role);
CREATE INDEX core_userrole_object ON core_userrole (object) WHERE object IS NOT NULL;
CREATE INDEX core_userrole_domain ON core_userrole (domain) WHERE domain IS NOT NULL;

CREATE TABLE core_grouprole (
    id BLOB PRIMARY KEY,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    group_id INTEGER NOT NULL REFERENCES core_group ON DELETE CASCADE,
    role BLOB NOT NULL REFERENCES core_role ON DELETE CASCADE,
    object_type TEXT,
    object BLOB,
    number INTEGER,
    domain BLOB REFERENCES core_domain ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX core_grouprole_group ON core_grouprole (group_id, role, object);
CREATE INDEX core_grouprole_role ON core_grouprole (role);
CREATE INDEX core_grouprole_object ON core_grouprole (object) WHERE object IS NOT NULL;
CREATE INDEX core_grouprole_domain ON core_grouprole (domain) WHERE domain IS NOT NULL;

-- What users may do, by roles of their own and of their groups.
CREATE VIEW core_grant (user_id, permission, object_type, object, number, domain) AS
    SELECT r.user_id, p.permission, r.object_type, r.object, r.number, r.domain
    FROM core_userrole r JOIN core_rolepermission p ON p.role = r.role
    UNION ALL
    SELECT g.user_id, p.permission, r.object_type, r.object, r.number, r.domain
    FROM auth_user_groups g JOIN core_grouprole r ON r.group_id = g.group_id JOIN core_rolepermission p ON p.role = r.role;

-- Who may do what at one part of the API; JSON as clients see it.
CREATE TABLE core_accesspolicy (
    id BLOB PRIMARY KEY,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    viewset_name TEXT NOT NULL UNIQUE,
    statements TEXT NOT NULL,
    creation_hooks TEXT,
    queryset_scoping TEXT,
    customized INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
