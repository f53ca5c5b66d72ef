//! The node's fields, its ports, and questions about it.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{
    ActorContext, ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler, Message, MessageResult,
    ResponseFuture,
};
use ferric_drivers::DriverError;
use ferric_drivers::interface::Kind;
use ferric_machine::{Activity, BootDevice};
use ferric_schema::nodes::{self, MOST_TRAITS};
use ferric_schema::{Also, Conn, JsonText, Node, StoreError, events};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::NodeActor;
use crate::error::NodeError;
use crate::family;
use crate::job::{answered, isolated};
use crate::message::{
    ChangeTraits, DeleteNode, Describe, GetBootDevice, SetBootDevice, SetMaintenance, SupportedBootDevices,
    Update, Validate, Verdict,
};
use crate::power::{QUESTION, ReadBootDevice, SetDevice};
use crate::view;

/// How long the deletion of a node waits for the removal of its boot files, which goes on after that.
const TIDY: Duration = Duration::from_secs(30);

impl Handler<Describe> for NodeActor {
    type Result = MessageResult<Describe>;

    fn handle(&mut self, _: Describe, _: &mut Context<Self>) -> Self::Result {
        MessageResult(Ok(self.node.clone()))
    }
}

impl Handler<Update> for NodeActor {
    type Result = AtomicResponse<Self, Result<Node, NodeError>>;

    fn handle(&mut self, ask: Update, _: &mut Context<Self>) -> Self::Result {
        let mut change = self.change();
        let edited =
            (ask.apply)(&mut change.node).and_then(|()| self.rebind(&mut change.node, ask.reset_interfaces));
        if let Err(error) = edited {
            return self.refuse(error);
        }
        if change.node == self.node {
            let same = self.node.clone();
            return AtomicResponse::new(Box::pin(std::future::ready(Ok(same)).into_actor(self)));
        }
        let changes = self.node.maintenance != change.node.maintenance;
        let console = (self.node.console_enabled
            && self.node.console_interface != change.node.console_interface)
            .then(|| self.job().ok())
            .flatten();
        if !change.node.maintenance {
            change.node.maintenance_reason = None;
            change.node.fault = None;
        }
        change.tell(&self.world, "INFO", "updated", "fields changed".into(), json!({}));
        let then = move |act: &mut Self, ctx: &mut Context<Self>| {
            if changes {
                act.maintenance_changed(ctx);
            }
            if let Some(before) = console {
                act.console_replaced(ctx, before);
            }
            act.node.clone()
        };
        let parent = change.node.parent_node.filter(|parent| self.node.parent_node != Some(*parent));
        let frees = self.node.instance_uuid.is_some() && change.node.instance_uuid.is_none();
        if !frees && parent.is_none() {
            return self.commit(change, then);
        }
        // the instance goes, and its allocation with it
        let dropped = frees.then(|| {
            change.also.push(Also::Deallocate);
            self.may_drop_allocation()
        });
        let (world, uuid) = (self.world.clone(), self.uuid());
        let may = async move {
            if let Some(dropped) = dropped {
                dropped.await?;
            }
            match parent {
                None => Ok(None),
                Some(parent) => family::may_adopt(&world, uuid, parent).await.map(Some),
            }
        };
        AtomicResponse::new(Box::pin(may.into_actor(self).then(move |may, act: &mut Self, _| match may {
            Ok(adoption) => act.committing(change, move |act, ctx| {
                drop(adoption);
                then(act, ctx)
            }),
            Err(error) => Box::pin(std::future::ready(Err(error)).into_actor(act)),
        })))
    }
}

impl NodeActor {
    /// The operator takes the node back into service: one that rested goes on with what it was doing, at once. Or out of
    /// service: one that waits tells that it stands still.
    fn maintenance_changed(&mut self, ctx: &mut Context<Self>) {
        if self.node.maintenance {
            return self.look_at_step(ctx, false);
        }
        self.power_failures = 0;
        if std::mem::take(&mut self.resting) && self.operation.is_none() {
            self.take_up(ctx);
        } else if self.state().is_wait() {
            self.show_maintenance();
            self.look_at_step(ctx, true);
        }
    }

