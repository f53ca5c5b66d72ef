//! What belongs to a node besides its ports: port groups, volume connectors, volume targets. They are changed under the
//! node's lock, in one transaction with the rules that look at the node or at its ports.

use actix::{AtomicResponse, Context, Handler, Message};
use ferric_machine::{PowerState, Timestamp};
use ferric_schema::portgroups::{self, Portgroup};
use ferric_schema::volumes::connectors::{self, Connector};
use ferric_schema::volumes::targets::{self, Target};
use ferric_schema::{Conn, Node, StoreError, nodes, ports};
use uuid::Uuid;

use super::NodeActor;
use crate::error::NodeError;

/// What a rule says, inside a transaction: the database may fail, or the rule may refuse.
pub(super) type Ruled<T> = Result<Result<T, NodeError>, StoreError>;

/// An edit of something that belongs to a node; what it refuses is not written.
pub type Edit<T> = Box<dyn FnOnce(&mut T, &Node) -> Result<(), NodeError> + Send>;

/// A kind of thing that belongs to a node.
pub trait Belonging: Clone + PartialEq + Send + 'static {
    /// Its kind, as it begins a sentence.
    const WHAT: &'static str;

    /// Its public id.
    fn uuid(&self) -> Uuid;
    /// Whose it is.
    fn node(&self) -> Uuid;
    /// What another one has already, in Ironic's words.
    fn taken(&self, what: &str) -> String;
    /// The stored one. Errors: the database's.
    fn get(conn: &mut Conn, uuid: Uuid) -> Result<Option<Self>, StoreError>;
    /// Stores a new one. Errors: `Duplicate`, the database's.
    fn insert(&self, conn: &mut Conn) -> Result<Self, StoreError>;
    /// Writes it back. Errors: `Duplicate`, `Stale`, the database's.
    fn update(&self, conn: &mut Conn, now: Timestamp) -> Result<Self, StoreError>;
    /// Removes it. Errors: the database's.
    fn delete(conn: &mut Conn, uuid: Uuid) -> Result<(), StoreError>;
    /// Whether it may become `self`; `node` is the one that it belongs to then. What hangs on it is changed with it.
    fn may_change(&self, before: &Self, node: &Node, conn: &mut Conn, now: Timestamp) -> Ruled<()>;
    /// Whether it may go.
    fn may_go(&self, node: &Node, conn: &mut Conn) -> Ruled<()>;
}

/// `POST` of one.
#[derive(Debug)]
pub struct Create<T>(pub T);

/// `PATCH` of one.
pub struct Change<T> {
    /// Which.
    pub uuid: Uuid,
    /// The edit.
    pub apply: Edit<T>,
}

