//! The hooks of in-band inspection (deploy.md §D): what the ramdisk sent becomes fields and ports of the node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::settings::{AddPorts, InspectSettings, KeepPorts};
use super::subject::Subject;
use super::{hints, lldp};
use crate::error::DriverError;
use crate::interface::{Json, Result};
use crate::protocol::dhcp::Mac;

/// A hook by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are Ironic's own
pub enum Hook {
    RamdiskError,
    ValidateInterfaces,
    Ports,
    Architecture,
    Accelerators,
    BootMode,
    CpuCapabilities,
    ExtraHardware,
    LocalLinkConnection,
    Memory,
    ParseLldp,
    PciDevices,
    PhysicalNetwork,
    RaidDevice,
    RootDevice,
}

impl Hook {
    /// All of them.
    pub const ALL: [Hook; 15] = [
        Hook::RamdiskError,
        Hook::ValidateInterfaces,
        Hook::Ports,
        Hook::Architecture,
        Hook::Accelerators,
        Hook::BootMode,
        Hook::CpuCapabilities,
        Hook::ExtraHardware,
        Hook::LocalLinkConnection,
        Hook::Memory,
        Hook::ParseLldp,
        Hook::PciDevices,
        Hook::PhysicalNetwork,
        Hook::RaidDevice,
        Hook::RootDevice,
    ];

    /// Its word in `[inspector] hooks`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Hook::RamdiskError => "ramdisk-error",
            Hook::ValidateInterfaces => "validate-interfaces",
            Hook::Ports => "ports",
            Hook::Architecture => "architecture",
            Hook::Accelerators => "accelerators",
            Hook::BootMode => "boot-mode",
            Hook::CpuCapabilities => "cpu-capabilities",
            Hook::ExtraHardware => "extra-hardware",
            Hook::LocalLinkConnection => "local-link-connection",
            Hook::Memory => "memory",
            Hook::ParseLldp => "parse-lldp",
            Hook::PciDevices => "pci-devices",
            Hook::PhysicalNetwork => "physical-network",
            Hook::RaidDevice => "raid-device",
            Hook::RootDevice => "root-device",
        }
    }

    /// The hook whose result it needs.
    pub(super) const fn needs(self) -> Option<Hook> {
        match self {
            Hook::Ports | Hook::LocalLinkConnection | Hook::PhysicalNetwork => Some(Hook::ValidateInterfaces),
            Hook::RamdiskError
            | Hook::ValidateInterfaces
            | Hook::Architecture
            | Hook::Accelerators
            | Hook::BootMode
            | Hook::CpuCapabilities
            | Hook::ExtraHardware
            | Hook::Memory
            | Hook::ParseLldp
            | Hook::PciDevices
            | Hook::RaidDevice
            | Hook::RootDevice => None,
        }
    }

    /// Whether it looks at the data before any hook changes something.
    const fn is_check(self) -> bool {
        matches!(self, Hook::RamdiskError | Hook::ValidateInterfaces)
    }

    fn run(self, settings: &InspectSettings, subject: &mut Subject) -> Result<()> {
        match self {
            Hook::RamdiskError => ramdisk_error(subject),
            Hook::ValidateInterfaces => validate_interfaces(settings, subject),
            Hook::Ports => {
                ports(settings, subject);
                Ok(())
            }
            Hook::Architecture => architecture(subject),
            Hook::Memory => memory(subject),
            Hook::RootDevice => root_device(settings, subject),
            Hook::Accelerators => accelerators(settings, subject),
            Hook::BootMode => boot_mode(subject),
            Hook::CpuCapabilities => cpu_capabilities(settings, subject),
            Hook::ExtraHardware => extra_hardware(settings, subject),
            Hook::LocalLinkConnection => local_link_connection(subject),
            Hook::ParseLldp => parse_lldp(subject),
            Hook::PciDevices => pci_devices(settings, subject),
            Hook::PhysicalNetwork => physical_network(settings, subject),
            Hook::RaidDevice => raid_device(subject),
        }
    }
}

impl std::str::FromStr for Hook {
    type Err = ferric_machine::UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, Self::Err> {
        Hook::ALL
            .into_iter()
            .find(|hook| hook.as_str() == word)
            .ok_or_else(|| ferric_machine::UnknownWord { what: "inspection hook", word: word.to_owned() })
    }
}

