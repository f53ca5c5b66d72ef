//! What the ramdisk of the Kilo era says: two vendor methods (deploy.md §A.1 rows 6, 8 and 12b).

use std::net::IpAddr;

use ferric_machine::Activity;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::DriverError;
use crate::interface::{Json, NodeView, RAMDISK_CALLED, Result, VendorMethod, WRONG_DEPLOY_KEY};

/// Key of driver_internal_info for what only the node's own ramdisk knows.
pub(super) const KEY: &str = "deploy_key";

/// The ramdisk's disk is a target now.
pub(super) const DEPLOY: &str = "pass_deploy_info";

/// The ramdisk has installed a boot loader, or not.
pub(super) const BOOTLOADER: &str = "pass_bootloader_install_info";

/// Sorted by name.
pub(super) const METHODS: &[VendorMethod] = &[
    VendorMethod::post(
        BOOTLOADER,
        "Tells whether the deploy ramdisk installed a boot loader: address, key, status (SUCCEEDED or FAILED), error.",
    ),
    VendorMethod::post(
        DEPLOY,
        "Tells where the deploy ramdisk exports the disk over iSCSI: address, key, iqn, error, and maybe port and lun.",
    ),
];

/// Longest text of an error that is kept, characters.
const LONGEST: usize = 1000;

/// What a ramdisk said, as it is kept under [`RAMDISK_CALLED`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Called {
    /// Its address.
    pub(super) address: IpAddr,
    /// Port of the target.
    pub(super) port: u16,
    /// Name of the target.
    pub(super) iqn: String,
    /// Unit of the target.
    pub(super) lun: u64,
    /// Why it cannot go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// What became of the boot loader: empty is success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bootloader: Option<String>,
}

impl Called {
    /// The ramdisk that called, if one did.
    pub(super) fn of(node: &NodeView) -> Option<Called> {
        serde_json::from_value(node.driver_internal_info.get(RAMDISK_CALLED)?.clone()).ok()
    }

    fn keep(&self) -> Json {
        Json::from_iter([(RAMDISK_CALLED.to_owned(), serde_json::to_value(self).expect("plain data"))])
    }
}

/// Where a call came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// The other end of its connection, if it came over one.
    pub(super) address: Option<IpAddr>,
    /// The ramdisk has to be there; otherwise it is where it says.
    pub(super) decides: bool,
}

impl Peer {
    /// Whether a ramdisk with this address may have called: whoever has the key sends Ferric nowhere but to himself.
    fn check(self, says: IpAddr) -> Result<()> {
        let peer = self.address.map(|peer| peer.to_canonical());
        // a proxy, or a simulated machine, on this host
        if peer.is_some_and(|peer| peer.is_loopback()) {
            return Ok(());
        }
        let nowhere = match says {
            IpAddr::V4(says) => says.is_loopback(),
            IpAddr::V6(says) => says.is_loopback() || says.is_unicast_link_local(),
        };
        if nowhere {
            return Err(invalid(format!(
                "Parameter address is {says}, where no other host can reach the ramdisk; give it an address of the \
                 network it boots from"
            )));
        }
        match peer {
            Some(peer) if self.decides && peer != says => Err(invalid(format!(
                "Parameter address is {says}, but the call came from {peer}; where ramdisks call through a proxy or NAT, \
                 set [iscsi] ramdisk_address_from_call = true"
            ))),
            Some(_) | None => Ok(()),
        }
    }
}

/// Judges a call. Nothing but the node's fields and where it came from is looked at.
pub(super) fn judge(node: &NodeView, method: &str, args: &Json, peer: Peer) -> Result<Json> {
    let ours = node.driver_internal_info.get(KEY).and_then(Value::as_str);
    let given = args.get("key").and_then(Value::as_str);
    if !ours.zip(given).is_some_and(|(ours, given)| same(ours, given)) {
        return Err(invalid(WRONG_DEPLOY_KEY));
    }
    // its kernel line holds the key, and a ramdisk may quote that
    let mut args = args.clone();
    let error = args.get("error").and_then(Value::as_str).zip(ours);
    if let Some(told) =
        error.filter(|(_, key)| !key.is_empty()).map(|(text, key)| text.replace(key, "******"))
    {
        args.insert("error".to_owned(), told.into());
    }
    match method {
        DEPLOY => deploy(node, &args, peer),
        _ => bootloader(node, &args, peer),
    }
}

