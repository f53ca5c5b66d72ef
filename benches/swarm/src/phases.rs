//! What each phase asks of each node.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::CallError;
use crate::options::{Pace, Phase};
use crate::pace::spread;
use crate::record::Kind;
use crate::run::Swarm;
use crate::watch::{Looks, look_once, watch};

/// How a phase ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every node has settled.
    Done,
    /// The API, or the driver, has no such thing.
    Skipped(String),
    /// It was stopped.
    Interrupted,
}

/// Does a phase for these nodes, wave by wave.
pub(crate) async fn work(
    swarm: &Arc<Swarm>,
    phase: Phase,
    nodes: &[usize],
    looks: &Arc<Mutex<Looks>>,
) -> Outcome {
    match phase {
        Phase::List => list_all(swarm).await,
        Phase::Delete => {
            // which of them have to be put into maintenance first
            let _ = look_once(swarm).await;
        }
        Phase::Enrol
        | Phase::Manage
        | Phase::Inspect
        | Phase::Provide
        | Phase::Deploy
        | Phase::Power
        | Phase::Patch
        | Phase::Undeploy => {}
    }
    let wave = if swarm.options.wave == 0 { nodes.len().max(1) } else { swarm.options.wave };
    let mut begun = 0;
    for (number, nodes) in nodes.chunks(wave).enumerate() {
        let mut rest = nodes;
        if let (0, Some((&first, others))) = (number, nodes.split_first()) {
            // one goes ahead: what does not exist at all is not asked for thousands of times
            match ask(swarm, phase, first, Instant::now()).await {
                Err(error) if error.is_unsupported() => return Outcome::Skipped(error.to_string()),
                other => answered(swarm, phase, first, other),
            }
            rest = others;
        }
        begun += nodes.len();
        let asking = {
            let shared = swarm.clone();
            let work = move |index, planned| {
                let swarm = shared.clone();
                async move {
                    let answer = ask(&swarm, phase, index, planned).await;
                    answered(&swarm, phase, index, answer);
                }
            };
            spread(swarm.options.pace, swarm.options.concurrency, rest.to_vec(), work)
        };
        if is_watched(phase) {
            let (of_wave, ()) = tokio::join!(watch(swarm, phase, begun), asking);
            let mut looks = looks.lock().expect("no code panics while it holds the looks");
            looks.count += of_wave.count;
            looks.span += of_wave.span;
        } else {
            asking.await;
        }
    }
    Outcome::Done
}

/// Whether the goal is reached some time after the answer.
pub(crate) fn is_watched(phase: Phase) -> bool {
    match phase {
        Phase::Manage | Phase::Inspect | Phase::Provide | Phase::Deploy | Phase::Power | Phase::Undeploy => {
            true
        }
        Phase::Enrol | Phase::Patch | Phase::List | Phase::Delete => false,
    }
}

/// Takes in how the asking went.
fn answered(swarm: &Swarm, phase: Phase, index: usize, answer: Result<(), CallError>) {
    match answer {
        Ok(()) if is_watched(phase) => swarm.fleet.accepted(index),
        Ok(()) => swarm.fleet.inner().settle(index, phase, Ok(())),
        Err(error) => swarm.fleet.inner().settle(index, phase, Err(error.to_string())),
    }
}

/// Asks one node for the phase's goal.
async fn ask(swarm: &Swarm, phase: Phase, index: usize, planned: Instant) -> Result<(), CallError> {
    if phase == Phase::Enrol {
        return enrol(swarm, index, planned).await;
    }
    let Some(id) = swarm.fleet.id(index) else { return Ok(()) };
    match phase {
        Phase::Enrol => Ok(()),
        Phase::Manage => provision(swarm, phase, index, id, "manage", planned).await,
        Phase::Inspect => provision(swarm, phase, index, id, "inspect", planned).await,
        Phase::Provide => provision(swarm, phase, index, id, "provide", planned).await,
        Phase::Undeploy => provision(swarm, phase, index, id, "deleted", planned).await,
        Phase::Deploy => {
            let mut due = planned;
            if let Some(image) = swarm.image.as_ref().filter(|_| swarm.fleet.nodes[index].wants_image) {
                let fields = [
                    ("image_source", image.url.as_str()),
                    ("image_os_hash_algo", image.algorithm()),
                    ("image_os_hash_value", image.checksum.as_str()),
                    ("image_disk_format", "raw"),
                ];
                let patch = fields.map(|(key, value)| {
                    json!({"op": "add", "path": format!("/instance_info/{key}"), "value": value})
                });
                let path = format!("/v1/nodes/{id}");
                let patch = Value::from(patch.to_vec());
                swarm.client.call(Kind::PatchInstance, Method::PATCH, &path, Some(&patch), planned).await?;
                due = Instant::now();
            }
            provision(swarm, phase, index, id, "active", due).await?;
            if swarm.options.pace != Pace::Closed {
                swarm.fleet.asked_at(index, planned);
            }
            Ok(())
        }
        Phase::Power => {
            swarm.fleet.asked(index, phase, planned);
            let path = format!("/v1/nodes/{id}/states/power");
            let body = json!({"target": "rebooting"});
            swarm.client.call(Kind::Power, Method::PUT, &path, Some(&body), planned).await.map(drop)
        }
        Phase::Patch => {
            let path = format!("/v1/nodes/{id}");
            let patch = json!([{"op": "add", "path": "/extra/swarm", "value": index}]);
            let began = Instant::now();
            swarm.client.call(Kind::Patch, Method::PATCH, &path, Some(&patch), planned).await?;
            swarm.recorder.transition(phase, taken(swarm, planned, began));
            Ok(())
        }
        Phase::List => {
            let path = format!("/v1/nodes/{id}");
            let began = Instant::now();
            swarm.client.call(Kind::Show, Method::GET, &path, None, planned).await?;
            swarm.recorder.transition(phase, taken(swarm, planned, began));
            Ok(())
        }
        Phase::Delete => delete(swarm, index, id, planned).await,
    }
}

