use proptest::prelude::*;

use super::super::chap::MutualChap;
use super::super::limits::DigestChoice;
use super::super::pdu::Window;
use super::*;
use crate::Secret;

const CHALLENGE: [u8; 16] = [7; 16];

fn config(chap: Option<Chap>) -> LoginConfig {
    LoginConfig {
        initiator: "iqn.2026-11.test:us".to_owned(),
        target: Some("iqn.2026-11.test:disk".to_owned()),
        isid: [0x80, 1, 2, 3, 4, 5],
        chap,
        challenge: CHALLENGE,
        offer: Offer::default(),
    }
}

fn chap(mutual: bool) -> Chap {
    let mutual =
        mutual.then(|| MutualChap { user: Some("disk".into()), secret: Secret::new("theirs".into()) });
    Chap { user: "us".into(), secret: Secret::new("ours".into()), mutual }
}

fn answer(stage: Stage, next: Option<Stage>, more: bool, pairs: &[(&str, &str)]) -> Pdu {
    let header = LoginResponse {
        more,
        stage,
        next,
        version_max: 0,
        version_active: 0,
        isid: [0; 6],
        tsih: 1,
        itt: 0,
        window: Window { stat_sn: 40, exp_cmd_sn: 1, max_cmd_sn: 32 },
        status_class: 0,
        status_detail: 0,
    };
    Pdu::with(header, text::encode(pairs))
}

fn refusal(status: u16, pairs: &[(&str, &str)]) -> Pdu {
    let mut pdu = answer(Stage::Security, None, false, pairs);
    let Header::LoginResponse(header) = &mut pdu.header else { panic!() };
    [header.status_class, header.status_detail] = status.to_be_bytes();
    pdu
}

fn sent(step: Result<Step, LoginError>) -> (LoginRequest, Vec<Pair>) {
    let Ok(Step::Send(Pdu { header: Header::LoginRequest(header), data })) = step else { panic!("{step:?}") };
    (header, text::parse(&data).unwrap())
}

const S: Stage = Stage::Security;
const O: Stage = Stage::Operational;
const F: Stage = Stage::FullFeature;

#[test]
fn without_secrets_a_login_takes_two_exchanges() {
    let mut login = Login::new(config(None));
    let (first, pairs) = sent(Ok(Step::Send(login.start())));
    assert_eq!((first.stage, first.next), (S, Some(O)));
    assert_eq!(value(&pairs, "AuthMethod"), Some("None,CHAP"));
    assert_eq!(value(&pairs, "TargetName"), Some("iqn.2026-11.test:disk"));
    let (second, pairs) = sent(login.receive(&answer(S, Some(O), false, &[("TargetPortalGroupTag", "1")])));
    assert_eq!((second.stage, second.next, second.exp_stat_sn), (O, Some(F), 41));
    assert_eq!(value(&pairs, "InitialR2T"), Some("No"));
    let last = answer(O, Some(F), false, &[("MaxRecvDataSegmentLength", "8192"), ("InitialR2T", "Yes")]);
    let Ok(Step::Done(done)) = login.receive(&last) else { panic!() };
    assert_eq!((done.cmd_sn, done.max_cmd_sn, done.exp_stat_sn), (1, 32, 41));
    assert!(done.limits.initial_r2t && done.limits.max_send_data == 8192);
}

#[test]
fn proposals_of_the_target_are_answered_before_the_end() {
    let mut login = Login::new(config(None));
    login.start();
    login.receive(&answer(S, Some(O), false, &[])).unwrap();
    let asks = [("X-com.example.turbo", "Yes"), ("IFMarker", "Yes"), ("MaxRecvDataSegmentLength", "65536")];
    let (next, pairs) = sent(login.receive(&answer(O, None, false, &asks)));
    assert_eq!(next.next, Some(F));
    let expected = [("X-com.example.turbo", "NotUnderstood"), ("IFMarker", "No")];
    assert_eq!(pairs, expected.map(|(key, value)| pair(key, value)));
    assert!(matches!(login.receive(&answer(O, Some(F), false, &[])), Ok(Step::Done(_))));
}

