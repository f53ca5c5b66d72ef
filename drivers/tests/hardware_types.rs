//! The hardware types as a real Ironic 39.0.0 shows them with the same interfaces enabled (the rig's ironic.conf).

#![allow(clippy::unwrap_used)] // a test may

use std::collections::BTreeMap;
use std::sync::Arc;

use ferric_drivers::boot::{IpxeBoot, PortIndex, PxeBoot, PxeSettings};
use ferric_drivers::console::{ConsoleSettings, Consoles, IpmitoolSocat};
use ferric_drivers::deploy::{CustomAgentDeploy, DirectDeploy, DirectSettings, NoopDeploy, RamdiskDeploy};
use ferric_drivers::fakes::{self, FakeDelays};
use ferric_drivers::inspect::{AgentInspect, InspectSettings};
use ferric_drivers::interface::{Chosen, Json, Kind, Level, NodeView, PortView};
use ferric_drivers::management::{IpmitoolManagement, NoopManagement};
use ferric_drivers::power::IpmitoolPower;
use ferric_drivers::protocol::agent::{AgentClient, AgentSettings};
use ferric_drivers::protocol::ipmi::{IpmiClient, IpmiSettings};
use ferric_drivers::raid::AgentRaid;
use ferric_drivers::vendor::IpmitoolVendor;
use ferric_drivers::{BindError, Parts, Registry, RegistrySettings, hardware, redfish};
use ferric_machine::State;
use serde_json::{Value, json};

const ENABLED: &[(Kind, &[&str])] = &[
    (Kind::Bios, &["fake", "no-bios", "redfish"]),
    (Kind::Boot, &["fake", "ipxe", "pxe", "redfish-virtual-media"]),
    (Kind::Console, &["fake", "no-console", "ipmitool-socat"]),
    (Kind::Deploy, &["fake", "direct", "ramdisk", "noop", "custom-agent"]),
    (Kind::Firmware, &["fake", "no-firmware", "redfish"]),
    (Kind::Inspect, &["fake", "no-inspect", "agent", "redfish"]),
    (Kind::Management, &["fake", "noop", "ipmitool", "redfish"]),
    (Kind::Network, &["noop"]),
    (Kind::Power, &["fake", "ipmitool", "redfish"]),
    (Kind::Raid, &["fake", "no-raid", "agent", "redfish"]),
    (Kind::Rescue, &["fake", "no-rescue"]),
    (Kind::Storage, &["fake", "noop"]),
    (Kind::Vendor, &["fake", "no-vendor", "ipmitool", "redfish"]),
];

const TYPES: &[&str] = &["fake-hardware", "manual-management", "ipmi", "redfish"];

fn registry() -> Registry {
    registry_with(TYPES, |_| {}).unwrap()
}

