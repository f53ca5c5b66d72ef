//! What is to be done about the end of a command.

use bytes::Bytes;

use super::engine::Outcome;
use super::error::IscsiError;
use super::pdu::reject_reason;
use super::scsi::{Command, Sense, Transfer, key, status};

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reaction {
    /// It is done.
    Done(Bytes),
    /// Send it again at once; this if it never helps.
    Again(IscsiError),
    /// Send it again after a pause; this if it takes too long.
    Later(IscsiError),
    /// Give up.
    Fail(IscsiError),
}

/// What to do about `outcome`.
pub(super) fn reaction(command: &Command, outcome: Outcome) -> Reaction {
    let failed = |reason: String| IscsiError::Failed { command: command.name, reason };
    let busy = |reason: &str| Reaction::Later(IscsiError::Busy(reason.to_owned()));
    match outcome {
        Outcome::Good(data) => Reaction::Done(data),
        Outcome::Check(sense) => check(command, sense),
        Outcome::Status(status::BUSY) => busy("BUSY"),
        Outcome::Status(status::TASK_SET_FULL) => busy("TASK SET FULL"),
        Outcome::Status(status::TASK_ABORTED) => busy("TASK ABORTED"),
        Outcome::Status(status::RESERVATION_CONFLICT) => Reaction::Fail(IscsiError::Reserved),
        Outcome::Status(code) => Reaction::Fail(failed(format!("SCSI status {code:#04x}"))),
        Outcome::Short => {
            Reaction::Fail(IscsiError::Protocol("a write ended well without all of its data".into()))
        }
        Outcome::TargetFailure(code) => Reaction::Later(failed(format!("target failure {code:#04x}"))),
        Outcome::Rejected(
            reject_reason::OUT_OF_RESOURCES
            | reject_reason::TOO_MANY_IMMEDIATE
            | reject_reason::TASK_IN_PROGRESS
            | reject_reason::WAITING_FOR_LOGOUT,
        ) => busy("the target rejects commands for now"),
        Outcome::Rejected(code) => Reaction::Fail(failed(format!("rejected with reason {code:#04x}"))),
        Outcome::Aborted | Outcome::Terminated => busy("commands are terminated"),
    }
}

fn check(command: &Command, sense: Sense) -> Reaction {
    let failed = IscsiError::Failed { command: command.name, reason: sense.to_string() };
    match (sense.key, sense.asc) {
        // done, after a repair; what was read came with another status and is not at hand
        (key::NO_SENSE | key::RECOVERED, _) => match command.transfer {
            Transfer::Read(_) => Reaction::Again(failed),
            Transfer::None | Transfer::Write(_) => Reaction::Done(Bytes::new()),
        },
        (key::UNIT_ATTENTION, _) => Reaction::Again(failed),
        (_, (0x3A, _)) => Reaction::Fail(failed),
        (key::NOT_READY, _) => Reaction::Later(IscsiError::Busy(sense.to_string())),
        (key::ABORTED_COMMAND, _) => Reaction::Later(failed),
        (_, (0x27, 0x07)) | (key::VOLUME_OVERFLOW, _) => Reaction::Fail(IscsiError::Full),
        (key::DATA_PROTECT, (0x27, _)) => Reaction::Fail(IscsiError::ReadOnly),
        (key::MEDIUM_ERROR | key::HARDWARE_ERROR, _) => {
            Reaction::Fail(IscsiError::Medium { lba: sense.lba, reason: sense.to_string() })
        }
        (key::ILLEGAL_REQUEST, _) => Reaction::Fail(IscsiError::Illegal { command: command.name, sense }),
        _ => Reaction::Fail(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(outcome: Outcome) -> Reaction {
        reaction(&Command::write_16(0, 1, Bytes::from(vec![0; 512])), outcome)
    }

    fn sensed(key: u8, asc: (u8, u8)) -> Reaction {
        after(Outcome::Check(Sense { key, asc, lba: Some(77) }))
    }

    #[test]
    fn what_passes_is_sent_again() {
        assert!(matches!(sensed(key::UNIT_ATTENTION, (0x29, 0)), Reaction::Again(_)));
        for reaction in [
            after(Outcome::Status(status::BUSY)),
            after(Outcome::Status(status::TASK_SET_FULL)),
            after(Outcome::Rejected(reject_reason::OUT_OF_RESOURCES)),
            after(Outcome::Terminated),
            sensed(key::NOT_READY, (4, 1)),
            sensed(key::ABORTED_COMMAND, (0x47, 3)),
        ] {
            assert!(matches!(&reaction, Reaction::Later(_)), "{reaction:?}");
        }
        assert_eq!(sensed(key::RECOVERED, (0x0C, 1)), Reaction::Done(Bytes::new()));
        let read = reaction(
            &Command::read_16(0, 1, 512),
            Outcome::Check(Sense { key: key::RECOVERED, ..Sense::default() }),
        );
        assert!(matches!(read, Reaction::Again(_)), "the data of a read is needed");
    }

    #[test]
    fn what_stays_is_told_with_what_to_do() {
        let Reaction::Fail(error) = sensed(key::MEDIUM_ERROR, (0x0C, 2)) else { panic!() };
        let text = "the disk fails at block 77: medium error 3h/0Ch/02h, write error at block 77: replace the disk, \
                    or name another in properties.root_device";
        assert_eq!(error.to_string(), text);
        assert_eq!(sensed(key::DATA_PROTECT, (0x27, 7)), Reaction::Fail(IscsiError::Full));
        assert_eq!(sensed(key::DATA_PROTECT, (0x27, 0)), Reaction::Fail(IscsiError::ReadOnly));
        let conflict = after(Outcome::Status(status::RESERVATION_CONFLICT));
        assert_eq!(conflict, Reaction::Fail(IscsiError::Reserved));
        assert!(matches!(after(Outcome::Short), Reaction::Fail(IscsiError::Protocol(_))));
        let illegal = sensed(key::ILLEGAL_REQUEST, (0x20, 0));
        assert!(matches!(illegal, Reaction::Fail(IscsiError::Illegal { .. })));
    }
}
