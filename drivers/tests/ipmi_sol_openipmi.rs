//! Our serial line over LAN against OpenIPMI's `ipmi_sim`, whose serial port is a TCP connection to this test.

#![allow(clippy::unwrap_used)] // a test may

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferric_drivers::console::{Attachment, ConsoleSettings, Consoles, Told};
use ferric_drivers::interface::{Json, NodeView};
use ferric_drivers::protocol::ipmi::{IpmiClient, IpmiSettings, Target};
use ferric_machine::State;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);

/// An address of this process.
fn own_address() -> Ipv4Addr {
    let [_, b, c, d] = (std::process::id() * 4).to_be_bytes();
    Ipv4Addr::new(127, 128 | (b & 0x3F), c, d.clamp(1, 254))
}

fn start(folder: &std::path::Path, address: Ipv4Addr, serial: u16) -> Child {
    let lan = format!(
        "name \"ferric\"\nset_working_mc 0x20\n  startlan 1\n    addr {address} 623\n    priv_limit admin\n    \
         allowed_auths_admin none md2 md5 straight\n    guid a123456789abcdefa123456789abcdef\n  endlan\n  \
         sol \"tcp:{address}:{serial}\" 115200\n  user 1 true \"\" \"\" user 10 none md2 md5 straight\n  \
         user 2 true \"admin\" \"password\" admin 10 none md2 md5 straight\n"
    );
    let emulation = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n";
    std::fs::write(folder.join("lan.conf"), lan).unwrap();
    std::fs::write(folder.join("bmc.emu"), emulation).unwrap();
    std::fs::create_dir_all(folder.join("state")).unwrap();
    Command::new("ipmi_sim")
        .arg("-n")
        .args(["-c".into(), folder.join("lan.conf")])
        .args(["-f".into(), folder.join("bmc.emu")])
        .args(["-s".into(), folder.join("state")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("ipmi_sim is installed (Debian package openipmi)")
}

fn target(address: Ipv4Addr, settings: &IpmiSettings) -> Target {
    let info = json!({
        "ipmi_address": address.to_string(), "ipmi_username": "admin", "ipmi_password": "password",
        "ipmi_cipher_suite": "3",
    });
    let node = NodeView {
        uuid: Uuid::from_u128(1),
        name: None,
        driver: "ipmi".into(),
        driver_info: info.as_object().unwrap().clone(),
        driver_internal_info: Json::new(),
        properties: Json::new(),
        instance_info: Json::new(),
        target_raid_config: Json::new(),
        ports: Vec::new(),
        state: State::Available,
        power: None,
    };
    Target::from_node(&node, settings).unwrap()
}

async fn hear_until(who: &Attachment, what: &str) -> String {
    let mut all = String::new();
    while !all.contains(what) {
        match timeout(PATIENCE, who.next()).await.unwrap_or_else(|_| panic!("'{what}' did not come: {all}")) {
            Told::Bytes(bytes) => all.push_str(&String::from_utf8_lossy(&bytes)),
            Told::State(text) => all.push_str(&format!("[{text}]")),
            Told::Role { .. } => {}
            Told::Missed(count) => all.push_str(&format!("[missed {count}]")),
            Told::Closed(why) => all.push_str(&format!("[closed: {why}]")),
        }
    }
    all
}

#[tokio::test]
async fn openipmis_bmc_carries_characters_both_ways_and_its_restart_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let address = own_address();
    let machine = TcpListener::bind((address, 0)).await.unwrap();
    let serial = machine.local_addr().unwrap().port();
    let mut sim = start(folder.path(), address, serial);
    let (mut port, _) = timeout(PATIENCE, machine.accept()).await.expect("ipmi_sim connects").unwrap();

    let ipmi = IpmiSettings::default();
    let settings = ConsoleSettings {
        address: address.into(),
        port_ranges: std::iter::once(30_000..31_000).collect(),
        open_timeout: PATIENCE,
        reconnect_first: Duration::from_millis(200),
        ..ConsoleSettings::default()
    };
    let client = Arc::new(IpmiClient::new(ipmi.clone(), Handle::current()));
    let consoles = Consoles::new(settings, client.clone(), Handle::current());
    let node = Uuid::from_u128(1);
    consoles.open(node, target(address, &ipmi), None, None).await.expect("ipmi_sim has serial over LAN");
    let who = consoles.attach(node, true).await.unwrap().unwrap();
    hear_until(&who, "connected to").await;

    let lines: String = (0..200).map(|at| format!("machine line {at}\r\n")).collect();
    port.write_all(lines.as_bytes()).await.unwrap();
    let seen = hear_until(&who, "machine line 199\r\n").await;
    assert!(seen.contains(&lines), "{seen}");
    let typed: String = (0..50).map(|at| format!("typed {at}\r")).collect();
    who.write(Bytes::from(typed.clone())).await.unwrap();
    let mut heard = vec![0; typed.len()];
    timeout(PATIENCE, port.read_exact(&mut heard)).await.expect("all that was typed comes").unwrap();
    assert_eq!(String::from_utf8(heard).unwrap(), typed);

    // the BMC dies and comes back
    sim.kill().await.unwrap();
    drop(port);
    who.write(Bytes::from_static(b"?")).await.unwrap();
    hear_until(&who, "next try in").await;
    let _sim = start(folder.path(), address, serial);
    let (mut port, _) = timeout(PATIENCE, machine.accept()).await.expect("ipmi_sim connects").unwrap();
    hear_until(&who, "[connected to").await;
    let speaking = async {
        loop {
            port.write_all(b"back again\r\n").await.unwrap();
            sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = speaking => {}
        _ = hear_until(&who, "back again") => {}
    }
    consoles.shutdown().await;
    client.shutdown().await;
}
