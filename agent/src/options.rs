//! What the agent is told: by the kernel's command line in a ramdisk, by flags in a test.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferric_agent_wire::{AGENT_PORT, Secret};
use thiserror::Error;

use crate::inspect;

/// How `standby.power_off` switches off. Called once, on a thread of its own.
pub type PowerOff = Arc<dyn Fn() + Send + Sync>;

/// How long to wait for what.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Until the image server has answered at all.
    pub first_contact: Duration,
    /// Without a single new byte of the image, once it had answered.
    pub stalled: Duration,
    /// Without a byte on one connection before it is given up.
    pub read: Duration,
    /// First pause between attempts; doubles up to thirty times itself.
    pub back_off: Duration,
    /// Until the node has been found; None = for ever.
    pub lookup: Option<Duration>,
    /// Overrides the heartbeat interval that follows from the server's timeout; for tests.
    pub heartbeat: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_contact: Duration::from_secs(120),
            stalled: Duration::from_secs(1800),
            read: Duration::from_secs(30),
            back_off: Duration::from_millis(500),
            lookup: None,
            heartbeat: None,
        }
    }
}

/// Everything the agent is told.
#[derive(Clone)]
pub struct Options {
    /// The API's base addresses, tried in turn.
    pub api_urls: Vec<String>,
    /// The MAC that the firmware booted from, `aa:bb:cc:dd:ee:ff`.
    pub boot_mac: Option<String>,
    /// Accept any certificate of API and image server.
    pub insecure: bool,
    /// Log to the console as well.
    pub debug: bool,
    /// Serve commands over TLS.
    pub tls: bool,
    /// Address to serve commands on.
    pub listen: SocketAddr,
    /// Address to tell the conductor instead of the one that routes towards the API.
    pub advertise: Option<IpAddr>,
    /// Folder of the kernel's view, `/sys`.
    pub sys: PathBuf,
    /// Folder of the device files, `/dev`.
    pub dev: PathBuf,
    /// Folder of processes and the kernel's numbers, `/proc`; only read.
    pub proc: PathBuf,
    /// Folder for what must survive a restart of the agent within one boot (the token).
    pub state: PathBuf,
    /// Folder of the ramdisk's `shadow`, which `rescue.finalize_rescue` writes; None: there is nobody to rescue here.
    pub rescue_etc: Option<PathBuf>,
    /// What to find out and where to send it before the lookup.
    pub inspection: inspect::Settings,
    /// A token given beforehand (virtual media).
    pub token: Option<Secret>,
    /// Node to ask for, if known.
    pub node_uuid: Option<String>,
    /// True only inside a deploy ramdisk: real disks and real power.
    pub machine: bool,
    /// What `standby.power_off` does.
    pub power_off: PowerOff,
    /// Waiting times.
    pub limits: Limits,
}

/// Why the agent cannot start.
#[derive(Debug, Error)]
pub enum OptionsError {
    /// No API address anywhere.
    #[error("no API address: give ipa-api-url=URL on the kernel command line or --api-url URL")]
    NoApi,
    /// A flag that does not exist or lacks its value.
    #[error("{0}: unknown flag or missing value; try --help")]
    Flag(String),
    /// Outside a ramdisk real disks are out of bounds.
    #[error(
        "this is not a deploy ramdisk (no {marker}): give --sys, --dev and --state folders to run on files"
    )]
    NotRamdisk {
        /// The file whose presence makes a ramdisk.
        marker: &'static str,
    },
}

/// The file that the ramdisk's builder puts in; without it the agent refuses real disks.
pub const RAMDISK_MARKER: &str = "/etc/ferric-ramdisk";

/// The text of `--help`.
pub const HELP: &str = "ferric-agent: the deploy ramdisk's agent

usage: ferric-agent [--api-url URL] [--listen IP:PORT] [--advertise IP] [--node UUID] [--no-tls] [--insecure] [--debug]
                    [--inspect URL] [--sys DIR --dev DIR --state DIR] [--proc DIR]

