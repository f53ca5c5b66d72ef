//! Inventories (Platform Management FRU Information Storage Definition 1.0): chassis, board and product.

use ferric_machine::Timestamp;

use super::typed_text::TypeLength;
use crate::interface::{Fru, FruArea};

/// Bytes of the common header.
pub const HEADER: usize = 8;
/// Most fields of an area: the rest is taken for garbage.
const MOST_FIELDS: usize = 64;
/// 1996-01-01T00:00:00Z, from which boards count minutes.
const EPOCH: i64 = 820_454_400;

/// Where the areas begin, in bytes; `None` for those that are not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Areas {
    /// Chassis.
    pub chassis: Option<usize>,
    /// Board.
    pub board: Option<usize>,
    /// Product.
    pub product: Option<usize>,
}

/// Why an inventory cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFru {
    /// No header, or one of another version.
    #[error("there is no inventory in it")]
    NoHeader,
    /// The header's sum is wrong.
    #[error("the checksum of its header is wrong")]
    Checksum,
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

impl Areas {
    /// Reads the common header.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(header: &[u8]) -> Result<Areas, BadFru> {
        let header = header.first_chunk::<HEADER>().ok_or(BadFru::NoHeader)?;
        let [version, _, chassis, board, product, ..] = *header;
        if version & 0x0F != 1 {
            return Err(BadFru::NoHeader);
        }
        if sum(header) != 0 {
            return Err(BadFru::Checksum);
        }
        let at = |eights: u8| (eights != 0).then(|| usize::from(eights) * 8);
        Ok(Areas { chassis: at(chassis), board: at(board), product: at(product) })
    }

    /// The beginnings of all that are there.
    pub fn all(&self) -> impl Iterator<Item = usize> {
        [self.chassis, self.board, self.product].into_iter().flatten()
    }
}

/// Bytes of the area that begins like this; 0 when it says none.
#[must_use]
pub fn length(area: &[u8]) -> usize {
    area.get(1).map_or(0, |eights| usize::from(*eights) * 8)
}

/// The fields after `at`, up to the end mark.
fn fields(area: &[u8], mut at: usize, wide: bool) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < MOST_FIELDS
        && let Some(kind) = area.get(at).copied().and_then(TypeLength::of_fru)
    {
        let Some(bytes) = area.get(at + 1..at + 1 + kind.len) else { break };
        all.push(kind.text(bytes, wide));
        at += 1 + kind.len;
    }
    all
}

fn area(area: &[u8], names: &[&'static str], at: usize, wide: bool) -> FruArea {
    let mut values = fields(area, at, wide).into_iter();
    let known = names.iter().zip(values.by_ref()).filter(|(_, value)| !value.is_empty());
    let known = known.map(|(name, value)| ((*name).to_owned(), value)).collect();
    let extra = values.filter(|value| !value.is_empty()).collect();
    FruArea { fields: known, extra, made_at: None, checksum_ok: sum(area) == 0 }
}

/// The chassis area, whole.
#[must_use]
pub fn chassis(bytes: &[u8]) -> FruArea {
    let mut chassis = area(bytes, &["part_number", "serial_number"], 3, false);
    if let Some(kind) = bytes.get(2) {
        chassis.fields.insert("type".to_owned(), chassis_kind(*kind).to_owned());
    }
    chassis
}

/// The board area, whole.
#[must_use]
pub fn board(bytes: &[u8]) -> FruArea {
    let names = ["manufacturer", "product_name", "serial_number", "part_number", "fru_file_id"];
    let mut board = area(bytes, &names, 6, is_wide(bytes));
    if let Some([a, b, c]) = bytes.get(3..6).and_then(|three| three.first_chunk::<3>()) {
        let minutes = i64::from(u32::from_le_bytes([*a, *b, *c, 0]));
        // zero is "unspecified"
        if minutes != 0 {
            board.made_at = Some(Timestamp((EPOCH + minutes * 60) * 1_000_000));
        }
    }
    board
}

/// The product area, whole.
#[must_use]
pub fn product(bytes: &[u8]) -> FruArea {
    let names = [
        "manufacturer",
        "product_name",
        "part_number",
        "version",
        "serial_number",
        "asset_tag",
        "fru_file_id",
    ];
    area(bytes, &names, 3, is_wide(bytes))
}

/// Languages other than English (0 and 25) have strings of 16 bits.
fn is_wide(area: &[u8]) -> bool {
    area.get(2).is_some_and(|language| !matches!(language, 0 | 25))
}

/// Types of enclosures, as SMBIOS numbers them.
fn chassis_kind(number: u8) -> &'static str {
    const KINDS: [&str; 37] = [
        "Unspecified",
        "Other",
        "Unknown",
        "Desktop",
        "Low Profile Desktop",
        "Pizza Box",
        "Mini Tower",
        "Tower",
        "Portable",
        "Laptop",
        "Notebook",
        "Hand Held",
        "Docking Station",
        "All in One",
        "Sub Notebook",
        "Space-saving",
        "Lunch Box",
        "Main Server Chassis",
        "Expansion Chassis",
        "SubChassis",
        "Bus Expansion Chassis",
        "Peripheral Chassis",
        "RAID Chassis",
        "Rack Mount Chassis",
        "Sealed-case PC",
        "Multi-system Chassis",
        "Compact PCI",
        "Advanced TCA",
        "Blade",
        "Blade Enclosure",
        "Tablet",
        "Convertible",
        "Detachable",
        "IoT Gateway",
        "Embedded PC",
        "Mini PC",
        "Stick PC",
    ];
    KINDS.get(usize::from(number)).copied().unwrap_or("Unknown")
}