fn registry_with(types: &[&str], change: impl FnOnce(&mut RegistrySettings)) -> Result<Registry, BindError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pxe = Arc::new(PxeSettings {
        http_url: "http://127.0.0.1:8088".into(),
        deploy_kernel: Some("http://127.0.0.1/deploy.kernel".into()),
        deploy_ramdisk: Some("http://127.0.0.1/deploy.ramdisk".into()),
        ..PxeSettings::default()
    });
    let index = Arc::new(PortIndex::default());
    let ipmi = IpmiSettings::default();
    let client = Arc::new(IpmiClient::new(ipmi.clone(), tokio::runtime::Handle::current()));
    let agents = AgentClient::new(AgentSettings::default()).unwrap();
    let mut parts = Parts::default();
    fakes::install(&mut parts, &FakeDelays::default());
    redfish::install(&mut parts, pxe.clone());
    parts.power.insert("ipmitool", Arc::new(IpmitoolPower::new(client.clone(), ipmi.clone())));
    parts.management.insert("noop", Arc::new(NoopManagement));
    parts.management.insert("ipmitool", Arc::new(IpmitoolManagement::new(client.clone(), ipmi.clone())));
    parts.vendor.insert("ipmitool", Arc::new(IpmitoolVendor::new(client.clone(), ipmi.clone())));
    let consoles = Consoles::new(ConsoleSettings::default(), client, tokio::runtime::Handle::current());
    parts.console.insert("ipmitool-socat", Arc::new(IpmitoolSocat::new(consoles, ipmi)));
    parts.boot.insert("pxe", Arc::new(PxeBoot::new(pxe.clone(), index.clone())));
    parts.boot.insert("ipxe", Arc::new(IpxeBoot::new(pxe, index)));
    let direct = Arc::new(DirectDeploy::new(DirectSettings::default(), agents).unwrap());
    parts.deploy.insert("custom-agent", Arc::new(CustomAgentDeploy::new(direct.clone())));
    parts.deploy.insert("direct", direct);
    parts.deploy.insert("ramdisk", Arc::new(RamdiskDeploy));
    parts.deploy.insert("noop", Arc::new(NoopDeploy));
    parts.raid.insert("agent", Arc::new(AgentRaid));
    let inspect = InspectSettings { require_managed_boot: false, ..InspectSettings::default() };
    parts.steps.insert((Kind::Inspect, "agent"), Arc::new(AgentInspect::new(inspect).unwrap()));
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    parts.steps.insert((Kind::Raid, "agent"), Arc::new(AgentRaid));
    // what it does is of no concern here
    parts.deploy.insert("iscsi", Arc::new(RamdiskDeploy));
    let mut settings = RegistrySettings {
        hardware_types: list(types),
        enabled: ENABLED.iter().map(|(kind, names)| (*kind, list(names))).collect(),
        defaults: BTreeMap::from([(Kind::Network, "noop".to_owned())]),
    };
    change(&mut settings);
    Registry::new(settings, parts)
}

fn node(driver: &str) -> NodeView {
    NodeView {
        uuid: uuid::Uuid::from_u128(1),
        name: None,
        driver: driver.to_owned(),
        driver_info: Json::new(),
        driver_internal_info: Json::new(),
        properties: Json::new(),
        instance_info: Json::new(),
        target_raid_config: Json::new(),
        ports: Vec::new(),
        state: State::Enroll,
        power: None,
    }
}

/// Each kind in the order of the API: the default, then what else is enabled.
const SHOWN: &[(&str, [&str; 13])] = &[
    (
        "fake-hardware",
        [
            "fake no-bios",
            "fake ipxe pxe",
            "fake no-console",
            "fake custom-agent direct ramdisk",
            "fake no-firmware",
            "fake agent no-inspect",
            "fake",
            "noop",
            "fake",
            "fake agent no-raid",
            "fake no-rescue",
            "noop fake",
            "fake no-vendor",
        ],
    ),
    (
        "ipmi",
        [
            "no-bios",
            "ipxe pxe",
            "ipmitool-socat no-console",
            "direct custom-agent ramdisk",
            "no-firmware",
            "agent no-inspect",
            "ipmitool noop",
            "noop",
            "ipmitool",
            "no-raid agent",
            "no-rescue",
            "noop",
            "ipmitool no-vendor",
        ],
    ),
    (
        "manual-management",
        [
            "no-bios",
            "ipxe pxe",
            "no-console",
            "direct custom-agent noop ramdisk",
            "no-firmware",
            "agent no-inspect",
            "noop fake",
            "noop",
            "fake",
            "no-raid agent",
            "no-rescue",
            "noop",
            "no-vendor",
        ],
    ),
    (
        "redfish",
        [
            "redfish no-bios",
            "ipxe pxe redfish-virtual-media",
            "ipmitool-socat no-console",
            "direct custom-agent ramdisk",
            "redfish no-firmware",
            "redfish agent no-inspect",
            "redfish noop",
            "noop",
            "redfish",
            "redfish agent no-raid",
            "no-rescue",
            "noop",
            "redfish no-vendor",
        ],
    ),
];

