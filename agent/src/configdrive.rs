//! The config drive: from base64 or a URL to its partition. deploy.md §B.8.

use std::io::Read;
use std::os::unix::fs::FileExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use reqwest::Client;

use crate::console::say;
use crate::disk::Disk;
use crate::error::Failure;
use crate::image::fetch::Source;
use crate::options::Limits;
use crate::table::{self, CONFIG_BYTES, Span};

/// The file system inside `given`: base64 of gzip, or an http(s) URL of that, of gzip, or of the file system itself.
/// Errors: `ConfigDrive` for what is none of these or larger than 64 MiB; those of downloads.
pub async fn load(client: &Client, given: &str, limits: &Limits) -> Result<Vec<u8>, Failure> {
    let given = given.trim();
    if !given.starts_with("http://") && !given.starts_with("https://") {
        return unpack(given.as_bytes(), false);
    }
    let source = Source::new(client.clone(), given, limits.clone())?;
    // base64 is a third larger than what it holds
    let bytes = source.read_small(CONFIG_BYTES * 3 / 2).await?;
    unpack(&bytes, true)
}

fn unpack(bytes: &[u8], plain_allowed: bool) -> Result<Vec<u8>, Failure> {
    let bad = |reason: String| Failure::ConfigDrive(reason);
    let gzipped = |bytes: &[u8]| bytes.starts_with(&[0x1f, 0x8b]);
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let decoded = if gzipped(bytes) {
        bytes.to_vec()
    } else {
        match STANDARD.decode(&text) {
            Ok(decoded) if gzipped(&decoded) => decoded,
            _ if plain_allowed && !bytes.is_empty() => return sized(bytes.to_vec()),
            Ok(_) => return Err(bad("it is base64, but not of gzip".to_owned())),
            Err(error) => return Err(bad(format!("it is not base64: {error}"))),
        }
    };
    let mut content = Vec::new();
    MultiGzDecoder::new(decoded.as_slice())
        .take(CONFIG_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(|error| bad(format!("its gzip stream is broken: {error}")))?;
    sized(content)
}

fn sized(content: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if content.is_empty() {
        return Err(Failure::ConfigDrive("it is empty".to_owned()));
    }
    if content.len() as u64 > CONFIG_BYTES {
        return Err(Failure::ConfigDrive(format!("it is larger than {CONFIG_BYTES} bytes")));
    }
    Ok(content)
}

/// Puts the file system into the disk's config drive partition, made if there is none. The rest of the partition is
/// zeroed so that nothing of an older one shows. Blocks.
pub fn write(disk: &Disk, content: &[u8]) -> Result<(), Failure> {
    write_at(disk, table::config_span(disk)?, content)
}

/// As [`write`], into a partition that is known already. Blocks.
pub fn write_at(disk: &Disk, span: Span, content: &[u8]) -> Result<(), Failure> {
    let len = content.len() as u64;
    if len > span.len {
        let reason = format!("it has {len} bytes, its partition {} bytes", span.len);
        return Err(Failure::ConfigDrive(reason));
    }
    if span.at + span.len > disk.size {
        return Err(Failure::ConfigDrive("its partition reaches beyond the end of the disk".to_owned()));
    }
    let file = table::open(disk)?;
    let failed = || Failure::io(format!("writing the config drive to {}", disk.name()));
    file.write_all_at(content, span.at).map_err(failed())?;
    let zeros = vec![0; (1 << 20).min(span.len - len) as usize];
    file.write_all_at(&zeros, span.at + len).map_err(failed())?;
    file.sync_all().map_err(failed())?;
    say(format!("configdrive written at={} bytes={len}", span.at));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_config_drive_is_unpacked_from_every_shape_and_rubbish_refused() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"file system").expect("in memory");
        let gzip = gzip.finish().expect("in memory");
        let text = STANDARD.encode(&gzip);
        let folded = format!("{}\n{}\n", &text[..8], &text[8..]);
        for given in [text.as_bytes(), folded.as_bytes(), &gzip] {
            assert_eq!(unpack(given, false).expect("unpacks"), b"file system");
        }
        assert_eq!(unpack(b"\0plain", true).expect("plain"), b"\0plain");
        assert!(unpack(b"\0plain", false).is_err());
        assert!(unpack(STANDARD.encode("no gzip").as_bytes(), false).is_err());
        assert!(unpack(b"", true).is_err());
    }
}