/// Reads an inventory of which the bytes are all there.
///
/// # Errors
/// There is no header.
pub fn parse(name: String, id: u8, bytes: &[u8]) -> Result<Fru, BadFru> {
    let areas = Areas::parse(bytes)?;
    let whole = |at: Option<usize>| {
        let from = bytes.get(at?..)?;
        let whole = from.get(..length(from)).unwrap_or(from);
        (whole.len() >= HEADER).then_some(whole)
    };
    Ok(Fru {
        id,
        name,
        chassis: whole(areas.chassis).map(chassis),
        board: whole(areas.board).map(board),
        product: whole(areas.product).map(product),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(mut area: Vec<u8>) -> Vec<u8> {
        area.resize((area.len() + 1).next_multiple_of(8) - 1, 0);
        area[1] = u8::try_from((area.len() + 1) / 8).expect("small");
        area.push(sum(&area).wrapping_neg());
        area
    }

    fn inventory() -> Vec<u8> {
        let text = |text: &str| {
            let mut all = vec![0xC0 | u8::try_from(text.len()).expect("short")];
            all.extend(text.as_bytes());
            all
        };
        let mut chassis = vec![1, 0, 0x17];
        chassis.extend([0x83, 0x29, 0xDC, 0xA6, 0x42, 0x12, 0x34, 0xC1]);
        // 2000-01-01, 2103840 minutes
        let mut board = vec![1, 0, 25, 0x20, 0x1A, 0x20];
        for field in ["Ferric", "Board", "S1", "", "F1", "more"] {
            board.extend(text(field));
        }
        board.push(0xC1);
        let (chassis, board) = (sealed(chassis), sealed(board));
        let at = u8::try_from(1 + chassis.len() / 8).expect("small");
        let mut all = vec![1, 0, 1, at, 0, 0, 0];
        all.push(sum(&all).wrapping_neg());
        all.extend(chassis);
        all.extend(board);
        all
    }

    #[test]
    fn areas_are_read_with_every_kind_of_text() {
        let fru = parse("main".to_owned(), 0, &inventory()).expect("an inventory");
        let chassis = fru.chassis.expect("there is one");
        assert_eq!(chassis.fields["part_number"], "IPMI");
        assert_eq!(chassis.fields["serial_number"], "1234");
        assert_eq!(chassis.fields["type"], "Rack Mount Chassis");
        let board = fru.board.expect("there is one");
        assert_eq!(board.fields["manufacturer"], "Ferric");
        assert_eq!(board.made_at, Some(Timestamp(946_684_800_000_000)));
        assert!(!board.fields.contains_key("part_number"), "empty");
        assert_eq!(board.extra, ["more"]);
        assert!(board.checksum_ok && chassis.checksum_ok && fru.product.is_none());
    }

    #[test]
    fn broken_inventories_are_told_and_never_panic() {
        let whole = inventory();
        for len in 0..whole.len() {
            let _ = parse(String::new(), 0, &whole[..len]);
        }
        let mut wrong = whole.clone();
        wrong[3] ^= 1;
        assert_eq!(parse(String::new(), 0, &wrong), Err(BadFru::Checksum));
        assert_eq!(parse(String::new(), 0, &[0xFF; 64]), Err(BadFru::NoHeader));
        // an area that is damaged is shown and told apart
        let mut wrong = whole;
        let last = wrong.len() - 2;
        wrong[last] ^= 1;
        let fru = parse(String::new(), 0, &wrong).expect("the header is whole");
        assert!(!fru.board.expect("there is one").checksum_ok);
    }
}
