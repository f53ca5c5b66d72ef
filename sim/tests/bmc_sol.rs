//! Serial over LAN of the simulated BMC, judged by `ipmitool`; and our consoles, judged by plain TCP clients.

#![allow(clippy::unwrap_used)] // a test may

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferric_drivers::DriverError;
use ferric_drivers::Secret;
use ferric_drivers::console::{Attachment, ConsoleSettings, Consoles, Told, Unheard};
use ferric_drivers::protocol::ipmi::command::ChassisControl;
use ferric_drivers::protocol::ipmi::handshake::Login;
use ferric_drivers::protocol::ipmi::{CipherSuite, IpmiClient, IpmiSettings, Privilege, Target};
use ferric_sim::bmc::{Bmc, BmcConfig, Chassis, Faults, SimpleChassis, UnixSerial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);

struct Rig {
    bmc: Bmc,
    chassis: Arc<SimpleChassis>,
}

impl Rig {
    fn new() -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    fn at(address: SocketAddr) -> Self {
        let chassis = Arc::new(SimpleChassis::default());
        let behind: Arc<dyn Chassis> = chassis.clone();
        Self { bmc: Bmc::start(address, BmcConfig::default(), behind).unwrap(), chassis }
    }

    fn target(&self) -> Target {
        Target {
            login: Login {
                user: b"admin".to_vec(),
                password: Secret::new(b"password".to_vec()),
                kg: None,
                privilege: Privilege::Administrator,
            },
            suites: CipherSuite::ALL.to_vec(),
            ..target_at(self.bmc.address())
        }
    }

    fn tool(&self, words: &str) -> Command {
        let port = self.bmc.address().port();
        let mut command = Command::new("script");
        // ipmitool wants a terminal
        let line = format!("ipmitool -I lanplus -C 3 -H 127.0.0.1 -p {port} -U admin -P password {words}");
        command.args(["-qfec", &line, "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn must(&self, words: &str) -> String {
        let output = self.tool(words).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words}: {text}");
        text
    }
}

fn target_at(address: SocketAddr) -> Target {
    use ferric_drivers::interface::{Json, NodeView};
    let info = serde_json::json!({"ipmi_address": address.ip().to_string(), "ipmi_port": address.port()});
    let node = NodeView {
        uuid: Uuid::new_v4(),
        name: None,
        driver: "ipmi".into(),
        driver_info: info.as_object().unwrap().clone(),
        driver_internal_info: Json::new(),
        properties: Json::new(),
        instance_info: Json::new(),
        target_raid_config: Json::new(),
        ports: Vec::new(),
        state: ferric_machine::State::Available,
        power: None,
    };
    Target::from_node(&node, &IpmiSettings::default()).unwrap()
}

fn consoles() -> Consoles {
    let ipmi = IpmiSettings {
        retransmit_first: Duration::from_millis(100),
        retransmit_max: Duration::from_millis(400),
        ..IpmiSettings::default()
    };
    let settings = ConsoleSettings {
        open_timeout: Duration::from_secs(5),
        reconnect_first: Duration::from_millis(100),
        reconnect_max: Duration::from_millis(500),
        port_ranges: std::iter::once(20_000..40_000).collect(),
        // nobody else listens there
        address: own_address().into(),
        ..ConsoleSettings::default()
    };
    Consoles::new(settings, Arc::new(IpmiClient::new(ipmi, Handle::current())), Handle::current())
}

/// A loopback address of this process.
fn own_address() -> Ipv4Addr {
    let [.., a, b] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 77, a, b.max(1))
}

/// Reads until `what` has come; gives all that came.
async fn read_until(from: &mut (impl AsyncReadExt + Unpin), what: &str) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if text.contains(what) {
            return text;
        }
        match timeout(PATIENCE, from.read(&mut buffer)).await {
            Ok(Ok(len)) if len > 0 => all.extend_from_slice(&buffer[..len]),
            other => panic!("'{what}' did not come ({other:?}): {text}"),
        }
    }
}

