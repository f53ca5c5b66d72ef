//! Makes of BMCs that behave as some in the field do. Each misbehaves in one way that the client's table of quirks,
//! or its session layer, has to cope with.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ferric_drivers::protocol::ipmi::CipherSuite;
use ferric_drivers::protocol::ipmi::command::ChassisControl;
use ferric_drivers::protocol::ipmi::quirks::Identity;
use ferric_drivers::protocol::ipmi::v15::Authentication;

use super::bridging::Behind;

/// How a BMC answers as who. The default follows the specification.
#[derive(Clone, Debug)]
pub struct Personality {
    /// Who it says it is.
    pub identity: Identity,
    /// Commands that follow the one before within this time are lost, and with each the BMC is deaf for as long.
    pub spacing: Duration,
    /// Completion codes of the next commands; each command takes one, then all go well.
    pub busy: VecDeque<u8>,
    /// Whatever suite is asked for, it answers with this one.
    pub other_suite: Option<CipherSuite>,
    /// It speaks IPMI 2.0.
    pub plus: bool,
    /// How IPMI 1.5 sessions may be authenticated; with none they are not spoken.
    pub old: Vec<Authentication>,
    /// In IPMI 1.5 sessions only the messages that open them are authenticated.
    pub unsigned: bool,
    /// For so long after a reset or cycle it says the power is off, and after other changes what it was before.
    pub lagging: Duration,
    /// The completion code of power off when the machine is off.
    pub already_off: u8,
    /// It forgets the boot flags so long after they were set, unless parameter 3 says otherwise; `None` if never.
    pub flags_expire: Option<Duration>,
    /// It forgets the boot flags whenever the machine starts.
    pub flags_for_one_start: bool,
    /// It has no boot option parameter 3.
    pub no_parameter_3: bool,
    /// A serial-over-LAN payload that nobody uses is active from the start.
    pub stale_sol: bool,
    /// Every answer is followed by the one before it, once more.
    pub repeats_itself: bool,
    /// Controllers on its channels.
    pub behind: Vec<Behind>,
    /// How their answers come back.
    pub bridging: super::bridging::Manner,
}

impl Default for Personality {
    fn default() -> Self {
        Self {
            identity: Identity { manufacturer: 0x1291, product: 0x0F02, firmware: (9, 8), ipmi: (2, 0) },
            spacing: Duration::ZERO,
            busy: VecDeque::new(),
            other_suite: None,
            plus: true,
            old: vec![Authentication::Md5, Authentication::Password, Authentication::None],
            unsigned: false,
            lagging: Duration::ZERO,
            already_off: 0,
            flags_expire: None,
            flags_for_one_start: false,
            no_parameter_3: false,
            stale_sol: false,
            repeats_itself: false,
            behind: Vec::new(),
            bridging: super::bridging::Manner::Separate,
        }
    }
}

