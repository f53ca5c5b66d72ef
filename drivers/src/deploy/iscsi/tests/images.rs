//! Reading images, and keeping them on this host.

use std::time::Duration;

use super::*;
use crate::deploy::iscsi::cache::{Cache, CacheSettings, Sum};
use crate::deploy::iscsi::source::Piece;
use crate::protocol::http;
use crate::testing::node;
use reqwest::Url;
use sha2::Digest;

/// The disk inside, from `from` on; pieces have to follow each other.
async fn inside(path: &Path, from: u64) -> Vec<u8> {
    let image = Arc::new(ImageFile::open(path, None).unwrap());
    let mut pieces = image.pieces(from);
    let mut all = Vec::new();
    while let Some(piece) = pieces.recv().await {
        let at = from + all.len() as u64;
        match piece.unwrap() {
            Piece::Data { at: place, bytes } => {
                assert_eq!(place, at);
                all.extend_from_slice(&bytes);
            }
            Piece::Hole { at: place, len } => {
                assert_eq!(place, at);
                all.resize(all.len() + len as usize, 0);
            }
        }
    }
    assert_eq!(from + all.len() as u64, image.size);
    all
}

#[tokio::test]
async fn qcow2_of_every_usual_kind_reads_as_the_disk_inside() {
    let bench = Bench::new();
    // no multiple of anything
    let raw = bench.noise("raw", 9 * MIB + 3 * 512);
    let content = std::fs::read(&raw).unwrap();
    assert!(inside(&raw, 0).await == content, "raw");
    for (name, options) in [
        ("plain", &["-o", "cluster_size=65536"][..]),
        ("old", &["-o", "compat=0.10"][..]),
        ("tiny", &["-o", "cluster_size=512"][..]),
        ("large", &["-o", "cluster_size=2M"][..]),
        ("packed", &["-c"][..]),
        ("zstd", &["-c", "-o", "compression_type=zstd"][..]),
        ("packed-large", &["-c", "-o", "cluster_size=2M"][..]),
    ] {
        let path = bench.path(name);
        let mut args = vec!["convert", "-f", "raw", "-O", "qcow2"];
        args.extend(options);
        args.extend([raw.to_str().unwrap(), path.to_str().unwrap()]);
        run("qemu-img", &args);
        assert!(inside(&path, 0).await == content, "{name}");
        assert!(inside(&path, 5 * MIB).await == content[5 * MIB as usize..], "{name} from its middle");
    }
}

#[test]
fn images_that_lead_to_other_files_or_are_none_are_refused() {
    let bench = Bench::new();
    let raw = bench.noise("raw", MIB);
    let (raw, over) = (raw.to_str().unwrap(), bench.path("over"));
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", over.to_str().unwrap()]);
    let external = format!("data_file={}", bench.path("data").display());
    let outside = bench.path("outside");
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &external, outside.to_str().unwrap(), "1M"]);
    let vmdk = bench.path("vmdk");
    run("qemu-img", &["convert", "-O", "vmdk", raw, vmdk.to_str().unwrap()]);
    std::fs::write(bench.path("empty"), "").unwrap();
    std::fs::write(bench.path("short"), b"QFI\xfb\0\0\0\x03").unwrap();
    for (name, word) in [
        ("over", "backing file"),
        ("outside", "external"),
        ("vmdk", "VMDK"),
        ("empty", "empty"),
        ("short", "header"),
    ] {
        let error = ImageFile::open(&bench.path(name), None).unwrap_err().to_string();
        assert!(error.contains(word), "{name}: {error}");
    }
    let error = ImageFile::open(Path::new(raw), Some("qcow2")).unwrap_err().to_string();
    assert!(error.contains("image_disk_format"), "{error}");
}

#[tokio::test]
async fn rubbish_in_the_tables_of_an_image_is_an_error_and_no_panic() {
    let bench = Bench::new();
    let raw = bench.noise("raw", 2 * MIB);
    let path = bench.path("q");
    run("qemu-img", &["convert", "-O", "qcow2", raw.to_str().unwrap(), path.to_str().unwrap()]);
    let good = std::fs::read(&path).unwrap();
    for seed in 0..200_u64 {
        let mut bad = good.clone();
        let dice = noise(24, seed + 1);
        for hit in dice.chunks(3) {
            // header, tables and a little more
            let at = (usize::from(hit[0]) << 8 | usize::from(hit[1])) * 5 % bad.len().min(5 * 65536);
            bad[at] = hit[2];
        }
        std::fs::write(&path, &bad).unwrap();
        let Ok(image) = ImageFile::open(&path, None) else { continue };
        if image.size > 1 << 34 {
            continue;
        }
        let mut pieces = Arc::new(image).pieces(0);
        while pieces.recv().await.is_some_and(|piece| piece.is_ok()) {}
    }
}

