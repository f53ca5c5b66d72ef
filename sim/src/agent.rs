//! The deploy ramdisk's agent as a machine plays it: lookup, heartbeats, commands (deploy.md §B.2, §B.3).

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ferric_agent_wire::{
    Command, CommandRequest, CommandStatus, ErrorBody, HEARTBEAT_VERSION, Heartbeat, LOOKUP_VERSION,
    LookupResponse, Progress, Secret, WriteProgress, error_type,
};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::commands::{self, Trouble};
use crate::firmware::KernelLine;
use crate::inventory::inspection_data;
use crate::network::{Call, Reply};
use crate::world::{Machine, World};

/// What the simulated agent calls itself.
const AGENT_VERSION: &str = concat!("ferric-sim ", env!("CARGO_PKG_VERSION"));

/// How long a ramdisk looks for its node before it gives up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(600);

/// One run of an agent, from its boot to its end.
pub(crate) struct Agent {
    pub(crate) boot: u64,
    session: Mutex<Session>,
    /// A heartbeat is wanted at once.
    beat: Notify,
    /// Counts changes of commands, for those who wait for one to end.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Session {
    token: Option<Secret>,
    commands: Vec<Command>,
    /// The command that writes, and how far it is.
    write: Option<(String, WriteProgress)>,
    tasks: Vec<AbortHandle>,
    gone: bool,
}

/// An HTTP error of the agent: status and body.
pub(crate) type Refusal = Box<ErrorBody>;

pub(crate) fn refusal(code: u16, kind: &str, details: impl Into<String>) -> Refusal {
    Box::new(ErrorBody { kind: kind.to_owned(), code, message: kind.to_owned(), details: details.into() })
}

impl Agent {
    pub(crate) fn new(boot: u64) -> Self {
        Self { boot, session: Mutex::default(), beat: Notify::new(), changed: watch::Sender::new(0) }
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().expect("no code panics while it holds an agent's session")
    }

    /// Ends every command that runs: the machine lost its power.
    pub(crate) fn kill(&self) {
        {
            let mut session = self.session();
            session.gone = true;
            for task in session.tasks.drain(..) {
                task.abort();
            }
        }
        // those who wait for a command to end wait in vain
        self.changed.send_modify(|count| *count += 1);
    }

    /// Whether the machine lost its power, or the agent died.
    pub(crate) fn is_gone(&self) -> bool {
        self.session().gone
    }

    /// Inspects the machine if its kernel line wants that, looks its node up, then heart-beats for as long as the
    /// machine runs.
    pub(crate) async fn run(&self, machine: &Arc<Machine>, line: &KernelLine) {
        let known = match line.value("ipa-inspection-callback-url") {
            Some(url) => self.inspect(machine, url).await,
            None => None,
        };
        let api = match line.value("ipa-api-url") {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => default_api(&machine.world).await,
        };
        let Some(found) = self.look_up(machine, &api, known.as_deref()).await else {
            tracing::warn!(machine = machine.name, "its ramdisk found no node and gave up");
            machine.agent_died(self.boot);
            return;
        };
        self.session().token = found.config.agent_token.clone();
        let timeout = Duration::from_secs(found.config.heartbeat_timeout.max(1));
        loop {
            let wait = match self.heartbeat(machine, &api, &found).await {
                Ok(()) => {
                    machine.complain(self.boot, None);
                    timeout.mul_f64(machine.chance(|chance| 0.3 + 0.3 * chance.unit()))
                }
                Err(reason) => {
                    tracing::debug!(machine = machine.name, reason, "heartbeat failed");
                    machine.complain(self.boot, Some(&format!("heartbeat: {reason}")));
                    machine
                        .chance(|chance| chance.between(Duration::from_millis(500), Duration::from_secs(3)))
                }
            };
            // a wish that came during the heartbeat is kept by `Notify`
            let _ = tokio::time::timeout(wait, self.beat.notified()).await;
        }
    }

