//! Where the BMC is, as it says itself over the system interface: IPMI 2.0 §23.2 (Get LAN Configuration Parameters).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The BMC's own network card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bmc {
    /// IPv4 address.
    pub v4: Option<String>,
    /// IPv6 address.
    pub v6: Option<String>,
    /// MAC.
    pub mac: Option<String>,
}

/// Channels that may lead to a LAN.
const CHANNELS: std::ops::RangeInclusive<u8> = 1..=11;

/// The parameters asked for, IPMI 2.0 table 23-4.
mod parameter {
    pub(super) const IPV4: u8 = 3;
    pub(super) const MAC: u8 = 5;
    pub(super) const STATIC_IPV6: u8 = 56;
    pub(super) const DYNAMIC_IPV6: u8 = 59;
}

/// Asks the BMC behind `dev/ipmi0`; everything is unknown when there is none. Blocks, seconds at most.
pub fn ask(dev: &Path) -> Bmc {
    let names = ["ipmi0", "ipmi/0", "ipmidev/0"];
    let Some(path) = names.iter().map(|name| dev.join(name)).find(|path| path.exists()) else {
        return Bmc::default();
    };
    match crate::ipmi::Device::open(&path) {
        Ok(mut device) => learn(|channel, parameter| device.lan_parameter(channel, parameter)),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the BMC cannot be asked for its address");
            Bmc::default()
        }
    }
}

/// The first channel with a usable address gives the MAC; `get` answers with a parameter's data.
fn learn(mut get: impl FnMut(u8, u8) -> io::Result<Vec<u8>>) -> Bmc {
    let mut bmc = Bmc::default();
    for channel in CHANNELS {
        let v4 = match get(channel, parameter::IPV4) {
            Ok(data) => ipv4(&data),
            // no such channel, or no LAN behind it
            Err(error) if error.kind() == io::ErrorKind::Unsupported => continue,
            Err(error) => {
                tracing::warn!(%error, channel, "asking the BMC");
                break;
            }
        };
        let mut ipv6_of = |parameter| get(channel, parameter).ok().and_then(|data| ipv6(&data));
        let v6 = ipv6_of(parameter::STATIC_IPV6).or_else(|| ipv6_of(parameter::DYNAMIC_IPV6));
        if bmc.mac.is_none() && (v4.is_some() || v6.is_some()) {
            bmc.mac = get(channel, parameter::MAC).ok().and_then(|data| mac(&data));
        }
        bmc.v4 = bmc.v4.or(v4);
        bmc.v6 = bmc.v6.or(v6);
        if bmc.v4.is_some() && bmc.v6.is_some() {
            break;
        }
    }
    bmc
}

fn ipv4(data: &[u8]) -> Option<String> {
    let bytes: [u8; 4] = data.get(..4)?.try_into().ok()?;
    let ip = Ipv4Addr::from(bytes);
    (!ip.is_unspecified()).then(|| ip.to_string())
}

/// Set selector, source (bit 7: enabled, in static ones), address, prefix, status (0: active).
fn ipv6(data: &[u8]) -> Option<String> {
    let bytes: [u8; 16] = data.get(2..18)?.try_into().ok()?;
    let ip = Ipv6Addr::from(bytes);
    (!ip.is_unspecified() && !ip.is_unicast_link_local()).then(|| ip.to_string())
}

fn mac(data: &[u8]) -> Option<String> {
    let bytes = data.get(..6).filter(|bytes| bytes.iter().any(|&byte| byte != 0))?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_channel_with_an_address_is_the_bmcs() {
        let absent = || Err(io::Error::from(io::ErrorKind::Unsupported));
        let mut asked = 0;
        let bmc = learn(|channel, parameter| {
            asked += 1;
            match (channel, parameter) {
                (1, parameter::IPV4) => Ok(vec![0; 4]),
                (3, parameter::IPV4) => Ok(vec![10, 0, 0, 7]),
                (3, parameter::MAC) => Ok(vec![0x52, 0x54, 0, 0xaa, 0xbb, 0xff]),
                (8, parameter::IPV4) => Ok(vec![10, 0, 0, 8]),
                _ => absent(),
            }
        });
        let v4 = Some("10.0.0.7".to_owned());
        assert_eq!(bmc, Bmc { v4, v6: None, mac: Some("52:54:00:aa:bb:ff".to_owned()) });
        let v6 = learn(|channel, parameter| match (channel, parameter) {
            (1, parameter::IPV4) => Ok(vec![0; 4]),
            (1, parameter::STATIC_IPV6) => {
                Ok([&[0, 0x80], &[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[5, 64, 0]].concat())
            }
            _ => absent(),
        });
        assert_eq!((v6.v4, v6.v6.as_deref()), (None, Some("2001:db8::5")));
        assert_eq!(learn(|_, _| Ok(Vec::new())), Bmc::default(), "answers too short for anything");
        let mut calls = 0;
        learn(|_, _| {
            calls += 1;
            Err(io::Error::from(io::ErrorKind::TimedOut))
        });
        assert_eq!(calls, 1, "a BMC that does not answer is not asked eleven times");
    }

    #[test]
    fn without_a_device_nothing_is_known() {
        let folder = tempfile::tempdir().expect("temp dir");
        assert_eq!(ask(folder.path()), Bmc::default());
    }
}
