//! The deploy interface `iscsi` with our own initiator against Debian's tgt: killed in the middle, taken up again.

#![allow(clippy::unwrap_used)] // a test may

mod iscsi_rig;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ferric_drivers::deploy::{CacheSettings, DirectDeploy, DirectSettings, IscsiDeploy, IscsiDeploySettings};
use ferric_drivers::fakes::{self, FakeDelays};
use ferric_drivers::interface::{
    Asks, Child, Chosen, DeployInterface, InstanceBoot, Json, Kind, NodeView, Progressed, RamdiskPurpose,
    Result, StepContext, StepOutcome, Steps,
};
use ferric_drivers::protocol::agent::{AgentClient, AgentSettings};
use ferric_drivers::{Bound, Parts, Registry, RegistrySettings};
use ferric_machine::{Activity, PowerState, PowerTarget, State};
use iscsi_rig::{IQN, Tgt, settings};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use uuid::Uuid;

const MIB: usize = 1 << 20;

/// Keeps what the step reports; says when its image is half on the disk.
struct Journal {
    told: Mutex<Vec<Progressed>>,
    half: u64,
    there: Notify,
}

impl Journal {
    fn last(&self) -> Option<String> {
        self.told.lock().unwrap().iter().rev().find_map(|told| told.checkpoint.clone())
    }
}

#[async_trait]
impl Asks for Journal {
    async fn report(&self, progressed: Progressed) -> Result<()> {
        let writes = progressed.progress.doing == "writing image";
        if writes && progressed.progress.bytes_done.is_some_and(|done| done >= self.half) {
            self.there.notify_one();
        }
        self.told.lock().unwrap().push(progressed);
        Ok(())
    }

    async fn power_state(&self) -> Result<PowerState> {
        Ok(PowerState::On)
    }

    async fn set_power(&self, target: PowerTarget) -> Result<PowerState> {
        Ok(target.end())
    }

    async fn boot_ramdisk(&self, _purpose: RamdiskPurpose) -> Result<()> {
        Ok(())
    }

    async fn boot_from_disk(&self) -> Result<()> {
        Ok(())
    }

    async fn clean_up_ramdisk(&self) -> Result<()> {
        Ok(())
    }

    async fn boot_from_network(&self, _boot: InstanceBoot) -> Result<()> {
        Ok(())
    }

    async fn children(&self) -> Result<Vec<Child>> {
        Ok(Vec::new())
    }

    async fn set_child_power(&self, _child: Uuid, _target: PowerTarget) -> Result<()> {
        Ok(())
    }
}

fn bound() -> Bound {
    let mut parts = Parts::default();
    fakes::install(&mut parts, &FakeDelays::default());
    let settings = RegistrySettings {
        hardware_types: vec!["fake-hardware".into()],
        enabled: BTreeMap::new(),
        defaults: BTreeMap::new(),
    };
    Registry::new(settings, parts)
        .unwrap()
        .bind("fake-hardware", &Chosen::from([(Kind::Deploy, "fake".into())]))
        .unwrap()
}

fn interface(folder: &Path) -> IscsiDeploy {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let agents = AgentClient::new(AgentSettings::default()).unwrap();
    let direct = Arc::new(DirectDeploy::new(DirectSettings::default(), agents).unwrap());
    let cache = CacheSettings {
        masters: folder.join("masters"),
        images: folder.join("images"),
        most_bytes: 1 << 30,
        ttl: Duration::from_secs(3600),
        allowed: vec![folder.to_owned()],
    };
    let new = IscsiDeploySettings { iscsi: settings(), ..IscsiDeploySettings::new(cache) };
    IscsiDeploy::new(new, direct).unwrap()
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut all = Vec::with_capacity(bytes + 8);
    while all.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(bytes);
    all
}

fn keep(node: &mut NodeView, keep: Json) {
    for (key, value) in keep {
        if value.is_null() {
            node.driver_internal_info.remove(&key);
        } else {
            node.driver_internal_info.insert(key, value);
        }
    }
}

