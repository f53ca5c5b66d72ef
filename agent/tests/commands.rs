//! Lookup, heartbeat, token and the command API, against a conductor on loopback.

mod rig;

use std::sync::atomic::Ordering;
use std::time::Duration;

use ferric_agent_wire::{CommandStatus, WritePhase};
use hyper::StatusCode;
use rig::*;
use serde_json::{Value, json};

#[tokio::test]
async fn an_agent_finds_its_node_in_spite_of_trouble_and_beats_over_tls() {
    let machine = Machine::new();
    let rig = Rig::with(machine, |options, world| {
        options.boot_mac = Some("52:54:00:aa:bb:99".into());
        let trouble = [StatusCode::NOT_FOUND, StatusCode::CONFLICT, StatusCode::INTERNAL_SERVER_ERROR];
        *world.lookup_trouble.lock().expect("lock") = trouble.to_vec();
        *world.beat_trouble.lock().expect("lock") = vec![StatusCode::CONFLICT];
    })
    .await;
    let beat = rig.world.beats(1).await[0].clone();
    assert!(beat.callback_url.starts_with("https://127.0.0.1:") && beat.agent_verify_ca.is_some());
    assert!(beat.agent_version.expect("version").starts_with("ferric-"));
    let lookups = rig.world.lookups.lock().expect("lock").clone();
    assert_eq!(lookups.len(), 4);
    assert!(lookups[0].starts_with("addresses=52%3A54%3A00%3Aaa%3Abb%3A99%2C52%3A54%3A00%3Aaa%3Abb%3A01"));
    let versions = rig.world.versions.lock().expect("lock").join(";");
    assert!(versions.contains("/v1/lookup 1.62") && versions.contains(&format!("/v1/heartbeat/{NODE} 1.68")));
    let (status, body) = rig.client().await.get("/v1/status").await;
    assert_eq!(status, 200);
    assert!(body["started_at"].as_f64().expect("seconds") > 1e9 && body["version"].is_string());
}

#[tokio::test]
async fn a_wrong_token_gets_401_and_nothing_else() {
    let rig = Rig::start().await;
    let client = rig.client().await;
    for token in ["", "wrong", &TOKEN[1..]] {
        let (status, body) = client.post(token, "deploy.get_deploy_steps", json!({}), true).await;
        assert_eq!(
            (status, body["type"].as_str(), body["code"].as_u64()),
            (401, Some("InvalidTokenError"), Some(401))
        );
        assert_eq!(client.get(&format!("/v1/commands/?agent_token={token}")).await.0, 401);
    }
    let (status, body) = client.get(&format!("/v1/commands/?agent_token={TOKEN}")).await;
    assert_eq!((status, body), (200, json!({"commands": []})));
}

#[tokio::test]
async fn unknown_things_get_a_proper_error_body() {
    let rig = Rig::start().await;
    let client = rig.client().await;
    let (status, body) = client.post(TOKEN, "standby.dance", json!({}), true).await;
    assert_eq!((status, body["type"].as_str()), (404, Some("InvalidCommandError")));
    assert!(body["message"].as_str().expect("text").contains("standby.dance"));
    let (status, body) = client.get(&format!("/v1/commands/none?agent_token={TOKEN}")).await;
    assert_eq!((status, body["type"].as_str()), (404, Some("RequestedObjectNotFoundError")));
    assert_eq!(client.get("/v2").await.0, 404);
    let bad = client.post(TOKEN, "deploy.execute_deploy_step", json!({"step": 5}), true).await;
    assert_eq!((bad.0, bad.1["type"].as_str()), (400, Some("InvalidCommandParamsError")));
    let step =
        json!({"step": {"interface": "raid", "step": "x"}, "node": {}, "ports": [], "deploy_version": null});
    let (_, command) = client.command("deploy.execute_deploy_step", step, true).await;
    assert_eq!(command.command_status, CommandStatus::Failed);
    assert!(command.command_error.expect("error").details.contains("raid.x"));
}

#[tokio::test]
async fn steps_logs_uuids_and_sync_answer_at_once() {
    let rig = Rig::start().await;
    let client = rig.client().await;
    let (status, steps) =
        client.command("deploy.get_deploy_steps", json!({"node": {}, "ports": []}), true).await;
    let result = steps.command_result.expect("result");
    assert_eq!((status, steps.command_status), (200, CommandStatus::Succeeded));
    let offered = result["deploy_steps"]["FerricHardwareManager"].as_array().expect("steps");
    assert!(offered.iter().any(|step| step["step"] == "write_image"));
    assert!(result["hardware_manager_version"]["FerricHardwareManager"].is_string());
    let (_, clean) = client.command("clean.get_clean_steps", json!({}), true).await;
    assert!(clean.command_result.expect("result")["clean_steps"]["FerricHardwareManager"].is_array());
    let (_, logs) = client.command("log.collect_system_logs", json!({}), true).await;
    assert!(
        logs.command_result.expect("result")["system_logs"].as_str().expect("base64").starts_with("H4sI")
    );
    for name in ["standby.sync", "standby.get_partition_uuids"] {
        assert_eq!(
            client.command(name, json!({}), true).await.1.command_status,
            CommandStatus::Succeeded,
            "{name}"
        );
    }
    let old = json!({"step": {"interface": "deploy", "step": "write_image"}, "node": {}, "ports": [],
                     "deploy_version": {"GenericHardwareManager": "1.2"}});
    let (_, command) = client.command("deploy.execute_deploy_step", old, true).await;
    assert_eq!(command.command_status, CommandStatus::CleanVersionMismatch);
    let (_, list) = client.get(&format!("/v1/commands/?agent_token={TOKEN}")).await;
    let names: Vec<&str> = list["commands"]
        .as_array()
        .expect("list")
        .iter()
        .filter_map(|c| c["command_name"].as_str())
        .collect();
    assert_eq!(names[..2], ["get_deploy_steps", "get_clean_steps"]);
}

