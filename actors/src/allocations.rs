//! Allocations: who asks for a node of a certain kind gets one (api.md §6).
//!
//! A request is answered as soon as it is written down; the [`Allocator`] does the rest. It keeps nothing of its own:
//! what is `allocating` in the database is what there is to do, so what a dead process left is taken up by the next
//! look. A node is reserved by its own actor, in the transaction that also makes the allocation active; of two
//! allocations that want the same node, the second finds it taken and tries the next one.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message,
    WrapFuture,
};
use ferric_schema::allocations::{self, Allocation, AllocationState, Wanted};
use ferric_schema::{StoreError, nodes};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::directory::Directory;
use crate::error::NodeError;
use crate::message::{Release, Reserve};
use crate::world::World;

/// How many allocations it takes up at one look.
const AT_A_LOOK: i64 = 1000;

/// How many it works on at once; more wait.
const AT_ONCE: usize = 16;

/// Free nodes read at a time.
const PAGE: i64 = 16;

/// Looks for nodes for allocations.
pub(crate) struct Allocator {
    world: Arc<World>,
    /// Those it works on.
    busy: HashSet<Uuid>,
    places: Arc<Semaphore>,
}

/// Where the allocator is; it is made anew when it dies.
pub(crate) struct AllocatorSlot {
    arbiter: ArbiterHandle,
    address: Mutex<Option<Addr<Allocator>>>,
    /// The process stops: the nodes' actors are going, and what is open is the next process's.
    leaving: AtomicBool,
}

impl AllocatorSlot {
    /// Nothing is begun any more, and nothing that goes wrong from now on is an allocation's failure.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
        if let Some(address) = self.address.lock().unwrap_or_else(PoisonError::into_inner).take() {
            address.do_send(Stop);
        }
    }

    fn revive(&self, world: &Arc<World>) -> Addr<Allocator> {
        let mut held = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = held.as_ref().filter(|address| address.connected()) {
            return address.clone();
        }
        let world = world.clone();
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let address =
            Allocator::start_in_arbiter(&self.arbiter, |_| Allocator { world, busy: HashSet::new(), places });
        held.insert(address).clone()
    }
}

/// The process stops.
#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

/// There is something to do.
#[derive(Message)]
#[rtype(result = "()")]
struct Look(Uuid);

impl Actor for Allocator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.sweep(ctx);
        let every = self.world.settings.check_allocations;
        if !every.is_zero() {
            ctx.run_interval(every, Allocator::sweep);
        }
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        if std::thread::panicking()
            && let Some(slot) = self.world.allocator.get()
            && !slot.leaving.load(Ordering::Acquire)
        {
            tracing::error!("the allocator died; it starts anew from the database");
            slot.revive(&self.world);
        }
    }
}

impl Allocator {
    /// Takes up whatever is open in the database.
    fn sweep(&mut self, ctx: &mut Context<Self>) {
        let world = self.world.clone();
        let read = async move {
            let host = world.settings.host.clone();
            world.store.read(move |conn| allocations::open(conn, &host, AT_A_LOOK)).await
        };
        ctx.spawn(read.into_actor(self).map(|open, act, ctx| match open {
            Ok(open) => open.into_iter().for_each(|id| act.take_up(id, ctx)),
            Err(error) => {
                tracing::error!(%error, "cannot look for open allocations; trying again later")
            }
        }));
    }

    fn take_up(&mut self, id: Uuid, ctx: &mut Context<Self>) {
        // a process that stops leaves the rest to the next one
        let Some(directory) = self.world.directory() else { return ctx.stop() };
        if !self.busy.insert(id) {
            return;
        }
        let (world, places) = (self.world.clone(), self.places.clone());
        // a task of its own: what panics in there fails this allocation and nothing else
        let work = actix::spawn(async move {
            let _place = places.acquire_owned().await;
            allocate(&directory, id).await
        });
        let watched = async move {
            let ended = match work.await {
                Ok(ended) => ended,
                Err(died) => Err(Failure::Unexpected(died.to_string())),
            };
            match ended {
                Ok(()) => {}
                Err(Failure::Database(error)) if passes(&error) => {
                    tracing::error!(allocation = %id, %error, "cannot allocate yet; trying again later");
                }
                Err(failure) => fail(&world, id, &failure).await,
            }
        };
        ctx.spawn(watched.into_actor(self).map(move |(), act, _| {
            act.busy.remove(&id);
        }));
    }
}

