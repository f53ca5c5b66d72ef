//! What allocations and VIFs ask of a node: reserve it, let it go, plug a VIF in or out.

use std::future::ready;

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AtomicResponse, Context, Handler};
use ferric_drivers::network::{self, Socket, SocketKind, VIF_KEY, VifAsk, Vifs};
use ferric_drivers::python::list;
use ferric_machine::{State, Timestamp};
use ferric_schema::allocations::{self, Allocation};
use ferric_schema::history::{self, NewHistory, Severity};
use ferric_schema::portgroups::Portgroup;
use ferric_schema::{Also, Conn, JsonText, Node, Port, StoreError, ports, vifs};
use serde_json::json;
use uuid::Uuid;

use super::NodeActor;
use super::belongings::Ruled;
use crate::error::NodeError;
use crate::message::{AttachVif, DetachVif, Release, Reserve};

impl Handler<Reserve> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: Reserve, _: &mut Context<Self>) -> Self::Result {
        if self.node.reservation.is_some() {
            return self.refuse(self.locked());
        }
        let asked = &ask.allocation;
        let fits = if ask.backfill { self.fits_backfill(asked, &ask.traits) } else { self.fits(asked) };
        if let Err(error) = fits {
            return self.refuse(error);
        }
        let mut change = self.change();
        change.node.instance_uuid = Some(asked.uuid);
        let mut info = change.node.instance_info.parse();
        info.insert("traits".to_owned(), json!(asked.trait_names()));
        change.node.instance_info = JsonText::from(info);
        let text =
            format!("reserved for allocation {}", asked.name.clone().unwrap_or(asked.uuid.to_string()));
        change.tell(&self.world, "INFO", "allocated", text, json!({"allocation": asked.uuid}));
        change.also.push(match ask.backfill {
            // written only now: nobody is to find it without its node, and look for another one
            true => Also::AllocateNew(ask.allocation),
            false => Also::Allocate(asked.uuid),
        });
        self.commit(change, |_, _| ())
    }
}

impl NodeActor {
    /// Whether the node is still what the scheduler saw.
    fn fits(&self, asked: &Allocation) -> Result<(), NodeError> {
        let node = &self.node;
        let free = !node.maintenance
            && node.instance_uuid.is_none()
            && node.provision_state == State::Available
            && node.resource_class == asked.resource_class;
        if free {
            return Ok(());
        }
        Err(NodeError::Conflict(format!("Node {} is not free any more.", node.uuid)))
    }

