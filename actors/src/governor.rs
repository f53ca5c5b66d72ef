//! One command at a time per BMC; a silent BMC is asked less and less often, at its own node's cost only.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dashmap::DashMap;
use ferric_drivers::DriverError;
use ferric_drivers::metrics::METRICS;
use tokio::time::{Instant, timeout};

/// How long a deployment or an operator may wait for the commands before theirs.
const TURN: Duration = Duration::from_secs(600);

/// Permits by BMC address. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Governor {
    bmcs: Arc<DashMap<String, Arc<Bmc>>>,
    least: Duration,
    most: Duration,
}

#[derive(Default)]
struct Bmc {
    /// Fair: whoever asks first is served first.
    turn: tokio::sync::Mutex<()>,
    /// One survey at a time.
    survey: tokio::sync::Mutex<()>,
    /// What is known of its silence.
    silence: Mutex<Silence>,
}

#[derive(Default, Clone, Copy)]
struct Silence {
    failures: u32,
    since: Option<Instant>,
    closed_until: Option<Instant>,
    /// Forgotten: who still waits for an answer tells nobody any more.
    gone: bool,
}

impl Silence {
    /// It answers, or nobody asks it any more.
    fn end(&mut self) {
        if self.failures > 0 {
            METRICS.bmcs_silent.dec();
        }
        *self = Silence::default();
    }
}

impl Governor {
    pub(crate) fn new(least: Duration, most: Duration) -> Governor {
        Governor { bmcs: Arc::default(), least, most }
    }