In a deploy ramdisk it takes everything from the kernel command line: ipa-api-url, BOOTIF, ipa-insecure, ipa-debug,
ipa-agent-token, ipa-node-uuid, ferric-no-tls, ferric-advertise, ipa-inspection-callback-url, ipa-inspection-collectors
(default, logs, pci-devices, lldp), ipa-collect-lldp, ipa-lldp-timeout. Elsewhere it only works on a fake machine:
  ferric-agent --api-url http://127.0.0.1:6385 --sys /tmp/m/sys --dev /tmp/m/dev --state /tmp/m";

impl Options {
    /// Options for `api_url`, all else at rest: TLS, port 9999, `/sys`, `/dev`, no machine, no power.
    pub fn new(api_url: impl Into<String>) -> Self {
        Self {
            api_urls: vec![api_url.into()],
            boot_mac: None,
            insecure: false,
            debug: false,
            tls: true,
            listen: SocketAddr::from(([0, 0, 0, 0], AGENT_PORT)),
            advertise: None,
            sys: PathBuf::from("/sys"),
            dev: PathBuf::from("/dev"),
            proc: PathBuf::from("/proc"),
            state: PathBuf::from("/run"),
            rescue_etc: None,
            inspection: inspect::Settings::default(),
            token: None,
            node_uuid: None,
            machine: false,
            power_off: Arc::new(|| tracing::warn!("asked to power off, but this is no machine")),
            limits: Limits::default(),
        }
    }

    /// Takes up what a kernel command line says; unknown words are none of our business.
    pub fn read_kernel_line(&mut self, line: &str) {
        for word in line.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, "1"));
            match key {
                "ipa-api-url" => self.api_urls = split_urls(value),
                "ipa-inspection-callback-url" => self.inspection.callback = split_urls(value),
                "ipa-inspection-collectors" => self.inspection.collectors = Some(split_names(value)),
                "ipa-collect-lldp" => self.inspection.lldp = truth(value),
                "ipa-lldp-timeout" => {
                    // anything else leaves the default
                    if let Ok(seconds) = value.parse::<f32>()
                        && seconds.is_finite()
                    {
                        self.inspection.lldp_timeout = Duration::from_secs_f32(seconds.clamp(0.0, 600.0));
                    }
                }
                "BOOTIF" => self.boot_mac = boot_mac(value),
                "ipa-insecure" => self.insecure = truth(value),
                "ipa-debug" => self.debug = truth(value),
                "ipa-agent-token" => self.token = Some(Secret::new(value)),
                "ipa-node-uuid" => self.node_uuid = Some(value.to_owned()),
                "ipa-advertise-host" | "ferric-advertise" => self.advertise = value.parse().ok(),
                "ferric-no-tls" => self.tls = !truth(value),
                _ => {}
            }
        }
    }

    /// Takes up flags. Errors: [`OptionsError::Flag`].
    pub fn read_flags(&mut self, flags: impl IntoIterator<Item = String>) -> Result<(), OptionsError> {
        let mut flags = flags.into_iter();
        while let Some(flag) = flags.next() {
            let mut value = || flags.next().ok_or_else(|| OptionsError::Flag(flag.clone()));
            match flag.as_str() {
                "--api-url" => self.api_urls = split_urls(&value()?),
                "--listen" => {
                    self.listen = value()?.parse().map_err(|_| OptionsError::Flag(flag.clone()))?;
                }
                "--advertise" => {
                    self.advertise = Some(value()?.parse().map_err(|_| OptionsError::Flag(flag.clone()))?);
                }
                "--inspect" => self.inspection.callback = split_urls(&value()?),
                "--proc" => self.proc = PathBuf::from(value()?),
                "--node" => self.node_uuid = Some(value()?),
                "--sys" => self.sys = PathBuf::from(value()?),
                "--dev" => self.dev = PathBuf::from(value()?),
                "--state" => self.state = PathBuf::from(value()?),
                "--no-tls" => self.tls = false,
                "--insecure" => self.insecure = true,
                "--debug" => self.debug = true,
                _ => return Err(OptionsError::Flag(flag)),
            }
        }
        Ok(())
    }

    /// Whether there is an API to find the node at. Ironic names none to a ramdisk that is only to inspect.
    pub fn has_api(&self) -> bool {
        self.api_urls.iter().any(|url| !url.is_empty())
    }

    /// Checks that the whole makes sense. Errors: no API; real disks outside a ramdisk.
    pub fn check(&self) -> Result<(), OptionsError> {
        if !self.has_api() && self.inspection.targets(&self.api_urls).is_empty() {
            return Err(OptionsError::NoApi);
        }
        let real = |path: &PathBuf, system: &str| path.as_path() == std::path::Path::new(system);
        if !self.machine && (real(&self.sys, "/sys") || real(&self.dev, "/dev")) {
            return Err(OptionsError::NotRamdisk { marker: RAMDISK_MARKER });
        }
        Ok(())
    }
}

