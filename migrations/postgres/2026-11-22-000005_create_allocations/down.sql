DROP INDEX nodes_free_idx;
DROP TABLE allocations;