#[tokio::test]
async fn each_type_has_the_interfaces_and_defaults_that_ironic_gives_it() {
    let registry = registry();
    for (driver, kinds) in SHOWN {
        for (kind, shown) in Kind::ALL.into_iter().zip(kinds) {
            let (default, others) = shown.split_once(' ').unwrap_or((shown, ""));
            assert_eq!(registry.default_interface(driver, kind).unwrap(), default, "{driver} {kind:?}");
            let mut enabled = registry.enabled(driver, kind).unwrap();
            enabled.retain(|name| *name != default);
            enabled.sort_unstable();
            assert_eq!(enabled.join(" "), others, "{driver} {kind:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_enabled_and_what_does_not_fit_are_refused_in_ironics_words() {
    let registry = registry();
    let refused = |driver: &str, kind: Kind, name: &str| {
        registry
            .resolve(driver, &Chosen::from([(kind, name.to_owned())]))
            .err()
            .map(|error| error.to_string())
    };
    assert_eq!(
        refused("ipmi", Kind::Power, "foo").unwrap(),
        "Could not find the following interface in the 'ironic.hardware.interfaces.power' entrypoint: foo. Valid \
         interfaces are ['fake', 'ipmitool', 'redfish']."
    );
    let incompatible = refused("ipmi", Kind::Power, "fake").unwrap();
    assert!(incompatible.contains("is not supported by hardware type ipmi"), "{incompatible}");
    assert_eq!(refused("fake-hardware", Kind::Power, "ipmitool"), None, "it takes whatever is enabled");
}

#[tokio::test]
async fn properties_are_those_of_the_default_interfaces() {
    let registry = registry();
    let keys = |driver: &str| -> Vec<&str> {
        registry.properties(driver).unwrap().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys("fake-hardware"), ["B1", "B2"]);
    assert_eq!(
        keys("manual-management"),
        [
            "agent_verify_ca",
            "deploy_forces_oob_reboot",
            "deploy_kernel",
            "deploy_ramdisk",
            "force_persistent_boot_device",
            "image_download_source",
            "image_http_proxy",
            "image_https_proxy",
            "image_no_proxy",
            "kernel_append_params",
            "rescue_kernel",
            "rescue_ramdisk"
        ]
    );
    assert_eq!((keys("ipmi").len(), keys("redfish").len()), (29, 38));
    assert_eq!(registry.raid_properties("ipmi").unwrap().len(), 10);
}

/// The reasons for a node that says nothing of itself, and has no port; `None` is valid.
fn reasons(registry: &Registry, node: &NodeView) -> BTreeMap<&'static str, String> {
    let bound = registry.bind(&node.driver, &Chosen::new()).unwrap();
    let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Vendor);
    kinds.filter_map(|kind| Some((kind.as_str(), bound.validate(kind, node).err()?.to_string()))).collect()
}

#[tokio::test]
async fn an_empty_node_lacks_what_ironic_says_it_lacks() {
    let registry = registry();
    let id = uuid::Uuid::from_u128(1);
    let no_port = format!("Node {id} does not have any port associated with it");
    let no_ipmi =
        "Missing the following IPMI credentials in node's driver_info: ['ipmi_address'].".to_owned();
    let no_redfish =
        format!("Missing the following Redfish properties in node {id} driver_info: ['redfish_address']");
    let none = |driver: &str, kind: &str| {
        format!("Driver {driver} does not support {kind} (disabled or not implemented).")
    };
    assert_eq!(reasons(&registry, &node("fake-hardware")), BTreeMap::new());

    let mut expected = BTreeMap::from([("boot", no_port.clone()), ("deploy", no_port.clone())]);
    for kind in ["bios", "console", "firmware", "raid", "rescue"] {
        expected.insert(kind, none("manual-management", kind));
    }
    assert_eq!(reasons(&registry, &node("manual-management")), expected);

    let mut expected = BTreeMap::from([("boot", no_port.clone()), ("deploy", no_port.clone())]);
    for kind in ["bios", "firmware", "raid", "rescue"] {
        expected.insert(kind, none("ipmi", kind));
    }
    for kind in ["console", "management", "power"] {
        expected.insert(kind, no_ipmi.clone());
    }
    assert_eq!(reasons(&registry, &node("ipmi")), expected);

    let mut expected = BTreeMap::from([("boot", no_port.clone()), ("deploy", no_port)]);
    expected.extend([("rescue", none("redfish", "rescue")), ("console", no_ipmi)]);
    for kind in ["bios", "firmware", "inspect", "management", "power"] {
        expected.insert(kind, no_redfish.clone());
    }
    assert_eq!(reasons(&registry, &node("redfish")), expected);
}

#[tokio::test]
async fn with_a_port_and_no_image_only_the_deployment_is_wrong() {
    let registry = registry();
    let mut node = node("manual-management");
    node.ports.push(PortView {
        uuid: uuid::Uuid::from_u128(2),
        address: "52:54:00:00:00:01".into(),
        pxe_enabled: true,
    });
    let deploy = |node: &NodeView| {
        let found = reasons(&registry, node);
        assert!(!found.contains_key("boot"), "{found:?}");
        found.get("deploy").cloned().unwrap_or_default()
    };
    assert!(deploy(&node).ends_with("Missing are: ['instance_info.image_source']"), "{}", deploy(&node));
    let set = |node: &mut NodeView, info: Value| node.instance_info = info.as_object().unwrap().clone();
    set(&mut node, json!({"image_source": "http://x/i"}));
    assert!(deploy(&node).starts_with("image_source's \"image_checksum\", or"), "{}", deploy(&node));
    set(&mut node, json!({"image_source": "http://x/i", "image_checksum": "a".repeat(64)}));
    assert_eq!(deploy(&node), "");
    node.driver_info.insert("image_http_proxy".into(), json!("ftp://proxy"));
    assert!(deploy(&node).contains("{'image_http_proxy': 'ftp://proxy'}"), "{}", deploy(&node));
}

#[tokio::test]
async fn redfish_addresses_and_options_are_checked() {
    let registry = registry();
    let check = |info: Value| {
        let mut node = node("redfish");
        node.driver_info = info.as_object().unwrap().clone();
        reasons(&registry, &node).get("power").cloned().unwrap_or_default()
    };
    for fine in [
        json!({"redfish_address": "https://mgmt.example.com"}),
        json!({"redfish_address": "10.0.0.1:8443", "redfish_verify_ca": "/etc", "redfish_auth_type": "session"}),
        json!({"redfish_address": "fd00::1", "redfish_system_id": "/redfish/v1/Systems/1"}),
    ] {
        assert_eq!(check(fine.clone()), "", "{fine}");
    }
    for (info, words) in [
        (json!({"redfish_address": "https://a b"}), "Invalid Redfish address https://a b set in"),
        (json!({"redfish_address": 7}), "Invalid Redfish address 7 set in"),
        // who logs in is nobody's to read, however broken the address is
        (
            json!({"redfish_address": "https://u:geheim@a b"}),
            "Invalid Redfish address https://***@a b set in",
        ),
        (json!({"redfish_address": "u:ge/he@im@a b"}), "Invalid Redfish address ***@a b set in"),
        (json!({"redfish_address": {"password": "geheim"}}), "Invalid Redfish address ****** set in"),
        (
            json!({"redfish_address": "a", "redfish_system_id": 7}),
            "Invalid value \"7\" set in driver_info/redfish_system",
        ),
        (
            json!({"redfish_address": "a", "redfish_verify_ca": 7}),
            "Invalid value type set in driver_info/redfish_verify",
        ),
        (
            json!({"redfish_address": "a", "redfish_auth_type": "x"}),
            "Invalid value \"x\" set in driver_info/redfish_auth",
        ),
        (
            json!({"redfish_address": "a", "redfish_tls_minimum_version": "1"}),
            "Invalid value \"1\" set in driver_info/redf",
        ),
    ] {
        assert!(check(info.clone()).starts_with(words), "{info}: {}", check(info.clone()));
    }
}

#[tokio::test]
async fn fake_vendor_methods_tell_whether_the_word_is_the_one_they_wait_for() {
    let registry = registry();
    let node = node("fake-hardware");
    let vendor = registry.bind("fake-hardware", &Chosen::new()).unwrap().vendor;
    let names: Vec<_> = vendor.methods().iter().map(|method| method.name).collect();
    assert_eq!(names, ["fourth_method_shared_lock", "log_passthrough", "second_method", "third_method_sync"]);
    assert!(registry.vendor_methods("fake-hardware").unwrap().is_empty());
    let words = |result: ferric_drivers::interface::Result<&ferric_drivers::interface::VendorMethod>| {
        result.unwrap_err().to_string()
    };
    assert_eq!(words(vendor.method(Level::Node, "x", "POST")), "No handler for method x");
    assert_eq!(
        words(vendor.method(Level::Node, "second_method", "GET")),
        "The method second_method does not support HTTP GET"
    );
    let method = vendor.method(Level::Node, "third_method_sync", "POST").unwrap();
    let shown = json!({"http_methods": ["POST"], "async": false, "attach": false, "require_exclusive_lock": true,
        "description": "Test if the value of bar is meow"});
    assert_eq!(Value::Object(method.shown()), shown);
    let error = vendor.validate_call(&node, method, &Json::new()).unwrap_err();
    assert_eq!(error.to_string(), "Parameter 'bar' not passed to method 'third_method_sync'.");
    for (word, told) in [("meow", true), ("woof", false)] {
        let args = json!({"bar": word}).as_object().unwrap().clone();
        vendor.validate_call(&node, method, &args).unwrap();
        assert_eq!(vendor.call(&node, method, "POST", &args).await.unwrap(), json!(told));
    }
}

/// The classic drivers as Ironic put them together: boot, console, deploy, inspect, management, power, raid, vendor.
const CLASSIC: &[(&str, [&str; 8])] = &[
    (
        "agent_ipminative",
        ["pxe", "ipmitool-socat", "direct", "no-inspect", "ipmitool", "ipmitool", "agent", "ipmitool"],
    ),
    (
        "agent_ipmitool",
        ["pxe", "ipmitool-socat", "direct", "no-inspect", "ipmitool", "ipmitool", "agent", "ipmitool"],
    ),
    (
        "agent_ipmitool_socat",
        ["pxe", "ipmitool-socat", "direct", "no-inspect", "ipmitool", "ipmitool", "agent", "ipmitool"],
    ),
    ("fake", ["fake", "fake", "fake", "fake", "fake", "fake", "fake", "fake"]),
    ("fake_agent", ["pxe", "no-console", "direct", "no-inspect", "fake", "fake", "agent", "no-vendor"]),
    (
        "fake_inspector",
        ["fake", "ipmitool-socat", "fake", "agent", "ipmitool", "ipmitool", "no-raid", "ipmitool"],
    ),
    (
        "fake_ipminative",
        ["fake", "ipmitool-socat", "fake", "no-inspect", "ipmitool", "ipmitool", "no-raid", "no-vendor"],
    ),
    (
        "fake_ipmitool",
        ["fake", "ipmitool-socat", "fake", "no-inspect", "ipmitool", "ipmitool", "no-raid", "ipmitool"],
    ),
    (
        "fake_ipmitool_socat",
        ["fake", "ipmitool-socat", "fake", "no-inspect", "ipmitool", "ipmitool", "no-raid", "ipmitool"],
    ),
    ("fake_pxe", ["pxe", "no-console", "iscsi", "no-inspect", "fake", "fake", "no-raid", "no-vendor"]),
    ("fake_soft_power", ["fake", "fake", "fake", "fake", "fake", "fake", "fake", "fake"]),
    (
        "pxe_ipminative",
        ["pxe", "ipmitool-socat", "iscsi", "no-inspect", "ipmitool", "ipmitool", "agent", "ipmitool"],
    ),
    (
        "pxe_ipmitool",
        ["pxe", "ipmitool-socat", "iscsi", "no-inspect", "ipmitool", "ipmitool", "agent", "ipmitool"],
    ),
    (
        "pxe_ipmitool_socat",
        ["pxe", "ipmitool-socat", "iscsi", "no-inspect", "ipmitool", "ipmitool", "agent", "ipmitool"],
    ),
];

const CLASSIC_KINDS: [Kind; 8] = [
    Kind::Boot,
    Kind::Console,
    Kind::Deploy,
    Kind::Inspect,
    Kind::Management,
    Kind::Power,
    Kind::Raid,
    Kind::Vendor,
];

fn classic() -> Vec<&'static str> {
    CLASSIC.iter().map(|(name, _)| *name).collect()
}

