//! `/api/v1/commands/{command_id}`: what became of a command.

use axum::extract::State;
use hexa_devices::command::lookup::{self, CommandView};
use hexa_model::{CommandId, ErrorCode, Scope};
use hexa_platform::Error;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::extract::{Path, User};
use crate::state::ApiState;
use crate::wire::{RelayBody, relays, rfc3339};

#[derive(Serialize, ToSchema)]
pub(super) struct FollowUpBody {
    status: &'static str,
    at: String,
    relays: Vec<RelayBody>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct CommandStatusResponse {
    command_id: String,
    status: &'static str,
    device_uid: Option<String>,
    action: String,
    relays: Vec<RelayBody>,
    latency_ms: Option<u32>,
    at: Option<String>,
    follow_up: Option<FollowUpBody>,
}

pub(super) async fn get_command(
    State(state): State<ApiState>,
    User(user): User,
    Path(id): Path<String>,
) -> ApiResult<axum::Json<CommandStatusResponse>> {
    user.require(Scope::DevicesRead)?;
    let id = CommandId::parse(&id)
        .ok_or_else(|| Error::new(ErrorCode::NotFound, "there is no such command, or it is not yours"))?;
    let body = match lookup::find(&state.services, &user, id).await? {
        CommandView::Open { device, action } => CommandStatusResponse {
            command_id: id.to_string(),
            status: "pending",
            device_uid: Some(device.to_string()),
            action: action.name().to_owned(),
            relays: Vec::new(),
            latency_ms: None,
            at: None,
            follow_up: None,
        },
        CommandView::Ended { device, row } => CommandStatusResponse {
            command_id: id.to_string(),
            status: row.outcome.as_str(),
            device_uid: device.map(|d| d.to_string()),
            relays: relays(&row.changes),
            latency_ms: row.latency_ms,
            at: Some(rfc3339(row.at)),
            follow_up: row.follow_up.map(|(outcome, at, changes)| FollowUpBody {
                status: outcome.as_str(),
                at: rfc3339(at),
                relays: relays(&changes),
            }),
            action: row.action,
        },
    };
    Ok(axum::Json(body))
}
