//! `/api/v1/auth/*`: registration, login, refresh, logout, the password, and the account that is signed in.

use axum::extract::{Extension, State};
use axum::response::Response;
use hexa_accounts::account::Registration;
use hexa_accounts::sessions;
use hexa_model::ErrorCode;
use hexa_platform::Error;
use http::{HeaderMap, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::cookie;
use crate::error::ApiResult;
use crate::extract::{Json, LoginClient, User};
use crate::idempotency::Once;
use crate::state::ApiState;
use crate::wire::{SignedInBody, UserBody};
use hexa_listen::transport::RequestSource;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterRequest {
    email: String,
    #[schema(value_type = String)]
    password: SecretString,
    name: Option<String>,
    #[schema(value_type = Option<String>)]
    bootstrap_secret: Option<SecretString>,
    /// The token of an invitation, where `REGISTRATION` asks for one.
    #[schema(value_type = Option<String>)]
    invitation: Option<SecretString>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginRequest {
    email: String,
    #[schema(value_type = String)]
    password: SecretString,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefreshRequest {
    /// May be left out where the session is in a cookie.
    #[schema(value_type = Option<String>)]
    refresh_token: Option<SecretString>,
}

impl RefreshRequest {
    fn token(self, state: &ApiState, source: RequestSource, headers: &HeaderMap) -> Result<SecretString, Error> {
        if let Some(token) = self.refresh_token {
            return Ok(token);
        }
        if let Some(token) = state.cookies.refresh_token(source, headers) {
            return Ok(token);
        }
        if headers.contains_key(&cookie::HEADER) {
            return Err(Error::new(ErrorCode::InvalidToken, "there is no session here; sign in"));
        }
        Err(Error::validation("refresh_token", "send the refresh_token of the session"))
    }
}

pub(super) async fn register(
    State(state): State<ApiState>,
    LoginClient(origin): LoginClient,
    once: Once,
    Json(request): Json<RegisterRequest>,
) -> ApiResult<Response> {
    let new = Registration {
        email: request.email,
        password: request.password,
        name: request.name,
        bootstrap_secret: request.bootstrap_secret,
        invitation: request.invitation,
    };
    let auth = &state.services.accounts;
    once.answer(StatusCode::CREATED, SignedInBody::new, |key| auth.register(key, new, origin)).await
}

pub(super) async fn login(
    State(state): State<ApiState>,
    LoginClient(origin): LoginClient,
    once: Once,
    Json(request): Json<LoginRequest>,
) -> ApiResult<Response> {
    let work = |key| state.services.accounts.login(key, &request.email, request.password, origin);
    once.answer(StatusCode::OK, SignedInBody::new, work).await
}

pub(super) async fn refresh(
    State(state): State<ApiState>,
    Extension(source): Extension<RequestSource>,
    headers: HeaderMap,
    once: Once,
    Json(request): Json<RefreshRequest>,
) -> ApiResult<Response> {
    let token = request.token(&state, source, &headers)?;
    once.answer(StatusCode::OK, SignedInBody::new, |key| state.services.accounts.refresh(key, &token)).await
}

pub(super) async fn logout(
    State(state): State<ApiState>,
    Extension(source): Extension<RequestSource>,
    headers: HeaderMap,
    once: Once,
    Json(request): Json<RefreshRequest>,
) -> ApiResult<StatusCode> {
    let token = request.token(&state, source, &headers)?;
    once.done(|key| sessions::logout(&state.services, key, &token)).await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordRequest {
    #[schema(value_type = String)]
    current_password: SecretString,
    #[schema(value_type = String)]
    new_password: SecretString,
}

pub(super) async fn change_password(
    State(state): State<ApiState>,
    User(user): User,
    LoginClient(origin): LoginClient,
    once: Once,
    Json(request): Json<PasswordRequest>,
) -> ApiResult<Response> {
    let passwords = (request.current_password, request.new_password);
    let work = |key| sessions::change_password(&state.services, &user, key, passwords, origin);
    once.answer(StatusCode::OK, SignedInBody::new, work).await
}

pub(super) async fn get_me(State(state): State<ApiState>, User(user): User) -> ApiResult<axum::Json<UserBody>> {
    let account = state.services.accounts.me(&user).await?;
    Ok(axum::Json(UserBody::new(&account)))
}
