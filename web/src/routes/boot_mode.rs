//! `/v1/nodes/{ident}/states/boot_mode` and `/secure_boot` (api.md §3.5).

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::message::{SetBootMode, SetSecureBoot};
use ferric_machine::BootMode;

use crate::body::Body;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::policy::Rule;
use crate::routes::asked::Asked;
use crate::routes::at;
use crate::routes::found::find_for;
use crate::routes::states::accepted;
use crate::server::WebState;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/nodes/{ident}/states/boot_mode").put(set_boot_mode))
        .service(at("/nodes/{ident}/states/secure_boot").put(set_secure_boot));
}

async fn set_boot_mode(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let asked = Asked::read(&request, body, &context)?;
    let target = asked.text("target")?;
    let node = find_for(&state, &context, &ident, Rule::NodeSetBootMode).await?;
    let mode: BootMode = target.as_deref().and_then(|word| word.parse().ok()).ok_or_else(|| {
        let told = target.as_deref().unwrap_or("None");
        ApiError::bad_request(format!(
            "Invalid boot mode {told} requested for node. Allowed boot modes are: bios, uefi"
        ))
    })?;
    state.directory.ask(node.uuid, SetBootMode(mode)).await?;
    Ok(accepted(&context, &ident))
}

async fn set_secure_boot(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let asked = Asked::read(&request, body, &context)?;
    let target = asked.flag("target")?;
    let node = find_for(&state, &context, &ident, Rule::NodeSetSecureBoot).await?;
    let on = target.ok_or_else(|| {
        ApiError::bad_request(
            "Invalid secure_boot None requested for node. Allowed secure_boot states are: True, False) ",
        )
    })?;
    state.directory.ask(node.uuid, SetSecureBoot(on)).await?;
    Ok(accepted(&context, &ident))
}
