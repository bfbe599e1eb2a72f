//! Updates over the air: how far a device is with one.

use super::fields::{MAX_TEXT, bounded, one_of, required};
use crate::error::Result;
use crate::json::Json;
use crate::types::OtaStatus;

const OTA_STATES: [&str; 7] =
    ["downloading", "verifying", "applying", "rebooting", "confirmed", "failed", "rolled_back"];

pub(super) fn ota_status(m: Json<'_>) -> Result<OtaStatus> {
    let percent = m.opt_whole("percent")?;
    if percent.is_some_and(|p: u8| p > 100) {
        return Err(m.need("percent")?.wrong("percent", "a whole number from 0 to 100"));
    }
    Ok(OtaStatus {
        release_id: required(m, "release_id")?,
        state: one_of(m.need("state")?, "state", &OTA_STATES)?,
        percent,
        reason: bounded(m, "reason", MAX_TEXT)?,
    })
}