#[tokio::test]
async fn classic_drivers_bring_their_interfaces_whatever_is_enabled_or_the_default() {
    let known: Vec<_> = hardware::all().filter(|row| row.classic).map(|row| row.name).collect();
    assert_eq!(known, classic(), "each has its line in this test");
    let nothing_fits = |settings: &mut RegistrySettings| {
        for kind in CLASSIC_KINDS {
            settings.enabled.insert(kind, vec!["redfish".to_owned()]);
            settings.defaults.insert(kind, "redfish".to_owned());
        }
    };
    let nothing_said = |settings: &mut RegistrySettings| settings.enabled.clear();
    for registry in [registry_with(&classic(), nothing_fits), registry_with(&classic(), nothing_said)] {
        let registry = registry.unwrap();
        for (driver, names) in CLASSIC {
            let bound = registry.bind(driver, &Chosen::new()).unwrap();
            let got = CLASSIC_KINDS.map(|kind| bound.names[&kind].as_str());
            assert_eq!(got, *names, "{driver}");
            for kind in [Kind::Bios, Kind::Firmware, Kind::Rescue] {
                assert_eq!(bound.names[&kind], format!("no-{}", kind.as_str()), "{driver}");
            }
        }
    }
    // in-band inspection takes the place of ironic-inspector's, where the operator enables it
    let inspected = registry_with(&classic(), |_| {}).unwrap();
    assert_eq!(inspected.default_interface("pxe_ipmitool", Kind::Inspect).unwrap(), "agent");
    assert_eq!(inspected.default_interface("fake_pxe", Kind::Inspect).unwrap(), "no-inspect");
}

