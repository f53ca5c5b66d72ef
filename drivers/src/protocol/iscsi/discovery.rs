//! What a portal has: SendTargets, RFC 7143 Appendix C.

use tokio::time::timeout;

use super::chap::Chap;
use super::error::IscsiError;
use super::login::{LoginConfig, portal};
use super::pdu::{Header, LogoutRequest, NO_TAG, NopOut, Pdu, TextRequest, TextResponse, logout_reason};
use super::settings::IscsiSettings;
use super::text::{self, Collector, Pair};
use super::wire::{Wire, isid, random};

/// A target that a portal knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// Its name.
    pub iqn: String,
    /// Where it is to be had: host and port. Empty: at the portal that was asked.
    pub portals: Vec<(String, u16)>,
}

/// Asks the portal for all of its targets.
/// Errors: as a login's; the target's if its answer makes no sense.
pub async fn discover(
    address: &str,
    port: u16,
    chap: Option<Chap>,
    settings: &IscsiSettings,
) -> Result<Vec<Discovered>, IscsiError> {
    let config = LoginConfig {
        initiator: settings.initiator.clone(),
        target: None,
        isid: isid(),
        chap,
        challenge: random(),
        offer: settings.offer,
    };
    let (mut wire, established) = Wire::open(address, port, &config, settings).await?;
    let mut query = SendTargets::new(established.cmd_sn, established.exp_stat_sn);
    let mut request = query.start();
    let found = loop {
        let answer = wire.exchange(&request, settings.login_timeout).await?;
        match query.receive(&answer)? {
            Ask::More(next) => request = next,
            Ask::Done(pairs) => break targets(&pairs),
        }
    };
    // a good-bye that is not heard does no harm: the connection closes
    let _ = timeout(settings.goodbye, wire.exchange(&query.goodbye(), settings.goodbye)).await;
    Ok(found)
}

enum Ask {
    More(Pdu),
    Done(Vec<Pair>),
}

/// The exchange without I/O.
struct SendTargets {
    cmd_sn: u32,
    exp_stat_sn: u32,
    collector: Collector,
}

impl SendTargets {
    fn new(cmd_sn: u32, exp_stat_sn: u32) -> Self {
        Self { cmd_sn, exp_stat_sn, collector: Collector::default() }
    }

    fn start(&mut self) -> Pdu {
        self.request(NO_TAG, &[("SendTargets", "All")])
    }

    fn request(&mut self, ttt: u32, pairs: &[(&str, &str)]) -> Pdu {
        let (cmd_sn, exp_stat_sn) = (self.cmd_sn, self.exp_stat_sn);
        self.cmd_sn = cmd_sn.wrapping_add(1);
        let header = TextRequest { last: true, itt: 1, ttt, cmd_sn, exp_stat_sn, ..TextRequest::default() };
        Pdu::with(header, text::encode(pairs))
    }

    fn receive(&mut self, pdu: &Pdu) -> Result<Ask, IscsiError> {
        if let Header::NopIn(nop) = &pdu.header {
            let (cmd_sn, exp_stat_sn) = (self.cmd_sn, self.exp_stat_sn);
            let answer =
                NopOut { immediate: true, lun: nop.lun, itt: NO_TAG, ttt: nop.ttt, cmd_sn, exp_stat_sn };
            return Ok(Ask::More(Pdu::bare(answer)));
        }
        let Header::TextResponse(TextResponse { last, more, ttt, window, .. }) = &pdu.header else {
            return Err(IscsiError::Protocol("another PDU than a text response".to_owned()));
        };
        self.exp_stat_sn = window.stat_sn.wrapping_add(1);
        let bad = |error: text::TextError| IscsiError::Protocol(error.to_string());
        match self.collector.add(&pdu.data, *more || !*last).map_err(bad)? {
            Some(pairs) => Ok(Ask::Done(pairs)),
            None if *ttt == NO_TAG => {
                Err(IscsiError::Protocol("a text that goes on without a tag".to_owned()))
            }
            None => Ok(Ask::More(self.request(*ttt, &[]))),
        }
    }

    fn goodbye(&self) -> Pdu {
        let (cmd_sn, exp_stat_sn) = (self.cmd_sn, self.exp_stat_sn);
        let reason = logout_reason::CLOSE_SESSION;
        Pdu::bare(LogoutRequest { immediate: true, reason, itt: 2, cid: 0, cmd_sn, exp_stat_sn })
    }
}

fn targets(pairs: &[Pair]) -> Vec<Discovered> {
    let mut found: Vec<Discovered> = Vec::new();
    for (key, value) in pairs {
        match (key.as_str(), found.last_mut()) {
            ("TargetName", _) => found.push(Discovered { iqn: value.clone(), portals: Vec::new() }),
            ("TargetAddress", Some(target)) => target.portals.extend(portal(value)),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::pdu::Window;
    use super::*;

    fn answer(data: &[u8], more: bool) -> Pdu {
        let window = Window { stat_sn: 9, exp_cmd_sn: 2, max_cmd_sn: 9 };
        let ttt = if more { 77 } else { NO_TAG };
        Pdu::with(
            TextResponse { last: !more, more, itt: 1, ttt, window, ..TextResponse::default() },
            data.to_vec(),
        )
    }

    #[test]
    fn targets_come_with_their_portals_in_as_many_pieces_as_it_takes() {
        let mut query = SendTargets::new(1, 5);
        query.start();
        let Ok(Ask::More(next)) = query.receive(&answer(b"TargetName=iqn.a\0TargetAddr", true)) else {
            panic!()
        };
        let Header::TextRequest(request) = &next.header else { panic!() };
        assert_eq!((request.ttt, request.cmd_sn, request.exp_stat_sn), (77, 2, 10));
        let rest = b"ess=[2001:db8::1]:3261,1\0TargetAddress=10.0.0.1,1\0TargetName=iqn.b\0";
        let Ok(Ask::Done(pairs)) = query.receive(&answer(rest, false)) else { panic!() };
        let portals = vec![("2001:db8::1".to_owned(), 3261), ("10.0.0.1".to_owned(), 3260)];
        let expected = [
            Discovered { iqn: "iqn.a".to_owned(), portals },
            Discovered { iqn: "iqn.b".to_owned(), portals: Vec::new() },
        ];
        assert_eq!(targets(&pairs), expected);
    }

    #[test]
    fn a_list_without_end_is_refused() {
        let mut query = SendTargets::new(1, 5);
        query.start();
        let ended = (0..200).map(|_| query.receive(&answer(&[b'a'; 8192], true))).find(Result::is_err);
        assert!(ended.is_some());
    }
}
