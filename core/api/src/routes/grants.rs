//! `/api/v1/devices/{uid}/grants`: with whom a device is shared.

use axum::extract::State;
use axum::response::Response;
use hexa_devices::grant::{self, GrantRow, ShareRequest};
use hexa_devices::view;
use hexa_model::{ErrorCode, GrantAccess, GrantId, Scope};
use hexa_platform::Error;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::extract::{Json, Path, User};
use crate::idempotency::Once;
use crate::state::ApiState;
use crate::wire::{PageBody, rfc3339, time};

#[derive(Serialize, ToSchema)]
pub(super) struct GuestBody {
    id: String,
    email: String,
    name: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct GrantBody {
    id: String,
    device_uid: String,
    user: GuestBody,
    access: &'static str,
    relays: Option<Vec<u16>>,
    starts_at: Option<String>,
    expires_at: Option<String>,
    max_uses: Option<u32>,
    uses_left: Option<u32>,
    created_at: String,
}

impl GrantBody {
    fn new(row: &GrantRow) -> Self {
        Self {
            id: row.grant.id.to_string(),
            device_uid: row.grant.uid.to_string(),
            user: GuestBody { id: row.user.to_string(), email: row.email.clone(), name: row.name.clone() },
            access: row.grant.access.as_str(),
            relays: row.grant.relays.indexes(),
            starts_at: row.grant.starts_at.map(rfc3339),
            expires_at: row.grant.expires_at.map(rfc3339),
            max_uses: row.max_uses,
            uses_left: row.uses_left,
            created_at: rfc3339(row.created_at),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateGrantRequest {
    email: String,
    access: String,
    relays: Option<Vec<u16>>,
    starts_at: Option<String>,
    expires_at: Option<String>,
    max_uses: Option<u32>,
}

impl CreateGrantRequest {
    fn read(self) -> Result<ShareRequest, Error> {
        let access = GrantAccess::parse(&self.access)
            .ok_or_else(|| Error::validation("access", "access is \"read\" or \"control\""))?;
        Ok(ShareRequest {
            email: self.email,
            access,
            relays: self.relays,
            starts_at: self.starts_at.as_deref().map(|text| time("starts_at", text)).transpose()?,
            expires_at: self.expires_at.as_deref().map(|text| time("expires_at", text)).transpose()?,
            max_uses: self.max_uses,
        })
    }
}

pub(super) async fn list_grants(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
) -> ApiResult<axum::Json<PageBody<GrantBody>>> {
    user.require(Scope::DevicesRead)?;
    let (live, _) = view::find(&state.services, &user, &uid).await?;
    let rows = grant::list(&state.services, &user, &live).await?;
    // A device has 100 at the most, so the list has one page.
    Ok(axum::Json(PageBody { items: rows.iter().map(GrantBody::new).collect(), next_cursor: None }))
}

pub(super) async fn create_grant(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
    once: Once,
    Json(request): Json<CreateGrantRequest>,
) -> ApiResult<Response> {
    user.require(Scope::DevicesWrite)?;
    let live = view::find_own(&state.services, &user, &uid).await?;
    let request = request.read()?;
    let work = |key| grant::create(&state.services, &user, key, &live, request);
    once.answer(StatusCode::CREATED, GrantBody::new, work).await
}

pub(super) async fn revoke_grant(
    State(state): State<ApiState>,
    User(user): User,
    Path((uid, id)): Path<(String, String)>,
    once: Once,
) -> ApiResult<StatusCode> {
    user.require(Scope::DevicesWrite)?;
    let (live, _) = view::find(&state.services, &user, &uid).await?;
    let none = || Error::new(ErrorCode::NotFound, "there is no such grant, or it has ended");
    let id = GrantId::parse(&id).ok_or_else(none)?;
    once.done(|key| grant::revoke(&state.services, &user, key, &live, id)).await
}
