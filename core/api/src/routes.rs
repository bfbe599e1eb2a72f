//! The routes, one file a resource.

mod audit;
mod auth;
mod commands;
mod devices;
pub(crate) mod docs;
mod fleet;
mod grants;
mod history;
mod keys;
mod ops;
mod plugins;
mod preferences;
mod provision;
mod relays;
mod sessions;
mod table;
mod users;

use axum::Router;
use hexa_model::ErrorCode;
use hexa_service::Error;
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::CorsLayer;

pub(crate) use relays::set_action;
pub use table::{Access, Route, routes};

use crate::error::ApiError;
use crate::middleware;
use crate::state::ApiState;

/// Everything that this server answers.
pub fn router(state: ApiState) -> Router {
    let layer = axum::middleware::from_fn_with_state(state.clone(), middleware::finish);
    let routes = table::router().fallback(no_route).method_not_allowed_fallback(no_method);
    // Every layer costs each request something: without other origins there is nothing to say to browsers.
    let routes = match state.config.allowed_origins.as_slice() {
        [] => routes,
        origins => routes.layer(cors(origins)),
    };
    routes.layer(layer).with_state(state)
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
