//! Which disk, and how it is spoken to.

use std::time::Duration;

use super::chap::Chap;
use super::limits::Offer;

/// A disk behind an iSCSI target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IscsiTarget {
    /// Host name or address of the portal, an IPv6 address without brackets.
    pub address: String,
    /// TCP port of the portal, 3260 as a rule.
    pub port: u16,
    /// The target's name.
    pub iqn: String,
    /// The logical unit.
    pub lun: u16,
    /// User and secret, if the target wants them.
    pub chap: Option<Chap>,
}

impl IscsiTarget {
    /// `address:port`, as URLs have it.
    pub fn portal(&self) -> String {
        portal(&self.address, self.port)
    }
}

impl std::fmt::Display for IscsiTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "iSCSI target {} LUN {} at {}", self.iqn, self.lun, self.portal())
    }
}

pub(super) fn portal(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// How sessions behave; the defaults suit a deploy.
#[derive(Clone, Debug)]
pub struct IscsiSettings {
    /// The name of this side.
    pub initiator: String,
    /// What is proposed at login.
    pub offer: Offer,
    /// Commands at the target at a time.
    pub queue_depth: usize,
    /// The longest READ or WRITE, in bytes; the target may want less.
    pub transfer_bytes: u32,
    /// How much a [`super::Writer`] has in flight at most, in bytes.
    pub in_flight_bytes: u32,
    /// Whether a target may send us to another host, and not only to another port.
    pub redirects_elsewhere: bool,
    /// For the TCP connection.
    pub connect_timeout: Duration,
    /// For each answer while logging in.
    pub login_timeout: Duration,
    /// After so long without any sign of progress, a command is aborted and sent again.
    pub command_timeout: Duration,
    /// The same for commands that may take long: flushing, unmapping, WRITE SAME.
    pub flush_timeout: Duration,
    /// After so long without a word, the target is pinged.
    pub keepalive: Duration,
    /// After so long without an answer to a ping or an abort, the connection counts as lost.
    pub answer_timeout: Duration,
    /// For how long the first connection is tried.
    pub open_within: Duration,
    /// For how long, after the last success, lost connections are made anew and refused commands sent again.
    pub patience: Duration,
    /// The shortest and longest pause between two attempts.
    pub back_off: (Duration, Duration),
    /// How long a logout may take.
    pub goodbye: Duration,
}

impl Default for IscsiSettings {
    fn default() -> Self {
        Self {
            initiator: "iqn.2026-11.org.ferric:conductor".to_owned(),
            offer: Offer::default(),
            queue_depth: 16,
            transfer_bytes: 1024 * 1024,
            in_flight_bytes: 16 * 1024 * 1024,
            redirects_elsewhere: true,
            connect_timeout: Duration::from_secs(10),
            login_timeout: Duration::from_secs(15),
            command_timeout: Duration::from_secs(30),
            flush_timeout: Duration::from_secs(300),
            keepalive: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            open_within: Duration::from_secs(30),
            patience: Duration::from_secs(120),
            back_off: (Duration::from_millis(100), Duration::from_secs(5)),
            goodbye: Duration::from_secs(2),
        }
    }
}
