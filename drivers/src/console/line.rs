//! Keeps the serial line of one node open for as long as its console is: what breaks is opened again, less and less
//! often, and everybody who watches is told.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ConsoleSettings;
use super::hub::{Hub, Input};
use crate::error::DriverError;
use crate::protocol::ipmi::sol_link::{Opened, SolEvent, SolInput, SolLink};
use crate::protocol::ipmi::{IpmiClient, IpmiSettings, Quirks, Target};

/// What a line needs.
pub(super) struct Keeper {
    pub(super) hub: Arc<Hub>,
    pub(super) target: Target,
    pub(super) client: Arc<IpmiClient>,
    pub(super) ipmi: IpmiSettings,
    pub(super) settings: ConsoleSettings,
    pub(super) stop: CancellationToken,
}

/// How a line that was open came to an end.
enum Broken {
    /// The console is closed.
    Stopped,
    /// In words.
    Because(String),
}

impl Keeper {
    /// Runs until it is stopped, or until the first attempt fails, whose outcome goes to `first`.
    pub(super) async fn run(
        self,
        mut input: mpsc::Receiver<Input>,
        first: oneshot::Sender<Result<(), DriverError>>,
    ) {
        let mut first = Some(first);
        let mut pause = self.settings.reconnect_first;
        let take_over = self.takes_over().await;
        loop {
            self.hub.tell(false, format!("connecting to {}", self.target.name()));
            let opening = SolLink::open(&self.target, &self.ipmi, take_over, self.settings.open_timeout);
            let opened = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                opened = opening => opened,
            };
            let why = match opened {
                Ok((link, how)) => {
                    pause = self.settings.reconnect_first;
                    self.welcome(how);
                    if let Some(first) = first.take() {
                        let _ = first.send(Ok(()));
                    }
                    match self.carry(link, &mut input).await {
                        Broken::Stopped => return,
                        Broken::Because(why) => why,
                    }
                }
                Err(error) => {
                    let error = error.of(&self.target);
                    if let Some(first) = first.take() {
                        let _ = first.send(Err(error));
                        return;
                    }
                    error.to_string()
                }
            };
            tracing::warn!(bmc = %self.target.name(), %why, "a serial console is down");
            self.hub.tell(false, format!("{why}; next try in {} s", pause.as_secs_f32().ceil()));
            if self.wait(pause, &mut input).await.is_none() {
                return;
            }
            pause = (pause * 2).min(self.settings.reconnect_max);
        }
    }

    /// Whether a session that has the line is ended; the table of quirks says, and the node.
    async fn takes_over(&self) -> bool {
        let asking = self.client.quirks_within(&self.target, self.settings.open_timeout / 2);
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            quirks = asking => quirks.unwrap_or_else(|_| Quirks::unasked(&self.target)).deactivate_stale_sol,
        }
    }

    fn welcome(&self, how: Opened) {
        let bmc = self.target.name();
        let mut text = format!("connected to {bmc}");
        if how.took_over {
            tracing::warn!(bmc, "its serial line was active in another session, which was ended");
            text.push_str("; another session had the serial line and was ended");
        }
        if how.enabled {
            tracing::warn!(bmc, "serial over LAN was disabled and is enabled now");
            text.push_str("; serial over LAN was disabled and is enabled now");
        }
        self.hub.tell(true, text);
    }

    /// Carries characters until the line breaks or the console is closed; the BMC is told in both cases.
    async fn carry(&self, mut link: SolLink, input: &mut mpsc::Receiver<Input>) -> Broken {
        let input = tokio::sync::Mutex::new(input);
        let given = || async {
            let mut input = input.lock().await;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => None,
                given = input.recv() => match given {
                    Some(Input::Bytes(data)) => Some(SolInput::Data(data)),
                    Some(Input::Break) => Some(SolInput::Break),
                    None => None,
                },
            }
        };
        let end = link.run(given, |event| self.show(event));
        let end = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            end = end => Some(end),
        };
        self.hub.tell(false, "disconnecting");
        link.close().await;
        match end.filter(|_| !self.stop.is_cancelled()) {
            Some(end) => Broken::Because(end.to_string()),
            None => Broken::Stopped,
        }
    }

    fn show(&self, event: SolEvent) {
        match event {
            SolEvent::Data(data) => self.hub.show(data),
            SolEvent::Break => self.hub.tell(true, "the machine sent a break"),
            SolEvent::Overrun => self.hub.tell(true, "the BMC lost characters of the machine"),
        }
    }

    /// Waits; what is typed meanwhile is thrown away, or it would be carried out minutes later. `None` when stopped.
    async fn wait(&self, pause: Duration, input: &mut mpsc::Receiver<Input>) -> Option<()> {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                () = sleep_until(until) => return Some(()),
                given = input.recv() => drop(given?),
            }
        }
    }
}
