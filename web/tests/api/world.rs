//! A whole Ferric over fake hardware: SQLite in a temporary folder, real actors, the API on a free port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ferric_actors::{Directory, Settings};
use ferric_drivers::boot::FakeBoot;
use ferric_drivers::deploy::FakeDeploy;
use ferric_drivers::fakes::{self, FakeBios, FakeDelays, FakeInspect, FakeRaid, FakeRescue};
use ferric_drivers::inspect::{AgentInspect, InspectSettings};
use ferric_drivers::interface::{
    BootInterface, DeployInterface, Kind, ManagementInterface, PowerInterface, Steps,
};
use ferric_drivers::management::FakeManagement;
use ferric_drivers::power::FakePower;
use ferric_drivers::protocol::dhcp::PortIndex;
use ferric_drivers::{Parts, Registry, RegistrySettings};
use ferric_schema::{Store, StoreOptions};
use ferric_web::{ServeError, Serving, WebSettings, serve};

/// Starts everything; the folder holds the database and must live as long as the server.
pub(crate) async fn start(
    listen: SocketAddr,
    types: Vec<String>,
    change: impl FnOnce(&mut WebSettings),
) -> Result<(Serving, tempfile::TempDir), ServeError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("ferric.sqlite");
    let store = Store::open(&StoreOptions::new(path.to_str().expect("UTF-8"))).expect("a database");
    let mut parts = Parts {
        power: BTreeMap::from([("fake", Arc::new(FakePower) as Arc<dyn PowerInterface>)]),
        management: BTreeMap::from([
            ("fake", Arc::new(FakeManagement) as Arc<dyn ManagementInterface>),
            ("noop", Arc::new(crate::watched::Watched)),
        ]),
        boot: BTreeMap::from([("fake", Arc::new(FakeBoot) as Arc<dyn BootInterface>)]),
        deploy: BTreeMap::from([("fake", Arc::new(FakeDeploy) as Arc<dyn DeployInterface>)]),
        steps: BTreeMap::from([
            ((Kind::Inspect, "fake"), Arc::new(FakeInspect) as Arc<dyn Steps>),
            (
                (Kind::Inspect, "agent"),
                Arc::new(AgentInspect::new(InspectSettings::default()).expect("the default hooks")),
            ),
            ((Kind::Rescue, "fake"), Arc::new(FakeRescue)),
            ((Kind::Raid, "fake"), Arc::new(FakeRaid)),
            ((Kind::Bios, "fake"), Arc::new(FakeBios)),
        ]),
        ..Parts::default()
    };
    fakes::install(&mut parts, &FakeDelays::default());
    let names = RegistrySettings { hardware_types: types, ..RegistrySettings::default() };
    let registry = Arc::new(Registry::new(names, parts).expect("a registry"));
    let settings = Settings {
        host: "test-host".into(),
        power_sync_interval: Duration::ZERO,
        progress_interval: Duration::from_millis(50),
        request_within: Duration::from_secs(20),
        ..Settings::default()
    };
    let directory = Directory::start(settings, store, registry, Arc::new(PortIndex::default()))
        .await
        .expect("a directory");
    let mut web = WebSettings { listen, workers: 1, ..WebSettings::default() };
    change(&mut web);
    Ok((serve(web, directory, |_| {}).await?, folder))
}
