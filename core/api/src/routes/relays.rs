//! `/api/v1/devices/{uid}/relays`: the REST door of the relay path.

use std::sync::Arc;

use axum::extract::State;
use hexa_model::{CommandId, DeviceUid, RelayAction, Scope, Source};
use hexa_service::Error;
use hexa_service::auth::principal::Principal;
use hexa_service::error::Sent;
use hexa_service::idempotency::KeyedRequest;
use hexa_service::relay::lookup;
use hexa_service::relay::path::{Command, Done};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::extract::{Json, Path, User};
use crate::idempotency::{Once, kept};
use crate::state::ApiState;
use crate::wire::CommandBody;

/// The longest `for_ms`: a day.
pub(crate) const MAX_FOR_MS: u32 = 86_400_000;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetRelayRequest {
    state: bool,
    for_ms: Option<u32>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetAllRelaysRequest {
    state: bool,
}

pub(super) async fn set_relay(
    State(state): State<ApiState>,
    User(user): User,
    Path((uid, index)): Path<(String, String)>,
    once: Once,
    Json(request): Json<SetRelayRequest>,
) -> ApiResult<axum::Json<CommandBody>> {
    let index = parse_index(&index)?;
    let action = set_action(index, request.state, request.for_ms)?;
    run(&state, &user, once.request(), &uid, action).await
}

pub(super) async fn set_all_relays(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
    once: Once,
    Json(request): Json<SetAllRelaysRequest>,
) -> ApiResult<axum::Json<CommandBody>> {
    run(&state, &user, once.request(), &uid, RelayAction::SetAll { on: request.state }).await
}

/// Only plain decimal digits: `+1`, `01` and `0.5` are not an index.
fn parse_index(text: &str) -> Result<u16, Error> {
    let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    text.parse().ok().filter(|_| plain).ok_or_else(|| {
        Error::validation("index", "a relay index is a whole number from 0 to one less than the device's relay count")
    })
}

/// Checks `for_ms`.
pub(crate) fn set_action(index: u16, on: bool, for_ms: Option<u32>) -> Result<RelayAction, Error> {
    if for_ms.is_some_and(|ms| ms == 0 || ms > MAX_FOR_MS) {
        return Err(Error::validation("for_ms", format!("for_ms is 1 to {MAX_FOR_MS} (a day)")));
    }
    Ok(RelayAction::Set { index, on, for_ms })
}

async fn run(
    state: &ApiState,
    user: &Principal,
    key: Option<Arc<KeyedRequest>>,
    uid: &str,
    action: RelayAction,
) -> ApiResult<axum::Json<CommandBody>> {
    user.require(Scope::RelaysWrite)?;
    let device = DeviceUid::parse(uid).ok_or_else(Error::no_device)?;
    let command = Command { source: Source::Api, actor: user.actor(), device, action, key: key.clone() };
    let done = state.services.relay().execute(command).await;
    let done = match key {
        Some(keyed) if keyed.placed() => Box::pin(of_row(state, &keyed, done)).await?,
        _ => done?,
    };
    Ok(axum::Json(CommandBody::new(&done)))
}

/// The answer to a command with a key is made from its audit row, so that a later request hears the same.
async fn of_row(
    state: &ApiState,
    keyed: &KeyedRequest,
    done: hexa_service::Result<Done>,
) -> hexa_service::Result<Done> {
    let services = &state.services;
    // Nothing is read for what is known already.
    if let Ok(Done { row_latency: Some(latency), .. }) = &done {
        let latency = *latency;
        return done.map(|done| Done { latency, ..done });
    }
    let id = match &done {
        Ok(done) => Some(done.command),
        // Only when it is proven that nothing was sent: a pulse must not go out a second time.
        Err(error) if error.sent == Sent::No && !kept(error.code) => {
            keyed.release_command(services).await?;
            None
        }
        Err(error) => error.details.as_ref().and_then(|d| CommandId::parse(d["command_id"].as_str()?)),
    };
    match id {
        // What is known is told, also when the row cannot be read back.
        Some(id) => lookup::outcome(services, id).await.unwrap_or(done),
        None => done,
    }
}

#[cfg(test)]
mod tests {
    use super::parse_index;

    #[test]
    fn an_index_is_plain_digits() {
        assert_eq!(parse_index("0").unwrap(), 0);
        assert_eq!(parse_index("63").unwrap(), 63);
        for bad in ["", "-1", "+1", "01", "0.5", "\"0\"", "2147483648", "1e1", " 1", "٣"] {
            assert!(parse_index(bad).is_err(), "{bad}");
        }
    }
}
