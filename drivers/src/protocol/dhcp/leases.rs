//! Which address belongs to whom: one address per port for good, as long as the pool lasts.

use std::collections::{BTreeSet, HashMap};
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
#[derive(Debug)]
pub struct Leases {
    by_mac: HashMap<Mac, Lease>,
    by_address: HashMap<Ipv4Addr, Mac>,
    /// Who loses its address first: with a full pool that must not take a look at all of them.
    by_expiry: BTreeSet<(Timestamp, Mac)>,
    /// No address of this pool is free below the third.
    free_from: (Ipv4Addr, Ipv4Addr, u32),
    declined: HashMap<Ipv4Addr, Timestamp>,
    changes: String,
}

impl Default for Leases {
    fn default() -> Leases {
        Leases {
            by_mac: HashMap::new(),
            by_address: HashMap::new(),
            by_expiry: BTreeSet::new(),
            free_from: (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, 0),
            declined: HashMap::new(),
            changes: String::new(),
        }
    }
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
        let address = wish
            .filter(|address| settings.in_pool(*address) && self.is_free(*address, now))
            .or_else(|| self.first_free(settings, now))
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

    fn is_free(&self, address: Ipv4Addr, now: Timestamp) -> bool {
        !self.by_address.contains_key(&address)
            && self.declined.get(&address).is_none_or(|until| *until <= now)
    }

    /// The first address of the pool that nobody has; looks only where one may be.
    fn first_free(&mut self, settings: &DhcpSettings, now: Timestamp) -> Option<Ipv4Addr> {
        let over: Vec<Ipv4Addr> =
            self.declined.iter().filter(|(_, until)| **until <= now).map(|(address, _)| *address).collect();
        for address in over {
            self.declined.remove(&address);
            self.freed(address);
        }
        let (start, end) = (settings.range_start, settings.range_end);
        if (self.free_from.0, self.free_from.1) != (start, end) {
            self.free_from = (start, end, start.to_bits());
        }
        let mut range = self.free_from.2..=end.to_bits();
        let found = range.find(|address| {
            let address = Ipv4Addr::from_bits(*address);
            settings.in_pool(address) && self.is_free(address, now)
        });
        self.free_from.2 = found.unwrap_or(end.to_bits().saturating_add(1));
        found.map(Ipv4Addr::from_bits)
    }

    fn freed(&mut self, address: Ipv4Addr) {
        self.free_from.2 = self.free_from.2.min(address.to_bits().max(self.free_from.0.to_bits()));
    }

    fn put(&mut self, mac: Mac, lease: Lease) {
        // an address has one owner: whoever had it before loses it
        if let Some(loser) = self.by_address.insert(lease.address, mac).filter(|owner| *owner != mac)
            && let Some(lost) = self.by_mac.remove(&loser)
        {
            self.by_expiry.remove(&(lost.expires, loser));
        }
        self.by_expiry.insert((lease.expires, mac));
        let Some(old) = self.by_mac.insert(mac, lease) else { return };
        if old.expires != lease.expires {
            self.by_expiry.remove(&(old.expires, mac));
        }
        if old.address != lease.address {
            self.by_address.remove(&old.address);
            self.freed(old.address);
        }
    }

    fn forget(&mut self, mac: Mac) {
        if let Some(lease) = self.by_mac.remove(&mac) {
            self.by_address.remove(&lease.address);
            self.by_expiry.remove(&(lease.expires, mac));
            self.freed(lease.address);
        }
    }

    fn take_oldest(&mut self, settings: &DhcpSettings, now: Timestamp) -> Option<Ipv4Addr> {
        let over = self.by_expiry.iter().take_while(|(expires, _)| *expires <= now);
        let mut over = over.filter_map(|(_, mac)| Some((*mac, self.get(*mac)?)));
        let (mac, lease) = over.find(|(_, lease)| settings.in_pool(lease.address))?;
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
