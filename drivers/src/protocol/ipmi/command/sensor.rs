//! Commands of sensors (IPMI 2.0 §35).

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn, NotEnoughData};

/// Number of Get Sensor Reading Factors.
pub const GET_FACTORS: u8 = 0x23;
/// Number of Get Sensor Thresholds.
pub const GET_THRESHOLDS: u8 = 0x27;
/// Number of Get Sensor Reading.
pub const GET_READING: u8 = 0x2D;

/// Get Sensor Reading, of the sensor with this number.
pub struct GetReading(pub u8);

/// What a sensor says at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The reading as it is measured.
    pub raw: u8,
    /// The sensor is looked at.
    pub scanning: bool,
    /// There is no reading now: the part is absent, without power, or not measured yet.
    pub unavailable: bool,
    /// Thresholds passed, or states 0 to 7.
    pub low: Option<u8>,
    /// States 8 to 14.
    pub high: Option<u8>,
}

impl From<GetReading> for Message {
    fn from(command: GetReading) -> Self {
        Message::new_request(NetFn::SensorEvent, GET_READING, vec![command.0])
    }
}

impl IpmiCommand for GetReading {
    type Output = Reading;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<Reading, NotEnoughData> {
        let [raw, flags, states @ ..] = data else { return Err(NotEnoughData) };
        Ok(Reading {
            raw: *raw,
            scanning: flags & 0x40 != 0,
            unavailable: flags & 0x20 != 0,
            low: states.first().copied(),
            high: states.get(1).map(|high| high & 0x7F),
        })
    }
}

/// Get Sensor Thresholds, of the sensor with this number.
pub struct GetThresholds(pub u8);

/// The thresholds as they are measured; `None` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawThresholds {
    /// Lower non-critical.
    pub lower_non_critical: Option<u8>,
    /// Lower critical.
    pub lower_critical: Option<u8>,
    /// Lower non-recoverable.
    pub lower_non_recoverable: Option<u8>,
    /// Upper non-critical.
    pub upper_non_critical: Option<u8>,
    /// Upper critical.
    pub upper_critical: Option<u8>,
    /// Upper non-recoverable.
    pub upper_non_recoverable: Option<u8>,
}

impl RawThresholds {
    /// From the values, in the order of the bits of `mask` (lower non-critical first).
    #[must_use]
    pub fn of(mask: u8, values: &[u8; 6]) -> Self {
        let [a, b, c, d, e, f] = *values;
        let there = |bit: u8, value: u8| (mask & 1 << bit != 0).then_some(value);
        Self {
            lower_non_critical: there(0, a),
            lower_critical: there(1, b),
            lower_non_recoverable: there(2, c),
            upper_non_critical: there(3, d),
            upper_critical: there(4, e),
            upper_non_recoverable: there(5, f),
        }
    }
}

impl From<GetThresholds> for Message {
    fn from(command: GetThresholds) -> Self {
        Message::new_request(NetFn::SensorEvent, GET_THRESHOLDS, vec![command.0])
    }
}

impl IpmiCommand for GetThresholds {
    type Output = RawThresholds;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<RawThresholds, NotEnoughData> {
        let [mask, values @ ..] = data else { return Err(NotEnoughData) };
        let values = values.first_chunk::<6>().ok_or(NotEnoughData)?;
        Ok(RawThresholds::of(*mask, values))
    }
}

/// Get Sensor Reading Factors: of a sensor whose factors depend on the reading.
pub struct GetFactors {
    /// Its number.
    pub sensor: u8,
    /// The reading.
    pub raw: u8,
}

impl From<GetFactors> for Message {
    fn from(command: GetFactors) -> Self {
        Message::new_request(NetFn::SensorEvent, GET_FACTORS, vec![command.sensor, command.raw])
    }
}

impl IpmiCommand for GetFactors {
    /// The six bytes as they stand in a full sensor record: M, tolerance, B, accuracy, direction, exponents.
    type Output = [u8; 6];
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<[u8; 6], NotEnoughData> {
        data.get(1..).and_then(|rest| rest.first_chunk::<6>()).copied().ok_or(NotEnoughData)
    }
}
