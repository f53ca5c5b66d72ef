//! Whole deployments, step by step, against an agent that speaks HTTP.

use std::path::Path;
use std::sync::Arc;

use ferric_machine::Activity;
use serde_json::{Value, json};

use super::*;
use crate::DriverError;
use crate::interface::{DeployInterface, Found, NodeView, Step, StepContext, StepOutcome, Steps};
use crate::protocol::http;
use crate::testing::{World, client, json as object};

fn keep(node: &mut NodeView, keep: crate::interface::Json) {
    for (key, value) in keep {
        if value.is_null() {
            node.driver_internal_info.remove(&key);
        } else {
            node.driver_internal_info.insert(key, value);
        }
    }
}

fn context(world: &World, step: &Step) -> StepContext {
    world.context(Activity::Deploy, step)
}

fn found(outcome: StepOutcome) -> Found {
    let StepOutcome::Found(found) = outcome else { panic!("{outcome:?}") };
    *found
}

fn step(of: &dyn Steps, world: &World, name: &str) -> Step {
    let all = of.steps(&world.node, Activity::Deploy);
    all.into_iter().find(|step| step.step == name).unwrap_or_else(|| panic!("no step {name}"))
}

fn served(root: &Path) -> ServedFiles {
    ServedFiles {
        allowed: vec![root.join("own")],
        http_root: root.join("http"),
        http_url: "http://10.0.0.1:8080".into(),
    }
}

#[tokio::test]
async fn a_partition_image_is_written_with_its_layout_and_boots_from_its_own_root_in_both_modes() {
    for mode in ["bios", "uefi"] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("own")).unwrap();
        std::fs::write(dir.path().join("own/root.img"), "image").unwrap();
        let settings = DirectSettings { files: Some(served(dir.path())), ..DirectSettings::default() };
        let direct = DirectDeploy::new(settings, client()).unwrap();
        let mut world = World::new().await;
        world.node.instance_info = object(json!({
            "image_source": format!("file://{}/own/root.img", dir.path().display()),
            "image_checksum": "a".repeat(64), "image_type": "partition", "root_gb": 4, "swap_mb": 64,
            "configdrive": "geheim", "capabilities": {"boot_mode": mode}
        }));
        direct.validate(&world.node).unwrap();
        let kept = direct.prepare(&world.node).await.unwrap();
        assert!(
            !Value::Object(kept.clone()).to_string().contains("geheim"),
            "the config drive is not kept twice"
        );
        keep(&mut world.node, kept);
        assert_eq!(world.node.driver_internal_info["is_whole_disk_image"], false);
        let link = dir.path().join(format!("http/agent_images/{}", world.node.uuid));
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "image");

        direct.execute(&context(&world, &step(&direct, &world, "write_image"))).await.unwrap();
        let written = world.agent.with(|inside| inside.started.last().unwrap().1["step"]["args"].clone());
        let image = &written["image_info"];
        assert_eq!(image["urls"], json!([format!("http://10.0.0.1:8080/agent_images/{}", world.node.uuid)]));
        assert_eq!((&image["root_mb"], &image["swap_mb"]), (&json!(4096), &json!(64)));
        assert_eq!((&image["image_type"], &image["deploy_boot_mode"]), (&json!("partition"), &json!(mode)));
        assert_eq!(image["disk_label"], if mode == "uefi" { "gpt" } else { "msdos" });
        assert_eq!((&image["configdrive"], &image["boot_option"]), (&json!("geheim"), &json!("local")));

        world.agent.with(|inside| {
            inside.commands.clear();
            inside.result = json!({"root uuid": "r-1", "efi system partition uuid": "e-1"});
        });
        let boot = context(&world, &step(&direct, &world, "prepare_instance_boot"));
        let found = found(direct.execute(&boot).await.unwrap());
        assert_eq!(found.keep["root_uuid_or_disk_id"], "r-1");
        assert_eq!(found.keep["instance"], json!({"root_gb": 4, "swap_mb": 64, "ephemeral_gb": 0}));
        let (name, params) = world.agent.with(|inside| inside.started.last().unwrap().clone());
        assert_eq!(name, "image.install_bootloader");
        assert_eq!((&params["root_uuid"], &params["efi_system_part_uuid"]), (&json!("r-1"), &json!("e-1")));
        assert_eq!(params["target_boot_mode"], mode);
        assert_eq!(world.asked(), ["disk"]);

        // an agent that was restarted knows no partitions: nothing is installed onto a guess
        world.agent.with(|inside| inside.result = json!({}));
        let error = direct.execute(&boot).await.unwrap_err();
        assert!(error.to_string().contains("no root partition"), "{error}");

        let down = context(&world, &Step::new("deploy", "tear_down", 0));
        direct.execute(&down).await.unwrap();
        assert!(!link.exists(), "nobody needs the image any more");
    }
}