    /// Fits the interfaces to what was edited: unset ones get their default again, unusable ones are refused, or reset
    /// with a changed driver where the client asked for that.
    fn rebind(&self, node: &mut Node, reset: bool) -> Result<(), NodeError> {
        let (old, mut wanted) = (view::chosen(&self.node), view::chosen(node));
        let driver_changed = node.driver != self.node.driver;
        if old == wanted && !driver_changed {
            return Ok(());
        }
        if driver_changed {
            let Some(row) = self.world.registry.types().into_iter().find(|row| row.name == node.driver)
            else {
                return Err(NodeError::NoValidHost {
                    driver: node.driver.clone(),
                    group: node.conductor_group.clone(),
                });
            };
            // what a classic driver has fixed is not kept from the driver before, nor was it in Ironic
            wanted.retain(|kind, name| old.get(kind) != Some(name) || !reset && !row.fixes(*kind));
        }
        let names = self
            .world
            .registry
            .resolve(&node.driver, &wanted)
            .map_err(|error| view::unusable(node, error))?;
        view::set_chosen(node, &names);
        Ok(())
    }
}

impl Handler<SetMaintenance> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: SetMaintenance, _: &mut Context<Self>) -> Self::Result {
        let mut change = self.change();
        change.node.maintenance = ask.on;
        change.node.maintenance_reason = if ask.on { ask.reason } else { None };
        // what an operator takes out of service does not come back by itself when the BMC answers again
        if !ask.on || change.node.fault == Some(ferric_machine::Fault::PowerFailure) {
            change.node.fault = None;
        }
        let text = if ask.on { "maintenance on" } else { "maintenance off" };
        let data = json!({"maintenance": ask.on, "reason": change.node.maintenance_reason});
        change.tell(&self.world, "INFO", "maintenance", text.into(), data);
        self.commit(change, |act, ctx| act.maintenance_changed(ctx))
    }
}

fn verdict(result: Result<(), DriverError>) -> Verdict {
    match result {
        Ok(()) => Verdict { result: Some(true), reason: None },
        Err(error) => Verdict { result: Some(false), reason: Some(error.to_string()) },
    }
}

/// The work that an interface of a kind is there for, where it is there for one.
fn work_of(kind: Kind) -> Option<Activity> {
    match kind {
        Kind::Inspect => Some(Activity::Inspect),
        Kind::Rescue => Some(Activity::Rescue),
        Kind::Bios | Kind::Firmware | Kind::Raid => Some(Activity::Clean),
        Kind::Boot
        | Kind::Console
        | Kind::Deploy
        | Kind::Management
        | Kind::Network
        | Kind::Power
        | Kind::Storage
        | Kind::Vendor => None,
    }
}

impl Handler<Validate> for NodeActor {
    type Result = MessageResult<Validate>;

    fn handle(&mut self, _: Validate, _: &mut Context<Self>) -> Self::Result {
        let job = match self.job() {
            Ok(job) => job,
            Err(error) => return MessageResult(Err(error)),
        };
        let (bound, view) = (&job.bound, &job.view);
        let mut all = BTreeMap::new();
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Vendor) {
            let fake = bound.names.get(&kind).is_none_or(|name| name == "fake");
            let steps = bound.steps_of(kind).filter(|_| !fake);
            let checked = bound.validate(kind, view).and_then(|()| match (steps, work_of(kind)) {
                (Some(steps), Some(activity)) => steps.validate_for(view, activity),
                (None, _) | (_, None) => Ok(()),
            });
            all.insert(kind, verdict(checked));
        }
        MessageResult(Ok(all))
    }
}

impl Handler<GetBootDevice> for NodeActor {
    type Result = ResponseFuture<Result<(Option<BootDevice>, Option<bool>), NodeError>>;

