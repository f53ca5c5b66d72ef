//! The deployment's own way: the step `write_image` of the deploy interface `iscsi`, from an image in its cache to a disk
//! that holds it durably. What [`super::write`] does not have: many writes at a time, sync marks, and the journal.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
use serde_json::{Value, json};
use uuid::Uuid;

use super::iscsi_rig::{IQN, settings};

/// A conductor that agrees to everything.
struct Nods;

#[async_trait]
impl Asks for Nods {
    async fn report(&self, _progressed: Progressed) -> Result<()> {
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

/// The interface, with its cache in `folder`, and the image that it writes.
pub(crate) struct Deployment {
    iscsi: IscsiDeploy,
    bound: Arc<Bound>,
    instance_info: Json,
}

fn object(value: Value) -> Json {
    let Value::Object(map) = value else { panic!("{value} is no object") };
    map
}

impl Deployment {
    pub(crate) fn new(folder: &Path, image: &Path, sha256: &str) -> Deployment {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let agents = AgentClient::new(AgentSettings::default()).unwrap();
        let direct = Arc::new(DirectDeploy::new(DirectSettings::default(), agents).unwrap());
        let cache = CacheSettings {
            masters: folder.join("masters"),
            images: folder.join("images"),
            most_bytes: 4 << 30,
            ttl: Duration::from_secs(3600),
            allowed: vec![image.parent().unwrap().to_owned()],
        };
        let new = IscsiDeploySettings { iscsi: settings(), ..IscsiDeploySettings::new(cache) };
        let iscsi = IscsiDeploy::new(new, direct).unwrap();
        let mut parts = Parts::default();
        fakes::install(&mut parts, &FakeDelays::default());
        let names = RegistrySettings {
            hardware_types: vec!["fake-hardware".into()],
            enabled: BTreeMap::new(),
            defaults: BTreeMap::new(),
        };
        let chosen = Chosen::from([(Kind::Deploy, "fake".into())]);
        let bound = Registry::new(names, parts).unwrap().bind("fake-hardware", &chosen).unwrap();
        let instance_info = object(json!({
            "image_source": format!("file://{}", image.display()), "image_checksum": sha256,
            "capabilities": {"boot_mode": "bios"}
        }));
        Deployment { iscsi, bound: Arc::new(bound), instance_info }
    }

    /// Another machine, whose disk is behind `portal`: how long the step took.
    pub(crate) async fn write(&self, portal: SocketAddrV4) -> Duration {
        let mut node = NodeView {
            uuid: Uuid::new_v4(),
            name: None,
            driver: "fake-hardware".into(),
            driver_info: Json::new(),
            driver_internal_info: Json::new(),
            properties: Json::new(),
            instance_info: self.instance_info.clone(),
            target_raid_config: Json::new(),
            ports: Vec::new(),
            state: State::DeployWait,
            power: Some(PowerState::On),
        };
        node.driver_internal_info.extend(self.iscsi.prepare(&node).await.unwrap());
        let wait = self.iscsi.execute(&self.context(&node, "deploy")).await.unwrap();
        assert!(matches!(wait, StepOutcome::Wait(_)));
        let args = object(json!({
            "address": portal.ip().to_string(), "port": portal.port().to_string(), "iqn": IQN,
            "key": node.driver_internal_info["deploy_key"], "error": ""
        }));
        let methods = self.iscsi.vendor_methods();
        let call = methods.iter().find(|method| method.name == "pass_deploy_info").unwrap();
        let kept = self.iscsi.ramdisk_calls(&node, call, &args, Some((*portal.ip()).into())).unwrap();
        node.driver_internal_info.extend(kept);
        let context = self.context(&node, "write_image");
        let began = Instant::now();
        let outcome = self.iscsi.execute(&context).await.unwrap();
        assert!(matches!(outcome, StepOutcome::Found(_)));
        began.elapsed()
    }

    fn context(&self, node: &NodeView, name: &str) -> StepContext {
        let steps = self.iscsi.steps(node, Activity::Deploy);
        StepContext {
            node: Arc::new(node.clone()),
            bound: self.bound.clone(),
            activity: Activity::Deploy,
            step: Arc::new(steps.into_iter().find(|step| step.step == name).unwrap()),
            agent: None,
            asks: Arc::new(Nods),
            resumed: false,
            checkpoint: None,
        }
    }
}
