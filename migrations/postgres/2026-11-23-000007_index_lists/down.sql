DROP INDEX steps_ended_at_idx;
DROP INDEX allocations_state_idx;
DROP INDEX ports_portgroup_uuid_idx;
CREATE INDEX ports_portgroup_uuid_idx ON ports (portgroup_uuid);
DROP INDEX nodes_created_at_idx;
DROP INDEX nodes_sharded_idx;
DROP INDEX nodes_associated_idx;
DROP INDEX nodes_parent_node_idx;
CREATE INDEX nodes_parent_node_idx ON nodes (parent_node);
