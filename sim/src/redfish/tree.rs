//! What can be read.

use ferric_machine::BootDevice;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Answer, Bmc, no};
use crate::inventory::inventory;

/// Where sessions are made.
pub(super) const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
/// The machine.
pub(super) const SYSTEM: &str = "/redfish/v1/Systems/1";
const CHASSIS: &str = "/redfish/v1/Chassis/1";
/// Its BMC.
pub(super) const MANAGER: &str = "/redfish/v1/Managers/1";
/// The virtual drive.
pub(super) const DRIVE: &str = "/redfish/v1/Managers/1/VirtualMedia/Cd";
/// What Reset takes.
pub(super) const RESETS: [&str; 8] =
    ["On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "ForceOn", "PowerCycle", "Nmi"];
/// What a boot can be overridden with.
pub(super) const TARGETS: [&str; 5] = ["None", "Pxe", "Hdd", "Cd", "BiosSetup"];

/// The resource at a path without its last slash.
pub(super) fn read(bmc: &Bmc, path: &str) -> Answer {
    let Some(rest) = path.strip_prefix("/redfish") else { return unknown(path) };
    let resource = match rest.split('/').skip(1).collect::<Vec<_>>().as_slice() {
        [] => json!({"v1": "/redfish/v1/"}),
        ["v1"] => root(bmc),
        ["v1", "SessionService"] => json!({
            "@odata.id": path, "@odata.type": "#SessionService.v1_1_8.SessionService", "Id": "SessionService",
            "Name": "Session Service", "ServiceEnabled": true, "SessionTimeout": 600, "Sessions": {"@odata.id": SESSIONS},
        }),
        ["v1", "SessionService", "Sessions"] => {
            let numbers: Vec<String> =
                bmc.memory().sessions.iter().map(|(number, _)| number.to_string()).collect();
            collection(path, "Session", &numbers.iter().map(String::as_str).collect::<Vec<_>>())
        }
        ["v1", "SessionService", "Sessions", number] => {
            let there = bmc.memory().sessions.iter().any(|(known, _)| known.to_string() == *number);
            match there {
                true => session(number),
                false => return unknown(path),
            }
        }
        ["v1", "Systems"] => collection(path, "ComputerSystem", &["1"]),
        ["v1", "Systems", "1"] => system(bmc),
        ["v1", "Systems", "1", "EthernetInterfaces"] => collection(path, "EthernetInterface", &["1"]),
        ["v1", "Systems", "1", "EthernetInterfaces", "1"] => json!({
            "@odata.id": path, "@odata.type": "#EthernetInterface.v1_9_0.EthernetInterface", "Id": "1", "Name": "eth0",
            "MACAddress": bmc.machine.mac, "PermanentMACAddress": bmc.machine.mac, "SpeedMbps": 10_000,
            "LinkStatus": "LinkUp", "Status": healthy(),
        }),
        ["v1", "Systems", "1", "Processors"] => collection(path, "Processor", &["1"]),
        ["v1", "Systems", "1", "Processors", "1"] => {
            let cpu = inventory(&bmc.machine).cpu;
            json!({
                "@odata.id": path, "@odata.type": "#Processor.v1_16_0.Processor", "Id": "1", "Name": "Processor",
                "Socket": "CPU 1", "ProcessorType": "CPU", "ProcessorArchitecture": "x86", "InstructionSet": "x86-64",
                "Manufacturer": "Ferric", "Model": cpu.model_name, "MaxSpeedMHz": 2000, "TotalCores": cpu.count,
                "TotalThreads": cpu.count, "Status": healthy(),
            })
        }
        ["v1", "Systems", "1", "Storage"] => collection(path, "Storage", &["1"]),
        ["v1", "Systems", "1", "Storage", "1"] => json!({
            "@odata.id": path, "@odata.type": "#Storage.v1_14_0.Storage", "Id": "1", "Name": "Storage",
            "StorageControllers": [{"@odata.id": format!("{path}#/StorageControllers/0"), "MemberId": "0", "Name": "Controller",
                "Status": healthy()}],
            "Drives": [{"@odata.id": format!("{path}/Drives/1")}], "Status": healthy(),
        }),
        ["v1", "Systems", "1", "Storage", "1", "Drives", "1"] => {
            let disks = inventory(&bmc.machine).disks;
            let disk = disks.first();
            json!({
                "@odata.id": path, "@odata.type": "#Drive.v1_17_0.Drive", "Id": "1", "Name": "Drive",
                "CapacityBytes": disk.map(|disk| disk.size), "MediaType": "SSD", "Protocol": "SATA",
                "Manufacturer": "Ferric", "Model": disk.and_then(|disk| disk.model.clone()),
                "SerialNumber": disk.and_then(|disk| disk.serial.clone()), "Status": healthy(),
            })
        }
        ["v1", "Chassis"] => collection(path, "Chassis", &["1"]),
        ["v1", "Chassis", "1"] => json!({
            "@odata.id": path, "@odata.type": "#Chassis.v1_22_0.Chassis", "Id": "1", "Name": bmc.machine.name,
            "ChassisType": "RackMount", "Manufacturer": "Ferric", "SerialNumber": bmc.machine.name,
            "PowerState": power(bmc), "Status": healthy(),
            "Links": {"ComputerSystems": [{"@odata.id": SYSTEM}], "ManagedBy": [{"@odata.id": MANAGER}]},
        }),
        ["v1", "Managers"] => collection(path, "Manager", &["1"]),
        ["v1", "Managers", "1"] => json!({
            "@odata.id": path, "@odata.type": "#Manager.v1_18_0.Manager", "Id": "1", "Name": "Manager", "ManagerType": "BMC",
            "FirmwareVersion": env!("CARGO_PKG_VERSION"), "Model": "Simulated BMC", "PowerState": "On", "Status": healthy(),
            "VirtualMedia": {"@odata.id": format!("{MANAGER}/VirtualMedia")},
            "Links": {"ManagerForServers": [{"@odata.id": SYSTEM}], "ManagerForChassis": [{"@odata.id": CHASSIS}]},
        }),
        ["v1", "Managers", "1", "VirtualMedia"] => collection(path, "VirtualMedia", &["Cd"]),
        ["v1", "Managers", "1", "VirtualMedia", "Cd"] => drive(bmc),
        _ => return unknown(path),
    };
    Answer::Resource(resource)
}

/// Nothing is there.
pub(super) fn unknown(path: &str) -> Answer {
    no(StatusCode::NOT_FOUND, format!("There is no resource at {path}"))
}

fn healthy() -> Value {
    json!({"State": "Enabled", "Health": "OK"})
}

fn power(bmc: &Bmc) -> &'static str {
    if bmc.machine.is_on() { "On" } else { "Off" }
}

