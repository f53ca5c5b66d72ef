//! Bodies and addresses as they come, and machines that are faster than the database.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::{ResponseError as _, rt};
use ferric_actors::Directory;
use ferric_drivers::boot::FakeBoot;
use ferric_drivers::deploy::FakeDeploy;
use ferric_drivers::fakes::{self, FakeDelays};
use ferric_drivers::interface::{BootInterface, DeployInterface, ManagementInterface, PowerInterface};
use ferric_drivers::management::FakeManagement;
use ferric_drivers::power::FakePower;
use ferric_drivers::protocol::dhcp::PortIndex;
use ferric_drivers::{Parts, Registry, RegistrySettings};
use ferric_machine::Timestamp;
use ferric_schema::{Port, Store, StoreOptions, ports};

use super::*;
use crate::server::WebSettings;

fn read(body: Value) -> std::result::Result<Findings, String> {
    Findings::read(body.as_object().cloned().expect("an object")).map_err(|error| error.to_string())
}

#[test]
fn a_body_is_told_what_it_lacks() {
    for (body, words) in [
        (json!({}), "'inventory'"),
        (json!({"inventory": []}), "'inventory'"),
        (json!({"inventory": {}}), "'interfaces' is a required property"),
        (json!({"inventory": {"interfaces": {}}}), "{} is not of type 'array'"),
        (json!({"inventory": {"interfaces": []}}), "[] should be non-empty"),
        (json!({"inventory": {"interfaces": [{"mac_address": "a"}, {"name": "eth1"}]}}), "interfaces[1]"),
    ] {
        assert!(read(body.clone()).is_err_and(|told| told.contains(words)), "{body}");
    }
}

#[test]
fn what_is_no_inventory_is_kept_beside_it_without_the_logs() {
    let found = read(json!({
        "inventory": {
            "interfaces": [{"mac_address": "52:54:00:AA:BB:01"}, {"mac_address": "80:00:02:08:fe:80:00:00"}],
            "bmc_address": "10.0.0.7", "bmc_v6address": "fd00::7/64", "cpu": {"count": 8},
        },
        "root_disk": {"name": "/dev/sda"}, "logs": "H4sI", "error": null,
    }))
    .expect("a body");
    assert_eq!(found.macs, ["52:54:00:aa:bb:01"]);
    assert_eq!(found.bmc.len(), 2);
    assert_eq!(found.inventory["cpu"]["count"], 8);
    let mut keys: Vec<&str> = found.plugin_data.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["error", "root_disk"]);
    let nothing = json!({"inventory": {"interfaces": [{"mac_address": "a"}], "bmc_address": "0.0.0.0", "bmc_v6address": "::/0"}});
    assert!(read(nothing).is_ok_and(|found| found.bmc.is_empty()));
}

#[test]
fn the_bmc_is_found_in_addresses_and_urls() {
    for (text, host) in [
        ("10.0.0.7", "10.0.0.7"),
        ("https://10.0.0.7:8443/redfish/v1", "10.0.0.7"),
        ("https://u@[fd00::7]/", "fd00::7"),
        ("http://bmc.example", "bmc.example"),
    ] {
        assert_eq!(host_of(text), host);
    }
}

const MAC: &str = "52:54:00:aa:bb:01";
const BMC: &str = "10.0.0.7";

