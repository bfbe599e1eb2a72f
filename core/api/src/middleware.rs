//! Around every request: an id, a caught panic, the error shape, one log line for what failed.

use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hexa_model::ErrorCode;
use hexa_service::Error;
use http::{HeaderName, HeaderValue, header};

use crate::error::{ApiError, Carried, respond};
use crate::idempotency;
use crate::state::ApiState;

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of the request under way, for handlers that must name it (socket errors).
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub HeaderValue);

impl RequestId {
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Taken from the caller if it is harmless in a log (LG-3), else made: `req-` and hex that no other request of
    /// this or an earlier start has.
    fn of(request: &Request) -> Self {
        let inbound = request.headers().get(&X_REQUEST_ID).filter(|v| {
            let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            (1..=64).contains(&v.len()) && v.as_bytes().iter().all(fits)
        });
        Self(inbound.cloned().unwrap_or_else(Self::fresh))
    }

    pub(crate) fn fresh() -> HeaderValue {
        static START: OnceLock<u32> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let start = START.get_or_init(hexa_service::random_u32);
        let mut text = String::with_capacity(24);
        let _ = write!(text, "req-{start:08x}{:08x}", COUNT.fetch_add(1, Ordering::Relaxed));
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("req-0"))
    }
}

/// Marks a request whose length can be read in two ways, put there by the listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ambiguous;

/// Row 52: refused, and the connection ends, because what follows on it may be somebody else's request.
fn ambiguous() -> Response {
    let what = "the request states its length twice: send one Content-Length or one Transfer-Encoding";
    let mut response = ApiError::from(Error::new(ErrorCode::ValidationError, what)).into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The outermost layer.
pub(crate) async fn finish(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(&request);
    request.extensions_mut().insert(id.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let outcome = match request.extensions().get::<Ambiguous>() {
        Some(_) => Ok(ambiguous()),
        None if idempotency::concerns(&request) => {
            AssertUnwindSafe(idempotency::run(&state, request, next)).catch_unwind().await
        }
        None => AssertUnwindSafe(next.run(request)).catch_unwind().await,
    };
    let (carried, mut response) = match outcome {
        Ok(mut response) => (response.extensions_mut().remove::<Carried>().map(|c| c.0), response),
        // The panic itself was logged by the hook; the caller learns only where to look.
        Err(_) => (Some(Arc::new(Error::internal("a handler panicked"))), Response::default()),
    };
    if let Some(error) = carried {
        state.services.metrics.api_errors.with_label_values(&[error.code.name()]).inc();
        log(&error, &id, &method, &path);
        // What an error does not know: the methods of this route (RFC 9110 section 15.5.6), and that this was the
        // connection's last request.
        let kept = [header::ALLOW, header::CONNECTION].map(|name| (response.headers_mut().remove(&name), name));
        response = respond(&error, id.as_str());
        for (value, name) in kept {
            if let Some(value) = value {
                response.headers_mut().insert(name, value);
            }
        }
    }
    response.headers_mut().insert(X_REQUEST_ID.clone(), id.0);
    response
}

/// The path only: a query may hold a device's token (review point 24).
fn log(error: &Error, id: &RequestId, method: &http::Method, path: &str) {
    let (code, source) = (error.code.name(), error.source.as_ref().map(tracing::field::display));
    if error.code.status() >= 500 && error.code != ErrorCode::DeviceTimeout {
        tracing::error!(request.id = id.as_str(), %method, path, code, source, "request failed: {}", error.message);
    } else {
        tracing::debug!(request.id = id.as_str(), %method, path, code, "request refused: {}", error.message);
    }
}
