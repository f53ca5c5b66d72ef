//! A path with its methods, as the table of operations has them: whoever registers a handler that has no row there
//! finds out at the start.

use actix_web::body::MessageBody;
use actix_web::dev::{AppService, HttpServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web;
use actix_web::{FromRequest, Handler, HttpMessage, HttpResponse, Resource, Responder};

use crate::body::below;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::operations::{Method, Operation, of_path};

/// A path that handlers are being given to.
pub(super) struct At {
    path: &'static str,
    rows: Vec<&'static Operation>,
    resource: Resource,
}

/// A path of Ironic's; it answers with `/v1` before it and without.
pub(super) fn at(path: &'static str) -> At {
    At { path, rows: of_path(path), resource: web::resource([format!("/v1{path}"), path.to_owned()]) }
}

/// A path that answers just so.
pub(super) fn exactly(path: &'static str) -> At {
    At { path, rows: of_path(path), resource: web::resource(path) }
}

macro_rules! method {
    ($name:ident $method:ident $route:expr) => {
        /// Gives the path a handler for the method.
        pub(super) fn $name<F, A>(self, handler: F) -> At
        where
            F: Handler<A>,
            A: FromRequest + 'static,
            F::Output: Responder + 'static,
        {
            let known = self.rows.iter().any(|row| row.method == Method::$method);
            assert!(known, "{} {} has no row in the table of operations", stringify!($method), self.path);
            At { resource: self.resource.route($route.to(handler)), ..self }
        }
    };
}

impl At {
    method!(get GET web::get());
    method!(post POST web::post());
    method!(put PUT web::put());
    method!(patch PATCH web::patch());
    method!(delete DELETE web::delete());
    method!(any ANY web::route());
}

impl HttpServiceFactory for At {
    fn register(self, config: &mut AppService) {
        let rows = self.rows;
        let gated = from_fn(move |request, next| gate(rows.clone(), request, next));
        self.resource.default_service(web::to(no_method)).wrap(gated).register(config);
    }
}

/// Other methods than the ones given to a path.
pub(super) async fn no_method() -> Result<HttpResponse> {
    Err(ApiError::no_method())
}

/// Refuses what is newer than the version.
async fn gate<B: MessageBody + 'static>(
    rows: Vec<&'static Operation>,
    request: ServiceRequest,
    next: Next<B>,
) -> std::result::Result<ServiceResponse<actix_web::body::EitherBody<B>>, actix_web::Error> {
    let version = request.extensions().get::<Context>().map(|context| context.version);
    let row = rows.iter().find(|row| row.method.takes(request.method()));
    if let (Some(version), Some(row)) = (version, row)
        && let Some((since, kind)) = row.gate(version)
    {
        let refusal = below(kind, "the resource", since, version);
        return Ok(request.error_response(refusal).map_into_right_body());
    }
    Ok(next.call(request).await?.map_into_left_body())
}
