//! Config drives and boot entries on real partition tables, checked with sgdisk, sfdisk and blkid.

mod rig;

use std::fs;
use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferric_agent_wire::CommandStatus;
use rig::*;
use serde_json::{Value, json};

/// A FAT file system labelled config-2 with a file in it.
fn drive() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("temp dir");
    let path = folder.path().join("vfat");
    fs::write(&path, vec![0; 4 << 20]).expect("written");
    let image = path.to_str().expect("utf-8");
    run("mformat", &["-v", "CONFIG-2", "-i", image], Path::new("::"));
    fs::write(folder.path().join("meta_data.json"), "{\"uuid\": \"x\"}").expect("written");
    let from = folder.path().join("meta_data.json");
    run("mcopy", &["-i", image, from.to_str().expect("utf-8")], Path::new("::meta_data.json"));
    fs::read(path).expect("read")
}

fn packed(content: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(content).expect("in memory");
    gzip.finish().expect("in memory")
}

async fn write(rig: &Rig, raw: &[u8], configdrive: Value) -> ferric_agent_wire::Command {
    rig.world.serve_image("image", Served::new(raw.to_vec()));
    rig.write(info(&rig.image_url("image"), raw, "raw"), configdrive).await
}

fn assert_drive_at(disk: &Path, at: u64, content: &[u8]) {
    assert_eq!(read_at(disk, at, content.len()), content);
    let label = std::process::Command::new("blkid")
        .args(["-p", "-O", &at.to_string(), "-s", "LABEL", "-o", "value"])
        .arg(disk)
        .output()
        .expect("blkid runs");
    assert_eq!(String::from_utf8_lossy(&label.stdout).trim(), "CONFIG-2");
}

/// Start byte of GPT partition `number` by sgdisk.
fn gpt_start(disk: &Path, number: u32) -> u64 {
    let text = run("sgdisk", &["-i", &number.to_string()], disk);
    let line = text.lines().find(|line| line.starts_with("First sector:")).expect("a partition");
    line.split_whitespace().nth(2).and_then(|n| n.parse::<u64>().ok()).expect("a number") * 512
}