/// Runs all of `hooks`: the checks first, then the others, each in order.
pub(super) fn run(hooks: &[Hook], settings: &InspectSettings, subject: &mut Subject) -> Result<()> {
    for hook in hooks.iter().filter(|hook| hook.is_check()) {
        hook.run(settings, subject)?;
    }
    for hook in hooks.iter().filter(|hook| !hook.is_check()) {
        hook.run(settings, subject)?;
    }
    Ok(())
}

fn bad_inventory(subject: &Subject, reason: &str) -> DriverError {
    DriverError::Inspection { reason: format!("Inventory for node {} is invalid: {reason}", subject.uuid) }
}

fn failure(reason: &str) -> DriverError {
    DriverError::Inspection { reason: format!("Failed to inspect hardware. Reason: {reason}") }
}

fn ramdisk_error(subject: &mut Subject) -> Result<()> {
    match subject.plugin_data.get("error") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(()),
        Some(Value::String(text)) if text.is_empty() => Ok(()),
        Some(Value::String(text)) => Err(failure(&format!("Ramdisk reported error: {text}"))),
        Some(other) => Err(failure(&format!("Ramdisk reported error: {other}"))),
    }
}

/// A MAC in lower case with colons; `None` when it is none.
fn mac(text: &str) -> Option<String> {
    text.trim().replace('-', ":").parse::<Mac>().ok().map(|mac| mac.to_string())
}

/// Whether an address can be one card's own: it is there, and no group's.
fn is_own(mac: &str) -> bool {
    let group =
        mac.get(..2).and_then(|first| u8::from_str_radix(first, 16).ok()).is_none_or(|first| first & 1 == 1);
    !group && mac != "00:00:00:00:00:00"
}

/// The card that the ramdisk was booted from; also in pxelinux' form, `01-aa-bb-cc-dd-ee-ff`.
fn boot_mac(inventory: &Json) -> Option<String> {
    let text = inventory.get("boot")?.get("pxe_interface")?.as_str()?;
    mac(text).or_else(|| mac(text.split_once('-')?.1))
}

fn validate_interfaces(settings: &InspectSettings, subject: &mut Subject) -> Result<()> {
    let Some(listed) = subject.inventory.get("interfaces").and_then(Value::as_array) else {
        return Err(bad_inventory(subject, "no interfaces present in inventory"));
    };
    let booted = boot_mac(&subject.inventory);
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    for card in listed.iter().filter_map(Value::as_object) {
        let name = card.get("name").and_then(Value::as_str).unwrap_or_default();
        let address = card.get("mac_address").and_then(Value::as_str).and_then(mac);
        let (false, Some(address)) = (name.is_empty(), address) else { continue };
        let mut card = card.clone();
        if let Some(text) = card.get("ipv6_address").and_then(Value::as_str) {
            let without_scope = text.split('%').next().unwrap_or_default().to_owned();
            card.insert("ipv6_address".into(), Value::String(without_scope));
        }
        // without a word about the boot, any of them may be the one
        let pxe = booted.as_ref().is_none_or(|booted| *booted == address);
        card.insert("pxe_enabled".into(), json!(pxe));
        card.insert("mac_address".into(), json!(address));
        all.insert(name.to_owned(), Value::Object(card));
    }
    if all.is_empty() {
        return Err(bad_inventory(subject, "no valid network interfaces"));
    }
    let wanted = |name: &str, card: &Value| {
        let address = ["ipv4_address", "ipv6_address"]
            .iter()
            .filter_map(|key| card.get(*key).and_then(Value::as_str))
            .find(|text| !text.is_empty());
        let local = address.and_then(|text| text.parse::<IpAddr>().ok()).is_some_and(|ip| ip.is_loopback());
        if name == "lo" || local {
            return false;
        }
        match settings.add_ports {
            AddPorts::Pxe => booted.is_none() || card["pxe_enabled"] == json!(true),
            AddPorts::Active => address.is_some(),
            AddPorts::All | AddPorts::Disabled => true,
        }
    };
    let valid: BTreeMap<String, Value> = all
        .iter()
        .filter(|(name, card)| wanted(name, card))
        .map(|(name, card)| (name.clone(), card.clone()))
        .collect();
    if valid.is_empty() {
        let reason = format!(
            "no network interfaces match the configuration (add_ports set to \"{}\")",
            settings.add_ports.as_str()
        );
        return Err(bad_inventory(subject, &reason));
    }
    let macs: Vec<Value> = valid.values().map(|card| card["mac_address"].clone()).collect();
    subject.plugin_data.insert("all_interfaces".into(), json!(all));
    subject.plugin_data.insert("valid_interfaces".into(), json!(valid));
    subject.plugin_data.insert("macs".into(), Value::Array(macs));
    Ok(())
}

