//! Images of instances on the conductor's disk (deploy.md §A.1 row 2, §B.7): fetched and verified once, however many
//! nodes want them, and linked into a folder per node for as long as one is deployed.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::Url;
use sha2::Digest;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::boot::folder::{blocking, io_error, remove, temporary};
use crate::boot::images::Source;
use crate::deploy::image::shown;
use crate::error::DriverError;
use crate::interface::{Asks, NodeView, Progress, Progressed, Result};

/// Between two words about how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A file that was written so lately may be written again without its time showing it.
const SETTLED: Duration = Duration::from_secs(2);

/// Local images remembered as verified at most.
const MOST_VERIFIED: usize = 256;

/// A server that sends nothing for so long has gone.
const STALLS: Duration = Duration::from_secs(60);

/// Chunks of a download that wait to be hashed and written.
const AHEAD: usize = 8;

/// Where images lie and how many.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// `[pxe] instance_master_path`: an image each, by what it is.
    pub masters: PathBuf,
    /// `[pxe] images_path`: a folder per node that is being deployed. On the file system of `masters`.
    pub images: PathBuf,
    /// `[pxe] image_cache_size`: bytes that the masters may have together, as far as no node uses them.
    pub most_bytes: u64,
    /// `[pxe] image_cache_ttl`: masters that no node used for so long go.
    pub ttl: Duration,
    /// `[conductor] file_url_allowed_paths`: folders that `file://` images may lie in.
    pub allowed: Vec<PathBuf>,
}

/// A checksum that an image has to have.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Sum {
    /// `md5`, `sha256` or `sha512`.
    #[serde(rename = "os_hash_algo")]
    pub(super) algorithm: String,
    /// Lower-case hexadecimal digits.
    #[serde(rename = "os_hash_value")]
    pub(super) value: String,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cache {
    settings: CacheSettings,
    http: reqwest::Client,
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Local images as they were when they were verified.
    verified: Mutex<HashSet<(Identity, String)>>,
}

/// What tells that a file is still what it was, without reading it: device, inode, size, and when it was written.
type Identity = (u64, u64, u64, i64, i64);

/// `None` while the file is too young to tell.
fn identity(about: &Metadata) -> Option<Identity> {
    let age = SystemTime::now().duration_since(about.modified().ok()?).ok()?;
    let of = (about.dev(), about.ino(), about.len(), about.mtime(), about.mtime_nsec());
    (age >= SETTLED).then_some(of)
}

impl Cache {
    pub(super) fn new(settings: CacheSettings, http: reqwest::Client) -> Cache {
        Cache { settings, http, busy: Mutex::default(), verified: Mutex::default() }
    }

    /// Where the node's image is, once [`Cache::provide`] has put it there.
    pub(super) fn place(&self, node: Uuid) -> PathBuf {
        self.settings.images.join(node.to_string()).join("disk")
    }

    /// A file beside it that may be made meanwhile.
    pub(super) fn scratch(&self, node: Uuid) -> PathBuf {
        self.settings.images.join(node.to_string()).join("scratch")
    }

    /// The source of a `file://` image is one that is allowed. Others pass.
    pub(super) fn check(&self, url: &Url) -> Result<()> {
        if url.scheme() != "file" {
            return Ok(());
        }
        Source::of_instance("image_source", url.as_str(), &self.settings.allowed)?.check()
    }