impl Handler<Stop> for Allocator {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<Look> for Allocator {
    type Result = ();

    fn handle(&mut self, look: Look, ctx: &mut Context<Self>) {
        self.take_up(look.0, ctx);
    }
}

/// Why there is no node for an allocation, in Ironic's words.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no available nodes match the resource class {0}")]
    NoneOfClass(String),
    #[error("none of the requested nodes are available and match the resource class {0}")]
    NoneAmong(String),
    #[error("no suitable nodes have the requested traits {0}")]
    NoTraits(String),
    #[error("could not reserve any of {0} suitable nodes")]
    Locked(usize),
    #[error("all nodes were filtered out during reservation")]
    Filtered,
    #[error("Unexpected exception during allocation: {0}")]
    Unexpected(String),
    /// Nothing is decided: what passes is tried again.
    #[error("Unexpected exception during allocation: {0}")]
    Database(#[from] StoreError),
}

/// Whether the same question may have another answer later on; one that the database cannot do is not asked for ever.
fn passes(error: &StoreError) -> bool {
    match error {
        StoreError::Busy
        | StoreError::Full
        | StoreError::Unreachable(_)
        | StoreError::Closed
        | StoreError::Stale { .. } => true,
        StoreError::NotFound { .. }
        | StoreError::Duplicate { .. }
        | StoreError::Migration(_)
        | StoreError::Options(_)
        | StoreError::Panicked
        | StoreError::Other(_) => false,
    }
}

async fn fail(world: &World, id: Uuid, failure: &Failure) {
    if world.allocator.get().is_some_and(|slot| slot.leaving.load(Ordering::Acquire)) {
        return;
    }
    let text = match failure {
        Failure::Unexpected(_) | Failure::Database(_) => failure.to_string(),
        Failure::NoneOfClass(_)
        | Failure::NoneAmong(_)
        | Failure::NoTraits(_)
        | Failure::Locked(_)
        | Failure::Filtered => format!("Failed to process allocation {id}: {failure}."),
    };
    tracing::warn!(allocation = %id, "{text}");
    let now = world.now();
    if let Err(error) = world.store.write(move |conn| allocations::fail(conn, id, &text, now)).await {
        tracing::error!(allocation = %id, %error, "cannot write down the failure; trying again later");
    }
}

/// What came of a round through the free nodes.
#[derive(Default)]
struct Round {
    /// It has one, or is not wanted any more.
    over: bool,
    /// Free ones that were tried.
    seen: usize,
    /// Of these: somebody else worked on them.
    locked: usize,
}

/// Finds a node for the allocation, unless it is gone or has one.
async fn allocate(directory: &Directory, id: Uuid) -> Result<(), Failure> {
    let store = directory.store();
    let mut seen_before = false;
    let (tries, between) = (directory.settings().lock_tries, directory.settings().lock_between);
    for attempt in 1..=tries {
        let asked = store.read(move |conn| allocations::get(conn, id)).await?;
        let Some(asked) = asked.filter(|one| one.state == AllocationState::Allocating) else {
            return Ok(());
        };
        let round = one_round(directory, &asked).await?;
        if round.over {
            return Ok(());
        }
        if round.seen == 0 {
            return Err(if seen_before { Failure::Filtered } else { none(directory, &asked).await? });
        }
        seen_before = true;
        if attempt == tries {
            return Err(if round.locked > 0 { Failure::Locked(round.locked) } else { Failure::Filtered });
        }
        if round.locked > 0 {
            tokio::time::sleep(between).await;
        }
    }
    Ok(())
}

/// Why no node is free for it.
async fn none(directory: &Directory, asked: &Allocation) -> Result<Failure, StoreError> {
    let wanted = Wanted::of(asked);
    let class = wanted.resource_class.clone().unwrap_or_default();
    if !wanted.traits.is_empty() {
        let without = Wanted { traits: BTreeSet::new(), ..wanted.clone() };
        let some =
            directory.store().read(move |conn| allocations::free_nodes(conn, &without, None, 1)).await?;
        if !some.is_empty() {
            return Ok(Failure::NoTraits(asked.trait_names().join(", ")));
        }
    }
    Ok(if wanted.among.is_empty() { Failure::NoneOfClass(class) } else { Failure::NoneAmong(class) })
}

/// Goes through the free nodes: the one that bears the allocation's name first, then from somewhere at random once
/// around, a page at a time.
async fn one_round(directory: &Directory, asked: &Allocation) -> Result<Round, StoreError> {
    let store = directory.store();
    let wanted = Wanted::of(asked);
    let mut round = Round::default();
    let mut first = None;
    if let Some(name) = asked.name.clone() {
        let wanted = wanted.clone();
        first = store.read(move |conn| allocations::free_node_named(conn, &wanted, &name)).await?;
        if let Some(node) = first {
            try_node(directory, asked, node, &mut round).await?;
        }
    }
    let begin = Uuid::new_v4();
    let (mut from, mut wrapped) = (Some(begin), false);
    while !round.over {
        let look = wanted.clone();
        let mut page = store.read(move |conn| allocations::free_nodes(conn, &look, from, PAGE)).await?;
        let full = page.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
        from = page.last().copied();
        if wrapped {
            page.retain(|node| *node <= begin);
        }
        let whole = full && !(wrapped && from.is_some_and(|last| last > begin));
        shuffle(&mut page);
        for node in page.into_iter().filter(|node| Some(*node) != first) {
            try_node(directory, asked, node, &mut round).await?;
            if round.over {
                break;
            }
        }
        if !whole {
            if wrapped {
                break;
            }
            (from, wrapped) = (None, true);
        }
    }
    Ok(round)
}

async fn try_node(
    directory: &Directory,
    asked: &Allocation,
    node: Uuid,
    round: &mut Round,
) -> Result<(), StoreError> {
    round.seen += 1;
    let ask = Reserve { allocation: Box::new(asked.clone()), backfill: false, traits: Vec::new() };
    let Err(refused) = directory.ask(node, ask).await else {
        tracing::info!(allocation = %asked.uuid, %node, "reserved");
        round.over = true;
        return Ok(());
    };
    // the node lost a trait, or the allocation is gone, or somebody else found it a node
    let raced =
        matches!(&refused, NodeError::Store(StoreError::NotFound { .. } | StoreError::Duplicate { .. }));
    if raced {
        let id = asked.uuid;
        let now = directory.store().read(move |conn| allocations::get(conn, id)).await?;
        round.over = now.is_none_or(|one| one.state != AllocationState::Allocating);
        return Ok(());
    }
    if let NodeError::Store(error) = refused {
        return Err(error);
    }
    if matches!(refused, NodeError::Locked { .. } | NodeError::Rebuilding(_) | NodeError::Busy) {
        round.locked += 1;
    }
    tracing::debug!(allocation = %asked.uuid, %node, %refused, "not this one");
    Ok(())
}

/// Puts nodes into an order that no two allocations share.
fn shuffle(nodes: &mut [Uuid]) {
    let mut random = [0_u8; 2];
    for at in (1..nodes.len()).rev() {
        // without chance there is still an order
        if getrandom::fill(&mut random).is_ok() {
            nodes.swap(at, usize::from(u16::from_le_bytes(random)) % (at + 1));
        }
    }
}

impl Directory {
    /// Starts the allocator, which takes up what is open.
    pub(crate) fn start_allocator(&self, arbiter: &ArbiterHandle) {
        let slot = AllocatorSlot {
            arbiter: arbiter.clone(),
            address: Mutex::new(None),
            leaving: AtomicBool::new(false),
        };
        self.world().allocator.get_or_init(|| slot).revive(self.world());
    }

