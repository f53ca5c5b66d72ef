//! `/v1/nodes/{ident}/states/raid` (api.md §3.5): the RAID configuration that is wanted.

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::message::SetTargetRaidConfig;
use ferric_actors::{DriverError, NodeError, python};
use serde_json::{Map, Value};

use crate::body::Body;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::policy::Rule;
use crate::routes::at;
use crate::routes::found::find_for;
use crate::server::WebState;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/states/raid").put(want));
}

async fn want(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    // the whole body is the configuration; none at all takes the wish back, null does not
    let config = match body.0 {
        None => Map::new(),
        Some(Value::Object(config)) => config,
        Some(
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)),
        ) => {
            let told: String = python::str(&other).chars().take(200).collect();
            return Err(ApiError::bad_request(format!(
                "Expected types <class 'dict'> for target_raid_config: {told}. Send a JSON object, {{}} for none."
            )));
        }
    };
    let node = find_for(&state, &context, &ident, Rule::NodeSetRaidState).await?;
    match state.directory.ask(node.uuid, SetTargetRaidConfig(config)).await {
        Ok(()) => Ok(HttpResponse::NoContent().finish()),
        // RAID is a standard interface that not every machine has: what is not there is not found
        Err(error @ NodeError::Driver(DriverError::Unsupported { .. })) => {
            Err(ApiError::not_found(error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}
