//! A ramdisk of the time before agents, as a machine plays it: it takes everything from its kernel line, exports its disk
//! over iSCSI, calls the API once and waits for a word (deploy.md §A.1, rows 4 to 13).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::firmware::KernelLine;
use crate::iscsi::{Target, TargetFaults, TargetOptions};
use crate::network::Call;
use crate::world::Machine;

/// Where it waits for the go-ahead.
const GO_AHEAD: u16 = 10000;
/// Where it exports its disk.
const PORTAL: u16 = 3260;
/// Calls before it gives up.
const CALLS: u32 = 20;
/// Boot code of a disk that a boot loader was installed on begins with this byte.
const BOOT_CODE: u8 = 0xEB;

/// Makes the machine's disk a target.
pub(crate) async fn export(
    machine: &Arc<Machine>,
    boot: u64,
    portal: SocketAddr,
    iqn: &str,
) -> std::io::Result<()> {
    let Some(store) = machine.on_disk(boot, |disk| disk.contents.clone()) else { return Ok(()) };
    let target = Target::start(portal, TargetOptions::new(iqn), store).await?;
    let broken = machine.faults.broken_block;
    target.set_faults(TargetFaults {
        drops: (1..=u64::from(machine.faults.iscsi_drops)).map(|number| number << 20).collect(),
        broken_blocks: if broken > 0 { vec![broken] } else { Vec::new() },
        ..TargetFaults::default()
    });
    machine.set_target(boot, target);
    Ok(())
}

/// Does what such a ramdisk does. Ends with the machine, or with why it does not go on.
pub(crate) async fn run(machine: &Arc<Machine>, boot: u64, line: &KernelLine) -> &'static str {
    let words = ["ironic_api_url", "deployment_id", "deployment_key", "iscsi_target_iqn"];
    let [Some(api), Some(node), Some(key), Some(iqn)] = words.map(|word| line.value(word)) else {
        return "no word for its ramdisk on its kernel line";
    };
    let base = format!("{}/v1/nodes/{node}/vendor_passthru", api.trim_end_matches('/'));
    let address = machine.bmc_address().ip();
    let told = |error: &str| json!({"address": address.to_string(), "key": key, "iqn": iqn, "error": error});
    let failed = if machine.goes_wrong(|left| &mut left.iscsi_error) {
        Some("a simulated failure of the iSCSI target".to_owned())
    } else {
        let exported = export(machine, boot, SocketAddr::new(address, PORTAL), iqn).await;
        exported.err().map(|error| format!("the disk cannot be exported: {error}"))
    };
    // it listens before it calls, so that nobody is early
    let deaf = machine.goes_wrong(|left| &mut left.deaf_ramdisk);
    let listener = if deaf { None } else { TcpListener::bind((address, GO_AHEAD)).await.ok() };
    let body = told(failed.as_deref().unwrap_or(""));
    if !call(machine, boot, &format!("{base}/pass_deploy_info"), &body).await {
        return "the API does not want its disk";
    }
    if failed.is_some() {
        return "its disk cannot be exported";
    }
    let Some(listener) = listener else { return "its ramdisk hears nothing" };
    go_ahead(&listener).await;
    machine.take_target_back(boot);
    if line.value("boot_option") == Some("local") && !has_loader(machine, boot) {
        let broken = machine.goes_wrong(|left| &mut left.bootloader_error);
        if !broken {
            machine.on_disk(boot, |disk| disk.contents.write(0, &[BOOT_CODE]));
        }
        let (status, error) = if broken { ("FAILED", "a simulated failure") } else { ("SUCCEEDED", "") };
        let told = json!({"address": address.to_string(), "key": key, "status": status, "error": error});
        if !call(machine, boot, &format!("{base}/pass_bootloader_install_info"), &told).await {
            return "the API does not want to know of its boot loader";
        }
        if broken {
            return "it has no boot loader";
        }
        go_ahead(&listener).await;
    }
    drop(listener);
    let again = machine.clone();
    // a task of its own: this one ends with the machine's power
    tokio::spawn(async move {
        if again.boots() == boot {
            again.power_cycle();
        }
    });
    std::future::pending().await
}

/// Whether the disk has boot code: a whole-disk image brings its own.
fn has_loader(machine: &Machine, boot: u64) -> bool {
    let code = machine.on_disk(boot, |disk| {
        let mut code = [0; 440];
        disk.contents.read(0, &mut code);
        code
    });
    code.is_some_and(|code| code.iter().any(|byte| *byte != 0))
}

/// Waits until somebody says `done`.
async fn go_ahead(listener: &TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let mut said = Vec::new();
        let mut stream = stream.take(64);
        let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut said)).await;
        if said.trim_ascii() == b"done" {
            return;
        }
    }
}

/// Calls the API; false when it refuses, or is away for too long.
async fn call(machine: &Machine, boot: u64, url: &str, body: &Value) -> bool {
    let mut wait = Duration::from_millis(250);
    for _ in 0..CALLS {
        let request = Call { url: url.to_owned(), version: None, body: Some(body.clone()) };
        let reason = match machine.world.network.call(request).await {
            Ok(answer) if answer.is_success() => {
                machine.complain(boot, None);
                return true;
            }
            Ok(answer) if (400..500).contains(&answer.status) && answer.status != 409 => {
                let text = String::from_utf8_lossy(&answer.body);
                machine.complain(boot, Some(&format!("{url}: {text}")));
                return false;
            }
            Ok(answer) => answer.words(),
            Err(reason) => reason,
        };
        machine.complain(boot, Some(&format!("{url}: {reason}")));
        tokio::time::sleep(wait.mul_f64(machine.chance(|chance| 0.5 + chance.unit()))).await;
        wait = (wait * 2).min(Duration::from_secs(3));
    }
    false
}
