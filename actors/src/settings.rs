//! What the actors take from the configuration.

use std::time::Duration;

use ferric_drivers::flow::FlowSettings;
use ferric_machine::{BootMode, DeadlineOption, power::SyncPolicy};

/// `[sensor_data]`: the sensors of nodes are looked at without anybody asking, and told in `/metrics`.
#[derive(Clone, Debug)]
pub struct SensorSettings {
    /// `interval`; zero when `send_sensor_data` is off.
    pub interval: Duration,
    /// `wait_timeout`: how long one node's look may take, waiting for its turn included.
    pub within: Duration,
    /// `workers`: how many are looked at at once.
    pub workers: usize,
    /// `enable_for_undeployed_nodes`.
    pub for_undeployed: bool,
    /// `data_types`: kinds of sensors that are told; `ALL` is all.
    pub kinds: Vec<String>,
}

impl SensorSettings {
    /// Whether sensors of this kind are told.
    #[must_use]
    pub fn wants(&self, kind: &str) -> bool {
        self.kinds.iter().any(|one| one == "ALL" || one.eq_ignore_ascii_case(kind))
    }
}

impl Default for SensorSettings {
    fn default() -> Self {
        SensorSettings {
            interval: Duration::ZERO,
            within: Duration::from_secs(300),
            workers: 4,
            for_undeployed: false,
            kinds: vec!["ALL".to_owned()],
        }
    }
}

