//! `iscsi.start_iscsi_target`: the disk becomes the target that a conductor writes to (deploy.md §B.3).

use std::net::SocketAddr;
use std::sync::Arc;

use ferric_agent_wire::{
    CommandError, ISCSI_LUN, ISCSI_PORT, StartIscsiTargetParams, StartIscsiTargetResult, error_type,
};

use super::failure;
use crate::agent::Agent;
use crate::bash;
use crate::world::Machine;

/// Exports the disk under the name given, or under one of our own. A second time it is exported already.
pub(super) async fn start(
    agent: &Agent,
    machine: &Arc<Machine>,
    given: StartIscsiTargetParams,
) -> Result<StartIscsiTargetResult, CommandError> {
    let broken = |details: String| failure(error_type::ISCSI, details);
    let iqn = given.iqn.unwrap_or_else(|| format!("iqn.2008-10.org.openstack:{}", machine.name));
    if machine.has_target() {
        return Ok(StartIscsiTargetResult { iscsi_target_iqn: iqn });
    }
    if machine.goes_wrong(|left| &mut left.iscsi_error) {
        return Err(broken("a simulated failure of the iSCSI target".to_owned()));
    }
    if machine.own_base.get().is_none() {
        return Err(broken(
            "this fleet has no own_addresses, and nobody would find the target: start it with --set sim.own_addresses=true"
                .to_owned(),
        ));
    }
    if given.wipe_disk_metadata {
        machine.on_disk(agent.boot, crate::disk::Disk::erase_metadata);
    }
    let portal = SocketAddr::new(machine.bmc_address().ip(), given.portal_port.unwrap_or(ISCSI_PORT));
    debug_assert_eq!(ISCSI_LUN, 1, "which is where a target of ours has its disk");
    let exported = bash::export(machine, agent.boot, portal, &iqn).await;
    exported.map_err(|error| broken(format!("cannot listen on {portal}: {error}")))?;
    Ok(StartIscsiTargetResult { iscsi_target_iqn: iqn })
}
