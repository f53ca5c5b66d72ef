//! Commands of the storage device: sensor records, event log, inventory (IPMI 2.0 §31, §33, §34). `ipmi-rs-core` has
//! some of them, which read whole records only and panic on short answers.

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn, NotEnoughData};

/// Number of Get SDR Repository Info (storage) and of Get Device SDR Info (sensor).
pub const GET_SDR_INFO: u8 = 0x20;
/// Number of Reserve Device SDR Repository (sensor) and of Reserve SDR Repository (storage).
pub const RESERVE_SDR: u8 = 0x22;
/// Number of Get Device SDR (sensor).
pub const GET_DEVICE_SDR: u8 = 0x21;
/// Number of Get SDR (storage).
pub const GET_SDR: u8 = 0x23;
/// Number of Get SEL Info.
pub const GET_SEL_INFO: u8 = 0x40;
/// Number of Reserve SEL.
pub const RESERVE_SEL: u8 = 0x42;
/// Number of Get SEL Entry.
pub const GET_SEL_ENTRY: u8 = 0x43;
/// Number of Clear SEL.
pub const CLEAR_SEL: u8 = 0x47;
/// Number of Get FRU Inventory Area Info.
pub const GET_FRU_INFO: u8 = 0x10;
/// Number of Read FRU Data.
pub const READ_FRU: u8 = 0x11;

fn u16_at(data: &[u8], at: usize) -> Result<u16, NotEnoughData> {
    let two = data.get(at..).and_then(|rest| rest.first_chunk::<2>()).ok_or(NotEnoughData)?;
    Ok(u16::from_le_bytes(*two))
}

fn u32_at(data: &[u8], at: usize) -> Result<u32, NotEnoughData> {
    let four = data.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(NotEnoughData)?;
    Ok(u32::from_le_bytes(*four))
}

/// Get SDR Repository Info.
pub struct GetSdrInfo;

/// What tells whether a repository is still the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SdrInfo {
    /// Records, or sensors for device SDRs.
    pub count: u16,
    /// Time of the last addition, or the change indicator of device SDRs.
    pub added: u32,
    /// Time of the last erasure.
    pub erased: u32,
}

impl From<GetSdrInfo> for Message {
    fn from(_: GetSdrInfo) -> Self {
        Message::new_request(NetFn::Storage, GET_SDR_INFO, Vec::new())
    }
}

impl IpmiCommand for GetSdrInfo {
    type Output = SdrInfo;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<SdrInfo, NotEnoughData> {
        Ok(SdrInfo { count: u16_at(data, 1)?, added: u32_at(data, 5)?, erased: u32_at(data, 9)? })
    }
}

/// Get Device SDR Info: of the sensors of a controller that has no repository.
pub struct GetDeviceSdrInfo;

impl From<GetDeviceSdrInfo> for Message {
    fn from(_: GetDeviceSdrInfo) -> Self {
        Message::new_request(NetFn::SensorEvent, GET_SDR_INFO, Vec::new())
    }
}

impl IpmiCommand for GetDeviceSdrInfo {
    type Output = SdrInfo;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<SdrInfo, NotEnoughData> {
        let count = u16::from(*data.first().ok_or(NotEnoughData)?);
        // static populations have no change indicator
        Ok(SdrInfo { count, added: u32_at(data, 2).unwrap_or(0), erased: 0 })
    }
}

/// Whose sensor records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SdrPlace {
    /// The repository of the machine.
    Repository,
    /// The controller's own (device SDRs).
    Device,
}

/// Reserve SDR Repository, or Reserve Device SDR Repository.
pub struct ReserveSdr(pub SdrPlace);

impl From<ReserveSdr> for Message {
    fn from(command: ReserveSdr) -> Self {
        let net_fn = match command.0 {
            SdrPlace::Repository => NetFn::Storage,
            SdrPlace::Device => NetFn::SensorEvent,
        };
        Message::new_request(net_fn, RESERVE_SDR, Vec::new())
    }
}

impl IpmiCommand for ReserveSdr {
    /// The reservation's number.
    type Output = u16;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<u16, NotEnoughData> {
        u16_at(data, 0)
    }
}

/// Get SDR or Get Device SDR: a part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetSdr {
    /// Whose.
    pub place: SdrPlace,
    /// Of [`ReserveSdr`]; needed for parts.
    pub reservation: u16,
    /// The record's id; 0 is the first.
    pub record: u16,
    /// The first byte wanted.
    pub offset: u8,
    /// How many; 0xFF is all.
    pub count: u8,
}

/// A part of a record, and which one comes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Id of the next record, 0xFFFF after the last.
    pub next: u16,
    /// The bytes.
    pub bytes: Vec<u8>,
}

fn part(data: &[u8]) -> Result<Part, NotEnoughData> {
    Ok(Part { next: u16_at(data, 0)?, bytes: data.get(2..).unwrap_or_default().to_vec() })
}

fn part_of(reservation: u16, record: u16, offset: u8, count: u8) -> Vec<u8> {
    let [a, b] = reservation.to_le_bytes();
    let [c, d] = record.to_le_bytes();
    vec![a, b, c, d, offset, count]
}

