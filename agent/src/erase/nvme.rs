//! NVMe: what a controller can erase by itself, and letting it (NVM Express base 2.0, NVM command set 1.0).

use std::fs::File;
use std::io;
use std::time::Duration;

use super::ioctl;
use super::plan::Nvme;

const IDENTIFY: u8 = 0x06;
const FORMAT: u8 = 0x80;

/// For a question.
const QUICK: Duration = Duration::from_secs(30);

/// For an erasing: large drives without crypto erase take an hour and more.
const LONG: Duration = Duration::from_secs(8 * 3600);

/// What Identify Controller says. None for what is no NVMe namespace.
pub(super) fn probe(file: &File) -> Option<Nvme> {
    let namespace = ioctl::nvme_namespace(file).ok()?;
    let mut controller = vec![0; 4096];
    if let Err(error) = ioctl::nvme_admin(file, IDENTIFY, 0, 1, &mut controller, QUICK) {
        tracing::warn!(%error, namespace, "NVMe Identify Controller");
        return None;
    }
    Some(read_controller(&controller))
}

fn read_controller(bytes: &[u8]) -> Nvme {
    let commands = u16::from_le_bytes([bytes[256], bytes[257]]);
    let attributes = bytes[524];
    Nvme {
        format: commands & 0b10 != 0,
        crypto: attributes & 0b100 != 0,
        whole_controller: attributes & 0b11 != 0,
        shares_with_protected: false,
    }
}

/// Formats the namespace with secure erase, its block format unchanged. Blocks until it is done.
pub(super) fn format(file: &File, crypto: bool) -> io::Result<()> {
    let namespace = ioctl::nvme_namespace(file)?;
    let mut identity = vec![0; 4096];
    ioctl::nvme_admin(file, IDENTIFY, namespace, 0, &mut identity, QUICK)?;
    ioctl::nvme_admin(file, FORMAT, namespace, format_word(&identity, crypto), &mut [], LONG)?;
    // what the kernel knows of the namespace is old now; it may learn of it by itself as well
    if let Err(error) = ioctl::nvme_rescan(file) {
        tracing::debug!(%error, "NVMe rescan");
    }
    Ok(())
}

/// Command dword 10 of Format NVM: block format, metadata and protection as the namespace has them now.
fn format_word(identity: &[u8], crypto: bool) -> u32 {
    let (flbas, protection) = (u32::from(identity[26]), u32::from(identity[29]));
    let low = flbas & 0xf;
    let high = flbas >> 5 & 0b11;
    let metadata_at_end = flbas >> 4 & 1;
    let kind = protection & 0b111;
    let first = protection >> 3 & 1;
    let erase = if crypto { 2 } else { 1 };
    low | metadata_at_end << 4 | kind << 5 | first << 8 | erase << 9 | high << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abilities_are_read_and_the_block_format_is_kept() {
        let mut controller = vec![0; 4096];
        assert_eq!(read_controller(&controller), Nvme::default());
        controller[256] = 0x1f;
        controller[524] = 0b110;
        let expected =
            Nvme { format: true, crypto: true, whole_controller: true, shares_with_protected: false };
        assert_eq!(read_controller(&controller), expected);
        let mut identity = vec![0; 4096];
        assert_eq!((format_word(&identity, false), format_word(&identity, true)), (0x200, 0x400));
        identity[26] = 0b0101_0011;
        identity[29] = 0b1010;
        // format 3 with upper bits 2, metadata at the end of the block, protection 2 at the front
        assert_eq!(format_word(&identity, false), 3 | 1 << 4 | 2 << 5 | 1 << 8 | 1 << 9 | 2 << 12);
    }
}
