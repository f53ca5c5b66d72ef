//! What sfdisk, blkid and fsck see on disks that were written.

use ferric_machine::BootMode;
use serde_json::Value;

use super::*;
use crate::deploy::iscsi::layout::{Label, tests::wanted};

/// A root file system with something in it.
fn root_image(bench: &Bench, bytes: u64) -> PathBuf {
    let (tree, image) = (bench.path("tree"), bench.path("root.img"));
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("hello"), noise(3 << 20, 9)).unwrap();
    std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-d", tree.to_str().unwrap(), image.to_str().unwrap()]);
    image
}

#[tokio::test]
async fn every_layout_is_what_sfdisk_and_blkid_read() {
    for (mode, local, label) in [
        (BootMode::Bios, true, Label::Msdos),
        (BootMode::Bios, true, Label::Gpt),
        (BootMode::Uefi, true, Label::Gpt),
        (BootMode::Bios, false, Label::Msdos),
        (BootMode::Uefi, false, Label::Gpt),
    ] {
        let bench = Bench::new();
        let root = root_image(&bench, 40 * MIB);
        let disk = bench.disk(520 * MIB);
        let wanted = Wanted { root_mib: 60, swap_mib: 32, ephemeral_mib: 80, label, ..wanted(mode, local) };
        let job = bench.job(&root, Some(wanted), true);
        let written = bench.write(&disk, &job).await;
        let what = format!("{mode} local={local} {label:?}");

        let table: Value =
            serde_json::from_str(&run("sfdisk", &["--json", bench.path("disk").to_str().unwrap()])).unwrap();
        let table = &table["partitiontable"];
        let gpt = label == Label::Gpt;
        assert_eq!(table["label"], if gpt { "gpt" } else { "dos" }, "{what}");
        let parts: Vec<(u64, u64)> = table["partitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| (part["start"].as_u64().unwrap() * 512, part["size"].as_u64().unwrap() * 512))
            .collect();
        let esp = u64::from(mode == BootMode::Uefi && local) * 200;
        let bios = u64::from(mode == BootMode::Bios && gpt && local);
        let sizes: Vec<u64> = [esp, bios, 80, 32, 64, 60].into_iter().filter(|mib| *mib > 0).collect();
        let mut at = 1;
        for ((start, len), mib) in parts.iter().zip(&sizes) {
            assert_eq!((*start, *len), (at * MIB, mib * MIB), "{what}");
            at += mib;
        }
        assert_eq!(parts.len(), sizes.len(), "{what}");
        let active = table["partitions"].as_array().unwrap().last().unwrap()["bootable"] == Value::Bool(true);
        assert_eq!(active, !gpt && local, "{what}");
        if gpt {
            let verified = run("sfdisk", &["--verify", bench.path("disk").to_str().unwrap()]);
            assert!(verified.contains("No errors"), "{what}: {verified}");
        }

        let [.., ephemeral, swap, drive, root_at] = parts[..] else { panic!("{parts:?}") };
        assert_eq!(bench.blkid(ephemeral.0, ephemeral.1, "TYPE"), "ext4", "{what}");
        assert_eq!(bench.blkid(ephemeral.0, ephemeral.1, "LABEL"), "ephemeral0", "{what}");
        run("e2fsck", &["-f", "-n", bench.part(ephemeral.0, ephemeral.1).to_str().unwrap()]);
        assert_eq!(bench.blkid(swap.0, swap.1, "TYPE"), "swap", "{what}");
        assert_eq!(bench.blkid(swap.0, swap.1, "LABEL"), "swap1", "{what}");
        assert_eq!(bench.blkid(drive.0, drive.1, "LABEL").to_lowercase(), "config-2", "{what}");
        let image = std::fs::read(&root).unwrap();
        assert!(bench.read(root_at.0, image.len() as u64) == image, "{what}: the root is another");
        assert_eq!(Some(bench.blkid(root_at.0, root_at.1, "UUID")), written.root_uuid, "{what}");
        assert_eq!(written.esp_uuid.is_some(), esp > 0, "{what}");
        if esp > 0 {
            assert_eq!(bench.blkid(parts[0].0, parts[0].1, "LABEL"), "efi-part", "{what}");
            assert_eq!(Some(bench.blkid(parts[0].0, parts[0].1, "UUID")), written.esp_uuid, "{what}");
            run("fsck.fat", &["-n", bench.part(parts[0].0, parts[0].1).to_str().unwrap()]);
        }
    }
}

#[tokio::test]
async fn the_ephemeral_partition_is_preserved_or_nothing_is_written() {
    let bench = Bench::new();
    let root = bench.noise("root.img", 4 * MIB);
    let first = Wanted { root_mib: 8, swap_mib: 4, ephemeral_mib: 16, ..wanted(BootMode::Uefi, false) };
    let keep = Wanted { preserve_ephemeral: true, ..first.clone() };
    let disk = bench.disk(120 * MIB);
    let error =
        write::write(&disk, &bench.job(&root, Some(keep.clone()), false), None, &Journal::default()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("preserve_ephemeral") && error.contains("nothing was written"), "{error}");
    assert!(disk.log.lock().unwrap().is_empty(), "{error}");

    bench.write(&disk, &bench.job(&root, Some(first), false)).await;
    let (before, guid) = (bench.read(MIB, 16 * MIB), uuids(&bench)[0].clone());
    bench.write(&disk, &bench.job(&root, Some(keep), false)).await;
    assert!(bench.read(MIB, 16 * MIB) == before, "its content stays");
    assert_eq!(uuids(&bench)[0], guid, "its GUID stays");
}

fn uuids(bench: &Bench) -> Vec<String> {
    let table: Value =
        serde_json::from_str(&run("sfdisk", &["--json", bench.path("disk").to_str().unwrap()])).unwrap();
    let parts = table["partitiontable"]["partitions"].as_array().unwrap().clone();
    parts.iter().map(|part| part["uuid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_whole_disk_image_gets_its_config_drive_behind_and_its_second_table_at_the_end() {
    for label in ["gpt", "dos"] {
        let bench = Bench::new();
        let image = bench.noise("image", 24 * MIB);
        let table = format!(
            "printf 'label: {label}\\nsize=8M\\nsize=4M\\n' | /usr/sbin/sfdisk -q {}",
            image.display()
        );
        run("sh", &["-c", &table]);
        let disk = bench.disk(128 * MIB);
        let written = bench.write(&disk, &bench.job(&image, None, true)).await;
        let shown = run("sfdisk", &["--json", bench.path("disk").to_str().unwrap()]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let parts = shown["partitiontable"]["partitions"].as_array().unwrap();
        assert_eq!(parts.len(), 3, "{label}");
        let (start, size) =
            (parts[2]["start"].as_u64().unwrap() * 512, parts[2]["size"].as_u64().unwrap() * 512);
        assert_eq!(size, 64 * MIB, "{label}");
        assert_eq!(bench.blkid(start, size, "LABEL").to_lowercase(), "config-2", "{label}");
        let source = std::fs::read(&image).unwrap();
        let data = (MIB as usize)..(23 * MIB as usize);
        assert!(bench.read(MIB, 22 * MIB) == source[data], "{label}: the data is another");
        let id = u32::from_le_bytes(source[440..444].try_into().unwrap());
        assert_eq!(written.disk_id, Some(format!("0x{id:08x}")), "{label}");
        let verified = run("sfdisk", &["--verify", bench.path("disk").to_str().unwrap()]);
        assert!(verified.contains("No errors"), "{label}: {verified}");
    }
}

#[tokio::test]
async fn an_image_too_large_is_refused_before_anything_is_written() {
    let bench = Bench::new();
    let image = bench.noise("image", 24 * MIB);
    let disk = bench.disk(16 * MIB);
    let error = write::write(&disk, &bench.job(&image, None, false), None, &Journal::default()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("24 MiB") && error.contains("16 MiB"), "{error}");
    assert!(disk.log.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_config_drive_that_is_none_is_named_without_its_content() {
    let bench = Bench::new();
    let image = bench.noise("image", 4 * MIB);
    let small = Wanted { root_mib: 8, swap_mib: 0, ephemeral_mib: 0, ..wanted(BootMode::Bios, true) };
    for text in ["geheim!", "Z2VoZWlt"] {
        let disk = bench.disk(120 * MIB);
        let mut job = bench.job(&image, Some(small.clone()), false);
        job.drive = Some(super::super::drive::ConfigDrive::new(text));
        let error = write::write(&disk, &job, None, &Journal::default()).await.unwrap_err().to_string();
        assert!(error.contains("configdrive") && !error.contains(text), "{error}");
    }
}