    /// Runs `command`, for at most `within` once it is this caller's turn. `patient` callers (a deployment, an operator)
    /// are let through to a BMC that was silent, and wait long for their turn; others (the periodic look) are turned
    /// away until its back-off is over.
    pub(crate) async fn run<T>(
        &self,
        bmc: Option<String>,
        patient: bool,
        within: Duration,
        command: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, DriverError> {
        let Some(address) = bmc else {
            return timeout(within, command).await.unwrap_or_else(|_| Err(late("the driver", within)));
        };
        let bmc = self.bmcs.entry(address.clone()).or_default().clone();
        if !patient && let Some(silent) = self.turned_away(&bmc, &address) {
            return Err(silent);
        }
        let longest = if patient { TURN } else { within };
        self.in_turn(&bmc, address, longest, within, command).await
    }

    /// As [`Governor::run`], for who has decided by itself whether a BMC that was silent is asked ([`Governor::is_closed`]),
    /// and waits for its turn no longer than for the answer.
    pub(crate) async fn glance<T>(
        &self,
        bmc: Option<String>,
        within: Duration,
        command: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, DriverError> {
        let Some(address) = bmc else {
            return timeout(within, command).await.unwrap_or_else(|_| Err(late("the driver", within)));
        };
        let bmc = self.bmcs.entry(address.clone()).or_default().clone();
        self.in_turn(&bmc, address, within, within, command).await
    }

    async fn in_turn<T>(
        &self,
        bmc: &Bmc,
        address: String,
        longest: Duration,
        within: Duration,
        command: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, DriverError> {
        let Ok(_turn) = timeout(longest, bmc.turn.lock()).await else {
            return Err(DriverError::Unreachable {
                what: address,
                after: longest,
                remedy: "it is busy with earlier commands of Ferric; they end by themselves".into(),
            });
        };
        let result = timeout(within, command).await.unwrap_or_else(|_| Err(late(&address, within)));
        self.learn(bmc, &result);
        result
    }

    /// Runs what asks the BMC a great many small things, for at most `within`: it takes no turn, because nobody is to wait
    /// for all of it (the driver lets one command at a time through), and that it takes long says nothing of the BMC. A
    /// BMC that was silent is left alone until its back-off is over, whoever asks: that would take all of `within`.
    pub(crate) async fn survey<T>(
        &self,
        bmc: Option<String>,
        within: Duration,
        survey: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, DriverError> {
        let Some(address) = bmc else {
            return timeout(within, survey).await.unwrap_or_else(|_| Err(late("the driver", within)));
        };
        let bmc = self.bmcs.entry(address.clone()).or_default().clone();
        if let Some(silent) = self.turned_away(&bmc, &address) {
            return Err(silent);
        }
        let surveyed = timeout(within, async {
            let _one = bmc.survey.lock().await;
            // it may have fallen silent while this one waited
            match self.turned_away(&bmc, &address) {
                Some(silent) => Err(silent),
                None => survey.await,
            }
        });
        let Ok(result) = surveyed.await else { return Err(late(&address, within)) };
        if result.is_ok() {
            self.learn(&bmc, &result);
        }
        result
    }

    /// Whether an impatient command to this BMC would not even be started.
    pub(crate) fn is_closed(&self, bmc: Option<&str>) -> bool {
        let known = bmc.and_then(|address| Some((self.bmcs.get(address)?.clone(), address)));
        known.is_some_and(|(bmc, address)| self.turned_away(&bmc, address).is_some())
    }

    fn turned_away(&self, bmc: &Bmc, address: &str) -> Option<DriverError> {
        let silence = *bmc.silence.lock().expect("nothing panics while it holds this lock");
        let now = Instant::now();
        let left = silence.closed_until?.checked_duration_since(now)?;
        let for_so_long = silence.since.map_or(Duration::ZERO, |since| now.duration_since(since));
        Some(DriverError::Unreachable {
            what: address.to_owned(),
            after: for_so_long,
            remedy: format!("next try in {} s; check the BMC's address and cable", left.as_secs() + 1),
        })
    }

    fn learn<T>(&self, bmc: &Bmc, result: &Result<T, DriverError>) {
        let mut silence = bmc.silence.lock().expect("nothing panics while it holds this lock");
        if silence.gone {
            return;
        }
        match result {
            Err(DriverError::Unreachable { .. }) => {
                let now = Instant::now();
                if silence.failures == 0 {
                    METRICS.bmcs_silent.inc();
                }
                silence.failures = silence.failures.saturating_add(1);
                silence.since.get_or_insert(now);
                let wait = self.least.saturating_mul(1 << silence.failures.min(16)).min(self.most);
                silence.closed_until = Some(now + wait);
            }
            Ok(_) | Err(_) => silence.end(),
        }
    }

    /// Forgets a BMC, when its last node is gone or its address changed.
    pub(crate) fn forget(&self, bmc: &str) {
        if let Some((_, bmc)) = self.bmcs.remove(bmc) {
            let mut silence = bmc.silence.lock().expect("nothing panics while it holds this lock");
            silence.end();
            silence.gone = true;
        }
    }
}

fn late(what: &str, within: Duration) -> DriverError {
    DriverError::Unreachable {
        what: what.to_owned(),
        after: within,
        remedy: "check that the BMC is reachable from this host and not busy".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent() -> Result<(), DriverError> {
        Err(DriverError::Unreachable { what: "bmc".into(), after: Duration::ZERO, remedy: String::new() })
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_survey_but_the_next_survey() {
        let governor = Governor::new(Duration::from_secs(1), Duration::from_secs(8));
        let key = || Some("ipmi:10.0.0.1:623".to_owned());
        let (second, long) = (Duration::from_secs(1), Duration::from_secs(100));
        let survey = tokio::spawn({
            let governor = governor.clone();
            async move { governor.survey(key(), long, std::future::pending::<Result<(), _>>()).await }
        });
        tokio::task::yield_now().await;
        assert!(governor.run(key(), false, second, async { Ok(()) }).await.is_ok(), "a command goes through");
        assert!(governor.survey(key(), second, async { Ok(()) }).await.is_err(), "a second survey waits");
        assert!(survey.await.expect("no panic").is_err());
        // and the time that it took is not held against the BMC
        assert!(governor.run(key(), false, second, async { Ok(()) }).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_glance_goes_through_to_a_silent_bmc_and_waits_no_longer_for_a_busy_one() {
        let governor = Governor::new(Duration::from_secs(60), Duration::from_secs(60));
        let key = || Some("ipmi:10.0.0.1:623".to_owned());
        let (second, long) = (Duration::from_secs(1), Duration::from_secs(100));
        assert!(governor.run(key(), false, second, async { silent() }).await.is_err());
        assert!(governor.is_closed(key().as_deref()));
        assert!(governor.glance(key(), second, async { Ok(()) }).await.is_ok());
        assert!(!governor.is_closed(key().as_deref()), "it answered");
        let held = governor.run(key(), true, long, std::future::pending::<Result<(), _>>());
        let begun = Instant::now();
        tokio::select! {
            _ = held => panic!("it never answers"),
            seen = governor.glance(key(), second, async { Ok(()) }) => assert!(seen.is_err()),
        }
        assert_eq!(begun.elapsed(), second);
    }

    #[tokio::test(start_paused = true)]
    async fn who_still_asks_a_forgotten_bmc_does_not_count_it_as_silent() {
        let governor = Governor::new(Duration::from_secs(1), Duration::from_secs(8));
        let key = || Some("ipmi:10.0.0.1:623".to_owned());
        let known = || governor.bmcs.get("ipmi:10.0.0.1:623").map(|bmc| bmc.clone());
        let mut asked = None;
        let failed = governor.run(key(), true, Duration::from_secs(1), async {
            asked = known();
            governor.forget("ipmi:10.0.0.1:623");
            silent()
        });
        assert!(failed.await.is_err());
        let asked = asked.expect("it was known while it was asked");
        assert_eq!(asked.silence.lock().expect("not poisoned").failures, 0);
        assert!(known().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_survey_of_a_silent_bmc_is_refused_before_it_begins() {
        let governor = Governor::new(Duration::from_secs(60), Duration::from_secs(60));
        let key = || Some("ipmi:10.0.0.1:623".to_owned());
        let (second, long) = (Duration::from_secs(1), Duration::from_secs(200));
        assert!(governor.run(key(), false, second, async { silent() }).await.is_err());
        let begun = Instant::now();
        let survey = governor.survey(key(), long, std::future::pending::<Result<(), _>>()).await;
        assert!(matches!(survey, Err(DriverError::Unreachable { .. })));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        // what has no BMC waits for nobody else's
        let never = governor.survey(None, long, std::future::pending::<Result<(), _>>());
        tokio::select! {
            _ = never => panic!("it never answers"),
            done = governor.survey(None, second, async { Ok(()) }) => assert!(done.is_ok()),
        }
        assert!(governor.run(key(), true, second, async { Ok(()) }).await.is_ok());
        assert!(governor.survey(key(), long, async { Ok(()) }).await.is_ok(), "it answers again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_bmc_is_asked_less_often_and_forgiven_when_it_answers() {
        let governor = Governor::new(Duration::from_secs(1), Duration::from_secs(8));
        let key = || Some("ipmi:10.0.0.1:623".to_owned());
        let second = Duration::from_secs(1);
        assert!(governor.run(key(), false, second, async { silent() }).await.is_err());
        // the breaker is open: the command is not even started
        let mut started = false;
        let refused = governor
            .run(key(), false, second, async {
                started = true;
                Ok(())
            })
            .await;
        assert!(matches!(refused, Err(DriverError::Unreachable { .. })) && !started);
        // a deployment is let through, and its success closes the breaker
        assert!(governor.run(key(), true, second, async { Ok(()) }).await.is_ok());
        assert!(governor.run(key(), false, second, async { Ok(()) }).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn commands_to_one_bmc_never_overlap_and_others_are_not_held_up() {
        let governor = Governor::new(Duration::from_secs(1), Duration::from_secs(8));
        let long = Duration::from_secs(60);
        let slow = governor.run(Some("a".into()), true, long, async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok(Instant::now())
        });
        let same = governor.run(Some("a".into()), true, long, async { Ok(Instant::now()) });
        let other = governor.run(Some("b".into()), true, long, async { Ok(Instant::now()) });
        let begun = Instant::now();
        let (slow, same, other) = tokio::join!(slow, same, other);
        assert!(same.expect("ran") >= slow.expect("ran"));
        assert!(other.expect("ran").duration_since(begun) < Duration::from_secs(1));
    }
}
