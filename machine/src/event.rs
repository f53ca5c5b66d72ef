//! The eighteen events that move a node from state to state (states.md §1).

use crate::wire::wire_enum;

wire_enum! {
    /// What happened to a node.
    Event, "provision event" {
        /// Asked to become manageable.
        Manage = "manage",
        /// Asked to become available.
        Provide = "provide",
        /// Asked to be cleaned, or the tear-down goes on with cleaning.
        Clean = "clean",
        /// Asked to be inspected.
        Inspect = "inspect",
        /// Asked to be adopted.
        Adopt = "adopt",
        /// Asked to be deployed.
        Deploy = "deploy",
        /// Asked to be deployed again.
        Rebuild = "rebuild",
        /// Asked to be torn down.
        Delete = "delete",
        /// Asked to be rescued.
        Rescue = "rescue",
        /// Asked to leave rescue.
        Unrescue = "unrescue",
        /// Asked to be serviced.
        Service = "service",
        /// Asked to stop what it does.
        Abort = "abort",
        /// Asked to go on after a hold.
        Unhold = "unhold",
        /// The work ended well.
        Done = "done",
        /// The work failed.
        Fail = "fail",
        /// The work waits for the ramdisk.
        Wait = "wait",
        /// The ramdisk called back.
        Resume = "resume",
        /// A step put the work on hold.
        Hold = "hold",
    }
}
