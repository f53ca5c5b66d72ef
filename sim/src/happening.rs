//! What happens to a fleet, when, and to whom: moments and rates of a fault file, drawn by the seed.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddrV4;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::bmc::{Latency, Traffic};
use crate::faults::Chance;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// BMCs hear nothing.
    SilentBmc,
    /// BMCs take their time: `median`, `p99`.
    SlowBmc,
    /// BMCs say on when it is off, and off when it is on.
    WrongPowerState,
    /// Datagrams from and to BMCs are `lost`, `reordered`, `duplicated`.
    Packets,
    /// Agents that run die.
    AgentDies,
    /// Whatever is written to disks fails.
    DiskError,
    /// Images reach the machines damaged.
    ChecksumError,
    /// Machines are switched on at once and ask the DHCP `server` again and again.
    DhcpStorm,
    /// Racks lose their power: machines off, BMCs silent, then back by `policy`.
    RackPower,
}

impl Kind {
    /// As a fault file writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::SilentBmc => "silent_bmc",
            Kind::SlowBmc => "slow_bmc",
            Kind::WrongPowerState => "wrong_power_state",
            Kind::Packets => "packets",
            Kind::AgentDies => "agent_dies",
            Kind::DiskError => "disk_error",
            Kind::ChecksumError => "checksum_error",
            Kind::DhcpStorm => "dhcp_storm",
            Kind::RackPower => "rack_power",
        }
    }
}

/// What machines do when the power of their rack comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerPolicy {
    /// What they did before.
    #[default]
    Previous,
    /// They start.
    AlwaysOn,
    /// They stay off.
    AlwaysOff,
}

/// A share of datagrams: of both directions, or of each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Share {
    #[default]
    None,
    Both(f64),
    Each(Directions),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Directions {
    to_bmc: f64,
    from_bmc: f64,
}

// not `untagged`, whose errors do not say what is wrong in there
impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ShareVisitor)
    }
}

struct ShareVisitor;

impl<'de> Visitor<'de> for ShareVisitor {
    type Value = Share;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share such as 0.05, or {to_bmc = 0.05, from_bmc = 0.05}")
    }

    fn visit_f64<E: de::Error>(self, share: f64) -> Result<Share, E> {
        Ok(Share::Both(share))
    }

    fn visit_u64<E: de::Error>(self, share: u64) -> Result<Share, E> {
        Ok(Share::Both(share as f64))
    }

    fn visit_i64<E: de::Error>(self, share: i64) -> Result<Share, E> {
        Ok(Share::Both(share as f64))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Share, A::Error> {
        Directions::deserialize(MapAccessDeserializer::new(map)).map(Share::Each)
    }
}

impl Share {
    /// To the BMC, and from it.
    fn directions(self) -> [f64; 2] {
        match self {
            Share::None => [0.0; 2],
            Share::Both(share) => [share; 2],
            Share::Each(Directions { to_bmc, from_bmc }) => [to_bmc, from_bmc],
        }
    }
}

/// A time as a fault file writes it: "90 s", "1.5 h", or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SpanVisitor)
    }
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time such as \"90 s\", with ms, s, min, h or d, or a number of seconds")
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Span, E> {
        Span::of(seconds, "s", seconds).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Span, E> {
        self.visit_f64(seconds as f64)
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
        self.visit_f64(seconds as f64)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| c.is_alphabetic()).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        Span::of(number.trim().parse().unwrap_or(f64::NAN), unit.trim(), text).map_err(E::custom)
    }
}

