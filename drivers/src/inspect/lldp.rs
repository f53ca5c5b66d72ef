//! What a switch said, in words: IEEE 802.1AB §8, 802.1Q Annex D, 802.3 §79.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::interface::Json;

/// Type and value.
pub(super) type Tlv = (u8, Vec<u8>);

const CHASSIS: u8 = 1;
const PORT: u8 = 2;
const SYSTEM_NAME: u8 = 5;

/// Reads the list of `[type, hex]`; what cannot be read is left out.
pub(super) fn read(list: &Value) -> Vec<Tlv> {
    let entries = list.as_array().map(Vec::as_slice).unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| {
            let kind = u8::try_from(entry.get(0)?.as_u64()?).ok()?;
            Some((kind, bytes(entry.get(1)?.as_str()?)?))
        })
        .collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(pair).collect()
}

/// `switch_id` (a MAC only), `port_id` and `switch_info` for a port's `local_link_connection`.
pub(super) fn local_link(tlvs: &[Tlv]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (kind, value) in tlvs {
        let found = match *kind {
            CHASSIS if value.first() == Some(&4) => ("switch_id", id(value, 4, 5)),
            PORT => ("port_id", id(value, 3, 4)),
            SYSTEM_NAME => ("switch_info", Some(text(value))),
            _ => continue,
        };
        if let (key, Some(value)) = found {
            all.push((key.to_owned(), value));
        }
    }
    all
}

/// All that is known, by Ironic's names.
pub(super) fn parse(tlvs: &[Tlv]) -> Json {
    let mut all = Json::new();
    for (kind, value) in tlvs {
        match (*kind, value.as_slice()) {
            (CHASSIS, value) => once(&mut all, "switch_chassis_id", id(value, 4, 5)),
            (PORT, value) => once(&mut all, "switch_port_id", id(value, 3, 4)),
            (4, value) => once(&mut all, "switch_port_description", Some(text(value))),
            (SYSTEM_NAME, value) => once(&mut all, "switch_system_name", Some(text(value))),
            (6, value) => once(&mut all, "switch_system_description", Some(text(value))),
            (7, [a, b, c, d]) => {
                let names = |bits: u16| capabilities(bits);
                once(&mut all, "switch_capabilities_support", Some(names(u16::from_be_bytes([*a, *b]))));
                once(&mut all, "switch_capabilities_enabled", Some(names(u16::from_be_bytes([*c, *d]))));
            }
            (8, value) => {
                // a length, then an address with its family
                let length = usize::from(value.first().copied().unwrap_or(0));
                if let Some(address) = value.get(1..=length).and_then(address) {
                    more(&mut all, "switch_mgmt_addresses", json!(address));
                }
            }
            (127, [0x00, 0x80, 0xc2, subtype, value @ ..]) => bridging(&mut all, *subtype, value),
            (127, [0x00, 0x12, 0x0f, subtype, value @ ..]) => ethernet(&mut all, *subtype, value),
            (_, _) => {}
        }
    }
    all
}

/// 802.1Q's own.
fn bridging(all: &mut Json, subtype: u8, value: &[u8]) {
    match (subtype, value) {
        (1, [a, b]) => once(all, "switch_port_untagged_vlan_id", Some(u16::from_be_bytes([*a, *b]))),
        (2, [flags, a, b]) => {
            once(all, "switch_port_protocol_vlan_support", Some(flags & 2 != 0));
            once(all, "switch_port_protocol_vlan_enabled", Some(flags & 4 != 0));
            more(all, "switch_port_protocol_vlan_ids", json!(u16::from_be_bytes([*a, *b])));
        }
        (3, [a, b, length, name @ ..]) => {
            let name = name.get(..usize::from(*length)).unwrap_or(name);
            let vlan = json!({"id": u16::from_be_bytes([*a, *b]), "name": text(name)});
            more(all, "switch_port_vlans", vlan);
        }
        (4, [length, protocol @ ..]) => {
            let protocol = protocol.get(..usize::from(*length)).unwrap_or(protocol);
            let hex: String = protocol.iter().map(|byte| format!("{byte:02x}")).collect();
            more(all, "switch_protocol_identities", json!(hex));
        }
        (6, [a, b]) => once(all, "switch_port_management_vlan_id", Some(u16::from_be_bytes([*a, *b]))),
        (7, value) => aggregation(all, value),
        (_, _) => {}
    }
}

/// 802.3's own.
fn ethernet(all: &mut Json, subtype: u8, value: &[u8]) {
    match (subtype, value) {
        (1, [status, ..]) => {
            once(all, "switch_port_autonegotiation_support", Some(status & 1 != 0));
            once(all, "switch_port_autonegotiation_enabled", Some(status & 2 != 0));
        }
        (3, value) => aggregation(all, value),
        (4, [a, b]) => once(all, "switch_port_mtu", Some(u16::from_be_bytes([*a, *b]))),
        (_, _) => {}
    }
}

