//! `POST /v1/continue_inspection`: what a ramdisk found, without credentials (api.md §9, deploy.md §D). The body finds
//! its node: by the id that the ramdisk was given, by the addresses of its network cards, or by that of its BMC.

use std::net::IpAddr;
use std::time::Duration;

use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::message::{ContinueInspection, LookedUp, Lookup};
use ferric_actors::{NodeError, Settings};
use ferric_machine::State;
use ferric_schema::{Node, NodeQuery, inventory, nodes, rules};
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::body::Body;
use crate::check::{mac, not_of_type};
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::gates::{CONTINUE_INSPECTION, CONTINUE_INSPECTION_OLD};
use crate::routes::ramdisk::not_found;
use crate::routes::{at, ramdisk, read};
use crate::server::WebState;

/// Nodes read at a time when one is looked for by the address of its BMC.
const PAGE: i64 = 200;

/// How long a machine may be ahead of what is written down about it, and how often that is looked at at most.
const AHEAD: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// Machines that may be ahead at once: each holds what it sent, and anybody may claim to be one.
static PLACES: Semaphore = Semaphore::const_new(64);

/// The most network cards of one machine.
const MOST_CARDS: usize = 1024;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/continue_inspection").post(receive));
}

/// The body may hold logs: 16 MiB.
async fn receive(
    request: HttpRequest,
    mut body: Body<16384>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    // what came of it is held until the end
    let _held = body.hold();
    let found = Findings::read(body.object_of("data")?)?;
    let version = context.version;
    let old = version.0 == CONTINUE_INSPECTION_OLD;
    if !version.has(CONTINUE_INSPECTION) && !old {
        return Err(ApiError::not_found(format!(
            "API version 1.{CONTINUE_INSPECTION} or newer is required; this request uses {version}."
        )));
    }
    if old && request.query_string().contains("node_uuid=") {
        return Err(ApiError::not_found(format!(
            "API version 1.{CONTINUE_INSPECTION} or newer is required for 'node_uuid'; this request uses {version}."
        )));
    }
    let args = context.args(&request)?;
    let node = found.node(&state, args.uuid("node_uuid")?).await?;
    let id = node.uuid;
    let (rules, traits, before) = read(&state, move |c| {
        Ok((rules::in_order(c, "main")?, nodes::traits(c, id)?, inventory::get(c, id)?))
    })
    .await?;
    let rules = rules.into_iter().map(|rule| serde_json::to_value(rule).expect("a rule is JSON")).collect();
    let Findings { inventory, plugin_data, .. } = found;
    let previous_inventory = before.map(|before| before.inventory_data.parse());
    let told = ContinueInspection { inventory, plugin_data, rules, traits, previous_inventory };
    let taken = state.directory.ask(id, told).await;
    taken.map_err(|error| ApiError::of_node(error, id))?;
    if old {
        return Ok(HttpResponse::Accepted().json(json!({"uuid": id})));
    }
    let seen = match state.directory.ask(id, Lookup { wants_token: true }).await {
        Ok(seen) => seen,
        // the inspection is over already: nobody waits for this ramdisk any more, so it gets no token
        Err(NodeError::NotFound { .. }) => without_token(&node, state.directory.settings()),
        Err(error) => return Err(error.into()),
    };
    Ok(HttpResponse::Accepted().json(ramdisk::answer(seen, &context.base, &state.settings)))
}

fn without_token(node: &Node, settings: &Settings) -> LookedUp {
    LookedUp {
        uuid: node.uuid,
        properties: node.properties.parse(),
        instance_info: node.instance_info.parse(),
        driver_internal_info: node.driver_internal_info.parse(),
        agent_token: None,
        heartbeat_timeout: settings.heartbeat_timeout,
    }
}

/// A body that has the form of one.
#[derive(Debug)]
struct Findings {
    inventory: Map<String, Value>,
    /// The rest of the body.
    plugin_data: Map<String, Value>,
    macs: Vec<String>,
    bmc: Vec<IpAddr>,
}

