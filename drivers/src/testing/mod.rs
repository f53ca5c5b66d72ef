//! What the tests of flow and agent steps share: an agent that speaks HTTP, the node's other actors as a record of
//! what they were asked, and a runner that treats a plan as the node's actor does.

pub(crate) mod agent;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ferric_machine::{Activity, PowerState, PowerTarget, State};
use serde_json::Value;
use uuid::Uuid;

use crate::DriverError;
use crate::absent::{Absent, Plain};
use crate::agent_steps::{AgentStepRunner, EraseSettings};
use crate::boot::FakeBoot;
use crate::flow::{Ending, Flow, Order};
use crate::interface::{
    Asks, Child, DeployInterface, Found, InstanceBoot, Json, Kind, NodeChange, NodeView, PortView,
    RamdiskPurpose, Result, Resume, Step, StepContext, StepOutcome, Steps,
};
use crate::management::NoopManagement;
use crate::power::FakePower;
use crate::protocol::agent::{AgentClient, AgentSettings};
use crate::registry::Bound;

pub(crate) fn json(value: Value) -> Json {
    let Value::Object(map) = value else { panic!("{value} is no object") };
    map
}

pub(crate) fn client() -> AgentClient {
    // a second test of this process finds it installed
    let _ = rustls::crypto::ring::default_provider().install_default();
    AgentClient::new(AgentSettings { max_command_attempts: 1, ..AgentSettings::default() }).unwrap()
}

pub(crate) fn node() -> NodeView {
    NodeView {
        uuid: Uuid::from_u128(7),
        name: Some("n".to_owned()),
        driver: "ipmi".to_owned(),
        driver_info: Json::new(),
        driver_internal_info: Json::new(),
        properties: Json::new(),
        instance_info: Json::new(),
        target_raid_config: Json::new(),
        ports: vec![PortView {
            uuid: Uuid::from_u128(8),
            address: "52:54:00:00:00:01".to_owned(),
            pxe_enabled: true,
        }],
        state: State::Cleaning,
        power: None,
    }
}

/// Deploys through an agent, in the steps of `direct`.
pub(crate) struct AgentDeploy;

#[async_trait]
impl Steps for AgentDeploy {
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        match activity {
            Activity::Deploy => vec![
                Step::new("deploy", "deploy", 100),
                Step { resume: Resume::Reattach, ..Step::new("deploy", "write_image", 80) },
                Step::new("deploy", "tear_down_agent", 40),
                Step::new("deploy", "boot_instance", 20),
            ],
            Activity::Adopt => vec![Step::new("deploy", "take_over", 0)],
            Activity::TearDown => vec![Step::new("deploy", "tear_down", 0)],
            Activity::Verify
            | Activity::Clean
            | Activity::Inspect
            | Activity::Rescue
            | Activity::Unrescue
            | Activity::Service => Vec::new(),
        }
    }

    async fn execute(&self, context: &StepContext) -> Result<StepOutcome> {
        if context.step.step == "deploy" {
            context.asks.boot_ramdisk(RamdiskPurpose::Deploy).await?;
        }
        Ok(StepOutcome::Done)
    }

    async fn poll(&self, _context: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }
}

#[async_trait]
impl DeployInterface for AgentDeploy {
    fn properties(&self) -> &'static [crate::interface::Property] {
        &[]
    }

    fn validate(&self, _node: &NodeView) -> Result<()> {
        Ok(())
    }

    async fn prepare(&self, _node: &NodeView) -> Result<Json> {
        Ok(Json::new())
    }

    async fn clean_up(&self, context: &StepContext) -> Result<()> {
        context.asks.set_power(PowerTarget::Off).await?;
        context.asks.clean_up_ramdisk().await
    }
}

/// Interface with the steps it was given; it writes down what it ran.
#[derive(Default)]
pub(crate) struct Listed {
    pub(crate) steps: Vec<(Activity, Step)>,
}

#[async_trait]
impl Steps for Listed {
    fn steps(&self, _node: &NodeView, activity: Activity) -> Vec<Step> {
        self.steps.iter().filter(|(of, _)| *of == activity).map(|(_, step)| step.clone()).collect()
    }

    async fn execute(&self, _context: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }

    async fn poll(&self, _context: &StepContext) -> Result<StepOutcome> {
        Ok(StepOutcome::Done)
    }
}

/// Writes down what it is asked; everything succeeds.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) children: Vec<Child>,
}

impl Record {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
}

#[async_trait]
impl Asks for Record {
    async fn power_state(&self) -> Result<PowerState> {
        Ok(PowerState::On)
    }

    async fn set_power(&self, target: PowerTarget) -> Result<PowerState> {
        self.note(format!("power {target}"));
        Ok(target.end())
    }

    async fn boot_ramdisk(&self, purpose: RamdiskPurpose) -> Result<()> {
        self.note(format!("ramdisk {purpose:?}"));
        Ok(())
    }

