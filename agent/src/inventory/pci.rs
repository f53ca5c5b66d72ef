//! PCI devices, from sysfs.

use std::fs;
use std::io;
use std::path::Path;

use ferric_agent_wire::PciDevice;

use super::text;

/// All, by their place on the bus. Errors: the folder of devices cannot be read.
pub fn devices(sys: &Path) -> io::Result<Vec<PciDevice>> {
    let mut devices: Vec<PciDevice> = fs::read_dir(sys.join("bus/pci/devices"))?
        .flatten()
        .filter_map(|entry| {
            let hex = |name: &str| Some(text(&entry.path().join(name))?.strip_prefix("0x")?.to_owned());
            Some(PciDevice {
                vendor_id: hex("vendor")?,
                product_id: hex("device")?,
                class: Some(hex("class")?),
                revision: hex("revision"),
                bus: entry.file_name().to_string_lossy().into_owned(),
                numa_node_id: text(&entry.path().join("numa_node")),
            })
        })
        .collect();
    devices.sort_by(|a, b| a.bus.cmp(&b.bus));
    Ok(devices)
}