fn aggregation(all: &mut Json, value: &[u8]) {
    if let [status, a, b, c, d] = value {
        once(all, "switch_port_link_aggregation_support", Some(status & 1 != 0));
        once(all, "switch_port_link_aggregation_enabled", Some(status & 2 != 0));
        let id = u32::from_be_bytes([*a, *b, *c, *d]);
        once(all, "switch_port_link_aggregation_id", Some(id));
    }
}

/// The first word counts.
fn once(all: &mut Json, key: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        all.entry(key).or_insert_with(|| json!(value));
    }
}

fn more(all: &mut Json, key: &str, value: Value) {
    if let Value::Array(list) = all.entry(key).or_insert_with(|| json!([])) {
        list.push(value);
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

/// A chassis or port id: its subtype decides whether it is a MAC, an address or a text.
fn id(value: &[u8], mac: u8, network: u8) -> Option<String> {
    match value {
        [kind, rest @ ..] if *kind == mac => {
            let all: Vec<String> = rest.iter().map(|byte| format!("{byte:02x}")).collect();
            (all.len() == 6).then(|| all.join(":"))
        }
        [kind, rest @ ..] if *kind == network => address(rest),
        [_, rest @ ..] => Some(text(rest)),
        [] => None,
    }
}

/// An address behind its IANA family: 1 is IPv4, 2 is IPv6, 6 a MAC.
fn address(value: &[u8]) -> Option<String> {
    match value {
        [1, rest @ ..] => Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(rest).ok()?)).to_string()),
        [2, rest @ ..] => Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(rest).ok()?)).to_string()),
        [6, rest @ ..] => {
            let all: Vec<String> = rest.iter().map(|byte| format!("{byte:02x}")).collect();
            (all.len() == 6).then(|| all.join(":"))
        }
        _ => None,
    }
}

fn capabilities(bits: u16) -> Vec<&'static str> {
    // bit 0 is "other"
    let names = [
        "Repeater",
        "Bridge",
        "WLAN",
        "Router",
        "Telephone",
        "DOCSIS cable device",
        "Station only",
        "C-Vlan",
        "S-Vlan",
        "TPMR",
    ];
    names.into_iter().enumerate().filter(|(bit, _)| bits & (2 << bit) != 0).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_understood_in_ironics_words() {
        let tlvs = read(&json!([
            [1, "04112233aabbcc"],
            [2, "0545746865726e6574312f32"],
            [5, "73772d31"],
            [7, "00140004"],
            [8, "0501c0000202020000000100"],
            [127, "0080c2010064"],
            [127, "0080c30100"],
            [127, "0080c20300650374776f"],
            [127, "00120f0405dc"],
            [4, "xx"],
            [0, ""]
        ]));
        let seen = parse(&tlvs);
        assert_eq!(seen["switch_chassis_id"], "11:22:33:aa:bb:cc");
        assert_eq!(seen["switch_port_id"], "Ethernet1/2");
        assert_eq!(seen["switch_system_name"], "sw-1");
        assert_eq!(seen["switch_capabilities_support"], json!(["Bridge", "Router"]));
        assert_eq!(seen["switch_capabilities_enabled"], json!(["Bridge"]));
        assert_eq!(seen["switch_mgmt_addresses"], json!(["192.0.2.2"]));
        assert_eq!(seen["switch_port_untagged_vlan_id"], 100);
        assert_eq!(seen["switch_port_vlans"], json!([{"id": 101, "name": "two"}]));
        assert_eq!(seen["switch_port_mtu"], 1500);
        let link = local_link(&tlvs);
        assert!(link.contains(&("switch_id".to_owned(), "11:22:33:aa:bb:cc".to_owned())), "{link:?}");
        assert!(link.contains(&("port_id".to_owned(), "Ethernet1/2".to_owned())), "{link:?}");
        assert!(link.contains(&("switch_info".to_owned(), "sw-1".to_owned())), "{link:?}");
    }

    #[test]
    fn nothing_that_a_network_sends_breaks_the_parser() {
        for kind in 0..=255_u8 {
            for length in 0..12 {
                for fill in [0, 1, 5, 0xff] {
                    parse(&[(kind, vec![fill; length])]);
                    parse(&[(127, [vec![0, 0x80, 0xc2, kind], vec![fill; length]].concat())]);
                    local_link(&[(kind, vec![fill; length])]);
                }
            }
        }
    }
}
