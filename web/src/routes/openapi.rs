//! `GET /openapi.json` and `/docs`: what the API is, for programs and for people.

use std::sync::LazyLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::openapi::{About, document};
use crate::routes::at::exactly;
use crate::server::WebState;
use crate::version::{IRONIC_HEADER, Version, negotiate};

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(exactly("/openapi.json").get(describe)).service(exactly("/docs").get(page));
}

/// `?microversion=` says which one is described; the newest unless said.
async fn describe(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    let args = context.args_at(&request, Version::MAX)?;
    let max = state.settings.max_version();
    let asked = args.text("microversion").unwrap_or("latest");
    let version = negotiate(|name| (name == IRONIC_HEADER).then_some(asked), max)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let about = About { base: &context.base, version, max, scheme: state.settings.auth.scheme() };
    Ok(HttpResponse::Ok().json(document(&about)))
}

/// A page in one piece, and what a browser may let it do: run and show what is in it, and read from here.
struct Page {
    html: String,
    policy: String,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let (css, js) = (include_str!("../openapi/docs.css"), include_str!("../openapi/docs.js"));
    let hash = |text: &str| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(js),
        hash(css)
    );
    let html = include_str!("../openapi/docs.html").replace("/*CSS*/", css).replace("/*JS*/", js);
    Page { html, policy }
});

async fn page(request: HttpRequest, context: Context) -> Result<HttpResponse> {
    context.args(&request)?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CONTENT_SECURITY_POLICY, PAGE.policy.as_str()))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(PAGE.html.as_str()))
}
