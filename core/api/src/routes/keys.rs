//! `/api/v1/admin/keys`: the keys that access tokens are signed with, without themselves.

use axum::extract::State;
use axum::response::Response;
use hexa_accounts::keys::{self, KeyView, KeysView};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::extract::{Json, User};
use crate::idempotency::Once;
use crate::state::ApiState;
use crate::wire::rfc3339;

#[derive(Serialize, ToSchema)]
pub(super) struct KeyBody {
    kid: String,
    state: &'static str,
    since: Option<String>,
    until: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct KeysBody {
    /// `server`, or `configuration` where the server cannot rotate them.
    source: &'static str,
    keys: Vec<KeyBody>,
}

impl KeysBody {
    fn new(view: &KeysView) -> Self {
        let one = |key: &KeyView| KeyBody {
            kid: key.kid.clone(),
            state: key.state.as_str(),
            since: key.since.map(rfc3339),
            until: key.until.map(rfc3339),
        };
        let source = if view.kept { "server" } else { "configuration" };
        Self { source, keys: view.keys.iter().map(one).collect() }
    }
}

pub(super) async fn list_keys(State(state): State<ApiState>, User(user): User) -> ApiResult<axum::Json<KeysBody>> {
    Ok(axum::Json(KeysBody::new(&keys::list(&state.services, &user).await?)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateKeysRequest {
    #[serde(default)]
    at_once: bool,
}

pub(super) async fn rotate_keys(
    State(state): State<ApiState>,
    User(user): User,
    once: Once,
    Json(request): Json<RotateKeysRequest>,
) -> ApiResult<Response> {
    let work = |key| keys::rotate(&state.services, &user, key, request.at_once);
    once.answer(StatusCode::OK, KeysBody::new, work).await
}
