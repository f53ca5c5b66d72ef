use proptest::prelude::*;

use super::super::pdu::LogoutResponse;
use super::super::scsi::key;
use super::*;

const LUN: Lun = Lun::new(1);

fn core(limits: Limits) -> Core {
    Core::new(Established { limits, cmd_sn: 1, max_cmd_sn: 8, exp_stat_sn: 100 }, 4)
}

fn limits() -> Limits {
    Limits { max_send_data: 4096, max_burst: 16384, first_burst: 8192, ..Limits::default() }
}

fn data(length: usize) -> Bytes {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn write(core: &mut Core, token: Token, length: usize) {
    core.submit(token, LUN, Command::write_16(0, 1, data(length)));
}

fn drain(core: &mut Core) -> Vec<Pdu> {
    std::iter::from_fn(|| core.transmit()).collect()
}

fn command(pdu: &Pdu) -> &ScsiCommand {
    let Header::ScsiCommand(command) = &pdu.header else { panic!("{pdu:?}") };
    command
}

fn window(stat_sn: u32) -> Window {
    Window { stat_sn, exp_cmd_sn: 2, max_cmd_sn: 8 }
}

fn r2t(itt: u32, r2t_sn: u32, buffer_offset: u32, desired_length: u32) -> Pdu {
    let window = window(100);
    Pdu::bare(R2t { itt, ttt: 50 + r2t_sn, window, r2t_sn, buffer_offset, desired_length, ..R2t::default() })
}

fn status(itt: u32, stat_sn: u32, status: u8) -> Pdu {
    Pdu::bare(ScsiResponse { itt, status, window: window(stat_sn), ..ScsiResponse::default() })
}

fn data_in(itt: u32, data_sn: u32, offset: u32, data: Bytes, status: Option<u8>) -> Pdu {
    let window = window(100);
    Pdu::with(
        DataIn {
            last: true,
            itt,
            ttt: NO_TAG,
            window,
            data_sn,
            buffer_offset: offset,
            status,
            ..DataIn::default()
        },
        data,
    )
}

/// (offset, length, DataSN, last) of each Data-Out.
fn shape(pdus: &[Pdu]) -> Vec<(u32, usize, u32, bool)> {
    let shape = |pdu: &Pdu| {
        let Header::DataOut(header) = &pdu.header else { panic!("{pdu:?}") };
        let from = header.buffer_offset as usize;
        assert_eq!(pdu.data, data(20000).slice(from..from + pdu.data.len()));
        (header.buffer_offset, pdu.data.len(), header.data_sn, header.last)
    };
    pdus.iter().map(shape).collect()
}

#[test]
fn a_write_goes_out_as_the_limits_say() {
    for (initial_r2t, immediate_data, with_command, unasked) in [
        (true, true, 4096, vec![]),
        (true, false, 0, vec![]),
        (false, true, 4096, vec![(4096, 4096, 0, true)]),
        (false, false, 0, vec![(0, 4096, 0, false), (4096, 4096, 1, true)]),
    ] {
        let mut core = core(Limits { initial_r2t, immediate_data, ..limits() });
        write(&mut core, 7, 20000);
        let sent = drain(&mut core);
        let header = command(&sent[0]);
        assert_eq!((header.expected_length, header.cmd_sn, header.write), (20000, 1, true));
        assert_eq!((sent[0].data.len(), header.last), (with_command, unasked.is_empty()));
        assert_eq!(shape(&sent[1..]), unasked);
        // the rest is asked for
        let (itt, rest) =
            (header.itt, (with_command + unasked.iter().map(|part| part.1).sum::<usize>()) as u32);
        core.receive(r2t(itt, 0, rest, 10000)).unwrap();
        let asked = [(rest, 4096, 0, false), (rest + 4096, 4096, 1, false), (rest + 8192, 1808, 2, true)];
        assert_eq!(shape(&drain(&mut core)), asked);
        let left = 20000 - rest - 10000;
        if left > 0 {
            core.receive(r2t(itt, 1, rest + 10000, left)).unwrap();
            assert_eq!(shape(&drain(&mut core)).iter().map(|part| part.1 as u32).sum::<u32>(), left);
        }
        core.receive(status(itt, 100, 0)).unwrap();
        assert_eq!(core.finished(), Some((7, Outcome::Good(Bytes::new()))));
        assert!(core.idle());
    }
}

#[test]
fn a_target_that_lies_about_writes_is_left() {
    for (first, second, words) in [
        (r2t(1, 0, 4096, 16384), None, "more data than the command holds"),
        (r2t(1, 0, u32::MAX, 512), None, "more data than the command holds"),
        (r2t(1, 0, 4096, 16385), None, "length that was not agreed"),
        (r2t(1, 0, 4096, 0), None, "length that was not agreed"),
        (r2t(1, 1, 4096, 512), None, "gap in the numbers"),
        (r2t(1, 0, 8192, 512), None, "out of order"),
        (r2t(1, 0, 0, 512), None, "out of order"),
        (r2t(1, 0, 4096, 512), Some(r2t(1, 1, 4608, 512)), "more R2T at once"),
    ] {
        let mut core = core(limits());
        write(&mut core, 7, 20000);
        assert_eq!(command(&drain(&mut core)[0]).itt, 1);
        let mut found = core.receive(first);
        if let Some(second) = second {
            assert_eq!(found, Ok(Event::Progress));
            found = core.receive(second);
        }
        assert!(found.unwrap_err().0.contains(words), "{words}");
    }
    let mut core = core(limits());
    write(&mut core, 7, 20000);
    drain(&mut core);
    core.receive(status(1, 100, 0)).unwrap();
    assert_eq!(core.finished(), Some((7, Outcome::Short)), "GOOD without having taken the data");
}

#[test]
fn sequences_out_of_order_are_served_where_that_was_agreed() {
    let mut core = core(Limits { data_sequence_in_order: false, max_outstanding_r2t: 2, ..limits() });
    write(&mut core, 7, 12288);
    drain(&mut core);
    core.receive(r2t(1, 0, 8192, 4096)).unwrap();
    core.receive(r2t(1, 1, 4096, 4096)).unwrap();
    assert_eq!(shape(&drain(&mut core)), [(8192, 4096, 0, true), (4096, 4096, 0, true)]);
    assert!(core.receive(r2t(1, 2, 4096, 4096)).is_err(), "the same data again");
}

#[test]
fn what_is_read_is_put_in_place() {
    let mut core = core(limits());
    core.submit(3, LUN, Command::read_16(0, 16, 512));
    let sent = drain(&mut core);
    assert!(command(&sent[0]).read && command(&sent[0]).expected_length == 8192);
    let whole = data(8192);
    core.receive(data_in(1, 0, 0, whole.slice(..5000), None)).unwrap();
    core.receive(data_in(1, 1, 5000, whole.slice(5000..), Some(0))).unwrap();
    assert_eq!(core.finished(), Some((3, Outcome::Good(whole))));
}

#[test]
fn a_target_that_lies_about_reads_is_left() {
    for (pdu, words) in [
        (data_in(1, 1, 0, data(512), None), "gap"),
        (data_in(1, 0, 512, data(512), None), "out of order"),
        (data_in(1, 0, 0, data(8193), None), "more read data"),
        (r2t(1, 0, 0, 512), "writes none"),
    ] {
        let mut core = core(limits());
        core.submit(3, LUN, Command::read_16(0, 16, 512));
        drain(&mut core);
        assert!(core.receive(pdu).unwrap_err().0.contains(words), "{words}");
    }
    let mut core = core(Limits { data_pdu_in_order: false, ..limits() });
    core.submit(3, LUN, Command::read_16(0, 16, 512));
    drain(&mut core);
    core.receive(data_in(1, 0, 4096, data(4096), None)).unwrap();
    core.receive(data_in(1, 1, 4096, data(4096), None)).unwrap();
    assert!(core.receive(data_in(1, 2, 4096, data(4096), None)).is_err(), "more than was asked for, in sum");
}

#[test]
fn the_window_and_the_depth_bound_what_is_at_the_target() {
    let mut core = core(limits());
    for token in 0..20 {
        write(&mut core, token, 512);
    }
    let sent = drain(&mut core);
    assert_eq!(sent.len(), 4, "the depth");
    assert_eq!(sent.iter().map(|pdu| command(pdu).cmd_sn).collect::<Vec<_>>(), [1, 2, 3, 4]);
    for (done, tag) in (1..=4).enumerate() {
        core.receive(status(tag, 100 + done as u32, 0)).unwrap();
    }
    assert_eq!(drain(&mut core).len(), 4);
    for tag in 5..=8 {
        core.receive(status(tag, 99 + tag, 0)).unwrap();
    }
    assert_eq!(drain(&mut core), [], "the window ends at 8");
    let open = Window { stat_sn: 108, exp_cmd_sn: 9, max_cmd_sn: 10 };
    core.receive(Pdu::bare(NopIn { itt: NO_TAG, ttt: NO_TAG, window: open, ..NopIn::default() })).unwrap();
    assert_eq!(drain(&mut core).len(), 2);
}

#[test]
fn a_window_that_runs_backwards_is_ignored() {
    let mut core = core(limits());
    for bad in [(1, 5), (9, 7), (u32::MAX, 0x8000_0000)] {
        let window = Window { stat_sn: 100, exp_cmd_sn: bad.0, max_cmd_sn: bad.1 };
        core.receive(Pdu::bare(NopIn { itt: NO_TAG, ttt: NO_TAG, window, ..NopIn::default() })).unwrap();
        assert_eq!(core.max_cmd_sn, 8, "{bad:?}");
    }
}

#[test]
fn task_set_full_lowers_the_depth_and_success_raises_it() {
    let mut core = core(limits());
    for token in 0..9 {
        write(&mut core, token, 512);
    }
    drain(&mut core);
    core.receive(status(1, 100, super::status::TASK_SET_FULL)).unwrap();
    assert_eq!(core.finished(), Some((0, Outcome::Status(super::status::TASK_SET_FULL))));
    assert_eq!(drain(&mut core).len(), 0, "three at the target, one is allowed");
    core.receive(status(2, 101, 0)).unwrap();
    core.receive(status(3, 102, 0)).unwrap();
    assert_eq!(drain(&mut core).len(), 2, "one at the target, three are allowed");
}

#[test]
fn sense_data_comes_with_the_outcome() {
    let mut core = core(limits());
    write(&mut core, 1, 512);
    drain(&mut core);
    let mut segment = vec![0, 18, 0xF0, 0, 3, 0, 0, 0, 42, 10, 0, 0, 0, 0, 0x0C, 0, 0, 0, 0, 0];
    segment.extend_from_slice(&[0; 4]);
    let header = ScsiResponse { itt: 1, status: 2, window: window(100), ..ScsiResponse::default() };
    core.receive(Pdu::with(header, segment)).unwrap();
    let sense = Sense { key: key::MEDIUM_ERROR, asc: (0x0C, 0), lba: Some(42) };
    assert_eq!(core.finished(), Some((1, Outcome::Check(sense))));
}

#[test]
fn pings_are_answered_and_asked() {
    let mut core = core(limits());
    let ping = NopIn { lun: LUN, itt: NO_TAG, ttt: 9, window: window(100) };
    core.receive(Pdu::bare(ping.clone())).unwrap();
    let expected = NopOut { immediate: true, lun: LUN, itt: NO_TAG, ttt: 9, cmd_sn: 1, exp_stat_sn: 100 };
    assert_eq!(drain(&mut core), [Pdu::bare(expected)]);
    core.ping();
    let Header::NopOut(ours) = &drain(&mut core)[0].header else { panic!() };
    assert!(ours.immediate && ours.ttt == NO_TAG);
    let answer = NopIn { itt: ours.itt, ttt: NO_TAG, window: window(100), ..NopIn::default() };
    assert_eq!(core.receive(Pdu::bare(answer)), Ok(Event::Pong));
    let flood = (0..1000).map(|_| core.receive(Pdu::bare(ping.clone()))).find(Result::is_err);
    assert!(flood.is_some(), "answers that nobody reads are not kept");
}

#[test]
fn a_command_is_aborted_where_it_is() {
    let mut core = core(limits());
    for token in 0..5 {
        write(&mut core, token, 512);
    }
    drain(&mut core);
    core.abort(4);
    assert_eq!(core.finished(), Some((4, Outcome::Aborted)), "was not sent yet");
    core.abort(2);
    let sent = drain(&mut core);
    let Header::TaskRequest(abort) = &sent[0].header else { panic!() };
    assert_eq!((abort.function, abort.referenced_tag, abort.ref_cmd_sn), (task_function::ABORT_TASK, 3, 3));
    let done = TaskResponse { response: task_response::COMPLETE, itt: abort.itt, window: window(100) };
    core.receive(Pdu::bare(done)).unwrap();
    assert_eq!(core.finished(), Some((2, Outcome::Aborted)));
    core.abort(1);
    let Header::TaskRequest(abort) = drain(&mut core).remove(0).header else { panic!() };
    let refused =
        TaskResponse { response: task_response::NOT_SUPPORTED, itt: abort.itt, window: window(101) };
    assert!(core.receive(Pdu::bare(refused)).is_err());
}

#[test]
fn a_target_that_asks_for_a_logout_gets_it_when_the_commands_have_ended() {
    let mut core = core(limits());
    for token in 0..6 {
        write(&mut core, token, 512);
    }
    assert_eq!(drain(&mut core).len(), 4);
    let asks =
        Async { event: async_event::LOGOUT_REQUEST, parameter3: 7, window: window(100), ..Async::default() };
    assert_eq!(core.receive(Pdu::bare(asks)), Ok(Event::LogoutAsked(7)));
    for tag in 1..=4 {
        assert_eq!(drain(&mut core), []);
        core.receive(status(tag, 100 + tag, 0)).unwrap();
    }
    let sent = drain(&mut core);
    let Header::LogoutRequest(logout) = &sent[0].header else { panic!() };
    assert_eq!((sent.len(), logout.reason), (1, logout_reason::CLOSE_SESSION));
    let bye = LogoutResponse { itt: logout.itt, window: window(105), ..LogoutResponse::default() };
    assert_eq!(core.receive(Pdu::bare(bye)), Ok(Event::LoggedOut));
}

#[test]
fn the_other_messages_of_a_target_have_their_ends() {
    let mut core = core(limits());
    write(&mut core, 1, 512);
    write(&mut core, 2, 512);
    write(&mut core, 3, 512);
    let sent = drain(&mut core);
    let mut header = [0; 48];
    let head = sent[0].head(Default::default()).unwrap();
    header.copy_from_slice(&head);
    let reject = |reason| Reject { reason, window: window(100), data_sn: 0 };
    core.receive(Pdu::with(reject(reject_reason::DATA_DIGEST), header.to_vec())).unwrap();
    assert_eq!(core.finished(), None, "the target will ask again");
    core.receive(Pdu::with(reject(reject_reason::OUT_OF_RESOURCES), header.to_vec())).unwrap();
    assert_eq!(core.finished(), Some((1, Outcome::Rejected(reject_reason::OUT_OF_RESOURCES))));
    let failure = ScsiResponse { itt: 2, response: 1, window: window(101), ..ScsiResponse::default() };
    core.receive(Pdu::bare(failure)).unwrap();
    assert_eq!(core.finished(), Some((2, Outcome::TargetFailure(1))));
    let ended =
        Async { lun: LUN, event: async_event::TASKS_TERMINATED, window: window(102), ..Async::default() };
    core.receive(Pdu::bare(ended)).unwrap();
    assert_eq!(core.finished(), Some((3, Outcome::Terminated)));
    let drop = Async { event: async_event::CONNECTION_DROP, parameter2: 3, ..Async::default() };
    assert_eq!(core.receive(Pdu::bare(drop)), Ok(Event::Dropped(3)));
    assert!(core.receive(Pdu::with(reject(reject_reason::PROTOCOL), header.to_vec())).is_err());
}

#[test]
fn late_answers_do_no_harm() {
    let mut core = core(limits());
    for pdu in [status(99, 100, 0), r2t(99, 0, 0, 512), data_in(99, 0, 0, data(5), Some(0))] {
        assert_eq!(core.receive(pdu), Ok(Event::Nothing));
    }
    assert_eq!(core.finished(), None);
}

#[test]
fn the_sequence_numbers_wrap() {
    let established =
        Established { limits: limits(), cmd_sn: u32::MAX, max_cmd_sn: 1, exp_stat_sn: u32::MAX };
    let mut core = Core::new(established, 4);
    core.next_tag = NO_TAG;
    for token in 0..3 {
        write(&mut core, token, 512);
    }
    let sent = drain(&mut core);
    assert_eq!(sent.iter().map(|pdu| command(pdu).cmd_sn).collect::<Vec<_>>(), [u32::MAX, 0, 1]);
    assert_eq!(sent.iter().map(|pdu| command(pdu).itt).collect::<Vec<_>>(), [1, 2, 3]);
    let window = Window { stat_sn: u32::MAX, exp_cmd_sn: 0, max_cmd_sn: 3 };
    core.receive(Pdu::bare(ScsiResponse { itt: 1, window, ..ScsiResponse::default() })).unwrap();
    assert_eq!((core.exp_stat_sn, core.max_cmd_sn), (0, 3));
}

proptest! {
    /// Whatever a target sends: no panic, no data beyond a command's, every command ends at most once.
    #[test]
    fn nothing_that_a_target_sends_breaks_the_session(
        pdus in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 48), 0_u8..12, 0_u32..6, prop::collection::vec(any::<u8>(), 0..600)),
            1..60,
        ),
        initial_r2t in any::<bool>(),
        in_order in any::<bool>(),
    ) {
        let in_order = Limits { data_pdu_in_order: in_order, data_sequence_in_order: in_order, ..limits() };
        let mut core = core(Limits { initial_r2t, ..in_order });
        for token in 0..3 {
            write(&mut core, token, 9000);
            core.submit(10 + token, LUN, Command::read_16(0, 2, 512));
        }
        let opcodes = [0x20, 0x21, 0x22, 0x25, 0x25, 0x25, 0x26, 0x31, 0x31, 0x31, 0x32, 0x3F];
        let mut ends = Vec::new();
        for (mut bhs, which, tag, segment) in pdus {
            for pdu in drain(&mut core) {
                if let Header::DataOut(header) = &pdu.header {
                    prop_assert!(header.buffer_offset as usize + pdu.data.len() <= 9000);
                }
            }
            bhs[0] = opcodes[usize::from(which)];
            bhs[4..8].fill(0);
            bhs[16..20].copy_from_slice(&tag.to_be_bytes());
            if which > 2 && segment.len() % 2 == 0 {
                // make many of them plausible
                bhs[36..48].fill(0);
                bhs[46] = 2;
            }
            let (mut pdu, _) = Pdu::decode(&bhs, Default::default(), 0).unwrap().unwrap();
            pdu.data = segment.into();
            let broken = core.receive(pdu).is_err();
            ends.extend(std::iter::from_fn(|| core.finished()).map(|(token, _)| token));
            if broken {
                break;
            }
        }
        let count = ends.len();
        ends.sort_unstable();
        ends.dedup();
        prop_assert_eq!(ends.len(), count);
    }
}

#[test]
fn signs_of_life_are_no_progress_of_a_command() {
    let mut core = core(limits());
    write(&mut core, 7, 20000);
    assert_eq!(command(&drain(&mut core)[0]).itt, 1);
    assert_eq!(
        core.receive(Pdu::bare(NopIn { itt: NO_TAG, ttt: NO_TAG, ..NopIn::default() })),
        Ok(Event::Nothing)
    );
    assert_eq!(core.receive(r2t(1, 0, 4096, 512)), Ok(Event::Progress));
}
