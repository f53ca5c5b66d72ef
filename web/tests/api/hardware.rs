//! Sub-resources of a node's hardware, and hardware types: as Ironic answers for `fake-hardware`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Server};

const NOT_ALLOWED: &str = "(disabled or not implemented).";

/// A node, and its path.
async fn node(client: &Client, more: Value) -> (String, String) {
    let id = client.enrol(more).await;
    let path = format!("/v1/nodes/{id}");
    (id, path)
}

async fn free(client: &Client, id: &str) -> Value {
    client.until(id, "reservation", &Value::Null).await
}

#[actix_web::test]
async fn a_raid_configuration_is_wanted_checked_and_built() {
    let server = Server::start();
    let client = server.at(115);
    let (id, path) = node(&client, json!({})).await;
    let raid = format!("{path}/states/raid");
    let wanted = json!({"logical_disks": [{"size_gb": 50, "raid_level": "1", "is_root_volume": true}]});
    assert!(client.put(&raid, wanted.clone()).await.is(204).is_null());
    assert_eq!(client.get(&format!("{path}/states")).await.is(200)["target_raid_config"], wanted);
    for (body, text) in [
        (json!({"a": 1}), "RAID config validation error: 'logical_disks' is a required property"),
        (json!({"logical_disks": []}), "RAID config validation error: [] should be non-empty"),
        (
            json!({"logical_disks": [{"size_gb": 5, "raid_level": "1", "zzz": 0}]}),
            "RAID config validation error: Additional properties are not allowed ('zzz' was unexpected)",
        ),
        (json!([1]), "Expected types <class 'dict'> for target_raid_config"),
        (Value::Null, "Expected types <class 'dict'> for target_raid_config"),
    ] {
        let told = client.put(&raid, body).await.fails(400);
        assert!(told.starts_with(text), "{told}");
    }
    server.at(11).put(&raid, wanted.clone()).await.fails(406);

    client.provision(&id, "manage", "manageable").await;
    let steps = json!([{"interface": "raid", "step": "create_configuration"}]);
    let clean = json!({"target": "clean", "clean_steps": steps});
    client.put(&format!("{path}/states/provision"), clean).await.is(202);
    let node = client.until(&id, "provision_state", &json!("manageable")).await;
    assert_eq!((&node["last_error"], &node["raid_config"]), (&Value::Null, &wanted));
    // no body at all takes the wish back
    client.send(Method::PUT, &raid, None).await.is(204);
    assert_eq!(client.get(&path).await.is(200)["target_raid_config"], json!({}));
}

#[actix_web::test]
async fn what_a_machine_does_not_have_is_said_in_ironics_words() {
    let server = Server::start();
    let client = server.at(115);
    let more = json!({
        "name": "bare", "raid_interface": "no-raid", "console_interface": "no-console",
        "vendor_interface": "no-vendor", "management_interface": "noop", "bios_interface": "no-bios",
    });
    let (_, path) = node(&client, more).await;
    let wanted = json!({"logical_disks": [{"size_gb": 50, "raid_level": "1"}]});
    let told = client.put(&format!("{path}/states/raid"), wanted).await.fails(404);
    assert_eq!(told, format!("Driver fake-hardware does not support raid {NOT_ALLOWED}"));
    client.put(&format!("{path}/states/raid"), json!({})).await.is(204);
    let told = client.put(&format!("{path}/states/console"), json!({"enabled": true})).await.fails(400);
    assert_eq!(told, format!("Driver fake-hardware does not support console {NOT_ALLOWED}"));
    let told = client.send(Method::PUT, &format!("{path}/management/inject_nmi"), None).await.fails(400);
    assert_eq!(told, format!("Driver fake-hardware does not support inject_nmi {NOT_ALLOWED}"));
    let told = client.get(&format!("{path}/management/indicators")).await.fails(400);
    assert_eq!(told, format!("Driver fake-hardware does not support get_supported_indicators {NOT_ALLOWED}"));
    let told = client.get(&format!("{path}/vmedia")).await.fails(400);
    assert_eq!(told, format!("Driver fake-hardware does not support get_virtual_media {NOT_ALLOWED}"));
    let verdicts = client.get(&format!("{path}/validate")).await.is(200);
    assert_eq!(verdicts.as_object().map(serde_json::Map::len), Some(12));
    for kind in ["raid", "console", "bios"] {
        let text = format!("Driver fake-hardware does not support {kind} {NOT_ALLOWED}");
        assert_eq!(verdicts[kind], json!({"result": false, "reason": text}));
    }
    assert_eq!(verdicts["power"], json!({"result": true}));
}