    fn handle(&mut self, _: GetBootDevice, _: &mut Context<Self>) -> Self::Result {
        let job = self.job();
        let power = self.siblings().power.clone();
        Box::pin(async move {
            let job = job?;
            job.bound.management.validate(&job.view)?;
            let asked = power.send(ReadBootDevice(job)).timeout(2 * QUESTION).await;
            Ok(answered("reading the boot device", asked)?)
        })
    }
}

impl Handler<SupportedBootDevices> for NodeActor {
    type Result = MessageResult<SupportedBootDevices>;

    fn handle(&mut self, _: SupportedBootDevices, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.job().map(|job| job.bound.management.supported_boot_devices().to_vec()))
    }
}

impl Handler<SetBootDevice> for NodeActor {
    type Result = ResponseFuture<Result<(), NodeError>>;

    fn handle(&mut self, ask: SetBootDevice, _: &mut Context<Self>) -> Self::Result {
        let locked = self.node.reservation.is_some().then(|| self.locked());
        let job = self.job();
        let mode = self.world.settings.default_boot_mode;
        let power = self.siblings().power.clone();
        Box::pin(async move {
            if let Some(locked) = locked {
                return Err(locked);
            }
            let job = job?;
            job.bound.management.validate(&job.view)?;
            let known = job.bound.management.supported_boot_devices();
            let device = ask.device.parse().ok().filter(|device| known.contains(device));
            let Some(device) = device else {
                return Err(job.bound.management.refused_boot_device(&ask.device).into());
            };
            let mode = job.view.boot_mode(mode);
            let set = SetDevice { job, device, persistent: ask.persistent, mode };
            Ok(answered("setting the boot device", power.send(set).timeout(2 * QUESTION).await)?)
        })
    }
}

impl Handler<DeleteNode> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, _: DeleteNode, ctx: &mut Context<Self>) -> Self::Result {
        let node = &self.node;
        if node.protected {
            let text = format!(
                "Node {} is protected and cannot be undeployed, rebuilt or deleted. Clear its protected flag first.",
                node.uuid
            );
            return self.refuse(NodeError::Forbidden(text));
        }
        if node.reservation.is_some() || self.tidies_up() {
            return self.refuse(self.locked());
        }
        if node.instance_uuid.is_some() && !node.maintenance {
            let text = format!(
                "Node {} is associated with instance {}.",
                node.uuid,
                node.instance_uuid.unwrap_or_default()
            );
            return self.refuse(NodeError::Conflict(text));
        }
        let allowed = node.provision_state.delete_allowed(self.world.settings.allow_deleting_available);
        if !allowed && !node.maintenance {
            let text = format!(
                "Can not delete node \"{}\" while it is in provision state \"{}\". Valid provision states to perform deletion \
                 are: \"({})\", or set the node into maintenance mode",
                node.uuid,
                node.provision_state,
                deletable(self.world.settings.allow_deleting_available)
            );
            return self.refuse(NodeError::Conflict(text));
        }
        let (uuid, store) = (node.uuid, self.world.store.clone());
        let job = self.job().ok();
        let console = job.clone().filter(|_| node.console_enabled);
        let bmc = job.as_ref().and_then(|job| job.bound.power.bmc(&job.view));
        let gone = events::NewEvent {
            node: Some(uuid),
            at: self.world.now(),
            kind: "deleted".into(),
            severity: "INFO".into(),
            text: format!("deleted in state {}", node.provision_state),
            data: JsonText::default(),
        };
        let (world, address, cancel) = (self.world.clone(), ctx.address(), self.cancel.clone());
        let delete = async move {
            let write = store.write(move |conn| {
                if let Some(child) = nodes::children(conn, uuid)?.first() {
                    return Ok(Err(NodeError::Conflict(family::has_children(uuid, child.uuid))));
                }
                nodes::delete(conn, uuid)?;
                events::append(conn, &gone).map(|_| Ok(()))
            });
            write.await??;
            // from now on the node is not found, however long the rest takes
            if let Some(directory) = world.directory() {
                directory.left(uuid, &address);
            }
            // and who looks at it need not wait for an answer
            cancel.cancel();
            // what the machine would boot next time belongs to nobody now
            if let Some(job) = job {
                let clean_up = isolated("removing boot files", CancellationToken::new(), async move {
                    job.bound.boot.clean_up_ramdisk(&job.view).await
                });
                match tokio::time::timeout(TIDY, clean_up).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(node = %uuid, %error, "boot files of the deleted node stay")
                    }
                    Err(_) => {
                        tracing::warn!(node = %uuid, "the removal of the deleted node's boot files takes long")
                    }
                }
                // and nobody looks at it any more
                if let Some(job) = console {
                    let close = isolated("closing the console", CancellationToken::new(), async move {
                        job.bound.console.dismiss(&job.view, "the node is deleted").await
                    });
                    if let Ok(Err(error)) = tokio::time::timeout(TIDY, close).await {
                        tracing::warn!(node = %uuid, %error, "the console of the deleted node was not closed");
                    }
                }
            }
            Ok::<_, NodeError>(())
        };
        AtomicResponse::new(Box::pin(delete.into_actor(self).map(move |result, act: &mut Self, ctx| {
            result?;
            if let Some(bmc) = bmc {
                act.world.governor.forget(&bmc);
            }
            act.world.ports.set(uuid, &[]);
            act.leaving = true;
            ctx.stop();
            Ok(())
        })))
    }
}

