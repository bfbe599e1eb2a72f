//! `/api/v1/auth/*`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hexa_service::auth::account::{Registration, SignedIn};
use hexa_service::auth::sessions;
use http::{StatusCode, header};
use secrecy::SecretString;
use serde::Deserialize;

use crate::error::ApiResult;
use crate::extract::{Json, LoginOrigin, User};
use crate::state::ApiState;
use crate::wire::{SignedInBody, UserBody};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterRequest {
    email: String,
    password: SecretString,
    name: Option<String>,
    bootstrap_secret: Option<SecretString>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginRequest {
    email: String,
    password: SecretString,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefreshRequest {
    refresh_token: SecretString,
}

fn tokens(status: StatusCode, signed_in: &SignedIn) -> Response {
    let body = axum::Json(SignedInBody::new(signed_in));
    (status, [(header::CACHE_CONTROL, "no-store")], body).into_response()
}

pub(super) async fn register(
    State(state): State<ApiState>,
    LoginOrigin(origin): LoginOrigin,
    Json(request): Json<RegisterRequest>,
) -> ApiResult<Response> {
    let new = Registration {
        email: request.email,
        password: request.password,
        name: request.name,
        bootstrap_secret: request.bootstrap_secret,
    };
    let signed_in = state.services.auth.register(new, origin).await?;
    Ok(tokens(StatusCode::CREATED, &signed_in))
}

pub(super) async fn login(
    State(state): State<ApiState>,
    LoginOrigin(origin): LoginOrigin,
    Json(request): Json<LoginRequest>,
) -> ApiResult<Response> {
    let signed_in = state.services.auth.login(&request.email, request.password, origin).await?;
    Ok(tokens(StatusCode::OK, &signed_in))
}

pub(super) async fn refresh(State(state): State<ApiState>, Json(request): Json<RefreshRequest>) -> ApiResult<Response> {
    let signed_in = state.services.auth.refresh(&request.refresh_token).await?;
    Ok(tokens(StatusCode::OK, &signed_in))
}

pub(super) async fn logout(
    State(state): State<ApiState>,
    Json(request): Json<RefreshRequest>,
) -> ApiResult<StatusCode> {
    sessions::logout(&state.services, &request.refresh_token).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordRequest {
    current_password: SecretString,
    new_password: SecretString,
}

pub(super) async fn change_password(
    State(state): State<ApiState>,
    User(user): User,
    LoginOrigin(origin): LoginOrigin,
    Json(request): Json<PasswordRequest>,
) -> ApiResult<Response> {
    let (current, fresh) = (request.current_password, request.new_password);
    let signed_in = sessions::change_password(&state.services, &user, current, fresh, origin).await?;
    Ok(tokens(StatusCode::OK, &signed_in))
}

pub(super) async fn get_me(State(state): State<ApiState>, User(user): User) -> ApiResult<axum::Json<UserBody>> {
    let account = state.services.auth.me(&user).await?;
    Ok(axum::Json(UserBody::new(&account)))
}
