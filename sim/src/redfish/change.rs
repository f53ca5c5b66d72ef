//! What can be changed.

use ferric_drivers::protocol::ipmi::command::BootFlags;
use ferric_machine::{BootDevice, BootMode};
use hyper::StatusCode;
use serde_json::Value;

use super::tree::{self, DRIVE, RESETS, SESSIONS, SYSTEM, TARGETS};
use super::{Answer, Bmc, MOST_SESSIONS, Medium, no, wrong};
use crate::fleet::{BMC_PASSWORD, BMC_USER};

/// Sessions and actions.
pub(super) fn post(bmc: &Bmc, path: &str, body: &Value) -> Answer {
    if path == SESSIONS {
        return log_in(bmc, body);
    }
    let action = path.split_once("/Actions/");
    match action {
        Some((SYSTEM, "ComputerSystem.Reset")) => reset(bmc, body),
        Some((DRIVE, "VirtualMedia.InsertMedia")) => match body["Image"].as_str() {
            Some(image) => {
                let write_protected = body["WriteProtected"].as_bool().unwrap_or(true);
                bmc.memory().medium = Some(Medium { image: image.to_owned(), write_protected });
                Answer::Done
            }
            None => wrong("Image", &body["Image"], "name the image's URL"),
        },
        Some((DRIVE, "VirtualMedia.EjectMedia")) => {
            bmc.memory().medium = None;
            Answer::Done
        }
        Some(_) | None => tree::unknown(path),
    }
}

/// The boot override and the light.
pub(super) fn patch(bmc: &Bmc, path: &str, body: &Value) -> Answer {
    if path != SYSTEM {
        return tree::unknown(path);
    }
    let light = match &body["IndicatorLED"] {
        Value::Null => None,
        Value::String(text) if text == "Lit" || text == "Blinking" => Some(true),
        Value::String(text) if text == "Off" => Some(false),
        other => return wrong("IndicatorLED", other, "use Lit, Blinking or Off"),
    };
    let flags = match body.get("Boot").map(|boot| boot_flags(bmc, boot)).transpose() {
        Ok(flags) => flags,
        Err(refusal) => return refusal,
    };
    if light.is_none() && flags.is_none() {
        return no(
            StatusCode::BAD_REQUEST,
            "There is nothing in the body that can be changed; send Boot or IndicatorLED",
        );
    }
    // all is valid: now it counts
    if let Some(lit) = light {
        bmc.memory().light = lit;
    }
    if let Some(flags) = flags {
        bmc.machine.set_boot_flags(flags);
    }
    Answer::Done
}

/// Logs out.
pub(super) fn delete(bmc: &Bmc, path: &str) -> Answer {
    let number = path
        .strip_prefix(SESSIONS)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(|text| text.parse().ok());
    let Some(number): Option<u64> = number else { return tree::unknown(path) };
    let mut memory = bmc.memory();
    let before = memory.sessions.len();
    memory.sessions.retain(|(known, _)| *known != number);
    if memory.sessions.len() < before { Answer::Done } else { tree::unknown(path) }
}

fn log_in(bmc: &Bmc, body: &Value) -> Answer {
    if body["UserName"] != BMC_USER || body["Password"] != BMC_PASSWORD {
        return no(StatusCode::UNAUTHORIZED, "User name or password is wrong");
    }
    let mut memory = bmc.memory();
    memory.sessions_made += 1;
    let number = memory.sessions_made;
    let token = uuid::Uuid::new_v4().simple().to_string();
    memory.sessions.push_back((number, token.clone()));
    while memory.sessions.len() > MOST_SESSIONS {
        memory.sessions.pop_front();
    }
    Answer::Created {
        location: format!("{SESSIONS}/{number}"),
        token: Some(token),
        body: tree::session(&number.to_string()),
    }
}

fn reset(bmc: &Bmc, body: &Value) -> Answer {
    let machine = &bmc.machine;
    let running = machine.is_on();
    match body["ResetType"].as_str() {
        Some("On" | "ForceOn") => machine.power_on(),
        Some("ForceOff") => machine.power_off(),
        Some("GracefulShutdown") => machine.shut_down_softly(),
        Some("GracefulRestart" | "ForceRestart") if !running => {
            return no(StatusCode::CONFLICT, "The system is off; use On");
        }
        Some("GracefulRestart" | "ForceRestart" | "PowerCycle") => machine.power_cycle(),
        Some("Nmi") => {}
        Some(_) | None => {
            return wrong("ResetType", &body["ResetType"], &format!("use one of {}", RESETS.join(", ")));
        }
    }
    Answer::Done
}

/// The flags after a change of `Boot`; what it leaves out stays.
fn boot_flags(bmc: &Bmc, boot: &Value) -> Result<BootFlags, Answer> {
    let now = bmc.machine.boot_flags();
    let device = match &boot["BootSourceOverrideTarget"] {
        Value::Null => now.boot_device(),
        Value::String(text) => match text.as_str() {
            "None" => None,
            "Pxe" => Some(BootDevice::Pxe),
            "Hdd" => Some(BootDevice::Disk),
            "Cd" => Some(BootDevice::Cdrom),
            "BiosSetup" => Some(BootDevice::Bios),
            _ => {
                let remedy = format!("use one of {}", TARGETS.join(", "));
                return Err(wrong("BootSourceOverrideTarget", &boot["BootSourceOverrideTarget"], &remedy));
            }
        },
        other => return Err(wrong("BootSourceOverrideTarget", other, "it is a string")),
    };
    let persistent = match &boot["BootSourceOverrideEnabled"] {
        Value::Null => Some(now.persistent),
        Value::String(text) if text == "Once" => Some(false),
        Value::String(text) if text == "Continuous" => Some(true),
        Value::String(text) if text == "Disabled" => None,
        other => return Err(wrong("BootSourceOverrideEnabled", other, "use Once, Continuous or Disabled")),
    };
    let mode = match &boot["BootSourceOverrideMode"] {
        Value::Null if now.valid && !now.uefi => BootMode::Bios,
        Value::Null => BootMode::Uefi,
        Value::String(text) if text == "UEFI" => BootMode::Uefi,
        Value::String(text) if text == "Legacy" => BootMode::Bios,
        other => return Err(wrong("BootSourceOverrideMode", other, "use UEFI or Legacy")),
    };
    Ok(match (device, persistent) {
        (Some(device), Some(persistent)) => BootFlags::new(device, persistent, mode),
        (None, _) | (_, None) => BootFlags { uefi: mode == BootMode::Uefi, ..BootFlags::default() },
    })
}
