//! `/api/v1/devices`: listing, claiming, renaming, releasing and deleting devices, their tokens and claim codes.

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hexa_devices::claim::{self, Rotated};
use hexa_devices::list::{self, DeviceOrder, Presence, Wanted};
use hexa_devices::provision::{self, ResetAllowed};
use hexa_devices::view;
use hexa_model::{DeviceClass, DeviceKey, ErrorCode, Scope, UserId};
use hexa_platform::Error;
use http::{HeaderMap, StatusCode};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::extract::{Json, Path, Query, User, device_credentials};
use crate::idempotency::Once;
use crate::state::ApiState;
use crate::wire::{ClaimCodeBody, DeviceBody, PageBody, RelayBody, relays, rfc3339, search};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 500;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListDevicesQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    all: Option<bool>,
    owner: Option<String>,
    search: Option<String>,
    device_class: Option<String>,
    claimed: Option<bool>,
    online: Option<bool>,
    stale: Option<bool>,
    sort: Option<String>,
}

impl ListDevicesQuery {
    fn wanted(self) -> Result<Wanted, Error> {
        let owner =
            |text: &String| UserId::parse(text).ok_or_else(|| Error::validation("owner", "owner is the id of a user"));
        let device_class = |text: &String| {
            let names: Vec<_> = DeviceClass::ALL.iter().map(|c| c.as_str()).collect();
            let what = format!("device_class is one of {}", names.join(", "));
            DeviceClass::parse(text).ok_or_else(|| Error::validation("device_class", what))
        };
        Ok(Wanted {
            all: self.all.unwrap_or(false),
            owner: self.owner.as_ref().map(owner).transpose()?,
            class: self.device_class.as_ref().map(device_class).transpose()?,
            claimed: self.claimed,
            presence: Presence { online: self.online, stale: self.stale },
            order: order(self.sort.as_deref(), self.cursor.as_deref())?,
            search: search(self.search)?,
        })
    }
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
    let page = list::page(&state.services, &user, query.wanted()?, limit).await?;
    Ok(axum::Json(PageBody {
        items: page.items.into_iter().map(DeviceBody::new).collect(),
        next_cursor: page.next.as_ref().and_then(write_cursor),
    }))
}

/// The order that is asked for, from where the page before ended.
fn order(sort: Option<&str>, cursor: Option<&str>) -> Result<DeviceOrder, Error> {
    let start = match sort {
        None | Some("added") => DeviceOrder::Added(None),
        Some("name") => DeviceOrder::Name(None),
        Some(_) => return Err(Error::validation("sort", "sort is name or added")),
    };
    let Some(place) = cursor.map(read_cursor).transpose()? else { return Ok(start) };
    if std::mem::discriminant(&place) != std::mem::discriminant(&start) {
        let what = "this cursor is of a list in another order; send the sort that its page was asked for with";
        return Err(Error::validation("cursor", what));
    }
    Ok(place)
}

/// A place in the order of names is the name and the key, so that it is found also when its device is gone or called
/// otherwise by then.
fn write_cursor(order: &DeviceOrder) -> Option<String> {
    match order {
        DeviceOrder::Added(place) => place.map(|key| format!("d{:x}", key.0)),
        DeviceOrder::Name(place) => {
            place.as_ref().map(|(name, key)| format!("n{:x}.{}", key.0, URL_SAFE_NO_PAD.encode(name)))
        }
    }
}

fn read_cursor(cursor: &str) -> Result<DeviceOrder, Error> {
    let key = |hex: &str| i64::from_str_radix(hex, 16).ok().map(DeviceKey);
    let name = |text: &str| {
        let name = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        (!name.chars().any(char::is_control)).then_some(name)
    };
    let place = match cursor.split_at_checked(1) {
        Some(("d", hex)) => key(hex).map(|key| DeviceOrder::Added(Some(key))),
        Some(("n", rest)) => rest
            .split_once('.')
            .and_then(|(hex, text)| Some((name(text)?, key(hex)?)))
            .map(|place| DeviceOrder::Name(Some(place))),
        _ => None,
    };
    place.ok_or_else(|| Error::validation("cursor", "cursor is the next_cursor of an earlier page"))
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
    let states: Vec<_> = live.relays().into_iter().filter(|s| sight.relays.has(s.index)).collect();
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
    once: Once,
    Json(request): Json<PatchRequest>,
) -> ApiResult<Response> {
    user.require(Scope::DevicesWrite)?;
    let live = view::find_own(&state.services, &user, &uid).await?;
    let relays = request.relays.into_iter().map(|r| (r.index, r.name)).collect();
    let names = view::Names { device: request.name, relays };
    let work = |key| view::rename(&state.services, &user, key, &live, names);
    once.answer(StatusCode::OK, DeviceBody::of, work).await
}

