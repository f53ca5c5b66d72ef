//! From `instance_info` to the `image_info` that the agent gets (deploy.md §B.5, §B.7).

use std::time::Duration;

use ferric_agent_wire::ImageInfo;
use reqwest::{StatusCode, Url, header};

use super::served::Served;
use crate::error::DriverError;
use crate::interface::{NodeView, Result};

/// How long an image server may take to say that it has the image.
const PROBE: Duration = Duration::from_secs(20);

/// A checksum file is a few lines.
const LONGEST_SUMS: usize = 1 << 20;

/// The URL of `instance_info.image_source`.
pub(crate) fn source(node: &NodeView) -> Result<Url> {
    let text = node.instance_str("image_source").ok_or_else(|| DriverError::MissingParameter {
        reason: format!(
            "Node {} failed to validate deploy image info. Some parameters were missing. Missing are: \
             ['instance_info.image_source']",
            node.uuid
        ),
    })?;
    let url = Url::parse(text).map_err(|error| {
        invalid(
            "image_source",
            format!("{error}; give an http:// or https:// URL (Glance ids are not supported)"),
        )
    })?;
    match url.scheme() {
        "http" | "https" | "file" => Ok(url),
        other => Err(invalid(
            "image_source",
            format!("scheme '{other}' is not supported; use http, https or file"),
        )),
    }
}

/// The checksum as instance_info declares it, not yet fetched.
pub(crate) enum Checksum {
    /// Algorithm and lower-case hex digits.
    Value(String, String),
    /// Where a checksum file lies.
    File(Url),
}

fn no_checksum(node: &NodeView) -> DriverError {
    DriverError::MissingParameter {
        reason: format!(
            "image_source's \"image_checksum\", or \"image_os_hash_algo\" and \"image_os_hash_value\" must be \
             provided in instance_info for node {}",
            node.uuid
        ),
    }
}

/// Reads `image_os_hash_algo`/`_value`, else `image_checksum`.
pub(crate) fn checksum(node: &NodeView) -> Result<Checksum> {
    if let Some(value) = node.instance_str("image_os_hash_value") {
        let algorithm = node.instance_str("image_os_hash_algo").ok_or_else(|| no_checksum(node))?;
        return value_of("image_os_hash_value", algorithm, value);
    }
    let text = node.instance_str("image_checksum").ok_or_else(|| no_checksum(node))?;
    if text.contains("://") {
        return Url::parse(text)
            .map(Checksum::File)
            .map_err(|error| invalid("image_checksum", error.to_string()));
    }
    match text.split_once(':') {
        Some((algorithm, value)) => value_of("image_checksum", algorithm, value),
        None => value_of("image_checksum", guess("image_checksum", text)?, text),
    }
}

fn guess(key: &str, value: &str) -> Result<&'static str> {
    match value.trim().len() {
        32 => Ok("md5"),
        64 => Ok("sha256"),
        128 => Ok("sha512"),
        other => Err(invalid(
            key,
            format!("{other} characters are neither md5 (32), sha256 (64) nor sha512 (128)"),
        )),
    }
}

fn value_of(key: &str, algorithm: &str, value: &str) -> Result<Checksum> {
    let (algorithm, value) = (algorithm.trim().to_lowercase(), value.trim().to_lowercase());
    let digits = match algorithm.as_str() {
        "md5" => 32,
        "sha256" => 64,
        "sha512" => 128,
        other => {
            return Err(invalid(
                key,
                format!("algorithm '{other}' is not supported; use sha256, sha512 or md5"),
            ));
        }
    };
    if value.len() != digits || !value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(invalid(key, format!("a {algorithm} has {digits} hexadecimal digits")));
    }
    Ok(Checksum::Value(algorithm, value))
}

/// Checks a `file://` image without touching it; others pass.
pub(crate) fn check_place(url: &Url, served: Option<&Served>) -> Result<()> {
    match (url.scheme(), served) {
        ("file", Some(served)) => served.check(url).map(|_| ()),
        ("file", None) => Err(invalid(
            "image_source",
            "file:// images are not served by this conductor; use http or https".into(),
        )),
        (_, _) => Ok(()),
    }
}