    /// Whether an allocation can be made afterwards for the instance that the node has.
    fn fits_backfill(&self, asked: &Allocation, has: &[String]) -> Result<(), NodeError> {
        let node = &self.node;
        let mut wrong = Vec::new();
        if node.provision_state != State::Active {
            let state = node.provision_state;
            wrong.push(format!("Node must be in the \"active\" state, but the current state is \"{state}\""));
        }
        if asked.resource_class.is_some() && node.resource_class != asked.resource_class {
            wrong.push(format!(
                "Resource class {} does not match the requested resource class {}",
                node.resource_class.as_deref().unwrap_or("None"),
                asked.resource_class.as_deref().unwrap_or("None"),
            ));
        }
        let wanted = asked.trait_names();
        if wanted.iter().any(|name| !has.contains(name)) {
            wrong.push(format!(
                "List of traits {} does not match the requested traits {}",
                list(has),
                list(&wanted)
            ));
        }
        let among = asked.candidates();
        if !among.is_empty() && !among.contains(&node.uuid) {
            let among: Vec<String> = among.iter().map(Uuid::to_string).collect();
            let text = "Candidate nodes must be empty or contain the target node, but got";
            wrong.push(format!("{text} {}", list(&among)));
        }
        if !wrong.is_empty() {
            return Err(NodeError::AllocationFailed(format!(
                "Failed to process allocation {}: Cannot backfill an allocation for node {}: {}.",
                asked.uuid,
                node.uuid,
                wrong.join("; ")
            )));
        }
        match node.instance_uuid {
            Some(other) if other != asked.uuid => {
                Err(NodeError::Conflict(format!("Node {} is associated with instance {other}.", node.uuid)))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Handler<Release> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: Release, _: &mut Context<Self>) -> Self::Result {
        let node = &self.node;
        if node.reservation.is_some() {
            return self.refuse(self.locked());
        }
        // it may have another one by now: two clients deleted this one, and the node was free in between
        let its = node.instance_uuid == Some(ask.0);
        if its && !node.maintenance {
            let (id, allocation, state) = (node.uuid, ask.0, node.provision_state);
            let moves = node.target_provision_state.is_some() && !state.update_allowed();
            let text = if moves {
                format!(
                    "Cannot remove allocation {allocation} for node {id}, because the node is in state {state} where \
                     updates are not allowed (and maintenance mode is off)"
                )
            } else if state == State::Active {
                format!(
                    "Cannot remove allocation {allocation} for node {id}, because the node is active (and maintenance \
                     mode is off)"
                )
            } else {
                String::new()
            };
            if !text.is_empty() {
                return self.refuse(NodeError::Conflict(text));
            }
        }
        let mut change = self.change();
        if its {
            change.node.instance_uuid = None;
        }
        change.also.push(Also::Release(ask.0));
        let text = "its allocation was removed".to_owned();
        change.tell(&self.world, "INFO", "deallocated", text, json!({"allocation": ask.0}));
        self.commit(change, |_, _| ())
    }
}

impl NodeActor {
    /// Whether an edit that takes the instance away may take its allocation along: refused for a node in use. Reads
    /// whether there is one.
    pub(super) fn may_drop_allocation(&self) -> impl Future<Output = Result<(), NodeError>> + use<> {
        let (uuid, state) = (self.node.uuid, self.node.provision_state);
        let free = self.node.maintenance || state.is_unused();
        let store = self.world.store.clone();
        async move {
            if free || store.read(move |conn| allocations::of_node(conn, uuid)).await?.is_none() {
                return Ok(());
            }
            Err(NodeError::Conflict(format!(
                "Node {uuid} with an allocation can not have instance_uuid removed unless it is in one of allowed \
                 (enroll, inspecting, inspect wait, manageable, available) states or in maintenance mode. Current \
                 state is '{state}'."
            )))
        }
    }

    /// Whether the node's network interface remembers VIFs.
    fn vifs(&self) -> Vifs {
        Vifs::of(self.node.network_interface.as_deref().unwrap_or_default())
    }
}

/// Ports and port groups of a node, and what VIFs see of them.
struct Plugs {
    ports: Vec<Port>,
    groups: Vec<Portgroup>,
    sockets: Vec<Socket>,
}

impl Plugs {
    fn read(conn: &mut Conn, node: Uuid) -> Result<Plugs, StoreError> {
        let (ports, groups) = (ports::of_node(conn, node)?, vifs::portgroups_of(conn, node)?);
        let sockets = sockets(&ports, &groups);
        Ok(Plugs { ports, groups, sockets })
    }

    fn write(
        &self,
        conn: &mut Conn,
        into: &Socket,
        vif: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match into.kind {
            SocketKind::Port => {
                let port = self.ports.iter().find(|port| port.uuid == into.uuid);
                vifs::put_in_port(conn, port.expect("sockets are made of the ports"), VIF_KEY, vif, now)?;
            }
            SocketKind::Portgroup => {
                let group = self.groups.iter().find(|group| group.uuid == into.uuid);
                let group = group.expect("sockets are made of the port groups");
                vifs::put_in_portgroup(conn, group, VIF_KEY, vif, now)?;
            }
        }
        Ok(())
    }
}

/// What VIFs see of a node's ports and port groups.
pub(crate) fn sockets(ports: &[Port], groups: &[Portgroup]) -> Vec<Socket> {
    let of_port = |port: &Port| Socket {
        kind: SocketKind::Port,
        uuid: port.uuid,
        portgroup: port.portgroup_uuid,
        pxe_enabled: port.pxe_enabled,
        usable: network::usable(&port.extra.parse(), &port.local_link_connection.parse(), port.is_smartnic),
        vif: network::vif_in(&port.internal_info.parse()),
    };
    let of_group = |group: &Portgroup| Socket {
        kind: SocketKind::Portgroup,
        uuid: group.uuid,
        portgroup: None,
        pxe_enabled: true,
        usable: true,
        vif: network::vif_in(&group.internal_info.parse()),
    };
    ports.iter().map(of_port).chain(groups.iter().map(of_group)).collect()
}

/// The VIFs that are plugged into a node, those of its ports first.
///
/// # Errors
/// The database's.
pub fn vifs_of(conn: &mut Conn, node: &Node) -> Result<Vec<String>, StoreError> {
    match Vifs::of(node.network_interface.as_deref().unwrap_or_default()) {
        Vifs::Ignored => Ok(Vec::new()),
        Vifs::Remembered => {
            let plugs = Plugs::read(conn, node.uuid)?;
            Ok(network::attached(&plugs.sockets).into_iter().map(str::to_owned).collect())
        }
    }
}

impl NodeActor {
    /// Changes VIFs under the node's lock; a refusal goes into the node's history, as in Ironic, so that it, too, is
    /// committed.
    fn plug(
        &mut self,
        failed: String,
        decide: impl FnOnce(&mut Conn, Uuid, Timestamp) -> Ruled<()> + Send + 'static,
    ) -> AtomicResponse<Self, Result<(), NodeError>> {
        if self.node.reservation.is_some() {
            return self.refuse(self.locked());
        }
        if self.vifs() == Vifs::Ignored {
            return AtomicResponse::new(Box::pin(ready(Ok(())).into_actor(self)));
        }
        let (uuid, now) = (self.uuid(), self.world.now());
        let kept = self.world.settings.node_history;
        let (host, state) = (self.world.settings.host.clone(), self.state().to_string());
        let written = self.writing(move |conn| {
            let decided = decide(conn, uuid, now)?;
            if let (Err(error), true) = (&decided, kept) {
                let text = format!("{failed} {error}");
                let line = NewHistory::new(uuid, &host, &state, Severity::Error, &text, now);
                history::insert(conn, &line)?;
            }
            Ok(Ok(decided))
        });
        AtomicResponse::new(Box::pin(written.map(|decided, _, _| decided?)))
    }
}

impl Handler<AttachVif> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: AttachVif, _: &mut Context<Self>) -> Self::Result {
        let ask: VifAsk = ask.0;
        let failed = format!("Failed to attach VIF {} to node {}. Error:", ask.id, self.uuid());
        self.plug(failed, move |conn, node, now| {
            let plugs = Plugs::read(conn, node)?;
            match network::place(&plugs.sockets, &ask) {
                Ok(socket) => plugs.write(conn, socket, Some(&ask.id), now).map(Ok),
                Err(error) => Ok(Err(error.into())),
            }
        })
    }
}

impl Handler<DetachVif> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: DetachVif, _: &mut Context<Self>) -> Self::Result {
        let failed = format!("Failed to detach VIF {} from node {}, Error:", ask.0, self.uuid());
        self.plug(failed, move |conn, node, now| {
            let plugs = Plugs::read(conn, node)?;
            match network::holder(node, &plugs.sockets, &ask.0) {
                Ok(socket) => plugs.write(conn, socket, None, now).map(Ok),
                Err(error) => Ok(Err(error.into())),
            }
        })
    }
}