/// `DELETE` of one.
#[derive(Debug)]
pub struct Remove<T> {
    uuid: Uuid,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T> Remove<T> {
    /// Of the one of that id.
    #[must_use]
    pub fn new(uuid: Uuid) -> Remove<T> {
        Remove { uuid, kind: std::marker::PhantomData }
    }
}

impl<T: Belonging> Message for Create<T> {
    type Result = Result<T, NodeError>;
}

impl<T: Belonging> Message for Change<T> {
    type Result = Result<T, NodeError>;
}

impl<T: Belonging> Message for Remove<T> {
    type Result = Result<(), NodeError>;
}

/// A value that is taken, told in the words for its kind.
pub(super) fn told<T>(
    written: Result<T, StoreError>,
    taken: impl FnOnce(&'static str) -> String,
) -> Ruled<T> {
    match written {
        Ok(done) => Ok(Ok(done)),
        Err(StoreError::Duplicate { what, .. }) => Ok(Err(NodeError::Conflict(taken(what)))),
        Err(error) => Err(error),
    }
}

fn missing<T: Belonging, R>(uuid: Uuid) -> Ruled<R> {
    Ok(Err(NodeError::NotFound { what: T::WHAT, id: uuid.to_string() }))
}

impl<T: Belonging> Handler<Create<T>> for NodeActor {
    type Result = AtomicResponse<Self, Result<T, NodeError>>;

    fn handle(&mut self, ask: Create<T>, _: &mut Context<Self>) -> Self::Result {
        self.written(move |conn| told(ask.0.insert(conn), |what| ask.0.taken(what)))
    }
}

impl<T: Belonging> Handler<Change<T>> for NodeActor {
    type Result = AtomicResponse<Self, Result<T, NodeError>>;

    fn handle(&mut self, ask: Change<T>, _: &mut Context<Self>) -> Self::Result {
        if self.node.reservation.is_some() {
            return self.refuse(self.locked());
        }
        let (mut node, now) = (self.node.clone(), self.world.now());
        self.written(move |conn| {
            let Some(before) = T::get(conn, ask.uuid)? else { return missing::<T, T>(ask.uuid) };
            let mut after = before.clone();
            if let Err(refusal) = (ask.apply)(&mut after, &node) {
                return Ok(Err(refusal));
            }
            if after.node() != node.uuid {
                let Some(other) = nodes::get(conn, after.node())? else {
                    let text = format!(
                        "Unable to apply the requested node_uuid '{}'. Requested value was invalid.",
                        after.node()
                    );
                    return Ok(Err(NodeError::Invalid(text)));
                };
                node = other;
            }
            if let Err(refusal) = after.may_change(&before, &node, conn, now)? {
                return Ok(Err(refusal));
            }
            if after == before {
                return Ok(Ok(before));
            }
            told(after.update(conn, now), |what| after.taken(what))
        })
    }
}

impl<T: Belonging> Handler<Remove<T>> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: Remove<T>, _: &mut Context<Self>) -> Self::Result {
        if self.node.reservation.is_some() {
            return self.refuse(self.locked());
        }
        let node = self.node.clone();
        self.written(move |conn| {
            let Some(row) = T::get(conn, ask.uuid)? else { return missing::<T, ()>(ask.uuid) };
            match row.may_go(&node, conn)? {
                Ok(()) => T::delete(conn, ask.uuid).map(Ok),
                refusal => Ok(refusal),
            }
        })
    }
}

/// States in which a node's cables may be plugged differently.
pub(super) fn pluggable(node: &Node) -> bool {
    node.maintenance || node.provision_state.is_pluggable()
}

impl Belonging for Portgroup {
    const WHAT: &'static str = "Portgroup";

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn node(&self) -> Uuid {
        self.node_uuid
    }

    fn taken(&self, what: &str) -> String {
        let (what, value) = match what {
            "name" => ("name", self.name.clone().unwrap_or_default()),
            "address" => ("MAC address", self.address.clone().unwrap_or_default()),
            _ => ("UUID", self.uuid.to_string()),
        };
        format!("A portgroup with {what} {value} already exists.")
    }

    fn get(conn: &mut Conn, uuid: Uuid) -> Result<Option<Portgroup>, StoreError> {
        portgroups::get(conn, uuid)
    }

    fn insert(&self, conn: &mut Conn) -> Result<Portgroup, StoreError> {
        portgroups::insert(conn, self)
    }

    fn update(&self, conn: &mut Conn, now: Timestamp) -> Result<Portgroup, StoreError> {
        portgroups::update(conn, self, now)
    }

    fn delete(conn: &mut Conn, uuid: Uuid) -> Result<(), StoreError> {
        portgroups::delete(conn, uuid)
    }

    fn may_change(&self, before: &Portgroup, node: &Node, conn: &mut Conn, now: Timestamp) -> Ruled<()> {
        let members = ports::of_portgroup(conn, self.uuid)?;
        if self.node_uuid != before.node_uuid {
            if !pluggable(node) {
                return Ok(Err(NodeError::Conflict(format!(
                    "Portgroup {} can not be associated to node {} unless the node is in a enroll, inspecting, inspect \
                     wait, manageable state or in maintenance mode. Current state is '{}'.",
                    self.uuid, node.uuid, node.provision_state
                ))));
            }
            if !members.is_empty() {
                return Ok(Err(NodeError::Invalid(format!(
                    "Portgroup {} can not be associated with node {} because there are ports associated with this \
                     portgroup.",
                    self.uuid, node.uuid
                ))));
            }
        }
        let alone = before.standalone_ports_supported && !self.standalone_ports_supported;
        if alone && looks_after_ports(node) && members.iter().any(|port| port.pxe_enabled) {
            return Ok(Err(NodeError::Conflict(format!(
                "standalone_ports_supported can not be set to False, because the port group {} contains port with \
                 'pxe_enabled' is set to True",
                self.uuid
            ))));
        }
        if self.physical_network != before.physical_network {
            for mut port in members {
                port.physical_network.clone_from(&self.physical_network);
                ports::update(conn, &port, now)?;
            }
        }
        Ok(Ok(()))
    }

