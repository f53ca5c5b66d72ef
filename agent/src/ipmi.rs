//! Requests to the machine's own BMC through the kernel's IPMI device: Linux' `include/uapi/linux/ipmi.h`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long the BMC may take for one answer.
const ANSWER: Duration = Duration::from_secs(3);

/// `IPMI_SYSTEM_INTERFACE_ADDR_TYPE` and `IPMI_BMC_CHANNEL`.
const SYSTEM_INTERFACE: (i32, i16) = (0x0c, 0x0f);

/// NetFn Transport.
const TRANSPORT: u8 = 0x0c;
/// Get LAN Configuration Parameters.
const GET_LAN_PARAMETER: u8 = 0x02;

/// Completion code of a BMC that did not get it done in time.
const TIMEOUT: u8 = 0xc3;

#[repr(C)]
struct Address {
    kind: i32,
    channel: i16,
    lun: u8,
}

#[repr(C)]
struct Message {
    netfn: u8,
    command: u8,
    length: u16,
    data: *mut u8,
}

#[repr(C)]
struct Request {
    address: *mut u8,
    address_length: u32,
    id: i64,
    message: Message,
}

#[repr(C)]
struct Received {
    kind: i32,
    address: *mut u8,
    address_length: u32,
    id: i64,
    message: Message,
}

mod calls {
    #![allow(unsafe_code, reason = "nix makes unsafe functions of ioctls")]
    use super::{Received, Request};

    nix::ioctl_read!(send_command, b'i', 13, Request);
    nix::ioctl_readwrite!(receive, b'i', 11, Received);
}

/// The open device. Its owner asks one thing at a time.
pub struct Device {
    file: File,
    last_id: i64,
}

impl Device {
    /// Opens `/dev/ipmi0`. Errors: as opening a file.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::options().read(true).write(true).open(path)?, last_id: 0 })
    }

    /// A LAN parameter's data, without completion code and revision. Errors: `Unsupported` when the BMC refuses,
    /// `TimedOut` when it is silent, else the device's.
    pub fn lan_parameter(&mut self, channel: u8, parameter: u8) -> io::Result<Vec<u8>> {
        let answer = self.ask(TRANSPORT, GET_LAN_PARAMETER, &mut [channel & 0x0f, parameter, 0, 0])?;
        match answer.as_slice() {
            [0, _revision, data @ ..] => Ok(data.to_vec()),
            [TIMEOUT, ..] => Err(io::ErrorKind::TimedOut.into()),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Sends a request and waits for its answer: completion code and data.
    fn ask(&mut self, netfn: u8, command: u8, data: &mut [u8]) -> io::Result<Vec<u8>> {
        self.last_id += 1;
        self.send(netfn, command, data)?;
        let began = Instant::now();
        loop {
            let left = ANSWER.saturating_sub(began.elapsed());
            let left = PollTimeout::try_from(left).map_err(io::Error::other)?;
            let ready = poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)], left)?;
            if ready == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // an answer that came too late for its question is passed over
            if let (id, answer) = self.receive()?
                && id == self.last_id
            {
                return Ok(answer);
            }
        }
    }

    #[allow(unsafe_code, reason = "an ioctl on structures of our own")]
    fn send(&self, netfn: u8, command: u8, data: &mut [u8]) -> io::Result<()> {
        let mut address = Address { kind: SYSTEM_INTERFACE.0, channel: SYSTEM_INTERFACE.1, lun: 0 };
        let mut request = Request {
            address: (&raw mut address).cast(),
            address_length: size_of::<Address>() as u32,
            id: self.last_id,
            message: Message { netfn, command, length: data.len() as u16, data: data.as_mut_ptr() },
        };
        // SAFETY: the kernel reads the request, the address and `length` bytes of data, all of which live until it returns
        unsafe { calls::send_command(self.file.as_raw_fd(), &raw mut request) }?;
        Ok(())
    }

    #[allow(unsafe_code, reason = "an ioctl on structures of our own")]
    fn receive(&self) -> io::Result<(i64, Vec<u8>)> {
        let mut data = [0_u8; 512];
        let mut address = [0_u8; 64];
        let mut received = Received {
            kind: 0,
            address: address.as_mut_ptr(),
            address_length: address.len() as u32,
            id: 0,
            message: Message { netfn: 0, command: 0, length: data.len() as u16, data: data.as_mut_ptr() },
        };
        // SAFETY: the kernel writes at most the lengths given into the two arrays, which outlive the call
        unsafe { calls::receive(self.file.as_raw_fd(), &raw mut received) }?;
        let length = usize::from(received.message.length).min(data.len());
        Ok((received.id, data[..length].to_vec()))
    }
}
