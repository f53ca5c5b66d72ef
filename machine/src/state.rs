//! The thirty provision states (states.md §1).

use crate::wire::wire_enum;

use self::State as S;

wire_enum! {
    /// Where a node is in its life. Strings: states.md §1.
    State, "provision state" {
        /// Known by its BMC address only; nothing was verified.
        Enroll = "enroll",
        /// Its BMC answered; the operator may inspect, clean, configure it.
        Manageable = "manageable",
        /// Clean and free to deploy.
        Available = "available",
        /// An instance runs on it.
        Active = "active",
        /// Tearing down failed.
        Error = "error",
        /// The rescue ramdisk runs on it.
        Rescue = "rescue",
        /// The BMC's credentials are being tried.
        Verifying = "verifying",
        /// The conductor works on the deployment.
        Deploying = "deploying",
        /// The deployment waits for the ramdisk.
        DeployWait = "wait call-back",
        /// The deployment failed.
        DeployFailed = "deploy failed",
        /// The deployment was put on hold by a step.
        DeployHold = "deploy hold",
        /// The conductor works on the cleaning.
        Cleaning = "cleaning",
        /// The cleaning waits for the ramdisk.
        CleanWait = "clean wait",
        /// The cleaning failed.
        CleanFailed = "clean failed",
        /// The cleaning was put on hold by a step.
        CleanHold = "clean hold",
        /// The instance is being removed.
        Deleting = "deleting",
        /// The conductor works on the inspection.
        Inspecting = "inspecting",
        /// The inspection failed.
        InspectFailed = "inspect failed",
        /// The inspection waits for the ramdisk.
        InspectWait = "inspect wait",
        /// A running instance is being taken over.
        Adopting = "adopting",
        /// Taking over failed.
        AdoptFailed = "adopt failed",
        /// The conductor boots the rescue ramdisk.
        Rescuing = "rescuing",
        /// The rescue waits for the ramdisk.
        RescueWait = "rescue wait",
        /// The rescue failed.
        RescueFailed = "rescue failed",
        /// The instance is being booted again after a rescue.
        Unrescuing = "unrescuing",
        /// Leaving rescue failed.
        UnrescueFailed = "unrescue failed",
        /// The conductor works on a service of an active node.
        Servicing = "servicing",
        /// The service waits for the ramdisk.
        ServiceWait = "service wait",
        /// The service failed.
        ServiceFailed = "service failed",
        /// The service was put on hold by a step.
        ServiceHold = "service hold",
    }
}

wire_enum! {
    /// What is going on with a node; it groups the states of one piece of work, its failure included.
    Activity, "activity" {
        /// Trying the BMC's credentials.
        Verify = "verify",
        /// Deploying.
        Deploy = "deploy",
        /// Taking the instance away.
        TearDown = "tear down",
        /// Cleaning.
        Clean = "clean",
        /// Inspecting.
        Inspect = "inspect",
        /// Taking over a running instance.
        Adopt = "adopt",
        /// Booting the rescue ramdisk.
        Rescue = "rescue",
        /// Booting the instance again.
        Unrescue = "unrescue",
        /// Running service steps.
        Service = "service",
    }
}

/// The named sets of states.md §1 and §5.
impl State {
    /// The piece of work that the state belongs to; `None` when stable.
    #[must_use]
    pub const fn activity(self) -> Option<Activity> {
        match self {
            S::Enroll | S::Manageable | S::Available | S::Active | S::Error | S::Rescue => None,
            S::Verifying => Some(Activity::Verify),
            S::Deploying | S::DeployWait | S::DeployFailed | S::DeployHold => Some(Activity::Deploy),
            S::Cleaning | S::CleanWait | S::CleanFailed | S::CleanHold => Some(Activity::Clean),
            S::Deleting => Some(Activity::TearDown),
            S::Inspecting | S::InspectFailed | S::InspectWait => Some(Activity::Inspect),
            S::Adopting | S::AdoptFailed => Some(Activity::Adopt),
            S::Rescuing | S::RescueWait | S::RescueFailed => Some(Activity::Rescue),
            S::Unrescuing | S::UnrescueFailed => Some(Activity::Unrescue),
            S::Servicing | S::ServiceWait | S::ServiceFailed | S::ServiceHold => Some(Activity::Service),
        }
    }

    /// A state that a node rests in: it has no target.
    #[must_use]
    pub const fn is_stable(self) -> bool {
        matches!(self, S::Enroll | S::Manageable | S::Available | S::Active | S::Error | S::Rescue)
    }

    /// Where the machine is heading for in this state, unless the work says otherwise; `None` when stable.
    #[must_use]
    pub const fn default_target(self) -> Option<State> {
        match self {
            S::Enroll | S::Manageable | S::Available | S::Active | S::Error | S::Rescue => None,
            S::Verifying | S::Inspecting | S::InspectFailed | S::InspectWait => Some(S::Manageable),
            S::Deploying | S::DeployWait | S::DeployFailed | S::DeployHold => Some(S::Active),
            S::Cleaning | S::CleanWait | S::CleanFailed | S::CleanHold | S::Deleting => Some(S::Available),
            S::Adopting | S::AdoptFailed | S::Unrescuing | S::UnrescueFailed => Some(S::Active),
            S::Rescuing | S::RescueWait | S::RescueFailed => Some(S::Rescue),
            S::Servicing | S::ServiceWait | S::ServiceFailed | S::ServiceHold => Some(S::Active),
        }
    }

