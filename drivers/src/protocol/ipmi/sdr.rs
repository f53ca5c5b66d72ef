//! Sensor data records (IPMI 2.0 §43). `ipmi-rs-core` decodes them too, but panics on short and on unusual ones, drops
//! M's sign and does not linearise; its words for types, units and events are used.

use ipmi_rs_core::storage::sdr::{SensorType, Unit};

use super::command::sensor::RawThresholds;
use super::typed_text::TypeLength;

/// Bytes before the body of a record: id, version, type, length.
pub const HEADER: usize = 5;
const FULL: u8 = 0x01;
const COMPACT: u8 = 0x02;
const FRU_LOCATOR: u8 = 0x11;
/// Event/reading type of sensors with thresholds.
pub(crate) const THRESHOLD_EVENTS: u8 = 0x01;
/// A sensor's records are shared by at most so many.
const MOST_SHARES: u8 = 15;

/// A record, as far as it is used.
#[derive(Clone, Debug, PartialEq)]
pub enum Sdr {
    /// A sensor, or several that share a record.
    Sensors(Vec<SensorRecord>),
    /// Where an inventory is.
    Fru(FruLocator),
    /// Anything else.
    Other(u8),
}

/// How raw readings become values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// 0 unsigned, 1 one's complement, 2 two's complement.
    pub format: u8,
    /// Number of the function after the linear part; 0x70 and above: the factors depend on the reading.
    pub linearisation: u8,
    m: i16,
    b: i16,
    result_exponent: i8,
    b_exponent: i8,
}

/// A number of `bits` bits in two's complement.
fn signed(value: u16, bits: u32) -> i16 {
    let shift = 16 - bits;
    (value << shift).cast_signed() >> shift
}

/// `value` times a power of ten; divided where that is exact and a product would not be.
fn ten_to(value: f64, exponent: i8) -> f64 {
    let power = 10f64.powi(i32::from(exponent.unsigned_abs()));
    if exponent < 0 { value / power } else { value * power }
}

impl Factors {
    /// From the six bytes of a record or of Get Sensor Reading Factors.
    #[must_use]
    pub fn new(units: u8, linearisation: u8, bytes: [u8; 6]) -> Factors {
        let [m, m_tolerance, b, b_accuracy, _, exponents] = bytes;
        let ten = |low: u8, high: u8| signed(u16::from(low) | u16::from(high >> 6) << 8, 10);
        let exponent = |nibble: u8| i8::try_from(signed(u16::from(nibble & 0x0F), 4)).unwrap_or(0);
        Factors {
            format: units >> 6,
            linearisation: linearisation & 0x7F,
            m: ten(m, m_tolerance),
            b: ten(b, b_accuracy),
            result_exponent: exponent(exponents >> 4),
            b_exponent: exponent(exponents),
        }
    }

    /// Whether the factors have to be asked for with each reading.
    #[must_use]
    pub fn vary(&self) -> bool {
        self.linearisation >= 0x70
    }

    /// The value of a raw reading; `None` where it is no number.
    #[must_use]
    pub fn value(&self, raw: u8) -> Option<f64> {
        let raw = match self.format {
            0 => f64::from(raw),
            // minus zero is zero
            1 if raw & 0x80 != 0 => -f64::from(!raw),
            1 => f64::from(raw),
            2 => f64::from(raw.cast_signed()),
            _ => return None,
        };
        let offset = ten_to(f64::from(self.b), self.b_exponent);
        let linear = ten_to(f64::from(self.m) * raw + offset, self.result_exponent);
        let value = match self.linearisation {
            1 => linear.ln(),
            2 => linear.log10(),
            3 => linear.log2(),
            4 => linear.exp(),
            5 => 10f64.powf(linear),
            6 => linear.exp2(),
            7 => linear.recip(),
            8 => linear.powi(2),
            9 => linear.powi(3),
            10 => linear.sqrt(),
            11 => linear.cbrt(),
            _ => linear,
        };
        value.is_finite().then_some(value)
    }
}