#[actix_web::test]
async fn a_console_is_switched_on_and_off() {
    let server = Server::start();
    let client = server.at(115);
    let (id, path) = node(&client, json!({"name": "c"})).await;
    let console = format!("{path}/states/console");
    let off = json!({"console_enabled": false, "console_info": null});
    assert_eq!(server.at(1).get(&console).await.is(200), off);
    let answer = client.put("/v1/nodes/c/states/console", json!({"enabled": "yes"})).await;
    let location = answer.header("location").expect("told").to_owned();
    assert!(location.ends_with("/v1/nodes/c/states/console"), "{location}");
    answer.is(202);
    free(&client, &id).await;
    let on = json!({"console_enabled": true, "console_info": {}});
    assert_eq!(client.get(&console).await.is(200), on);
    client.send(Method::PUT, &format!("{console}?enabled=false"), None).await.is(202);
    free(&client, &id).await;
    assert_eq!(client.get(&console).await.is(200), off);
    let told = client.put(&console, json!({})).await.fails(400);
    assert_eq!(told, "Missing mandatory parameter: enabled");
    let told = client.put(&console, json!({"enabled": true, "x": 1})).await.fails(400);
    assert_eq!(told, "Unexpected arguments: x");
    assert!(
        client.put(&console, json!({"enabled": "maybe"})).await.fails(400).starts_with("Invalid enabled")
    );
    client.post(&console, json!({})).await.fails(405);
    client.get("/v1/nodes/nobody/states/console").await.fails(404);
}

#[actix_web::test]
async fn boot_mode_and_secure_boot_are_accepted_and_fail_where_it_shows() {
    let server = Server::start();
    let client = server.at(115);
    let (id, path) = node(&client, json!({})).await;
    for (word, target, text) in [
        (
            "boot_mode",
            json!("bios"),
            "Failed to change boot mode to 'bios: Driver fake-hardware does not support set_boot_mode",
        ),
        (
            "secure_boot",
            json!(true),
            "Failed to change secure_boot state to 'True': Driver fake-hardware does not support set_secure_boot_state",
        ),
    ] {
        let place = format!("{path}/states/{word}");
        let answer = client.put(&place, json!({"target": target})).await;
        assert!(answer.header("location").is_some_and(|told| told.ends_with(&format!("{id}/states"))));
        answer.is(202);
        let node = free(&client, &id).await;
        assert_eq!(node["last_error"], json!(format!("{text} {NOT_ALLOWED}")));
        server.at(75).put(&place, json!({"target": target})).await.fails(404);
        let told = client.put(&place, json!({})).await.fails(400);
        assert_eq!(told, "Missing mandatory parameter: target");
        client.put(&place, json!({"target": null})).await.fails(400);
        client.get(&place).await.fails(405);
    }
    let told = client.put(&format!("{path}/states/boot_mode"), json!({"target": "floppy"})).await.fails(400);
    assert_eq!(told, "Invalid boot mode floppy requested for node. Allowed boot modes are: bios, uefi");
}

