-- Traits and candidates are JSON arrays in text. A node has at most one allocation, and takes it along when it goes.

CREATE TABLE allocations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    name TEXT UNIQUE,
    node_uuid TEXT UNIQUE REFERENCES nodes (uuid) ON DELETE CASCADE,
    state TEXT NOT NULL,
    owner TEXT,
    resource_class TEXT,
    traits TEXT NOT NULL,
    candidate_nodes TEXT NOT NULL,
    extra TEXT NOT NULL,
    last_error TEXT,
    conductor TEXT NOT NULL
);

CREATE INDEX allocations_owner_idx ON allocations (owner);
CREATE INDEX allocations_resource_class_idx ON allocations (resource_class);
-- what is still to be done is little: the index holds just that
CREATE INDEX allocations_open_idx ON allocations (id) WHERE state = 'allocating';
-- where the scheduler looks: the free nodes of a class, to be begun anywhere among them
CREATE INDEX nodes_free_idx ON nodes (resource_class, uuid)
    WHERE provision_state = 'available' AND instance_uuid IS NULL AND NOT maintenance;
