//! Each room's settings from the configuration.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferric_drivers::agent_steps::EraseSettings;
use ferric_drivers::boot::{BootFileNames, PxeSettings};
use ferric_drivers::console::ConsoleSettings;
use ferric_drivers::delayed::Delay;
use ferric_drivers::deploy::{
    AnacondaSettings, CacheSettings, DirectSettings, IscsiDeploySettings, ServedFiles,
};
use ferric_drivers::fakes::FakeDelays;
use ferric_drivers::flow::{FlowSettings, LogCollection};
use ferric_drivers::inspect::{AddPorts, InspectSettings, KeepPorts, MaskSecrets};
use ferric_drivers::protocol::agent::AgentSettings;
use ferric_drivers::protocol::dhcp::{self, DhcpSettings};
use ferric_drivers::protocol::http::HttpSettings;
use ferric_drivers::protocol::ipmi::{CipherSuite, IpmiSettings};
use ferric_drivers::protocol::tftp::TftpSettings;
use ferric_drivers::{DriverError, RegistrySettings};
use ferric_machine::BootMode;
use ferric_machine::power::SyncPolicy;
use ferric_schema::{Durability, StoreOptions};
use ferric_web::auth::{
    Auth, AuthError, Credentials, InDomain, KeystoneError, KeystoneSettings, ServiceScope,
};
use ferric_web::policy::Policy;
use ferric_web::{PasswordHash, Tls, TlsError, WebSettings};

use super::WireError;
use crate::config::Config;
use crate::config::value::{
    self, AuthStrategy, CollectLogs, DefaultBootMode, DhcpMode, RescueHash, SecondsRange,
};

/// Folders, where the configuration leaves them to the data directory.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// What TFTP serves.
    pub(crate) tftp_root: PathBuf,
    /// What HTTP serves.
    pub(crate) http_root: PathBuf,
    /// Where DHCP leases are kept.
    pub(crate) leases: PathBuf,
    /// Where the logs of ramdisks are kept.
    pub(crate) logs: PathBuf,
    /// Where images of instances are kept.
    pub(crate) masters: PathBuf,
    /// Where nodes have theirs while they are deployed.
    pub(crate) images: PathBuf,
}

impl Places {
    pub(crate) fn new(config: &Config, data_dir: &Path) -> Self {
        // absolute, because links and servers must not depend on where we were started
        let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        Self {
            tftp_root: config.pxe.tftp_root.clone().unwrap_or_else(|| data_dir.join("tftpboot")),
            http_root: config.http.http_root.clone().unwrap_or_else(|| data_dir.join("httpboot")),
            leases: data_dir.join("dhcp.leases"),
            logs: data_dir.join("deploy-logs"),
            masters: config
                .pxe
                .instance_master_path
                .clone()
                .unwrap_or_else(|| data_dir.join("master_images")),
            images: config.pxe.images_path.clone().unwrap_or_else(|| data_dir.join("images")),
        }
    }
}

/// The database's options.
pub(crate) fn store_options(config: &Config, data_dir: &Path) -> StoreOptions {
    let url = match &config.database.connection {
        Some(url) => url.reveal().to_owned(),
        None => data_dir.join("ferric.sqlite").display().to_string(),
    };
    let mut options = StoreOptions::new(url);
    options.pool_size = config.database.max_pool_size.max(1);
    options.durability = match config.database.durability {
        value::Durability::Full => Durability::Full,
        value::Durability::Normal => Durability::Normal,
    };
    options
}

/// The address that the API listens on.
pub(crate) fn api_ip(config: &Config) -> IpAddr {
    config.api.host_ip.parse().expect("Config::check has read this address")
}

fn v4(text: Option<&str>) -> Option<Ipv4Addr> {
    text.map(|text| text.parse().expect("Config::check has read this address"))
}

