//! The classic drivers of Ironic until Queens (2013 to 2018): each has one interface of every kind, and none but network
//! and storage can be chosen.
//!
//! They are off unless `[hardware] enabled_hardware_types` names them. `[hardware] enabled_<kind>_interfaces` does not
//! touch them – a classic driver brings its interfaces along – except for network, storage, and `agent` inspection,
//! which takes the place of ironic-inspector's and is on where the operator enables it.
//!
//! Two things are not as they were: consoles are `ipmitool-socat` everywhere (shellinabox is gone, so `pxe_ipmitool` and
//! `pxe_ipmitool_socat` are the same), and the pyghmi drivers (`…_ipminative`) speak through the same IPMI as the others.
//!
//! Left out, because nothing here speaks to their hardware: `…_ssh`, `…_ilo`, `iscsi_ilo`, `…_irmc`, `…_drac`, `…_ucs`,
//! `…_cimc`, `…_oneview`, `…_amt`, `…_iboot`, `…_seamicro`, `…_snmp`, `…_vbox`, `…_wol`, `…_msftocs`, and the fakes of those.

use super::HardwareType;
use crate::interface::Property;

/// Interfaces of a kind.
type Cell = &'static [&'static str];

const NETWORK: Cell = &["flat", "noop"];
const STORAGE: Cell = &["noop", "fake"];
const AGENT: Cell = &["agent"];
const DIRECT: Cell = &["direct"];
const FAKE: Cell = &["fake"];
const IPMI: Cell = &["ipmitool"];
const ISCSI: Cell = &["iscsi"];
const PXE: Cell = &["pxe"];
const SOCAT: Cell = &["ipmitool-socat"];
/// In-band inspection where the operator enables it, as `[inspector] enabled` was for ironic-inspector.
const INSPECT: Cell = &["agent", "no-inspect"];
const NO_CONSOLE: Cell = &["no-console"];
const NO_INSPECT: Cell = &["no-inspect"];
const NO_RAID: Cell = &["no-raid"];
const NO_VENDOR: Cell = &["no-vendor"];

/// Kinds of one classic driver that can differ: boot, console, deploy, inspect, management, power, raid, vendor.
const fn row(name: &'static str, of: [Cell; 8]) -> HardwareType {
    let [boot, console, deploy, inspect, management, power, raid, vendor] = of;
    let (bios, firmware, rescue): (Cell, Cell, Cell) = (&["no-bios"], &["no-firmware"], &["no-rescue"]);
    HardwareType {
        name,
        classic: true,
        interfaces: [
            bios, boot, console, deploy, firmware, inspect, management, NETWORK, power, raid, rescue,
            STORAGE, vendor,
        ],
    }
}

/// Every classic driver that is built.
#[rustfmt::skip]
pub(super) static CLASSIC: &[HardwareType] = &[
    //                          boot  console     deploy  inspect     management  power  raid     vendor
    row("agent_ipminative",    [PXE,  SOCAT,      DIRECT, INSPECT,    IPMI,       IPMI,  AGENT,   IPMI]),
    row("agent_ipmitool",      [PXE,  SOCAT,      DIRECT, INSPECT,    IPMI,       IPMI,  AGENT,   IPMI]),
    row("agent_ipmitool_socat",[PXE,  SOCAT,      DIRECT, INSPECT,    IPMI,       IPMI,  AGENT,   IPMI]),
    row("fake",                [FAKE, FAKE,       FAKE,   FAKE,       FAKE,       FAKE,  FAKE,    FAKE]),
    row("fake_agent",          [PXE,  NO_CONSOLE, DIRECT, NO_INSPECT, FAKE,       FAKE,  AGENT,   NO_VENDOR]),
    row("fake_inspector",      [FAKE, SOCAT,      FAKE,   AGENT,      IPMI,       IPMI,  NO_RAID, IPMI]),
    row("fake_ipminative",     [FAKE, SOCAT,      FAKE,   NO_INSPECT, IPMI,       IPMI,  NO_RAID, NO_VENDOR]),
    row("fake_ipmitool",       [FAKE, SOCAT,      FAKE,   NO_INSPECT, IPMI,       IPMI,  NO_RAID, IPMI]),
    row("fake_ipmitool_socat", [FAKE, SOCAT,      FAKE,   NO_INSPECT, IPMI,       IPMI,  NO_RAID, IPMI]),
    row("fake_pxe",            [PXE,  NO_CONSOLE, ISCSI,  NO_INSPECT, FAKE,       FAKE,  NO_RAID, NO_VENDOR]),
    row("fake_soft_power",     [FAKE, FAKE,       FAKE,   FAKE,       FAKE,       FAKE,  FAKE,    FAKE]),
    row("pxe_ipminative",      [PXE,  SOCAT,      ISCSI,  INSPECT,    IPMI,       IPMI,  AGENT,   IPMI]),
    row("pxe_ipmitool",        [PXE,  SOCAT,      ISCSI,  INSPECT,    IPMI,       IPMI,  AGENT,   IPMI]),
    row("pxe_ipmitool_socat",  [PXE,  SOCAT,      ISCSI,  INSPECT,    IPMI,       IPMI,  AGENT,   IPMI]),
];

/// Names that `deploy_kernel` and `deploy_ramdisk` had until Juno; those who boot over the network read them still.
pub(crate) static OLD_NAMES: &[Property] = &[
    (
        "pxe_deploy_kernel",
        "DEPRECATED: Use deploy_kernel instead. UUID (from Glance) of the deployment kernel.",
    ),
    (
        "pxe_deploy_ramdisk",
        "DEPRECATED: Use deploy_ramdisk instead. UUID (from Glance) of the ramdisk that is mounted at boot time.",
    ),
];
