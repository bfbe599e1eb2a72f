//! Infrared: codes that a device learned, and how far it is with one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::fields::required;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::types::{IrCode, IrLearned, IrProgress};

/// Mark and space times in one code; the longest air-conditioner codes have about 600.
const MAX_TIMINGS: usize = 2048;

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
