//! Every option that Ferric knows, with its default. Names and defaults are Ironic's where the meaning is the same.

use std::path::PathBuf;
use std::time::Duration;

use super::table::sections;
use super::value::{AuthStrategy, ConnectionUrl, DefaultBootMode, DhcpMode, Durability};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|&one| one.to_owned()).collect()
}

sections! {
    /// The REST API.
    api: Api {
        /// Address that the API listens on.
        host_ip: String = "127.0.0.1".to_owned();
        /// Port that the API listens on.
        port: u16 = 6385;
        /// Base URL in links and for ramdisks, without /v1. Unset: as the client called it; for ramdisks the listening address.
        public_endpoint: Option<String> = None;
        /// The most items of one answer.
        max_limit: u32 = 1000;
        /// Threads that serve the API; 0 is one per CPU.
        api_workers: u16 = 0;
        /// Seconds between heartbeats of a ramdisk at the most.
        ramdisk_heartbeat_timeout: Duration = secs(300);
    }
    /// Who may call the API.
    auth: Auth {
        /// noauth is all there is in this release: keep the API on a network of administrators.
        strategy: AuthStrategy = AuthStrategy::Noauth;
    }
    /// Where the nodes are kept.
    database: Database {
        /// sqlite:///path or postgres://user:password@host/name. Unset: ferric.sqlite in the data directory.
        connection: Option<ConnectionUrl> = None;
        /// full: an answered change survives a power failure. normal: faster, the last moments may be lost.
        durability: Durability = Durability::Full;
        /// Connections kept open.
        max_pool_size: u32 = 8;
    }
    /// How nodes are worked on.
    conductor: Conductor {
        /// Name of this process in reservations and in /v1/conductors. Unset: the host's name.
        host: Option<String> = None;
        /// Conductor group that this process serves.
        conductor_group: String = String::new();
        /// Clean nodes between deployments. Only false in this release: cleaning is the next thing to be built (Ironic: true).
        automated_clean: bool = false;
        /// Seconds that a deployment waits for a sign of life of the ramdisk; 0 waits for ever.
        deploy_callback_timeout: Duration = secs(1800);
        /// Seconds between looks at the power state of a node; 0 never looks.
        sync_power_state_interval: Duration = secs(120);
        /// Bring a node back to the stored power state when the real one differs; false records the real one.
        force_power_state_during_sync: bool = true;
        /// Failed looks at the power state before the node goes into maintenance.
        power_state_sync_max_retries: u32 = 3;
        /// Seconds that a machine may take to change its power state.
        power_state_change_timeout: Duration = secs(60);
        /// Seconds that a machine may take to shut down softly.
        soft_power_off_timeout: Duration = secs(600);
        /// Times a request for a busy node is tried again before 409.
        node_locked_retry_attempts: u32 = 3;
        /// Seconds between these times.
        node_locked_retry_interval: Duration = secs(1);
        /// Deployments at the same time; more wait in a fair queue.
        max_concurrent_deploy: u32 = 250;
        /// Whether available nodes may be deleted.
        allow_deleting_available_nodes: bool = true;
        /// Whether nodes in maintenance may be deployed.
        allow_provisioning_in_maintenance: bool = true;
        /// Kernel of the deploy ramdisk of nodes whose driver_info names none: URL or path.
        deploy_kernel: Option<String> = None;
        /// Deploy ramdisk of nodes whose driver_info names none: URL or path.
        deploy_ramdisk: Option<String> = None;
        /// Seconds between two signs of life of this process in the database.
        heartbeat_interval: Duration = secs(10);
        /// Seconds without a sign of life after which a process counts as dead.
        heartbeat_timeout: Duration = secs(60);
        /// Seconds that running requests get at the end of the process.
        graceful_shutdown_timeout: Duration = secs(5);
    }
    /// Which hardware types and interfaces nodes may use.
    hardware: Hardware {
        /// Hardware types.
        enabled_hardware_types: Vec<String> = words(&["ipmi", "manual-management", "fake-hardware"]);
        /// Boot interfaces; empty is all that are built.
        enabled_boot_interfaces: Vec<String> = Vec::new();
        /// Deploy interfaces; empty is all that are built.
        enabled_deploy_interfaces: Vec<String> = Vec::new();
        /// Management interfaces; empty is all that are built.
        enabled_management_interfaces: Vec<String> = Vec::new();
        /// Power interfaces; empty is all that are built.
        enabled_power_interfaces: Vec<String> = Vec::new();
        /// Boot interface of nodes that name none. Unset: the hardware type's first that is enabled.
        default_boot_interface: Option<String> = None;
        /// Deploy interface of nodes that name none.
        default_deploy_interface: Option<String> = None;
        /// Management interface of nodes that name none.
        default_management_interface: Option<String> = None;
        /// Power interface of nodes that name none.
        default_power_interface: Option<String> = None;
    }
    /// Deployments.
    deploy: Deploy {
        /// BIOS or UEFI for nodes that do not say.
        default_boot_mode: DefaultBootMode = DefaultBootMode::Uefi;
        /// Switch a machine off when its deployment failed.
        power_off_after_deploy_failure: bool = true;
    }
    /// The agent in the deploy ramdisk.
    agent: Agent {
        /// Refuse agents that serve plain HTTP.
        require_tls: bool = true;
        /// Seconds that an agent may take to answer a command.
        command_timeout: Duration = secs(60);
        /// Times a command is sent again when the connection fails.
        max_command_attempts: u32 = 3;
        /// Looks at the power state after the agent was told to switch off, before the BMC does it.
        post_deploy_get_power_state_retries: u32 = 6;
        /// Seconds between these looks.
        post_deploy_get_power_state_retry_interval: Duration = secs(5);
        /// Looks at a command that is awaited, before it counts as lost.
        command_wait_attempts: u32 = 100;
        /// Seconds between these looks.
        command_wait_interval: Duration = secs(6);
    }
    /// The built-in DHCP server, for machines with a port in Ferric only.
    dhcp: Dhcp {
        /// off, full (addresses and boot files) or proxy (boot files beside another DHCP server).
        mode: DhcpMode = DhcpMode::Off;
        /// Network interface to serve, e.g. br-provision. Needed unless mode is off.
        interface: Option<String> = None;
        /// Own address on that network. Needed unless mode is off.
        server_ip: Option<String> = None;
        /// First address of the pool (mode full).
        pool_start: Option<String> = None;
        /// Last address of the pool (mode full).
        pool_end: Option<String> = None;
        /// Network mask given to machines.
        netmask: String = "255.255.255.0".to_owned();
        /// Router given to machines.
        router: Option<String> = None;
        /// Name servers given to machines.
        dns_servers: Vec<String> = Vec::new();
        /// Seconds that an address is lent for.
        lease_time: Duration = secs(600);
        /// Answer iPXE's wish for an IPv6 router, which it otherwise waits seconds for.
        router_advertisements: bool = true;
    }
    /// The built-in TFTP server: read-only, jailed into its root.
    tftp: Tftp {
        /// Serve TFTP.
        enabled: bool = false;
        /// Address to listen on. Unset: dhcp.server_ip or all.
        host_ip: Option<String> = None;
        /// UDP port to listen on.
        port: u16 = 69;
    }
    /// The built-in HTTP server for boot files and images, with ranges.
    http: Http {
        /// Serve boot files over HTTP.
        enabled: bool = false;
        /// Address to listen on. Unset: dhcp.server_ip or all.
        host_ip: Option<String> = None;
        /// Port to listen on.
        port: u16 = 8080;
        /// Base URL as machines reach it (Ironic: [deploy] http_url). Unset: from address and port.
        http_url: Option<String> = None;
        /// What is served (Ironic: [deploy] http_root). Unset: httpboot in the data directory.
        http_root: Option<PathBuf> = None;
    }
    /// Network boot.
    pxe: Pxe {
        /// Where boot files are laid out for TFTP. Unset: tftpboot in the data directory.
        tftp_root: Option<PathBuf> = None;
        /// TFTP server as machines reach it. Unset: dhcp.server_ip.
        tftp_server: Option<String> = None;
        /// Where loaders are looked for, in this order (Debian's ipxe, grub, shim and syslinux packages).
        loader_paths: Vec<String> = words(&[
            "/usr/lib/ipxe", "/usr/lib/PXELINUX", "/usr/lib/syslinux/modules/bios",
            "/usr/lib/grub/x86_64-efi-signed", "/usr/lib/shim",
        ]);
        /// Loader for plain PXE on BIOS.
        pxe_bootfile_name: String = "pxelinux.0".to_owned();
        /// Loader for plain PXE on UEFI.
        uefi_pxe_bootfile_name: String = "bootx64.efi".to_owned();
        /// iPXE for BIOS.
        ipxe_bootfile_name: String = "undionly.kpxe".to_owned();
        /// iPXE for UEFI.
        uefi_ipxe_bootfile_name: String = "snponly.efi".to_owned();
        /// Seconds that fetching a kernel or ramdisk may take.
        download_timeout: Duration = secs(300);
        /// Minutes that fetched kernels and ramdisks are kept when no node uses them.
        image_cache_ttl: u64 = 10080;
        /// Words added to the kernel command line of ramdisks.
        kernel_append_params: String = "nofb vga=normal".to_owned();
    }
    /// BMCs that speak IPMI.
    ipmi: Ipmi {
        /// Seconds that a command is tried for in all.
        command_retry_timeout: Duration = secs(60);
        /// Seconds between two commands to the same BMC.
        min_command_interval: Duration = Duration::ZERO;
        /// Cipher suites in the order of trial; nothing else is spoken.
        cipher_suite_versions: Vec<String> = words(&["17", "3"]);
    }
    /// The simulated fleet of ferric demo and ferric sim.
    sim: Sim {
        /// First BMC address; the others follow.
        bmc_address: String = "127.16.0.1".to_owned();
        /// UDP port of the BMCs.
        bmc_port: u16 = 6230;
        /// Seconds from power on to the ramdisk or operating system, the least.
        boot_delay_min: Duration = secs(2);
        /// The same, the most.
        boot_delay_max: Duration = secs(6);
        /// Bytes per second that a simulated disk takes; 0 is as fast as it gets.
        disk_bytes_per_second: u64 = 4 << 20;
    }
}
