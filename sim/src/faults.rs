//! What goes wrong in the pretend world, and chance that can be repeated.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::bmc::Personality;
use crate::happening::Happening;

/// What make a BMC is: one of [`Personality::NAMES`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Make(Option<String>);

impl TryFrom<String> for Make {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match Personality::named(&name) {
            Some(_) => Ok(Self(Some(name))),
            None => {
                let names = Personality::NAMES.join(", ");
                Err(format!("there is no BMC of make '{name}': use one of {names}"))
            }
        }
    }
}

impl Make {
    pub(crate) fn personality(&self) -> Personality {
        self.0.as_deref().and_then(Personality::named).unwrap_or_default()
    }
}

/// What is wrong with one machine. Counts go down: so many times it goes wrong, then it goes well.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MachineFaults {
    /// Its BMC receives and never answers.
    pub silent_bmc: bool,
    /// What make its BMC is.
    pub bmc_make: Make,
    /// Its agent dies in the middle of this many image writes, one per boot, before one goes well.
    pub dies_mid_write: u32,
    /// This many image downloads break, and the write fails, before one goes well.
    pub download_errors: u32,
    /// This many image downloads break half way and are gone on with by range.
    pub download_breaks: u32,
    /// This many clean steps fail.
    pub clean_step_error: u32,
    /// This many service steps fail.
    pub service_step_error: u32,
    /// Its agent dies in the middle of this many steps that are no image write.
    pub agent_dies_in_step: u32,
    /// This many steps that are no image write never end.
    pub step_hangs: u32,
    /// Its hardware managers change their version after the step list was read, this many times.
    pub version_mismatch: u32,
    /// This many inspections end with an error of the ramdisk.
    pub inspection_error: u32,
    /// This many installations of a boot loader fail.
    pub bootloader_error: u32,
    /// This many boots into a ramdisk end before its agent runs.
    pub ramdisk_hangs: u32,
    /// The connection to its disk breaks this many times while its disk is written over iSCSI, a mebibyte after the other.
    pub iscsi_drops: u32,
    /// This many starts of an iSCSI target fail, or are told as an error by a ramdisk without agent.
    pub iscsi_error: u32,
    /// This many ramdisks without agent never listen for the go-ahead.
    pub deaf_ramdisk: u32,
    /// The first block of its disk that can be neither read nor written over iSCSI; 0: all can.
    pub broken_block: u64,
    /// Boots, writes and erases this many times slower; 0 and 1 mean as fast as the others.
    pub slower: u32,
}

/// What is wrong in a fleet: named machines, and shares (0 to 1) of the rest, drawn by the seed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// By machine name.
    pub machines: BTreeMap<String, MachineFaults>,
    /// What make the BMCs of the other machines are.
    pub bmc_make: Make,
    /// Machines in a rack, in the order of their names; 0 is 40.
    pub rack_size: usize,
    /// What happens at a moment or at a rate.
    pub happens: Vec<Happening>,
    /// Share of machines with a silent BMC.
    pub silent_bmc: f64,
    /// Share of machines whose agent dies in its first write.
    pub dies_mid_write: f64,
    /// Share of machines whose first download fails.
    pub download_errors: f64,
    /// Share of machines that are four times slower.
    pub slower: f64,
    /// Share of machines whose first download breaks and is gone on with.
    pub download_breaks: f64,
    /// Share of machines whose first clean step fails.
    pub clean_step_error: f64,
    /// Share of machines whose first service step fails.
    pub service_step_error: f64,
    /// Share of machines whose agent dies in its first step that is no image write.
    pub agent_dies_in_step: f64,
    /// Share of machines whose first step that is no image write never ends.
    pub step_hangs: f64,
    /// Share of machines whose hardware managers change their version once.
    pub version_mismatch: f64,
    /// Share of machines whose first inspection fails.
    pub inspection_error: f64,
    /// Share of machines whose first installation of a boot loader fails.
    pub bootloader_error: f64,
    /// Share of machines whose first ramdisk hangs.
    pub ramdisk_hangs: f64,
}

/// Machines in a rack, unless a fault file says otherwise.
const RACK_SIZE: usize = 40;

