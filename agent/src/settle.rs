//! Which disks there are, once no more of them appear: controllers find theirs seconds after the kernel is up.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::console::say;
use crate::disk::{self, Disk};
use crate::error::Failure;
use crate::hints::{self, Fit, Hints};

/// How long to wait for further disks, all of it counted from the agent's start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    /// The list counts as complete once it is unchanged for so long.
    pub unchanged: Duration,
    /// Between two looks.
    pub every: Duration,
    /// From then on the list is taken as it is, and a disk that is missing is missing.
    pub at_most: Duration,
}

impl Patience {
    /// For a real machine.
    pub const MACHINE: Self = Self {
        unchanged: Duration::from_secs(3),
        every: Duration::from_secs(1),
        at_most: Duration::from_secs(60),
    };
}

/// Looks at the list of disks since the agent's start, so that a machine that has been up for some seconds need not
/// wait when a disk is to be chosen.
pub struct Watch {
    sys: PathBuf,
    dev: PathBuf,
    patience: Patience,
    started: Instant,
    seen: Mutex<Option<Seen>>,
}

struct Seen {
    disks: Vec<Disk>,
    since: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Look again.
    Changing,
    /// Complete as far as anyone can tell.
    Settled,
    /// The time for waiting is over.
    Final,
}

impl Watch {
    /// Starts counting. The folders are those of [`crate::options::Options`].
    pub fn new(sys: PathBuf, dev: PathBuf, patience: Patience) -> Self {
        Self { sys, dev, patience, started: Instant::now(), seen: Mutex::new(None) }
    }

    /// Looks again and again until the time for waiting is over.
    pub async fn keep_looking(self: Arc<Self>) {
        while self.started.elapsed() < self.patience.at_most {
            if let Err(failure) = self.look().await {
                tracing::warn!(%failure, "looking for disks");
            }
            tokio::time::sleep(self.patience.every).await;
        }
    }

    /// The disk to write, as [`disk::choose`] picks it from the settled list; as long as there is time left, a disk
    /// that is not there yet is waited for. Errors: `NoDisk`.
    pub async fn choose(&self, hints: &Hints) -> Result<Disk, Failure> {
        self.choose_except(hints, &[]).await
    }

    /// The same among the disks that certainly fit none of `kept`. Errors: `NoDisk`, telling what was left out.
    pub async fn choose_except(&self, hints: &Hints, kept: &[Hints]) -> Result<Disk, Failure> {
        let mut told = false;
        loop {
            let (disks, left_out): (Vec<Disk>, Vec<Disk>) =
                self.look().await?.into_iter().partition(|disk| hints::kept(kept, disk) == Fit::No);
            match self.verdict(Instant::now()) {
                Verdict::Final if left_out.is_empty() => return disk::choose(&disks, hints),
                Verdict::Final => {
                    let names: Vec<String> = left_out.iter().map(Disk::name).collect();
                    return disk::choose(&disks, hints).map_err(|failure| {
                        Failure::NoDisk(format!(
                            "{failure}; left out, for properties.skip_block_devices names them or cannot be judged of \
                             them: {}",
                            names.join(", ")
                        ))
                    });
                }
                Verdict::Settled => {
                    if let Ok(disk) = disk::choose(&disks, hints) {
                        return Ok(disk);
                    }
                }
                Verdict::Changing => {}
            }
            if !told {
                say(format!("waiting for disks to appear, so far {}", disks.len()));
                told = true;
            }
            tokio::time::sleep(self.patience.every).await;
        }
    }

    /// All disks, once no more of them appear or the time for waiting is over. Errors: `Io`.
    pub async fn settled(&self) -> Result<Vec<Disk>, Failure> {
        loop {
            let disks = self.look().await?;
            match self.verdict(Instant::now()) {
                Verdict::Settled | Verdict::Final => return Ok(disks),
                Verdict::Changing => tokio::time::sleep(self.patience.every).await,
            }
        }
    }

    async fn look(&self) -> Result<Vec<Disk>, Failure> {
        let (sys, dev) = (self.sys.clone(), self.dev.clone());
        let disks = tokio::task::spawn_blocking(move || disk::list(&sys, &dev))
            .await
            .map_err(|error| Failure::io("a worker died")(std::io::Error::other(error)))?;
        self.note(disks.clone(), Instant::now());
        Ok(disks)
    }

    fn note(&self, disks: Vec<Disk>, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_none_or(|seen| seen.disks != disks) {
            *seen = Some(Seen { disks, since: now });
        }
    }

    fn verdict(&self, now: Instant) -> Verdict {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let unchanged = seen.as_ref().map(|seen| now.saturating_duration_since(seen.since));
        if now.saturating_duration_since(self.started) >= self.patience.at_most {
            Verdict::Final
        } else if unchanged.is_some_and(|unchanged| unchanged >= self.patience.unchanged) {
            Verdict::Settled
        } else {
            Verdict::Changing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str) -> Disk {
        Disk { kernel_name: name.to_owned(), size: 8 << 30, ..Disk::default() }
    }

    #[test]
    fn the_list_settles_three_seconds_after_its_last_change_and_is_final_after_a_minute() {
        let watch = Watch::new(PathBuf::new(), PathBuf::new(), Patience::MACHINE);
        let at = |seconds| watch.started + Duration::from_secs(seconds);
        assert_eq!(watch.verdict(at(50)), Verdict::Changing, "nothing looked at yet");
        watch.note(vec![disk("sda")], at(0));
        assert_eq!(watch.verdict(at(2)), Verdict::Changing);
        watch.note(vec![disk("nvme0n1"), disk("sda")], at(2));
        assert_eq!(watch.verdict(at(4)), Verdict::Changing);
        watch.note(vec![disk("nvme0n1"), disk("sda")], at(4));
        assert_eq!(watch.verdict(at(5)), Verdict::Settled, "looking alone is no change");
        watch.note(vec![disk("sda")], at(59));
        assert_eq!((watch.verdict(at(59)), watch.verdict(at(60))), (Verdict::Changing, Verdict::Final));
    }

    #[tokio::test]
    async fn a_disk_that_the_hints_ask_for_is_waited_for_but_not_for_ever() {
        let folder = tempfile::tempdir().expect("temp dir");
        let add = |name: &str| {
            let block = folder.path().join("block").join(name);
            std::fs::create_dir_all(&block).expect("dirs");
            std::fs::write(block.join("size"), "16777216\n").expect("file");
        };
        add("sda");
        let every = Duration::from_millis(5);
        let watch = |at_most| {
            let patience = Patience { unchanged: Duration::ZERO, every, at_most };
            Watch::new(folder.path().to_owned(), "/nowhere".into(), patience)
        };
        let hints = Hints::from_iter([("name".to_owned(), "/dev/sdb".into())]);
        let gone = watch(Duration::ZERO).choose(&hints).await;
        assert!(matches!(gone, Err(Failure::NoDisk(_))), "{gone:?}");
        let patient = watch(Duration::from_secs(60));
        let any = patient.choose(&Hints::new()).await.expect("settled");
        assert_eq!(any.kernel_name, "sda");
        // the first look at least is before the disk comes
        let mut choice = std::pin::pin!(patient.choose(&hints));
        assert!(tokio::time::timeout(every * 4, &mut choice).await.is_err(), "it is not there yet");
        add("sdb");
        assert_eq!(choice.await.expect("late").kernel_name, "sdb");
    }
}
