//! What a BMC knows of its machine: sensors, event log, inventory, identify light.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use ferric_drivers::protocol::ipmi::command::ChassisControl;

use super::sel::{Event, Log};
use super::{fru, sdr};

const SENSOR: u8 = 0x04;
const STORAGE: u8 = 0x0A;
const CANCELLED: u8 = 0xC5;
const TOO_SHORT: u8 = 0xC7;
const OUT_OF_RANGE: u8 = 0xC9;
const TOO_MANY_BYTES: u8 = 0xCA;
const NOT_PRESENT: u8 = 0xCB;
const INVALID_DATA: u8 = 0xCC;
const LAST: u16 = 0xFFFF;
/// How long a sensor keeps its reading.
const STEADY: Duration = Duration::from_secs(2);
/// When the repository was made: 2026-01-01.
const MADE: u32 = 1_767_225_600;

/// How a BMC gives what it stores.
#[derive(Clone, Copy, Debug)]
pub struct Storage {
    /// The most bytes of a record or an inventory in one answer.
    pub most_bytes: u8,
    /// After so many parts of records, a reservation is lost; 0 is never.
    pub loses_reservation_after: u32,
    /// There is no repository: the records are the controller's own.
    pub device_records: bool,
}

impl Default for Storage {
    fn default() -> Self {
        Self { most_bytes: u8::MAX, loses_reservation_after: 0, device_records: false }
    }
}

enum Light {
    Off,
    Until(Instant),
    On,
}

pub(super) struct Health {
    pub(super) storage: Storage,
    log: Log,
    light: Light,
    power: Option<bool>,
    reservation: u16,
    parts: u32,
    seed: u32,
    serial: u32,
    begun: Instant,
    forced: HashMap<u8, u8>,
    /// Network function and number of commands that it does not know.
    pub(super) unknown: BTreeSet<(u8, u8)>,
}

type Answer = Result<Vec<u8>, u8>;

fn word(data: &[u8], at: usize) -> Result<u16, u8> {
    let two = data.get(at..).and_then(|rest| rest.first_chunk::<2>()).ok_or(TOO_SHORT)?;
    Ok(u16::from_le_bytes(*two))
}

fn byte(data: &[u8], at: usize) -> Result<u8, u8> {
    data.get(at).copied().ok_or(TOO_SHORT)
}

impl Health {
    pub(super) fn new(guid: &[u8; 16]) -> Health {
        let [.., a, b, c, d] = *guid;
        let seed = u32::from_be_bytes([a, b, c, d]);
        Health {
            storage: Storage::default(),
            log: Log::new(),
            light: Light::Off,
            power: None,
            reservation: 0,
            parts: 0,
            seed,
            serial: seed % 100_000_000,
            begun: super::now(),
            forced: HashMap::new(),
            unknown: BTreeSet::new(),
        }
    }

    /// From now on the sensor reads this (raw; states of those that have some), or as usual again.
    pub(super) fn force(&mut self, sensor: u8, raw: Option<u8>) {
        match raw {
            Some(raw) => self.forced.insert(sensor, raw),
            None => self.forced.remove(&sensor),
        };
    }

    /// Looks whether the machine has power; a change is an event.
    pub(super) fn look(&mut self, power: bool) {
        if self.power.is_some_and(|before| before != power) {
            self.log.add(Event::Off(!power));
        }
        self.power = Some(power);
    }

    /// Somebody used Chassis Control.
    pub(super) fn control(&mut self, control: ChassisControl) {
        match control {
            ChassisControl::Cycle => self.log.add(Event::Cycled),
            ChassisControl::Reset => self.log.add(Event::Reset),
            ChassisControl::Diag => self.log.add(Event::Interrupt),
            ChassisControl::Off | ChassisControl::On | ChassisControl::Soft => {}
        }
    }

    /// Chassis Identify.
    pub(super) fn identify(&mut self, data: &[u8]) {
        self.light = match data {
            [_, force, ..] if force & 1 == 1 => Light::On,
            [0, ..] => Light::Off,
            [seconds, ..] => Light::Until(super::now() + Duration::from_secs(u64::from(*seconds))),
            [] => Light::Until(super::now() + Duration::from_secs(15)),
        };
    }

    /// The third byte of Get Chassis Status.
    pub(super) fn misc(&self) -> u8 {
        let light = match self.light {
            Light::Off => 0,
            Light::Until(end) => u8::from(super::now() < end),
            Light::On => 2,
        };
        0x40 | light << 4
    }

