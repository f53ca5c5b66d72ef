//! The node's ports, and how they hang together with its port groups.

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AtomicResponse, Context, Handler, Message, ResponseActFuture};
use ferric_machine::Timestamp;
use ferric_schema::portgroups::{self, Portgroup};
use ferric_schema::{Conn, Node, Port, StoreError, nodes, ports};
use uuid::Uuid;

use super::NodeActor;
use super::belongings::{Ruled, looks_after_ports, told};
use crate::error::NodeError;
use crate::message::{CreatePort, DeletePort, UpdatePort};

impl NodeActor {
    /// Changes what belongs to the node and reads its ports anew, in one transaction. What a rule refuses is not written.
    pub(super) fn written<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Conn) -> Ruled<T> + Send + 'static,
    ) -> AtomicResponse<Self, Result<T, NodeError>> {
        AtomicResponse::new(self.writing(write))
    }

    /// [`NodeActor::written`] as a part of something longer.
    pub(super) fn writing<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Conn) -> Ruled<T> + Send + 'static,
    ) -> ResponseActFuture<Self, Result<T, NodeError>> {
        let (store, uuid) = (self.world.store.clone(), self.uuid());
        let both = async move {
            let (tell, told) = tokio::sync::oneshot::channel();
            let written = store.write(move |conn| match write(conn)? {
                Ok(written) => Ok((written, ports::of_node(conn, uuid)?)),
                Err(refusal) => {
                    // the transaction must fail: a rule may refuse after something was written
                    let _ = tell.send(refusal);
                    Err(StoreError::Closed)
                }
            });
            match (written.await, told.await) {
                (_, Ok(refusal)) => Err(refusal),
                (written, Err(_)) => Ok(written?),
            }
        };
        Box::pin(both.into_actor(self).map(|result, act: &mut Self, _| {
            let (written, all) = result?;
            act.world.ports.set(act.node.uuid, &all);
            act.ports = all;
            Ok(written)
        }))
    }

    fn port(&self, uuid: Uuid) -> Result<&Port, NodeError> {
        let found = self.ports.iter().find(|port| port.uuid == uuid);
        found.ok_or(NodeError::NotFound { what: "Port", id: uuid.to_string() })
    }
}

/// What another port has already.
fn taken(port: &Port, what: &str) -> String {
    let (what, value) = match what {
        "name" => ("name", port.name.clone().unwrap_or_default()),
        "address" => ("MAC address", port.address.clone()),
        _ => ("UUID", port.uuid.to_string()),
    };
    format!("A port with {what} {value} already exists.")
}

/// Whether the port fits its port group, which takes its physical network from its first port.
fn fits_group(conn: &mut Conn, before: Option<&Port>, port: &Port, node: &Node, now: Timestamp) -> Ruled<()> {
    let Some(uuid) = port.portgroup_uuid else { return Ok(Ok(())) };
    let invalid = |text: String| Ok(Err(NodeError::Invalid(text)));
    let Some(group) = portgroups::get(conn, uuid)? else {
        return invalid(format!("Portgroup {uuid} could not be found."));
    };
    if group.node_uuid != port.node_uuid {
        return invalid("Port can not be added to a portgroup belonging to a different node.".to_owned());
    }
    let joins = before.is_none_or(|before| before.portgroup_uuid != port.portgroup_uuid);
    let boots = before.is_some_and(|before| joins || before.pxe_enabled != port.pxe_enabled);
    if boots && port.pxe_enabled && !group.standalone_ports_supported && looks_after_ports(node) {
        return Ok(Err(NodeError::Conflict(format!(
            "Port group {uuid} doesn't support standalone ports. This port {} cannot be a member of that port group \
             because of: 'pxe_enabled' was set to True",
            port.uuid
        ))));
    }
    if !joins && before.is_some_and(|before| before.physical_network == port.physical_network) {
        return Ok(Ok(()));
    }
    let members = ports::of_portgroup(conn, uuid)?;
    let there = match members.iter().find(|other| other.uuid != port.uuid) {
        Some(other) => other.physical_network.clone(),
        None if group.physical_network.is_some() => group.physical_network.clone(),
        None => {
            if port.physical_network.is_some() {
                let physical_network = port.physical_network.clone();
                portgroups::update(conn, &Portgroup { physical_network, ..group }, now)?;
            }
            return Ok(Ok(()));
        }
    };
    if there == port.physical_network {
        return Ok(Ok(()));
    }
    let named = |network: &Option<String>| network.clone().unwrap_or_else(|| "None".to_owned());
    Ok(Err(NodeError::Conflict(format!(
        "Port with physical network {} cannot become a member of port group {uuid} which has ports in physical network \
         {}.",
        named(&port.physical_network),
        named(&there)
    ))))
}

