//! `/api/v1/admin/fleet`: the fleet in numbers.

use axum::extract::State;
use hexa_operations::fleet::{self, Fleet, SAMPLE_EVERY, Sample};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::extract::User;
use crate::state::ApiState;
use crate::wire::rfc3339;

#[derive(Serialize, ToSchema)]
struct FleetDevicesBody {
    total: u64,
    claimed: u64,
    unclaimed: u64,
    online: u64,
    stale: u64,
    offline: u64,
    stale_after_s: u64,
}

#[derive(Serialize, ToSchema)]
struct FleetUsersBody {
    total: u64,
    active: u64,
    admins: u64,
}

#[derive(Serialize, ToSchema)]
struct FleetSampleBody {
    at: String,
    commands: u64,
    failed: u64,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
}

impl FleetSampleBody {
    fn new(sample: &Sample) -> Self {
        let ms = |value: Option<f64>| value.map(|v| (v * 1e3).round() / 1e3);
        Self {
            at: rfc3339(sample.at),
            commands: sample.commands,
            failed: sample.failed,
            p50_ms: ms(sample.p50_ms),
            p95_ms: ms(sample.p95_ms),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct FleetCommandsBody {
    sample_s: u64,
    samples: Vec<FleetSampleBody>,
}

/// The answer of `GET /api/v1/admin/fleet`: the fleet in numbers at the time `at`.
#[derive(Serialize, ToSchema)]
pub(super) struct FleetBody {
    at: String,
    version: &'static str,
    database: &'static str,
    devices: FleetDevicesBody,
    users: FleetUsersBody,
    clients: u64,
    commands: FleetCommandsBody,
}

pub(super) async fn get_fleet(State(state): State<ApiState>, User(user): User) -> ApiResult<axum::Json<FleetBody>> {
    let services = &state.services;
    let Fleet { devices, claimed, online, stale, users, active_users, admins, clients, stale_after, recent } =
        fleet::fleet(services, &user).await?;
    Ok(axum::Json(FleetBody {
        at: rfc3339(services.clock.now()),
        version: env!("CARGO_PKG_VERSION"),
        database: services.store.kind(),
        devices: FleetDevicesBody {
            total: devices,
            claimed,
            unclaimed: devices.saturating_sub(claimed),
            online,
            stale,
            offline: devices.saturating_sub(online),
            stale_after_s: stale_after.as_secs(),
        },
        users: FleetUsersBody { total: users, active: active_users, admins },
        clients,
        commands: FleetCommandsBody {
            sample_s: SAMPLE_EVERY.as_secs(),
            samples: recent.iter().map(FleetSampleBody::new).collect(),
        },
    }))
}