impl Span {
    /// So many units; `written` is how the file says it.
    fn of(number: f64, unit: &str, written: impl fmt::Display) -> Result<Self, String> {
        let seconds = match unit {
            "ms" => Some(0.001),
            "s" | "" => Some(1.0),
            "min" => Some(60.0),
            "h" => Some(3600.0),
            "d" => Some(86_400.0),
            _ => None,
        };
        seconds
            .and_then(|seconds| Duration::try_from_secs_f64(number * seconds).ok())
            .map(Span)
            .ok_or_else(|| format!("'{written}' is no time: write it like \"90 s\", with ms, s, min, h or d"))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    fault: Kind,
    at: Option<Span>,
    rate_per_hour: Option<f64>,
    #[serde(rename = "for")]
    lasts: Option<Span>,
    machines: Option<BTreeSet<String>>,
    racks: Option<BTreeSet<usize>>,
    share: Option<f64>,
    count: Option<usize>,
    median: Option<Span>,
    p99: Option<Span>,
    #[serde(default)]
    lost: Share,
    #[serde(default)]
    duplicated: Share,
    #[serde(default)]
    reordered: Share,
    policy: Option<PowerPolicy>,
    server: Option<SocketAddrV4>,
    every: Option<Span>,
}

/// To whom something happens.
#[derive(Clone, Debug, PartialEq)]
enum Whom {
    All,
    Machines(BTreeSet<String>),
    /// Racks by number, from 1.
    Racks(BTreeSet<usize>),
    /// So many racks, by chance.
    AnyRack(usize),
    /// A share, by chance.
    Share(f64),
    /// So many, by chance.
    Count(usize),
}

/// One entry `[[happens]]` of a fault file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Entry")]
pub struct Happening {
    /// What goes wrong.
    pub kind: Kind,
    /// When it goes wrong for the first time, or from when on it can.
    pub at: Duration,
    /// How often it goes wrong in an hour; `None`: once.
    pub rate_per_hour: Option<f64>,
    /// How long it lasts; `None`: for ever, or no time at all for what is over at once.
    pub lasts: Option<Duration>,
    /// How long BMCs take.
    pub latency: Option<Latency>,
    /// What becomes of datagrams to a BMC, and from it.
    pub traffic: [Traffic; 2],
    /// What machines do when their power is back.
    pub policy: PowerPolicy,
    /// The DHCP server.
    pub server: Option<SocketAddrV4>,
    /// How often each machine asks it.
    pub every: Duration,
    whom: Whom,
}

impl TryFrom<Entry> for Happening {
    type Error = String;

    fn try_from(entry: Entry) -> Result<Self, String> {
        let kind = entry.fault;
        let name = kind.name();
        let only = |present: bool, key: &str, of: Kind| {
            if present && kind != of {
                Err(format!("'{key}' is for {}, not for {name}", of.name()))
            } else {
                Ok(())
            }
        };
        only(entry.median.is_some() || entry.p99.is_some(), "median, p99", Kind::SlowBmc)?;
        only(
            [entry.lost, entry.duplicated, entry.reordered].iter().any(|share| *share != Share::None),
            "lost, duplicated, reordered",
            Kind::Packets,
        )?;
        only(entry.policy.is_some(), "policy", Kind::RackPower)?;
        only(entry.server.is_some() || entry.every.is_some(), "server, every", Kind::DhcpStorm)?;
        let lasting = match kind {
            Kind::AgentDies => false,
            Kind::SilentBmc
            | Kind::SlowBmc
            | Kind::WrongPowerState
            | Kind::Packets
            | Kind::DiskError
            | Kind::ChecksumError
            | Kind::DhcpStorm
            | Kind::RackPower => true,
        };
        if !lasting && entry.lasts.is_some() {
            return Err(format!("{name} is over at once: leave 'for' away"));
        }
        if lasting && entry.rate_per_hour.is_some() && entry.lasts.is_none() {
            return Err(format!("{name} that comes at a rate has to end: say how long it lasts with 'for'"));
        }
        if kind == Kind::DhcpStorm && (entry.server.is_none() || entry.lasts.is_none()) {
            return Err("dhcp_storm needs 'server', such as \"127.0.0.1:67\", and 'for'".to_owned());
        }
        if let Some(rate) = entry.rate_per_hour
            && !(rate > 0.0 && rate <= 1_000_000.0)
        {
            return Err(format!("rate_per_hour {rate} is none: it is above 0"));
        }
        let latency = match (kind, entry.median, entry.p99) {
            (Kind::SlowBmc, Some(Span(median)), p99) => {
                let p99 = p99.map_or(median * 4, |span| span.0);
                if p99 < median {
                    return Err("'p99' is less than 'median'".to_owned());
                }
                Some(Latency { median, p99 })
            }
            (Kind::SlowBmc, None, _) => return Err("slow_bmc needs 'median', such as \"800 ms\"".to_owned()),
            (_, _, _) => None,
        };
        let [lost, duplicated, reordered] =
            [entry.lost, entry.duplicated, entry.reordered].map(Share::directions);
        let shares = lost.iter().chain(&duplicated).chain(&reordered).chain(entry.share.as_ref());
        if let Some(share) = shares.into_iter().find(|share| !(0.0..=1.0).contains(*share)) {
            return Err(format!("{share} is no share: it is from 0 to 1"));
        }
        let traffic = [0, 1].map(|way| Traffic {
            lost: lost[way],
            duplicated: duplicated[way],
            reordered: reordered[way],
        });
        if kind == Kind::Packets && traffic == [Traffic::default(); 2] {
            return Err("packets needs 'lost', 'duplicated' or 'reordered', such as 0.05".to_owned());
        }
        let rated = entry.rate_per_hour.is_some();
        let whom = match (entry.machines, entry.racks, entry.share, entry.count) {
            (None, None, None, None) if kind == Kind::RackPower && rated => Whom::AnyRack(1),
            (None, None, None, None) if rated => Whom::Count(1),
            (None, None, None, None) => Whom::All,
            (Some(machines), None, None, None) => Whom::Machines(machines),
            (None, Some(racks), None, None) if racks.contains(&0) => {
                return Err("racks are numbered from 1".to_owned());
            }
            (None, Some(racks), None, None) => Whom::Racks(racks),
            (None, None, Some(share), None) => Whom::Share(share),
            (None, None, None, Some(count)) if kind == Kind::RackPower => Whom::AnyRack(count),
            (None, None, None, Some(count)) => Whom::Count(count),
            (_, _, _, _) => {
                return Err("say one of 'machines', 'racks', 'share', 'count', not several".to_owned());
            }
        };
        Ok(Self {
            kind,
            at: entry.at.map_or(Duration::ZERO, |span| span.0),
            rate_per_hour: entry.rate_per_hour,
            lasts: entry.lasts.map(|span| span.0),
            latency,
            traffic,
            policy: entry.policy.unwrap_or_default(),
            server: entry.server,
            every: entry.every.map_or(Duration::from_secs(1), |span| span.0),
            whom,
        })
    }
}

impl Happening {
    /// When it begins after it began at `last` (`None`: never so far); `None`: not any more.
    pub(crate) fn next(&self, last: Option<Duration>, chance: &mut Chance) -> Option<Duration> {
        match (self.rate_per_hour, last) {
            (None, None) => Some(self.at),
            (None, Some(_)) => None,
            (Some(rate), last) => {
                // the gaps of a Poisson process; 1 - u is above 0
                let gap = -(1.0 - chance.unit()).ln() * 3600.0 / rate;
                Some(last.unwrap_or(self.at) + Duration::from_secs_f64(gap))
            }
        }
    }