impl Handler<CreatePort> for NodeActor {
    type Result = AtomicResponse<Self, Result<Port, NodeError>>;

    fn handle(&mut self, ask: CreatePort, _: &mut Context<Self>) -> Self::Result {
        let (node, now) = (self.node.clone(), self.world.now());
        self.written(move |conn| {
            let CreatePort { port, asked_to_boot } = ask;
            let group = match port.portgroup_uuid {
                Some(uuid) => portgroups::get(conn, uuid)?,
                None => None,
            };
            if let Err(refusal) = fits_group(conn, None, &port, &node, now)? {
                return Ok(Err(refusal));
            }
            if let Some(group) = group.filter(|group| asked_to_boot && !group.standalone_ports_supported) {
                return Ok(Err(NodeError::Conflict(format!(
                    "Port group {} doesn't support standalone ports. This port cannot be created as a member of that \
                     portgroup as the port's 'pxe_enabled' field was set to True.",
                    group.uuid
                ))));
            }
            told(ports::insert(conn, &port), |what| taken(&port, what))
        })
    }
}

impl Handler<UpdatePort> for NodeActor {
    type Result = AtomicResponse<Self, Result<Port, NodeError>>;

    fn handle(&mut self, ask: UpdatePort, _: &mut Context<Self>) -> Self::Result {
        let before = match self.port(ask.port) {
            Ok(port) => port.clone(),
            Err(error) => return self.refuse(error),
        };
        let mut port = before.clone();
        if let Err(error) = (ask.apply)(&mut port, &self.node) {
            return self.refuse(error);
        }
        if self.node.reservation.is_some() {
            return self.refuse(self.locked());
        }
        let (node, now) = (self.node.clone(), self.world.now());
        self.written(move |conn| {
            if port == before {
                return Ok(Ok(before));
            }
            if port.node_uuid != before.node_uuid && nodes::get(conn, port.node_uuid)?.is_none() {
                let text = format!(
                    "Unable to apply the requested node_uuid '{}'. Requested value was invalid.",
                    port.node_uuid
                );
                return Ok(Err(NodeError::Invalid(text)));
            }
            if let Err(refusal) = fits_group(conn, Some(&before), &port, &node, now)? {
                return Ok(Err(refusal));
            }
            told(ports::update(conn, &port, now), |what| taken(&port, what))
        })
    }
}

/// A port came to this node from another one.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub(crate) struct ReloadPorts;

impl Handler<ReloadPorts> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, _: ReloadPorts, _: &mut Context<Self>) -> Self::Result {
        self.written(|_| Ok(Ok(())))
    }
}

/// Where `internal_info` of a port names the VIF that it is bound to.
const BOUND: &[&str] = &[
    "cleaning_vif_port_id",
    "provisioning_vif_port_id",
    "rescuing_vif_port_id",
    "inspection_vif_port_id",
    "servicing_vif_port_id",
    "tenant_vif_port_id",
];

impl Handler<DeletePort> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: DeletePort, _: &mut Context<Self>) -> Self::Result {
        let port = match self.port(ask.0) {
            Ok(port) => port,
            Err(error) => return self.refuse(error),
        };
        if self.node.reservation.is_some() {
            return self.refuse(self.locked());
        }
        let info = port.internal_info.parse();
        let vif = BOUND.iter().find_map(|key| info.get(*key).and_then(serde_json::Value::as_str));
        if let Some(vif) = vif.filter(|_| !self.node.maintenance) {
            let text = format!(
                "Cannot delete the port {} as it is bound to VIF {vif} for use: detach it first.",
                ask.0
            );
            return self.refuse(NodeError::Conflict(text));
        }
        self.written(move |conn| ports::delete(conn, ask.0).map(Ok))
    }
}