/// A sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct SensorRecord {
    /// Its name.
    pub name: String,
    /// Address of the controller that it belongs to; 0x20 is the BMC.
    pub owner: u8,
    /// Unit of that controller.
    pub lun: u8,
    /// Channel of that controller.
    pub channel: u8,
    /// Its number there.
    pub number: u8,
    /// What it measures.
    pub kind: SensorType,
    /// 1: with thresholds; 2 to 0x0C: generic states; 0x6F: states of its kind.
    pub event_type: u8,
    /// The unit of its values, when it has one.
    pub unit: Option<String>,
    /// How to read its values; `None` where it has states alone.
    pub factors: Option<Factors>,
    /// The thresholds of the record.
    pub thresholds: RawThresholds,
    /// The thresholds that may be asked for have been, or are not to be.
    pub asks_thresholds: bool,
}

/// An inventory's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FruLocator {
    /// Its name.
    pub name: String,
    /// Address of the controller that has it.
    pub owner: u8,
    /// Its number there; `None` when it is a chip to be read directly.
    pub id: Option<u8>,
}

/// Why a record cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// It ends too early.
    #[error("the record is too short")]
    Short,
}

fn field(body: &[u8], at: usize) -> Result<u8, BadRecord> {
    body.get(at).copied().ok_or(BadRecord::Short)
}

fn name(body: &[u8], at: usize) -> Result<String, BadRecord> {
    let kind = TypeLength::of_record(field(body, at)?);
    let rest = body.get(at + 1..).unwrap_or_default();
    // BMCs announce more than there is
    Ok(kind.record_text(rest.get(..kind.len).unwrap_or(rest)))
}

impl Sdr {
    /// Reads a whole record, header included.
    ///
    /// # Errors
    /// It is too short.
    pub fn parse(record: &[u8]) -> Result<Sdr, BadRecord> {
        let [_, _, _, kind, _, body @ ..] = record else { return Err(BadRecord::Short) };
        match *kind {
            FULL => full(body).map(|sensor| Sdr::Sensors(vec![sensor])),
            COMPACT => compact(body).map(Sdr::Sensors),
            FRU_LOCATOR => {
                let logical = field(body, 2)? & 0x80 != 0;
                let (owner, id) = (field(body, 0)?, field(body, 1)?);
                Ok(Sdr::Fru(FruLocator { name: name(body, 10)?, owner, id: logical.then_some(id) }))
            }
            other => Ok(Sdr::Other(other)),
        }
    }
}

/// What full and compact records begin with.
fn common(body: &[u8]) -> Result<SensorRecord, BadRecord> {
    let (units, base, modifier) = (field(body, 15)?, field(body, 16)?, field(body, 17)?);
    Ok(SensorRecord {
        name: String::new(),
        owner: field(body, 0)?,
        channel: field(body, 1)? >> 4,
        lun: field(body, 1)? & 0b11,
        number: field(body, 2)?,
        kind: SensorType::from(field(body, 7)?),
        event_type: field(body, 8)?,
        unit: unit(units, base, modifier),
        factors: None,
        thresholds: RawThresholds::default(),
        asks_thresholds: false,
    })
}

fn full(body: &[u8]) -> Result<SensorRecord, BadRecord> {
    let mut sensor = common(body)?;
    let units = field(body, 15)?;
    let has_unit = units & 1 != 0 || field(body, 16)? != 0;
    let with_thresholds = sensor.event_type == THRESHOLD_EVENTS;
    if units >> 6 != 0b11 && (with_thresholds || has_unit) {
        let six = body.get(19..).and_then(|rest| rest.first_chunk::<6>()).ok_or(BadRecord::Short)?;
        sensor.factors = Some(Factors::new(units, field(body, 18)?, *six));
    }
    if with_thresholds {
        let values = body.get(31..).and_then(|rest| rest.first_chunk::<6>()).ok_or(BadRecord::Short)?;
        let [unr, uc, unc, lnr, lc, lnc] = *values;
        // bits 3:2 of the capabilities: 0 none, 1 readable, 2 settable, 3 fixed
        let access = field(body, 6)? >> 2 & 0b11;
        sensor.asks_thresholds = matches!(access, 1 | 2);
        let mask = if access == 0 { 0 } else { field(body, 13)? & 0x3F };
        sensor.thresholds = RawThresholds::of(mask, &[lnc, lc, lnr, unc, uc, unr]);
    }
    sensor.name = name(body, 42)?;
    Ok(sensor)
}

