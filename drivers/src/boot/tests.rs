//! What the boot interfaces lay out and take away, on a real file system.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ferric_machine::{BootMode, State};
use uuid::Uuid;

use super::*;
use crate::DriverError;
use crate::interface::{
    BootInterface, InstanceBoot, Json, NodeView, PortView, RamdiskParams, RamdiskPurpose,
};

const MAC: &str = "52:54:00:e2:e0:01";

pub(crate) fn node() -> NodeView {
    NodeView {
        uuid: Uuid::from_u128(7),
        name: None,
        driver: "ipmi".to_owned(),
        driver_info: Json::new(),
        driver_internal_info: Json::new(),
        properties: Json::new(),
        instance_info: Json::new(),
        target_raid_config: Json::new(),
        ports: vec![PortView { uuid: Uuid::from_u128(8), address: MAC.to_owned(), pxe_enabled: true }],
        state: State::Deploying,
        power: None,
    }
}

struct Bench {
    dir: tempfile::TempDir,
    settings: Arc<PxeSettings>,
    ports: Arc<PortIndex>,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (kernel, ramdisk) = (dir.path().join("k"), dir.path().join("r"));
    fs::write(&kernel, "kernel").unwrap();
    fs::write(&ramdisk, "ramdisk").unwrap();
    let settings = PxeSettings {
        tftp_root: dir.path().join("tftp"),
        http_root: dir.path().join("http"),
        http_url: "http://10.0.0.1:8080/".to_owned(),
        instance_paths: vec![dir.path().to_owned()],
        deploy_kernel: Some(kernel.to_str().unwrap().to_owned()),
        deploy_ramdisk: Some(format!("file://{}", ramdisk.display())),
        ..PxeSettings::default()
    };
    Bench { dir, settings: Arc::new(settings), ports: Arc::new(PortIndex::default()) }
}

fn params(boot_mode: BootMode) -> RamdiskParams {
    RamdiskParams {
        purpose: RamdiskPurpose::Deploy,
        boot_mode,
        api_url: "http://10.0.0.1:6385".to_owned(),
        kernel_args: Vec::new(),
    }
}

