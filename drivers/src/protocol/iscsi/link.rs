//! One connection on a task of its own. The task outlives the handles for as long as a good-bye takes: dropping a
//! future that uses a session leaves nothing logged in.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::engine::{Core, Event, Outcome, Token};
use super::error::IscsiError;
use super::limits::Limits;
use super::login::{Established, LoginConfig};
use super::pdu::{Decoder, Digests, Lun, PduError};
use super::scsi::Command;
use super::settings::IscsiSettings;
use super::wire::{Wire, lost};

/// How much is put together for one write to the socket.
const BATCH: usize = 512 * 1024;
const SLICES: usize = 128;

struct Request {
    lun: Lun,
    command: Command,
    within: Duration,
    reply: oneshot::Sender<Result<Outcome, IscsiError>>,
}

/// A logged-in connection.
pub(super) struct Link {
    requests: mpsc::Sender<Request>,
    limits: Limits,
    end: Arc<OnceLock<IscsiError>>,
    task: JoinHandle<()>,
}

impl Link {
    pub(super) async fn open(
        host: &str,
        port: u16,
        config: &LoginConfig,
        settings: &IscsiSettings,
    ) -> Result<Self, IscsiError> {
        let (wire, established) = Wire::open(host, port, config, settings).await?;
        let (requests, receiver) = mpsc::channel(64);
        let end = Arc::new(OnceLock::new());
        let runner = Runner::new(wire, established, receiver, settings.clone());
        let told = Arc::clone(&end);
        let task = tokio::spawn(runner.run(told));
        Ok(Self { requests, limits: established.limits, end, task })
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Runs a command to its end. Errors: why the connection is gone, or [`IscsiError::Silent`].
    pub(super) async fn run(
        &self,
        lun: Lun,
        command: Command,
        within: Duration,
    ) -> Result<Outcome, IscsiError> {
        let (reply, answer) = oneshot::channel();
        let gone = || self.end.get().cloned().unwrap_or(IscsiError::Closed);
        self.requests.send(Request { lun, command, within, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Logs out; takes at most as long as `settings.goodbye`.
    pub(super) async fn log_out(self) {
        drop(self.requests);
        // the task ends by itself in time; a panic in it was told already
        let _ = self.task.await;
    }
}

struct Pending {
    reply: oneshot::Sender<Result<Outcome, IscsiError>>,
    name: &'static str,
    since: Instant,
    within: Duration,
    aborted: Option<Instant>,
}

struct Runner {
    core: Core,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    decoder: Decoder,
    digests: Digests,
    recv_limit: usize,
    settings: IscsiSettings,
    requests: mpsc::Receiver<Request>,
    open: bool,
    pending: HashMap<Token, Pending>,
    next_token: Token,
    scratch: BytesMut,
    out: VecDeque<Bytes>,
    out_bytes: usize,
    /// When anything was heard last.
    heard: Instant,
    /// When a command last made progress.
    progress: Instant,
    pinged: Option<Instant>,
    /// When the connection is closed at the latest.
    leave_by: Option<Instant>,
}

impl Runner {
    fn new(
        wire: Wire,
        established: Established,
        requests: mpsc::Receiver<Request>,
        settings: IscsiSettings,
    ) -> Self {
        let (reader, writer) = wire.stream.into_split();
        let now = Instant::now();
        Self {
            core: Core::new(established, settings.queue_depth),
            reader,
            writer,
            decoder: wire.decoder,
            digests: wire.digests,
            recv_limit: established.limits.max_recv_data as usize,
            settings,
            requests,
            open: true,
            pending: HashMap::new(),
            next_token: 0,
            scratch: BytesMut::new(),
            out: VecDeque::new(),
            out_bytes: 0,
            heard: now,
            progress: now,
            pinged: None,
            leave_by: None,
        }
    }

    async fn run(mut self, end: Arc<OnceLock<IscsiError>>) {
        let reason = match self.serve().await {
            Ok(()) => IscsiError::Closed,
            Err(reason) => reason,
        };
        tracing::debug!(%reason, "iSCSI connection ended");
        let reason = end.get_or_init(|| reason).clone();
        self.requests.close();
        for pending in std::mem::take(&mut self.pending).into_values() {
            let _ = pending.reply.send(Err(reason.clone()));
        }
        while let Ok(request) = self.requests.try_recv() {
            let _ = request.reply.send(Err(reason.clone()));
        }
        let _ = timeout(self.settings.goodbye, self.writer.shutdown()).await;
    }

    /// Until the connection ends: `Ok` after a good-bye of ours.
    async fn serve(&mut self) -> Result<(), IscsiError> {
        loop {
            if self.deliver()? {
                return if self.open { Err(asked_to_leave()) } else { Ok(()) };
            }
            self.fill();
            let wake = self.next_wake();
            let slices: Vec<IoSlice<'_>> =
                self.out.iter().take(SLICES).map(|part| IoSlice::new(part)).collect();
            tokio::select! {
                read = self.reader.read_buf(&mut self.decoder.buffer) => match read {
                    Ok(0) => return self.closed(),
                    Ok(_) => self.heard = Instant::now(),
                    Err(error) => return Err(lost(&error)),
                },
                written = self.writer.write_vectored(&slices), if !slices.is_empty() => {
                    let written = written.map_err(|error| lost(&error))?;
                    self.sent(written);
                }
                request = self.requests.recv(), if self.open => match request {
                    Some(request) => self.take(request),
                    None => self.part(),
                },
                () = sleep_until(wake) => if self.overdue()? {
                    return Ok(());
                },
            }
        }
    }

    fn closed(&self) -> Result<(), IscsiError> {
        if self.open { Err(IscsiError::Lost("the target closed it".to_owned())) } else { Ok(()) }
    }

    /// Decodes and acts upon what came. True when the session has ended.
    fn deliver(&mut self) -> Result<bool, IscsiError> {
        loop {
            let pdu = match self.decoder.next(self.digests, self.recv_limit) {
                Ok(Some(pdu)) => pdu,
                Ok(None) => break,
                // damage on the way is cured by a new connection; anything else is the target's way
                Err(error @ (PduError::HeaderDigest | PduError::DataDigest { .. })) => {
                    return Err(IscsiError::Lost(error.to_string()));
                }
                Err(
                    error @ (PduError::TooLong { .. } | PduError::Unknown { .. } | PduError::Malformed(_)),
                ) => {
                    return Err(IscsiError::Protocol(error.to_string()));
                }
            };
            self.pinged = None;
            match self.core.receive(pdu).map_err(|broken| IscsiError::Protocol(broken.to_string()))? {
                Event::Progress => self.progress = self.heard,
                Event::Nothing | Event::Pong => {}
                Event::LogoutAsked(seconds) => {
                    let within = Duration::from_secs(u64::from(seconds).clamp(1, 10));
                    self.leave_by.get_or_insert(Instant::now() + within);
                }
                Event::Dropped(_) => return Err(IscsiError::Lost("the target dropped it".to_owned())),
                Event::LoggedOut => return Ok(true),
            }
        }
        while let Some((token, outcome)) = self.core.finished() {
            let Some(pending) = self.pending.remove(&token) else { continue };
            let result = match outcome {
                Outcome::Aborted => Err(IscsiError::Silent {
                    command: pending.name.to_owned(),
                    after: pending.since.elapsed(),
                }),
                outcome @ (Outcome::Good(_)
                | Outcome::Check(_)
                | Outcome::Status(_)
                | Outcome::Short
                | Outcome::TargetFailure(_)
                | Outcome::Rejected(_)
                | Outcome::Terminated) => Ok(outcome),
            };
            // nobody waits any more when its future was dropped
            let _ = pending.reply.send(result);
        }
        Ok(false)
    }

    /// Puts PDUs together until a batch is full.
    fn fill(&mut self) {
        while self.out_bytes < BATCH {
            let Some(pdu) = self.core.transmit() else { break };
            let head = pdu.head(self.digests).expect("the negotiation keeps segments below 16 MiB");
            let tail = pdu.tail(self.digests);
            self.scratch.extend_from_slice(&head);
            self.push_scratch();
            self.out_bytes += pdu.data.len();
            if !pdu.data.is_empty() {
                self.out.push_back(pdu.data);
            }
            if !tail.is_empty() {
                self.scratch.extend_from_slice(&tail);
                self.push_scratch();
            }
        }
    }

    fn push_scratch(&mut self) {
        self.out_bytes += self.scratch.len();
        self.out.push_back(self.scratch.split().freeze());
    }

    fn sent(&mut self, mut written: usize) {
        self.out_bytes -= written;
        while written > 0 {
            let Some(part) = self.out.front_mut() else { break };
            if part.len() > written {
                part.advance(written);
                break;
            }
            written -= part.len();
            self.out.pop_front();
        }
    }

    fn take(&mut self, request: Request) {
        let token = self.next_token;
        self.next_token += 1;
        let pending = Pending {
            reply: request.reply,
            name: request.command.name,
            since: Instant::now(),
            within: request.within,
            aborted: None,
        };
        self.pending.insert(token, pending);
        self.core.submit(token, request.lun, request.command);
    }

    /// Nobody needs the session any more.
    fn part(&mut self) {
        self.open = false;
        self.leave_by = Some(Instant::now() + self.settings.goodbye);
        self.core.log_out();
    }

    fn next_wake(&self) -> Instant {
        let settings = &self.settings;
        let ping = match self.pinged {
            Some(pinged) => pinged + settings.answer_timeout,
            None => self.heard + settings.keepalive,
        };
        let commands = self.pending.values().map(|pending| match pending.aborted {
            Some(aborted) => aborted + settings.answer_timeout,
            None => pending.since.max(self.progress) + pending.within,
        });
        commands.chain(self.leave_by).chain([ping]).min().unwrap_or(ping)
    }

    /// A time has come: to ping, to abort, or to give up. True when a good-bye has lasted long enough.
    fn overdue(&mut self) -> Result<bool, IscsiError> {
        let now = Instant::now();
        if self.leave_by.is_some_and(|by| now >= by) {
            return if self.open { Err(asked_to_leave()) } else { Ok(true) };
        }
        let silent =
            |name: &str, after| Err(IscsiError::Lost(format!("{name} not answered within {after:?}")));
        match self.pinged {
            Some(pinged) if now >= pinged + self.settings.answer_timeout => {
                return silent("a ping", self.settings.answer_timeout);
            }
            None if now >= self.heard + self.settings.keepalive => {
                self.pinged = Some(now);
                self.core.ping();
            }
            Some(_) | None => {}
        }
        for (token, pending) in &mut self.pending {
            match pending.aborted {
                Some(aborted) if now >= aborted + self.settings.answer_timeout => {
                    return silent("an abort", self.settings.answer_timeout);
                }
                None if now >= pending.since.max(self.progress) + pending.within => {
                    pending.aborted = Some(now);
                    self.core.abort(*token);
                }
                Some(_) | None => {}
            }
        }
        Ok(false)
    }
}

fn asked_to_leave() -> IscsiError {
    IscsiError::Lost("the target asked for a logout".to_owned())
}
