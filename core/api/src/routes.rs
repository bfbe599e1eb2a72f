//! The routes, one file a resource.

mod audit;
mod auth;
mod commands;
mod devices;
mod ops;
mod plugins;
mod preferences;
mod provision;
mod relays;

use axum::Router;
use axum::routing::{get, post};
use hexa_model::ErrorCode;
use hexa_service::Error;

pub(crate) use relays::set_action;

use crate::error::ApiError;
use crate::state::ApiState;
use crate::{middleware, ws};

/// Everything that this server answers.
pub fn router(state: ApiState) -> Router {
    let layer = axum::middleware::from_fn_with_state(state.clone(), middleware::finish);
    Router::new()
        .route("/api/v1/auth/register", post(auth::register))
        .route("/api/v1/auth/login", post(auth::login))
        .route("/api/v1/auth/refresh", post(auth::refresh))
        .route("/api/v1/auth/logout", post(auth::logout))
        .route("/api/v1/auth/me", get(auth::get_me))
        .route("/api/v1/provision/register", post(provision::register_device))
        .route("/api/v1/devices", get(devices::list_devices))
        .route("/api/v1/devices/claim", post(devices::claim_device))
        .route("/api/v1/devices/claim-code", post(devices::renew_own_claim_code))
        .route(
            "/api/v1/devices/{uid}",
            get(devices::get_device).patch(devices::patch_device).delete(devices::delete_device),
        )
        .route("/api/v1/devices/{uid}/state", get(devices::get_state))
        .route("/api/v1/devices/{uid}/release", post(devices::release_device))
        .route("/api/v1/devices/{uid}/token/rotate", post(devices::rotate_token))
        .route("/api/v1/devices/{uid}/claim-code", post(devices::renew_claim_code))
        .route("/api/v1/devices/{uid}/relays", post(relays::set_all_relays))
        .route("/api/v1/devices/{uid}/relays/{index}", post(relays::set_relay))
        .route("/api/v1/commands/{command_id}", get(commands::get_command))
        .route("/api/v1/admin/audit", get(audit::list_audit))
        .route("/api/v1/admin/audit/export", get(audit::export_audit))
        .route("/api/v1/admin/plugins", get(plugins::list_plugins))
        .route("/api/v1/admin/plugins/{id}", get(plugins::get_plugin))
        .route("/api/v1/admin/plugins/{id}/faults", get(plugins::list_faults))
        .route("/api/v1/admin/plugins/{id}/reset", post(plugins::reset_plugin))
        .route(
            "/api/v1/preferences",
            get(preferences::list_preferences).put(preferences::put_preferences).patch(preferences::patch_preferences),
        )
        .route(
            "/api/v1/preferences/{name}",
            get(preferences::get_preference).put(preferences::put_preference).delete(preferences::delete_preference),
        )
        .route("/ws/device", get(ws::device::connect))
        .route("/ws/client", get(ws::client::connect))
        .route("/health", get(ops::get_health))
        .route("/ready", get(ops::get_ready))
        .route("/metrics", get(ops::get_metrics))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(layer)
        .with_state(state)
}

async fn no_route() -> ApiError {
    Error::new(ErrorCode::NotFound, "there is no such route").into()
}

async fn no_method() -> ApiError {
    Error::new(ErrorCode::MethodNotAllowed, "this route exists, but not with this method").into()
}