pub(super) async fn delete_device(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
    once: Once,
) -> ApiResult<StatusCode> {
    user.require(Scope::DevicesWrite)?;
    user.require_admin()?;
    let live = view::find_own(&state.services, &user, &uid).await?;
    once.done(|key| claim::delete(&state.services, &user, key, &live)).await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimRequest {
    code: String,
}

pub(super) async fn claim_device(
    State(state): State<ApiState>,
    User(user): User,
    once: Once,
    Json(request): Json<ClaimRequest>,
) -> ApiResult<Response> {
    user.require(Scope::DevicesWrite)?;
    let work = |key| claim::claim(&state.services, &user, key, &request.code);
    once.answer(StatusCode::OK, DeviceBody::of, work).await
}

pub(super) async fn release_device(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
    once: Once,
) -> ApiResult<Response> {
    user.require(Scope::DevicesWrite)?;
    let live = view::find_own(&state.services, &user, &uid).await?;
    once.answer(StatusCode::OK, ClaimCodeBody::new, |key| claim::release(&state.services, &user, key, &live)).await
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
    once: Once,
) -> ApiResult<Response> {
    user.require(Scope::DevicesWrite)?;
    let live = view::find_own(&state.services, &user, &uid).await?;
    let work = |key| claim::rotate_token(&state.services, &user, key, &live);
    once.answer(StatusCode::OK, RotatedResponse::new, work).await
}

#[derive(Serialize, ToSchema)]
pub(super) struct ResetAllowedResponse {
    allowed_until: String,
}

/// By the owner, who has reset the device.
pub(super) async fn allow_reset(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
    once: Once,
) -> ApiResult<Response> {
    user.require(Scope::DevicesWrite)?;
    let live = view::find_own(&state.services, &user, &uid).await?;
    let body = |allowed: &ResetAllowed| ResetAllowedResponse { allowed_until: rfc3339(allowed.until) };
    let work = |key| provision::allow_reset(&state.services, &user, key, &live);
    once.answer(StatusCode::OK, body, work).await
}

/// A new claim code for an unclaimed device, asked for by an admin.
pub(super) async fn renew_claim_code(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
    once: Once,
) -> ApiResult<Response> {
    user.require(Scope::DevicesWrite)?;
    user.require_admin()?;
    let live = view::find_own(&state.services, &user, &uid).await?;
    let work = |key| claim::renew_claim_code(&state.services, Some(&user), key, &live);
    once.answer(StatusCode::OK, ClaimCodeBody::new, work).await
}

/// By the device itself.
pub(super) async fn renew_own_claim_code(
    State(state): State<ApiState>,
    headers: HeaderMap,
    once: Once,
) -> ApiResult<Response> {
    let (uid, token) = device_credentials(&headers)
        .ok_or_else(|| Error::new(ErrorCode::InvalidToken, "send Authorization: Device <uid>:<token>"))?;
    let live = provision::authenticate(&state.services, uid.as_str(), &token).await?.live;
    let work = |key| claim::renew_claim_code(&state.services, None, key, &live);
    once.answer(StatusCode::OK, ClaimCodeBody::new, work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_in_their_own_order_and_nonsense_does_not() {
        for (sort, place) in [
            (None, DeviceOrder::Added(Some(DeviceKey(0x2a)))),
            (Some("added"), DeviceOrder::Added(Some(DeviceKey(1)))),
            (Some("name"), DeviceOrder::Name(Some(("Ätic. 2 / ?".into(), DeviceKey(0x2a))))),
            (Some("name"), DeviceOrder::Name(Some((String::new(), DeviceKey(1))))),
        ] {
            let cursor = write_cursor(&place).unwrap();
            assert_eq!(order(sort, Some(&cursor)).unwrap(), place);
            let other = if sort == Some("name") { "added" } else { "name" };
            let refused = order(Some(other), Some(&cursor)).unwrap_err();
            assert!(refused.message.contains("another order"), "{refused}");
        }
        for bad in ["", "d", "dx", "n", "n2a", "n2a.*", "n.YQ", "nx.YQ", "n1.gA", "n1.AA", "a1.2", "ä"] {
            assert!(read_cursor(bad).is_err(), "{bad}");
        }
    }
}