    /// Brings the image to the node's place, verified. Does nothing when it is there already.
    pub(super) async fn provide(&self, node: &NodeView, url: &Url, sum: &Sum, asks: &dyn Asks) -> Result<()> {
        let key = digest(&format!("{url}\n{}\n{}", sum.algorithm, sum.value));
        let turn = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, turn| Arc::strong_count(turn) > 1);
            busy.entry(key.clone()).or_default().clone()
        };
        // one place in the line, however often it is told that it waits
        let mut turn = std::pin::pin!(turn.lock_owned());
        let _turn = loop {
            match tokio::time::timeout(TELL_EVERY, turn.as_mut()).await {
                Ok(turn) => break turn,
                Err(_) => {
                    tell(asks, "waiting for another node's download of the same image", 0, None).await?
                }
            }
        };
        let master = self.settings.masters.join(key);
        let place = self.place(node.uuid);
        let (masters, folder) = (self.settings.masters.clone(), place.with_file_name(""));
        blocking(move || {
            for path in [&masters, &folder] {
                fs::create_dir_all(path).map_err(|error| io_error(path, &error))?;
            }
            Ok(())
        })
        .await?;
        if url.scheme() == "file" {
            let own = self.open(url).await?;
            if self.take_link(url, sum, &own, &place, asks).await? {
                return Ok(());
            }
            if !tokio::fs::try_exists(&master).await.unwrap_or(false) {
                self.evict_or_log().await;
                let keep = Keep { part: temporary(&master), target: master.clone(), writes: true };
                self.read(url, sum, own, keep, asks).await?;
            }
        } else if !tokio::fs::try_exists(&master).await.unwrap_or(false) {
            self.evict_or_log().await;
            self.download(url, sum, &master, asks).await?;
        }
        let linked = {
            let (master, place) = (master.clone(), place.clone());
            blocking(move || {
                touch(&master);
                link(&master, &place).map_err(|error| {
                    let reason = format!(
                        "{error}; [pxe] images_path and instance_master_path have to be on one file system"
                    );
                    DriverError::Io { path: place.display().to_string(), reason }
                })
            })
        };
        linked.await?;
        self.evict_or_log().await;
        Ok(())
    }

    /// Takes the node's image away; the master stays for others. Idempotent.
    pub(super) async fn forget(&self, node: Uuid) -> Result<()> {
        let folder = self.settings.images.join(node.to_string());
        blocking(move || match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error(&folder, &error)),
            Ok(()) | Err(_) => Ok(()),
        })
        .await
    }

    /// The file of a `file://` URL, where it really is.
    async fn open(&self, url: &Url) -> Result<PathBuf> {
        let source = Source::of_instance("image_source", url.as_str(), &self.settings.allowed)?;
        let Source::File(path) = source else { unreachable!("its scheme is file") };
        blocking(move || {
            let real = fs::canonicalize(&path).map_err(|error| io_error(&path, &error))?;
            let about = fs::metadata(&real).map_err(|error| io_error(&real, &error))?;
            let reason = "is not a file".to_owned();
            if about.is_file() {
                Ok(real)
            } else {
                Err(DriverError::Image { image: real.display().to_string(), reason })
            }
        })
        .await
    }

    /// A file of this host gets a second name, where that is possible, and is verified unless it is still what it was
    /// when it last was: somebody else may change it. False where it is not possible.
    async fn take_link(
        &self,
        url: &Url,
        sum: &Sum,
        own: &Path,
        place: &Path,
        asks: &dyn Asks,
    ) -> Result<bool> {
        let part = temporary(place);
        let (from, to) = (own.to_owned(), part.clone());
        let linked = blocking(move || match fs::hard_link(&from, &to) {
            Ok(()) => Ok(Some(fs::metadata(&to).map_err(|error| io_error(&to, &error))?)),
            Err(_) => Ok(None),
        });
        let Some(before) = linked.await? else { return Ok(false) };
        let keep = Keep { part: part.clone(), target: place.to_owned(), writes: false };
        let sum_text = format!("{}:{}", sum.algorithm, sum.value);
        let known = identity(&before).map(|identity| (identity, sum_text));
        let verified = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|known| verified().contains(known)) {
            let moved =
                move || fs::rename(&keep.part, &keep.target).map_err(|error| io_error(&keep.target, &error));
            return blocking(moved).await.map(|()| true);
        }
        self.read(url, sum, part, keep, asks).await?;
        let read = place.to_owned();
        let after = blocking(move || fs::metadata(&read).map_err(|error| io_error(&read, &error))).await?;
        if let Some(known) = known.filter(|(before, _)| identity(&after) == Some(*before)) {
            let mut verified = verified();
            if verified.len() >= MOST_VERIFIED {
                verified.clear();
            }
            verified.insert(known);
        }
        Ok(true)
    }

    async fn read(&self, url: &Url, sum: &Sum, from: PathBuf, keep: Keep, asks: &dyn Asks) -> Result<()> {
        let (file, bytes) = blocking(move || {
            let opened = File::open(&from).and_then(|file| file.metadata().map(|about| (file, about.len())));
            opened.map_err(|error| io_error(&from, &error))
        })
        .await?;
        let (chunks, rest) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || read_chunks(file, &chunks));
        self.receive(url, sum, keep, rest, ("verifying image", Some(bytes)), asks).await
    }

    async fn download(&self, url: &Url, sum: &Sum, master: &Path, asks: &dyn Asks) -> Result<()> {
        let image = || shown(url);
        let failed = move |error: reqwest::Error| DriverError::Image {
            image: image(),
            reason: format!("cannot be fetched: {}; check the server and deploy again", cause(error)),
        };
        let sent = tokio::time::timeout(STALLS, self.http.get(url.clone()).send()).await;
        let answer = sent.map_err(|_| stalled(url))?.map_err(&failed)?;
        if !answer.status().is_success() {
            let reason = format!("its server answers {}", answer.status());
            return Err(DriverError::Image { image: shown(url), reason });
        }
        let total = answer.content_length();
        let (chunks, rest) = mpsc::channel(AHEAD);
        let (from, until) = (url.clone(), Guard::default());
        let task = tokio::spawn(async move {
            let mut body = answer.bytes_stream();
            loop {
                let chunk = match tokio::time::timeout(STALLS, body.next()).await {
                    Ok(None) => return,
                    Ok(Some(Ok(chunk))) => Ok(chunk),
                    Ok(Some(Err(error))) => {
                        let reason = format!("broke off: {}; deploy again", cause(error));
                        Err(DriverError::Image { image: shown(&from), reason })
                    }
                    Err(_) => Err(stalled(&from)),
                };
                if chunks.send(chunk).await.is_err() {
                    return;
                }
            }
        });
        let _until = until.of(task.abort_handle());
        let keep = Keep { part: temporary(master), target: master.to_owned(), writes: true };
        self.receive(url, sum, keep, rest, ("fetching image", total), asks).await
    }

    /// Hashes and writes what comes, and makes it a master if it is what it should be.
    async fn receive(
        &self,
        url: &Url,
        sum: &Sum,
        keep: Keep,
        mut chunks: mpsc::Receiver<Result<Bytes>>,
        (doing, total): (&str, Option<u64>),
        asks: &dyn Asks,
    ) -> Result<()> {
        let (done, mut so_far) = tokio::sync::watch::channel(0_u64);
        let (sum, name) = (sum.clone(), shown(url));
        let work = tokio::task::spawn_blocking(move || {
            let mut hash = Hash::of(&sum.algorithm);
            let failed = |error: std::io::Error| io_error(&keep.part, &error);
            let mut file = keep.writes.then(|| File::create(&keep.part)).transpose().map_err(failed)?;
            let mut got = 0;
            while let Some(chunk) = chunks.blocking_recv() {
                let chunk = chunk?;
                hash.update(&chunk);
                if let Some(file) = &mut file {
                    file.write_all(&chunk).map_err(failed)?;
                }
                got += chunk.len() as u64;
                done.send_replace(got);
            }
            if total.is_some_and(|total| total != got) {
                let reason = format!("broke off after {got} bytes; deploy again");
                return Err(DriverError::Image { image: name, reason });
            }
            let is = hash.finish();
            if is != sum.value {
                let reason = format!(
                    "its {} is {is}, not {}; correct the checksum in instance_info or the image",
                    sum.algorithm, sum.value
                );
                return Err(DriverError::Image { image: name, reason });
            }
            if let Some(file) = file {
                file.sync_all().map_err(failed)?;
            }
            // one name of a file moved onto another of the same does nothing and leaves both: Keep takes it away
            fs::rename(&keep.part, &keep.target).map_err(failed)
        });
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                ended = &mut work => return ended.unwrap_or_else(|error| {
                    Err(DriverError::Io { path: "image cache".into(), reason: error.to_string() })
                }),
                () = tokio::time::sleep(TELL_EVERY) => {
                    let so_far = *so_far.borrow_and_update();
                    tell(asks, doing, so_far, total).await?;
                }
            }
        }
    }

    /// A cache that cannot be tidied is no reason not to deploy.
    async fn evict_or_log(&self) {
        let (folder, most, ttl) =
            (self.settings.masters.clone(), self.settings.most_bytes, self.settings.ttl);
        let done =
            blocking(move || evict(&folder, most, ttl).map_err(|error| io_error(&folder, &error))).await;
        if let Err(error) = done {
            tracing::warn!(%error, "old images stay in the cache");
        }
    }
}

