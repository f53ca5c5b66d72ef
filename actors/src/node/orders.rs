//! Orders: what a client asks of a node's hardware and does not wait for. The node is reserved for the time of it
//! (409 NodeLocked), the answer goes out once that is committed, and what became of it stands in the node's fields.
//!
//! An order is not in the step journal: the process that comes back after a crash says that it was interrupted
//! (`take_up_order`), since whoever ordered it can simply order it again.

use std::future::Future;
use std::sync::Arc;

use actix::fut::WrapFuture;
use actix::{AsyncContext, AtomicResponse, Context, Handler, Message};
use ferric_drivers::DriverError;
use ferric_drivers::interface::{Json, VendorMethod, VmediaAsk};
use ferric_machine::BootMode;
use ferric_schema::Node;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Change, NodeActor};
use crate::error::NodeError;
use crate::governor::Governor;
use crate::job::{Job, isolated, stopped};
use crate::power::QUESTION;
use crate::view::{self, keys};

/// What is ordered.
#[derive(Clone)]
pub(crate) enum Order {
    /// Console on or off.
    Console(bool),
    /// Another boot mode.
    BootMode(BootMode),
    /// Secure boot on or off.
    SecureBoot(bool),
    /// An image into a virtual drive.
    Attach(VmediaAsk),
    /// Virtual drives of these types, or all, to be emptied.
    Detach(Option<Vec<String>>),
    /// A vendor's method.
    Vendor {
        /// Which.
        method: &'static VendorMethod,
        /// The HTTP method that it was called with.
        http: String,
        /// The body; may hold secrets.
        args: Json,
    },
}

/// Reserves the node for an order that was checked, and begins it.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub(crate) struct PlaceOrder(pub(super) Order);