/// The cards that `validate-interfaces` put under `key`.
fn cards(subject: &Subject, key: &str) -> Vec<Json> {
    let cards = subject.plugin_data.get(key).and_then(Value::as_object);
    cards.into_iter().flat_map(Json::values).filter_map(Value::as_object).cloned().collect()
}

fn text<'a>(card: &'a Json, key: &str) -> &'a str {
    card.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn ports(settings: &InspectSettings, subject: &mut Subject) {
    let (all, valid) = (cards(subject, "all_interfaces"), cards(subject, "valid_interfaces"));
    let addresses =
        |cards: &[Json]| cards.iter().map(|card| text(card, "mac_address").to_owned()).collect::<Vec<_>>();
    let expected = match settings.keep_ports {
        KeepPorts::All => None,
        KeepPorts::Present => Some(addresses(&all)),
        KeepPorts::Added => Some(addresses(&valid)),
    };
    let boot_is_known = boot_mac(&subject.inventory).is_some();
    for port in &mut subject.ports {
        if expected.as_ref().is_some_and(|expected| !expected.contains(&port.address)) {
            port.gone = true;
            continue;
        }
        let card = all.iter().find(|card| text(card, "mac_address") == port.address);
        // where nobody knows what the machine booted from, no port is disabled for it
        if settings.update_pxe_enabled && boot_is_known {
            port.pxe_enabled = card.is_some_and(|card| card.get("pxe_enabled") == Some(&json!(true)));
        }
        if let Some(id) =
            card.map(|card| text(card, "client_id")).filter(|id| !id.is_empty() && id.len() <= 255)
        {
            port.extra.insert("client-id".into(), json!(id));
        }
    }
    if settings.add_ports == AddPorts::Disabled {
        return;
    }
    for card in valid.iter().filter(|card| is_own(text(card, "mac_address"))) {
        let known = subject.ports.iter().any(|port| port.address == text(card, "mac_address"));
        if !known {
            let port = subject.port_with(text(card, "mac_address"));
            port.pxe_enabled = card.get("pxe_enabled") == Some(&json!(true));
            let id = text(card, "client_id");
            if !id.is_empty() && id.len() <= 255 {
                port.extra.insert("client-id".into(), json!(id));
            }
        }
    }
}

