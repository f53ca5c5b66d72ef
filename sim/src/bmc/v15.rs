//! Sessions of IPMI 1.5, as a BMC opens them.

use std::time::Instant;

use ferric_drivers::Secret;
use ferric_drivers::protocol::ipmi::packet::Frame;
use ferric_drivers::protocol::ipmi::v15::{ACTIVATE_SESSION, Authentication, Packet, Session, encode};

use super::core::{APP, Answers, BmcCore, Live, MAX_PENDING, Open, SESSION_TIMEOUT, USER, random};

/// An attempt to open a session.
pub(super) struct Challenge {
    kind: Authentication,
    id: u32,
    text: [u8; 16],
}

impl BmcCore {
    /// Get Session Challenge.
    pub(super) fn challenge(&mut self, request: &Frame) -> Option<Frame> {
        let (kind, user) = request.message.data().split_first()?;
        let kind = Authentication::from_number(kind & 0x0F)
            .filter(|kind| self.config.personality.old.contains(kind));
        let Some(kind) = kind else { return Some(request.response(0xCC, &[])) };
        let mut wanted = self.config.user.clone().into_bytes();
        wanted.resize(16, 0);
        if user != wanted {
            return Some(request.response(0x81, &[]));
        }
        let (id, text) = (u32::from_le_bytes(random()?).max(1), random::<16>()?);
        if self.challenges.len() == MAX_PENDING {
            self.challenges.pop_front();
        }
        self.challenges.push_back(Challenge { kind, id, text });
        Some(request.response(0, &[&id.to_le_bytes()[..], &text].concat()))
    }

    /// A packet that bears a session id.
    pub(super) fn old(&mut self, now: Instant, packet: &Packet<'_>, wrong_password: bool) -> Answers {
        let Some(live) = self.sessions.get_mut(&packet.session_id) else {
            return self.activate(now, packet, wrong_password);
        };
        let Open::Old(session) = &mut live.session else { return None };
        if packet.sequence == 0 {
            return Some((live.opening.clone(), None));
        }
        let request = Frame::decode(session.open(packet).ok()?).ok()?;
        self.inside(now, packet.session_id, &request)
    }

    /// Activate Session.
    fn activate(&mut self, now: Instant, packet: &Packet<'_>, wrong_password: bool) -> Answers {
        let at = self.challenges.iter().position(|one| one.id == packet.session_id)?;
        let password = self.password(wrong_password);
        let request = Frame::decode(packet.frame).ok()?;
        let number = (request.message.netfn_raw(), request.message.cmd());
        // what is not authentic is ignored
        let ours = packet.authentication == self.challenges[at].kind && packet.is_of(&password);
        if number != (APP, ACTIVATE_SESSION) || !ours {
            return None;
        }
        let Challenge { kind, id, text } = self.challenges.remove(at)?;
        let sign = |frame: Frame| encode(kind, &password, id, 0, &frame.encode());
        let answer = |frame: Frame| Some((sign(frame)?, None));
        let &[_, level, ref rest @ ..] = request.message.data() else {
            return answer(request.response(0xC7, &[]));
        };
        let begin = rest.get(16..20).and_then(|bytes| bytes.first_chunk::<4>());
        let (Some(begin), true) = (begin, rest.starts_with(&text)) else {
            return answer(request.response(0xCC, &[]));
        };
        let level = level & 0x0F;
        if level > self.config.max_level {
            return answer(request.response(0x86, &[]));
        }
        self.sessions.retain(|_, live| now.duration_since(live.used) < SESSION_TIMEOUT);
        if self.sessions.len() >= self.config.max_sessions {
            self.stats.full += 1;
            return answer(request.response(0x81, &[]));
        }
        let rest = if self.config.personality.unsigned { Authentication::None } else { kind };
        let expected = u32::from_le_bytes(random()?).max(1);
        let mut told = vec![rest.number()];
        told.extend(id.to_le_bytes());
        told.extend(expected.to_le_bytes());
        told.push(level);
        let opening = sign(request.response(0, &told))?;
        let begin = u32::from_le_bytes(*begin);
        let session = Session::new(rest, Secret::new(password.clone()), id, begin, expected);
        let live = Live {
            session: Open::Old(session),
            level: level.min(USER),
            max_level: level,
            used: now,
            last: None,
            opening: opening.clone(),
        };
        self.sessions.insert(id, live);
        self.stats.opened += 1;
        self.stats.suite = None;
        Some((opening, None))
    }
}