#[test]
fn a_text_in_pieces_is_put_together() {
    let mut login = Login::new(config(None));
    login.start();
    login.receive(&answer(S, Some(O), false, &[])).unwrap();
    let mut piece = answer(O, None, true, &[]);
    piece.data = Bytes::from_static(b"MaxBurstLen");
    let (next, pairs) = sent(login.receive(&piece));
    assert_eq!((next.next, pairs.len()), (None, 0), "go on");
    let mut rest = answer(O, None, false, &[]);
    rest.data = Bytes::from_static(b"gth=4096\0");
    assert_eq!(sent(login.receive(&rest)).0.next, Some(F));
    let Ok(Step::Done(done)) = login.receive(&answer(O, Some(F), false, &[])) else { panic!() };
    assert_eq!(done.limits.max_burst, 4096);
}

#[test]
fn what_we_say_at_length_goes_in_pieces() {
    let mut long = config(None);
    long.target = Some(format!("iqn.{}", "x".repeat(SEGMENT)));
    let mut login = Login::new(long);
    let Pdu { header: Header::LoginRequest(first), data } = login.start() else { panic!() };
    assert!(first.more && first.next.is_none() && data.len() == SEGMENT);
    let Ok(Step::Send(Pdu { header: Header::LoginRequest(second), data: rest })) =
        login.receive(&answer(S, None, false, &[]))
    else {
        panic!()
    };
    assert!(!second.more && second.next == Some(O));
    let pairs = text::parse(&[data, rest].concat()).unwrap();
    assert_eq!(value(&pairs, "AuthMethod"), Some("None,CHAP"));
}

/// Runs a login with CHAP as far as the proof.
fn proved(login: &mut Login) -> (LoginRequest, Vec<Pair>) {
    login.start();
    let (_, pairs) = sent(login.receive(&answer(S, None, false, &[("AuthMethod", "CHAP")])));
    assert_eq!(value(&pairs, "CHAP_A"), Some("5"));
    let challenge = [("CHAP_A", "5"), ("CHAP_I", "9"), ("CHAP_C", "0x0102030405060708")];
    sent(login.receive(&answer(S, None, false, &challenge)))
}

