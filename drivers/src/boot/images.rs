//! Kernels and ramdisks: brought into a node's folder, each fetched or copied once however many nodes use it.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use reqwest::{StatusCode, Url, header};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::folder::{blocking, io_error, remove, temporary, write};
use crate::DriverError;
use crate::interface::Result;

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Web(Url),
}

impl Source {
    /// Reads a value of driver_info or of the configuration.
    pub(super) fn parse(key: &'static str, text: &str) -> Result<Source> {
        Source::parse_of("driver_info", key, text)
    }

    /// Reads a value of the node field `section`.
    pub(crate) fn parse_of(section: &'static str, key: &'static str, text: &str) -> Result<Source> {
        let wrong = |reason: &str| DriverError::Invalid {
            section,
            key: key.to_owned(),
            reason: format!("{reason}; give an absolute path, file://, http:// or https://"),
        };
        if text.starts_with('/') {
            return Ok(Source::File(PathBuf::from(text)));
        }
        let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        match url.scheme() {
            "http" | "https" => Ok(Source::Web(url)),
            "file" => url.to_file_path().map(Source::File).map_err(|()| wrong("not a path of this host")),
            other => Err(wrong(&format!("scheme '{other}' cannot be fetched"))),
        }
    }

    /// Reads a value of instance_info, which a tenant may write: a file of this host only below `allowed`.
    pub(crate) fn of_instance(key: &'static str, text: &str, allowed: &[PathBuf]) -> Result<Source> {
        let source = Source::parse_of("instance_info", key, text)?;
        let Source::File(path) = &source else { return Ok(source) };
        // a link must not lead out, nor must `..`; what is not there is said when it is fetched
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let inside = |folder: &PathBuf| {
            real.starts_with(fs::canonicalize(folder).unwrap_or_else(|_| folder.clone()))
                && !path.components().any(|part| part == std::path::Component::ParentDir)
        };
        if allowed.iter().any(inside) {
            return Ok(source);
        }
        Err(DriverError::Invalid {
            section: "instance_info",
            key: key.to_owned(),
            reason: format!(
                "files of the conductor's host may be used from {:?} only ([conductor] file_url_allowed_paths)",
                allowed
            ),
        })
    }

    /// For people: without user name, password and query.
    fn shown(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Web(url) => {
                let mut url = url.clone();
                url.set_query(None);
                // these fail for URLs without a host only
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.to_string()
            }
        }
    }

    fn error(&self, reason: impl Into<String>) -> DriverError {
        DriverError::Image { image: self.shown(), reason: reason.into() }
    }

    /// Checks without the network: a local file must be there.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Source::Web(_) => Ok(()),
            Source::File(path) => match fs::metadata(path) {
                Ok(about) if about.is_file() => Ok(()),
                Ok(_) => Err(self.error("is not a file")),
                Err(error) => Err(self.error(format!("{error} (on the conductor's host)"))),
            },
        }
    }
}