impl From<GetSdr> for Message {
    fn from(command: GetSdr) -> Self {
        let GetSdr { place, reservation, record, offset, count } = command;
        let (net_fn, number) = match place {
            SdrPlace::Repository => (NetFn::Storage, GET_SDR),
            SdrPlace::Device => (NetFn::SensorEvent, GET_DEVICE_SDR),
        };
        Message::new_request(net_fn, number, part_of(reservation, record, offset, count))
    }
}

impl IpmiCommand for GetSdr {
    type Output = Part;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<Part, NotEnoughData> {
        part(data)
    }
}

/// Reserve SEL.
pub struct ReserveSel;

impl From<ReserveSel> for Message {
    fn from(_: ReserveSel) -> Self {
        Message::new_request(NetFn::Storage, RESERVE_SEL, Vec::new())
    }
}

impl IpmiCommand for ReserveSel {
    /// The reservation's number.
    type Output = u16;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<u16, NotEnoughData> {
        u16_at(data, 0)
    }
}

/// Get SEL Entry: a part of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetSelEntry {
    /// Of [`ReserveSel`]; needed for parts.
    pub reservation: u16,
    /// The entry's id; 0 is the first, 0xFFFF the last.
    pub record: u16,
    /// The first byte wanted.
    pub offset: u8,
    /// How many; 0xFF is all.
    pub count: u8,
}

impl From<GetSelEntry> for Message {
    fn from(command: GetSelEntry) -> Self {
        let GetSelEntry { reservation, record, offset, count } = command;
        Message::new_request(NetFn::Storage, GET_SEL_ENTRY, part_of(reservation, record, offset, count))
    }
}

impl IpmiCommand for GetSelEntry {
    type Output = Part;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<Part, NotEnoughData> {
        part(data)
    }
}

/// Clear SEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClearSel {
    /// Of [`ReserveSel`].
    pub reservation: u16,
    /// Begin (`true`), or ask whether it is done.
    pub begin: bool,
}

impl From<ClearSel> for Message {
    fn from(command: ClearSel) -> Self {
        let [a, b] = command.reservation.to_le_bytes();
        let action = if command.begin { 0xAA } else { 0 };
        Message::new_request(NetFn::Storage, CLEAR_SEL, vec![a, b, b'C', b'L', b'R', action])
    }
}

impl IpmiCommand for ClearSel {
    /// Whether it is done.
    type Output = bool;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<bool, NotEnoughData> {
        data.first().map(|progress| progress & 0x0F == 1).ok_or(NotEnoughData)
    }
}

/// Get FRU Inventory Area Info: of the inventory with this number.
pub struct GetFruInfo(pub u8);

/// The size of an inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FruInfo {
    /// Bytes.
    pub size: u16,
    /// Offsets and counts are in words of two bytes.
    pub by_words: bool,
}

impl From<GetFruInfo> for Message {
    fn from(command: GetFruInfo) -> Self {
        Message::new_request(NetFn::Storage, GET_FRU_INFO, vec![command.0])
    }
}

impl IpmiCommand for GetFruInfo {
    type Output = FruInfo;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<FruInfo, NotEnoughData> {
        Ok(FruInfo { size: u16_at(data, 0)?, by_words: data.get(2).is_some_and(|access| access & 1 == 1) })
    }
}

/// Read FRU Data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFru {
    /// The inventory's number.
    pub id: u8,
    /// The first byte or word wanted.
    pub offset: u16,
    /// How many.
    pub count: u8,
}

impl From<ReadFru> for Message {
    fn from(command: ReadFru) -> Self {
        let [a, b] = command.offset.to_le_bytes();
        Message::new_request(NetFn::Storage, READ_FRU, vec![command.id, a, b, command.count])
    }
}

impl IpmiCommand for ReadFru {
    type Output = Vec<u8>;
    type Error = NotEnoughData;
    fn parse_success_response(data: &[u8]) -> Result<Vec<u8>, NotEnoughData> {
        data.get(1..).map(<[u8]>::to_vec).ok_or(NotEnoughData)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_answers_are_errors_and_never_panics() {
        for len in 0..20 {
            let data = vec![0xFF; len];
            assert_eq!(GetSdrInfo::parse_success_response(&data).is_ok(), len >= 13);
            assert_eq!(GetDeviceSdrInfo::parse_success_response(&data).is_ok(), len >= 1);
            assert_eq!(ReserveSdr::parse_success_response(&data).is_ok(), len >= 2);
            assert_eq!(GetSdr::parse_success_response(&data).is_ok(), len >= 2);
            assert_eq!(GetSelEntry::parse_success_response(&data).is_ok(), len >= 2);
            assert_eq!(ClearSel::parse_success_response(&data).is_ok(), len >= 1);
            assert_eq!(GetFruInfo::parse_success_response(&data).is_ok(), len >= 2);
            assert_eq!(ReadFru::parse_success_response(&data).is_ok(), len >= 1);
        }
    }
}
