//! Threads that belong to one boot server alone. Each polls a runtime of its own, so that a read that waits for the
//! disk stalls transfers of that thread and nothing else in the process.

use std::future::Future;
use std::io;
use std::thread;

use tokio::sync::oneshot;

/// More threads than this move no more bytes through one network card.
const MOST: usize = 4;

/// How many threads a boot server has: one per core, four at most.
pub(crate) fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MOST)
}

/// How many for a server that is kernel work only, packet by packet: half of the cores, so that API and actors have the
/// rest. On two cores one thread also moves more than two that take turns with everybody else.
pub(crate) fn half() -> usize {
    (count() / 2).max(1)
}

/// Threads that run until their work is done.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    ended: Vec<oneshot::Receiver<()>>,
}

impl Threads {
    /// One more thread, which runs the future that `work` makes there.
    ///
    /// # Errors
    /// What the kernel says when it has no room for a thread or an epoll.
    pub(crate) fn spawn<W, F>(&mut self, name: &str, work: W) -> io::Result<()>
    where
        W: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let run = move || {
            runtime.block_on(async { work().await });
            drop(end);
        };
        thread::Builder::new().name(format!("{name}-{}", self.ended.len())).spawn(run)?;
        self.ended.push(ended);
        Ok(())
    }

    /// Waits until all have ended.
    pub(crate) async fn ended(self) {
        for one in self.ended {
            // an error says that the thread has ended, which is what is waited for
            let _ = one.await;
        }
    }
}