fn stalled(url: &Url) -> DriverError {
    let reason = format!("its server sends nothing for {} s; check it and deploy again", STALLS.as_secs());
    DriverError::Image { image: shown(url), reason }
}

/// The innermost cause, without the URL: that may hold a signature.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

async fn tell(asks: &dyn Asks, doing: &str, done: u64, total: Option<u64>) -> Result<()> {
    let bytes_done = (done > 0).then_some(done);
    let progress = Progress { doing: doing.to_owned(), bytes_done, bytes_total: total };
    asks.report(Progressed { progress, checkpoint: None }).await
}

/// Ends a task with its user.
#[derive(Default)]
struct Guard(Option<tokio::task::AbortHandle>);

impl Guard {
    fn of(mut self, task: tokio::task::AbortHandle) -> Guard {
        self.0 = Some(task);
        self
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// A file that is not a master yet; it goes away unless it becomes one.
struct Keep {
    part: PathBuf,
    target: PathBuf,
    /// Whether its content is still to be written.
    writes: bool,
}

impl Drop for Keep {
    fn drop(&mut self) {
        // it is gone already when it became a master
        let _ = remove(&self.part);
    }
}

fn read_chunks(mut file: File, chunks: &mpsc::Sender<Result<Bytes>>) {
    loop {
        let mut bytes = Vec::new();
        let read = Read::by_ref(&mut file).take(1 << 20).read_to_end(&mut bytes);
        let chunk = match read {
            Ok(0) => return,
            Ok(_) => Ok(Bytes::from(bytes)),
            Err(error) => Err(DriverError::Io { path: "image".into(), reason: error.to_string() }),
        };
        let failed = chunk.is_err();
        if chunks.blocking_send(chunk).is_err() || failed {
            return;
        }
    }
}

enum Hash {
    Md5(md5::Md5),
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hash {
    /// `image::checksum` and `image::fetch` know these three only.
    fn of(algorithm: &str) -> Hash {
        match algorithm {
            "md5" => Hash::Md5(md5::Md5::new()),
            "sha512" => Hash::Sha512(sha2::Sha512::new()),
            _ => Hash::Sha256(sha2::Sha256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hash::Md5(hash) => hash.update(bytes),
            Hash::Sha256(hash) => hash.update(bytes),
            Hash::Sha512(hash) => hash.update(bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Hash::Md5(hash) => hex(&hash.finalize()),
            Hash::Sha256(hash) => hex(&hash.finalize()),
            Hash::Sha512(hash) => hex(&hash.finalize()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest(text: &str) -> String {
    hex(&sha2::Sha256::digest(text.as_bytes()))
}

/// Puts a second name of `from` in the place of `target`.
fn link(from: &Path, target: &Path) -> std::io::Result<()> {
    let temporary = temporary(target);
    fs::hard_link(from, &temporary)?;
    let moved = fs::rename(&temporary, target);
    // rename(2) of one name onto another of the same file does nothing and leaves both
    remove(&temporary)?;
    moved
}

/// Says that it is wanted still.
fn touch(master: &Path) {
    // its date is part of the image's identity: it stays while some node is written from it
    let own = fs::metadata(master).is_ok_and(|about| about.nlink() == 1);
    let now = SystemTime::now();
    if own && let Err(error) = set_date(master, now) {
        tracing::debug!(path = %master.display(), %error, "the cached image keeps its old date");
    }
}

fn set_date(path: &Path, to: SystemTime) -> std::io::Result<()> {
    File::options().write(true).open(path)?.set_modified(to)
}

/// Masters that no node has a link to go: those that are too old, and the oldest until the others are few enough.
fn evict(folder: &Path, most: u64, ttl: Duration) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let now = SystemTime::now();
    let mut all: Vec<(Duration, u64, PathBuf)> = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(about) = entry.metadata() else { continue };
        if !is_unused(&about) {
            continue;
        }
        let age = about.modified().ok().and_then(|then| now.duration_since(then).ok()).unwrap_or_default();
        // what is being fetched is written to all the time
        let half = entry.path().extension().is_some_and(|end| end == "tmp");
        if half && age < 2 * STALLS {
            continue;
        }
        if half || age > ttl {
            remove(&entry.path())?;
        } else {
            all.push((age, about.blocks() * 512, entry.path()));
        }
    }
    all.sort();
    let mut total = 0;
    for (_, bytes, path) in all {
        total += bytes;
        if total > most {
            remove(&path)?;
        }
    }
    Ok(())
}

fn is_unused(about: &Metadata) -> bool {
    about.is_file() && about.nlink() == 1
}