    async fn boot_from_disk(&self) -> Result<()> {
        self.note("disk".to_owned());
        Ok(())
    }

    async fn clean_up_ramdisk(&self) -> Result<()> {
        self.note("files".to_owned());
        Ok(())
    }

    async fn boot_from_network(&self, _boot: InstanceBoot) -> Result<()> {
        self.note("network".to_owned());
        Ok(())
    }

    async fn children(&self) -> Result<Vec<Child>> {
        Ok(self.children.clone())
    }

    async fn set_child_power(&self, child: Uuid, target: PowerTarget) -> Result<()> {
        self.note(format!("child {} {target}", child.as_u128()));
        Ok(())
    }
}

/// A node with everything around it.
pub(crate) struct World {
    pub(crate) flow: Flow,
    pub(crate) node: NodeView,
    pub(crate) bound: Bound,
    pub(crate) asks: Arc<Record>,
    pub(crate) agent: agent::TestAgent,
    /// The steps that ran to their end, `interface.step`.
    pub(crate) ran: Vec<String>,
}

impl World {
    pub(crate) async fn new() -> World {
        let runner = AgentStepRunner::new(client(), EraseSettings::default());
        let bound = Bound {
            names: BTreeMap::from([(Kind::Deploy, "direct".to_owned())]),
            power: Arc::new(FakePower),
            management: Arc::new(NoopManagement),
            boot: Arc::new(FakeBoot),
            deploy: Arc::new(AgentDeploy),
            console: Arc::new(Plain),
            vendor: Arc::new(Absent(Kind::Vendor)),
            raid: Arc::new(Plain),
            interfaces: BTreeMap::new(),
            steps: BTreeMap::new(),
            agent_steps: Some(Arc::new(runner)),
        };
        World {
            flow: Flow::default(),
            node: node(),
            bound,
            asks: Arc::new(Record::default()),
            agent: agent::TestAgent::start().await,
            ran: Vec::new(),
        }
    }

    pub(crate) fn put(&mut self, kind: Kind, name: &str, steps: impl Steps + 'static) {
        self.bound.names.insert(kind, name.to_owned());
        self.bound.steps.insert(kind, Arc::new(steps));
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asks.asked.lock().unwrap().clone()
    }

    pub(crate) fn context(&self, activity: Activity, step: &Step) -> StepContext {
        StepContext {
            node: Arc::new(self.node.clone()),
            bound: Arc::new(self.bound.clone()),
            activity,
            step: Arc::new(step.clone()),
            agent: Some(self.agent.handle()),
            asks: self.asks.clone(),
            resumed: false,
            checkpoint: None,
        }
    }

    /// Validates, plans and runs as the node's actor does. An error tells which step it came from.
    pub(crate) async fn run(&mut self, order: &Order) -> std::result::Result<End, DriverError> {
        self.flow.validate(&self.node, &self.bound, order)?;
        let steps = self.flow.plan(&self.node, &self.bound, order);
        self.go(order.activity, steps).await
    }

    pub(crate) async fn clean_up(&mut self, activity: Activity, ending: Ending) -> Result<End> {
        let steps = self.flow.clean_up(activity, ending);
        self.go(activity, steps).await
    }

    async fn go(&mut self, activity: Activity, steps: Vec<Step>) -> Result<End> {
        let mut left: VecDeque<Step> = steps.into();
        while let Some(step) = left.pop_front() {
            let mut context = self.context(activity, &step);
            if matches!(step.step.as_str(), "boot_ramdisk" | "rescue" | "deploy") {
                context.agent = None;
            }
            let mut looks = 0;
            let mut outcome = self.flow.execute(&context).await;
            let found = loop {
                match outcome {
                    Ok(StepOutcome::Done) => break Found::default(),
                    Ok(StepOutcome::Found(found)) => break *found,
                    Ok(StepOutcome::Hold) => return Ok(End::Held(left.into())),
                    Ok(StepOutcome::Wait(progressed)) => context.checkpoint = progressed.checkpoint,
                    Err(error) if error.is_transient() => {}
                    Err(error) => return Err(error),
                }
                looks += 1;
                assert!(looks < 100, "{}.{} never ends", step.interface, step.step);
                context.agent = Some(self.agent.handle());
                outcome = self.flow.poll(&context).await;
            };
            self.ran.push(format!("{}.{}", step.interface, step.step));
            for (key, value) in found.keep {
                if value.is_null() {
                    self.node.driver_internal_info.remove(&key);
                } else {
                    self.node.driver_internal_info.insert(key, value);
                }
            }
            for change in found.node {
                if let NodeChange::InstanceInfo(info) = change {
                    self.node.instance_info = info;
                }
            }
            if let Some(next) = found.next {
                left = next.into();
            }
        }
        Ok(End::Done)
    }
}

#[derive(Debug, PartialEq)]
pub(crate) enum End {
    Done,
    /// With what would follow.
    Held(Vec<Step>),
}
