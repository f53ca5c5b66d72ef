//! A path with its methods, as the table of operations has them: whoever registers a handler that has no row there
//! finds out at the start.

use std::rc::Rc;

use actix_web::body::MessageBody;
use actix_web::dev::{AppService, HttpServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web;
use actix_web::{FromRequest, Handler, HttpMessage, HttpResponse, Resource, Responder};

use crate::body::below;
use crate::context::Context;
use crate::error::ApiError;
use crate::gates::Below;
use crate::operations::{Method, Operation, of_path};
use crate::version::Version;

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

/// As [`at`], for one of the two: `prefix` is `/v1` or nothing. Whoever registers both costs a request less than one
/// path with two faces, whose patterns are tried together and then one by one.
pub(super) fn under(prefix: &str, path: &'static str) -> At {
    At { path, rows: of_path(path), resource: web::resource(format!("{prefix}{path}")) }
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
            #[cfg(test)]
            tests::registered(Method::$method, self.path);
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
        let rows: Rc<[&'static Operation]> = self.rows.into();
        let others = Rc::clone(&rows);
        let no_method = move |context: Context| {
            let refusal = match hidden(&others, context.version) {
                Some(since) => ApiError::path_too_new(since, context.version),
                None => ApiError::no_method_but(&allowed(&others, context.version)),
            };
            async move { Err::<HttpResponse, ApiError>(refusal) }
        };
        let gated = from_fn(move |request, next| gate(Rc::clone(&rows), request, next));
        self.resource.default_service(web::to(no_method)).wrap(gated).register(config);
    }
}

/// A path that came whole, and has no words of its own for older clients, is not there at all for them, whichever the
/// method: the minor version that brought it.
fn hidden(rows: &[&'static Operation], version: Version) -> Option<u16> {
    let absent = |row: &&Operation| !version.has(row.since) && row.below == Below::NotFound;
    let whole = rows.iter().all(absent) && rows.iter().any(|row| row.told.is_none());
    whole.then(|| rows.iter().map(|row| row.since).min()).flatten()
}

/// The methods that a path has at that version, as in `Allow`.
fn allowed(rows: &[&'static Operation], version: Version) -> String {
    let has = |row: &&&Operation| version.has(row.since);
    let names = rows.iter().filter(has).flat_map(|row| row.method.names());
    names.copied().collect::<Vec<_>>().join(", ")
}

/// Refuses what is newer than the version, and tells the handler which row it answers for.
async fn gate<B: MessageBody + 'static>(
    rows: Rc<[&'static Operation]>,
    request: ServiceRequest,
    next: Next<B>,
) -> std::result::Result<ServiceResponse<actix_web::body::EitherBody<B>>, actix_web::Error> {
    let version = request.extensions().get::<Context>().map(|context| context.version);
    let row = rows.iter().find(|row| row.method.takes(request.method()));
    if let (Some(version), Some(row)) = (version, row)
        && !version.has(row.since)
    {
        let mut refusal = match row.told {
            Some(text) => ApiError::told(row.below, text, row.since, version),
            None => below(row.below, "the resource", row.since, version),
        };
        if row.below == Below::MethodNotAllowed {
            refusal = refusal.allowing(&allowed(&rows, version));
        }
        return Ok(request.error_response(refusal).map_into_right_body());
    }
    if let Some(context) = request.extensions_mut().get_mut::<Context>() {
        context.operation = row.copied();
    }
    Ok(next.call(request).await?.map_into_left_body())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashSet;

    use super::*;
    use crate::operations::OPERATIONS;

    thread_local! {
        static REGISTERED: RefCell<HashSet<(Method, &'static str)>> = RefCell::default();
    }

    pub(super) fn registered(method: Method, path: &'static str) {
        REGISTERED.with_borrow_mut(|all| all.insert((method, path)));
    }

    #[actix_web::test]
    async fn every_row_of_the_table_has_a_handler() {
        let _app = actix_web::test::init_service(actix_web::App::new().configure(crate::configure)).await;
        let missing: Vec<_> = REGISTERED.with_borrow(|all| {
            let missing = OPERATIONS.iter().filter(|row| !all.contains(&(row.method, row.path)));
            missing.map(|row| (row.method, row.path)).collect()
        });
        assert_eq!(missing, [], "rows of the table of operations that nothing answers");
    }

    #[test]
    fn methods_are_allowed_since_their_version() {
        let rows = of_path("/runbooks");
        assert_eq!(allowed(&rows, Version(91)), "");
        assert!(allowed(&rows, Version(92)).starts_with("GET, POST"));
    }
}
