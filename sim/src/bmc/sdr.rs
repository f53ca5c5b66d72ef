//! The sensors of a simulated server, their records and what they read.

use std::sync::LazyLock;

const FULL: u8 = 1;
const COMPACT: u8 = 2;
const FRU_LOCATOR: u8 = 0x11;
const MC_LOCATOR: u8 = 0x12;
const BMC: u8 = 0x20;

/// A sensor with thresholds.
pub(super) struct Analog {
    pub(super) number: u8,
    name: &'static str,
    /// Sensor type, unit, entity.
    kind: (u8, u8, u8),
    /// M and the exponent of the result: how much a raw step is.
    step: (u8, i8),
    /// The raw reading, and how far it wanders.
    usual: (u8, u8),
    /// Lower non-critical, critical, non-recoverable, upper non-critical, critical, non-recoverable; 0 is none.
    limits: [u8; 6],
    /// It reads without the machine's power too.
    standby: bool,
}

/// A sensor with states.
pub(super) struct Discrete {
    pub(super) number: u8,
    name: &'static str,
    /// Sensor type, entity.
    kind: (u8, u8),
    /// The states that it can have, those that are on.
    states: (u16, u16),
    /// How many share the record.
    shares: u8,
}

const TEMPERATURE: u8 = 1;
const VOLTAGE: u8 = 2;
const FAN: u8 = 4;
const OTHER: u8 = 0x0B;
const CELSIUS: u8 = 1;
const VOLT: u8 = 4;
const WATT: u8 = 6;
const RPM: u8 = 18;

macro_rules! analog {
    ($($number:literal $name:literal $kind:expr, $step:expr, $usual:expr, $limits:expr, $standby:literal;)+) => {
        pub(super) const ANALOG: &[Analog] = &[$(Analog {
            number: $number, name: $name, kind: $kind, step: $step, usual: $usual, limits: $limits, standby: $standby,
        },)+];
    };
}

#[rustfmt::skip]
analog! {
    // number name        type, unit, entity            step      usual     lnc lc lnr unc uc unr          standby
    0x01 "CPU1 Temp"     (TEMPERATURE, CELSIUS, 3),   (1, 0),   (48, 4),  [0, 0, 0, 85, 90, 95],          false;
    0x02 "CPU2 Temp"     (TEMPERATURE, CELSIUS, 3),   (1, 0),   (46, 4),  [0, 0, 0, 85, 90, 95],          false;
    0x03 "Inlet Temp"    (TEMPERATURE, CELSIUS, 0x37), (1, 0),  (23, 2),  [5, 3, 1, 40, 45, 50],          true;
    0x04 "PCH Temp"      (TEMPERATURE, CELSIUS, 7),   (1, 0),   (44, 3),  [0, 0, 0, 90, 95, 100],         false;
    0x05 "System Temp"   (TEMPERATURE, CELSIUS, 7),   (1, 0),   (31, 2),  [0, 0, 0, 80, 85, 90],          true;
    0x06 "DIMMA1 Temp"   (TEMPERATURE, CELSIUS, 0x20), (1, 0),  (37, 2),  [0, 0, 0, 80, 85, 90],          false;
    0x07 "DIMMB1 Temp"   (TEMPERATURE, CELSIUS, 0x20), (1, 0),  (36, 2),  [0, 0, 0, 80, 85, 90],          false;
    0x10 "FAN1"          (FAN, RPM, 0x1D),            (75, 0),  (72, 3),  [8, 6, 4, 0, 0, 0],             false;
    0x11 "FAN2"          (FAN, RPM, 0x1D),            (75, 0),  (72, 3),  [8, 6, 4, 0, 0, 0],             false;
    0x12 "FAN3"          (FAN, RPM, 0x1D),            (75, 0),  (70, 3),  [8, 6, 4, 0, 0, 0],             false;
    0x13 "FAN4"          (FAN, RPM, 0x1D),            (75, 0),  (71, 3),  [8, 6, 4, 0, 0, 0],             false;
    0x20 "12V"           (VOLTAGE, VOLT, 7),          (63, -3), (192, 2), [172, 168, 165, 210, 214, 217], false;
    0x21 "5VCC"          (VOLTAGE, VOLT, 7),          (26, -3), (193, 2), [175, 171, 168, 210, 214, 218], false;
    0x22 "3.3VCC"        (VOLTAGE, VOLT, 7),          (17, -3), (195, 2), [178, 174, 170, 211, 215, 219], false;
    0x23 "VBAT"          (VOLTAGE, VOLT, 0x28),       (17, -3), (180, 1), [157, 153, 150, 210, 214, 218], true;
    0x24 "Vcpu1"         (VOLTAGE, VOLT, 3),          (10, -3), (179, 3), [140, 135, 130, 205, 210, 215], false;
    0x30 "PS1 Power"     (OTHER, WATT, 0x0A),         (4, 0),   (31, 3),  [0, 0, 0, 180, 190, 0],         true;
    0x31 "PS2 Power"     (OTHER, WATT, 0x0A),         (4, 0),   (29, 3),  [0, 0, 0, 180, 190, 0],         true;
}

