//! Disks that are written over iSCSI: exported by an agent, and by a ramdisk of the time before agents.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use ferric_drivers::protocol::iscsi::{IscsiSettings, IscsiTarget, Session};
use ferric_machine::BootDevice;
use ferric_sim::{BootSource, Fleet, FleetOptions, Machine, MachineFaults, Phase, Ramdisk, sha256_hex};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::stage::{Conductor, NODE, booted_with, options, post, until};

/// A machine whose address nobody else has: the ports of iSCSI and of the go-ahead are fixed.
fn own(faults: MachineFaults) -> FleetOptions {
    static STARTED: AtomicU8 = AtomicU8::new(0);
    let nth = STARTED.fetch_add(1, Ordering::Relaxed);
    let [_, _, b, c] = std::process::id().to_be_bytes();
    let bmc_address = Ipv4Addr::new(127, 64 + (nth & 31), b, c.clamp(1, 254));
    FleetOptions { bmc_address, own_addresses: true, disk_bytes: 8 << 20, ..options(faults) }
}

/// The port of a ramdisk that is not told another one.
const PORT: u16 = 3260;

async fn write(machine: &Machine, port: u16, iqn: &str, image: &[u8]) -> Result<(), String> {
    let address = machine.bmc_address().ip().to_string();
    let target = IscsiTarget { address, port, iqn: iqn.to_owned(), lun: 1, chap: None };
    let session =
        Session::open(&target, &IscsiSettings::default()).await.map_err(|error| error.to_string())?;
    session.write_at(0, Bytes::copy_from_slice(image)).await.map_err(|error| error.to_string())?;
    session.sync().await.map_err(|error| error.to_string())?;
    session.logout().await;
    Ok(())
}

#[tokio::test]
async fn an_agent_exports_its_disk_and_what_was_written_boots() {
    let (_fleet, machine, _conductor, url) = booted_with(own(MachineFaults::default())).await;
    let image = vec![7; 3 << 20];
    // the address is its own: nobody takes the port meanwhile
    let port =
        std::net::TcpListener::bind((machine.bmc_address().ip(), 0)).unwrap().local_addr().unwrap().port();
    let params =
        json!({"iqn": "iqn.2008-10.org.openstack:x", "portal_port": port, "wipe_disk_metadata": true});
    for _ in 0..2 {
        // asked again it tells the same
        let (status, command) = post(&url, true, "iscsi.start_iscsi_target", params.clone()).await;
        assert_eq!((status, &command["command_status"]), (200, &json!("SUCCEEDED")), "{command}");
        assert_eq!(command["command_result"], json!({"iscsi_target_iqn": "iqn.2008-10.org.openstack:x"}));
    }
    assert!(url.contains(&machine.bmc_address().ip().to_string()), "{url}: an address of its own");
    write(&machine, port, "iqn.2008-10.org.openstack:x", &image).await.unwrap();
    assert_eq!(machine.view().iscsi.unwrap().logged_in, 0);
    machine.power_off();
    let disk = machine.view().disk;
    let written = disk.written.expect("the disk holds the image");
    assert_eq!((written.bytes, written.sha256), (3 << 20, sha256_hex(&image)));
    assert_eq!((disk.writes, disk.violations, disk.abandoned_sessions), (1, 0, 0));
    machine.set_boot_device(BootDevice::Disk, false);
    machine.power_on();
    until(&machine, |view| view.phase == Phase::Instance).await;
}

#[tokio::test]
async fn an_agent_that_cannot_export_its_disk_says_so() {
    let faults = MachineFaults { iscsi_error: 1, ..MachineFaults::default() };
    let (_fleet, machine, _conductor, url) = booted_with(own(faults)).await;
    let (_, command) = post(&url, true, "iscsi.start_iscsi_target", json!({"iqn": "iqn.x"})).await;
    assert_eq!(command["command_status"], "FAILED", "{command}");
    assert_eq!(machine.view().iscsi, None);
}

async fn bash(faults: MachineFaults, more: &str) -> (Fleet, Arc<Machine>, Conductor) {
    let conductor = Conductor::start().await;
    let line = format!(
        "disk=sda iscsi_target_iqn=iqn-{NODE} deployment_id={NODE} deployment_key=THEKEY ironic_api_url={url} {more} \
         ipa-api-url={url}",
        url = conductor.url
    );
    conductor.told.lock().unwrap().script = Some(format!("#!ipxe\nkernel k {line} initrd=r\nboot\n"));
    let fleet = Fleet::start(own(faults)).await.unwrap();
    fleet.set_boot_source(BootSource::Url(format!("{}/boot", conductor.url)));
    let machine = fleet.machines()[0].clone();
    machine.set_ramdisk(Ramdisk::Bash);
    machine.set_boot_device(BootDevice::Pxe, false);
    machine.power_on();
    (fleet, machine, conductor)
}

async fn called(conductor: &Conductor, count: usize) -> Vec<(String, Value)> {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(90);
    loop {
        let calls = conductor.told.lock().unwrap().calls.clone();
        if calls.len() >= count {
            return calls;
        }
        assert!(tokio::time::Instant::now() < deadline, "{calls:?}");
        tokio::task::yield_now().await;
    }
}

async fn go_ahead(machine: &Machine) {
    let mut stream = tokio::net::TcpStream::connect((machine.bmc_address().ip(), 10000)).await.unwrap();
    stream.write_all(b"done").await.unwrap();
}

#[tokio::test]
async fn a_ramdisk_without_agent_calls_exports_hears_and_installs_a_boot_loader() {
    let (_fleet, machine, conductor) = bash(MachineFaults::default(), "boot_option=local").await;
    let calls = called(&conductor, 1).await;
    let address = machine.bmc_address().ip().to_string();
    let iqn = format!("iqn-{NODE}");
    assert_eq!(calls[0].0, format!("/v1/nodes/{NODE}/vendor_passthru/pass_deploy_info"));
    assert_eq!(calls[0].1, json!({"address": address, "key": "THEKEY", "iqn": iqn, "error": ""}));
    // no boot code in it
    let image: Vec<u8> = (0..1 << 20).map(|at| if at < 512 { 0 } else { 9 }).collect();
    write(&machine, PORT, &iqn, &image).await.unwrap();
    go_ahead(&machine).await;
    let calls = called(&conductor, 2).await;
    assert_eq!(calls[1].0, format!("/v1/nodes/{NODE}/vendor_passthru/pass_bootloader_install_info"));
    assert_eq!(calls[1].1, json!({"address": address, "key": "THEKEY", "status": "SUCCEEDED", "error": ""}));
    conductor.told.lock().unwrap().script = None;
    go_ahead(&machine).await;
    until(&machine, |view| view.phase == Phase::Instance).await;
    let disk = machine.view().disk;
    assert_eq!((disk.writes, disk.abandoned_sessions, machine.view().boots), (1, 0, 2));
}

#[tokio::test]
async fn a_ramdisk_without_agent_tells_its_error_and_stays() {
    let faults = MachineFaults { iscsi_error: 1, ..MachineFaults::default() };
    let (_fleet, machine, conductor) = bash(faults, "boot_option=netboot").await;
    let calls = called(&conductor, 1).await;
    assert_ne!(calls[0].1["error"], "");
    until(&machine, |view| matches!(view.phase, Phase::Stuck(_))).await;
}
