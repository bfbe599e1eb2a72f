//! `/api/v1/provision/register`: a device asks for its credentials.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use hexa_devices::provision::{self, Caller, Provisioned, Registration};
use hexa_model::DeviceClass;
use http::{HeaderMap, StatusCode};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::extract::{Json, device_credentials};
use crate::idempotency::Once;
use crate::public;
use crate::state::ApiState;
use crate::wire::ClaimCodeBody;
use hexa_listen::transport::RequestSource;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProvisionRequest {
    #[schema(value_type = String)]
    device_class: DeviceClass,
    model: Option<String>,
    hardware: Option<String>,
    firmware_version: Option<String>,
    serial: Option<String>,
    relay_count: Option<u16>,
    input_count: Option<u16>,
    capabilities: Option<Vec<String>>,
    #[serde(default)]
    label: bool,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ProvisionResponse {
    device_uid: String,
    device_token: String,
    #[serde(flatten)]
    claim: ClaimCodeBody,
    ws_url: String,
}

pub(super) async fn register_device(
    State(state): State<ApiState>,
    Extension(source): Extension<RequestSource>,
    headers: HeaderMap,
    once: Once,
    Json(request): Json<ProvisionRequest>,
) -> ApiResult<Response> {
    let key = headers.get("x-provision-key").and_then(|v| v.to_str().ok()).map(Into::into);
    let caller = Caller { ip: source.ip, key, proof: device_credentials(&headers) };
    let new = Registration {
        class: Some(request.device_class),
        model: request.model,
        hardware: request.hardware,
        firmware: request.firmware_version,
        serial: request.serial,
        relay_count: request.relay_count.unwrap_or(0),
        input_count: request.input_count.unwrap_or(0),
        capabilities: request.capabilities,
        label: request.label,
    };
    let ws_base: Arc<str> = public::base(&state, source, &headers).replacen("http", "ws", 1).into();
    let body = move |done: &Provisioned| ProvisionResponse {
        ws_url: format!("{ws_base}/ws/device?uid={}", done.uid),
        device_uid: done.uid.to_string(),
        device_token: done.token.expose_secret().to_owned(),
        claim: ClaimCodeBody::new(&done.claim),
    };
    once.answer(StatusCode::CREATED, body, |key| provision::register(&state.services, caller, key, new)).await
}