    /// Sends what the machine is made of; answers the node's id where the API told it. Tries again while the API is
    /// busy or away, as long as a lookup would.
    async fn inspect(&self, machine: &Arc<Machine>, url: &str) -> Option<String> {
        let error = machine
            .goes_wrong(|left| &mut left.inspection_error)
            .then_some("a simulated failure of the inspection");
        let body = serde_json::to_value(inspection_data(machine, error)).ok()?;
        let deadline = tokio::time::Instant::now() + LOOKUP_TIMEOUT;
        let mut wait = Duration::from_millis(250);
        while tokio::time::Instant::now() < deadline {
            let call = Call { url: url.to_owned(), version: None, body: Some(body.clone()) };
            match machine.world.network.call(call).await {
                Ok(answer) if answer.is_success() => {
                    let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                    return told.get("uuid").and_then(|id| id.as_str()).map(str::to_owned);
                }
                Ok(Reply { status, .. }) if (400..500).contains(&status) && status != 409 => {
                    tracing::warn!(machine = machine.name, status, "its inspection was refused");
                    return None;
                }
                Ok(Reply { status, .. }) => {
                    tracing::debug!(machine = machine.name, status, "inspection not taken");
                }
                Err(reason) => {
                    tracing::debug!(machine = machine.name, reason, "inspection not sent");
                }
            }
            tokio::time::sleep(wait.mul_f64(machine.chance(|chance| 0.5 + chance.unit()))).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
        None
    }

    async fn look_up(
        &self,
        machine: &Arc<Machine>,
        api: &str,
        known: Option<&str>,
    ) -> Option<LookupResponse> {
        let node = known.map(|id| format!("&node_uuid={id}")).unwrap_or_default();
        let url = format!("{api}/v1/lookup?addresses={}{node}", machine.mac);
        let deadline = tokio::time::Instant::now() + LOOKUP_TIMEOUT;
        let mut wait = Duration::from_millis(250);
        while tokio::time::Instant::now() < deadline {
            match self.look_up_once(machine, &url).await {
                // the token was shown to somebody before, who may be us without having heard the answer
                Ok(found) if found.config.agent_token.as_ref().is_some_and(Secret::is_masked) => {
                    tracing::warn!(machine = machine.name, "its token is shown no more: waits for a reset");
                    machine.complain(self.boot, Some("lookup: the token is shown no more"));
                }
                Ok(found) => return Some(found),
                Err(reason) => {
                    tracing::debug!(machine = machine.name, reason, "lookup failed");
                    machine.complain(self.boot, Some(&format!("lookup: {reason}")));
                }
            }
            let jitter = machine.chance(|chance| 0.5 + chance.unit());
            tokio::time::sleep(wait.mul_f64(jitter)).await;
            wait = (wait * 2).min(Duration::from_secs(10));
        }
        None
    }

    async fn look_up_once(&self, machine: &Arc<Machine>, url: &str) -> Result<LookupResponse, String> {
        let (major, minor) = LOOKUP_VERSION;
        let call = Call { url: url.to_owned(), version: Some(format!("{major}.{minor}")), body: None };
        let answer = machine.world.network.call(call).await?;
        if !answer.is_success() {
            return Err(answer.words());
        }
        serde_json::from_slice(&answer.body).map_err(|error| chain(&error))
    }

    async fn heartbeat(
        &self,
        machine: &Arc<Machine>,
        api: &str,
        found: &LookupResponse,
    ) -> Result<(), String> {
        let world = &machine.world;
        let Some(base) = machine.own_base.get().or_else(|| world.callback_base.get()) else {
            return Err("the fleet has not started".to_owned());
        };
        let body = Heartbeat {
            callback_url: format!("{base}/{}", path_key(&machine.mac)),
            agent_token: found.config.agent_token.clone(),
            agent_version: Some(AGENT_VERSION.to_owned()),
            ..Heartbeat::default()
        };
        let (major, minor) = HEARTBEAT_VERSION;
        let call = Call {
            url: format!("{api}/v1/heartbeat/{}", found.node.uuid),
            version: Some(format!("{major}.{minor}")),
            body: Some(serde_json::to_value(&body).map_err(|error| chain(&error))?),
        };
        let answer = world.network.call(call).await?;
        if answer.is_success() {
            return Ok(());
        }
        Err(format!("{}: {}", answer.words(), String::from_utf8_lossy(&answer.body)))
    }

    /// Refuses callers without this agent's token.
    pub(crate) fn check_token(&self, given: Option<&str>) -> Result<(), Refusal> {
        match (&self.session().token, given) {
            (None, _) => Ok(()),
            (Some(token), Some(given)) if token.same_as(given) => Ok(()),
            (Some(_), _) => Err(refusal(401, error_type::BAD_TOKEN, "the token is not this agent's")),
        }
    }

    /// Every command of this boot, in start order.
    pub(crate) fn commands(&self) -> Vec<Command> {
        let session = self.session();
        session.commands.iter().map(|command| dressed(&session, command)).collect()
    }

    fn command(&self, id: &str) -> Option<Command> {
        let session = self.session();
        session.commands.iter().find(|command| command.id == id).map(|command| dressed(&session, command))
    }

    /// How far the write is that runs now.
    pub(crate) fn write_progress(&self) -> Option<WriteProgress> {
        self.session().write.as_ref().map(|(_, progress)| *progress)
    }

    pub(crate) fn set_write_progress(&self, id: &str, progress: WriteProgress) {
        self.session().write = Some((id.to_owned(), progress));
    }

    /// One command, once it has ended if `wait` is set.
    pub(crate) async fn answer(&self, id: &str, wait: bool) -> Result<Command, Refusal> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let command = self
                .command(id)
                .ok_or_else(|| refusal(404, error_type::NOT_FOUND, format!("no command has the id {id}")))?;
            let over = command.command_status.is_finished() || self.is_gone();
            if !wait || over || changed.changed().await.is_err() {
                return Ok(command);
            }
        }
    }

    /// Starts a command; answers when it has ended if `wait` is set, at once if not.
    pub(crate) async fn start(
        self: &Arc<Self>,
        machine: &Arc<Machine>,
        request: CommandRequest,
        wait: bool,
    ) -> Result<Command, Refusal> {
        let work = commands::plan(&request)?;
        let id = machine.chance(|chance| {
            let bits = (u128::from(chance.bits()) << 64) | u128::from(chance.bits());
            uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
        });
        {
            let mut session = self.session();
            let busy = session.commands.iter().find(|one| !one.command_status.is_finished());
            if let (Some(busy), true) = (busy, work.is_async()) {
                if work.writes() {
                    machine.on_disk(self.boot, |disk| disk.refused_writers += 1);
                }
                let text = format!("{} is still running", busy.command_name);
                return Err(refusal(409, error_type::BUSY, text));
            }
            let name = request.name.rsplit('.').next().unwrap_or_default().to_owned();
            session.commands.push(Command { id: id.clone(), command_name: name, ..Command::default() });
        }
        if work.is_async() {
            let (agent, machine, id) = (self.clone(), machine.clone(), id.clone());
            let task = tokio::spawn(async move {
                let result = work.run(&agent, &machine, &id).await;
                agent.finish(&id, result);
                // an agent beats at once when something has ended, so that nobody waits for the next beat
                agent.beat.notify_one();
            });
            self.session().tasks.push(task.abort_handle());
        } else {
            let result = work.run(self, machine, &id).await;
            self.finish(&id, result);
        }
        self.answer(&id, wait).await
    }

    fn finish(&self, id: &str, result: Result<serde_json::Value, Trouble>) {
        {
            let mut session = self.session();
            if session.write.as_ref().is_some_and(|(writing, _)| writing == id) {
                session.write = None;
            }
            let command = session.commands.iter_mut().find(|command| command.id == id);
            let command = command.expect("commands are never removed from a session");
            match result {
                Ok(value) => {
                    command.command_status = CommandStatus::Succeeded;
                    command.command_result = Some(value);
                }
                Err(Trouble::Failed(error)) => {
                    command.command_status = CommandStatus::Failed;
                    command.command_error = Some(error);
                }
                Err(Trouble::VersionMismatch(error)) => {
                    command.command_status = CommandStatus::CleanVersionMismatch;
                    command.command_error = Some(error);
                }
            }
        }
        self.changed.send_modify(|count| *count += 1);
    }
}

/// The API that a ramdisk without kernel line calls.
async fn default_api(world: &World) -> String {
    let mut known = world.api_url.subscribe();
    let url = known.wait_for(Option::is_some).await.map(|url| url.clone());
    url.ok().flatten().expect("a world that is borrowed keeps its sender")
}

/// A command with the progress of its write, while it runs.
fn dressed(session: &Session, command: &Command) -> Command {
    let mut command = command.clone();
    if let Some((id, progress)) = &session.write
        && *id == command.id
        && !command.command_status.is_finished()
    {
        command.command_result = serde_json::to_value(Progress { progress: *progress }).ok();
    }
    command
}

/// The machine's part of a callback URL: its MAC without colons.
pub(crate) fn path_key(mac: &str) -> String {
    mac.chars().filter(char::is_ascii_hexdigit).collect()
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
