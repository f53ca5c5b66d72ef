//! Partition images: table, file systems, config drive, what is preserved and what is refused.

mod rig;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use base64::Engine;
use ferric_agent_wire::{Command, CommandStatus};
use rig::*;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
const ROOT_UUID: &str = "0c1f3d5e-7a9b-4c2d-8e4f-123456789abc";

/// An ext4 file system of so many MiB with one file.
fn ext4(mib: u64) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("temp dir");
    let (tree, image) = (folder.path().join("tree"), folder.path().join("image"));
    fs::create_dir(&tree).expect("made");
    fs::write(tree.join("hello"), "from the image").expect("written");
    File::create(&image).and_then(|file| file.set_len(mib * MIB)).expect("sparse");
    let tree = tree.to_string_lossy().into_owned();
    run("/usr/sbin/mkfs.ext4", &["-q", "-F", "-U", ROOT_UUID, "-d", &tree], &image);
    fs::read(image).expect("read")
}

fn partition_info(rig: &Rig, file: &[u8], change: Value) -> Value {
    rig.world.serve_image("image", Served::new(file.to_vec()));
    let mut info = info(&rig.image_url("image"), file, "raw");
    let keys = json!({"image_type": "partition", "root_mb": 64, "swap_mb": 16, "ephemeral_mb": 32,
                      "ephemeral_format": "ext4", "deploy_boot_mode": "bios", "boot_option": "local"});
    for (key, value) in keys.as_object().expect("object").iter().chain(change.as_object().expect("object")) {
        info[key] = value.clone();
    }
    info
}

fn drive() -> Value {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&[b'c'; 5000]).expect("in memory");
    base64::engine::general_purpose::STANDARD.encode(gzip.finish().expect("in memory")).into()
}

fn done(command: &Command) {
    assert_eq!(command.command_status, CommandStatus::Succeeded, "{:?}", command.command_error);
}

fn refused(command: &Command) -> String {
    assert_eq!(command.command_status, CommandStatus::Failed, "{command:?}");
    command.command_error.as_ref().expect("an error").details.clone()
}

async fn uuids(rig: &Rig) -> Value {
    let (_, command) = rig.client().await.command("standby.get_partition_uuids", json!({}), true).await;
    command.command_result.expect("a result")
}

/// (start MiB, size MiB, type, bootable) of each partition.
fn table(disk: &Path) -> (String, Vec<(u64, u64, String, bool)>) {
    let json: Value = serde_json::from_str(&run("/usr/sbin/sfdisk", &["-J"], disk)).expect("json");
    let table = &json["partitiontable"];
    let parts = table["partitions"].as_array().expect("partitions").iter();
    let number = |part: &Value, key: &str| part[key].as_u64().expect("number") / 2048;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let parts = parts.map(|part| {
        (number(part, "start"), number(part, "size"), text(&part["type"]), part["bootable"] == true)
    });
    (text(&table["label"]), parts.collect())
}

/// Cuts a partition out for tools that want a file of their own.
fn cut(rig: &Rig, at_mib: u64, mib: u64) -> tempfile::NamedTempFile {
    let bytes = read_at(&rig.disk("vda"), at_mib * MIB, (mib * MIB) as usize);
    let mut file = tempfile::NamedTempFile::new().expect("temp file");
    file.write_all(&bytes).expect("written");
    file
}

fn blkid(file: &Path) -> String {
    run("/usr/sbin/blkid", &["-p", "-o", "export"], file)
}