fn collection(path: &str, of: &str, members: &[&str]) -> Value {
    let links: Vec<Value> =
        members.iter().map(|name| json!({"@odata.id": format!("{path}/{name}")})).collect();
    json!({
        "@odata.id": path, "@odata.type": format!("#{of}Collection.{of}Collection"), "Name": format!("{of} Collection"),
        "Members@odata.count": links.len(), "Members": links,
    })
}

/// A UUID that is the machine's in every run: its MAC address in the node part.
fn uuid(bmc: &Bmc) -> String {
    format!("5f657272-6963-4000-8000-{}", bmc.machine.mac.replace(':', ""))
}

fn root(bmc: &Bmc) -> Value {
    json!({
        "@odata.id": "/redfish/v1/", "@odata.type": "#ServiceRoot.v1_15_0.ServiceRoot", "Id": "RootService",
        "Name": "Simulated BMC", "RedfishVersion": "1.15.0", "UUID": uuid(bmc), "Vendor": "Ferric", "Product": "Simulated BMC",
        "Systems": {"@odata.id": "/redfish/v1/Systems"}, "Chassis": {"@odata.id": "/redfish/v1/Chassis"},
        "Managers": {"@odata.id": "/redfish/v1/Managers"}, "SessionService": {"@odata.id": "/redfish/v1/SessionService"},
        "Links": {"Sessions": {"@odata.id": SESSIONS}},
    })
}