#[tokio::test]
async fn a_custom_agent_gets_no_image_of_ours() {
    let direct = Arc::new(DirectDeploy::new(DirectSettings::default(), client()).unwrap());
    let custom = CustomAgentDeploy::new(direct);
    let world = World::new().await;
    custom.validate(&world.node).unwrap();
    assert!(custom.prepare(&world.node).await.unwrap().contains_key("deploy_boot_mode"));
    let names: Vec<String> =
        custom.steps(&world.node, Activity::Deploy).into_iter().map(|step| step.step).collect();
    assert_eq!(
        names,
        ["deploy", "prepare_instance_boot", "tear_down_agent", "switch_to_tenant_network", "boot_instance"]
    );
    let outcome = custom.execute(&context(&world, &step(&custom, &world, "prepare_instance_boot"))).await;
    assert_eq!(outcome.unwrap(), StepOutcome::Done);
    assert_eq!(world.asked(), ["disk"]);
    assert!(world.agent.with(|inside| inside.started.is_empty()));
}

#[tokio::test]
async fn a_ramdisk_instance_boots_over_the_network_without_an_agent() {
    let mut world = World::new().await;
    let error = RamdiskDeploy.validate(&world.node).unwrap_err();
    assert!(error.to_string().contains("kernel"), "{error}");
    world.node.instance_info = object(json!({"boot_iso": "http://x/y.iso"}));
    let error = RamdiskDeploy.validate(&world.node).unwrap_err();
    assert!(error.to_string().contains("virtual media"), "{error}");
    world.node.instance_info =
        object(json!({"kernel": "/k", "ramdisk": "http://x/r", "ramdisk_kernel_arguments": "quiet a=b"}));
    RamdiskDeploy.validate(&world.node).unwrap();
    let kept = RamdiskDeploy.prepare(&world.node).await.unwrap();
    keep(&mut world.node, kept);
    let deploy = context(&world, &step(&RamdiskDeploy, &world, "deploy"));
    let stored = found(RamdiskDeploy.execute(&deploy).await.unwrap());
    assert_eq!(
        stored.keep["instance_boot"],
        json!({"kernel": "/k", "ramdisk": "http://x/r", "kernel_args": ["root=/dev/ram0", "quiet", "a=b"]})
    );
    assert_eq!(world.asked(), ["power power off", "network", "power power on"]);
    let down = context(&world, &Step::new("deploy", "tear_down", 0));
    let stored = found(RamdiskDeploy.execute(&down).await.unwrap());
    assert_eq!(stored.keep["instance_boot"], Value::Null);
    assert_eq!(world.asked()[3..], ["power power off", "files"]);
}

