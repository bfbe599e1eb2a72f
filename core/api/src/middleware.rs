//! Around every request: an id, a caught panic, the error shape, one log line for what failed.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hexa_model::ErrorCode;
use hexa_platform::Error;
use http::{HeaderValue, Method, header};

use crate::error::{ApiError, ErrorExtension, ErrorFormat, respond};
use crate::routes::Access;
use crate::state::ApiState;
use crate::{cookie, idempotency};
use hexa_listen::transport::{self, Refused, RequestSource};
use hexa_listen::{Ambiguous, RequestId};

/// Row 52: refused, and the connection ends, because what follows on it may be somebody else's request.
fn ambiguous() -> Response {
    let what = "the request states its length twice: send one Content-Length or one Transfer-Encoding";
    let mut response = ApiError::from(Error::new(ErrorCode::ValidationError, what)).into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// No redirect (docs/PLATFORM.md#https), because the credentials of this request have gone over the wire already.
fn insecure(last: bool) -> Response {
    let what = "this server speaks HTTPS only: use https:// and wss://, or let a trusted proxy say that its client did";
    let mut response = ApiError::from(Error::new(ErrorCode::HttpsRequired, what)).into_response();
    // RFC 9110 section 15.5.22 wants both.
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("TLS/1.2, HTTP/1.1"));
    let connection = if last { "Upgrade, close" } else { "Upgrade" };
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static(connection));
    response
}

/// The trusted proxy has to be told first (ADR 0030).
fn unnamed() -> Response {
    let what = "a proxy that this server trusts (TRUST_PROXY) sent this without saying for whom: let it set X-Forwarded-For \
        and X-Forwarded-Proto; from this machine itself use the maintenance listener (HEXA_MAINTENANCE_LISTEN)";
    ApiError::from(Error::new(ErrorCode::ValidationError, what)).into_response()
}

/// A whole request takes at most so long; what streams its answer does that after it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

async fn in_time(work: impl Future<Output = Response>) -> Response {
    tokio::time::timeout(REQUEST_TIMEOUT, work).await.unwrap_or_else(|_| {
        // Not 408, which says that nothing was done because nothing had come.
        let what = "the server was not done with this within 30 s, and whether it will be is not known: ask again with \
                    the same idempotency-key, or look";
        ApiError::from(Error::new(ErrorCode::Busy, what).retry_after(5)).into_response()
    })
}

/// What is refused before any handler sees it, in this order: over the wrong transport nothing is looked at at all.
fn refused(state: &ApiState, source: RequestSource, in_cookie: bool, request: &Request) -> Option<Response> {
    let is_ambiguous = request.extensions().get::<Ambiguous>().is_some();
    // How it came is decided first: of what may not come so nothing is looked at.
    match source.check(request.uri().path(), &state.config.transport) {
        Err(Refused::Insecure) => return Some(insecure(is_ambiguous)),
        Err(Refused::Unnamed) => return Some(unnamed()),
        Ok(()) => {}
    }
    if is_ambiguous {
        return Some(ambiguous());
    }
    let check = || {
        check_host(request)?;
        if in_cookie {
            cookie::check_origin(state, source, request.headers())?;
        }
        if *request.method() == Method::POST && idempotency::access_of(request) == Some(Access::Public) {
            state.services.accounts.count_stranger(source.ip)?;
        }
        Ok(())
    };
    check().err().map(|error: Error| ApiError::from(error).into_response())
}

/// RFC 9112 section 3.2: what names no host, or two, is refused.
fn check_host(request: &Request) -> Result<(), Error> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == http::Version::HTTP_11) {
        return Err(Error::validation("host", "a request has exactly one Host header"));
    }
    Ok(())
}

/// The outermost layer around every route: request id, transport checks, time limit, error bodies, security headers.
pub(crate) async fn outer_layer(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    let source = RequestSource::of(&request, &state.config.transport);
    let form = ErrorFormat::of(request.headers());
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(source);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let in_cookie = cookie::asked(&path, request.headers());
    let refused = refused(&state, source, in_cookie, &request);
    let settled = in_cookie && refused.is_none();
    let outcome = match refused {
        Some(refused) => Ok(refused),
        None if idempotency::concerns(&request) => {
            // Boxed: requests without a key do not carry its future.
            let work = Box::pin(idempotency::run(&state, request, next));
            AssertUnwindSafe(in_time(work)).catch_unwind().await
        }
        // Devices wait for their turn as long as it takes.
        None if path.starts_with("/ws/") => AssertUnwindSafe(next.run(request)).catch_unwind().await,
        None => AssertUnwindSafe(in_time(next.run(request))).catch_unwind().await,
    };
    let (carried, mut response) = match outcome {
        Ok(mut response) => (response.extensions_mut().remove::<ErrorExtension>().map(|c| c.0), response),
        // The panic itself was logged by the hook; the caller learns only where to look.
        Err(_) => (Some(Arc::new(Error::internal("a handler panicked"))), Response::default()),
    };
    if let Some(error) = carried {
        state.services.metrics.api_errors.with_label_values(&[error.code.name()]).inc();
        log(&error, &id, &method, &path);
        // What an error does not know: the methods of this route (RFC 9110 section 15.5.6), that this was the
        // connection's last request, and which pages may read it.
        let mut kept = std::mem::take(response.headers_mut());
        kept.remove(header::CONTENT_LENGTH);
        response = respond(&error, id.as_str(), form.path(&path));
        for (name, value) in &kept {
            if !response.headers().contains_key(name) {
                response.headers_mut().append(name, value.clone());
            }
        }
    }
    if settled {
        // Boxed: only the console's own requests carry it.
        response = Box::pin(cookie::apply_session_cookie(&state, source, &path, response)).await;
    }
    response.headers_mut().insert(RequestId::HEADER, id.0);
    let https = source.https && response.status() != http::StatusCode::UPGRADE_REQUIRED;
    transport::guard(response.headers_mut(), path.starts_with("/api/"), https);
    response
}

/// The path only: a query may hold a device's token.
fn log(error: &Error, id: &RequestId, method: &http::Method, path: &str) {
    let (code, source) = (error.code.name(), error.source.as_ref().map(tracing::field::display));
    if error.code.status() >= 500 && error.code != ErrorCode::DeviceTimeout {
        tracing::error!(request.id = id.as_str(), %method, path, code, source, "request failed: {}", error.message);
    } else {
        tracing::debug!(request.id = id.as_str(), %method, path, code, "request refused: {}", error.message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_has_thirty_seconds() {
        let begun = tokio::time::Instant::now();
        let answer = in_time(std::future::pending()).await;
        assert_eq!(begun.elapsed().as_secs(), 30);
        let carried = answer.extensions().get::<ErrorExtension>().unwrap();
        assert_eq!((carried.0.code, carried.0.retry_after_s), (ErrorCode::Busy, Some(5)));
        let quick = in_time(async { http::StatusCode::OK.into_response() }).await;
        assert_eq!(quick.status(), 200);
    }
}
