//! Long answers go over the wire compressed, where the caller says that it may (RFC 9110 section 12.5.3).
//!
//! Lists and exports only: relays are switched without this layer, and answers of `/api/v1/auth` hold secrets beside
//! what a caller wrote, which compression would let somebody guess by its length (BREACH).

use axum::routing::MethodRouter;
use http::{Extensions, HeaderMap, StatusCode, Version, header};
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::compression::{CompressionLayer, CompressionLevel};

/// A shorter one fits into one packet anyhow.
const SHORTEST: u16 = 1024;

/// Whether answers of this route may be compressed.
fn concerns(method: &str, path: &str) -> bool {
    let data = path.starts_with("/api/v1/") && !path.starts_with("/api/v1/auth/");
    method == "GET" && (data || path == "/metrics")
}

/// Not errors, which are written further out, and nothing with a strong ETag, which names these very bytes.
fn plain(status: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    status.is_success() && !headers.contains_key(header::ETAG)
}

/// The route's handler, with its answers compressed where that is right.
pub(crate) fn route<S: Clone + Send + Sync + 'static>(
    method: &str,
    path: &str,
    handler: MethodRouter<S>,
) -> MethodRouter<S> {
    if !concerns(method, path) {
        return handler;
    }
    let when = SizeAbove::new(SHORTEST.into()).and(plain);
    handler.layer(CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(when))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::response::{IntoResponse, Response};
    use axum::routing::any;
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    /// How the answer of a route is coded for a caller that takes gzip.
    async fn coding(method: &str, path: &str, answer: fn() -> Response) -> Option<String> {
        let handler = any(move || async move { answer() });
        let router: Router = Router::new().fallback_service(route::<()>(method, path, handler).with_state(()));
        let request = Request::builder().method(method).uri("/").header("accept-encoding", "gzip");
        let answer = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        answer.headers().get(header::CONTENT_ENCODING).map(|v| v.to_str().unwrap().to_owned())
    }

    fn long() -> Response {
        "x".repeat(2000).into_response()
    }

    #[tokio::test]
    async fn long_answers_are_packed_but_nothing_that_is_secret_or_in_a_hurry() {
        for (method, path) in [("GET", "/api/v1/devices"), ("GET", "/metrics"), ("GET", "/api/v1/admin/audit/export")] {
            assert_eq!(coding(method, path, long).await.as_deref(), Some("gzip"), "{method} {path}");
        }
        for (method, path) in [
            ("POST", "/api/v1/devices/{uid}/relays/{index}"),
            ("GET", "/api/v1/auth/sessions"),
            ("POST", "/api/v1/auth/login"),
            ("GET", "/ws/client"),
        ] {
            assert_eq!(coding(method, path, long).await, None, "{method} {path}");
        }
        let list = "/api/v1/devices";
        assert_eq!(coding("GET", list, || "x".into_response()).await, None, "short");
        assert_eq!(coding("GET", list, || (StatusCode::NOT_FOUND, "x".repeat(2000)).into_response()).await, None);
        let tagged = || ([(header::ETAG, "\"1\"")], "x".repeat(2000)).into_response();
        assert_eq!(coding("GET", list, tagged).await, None, "its tag names these very bytes");
    }
}
