//! Which network ports are ours, and what each is to boot: what the DHCP server knows of the fleet.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use uuid::Uuid;

use super::Mac;

/// A port of an enrolled node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortEntry {
    /// The node it belongs to.
    pub node: Uuid,
    /// Whether the machine may network-boot from it.
    pub pxe_enabled: bool,
}

/// The boot interface that laid out files for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BootVia {
    /// PXELINUX or GRUB, from TFTP.
    Pxe,
    /// iPXE, from HTTP.
    Ipxe,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its port.
    pub port: PortEntry,
    /// What it is to boot now; `None` leaves the machine to its disk.
    pub boot: Option<BootVia>,
}

/// The ports of the fleet by address. Two sources feed it independently: actors tell which ports exist, boot
/// interfaces tell for which a ramdisk is laid out; so neither has to come first after a restart.
#[derive(Debug, Default)]
pub struct PortIndex {
    ports: RwLock<HashMap<Mac, PortEntry>>,
    boot: RwLock<HashMap<Mac, BootVia>>,
}

impl PortIndex {
    /// Adds or changes one port.
    pub fn insert(&self, mac: Mac, entry: PortEntry) {
        write(&self.ports).insert(mac, entry);
    }

    /// Forgets one port.
    pub fn remove(&self, mac: Mac) -> Option<PortEntry> {
        write(&self.ports).remove(&mac)
    }

    /// Forgets all ports of a node.
    pub fn remove_node(&self, node: Uuid) {
        write(&self.ports).retain(|_, entry| entry.node != node);
    }

    /// Puts these ports in the place of all.
    pub fn replace(&self, all: impl IntoIterator<Item = (Mac, PortEntry)>) {
        let all = all.into_iter().collect();
        *write(&self.ports) = all;
    }

    /// Tells what a port is to boot, `None` for its disk.
    pub fn set_boot(&self, mac: Mac, via: Option<BootVia>) {
        let mut boot = write(&self.boot);
        match via {
            Some(via) => boot.insert(mac, via),
            None => boot.remove(&mac),
        };
    }

    /// What a port boots, also when no actor has told of the port yet.
    #[must_use]
    pub fn boot(&self, mac: Mac) -> Option<BootVia> {
        read(&self.boot).get(&mac).copied()
    }

    /// What is known of an address; `None` when it is no port of ours.
    #[must_use]
    pub fn get(&self, mac: Mac) -> Option<Known> {
        let port = *read(&self.ports).get(&mac)?;
        let boot = self.boot(mac).filter(|_| port.pxe_enabled);
        Some(Known { port, boot })
    }

    /// How many ports there are.
    #[must_use]
    pub fn len(&self) -> usize {
        read(&self.ports).len()
    }

    /// True when there is no port.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

// Each map is valid after every single operation, so a panic elsewhere does not make it unusable.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
