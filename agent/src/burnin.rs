//! Burn-in: work whose result is known, for a time that the operator sets in `driver_info`. A wrong result fails the step.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use crate::console::say;
use crate::error::Failure;

/// When nothing is set: a day.
const DAY: u64 = 24 * 3600;

/// Bytes that one round of the processor test hashes.
const HASHED: usize = 1 << 20;

/// Words tested at a time, 64 MiB.
const CHUNK_WORDS: usize = 8 << 20;

/// Of the available memory, unless set: the agent and the kernel live in the same memory.
const MEMORY_PERCENT: u64 = 90;

/// Left free in any case, bytes.
const KEPT_FREE: u64 = 128 << 20;

fn number(node: &Value, key: &str, default: u64) -> Result<u64, Failure> {
    let info = node.get("driver_info").unwrap_or(&Value::Null);
    match info.get(key).filter(|value| !value.is_null()) {
        None => Ok(default),
        Some(value) => value
            .as_u64()
            .or_else(|| value.as_str()?.trim().trim_end_matches('%').parse().ok())
            .ok_or_else(|| Failure::Parameters(format!("driver_info.{key} must be a number"))),
    }
}

/// Computes on every processor for `agent_burnin_cpu_timeout` seconds (`agent_burnin_cpu_cpu` of them; 0 = all) and
/// compares. Blocks. Errors: `Step` naming each processor that computed something else.
pub fn cpu(node: &Value) -> Result<Value, Failure> {
    let limit = Duration::from_secs(number(node, "agent_burnin_cpu_timeout", DAY)?);
    let wanted = number(node, "agent_burnin_cpu_cpu", 0)? as usize;
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if wanted == 0 { all } else { wanted.min(all) };
    let expected = round();
    let wrong = Mutex::new(Vec::new());
    let rounds = Mutex::new(0_u64);
    let end = end_after(limit)?;
    say(format!("burn-in of {workers} processors for {} s", limit.as_secs()));
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (expected, wrong, rounds) = (&expected, &wrong, &rounds);
            scope.spawn(move || {
                let mut one = CpuSet::new();
                // where a processor cannot be chosen the work is done all the same
                let _ = one.set(worker).and_then(|()| sched_setaffinity(Pid::from_raw(0), &one));
                let mut done = 0;
                loop {
                    if round() != *expected {
                        let mut wrong = wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        wrong.push(format!("processor {worker} computed a wrong result in round {done}"));
                        break;
                    }
                    done += 1;
                    if Instant::now() >= end {
                        break;
                    }
                }
                *rounds.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += done;
            });
        }
    });
    let wrong = wrong.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !wrong.is_empty() {
        return Err(Failure::Step(wrong.join("; ")));
    }
    let rounds = rounds.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(json!(format!("{workers} processors computed {rounds} rounds without an error")))
}

fn end_after(limit: Duration) -> Result<Instant, Failure> {
    let end = Instant::now().checked_add(limit);
    end.ok_or_else(|| Failure::Parameters("the time of the burn-in is beyond all clocks".to_owned()))
}

/// Integer, floating point and hash work with one result.
fn round() -> (Vec<u8>, u64) {
    let mut bytes = vec![0_u8; HASHED];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for word in bytes.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    let mut sum = 0.0_f64;
    for n in 1..20_000_u32 {
        let x = f64::from(n);
        sum += (x.sqrt() * 1.000_000_1).mul_add(x, sum / x);
    }
    (Sha512::digest(std::hint::black_box(&bytes)).to_vec(), std::hint::black_box(sum).to_bits())
}

