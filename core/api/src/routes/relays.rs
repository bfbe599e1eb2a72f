//! `/api/v1/devices/{uid}/relays`: the REST door of the relay path.

use axum::extract::State;
use hexa_model::{DeviceUid, RelayAction, Scope, Source};
use hexa_service::Error;
use hexa_service::auth::principal::Principal;
use hexa_service::relay::path::Command;
use serde::Deserialize;

use crate::error::ApiResult;
use crate::extract::{Json, Path, User};
use crate::state::ApiState;
use crate::wire::CommandBody;

/// The longest `for_ms`: a day.
pub(crate) const MAX_FOR_MS: u32 = 86_400_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetRelayRequest {
    state: bool,
    for_ms: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetAllRelaysRequest {
    state: bool,
}

pub(super) async fn set_relay(
    State(state): State<ApiState>,
    User(user): User,
    Path((uid, index)): Path<(String, String)>,
    Json(request): Json<SetRelayRequest>,
) -> ApiResult<axum::Json<CommandBody>> {
    let index = parse_index(&index)?;
    let action = set_action(index, request.state, request.for_ms)?;
    run(&state, &user, &uid, action).await
}

pub(super) async fn set_all_relays(
    State(state): State<ApiState>,
    User(user): User,
    Path(uid): Path<String>,
    Json(request): Json<SetAllRelaysRequest>,
) -> ApiResult<axum::Json<CommandBody>> {
    run(&state, &user, &uid, RelayAction::SetAll { on: request.state }).await
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

async fn run(state: &ApiState, user: &Principal, uid: &str, action: RelayAction) -> ApiResult<axum::Json<CommandBody>> {
    user.require(Scope::RelaysWrite)?;
    let device = DeviceUid::parse(uid).ok_or_else(Error::no_device)?;
    let command = Command { source: Source::Api, actor: user.actor(), device, action };
    let done = state.services.relay().execute(command).await?;
    Ok(axum::Json(CommandBody::new(&done)))
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
