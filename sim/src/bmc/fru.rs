//! The inventories of a simulated machine: the machine's own and that of a power supply.

/// Inventories that there are.
pub(super) const COUNT: u8 = 2;

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte))
}

/// Pads an area to eights, with its length and its checksum.
fn sealed(mut area: Vec<u8>) -> Vec<u8> {
    area.push(0xC1);
    area.resize((area.len() + 1).next_multiple_of(8) - 1, 0);
    area[1] = u8::try_from((area.len() + 1) / 8).expect("areas are small");
    area.push(sum(&area).wrapping_neg());
    area
}

/// A string of eight-bit characters; one of a single character would read as the end.
fn latin(area: &mut Vec<u8>, text: &str) {
    area.push(0xC0 | u8::try_from(text.len()).expect("strings are short"));
    area.extend(text.as_bytes());
}

/// A string of six-bit characters: four in three bytes.
fn six_bit(area: &mut Vec<u8>, text: &str) {
    let (mut packed, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes() {
        bits |= u32::from(byte.wrapping_sub(0x20) & 0x3F) << held;
        held += 6;
        while held >= 8 {
            packed.push(bits.to_le_bytes()[0]);
            bits >>= 8;
            held -= 8;
        }
    }
    if held > 0 {
        packed.push(bits.to_le_bytes()[0]);
    }
    area.push(0x80 | u8::try_from(packed.len()).expect("strings are short"));
    area.extend(packed);
}

/// A string of digits, two in a byte.
fn digits(area: &mut Vec<u8>, text: &str) {
    let value = |byte: u8| byte.wrapping_sub(b'0') & 0x0F;
    let packed: Vec<u8> = text
        .as_bytes()
        .chunks(2)
        .map(|two| value(two[0]) << 4 | two.get(1).map_or(0x0A, |one| value(*one)))
        .collect();
    area.push(0x40 | u8::try_from(packed.len()).expect("strings are short"));
    area.extend(packed);
}

/// The bytes of an inventory; `serial` makes the machine one of a kind.
pub(super) fn inventory(id: u8, serial: u32) -> Option<Vec<u8>> {
    let mut areas: [Vec<u8>; 3] = Default::default();
    match id {
        0 => {
            let mut chassis = vec![1, 0, 0x17];
            six_bit(&mut chassis, "CSE-1U-4X35");
            digits(&mut chassis, &format!("{serial:010}"));
            // 2024-02-29 12:00 UTC, in minutes since 1996
            let mut board = vec![1, 0, 0, 0x90, 0x05, 0xE2];
            for text in ["Ferric", "FS-X1 mainboard"] {
                latin(&mut board, text);
            }
            latin(&mut board, &format!("MB{serial:08}"));
            latin(&mut board, "FS-X1-MB-R2");
            latin(&mut board, "");
            latin(&mut board, "simulated");
            let mut product = vec![1, 0, 0];
            for text in ["Ferric", "Simulated Server X1", "FS-X1", "2.0"] {
                latin(&mut product, text);
            }
            latin(&mut product, &format!("SN{serial:08}"));
            latin(&mut product, "");
            areas = [sealed(chassis), sealed(board), sealed(product)];
        }
        1 => {
            let mut product = vec![1, 0, 0];
            for text in ["Ferric", "750 W power supply", "PS-750", "A1"] {
                latin(&mut product, text);
            }
            latin(&mut product, &format!("PS{serial:08}"));
            areas[2] = sealed(product);
        }
        _ => return None,
    }
    let mut all = vec![1, 0];
    let mut at = 8;
    for area in &areas {
        let there = !area.is_empty();
        all.push(if there { u8::try_from(at / 8).expect("inventories are small") } else { 0 });
        at += area.len();
    }
    all.extend([0, 0]);
    all.push(sum(&all).wrapping_neg());
    areas.iter().for_each(|area| all.extend(area));
    // the chip is larger than what is in it
    all.resize(512, 0xFF);
    Some(all)
}