impl Findings {
    fn read(mut body: Map<String, Value>) -> Result<Findings> {
        let wrong = |why: &str| Err(ApiError::bad_request(why));
        let inventory = match body.remove("inventory") {
            Some(Value::Object(inventory)) => inventory,
            Some(other) => {
                return wrong(&not_of_type("data", &other, "'object'", "'inventory' takes an object."));
            }
            None => return wrong("Schema error for data: 'inventory' is a required property"),
        };
        let Some(cards) = inventory.get("interfaces").and_then(Value::as_array) else {
            return wrong(&match inventory.get("interfaces") {
                None => "Schema error for data: 'interfaces' is a required property".to_owned(),
                Some(other) => {
                    not_of_type("data", other, "'array'", "'interfaces' takes a list of network cards.")
                }
            });
        };
        if cards.is_empty() {
            return wrong("Schema error for data: [] should be non-empty: 'interfaces' needs a network card");
        }
        if cards.len() > MOST_CARDS {
            return wrong("'inventory.interfaces' has more than 1024 network cards.");
        }
        let mut macs = Vec::new();
        for (at, card) in cards.iter().enumerate() {
            let Some(address) = card.get("mac_address").and_then(Value::as_str) else {
                return Err(ApiError::bad_request(format!(
                    "Schema error for data: 'mac_address' is a required property (in inventory.interfaces[{at}])"
                )));
            };
            // an InfiniBand card has a longer one; it says nothing about a port of ours
            macs.extend(mac(address));
        }
        let bmc = ["bmc_address", "bmc_v6address"].iter().filter_map(|key| inventory.get(*key));
        let bmc = bmc.filter_map(Value::as_str).filter_map(address).collect();
        // an archive of the ramdisk's logs: no hook reads it, and the database is no place for it
        body.remove("logs");
        Ok(Findings { inventory, plugin_data: body, macs, bmc })
    }

    /// The one node that waits for this body. A fast machine is up before it is written down that it is waited for:
    /// then that is waited for here, as nobody would ask again.
    async fn node(&self, state: &WebState, id: Option<Uuid>) -> Result<Node> {
        // from before the first look on, so that no commit is missed
        let committed = state.directory.store().committed();
        let soon = match self.fits(state, id).await? {
            Fits::One(node) => return Ok(*node),
            Fits::Soon(soon) => soon,
        };
        let Ok(_place) = PLACES.try_acquire() else {
            return Err(ApiError::busy(
                "Too many machines are up before their inspection; come again later.",
            ));
        };
        settle(state, soon, committed).await?;
        match self.fits(state, id).await? {
            Fits::One(node) => Ok(*node),
            Fits::Soon(_) => Err(self.nobody(id)),
        }
    }

    async fn fits(&self, state: &WebState, id: Option<Uuid>) -> Result<Fits> {
        let known = match id {
            Some(id) => vec![id],
            None => state.directory.node_of_port_address(&self.macs),
        };
        let known = read(state, move |c| {
            let mut found = Vec::new();
            for id in known {
                found.extend(nodes::get(c, id)?.filter(|node| waits(node) || begins(node)));
            }
            Ok(found)
        });
        let (mut found, mut soon): (Vec<Node>, Vec<Node>) = known.await?.into_iter().partition(waits);
        if id.is_none() {
            if found.len() > 1 && found.iter().any(|node| self.is_bmc_of(node)) {
                found.retain(|node| self.is_bmc_of(node));
            }
            if found.is_empty() && !self.bmc.is_empty() {
                let (waiting, beginning): (Vec<Node>, Vec<Node>) =
                    self.by_bmc(state).await?.into_iter().partition(waits);
                found = waiting;
                soon.extend(beginning);
            }
        }
        if found.len() > 1 {
            return Err(not_found(
                "More than one node fits the addresses of the ramdisk: a machine must be enrolled once.",
            ));
        }
        match found.pop() {
            Some(node) => Ok(Fits::One(Box::new(node))),
            None if soon.is_empty() => Err(self.nobody(id)),
            None => Ok(Fits::Soon(soon.iter().map(|node| node.uuid).collect())),
        }
    }

