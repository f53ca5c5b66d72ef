//! `iscsi.start_iscsi_target` with Debian's tgt, on loopback and a file. With the kernel's own target it is tried in a
//! virtual machine: drivers/tests/iscsi_lio.rs.

mod rig;

use std::net::{SocketAddr, TcpListener};

use ferric_agent_wire::{Command, CommandStatus};
use rig::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const IQN: &str = "iqn.2008-10.org.openstack:1be26c0b";

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound").port()
}

async fn start(client: &AgentClient, params: Value) -> Command {
    client.command("iscsi.start_iscsi_target", params, false).await.1
}

fn details(command: Command) -> (String, String) {
    assert_eq!(command.command_status, CommandStatus::Failed);
    let error = command.command_error.expect("an error");
    (error.kind, error.details)
}

/// The targets that a portal offers: a discovery session of two requests, RFC 7143 §11.
async fn targets(port: u16) -> String {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await.expect("a portal");
    let login = "InitiatorName=iqn.2026-01.test:agent\0SessionType=Discovery\0AuthMethod=None\0";
    let send = "SendTargets=All\0";
    // (opcode, flags, task tag, command number, text); both end their stage and go on to full feature
    for (opcode, flags, tag, number, text) in
        [(0x43_u8, 0x87_u8, 1_u32, 1_u32, login), (0x04, 0x80, 2, 1, send)]
    {
        let mut header = [0_u8; 48];
        header[0] = opcode;
        header[1] = flags;
        header[4..8].copy_from_slice(&(text.len() as u32).to_be_bytes());
        if opcode == 0x43 {
            // operational stage at once
            header[1] = 0x87;
            header[8] = 0x40;
        } else {
            header[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
        }
        header[16..20].copy_from_slice(&tag.to_be_bytes());
        header[24..28].copy_from_slice(&number.to_be_bytes());
        stream.write_all(&header).await.expect("sent");
        let mut data = text.as_bytes().to_vec();
        data.resize(data.len().next_multiple_of(4), 0);
        stream.write_all(&data).await.expect("sent");
        let mut answer = [0_u8; 48];
        stream.read_exact(&mut answer).await.expect("an answer");
        let length = u32::from_be_bytes([0, answer[5], answer[6], answer[7]]) as usize;
        let mut data = vec![0; length.next_multiple_of(4)];
        stream.read_exact(&mut data).await.expect("its data");
        if opcode == 0x04 {
            return String::from_utf8_lossy(&data).replace('\0', "\n");
        }
        assert_eq!(answer[36], 0, "login refused: class {} detail {}", answer[36], answer[37]);
    }
    unreachable!("the second answer returns")
}

#[tokio::test]
async fn the_root_disk_is_exported_once_and_taken_back_by_sync() {
    let rig = Rig::start().await;
    let client = rig.client().await;
    let port = free_port();
    let params = json!({"iqn": IQN, "portal_port": port, "wipe_disk_metadata": false});
    let first = start(&client, params.clone()).await;
    assert_eq!(first.command_error, None);
    assert_eq!(
        (first.command_name.as_str(), first.command_status, first.command_result),
        ("start_iscsi_target", CommandStatus::Succeeded, Some(json!({"iscsi_target_iqn": IQN})))
    );
    let offered = targets(port).await;
    assert!(offered.contains(&format!("TargetName={IQN}\n")), "{offered}");
    let again = start(&client, params).await;
    assert_eq!(again.command_result, Some(json!({"iscsi_target_iqn": IQN})));
    // another name: the old one is gone
    let other = format!("{IQN}2");
    let renamed = start(&client, json!({"iqn": other, "portal_port": port.to_string()})).await;
    assert_eq!(renamed.command_result, Some(json!({"iscsi_target_iqn": other})));
    let offered = targets(port).await;
    assert!(offered.contains(&format!("TargetName={other}\n")), "{offered}");
    assert!(!offered.contains(&format!("TargetName={IQN}\n")), "{offered}");
    let synced = client.command("standby.sync", json!({}), true).await.1;
    assert_eq!((synced.command_status, synced.command_error), (CommandStatus::Succeeded, None));
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "taken back");
}

#[tokio::test]
async fn without_a_name_one_is_made_and_metadata_is_wiped_when_asked() {
    use std::os::unix::fs::FileExt;
    let rig = Rig::start().await;
    let client = rig.client().await;
    let made = start(&client, json!({"portal_port": free_port(), "wipe_disk_metadata": true})).await;
    assert_eq!(made.command_error, None);
    let iqn = made.command_result.expect("result")["iscsi_target_iqn"].as_str().expect("a name").to_owned();
    assert!(iqn.starts_with("iqn.2008-10.org.openstack:"), "{iqn}");
    let disk = std::fs::File::open(rig.disk("vda")).expect("disk");
    for at in [0, 4 * GIB - 4096] {
        let mut bytes = [1; 4096];
        disk.read_exact_at(&mut bytes, at).expect("read");
        assert_eq!(bytes, [0; 4096], "{at}");
    }
    // the next image takes the disk back first
    let raw = raw_image(8);
    rig.world.serve_image("raw", Served::new(raw.clone()));
    let written = rig.write(info(&rig.image_url("raw"), &raw, "raw"), Value::Null).await;
    assert_eq!((written.command_status, written.command_error), (CommandStatus::Succeeded, None));
}

#[tokio::test]
async fn what_cannot_be_exported_is_refused_with_a_reason() {
    let machine = Machine::new();
    machine.add_disk("vda", 4 * GIB);
    std::fs::create_dir_all(machine.folder.path().join("sys/block/vda/vda1/holders/md0")).expect("dirs");
    let rig = Rig::with(machine, |_, _| ()).await;
    let client = rig.client().await;
    let (kind, text) = details(start(&client, json!({"iqn": IQN, "portal_port": free_port()})).await);
    assert!(kind == "DeviceNotFound" && text.contains("in use by md0"), "{kind}: {text}");
    for bad in [json!({"iqn": "../x"}), json!({"iqn": "-rf"})] {
        let (kind, text) = details(start(&client, bad).await);
        assert!(kind == "InvalidCommandParamsError" && text.contains("iqn"), "{kind}: {text}");
    }
    let (status, body) =
        client.post(TOKEN, "iscsi.start_iscsi_target", json!({"portal_port": 0}), true).await;
    assert_eq!((status, body["type"].as_str()), (400, Some("InvalidCommandParamsError")));
}

#[tokio::test]
async fn a_taken_port_is_told() {
    let rig = Rig::start().await;
    let client = rig.client().await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = taken.local_addr().expect("bound").port();
    let (kind, text) = details(start(&client, json!({"iqn": IQN, "portal_port": port})).await);
    assert!(kind == "ISCSIError" && text.contains(&port.to_string()), "{kind}: {text}");
}
