//! What the node's ramdisk says: look-up (once, for the token), heartbeats, and the calls of ramdisks without an agent.

use std::net::IpAddr;

use actix::{AsyncContext, AtomicResponse, Context, Handler, Message, ResponseFuture};
use base64::Engine;
use ferric_drivers::DriverError;
use ferric_drivers::interface::{Json, Level, VendorMethod, WRONG_DEPLOY_KEY, find_method};
use ferric_machine::{Event, Heartbeat as Meaning, heartbeat, stopped_message};
use serde_json::Value;

use super::{Change, NodeActor};
use crate::error::NodeError;
use crate::job::stopped;
use crate::message::{CallVendor, Heartbeat, LookedUp, Lookup, VendorAnswer};
use crate::view::{self, keys};

impl Handler<Lookup> for NodeActor {
    type Result = AtomicResponse<Self, Result<LookedUp, NodeError>>;

    fn handle(&mut self, ask: Lookup, _: &mut Context<Self>) -> Self::Result {
        // while the machine loses power, only the agent that goes with it can ask; the next one would get no token
        if !self.state().lookup_allowed(self.world.settings.fast_track) || self.agent_goes {
            return self.refuse(NodeError::NotFound { what: "Node", id: self.uuid().to_string() });
        }
        let info = self.node.driver_internal_info.parse();
        let known = info.get(keys::TOKEN).and_then(Value::as_str);
        // shown once; once more where a process may have died over its answer, until an agent has shown that it heard
        let again =
            ask.wants_token && std::mem::take(&mut self.token_untold) && !info.contains_key(keys::URL);
        let fresh = ask.wants_token && known.is_none();
        let mut change = self.ramdisks_change();
        let token = match (ask.wants_token, known) {
            (false, _) => None,
            (true, Some(token)) if again => Some(token.to_owned()),
            (true, Some(_)) => Some("******".to_owned()),
            (true, None) => {
                let mut random = [0; 32];
                if let Err(error) = getrandom::fill(&mut random) {
                    let text = format!("this host gives no random numbers: {error}");
                    return self.refuse(NodeError::Conflict(text));
                }
                let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random);
                view::edit(&mut change.node.driver_internal_info, |info| {
                    info.insert(keys::TOKEN.into(), Value::String(token.clone()));
                });
                Some(token)
            }
        };
        let told = move |act: &mut NodeActor| LookedUp {
            uuid: act.node.uuid,
            properties: act.node.properties.parse(),
            instance_info: view::masked(act.node.instance_info.parse()),
            driver_internal_info: view::masked(act.node.driver_internal_info.parse()),
            agent_token: token,
            heartbeat_timeout: act.world.settings.heartbeat_timeout,
        };
        if !fresh {
            let answer = told(self);
            return AtomicResponse::new(Box::pin(actix::fut::wrap_future(std::future::ready(Ok(answer)))));
        }
        self.commit(change, move |act, _| told(act))
    }
}

/// Compares in a time that does not tell how much of it is right.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

