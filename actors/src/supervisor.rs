//! Notices that a node's actors died and makes them anew from the database.
//!
//! actix restarts nothing after a panic: the mailbox just closes. The dying actor's `stopped()` runs while it unwinds
//! and tells us. A node that dies too often is put into maintenance with a readable reason and stays at rest.

use std::collections::HashMap;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message};
use tokio::time::Instant;
use uuid::Uuid;

use crate::directory::Directory;

/// See the module.
#[derive(Default)]
pub(crate) struct Supervisor {
    directory: Option<Directory>,
    deaths: HashMap<Uuid, Vec<Instant>>,
}

impl Actor for Supervisor {
    type Context = Context<Self>;
}

/// Who to rebuild through; sent once, when the directory is there.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Serve(pub(crate) Directory);

/// A node's actor ended without being asked to.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct NodeDown {
    pub(crate) id: Uuid,
    pub(crate) panicked: bool,
}

impl Handler<Serve> for Supervisor {
    type Result = ();

    fn handle(&mut self, told: Serve, _: &mut Context<Self>) {
        self.directory = Some(told.0);
    }
}

impl Handler<NodeDown> for Supervisor {
    type Result = ();

    fn handle(&mut self, down: NodeDown, ctx: &mut Context<Self>) {
        let Some(directory) = self.directory.clone() else { return };
        let settings = directory.settings();
        let now = Instant::now();
        let deaths = self.deaths.entry(down.id).or_default();
        deaths.retain(|at| now.duration_since(*at) < settings.restart_window);
        deaths.push(now);
        let count = u32::try_from(deaths.len()).unwrap_or(u32::MAX);
        let give_up = count > settings.restarts_most;
        let wait = Duration::from_millis(50) * 2_u32.saturating_pow((count - 1).min(10));
        tracing::error!(node = %down.id, panicked = down.panicked, deaths = count, "node actor died; rebuilding in {wait:?}");
        ctx.run_later(wait, move |_, _| {
            actix::spawn(async move {
                directory.rebuild(down.id, give_up.then_some(count)).await;
            });
        });
    }
}