/// Bytes of memory that this process has for itself.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_killed_in_the_middle_ends_with_the_same_disk_and_nobody_logged_in() {
    const SIZE: usize = 192 * MIB;
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.img");
    let mut content = noise(SIZE);
    content[64 * MIB..70 * MIB].fill(0);
    std::fs::write(&image, &content).unwrap();
    let tgt = Tgt::start(SIZE as u64 + (8 << 20));
    std::fs::write(tgt.disk(), vec![0xa5; SIZE + 8 * MIB]).unwrap();
    let sum: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    let Value::Object(instance_info) = json!({
        "image_source": format!("file://{}", image.display()), "image_checksum": sum,
        "capabilities": {"boot_mode": "bios"}
    }) else {
        unreachable!()
    };
    let mut node = NodeView {
        uuid: Uuid::new_v4(),
        name: None,
        driver: "fake-hardware".into(),
        driver_info: Json::new(),
        driver_internal_info: Json::new(),
        properties: Json::new(),
        instance_info,
        target_raid_config: Json::new(),
        ports: Vec::new(),
        state: State::DeployWait,
        power: Some(PowerState::On),
    };
    let iscsi = Arc::new(interface(folder.path()));
    iscsi.validate(&node).unwrap();
    let kept = iscsi.prepare(&node).await.unwrap();
    keep(&mut node, kept);
    let journal = Arc::new(Journal { told: Mutex::default(), half: SIZE as u64 / 2, there: Notify::new() });
    let bound = Arc::new(bound());
    let context = |node: &NodeView, name: &str| StepContext {
        node: Arc::new(node.clone()),
        bound: bound.clone(),
        activity: Activity::Deploy,
        step: Arc::new(
            iscsi.steps(node, Activity::Deploy).into_iter().find(|step| step.step == name).unwrap(),
        ),
        agent: None,
        asks: journal.clone(),
        resumed: false,
        checkpoint: None,
    };
    assert!(matches!(iscsi.execute(&context(&node, "deploy")).await.unwrap(), StepOutcome::Wait(_)));
    let Value::Object(args) = json!({
        "address": tgt.address.ip().to_string(), "port": tgt.address.port().to_string(), "iqn": IQN,
        "key": node.driver_internal_info["deploy_key"], "error": ""
    }) else {
        unreachable!()
    };
    let call = iscsi.vendor_methods().iter().find(|method| method.name == "pass_deploy_info").unwrap();
    let kept = iscsi.ramdisk_calls(&node, call, &args, Some((*tgt.address.ip()).into())).unwrap();
    keep(&mut node, kept);

    drop(content);
    let before = memory();
    let first = context(&node, "write_image");
    let most = Arc::new(AtomicU64::new(0));
    let watched = most.clone();
    let watcher = tokio::spawn(async move {
        loop {
            watched.fetch_max(memory().saturating_sub(before), Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    tokio::select! {
        outcome = iscsi.execute(&first) => panic!("too quick: {outcome:?}"),
        () = journal.there.notified() => {}
    }
    // everything of it was dropped, as when the process dies
    tgt.wait_for_nobody().await;
    let resumed = StepContext { resumed: true, checkpoint: journal.last(), ..context(&node, "write_image") };
    let again = journal.told.lock().unwrap().len();
    let StepOutcome::Found(found) = iscsi.execute(&resumed).await.unwrap() else {
        panic!("it found the disk")
    };
    watcher.abort();
    let from = journal.told.lock().unwrap()[again..].iter().find_map(|told| told.progress.bytes_done);
    assert!(from.unwrap() >= SIZE as u64 / 2, "it went on from {from:?}");
    assert!(found.keep["root_uuid_or_disk_id"].as_str().unwrap().starts_with("0x"));
    tgt.wait_for_nobody().await;
    let (disk, content) = (std::fs::read(tgt.disk()).unwrap(), std::fs::read(&image).unwrap());
    assert!(disk[..SIZE] == content[..], "the disk is the image");
    assert!(disk[SIZE + 7 * MIB..].iter().all(|byte| *byte == 0), "no older table at its end");
    let counted = ferric_drivers::metrics::METRICS.iscsi_bytes.get();
    assert!(counted >= SIZE as u64, "{counted} bytes are told at /metrics");
    let most = most.load(Ordering::SeqCst);
    println!("memory of the write: {} KiB", most >> 10);
    assert!(most < 32 << 20, "{most} bytes of memory");
}