impl Personality {
    /// The names of [`Personality::named`].
    pub const NAMES: &'static [&'static str] = &[
        "plain",
        "fragile",
        "busy",
        "supermicro",
        "lagging",
        "forgetful",
        "strict-off",
        "downgrading",
        "ipmi-1.5",
        "one-start",
        "stale-sol",
        "repetitive",
        "blades",
    ];

    /// One of the makes by its name, for fault files.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let plain = Self::default();
        Some(match name {
            "plain" => plain,
            "fragile" => Self { spacing: Duration::from_millis(50), ..Self::old_controller() },
            "busy" => Self { busy: [0xC0, 0xC3, 0xC4, 0xD2].into(), ..plain },
            "supermicro" => Self::supermicro(),
            "lagging" => Self { lagging: Duration::from_secs(5), ..plain },
            "forgetful" => Self { flags_expire: Some(Duration::from_secs(60)), ..plain },
            "strict-off" => Self { already_off: 0xD5, ..plain },
            "downgrading" => Self { other_suite: Some(CipherSuite::Three), ..plain },
            "ipmi-1.5" => Self { plus: false, ..Self::old_controller() },
            "one-start" => Self { flags_for_one_start: true, ..plain },
            "stale-sol" => Self { stale_sol: true, ..plain },
            "repetitive" => Self { repeats_itself: true, ..plain },
            "blades" => Self { behind: Behind::blades(), ..plain },
            _ => return None,
        })
    }

    /// A controller that says it knows no more than IPMI 1.5.
    #[must_use]
    pub fn old_controller() -> Self {
        let plain = Self::default();
        Self { identity: Identity { ipmi: (1, 5), firmware: (1, 2), ..plain.identity }, ..plain }
    }

    /// A Supermicro board.
    #[must_use]
    pub fn supermicro() -> Self {
        let plain = Self::default();
        Self { identity: Identity { manufacturer: 10876, ..plain.identity }, ..plain }
    }

    /// The data of Get Device ID.
    pub(super) fn device_id(&self) -> Vec<u8> {
        let Identity { manufacturer, product, firmware, ipmi } = self.identity;
        let [a, b, c, _] = manufacturer.to_le_bytes();
        let [p, q] = product.to_le_bytes();
        let minor = ((firmware.1 / 10 % 10) << 4) | (firmware.1 % 10);
        vec![0x20, 1, firmware.0 & 0x7F, minor, (ipmi.1 << 4) | ipmi.0, 0x9F, a, b, c, p, q, 0, 0, 0, 0]
    }

    /// The bits of Get Channel Authentication Capabilities.
    pub(super) fn capabilities(&self, kg: bool) -> Vec<u8> {
        let old = self.old.iter().fold(0, |bits, kind| bits | kind.bit());
        let both = if self.plus { 0x80 } else { 0 };
        let status = (u8::from(kg) << 5) | (u8::from(self.unsigned) << 4) | 0x04;
        vec![1, both | old, status, if self.plus { 0x03 } else { 0x01 }, 0, 0, 0, 0]
    }
}

/// What a BMC of such a make remembers.
#[derive(Debug, Default)]
pub(super) struct Mood {
    heard: Option<Instant>,
    deaf_until: Option<Instant>,
    /// Commands lost because they came too fast.
    pub(super) upset: u64,
    changed: Option<(Instant, bool)>,
    flags_set: Option<Instant>,
    flags_kept: bool,
}

impl Mood {
    /// Whether a command in a session is heard.
    pub(super) fn hears(&mut self, make: &Personality, now: Instant) -> bool {
        if make.spacing.is_zero() {
            return true;
        }
        let soon = self.heard.is_some_and(|last| now.duration_since(last) < make.spacing);
        let deaf = self.deaf_until.is_some_and(|until| now < until);
        self.heard = Some(now);
        if soon || deaf {
            self.upset += 1;
            self.deaf_until = Some(now + make.spacing);
        }
        !(soon || deaf)
    }

    /// The power changes; `before` is what it was.
    pub(super) fn changes(&mut self, now: Instant, control: ChassisControl, before: bool) {
        let told = match control {
            ChassisControl::Reset | ChassisControl::Cycle => false,
            ChassisControl::On | ChassisControl::Off | ChassisControl::Soft => before,
            ChassisControl::Diag => return,
        };
        self.changed = Some((now, told));
    }

    /// What it says about the power when it is `power`.
    pub(super) fn power(&self, make: &Personality, now: Instant, power: bool) -> bool {
        match self.changed {
            Some((at, told)) if now.duration_since(at) < make.lagging => told,
            Some(_) | None => power,
        }
    }

    pub(super) fn set_flags(&mut self, now: Instant) {
        self.flags_set = Some(now);
    }

    pub(super) fn keep_flags(&mut self, byte: u8) {
        // bit 3: they are not cleared when no reset follows within 60 s
        self.flags_kept = byte & 0x08 != 0;
    }

    /// Whether the boot flags are still what was set.
    pub(super) fn has_flags(&self, make: &Personality, now: Instant) -> bool {
        match (make.flags_expire, self.flags_set) {
            (Some(after), Some(set)) => self.flags_kept || now.duration_since(set) < after,
            (None, _) | (_, None) => true,
        }
    }
}
