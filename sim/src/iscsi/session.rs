//! A session after its login (RFC 7143 §4, §11).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::Ordering;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::login::{Agreed, lie, take, targets};
use super::scsi::{Done, LARGEST_TRANSFER, Reply, Sense, Unit};
use super::settings::Lie;
use super::target::Shared;
use super::wire::{BHS, NO_TAG, Pdu, keys, op, wrong};

/// PDUs that are read ahead.
const AHEAD: usize = 4;
/// SCSI status.
const CHECK: u8 = 0x02;
const BUSY: u8 = 0x08;
const TASK_SET_FULL: u8 = 0x28;

/// A command that waits for its data.
struct Task {
    command: Pdu,
    cdb: [u8; 16],
    expected: usize,
    data: Vec<u8>,
    /// Data may come unasked still.
    unasked: bool,
    /// The next number in the sequence of unasked data.
    data_sn: u32,
    /// What was asked for, in order.
    asked: VecDeque<Asked>,
    /// Up to where it was asked for.
    asked_until: usize,
    r2t_sn: u32,
}

/// What an R2T asks for.
struct Asked {
    tag: u32,
    end: usize,
    data_sn: u32,
}

/// What follows from a PDU.
enum Next {
    Go,
    /// Say what is to be said, then close.
    Close,
    /// Close without another word.
    Break,
    /// Close in the middle of the answer.
    Cut,
}