#[tokio::test]
async fn of_a_classic_driver_nothing_but_network_and_storage_can_be_chosen() {
    let registry = registry_with(&["pxe_ipmitool", "ipmi"], |_| {}).unwrap();
    let resolve = |chosen: &[(Kind, &str)]| {
        let chosen = chosen.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect();
        registry.resolve("pxe_ipmitool", &chosen)
    };
    let stored = resolve(&[]).unwrap();
    let expected = Chosen::from([(Kind::Network, "noop".to_owned()), (Kind::Storage, "noop".to_owned())]);
    assert_eq!(stored, expected, "a node's other fields stay empty");
    assert_eq!(resolve(&[(Kind::Storage, "fake")]).unwrap()[&Kind::Storage], "fake");
    // even the one it has
    let refused = resolve(&[(Kind::Deploy, "iscsi"), (Kind::Power, "fake")]).unwrap_err().to_string();
    assert_eq!(
        refused,
        "with driver pxe_ipmitool, these node fields must be set to None: deploy_interface,power_interface."
    );
    assert!(
        resolve(&[(Kind::Network, "none")])
            .unwrap_err()
            .to_string()
            .contains("ironic.hardware.interfaces.network")
    );
}

#[tokio::test]
async fn classic_drivers_are_off_until_they_are_enabled() {
    let registry = registry();
    assert!(registry.types().iter().all(|row| !row.classic));
    assert!(matches!(registry.bind("pxe_ipmitool", &Chosen::new()), Err(BindError::UnknownType(..))));
}

