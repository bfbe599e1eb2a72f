//! `/api/v1/devices/{uid}/relays`: the REST entry point of the relay path.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use hexa_devices::command::lookup;
use hexa_model::{Action, Cause, CommandResult, DeviceUid, RelayAction, Source};
use hexa_platform::Error;
use hexa_platform::error::Sent;
use hexa_platform::idempotency::KeyedRequest;
use hexa_platform::principal::Principal;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::extract::{Json, Path, User};
use crate::idempotency::{Once, is_final};
use crate::state::ApiState;
use crate::wire::CommandBody;
use hexa_listen::RequestId;

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
    Extension(request_id): Extension<RequestId>,
    once: Once,
    Json(request): Json<SetRelayRequest>,
) -> ApiResult<axum::Json<CommandBody>> {
    let index = parse_index(&index)?;
    let action =
        RelayAction::Set { index, on: request.state, for_ms: request.for_ms }.checked().map_err(Error::from)?;
    run(&state, &user, once.request(), (&uid, &request_id), action).await
}

pub(super) async fn set_all_relays(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
    Extension(request_id): Extension<RequestId>,
    once: Once,
    Json(request): Json<SetAllRelaysRequest>,
) -> ApiResult<axum::Json<CommandBody>> {
    run(&state, &user, once.request(), (&uid, &request_id), RelayAction::SetAll { on: request.state }).await
}

/// Only plain decimal digits: `+1`, `01` and `0.5` are not an index.
fn parse_index(text: &str) -> Result<u16, Error> {
    let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    text.parse().ok().filter(|_| plain).ok_or_else(|| {
        Error::validation("index", "a relay index is a whole number from 0 to one less than the device's relay count")
    })
}

async fn run(
    state: &ApiState,
    user: &Principal,
    keyed: Option<Arc<KeyedRequest>>,
    (uid, request_id): (&str, &RequestId),
    action: RelayAction,
) -> ApiResult<axum::Json<CommandBody>> {
    let action = Action::from(action);
    user.require(action.scope())?;
    let device = DeviceUid::parse(uid).ok_or_else(Error::no_device)?;
    let commands = state.services.commands();
    let cause = Cause::request(request_id.as_str());
    let request = commands.request((Source::Api, user.actor()), cause, device, action);
    let result = commands.execute(request, keyed.clone()).await;
    let result = match keyed {
        Some(keyed) if keyed.placed() => Box::pin(of_row(state, &keyed, result)).await?,
        _ => result?,
    };
    Ok(axum::Json(CommandBody::new(&result)))
}

/// The answer to a command with a key is made from its audit row, so that a later request hears the same.
async fn of_row(
    state: &ApiState,
    keyed: &KeyedRequest,
    result: hexa_platform::Result<CommandResult>,
) -> hexa_platform::Result<CommandResult> {
    let services = &state.services;
    let id = match result {
        // Nothing is read for what is known already.
        Ok(result) if result.row_latency.is_some() => {
            return Ok(CommandResult { latency: result.row_latency.unwrap_or(result.latency), ..result });
        }
        Ok(ref result) => Some(result.command),
        // Only when it is proven that nothing was sent: a pulse must not go out a second time.
        Err(ref error) if error.sent == Sent::No && !is_final(error.code) => {
            keyed.release_command(services).await?;
            None
        }
        Err(ref error) => error.command,
    };
    match id {
        // What is known is told, also when the row cannot be read back.
        Some(id) => lookup::outcome(services, id).await.unwrap_or(result),
        None => result,
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
