use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Server};

#[tokio::test]
async fn a_machine_is_deployed_and_taken_back() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    client.provision("n", "manage", "manageable").await;
    client.provision("n", "provide", "available").await;
    let image = json!([
        {"op": "add", "path": "/instance_info/image_source", "value": "http://127.0.0.1/i.raw"},
        {"op": "add", "path": "/instance_info/image_checksum", "value": "d41d8cd98f00b204e9800998ecf8427e"},
    ]);
    client.patch(&format!("/v1/nodes/{node}"), image).await.is(200);
    let path = format!("/v1/nodes/{node}/states/provision");
    let answer =
        client.put(&path, json!({"target": "active", "configdrive": {"meta_data": {"hostname": "h"}}})).await;
    assert_eq!(answer.header("location"), Some(format!("{}/v1/nodes/{node}/states", server.base).as_str()));
    assert!(answer.header("content-type").is_none());
    answer.is(202);
    let body = client.until("n", "provision_state", &json!("active")).await;
    assert!(!body.to_string().contains("hostname"), "the config drive is masked: {body}");

    let states = client.get("/v1/nodes/n/states").await.is(200);
    assert_eq!(
        (&states["provision_state"], &states["target_provision_state"]),
        (&json!("active"), &json!(null))
    );
    assert_eq!(states.as_object().map(serde_json::Map::len), Some(11));
    assert_eq!(
        server
            .at(11)
            .get(&format!("/v1/nodes/{node}/states"))
            .await
            .is(200)
            .as_object()
            .map(serde_json::Map::len),
        Some(7)
    );

    let set = |field: &str, value: Value| json!([{"op": "add", "path": format!("/{field}"), "value": value}]);
    client.patch("/v1/nodes/n", set("protected", json!(true))).await.is(200);
    client.put(&path, json!({"target": "deleted"})).await.fails(403);
    client.patch("/v1/nodes/n", set("power_interface", json!("fake"))).await.is(200);
    client.patch("/v1/nodes/n", set("protected", json!(false))).await.is(200);
    client.delete("/v1/nodes/n").await.fails(409);
    client.provision("n", "rebuild", "active").await;
    client.provision("n", "deleted", "available").await;
    let body = client.get("/v1/nodes/n").await.is(200);
    assert_eq!(body["instance_info"], json!({}));
    assert_eq!(server.at(1).get(&format!("/v1/nodes/{node}")).await.is(200)["provision_state"], json!(null));
    client.delete("/v1/nodes/n").await.is(204);
}

#[tokio::test]
async fn provisioning_checks_come_in_their_order() {
    let server = Server::start();
    let node = server.at(115).enrol(json!({})).await;
    let path = format!("/v1/nodes/{node}/states/provision");
    for (minor, body, status, text) in [
        (115, json!({}), 400, "target"),
        (115, json!({"target": "sing"}), 400, "no such action"),
        (115, json!({"target": "manage", "tune": 1}), 400, "Unexpected arguments: tune"),
        (3, json!({"target": "manage"}), 406, "1.4"),
        (115, json!({"target": "active"}), 400, "enroll"),
        (84, json!({"target": "unhold"}), 400, "enroll"),
        (115, json!({"target": "clean", "clean_steps": []}), 400, "enroll"),
        (115, json!({"target": "manage", "configdrive": "x"}), 400, "config drive"),
        (115, json!({"target": "manage", "rescue_password": "x"}), 400, "rescue"),
        (115, json!({"target": "manage", "clean_steps": [{}]}), 400, "clean_steps"),
        (115, json!({"target": "manage", "disable_ramdisk": true}), 400, "disable_ramdisk"),
        (91, json!({"target": "manage", "runbook": "r"}), 406, "1.92"),
    ] {
        let told = server.at(minor).put(&path, body.clone()).await.fails(status);
        assert!(told.contains(text), "{body} at 1.{minor}: {told}");
    }
    server.at(115).put("/v1/nodes/nothing/states/provision", json!({"target": "manage"})).await.fails(404);
    server.at(115).provision(&node, "manage", "manageable").await;
    let steps = json!({"target": "clean", "clean_steps": [{"interface": "deploy", "step": "erase_devices"}]});
    assert!(server.at(115).put(&path, steps).await.fails(400).contains("no such step"));
    server.at(115).put(&path, json!({"target": "clean", "clean_steps": [{"step": "x"}]})).await.fails(400);
}

#[tokio::test]
async fn power_is_switched() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    client.provision("n", "manage", "manageable").await;
    let path = format!("/v1/nodes/{node}/states/power");
    let answer = client.put(&path, json!({"target": "power on"})).await;
    assert_eq!(answer.header("location"), Some(format!("{}/v1/nodes/{node}/states", server.base).as_str()));
    answer.is(202);
    client.until("n", "power_state", &json!("power on")).await;
    client.put(&path, json!({"target": "soft power off", "timeout": 5})).await.is(202);
    client.until("n", "power_state", &json!("power off")).await;
    for (minor, body, status) in [
        (115, json!({}), 400),
        (115, json!({"target": "up"}), 400),
        (115, json!({"target": "power on", "timeout": 0}), 400),
        (115, json!({"target": "power on", "timeout": 86_401}), 400),
        (26, json!({"target": "soft rebooting"}), 406),
        (26, json!({"target": "power on", "timeout": 3}), 406),
    ] {
        server.at(minor).put(&path, body.clone()).await.fails(status);
    }
    client
        .patch("/v1/nodes/n", json!([{"op": "add", "path": "/disable_power_off", "value": true}]))
        .await
        .is(200);
    client.put(&path, json!({"target": "power off"})).await.fails(409);
    client.put(&path, json!({"target": "rebooting"})).await.is(202);
}

