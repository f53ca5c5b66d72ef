//! One life of the process: the real actors in an actix system of their own, over a database file that other lives
//! have left behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ferric_actors::{Directory, Settings};
use ferric_drivers::flow::FlowSettings;
use ferric_drivers::interface::{BootInterface, Kind, ManagementInterface, PowerInterface, Steps};
use ferric_drivers::protocol::dhcp::PortIndex;
use ferric_drivers::{Parts, Registry, RegistrySettings};
use ferric_schema::{Durability, Store, StoreOptions};

use crate::hands::{Deploy, Hands, InAgent, Inspect, Rescue};
use crate::hardware::Yard;

/// How long a ramdisk may keep silent. Everything else is shorter.
pub(crate) const CALLBACK: Duration = Duration::from_millis(1500);

/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(20);

/// A process.
pub(crate) struct Life {
    pub(crate) directory: Directory,
    hands: Weak<Hands>,
    system: actix::System,
    thread: JoinHandle<()>,
}

pub(crate) fn store(path: &Path) -> Store {
    let mut options = StoreOptions::new(path.to_str().expect("UTF-8"));
    // a killed process loses nothing so either, and the disk of the tests is not asked to sync
    options.durability = Durability::Normal;
    Store::open(&options).expect("a database")
}

fn settings() -> Settings {
    Settings {
        host: "model".into(),
        arbiters: 2,
        deploy_callback_timeout: CALLBACK,
        clean_callback_timeout: CALLBACK,
        inspect_wait_timeout: CALLBACK,
        rescue_callback_timeout: CALLBACK,
        service_callback_timeout: CALLBACK,
        automated_clean: true,
        max_concurrent_deploys: 2,
        max_concurrent_cleans: 2,
        power_change_timeout: Duration::from_secs(1),
        soft_power_off_timeout: Duration::from_secs(1),
        power_sync_interval: Duration::from_millis(150),
        request_within: Duration::from_secs(10),
        progress_interval: Duration::from_millis(50),
        step_within: Duration::from_secs(5),
        bmc_backoff: Duration::from_millis(1),
        bmc_backoff_most: Duration::from_millis(20),
        flow: FlowSettings { poll_interval: Duration::from_millis(5), ..FlowSettings::default() },
        ..Settings::default()
    }
}

fn registry(hands: &Arc<Hands>) -> Registry {
    let parts = Parts {
        power: BTreeMap::from([("fake", hands.clone() as Arc<dyn PowerInterface>)]),
        management: BTreeMap::from([("fake", hands.clone() as Arc<dyn ManagementInterface>)]),
        boot: BTreeMap::from([("fake", hands.clone() as Arc<dyn BootInterface>)]),
        deploy: BTreeMap::from([("fake", Arc::new(Deploy(hands.clone())) as _)]),
        steps: BTreeMap::from([
            ((Kind::Inspect, "agent"), Arc::new(Inspect(hands.clone())) as Arc<dyn Steps>),
            ((Kind::Rescue, "agent"), Arc::new(Rescue(hands.clone()))),
        ]),
        agent_steps: Some(Arc::new(InAgent(hands.clone()))),
        ..Parts::default()
    };
    let names =
        RegistrySettings { hardware_types: vec!["fake-hardware".into()], ..RegistrySettings::default() };
    Registry::new(names, parts).expect("a registry")
}

impl Life {
    pub(crate) fn begin(path: &Path, yard: &Arc<Yard>, number: u64) -> Life {
        let (path, yard) = (path.to_owned(), yard.clone());
        let (tell, told) = std::sync::mpsc::channel();
        let work = move || {
            let system = actix::System::new();
            system.block_on(async move {
                let hands = Arc::new(Hands { yard, dead: AtomicBool::new(false), life: number });
                let (weak, index) = (Arc::downgrade(&hands), Arc::new(PortIndex::default()));
                let registry = Arc::new(registry(&hands));
                let directory = Directory::start(settings(), store(&path), registry, index).await;
                let directory = directory.expect("a directory");
                tell.send((directory, weak, actix::System::current())).expect("the test waits for it");
            });
            system.run().expect("the system ends when it is told to");
        };
        let thread = std::thread::Builder::new().name(format!("life {number}")).spawn(work);
        let thread = thread.expect("a thread");
        let (directory, hands, system) = told.recv_timeout(GONE).expect("the process starts");
        Life { directory, hands, system, thread }
    }

    /// As near to SIGKILL as a thread can come: from this moment nothing takes effect, and every actor and task is
    /// dropped where it is. A commit that was handed in may still happen, as it may in a killed process.
    pub(crate) fn dies(self) {
        let Life { directory, hands, system, thread } = self;
        if let Some(hands) = hands.upgrade() {
            hands.dead.store(true, Ordering::SeqCst);
        }
        drop(directory);
        system.stop();
        thread.join().expect("the system ends well");
        let deadline = Instant::now() + GONE;
        while hands.strong_count() > 0 {
            assert!(Instant::now() < deadline, "a killed process is still there");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
