//! The hardware types: a row each, interfaces in Ironic's order of preference (deploy.md §B.6).

mod classic;

use crate::interface::Kind;
pub(crate) use classic::OLD_NAMES;

/// A hardware type and what it can be combined with.
pub struct HardwareType {
    /// Name in a node's `driver` field.
    pub name: &'static str,
    /// Whether it is a classic driver: its interfaces are fixed but for network and storage.
    pub classic: bool,
    interfaces: [&'static [&'static str]; 13],
}

impl HardwareType {
    /// The interfaces of `kind` it supports, best first. Whether one is built and enabled is the registry's
    /// business.
    #[must_use]
    pub fn supported(&self, kind: Kind) -> &'static [&'static str] {
        self.interfaces[kind as usize]
    }

    /// Whether a node of it cannot choose the interface of `kind`.
    #[must_use]
    pub fn fixes(&self, kind: Kind) -> bool {
        self.classic && !matches!(kind, Kind::Network | Kind::Storage)
    }
}

/// Whether it is enabled by name only, `[hardware] enabled_<kind>_interfaces`: Ironic has dropped it, and hardware types
/// show what Ironic's show. Classic drivers bring theirs along.
#[must_use]
pub fn enabled_by_name(kind: Kind, name: &str) -> bool {
    (kind, name) == (Kind::Deploy, "iscsi")
}

/// Every hardware type, and every classic driver.
pub fn all() -> impl Iterator<Item = &'static HardwareType> {
    TYPES.iter().chain(classic::CLASSIC)
}

/// Every hardware type but the classic drivers. Columns in the order of [`Kind::ALL`].
#[rustfmt::skip]
pub static TYPES: &[HardwareType] = &[
    HardwareType { name: "fake-hardware", classic: false, interfaces: [
        /* bios       */ &["fake", "no-bios"],
        /* boot       */ &["fake", "ipxe", "pxe"],
        /* console    */ &["fake", "no-console"],
        /* deploy     */ &["fake", "direct", "ramdisk", "anaconda", "custom-agent", "iscsi"],
        /* firmware   */ &["fake", "no-firmware"],
        /* inspect    */ &["fake", "agent", "no-inspect"],
        /* management */ &["fake"],
        /* network    */ &["flat", "noop"],
        /* power      */ &["fake"],
        /* raid       */ &["fake", "no-raid", "agent"],
        /* rescue     */ &["fake", "no-rescue", "agent"],
        /* storage    */ &["fake", "noop"],
        /* vendor     */ &["fake", "no-vendor"],
    ] },
    HardwareType { name: "ipmi", classic: false, interfaces: [
        /* bios       */ &["no-bios"],
        /* boot       */ &["ipxe", "pxe"],
        /* console    */ &["ipmitool-socat", "no-console"],
        /* deploy     */ &["direct", "ramdisk", "anaconda", "custom-agent", "iscsi"],
        /* firmware   */ &["no-firmware"],
        /* inspect    */ &["agent", "no-inspect"],
        /* management */ &["ipmitool", "noop"],
        /* network    */ &["flat", "noop"],
        /* power      */ &["ipmitool"],
        /* raid       */ &["no-raid", "agent"],
        /* rescue     */ &["no-rescue", "agent"],
        /* storage    */ &["noop"],
        /* vendor     */ &["ipmitool", "no-vendor"],
    ] },
    HardwareType { name: "manual-management", classic: false, interfaces: [
        /* bios       */ &["no-bios"],
        /* boot       */ &["ipxe", "pxe"],
        /* console    */ &["no-console"],
        /* deploy     */ &["direct", "ramdisk", "anaconda", "custom-agent", "noop", "iscsi"],
        /* firmware   */ &["no-firmware"],
        /* inspect    */ &["agent", "no-inspect"],
        /* management */ &["noop", "fake"],
        /* network    */ &["flat", "noop"],
        /* power      */ &["agent", "fake"],
        /* raid       */ &["no-raid", "agent"],
        /* rescue     */ &["no-rescue", "agent"],
        /* storage    */ &["noop"],
        /* vendor     */ &["no-vendor"],
    ] },
    HardwareType { name: "redfish", classic: false, interfaces: [
        /* bios       */ &["redfish", "no-bios"],
        /* boot       */ &["ipxe", "pxe", "redfish-virtual-media"],
        /* console    */ &["ipmitool-socat", "no-console"],
        /* deploy     */ &["direct", "ramdisk", "anaconda", "custom-agent", "iscsi"],
        /* firmware   */ &["redfish", "no-firmware"],
        /* inspect    */ &["redfish", "agent", "no-inspect"],
        /* management */ &["redfish", "noop"],
        /* network    */ &["flat", "noop"],
        /* power      */ &["redfish"],
        /* raid       */ &["redfish", "no-raid", "agent"],
        /* rescue     */ &["no-rescue", "agent"],
        /* storage    */ &["noop"],
        /* vendor     */ &["redfish", "no-vendor"],
    ] },
];
