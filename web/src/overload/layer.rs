//! The layer around the whole API that asks for a place.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{Error, ResponseError};
use futures_util::future::LocalBoxFuture;

use super::class::bmc_of;
use super::{Class, Entry, Held, Overload, Place, Why, lag};
use crate::version::{self, Version};

/// Wraps an application.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    overload: Arc<Overload>,
    max: Version,
}

impl Guard {
    /// `max` is the newest version served, which refusals tell as all answers do.
    pub(crate) fn new(overload: Arc<Overload>, max: Version) -> Guard {
        Guard { overload, max }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Guard
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: Unpin,
    B: MessageBody + Unpin + 'static,
{
    type Response = ServiceResponse<EitherBody<Counted<B>>>;
    type Error = Error;
    type Transform = Guarded<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(Guarded { service: Rc::new(service), guard: self.clone() }))
    }
}

pub(crate) struct Guarded<S> {
    service: Rc<S>,
    guard: Guard,
}

type Answer<B> = Result<ServiceResponse<EitherBody<Counted<B>>>, Error>;

impl<S, B> Service<ServiceRequest> for Guarded<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: Unpin,
    B: MessageBody + Unpin + 'static,
{
    type Response = ServiceResponse<EitherBody<Counted<B>>>;
    type Error = Error;
    type Future = Answering<S::Future, B>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let overload = &self.guard.overload;
        lag::seen(overload);
        let class = Class::of(request.method(), request.path());
        let peer = request.peer_addr().map(|addr| addr.ip());
        let node = (class == Class::Bmc).then(|| bmc_of(request.path())).flatten();
        match overload.enter(class, peer, node) {
            Entry::In(place) => Answering::Now(Some(place), self.service.call(request)),
            Entry::Refused(why) => {
                Answering::Later(Box::pin(ready(Ok(self.guard.refuse(request, class, why)))))
            }
            Entry::Wait(stand) => {
                let (service, guard) = (Rc::clone(&self.service), self.guard.clone());
                Answering::Later(Box::pin(async move {
                    match stand.wait().await {
                        Ok(place) => Answering::Now(Some(place), service.call(request)).await,
                        Err(why) => Ok(guard.refuse(request, class, why)),
                    }
                }))
            }
        }
    }
}

impl Guard {
    fn refuse<B>(
        &self,
        request: ServiceRequest,
        class: Class,
        why: Why,
    ) -> ServiceResponse<EitherBody<Counted<B>>> {
        let refusal = self.overload.refusal(class, why);
        let mut response = request.into_response(refusal.error_response()).map_into_right_body();
        let id = format!("req-{}", uuid::Uuid::new_v4());
        for (name, value) in [
            (version::MIN_HEADER, Version::MIN.to_string()),
            (version::MAX_HEADER, self.max.to_string()),
            ("openstack-request-id", id.clone()),
            ("x-openstack-request-id", id),
        ] {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

/// An answer in the making.
pub(crate) enum Answering<F, B> {
    /// There was a place.
    Now(Option<Place>, F),
    /// There was none.
    Later(LocalBoxFuture<'static, Answer<B>>),
}

impl<F, B> Future for Answering<F, B>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>> + Unpin,
    B: MessageBody,
{
    type Output = Answer<B>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Answering::Now(place, answer) => Pin::new(answer).poll(context).map(|answer| {
                let place = place.take();
                answer.map(|response| {
                    response.map_body(|_, body| {
                        let held = place.as_ref().and_then(|place| match body.size() {
                            BodySize::Sized(bytes) => place.of.hold(place.class, bytes),
                            BodySize::None | BodySize::Stream => None,
                        });
                        EitherBody::left(Counted { body, _held: held })
                    })
                })
            }),
            Answering::Later(answer) => answer.as_mut().poll(context),
        }
    }
}

/// A body whose bytes count until the client has taken them.
pub(crate) struct Counted<B> {
    body: B,
    _held: Option<Held>,
}

impl<B: MessageBody + Unpin> MessageBody for Counted<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(context)
    }
}