    /// Writes an allocation down and begins to look for its node; or gives it the node that it was made for
    /// afterwards (`backfill`), before it answers.
    ///
    /// Errors: `Conflict` for a name or uuid that is taken, or a node that has another instance; `AllocationFailed`
    /// for a node that does not fit; `Locked`; the store's.
    pub async fn create_allocation(
        &self,
        mut allocation: Allocation,
        backfill: Option<Uuid>,
    ) -> Result<Allocation, NodeError> {
        allocation.conductor = self.host().to_owned();
        let directory = self.clone();
        // in a task of its own: a client that hangs up leaves nothing half done
        let made = tokio::spawn(async move { directory.write_allocation(allocation, backfill).await });
        made.await.map_err(|error| StoreError::other(error.to_string()))?
    }

    async fn write_allocation(
        &self,
        allocation: Allocation,
        backfill: Option<Uuid>,
    ) -> Result<Allocation, NodeError> {
        let Some(node) = backfill else {
            let made =
                self.store().write(move |conn| allocations::insert(conn, &allocation)).await.map_err(told)?;
            if let Some(slot) = self.world().allocator.get()
                && !slot.leaving.load(Ordering::Acquire)
            {
                slot.revive(self.world()).do_send(Look(made.uuid));
            }
            return Ok(made);
        };
        let traits = self.store().read(move |conn| nodes::traits(conn, node)).await?;
        let ask = Reserve { allocation: Box::new(allocation.clone()), backfill: true, traits };
        let id = allocation.uuid;
        let Err(error) = self.ask(node, ask).await else {
            let now = self.store().read(move |conn| allocations::get(conn, id)).await?;
            return now.ok_or(NodeError::NotFound { what: "Allocation", id: id.to_string() });
        };
        // what is left of it is why it came to nothing
        let error = instance_taken(error, node);
        let failed = Allocation {
            state: AllocationState::Error,
            last_error: Some(error.to_string()),
            updated_at: Some(self.world().now()),
            ..allocation
        };
        match self.store().write(move |conn| allocations::insert(conn, &failed)).await {
            // its name or uuid is another one's; or it has its node after all, from an actor that died over the answer
            Err(taken @ StoreError::Duplicate { .. }) => Err(told(taken)),
            Ok(_) | Err(_) => Err(error),
        }
    }

