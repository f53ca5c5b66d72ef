//! How a machine is: its sensors, its event log, its inventory.

use std::collections::BTreeMap;

use ferric_machine::Timestamp;
use serde::Serialize;

/// How well a sensor or a whole machine is. The order is that of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nothing is known.
    Unknown,
    /// As it should be.
    Ok,
    /// It should be looked at.
    Warning,
    /// It must be looked at.
    Critical,
}

impl Health {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Ok => "ok",
            Health::Warning => "warning",
            Health::Critical => "critical",
        }
    }
}

/// What a sensor says, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SensorState {
    /// Within its limits.
    Ok,
    /// Beyond a limit that is not critical, or a state that should be looked at.
    Warning,
    /// Beyond a critical limit, or a state that must be looked at.
    Critical,
    /// There is no reading: the part is absent or without power, or the sensor is switched off.
    NotPresent,
    /// It could not be asked.
    Unknown,
}

impl SensorState {
    /// What it means for the machine; `None` when it says nothing.
    #[must_use]
    pub const fn health(self) -> Option<Health> {
        match self {
            SensorState::Ok => Some(Health::Ok),
            SensorState::Warning => Some(Health::Warning),
            SensorState::Critical => Some(Health::Critical),
            SensorState::NotPresent | SensorState::Unknown => None,
        }
    }
}

/// The limits of a sensor, in its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // the names are those of the specification
pub struct Thresholds {
    pub lower_non_recoverable: Option<f64>,
    pub lower_critical: Option<f64>,
    pub lower_non_critical: Option<f64>,
    pub upper_non_critical: Option<f64>,
    pub upper_critical: Option<f64>,
    pub upper_non_recoverable: Option<f64>,
}

/// A sensor with its reading.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sensor {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u8,
    /// What it measures: `Temperature`, `Fan`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The reading, `None` when there is none or it is no number.
    pub value: Option<f64>,
    /// Unit of reading and limits.
    pub unit: Option<String>,
    /// What it means.
    pub state: SensorState,
    /// The states that are on, in words, of sensors that have some.
    pub states: Vec<String>,
    /// Its limits; `None` for sensors without.
    pub thresholds: Option<Thresholds>,
}

/// All sensors of a machine, and what they say together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sensors {
    /// When they were read.
    #[serde(skip)]
    pub read_at: Timestamp,
    /// The machine.
    pub health: Health,
    /// Why, when it is not well: a sentence per sensor.
    pub reasons: Vec<String>,
    /// One by one.
    pub sensors: Vec<Sensor>,
}

impl Sensors {
    /// Adds up what the sensors say.
    #[must_use]
    pub fn new(read_at: Timestamp, sensors: Vec<Sensor>) -> Sensors {
        let health =
            sensors.iter().filter_map(|sensor| sensor.state.health()).max().unwrap_or(Health::Unknown);
        let bad = sensors.iter().filter(|sensor| sensor.state.health() > Some(Health::Ok));
        let mut bad: Vec<&Sensor> = bad.collect();
        bad.sort_by_key(|sensor| std::cmp::Reverse(sensor.state.health()));
        let mut reasons: Vec<String> = bad.into_iter().map(Sensor::reason).collect();
        if health == Health::Unknown {
            reasons.push("no sensor has a reading".to_owned());
        }
        Sensors { read_at, health, reasons, sensors }
    }
}

impl Sensor {
    fn reason(&self) -> String {
        let state = match self.state {
            SensorState::Critical => "critical",
            SensorState::Warning => "warning",
            SensorState::Ok | SensorState::NotPresent | SensorState::Unknown => "as it should be",
        };
        let mut text = format!("{} is {state}", self.name);
        if let Some(value) = self.value {
            let unit = self.unit.as_deref().unwrap_or_default();
            text = format!("{text}: {} {unit}", shown(value)).trim_end().to_owned();
            if let Some(limit) = self.passed() {
                text = format!("{text}, {limit}");
            }
        }
        if !self.states.is_empty() {
            text = format!("{text}: {}", self.states.join(", "));
        }
        text
    }

