//! How the machine is: its sensors, event log, inventory and identify light; and the periodic look at the sensors
//! (`[sensor_data]`).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture};
use ferric_drivers::DriverError;
use ferric_drivers::interface::{EventLog, Fru, Sensors};
use ferric_machine::Timestamp;
use tokio::time::timeout;

use super::NodeActor;
use crate::error::NodeError;
use crate::job::{Job, isolated};
use crate::message::{ClearEventLog, GetEventLog, GetFru, GetSensors, SetIdentify};

/// What a BMC may take for all of its sensors, or for a long event log.
const SURVEY: Duration = Duration::from_secs(200);

impl Handler<GetSensors> for NodeActor {
    type Result = ResponseFuture<Result<Arc<Sensors>, NodeError>>;

    fn handle(&mut self, ask: GetSensors, _: &mut Context<Self>) -> Self::Result {
        let (node, world) = (self.uuid(), self.world.clone());
        let known = world.readings.get(&node).map(|known| Arc::clone(&known));
        if let Some(known) = known.filter(|known| age(known, world.now()) <= ask.max_age) {
            return Box::pin(std::future::ready(Ok(known)));
        }
        let read = self.survey("reading the sensors", self.managed(false), |job| async move {
            job.bound.management.sensors(&job.view).await
        });
        Box::pin(async move {
            let sensors = Arc::new(read.await?);
            world.keep_readings(node, Arc::clone(&sensors));
            Ok(sensors)
        })
    }
}

impl Handler<GetEventLog> for NodeActor {
    type Result = ResponseFuture<Result<EventLog, NodeError>>;

    fn handle(&mut self, ask: GetEventLog, _: &mut Context<Self>) -> Self::Result {
        self.survey("reading the event log", self.managed(false), move |job| async move {
            job.bound.management.event_log(&job.view, ask.most).await
        })
    }
}

impl Handler<ClearEventLog> for NodeActor {
    type Result = ResponseFuture<Result<(), NodeError>>;

    fn handle(&mut self, _: ClearEventLog, _: &mut Context<Self>) -> Self::Result {
        self.survey("clearing the event log", self.managed(false), |job| async move {
            job.bound.management.clear_event_log(&job.view).await
        })
    }
}

impl Handler<GetFru> for NodeActor {
    type Result = ResponseFuture<Result<Vec<Fru>, NodeError>>;

    fn handle(&mut self, _: GetFru, _: &mut Context<Self>) -> Self::Result {
        self.survey("reading the inventory", self.managed(false), |job| async move {
            job.bound.management.fru(&job.view).await
        })
    }
}

impl Handler<SetIdentify> for NodeActor {
    type Result = ResponseFuture<Result<(), NodeError>>;

    fn handle(&mut self, ask: SetIdentify, _: &mut Context<Self>) -> Self::Result {
        self.question("switching the identify light", self.managed(false), move |job| async move {
            job.bound.management.identify(&job.view, ask.0).await
        })
    }
}

fn age(sensors: &Sensors, now: Timestamp) -> Duration {
    now.since(sensors.read_at)
}

impl NodeActor {
    /// The next periodic look at the sensors. The first one is spread over the whole interval by the node's id.
    pub(super) fn schedule_sensors(&mut self, ctx: &mut Context<Self>, first: bool) {
        let interval = self.world.settings.sensors.interval;
        if interval.is_zero() {
            return;
        }
        // other bytes than those that spread the looks at the power: the two do not meet
        let [.., a, b, c, d] = *self.uuid().as_bytes();
        let part = u32::from_be_bytes([a, b, c, d]);
        let jitter = interval.mul_f64(f64::from(part) / f64::from(u32::MAX));
        Self::later(ctx, if first { jitter } else { interval }, |act, ctx| {
            act.collect_sensors(ctx);
            act.schedule_sensors(ctx, false);
        });
    }

    fn collect_sensors(&mut self, ctx: &mut Context<Self>) {
        let settings = &self.world.settings.sensors;
        let deployed = self.node.instance_uuid.is_some();
        if self.node.maintenance || !(deployed || settings.for_undeployed) {
            self.world.readings.remove(&self.uuid());
            return;
        }
        let Ok(job) = self.managed(false) else { return };
        let (node, world, within) = (self.uuid(), self.world.clone(), settings.within);
        let look = async move {
            let read = isolated("collecting sensor data", job.cancel.clone(), {
                let (world, job) = (world.clone(), job.clone());
                async move {
                    let bmc = job.bound.power.bmc(&job.view);
                    let sensors = job.bound.management.sensors(&job.view);
                    world.governor.survey(bmc, within, sensors).await
                }
            });
            // few at a time; whose turn does not come before the next look is left out
            let read = timeout(world.settings.sensors.interval.max(within), async {
                let _place = world.sensor_places.acquire().await.expect("the semaphore is never closed");
                read.await
            });
            match read.await {
                Ok(Ok(sensors)) => world.keep_readings(node, Arc::new(sensors)),
                Ok(Err(DriverError::Unsupported { .. })) => {}
                Ok(Err(error)) => {
                    world.readings.remove(&node);
                    tracing::debug!(%node, %error, "no sensor data");
                }
                Err(_) => tracing::debug!(%node, "no sensor data: its turn did not come"),
            }
        };
        ctx.spawn(look.into_actor(self).map(|(), _, _| ()));
    }

    /// [`NodeActor::question`] of what takes many commands.
    fn survey<T, F, W>(
        &self,
        what: &'static str,
        job: Result<Arc<Job>, NodeError>,
        work: F,
    ) -> ResponseFuture<Result<T, NodeError>>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Job>) -> W + Send + 'static,
        W: Future<Output = Result<T, DriverError>> + Send + 'static,
    {
        let governor = self.world.governor.clone();
        Box::pin(async move {
            let job = job?;
            let asked = isolated(what, job.cancel.clone(), async move {
                let bmc = job.bound.power.bmc(&job.view);
                governor.survey(bmc, SURVEY, work(job)).await
            });
            Ok(asked.await?)
        })
    }
}
