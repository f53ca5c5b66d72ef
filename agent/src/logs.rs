//! `log.collect_system_logs`: a small tar.gz of the kernel's and the agent's log.

use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::console;

/// The logs as base64 of a tar.gz. Blocks.
pub fn collect(with_kernel: bool) -> io::Result<String> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    add(&mut gzip, "ferric-agent.log", &console::kept_log())?;
    if with_kernel {
        add(&mut gzip, "dmesg", &kernel_log())?;
        for (name, path) in [("cmdline", "/proc/cmdline"), ("partitions", "/proc/partitions")] {
            add(&mut gzip, name, &without_token(&std::fs::read_to_string(path).unwrap_or_default()))?;
        }
    }
    gzip.write_all(&[0; 1024])?;
    Ok(STANDARD.encode(gzip.finish()?))
}

fn without_token(line: &str) -> Vec<u8> {
    let words: Vec<&str> = line
        .split(' ')
        .map(|w| if w.starts_with("ipa-agent-token=") { "ipa-agent-token=******" } else { w })
        .collect();
    words.join(" ").into_bytes()
}

/// One ustar member: POSIX.1-1988 header, content, padding.
fn add(tar: &mut impl Write, name: &str, content: &[u8]) -> io::Result<()> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.write_all(&header)?;
    tar.write_all(content)?;
    tar.write_all(&vec![0; content.len().next_multiple_of(512) - content.len()])
}

/// All records that the kernel still has: `priority,number,microseconds,-;text`.
fn kernel_log() -> Vec<u8> {
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open("/dev/kmsg");
    let mut log = Vec::new();
    let Ok(mut file) = file else { return log };
    let mut record = [0; 8192];
    loop {
        match file.read(&mut record) {
            Ok(0) => return log,
            Ok(n) => log.extend_from_slice(&record[..n]),
            // a record was overwritten meanwhile: the next read goes on behind it
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(_) => return log,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collected_logs_are_a_tar_that_tar_reads() {
        console::say("a line for the log");
        let bytes = STANDARD.decode(collect(false).expect("collected")).expect("base64");
        let folder = tempfile::tempdir().expect("temp dir");
        std::fs::write(folder.path().join("l.tgz"), bytes).expect("written");
        let status =
            std::process::Command::new("tar").args(["-xzf", "l.tgz"]).current_dir(folder.path()).status();
        assert!(status.expect("tar runs").success());
        let log = std::fs::read_to_string(folder.path().join("ferric-agent.log")).expect("unpacked");
        assert!(log.contains("a line for the log"));
        assert!(!String::from_utf8_lossy(&without_token("a ipa-agent-token=xyz b")).contains("xyz"));
    }
}
