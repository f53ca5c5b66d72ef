//! How bad the states of sensors are (IPMI 2.0 tables 42-2 and 42-3): what the specification leaves to the reader.

use ipmi_rs_core::storage::sdr::SensorType;

use super::command::sensor::{RawThresholds, Reading};
use super::sdr::{SensorRecord, THRESHOLD_EVENTS};
use super::sel::state_name;
use crate::interface::{Health, Sensor, SensorState, Thresholds};

/// Event/reading type of states that depend on the kind of sensor.
const SPECIFIC: u8 = 0x6F;

/// What [`Sensor::kind`] may say of a sensor that a BMC tells (§42.2 table 42-3), those of its maker as `OEM (0xC0)`.
pub fn sensor_kinds() -> impl Iterator<Item = String> {
    (0x01..=0x2C).chain(0xC0..=0xFF).map(|kind| SensorType::from(kind).to_string())
}

/// How bad it is that this state is on.
#[must_use]
pub fn severity(event_type: u8, kind: SensorType, offset: u8) -> Health {
    use Health::{Critical, Ok, Warning};
    match event_type {
        // thresholds, each going low and going high: 0, 1 lower non-critical … 10, 11 upper non-recoverable
        THRESHOLD_EVENTS => match offset {
            0 | 1 | 6 | 7 => Warning,
            _ => Critical,
        },
        // predictive failure, performance lags
        0x04 | 0x06 if offset == 1 => Warning,
        // a limit is exceeded
        0x05 if offset == 1 => Critical,
        // transitions of severity
        0x07 => match offset {
            1 | 4 => Warning,
            2 | 3 | 5 | 6 => Critical,
            _ => Ok,
        },
        // redundancy
        0x0B => match offset {
            0 => Ok,
            5 => Critical,
            _ => Warning,
        },
        SPECIFIC => specific(kind, offset),
        _ => Ok,
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // of ipmi-rs-core; most kinds only tell what is the case
fn specific(kind: SensorType, offset: u8) -> Health {
    use Health::{Critical, Ok, Warning};
    match (kind, offset) {
        (SensorType::ChassisIntrusion | SensorType::PlatformSecurityViolationAttempt, _) => Warning,
        (SensorType::Processor, 0..=6 | 0x0B) => Critical,
        (SensorType::Processor, 8 | 0x0A | 0x0C) => Warning,
        (SensorType::PowerSupply, 1 | 3 | 4 | 6) => Critical,
        (SensorType::PowerSupply, 2 | 5) => Warning,
        (SensorType::PowerUnit, 2..=6) => Critical,
        (SensorType::PowerUnit, 7) => Warning,
        (SensorType::Memory, 1 | 2 | 3 | 7 | 0x0A) => Critical,
        (SensorType::Memory, 0 | 4 | 5 | 9) => Warning,
        (SensorType::DriveSlotBay, 1 | 6) => Critical,
        (SensorType::DriveSlotBay, 2 | 5 | 7 | 8) => Warning,
        (SensorType::SystemFirmwareProgress, 0 | 1) => Critical,
        (SensorType::EventLoggingDisabled, 0 | 1 | 3..=5) => Warning,
        (SensorType::CriticalInterrupt, 4 | 5 | 8..=0x0B) => Critical,
        (SensorType::CriticalInterrupt, _) => Warning,
        (SensorType::ChipSet | SensorType::CableOrInterconnect, 1) => Warning,
        (SensorType::BootError, _) => Warning,
        (SensorType::OsStopOrShutdown, 0 | 1) => Critical,
        (SensorType::SlotOrConnector, 0) => Critical,
        (SensorType::Watchdog2, 0..=3) => Warning,
        (SensorType::ManagementSubSysHealth, 2 | 3 | 5) => Critical,
        (SensorType::ManagementSubSysHealth, _) => Warning,
        (SensorType::Battery, 0) => Warning,
        (SensorType::Battery, 1) => Critical,
        _ => Ok,
    }
}

const fn state_of(health: Health) -> SensorState {
    match health {
        Health::Critical => SensorState::Critical,
        Health::Warning => SensorState::Warning,
        Health::Ok | Health::Unknown => SensorState::Ok,
    }
}

/// The limits in the sensor's unit.
fn limits(record: &SensorRecord) -> Option<Thresholds> {
    if record.event_type != THRESHOLD_EVENTS {
        return None;
    }
    let RawThresholds {
        lower_non_critical,
        lower_critical,
        lower_non_recoverable,
        upper_non_critical,
        upper_critical,
        upper_non_recoverable,
    } = record.thresholds;
    // what varies with the reading cannot be told of a limit
    let factors = record.factors.filter(|factors| !factors.vary());
    let value = |raw: Option<u8>| factors?.value(raw?);
    Some(Thresholds {
        lower_non_recoverable: value(lower_non_recoverable),
        lower_critical: value(lower_critical),
        lower_non_critical: value(lower_non_critical),
        upper_non_critical: value(upper_non_critical),
        upper_critical: value(upper_critical),
        upper_non_recoverable: value(upper_non_recoverable),
    })
}

/// Which of the limits there are, in the order of the bits of a reading.
fn there_are(limits: &RawThresholds) -> u8 {
    let all = [
        limits.lower_non_critical,
        limits.lower_critical,
        limits.lower_non_recoverable,
        limits.upper_non_critical,
        limits.upper_critical,
        limits.upper_non_recoverable,
    ];
    all.iter().enumerate().fold(0, |mask, (bit, limit)| mask | u8::from(limit.is_some()) << bit)
}

/// The sensor with what it says; `None`: it could not be asked. `factors` are those of this reading.
#[must_use]
pub fn sensor(
    record: &SensorRecord,
    reading: Option<Reading>,
    factors: Option<super::sdr::Factors>,
) -> Sensor {
    let mut told = Sensor {
        name: record.name.clone(),
        number: record.number,
        kind: record.kind.to_string(),
        value: None,
        unit: record.unit.clone(),
        state: SensorState::Unknown,
        states: Vec::new(),
        thresholds: limits(record),
    };
    let Some(reading) = reading else { return told };
    if reading.unavailable || !reading.scanning {
        told.state = SensorState::NotPresent;
        return told;
    }
    told.value = factors.and_then(|factors| factors.value(reading.raw));
    if record.event_type == THRESHOLD_EVENTS {
        // BMCs set bits of limits that are not there
        let passed = match there_are(&record.thresholds) {
            0 => reading.low.unwrap_or(0),
            there => reading.low.unwrap_or(0) & there,
        };
        told.state = match passed & 0x3F {
            0 => SensorState::Ok,
            bits if bits & 0b11_0110 != 0 => SensorState::Critical,
            _ => SensorState::Warning,
        };
        return told;
    }
    let on = u16::from(reading.low.unwrap_or(0)) | u16::from(reading.high.unwrap_or(0)) << 8;
    let offsets = (0..15_u8).filter(|bit| on & 1 << bit != 0);
    let worst = offsets.clone().map(|offset| severity(record.event_type, record.kind, offset)).max();
    told.states = offsets.map(|offset| state_name(record.event_type, record.kind, offset)).collect();
    told.state = worst.map_or(SensorState::Ok, state_of);
    told
}

#[cfg(test)]
mod tests {
    use super::super::sdr::{Sdr, tests::temperature};
    use super::*;

    fn record() -> SensorRecord {
        let Ok(Sdr::Sensors(mut all)) = Sdr::parse(&temperature()) else { panic!("no sensor") };
        all.remove(0)
    }

    fn reading(raw: u8, low: u8) -> Option<Reading> {
        Some(Reading { raw, scanning: true, unavailable: false, low: Some(low), high: None })
    }

    #[test]
    fn limits_that_are_passed_are_warnings_or_critical() {
        let record = record();
        for (bits, state) in [
            (0, SensorState::Ok),
            (0b00_1000, SensorState::Warning),
            (0b01_1000, SensorState::Critical),
            (0b11_1000, SensorState::Critical),
            (0b00_0111, SensorState::Ok), // it has no lower limits
        ] {
            let told = sensor(&record, reading(50, bits), record.factors);
            assert_eq!((told.state, told.value), (state, Some(50.0)), "{bits:b}");
            assert_eq!(told.thresholds.and_then(|limits| limits.upper_critical), Some(90.0));
        }
    }

    #[test]
    fn what_is_not_there_and_what_cannot_be_asked_are_two_things() {
        let record = record();
        let off = Reading { unavailable: true, ..reading(50, 0).expect("one") };
        let told = sensor(&record, Some(off), record.factors);
        assert_eq!((told.state, told.value), (SensorState::NotPresent, None));
        let idle = Reading { scanning: false, ..reading(50, 0).expect("one") };
        assert_eq!(sensor(&record, Some(idle), record.factors).state, SensorState::NotPresent);
        assert_eq!(sensor(&record, None, None).state, SensorState::Unknown);
    }

    #[test]
    fn states_are_told_by_name_and_by_how_bad_they_are() {
        let supply =
            SensorRecord { kind: SensorType::PowerSupply, event_type: SPECIFIC, factors: None, ..record() };
        let told = sensor(&supply, reading(0, 0b1), None);
        assert_eq!(
            (told.state, told.states.as_slice()),
            (SensorState::Ok, &["Presence detected".to_owned()][..])
        );
        let told = sensor(&supply, reading(0, 0b1001), None);
        assert_eq!((told.state, told.states.len()), (SensorState::Critical, 2));
        let redundancy = SensorRecord { event_type: 0x0B, ..supply };
        assert_eq!(sensor(&redundancy, reading(0, 0b10), None).state, SensorState::Warning);
    }
}
