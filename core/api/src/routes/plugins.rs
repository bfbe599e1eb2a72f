//! `/api/v1/admin/plugins`: what plugins do, and what became of them.

use axum::extract::State;
use axum::response::Response;
use hexa_model::plugin::PluginInfo;
use hexa_operations::plugins::{self, FaultRow};
use hexa_platform::Error;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::extract::{Path, Query, User};
use crate::idempotency::Once;
use crate::state::ApiState;
use crate::wire::{PageBody, rfc3339};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 256;

#[derive(Serialize, ToSchema)]
pub(super) struct PluginBody {
    id: String,
    version: String,
    state: &'static str,
    reason: Option<String>,
    classes: Vec<&'static str>,
    calls: u64,
    faults: u64,
    sessions: usize,
    poisoned_devices: usize,
    instances: usize,
}

impl PluginBody {
    fn new(info: PluginInfo) -> Self {
        Self {
            classes: info.classes.iter().map(|c| c.as_str()).collect(),
            id: info.id,
            version: info.version,
            state: info.state,
            reason: info.reason,
            calls: info.calls,
            faults: info.faults,
            sessions: info.sessions,
            poisoned_devices: info.poisoned_devices,
            instances: info.instances,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct LimitBody {
    limit: String,
    allowed: i64,
    actual: i64,
}

#[derive(Serialize, ToSchema)]
pub(super) struct FaultBody {
    at: String,
    version: String,
    function: String,
    kind: String,
    limit: Option<LimitBody>,
    message: String,
    device_uid: Option<String>,
    sample: String,
}

impl FaultBody {
    fn new(row: FaultRow) -> Self {
        Self {
            at: rfc3339(row.at),
            version: row.version,
            function: row.function,
            kind: row.kind,
            limit: row.limit.map(|(limit, allowed, actual)| LimitBody { limit, allowed, actual }),
            message: row.message,
            device_uid: row.device.map(|uid| uid.to_string()),
            sample: row.sample,
        }
    }
}

pub(super) async fn list_plugins(
    State(state): State<ApiState>,
    User(user): User,
) -> ApiResult<axum::Json<PageBody<PluginBody>>> {
    let items = plugins::list(&state.services, &user)?.into_iter().map(PluginBody::new).collect();
    // A server has 256 plugins at most, so the list has one page.
    Ok(axum::Json(PageBody { items, next_cursor: None }))
}

pub(super) async fn get_plugin(
    State(state): State<ApiState>,
    User(user): User,
    Path(id): Path<String>,
) -> ApiResult<axum::Json<PluginBody>> {
    Ok(axum::Json(PluginBody::new(plugins::get(&state.services, &user, &id)?)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultsQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

pub(super) async fn list_faults(
    State(state): State<ApiState>,
    User(user): User,
    Path(id): Path<String>,
    Query(query): Query<FaultsQuery>,
) -> ApiResult<axum::Json<PageBody<FaultBody>>> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Error::validation("limit", format!("limit is 1 to {MAX_LIMIT}")).into());
    }
    let before = query.cursor.as_deref().map(read_cursor).transpose()?;
    let (rows, next) = plugins::faults(&state.services, &user, &id, before, limit).await?;
    let items = rows.into_iter().map(FaultBody::new).collect();
    Ok(axum::Json(PageBody { items, next_cursor: next.map(|id| format!("f{id:x}")) }))
}

fn read_cursor(cursor: &str) -> Result<i64, Error> {
    let id = cursor.strip_prefix('f').and_then(|hex| i64::from_str_radix(hex, 16).ok());
    id.ok_or_else(|| Error::validation("cursor", "cursor is the next_cursor of an earlier page"))
}

pub(super) async fn reset_plugin(
    State(state): State<ApiState>,
    User(user): User,
    Path(id): Path<String>,
    once: Once,
) -> ApiResult<Response> {
    let body = |info: &PluginInfo| PluginBody::new(info.clone());
    once.answer(StatusCode::OK, body, |key| plugins::reset(&state.services, &user, key, &id)).await
}