macro_rules! discrete {
    ($($number:literal $name:literal $kind:expr, $states:expr, $shares:literal;)+) => {
        pub(super) const DISCRETE: &[Discrete] = &[$(Discrete {
            number: $number, name: $name, kind: $kind, states: $states, shares: $shares,
        },)+];
    };
}

#[rustfmt::skip]
discrete! {
    // number name          type, entity    possible, on    shares
    0x40 "PS1 Status"      (0x08, 0x0A),   (0x000F, 0x01),  1;
    0x41 "PS2 Status"      (0x08, 0x0A),   (0x000F, 0x01),  1;
    0x42 "Chassis Intru"   (0x05, 0x17),   (0x0001, 0x00),  1;
    0x44 "Drive"           (0x0D, 0x04),   (0x0007, 0x01),  4;
    0x50 "Power Unit"      (0x09, 0x13),   (0x0003, 0x00),  1;
    0x51 "SEL"             (0x10, 0x06),   (0x0014, 0x00),  1;
    0x52 "Boot"            (0x1D, 0x22),   (0x001F, 0x00),  1;
    0x53 "NMI"             (0x13, 0x07),   (0x0001, 0x00),  1;
}

/// Number of the sensor whose first state is "off".
const POWER_UNIT: u8 = 0x50;

/// What a sensor answers: reading, flags, states.
pub(super) fn reading(number: u8, power: bool, noise: u32, forced: Option<u8>) -> Option<Vec<u8>> {
    const HERE: u8 = 0xC0;
    const UNAVAILABLE: u8 = 0xE0;
    if let Some(analog) = ANALOG.iter().find(|one| one.number == number) {
        if !power && !analog.standby {
            return Some(vec![0, UNAVAILABLE, 0xC0]);
        }
        let (usual, wander) = analog.usual;
        let drift = u8::try_from(noise % (2 * u32::from(wander) + 1)).unwrap_or(0);
        // idle power supplies give little
        let usual = if power || analog.kind.1 != WATT { usual } else { wander + 1 };
        let raw = forced.unwrap_or(usual.saturating_sub(wander).saturating_add(drift));
        let [lnc, lc, lnr, unc, uc, unr] = analog.limits;
        let below = |limit: u8, bit: u8| u8::from(limit != 0 && raw <= limit) << bit;
        let above = |limit: u8, bit: u8| u8::from(limit != 0 && raw >= limit) << bit;
        let passed =
            below(lnc, 0) | below(lc, 1) | below(lnr, 2) | above(unc, 3) | above(uc, 4) | above(unr, 5);
        return Some(vec![raw, HERE, 0xC0 | passed]);
    }
    let one = DISCRETE.iter().find(|one| (one.number..one.number + one.shares).contains(&number))?;
    let on = match number {
        POWER_UNIT => u16::from(!power),
        _ => forced.map_or(one.states.1, u16::from),
    };
    let [low, high] = on.to_le_bytes();
    Some(vec![0, HERE, low, 0x80 | high])
}

