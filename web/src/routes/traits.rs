//! `/v1/nodes/{ident}/traits` (api.md §3.5). Traits are changed by the node's actor, one request after the other.

use actix_web::http::header::{self, HeaderName};
use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::message::ChangeTraits;
use ferric_schema::nodes;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::body::Body;
use crate::check::{not_a_trait, not_of_type, trait_name};
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::policy::Rule;
use crate::query::encode;
use crate::routes::found::find_for;
use crate::routes::{at, read};
use crate::server::WebState;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/traits").get(list).put(set).delete(clear))
        .service(at("/nodes/{ident}/traits/{trait}").put(add).delete(remove));
}

/// The traits that a body asks for, each of them one.
pub(super) struct Wanted(pub(super) Vec<String>);

/// Reads `{"traits": […]}`. `noun`: the collection, for the client.
pub(super) fn wanted(body: Body, noun: &str) -> Result<Wanted> {
    let mut body = body.object()?;
    let traits = body.remove("traits");
    only(&body)?;
    let one = noun.trim_end_matches('s');
    let Some(traits) = traits else {
        return Err(ApiError::bad_request(format!(
            "A single {one} trait may be added via PUT /v1/{noun}/<{one} identifier>/traits/<trait> with no body, or all \
             {one} traits may be replaced via PUT /v1/{noun}/<{one} identifier>/traits with the list of traits specified \
             in the request body."
        )));
    };
    let wrong = |value: &Value, types: &str| {
        ApiError::bad_request(not_of_type(
            "body",
            value,
            types,
            "'traits' takes a list of the names of traits.",
        ))
    };
    let names = traits.as_array().ok_or_else(|| wrong(&traits, "'array'"))?;
    let name = |name: &Value| {
        let name = name.as_str().ok_or_else(|| wrong(name, "'string'"))?;
        trait_name(name)
            .map_err(|why| ApiError::bad_request(not_a_trait("body", name, &why)))
            .map(|()| name.to_owned())
    };
    names.iter().map(name).collect::<Result<_>>().map(Wanted)
}

fn only(rest: &serde_json::Map<String, Value>) -> Result<()> {
    match rest.keys().next() {
        Some(key) => Err(ApiError::bad_request(format!(
            "Schema error for body: Additional properties are not allowed ('{key}' was unexpected)"
        ))),
        None => Ok(()),
    }
}

/// Checks the request to add one trait, and says where it will be.
pub(super) fn added(
    context: &Context,
    noun: &str,
    ident: &str,
    name: &str,
    body: Body,
) -> Result<(HeaderName, String)> {
    trait_name(name).map_err(|why| ApiError::bad_request(not_a_trait("trait", name, &why)))?;
    let body = body.object()?;
    only(&body.iter().filter(|(key, _)| *key != "traits").map(|(k, v)| (k.clone(), v.clone())).collect())?;
    if !body.is_empty() {
        return Err(ApiError::bad_request("No body should be provided when adding a trait"));
    }
    let path = format!("{}/v1/{noun}/{}/traits/{name}", context.base, encode(ident));
    Ok((header::LOCATION, path))
}

/// The node, if nothing is asked in the query.
async fn node(
    request: &HttpRequest,
    ident: &str,
    context: &Context,
    state: &WebState,
    rule: Rule,
) -> Result<Uuid> {
    context.args(request)?;
    Ok(find_for(state, context, ident, rule).await?.uuid)
}

async fn list(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let id = node(&request, &ident, &context, &state, Rule::NodeTraitsList).await?;
    let traits = read(&state, move |conn| nodes::traits(conn, id)).await?;
    Ok(HttpResponse::Ok().json(json!({"traits": traits})))
}

async fn set(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let id = node(&request, &ident, &context, &state, Rule::NodeTraitsSet).await?;
    let Wanted(names) = wanted(body, "nodes")?;
    state.directory.ask(id, ChangeTraits::Set(names)).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn clear(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let id = node(&request, &ident, &context, &state, Rule::NodeTraitsDelete).await?;
    state.directory.ask(id, ChangeTraits::Set(Vec::new())).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn add(
    request: HttpRequest,
    path: Path<(String, String)>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let (ident, name) = path.into_inner();
    let id = node(&request, &ident, &context, &state, Rule::NodeTraitsSet).await?;
    let location = added(&context, "nodes", &ident, &name, body)?;
    state.directory.ask(id, ChangeTraits::Add(name)).await?;
    Ok(HttpResponse::NoContent().insert_header(location).finish())
}

async fn remove(
    request: HttpRequest,
    path: Path<(String, String)>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let (ident, name) = path.into_inner();
    let id = node(&request, &ident, &context, &state, Rule::NodeTraitsDelete).await?;
    state.directory.ask(id, ChangeTraits::Remove(name)).await?;
    Ok(HttpResponse::NoContent().finish())
}
