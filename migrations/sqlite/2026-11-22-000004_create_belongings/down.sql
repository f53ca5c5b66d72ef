DROP INDEX nodes_chassis_uuid_idx;
ALTER TABLE nodes DROP COLUMN chassis_uuid;
ALTER TABLE nodes ADD COLUMN chassis_uuid TEXT;
CREATE INDEX nodes_chassis_uuid_idx ON nodes (chassis_uuid);
DROP TABLE volume_targets;
DROP TABLE volume_connectors;
DROP TABLE portgroups;
DROP TABLE chassis;
