//! The thirty provision states (states.md §1).

use crate::wire::wire_enum;

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
