-- +goose Up

-- Processes that are alive as long as they renew last_heartbeat before ttl runs out.
CREATE TABLE core_appstatus (
    id BLOB PRIMARY KEY,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    app_type TEXT NOT NULL, -- api, content or worker
    name TEXT NOT NULL,
    versions TEXT NOT NULL DEFAULT '{}',
    ttl INTEGER NOT NULL, -- microseconds
    last_heartbeat INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE core_taskgroup (
    id BLOB PRIMARY KEY,
    domain BLOB NOT NULL REFERENCES core_domain ON DELETE CASCADE,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    all_tasks_dispatched INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX core_taskgroup_created ON core_taskgroup (domain, created);

CREATE TABLE core_task (
    seq INTEGER PRIMARY KEY, -- the order in which tasks were dispatched
    id BLOB NOT NULL UNIQUE,
    domain BLOB NOT NULL REFERENCES core_domain ON DELETE CASCADE,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    state TEXT NOT NULL,
    name TEXT NOT NULL,
    logging_cid TEXT NOT NULL,
    user_id INTEGER REFERENCES auth_user ON DELETE SET NULL,
    unblocked_at INTEGER,
    started_at INTEGER,
    finished_at INTEGER,
    error TEXT, -- JSON
    parent_task BLOB REFERENCES core_task (id) ON DELETE SET NULL,
    task_group BLOB REFERENCES core_taskgroup ON DELETE SET NULL,
    reserved_resources_record TEXT NOT NULL, -- JSON list as clients see it
    result TEXT, -- JSON
    args TEXT NOT NULL, -- encrypted JSON
    immediate INTEGER NOT NULL DEFAULT 0,
    deferred INTEGER NOT NULL DEFAULT 1,
    versions TEXT, -- JSON object: component to least version; NULL: any worker will do
    profilers TEXT, -- JSON list
    owner BLOB, -- the core_appstatus row of who runs it
    CHECK ((owner IS NOT NULL) = (state IN ('running', 'canceling'))),
    CHECK ((finished_at IS NOT NULL) = (state IN ('completed', 'failed', 'canceled', 'skipped')))
) STRICT;
CREATE INDEX core_task_created ON core_task (domain, created);
CREATE INDEX core_task_state ON core_task (domain, state, finished_at);
CREATE INDEX core_task_name ON core_task (name);
CREATE INDEX core_task_cid ON core_task (logging_cid);
CREATE INDEX core_task_group ON core_task (task_group) WHERE task_group IS NOT NULL;
CREATE INDEX core_task_parent ON core_task (parent_task) WHERE parent_task IS NOT NULL;
CREATE INDEX core_task_user ON core_task (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX core_task_owner ON core_task (owner) WHERE owner IS NOT NULL;
CREATE INDEX core_task_ready ON core_task (immediate DESC, seq) WHERE state = 'waiting' AND unblocked_at IS NOT NULL;
CREATE INDEX core_task_blocked ON core_task (seq) WHERE state = 'waiting' AND unblocked_at IS NULL;

-- The locks of unfinished tasks, and of no others.
CREATE TABLE core_tasklock (
    resource TEXT NOT NULL,
    exclusive INTEGER NOT NULL,
    seq INTEGER NOT NULL REFERENCES core_task (seq) ON DELETE CASCADE,
    PRIMARY KEY (resource, exclusive, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_tasklock_seq ON core_tasklock (seq);

-- What every task locks or locked, for filters.
CREATE TABLE core_taskresource (
    task BLOB NOT NULL REFERENCES core_task (id) ON DELETE CASCADE,
    resource TEXT NOT NULL,
    exclusive INTEGER NOT NULL,
    PRIMARY KEY (task, resource)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_taskresource_resource ON core_taskresource (resource, exclusive, task);

CREATE TABLE core_createdresource (
    task BLOB NOT NULL REFERENCES core_task (id) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    type TEXT NOT NULL, -- PRN label
    key TEXT NOT NULL,
    PRIMARY KEY (task, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX core_createdresource_key ON core_createdresource (key, type);

CREATE TABLE core_progressreport (
    task BLOB NOT NULL REFERENCES core_task (id) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    message TEXT NOT NULL,
    code TEXT NOT NULL,
    state TEXT NOT NULL,
    total INTEGER,
    done INTEGER NOT NULL,
    suffix TEXT,
    PRIMARY KEY (task, ordinal)
) STRICT, WITHOUT ROWID;

CREATE TABLE core_groupprogressreport (
    task_group BLOB NOT NULL REFERENCES core_taskgroup ON DELETE CASCADE,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    created INTEGER NOT NULL,
    total INTEGER,
    done INTEGER NOT NULL,
    suffix TEXT,
    PRIMARY KEY (task_group, code)
) STRICT, WITHOUT ROWID;

CREATE TABLE core_taskschedule (
    id BLOB PRIMARY KEY,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE,
    task_name TEXT NOT NULL,
    dispatch_interval INTEGER, -- microseconds; NULL: once
    next_dispatch INTEGER,
    last_task BLOB REFERENCES core_task (id) ON DELETE SET NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX core_taskschedule_task ON core_taskschedule (last_task);
