//! The short run of every fuzz target: so many mutations of its seeds, the same ones everywhere, with the bodies that
//! `make fuzz` runs for minutes under coverage guidance. `FERRIC_FUZZ_ROUNDS` and `FERRIC_FUZZ_SEED` change them;
//! `FERRIC_FUZZ_CORPUS` names a folder that gets the seeds, for `cargo fuzz`.
#![allow(clippy::unwrap_used)] // tests say what broke by panicking
#![allow(unreachable_pub)] // the bodies are a crate's own where cargo fuzz runs them

#[path = "../../../fuzz/bodies/mod.rs"]
mod bodies;

use ferric_sim::Chance;

/// Mutated inputs per target.
const ROUNDS: u64 = 60_000;
/// The longest input.
const LONGEST: usize = 4096;
/// Numbers at the edge of what lengths and counts can be.
const EDGES: [u64; 12] = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0xFF_FFFF, 0x7FFF_FFFF, u64::MAX];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One change, as a careless or a malicious peer would make it.
fn mutate(chance: &mut Chance, input: &mut Vec<u8>, all: &[Vec<u8>]) {
    let at = chance.below(input.len() + 1);
    let end = at + chance.below(input.len() - at + 1).min(64);
    match chance.below(9) {
        0 if at < input.len() => input[at] ^= 1 << chance.below(8),
        1 if at < input.len() => input[at] = chance.bits() as u8,
        2 => input.truncate(at),
        3 => drop(input.drain(at..end)),
        4 => {
            let copy = input[at..end].to_vec();
            input.splice(at..at, copy);
        }
        5 => {
            // a number at the edge, in one to eight bytes, either end first
            let number = EDGES[chance.below(EDGES.len())].to_be_bytes();
            let width = 1 << chance.below(4);
            let mut bytes = number[8 - width..].to_vec();
            if chance.happens(0.5) {
                bytes.reverse();
            }
            let end = (at + width).min(input.len());
            input.splice(at..end, bytes);
        }
        6 => {
            let count = 1 + chance.below(32);
            let byte = if chance.happens(0.5) {
                chance.bits() as u8
            } else {
                b"0\"[]{},:=-\0\xff"[chance.below(12)]
            };
            input.splice(at..at, std::iter::repeat_n(byte, count));
        }
        7 => {
            let other = &all[chance.below(all.len())];
            let from = chance.below(other.len() + 1);
            input.splice(at..end, other[from..].iter().copied());
        }
        _ => {
            for _ in 0..1 + chance.below(8) {
                let at = chance.below(input.len());
                if let Some(byte) = input.get_mut(at) {
                    *byte = chance.bits() as u8;
                }
            }
        }
    }
    input.truncate(LONGEST);
}

/// Prints the input that it was at when its thread panics.
struct Suspect<'a>(&'a str, &'a [u8]);

impl Drop for Suspect<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.1.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("fuzz target {} broke on (hex): {hex}", self.0);
        }
    }
}

fn short_run(name: &str) {
    let (_, run, seeds) = bodies::TARGETS.iter().find(|(known, ..)| *known == name).unwrap();
    let seeds = seeds();
    if let Some(folder) = std::env::var_os("FERRIC_FUZZ_CORPUS") {
        let folder = std::path::Path::new(&folder).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), seed).unwrap();
        }
    }
    let mut chance = Chance::new(setting("FERRIC_FUZZ_SEED", 1), 0);
    for input in &seeds {
        let _suspect = Suspect(name, input);
        run(input);
    }
    run(&[]);
    for _ in 0..setting("FERRIC_FUZZ_ROUNDS", ROUNDS) {
        let mut input = seeds[chance.below(seeds.len())].clone();
        for _ in 0..1 + chance.below(6) {
            mutate(&mut chance, &mut input, &seeds);
        }
        let _suspect = Suspect(name, &input);
        run(&input);
    }
}

#[test]
fn no_agent_message_breaks_its_reader() {
    short_run("agent");
}

#[test]
fn no_dhcp_packet_breaks_the_server() {
    short_run("dhcp");
}

#[test]
fn no_ipmi_datagram_breaks_a_session() {
    short_run("ipmi");
}

#[test]
fn no_iscsi_target_breaks_the_initiator() {
    short_run("iscsi");
}
