//! Writing an image: downloaded, hashed at the disk's pace, and remembered.

use std::sync::Arc;

use ferric_agent_wire::{CommandError, ImageInfo, WriteImageArgs, WritePhase, WriteProgress, error_type};

use super::failure;
use crate::agent::{Agent, chain};
use crate::disk::{Digests, Partitions, WriteStart, Written};
use crate::images::Known;
use crate::world::Machine;

/// Times that a broken download is gone on with.
const RESUMES: u32 = 5;

/// Downloads the image, hashes it at the disk's pace, and remembers it as written.
pub(super) async fn write_image(
    agent: &Agent,
    machine: &Arc<Machine>,
    id: &str,
    args: &WriteImageArgs,
) -> Result<String, CommandError> {
    let image = &args.image_info;
    let url = image.urls.first().ok_or_else(|| failure(error_type::DOWNLOAD, "image_info holds no URL"))?;
    agent.set_write_progress(id, WriteProgress::default());
    let before = machine.view().disk;
    // from the first byte on, whatever the disk held is gone
    machine.on_disk(agent.boot, |disk| {
        disk.erase();
        disk.content = true;
    });
    let mut write = Write {
        agent,
        machine,
        id,
        url,
        size: before.size,
        digests: Digests::new(image.declared_hash()),
        progress: WriteProgress::default(),
        dies: machine.goes_wrong(|left| &mut left.dies_mid_write),
        fails: false,
        breaks: false,
        tag: None,
    };
    write.fails = !write.dies && machine.goes_wrong(|left| &mut left.download_errors);
    write.breaks = !write.dies && !write.fails && machine.goes_wrong(|left| &mut left.download_breaks);
    let mut resumes = 0;
    let (source, lesson) = write.source(image.declared_hash()).await?;
    while let Some(broken) = write.stream(source.as_deref()).await? {
        resumes += 1;
        if resumes > RESUMES {
            return Err(broken);
        }
    }
    write.progress.phase = WritePhase::Verifying;
    agent.set_write_progress(id, write.progress);
    let bytes = write.progress.bytes_done;
    let tag = write.tag.take();
    let checked = match &source {
        Some(known) => Digests::counted(image.declared_hash(), known, machine.weather().damages_images),
        None => write.digests.finish(),
    };
    let (sha256, declared) = checked.map_err(|(kind, details)| failure(kind, details))?;
    if let Some(mut lesson) = lesson {
        let digests = [("sha256".to_owned(), sha256.clone())].into_iter().chain(declared).collect();
        *lesson = Some(Known { bytes, tag, digests });
    }
    let configdrive = [&args.configdrive, &image.configdrive]
        .iter()
        .any(|drive| drive.as_ref().is_some_and(|drive| !drive.reveal().is_empty()));
    let old = before.written.and_then(|written| written.partitions);
    let partitions = (!image.is_whole_disk()).then(|| partitions(machine, image, old));
    machine.on_disk(agent.boot, |disk| {
        disk.written = Some(Written { url: url.clone(), bytes, sha256, configdrive, partitions });
        disk.partition_table = true;
        disk.writes += 1;
    });
    Ok(format!("image {} written to /dev/sda", image.id))
}

struct Write<'a> {
    agent: &'a Agent,
    machine: &'a Arc<Machine>,
    id: &'a str,
    url: &'a String,
    size: u64,
    digests: Digests,
    progress: WriteProgress,
    /// The agent dies half way.
    dies: bool,
    /// The download fails half way.
    fails: bool,
    /// The download breaks half way, and goes on by range.
    breaks: bool,
    /// What the server says of the image's version.
    tag: Option<String>,
}

/// The image is being learnt by whom this is, and others wait.
type Learning = tokio::sync::OwnedMutexGuard<Option<Known>>;

/// What a server says of an image's version.
fn tag(answer: &reqwest::Response) -> Option<String> {
    let header = |name: &str| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
    header("etag").or_else(|| header("last-modified"))
}

/// Pieces that an image comes in when it is counted.
const PIECES: u64 = 8;

/// A piece of an image.
enum Piece {
    Bytes(bytes::Bytes),
    Counted(u64),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Counted(bytes) => *bytes,
        }
    }
}

