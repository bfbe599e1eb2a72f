//! `/api/v1/auth/sessions`, `/api/v1/auth/tokens` and `/api/v1/ws/ticket`: what an account has opened.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hexa_accounts::pats::{self, NewPat, TokenRequest};
use hexa_accounts::{SessionRow, TokenRow};
use hexa_accounts::{sessions, tickets};
use hexa_model::{ErrorCode, Scope, SessionId, TokenId};
use hexa_platform::Error;
use hexa_platform::principal::Credential;
use http::{StatusCode, header};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::extract::{Json, Path, User};
use crate::idempotency::Once;
use crate::state::ApiState;
use crate::wire::{PageBody, rfc3339};

#[derive(Serialize, ToSchema)]
pub(super) struct SessionBody {
    id: String,
    current: bool,
    created_at: String,
    last_used_at: String,
    expires_at: String,
    user_agent: Option<String>,
    ip: Option<String>,
}

impl SessionBody {
    fn new(row: SessionRow, current: Credential) -> Self {
        Self {
            id: row.id.to_string(),
            current: current == Credential::Session(row.id),
            created_at: rfc3339(row.created_at),
            last_used_at: rfc3339(row.last_used_at),
            expires_at: rfc3339(row.expires_at),
            user_agent: row.user_agent,
            ip: row.ip,
        }
    }

    /// All of an account, as whoever is signed in like this sees them.
    pub(super) fn page(rows: Vec<SessionRow>, via: Credential) -> PageBody<Self> {
        PageBody { items: rows.into_iter().map(|row| Self::new(row, via)).collect(), next_cursor: None }
    }
}

pub(super) async fn list_sessions(
    State(state): State<ApiState>,
    User(user): User,
) -> ApiResult<axum::Json<PageBody<SessionBody>>> {
    let rows = sessions::list(&state.services, &user).await?;
    Ok(axum::Json(SessionBody::page(rows, user.via)))
}

#[derive(Serialize, ToSchema)]
pub(super) struct EndedResponse {
    ended: usize,
}

impl EndedResponse {
    pub(super) fn new(ended: usize) -> Self {
        Self { ended }
    }
}

pub(super) async fn end_other_sessions(
    State(state): State<ApiState>,
    User(user): User,
    once: Once,
) -> ApiResult<Response> {
    let work = |key| sessions::end_others(&state.services, &user, key);
    once.answer(StatusCode::OK, |ended: &usize| EndedResponse::new(*ended), work).await
}

pub(super) async fn end_session(
    State(state): State<ApiState>,
    User(user): User,
    once: Once,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let id = SessionId::parse(&id)
        .ok_or_else(|| Error::new(ErrorCode::NotFound, "there is no such session, or it is not yours"))?;
    once.done(|key| sessions::end(&state.services, &user, key, id)).await
}

#[derive(Serialize, ToSchema)]
pub(super) struct TokenBody {
    id: String,
    name: String,
    scopes: Vec<&'static str>,
    created_at: String,
    expires_at: Option<String>,
    last_used_at: Option<String>,
}

impl TokenBody {
    fn new(row: TokenRow) -> Self {
        Self {
            id: row.id.to_string(),
            name: row.name,
            scopes: row.scopes.iter().map(Scope::as_str).collect(),
            created_at: rfc3339(row.created_at),
            expires_at: row.expires_at.map(rfc3339),
            last_used_at: row.last_used_at.map(rfc3339),
        }
    }

    /// An account has 50 at the most, so the list has one page.
    pub(super) fn page(rows: Vec<TokenRow>) -> PageBody<Self> {
        PageBody { items: rows.into_iter().map(Self::new).collect(), next_cursor: None }
    }
}

pub(super) async fn list_tokens(
    State(state): State<ApiState>,
    User(user): User,
) -> ApiResult<axum::Json<PageBody<TokenBody>>> {
    Ok(axum::Json(TokenBody::page(state.services.accounts.list_tokens(&user).await?)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateTokenRequest {
    name: String,
    scopes: Vec<String>,
    expires_in_days: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct NewTokenBody {
    #[serde(flatten)]
    row: TokenBody,
    token: String,
}

impl NewTokenBody {
    fn new(made: &NewPat) -> Self {
        Self { row: TokenBody::new(made.row.clone()), token: made.token.expose_secret().to_owned() }
    }
}

pub(super) async fn create_token(
    State(state): State<ApiState>,
    User(user): User,
    once: Once,
    Json(request): Json<CreateTokenRequest>,
) -> ApiResult<Response> {
    let CreateTokenRequest { name, scopes, expires_in_days } = request;
    let request = TokenRequest { name, scopes, expires_in_days };
    let work = |key| state.services.accounts.create_token(&user, key, request);
    once.answer(StatusCode::CREATED, NewTokenBody::new, work).await
}

pub(super) async fn revoke_own_token(
    State(state): State<ApiState>,
    User(user): User,
    once: Once,
) -> ApiResult<StatusCode> {
    once.done(|key| pats::revoke_own(&state.services, &user, key)).await
}

pub(super) async fn revoke_token(
    State(state): State<ApiState>,
    User(user): User,
    once: Once,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let id = TokenId::parse(&id)
        .ok_or_else(|| Error::new(ErrorCode::NotFound, "there is no such token, or it is not yours"))?;
    once.done(|key| pats::revoke(&state.services, &user, key, id)).await
}

#[derive(Serialize, ToSchema)]
pub(super) struct TicketBody {
    ticket: String,
    expires_in: u64,
}

pub(super) async fn issue_ticket(State(state): State<ApiState>, User(user): User) -> ApiResult<Response> {
    let ticket = state.services.accounts.issue_ticket(&user)?;
    let body = TicketBody { ticket: ticket.expose_secret().to_owned(), expires_in: tickets::TICKET_LIFETIME.as_secs() };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response())
}
