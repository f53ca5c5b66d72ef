//! What was spawned comes back to the node through its mailbox.
//!
//! actix polls one more of an actor's futures after a message that holds the mailbox (`AtomicResponse`, `ctx.wait`): what
//! that one would commit is of a row that is about to change, and the node would find itself at odds with the database and
//! be rebuilt. So nothing that was spawned, or runs after a while, decides anything by itself: it asks for its turn.

use std::future::Future;
use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle};

use super::NodeActor;

/// Something to be done in the node's turn.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct InTurn(What);

/// What is done with the actor.
type What = Box<dyn FnOnce(&mut NodeActor, &mut Context<NodeActor>) + Send>;

impl InTurn {
    pub(super) fn new(what: impl FnOnce(&mut NodeActor, &mut Context<NodeActor>) + Send + 'static) -> InTurn {
        InTurn(Box::new(what))
    }
}

impl Handler<InTurn> for NodeActor {
    type Result = ();

    fn handle(&mut self, turn: InTurn, ctx: &mut Context<Self>) {
        turn.0(self, ctx);
    }
}

impl NodeActor {
    /// Does `what` in the node's turn. An actor that has ended by then does it no more.
    pub(super) fn in_turn(
        ctx: &Context<Self>,
        what: impl FnOnce(&mut NodeActor, &mut Context<NodeActor>) + Send + 'static,
    ) {
        ctx.address().do_send(InTurn::new(what));
    }

    /// Waits for `work` beside the mailbox, and then for the turn.
    pub(super) fn afterwards<T: Send + 'static>(
        &self,
        ctx: &mut Context<Self>,
        work: impl Future<Output = T> + 'static,
        then: impl FnOnce(T, &mut NodeActor, &mut Context<NodeActor>) + Send + 'static,
    ) {
        ctx.spawn(work.into_actor(self).map(move |result, _, ctx| {
            Self::in_turn(ctx, move |act, ctx| then(result, act, ctx));
        }));
    }

    /// Waits for some time, and then for the turn.
    pub(super) fn later(
        ctx: &mut Context<Self>,
        after: Duration,
        then: impl FnOnce(&mut NodeActor, &mut Context<NodeActor>) + Send + 'static,
    ) -> SpawnHandle {
        ctx.run_later(after, move |_, ctx| Self::in_turn(ctx, then))
    }
}

#[cfg(test)]
pub(super) mod tests {
    //! Each brings about the moment itself: the node holds its mailbox for a commit, and right then something that was
    //! spawned is ready. The promise: nothing is lost, and nothing has to be rebuilt.

    use std::sync::{Arc, mpsc};
    use std::time::Instant;

    use actix::Addr;
    use async_trait::async_trait;
    use ferric_drivers::fakes::{self, FakeDelays};
    use ferric_drivers::interface::{ManagementInterface, NodeView, PowerInterface, Property, Result};
    use ferric_drivers::management::FakeManagement;
    use ferric_drivers::power::FakePower;
    use ferric_drivers::protocol::dhcp::PortIndex;
    use ferric_drivers::{Parts, Registry, RegistrySettings};
    use ferric_machine::{BootDevice, BootMode, PowerState, PowerTarget, State, Timestamp, Verb};
    use ferric_schema::{Node, Store, StoreOptions};
    use tokio::sync::Semaphore;
    use uuid::Uuid;

    use super::*;
    use crate::message::{ChangePower, Describe, Provision, Wanted};
    use crate::power::ReadPower;
    use crate::{Directory, Settings};

    const WITHIN: Duration = Duration::from_secs(20);

    /// A machine that does and tells nothing before it is let.
    #[derive(Clone)]
    struct Gate {
        let_in: Arc<Semaphore>,
        reached: Arc<Semaphore>,
    }

    impl Gate {
        fn shut() -> Gate {
            Gate { let_in: Arc::new(Semaphore::new(0)), reached: Arc::new(Semaphore::new(0)) }
        }

        async fn pass(&self) {
            self.reached.add_permits(1);
            self.let_in.acquire().await.expect("nobody closes it").forget();
        }

        async fn somebody_waits(&self) {
            let reached = tokio::time::timeout(WITHIN, self.reached.acquire()).await;
            reached.expect("somebody comes to the gate").expect("nobody closes it").forget();
        }
    }

