//! What is on the disk after it was written: the identifiers by which a kernel line, a boot loader or PXELINUX finds it.

use super::device::BlockDevice;
use super::layout::Span;
use super::table;
use crate::interface::Result;

/// Bytes of the begin of a file system that tell what it is: btrfs has its superblock at 64 KiB.
const LOOK: u64 = 72 << 10;

/// The UUID of the file system in this stretch as blkid shows it; `None` for kinds that are not known here.
pub(super) async fn file_system_uuid(device: &dyn BlockDevice, span: Span) -> Result<Option<String>> {
    let len = LOOK.min(span.len) / device.block() * device.block();
    let bytes = device.read_at(span.at, usize::try_from(len).expect("72 KiB")).await?;
    Ok(uuid_of(&bytes))
}

fn uuid_of(bytes: &[u8]) -> Option<String> {
    let is = |at: usize, magic: &[u8]| bytes.get(at..at + magic.len()) == Some(magic);
    let uuid = |at: usize| {
        let raw: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        Some(uuid::Uuid::from_bytes(raw).to_string())
    };
    let serial = |at: usize| {
        let raw: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        let number = u32::from_le_bytes(raw);
        Some(format!("{:04X}-{:04X}", number >> 16, number & 0xffff))
    };
    if is(1024 + 56, &[0x53, 0xef]) {
        uuid(1024 + 104)
    } else if is(0, b"XFSB") {
        uuid(32)
    } else if is(0x10000 + 64, b"_BHRfS_M") {
        uuid(0x10000 + 32)
    } else if is(82, b"FAT32") {
        serial(67)
    } else if is(54, b"FAT") {
        serial(39)
    } else {
        None
    }
}

/// The 32-bit identifier at byte 440 as `0x%08x` (deploy.md §A.1 row 10).
pub(super) async fn disk_identifier(device: &dyn BlockDevice) -> Result<String> {
    let begin = device.read_at(0, usize::try_from(device.block().max(512)).expect("a block")).await?;
    Ok(format!("0x{:08x}", u32::from_le_bytes(begin[440..444].try_into().expect("four bytes"))))
}

/// The UUID of the file system in the EFI system partition, if there is one.
pub(super) async fn esp_uuid(device: &dyn BlockDevice) -> Result<Option<String>> {
    let all = table::read(device).await?;
    let fits = |entry: &&table::Entry| entry.is_esp && entry.span.at + entry.span.len <= device.capacity();
    match all.iter().find(fits) {
        Some(esp) => file_system_uuid(device, esp.span).await,
        None => Ok(None),
    }
}