impl Order {
    /// What is being done, for people and logs. Names no secret.
    fn what(&self) -> &'static str {
        match self {
            Order::Console(true) => "enabling the console",
            Order::Console(false) => "disabling the console",
            Order::BootMode(_) => "changing the boot mode",
            Order::SecureBoot(_) => "changing secure boot",
            Order::Attach(_) => "attaching virtual media",
            Order::Detach(_) => "detaching virtual media",
            Order::Vendor { .. } => "calling a vendor method",
        }
    }

    /// The event that tells its end.
    fn event(&self) -> &'static str {
        match self {
            Order::Console(_) => "console_set",
            Order::BootMode(_) => "boot_mode_set",
            Order::SecureBoot(_) => "secure_boot_set",
            Order::Attach(_) => "vmedia_attached",
            Order::Detach(_) => "vmedia_detached",
            Order::Vendor { .. } => "vendor_called",
        }
    }

    /// What it was told, for programs. Names no secret.
    fn data(&self) -> Value {
        match self {
            Order::Console(on) => json!({"console_enabled": on}),
            Order::BootMode(mode) => json!({"boot_mode": mode}),
            Order::SecureBoot(on) => json!({"secure_boot": on}),
            Order::Attach(ask) => json!({"device_type": ask.device_type}),
            Order::Detach(types) => json!({"device_types": types}),
            Order::Vendor { method, .. } => json!({"method": method.name}),
        }
    }

    /// Ironic's words for that it failed.
    fn failed(&self, node: uuid::Uuid, why: &DriverError) -> String {
        let python = |on: bool| if on { "True" } else { "False" };
        match self {
            Order::Console(on) => {
                let what = if *on { "enabling" } else { "disabling" };
                format!("Error {what} the console on node {node}. Reason: {why}")
            }
            // the quote that is not closed is Ironic's
            Order::BootMode(mode) => format!("Failed to change boot mode to '{mode}: {why}"),
            Order::SecureBoot(on) => {
                format!("Failed to change secure_boot state to '{}': {why}", python(*on))
            }
            Order::Attach(ask) => {
                format!("Could not attach device {} to node {node}: {why}", ask.device_type)
            }
            Order::Detach(types) => {
                let types = types.as_ref().map(|types| types.join("', '"));
                let types = types.map_or_else(|| "None".to_owned(), |types| format!("['{types}']"));
                format!("Could not detach device(s) {types} from node {node}: {why}")
            }
            Order::Vendor { method, .. } => format!("Vendor method {} failed: {why}", method.name),
        }
    }

    /// What the node's history files its failure under; `None`: Ironic's history has none of it.
    fn recorded(&self) -> Option<&'static str> {
        match self {
            Order::Console(_) => Some("console"),
            // Ironic does not say which
            Order::Attach(_) | Order::Detach(_) => Some("UNKNOWN"),
            Order::Vendor { .. } => Some("vendor"),
            Order::BootMode(_) | Order::SecureBoot(_) => None,
        }
    }

    /// Whether it shows in the node's `last_error`.
    fn shown(&self) -> bool {
        !matches!(self, Order::Vendor { .. })
    }

    /// Carries it out. `Ok(None)`: nothing had to be changed.
    async fn run(&self, job: &Job, governor: &Governor) -> Result<Option<Value>, DriverError> {
        let (view, management) = (&job.view, &job.bound.management);
        let bmc = || job.bound.power.bmc(view);
        let done = |()| Some(Value::Null);
        match self {
            Order::Console(on) => {
                let console = &job.bound.console;
                let switch = async { if *on { console.start(view).await } else { console.stop(view).await } };
                governor.run(bmc(), true, QUESTION, switch).await.map(|remember| Some(remember.into()))
            }
            Order::BootMode(mode) => {
                let now = governor.run(bmc(), true, QUESTION, management.boot_mode(view)).await;
                if now.is_ok_and(|now| now == Some(*mode)) {
                    return Ok(None);
                }
                governor.run(bmc(), true, QUESTION, management.set_boot_mode(view, *mode)).await.map(done)
            }
            Order::SecureBoot(on) => {
                let now = governor.run(bmc(), true, QUESTION, management.secure_boot(view)).await;
                if now.is_ok_and(|now| now == *on) {
                    return Ok(None);
                }
                governor.run(bmc(), true, QUESTION, management.set_secure_boot(view, *on)).await.map(done)
            }
            Order::Attach(ask) => {
                governor.run(bmc(), true, QUESTION, management.attach_vmedia(view, ask)).await.map(done)
            }
            Order::Detach(types) => {
                let detach = management.detach_vmedia(view, types.as_deref());
                governor.run(bmc(), true, QUESTION, detach).await.map(done)
            }
            Order::Vendor { method, http, args } => {
                let call = job.bound.vendor.call(view, method, http, args);
                governor.run(bmc(), true, QUESTION, call).await.map(Some)
            }
        }
    }
}

impl Handler<PlaceOrder> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: PlaceOrder, _: &mut Context<Self>) -> Self::Result {
        self.order(ask.0)
    }
}

impl NodeActor {
    /// Reserves the node, answers, and begins.
    pub(super) fn order(&mut self, order: Order) -> AtomicResponse<Self, Result<(), NodeError>> {
        if let Err(error) = self.free() {
            return self.refuse(error);
        }
        let mut change = self.change();
        change.node.reservation = Some(self.world.settings.host.clone());
        if order.shown() {
            change.node.last_error = None;
        }
        view::edit(&mut change.node.driver_internal_info, |info| {
            info.insert(keys::ORDER.into(), json!(order.what()));
        });
        self.commit(change, move |act, ctx| {
            act.order += 1;
            act.carry_out(ctx, order, Some(act.order));
        })
    }

    /// Whether an order holds the node.
    pub(super) fn is_ordered(&self) -> bool {
        self.node.driver_internal_info.get(keys::ORDER).is_some()
    }

    /// Who holds a node by what its row says: its work, a change of its power, an order.
    pub(super) fn holder_of(&self, node: &Node) -> Option<String> {
        let held = node.provision_state.stuck_as_fail()
            || node.target_power_state.is_some()
            || node.driver_internal_info.get(keys::ORDER).is_some();
        held.then(|| self.world.settings.host.clone())
    }

    /// Begins an order, which holds the node under a number or does not; its end comes back to the node.
    pub(super) fn carry_out(&self, ctx: &mut Context<Self>, order: Order, holds: Option<u64>) {
        let job = self.job().map(Arc::new);
        let run = match job {
            Ok(job) => Ok(self.run_order(job, order.clone())),
            Err(error) => Err(stopped(order.what(), &error.to_string())),
        };
        let run = async move {
            match run {
                Ok(run) => run.await,
                Err(error) => Err(error),
            }
        };
        self.afterwards(ctx, run, move |result, act, ctx| act.order_ended(ctx, &order, holds, result));
    }