#[tokio::test]
async fn iscsi_shows_up_where_the_operator_names_it_and_is_nobodys_default() {
    let all = ["fake-hardware", "manual-management", "ipmi", "redfish", "pxe_ipmitool"];
    let unsaid = registry_with(&all, |settings| drop(settings.enabled.remove(&Kind::Deploy))).unwrap();
    assert!(!unsaid.all_enabled(Kind::Deploy).contains(&"iscsi"));
    let named = registry_with(&all, |settings| {
        settings.enabled.entry(Kind::Deploy).or_default().push("iscsi".to_owned());
    });
    let named = named.unwrap();
    for driver in TYPES {
        assert!(!unsaid.enabled(driver, Kind::Deploy).unwrap().contains(&"iscsi"), "{driver}");
        assert_eq!(named.enabled(driver, Kind::Deploy).unwrap().last(), Some(&"iscsi"), "{driver}");
        assert_ne!(named.default_interface(driver, Kind::Deploy).unwrap(), "iscsi", "{driver}");
        let chosen = Chosen::from([(Kind::Deploy, "iscsi".to_owned())]);
        assert_eq!(named.bind(driver, &chosen).unwrap().names[&Kind::Deploy], "iscsi", "{driver}");
    }
    assert_eq!(unsaid.default_interface("pxe_ipmitool", Kind::Deploy).unwrap(), "iscsi");
}

