//! One session on one connection, without I/O: what was received goes in, what is to be sent comes out.
//! RFC 7143 §4.2 (command numbers), §11. Error recovery level 0: whatever breaks the protocol ends the connection.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::limits::Limits;
use super::login::Established;
use super::pdu::{
    Async, DataIn, DataOut, Header, LogoutRequest, Lun, NO_TAG, NopIn, NopOut, Pdu, R2t, Reject, ScsiCommand,
    ScsiResponse, TaskRequest, TaskResponse, Window, async_event, logout_reason, reject_reason,
    task_function, task_response,
};
use super::scsi::{Command, Sense, Transfer, key, status};

/// Answers to pings that may wait for the socket; a target that asks for more is not answered but left.
const MAX_CONTROL: usize = 256;

/// Whose command it is; chosen by the caller.
pub type Token = u64;

/// How a command ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// GOOD, with what was read.
    Good(Bytes),
    /// CHECK CONDITION.
    Check(Sense),
    /// Any other status.
    Status(u8),
    /// GOOD, and yet the target did not take all the data.
    Short,
    /// The target could not do it, for reasons below SCSI.
    TargetFailure(u8),
    /// The target did not take the PDU.
    Rejected(u8),
    /// By us.
    Aborted,
    /// By the target.
    Terminated,
}

impl Outcome {
    /// Whether the unit says that it was switched on or reset: its cache may have been lost.
    pub(super) fn is_reset(&self) -> bool {
        matches!(self, Self::Check(sense) if sense.key == key::UNIT_ATTENTION && sense.asc.0 == 0x29)
    }
}

/// What else a PDU told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing beyond the window.
    Nothing,
    /// A command has come further, or to its end.
    Progress,
    /// Our ping came back.
    Pong,
    /// The target wants us gone within so many seconds; no further command is started.
    LogoutAsked(u16),
    /// The target drops the connection and wants none for so many seconds.
    Dropped(u16),
    /// The session has ended in peace.
    LoggedOut,
}

/// The target broke the protocol, or refused what cannot be refused: the connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub &'static str);

#[derive(Debug)]
enum Buffer {
    None,
    In(BytesMut),
    Out(Bytes),
}

#[derive(Debug)]
struct Task {
    token: Token,
    lun: Lun,
    cmd_sn: u32,
    buffer: Buffer,
    /// Next DataSN or R2TSN of the target.
    next_sn: u32,
    /// Read: bytes that came. Write: bytes that were sent or are queued.
    moved: u32,
}

#[derive(Debug)]
struct Burst {
    tag: u32,
    ttt: u32,
    offset: u32,
    end: u32,
    data_sn: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Open,
    /// No new commands; good-bye when the last one has ended.
    Leaving,
    /// Good-bye is said.
    Parting,
    Gone,
}

/// A session in its full feature phase.
#[derive(Debug)]
pub struct Core {
    limits: Limits,
    cmd_sn: u32,
    max_cmd_sn: u32,
    exp_stat_sn: u32,
    next_tag: u32,
    depth: usize,
    max_depth: usize,
    waiting: VecDeque<(Token, Lun, Command)>,
    tasks: HashMap<u32, Task>,
    /// ABORT TASK by its tag: the tag of the command that is meant.
    aborts: HashMap<u32, u32>,
    ping: Option<u32>,
    control: VecDeque<Pdu>,
    bursts: VecDeque<Burst>,
    finished: VecDeque<(Token, Outcome)>,
    mood: Mood,
}

impl Core {
    /// A session right after its login, with at most `depth` commands at the target.
    pub fn new(established: Established, depth: usize) -> Self {
        let depth = depth.max(1);
        Self {
            limits: established.limits,
            cmd_sn: established.cmd_sn,
            max_cmd_sn: established.max_cmd_sn,
            exp_stat_sn: established.exp_stat_sn,
            next_tag: 1,
            depth,
            max_depth: depth,
            waiting: VecDeque::new(),
            tasks: HashMap::new(),
            aborts: HashMap::new(),
            ping: None,
            control: VecDeque::new(),
            bursts: VecDeque::new(),
            finished: VecDeque::new(),
            mood: Mood::Open,
        }
    }