/// `[conductor]`, `[deploy]`, `[agent]`, `[api]` options that decide how nodes are worked on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[conductor] host`: who holds reservations.
    pub host: String,
    /// `[conductor] conductor_group`.
    pub conductor_group: String,
    /// Base URL of the API as ramdisks reach it (`ipa-api-url`).
    pub api_url: String,
    /// `[deploy] default_boot_mode`.
    pub default_boot_mode: BootMode,
    /// `[conductor] deploy_callback_timeout`; zero is for ever.
    pub deploy_callback_timeout: Duration,
    /// `[conductor] clean_callback_timeout`; zero is for ever.
    pub clean_callback_timeout: Duration,
    /// `[conductor] inspect_wait_timeout`; zero is for ever.
    pub inspect_wait_timeout: Duration,
    /// `[conductor] rescue_callback_timeout`; zero is for ever.
    pub rescue_callback_timeout: Duration,
    /// `[conductor] service_callback_timeout`; zero is for ever.
    pub service_callback_timeout: Duration,
    /// `[conductor] automated_clean`: nodes are cleaned on their way to `available`, unless they say otherwise.
    pub automated_clean: bool,
    /// `[conductor] max_concurrent_clean`: how many cleanings work at once; more wait in line.
    pub max_concurrent_cleans: usize,
    /// `[inspector] extra_kernel_params`, split: further kernel arguments of an inspection's ramdisk.
    pub inspect_kernel_args: Vec<String>,
    /// `[conductor] node_history`: whether errors are kept in the nodes' histories.
    pub node_history: bool,
    /// `[conductor] record_step_flows_in_history`: whether the beginning and the end of lists of steps are, too.
    pub record_step_flows: bool,
    /// `[conductor] node_history_max_entries`, per node.
    pub node_history_most: usize,
    /// `[conductor] node_history_minimum_days`: younger entries are kept whatever their number.
    pub node_history_days: u32,
    /// What operations consist of.
    pub flow: FlowSettings,
    /// `[conductor] power_state_change_timeout`.
    pub power_change_timeout: Duration,
    /// `[conductor] soft_power_off_timeout`.
    pub soft_power_off_timeout: Duration,
    /// `[conductor] sync_power_state_interval`; zero is never.
    pub power_sync_interval: Duration,
    /// `[conductor] sync_power_state_workers`: how many BMCs are waited for at once by those that look at the power.
    pub power_sync_workers: usize,
    /// `[sensor_data]`.
    pub sensors: SensorSettings,
    /// `[conductor] power_state_sync_max_retries` and `force_power_state_during_sync`.
    pub power_sync: SyncPolicy,
    /// `[conductor] node_locked_retry_attempts` × `_interval`: how long a request may wait for its turn. What it does
    /// once it has its turn is not counted.
    pub request_within: Duration,
    /// `[conductor] node_locked_retry_attempts`: how often a locked node is tried …
    pub lock_tries: u32,
    /// … and `node_locked_retry_interval`: how long lies in between. A request waits for an order for so many times as
    /// long.
    pub lock_between: Duration,
    /// `[conductor] check_allocations_interval`: how often the allocator looks for what nobody told it of; zero is only at
    /// the start.
    pub check_allocations: Duration,
    /// How long events and ended journal steps are kept.
    pub history_for: Duration,
    /// `[database] max_events`: how many events are kept at most.
    pub most_events: usize,
    /// `[database] max_steps`: how many steps of ended operations are kept at most.
    pub most_steps: usize,
    /// `[conductor] max_concurrent_deploy`: how many deployments work at once; more wait in line.
    pub max_concurrent_deploys: usize,
    /// `[conductor] allow_provisioning_in_maintenance`.
    pub allow_provisioning_in_maintenance: bool,
    /// `[conductor] allow_deleting_available_nodes`.
    pub allow_deleting_available: bool,
    /// `[api] ramdisk_heartbeat_timeout`, told to agents.
    pub heartbeat_timeout: Duration,
    /// `[deploy] fast_track`: lookup is allowed in more states.
    pub fast_track: bool,
    /// How often a step that runs in the ramdisk is looked at between heartbeats.
    pub progress_interval: Duration,
    /// The longest a step may keep the conductor busy.
    pub step_within: Duration,
    /// Least time between two commands to one BMC that does not answer, doubled up to `bmc_backoff_most`.
    pub bmc_backoff: Duration,
    /// See `bmc_backoff`.
    pub bmc_backoff_most: Duration,
    /// Arbiter threads that the nodes are spread over.
    pub arbiters: usize,
    /// How many times an actor may die within [`Settings::restart_window`] before its node goes into maintenance.
    pub restarts_most: u32,
    /// See `restarts_most`.
    pub restart_window: Duration,
    /// `[conductor] heartbeat_interval`: how often the conductor's row is touched.
    pub keep_alive: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            host: "localhost".into(),
            conductor_group: String::new(),
            api_url: "http://127.0.0.1:6385".into(),
            default_boot_mode: BootMode::Uefi,
            deploy_callback_timeout: ferric_machine::DEFAULT_WAIT,
            clean_callback_timeout: ferric_machine::DEFAULT_WAIT,
            inspect_wait_timeout: ferric_machine::DEFAULT_WAIT,
            rescue_callback_timeout: ferric_machine::DEFAULT_WAIT,
            service_callback_timeout: ferric_machine::DEFAULT_WAIT,
            automated_clean: true,
            max_concurrent_cleans: 50,
            inspect_kernel_args: Vec::new(),
            node_history: true,
            record_step_flows: true,
            node_history_most: 300,
            node_history_days: 0,
            flow: FlowSettings::default(),
            power_change_timeout: Duration::from_secs(60),
            soft_power_off_timeout: Duration::from_secs(600),
            power_sync_interval: Duration::from_secs(120),
            power_sync_workers: 256,
            sensors: SensorSettings::default(),
            power_sync: SyncPolicy::default(),
            request_within: Duration::from_secs(30),
            lock_tries: 3,
            lock_between: Duration::from_secs(1),
            check_allocations: Duration::from_secs(60),
            history_for: Duration::from_secs(30 * 24 * 3600),
            most_events: 2_000_000,
            most_steps: 2_000_000,
            max_concurrent_deploys: 250,
            allow_provisioning_in_maintenance: true,
            allow_deleting_available: true,
            heartbeat_timeout: Duration::from_secs(300),
            fast_track: false,
            progress_interval: Duration::from_secs(5),
            step_within: Duration::from_secs(1800),
            bmc_backoff: Duration::from_secs(1),
            bmc_backoff_most: Duration::from_secs(60),
            arbiters: 2,
            restarts_most: 5,
            restart_window: Duration::from_secs(60),
            keep_alive: Duration::from_secs(10),
        }
    }
}

impl Settings {
    /// How long Ironic's requests wait for a node that is locked.
    #[must_use]
    pub fn lock_wait(&self) -> Duration {
        self.lock_between.saturating_mul(self.lock_tries)
    }

    /// How long a wait may last.
    #[must_use]
    pub fn wait_limit(&self, option: DeadlineOption) -> Duration {
        match option {
            DeadlineOption::Deploy => self.deploy_callback_timeout,
            DeadlineOption::Clean => self.clean_callback_timeout,
            DeadlineOption::Inspect => self.inspect_wait_timeout,
            DeadlineOption::Rescue => self.rescue_callback_timeout,
            DeadlineOption::Service => self.service_callback_timeout,
        }
    }
}
