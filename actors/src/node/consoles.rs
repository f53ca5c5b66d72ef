//! The console beyond switching it (`orders.rs`): who attaches to it, opening it again after a restart, and closing it
//! for as long as a machine belongs to nobody.

use std::time::Duration;

use actix::fut::WrapFuture;
use actix::{ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler, Message, ResponseFuture};
use ferric_drivers::DriverError;
use ferric_drivers::console::Attachment;
use ferric_drivers::interface::Json;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::NodeActor;
use super::orders::Order;
use crate::error::NodeError;
use crate::job::{Job, isolated};
use crate::message::AttachConsole;
use crate::view;

/// Wait before a console that does not open is tried again; it doubles with each failure.
const FIRST: Duration = Duration::from_secs(5);
/// Longest wait between two tries.
const MOST: Duration = Duration::from_secs(300);

/// Opens the console that the node's row speaks of.
#[derive(Message)]
#[rtype(result = "()")]
struct Reopen {
    /// Wait before the try after this one.
    pause: Duration,
}

/// What became of it.
#[derive(Message)]
#[rtype(result = "()")]
struct Reopened {
    pause: Duration,
    result: Result<Json, DriverError>,
}

fn not_enabled(node: uuid::Uuid) -> NodeError {
    NodeError::Invalid(format!(
        "Console access is not enabled on node {node}: PUT {{\"enabled\": true}} to /v1/nodes/{node}/states/console first"
    ))
}

impl Handler<AttachConsole> for NodeActor {
    type Result = ResponseFuture<Result<Attachment, NodeError>>;

    fn handle(&mut self, ask: AttachConsole, _: &mut Context<Self>) -> Self::Result {
        if !self.node.console_enabled {
            return Box::pin(std::future::ready(Err(not_enabled(self.uuid()))));
        }
        let job = self.job();
        Box::pin(async move {
            let job = job?;
            let attaching = isolated("attaching to the console", job.cancel.clone(), async move {
                job.bound.console.attach(&job.view, ask.wants).await
            });
            Ok(attaching.await?)
        })
    }
}

impl NodeActor {
    /// After a restart, and when a machine is somebody's again: the console is opened where it should be and is not.
    /// Nothing waits for it.
    pub(super) fn take_up_console(&self, ctx: &mut Context<Self>) {
        if self.node.console_enabled {
            ctx.address().do_send(Reopen { pause: FIRST });
        }
    }

    /// The machine belongs to nobody: whoever looks at its console does so no longer. It stays enabled for the next one,
    /// and may be opened before that, to watch a cleaning ([`NodeActor::open_enabled_console`]).
    pub(super) fn let_go_of_console(&self, ctx: &mut Context<Self>) {
        if self.node.console_enabled
            && let Ok(job) = self.job()
        {
            self.dismiss(ctx, job, "the instance is gone; enable the console again to watch", false);
        }
    }

    /// The node has another console interface than `before`, which does not know how to close what that one opened.
    pub(super) fn console_replaced(&self, ctx: &mut Context<Self>, before: Job) {
        let open = before.bound.console.is_open(&before.view);
        self.dismiss(ctx, before, "the node has another console interface now", open);
    }

    fn dismiss(&self, ctx: &mut Context<Self>, job: Job, why: &'static str, again: bool) {
        let id = self.uuid();
        let close = isolated("closing the console", CancellationToken::new(), async move {
            job.bound.console.dismiss(&job.view, why).await
        });
        ctx.spawn(close.into_actor(self).map(move |result, act, ctx| {
            if let Err(error) = result {
                tracing::warn!(node = %id, %error, "the console was not closed");
            }
            if again {
                act.take_up_console(ctx);
            }
        }));
    }

    /// A console that is enabled and was closed is opened by whoever asks for it, whatever works on the node: nothing of
    /// the node has to be changed for it.
    pub(super) fn open_enabled_console(
        &mut self,
        ctx: &mut Context<Self>,
    ) -> AtomicResponse<Self, Result<(), NodeError>> {
        let order = Order::Console(true);
        // it may be switched off just now
        if self.free().is_ok() || self.is_ordered() || self.tidies_up() {
            return self.order(order);
        }
        self.carry_out(ctx, order, None);
        self.already()
    }
}

impl Handler<Reopen> for NodeActor {
    type Result = ();

    fn handle(&mut self, ask: Reopen, ctx: &mut Context<Self>) {
        // it may have been switched off, or on, meanwhile
        let Ok(job) = self.job() else { return };
        if !self.node.console_enabled || self.leaving || job.bound.console.is_open(&job.view) {
            return;
        }
        let open = isolated("opening the console again", self.life.clone(), async move {
            job.bound.console.start(&job.view).await
        });
        let address = ctx.address();
        ctx.spawn(open.into_actor(self).map(move |result, _, _| {
            address.do_send(Reopened { pause: ask.pause, result });
        }));
    }
}

impl Handler<Reopened> for NodeActor {
    type Result = ();

    fn handle(&mut self, end: Reopened, ctx: &mut Context<Self>) {
        let mut change = self.change();
        if !change.node.console_enabled {
            return;
        }
        let ours = |text: &str| text.starts_with("The console could not be opened again");
        match end.result {
            Ok(remember) => {
                view::remember(&mut change.node.driver_internal_info, Value::Object(remember));
                change.node.last_error = change.node.last_error.take().filter(|text| !ours(text));
                let text = "the console is open again".to_owned();
                change.tell(&self.world, "INFO", "console_restored", text, json!({"console_enabled": true}));
            }
            Err(error) => {
                let text = view::printable(&format!(
                    "The console could not be opened again: {error}. It is tried again by itself."
                ));
                tracing::warn!(node = %self.uuid(), %error, "the console could not be opened again");
                let again = end.pause;
                ctx.run_later(again, move |_, ctx| {
                    ctx.address().do_send(Reopen { pause: (again * 2).min(MOST) });
                });
                let known = change.node.last_error.as_deref();
                if known == Some(text.as_str()) {
                    return;
                }
                // what else went wrong is worth more
                if known.is_none_or(ours) {
                    change.node.last_error = Some(text.clone());
                }
                self.record(&mut change, "console", &text);
                change.tell(&self.world, "ERROR", "console_restored", text, json!({"console_enabled": true}));
            }
        }
        self.save(ctx, change, |_, _| ());
    }
}
