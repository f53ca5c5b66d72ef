//! What a node's ports and port groups remember of the VIFs that are plugged into them.

use ferric_machine::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    conn::Conn,
    error::StoreError,
    port::Port,
    portgroups::{self, Portgroup, PortgroupQuery},
    ports,
    types::JsonText,
};

/// The key of `extra` that held a VIF in times past; it goes with it.
const OLD_KEY: &str = "vif_port_id";

/// Puts `vif` into `internal_info` under `key`, or takes it away.
fn written(internal_info: &JsonText, extra: &JsonText, key: &str, vif: Option<&str>) -> (JsonText, JsonText) {
    let (mut info, mut extra) = (internal_info.parse(), extra.parse());
    match vif {
        Some(vif) => {
            info.insert(key.to_owned(), Value::from(vif));
        }
        None => {
            info.remove(key);
            extra.remove(OLD_KEY);
        }
    }
    (JsonText::from(info), JsonText::from(extra))
}

/// Writes the VIF of a port; `None`: it has none any more.
///
/// # Errors
/// `Stale`, `NotFound`.
pub fn put_in_port(
    c: &mut Conn,
    port: &Port,
    key: &str,
    vif: Option<&str>,
    now: Timestamp,
) -> Result<Port, StoreError> {
    let (internal_info, extra) = written(&port.internal_info, &port.extra, key, vif);
    ports::update(c, &Port { internal_info, extra, ..port.clone() }, now)
}

/// Writes the VIF of a port group; `None`: it has none any more.
///
/// # Errors
/// `Stale`, `NotFound`.
pub fn put_in_portgroup(
    c: &mut Conn,
    group: &Portgroup,
    key: &str,
    vif: Option<&str>,
    now: Timestamp,
) -> Result<Portgroup, StoreError> {
    let (internal_info, extra) = written(&group.internal_info, &group.extra, key, vif);
    portgroups::update(c, &Portgroup { internal_info, extra, ..group.clone() }, now)
}

/// The port groups of a node, in order of creation.
///
/// # Errors
/// The database's.
pub fn portgroups_of(c: &mut Conn, node: Uuid) -> Result<Vec<Portgroup>, StoreError> {
    portgroups::list(c, &PortgroupQuery { node: Some(node), ..PortgroupQuery::default() })
}

/// Takes away all VIFs of a node; returns the ports that had one.
///
/// # Errors
/// The database's.
pub fn forget_all(c: &mut Conn, node: Uuid, key: &str, now: Timestamp) -> Result<Vec<Port>, StoreError> {
    let mut changed = Vec::new();
    for port in ports::of_node(c, node)? {
        if port.internal_info.get(key).is_some() {
            changed.push(put_in_port(c, &port, key, None, now)?);
        }
    }
    for group in portgroups_of(c, node)? {
        if group.internal_info.get(key).is_some() {
            put_in_portgroup(c, &group, key, None, now)?;
        }
    }
    Ok(changed)
}
