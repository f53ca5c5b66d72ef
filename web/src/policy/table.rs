//! The table of policies (api.md §10): every rule by its name, the scopes that a token may have for it, and who may.
//! This is the one place that says so; a policy file overrides rows of it by their names.

/// What a token has to be scoped to before a rule is even asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A system or a project; unscoped tokens count as scoped to a project, and have no roles.
    Any,
    /// The system.
    System,
    /// A project.
    Project,
    /// Whatever.
    Unchecked,
}

macro_rules! rules {
    ($($variant:ident $name:literal $scope:ident $check:literal;)+) => {
        /// A policy: Ironic's, by its name, and a few of Ferric's own.
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

            /// Who may, unless a policy file says otherwise.
            #[must_use]
            pub const fn default_check(self) -> &'static str {
                match self { $(Rule::$variant => $check,)+ }
            }

            /// What the token has to be scoped to.
            pub(crate) const fn scope(self) -> Scope {
                match self { $(Rule::$variant => Scope::$scope,)+ }
            }
        }
    };
}

/// Who there is. Those with a name of Ironic's may be overridden too; `ferric:` is put before the others, so that an
/// operator's own helper rules never meet them.
#[rustfmt::skip] // a row is a line
pub(crate) const PERSONAS: &[(&str, &str)] = &[
    ("public_api", "is_public_api:True"),
    ("admin_api", "role:admin or role:administrator"),
    ("service_role", "role:service and project_name:%(config.service_project_name)s"),
    ("is_member", "(project_domain_id:default or project_domain_id:None) and (project_name:demo or project_name:baremetal)"),
    ("is_observer", "rule:is_member and (role:observer or role:baremetal_observer)"),
    ("is_admin", "rule:admin_api or (rule:is_member and role:baremetal_admin)"),
    ("is_node_owner", "project_id:%(node.owner)s"),
    ("is_node_lessee", "project_id:%(node.lessee)s"),
    ("is_allocation_owner", "project_id:%(allocation.owner)s"),
    // one person
    ("ferric:system_admin", "role:admin and system_scope:all"),
    ("ferric:system_service", "role:service and system_scope:all"),
    ("ferric:system_member", "(role:member and system_scope:all) or rule:service_role"),
    ("ferric:system_reader", "(role:reader and system_scope:all) or rule:ferric:system_service or rule:service_role"),
    ("ferric:owner_admin", "role:admin and project_id:%(node.owner)s"),
    ("ferric:owner_manager", "role:manager and project_id:%(node.owner)s"),
    ("ferric:owner_member", "role:member and project_id:%(node.owner)s"),
    ("ferric:owner_reader", "role:reader and project_id:%(node.owner)s"),
    ("ferric:owner_service", "role:service and project_id:%(node.owner)s"),
    ("ferric:lessee_admin", "role:admin and project_id:%(node.lessee)s"),
    ("ferric:lessee_manager", "role:manager and project_id:%(node.lessee)s"),
    ("ferric:project_member", "role:member and (project_id:%(node.owner)s or project_id:%(node.lessee)s)"),
    ("ferric:project_reader", "role:reader and (project_id:%(node.owner)s or project_id:%(node.lessee)s)"),
    ("ferric:system_or_owner_service", "rule:ferric:system_service or rule:ferric:owner_service"),
    // several
    ("ferric:api_reader", "role:reader or role:service"),
    ("ferric:system_or_project_reader", "rule:ferric:system_reader or rule:ferric:project_reader or rule:ferric:owner_service"),
    ("ferric:system_or_owner_reader", "rule:ferric:system_reader or rule:ferric:owner_reader or rule:ferric:owner_service"),
    ("ferric:system_or_project_member", "rule:ferric:system_member or rule:ferric:project_member or rule:ferric:system_service"),
    ("ferric:system_member_or_owner_member", "rule:ferric:system_member or rule:ferric:owner_member or rule:ferric:system_or_owner_service"),
    ("ferric:system_or_owner_member_and_lessee_admin", "rule:ferric:system_member_or_owner_member or rule:ferric:lessee_admin or rule:ferric:lessee_manager"),
    ("ferric:system_member_or_owner_admin", "rule:ferric:system_member or rule:ferric:owner_admin or rule:ferric:owner_manager or rule:ferric:system_or_owner_service"),
    ("ferric:system_admin_or_owner_admin", "rule:ferric:system_admin or rule:ferric:owner_admin or rule:ferric:owner_manager or rule:ferric:system_or_owner_service"),
    ("ferric:system_member_or_owner_lessee_admin", "rule:ferric:system_member_or_owner_admin or rule:ferric:lessee_admin or rule:ferric:lessee_manager"),
    ("ferric:target_properties_reader", "rule:ferric:system_reader or role:admin"),
    // allocations and runbooks have owners of their own
    ("ferric:allocation_member", "rule:ferric:system_member or (role:member and project_id:%(allocation.owner)s)"),
    ("ferric:allocation_reader", "rule:ferric:system_reader or (role:reader and project_id:%(allocation.owner)s)"),
    ("ferric:allocation_creator", "rule:ferric:system_member or role:member"),
    ("ferric:runbook_admin", "rule:ferric:system_member or (role:manager and project_id:%(runbook.owner)s) or role:service"),
    ("ferric:runbook_reader", "rule:ferric:system_reader or (role:reader and project_id:%(runbook.owner)s) or role:service"),
    ("ferric:runbook_creator", "rule:ferric:system_member or role:manager or role:service"),
];

