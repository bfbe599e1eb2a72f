//! `/health`, `/ready` and `/metrics`: for probes, load balancers and Prometheus.

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use hexa_model::ErrorCode;
use hexa_platform::Error;
use hexa_platform::limit::network;
use http::{HeaderMap, StatusCode, header};
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::extract::bearer;

use crate::public;
use crate::state::ApiState;
use hexa_listen::transport::{Maintenance, RequestSource};

/// Alive, and the database answers.
#[derive(Serialize, ToSchema)]
pub(super) struct HealthBody {
    status: &'static str,
    database: &'static str,
    version: &'static str,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ReadyBody {
    status: &'static str,
}

pub(super) async fn get_health(State(state): State<ApiState>) -> Response {
    let database = state.services.store.health().await;
    let (status, word) = match database {
        Ok(()) => (StatusCode::OK, "ok"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "degraded"),
    };
    let database = if database.is_ok() { "ok" } else { "unavailable" };
    let body = HealthBody { status: word, database, version: env!("CARGO_PKG_VERSION") };
    (status, axum::Json(body)).into_response()
}

/// Takes work: 503 from the moment the server begins to stop, and while the database takes no writes.
pub(super) async fn get_ready(State(state): State<ApiState>) -> ApiResult<Response> {
    if state.services.stopping() {
        return Err(Error::new(ErrorCode::ShuttingDown, "the server is stopping").retry_after(5).into());
    }
    state.services.store.ready().await.map_err(Error::from)?;
    Ok(axum::Json(ReadyBody { status: "ready" }).into_response())
}

/// Prometheus text. For whoever runs this server (ADR 0030), else with the metrics token or as an admin.
pub(super) async fn get_metrics(
    State(state): State<ApiState>,
    Extension(source): Extension<RequestSource>,
    maintenance: Option<Extension<Maintenance>>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    // No page reaches the socket file: what its peers call the server says nothing.
    let file = maintenance.is_some_and(|Extension(m)| m.file);
    if !source.is_maintenance() || !file && public::rebound(&state, &headers) {
        let offered = bearer(&headers).unwrap_or_default();
        let token = state.config.metrics_token.as_ref();
        let (ip, now) = (source.ip.map(network), state.services.clock.monotonic());
        let attempt = state.wrong_metrics.attempt(&ip, now)?;
        if !token.is_some_and(|t| hexa_platform::same_secret(t.expose_secret(), offered)) {
            let admin = match state.services.accounts.authenticate(offered, source.ip).await {
                Ok(user) => user.require_admin(),
                Err(error) => Err(error),
            };
            if let Err(error) = admin {
                drop(attempt);
                return Err(error.into());
            }
        }
        attempt.forgive();
    }
    let text = state.services.metrics.render().map_err(Error::internal)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