/// A short word without anything that means something elsewhere.
fn is_word(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

fn architecture(subject: &mut Subject) -> Result<()> {
    let cpu = subject.inventory.get("cpu").cloned().unwrap_or(Value::Null);
    match cpu.get("architecture").and_then(Value::as_str).filter(|text| is_word(text)) {
        Some(architecture) => {
            subject.set_property("cpu_arch", json!(architecture));
            Ok(())
        }
        None => {
            let reason = format!(
                "Inventory has malformed or missing CPU architecture information: {cpu} for node {}.",
                subject.uuid
            );
            Err(bad_inventory(subject, &reason))
        }
    }
}

fn memory(subject: &mut Subject) -> Result<()> {
    let memory = subject.inventory.get("memory").cloned().unwrap_or(Value::Null);
    match memory.get("physical_mb").and_then(Value::as_u64) {
        Some(mib) => {
            subject.set_property("memory_mb", json!(mib));
            Ok(())
        }
        None => {
            let reason =
                format!("Inventory has missing memory information: {memory} for node {}.", subject.uuid);
            Err(bad_inventory(subject, &reason))
        }
    }
}

fn root_device(settings: &InspectSettings, subject: &mut Subject) -> Result<()> {
    let hints = subject.properties().get("root_device").and_then(Value::as_object).cloned();
    if let Some(hints) = hints.filter(|hints| !hints.is_empty()) {
        let mut disks = subject.inventory.get("disks").and_then(Value::as_array).cloned().unwrap_or_default();
        let skip = subject.properties().get("skip_block_devices").and_then(Value::as_array);
        for skipped in skip.into_iter().flatten().filter_map(Value::as_object) {
            disks.retain(|disk| !hints::fits(skipped, disk));
        }
        let found = hints::find(&hints, &disks).map_err(|error| {
            failure(&format!(
                "No disks could be found using root device hints {} for node {} because they failed to \
                 validate. Error: {error}",
                Value::Object(hints.clone()),
                subject.uuid
            ))
        })?;
        let disk = found.cloned().ok_or_else(|| {
            failure(&format!("No disks satisfied root device hints for node {}", subject.uuid))
        })?;
        subject.plugin_data.insert("root_disk".into(), disk);
    }
    let bytes = subject.plugin_data.get("root_disk").and_then(|disk| disk.get("size")?.as_u64()).unwrap_or(0);
    let gib = match bytes >> 30 {
        0 => 0,
        gib if settings.disk_partitioning_spacing => gib - 1,
        gib => gib,
    };
    subject.plugin_data.insert("local_gb".into(), json!(gib));
    subject.set_property("local_gb", json!(gib));
    Ok(())
}

/// The PCI devices, wherever the ramdisk put them.
fn devices(subject: &Subject) -> Option<Vec<Json>> {
    let listed = [&subject.plugin_data, &subject.inventory]
        .into_iter()
        .find_map(|data| data.get("pci_devices").and_then(Value::as_array).filter(|all| !all.is_empty()))?;
    Some(listed.iter().filter_map(Value::as_object).cloned().collect())
}

fn accelerators(settings: &InspectSettings, subject: &mut Subject) -> Result<()> {
    let Some(devices) = devices(subject) else {
        tracing::warn!(node = %subject.uuid, "no PCI devices were sent: accelerators stay as they are");
        return Ok(());
    };
    let mut all = Vec::new();
    for device in devices {
        let known = settings.known_accelerators.iter().find(|known| {
            known.vendor_id == text(&device, "vendor_id") && known.device_id == text(&device, "product_id")
        });
        if let Some(known) = known {
            let mut found = serde_json::to_value(known).expect("plain data");
            found["pci_address"] = json!(text(&device, "bus"));
            all.push(found);
        }
    }
    subject.set_property("accelerators", Value::Array(all));
    Ok(())
}

fn boot_mode(subject: &mut Subject) -> Result<()> {
    let mode = subject.inventory.get("boot").and_then(|boot| boot.get("current_boot_mode")?.as_str());
    // it is written into a list with commas and colons
    if let Some(mode) = mode.filter(|mode| matches!(*mode, "bios" | "uefi")).map(str::to_owned) {
        subject.set_capabilities(&[("boot_mode".into(), Some(mode))]);
    }
    Ok(())
}

fn cpu_capabilities(settings: &InspectSettings, subject: &mut Subject) -> Result<()> {
    let flags = subject.inventory.get("cpu").and_then(|cpu| cpu.get("flags")?.as_array());
    let Some(flags) = flags.filter(|flags| !flags.is_empty()) else {
        tracing::warn!(node = %subject.uuid, "no CPU flags were sent: capabilities stay as they are");
        return Ok(());
    };
    let has = |flag: &str| flags.iter().any(|one| one.as_str() == Some(flag));
    let found: Vec<_> = settings
        .cpu_capabilities
        .iter()
        .filter(|(flag, _)| has(flag))
        .map(|(_, name)| (name.clone(), Some("true".to_owned())))
        .collect();
    subject.set_capabilities(&found);
    Ok(())
}

fn pci_devices(settings: &InspectSettings, subject: &mut Subject) -> Result<()> {
    let Some(devices) = devices(subject) else { return Ok(()) };
    let mut found = Vec::new();
    for alias in &settings.pci_device_alias {
        let count = devices.iter().filter(|device| {
            text(device, "vendor_id") == alias.vendor_id && text(device, "product_id") == alias.product_id
        });
        let count = count.count();
        if count > 0 {
            found.push((alias.name.clone(), Some(count.to_string())));
        }
    }
    if !found.is_empty() {
        subject.set_capabilities(&found);
    }
    Ok(())
}

/// The list of lists of hardware-detect becomes objects.
fn extra_hardware(settings: &InspectSettings, subject: &mut Subject) -> Result<()> {
    let Some(data) = subject.plugin_data.get("data") else { return Ok(()) };
    let strict = settings.extra_hardware_strict;
    let rows: Option<Vec<Vec<Value>>> = data.as_array().and_then(|rows| {
        rows.iter().map(|row| row.as_array().filter(|row| !strict || row.len() == 4).cloned()).collect()
    });
    let Some(rows) = rows else {
        tracing::warn!(node = %subject.uuid, "extra hardware data is not in a known form");
        if strict {
            subject.plugin_data.remove("data");
        }
        return Ok(());
    };
    let mut extra = Json::new();
    for row in rows {
        let [kind, which, what, value, ..] = row.as_slice() else { continue };
        let (Some(kind), Some(which), Some(what)) = (kind.as_str(), which.as_str(), what.as_str()) else {
            continue;
        };
        let number = value.as_str().and_then(|text| text.trim().parse::<i64>().ok());
        let value = number.map_or_else(|| value.clone(), |number| json!(number));
        let group = extra.entry(kind).or_insert_with(|| json!({}));
        let Some(group) = group.as_object_mut() else { continue };
        let item = group.entry(which).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert(what.to_owned(), value);
        }
    }
    subject.plugin_data.insert("extra".into(), Value::Object(extra));
    subject.plugin_data.remove("data");
    Ok(())
}