#[tokio::test]
async fn anaconda_lays_out_its_kickstart_file_and_waits_for_the_installers_word() {
    let dir = tempfile::tempdir().unwrap();
    let (web, root) = (dir.path().join("web"), dir.path().join("http"));
    std::fs::create_dir_all(&web).unwrap();
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(web.join("squashfs.img"), "stage2").unwrap();
    std::fs::write(web.join("ks"), "token {{ ks_options.agent_token }} {{ ks_options.liveimg_url }}")
        .unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = http::start(&http::HttpSettings { listen, root: web.clone() }).await.unwrap();
    let url = |name: &str| format!("http://{}/{name}", server.address());
    let anaconda = AnacondaDeploy::new(AnacondaSettings {
        api_url: "http://10.0.0.1:6385".into(),
        http_root: root.clone(),
        http_url: "http://10.0.0.1:8080/".into(),
        ..AnacondaSettings::default()
    })
    .unwrap();
    let mut world = World::new().await;
    world.node.instance_info =
        object(json!({"image_source": "http://img/os.squashfs", "kernel": "/k", "ramdisk": "/r"}));
    let error = anaconda.validate(&world.node).unwrap_err();
    assert!(error.to_string().contains("stage2"), "{error}");
    world.node.instance_info.insert("stage2".into(), json!(url("squashfs.img")));
    anaconda.validate(&world.node).unwrap();

    world.node.instance_info.insert("ks_template".into(), json!(url("absent")));
    let error = anaconda.prepare(&world.node).await.unwrap_err();
    assert!(matches!(error, DriverError::Image { .. }), "told before the machine is touched: {error}");
    world.node.instance_info.insert("ks_template".into(), json!(url("ks")));
    world.node.driver_internal_info.insert("agent_status".into(), json!("end"));
    let kept = anaconda.prepare(&world.node).await.unwrap();
    keep(&mut world.node, kept);
    assert!(
        !world.node.driver_internal_info.contains_key("agent_status"),
        "the last installation's word is gone"
    );

    let first =
        anaconda.execute(&context(&world, &step(&anaconda, &world, "prepare_installer"))).await.unwrap();
    assert_eq!(world.asked(), ["power power off"], "the token is made when the machine has lost all others");
    keep(&mut world.node, found(first).keep);
    let deploy = step(&anaconda, &world, "deploy");
    let StepOutcome::Wait(progressed) = anaconda.execute(&context(&world, &deploy)).await.unwrap() else {
        panic!("it waits");
    };
    assert_eq!(world.asked(), ["power power off", "network", "power power on"]);
    let folder = root.join(world.node.uuid.to_string());
    let token = world.node.driver_internal_info["agent_secret_token"].as_str().unwrap().to_owned();
    assert!(token.len() >= 32);
    let text = std::fs::read_to_string(folder.join("ks.cfg")).unwrap();
    assert_eq!(text, format!("token {token} http://img/os.squashfs"));
    assert_eq!(std::fs::read_to_string(folder.join("LiveOS/squashfs.img")).unwrap(), "stage2");
    let boot = &world.node.driver_internal_info["instance_boot"];
    let base = format!("http://10.0.0.1:8080/{}", world.node.uuid);
    assert_eq!(boot["kernel_args"], json!([format!("inst.ks={base}/ks.cfg"), format!("inst.stage2={base}")]));

    for (status, ends) in [(None, false), (Some("start"), false), (Some("end"), true)] {
        world.node.driver_internal_info.insert("agent_status".into(), json!(status));
        let mut look = context(&world, &deploy);
        look.checkpoint.clone_from(&progressed.checkpoint);
        let outcome = anaconda.poll(&look).await.unwrap();
        assert_eq!(outcome == StepOutcome::Done, ends, "{status:?}: {outcome:?}");
    }
    assert_eq!(world.asked().len(), 3, "looking does not start the machine again");
    world.node.driver_internal_info.insert("agent_status".into(), json!("error"));
    world.node.driver_internal_info.insert("agent_status_message".into(), json!("no disks"));
    let mut look = context(&world, &deploy);
    look.checkpoint.clone_from(&progressed.checkpoint);
    let error = anaconda.poll(&look).await.unwrap_err();
    assert!(error.to_string().contains("no disks"), "{error}");

    let outcome =
        anaconda.execute(&context(&world, &step(&anaconda, &world, "boot_instance"))).await.unwrap();
    assert_eq!(found(outcome).keep["agent_secret_token"], Value::Null);
    assert_eq!(world.asked()[3..], ["power power off", "disk", "power power on"]);
    assert!(!folder.exists(), "the file with the token is gone");
    server.stop().await;
}

#[tokio::test]
async fn noop_touches_nothing() {
    let world = World::new().await;
    NoopDeploy.validate(&world.node).unwrap();
    for name in ["deploy", "tear_down", "take_over"] {
        let outcome = NoopDeploy.execute(&context(&world, &Step::new("deploy", name, 0))).await.unwrap();
        assert_eq!(outcome, StepOutcome::Done);
    }
    assert!(world.asked().is_empty());
}
