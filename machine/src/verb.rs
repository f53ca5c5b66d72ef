//! The verbs of `PUT /v1/nodes/{id}/states/provision` (states.md §2).

use crate::table::{Row, row};
use crate::wire::wire_enum;
use crate::{Event, State};

wire_enum! {
    /// What a client asks of a node. `Active`/`Deploy` and `Deleted`/`Undeploy` are aliases on the wire.
    Verb, "provision verb" {
        /// Make manageable.
        Manage = "manage",
        /// Make available.
        Provide = "provide",
        /// Inspect the hardware.
        Inspect = "inspect",
        /// Run clean steps.
        Clean = "clean",
        /// Deploy the image of `instance_info`.
        Active = "active",
        /// Alias of `Active` (1.73).
        Deploy = "deploy",
        /// Deploy again, keeping `instance_info`.
        Rebuild = "rebuild",
        /// Tear the instance down.
        Deleted = "deleted",
        /// Alias of `Deleted` (1.73).
        Undeploy = "undeploy",
        /// Take over a running instance.
        Adopt = "adopt",
        /// Boot the rescue ramdisk.
        Rescue = "rescue",
        /// Boot the instance again.
        Unrescue = "unrescue",
        /// Stop what runs.
        Abort = "abort",
        /// Go on after a hold.
        Unhold = "unhold",
        /// Run service steps on an active node.
        Service = "service",
    }
}

/// The microversion that lets a client use a verb (microversions.md, "Gated verbs"). Below it: 406.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The minor number; 1 where there is no gate.
    pub minor: u16,
    /// True where an action that is impossible in the node's state is reported before an old microversion is.
    pub after_state_check: bool,
}

impl Verb {
    /// The event that the verb fires.
    #[must_use]
    pub const fn event(self) -> Event {
        match self {
            Verb::Manage => Event::Manage,
            Verb::Provide => Event::Provide,
            Verb::Inspect => Event::Inspect,
            Verb::Clean => Event::Clean,
            Verb::Active | Verb::Deploy => Event::Deploy,
            Verb::Rebuild => Event::Rebuild,
            Verb::Deleted | Verb::Undeploy => Event::Delete,
            Verb::Adopt => Event::Adopt,
            Verb::Rescue => Event::Rescue,
            Verb::Unrescue => Event::Unrescue,
            Verb::Abort => Event::Abort,
            Verb::Unhold => Event::Unhold,
            Verb::Service => Event::Service,
        }
    }

    /// The minor microversion that knows the verb at all.
    #[must_use]
    pub const fn minor(self) -> u16 {
        match self {
            Verb::Active | Verb::Rebuild | Verb::Deleted | Verb::Undeploy => 1,
            Verb::Manage | Verb::Provide => 4,
            Verb::Inspect => 6,
            Verb::Abort => 13,
            Verb::Clean => 15,
            Verb::Adopt => 17,
            Verb::Rescue | Verb::Unrescue => 38,
            Verb::Deploy => 73,
            Verb::Unhold => 85,
            Verb::Service => 87,
        }
    }

    /// The gate to check before the state of the node is looked at; `None` where it comes after.
    #[must_use]
    pub const fn gate_before(self) -> Option<u16> {
        let gate = self.gate();
        if gate.after_state_check { None } else { Some(gate.minor) }
    }

    /// The gate to check once the verb proved legal in `state`. Aborting became possible state by state.
    #[must_use]
    pub const fn gate_after(self, state: State) -> Option<u16> {
        match (self, state) {
            (Verb::Abort, State::InspectWait) => Some(41),
            (Verb::Abort, State::DeployWait) => Some(110),
            _ => {
                let gate = self.gate();
                if gate.after_state_check { Some(gate.minor) } else { None }
            }
        }
    }

    /// The gate and when it is checked.
    #[must_use]
    pub const fn gate(self) -> Gate {
        Gate { minor: self.minor(), after_state_check: matches!(self, Verb::Unhold | Verb::Service) }
    }

    /// The row that the verb asks for in `state`, by the state alone; `None` where it is illegal. While the conductor
    /// works, nobody is asked: the rows that fire `manage` in `cleaning` and `clean` in `deleting` are the
    /// conductor's own.
    #[must_use]
    pub fn row_in(self, state: State) -> Option<&'static Row> {
        row(state, self.event()).filter(|_| !state.stuck_as_fail())
    }

    /// The verb that an alias stands for: one entry per thing that can be asked.
    #[must_use]
    pub const fn canonical(self) -> Verb {
        match self {
            Verb::Active | Verb::Deploy => Verb::Active,
            Verb::Deleted | Verb::Undeploy => Verb::Deleted,
            Verb::Manage | Verb::Provide | Verb::Inspect | Verb::Clean | Verb::Rebuild | Verb::Adopt => self,
            Verb::Rescue | Verb::Unrescue | Verb::Abort | Verb::Unhold | Verb::Service => self,
        }
    }
}
