use super::*;

/// What the reference (microversions.md, made from Ironic 39.0.0) says of each version: all of it must be gated there.
/// A version whose list is empty stands among the markers.
#[rustfmt::skip]
const FACTS: &[(u16, &[&str])] = &[
    (2, &["value AVAILABLE_NAMED"]),
    (3, &["node.driver_internal_info"]),
    (4, &["verb manage", "verb provide"]),
    (5, &["node.name", "value NODE_NAME_IN_PATH"]),
    (6, &["verb inspect", "node.inspection_started_at", "node.inspection_finished_at"]),
    (7, &["node.clean_step"]),
    (8, &["nodes?fields", "ports?fields", "chassis?fields"]),
    (9, &["nodes?provision_state"]),
    (10, &["value RELAXED_NAMES"]),
    (11, &["value STARTS_IN_ENROLL"]),
    (12, &["node.raid_config", "node.target_raid_config", "value STATES_RAID", "PUT /nodes/{ident}/states/raid",
           "GET /drivers/{name}/raid/logical_disk_properties"]),
    (13, &["verb abort"]),
    (14, &["node.states", "value DRIVER_PROPERTIES_LINK"]),
    (15, &["verb clean"]),
    (16, &["nodes?driver"]),
    (17, &["verb adopt"]),
    (18, &["port.internal_info"]),
    (19, &["port.local_link_connection", "port.pxe_enabled"]),
    (20, &["node.network_interface"]),
    (21, &["node.resource_class", "nodes?resource_class"]),
    (22, &["GET /lookup", "POST /heartbeat/{ident}", "/v1 shows lookup", "/v1 shows heartbeat"]),
    (23, &["GET /portgroups", "POST /portgroups", "GET /portgroups/{ident}", "PATCH /portgroups/{ident}",
           "DELETE /portgroups/{ident}", "/v1 shows portgroups"]),
    (24, &["GET /nodes/{ident}/portgroups", "GET /portgroups/{uuid}/ports", "port.portgroup_uuid", "ports?portgroup",
           "node.portgroups"]),
    (25, &["value UNSET_CHASSIS"]),
    (26, &["portgroup.mode", "portgroup.properties"]),
    (27, &["power soft rebooting", "power soft power off", "nodes/states/power?timeout"]),
    (28, &["GET /nodes/{ident}/vifs", "POST /nodes/{ident}/vifs", "DELETE /nodes/{ident}/vifs/{vif}"]),
    (29, &["PUT /nodes/{ident}/management/inject_nmi"]),
    (30, &["drivers?type", "drivers?detail", "value DRIVER_TYPE"]),
    (31, &["node.boot_interface", "node.console_interface", "node.deploy_interface", "node.inspect_interface",
           "node.management_interface", "node.power_interface", "node.raid_interface", "node.vendor_interface"]),
    (32, &["GET /volume", "GET /volume/connectors", "GET /volume/targets", "POST /volume/connectors",
           "POST /volume/targets", "GET /nodes/{ident}/volume", "node.volume", "/v1 shows volume"]),
    (33, &["node.storage_interface", "driver.storage"]),
    (34, &["port.physical_network"]),
    (35, &["configdrive with rebuild"]),
    (36, &["heartbeat?agent_version"]),
    (37, &["node.traits", "GET /nodes/{ident}/traits", "PUT /nodes/{ident}/traits", "DELETE /nodes/{ident}/traits"]),
    (38, &["verb rescue", "verb unrescue", "node.rescue_interface", "driver.rescue"]),
    (39, &["value INSPECT_WAIT_NAMED", "value INSPECTING_LOCKED"]),
    (40, &["node.bios_interface", "GET /nodes/{ident}/bios", "driver.bios"]),
    (41, &["verb abort in inspect wait"]),
    (42, &["node.fault", "nodes?fault"]),
    (43, &["nodes?detail", "ports?detail", "portgroups?detail", "chassis?detail"]),
    (44, &["node.deploy_step"]),
    (45, &["nodes?reset_interfaces"]),
    (46, &["node.conductor_group", "nodes?conductor_group"]),
    (47, &["node.automated_clean"]),
    (48, &["node.protected", "node.protected_reason"]),
    (49, &["GET /conductors", "GET /conductors/{hostname}", "node.conductor", "nodes?conductor", "/v1 shows conductors"]),
    (50, &["node.owner", "nodes?owner"]),
    (51, &["node.description"]),
    (52, &["GET /allocations", "POST /allocations", "GET /allocations/{ident}", "DELETE /allocations/{ident}",
           "GET /nodes/{ident}/allocation", "DELETE /nodes/{ident}/allocation", "node.allocation_uuid",
           "/v1 shows allocations"]),
    (53, &["port.is_smartnic"]),
    (54, &["POST /events", "/v1 shows events"]),
    (55, &["GET /deploy_templates", "POST /deploy_templates", "GET /deploy_templates/{ident}",
           "PATCH /deploy_templates/{ident}", "DELETE /deploy_templates/{ident}", "/v1 shows deploy_templates"]),
    (56, &["value CONFIGDRIVE_OBJECT"]),
    (57, &["PATCH /allocations/{ident}"]),
    (58, &["value ALLOCATION_BACKFILL"]),
    (59, &["value CONFIGDRIVE_VENDOR_DATA"]),
    (60, &["allocation.owner", "allocations?owner"]),
    (61, &["node.retired", "node.retired_reason"]),
    (62, &["value LOOKUP_TOKEN"]),
    (63, &[]),
    (64, &["value LOCAL_LINK_NETWORK_TYPE"]),
    (65, &["node.lessee", "nodes?lessee"]),
    (66, &["node.network_data"]),
    (67, &["value VIF_PORT"]),
    (68, &["heartbeat?agent_verify_ca"]),
    (69, &["value DEPLOY_STEPS"]),
    (70, &["disable_ramdisk with clean"]),
    (71, &[]),
    (72, &["heartbeat?agent_status", "heartbeat?agent_status_message"]),
    (73, &["verb deploy", "value RAW_DELETE"]),
    (74, &["nodes/bios?detail", "nodes/bios?fields"]),
    (75, &["node.boot_mode", "node.secure_boot", "value STATES_BOOT_MODE"]),
    (76, &["PUT /nodes/{ident}/states/boot_mode", "PUT /nodes/{ident}/states/secure_boot"]),
    (77, &["drivers?fields"]),
    (78, &["GET /nodes/{ident}/history", "GET /nodes/{ident}/history/{line}"]),
    (79, &[]),
    (80, &[]),
    (81, &["GET /nodes/{ident}/inventory"]),
    (82, &["node.shard", "nodes?shard", "nodes?sharded", "ports?shard", "GET /shards", "/v1 shows shards"]),
    (83, &["node.parent_node", "nodes?parent_node", "nodes?include_children", "GET /nodes/{ident}/children"]),
    (84, &["value CONTINUE_INSPECTION", "/v1 shows continue_inspection"]),
    (85, &["verb unhold"]),
    (86, &["node.firmware_interface", "GET /nodes/{ident}/firmware", "driver.firmware"]),
    (87, &["verb service", "node.service_step", "value SERVICE_STEPS"]),
    (88, &["port.name"]),
    (89, &["POST /nodes/{ident}/vmedia", "DELETE /nodes/{ident}/vmedia"]),
    (90, &["value VTEP_SINCE"]),
    (91, &["value JSON_SUFFIX_LITERAL"]),
    (92, &["GET /runbooks", "POST /runbooks", "GET /runbooks/{ident}", "PATCH /runbooks/{ident}",
           "DELETE /runbooks/{ident}", "value RUNBOOK", "/v1 shows runbooks"]),
    (93, &["GET /nodes/{ident}/vmedia"]),
    (94, &["value PORT_NODE_IDENT"]),
    (95, &["node.disable_power_off"]),
    (96, &["GET /inspection_rules", "POST /inspection_rules", "GET /inspection_rules/{uuid}",
           "PATCH /inspection_rules/{uuid}", "DELETE /inspection_rules/{uuid}", "/v1 shows inspection_rules"]),
    (97, &["port.description"]),
    (98, &[]),
    (99, &[]),
    (100, &["port.vendor"]),
    (101, &["port.category"]),
    (102, &["portgroup.physical_network"]),
    (103, &["portgroup.category"]),
    (104, &["node.instance_name", "nodes?instance_name"]),
    (105, &["value VTEP_UNTIL"]),
    (106, &["portgroups?shard"]),
    (107, &[]),
    (108, &["disable_ramdisk with service"]),
    (109, &["node.health"]),
    (110, &["verb abort in wait call-back"]),
    (111, &["port.available_for_dynamic_portgroup", "portgroup.dynamic_portgroup"]),
    (112, &["runbook.traits", "runbook.description", "GET /runbooks/{ident}/traits", "PUT /runbooks/{ident}/traits",
            "value RELAXED_RUNBOOKS"]),
    (113, &["value HISTORY_PROJECT"]),
    (114, &["firmware.vendor", "firmware.model", "firmware.serial_number"]),
    (115, &["value HISTORY_STATES"]),
];

