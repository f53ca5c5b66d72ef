//! Writing images: every format byte for byte, and everything that may go wrong on the way.

mod rig;

use std::sync::atomic::Ordering;
use std::time::Duration;

use ferric_agent::image::fetch::{Download, Source};
use ferric_agent::options::Limits;
use ferric_agent_wire::{Command, CommandStatus};
use rig::*;
use serde_json::{Value, json};

fn details(command: &Command) -> &str {
    assert_eq!(command.command_status, CommandStatus::Failed, "{command:?}");
    &command.command_error.as_ref().expect("an error").details
}

async fn written(format: &str, file: Vec<u8>, raw: &[u8], change: impl FnOnce(&mut Served)) -> Rig {
    let rig = Rig::start().await;
    let mut served = Served::new(file.clone());
    change(&mut served);
    rig.world.serve_image("image", served);
    let done = rig.write(info(&rig.image_url("image"), &file, format), Value::Null).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded, "{:?}", done.command_error);
    assert_same(&rig.disk("vda"), raw);
    let table = run("sgdisk", &["-v"], &rig.disk("vda"));
    assert!(table.contains("No problems found"), "{table}");
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_gzip_and_zstd_images_arrive_byte_for_byte() {
    let raw = raw_image(9);
    written("raw", raw.clone(), &raw, |_| ()).await;
    written("raw", converted(&raw, "gzip", &["-1c"]), &raw, |_| ()).await;
    written("raw", converted(&raw, "zstd", &["-qc"]), &raw, |_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_sized_image_arrives_whole() {
    let mut raw = raw_image(5);
    raw.truncate((5 << 20) - 33 * 512 - 1024 - 7);
    raw.extend([0; 7 + 1024 + 33 * 512 + 100]);
    written("raw", raw.clone(), &raw, |_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_qcow2_arrives_byte_for_byte_in_one_pass() {
    let raw = raw_image(9);
    for options in [
        &["-O", "qcow2"][..],
        &["-O", "qcow2", "-c"],
        &["-O", "qcow2", "-c", "-o", "compression_type=zstd"],
        &["-O", "qcow2", "-o", "compat=0.10"],
        &["-O", "qcow2", "-o", "cluster_size=2M"],
        &["-O", "qcow2", "-c", "-o", "cluster_size=4k"],
    ] {
        let arguments = [&["convert", "-f", "raw"], options].concat();
        let file = converted(&raw, "qemu-img", &arguments);
        let size = file.len() as u64;
        let rig = written("qcow2", file, &raw, |_| ()).await;
        let asked = rig.world.asked_for("image");
        assert_eq!(asked.iter().filter(|a| a.start == 0).count(), 1, "{options:?}: {asked:?}");
        let sent: u64 = asked.iter().map(|a| a.sent.load(Ordering::SeqCst)).sum();
        assert!(sent < size * 2 + (4 << 20), "{options:?}: {sent} of {size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_broken_again_and_again_never_starts_at_byte_0() {
    let raw = raw_image(9);
    let breaks = vec![300_000, 1, 65_536, 1_000_003, 12_345, 700_001, 2_000_000, 5];
    let gzip = converted(&raw, "gzip", &["-1c"]);
    let qcow2 = converted(&raw, "qemu-img", &["convert", "-f", "raw", "-O", "qcow2"]);
    for (format, file) in [("raw", raw.clone()), ("raw", gzip), ("qcow2", qcow2)] {
        let size = file.len() as u64;
        let rig = written(format, file, &raw, |served| {
            served.breaks = breaks.clone();
            served.down = 1;
        })
        .await;
        let asked = rig.world.asked_for("image");
        assert!(asked.len() > breaks.len(), "{asked:?}");
        assert_eq!(asked.iter().filter(|a| a.start == 0).count(), 1, "{asked:?}");
        // metadata of qcow2 is read by closed ranges besides
        let stream: Vec<_> = asked.iter().filter(|a| a.end.is_none()).collect();
        assert!(stream.is_sorted_by_key(|a| a.start));
        let sent: u64 = stream.iter().map(|a| a.sent.load(Ordering::SeqCst)).sum();
        assert!(sent >= size && sent <= size + breaks.len() as u64 * (1 << 20), "{sent} of {size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_download_insists_on_the_same_file_and_another_one_never_passes() {
    let rig = Rig::start().await;
    let raw = raw_image(9);
    let gzip = converted(&raw, "gzip", &["-1c"]);
    rig.world.serve_image("same", Served { breaks: vec![100_000, 50_000], ..Served::new(gzip.clone()) });
    let done = rig.write(info(&rig.image_url("same"), &gzip, "raw"), Value::Null).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded, "{:?}", done.command_error);
    let asked = rig.world.asked_for("same");
    assert_eq!(asked[0].if_range, None);
    assert!(asked[1..].iter().all(|a| a.start > 0 && a.if_range.as_deref() == Some("\"one\"")), "{asked:?}");
    // a server that gives no sign of the change: only the hash can tell, and it does
    let mut other = raw.clone();
    other[6 << 20] ^= 1;
    for (name, no_ranges) in [("ranges", false), ("none", true)] {
        let later = Some(std::sync::Arc::new(other.clone()));
        let served = Served { no_tag: true, no_ranges, later, ..Served::new(raw.clone()) };
        rig.world.serve_image(name, Served { breaks: vec![5_000_000], ..served });
        let done = rig.write(info(&rig.image_url(name), &raw, "raw"), Value::Null).await;
        assert_eq!(done.command_status, CommandStatus::Failed, "{name}");
        assert_eq!(done.command_error.expect("error").kind, "ImageChecksumError", "{name}");
        assert!(read_at(&rig.disk("vda"), 0, 1 << 20).iter().all(|&byte| byte == 0), "{name}");
        assert_eq!(rig.world.asked_for(name).len(), 2, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_is_read_again_without_writing_again() {
    let raw = raw_image(9);
    let qcow2 = converted(&raw, "qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "-c"]);
    for (format, file) in [("raw", raw.clone()), ("qcow2", qcow2)] {
        written(format, file, &raw, |served| {
            served.no_ranges = true;
            served.breaks = vec![100_000, 3_000_000];
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_checksum_names_both_and_leaves_nothing_bootable() {
    let rig = Rig::start().await;
    let raw = raw_image(9);
    for (name, format, file) in [
        ("raw", "raw", raw.clone()),
        ("qcow2", "qcow2", converted(&raw, "qemu-img", &["convert", "-f", "raw", "-O", "qcow2"])),
    ] {
        rig.world.serve_image(name, Served::new(file.clone()));
        let mut image = info(&rig.image_url(name), &file, format);
        image["os_hash_value"] = "ab".repeat(32).into();
        let done = rig.write(image, Value::Null).await;
        let text = details(&done).to_owned();
        assert!(text.contains(&"ab".repeat(32)) && text.contains(&sha256(&file)), "{text}");
        assert_eq!(done.command_error.expect("error").kind, "ImageChecksumError");
        let disk = rig.disk("vda");
        assert!(read_at(&disk, 0, 1 << 20).iter().all(|&byte| byte == 0), "{name}");
        assert!(read_at(&disk, 4 * GIB - (1 << 20), 1 << 20).iter().all(|&byte| byte == 0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn md5_sha512_and_a_checksum_file_are_accepted_and_no_hash_at_all_is_refused() {
    let rig = Rig::start().await;
    let raw = raw_image(5);
    rig.world.serve_image("disk.img", Served::new(raw.clone()));
    rig.world.serve_image("SUMS", Served::new(format!("{}  disk.img\n", sha256(&raw)).into_bytes()));
    let url = rig.image_url("disk.img");
    let hashed = |tool| {
        let text = String::from_utf8(converted(&raw, tool, &[])).expect("text");
        text.split_whitespace().next().expect("hash").to_owned()
    };
    for image in [
        json!({"urls": [url], "os_hash_algo": "md5", "os_hash_value": hashed("md5sum")}),
        json!({"urls": [url], "checksum": hashed("sha512sum")}),
        json!({"urls": [url], "checksum": rig.image_url("SUMS")}),
    ] {
        let done = rig.write(image, Value::Null).await;
        assert_eq!(done.command_status, CommandStatus::Succeeded, "{:?}", done.command_error);
    }
    let done = rig.write(json!({"urls": [url]}), Value::Null).await;
    assert!(details(&done).contains("os_hash_value"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_larger_than_the_disk_is_refused_with_both_sizes() {
    let machine = Machine::new();
    machine.add_disk("vdb", 6 << 20);
    let rig = Rig::with(machine, |_, world| {
        *world.properties.lock().expect("lock") = json!({"root_device": {"name": "/dev/vdb"}});
    })
    .await;
    let raw = raw_image(9);
    for (name, format, file, exact) in [
        ("raw", "raw", raw.clone(), true),
        ("qcow2", "qcow2", converted(&raw, "qemu-img", &["convert", "-f", "raw", "-O", "qcow2"]), true),
        ("zst", "raw", converted(&raw, "zstd", &["-qc"]), true),
        ("gz", "raw", converted(&raw, "gzip", &["-1c"]), false),
    ] {
        rig.world.serve_image(name, Served::new(file.clone()));
        let client = rig.client().await;
        let args = json!({"image_info": info(&rig.image_url(name), &file, format), "configdrive": null});
        let (_, done) = client.command("standby.prepare_image", args, true).await;
        let text = details(&done);
        assert!(text.contains(&(6 << 20).to_string()), "{name}: {text}");
        let before_writing = read_at(&rig.disk("vdb"), 0, 512) == [0xaa; 512];
        if exact {
            assert!(text.contains(&raw.len().to_string()) && before_writing, "{name}: {text}");
        } else {
            assert!(text.contains("at least") && !before_writing, "{name}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_404_a_dead_server_and_a_changed_image_fail_with_the_reason() {
    let rig = Rig::start().await;
    let raw = raw_image(5);
    let done =
        rig.write(info(&format!("{}?sig=s3cret", rig.image_url("none")), &raw, "raw"), Value::Null).await;
    let text = details(&done).to_owned();
    assert!(text.contains("404") && text.contains("/images/none") && !text.contains("s3cret"), "{text}");
    assert_eq!(read_at(&rig.disk("vda"), 0, 16), [0xaa; 16], "nothing was touched");

    rig.world.serve_image("new", Served { changes: true, breaks: vec![500_000], ..Served::new(raw.clone()) });
    let done = rig.write(info(&rig.image_url("new"), &raw, "raw"), Value::Null).await;
    assert!(details(&done).contains("changed"), "{}", details(&done));
    assert_eq!(read_at(&rig.disk("vda"), 0, 16), [0; 16], "half an image does not boot");

    let machine = Machine::new();
    machine.add_disk("vda", 4 * GIB);
    let rig =
        Rig::with(machine, |options, _| options.limits.first_contact = Duration::from_millis(200)).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    let done = rig.write(info(&format!("http://{closed}/x"), &raw, "raw"), Value::Null).await;
    assert!(details(&done).contains("giving up"), "{}", details(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_away_too_long_ends_the_write() {
    let machine = Machine::new();
    machine.add_disk("vda", 4 * GIB);
    let rig = Rig::with(machine, |options, _| options.limits.stalled = Duration::from_millis(300)).await;
    let raw = raw_image(5);
    rig.world
        .serve_image("image", Served { breaks: vec![200_000; 1], down: 100_000, ..Served::new(raw.clone()) });
    let done = rig.write(info(&rig.image_url("image"), &raw, "raw"), Value::Null).await;
    assert!(details(&done).contains("at byte 200000"), "{}", details(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_does_not_count_as_a_silent_server() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (world, address) = conductor().await;
    for no_ranges in [false, true] {
        let raw = raw_image(5);
        world.serve_image(
            &no_ranges.to_string(),
            Served { breaks: vec![1000], no_ranges, ..Served::new(raw.clone()) },
        );
        let stalled = Duration::from_secs(1);
        let limits = Limits { stalled, back_off: Duration::from_millis(1), ..Limits::default() };
        let url = format!("http://{address}/images/{no_ranges}");
        let source = Source::new(reqwest::Client::new(), &url, limits).expect("a source");
        let mut download = Download::new(source, 0, None);
        let mut seen = Vec::new();
        while let Some(chunk) = download.chunk().await.expect("the server is there all the time") {
            seen.extend_from_slice(&chunk);
            if seen.len() == 1000 {
                // a disk that takes longer for what it has than a server may be silent; then the connection is broken
                tokio::time::sleep(stalled + Duration::from_millis(100)).await;
            }
        }
        assert!(seen == raw, "{} bytes", seen.len());
        assert_eq!(world.asked_for(&no_ranges.to_string()).len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_could_reach_beyond_themselves_or_lie_about_their_kind_are_refused() {
    let rig = Rig::start().await;
    let raw = raw_image(5);
    let folder = tempfile::tempdir().expect("temp dir");
    std::fs::write(folder.path().join("base"), &raw).expect("written");
    let backed = folder.path().join("backed");
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base"], &backed);
    let backed = std::fs::read(backed).expect("read");
    let qcow2 = converted(&raw, "qemu-img", &["convert", "-f", "raw", "-O", "qcow2"]);
    let luks = converted(&raw, "qemu-img", &["convert", "-f", "raw", "-O", "vmdk"]);
    let wrapped = converted(&qcow2, "gzip", &["-1c"]);
    let mut cut = converted(&raw, "gzip", &["-1c"]);
    cut.truncate(cut.len() - 5);
    for (name, format, file, word) in [
        ("backed", "qcow2", backed, "backing file"),
        ("posing", "raw", qcow2.clone(), "declared as raw, but the file is qcow2"),
        ("lying", "qcow2", raw.clone(), "declared as qcow2, but the file is raw"),
        ("vmdk", "vmdk", luks, "vmdk is not supported"),
        ("wrapped", "raw", wrapped, "compressed qcow2"),
        ("cut", "raw", cut, "stream is broken"),
    ] {
        rig.world.serve_image(name, Served::new(file.clone()));
        let done = rig.write(info(&rig.image_url(name), &file, format), Value::Null).await;
        assert!(details(&done).contains(word), "{name}: {}", details(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_image_is_not_written_twice_but_another_is() {
    let rig = Rig::start().await;
    let (one, other) = (raw_image(5), raw_image(6));
    rig.world.serve_image("one", Served::new(one.clone()));
    rig.world.serve_image("other", Served::new(other.clone()));
    for _ in 0..2 {
        let done = rig.write(info(&rig.image_url("one"), &one, "raw"), Value::Null).await;
        assert_eq!(done.command_status, CommandStatus::Succeeded);
    }
    assert_eq!(rig.world.asked_for("one").len(), 1);
    let done = rig.write(info(&rig.image_url("other"), &other, "raw"), Value::Null).await;
    assert_eq!(done.command_status, CommandStatus::Succeeded);
    assert_same(&rig.disk("vda"), &other);
}

#[tokio::test]
async fn hints_that_fit_no_disk_fail_with_what_was_seen() {
    let rig = Rig::start().await;
    let mut step = write_step(info(&rig.image_url("x"), b"x", "raw"), Value::Null);
    step["node"]["properties"] = json!({"root_device": {"serial": "s== gone"}});
    let client = rig.client().await;
    let (_, done) = client.command("deploy.execute_deploy_step", step, true).await;
    let text = details(&done);
    assert!(text.contains("serial-vda") && text.contains("s== gone"), "{text}");
}