#[tokio::test]
async fn classic_drivers_have_the_properties_of_all_their_interfaces_and_the_old_names() {
    let registry = registry_with(&classic(), |_| {}).unwrap();
    let keys = |driver: &str| -> Vec<&str> {
        registry.properties(driver).unwrap().into_iter().map(|(key, _)| key).collect()
    };
    for driver in ["pxe_ipmitool", "agent_ipmitool"] {
        for key in
            ["ipmi_address", "ipmi_terminal_port", "deploy_kernel", "pxe_deploy_kernel", "pxe_deploy_ramdisk"]
        {
            assert!(keys(driver).contains(&key), "{driver} {key}");
        }
    }
    assert_eq!(keys("fake"), ["B1", "B2"]);
    assert!(!keys("fake_ipmitool").contains(&"pxe_deploy_kernel"), "it boots nothing");
}

#[tokio::test]
async fn names_that_kernel_and_ramdisk_had_until_juno_are_read() {
    let registry = registry_with(&["fake_pxe"], |_| {}).unwrap();
    let mut node = node("fake_pxe");
    let address = "52:54:00:00:00:01".into();
    node.ports.push(PortView { uuid: uuid::Uuid::from_u128(2), address, pxe_enabled: true });
    let boot = |info: Value| {
        let node = NodeView { driver_info: info.as_object().unwrap().clone(), ..node.clone() };
        registry
            .bind("fake_pxe", &Chosen::new())
            .unwrap()
            .boot
            .validate(&node)
            .err()
            .map(|error| error.to_string())
    };
    assert_eq!(boot(json!({"pxe_deploy_kernel": "http://a/k", "pxe_deploy_ramdisk": "http://a/r"})), None);
    let wrong = json!({"pxe_deploy_kernel": "gopher://k", "pxe_deploy_ramdisk": "http://a/r"});
    assert!(boot(wrong).unwrap().contains("gopher"), "they are read and not the configuration's");
    let both = json!({"pxe_deploy_kernel": "gopher://k", "deploy_kernel": "http://a/k"});
    assert_eq!(boot(both), None, "the new name wins");
}
