-- Every list and every filter runs along an index. Columns that work and the watch over the power write all the time
-- (power_state, updated_at, reservation, last_error, driver_internal_info, …) are in none: each write would pay for it.

-- hardly a node has a parent, and nearly every list leaves out those that have: an index over all of them made SQLite
-- go through it instead of through the table
DROP INDEX nodes_parent_node_idx;
CREATE INDEX nodes_parent_node_idx ON nodes (parent_node) WHERE parent_node IS NOT NULL;
-- nodes with an instance, in order of creation
CREATE INDEX nodes_associated_idx ON nodes (id) WHERE instance_uuid IS NOT NULL;
CREATE INDEX nodes_sharded_idx ON nodes (id) WHERE shard IS NOT NULL;
-- never changes
CREATE INDEX nodes_created_at_idx ON nodes (created_at);

DROP INDEX ports_portgroup_uuid_idx;
CREATE INDEX ports_portgroup_uuid_idx ON ports (portgroup_uuid) WHERE portgroup_uuid IS NOT NULL;

CREATE INDEX allocations_state_idx ON allocations (state);

-- what is purged
CREATE INDEX steps_ended_at_idx ON steps (ended_at) WHERE ended_at IS NOT NULL;
