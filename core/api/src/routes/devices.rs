//! `/api/v1/devices`.

use axum::extract::State;
use axum::response::Response;
use hexa_model::{Actor, DeviceClass, DeviceKey, ErrorCode, Scope};
use hexa_service::Error;
use hexa_service::device::claim::{self, Rotated};
use hexa_service::device::list::{self, Wanted};
use hexa_service::device::{provision, view};
use http::{HeaderMap, StatusCode};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::extract::{Json, Path, Query, User, device_credentials};
use crate::idempotency::{answer, done};
use crate::state::ApiState;
use crate::wire::{ClaimCodeBody, DeviceBody, PageBody, RelayBody, relays, rfc3339};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 500;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListDevicesQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    all: Option<bool>,
    search: Option<String>,
    device_class: Option<String>,
    claimed: Option<bool>,
    online: Option<bool>,
}

pub(super) async fn list_devices(
    State(state): State<ApiState>,
    User(user): User,
    Query(query): Query<ListDevicesQuery>,
) -> ApiResult<axum::Json<PageBody<DeviceBody>>> {
    user.require(Scope::DevicesRead)?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Error::validation("limit", format!("limit is 1 to {MAX_LIMIT}")).into());
    }
    let after = match query.cursor {
        None => None,
        Some(cursor) => Some(read_cursor(&cursor)?),
    };
    if query.search.as_ref().is_some_and(|s| s.chars().count() > 128) {
        return Err(Error::validation("search", "search has at most 128 characters").into());
    }
    let device_class = |text: &String| {
        let names: Vec<_> = DeviceClass::ALL.iter().map(|c| c.as_str()).collect();
        let what = format!("device_class is one of {}", names.join(", "));
        DeviceClass::parse(text).ok_or_else(|| Error::validation("device_class", what))
    };
    let wanted = Wanted {
        all: query.all.unwrap_or(false),
        search: query.search.map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()),
        class: query.device_class.as_ref().map(device_class).transpose()?,
        claimed: query.claimed,
        online: query.online,
    };
    let page = list::page(&state.services, &user, &wanted, after, limit).await?;
    Ok(axum::Json(PageBody {
        items: page.items.into_iter().map(DeviceBody::new).collect(),
        next_cursor: page.next.map(|key| format!("d{:x}", key.0)),
    }))
}

fn read_cursor(cursor: &str) -> Result<DeviceKey, Error> {
    let key = cursor.strip_prefix('d').and_then(|hex| i64::from_str_radix(hex, 16).ok());
    key.map(DeviceKey).ok_or_else(|| Error::validation("cursor", "cursor is the next_cursor of an earlier page"))
}

pub(super) async fn get_device(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
) -> ApiResult<axum::Json<DeviceBody>> {
    user.require(Scope::DevicesRead)?;
    Ok(axum::Json(DeviceBody::new(view::get(&state.services, &user, &uid).await?)))
}

#[derive(Serialize, ToSchema)]
pub(super) struct StateResponse {
    uid: String,
    online: bool,
    relays: Vec<RelayBody>,
}

pub(super) async fn get_state(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
) -> ApiResult<axum::Json<StateResponse>> {
    user.require(Scope::DevicesRead)?;
    let (live, sight) = view::find(&state.services, &user, &uid).await?;
    let states: Vec<_> = live.cache.lock().all().into_iter().filter(|s| sight.relays.has(s.index)).collect();
    Ok(axum::Json(StateResponse { uid: live.uid.to_string(), online: live.online(), relays: relays(&states) }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PatchRequest {
    name: Option<String>,
    #[serde(default)]
    relays: Vec<RelayName>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RelayName {
    index: u16,
    name: String,
}

pub(super) async fn patch_device(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
    Json(request): Json<PatchRequest>,
) -> ApiResult<Response> {
    user.require(Scope::DevicesWrite)?;
    let live = view::find_own(&state.services, &user, &uid).await?;
    let relays = request.relays.into_iter().map(|r| (r.index, r.name)).collect();
    let names = view::Names { device: request.name, relays };
    answer(StatusCode::OK, DeviceBody::of, view::rename(&state.services, &user, &live, names)).await
}

pub(super) async fn delete_device(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
) -> ApiResult<StatusCode> {
    user.require(Scope::DevicesWrite)?;
    user.require_admin()?;
    let live = view::find_own(&state.services, &user, &uid).await?;
    done(claim::delete(&state.services, &user, &live)).await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimRequest {
    code: String,
}

pub(super) async fn claim_device(
    State(state): State<ApiState>,
    User(user): User,
    Json(request): Json<ClaimRequest>,
) -> ApiResult<Response> {
    user.require(Scope::DevicesWrite)?;
    answer(StatusCode::OK, DeviceBody::of, claim::claim(&state.services, &user, &request.code)).await
}

pub(super) async fn release_device(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
) -> ApiResult<Response> {
    user.require(Scope::DevicesWrite)?;
    let live = view::find_own(&state.services, &user, &uid).await?;
    answer(StatusCode::OK, ClaimCodeBody::new, claim::release(&state.services, &user, &live)).await
}

#[derive(Serialize, ToSchema)]
pub(super) struct RotatedResponse {
    device_token: String,
    previous_valid_until: String,
}

impl RotatedResponse {
    fn new(rotated: &Rotated) -> Self {
        Self {
            device_token: rotated.token.expose_secret().to_owned(),
            previous_valid_until: rfc3339(rotated.previous_until),
        }
    }
}

pub(super) async fn rotate_token(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
) -> ApiResult<Response> {
    user.require(Scope::DevicesWrite)?;
    let live = view::find_own(&state.services, &user, &uid).await?;
    answer(StatusCode::OK, RotatedResponse::new, claim::rotate_token(&state.services, &user, &live)).await
}

/// By an admin.
pub(super) async fn renew_claim_code(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
) -> ApiResult<Response> {
    user.require(Scope::DevicesWrite)?;
    user.require_admin()?;
    let live = view::find_own(&state.services, &user, &uid).await?;
    answer(StatusCode::OK, ClaimCodeBody::new, claim::renew_claim_code(&state.services, user.actor(), &live)).await
}

/// By the device itself.
pub(super) async fn renew_own_claim_code(State(state): State<ApiState>, headers: HeaderMap) -> ApiResult<Response> {
    let (uid, token) = device_credentials(&headers)
        .ok_or_else(|| Error::new(ErrorCode::InvalidToken, "send Authorization: Device <uid>:<token>"))?;
    let live = provision::authenticate(&state.services, uid.as_str(), &token).await?;
    answer(StatusCode::OK, ClaimCodeBody::new, claim::renew_claim_code(&state.services, Actor::Device, &live)).await
}