/// What Get Sensor Thresholds answers.
pub(super) fn thresholds(number: u8) -> Option<Vec<u8>> {
    let analog = ANALOG.iter().find(|one| one.number == number)?;
    let mut data = vec![mask(analog)];
    data.extend(analog.limits);
    Some(data)
}

fn mask(analog: &Analog) -> u8 {
    analog.limits.iter().enumerate().fold(0, |mask, (bit, limit)| mask | u8::from(*limit != 0) << bit)
}

fn record(id: u16, kind: u8, body: &[u8]) -> Vec<u8> {
    let [low, high] = id.to_le_bytes();
    let mut all = vec![low, high, 0x51, kind, u8::try_from(body.len()).expect("records are short")];
    all.extend(body);
    all
}

fn name(body: &mut Vec<u8>, name: &str) {
    body.push(0xC0 | u8::try_from(name.len()).expect("names are short"));
    body.extend(name.as_bytes());
}

impl Analog {
    fn body(&self) -> Vec<u8> {
        let (kind, unit, entity) = self.kind;
        let (m, exponent) = self.step;
        let mask = u16::from(mask(self));
        let mut body = vec![BMC, 0, self.number, entity, 1, 0x7F, 0x54, kind, 0x01];
        // which limits tell events, are compared, and can be read
        let [lower, upper] = [mask & 0b111, mask >> 3];
        body.extend((lower << 12 | 0x0FFF).to_le_bytes());
        body.extend((upper << 12 | 0x0FFF).to_le_bytes());
        body.extend(mask.to_le_bytes());
        body.extend([0, unit, 0, 0, m, 0, 0, 0, 0, (exponent.cast_unsigned() & 0x0F) << 4, 0]);
        body.extend([self.usual.0, 0, 0, 0xFF, 0]);
        let [lnc, lc, lnr, unc, uc, unr] = self.limits;
        body.extend([unr, uc, unc, lnr, lc, lnc, 2, 2, 0, 0, 0]);
        name(&mut body, self.name);
        body
    }
}

impl Discrete {
    fn body(&self) -> Vec<u8> {
        let (kind, entity) = self.kind;
        let mut body = vec![BMC, 0, self.number, entity, 1, 0x67, 0x40, kind, 0x6F];
        for _ in 0..3 {
            body.extend(self.states.0.to_le_bytes());
        }
        body.extend([0xC0, 0, 0]);
        // instances of a shared record count from 1
        let sharing = if self.shares > 1 { [self.shares, 0x81] } else { [1, 0] };
        body.extend(sharing);
        body.extend([0; 6]);
        name(&mut body, self.name);
        body
    }
}

/// All records, in order; the number of each is its place, counted from 1.
pub(super) static RECORDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut bodies: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut controller = vec![BMC, 0, 0x80, 0xBF, 0, 0, 0, 6, 1, 0];
    name(&mut controller, "Ferric BMC");
    bodies.push((MC_LOCATOR, controller));
    bodies.extend(ANALOG.iter().map(|one| (FULL, one.body())));
    bodies.extend(DISCRETE.iter().map(|one| (COMPACT, one.body())));
    for (id, entity, text) in [(0, 7, "Mainboard"), (1, 0x0A, "PS1")] {
        let mut locator = vec![BMC, id, 0x80, 0, 0, 0x10, 0, entity, 1, 0];
        name(&mut locator, text);
        bodies.push((FRU_LOCATOR, locator));
    }
    let number = |at: usize| u16::try_from(at + 1).expect("there are few");
    bodies.iter().enumerate().map(|(at, (kind, body))| record(number(at), *kind, body)).collect()
});