impl Handler<Heartbeat> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, beat: Heartbeat, ctx: &mut Context<Self>) -> Self::Result {
        let info = self.node.driver_internal_info.parse();
        let text = |key: &str| info.get(key).and_then(Value::as_str);
        let token_fits = match (text(keys::TOKEN), &beat.agent_token) {
            (Some(known), Some(given)) => same(known, given),
            (None, _) | (_, None) => false,
        };
        if !token_fits {
            if self.state().lookup_allowed(self.world.settings.fast_track) {
                tracing::warn!(node = %self.uuid(), "heartbeat with a missing or wrong token");
            } else {
                // a ramdisk that was left running after its work calls until its machine is switched off
                tracing::debug!(node = %self.uuid(), state = %self.state(), "heartbeat of a ramdisk without work");
            }
            let text = "Invalid or missing agent token received. Reboot the node so that its ramdisk \
                        looks up again.";
            return self.refuse(NodeError::Invalid(text.into()));
        }
        // an installer that is no agent has no address, only a status (deploy.md §E, anaconda)
        let installer = beat.callback_url.is_empty();
        if !installer && text(keys::URL).is_some_and(|known| known != beat.callback_url) {
            let text =
                "Detected change in ramdisk provided \"callback_url\"; it may only change with a reboot.";
            return self.refuse(NodeError::Invalid(text.into()));
        }
        let meaning = heartbeat(&self.facts());
        if meaning == Meaning::Ignore {
            tracing::debug!(node = %self.uuid(), state = %self.state(), "heartbeat not expected here");
            return AtomicResponse::new(Box::pin(actix::fut::wrap_future(std::future::ready(Ok(())))));
        }
        // an agent that calls but cannot be reached does not hold the node for ever
        if self.silent.is_none() {
            self.arm(ctx);
        }
        let mut change = self.ramdisks_change();
        view::edit(&mut change.node.driver_internal_info, |info| {
            let url = (!installer).then_some(beat.callback_url);
            for (key, value) in [
                (keys::URL, url),
                (keys::VERSION, beat.agent_version),
                (keys::VERIFY_CA, beat.agent_verify_ca),
                (keys::AGENT_STATUS, beat.agent_status),
                (keys::AGENT_STATUS_MESSAGE, beat.agent_status_message),
            ] {
                if let Some(value) = value {
                    info.insert(key.into(), Value::String(value));
                }
            }
        });
        let drive = move |act: &mut NodeActor, ctx: &mut Context<NodeActor>| match meaning {
            Meaning::Drive => act.look_at_step(ctx, true),
            Meaning::Stop(activity) => act.fire(ctx, Event::Fail, Some(stopped_message(activity))),
            Meaning::Record | Meaning::Ignore => {}
        };
        if change.node.driver_internal_info == self.node.driver_internal_info {
            drive(self, ctx);
            return AtomicResponse::new(Box::pin(actix::fut::wrap_future(std::future::ready(Ok(())))));
        }
        change.tell(&self.world, "INFO", "agent", "the ramdisk's agent called".into(), serde_json::json!({}));
        self.commit(change, drive)
    }
}

/// A ramdisk without an agent calls (deploy.md §A.1): one of its deploy interface's methods.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub(crate) struct RamdiskCalls {
    method: &'static VendorMethod,
    args: Json,
    peer: Option<IpAddr>,
}

/// What somebody hears who may know nothing about the node, not even that there is one.
pub(super) fn wrong_key() -> NodeError {
    DriverError::InvalidParameter { reason: WRONG_DEPLOY_KEY.to_owned() }.into()
}

impl NodeActor {
    /// A change that the ramdisk brings: as the API lets it in before others, so does the database.
    fn ramdisks_change(&self) -> Change {
        Change { first: true, ..self.change() }
    }

    /// The answer to a call of a method that only ramdisks call; `None` when it is not one.
    pub(super) fn called_by_ramdisk(
        &self,
        ask: &CallVendor,
        ctx: &Context<Self>,
    ) -> Option<ResponseFuture<Result<VendorAnswer, NodeError>>> {
        let methods = self.job().ok()?.bound.deploy.vendor_methods();
        if !methods.iter().any(|method| method.name == ask.method) {
            return None;
        }
        let found = find_method(methods, Level::Node, &ask.method, &ask.http);
        let found = found.map_err(|error| if ask.anonymous { wrong_key() } else { error.into() });
        let (node, args, peer) = (ctx.address(), ask.args.clone(), ask.peer);
        Some(Box::pin(async move {
            match node.send(RamdiskCalls { method: found?, args, peer }).await {
                Ok(heard) => heard.map(|()| VendorAnswer::Accepted),
                Err(error) => Err(stopped("hearing the ramdisk", &error.to_string()).into()),
            }
        }))
    }
}

impl Handler<RamdiskCalls> for NodeActor {
    type Result = AtomicResponse<Self, Result<(), NodeError>>;

    fn handle(&mut self, ask: RamdiskCalls, ctx: &mut Context<Self>) -> Self::Result {
        let heard = self.job().and_then(|job| {
            Ok(job.bound.deploy.ramdisk_calls(&job.view, ask.method, &ask.args, ask.peer)?)
        });
        let keep = match heard {
            Ok(keep) => keep,
            Err(error) => return self.refuse(error),
        };
        let mut change = self.ramdisks_change();
        view::remember(&mut change.node.driver_internal_info, Value::Object(keep));
        // said again, as where the answer got lost: what is no news neither prolongs the wait nor fills the history
        if change.node.driver_internal_info == self.node.driver_internal_info {
            return AtomicResponse::new(Box::pin(actix::fut::wrap_future(std::future::ready(Ok(())))));
        }
        if self.silent.is_none() {
            self.arm(ctx);
        }
        let text = format!("the ramdisk called {}", ask.method.name);
        change.tell(&self.world, "INFO", "agent", text, serde_json::json!({}));
        self.commit(change, |act, ctx| act.look_at_step(ctx, true))
    }
}