    /// What was agreed upon.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Queues a command; it is sent when the window and the queue depth allow.
    pub fn submit(&mut self, token: Token, lun: Lun, command: Command) {
        self.waiting.push_back((token, lun, command));
    }

    /// Asks the target to drop a command. Its end comes as that of any other.
    pub fn abort(&mut self, token: Token) {
        if let Some(at) = self.waiting.iter().position(|(waiting, ..)| *waiting == token) {
            self.waiting.remove(at);
            self.finished.push_back((token, Outcome::Aborted));
            return;
        }
        let found = self.tasks.iter().find(|(_, task)| task.token == token);
        let Some((referenced_tag, lun, ref_cmd_sn)) = found.map(|(tag, task)| (*tag, task.lun, task.cmd_sn))
        else {
            return;
        };
        let itt = self.tag();
        self.aborts.insert(itt, referenced_tag);
        self.control.push_back(Pdu::bare(TaskRequest {
            immediate: true,
            function: task_function::ABORT_TASK,
            lun,
            itt,
            referenced_tag,
            ref_cmd_sn,
            ..TaskRequest::default()
        }));
    }

    /// Asks the target whether it is there; [`Event::Pong`] is its answer.
    pub fn ping(&mut self) {
        let itt = self.tag();
        self.ping = Some(itt);
        self.control.push_back(Pdu::bare(NopOut { immediate: true, itt, ttt: NO_TAG, ..NopOut::default() }));
    }

    /// Says good-bye when the commands at the target have ended; no further command is started.
    pub fn log_out(&mut self) {
        if self.mood == Mood::Open {
            self.mood = Mood::Leaving;
        }
    }

    /// The next command that ended.
    pub fn finished(&mut self) -> Option<(Token, Outcome)> {
        self.finished.pop_front()
    }

    /// Whether no command is at the target or waits.
    pub fn idle(&self) -> bool {
        self.tasks.is_empty() && self.waiting.is_empty()
    }

    /// The next PDU to be sent.
    pub fn transmit(&mut self) -> Option<Pdu> {
        let mut pdu = self.next_control().or_else(|| self.next_data()).or_else(|| self.next_command())?;
        self.stamp(&mut pdu.header);
        Some(pdu)
    }

    fn stamp(&mut self, header: &mut Header) {
        let (sn, stat) = (self.cmd_sn, self.exp_stat_sn);
        #[allow(clippy::wildcard_enum_match_arm)] // what a target sends is never sent from here
        match header {
            Header::NopOut(nop) => (nop.cmd_sn, nop.exp_stat_sn) = (sn, stat),
            Header::TaskRequest(task) => (task.cmd_sn, task.exp_stat_sn) = (sn, stat),
            Header::LogoutRequest(logout) => (logout.cmd_sn, logout.exp_stat_sn) = (sn, stat),
            Header::DataOut(data) => data.exp_stat_sn = stat,
            Header::ScsiCommand(command) => {
                (command.cmd_sn, command.exp_stat_sn) = (sn, stat);
                self.cmd_sn = sn.wrapping_add(1);
            }
            _ => {}
        }
    }

    fn next_control(&mut self) -> Option<Pdu> {
        if let Some(pdu) = self.control.pop_front() {
            return Some(pdu);
        }
        if self.mood != Mood::Leaving || !self.tasks.is_empty() {
            return None;
        }
        self.mood = Mood::Parting;
        let itt = self.tag();
        let reason = logout_reason::CLOSE_SESSION;
        Some(Pdu::bare(LogoutRequest { immediate: true, reason, itt, ..LogoutRequest::default() }))
    }

    fn next_data(&mut self) -> Option<Pdu> {
        let burst = self.bursts.front_mut()?;
        let task = self.tasks.get(&burst.tag).expect("bursts go with their task");
        let Buffer::Out(data) = &task.buffer else { unreachable!("only writes have bursts") };
        let end = burst.end.min(burst.offset.saturating_add(self.limits.max_send_data));
        let last = end == burst.end;
        let header = DataOut {
            last,
            lun: task.lun,
            itt: burst.tag,
            ttt: burst.ttt,
            exp_stat_sn: 0,
            data_sn: burst.data_sn,
            buffer_offset: burst.offset,
        };
        let pdu = Pdu::with(header, data.slice(burst.offset as usize..end as usize));
        burst.offset = end;
        burst.data_sn += 1;
        if last {
            self.bursts.pop_front();
        }
        Some(pdu)
    }

