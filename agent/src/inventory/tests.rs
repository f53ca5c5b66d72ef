use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::disk;

fn put(root: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("dirs");
        fs::write(path, content).expect("file");
    }
}

/// A server with two cards, one of them not plugged in, a bridge, and two disks.
fn machine() -> (TempDir, Roots) {
    let folder = tempfile::tempdir().expect("temp dir");
    let root = folder.path();
    put(
        root,
        &[
            (
                "proc/cpuinfo",
                "processor\t: 0\nphysical id\t: 0\nmodel name\t: Big CPU\ncpu MHz\t\t: 2000.123\nflags\t\t: fpu vmx\n\n\
                 processor\t: 1\nphysical id\t: 0\nmodel name\t: Big CPU\n\nprocessor\t: 2\nphysical id\t: 1\n",
            ),
            ("proc/meminfo", "MemTotal:        2009184 kB\nMemFree: 1 kB\n"),
            ("proc/sys/kernel/hostname", "ramdisk\n"),
            ("sys/class/dmi/id/product_name", "Standard PC\n"),
            ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
            ("sys/class/dmi/id/product_serial", "\n"),
            ("sys/class/dmi/id/bios_version", "1.16.3\n"),
            ("sys/devices/system/memory/block_size_bytes", "8000000\n"),
            ("sys/devices/system/memory/memory0/online", "1\n"),
            ("sys/devices/system/memory/memory1/online", "0\n"),
            ("sys/devices/system/memory/memory2/online", "1\n"),
            ("sys/devices/pci0000:00/0000:00:03.0/net/eth0/address", "52:54:00:AA:BB:01\n"),
            ("sys/devices/pci0000:00/0000:00:03.0/net/eth0/carrier", "1\n"),
            ("sys/devices/pci0000:00/0000:00:03.0/net/eth0/speed", "1000\n"),
            ("sys/devices/pci0000:00/0000:00:03.0/vendor", "0x8086\n"),
            ("sys/devices/pci0000:00/0000:00:03.0/device", "0x100e\n"),
            ("sys/devices/pci0000:00/0000:00:03.0/class", "0x020000\n"),
            ("sys/devices/pci0000:00/0000:00:03.0/revision", "0x03\n"),
            ("sys/devices/pci0000:00/0000:00:04.0/net/eth10/address", "52:54:00:aa:bb:02\n"),
            ("sys/devices/pci0000:00/0000:00:04.0/net/eth10/speed", "-1\n"),
            ("sys/devices/pci0000:00/0000:00:04.0/vendor", "nonsense\n"),
            ("sys/bus/pci/drivers/e1000/bind", ""),
            ("sys/class/net/lo/address", "00:00:00:00:00:00\n"),
            ("sys/class/net/br0/address", "52:54:00:aa:bb:99\n"),
            ("sys/block/vda/size", "20971520\n"),
            ("sys/block/vda/serial", "disk-1\n"),
            ("sys/block/vda/queue/rotational", "1\n"),
            ("sys/block/vda/queue/logical_block_size", "512\n"),
            ("sys/block/vda/queue/physical_block_size", "4096\n"),
        ],
    );
    for (card, slot) in [("eth0", "0000:00:03.0"), ("eth10", "0000:00:04.0")] {
        let device = root.join("sys/devices/pci0000:00").join(slot);
        symlink(&device, device.join("net").join(card).join("device")).expect("link");
        symlink(device.join("net").join(card), root.join("sys/class/net").join(card)).expect("link");
        fs::create_dir_all(root.join("sys/bus/pci/devices")).expect("dirs");
        symlink(&device, root.join("sys/bus/pci/devices").join(slot)).expect("link");
    }
    let device = root.join("sys/devices/pci0000:00/0000:00:03.0");
    symlink(root.join("sys/bus/pci/drivers/e1000"), device.join("driver")).expect("link");
    let roots = Roots { sys: root.join("sys"), proc: root.join("proc") };
    (folder, roots)
}

#[test]
fn the_inventory_of_a_machine_has_its_values_under_the_known_keys() {
    let (folder, roots) = machine();
    let known = Known {
        disks: disk::list(&roots.sys, Path::new("/dev")),
        addresses: vec![
            ("eth0".into(), "10.0.2.15".parse().expect("ip")),
            ("eth0".into(), "fe80::1".parse().expect("ip")),
        ],
        boot_mac: Some("52:54:00:aa:bb:01".into()),
        bmc: Bmc::default(),
    };
    let seen = serde_json::to_value(collect(&roots, &known)).expect("json");
    let expected = serde_json::json!({
        "interfaces": [
            {"name": "eth0", "mac_address": "52:54:00:aa:bb:01", "ipv4_address": "10.0.2.15",
             "ipv6_address": "fe80::1", "has_carrier": true, "lldp": null, "vendor": "0x8086",
             "product": "0x100e", "client_id": null, "biosdevname": null, "speed_mbps": 1000,
             "pci_address": "0000:00:03.0", "driver": "e1000"},
            {"name": "eth10", "mac_address": "52:54:00:aa:bb:02", "ipv4_address": null,
             "ipv6_address": null, "has_carrier": false, "lldp": null, "vendor": "nonsense",
             "product": null, "client_id": null, "biosdevname": null, "speed_mbps": null,
             "pci_address": "0000:00:04.0", "driver": null},
        ],
        "cpu": {"model_name": "Big CPU", "frequency": "2000.123", "count": 3,
                "architecture": std::env::consts::ARCH, "flags": ["fpu", "vmx"], "socket_count": 2},
        "disks": [
            {"name": "/dev/vda", "model": null, "size": 10_737_418_240_u64, "rotational": true, "wwn": null,
             "serial": "disk-1", "vendor": null, "wwn_with_extension": null, "wwn_vendor_extension": null,
             "hctl": null, "by_path": null, "logical_sectors": 512, "physical_sectors": 4096},
        ],
        "memory": {"total": 2_057_404_416_u64, "physical_mb": 256},
        "bmc_address": "0.0.0.0", "bmc_v6address": "::/0",
        "system_vendor": {"product_name": "Standard PC", "serial_number": null, "manufacturer": "QEMU",
                          "firmware": {"vendor": null, "version": "1.16.3", "build_date": null}},
        "boot": {"current_boot_mode": "bios", "pxe_interface": "52:54:00:aa:bb:01"},
        "hostname": "ramdisk",
    });
    assert_eq!(seen, expected);
    fs::create_dir_all(roots.sys.join("firmware/efi")).expect("dirs");
    assert_eq!(boot_mode(&roots.sys), "uefi");
    let pci = pci_devices(&roots.sys).expect("pci");
    assert_eq!(pci.len(), 1, "a device with nonsense for a number is left out: {pci:?}");
    assert_eq!((pci[0].vendor_id.as_str(), pci[0].revision.as_deref()), ("8086", Some("03")));
    drop(folder);
}

#[test]
fn an_empty_machine_is_all_null_and_no_failure() {
    let folder = tempfile::tempdir().expect("temp dir");
    let roots = Roots { sys: folder.path().join("sys"), proc: folder.path().join("proc") };
    let inventory = collect(&roots, &Known::default());
    assert!(inventory.interfaces.is_empty() && inventory.disks.is_empty());
    assert_eq!((inventory.cpu.count, inventory.memory.total, inventory.hostname), (0, None, None));
    assert!(pci_devices(&roots.sys).is_err());
}