/// The states in which nodes may be deleted, for people.
fn deletable(available: bool) -> String {
    let mut all = vec!["'manageable'", "'enroll'", "'adopt failed'"];
    all.extend(available.then_some("'available'"));
    all.join(", ")
}

/// Makes the change, or says why not before anything is written.
fn change_traits(
    conn: &mut Conn,
    node: Uuid,
    change: &ChangeTraits,
) -> Result<Result<(), NodeError>, StoreError> {
    let mut traits = nodes::traits(conn, node)?;
    match change {
        ChangeTraits::Set(names) => {
            traits.clone_from(names);
            traits.sort_unstable();
            traits.dedup();
        }
        ChangeTraits::Add(name) if traits.contains(name) => {}
        ChangeTraits::Add(name) => traits.push(name.clone()),
        ChangeTraits::Remove(name) => {
            let Some(at) = traits.iter().position(|other| other == name) else {
                return Ok(Err(NodeError::NoTrait { node, name: name.clone() }));
            };
            traits.remove(at);
        }
    }
    if traits.len() > MOST_TRAITS {
        let text = format!(
            "Could not modify traits for node {node} as it would exceed the maximum number of traits per node ({} vs. \
             {MOST_TRAITS})",
            traits.len()
        );
        return Ok(Err(NodeError::Invalid(text)));
    }
    nodes::set_traits(conn, node, &traits).map(Ok)
}

impl Handler<ChangeTraits> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: ChangeTraits, _: &mut Context<Self>) -> Self::Result {
        if self.node.reservation.is_some() {
            return self.refuse(self.locked());
        }
        let (store, uuid) = (self.world.store.clone(), self.uuid());
        let write = async move { store.write(move |conn| change_traits(conn, uuid, &ask)).await };
        AtomicResponse::new(Box::pin(write.into_actor(self).map(|result, _: &mut Self, _| result?)))
    }
}

/// Answered when the node's turn comes, which is what a request may have to wait for.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Turn {
    /// What follows wants the node for itself.
    pub(crate) locks: bool,
}

impl Handler<Turn> for NodeActor {
    type Result = ResponseFuture<()>;

    /// What is ordered of the hardware is mostly done at once: a request waits for that as long as Ironic's would,
    /// before it is told that the node is locked.
    fn handle(&mut self, turn: Turn, _: &mut Context<Self>) -> Self::Result {
        if !turn.locks || !self.is_ordered() {
            return Box::pin(std::future::ready(()));
        }
        let (mut over, within) = (self.orders_done.subscribe(), self.world.settings.lock_wait());
        Box::pin(async move {
            let _ = tokio::time::timeout(within, over.changed()).await;
        })
    }
}