    /// Answers what is about sensors and storage; `None`: it is about something else.
    pub(super) fn answer(&mut self, net_fn: u8, command: u8, data: &[u8]) -> Option<Answer> {
        let own = self.storage.device_records;
        Some(match (net_fn, command) {
            (SENSOR, 0x2D) => self.reading(data),
            (SENSOR, 0x27) => byte(data, 0).and_then(|number| sdr::thresholds(number).ok_or(NOT_PRESENT)),
            (SENSOR, 0x20) if own => Ok(vec![u8::try_from(sdr::RECORDS.len()).unwrap_or(u8::MAX), 1]),
            (SENSOR, 0x22) if own => Ok(self.reserve()),
            (SENSOR, 0x21) if own => self.record(data),
            (STORAGE, 0x20) if !own => Ok(repository()),
            (STORAGE, 0x22) if !own => Ok(self.reserve()),
            (STORAGE, 0x23) if !own => self.record(data),
            (STORAGE, 0x40) => Ok(self.log.info()),
            (STORAGE, 0x42) => Ok(self.log.reserve()),
            (STORAGE, 0x43) => self.entry(data),
            (STORAGE, 0x47) => self.clear(data),
            (STORAGE, 0x10) => inventory(data, self.serial).map(|all| {
                let [low, high] = u16::try_from(all.len()).unwrap_or(u16::MAX).to_le_bytes();
                vec![low, high, 0]
            }),
            (STORAGE, 0x11) => self.inventory(data),
            _ => {
                self.unknown.insert((net_fn, command));
                return None;
            }
        })
    }

    fn reading(&self, data: &[u8]) -> Answer {
        let number = byte(data, 0)?;
        let turn = self.begun.elapsed().as_secs() / STEADY.as_secs();
        // the same seed reads the same (xorshift)
        let mut noise =
            self.seed ^ u32::from(number).wrapping_mul(0x9E37_79B9) ^ u32::try_from(turn).unwrap_or(0) | 1;
        for _ in 0..3 {
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
        }
        let power = self.power.unwrap_or(false);
        sdr::reading(number, power, noise, self.forced.get(&number).copied()).ok_or(NOT_PRESENT)
    }

    fn reserve(&mut self) -> Vec<u8> {
        self.reservation = self.reservation.wrapping_add(1).max(1);
        self.parts = 0;
        self.reservation.to_le_bytes().to_vec()
    }

    fn record(&mut self, data: &[u8]) -> Answer {
        let (reservation, id) = (word(data, 0)?, word(data, 2)?);
        let (offset, count) = (byte(data, 4)?, byte(data, 5)?);
        self.parts += 1;
        let loses = self.storage.loses_reservation_after;
        if loses != 0 && self.parts > loses {
            self.reservation = self.reservation.wrapping_add(1).max(1);
        }
        if offset != 0 && reservation != self.reservation {
            return Err(CANCELLED);
        }
        let records = &*sdr::RECORDS;
        let at = match id {
            0 => 0,
            LAST => records.len() - 1,
            id => usize::from(id) - 1,
        };
        let record = records.get(at).ok_or(NOT_PRESENT)?;
        let next = if at + 1 == records.len() { LAST } else { u16::try_from(at + 2).unwrap_or(LAST) };
        self.part(record, usize::from(offset), count, next)
    }

    /// A part of what is stored, after the number of the next.
    fn part(&self, whole: &[u8], offset: usize, count: u8, next: u16) -> Answer {
        let rest = whole.get(offset..).filter(|rest| !rest.is_empty()).ok_or(OUT_OF_RANGE)?;
        let wanted = if count == u8::MAX { rest.len() } else { usize::from(count).min(rest.len()) };
        if wanted > usize::from(self.storage.most_bytes) {
            return Err(TOO_MANY_BYTES);
        }
        let mut answer = next.to_le_bytes().to_vec();
        answer.extend(&rest[..wanted]);
        Ok(answer)
    }

    fn entry(&self, data: &[u8]) -> Answer {
        let (reservation, id) = (word(data, 0)?, word(data, 2)?);
        let (offset, count) = (byte(data, 4)?, byte(data, 5)?);
        if offset != 0 && !self.log.reserved(reservation) {
            return Err(CANCELLED);
        }
        let (entry, next) = self.log.entry(id).ok_or(NOT_PRESENT)?;
        self.part(&entry, usize::from(offset), count, next)
    }

    fn clear(&mut self, data: &[u8]) -> Answer {
        let reservation = word(data, 0)?;
        if data.get(2..5) != Some(b"CLR") {
            return Err(INVALID_DATA);
        }
        if !self.log.reserved(reservation) {
            return Err(CANCELLED);
        }
        if byte(data, 5)? == 0xAA {
            self.log.clear();
        }
        Ok(vec![1])
    }

    fn inventory(&self, data: &[u8]) -> Answer {
        let all = inventory(data, self.serial)?;
        let (offset, count) = (usize::from(word(data, 1)?), byte(data, 3)?);
        if count > self.storage.most_bytes {
            return Err(TOO_MANY_BYTES);
        }
        let rest = all.get(offset..).ok_or(OUT_OF_RANGE)?;
        let part = &rest[..usize::from(count).min(rest.len())];
        let mut answer = vec![u8::try_from(part.len()).unwrap_or(u8::MAX)];
        answer.extend(part);
        Ok(answer)
    }
}

fn inventory(data: &[u8], serial: u32) -> Answer {
    let id = byte(data, 0)?;
    fru::inventory(id, serial).filter(|_| id < fru::COUNT).ok_or(NOT_PRESENT)
}

fn repository() -> Vec<u8> {
    let mut data = vec![0x51];
    data.extend(u16::try_from(sdr::RECORDS.len()).unwrap_or(u16::MAX).to_le_bytes());
    data.extend([0, 0]);
    data.extend(MADE.to_le_bytes());
    data.extend(MADE.to_le_bytes());
    data.push(0x22);
    data
}