fn cache(bench: &Bench) -> Cache {
    // Err means that another test installed one
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = CacheSettings {
        masters: bench.path("masters"),
        images: bench.path("images"),
        most_bytes: 10 * MIB,
        ttl: Duration::from_secs(3600),
        allowed: vec![bench.path("own")],
    };
    Cache::new(settings, reqwest::Client::new())
}

fn sum(bytes: &[u8]) -> Sum {
    let value = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Sum { algorithm: "sha256".into(), value }
}

#[tokio::test]
async fn one_download_serves_all_nodes_and_nothing_half_is_ever_used() {
    let bench = Bench::new();
    let web = bench.path("web");
    std::fs::create_dir_all(&web).unwrap();
    let content = noise(3 << 20, 4);
    std::fs::write(web.join("disk.img"), &content).unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = http::start(&http::HttpSettings { listen, root: web.clone() }).await.unwrap();
    let url = |name: &str| Url::parse(&format!("http://{}/{name}", server.address())).unwrap();
    let cache = cache(&bench);
    let (mut one, mut two) = (node(), node());
    (one.uuid, two.uuid) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let (url, wrong, journal) = (url("disk.img"), sum(b"other"), Journal::default());

    let error = cache.provide(&one, &url, &wrong, &journal).await.unwrap_err().to_string();
    assert!(error.contains("sha256") && error.contains(&wrong.value), "{error}");
    assert!(!cache.place(one.uuid).exists());
    assert_eq!(std::fs::read_dir(bench.path("masters")).unwrap().count(), 0, "nothing half stays");

    let sum = sum(&content);
    let (first, second) = futures_util::future::join(
        cache.provide(&one, &url, &sum, &journal),
        cache.provide(&two, &url, &sum, &journal),
    )
    .await;
    first.unwrap();
    second.unwrap();
    use std::os::unix::fs::MetadataExt;
    let about = |node: &crate::interface::NodeView| std::fs::metadata(cache.place(node.uuid)).unwrap();
    assert_eq!(about(&one).ino(), about(&two).ino(), "fetched twice");
    assert!(std::fs::read(cache.place(one.uuid)).unwrap() == content);
    server.stop().await;
    // no server is needed any more
    cache.provide(&one, &url, &sum, &journal).await.unwrap();
    for _ in 0..2 {
        cache.forget(one.uuid).await.unwrap();
        cache.forget(two.uuid).await.unwrap();
    }
    assert!(!cache.place(one.uuid).exists());
    assert_eq!(std::fs::read_dir(bench.path("masters")).unwrap().count(), 1, "the master stays for the next");
}

#[tokio::test]
async fn a_local_image_comes_from_allowed_folders_and_is_verified_again_when_its_inode_size_or_time_changes()
{
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("own")).unwrap();
    let file = bench.path("own/disk.img");
    std::fs::write(&file, "image").unwrap();
    std::fs::write(bench.path("secret"), "secret").unwrap();
    let cache = cache(&bench);
    let url = Url::from_file_path(&file).unwrap();
    let (node, journal) = (node(), Journal::default());
    cache.provide(&node, &url, &sum(b"image"), &journal).await.unwrap();
    assert_eq!(std::fs::read(cache.place(node.uuid)).unwrap(), b"image");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let set_time =
        |time| std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    // from now on it is known: what it holds is not read again as long as its time stays; whoever changes it in place
    // and keeps the time (`cp -p`, `rsync -t --inplace`) is told so by docs/OPERATING.md
    set_time(old);
    cache.provide(&node, &url, &sum(b"image"), &journal).await.unwrap();
    std::fs::write(&file, "imagf").unwrap();
    set_time(old);
    cache.provide(&node, &url, &sum(b"image"), &journal).await.unwrap();
    let error = cache.provide(&node, &url, &sum(b"other"), &journal).await.unwrap_err().to_string();
    assert!(error.contains("sha256"), "verified against one sum is not verified against another: {error}");
    std::fs::write(&file, "changed").unwrap();
    for time in [std::time::SystemTime::now(), old + std::time::Duration::from_secs(1)] {
        set_time(time);
        let error = cache.provide(&node, &url, &sum(b"image"), &journal).await.unwrap_err().to_string();
        assert!(error.contains("sha256"), "{error}");
    }
    let secret = Url::from_file_path(bench.path("secret")).unwrap();
    let error = cache.check(&secret).unwrap_err().to_string();
    assert!(error.contains("file_url_allowed_paths"), "{error}");
}