/// One who is logged in.
pub(super) fn session(number: &str) -> Value {
    json!({
        "@odata.id": format!("{SESSIONS}/{number}"), "@odata.type": "#Session.v1_5_0.Session", "Id": number,
        "Name": "User Session", "UserName": crate::fleet::BMC_USER,
    })
}

fn system(bmc: &Bmc) -> Value {
    let flags = bmc.machine.boot_flags();
    let target = match flags.boot_device() {
        Some(BootDevice::Pxe) => "Pxe",
        Some(BootDevice::Disk) => "Hdd",
        Some(BootDevice::Cdrom) => "Cd",
        Some(BootDevice::Bios) => "BiosSetup",
        Some(BootDevice::Safe) | None => "None",
    };
    let enabled = match (flags.valid && flags.device != 0, flags.persistent) {
        (false, _) => "Disabled",
        (true, true) => "Continuous",
        (true, false) => "Once",
    };
    let inventory = inventory(&bmc.machine);
    let gib = inventory.memory.total.unwrap_or(0) >> 30;
    json!({
        "@odata.id": SYSTEM, "@odata.type": "#ComputerSystem.v1_20_0.ComputerSystem", "Id": "1", "Name": bmc.machine.name,
        "UUID": uuid(bmc), "SystemType": "Physical", "Manufacturer": inventory.system_vendor.manufacturer,
        "Model": inventory.system_vendor.product_name, "SerialNumber": inventory.system_vendor.serial_number,
        "PowerState": power(bmc), "BiosVersion": env!("CARGO_PKG_VERSION"), "Status": healthy(),
        "IndicatorLED": if bmc.memory().light { "Lit" } else { "Off" },
        "MemorySummary": {"TotalSystemMemoryGiB": gib, "Status": healthy()},
        "ProcessorSummary": {"Count": 1, "CoreCount": inventory.cpu.count, "LogicalProcessorCount": inventory.cpu.count,
            "Model": inventory.cpu.model_name, "Status": healthy()},
        "Boot": {
            "BootSourceOverrideEnabled": enabled,
            "BootSourceOverrideTarget": if enabled == "Disabled" { "None" } else { target },
            "BootSourceOverrideTarget@Redfish.AllowableValues": TARGETS,
            "BootSourceOverrideMode": if flags.uefi || !flags.valid { "UEFI" } else { "Legacy" },
        },
        "Actions": {"#ComputerSystem.Reset": {
            "target": format!("{SYSTEM}/Actions/ComputerSystem.Reset"), "ResetType@Redfish.AllowableValues": RESETS,
        }},
        "EthernetInterfaces": {"@odata.id": format!("{SYSTEM}/EthernetInterfaces")},
        "Processors": {"@odata.id": format!("{SYSTEM}/Processors")},
        "Storage": {"@odata.id": format!("{SYSTEM}/Storage")},
        "Links": {"Chassis": [{"@odata.id": CHASSIS}], "ManagedBy": [{"@odata.id": MANAGER}]},
    })
}

fn drive(bmc: &Bmc) -> Value {
    let medium = bmc.memory().medium.clone();
    let image = medium.as_ref().map(|medium| medium.image.clone());
    let name = image.as_deref().and_then(|image| image.rsplit('/').next()).unwrap_or_default().to_owned();
    json!({
        "@odata.id": DRIVE, "@odata.type": "#VirtualMedia.v1_6_0.VirtualMedia", "Id": "Cd", "Name": "Virtual CD",
        "MediaTypes": ["CD", "DVD"], "Image": image, "ImageName": name,
        "ConnectedVia": if medium.is_some() { "URI" } else { "NotConnected" }, "Inserted": medium.is_some(),
        "WriteProtected": medium.is_none_or(|medium| medium.write_protected),
        "Actions": {
            "#VirtualMedia.InsertMedia": {"target": format!("{DRIVE}/Actions/VirtualMedia.InsertMedia")},
            "#VirtualMedia.EjectMedia": {"target": format!("{DRIVE}/Actions/VirtualMedia.EjectMedia")},
        },
    })
}