/// Copies below a root, in `.images`; a node's folder has hard links to them.
#[derive(Debug)]
pub(crate) struct ImageCache {
    folder: PathBuf,
    timeout: Duration,
    ttl: Duration,
    client: OnceLock<reqwest::Client>,
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl ImageCache {
    pub(crate) fn new(root: &Path, timeout: Duration, ttl: Duration) -> ImageCache {
        let folder = root.join(".images");
        ImageCache { folder, timeout, ttl, client: OnceLock::new(), busy: Mutex::default() }
    }

    /// Makes `target` the present content of `source`. Does nothing when it is already.
    pub(crate) async fn provide(&self, source: &Source, target: PathBuf) -> Result<()> {
        let key = digest(&source.shown());
        // two nodes that want the same image wait for one download
        let turn = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, turn| Arc::strong_count(turn) > 1);
            busy.entry(key).or_default().clone()
        };
        let _turn = turn.lock().await;
        match source {
            Source::File(path) => self.provide_file(source.clone(), path.clone(), target).await,
            Source::Web(url) => {
                let cached = self.download(source, url).await?;
                // linked before anything is evicted: what has a second name is in use
                blocking(move || link(&cached, &target).map_err(|error| io_error(&target, &error))).await?;
                self.evict_or_log().await;
                Ok(())
            }
        }
    }

    async fn provide_file(&self, source: Source, path: PathBuf, target: PathBuf) -> Result<()> {
        let folder = self.folder.clone();
        blocking(move || {
            let real = fs::canonicalize(&path).map_err(|error| source.error(error.to_string()))?;
            let about = fs::metadata(&real).map_err(|error| source.error(error.to_string()))?;
            if !about.is_file() {
                return Err(source.error("is not a file"));
            }
            // the same file system: no copy at all
            if link(&real, &target).is_ok() {
                return Ok(());
            }
            let cached = folder.join(digest(&version(&real, &about)));
            if cached.exists() {
                touch(&cached);
            } else {
                fs::create_dir_all(&folder).map_err(|error| io_error(&folder, &error))?;
                let part = temporary(&cached);
                let copied = fs::copy(&real, &part).and_then(|_| fs::rename(&part, &cached));
                if let Err(error) = copied {
                    // the first error is the one to tell
                    let _ = remove(&part);
                    return Err(source.error(error.to_string()));
                }
            }
            link(&cached, &target).map_err(|error| io_error(&target, &error))
        })
        .await?;
        self.evict_or_log().await;
        Ok(())
    }

    /// A cache that cannot be tidied is no reason not to boot a machine.
    async fn evict_or_log(&self) {
        if let Err(error) = self.evict().await {
            tracing::warn!(%error, "old images stay in the cache");
        }
    }

    /// The cached file, fetched again only when the server says that it changed.
    async fn download(&self, source: &Source, url: &Url) -> Result<PathBuf> {
        let cached = self.folder.join(digest(url.as_str()));
        let notes = cached.with_extension("validators");
        tokio::fs::create_dir_all(&self.folder).await.map_err(|error| io_error(&self.folder, &error))?;
        let mut request = self.client().get(url.clone());
        if tokio::fs::try_exists(&cached).await.unwrap_or(false) {
            let text = tokio::fs::read_to_string(&notes).await.unwrap_or_default();
            let mut lines = text.lines().map(str::to_owned);
            for name in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
                if let Some(value) = lines.next().filter(|value| !value.is_empty()) {
                    request = request.header(name, value);
                }
            }
        }
        let unreachable = |error: reqwest::Error| match error.is_connect() || error.is_timeout() {
            true => DriverError::Unreachable {
                what: source.shown(),
                after: self.timeout,
                remedy: "check the URL and that the conductor reaches the server".to_owned(),
            },
            false => source.error(error.without_url().to_string()),
        };
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::NOT_MODIFIED => {
                let (file, notes) = (cached.clone(), notes.clone());
                blocking(move || {
                    touch(&file);
                    touch(&notes);
                    Ok(())
                })
                .await?;
                return Ok(cached);
            }
            StatusCode::OK => {}
            other => return Err(source.error(format!("the server answers {other}"))),
        }
        let header_text = |name| {
            let value =
                response.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let validators = format!("{}\n{}\n", header_text(header::ETAG), header_text(header::LAST_MODIFIED));
        let expected = response.content_length();
        let part = temporary(&cached);
        let outcome = async {
            let mut file = tokio::fs::File::create(&part).await.map_err(|error| io_error(&part, &error))?;
            let mut body = response.bytes_stream();
            let mut got = 0;
            while let Some(chunk) = body.next().await {
                let chunk = chunk.map_err(unreachable)?;
                got += chunk.len() as u64;
                file.write_all(&chunk).await.map_err(|error| io_error(&part, &error))?;
            }
            file.flush().await.map_err(|error| io_error(&part, &error))?;
            if expected.is_some_and(|expected| expected != got) {
                return Err(source.error(format!("the server broke off after {got} bytes")));
            }
            // an old validator beside the new file would only cost a download; the reverse would be wrong
            blocking({
                let (part, cached) = (part.clone(), cached.clone());
                move || {
                    remove(&notes).map_err(|error| io_error(&notes, &error))?;
                    fs::rename(&part, &cached).map_err(|error| io_error(&cached, &error))?;
                    write(&notes, validators.as_bytes()).map_err(|error| io_error(&notes, &error))
                }
            })
            .await
        }
        .await;
        if outcome.is_err() {
            // the first error is the one to tell
            let _ = tokio::fs::remove_file(&part).await;
        }
        outcome.map(|()| cached)
    }

    fn client(&self) -> &reqwest::Client {
        self.client.get_or_init(|| {
            // Err means that the process has chosen a provider already, which serves as well
            let _ = rustls::crypto::ring::default_provider().install_default();
            reqwest::Client::builder()
                .connect_timeout(Duration::from_secs(10))
                .timeout(self.timeout)
                .build()
                .expect("a client with a TLS provider and no other demands can be built")
        })
    }

    /// Removes copies that no node's folder links to and that have been here for long.
    async fn evict(&self) -> Result<()> {
        let (folder, ttl) = (self.folder.clone(), self.ttl);
        blocking(move || {
            let Ok(entries) = fs::read_dir(&folder) else { return Ok(()) };
            for entry in entries.flatten() {
                let old = entry.metadata().is_ok_and(|about| unused(&about, ttl));
                if old {
                    remove(&entry.path()).map_err(|error| io_error(&folder, &error))?;
                }
            }
            Ok(())
        })
        .await
    }
}

