DROP TABLE node_inventory;
DROP TABLE node_history;
DROP INDEX steps_done_idx;
ALTER TABLE steps DROP COLUMN requires_ramdisk;
ALTER TABLE steps DROP COLUMN argsinfo;
ALTER TABLE steps DROP COLUMN source;
