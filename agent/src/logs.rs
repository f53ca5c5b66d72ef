//! `log.collect_system_logs`: a small tar.gz of the kernel's and the agent's log and of what the machine looks like now.
//! Everything passes through [`masked`] on its way in.

mod look;

use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::console;
use crate::inventory::Roots;

/// Words whose presence in a key makes its value a secret.
const SECRET_KEYS: [&str; 5] = ["token", "passw", "secret", "credential", "psk"];

/// The same, in the query of a URL only.
const QUERY_KEYS: [&str; 2] = ["sig", "key"];

/// The logs as base64 of a tar.gz: the agent's own, and, in a ramdisk, the kernel's and a look at the machine. Blocks.
/// Errors: none in practice; what cannot be read is empty.
pub fn collect(machine: Option<&Roots>) -> io::Result<String> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    add(&mut gzip, "ferric-agent.log", &console::kept_log())?;
    if let Some(roots) = machine {
        add(&mut gzip, "dmesg", &kernel_log())?;
        for (name, path) in [
            ("cmdline", "cmdline"),
            ("partitions", "partitions"),
            ("mount", "mounts"),
            ("modules", "modules"),
            ("meminfo", "meminfo"),
            ("mdstat", "mdstat"),
        ] {
            add(&mut gzip, name, &std::fs::read(roots.proc.join(path)).unwrap_or_default())?;
        }
        for (name, content) in [
            ("ps", look::processes(&roots.proc)),
            ("lsblk", look::block_devices(&roots.sys)),
            ("ip_addr", look::cards(&roots.sys)),
            ("df", look::file_systems(&roots.proc)),
        ] {
            add(&mut gzip, name, content.as_bytes())?;
        }
    }
    gzip.write_all(&[0; 1024])?;
    Ok(STANDARD.encode(gzip.finish()?))
}

/// Puts stars in place of the values of `…token=…`, `…password=…` and the like, of passwords in URLs, and of what signs
/// a URL (`?sig=…`, `&key=…`).
pub fn masked(text: &str) -> String {
    let mut in_query = false;
    text.split_inclusive(is_end)
        .map(|word| {
            let masked = masked_word(word, in_query);
            in_query = word.ends_with('&');
            masked
        })
        .collect()
}

fn is_end(c: char) -> bool {
    c.is_whitespace() || matches!(c, '&' | ',' | ';')
}

fn masked_word(word: &str, in_query: bool) -> String {
    let end = word.trim_end_matches(is_end);
    let (word, rest) = (end, &word[end.len()..]);
    if let Some(at) = secret_value(word, in_query) {
        return format!("{}******{rest}", without_login(&word[..at]));
    }
    format!("{}{rest}", without_login(word))
}

/// Where in the word the value of a secret begins.
fn secret_value(word: &str, in_query: bool) -> Option<usize> {
    let mut key_at = 0;
    let mut in_query = in_query;
    for (at, c) in word.char_indices() {
        match c {
            '?' => (key_at, in_query) = (at + 1, true),
            '=' => {
                let key = word[key_at..at].to_ascii_lowercase();
                let is = |words: &[&str]| words.iter().any(|word| key.contains(word));
                if is(&SECRET_KEYS) || (in_query && is(&QUERY_KEYS)) {
                    return Some(at + 1);
                }
                key_at = at + 1;
            }
            _ => {}
        }
    }
    None
}

/// `scheme://user:password@host` without the password.
fn without_login(word: &str) -> String {
    if let Some((scheme, behind)) = word.split_once("://") {
        let authority = behind.split('/').next().unwrap_or_default();
        if let Some((login, _)) = authority.rsplit_once('@')
            && let Some((user, _)) = login.split_once(':')
        {
            return format!("{scheme}://{user}:******{}", &behind[login.len()..]);
        }
    }
    word.to_owned()
}

/// One ustar member: POSIX.1-1988 header, content, padding.
fn add(tar: &mut impl Write, name: &str, content: &[u8]) -> io::Result<()> {
    let content = masked(&String::from_utf8_lossy(content)).into_bytes();
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
    tar.write_all(&content)?;
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

    fn unpacked(logs: &str) -> tempfile::TempDir {
        let bytes = STANDARD.decode(logs).expect("base64");
        let folder = tempfile::tempdir().expect("temp dir");
        std::fs::write(folder.path().join("l.tgz"), bytes).expect("written");
        let status =
            std::process::Command::new("tar").args(["-xzf", "l.tgz"]).current_dir(folder.path()).status();
        assert!(status.expect("tar runs").success());
        folder
    }

    #[test]
    fn the_collected_logs_are_a_tar_that_tar_reads() {
        console::say("a line for the log");
        let folder = unpacked(&collect(None).expect("collected"));
        let log = std::fs::read_to_string(folder.path().join("ferric-agent.log")).expect("unpacked");
        assert!(log.contains("a line for the log"));
    }

    #[test]
    fn a_machine_s_logs_show_processes_disks_and_mounts_and_no_secret() {
        let machine = tempfile::tempdir().expect("temp dir");
        let put = |path: &str, content: &str| {
            let path = machine.path().join(path);
            std::fs::create_dir_all(path.parent().expect("below")).expect("dirs");
            std::fs::write(path, content).expect("file");
        };
        put("proc/cmdline", "text ipa-agent-token=t0psecret root=/dev/ram0\n");
        put("proc/mounts", "none / rootfs rw 0 0\n");
        put("proc/7/stat", "7 (ferric agent) S 1 0 0\n");
        put("proc/7/status", "Name:\tferric agent\nVmRSS:\t   4096 kB\n");
        put("proc/7/cmdline", "/bin/ferric-agent\0--password=t0psecret\0");
        put("sys/block/vda/size", "2048\n");
        put("sys/block/vda/vda1/partition", "1\n");
        put("sys/block/vda/vda1/size", "1024\n");
        put("sys/class/net/eth0/address", "52:54:00:aa:bb:01\n");
        put("sys/class/net/eth0/operstate", "up\n");
        let roots = Roots { sys: machine.path().join("sys"), proc: machine.path().join("proc") };
        let folder = unpacked(&collect(Some(&roots)).expect("collected"));
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("member");
        assert_eq!(read("cmdline"), "text ipa-agent-token=****** root=/dev/ram0\n");
        assert!(read("ps").contains("/bin/ferric-agent --password=******"), "{}", read("ps"));
        assert!(read("ps").contains("4096") && read("mount").contains("rootfs"));
        assert!(read("lsblk").contains("vda1") && read("lsblk").contains("1048576"), "{}", read("lsblk"));
        assert!(read("ip_addr").contains("52:54:00:aa:bb:01 up"), "{}", read("ip_addr"));
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        for (text, expected) in [
            ("a ipa-agent-token=xyz b", "a ipa-agent-token=****** b"),
            ("GET http://h/v1?agent_token=xyz&wait=true", "GET http://h/v1?agent_token=******&wait=true"),
            ("http://joe:geheim@host/x", "http://joe:******@host/x"),
            ("http://joe:ge@heim@host/x y", "http://joe:******@host/x y"),
            ("url=http://h/x?token=xyz b", "url=http://h/x?token=****** b"),
            ("http://h/x?a=1&sig=x%2Fy&b=2", "http://h/x?a=1&sig=******&b=2"),
            ("http://joe:geheim@h/x?X-Amz-Signature=x?y", "http://joe:******@h/x?X-Amz-Signature=******"),
            ("key=F1 signal=9", "key=F1 signal=9"),
            ("rescue_password=\"x\" y", "rescue_password=****** y"),
            ("plain  text,\twith=sense\n", "plain  text,\twith=sense\n"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }
}
