//! What a machine boots into: the kernel line that was laid out for it, inspection, rescue.

use ferric_machine::BootDevice;
use ferric_sim::{BootSource, Fleet, MachineFaults, Phase};
use serde_json::json;

use crate::stage::{Conductor, NODE, booted, options, post, until};

fn script(api: &str, more: &str) -> String {
    format!(
        "#!ipxe\nkernel {api}/k text ipa-api-url={api} {more} BOOTIF=${{mac}} initrd=r || goto failed\nboot\n"
    )
}

fn inspecting(api: &str) -> String {
    script(api, &format!("ipa-inspection-callback-url={api}/v1/continue_inspection"))
}

async fn machine_that_boots_from(
    conductor: &Conductor,
    faults: MachineFaults,
) -> (Fleet, std::sync::Arc<ferric_sim::Machine>) {
    let fleet = Fleet::start(options(faults)).await.unwrap();
    fleet.set_boot_source(BootSource::Url(format!("{}/boot", conductor.url)));
    let machine = fleet.machines()[0].clone();
    machine.set_boot_device(BootDevice::Pxe, false);
    machine.power_on();
    (fleet, machine)
}

#[tokio::test]
async fn a_kernel_line_that_wants_an_inspection_gets_one_and_the_answers_id_is_looked_up() {
    let mut conductor = Conductor::start().await;
    conductor.told.lock().unwrap().script = Some(inspecting(&conductor.url));
    conductor.told.lock().unwrap().busy = 2; // a boot server and an API that are busy are asked again
    let (_fleet, machine) = machine_that_boots_from(&conductor, MachineFaults::default()).await;
    conductor.heartbeat().await;
    let told = conductor.told.lock().unwrap();
    let [data] = told.inspected.as_slice() else { panic!("{:?}", told.inspected) };
    assert_eq!(data["error"], json!(null));
    assert_eq!(data["boot_interface"], machine.mac);
    let inventory = data["inventory"].as_object().unwrap();
    let keys: Vec<_> = inventory.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "bmc_address",
            "bmc_mac",
            "bmc_v6address",
            "boot",
            "cpu",
            "disks",
            "hostname",
            "interfaces",
            "memory",
            "system_vendor"
        ]
    );
    assert_eq!(inventory["interfaces"][0]["mac_address"], machine.mac);
    let address: std::net::IpAddr =
        inventory["interfaces"][0]["ipv4_address"].as_str().unwrap().parse().unwrap();
    assert!(!address.is_loopback(), "an inspection leaves loopback interfaces out");
    assert_eq!(inventory["disks"][0]["size"], 1 << 20);
    assert_eq!(inventory["bmc_address"], machine.bmc_address().ip().to_string());
    assert!(told.lookups.last().unwrap().ends_with(&format!("node_uuid={NODE}")), "{:?}", told.lookups);
}

#[tokio::test]
async fn a_failing_inspection_tells_its_error() {
    let mut conductor = Conductor::start().await;
    conductor.told.lock().unwrap().script = Some(inspecting(&conductor.url));
    let faults = MachineFaults { inspection_error: 1, ..MachineFaults::default() };
    let (_fleet, _machine) = machine_that_boots_from(&conductor, faults).await;
    conductor.heartbeat().await;
    let told = conductor.told.lock().unwrap();
    assert!(told.inspected[0]["error"].as_str().unwrap().contains("simulated"), "{:?}", told.inspected);
}

#[tokio::test]
async fn a_line_without_a_callback_inspects_nothing() {
    let mut conductor = Conductor::start().await;
    conductor.told.lock().unwrap().script = Some(script(&conductor.url, ""));
    let (_fleet, machine) = machine_that_boots_from(&conductor, MachineFaults::default()).await;
    conductor.heartbeat().await;
    assert!(conductor.told.lock().unwrap().inspected.is_empty());
    assert_eq!(machine.view().phase, Phase::Ramdisk);
}

#[tokio::test]
async fn a_machine_for_which_nothing_is_laid_out_finds_no_ramdisk() {
    let conductor = Conductor::start().await;
    let (_fleet, machine) = machine_that_boots_from(&conductor, MachineFaults::default()).await;
    until(&machine, |view| matches!(view.phase, Phase::Stuck(why) if why.contains("network"))).await;
    assert!(conductor.told.lock().unwrap().lookups.is_empty());
}

#[tokio::test]
async fn boot_files_are_found_in_the_folders_that_a_boot_server_would_serve() {
    let mut conductor = Conductor::start().await;
    let (empty, tftp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fleet = Fleet::start(options(MachineFaults::default())).await.unwrap();
    fleet.set_boot_source(BootSource::Folders(vec![empty.path().into(), tftp.path().into()]));
    let machine = fleet.machines()[0].clone();
    std::fs::create_dir(tftp.path().join("pxelinux.cfg")).unwrap();
    let name = format!("pxelinux.cfg/01-{}", machine.mac.replace(':', "-"));
    let config = format!("default deploy\nlabel deploy\n kernel k\n append ipa-api-url={}\n", conductor.url);
    std::fs::write(tftp.path().join(name), config).unwrap();
    machine.set_boot_device(BootDevice::Pxe, false);
    machine.power_on();
    conductor.heartbeat().await;
}

#[tokio::test]
async fn a_finished_rescue_lets_somebody_in_and_ends_the_agent() {
    let (_fleet, machine, conductor, url) = booted(MachineFaults::default()).await;
    let (status, refused) = post(&url, true, "rescue.finalize_rescue", json!({})).await;
    assert_eq!(status, 400, "{refused}");
    let params = json!({"rescue_password": "$5$salt$hash", "hashed": true});
    let (status, command) = post(&url, true, "rescue.finalize_rescue", params).await;
    assert_eq!((status, &command["command_status"]), (200, &json!("SUCCEEDED")));
    until(&machine, |view| view.phase == Phase::Rescue).await;
    let view = machine.view();
    assert_eq!(view.rescue_password.as_ref().unwrap().reveal(), "$5$salt$hash");
    assert!(!format!("{view:?}").contains("hash\""), "a password is not printed");
    assert!(reqwest::get(format!("{url}/v1/commands/")).await.is_err(), "no agent answers in rescue");
    assert_eq!(conductor.waiting(), 0, "an agent in rescue says no more");
    machine.power_off();
    assert_eq!(machine.view().rescue_password, None);
}
