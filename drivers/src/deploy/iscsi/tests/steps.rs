//! Whole deployments, step by step, with both kinds of ramdisk.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use ferric_machine::{Activity, BootMode, State};
use serde_json::{Value, json};
use sha2::Digest;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::*;
use crate::DriverError;
use crate::deploy::direct::{DirectDeploy, DirectSettings};
use crate::deploy::iscsi::calls::{BOOTLOADER, DEPLOY, KEY};
use crate::deploy::iscsi::device::{BlockDevice, Synced};
use crate::deploy::iscsi::target::{Connect, Target};
use crate::deploy::iscsi::{CacheSettings, IscsiDeploy, IscsiDeploySettings};
use crate::interface::{
    DeployInterface, Found, RAMDISK_CALLED, RamdiskParams, StepContext, StepOutcome, Steps,
};
use crate::protocol::iscsi::IscsiSettings;
use crate::testing::{World, client, json as object};

/// Opens a disk in a file, and remembers where it was looked for.
struct Files {
    path: PathBuf,
    asked: Mutex<Vec<Target>>,
    closed: Arc<AtomicBool>,
    refuses: bool,
}

/// Tells that it was logged out of.
struct Watched(FileDisk, Arc<AtomicBool>);

#[async_trait]
impl Connect for Files {
    async fn open(&self, target: &Target) -> Result<Arc<dyn BlockDevice>> {
        self.asked.lock().unwrap().push(target.clone());
        if self.refuses {
            return Err(DriverError::Refused {
                what: target.to_string(),
                command: "a login".into(),
                reason: "no".into(),
            });
        }
        Ok(Arc::new(Watched(FileDisk::open(&self.path, 64 * MIB), self.closed.clone())))
    }
}

#[async_trait]
impl BlockDevice for Watched {
    fn capacity(&self) -> u64 {
        self.0.capacity()
    }

    fn block(&self) -> u64 {
        self.0.block()
    }

    fn zeroes_cheaply(&self) -> bool {
        self.0.zeroes_cheaply()
    }

    async fn read_at(&self, at: u64, len: usize) -> Result<Bytes> {
        self.0.read_at(at, len).await
    }

    async fn write_at(&self, at: u64, data: Bytes) -> Result<()> {
        self.0.write_at(at, data).await
    }

    async fn zero(&self, at: u64, len: u64) -> Result<()> {
        self.0.zero(at, len).await
    }

    fn identity(&self) -> String {
        self.0.identity()
    }

    async fn sync(&self) -> Result<Synced> {
        self.0.sync().await
    }

    async fn close(&self) -> Result<()> {
        self.1.store(true, SeqCst);
        Ok(())
    }
}

struct Stage {
    bench: Bench,
    world: World,
    iscsi: Arc<IscsiDeploy>,
    files: Arc<Files>,
    listener: TcpListener,
}

async fn stage(instance: Value) -> Stage {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("own")).unwrap();
    let image = bench.noise("own/disk.img", 8 * MIB);
    let sum: String = sha2::Sha256::digest(std::fs::read(&image).unwrap())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let files = Arc::new(Files {
        path: bench.path("disk"),
        asked: Mutex::default(),
        closed: Arc::default(),
        refuses: false,
    });
    let settings = IscsiDeploySettings {
        address_from_call: false,
        default_boot_mode: BootMode::Bios,
        boots_locally: true,
        power_off_after_failure: true,
        disk_devices: "cciss/c0d0,sda,hda,vda".into(),
        portal_port: 3260,
        go_ahead_within: Duration::from_secs(5),
        go_ahead_port: listener.local_addr().unwrap().port(),
        bmc_within: Duration::from_secs(5),
        most_writes: 2,
        cache: CacheSettings {
            masters: bench.path("masters"),
            images: bench.path("images"),
            most_bytes: 1 << 30,
            ttl: Duration::from_secs(3600),
            allowed: vec![bench.path("own")],
        },
        iscsi: IscsiSettings::default(),
    };
    let direct = Arc::new(DirectDeploy::new(DirectSettings::default(), client()).unwrap());
    let iscsi = Arc::new(IscsiDeploy::with(settings, direct, files.clone()).unwrap());
    let mut world = World::new().await;
    world.node.state = State::DeployWait;
    world.node.instance_info = object(instance);
    let url = reqwest::Url::from_file_path(&image).unwrap();
    world.node.instance_info.insert("image_source".into(), json!(url.as_str()));
    world.node.instance_info.insert("image_checksum".into(), json!(sum));
    Stage { bench, world, iscsi, files, listener }
}

