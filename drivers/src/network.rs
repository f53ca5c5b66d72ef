//! Which port or port group of a node a VIF goes to (deploy.md "network interfaces"). A VIF is a network port that
//! somebody else made (nova, metalsmith): Ferric only remembers where it is plugged in, as `tenant_vif_port_id` in the
//! `internal_info` of a port or port group, and forgets it when the instance goes.

use uuid::Uuid;

use crate::interface::Json;

/// The key of `internal_info` that holds the id of a VIF.
pub const VIF_KEY: &str = "tenant_vif_port_id";

/// What a network interface does with VIFs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vifs {
    /// Takes every VIF and remembers none (`noop`).
    Ignored,
    /// Remembers where each one is plugged in (`flat`).
    Remembered,
}

impl Vifs {
    /// What the network interface of that name does.
    #[must_use]
    pub fn of(interface: &str) -> Vifs {
        if interface == "noop" { Vifs::Ignored } else { Vifs::Remembered }
    }
}

/// What a VIF can be plugged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// A port.
    Port,
    /// A port group.
    Portgroup,
}

impl SocketKind {
    /// As Ironic writes it in errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            SocketKind::Port => "Port",
            SocketKind::Portgroup => "Portgroup",
        }
    }
}

/// A port or a port group, as far as VIFs are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Which of the two.
    pub kind: SocketKind,
    /// Its id.
    pub uuid: Uuid,
    /// The port group of a port.
    pub portgroup: Option<Uuid>,
    /// Whether the node boots over it; always true of a port group.
    pub pxe_enabled: bool,
    /// Whether it can carry a VIF at all ([`usable`]).
    pub usable: bool,
    /// The VIF in it.
    pub vif: Option<String>,
}

/// The VIF that `internal_info` tells of.
#[must_use]
pub fn vif_in(internal_info: &Json) -> Option<String> {
    let vif = internal_info.get(VIF_KEY)?.as_str()?;
    (!vif.is_empty()).then(|| vif.to_owned())
}

/// Whether a port can carry a VIF: one of a smart NIC needs `port_id` and `hostname` (and nothing else) in
/// `local_link_connection`, any other port must not have just these; `client-id` in `extra` marks InfiniBand, where
/// none of that matters.
#[must_use]
pub fn usable(extra: &Json, local_link: &Json, is_smartnic: bool) -> bool {
    if extra.get("client-id").is_some_and(|id| id.as_str().is_some_and(|id| !id.is_empty())) {
        return true;
    }
    let of_smartnic = local_link.contains_key("port_id")
        && local_link.contains_key("hostname")
        && local_link.keys().all(|key| matches!(key.as_str(), "port_id" | "hostname" | "network_type"));
    of_smartnic == is_smartnic
}

/// Which VIF, and into what in particular.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VifAsk {
    /// The VIF's id.
    pub id: String,
    /// Into this port only.
    pub port: Option<Uuid>,
    /// Into this port group only.
    pub portgroup: Option<Uuid>,
}

/// Why a VIF cannot be plugged in or out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VifError {
    /// It is in a port of the node already.
    #[error("Unable to attach VIF because VIF {vif} is already attached to Ironic {} {uuid}", .kind.as_str())]
    AlreadyAttached {
        /// The VIF.
        vif: String,
        /// What it is in.
        kind: SocketKind,
        /// Its id.
        uuid: Uuid,
    },
    /// Every port is taken, or none fits what was asked.
    #[error("Unable to attach VIF {vif}, not enough free physical ports.")]
    NoFreePorts {
        /// The VIF.
        vif: String,
    },
    /// It is in none of the node's ports.
    #[error("Unable to detach VIF {vif} from node {node} because it is not attached to it.")]
    NotAttached {
        /// The VIF.
        vif: String,
        /// The node.
        node: Uuid,
    },
}

/// The VIFs of a node: those of its ports first, in order.
#[must_use]
pub fn attached(sockets: &[Socket]) -> Vec<&str> {
    let of = |kind: SocketKind| sockets.iter().filter(move |one| one.kind == kind);
    of(SocketKind::Port).chain(of(SocketKind::Portgroup)).filter_map(|one| one.vif.as_deref()).collect()
}

/// Where a VIF goes: port groups first, then ports that the node boots over, then the other ports, each in order of
/// creation. A port that belongs to a port group counts only where another port of that group has a VIF of its own;
/// an empty port group does not count.
///
/// # Errors
/// `AlreadyAttached`; `NoFreePorts`.
pub fn place<'a>(sockets: &'a [Socket], ask: &VifAsk) -> Result<&'a Socket, VifError> {
    if let Some(holder) = sockets.iter().find(|one| one.vif.as_deref() == Some(ask.id.as_str())) {
        return Err(VifError::AlreadyAttached { vif: ask.id.clone(), kind: holder.kind, uuid: holder.uuid });
    }
    let asked = |one: &Socket| ask.port.is_none_or(|port| port == one.uuid);
    let ports = || sockets.iter().filter(|one| one.kind == SocketKind::Port && one.usable && asked(one));
    let split = |group: Uuid| ports().any(|one| one.portgroup == Some(group) && one.vif.is_some());
    let free_in = |group: Uuid| ports().any(|one| one.portgroup == Some(group) && one.vif.is_none());

    let group = sockets.iter().find(|one| {
        one.kind == SocketKind::Portgroup
            && ask.port.is_none()
            && ask.portgroup.is_none_or(|group| group == one.uuid)
            && one.vif.is_none()
            && !split(one.uuid)
            && free_in(one.uuid)
    });
    let single = |one: &&Socket| {
        let stands_alone = match one.portgroup {
            None => true,
            Some(group) => {
                ask.port.is_none()
                    && split(group)
                    && sockets.iter().any(|other| other.uuid == group && other.vif.is_none())
            }
        };
        ask.portgroup.is_none() && one.vif.is_none() && stands_alone
    };
    group
        .or_else(|| ports().filter(single).find(|one| one.pxe_enabled))
        .or_else(|| ports().find(single))
        .ok_or_else(|| VifError::NoFreePorts { vif: ask.id.clone() })
}

