-- What the machines' firmware was last seen to be set to, and to consist of. allowable_values is a JSON array.

CREATE TABLE bios_settings (
    node_uuid TEXT NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT,
    attribute_type TEXT,
    allowable_values TEXT,
    lower_bound BIGINT,
    max_length BIGINT,
    min_length BIGINT,
    read_only BOOLEAN,
    reset_required BOOLEAN,
    is_unique BOOLEAN,
    upper_bound BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    PRIMARY KEY (node_uuid, name)
);

CREATE TABLE firmware_components (
    node_uuid TEXT NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    component TEXT NOT NULL,
    initial_version TEXT NOT NULL,
    current_version TEXT,
    last_version_flashed TEXT,
    vendor TEXT,
    model TEXT,
    serial_number TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    PRIMARY KEY (node_uuid, component)
);
