//! The routes, one file a resource.

mod audit;
mod auth;
mod commands;
mod devices;
pub(crate) mod docs;
mod fleet;
mod grants;
mod history;
mod invitations;
mod keys;
mod ops;
mod plugins;
mod preferences;
mod provision;
mod relays;
mod sessions;
mod table;
mod users;
mod workers;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use hexa_model::ErrorCode;
use hexa_platform::Error;
use http::{HeaderName, HeaderValue, Method, Uri, header};
use tower::Service;
use tower_http::cors::CorsLayer;

pub use table::{Access, Route, routes};

use crate::error::ApiError;
use crate::middleware;
use crate::public::PublicUrl;
use crate::state::ApiState;

/// Everything that this server answers.
pub fn router(state: ApiState) -> Router {
    let layer = axum::middleware::from_fn_with_state(state.clone(), middleware::outer_layer);
    let routes = table::router().fallback(no_route).method_not_allowed_fallback(no_method);
    // Every layer costs each request something: without other origins there is nothing to say to browsers.
    let routes = match state.config.allowed_origins.as_slice() {
        [] => routes,
        origins => routes.layer(cors(origins)),
    };
    let below = state.config.public_url.as_ref().map_or("", PublicUrl::path).to_owned();
    let routes = routes.layer(layer).with_state(state);
    if below.is_empty() { routes } else { Router::new().fallback_service(Below { path: below.into(), routes }) }
}

/// Takes the path of `PUBLIC_URL` away from what is asked for: some proxies do that themselves, others pass it on.
#[derive(Clone, Debug)]
struct Below {
    path: Arc<str>,
    routes: Router,
}

impl Service<Request> for Below {
    type Response = Response;
    type Error = Infallible;
    type Future = <Router as Service<Request>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.routes, cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        if let Some(uri) = within(request.uri(), &self.path) {
            *request.uri_mut() = uri;
        }
        self.routes.call(request)
    }
}

/// What is asked for within this path; none when it is elsewhere.
fn within(uri: &Uri, path: &str) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix(path)?;
    let inner = match rest.as_bytes().first() {
        Some(b'/') => rest.to_owned(),
        None | Some(b'?') => format!("/{rest}"),
        Some(_) => return None,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(inner.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Pages of these origins, exactly, and of no other (ASVS 3.4.2).
fn cors(origins: &[String]) -> CorsLayer {
    let list: Vec<HeaderValue> = origins.iter().filter_map(|o| o.parse().ok()).collect();
    let named = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(list)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            named("idempotency-key"),
            named("x-request-id"),
        ])
        .expose_headers([
            header::CONTENT_DISPOSITION,
            header::DATE,
            header::ETAG,
            header::RETRY_AFTER,
            named("idempotency-replayed"),
            named("ratelimit"),
            named("x-request-id"),
        ])
        .max_age(std::time::Duration::from_secs(600))
}

async fn no_route() -> ApiError {
    Error::new(ErrorCode::NotFound, "there is no such route").into()
}

async fn no_method() -> ApiError {
    Error::new(ErrorCode::MethodNotAllowed, "this route exists, but not with this method").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_path_is_taken_away_whole_or_not_at_all() {
        for (asked, inner) in [
            ("/hexa", Some("/")),
            ("/hexa/", Some("/")),
            ("/hexa?a=b", Some("/?a=b")),
            ("/hexa/api/v1/devices?limit=1", Some("/api/v1/devices?limit=1")),
            ("/hexadecimal", None),
            ("/api/v1/devices", None),
            ("/", None),
        ] {
            let found = within(&asked.parse().unwrap(), "/hexa");
            assert_eq!(found.map(|uri| uri.to_string()).as_deref(), inner, "{asked}");
        }
    }
}