/// A compact record stands for as many sensors as share it: consecutive numbers, names with a suffix.
fn compact(body: &[u8]) -> Result<Vec<SensorRecord>, BadRecord> {
    let mut sensor = common(body)?;
    // there are no factors in it, so a reading has no value
    sensor.unit = None;
    sensor.name = name(body, 26)?;
    let (sharing, offset) = (field(body, 18)?, field(body, 19)? & 0x7F);
    let shares = (sharing & 0x0F).min(MOST_SHARES);
    if shares < 2 {
        return Ok(vec![sensor]);
    }
    let alpha = sharing >> 4 & 0b11 == 1;
    let one = |index: u8| {
        let suffix = offset.saturating_add(index);
        let suffix = if alpha { letters(suffix) } else { suffix.to_string() };
        SensorRecord {
            number: sensor.number.wrapping_add(index),
            name: format!("{}{suffix}", sensor.name),
            ..sensor.clone()
        }
    };
    Ok((0..shares).map(one).collect())
}

/// A, B, … Z, AA, AB, …
fn letters(number: u8) -> String {
    let letter = |n: u8| char::from(b'A' + n % 26);
    match number / 26 {
        0 => letter(number).to_string(),
        high => format!("{}{}", letter(high - 1), letter(number)),
    }
}

/// `unit`, `unit/s`, `unit*other`, `%`.
fn unit(units: u8, base: u8, modifier: u8) -> Option<String> {
    const RATES: [&str; 8] = ["", "/us", "/ms", "/s", "/min", "/h", "/d", ""];
    let percent = if units & 1 != 0 { "%" } else { "" };
    let base = word(base);
    let mut text = match (percent, base.as_str()) {
        ("%", "") => "%".to_owned(),
        ("%", base) => format!("% {base}"),
        (_, base) => base.to_owned(),
    };
    match units >> 1 & 0b11 {
        1 if modifier != 0 => text = format!("{text}/{}", word(modifier)),
        2 if modifier != 0 => text = format!("{text}*{}", word(modifier)),
        _ => {}
    }
    text.push_str(RATES[usize::from(units >> 3 & 0b111)]);
    (!text.is_empty()).then_some(text)
}

