//! `/api/v1/admin/users`: accounts, and what they have opened.

use axum::extract::State;
use axum::response::Response;
use hexa_accounts::users::{self, UserChange};
use hexa_accounts::{UserFilter, UserRow};
use hexa_model::{ErrorCode, Role, SessionId, TokenId, UserId, UserKey};
use hexa_platform::Error;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sessions::{EndedResponse, SessionBody, TokenBody};
use crate::error::ApiResult;
use crate::extract::{Json, Path, Query, User};
use crate::idempotency::Once;
use crate::state::ApiState;
use crate::wire::{PageBody, rfc3339, search};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 500;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListUsersQuery {
    search: Option<String>,
    #[schema(value_type = Option<String>)]
    role: Option<Role>,
    active: Option<bool>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// An account as admins see it.
#[derive(Serialize, ToSchema)]
pub(super) struct AccountBody {
    id: String,
    email: String,
    name: Option<String>,
    role: &'static str,
    active: bool,
    failed_logins: i64,
    created_at: String,
}

impl AccountBody {
    fn of(row: &UserRow) -> Self {
        Self::new(row.clone())
    }

    fn new(row: UserRow) -> Self {
        Self {
            id: row.id.to_string(),
            email: row.email,
            name: row.name,
            role: row.role.as_str(),
            active: row.active,
            failed_logins: row.failed_logins,
            created_at: rfc3339(row.created_at),
        }
    }
}

pub(super) async fn list_users(
    State(state): State<ApiState>,
    User(user): User,
    Query(query): Query<ListUsersQuery>,
) -> ApiResult<axum::Json<PageBody<AccountBody>>> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Error::validation("limit", format!("limit is 1 to {MAX_LIMIT}")).into());
    }
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    let search = search(query.search)?;
    let filter = UserFilter { search, role: query.role, active: query.active, after, limit };
    let (rows, next) = users::list(&state.services, &user, filter).await?;
    let items = rows.into_iter().map(AccountBody::new).collect();
    Ok(axum::Json(PageBody { items, next_cursor: next.map(|key| format!("u{:x}", key.0)) }))
}

fn read_cursor(cursor: &str) -> Result<UserKey, Error> {
    let key = cursor.strip_prefix('u').and_then(|hex| i64::from_str_radix(hex, 16).ok());
    key.map(UserKey).ok_or_else(|| Error::validation("cursor", "cursor is the next_cursor of an earlier page"))
}

fn user_id(text: &str) -> Result<UserId, Error> {
    UserId::parse(text).ok_or_else(|| Error::new(ErrorCode::NotFound, "there is no such user"))
}

pub(super) async fn get_user(
    State(state): State<ApiState>,
    User(user): User,
    Path(id): Path<String>,
) -> ApiResult<axum::Json<AccountBody>> {
    user.require_admin()?;
    Ok(axum::Json(AccountBody::new(users::get(&state.services, &user, user_id(&id)?).await?)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PatchUserRequest {
    #[schema(value_type = Option<String>)]
    role: Option<Role>,
    active: Option<bool>,
    name: Option<String>,
}

pub(super) async fn patch_user(
    State(state): State<ApiState>,
    User(user): User,
    Path(id): Path<String>,
    once: Once,
    Json(request): Json<PatchUserRequest>,
) -> ApiResult<Response> {
    user.require_admin()?;
    let change = UserChange { role: request.role, active: request.active, name: request.name };
    let id = user_id(&id)?;
    once.answer(StatusCode::OK, AccountBody::of, |key| users::change(&state.services, &user, key, id, change)).await
}

pub(super) async fn list_user_sessions(
    State(state): State<ApiState>,
    User(user): User,
    Path(id): Path<String>,
) -> ApiResult<axum::Json<PageBody<SessionBody>>> {
    user.require_admin()?;
    let rows = users::sessions_of(&state.services, &user, user_id(&id)?).await?;
    Ok(axum::Json(SessionBody::page(rows, user.via)))
}

pub(super) async fn end_user_sessions(
    State(state): State<ApiState>,
    User(user): User,
    Path(id): Path<String>,
    once: Once,
) -> ApiResult<Response> {
    user.require_admin()?;
    let id = user_id(&id)?;
    let work = |key| users::end_sessions(&state.services, &user, key, id);
    once.answer(StatusCode::OK, |ended: &usize| EndedResponse::new(*ended), work).await
}

pub(super) async fn end_user_session(
    State(state): State<ApiState>,
    User(user): User,
    Path((id, session)): Path<(String, String)>,
    once: Once,
) -> ApiResult<StatusCode> {
    user.require_admin()?;
    let (id, session) = (user_id(&id)?, SessionId::parse(&session).ok_or_else(users::no_session)?);
    once.done(|key| users::end_session(&state.services, &user, key, id, session)).await
}

pub(super) async fn list_user_tokens(
    State(state): State<ApiState>,
    User(user): User,
    Path(id): Path<String>,
) -> ApiResult<axum::Json<PageBody<TokenBody>>> {
    user.require_admin()?;
    Ok(axum::Json(TokenBody::page(users::tokens_of(&state.services, &user, user_id(&id)?).await?)))
}

pub(super) async fn revoke_user_token(
    State(state): State<ApiState>,
    User(user): User,
    Path((id, token)): Path<(String, String)>,
    once: Once,
) -> ApiResult<StatusCode> {
    user.require_admin()?;
    let (id, token) = (user_id(&id)?, TokenId::parse(&token).ok_or_else(users::no_token)?);
    once.done(|key| users::revoke_token(&state.services, &user, key, id, token)).await
}