impl Write<'_> {
    /// What is known of the image, when it need not be fetched; else who learns it, if anybody is to.
    async fn source(
        &self,
        declared: Option<(String, String)>,
    ) -> Result<(Option<Arc<Known>>, Option<Learning>), CommandError> {
        let world = &self.machine.world;
        if !world.images.counted {
            return Ok((None, None));
        }
        let base = world.callback_base.get();
        let own = base.and_then(|base| self.url.strip_prefix(base.as_str())?.strip_prefix("/images/"));
        if let Some(known) = own.and_then(|name| world.images.own(name)) {
            return Ok((Some(known), None));
        }
        let Some(http) = &world.http else {
            return Err(failure(error_type::DOWNLOAD, format!("{}: no such image", self.url)));
        };
        let learning = world.images.lesson(self.url).lock_owned().await;
        let fits = |known: &Known| match &declared {
            Some((algorithm, _)) => known.digests.contains_key(algorithm),
            None => true,
        };
        let Some(known) = learning.clone().filter(fits) else { return Ok((None, Some(learning))) };
        drop(learning);
        // is it the same still?
        match http.head(self.url).send().await {
            Ok(answer) if answer.status().is_success() => {
                let length = answer.headers().get("content-length").and_then(|text| text.to_str().ok());
                let same =
                    length.is_some_and(|text| text.parse() == Ok(known.bytes)) && tag(&answer) == known.tag;
                if same { Ok((Some(Arc::new(known)), None)) } else { Ok((None, None)) }
            }
            // whoever fetches it tells what is wrong
            Ok(_) | Err(_) => Ok((None, None)),
        }
    }

    /// Takes in what is left of the image: `None` when it is complete, the error when the connection broke. Errors are
    /// what another connection would not help.
    async fn stream(&mut self, known: Option<&Known>) -> Result<Option<CommandError>, CommandError> {
        let from = self.progress.bytes_done;
        let url = self.url;
        if from > 0 && self.progress.bytes_total == Some(from) {
            return Ok(None); // it broke behind the last byte
        }
        let lost = |error: reqwest::Error| failure(error_type::DOWNLOAD, format!("{url}: {}", chain(&error)));
        let mut answer = match (known, &self.machine.world.http) {
            (Some(_), _) => None,
            (None, None) => return Err(failure(error_type::DOWNLOAD, format!("{url}: no such image"))),
            (None, Some(http)) => {
                let mut request = http.get(url);
                if from > 0 {
                    request = request.header("Range", format!("bytes={from}-"));
                }
                let answer = match request.send().await {
                    Ok(answer) => answer,
                    // never reached: for the first time that is an error in the request
                    Err(error) if from > 0 => return Ok(Some(lost(error))),
                    Err(error) => return Err(lost(error)),
                };
                let wanted = if from > 0 { 206 } else { 200 };
                if answer.status().as_u16() != wanted {
                    let text = format!("{url}: the server answers {}", answer.status());
                    return Err(failure(error_type::DOWNLOAD, text));
                }
                Some(answer)
            }
        };
        if from == 0 {
            self.tag = answer.as_ref().and_then(tag);
            self.progress.bytes_total = match (&answer, known) {
                (Some(answer), _) => answer.content_length(),
                (None, known) => known.map(|known| known.bytes),
            };
            if let Some(total) = self.progress.bytes_total.filter(|total| *total > self.size) {
                return Err(self.too_large(total));
            }
        }
        let start = WriteStart { url: url.clone(), offset: from, boot: self.agent.boot };
        self.machine.on_disk(self.agent.boot, |disk| disk.begins(start));
        self.progress.phase = WritePhase::Writing;
        let total = self.progress.bytes_total.unwrap_or(0);
        let halfway = total / 2;
        let started = tokio::time::Instant::now();
        loop {
            let piece = match &mut answer {
                Some(answer) => match answer.chunk().await {
                    Ok(Some(chunk)) => Piece::Bytes(chunk),
                    Ok(None) => return Ok(None),
                    Err(error) => return Ok(Some(lost(error))),
                },
                None if self.progress.bytes_done == total => return Ok(None),
                None => Piece::Counted(total.div_ceil(PIECES).min(total - self.progress.bytes_done)),
            };
            let weather = self.machine.weather();
            if weather.disk_fails {
                let text = format!("/dev/sda: input/output error at byte {}", self.progress.bytes_done);
                return Err(failure(error_type::WRITE, text));
            }
            match &piece {
                // one bit is enough
                Piece::Bytes(chunk) if weather.damages_images && !chunk.is_empty() => {
                    self.digests.update(&[chunk[0] ^ 1]);
                    self.digests.update(&chunk[1..]);
                }
                Piece::Bytes(chunk) => self.digests.update(chunk),
                Piece::Counted(_) => {}
            }
            self.progress.bytes_done += piece.len();
            self.agent.set_write_progress(self.id, self.progress);
            if self.progress.bytes_done > self.size {
                return Err(self.too_large(self.progress.bytes_done));
            }
            if self.progress.bytes_done >= halfway
                && let Some(broken) = self.trouble().await?
            {
                return Ok(Some(broken));
            }
            let due =
                self.machine.world.disk_time(self.progress.bytes_done - from, self.machine.faults.slower);
            tokio::time::sleep_until(started + due).await;
        }
    }

    /// What has to go wrong half way.
    async fn trouble(&mut self) -> Result<Option<CommandError>, CommandError> {
        if self.dies {
            self.machine.agent_died(self.agent.boot);
            std::future::pending::<()>().await;
        }
        let text = format!("{}: connection lost after {} bytes", self.url, self.progress.bytes_done);
        let broken = failure(error_type::DOWNLOAD, text);
        if self.fails {
            return Err(broken);
        }
        Ok(std::mem::take(&mut self.breaks).then_some(broken))
    }

    fn too_large(&self, bytes: u64) -> CommandError {
        failure(
            error_type::WRITE,
            format!("the image has {bytes} bytes or more, the disk /dev/sda only {}", self.size),
        )
    }
}

/// What the agent makes around a partition image.
fn partitions(machine: &Machine, image: &ImageInfo, old: Option<Partitions>) -> Partitions {
    let uefi = image.deploy_boot_mode.as_deref() == Some("uefi");
    let kept = old.and_then(|old| old.ephemeral).filter(|_| image.preserve_ephemeral == Some(true));
    Partitions {
        root: uuid(machine),
        // file systems of the FAT kind have short ones
        efi_system: uefi.then(|| uuid(machine)[..9].to_uppercase().replacen('-', "", 1)),
        swap: image.swap_mb.is_some_and(|size| size > 0),
        ephemeral: image.ephemeral_mb.filter(|size| *size > 0).map(|_| kept.unwrap_or_else(|| uuid(machine))),
        boot_loader: false,
    }
}

fn uuid(machine: &Machine) -> String {
    machine.chance(|chance| {
        let bits = (u128::from(chance.bits()) << 64) | u128::from(chance.bits());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
    })
}