rules! {
    NodeCreate                         "baremetal:node:create"                             Any       "rule:ferric:system_admin or rule:ferric:system_service";
    NodeCreateSelfOwnedNode            "baremetal:node:create:self_owned_node"             Any       "role:admin or role:service";
    NodeList                           "baremetal:node:list"                               Any       "rule:ferric:api_reader";
    NodeListAll                        "baremetal:node:list_all"                           Any       "rule:ferric:system_reader";
    NodeGet                            "baremetal:node:get"                                Any       "rule:ferric:system_or_project_reader";
    NodeGetFilterThreshold             "baremetal:node:get:filter_threshold"               Any       "rule:ferric:system_reader";
    NodeGetLastError                   "baremetal:node:get:last_error"                     Any       "rule:ferric:system_or_owner_reader";
    NodeGetReservation                 "baremetal:node:get:reservation"                    Any       "rule:ferric:system_or_owner_reader";
    NodeGetDriverInternalInfo          "baremetal:node:get:driver_internal_info"           Any       "rule:ferric:system_or_owner_reader";
    NodeGetDriverInfo                  "baremetal:node:get:driver_info"                    Any       "rule:ferric:system_or_owner_reader";
    NodeUpdateDriverInfo               "baremetal:node:update:driver_info"                 Any       "rule:ferric:system_member_or_owner_member";
    NodeUpdateProperties               "baremetal:node:update:properties"                  Any       "rule:ferric:system_member_or_owner_member";
    NodeUpdateChassisUuid              "baremetal:node:update:chassis_uuid"                Any       "rule:ferric:system_admin";
    NodeUpdateInstanceUuid             "baremetal:node:update:instance_uuid"               Any       "rule:ferric:system_member_or_owner_member";
    NodeUpdateLessee                   "baremetal:node:update:lessee"                      Any       "rule:ferric:system_member_or_owner_member";
    NodeUpdateOwner                    "baremetal:node:update:owner"                       Any       "rule:ferric:system_member";
    NodeUpdateDriverInterfaces         "baremetal:node:update:driver_interfaces"           Any       "rule:ferric:system_member_or_owner_admin";
    NodeUpdateNetworkData              "baremetal:node:update:network_data"                Any       "rule:ferric:system_member_or_owner_member";
    NodeUpdateConductorGroup           "baremetal:node:update:conductor_group"             Any       "rule:ferric:system_member";
    NodeUpdateName                     "baremetal:node:update:name"                        Any       "rule:ferric:system_member_or_owner_member";
    NodeUpdateRetired                  "baremetal:node:update:retired"                     Any       "rule:ferric:system_member_or_owner_member";
    NodeUpdate                         "baremetal:node:update"                             Any       "rule:ferric:system_or_project_member";
    NodeUpdateExtra                    "baremetal:node:update_extra"                       Any       "rule:ferric:system_or_project_member";
    NodeUpdateInstanceInfo             "baremetal:node:update_instance_info"               Any       "rule:ferric:system_or_owner_member_and_lessee_admin";
    NodeUpdateOwnerProvisioned         "baremetal:node:update_owner_provisioned"           System    "rule:ferric:system_admin";
    NodeDelete                         "baremetal:node:delete"                             Any       "rule:ferric:system_admin";
    NodeDeleteSelfOwnedNode            "baremetal:node:delete:self_owned_node"             Any       "rule:ferric:owner_admin";
    NodeValidate                       "baremetal:node:validate"                           Any       "rule:ferric:system_or_owner_member_and_lessee_admin";
    NodeSetMaintenance                 "baremetal:node:set_maintenance"                    Any       "rule:ferric:system_or_owner_member_and_lessee_admin";
    NodeClearMaintenance               "baremetal:node:clear_maintenance"                  Any       "rule:ferric:system_or_owner_member_and_lessee_admin";
    NodeGetBootDevice                  "baremetal:node:get_boot_device"                    Any       "rule:ferric:system_member_or_owner_admin";
    NodeSetBootDevice                  "baremetal:node:set_boot_device"                    Any       "rule:ferric:system_member_or_owner_admin";
    NodeGetIndicatorState              "baremetal:node:get_indicator_state"                Any       "rule:ferric:system_or_project_reader";
    NodeSetIndicatorState              "baremetal:node:set_indicator_state"                Any       "rule:ferric:system_member_or_owner_member";
    NodeInjectNmi                      "baremetal:node:inject_nmi"                         Any       "rule:ferric:system_member_or_owner_admin";
    NodeGetStates                      "baremetal:node:get_states"                         Any       "rule:ferric:system_or_project_reader";
    NodeSetPowerState                  "baremetal:node:set_power_state"                    Any       "rule:ferric:system_or_project_member";
    NodeSetBootMode                    "baremetal:node:set_boot_mode"                      Any       "rule:ferric:system_or_project_member";
    NodeSetSecureBoot                  "baremetal:node:set_secure_boot"                    Any       "rule:ferric:system_or_project_member";
    NodeSetProvisionState              "baremetal:node:set_provision_state"                Any       "rule:ferric:system_or_owner_member_and_lessee_admin";
    NodeSetProvisionStateCleanSteps    "baremetal:node:set_provision_state:clean_steps"    Any       "rule:ferric:system_or_owner_member_and_lessee_admin";
    NodeSetProvisionStateServiceSteps  "baremetal:node:set_provision_state:service_steps"  Any       "rule:ferric:system_or_owner_member_and_lessee_admin";
    NodeSetRaidState                   "baremetal:node:set_raid_state"                     Any       "rule:ferric:system_member_or_owner_member";
    NodeGetConsole                     "baremetal:node:get_console"                        Any       "rule:ferric:system_member_or_owner_member";
    NodeSetConsoleState                "baremetal:node:set_console_state"                  Any       "rule:ferric:system_member_or_owner_member";
    NodeVifList                        "baremetal:node:vif:list"                           Any       "rule:ferric:system_or_project_reader";
    NodeVifAttach                      "baremetal:node:vif:attach"                         Any       "rule:ferric:system_or_owner_member_and_lessee_admin";
    NodeVifDetach                      "baremetal:node:vif:detach"                         Any       "rule:ferric:system_or_owner_member_and_lessee_admin";
    NodeTraitsList                     "baremetal:node:traits:list"                        Any       "rule:ferric:system_or_project_reader";
    NodeTraitsSet                      "baremetal:node:traits:set"                         Any       "rule:ferric:system_member_or_owner_admin";
    NodeTraitsDelete                   "baremetal:node:traits:delete"                      Any       "rule:ferric:system_member_or_owner_admin";
    NodeBiosGet                        "baremetal:node:bios:get"                           Any       "rule:ferric:system_or_project_reader";
    NodeDisableCleaning                "baremetal:node:disable_cleaning"                   Any       "rule:ferric:system_admin";
    NodeHistoryGet                     "baremetal:node:history:get"                        Any       "rule:ferric:system_or_owner_reader";
    NodeInventoryGet                   "baremetal:node:inventory:get"                      Any       "rule:ferric:system_or_owner_reader";
    NodeUpdateShard                    "baremetal:node:update:shard"                       Any       "rule:ferric:system_admin";
    ShardsGet                          "baremetal:shards:get"                              Any       "rule:ferric:system_reader";
    NodeUpdateParentNode               "baremetal:node:update:parent_node"                 Any       "rule:ferric:system_member";
    NodeUpdateDisablePowerOff          "baremetal:node:update:disable_power_off"           Any       "rule:ferric:system_admin";
    NodeFirmwareGet                    "baremetal:node:firmware:get"                       Any       "rule:ferric:system_or_project_reader";
    NodeVmediaAttach                   "baremetal:node:vmedia:attach"                      Any       "rule:ferric:system_or_project_member";
    NodeVmediaDetach                   "baremetal:node:vmedia:detach"                      Any       "rule:ferric:system_or_project_member";
    NodeVmediaGet                      "baremetal:node:vmedia:get"                         Any       "rule:ferric:system_or_project_reader";
    PortGet                            "baremetal:port:get"                                Any       "rule:ferric:system_or_project_reader";
    PortList                           "baremetal:port:list"                               Any       "rule:ferric:api_reader";
    PortListAll                        "baremetal:port:list_all"                           Any       "rule:ferric:system_reader";
    PortCreate                         "baremetal:port:create"                             Any       "rule:ferric:system_admin_or_owner_admin";
    PortDelete                         "baremetal:port:delete"                             Any       "rule:ferric:system_admin_or_owner_admin";
    PortUpdate                         "baremetal:port:update"                             Any       "rule:ferric:system_member_or_owner_admin";
    PortgroupGet                       "baremetal:portgroup:get"                           Any       "rule:ferric:system_or_project_reader";
    PortgroupCreate                    "baremetal:portgroup:create"                        Any       "rule:ferric:system_admin_or_owner_admin";
    PortgroupDelete                    "baremetal:portgroup:delete"                        Any       "rule:ferric:system_admin_or_owner_admin";
    PortgroupUpdate                    "baremetal:portgroup:update"                        Any       "rule:ferric:system_member_or_owner_admin";
    PortgroupList                      "baremetal:portgroup:list"                          Any       "rule:ferric:api_reader";
    PortgroupListAll                   "baremetal:portgroup:list_all"                      Any       "rule:ferric:system_reader";
    ChassisGet                         "baremetal:chassis:get"                             System    "rule:ferric:system_reader";
    ChassisCreate                      "baremetal:chassis:create"                          System    "rule:ferric:system_admin";
    ChassisDelete                      "baremetal:chassis:delete"                          System    "rule:ferric:system_admin";
    ChassisUpdate                      "baremetal:chassis:update"                          System    "rule:ferric:system_member";
    DriverGet                          "baremetal:driver:get"                              System    "rule:ferric:system_reader";
    DriverGetProperties                "baremetal:driver:get_properties"                   System    "rule:ferric:system_reader";
    DriverGetRaidLogicalDiskProperties "baremetal:driver:get_raid_logical_disk_properties" System    "rule:ferric:system_reader";
    NodeVendorPassthru                 "baremetal:node:vendor_passthru"                    Any       "rule:ferric:system_admin";
    DriverVendorPassthru               "baremetal:driver:vendor_passthru"                  System    "rule:ferric:system_admin";
    NodeIpaHeartbeat                   "baremetal:node:ipa_heartbeat"                      Unchecked "@";
    DriverIpaLookup                    "baremetal:driver:ipa_lookup"                       Unchecked "@";
    DriverIpaContinueInspection        "baremetal:driver:ipa_continue_inspection"          Unchecked "@";
    VolumeListAll                      "baremetal:volume:list_all"                         Any       "rule:ferric:system_reader";
    VolumeList                         "baremetal:volume:list"                             Any       "rule:ferric:api_reader";
    VolumeGet                          "baremetal:volume:get"                              Any       "rule:ferric:system_or_project_reader";
    VolumeCreate                       "baremetal:volume:create"                           Any       "rule:ferric:system_member_or_owner_lessee_admin";
    VolumeDelete                       "baremetal:volume:delete"                           Any       "rule:ferric:system_member_or_owner_lessee_admin";
    VolumeUpdate                       "baremetal:volume:update"                           Any       "rule:ferric:system_or_owner_member_and_lessee_admin";
    VolumeViewTargetProperties         "baremetal:volume:view_target_properties"           Any       "rule:ferric:target_properties_reader";
    ConductorGet                       "baremetal:conductor:get"                           Any       "rule:ferric:system_reader";
    AllocationGet                      "baremetal:allocation:get"                          Any       "rule:ferric:allocation_reader";
    AllocationList                     "baremetal:allocation:list"                         Any       "rule:ferric:api_reader";
    AllocationListAll                  "baremetal:allocation:list_all"                     Any       "rule:ferric:system_reader";
    AllocationCreate                   "baremetal:allocation:create"                       Any       "rule:ferric:allocation_creator";
    AllocationCreateRestricted         "baremetal:allocation:create_restricted"            Any       "rule:ferric:system_member";
    AllocationDelete                   "baremetal:allocation:delete"                       Any       "rule:ferric:allocation_member";
    AllocationUpdate                   "baremetal:allocation:update"                       Any       "rule:ferric:allocation_member";
    AllocationCreatePreRbac            "baremetal:allocation:create_pre_rbac"              Project   "(rule:is_member and role:baremetal_admin) or (is_admin_project:True and role:admin)";
    EventsPost                         "baremetal:events:post"                             System    "rule:ferric:system_admin";
    DeployTemplateGet                  "baremetal:deploy_template:get"                     Any       "rule:ferric:system_reader";
    DeployTemplateCreate               "baremetal:deploy_template:create"                  Any       "rule:ferric:system_admin";
    DeployTemplateDelete               "baremetal:deploy_template:delete"                  Any       "rule:ferric:system_admin";
    DeployTemplateUpdate               "baremetal:deploy_template:update"                  Any       "rule:ferric:system_admin";
    RunbookGet                         "baremetal:runbook:get"                             Any       "rule:ferric:runbook_reader";
    RunbookList                        "baremetal:runbook:list"                            Any       "rule:ferric:api_reader";
    RunbookListAll                     "baremetal:runbook:list_all"                        Any       "rule:ferric:system_reader";
    RunbookCreate                      "baremetal:runbook:create"                          Any       "rule:ferric:runbook_creator";
    RunbookDelete                      "baremetal:runbook:delete"                          Any       "rule:ferric:runbook_admin";
    RunbookUpdate                      "baremetal:runbook:update"                          Any       "rule:ferric:runbook_admin";
    RunbookUpdatePublic                "baremetal:runbook:update:public"                   Any       "rule:ferric:system_member";
    RunbookUpdateOwner                 "baremetal:runbook:update:owner"                    Any       "rule:ferric:system_member";
    RunbookUse                         "baremetal:runbook:use"                             Any       "rule:ferric:runbook_admin";
    InspectionRuleGet                  "baremetal:inspection_rule:get"                     Any       "rule:ferric:system_reader";
    InspectionRuleListAll              "baremetal:inspection_rule:list_all"                Any       "rule:ferric:system_reader";
    InspectionRuleCreate               "baremetal:inspection_rule:create"                  Any       "rule:ferric:system_admin";
    InspectionRuleUpdate               "baremetal:inspection_rule:update"                  Any       "rule:ferric:system_admin";
    InspectionRuleDelete               "baremetal:inspection_rule:delete"                  Any       "rule:ferric:system_admin";
    ShowPassword                       "show_password"                                     Unchecked "!";
    ShowInstanceSecrets                "show_instance_secrets"                             Unchecked "!";
    FerricFleetGet                     "ferric:fleet:get"                                  Any       "rule:ferric:system_reader";
    FerricPowerSync                    "ferric:fleet:power_sync"                           Any       "rule:ferric:system_member";
    FerricEventsGet                    "ferric:events:get"                                 Any       "rule:ferric:system_reader";
}
