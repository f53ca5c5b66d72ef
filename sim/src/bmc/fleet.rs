//! Many BMCs, one address each.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::{Air, Bmc, BmcConfig, Chassis, Hub};

/// From so many BMCs on, those of one port share a socket. Fewer have one each, so that other programs can use the port
/// on other addresses.
pub const SHARED_FROM: usize = 65;

/// Files this process needs besides the sockets of the fleet.
const SPARE_FILES: u64 = 512;

/// Simulated BMCs on consecutive addresses and one port.
pub struct BmcFleet {
    bmcs: Vec<Bmc>,
}

impl BmcFleet {
    /// Starts `count` BMCs at `first` and the addresses after it (see [`BmcFleet::address`]), all on `port` (0: each
    /// takes a free one). `chassis` gives the machine behind each. More than a few on one port of 127.0.0.0/8 share a
    /// socket (see [`SHARED_FROM`]); for the others this raises the limit of open files where it can.
    /// Must be called within a tokio runtime. Errors: as [`Bmc::start`].
    pub fn start(
        count: usize,
        first: Ipv4Addr,
        port: u16,
        config: &BmcConfig,
        mut chassis: impl FnMut(usize) -> Arc<dyn Chassis>,
    ) -> std::io::Result<Self> {
        if Self::shares(count, first, port) {
            let hub = Arc::new(Hub::start(port)?);
            hub.reserve(count);
            let join =
                |index| Bmc::join(&hub, Self::address(first, index), numbered(config, index), chassis(index));
            return Ok(Self { bmcs: (0..count).map(join).collect() });
        }
        raise_file_limit(count as u64 + SPARE_FILES);
        let bmcs = (0..count)
            .map(|index| {
                let address = SocketAddr::from((Self::address(first, index), port));
                Bmc::start(address, numbered(config, index), chassis(index))
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Self { bmcs })
    }

    /// Whether these BMCs share a socket.
    #[must_use]
    pub fn shares(count: usize, first: Ipv4Addr, port: u16) -> bool {
        port != 0
            && count >= SHARED_FROM
            && first.is_loopback()
            && Self::address(first, count - 1).is_loopback()
    }

    /// The same without sockets: see [`Bmc::in_process`].
    pub fn in_process(
        count: usize,
        first: Ipv4Addr,
        port: u16,
        config: &BmcConfig,
        mut chassis: impl FnMut(usize) -> Arc<dyn Chassis>,
        air: &Air,
    ) -> Self {
        let bmcs = (0..count).map(|index| {
            let address = SocketAddr::from((Self::address(first, index), port));
            Bmc::in_process(address, numbered(config, index), chassis(index), air.clone())
        });
        Self { bmcs: bmcs.collect() }
    }

    /// The address of the BMC with this index: they are consecutive, leaving out those that end in 0 or 255.
    #[must_use]
    pub fn address(first: Ipv4Addr, index: usize) -> Ipv4Addr {
        let [a, b, c, d] = first.octets().map(usize::from);
        let nth = ((a << 16 | b << 8 | c) * 254) + d.clamp(1, 254) - 1 + index;
        let (net, host) = (nth / 254, nth % 254 + 1);
        let octet = |bits: usize| u8::try_from(bits & 0xFF).unwrap_or(0);
        Ipv4Addr::new(octet(net >> 16), octet(net >> 8), octet(net), octet(host))
    }

    /// The BMCs, in the order of their addresses.
    #[must_use]
    pub fn bmcs(&self) -> &[Bmc] {
        &self.bmcs
    }
}

/// The BMCs of a fleet differ in their GUIDs.
fn numbered(config: &BmcConfig, index: usize) -> BmcConfig {
    let mut config = config.clone();
    config.guid[12..].copy_from_slice(&u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes());
    config
}

/// Best effort: where it fails, binding tells.
pub(crate) fn raise_file_limit(wanted: u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard).max(soft), hard);
    if soft < wanted && (raised.is_err() || hard < wanted) {
        tracing::warn!(
            soft,
            hard,
            wanted,
            "too few open files are allowed for this fleet: raise `ulimit -n`"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_addresses_are_distinct_and_loopback() {
        let first = Ipv4Addr::new(127, 20, 0, 1);
        let all: std::collections::HashSet<_> =
            (0..10_000).map(|index| BmcFleet::address(first, index)).collect();
        assert_eq!(all.len(), 10_000);
        assert!(all.iter().all(Ipv4Addr::is_loopback));
        assert!(all.contains(&first) && all.contains(&Ipv4Addr::new(127, 20, 1, 1)));
    }
}
