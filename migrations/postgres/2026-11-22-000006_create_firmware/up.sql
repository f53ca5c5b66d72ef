-- What the machines' firmware was last seen to be set to, and to consist of. allowable_values is a JSON array.

CREATE TABLE bios_settings (
    node_uuid TEXT COLLATE "C" NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    name TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C",
    attribute_type TEXT COLLATE "C",
    allowable_values TEXT COLLATE "C",
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
    node_uuid TEXT COLLATE "C" NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    component TEXT COLLATE "C" NOT NULL,
    initial_version TEXT COLLATE "C" NOT NULL,
    current_version TEXT COLLATE "C",
    last_version_flashed TEXT COLLATE "C",
    vendor TEXT COLLATE "C",
    model TEXT COLLATE "C",
    serial_number TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    PRIMARY KEY (node_uuid, component)
);