    fn next_command(&mut self) -> Option<Pdu> {
        let window = self.max_cmd_sn.wrapping_sub(self.cmd_sn).cast_signed() >= 0;
        if !window || self.mood != Mood::Open || self.tasks.len() >= self.depth {
            return None;
        }
        let (token, lun, command) = self.waiting.pop_front()?;
        let itt = self.tag();
        let length = command.transfer.length();
        let mut header = ScsiCommand {
            last: true,
            attribute: 1,
            lun,
            itt,
            expected_length: length,
            cdb: command.cdb,
            ..ScsiCommand::default()
        };
        let mut task = Task { token, lun, cmd_sn: self.cmd_sn, buffer: Buffer::None, next_sn: 0, moved: 0 };
        let mut immediate = Bytes::new();
        match command.transfer {
            Transfer::None => {}
            Transfer::Read(length) => {
                header.read = length > 0;
                task.buffer = Buffer::In(BytesMut::zeroed(length as usize));
            }
            Transfer::Write(data) => {
                header.write = length > 0;
                let unasked = length.min(self.limits.first_burst);
                if self.limits.immediate_data {
                    task.moved = unasked.min(self.limits.max_send_data);
                    immediate = data.slice(..task.moved as usize);
                }
                if !self.limits.initial_r2t && task.moved < unasked {
                    header.last = false;
                    self.bursts.push_back(Burst {
                        tag: itt,
                        ttt: NO_TAG,
                        offset: task.moved,
                        end: unasked,
                        data_sn: 0,
                    });
                    task.moved = unasked;
                }
                task.buffer = Buffer::Out(data);
            }
        }
        self.tasks.insert(itt, task);
        Some(Pdu::with(header, immediate))
    }

    /// Takes a PDU of the target.
    /// Errors: [`Broken`]; then nothing further may be sent or received.
    pub fn receive(&mut self, pdu: Pdu) -> Result<Event, Broken> {
        let Pdu { header, data } = pdu;
        match header {
            Header::ScsiResponse(response) => self.scsi_response(&response, &data),
            Header::DataIn(header) => self.data_in(&header, &data),
            Header::R2t(r2t) => self.r2t(&r2t),
            Header::NopIn(nop) => self.nop_in(&nop),
            Header::TaskResponse(response) => self.task_response(&response),
            Header::Async(message) => self.async_message(&message),
            Header::Reject(reject) => self.reject(&reject, &data),
            Header::LogoutResponse(response) => {
                self.status_seen(response.window);
                if self.mood != Mood::Parting {
                    return Err(Broken("a logout response without a request"));
                }
                self.mood = Mood::Gone;
                Ok(Event::LoggedOut)
            }
            Header::TextResponse(_) | Header::LoginResponse(_) => {
                Err(Broken("a login or text response without a request"))
            }
            Header::NopOut(_)
            | Header::ScsiCommand(_)
            | Header::TaskRequest(_)
            | Header::LoginRequest(_)
            | Header::TextRequest(_)
            | Header::DataOut(_)
            | Header::LogoutRequest(_)
            | Header::Snack(_) => Err(Broken("a request where an answer should be")),
        }
    }

    fn scsi_response(&mut self, response: &ScsiResponse, segment: &[u8]) -> Result<Event, Broken> {
        self.status_seen(response.window);
        let outcome = match (response.response, response.status) {
            (0, status::CHECK_CONDITION) => Outcome::Check(Sense::of_segment(segment).unwrap_or_default()),
            (0, code) => Outcome::Status(code),
            (failure, _) => Outcome::TargetFailure(failure),
        };
        let known = self.tasks.contains_key(&response.itt);
        self.end(response.itt, outcome, response.underflow && response.residual > 0);
        Ok(if known { Event::Progress } else { Event::Nothing })
    }