/// Makes sure that the image is there, fetches a checksum file if one is named, and gives what the agent needs.
pub(crate) async fn resolve(
    http: &reqwest::Client,
    served: Option<&Served>,
    node: &NodeView,
    boot_mode: &str,
) -> Result<ImageInfo> {
    let url = source(node)?;
    check_place(&url, served)?;
    let from = match served.filter(|_| url.scheme() == "file") {
        Some(served) => served.serve(node.uuid, &url).await?,
        None => {
            probe(http, &url).await?;
            url.clone()
        }
    };
    let (algorithm, value) = match checksum(node)? {
        Checksum::Value(algorithm, value) => (algorithm, value),
        Checksum::File(file) => fetch(http, &file, &url).await?,
    };
    let md5 = algorithm == "md5";
    let id = url.path_segments().and_then(|mut all| all.next_back()).filter(|name| !name.is_empty());
    Ok(ImageInfo {
        id: id.unwrap_or("image").to_owned(),
        urls: vec![from.to_string()],
        disk_format: node.instance_str("image_disk_format").map(str::to_owned),
        container_format: Some(node.instance_str("image_container_format").unwrap_or("bare").to_owned()),
        stream_raw_images: Some(true),
        checksum: md5.then(|| value.clone()),
        os_hash_algo: (!md5).then_some(algorithm),
        os_hash_value: (!md5).then_some(value),
        node_uuid: Some(node.uuid.to_string()),
        image_type: Some("whole-disk-image".into()),
        deploy_boot_mode: Some(boot_mode.to_owned()),
        boot_option: Some("local".into()),
        disk_label: Some("gpt".into()),
        ..ImageInfo::default()
    })
}

/// Whether the server has it. Errors: `Image`.
pub(super) async fn probe(http: &reqwest::Client, url: &Url) -> Result<()> {
    let head =
        http.head(url.clone()).timeout(PROBE).send().await.map_err(|error| unreachable_(url, &error))?;
    let status = match head.status() {
        // servers that know no HEAD: one byte tells as much
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED | StatusCode::FORBIDDEN => {
            let request = http.get(url.clone()).header(header::RANGE, "bytes=0-0").timeout(PROBE);
            request.send().await.map_err(|error| unreachable_(url, &error))?.status()
        }
        other => other,
    };
    if status.is_success() {
        return Ok(());
    }
    Err(DriverError::Image {
        image: shown(url),
        reason: format!(
            "the server answers {status}; correct instance_info/image_source or put the file there"
        ),
    })
}

/// Algorithm and value of `image` in the checksum file `file`. Errors: `Image`.
pub(super) async fn fetch(http: &reqwest::Client, file: &Url, image: &Url) -> Result<(String, String)> {
    let mut answer =
        http.get(file.clone()).timeout(PROBE).send().await.map_err(|error| unreachable_(file, &error))?;
    if !answer.status().is_success() {
        return Err(DriverError::Image {
            image: shown(file),
            reason: format!("the server answers {} for this checksum file", answer.status()),
        });
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| unreachable_(file, &error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST_SUMS {
            return Err(DriverError::Image {
                image: shown(file),
                reason:
                    "is longer than 1 MiB and so no checksum file; is image_checksum the image's own URL?"
                        .into(),
            });
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let name = image.path_segments().and_then(|mut all| all.next_back()).unwrap_or_default();
    let value = find_in_file(&text, name).ok_or_else(|| DriverError::Image {
        image: shown(file),
        reason: format!("has no line for '{name}'; add one or set image_checksum to the value itself"),
    })?;
    Ok((guess("image_checksum", &value)?.to_owned(), value))
}

/// A checksum file is one bare value, or lines `value  name`, `value *name`, `ALGO (name) = value`.
fn find_in_file(text: &str, name: &str) -> Option<String> {
    let is_value =
        |word: &str| [32, 64, 128].contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if let [only] = lines[..]
        && is_value(only)
    {
        return Some(only.to_lowercase());
    }
    lines.iter().find_map(|line| {
        if let Some((before, value)) = line.rsplit_once('=') {
            let file = before.split_once('(')?.1.rsplit_once(')')?.0;
            return (file == name && is_value(value.trim())).then(|| value.trim().to_lowercase());
        }
        let (value, file) = line.split_once(char::is_whitespace)?;
        let file = file.trim().trim_start_matches('*').trim_start_matches("./");
        (file == name && is_value(value)).then(|| value.to_lowercase())
    })
}

fn invalid(key: &str, reason: String) -> DriverError {
    DriverError::Invalid { section: "instance_info", key: key.to_owned(), reason }
}

fn unreachable_(url: &Url, error: &reqwest::Error) -> DriverError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    DriverError::Image {
        image: shown(url),
        reason: format!("its server cannot be reached ({cause}); check the URL and that the server runs"),
    }
}

/// The URL without user, password and query: what may be shown.
pub(super) fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), host(url), url.path())
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_files_of_every_usual_shape_are_read() {
        let sum = "a".repeat(64);
        for text in [
            sum.clone(),
            format!("{sum}  disk.img\n"),
            format!("{} *other.img\n{sum} *disk.img", "b".repeat(64)),
            format!("SHA256 (disk.img) = {sum}"),
        ] {
            assert_eq!(find_in_file(&text, "disk.img"), Some(sum.clone()), "{text}");
        }
        assert_eq!(find_in_file(&format!("{sum}  else.img\n{sum}  more.img"), "disk.img"), None);
    }

    #[test]
    fn credentials_and_signatures_of_a_url_are_not_shown() {
        let url = Url::parse("https://user:pw@img.example:8443/a/b.qcow2?temp_url_sig=x").expect("URL");
        assert_eq!(shown(&url), "https://img.example:8443/a/b.qcow2");
    }
}
