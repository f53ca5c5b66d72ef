//! Looks a machine over through its BMC: sensors, event log, inventories. Everything is read in parts that the BMC can
//! give, begun anew when a reservation is lost, and bounded whatever a BMC says of itself.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ferric_machine::Timestamp;
use ipmi_rs_core::storage::sel::GetSelInfo;
use tokio::time::{Instant, sleep};

use super::bridge::{Bridge, Hop};
use super::command::sensor::{GetFactors, GetReading, GetThresholds};
use super::command::storage::{
    ClearSel, GetDeviceSdrInfo, GetFruInfo, GetSdr, GetSdrInfo, GetSelEntry, ReadFru, ReserveSdr, ReserveSel,
    SdrInfo, SdrPlace,
};
use super::error::IpmiError;
use super::fru::{self, Areas};
use super::packet::BMC_ADDRESS;
use super::sdr::{self, Factors, FruLocator, Sdr, SensorRecord};
use super::sel;
use super::settings::Target;
use super::{IpmiClient, states};
use crate::interface::{EventLog, Fru, Sensor, Sensors};

type Result<T> = std::result::Result<T, IpmiError>;

/// How long a controller behind the BMC is waited for.
const BEHIND: Duration = Duration::from_secs(5);
/// Most records of a repository.
const MOST_RECORDS: usize = 2048;
/// Most sensors that are read.
const MOST_SENSORS: usize = 512;
/// Most inventories of one machine.
const MOST_FRUS: usize = 16;
/// Reservations that may be lost while one repository or log is read.
const MOST_LOST: u32 = 16;
/// Numbers without an entry, one after the other, before a log is read from its beginning.
const MOST_GAPS: u32 = 8;
/// Entries that are walked through when a log has to be read from its beginning.
const MOST_ENTRIES: usize = 16 * 1024;
/// The first try at a part; most answers have room for it.
const FIRST_PART: u8 = 32;
/// Smaller parts are not tried.
const LEAST_PART: u8 = 8;
/// Machines whose sensor records are remembered.
const MOST_KNOWN: usize = 8192;
/// After this time thresholds are asked for again.
const KNOWN_FOR: Duration = Duration::from_secs(3600);
/// How long a log may take to be cleared.
const CLEARING: Duration = Duration::from_secs(20);
const LAST: u16 = 0xFFFF;

mod code {
    pub(super) const CANCELLED: u8 = 0xC5;
    pub(super) const WRONG_LENGTH: u8 = 0xC7;
    pub(super) const TOO_LONG: u8 = 0xC8;
    pub(super) const OUT_OF_RANGE: u8 = 0xC9;
    pub(super) const TOO_MANY_BYTES: u8 = 0xCA;
    pub(super) const NOT_PRESENT: u8 = 0xCB;
    pub(super) const INVALID_DATA: u8 = 0xCC;
    pub(super) const UNSPECIFIED: u8 = 0xFF;

    /// The BMC may give less at a time.
    pub(super) const fn asks_for_less(code: u8) -> bool {
        matches!(code, WRONG_LENGTH | TOO_LONG | TOO_MANY_BYTES | OUT_OF_RANGE | INVALID_DATA | UNSPECIFIED)
    }
}

/// What a BMC was found to have.
struct Known {
    place: SdrPlace,
    info: SdrInfo,
    sensors: Vec<SensorRecord>,
    frus: Vec<FruLocator>,
    read: Instant,
}

/// Looks machines over. It remembers the sensor records of each, so that a look costs little more than the readings.
pub struct Surveyor {
    client: Arc<IpmiClient>,
    known: Mutex<HashMap<String, Arc<Known>>>,
}

/// The address of the controller that is asked.
fn own_address(target: &Target) -> u8 {
    target.bridge.as_ref().map_or(BMC_ADDRESS, |bridge| bridge.target.address)
}

/// The way to the controller that has a sensor; `None` when there is none that we could go.
fn way_to<'a>(target: &'a Target, record: &SensorRecord) -> Option<Cow<'a, Target>> {
    if record.lun != 0 {
        return None;
    }
    if record.owner == own_address(target) {
        return Some(Cow::Borrowed(target));
    }
    // odd addresses are software; and a bridge behind a bridge is one too many
    if record.owner & 1 == 1 || target.bridge.is_some() {
        return None;
    }
    let hop = Hop { channel: record.channel, address: record.owner };
    let bridge = Bridge { local: Bridge::LOCAL, transit: None, target: hop };
    Some(Cow::Owned(Target { bridge: Some(bridge), ..target.clone() }))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A reader of parts: how much to ask for at a time, and what was lost on the way.