    #[async_trait]
    impl PowerInterface for Gate {
        fn properties(&self) -> &'static [Property] {
            &[]
        }
        fn validate(&self, _: &NodeView) -> Result<()> {
            Ok(())
        }
        fn supported(&self) -> &'static [PowerTarget] {
            PowerTarget::ALL
        }
        fn is_imaginary(&self) -> bool {
            true
        }
        fn bmc(&self, _: &NodeView) -> Option<String> {
            None
        }
        async fn power_state(&self, node: &NodeView) -> Result<PowerState> {
            FakePower.power_state(node).await
        }
        async fn set_power(&self, _: &NodeView, target: PowerTarget, _: Duration) -> Result<PowerState> {
            self.pass().await;
            Ok(target.end())
        }
    }

    #[async_trait]
    impl ManagementInterface for Gate {
        fn properties(&self) -> &'static [Property] {
            &[]
        }
        fn validate(&self, node: &NodeView) -> Result<()> {
            FakeManagement.validate(node)
        }
        fn supported_boot_devices(&self) -> &'static [BootDevice] {
            FakeManagement.supported_boot_devices()
        }
        async fn set_boot_device(
            &self,
            node: &NodeView,
            to: BootDevice,
            keep: bool,
            mode: BootMode,
        ) -> Result<()> {
            FakeManagement.set_boot_device(node, to, keep, mode).await
        }
        async fn boot_device(&self, node: &NodeView) -> Result<(Option<BootDevice>, Option<bool>)> {
            FakeManagement.boot_device(node).await
        }
        async fn boot_mode(&self, _: &NodeView) -> Result<Option<BootMode>> {
            self.pass().await;
            Ok(Some(BootMode::Uefi))
        }
    }

    pub(in crate::node) struct Bench {
        pub(in crate::node) directory: Directory,
        id: Uuid,
        /// The actor that must live to the end.
        node: Addr<NodeActor>,
        _folder: tempfile::TempDir,
    }

    impl Bench {
        pub(in crate::node) async fn new(change: impl FnOnce(&mut Parts, &mut Settings)) -> Bench {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("ferric.sqlite");
            let store = Store::open(&StoreOptions::new(path.to_str().expect("UTF-8"))).expect("a database");
            let mut parts = Parts::default();
            fakes::install(&mut parts, &FakeDelays::default());
            let mut settings = Settings {
                power_sync_interval: Duration::ZERO,
                automated_clean: false,
                arbiters: 1,
                ..Settings::default()
            };
            change(&mut parts, &mut settings);
            let types = RegistrySettings {
                hardware_types: vec!["fake-hardware".into()],
                ..RegistrySettings::default()
            };
            let registry = Arc::new(Registry::new(types, parts).expect("a registry"));
            let directory = Directory::start(settings, store, registry, Arc::new(PortIndex::default()));
            let directory = directory.await.expect("a directory");
            let node = Node::new(Uuid::new_v4(), "fake-hardware", Timestamp(0));
            let id = directory.create(node).await.expect("enrolled").uuid;
            let node = directory.address(id).expect("it has an actor");
            Bench { directory, id, node, _folder: folder }
        }

        /// Asks the actor something in its turn.
        pub(in crate::node) async fn within<T: Send + 'static>(
            &self,
            ask: impl FnOnce(&mut NodeActor, &mut Context<NodeActor>) -> T + Send + 'static,
        ) -> T {
            let (tell, told) = tokio::sync::oneshot::channel();
            let turn = InTurn::new(move |act, ctx| drop(tell.send(ask(act, ctx))));
            self.node.send(turn).await.expect("the actor lives");
            told.await.expect("it was its turn")
        }

        /// In the actor's turn: a commit of something that does not matter.
        fn writes(text: &'static str) -> impl FnOnce(&mut NodeActor, &mut Context<NodeActor>) + Send {
            move |act, ctx| {
                let mut change = act.change();
                change.node.description = Some(text.to_owned());
                act.save(ctx, change, |_, _| {});
            }
        }

        /// Some such commits, one after the other: in each of them another of the actor's futures is looked at.
        fn writes_often(&self) {
            for _ in 0..8 {
                self.node.do_send(InTurn::new(Bench::writes("meanwhile")));
            }
        }

        /// Nothing is written to the database until what this gives is dropped.
        async fn hold_the_database(&self) -> mpsc::Sender<()> {
            let (release, held) = mpsc::channel::<()>();
            let (begin, begun) = tokio::sync::oneshot::channel();
            let store = self.directory.store().clone();
            tokio::spawn(async move {
                let blocked = store.write(move |_| {
                    let _ = begin.send(());
                    // until the other side is gone
                    let _ = held.recv();
                    Ok(())
                });
                blocked.await
            });
            tokio::time::timeout(WITHIN, begun).await.expect("the database begins").expect("it begins");
            release
        }

        /// The node's thread has come around some times: what could become ready there has.
        async fn comes_around(&self, power: &Addr<crate::power::PowerActor>, job: &crate::job::Job) {
            for _ in 0..20 {
                let ask = ReadPower { job: job.clone(), patient: true };
                power.send(ask).await.expect("the power actor lives").expect("it is imaginary");
            }
        }

        async fn until(&self, what: &str, is: impl Fn(&Node) -> bool) -> Node {
            let deadline = Instant::now() + WITHIN;
            loop {
                let node = self.directory.ask(self.id, Describe).await.expect("nothing has to be rebuilt");
                if is(&node) {
                    return node;
                }
                assert!(Instant::now() < deadline, "not {what}: {node:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }

        pub(in crate::node) async fn verb(&self, verb: Verb) {
            let ask = Provision { verb, configdrive: None, wanted: Wanted::default() };
            self.directory.ask(self.id, ask).await.expect("accepted");
        }

        pub(in crate::node) async fn becomes(&self, state: State) -> Node {
            self.until(&state.to_string(), |node| node.provision_state == state).await
        }

        /// It is the same actor still, and what was written in between is there.
        async fn nothing_was_rebuilt(self, description: &str) {
            let node = self.until("written", |node| node.description.as_deref() == Some(description)).await;
            assert_eq!(node.uuid, self.id);
            assert_eq!(self.directory.address(self.id).as_ref(), Some(&self.node), "the actor was rebuilt");
            assert!(self.node.connected(), "the actor has ended");
            self.directory.stop().await;
        }
    }

    #[actix::test]
    async fn a_place_that_gets_free_during_a_commit_begins_the_work() {
        let bench = Bench::new(|_, settings| settings.max_concurrent_deploys = 1).await;
        bench.verb(Verb::Manage).await;
        bench.becomes(State::Manageable).await;
        bench.verb(Verb::Provide).await;
        bench.becomes(State::Available).await;
        let held = bench.within(|act, _| act.world.deploys.try_enter()).await.expect("it is free");
        bench.verb(Verb::Deploy).await;
        bench.becomes(State::Deploying).await;
        bench.node.do_send(InTurn::new(|act, ctx| {
            drop(held);
            Bench::writes("meanwhile")(act, ctx);
        }));
        bench.writes_often();
        bench.becomes(State::Active).await;
        bench.nothing_was_rebuilt("meanwhile").await;
    }

    #[actix::test]
    async fn a_power_change_that_ends_during_a_commit_is_recorded() {
        let gate = Gate::shut();
        let power = gate.clone();
        let bench = Bench::new(|parts, _| drop(parts.power.insert("fake", Arc::new(power)))).await;
        bench.verb(Verb::Manage).await;
        bench.becomes(State::Manageable).await;
        let ask = ChangePower { target: PowerTarget::On, timeout: None };
        bench.directory.ask(bench.id, ask).await.expect("accepted");
        gate.somebody_waits().await;
        let (power, job) =
            bench.within(|act, _| (act.siblings().power.clone(), act.job().expect("bound"))).await;
        let release = bench.hold_the_database().await;
        // what the power actor saw is being committed when its answer comes
        gate.let_in.add_permits(1);
        bench.comes_around(&power, &job).await;
        bench.writes_often();
        drop(release);
        let ended =
            |node: &Node| node.target_power_state.is_none() && node.power_state == Some(PowerState::On);
        bench.until("on", ended).await;
        bench.nothing_was_rebuilt("meanwhile").await;
    }

    #[actix::test]
    async fn a_boot_mode_that_is_read_during_a_commit_is_recorded() {
        let gate = Gate::shut();
        let management = gate.clone();
        let bench = Bench::new(|parts, _| drop(parts.management.insert("fake", Arc::new(management)))).await;
        bench.verb(Verb::Manage).await;
        bench.becomes(State::Manageable).await;
        gate.somebody_waits().await;
        let (power, job) =
            bench.within(|act, _| (act.siblings().power.clone(), act.job().expect("bound"))).await;
        let release = bench.hold_the_database().await;
        bench.node.do_send(InTurn::new(Bench::writes("before")));
        gate.let_in.add_permits(1);
        bench.comes_around(&power, &job).await;
        bench.writes_often();
        drop(release);
        bench.until("read", |node| node.boot_mode == Some(BootMode::Uefi)).await;
        bench.nothing_was_rebuilt("meanwhile").await;
    }

    #[actix::test]
    async fn time_that_is_up_during_a_commit_ends_the_wait() {
        let bench =
            Bench::new(|_, settings| settings.inspect_wait_timeout = Duration::from_millis(300)).await;
        bench.verb(Verb::Manage).await;
        bench.becomes(State::Manageable).await;
        // a wait that nobody ends
        let at = bench
            .within(|act, ctx| {
                let mut change = act.change();
                change.node.provision_state = State::InspectWait;
                act.save(ctx, change, |_, _| {});
                act.world.now()
            })
            .await;
        let release = bench.hold_the_database().await;
        bench.node.do_send(InTurn::new(Bench::writes("before")));
        bench.writes_often();
        let world = bench.directory.clone();
        while world.now().0 < at.0 + 600_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(release);
        bench.becomes(State::InspectFailed).await;
        bench.nothing_was_rebuilt("meanwhile").await;
    }
}
