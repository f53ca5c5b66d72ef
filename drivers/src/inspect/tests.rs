//! What becomes of a ramdisk's report.

use std::net::IpAddr;
use std::sync::Arc;

use ferric_machine::Activity;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::DriverError;
use crate::boot::{PortIndex, PxeBoot, PxeSettings};
use crate::interface::{Found, Json, Kind, NodeChange, NodeView, PortView, Step, StepOutcome, Steps};
use crate::testing::{World, json as object};

const BOOTED: &str = "52:54:00:00:00:01";
const OTHER: &str = "52:54:00:00:00:02";

fn report() -> Value {
    json!({
        "inventory": {
            "interfaces": [
                {"name": "lo", "mac_address": "00:00:00:00:00:00", "ipv4_address": "127.0.0.1"},
                {"name": "eth0", "mac_address": "52:54:00:00:00:01", "ipv4_address": "10.0.0.5", "client_id": "c1",
                 "lldp": [[1, "04112233aabbcc"], [2, "0545746831"], [5, "7377"]]},
                {"name": "eth1", "mac_address": "52:54:00:00:00:02", "ipv6_address": "fd00::2%eth1"},
                {"name": "eth2", "mac_address": "52-54-00-00-00-03"},
                {"name": "", "mac_address": "52:54:00:00:00:04"},
                {"name": "eth5", "mac_address": "no mac"},
                {"name": "eth6", "mac_address": null}
            ],
            "cpu": {"count": 8, "architecture": "x86_64", "flags": ["vmx", "aes", "other"]},
            "memory": {"physical_mb": 4096},
            "disks": [
                {"name": "/dev/sda", "size": 20_u64 << 30, "serial": "A", "rotational": true},
                {"name": "/dev/sdb", "size": 40_u64 << 30, "serial": "B", "rotational": false}
            ],
            "boot": {"current_boot_mode": "uefi", "pxe_interface": "01-52-54-00-00-00-01"}
        },
        "plugin_data": {
            "root_disk": {"name": "/dev/sda", "size": 20_u64 << 30},
            "pci_devices": [
                {"vendor_id": "10de", "product_id": "1eb8", "bus": "0000:01:00.0"},
                {"vendor_id": "8086", "product_id": "1533", "bus": "0000:02:00.0"},
                {"vendor_id": "8086", "product_id": "1533", "bus": "0000:03:00.0"}
            ]
        }
    })
}

fn bare() -> NodeView {
    NodeView { ports: Vec::new(), ..crate::testing::node() }
}

fn with_ports(addresses: &[&str]) -> NodeView {
    let port = |(index, address): (usize, &&str)| PortView {
        uuid: Uuid::from_u128(100 + index as u128),
        address: (*address).to_owned(),
        pxe_enabled: true,
    };
    NodeView { ports: addresses.iter().enumerate().map(port).collect(), ..bare() }
}

fn hooked(names: &[&str]) -> InspectSettings {
    InspectSettings { hooks: names.iter().map(|name| (*name).to_owned()).collect(), ..Default::default() }
}

fn look(settings: &InspectSettings, node: &NodeView, report: &Value) -> Result<Found, DriverError> {
    process(settings, &settings.hooks().unwrap(), node, &object(report.clone()))
}

fn properties(found: &Found) -> Json {
    let properties = found.node.iter().find_map(|change| {
        let NodeChange::Properties(map) = change else { return None };
        Some(map.clone())
    });
    properties.unwrap_or_default()
}

fn created(found: &Found) -> Vec<(&str, bool)> {
    found.ports.iter().map(|port| (port.address.as_str(), port.pxe_enabled)).collect()
}

#[test]
fn by_default_the_port_booted_from_and_the_architecture_are_found() {
    let found = look(&InspectSettings::default(), &bare(), &report()).unwrap();
    assert_eq!(created(&found), [(BOOTED, true)]);
    assert_eq!(found.ports[0].extra["client-id"], "c1");
    assert_eq!(properties(&found)["cpu_arch"], "x86_64");
    let (inventory, plugin_data) = found.inventory.unwrap();
    assert_eq!(Value::Object(inventory), report()["inventory"]);
    assert_eq!(plugin_data["macs"], json!([BOOTED]));
    assert_eq!(plugin_data["all_interfaces"]["eth2"]["mac_address"], "52:54:00:00:00:03");
    assert_eq!(plugin_data["all_interfaces"]["eth1"]["ipv6_address"], "fd00::2");
    let known: Vec<&String> = plugin_data["all_interfaces"].as_object().unwrap().keys().collect();
    assert_eq!(known, ["eth0", "eth1", "eth2", "lo"]);
}

