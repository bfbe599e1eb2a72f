//! `/api/v1/admin/workers`: what goes on beside requests.

use axum::extract::State;
use hexa_platform::worker::WorkerView;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::extract::User;
use crate::state::ApiState;
use crate::wire::rfc3339;

#[derive(Serialize, ToSchema)]
pub(super) struct WorkerErrorBody {
    at: String,
    message: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct WorkerBody {
    name: &'static str,
    purpose: &'static str,
    runs_on: &'static str,
    state: &'static str,
    period_ms: Option<u64>,
    runs: u64,
    failures: u64,
    last_run_at: Option<String>,
    last_took_ms: Option<u64>,
    last_error: Option<WorkerErrorBody>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct WorkersBody {
    items: Vec<WorkerBody>,
}

impl WorkerBody {
    fn new(worker: WorkerView) -> Self {
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            name: worker.spec.name,
            purpose: worker.spec.purpose,
            runs_on: worker.spec.runs_on.as_str(),
            state: worker.state.as_str(),
            period_ms: worker.period.map(ms),
            runs: worker.runs,
            failures: worker.failures,
            last_run_at: worker.last_run.map(rfc3339),
            last_took_ms: worker.last_took.map(ms),
            last_error: worker.last_error.map(|(at, message)| WorkerErrorBody { at: rfc3339(at), message }),
        }
    }
}

pub(super) async fn list_workers(
    State(state): State<ApiState>,
    User(user): User,
) -> ApiResult<axum::Json<WorkersBody>> {
    user.require_admin()?;
    let items = state.services.workers.list().into_iter().map(WorkerBody::new).collect();
    Ok(axum::Json(WorkersBody { items }))
}
