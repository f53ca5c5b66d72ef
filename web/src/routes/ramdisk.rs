//! `/v1/lookup` and `/v1/heartbeat/{ident}`: what a ramdisk calls, without credentials (api.md §9).

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::NodeError;
use ferric_actors::message::{Heartbeat, LookedUp, Lookup};
use ferric_agent_wire::{LookupConfig, LookupNode, LookupResponse, Secret};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::body::Body;
use crate::check::mac;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::gates::LOOKUP_TOKEN;
use crate::mask;
use crate::query;
use crate::routes::asked::Asked;
use crate::routes::at;
use crate::routes::found::{find, missing};
use crate::server::{WebSettings, WebState};

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/lookup").get(lookup)).service(at("/heartbeat/{ident}").post(heartbeat));
}

async fn lookup(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    let macs: Vec<String> =
        args.list("addresses").unwrap_or_default().iter().filter_map(|text| mac(text)).collect();
    let uuid = args.uuid("node_uuid")?;
    let node = match uuid {
        Some(uuid) => uuid,
        None if macs.is_empty() => {
            return Err(ApiError::bad_request(
                "At least one of 'addresses' and 'node_uuid' parameters is required, the addresses being MAC addresses",
            ));
        }
        None => by_addresses(&state, &macs)?,
    };
    let wants_token = context.version.has(LOOKUP_TOKEN);
    let found = state.directory.ask(node, Lookup { wants_token }).await.map_err(|error| {
        if let NodeError::NotFound { .. } = error {
            return not_found(&format!("Node {node} is not there, or waits for no ramdisk."));
        }
        error.into()
    })?;
    Ok(HttpResponse::Ok().json(answer(found, &context.base, &state.settings)))
}

/// The agent's own words: ferric-agent and an unmodified ironic-python-agent read the same.
pub(super) fn answer(found: LookedUp, base: &str, settings: &WebSettings) -> LookupResponse {
    let id = found.uuid;
    let link = |rel: &str, version: &str| json!({"href": format!("{base}{version}/nodes/{id}"), "rel": rel});
    LookupResponse {
        node: LookupNode {
            uuid: id.to_string(),
            // anybody on the provisioning network may ask: what GET hides is hidden here too
            properties: masked(found.properties),
            instance_info: masked(found.instance_info),
            driver_internal_info: masked(found.driver_internal_info),
            links: vec![link("self", "/v1"), link("bookmark", "")],
        },
        config: LookupConfig {
            metrics: object(json!({
                "backend": "noop", "prepend_host": false, "prepend_uuid": false, "prepend_host_reverse": true,
                "global_prefix": null,
            })),
            metrics_statsd: object(json!({"statsd_host": "localhost", "statsd_port": 8125})),
            heartbeat_timeout: found.heartbeat_timeout.as_secs(),
            agent_containers: object(json!({
                "allow_arbitrary_containers": false, "allowed_containers": [], "runner": "podman", "pull_options": [],
                "container_steps_file": "/etc/ironic-python-agent.d/mysteps.yaml",
                "run_options": ["--rm", "--network=host"],
            })),
            agent_token: found.agent_token.map(Secret::new),
            agent_token_required: true,
            agent_md5_checksum_enable: settings.allow_md5_checksum,
            permitted_image_formats: settings.permitted_image_formats.clone(),
            ..LookupConfig::default()
        },
    }
}

fn masked(map: Map<String, Value>) -> Map<String, Value> {
    let mut value = Value::Object(map);
    mask::mask(&mut value);
    object(value)
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// What a ramdisk is told: no more than that, in Ironic.
pub(super) fn not_found(why: &str) -> ApiError {
    ApiError::not_found(format!("Resource could not be found. {why}"))
}

/// The one node that has ports with these addresses; none and several are the same to a ramdisk.
fn by_addresses(state: &WebState, macs: &[String]) -> Result<Uuid> {
    let found = state.directory.node_of_port_address(macs);
    match found.as_slice() {
        [node] => Ok(*node),
        [] => Err(not_found(&format!("No node has ports with the addresses {}.", macs.join(", ")))),
        [_, ..] => Err(not_found(&format!(
            "More than one node has ports with the addresses {}: a machine must be enrolled once.",
            macs.join(", ")
        ))),
    }
}

fn text(body: &Map<String, Value>, key: &str) -> Result<Option<String>> {
    match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(ApiError::bad_request(format!("Expected string for {key}")))
        }
    }
}