pub(crate) struct Session<'a> {
    shared: &'a Shared,
    agreed: Agreed,
    portal: String,
    /// How often power had failed when it began.
    crashes: u64,
    stat_sn: u32,
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
    tasks: BTreeMap<u32, Task>,
    /// Commands that are never answered.
    silent: BTreeSet<u32>,
    next_tag: u32,
    text: Vec<u8>,
    /// What is left of an answer to a text request.
    told: Vec<u8>,
    out: Vec<u8>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(shared: &'a Shared, agreed: Agreed, portal: String) -> Self {
        let window = shared.options.limits.window;
        Self {
            shared,
            portal,
            crashes: *shared.crashes.lock().expect("no code panics while it holds the count"),
            stat_sn: agreed.stat_sn,
            exp_cmd_sn: agreed.exp_cmd_sn,
            max_cmd_sn: agreed.exp_cmd_sn.wrapping_add(window - 1),
            agreed,
            tasks: BTreeMap::new(),
            silent: BTreeSet::new(),
            next_tag: 1,
            text: Vec::new(),
            told: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Serves until log-out, or until the peer goes away.
    pub(crate) async fn run(mut self, stream: TcpStream) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let (sender, mut pdus) = mpsc::channel(AHEAD);
        let longest = self.shared.options.limits.max_recv_data_segment_length as usize;
        let digests = self.agreed.digests;
        let mut reading = JoinSet::new(); // ends what it holds when it is dropped
        reading.spawn(async move { read_on(reader, digests, longest, sender).await });
        let mut ping = self.shared.options.ping_every.map(tokio::time::interval);
        if let Some(ping) = &mut ping {
            ping.reset();
        }
        loop {
            let pdu = tokio::select! {
                pdu = pdus.recv() => pdu,
                () = tick(&mut ping) => {
                    self.ping();
                    writer.write_all(&std::mem::take(&mut self.out)).await?;
                    continue;
                }
            };
            let Some(pdu) = pdu else { return Ok(()) };
            let next = self.process(pdu?)?;
            let slow = self.shared.faults().slow;
            if !slow.is_zero() && !self.out.is_empty() {
                tokio::time::sleep(slow).await;
            }
            match next {
                Next::Break => return Ok(()),
                Next::Cut => {
                    let half = self.out.len() - BHS / 2;
                    return writer.write_all(&self.out[..half]).await;
                }
                Next::Close => {
                    writer.write_all(&self.out).await?;
                    return writer.shutdown().await;
                }
                Next::Go => writer.write_all(&self.out).await?,
            }
            self.out.clear();
        }
    }

    fn process(&mut self, pdu: Pdu) -> io::Result<Next> {
        let numbered = matches!(pdu.opcode(), op::NOP_OUT | op::COMMAND | op::TASK | op::TEXT | op::LOGOUT);
        if numbered && !self.in_order(&pdu) {
            return Ok(Next::Go);
        }
        if numbered || pdu.opcode() == op::DATA_OUT {
            let ahead = pdu.word(28).wrapping_sub(self.stat_sn);
            if ahead != 0 && ahead < u32::MAX / 2 {
                self.shared.violation(format!("it acknowledges status {} before it came", pdu.word(28)));
            }
        }
        match pdu.opcode() {
            op::NOP_OUT => {
                if pdu.tag() != NO_TAG {
                    let mut answer = Pdu::answer(op::NOP_IN, pdu.tag());
                    answer.set(20, NO_TAG);
                    answer.data = pdu.data;
                    answer.data.truncate(self.agreed.peer_segment);
                    self.say(answer, true);
                } else if pdu.word(20) != NO_TAG {
                    self.shared.count(|stats| stats.pings_answered += 1);
                }
                Ok(Next::Go)
            }
            op::COMMAND if !self.agreed.discovery => self.command(pdu),
            op::DATA_OUT if !self.agreed.discovery => self.data_out(&pdu),
            op::TASK if !self.agreed.discovery => {
                self.task_management(&pdu);
                Ok(Next::Go)
            }
            op::TEXT => {
                self.text_request(&pdu);
                Ok(Next::Go)
            }
            op::LOGOUT => {
                self.shared.count(|stats| stats.logouts += 1);
                self.say(Pdu::answer(op::LOGOUT_ANSWER, pdu.tag()), true);
                Ok(Next::Close)
            }
            other => {
                self.shared.violation(format!("operation {other:#04x} where it cannot be"));
                self.reject(&pdu, 0x05);
                Ok(Next::Go)
            }
        }
    }

    /// Whether a command comes when it is due and inside the window.
    fn in_order(&mut self, pdu: &Pdu) -> bool {
        let number = pdu.word(24);
        if pdu.is_immediate() {
            return true;
        }
        if number != self.exp_cmd_sn {
            self.shared.violation(format!("command {number} where {} is due", self.exp_cmd_sn));
            return false;
        }
        if self.max_cmd_sn.wrapping_sub(number) > u32::MAX / 2 {
            self.shared.violation(format!("command {number} beyond the window's end {}", self.max_cmd_sn));
            return false;
        }
        self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        true
    }

    fn command(&mut self, pdu: Pdu) -> io::Result<Next> {
        let (tag, expected) = (pdu.tag(), pdu.word(20) as usize);
        let (reads, writes) = (pdu.bhs[1] & 0x40 != 0, pdu.bhs[1] & 0x20 != 0);
        if self.tasks.contains_key(&tag) || self.silent.contains(&tag) || tag == NO_TAG {
            return Err(wrong("a task tag that is in use"));
        }
        if writes && (reads || expected as u64 > LARGEST_TRANSFER) {
            return Err(wrong("a command that moves more than VPD page B0 allows, or both ways"));
        }
        let whole = pdu.is_final() && pdu.data.is_empty();
        if !(writes || whole) {
            return Err(wrong("data with a command that writes nothing"));
        }
        if !pdu.data.is_empty() && !self.agreed.immediate_data {
            return Err(wrong("immediate data where none were agreed on"));
        }
        if pdu.data.len() > self.agreed.first_burst.min(expected) {
            return Err(wrong("more immediate data than the first burst, or the command, may have"));
        }
        if !pdu.is_final() && self.agreed.initial_r2t {
            return Err(wrong("unsolicited data where none were agreed on"));
        }
        let count = self.shared.commands.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.count(|stats| stats.commands += 1);
        if let Some(seconds) = {
            let mut faults = self.shared.faults();
            faults.ask_for_logout.take_if(|(after, _)| count > *after).map(|(_, seconds)| seconds)
        } {
            self.ask_for_logout(seconds);
        }
        let silent = {
            let mut faults = self.shared.faults();
            count > faults.silent_after && take(&mut faults.silent_commands)
        };
        let mut cdb = [0; 16];
        cdb.copy_from_slice(&pdu.bhs[32..48]);
        let unasked = !pdu.is_final();
        let mut pdu = pdu;
        let data = std::mem::take(&mut pdu.data);
        if self.drops(data.len()) {
            return Ok(Next::Break);
        }
        if silent {
            self.silent.insert(tag);
            return Ok(Next::Go);
        }
        let (asked_until, expected) = (data.len(), if writes { expected } else { 0 });
        let asked = VecDeque::new();
        let task =
            Task { command: pdu, cdb, expected, data, unasked, data_sn: 0, asked, asked_until, r2t_sn: 0 };
        self.tasks.insert(tag, task);
        let deep = self.tasks.len() as u64;
        self.shared.count(|stats| stats.deepest = stats.deepest.max(deep));
        self.advance(tag)
    }

    /// Whether the connection has to break because of these bytes.
    fn drops(&self, bytes: usize) -> bool {
        let received = self.shared.received.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        bytes > 0 && self.shared.faults().drops.pop_front_if(|at| *at <= received).is_some()
    }

    fn data_out(&mut self, pdu: &Pdu) -> io::Result<Next> {
        if self.drops(pdu.data.len()) {
            return Ok(Next::Break);
        }
        let tag = pdu.tag();
        let Some(task) = self.tasks.get_mut(&tag) else {
            // of a command that was answered or aborted, or is never answered
            return Ok(Next::Go);
        };
        let (given, number) = (pdu.word(20), pdu.word(36));
        let end = task.data.len() + pdu.data.len();
        let limit = match task.asked.front() {
            _ if given == NO_TAG && task.unasked => self.agreed.first_burst.min(task.expected),
            Some(asked) if asked.tag == given => asked.end,
            Some(_) | None => return Err(wrong("data that nobody asked for")),
        };
        let sn = match task.asked.front_mut() {
            Some(asked) if !task.unasked => &mut asked.data_sn,
            Some(_) | None => &mut task.data_sn,
        };
        if number != *sn || pdu.word(40) as usize != task.data.len() {
            return Err(wrong("data out of their order"));
        }
        *sn += 1;
        if end > limit {
            return Err(wrong("more data than was asked for, or than a first burst may have"));
        }
        task.data.extend_from_slice(&pdu.data);
        if !pdu.is_final() {
            return Ok(Next::Go);
        }
        if task.unasked {
            task.unasked = false;
            task.asked_until = end;
        } else if end == limit {
            task.asked.pop_front();
        } else {
            return Err(wrong("less data than an R2T asked for"));
        }
        self.advance(tag)
    }

    /// Goes on with a command as far as its data allow.
    fn advance(&mut self, tag: u32) -> io::Result<Next> {
        let Some(task) = self.tasks.get(&tag) else { return Ok(Next::Go) };
        if task.unasked {
            return Ok(Next::Go);
        }
        let complete = task.data.len() >= task.expected;
        let early = if task.asked.is_empty() { self.trouble() } else { None };
        if early.is_none() && !complete {
            self.ask(tag);
            return Ok(Next::Go);
        }
        let task = self.tasks.remove(&tag).expect("it was there a moment ago");
        let mut done = Done::default();
        let reply = match early {
            Some(reply) => reply,
            None => {
                let broken = self.shared.faults().broken_blocks.clone();
                let options = &self.shared.options;
                let unit = Unit {
                    store: &self.shared.store,
                    block: options.block_size,
                    thin: options.thin,
                    read_only: options.read_only,
                    serial: options.iqn.rsplit(':').next().unwrap_or_default(),
                    lun: options.lun,
                    broken: &broken,
                    lazy: self.shared.faults().lazy_unmap,
                };
                let crashes = self.shared.crashes.lock().expect("no code panics while it holds the count");
                if *crashes != self.crashes {
                    return Ok(Next::Break);
                }
                unit.execute(task.command.lun(), &task.cdb, &task.data, &mut done)
            }
        };
        self.shared.count(|stats| {
            stats.written += done.written;
            stats.zeroed += done.zeroed;
            stats.flushes += u64::from(done.flushed);
            stats.unflushed =
                if done.flushed { false } else { stats.unflushed || done.written + done.zeroed > 0 };
        });
        self.answer(&task.command, reply, done.wanted);
        Ok(if take(&mut self.shared.faults().cut_answers) { Next::Cut } else { Next::Go })
    }

    /// What keeps a command from being carried out.
    fn trouble(&self) -> Option<Reply> {
        let mut faults = self.shared.faults();
        if take(&mut faults.unit_attentions) {
            return Some(Reply::Check(Sense::UNIT_ATTENTION));
        }
        if take(&mut faults.capacity_changes) {
            return Some(Reply::Check(Sense::CAPACITY_CHANGED));
        }
        if take(&mut faults.busy) {
            return Some(Reply::Status(BUSY));
        }
        take(&mut faults.task_set_full).then_some(Reply::Status(TASK_SET_FULL))
    }

    /// Asks for what is missing of a command's data.
    fn ask(&mut self, tag: u32) {
        loop {
            let (most, burst) = (self.agreed.max_r2t as usize, self.agreed.max_burst);
            let fresh = self.next_tag;
            let Some(task) = self.tasks.get_mut(&tag) else { return };
            let left = task.expected - task.asked_until;
            if left == 0 || task.asked.len() >= most {
                return;
            }
            let mut length = left.min(burst);
            let mut whose = tag;
            if lie(self.shared, Lie::R2tBeyondCommand) {
                length = left + 512;
            } else if left > burst && lie(self.shared, Lie::R2tBeyondBurst) {
                length = left;
            } else if lie(self.shared, Lie::R2tOfNothing) {
                length = 0;
            } else if lie(self.shared, Lie::R2tOfNobody) {
                whose ^= 0x0055_5500;
            }
            let mut ask = Pdu::answer(op::R2T, whose);
            ask.bhs[8..16].copy_from_slice(&task.command.bhs[8..16]);
            ask.set(20, fresh);
            ask.set(36, task.r2t_sn);
            ask.set(40, word(task.asked_until));
            ask.set(44, word(length));
            task.r2t_sn += 1;
            task.asked_until = task.expected.min(task.asked_until + length.max(1));
            task.asked.push_back(Asked { tag: fresh, end: task.asked_until, data_sn: 0 });
            self.next_tag = if fresh >= NO_TAG - 1 { 1 } else { fresh + 1 };
            self.say(ask, false);
        }
    }

    fn answer(&mut self, command: &Pdu, reply: Reply, wanted: Option<u64>) {
        if lie(self.shared, Lie::Reject) {
            return self.reject(command, 0x09);
        }
        let mut answer = Pdu::answer(op::RESPONSE, command.tag());
        match reply {
            Reply::Good(data) if command.bhs[1] & 0x40 != 0 => {
                if !self.data_in(command, data, &mut answer) {
                    return;
                }
            }
            Reply::Good(_) => {
                let expected = command.word(20);
                let wanted = wanted.map_or(expected, |wanted| u32::try_from(wanted).unwrap_or(u32::MAX));
                if wanted != expected {
                    answer.bhs[1] |= if wanted > expected { 4 } else { 2 };
                    answer.set(44, wanted.abs_diff(expected));
                }
            }
            Reply::Check(sense) => {
                answer.bhs[3] = CHECK;
                let sense = sense.encode();
                answer.data = u16::try_from(sense.len()).unwrap_or(0).to_be_bytes().to_vec();
                answer.data.extend(sense);
            }
            Reply::Status(status) => answer.bhs[3] = status,
        }
        if lie(self.shared, Lie::TargetFailure) {
            answer.bhs[2] = 1;
        }
        if command.bhs[1] & 0x20 != 0 && lie(self.shared, Lie::Underflow) {
            answer.bhs[1] |= 2;
            answer.set(44, 512);
        }
        if lie(self.shared, Lie::AnswerOfNobody) {
            answer.set(16, command.tag() ^ 0x0055_5500);
        }
        if lie(self.shared, Lie::Garbage) {
            answer.bhs[0] = 0x2F;
        }
        self.say(answer, true);
    }

    /// Sends what was read; whether a response has to follow.
    fn data_in(&mut self, command: &Pdu, mut data: Vec<u8>, answer: &mut Pdu) -> bool {
        let expected = command.word(20) as usize;
        if data.len() > expected {
            answer.bhs[1] |= 4;
            answer.set(44, word(data.len() - expected));
            data.truncate(expected);
        } else if data.len() < expected {
            answer.bhs[1] |= 2;
            answer.set(44, word(expected - data.len()));
        }
        if !data.is_empty() && lie(self.shared, Lie::DataShort) {
            data.pop();
        }
        let mut segment = self.agreed.peer_segment;
        if !data.is_empty() && lie(self.shared, Lie::SegmentTooLong) {
            segment += 4;
            data.resize(segment, 0);
        }
        let mut shift = 0;
        if lie(self.shared, Lie::DataBeyondRead) {
            shift = expected;
        } else if lie(self.shared, Lie::DataWithGap) {
            shift = 4;
        }
        let collapse = self.shared.options.limits.status_with_data && !data.is_empty();
        let (mut at, mut number) = (0, 0);
        while at < data.len() {
            // a sequence ends with each burst
            let burst_end = (at / self.agreed.max_burst + 1) * self.agreed.max_burst;
            let end = data.len().min(at + segment).min(burst_end.max(at + 1));
            let last = end == data.len();
            let mut pdu = Pdu::answer(op::DATA_IN, command.tag());
            pdu.bhs[1] = if last || end == burst_end { 0x80 } else { 0 };
            if last && collapse {
                // with its status
                pdu.bhs[1] |= answer.bhs[1] & 6 | 1;
                let residual = answer.word(44);
                pdu.set(44, residual);
            }
            pdu.set(20, NO_TAG);
            pdu.set(36, number);
            pdu.set(40, word(at + shift));
            pdu.data = data[at..end].to_vec();
            self.say(pdu, last && collapse);
            (at, number) = (end, number + 1);
        }
        answer.set(36, number);
        !collapse
    }

    fn task_management(&mut self, pdu: &Pdu) {
        let response = match pdu.bhs[1] & 0x7F {
            1 => {
                let tag = pdu.word(20);
                let known = self.tasks.remove(&tag).is_some() | self.silent.remove(&tag);
                self.shared.count(|stats| stats.aborted += u64::from(known));
                u8::from(!known)
            }
            2 | 4..=7 => {
                let count = self.tasks.len() + self.silent.len();
                self.tasks.clear();
                self.silent.clear();
                self.shared.count(|stats| stats.aborted += count as u64);
                0
            }
            8 => 4,
            _ => 5,
        };
        let mut answer = Pdu::answer(op::TASK_ANSWER, pdu.tag());
        answer.bhs[2] = response;
        self.say(answer, true);
    }

    fn text_request(&mut self, pdu: &Pdu) {
        if pdu.word(20) == NO_TAG {
            self.text.extend_from_slice(&pdu.data);
            if self.text.len() > 64 << 10 {
                self.text.clear();
                return self.reject(pdu, 0x04);
            }
            if pdu.bhs[1] & 0x40 == 0 {
                self.told.clear();
                for (key, value) in keys(&std::mem::take(&mut self.text)) {
                    if key == "SendTargets" {
                        self.told.extend(targets(&self.shared.options, &value, &self.portal));
                    }
                }
            }
        }
        let mut answer = Pdu::answer(op::TEXT_ANSWER, pdu.tag());
        let length = self.told.len().min(self.agreed.peer_segment);
        answer.data = self.told.drain(..length).collect();
        let goes_on = !self.told.is_empty();
        answer.bhs[1] = if goes_on { 0x40 } else { 0x80 };
        answer.set(20, if goes_on { 1 } else { NO_TAG });
        self.say(answer, true);
    }

    fn ask_for_logout(&mut self, seconds: u16) {
        let mut event = Pdu::answer(op::ASYNC, NO_TAG);
        event.bhs[36] = 1;
        event.bhs[42..44].copy_from_slice(&seconds.to_be_bytes());
        self.say(event, true);
    }

    fn ping(&mut self) {
        let mut ping = Pdu::answer(op::NOP_IN, NO_TAG);
        ping.set(20, self.next_tag);
        self.next_tag = if self.next_tag >= NO_TAG - 1 { 1 } else { self.next_tag + 1 };
        self.say(ping, false);
    }

    fn reject(&mut self, pdu: &Pdu, reason: u8) {
        let mut answer = Pdu::answer(op::REJECT, NO_TAG);
        answer.bhs[2] = reason;
        answer.data = pdu.bhs.to_vec();
        self.say(answer, true);
    }

    /// Puts the numbers in that every PDU of a target carries; `status`: it has a status number of its own.
    fn say(&mut self, mut pdu: Pdu, status: bool) {
        if status && lie(self.shared, Lie::StatusJump) {
            self.stat_sn = self.stat_sn.wrapping_add(100);
        }
        pdu.set(24, self.stat_sn);
        if pdu.opcode() == op::DATA_IN && !status {
            pdu.set(24, 0);
        }
        if status {
            self.stat_sn = self.stat_sn.wrapping_add(1);
        }
        // the window is as wide as there is room for commands, and never goes back
        let room =
            self.shared.options.limits.window.saturating_sub(word(self.tasks.len() + self.silent.len()));
        let max = self.exp_cmd_sn.wrapping_add(room).wrapping_sub(1);
        if max.wrapping_sub(self.max_cmd_sn) < u32::MAX / 2 {
            self.max_cmd_sn = max;
        }
        pdu.set(28, self.exp_cmd_sn);
        let back = lie(self.shared, Lie::WindowBack);
        pdu.set(32, if back { self.exp_cmd_sn.wrapping_sub(1) } else { self.max_cmd_sn });
        pdu.encode(self.agreed.digests, &mut self.out);
    }
}

fn word(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

async fn tick(ping: &mut Option<tokio::time::Interval>) {
    match ping {
        Some(ping) => drop(ping.tick().await),
        None => std::future::pending().await,
    }
}

async fn read_on(
    mut reader: OwnedReadHalf,
    digests: super::wire::Digests,
    longest: usize,
    sender: mpsc::Sender<io::Result<Pdu>>,
) {
    while let Some(read) = Pdu::read(&mut reader, digests, longest).await.transpose() {
        let ended = read.is_err();
        if sender.send(read).await.is_err() || ended {
            return;
        }
    }
}
