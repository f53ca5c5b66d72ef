//! The agent protocol: what ramdisks say to the API and to a conductor, what a conductor says to an agent.

use ferric_agent_wire::{
    CleanSteps, Command, CommandError, CommandList, CommandRequest, DeploySteps, ErrorBody,
    FinalizeRescueParams, Heartbeat, ImageInfo, InspectionAnswer, InspectionData, InstallBootloaderParams,
    LookupConfig, LookupNode, LookupResponse, PartitionUuids, Secret, ServiceSteps, Step, StepParams,
    SystemLogs, WriteImageArgs,
};
use ferric_drivers::protocol::agent::worded;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::way;

/// Any bytes, read as each of the bodies.
pub fn run(bytes: &[u8]) {
    let Some((number, bytes)) = bytes.split_first() else { return };
    match number % 8 {
        0 => {
            if let Some(found) = stable::<LookupResponse>(bytes)
                && let Some(token) = &found.config.agent_token
            {
                let _ = (token.is_masked(), token.same_as("guess"));
                assert_eq!(format!("{token:?}"), "Secret(******)");
            }
        }
        1 => drop(stable::<Heartbeat>(bytes)),
        2 => drop(stable::<InspectionData>(bytes)),
        3 => {
            if let Some(list) = stable::<CommandList>(bytes) {
                list.commands.iter().for_each(command);
            }
        }
        4 => {
            if let Some(one) = stable::<Command>(bytes) {
                command(&one);
            }
            drop(stable::<CommandError>(bytes).map(|error| worded(&error)));
            drop(stable::<ErrorBody>(bytes));
        }
        5 => {
            if let Some(request) = stable::<CommandRequest>(bytes) {
                let params = Value::Object(request.params);
                drop(of::<StepParams>(&params).map(|given| of::<Step>(&given.step)));
                drop(of::<WriteImageArgs>(&params));
                drop(of::<FinalizeRescueParams>(&params));
                drop(of::<InstallBootloaderParams>(&params));
            }
        }
        6 => {
            if let Some(image) = stable::<ImageInfo>(bytes) {
                drop((image.declared_hash(), image.is_whole_disk()));
            }
        }
        _ => {
            drop(stable::<DeploySteps>(bytes));
            drop(stable::<CleanSteps>(bytes));
            drop(stable::<ServiceSteps>(bytes));
            drop(stable::<PartitionUuids>(bytes));
            drop(stable::<SystemLogs>(bytes));
            drop(stable::<InspectionAnswer>(bytes));
        }
    }
}

fn command(command: &Command) {
    let _ = (command.progress(), command.command_status.is_finished());
    if let Some(error) = &command.command_error {
        drop(worded(error));
    }
    if let Some(result) = &command.command_result {
        drop(of::<DeploySteps>(result));
        drop(of::<PartitionUuids>(result));
    }
}

fn of<T: DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}

/// What can be read can be written, and what was written is read as the same text again. (Not the same value: a key
/// given twice, or null, is read as something that is written otherwise. And no text with fractions: serde_json reads
/// those fast, and now and then one unit of their last place beside.)
fn stable<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    let twice = serde_json::to_vec(&again).expect("what was read can be written");
    if !serde_json::from_slice(&written).is_ok_and(|value| has_fraction(&value)) {
        assert_eq!(String::from_utf8_lossy(&twice), String::from_utf8_lossy(&written));
    }
    Some(read)
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => false,
        Value::Number(number) => number.is_f64(),
        Value::Array(all) => all.iter().any(has_fraction),
        Value::Object(all) => all.values().any(has_fraction),
    }
}

fn text(of: impl Serialize) -> Vec<u8> {
    serde_json::to_vec(&of).expect("seeds have string keys")
}

/// One body of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let token = Secret::new("a-token");
    let lookup = LookupResponse {
        node: LookupNode { uuid: "6f0c0a9e-2d4c-4c4b-9f0a-0d5f7f6b1a11".to_owned(), ..LookupNode::default() },
        config: LookupConfig { agent_token: Some(token.clone()), ..LookupConfig::default() },
    };
    let heartbeat = Heartbeat {
        callback_url: "https://192.0.2.10:9999".to_owned(),
        agent_token: Some(token),
        agent_version: Some("13.0.0".to_owned()),
        agent_verify_ca: Some("-----BEGIN CERTIFICATE-----".to_owned()),
        ..Heartbeat::default()
    };
    let running = json!({"id": "1", "command_name": "execute_deploy_step", "command_status": "RUNNING",
        "command_error": null, "command_result": {"progress": {"phase": "writing", "bytes_done": 5}}});
    let failed = json!({"id": "2", "command_name": "sync", "command_status": "FAILED",
        "command_error": {"type": "E", "code": 500, "message": "no.", "details": "disk"}});
    let image = json!({"id": "i", "urls": ["http://192.0.2.1/i"], "disk_format": "raw",
        "checksum": "sha256:00", "os_hash_algo": "sha256", "os_hash_value": "00", "image_type": "partition",
        "root_mb": 100, "configdrive": "H4sI"});
    let step = json!({"interface": "deploy", "step": "write_image", "priority": 80,
        "args": {"image_info": image, "configdrive": "x"}});
    let request = json!({"name": "deploy.execute_deploy_step", "params": {"step": step, "node": {}, "ports": [],
        "deploy_version": {"m": "1"}, "rescue_password": "p", "hashed": true, "root_uuid": "u"}});
    let steps = json!({"deploy_steps": {"M": [step]}, "clean_steps": {"M": [step]}, "service_steps": {"M": []},
        "hardware_manager_version": {"M": "1"}, "root uuid": "u", "system_logs": "H4sI", "uuid": "u"});
    let inspection = json!({"inventory": {
        "interfaces": [{"name": "eth0", "mac_address": "02:00:00:00:00:01", "ipv4_address": "192.0.2.10",
            "has_carrier": true, "lldp": [[1, "04"]], "vendor": "0x8086", "product": "0x1", "client_id": null,
            "biosdevname": null, "speed_mbps": 1000, "pci_address": "0000:00:01.0"}],
        "cpu": {"model_name": "m", "frequency": "2000", "count": 4, "architecture": "x86_64", "flags": ["vmx"]},
        "disks": [{"name": "/dev/sda", "model": "m", "size": 68_719_476_736_u64, "rotational": false, "wwn": "w",
            "serial": "s", "vendor": "v", "hctl": "0:0:0:0", "by_path": null}],
        "memory": {"total": 1, "physical_mb": 4096}, "bmc_address": "192.0.2.20", "bmc_v6address": "::",
        "system_vendor": {"product_name": "p", "serial_number": "s", "manufacturer": "m"},
        "boot": {"current_boot_mode": "uefi", "pxe_interface": "02:00:00:00:00:01"}, "hostname": "h"},
        "root_disk": {"name": "/dev/sda"}, "boot_interface": "02:00:00:00:00:01", "error": null, "logs": "H4sI",
        "pci_devices": [{"vendor_id": "8086", "product_id": "1", "class": "2", "revision": "0", "bus": "0"}]});
    vec![
        way(0, text(lookup)),
        way(1, text(heartbeat)),
        way(2, text(inspection)),
        way(3, text(json!({"commands": [running, failed]}))),
        way(4, text(running)),
        way(4, text(failed)),
        way(4, text(json!({"faultcode": "Client", "faultstring": "agent is busy", "code": 409}))),
        way(5, text(request)),
        way(6, text(image)),
        way(7, text(steps)),
    ]
}
