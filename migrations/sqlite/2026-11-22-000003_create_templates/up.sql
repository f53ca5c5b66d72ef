-- Steps, conditions and actions are JSON arrays in text.

CREATE TABLE deploy_templates (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    name TEXT NOT NULL UNIQUE,
    steps TEXT NOT NULL,
    extra TEXT NOT NULL
);

CREATE TABLE runbooks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    name TEXT NOT NULL UNIQUE,
    steps TEXT NOT NULL,
    extra TEXT NOT NULL,
    disable_ramdisk BOOLEAN NOT NULL,
    public BOOLEAN NOT NULL,
    owner TEXT,
    description TEXT
);

CREATE INDEX runbooks_owner_idx ON runbooks (owner);

CREATE TABLE runbook_traits (
    runbook_uuid TEXT NOT NULL REFERENCES runbooks (uuid) ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (runbook_uuid, name)
);

CREATE TABLE inspection_rules (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    description TEXT,
    priority INTEGER NOT NULL,
    phase TEXT NOT NULL,
    scope TEXT,
    sensitive BOOLEAN NOT NULL,
    conditions TEXT NOT NULL,
    actions TEXT NOT NULL
);

CREATE INDEX inspection_rules_phase_idx ON inspection_rules (phase, priority);