/// The same for one who is attached; notices count.
async fn hear_until(who: &Attachment, what: &str) -> String {
    let mut all = String::new();
    while !all.contains(what) {
        match timeout(PATIENCE, who.next()).await.unwrap_or_else(|_| panic!("'{what}' did not come: {all}")) {
            Told::Bytes(bytes) => all.push_str(&String::from_utf8_lossy(&bytes)),
            Told::State(text) => all.push_str(&format!("[{text}]")),
            Told::Role { writer, watchers } => all.push_str(&format!("[writer {writer} of {watchers} more]")),
            Told::Missed(count) => all.push_str(&format!("[missed {count}]")),
            Told::Closed(why) => all.push_str(&format!("[closed: {why}]")),
        }
    }
    all
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let waiting = async {
        while !is() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn ipmitool_sees_the_machine_start_logs_in_and_leaves() {
    let rig = Rig::new();
    assert!(rig.must("sol info").await.contains("Enabled"));
    let mut tool = rig.tool("sol activate").spawn().unwrap();
    let (mut typed, mut shown) = (tool.stdin.take().unwrap(), tool.stdout.take().unwrap());
    read_until(&mut shown, "SOL Session operational").await;
    rig.chassis.control(ChassisControl::On);
    let seen = read_until(&mut shown, "simulated login:").await;
    assert!(seen.contains("Simulated BIOS") && seen.contains("Linux version"), "{seen}");
    typed.write_all(b"root\r").await.unwrap();
    read_until(&mut shown, "# ").await;
    typed.write_all(b"echo over the wire and back\r").await.unwrap();
    read_until(&mut shown, "\nover the wire and back").await;
    typed.write_all(b"~B").await.unwrap();
    assert!(rig.bmc.sol_active());
    // only one can have it
    let second = rig.tool("sol activate").stdin(Stdio::null()).output().await.unwrap();
    let text = String::from_utf8_lossy(&second.stdout).into_owned();
    assert!(text.contains("SOL payload already active on another session"), "{text}");
    rig.must("sol deactivate").await;
    until("the line stayed active", || !rig.bmc.sol_active()).await;
    tool.kill().await.unwrap();
}

#[tokio::test]
async fn a_console_shows_the_machine_start_to_tcp_clients_of_whom_the_first_types() {
    let (rig, consoles, node) = (Rig::new(), consoles(), Uuid::new_v4());
    let port = consoles.open(node, rig.target(), None, None).await.unwrap();
    let at = (own_address(), port);
    let mut first = TcpStream::connect(at).await.unwrap();
    read_until(&mut first, "you type").await;
    rig.chassis.control(ChassisControl::On);
    let seen = read_until(&mut first, "simulated login: ").await;
    assert!(seen.contains("Simulated BIOS") && seen.contains("Linux version"), "{seen}");

    let mut second = TcpStream::connect(at).await.unwrap();
    let seen = read_until(&mut second, "you watch]").await;
    assert!(seen.contains("simulated login: ") && seen.contains("Simulated BIOS"), "{seen}");
    second.write_all(b"nobody\r").await.unwrap();
    read_until(&mut second, "what you type goes nowhere]").await;
    first.write_all(b"root\r").await.unwrap();
    let seen = read_until(&mut second, "Welcome, root").await;
    assert!(!seen.contains("nobody"), "{seen}");

    // whoever goes takes nothing with him
    drop(first);
    read_until(&mut second, "you type").await;
    second.write_all(b"echo still there\r").await.unwrap();
    read_until(&mut second, "\nstill there").await;

    consoles.close(node, "the console is switched off").await;
    read_until(&mut second, "the console is switched off").await;
    assert!(!rig.bmc.sol_active(), "the BMC was told");
    assert_eq!(rig.bmc.stats().sessions, 1, "only that of the commands is left");
    tokio::net::TcpListener::bind(at).await.expect("the port is free");
}

#[tokio::test]
async fn two_watch_and_one_takes_over() {
    let (rig, consoles, node) = (Rig::new(), consoles(), Uuid::new_v4());
    rig.chassis.control(ChassisControl::On);
    consoles.open(node, rig.target(), None, None).await.unwrap();
    let attach = async |wants| consoles.attach(node, wants).await.unwrap().unwrap();
    let (writer, watcher, other) = (attach(true).await, attach(false).await, attach(false).await);
    hear_until(&watcher, "simulated login: ").await;
    writer.write(Bytes::from_static(b"root\r")).await.unwrap();
    hear_until(&watcher, "Welcome, root").await;
    hear_until(&other, "Welcome, root").await;
    assert_eq!(watcher.write(Bytes::from_static(b"x")).await, Err(Unheard::Watching));
    watcher.take();
    hear_until(&writer, "[writer false of 2 more]").await;
    watcher.write(Bytes::from_static(b"whoami\r")).await.unwrap();
    hear_until(&writer, "whoami\r\nroot").await;
    watcher.send_break().await.unwrap();
    hear_until(&other, "SysRq").await;
    consoles.shutdown().await;
    hear_until(&other, "[closed: Ferric is shutting down]").await;
}

#[tokio::test]
async fn a_line_that_another_session_has_is_taken_over_and_said_so() {
    let (rig, consoles, node) = (Rig::new(), consoles(), Uuid::new_v4());
    rig.bmc.occupy_sol();
    rig.bmc.enable_sol(false);
    consoles.open(node, rig.target(), None, None).await.unwrap();
    let who = consoles.attach(node, false).await.unwrap().unwrap();
    let seen = hear_until(&who, "connected to BMC").await;
    let told = consoles.state(node).unwrap();
    assert!(seen.contains("another session had the serial line and was ended"), "{seen}");
    assert!(told.contains("was disabled and is enabled now"), "{told}");
    consoles.shutdown().await;
}

#[tokio::test]
async fn a_line_that_another_session_has_is_left_alone_where_the_node_says_so() {
    use ferric_drivers::protocol::ipmi::quirks::Change;
    let (rig, consoles, node) = (Rig::new(), consoles(), Uuid::new_v4());
    rig.bmc.occupy_sol();
    let target = Target { quirks: vec![Change::DeactivateStaleSol(false)], ..rig.target() };
    let error = consoles.open(node, target, None, None).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("completion code 0x80, it is active in another session; end that one"), "{text}");
    assert_eq!(consoles.port(node).await, None);
}

#[tokio::test]
async fn a_console_comes_back_after_the_bmc_was_restarted_or_ended_it() {
    let (rig, consoles, node) = (Rig::new(), consoles(), Uuid::new_v4());
    consoles.open(node, rig.target(), None, None).await.unwrap();
    let who = consoles.attach(node, true).await.unwrap().unwrap();
    hear_until(&who, "connected to").await;
    rig.bmc.drop_sol();
    let seen = hear_until(&who, "next try in").await;
    assert!(seen.contains("the BMC ended the serial console"), "{seen}");
    hear_until(&who, "[connected to").await;

    // a restart: what was typed into the old line is never answered
    rig.bmc.forget_sessions();
    who.write(Bytes::from_static(b"\r")).await.unwrap();
    let seen = hear_until(&who, "next try in").await;
    assert!(seen.contains("BMC silent"), "{seen}");
    hear_until(&who, "[connected to").await;
    rig.chassis.control(ChassisControl::On);
    hear_until(&who, "simulated login: ").await;
    consoles.shutdown().await;
}

#[tokio::test]
async fn a_silent_bmc_is_tried_less_and_less_often_and_what_is_typed_meanwhile_is_lost() {
    let (rig, consoles, node) = (Rig::new(), consoles(), Uuid::new_v4());
    rig.chassis.control(ChassisControl::On);
    consoles.open(node, rig.target(), None, None).await.unwrap();
    let who = consoles.attach(node, true).await.unwrap().unwrap();
    hear_until(&who, "simulated login: ").await;
    rig.bmc.set_faults(Faults { silent: true, ..Faults::default() });
    who.write(Bytes::from_static(b"x")).await.unwrap();
    hear_until(&who, "BMC silent; next try in").await;
    assert_eq!(who.write(Bytes::from_static(b"poweroff\r")).await, Err(Unheard::Offline));
    rig.bmc.set_faults(Faults::default());
    hear_until(&who, "[connected to").await;
    who.write(Bytes::from_static(b"\r")).await.unwrap();
    assert!(rig.chassis.power());
    consoles.shutdown().await;
}

#[tokio::test]
async fn what_keeps_a_console_from_opening_is_told_and_nothing_stays_open() {
    let (rig, consoles, node) = (Rig::new(), consoles(), Uuid::new_v4());
    let taken = tokio::net::TcpListener::bind((own_address(), 0)).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = consoles.open(node, rig.target(), Some(port), None).await.unwrap_err().to_string();
    assert!(error.contains(&format!("TCP port {port}")) && error.contains("ipmi_terminal_port"), "{error}");

    // another node has it: which one is said
    let other = Uuid::new_v4();
    let port = consoles.open(other, rig.target(), None, None).await.unwrap();
    let error = consoles.open(node, rig.target(), Some(port), None).await.unwrap_err().to_string();
    assert!(error.contains(&format!("the console of node {other} has it")), "{error}");
    consoles.close(other, "the console is switched off").await;
    assert_eq!(consoles.open(node, rig.target(), Some(port), None).await.unwrap(), port);
    consoles.close(node, "the console is switched off").await;

    let mut wrong = rig.target();
    wrong.login.password = Secret::new(b"wrong".to_vec());
    let error = consoles.open(node, wrong, None, None).await.unwrap_err();
    assert!(matches!(error, DriverError::RejectedCredentials { .. }), "{error}");

    rig.bmc.set_faults(Faults { silent: true, ..Faults::default() });
    let error = consoles.open(node, rig.target(), None, Some(20_007)).await.unwrap_err();
    assert!(matches!(error, DriverError::Unreachable { .. }), "{error}");
    assert_eq!(consoles.port(node).await, None);
    rig.bmc.set_faults(Faults::default());
    assert_eq!(consoles.open(node, rig.target(), None, Some(20_007)).await.unwrap(), 20_007);
    consoles.shutdown().await;
}

#[tokio::test]
async fn many_characters_arrive_whole_on_a_network_that_loses_some() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serial.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (rig, consoles, node) = (Rig::new(), consoles(), Uuid::new_v4());
    rig.bmc.set_serial(Arc::new(UnixSerial(path)));
    consoles.open(node, rig.target(), None, None).await.unwrap();
    let who = consoles.attach(node, true).await.unwrap().unwrap();
    hear_until(&who, "connected to").await;
    rig.bmc.set_faults(Faults { drop_rate: 0.1, duplicate_rate: 0.1, ..Faults::default() });
    let (mut machine, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let lines: String = (0..400).map(|at| format!("line {at}\r\n")).collect();
    machine.write_all(lines.as_bytes()).await.unwrap();
    let seen = hear_until(&who, "line 399\r\n").await;
    assert!(seen.contains(&lines), "{seen}");
    let typed: String = (0..1000).map(|at| format!("word {at} ")).collect();
    who.write(Bytes::from(typed.clone())).await.unwrap();
    let heard = read_until(&mut machine, "word 999 ").await;
    assert_eq!(heard, typed);
    consoles.shutdown().await;
}
