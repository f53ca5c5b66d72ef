//! How a simulated BMC misbehaves. The same seed gives the same faults for the same datagrams.

use std::time::Duration;

use crate::faults::Chance;

/// How late a datagram comes that later ones overtake.
const OVERTAKEN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(40));

/// What becomes of the datagrams of one direction: shares, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// They are lost.
    pub lost: f64,
    /// They arrive twice.
    pub duplicated: f64,
    /// They arrive late, behind those that were sent after them.
    pub reordered: f64,
}

/// How long answers take: half of them `median` at most, 99 of 100 `p99` at most (log-normal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Half of the answers take no longer.
    pub median: Duration,
    /// 99 of 100 take no longer.
    pub p99: Duration,
}

impl Latency {
    /// The longest that an answer takes, as a multiple of `p99`: tails of a distribution have no end, tests have.
    const LONGEST: u32 = 4;

    fn draw(self, chance: &mut Chance) -> Duration {
        const P99: f64 = 2.326_347_9;
        // Box and Muller; 1 - u is above 0
        let radius = (-2.0 * (1.0 - chance.unit()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * chance.unit()).cos();
        let median = self.median.as_secs_f64();
        let sigma = (self.p99.as_secs_f64() / median.max(1e-9)).ln().max(0.0) / P99;
        let seconds = median * (sigma * normal).exp();
        Duration::try_from_secs_f64(seconds).unwrap_or(self.p99).min(self.p99 * Self::LONGEST)
    }
}

/// Misbehaviour of a BMC; the default has none.
#[derive(Clone, Debug)]
pub struct Faults {
    /// It hears nothing.
    pub silent: bool,
    /// Its answers take this long.
    pub delay: Duration,
    /// They take up to this much longer, by chance: later answers overtake earlier ones.
    pub jitter: Duration,
    /// They take so much longer still.
    pub latency: Option<Latency>,
    /// Share of datagrams lost, in each direction, 0 to 1.
    pub drop_rate: f64,
    /// Share of answers that arrive twice, 0 to 1.
    pub duplicate_rate: f64,
    /// The way to it, besides.
    pub to_bmc: Traffic,
    /// The way from it, besides.
    pub from_bmc: Traffic,
    /// Its password is not the configured one.
    pub wrong_password: bool,
    /// It says that the power is on when it is off, and off when it is on.
    pub wrong_power: bool,
    /// State of the random numbers behind the shares; any value.
    pub seed: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            silent: false,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            latency: None,
            drop_rate: 0.0,
            duplicate_rate: 0.0,
            to_bmc: Traffic::default(),
            from_bmc: Traffic::default(),
            wrong_password: false,
            wrong_power: false,
            seed: 1,
        }
    }
}

/// When the copies of a datagram arrive, from now on: none when it is lost.
pub(super) type Arrivals = [Option<Duration>; 2];

impl Faults {
    fn draw<T>(&mut self, with: impl FnOnce(&mut Chance) -> T) -> T {
        let mut chance = Chance::at(self.seed);
        let drawn = with(&mut chance);
        self.seed = chance.state();
        drawn
    }

    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.draw(|chance| chance.happens(share))
    }

    fn late(&mut self, share: f64) -> Duration {
        if self.happens(share) {
            self.draw(|chance| chance.between(OVERTAKEN.0, OVERTAKEN.1))
        } else {
            Duration::ZERO
        }
    }

    fn lost(&mut self, traffic: Traffic) -> bool {
        self.silent || self.happens(self.drop_rate) || self.happens(traffic.lost)
    }

    /// When a datagram on its way to the BMC arrives.
    pub(super) fn inbound(&mut self) -> Arrivals {
        let traffic = self.to_bmc;
        if self.lost(traffic) {
            return [None, None];
        }
        let first = self.late(traffic.reordered);
        let second = self.happens(traffic.duplicated).then(|| self.late(traffic.reordered));
        [Some(first), second]
    }

    /// When an answer of the BMC's arrives.
    pub(super) fn outbound(&mut self) -> Arrivals {
        let traffic = self.from_bmc;
        let first = (!self.lost(traffic)).then(|| self.wait() + self.late(traffic.reordered));
        let twice = self.happens(self.duplicate_rate) || self.happens(traffic.duplicated);
        let second = twice.then(|| self.wait() + self.late(traffic.reordered));
        [first, second.filter(|_| !self.silent)]
    }

    fn wait(&mut self) -> Duration {
        let mut wait = self.delay;
        if !self.jitter.is_zero() {
            wait += self.jitter.mul_f64(self.draw(Chance::unit));
        }
        if let Some(latency) = self.latency {
            wait += self.draw(|chance| latency.draw(chance));
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_answers_come_within_the_median_and_nearly_all_within_p99() {
        let latency = Latency { median: Duration::from_millis(50), p99: Duration::from_secs(2) };
        let mut chance = Chance::new(7, 7);
        let mut all: Vec<_> = (0..4000).map(|_| latency.draw(&mut chance)).collect();
        all.sort();
        let at = |share: f64| all[(share * all.len() as f64) as usize].as_secs_f64();
        assert!((0.04..0.06).contains(&at(0.5)), "{}", at(0.5));
        assert!((1.2..3.2).contains(&at(0.99)), "{}", at(0.99));
        assert!(all.iter().all(|one| *one <= latency.p99 * Latency::LONGEST));
    }

    #[test]
    fn shares_are_of_a_direction() {
        let to_bmc = Traffic { lost: 1.0, ..Traffic::default() };
        let mut faults = Faults { to_bmc, ..Faults::default() };
        assert_eq!(faults.inbound(), [None, None]);
        assert_eq!(faults.outbound(), [Some(Duration::ZERO), None]);
        let twice = Traffic { duplicated: 1.0, reordered: 1.0, ..Traffic::default() };
        let mut faults = Faults { from_bmc: twice, ..Faults::default() };
        assert_eq!(faults.inbound(), [Some(Duration::ZERO), None]);
        assert!(faults.outbound().iter().all(|copy| copy.is_some_and(|wait| !wait.is_zero())));
    }
}