async fn heartbeat(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let body = Asked::read(&request, body, &context)?.all();
    let message = Heartbeat {
        callback_url: text(&body, "callback_url")?
            .ok_or_else(|| ApiError::bad_request("Missing mandatory parameter: callback_url"))?,
        agent_token: text(&body, "agent_token")?,
        agent_version: text(&body, "agent_version")?,
        agent_verify_ca: text(&body, "agent_verify_ca")?,
        agent_status: text(&body, "agent_status")?,
        agent_status_message: text(&body, "agent_status_message")?,
    };
    check(&message, state.settings.require_agent_tls)?;
    // agents call by id, all of them again and again: the node's own actor knows best whether it is there
    let node = match query::parse_uuid(&ident) {
        Some(node) => node,
        None => find(&state, &context, &ident).await?.uuid,
    };
    state.directory.ask(node, message).await.map_err(|error| {
        match matches!(error, NodeError::NotFound { .. }) {
            true => missing(&context, &ident),
            false => error.into(),
        }
    })?;
    Ok(HttpResponse::Accepted().finish())
}

fn check(message: &Heartbeat, require_tls: bool) -> Result<()> {
    if message.agent_token.as_deref().is_none_or(str::is_empty) {
        return Err(ApiError::bad_request(
            "Agent token is required for heartbeat processing. It comes with the first lookup.",
        ));
    }
    if message.agent_version.is_none() && message.agent_status.is_none() {
        return Err(ApiError::bad_request(
            "Agent did not transmit a version, and a version is required. Please update the agent being used.",
        ));
    }
    if let Some(status) = &message.agent_status
        && !["start", "end", "error"].contains(&status.as_str())
    {
        return Err(ApiError::bad_request("Agent status is invalid. Valid states are start,end,error."));
    }
    let url = message.callback_url.to_ascii_lowercase();
    if url.is_empty() && message.agent_status.is_some() {
        return Ok(());
    }
    match url.split_once("://").map(|(scheme, rest)| (scheme, !rest.is_empty())) {
        Some(("https", true)) => Ok(()),
        Some(("http", true)) if require_tls => Err(ApiError::bad_request(
            "The callback_url of the agent must be https: let the agent make its certificate (ipa-enable-tls), or set \
             [agent] require_tls = false.",
        )),
        Some(("http", true)) => Ok(()),
        Some(_) | None => Err(ApiError::bad_request(
            "An issue with the supplied \"callback_url\" has been detected. It must be an http or https URL.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(url: &str, version: Option<&str>, status: Option<&str>, token: Option<&str>) -> Heartbeat {
        Heartbeat {
            callback_url: url.to_owned(),
            agent_token: token.map(str::to_owned),
            agent_version: version.map(str::to_owned),
            agent_verify_ca: None,
            agent_status: status.map(str::to_owned),
            agent_status_message: None,
        }
    }

    #[test]
    fn a_lookup_tells_an_agent_what_it_needs() {
        let found = LookedUp {
            uuid: Uuid::nil(),
            properties: Map::new(),
            instance_info: Map::new(),
            driver_internal_info: Map::new(),
            agent_token: Some("t0ken".to_owned()),
            heartbeat_timeout: std::time::Duration::from_secs(300),
        };
        let told = answer(found, "http://h:1", &WebSettings::default());
        let body = serde_json::to_value(&told).expect("JSON");
        assert_eq!(body["node"]["uuid"], json!(Uuid::nil()));
        assert_eq!(body["node"]["links"][0]["href"], json!(format!("http://h:1/v1/nodes/{}", Uuid::nil())));
        assert_eq!(body["config"]["agent_token"], "t0ken");
        assert_eq!(body["config"]["agent_token_required"], true);
        assert_eq!(body["config"]["heartbeat_timeout"], 300);
        assert_eq!(body["config"]["permitted_image_formats"], json!(["raw", "gpt", "qcow2", "iso"]));
        assert!(!format!("{told:?}").contains("t0ken"), "a token is not printed");
    }

    #[test]
    fn heartbeats_have_a_token_a_version_and_a_safe_address() {
        let ok = |url, version, status, token, tls| check(&beat(url, version, status, token), tls).is_ok();
        assert!(ok("https://h:9999", Some("13"), None, Some("t"), true));
        assert!(!ok("http://h:9999", Some("13"), None, Some("t"), true));
        assert!(ok("http://h:9999", Some("13"), None, Some("t"), false));
        assert!(!ok("https://h:9999", None, None, Some("t"), true));
        assert!(!ok("https://h:9999", Some("13"), None, None, true));
        assert!(ok("", None, Some("end"), Some("t"), true) && !ok("", Some("13"), None, Some("t"), true));
        assert!(
            !ok("", None, Some("done"), Some("t"), true) && !ok("ftp://h", Some("1"), None, Some("t"), false)
        );
    }
}