struct Parts {
    reservation: u16,
    part: u8,
    lost: u32,
}

/// What to do after a part was refused.
enum Retry {
    SameAgain,
    FromTheStart,
}

impl Parts {
    const fn new(reservation: u16) -> Parts {
        Parts { reservation, part: FIRST_PART, lost: 0 }
    }

    /// What a refusal means, where it means anything but the end.
    fn refused(&mut self, code: u8) -> Option<Retry> {
        if code == code::CANCELLED && self.lost < MOST_LOST {
            self.lost += 1;
            return Some(Retry::FromTheStart);
        }
        if code::asks_for_less(code) && self.part > LEAST_PART {
            self.part = (self.part / 2).max(LEAST_PART);
            return Some(Retry::SameAgain);
        }
        None
    }
}

impl Surveyor {
    /// Asks by `client`.
    #[must_use]
    pub fn new(client: Arc<IpmiClient>) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// Reads every sensor of the BMC.
    ///
    /// # Errors
    /// Every [`IpmiError`]; single sensors that do not answer are told as such.
    pub async fn sensors(&self, target: &Target) -> Result<Sensors> {
        let known = self.known(target).await?;
        let mut all = Vec::with_capacity(known.sensors.len());
        let mut away = Vec::new();
        for record in &known.sensors {
            all.push(self.sensor(target, record, &mut away).await?);
        }
        Ok(Sensors::new(now(), all))
    }

    /// A sensor with its reading. `away` are controllers behind the BMC that could not be reached.
    async fn sensor(
        &self,
        target: &Target,
        record: &SensorRecord,
        away: &mut Vec<(u8, u8)>,
    ) -> Result<Sensor> {
        let controller = (record.channel, record.owner);
        let target = match way_to(target, record) {
            Some(way) if !away.contains(&controller) => way,
            Some(_) | None => return Ok(states::sensor(record, None, None)),
        };
        let (target, within) = match &target {
            Cow::Borrowed(own) => (*own, self.client.settings().command_timeout),
            Cow::Owned(behind) => (behind, BEHIND),
        };
        let reading = match self.client.run_within(target, GetReading(record.number), within).await {
            Ok(reading) => reading,
            // the BMC itself is there: that one controller is not must not cost the rest
            Err(IpmiError::Bridge(_) | IpmiError::Silent(_)) if within == BEHIND => {
                away.push(controller);
                return Ok(states::sensor(record, None, None));
            }
            Err(IpmiError::Completion(code::NOT_PRESENT)) => Default::default(),
            Err(IpmiError::Completion(_) | IpmiError::Short) => {
                return Ok(states::sensor(record, None, None));
            }
            Err(error) => return Err(error),
        };
        let mut factors = record.factors;
        if let Some(some) = factors.filter(Factors::vary) {
            let ask = GetFactors { sensor: record.number, raw: reading.raw };
            factors = match self.client.run(target, ask).await {
                Ok(six) => Some(Factors::new(some.format << 6, 0, six)),
                Err(IpmiError::Completion(_) | IpmiError::Short) => None,
                Err(error) => return Err(error),
            };
        }
        Ok(states::sensor(record, Some(reading), factors))
    }

