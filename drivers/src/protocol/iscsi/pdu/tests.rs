use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 64 * 1024;

fn digests() -> impl Strategy<Value = Digests> {
    (any::<bool>(), any::<bool>()).prop_map(|(header, data)| Digests { header, data })
}

/// Any header that its own decoder takes: made from random bytes, so that no field is forgotten.
fn header() -> impl Strategy<Value = Header> {
    let opcodes: Vec<u8> = (0..=6).chain([0x10]).chain(0x20..=0x26).chain([0x31, 0x32, 0x3F]).collect();
    (prop::sample::select(opcodes), prop::collection::vec(any::<u8>(), BHS)).prop_filter_map(
        "login stages",
        |(opcode, bytes)| {
            let mut bhs = [0; BHS];
            bhs.copy_from_slice(&bytes);
            bhs[0] = opcode | (bhs[0] & IMMEDIATE);
            Header::read(&bhs, BHS).ok()
        },
    )
}

fn encoded(pdu: &Pdu, digests: Digests) -> BytesMut {
    let mut out = BytesMut::new();
    pdu.encode(digests, &mut out).unwrap();
    out
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        header in header(),
        data in prop::collection::vec(any::<u8>(), 0..300),
        digests in digests(),
        behind in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let pdu = Pdu::with(header, data);
        let mut wire = encoded(&pdu, digests);
        let length = wire.len();
        prop_assert_eq!(length % 4, 0);
        for cut in [0, BHS - 1, length - 1] {
            prop_assert_eq!(Pdu::decode(&wire[..cut], digests, LIMIT), Ok(None));
        }
        wire.extend_from_slice(&behind);
        prop_assert_eq!(Pdu::decode(&wire, digests, LIMIT), Ok(Some((pdu.clone(), length))));

        let mut decoder = Decoder::default();
        for byte in &wire[..length - 1] {
            decoder.buffer.extend_from_slice(&[*byte]);
            prop_assert_eq!(decoder.next(digests, LIMIT), Ok(None));
        }
        decoder.buffer.extend_from_slice(&wire[length - 1..]);
        prop_assert_eq!(decoder.next(digests, LIMIT), Ok(Some(pdu)));
        prop_assert_eq!(&decoder.buffer[..], &behind[..]);
    }

    #[test]
    fn no_input_makes_the_decoder_panic(
        input in prop::collection::vec(any::<u8>(), 0..400),
        digests in digests(),
        limit in 0_usize..600,
    ) {
        if let Ok(Some((pdu, used))) = Pdu::decode(&input, digests, limit) {
            prop_assert!(used <= input.len() && pdu.data.len() <= limit);
        }
        let mut decoder = Decoder::default();
        decoder.buffer.extend_from_slice(&input);
        while let Ok(Some(_)) = decoder.next(digests, limit) {}
    }

    #[test]
    fn a_flipped_bit_is_found_by_the_digests(
        header in header(),
        data in prop::collection::vec(any::<u8>(), 1..200),
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let digests = Digests { header: true, data: true };
        let pdu = Pdu::with(header, data);
        let mut wire = encoded(&pdu, digests);
        let at = at.index(wire.len());
        wire[at] ^= 1 << bit;
        // a longer AHS may also just want more bytes
        prop_assert!(!matches!(Pdu::decode(&wire, digests, LIMIT), Ok(Some(_))));
    }
}

#[test]
fn additional_headers_are_skipped() {
    let pdu = Pdu::with(NopIn { itt: 7, ..NopIn::default() }, &b"abcde"[..]);
    let plain = encoded(&pdu, Digests::default());
    let mut wire = plain[..BHS].to_vec();
    wire[4] = 2;
    wire.extend_from_slice(&[0, 5, 1, 0, 0, 0, 0, 0]);
    wire.extend_from_slice(&plain[BHS..]);
    assert_eq!(Pdu::decode(&wire, Digests::default(), LIMIT), Ok(Some((pdu, wire.len()))));
}

#[test]
fn a_segment_beyond_the_limit_is_refused_before_it_arrives() {
    let wire = encoded(&Pdu::with(DataIn::default(), vec![0; 4096]), Digests::default());
    let found = Pdu::decode(&wire[..BHS], Digests::default(), 4095);
    assert_eq!(found, Err(PduError::TooLong { length: 4096, limit: 4095 }));
}

#[test]
fn a_damaged_or_unknown_pdu_is_stepped_over() {
    let digests = Digests { header: false, data: true };
    let good = Pdu::with(NopIn { itt: 1, ..NopIn::default() }, &b"ping"[..]);
    let mut decoder = Decoder::default();
    let mut bad = encoded(&good, digests);
    bad[BHS] ^= 1;
    decoder.buffer.extend_from_slice(&bad);
    let mut unknown = encoded(&good, digests);
    unknown[0] = 0x3E;
    decoder.buffer.extend_from_slice(&unknown);
    decoder.buffer.extend_from_slice(&encoded(&good, digests));
    assert_eq!(decoder.next(digests, LIMIT), Err(PduError::DataDigest { used: 56 }));
    assert_eq!(decoder.next(digests, LIMIT), Err(PduError::Unknown { opcode: 0x3E, used: 56 }));
    assert_eq!(decoder.next(digests, LIMIT), Ok(Some(good)));
}

#[test]
fn digests_are_those_of_the_rfc() {
    // RFC 7143 §13.1 points to RFC 3720 B.4: CRC32C of 32 zero bytes is aa 36 91 8a on the wire
    let pdu = Pdu::with(DataIn::default(), vec![0; 32]);
    assert_eq!(&*pdu.tail(Digests { header: false, data: true }), [0xAA, 0x36, 0x91, 0x8A]);
    // and the padding is part of it
    let short = Pdu::with(DataIn::default(), vec![0; 29]);
    assert_eq!(&*short.tail(Digests { header: false, data: true }), [0, 0, 0, 0xAA, 0x36, 0x91, 0x8A]);
}

#[test]
fn too_much_data_is_not_sent() {
    let pdu = Pdu::with(DataIn::default(), Bytes::from(vec![0; MAX_DATA + 1]));
    let found = pdu.encode(Digests::default(), &mut BytesMut::new());
    assert_eq!(found, Err(PduError::TooLong { length: MAX_DATA + 1, limit: MAX_DATA }));
}

#[test]
fn units_are_numbered_by_peripheral_and_flat_addressing() {
    assert_eq!(Lun::new(1), Lun(1 << 48));
    assert_eq!(Lun::new(300), Lun(0x412C << 48));
    for number in [0, 1, 255, 256, 16383] {
        assert_eq!(Lun::new(number).number(), Some(number));
    }
    assert_eq!(Lun(1).number(), None);
}
