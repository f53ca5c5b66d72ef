//! A config drive out of the JSON object of `PUT states/provision` (deploy.md §B.8).

use std::io::{Cursor, Write};

use base64::Engine;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::DriverError;
use crate::interface::{Json, Result};

/// Most that the parts may hold together. They lie in the image twice, and an agent's partition for it has 64 MiB.
const MOST_BYTES: usize = 24 * 1024 * 1024;

/// Smallest image; FAT12 with room for what a config drive usually holds.
const LEAST_BYTES: usize = 1024 * 1024;

/// Builds the image: a file system labelled `config-2` with `openstack/latest/…`, gzipped, base64. VFAT instead of
/// Ironic's ISO 9660 (both are what cloud-init looks for), because a well-kept writer exists for it.
///
/// `parts` has `meta_data` (object or JSON text), `user_data` (text, or an object that is written as JSON),
/// `network_data`, `vendor_data`. Blocks, for a second or so where the parts are large: call it where that may be.
/// Errors: `Invalid` naming the part, or the size when the parts are larger than 24 MiB together; `Io` when the image cannot be built.
pub fn build(node: Uuid, name: Option<&str>, parts: &Json) -> Result<String> {
    for key in parts.keys() {
        if !["meta_data", "network_data", "user_data", "vendor_data"].contains(&key.as_str()) {
            return Err(invalid(key, "not one of meta_data, network_data, user_data, vendor_data"));
        }
    }
    let mut meta = match parts.get("meta_data") {
        None | Some(Value::Null) => Json::new(),
        Some(Value::Object(map)) => map.clone(),
        Some(Value::String(text)) => {
            serde_json::from_str(text).map_err(|_| invalid("meta_data", "not a JSON object"))?
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
            return Err(invalid("meta_data", "not an object"));
        }
    };
    meta.entry("uuid").or_insert_with(|| json!(node));
    meta.entry("name").or_insert_with(|| json!(name.map_or_else(|| node.to_string(), str::to_owned)));
    let mut files = vec![("meta_data.json", Value::Object(meta).to_string().into_bytes())];
    for (key, file) in [
        ("user_data", "user_data"),
        ("network_data", "network_data.json"),
        ("vendor_data", "vendor_data2.json"),
    ] {
        match parts.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => files.push((file, text.clone().into_bytes())),
            Some(other) => files.push((file, other.to_string().into_bytes())),
        }
    }
    let bytes: usize = files.iter().map(|(_, data)| data.len()).sum();
    if bytes > MOST_BYTES {
        return Err(invalid(
            "size",
            &format!(
                "its parts have {bytes} bytes together, and {MOST_BYTES} is the most; give the URL of a larger one"
            ),
        ));
    }
    let image = file_system(&files).map_err(|error| DriverError::Io {
        path: "config drive".into(),
        reason: format!("cannot be built: {error}"),
    })?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let packed = gzip.write_all(&image).and_then(|()| gzip.finish()).map_err(|error| DriverError::Io {
        path: "config drive".into(),
        reason: format!("cannot be compressed: {error}"),
    })?;
    Ok(base64::engine::general_purpose::STANDARD.encode(packed))
}

fn invalid(key: &str, reason: &str) -> DriverError {
    DriverError::Invalid { section: "configdrive", key: key.to_owned(), reason: reason.to_owned() }
}

fn file_system(files: &[(&str, Vec<u8>)]) -> std::io::Result<Vec<u8>> {
    // every file lies there twice, under the date that old readers ask for too
    let content: usize = files.iter().map(|(_, data)| 2 * data.len()).sum();
    let size = (LEAST_BYTES + content + content / 4).next_multiple_of(LEAST_BYTES);
    let mut image = vec![0; size];
    {
        let mut cursor = Cursor::new(&mut image[..]);
        let options = fatfs::FormatVolumeOptions::new().volume_label(*b"config-2   ");
        fatfs::format_volume(&mut cursor, options)?;
        let volume = fatfs::FileSystem::new(cursor, fatfs::FsOptions::new())?;
        let top = volume.root_dir().create_dir("openstack")?;
        for version in ["latest", "2012-08-10"] {
            let folder = top.create_dir(version)?;
            for (name, data) in files {
                folder.create_file(name)?.write_all(data)?;
            }
        }
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn read_back(text: &str, path: &str) -> String {
        let packed = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
        let mut image = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut image).expect("gzip");
        let volume = fatfs::FileSystem::new(Cursor::new(image), fatfs::FsOptions::new()).expect("FAT");
        assert_eq!(volume.volume_label(), "config-2");
        let mut out = String::new();
        volume.root_dir().open_file(path).expect("file").read_to_string(&mut out).expect("text");
        out
    }

    #[test]
    fn object_becomes_a_readable_drive_with_uuid_and_name_filled_in() {
        let node = Uuid::new_v4();
        let parts: Json = serde_json::from_value(json!({
            "meta_data": {"hostname": "web-1"}, "user_data": "#cloud-config\n", "network_data": {"links": []}
        }))
        .expect("object");
        let text = build(node, Some("n1"), &parts).expect("built");
        let meta: Value =
            serde_json::from_str(&read_back(&text, "openstack/latest/meta_data.json")).expect("JSON");
        assert_eq!(meta["hostname"], "web-1");
        assert_eq!(meta["uuid"], json!(node));
        assert_eq!(meta["name"], "n1");
        assert_eq!(read_back(&text, "openstack/2012-08-10/user_data"), "#cloud-config\n");
        assert_eq!(read_back(&text, "openstack/latest/network_data.json"), r#"{"links":[]}"#);
    }

    #[test]
    fn parts_that_would_not_fit_the_partition_are_refused_with_their_size() {
        let fits = "x".repeat(MOST_BYTES - 1024);
        let parts = |text: String| Json::from_iter([("user_data".to_owned(), json!(text))]);
        let text = build(Uuid::new_v4(), None, &parts(fits)).expect("built");
        assert!(text.len() < 1 << 20, "it is compressed");
        let error = build(Uuid::new_v4(), None, &parts("x".repeat(MOST_BYTES + 1))).expect_err("refused");
        assert!(error.to_string().contains("configdrive/size"), "{error}");
    }

    #[test]
    fn unknown_part_is_named() {
        let parts: Json = serde_json::from_value(json!({"metadata": {}})).expect("object");
        let error = build(Uuid::new_v4(), None, &parts).expect_err("refused");
        assert!(error.to_string().contains("configdrive/metadata"), "{error}");
    }
}
