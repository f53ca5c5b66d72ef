//! The system calls by which a block device is asked to do something. Everything unsafe of the agent is in here.
//!
//! Each function takes an open file, so the descriptor is valid for the call; each buffer is borrowed for the call and
//! its length is what the kernel is told. On what is no such device the kernel answers `ENOTTY` or `EINVAL`.
#![allow(unsafe_code, reason = "ioctl has no safe form; every call is wrapped here")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc::{c_int, c_ulong, c_void, ioctl};

const BLKDISCARD: c_ulong = 0x1277;
const BLKSECDISCARD: c_ulong = 0x127d;
const BLKZEROOUT: c_ulong = 0x127f;
const BLKFLSBUF: c_ulong = 0x1261;
const SG_IO: c_ulong = 0x2285;
const NVME_ID: c_ulong = 0x4e40;
const NVME_RESCAN: c_ulong = 0x4e46;
const NVME_ADMIN: c_ulong = 0xc048_4e41;

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn stretch(file: &File, request: c_ulong, at: u64, len: u64) -> io::Result<()> {
    let range = [at, len];
    // SAFETY: the three requests read two u64 at the pointer; `range` lives until the call is over
    checked(unsafe { ioctl(file.as_raw_fd(), request as _, range.as_ptr()) }).map(drop)
}

/// Tells the device that these bytes are no longer needed.
pub(super) fn discard(file: &File, at: u64, len: u64) -> io::Result<()> {
    stretch(file, BLKDISCARD, at, len)
}

/// The same, copies included.
pub(super) fn secure_discard(file: &File, at: u64, len: u64) -> io::Result<()> {
    stretch(file, BLKSECDISCARD, at, len)
}

/// Zeros, by the device's own means where it has any.
pub(super) fn zero_out(file: &File, at: u64, len: u64) -> io::Result<()> {
    stretch(file, BLKZEROOUT, at, len)
}

/// Writes what is cached of the device and forgets it.
pub(super) fn flush_buffers(file: &File) -> io::Result<()> {
    // SAFETY: the request takes no argument
    checked(unsafe { ioctl(file.as_raw_fd(), BLKFLSBUF as _, 0) }).map(drop)
}

/// The namespace behind a block device. Errors: `ENOTTY` for what is no NVMe.
pub(super) fn nvme_namespace(file: &File) -> io::Result<u32> {
    // SAFETY: the request takes no argument and returns the number
    checked(unsafe { ioctl(file.as_raw_fd(), NVME_ID as _, 0) }).map(|id| id as u32)
}

/// Lets the kernel look at the controller's namespaces again.
pub(super) fn nvme_rescan(file: &File) -> io::Result<()> {
    // SAFETY: the request takes no argument
    checked(unsafe { ioctl(file.as_raw_fd(), NVME_RESCAN as _, 0) }).map(drop)
}

/// `struct nvme_admin_cmd` of linux/nvme_ioctl.h, 72 bytes.
#[repr(C)]
#[derive(Default)]
struct NvmeCommand {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    data: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

/// Sends an admin command to the controller behind a namespace; the answer goes to `data`.
/// Errors: I/O, or the controller's status as text.
pub(super) fn nvme_admin(
    file: &File,
    opcode: u8,
    namespace: u32,
    cdw10: u32,
    data: &mut [u8],
    within: Duration,
) -> io::Result<()> {
    let mut command = NvmeCommand {
        opcode,
        namespace,
        cdw10,
        data: if data.is_empty() { 0 } else { data.as_mut_ptr() as u64 },
        data_len: data.len() as u32,
        timeout_ms: millis(within),
        ..NvmeCommand::default()
    };
    // SAFETY: `command` has the kernel's layout (72 bytes, as the request says); `data` points to `data_len` writable
    // bytes that live until the call is over
    let status = checked(unsafe { ioctl(file.as_raw_fd(), NVME_ADMIN as _, &raw mut command) })?;
    match status {
        0 => Ok(()),
        status => Err(io::Error::other(format!("the controller answered status {status:#x}"))),
    }
}

fn millis(within: Duration) -> u32 {
    u32::try_from(within.as_millis()).unwrap_or(u32::MAX)
}

/// `sg_io_hdr_t` of scsi/sg.h.
#[repr(C)]
struct SgHeader {
    interface: c_int,
    direction: c_int,
    command_len: u8,
    sense_len: u8,
    vectors: u16,
    data_len: u32,
    data: *mut c_void,
    command: *mut u8,
    sense: *mut u8,
    timeout_ms: u32,
    flags: u32,
    pack_id: c_int,
    user: *mut c_void,
    status: u8,
    masked_status: u8,
    message_status: u8,
    sense_written: u8,
    host_status: u16,
    driver_status: u16,
    residual: c_int,
    duration_ms: u32,
    info: u32,
}

/// Which way the data of a SCSI command go.
pub(super) enum Data<'a> {
    /// No data.
    None,
    /// To the disk.
    Out(&'a mut [u8]),
    /// From the disk.
    In(&'a mut [u8]),
}

/// What a SCSI command came back with.
pub(super) struct Answer {
    /// SCSI status, 0 = good.
    pub(super) status: u8,
    /// What the host adapter says, 0 = good.
    pub(super) host: u16,
    /// Sense data as far as written.
    pub(super) sense: Vec<u8>,
}

/// Sends a SCSI command. Errors: I/O of the call itself; the disk's own are in the answer.
pub(super) fn scsi(file: &File, command: &mut [u8], data: Data<'_>, within: Duration) -> io::Result<Answer> {
    let (direction, pointer, len) = match data {
        Data::None => (-1, std::ptr::null_mut(), 0),
        Data::Out(bytes) => (-2, bytes.as_mut_ptr(), bytes.len()),
        Data::In(bytes) => (-3, bytes.as_mut_ptr(), bytes.len()),
    };
    let mut sense = [0_u8; 64];
    let mut header = SgHeader {
        interface: c_int::from(b'S'),
        direction,
        command_len: command.len() as u8,
        sense_len: sense.len() as u8,
        vectors: 0,
        data_len: len as u32,
        data: pointer.cast(),
        command: command.as_mut_ptr(),
        sense: sense.as_mut_ptr(),
        timeout_ms: millis(within),
        flags: 0,
        pack_id: 0,
        user: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        message_status: 0,
        sense_written: 0,
        host_status: 0,
        driver_status: 0,
        residual: 0,
        duration_ms: 0,
        info: 0,
    };
    // SAFETY: `header` has the kernel's layout; command, data and sense point to borrowed buffers of the lengths given,
    // which live until the call is over
    checked(unsafe { ioctl(file.as_raw_fd(), SG_IO as _, &raw mut header) })?;
    let written = usize::from(header.sense_written).min(sense.len());
    Ok(Answer { status: header.status, host: header.host_status, sense: sense[..written].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernels_sizes_and_a_file_is_no_device() {
        assert_eq!(size_of::<NvmeCommand>(), 72);
        assert_eq!(size_of::<SgHeader>(), if cfg!(target_pointer_width = "64") { 88 } else { 64 });
        let file = tempfile::tempfile().expect("temp file");
        assert!(discard(&file, 0, 512).is_err() && nvme_namespace(&file).is_err());
        let answer = scsi(&file, &mut [0; 16], Data::None, Duration::from_secs(1));
        assert!(answer.is_err());
    }
}
