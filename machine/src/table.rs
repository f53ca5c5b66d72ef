//! The state machine, one row per transition (states.md §1). Reading it is reading the specification.

use crate::wire::wire_enum;
use crate::{Event, State};

use self::Work as W;
use crate::Event as E;
use crate::State as S;

wire_enum! {
    /// What is to be started once a transition is committed. Where one word serves several kinds of work
    /// (`Continue`, `CleanUp`), the state that was left tells which.
    Work, "work" {
        /// Nothing: the state itself is all.
        None = "none",
        /// Try the BMC's credentials, then `Done` or `Fail`.
        Verify = "verify",
        /// Deploy; with `Event::Rebuild`, keeping what `preserve_ephemeral` names.
        Deploy = "deploy",
        /// Take the instance away, then `Clean` or `Fail`.
        TearDown = "tear down",
        /// Clean: automated when the target is `available`, the operator's steps when it is `manageable`.
        Clean = "clean",
        /// Inspect the hardware.
        Inspect = "inspect",
        /// Take over a running instance.
        Adopt = "adopt",
        /// Boot the rescue ramdisk.
        Rescue = "rescue",
        /// Boot the instance again.
        Unrescue = "unrescue",
        /// Run service steps.
        Service = "service",
        /// Go on after the step that waited or held. In a wait state (after `Unhold`) fire `Resume` first.
        Continue = "continue",
        /// The work failed or timed out: take away what it laid out (ramdisk files, networks), power off
        /// where the configuration asks for it. Its own failure changes no state; after a rescue it brings
        /// maintenance and `Fault::RescueAbortFailure`.
        CleanUp = "clean up",
        /// Clean up a deployment that the operator aborted. No power-off of its own, no cleaning.
        AbortDeploy = "abort deploy",
        /// Tear the cleaning down.
        AbortClean = "abort clean",
        /// Stop the inspection.
        AbortInspect = "abort inspect",
        /// Clean the rescue up; when that fails: maintenance and `Fault::RescueAbortFailure`.
        AbortRescue = "abort rescue",
        /// Power off if the agent was used, tear the service down, boot the instance again.
        AbortService = "abort service",
    }
}

impl Work {
    /// Whether this begins something new, as opposed to going on with or ending what was begun. Beginning
    /// clears `last_error`.
    #[must_use]
    pub const fn begins(self) -> bool {
        match self {
            W::Verify | W::Deploy | W::TearDown | W::Clean | W::Inspect => true,
            W::Adopt | W::Rescue | W::Unrescue | W::Service => true,
            W::None | W::Continue | W::CleanUp => false,
            W::AbortDeploy | W::AbortClean | W::AbortInspect | W::AbortRescue | W::AbortService => false,
        }
    }
}

/// One transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The state that is left.
    pub from: State,
    /// What happened.
    pub on: Event,
    /// The state that is entered.
    pub to: State,
    /// What to start after the commit.
    pub work: Work,
}