/// Writes patterns to memory and reads them again for `agent_burnin_memory_timeout` seconds, at least once.
/// `agent_burnin_memory_vm-bytes` is the share of the available memory in percent. Blocks.
/// Errors: `Step` with the first difference, `Parameters`.
pub fn memory(node: &Value, meminfo: &Path) -> Result<Value, Failure> {
    let limit = Duration::from_secs(number(node, "agent_burnin_memory_timeout", DAY)?);
    let percent = number(node, "agent_burnin_memory_vm-bytes", MEMORY_PERCENT)?;
    if !(1..=99).contains(&percent) {
        let text = "driver_info.agent_burnin_memory_vm-bytes must be a share from 1 % to 99 %";
        return Err(Failure::Parameters(text.to_owned()));
    }
    let text = fs::read_to_string(meminfo).map_err(Failure::io("asking for the available memory"))?;
    let available = available(&text).ok_or_else(|| Failure::Step("no MemAvailable is told".to_owned()))?;
    let bytes = (available / 100 * percent).min(available.saturating_sub(KEPT_FREE));
    let chunks = (bytes / 8) as usize / CHUNK_WORDS;
    if chunks == 0 {
        return Err(Failure::Step(format!("only {available} bytes of memory are available: nothing tested")));
    }
    say(format!("burn-in of {} MiB of memory for {} s", (chunks * CHUNK_WORDS) >> 17, limit.as_secs()));
    let rounds = test_memory(chunks, CHUNK_WORDS, limit)?;
    let tested = chunks * CHUNK_WORDS * 8;
    Ok(json!(format!("{tested} bytes of memory held {rounds} patterns without an error")))
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Fills and compares all chunks, several at a time, with a new pattern each round. Rounds done.
fn test_memory(chunks: usize, words: usize, limit: Duration) -> Result<u64, Failure> {
    let end = end_after(limit)?;
    let mut memory: Vec<Vec<u64>> = Vec::new();
    for _ in 0..chunks {
        let mut chunk = Vec::new();
        // what cannot be had is not tested, and said
        if chunk.try_reserve_exact(words).is_err() {
            return Err(Failure::Step(format!(
                "only {} of {chunks} chunks of memory could be had",
                memory.len()
            )));
        }
        chunk.resize(words, 0);
        memory.push(chunk);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(chunks);
    let share = chunks.div_ceil(threads);
    let mut round = 0;
    loop {
        for part in 0..2 {
            let wrong = std::thread::scope(|scope| {
                let tasks: Vec<_> = memory
                    .chunks_mut(share)
                    .enumerate()
                    .map(|(nth, held)| {
                        scope.spawn(move || {
                            held.iter_mut().enumerate().find_map(|(n, chunk)| {
                                let first = ((nth * share + n) * words) as u64;
                                if part == 0 {
                                    fill(chunk, first, round)
                                } else {
                                    compare(chunk, first, round)
                                }
                            })
                        })
                    })
                    .collect();
                // a worker that panicked has found nothing out
                tasks
                    .into_iter()
                    .find_map(|task| task.join().unwrap_or_else(|_| Some("a worker died".to_owned())))
            });
            if let Some(wrong) = wrong {
                return Err(Failure::Step(format!("memory error in round {round}: {wrong}")));
            }
        }
        round += 1;
        if Instant::now() >= end {
            return Ok(round);
        }
    }
}

/// Every word its own address, mixed with a pattern that changes every bit between two rounds.
fn pattern(word: u64, round: u64) -> u64 {
    let base = (word ^ (round / 2)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    if round.is_multiple_of(2) { base } else { !base }
}

fn fill(chunk: &mut [u64], first: u64, round: u64) -> Option<String> {
    for (n, word) in chunk.iter_mut().enumerate() {
        *word = pattern(first + n as u64, round);
    }
    std::hint::black_box(chunk);
    None
}

fn compare(chunk: &[u64], first: u64, round: u64) -> Option<String> {
    let n = std::hint::black_box(chunk)
        .iter()
        .enumerate()
        .position(|(n, word)| *word != pattern(first + n as u64, round))?;
    let (held, wrote) = (chunk[n], pattern(first + n as u64, round));
    Some(format!("word {} holds {held:#018x} instead of {wrote:#018x}", first + n as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_and_memory_pass_and_say_what_was_done() {
        let node = json!({"driver_info": {"agent_burnin_cpu_timeout": 0, "agent_burnin_cpu_cpu": "2"}});
        let told = cpu(&node).expect("this machine computes");
        assert!(told.as_str().expect("text").contains("without an error"), "{told}");
        assert_eq!(test_memory(3, 1000, Duration::ZERO).expect("good memory"), 1);
    }

    #[test]
    fn a_flipped_bit_is_found_and_named() {
        let mut chunk = vec![0; 100];
        fill(&mut chunk, 500, 3);
        assert_eq!(compare(&chunk, 500, 3), None);
        chunk[7] ^= 1 << 40;
        assert!(compare(&chunk, 500, 3).expect("found").starts_with("word 507 holds"));
        // between two rounds every bit is both 0 and 1
        assert_eq!(pattern(9, 4) ^ pattern(9, 5), u64::MAX);
    }

    #[test]
    fn settings_are_read_and_nonsense_refused() {
        assert_eq!(available("MemTotal: 10 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        let bad = json!({"driver_info": {"agent_burnin_cpu_timeout": "soon"}});
        assert!(matches!(cpu(&bad), Err(Failure::Parameters(_))));
        let endless = json!({"driver_info": {"agent_burnin_cpu_timeout": u64::MAX}});
        assert!(matches!(cpu(&endless), Err(Failure::Parameters(_))));
        let bad = json!({"driver_info": {"agent_burnin_memory_vm-bytes": "100%"}});
        assert!(matches!(memory(&bad, Path::new("/proc/meminfo")), Err(Failure::Parameters(_))));
        let folder = tempfile::tempdir().expect("temp dir");
        let info = folder.path().join("meminfo");
        fs::write(&info, "MemAvailable: 1024 kB\n").expect("file");
        assert!(memory(&json!({}), &info).expect_err("too little").to_string().contains("nothing tested"));
    }
}
