//! PDUs as bytes (RFC 7143 §11). A reading of the standard of its own, apart from the initiator's in
//! `ferric_drivers`: what one of the two misread, the other shows.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Length of the header that every PDU begins with.
pub(crate) const BHS: usize = 48;
/// "None", in tags.
pub(crate) const NO_TAG: u32 = u32::MAX;

/// Operation codes of initiators, and the answers of targets.
pub(crate) mod op {
    pub(crate) const NOP_OUT: u8 = 0x00;
    pub(crate) const COMMAND: u8 = 0x01;
    pub(crate) const TASK: u8 = 0x02;
    pub(crate) const LOGIN: u8 = 0x03;
    pub(crate) const TEXT: u8 = 0x04;
    pub(crate) const DATA_OUT: u8 = 0x05;
    pub(crate) const LOGOUT: u8 = 0x06;
    pub(crate) const NOP_IN: u8 = 0x20;
    pub(crate) const RESPONSE: u8 = 0x21;
    pub(crate) const TASK_ANSWER: u8 = 0x22;
    pub(crate) const LOGIN_ANSWER: u8 = 0x23;
    pub(crate) const TEXT_ANSWER: u8 = 0x24;
    pub(crate) const DATA_IN: u8 = 0x25;
    pub(crate) const LOGOUT_ANSWER: u8 = 0x26;
    pub(crate) const R2T: u8 = 0x31;
    pub(crate) const ASYNC: u8 = 0x32;
    pub(crate) const REJECT: u8 = 0x3F;
}

/// A PDU; additional header segments are passed over.
#[derive(Clone, Debug)]
pub(crate) struct Pdu {
    pub(crate) bhs: [u8; BHS],
    pub(crate) data: Vec<u8>,
}

/// Which check sums a connection has agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) header: bool,
    pub(crate) data: bool,
}

impl Pdu {
    /// A target's PDU: final, with the tag of what it answers.
    pub(crate) fn answer(opcode: u8, tag: u32) -> Self {
        let mut pdu = Self { bhs: [0; BHS], data: Vec::new() };
        pdu.bhs[0] = opcode;
        pdu.bhs[1] = 0x80;
        pdu.set(16, tag);
        pdu
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.bhs[0] & 0x3F
    }

    /// Outside of the numbered order of commands.
    pub(crate) fn is_immediate(&self) -> bool {
        self.bhs[0] & 0x40 != 0
    }

    pub(crate) fn is_final(&self) -> bool {
        self.bhs[1] & 0x80 != 0
    }

    pub(crate) fn word(&self, at: usize) -> u32 {
        let bytes = self.bhs[at..].first_chunk::<4>().expect("fields lie inside the header");
        u32::from_be_bytes(*bytes)
    }

    pub(crate) fn set(&mut self, at: usize, value: u32) {
        self.bhs[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn tag(&self) -> u32 {
        self.word(16)
    }

    /// Logical unit, of the two usual ways to write one.
    pub(crate) fn lun(&self) -> u16 {
        u16::from_be_bytes([self.bhs[8] & 0x3F, self.bhs[9]])
    }

    /// Appends the bytes.
    pub(crate) fn encode(&self, digests: Digests, out: &mut Vec<u8>) {
        let mut bhs = self.bhs;
        let length = u32::try_from(self.data.len()).expect("segments are below 16 MiB");
        bhs[5..8].copy_from_slice(&length.to_be_bytes()[1..]);
        out.extend_from_slice(&bhs);
        if digests.header {
            out.extend(crc32c(&bhs).to_le_bytes());
        }
        if self.data.is_empty() {
            return;
        }
        let from = out.len();
        out.extend_from_slice(&self.data);
        out.resize(from + self.data.len().next_multiple_of(4), 0);
        if digests.data {
            let sum = crc32c(&out[from..]);
            out.extend(sum.to_le_bytes());
        }
    }

    /// Reads the next one; `None` when the peer closed before it. A data segment above `longest` is an error.
    pub(crate) async fn read(
        from: &mut (impl AsyncRead + Unpin),
        digests: Digests,
        longest: usize,
    ) -> io::Result<Option<Self>> {
        let mut bhs = [0; BHS];
        if from.read(&mut bhs[..1]).await? == 0 {
            return Ok(None);
        }
        from.read_exact(&mut bhs[1..]).await?;
        let mut header = bhs.to_vec();
        header.resize(BHS + 4 * usize::from(bhs[4]), 0);
        from.read_exact(&mut header[BHS..]).await?;
        if digests.header {
            check(from, crc32c(&header), "header digest").await?;
        }
        let length = u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]) as usize;
        if length > longest {
            return Err(wrong(&format!("a data segment of {length} bytes where {longest} were declared")));
        }
        let mut data = vec![0; length.next_multiple_of(4)];
        if length > 0 {
            from.read_exact(&mut data).await?;
            if digests.data {
                check(from, crc32c(&data), "data digest").await?;
            }
        }
        data.truncate(length);
        Ok(Some(Self { bhs, data }))
    }
}

async fn check(from: &mut (impl AsyncRead + Unpin), sum: u32, what: &str) -> io::Result<()> {
    let mut given = [0; 4];
    from.read_exact(&mut given).await?;
    if u32::from_le_bytes(given) == sum { Ok(()) } else { Err(wrong(&format!("wrong {what}"))) }
}

pub(crate) fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Text keys of a data segment: `key=value` ended by zeros.
pub(crate) fn keys(data: &[u8]) -> Vec<(String, String)> {
    let lines = data.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    lines
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .map(|line| match line.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (line, String::new()),
        })
        .collect()
}

/// Appends a text key.
pub(crate) fn put(data: &mut Vec<u8>, key: &str, value: &str) {
    data.extend_from_slice(format!("{key}={value}\0").as_bytes());
}

const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut sum = index as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82F6_3B78 } else { sum >> 1 };
            bit += 1;
        }
        table[index] = sum;
        index += 1;
    }
    table
};

/// CRC32C (Castagnoli), RFC 7143 §13.1.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| (sum >> 8) ^ CRC[((sum ^ u32::from(*byte)) & 0xFF) as usize])
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn the_check_sum_is_that_of_the_standards_examples() {
        // RFC 7143 appendix A.4
        assert_eq!(crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]).to_le_bytes(), [0x43, 0xab, 0xa8, 0x62]);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising).to_le_bytes(), [0x4e, 0x79, 0xdd, 0x46]);
    }
}
