//! What a node is doing at this moment: for people who ask why it takes so long. Lives in memory only.

use ferric_drivers::interface::Progress;
use ferric_machine::Timestamp;

/// A step under way.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Doing {
    /// The work that it is part of: `deploy`, `clean`, `clean up after deploy`, …
    pub operation: String,
    /// `interface.step`, e.g. `deploy.write_image`.
    pub step: String,
    /// Its number, counted from 1.
    pub number: usize,
    /// How many steps the operation has.
    pub of: usize,
    /// When it began.
    pub since: Timestamp,
    /// How long this step has taken on this fleet so far, on the average; `None` when it never ran to its end.
    pub usual_seconds: Option<f64>,
    /// How much longer it will take, in seconds, as of `progress`: by its bytes where it counts them, else by what it
    /// usually takes; `None` when neither tells.
    pub eta_seconds: Option<f64>,
    /// How far it is.
    pub progress: Progress,
    /// When what is waited for is given up, unless its agent calls before; `None` where nothing limits the wait.
    pub gives_up_at: Option<Timestamp>,
    /// Why nothing moves, if nothing does: "the agent did not answer …".
    pub waiting_for: Option<String>,
}

impl Doing {
    /// A sentence after a blank, for whoever has to wait for it.
    pub(crate) fn sentence(&self, now: Timestamp) -> String {
        let Doing { operation, step, number, of, since, usual_seconds, eta_seconds, progress, .. } = self;
        let seconds = now.since(*since).as_secs();
        #[allow(clippy::cast_precision_loss)] // nobody waits for that many seconds
        let late =
            usual_seconds.is_some_and(|usual| seconds as f64 > usual) && progress.bytes_total.is_none();
        let mut text =
            format!(" It is busy with {operation}: step {number} of {of}, {step}, for {seconds} s now");
        if let Some(why) = &self.waiting_for {
            text = format!("{text}; {why}");
        } else if let Some(eta) = eta_seconds.filter(|_| !late) {
            text = format!("{text}; about {eta:.0} s are left");
        }
        text.push('.');
        text
    }
}

/// See [`Doing::eta_seconds`].
pub(crate) fn eta(progress: &Progress, elapsed: f64, usual: Option<f64>) -> Option<f64> {
    if let (Some(done), Some(total)) = (progress.bytes_done, progress.bytes_total)
        && done > 0
    {
        #[allow(clippy::cast_precision_loss)] // a share of bytes needs no more digits than a float has
        let share = done.min(total) as f64 / total.max(1) as f64;
        return Some(elapsed * (1.0 - share) / share.max(f64::EPSILON));
    }
    // what takes longer than usual takes nobody knows how long
    usual.map(|usual| usual - elapsed).filter(|left| *left >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_is_told_for_what() {
        let mut doing = Doing {
            operation: "deploy".into(),
            step: "deploy.write_image".into(),
            number: 3,
            of: 7,
            since: Timestamp(0),
            usual_seconds: None,
            eta_seconds: Some(4.2),
            progress: Progress::default(),
            gives_up_at: None,
            waiting_for: None,
        };
        let now = Timestamp(12_000_000);
        assert_eq!(
            doing.sentence(now),
            " It is busy with deploy: step 3 of 7, deploy.write_image, for 12 s now; about 4 s are left."
        );
        doing.waiting_for = Some("the agent did not answer".into());
        assert!(doing.sentence(now).ends_with("for 12 s now; the agent did not answer."));
    }

    #[test]
    fn bytes_tell_better_than_habit() {
        let none = Progress::default();
        assert_eq!(eta(&none, 3.0, None), None);
        assert_eq!(eta(&none, 3.0, Some(10.0)), Some(7.0));
        assert_eq!(eta(&none, 30.0, Some(10.0)), None, "whoever is late does not know for how long");
        let quarter = Progress { bytes_done: Some(25), bytes_total: Some(100), ..Progress::default() };
        assert_eq!(eta(&quarter, 5.0, Some(10.0)), Some(15.0));
        let begun = Progress { bytes_done: Some(0), bytes_total: Some(100), ..Progress::default() };
        assert_eq!(eta(&begun, 2.0, Some(10.0)), Some(8.0));
    }
}
