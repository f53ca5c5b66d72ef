//! The config drive: base64 of a gzipped file system (deploy.md §B.8), unpacked while it is written.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use base64::engine::general_purpose::STANDARD;
use base64::read::DecoderReader;
use flate2::read::GzDecoder;
use reqwest::Url;
use tokio::sync::mpsc;

use super::source::{CHUNK, Piece, piece};
use crate::error::DriverError;
use crate::interface::{NodeView, Result};

/// Most that a config drive may have as it is given: 64 MiB that do not compress, in base64, would not be one.
const LONGEST: usize = 32 << 20;

/// How long a server may take to give one.
const FETCH: Duration = Duration::from_secs(60);

/// See the module. Its content is a secret.
#[derive(Clone)]
pub(super) struct ConfigDrive(Arc<str>);

fn invalid(reason: impl Into<String>) -> DriverError {
    DriverError::Invalid { section: "instance_info", key: "configdrive".into(), reason: reason.into() }
}

impl ConfigDrive {
    #[cfg(test)]
    pub(super) fn new(text: &str) -> ConfigDrive {
        ConfigDrive(text.into())
    }

    /// The one of the node, fetched when it is given by URL.
    pub(super) async fn of(node: &NodeView, http: &reqwest::Client) -> Result<Option<ConfigDrive>> {
        let Some(text) = node.instance_str("configdrive") else { return Ok(None) };
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Ok(Some(ConfigDrive(text.into())));
        }
        let url = Url::parse(text).map_err(|error| invalid(format!("its URL is wrong: {error}")))?;
        // the URL may hold a signature: it is not told
        let failed = |reason: String| DriverError::Image { image: "config drive".into(), reason };
        let sent = http.get(url).timeout(FETCH).send().await;
        let mut answer = sent.map_err(|error| failed(error.without_url().to_string()))?;
        if !answer.status().is_success() {
            return Err(failed(format!("its server answers {}", answer.status())));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) =
            answer.chunk().await.map_err(|error| failed(error.without_url().to_string()))?
        {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LONGEST {
                return Err(failed(format!("it has more than {LONGEST} bytes")));
            }
        }
        let text = String::from_utf8(bytes).map_err(|_| failed("it is not base64".into()))?;
        Ok(Some(ConfigDrive(text.into())))
    }

    /// The file system inside. A [`DriverError::Image`] at its place says what is wrong with it.
    pub(super) fn pieces(&self) -> mpsc::Receiver<Result<Piece>> {
        let (pieces, wanted) = mpsc::channel(2);
        let text = self.0.clone();
        tokio::task::spawn_blocking(move || {
            let clean: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
            let mut unpacked = GzDecoder::new(DecoderReader::new(&clean[..], &STANDARD));
            let mut at = 0;
            loop {
                let mut bytes = Vec::new();
                let next = match unpacked.by_ref().take(CHUNK).read_to_end(&mut bytes) {
                    Ok(0) => return,
                    Ok(len) => {
                        let piece = piece(at, bytes);
                        at += len as u64;
                        Ok(piece)
                    }
                    Err(error) => {
                        let image = "config drive".to_owned();
                        Err(DriverError::Image { image, reason: error.to_string() })
                    }
                };
                let failed = next.is_err();
                // nobody listens any more: then it is not wanted
                if pieces.blocking_send(next).is_err() || failed {
                    return;
                }
            }
        });
        wanted
    }
}