#[test]
fn the_operator_decides_which_cards_become_ports() {
    for (add_ports, expected) in [
        (AddPorts::Pxe, vec![(BOOTED, true)]),
        (AddPorts::Active, vec![(BOOTED, true), (OTHER, false)]),
        (AddPorts::All, vec![(BOOTED, true), (OTHER, false), ("52:54:00:00:00:03", false)]),
        (AddPorts::Disabled, vec![]),
    ] {
        let settings = InspectSettings { add_ports, ..Default::default() };
        let found = look(&settings, &bare(), &report()).unwrap();
        assert_eq!(created(&found), expected, "{add_ports:?}");
    }
    let mut silent = report();
    silent["inventory"]["boot"] = json!({});
    let found = look(&InspectSettings::default(), &bare(), &silent).unwrap();
    let all = [(BOOTED, true), (OTHER, true), ("52:54:00:00:00:03", true)];
    assert_eq!(created(&found), all, "without a word about the boot, no port is left out or disabled");
}

#[test]
fn ports_that_are_there_are_kept_changed_or_taken_away() {
    let gone = "52:54:00:00:00:99";
    let node = with_ports(&[BOOTED, OTHER, gone]);
    for (keep_ports, expected) in [
        (KeepPorts::All, vec![]),
        (KeepPorts::Present, vec![Uuid::from_u128(102)]),
        (KeepPorts::Added, vec![Uuid::from_u128(101), Uuid::from_u128(102)]),
    ] {
        let settings = InspectSettings { keep_ports, ..Default::default() };
        let found = look(&settings, &node, &report()).unwrap();
        assert_eq!(found.ports_gone, expected, "{keep_ports:?}");
        assert!(found.ports.is_empty(), "{:?}", found.ports);
    }
    let found = look(&InspectSettings::default(), &node, &report()).unwrap();
    let changes: Vec<_> = found.ports_changed.iter().map(|c| (c.uuid.as_u128(), c.pxe_enabled)).collect();
    assert_eq!(changes, [(100, None), (101, Some(false)), (102, Some(false))]);
    assert_eq!(found.ports_changed[0].extra, Some(object(json!({"client-id": "c1"}))));
    let settings = InspectSettings { update_pxe_enabled: false, ..Default::default() };
    let found = look(&settings, &node, &report()).unwrap();
    assert_eq!(found.ports_changed.len(), 1, "{:?}", found.ports_changed);
}

#[test]
fn what_an_operator_wrote_into_a_port_stays() {
    let settings = InspectSettings {
        physical_networks: vec!["10.0.0.0/24:tenants".parse().unwrap()],
        ..hooked(&["$default_hooks", "local-link-connection", "parse-lldp", "physical-network"])
    };
    let node = with_ports(&[BOOTED]);
    let mut told = report();
    told["ports"] = json!([{"uuid": Uuid::from_u128(100), "extra": {"own": 1},
        "local_link_connection": {"port_id": "mine"}, "physical_network": null}]);
    let found = look(&settings, &node, &told).unwrap();
    let change = &found.ports_changed[0];
    assert_eq!(change.extra, Some(object(json!({"own": 1, "client-id": "c1"}))));
    let link = json!({"port_id": "mine", "switch_id": "11:22:33:aa:bb:cc", "switch_info": "sw"});
    assert_eq!(change.local_link_connection, Some(object(link)));
    assert_eq!(change.physical_network, Some(Some("tenants".into())));
    let parsed = &found.inventory.unwrap().1["parsed_lldp"]["eth0"];
    assert_eq!(parsed["switch_port_id"], "Eth1");
}

