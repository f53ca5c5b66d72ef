//! Who counts as one client of a boot server, and how much of its room each has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// How many places there are, and how many one client may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// All places.
    pub(crate) all: usize,
    /// Of one address (a router that translates addresses, or a forger). Of a /64 of IPv6, of which a host may have
    /// every address and a whole rack may have its own, half of all.
    pub(crate) of_one: usize,
}

/// An address, or the network of 64 bits that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    Address(IpAddr),
    Network(Ipv6Addr),
}

impl Client {
    /// The client alone, and the network it is in when that counts: on a link everybody is in the same.
    fn of(ip: IpAddr) -> [Option<Client>; 2] {
        let ip = ip.to_canonical();
        let network = match ip {
            IpAddr::V6(v6) if !v6.is_unicast_link_local() => {
                Some(Client::Network(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        };
        [Some(Client::Address(ip)), network]
    }

    /// Whether `ip` belongs to this client.
    pub(crate) fn has(self, ip: IpAddr) -> bool {
        Client::of(ip).contains(&Some(self))
    }
}

/// How many places each client has. As many entries as there are places, two for each at most.
#[derive(Debug, Default)]
pub(crate) struct Shares(HashMap<Client, usize>);

impl Shares {
    /// One more place for `ip`.
    pub(crate) fn add(&mut self, ip: IpAddr) {
        for client in Client::of(ip).into_iter().flatten() {
            *self.0.entry(client).or_default() += 1;
        }
    }

    /// One place less.
    pub(crate) fn remove(&mut self, ip: IpAddr) {
        for client in Client::of(ip).into_iter().flatten() {
            if let Some(count) = self.0.get_mut(&client) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(&client);
                }
            }
        }
    }

    /// Whoever of those that `ip` counts for has all that it may have.
    pub(crate) fn full(&self, ip: IpAddr, bounds: Bounds) -> Option<Client> {
        Client::of(ip).into_iter().flatten().find(|client| {
            let most = match client {
                Client::Address(_) => bounds.of_one,
                Client::Network(_) => (bounds.all / 2).max(bounds.of_one),
            };
            self.0.get(client).is_some_and(|count| *count >= most)
        })
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { all: 8, of_one: 2 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_has_its_share_however_it_is_written() {
        let mut shares = Shares::default();
        shares.add(ip("10.0.0.1"));
        shares.add(ip("::ffff:10.0.0.1"));
        assert_eq!(shares.full(ip("10.0.0.1"), BOUNDS), Some(Client::Address(ip("10.0.0.1"))));
        assert_eq!(shares.full(ip("10.0.0.2"), BOUNDS), None);
        shares.remove(ip("10.0.0.1"));
        assert_eq!(shares.full(ip("::ffff:10.0.0.1"), BOUNDS), None);
        shares.remove(ip("10.0.0.1"));
        assert!(shares.is_empty());
    }

    #[test]
    fn a_host_that_hops_through_its_network_has_half_and_a_rack_on_a_link_is_many() {
        let mut shares = Shares::default();
        for host in 1..=4 {
            assert_eq!(shares.full(ip(&format!("2001:db8::{host}")), BOUNDS), None, "{host}");
            shares.add(ip(&format!("2001:db8::{host}")));
            shares.add(ip(&format!("fe80::{host}")));
        }
        assert!(shares.full(ip("2001:db8::5"), BOUNDS).unwrap().has(ip("2001:db8::1")));
        assert_eq!(shares.full(ip("2001:db8:0:1::5"), BOUNDS), None);
        assert_eq!(shares.full(ip("fe80::5"), BOUNDS), None);
    }
}