/// A server's state with two manageable nodes: one with a port, one with a BMC.
async fn with_two(folder: &tempfile::TempDir) -> (WebState, Uuid, Uuid) {
    let path = folder.path().join("ferric.sqlite");
    let store = Store::open(&StoreOptions::new(path.to_str().expect("UTF-8"))).expect("a database");
    let node = || {
        let node = Node::new(Uuid::new_v4(), "fake-hardware", Timestamp(0));
        Node { provision_state: State::Manageable, ..node }
    };
    let (with_port, mut with_bmc) = (node(), node());
    with_bmc.driver_info = json!({"ipmi_address": BMC}).as_object().expect("an object").into();
    let port = Port::new(Uuid::new_v4(), with_port.uuid, MAC, Timestamp(0));
    let ids = (with_port.uuid, with_bmc.uuid);
    let insert = store.write(move |c| {
        nodes::insert(c, &with_port)?;
        nodes::insert(c, &with_bmc)?;
        ports::insert(c, &port)
    });
    insert.await.expect("they are stored");
    let mut parts = Parts {
        power: BTreeMap::from([("fake", Arc::new(FakePower) as Arc<dyn PowerInterface>)]),
        management: BTreeMap::from([("fake", Arc::new(FakeManagement) as Arc<dyn ManagementInterface>)]),
        boot: BTreeMap::from([("fake", Arc::new(FakeBoot) as Arc<dyn BootInterface>)]),
        deploy: BTreeMap::from([("fake", Arc::new(FakeDeploy) as Arc<dyn DeployInterface>)]),
        ..Parts::default()
    };
    fakes::install(&mut parts, &FakeDelays::default());
    let types = vec!["fake-hardware".to_owned()];
    let names = RegistrySettings { hardware_types: types, ..RegistrySettings::default() };
    let registry = Arc::new(Registry::new(names, parts).expect("a registry"));
    let settings = Settings { power_sync_interval: Duration::ZERO, ..Settings::default() };
    let directory = Directory::start(settings, store, registry, Arc::new(PortIndex::default()));
    let (state, _) = WebState::new(directory.await.expect("a directory"), WebSettings::default());
    (state, ids.0, ids.1)
}

/// Behind the back of the node's actor, which writes nothing meanwhile.
async fn becomes(state: &WebState, id: Uuid, provision_state: State) {
    let write = state.directory.store().write(move |c| {
        let node = nodes::get(c, id)?.expect("it is there");
        nodes::advance(c, &Node { provision_state, ..node }, Timestamp(1))
    });
    write.await.expect("it is written");
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        rt::task::yield_now().await;
    }
}

fn sent(mac: &str, bmc: &str) -> Findings {
    let inventory = json!({"interfaces": [{"mac_address": mac}], "bmc_address": bmc});
    let body = json!({ "inventory": inventory });
    Findings::read(body.as_object().cloned().expect("an object")).expect("a body")
}

#[test]
fn a_machine_that_is_up_before_its_wait_is_written_down_is_waited_for() {
    rt::System::new().block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let (state, with_port, with_bmc) = with_two(&folder).await;
        let state = Arc::new(state);
        let other = "52:54:00:aa:bb:99";
        for (how, id, mac, bmc, named) in [
            ("by its port", with_port, MAC, "10.0.0.99", None),
            ("by its BMC", with_bmc, other, BMC, None),
            ("by its id", with_bmc, other, "10.0.0.99", Some(with_bmc)),
        ] {
            for (then, status) in [(State::InspectWait, None), (State::InspectFailed, Some(404))] {
                becomes(&state, id, State::Inspecting).await;
                let (found, shared) = (sent(mac, bmc), Arc::clone(&state));
                let asked = rt::spawn(async move { found.node(&shared, named).await });
                until("it waits", || asked.is_finished() || PLACES.available_permits() < 64).await;
                assert!(!asked.is_finished(), "{how}: refused before the inspection has begun");
                // somebody else's commits change nothing
                becomes(&state, if id == with_port { with_bmc } else { with_port }, State::Manageable).await;
                becomes(&state, id, then).await;
                let answer = asked.await.expect("it ends");
                match status {
                    None => assert_eq!(answer.map(|node| node.uuid).ok(), Some(id), "{how}"),
                    Some(status) => {
                        let refused = answer.map(|node| node.uuid).expect_err("nobody waits");
                        assert_eq!(refused.status_code().as_u16(), status, "{how}");
                    }
                }
                assert_eq!(PLACES.available_permits(), 64, "{how}");
                becomes(&state, id, State::Manageable).await;
            }
        }

        // what they hold is bounded: who comes above that is told to come again
        becomes(&state, with_port, State::Inspecting).await;
        let all = PLACES.acquire_many(64).await.expect("never closed");
        let refused = sent(MAC, BMC).node(&state, None).await.map(|node| node.uuid).expect_err("no place");
        assert_eq!(refused.status_code().as_u16(), 503);
        drop(all);
        becomes(&state, with_port, State::InspectWait).await;
        assert!(sent(MAC, BMC).node(&state, None).await.is_ok(), "who waits for nobody needs no place");
    });
}
