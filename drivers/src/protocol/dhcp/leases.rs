//! Which address belongs to whom: one address per port for good, as long as the pool lasts.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use ferric_machine::Timestamp;

use super::{DhcpSettings, Mac};

/// An offer that nobody takes is forgotten after this.
const OFFER: Duration = Duration::from_secs(60);
/// An address that a client found in use is left alone for this long.
const DECLINED: Duration = Duration::from_secs(3600);

/// An address given to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Until when it may not go to anybody else.
    pub expires: Timestamp,
    /// Taken by the client, not only offered.
    pub bound: bool,
}

/// All leases. Pure: time is an argument, and what has to be written is collected in [`Leases::take_changes`].
#[derive(Debug, Default)]
pub struct Leases {
    by_mac: HashMap<Mac, Lease>,
    by_address: HashMap<Ipv4Addr, Mac>,
    declined: HashMap<Ipv4Addr, Timestamp>,
    changes: String,
}

impl Leases {
    /// The lease of a port, expired or not.
    #[must_use]
    pub fn get(&self, mac: Mac) -> Option<Lease> {
        self.by_mac.get(&mac).copied()
    }

    /// How many ports have or had an address.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_mac.len()
    }

    /// True when no port ever had one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_mac.is_empty()
    }

    /// The address to offer to `mac`: its own of before, the one it wishes, one never given, or the one whose
    /// lease ended longest ago. `None` when the pool is exhausted.
    pub fn offer(
        &mut self,
        mac: Mac,
        wish: Option<Ipv4Addr>,
        settings: &DhcpSettings,
        now: Timestamp,
    ) -> Option<Ipv4Addr> {
        if let Some(lease) = self.get(mac).filter(|lease| settings.in_pool(lease.address)) {
            if lease.expires < now + OFFER {
                self.put(mac, Lease { expires: now + OFFER, ..lease });
            }
            return Some(lease.address);
        }
        self.declined.retain(|_, until| *until > now);
        let free = |address: &Ipv4Addr| {
            settings.in_pool(*address)
                && !self.by_address.contains_key(address)
                && !self.declined.contains_key(address)
        };
        let range = settings.range_start.to_bits()..=settings.range_end.to_bits();
        let address = wish
            .filter(|address| free(address))
            .or_else(|| range.map(Ipv4Addr::from_bits).find(|address| free(address)))
            .or_else(|| self.take_oldest(settings, now))?;
        self.put(mac, Lease { address, expires: now + OFFER, bound: false });
        Some(address)
    }

    /// Gives `address` to `mac` for the lease time, if it is its own or free. False is a NAK.
    pub fn bind(&mut self, mac: Mac, address: Ipv4Addr, settings: &DhcpSettings, now: Timestamp) -> bool {
        let owner = self.by_address.get(&address);
        let declined = self.declined.get(&address).is_some_and(|until| *until > now);
        let other_lease = self.get(mac).is_some_and(|lease| lease.address != address);
        if !settings.in_pool(address) || declined || owner.is_some_and(|owner| *owner != mac) || other_lease {
            return false;
        }
        let lease = Lease { address, expires: now + settings.lease_time, bound: true };
        self.put(mac, lease);
        self.note(mac, lease);
        true
    }

    /// The client chose another server: an offer of ours is void.
    pub fn withdraw(&mut self, mac: Mac) {
        if self.get(mac).is_some_and(|lease| !lease.bound) {
            self.forget(mac);
        }
    }

    /// The client needs its address no longer. It stays reserved for it until the pool runs short.
    pub fn release(&mut self, mac: Mac, address: Ipv4Addr, now: Timestamp) {
        if let Some(lease) = self.get(mac).filter(|lease| lease.address == address && lease.expires > now) {
            if !lease.bound {
                return self.forget(mac);
            }
            let lease = Lease { expires: now, ..lease };
            self.put(mac, lease);
            self.note(mac, lease);
        }
    }

    /// The client found its address in use by somebody else.
    pub fn decline(&mut self, mac: Mac, address: Ipv4Addr, now: Timestamp) {
        if self.get(mac).is_some_and(|lease| lease.address == address) {
            self.forget(mac);
            self.changes.push_str(&format!("{mac} -\n"));
            self.declined.insert(address, now + DECLINED);
        }
    }

    /// Lines that a lease file must get before the answer goes out; empty when nothing lasting changed.
    pub fn take_changes(&mut self) -> String {
        std::mem::take(&mut self.changes)
    }

    /// The whole table in the form of a lease file: `<mac> <address> <expires, µs since 1970>` per line.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut lines: Vec<String> =
            self.by_mac.iter().filter(|(_, l)| l.bound).map(|(mac, lease)| line(*mac, *lease)).collect();
        lines.sort_unstable();
        lines.concat()
    }

    /// Reads a lease file: later lines win, and a line that makes no sense (the last one, torn by a power
    /// cut) is passed over.
    #[must_use]
    pub fn from_text(text: &str) -> Leases {
        let mut leases = Leases::default();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let mut words = line.split_whitespace();
            let (Some(mac), Some(address)) = (words.next().and_then(|mac| mac.parse().ok()), words.next())
            else {
                continue;
            };
            if address == "-" {
                leases.forget(mac);
            }
            let expires = words.next().and_then(|word| word.parse().ok());
            if let (Ok(address), Some(expires)) = (address.parse(), expires) {
                leases.put(mac, Lease { address, expires: Timestamp(expires), bound: true });
            }
        }
        leases
    }

    fn put(&mut self, mac: Mac, lease: Lease) {
        // an address has one owner: whoever had it before loses it
        if let Some(loser) = self.by_address.insert(lease.address, mac).filter(|owner| *owner != mac) {
            self.by_mac.remove(&loser);
        }
        if let Some(old) = self.by_mac.insert(mac, lease).filter(|old| old.address != lease.address) {
            self.by_address.remove(&old.address);
        }
    }

    fn forget(&mut self, mac: Mac) {
        if let Some(lease) = self.by_mac.remove(&mac) {
            self.by_address.remove(&lease.address);
        }
    }

    fn take_oldest(&mut self, settings: &DhcpSettings, now: Timestamp) -> Option<Ipv4Addr> {
        let over = self.by_mac.iter().filter(|(_, l)| l.expires <= now && settings.in_pool(l.address));
        let (mac, lease) = over.min_by_key(|(mac, lease)| (lease.expires, **mac)).map(|(m, l)| (*m, *l))?;
        self.forget(mac);
        self.changes.push_str(&format!("{mac} -\n"));
        Some(lease.address)
    }

    fn note(&mut self, mac: Mac, lease: Lease) {
        self.changes.push_str(&line(mac, lease));
    }
}

fn line(mac: Mac, lease: Lease) -> String {
    format!("{mac} {} {}\n", lease.address, lease.expires.0)
}
