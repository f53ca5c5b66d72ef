//! What a machine's boot ROM does on the network: it looks for the configuration that the conductor laid out under its
//! MAC address, by the names that iPXE, PXELINUX and GRUB look for, and reads the kernel line in it (deploy.md §B.11).
//! Neither kernel nor ramdisk are loaded. The files come over HTTP, or from the folders that a boot server would serve.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::network::Call;
use crate::world::Machine;

/// The longest configuration that is read.
const LARGEST: usize = 1 << 20;
/// How long a ROM asks a boot server that does not answer.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where machines find what they boot from the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootSource {
    /// Folders that an HTTP or TFTP server would serve; the first that has something for the machine.
    Folders(Vec<PathBuf>),
    /// Base URL of an HTTP boot server.
    Url(String),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NetBoot {
    /// A ramdisk with an agent.
    Ramdisk(KernelLine),
    /// A kernel that is no ramdisk of the conductor's: an instance that boots from the network.
    Instance,
    /// Nothing for this machine, or the order to boot from its disk.
    Nothing,
}

/// The kernel's arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelLine(Vec<String>);

impl KernelLine {
    /// The value of `key=value`; the last one counts, as for a kernel.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        let values = self.0.iter().filter_map(|word| word.split_once('='));
        values.filter(|(name, _)| *name == key).map(|(_, value)| value).next_back()
    }
}

/// Reads a configuration of iPXE, PXELINUX or GRUB.
pub(crate) fn read_config(text: &str) -> NetBoot {
    let mut line = None;
    for words in text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
        match words.as_slice() {
            // PXELINUX names the kernel in a line of its own
            ["append" | "APPEND", args @ ..] => {
                line = Some(args.to_vec());
                break;
            }
            ["kernel" | "KERNEL" | "linux" | "linuxefi", _, args @ ..] if line.is_none() => {
                line = Some(args.to_vec());
            }
            _ => {}
        }
    }
    let Some(args) = line else { return NetBoot::Nothing };
    let line = KernelLine(args.into_iter().map(str::to_owned).collect());
    if line.value("ipa-api-url").is_some() { NetBoot::Ramdisk(line) } else { NetBoot::Instance }
}

/// The names under which loaders look for a machine's configuration: iPXE, PXELINUX, GRUB.
fn names(mac: &str) -> [String; 4] {
    let dashed = mac.replace(':', "-");
    [
        format!("pxelinux.cfg/{dashed}"),
        format!("pxelinux.cfg/01-{dashed}"),
        format!("grub.cfg-01-{dashed}"),
        format!("{mac}.conf"),
    ]
}

/// Looks for what is laid out for the machine.
pub(crate) async fn net_boot(machine: &Machine, source: &BootSource) -> NetBoot {
    match source {
        BootSource::Folders(folders) => {
            for folder in folders {
                for name in names(&machine.mac) {
                    if let Some(text) = read_file(&folder.join(name)).await {
                        return read_config(&text);
                    }
                }
            }
            NetBoot::Nothing
        }
        BootSource::Url(url) => {
            let [name, ..] = names(&machine.mac);
            let url = format!("{}/{name}", url.trim_end_matches('/'));
            match fetch(machine, &url).await {
                Some(text) => read_config(&text),
                None => NetBoot::Nothing,
            }
        }
    }
}

async fn read_file(path: &Path) -> Option<String> {
    match tokio::fs::read(path).await {
        Ok(bytes) if bytes.len() <= LARGEST => String::from_utf8(bytes).ok(),
        Ok(_) => None,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "a boot configuration cannot be read");
            }
            None
        }
    }
}

/// Asks until the server answers; `None` when it has nothing, or was silent for too long.
async fn fetch(machine: &Machine, url: &str) -> Option<String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut wait = Duration::from_millis(250);
    while tokio::time::Instant::now() < deadline {
        let call = Call { url: url.to_owned(), version: None, body: None };
        match machine.world.network.call(call).await {
            Ok(answer) if answer.is_success() => {
                let text = String::from_utf8_lossy(&answer.body);
                return (text.len() <= LARGEST).then(|| text.into_owned());
            }
            Ok(answer) if (400..500).contains(&answer.status) => return None,
            Ok(answer) => {
                tracing::debug!(machine = machine.name, status = answer.status, "no boot script");
            }
            Err(reason) => tracing::debug!(machine = machine.name, reason, "no boot server"),
        }
        tokio::time::sleep(wait.mul_f64(machine.chance(|chance| 0.5 + chance.unit()))).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{KernelLine, NetBoot, read_config};

    fn line(text: &str) -> KernelLine {
        match read_config(text) {
            NetBoot::Ramdisk(line) => line,
            other @ (NetBoot::Instance | NetBoot::Nothing) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_kernel_line_is_read_from_every_loaders_configuration() {
        let args =
            "text ipa-api-url=http://api ipa-inspection-callback-url=http://api/v1/continue_inspection";
        for config in [
            format!(
                "#!ipxe\n:deploy\nkernel http://b/k {args} BOOTIF=${{mac}} initrd=r || goto failed\nboot\n"
            ),
            format!("default deploy\nlabel deploy\n  kernel x/k\n  append initrd=x/r {args}\n  ipappend 2\n"),
            format!("menuentry deploy {{\n  linux /x/k {args} BOOTIF=1\n  initrd /x/r\n}}\n"),
        ] {
            let line = line(&config);
            assert_eq!(line.value("ipa-api-url"), Some("http://api"), "{config}");
            assert_eq!(
                line.value("ipa-inspection-callback-url"),
                Some("http://api/v1/continue_inspection"),
                "{config}"
            );
            assert_eq!(line.value("ipa-debug"), None);
        }
    }

    #[test]
    fn a_kernel_without_an_agent_is_an_instance_and_no_kernel_is_the_disk() {
        assert_eq!(read_config("#!ipxe\nkernel http://b/vmlinuz root=live quiet\nboot\n"), NetBoot::Instance);
        assert_eq!(read_config("#!ipxe\nsanboot --no-describe --drive 0x80\n"), NetBoot::Nothing);
    }
}