#[test]
fn chap_proves_who_we_are() {
    let mut login = Login::new(config(Some(chap(false))));
    let (header, pairs) = proved(&mut login);
    assert_eq!(header.next, Some(O));
    assert_eq!(value(&pairs, "CHAP_N"), Some("us"));
    let expected = chap::response(9, &Secret::new("ours".into()), &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(value(&pairs, "CHAP_R"), Some(text::hex(&expected).as_str()));
    assert_eq!(value(&pairs, "CHAP_C"), None);
    assert_eq!(sent(login.receive(&answer(S, Some(O), false, &[]))).0.stage, O);
}

#[test]
fn the_target_has_to_prove_itself_where_that_is_wanted() {
    let right = text::hex(&chap::response(1, &Secret::new("theirs".into()), &CHALLENGE));
    let wrong = text::hex(&chap::response(1, &Secret::new("guess".into()), &CHALLENGE));
    for (said, good) in [
        (vec![("CHAP_N", "disk"), ("CHAP_R", right.as_str())], true),
        (vec![("CHAP_N", "disk"), ("CHAP_R", wrong.as_str())], false),
        (vec![("CHAP_N", "other"), ("CHAP_R", right.as_str())], false),
        (vec![], false),
    ] {
        let mut login = Login::new(config(Some(chap(true))));
        let (_, pairs) = proved(&mut login);
        assert_eq!(value(&pairs, "CHAP_C"), Some(text::hex(&CHALLENGE).as_str()));
        let found = login.receive(&answer(S, Some(O), false, &said));
        assert_eq!(found.is_ok(), good, "{said:?}");
        assert_eq!(matches!(found, Err(LoginError::Credentials(_))), !good);
    }
    // neither by leaving the proof out altogether
    let mut login = Login::new(config(Some(chap(true))));
    login.start();
    let found = login.receive(&answer(S, None, false, &[("AuthMethod", "None")]));
    assert!(matches!(found, Err(LoginError::Credentials(_))));
}

#[test]
fn our_own_challenge_is_not_answered() {
    let mut login = Login::new(config(Some(chap(true))));
    login.start();
    login.receive(&answer(S, None, false, &[("AuthMethod", "CHAP")])).unwrap();
    let mirrored = text::hex(&CHALLENGE);
    let said = [("CHAP_A", "5"), ("CHAP_I", "1"), ("CHAP_C", mirrored.as_str())];
    assert!(matches!(login.receive(&answer(S, None, false, &said)), Err(LoginError::Credentials(_))));
}

#[test]
fn a_target_without_chap_is_taken_if_only_we_would_have_to_prove_ourselves() {
    let mut login = Login::new(config(Some(chap(false))));
    login.start();
    let (header, _) = sent(login.receive(&answer(S, None, false, &[("AuthMethod", "None")])));
    assert_eq!((header.stage, header.next), (S, Some(O)));
    assert_eq!(sent(login.receive(&answer(S, Some(O), false, &[]))).0.stage, O);
}

#[test]
fn redirections_are_read() {
    for (address, host, port) in [
        ("10.0.0.5", "10.0.0.5", 3260),
        ("10.0.0.5:3261,1", "10.0.0.5", 3261),
        ("[2001:db8::5]:3262,2", "2001:db8::5", 3262),
        ("storage.example", "storage.example", 3260),
    ] {
        let mut login = Login::new(config(None));
        login.start();
        let found = login.receive(&refusal(0x0101, &[("TargetAddress", address)]));
        let expected = Moved { host: host.to_owned(), port, permanent: false };
        assert_eq!(found, Ok(Step::Moved(expected)), "{address}");
    }
    for address in ["", ":3260", "[::1", "host:0", "host:99999", "a b", "[evil]:1"] {
        let mut login = Login::new(config(None));
        login.start();
        let found = login.receive(&refusal(0x0102, &[("TargetAddress", address)]));
        assert!(matches!(found, Err(LoginError::Protocol(_))), "{address}: {found:?}");
    }
}

#[test]
fn every_refusal_has_words_and_a_remedy() {
    for status in (0x0200..=0x020B).chain(0x0300..=0x0302).chain([0x0277, 0x0999]) {
        let mut login = Login::new(config(Some(chap(false))));
        login.start();
        let Err(error) = login.receive(&refusal(status, &[])) else { panic!() };
        let text = crate::protocol::iscsi::IscsiError::from(error).to_string();
        assert!(text.starts_with("login refused") && text.matches(':').count() >= 2, "{text}");
        assert!(!text.contains("ours"), "{text}");
    }
    let mut login = Login::new(config(None));
    login.start();
    let found = login.receive(&refusal(0x0201, &[]));
    assert!(matches!(found, Err(LoginError::Credentials(text)) if text.contains("give a user")));
    // LIO says it by its choice
    let mut login = Login::new(config(None));
    login.start();
    let found = login.receive(&answer(S, None, false, &[("AuthMethod", "CHAP")]));
    assert!(matches!(found, Err(LoginError::Credentials(text)) if text.contains("asks for CHAP")));
}

#[test]
fn a_target_that_leads_in_circles_is_left() {
    let mut login = Login::new(config(None));
    login.start();
    let ended = (0..100).map(|_| login.receive(&answer(S, None, false, &[]))).find(Result::is_err);
    assert_eq!(ended, Some(Err(LoginError::Protocol("a login without end"))));
    for wrong in [answer(S, Some(F), false, &[]), answer(O, None, false, &[]), answer(S, Some(O), true, &[])]
    {
        let mut login = Login::new(config(None));
        login.start();
        assert!(matches!(login.receive(&wrong), Err(LoginError::Protocol(_))));
    }
}

#[test]
fn digests_that_are_required_are_insisted_upon() {
    let mut strict = config(None);
    strict.offer.header_digest = DigestChoice::Require;
    let mut login = Login::new(strict);
    login.start();
    login.receive(&answer(S, Some(O), false, &[])).unwrap();
    let found = login.receive(&answer(O, Some(F), false, &[("HeaderDigest", "None")]));
    assert!(matches!(found, Err(LoginError::Key(_))));
}

proptest! {
    #[test]
    fn no_answer_makes_a_login_panic(
        answers in prop::collection::vec((
            prop::sample::select(vec![S, O, F]),
            prop::option::of(prop::sample::select(vec![S, O, F])),
            any::<bool>(),
            prop::collection::vec(any::<u8>(), 0..60),
            prop::sample::select(vec![0_u8, 0, 0, 0, 1, 2, 3, 9]),
        ), 1..50),
        secret in prop::option::of(any::<bool>()),
    ) {
        let mut login = Login::new(config(secret.map(chap)));
        login.start();
        for (stage, next, more, data, class) in answers {
            let mut pdu = answer(stage, next, more, &[]);
            pdu.data = data.into();
            if let Header::LoginResponse(header) = &mut pdu.header {
                header.status_class = class;
            }
            let _ = login.receive(&pdu);
        }
    }
}
