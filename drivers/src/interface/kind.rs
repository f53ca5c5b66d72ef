//! The kinds of interface.

use std::collections::BTreeMap;

/// The kinds of interface a node has a field for, in the order of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the names are Ironic's own
pub enum Kind {
    Bios,
    Boot,
    Console,
    Deploy,
    Firmware,
    Inspect,
    Management,
    Network,
    Power,
    Raid,
    Rescue,
    Storage,
    Vendor,
}

impl Kind {
    /// All thirteen.
    pub const ALL: [Kind; 13] = [
        Kind::Bios,
        Kind::Boot,
        Kind::Console,
        Kind::Deploy,
        Kind::Firmware,
        Kind::Inspect,
        Kind::Management,
        Kind::Network,
        Kind::Power,
        Kind::Raid,
        Kind::Rescue,
        Kind::Storage,
        Kind::Vendor,
    ];

    /// The word before `_interface`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Bios => "bios",
            Kind::Boot => "boot",
            Kind::Console => "console",
            Kind::Deploy => "deploy",
            Kind::Firmware => "firmware",
            Kind::Inspect => "inspect",
            Kind::Management => "management",
            Kind::Network => "network",
            Kind::Power => "power",
            Kind::Raid => "raid",
            Kind::Rescue => "rescue",
            Kind::Storage => "storage",
            Kind::Vendor => "vendor",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = ferric_machine::UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, Self::Err> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| ferric_machine::UnknownWord { what: "interface", word: word.to_owned() })
    }
}

/// Interface names by kind, as chosen by the client or resolved.
pub type Chosen = BTreeMap<Kind, String>;
