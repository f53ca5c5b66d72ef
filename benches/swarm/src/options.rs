//! What a swarm can be told.

use std::path::PathBuf;
use std::time::Duration;

use hyper::header::HeaderValue;
use serde_json::Value;

/// One part of a node's life. Each is done for every node before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Make the nodes and their ports.
    Enrol,
    /// `manage`: enroll to manageable.
    Manage,
    /// `inspect`: manageable to manageable.
    Inspect,
    /// `provide`: manageable to available.
    Provide,
    /// `active`: available to active.
    Deploy,
    /// Reboot what is active.
    Power,
    /// Change a field of each node.
    Patch,
    /// Read each node, and the whole list in pages.
    List,
    /// `deleted`: active to available.
    Undeploy,
    /// Remove the nodes.
    Delete,
}

impl Phase {
    /// All, in the order of a life.
    pub const ALL: [Phase; 10] = [
        Phase::Enrol,
        Phase::Manage,
        Phase::Inspect,
        Phase::Provide,
        Phase::Deploy,
        Phase::Power,
        Phase::Patch,
        Phase::List,
        Phase::Undeploy,
        Phase::Delete,
    ];

    /// The word for it on the command line and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Enrol => "enrol",
            Phase::Manage => "manage",
            Phase::Inspect => "inspect",
            Phase::Provide => "provide",
            Phase::Deploy => "deploy",
            Phase::Power => "power",
            Phase::Patch => "patch",
            Phase::List => "list",
            Phase::Undeploy => "undeploy",
            Phase::Delete => "delete",
        }
    }
}

impl std::str::FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|phase| phase.name() == text).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|phase| phase.name()).collect();
            format!("there is no phase '{text}'; the phases are {}", all.join(","))
        })
    }
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Closed loop: each connection sends its next request when the last one is answered.
    Closed,
    /// Open loop: so many nodes per second are begun, whatever the answers take; latency counts from the moment that
    /// was planned, so that a server that stalls does not hide what it makes wait.
    Open {
        /// Nodes begun per second.
        per_second: f64,
    },
}

/// Who the client is.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// Nobody asks.
    #[default]
    None,
    /// `X-Auth-Token`; the value is marked sensitive and never printed.
    Token(HeaderValue),
    /// `Authorization: Basic`; the value is marked sensitive and never printed.
    Basic(HeaderValue),
}

impl Auth {
    /// With a token. `None` when it cannot stand in a header.
    pub fn token(token: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(token).ok()?;
        value.set_sensitive(true);
        Some(Auth::Token(value))
    }

    /// With name and password. `None` when they cannot stand in a header.
    pub fn basic(user: &str, password: &str) -> Option<Self> {
        use base64::Engine as _;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
        value.set_sensitive(true);
        Some(Auth::Basic(value))
    }
}

/// What is deployed.
#[derive(Clone, Debug)]
pub enum Image {
    /// One that exists. The checksum is SHA-256 or SHA-512, told apart by its length.
    Url {
        /// Where agents find it.
        url: String,
        /// In hexadecimal.
        checksum: String,
    },
    /// One made of chance and served on loopback by the swarm itself.
    Own {
        /// Its size in bytes.
        bytes: usize,
    },
}

/// A process whose processor time and memory are put into the report.
#[derive(Clone, Debug)]
pub struct Watched {
    /// What the report calls it.
    pub name: String,
    /// Its id; its children count with it.
    pub pid: u32,
}

/// All that a swarm can be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The API, without `/v1`.
    pub endpoint: String,
    /// Who the client is.
    pub auth: Auth,
    /// Certificates (PEM) to trust besides the system's, for `https`.
    pub cacert: Option<PathBuf>,
    /// Hardware type of generated nodes.
    pub driver: String,
    /// Nodes and ports as `ferric sim --enroll-file` writes them; without it nodes are generated.
    pub enrol_file: Option<PathBuf>,
    /// Fields that every node is enrolled with besides, as in `inspect_interface` and `fake`.
    pub fields: Vec<(String, Value)>,
    /// How many nodes; `None` is all of the file.
    pub nodes: Option<usize>,
    /// What is done, in this order.
    pub phases: Vec<Phase>,
    /// So many nodes are begun and settled before the next; 0 takes all at once.
    pub wave: usize,
    /// When requests are sent.
    pub pace: Pace,
    /// Connections; in a closed loop also requests under way.
    pub concurrency: usize,
    /// The longest that a node may take from asked to its goal.
    pub timeout: Duration,
    /// Least time between two looks at the list of nodes.
    pub poll: Duration,
    /// How often 409 and 503 are tried again, as Ironic's clients do.
    pub retries: u32,
    /// Between two such tries.
    pub retry_interval: Duration,
    /// Names and addresses of generated nodes, and the bytes of the image.
    pub seed: u64,
    /// What is deployed on nodes whose driver wants an image.
    pub image: Image,
    /// Processes to watch.
    pub watched: Vec<Watched>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:6385".to_owned(),
            auth: Auth::None,
            cacert: None,
            driver: "fake-hardware".to_owned(),
            enrol_file: None,
            fields: Vec::new(),
            nodes: None,
            phases: Phase::ALL.to_vec(),
            wave: 0,
            pace: Pace::Closed,
            concurrency: 16,
            timeout: Duration::from_secs(1800),
            poll: Duration::from_millis(200),
            retries: 5,
            retry_interval: Duration::from_secs(2),
            seed: 1,
            image: Image::Own { bytes: 256 << 10 },
            watched: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let options = Options { auth: Auth::basic("me", "hidden").unwrap(), ..Options::default() };
        let text = format!("{options:?}");
        assert!(!text.contains("hidden") && !text.contains("bWU6aGlkZGVu"), "{text}");
        let text = format!("{:?}", Auth::token("hidden").unwrap());
        assert!(!text.contains("hidden"), "{text}");
    }

    #[test]
    fn every_phase_is_found_by_its_name() {
        for phase in Phase::ALL {
            assert_eq!(phase.name().parse(), Ok(phase));
        }
        assert!("dance".parse::<Phase>().unwrap_err().contains("enrol,manage"));
    }
}