#[actix_web::test]
async fn lights_are_listed_and_read() {
    let server = Server::start();
    let client = server.at(1);
    let (id, path) = node(&server.at(115), json!({})).await;
    let list = client.get(&format!("{path}/management/indicators")).await.is(200);
    let lights = list["indicators"].as_array().expect("a list");
    assert_eq!(lights.len(), 2);
    let light = &lights[1];
    assert_eq!(
        (&light["name"], &light["component"], &light["readonly"], &light["states"]),
        (&json!("led@system"), &json!("system"), &json!(false), &json!(["blinking", "off", "on"]))
    );
    let link = light["links"][0]["href"].as_str().expect("a link");
    assert!(link.ends_with(&format!("/v1/nodes/{id}/management/indicators/led@system")), "{link}");
    let one = |name: &str| format!("{path}/management/indicators/{name}");
    assert_eq!(client.get(&one("led@system")).await.is(200), json!({"state": "on"}));
    for (name, text) in [
        ("led", "Malformed indicator name \"led\""),
        ("led@disk", "Invalid component disk specified."),
        ("led@chassis", "Invalid indicator led specified."),
    ] {
        assert_eq!(client.get(&one(name)).await.fails(400), text);
    }
    let told = client.put(&one("led@system"), json!({"state": "on"})).await.fails(400);
    assert_eq!(told, format!("Driver fake-hardware does not support set_indicator_state {NOT_ALLOWED}"));
    let told = client.put(&one("led@system"), json!({})).await.fails(400);
    assert_eq!(told, "Missing mandatory parameter: state");
}

#[actix_web::test]
async fn bios_settings_are_shown_as_their_version_knows_them() {
    let server = Server::start();
    let client = server.at(115);
    let (id, path) = node(&client, json!({"name": "b"})).await;
    let bios = format!("{path}/bios");
    assert_eq!(client.get(&bios).await.is(200), json!({"bios": []}));
    let told = client.get(&format!("{bios}/virt")).await.fails(404);
    assert_eq!(told, format!("Node {id} doesn't have a BIOS setting 'virt'"));
    client.provision(&id, "manage", "manageable").await;
    let settings = json!([{"name": "virt", "value": "on"}, {"name": "numa", "value": "off"}]);
    let step = json!({"interface": "bios", "step": "apply_configuration", "args": {"settings": settings}});
    let clean = json!({"target": "clean", "clean_steps": [step]});
    client.put(&format!("{path}/states/provision"), clean).await.is(202);
    client.until(&id, "provision_state", &json!("manageable")).await;

    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let list = server.at(73).get(&bios).await.is(200);
    assert_eq!(keys(&list["bios"][0]), ["created_at", "links", "name", "updated_at", "value"]);
    assert_eq!((&list["bios"][0]["name"], &list["bios"][1]["value"]), (&json!("numa"), &json!("on")));
    let detail = client.get(&format!("{bios}?detail=true")).await.is(200);
    assert_eq!(keys(&detail["bios"][0]).len(), 14);
    assert_eq!(detail["bios"][0]["allowable_values"], json!([]));
    let some = client.get(&format!("{bios}?fields=value")).await.is(200);
    assert_eq!(keys(&some["bios"][0]), ["created_at", "links", "updated_at", "value"]);
    let one = client.get("/v1/nodes/b/bios/virt").await.is(200);
    let link = one["virt"]["links"][0]["href"].as_str().expect("a link");
    assert!(link.ends_with(&format!("/v1/nodes/{id}/bios/virt")), "{link}");
    assert_eq!(keys(&one["virt"]).len(), 14);
    assert_eq!(keys(&server.at(73).get("/v1/nodes/b/bios/virt").await.is(200)["virt"]).len(), 5);
    let list = client.get("/v1/nodes/b/bios").await.is(200);
    let link = list["bios"][0]["links"][0]["href"].as_str().expect("a link");
    assert!(link.ends_with("/v1/nodes/b/bios/numa"), "a list links as it was asked: {link}");
    for query in ["detail=true", "fields=name"] {
        server.at(73).get(&format!("{bios}?{query}")).await.fails(400);
    }
    for query in ["fields=quatsch", "fields=name&detail=true", "limit=1", "detail=x"] {
        client.get(&format!("{bios}?{query}")).await.fails(400);
    }
    server.at(39).get(&bios).await.fails(404);
    client.post(&bios, json!({})).await.fails(405);
}

