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
    let light = match word(&body["IndicatorLED"]) {
        None => None,
        Some("Lit" | "Blinking") => Some(true),
        Some("Off") => Some(false),
        Some(_) => return wrong("IndicatorLED", &body["IndicatorLED"], "use Lit, Blinking or Off"),
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

/// A property's text; `None` when it is left out. What is no text is none that there is.
fn word(value: &Value) -> Option<&str> {
    if value.is_null() { None } else { Some(value.as_str().unwrap_or_default()) }
}

/// The flags after a change of `Boot`; what it leaves out stays.
fn boot_flags(bmc: &Bmc, boot: &Value) -> Result<BootFlags, Answer> {
    let now = bmc.machine.boot_flags();
    let device = match word(&boot["BootSourceOverrideTarget"]) {
        None => now.boot_device(),
        Some("None") => None,
        Some("Pxe") => Some(BootDevice::Pxe),
        Some("Hdd") => Some(BootDevice::Disk),
        Some("Cd") => Some(BootDevice::Cdrom),
        Some("BiosSetup") => Some(BootDevice::Bios),
        Some(_) => {
            let remedy = format!("use one of {}", TARGETS.join(", "));
            return Err(wrong("BootSourceOverrideTarget", &boot["BootSourceOverrideTarget"], &remedy));
        }
    };
    let persistent = match word(&boot["BootSourceOverrideEnabled"]) {
        None => Some(now.persistent),
        Some("Once") => Some(false),
        Some("Continuous") => Some(true),
        Some("Disabled") => None,
        Some(_) => {
            let given = &boot["BootSourceOverrideEnabled"];
            return Err(wrong("BootSourceOverrideEnabled", given, "use Once, Continuous or Disabled"));
        }
    };
    let mode = match word(&boot["BootSourceOverrideMode"]) {
        None if now.valid && !now.uefi => BootMode::Bios,
        None => BootMode::Uefi,
        Some("UEFI") => BootMode::Uefi,
        Some("Legacy") => BootMode::Bios,
        _ => {
            return Err(wrong(
                "BootSourceOverrideMode",
                &boot["BootSourceOverrideMode"],
                "use UEFI or Legacy",
            ));
        }
    };
    Ok(match (device, persistent) {
        (Some(device), Some(persistent)) => BootFlags::new(device, persistent, mode),
        (None, _) | (_, None) => BootFlags { uefi: mode == BootMode::Uefi, ..BootFlags::default() },
    })
}
