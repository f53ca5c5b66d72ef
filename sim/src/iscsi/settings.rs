//! What a target is like, what goes wrong with it, and what it has seen.

use std::collections::VecDeque;
use std::time::Duration;

use ferric_drivers::Secret;

/// What a target wants and can (RFC 7143 §13). What an initiator offers is negotiated towards these.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest data segment it takes, bytes.
    pub max_recv_data_segment_length: u32,
    /// The most that an R2T asks for and that unsolicited and solicited data of one sequence may have, bytes.
    pub max_burst_length: u32,
    /// The most that comes unasked with a command, bytes.
    pub first_burst_length: u32,
    /// Whether nothing but immediate data may come unasked.
    pub initial_r2t: bool,
    /// Whether data may come in the command's own PDU.
    pub immediate_data: bool,
    /// R2Ts of one command at once.
    pub max_outstanding_r2t: u32,
    /// Commands that may be under way.
    pub window: u32,
    /// Header digests it agrees to, the best first: `CRC32C`, `None`.
    pub header_digests: Vec<&'static str>,
    /// Data digests it agrees to.
    pub data_digests: Vec<&'static str>,
    /// Whether the status of a read that went well comes with its last data.
    pub status_with_data: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_recv_data_segment_length: 256 << 10,
            max_burst_length: 1 << 20,
            first_burst_length: 256 << 10,
            initial_r2t: false,
            immediate_data: true,
            max_outstanding_r2t: 1,
            window: 64,
            header_digests: vec!["None", "CRC32C"],
            data_digests: vec!["None", "CRC32C"],
            status_with_data: true,
        }
    }
}

/// Who may log in by CHAP, and how the target proves itself where it is asked to.
#[derive(Clone, Debug)]
pub struct Chap {
    /// The initiator's name.
    pub user: String,
    /// The initiator's secret.
    pub secret: Secret<String>,
    /// The target's own name and secret, for initiators that want it to prove itself.
    pub own: Option<(String, Secret<String>)>,
}

/// A target and its one disk.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// Its name.
    pub iqn: String,
    /// The disk's logical unit.
    pub lun: u16,
    /// Bytes of a block.
    pub block_size: u32,
    /// Whether blocks can be unmapped.
    pub thin: bool,
    /// Whether writes are refused.
    pub read_only: bool,
    /// What is negotiated.
    pub limits: Limits,
    /// Who may log in; `None`: anybody.
    pub chap: Option<Chap>,
    /// Other names that discovery tells.
    pub also_known: Vec<String>,
    /// Time between two NOP-Ins; `None`: it asks for no sign of life.
    pub ping_every: Option<Duration>,
}

impl TargetOptions {
    /// A thin disk of 512-byte blocks at LUN 1 that anybody may use.
    #[must_use]
    pub fn new(iqn: impl Into<String>) -> Self {
        Self {
            iqn: iqn.into(),
            lun: 1,
            block_size: 512,
            thin: true,
            read_only: false,
            limits: Limits::default(),
            chap: None,
            also_known: Vec::new(),
            ping_every: None,
        }
    }
}

/// What goes wrong. Counts go down: so many times it goes wrong, then it goes well.
#[derive(Clone, Debug, Default)]
pub struct TargetFaults {
    /// The connection breaks, once for each, when so many bytes to be written have come in since the target started.
    pub drops: VecDeque<u64>,
    /// The connection breaks in the middle of this many answers to commands.
    pub cut_answers: u32,
    /// Logins refused, each once, with class and detail (RFC 7143 §11.13.5).
    pub login_refusals: VecDeque<u16>,
    /// Every login is refused so.
    pub always_refused: Option<u16>,
    /// Logins are sent to this portal, as `TargetAddress` tells it (`127.0.0.1:3260,1`); for this time only, or not.
    pub redirect: Option<Redirect>,
    /// The connection is closed right after this many logins that went well.
    pub close_after_login: u32,
    /// Nothing is said to this many logins.
    pub silent_logins: u32,
    /// The proof of mutual CHAP is wrong.
    pub wrong_proof: bool,
    /// It answers the initiator's own challenge with the initiator's own answer, as one does who reflects.
    pub reflected_challenge: bool,
    /// This many commands end with BUSY.
    pub busy: u32,
    /// This many commands end with TASK SET FULL.
    pub task_set_full: u32,
    /// This many commands end with the unit attention of a reset.
    pub unit_attentions: u32,
    /// This many commands end with the unit attention of a capacity that changed.
    pub capacity_changes: u32,
    /// Blocks that cannot be read or written.
    pub broken_blocks: Vec<u64>,
    /// This many commands, of those that come after `silent_after`, are never answered.
    pub silent_commands: u32,
    /// Commands that are answered before that.
    pub silent_after: u64,
    /// Every answer to a command comes so late.
    pub slow: Duration,
    /// After so many commands it asks to be logged out of, within so many seconds; once.
    pub ask_for_logout: Option<(u64, u16)>,
    /// UNMAP drops the first and the last block only, as it may, and WRITE SAME is not known.
    pub lazy_unmap: bool,
    /// This many breaches of what was agreed on.
    pub lies: VecDeque<Lie>,
}

/// Where a login is sent instead.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// `TargetAddress`.
    pub to: String,
    /// For good.
    pub permanent: bool,
    /// So many logins are.
    pub times: u32,
}

/// How a target may break what was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// An R2T asks for more than the command has.
    R2tBeyondCommand,
    /// An R2T asks for more than a burst may have, but not for more than there is.
    R2tBeyondBurst,
    /// An R2T asks for nothing.
    R2tOfNothing,
    /// An R2T for a command that nobody gave.
    R2tOfNobody,
    /// The window goes back behind what was granted.
    WindowBack,
    /// Data for a read that lie behind the end of what was asked for.
    DataBeyondRead,
    /// Data for a read with a gap.
    DataWithGap,
    /// One byte less than asked for, GOOD all the same, and no residual count.
    DataShort,
    /// An answer to a command that nobody gave.
    AnswerOfNobody,
    /// A segment longer than the initiator takes.
    SegmentTooLong,
    /// A status number that jumps.
    StatusJump,
    /// Wrong data digest, or, where there is none, an unknown operation code.
    Garbage,
    /// A REJECT of the command.
    Reject,
    /// A response code that says that the target failed.
    TargetFailure,
    /// Data came, but less than expected was written: GOOD with a residual.
    Underflow,
}

/// What a target has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetStats {
    /// Connections taken.
    pub connections: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Normal sessions that are logged in now.
    pub logged_in: u64,
    /// The most of them at once.
    pub most_logged_in: u64,
    /// Normal logins that went well.
    pub logins: u64,
    /// Discovery sessions that were logged in.
    pub discoveries: u64,
    /// Logins that were refused.
    pub refused: u64,
    /// Log-outs, of whatever session.
    pub logouts: u64,
    /// SCSI commands received.
    pub commands: u64,
    /// Bytes written.
    pub written: u64,
    /// Bytes made zero without being sent.
    pub zeroed: u64,
    /// SYNCHRONIZE CACHE commands.
    pub flushes: u64,
    /// Whether something was written since the last of them.
    pub unflushed: bool,
    /// Tasks aborted.
    pub aborted: u64,
    /// Sessions that a new login of the same initiator ended.
    pub reinstated: u64,
    /// The most commands that were under way at once.
    pub deepest: u64,
    /// Answers to our NOP-Ins.
    pub pings_answered: u64,
    /// What initiators did that the standard forbids.
    pub violations: Vec<String>,
}
