//! What the readers tolerate and what the writers write.

use ferric_agent_wire::*;
use serde_json::json;

#[test]
fn a_lookup_of_an_old_server_reads_with_defaults() {
    let seen: LookupResponse = serde_json::from_value(json!({
        "node": {"uuid": "u", "properties": null, "links": [], "new_key": 1},
        "config": {"heartbeat_timeout": 60}
    }))
    .expect("tolerant");
    assert_eq!((seen.node.uuid.as_str(), seen.config.heartbeat_timeout), ("u", 60));
    assert!(seen.config.agent_token.is_none() && !seen.config.agent_token_required);
    let empty: LookupResponse = serde_json::from_value(json!({})).expect("tolerant");
    assert_eq!(empty.config.heartbeat_timeout, 300);
}

#[test]
fn a_heartbeat_leaves_out_what_is_not_set_and_hides_its_token() {
    let beat = Heartbeat {
        callback_url: "https://10.0.0.1:9999".into(),
        agent_token: Some(Secret::new("tok-en")),
        agent_version: Some("1".into()),
        ..Heartbeat::default()
    };
    assert_eq!(
        serde_json::to_value(&beat).expect("writes"),
        json!({"callback_url": "https://10.0.0.1:9999", "agent_token": "tok-en", "agent_version": "1"})
    );
    assert!(!format!("{beat:?}").contains("tok-en"));
    assert!(Secret::new("******").is_masked() && !Secret::new("abc").is_masked());
    assert!(Secret::new("abc").same_as("abc") && !Secret::new("abc").same_as("abd"));
    assert!(!Secret::new("abc").same_as("abcd") && !Secret::new("abc").same_as(""));
}

#[test]
fn a_finished_command_reads_as_ipa_writes_it() {
    let seen: Command = serde_json::from_value(json!({
        "id": "i", "command_name": "execute_deploy_step", "command_status": "SUCCEEDED", "command_error": null,
        "command_result": {"deploy_result": "done", "deploy_step": {"step": "write_image"}}
    }))
    .expect("reads");
    assert!(seen.command_status.is_finished() && seen.progress().is_none());
    let failed = Command {
        command_status: CommandStatus::Failed,
        command_error: Some(CommandError {
            kind: error_type::CHECKSUM.into(),
            code: 500,
            message: "m".into(),
            details: "d".into(),
        }),
        ..Command::default()
    };
    let wire = serde_json::to_value(&failed).expect("writes");
    assert_eq!(wire["command_status"], "FAILED");
    assert_eq!(wire["command_error"]["type"], "ImageChecksumError");
    assert!(wire["command_result"].is_null());
}

#[test]
fn progress_travels_inside_a_running_command() {
    let at = WriteProgress { phase: WritePhase::Writing, bytes_done: 5, bytes_total: Some(9) };
    let running = Command {
        command_result: Some(serde_json::to_value(Progress { progress: at }).expect("writes")),
        ..Command::default()
    };
    let text = serde_json::to_string(&running).expect("writes");
    let wire = serde_json::to_value(&running).expect("writes");
    assert_eq!(
        wire["command_result"],
        json!({"progress": {"phase": "writing", "bytes_done": 5, "bytes_total": 9}})
    );
    assert_eq!(serde_json::from_str::<Command>(&text).expect("reads").progress(), Some(at));
}

#[test]
fn the_declared_hash_is_found_in_every_form() {
    let of = |v: serde_json::Value| serde_json::from_value::<ImageInfo>(v).expect("reads").declared_hash();
    let hex = "AB".repeat(32);
    let both = Some(("sha256".to_owned(), "ab".repeat(32)));
    assert_eq!(of(json!({"os_hash_algo": "sha256", "os_hash_value": hex})), both);
    assert_eq!(of(json!({"checksum": hex, "os_hash_algo": null})), both);
    assert_eq!(of(json!({"checksum": format!("sha256:{hex}")})), both);
    assert_eq!(of(json!({"checksum": "http://x/SHA256SUMS"})), None);
    assert_eq!(of(json!({"checksum": "00"})), None);
}

#[test]
fn old_fault_keys_read_as_an_error_body() {
    let seen: ErrorBody =
        serde_json::from_value(json!({"faultcode": "AgentIsBusy", "code": 409, "faultstring": "busy"}))
            .expect("reads");
    assert_eq!((seen.kind.as_str(), seen.code, seen.message.as_str()), ("AgentIsBusy", 409, "busy"));
}

#[test]
fn step_parameters_read_from_a_conductor() {
    let params: StepParams = serde_json::from_value(json!({
        "step": {"interface": "deploy", "step": "write_image", "priority": 80,
                 "args": {"image_info": {"urls": ["http://i/x"]}, "configdrive": null}},
        "node": {"uuid": "u"}, "ports": [], "deploy_version": null
    }))
    .expect("reads");
    let step: Step = serde_json::from_value(params.step).expect("reads");
    let args: WriteImageArgs = serde_json::from_value(step.args.into()).expect("reads");
    assert_eq!(args.image_info.urls, ["http://i/x"]);
    assert!(args.configdrive.is_none());
}

#[test]
fn an_inspection_reads_as_it_was_written_and_unknown_keys_stay() {
    let body = json!({
        "inventory": {
            "interfaces": [{"name": "eth0", "mac_address": "52:54:00:aa:bb:01", "ipv4_address": null,
                            "lldp": [[1, "04112233aabbcc"], [0, ""]], "has_carrier": true, "new_key": 1}],
            "cpu": {"count": 4, "architecture": "x86_64", "flags": ["fpu"], "frequency": "2000.0000"},
            "disks": [{"name": "/dev/vda", "size": 10737418240_u64, "rotational": true, "wwn": null}],
            "memory": {"total": 2057404416_u64, "physical_mb": 2048},
            "bmc_address": "0.0.0.0", "bmc_v6address": "::/0", "system_vendor": {"product_name": "p"},
            "boot": {"current_boot_mode": "bios", "pxe_interface": null}, "hostname": "host"
        },
        "error": null, "boot_interface": null, "numa_topology": {"ram": []},
        "pci_devices": [{"vendor_id": "8086", "product_id": "1533", "bus": "0000:00:02.0"}]
    });
    let data: InspectionData = serde_json::from_value(body).expect("an inspection");
    let inventory = data.inventory.as_ref().expect("inventory");
    assert_eq!(inventory.interfaces[0].lldp, Some(vec![(1, "04112233aabbcc".into()), (0, String::new())]));
    assert_eq!(inventory.memory.physical_mb, Some(2048));
    assert_eq!(data.more["numa_topology"], json!({"ram": []}));
    let written = serde_json::to_value(&data).expect("written");
    assert_eq!(written["error"], json!(null));
    assert_eq!(written["inventory"]["interfaces"][0]["lldp"][0], json!([1, "04112233aabbcc"]));
    assert!(written["inventory"].get("bmc_mac").is_none() && written.get("logs").is_none());
    assert_eq!(serde_json::from_value::<InspectionData>(written).expect("again"), data);

    let old: InspectionAnswer = serde_json::from_value(json!({"uuid": "u"})).expect("1.1");
    let new: InspectionAnswer =
        serde_json::from_value(json!({"node": {"uuid": "n"}, "config": {}})).expect("1.84");
    assert_eq!((old.node_uuid(), new.node_uuid()), (Some("u"), Some("n")));
    let rescue = FinalizeRescueParams { rescue_password: Secret::new("secret"), hashed: false };
    assert!(!format!("{rescue:?}").contains("\"secret\""));
}
