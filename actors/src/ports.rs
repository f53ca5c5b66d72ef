//! Which address belongs to which node: for look-ups by MAC, and for the DHCP server. Node actors keep it true, each
//! for its own node, in the moment their ports change.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use ferric_drivers::protocol::dhcp::{Mac, PortEntry, PortIndex};
use ferric_schema::Port;
use uuid::Uuid;

/// See the module.
pub(crate) struct PortBook {
    known: RwLock<Known>,
    index: Arc<PortIndex>,
}

#[derive(Default)]
struct Known {
    owner: HashMap<String, Uuid>,
    of_node: HashMap<Uuid, Vec<String>>,
}

impl PortBook {
    pub(crate) fn new(index: Arc<PortIndex>) -> PortBook {
        PortBook { known: RwLock::default(), index }
    }

    /// These are the node's ports now.
    pub(crate) fn set(&self, node: Uuid, ports: &[Port]) {
        // every single change leaves the maps usable, so a panic elsewhere does not poison them for us
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let now: Vec<String> = ports.iter().map(|port| port.address.clone()).collect();
        let before = if now.is_empty() {
            known.of_node.remove(&node)
        } else {
            known.of_node.insert(node, now.clone())
        };
        for gone in before.unwrap_or_default().into_iter().filter(|address| !now.contains(address)) {
            // another node may have it already: ports move
            if known.owner.get(&gone) == Some(&node) {
                known.owner.remove(&gone);
                if let Ok(mac) = gone.parse::<Mac>() {
                    self.index.remove(mac);
                }
            }
        }
        for port in ports {
            known.owner.insert(port.address.clone(), node);
            if let Ok(mac) = port.address.parse::<Mac>() {
                self.index.insert(mac, PortEntry { node, pxe_enabled: port.pxe_enabled });
            }
        }
    }

    /// The nodes that own these addresses, each once.
    pub(crate) fn owners(&self, addresses: &[String]) -> Vec<Uuid> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Uuid> = addresses
            .iter()
            .filter_map(|address| known.owner.get(&address.to_lowercase()).copied())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

#[cfg(test)]
mod tests {
    use ferric_machine::Timestamp;

    use super::*;

    #[test]
    fn a_port_that_moved_is_not_lost_when_its_old_node_learns_of_it_last() {
        let book = PortBook::new(Arc::new(PortIndex::default()));
        let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
        let port = |node| Port::new(Uuid::new_v4(), node, "52:54:00:00:00:01", Timestamp(0));
        book.set(a, &[port(a)]);
        book.set(b, &[port(b)]);
        book.set(a, &[]);
        assert_eq!(book.owners(&["52:54:00:00:00:01".to_uppercase()]), [b]);
        assert_eq!(book.index.len(), 1);
        book.set(b, &[]);
        assert!(book.owners(&["52:54:00:00:00:01".into()]).is_empty() && book.index.is_empty());
    }
}