#[tokio::test(flavor = "multi_thread")]
async fn bios_gets_an_mbr_in_the_documented_order_and_every_part_is_filled() {
    let rig = Rig::start().await;
    let image = ext4(20);
    done(&rig.write(partition_info(&rig, &image, json!({})), drive()).await);
    let (label, parts) = table(&rig.disk("vda"));
    let expected = [(1, 32, "83", false), (33, 16, "82", false), (49, 64, "c", false), (113, 64, "83", true)];
    let expected: Vec<_> = expected.into_iter().map(|(a, b, c, d)| (a, b, c.to_owned(), d)).collect();
    assert_eq!((label.as_str(), parts), ("dos", expected));
    assert_eq!(read_at(&rig.disk("vda"), 113 * MIB, image.len()), image, "the image is in its place");
    let ephemeral = cut(&rig, 1, 32);
    run("/usr/sbin/e2fsck", &["-fn"], ephemeral.path());
    assert!(blkid(ephemeral.path()).contains("LABEL=ephemeral0"));
    let swap = blkid(cut(&rig, 33, 16).path());
    assert!(swap.contains("TYPE=swap") && swap.contains("LABEL=swap1"), "{swap}");
    let config = read_at(&rig.disk("vda"), 49 * MIB, 5001);
    assert!(config[..5000].iter().all(|&byte| byte == b'c') && config[5000] == 0);
    let found = uuids(&rig).await;
    assert_eq!(found["root uuid"], ROOT_UUID);
    assert_eq!(found["partitions"]["root"], "/dev/vda4");
    assert_eq!(found.get("efi system partition uuid"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn uefi_gets_a_gpt_with_an_esp_that_fsck_likes() {
    let rig = Rig::start().await;
    let image = ext4(20);
    let gzip = converted(&image, "gzip", &["-1c"]);
    let info = partition_info(&rig, &gzip, json!({"deploy_boot_mode": "uefi"}));
    done(&rig.write(info, Value::Null).await);
    let disk = rig.disk("vda");
    let checked = run("sgdisk", &["-v"], &disk);
    assert!(checked.contains("No problems found"), "{checked}");
    let types: Vec<_> =
        table(&disk).1.into_iter().map(|(at, len, kind, _)| (at, len, kind[..8].to_owned())).collect();
    let expected =
        [(1, 200, "C12A7328"), (201, 32, "0FC63DAF"), (233, 16, "0657FD6D"), (249, 64, "0FC63DAF")];
    assert_eq!(types, expected.map(|(a, b, c)| (a, b, c.to_owned())));
    let esp = cut(&rig, 1, 200);
    run("/usr/sbin/fsck.vfat", &["-n"], esp.path());
    let text = blkid(esp.path());
    assert!(text.contains("efi-part") && text.contains("VERSION=FAT32"), "{text}");
    let found = uuids(&rig).await;
    assert_eq!(found["root uuid"], ROOT_UUID);
    let esp_uuid = found["efi system partition uuid"].as_str().expect("a UUID");
    assert!(text.contains(&format!("UUID={esp_uuid}")), "{esp_uuid}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bios_on_gpt_gets_a_place_for_grub_and_qcow2_is_unpacked_into_the_root_partition() {
    let rig = Rig::start().await;
    let image = ext4(20);
    let qcow2 = converted(&image, "qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "-c"]);
    let change = json!({"disk_label": "gpt", "disk_format": "qcow2", "swap_mb": 0, "ephemeral_mb": 0});
    done(&rig.write(partition_info(&rig, &qcow2, change), Value::Null).await);
    let types: Vec<_> = table(&rig.disk("vda"))
        .1
        .into_iter()
        .map(|(at, len, kind, _)| (at, len, kind[..8].to_owned()))
        .collect();
    assert_eq!(types, [(1, 1, "21686148".to_owned()), (2, 64, "0FC63DAF".to_owned())]);
    assert_eq!(read_at(&rig.disk("vda"), 2 * MIB, image.len()), image);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preserved_ephemeral_partition_keeps_every_byte_and_a_moved_one_is_refused_untouched() {
    let rig = Rig::start().await;
    let image = ext4(20);
    done(&rig.write(partition_info(&rig, &image, json!({"deploy_boot_mode": "uefi"})), Value::Null).await);
    let disk = rig.disk("vda");
    let precious = vec![b'p'; MIB as usize];
    File::options()
        .write(true)
        .open(&disk)
        .and_then(|f| f.write_all_at(&precious, 215 * MIB))
        .expect("written");
    let before = read_at(&disk, 201 * MIB, 32 << 20);
    let guid = |disk: &Path| {
        let text = run("sgdisk", &["-i2"], disk);
        text.lines().find(|line| line.contains("unique GUID")).expect("a GUID").to_owned()
    };
    let guid_before = guid(&disk);
    let other = ext4(24);
    // an image of other size, a config drive: what comes behind the ephemeral partition may move
    let keep = json!({"deploy_boot_mode": "uefi", "preserve_ephemeral": true, "swap_mb": 20});
    done(&rig.write(partition_info(&rig, &other, keep.clone()), drive()).await);
    assert!(read_at(&disk, 201 * MIB, 32 << 20) == before, "the ephemeral partition is as it was");
    assert_eq!(guid(&disk), guid_before);
    assert_eq!(read_at(&disk, (253 + 64) * MIB, other.len()), other);
    let whole = read_at(&disk, 0, 400 << 20);
    let mut moved = keep;
    moved["ephemeral_mb"] = 33.into();
    let text = refused(&rig.write(partition_info(&rig, &image, moved), Value::Null).await);
    assert!(text.contains("preserve_ephemeral") && text.contains("nothing was written"), "{text}");
    assert!(read_at(&disk, 0, 400 << 20) == whole, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_write_keeps_the_preserved_partition_in_the_table_so_that_it_can_be_tried_again() {
    let rig = Rig::start().await;
    let image = ext4(20);
    done(&rig.write(partition_info(&rig, &image, json!({})), Value::Null).await);
    let ephemeral = read_at(&rig.disk("vda"), MIB, 32 << 20);
    let mut wrong = partition_info(&rig, &image, json!({"preserve_ephemeral": true}));
    wrong["os_hash_value"] = "ab".repeat(32).into();
    assert!(refused(&rig.write(wrong, Value::Null).await).contains("sha256"));
    assert_eq!(
        read_at(&rig.disk("vda"), 49 * MIB, MIB as usize),
        vec![0; MIB as usize],
        "the image is unusable"
    );
    done(&rig.write(partition_info(&rig, &image, json!({"preserve_ephemeral": true})), Value::Null).await);
    assert!(read_at(&rig.disk("vda"), MIB, 32 << 20) == ephemeral, "the ephemeral partition is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_fit_or_be_made_is_refused_before_the_first_write() {
    let rig = Rig::start().await;
    let image = ext4(20);
    let before = read_at(&rig.disk("vda"), 0, 64 << 20);
    for (change, word) in [
        (json!({"root_mb": 4090}), "root 4090 MiB"),
        (json!({"root_mb": 19}), "root partition"),
        (json!({"root_mb": null}), "root_mb"),
        (json!({"ephemeral_format": "ntfs"}), "ntfs"),
        (json!({"disk_label": "msdos", "deploy_boot_mode": "uefi"}), "gpt"),
        (json!({"preserve_ephemeral": true}), "preserve_ephemeral"),
    ] {
        let text = refused(&rig.write(partition_info(&rig, &image, change.clone()), Value::Null).await);
        assert!(text.contains(word), "{change}: {text}");
        assert!(read_at(&rig.disk("vda"), 0, 64 << 20) == before, "{change}: nothing was written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_file_system_is_told_apart_and_leaves_no_table() {
    let rig = Rig::start().await;
    let text = refused(&rig.write(partition_info(&rig, &raw_image(9), json!({})), Value::Null).await);
    assert!(text.contains("no file system") && text.contains("whole-disk"), "{text}");
    assert_eq!(read_at(&rig.disk("vda"), 0, 512), [0; 512], "nothing can boot");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_loader_for_a_file_system_that_is_not_there_names_those_that_are() {
    let rig = Rig::start().await;
    let image = ext4(20);
    done(&rig.write(partition_info(&rig, &image, json!({})), Value::Null).await);
    let params = json!({"root_uuid": "11111111-2222-3333-4444-555555555555", "target_boot_mode": "bios"});
    let (_, command) = rig.client().await.command("image.install_bootloader", params, true).await;
    let text = refused(&command);
    assert!(text.contains(ROOT_UUID) && text.contains("vda3"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_with_blocks_of_4096_bytes_gets_a_table_and_an_esp_in_its_own_units() {
    for (mode, root) in [("uefi", "vda4"), ("bios", "vda3")] {
        let machine = Machine::new();
        machine.add_disk("vda", 4 * GIB);
        let block = machine.folder.path().join("sys/block/vda/queue/logical_block_size");
        fs::write(block, "4096\n").expect("written");
        let rig = Rig::with(machine, |_, _| ()).await;
        let image = ext4(20);
        done(&rig.write(partition_info(&rig, &image, json!({"deploy_boot_mode": mode})), Value::Null).await);
        if mode == "uefi" {
            run("/usr/sbin/fsck.vfat", &["-n"], cut(&rig, 1, 200).path());
            assert_eq!(read_at(&rig.disk("vda"), 4096, 8), b"EFI PART", "the GPT is in block 1");
        }
        // found by reading the table back
        let params = json!({"root_uuid": "11111111-2222-3333-4444-555555555555", "target_boot_mode": "bios"});
        let (_, command) = rig.client().await.command("image.install_bootloader", params, true).await;
        let text = refused(&command);
        assert!(text.contains(&format!("{root} ext4 {ROOT_UUID}")), "{text}");
    }
}