#[allow(clippy::wildcard_enum_match_arm)] // of ipmi-rs-core, which has words for the others
fn word(number: u8) -> String {
    match Unit::from(number) {
        Unit::Unspecified => String::new(),
        // what is said of degrees is not what SI has
        Unit::DegreesKelvin => "K".to_owned(),
        Unit::Hertz => "Hz".to_owned(),
        // two of them make it plural; the number before it is not wanted
        some => some.display(true, 2_i32).trim_start_matches("2 ").trim_start_matches("2.00 ").to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A full record of a temperature: °C, one to one, upper limits 80, 90, 95.
    pub(crate) fn temperature() -> Vec<u8> {
        let mut body = vec![0x20, 0, 7, 3, 1, 0x7F, 0x68, 1, 1];
        body.extend([0x80, 0x0A, 0x80, 0x7A, 0x38, 0x38, 0x00, 1, 0]);
        body.extend([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0, 95, 90, 80, 0, 0, 0, 2, 2, 0, 0, 0]);
        body.push(0xC0 | 8);
        body.extend(b"CPU Temp");
        let mut record = vec![1, 0, 0x51, FULL, u8::try_from(body.len()).expect("short")];
        record.extend(body);
        record
    }

    #[test]
    fn a_full_record_gives_name_unit_factors_and_thresholds() {
        let Ok(Sdr::Sensors(all)) = Sdr::parse(&temperature()) else { panic!("no sensor") };
        let [sensor] = &all[..] else { panic!("{all:?}") };
        assert_eq!((sensor.name.as_str(), sensor.unit.as_deref()), ("CPU Temp", Some("°C")));
        assert_eq!((sensor.owner, sensor.number, sensor.asks_thresholds), (0x20, 7, true));
        assert_eq!(sensor.factors.and_then(|factors| factors.value(41)), Some(41.0));
        assert_eq!(sensor.thresholds, RawThresholds::of(0x38, &[0, 0, 0, 80, 90, 95]));
    }

    #[test]
    fn records_that_end_early_are_refused_and_never_panic() {
        let whole = temperature();
        for len in 0..whole.len() {
            let _ = Sdr::parse(&whole[..len]);
        }
        for kind in [FULL, COMPACT, FRU_LOCATOR, 0xC0] {
            for (len, byte) in (0..80).flat_map(|len| [0, 0x3F, 0x7F, 0xFF].map(|byte| (len, byte))) {
                let mut record = vec![byte; len];
                if let Some(at) = record.get_mut(3) {
                    *at = kind;
                }
                let _ = Sdr::parse(&record);
            }
        }
        assert_eq!(Sdr::parse(&whole[..47]), Err(BadRecord::Short));
    }

    #[test]
    fn factors_are_signed_and_every_format_and_function_is_known() {
        // M = -1, B = -3, exponents -1 and 1
        let factors =
            |format: u8, function| Factors::new(format << 6, function, [0xFF, 0xC0, 0xFD, 0xC0, 0, 0xF1]);
        assert_eq!(factors(0, 0).value(10), Some(-4.0));
        assert_eq!(factors(1, 0).value(0xFE), Some(-2.9));
        assert_eq!(factors(2, 0).value(0xFF), Some(-2.9));
        assert_eq!(factors(3, 0).value(1), None);
        assert_eq!(factors(0, 1).value(10), None, "there is no logarithm of less than nothing");
        let plain = |function| Factors::new(0, function, [1, 0, 0, 0, 0, 0]);
        let close = |function: u8, raw: u8, wanted: f64| {
            let value = plain(function).value(raw).expect("a number");
            assert!((value - wanted).abs() < 1e-9, "function {function}: {value}");
        };
        for (function, raw, wanted) in [
            (2, 100, 2.0),
            (3, 8, 3.0),
            (5, 2, 100.0),
            (6, 5, 32.0),
            (7, 4, 0.25),
            (8, 9, 81.0),
            (9, 3, 27.0),
        ] {
            close(function, raw, wanted);
        }
        close(10, 49, 7.0);
        close(11, 27, 3.0);
        close(4, 0, 1.0);
        assert!(plain(0x70).vary() && !plain(0).vary());
    }

    #[test]
    fn sensors_that_share_a_record_have_numbers_and_names_of_their_own() {
        let mut body = vec![0x20, 0, 0x40, 4, 1, 0x67, 0x40, 0x0D, 0x6F, 0, 0, 0, 0, 3, 0, 0xC0, 0, 0];
        body.extend([0x13, 0x81, 0, 0, 0, 0, 0, 0, 0xC5]);
        body.extend(b"Drive");
        let mut record = vec![9, 0, 0x51, COMPACT, u8::try_from(body.len()).expect("short")];
        record.extend(body);
        let Ok(Sdr::Sensors(all)) = Sdr::parse(&record) else { panic!("no sensors") };
        let told: Vec<_> = all.iter().map(|sensor| (sensor.number, sensor.name.as_str())).collect();
        assert_eq!(told, [(0x40, "DriveB"), (0x41, "DriveC"), (0x42, "DriveD")]);
        assert_eq!(all[0].kind, SensorType::DriveSlotBay);
    }

    #[test]
    fn units_are_words() {
        assert_eq!(unit(0, 18, 0).as_deref(), Some("rpm"));
        assert_eq!(unit(0, 4, 0).as_deref(), Some("V"));
        assert_eq!(unit(1, 0, 0).as_deref(), Some("%"));
        assert_eq!(unit(0b0001_1000, 70, 0).as_deref(), Some("B/s"));
        assert_eq!(unit(0b100, 6, 24).as_deref(), Some("W*h"));
        assert_eq!(unit(0, 0, 0), None);
    }
}
