//! The event log of a simulated machine.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

/// Entries that there is room for; the oldest give way.
const MOST: usize = 512;
/// Bytes of an entry.
const ENTRY: usize = 16;
const LAST: u16 = 0xFFFF;

/// The sensors of events, see the table of `sdr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The log is new.
    Cleared,
    /// Power went off (`true`) or on.
    Off(bool),
    /// A power cycle was asked for.
    Cycled,
    /// A hard reset was asked for.
    Reset,
    /// A diagnostic interrupt was asked for.
    Interrupt,
}

impl Event {
    /// Sensor type, number, direction and event type, and the first byte of data.
    const fn bytes(self) -> [u8; 4] {
        match self {
            Event::Cleared => [0x10, 0x51, 0x6F, 2],
            Event::Off(true) => [0x09, 0x50, 0x6F, 0],
            Event::Off(false) => [0x09, 0x50, 0xEF, 0],
            Event::Cycled => [0x09, 0x50, 0x6F, 1],
            Event::Reset => [0x1D, 0x52, 0x6F, 1],
            Event::Interrupt => [0x13, 0x53, 0x6F, 0],
        }
    }
}

pub(super) struct Log {
    entries: VecDeque<[u8; ENTRY]>,
    next: u16,
    reservation: u16,
    overflow: bool,
    changed: u32,
    erased: u32,
}

fn seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

impl Log {
    pub(super) fn new() -> Log {
        let entries = VecDeque::new();
        let mut log =
            Log { entries, next: 1, reservation: 1, overflow: false, changed: 0, erased: seconds() };
        log.add(Event::Cleared);
        log
    }

    pub(super) fn add(&mut self, event: Event) {
        let [a, b] = self.next.to_le_bytes();
        let [c, d, e, f] = seconds().to_le_bytes();
        let [kind, number, direction, data] = event.bytes();
        let entry = [a, b, 2, c, d, e, f, 0x20, 0, 4, kind, number, direction, data, 0xFF, 0xFF];
        if self.entries.len() == MOST {
            self.entries.pop_front();
            self.overflow = true;
        }
        self.entries.push_back(entry);
        self.next = if self.next == LAST - 1 { 1 } else { self.next + 1 };
        self.changed = seconds();
        // an event between two parts: what was begun has to begin anew
        self.reservation = self.reservation.wrapping_add(1).max(1);
    }

    pub(super) fn info(&self) -> Vec<u8> {
        let mut data = vec![0x51];
        data.extend(u16::try_from(self.entries.len()).unwrap_or(u16::MAX).to_le_bytes());
        data.extend(u16::try_from((MOST - self.entries.len()) * ENTRY).unwrap_or(u16::MAX).to_le_bytes());
        data.extend(self.changed.to_le_bytes());
        data.extend(self.erased.to_le_bytes());
        data.push(u8::from(self.overflow) << 7 | 0x02);
        data
    }

    pub(super) fn reserve(&mut self) -> Vec<u8> {
        self.reservation = self.reservation.wrapping_add(1).max(1);
        self.reservation.to_le_bytes().to_vec()
    }

    pub(super) fn reserved(&self, reservation: u16) -> bool {
        self.reservation == reservation
    }

    /// The entry with this number and the number of the one after it.
    pub(super) fn entry(&self, id: u16) -> Option<([u8; ENTRY], u16)> {
        let number = |entry: &[u8; ENTRY]| u16::from_le_bytes([entry[0], entry[1]]);
        let at = match id {
            0 => 0,
            LAST => self.entries.len().checked_sub(1)?,
            id => self.entries.iter().position(|entry| number(entry) == id)?,
        };
        let next = self.entries.get(at + 1).map_or(LAST, number);
        self.entries.get(at).map(|entry| (*entry, next))
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.overflow = false;
        self.erased = seconds();
        self.add(Event::Cleared);
    }
}
