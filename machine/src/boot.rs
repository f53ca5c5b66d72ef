//! Words about booting that several rooms share.

use crate::wire::wire_enum;

wire_enum! {
    /// Where a machine looks for its boot loader (api.md §3.5, `management/boot_device`).
    BootDevice, "boot device" {
        /// The network.
        Pxe = "pxe",
        /// The first disk.
        Disk = "disk",
        /// A CD or virtual CD.
        Cdrom = "cdrom",
        /// The firmware's set-up.
        Bios = "bios",
        /// The disk, in safe mode.
        Safe = "safe",
    }
}

wire_enum! {
    /// Which firmware interface the machine boots with.
    BootMode, "boot mode" {
        /// Legacy BIOS.
        Bios = "bios",
        /// UEFI.
        Uefi = "uefi",
    }
}

wire_enum! {
    /// Why a node was put into maintenance by Ferric itself (states.md §5).
    Fault, "fault" {
        /// Power state unreadable or wrong too often.
        PowerFailure = "power failure",
        /// A clean step failed.
        CleanFailure = "clean failure",
        /// Clean-up after an aborted rescue failed.
        RescueAbortFailure = "rescue abort failure",
        /// A service step failed.
        ServiceFailure = "service failure",
    }
}
