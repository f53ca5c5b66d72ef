//! The paths of the API, a file per noun. Every one answers with `/v1` before it and without.

mod allocations;
mod asked;
mod at;
mod bios;
mod boot_mode;
mod chassis;
mod children;
mod conductors;
mod console;
mod continue_inspection;
mod deploy_templates;
mod drivers;
mod edit;
mod events;
mod ferric;
mod firmware;
mod found;
mod health;
mod history;
mod indicators;
mod inspection_rules;
mod inventory;
mod kept;
mod kept_steps;
mod management;
mod metrics;
mod network_events;
mod node;
mod nodes;
mod of_node;
mod openapi;
mod port_rules;
mod portgroups;
mod ports;
mod provision;
mod raid;
mod ramdisk;
mod root;
pub(crate) mod rule_form;
mod runbooks;
mod shards;
mod states;
mod steps;
mod terminal;
mod traits;
mod vendor;
mod vifs;
mod vmedia;
mod volume;

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_schema::portgroups::Portgroup;
use ferric_schema::{Conn, StoreError};

use crate::context::{Context, layer};
use crate::error::{ApiError, Result};
use crate::gates::PORTGROUPS;
use crate::routes::at::at;
pub(crate) use crate::routes::events::Hub;
pub(crate) use crate::routes::metrics::Told;
use crate::server::WebState;

/// The whole API, as one scope that takes every path: register other services before it. Needs
/// `web::Data<WebState>` as app data.
pub fn configure(cfg: &mut ServiceConfig) {
    let scope = web::scope("")
        .wrap(from_fn(layer))
        // paths are compared in this order: first come those that are asked for the most
        .configure(nodes::configure)
        .configure(root::configure)
        .configure(openapi::configure)
        .configure(states::configure)
        .configure(management::configure)
        .configure(raid::configure)
        .configure(console::configure)
        .configure(terminal::configure)
        .configure(boot_mode::configure)
        .configure(indicators::configure)
        .configure(bios::configure)
        .configure(firmware::configure)
        .configure(vmedia::configure)
        .configure(vendor::configure)
        .configure(ports::configure)
        .configure(chassis::configure)
        .configure(portgroups::configure)
        .configure(volume::configure)
        .configure(drivers::configure)
        .configure(conductors::configure)
        .configure(ramdisk::configure)
        .configure(traits::configure)
        .configure(history::configure)
        .configure(inventory::configure)
        .configure(children::configure)
        .configure(deploy_templates::configure)
        .configure(runbooks::configure)
        .configure(allocations::configure)
        .configure(shards::configure)
        .configure(network_events::configure)
        .configure(vifs::configure)
        .configure(inspection_rules::configure)
        .configure(continue_inspection::configure)
        .configure(ferric::configure)
        .configure(health::configure)
        .configure(metrics::configure)
        .configure(events::configure)
        .default_service(web::to(elsewhere));
    cfg.service(scope);
}

/// Whatever no resource is registered for: a field of one thing as a path of its own, or what nobody has.
async fn elsewhere(
    request: HttpRequest,
    context: Context,
    state: web::Data<WebState>,
) -> Result<HttpResponse> {
    let path = request.path().trim_matches('/');
    let path = path.strip_prefix("v1/").unwrap_or(path);
    let reading = request.method() == Method::GET;
    if reading && let Some((ident, tail)) = path.strip_prefix("nodes/").and_then(|rest| rest.split_once('/'))
    {
        // what has parts and is none itself
        if tail == "management" || tail.starts_with("firmware/") {
            return Err(ApiError::no_method_but(""));
        }
        return node::show_fields(&state, &context, ident, &tail.replace('/', ",")).await;
    }
    let below = |noun: &str| {
        let rest = path.strip_prefix(noun).filter(|_| reading)?;
        rest.split_once('/').map(|(ident, tail)| (ident, tail.replace('/', ",")))
    };
    if let Some((ident, list)) = below("ports/") {
        return ports::show_fields(&state, &context, ident, &list).await;
    }
    if let Some((ident, list)) = below("portgroups/").filter(|_| context.version.has(PORTGROUPS)) {
        return of_node::show_fields::<Portgroup>(&state, &context, ident, &list).await;
    }
    if let Some((ident, list)) = below("chassis/") {
        return chassis::show_fields(&state, &context, ident, &list).await;
    }
    if reading && let Some((name, tail)) = path.strip_prefix("drivers/").and_then(|rest| rest.split_once('/'))
    {
        return drivers::show_fields(&state, &context, name, &tail.replace('/', ","));
    }
    if !reading && path.strip_prefix("nodes/").is_some_and(|rest| rest.contains('/')) {
        return Err(ApiError::no_method_but("GET"));
    }
    Err(ApiError::no_path())
}

/// A read of the store.
async fn read<T, F>(state: &WebState, query: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&mut Conn) -> std::result::Result<T, StoreError> + Send + 'static,
{
    Ok(state.directory.store().read(query).await?)
}

/// A trailing `.json`, taken off where the version knows it as a suffix.
fn without_json_suffix<'a>(ident: &'a str, context: &Context) -> Option<&'a str> {
    ident.strip_suffix(".json").filter(|_| !context.version.has(crate::gates::JSON_SUFFIX_LITERAL))
}