#[test]
fn the_other_hooks_fill_properties_and_capabilities() {
    let mut settings = hooked(&[
        "memory",
        "root-device",
        "boot-mode",
        "cpu-capabilities",
        "accelerators",
        "pci-devices",
        "extra-hardware",
    ]);
    settings.pci_device_alias =
        vec![PciAlias { vendor_id: "8086".into(), product_id: "1533".into(), name: "nics".into() }];
    let mut node = bare();
    node.properties.insert("capabilities".into(), json!("own:1,boot_mode:bios"));
    let mut told = report();
    told["plugin_data"]["data"] =
        json!([["cpu", "physical_0", "cores", "4"], ["cpu", "physical_0", "vendor", "x"], []]);
    let found = look(&settings, &node, &told).unwrap();
    let all = properties(&found);
    assert_eq!((&all["memory_mb"], &all["local_gb"]), (&json!(4096), &json!(19)));
    assert_eq!(all["capabilities"], "own:1,boot_mode:uefi,cpu_vt:true,cpu_aes:true,nics:2");
    assert_eq!(all["accelerators"][0]["pci_address"], "0000:01:00.0");
    assert_eq!(all["accelerators"][0]["device_info"], "NVIDIA Corporation Tesla T4");
    let plugin_data = found.inventory.unwrap().1;
    assert_eq!(plugin_data["extra"], json!({"cpu": {"physical_0": {"cores": 4, "vendor": "x"}}}));
    assert!(!plugin_data.contains_key("data"));
}

#[test]
fn root_device_hints_choose_among_the_disks_that_are_not_skipped() {
    let settings = hooked(&["root-device"]);
    let mut node = bare();
    node.properties.insert("root_device".into(), json!({"size": ">= 10"}));
    node.properties.insert("skip_block_devices".into(), json!([{"name": "/dev/sda"}]));
    let found = look(&settings, &node, &report()).unwrap();
    assert_eq!(properties(&found)["local_gb"], 39);
    assert_eq!(found.inventory.unwrap().1["root_disk"]["name"], "/dev/sdb");
    node.properties.insert("root_device".into(), json!({"size": ">= 100"}));
    let error = look(&settings, &node, &report()).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "Failed to inspect hardware. Reason: No disks satisfied root device hints for node {}",
            node.uuid
        )
    );
}

#[test]
fn the_one_new_disk_after_a_raid_was_made_becomes_the_root_device() {
    let settings = hooked(&["raid-device"]);
    let mut told = report();
    assert!(look(&settings, &bare(), &told).unwrap().node.is_empty(), "nothing to compare with");
    told["previous_inventory"] = json!({"disks": [{"serial": "A"}]});
    let found = look(&settings, &bare(), &told).unwrap();
    assert_eq!(properties(&found)["root_device"], json!({"serial": "s== B"}));
    told["previous_inventory"] = json!({"disks": []});
    assert!(look(&settings, &bare(), &told).unwrap().node.is_empty(), "two are new");
}

#[test]
fn a_report_that_is_no_use_fails_in_ironics_words() {
    let settings = InspectSettings::default();
    let uuid = bare().uuid;
    let change = |what: &dyn Fn(&mut Value)| {
        let mut told = report();
        what(&mut told);
        look(&settings, &bare(), &told).unwrap_err().to_string()
    };
    let invalid = format!("Inventory for node {uuid} is invalid: ");
    assert_eq!(
        change(&|told| told["plugin_data"]["error"] = json!("no disks")),
        "Failed to inspect hardware. Reason: Ramdisk reported error: no disks"
    );
    assert_eq!(
        change(&|told| told["inventory"]["interfaces"] = json!(null)),
        format!("{invalid}no interfaces present in inventory")
    );
    assert_eq!(
        change(&|told| told["inventory"]["interfaces"] = json!([{"name": "eth0"}])),
        format!("{invalid}no valid network interfaces")
    );
    assert_eq!(
        change(&|told| told["inventory"]["boot"]["pxe_interface"] = json!("52:54:00:00:00:77")),
        format!("{invalid}no network interfaces match the configuration (add_ports set to \"pxe\")")
    );
    assert!(change(&|told| told["inventory"]["cpu"] = json!({})).starts_with(&format!(
        "{invalid}Inventory has malformed or missing CPU architecture information: {{}}"
    )));
}

#[test]
fn rules_run_after_the_hooks_and_see_what_they_did() {
    let mut told = report();
    told["node"] = json!({"extra": {}, "traits": []});
    told["rules"] = json!([{"uuid": "r", "priority": 0, "phase": "main", "sensitive": false,
    "conditions": [{"op": "eq", "args": {"values": ["{node.properties[cpu_arch]}", "x86_64"]}}],
    "actions": [
        {"op": "add-trait", "args": {"name": "CUSTOM_X86"}},
        {"op": "set-port-attribute", "args": {"port_id": "{item}", "path": "extra/seen", "value": "yes"}, "loop": [BOOTED]}
    ]}]);
    let found = look(&InspectSettings::default(), &bare(), &told).unwrap();
    assert!(found.node.contains(&NodeChange::Traits(vec!["CUSTOM_X86".into()])), "{:?}", found.node);
    assert_eq!(found.ports[0].extra["seen"], "yes");
    assert!(properties(&found).contains_key("cpu_arch"));
}

