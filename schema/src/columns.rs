//! Which columns of a node's row a change writes. A row has some sixty and fifteen indexes; SQLite takes an entry out of
//! an index and puts it back whenever a column of it is named in an `UPDATE`, whatever its value, and looks through
//! every table that refers to the node whenever its `uuid` is. Most changes are the work's own and touch none of these.

use diesel::prelude::*;

use crate::{
    cached::update,
    conn::Conn,
    node::Node,
    tables::nodes::dsl,
    types::{BigCol, TextCol},
};

/// How much of a row has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// Columns that work and the watch over the power write, none of them indexed.
    Work,
    /// These, and the provision state.
    Moved,
    /// Perhaps any. Always right.
    #[default]
    All,
}

impl Columns {
    /// What differs between two generations of a row.
    #[must_use]
    pub fn between(before: &Node, after: &Node) -> Columns {
        // named one by one: a new column has to be thought of here
        let Node {
            id: _,
            uuid,
            generation: _,
            created_at,
            updated_at: _,
            name,
            driver,
            driver_info,
            driver_internal_info: _,
            properties,
            extra,
            instance_info,
            instance_uuid,
            instance_name,
            chassis_uuid,
            provision_state,
            target_provision_state,
            provision_updated_at,
            power_state: _,
            target_power_state: _,
            last_error: _,
            reservation: _,
            maintenance,
            maintenance_reason,
            fault,
            console_enabled,
            raid_config,
            target_raid_config,
            inspection_started_at: _,
            inspection_finished_at: _,
            clean_step: _,
            deploy_step: _,
            service_step: _,
            boot_interface,
            console_interface,
            deploy_interface,
            inspect_interface,
            management_interface,
            power_interface,
            raid_interface,
            vendor_interface,
            network_interface,
            storage_interface,
            rescue_interface,
            bios_interface,
            firmware_interface,
            resource_class,
            conductor_group,
            automated_clean,
            protected,
            protected_reason,
            retired,
            retired_reason,
            owner,
            lessee,
            description,
            network_data,
            shard,
            parent_node,
            disable_power_off,
            boot_mode: _,
            secure_boot: _,
            health,
        } = before;
        let same = *uuid == after.uuid
            && *created_at == after.created_at
            && *name == after.name
            && *driver == after.driver
            && *driver_info == after.driver_info
            && *properties == after.properties
            && *extra == after.extra
            && *instance_info == after.instance_info
            && *instance_uuid == after.instance_uuid
            && *instance_name == after.instance_name
            && *chassis_uuid == after.chassis_uuid
            && *maintenance == after.maintenance
            && *maintenance_reason == after.maintenance_reason
            && *fault == after.fault
            && *console_enabled == after.console_enabled
            && *raid_config == after.raid_config
            && *target_raid_config == after.target_raid_config
            && *boot_interface == after.boot_interface
            && *console_interface == after.console_interface
            && *deploy_interface == after.deploy_interface
            && *inspect_interface == after.inspect_interface
            && *management_interface == after.management_interface
            && *power_interface == after.power_interface
            && *raid_interface == after.raid_interface
            && *vendor_interface == after.vendor_interface
            && *network_interface == after.network_interface
            && *storage_interface == after.storage_interface
            && *rescue_interface == after.rescue_interface
            && *bios_interface == after.bios_interface
            && *firmware_interface == after.firmware_interface
            && *resource_class == after.resource_class
            && *conductor_group == after.conductor_group
            && *automated_clean == after.automated_clean
            && *protected == after.protected
            && *protected_reason == after.protected_reason
            && *retired == after.retired
            && *retired_reason == after.retired_reason
            && *owner == after.owner
            && *lessee == after.lessee
            && *description == after.description
            && *network_data == after.network_data
            && *shard == after.shard
            && *parent_node == after.parent_node
            && *disable_power_off == after.disable_power_off
            && *health == after.health;
        let stays = *provision_state == after.provision_state
            && *target_provision_state == after.target_provision_state
            && *provision_updated_at == after.provision_updated_at;
        match (same, stays) {
            (false, _) => Columns::All,
            (true, false) => Columns::Moved,
            (true, true) => Columns::Work,
        }
    }
}

/// Writes `columns` of `next` into the row that is still of generation `seen`; returns whether there was one.
pub(crate) fn write(c: &mut Conn, columns: Columns, next: &Node, seen: i64) -> QueryResult<bool> {
    let row = dsl::uuid.eq(TextCol::from(next.uuid)).and(dsl::generation.eq(seen));
    let work = (
        dsl::generation.eq(next.generation),
        dsl::updated_at.eq(BigCol::from(next.updated_at)),
        dsl::driver_internal_info.eq(&next.driver_internal_info),
        dsl::power_state.eq(TextCol::from(next.power_state)),
        dsl::target_power_state.eq(TextCol::from(next.target_power_state)),
        dsl::last_error.eq(next.last_error.as_deref()),
        dsl::reservation.eq(next.reservation.as_deref()),
        dsl::inspection_started_at.eq(BigCol::from(next.inspection_started_at)),
        dsl::inspection_finished_at.eq(BigCol::from(next.inspection_finished_at)),
        dsl::clean_step.eq(&next.clean_step),
        dsl::deploy_step.eq(&next.deploy_step),
        dsl::service_step.eq(&next.service_step),
        dsl::boot_mode.eq(TextCol::from(next.boot_mode)),
        dsl::secure_boot.eq(next.secure_boot),
    );
    let written = match columns {
        Columns::Work => update("nodes", work, row, "").execute(c)?,
        Columns::Moved => {
            let moved = (
                dsl::provision_state.eq(TextCol::from(next.provision_state)),
                dsl::target_provision_state.eq(TextCol::from(next.target_provision_state)),
                dsl::provision_updated_at.eq(BigCol::from(next.provision_updated_at)),
            );
            update("nodes", (work, moved), row, "").execute(c)?
        }
        Columns::All => update("nodes", next.clone(), row, "").execute(c)?,
    };
    Ok(written == 1)
}
