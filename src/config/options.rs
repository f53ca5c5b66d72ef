//! Every option that Ferric knows, with its default. Names and defaults are Ironic's where the meaning is the same.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::table::sections;
use super::value::{
    AddPorts, AuthStrategy, CollectLogs, ConnectionUrl, DefaultBootMode, DhcpMode, Durability, KeepPorts,
    MaskSecrets, PortRanges, RescueHash, SecondsRange, Secret, SimBmc, SimImages, SimRamdisk, StepPriorities,
};

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
        /// Bonding mode of a port group that is made without one.
        default_portgroup_mode: String = "active-backup".to_owned();
        /// Behave like that release of Ironic, such as 18.2: its newest microversion is the newest that is served. Unset: all.
        pin_release_version: Option<String> = None;
        /// Answer with TLS only; [ssl] names the certificate.
        enable_ssl_api: bool = false;
        /// Administrators of projects may enrol and delete nodes of their own.
        project_admin_can_manage_own_nodes: bool = true;
        /// Threads that serve the API; 0 is one per CPU.
        api_workers: u16 = 0;
        /// Reads of single things that are done at once. Above this, and the next three, requests wait a moment and are then answered 503 with Retry-After; heartbeats, look-ups, changes of power and aborts are not.
        max_concurrent_reads: u32 = 256;
        /// Lists that are made at once.
        max_concurrent_lists: u32 = 16;
        /// Changes that are written at once.
        max_concurrent_writes: u32 = 256;
        /// Requests at once whose answers take a BMC, such as sensors and the boot device.
        max_concurrent_bmc_requests: u32 = 256;
        /// Requests of each of these four kinds that may wait.
        max_waiting_requests: u32 = 4096;
        /// Seconds that one waits at most; a tenth of it once there has been a queue for so long. 0 refuses what finds no place at once.
        max_request_wait: Duration = secs(2);
        /// Seconds between heartbeats of a ramdisk at the most.
        ramdisk_heartbeat_timeout: Duration = secs(300);
        /// Steps, interface.step each, that nobody may ask for when cleaning.
        disallow_clean_steps: Vec<String> = words(&["vendor.send_raw"]);
        /// Steps that nobody may ask for when deploying.
        disallow_deploy_steps: Vec<String> = words(&["vendor.send_raw"]);
        /// Steps that nobody may ask for when servicing.
        disallow_service_steps: Vec<String> = words(&["vendor.send_raw"]);
    }
    /// Who may call the API.
    auth: Auth {
        /// noauth: keep the API on a network of administrators. http_basic: names and passwords of a file. keystone: tokens.
        strategy: AuthStrategy = AuthStrategy::Noauth;
        /// Lines NAME:BCRYPT, as htpasswd -nbB makes them; read again when it changes.
        http_basic_auth_user_file: PathBuf = PathBuf::from("/etc/ironic/htpasswd");
        /// Give the role service of the service project the rights of a member of the system.
        rbac_service_role_elevated_access: bool = false;
        /// Name of the service project.
        rbac_service_project_name: String = "service".to_owned();
    }
    /// Keystone, for auth.strategy = keystone.
    keystone_authtoken: KeystoneAuthtoken {
        /// Where Keystone is, such as https://keystone.example.org:5000/v3.
        auth_url: Option<String> = None;
        /// What callers without a token are told to ask. Unset: auth_url.
        www_authenticate_uri: Option<String> = None;
        /// User that Ferric logs in as; it needs the role service or admin.
        username: Option<String> = None;
        /// Its password.
        password: Option<Secret> = None;
        /// Domain of the user, by name.
        user_domain_name: Option<String> = None;
        /// Domain of the user, by id.
        user_domain_id: Option<String> = None;
        /// Project that Ferric logs in for.
        project_name: Option<String> = None;
        /// The same by id.
        project_id: Option<String> = None;
        /// Domain of the project, by name.
        project_domain_name: Option<String> = None;
        /// Domain of the project, by id.
        project_domain_id: Option<String> = None;
        /// all: log in for the system and not for a project.
        system_scope: Option<String> = None;
        /// Application credential to log in with instead of a user and a password.
        application_credential_id: Option<String> = None;
        /// The same by name; username says whose it is.
        application_credential_name: Option<String> = None;
        /// Its secret.
        application_credential_secret: Option<Secret> = None;
        /// Certificates that Keystone's is signed by, PEM. Unset: those of the system.
        cafile: Option<PathBuf> = None;
        /// Believe any certificate of Keystone's.
        insecure: bool = false;
        /// Seconds that Keystone may take to answer.
        http_connect_timeout: Duration = secs(10);
        /// Seconds that Keystone's word about a token is good; a token that is revoked meanwhile still counts.
        token_cache_time: Duration = secs(300);
        /// Roles that make a service token one.
        service_token_roles: Vec<String> = words(&["service"]);
        /// Refuse service tokens without one of these roles.
        service_token_roles_required: bool = true;
    }
    /// Who may do what, for auth.strategy = keystone.
    oslo_policy: OsloPolicy {
        /// YAML or JSON that maps names of rules to checks, over the built-in ones; read again when it changes.
        policy_file: Option<PathBuf> = None;
    }
    /// Certificate of the API, for api.enable_ssl_api; both files are read again when they change.
    ssl: Ssl {
        /// The certificate, its chain below it, PEM.
        cert_file: Option<PathBuf> = None;
        /// Its key, PEM.
        key_file: Option<PathBuf> = None;
    }
    /// Where the nodes are kept.
    database: Database {
        /// sqlite:///path or postgres://user:password@host/name. Unset: ferric.sqlite in the data directory.
        connection: Option<ConnectionUrl> = None;
        /// full: an answered change survives a power failure. normal: faster, the last moments may be lost.
        durability: Durability = Durability::Full;
        /// Connections kept open.
        max_pool_size: u32 = 8;
        /// Events kept at most, whatever their age; none is kept longer than 30 days.
        max_events: u32 = 2_000_000;
        /// Steps of ended operations kept at most; none is kept longer than 30 days.
        max_steps: u32 = 2_000_000;
    }
    /// How nodes are worked on.
    conductor: Conductor {
        /// Name of this process in reservations and in /v1/conductors. Unset: the host's name.
        host: Option<String> = None;
        /// Conductor group that this process serves.
        conductor_group: String = String::new();
        /// Clean nodes on their way to available, unless a node's automated_clean says otherwise.
        automated_clean: bool = true;
        /// Seconds that a deployment waits for a sign of life of the ramdisk; 0 waits for ever.
        deploy_callback_timeout: Duration = secs(1800);
        /// The same of a cleaning.
        clean_callback_timeout: Duration = secs(1800);
        /// Seconds that an inspection waits for what the ramdisk found; 0 waits for ever.
        inspect_wait_timeout: Duration = secs(1800);
        /// Seconds that a rescue waits for a sign of life of the ramdisk; 0 waits for ever.
        rescue_callback_timeout: Duration = secs(1800);
        /// The same of a service.
        service_callback_timeout: Duration = secs(1800);
        /// Priorities of clean steps instead of their own: { "deploy.erase_devices" = 0 }; 0 leaves a step out of automated cleaning.
        clean_step_priority_override: StepPriorities = StepPriorities::default();
        /// Priorities of verify steps instead of their own.
        verify_step_priority_override: StepPriorities = StepPriorities::default();
        /// Switch a machine off when its cleaning failed.
        poweroff_in_cleanfail: bool = false;
        /// Switch a machine off when its service failed.
        poweroff_in_servicefail: bool = false;
        /// How rescue passwords are hashed: sha256 or sha512.
        rescue_password_hash_algorithm: RescueHash = RescueHash::Sha256;
        /// Keep the errors of nodes in their histories.
        node_history: bool = true;
        /// Keep there, too, when the steps of a deployment, cleaning or service begin and end.
        record_step_flows_in_history: bool = true;
        /// Entries of a node's history that are kept at the least.
        node_history_max_entries: u32 = 300;
        /// Days that an entry is kept whatever their number.
        node_history_minimum_days: u32 = 0;
        /// Seconds between looks at the power state of a node; 0 never looks.
        sync_power_state_interval: Duration = secs(120);
        /// BMCs that are waited for at once by those looks; one that does not answer soon gives its place to others.
        sync_power_state_workers: u32 = 256;
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
        /// Seconds between looks for allocations that nobody works on; 0 looks at the start only.
        check_allocations_interval: Duration = secs(60);
        /// Deployments at the same time; more wait in a fair queue.
        max_concurrent_deploy: u32 = 250;
        /// Cleanings at the same time; more wait in a fair queue.
        max_concurrent_clean: u32 = 50;
        /// Whether available nodes may be deleted.
        allow_deleting_available_nodes: bool = true;
        /// Whether nodes in maintenance may be deployed.
        allow_provisioning_in_maintenance: bool = true;
        /// Kernel of the deploy ramdisk of nodes whose driver_info names none: URL or path.
        deploy_kernel: Option<String> = None;
        /// Deploy ramdisk of nodes whose driver_info names none: URL or path.
        deploy_ramdisk: Option<String> = None;
        /// Kernel of the rescue ramdisk of nodes whose driver_info names none. Unset: deploy_kernel.
        rescue_kernel: Option<String> = None;
        /// Rescue ramdisk of nodes whose driver_info names none. Unset: deploy_ramdisk.
        rescue_ramdisk: Option<String> = None;
        /// Folders that file:// images may lie in.
        file_url_allowed_paths: Vec<String> = words(&["/var/lib/ironic"]);
        /// Seconds between two signs of life of this process in the database.
        heartbeat_interval: Duration = secs(10);
        /// Seconds without a sign of life after which a process counts as dead.
        heartbeat_timeout: Duration = secs(60);
        /// Seconds that running requests get at the end of the process.
        graceful_shutdown_timeout: Duration = secs(5);
    }
    /// Which hardware types and interfaces nodes may use.
    hardware: Hardware {
        /// Hardware types, and classic drivers (pxe_ipmitool, agent_ipmitool, fake, …), which are off otherwise.
        enabled_hardware_types: Vec<String> = words(&["ipmi", "redfish", "manual-management", "fake-hardware"]);
        /// BIOS interfaces; empty is all that are built.
        enabled_bios_interfaces: Vec<String> = Vec::new();
        /// Boot interfaces; empty is all that are built.
        enabled_boot_interfaces: Vec<String> = Vec::new();
        /// Console interfaces; empty is all that are built.
        enabled_console_interfaces: Vec<String> = Vec::new();
        /// Deploy interfaces; empty is all that are built but iscsi.
        enabled_deploy_interfaces: Vec<String> = Vec::new();
        /// Firmware interfaces; empty is all that are built.
        enabled_firmware_interfaces: Vec<String> = Vec::new();
        /// Management interfaces; empty is all that are built.
        enabled_management_interfaces: Vec<String> = Vec::new();
        /// Network interfaces; empty is all that are built.
        enabled_network_interfaces: Vec<String> = Vec::new();
        /// Power interfaces; empty is all that are built.
        enabled_power_interfaces: Vec<String> = Vec::new();
        /// Inspect interfaces; empty is all that are built.
        enabled_inspect_interfaces: Vec<String> = Vec::new();
        /// RAID interfaces; empty is all that are built.
        enabled_raid_interfaces: Vec<String> = Vec::new();
        /// Rescue interfaces; empty is all that are built.
        enabled_rescue_interfaces: Vec<String> = Vec::new();
        /// Storage interfaces; empty is all that are built.
        enabled_storage_interfaces: Vec<String> = Vec::new();
        /// Vendor interfaces; empty is all that are built.
        enabled_vendor_interfaces: Vec<String> = Vec::new();
        /// BIOS interface of nodes that name none. Unset: the hardware type's first that is enabled.
        default_bios_interface: Option<String> = None;
        /// Console interface of nodes that name none.
        default_console_interface: Option<String> = None;
        /// Firmware interface of nodes that name none.
        default_firmware_interface: Option<String> = None;
        /// Network interface of nodes that name none.
        default_network_interface: Option<String> = None;
        /// Storage interface of nodes that name none. Unset: noop.
        default_storage_interface: Option<String> = None;
        /// Vendor interface of nodes that name none.
        default_vendor_interface: Option<String> = None;
        /// Boot interface of nodes that name none. Unset: the hardware type's first that is enabled.
        default_boot_interface: Option<String> = None;
        /// Deploy interface of nodes that name none.
        default_deploy_interface: Option<String> = None;
        /// Management interface of nodes that name none.
        default_management_interface: Option<String> = None;
        /// Power interface of nodes that name none.
        default_power_interface: Option<String> = None;
        /// Inspect interface of nodes that name none.
        default_inspect_interface: Option<String> = None;
        /// RAID interface of nodes that name none.
        default_raid_interface: Option<String> = None;
        /// Rescue interface of nodes that name none.
        default_rescue_interface: Option<String> = None;
    }
    /// How long the interfaces fake pretend to work.
    fake: Fake {
        /// Seconds that everything takes which the BIOS interface does: 5, or 3,10 for a time between the two.
        bios_delay: SecondsRange = SecondsRange::default();
        /// The same of what the boot interface does.
        boot_delay: SecondsRange = SecondsRange::default();
        /// The same of what the deploy interface does.
        deploy_delay: SecondsRange = SecondsRange::default();
        /// The same of what the firmware interface does.
        firmware_delay: SecondsRange = SecondsRange::default();
        /// The same of what the inspect interface does.
        inspect_delay: SecondsRange = SecondsRange::default();
        /// The same of what the management interface does.
        management_delay: SecondsRange = SecondsRange::default();
        /// The same of what the power interface does.
        power_delay: SecondsRange = SecondsRange::default();
        /// The same of what the RAID interface does.
        raid_delay: SecondsRange = SecondsRange::default();
        /// The same of what the rescue interface does.
        rescue_delay: SecondsRange = SecondsRange::default();
        /// The same of what the storage interface does.
        storage_delay: SecondsRange = SecondsRange::default();
        /// The same of what the vendor interface does.
        vendor_delay: SecondsRange = SecondsRange::default();
    }
    /// Deployments.
    deploy: Deploy {
        /// BIOS or UEFI for nodes that do not say.
        default_boot_mode: DefaultBootMode = DefaultBootMode::Uefi;
        /// Switch a machine off when its deployment failed.
        power_off_after_deploy_failure: bool = true;
        /// Priority of deploy.erase_devices, which overwrites whole disks, in automated cleaning; 0 leaves it out. Unset: the ramdisk's (10).
        erase_devices_priority: Option<u32> = None;
        /// Priority of deploy.erase_devices_metadata, which wipes partition tables and signatures; 0 leaves it out. Unset: the ramdisk's (99).
        erase_devices_metadata_priority: Option<u32> = None;
        /// Passes of random data over a disk that has no erasure of its own.
        shred_random_overwrite_iterations: u32 = 1;
        /// A last pass of zeros after them.
        shred_final_overwrite_with_zeros: bool = true;
        /// Overwrite a disk whose own erasure failed instead of failing the step.
        continue_if_disk_secure_erase_fails: bool = false;
        /// Use the erasure that SATA disks have.
        enable_ata_secure_erase: bool = true;
        /// Use the erasure that NVMe disks have.
        enable_nvme_secure_erase: bool = true;
        /// Leave disks alone that the machine says are read-only, instead of failing the step.
        erase_skip_read_only: bool = false;
        /// Disks of one machine that are erased at the same time.
        disk_erasure_concurrency: u32 = 4;
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
        /// When the ramdisk's logs are fetched: always, on_failure or never.
        deploy_logs_collect: CollectLogs = CollectLogs::OnFailure;
        /// Where they are stored (Ironic: /var/log/ironic/deploy). Unset: deploy-logs in the data directory.
        deploy_logs_local_path: Option<PathBuf> = None;
    }
    /// Deployment by the installer of the operating system.
    anaconda: Anaconda {
        /// Kickstart template of nodes and images that name none: path or URL. Unset: Ferric's own.
        default_ks_template: Option<String> = None;
        /// Let the installer call the API over HTTPS without checking the certificate.
        insecure_heartbeat: bool = false;
    }
    /// Inspection by the ramdisk.
    inspector: Inspector {
        /// Switch the machine off after its inspection.
        power_off: bool = true;
        /// Network cards that become ports: pxe, active, all or disabled.
        add_ports: AddPorts = AddPorts::Pxe;
        /// Ports that stay: all, present or added.
        keep_ports: KeepPorts = KeepPorts::All;
        /// Set pxe_enabled of ports by whether the ramdisk was booted from them.
        update_pxe_enabled: bool = true;
        /// Refuse to inspect nodes whose boot Ferric does not manage.
        require_managed_boot: bool = true;
        /// Leave 1 GiB of the root disk out of local_gb (hook root-device).
        disk_partitioning_spacing: bool = true;
        /// Refuse what the hook extra-hardware cannot read.
        extra_hardware_strict: bool = false;
        /// Subnets with the physical network of their cards, 10.1.0.0/16:physnet each (hook physical-network).
        physical_network_cidr_map: Vec<String> = Vec::new();
        /// Hooks that run when hooks says $default_hooks.
        default_hooks: Vec<String> = words(&["ramdisk-error", "validate-interfaces", "ports", "architecture"]);
        /// Hooks that run over what the ramdisk found, in this order.
        hooks: Vec<String> = words(&["$default_hooks"]);
        /// Words added to the kernel command line of the ramdisk, e.g. ipa-inspection-collectors=default,logs.
        extra_kernel_params: String = String::new();
    }
    /// Rules that run over what an inspection found, besides those of the API.
    inspection_rules: InspectionRules {
        /// File with rules of the operator, YAML or JSON as Ironic has them.
        built_in_rules: Option<PathBuf> = None;
        /// Whether rules see passwords in what the ramdisk sent: always (hidden from all), never, sensitive (shown to rules marked so).
        mask_secrets: MaskSecrets = MaskSecrets::Always;
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
        /// Disks that ramdisks without an agent look for when a node has no root device hints, the first that is there.
        disk_devices: String = "cciss/c0d0,sda,hda,vda".to_owned();
        /// Folder per node for the images that the conductor writes itself (Ironic: /var/lib/ironic/images), on the file system of instance_master_path. Unset: images in the data directory.
        images_path: Option<PathBuf> = None;
        /// Where these images are kept for the next node (Ironic: /var/lib/ironic/master_images). Unset: master_images in the data directory.
        instance_master_path: Option<PathBuf> = None;
        /// MiB of images that no node uses which are kept there.
        image_cache_size: u64 = 20480;
    }
    /// Images that the conductor writes over iSCSI.
    iscsi: Iscsi {
        /// TCP port that agents export their disk on.
        portal_port: u16 = 3260;
        /// Machines that are written to at the same time; the others wait for their turn.
        max_concurrent_writes: u32 = 16;
        /// Believe bash ramdisks where they say they are, also when their call comes from another address: for calls through a proxy or NAT on another host.
        ramdisk_address_from_call: bool = false;
    }
    /// Serial consoles of nodes with the console interface ipmitool-socat.
    console: Console {
        /// Address of the consoles' TCP ports, also in console_info. A console asks nobody who he is: keep it on a network of administrators.
        socat_address: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        /// TCP ports for nodes without driver_info/ipmi_terminal_port, such as 10000:20000; the last is not used. Unset: such nodes have no console.
        port_range: PortRanges = PortRanges::default();
        /// Seconds after which a TCP client is let go when nothing is typed or shown; 0 is never.
        terminal_timeout: Duration = secs(600);
        /// Seconds that the BMC may take to open a serial line.
        subprocess_timeout: Duration = secs(10);
    }
    /// The sensors of nodes, looked at without anybody asking and told in /metrics.
    sensor_data: SensorData {
        /// Look at them.
        send_sensor_data: bool = false;
        /// Seconds between two looks at a node; the looks of a fleet are spread over this time.
        interval: Duration = secs(600);
        /// Nodes that are looked at at once.
        workers: u32 = 4;
        /// Seconds that a look at one node may take, waiting for its turn included.
        wait_timeout: Duration = secs(300);
        /// Kinds of sensors that are told, such as Temperature, Fan or Voltage; ALL is all.
        data_types: Vec<String> = words(&["ALL"]);
        /// Look at nodes without an instance, too.
        enable_for_undeployed_nodes: bool = false;
    }
    /// Prometheus.
    metrics: MetricsOptions {
        /// Answer GET /metrics on the API's address. It asks nobody who they are, and tells no secrets.
        enabled: bool = true;
    }
    /// BMCs that speak IPMI.
    ipmi: Ipmi {
        /// Seconds that a command is tried for in all.
        command_retry_timeout: Duration = secs(60);
        /// Seconds between two commands to the same BMC.
        min_command_interval: Duration = Duration::ZERO;
        /// Cipher suites in the order of trial; nothing else is spoken.
        cipher_suite_versions: Vec<String> = words(&["17", "3"]);
        /// Keep boot devices beyond the 60 seconds after which a BMC may forget them; a node's
        /// ipmi_disable_boot_timeout goes before.
        disable_boot_timeout: bool = true;
        /// More errors after which a command is tried again: completion codes as 0xc1, or words of ipmitool for them.
        additional_retryable_ipmi_errors: Vec<String> = Vec::new();
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
        /// Each machine's agent listens on its BMC's address instead of that of --agents: iSCSI deploys need it.
        own_addresses: bool = false;
        /// agent: a ramdisk with an agent. bash: one of the time before agents, for ferric sim with --boot-from and the deploy
        /// interface iscsi.
        ramdisk: SimRamdisk = SimRamdisk::Agent;
        /// bytes: each machine fetches and hashes its image. counted: one does, the others take as long and check what is known
        /// of it. auto: bytes for up to 256 machines, counted for more.
        images: SimImages = SimImages::Auto;
        /// redfish: the BMCs speak Redfish too, over HTTP, and the fleet is enrolled with it.
        bmc_protocol: SimBmc = SimBmc::Ipmi;
        /// TCP port of the BMCs' Redfish services; 0 takes a free one.
        redfish_port: u16 = 8000;
    }
}