fn deploy(node: &NodeView, args: &Json, peer: Peer) -> Result<Json> {
    let error = text(args, "error");
    if error.is_none() {
        missing(args, &["address", "iqn"])?;
    }
    let called = Called {
        address: match (address(args, peer), &error) {
            (Ok(address), _) => address,
            // a ramdisk without an address may still say what is wrong with it
            (Err(_), Some(_)) => IpAddr::from([0, 0, 0, 0]),
            (Err(error), None) => return Err(error),
        },
        port: number(args, "port", 3260)?
            .try_into()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| invalid("Parameter port must be from 1 to 65535"))?,
        iqn: name(args, error.is_some())?,
        lun: number(args, "lun", 1)?,
        error,
        bootloader: None,
    };
    if Called::of(node).as_ref() == Some(&called) {
        return Ok(Json::new()); // said again, because the answer got lost
    }
    waits(node, DEPLOY)?;
    if Called::of(node).is_some() {
        return Err(invalid(format!(
            "{DEPLOY} was called before with other parameters; restart the machine to begin anew"
        )));
    }
    Ok(called.keep())
}

fn bootloader(node: &NodeView, args: &Json, peer: Peer) -> Result<Json> {
    missing(args, &["address", "status"])?;
    let failed = match args.get("status").and_then(Value::as_str) {
        Some("SUCCEEDED") => String::new(),
        Some("FAILED") => text(args, "error").unwrap_or_else(|| "it gave no reason".to_owned()),
        Some(_) | None => return Err(invalid("Parameter status must be SUCCEEDED or FAILED")),
    };
    let address = address(args, peer)?;
    let Some(before) = Called::of(node) else {
        return Err(invalid(format!("{BOOTLOADER} comes after {DEPLOY}, which was not called")));
    };
    let called = Called { address, bootloader: Some(failed), ..before.clone() };
    if called == before {
        return Ok(Json::new());
    }
    waits(node, BOOTLOADER)?;
    Ok(called.keep())
}

/// The node has to wait for its ramdisk.
fn waits(node: &NodeView, method: &str) -> Result<()> {
    if node.state.is_wait() && node.state.activity() == Some(Activity::Deploy) {
        return Ok(());
    }
    Err(invalid(format!(
        "{method} is not expected while node {} is in state \"{}\"; it waits for its deploy ramdisk in state \
         \"wait call-back\" only",
        node.uuid, node.state
    )))
}

fn missing(args: &Json, needed: &[&str]) -> Result<()> {
    let absent: Vec<&str> = needed.iter().copied().filter(|key| text(args, key).is_none()).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let list = crate::python::list(&absent);
    Err(DriverError::MissingParameter {
        reason: format!("Parameters {list} were not passed to ironic for deploy."),
    })
}

/// A text without characters that could do harm in a log, `None` when absent or empty.
fn text(args: &Json, key: &str) -> Option<String> {
    let text = args.get(key)?.as_str()?.trim();
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    (!text.is_empty()).then_some(text)
}

fn address(args: &Json, peer: Peer) -> Result<IpAddr> {
    let text = text(args, "address").unwrap_or_default();
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    let address = address.filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
    let address =
        address.ok_or_else(|| invalid("Parameter address must be the IP address of the ramdisk"))?;
    peer.check(address).map(|()| address)
}

fn name(args: &Json, optional: bool) -> Result<String> {
    let name = text(args, "iqn").unwrap_or_default();
    // RFC 7143 §4.2.7.1 bounds a name; the ramdisks of that time did not begin theirs with a date
    let sound = name.len() <= 223 && name.chars().all(|c| c.is_ascii_graphic());
    if sound && (optional || !name.is_empty()) {
        return Ok(name);
    }
    Err(invalid("Parameter iqn must be the name of the target, at most 223 characters without spaces"))
}

fn number(args: &Json, key: &str, default: u64) -> Result<u64> {
    let read = match args.get(key) {
        None | Some(Value::Null) => Some(default),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) if text.trim().is_empty() => Some(default),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
    };
    read.filter(|number| *number < 1 << 14 || key == "port")
        .ok_or_else(|| invalid(format!("Parameter {key} must be a number")))
}

fn invalid(reason: impl Into<String>) -> DriverError {
    DriverError::InvalidParameter { reason: reason.into() }
}

/// Compares without telling by its time how much is right.
fn same(ours: &str, given: &str) -> bool {
    ours.len() == given.len()
        && ours.bytes().zip(given.bytes()).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
}
