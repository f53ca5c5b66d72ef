//! The hardware types: a row each, interfaces in Ironic's order of preference (deploy.md §B.6).

use crate::interface::Kind;

/// A hardware type and what it can be combined with.
pub struct HardwareType {
    /// Name in a node's `driver` field.
    pub name: &'static str,
    interfaces: [&'static [&'static str]; 13],
}

impl HardwareType {
    /// The interfaces of `kind` it supports, best first. Whether one is built and enabled is the registry's
    /// business.
    #[must_use]
    pub fn supported(&self, kind: Kind) -> &'static [&'static str] {
        self.interfaces[kind as usize]
    }
}

/// Every hardware type. Columns in the order of [`Kind::ALL`].
#[rustfmt::skip]
pub static TYPES: &[HardwareType] = &[
    HardwareType { name: "fake-hardware", interfaces: [
        /* bios       */ &["fake", "no-bios"],
        /* boot       */ &["fake", "ipxe", "pxe"],
        /* console    */ &["fake", "no-console"],
        /* deploy     */ &["fake", "direct", "ramdisk", "anaconda", "custom-agent"],
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
    HardwareType { name: "ipmi", interfaces: [
        /* bios       */ &["no-bios"],
        /* boot       */ &["ipxe", "pxe"],
        /* console    */ &["ipmitool-socat", "no-console"],
        /* deploy     */ &["direct", "ramdisk", "anaconda", "custom-agent"],
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
    HardwareType { name: "manual-management", interfaces: [
        /* bios       */ &["no-bios"],
        /* boot       */ &["ipxe", "pxe"],
        /* console    */ &["no-console"],
        /* deploy     */ &["direct", "ramdisk", "anaconda", "custom-agent", "noop"],
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
    HardwareType { name: "redfish", interfaces: [
        /* bios       */ &["redfish", "no-bios"],
        /* boot       */ &["ipxe", "pxe", "redfish-virtual-media"],
        /* console    */ &["ipmitool-socat", "no-console"],
        /* deploy     */ &["direct", "ramdisk", "anaconda", "custom-agent"],
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
