//! Cleaning and servicing: what is on offer, what is wiped, and what must never be touched.

mod rig;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use ferric_agent_wire::{Command, CommandStatus, WritePhase};
use rig::*;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn step(name: &str, node: Value) -> Value {
    json!({"step": {"interface": "deploy", "step": name, "priority": 10, "abortable": true, "requires_ramdisk": true},
           "node": node, "ports": [], "clean_version": null})
}

async fn clean(rig: &Rig, name: &str, node: Value) -> Command {
    rig.client().await.command("clean.execute_clean_step", step(name, node), true).await.1
}

fn details(command: &Command) -> &str {
    assert_eq!(command.command_status, CommandStatus::Failed, "{command:?}");
    &command.command_error.as_ref().expect("an error").details
}

fn assert_zero(path: &std::path::Path, at: u64, len: u64) {
    let bytes = read_at(path, at, len as usize);
    let first = bytes.iter().position(|byte| *byte != 0).map(|n| at + n as u64);
    assert_eq!(first, None, "first byte that is not zero");
}

#[tokio::test]
async fn the_steps_on_offer_are_those_of_the_python_agent() {
    let rig = Rig::start().await;
    let client = rig.client().await;
    let offered = async |command: &str, key: &str| {
        let (_, answer) = client.command(command, json!({"node": {}, "ports": []}), true).await;
        let result = answer.command_result.expect("result");
        assert!(result["hardware_manager_version"]["FerricHardwareManager"].is_string());
        let steps = result[key]["FerricHardwareManager"].as_array().expect("steps").clone();
        let shown = |s: &Value| {
            let (interface, step) = (s["interface"].as_str()?, s["step"].as_str()?);
            Some(format!("{interface}.{step} {} {}", s["priority"], s["abortable"]))
        };
        let names: Vec<String> = steps.iter().map(|s| shown(s).expect("a step")).collect();
        (names, steps)
    };
    let (names, steps) = offered("clean.get_clean_steps", "clean_steps").await;
    assert_eq!(
        names,
        [
            "deploy.erase_devices 10 true",
            "deploy.erase_devices_metadata 99 true",
            "deploy.erase_devices_express 0 true",
            "deploy.erase_pstore 0 true",
            "deploy.clean_uefi_nvram 0 true",
            "deploy.burnin_cpu 0 true",
            "deploy.burnin_memory 0 true",
        ]
    );
    assert!(steps.iter().all(|step| step["reboot_requested"] == json!(false)));
    assert_eq!(steps[4]["argsinfo"]["match_patterns"]["required"], json!(false));
    let (names, steps) = offered("deploy.get_deploy_steps", "deploy_steps").await;
    let expected = [
        "deploy.erase_devices_metadata 0 null",
        "deploy.clean_uefi_nvram 0 null",
        "deploy.write_image 0 null",
        "deploy.inject_files 0 null",
    ];
    assert_eq!(names, expected);
    let image = steps.iter().find(|step| step["step"] == "write_image").expect("write_image");
    assert_eq!(image["argsinfo"]["image_info"]["required"], json!(true));
    let (names, _) = offered("service.get_service_steps", "service_steps").await;
    let expected =
        ["deploy.clean_uefi_nvram 0 true", "deploy.burnin_cpu 0 true", "deploy.burnin_memory 0 true"];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_step_is_echoed_and_a_wrong_one_is_refused_with_the_reason() {
    let rig = Rig::start().await;
    let client = rig.client().await;
    let asked = step("erase_pstore", json!({}));
    let (_, done) = client.command("clean.execute_clean_step", asked.clone(), true).await;
    let result = done.command_result.expect("result");
    assert_eq!(result["clean_step"], asked["step"], "key by key");
    assert!(result["clean_result"].is_string());
    let service = json!({"step": {"interface": "deploy", "step": "clean_uefi_nvram", "args": {}, "note": 1},
                         "node": {}, "ports": [], "service_version": null});
    let (_, done) = client.command("service.execute_service_step", service.clone(), true).await;
    let result = done.command_result.expect("result");
    assert_eq!(result["service_step"], service["step"]);
    assert!(result.get("service_result").is_some());
    for (command, wrong, word) in [
        ("clean.execute_clean_step", step("dance", json!({})), "no clean step deploy.dance"),
        ("clean.execute_clean_step", step("write_image", json!({})), "no clean step"),
        ("service.execute_service_step", step("erase_devices", json!({})), "no service step"),
        (
            "clean.execute_clean_step",
            json!({"step": {"interface": "deploy", "step": "erase_devices", "args": {"fast": true}}}),
            "takes no arguments, but fast",
        ),
        (
            "clean.execute_clean_step",
            json!({"step": {"interface": "deploy", "step": "clean_uefi_nvram", "args": {"pattern": []}}}),
            "it takes match_patterns",
        ),
        (
            "deploy.execute_deploy_step",
            json!({"step": {"interface": "deploy", "step": "write_image", "args": {}}}),
            "needs the argument image_info",
        ),
    ] {
        let (_, command) = client.command(command, wrong, true).await;
        assert!(details(&command).contains(word), "{}", details(&command));
    }
    for (command, key) in [
        ("clean.execute_clean_step", "clean_version"),
        ("service.execute_service_step", "service_version"),
        ("deploy.execute_deploy_step", "deploy_version"),
    ] {
        let mut old = step("clean_uefi_nvram", json!({}));
        old[key] = json!({"FerricHardwareManager": "0"});
        let (_, answer) = client.command(command, old, true).await;
        assert_eq!(answer.command_status, CommandStatus::CleanVersionMismatch, "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_the_disk_and_of_every_partition_is_gone_and_the_data_between_is_not() {
    let machine = Machine::new();
    let gpt = machine.add_disk("sda", GIB);
    let mbr = machine.add_disk("sdb", GIB);
    // a second copy only, as after a botched wipe
    let half = machine.add_disk("sdc", GIB);
    run("sgdisk", &["-o", "-n", "1:2048:+128M", "-n", "2:512M:+256M"], &gpt);
    run("sgdisk", &["-o", "-n", "1:600M:+64M"], &half);
    File::options()
        .write(true)
        .open(&half)
        .expect("disk")
        .write_all_at(&[0; 34 * 512], 0)
        .expect("front gone");
    let place = |disk: &std::path::Path, at: u64, bytes: &[u8]| {
        File::options().write(true).open(disk).expect("disk").write_all_at(bytes, at).expect("written");
    };
    // ext4 magic, md 1.2, LVM, md 1.0 near the end, btrfs' second copy
    let (one, two) = (MIB, 512 * MIB);
    place(&gpt, one + 1024 + 56, &[0x53, 0xef]);
    place(&gpt, two + 4096, &[0xfc, 0x4e, 0x2b, 0xa9]);
    place(&gpt, two + 512, b"LABELONE");
    place(&gpt, two + 256 * MIB - 8192, &[0xfc, 0x4e, 0x2b, 0xa9]);
    place(&gpt, two + 64 * MIB + 64, b"_BHRfS_M");
    place(&gpt, two + 100 * MIB, b"user data");
    place(&half, 600 * MIB, b"XFSB");
    // primary at 1 MiB, extended from 100 MiB with logicals at 101 and 301 MiB
    let entry = |kind: u8, start: u64, len: u64| {
        let mut entry = vec![0, 0, 0, 0, kind, 0, 0, 0];
        entry.extend((start as u32).to_le_bytes());
        entry.extend((len as u32).to_le_bytes());
        entry
    };
    let table = |entries: &[Vec<u8>]| {
        let mut sector = vec![0; 512];
        for (n, entry) in entries.iter().enumerate() {
            sector[446 + n * 16..462 + n * 16].copy_from_slice(entry);
        }
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    };
    let sectors = |mib: u64| mib * MIB / 512;
    place(&mbr, 0, &table(&[entry(0x83, sectors(1), sectors(50)), entry(5, sectors(100), sectors(500))]));
    place(
        &mbr,
        100 * MIB,
        &table(&[entry(0x83, sectors(1), sectors(50)), entry(5, sectors(200), sectors(100))]),
    );
    place(&mbr, 300 * MIB, &table(&[entry(0x82, sectors(1), sectors(90))]));
    place(&mbr, 101 * MIB + 3, b"NTFS    ");
    place(&mbr, 301 * MIB + 4086, b"SWAPSPACE2");
    let rig = Rig::with(machine, |_, _| ()).await;
    let done =
        clean(&rig, "erase_devices_metadata", json!({"properties": {}, "driver_internal_info": {}})).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded, "{:?}", done.command_error);
    for disk in [&gpt, &mbr, &half] {
        assert_zero(disk, 0, 2 * MIB);
        assert_zero(disk, GIB - 2 * MIB, 2 * MIB);
    }
    for at in [one, two, two + 256 * MIB - MIB, two + 64 * MIB] {
        assert_zero(&gpt, at, 4096);
    }
    assert_zero(&gpt, two + 256 * MIB - 8192, 8192);
    assert_eq!(read_at(&gpt, two + 100 * MIB, 9), b"user data", "only metadata was asked for");
    for at in [MIB, 100 * MIB, 101 * MIB, 300 * MIB, 301 * MIB] {
        assert_zero(&mbr, at, 8192);
    }
    assert_zero(&half, 600 * MIB, MIB);
    let table = run("sgdisk", &["-p"], &gpt);
    assert!(!table.contains("131072"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_every_disk_is_erased_with_progress_and_kept_disks_are_untouched() {
    let machine = Machine::new();
    let size = 48 * MIB + 512;
    let (spinning, flash, kept) =
        (machine.add_disk("sda", size), machine.add_disk("sdb", size), machine.add_disk("sdc", size));
    let sys = machine.folder.path().join("sys/block");
    fs::write(sys.join("sda/queue/rotational"), "1\n").expect("file");
    fs::write(sys.join("sdb/queue/discard_max_bytes"), "2147450880\n").expect("file");
    let removable = machine.add_disk("sdd", size);
    fs::write(sys.join("sdd/removable"), "1\n").expect("file");
    let rig = Rig::with(machine, |_, _| ()).await;
    let node = json!({"properties": {"skip_block_devices": [{"serial": "serial-sdc"}]},
        "driver_internal_info": {"agent_erase_devices_iterations": 1, "agent_erase_devices_zeroize": true}});
    let done = clean(&rig, "erase_devices", node.clone()).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded, "{:?}", done.command_error);
    let result = done.command_result.expect("result");
    let told = &result["clean_result"];
    assert_eq!(told["/dev/sda"], "1 random pass and zeros");
    assert_eq!(told["/dev/sdb"], "discard and zeros");
    assert!(told["/dev/sdc"].as_str().expect("text").contains("skip_block_devices"));
    assert_eq!(told["/dev/sdd"], "left alone: it is removable");
    assert_zero(&spinning, 0, size);
    assert_zero(&flash, 0, size);
    for untouched in [&kept, &removable] {
        assert!(read_at(untouched, 0, size as usize).iter().all(|byte| *byte == 0xaa));
    }
    // one random pass without zeros: nothing of the old bytes, and no table
    let node = json!({"properties": {"skip_block_devices": [{"name": "s!= /dev/sda"}]},
        "driver_internal_info": {"agent_erase_devices_iterations": 1, "agent_erase_devices_zeroize": false}});
    File::options()
        .write(true)
        .open(&spinning)
        .expect("disk")
        .write_all_at(&vec![0xaa; size as usize], 0)
        .expect("old");
    let done = clean(&rig, "erase_devices", node).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded, "{:?}", done.command_error);
    let now = read_at(&spinning, 0, size as usize);
    let middle = &now[8 << 20..40 << 20];
    let old = middle.iter().filter(|byte| **byte == 0xaa).count();
    assert!(old > middle.len() / 300 && old < middle.len() / 200, "{old} by chance");
    assert_zero(&spinning, 0, MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_erased_show_while_the_step_runs() {
    let machine = Machine::new();
    machine.add_disk("sda", 512 * MIB);
    let rig = Rig::with(machine, |_, _| ()).await;
    let client = rig.client().await;
    let node = json!({"driver_internal_info": {"agent_erase_devices_iterations": 2}});
    let (_, begun) = client.command("clean.execute_clean_step", step("erase_devices", node), false).await;
    assert_eq!(begun.command_status, CommandStatus::Running);
    let half = client
        .until(&begun.id, |command| {
            command.command_status.is_finished() || command.progress().is_some_and(|p| p.bytes_done > 0)
        })
        .await;
    let progress = half.progress().expect("seen while it runs");
    assert_eq!((progress.phase, progress.bytes_total), (WritePhase::Erasing, Some(3 * 512 * MIB)));
    let (status, _) =
        client.post(TOKEN, "clean.execute_clean_step", step("erase_pstore", json!({})), false).await;
    assert_eq!(status, 409);
    let done = client.until(&begun.id, |command| command.command_status.is_finished()).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded, "{:?}", done.command_error);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_disk_does_not_spare_the_others_and_each_failure_is_named() {
    let machine = Machine::new();
    let good = machine.add_disk("sda", 16 * MIB);
    let gone = machine.add_disk("sdb", 16 * MIB);
    let locked = machine.add_disk("sdc", 16 * MIB);
    fs::remove_file(&gone).expect("the device file of a dying disk");
    fs::write(machine.folder.path().join("sys/block/sdc/ro"), "1\n").expect("file");
    let held = machine.add_disk("sdd", 16 * MIB);
    fs::create_dir_all(machine.folder.path().join("sys/block/sdd/holders/dm-3")).expect("dirs");
    let rig = Rig::with(machine, |_, _| ()).await;
    for name in ["erase_devices_metadata", "erase_devices"] {
        File::options().write(true).open(&good).expect("disk").write_all_at(&[0xaa; 4096], 0).expect("old");
        let done = clean(&rig, name, json!({})).await;
        let text = details(&done).to_owned();
        for word in ["/dev/sdb: ", "/dev/sdc: it is read-only", "/dev/sdd: it is in use by dm-3"] {
            assert!(text.contains(word), "{name}: {text}");
        }
        assert!(!text.contains("/dev/sda"), "{text}");
        assert_eq!(done.command_error.expect("error").kind, "BlockDeviceEraseError");
        assert_zero(&good, 0, 4096);
    }
    for untouched in [&locked, &held] {
        assert!(read_at(untouched, 0, 16 << 20).iter().all(|byte| *byte == 0xaa));
    }
    let refused = clean(&rig, "erase_devices", json!({"properties": {"skip_block_devices": "sda"}})).await;
    assert!(details(&refused).contains("skip_block_devices"), "{}", details(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_written_again_after_its_disk_was_erased() {
    let rig = Rig::start().await;
    let raw = raw_image(5);
    rig.world.serve_image("image", Served::new(raw.clone()));
    let image = info(&rig.image_url("image"), &raw, "raw");
    rig.write(image.clone(), Value::Null).await;
    let done = clean(&rig, "erase_devices_metadata", json!({})).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded, "{:?}", done.command_error);
    assert_zero(&rig.disk("vda"), 0, MIB);
    let done = rig.write(image, Value::Null).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded, "{:?}", done.command_error);
    assert_same(&rig.disk("vda"), &raw);
}

#[tokio::test]
async fn an_image_is_never_written_to_a_disk_that_is_to_be_kept() {
    let machine = Machine::new();
    let kept = machine.add_disk("sda", 4 * GIB);
    machine.add_disk("sdb", 5 * GIB);
    let rig = Rig::with(machine, |_, _| ()).await;
    let raw = raw_image(5);
    rig.world.serve_image("image", Served::new(raw.clone()));
    let mut step = write_step(info(&rig.image_url("image"), &raw, "raw"), Value::Null);
    step["node"]["properties"] = json!({"skip_block_devices": [{"serial": "serial-sda"}]});
    let (_, done) = rig.client().await.command("deploy.execute_deploy_step", step, true).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded, "{:?}", done.command_error);
    assert!(read_at(&kept, 0, 1 << 20).iter().all(|byte| *byte == 0xaa));
    assert_same(&rig.disk("sdb"), &raw);
}

#[tokio::test]
async fn without_an_image_of_its_own_the_agent_guesses_no_disk_to_change() {
    let machine = Machine::new();
    machine.add_disk("sda", 4 * GIB);
    machine.add_disk("sdb", 5 * GIB);
    let rig = Rig::with(machine, |_, _| ()).await;
    let client = rig.client().await;
    let files = json!([{"path": "/etc/motd", "content": "aGVsbG8="}]);
    let inject = |instance_info: Value, properties: Value| {
        json!({"step": {"interface": "deploy", "step": "inject_files", "args": {"files": files.clone()}},
            "node": {"instance_info": instance_info, "properties": properties}, "ports": []})
    };
    let keep = json!({"skip_block_devices": [{"serial": "serial-sda"}]});
    let root = |name: &str| json!({"root_device": {"name": name}});
    for (step, word) in [
        (inject(json!({}), json!({})), "no root device hints"),
        (inject(json!({}), keep.clone()), "no root device hints"),
        (inject(root("/dev/sda"), keep.clone()), "left out"),
        // this disk is taken, and has no partitions
        (inject(root("/dev/sdb"), keep), "no partition"),
    ] {
        let (_, done) = client.command("deploy.execute_deploy_step", step.clone(), true).await;
        assert!(details(&done).contains(word), "{step}: {}", details(&done));
    }
    let boot = json!({"root_uuid": "11111111-2222-3333-4444-555555555555", "target_boot_mode": "bios"});
    let (_, done) = client.command("image.install_bootloader", boot, true).await;
    assert!(details(&done).contains("no root device hints"), "{}", details(&done));
}

#[tokio::test]
async fn a_locked_down_agent_answers_once_and_then_is_silent_without_ending() {
    let rig = Rig::start().await;
    let client = rig.client().await;
    let (_, done) = client.command("system.lockdown", json!({}), true).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded);
    let fresh = rig.client().await;
    let began = std::time::Instant::now();
    let url = format!("{}/v1/status", fresh.base);
    // a kept connection may still be served for the time that answers have to leave
    while fresh.http.get(&url).send().await.is_ok() {
        assert!(began.elapsed().as_secs() < 20, "it still serves");
        tokio::task::yield_now().await;
    }
    assert!(!rig.running.is_finished(), "whoever starts ended agents would start it again");
}
