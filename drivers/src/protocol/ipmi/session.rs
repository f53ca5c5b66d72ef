//! An open session: packets in, packets out. The same for the console and for the BMC.

use super::crypto::{BLOCK, CipherSuite, decrypt, encrypt_onto, hmac, hmac_matches};
use super::packet::{PayloadType, Plus, protected};
use super::rakp::Keys;

/// Why a packet is not one of this session. None of these is answered; they are only counted and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// It carries another session's id, or none.
    #[error("another session")]
    Stranger,
    /// It is not encrypted or not authenticated although the suite says so.
    #[error("not protected")]
    Unprotected,
    /// The check code is wrong.
    #[error("check code wrong")]
    Forged,
    /// Its sequence number was seen before or is too old.
    #[error("replayed")]
    Replayed,
    /// It is authentic, but does not decrypt.
    #[error("does not decrypt")]
    Garbled,
}

/// Accepts every sequence number once and forgets those more than [`ReplayWindow::BEHIND`] behind the highest
/// (IPMI 2.0 §6.12.13).
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplayWindow {
    /// `None` before the first packet, which may bear any number.
    highest: Option<u32>,
    /// Bit n: `highest - n` was seen.
    seen: u32,
}

impl ReplayWindow {
    /// How far a packet may come late.
    pub const BEHIND: u32 = 15;

    /// Whether this number is new; remembers it if so. 0 is never valid inside a session.
    pub fn accept(&mut self, sequence: u32) -> bool {
        if sequence == 0 {
            return false;
        }
        let Some(highest) = self.highest else {
            *self = Self { highest: Some(sequence), seen: 1 };
            return true;
        };
        let ahead = sequence.wrapping_sub(highest);
        if ahead != 0 && ahead <= u32::MAX / 2 {
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = Some(sequence);
            return true;
        }
        let behind = highest.wrapping_sub(sequence);
        if behind > Self::BEHIND || self.seen & (1 << behind) != 0 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

/// One side of an open session.
pub struct Session {
    keys: Keys,
    /// The id that packets to us carry.
    local_id: u32,
    /// The id that packets to the peer carry.
    remote_id: u32,
    sent: u32,
    window: ReplayWindow,
}

impl Session {
    /// A session just opened.
    #[must_use]
    pub fn new(keys: Keys, local_id: u32, remote_id: u32) -> Self {
        Self { keys, local_id, remote_id, sent: 0, window: ReplayWindow::default() }
    }

    /// The agreed suite.
    #[must_use]
    pub fn suite(&self) -> CipherSuite {
        self.keys.suite
    }

    /// The id by which the peer knows this session.
    #[must_use]
    pub fn remote_id(&self) -> u32 {
        self.remote_id
    }

    /// The id by which this side knows it.
    #[must_use]
    pub fn local_id(&self) -> u32 {
        self.local_id
    }

    /// Wraps an IPMB frame into a packet with the next sequence number. `iv` must be fresh and random.
    pub fn seal(&mut self, frame: &[u8], iv: [u8; BLOCK]) -> Vec<u8> {
        self.seal_as(PayloadType::Ipmi, frame, iv)
    }

    /// The same with a payload of any type.
    pub fn seal_as(&mut self, kind: PayloadType, payload: &[u8], iv: [u8; BLOCK]) -> Vec<u8> {
        self.sent = self.sent.checked_add(1).unwrap_or(1);
        let keys = &self.keys;
        protected(
            kind,
            self.remote_id,
            self.sent,
            |out| encrypt_onto(out, &keys.encryption, iv, payload),
            |signed, out| {
                let code = hmac(keys.suite, &keys.integrity, &[signed]);
                out.extend_from_slice(&code[..keys.suite.check_len()]);
            },
        )
    }

    /// Checks a packet and gives the IPMB frame inside.
    pub fn open(&mut self, packet: &Plus<'_>) -> Result<Vec<u8>, Dropped> {
        self.open_as(PayloadType::Ipmi, packet)
    }

    /// The same with a payload of any type.
    pub fn open_as(&mut self, kind: PayloadType, packet: &Plus<'_>) -> Result<Vec<u8>, Dropped> {
        if packet.payload_type != kind || packet.session_id != self.local_id {
            return Err(Dropped::Stranger);
        }
        if !(packet.encrypted && packet.authenticated) {
            return Err(Dropped::Unprotected);
        }
        let Keys { suite, integrity, encryption, .. } = &self.keys;
        if !hmac_matches(*suite, integrity, &[packet.signed], packet.check, suite.check_len()) {
            return Err(Dropped::Forged);
        }
        if !self.window.accept(packet.sequence) {
            return Err(Dropped::Replayed);
        }
        decrypt(encryption, packet.payload).ok_or(Dropped::Garbled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sequence_number_is_accepted_once_and_late_ones_only_within_the_window() {
        let mut window = ReplayWindow::default();
        assert!(!window.accept(0));
        for number in [1, 2, 5, 4, 3, 40] {
            assert!(window.accept(number), "{number}");
            assert!(!window.accept(number), "{number} again");
        }
        assert!(window.accept(25));
        assert!(!window.accept(24));
        assert!(window.accept(u32::MAX / 2));
        assert!(window.accept(u32::MAX - 1));
        assert!(window.accept(1), "wraps around");
        assert!(!window.accept(1));
        assert!(ReplayWindow::default().accept(u32::MAX), "any beginning");
    }
}