    /// Runs an order in a task of its own: it may panic, hang or be cancelled.
    pub(super) fn run_order(
        &self,
        job: Arc<Job>,
        order: Order,
    ) -> impl Future<Output = Result<Option<Value>, DriverError>> + use<> {
        let governor = self.world.governor.clone();
        isolated(order.what(), self.life.clone(), async move { order.run(&job, &governor).await })
    }

    fn order_ended(
        &mut self,
        ctx: &mut Context<Self>,
        order: &Order,
        holds: Option<u64>,
        result: Result<Option<Value>, DriverError>,
    ) {
        let mut change = self.change();
        // only its own hold: another one's stays
        if holds == Some(self.order) {
            self.end_reservation(&mut change);
        }
        match result {
            Ok(None) => {}
            Ok(Some(value)) => {
                let node = &mut change.node;
                match order {
                    Order::Console(on) => {
                        node.console_enabled = *on;
                        view::remember(&mut node.driver_internal_info, value);
                    }
                    Order::BootMode(mode) => node.boot_mode = Some(*mode),
                    Order::SecureBoot(on) => node.secure_boot = Some(*on),
                    Order::Attach(_) | Order::Detach(_) | Order::Vendor { .. } => {}
                }
                let text = format!("done: {}", order.what());
                change.tell(&self.world, "INFO", order.event(), text, order.data());
            }
            Err(error) => {
                let text = view::printable(&order.failed(self.uuid(), &error));
                tracing::warn!(node = %self.uuid(), %error, "{} failed", order.what());
                if order.shown() {
                    change.node.last_error = Some(text.clone());
                }
                if let Some(about) = order.recorded() {
                    self.record(&mut change, about, &text);
                }
                change.tell(&self.world, "ERROR", order.event(), text, order.data());
            }
        }
        if change.node != self.node || !change.events.is_empty() {
            self.save(ctx, change, |act, _| act.orders_done.send_replace(()));
        }
    }

    /// Nothing of an order holds the node any more; what else holds it still does.
    fn end_reservation(&self, change: &mut Change) {
        let node = &mut change.node;
        view::edit(&mut node.driver_internal_info, |info| drop(info.remove(keys::ORDER)));
        node.reservation = self.holder_of(node);
    }

    /// After a restart: an order that was under way is over, whatever came of it.
    pub(super) fn take_up_order(&self, ctx: &mut Context<Self>) {
        if self.node.driver_internal_info.get(keys::ORDER).is_some() {
            // in its turn, after what else is taken up has been committed
            ctx.address().do_send(OrderLost);
        }
    }
}

/// The process that was at an order is no more.
#[derive(Message)]
#[rtype(result = "()")]
struct OrderLost;

impl Handler<OrderLost> for NodeActor {
    type Result = ();

    fn handle(&mut self, _: OrderLost, ctx: &mut Context<Self>) {
        let Some(what) = self.node.driver_internal_info.get(keys::ORDER) else { return };
        let what = what.as_str().unwrap_or("an order").to_owned();
        let mut change = self.change();
        self.end_reservation(&mut change);
        let text =
            format!("Ferric was stopped while {what}; look at the machine, and ask for it again if need be");
        change.node.last_error = Some(text.clone());
        change.tell(&self.world, "WARNING", "order_lost", text, json!({}));
        self.save(ctx, change, |act, _| act.orders_done.send_replace(()));
    }
}

impl NodeActor {
    /// The answer of a request that asks for what is already so.
    pub(super) fn already(&self) -> AtomicResponse<Self, Result<(), NodeError>> {
        AtomicResponse::new(Box::pin(std::future::ready(Ok(())).into_actor(self)))
    }

