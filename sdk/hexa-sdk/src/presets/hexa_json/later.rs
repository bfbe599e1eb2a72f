//! Messages of infrared, configuration and updates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::decode::{bounded, required};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::types::{ConfigResult, IrCode, IrLearned, IrProgress, OtaStatus};

/// Mark and space times in one code; the longest air-conditioner codes have about 600.
const MAX_TIMINGS: usize = 2048;
const OTA_STATES: [&str; 7] =
    ["downloading", "verifying", "applying", "rebooting", "confirmed", "failed", "rolled_back"];
const CONFIG_RESULTS: [&str; 5] = ["ok", "unknown_key", "bad_type", "out_of_range", "failed"];

pub(super) fn ir_learned(m: Json<'_>) -> Result<IrLearned> {
    let code = ir_code(m.need("code")?).map_err(|e| e.within("code: "))?;
    Ok(IrLearned { slot: required(m, "slot")?, code })
}

fn ir_code(code: Json<'_>) -> Result<IrCode> {
    let mut timings_us = Vec::new();
    for timing in code.list("timings_us")? {
        if timings_us.len() >= MAX_TIMINGS {
            return Err(Error::malformed(format!("`timings_us` may hold {MAX_TIMINGS} times at most")));
        }
        timings_us.push(timing.whole("timings_us")?);
    }
    let data = match code.opt_str("data")? {
        None => Vec::new(),
        Some(text) => {
            BASE64.decode(text).map_err(|_| Error::malformed("`data` must be base64 (RFC 4648) with padding"))?
        }
    };
    if data.is_empty() == timings_us.is_empty() {
        return Err(Error::malformed("a code has either `data` or `timings_us`, and not empty"));
    }
    Ok(IrCode {
        protocol: required(code, "protocol")?,
        carrier_hz: code.opt_whole("carrier_hz")?,
        data,
        timings_us,
        repeat: code.opt_whole("repeat")?.unwrap_or(0),
    })
}

pub(super) fn ir_progress(m: Json<'_>) -> Result<IrProgress> {
    Ok(IrProgress { slot: required(m, "slot")?, captures: m.u32("captures")?, wanted: m.u32("wanted")? })
}

pub(super) fn config_result(m: Json<'_>) -> Result<ConfigResult> {
    let version = m.need("config_version")?.whole("config_version")?;
    let answers = m.need("results")?;
    if !answers.is_object() {
        return Err(answers.wrong("results", "an object of key and result"));
    }
    let mut results = Vec::new();
    for answer in answers.children() {
        let key = answer.key();
        let result = one_of(answer, key, &CONFIG_RESULTS).map_err(|e| e.within("results: "))?;
        results.push((key.to_owned(), result));
    }
    Ok(ConfigResult { version, results })
}

pub(super) fn ota_status(m: Json<'_>) -> Result<OtaStatus> {
    let percent = m.opt_whole("percent")?;
    if percent.is_some_and(|p: u8| p > 100) {
        return Err(m.need("percent")?.wrong("percent", "a whole number from 0 to 100"));
    }
    Ok(OtaStatus {
        release_id: required(m, "release_id")?,
        state: one_of(m.need("state")?, "state", &OTA_STATES)?,
        percent,
        reason: bounded(m, "reason", 1024)?,
    })
}

fn one_of(value: Json<'_>, name: &str, allowed: &[&str]) -> Result<String> {
    let text = value.as_str(name)?;
    if allowed.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(value.wrong(name, &format!("one of {}", allowed.join(", "))))
}
