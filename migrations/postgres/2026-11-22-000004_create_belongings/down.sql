ALTER TABLE nodes DROP CONSTRAINT nodes_chassis_uuid_fkey;
DROP TABLE volume_targets;
DROP TABLE volume_connectors;
DROP TABLE portgroups;
DROP TABLE chassis;
