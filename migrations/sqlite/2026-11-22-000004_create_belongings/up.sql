-- What belongs to nodes besides their ports, and the chassis that nodes stand in.

CREATE TABLE chassis (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    description TEXT,
    extra TEXT NOT NULL
);

CREATE TABLE portgroups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    node_uuid TEXT NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    name TEXT UNIQUE,
    address TEXT UNIQUE,
    extra TEXT NOT NULL,
    internal_info TEXT NOT NULL,
    standalone_ports_supported BOOLEAN NOT NULL,
    mode TEXT,
    properties TEXT NOT NULL,
    physical_network TEXT,
    category TEXT,
    dynamic_portgroup BOOLEAN NOT NULL
);

CREATE INDEX portgroups_node_uuid_idx ON portgroups (node_uuid);

CREATE TABLE volume_connectors (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    node_uuid TEXT NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    type TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    extra TEXT NOT NULL,
    CONSTRAINT volume_connectors_connector_id_key UNIQUE (type, connector_id)
);

CREATE INDEX volume_connectors_node_uuid_idx ON volume_connectors (node_uuid);

CREATE TABLE volume_targets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    node_uuid TEXT NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    volume_type TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    boot_index BIGINT NOT NULL,
    properties TEXT NOT NULL,
    extra TEXT NOT NULL,
    CONSTRAINT volume_targets_boot_index_key UNIQUE (node_uuid, boot_index)
);

-- A chassis with nodes in it cannot go. No node has one yet, so the column is made anew, with its reference.
DROP INDEX nodes_chassis_uuid_idx;
ALTER TABLE nodes DROP COLUMN chassis_uuid;
ALTER TABLE nodes ADD COLUMN chassis_uuid TEXT REFERENCES chassis (uuid);
CREATE INDEX nodes_chassis_uuid_idx ON nodes (chassis_uuid);
