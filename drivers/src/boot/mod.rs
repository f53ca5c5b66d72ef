//! Boot interfaces.

mod artefacts;
mod fake;
pub(crate) mod folder;
pub(crate) mod images;
mod ipxe;
mod loaders;
mod netboot;
mod pxe;
mod settings;

pub use crate::protocol::dhcp::{BootFileNames, BootVia, Mac, NotAMac, PortEntry, PortIndex};
pub use fake::FakeBoot;
pub use folder::rebuild_index;
pub use ipxe::IpxeBoot;
pub use loaders::{LoaderReport, install_loaders};
pub use pxe::PxeBoot;
pub use settings::PxeSettings;

#[cfg(test)]
pub(crate) mod tests;