#[actix_web::test]
async fn firmware_is_shown_as_its_version_knows_it() {
    let server = Server::start();
    let client = server.at(115);
    let (id, path) = node(&client, json!({})).await;
    let node: uuid::Uuid = id.parse().expect("a uuid");
    let seen = [ferric_schema::firmware::NewComponent {
        component: "bmc".into(),
        current_version: Some("2.1".into()),
        vendor: Some("acme".into()),
        ..Default::default()
    }];
    let at = ferric_machine::Timestamp(1_700_000_000_000_000);
    server.store().write(move |c| ferric_schema::firmware::merge(c, node, &seen, at)).await.expect("written");
    let place = format!("{path}/firmware");
    assert_eq!(
        client.get(&place).await.is(200),
        json!({"firmware": [{
            "component": "bmc", "initial_version": "2.1", "current_version": "2.1", "last_version_flashed": null,
            "vendor": "acme", "model": null, "serial_number": null,
            "created_at": "2023-11-14T22:13:20+00:00", "updated_at": null,
        }]})
    );
    let old = server.at(113).get(&place).await.is(200);
    assert!(old["firmware"][0].get("vendor").is_none());
    let told = server.at(113).get(&format!("{place}?fields=vendor")).await.fails(400);
    assert!(told.contains("at least API version 1.114"), "{told}");
    server.at(85).get(&place).await.fails(404);
    client.get(&format!("{place}?fields=quatsch")).await.fails(400);
}

#[actix_web::test]
async fn virtual_media_is_checked_before_it_is_accepted() {
    let server = Server::start();
    let client = server.at(115);
    let (id, path) = node(&client, json!({})).await;
    let vmedia = format!("{path}/vmedia");
    let good = json!({"device_type": "cdrom", "image_url": "http://127.0.0.1:9/x.iso"});
    client.post(&vmedia, good.clone()).await.is(204);
    let node = free(&client, &id).await;
    let told = node["last_error"].as_str().expect("failed");
    assert!(told.starts_with(&format!("Could not attach device cdrom to node {id}: ")), "{told}");
    client.delete(&format!("{vmedia}?device_types=cdrom,disk")).await.is(204);
    let node = free(&client, &id).await;
    let told = node["last_error"].as_str().expect("failed");
    assert!(
        told.starts_with(&format!("Could not detach device(s) ['cdrom', 'disk'] from node {id}: ")),
        "{told}"
    );
    for (body, text) in [
        (
            json!({"device_type": "tape", "image_url": "http://x/y"}),
            "'tape' is not one of ['disk', 'cdrom', 'floppy']",
        ),
        (json!({"device_type": "cdrom"}), "'image_url' is a required property"),
        (json!({"device_type": "cdrom", "image_url": "http://x", "a": 1}), "('a' was unexpected)"),
        (json!({"device_type": "cdrom", "image_url": "ftp://x/y"}), "Unsupported or missing URL scheme: ftp"),
        (json!({"device_type": "cdrom", "image_url": "/etc/passwd"}), "Unsupported or missing URL scheme: "),
    ] {
        let told = client.post(&vmedia, body).await.fails(400);
        assert!(told.contains(text), "{told}");
    }
    client.delete(&format!("{vmedia}?device_types=cdrom,tape")).await.fails(400);
    server.at(92).get(&vmedia).await.fails(404);
    server.at(88).post(&vmedia, good).await.fails(404);
    server.at(88).delete(&vmedia).await.fails(404);
}