    fn may_go(&self, _: &Node, conn: &mut Conn) -> Ruled<()> {
        if ports::of_portgroup(conn, self.uuid)?.is_empty() {
            return Ok(Ok(()));
        }
        Ok(Err(NodeError::Invalid(format!(
            "Cannot complete the requested action because portgroup {} contains ports.",
            self.uuid
        ))))
    }
}

/// Whether the node's network interface minds how ports boot; `noop` knows nothing of networks.
pub(super) fn looks_after_ports(node: &Node) -> bool {
    node.network_interface.as_deref().is_some_and(|name| name != "noop")
}

/// Volumes are not pulled from under a machine that runs.
fn powered_off(action: &str, node: &Node) -> Result<(), NodeError> {
    if node.power_state == Some(PowerState::Off) {
        return Ok(());
    }
    let state = node.power_state.map_or("None", PowerState::as_str);
    Err(NodeError::Invalid(format!(
        "The requested action \"{action}\" can not be performed on node \"{}\" while it is in state \"{state}\".",
        node.uuid
    )))
}

fn volume_may_go(action: &str, node: &Node) -> Result<(), NodeError> {
    match node.provision_state.delete_allowed(false) {
        true => Ok(()),
        false => powered_off(action, node),
    }
}

impl Belonging for Connector {
    const WHAT: &'static str = "Volume connector";

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn node(&self) -> Uuid {
        self.node_uuid
    }

    fn taken(&self, what: &str) -> String {
        match what {
            "connector_id" => format!(
                "A volume connector with type {} and connector ID {} already exists.",
                self.kind, self.connector_id
            ),
            _ => format!("A volume connector with UUID {} already exists.", self.uuid),
        }
    }

    fn get(conn: &mut Conn, uuid: Uuid) -> Result<Option<Connector>, StoreError> {
        connectors::get(conn, uuid)
    }

    fn insert(&self, conn: &mut Conn) -> Result<Connector, StoreError> {
        connectors::insert(conn, self)
    }

    fn update(&self, conn: &mut Conn, now: Timestamp) -> Result<Connector, StoreError> {
        connectors::update(conn, self, now)
    }

    fn delete(conn: &mut Conn, uuid: Uuid) -> Result<(), StoreError> {
        connectors::delete(conn, uuid)
    }

    fn may_change(&self, _: &Connector, node: &Node, _: &mut Conn, _: Timestamp) -> Ruled<()> {
        Ok(powered_off("volume connector update", node))
    }

    fn may_go(&self, node: &Node, _: &mut Conn) -> Ruled<()> {
        Ok(volume_may_go("volume connector deletion", node))
    }
}

impl Belonging for Target {
    const WHAT: &'static str = "Volume target";

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn node(&self) -> Uuid {
        self.node_uuid
    }

    fn taken(&self, what: &str) -> String {
        match what {
            "boot_index" => format!(
                "A volume target with boot index '{}' for the same node already exists.",
                self.boot_index
            ),
            _ => format!("A volume target with UUID {} already exists.", self.uuid),
        }
    }

    fn get(conn: &mut Conn, uuid: Uuid) -> Result<Option<Target>, StoreError> {
        targets::get(conn, uuid)
    }

    fn insert(&self, conn: &mut Conn) -> Result<Target, StoreError> {
        targets::insert(conn, self)
    }

    fn update(&self, conn: &mut Conn, now: Timestamp) -> Result<Target, StoreError> {
        targets::update(conn, self, now)
    }

    fn delete(conn: &mut Conn, uuid: Uuid) -> Result<(), StoreError> {
        targets::delete(conn, uuid)
    }

    fn may_change(&self, _: &Target, node: &Node, _: &mut Conn, _: Timestamp) -> Ruled<()> {
        Ok(powered_off("volume target update", node))
    }

    fn may_go(&self, node: &Node, _: &mut Conn) -> Ruled<()> {
        Ok(volume_may_go("volume target deletion", node))
    }
}
