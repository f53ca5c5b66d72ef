//! A change to a node, as one: the row, what it tells, and the journal.

use ferric_machine::Timestamp;
use uuid::Uuid;

use crate::{
    allocations::{self, Allocation},
    bios::{self, NewSetting},
    columns::Columns,
    conn::Conn,
    error::StoreError,
    events::{self, NewEvent},
    firmware::{self, NewComponent},
    history::{self, NewHistory},
    inventory::{self, NewInventory},
    journal::{self, NewStep, StepKey, StepState},
    node::Node,
    nodes,
    port::Port,
    ports, vifs,
};

/// One change to the step journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalChange {
    /// Write down steps as pending.
    Plan(Vec<NewStep>),
    /// A step begins.
    Start(StepKey),
    /// A step came so far.
    Checkpoint(StepKey, String),
    /// A step ended.
    End {
        /// Which.
        key: StepKey,
        /// How.
        state: StepState,
        /// What went wrong.
        error: Option<String>,
    },
    /// Whatever is still open of an operation ends.
    Close {
        /// The operation.
        op: Uuid,
        /// How.
        state: StepState,
    },
    /// The arguments of a step are not kept: they are large, or not for everybody.
    Forget(StepKey),
    /// The pending steps of an operation leave the plan, since a better one follows.
    Drop {
        /// The operation.
        op: Uuid,
        /// The first place that leaves.
        from: i32,
    },
}

/// What else belongs to a change.
#[derive(Clone, Debug)]
pub enum Also {
    /// A line of the node's history.
    History(NewHistory),
    /// What an inspection found; what an earlier one found goes.
    Inventory(NewInventory),
    /// A new port. One that the node has already (by its address) stays as it is; one that another node has is left out
    /// ([`Committed::ports_taken`]).
    Port(Port),
    /// A port of the generation that it was read at.
    ChangePort(Port),
    /// A port goes, by its id.
    PortGone(Uuid),
    /// All traits of a node.
    Traits(Uuid, Vec<String>),
    /// An allocation that looks for a node gets this one; if it is gone, the whole change fails as `NotFound`.
    Allocate(Uuid),
    /// A new allocation, which is this node's from the beginning: it is never seen looking for one.
    AllocateNew(Box<Allocation>),
    /// The node's instance goes, and its allocation with it, if it has one.
    Deallocate,
    /// This allocation of the node goes; if it is not the node's any more, the whole change fails as `NotFound`.
    Release(Uuid),
    /// The node's ports and port groups forget their VIFs, which stand under this key of `internal_info`.
    ForgetVifs(&'static str),
    /// The BIOS settings of the node, all of them.
    Bios(Vec<NewSetting>),
    /// Firmware components of the node, as seen now.
    Firmware(Vec<NewComponent>),
}

/// What is to be committed together.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The row, of the generation that it was read at.
    pub node: Node,
    /// What of the row differs from the stored one: `Columns::All` unless it is known.
    pub columns: Columns,
    /// What is to be told of it.
    pub events: Vec<NewEvent>,
    /// What the journal learns, in order.
    pub journal: Vec<JournalChange>,
    /// What else is stored, in order, after row and journal.
    pub also: Vec<Also>,
    /// The moment of the change.
    pub now: Timestamp,
}

/// What was committed, once the transaction is.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The row of the next generation.
    pub node: Node,
    /// The events' numbers, in order.
    pub event_seqs: Vec<i64>,
    /// The ports made and changed, in order; none for a port that the node had already.
    pub ports: Vec<Port>,
    /// The ports taken away.
    pub ports_gone: Vec<Uuid>,
    /// Addresses of new ports that were left out, since a port of another node has them.
    pub ports_taken: Vec<(String, Uuid)>,
}

/// Writes row, journal and events in the caller's transaction (that is: inside [`crate::Store::write`]).
///
/// # Errors
/// `Stale`, `NotFound`, `Duplicate` (of a port: its address is another node's); after any error the caller must let the transaction fail.
pub fn commit(c: &mut Conn, change: &Commit) -> Result<Committed, StoreError> {
    let node = nodes::advance_columns(c, &change.node, change.columns, change.now)?;
    for entry in &change.journal {
        match entry {
            JournalChange::Plan(new) => journal::write(c, new)?,
            JournalChange::Start(key) => journal::start(c, *key, change.now)?,
            JournalChange::Checkpoint(key, text) => journal::checkpoint(c, *key, text)?,
            JournalChange::End { key, state, error } => {
                journal::end(c, *key, *state, change.now, error.as_deref())?;
            }
            JournalChange::Close { op, state } => {
                journal::close_operation(c, *op, *state, change.now)?;
            }
            JournalChange::Forget(key) => journal::forget_args(c, *key)?,
            JournalChange::Drop { op, from } => {
                journal::drop_pending(c, *op, *from)?;
            }
        }
    }
    let mut made = Vec::new();
    let mut gone = Vec::new();
    let mut taken = Vec::new();
    for entry in &change.also {
        match entry {
            Also::History(line) => history::insert(c, line)?,
            Also::Inventory(found) => inventory::put(c, found, change.now)?,
            Also::Port(port) => {
                let same = ports::by_address(c, std::slice::from_ref(&port.address))?;
                match same.first() {
                    None => made.push(ports::insert(c, port)?),
                    Some(other) if other.node_uuid == port.node_uuid => {}
                    // two machines say they have the same card (a BMC's own, often): the first one keeps it
                    Some(other) => taken.push((port.address.clone(), other.node_uuid)),
                }
            }
            Also::ChangePort(port) => made.push(ports::update(c, port, change.now)?),
            Also::PortGone(port) => {
                ports::delete(c, *port)?;
                gone.push(*port);
            }
            Also::Traits(of, names) => nodes::set_traits(c, *of, names)?,
            Also::Allocate(allocation) => allocations::settle(c, *allocation, change.node.uuid, change.now)?,
            Also::AllocateNew(allocation) => {
                allocations::insert(c, allocation)?;
                allocations::settle(c, allocation.uuid, change.node.uuid, change.now)?;
            }
            Also::Deallocate => allocations::forget(c, change.node.uuid)?,
            Also::Release(allocation) => allocations::release(c, *allocation, change.node.uuid)?,
            Also::ForgetVifs(key) => made.extend(vifs::forget_all(c, change.node.uuid, key, change.now)?),
            Also::Bios(seen) => bios::replace(c, change.node.uuid, seen, change.now)?,
            Also::Firmware(seen) => firmware::merge(c, change.node.uuid, seen, change.now)?,
        }
    }
    // last, since the numbering makes PostgreSQL's other writers wait
    let event_seqs = events::append_all(c, &change.events)?;
    Ok(Committed { node, event_seqs, ports: made, ports_gone: gone, ports_taken: taken })
}
