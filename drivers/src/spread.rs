//! How durations are spread: counted in buckets that are never more than three per cent wide, so that percentiles can be
//! told without keeping what was measured.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Each doubling of a duration is divided into so many buckets.
const PARTS: usize = 32;
/// log2 of [`PARTS`].
const PART_BITS: u32 = 5;
/// Doublings beyond the first [`PARTS`] microseconds: the last bucket ends after 71 minutes.
const DOUBLINGS: usize = 27;
const BUCKETS: usize = PARTS * (DOUBLINGS + 1);

/// Durations, counted by any number of threads at once; a few kilobytes however many there are.
#[derive(Debug)]
pub struct Spread {
    counts: Box<[AtomicU32]>,
    longest: AtomicU64,
}

impl Default for Spread {
    fn default() -> Self {
        Spread { counts: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(), longest: AtomicU64::new(0) }
    }
}

/// What a [`Spread`] says at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// How many durations.
    pub count: u64,
    /// Half of them were no longer than this, to within three per cent; so too below.
    pub p50: Duration,
    /// Nine tenths.
    pub p90: Duration,
    /// All but one of a hundred.
    pub p99: Duration,
    /// The longest, exactly.
    pub longest: Duration,
}

fn bucket(micros: u64) -> usize {
    let Ok(small) = usize::try_from(micros) else { return BUCKETS - 1 };
    if small < PARTS {
        return small;
    }
    let doublings = micros.ilog2() - PART_BITS;
    let part = usize::try_from((micros >> doublings) & (PARTS as u64 - 1)).unwrap_or(0);
    let before = usize::try_from(doublings).map_or(BUCKETS, |doublings| (doublings + 1) * PARTS);
    (before + part).min(BUCKETS - 1)
}

/// The middle of a bucket, in microseconds.
fn middle(bucket: usize) -> u64 {
    if bucket < PARTS {
        return bucket as u64;
    }
    let (doublings, part) = (bucket / PARTS - 1, bucket % PARTS);
    let width = 1_u64 << doublings;
    (PARTS + part) as u64 * width + width / 2
}

impl Spread {
    /// Counts one more.
    pub fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.longest.fetch_max(micros, Ordering::Relaxed);
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        self.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        self.longest.store(0, Ordering::Relaxed);
    }

    /// What they say by now; zeros when there are none. Looks at a few hundred numbers.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let counts: Vec<u64> =
            self.counts.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).collect();
        let count: u64 = counts.iter().sum();
        let longest = Duration::from_micros(self.longest.load(Ordering::Relaxed));
        if count == 0 {
            return Percentiles::default();
        }
        let below = |percent: u64| {
            let wanted = (count * percent).div_ceil(100);
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= wanted
            });
            Duration::from_micros(middle(found.unwrap_or(BUCKETS - 1))).min(longest)
        };
        Percentiles { count, p50: below(50), p90: below(90), p99: below(99), longest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_within_three_per_cent() {
        let spread = Spread::default();
        for micros in 1..=100_000_u64 {
            spread.record(Duration::from_micros(micros));
        }
        let told = spread.percentiles();
        for (found, exact) in [(told.p50, 50_000.0), (told.p90, 90_000.0), (told.p99, 99_000.0)] {
            let off = (found.as_secs_f64() * 1e6 - exact).abs() / exact;
            assert!(off < 0.03, "{found:?} instead of {exact} µs");
        }
        assert_eq!((told.count, told.longest), (100_000, Duration::from_millis(100)));
        spread.clear();
        assert_eq!(spread.percentiles(), Percentiles::default());
    }

    #[test]
    fn no_duration_is_too_short_or_too_long() {
        let spread = Spread::default();
        spread.record(Duration::ZERO);
        assert_eq!(spread.percentiles().p99, Duration::ZERO);
        spread.record(Duration::MAX);
        assert!(spread.percentiles().p99 > Duration::from_secs(3600));
        for micros in (0..64).map(|bit| 1_u64 << bit) {
            assert!(
                bucket(micros) < BUCKETS
                    && (bucket(micros) == BUCKETS - 1 || bucket(micros + 1) >= bucket(micros))
            );
        }
    }
}