    fn data_in(&mut self, header: &DataIn, data: &[u8]) -> Result<Event, Broken> {
        if header.status.is_some() {
            self.status_seen(header.window);
        } else {
            self.window_seen(header.window);
        }
        let in_order = self.limits.data_pdu_in_order;
        let Some(task) = self.tasks.get_mut(&header.itt) else { return Ok(Event::Nothing) };
        let Buffer::In(buffer) = &mut task.buffer else {
            return Err(Broken("data for a command that reads none"));
        };
        if header.data_sn != task.next_sn {
            return Err(Broken("a gap in the numbers of read data"));
        }
        task.next_sn = task.next_sn.wrapping_add(1);
        if in_order && header.buffer_offset != task.moved {
            return Err(Broken("read data out of order"));
        }
        let from = header.buffer_offset as usize;
        let place = from.checked_add(data.len()).and_then(|end| buffer.get_mut(from..end));
        place.ok_or(Broken("more read data than the command asked for"))?.copy_from_slice(data);
        let moved = u32::try_from(data.len()).ok().and_then(|length| task.moved.checked_add(length));
        task.moved =
            moved.filter(|moved| *moved as usize <= buffer.len()).ok_or(Broken("read data sent twice"))?;
        if let Some(code) = header.status {
            self.end(header.itt, Outcome::Status(code), false);
        }
        Ok(Event::Progress)
    }

    fn r2t(&mut self, r2t: &R2t) -> Result<Event, Broken> {
        self.window_seen(r2t.window);
        let open = self.bursts.iter().filter(|burst| burst.tag == r2t.itt && burst.ttt != NO_TAG).count();
        let Some(task) = self.tasks.get_mut(&r2t.itt) else { return Ok(Event::Nothing) };
        let Buffer::Out(data) = &task.buffer else {
            return Err(Broken("the target asks for data of a command that writes none"));
        };
        if r2t.r2t_sn != task.next_sn {
            return Err(Broken("a gap in the numbers of R2T"));
        }
        if r2t.ttt == NO_TAG || open >= usize::from(self.limits.max_outstanding_r2t) {
            return Err(Broken("more R2T at once than agreed upon"));
        }
        if r2t.desired_length == 0 || r2t.desired_length > self.limits.max_burst {
            return Err(Broken("an R2T of a length that was not agreed upon"));
        }
        let end = r2t.buffer_offset.checked_add(r2t.desired_length);
        let end = end.filter(|end| *end as usize <= data.len());
        let end = end.ok_or(Broken("the target asks for more data than the command holds"))?;
        if self.limits.data_sequence_in_order && r2t.buffer_offset != task.moved {
            return Err(Broken("R2T out of order"));
        }
        // each byte is sent once, in whatever order
        task.moved = task.moved.saturating_add(r2t.desired_length);
        if task.moved as usize > data.len() {
            return Err(Broken("the target asks twice for the same data"));
        }
        task.next_sn = task.next_sn.wrapping_add(1);
        self.bursts.push_back(Burst {
            tag: r2t.itt,
            ttt: r2t.ttt,
            offset: r2t.buffer_offset,
            end,
            data_sn: 0,
        });
        Ok(Event::Progress)
    }

    fn nop_in(&mut self, nop: &NopIn) -> Result<Event, Broken> {
        if nop.itt == NO_TAG {
            self.window_seen(nop.window);
        } else {
            self.status_seen(nop.window);
        }
        if nop.ttt != NO_TAG {
            if self.control.len() >= MAX_CONTROL {
                return Err(Broken("a flood of pings"));
            }
            let answer =
                NopOut { immediate: true, lun: nop.lun, itt: NO_TAG, ttt: nop.ttt, ..NopOut::default() };
            self.control.push_back(Pdu::bare(answer));
        }
        if self.ping.is_some_and(|ping| ping == nop.itt) {
            self.ping = None;
            return Ok(Event::Pong);
        }
        Ok(Event::Nothing)
    }

