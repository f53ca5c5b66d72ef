//! What is fuzzed: one function per protocol that takes any bytes and must return. It asserts what has to hold
//! (what was read and written again is the same; what was tampered with is refused), and everything else is said by
//! not panicking, not looping and not growing.
//!
//! Two drivers run these: `cargo fuzz` (coverage-guided, `make fuzz`), and `sim/tests/fuzz` (a fixed number of
//! mutations of the seeds from a fixed seed, part of `make test`, because an instrumented second build of the tree
//! would cost CI more time than it fuzzes).

pub mod agent;
pub mod dhcp;
pub mod ipmi;
pub mod iscsi;

/// A protocol's name, what is run with the bytes, and the inputs to begin with.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All of them.
pub const TARGETS: &[Target] = &[
    ("agent", agent::run, agent::seeds),
    ("dhcp", dhcp::run, dhcp::seeds),
    ("ipmi", ipmi::run, ipmi::seeds),
    ("iscsi", iscsi::run, iscsi::seeds),
];

/// Cuts bytes into pieces: each is led by its length in two bytes, big endian, and the last may be short.
pub fn pieces(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some(([a, b], rest)) = bytes.split_first_chunk::<2>() {
        let (piece, rest) = rest.split_at(usize::from(u16::from_be_bytes([*a, *b])).min(rest.len()));
        all.push(piece);
        bytes = rest;
    }
    all
}

/// The other way round.
pub fn join<P: AsRef<[u8]>>(pieces: &[P]) -> Vec<u8> {
    let mut all = Vec::new();
    for piece in pieces {
        let piece = piece.as_ref();
        all.extend(u16::try_from(piece.len()).expect("seeds are short").to_be_bytes());
        all.extend_from_slice(piece);
    }
    all
}

/// `bytes` led by the number of the way that takes them.
pub fn way(number: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut all = vec![number];
    all.extend_from_slice(bytes.as_ref());
    all
}