/// From the planned moment in an open loop, else from the beginning.
fn taken(swarm: &Swarm, planned: Instant, began: Instant) -> std::time::Duration {
    match swarm.options.pace {
        Pace::Closed => began.elapsed(),
        Pace::Open { .. } => planned.elapsed(),
    }
}

async fn provision(
    swarm: &Swarm,
    phase: Phase,
    index: usize,
    id: Uuid,
    verb: &str,
    planned: Instant,
) -> Result<(), CallError> {
    swarm.fleet.asked(index, phase, planned);
    let path = format!("/v1/nodes/{id}/states/provision");
    let body = json!({ "target": verb });
    swarm.client.call(Kind::Provision(phase), Method::PUT, &path, Some(&body), planned).await.map(drop)
}

#[derive(Deserialize)]
struct Made {
    uuid: Uuid,
    provision_state: Option<String>,
}

/// Adds what to do about a name that is taken.
fn name_taken(mut error: CallError) -> CallError {
    if let CallError::Refused { status: StatusCode::CONFLICT, reason } = &mut error {
        reason.push_str(
            " (of an earlier run? --phases delete with the same nodes removes them; another --seed gives others)",
        );
    }
    error
}

async fn enrol(swarm: &Swarm, index: usize, planned: Instant) -> Result<(), CallError> {
    let node = &swarm.fleet.nodes[index];
    let client = &swarm.client;
    let began = Instant::now();
    let made = client.call(Kind::CreateNode, Method::POST, "/v1/nodes", Some(&node.body), planned).await;
    let made = made.map_err(name_taken)?;
    let made: Made = serde_json::from_slice(&made)
        .map_err(|source| CallError::Unreadable { what: "POST /v1/nodes", source })?;
    let state = made.provision_state.as_deref().unwrap_or("enroll");
    swarm.fleet.exists(index, made.uuid, state, &swarm.states);
    for port in &node.ports {
        let mut port = port.clone();
        port["node_uuid"] = json!(made.uuid);
        client.call(Kind::CreatePort, Method::POST, "/v1/ports", Some(&port), Instant::now()).await?;
    }
    swarm.recorder.transition(Phase::Enrol, taken(swarm, planned, began));
    Ok(())
}

async fn delete(swarm: &Swarm, index: usize, id: Uuid, planned: Instant) -> Result<(), CallError> {
    let client = &swarm.client;
    let state = swarm.fleet.inner().lives[index].state.map(|state| swarm.states.name(state));
    let mut due = planned;
    if !matches!(state.as_deref(), Some("enroll" | "manageable" | "available")) {
        let path = format!("/v1/nodes/{id}/maintenance");
        let reason = json!({"reason": "ferric swarm removes it"});
        client.call(Kind::Maintenance, Method::PUT, &path, Some(&reason), planned).await?;
        due = Instant::now();
    }
    let path = format!("/v1/nodes/{id}");
    match client.call(Kind::Delete, Method::DELETE, &path, None, due).await {
        Ok(_) | Err(CallError::Refused { status: StatusCode::NOT_FOUND, .. }) => {}
        Err(error) => return Err(error),
    }
    swarm.recorder.transition(Phase::Delete, taken(swarm, planned, due));
    swarm.fleet.gone(index, &swarm.states);
    Ok(())
}

#[derive(Deserialize)]
struct Listed {
    nodes: Vec<Id>,
    next: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Id {
    uuid: Uuid,
}

/// Reads the detailed list in pages of a thousand; nodes that are missing in it fail.
async fn list_all(swarm: &Swarm) {
    let read = async {
        let mut seen = std::collections::HashSet::new();
        let mut marker = String::new();
        loop {
            let path = format!("/v1/nodes/detail?limit=1000{marker}");
            let body = swarm.client.call(Kind::ListDetail, Method::GET, &path, None, Instant::now()).await?;
            let page: Listed = serde_json::from_slice(&body)
                .map_err(|source| CallError::Unreadable { what: "GET /v1/nodes/detail", source })?;
            seen.extend(page.nodes.iter().map(|node| node.uuid));
            match (page.next, page.nodes.last()) {
                (Some(_), Some(last)) => marker = format!("&marker={}", last.uuid),
                (None, _) | (_, None) => return Ok::<_, CallError>(seen),
            }
        }
    };
    let result = read.await;
    let mut inner = swarm.fleet.inner();
    for life in inner.lives.iter_mut().filter(|life| life.failed.is_none()) {
        let Some(id) = life.id else { continue };
        match &result {
            Ok(seen) if seen.contains(&id) => {}
            Ok(_) => life.failed = Some((Phase::List, "is missing in the list of nodes".to_owned())),
            Err(error) => life.failed = Some((Phase::List, format!("cannot be listed: {error}"))),
        }
    }
}
