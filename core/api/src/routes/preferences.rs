//! `/api/v1/preferences`: the caller's own documents, with entity tags.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hexa_accounts::preferences::{self, Changes, Name, Tagged};
use hexa_model::{ErrorCode, Scope};
use hexa_platform::Error;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::conditional::{condition, if_none_match};
use crate::error::ApiResult;
use crate::extract::{Json, Path, User};
use crate::idempotency::{Once, encode_tagged};
use crate::state::ApiState;

type Document = Map<String, Value>;

/// Absent: left alone; null: removed.
#[expect(clippy::option_option, reason = "a member that is absent and one that is null say different things")]
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesRequest {
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    dashboard_layout: Option<Option<Document>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    dashboard_settings: Option<Option<Document>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    device_view_state: Option<Option<Document>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    notification_settings: Option<Option<Document>>,
}

/// For the document: any object.
#[derive(ToSchema)]
pub(super) struct DocumentBody {}

/// For the document: what the room writes as text.
#[expect(dead_code, reason = "only its shape is of use")]
#[derive(ToSchema)]
pub(super) struct DocumentsBody {
    #[schema(value_type = Option<Object>)]
    dashboard_layout: Option<Document>,
    #[schema(value_type = Option<Object>)]
    dashboard_settings: Option<Document>,
    #[schema(value_type = Option<Object>)]
    device_view_state: Option<Document>,
    #[schema(value_type = Option<Object>)]
    notification_settings: Option<Document>,
}

/// A member that is there, null or not.
#[expect(clippy::option_option, reason = "as above")]
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Document>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<ChangesRequest> for Changes {
    fn from(request: ChangesRequest) -> Self {
        let members = [
            (Name::DashboardLayout, request.dashboard_layout),
            (Name::DashboardSettings, request.dashboard_settings),
            (Name::DeviceViewState, request.device_view_state),
            (Name::NotificationSettings, request.notification_settings),
        ];
        members.into_iter().filter_map(|(name, change)| Some((name, change?))).collect()
    }
}

fn parse_name(text: &str) -> Result<Name, Error> {
    Name::parse(text).ok_or_else(|| {
        let names: Vec<_> = Name::ALL.iter().map(|n| n.as_str()).collect();
        Error::new(ErrorCode::NotFound, format!("there is no such document; there are {}", names.join(", ")))
    })
}

fn tagged(status: StatusCode, tagged: Tagged) -> Response {
    let mut response = (status, tagged.text).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // A browser may keep it, but asks before it uses it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Ok(etag) = HeaderValue::from_str(&tagged.etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

/// How an answer that gives back all documents is kept.
fn kept_whole(stored: &Tagged) -> Vec<u8> {
    encode_tagged(StatusCode::OK, &stored.etag, stored.text.as_bytes())
}

fn put_status(created: bool) -> StatusCode {
    if created { StatusCode::CREATED } else { StatusCode::OK }
}

fn read(headers: &HeaderMap, found: Tagged) -> ApiResult<Response> {
    if if_none_match(headers)?.is_some_and(|tags| tags.match_weakly(&found.etag)) {
        let mut response = tagged(StatusCode::NOT_MODIFIED, Tagged { text: String::new(), ..found });
        response.headers_mut().remove(header::CONTENT_TYPE);
        return Ok(response);
    }
    Ok(tagged(StatusCode::OK, found))
}

pub(super) async fn list_preferences(
    State(state): State<ApiState>,
    User(user): User,
    headers: HeaderMap,
) -> ApiResult<Response> {
    user.require(Scope::Preferences)?;
    read(&headers, preferences::list(&state.services, &user).await?)
}

pub(super) async fn put_preferences(
    State(state): State<ApiState>,
    User(user): User,
    headers: HeaderMap,
    once: Once,
    Json(request): Json<ChangesRequest>,
) -> ApiResult<Response> {
    user.require(Scope::Preferences)?;
    let when = condition(&headers)?;
    let key = once.key(|stored| Ok(kept_whole(stored)));
    let stored = preferences::put_all(&state.services, &user, key, request.into(), when).await?;
    Ok(tagged(StatusCode::OK, stored))
}

pub(super) async fn patch_preferences(
    State(state): State<ApiState>,
    User(user): User,
    headers: HeaderMap,
    once: Once,
    Json(request): Json<ChangesRequest>,
) -> ApiResult<Response> {
    user.require(Scope::Preferences)?;
    let when = condition(&headers)?;
    let key = once.key(|stored| Ok(kept_whole(stored)));
    let stored = preferences::merge_all(&state.services, &user, key, request.into(), when).await?;
    Ok(tagged(StatusCode::OK, stored))
}

pub(super) async fn get_preference(
    State(state): State<ApiState>,
    User(user): User,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    user.require(Scope::Preferences)?;
    read(&headers, preferences::get(&state.services, &user, parse_name(&name)?).await?)
}

pub(super) async fn put_preference(
    State(state): State<ApiState>,
    User(user): User,
    Path(name): Path<String>,
    headers: HeaderMap,
    once: Once,
    Json(document): Json<Document>,
) -> ApiResult<Response> {
    user.require(Scope::Preferences)?;
    let (name, when) = (parse_name(&name)?, condition(&headers)?);
    let key = once.key(|(stored, created): &(Tagged, bool)| {
        Ok(encode_tagged(put_status(*created), &stored.etag, stored.text.as_bytes()))
    });
    let (stored, created) = preferences::put(&state.services, &user, key, (name, document), when).await?;
    Ok(tagged(put_status(created), stored))
}

pub(super) async fn delete_preference(
    State(state): State<ApiState>,
    User(user): User,
    Path(name): Path<String>,
    headers: HeaderMap,
    once: Once,
) -> ApiResult<StatusCode> {
    user.require(Scope::Preferences)?;
    let (name, when) = (parse_name(&name)?, condition(&headers)?);
    once.done(|key| preferences::remove(&state.services, &user, key, name, when)).await
}
