//! Long answers go over the wire compressed, where the caller says that it may (RFC 9110 section 12.5.3).
//!
//! Lists and exports only: relays are switched without this layer, and answers of `/api/v1/auth` hold secrets beside
//! what a caller wrote, which compression would let somebody guess by its length (BREACH).

use axum::routing::MethodRouter;
use http::{Extensions, HeaderMap, StatusCode, Version, header};
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::compression::{CompressionLayer, CompressionLevel};

use crate::state::ApiState;

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
pub(crate) fn route(method: &str, path: &str, handler: MethodRouter<ApiState>) -> MethodRouter<ApiState> {
    if !concerns(method, path) {
        return handler;
    }
    let when = SizeAbove::new(SHORTEST.into()).and(plain);
    handler.layer(CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(when))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_secret_or_in_a_hurry() {
        assert!(concerns("GET", "/api/v1/devices") && concerns("GET", "/metrics"));
        assert!(!concerns("POST", "/api/v1/devices/{uid}/relays/{index}"));
        assert!(!concerns("GET", "/api/v1/auth/sessions") && !concerns("GET", "/ws/client"));
    }
}