fn unused(about: &Metadata, ttl: Duration) -> bool {
    let age = about.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
    about.nlink() == 1 && age.is_some_and(|age| age > ttl)
}

/// Path, time and size: what makes a local file another one.
fn version(path: &Path, about: &Metadata) -> String {
    format!("{}\n{}.{}\n{}", path.display(), about.mtime(), about.mtime_nsec(), about.len())
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts a hard link to `from` in the place of `target`.
fn link(from: &Path, target: &Path) -> io::Result<()> {
    let same = |a: &Metadata, b: &Metadata| a.ino() == b.ino() && a.dev() == b.dev();
    let about = fs::metadata(from)?;
    // rename(2) of one link onto another of the same file does nothing and leaves both
    if fs::symlink_metadata(target).is_ok_and(|now| same(&now, &about)) {
        return Ok(());
    }
    let temporary = temporary(target);
    fs::hard_link(from, &temporary)?;
    fs::rename(&temporary, target)
}

/// Says that a cached file is wanted still, so that an eviction at the same moment spares it.
fn touch(path: &Path) {
    let now = std::time::SystemTime::now();
    if let Err(error) = fs::File::options().write(true).open(path).and_then(|file| file.set_modified(now)) {
        tracing::debug!(path = %path.display(), %error, "the cached file keeps its old date");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(root: &Path) -> ImageCache {
        ImageCache::new(root, Duration::from_secs(5), Duration::from_secs(3600))
    }

    #[tokio::test]
    async fn a_local_image_is_linked_and_follows_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let (from, target) = (dir.path().join("kernel"), dir.path().join("target"));
        fs::write(&from, "one").unwrap();
        let source = Source::parse("deploy_kernel", from.to_str().unwrap()).unwrap();
        let cache = cache(dir.path());
        for _ in 0..2 {
            cache.provide(&source, target.clone()).await.unwrap();
            assert_eq!(fs::metadata(&from).unwrap().ino(), fs::metadata(&target).unwrap().ino());
        }
        // a new file under the same name, as `install` or a build makes it
        fs::remove_file(&from).unwrap();
        fs::write(&from, "two").unwrap();
        cache.provide(&source, target.clone()).await.unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn sources_are_told_apart_and_shown_without_secrets() {
        let parse = |text| Source::parse("deploy_kernel", text);
        assert_eq!(parse("file:///a/b").unwrap(), Source::File(PathBuf::from("/a/b")));
        let web = parse("https://user:geheim@host/k?token=geheim").unwrap();
        assert_eq!(web.shown(), "https://host/k");
        for bad in ["ftp://x/y", "kernel", "", "file://otherhost/x"] {
            assert!(matches!(parse(bad), Err(DriverError::Invalid { .. })), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_web_image_is_fetched_once_and_again_only_when_it_changed() {
        use crate::protocol::http;
        let dir = tempfile::tempdir().unwrap();
        let (web, root) = (dir.path().join("web"), dir.path().join("root"));
        fs::create_dir_all(&web).unwrap();
        fs::create_dir_all(&root).unwrap();
        fs::write(web.join("k"), "one").unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let server = http::start(&http::HttpSettings { listen, root: web.clone() }).await.unwrap();
        let url = |name: &str| format!("http://{}/{name}", server.address());
        let source = Source::parse("deploy_kernel", &url("k")).unwrap();
        let cache = cache(&root);
        let (one, two) = (root.join("one"), root.join("two"));
        let both = futures_util::future::join(
            cache.provide(&source, one.clone()),
            cache.provide(&source, two.clone()),
        );
        let (first, second) = both.await;
        first.unwrap();
        second.unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&one), inode(&two), "fetched twice");
        fs::write(web.join("new"), "two").unwrap();
        fs::rename(web.join("new"), web.join("k")).unwrap();
        cache.provide(&source, two.clone()).await.unwrap();
        assert_eq!(fs::read_to_string(&two).unwrap(), "two");
        assert_eq!(fs::read_to_string(&one).unwrap(), "one", "a node in the middle of a boot keeps its file");

        let absent = Source::parse("deploy_kernel", &url("absent")).unwrap();
        let error = cache.provide(&absent, one.clone()).await.unwrap_err();
        assert!(error.to_string().contains("404"), "{error}");
        server.stop().await;
        let error = cache.provide(&source, one).await.unwrap_err();
        assert!(matches!(error, DriverError::Unreachable { .. }) && error.is_transient(), "{error}");
        let left: Vec<_> =
            fs::read_dir(root.join(".images")).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left.len(), 2, "file and validators, nothing half: {left:?}");
    }
}
