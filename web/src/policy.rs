//! Who may do what (api.md §10): the names of Ironic's policies, the caller of a request, and the question whether it
//! may.

use crate::context::Context;
use crate::error::Result;

macro_rules! rules {
    ($($variant:ident $name:literal;)+) => {
        /// A policy of Ironic's, by its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // the names are Ironic's own
        pub enum Rule { $($variant,)+ }

        impl Rule {
            /// All of them.
            pub const ALL: &'static [Rule] = &[$(Rule::$variant,)+];

            /// The name by which a policy file overrides it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Rule::$variant => $name,)+ }
            }
        }
    };
}

rules! {
    NodeCreate "baremetal:node:create";
    NodeCreateSelfOwnedNode "baremetal:node:create:self_owned_node";
    NodeList "baremetal:node:list";
    NodeListAll "baremetal:node:list_all";
    NodeGet "baremetal:node:get";
    NodeGetFilterThreshold "baremetal:node:get:filter_threshold";
    NodeGetLastError "baremetal:node:get:last_error";
    NodeGetReservation "baremetal:node:get:reservation";
    NodeGetDriverInternalInfo "baremetal:node:get:driver_internal_info";
    NodeGetDriverInfo "baremetal:node:get:driver_info";
    NodeUpdateDriverInfo "baremetal:node:update:driver_info";
    NodeUpdateProperties "baremetal:node:update:properties";
    NodeUpdateChassisUuid "baremetal:node:update:chassis_uuid";
    NodeUpdateInstanceUuid "baremetal:node:update:instance_uuid";
    NodeUpdateLessee "baremetal:node:update:lessee";
    NodeUpdateOwner "baremetal:node:update:owner";
    NodeUpdateDriverInterfaces "baremetal:node:update:driver_interfaces";
    NodeUpdateNetworkData "baremetal:node:update:network_data";
    NodeUpdateConductorGroup "baremetal:node:update:conductor_group";
    NodeUpdateName "baremetal:node:update:name";
    NodeUpdateRetired "baremetal:node:update:retired";
    NodeUpdate "baremetal:node:update";
    NodeUpdateExtra "baremetal:node:update_extra";
    NodeUpdateInstanceInfo "baremetal:node:update_instance_info";
    NodeUpdateOwnerProvisioned "baremetal:node:update_owner_provisioned";
    NodeDelete "baremetal:node:delete";
    NodeDeleteSelfOwnedNode "baremetal:node:delete:self_owned_node";
    NodeValidate "baremetal:node:validate";
    NodeSetMaintenance "baremetal:node:set_maintenance";
    NodeClearMaintenance "baremetal:node:clear_maintenance";
    NodeGetBootDevice "baremetal:node:get_boot_device";
    NodeSetBootDevice "baremetal:node:set_boot_device";
    NodeGetIndicatorState "baremetal:node:get_indicator_state";
    NodeSetIndicatorState "baremetal:node:set_indicator_state";
    NodeInjectNmi "baremetal:node:inject_nmi";
    NodeGetStates "baremetal:node:get_states";
    NodeSetPowerState "baremetal:node:set_power_state";
    NodeSetBootMode "baremetal:node:set_boot_mode";
    NodeSetSecureBoot "baremetal:node:set_secure_boot";
    NodeSetProvisionState "baremetal:node:set_provision_state";
    NodeSetProvisionStateCleanSteps "baremetal:node:set_provision_state:clean_steps";
    NodeSetProvisionStateServiceSteps "baremetal:node:set_provision_state:service_steps";
    NodeSetRaidState "baremetal:node:set_raid_state";
    NodeGetConsole "baremetal:node:get_console";
    NodeSetConsoleState "baremetal:node:set_console_state";
    NodeVifList "baremetal:node:vif:list";
    NodeVifAttach "baremetal:node:vif:attach";
    NodeVifDetach "baremetal:node:vif:detach";
    NodeTraitsList "baremetal:node:traits:list";
    NodeTraitsSet "baremetal:node:traits:set";
    NodeTraitsDelete "baremetal:node:traits:delete";
    NodeBiosGet "baremetal:node:bios:get";
    NodeDisableCleaning "baremetal:node:disable_cleaning";
    NodeHistoryGet "baremetal:node:history:get";
    NodeInventoryGet "baremetal:node:inventory:get";
    NodeUpdateShard "baremetal:node:update:shard";
    ShardsGet "baremetal:shards:get";
    NodeUpdateParentNode "baremetal:node:update:parent_node";
    NodeUpdateDisablePowerOff "baremetal:node:update:disable_power_off";
    NodeFirmwareGet "baremetal:node:firmware:get";
    NodeVmediaAttach "baremetal:node:vmedia:attach";
    NodeVmediaDetach "baremetal:node:vmedia:detach";
    NodeVmediaGet "baremetal:node:vmedia:get";
    PortGet "baremetal:port:get";
    PortList "baremetal:port:list";
    PortListAll "baremetal:port:list_all";
    PortCreate "baremetal:port:create";
    PortDelete "baremetal:port:delete";
    PortUpdate "baremetal:port:update";
    PortgroupGet "baremetal:portgroup:get";
    PortgroupCreate "baremetal:portgroup:create";
    PortgroupDelete "baremetal:portgroup:delete";
    PortgroupUpdate "baremetal:portgroup:update";
    PortgroupList "baremetal:portgroup:list";
    PortgroupListAll "baremetal:portgroup:list_all";
    ChassisGet "baremetal:chassis:get";
    ChassisCreate "baremetal:chassis:create";
    ChassisDelete "baremetal:chassis:delete";
    ChassisUpdate "baremetal:chassis:update";
    DriverGet "baremetal:driver:get";
    DriverGetProperties "baremetal:driver:get_properties";
    DriverGetRaidLogicalDiskProperties "baremetal:driver:get_raid_logical_disk_properties";
    NodeVendorPassthru "baremetal:node:vendor_passthru";
    DriverVendorPassthru "baremetal:driver:vendor_passthru";
    NodeIpaHeartbeat "baremetal:node:ipa_heartbeat";
    DriverIpaLookup "baremetal:driver:ipa_lookup";
    DriverIpaContinueInspection "baremetal:driver:ipa_continue_inspection";
    VolumeListAll "baremetal:volume:list_all";
    VolumeList "baremetal:volume:list";
    VolumeGet "baremetal:volume:get";
    VolumeCreate "baremetal:volume:create";
    VolumeDelete "baremetal:volume:delete";
    VolumeUpdate "baremetal:volume:update";
    VolumeViewTargetProperties "baremetal:volume:view_target_properties";
    ConductorGet "baremetal:conductor:get";
    AllocationGet "baremetal:allocation:get";
    AllocationList "baremetal:allocation:list";
    AllocationListAll "baremetal:allocation:list_all";
    AllocationCreate "baremetal:allocation:create";
    AllocationCreateRestricted "baremetal:allocation:create_restricted";
    AllocationDelete "baremetal:allocation:delete";
    AllocationUpdate "baremetal:allocation:update";
    AllocationCreatePreRbac "baremetal:allocation:create_pre_rbac";
    EventsPost "baremetal:events:post";
    DeployTemplateGet "baremetal:deploy_template:get";
    DeployTemplateCreate "baremetal:deploy_template:create";
    DeployTemplateDelete "baremetal:deploy_template:delete";
    DeployTemplateUpdate "baremetal:deploy_template:update";
    RunbookGet "baremetal:runbook:get";
    RunbookList "baremetal:runbook:list";
    RunbookListAll "baremetal:runbook:list_all";
    RunbookCreate "baremetal:runbook:create";
    RunbookDelete "baremetal:runbook:delete";
    RunbookUpdate "baremetal:runbook:update";
    RunbookUpdatePublic "baremetal:runbook:update:public";
    RunbookUpdateOwner "baremetal:runbook:update:owner";
    RunbookUse "baremetal:runbook:use";
    InspectionRuleGet "baremetal:inspection_rule:get";
    InspectionRuleListAll "baremetal:inspection_rule:list_all";
    InspectionRuleCreate "baremetal:inspection_rule:create";
    InspectionRuleUpdate "baremetal:inspection_rule:update";
    InspectionRuleDelete "baremetal:inspection_rule:delete";
    ShowPassword "show_password";
    ShowInstanceSecrets "show_instance_secrets";
}

/// Whose request it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Without authentication, or authenticated by a password file: everything is allowed.
    Admin,
}

/// What an object says of who it belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    /// The project that owns it.
    pub owner: Option<&'a str>,
    /// The project that it is lent to.
    pub lessee: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// What belongs to nobody: a collection, a driver, a conductor.
    pub const NONE: Target<'static> = Target { owner: None, lessee: None };

    /// A node, or what is part of one.
    #[must_use]
    pub fn node(node: &'a ferric_schema::Node) -> Target<'a> {
        Target { owner: node.owner.as_deref(), lessee: node.lessee.as_deref() }
    }
}

impl Context {
    /// Whether the caller may do what `rule` stands for with `target`.
    pub(crate) fn may(&self, _rule: Rule, _target: Target<'_>) -> bool {
        match self.caller {
            Caller::Admin => true,
        }
    }

    /// [`Context::may`], as a refusal (403).
    pub(crate) fn authorize(&self, rule: Rule, target: Target<'_>) -> Result<()> {
        if self.may(rule, target) {
            return Ok(());
        }
        Err(crate::error::ApiError::forbidden(format!(
            "Access was denied to the following resource: {}",
            rule.as_str()
        )))
    }
}
