//! A machine goes from powered off to its own booted image through Ferric: the scenarios of `tests/e2e/run.py`, each a
//! test. They need QEMU and OpenStack's client, which `tests/e2e/install.sh` installs, and they leave nothing behind.

use std::path::Path;
use std::process::Command;

fn scenario(name: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/run.py");
    let status = Command::new("python3")
        .arg(script)
        .args([name, "--ferric", env!("CARGO_BIN_EXE_ferric")])
        .status()
        .expect("python3 is installed");
    assert!(status.success(), "scenario {name}: {status}; its timeline and the ends of the logs are above");
}

#[test]
fn rig_bios_boots_the_image_without_ferric() {
    scenario("rig-bios");
}

#[test]
fn rig_uefi_boots_the_image_without_ferric() {
    scenario("rig-uefi");
}

#[test]
fn bios_by_ipxe_gets_a_qcow2_image() {
    scenario("bios-ipxe");
}

#[test]
fn agent_ipmitool_on_bios_by_plain_pxe_gets_a_gzipped_image() {
    scenario("bios-pxelinux");
}

#[test]
fn uefi_by_the_firmwares_pxe_gets_a_raw_image() {
    scenario("uefi");
}

#[test]
fn the_serial_console_shows_the_machine_start() {
    scenario("console");
}

#[test]
fn faults_before_the_boot_say_what_and_what_to_do() {
    scenario("faults");
}

#[test]
fn pxe_ipmitool_on_bios_is_written_by_iscsi() {
    scenario("iscsi-bios");
}

#[test]
fn pxe_ipmitool_on_uefi_is_written_by_iscsi_through_a_bash_ramdisk() {
    scenario("iscsi-uefi");
}

#[test]
fn pxe_ipmitool_leads_a_partition_image_to_its_disk_over_the_network() {
    scenario("iscsi-netboot");
}

#[test]
fn kill_9_during_an_iscsi_write_goes_on_where_it_was() {
    scenario("iscsi-kill");
}

#[test]
fn kill_9_during_the_image_write_loses_nothing() {
    scenario("kill");
}

#[test]
fn life_on_bios_from_inspection_to_taking_back() {
    scenario("life-bios");
}

#[test]
fn life_on_uefi_from_inspection_to_taking_back() {
    scenario("life-uefi");
}

#[test]
fn ipa_unmodified_deploys_on_bios() {
    scenario("ipa-bios");
}

#[test]
fn ipa_unmodified_deploys_on_uefi() {
    scenario("ipa-uefi");
}
