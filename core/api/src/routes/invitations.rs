//! `/api/v1/admin/invitations`: who may make an account where not everybody may, and what everybody may know of it.

use axum::extract::{Extension, State};
use axum::response::Response;
use hexa_accounts::invitations::{self, InvitationRequest, MadeInvitation};
use hexa_accounts::{InvitationRow, PersonRow};
use hexa_model::{InvitationId, InvitationState, TimeMs};
use hexa_platform::Error;
use http::{HeaderMap, StatusCode};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::extract::{Json, Path, Query, User};
use crate::idempotency::Once;
use crate::public;
use crate::state::ApiState;
use crate::wire::{PageBody, rfc3339};
use hexa_listen::transport::RequestSource;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 500;

/// How accounts are made here.
#[derive(Serialize, ToSchema)]
pub(super) struct RegistrationBody {
    mode: &'static str,
    /// The first admin is still to be made, with the bootstrap secret, in whatever mode.
    awaits_bootstrap: bool,
}

pub(super) async fn get_registration(State(state): State<ApiState>) -> ApiResult<axum::Json<RegistrationBody>> {
    let auth = &state.services.accounts;
    let awaits_bootstrap = auth.awaits_bootstrap().await?;
    Ok(axum::Json(RegistrationBody { mode: auth.registration().as_str(), awaits_bootstrap }))
}

#[derive(Serialize, ToSchema)]
pub(super) struct PersonBody {
    id: String,
    email: String,
    name: Option<String>,
}

impl PersonBody {
    fn new(person: PersonRow) -> Self {
        Self { id: person.id.to_string(), email: person.email, name: person.name }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct InvitationBody {
    id: String,
    state: &'static str,
    /// The one e-mail that may be registered with it; null = any.
    email: Option<String>,
    note: Option<String>,
    created_at: String,
    expires_at: String,
    /// When it was used, taken back, or over.
    ended_at: Option<String>,
    made_by: PersonBody,
    used_by: Option<PersonBody>,
}

impl InvitationBody {
    fn new(row: InvitationRow, now: TimeMs) -> Self {
        Self {
            id: row.id.to_string(),
            state: row.state(now).as_str(),
            email: row.email,
            note: row.note,
            created_at: rfc3339(row.created_at),
            expires_at: rfc3339(row.expires_at),
            ended_at: row.ended.map(|(at, _)| rfc3339(at)),
            made_by: PersonBody::new(row.maker),
            used_by: row.user.map(PersonBody::new),
        }
    }
}

/// One that was just made, with what opens.
#[derive(Serialize, ToSchema)]
pub(super) struct NewInvitationBody {
    #[serde(flatten)]
    row: InvitationBody,
    token: String,
    /// The console with the token behind the `#`, which no browser sends to any server.
    link: String,
}

impl NewInvitationBody {
    fn new(made: &MadeInvitation, base: &str) -> Self {
        let token = made.token.expose_secret().to_owned();
        let link = format!("{base}/dashboard#invitation={token}");
        Self { row: InvitationBody::new(made.row.clone(), made.row.created_at), token, link }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListInvitationsQuery {
    state: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

pub(super) async fn list_invitations(
    State(state): State<ApiState>,
    User(user): User,
    Query(query): Query<ListInvitationsQuery>,
) -> ApiResult<axum::Json<PageBody<InvitationBody>>> {
    user.require_admin()?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Error::validation("limit", format!("limit is 1 to {MAX_LIMIT}")).into());
    }
    let only = query.state.as_deref().map(read_state).transpose()?;
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    let listed = invitations::list(&state.services, &user, only, after, limit).await?;
    let items = listed.rows.into_iter().map(|row| InvitationBody::new(row, listed.now)).collect();
    Ok(axum::Json(PageBody { items, next_cursor: listed.next.map(|key| format!("i{key:x}")) }))
}

fn read_state(text: &str) -> Result<InvitationState, Error> {
    let allowed = || Error::validation("state", "state is open, used, expired or revoked");
    InvitationState::parse(text).ok_or_else(allowed)
}

fn read_cursor(cursor: &str) -> Result<i64, Error> {
    let key = cursor.strip_prefix('i').and_then(|hex| i64::from_str_radix(hex, 16).ok());
    key.ok_or_else(|| Error::validation("cursor", "cursor is the next_cursor of an earlier page"))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateInvitationRequest {
    /// Only this e-mail may be registered with it.
    email: Option<String>,
    /// A remark for admins who look at the list of invitations.
    note: Option<String>,
}

pub(super) async fn create_invitation(
    State(state): State<ApiState>,
    Extension(source): Extension<RequestSource>,
    headers: HeaderMap,
    User(user): User,
    once: Once,
    Json(request): Json<CreateInvitationRequest>,
) -> ApiResult<Response> {
    user.require_admin()?;
    let request = InvitationRequest { email: request.email, note: request.note };
    let base = public::base(&state, source, &headers);
    let body = move |made: &MadeInvitation| NewInvitationBody::new(made, &base);
    once.answer(StatusCode::CREATED, body, |key| invitations::create(&state.services, &user, key, request)).await
}

pub(super) async fn revoke_invitation(
    State(state): State<ApiState>,
    User(user): User,
    Path(id): Path<String>,
    once: Once,
) -> ApiResult<StatusCode> {
    user.require_admin()?;
    let id = InvitationId::parse(&id).ok_or_else(invitations::none)?;
    once.done(|key| invitations::revoke(&state.services, &user, key, id)).await
}