#[actix_web::test]
async fn vendor_methods_are_listed_and_called() {
    let server = Server::start();
    let client = server.at(1);
    let (id, path) = node(&server.at(115), json!({})).await;
    let passthru = format!("{path}/vendor_passthru");
    let methods = client.get(&format!("{passthru}/methods")).await.is(200);
    assert_eq!(
        methods["third_method_sync"],
        json!({
            "http_methods": ["POST"], "async": false, "attach": false, "require_exclusive_lock": true,
            "description": "Test if the value of bar is meow",
        })
    );
    assert_eq!(methods.as_object().map(serde_json::Map::len), Some(4));
    let bar = |value: &str| json!({"bar": value});
    assert_eq!(client.post(&format!("{passthru}/third_method_sync"), bar("meow")).await.is(200), json!(true));
    let by_query = format!("{passthru}?method=third_method_sync");
    assert_eq!(client.post(&by_query, bar("x")).await.is(200), json!(false));
    assert!(client.post(&format!("{passthru}/second_method"), bar("x")).await.is(202).is_null());
    free(&server.at(115), &id).await;
    for (method, http, text) in [
        ("quatsch", Method::POST, "No handler for method quatsch"),
        ("second_method", Method::GET, "The method second_method does not support HTTP GET"),
        ("second_method", Method::DELETE, "The method second_method does not support HTTP DELETE"),
        ("second_method", Method::POST, "Parameter 'bar' not passed to method 'second_method'."),
    ] {
        assert_eq!(client.send(http, &format!("{passthru}/{method}"), None).await.fails(400), text);
    }
    assert_eq!(
        client.send(Method::POST, &passthru, None).await.fails(400),
        "Missing mandatory parameter: method"
    );
    client.post(&format!("{passthru}/third_method_sync"), json!([1])).await.fails(400);
    client.get("/v1/nodes/nobody/vendor_passthru/methods").await.fails(404);

    let of_driver = "/v1/drivers/fake-hardware/vendor_passthru";
    assert_eq!(client.get(&format!("{of_driver}/methods")).await.is(200), json!({}));
    let told = client.post(&format!("{of_driver}/x"), json!({})).await.fails(400);
    assert_eq!(told, "No handler for method x");
    client.get("/v1/drivers/nobody/vendor_passthru/methods").await.fails(404);
}

#[actix_web::test]
async fn hardware_types_are_listed_and_shown() {
    let server = Server::start();
    let client = server.at(115);
    let disks = "/v1/drivers/fake-hardware/raid/logical_disk_properties";
    let properties = server.at(12).get(disks).await.is(200);
    assert_eq!(properties.as_object().map(serde_json::Map::len), Some(10));
    server.at(11).get(disks).await.fails(406);
    let told = client.get("/v1/drivers/nobody/raid/logical_disk_properties").await.fails(404);
    assert!(told.starts_with("The driver 'nobody' is unknown."), "{told}");
    let told = client.get("/v1/drivers/nobody").await.fails(404);
    assert!(
        told.starts_with("Could not find the following driver(s) or hardware type(s): nobody."),
        "{told}"
    );
    let links = |value: &Value| value.as_object().map(serde_json::Map::len);
    assert_eq!(links(&client.get("/v1/drivers/fake-hardware?fields=").await.is(200)), Some(1));
    assert_eq!(links(&client.get("/v1/drivers?fields=name").await.is(200)["drivers"][0]), Some(2));
    server.at(76).get("/v1/drivers?fields=name").await.fails(406);
    server.at(29).get("/v1/drivers?detail=true").await.fails(406);
    assert_eq!(client.get("/v1/drivers?type=classic").await.is(200), json!({"drivers": []}));
    for query in ["type=x", "fields=name&detail=true", "fields=name,default_bios_interface", "x=1", "limit=1"]
    {
        client.get(&format!("/v1/drivers?{query}")).await.fails(400);
    }
    let shown = |body: &Value, key: &str| body.get(key).is_some();
    for (minor, key) in [(86, "firmware"), (40, "bios"), (38, "rescue"), (33, "storage"), (30, "vendor")] {
        let key = format!("default_{key}_interface");
        let (now, before) = (server.at(minor), server.at(minor - 1));
        assert!(shown(&now.get("/v1/drivers/fake-hardware").await.is(200), &key), "{key} at {minor}");
        assert!(!shown(&before.get("/v1/drivers/fake-hardware").await.is(200), &key), "{key} before {minor}");
    }
}