/// What a VIF is in.
///
/// # Errors
/// `NotAttached`.
pub fn holder<'a>(node: Uuid, sockets: &'a [Socket], vif: &str) -> Result<&'a Socket, VifError> {
    let has = |one: &&Socket| one.vif.as_deref() == Some(vif);
    let groups = sockets.iter().filter(|one| one.kind == SocketKind::Portgroup).find(has);
    groups
        .or_else(|| sockets.iter().find(has))
        .ok_or_else(|| VifError::NotAttached { vif: vif.to_owned(), node })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn port(n: u128, group: Option<u128>, pxe: bool, vif: Option<&str>) -> Socket {
        Socket {
            kind: SocketKind::Port,
            uuid: id(n),
            portgroup: group.map(id),
            pxe_enabled: pxe,
            usable: true,
            vif: vif.map(str::to_owned),
        }
    }

    fn group(n: u128, vif: Option<&str>) -> Socket {
        Socket { kind: SocketKind::Portgroup, ..port(n, None, true, vif) }
    }

    fn ask(vif: &str) -> VifAsk {
        VifAsk { id: vif.to_owned(), ..VifAsk::default() }
    }

    fn place_of(sockets: &[Socket], ask: &VifAsk) -> Result<u128, VifError> {
        place(sockets, ask).map(|one| one.uuid.as_u128())
    }

    #[test]
    fn groups_come_first_then_ports_that_boot_then_the_rest() {
        let all = [port(1, None, false, None), port(2, None, true, None), port(3, Some(9), true, None)];
        assert_eq!(place_of(&all, &ask("v")), Ok(2), "the port group of 3 is not among them");
        let with_group = [all.as_slice(), &[group(8, None), group(9, None)]].concat();
        assert_eq!(place_of(&with_group, &ask("v")), Ok(9), "8 is empty");
        let taken = [port(2, None, true, Some("a")), port(1, None, false, None)];
        assert_eq!(place_of(&taken, &ask("v")), Ok(1));
        assert_eq!(attached(&taken), ["a"]);
    }

    #[test]
    fn a_group_of_which_a_port_is_used_alone_gives_its_other_ports() {
        let all = [port(1, Some(9), true, Some("a")), port(2, Some(9), true, None), group(9, None)];
        assert_eq!(place_of(&all, &ask("v")), Ok(2));
        let whole = [port(1, Some(9), true, None), port(2, Some(9), true, None), group(9, Some("a"))];
        let full = VifError::NoFreePorts { vif: "v".to_owned() };
        assert_eq!(place_of(&whole, &ask("v")), Err(full), "its ports are the group's");
    }

    #[test]
    fn what_was_asked_for_in_particular_is_given_or_nothing() {
        let all = [port(1, None, true, None), port(2, None, false, None), port(3, Some(9), true, None)];
        let all = [all.as_slice(), &[group(9, None)]].concat();
        assert_eq!(place_of(&all, &VifAsk { port: Some(id(2)), ..ask("v") }), Ok(2));
        assert_eq!(place_of(&all, &VifAsk { portgroup: Some(id(9)), ..ask("v") }), Ok(9));
        assert!(place_of(&all, &VifAsk { portgroup: Some(id(7)), ..ask("v") }).is_err());
        assert!(place_of(&all, &VifAsk { port: Some(id(3)), ..ask("v") }).is_err(), "it is its group's");
    }

    #[test]
    fn a_vif_is_in_one_place_only() {
        let all = [port(1, None, true, Some("v")), port(2, None, true, None)];
        let twice = place(&all, &VifAsk { port: Some(id(2)), ..ask("v") }).expect_err("attached").to_string();
        assert!(twice.starts_with("Unable to attach VIF because VIF v is already attached to Ironic Port "));
        assert_eq!(holder(id(0), &all, "v").map(|one| one.uuid), Ok(id(1)));
        assert!(
            holder(id(0), &all, "w").expect_err("absent").to_string().contains("because it is not attached")
        );
    }

    #[test]
    fn ports_of_smart_nics_need_their_own_links() {
        let object = |value: serde_json::Value| value.as_object().cloned().expect("an object");
        let (none, smart) = (Json::new(), object(json!({"port_id": "p0", "hostname": "h"})));
        assert!(usable(&none, &none, false) && usable(&none, &smart, true));
        assert!(!usable(&none, &none, true) && !usable(&none, &smart, false));
        assert!(usable(&object(json!({"client-id": "ff:00"})), &none, true));
        assert_eq!(vif_in(&object(json!({VIF_KEY: "x"}))).as_deref(), Some("x"));
        assert_eq!(vif_in(&object(json!({VIF_KEY: ""}))), None);
    }
}
