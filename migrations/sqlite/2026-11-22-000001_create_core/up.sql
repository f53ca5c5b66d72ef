-- Text sorts by code point in both databases; timestamps are microseconds since 1970 UTC; objects are JSON text.

CREATE TABLE nodes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    name TEXT UNIQUE,
    driver TEXT NOT NULL,
    driver_info TEXT NOT NULL,
    driver_internal_info TEXT NOT NULL,
    properties TEXT NOT NULL,
    extra TEXT NOT NULL,
    instance_info TEXT NOT NULL,
    instance_uuid TEXT UNIQUE,
    instance_name TEXT,
    chassis_uuid TEXT,
    provision_state TEXT NOT NULL,
    target_provision_state TEXT,
    provision_updated_at BIGINT,
    power_state TEXT,
    target_power_state TEXT,
    last_error TEXT,
    reservation TEXT,
    maintenance BOOLEAN NOT NULL,
    maintenance_reason TEXT,
    fault TEXT,
    console_enabled BOOLEAN NOT NULL,
    raid_config TEXT NOT NULL,
    target_raid_config TEXT NOT NULL,
    inspection_started_at BIGINT,
    inspection_finished_at BIGINT,
    clean_step TEXT NOT NULL,
    deploy_step TEXT NOT NULL,
    service_step TEXT NOT NULL,
    boot_interface TEXT,
    console_interface TEXT,
    deploy_interface TEXT,
    inspect_interface TEXT,
    management_interface TEXT,
    power_interface TEXT,
    raid_interface TEXT,
    vendor_interface TEXT,
    network_interface TEXT,
    storage_interface TEXT,
    rescue_interface TEXT,
    bios_interface TEXT,
    firmware_interface TEXT,
    resource_class TEXT,
    conductor_group TEXT NOT NULL,
    automated_clean BOOLEAN,
    protected BOOLEAN NOT NULL,
    protected_reason TEXT,
    retired BOOLEAN NOT NULL,
    retired_reason TEXT,
    owner TEXT,
    lessee TEXT,
    description TEXT,
    network_data TEXT NOT NULL,
    shard TEXT,
    parent_node TEXT,
    disable_power_off BOOLEAN NOT NULL,
    boot_mode TEXT,
    secure_boot BOOLEAN,
    health TEXT
);

CREATE INDEX nodes_chassis_uuid_idx ON nodes (chassis_uuid);
CREATE INDEX nodes_provision_state_idx ON nodes (provision_state);
CREATE INDEX nodes_driver_idx ON nodes (driver);
CREATE INDEX nodes_resource_class_idx ON nodes (resource_class);
CREATE INDEX nodes_fault_idx ON nodes (fault);
CREATE INDEX nodes_conductor_group_idx ON nodes (conductor_group);
CREATE INDEX nodes_owner_idx ON nodes (owner);
CREATE INDEX nodes_lessee_idx ON nodes (lessee);
CREATE INDEX nodes_shard_idx ON nodes (shard);
CREATE INDEX nodes_parent_node_idx ON nodes (parent_node);
CREATE INDEX nodes_instance_name_idx ON nodes (instance_name);
-- few nodes are in maintenance or retired: the index holds just these
CREATE INDEX nodes_maintenance_idx ON nodes (id) WHERE maintenance;
CREATE INDEX nodes_retired_idx ON nodes (id) WHERE retired;

CREATE TABLE ports (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    node_uuid TEXT NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    address TEXT NOT NULL UNIQUE,
    extra TEXT NOT NULL,
    internal_info TEXT NOT NULL,
    local_link_connection TEXT NOT NULL,
    pxe_enabled BOOLEAN NOT NULL,
    portgroup_uuid TEXT,
    physical_network TEXT,
    is_smartnic BOOLEAN NOT NULL,
    name TEXT UNIQUE,
    description TEXT,
    vendor TEXT,
    category TEXT,
    available_for_dynamic_portgroup BOOLEAN NOT NULL
);

CREATE INDEX ports_node_uuid_idx ON ports (node_uuid);
CREATE INDEX ports_portgroup_uuid_idx ON ports (portgroup_uuid);

CREATE TABLE node_traits (
    node_uuid TEXT NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (node_uuid, name)
);

CREATE TABLE conductors (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hostname TEXT NOT NULL UNIQUE,
    conductor_group TEXT NOT NULL,
    drivers TEXT NOT NULL,
    online BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Append-only. Events outlive their node, so there is no foreign key.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    node_uuid TEXT,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    text TEXT NOT NULL,
    data TEXT NOT NULL
);

CREATE INDEX events_node_uuid_idx ON events (node_uuid, seq);
CREATE INDEX events_at_idx ON events (at);

-- The last number given out. A sequence would let a reader see number 6 before number 5 is committed and so
-- lose 5; this row stays locked until the transaction ends, which makes the numbers appear in order.
CREATE TABLE event_counter (
    id BIGINT PRIMARY KEY,
    last BIGINT NOT NULL
);

INSERT INTO event_counter (id, last) VALUES (1, 0);

CREATE TABLE steps (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    node_uuid TEXT NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    op TEXT NOT NULL,
    kind TEXT NOT NULL,
    idx INTEGER NOT NULL,
    interface TEXT NOT NULL,
    step TEXT NOT NULL,
    priority INTEGER NOT NULL,
    abortable BOOLEAN NOT NULL,
    args TEXT NOT NULL,
    resume TEXT NOT NULL,
    state TEXT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    checkpoint TEXT,
    error TEXT,
    UNIQUE (op, idx)
);

CREATE INDEX steps_node_uuid_idx ON steps (node_uuid, id);
CREATE INDEX steps_open_idx ON steps (node_uuid) WHERE state IN ('pending', 'running');
