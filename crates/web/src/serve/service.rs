//! From hyper's request to the router and back: the extension `Peer`, the marks that say where a request stands,
//! panics, what every answer bears, and `Connection: close` where the connection will close.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower_service::Service;
use tracing::error;

use super::Peer;
use super::connection::Connection;
use super::registry::Registry;
use crate::headers;

/// hyper passes over an unread body when the rest of it has already come; so little usually has.
const UNREAD_BYTES_HARMLESS: u64 = 4096;

pub(super) struct Requests {
    pub(super) app: Router,
    pub(super) peer: Peer,
    pub(super) connection: Arc<Connection>,
    pub(super) registry: Arc<Registry>,
}

/// The connection was evicted just before this request came; hyper closes it when it sees this.
#[derive(Debug, thiserror::Error)]
#[error("the connection was closed to make room")]
pub(super) struct Evicted;

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<AnswerBody>;
    type Error = Evicted;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Answering {
        let mut answering = Answering {
            route: None,
            panicked: false,
            connection: self.connection.clone(),
            registry: self.registry.clone(),
        };
        if self.connection.begin() {
            self.registry.gauges.requests.fetch_add(1, Relaxed);
            request.extensions_mut().insert(self.peer);
            let request = request.map(|body| self.watch(body));
            let mut app = self.app.clone();
            match catch_unwind(AssertUnwindSafe(|| app.call(request))) {
                Ok(route) => answering.route = Some(route),
                Err(panic) => {
                    log_panic(&self.registry, panic.as_ref());
                    answering.panicked = true;
                }
            }
        }
        answering
    }
}

impl Requests {
    fn watch(&self, body: Incoming) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::new(RequestBody {
            body,
            ended: false,
            connection: self.connection.clone(),
        })
    }
}

pin_project! {
    pub(super) struct Answering {
        #[pin]
        route: Option<RouteFuture<Infallible>>,
        panicked: bool,
        connection: Arc<Connection>,
        registry: Arc<Registry>,
    }
}

impl Future for Answering {
    type Output = Result<Response<AnswerBody>, Evicted>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut response = match this.route.as_mut().as_pin_mut() {
            None if *this.panicked => internal_error(),
            None => return Poll::Ready(Err(Evicted)),
            // After a panic nothing of the route is used again, so no broken invariant can be seen.
            Some(route) => match catch_unwind(AssertUnwindSafe(|| route.poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Ok(response))) => response,
                Ok(Poll::Ready(Err(never))) => match never {},
                Err(panic) => {
                    log_panic(this.registry, panic.as_ref());
                    internal_error()
                }
            },
        };
        headers::on_all(response.headers_mut());
        if this.registry.is_closing() || this.connection.has_unread_body() {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let connection = this.connection.clone();
        Poll::Ready(Ok(response.map(|body| AnswerBody { body, connection })))
    }
}

fn internal_error() -> Response<Body> {
    let mut response = Response::new(Body::from("internal error\n"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn log_panic(registry: &Registry, panic: &(dyn Any + Send)) {
    let cause = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    registry.gauges.panics.fetch_add(1, Relaxed);
    error!(
        cause,
        "a handler panicked, its request is answered with 500: {cause}"
    );
}

/// The request's body. It notes when a handler leaves so much of it unread that hyper will close the connection.
struct RequestBody {
    body: Incoming,
    ended: bool,
    connection: Arc<Connection>,
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.ended |= matches!(polled, Poll::Ready(None));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let left = self.body.size_hint().upper();
        if !self.ended && left.is_none_or(|bytes| bytes > UNREAD_BYTES_HARMLESS) {
            self.connection.body_is_left_unread();
        }
    }
}

/// The answer's body. hyper drops it when it has taken the last byte or given up.
pub(super) struct AnswerBody {
    body: Body,
    connection: Arc<Connection>,
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.connection.answered();
    }
}
