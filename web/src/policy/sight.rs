//! How much of a node a caller sees. Answers about nodes are kept for callers who see the same: what decides how a
//! node looks must be a [`Part`], and nothing else may be asked while one is written out.

use crate::context::Context;
use crate::policy::{Rule, Target};

/// A part of a node that not every caller sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// How the hardware is reached, secrets left out.
    DriverInfo,
    /// What the conductor keeps, secrets left out.
    DriverInternalInfo,
    /// What went wrong last.
    LastError,
    /// Who holds the node.
    Reservation,
    /// The secrets in how the hardware is reached and in what the conductor keeps.
    Passwords,
    /// The secrets in what is to be deployed.
    InstanceSecrets,
}

impl Part {
    /// All of them.
    const ALL: [Part; 6] = [
        Part::DriverInfo,
        Part::DriverInternalInfo,
        Part::LastError,
        Part::Reservation,
        Part::Passwords,
        Part::InstanceSecrets,
    ];
}

/// What a caller sees of one node, by its [`Part`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight(u8);

impl Context {
    /// Whether the caller sees that part of a node.
    pub(crate) fn sees(&self, part: Part, node: Target<'_>) -> bool {
        // who may see everything is asked one question and not one for each
        let open = |rule| self.may(Rule::NodeGetFilterThreshold, node) || self.may(rule, node);
        match part {
            Part::DriverInfo => open(Rule::NodeGetDriverInfo),
            Part::DriverInternalInfo => open(Rule::NodeGetDriverInternalInfo),
            Part::LastError => open(Rule::NodeGetLastError),
            Part::Reservation => open(Rule::NodeGetReservation),
            Part::Passwords => self.may_see_secrets(Rule::ShowPassword, node),
            Part::InstanceSecrets => self.may_see_secrets(Rule::ShowInstanceSecrets, node),
        }
    }

    /// All that the caller sees of a node; `None` when for this caller there is no such node.
    pub(crate) fn sight(&self, node: Target<'_>) -> Option<Sight> {
        if !self.may(Rule::NodeGet, node) {
            return None;
        }
        let all =
            Part::ALL.iter().fold(0, |all, part| all | u8::from(self.sees(*part, node)) << (*part as u8));
        Some(Sight(all))
    }
}