/// Cards by name with what their switch said.
fn heard(subject: &Subject) -> Vec<(String, Vec<lldp::Tlv>)> {
    let listed = subject.inventory.get("interfaces").and_then(Value::as_array);
    let raw = subject.plugin_data.get("lldp_raw");
    listed
        .into_iter()
        .flatten()
        .take(64)
        .filter_map(|card| {
            let name = card.get("name")?.as_str()?;
            let apart = raw
                .and_then(|raw| raw.get(name))
                .filter(|tlvs| tlvs.as_array().is_some_and(|t| !t.is_empty()));
            let tlvs = lldp::read(apart.or_else(|| card.get("lldp"))?);
            (!tlvs.is_empty()).then(|| (name.to_owned(), tlvs))
        })
        .collect()
}

fn parse_lldp(subject: &mut Subject) -> Result<()> {
    let parsed: Json =
        heard(subject).into_iter().map(|(name, tlvs)| (name, Value::Object(lldp::parse(&tlvs)))).collect();
    if !parsed.is_empty() {
        subject.plugin_data.insert("parsed_lldp".into(), Value::Object(parsed));
    }
    Ok(())
}

/// The address of a card by name, of those that `validate-interfaces` knows.
fn address_of(subject: &Subject, name: &str) -> Option<String> {
    let card = subject.plugin_data.get("all_interfaces")?.get(name)?;
    card.get("mac_address")?.as_str().map(str::to_owned)
}

fn local_link_connection(subject: &mut Subject) -> Result<()> {
    for (name, tlvs) in heard(subject) {
        let Some(port) = address_of(subject, &name)
            .and_then(|address| subject.ports.iter_mut().find(|port| port.address == address && !port.gone))
        else {
            continue;
        };
        for (key, value) in lldp::local_link(&tlvs) {
            // what an operator wrote is not overwritten
            port.local_link_connection.entry(key).or_insert_with(|| json!(value));
        }
    }
    Ok(())
}

fn physical_network(settings: &InspectSettings, subject: &mut Subject) -> Result<()> {
    for card in cards(subject, "all_interfaces") {
        let network = ["ipv4_address", "ipv6_address"]
            .iter()
            .filter_map(|key| text(&card, key).parse::<IpAddr>().ok())
            .find_map(|address| settings.network_of(address));
        let port = subject.ports.iter_mut().find(|port| port.address == text(&card, "mac_address"));
        if let (Some(port), Some(network)) = (port, network) {
            port.physical_network = Some(network.to_owned());
        }
    }
    Ok(())
}

/// The one disk that was not there at the inspection before becomes the root device.
fn raid_device(subject: &mut Subject) -> Result<()> {
    if subject.properties().contains_key("root_device") {
        return Ok(());
    }
    let serials = |inventory: &Json| -> Vec<String> {
        let disks = inventory.get("disks").and_then(Value::as_array);
        let serials = disks.into_iter().flatten().filter_map(|disk| disk.get("serial")?.as_str());
        serials.filter(|serial| !serial.is_empty()).map(str::to_owned).collect()
    };
    let Some(before) = subject.previous.as_ref().map(&serials) else { return Ok(()) };
    let new: Vec<String> =
        serials(&subject.inventory).into_iter().filter(|serial| !before.contains(serial)).collect();
    match new.as_slice() {
        // as it stands: a serial that begins like an operator is none
        [serial] => subject.set_property("root_device", json!({"serial": format!("s== {serial}")})),
        all => tracing::warn!(node = %subject.uuid, disks = all.len(),
            "the root device is not identified: exactly one disk has to be new"),
    }
    Ok(())
}