/// The address that machines reach this host by, as far as the configuration tells.
fn own_ip(config: &Config, listen: Option<&String>) -> IpAddr {
    let listen = listen.map(|text| text.parse().expect("Config::check has read this address"));
    let dhcp = v4(config.dhcp.server_ip.as_deref()).map(IpAddr::V4);
    let api = api_ip(config);
    [listen, dhcp, Some(api)]
        .into_iter()
        .flatten()
        .find(|ip: &IpAddr| !ip.is_unspecified())
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn listen(config: &Config, host: Option<&String>, port: u16) -> SocketAddr {
    let host = host.map(|text| text.parse().expect("Config::check has read this address"));
    let dhcp = v4(config.dhcp.server_ip.as_deref()).map(IpAddr::V4);
    SocketAddr::new(host.or(dhcp).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port)
}

/// Base URL of the API as ramdisks reach it.
pub(crate) fn ramdisk_api_url(config: &Config) -> String {
    config.api.public_endpoint.as_ref().map_or_else(
        || {
            let api = config.api.host_ip.clone();
            let scheme = if config.api.enable_ssl_api { "https" } else { "http" };
            format!("{scheme}://{}", SocketAddr::new(own_ip(config, Some(&api)), config.api.port))
        },
        |url| url.trim_end_matches('/').to_owned(),
    )
}

fn http_url(config: &Config) -> String {
    config.http.http_url.as_ref().map_or_else(
        || {
            format!(
                "http://{}",
                SocketAddr::new(own_ip(config, config.http.host_ip.as_ref()), config.http.port)
            )
        },
        |url| url.trim_end_matches('/').to_owned(),
    )
}

fn boot_mode(config: &Config) -> BootMode {
    match config.deploy.default_boot_mode {
        DefaultBootMode::Bios => BootMode::Bios,
        DefaultBootMode::Uefi => BootMode::Uefi,
    }
}

fn boot_files(config: &Config) -> BootFileNames {
    BootFileNames {
        pxe_bootfile_name: config.pxe.pxe_bootfile_name.clone(),
        uefi_pxe_bootfile_name: config.pxe.uefi_pxe_bootfile_name.clone(),
        ipxe_bootfile_name: config.pxe.ipxe_bootfile_name.clone(),
        uefi_ipxe_bootfile_name: config.pxe.uefi_ipxe_bootfile_name.clone(),
    }
}

/// The host's name.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|text| text.trim().to_owned())
        .ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

pub(super) fn registry(config: &Config) -> RegistrySettings {
    let of = &config.hardware;
    let mut enabled = BTreeMap::new();
    let mut defaults = BTreeMap::new();
    for (kind, names, default) in of.interfaces() {
        if !names.is_empty() {
            enabled.insert(kind, names.clone());
        }
        if let Some(default) = default {
            defaults.insert(kind, default.clone());
        }
    }
    RegistrySettings { hardware_types: of.enabled_hardware_types.clone(), enabled, defaults }
}

/// `[fake]`. Nothing attaches volumes yet, so that `storage_delay` has nothing to delay.
pub(super) fn fakes(config: &Config) -> FakeDelays {
    let of = &config.fake;
    let delay = |range: SecondsRange| Delay { from: range.from, to: range.to };
    FakeDelays {
        bios: delay(of.bios_delay),
        boot: delay(of.boot_delay),
        deploy: delay(of.deploy_delay),
        firmware: delay(of.firmware_delay),
        inspect: delay(of.inspect_delay),
        management: delay(of.management_delay),
        power: delay(of.power_delay),
        raid: delay(of.raid_delay),
        rescue: delay(of.rescue_delay),
        vendor: delay(of.vendor_delay),
    }
}

/// What work consists of.
fn flow(config: &Config, places: &Places) -> FlowSettings {
    let (of, deploy, agent) = (&config.conductor, &config.deploy, &config.agent);
    let mut clean_priorities = BTreeMap::new();
    for (step, priority) in [
        ("deploy.erase_devices", deploy.erase_devices_priority),
        ("deploy.erase_devices_metadata", deploy.erase_devices_metadata_priority),
    ] {
        if let Some(priority) = priority {
            clean_priorities.insert(step.to_owned(), i32::try_from(priority).unwrap_or(i32::MAX));
        }
    }
    // the override by name is the more particular wish
    clean_priorities.extend(of.clean_step_priority_override.0.clone());
    let folder = || agent.deploy_logs_local_path.clone().unwrap_or_else(|| places.logs.clone());
    FlowSettings {
        clean_priorities,
        verify_priorities: of.verify_step_priority_override.0.clone(),
        power_off_after_clean_failure: of.poweroff_in_cleanfail,
        power_off_after_service_failure: of.poweroff_in_servicefail,
        logs: match agent.deploy_logs_collect {
            CollectLogs::Always => Some(LogCollection { always: true, folder: folder() }),
            CollectLogs::OnFailure => Some(LogCollection { always: false, folder: folder() }),
            CollectLogs::Never => None,
        },
        ..FlowSettings::default()
    }
}

/// How agents erase disks.
pub(super) fn erase(config: &Config) -> EraseSettings {
    let of = &config.deploy;
    EraseSettings {
        iterations: of.shred_random_overwrite_iterations,
        zeroize: of.shred_final_overwrite_with_zeros,
        continue_if_secure_erase_fails: of.continue_if_disk_secure_erase_fails,
        ata: of.enable_ata_secure_erase,
        nvme: of.enable_nvme_secure_erase,
        concurrency: of.disk_erasure_concurrency.max(1),
        skip_read_only: of.erase_skip_read_only,
    }
}

/// What inspections do. Errors: a subnet, or a file of rules, that cannot be read.
pub(super) fn inspect(config: &Config) -> Result<InspectSettings, DriverError> {
    let (of, rules) = (&config.inspector, &config.inspection_rules);
    Ok(InspectSettings {
        default_hooks: of.default_hooks.clone(),
        hooks: of.hooks.clone(),
        add_ports: match of.add_ports {
            value::AddPorts::Pxe => AddPorts::Pxe,
            value::AddPorts::Active => AddPorts::Active,
            value::AddPorts::All => AddPorts::All,
            value::AddPorts::Disabled => AddPorts::Disabled,
        },
        keep_ports: match of.keep_ports {
            value::KeepPorts::All => KeepPorts::All,
            value::KeepPorts::Present => KeepPorts::Present,
            value::KeepPorts::Added => KeepPorts::Added,
        },
        update_pxe_enabled: of.update_pxe_enabled,
        power_off: of.power_off,
        require_managed_boot: of.require_managed_boot,
        physical_networks: of
            .physical_network_cidr_map
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?,
        disk_partitioning_spacing: of.disk_partitioning_spacing,
        extra_hardware_strict: of.extra_hardware_strict,
        mask_secrets: match rules.mask_secrets {
            value::MaskSecrets::Always => MaskSecrets::Always,
            value::MaskSecrets::Never => MaskSecrets::Never,
            value::MaskSecrets::Sensitive => MaskSecrets::Sensitive,
        },
        built_in_rules: match &rules.built_in_rules {
            Some(path) => ferric_drivers::inspect::rules::read_built_in(path)?,
            None => Vec::new(),
        },
        ..InspectSettings::default()
    })
}

pub(super) fn actors(config: &Config, places: &Places) -> ferric_actors::Settings {
    let of = &config.conductor;
    ferric_actors::Settings {
        host: of.host.clone().unwrap_or_else(host_name),
        conductor_group: of.conductor_group.to_ascii_lowercase(),
        api_url: ramdisk_api_url(config),
        default_boot_mode: boot_mode(config),
        deploy_callback_timeout: of.deploy_callback_timeout,
        clean_callback_timeout: of.clean_callback_timeout,
        inspect_wait_timeout: of.inspect_wait_timeout,
        rescue_callback_timeout: of.rescue_callback_timeout,
        service_callback_timeout: of.service_callback_timeout,
        automated_clean: of.automated_clean,
        max_concurrent_cleans: of.max_concurrent_clean.max(1) as usize,
        inspect_kernel_args: config
            .inspector
            .extra_kernel_params
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        node_history: of.node_history,
        record_step_flows: of.record_step_flows_in_history,
        node_history_most: of.node_history_max_entries as usize,
        most_events: config.database.max_events as usize,
        most_steps: config.database.max_steps as usize,
        node_history_days: of.node_history_minimum_days,
        flow: flow(config, places),
        power_change_timeout: of.power_state_change_timeout,
        soft_power_off_timeout: of.soft_power_off_timeout,
        power_sync_interval: of.sync_power_state_interval,
        power_sync_workers: of.sync_power_state_workers as usize,
        sensors: sensors(config),
        power_sync: SyncPolicy {
            max_retries: of.power_state_sync_max_retries,
            force: of.force_power_state_during_sync,
            ..SyncPolicy::default()
        },
        request_within: of.node_locked_retry_interval.saturating_mul(of.node_locked_retry_attempts.max(1)),
        lock_tries: of.node_locked_retry_attempts.max(1),
        lock_between: of.node_locked_retry_interval,
        check_allocations: of.check_allocations_interval,
        max_concurrent_deploys: of.max_concurrent_deploy.max(1) as usize,
        allow_provisioning_in_maintenance: of.allow_provisioning_in_maintenance,
        allow_deleting_available: of.allow_deleting_available_nodes,
        heartbeat_timeout: config.api.ramdisk_heartbeat_timeout,
        keep_alive: of.heartbeat_interval,
        ..ferric_actors::Settings::default()
    }
}

fn sensors(config: &Config) -> ferric_actors::SensorSettings {
    let of = &config.sensor_data;
    ferric_actors::SensorSettings {
        interval: if of.send_sensor_data { of.interval } else { Duration::ZERO },
        within: of.wait_timeout,
        workers: of.workers as usize,
        for_undeployed: of.enable_for_undeployed_nodes,
        kinds: of.data_types.clone(),
    }
}

/// How callers prove who they are.
fn auth(config: &Config) -> Result<Auth, AuthError> {
    match config.auth.strategy {
        AuthStrategy::Noauth => Ok(Auth::noauth()),
        AuthStrategy::HttpBasic => Auth::http_basic(&config.auth.http_basic_auth_user_file),
        AuthStrategy::Keystone => {
            let service = config.auth.rbac_service_role_elevated_access;
            let service = service.then(|| config.auth.rbac_service_project_name.clone());
            Auth::keystone(keystone(config)?, config.oslo_policy.policy_file.clone(), service)
        }
    }
}

fn keystone(config: &Config) -> Result<KeystoneSettings, AuthError> {
    let of = &config.keystone_authtoken;
    let user = InDomain {
        name: of.username.clone(),
        id: None,
        domain_name: of.user_domain_name.clone(),
        domain_id: of.user_domain_id.clone(),
    };
    let project = InDomain {
        name: of.project_name.clone(),
        id: of.project_id.clone(),
        domain_name: of.project_domain_name.clone(),
        domain_id: of.project_domain_id.clone(),
    };
    let application = of.application_credential_id.is_some() || of.application_credential_name.is_some();
    let credentials = match (&of.application_credential_secret, &of.password) {
        (Some(secret), _) if application => Credentials::Application {
            id: of.application_credential_id.clone(),
            name: of.application_credential_name.clone(),
            user,
            secret: secret.reveal().to_owned(),
        },
        (_, Some(password)) => Credentials::Password {
            user,
            password: password.reveal().to_owned(),
            scope: match of.system_scope.as_deref() {
                Some("all") => ServiceScope::System,
                Some(_) | None => ServiceScope::Project(project),
            },
        },
        (_, None) => return Err(KeystoneError::Credentials.into()),
    };
    Ok(KeystoneSettings {
        auth_url: of.auth_url.clone().ok_or(KeystoneError::Credentials)?,
        www_authenticate_uri: of.www_authenticate_uri.clone(),
        credentials,
        cafile: of.cafile.clone(),
        insecure: of.insecure,
        token_cache_time: of.token_cache_time,
        timeout: of.http_connect_timeout,
        service_token_roles: of.service_token_roles.clone(),
        service_token_roles_required: of.service_token_roles_required,
    })
}

fn tls(config: &Config) -> Result<Option<Tls>, TlsError> {
    match (&config.ssl.cert_file, &config.ssl.key_file) {
        (Some(cert), Some(key)) if config.api.enable_ssl_api => Tls::load(cert, key).map(Some),
        // Config::check has seen that both are there when they are wanted
        (_, _) => Ok(None),
    }
}

/// When the API's certificate ends; none without TLS, or if it cannot be read.
pub(crate) fn certificate_end(config: &Config) -> Option<time::OffsetDateTime> {
    tls(config).ok().flatten().and_then(|tls| tls.not_after())
}

/// What the policy file says that means nothing; none without one, or if it cannot be read.
pub(crate) fn policy_doubts(config: &Config) -> Vec<String> {
    match (config.auth.strategy, &config.oslo_policy.policy_file) {
        (AuthStrategy::Keystone, Some(file)) => {
            Policy::read(Some(file), None).map(|policy| policy.doubts().to_vec()).unwrap_or_default()
        }
        (AuthStrategy::Keystone | AuthStrategy::Noauth | AuthStrategy::HttpBasic, _) => Vec::new(),
    }
}

/// Whether what authentication and TLS need can be read.
pub(crate) fn door(config: &Config) -> Result<(), WireError> {
    auth(config)?;
    tls(config)?;
    Ok(())
}

pub(super) fn web(config: &Config) -> Result<WebSettings, WireError> {
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    Ok(WebSettings {
        listen: SocketAddr::new(api_ip(config), config.api.port),
        auth: auth(config)?,
        tls: tls(config)?,
        own_nodes: config.api.project_admin_can_manage_own_nodes,
        public_endpoint: config.api.public_endpoint.clone(),
        max_limit: config.api.max_limit,
        default_portgroup_mode: config.api.default_portgroup_mode.clone(),
        pin: config.api.pin_release_version.as_deref().and_then(ferric_web::version::of_release),
        require_agent_tls: config.agent.require_tls,
        disallow_clean_steps: config.api.disallow_clean_steps.clone(),
        disallow_deploy_steps: config.api.disallow_deploy_steps.clone(),
        disallow_service_steps: config.api.disallow_service_steps.clone(),
        rescue_password_hash: match config.conductor.rescue_password_hash_algorithm {
            RescueHash::Sha256 => PasswordHash::Sha256,
            RescueHash::Sha512 => PasswordHash::Sha512,
        },
        conductor_timeout: config.conductor.heartbeat_timeout,
        metrics: config.metrics.enabled,
        shutdown: config.conductor.graceful_shutdown_timeout,
        workers: match config.api.api_workers {
            0 => cpus,
            some => usize::from(some),
        },
        limits: ferric_web::Limits {
            reads: config.api.max_concurrent_reads,
            lists: config.api.max_concurrent_lists,
            writes: config.api.max_concurrent_writes,
            bmc: config.api.max_concurrent_bmc_requests,
            waiting: config.api.max_waiting_requests,
            max_wait: config.api.max_request_wait,
        },
        ..WebSettings::default()
    })
}

pub(super) fn agent(config: &Config) -> AgentSettings {
    AgentSettings {
        command_timeout: config.agent.command_timeout,
        max_command_attempts: config.agent.max_command_attempts,
    }
}

pub(super) fn direct(config: &Config, places: &Places) -> DirectSettings {
    let of = &config.agent;
    let interval = of.post_deploy_get_power_state_retry_interval;
    DirectSettings {
        default_boot_mode: boot_mode(config),
        power_off_after_failure: config.deploy.power_off_after_deploy_failure,
        power_off_within: interval * of.post_deploy_get_power_state_retries,
        command_within: of.command_wait_interval * of.command_wait_attempts,
        files: config.http.enabled.then(|| ServedFiles {
            allowed: instance_paths(config),
            http_root: places.http_root.clone(),
            http_url: http_url(config),
        }),
        ..DirectSettings::default()
    }
}

pub(super) fn iscsi(config: &Config, places: &Places) -> IscsiDeploySettings {
    IscsiDeploySettings {
        default_boot_mode: boot_mode(config),
        power_off_after_failure: config.deploy.power_off_after_deploy_failure,
        disk_devices: config.pxe.disk_devices.clone(),
        portal_port: config.iscsi.portal_port,
        address_from_call: config.iscsi.ramdisk_address_from_call,
        most_writes: config.iscsi.max_concurrent_writes.max(1) as usize,
        ..IscsiDeploySettings::new(CacheSettings {
            masters: places.masters.clone(),
            images: places.images.clone(),
            most_bytes: config.pxe.image_cache_size.saturating_mul(1 << 20),
            ttl: Duration::from_secs(config.pxe.image_cache_ttl.saturating_mul(60)),
            allowed: instance_paths(config),
        })
    }
}

pub(super) fn anaconda(config: &Config, places: &Places) -> AnacondaSettings {
    AnacondaSettings {
        default_ks_template: config.anaconda.default_ks_template.clone(),
        insecure_heartbeat: config.anaconda.insecure_heartbeat,
        api_url: ramdisk_api_url(config),
        http_root: places.http_root.clone(),
        http_url: http_url(config),
        default_boot_mode: boot_mode(config),
        power_off_after_failure: config.deploy.power_off_after_deploy_failure,
        download_timeout: config.pxe.download_timeout,
        instance_paths: instance_paths(config),
    }
}

/// Where instance_info may name files of this host.
fn instance_paths(config: &Config) -> Vec<PathBuf> {
    config.conductor.file_url_allowed_paths.iter().map(PathBuf::from).collect()
}

pub(super) fn ipmi(config: &Config) -> IpmiSettings {
    let suites = config.ipmi.cipher_suite_versions.iter().filter_map(|number| match number.as_str() {
        "17" => Some(CipherSuite::Seventeen),
        "3" => Some(CipherSuite::Three),
        _ => None, // Config::check refuses others
    });
    let mut settings = IpmiSettings {
        command_timeout: config.ipmi.command_retry_timeout,
        min_command_interval: config.ipmi.min_command_interval,
        disable_boot_timeout: config.ipmi.disable_boot_timeout,
        additional_retryable: config.ipmi.additional_retryable_ipmi_errors.clone(),
        ..IpmiSettings::default()
    };
    // opening and closing takes seven exchanges, keeping open one for each 45 s: beyond three minutes it saves nothing
    let sync = config.conductor.sync_power_state_interval;
    if !sync.is_zero() && sync <= Duration::from_secs(180) {
        settings.session_kept = sync + Duration::from_secs(15);
    }
    let suites: Vec<_> = suites.collect();
    if !suites.is_empty() {
        settings.cipher_suites = suites;
    }
    settings
}

pub(super) fn console(config: &Config) -> ConsoleSettings {
    let config = &config.console;
    ConsoleSettings {
        address: config.socat_address,
        port_ranges: config.port_range.0.clone(),
        terminal_timeout: Some(config.terminal_timeout).filter(|limit| !limit.is_zero()),
        open_timeout: config.subprocess_timeout,
        ..ConsoleSettings::default()
    }
}

pub(super) fn pxe(config: &Config, places: &Places) -> PxeSettings {
    PxeSettings {
        tftp_root: places.tftp_root.clone(),
        http_root: places.http_root.clone(),
        http_url: http_url(config),
        tftp_server: v4(config.pxe.tftp_server.as_deref()).or(v4(config.dhcp.server_ip.as_deref())),
        kernel_append_params: config.pxe.kernel_append_params.clone(),
        boot_files: boot_files(config),
        loaders_dirs: config.pxe.loader_paths.iter().map(PathBuf::from).collect(),
        deploy_kernel: config.conductor.deploy_kernel.clone(),
        deploy_ramdisk: config.conductor.deploy_ramdisk.clone(),
        // one ramdisk serves both, unless the operator has another for rescue
        rescue_kernel: config.conductor.rescue_kernel.clone().or(config.conductor.deploy_kernel.clone()),
        rescue_ramdisk: config.conductor.rescue_ramdisk.clone().or(config.conductor.deploy_ramdisk.clone()),
        instance_paths: instance_paths(config),
        download_timeout: config.pxe.download_timeout,
        image_cache_ttl: Duration::from_secs(config.pxe.image_cache_ttl.saturating_mul(60)),
        default_boot_mode: boot_mode(config),
    }
}

pub(super) fn http(config: &Config, places: &Places) -> HttpSettings {
    let of = &config.http;
    HttpSettings { listen: listen(config, of.host_ip.as_ref(), of.port), root: places.http_root.clone() }
}

pub(super) fn tftp(config: &Config, places: &Places) -> TftpSettings {
    let of = &config.tftp;
    TftpSettings { listen: listen(config, of.host_ip.as_ref(), of.port), root: places.tftp_root.clone() }
}

pub(super) fn dhcp(config: &Config, places: &Places) -> DhcpSettings {
    let of = &config.dhcp;
    let unset = Ipv4Addr::UNSPECIFIED;
    DhcpSettings {
        mode: match of.mode {
            DhcpMode::Off => dhcp::DhcpMode::Off,
            DhcpMode::Full => dhcp::DhcpMode::Full,
            DhcpMode::Proxy => dhcp::DhcpMode::Proxy,
        },
        interface: of.interface.clone(),
        address: v4(of.server_ip.as_deref()).unwrap_or(unset),
        range_start: v4(of.pool_start.as_deref()).unwrap_or(unset),
        range_end: v4(of.pool_end.as_deref()).unwrap_or(unset),
        netmask: v4(Some(&of.netmask)).unwrap_or(unset),
        router: v4(of.router.as_deref()),
        dns: of.dns_servers.iter().filter_map(|text| v4(Some(text))).collect(),
        lease_time: of.lease_time,
        tftp_server: v4(config.pxe.tftp_server.as_deref()),
        http_url: http_url(config),
        boot_files: boot_files(config),
        known_only: true,
        lease_file: Some(places.leases.clone()),
        router_advertisements: of.router_advertisements,
    }
}