#[test]
fn hooks_that_do_not_exist_or_do_not_fit_are_refused_at_the_start() {
    assert_eq!(InspectSettings::default().hooks().unwrap().len(), 4);
    for (names, word) in [
        (vec!["$default_hooks", "colour"], "colour"),
        (vec!["ports"], "validate-interfaces"),
        (vec!["physical-network", "validate-interfaces"], "validate-interfaces"),
    ] {
        let error = AgentInspect::new(hooked(&names)).err().expect("refused").to_string();
        assert!(error.contains(word), "{error}");
    }
    for hook in Hook::ALL {
        assert_eq!(hook.as_str().parse::<Hook>().unwrap(), hook);
    }
    let map: SubnetOf = "2001:db8::/64:physnet_b".parse().unwrap();
    assert!(map.subnet.contains(&"2001:db8::1".parse::<IpAddr>().unwrap()) && map.network == "physnet_b");
}

#[tokio::test]
async fn the_ramdisk_is_started_once_and_only_its_report_ends_the_wait() {
    let mut world = World::new().await;
    let inspect = Arc::new(AgentInspect::new(InspectSettings::default()).unwrap());
    world.bound.steps.insert(Kind::Inspect, inspect.clone());
    let step = &inspect.steps(&world.node, Activity::Inspect)[0];
    let mut context = world.context(Activity::Inspect, step);
    let StepOutcome::Wait(progressed) = inspect.execute(&context).await.unwrap() else { panic!("it waits") };
    assert_eq!(world.asked(), ["power power off", "ramdisk Inspect"]);
    context.checkpoint = progressed.checkpoint;
    context.resumed = true;
    for _ in 0..3 {
        assert!(matches!(inspect.poll(&context).await.unwrap(), StepOutcome::Wait(_)));
    }
    assert_eq!(world.asked().len(), 2, "a heartbeat or a restart does not start it again");
    // a crash before the wait was stored
    context.checkpoint = None;
    assert!(matches!(inspect.poll(&context).await.unwrap(), StepOutcome::Wait(_)));
    assert_eq!(world.asked().len(), 4);

    let process = Step { args: object(report()), ..Step::new("inspect", PROCESS, 0) };
    let outcome = inspect.execute(&world.context(Activity::Inspect, &process)).await.unwrap();
    assert!(matches!(outcome, StepOutcome::Found(found) if found.inventory.is_some()));
    assert_eq!(world.asked()[4..], ["power power off", "files"]);
    let mut bad = report();
    bad["plugin_data"]["error"] = json!("broken");
    let process = Step { args: object(bad), ..process };
    assert!(inspect.execute(&world.context(Activity::Inspect, &process)).await.is_err());
    assert_eq!(world.asked().len(), 6, "a failed inspection leaves the machine to the clean-up");

    world.node.ports.clear();
    let error = inspect.validate_for(&world.node, Activity::Inspect).unwrap_err();
    assert!(error.to_string().contains("pxe_enabled"), "{error}");
    let unmanaged = InspectSettings { require_managed_boot: false, ..Default::default() };
    AgentInspect::new(unmanaged).unwrap().validate_for(&world.node, Activity::Inspect).unwrap();
}

#[tokio::test]
async fn where_boot_need_not_be_managed_a_machine_without_ports_boots_what_the_network_has() {
    let mut world = World::new().await;
    world.node.ports.clear();
    let (settings, index) = (Arc::new(PxeSettings::default()), Arc::new(PortIndex::default()));
    world.bound.boot = Arc::new(PxeBoot::new(settings, index));
    let step = Step::new("inspect", "inspect_hardware", 0);
    for (require_managed_boot, asked) in [(true, vec![]), (false, vec!["power power on"])] {
        let inspect =
            AgentInspect::new(InspectSettings { require_managed_boot, ..Default::default() }).unwrap();
        assert_eq!(inspect.requires_boot(), require_managed_boot);
        let started = inspect.execute(&world.context(Activity::Inspect, &step)).await;
        assert_eq!(matches!(started, Ok(StepOutcome::Wait(_))), !require_managed_boot, "{started:?}");
        let done: Vec<_> = world.asked().into_iter().filter(|what| !what.contains("off")).collect();
        assert_eq!(done, asked);
    }
}