    /// The outermost limit that the reading is beyond, in words.
    fn passed(&self) -> Option<String> {
        let (value, limits) = (self.value?, self.thresholds?);
        let upper = [limits.upper_non_recoverable, limits.upper_critical, limits.upper_non_critical];
        let lower = [limits.lower_non_recoverable, limits.lower_critical, limits.lower_non_critical];
        let above = upper.into_iter().flatten().find(|limit| value >= *limit);
        let below = lower.into_iter().flatten().find(|limit| value <= *limit);
        above
            .map(|limit| format!("at or above {}", shown(limit)))
            .or_else(|| below.map(|limit| format!("at or below {}", shown(limit))))
    }
}

/// A number with at most three places.
fn shown(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// An entry of a machine's event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// Its number in the log.
    pub id: u16,
    /// When it happened by the BMC's clock; `None` when that was not set.
    #[serde(skip)]
    pub at: Option<Timestamp>,
    /// Whose it is: the sensor's name, or its type and number.
    pub sensor: Option<String>,
    /// What that measures.
    pub sensor_type: Option<String>,
    /// What happened.
    pub event: String,
    /// It began (`true`) or ended; `None` where that has no meaning.
    pub asserted: Option<bool>,
    /// How bad it is.
    pub severity: Health,
    /// The sixteen bytes, in hexadecimal.
    pub raw: String,
}

/// The newest entries of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    /// How many there are in the log.
    pub count: u16,
    /// It was full, and some are lost.
    pub overflow: bool,
    /// The newest first.
    pub entries: Vec<LogEntry>,
}

/// A part of an inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FruArea {
    /// Known fields, those that are empty left out.
    #[serde(flatten)]
    pub fields: BTreeMap<String, String>,
    /// What the manufacturer added.
    pub extra: Vec<String>,
    /// When it was made.
    #[serde(skip)]
    pub made_at: Option<Timestamp>,
    /// The sum of its bytes is right.
    pub checksum_ok: bool,
}

/// An inventory of a machine or of a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fru {
    /// Its number; 0 is the machine's.
    pub id: u8,
    /// Its name.
    pub name: String,
    /// The enclosure.
    pub chassis: Option<FruArea>,
    /// The board.
    pub board: Option<FruArea>,
    /// The product.
    pub product: Option<FruArea>,
}

/// What an identify light is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identify {
    /// Shine for so many seconds.
    For(u8),
    /// Shine until it is told otherwise.
    On,
    /// Go out.
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sensor(name: &str, value: Option<f64>, state: SensorState) -> Sensor {
        Sensor {
            name: name.to_owned(),
            number: 1,
            kind: "Fan".to_owned(),
            value,
            unit: Some("rpm".to_owned()),
            state,
            states: Vec::new(),
            thresholds: Some(Thresholds { lower_critical: Some(600.0), ..Thresholds::default() }),
        }
    }

    #[test]
    fn a_machine_is_as_well_as_its_worst_sensor_and_says_why() {
        let all = vec![
            sensor("Fan 1", Some(5400.0), SensorState::Ok),
            sensor("Fan 2", Some(1200.5), SensorState::Warning),
            sensor("Fan 3", Some(0.0), SensorState::Critical),
            sensor("Fan 4", None, SensorState::NotPresent),
        ];
        let told = Sensors::new(Timestamp(0), all);
        assert_eq!(told.health, Health::Critical);
        let wanted = ["Fan 3 is critical: 0 rpm, at or below 600", "Fan 2 is warning: 1200.5 rpm"];
        assert_eq!(told.reasons, wanted);
        let none = Sensors::new(Timestamp(0), vec![sensor("Fan", None, SensorState::Unknown)]);
        assert_eq!((none.health, none.reasons.len()), (Health::Unknown, 1));
    }
}
