//! Network cards, from sysfs.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use ferric_agent_wire::InventoryInterface;

use super::{number, text};

/// The cards of the machine (not loopback, bridges and the like) by name, `eth2` before `eth10`.
pub fn cards(sys: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(sys.join("class/net"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("device").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    names
}

/// Every address of every card of this machine, link-local ones last.
pub fn addresses() -> Vec<(String, IpAddr)> {
    let found = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let mut all: Vec<(String, IpAddr)> = found
        .filter_map(|card| {
            let address = card.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            let ip = v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))?;
            Some((card.interface_name, ip))
        })
        .collect();
    all.sort_by_key(|(name, ip)| (name.clone(), is_link_local(ip)));
    all
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The cards as the inventory describes them, without what their switches say.
pub(super) fn interfaces(sys: &Path, addresses: &[(String, IpAddr)]) -> Vec<InventoryInterface> {
    cards(sys).into_iter().filter_map(|name| interface(sys, addresses, name)).collect()
}

fn interface(sys: &Path, addresses: &[(String, IpAddr)], name: String) -> Option<InventoryInterface> {
    let folder = sys.join("class/net").join(&name);
    let mac = text(&folder.join("address"))?.to_ascii_lowercase();
    // an InfiniBand card has 20 bytes of hardware address; IPv4 over it is known by the 8 of its port
    let bytes: Vec<&str> = mac.split(':').collect();
    let (mac_address, client_id) = match bytes.len() {
        6 => (mac.clone(), None),
        20 => {
            let port = &bytes[12..];
            let short = [&port[..3], &port[5..]].concat().join(":");
            (short, Some(format!("ff:00:00:00:00:00:02:00:00:02:c9:00:{}", port.join(":"))))
        }
        _ => return None,
    };
    let device = fs::canonicalize(folder.join("device")).unwrap_or_default();
    let of_card = || addresses.iter().filter(|(card, _)| *card == name).map(|(_, ip)| *ip);
    let pci = device.iter().map(|part| part.to_string_lossy()).rfind(|part| is_pci(part));
    let driver = fs::canonicalize(folder.join("device/driver")).ok();
    Some(InventoryInterface {
        mac_address,
        ipv4_address: of_card().find(IpAddr::is_ipv4).map(|ip| ip.to_string()),
        ipv6_address: of_card().find(IpAddr::is_ipv6).map(|ip| ip.to_string()),
        // a card that is down gives an error instead of a number
        has_carrier: text(&folder.join("carrier")).as_deref() == Some("1"),
        lldp: None,
        vendor: text(&folder.join("device/vendor")),
        product: text(&folder.join("device/device")),
        client_id,
        biosdevname: None,
        // -1 or all ones: unknown
        speed_mbps: number(&folder.join("speed")).filter(|&speed| speed > 0 && speed < u64::from(u32::MAX)),
        pci_address: pci.map(|pci| pci.into_owned()),
        driver: driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
        name,
    })
}

/// `0000:00:1f.6`.
fn is_pci(part: &str) -> bool {
    let bytes = part.as_bytes();
    bytes.len() == 12 && (bytes[4], bytes[7], bytes[10]) == (b':', b':', b'.')
}
