//! One transfer as data: which blocks are due, after an answer or after silence. No clock and no socket.

use std::ops::Range;
use std::time::Duration;

use super::packet::Agreed;

/// The first silence that is taken for a lost packet; each one after it is twice as long.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(8);
/// A client that is silent after so many attempts is gone.
const ATTEMPTS: u32 = 6;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the agreement on options.
    Options,
    /// Send these blocks, counted from 1.
    Blocks(Range<u64>),
    /// Wait on.
    Wait,
    /// All of the file has arrived.
    Done,
    /// The client is gone.
    GiveUp,
}

/// A transfer under way.
#[derive(Clone, Debug)]
pub struct Transfer {
    size: u64,
    agreed: Agreed,
    /// The agreement on options has been sent, but no answer came.
    options: bool,
    /// All blocks up to this one have arrived.
    acked: u64,
    /// The last block that was sent.
    sent: u64,
    attempts: u32,
    /// After an answer that moved nothing, the window was sent again.
    resent: bool,
}

impl Transfer {
    /// A transfer of `size` bytes, which begins with an agreement when there are `options`.
    #[must_use]
    pub fn new(size: u64, agreed: Agreed, options: bool) -> Transfer {
        Transfer { size, agreed, options, acked: 0, sent: 0, attempts: 1, resent: false }
    }

    /// The first packet.
    pub fn begin(&mut self) -> Step {
        if self.options { Step::Options } else { self.window() }
    }

    /// The client has all blocks up to `number`, modulo 65,536.
    pub fn ack(&mut self, number: u16) -> Step {
        let ahead = u64::from(number.wrapping_sub(self.acked as u16));
        if ahead > self.sent - self.acked {
            return Step::Wait;
        }
        if self.options {
            self.options = false;
        } else if ahead == 0 {
            // Answering every repeated ACK would double all packets to the end (the sorcerer's apprentice), but
            // with windows it is how a client says that the first of them was lost (RFC 7440 §4).
            if self.agreed.window == 1 || self.resent {
                return Step::Wait;
            }
            self.resent = true;
            return self.window();
        }
        self.acked += ahead;
        self.attempts = 1;
        self.resent = false;
        if self.acked == self.blocks() { Step::Done } else { self.window() }
    }

    /// Nothing came for [`Transfer::patience`].
    pub fn silence(&mut self) -> Step {
        if self.attempts >= ATTEMPTS {
            return Step::GiveUp;
        }
        self.attempts += 1;
        self.begin()
    }