    /// What the BMC has, from memory where that still holds.
    async fn known(&self, target: &Target) -> Result<Arc<Known>> {
        let (place, info) = self.info(target).await?;
        let key = format!("{} {:#04x}", target.key(), own_address(target));
        let same = |known: &Arc<Known>| {
            known.place == place && known.info == info && known.read.elapsed() < KNOWN_FOR
        };
        let found = self.lock().get(&key).cloned();
        if let Some(known) = found.filter(same) {
            return Ok(known);
        }
        let known = Arc::new(self.read(target, place, info).await?);
        let mut all = self.lock();
        if all.len() >= MOST_KNOWN && !all.contains_key(&key) {
            let oldest = all.iter().min_by_key(|(_, known)| known.read).map(|(key, _)| key.clone());
            oldest.and_then(|key| all.remove(&key));
        }
        all.insert(key, Arc::clone(&known));
        Ok(known)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a repository, or the controller's own records only.
    async fn info(&self, target: &Target) -> Result<(SdrPlace, SdrInfo)> {
        match self.client.run(target, GetSdrInfo).await {
            Ok(info) => Ok((SdrPlace::Repository, info)),
            Err(refused @ (IpmiError::Completion(_) | IpmiError::Short)) => {
                let own = self.client.run(target, GetDeviceSdrInfo).await;
                // where there are none either, the first answer tells more
                own.map(|info| (SdrPlace::Device, info)).map_err(|_| refused)
            }
            Err(error) => Err(error),
        }
    }

    async fn read(&self, target: &Target, place: SdrPlace, info: SdrInfo) -> Result<Known> {
        let mut known = Known { place, info, sensors: Vec::new(), frus: Vec::new(), read: Instant::now() };
        // an empty repository has no first record
        if info.count == 0 {
            return Ok(known);
        }
        let reservation = self.client.run(target, ReserveSdr(place)).await?;
        let mut parts = Parts::new(reservation);
        let mut id = 0;
        for _ in 0..MOST_RECORDS {
            let (bytes, next) = self.record(target, place, id, &mut parts).await?;
            match Sdr::parse(&bytes) {
                Ok(Sdr::Sensors(some)) => known.sensors.extend(some),
                Ok(Sdr::Fru(fru)) => known.frus.push(fru),
                Ok(Sdr::Other(_)) => {}
                Err(error) => {
                    tracing::debug!(bmc = %target.name(), id, %error, "a sensor record is left out")
                }
            }
            if next == LAST || next == id || known.sensors.len() >= MOST_SENSORS {
                break;
            }
            id = next;
        }
        known.sensors.truncate(MOST_SENSORS);
        for sensor in known.sensors.iter_mut().filter(|one| one.asks_thresholds) {
            // those of other controllers cost too much: their records have to do
            if sensor.owner != own_address(target) || sensor.lun != 0 {
                continue;
            }
            match self.client.run(target, GetThresholds(sensor.number)).await {
                Ok(thresholds) => sensor.thresholds = thresholds,
                // those of the record stay
                Err(IpmiError::Completion(_) | IpmiError::Short) => {}
                Err(error) => return Err(error),
            }
            sensor.asks_thresholds = false;
        }
        Ok(known)
    }

    /// A whole record, and the id of the next.
    async fn record(
        &self,
        target: &Target,
        place: SdrPlace,
        id: u16,
        parts: &mut Parts,
    ) -> Result<(Vec<u8>, u16)> {
        let mut bytes: Vec<u8> = Vec::new();
        loop {
            // what comes after the header tells how long it is
            let wanted = match bytes.get(4) {
                Some(body) => sdr::HEADER + usize::from(*body),
                None => sdr::HEADER,
            };
            let count = u8::try_from(wanted - bytes.len()).unwrap_or(u8::MAX).min(parts.part);
            let offset = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
            let ask = GetSdr { place, reservation: parts.reservation, record: id, offset, count };
            match self.client.run(target, ask).await {
                Ok(part) if part.bytes.is_empty() => return Err(IpmiError::Short),
                Ok(part) => {
                    bytes.extend(part.bytes.iter().take(usize::from(count)));
                    let whole = bytes.get(4).map(|body| sdr::HEADER + usize::from(*body));
                    // 255 is as far as an offset goes
                    if whole.is_some_and(|whole| bytes.len() >= whole.min(usize::from(u8::MAX))) {
                        return Ok((bytes, part.next));
                    }
                }
                Err(IpmiError::Completion(code)) => match parts.refused(code) {
                    Some(Retry::SameAgain) => {}
                    Some(Retry::FromTheStart) => {
                        parts.reservation = self.client.run(target, ReserveSdr(place)).await?;
                        bytes.clear();
                    }
                    None => return Err(IpmiError::Completion(code)),
                },
                Err(error) => return Err(error),
            }
        }
    }

    /// The newest `most` entries of the event log, the newest first.
    ///
    /// # Errors
    /// Every [`IpmiError`].
    pub async fn event_log(&self, target: &Target, most: usize) -> Result<EventLog> {
        let info = self.client.run(target, GetSelInfo).await?;
        let mut log = EventLog { count: info.entries, overflow: info.overflow, entries: Vec::new() };
        let wanted = most.min(usize::from(info.entries));
        if wanted == 0 {
            return Ok(log);
        }
        let sensors = match self.known(target).await {
            Ok(known) => Some(known),
            // the log is worth reading without names too
            Err(IpmiError::Completion(_) | IpmiError::Short) => None,
            Err(error) => return Err(error),
        };
        let sensors = sensors.as_ref().map_or(&[][..], |known| &known.sensors[..]);
        // zero serves as long as entries are read whole
        let mut parts = Parts { part: u8::MAX, ..Parts::new(0) };
        let mut raw = self.newest(target, wanted, &mut parts).await?;
        raw.truncate(wanted);
        log.entries = raw.iter().map(|entry| sel::decode(entry, sensors)).collect();
        Ok(log)
    }

    /// Walks back from the last entry, whose neighbours mostly have the numbers before its own; where they do not, the
    /// log is read from its beginning.
    async fn newest(
        &self,
        target: &Target,
        wanted: usize,
        parts: &mut Parts,
    ) -> Result<Vec<[u8; sel::ENTRY]>> {
        let Some((last, _)) = self.entry(target, LAST, parts).await? else { return Ok(Vec::new()) };
        let mut id = u16::from_le_bytes([last[0], last[1]]);
        let (mut all, mut gaps) = (vec![last], 0);
        while all.len() < wanted && gaps < MOST_GAPS && id > 1 {
            id -= 1;
            match self.entry(target, id, parts).await? {
                // some give the nearest one instead of none
                Some((entry, _)) if u16::from_le_bytes([entry[0], entry[1]]) == id => {
                    all.push(entry);
                    gaps = 0;
                }
                Some(_) | None => gaps += 1,
            }
        }
        if all.len() >= wanted {
            return Ok(all);
        }
        let (mut all, mut id) = (std::collections::VecDeque::new(), 0);
        for _ in 0..MOST_ENTRIES {
            let Some((entry, next)) = self.entry(target, id, parts).await? else { break };
            if all.len() == wanted {
                all.pop_front();
            }
            all.push_back(entry);
            if next == LAST || next == id {
                break;
            }
            id = next;
        }
        Ok(all.into_iter().rev().collect())
    }

    /// An entry and the number of the one after it; `None` when there is none of that number.
    async fn entry(
        &self,
        target: &Target,
        id: u16,
        parts: &mut Parts,
    ) -> Result<Option<([u8; sel::ENTRY], u16)>> {
        let mut bytes: Vec<u8> = Vec::new();
        loop {
            let offset = u8::try_from(bytes.len()).unwrap_or(0);
            // all of it, until the BMC says that it cannot
            let count =
                if parts.part == u8::MAX { u8::MAX } else { parts.part.min(sel::ENTRY as u8 - offset) };
            let ask = GetSelEntry { reservation: parts.reservation, record: id, offset, count };
            match self.client.run(target, ask).await {
                Ok(part) if part.bytes.is_empty() => return Err(IpmiError::Short),
                Ok(part) => {
                    bytes.extend(part.bytes.iter().take(sel::ENTRY - bytes.len()));
                    if let Some(entry) = bytes.first_chunk::<{ sel::ENTRY }>() {
                        return Ok(Some((*entry, part.next)));
                    }
                    // less than all: the rest needs a reservation
                    if parts.part == u8::MAX {
                        self.read_in_parts(target, parts).await?;
                        bytes.clear();
                    }
                }
                Err(IpmiError::Completion(code::NOT_PRESENT)) => return Ok(None),
                Err(IpmiError::Completion(code::CANCELLED)) if parts.lost < MOST_LOST => {
                    parts.lost += 1;
                    parts.reservation = self.client.run(target, ReserveSel).await?;
                    bytes.clear();
                }
                Err(IpmiError::Completion(code::TOO_MANY_BYTES | code::TOO_LONG))
                    if parts.part == u8::MAX =>
                {
                    self.read_in_parts(target, parts).await?;
                }
                // what no number is said of in other words
                Err(IpmiError::Completion(code::OUT_OF_RANGE | code::INVALID_DATA)) if id != 0 => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn read_in_parts(&self, target: &Target, parts: &mut Parts) -> Result<()> {
        parts.reservation = self.client.run(target, ReserveSel).await?;
        parts.part = LEAST_PART;
        Ok(())
    }

    /// Clears the event log and waits until that is done.
    ///
    /// # Errors
    /// Every [`IpmiError`].
    pub async fn clear_event_log(&self, target: &Target) -> Result<()> {
        let mut reservation = self.client.run(target, ReserveSel).await?;
        let begun = Instant::now();
        let mut begin = true;
        let mut lost = 0;
        loop {
            match self.client.run(target, ClearSel { reservation, begin }).await {
                Ok(true) => return Ok(()),
                Ok(false) => begin = false,
                // an event came in between
                Err(IpmiError::Completion(code::CANCELLED)) if lost < MOST_LOST => {
                    lost += 1;
                    reservation = self.client.run(target, ReserveSel).await?;
                }
                Err(error) => return Err(error),
            }
            if begun.elapsed() >= CLEARING {
                return Err(IpmiError::Silent(begun.elapsed()));
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    /// The inventories: the machine's, and those that its sensor records tell of.
    ///
    /// # Errors
    /// Every [`IpmiError`]; of the machine's own inventory also that there is none.
    pub async fn fru(&self, target: &Target) -> Result<Vec<Fru>> {
        let frus = match self.known(target).await {
            Ok(known) => known.frus.clone(),
            Err(IpmiError::Completion(_) | IpmiError::Short) => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut places = vec![(0, "Builtin FRU Device".to_owned())];
        for FruLocator { name, owner, id } in frus {
            match id {
                Some(0) if owner == own_address(target) => places[0].1 = name,
                Some(id) if owner == own_address(target) && places.iter().all(|(one, _)| *one != id) => {
                    places.push((id, name))
                }
                Some(_) | None => {}
            }
        }
        let mut all = Vec::new();
        for (id, name) in places.into_iter().take(MOST_FRUS) {
            match self.inventory(target, id).await {
                Ok(bytes) => match fru::parse(name, id, &bytes) {
                    Ok(fru) => all.push(fru),
                    Err(error) => {
                        tracing::debug!(bmc = %target.name(), id, %error, "an inventory is left out")
                    }
                },
                // parts that are not there, or have no power
                Err(IpmiError::Completion(_) | IpmiError::Short) if id != 0 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// The bytes of an inventory, as far as its areas are; the rest is zero.
    async fn inventory(&self, target: &Target, id: u8) -> Result<Vec<u8>> {
        let info = self.client.run(target, GetFruInfo(id)).await?;
        let mut bytes = vec![0; usize::from(info.size)];
        let mut reader = FruReader { id, by_words: info.by_words, part: FIRST_PART };
        reader.read(&self.client, target, &mut bytes, 0, fru::HEADER).await?;
        let Ok(areas) = Areas::parse(&bytes) else { return Ok(bytes) };
        for at in areas.all() {
            reader.read(&self.client, target, &mut bytes, at, fru::HEADER).await?;
            let length = bytes.get(at..).map_or(0, fru::length);
            if length > fru::HEADER {
                let more = at + fru::HEADER;
                reader.read(&self.client, target, &mut bytes, more, length - fru::HEADER).await?;
            }
        }
        Ok(bytes)
    }
}

struct FruReader {
    id: u8,
    by_words: bool,
    part: u8,
}

impl FruReader {
    /// Reads `len` bytes at `at` (both even) to where they belong, or as many as there are.
    async fn read(
        &mut self,
        client: &IpmiClient,
        target: &Target,
        bytes: &mut [u8],
        at: usize,
        len: usize,
    ) -> Result<()> {
        let (mut at, end) = (at, (at + len).min(bytes.len()));
        let per = if self.by_words { 2 } else { 1 };
        while at < end {
            let count = u8::try_from((end - at).div_ceil(per)).unwrap_or(u8::MAX).min(self.part);
            let offset = u16::try_from(at / per).unwrap_or(u16::MAX);
            match client.run(target, ReadFru { id: self.id, offset, count }).await {
                Ok(part) if part.is_empty() => return Err(IpmiError::Short),
                Ok(part) => {
                    let part = &part[..part.len().min(end - at)];
                    bytes[at..at + part.len()].copy_from_slice(part);
                    at += part.len();
                    // half a word is not to be had
                    if at % per != 0 && at < end {
                        return Err(IpmiError::Short);
                    }
                }
                Err(IpmiError::Completion(code)) if code::asks_for_less(code) && self.part > LEAST_PART => {
                    self.part = (self.part / 2).max(LEAST_PART);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