    /// To which of `candidates` machines (their index and name) it happens this time.
    pub(crate) fn chosen(
        &self,
        candidates: &[(usize, &str)],
        rack_size: usize,
        racks: usize,
        chance: &mut Chance,
    ) -> Vec<usize> {
        let rack_of = |index: usize| index / rack_size.max(1) + 1;
        let of = |takes: &mut dyn FnMut(usize, &str) -> bool| {
            candidates.iter().filter(|(index, name)| takes(*index, name)).map(|(index, _)| *index).collect()
        };
        match &self.whom {
            Whom::All => of(&mut |_, _| true),
            Whom::Machines(names) => of(&mut |_, name| names.contains(name)),
            Whom::Racks(these) => of(&mut |index, _| these.contains(&rack_of(index))),
            Whom::AnyRack(count) => {
                let these: BTreeSet<usize> =
                    some(*count, racks, chance).into_iter().map(|rack| rack + 1).collect();
                of(&mut |index, _| these.contains(&rack_of(index)))
            }
            Whom::Share(share) => of(&mut |_, _| chance.happens(*share)),
            Whom::Count(count) => {
                some(*count, candidates.len(), chance).into_iter().map(|at| candidates[at].0).collect()
            }
        }
    }

    /// The first machine or rack that it names and that is not there.
    pub(crate) fn stranger(&self, machines: &BTreeSet<&str>, racks: usize) -> Option<String> {
        match &self.whom {
            Whom::Machines(names) => names
                .iter()
                .find(|name| !machines.contains(name.as_str()))
                .map(|name| format!("there is no machine '{name}'")),
            Whom::Racks(these) => these
                .iter()
                .find(|rack| **rack > racks)
                .map(|rack| format!("there is no rack {rack}: {racks} hold all machines")),
            Whom::All | Whom::AnyRack(_) | Whom::Share(_) | Whom::Count(_) => None,
        }
    }
}

/// `count` different numbers below `end`, in their order.
fn some(count: usize, end: usize, chance: &mut Chance) -> BTreeSet<usize> {
    let mut chosen = BTreeSet::new();
    if count >= end {
        return (0..end).collect();
    }
    // Floyd's way: each set is as likely as every other
    for top in end - count..end {
        let drawn = chance.below(top + 1);
        if !chosen.insert(drawn) {
            chosen.insert(top);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Happening, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn times_are_written_with_their_unit() {
        let at = |text: &str| read(&format!(r#"{{"fault": "silent_bmc", "at": {text}}}"#)).map(|one| one.at);
        for (text, seconds) in [
            ("\"90 s\"", 90.0),
            ("\"1.5 h\"", 5400.0),
            ("\"250ms\"", 0.25),
            ("7", 7.0),
            ("\"2 d\"", 172_800.0),
        ] {
            assert_eq!(at(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["\"soon\"", "\"9 weeks\"", "\"-1 s\"", "-1", "\"\""] {
            assert!(at(text).is_err_and(|error| error.contains("90 s")), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_write() {
        for (text, told) in [
            (r#"{"fault": "silent_bmc", "rate_per_hour": 2}"#, "'for'"),
            (r#"{"fault": "silent_bmc", "lost": 0.5}"#, "is for packets"),
            (r#"{"fault": "agent_dies", "for": 3}"#, "over at once"),
            (r#"{"fault": "slow_bmc"}"#, "median"),
            (r#"{"fault": "packets"}"#, "'lost'"),
            (r#"{"fault": "packets", "lost": 2}"#, "from 0 to 1"),
            (r#"{"fault": "packets", "lost": {"to_bmc": 2}}"#, "from 0 to 1"),
            (r#"{"fault": "packets", "lost": {"to_bcm": 0.1}}"#, "unknown field `to_bcm`, expected `to_bmc`"),
            (r#"{"fault": "packets", "lost": "much"}"#, "a share such as 0.05"),
            (r#"{"fault": "silent_bmc", "at": true}"#, "a time such as \"90 s\""),
            (r#"{"fault": "rack_power", "racks": [0]}"#, "from 1"),
            (r#"{"fault": "rack_power", "racks": [1], "share": 0.5}"#, "not several"),
            (r#"{"fault": "dhcp_storm", "for": 3}"#, "'server'"),
            (r#"{"fault": "silence"}"#, "silent_bmc"),
            (r#"{"fault": "silent_bmc", "form": "3 s"}"#, "`for`"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn a_rate_is_kept_over_a_long_time_and_the_seed_decides() {
        let happening = read(r#"{"fault": "agent_dies", "rate_per_hour": 6, "at": "1 h"}"#).expect("valid");
        let draw = |seed| {
            let (mut chance, mut last, mut times) = (Chance::new(seed, 1), None, Vec::new());
            while let Some(at) = happening.next(last, &mut chance).filter(|at| at.as_secs() < 3600 * 201) {
                times.push(at);
                last = Some(at);
            }
            times
        };
        let times = draw(5);
        assert!((1050..1350).contains(&times.len()), "{} in 200 hours", times.len());
        assert!(times[0] > Duration::from_secs(3600));
        assert_eq!(times, draw(5));
        assert_ne!(times, draw(6));
    }

    #[test]
    fn so_many_are_chosen_and_each_once() {
        let names: Vec<String> = (0..50).map(|index| format!("m{index}")).collect();
        let all: Vec<(usize, &str)> = names.iter().map(String::as_str).enumerate().collect();
        let mut chance = Chance::new(1, 1);
        let mut chosen = |text: &str| read(text).expect("valid").chosen(&all, 10, 5, &mut chance);
        assert_eq!(chosen(r#"{"fault": "silent_bmc", "count": 7}"#).len(), 7);
        assert_eq!(chosen(r#"{"fault": "silent_bmc", "count": 70}"#).len(), 50);
        assert_eq!(chosen(r#"{"fault": "silent_bmc", "racks": [2]}"#), (10..20).collect::<Vec<_>>());
        assert_eq!(chosen(r#"{"fault": "silent_bmc", "machines": ["m3"]}"#), [3]);
        assert_eq!(chosen(r#"{"fault": "rack_power", "count": 2, "for": 5}"#).len(), 20);
        assert_eq!(chosen(r#"{"fault": "rack_power"}"#).len(), 50);
    }
}
