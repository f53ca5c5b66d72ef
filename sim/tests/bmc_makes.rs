//! Every row of the table of quirks, and what the session layer has to bear, against a simulated BMC that
//! misbehaves: without the quirk it goes wrong, with it it goes well.

#![allow(clippy::unwrap_used)] // a test may

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferric_drivers::DriverError;
use ferric_drivers::interface::{ManagementInterface, NodeView, PowerInterface};
use ferric_drivers::management::IpmitoolManagement;
use ferric_drivers::power::IpmitoolPower;
use ferric_drivers::protocol::ipmi::command::{BootFlags, ChassisControl, GetChassisStatus};
use ferric_drivers::protocol::ipmi::quirks::{NAMES, TABLE};
use ferric_drivers::protocol::ipmi::v15::Authentication;
use ferric_drivers::protocol::ipmi::{CipherSuite, IpmiClient, IpmiError, IpmiSettings, Target};
use ferric_machine::{BootDevice, BootMode, PowerState, PowerTarget, State};
use ferric_sim::bmc::{Behind, Bmc, BmcConfig, Chassis, Faults, Manner, Personality, SimpleChassis};
use serde_json::{Value, json};
use tokio::runtime::Handle;

const LIMIT: Duration = Duration::from_secs(90);

fn settings() -> IpmiSettings {
    IpmiSettings {
        retransmit_first: Duration::from_millis(60),
        retransmit_max: Duration::from_millis(240),
        command_timeout: LIMIT,
        poll_interval: Duration::from_millis(10),
        ..IpmiSettings::default()
    }
}

