//! The routes, one file a resource.

mod auth;
mod commands;
mod devices;
mod ops;
mod plugins;
mod provision;
mod relays;
mod sessions;
mod table;
mod users;

use axum::Router;
use hexa_model::ErrorCode;
use hexa_service::Error;

pub(crate) use relays::set_action;
pub use table::{Access, Route, routes};

use crate::error::ApiError;
use crate::middleware;
use crate::state::ApiState;

/// Everything that this server answers.
pub fn router(state: ApiState) -> Router {
    let layer = axum::middleware::from_fn_with_state(state.clone(), middleware::finish);
    table::router().fallback(no_route).method_not_allowed_fallback(no_method).layer(layer).with_state(state)
}

async fn no_route() -> ApiError {
    Error::new(ErrorCode::NotFound, "there is no such route").into()
}

async fn no_method() -> ApiError {
    Error::new(ErrorCode::MethodNotAllowed, "this route exists, but not with this method").into()
}