fn mac() -> Mac {
    MAC.parse().unwrap()
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// All names below a folder, without our own cache.
fn names(root: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            } else {
                all.push(entry.path().strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn ipxe_lays_out_script_and_images_and_takes_them_away() {
    let bench = bench();
    let boot = IpxeBoot::new(bench.settings.clone(), bench.ports.clone());
    let node = node();
    boot.validate(&node).unwrap();
    for mode in [BootMode::Bios, BootMode::Uefi] {
        boot.prepare_ramdisk(&node, &params(mode)).await.unwrap();
        let http = &bench.settings.http_root;
        let script = text(http.join("pxelinux.cfg/52-54-00-e2-e0-01"));
        let base = format!("http://10.0.0.1:8080/{}", node.uuid);
        assert!(script.starts_with("#!ipxe\n"), "{script}");
        assert!(script.contains(&format!("kernel {base}/deploy_kernel selinux=0 ")), "{script}");
        assert!(
            script.contains("ipa-api-url=http://10.0.0.1:6385 BOOTIF=${mac} initrd=deploy_ramdisk"),
            "{script}"
        );
        assert_eq!(text(http.join(format!("{}/deploy_kernel", node.uuid))), "kernel");
        assert_eq!(text(http.join(format!("{}/deploy_ramdisk", node.uuid))), "ramdisk");
        assert_eq!(bench.ports.boot(mac()), Some(BootVia::Ipxe));
        assert_eq!(names(http).len(), 5, "{:?}", names(http));
    }
    for _ in 0..2 {
        boot.clean_up_ramdisk(&node).await.unwrap();
        assert_eq!(names(&bench.settings.http_root), Vec::<String>::new());
        assert_eq!(bench.ports.boot(mac()), None);
    }
}

#[tokio::test]
async fn pxe_speaks_pxelinux_on_bios_and_grub_on_uefi() {
    let bench = bench();
    let boot = PxeBoot::new(bench.settings.clone(), bench.ports.clone());
    let node = node();
    let tftp = &bench.settings.tftp_root;
    boot.prepare_ramdisk(&node, &params(BootMode::Bios)).await.unwrap();
    let config = text(tftp.join("pxelinux.cfg/01-52-54-00-e2-e0-01"));
    assert!(config.contains(&format!("kernel {}/deploy_kernel\n", node.uuid)), "{config}");
    assert!(config.contains("ipappend 2"), "{config}");
    assert!(!tftp.join(format!("{MAC}.conf")).exists());

    boot.prepare_ramdisk(&node, &params(BootMode::Uefi)).await.unwrap();
    for name in
        ["grub.cfg-01-52-54-00-e2-e0-01", "grub/grub.cfg-01-52-54-00-e2-e0-01", "52:54:00:e2:e0:01.conf"]
    {
        let config = text(tftp.join(name));
        assert!(config.contains(&format!("linux /{}/deploy_kernel ", node.uuid)), "{config}");
    }
    assert!(!tftp.join("pxelinux.cfg/01-52-54-00-e2-e0-01").exists());
    boot.clean_up_ramdisk(&node).await.unwrap();
    assert_eq!(names(tftp), Vec::<String>::new());
}

#[tokio::test]
async fn after_a_restart_the_index_knows_what_is_laid_out() {
    let bench = bench();
    let node = node();
    let boot = IpxeBoot::new(bench.settings.clone(), bench.ports.clone());
    boot.prepare_ramdisk(&node, &params(BootMode::Uefi)).await.unwrap();
    let fresh = Arc::new(PortIndex::default());
    rebuild_index(&bench.settings, &fresh).await.unwrap();
    assert_eq!(fresh.boot(mac()), Some(BootVia::Ipxe));
    boot.clean_up_ramdisk(&node).await.unwrap();
    let fresh = Arc::new(PortIndex::default());
    rebuild_index(&bench.settings, &fresh).await.unwrap();
    assert_eq!(fresh.boot(mac()), None);
}

#[tokio::test]
async fn a_replaced_port_loses_its_link_and_a_moved_one_keeps_the_new_nodes() {
    let bench = bench();
    let boot = IpxeBoot::new(bench.settings.clone(), bench.ports.clone());
    let (mut first, mut second) = (node(), node());
    second.uuid = Uuid::from_u128(9);
    boot.prepare_ramdisk(&first, &params(BootMode::Bios)).await.unwrap();
    first.ports[0].address = "52:54:00:e2:e0:02".to_owned();
    boot.prepare_ramdisk(&first, &params(BootMode::Bios)).await.unwrap();
    let links = bench.settings.http_root.join("pxelinux.cfg");
    assert_eq!(names(&links), ["52-54-00-e2-e0-02"]);
    assert_eq!(bench.ports.boot(mac()), None);
    second.ports[0].address = "52:54:00:e2:e0:02".to_owned();
    boot.prepare_ramdisk(&second, &params(BootMode::Bios)).await.unwrap();
    boot.clean_up_ramdisk(&first).await.unwrap();
    assert!(text(links.join("52-54-00-e2-e0-02")).contains(&second.uuid.to_string()));
}

#[test]
fn what_is_missing_is_named_before_the_machine_is_touched() {
    let bench = bench();
    let boot = |settings: PxeSettings| IpxeBoot::new(Arc::new(settings), bench.ports.clone());
    let plain = (*bench.settings).clone();
    let mut lonely = node();
    lonely.ports[0].pxe_enabled = false;
    let error = boot(plain.clone()).validate(&lonely).unwrap_err();
    assert!(error.to_string().contains("pxe_enabled"), "{error}");
    let error = boot(PxeSettings { deploy_kernel: None, ..plain.clone() }).validate(&node()).unwrap_err();
    assert!(error.to_string().contains("deploy_kernel"), "{error}");
    let nowhere = Some("/nowhere/kernel".to_owned());
    let error = boot(PxeSettings { deploy_kernel: nowhere, ..plain.clone() }).validate(&node()).unwrap_err();
    assert!(matches!(&error, DriverError::Image { image, .. } if image == "/nowhere/kernel"), "{error}");
    let error = boot(plain.clone()).validate_ramdisk(&node(), RamdiskPurpose::Rescue).unwrap_err();
    assert!(error.to_string().contains("rescue_kernel"), "{error}");
    let error = boot(PxeSettings { http_url: String::new(), ..plain }).validate(&node()).unwrap_err();
    assert!(error.to_string().contains("http_url"), "{error}");
}

#[tokio::test]
async fn a_missing_loader_is_reported_with_its_package() {
    let bench = bench();
    let mut settings = (*bench.settings).clone();
    settings.loaders_dirs = vec![bench.settings.tftp_root.join("own")];
    fs::create_dir_all(&settings.loaders_dirs[0]).unwrap();
    fs::write(settings.loaders_dirs[0].join("undionly.kpxe"), "u").unwrap();
    fs::write(settings.loaders_dirs[0].join("shimx64.efi.signed"), "s").unwrap();
    let report = install_loaders(&settings).await.unwrap();
    assert_eq!(text(settings.tftp_root.join("undionly.kpxe")), "u");
    assert_eq!(text(settings.tftp_root.join("bootx64.efi")), "s");
    let missing: Vec<&str> = report.missing.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(missing, ["pxelinux.0", "ldlinux.c32", "grubx64.efi", "snponly.efi"]);
    assert!(report.missing[3].1.contains("apt-get install ipxe"), "{:?}", report.missing);
    assert!(text(settings.http_root.join("boot.ipxe")).contains("chain pxelinux.cfg/${mac:hexhyp}"));
}

#[tokio::test]
async fn an_instance_that_boots_over_the_network_takes_the_place_of_the_ramdisk() {
    let bench = bench();
    let instance = InstanceBoot {
        kernel: bench.settings.deploy_kernel.clone().unwrap(),
        ramdisk: bench.settings.deploy_ramdisk.clone().unwrap(),
        kernel_args: vec!["root=/dev/ram0".to_owned(), "quiet".to_owned()],
        disk: None,
    };
    let node = node();
    let boot = IpxeBoot::new(bench.settings.clone(), bench.ports.clone());
    boot.prepare_ramdisk(&node, &params(BootMode::Uefi)).await.unwrap();
    boot.prepare_instance(&node, &instance, BootMode::Uefi).await.unwrap();
    let http = &bench.settings.http_root;
    let script = text(http.join("pxelinux.cfg/52-54-00-e2-e0-01"));
    let kernel = format!("kernel http://10.0.0.1:8080/{}/kernel ", node.uuid);
    assert!(script.contains(&kernel), "{script}");
    assert!(
        script.contains("text nofb vga=normal root=/dev/ram0 quiet BOOTIF=${mac} initrd=ramdisk"),
        "{script}"
    );
    assert!(!script.contains("ipa-api-url"), "{script}");
    assert_eq!(text(http.join(format!("{}/ramdisk", node.uuid))), "ramdisk");
    boot.clean_up_ramdisk(&node).await.unwrap();
    assert_eq!(names(http), Vec::<String>::new());

    let boot = PxeBoot::new(bench.settings.clone(), bench.ports.clone());
    let tftp = &bench.settings.tftp_root;
    boot.prepare_instance(&node, &instance, BootMode::Bios).await.unwrap();
    let config = text(tftp.join("pxelinux.cfg/01-52-54-00-e2-e0-01"));
    assert!(config.contains(&format!("append initrd={}/ramdisk text ", node.uuid)), "{config}");
    boot.prepare_instance(&node, &instance, BootMode::Uefi).await.unwrap();
    let config = text(tftp.join(format!("{MAC}.conf")));
    assert!(config.contains("root=/dev/ram0 quiet BOOTIF=$net_default_mac"), "{config}");

    let bad = InstanceBoot { kernel_args: vec!["a\nb".to_owned()], ..instance };
    let error = boot.prepare_instance(&node, &bad, BootMode::Bios).await.unwrap_err();
    assert!(matches!(error, DriverError::Invalid { .. }), "{error}");
}

#[tokio::test]
async fn an_instance_cannot_name_any_file_of_this_host() {
    let bench = bench();
    let boot = IpxeBoot::new(bench.settings.clone(), bench.ports.clone());
    let allowed = bench.settings.deploy_kernel.clone().unwrap();
    for file in
        ["/etc/passwd", "file:///etc/passwd", &format!("{}/../../etc/passwd", bench.dir.path().display())]
    {
        let instance = InstanceBoot {
            kernel: file.to_owned(),
            ramdisk: allowed.clone(),
            kernel_args: Vec::new(),
            disk: None,
        };
        let error = boot.prepare_instance(&node(), &instance, BootMode::Uefi).await.unwrap_err();
        assert!(error.to_string().contains("file_url_allowed_paths"), "{file}: {error}");
    }
    let link = bench.dir.path().join("link");
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    let instance = InstanceBoot {
        kernel: link.display().to_string(),
        ramdisk: allowed,
        kernel_args: Vec::new(),
        disk: None,
    };
    assert!(boot.prepare_instance(&node(), &instance, BootMode::Uefi).await.is_err(), "a link leads out");
}

#[tokio::test]
async fn an_instance_is_led_to_its_disk_over_the_network() {
    let bench = bench();
    let node = node();
    let disk = InstanceBoot { disk: Some("0x1234abcd".to_owned()), ..InstanceBoot::default() };
    let (pxe, ipxe) = (
        PxeBoot::new(bench.settings.clone(), bench.ports.clone()),
        IpxeBoot::new(bench.settings.clone(), bench.ports.clone()),
    );
    let config = |root: &Path| fs::read_to_string(root.join(node.uuid.to_string()).join("config")).unwrap();
    pxe.prepare_instance(&node, &disk, BootMode::Bios).await.unwrap();
    let text = config(&bench.settings.tftp_root);
    assert!(text.contains("chain.c32") && text.contains("append mbr:0x1234abcd"), "{text}");
    pxe.prepare_instance(&node, &disk, BootMode::Uefi).await.unwrap();
    let text = config(&bench.settings.tftp_root);
    assert!(text.contains("chainloader /EFI/BOOT/BOOTX64.EFI"), "{text}");
    ipxe.prepare_instance(&node, &disk, BootMode::Bios).await.unwrap();
    let text = config(&bench.settings.http_root);
    assert!(text.contains("sanboot --no-describe"), "{text}");
    let harm = InstanceBoot { disk: Some("0x1\nboot".to_owned()), ..InstanceBoot::default() };
    assert!(matches!(
        pxe.prepare_instance(&node, &harm, BootMode::Bios).await,
        Err(DriverError::Invalid { .. })
    ));
}