    fn nobody(&self, id: Option<Uuid>) -> ApiError {
        not_found(&match id {
            Some(id) => format!("Node {id} is not there, or is not being inspected."),
            None => format!(
                "No node that is being inspected has a port with one of the addresses {} or a BMC at {}.",
                self.macs.join(", "),
                self.bmc.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
            ),
        })
    }

    /// Those that are being inspected, which are few, page by page.
    async fn by_bmc(&self, state: &WebState) -> Result<Vec<Node>> {
        let mut found = Vec::new();
        let mut marker = None;
        loop {
            let query = NodeQuery {
                provision_state: Some(vec![State::InspectWait, State::Inspecting]),
                include_children: true,
                limit: Some(PAGE),
                marker,
                ..NodeQuery::default()
            };
            let page = match read(state, move |c| nodes::list(c, &query)).await {
                Ok(page) => page,
                // the node at the page's edge was deleted in between; the ramdisk comes again
                Err(_) if marker.is_some() => {
                    return Err(ApiError::conflict("The nodes changed while they were searched; try again."));
                }
                Err(error) => return Err(error),
            };
            marker = page.last().map(|node| node.uuid);
            let last = page.len() < usize::try_from(PAGE).expect("a small number");
            found.extend(page.into_iter().filter(|node| self.is_bmc_of(node)));
            if last {
                return Ok(found);
            }
        }
    }

    fn is_bmc_of(&self, node: &Node) -> bool {
        addresses_of_bmc(node).iter().any(|own| self.bmc.contains(own))
    }
}

/// Which nodes fit a body.
enum Fits {
    /// The one that waits for it.
    One(Box<Node>),
    /// None that waits, but these are on their way into an inspection, or out of one.
    Soon(Vec<Uuid>),
}

fn waits(node: &Node) -> bool {
    node.provision_state == State::InspectWait
}

fn begins(node: &Node) -> bool {
    node.provision_state == State::Inspecting
}

/// Returns once one of `soon` waits for its ramdisk, none of them will, or [`AHEAD`] has passed. Only these are looked at,
/// and only after a commit.
async fn settle(state: &WebState, soon: Vec<Uuid>, mut committed: watch::Receiver<u64>) -> Result<()> {
    let until = Instant::now() + AHEAD;
    while let Ok(Ok(())) = timeout_at(until, committed.changed()).await {
        let soon = soon.clone();
        let settled = read(state, move |c| {
            let mut on_their_way = false;
            for id in soon {
                let Some(node) = nodes::get(c, id)? else { continue };
                if waits(&node) {
                    return Ok(true);
                }
                on_their_way |= begins(&node);
            }
            Ok(!on_their_way)
        });
        if settled.await? {
            break;
        }
        // commits that come close together are looked at once
        sleep(LOOK).await;
    }
    Ok(())
}

/// An address that says something.
fn address(text: &str) -> Option<IpAddr> {
    // ironic-python-agent gives IPv6 addresses with their prefix
    let text = text.split('/').next().unwrap_or(text).trim();
    text.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified())
}

/// Where the node's BMC is, as far as that is an address: what was looked up when the inspection began, and what
/// driver_info says.
fn addresses_of_bmc(node: &Node) -> Vec<IpAddr> {
    let mut texts: Vec<String> = Vec::new();
    if let Some(Value::Array(all)) = node.driver_internal_info.get("lookup_bmc_addresses") {
        texts.extend(all.iter().filter_map(|one| one.as_str().map(str::to_owned)));
    }
    for (key, value) in node.driver_info.parse() {
        if let (true, Value::String(text)) = (key.ends_with("_address"), value) {
            texts.push(host_of(&text).to_owned());
        }
    }
    texts.iter().filter_map(|text| address(text)).collect()
}

/// The host in an address or URL: `https://[::1]:443/redfish` and `10.0.0.7` alike.
fn host_of(text: &str) -> &str {
    let Some((_, rest)) = text.split_once("://") else { return text };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.split(':').next().unwrap_or(authority),
    }
}

#[cfg(test)]
mod tests;