#[tokio::test(flavor = "multi_thread")]
async fn on_gpt_a_new_partition_at_the_end_takes_the_config_drive() {
    let rig = Rig::start().await;
    let (raw, content) = (raw_image(9), drive());
    let done = write(&rig, &raw, STANDARD.encode(packed(&content)).into()).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded, "{:?}", done.command_error);
    let disk = rig.disk("vda");
    let table = run("sgdisk", &["-v"], &disk);
    assert!(table.contains("No problems found"), "{table}");
    let at = gpt_start(&disk, 2);
    assert!(at > 4 * GIB - (67 << 20), "at the end: {at}");
    assert!(run("sgdisk", &["-i", "2"], &disk).contains("config-2"));
    assert_drive_at(&disk, at, &content);
    assert_same(&disk, &raw);
    // once more the same: the partition is used again
    let again = write(&rig, &raw, STANDARD.encode(packed(&content)).into()).await;
    assert_eq!(again.command_status, CommandStatus::Succeeded);
    assert_eq!(rig.world.asked_for("image").len(), 1, "the image was not written again");
    assert_eq!(gpt_start(&disk, 2), at);
    assert!(!run("sgdisk", &["-p"], &disk).contains("\n   3 "));
    // another drive: who boots it first is to find the image as it was made
    let mut other = content.clone();
    let last = other.len() - 1;
    other[last] = 1;
    let again = write(&rig, &raw, STANDARD.encode(packed(&other)).into()).await;
    assert_eq!(again.command_status, CommandStatus::Succeeded);
    assert_eq!(rig.world.asked_for("image").len(), 2, "the image was written again");
    assert_drive_at(&disk, gpt_start(&disk, 2), &other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_labelled_partition_of_the_image_is_used_and_a_url_is_fetched() {
    let rig = Rig::start().await;
    let folder = tempfile::tempdir().expect("temp dir");
    let path = folder.path().join("raw");
    fs::write(&path, raw_image(80)).expect("written");
    run("sgdisk", &["-n", "2:20480:+64M", "-c", "2:config-2"], &path);
    let raw = fs::read(&path).expect("read");
    let content = drive();
    rig.world.serve_image("drive", Served::new(STANDARD.encode(packed(&content)).into_bytes()));
    let done = write(&rig, &raw, rig.image_url("drive").into()).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded, "{:?}", done.command_error);
    assert_drive_at(&rig.disk("vda"), 20480 * 512, &content);
    assert!(!run("sgdisk", &["-p"], &rig.disk("vda")).contains("\n   3 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_mbr_a_free_primary_entry_takes_the_config_drive_and_a_full_table_is_refused() {
    let mbr = |script: &str| {
        let mut raw = vec![0; 9 << 20];
        raw[0] = 0xeb;
        let folder = tempfile::tempdir().expect("temp dir");
        let (path, input) = (folder.path().join("raw"), folder.path().join("script"));
        fs::write(&path, &raw).expect("written");
        fs::write(&input, script).expect("written");
        let status = std::process::Command::new("sfdisk")
            .args(["-q", "--label", "dos"])
            .arg(&path)
            .stdin(fs::File::open(input).expect("script"))
            .status();
        assert!(status.expect("sfdisk runs").success());
        fs::read(path).expect("read")
    };
    let rig = Rig::start().await;
    let content = drive();
    let text: Value = STANDARD.encode(packed(&content)).into();
    let done = write(&rig, &mbr("start=2048, size=8192, type=83, bootable\n"), text.clone()).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded, "{:?}", done.command_error);
    let table: Value = serde_json::from_str(&run("sfdisk", &["-J"], &rig.disk("vda"))).expect("json");
    let second = &table["partitiontable"]["partitions"][1];
    assert_eq!((second["size"].as_u64(), second["type"].as_str()), (Some(131_072), Some("c")));
    assert_drive_at(&rig.disk("vda"), second["start"].as_u64().expect("start") * 512, &content);

    let full = "start=2048, size=2048, type=83\nstart=4096, size=2048, type=83\nstart=6144, size=2048, type=83\nstart=8192, size=2048, type=83\n";
    let done = write(&rig, &mbr(full), text.clone()).await;
    let error = done.command_error.expect("refused");
    assert!(error.kind == "ConfigDriveWriteError" && error.details.contains("four primary"), "{error:?}");
    let done = write(&rig, &vec![1; 2 << 20], text).await;
    assert!(done.command_error.expect("refused").details.contains("no partition table"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_for_another_block_size_gets_no_partition_added() {
    let content: Value = STANDARD.encode(packed(&drive())).into();
    let machine = Machine::new();
    machine.add_disk("vda", 4 * GIB);
    let blocks = machine.folder.path().join("sys/block/vda/queue/logical_block_size");
    fs::write(blocks, "4096\n").expect("file");
    let rig = Rig::with(machine, |_, _| ()).await;
    let mut raw = raw_image(9);
    let done = write(&rig, &raw, content.clone()).await;
    let error = done.command_error.expect("a GPT at byte 512");
    assert!(error.kind == "ConfigDriveWriteError" && error.details.contains("protective MBR"), "{error:?}");
    assert_eq!(read_at(&rig.disk("vda"), 446, 64), raw[446..510], "the table is as the image brought it");

    raw[446 + 4] = 0x83;
    let done = write(&rig, &raw, content).await;
    let error = done.command_error.expect("a plain MBR");
    assert!(error.kind == "ConfigDriveWriteError" && error.details.contains("4096"), "{error:?}");
    assert_eq!(read_at(&rig.disk("vda"), 446, 64), raw[446..510]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_config_drive_fails_before_the_disk_is_touched_and_does_not_leak() {
    let rig = Rig::start().await;
    let done = write(&rig, &raw_image(5), "not base64, my password!".into()).await;
    let error = done.command_error.expect("refused");
    assert!(error.details.contains("config drive") && !error.details.contains("password"), "{error:?}");
    assert_eq!(read_at(&rig.disk("vda"), 0, 16), [0xaa; 16]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_boot_loader_is_looked_for_where_firmware_looks() {
    let rig = Rig::start().await;
    let client = rig.client().await;
    let uefi = json!({"root_uuid": "0x0", "efi_system_part_uuid": null, "target_boot_mode": "uefi"});
    let (_, early) = client.command("image.install_bootloader", uefi.clone(), true).await;
    assert!(early.command_error.expect("nothing written").details.contains("no image has been written"));
    let image = |with_loader: bool| {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = folder.path().join("raw");
        fs::write(&path, raw_image(48)).expect("written");
        run("sgdisk", &["-d", "1", "-n", "1:2048:+40M", "-t", "1:ef00"], &path);
        let esp = format!("{}@@1M", path.display());
        run("mformat", &["-i", &esp, "-T", "81920"], Path::new("::"));
        if with_loader {
            run("mmd", &["-i", &esp, "::EFI"], Path::new("::EFI/BOOT"));
            let loader = folder.path().join("l");
            fs::write(&loader, "MZ").expect("written");
            run("mcopy", &["-i", &esp, loader.to_str().expect("utf-8")], Path::new("::EFI/BOOT/BOOTX64.EFI"));
        }
        fs::read(path).expect("read")
    };
    assert_eq!(write(&rig, &raw_image(5), Value::Null).await.command_status, CommandStatus::Succeeded);
    let (_, none) = client.command("image.install_bootloader", uefi.clone(), true).await;
    assert!(none.command_error.expect("no ESP").details.contains("EFI system partition"));
    assert_eq!(write(&rig, &image(false), Value::Null).await.command_status, CommandStatus::Succeeded);
    let (_, none) = client.command("image.install_bootloader", uefi.clone(), true).await;
    assert!(none.command_error.expect("no loader").details.contains("EFI/BOOT"));
    assert_eq!(write(&rig, &image(true), Value::Null).await.command_status, CommandStatus::Succeeded);
    let (_, fallback) = client.command("image.install_bootloader", uefi.clone(), true).await;
    let text = fallback.command_result.expect("fine").to_string();
    assert!(text.contains("fallback path is used"), "{text}");
    fs::create_dir_all(rig.machine.folder.path().join("sys/firmware/efi/efivars")).expect("dirs");
    let (_, entry) = client.command("image.install_bootloader", uefi, true).await;
    assert!(entry.command_result.expect("fine").to_string().contains("Boot0000"));
    let bios = json!({"target_boot_mode": "bios"});
    let (_, nothing) = client.command("image.install_bootloader", bios, true).await;
    assert_eq!(nothing.command_status, CommandStatus::Succeeded);
}
