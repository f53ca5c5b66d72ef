//! What the operator decides about DHCP.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// What our DHCP does on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DhcpMode {
    /// Nothing.
    #[default]
    Off,
    /// Gives addresses and boot files.
    Full,
    /// Gives boot files beside another server that gives addresses.
    Proxy,
}

/// File names of the first-stage loaders, relative to the TFTP root (`[pxe]` in config.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFileNames {
    /// `pxe` on BIOS.
    pub pxe_bootfile_name: String,
    /// `pxe` on UEFI.
    pub uefi_pxe_bootfile_name: String,
    /// `ipxe` on BIOS.
    pub ipxe_bootfile_name: String,
    /// `ipxe` on UEFI.
    pub uefi_ipxe_bootfile_name: String,
}

impl Default for BootFileNames {
    fn default() -> BootFileNames {
        BootFileNames {
            pxe_bootfile_name: "pxelinux.0".to_owned(),
            uefi_pxe_bootfile_name: "bootx64.efi".to_owned(),
            ipxe_bootfile_name: "undionly.kpxe".to_owned(),
            uefi_ipxe_bootfile_name: "snponly.efi".to_owned(),
        }
    }
}

/// Settings of the DHCP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpSettings {
    /// What it does.
    pub mode: DhcpMode,
    /// The network interface it serves, e.g. `br-prov`. Needed when the host has more than one.
    pub interface: Option<String>,
    /// Our address on that network: server identifier, and where the answers come from.
    pub address: Ipv4Addr,
    /// First address of the pool.
    pub range_start: Ipv4Addr,
    /// Last address of the pool.
    pub range_end: Ipv4Addr,
    /// Mask of the network of the pool.
    pub netmask: Ipv4Addr,
    /// Default gateway, if any.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// How long an address is given for.
    pub lease_time: Duration,
    /// TFTP server that clients are sent to; `None` is `address`.
    pub tftp_server: Option<Ipv4Addr>,
    /// Base URL of the HTTP boot server, without a slash at the end.
    pub http_url: String,
    /// Loader names.
    pub boot_files: BootFileNames,
    /// Only ports of enrolled nodes get an answer.
    pub known_only: bool,
    /// Where leases survive a restart; `None` keeps them in memory.
    pub lease_file: Option<PathBuf>,
    /// Sends an IPv6 router advertisement without a prefix on `interface`, because iPXE waits for one before
    /// it goes on (see [`super::ra`]).
    pub router_advertisements: bool,
}

impl Default for DhcpSettings {
    fn default() -> DhcpSettings {
        DhcpSettings {
            mode: DhcpMode::Off,
            interface: None,
            address: Ipv4Addr::UNSPECIFIED,
            range_start: Ipv4Addr::UNSPECIFIED,
            range_end: Ipv4Addr::UNSPECIFIED,
            netmask: Ipv4Addr::new(255, 255, 255, 0),
            router: None,
            dns: Vec::new(),
            lease_time: Duration::from_secs(600),
            tftp_server: None,
            http_url: String::new(),
            boot_files: BootFileNames::default(),
            known_only: true,
            lease_file: None,
            router_advertisements: true,
        }
    }
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[dhcp] {key}: {reason}")]
pub struct UnusableSetting {
    /// Option name.
    pub key: &'static str,
    /// Why, and what would do.
    pub reason: String,
}

impl DhcpSettings {
    /// Checks what can be checked on paper.
    ///
    /// # Errors
    /// [`UnusableSetting`] names the first setting that cannot work.
    pub fn check(&self) -> Result<(), UnusableSetting> {
        let wrong = |key, reason: String| Err(UnusableSetting { key, reason });
        if self.mode == DhcpMode::Off {
            return Ok(());
        }
        if self.address.is_unspecified() {
            return wrong("address", "give our own address on the provisioning network".to_owned());
        }
        if self.mode == DhcpMode::Proxy {
            return Ok(());
        }
        let mask = self.netmask.to_bits();
        if mask.count_ones() != mask.leading_ones() {
            return wrong("netmask", format!("{} is no netmask", self.netmask));
        }
        if self.range_start.is_unspecified() || self.range_start > self.range_end {
            let reason = format!("{} to {} is no range", self.range_start, self.range_end);
            return wrong("range_start", reason);
        }
        if !self.same_network(self.range_end) {
            let reason = format!("{} is not in the network of {}", self.range_end, self.range_start);
            return wrong("range_end", reason);
        }
        if self.lease_time < Duration::from_secs(60) {
            return wrong("lease_time", "at least 60 s, or clients do nothing but renew".to_owned());
        }
        Ok(())
    }

    /// Whether `address` is in the network of the pool.
    pub(crate) fn same_network(&self, address: Ipv4Addr) -> bool {
        let mask = self.netmask.to_bits();
        address.to_bits() & mask == self.range_start.to_bits() & mask
    }

    /// The broadcast address of the pool's network.
    pub(crate) fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.range_start.to_bits() | !self.netmask.to_bits())
    }

    /// Whether `address` may be given to a client.
    pub(crate) fn in_pool(&self, address: Ipv4Addr) -> bool {
        let network = Ipv4Addr::from_bits(self.range_start.to_bits() & self.netmask.to_bits());
        let taken = [self.address, network, self.broadcast()];
        (self.range_start..=self.range_end).contains(&address)
            && !taken.contains(&address)
            && self.router != Some(address)
            && self.tftp_server != Some(address)
    }

    /// Where clients find TFTP.
    pub(crate) fn tftp(&self) -> Ipv4Addr {
        self.tftp_server.unwrap_or(self.address)
    }
}
