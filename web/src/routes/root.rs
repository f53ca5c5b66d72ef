//! `GET /`, `/v1`, `/healthz`, `/readyz` (api.md §2).

use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::error::Result;
use crate::gates::RESOURCES;
use crate::routes::at::exactly;
use crate::routes::read;
use crate::server::WebState;
use crate::version::Version;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(exactly("/").get(root))
        .service(exactly("/v1").get(v1))
        .service(exactly("/healthz").get(healthy))
        .service(exactly("/readyz").get(ready));
}

fn version(base: &str, max: Version) -> Value {
    json!({
        "id": "v1",
        "links": [{"href": format!("{base}/v1/"), "rel": "self"}],
        "status": "CURRENT",
        "min_version": Version::MIN.to_string(),
        "version": max.to_string(),
    })
}

async fn root(request: HttpRequest, context: Context, state: web::Data<WebState>) -> HttpResponse {
    let accept =
        request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if state.settings.dashboard && accept.contains("text/html") {
        return HttpResponse::Found().insert_header((header::LOCATION, "/ui/")).finish();
    }
    let version = version(&context.base, state.settings.max_version());
    HttpResponse::Ok().json(json!({
        "name": "OpenStack Ironic API",
        "description": "Ferric provisions bare metal machines; it speaks the API of OpenStack Ironic.",
        "default_version": version,
        "versions": [version],
    }))
}

async fn v1(context: Context, state: web::Data<WebState>) -> HttpResponse {
    let base = &context.base;
    let mut document = Map::new();
    document.insert("id".into(), json!("v1"));
    document.insert(
        "links".into(),
        json!([
            {"href": format!("{base}/v1/"), "rel": "self"},
            {"href": "https://docs.openstack.org/api-ref/baremetal/", "rel": "describedby", "type": "text/html"},
        ]),
    );
    document.insert(
        "media_types".into(),
        json!({"base": "application/json", "type": "application/vnd.openstack.ironic.v1+json"}),
    );
    document.insert("version".into(), version(base, state.settings.max_version()));
    for (name, _) in RESOURCES.iter().filter(|(_, since)| context.version.has(*since)) {
        let pair = json!([
            {"href": format!("{base}/v1/{name}/"), "rel": "self"},
            {"href": format!("{base}/{name}/"), "rel": "bookmark"},
        ]);
        document.insert((*name).to_owned(), pair);
    }
    HttpResponse::Ok().json(document)
}

/// The process answers.
async fn healthy() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// The database answers too.
async fn ready(state: web::Data<WebState>) -> Result<HttpResponse> {
    read(&state, |conn| ferric_schema::conductors::list(conn).map(drop)).await?;
    Ok(HttpResponse::Ok().json(json!({"status": "ready"})))
}