    /// Reads boot mode and secure boot, and stores what has changed. What the hardware type cannot tell is null; what
    /// cannot be read at the moment stays as it was.
    pub(super) fn refresh_boot(&self, ctx: &mut Context<Self>) {
        let Ok(job) = self.job() else { return };
        let governor = self.world.governor.clone();
        // the work that the node has just left takes its token along
        let read = isolated("reading the boot mode", CancellationToken::new(), async move {
            Ok(boot_of(&job, &governor).await)
        });
        self.afterwards(ctx, read, |seen, act, ctx| {
            if let Ok(Some((mode, secure))) = seen {
                act.boots_so(ctx, mode, secure);
            }
        });
    }

    /// Stores how the machine boots, if that has changed.
    pub(super) fn boots_so(&mut self, ctx: &mut Context<Self>, mode: Option<BootMode>, secure: Option<bool>) {
        if self.is_ordered() || (self.node.boot_mode, self.node.secure_boot) == (mode, secure) {
            return;
        }
        let mut change = self.change();
        change.node.boot_mode = mode;
        change.node.secure_boot = secure;
        let data = json!({"boot_mode": mode, "secure_boot": secure});
        change.tell(&self.world, "INFO", "boot_mode_set", "boots differently than it did".into(), data);
        self.save(ctx, change, |_, _| {});
    }
}

/// Boot mode and secure boot as the BMC tells them; `None` when they cannot be read at the moment.
pub(super) async fn boot_of(job: &Job, governor: &Governor) -> Option<(Option<BootMode>, Option<bool>)> {
    let (view, management) = (&job.view, &job.bound.management);
    let bmc = || job.bound.power.bmc(view);
    let read = async {
        let mode = told(management.boot_mode(view), governor, bmc()).await?.flatten();
        let secure = told(management.secure_boot(view), governor, bmc()).await?;
        Ok::<_, DriverError>((mode, secure))
    };
    match read.await {
        Ok(seen) => Some(seen),
        Err(error) => {
            tracing::debug!(node = %view.uuid, %error, "boot mode unreadable");
            None
        }
    }
}

/// What an impatient question finds; `None` when the hardware type does not know such a thing.
async fn told<T>(
    ask: impl Future<Output = Result<T, DriverError>>,
    governor: &Governor,
    bmc: Option<String>,
) -> Result<Option<T>, DriverError> {
    match governor.run(bmc, false, QUESTION, ask).await {
        Ok(seen) => Ok(Some(seen)),
        Err(DriverError::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;
    use ferric_drivers::fakes::{self, FakeDelays};
    use ferric_drivers::interface::{ConsoleInterface, Interface, NodeView};
    use ferric_drivers::{Parts, Registry, RegistrySettings};
    use ferric_machine::Timestamp;
    use ferric_schema::Node;
    use uuid::Uuid;

    use super::*;

    /// A console behind a BMC that never answers.
    struct Silent;

    impl Interface for Silent {}

    #[async_trait]
    impl ConsoleInterface for Silent {
        async fn start(&self, _: &NodeView) -> Result<Json, DriverError> {
            std::future::pending().await
        }
        async fn stop(&self, _: &NodeView) -> Result<Json, DriverError> {
            std::future::pending().await
        }
        async fn console(&self, _: &NodeView) -> Result<Json, DriverError> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_to_a_bmc_that_never_answers_is_given_up() {
        let mut parts = Parts::default();
        fakes::install(&mut parts, &FakeDelays::default());
        parts.console.insert("fake", Arc::new(Silent));
        let settings =
            RegistrySettings { hardware_types: vec!["fake-hardware".into()], ..RegistrySettings::default() };
        let registry = Registry::new(settings, parts).expect("a registry");
        let node = Node::new(Uuid::new_v4(), "fake-hardware", Timestamp(0));
        let job = Job {
            view: Arc::new(view::node_view(&node, &[])),
            bound: Arc::new(registry.bind(&node.driver, &view::chosen(&node)).expect("bound")),
            cancel: CancellationToken::new(),
            keeps_power: false,
            powered_by: None,
        };
        let governor = Governor::new(Duration::from_secs(1), Duration::from_secs(8));
        let begun = tokio::time::Instant::now();
        let result = Order::Console(true).run(&job, &governor).await;
        assert!(matches!(result, Err(DriverError::Unreachable { .. })), "{result:?}");
        assert_eq!(begun.elapsed(), QUESTION);
    }
}