/// Transmits once, and never asks again.
fn patient() -> IpmiSettings {
    IpmiSettings { retransmit_first: LIMIT * 2, retransmit_max: LIMIT * 2, ..settings() }
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

    fn new(personality: Personality) -> Self {
        Self::with(BmcConfig { personality, ..BmcConfig::default() }, settings())
    }

    fn node(&self, more: Value) -> NodeView {
        let mut driver_info = json!({
            "ipmi_address": self.bmc.address().ip().to_string(), "ipmi_port": self.bmc.address().port(),
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

    fn target(&self, more: Value) -> Target {
        Target::from_node(&self.node(more), &self.settings).unwrap()
    }

    fn power(&self) -> IpmitoolPower {
        IpmitoolPower::new(Arc::clone(&self.client), self.settings.clone())
    }

    fn management(&self) -> IpmitoolManagement {
        IpmitoolManagement::new(Arc::clone(&self.client), self.settings.clone())
    }

    async fn is_on(&self, target: &Target) -> bool {
        self.client.run(target, GetChassisStatus).await.unwrap().power
    }
}

#[test]
fn every_row_and_every_name_has_its_test_here_or_with_the_console() {
    let (here, console) = (include_str!("bmc_makes.rs"), include_str!("bmc_sol.rs"));
    let tested = [
        ("boot flags expire", "boot_flags_outlive_the_time_after_which_a_bmc_forgets_them", here),
        (
            "persistent boot and EFI",
            "persistent_boot_flags_keep_the_efi_bit_unless_the_node_says_otherwise",
            here,
        ),
        ("already off", "off_is_reached_where_a_bmc_refuses_to_switch_off_what_is_off", here),
        ("state after reset", "what_a_bmc_says_about_power_is_not_trusted_right_after_a_reset", here),
        ("stale SOL", "a_line_that_another_session_has_is_taken_over_and_said_so", console),
        ("passing codes", "a_busy_bmc_is_asked_again_until_it_answers", here),
        ("Supermicro UEFI disk", "supermicro_boots_the_disk_under_uefi_by_its_own_selector", here),
        ("spacing before IPMI 2.0", "commands_are_spaced_for_controllers_that_lose_what_comes_quickly", here),
    ];
    let rows: Vec<_> = TABLE.iter().map(|row| row.name).collect();
    assert_eq!(rows, tested.map(|(row, ..)| row));
    for (row, test, file) in tested {
        let found = file.contains(&format!("#[tokio::test]\nasync fn {test}()"));
        assert!(found, "no test {test} for {row}");
    }
    assert_eq!(NAMES.len(), 8);
    for name in Personality::NAMES {
        assert!(Personality::named(name).is_some(), "{name}");
    }
    assert!(Personality::named("sane").is_none());
}

#[tokio::test]
async fn boot_flags_outlive_the_time_after_which_a_bmc_forgets_them() {
    let forgetful =
        || Personality { flags_expire: Some(Duration::from_millis(200)), ..Personality::default() };
    let (kept, lost) = (Rig::new(forgetful()), Rig::new(forgetful()));
    let set = async |rig: &Rig, more: Value| {
        let node = rig.node(more);
        rig.management().set_boot_device(&node, BootDevice::Pxe, true, BootMode::Uefi).await.unwrap();
    };
    set(&kept, json!({})).await;
    set(&lost, json!({"ipmi_disable_boot_timeout": false})).await;
    let read = async |rig: &Rig| rig.management().boot_device(&rig.node(json!({}))).await.unwrap().0;
    let deadline = Instant::now() + LIMIT;
    while read(&lost).await.is_some() {
        assert!(Instant::now() < deadline, "never forgotten");
    }
    // set before the other one, so its time is over too
    assert_eq!(read(&kept).await, Some(BootDevice::Pxe));

    // the configuration's default is the node's where the node says nothing
    let never = IpmiSettings { disable_boot_timeout: false, ..settings() };
    let lost = Rig::with(BmcConfig { personality: forgetful(), ..BmcConfig::default() }, never);
    set(&lost, json!({})).await;
    while read(&lost).await.is_some() {
        assert!(Instant::now() < deadline, "never forgotten");
    }
}

#[tokio::test]
async fn a_bmc_without_the_parameter_that_keeps_boot_flags_takes_them_all_the_same() {
    let rig = Rig::new(Personality { no_parameter_3: true, ..Personality::default() });
    let node = rig.node(json!({}));
    rig.management().set_boot_device(&node, BootDevice::Pxe, true, BootMode::Uefi).await.unwrap();
    assert_eq!(rig.management().boot_device(&node).await, Ok((Some(BootDevice::Pxe), Some(true))));
}

#[tokio::test]
async fn persistent_boot_flags_keep_the_efi_bit_unless_the_node_says_otherwise() {
    let rig = Rig::new(Personality::default());
    for (more, uefi) in [(json!({}), true), (json!({"ipmi_quirk_efi_with_persistent": "no"}), false)] {
        let node = rig.node(more);
        rig.management().set_boot_device(&node, BootDevice::Disk, true, BootMode::Uefi).await.unwrap();
        assert_eq!(rig.chassis.boot_flags().uefi, uefi);
        rig.management().set_boot_device(&node, BootDevice::Disk, false, BootMode::Uefi).await.unwrap();
        assert!(rig.chassis.boot_flags().uefi, "once is with it in any case");
    }
}

#[tokio::test]
async fn off_is_reached_where_a_bmc_refuses_to_switch_off_what_is_off() {
    for code in [0xD5, 0xCC, 0xFF] {
        let rig = Rig::new(Personality { already_off: code, ..Personality::default() });
        let strict = rig.node(json!({"ipmi_quirk_already_off_is_success": false}));
        let refused = rig.power().set_power(&strict, PowerTarget::Off, LIMIT).await.unwrap_err();
        assert!(matches!(refused, DriverError::Refused { .. }), "{refused}");
        let off = rig.power().set_power(&rig.node(json!({})), PowerTarget::Off, LIMIT).await;
        assert_eq!(off, Ok(PowerState::Off), "{code:#x}");
    }
}

#[tokio::test]
async fn what_a_bmc_says_about_power_is_not_trusted_right_after_a_reset() {
    let lag = |rig: &Rig, lagging| {
        rig.bmc.set_personality(Personality { lagging, ..Personality::default() });
    };
    // whoever waits waits longer than this; whoever does not is there before the other is over
    let (short, long) = (Duration::from_millis(300), Duration::from_secs(3600));
    let rig = Rig::new(Personality { lagging: short, ..Personality::default() });
    let trusting = rig.target(json!({"ipmi_quirk_settle_after_reset": 0}));
    let wary =
        rig.target(json!({"ipmi_quirk_settle_after_reset": "0.4", "ipmi_quirk_settle_after_power": 0.4}));
    rig.client.run(&wary, ChassisControl::On).await.unwrap();
    assert!(rig.is_on(&wary).await);
    lag(&rig, long);
    rig.client.run(&trusting, ChassisControl::Reset).await.unwrap();
    assert!(!rig.is_on(&trusting).await, "it says off, and is on");
    lag(&rig, short);
    rig.client.run(&wary, ChassisControl::Reset).await.unwrap();
    assert!(rig.is_on(&wary).await);
    lag(&rig, long);
    rig.client.run(&trusting, ChassisControl::Off).await.unwrap();
    assert!(rig.is_on(&trusting).await, "it says on, and is off");
    lag(&rig, short);
    rig.client.run(&wary, ChassisControl::On).await.unwrap();
    rig.client.run(&wary, ChassisControl::Off).await.unwrap();
    assert!(!rig.is_on(&wary).await);
    // there is no time to wait: it is told rather than guessed
    rig.client.run(&rig.target(json!({})), ChassisControl::On).await.unwrap();
    rig.client.run(&rig.target(json!({})), ChassisControl::Reset).await.unwrap();
    let early = rig.client.run_within(&rig.target(json!({})), GetChassisStatus, Duration::from_secs(5)).await;
    assert!(matches!(early, Err(IpmiError::Unsettled(_))), "{early:?}");
}

#[tokio::test]
async fn a_busy_bmc_is_asked_again_until_it_answers() {
    let busy = || Rig::new(Personality::named("busy").unwrap());
    for never in [json!([]), json!("0xcf")] {
        let rig = busy();
        let once = rig.target(json!({"ipmi_quirk_retryable": never}));
        assert_eq!(rig.client.run(&once, GetChassisStatus).await, Err(IpmiError::Completion(0xC0)));
    }
    let rig = busy();
    rig.client.run(&rig.target(json!({})), GetChassisStatus).await.unwrap();

    // the operator's own errors, as ipmitool words them and by number
    for words in ["Command response could not", "0xCE"] {
        let odd = || BmcConfig {
            personality: Personality { busy: [0xCE].into(), ..Personality::default() },
            ..BmcConfig::default()
        };
        let rig = Rig::with(odd(), settings());
        let error = rig.client.run(&rig.target(json!({})), GetChassisStatus).await;
        assert_eq!(error, Err(IpmiError::Completion(0xCE)));
        let more = IpmiSettings { additional_retryable: vec![words.to_owned()], ..settings() };
        let rig = Rig::with(odd(), more);
        rig.client.run(&rig.target(json!({})), GetChassisStatus).await.unwrap();
    }
    // never beyond the time of the command
    let config = BmcConfig {
        personality: Personality { busy: vec![0xC0; 1000].into(), ..Personality::default() },
        ..BmcConfig::default()
    };
    let rig = Rig::with(config, patient());
    let busy = rig.client.run_within(&rig.target(json!({})), GetChassisStatus, LIMIT).await;
    assert_eq!(busy, Err(IpmiError::Completion(0xC0)));
}

/// A machine that notes what it started from.
#[derive(Default)]
struct Starts {
    machine: SimpleChassis,
    from: std::sync::Mutex<Vec<Option<BootDevice>>>,
}

impl Chassis for Starts {
    fn power(&self) -> bool {
        self.machine.power()
    }

    fn control(&self, control: ChassisControl) {
        if control == ChassisControl::On {
            let flags = self.boot_flags();
            self.from.lock().unwrap().push(flags.boot_device().filter(|_| flags.valid));
        }
        self.machine.control(control);
    }

    fn boot_flags(&self) -> BootFlags {
        self.machine.boot_flags()
    }

    fn set_boot_flags(&self, flags: BootFlags) {
        self.machine.set_boot_flags(flags);
    }
}

#[tokio::test]
async fn the_boot_device_is_set_before_every_start_where_the_bmc_forgets_it() {
    for force in [true, false] {
        let mut rig = Rig::new(Personality::default());
        let machine = Arc::new(Starts::default());
        let config =
            BmcConfig { personality: Personality::named("one-start").unwrap(), ..BmcConfig::default() };
        let behind: Arc<dyn Chassis> = machine.clone();
        rig.bmc = Bmc::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), config, behind).unwrap();
        let node = rig.node(json!({"ipmi_force_boot_device": force}));
        let restart = async || {
            for target in [PowerTarget::Off, PowerTarget::On] {
                rig.power().set_power(&node, target, LIMIT).await.unwrap();
            }
        };
        rig.management().set_boot_device(&node, BootDevice::Disk, true, BootMode::Bios).await.unwrap();
        restart().await;
        restart().await;
        // what is for the next start goes before, once
        rig.management().set_boot_device(&node, BootDevice::Pxe, false, BootMode::Bios).await.unwrap();
        restart().await;
        restart().await;
        let disk = Some(BootDevice::Disk).filter(|_| force);
        let expected = [Some(BootDevice::Disk), disk, Some(BootDevice::Pxe), disk];
        assert_eq!(*machine.from.lock().unwrap(), expected, "forced: {force}");
    }
}

/// What a Supermicro board starts from.
fn supermicro_starts(flags: BootFlags) -> Option<BootDevice> {
    match (flags.uefi, flags.device) {
        (true, 9) | (false, 2) => Some(BootDevice::Disk),
        (true, 2) => None,
        _ => flags.boot_device(),
    }
}

#[tokio::test]
async fn supermicro_boots_the_disk_under_uefi_by_its_own_selector() {
    let rig = Rig::new(Personality::supermicro());
    let starts = async |node: &NodeView, mode| {
        rig.management().set_boot_device(node, BootDevice::Disk, true, mode).await.unwrap();
        assert_eq!(rig.management().boot_device(node).await, Ok((Some(BootDevice::Disk), Some(true))));
        supermicro_starts(rig.chassis.boot_flags())
    };
    let node = rig.node(json!({}));
    assert_eq!(starts(&node, BootMode::Uefi).await, Some(BootDevice::Disk));
    assert_eq!(starts(&node, BootMode::Bios).await, Some(BootDevice::Disk));
    let plain = rig.node(json!({"ipmi_quirk_uefi_disk": "0x08"}));
    assert_eq!(starts(&plain, BootMode::Uefi).await, None);

    // other makers' boards have the disk where the specification has it, unless the node says what it is
    let rig = Rig::new(Personality::default());
    let mut node = rig.node(json!({}));
    rig.management().set_boot_device(&node, BootDevice::Disk, true, BootMode::Uefi).await.unwrap();
    assert_eq!(rig.chassis.boot_flags().device, 2);
    node.properties.insert("vendor".to_owned(), json!("Supermicro"));
    rig.management().set_boot_device(&node, BootDevice::Disk, true, BootMode::Uefi).await.unwrap();
    assert_eq!(rig.chassis.boot_flags().device, 9);
}

#[tokio::test]
async fn commands_are_spaced_for_controllers_that_lose_what_comes_quickly() {
    let rig = Rig::new(Personality::named("fragile").unwrap());
    let hasty = rig.target(json!({"ipmi_quirk_command_interval": 0}));
    let begun = Instant::now();
    while rig.bmc.stats().upset == 0 {
        rig.client.run(&hasty, GetChassisStatus).await.unwrap();
        assert!(begun.elapsed() < LIMIT, "nothing was lost");
    }
    // it says who it is before it is fragile: nobody knows yet that it has to be spaced
    let config = BmcConfig { personality: Personality::old_controller(), ..BmcConfig::default() };
    let rig = Rig::with(config, patient());
    let told = rig.target(json!({}));
    assert_eq!(rig.client.quirks(&told).await.unwrap().command_interval, Duration::from_millis(100));
    rig.bmc.set_personality(Personality::named("fragile").unwrap());
    for _ in 0..5 {
        rig.client.run(&told, GetChassisStatus).await.unwrap();
    }
    assert_eq!(rig.bmc.stats().upset, 0, "nothing lost any more");

    // a node that says so is spaced from the first command on, and the configuration holds for all
    let fragile =
        || BmcConfig { personality: Personality::named("fragile").unwrap(), ..BmcConfig::default() };
    let rig = Rig::with(fragile(), patient());
    let slow = rig.target(json!({"ipmi_quirk_command_interval": "0.1"}));
    let set = IpmiSettings { min_command_interval: Duration::from_millis(100), ..patient() };
    let by_configuration = Rig::with(fragile(), set);
    for (rig, target) in [(&rig, slow), (&by_configuration, by_configuration.target(json!({})))] {
        for _ in 0..3 {
            rig.client.run(&target, GetChassisStatus).await.unwrap();
        }
        assert_eq!(rig.bmc.stats().upset, 0);
    }
}

#[tokio::test]
async fn who_answers_is_asked_once_for_each_session() {
    let rig = Rig::new(Personality::default());
    let target = rig.target(json!({}));
    for _ in 0..3 {
        rig.client.quirks(&target).await.unwrap();
    }
    let first = rig.bmc.stats().commands;
    rig.client.quirks(&target).await.unwrap();
    assert_eq!(rig.bmc.stats().commands, first);
    rig.bmc.forget_sessions();
    rig.client.run(&target, GetChassisStatus).await.unwrap();
    let again = rig.bmc.stats().commands;
    rig.client.quirks(&target).await.unwrap();
    assert_eq!(rig.bmc.stats().commands, again + 1);
    // a BMC that is not there is no BMC without quirks
    rig.bmc.set_faults(Faults { silent: true, ..Faults::default() });
    rig.bmc.forget_sessions();
    let other = rig.target(json!({"ipmi_cipher_suite": 3, "ipmi_bridging": "no"}));
    let silent = rig.client.run_within(&other, GetChassisStatus, Duration::from_millis(400)).await;
    assert!(matches!(silent, Err(IpmiError::Silent(_))), "{silent:?}");
}

#[tokio::test]
async fn a_bmc_that_answers_another_suite_than_asked_is_refused() {
    let rig = Rig::new(Personality { other_suite: Some(CipherSuite::Three), ..Personality::default() });
    let strict = rig.node(json!({"ipmi_cipher_suite": 17}));
    let refused = rig.power().power_state(&strict).await.unwrap_err();
    assert!(
        matches!(&refused, DriverError::Refused { reason, .. } if reason.contains("another suite")),
        "{refused}"
    );
    assert_eq!(rig.bmc.stats().opened, 0);
    // asked for by name, the other one is what was asked for
    rig.power().power_state(&rig.node(json!({}))).await.unwrap();
    assert_eq!(rig.bmc.stats().suite, Some(CipherSuite::Three));
}

const OLD: &str = "ipmi_protocol_version";

#[tokio::test]
async fn ipmi_1_5_serves_where_nothing_else_is_spoken() {
    for kind in [Authentication::Md5, Authentication::Password] {
        for unsigned in [false, true] {
            let rig = Rig::new(Personality {
                plus: false,
                old: vec![kind],
                unsigned,
                ..Personality::old_controller()
            });
            let node = rig.node(json!({OLD: "1.5"}));
            for target in PowerTarget::ALL {
                let reached = rig.power().set_power(&node, *target, LIMIT).await;
                assert_eq!(reached, Ok(target.end()), "{kind:?}, {target}");
            }
            assert_eq!(rig.bmc.stats().opened, 1, "one session served all of it");
            rig.client.shutdown().await;
            assert_eq!(rig.bmc.stats().sessions, 0);
        }
    }
    // what is wrong is told with what to do
    let rig = Rig::new(Personality::named("ipmi-1.5").unwrap());
    let short = IpmiSettings { command_timeout: Duration::from_millis(900), ..settings() };
    let power = IpmitoolPower::new(Arc::clone(&rig.client), short);
    let newer = power.power_state(&rig.node(json!({}))).await.unwrap_err();
    assert!(newer.to_string().contains(OLD), "{newer}");
    let wrong = power.power_state(&rig.node(json!({OLD: "1.5", "ipmi_username": "nobody"}))).await;
    assert!(matches!(wrong, Err(DriverError::RejectedCredentials { .. })), "{wrong:?}");
    let wrong =
        power.power_state(&rig.node(json!({OLD: "1.5", "ipmi_password": "wrong"}))).await.unwrap_err();
    assert!(wrong.to_string().contains("ipmi_password"), "{wrong}");
}

#[tokio::test]
async fn ipmi_1_5_bears_loss_lost_sessions_and_full_slots() {
    let config = |max_sessions| BmcConfig {
        personality: Personality { plus: false, ..Personality::default() },
        max_sessions,
        ..BmcConfig::default()
    };
    let quick = IpmiSettings { retransmit_max: Duration::from_millis(60), ..settings() };
    let rig = Rig::with(config(4), quick.clone());
    let target = rig.target(json!({OLD: "1.5"}));
    rig.bmc.set_faults(Faults { drop_rate: 0.2, duplicate_rate: 0.3, seed: 3, ..Faults::default() });
    for round in 0..20 {
        let on = round % 2 == 0;
        let control = if on { ChassisControl::On } else { ChassisControl::Off };
        rig.client.run(&target, control).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(rig.is_on(&target).await, on, "round {round}");
        if round == 10 {
            rig.bmc.forget_sessions();
        }
    }
    let rig = Rig::with(config(1), quick);
    let dead = IpmiClient::new(settings(), Handle::current());
    let target = rig.target(json!({OLD: "1.5"}));
    dead.run(&target, GetChassisStatus).await.unwrap();
    let full =
        rig.client.run_within(&target, GetChassisStatus, Duration::from_millis(300)).await.unwrap_err();
    assert!(full.clone().of(&target, "status").to_string().contains("wait a minute"), "{full}");
    assert!(matches!(full, IpmiError::NoFreeSession(_)), "{full}");
}

#[tokio::test]
async fn answers_that_come_again_later_never_give_a_wrong_state() {
    for version in ["1.5", "2.0"] {
        let rig = Rig::new(Personality { repeats_itself: true, ..Personality::default() });
        rig.bmc.set_faults(Faults { jitter: Duration::from_millis(80), seed: 5, ..Faults::default() });
        let target = rig.target(json!({OLD: version}));
        for round in 0..10 {
            let on = round % 2 == 0;
            let control = if on { ChassisControl::On } else { ChassisControl::Off };
            rig.client.run(&target, control).await.unwrap();
            assert_eq!(rig.is_on(&target).await, on, "{version}, round {round}");
        }
    }
}

struct Blades {
    single: Arc<SimpleChassis>,
    dual: Arc<SimpleChassis>,
    behind: Vec<Behind>,
}

fn blades() -> Blades {
    let (single, dual) = (Arc::new(SimpleChassis::default()), Arc::new(SimpleChassis::default()));
    let mut carrier = Behind::new(0, 0x82, Arc::new(SimpleChassis::default()));
    carrier.behind.push(Behind::new(7, 0x74, dual.clone()));
    let behind = vec![Behind::new(7, 0x72, single.clone()), carrier];
    Blades { single, dual, behind }
}

const SINGLE: [(&str, &str); 3] =
    [("ipmi_bridging", "single"), ("ipmi_target_channel", "7"), ("ipmi_target_address", "0x72")];
const DUAL: [(&str, &str); 5] = [
    ("ipmi_bridging", "dual"),
    ("ipmi_transit_channel", "0"),
    ("ipmi_transit_address", "0x82"),
    ("ipmi_target_channel", "7"),
    ("ipmi_target_address", "0x74"),
];

fn keys(all: &[(&str, &str)]) -> Value {
    all.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
}

#[tokio::test]
async fn commands_reach_the_controller_behind_the_bmc_and_no_other() {
    for manner in [Manner::Separate, Manner::Inside, Manner::Queue] {
        for version in ["2.0", "1.5"] {
            let Blades { single, dual, behind } = blades();
            let rig = Rig::new(Personality { behind, bridging: manner, ..Personality::default() });
            rig.bmc.set_faults(Faults { drop_rate: 0.1, seed: 11, ..Faults::default() });
            for (name, chassis, way) in [("single", &single, keys(&SINGLE)), ("dual", &dual, keys(&DUAL))] {
                let mut node = rig.node(way);
                node.driver_info.insert(OLD.to_owned(), json!(version));
                let done = format!("{manner:?}, {version}, {name}");
                let on = rig.power().set_power(&node, PowerTarget::On, LIMIT).await;
                assert_eq!((on, chassis.power()), (Ok(PowerState::On), true), "{done}");
                assert!(!rig.chassis.power(), "{done}: the BMC's own machine is another");
                let off = rig.power().set_power(&node, PowerTarget::Off, LIMIT).await;
                assert_eq!((off, chassis.power()), (Ok(PowerState::Off), false), "{done}");
            }
            assert!(rig.chassis.history().is_empty());
        }
    }
}

#[tokio::test]
async fn a_controller_that_is_not_there_is_named_with_what_to_check() {
    let rig = Rig::new(Personality { behind: blades().behind, ..Personality::default() });
    let mut way = keys(&SINGLE);
    way["ipmi_target_address"] = json!("0x76");
    let refused = rig.power().power_state(&rig.node(way)).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("nobody answers there") && text.contains("ipmi_target_address"), "{text}");
    let rig = Rig::new(Personality::default());
    let refused = rig.power().power_state(&rig.node(keys(&SINGLE))).await.unwrap_err();
    assert!(refused.to_string().contains("does not know the command"), "{refused}");
}