    /// Changes name and extra of an allocation.
    ///
    /// Errors: `Conflict` for a name that is taken; the store's `Stale` when it changed meanwhile.
    pub async fn update_allocation(&self, allocation: Allocation) -> Result<Allocation, NodeError> {
        let now = self.world().now();
        self.store().write(move |conn| allocations::update(conn, &allocation, now)).await.map_err(told)
    }

    /// Removes an allocation; its node is free again.
    ///
    /// Errors: `Conflict` while the node is in use (states.md), `Locked`, `NotFound`.
    pub async fn destroy_allocation(&self, id: Uuid) -> Result<(), NodeError> {
        loop {
            if self.store().write(move |conn| allocations::withdraw(conn, id)).await? {
                return Ok(());
            }
            let row = self.store().read(move |conn| allocations::get(conn, id)).await?;
            match row {
                None => return Err(NodeError::NotFound { what: "Allocation", id: id.to_string() }),
                Some(Allocation { node_uuid: Some(node), .. }) => match self.ask(node, Release(id)).await {
                    // somebody else deleted it, or the node, between the two looks
                    Err(NodeError::NotFound { .. } | NodeError::Store(StoreError::NotFound { .. })) => {}
                    done => return done,
                },
                // it failed or was given back between the two looks
                Some(Allocation { node_uuid: None, .. }) => {}
            }
        }
    }
}

/// What is taken, in Ironic's words.
fn told(error: StoreError) -> NodeError {
    match error {
        StoreError::Duplicate { what: "name", value } => {
            NodeError::Conflict(format!("An allocation with name {value} already exists."))
        }
        StoreError::Duplicate { value, .. } => {
            NodeError::Conflict(format!("An allocation with UUID {value} already exists."))
        }
        error @ (StoreError::Stale { .. }
        | StoreError::NotFound { .. }
        | StoreError::Busy
        | StoreError::Full
        | StoreError::Unreachable(_)
        | StoreError::Migration(_)
        | StoreError::Options(_)
        | StoreError::Panicked
        | StoreError::Closed
        | StoreError::Other(_)) => error.into(),
    }
}

/// The allocation's uuid is the instance of another node, or the node has another allocation.
fn instance_taken(error: NodeError, node: Uuid) -> NodeError {
    let NodeError::Store(StoreError::Duplicate { what, value }) = error else { return error };
    match what {
        "instance_uuid" => NodeError::Conflict(format!(
            "Instance {value} is already associated with a node, it cannot be associated with this other node {node}"
        )),
        "node_uuid" => NodeError::Conflict(format!("Node {node} has an allocation already.")),
        // its name or uuid
        _ => told(StoreError::Duplicate { what, value }),
    }
}