impl Stage {
    fn context(&self, name: &str) -> StepContext {
        let all = self.iscsi.steps(&self.world.node, Activity::Deploy);
        let all = all.into_iter().chain(self.iscsi.steps(&self.world.node, Activity::TearDown));
        let step = all.into_iter().find(|step| step.step == name).unwrap();
        StepContext { agent: None, ..self.world.context(Activity::Deploy, &step) }
    }

    fn keep(&mut self, keep: crate::interface::Json) {
        for (key, value) in keep {
            if value.is_null() {
                self.world.node.driver_internal_info.remove(&key);
            } else {
                self.world.node.driver_internal_info.insert(key, value);
            }
        }
    }

    /// Runs a step that has to end.
    async fn runs(&mut self, name: &str) -> Found {
        let context = self.context(name);
        self.ends(&context).await
    }

    async fn ends(&mut self, context: &StepContext) -> Found {
        let found = match self.iscsi.execute(context).await.unwrap() {
            StepOutcome::Done => Found::default(),
            StepOutcome::Found(found) => *found,
            other @ (StepOutcome::Wait(_) | StepOutcome::Hold) => panic!("{}: {other:?}", context.step.step),
        };
        self.keep(found.keep.clone());
        found
    }

    async fn prepares(&mut self) {
        self.iscsi.validate(&self.world.node).unwrap();
        let keep = self.iscsi.prepare(&self.world.node).await.unwrap();
        self.keep(keep);
        let deploy = self.context("deploy");
        assert!(matches!(self.iscsi.execute(&deploy).await.unwrap(), StepOutcome::Wait(_)));
        assert!(matches!(self.iscsi.poll(&deploy).await.unwrap(), StepOutcome::Wait(_)), "nobody called yet");
    }

    fn calls(&mut self, method: &str, more: Value) {
        let mut args = object(more);
        args.insert("key".into(), self.world.node.driver_internal_info[KEY].clone());
        args.insert("address".into(), json!("127.0.0.1"));
        let known = self.iscsi.vendor_methods().iter().find(|known| known.name == method).unwrap();
        let keep =
            self.iscsi.ramdisk_calls(&self.world.node, known, &args, Some([127, 0, 0, 1].into())).unwrap();
        self.keep(keep);
    }

