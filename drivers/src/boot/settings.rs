//! What the operator decides about booting from the network: `[pxe]` and parts of `[deploy]` of config.md.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use ferric_machine::BootMode;

use crate::protocol::dhcp::BootFileNames;

/// Settings of the boot interfaces `pxe` and `ipxe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PxeSettings {
    /// Folder that TFTP serves: loaders, and the files of `pxe`.
    pub tftp_root: PathBuf,
    /// Folder that HTTP serves: the files of `ipxe`.
    pub http_root: PathBuf,
    /// URL of `http_root` as machines reach it.
    pub http_url: String,
    /// TFTP server as machines reach it; `None` is the address of the DHCP server.
    pub tftp_server: Option<Ipv4Addr>,
    /// Kernel arguments of every ramdisk; `%default%` in a node's own stands for these.
    pub kernel_append_params: String,
    /// Loader names below `tftp_root`.
    pub boot_files: BootFileNames,
    /// Folders that loaders are copied from, the first that has one wins.
    pub loaders_dirs: Vec<PathBuf>,
    /// Where driver_info has no `deploy_kernel`: path, `file://` or `http(s)://` URL.
    pub deploy_kernel: Option<String>,
    /// Where driver_info has no `deploy_ramdisk`.
    pub deploy_ramdisk: Option<String>,
    /// Where driver_info has no `rescue_kernel`.
    pub rescue_kernel: Option<String>,
    /// Where driver_info has no `rescue_ramdisk`.
    pub rescue_ramdisk: Option<String>,
    /// `[conductor] file_url_allowed_paths`: where instance_info may name files of this host.
    pub instance_paths: Vec<PathBuf>,
    /// Fetching a kernel or ramdisk may take this long.
    pub download_timeout: Duration,
    /// Fetched kernels and ramdisks that no node uses are kept this long.
    pub image_cache_ttl: Duration,
    /// For nodes whose capabilities say nothing.
    pub default_boot_mode: BootMode,
}

impl Default for PxeSettings {
    fn default() -> PxeSettings {
        let debian = [
            "/usr/lib/ipxe",
            "/usr/lib/PXELINUX",
            "/usr/lib/syslinux/modules/bios",
            "/usr/lib/grub/x86_64-efi-signed",
            "/usr/lib/shim",
        ];
        PxeSettings {
            tftp_root: PathBuf::from("/tftpboot"),
            http_root: PathBuf::from("/httpboot"),
            http_url: String::new(),
            tftp_server: None,
            kernel_append_params: "nofb vga=normal".to_owned(),
            boot_files: BootFileNames::default(),
            loaders_dirs: debian.map(PathBuf::from).to_vec(),
            deploy_kernel: None,
            deploy_ramdisk: None,
            rescue_kernel: None,
            rescue_ramdisk: None,
            instance_paths: vec![PathBuf::from("/var/lib/ironic")],
            download_timeout: Duration::from_secs(300),
            image_cache_ttl: Duration::from_secs(10080 * 60),
            default_boot_mode: BootMode::Uefi,
        }
    }
}