fn split_urls(value: &str) -> Vec<String> {
    value
        .split(',')
        .map(|url| url.trim().trim_end_matches('/').to_owned())
        .filter(|url| !url.is_empty())
        .collect()
}

fn split_names(value: &str) -> Vec<String> {
    value.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn truth(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off" | "")
}

/// `01-aa-bb-cc-dd-ee-ff` (pxelinux) or `aa:bb:cc:dd:ee:ff` (iPXE) as the latter.
fn boot_mac(value: &str) -> Option<String> {
    let mac = value.to_ascii_lowercase().replace('-', ":");
    let mac = if mac.len() == 20 { mac[3..].to_owned() } else { mac };
    (mac.len() == 17 && mac.is_ascii()).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_line_of_pxelinux_and_of_ipxe_is_understood() {
        let mut options = Options::new("");
        options.read_kernel_line(
            "selinux=0 text ipa-api-url=http://10.0.0.1:6385/,http://10.0.0.2:6385 ipa-debug=1 BOOTIF=01-52-54-00-AA-bb-01",
        );
        assert_eq!(options.api_urls, ["http://10.0.0.1:6385", "http://10.0.0.2:6385"]);
        assert_eq!(options.boot_mac.as_deref(), Some("52:54:00:aa:bb:01"));
        assert!(options.debug && !options.insecure && options.tls);
        options.read_kernel_line("BOOTIF=52:54:00:aa:bb:02 ferric-no-tls ipa-insecure=0");
        assert_eq!(options.boot_mac.as_deref(), Some("52:54:00:aa:bb:02"));
        assert!(!options.tls && !options.insecure);
    }

    #[test]
    fn a_kernel_line_that_only_asks_for_inspection_is_enough() {
        let mut options = Options::new("");
        options.machine = true;
        assert!(options.check().is_err());
        options.read_kernel_line("ipa-inspection-callback-url=http://10.0.0.1:6385/v1/continue_inspection");
        options.check().expect("somewhere to report to");
        let targets = options.inspection.targets(&options.api_urls);
        assert_eq!(targets, ["http://10.0.0.1:6385/v1/continue_inspection"]);
        options.read_kernel_line(
            "ipa-inspection-collectors=default,,pci-devices ipa-collect-lldp=1 ipa-lldp-timeout=2.5",
        );
        assert_eq!(
            options.inspection.collectors.as_deref(),
            Some(&["default".into(), "pci-devices".into()][..])
        );
        assert!(options.inspection.lldp && options.inspection.lldp_timeout == Duration::from_millis(2500));
        options.read_kernel_line("ipa-lldp-timeout=NaN ipa-lldp-timeout=x");
        assert_eq!(options.inspection.lldp_timeout, Duration::from_millis(2500));
        let mut api = Options::new("http://10.0.0.1:6385");
        assert!(api.inspection.targets(&api.api_urls).is_empty(), "an API alone asks for no inspection");
        api.read_kernel_line("ipa-inspection-collectors=default");
        assert_eq!(api.inspection.targets(&api.api_urls), ["http://10.0.0.1:6385/v1/continue_inspection"]);
    }

    #[test]
    fn real_disks_are_refused_outside_a_ramdisk() {
        let mut options = Options::new("http://127.0.0.1:1");
        assert!(matches!(options.check(), Err(OptionsError::NotRamdisk { .. })));
        options.read_flags(["--sys", "/tmp/a", "--dev", "/tmp/b"].map(str::to_owned)).expect("flags");
        options.check().expect("files are fine");
        options.dev = PathBuf::from("/dev");
        assert!(options.check().is_err());
        assert!(Options::new("").check().is_err());
    }
}