#[tokio::test]
async fn while_an_image_is_written_others_get_409_progress_shows_and_its_end_beats_at_once() {
    let rig = Rig::start().await;
    let raw = raw_image(8);
    rig.world.serve_image("raw", Served { gated: true, ..Served::new(raw.clone()) });
    let client = rig.client().await;
    let before = rig.world.beat_count();
    let step = write_step(info(&rig.image_url("raw"), &raw, "raw"), Value::Null);
    let (status, begun) = client.command("deploy.execute_deploy_step", step.clone(), false).await;
    assert_eq!((status, begun.command_status), (200, CommandStatus::Running));
    assert_eq!(begun.command_name, "execute_deploy_step");
    let all_but_one = raw.len() as u64 - 1;
    let running =
        client.until(&begun.id, |c| c.progress().is_some_and(|p| p.bytes_done == all_but_one)).await;
    let progress = running.progress().expect("progress");
    assert_eq!((progress.phase, progress.bytes_total), (WritePhase::Writing, Some(raw.len() as u64)));
    let (status, body) = client.post(TOKEN, "standby.power_off", json!({}), false).await;
    assert_eq!((status, body["type"].as_str()), (409, Some("AgentIsBusy")));
    assert!(body["message"].as_str().expect("text").contains("agent is busy"));
    assert_eq!(client.post(TOKEN, "standby.sync", json!({}), true).await.0, 200, "quick commands still run");
    rig.world.open_gate();
    let done = client.until(&begun.id, |c| c.command_status.is_finished()).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded, "{:?}", done.command_error);
    let result = done.command_result.expect("result");
    assert_eq!(result["deploy_step"], step["step"], "the echo is what was asked");
    assert!(result["deploy_result"].as_str().expect("text").contains("/dev/vda"));
    // the regular interval is 90 to 180 s: this one was sent because of the command's end
    rig.world.beats(before + 1).await;
}

#[tokio::test]
async fn power_off_answers_first_and_then_calls_the_hook() {
    let rig = Rig::start().await;
    let client = rig.client().await;
    let (_, begun) = client.command("standby.power_off", json!({}), false).await;
    assert_eq!(begun.command_status, CommandStatus::Running);
    client.until(&begun.id, |c| c.command_status == CommandStatus::Succeeded).await;
    assert!(rig.powered_off.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_restarted_agent_goes_on_with_the_token_it_kept() {
    let mut rig = Rig::start().await;
    rig.world.beats(1).await;
    rig.running.abort();
    rig.running = tokio::spawn(ferric_agent::agent::run(rig.options.clone()));
    let beats = rig.world.beats(2).await;
    assert!(beats.iter().all(|beat| beat.agent_token.as_ref().is_some_and(|token| token.same_as(TOKEN))));
}

#[tokio::test]
async fn an_agent_whose_node_is_never_found_gives_up_when_told_to() {
    let mut rig = Rig::with(Machine::new(), |options, world| {
        options.limits.lookup = Some(Duration::from_millis(30));
        *world.lookup_trouble.lock().expect("lock") = vec![StatusCode::NOT_FOUND; 100];
    })
    .await;
    let ended = tokio::time::timeout(Duration::from_secs(20), &mut rig.running).await;
    let error = ended.expect("in time").expect("no panic").expect_err("gave up");
    assert!(error.to_string().contains("not found"));
}

#[tokio::test]
async fn a_lookup_that_wants_a_token_and_gives_none_is_refused_and_nothing_is_served() {
    let mut rig = Rig::with(Machine::new(), |options, world| {
        options.limits.lookup = Some(Duration::from_millis(30));
        world.tokenless.store(true, Ordering::SeqCst);
    })
    .await;
    let ended = tokio::time::timeout(Duration::from_secs(20), &mut rig.running).await;
    let error = ended.expect("in time").expect("no panic").expect_err("gave up");
    assert!(format!("{error:?}").contains("token"), "{error:?}");
    assert!(rig.world.beats.borrow().is_empty());
}