impl Faults {
    /// Machines in a rack.
    pub(crate) fn rack(&self) -> usize {
        if self.rack_size == 0 { RACK_SIZE } else { self.rack_size }
    }

    /// The first machine or rack that is named and that a fleet of machines with these names does not have, in words.
    #[must_use]
    pub fn stranger(&self, names: &BTreeSet<&str>) -> Option<String> {
        let unknown = self.machines.keys().find(|name| !names.contains(name.as_str()));
        let racks = names.len().div_ceil(self.rack());
        unknown
            .map(|name| format!("there is no machine '{name}'"))
            .or_else(|| self.happens.iter().find_map(|one| one.stranger(names, racks)))
    }

    /// The faults of one machine; `chance` must be the machine's own.
    pub(crate) fn of(&self, name: &str, chance: &mut Chance) -> MachineFaults {
        let mut once = |share: f64| u32::from(chance.happens(share));
        // drawn for named machines too, so that naming one does not change the draws that follow
        let drawn = MachineFaults {
            silent_bmc: once(self.silent_bmc) > 0,
            bmc_make: self.bmc_make.clone(),
            dies_mid_write: once(self.dies_mid_write),
            download_errors: once(self.download_errors),
            slower: once(self.slower) * 4,
            download_breaks: once(self.download_breaks),
            clean_step_error: once(self.clean_step_error),
            service_step_error: once(self.service_step_error),
            agent_dies_in_step: once(self.agent_dies_in_step),
            step_hangs: once(self.step_hangs),
            version_mismatch: once(self.version_mismatch),
            inspection_error: once(self.inspection_error),
            bootloader_error: once(self.bootloader_error),
            ramdisk_hangs: once(self.ramdisk_hangs),
            ..MachineFaults::default()
        };
        self.machines.get(name).cloned().unwrap_or(drawn)
    }
}

/// A stream of pseudo-random numbers (splitmix64): the same seed gives the same stream everywhere.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A stream of its own for each (`seed`, `stream`).
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut chance = Self(seed ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93));
        chance.bits();
        chance
    }

    /// The stream that is at this state.
    pub(crate) fn at(state: u64) -> Self {
        Self(state)
    }

    /// Where the stream is.
    pub(crate) fn state(&self) -> u64 {
        self.0
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 (inclusive) to 1 (exclusive).
    pub fn unit(&mut self) -> f64 {
        // 53 bits are what an f64 holds exactly
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True in `share` of the cases.
    pub fn happens(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// A whole number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.bits() % end as u64) as usize }
    }

    /// A time between the two.
    pub fn between(&mut self, least: std::time::Duration, most: std::time::Duration) -> std::time::Duration {
        least + most.saturating_sub(least).mul_f64(self.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::{Chance, Faults, MachineFaults};

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_seed_others() {
        let faults = Faults { slower: 0.5, silent_bmc: 0.5, ..Faults::default() };
        let draw = |seed| -> Vec<MachineFaults> {
            (0..64).map(|i| faults.of(&format!("m{i}"), &mut Chance::new(seed, i))).collect()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(1).iter().any(|one| one.silent_bmc) && draw(1).iter().any(|one| !one.silent_bmc));
    }

    #[test]
    fn a_named_machine_has_its_own_faults() {
        let text = r#"{"machines": {"m1": {"dies_mid_write": 2}}}"#;
        let faults: Faults = serde_json::from_str(text).expect("a valid fault file");
        assert_eq!(faults.of("m1", &mut Chance::new(1, 1)).dies_mid_write, 2);
        assert_eq!(faults.of("m2", &mut Chance::new(1, 2)), MachineFaults::default());
        assert!(serde_json::from_str::<Faults>(r#"{"slwer": 1}"#).is_err(), "a typing error must not pass");
        let made: Faults = serde_json::from_str(r#"{"bmc_make": "fragile"}"#).expect("a make");
        assert!(!made.of("m1", &mut Chance::new(1, 1)).bmc_make.personality().spacing.is_zero());
        let wrong = serde_json::from_str::<Faults>(r#"{"bmc_make": "sane"}"#).expect_err("no such make");
        assert!(wrong.to_string().contains("fragile"), "{wrong}");
    }
}
