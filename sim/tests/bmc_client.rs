//! Our IPMI client against our simulated BMC: faults on the wire, credentials, suites, sessions.

#![allow(clippy::unwrap_used)] // a test may

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferric_drivers::interface::{ManagementInterface, NodeView, PowerInterface};
use ferric_drivers::management::IpmitoolManagement;
use ferric_drivers::power::IpmitoolPower;
use ferric_drivers::protocol::ipmi::command::{ChassisControl, GetChassisStatus};
use ferric_drivers::protocol::ipmi::{CipherSuite, IpmiClient, IpmiError, IpmiSettings, Target};
use ferric_drivers::{DriverError, Secret};
use ferric_machine::{BootDevice, BootMode, PowerState, PowerTarget, State};
use ferric_sim::bmc::{Bmc, BmcConfig, BmcFleet, Chassis, Faults, SimpleChassis};
use serde_json::json;
use tokio::runtime::Handle;

const LIMIT: Duration = Duration::from_secs(90);

/// Retransmits fast, so that loss costs a test little.
fn settings() -> IpmiSettings {
    IpmiSettings {
        retransmit_first: Duration::from_millis(60),
        retransmit_max: Duration::from_millis(240),
        command_timeout: LIMIT,
        poll_interval: Duration::from_millis(10),
        ..IpmiSettings::default()
    }
}

/// Transmits once: what is answered is known at once or never.
fn never_again() -> IpmiSettings {
    IpmiSettings { retransmit_first: LIMIT * 2, retransmit_max: LIMIT * 2, ..settings() }
}

fn node(address: SocketAddr, more: serde_json::Value) -> NodeView {
    let mut driver_info = json!({
        "ipmi_address": address.ip().to_string(), "ipmi_port": address.port(),
        "ipmi_username": "admin", "ipmi_password": "password",
    })
    .as_object()
    .unwrap()
    .clone();
    driver_info.extend(more.as_object().unwrap().clone());
    NodeView {
        uuid: uuid::Uuid::from_u128(1),
        name: None,
        driver: "ipmi".to_owned(),
        driver_info,
        driver_internal_info: Default::default(),
        properties: Default::default(),
        instance_info: Default::default(),
        target_raid_config: Default::default(),
        ports: Vec::new(),
        state: State::Manageable,
        power: None,
    }
}

struct Rig {
    bmc: Bmc,
    chassis: Arc<SimpleChassis>,
    client: Arc<IpmiClient>,
    settings: IpmiSettings,
}

