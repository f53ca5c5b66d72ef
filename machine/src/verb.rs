//! The verbs of `PUT /v1/nodes/{id}/states/provision` (states.md §2).

use crate::wire::wire_enum;

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
