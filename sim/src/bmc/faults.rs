//! How a simulated BMC misbehaves. The same seed gives the same faults for the same datagrams.

use std::time::Duration;

/// Misbehaviour of a BMC; the default has none.
#[derive(Clone, Debug)]
pub struct Faults {
    /// It hears nothing.
    pub silent: bool,
    /// Its answers take this long.
    pub delay: Duration,
    /// They take up to this much longer, by chance: later answers overtake earlier ones.
    pub jitter: Duration,
    /// Share of datagrams lost, in each direction, 0 to 1.
    pub drop_rate: f64,
    /// Share of answers that arrive twice, 0 to 1.
    pub duplicate_rate: f64,
    /// Its password is not the configured one.
    pub wrong_password: bool,
    /// State of the random numbers behind the shares; any value.
    pub seed: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            silent: false,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            drop_rate: 0.0,
            duplicate_rate: 0.0,
            wrong_password: false,
            seed: 1,
        }
    }
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Passes,
    Lost,
}

impl Faults {
    /// The next random number, 0 to below 1 (splitmix64).
    fn chance(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let top = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(u32::MAX);
        f64::from(top) / (f64::from(u32::MAX) + 1.0)
    }

    pub(super) fn fate(&mut self) -> Fate {
        let lost = self.silent || (self.drop_rate > 0.0 && self.chance() < self.drop_rate);
        if lost { Fate::Lost } else { Fate::Passes }
    }

    /// The fate of a copy that should not be there.
    pub(super) fn second(&mut self) -> Fate {
        let doubled = self.duplicate_rate > 0.0 && self.chance() < self.duplicate_rate;
        if doubled { Fate::Passes } else { Fate::Lost }
    }

    pub(super) fn wait(&mut self) -> Duration {
        if self.jitter.is_zero() { self.delay } else { self.delay + self.jitter.mul_f64(self.chance()) }
    }
}