impl Rig {
    fn with(config: BmcConfig, settings: IpmiSettings) -> Self {
        let chassis = Arc::new(SimpleChassis::default());
        let behind: Arc<dyn Chassis> = chassis.clone();
        let bmc = Bmc::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), config, behind).unwrap();
        let client = Arc::new(IpmiClient::new(settings.clone(), Handle::current()));
        Self { bmc, chassis, client, settings }
    }

    fn new() -> Self {
        Self::with(BmcConfig::default(), settings())
    }

    fn node(&self) -> NodeView {
        node(self.bmc.address(), json!({}))
    }

    fn target(&self) -> Target {
        Target::from_node(&self.node(), &self.settings).unwrap()
    }

    fn power(&self) -> IpmitoolPower {
        IpmitoolPower::new(Arc::clone(&self.client), self.settings.clone())
    }

    fn management(&self) -> IpmitoolManagement {
        IpmitoolManagement::new(Arc::clone(&self.client), self.settings.clone())
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn every_power_target_ends_in_the_state_it_names() {
    let rig = Rig::new();
    let power = rig.power();
    assert_eq!(power.power_state(&rig.node()).await, Ok(PowerState::Off));
    for target in PowerTarget::ALL {
        let reached = power.set_power(&rig.node(), *target, LIMIT).await;
        assert_eq!(reached, Ok(target.end()), "{target}");
        assert_eq!(power.power_state(&rig.node()).await, Ok(target.end()), "{target}");
    }
    use ChassisControl::{Off, On, Soft};
    // on; off; rebooting from off is on alone; soft rebooting; soft off
    assert_eq!(rig.chassis.history(), [On, Off, On, Soft, On, Soft]);
    rig.client.run(&rig.target(), ChassisControl::On).await.unwrap();
    rig.client.run(&rig.target(), ChassisControl::Cycle).await.unwrap();
    rig.client.run(&rig.target(), ChassisControl::Reset).await.unwrap();
    assert_eq!(rig.bmc.stats().opened, 1, "one session served all of it");
}

#[tokio::test]
async fn every_boot_device_is_read_back_with_its_options() {
    let rig = Rig::new();
    let management = rig.management();
    assert_eq!(management.boot_device(&rig.node()).await, Ok((None, None)));
    for device in management.supported_boot_devices() {
        for (persistent, mode) in [(true, BootMode::Uefi), (false, BootMode::Bios)] {
            management.set_boot_device(&rig.node(), *device, persistent, mode).await.unwrap();
            assert_eq!(management.boot_device(&rig.node()).await, Ok((Some(*device), Some(persistent))));
            assert_eq!(rig.chassis.boot_flags().uefi, mode == BootMode::Uefi);
            assert!(rig.chassis.boot_flags().valid);
        }
    }
}

#[tokio::test]
async fn a_third_of_all_datagrams_lost_fails_no_command() {
    for seed in 1..=4 {
        let rig = Rig::new();
        rig.bmc.set_faults(Faults { drop_rate: 0.3, seed, ..Faults::default() });
        for target in [PowerTarget::On, PowerTarget::Reboot, PowerTarget::Off] {
            let reached = rig.power().set_power(&rig.node(), target, LIMIT).await;
            assert_eq!(reached, Ok(target.end()), "seed {seed}, {target}");
        }
        let management = rig.management();
        management.set_boot_device(&rig.node(), BootDevice::Pxe, true, BootMode::Uefi).await.unwrap();
        assert_eq!(rig.chassis.boot_flags().device, 1, "seed {seed}");
        rig.bmc.set_faults(Faults::default());
        rig.client.shutdown().await;
        assert!(rig.bmc.stats().sessions <= 1, "seed {seed}: {:?}", rig.bmc.stats());
    }
}

#[tokio::test]
async fn a_repeated_request_is_carried_out_once() {
    let rig = Rig::new();
    rig.client.run(&rig.target(), ChassisControl::On).await.unwrap();
    // answers come after the first retransmissions, so requests come several times; or so late that the session counts
    // as lost, and another one is opened
    for delay in [100, 400] {
        rig.bmc.set_faults(Faults { delay: Duration::from_millis(delay), ..Faults::default() });
        let before = rig.chassis.history().len();
        for _ in 0..3 {
            rig.client.run(&rig.target(), ChassisControl::Reset).await.unwrap();
        }
        assert_eq!(rig.chassis.history()[before..], [ChassisControl::Reset; 3], "answers after {delay} ms");
    }
    // the session is gone and nobody said so
    rig.bmc.set_faults(Faults::default());
    let before = rig.chassis.history().len();
    for _ in 0..2 {
        rig.bmc.forget_sessions();
        rig.client.run(&rig.target(), ChassisControl::Cycle).await.unwrap();
    }
    assert_eq!(rig.chassis.history()[before..], [ChassisControl::Cycle; 2]);
}

#[tokio::test]
async fn late_doubled_and_overtaking_answers_never_give_a_wrong_state() {
    let rig = Rig::new();
    let jitter = Duration::from_millis(150);
    rig.bmc.set_faults(Faults { jitter, duplicate_rate: 0.5, drop_rate: 0.1, seed: 7, ..Faults::default() });
    for round in 0..12 {
        let (control, wanted) =
            if round % 2 == 0 { (ChassisControl::On, true) } else { (ChassisControl::Off, false) };
        rig.client.run(&rig.target(), control).await.unwrap();
        let status = rig.client.run(&rig.target(), GetChassisStatus).await.unwrap();
        assert_eq!(status.power, wanted, "round {round}");
    }
}

#[tokio::test]
async fn a_bmc_without_suite_17_is_spoken_to_with_3_at_once_and_remembered() {
    let config = BmcConfig { suites: vec![CipherSuite::Three], max_sessions: 64, ..BmcConfig::default() };
    let settings = IpmiSettings { session_idle: Duration::from_millis(100), ..never_again() };
    let rig = Rig::with(config, settings);
    rig.client.run(&rig.target(), GetChassisStatus).await.unwrap();
    assert_eq!(rig.bmc.stats().suite, Some(CipherSuite::Three));
    assert_eq!(rig.bmc.stats().suite_refused, 1);
    until("the idle session is closed", || rig.bmc.stats().sessions == 0).await;
    rig.client.run(&rig.target(), GetChassisStatus).await.unwrap();
    assert_eq!((rig.bmc.stats().opened, rig.bmc.stats().suite_refused), (2, 1), "17 is not tried again");
}

#[tokio::test]
async fn suite_3_is_never_used_where_only_17_is_configured() {
    let config = BmcConfig { suites: vec![CipherSuite::Three], ..BmcConfig::default() };
    let settings = IpmiSettings { cipher_suites: vec![CipherSuite::Seventeen], ..settings() };
    let rig = Rig::with(config, settings);
    let refused = rig.power().power_state(&rig.node()).await.unwrap_err();
    assert!(matches!(&refused, DriverError::Refused { reason, .. } if reason.contains("17")), "{refused}");
    assert_eq!(rig.bmc.stats().opened, 0);
    let asks_for_3 = node(rig.bmc.address(), json!({"ipmi_cipher_suite": 3}));
    let refused = rig.power().validate(&asks_for_3).unwrap_err();
    assert!(matches!(&refused, DriverError::Invalid { key, .. } if key == "ipmi_cipher_suite"), "{refused}");
}

#[tokio::test]
async fn the_strongest_common_suite_is_taken_unless_the_node_names_one() {
    let rig = Rig::new();
    rig.power().power_state(&rig.node()).await.unwrap();
    assert_eq!(rig.bmc.stats().suite, Some(CipherSuite::Seventeen));
    let other = node(rig.bmc.address(), json!({"ipmi_cipher_suite": "3"}));
    rig.power().power_state(&other).await.unwrap();
    assert_eq!(rig.bmc.stats().suite, Some(CipherSuite::Three));
}

#[tokio::test]
async fn a_wrong_password_is_told_apart_from_silence() {
    // it is known at once, without a second transmission
    let rig = Rig::with(BmcConfig::default(), never_again());
    rig.bmc.set_faults(Faults { wrong_password: true, ..Faults::default() });
    let wrong = rig.power().power_state(&rig.node()).await.unwrap_err();
    assert!(matches!(wrong, DriverError::RejectedCredentials { .. }), "{wrong}");
    let unknown = node(rig.bmc.address(), json!({"ipmi_username": "nobody"}));
    let wrong = rig.power().power_state(&unknown).await.unwrap_err();
    assert!(matches!(wrong, DriverError::RejectedCredentials { .. }), "{wrong}");
    assert!(!wrong.to_string().contains("password\""), "{wrong}");

    rig.bmc.set_faults(Faults { silent: true, ..Faults::default() });
    let short = IpmiSettings { command_timeout: Duration::from_millis(400), ..settings() };
    let power = IpmitoolPower::new(Arc::clone(&rig.client), short);
    let silent = power.power_state(&rig.node()).await.unwrap_err();
    let address = rig.bmc.address().to_string();
    let DriverError::Unreachable { what, after, remedy } = &silent else { panic!("{silent}") };
    assert!(
        what.contains(&address) && *after >= Duration::from_millis(390) && !remedy.is_empty(),
        "{silent}"
    );
}

#[tokio::test]
async fn a_user_below_the_wanted_level_is_told_so_and_works_at_its_own() {
    let rig = Rig::with(BmcConfig { max_level: 3, ..BmcConfig::default() }, settings());
    let refused = rig.power().power_state(&rig.node()).await.unwrap_err();
    assert!(
        matches!(&refused, DriverError::RejectedCredentials { remedy, .. } if remedy.contains("ipmi_priv_level"))
    );
    let operator = node(rig.bmc.address(), json!({"ipmi_priv_level": "OPERATOR"}));
    assert_eq!(rig.power().set_power(&operator, PowerTarget::On, LIMIT).await, Ok(PowerState::On));
    let user = node(rig.bmc.address(), json!({"ipmi_priv_level": "USER"}));
    assert_eq!(rig.power().power_state(&user).await, Ok(PowerState::On));
    let refused = rig.power().set_power(&user, PowerTarget::Off, LIMIT).await.unwrap_err();
    assert!(matches!(refused, DriverError::Refused { .. }), "{refused}");
}

#[tokio::test]
async fn a_bmc_key_is_needed_where_there_is_one() {
    let kg = Some(Secret::new(vec![0xAB; 20]));
    let rig = Rig::with(BmcConfig { kg, ..BmcConfig::default() }, settings());
    let without = rig.power().power_state(&rig.node()).await.unwrap_err();
    assert!(
        matches!(&without, DriverError::RejectedCredentials { remedy, .. } if remedy.contains("ipmi_hex_kg_key"))
    );
    let with = node(rig.bmc.address(), json!({"ipmi_hex_kg_key": "ab".repeat(20)}));
    assert_eq!(rig.power().power_state(&with).await, Ok(PowerState::Off));
}

#[tokio::test]
async fn a_forgotten_session_is_opened_again_unnoticed() {
    let rig = Rig::new();
    for round in 1..=3 {
        assert_eq!(rig.power().power_state(&rig.node()).await, Ok(PowerState::Off));
        assert_eq!(rig.bmc.stats().opened, round);
        rig.bmc.forget_sessions();
    }
}

#[tokio::test]
async fn idle_sessions_are_closed_and_shutdown_closes_the_rest() {
    let rig = Rig::with(
        BmcConfig::default(),
        IpmiSettings { session_idle: Duration::from_millis(100), ..settings() },
    );
    rig.client.run(&rig.target(), GetChassisStatus).await.unwrap();
    until("the idle session is closed", || rig.bmc.stats().sessions == 0).await;

    let rig = Rig::new();
    rig.client.run(&rig.target(), GetChassisStatus).await.unwrap();
    assert_eq!(rig.bmc.stats().sessions, 1);
    rig.client.shutdown().await;
    assert_eq!(rig.bmc.stats().sessions, 0);
    assert_eq!(rig.client.run(&rig.target(), GetChassisStatus).await, Err(IpmiError::Stopped));
}

#[tokio::test]
async fn a_session_that_is_soon_to_be_used_again_is_kept_open_until_nobody_comes() {
    let keeping =
        IpmiSettings { session_idle: Duration::from_millis(60), session_kept: LIMIT * 10, ..settings() };
    let rig = Rig::with(BmcConfig::default(), keeping.clone());
    rig.client.run(&rig.target(), GetChassisStatus).await.unwrap();
    let asked = rig.bmc.stats().commands;
    until("it is kept open", || rig.bmc.stats().commands >= asked + 3).await;
    assert_eq!((rig.bmc.stats().sessions, rig.bmc.stats().opened), (1, 1));

    let briefly = IpmiSettings { session_kept: Duration::from_millis(300), ..keeping.clone() };
    let rig = Rig::with(BmcConfig::default(), briefly);
    rig.client.run(&rig.target(), GetChassisStatus).await.unwrap();
    until("nobody came", || rig.bmc.stats().sessions == 0).await;
    assert_eq!(rig.bmc.stats().opened, 1);

    // what keeps it open is no sign of that somebody will come; and a BMC that forgot it is no reason to insist
    let rig = Rig::with(BmcConfig::default(), keeping.clone());
    rig.client.run(&rig.target(), GetChassisStatus).await.unwrap();
    // counted for the whole process
    let sent_again = || ferric_drivers::metrics::METRICS.ipmi_retransmissions.get();
    let before = sent_again();
    rig.bmc.forget_sessions();
    until("the client has noticed", || sent_again() > before).await;
    let status = rig.client.run(&rig.target(), GetChassisStatus).await.unwrap();
    assert!(!status.power && rig.bmc.stats().opened == 2);

    // a controller that cannot bear it is not bothered
    let slow = IpmiSettings { min_command_interval: Duration::from_millis(1), ..keeping };
    let rig = Rig::with(BmcConfig::default(), slow);
    rig.client.run(&rig.target(), GetChassisStatus).await.unwrap();
    let asked = rig.bmc.stats().commands;
    until("the idle session is closed", || rig.bmc.stats().sessions == 0).await;
    assert!(rig.bmc.stats().commands <= asked + 1, "nothing but Close Session");
}

#[tokio::test]
async fn a_command_waits_for_the_session_that_a_killed_process_left_behind() {
    let quick = IpmiSettings { retransmit_max: Duration::from_millis(50), ..settings() };
    let rig = Rig::with(BmcConfig { max_sessions: 1, ..BmcConfig::default() }, quick);
    let dead = IpmiClient::new(settings(), Handle::current());
    dead.run(&rig.target(), GetChassisStatus).await.unwrap();
    // the dead process's session holds the only slot, and nobody closes it
    let (power, node) = (rig.power(), rig.node());
    let state = power.power_state(&node);
    let free = async {
        until("the BMC refuses", || rig.bmc.stats().full > 0).await;
        rig.bmc.forget_sessions();
    };
    assert_eq!(futures_util::future::join(state, free).await.0, Ok(PowerState::Off));
    drop(dead);
}

#[tokio::test]
async fn many_callers_share_one_session_even_where_they_go_away() {
    let rig = Rig::with(BmcConfig { max_sessions: 1, ..BmcConfig::default() }, settings());
    rig.bmc.set_faults(Faults { delay: Duration::from_millis(5), ..Faults::default() });
    let target = rig.target();
    for _ in 0..20 {
        // a caller that gives up in the middle must not cost the BMC its only slot
        let _ =
            tokio::time::timeout(Duration::from_millis(3), rig.client.run(&target, GetChassisStatus)).await;
    }
    let all = (0..20).map(|_| rig.client.run(&target, GetChassisStatus));
    for answer in futures_util::future::join_all(all).await {
        answer.unwrap();
    }
    let stats = rig.bmc.stats();
    assert_eq!((stats.sessions, stats.opened, stats.full), (1, 1, 0));
}

#[tokio::test]
async fn a_bmc_is_reached_over_ipv6_and_a_name_without_address_is_named() {
    let Ok(bmc) =
        Bmc::start("[::1]:0".parse().unwrap(), BmcConfig::default(), Arc::new(SimpleChassis::default()))
    else {
        return; // this host has no IPv6
    };
    let client = Arc::new(IpmiClient::new(settings(), Handle::current()));
    let power = IpmitoolPower::new(Arc::clone(&client), settings());
    for host in ["::1", "[::1]"] {
        let node = node(bmc.address(), json!({"ipmi_address": host}));
        assert_eq!(power.power_state(&node).await, Ok(PowerState::Off), "{host}");
    }
    let nameless = node(bmc.address(), json!({"ipmi_address": "no-such-host.invalid"}));
    let error = power.power_state(&nameless).await.unwrap_err();
    assert!(matches!(&error, DriverError::Invalid { key, .. } if key == "ipmi_address"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_bmcs_answer_over_one_socket() {
    let chassis = |index: usize| -> Arc<dyn Chassis> {
        let chassis = SimpleChassis::default();
        if index % 2 == 1 {
            chassis.control(ChassisControl::On);
        }
        Arc::new(chassis)
    };
    // an address block of its own: other tests and a running demo use others
    let first = Ipv4Addr::new(127, 93, 0, 1);
    let fleet = BmcFleet::start(500, first, 0, &BmcConfig::default(), chassis).unwrap();
    let client = IpmiClient::new(IpmiSettings::default(), Handle::current());
    let nodes: Vec<_> = fleet.bmcs().iter().map(|bmc| node(bmc.address(), json!({}))).collect();
    let targets: Vec<_> =
        nodes.iter().map(|node| Target::from_node(node, client.settings()).unwrap()).collect();
    for sweep in 0..2 {
        let begun = Instant::now();
        let all = targets.iter().map(|target| client.run(target, GetChassisStatus));
        for (index, status) in futures_util::future::join_all(all).await.into_iter().enumerate() {
            assert_eq!(status.unwrap().power, index % 2 == 1, "BMC {index}");
        }
        println!("sweep {sweep}: {:?}", begun.elapsed());
    }
    assert!(fleet.bmcs().iter().all(|bmc| bmc.stats().opened == 1));
    client.shutdown().await;
    assert!(fleet.bmcs().iter().all(|bmc| bmc.stats().sessions == 0));
}
