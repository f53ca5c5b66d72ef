//! Writing an image: downloaded, hashed at the disk's pace, and remembered.

use std::sync::Arc;

use ferric_agent_wire::{CommandError, ImageInfo, WriteImageArgs, WritePhase, WriteProgress, error_type};

use super::failure;
use crate::agent::{Agent, chain};
use crate::disk::{Digests, Partitions, WriteStart, Written};
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
    };
    write.fails = !write.dies && machine.goes_wrong(|left| &mut left.download_errors);
    write.breaks = !write.dies && !write.fails && machine.goes_wrong(|left| &mut left.download_breaks);
    let mut resumes = 0;
    while let Some(broken) = write.stream().await? {
        resumes += 1;
        if resumes > RESUMES {
            return Err(broken);
        }
    }
    write.progress.phase = WritePhase::Verifying;
    agent.set_write_progress(id, write.progress);
    let bytes = write.progress.bytes_done;
    let sha256 = write.digests.finish().map_err(|(kind, details)| failure(kind, details))?;
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
}

impl Write<'_> {
    /// Takes in what is left of the image: `None` when it is complete, the error when the connection broke. Errors are
    /// what another connection would not help.
    async fn stream(&mut self) -> Result<Option<CommandError>, CommandError> {
        let from = self.progress.bytes_done;
        let url = self.url;
        if from > 0 && self.progress.bytes_total == Some(from) {
            return Ok(None); // it broke behind the last byte
        }
        let lost = |error: reqwest::Error| failure(error_type::DOWNLOAD, format!("{url}: {}", chain(&error)));
        let mut request = self.machine.world.http.get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let mut answer = match request.send().await {
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
        if from == 0 {
            self.progress.bytes_total = answer.content_length();
            if let Some(total) = self.progress.bytes_total.filter(|total| *total > self.size) {
                return Err(self.too_large(total));
            }
        }
        let start = WriteStart { url: url.clone(), offset: from, boot: self.agent.boot };
        self.machine.on_disk(self.agent.boot, |disk| disk.starts.push(start));
        self.progress.phase = WritePhase::Writing;
        let halfway = self.progress.bytes_total.unwrap_or(0) / 2;
        let started = tokio::time::Instant::now();
        loop {
            let chunk = match answer.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(None),
                Err(error) => return Ok(Some(lost(error))),
            };
            self.digests.update(&chunk);
            self.progress.bytes_done += chunk.len() as u64;
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
