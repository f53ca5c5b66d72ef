//! Questions to a node's hardware, and what is done while the client waits: RAID wishes, the console's place, NMI,
//! indicators, virtual media, vendor methods. What is done after the answer is an order (`orders.rs`).

use std::future::Future;
use std::sync::Arc;

use actix::{AsyncContext, AtomicResponse, Context, Handler, MessageResult, ResponseFuture};
use ferric_drivers::DriverError;
use ferric_drivers::interface::{Attached, IndicatorState, Indicators, Json, Level, VendorMethod};
use ferric_machine::Fault;
use ferric_schema::JsonText;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::NodeActor;
use super::agent::wrong_key;
use super::orders::{Order, PlaceOrder};
use crate::error::NodeError;
use crate::job::{Job, isolated, stopped};
use crate::message::{
    AttachVmedia, CallVendor, DetachVmedia, GetConsole, GetIndicator, GetIndicators, GetVendorMethods,
    GetVmedia, InjectNmi, SetBootMode, SetConsole, SetIndicator, SetSecureBoot, SetTargetRaidConfig,
    VendorAnswer,
};
use crate::power::QUESTION;

impl NodeActor {
    /// Refuses while something else holds the node, as Ironic's exclusive lock does.
    pub(super) fn free(&self) -> Result<(), NodeError> {
        if self.node.reservation.is_some() || self.node.target_power_state.is_some() || self.tidies_up() {
            return Err(self.locked());
        }
        Ok(())
    }

    /// Asks the driver something in the BMC's turn, within the time that a question may take.
    pub(super) fn question<T, F, W>(
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
                governor.run(bmc, true, QUESTION, work(job)).await
            });
            Ok(asked.await?)
        })
    }

    /// The node for a question to its management interface; with `exclusive` only while nothing else holds it.
    pub(super) fn managed(&self, exclusive: bool) -> Result<Arc<Job>, NodeError> {
        if exclusive {
            self.free()?;
        }
        let job = self.job()?;
        job.bound.management.validate(&job.view)?;
        Ok(Arc::new(job))
    }

    /// [`NodeActor::managed`], to change how the machine boots: not in the middle of work that relies on it.
    fn may_boot_differently(&self) -> Result<(), NodeError> {
        if self.state().is_unstable() {
            return Err(NodeError::Conflict(format!(
                "Node is in {} state. Since node is transitioning, the boot mode will not be set as this may interfere \
                 with ongoing changes and result in erroneous modification. Try again later.",
                self.state()
            )));
        }
        self.managed(true).map(|_| ())
    }

    /// A machine whose BMC is known to be away takes no media.
    fn can_take_media(&self, what: &str) -> Result<Arc<Job>, NodeError> {
        let job = self.managed(true)?;
        if self.node.maintenance && self.node.fault == Some(Fault::PowerFailure) {
            let text =
                format!("Unable to {what} virtual media for node {} due to power failure state", self.uuid());
            return Err(NodeError::Limit(text));
        }
        Ok(job)
    }
}

impl Handler<SetTargetRaidConfig> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: SetTargetRaidConfig, _: &mut Context<Self>) -> Self::Result {
        let allowed = self.free().and_then(|()| self.job()).and_then(|job| {
            // an operator may take the wish back whatever the interface thinks of it
            if !ask.0.is_empty() {
                job.bound.raid.validate_raid_config(&job.view, &ask.0)?;
            }
            Ok(())
        });
        if let Err(error) = allowed {
            return self.refuse(error);
        }
        let mut change = self.change();
        let data = json!({"target_raid_config": &ask.0});
        change.node.target_raid_config = JsonText::from(ask.0);
        change.tell(&self.world, "INFO", "updated", "another RAID configuration is wanted".into(), data);
        self.commit(change, |_, _| ())
    }
}

impl Handler<GetConsole> for NodeActor {
    type Result = ResponseFuture<Result<Option<Json>, NodeError>>;

    fn handle(&mut self, _: GetConsole, _: &mut Context<Self>) -> Self::Result {
        if !self.node.console_enabled {
            return Box::pin(std::future::ready(Ok(None)));
        }
        let job = self.job().and_then(|job| {
            job.bound.console.validate(&job.view)?;
            Ok(Arc::new(job))
        });
        // nobody asks the BMC: there is no turn to wait for
        Box::pin(async move {
            let job = job?;
            let looking = isolated("looking for the console", job.cancel.clone(), async move {
                timeout(QUESTION, job.bound.console.console(&job.view))
                    .await
                    .unwrap_or_else(|_| Err(stopped("looking for the console", "it never answered")))
            });
            Ok(Some(looking.await?))
        })
    }
}

impl Handler<SetConsole> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: SetConsole, ctx: &mut Context<Self>) -> Self::Result {
        let job = match self.job() {
            Ok(job) => job,
            Err(error) => return self.refuse(error),
        };
        if let Err(error) = job.bound.console.validate(&job.view) {
            return self.refuse(error);
        }
        match (self.node.console_enabled, ask.0) {
            // an undeploy closes it, and it stays enabled
            (true, true) if !job.bound.console.is_open(&job.view) => self.open_enabled_console(ctx),
            (true, true) | (false, false) => self.already(),
            (true, false) | (false, true) => self.order(Order::Console(ask.0)),
        }
    }
}