#[actix_web::test]
async fn classic_drivers_are_listed_with_their_type_and_show_nothing_to_choose() {
    let server = Server::of_types(&["fake-hardware", "fake", "fake_soft_power"], |_| {});
    let client = server.at(115);
    let names = |body: &Value| -> Vec<String> {
        let all = body["drivers"].as_array().expect("drivers").iter();
        all.map(|driver| driver["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&client.get("/v1/drivers").await.is(200)), ["fake", "fake-hardware", "fake_soft_power"]);
    assert_eq!(names(&client.get("/v1/drivers?type=classic").await.is(200)), ["fake", "fake_soft_power"]);
    assert_eq!(names(&client.get("/v1/drivers?type=dynamic").await.is(200)), ["fake-hardware"]);
    let old = server.at(29).get("/v1/drivers/fake").await.is(200);
    assert_eq!(
        (&old["hosts"], old.get("type")),
        (&json!(["test-host"]), None),
        "who serves it is told since 1.1"
    );
    let shown = client.get("/v1/drivers/fake").await.is(200);
    assert_eq!(shown["type"], json!("classic"));
    for kind in ["bios", "boot", "deploy", "network", "power", "storage", "vendor"] {
        for key in [format!("default_{kind}_interface"), format!("enabled_{kind}_interfaces")] {
            assert_eq!(shown.get(&key), Some(&Value::Null), "{key}");
        }
    }
    assert_eq!(client.get("/v1/drivers/fake-hardware").await.is(200)["type"], json!("dynamic"));
    let brief = client.get("/v1/drivers?fields=name,type").await.is(200);
    assert_eq!(brief["drivers"][0]["type"], json!("classic"));
    let properties = client.get("/v1/drivers/fake/properties").await.is(200);
    assert!(properties.get("B1").is_some() && properties.get("pxe_deploy_kernel").is_none(), "{properties}");
}

#[actix_web::test]
async fn the_interfaces_of_a_classic_driver_are_nobodys_to_set() {
    let server = Server::of_types(&["fake-hardware", "fake"], |_| {});
    let client = server.at(115);
    let told =
        client.post("/v1/nodes", json!({"driver": "fake", "deploy_interface": "fake"})).await.fails(400);
    assert!(
        told.starts_with("For node ")
            && told.contains(" with driver fake, these node fields must be set to None: deploy_interface."),
        "{told}"
    );
    let node = client.post("/v1/nodes", json!({"driver": "fake", "name": "old"})).await.is(201);
    for kind in
        ["bios", "boot", "console", "deploy", "inspect", "management", "power", "raid", "rescue", "vendor"]
    {
        assert_eq!(node[&format!("{kind}_interface")], Value::Null, "{kind}");
    }
    assert_eq!((&node["network_interface"], &node["storage_interface"]), (&json!("flat"), &json!("noop")));
    let set = |path: &str, value: Value| json!([{"op": "replace", "path": path, "value": value}]);
    let told = client.patch("/v1/nodes/old", set("/power_interface", json!("fake"))).await.fails(400);
    assert!(told.contains("these node fields must be set to None: power_interface."), "{told}");
    let chosen = client.patch("/v1/nodes/old", set("/network_interface", json!("noop"))).await.is(200);
    assert_eq!(chosen["network_interface"], json!("noop"));

    // it works with the interfaces that it has
    client.put("/v1/nodes/old/states/provision", json!({"target": "manage"})).await.is(202);
    client.until("old", "provision_state", &json!("manageable")).await;
    let valid = client.get("/v1/nodes/old/validate").await.is(200);
    assert_eq!(
        (&valid["power"]["result"], &valid["deploy"]["result"]),
        (&json!(true), &json!(true)),
        "{valid}"
    );
    assert_eq!(valid["bios"]["result"], json!(false), "{valid}");

    // away from it the fields get defaults, and back to it they are empty again, as Ironic did
    let dynamic = client.patch("/v1/nodes/old", set("/driver", json!("fake-hardware"))).await.is(200);
    assert_eq!(
        (&dynamic["power_interface"], &dynamic["network_interface"]),
        (&json!("fake"), &json!("noop"))
    );
    let classic = client.patch("/v1/nodes/old", set("/driver", json!("fake"))).await.is(200);
    assert_eq!((&classic["power_interface"], &classic["network_interface"]), (&Value::Null, &json!("noop")));
}