    /// One of the seven "… failed" states. `error`, where a failed tear-down ends, is not among them.
    #[must_use]
    pub const fn is_failed(self) -> bool {
        match self {
            S::DeployFailed | S::CleanFailed | S::InspectFailed | S::AdoptFailed => true,
            S::RescueFailed | S::UnrescueFailed | S::ServiceFailed => true,
            S::Enroll | S::Manageable | S::Available | S::Active | S::Error | S::Rescue => false,
            S::Verifying | S::Deploying | S::DeployWait | S::DeployHold | S::Cleaning | S::CleanWait => false,
            S::CleanHold | S::Deleting | S::Inspecting | S::InspectWait | S::Adopting | S::Rescuing => false,
            S::RescueWait | S::Unrescuing | S::Servicing | S::ServiceWait | S::ServiceHold => false,
        }
    }

    /// The conductor or the ramdisk works on the node: boot mode and secure boot may not be changed.
    #[must_use]
    pub const fn is_unstable(self) -> bool {
        self.stuck_as_fail() || self.is_wait()
    }

    /// The node's cables may be plugged differently: its ports moved, taken out of port groups, put into others.
    #[must_use]
    pub const fn is_pluggable(self) -> bool {
        matches!(self, S::Enroll | S::Inspecting | S::InspectWait | S::Manageable)
    }

    /// The node may lose its instance, and be given another driver or other interfaces: nothing relies on them.
    #[must_use]
    pub const fn is_unused(self) -> bool {
        self.is_pluggable() || matches!(self, S::Available)
    }

    /// The fields of the node may be changed although it has a target.
    #[must_use]
    pub const fn update_allowed(self) -> bool {
        match self {
            S::DeployFailed | S::Inspecting | S::InspectFailed | S::InspectWait | S::CleanFailed => true,
            S::Error | S::Verifying | S::AdoptFailed | S::RescueFailed | S::UnrescueFailed => true,
            S::ServiceHold | S::ServiceFailed => true,
            S::Enroll | S::Manageable | S::Available | S::Active | S::Rescue | S::Deploying => false,
            S::DeployWait | S::DeployHold | S::Cleaning | S::CleanWait | S::CleanHold | S::Deleting => false,
            S::Adopting | S::Rescuing | S::RescueWait | S::Unrescuing | S::Servicing => false,
            S::ServiceWait => false,
        }
    }

    /// The node may be deleted. `allow_available`: `[conductor] allow_deleting_available_nodes`.
    #[must_use]
    pub const fn delete_allowed(self, allow_available: bool) -> bool {
        matches!(self, S::Manageable | S::Enroll | S::AdoptFailed)
            || (allow_available && matches!(self, S::Available))
    }

    /// A ramdisk may ask who it is. `fast_track`: `[deploy] fast_track`.
    #[must_use]
    pub const fn lookup_allowed(self, fast_track: bool) -> bool {
        match self {
            S::Deploying | S::DeployWait | S::Cleaning | S::CleanWait | S::Inspecting => true,
            S::InspectWait | S::Rescuing | S::RescueWait | S::ServiceWait => true,
            S::Enroll | S::Manageable | S::Available | S::Servicing | S::ServiceHold => fast_track,
            S::Active | S::Error | S::Rescue | S::Verifying | S::DeployFailed | S::DeployHold => false,
            S::CleanFailed | S::CleanHold | S::Deleting | S::InspectFailed | S::Adopting => false,
            S::AdoptFailed | S::RescueFailed | S::Unrescuing | S::UnrescueFailed => false,
            S::ServiceFailed => false,
        }
    }

    /// The conductor itself works. What Ironic fails at its next start; Ferric resumes it from the journal and
    /// falls back on `Fail` only where there is none.
    #[must_use]
    pub const fn stuck_as_fail(self) -> bool {
        match self {
            S::Deploying | S::Cleaning | S::Verifying | S::Inspecting | S::Adopting => true,
            S::Rescuing | S::Unrescuing | S::Deleting | S::Servicing => true,
            S::Enroll | S::Manageable | S::Available | S::Active | S::Error | S::Rescue => false,
            S::DeployWait | S::DeployFailed | S::DeployHold | S::CleanWait | S::CleanFailed => false,
            S::CleanHold | S::InspectFailed | S::InspectWait | S::AdoptFailed | S::RescueWait => false,
            S::RescueFailed | S::UnrescueFailed | S::ServiceWait | S::ServiceFailed => false,
            S::ServiceHold => false,
        }
    }

    /// The ramdisk works; a deadline guards it (see [`crate::deadline`]).
    #[must_use]
    pub const fn is_wait(self) -> bool {
        matches!(self, S::DeployWait | S::CleanWait | S::InspectWait | S::RescueWait | S::ServiceWait)
    }

    /// A step put the work on hold until the operator says `unhold`; never times out.
    #[must_use]
    pub const fn is_hold(self) -> bool {
        matches!(self, S::DeployHold | S::CleanHold | S::ServiceHold)
    }

    /// A heartbeat drives the work on. Inspection is not driven by heartbeats but by its own callback.
    #[must_use]
    pub const fn heartbeat_drives(self) -> bool {
        matches!(self, S::DeployWait | S::CleanWait | S::RescueWait | S::ServiceWait)
    }

    /// A heartbeat's address, version and time are stored (also where it drives the work). In every other
    /// state a heartbeat is acknowledged and forgotten.
    #[must_use]
    pub const fn heartbeat_recorded(self) -> bool {
        self.heartbeat_drives()
            || self.is_hold()
            || matches!(self, S::Enroll | S::Manageable | S::Available)
            || matches!(self, S::Cleaning | S::Deploying | S::Rescuing | S::Servicing)
    }

    /// The power state is left alone by the periodic comparison (states.md §6).
    #[must_use]
    pub const fn power_sync_skipped(self) -> bool {
        matches!(self, S::Enroll | S::DeployWait | S::CleanWait | S::AdoptFailed)
    }
}
