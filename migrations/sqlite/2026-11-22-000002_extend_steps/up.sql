-- Who declared a step (interface, agent, conductor), what it says of its arguments, and whether it needs a ramdisk.
ALTER TABLE steps ADD COLUMN source TEXT NOT NULL DEFAULT 'interface';
ALTER TABLE steps ADD COLUMN argsinfo TEXT NOT NULL DEFAULT '{}';
ALTER TABLE steps ADD COLUMN requires_ramdisk BOOLEAN NOT NULL DEFAULT TRUE;

-- What a step took before: how long it may take now.
CREATE INDEX steps_done_idx ON steps (kind, interface, step) WHERE state = 'done';

CREATE TABLE node_history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    node_uuid TEXT NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    conductor TEXT,
    event_type TEXT NOT NULL,
    severity TEXT NOT NULL,
    event TEXT NOT NULL,
    user_name TEXT,
    project TEXT,
    state TEXT,
    target_provision_state TEXT,
    duration BIGINT
);

CREATE INDEX node_history_node_uuid_idx ON node_history (node_uuid, id);
CREATE INDEX node_history_created_at_idx ON node_history (created_at);

CREATE TABLE node_inventory (
    node_uuid TEXT PRIMARY KEY REFERENCES nodes (uuid) ON DELETE CASCADE,
    inventory_data TEXT NOT NULL,
    plugin_data TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