    /// What the ramdisk hears next on its port.
    async fn hears(&self) -> String {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    fn image(&self) -> Vec<u8> {
        std::fs::read(self.bench.path("own/disk.img")).unwrap()
    }
}

#[tokio::test]
async fn a_bash_ramdisk_gets_a_whole_disk_and_restarts_by_itself() {
    let mut stage = stage(json!({})).await;
    stage.prepares().await;
    let key = stage.world.node.driver_internal_info[KEY].as_str().unwrap().to_owned();
    assert!(key.len() == 32 && key.chars().all(|c| c.is_ascii_alphanumeric()), "{key}");
    stage.calls(DEPLOY, json!({"iqn": "iqn-7", "error": ""}));
    assert_eq!(stage.iscsi.poll(&stage.context("deploy")).await.unwrap(), StepOutcome::Done);

    let found = stage.runs("write_image").await;
    assert_eq!(stage.files.asked.lock().unwrap()[0].to_string(), "iqn-7 at 127.0.0.1:3260, unit 1");
    assert!(stage.files.closed.load(SeqCst), "nothing stays logged in");
    assert!(stage.bench.read(0, 8 * MIB) == stage.image());
    assert!(found.keep["root_uuid_or_disk_id"].as_str().unwrap().starts_with("0x"));

    stage.runs("prepare_instance_boot").await;
    let context = stage.context("tear_down_agent");
    let (outcome, heard) = futures_util::future::join(stage.iscsi.execute(&context), stage.hears()).await;
    assert_eq!(outcome.unwrap(), StepOutcome::Done);
    assert_eq!(heard, "done");
    assert_eq!(stage.world.asked(), ["ramdisk Deploy", "disk"], "the boot device was right before that word");
    let found = stage.runs("boot_instance").await;
    assert_eq!(stage.world.asked().len(), 2, "it runs already");
    assert_eq!(found.keep[KEY], Value::Null);
    assert!(!stage.bench.path("images").join(stage.world.node.uuid.to_string()).exists());
}

#[tokio::test]
async fn a_bash_ramdisk_installs_the_boot_loader_between_two_words() {
    let mut stage = stage(json!({"image_type": "partition", "root_gb": 1})).await;
    stage.world.node.instance_info.insert("root_gb".into(), json!(1));
    stage.prepares().await;
    stage.calls(DEPLOY, json!({"iqn": "iqn-7"}));
    let context = stage.context("prepare_instance_boot");
    let (outcome, heard) = futures_util::future::join(stage.iscsi.execute(&context), stage.hears()).await;
    let StepOutcome::Wait(progressed) = outcome.unwrap() else { panic!("it waits") };
    assert_eq!(heard, "done");

    let after = StepContext {
        checkpoint: progressed.checkpoint,
        resumed: true,
        ..stage.context("prepare_instance_boot")
    };
    assert!(matches!(stage.iscsi.execute(&after).await.unwrap(), StepOutcome::Wait(_)), "told once only");
    stage.calls(BOOTLOADER, json!({"status": "FAILED", "error": "no grub"}));
    let error = stage.iscsi.poll(&stage.context("prepare_instance_boot")).await.unwrap_err().to_string();
    assert!(error.contains("no grub"), "{error}");
    stage.calls(BOOTLOADER, json!({"status": "SUCCEEDED", "error": ""}));
    let outcome = stage.iscsi.poll(&stage.context("prepare_instance_boot")).await.unwrap();
    assert_eq!(outcome, StepOutcome::Done);
    assert_eq!(stage.world.asked(), ["ramdisk Deploy", "disk"]);
}

#[tokio::test]
async fn an_agent_exports_its_disk_and_is_switched_off_afterwards() {
    let mut stage = stage(json!({"capabilities": {"boot_mode": "uefi"}})).await;
    stage.prepares().await;
    let agent = stage.world.agent.handle();
    let with_agent =
        |stage: &Stage, name: &str| StepContext { agent: Some(agent.clone()), ..stage.context(name) };
    assert_eq!(stage.iscsi.poll(&with_agent(&stage, "deploy")).await.unwrap(), StepOutcome::Done);
    let context = with_agent(&stage, "write_image");
    stage.ends(&context).await;
    let iqn = format!("iqn.2008-10.org.openstack:{}", stage.world.node.uuid);
    let started = stage.world.agent.with(|inside| inside.started[0].clone());
    assert_eq!(started.0, "iscsi.start_iscsi_target");
    assert_eq!(started.1, json!({"iqn": iqn, "portal_port": 3260, "wipe_disk_metadata": false}));
    let asked = stage.files.asked.lock().unwrap()[0].clone();
    assert_eq!((asked.address, asked.iqn), (IpAddr::from([127, 0, 0, 1]), iqn));
    assert!(stage.bench.read(0, 8 * MIB) == stage.image());
    let context = with_agent(&stage, "prepare_instance_boot");
    stage.ends(&context).await;
    let (name, params) = stage.world.agent.with(|inside| inside.started.last().unwrap().clone());
    assert_eq!((name.as_str(), &params["target_boot_mode"]), ("image.install_bootloader", &json!("uefi")));
    assert_eq!(stage.world.asked(), ["ramdisk Deploy", "disk"]);
}

#[tokio::test]
async fn a_ramdisk_that_fails_is_gone_or_does_not_listen_ends_the_deployment_with_a_reason() {
    let mut stage = stage(json!({})).await;
    stage.prepares().await;
    let error = stage.iscsi.execute(&stage.context("write_image")).await.unwrap_err().to_string();
    assert!(error.contains("not there any more"), "{error}");
    stage.calls(DEPLOY, json!({"error": "no disk found"}));
    let error = stage.iscsi.poll(&stage.context("deploy")).await.unwrap_err().to_string();
    assert!(error.starts_with("Error returned from deploy ramdisk: no disk found"), "{error}");

    stage.world.node.driver_internal_info.remove(RAMDISK_CALLED);
    stage.calls(DEPLOY, json!({"iqn": "iqn-7"}));
    drop(std::mem::replace(&mut stage.listener, TcpListener::bind("127.0.0.1:0").await.unwrap()));
    let context = stage.context("tear_down_agent");
    let error = stage.iscsi.execute(&context).await.unwrap_err().to_string();
    assert!(error.contains("the go-ahead") && error.contains("console"), "{error}");
    let resumed = StepContext { resumed: true, ..context };
    assert_eq!(stage.iscsi.execute(&resumed).await.unwrap(), StepOutcome::Done);
    assert_eq!(stage.world.asked().last().unwrap(), "power rebooting", "nobody is sure whether it was told");

    stage.iscsi.clean_up(&stage.context("tear_down_agent")).await.unwrap();
    let asked = stage.world.asked();
    assert_eq!(asked[asked.len() - 2..], ["power power off", "files"]);
}

#[tokio::test]
async fn a_target_that_refuses_after_a_restart_says_that_the_ramdisk_has_gone() {
    let mut stage = stage(json!({})).await;
    Arc::get_mut(&mut stage.files);
    stage.prepares().await;
    stage.calls(DEPLOY, json!({"iqn": "iqn-7"}));
    let refusing = Files {
        path: stage.bench.path("disk"),
        asked: Mutex::default(),
        closed: Arc::default(),
        refuses: true,
    };
    let direct = Arc::new(DirectDeploy::new(DirectSettings::default(), client()).unwrap());
    let iscsi = IscsiDeploy::with(stage.iscsi.settings.clone(), direct, Arc::new(refusing)).unwrap();
    let context = StepContext { resumed: true, ..stage.context("write_image") };
    let error = iscsi.execute(&context).await.unwrap_err().to_string();
    assert!(error.contains("after a restart of Ferric") && error.contains("deploy again"), "{error}");
    assert!(!error.contains(stage.world.node.driver_internal_info[KEY].as_str().unwrap()), "{error}");
}

#[tokio::test]
async fn net_boot_leads_to_the_disk_or_its_root() {
    let mut stage = stage(json!({"capabilities": {"boot_option": "netboot"}})).await;
    stage.prepares().await;
    stage.calls(DEPLOY, json!({"iqn": "iqn-7"}));
    stage.runs("write_image").await;
    let found = stage.runs("prepare_instance_boot").await;
    let disk = stage.world.node.driver_internal_info["root_uuid_or_disk_id"].clone();
    assert_eq!(found.keep["instance_boot"]["disk"], disk);
    assert_eq!(stage.world.asked(), ["ramdisk Deploy", "network"]);

    stage.world.node.instance_info.insert("image_type".into(), json!("partition"));
    stage.world.node.instance_info.insert("root_gb".into(), json!(1));
    let error = stage.iscsi.validate(&stage.world.node).unwrap_err().to_string();
    assert!(error.contains("['kernel', 'ramdisk']"), "{error}");
    stage.world.node.instance_info.insert("kernel".into(), json!("/k"));
    stage.world.node.instance_info.insert("ramdisk".into(), json!("/r"));
    stage.iscsi.validate(&stage.world.node).unwrap();
    stage.world.node.driver_internal_info.insert("root_uuid_or_disk_id".into(), json!("u-1"));
    let found = stage.runs("prepare_instance_boot").await;
    assert_eq!(
        found.keep["instance_boot"],
        json!({"kernel": "/k", "ramdisk": "/r", "kernel_args": ["root=UUID=u-1", "ro"]})
    );
}

#[tokio::test]
async fn an_image_larger_than_root_gb_is_refused_before_the_machine_is_touched() {
    let mut stage = stage(json!({"root_gb": 1})).await;
    let image = stage.bench.path("own/disk.img");
    std::fs::File::options().write(true).open(&image).unwrap().set_len(2 << 30).unwrap();
    let sum = run("sha256sum", &[image.to_str().unwrap()])[..64].to_owned();
    stage.world.node.instance_info.insert("image_checksum".into(), json!(sum));
    let keep = stage.iscsi.prepare(&stage.world.node).await.unwrap();
    stage.keep(keep);
    let error = stage.iscsi.execute(&stage.context("deploy")).await.unwrap_err().to_string();
    assert!(error.contains("Root partition is too small for requested image"), "{error}");
    assert!(stage.world.asked().is_empty());
}

#[tokio::test]
async fn the_kernel_line_has_what_ramdisks_of_the_era_read() {
    let mut stage = stage(json!({})).await;
    stage.world.node.driver_internal_info.insert(KEY.into(), json!("SECRET"));
    stage
        .world
        .node
        .properties
        .insert("root_device".into(), json!({"size": ">= 10", "wwn": "0x5", "rotational": false}));
    let boot = RamdiskParams {
        purpose: RamdiskPurpose::Deploy,
        boot_mode: BootMode::Uefi,
        api_url: "http://10.0.0.1:6385/".into(),
        kernel_args: Vec::new(),
    };
    let uuid = stage.world.node.uuid;
    assert_eq!(
        stage.iscsi.kernel_params(&stage.world.node, &boot),
        [
            "disk=cciss/c0d0,sda,hda,vda".to_owned(),
            format!("iscsi_target_iqn=iqn-{uuid}"),
            format!("deployment_id={uuid}"),
            "deployment_key=SECRET".into(),
            "ironic_api_url=http://10.0.0.1:6385".into(),
            "boot_option=netboot".into(),
            "root_device=rotational=false,wwn=0x5".into(),
            "ipa-driver-name=ipmi".into(),
            "boot_mode=uefi".into(),
            "coreos.configdrive=0".into(),
        ]
    );
    let clean = RamdiskParams { purpose: RamdiskPurpose::Clean, ..boot };
    assert!(stage.iscsi.kernel_params(&stage.world.node, &clean).is_empty());
}