    fn task_response(&mut self, response: &TaskResponse) -> Result<Event, Broken> {
        self.status_seen(response.window);
        let Some(tag) = self.aborts.remove(&response.itt) else { return Ok(Event::Nothing) };
        match response.response {
            task_response::COMPLETE | task_response::NO_TASK => {
                self.end(tag, Outcome::Aborted, false);
                Ok(Event::Progress)
            }
            _ => Err(Broken("the target refuses to abort a command")),
        }
    }

    fn async_message(&mut self, message: &Async) -> Result<Event, Broken> {
        self.status_seen(message.window);
        match message.event {
            async_event::LOGOUT_REQUEST | async_event::NEGOTIATE => {
                self.log_out();
                Ok(Event::LogoutAsked(message.parameter3))
            }
            async_event::CONNECTION_DROP | async_event::SESSION_DROP => {
                Ok(Event::Dropped(message.parameter2))
            }
            async_event::TASKS_TERMINATED => {
                let tags: Vec<u32> = self
                    .tasks
                    .iter()
                    .filter(|(_, task)| task.lun == message.lun)
                    .map(|(tag, _)| *tag)
                    .collect();
                for tag in tags {
                    self.end(tag, Outcome::Terminated, false);
                }
                Ok(Event::Nothing)
            }
            _ => Ok(Event::Nothing),
        }
    }

    fn reject(&mut self, reject: &Reject, header: &[u8]) -> Result<Event, Broken> {
        self.status_seen(reject.window);
        let tag = header.get(16..20).map(|tag| u32::from_be_bytes([tag[0], tag[1], tag[2], tag[3]]));
        match tag {
            // the target asks again for data that was damaged, or ends the command itself
            Some(tag) if self.tasks.contains_key(&tag) && reject.reason == reject_reason::DATA_DIGEST => {}
            Some(tag) if self.tasks.contains_key(&tag) => {
                self.end(tag, Outcome::Rejected(reject.reason), false)
            }
            _ => return Err(Broken("the target rejects what belongs to no command")),
        }
        Ok(Event::Progress)
    }

    /// Ends the command `tag`. A status of GOOD is completed with what moved.
    fn end(&mut self, tag: u32, outcome: Outcome, short: bool) {
        let Some(task) = self.tasks.remove(&tag) else { return };
        self.bursts.retain(|burst| burst.tag != tag);
        let outcome = match (outcome, task.buffer) {
            (Outcome::Status(status::GOOD), Buffer::In(mut buffer)) => {
                buffer.truncate(task.moved as usize);
                Outcome::Good(buffer.freeze())
            }
            (Outcome::Status(status::GOOD), Buffer::Out(data))
                if short || (task.moved as usize) < data.len() =>
            {
                Outcome::Short
            }
            (Outcome::Status(status::GOOD), Buffer::Out(_) | Buffer::None) => Outcome::Good(Bytes::new()),
            (outcome, _) => outcome,
        };
        if outcome == Outcome::Status(status::TASK_SET_FULL) {
            self.depth = (self.tasks.len() / 2).max(1);
        } else if matches!(outcome, Outcome::Good(_)) && self.depth < self.max_depth {
            self.depth += 1;
        }
        self.finished.push_back((task.token, outcome));
    }

    fn status_seen(&mut self, window: Window) {
        if window.stat_sn.wrapping_sub(self.exp_stat_sn).cast_signed() >= 0 {
            self.exp_stat_sn = window.stat_sn.wrapping_add(1);
        }
        self.window_seen(window);
    }

    fn window_seen(&mut self, window: Window) {
        let sound = window.max_cmd_sn.wrapping_sub(window.exp_cmd_sn).cast_signed() >= -1;
        if sound && window.max_cmd_sn.wrapping_sub(self.max_cmd_sn).cast_signed() > 0 {
            self.max_cmd_sn = window.max_cmd_sn;
        }
    }

    fn tag(&mut self) -> u32 {
        loop {
            let tag = self.next_tag;
            self.next_tag = tag.wrapping_add(1);
            let used = self.tasks.contains_key(&tag) || self.aborts.contains_key(&tag);
            if tag != NO_TAG && tag != 0 && !used {
                return tag;
            }
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