#[tokio::test]
async fn interfaces_are_validated_and_boot_devices_set() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    let verdicts = client.get("/v1/nodes/n/validate").await.is(200);
    let kinds: Vec<&str> = verdicts.as_object().expect("an object").keys().map(String::as_str).collect();
    let all = "bios boot console deploy firmware inspect management network power raid rescue storage";
    assert_eq!(kinds.join(" "), all);
    assert_eq!(verdicts["power"], json!({"result": true}));
    assert_eq!(client.get("/v1/nodes/validate?node=n").await.is(200), verdicts);
    assert_eq!(client.get(&format!("/v1/nodes/validate?node_uuid={node}")).await.is(200), verdicts);
    client.get("/v1/nodes/validate").await.fails(400);

    let path = "/v1/nodes/n/management/boot_device";
    client.put(path, json!({"boot_device": "pxe", "persistent": true})).await.is(204);
    let device = client.get(path).await.is(200);
    assert_eq!(
        device.as_object().map(|map| map.keys().map(String::as_str).collect()),
        Some(vec!["boot_device", "persistent"])
    );
    assert!(client.get(&format!("{path}/supported")).await.is(200)["supported_boot_devices"].is_array());
    client.put(path, json!({"boot_device": "floppy"})).await.fails(400);
    client.put(path, json!({})).await.fails(400);
}

#[tokio::test]
async fn drivers_and_conductors_are_listed_by_version() {
    let server = Server::start();
    let new = server.at(115);
    let driver = &new.get("/v1/drivers").await.is(200)["drivers"][0];
    assert_eq!(
        (&driver["name"], &driver["hosts"], &driver["type"]),
        (&json!("fake-hardware"), &json!(["test-host"]), &json!("dynamic"))
    );
    let old = server.at(1).get("/v1/drivers").await.is(200)["drivers"][0].clone();
    assert_eq!(old.as_object().map(serde_json::Map::len), Some(3), "{old}");
    assert_eq!(new.get("/v1/drivers?type=classic").await.is(200), json!({"drivers": []}));
    let one = new.get("/v1/drivers/fake-hardware").await.is(200);
    assert_eq!(one["default_power_interface"], "fake");
    assert!(one["enabled_firmware_interfaces"].is_array());
    assert!(
        server.at(30).get("/v1/drivers/fake-hardware").await.is(200).get("enabled_bios_interfaces").is_none()
    );
    assert!(new.get("/v1/drivers/ipmi").await.fails(404).contains("fake-hardware"));
    new.get("/v1/drivers/fake-hardware/properties").await.is(200);
    new.get("/v1/drivers/properties?driver_name=fake-hardware").await.is(200);
    let some = new.get("/v1/drivers?fields=name,hosts").await.is(200)["drivers"][0].clone();
    assert_eq!(some.as_object().map(serde_json::Map::len), Some(3), "{some}");

    let conductor = new.get("/v1/conductors").await.is(200)["conductors"][0].clone();
    assert_eq!((&conductor["hostname"], &conductor["alive"]), (&json!("test-host"), &json!(true)));
    assert_eq!(new.get("/v1/conductors/test-host").await.is(200)["drivers"], json!(["fake-hardware"]));
    new.get("/v1/conductors/nobody").await.fails(404);
    server.at(48).get("/v1/conductors").await.fails(404);
}

#[tokio::test]
async fn a_ramdisk_finds_its_node_only_while_it_is_awaited() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({"name": "n"})).await;
    client.post("/v1/ports", json!({"node_uuid": node, "address": "52:54:00:aa:bb:01"})).await.is(201);
    let ramdisk = server.at(68);
    ramdisk.get("/v1/lookup").await.fails(400);
    ramdisk.get("/v1/lookup?addresses=nonsense").await.fails(400);
    ramdisk.get("/v1/lookup?addresses=52:54:00:aa:bb:99").await.fails(404);
    ramdisk.get("/v1/lookup?addresses=52:54:00:AA:BB:01").await.fails(404);
    ramdisk.get(&format!("/v1/lookup?node_uuid={node}")).await.fails(404);

    let path = format!("/v1/heartbeat/{node}");
    let beat = |more: Value| {
        let mut body =
            json!({"callback_url": "https://10.0.0.9:9999", "agent_token": "t", "agent_version": "13.0.0"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    ramdisk.post(&path, beat(json!({"callback_url": "http://10.0.0.9:9999"}))).await.fails(400);
    ramdisk.post(&path, beat(json!({"agent_token": null}))).await.fails(400);
    ramdisk.post(&path, beat(json!({"agent_status": "end"}))).await.fails(400);
    server.at(67).post(&path, beat(json!({"agent_verify_ca": "pem"}))).await.fails(400);
    server.at(35).post(&path, beat(json!({}))).await.fails(400);
    ramdisk.post(&path, beat(json!({"tune": 1}))).await.fails(400);
    ramdisk.post("/v1/heartbeat/1be26c0b-03f2-4d2e-ae87-c02d7f33c123", beat(json!({}))).await.fails(404);
    let answer = ramdisk.post(&path, beat(json!({"agent_token": "wrong"}))).await;
    assert!(answer.status.is_client_error(), "{:?}", answer.body);
    let raw = ramdisk
        .raw(Method::POST, &path)
        .header("X-OpenStack-Ironic-API-Version", "1.115")
        .body("callback_url=x");
    Answer::of(raw).await.fails(400);
}