    /// How long to wait for an answer.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << (self.attempts - 1).min(10));
        self.agreed.timeout.unwrap_or(doubled.min(LONGEST))
    }

    /// Offset and length of a block in the file.
    #[must_use]
    pub fn place(&self, block: u64) -> (u64, usize) {
        let offset = (block - 1) * u64::from(self.agreed.blksize);
        let len = self.size.saturating_sub(offset).min(self.agreed.blksize.into());
        (offset, usize::try_from(len).expect("a block is below 64 KiB"))
    }

    /// How many blocks there are. The last one is shorter than the others, and be it empty.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.size / u64::from(self.agreed.blksize) + 1
    }

    fn window(&mut self) -> Step {
        let first = self.acked + 1;
        self.sent = (self.acked + u64::from(self.agreed.window)).min(self.blocks());
        Step::Blocks(first..self.sent + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agreed(window: u16) -> Agreed {
        Agreed { blksize: 512, window, timeout: None }
    }

    #[test]
    fn a_repeated_ack_doubles_nothing() {
        let mut lockstep = Transfer::new(5000, agreed(1), true);
        assert_eq!(lockstep.begin(), Step::Options);
        assert_eq!(lockstep.ack(0), Step::Blocks(1..2));
        assert_eq!(lockstep.ack(0), Step::Wait);
        assert_eq!(lockstep.ack(1), Step::Blocks(2..3));
        assert_eq!(lockstep.ack(1), Step::Wait);
        assert_eq!(lockstep.ack(7), Step::Wait);
        let mut windows = Transfer::new(50_000, agreed(4), false);
        assert_eq!(windows.begin(), Step::Blocks(1..5));
        assert_eq!(windows.ack(2), Step::Blocks(3..7), "from the gap on");
        assert_eq!(windows.ack(2), Step::Blocks(3..7), "the first of a window was lost");
        assert_eq!(windows.ack(2), Step::Wait, "and that is said once");
        assert_eq!(windows.ack(6), Step::Blocks(7..11));
    }

    #[test]
    fn silence_is_borne_longer_each_time_and_then_no_more() {
        let mut transfer = Transfer::new(10, agreed(1), false);
        transfer.begin();
        let mut waits = vec![transfer.patience().as_secs()];
        while transfer.silence() != Step::GiveUp {
            waits.push(transfer.patience().as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
        let own = Agreed { timeout: Some(Duration::from_secs(3)), ..agreed(1) };
        let mut transfer = Transfer::new(10, own, false);
        assert_eq!((transfer.silence(), transfer.patience()), (Step::Blocks(1..2), Duration::from_secs(3)));
    }

    /// A client that acknowledges as RFC 7440 says; the network loses and repeats what `fate` says.
    fn run(size: u64, window: u16, mut fate: impl FnMut() -> u8) -> (u64, usize) {
        let mut transfer = Transfer::new(size, agreed(window), true);
        let (mut step, mut got, mut bytes, mut packets) = (transfer.begin(), 0_u64, 0, 0);
        loop {
            let mut answers = Vec::new();
            match step.clone() {
                Step::Options => answers.push(0),
                Step::Blocks(blocks) => {
                    let (mut in_window, mut gap) = (0, false);
                    for block in blocks {
                        packets += 1;
                        let copies = match fate() {
                            0 => 0,
                            1 => 2,
                            _ => 1,
                        };
                        for _ in 0..copies {
                            let (offset, len) = transfer.place(block);
                            if block == got + 1 {
                                assert_eq!(offset, bytes);
                                (got, bytes, in_window, gap) =
                                    (block, bytes + len as u64, in_window + 1, false);
                                if in_window == window || len < 512 {
                                    in_window = 0;
                                    answers.push(got as u16);
                                }
                            } else if !gap {
                                gap = true;
                                answers.push(got as u16);
                            }
                        }
                    }
                }
                Step::Done => return (bytes, packets),
                Step::Wait => {}
                Step::GiveUp => panic!("given up at block {got}"),
            }
            let mut next = Step::Wait;
            for answer in answers {
                if fate() != 0 && next != Step::Done {
                    match transfer.ack(answer) {
                        Step::Wait => {}
                        step @ (Step::Options | Step::Blocks(_) | Step::Done | Step::GiveUp) => next = step,
                    }
                }
            }
            step = if next == Step::Wait { transfer.silence() } else { next };
        }
    }

    proptest! {
        #[test]
        fn every_byte_arrives_in_order_whatever_the_network_does(
            size in 0_u64..100_000,
            window in 1_u16..20,
            fates in proptest::collection::vec(0_u8..12, 50..200),
        ) {
            let mut at = 0;
            // in the end the network recovers, or a client may be given up rightly
            let lossy = fates.len() * 20;
            let (bytes, _) = run(size, window, || {
                at += 1;
                let fate = fates[at % fates.len()];
                if at > lossy { 5 } else if at % 7 < 3 { fate } else { fate.max(1) }
            });
            prop_assert_eq!(bytes, size);
        }
    }

    #[test]
    fn without_loss_each_block_goes_out_once_also_beyond_65535() {
        let size = 512 * 70_000;
        assert_eq!(run(size, 1, || 5), (size, 70_001));
        assert_eq!(run(size, 16, || 5), (size, 70_001));
        assert_eq!(run(0, 1, || 5), (0, 1));
    }
}
