//! The commands of this boot: started, running, finished. One asynchronous command at a time.

use std::sync::{Arc, Mutex, PoisonError};

use ferric_agent_wire::{Command, CommandError, CommandStatus, Progress, error_type};
use futures_util::FutureExt;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::console::say;
use crate::error::Failure;
use crate::image::ProgressCell;

/// All commands since the agent started, in start order.
#[derive(Default)]
pub struct Commands {
    all: Mutex<Vec<Arc<Entry>>>,
    finished: Notify,
}

/// Another asynchronous command is running.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy {
    /// Its name.
    pub name: String,
}

/// One command.
pub struct Entry {
    state: watch::Sender<Command>,
    asynchronous: bool,
    progress: Option<Arc<ProgressCell>>,
}

impl Entry {
    /// How it stands now, with its progress while it runs.
    pub fn snapshot(&self) -> Command {
        let mut command = self.state.borrow().clone();
        if let Some(progress) = &self.progress
            && !command.command_status.is_finished()
        {
            command.command_result = serde_json::to_value(Progress { progress: progress.get() }).ok();
        }
        command
    }

    /// Waits until it has finished.
    pub async fn finished(&self) -> Command {
        let mut state = self.state.subscribe();
        // the sender lives in self, so this cannot fail
        let _ = state.wait_for(|command| command.command_status.is_finished()).await;
        self.snapshot()
    }

    fn finish(&self, outcome: Result<Value, Failure>) {
        self.state.send_modify(|command| match outcome {
            Ok(result) => {
                command.command_status = CommandStatus::Succeeded;
                command.command_result = Some(result).filter(|value| !value.is_null());
            }
            Err(failure) => {
                command.command_status = failure.status();
                command.command_error = Some(failure.to_command_error());
            }
        });
        let command = self.state.borrow();
        let error =
            command.command_error.as_ref().map(|e| format!(" error={}", e.details)).unwrap_or_default();
        say(format!("command {} {:?}{error}", command.command_name, command.command_status));
    }
}

impl Commands {
    /// All, in start order.
    pub fn list(&self) -> Vec<Command> {
        self.lock().iter().map(|entry| entry.snapshot()).collect()
    }

    /// One by its id.
    pub fn get(&self, id: &str) -> Option<Arc<Entry>> {
        self.lock().iter().find(|entry| entry.state.borrow().id == id).cloned()
    }

    /// Waits for the next end of an asynchronous command.
    pub async fn next_finished(&self) {
        self.finished.notified().await;
    }

    /// Records a command that was carried out at once.
    pub fn record(&self, name: &str, outcome: Result<Value, Failure>) -> Arc<Entry> {
        let entry =
            Arc::new(Entry { state: watch::Sender::new(new(name)), asynchronous: false, progress: None });
        self.lock().push(entry.clone());
        entry.finish(outcome);
        entry
    }

    /// Starts an asynchronous command on a task of its own; a panic in it fails the command and nothing else.
    /// Errors: [`Busy`].
    pub fn start<F>(
        self: &Arc<Self>,
        name: &str,
        progress: Option<Arc<ProgressCell>>,
        work: impl FnOnce() -> F,
    ) -> Result<Arc<Entry>, Busy>
    where
        F: Future<Output = Result<Value, Failure>> + Send + 'static,
    {
        let entry = {
            let mut all = self.lock();
            let running = |entry: &&Arc<Entry>| {
                entry.asynchronous && !entry.state.borrow().command_status.is_finished()
            };
            if let Some(other) = all.iter().find(running) {
                return Err(Busy { name: other.state.borrow().command_name.clone() });
            }
            let entry =
                Arc::new(Entry { state: watch::Sender::new(new(name)), asynchronous: true, progress });
            all.push(entry.clone());
            entry
        };
        say(format!("command {} started", entry.state.borrow().command_name));
        let (commands, running, work) = (self.clone(), entry.clone(), work());
        tokio::spawn(async move {
            match std::panic::AssertUnwindSafe(work).catch_unwind().await {
                Ok(outcome) => running.finish(outcome),
                Err(_) => running.state.send_modify(|command| {
                    command.command_status = CommandStatus::Failed;
                    command.command_error = Some(CommandError {
                        kind: error_type::EXECUTION.to_owned(),
                        code: 500,
                        message: "Command execution failed".to_owned(),
                        details: "the command panicked inside the agent; see the agent's log".to_owned(),
                    });
                }),
            }
            commands.finished.notify_one();
        });
        Ok(entry)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Entry>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commands bear their name without the extension.
fn new(name: &str) -> Command {
    let (_, short) = name.split_once('.').unwrap_or(("", name));
    Command { id: uuid::Uuid::new_v4().to_string(), command_name: short.to_owned(), ..Command::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicking_command_fails_and_the_next_one_runs() {
        let commands = Arc::new(Commands::default());
        let bad = commands.start("x.bad", None, || async { panic!("on purpose") }).expect("starts");
        let bad = bad.finished().await;
        assert_eq!((bad.command_name.as_str(), bad.command_status), ("bad", CommandStatus::Failed));
        let good = commands.start("x.good", None, || async { Ok(Value::from(1)) }).expect("starts");
        assert_eq!(good.finished().await.command_result, Some(Value::from(1)));
        assert_eq!(commands.list().len(), 2);
    }

    #[tokio::test]
    async fn only_one_asynchronous_command_runs_at_a_time() {
        let commands = Arc::new(Commands::default());
        let gate = Arc::new(Notify::new());
        let opened = gate.clone();
        let first = commands
            .start("x.slow", None, || async move {
                opened.notified().await;
                Ok(Value::Null)
            })
            .expect("starts");
        let refused = commands.start("x.other", None, || async { Ok(Value::Null) });
        assert_eq!(refused.err(), Some(Busy { name: "slow".into() }));
        commands.record("x.sync", Ok(Value::Null));
        gate.notify_one();
        first.finished().await;
        assert!(commands.start("x.other", None, || async { Ok(Value::Null) }).is_ok());
    }
}