#[test]
fn the_tables_gate_what_the_reference_names() {
    let mut missing = Vec::new();
    for (minor, facts) in FACTS {
        let there = gated(*minor);
        let lacking = facts.iter().filter(|fact| !there.contains(**fact));
        missing.extend(lacking.map(|fact| format!("1.{minor}: {fact}")));
    }
    assert!(missing.is_empty(), "not gated by the tables:\n{}", missing.join("\n"));
}

#[test]
fn no_microversion_is_forgotten() {
    let told: Vec<u16> = FACTS.iter().map(|(minor, _)| *minor).collect();
    assert_eq!(told, (2..=Version::MAX.0).collect::<Vec<_>>());
    for (minor, facts) in FACTS {
        let marked = MARKERS.iter().any(|(at, _)| at == minor);
        assert_eq!(facts.is_empty(), marked, "1.{minor} is gated by something, or is a marker");
    }
}

#[test]
fn every_lone_number_of_the_gates_is_told() {
    let source = include_str!("../gates.rs");
    let numbers = source.lines().filter_map(|line| {
        let (name, kind) = line.trim().strip_prefix("pub const ")?.split_once(": ")?;
        kind.starts_with("u16 =").then_some(name)
    });
    let untold: Vec<&str> = numbers.filter(|name| !VALUES.iter().any(|value| value.name == *name)).collect();
    assert!(untold.is_empty(), "web/src/microversions.rs lacks a line about {untold:?}");
}

#[test]
fn the_committed_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/generated/microversions.md");
    let now = markdown();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &now).expect("the page can be written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == now, "{path} is not what the tables say; run the tests with UPDATE_GOLDEN=1");
}
