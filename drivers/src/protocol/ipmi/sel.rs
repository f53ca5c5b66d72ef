//! Entries of the event log (IPMI 2.0 §32), in words.

use std::fmt;

use ferric_machine::Timestamp;
use ipmi_rs_core::storage::sdr::{EventData2Type, EventData3Type, SensorType, decode_event};
use ipmi_rs_core::storage::sel::{Entry, EventDirection};

use super::sdr::{SensorRecord, THRESHOLD_EVENTS};
use super::states;
use crate::interface::{Health, LogEntry};

/// Bytes of an entry.
pub const ENTRY: usize = 16;
/// Times below are seconds since the BMC started: it did not know better (IPMI 2.0 §37).
const FIRST_REAL_TIME: u32 = 0x2000_0000;

struct Words {
    event_type: u8,
    kind: SensorType,
    offset: u8,
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decode_event(f, self.event_type, self.kind, self.offset)
    }
}

/// What the state of a sensor is called; its number where it has no name.
pub(crate) fn state_name(event_type: u8, kind: SensorType, offset: u8) -> String {
    let text = Words { event_type, kind, offset }.to_string();
    if text.is_empty() { format!("state {offset}") } else { text }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads an entry; `sensors` are those that it may be about.
#[must_use]
pub fn decode(entry: &[u8; ENTRY], sensors: &[SensorRecord]) -> LogEntry {
    let [id_low, id_high, record_type, a, b, c, d, ..] = *entry;
    let seconds = u32::from_le_bytes([a, b, c, d]);
    let timed = (0x02..=0xDF).contains(&record_type) && seconds >= FIRST_REAL_TIME && seconds != u32::MAX;
    let mut told = LogEntry {
        id: u16::from_le_bytes([id_low, id_high]),
        at: timed.then_some(Timestamp(i64::from(seconds) * 1_000_000)),
        sensor: None,
        sensor_type: None,
        event: String::new(),
        asserted: None,
        severity: Health::Unknown,
        raw: hex(entry),
    };
    match Entry::parse(entry) {
        Ok(Entry::System { sensor_type, sensor_number, event_direction, event_type, event_data, .. }) => {
            let kind = SensorType::from(sensor_type);
            let owner = entry[7];
            let one = sensors.iter().find(|one| one.owner == owner && one.number == sensor_number);
            let named = one.filter(|one| u8::from(one.kind) == sensor_type).map(|one| one.name.clone());
            told.sensor = Some(named.unwrap_or_else(|| format!("{kind} #{sensor_number:#04x}")));
            told.sensor_type = Some(kind.to_string());
            told.event = state_name(event_type, kind, event_data.offset);
            if event_type == THRESHOLD_EVENTS {
                let value = |raw: u8| {
                    let sensor = one.filter(|one| one.event_type == THRESHOLD_EVENTS)?;
                    let unit = sensor.unit.as_deref().unwrap_or_default();
                    Some(format!("{:.2} {unit}", sensor.factors?.value(raw)?))
                };
                let read = match event_data.data2_type {
                    EventData2Type::TriggerReading(raw) => value(raw.get()),
                    EventData2Type::Unspecified
                    | EventData2Type::OemCode(_)
                    | EventData2Type::SensorSpecific(_) => None,
                };
                let limit = match event_data.data3_type {
                    EventData3Type::TriggerThreshold(raw) => value(raw.get()),
                    EventData3Type::Unspecified
                    | EventData3Type::OemCode(_)
                    | EventData3Type::SensorSpecific(_) => None,
                };
                if let (Some(read), Some(limit)) = (read, limit) {
                    told.event =
                        format!("{}: {} where the limit is {}", told.event, read.trim(), limit.trim());
                }
            } else if !event_data.to_string().is_empty() {
                told.event = format!("{} ({event_data})", told.event);
            }
            told.asserted = Some(event_direction == EventDirection::Assert);
            told.severity = match event_direction {
                EventDirection::Assert => states::severity(event_type, kind, event_data.offset),
                EventDirection::Deassert => Health::Ok,
            };
        }
        Ok(Entry::OemTimestamped { ty, manufacturer_id, data, .. }) => {
            told.event = format!("OEM record {ty:#04x} of manufacturer {manufacturer_id}: {}", hex(&data));
        }
        Ok(Entry::OemNotTimestamped { ty, data, .. }) => {
            told.event = format!("OEM record {ty:#04x}: {}", hex(&data));
        }
        Err(_) => told.event = format!("record of unknown type {record_type:#04x}"),
    }
    told
}

#[cfg(test)]
mod tests {
    use super::super::sdr::{Sdr, tests::temperature};
    use super::*;

    #[test]
    fn events_are_told_in_words_with_sensor_time_and_severity() {
        let Ok(Sdr::Sensors(sensors)) = Sdr::parse(&temperature()) else { panic!("no sensor") };
        // upper critical going high, reading 92, limit 90, at 2026-01-01
        let [a, b, c, d] = 1_767_225_600_u32.to_le_bytes();
        let hot = [3, 0, 2, a, b, c, d, 0x20, 0, 4, 1, 7, 1, 0x59, 92, 90];
        let told = decode(&hot, &sensors);
        assert_eq!(told.sensor.as_deref(), Some("CPU Temp"));
        assert_eq!(told.event, "Upper Critical - going high: 92.00 °C where the limit is 90.00 °C");
        assert_eq!(told.at, Some(Timestamp(1_767_225_600_000_000)));
        assert_eq!((told.asserted, told.severity), (Some(true), Health::Critical));
        let off = [4, 0, 2, 9, 0, 0, 0, 0x20, 0, 4, 9, 0x50, 0x6F, 0, 0xFF, 0xFF];
        let told = decode(&off, &sensors);
        assert_eq!((told.event.as_str(), told.at), ("Power Off / Power Down", None));
        assert_eq!(told.sensor.as_deref(), Some("Power Unit #0x50"));
        let oem = [5, 0, 0xE1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
        assert_eq!(decode(&oem, &[]).event, "OEM record 0xe1: 0102030405060708090a0b0c0d");
    }

    #[test]
    fn no_entry_panics() {
        for byte in 0..=u8::MAX {
            let _ = decode(&[byte; ENTRY], &[]);
            for kind in [0x02, 0xC0, 0xE0, 0x55] {
                let mut entry = [byte; ENTRY];
                entry[2] = kind;
                let _ = decode(&entry, &[]);
            }
        }
    }
}
