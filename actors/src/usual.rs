//! How long steps usually take: from the journal at start, from every step that ends since.

use std::time::Duration;

use dashmap::DashMap;
use ferric_drivers::metrics::METRICS;
use ferric_machine::Timestamp;
use ferric_schema::journal::StepTime;

/// Older runs fade: a step counts as at most this many.
const MEMORY: f64 = 50.0;

/// Mean times by (work, interface, step).
#[derive(Default)]
pub(crate) struct Usual {
    means: DashMap<(String, String, String), (f64, f64)>,
}

impl Usual {
    pub(crate) fn fill(&self, known: Vec<StepTime>) {
        for time in known {
            let count = u32::try_from(time.count).unwrap_or(u32::MAX);
            let entry = (time.mean.as_secs_f64(), f64::from(count).min(MEMORY));
            self.means.insert((time.kind, time.interface, time.step), entry);
        }
    }

    pub(crate) fn learn(&self, kind: &str, interface: &str, step: &str, from: Timestamp, to: Timestamp) {
        let Ok(micros) = u64::try_from(to.0.saturating_sub(from.0)) else { return };
        let took = Duration::from_micros(micros).as_secs_f64();
        let step_name = format!("{interface}.{step}");
        METRICS.step_ended(kind.to_owned(), step_name, Duration::from_micros(micros));
        let mut entry =
            self.means.entry((kind.to_owned(), interface.to_owned(), step.to_owned())).or_insert((took, 0.0));
        let (mean, count) = *entry;
        let count = (count + 1.0).min(MEMORY);
        *entry = (mean + (took - mean) / count, count);
    }

    pub(crate) fn seconds(&self, kind: &str, interface: &str, step: &str) -> Option<f64> {
        let key = (kind.to_owned(), interface.to_owned(), step.to_owned());
        self.means.get(&key).map(|entry| entry.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_what_steps_take() {
        let usual = Usual::default();
        assert_eq!(usual.seconds("clean", "deploy", "erase_devices"), None);
        usual.learn("clean", "deploy", "erase_devices", Timestamp(0), Timestamp(2_000_000));
        usual.learn("clean", "deploy", "erase_devices", Timestamp(0), Timestamp(4_000_000));
        assert_eq!(usual.seconds("clean", "deploy", "erase_devices"), Some(3.0));
    }
}
