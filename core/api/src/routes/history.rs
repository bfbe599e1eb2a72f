//! `/api/v1/devices/{uid}/history`: what happened to a device.

use axum::extract::State;
use hexa_devices::history;
use hexa_model::Scope;
use hexa_platform::Error;
use hexa_platform::audit::list::ListedRow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit::{read_cursor, write_cursor};
use crate::audit_text::ActorBody;
use crate::error::ApiResult;
use crate::extract::{Path, Query, User};
use crate::state::ApiState;
use crate::wire::{PageBody, RelayBody, relays, rfc3339};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 500;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A row of the audit without what is an admin's alone.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HistoryBody {
    at: String,
    actor: ActorBody,
    source: String,
    action: String,
    command_id: Option<String>,
    follow_up: bool,
    outcome: String,
    relay: Option<i64>,
    state: Option<bool>,
    latency_ms: Option<i64>,
    changes: Vec<RelayBody>,
}

impl HistoryBody {
    fn new(row: ListedRow) -> Self {
        Self {
            at: rfc3339(row.place.at),
            actor: ActorBody::new(row.actor_kind, row.actor),
            source: row.source,
            action: row.action,
            command_id: row.command.map(|c| c.to_string()),
            follow_up: row.follow_up,
            outcome: row.outcome,
            relay: row.relay,
            state: row.state,
            latency_ms: row.latency_ms,
            changes: relays(&row.changes),
        }
    }
}

pub(super) async fn list_history(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
    Query(query): Query<HistoryQuery>,
) -> ApiResult<axum::Json<PageBody<HistoryBody>>> {
    user.require(Scope::DevicesRead)?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Error::validation("limit", format!("limit is 1 to {MAX_LIMIT}")).into());
    }
    let before = query.cursor.as_deref().map(read_cursor).transpose()?;
    let (rows, next) = history::page(&state.services, &user, &uid, before, limit).await?;
    let items = rows.into_iter().map(HistoryBody::new).collect();
    Ok(axum::Json(PageBody { items, next_cursor: next.as_ref().map(write_cursor) }))
}