impl Handler<SetBootMode> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: SetBootMode, _: &mut Context<Self>) -> Self::Result {
        match self.may_boot_differently() {
            Ok(()) => self.order(Order::BootMode(ask.0)),
            Err(error) => self.refuse(error),
        }
    }
}

impl Handler<SetSecureBoot> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: SetSecureBoot, _: &mut Context<Self>) -> Self::Result {
        match self.may_boot_differently() {
            Ok(()) => self.order(Order::SecureBoot(ask.0)),
            Err(error) => self.refuse(error),
        }
    }
}

impl Handler<InjectNmi> for NodeActor {
    type Result = ResponseFuture<Result<(), NodeError>>;

    fn handle(&mut self, _: InjectNmi, _: &mut Context<Self>) -> Self::Result {
        self.question("injecting an NMI", self.managed(true), |job| async move {
            job.bound.management.inject_nmi(&job.view).await
        })
    }
}

impl Handler<GetIndicators> for NodeActor {
    type Result = ResponseFuture<Result<Indicators, NodeError>>;

    fn handle(&mut self, _: GetIndicators, _: &mut Context<Self>) -> Self::Result {
        // which there may be is said without looking at driver_info, as in Ironic
        self.question("listing the indicators", self.job().map(Arc::new), |job| async move {
            job.bound.management.indicators(&job.view, None).await
        })
    }
}

impl Handler<GetIndicator> for NodeActor {
    type Result = ResponseFuture<Result<IndicatorState, NodeError>>;

    fn handle(&mut self, ask: GetIndicator, _: &mut Context<Self>) -> Self::Result {
        self.question("reading an indicator", self.managed(true), move |job| async move {
            job.bound.management.indicator(&job.view, &ask.component, &ask.indicator).await
        })
    }
}

impl Handler<SetIndicator> for NodeActor {
    type Result = ResponseFuture<Result<(), NodeError>>;

    fn handle(&mut self, ask: SetIndicator, _: &mut Context<Self>) -> Self::Result {
        self.question("setting an indicator", self.managed(true), move |job| async move {
            let SetIndicator { component, indicator, state } = ask;
            job.bound.management.set_indicator(&job.view, &component, &indicator, state).await
        })
    }
}

impl Handler<GetVmedia> for NodeActor {
    type Result = ResponseFuture<Result<Vec<Attached>, NodeError>>;

    fn handle(&mut self, _: GetVmedia, _: &mut Context<Self>) -> Self::Result {
        self.question("listing virtual media", self.managed(false), |job| async move {
            job.bound.management.vmedia(&job.view).await
        })
    }
}

impl Handler<AttachVmedia> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: AttachVmedia, _: &mut Context<Self>) -> Self::Result {
        match self.can_take_media("attach") {
            Ok(_) => self.order(Order::Attach(ask.0)),
            Err(error) => self.refuse(error),
        }
    }
}

impl Handler<DetachVmedia> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: DetachVmedia, _: &mut Context<Self>) -> Self::Result {
        match self.can_take_media("detach") {
            Ok(_) => self.order(Order::Detach(ask.0)),
            Err(error) => self.refuse(error),
        }
    }
}

impl Handler<GetVendorMethods> for NodeActor {
    type Result = MessageResult<GetVendorMethods>;

    fn handle(&mut self, _: GetVendorMethods, _: &mut Context<Self>) -> Self::Result {
        let of_node = |method: &&'static VendorMethod| method.level == Level::Node;
        MessageResult(self.job().map(|job| {
            let methods = job.bound.vendor.methods().iter().filter(of_node);
            methods.chain(job.bound.deploy.vendor_methods()).collect()
        }))
    }
}

impl Handler<CallVendor> for NodeActor {
    type Result = ResponseFuture<Result<VendorAnswer, NodeError>>;

    fn handle(&mut self, ask: CallVendor, ctx: &mut Context<Self>) -> Self::Result {
        if let Some(called) = self.called_by_ramdisk(&ask, ctx) {
            return called;
        }
        if ask.anonymous {
            return Box::pin(std::future::ready(Err(wrong_key())));
        }
        let (job, method) = match self.may_call(&ask) {
            Ok(found) => found,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let order = Order::Vendor { method, http: ask.http, args: ask.args };
        if !method.is_async {
            // the mailbox goes on meanwhile
            let called = self.run_order(Arc::new(job), order);
            return Box::pin(async move {
                let value = called.await?.unwrap_or(Value::Null);
                Ok(if method.attach { VendorAnswer::File(value) } else { VendorAnswer::Value(value) })
            });
        }
        if !method.require_exclusive_lock {
            self.carry_out(ctx, order, None);
            return Box::pin(std::future::ready(Ok(VendorAnswer::Accepted)));
        }
        let node = ctx.address();
        Box::pin(async move {
            match node.send(PlaceOrder(order)).await {
                Ok(placed) => placed.map(|()| VendorAnswer::Accepted),
                Err(error) => Err(stopped("calling a vendor method", &error.to_string()).into()),
            }
        })
    }
}

impl NodeActor {
    /// The method that is called, after everything about the call was checked.
    fn may_call(&self, ask: &CallVendor) -> Result<(Job, &'static VendorMethod), NodeError> {
        let job = self.job()?;
        let method = job.bound.vendor.method(Level::Node, &ask.method, &ask.http)?;
        if method.require_exclusive_lock {
            self.free()?;
        }
        job.bound.vendor.validate_call(&job.view, method, &ask.args)?;
        Ok((job, method))
    }
}