/// Every transition there is.
pub static TABLE: &[Row] = ROWS;

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // enroll
    Row { from: S::Enroll,          on: E::Manage,    to: S::Verifying,       work: W::Verify       },
    // manageable
    Row { from: S::Manageable,      on: E::Provide,   to: S::Cleaning,        work: W::Clean        },
    Row { from: S::Manageable,      on: E::Clean,     to: S::Cleaning,        work: W::Clean        },
    Row { from: S::Manageable,      on: E::Inspect,   to: S::Inspecting,      work: W::Inspect      },
    Row { from: S::Manageable,      on: E::Adopt,     to: S::Adopting,        work: W::Adopt        },
    // available
    Row { from: S::Available,       on: E::Deploy,    to: S::Deploying,       work: W::Deploy       },
    Row { from: S::Available,       on: E::Manage,    to: S::Manageable,      work: W::None         },
    // active
    Row { from: S::Active,          on: E::Rebuild,   to: S::Deploying,       work: W::Deploy       },
    Row { from: S::Active,          on: E::Delete,    to: S::Deleting,        work: W::TearDown     },
    Row { from: S::Active,          on: E::Rescue,    to: S::Rescuing,        work: W::Rescue       },
    Row { from: S::Active,          on: E::Service,   to: S::Servicing,       work: W::Service      },
    // error
    Row { from: S::Error,           on: E::Rebuild,   to: S::Deploying,       work: W::Deploy       },
    Row { from: S::Error,           on: E::Delete,    to: S::Deleting,        work: W::TearDown     },
    // rescue
    Row { from: S::Rescue,          on: E::Rescue,    to: S::Rescuing,        work: W::Rescue       },
    Row { from: S::Rescue,          on: E::Delete,    to: S::Deleting,        work: W::TearDown     },
    Row { from: S::Rescue,          on: E::Unrescue,  to: S::Unrescuing,      work: W::Unrescue     },
    // verifying
    Row { from: S::Verifying,       on: E::Done,      to: S::Manageable,      work: W::None         },
    Row { from: S::Verifying,       on: E::Fail,      to: S::Enroll,          work: W::None         },
    // deploying
    Row { from: S::Deploying,       on: E::Fail,      to: S::DeployFailed,    work: W::CleanUp      },
    Row { from: S::Deploying,       on: E::Wait,      to: S::DeployWait,      work: W::None         },
    Row { from: S::Deploying,       on: E::Hold,      to: S::DeployHold,      work: W::None         },
    Row { from: S::Deploying,       on: E::Done,      to: S::Active,          work: W::None         },
    // wait call-back
    Row { from: S::DeployWait,      on: E::Hold,      to: S::DeployHold,      work: W::None         },
    Row { from: S::DeployWait,      on: E::Resume,    to: S::Deploying,       work: W::Continue     },
    Row { from: S::DeployWait,      on: E::Fail,      to: S::DeployFailed,    work: W::CleanUp      },
    Row { from: S::DeployWait,      on: E::Abort,     to: S::DeployFailed,    work: W::AbortDeploy  },
    Row { from: S::DeployWait,      on: E::Delete,    to: S::Deleting,        work: W::TearDown     },
    // deploy failed
    Row { from: S::DeployFailed,    on: E::Rebuild,   to: S::Deploying,       work: W::Deploy       },
    Row { from: S::DeployFailed,    on: E::Deploy,    to: S::Deploying,       work: W::Deploy       },
    Row { from: S::DeployFailed,    on: E::Delete,    to: S::Deleting,        work: W::TearDown     },
    // deploy hold
    Row { from: S::DeployHold,      on: E::Unhold,    to: S::DeployWait,      work: W::None         },
    Row { from: S::DeployHold,      on: E::Abort,     to: S::DeployFailed,    work: W::AbortDeploy  },
    // cleaning
    Row { from: S::Cleaning,        on: E::Done,      to: S::Available,       work: W::None         },
    Row { from: S::Cleaning,        on: E::Fail,      to: S::CleanFailed,     work: W::CleanUp      },
    Row { from: S::Cleaning,        on: E::Wait,      to: S::CleanWait,       work: W::None         },
    Row { from: S::Cleaning,        on: E::Hold,      to: S::CleanHold,       work: W::None         },
    Row { from: S::Cleaning,        on: E::Manage,    to: S::Manageable,      work: W::None         },
    // clean wait
    Row { from: S::CleanWait,       on: E::Fail,      to: S::CleanFailed,     work: W::CleanUp      },
    Row { from: S::CleanWait,       on: E::Abort,     to: S::CleanFailed,     work: W::AbortClean   },
    Row { from: S::CleanWait,       on: E::Hold,      to: S::CleanHold,       work: W::None         },
    Row { from: S::CleanWait,       on: E::Resume,    to: S::Cleaning,        work: W::Continue     },
    // clean failed
    Row { from: S::CleanFailed,     on: E::Manage,    to: S::Manageable,      work: W::None         },
    // clean hold
    Row { from: S::CleanHold,       on: E::Abort,     to: S::CleanFailed,     work: W::AbortClean   },
    Row { from: S::CleanHold,       on: E::Unhold,    to: S::CleanWait,       work: W::None         },
    // deleting
    Row { from: S::Deleting,        on: E::Fail,      to: S::Error,           work: W::None         },
    Row { from: S::Deleting,        on: E::Clean,     to: S::Cleaning,        work: W::Clean        },
    // inspecting
    Row { from: S::Inspecting,      on: E::Done,      to: S::Manageable,      work: W::None         },
    Row { from: S::Inspecting,      on: E::Fail,      to: S::InspectFailed,   work: W::CleanUp      },
    Row { from: S::Inspecting,      on: E::Wait,      to: S::InspectWait,     work: W::None         },
    // inspect failed
    Row { from: S::InspectFailed,   on: E::Manage,    to: S::Manageable,      work: W::None         },
    Row { from: S::InspectFailed,   on: E::Inspect,   to: S::Inspecting,      work: W::Inspect      },
    // inspect wait
    Row { from: S::InspectWait,     on: E::Done,      to: S::Manageable,      work: W::None         },
    Row { from: S::InspectWait,     on: E::Fail,      to: S::InspectFailed,   work: W::CleanUp      },
    Row { from: S::InspectWait,     on: E::Abort,     to: S::InspectFailed,   work: W::AbortInspect },
    Row { from: S::InspectWait,     on: E::Resume,    to: S::Inspecting,      work: W::Continue     },
    // adopting
    Row { from: S::Adopting,        on: E::Done,      to: S::Active,          work: W::None         },
    Row { from: S::Adopting,        on: E::Fail,      to: S::AdoptFailed,     work: W::None         },
    // adopt failed
    Row { from: S::AdoptFailed,     on: E::Adopt,     to: S::Adopting,        work: W::Adopt        },
    Row { from: S::AdoptFailed,     on: E::Manage,    to: S::Manageable,      work: W::None         },
    // rescuing
    Row { from: S::Rescuing,        on: E::Done,      to: S::Rescue,          work: W::None         },
    Row { from: S::Rescuing,        on: E::Wait,      to: S::RescueWait,      work: W::None         },
    Row { from: S::Rescuing,        on: E::Fail,      to: S::RescueFailed,    work: W::CleanUp      },
    // rescue wait
    Row { from: S::RescueWait,      on: E::Resume,    to: S::Rescuing,        work: W::Continue     },
    Row { from: S::RescueWait,      on: E::Fail,      to: S::RescueFailed,    work: W::CleanUp      },
    Row { from: S::RescueWait,      on: E::Abort,     to: S::RescueFailed,    work: W::AbortRescue  },
    Row { from: S::RescueWait,      on: E::Delete,    to: S::Deleting,        work: W::TearDown     },
    // rescue failed
    Row { from: S::RescueFailed,    on: E::Rescue,    to: S::Rescuing,        work: W::Rescue       },
    Row { from: S::RescueFailed,    on: E::Unrescue,  to: S::Unrescuing,      work: W::Unrescue     },
    Row { from: S::RescueFailed,    on: E::Delete,    to: S::Deleting,        work: W::TearDown     },
    // unrescuing
    Row { from: S::Unrescuing,      on: E::Done,      to: S::Active,          work: W::None         },
    Row { from: S::Unrescuing,      on: E::Fail,      to: S::UnrescueFailed,  work: W::None         },
    // unrescue failed
    Row { from: S::UnrescueFailed,  on: E::Rescue,    to: S::Rescuing,        work: W::Rescue       },
    Row { from: S::UnrescueFailed,  on: E::Unrescue,  to: S::Unrescuing,      work: W::Unrescue     },
    Row { from: S::UnrescueFailed,  on: E::Delete,    to: S::Deleting,        work: W::TearDown     },
    // servicing
    Row { from: S::Servicing,       on: E::Done,      to: S::Active,          work: W::None         },
    Row { from: S::Servicing,       on: E::Fail,      to: S::ServiceFailed,   work: W::CleanUp      },
    Row { from: S::Servicing,       on: E::Wait,      to: S::ServiceWait,     work: W::None         },
    Row { from: S::Servicing,       on: E::Hold,      to: S::ServiceHold,     work: W::None         },
    // service wait
    Row { from: S::ServiceWait,     on: E::Hold,      to: S::ServiceHold,     work: W::None         },
    Row { from: S::ServiceWait,     on: E::Resume,    to: S::Servicing,       work: W::Continue     },
    Row { from: S::ServiceWait,     on: E::Fail,      to: S::ServiceFailed,   work: W::CleanUp      },
    Row { from: S::ServiceWait,     on: E::Abort,     to: S::ServiceFailed,   work: W::CleanUp      },
    Row { from: S::ServiceWait,     on: E::Delete,    to: S::Deleting,        work: W::TearDown     },
    // service failed
    Row { from: S::ServiceFailed,   on: E::Service,   to: S::Servicing,       work: W::Service      },
    Row { from: S::ServiceFailed,   on: E::Rescue,    to: S::Rescuing,        work: W::Rescue       },
    Row { from: S::ServiceFailed,   on: E::Wait,      to: S::ServiceWait,     work: W::None         },
    Row { from: S::ServiceFailed,   on: E::Hold,      to: S::ServiceHold,     work: W::None         },
    Row { from: S::ServiceFailed,   on: E::Delete,    to: S::Deleting,        work: W::TearDown     },
    Row { from: S::ServiceFailed,   on: E::Abort,     to: S::Active,          work: W::AbortService },
    // service hold
    Row { from: S::ServiceHold,     on: E::Service,   to: S::Servicing,       work: W::Service      },
    Row { from: S::ServiceHold,     on: E::Unhold,    to: S::ServiceWait,     work: W::Continue     },
    Row { from: S::ServiceHold,     on: E::Fail,      to: S::ServiceFailed,   work: W::CleanUp      },
    Row { from: S::ServiceHold,     on: E::Abort,     to: S::ServiceFailed,   work: W::CleanUp      },
];

/// The row for `event` in `state`, or `None` when the event is illegal there.
#[must_use]
pub fn row(state: State, event: Event) -> Option<&'static Row> {
    let at = INDEX[state as usize][event as usize];
    (at != ABSENT).then(|| &TABLE[usize::from(at)])
}

const ABSENT: u8 = u8::MAX;
const INDEX: [[u8; Event::ALL.len()]; State::ALL.len()] = index();

/// Computed by the compiler, so that a transition costs one look, and two rows with one key do not compile.
const fn index() -> [[u8; Event::ALL.len()]; State::ALL.len()] {
    let mut index = [[ABSENT; Event::ALL.len()]; State::ALL.len()];
    assert!(ROWS.len() < ABSENT as usize, "a row's number no longer fits the index");
    let mut at = 0;
    while at < ROWS.len() {
        let row = ROWS[at];
        assert!(index[row.from as usize][row.on as usize] == ABSENT, "two rows with one key");
        index[row.from as usize][row.on as usize] = at as u8;
        at += 1;
    }
    index
}
